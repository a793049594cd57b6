"""The model card of a policy: what it was trained on and how, what was seen on the way, what it must not be used for.

Reads   training.json of the policies that it was made from, stage by stage
Writes  policies/NAME/README.md

What training counted and saw is handed in; nothing here measures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefkit import __version__, cards
from prefkit.policies.course import kept_look, rate_in_words
from prefkit.training.begun import DONE

if TYPE_CHECKING:
    from prefkit.policies.health import Share
    from prefkit.policies.settings import PolicySettings
    from prefkit.policies.training import TrainedPolicy
    from prefkit.policies.watching import Look
    from prefkit.rubric import Rubric

PICTURE = "curves.svg"
"""The course, beside the card."""
_METHODS = {
    "sft": "supervised training on preferred responses",
    "dpo": "DPO (arXiv:2305.18290)",
    "ipo": "IPO (arXiv:2310.12036)",
    "orpo": "ORPO (arXiv:2403.07691)",
    "simpo": "SimPO (arXiv:2405.14734)",
    "kto": "KTO (arXiv:2402.01306)",
}
_OF_SFT = ("imitate",)
_OF_PAIRS = ("beta", "gamma", "label_smoothing", "length_alpha", "weighted", "sft")
_ALWAYS = (
    "epochs", "pairs_per_step", "learning_rate", "schedule", "warmup", "weight_decay", "max_tokens", "over_long",
    "max_steps", "lora", "quantize", "freeze_layers", "precision", "keep", "seed",
)  # fmt: skip
_OFF = {"length_alpha": 1.0}
"""Of settings, what is the same as none, where that is not nothing."""
LIMITS = (
    "For research on what training on preferences does. Not for clinical use, for diagnosing, or for deciding about a"
    + " person.",
    "It was not tested for safety. Read what it writes before anybody relies on it.",
    "The licence of its base holds for it as well: look it up, and fill in `license` above.",
    "Weights can hold pieces of the texts they were trained on. Where those are confidential, so is the model.",
)
"""What any policy must not be used for."""
_WATCHED = (
    "A reward model, and pairs, know only texts like those they were made of: a win rate against the start is no proof"
    + " that people prefer its answers.",
)
USE = """## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("this folder")
model = AutoModelForCausalLM.from_pretrained("this folder")
turns = [{"role": "user", "content": "..."}]
text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
batch = tokenizer(text, add_special_tokens=False, return_tensors="pt")
print(tokenizer.decode(model.generate(**batch, max_new_tokens=200)[0]))
```
"""
"""How a policy is asked with transformers alone."""


def policy_card(
    report: TrainedPolicy,
    settings: PolicySettings,
    *,
    rubric: Rubric | None = None,
    reward_model: str | None = None,
    licence: str = "unknown",
    languages: Sequence[str] = (),
) -> str:
    """The card in Markdown, with the YAML head that the Hub reads.

    Args:
        report: what came of the training.
        settings: without gaps, see ``PolicySettings.resolved``.
        rubric: what "better" meant in the pairs.
        reward_model: the name or folder of the one that judged the looks.
        licence: as the Hub spells it, such as ``apache-2.0``.
        languages: of the texts, as ISO 639-1.
    """
    stages = _stages(settings.base)
    head: dict[str, Any] = {
        "license": licence,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["prefkit", "conversational", settings.method, *([rubric.id] if rubric else [])],
    }
    if known := cards.hub_id(stages[-1][0]):
        head["base_model"] = known
    if languages:
        head["language"] = list(languages)
    parts = [
        cards.head(head),
        _what(report, settings, stages),
        cards.better(rubric) if rubric else "",
        cards.counts({name: count for name, count in report.counts.items() if count}),
        _seen(report, reward_model),
        USE,
        limits(*_WATCHED),
    ]
    return "\n".join(part for part in parts if part)


def limits(*more: str) -> str:
    """The section that ends a policy's card."""
    return "## Intended use and limits\n\n" + "".join(f"- {line}\n" for line in (*LIMITS, *more))


def _stages(base: str) -> list[tuple[str, str]]:
    """What a policy was made from: the policy before, the one before that, to the model that was no policy of ours;
    each as it was named, with the method it was trained by, which the last has not."""
    found: list[tuple[str, str]] = []
    while base not in (name for name, _ in found):
        try:
            done = json.loads((Path(base) / DONE).read_bytes())["settings"]
            before, method = str(done["base"]), str(done["method"])
        except (OSError, ValueError, KeyError, TypeError):
            break
        found.append((base, method))
        base = before
    return [*found, (base, "")]


def _what(report: TrainedPolicy, settings: PolicySettings, stages: Sequence[tuple[str, str]]) -> str:
    made = ", itself made from ".join(
        f"`{Path(name).name}`" + (f" ({_METHODS.get(method, method)})" if method else "") for name, method in stages
    )
    kept = "" if report.kept == report.steps else f" The weights are those of step {report.kept:,}."
    return f"""# {cards.on_one_line(report.folder.name)}

A language model that answers in a chat, made from {made}
by {_METHODS[settings.method]} in {report.steps:,} steps with prefkit {__version__}.{kept}

{cards.table(("setting", "value"), _settings(settings))}"""


def _settings(settings: PolicySettings) -> list[tuple[str, str]]:
    """What was chosen, without what has no say in this method and what was left off."""
    names = (*(_OF_SFT if settings.method == "sft" else _OF_PAIRS), *_ALWAYS)
    said = {name: getattr(settings, name) for name in names}
    return [
        (name.replace("_", " "), "yes" if value is True else f"{value:g}" if isinstance(value, float) else str(value))
        for name, value in said.items()
        if name == "seed" or value not in (None, False, 0, _OFF.get(name))
    ]


def _seen(report: TrainedPolicy, reward_model: str | None) -> str:
    """The looks at the start, at the weights that were kept and at the end, side by side; what they mean."""
    text = "## What was seen in training\n\n"
    if not report.looks:
        text += "Nothing: look at its answers before you rely on it.\n"
    else:
        shown = _shown(report)
        rows = [(name, *cells) for name, of in _FIGURES.items() if any(cells := [of(look) for look in shown.values()])]
        whose = "held-out prompts" if report.counts.get("held-out prompts") else "prompts that it was trained on"
        judge = f"; `{Path(reward_model).name}` is the reward model" if reward_model else ""
        text += cards.table(("", *shown), rows)
        text += f"\nAnswers are to {report.looks[0].health.prompts:,} {whose}, sampled at temperature 1{judge}.\n"
        text += "In brackets: 95% intervals.\n"
    if report.notes:
        text += "\n" + "".join(f"- {note}\n" for note in report.notes)
    return text + f"\n![The course of the training]({PICTURE})\n"


def _shown(report: TrainedPolicy) -> dict[str, Look]:
    first, last, kept = report.looks[0], report.looks[-1], kept_look(report.looks, report.kept)
    shown = {"start" if kept is not first else "start (kept)": first}
    if kept is not None and kept is not first:
        shown[f"step {kept.step:,} (kept)"] = kept
    if last not in shown.values():
        shown[f"step {last.step:,} (last)"] = last
    return shown


def _held_out(name: str, form: str) -> Callable[[Look], str]:
    return lambda look: form.format(look.held_out[name]) if name in look.held_out else ""


def _share(name: str) -> Callable[[Look], str]:
    def said(look: Look) -> str:
        share: Share | None = look.health.shares.get(name)
        return f"{share.share:.1%} [{100 * share.low:.1f}, {100 * share.high:.1f}]" if share else ""

    return said


def _words(look: Look) -> str:
    drift = look.health.drifts.get("words")
    return f"{drift.value:.0f}" if drift else ""


_FIGURES: dict[str, Callable[[Look], str]] = {
    "held-out pairs put right": _held_out("accuracy", "{:.1%}"),
    "margin": _held_out("margin", "{:.2f}"),
    "log-probability of a chosen response, nats": _held_out("chosen", "{:.1f}"),
    "log-probability of a rejected response, nats": _held_out("rejected", "{:.1f}"),
    "nats a token of a chosen response": _held_out("nll", "{:.3f}"),
    "win rate against the start": lambda look: rate_in_words(look.win_rate) if look.win_rate else "",
    "words an answer": _words,
    "unfit answers": _share("unfit"),
    "KL from the start, nats an answer": lambda look: f"{look.divergence:z.1f}",
    "text": lambda look: "flagged as degenerate" if look.health.flagged else "",
}
"""The figures of a look, in words; empty where there is none."""
