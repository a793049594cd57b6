"""How each annotator goes about it: what they left, how fast, which side, how severe, and whether they pay attention.

Reads   judgements, one by one (Conduct), and each annotator's agreement with the rest
Gives   Rater: one annotator's figures, and what stands out, in words

What stands out is a reason to talk with somebody, not a proof of anything: of twenty annotators who choose sides by
chance, one is outside a 95% interval.
"""

from __future__ import annotations

import array
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from prefkit.agreement.coefficients import Floats
from prefkit.agreement.judged import ATTENTION, NOT_ANSWERED
from prefkit.agreement.measuring import Section
from prefkit.records import Comparison, Judgement, is_model
from prefkit.resampling import Figure, wilson

FAST = 1 / 3
"""Of the median of all people: an answer given in less is called fast."""
OFTEN_FAST = 0.1
_FEW = 20
"""Answers of which a share is not worth a word."""


@dataclass(frozen=True)
class Seconds:
    """What ``n`` answers took: a tenth of them less than ``low``, half less than ``median``, a tenth more than
    ``high``. ``fast`` of them took less than a third of the median of all people."""

    n: int
    low: float
    median: float
    high: float
    fast: int


@dataclass(frozen=True)
class Rater:
    """One annotator.

    ``left`` is the share of comparisons, not ties, in which they chose what was shown first, on the left of a page;
    ``ties`` the share of ties. ``attention`` is (right, asked) of questions whose answer was known. ``with_the_rest``
    has direction and correlation of ratings, accuracy of comparisons (the side that most of the others chose), and
    ``mean_difference``: how much higher than the others' mean they rate, overall; ``severity`` has it by principle.
    """

    annotator: str
    answered: int
    not_answered: dict[str, int]
    left: Figure | None
    ties: Figure | None
    attention: tuple[int, int] | None
    seconds: Seconds | None
    flags: dict[str, int]
    with_the_rest: dict[str, Figure]
    severity: dict[str, Figure]
    itself: dict[str, Section]
    """Repeated questions, by kind (ratings, comparisons): the answers of one occasion with those of another."""
    stands_out: list[str]


class Conduct:
    """What is counted while judgements are read."""

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()
        self.sides: dict[str, Counter[str]] = defaultdict(Counter)
        self.not_answered: dict[str, Counter[str]] = defaultdict(Counter)
        self.flags: dict[str, Counter[str]] = defaultdict(Counter)
        self._seconds: dict[str, array.array[float]] = defaultdict(lambda: array.array("d"))

    def take(self, judgement: Judgement) -> None:
        """Count a judgement."""
        who = judgement.annotator
        if judgement.flags:
            self.flags[who].update(judgement.flags)
        if judgement.failure is not None:
            self.not_answered[who][NOT_ANSWERED.get(judgement.failure, "unreadable")] += 1
            return
        self.answered[who] += 1
        if judgement.seconds is not None:
            self._seconds[who].append(judgement.seconds)
        known = judgement.flags and any(flag.startswith(ATTENTION) for flag in judgement.flags)
        if isinstance(judgement, Comparison) and judgement.winner and not known:
            self.sides[who][judgement.winner] += 1

    def seconds(self) -> dict[str, Seconds]:
        """The time that annotators took."""
        each = {who: np.asarray(took, dtype=np.float64) for who, took in self._seconds.items()}
        people = [took for who, took in each.items() if not is_model(who)]
        limit = FAST * float(np.median(np.concatenate(people))) if people else 0.0
        return {who: _seconds(took, limit) for who, took in each.items()}

    def attention(self, who: str) -> tuple[int, int] | None:
        """How many questions with a known answer were answered right, and how many there were."""
        flags = self.flags.get(who, Counter())
        right, wrong = flags[f"{ATTENTION}right"], flags[f"{ATTENTION}wrong"]
        return (right, right + wrong) if right + wrong else None

    def rater(
        self,
        who: str,
        took: Seconds | None,
        with_the_rest: Mapping[str, Figure],
        severity: Mapping[str, Figure],
        itself: Mapping[str, Section],
        bar: float,
    ) -> Rater:
        """All that is known of an annotator; ``bar`` is the share of questions with known answers to be got right."""
        sides = self.sides.get(who, Counter())
        left, ties = _share(sides["a"], sides["a"] + sides["b"]), _share(sides["tie"], sides.total())
        attention = self.attention(who)
        flags = {name: n for name, n in self.flags.get(who, Counter()).items() if not name.startswith(ATTENTION)}
        return Rater(
            who,
            self.answered[who],
            dict(self.not_answered.get(who, {})),
            left,
            ties,
            attention,
            took,
            flags,
            dict(with_the_rest),
            dict(severity),
            dict(itself),
            _stands_out(left, attention, took, bar),
        )


def _seconds(took: Floats, limit: float) -> Seconds:
    low, median, high = (round(float(value), 1) for value in np.quantile(took, [0.1, 0.5, 0.9]))
    return Seconds(len(took), low, median, high, int((took < limit).sum()))


def _share(part: int, whole: int) -> Figure | None:
    return Figure(part / whole, *wilson(part / whole, whole), whole, whole) if whole else None


def inattentive(attention: tuple[int, int] | None, bar: float) -> bool:
    """Whether fewer of the questions with known answers were got right than there should be."""
    return attention is not None and attention[0] < bar * attention[1]


def _stands_out(left: Figure | None, attention: tuple[int, int] | None, took: Seconds | None, bar: float) -> list[str]:
    found = []
    if attention and inattentive(attention, bar):
        found.append(f"{attention[0]} of {attention[1]} questions with a known answer right")
    if left and left.n >= _FEW and left.low is not None and left.high is not None and not left.low <= 0.5 <= left.high:
        side = "left" if left.low > 0.5 else "right"
        share = left.value if left.low > 0.5 else 1 - (left.value or 0.0)
        found.append(f"chose the {side} side in {share:.0%} of {left.n:,}")
    if took and took.n >= _FEW and took.fast > OFTEN_FAST * took.n:
        found.append(f"{took.fast:,} of {took.n:,} answers in less than a third of the usual time")
    return found
