"""A figure with the lowest and highest that it may come to, and how such are made of what prompts add."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from prefkit.resampling import Floats, Sums, estimates

RESAMPLES = 1000
SEED = 0


@dataclass(frozen=True)
class Range:
    """What is expected, from ``low`` to ``high``; ``value`` is None where nothing says more than these."""

    low: float
    high: float
    value: float | None = None

    @classmethod
    def exact(cls, value: float) -> Self:
        """What has no doubt about it."""
        return cls(value, value, value)

    def __add__(self, other: Range) -> Range:
        value = None if self.value is None or other.value is None else self.value + other.value
        return Range(self.low + other.low, self.high + other.high, value)

    def times(self, other: Range) -> Range:
        """The product of two that are not negative, whose doubts have nothing to do with each other: relative
        half-widths add as squares where both have a value."""
        if self.value is None or other.value is None:
            return Range(self.low * other.low, self.high * other.high)
        value = self.value * other.value
        if not value:
            return Range(0.0, self.high * other.high, 0.0)
        below, above = (
            math.hypot(*((getattr(one, end) - one.value) / one.value for one in (self, other) if one.value))
            for end in ("low", "high")
        )
        return Range(max(0.0, value * (1 - below)), value * (1 + above), value)

    def over(self, other: Range) -> Range:
        """The quotient of two that are positive; where the divisor has no value, in the middle of its logarithms."""
        middle = math.sqrt(other.low * other.high) if other.value is None else other.value
        return Range(self.low / other.high, self.high / other.low, None if self.value is None else self.value / middle)


def resampled(values: Floats, figure: Callable[[Floats], Floats], *, measured: int, expected: float) -> Range:
    """A figure of sums with its range: 95%, by drawing prompts again.

    Args:
        values: [prompts, k] what each prompt adds.
        figure: takes totals [..., k] to figures [...].
        measured: how many prompts it is measured on.
        expected: how many prompts it is to hold for. These vary as well: the fewer they are, the more of that shows.
    """
    (found,) = estimates({"": Sums(values, figure, len(values))}, resamples=RESAMPLES, seed=SEED).values()
    if found.value is None:
        raise ValueError("a figure of nothing measured")
    if found.low is None or found.high is None:
        return Range.exact(found.value)
    wider = math.sqrt(1 + measured / max(expected, 1.0))
    low, high = (found.value + (end - found.value) * wider for end in (found.low, found.high))
    return Range(max(0.0, low), high, found.value)


def mean_of(values: Sequence[float], *, seen: int, expected: float) -> Range:
    """The mean of values that stand for ``expected`` others, with 1.96 standard errors; ``seen`` is how many of them
    say something of their own, two at least."""
    spread = 1.96 * float(np.std(values, ddof=1)) * math.sqrt(1 / seen + 1 / max(expected, 1.0))
    mean = float(np.mean(values))
    return Range(max(0.0, mean - spread), mean + spread, mean)
