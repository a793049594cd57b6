"""What a person said on a page: values as Argilla, Label Studio or a table hold them, in prefkit's own terms.

Reads   question -> value: a label, a list of labels, a text, a number, or any of them wrapped as {"value": ...}
Gives   Said: the same in our words; what could not be understood is listed in ``problems`` and never guessed at

An empty value is an open question, not a problem. A level's name and another case of letters are understood, because
people edit tables; a score that is not on the scale is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from prefkit.annotation.items import Side
from prefkit.records import Score
from prefkit.rubric import DECIMALS, Scale

SIDES: dict[str, Side] = {"A": "left", "B": "right", "tie": "tie"}
"""The labels of a comparison; A is the response that stands left."""
STRENGTHS = {"slightly": 1, "clearly": 2, "much": 3}
FLAGS = ("uncomfortable", "risk")

T = TypeVar("T")

_SHOWN = 60  # characters of an odd value that its problem quotes


@dataclass(frozen=True, kw_only=True)
class Said:
    """A person's answer to one item.

    Args:
        overall: the side that is better as a whole, None where the question was left open or is not asked.
        strength: how much better, from 1 (slightly) to 3 (much).
        principles: principle id -> the side that is better on it; without those left open.
        scores: principle id -> score, in mode ``rate``.
        reason: in their own words.
        flags: of ``uncomfortable`` and ``risk``.
        problems: what could not be understood, a sentence each.
    """

    overall: Side | None = None
    strength: int | None = None
    principles: dict[str, Side] = field(default_factory=dict)
    scores: dict[str, Score] = field(default_factory=dict)
    reason: str | None = None
    flags: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def read_values(
    values: Any, sides: Mapping[str, str], scales: Mapping[str, tuple[str, Scale]], *, strength: bool
) -> Said:
    """Read the values of one answer.

    Args:
        values: question -> value; anything else is one problem.
        sides: questions about a side -> principle id, "" for the overall one.
        scales: questions about a score -> (principle id, its scale).
        strength: whether it was asked how much better.
    """
    if not isinstance(values, Mapping):
        return Said(problems=(f"the answer is {_quoted(values)}, not a value for each question",))
    problems: list[str] = []
    found_sides: dict[str, Side] = {}
    scores: dict[str, Score] = {}
    found_strength: int | None = None
    reason: str | None = None
    flags: tuple[str, ...] = ()
    for name, wrapped in values.items():
        value = wrapped["value"] if isinstance(wrapped, Mapping) and wrapped.keys() == {"value"} else wrapped
        if _is_open(value):
            continue
        try:
            if name in sides:
                found_sides[sides[name]] = _label(value, SIDES)
            elif name in scales:
                principle, scale = scales[name]
                scores[principle] = score_of(value, scale)
            elif name == "strength" and strength:
                found_strength = _label(value, STRENGTHS)
            elif name == "flags":
                flags = _flags(value)
            elif name == "reason":
                reason = _words(value)
            else:
                problems.append(f"{_quoted(name)} is not a question of this form")
        except _OddError as odd:
            problems.append(f"{name}: {odd}")
    return Said(
        overall=found_sides.pop("", None),
        strength=found_strength,
        principles=found_sides,
        scores=scores,
        reason=reason,
        flags=flags,
        problems=tuple(problems),
    )


def score_of(value: Any, scale: Scale) -> Score:
    """The score that a label, a level's name or a number stands for.

    Raises:
        ValueError: it is not a score of this scale.
    """
    if isinstance(value, str):
        levels = {level.strip().casefold(): score for level, score in zip(scale.levels, scale.values(), strict=False)}
        if value.strip().casefold() in levels:
            return whole(levels[value.strip().casefold()])
    number = _number(value)
    if number is None or not scale.holds(number) or not _on_a_step(number, scale):
        raise _OddError(f"{_quoted(value)} is not a score of {scale}")
    return whole(number)


def whole(value: Score) -> Score:
    """A score as an int where it is a whole number, so that 3.0 and 3 are one label and one record."""
    return int(value) if value == int(value) else value


class _OddError(ValueError):
    """A value that cannot be understood."""


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value.strip().replace(",", ".") if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None
    return round(number, DECIMALS) if math.isfinite(number) else None


def _on_a_step(number: float, scale: Scale) -> bool:
    steps = (number - scale.min) / scale.step
    return math.isclose(steps, round(steps), abs_tol=1e-6)


def _is_open(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not value.strip()) or (value == [] or value == ())


def _label(value: Any, labels: Mapping[str, T]) -> T:
    by_case = {label.casefold(): meaning for label, meaning in labels.items()}
    if not isinstance(value, str) or value.strip().casefold() not in by_case:
        raise _OddError(f"{_quoted(value)} is none of {', '.join(labels)}")
    return by_case[value.strip().casefold()]


def _flags(value: Any) -> tuple[str, ...]:
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, list | tuple):
        raise _OddError(f"{_quoted(value)} is not a list of flags")
    named = {_label(one, {flag: flag for flag in FLAGS}) for one in given}
    return tuple(flag for flag in FLAGS if flag in named)


def _words(value: Any) -> str:
    if not isinstance(value, str):
        raise _OddError(f"{_quoted(value)} is not a text")
    return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace").strip()


def _quoted(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
