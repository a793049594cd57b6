"""The model card of an exported policy: what it is, what it was trained on as far as that is known, what was checked.

Writes  README.md

A number that nobody handed in is missing from the card rather than made up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefkit import __version__, cards
from prefkit.policies.policy_card import USE, limits

_TOLD = ("method", "steps", "kept_step", "training pairs", "epochs", "seed", "prefkit")


@dataclass(frozen=True)
class Written:
    """A file of weights: its name, bytes and digest; and what the check said, None where it was left out."""

    name: str
    size: int
    digest: str
    checked: str | None


def export_card(name: str, base: str | None, facts: Mapping[str, Any], files: Sequence[Written]) -> str:
    """The card in Markdown, with the YAML head that the Hub reads.

    Args:
        name: of the policy.
        base: what it was made of, as it was named; None where nobody knows it.
        facts: what ``training.json`` says.
        files: the weights.
    """
    gguf = any(file.name.endswith(".gguf") for file in files)
    head: dict[str, Any] = {
        "license": "unknown",
        "library_name": "gguf" if gguf else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["prefkit", "conversational"],
    }
    if known := cards.hub_id(base):
        head["base_model"] = known
    parts = [
        cards.head(head),
        f"# {cards.on_one_line(name)}\n",
        _what(base, facts),
        _files(files),
        _use(files),
        limits(_ROUNDED),
    ]
    return "\n".join(parts)


def _what(base: str | None, facts: Mapping[str, Any]) -> str:
    made = f" Made from `{Path(base).name}`." if base else ""
    text = f"A language model that answers in a chat.{made} Exported with prefkit {__version__}.\n"
    known = {**facts, **facts.get("data", {}), **facts.get("settings", {})}
    told = [(name.replace("_", " "), known[name]) for name in _TOLD if isinstance(known.get(name), str | int | float)]
    if told:
        text += "\n" + cards.table(("of its training", ""), told)
    if notes := facts.get("notes"):
        text += "\nWhat was seen in training:\n\n" + "".join(f"- {note}\n" for note in notes)
    return text


def _files(files: Sequence[Written]) -> str:
    columns = ("file", "MB", "BLAKE2b", "beside the policy in transformers")
    rows = [(one.name, f"{one.size / 1e6:,.1f}", f"`{one.digest}`", one.checked or "not checked") for one in files]
    return "## Files\n\n" + cards.table(columns, rows)


def _use(files: Sequence[Written]) -> str:
    gguf = next((file.name for file in files if file.name.endswith(".gguf")), None)
    if gguf:
        stem = gguf.removesuffix(".gguf")
        return f"""## Use

```sh
ollama create {stem} -f {stem}.Modelfile && ollama run {stem}
llama-server -m {gguf} --jinja
```

The chat template stands inside the file.
"""
    return USE


_ROUNDED = "Rounded weights (q8_0, q4_k_m) answer a little otherwise than the policy that was measured."
