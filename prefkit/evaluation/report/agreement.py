"""How far annotators agree, as much of it as is shown of what ``agree`` measures.

Reads   the report of ``prefkit.agreement`` as plain values, handed over by the command line, since stages do not import
        each other; or a file that ``prefkit agree --json`` wrote
"""

from __future__ import annotations

from typing import Any

import msgspec

from prefkit.resampling import Figure


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """Figures overall and by principle."""

    figures: dict[str, Figure]
    principles: dict[str, dict[str, Figure]] = {}


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two annotators."""

    annotators: tuple[str, str]
    ratings: Section | None = None
    comparisons: Section | None = None


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Annotators among themselves."""

    annotators: tuple[str, ...]
    ratings: Section | None = None
    comparisons: Section | None = None
    pairs: list[Pair] = []


class OfJudge(msgspec.Struct, frozen=True, kw_only=True):
    """A judge held against the group."""

    judge: str
    ratings: Section | None = None
    comparisons: Section | None = None


class WithJudges(msgspec.Struct, frozen=True, kw_only=True):
    """Judges held against the group; ``ratings`` and ``comparisons`` are each of the group against the rest."""

    measured: list[OfJudge]
    ratings: Section | None = None
    comparisons: Section | None = None


class Agreement(msgspec.Struct, frozen=True, kw_only=True):
    """Who agrees with whom; ``kind`` says who the group are: ``people``, ``judges`` or ``named``."""

    kind: str
    group: Group
    with_judges: WithJudges | None = None
    inattentive: list[str] = []
    notes: list[str] = []

    @property
    def measured(self) -> bool:
        """Whether two annotators judged anything in common."""
        judged = self.with_judges.measured if self.with_judges else []
        alone = self.group.ratings or self.group.comparisons
        return bool(alone) or any(one.ratings or one.comparisons for one in judged)


def agreement_of(plain: Any) -> Agreement:
    """What is shown of a report in plain values."""
    return msgspec.convert(plain, type=Agreement)
