"""Which policies of a board are told apart, and what it would take where they are not.

Reads   strengths, and draws of them
Gives   for each two policies a p-value over the whole board, and the votes and prompts that would separate them

All pairs are tested at once, by the largest studentised difference anywhere on the board (max-t): the chance of a
single wrong separation among all of them is 5%. Where one of two never lost against the others no draw shows how near
they might be, and the spread is at least that of the likelihood's curvature, as if each prompt were one observation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from prefkit.evaluation.strengths import Bools, Floats, Ints, Ties, slopes
from prefkit.evaluation.tallies import Groups, Tallied
from prefkit.resampling import TAIL

POINTS = 400 / math.log(10)
"""Points of the usual scale in a unit of log-odds: 400 points ahead is preferred ten times in eleven."""
LEVEL = 0.05
MOST_VOTES = 10_000_000
Z, Z_POWER = 1.959963984540054, 0.8416212335729143
"""Of the normal distribution: beyond which 5% lie, on both sides; below which 80% lie."""
_NONE = 1e-9  # log-odds: a spread that is none


@dataclass(frozen=True)
class Separation:
    """Two policies: ``ahead`` leads ``behind`` by ``difference`` points.

    ``p`` is adjusted for all pairs of the board (max-t), ``separated`` is p <= 0.05, ``error`` the standard error in
    points. ``votes`` are the independent direct comparisons of the two that would tell them apart with 80% power, and
    ``prompts`` the prompts of a board like this one that would do it for all pairs at once; None beyond ten million.
    """

    ahead: str
    behind: str
    difference: float
    error: float | None
    p: float | None
    separated: bool
    votes: int | None
    prompts: int | None


@dataclass(frozen=True)
class Tested:
    """``p`` and ``error`` [policies, policies], the latter in log-odds and NaN where there is no spread; the critical
    value of the largest difference."""

    p: Floats
    error: Floats
    critical: float

    def above(self, strength: Floats) -> Bools:
        """[policies, policies]: whether the second is above the first."""
        found: Bools = (self.p <= LEVEL) & (strength[None, :] > strength[:, None])
        return found


def tested(tallied: Tallied, at: Floats, drawn: Floats, groups: Groups, rows: int) -> Tested:
    """Test all pairs.

    Args:
        tallied: the board.
        at: [size] the fit, with a mean strength of 0.
        drawn: [draws, size] finite draws of it.
        groups: who won and lost.
        rows: how many comparisons there are.
    """
    k = tallied.board.cells.policies
    if len(drawn) < 2:
        return Tested(np.ones((k, k)), np.full((k, k), np.nan), math.nan)
    from scipy.special import stdtrit

    strength, draws = at[:k], drawn[:, :k]
    error = _of_differences(np.atleast_2d(np.cov(draws, rowvar=False)))
    if groups.several:
        apart = groups.group[:, None] != groups.group
        error = np.where(apart, np.maximum(error, _by_curvature(tallied, at, rows)), error)
    # The spread of few prompts is itself uncertain, as Student's t is wider than the normal.
    wider = float(stdtrit(tallied.taking_part - 1, 1 - TAIL)) / Z
    error = np.where(error > _NONE, error, np.nan)
    largest = np.zeros(len(draws))
    off = draws - strength
    for one in range(k - 1):
        studentised = np.abs(off[:, one, None] - off[:, one + 1 :]) / error[one, one + 1 :]
        largest = np.maximum(largest, np.nan_to_num(studentised).max(axis=1))
    error = error * wider
    statistic = np.nan_to_num(np.abs(strength[:, None] - strength) / error)
    ranked = np.sort(largest)
    p = (1 + len(ranked) - np.searchsorted(ranked, statistic - 1e-12)) / (1 + len(ranked))
    return Tested(p, error, float(np.quantile(ranked, 1 - LEVEL)))


def _of_differences(covariance: Floats) -> Floats:
    spread = np.diag(covariance)
    found: Floats = np.sqrt(np.maximum(spread[:, None] + spread - 2 * covariance, 0.0))
    return found


def _by_curvature(tallied: Tallied, at: Floats, rows: int) -> Floats:
    k = tallied.board.cells.policies
    terms = tallied.board.terms(tallied.total(), at[None])
    return _of_differences(np.linalg.inv(terms.curvature[0])[:k, :k] * max(1.0, rows / tallied.prompts))


def separations(tallied: Tallied, at: Floats, order: Ints, test: Tested) -> tuple[Separation, ...]:
    """Each two policies, the better one first, in the order of the board."""
    cells, names = tallied.board.cells, tallied.names
    found = []
    for place, ahead in enumerate(order):
        for behind in order[place + 1 :]:
            lead, error, p = float(at[ahead] - at[behind]), float(test.error[ahead, behind]), test.p[ahead, behind]
            known = math.isfinite(error)
            reach = (test.critical + Z_POWER) * error / lead if known and lead > 0 else math.inf
            found.append(
                Separation(
                    ahead=names[ahead],
                    behind=names[behind],
                    difference=POINTS * lead,
                    error=POINTS * error if known else None,
                    p=float(p) if known else None,
                    separated=bool(known and p <= LEVEL),
                    votes=votes_needed(lead, cells.ties, float(at[-1]), tallied.tied),
                    prompts=_whole_number(tallied.prompts * reach**2),
                )
            )
    return tuple(found)


def _whole_number(value: float) -> int | None:
    return math.ceil(value) if value <= MOST_VOTES else None


def votes_needed(lead: float, ties: Ties = "half", tie: float = 0.0, tie_share: float = 0.0) -> int | None:
    """Independent direct comparisons that tell two policies apart at the 5% level with 80% power.

    Args:
        lead: the difference of their strengths, in log-odds.
        ties: the model of ties.
        tie: its parameter, where ties are an outcome of their own.
        tie_share: how many comparisons are ties, where a tie is half a win: they make the mean less variable.

    Returns:
        At least 1; None beyond ten million.

    Source: the usual (z + z)^2 V / lead^2, with V the variance of the estimated lead from one comparison.
    """
    if abs(lead) < _NONE:
        return None
    if ties == "half":
        share = 1 / (1 + math.exp(-lead))
        information = share * (1 - share)
        variance = max(information - tie_share / 4, 1e-3 * information) / information**2
    else:
        d, a = np.full((1, 1), lead), np.full((1, 1), tie)
        odds = np.exp([slopes(ties, unit, d, a).value[0, 0] for unit in np.eye(3)[:, None, :, None]])
        variance = 1 / float(slopes(ties, odds.reshape(1, 3, 1), d, a).dd[0, 0])
    return _whole_number(max(1.0, (Z + Z_POWER) ** 2 * variance / lead**2))
