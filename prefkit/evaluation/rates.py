"""The rate of one policy over another with its interval, and the paired difference of two rates.

A prompt is the unit. The two orders of one judge are averaged first (a judge that picks by position ends at a tie),
then the answers of one judge on a prompt, then the judges; a tie is half a win; the rate is the mean over prompts, each
counting the same. Prompts are independent of each other, what is said on one prompt is not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from prefkit.evaluation.intervals import bootstrap_interval, interval, naive_interval
from prefkit.evaluation.outcome_table import Floats, Ints, Outcomes


@dataclass(frozen=True, kw_only=True)
class WinRate:
    """How often a policy is preferred.

    Args:
        rate: from 0 to 1; None with fewer than two prompts, where a share would say nothing.
        standard_error: of the mean over prompts, by the spread between them.
        low, high: the 95% interval; None with fewer than two prompts.
        naive_low, naive_high: what it would be if every answer, each order by itself, were independent.
        bootstrap_low, bootstrap_high: that of the BCa bootstrap over prompts, where it was asked for.
        prompts, comparisons, answers: of which there are so many; a comparison is one judge on two responses, an answer
            is a comparison in one order.
        wins, ties, losses: comparisons.
    """

    rate: float | None
    standard_error: float | None
    low: float | None
    high: float | None
    naive_low: float | None
    naive_high: float | None
    prompts: int
    comparisons: int
    answers: int
    wins: int
    ties: int
    losses: int
    bootstrap_low: float | None = None
    bootstrap_high: float | None = None

    @property
    def decided(self) -> bool:
        """Whether the interval leaves out one half."""
        return self.low is not None and self.high is not None and (self.low > 0.5 or self.high < 0.5)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The difference of two rates on the prompts that both have.

    Args:
        difference: first less second; None with fewer than two prompts.
        low, high: 95% interval.
        p: of no difference, two-sided, by the paired t test over prompts.
        prompts: that both have.
    """

    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    prompts: int


@dataclass(frozen=True)
class PromptMeans:
    """The rate on each prompt: codes of prompts [n], sorted, and means [n]."""

    prompt: Ints
    mean: Floats

    def on(self, prompts: Ints) -> Floats:
        """The means on some of the prompts, which must be among them."""
        return self.mean[np.searchsorted(self.prompt, prompts)]


def prompt_means(outcomes: Outcomes) -> PromptMeans:
    """The rate of ``first`` on each prompt: the mean over its judges of the mean of what each says.

    Args:
        outcomes: rows of ``balanced``, turned by ``Outcomes.between``.
    """
    cells, place = np.unique(np.stack([outcomes.prompt, outcomes.judge], axis=1), axis=0, return_inverse=True)
    if not len(cells):
        return PromptMeans(np.empty(0, np.int64), np.empty(0))
    said = np.bincount(place.reshape(-1), outcomes.preferred) / np.bincount(place.reshape(-1))
    prompts, of_prompt = np.unique(cells[:, 0], return_inverse=True)
    return PromptMeans(prompts, np.bincount(of_prompt, said) / np.bincount(of_prompt))


def win_rate(outcomes: Outcomes, as_shown: Outcomes | None = None, *, bootstrap: bool = False) -> WinRate:
    """The rate of ``first`` over ``second``.

    Args:
        outcomes: rows of ``balanced``, turned by ``Outcomes.between``.
        as_shown: the same before they were balanced, for the naive interval; the rows themselves where it is None.
        bootstrap: whether to add the bootstrap's interval.
    """
    means, preferred = prompt_means(outcomes).mean, outcomes.preferred
    answers = preferred if as_shown is None else as_shown.preferred
    enough = len(means) > 1
    low, high = interval(means) if enough else (None, None)
    naive_low, naive_high = naive_interval(answers) if enough else (None, None)
    drawn = bootstrap_interval(means) if enough and bootstrap else None
    return WinRate(
        rate=float(means.mean()) if enough else None,
        standard_error=float(means.std(ddof=1) / math.sqrt(len(means))) if enough else None,
        low=_number(low),
        high=_number(high),
        naive_low=_number(naive_low),
        naive_high=_number(naive_high),
        prompts=len(means),
        comparisons=len(preferred),
        answers=len(answers),
        wins=int((preferred > 0.5).sum()),
        ties=int((preferred == 0.5).sum()),
        losses=int((preferred < 0.5).sum()),
        bootstrap_low=drawn[0] if drawn else None,
        bootstrap_high=drawn[1] if drawn else None,
    )


def _number(value: Floats | None) -> float | None:
    return None if value is None else float(value)


def difference(one: Outcomes, other: Outcomes) -> Difference:
    """How much more often ``first`` is preferred in one set of outcomes than in another, on the prompts that both have.

    Where both have the same judges on a prompt, each judge is compared with itself; where they share none (two judges
    are compared), the prompt's means are.

    Args:
        one, other: rows of ``balanced``, turned by ``Outcomes.between``; codes of prompts and judges are the same.
    """
    from scipy.special import stdtr

    shared = np.intersect1d(_cells(one), _cells(other))
    if len(shared):
        one, other = one[np.isin(_cells(one), shared)], other[np.isin(_cells(other), shared)]
    left, right = prompt_means(one), prompt_means(other)
    both = np.intersect1d(left.prompt, right.prompt)
    gaps = left.on(both) - right.on(both)
    if len(gaps) < 2:
        return Difference(difference=None, low=None, high=None, p=None, prompts=len(gaps))
    low, high = interval((gaps + 1) / 2)  # a difference lies between -1 and 1
    spread = float(gaps.std(ddof=1)) / math.sqrt(len(gaps))
    if spread > 1e-12:
        p = 2 * float(stdtr(len(gaps) - 1, -abs(float(gaps.mean())) / spread))
    else:  # all differ by the same: the sign test
        p = 1.0 if abs(float(gaps.mean())) < 1e-12 else 2.0 ** (1 - len(gaps))
    return Difference(
        difference=float(gaps.mean()), low=float(2 * low - 1), high=float(2 * high - 1), p=p, prompts=len(gaps)
    )


def _cells(outcomes: Outcomes) -> Ints:
    cells: Ints = outcomes.prompt * max(1, len(outcomes.judges)) + outcomes.judge
    return cells
