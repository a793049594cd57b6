"""Figures with intervals, from a bootstrap over prompts: what agreement and the evaluation of reward models share.

Reads   sums: what each prompt adds to a figure
Gives   the figure, a 95% interval, and how many prompts it rests on

Judgements on one prompt depend on each other, so whole prompts are drawn, with replacement. The interval is BCa (bias
corrected and accelerated) with its levels widened as Student's t is beside the normal: on simulated clustered data of
15 prompts it covers 94-95% where plain percentiles cover 89-90%. Where all prompts say the same there is no spread to
draw from: a share then gets Wilson's interval with each prompt as one observation, another figure none.

Beyond ``MAX_CLUSTERS`` prompts, the prompts are first thrown together at random into that many groups of equal size,
which are drawn instead: the spread between sums of groups is that between prompts, and time and memory stay bounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

MAX_CLUSTERS = 4096
TAIL = 0.025
_CHUNK = 250  # resamples at once
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Sums:
    """What a figure is made of.

    ``values`` [clusters, k] are sums over each cluster, ``figure`` takes totals [..., k] to figures [...]; ``count`` is
    how many things were counted; a ``share`` lies between 0 and 1.
    """

    values: Floats
    figure: Callable[[Floats], Floats]
    count: int
    share: bool = False

    def __add__(self, other: Sums) -> Sums:
        return Sums(self.values + other.values, self.figure, self.count + other.count, self.share)


@dataclass(frozen=True)
class Figure:
    """A measured value with its 95% interval: of ``n`` things on ``prompts`` prompts (or random groups of prompts).

    ``value`` is None where it is not defined, ``low`` and ``high`` where there is no spread to tell them from.
    """

    value: float | None
    low: float | None
    high: float | None
    n: int
    prompts: int


def per_cluster(values: npt.ArrayLike, cluster: Ints, size: int) -> Floats:
    """The sum [size] of the values [n] in each cluster."""
    return np.bincount(cluster, np.asarray(values, dtype=np.float64), size).astype(np.float64)


def ratio(numerator: Floats, denominator: Floats, count: int, *, share: bool = True) -> Sums:
    """The sums of a share, or of a mean of any values: two columns [clusters]."""
    return Sums(np.column_stack([numerator, denominator]), _quotient, count, share)


def _quotient(totals: Floats) -> Floats:
    nan = np.full(totals.shape[:-1], np.nan)
    result: Floats = np.divide(totals[..., 0], totals[..., 1], out=nan, where=totals[..., 1] > 0)
    return result


class Clusters:
    """The clusters of prompts: each one, or random groups of equal size where there are more than ``most``.

    Called with prompts [n], gives the cluster [n] of each; a prompt that is not known is in some cluster, as it adds
    nothing.
    """

    def __init__(self, prompts: Ints, seed: int, most: int | None = None) -> None:
        self._names = prompts if (np.diff(prompts) > 0).all() else np.unique(prompts)
        self.size = min(len(self._names), most or MAX_CLUSTERS)
        self.grouped = len(self._names) > self.size
        self._group = np.arange(len(self._names))
        if self.grouped:
            self._group = np.random.default_rng(seed).permutation(len(self._names)) % self.size

    def __call__(self, prompts: Ints) -> Ints:
        """The cluster of each prompt."""
        place = np.minimum(np.searchsorted(self._names, prompts), len(self._names) - 1)
        return self._group[place]


def estimates(sums: Mapping[Name, Sums], *, resamples: int, seed: int) -> dict[Name, Figure]:
    """Each figure with its interval; all are computed on the same draws of clusters.

    Args:
        sums: by name, all with the same clusters; at least one is not zero everywhere.
        resamples: how many draws.
        seed: of the draws.
    """
    parts = {id(one.values): one.values for one in sums.values()}  # several figures may be made of the same sums
    matrix = np.concatenate(list(parts.values()), axis=1)
    ends = np.cumsum([part.shape[1] for part in parts.values()])
    of_part = {which: slice(end - parts[which].shape[1], end) for which, end in zip(parts, ends, strict=True)}
    columns = {name: of_part[id(one.values)] for name, one in sums.items()}
    matrix = matrix[(matrix != 0).any(axis=1)]
    rng, size = np.random.default_rng(seed), len(matrix)
    drawn: dict[Name, list[Floats]] = {name: [] for name in sums}
    for start in range(0, resamples, _CHUNK):
        rows = min(_CHUNK, resamples - start)
        picks = rng.integers(0, size, (rows, size)) + np.arange(rows)[:, None] * size
        times = np.bincount(picks.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float64)
        totals = times @ matrix
        for name, one in sums.items():
            drawn[name].append(one.figure(totals[:, columns[name]]))
    return {name: _figure(one, np.concatenate(drawn[name])) for name, one in sums.items()}


def _figure(sums: Sums, drawn: Floats) -> Figure:
    taking_part = sums.values[(sums.values != 0).any(axis=1)]
    size = len(taking_part)
    total = sums.values.sum(axis=0)
    value = float(sums.figure(total))
    if not math.isfinite(value):
        return Figure(None, None, None, sums.count, size)
    defined = drawn[np.isfinite(drawn)]
    # A figure that one draw in twenty leaves undefined has no interval at 95%.
    enough = size > 1 and len(defined) > 0.95 * len(drawn)
    if enough and np.ptp(defined) > 1e-12:
        low, high = bca(value, defined, sums.figure(total - taking_part), size)
    elif sums.share and size:
        low, high = wilson(value, size)
    else:
        return Figure(value, None, None, sums.count, size)
    return Figure(value, low, high, sums.count, size)


def bca(value: float, drawn: Floats, without_one: Floats, size: int) -> tuple[float, float]:
    """The BCa interval of a value with expanded levels, from drawn values [resamples], the values without one cluster
    [clusters], and the number of clusters.

    Source: Efron 1987, doi:10.1080/01621459.1987.10478410; the levels, Hesterberg 2015,
    doi:10.1080/00031305.2015.1089789, section 5.3.
    """
    from scipy.special import ndtr, ndtri, stdtrit

    count = len(drawn)
    below = (np.sum(drawn < value - 1e-12) + np.sum(drawn <= value + 1e-12)) / 2 / count
    bias = float(ndtri(np.clip(below, 0.5 / count, 1 - 0.5 / count)))
    left_out = without_one[np.isfinite(without_one)]
    pulls = left_out.mean() - left_out if len(left_out) else np.zeros(1)
    spread = float((pulls**2).sum())
    acceleration = float((pulls**3).sum()) / (6 * spread**1.5) if spread > 0 else 0.0
    reach = float(stdtrit(size - 1, 1 - TAIL)) * math.sqrt(size / (size - 1))
    levels = []
    for end in (-reach, reach):
        moved = bias + end
        stretched = 1 - acceleration * moved
        # Past the pole of the correction everything lies on one side.
        levels.append(float(ndtr(bias + moved / stretched)) if stretched > 0 else float(end > 0))
    low, high = np.quantile(drawn, levels)
    return float(min(low, value)), float(max(high, value))


def wilson(share: float, n: float) -> tuple[float, float]:
    """Wilson's 95% interval of a share of ``n`` independent observations.

    Source: Wilson 1927, doi:10.1080/01621459.1927.10502953.
    """
    z = 1.959963984540054
    centre, reach = share + z * z / (2 * n), z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, (centre - reach) / (1 + z * z / n)), min(1.0, (centre + reach) / (1 + z * z / n))
