"""A rubric: what "better" means, the words shown to a judge or a person, and how scores become one number.

Two things are kept apart. What an annotator is *shown* (titles, statements, scales, anchors, examples, unit) makes the
content hash: ratings under different hashes are not comparable. How scores are *used* (weights, aggregation, gates)
is outside it: it can change without asking anybody again. Each principle has a hash of its own, so that an edited
principle loses its own ratings and no others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from prefkit.records import Score, digest

DECIMALS = 9
"""Scores are compared to this many decimals: what differs beyond is the float, not the rating."""

Unit = Literal["response", "turn", "session"]
Aggregate = Literal["mean", "weighted-mean", "sum", "normalised"]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """What all parts of a rubric share: they cannot be changed, and a key that is not theirs is an error."""


class Scale(Section, frozen=True, kw_only=True):
    """The scores that a principle can have: ``min``, ``min + step``, ..., ``max``.

    ``levels`` names them from the lowest, for ordinal scales and yes/no items; imports take the names for the numbers.
    """

    min: Score = 1
    max: Score = 5
    step: Score = 1
    levels: tuple[str, ...] = ()

    def holds(self, score: Score) -> bool:
        """Whether a score lies within the range. Steps are not enforced: a mean of judges may fall between them."""
        return self.min <= score <= self.max

    def values(self) -> list[Score]:
        """The scores from the lowest to the highest."""
        count = round((self.max - self.min) / self.step) + 1
        return [round(self.min + index * self.step, DECIMALS) for index in range(count)]

    def __str__(self) -> str:
        return " / ".join(self.levels) if self.levels else f"{self.min:g}-{self.max:g}"


class Example(Section, frozen=True, kw_only=True):
    """A contrast: for one prompt a better and a worse response, and why."""

    prompt: str
    better: str
    worse: str
    why: str = ""


class Principle(Section, frozen=True, kw_only=True):
    """One statement of what is good, with anchors for its scale."""

    id: str
    title: str
    statement: str
    question: str = ""
    scale: Scale = Scale()
    anchors: dict[Score, str] = {}
    examples: tuple[Example, ...] = ()
    weight: float = 1.0


class Gate(Section, frozen=True, kw_only=True):
    """A condition on a pair that no mean can outweigh.

    ``not-inverted``: the chosen side is not rated lower on the principle than the rejected side.
    ``at-least``: the chosen side is rated ``value`` or more on it.
    """

    principle: str
    rule: Literal["not-inverted", "at-least"] = "not-inverted"
    value: float | None = None


class Rubric(Section, frozen=True, kw_only=True):
    """A named, versioned set of principles."""

    id: str
    version: int
    title: str
    unit: Unit
    principles: tuple[Principle, ...]
    aggregate: Aggregate = "mean"
    gates: tuple[Gate, ...] = ()
    source: str = ""

    @property
    def principle_ids(self) -> tuple[str, ...]:
        """The ids of the principles, in the rubric's order, which is the order of every score vector."""
        return tuple(principle.id for principle in self.principles)

    @property
    def hash(self) -> str:
        """The digest of what is shown: equal hashes mean comparable ratings."""
        shown = [_as_shown(principle) for principle in self.principles]
        return digest("rubric", self.title.strip(), self.unit, shown)

    def principle_hashes(self) -> dict[str, str]:
        """Principle id -> digest of what is shown of it, with the unit."""
        return {principle.id: digest("principle", self.unit, _as_shown(principle)) for principle in self.principles}

    def weights(self) -> list[float]:
        """A factor for each principle, and an offset in front: overall = w[0] + sum of w[i] * score[i]."""
        count = len(self.principles)
        if self.aggregate == "sum":
            return [0.0] + [1.0] * count
        if self.aggregate == "mean":
            return [0.0] + [1.0 / count] * count
        if self.aggregate == "weighted-mean":
            total = math.fsum(principle.weight for principle in self.principles)
            return [0.0] + [principle.weight / total for principle in self.principles]
        total = math.fsum(principle.weight for principle in self.principles)
        factors = [
            principle.weight / total / (principle.scale.max - principle.scale.min) for principle in self.principles
        ]
        offset = -math.fsum(
            factor * principle.scale.min for factor, principle in zip(factors, self.principles, strict=True)
        )
        return [offset, *factors]

    def overall(self, scores: Mapping[str, Score]) -> float:
        """The aggregated score of one response.

        Args:
            scores: a score for every principle of the rubric.

        Returns:
            In the unit of the scales for mean, weighted mean and sum; from 0 to 1 for ``normalised``.

        Raises:
            KeyError: a principle has no score; a missing answer has no default.
        """
        offset, *factors = self.weights()
        terms = (factor * scores[name] for factor, name in zip(factors, self.principle_ids, strict=True))
        return round(offset + math.fsum(terms), DECIMALS)

    def as_text(self) -> str:
        """The rubric in the words that a judge or a person is shown."""
        parts = [self.title.strip(), f"Judge one {self.unit} at a time."]
        for number, principle in enumerate(self.principles, 1):
            parts.append(f"{number}. {principle.title.strip()} ({principle.id}, {principle.scale})")
            parts[-1] += f"\n{principle.statement.strip()}"
            if principle.question:
                parts[-1] += f"\n{principle.question.strip()}"
            names = dict(zip(principle.scale.values(), principle.scale.levels, strict=False))
            for value in sorted(principle.anchors):
                name = f" ({names[value]})" if value in names else ""
                parts[-1] += f"\n  {value:g}{name}: {principle.anchors[value].strip()}"
            for example in principle.examples:
                parts[-1] += f"\n  For example, to: {example.prompt.strip()}\n    better: {example.better.strip()}"
                parts[-1] += f"\n    worse: {example.worse.strip()}" + (
                    f"\n    {example.why.strip()}" * bool(example.why)
                )
        return "\n\n".join(parts) + "\n"


def _as_shown(principle: Principle) -> Any:
    """A principle as plain values, without its weight, which nobody is shown."""
    return _plain({name: value for name, value in msgspec.structs.asdict(principle).items() if name != "weight"})


def _plain(value: Any) -> Any:
    """Without what is not seen: the blank edges that YAML's ``>`` leaves, the ``.0`` of a whole number."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, msgspec.Struct):
        return _plain(msgspec.structs.asdict(value))
    if isinstance(value, Mapping):
        return {str(_plain(key)): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
