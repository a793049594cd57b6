"""Elo ratings, and how far they depend on the order in which the comparisons are counted.

Reads   Outcomes
Gives   for each policy the Elo rating in the order of the rows, and its spread over shuffles of the same rows

Elo was made for players who change: each comparison moves two ratings by a step, and the last ones weigh most. Policies
do not change, so the order means nothing, and yet it decides the rating. The spread over shuffles is of the method
alone; it is no interval for how good a policy is. `rankings.rank` depends on no order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from prefkit.errors import PrefkitError
from prefkit.evaluation.outcomes import Outcomes
from prefkit.evaluation.strengths import Floats

START = 1000.0
SCALE = 400.0
MOST_ROWS = 100_000
"""Rows that are counted at most: with more, a random part of them, as each shuffle goes through them one by one."""


@dataclass(frozen=True)
class EloRating:
    """A policy's Elo rating: in the order of the rows, and over the shuffles the mean, lowest and highest, and the best
    and worst rank."""

    policy: str
    as_given: float
    mean: float
    lowest: float
    highest: float
    best_rank: int
    worst_rank: int


@dataclass(frozen=True)
class Elo:
    """The ratings, best mean first, out of how many rows, and in which share of the shuffles the same policy came first
    as in the mean."""

    ratings: tuple[EloRating, ...]
    rows: int
    shuffles: int
    step: float
    same_winner: float


def elo(outcomes: Outcomes, *, step: float = 16.0, shuffles: int = 100, seed: int = 0) -> Elo:
    """Elo ratings over shuffles of the rows.

    Args:
        outcomes: n rows; a tie moves each towards the other.
        step: K, the most points that one comparison moves a rating.
        shuffles: how many orders beside that of the rows.
        seed: of the shuffles.

    Raises:
        PrefkitError: there are no rows.

    Source: Elo 1978, The Rating of Chessplayers.
    """
    if not len(outcomes):
        raise PrefkitError(outcomes.source or "outcomes", "no comparison", "comparisons to rate by", "Judge some.")
    rng = np.random.default_rng(seed)
    rows = np.arange(len(outcomes))
    if len(rows) > MOST_ROWS:
        rows = np.sort(rng.choice(rows, MOST_ROWS, replace=False))
    orders = np.stack([rows, *(rng.permutation(rows) for _ in range(shuffles))])
    shown = np.unique(np.concatenate([outcomes.first, outcomes.second]))
    ratings = _counted(outcomes, orders, step)[:, shown]
    names = [outcomes.policies[code] for code in shown]
    over = ratings[1:] if shuffles else ratings
    ranks = 1 + np.argsort(np.argsort(-over, axis=1, kind="stable"), axis=1, kind="stable")
    best_first = np.argsort(-over.mean(axis=0), kind="stable")
    rated = tuple(
        EloRating(
            policy=names[at],
            as_given=float(ratings[0, at]),
            mean=float(over[:, at].mean()),
            lowest=float(over[:, at].min()),
            highest=float(over[:, at].max()),
            best_rank=int(ranks[:, at].min()),
            worst_rank=int(ranks[:, at].max()),
        )
        for at in best_first
    )
    return Elo(rated, len(rows), shuffles, step, float((ranks[:, best_first[0]] == 1).mean()))


def _counted(outcomes: Outcomes, orders: np.ndarray[tuple[int, int], np.dtype[np.int64]], step: float) -> Floats:
    """Ratings [orders, policies] after all rows, in each order [orders, rows]; the orders go on side by side."""
    ratings = np.full((len(orders), len(outcomes.policies)), START)
    every = np.arange(len(orders))
    for rows in orders.T:
        first, second = outcomes.first[rows], outcomes.second[rows]
        lead = ratings[every, first] - ratings[every, second]
        gain = step * (outcomes.preferred[rows] - 1 / (1 + 10 ** (-lead / SCALE)))
        ratings[every, first] += gain
        ratings[every, second] -= gain
    return ratings
