"""The 95% interval of a mean over prompts.

It is Wilson's, with as many observations as the spread between prompts is worth. In simulation
(benchmarks/winrate_parts/coverage.py) it kept to 93-97% where t, logit-t, Hall's transformed t, added prompts and the
BCa bootstrap each fell short somewhere near 95 or 50% with thirty prompts. Where all prompts say the same, the exact
bound on the share of prompts that could say otherwise stands in for a spread. The BCa bootstrap is here too, to be seen
beside it.
"""

from __future__ import annotations

import math

import numpy as np

from prefkit.evaluation.outcome_table import Bools, Floats, Ints
from prefkit.resampling import TAIL, Clusters, estimates, per_cluster, ratio, wilson

Z = 1.959963984540054
HELD_BACK = 1 / 40
"""How much of a prompt is taken to have gone fully the other way, beside the spread that is seen: it keeps the interval
from shrinking to nothing where nearly all prompts say the same."""
FEW_DECIDED = 5
"""With fewer prompts that prefer a side, among mostly ties, the spread says too little: the exact bound is used."""


def interval(values: Floats) -> tuple[Floats, Floats]:
    """The 95% interval of the mean of independent values between 0 and 1.

    Wilson's interval, with the number of observations that ``effective`` says: n where each value is 0 or 1, more where
    the values are means of several.

    Args:
        values: [..., prompts], at least two.

    Returns:
        Lower and upper ends [...].

    Raises:
        ValueError: there are fewer than two values.

    Source: Wilson 1927, doi:10.1080/01621459.1927.10502953; with an effective number of observations, Korn & Graubard
    1998, Survey Methodology 24(2); the exact bound, Clopper & Pearson 1934, doi:10.1093/biomet/26.4.404.
    """
    count = values.shape[-1]
    if count < 2:
        raise ValueError(f"an interval takes two values or more; got {count}")
    mean = values.mean(axis=-1)
    squares = ((values - mean[..., None]) ** 2).sum(axis=-1)
    share = (squares + HELD_BACK) / (count * mean * (1 - mean) + HELD_BACK)
    low, high = np.vectorize(wilson, otypes=[float, float])(mean, effective(count, share))
    return _widened(values, mean, squares, low, high)


def effective(count: int, share: Floats | float) -> Floats:
    """How many values of 0 or 1 would say as much about the mean as these do.

    r n + (1 - r) (n - 1) (z/t)^2, over r: values of 0 or 1 have r = 1 and a variance that follows from the mean. The
    less they spread beside such, the more of the variance is an estimate from n values, and gets Student's t in place
    of the normal and n - 1 in place of n.

    Args:
        count: of values, n.
        share: their sum of squares about the mean beside that of values of 0 or 1 with that mean, r. [...]
    """
    from scipy.special import stdtrit

    part = np.minimum(share, 1.0)
    estimated = (count - 1) * (Z / float(stdtrit(count - 1, 1 - TAIL))) ** 2
    worth: Floats = np.asarray((part * count + (1 - part) * estimated) / part)
    return worth


def digits(low: float | None, high: float | None) -> int:
    """Decimals of a percentage: no more than its interval, from 0 to 1, bears."""
    reach = 50 * ((high or 0.0) - (low or 0.0))
    return 0 if reach >= 2 else 1 if reach >= 0.2 else 2


def bootstrap_interval(values: Floats, *, resamples: int = 2000, seed: int = 0) -> tuple[float, float] | None:
    """The BCa bootstrap's 95% interval of a mean [prompts]; None where all values are the same.

    Source: see ``prefkit.resampling``.
    """
    clusters = Clusters(np.arange(len(values)), seed)
    groups = clusters(np.arange(len(values)))
    if np.ptp(values) < 1e-12:
        return None
    sums = ratio(
        per_cluster(values, groups, clusters.size),
        per_cluster(np.ones(len(values)), groups, clusters.size),
        len(values),
    )
    found = estimates({"rate": sums}, resamples=resamples, seed=seed)["rate"]
    return None if found.low is None or found.high is None else (found.low, found.high)


def _widened(values: Floats, mean: Floats, squares: Floats, low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """The interval with exact bounds where the spread says nothing: all values are the same, or nearly all ties."""
    from scipy.special import betaincinv

    count = values.shape[-1]
    other = 1 - TAIL ** (1 / count)  # as many prompts could say something else, and have not been met
    same = squares < 1e-12
    low, high = np.where(same, mean * (1 - other), low), np.where(same, mean + (1 - mean) * other, high)
    decided, few = _decided(values), ~same & mostly_ties(values)
    reach = betaincinv(decided + 1, np.maximum(count - decided, 1), 1 - TAIL) / 2
    low, high = np.where(few, np.minimum(low, 0.5 - reach), low), np.where(few, np.maximum(high, 0.5 + reach), high)
    return np.minimum(low, mean), np.maximum(high, mean)


def mostly_ties(values: Floats) -> Bools:
    """Whether so few of the values [..., prompts] prefer a side that their spread says too little. [...]"""
    decided = _decided(values)
    few: Bools = (decided < FEW_DECIDED) & (4 * decided < values.shape[-1])
    return few


def _decided(values: Floats) -> Ints:
    return np.asarray((np.abs(values - 0.5) > 1e-12).sum(axis=-1))


def naive_interval(values: Floats) -> tuple[Floats, Floats]:
    """The interval of independent answers [..., answers], mean +- 1.96 sd / sqrt(n): right only where there is one
    answer a prompt and the rate is far from 0 and 1. For comparison."""
    reach = Z * values.std(axis=-1, ddof=1) / math.sqrt(values.shape[-1])
    mean = values.mean(axis=-1)
    return np.maximum(mean - reach, 0), np.minimum(mean + reach, 1)
