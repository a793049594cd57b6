"""The model card of a reward model: what it was trained on, how good it is, and what it must not be used for.

Writes  reward-models/NAME/README.md

What training counted and measured is handed in; nothing here measures. A number that nobody handed in is missing from
the card rather than made up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefkit import __version__, cards
from prefkit.rubric import Rubric
from prefkit.training.reward_info import RewardInfo


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a model card says beside what ``reward.json`` says.

    Args:
        title: the name of the model.
        licence: as the Hub spells it, such as ``apache-2.0``.
        base: the base model as it was named; a hub id goes into the Hub's family tree.
        rubric: what "better" meant in the training pairs.
        data: counts of the training data by name (``training pairs``), in the order shown.
        figures: rows of a table of measures, each with the same columns, in the order shown.
        languages: of the texts, as ISO 639-1.
        notes: further sentences about this model's limits.
    """

    title: str = "Reward model"
    licence: str = "unknown"
    base: str | None = None
    rubric: Rubric | None = None
    data: Mapping[str, int | float | str] = field(default_factory=dict)
    figures: Sequence[Mapping[str, Any]] = ()
    languages: Sequence[str] = ()
    notes: Sequence[str] = ()


def model_card(card: Card, info: RewardInfo) -> str:
    """The card in Markdown, with the YAML head that the Hub reads."""
    parts = [
        _head(card),
        _what(card, info),
        cards.counts(card.data),
        _figures(card),
        _usage(info) if info.kind == "trained" else "",
        _limits(card, info),
    ]
    return "\n".join(part for part in parts if part)


def _head(card: Card) -> str:
    head: dict[str, Any] = {
        "license": card.licence,
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["reward-model", "preference", "prefkit"] + ([card.rubric.id] if card.rubric else []),
    }
    if known := cards.hub_id(card.base):
        head["base_model"] = known
    if card.languages:
        head["language"] = list(card.languages)
    return cards.head(head)


def _what(card: Card, info: RewardInfo) -> str:
    frozen = f" on frozen features of it (layer {info.layer}, {info.pooling} pooling)" if info.kind == "frozen" else ""
    limit = f"; texts of {info.max_tokens:,} tokens at most" if info.max_tokens else ""
    text = f"""# {cards.on_one_line(card.title)}

A Bradley-Terry reward model: the difference of two responses' rewards to the same prompt, divided by
{info.temperature:g}, is the log-odds that the first is the better one. A single reward has no meaning, nor has a
difference between prompts.

Made from `{Path(info.base).name}`{frozen} with prefkit {__version__}{limit}.
Mean and standard deviation over the training responses: {info.mean:.4g}, {info.std:.4g}.
"""
    if info.heads:
        rows = [
            (place, *one) for place, one in enumerate(zip(info.heads, map("{:g}".format, info.combine), strict=True))
        ]
        text += "\n" + cards.table(("output", "principle", "weight in the overall reward"), rows)
    if info.tie:
        text += "\nTies: " + ", ".join(f"{name} {value:.4g}" for name, value in info.tie.items()) + ".\n"
    if card.rubric is not None:
        text += "\n" + cards.better(card.rubric)
    return text


def _figures(card: Card) -> str:
    if not card.figures:
        return "## Figures\n\nNone were handed in: run `prefkit eval-rm` before you rely on this model.\n"
    columns = list(card.figures[0])
    rows = [[row.get(column, "") for column in columns] for row in card.figures]
    return "## Figures\n\n" + cards.table(columns, rows)


def _usage(info: RewardInfo) -> str:
    one = "rewards[:, 0]" if not info.heads else "one column a principle, in the order above"
    conversation = '[{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]'
    if info.template and not info.plain:
        encode = f"""conversations = [{conversation}]
texts = tokenizer.apply_chat_template(conversations, tokenize=False)
batch = tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")"""
    else:
        between = "" if info.plain else ' + "\\n\\n"'
        encode = f"""texts = ["the prompt"{between} + "the response" + tokenizer.eos_token]
batch = tokenizer(texts, padding=True, return_tensors="pt")"""
    template = ""
    if info.template and not info.plain:
        template = f"The template's digest is `{info.template}`: under another one the rewards mean nothing.\n"
    return f"""## Use

```python
from prefkit.training.reward_model import RewardModel

model = RewardModel.load("this folder")
model.score("the client's words", ["one response", "another"])    # one reward each
```

Or with transformers alone (also what OpenRLHF and RewardBench do; the head is `score`):

```python
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("this folder")
model = AutoModelForSequenceClassification.from_pretrained("this folder")
{encode}
rewards = model(**batch).logits    # {one}
```

{template}"""


def _limits(card: Card, info: RewardInfo) -> str:
    lines = [
        "For ranking responses to one prompt: choosing the best of several, filtering, training a policy.",
        "Not for clinical use, for diagnosing, or for deciding about a person; a high reward is no proof of safety.",
        "A high accuracy can be a shortcut: who wrote a response, or its length. Before you rely on it, look at the"
        + " accuracy with policies left out and with lengths matched (`prefkit eval-rm`).",
        "A policy that is trained on its rewards finds its mistakes: keep watching what the policy writes.",
        "Weights can hold pieces of the texts they were trained on. Where those are confidential, so is the model.",
        *card.notes,
    ]
    return "## Intended use and limits\n\n" + "\n".join(f"- {line}" for line in lines) + "\n"
