"""How many prompts and annotations a win rate takes.

Reads   how far answers spread: assumed, or measured on outcomes that are there
Gives   for an interval of a wanted width, or a wanted chance of telling a rate from one half: prompts, annotations

More answers on one prompt help only with what annotators differ by on it; what differs from prompt to prompt takes more
prompts. The spread of a prompt's mean over k comparisons is between + within / k, as variances.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from prefkit.evaluation.intervals import HELD_BACK, Z, effective
from prefkit.evaluation.outcomes import Outcomes
from prefkit.resampling import wilson

MOST = 10_000_000
"""Prompts beyond which nobody plans."""
ALIKE = 0.4
"""How alike two answers on one prompt are taken to be, as a correlation, where it was not measured."""


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The spread of answers.

    Args:
        rate: the win rate to expect.
        between: the variance of prompts' own rates.
        within: the variance of one comparison around its prompt's rate.
        measured: whether both were measured; else the share between prompts is assumed.
    """

    rate: float
    between: float
    within: float
    measured: bool

    def of_prompt(self, comparisons: int) -> float:
        """The variance of a prompt's mean over so many comparisons."""
        return self.between + self.within / comparisons


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a study takes: ``prompts``, each with ``comparisons``; ``annotations`` is their product; None where it
    cannot be done with any number of prompts that somebody would ask."""

    comparisons: int
    prompts: int | None

    @property
    def annotations(self) -> int | None:
        """How many comparisons in all."""
        return None if self.prompts is None else self.prompts * self.comparisons


def assumed_spread(rate: float, *, ties: float = 0.1, alike: float = ALIKE) -> Spread:
    """The spread of wins, ties and losses.

    Args:
        rate: the win rate, 0 to 1, a tie counting half.
        ties: their share.
        alike: the correlation of two answers on one prompt.

    Raises:
        ValueError: a rate, share or correlation that cannot be.
    """
    if not 0 <= rate <= 1 or not 0 <= ties <= 2 * min(rate, 1 - rate) + 1e-9 or not 0 <= alike <= 1:
        raise ValueError(f"rate {rate}, ties {ties}, alike {alike} cannot be: ties are at most 2 min(rate, 1 - rate)")
    variance = rate * (1 - rate) - ties / 4
    return Spread(rate=rate, between=alike * variance, within=(1 - alike) * variance, measured=False)


def measured_spread(outcomes: Outcomes) -> Spread:
    """The spread of comparisons that are there, split by analysis of variance.

    With one comparison a prompt the split cannot be seen, and ``ALIKE`` is assumed.

    Args:
        outcomes: rows of ``balanced``, turned by ``Outcomes.between``; at least two prompts.

    Raises:
        ValueError: there are fewer than two prompts.
    """
    _, place, sizes = np.unique(outcomes.prompt, return_inverse=True, return_counts=True)
    prompts, rows = len(sizes), len(outcomes)
    if prompts < 2:
        raise ValueError(f"a spread takes two prompts or more; got {prompts}")
    means = np.bincount(place.reshape(-1), outcomes.preferred) / sizes
    rate = float(means.mean())
    if rows == prompts:
        variance = float(outcomes.preferred.var(ddof=1))
        return Spread(rate=rate, between=ALIKE * variance, within=(1 - ALIKE) * variance, measured=False)
    within = float(((outcomes.preferred - means[place.reshape(-1)]) ** 2).sum()) / (rows - prompts)
    between = float(means.var(ddof=1)) - within * float((1 / sizes).mean())
    return Spread(rate=rate, between=max(between, 0.0), within=within, measured=True)


def for_width(spread: Spread, reach: float, comparisons: Sequence[int] = (1, 2, 5)) -> list[Plan]:
    """The prompts with which the 95% interval reaches no further than so far to either side.

    Args:
        spread: of the answers.
        reach: half of the interval's width, as a share: 0.05 for five points.
        comparisons: on each prompt.

    Raises:
        ValueError: the reach is not above 0 and below one half.
    """
    if not 0 < reach < 0.5:
        raise ValueError(f"half a width lies between 0 and 0.5; got {reach}")
    return [Plan(comparisons=each, prompts=_prompts(spread, spread.of_prompt(each), reach)) for each in comparisons]


def _prompts(spread: Spread, variance: float, reach: float) -> int | None:
    """The least number of prompts, whose means have this variance, for so narrow an interval."""

    def narrow(count: int) -> bool:
        low, high = wilson(spread.rate, _worth(spread.rate, variance, count))
        return (high - low) / 2 <= reach

    return _least(narrow)


def _worth(rate: float, variance: float, count: int) -> float:
    """How many prompts Wilson's interval is given for so many whose means have this variance."""
    share = ((count - 1) * variance + HELD_BACK) / (count * rate * (1 - rate) + HELD_BACK)
    return float(effective(count, share))


def _least(enough: Callable[[int], bool]) -> int | None:
    """The least number of prompts that is enough, by halving: what is enough stays so with more."""
    least, most = 2, 4
    while not enough(most):
        least, most = most, 2 * most
        if most > MOST:
            return None
    while least < most:
        middle = (least + most) // 2
        least, most = (least, middle) if enough(middle) else (middle + 1, most)
    return most


def for_power(spread: Spread, power: float = 0.8, comparisons: Sequence[int] = (1, 2, 5)) -> list[Plan]:
    """The prompts with which the 95% interval leaves out one half with so high a probability, if the rate is as
    expected.

    Wilson's interval leaves out one half where the rate is further from it than z / 2 sqrt(n_eff); the rate found is
    further than that with the wanted probability where the expected one is by z_power standard errors more, and half a
    step more, as rates go in steps of one comparison.

    Args:
        spread: of the answers, with the rate that is to be told from one half.
        power: the probability of telling it.
        comparisons: on each prompt.

    Raises:
        ValueError: the power is not above 0 and below 1.
    """
    from scipy.special import ndtri

    if not 0 < power < 1:
        raise ValueError(f"a power lies between 0 and 1; got {power}")
    beyond = float(ndtri(power))
    gap = abs(spread.rate - 0.5)
    found = []
    for each in comparisons:
        variance = spread.of_prompt(each)

        def told(count: int, variance: float = variance, each: int = each) -> bool:
            edge = Z / 2 / math.sqrt(_worth(spread.rate, variance, count))
            return edge + beyond * math.sqrt(variance / count) + 1 / (2 * count * each) <= gap

        found.append(Plan(comparisons=each, prompts=_least(told) if gap > 1e-9 else None))
    return found
