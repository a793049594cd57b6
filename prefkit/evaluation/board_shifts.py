"""Two rankings of the same policies beside each other, such as by people and by a judge, or with style and without.

Reads   two Rankings
Gives   Kendall's tau, and how far each policy moves, with an interval over the same draws of prompts
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefkit.evaluation.rankings import Ranking
from prefkit.resampling import TAIL


@dataclass(frozen=True)
class Shift:
    """A policy on two boards: its rank on each with its range, and the difference of its ratings in points (other less
    one) with a 95% interval over the same draws of prompts."""

    policy: str
    rank: int
    ranks: tuple[int, int]
    other_rank: int
    other_ranks: tuple[int, int]
    difference: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Compared:
    """Two rankings of the same policies: Kendall's tau of the ratings, and each policy's shift."""

    tau: float
    shifts: tuple[Shift, ...]


def compare(one: Ranking, other: Ranking) -> Compared:
    """How another ranking differs from one, such as a judge's from people's.

    The draws are taken together where both boards were drawn in the same way; the prompts are then the same ones if
    both are parts of one Outcomes.

    Raises:
        ValueError: the policies are not the same.
    """
    from scipy.stats import kendalltau

    theirs = {rated.policy: (place, rated) for place, rated in enumerate(other.policies)}
    if theirs.keys() != {rated.policy for rated in one.policies}:
        raise ValueError("the two rankings are not of the same policies")
    ratings = [(rated.rating, theirs[rated.policy][1].rating) for rated in one.policies]
    paired = _drawn_alike(one, other)
    shifts = []
    for place, rated in enumerate(one.policies):
        at, second = theirs[rated.policy]
        low = high = None
        if paired:
            apart = other.draws[:, at] - one.draws[:, place]
            low, high = map(float, np.quantile(apart[np.isfinite(apart)], [TAIL, 1 - TAIL]))
        ranks = (rated.best_rank, rated.worst_rank), (second.best_rank, second.worst_rank)
        change = second.rating - rated.rating
        shifts.append(Shift(rated.policy, rated.rank, ranks[0], second.rank, ranks[1], change, low, high))
    return Compared(float(kendalltau(*zip(*ratings, strict=True)).statistic), tuple(shifts))


def _drawn_alike(one: Ranking, other: Ranking) -> bool:
    how = [(len(board.draws), board.settings.seed, board.settings.intervals) for board in (one, other)]
    if how[0] != how[1] or not len(one.draws):
        return False
    both = np.isfinite(one.draws[:, 0]) & np.isfinite(other.draws[:, 0])
    return bool(both.mean() > 0.95)
