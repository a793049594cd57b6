"""Agreement of scores by how they vary: intraclass correlations, and Krippendorff's alpha without categories.

Reads   scores of any number of raters, some of them missing
Gives   Sums of ICC(A,1), ICC(C,1) and alpha for intervals; 1 is perfect agreement

ICC(A,1) asks whether raters give the same scores, ICC(C,1) whether they differ by a constant at most: a severe and a
mild rater lower the first alone. Both are shares of variance under a model of units, raters and what is left (two-way
random effects), from moments that also hold where not everyone rated everything; where everyone did they are the mean
squares of the analysis of variance. Moments depend on sums over units only, so a bootstrap adds up other units.
"""

from __future__ import annotations

import numpy as np

from prefkit.agreement.coefficients import Floats
from prefkit.resampling import Ints, Sums, per_cluster

MAX_RATERS = 200
"""With more, two columns of sums for each cost more memory than the figure is worth."""


def score_agreement(scores: Floats, unit: Ints, rater: Ints, cluster: Ints, size: int) -> dict[str, Sums]:
    """The figures of scores that need no categories; units with one rater say nothing.

    Args:
        scores: [n], none of them NaN.
        unit: [n], what was rated.
        rater: [n], by whom; once for each unit.
        cluster: [n].
        size: how many clusters there are.
    """
    units, item, raters_of = np.unique(unit, return_inverse=True, return_counts=True)
    several = raters_of[item] > 1
    if not several.any():
        return {}
    units, item, raters_of = np.unique(unit[several], return_inverse=True, return_counts=True)
    who, place = np.unique(rater[several], return_inverse=True)
    scores, cluster = scores[several] - scores[several].mean(), cluster[several]
    at = np.zeros(len(units), dtype=np.int64)
    at[item] = cluster
    total = np.bincount(item, scores)
    squares = np.bincount(item, scores**2)
    apart = raters_of / (raters_of - 1) * (squares - total**2 / raters_of)
    alpha = np.column_stack([per_cluster(part, at, size) for part in (apart, raters_of, total, squares)])
    found = {"alpha_interval": Sums(alpha, _alpha, len(units))}
    if len(who) <= MAX_RATERS:
        by_unit = (np.ones(len(units)), raters_of**2, total**2 / raters_of, squares)
        cells = cluster * len(who) + place
        by_rater = (np.bincount(cells, part, size * len(who)).reshape(size, -1) for part in (None, scores))
        moments = np.column_stack([*(per_cluster(part, at, size) for part in by_unit), *by_rater])
        for name, absolute in (("icc_a", True), ("icc_c", False)):
            found[name] = Sums(moments, lambda totals, absolute=absolute: _icc(totals, absolute), len(units))  # type: ignore[misc]
    return found


def _alpha(totals: Floats) -> Floats:
    """Alpha [...] from the totals of disagreement within units, answers, their scores and squared scores."""
    within, n, score, square = np.moveaxis(totals, -1, 0)
    return 1 - _divided(within * (n - 1), n * square - score**2)


def _icc(totals: Floats, absolute: bool) -> Floats:
    """ICC(A,1) or ICC(C,1) [...] from moments [..., 4 + 2 raters].

    The three sums of squares (units, raters, what is left) are set equal to what is expected of them, and solved for
    the three variances.

    Source: McGraw & Wong 1996, doi:10.1037/1082-989X.1.1.30; Shrout & Fleiss 1979, doi:10.1037/0033-2909.86.2.420, call
    them ICC(2,1) and ICC(3,1). With missing scores, Henderson 1953, doi:10.2307/3001853, method 1.
    """
    raters = (totals.shape[-1] - 4) // 2
    units, crowding, by_unit, squares = (totals[..., place] for place in range(4))
    rated, scores = totals[..., 4 : 4 + raters], totals[..., 4 + raters :]
    n = rated.sum(-1)
    by_rater = np.divide(scores**2, rated, out=np.zeros_like(scores), where=rated > 0.5).sum(-1)
    whole = _divided(scores.sum(-1) ** 2, n)
    present = (rated > 0.5).sum(-1)
    per_unit, per_rater = _divided(crowding, n), _divided((rated**2).sum(-1), n)
    expected = np.stack(
        [
            np.stack([n - per_unit, units - per_rater, units - 1], axis=-1),
            np.stack([present - per_unit, n - per_rater, present - 1.0], axis=-1),
            np.stack([per_unit - present, per_rater - units, n - units - present + 1], axis=-1),
        ],
        axis=-2,
    )
    found = np.stack([by_unit - whole, by_rater - whole, squares - by_unit - by_rater + whole], axis=-1)
    solvable = np.isfinite(expected).all((-2, -1)) & (np.abs(np.linalg.det(np.nan_to_num(expected))) > 1e-9)
    expected[~solvable] = np.eye(3)
    variances = np.linalg.solve(expected, found[..., None])[..., 0]
    of_units, of_raters, left = np.moveaxis(variances, -1, 0)
    share = _divided(of_units, of_units + left + (of_raters if absolute else 0.0))
    result: Floats = np.where(solvable, share, np.nan)
    return result


def _divided(numerator: Floats, denominator: Floats) -> Floats:
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    nan = np.full(numerator.shape, np.nan)
    result: Floats = np.divide(numerator, denominator, out=nan, where=np.abs(denominator) > 1e-9)
    return result
