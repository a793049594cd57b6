"""What the cards of models and data sets are written with, in Markdown.

A number that nobody handed in is missing from a card rather than made up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from prefkit.models.entries import SMOLLM2
from prefkit.rubric import Rubric


def head(facts: Mapping[str, Any]) -> str:
    """The YAML head that the Hub reads."""
    return f"---\n{yaml.safe_dump(dict(facts), sort_keys=False, allow_unicode=True)}---\n"


def hub_id(base: str | None) -> str | None:
    """The hub id of a base model; None for a folder, whose path is nobody's business."""
    if base == SMOLLM2:
        return "HuggingFaceTB/SmolLM2-135M-Instruct"
    return base if base and re.fullmatch(r"[\w.-]+/[\w.-]+", base) and not Path(base).exists() else None


def better(rubric: Rubric) -> str:
    """The section that says what "better" meant."""
    source = f" Source: {on_one_line(rubric.source)}." if rubric.source else ""
    return f"""## What better means here

Rubric `{rubric.id}` version {rubric.version} (content hash `{rubric.hash}`).{source}

{principles(rubric)}
"""


def principles(rubric: Rubric) -> str:
    """The principles of a rubric, a line each."""
    return "\n".join(f"- **{on_one_line(one.title)}** (`{one.id}`, {one.scale})" for one in rubric.principles)


def counts(data: Mapping[str, int | float | str]) -> str:
    """The section with counts of the training data; empty without any."""
    return "## Data\n\n" + table(("what", "count"), list(data.items())) if data else ""


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table; whole numbers get separators, and a bar in a cell is escaped."""
    lines = [" | ".join(columns), " | ".join("---" for _ in columns)]
    lines += [
        " | ".join(f"{cell:,}" if isinstance(cell, int) else str(cell).replace("|", "\\|") for cell in row)
        for row in rows
    ]
    return "\n".join(f"| {line} |" for line in lines) + "\n"


def on_one_line(text: str) -> str:
    """A text without line breaks."""
    return " ".join(text.split())
