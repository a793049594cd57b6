"""The choices of a push, and what is told of one."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from prefkit.annotation.decks import Deck
from prefkit.annotation.items import Kind, Mode
from prefkit.annotation.selecting import Strategy
from prefkit.run import Run


@dataclass(frozen=True, kw_only=True)
class PushSettings:
    """What is asked, of whom. ``annotators`` and ``contact`` name people; ``run.json`` is not told of them."""

    mode: Mode = "compare"
    count: int = 100
    """Cases in these decks in all, those pushed before included."""
    strategy: Strategy = "random"
    policies: tuple[str, ...] = ()
    rewards: Path | None = None
    risk: bool = True
    """Whether prompts with a mark of risk are asked about."""
    annotators: tuple[str, ...] = ()
    overlap: int = 1
    shared: float = 0.0
    repeats: float = 0.0
    attention: int = 0
    """In each deck, made from the run."""
    attention_file: Path | None = None
    principles: bool = True
    strength: bool = True
    guidelines: Path | None = None
    """A file of the user's own, in the place of prefkit's."""
    contact: str = ""
    """Whom annotators can turn to; in the guidelines only."""
    series: str = ""
    """What the decks are called."""
    again: bool = False
    """Ask about what others were asked already."""
    adjudicate: bool = False
    """Ask about what others answered differently; each case goes to one annotator who has not seen it."""
    seed: int = 0
    allow_unscrubbed: bool = False


@dataclass
class DeckReport:
    """A deck after a push: what is in it by kind, how many records were there, how many came."""

    deck: Deck
    kinds: Counter[Kind]
    before: int
    sent: int = 0
    link: str = ""


@dataclass
class PushReport:
    """How a push went."""

    cases: int = 0
    """In these decks in all."""
    new: int = 0
    """Cases that came with this push."""
    decks: list[DeckReport] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    attention: list[tuple[str, str, str]] = field(default_factory=list)
    """New attention items in words: prompt, good, bad."""


def series_of(run: Run, name: str | None = None, mode: Mode = "compare", *, adjudicate: bool = False) -> str:
    """What decks are called: as the user says, else as the run's folder, and what is asked where that is not the
    usual."""
    base = re.sub(r"[^A-Za-z0-9_-]+", "-", name or run.path.absolute().name).strip("-_")[:100] or "run"
    asked = ("-rate" if mode == "rate" else "") + ("-adjudicate" if adjudicate else "")
    return base if name else base + asked
