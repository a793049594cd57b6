"""Estimates with intervals that hold when verdicts come in clusters, a prompt's verdicts being a cluster.

Spread is found by leaving out one prompt at a time (the jackknife), which needs no model of how verdicts about one
prompt hang together. Three corrections keep the intervals honest where data are few; ``benchmarks/audit.py`` measures
what they hold:

- Shares get a Wilson interval for the number of independent verdicts that would spread as much (n divided by the
  design effect), with Student's t: it stays inside 0 to 1 and does not collapse where nearly all verdicts are alike.
- Degrees of freedom follow from the fourth moment of what single prompts contribute, and are never more than the
  effective number of prompts less one: where three prompts of sixty hold all events, the spread is known from three.
- A spread smaller than that of independent verdicts is pulled towards it by the weight of four prompts, so that ten
  pairs in which a judge happened to contradict itself nowhere do not count as a proof. A larger one is left alone.

Where all verdicts are the same, a prompt counts as one verdict.

The p-value is that of the interval: a null value at its border has 0.05.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.special import stdtr, stdtrit

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95
POWER = 0.8
PRIOR_PROMPTS = 4
"""The weight with which too small a spread is pulled up. With none of n both-order pairs flipped it gives about the
rule of three."""


@dataclass(frozen=True)
class Estimate:
    """A number with what is known of its error.

    ``low`` and ``high`` are None where there is no interval (one prompt), ``p`` where there is no null value.
    ``smallest`` is the effect seen with 80% power at a level of 5%, a distance from the null value; None where even the
    largest possible effect would be missed too often.
    """

    value: float
    low: float | None
    high: float | None
    n: int
    prompts: int
    null: float | None = None
    p: float | None = None
    smallest: float | None = None


def share(hits: Floats, prompt: Ints, null: float | None = None) -> Estimate:
    """The mean of values from 0 to 1, such as a share of verdicts.

    Args:
        hits: shape (n,), 0 to 1.
        prompt: which prompt each is about, shape (n,), any integers.
        null: the value if there were nothing to find, inside 0 to 1.

    Raises:
        ValueError: there are no hits.

    Source: effective sample sizes for survey proportions, Korn & Graubard 1998, Survey Methodology 24(2); the interval,
    Wilson 1927, doi:10.1080/01621459.1927.10502953.
    """
    sizes, (sums,) = _by_prompt(prompt, hits)
    return share_of_counts(sums, sizes, null)


def share_of_counts(sums: Floats, sizes: Floats, null: float | None = None) -> Estimate:
    """The same from each prompt's hits and number of values, both of shape (prompts,), sizes above 0."""
    n, prompts = int(sizes.sum()), len(sizes)
    value = float(sums.sum() / n)
    if prompts < 2:
        return Estimate(value, None, None, n, prompts, null)
    binomial = value * (1 - value) / n
    spread = _spread((sums.sum() - sums) / (n - sizes) - value, sizes)
    alike = float((sizes**2).sum() / n)
    effect = _pulled_up(spread.variance / binomial, 1.0, prompts) if binomial > 0 else alike
    t, worth = spread.quantile((1 + CONFIDENCE) / 2), n / effect
    centre = (value + t**2 / 2 / worth) / (1 + t**2 / worth)
    half = t / (1 + t**2 / worth) * math.sqrt(value * (1 - value) / worth + t**2 / 4 / worth**2)
    estimate = Estimate(value, max(0.0, centre - half), min(1.0, centre + half), n, prompts)
    return (
        estimate
        if null is None
        else _tested(estimate, value, null, math.sqrt(null * (1 - null) / worth), spread, most=max(null, 1 - null))
    )


def difference(values: Floats, prompt: Ints, reach: float = 1.0) -> Estimate:
    """The mean of values from ``-reach`` to ``reach``, held against 0.

    Args:
        values: shape (n,).
        prompt: which prompt each is about, shape (n,).
        reach: the largest value there can be.

    Raises:
        ValueError: there are no values.
    """
    sizes, (sums,) = _by_prompt(prompt, values)
    n, prompts = len(values), len(sizes)
    value = float(sums.sum() / n)
    if prompts < 2:
        return Estimate(value, None, None, n, prompts, 0.0)
    spread = _spread((sums.sum() - sums) / (n - sizes) - value, sizes)
    error = math.sqrt(_pulled_up(spread.variance, (reach / 2) ** 2 / n, prompts))
    half = spread.quantile((1 + CONFIDENCE) / 2) * error
    estimate = Estimate(value, max(-reach, value - half), min(reach, value + half), n, prompts)
    return _tested(estimate, value, 0.0, error, spread, most=reach)


def correlation(x: Floats, y: Floats, prompt: Ints) -> Estimate | None:
    """Pearson's correlation within prompts, held against 0; None where one of the two never varies within a prompt.

    Args:
        x, y: shape (n,).
        prompt: which prompt each is about, shape (n,); its mean is taken off both.
    """
    sizes, (sum_x, sum_y) = _by_prompt(prompt, x, y)
    code = np.unique(prompt, return_inverse=True)[1]
    dx, dy = x - (sum_x / sizes)[code], y - (sum_y / sizes)[code]
    _, (xx, yy, xy) = _by_prompt(prompt, dx * dx, dy * dy, dx * dy)
    varied = sizes > 1
    xx, yy, xy, sizes = xx[varied], yy[varied], xy[varied], sizes[varied]
    if len(sizes) < 3 or not (_positive(xx.sum() - xx) and _positive(yy.sum() - yy)):
        return None

    def fisher(parts: Floats, others: Floats, both: Floats) -> Floats:
        return np.arctanh(np.clip(both / np.sqrt(parts * others), -1 + 1e-9, 1 - 1e-9))

    z = float(fisher(xx.sum(), yy.sum(), xy.sum()))
    without = fisher(xx.sum() - xx, yy.sum() - yy, xy.sum() - xy)
    return jackknifed(z, without, sizes, back=math.tanh, null=0.0)


def slope(x: Floats, won: Floats, prompt: Ints) -> Estimate | None:
    """The slope of a logistic regression of winning on ``x`` beside a constant, held against 0: log-odds a unit of x.

    None where x tells the winner without error, or nearly so, since then no slope fits.

    Args:
        x: shape (n,).
        won: 0 or 1, shape (n,).
        prompt: which prompt each is about, shape (n,).

    Source: one Newton step for each prompt left out, Pregibon 1981, doi:10.1214/aos/1176345513.
    """
    design = np.stack([np.ones_like(x), x], axis=1)
    at = np.zeros(2)
    for _ in range(30):
        chance = 1 / (1 + np.exp(-np.clip(design @ at, -30, 30)))
        weight = chance * (1 - chance)
        information = design.T @ (design * weight[:, None])
        if np.linalg.cond(information) > 1e10:
            return None
        step = np.linalg.solve(information, design.T @ (won - chance))
        at = at + step
        if np.abs(step).max() < 1e-9:
            break
    else:
        return None
    if abs(at[1]) > 15:
        return None
    rest = won - chance
    sizes, (s0, s1, a00, a01, a11) = _by_prompt(prompt, rest, rest * x, weight, weight * x, weight * x * x)
    if len(sizes) < 3:
        return None
    b00, b01, b11 = information[0, 0] - a00, information[0, 1] - a01, information[1, 1] - a11
    determinant = b00 * b11 - b01**2
    if not _positive(determinant / (information[0, 0] * information[1, 1])):
        return None
    without = at[1] - (b00 * s1 - b01 * s0) / determinant
    return jackknifed(float(at[1]), without, sizes, null=0.0)


def jackknifed(
    value: float,
    without: Floats,
    sizes: Floats,
    *,
    back: Callable[[float], float] = float,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    null: float | None = None,
) -> Estimate:
    """An estimate from its values without one prompt at a time.

    Args:
        value: of all prompts, on a scale where errors are about even on both sides.
        without: the same without each prompt, shape (prompts,).
        sizes: how many values each prompt brings, shape (prompts,).
        back: from that scale to the one that is reported.
        bounds: the range of what is reported.
        null: on the scale of ``value``.
    """
    spread = _spread(without - value, sizes)
    error = math.sqrt(spread.variance)
    half = spread.quantile((1 + CONFIDENCE) / 2) * error
    low, high = max(bounds[0], back(value - half)), min(bounds[1], back(value + half))
    estimate = Estimate(back(value), low, high, int(sizes.sum()), len(sizes))
    return estimate if null is None else _tested(estimate, value, null, error, spread, back)


def discoveries(p_values: Sequence[float]) -> list[float]:
    """The q-value of each p-value: the smallest false-discovery rate at which it counts as a discovery.

    >>> discoveries([0.01, 0.04, 0.03, 0.5])
    [0.04, 0.05333333333333334, 0.05333333333333334, 0.5]

    Source: Benjamini & Hochberg 1995, doi:10.1111/j.2517-6161.1995.tb02031.x.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p, kind="stable")
    scaled = p[order] * len(p) / np.arange(1, len(p) + 1)
    q = np.empty(len(p))
    q[order] = np.minimum(1.0, np.minimum.accumulate(scaled[::-1])[::-1])
    return [float(value) for value in q]


@dataclass(frozen=True)
class _Spread:
    variance: float
    freedom: float

    def quantile(self, chance: float) -> float:
        return float(stdtrit(self.freedom, chance))


def _spread(shifts: Floats, sizes: Floats) -> _Spread:
    """Jackknife variance, and the degrees of freedom with which it is known.

    Args:
        shifts: what leaving out each prompt does to the estimate, shape (prompts,).
        sizes: values of each prompt, shape (prompts,).
    """
    prompts = len(shifts)
    squares = shifts**2
    variance = float((prompts - 1) / prompts * squares.sum())
    freedom = float(sizes.sum() ** 2 / (sizes**2).sum()) - 1
    total = float(squares.sum())
    if total > 0:
        unevenness = float(((squares / total) ** 2).sum()) - 1 / prompts
        freedom = min(freedom, 2 / unevenness) if unevenness > 0 else freedom
    return _Spread(variance, max(1.0, freedom))


def _pulled_up(found: float, independent: float, prompts: int) -> float:
    return max(found, (found * prompts + independent * PRIOR_PROMPTS) / (prompts + PRIOR_PROMPTS))


def _tested(
    estimate: Estimate,
    value: float,
    null: float,
    error: float,
    spread: _Spread,
    back: Callable[[float], float] = float,
    most: float = math.inf,
) -> Estimate:
    p = float(value == null)
    if error > 0:
        p = float(2 * stdtr(spread.freedom, -abs(value - null) / error))
    smallest = back(null + error * (spread.quantile((1 + CONFIDENCE) / 2) + spread.quantile(POWER))) - back(null)
    return replace(estimate, null=back(null), p=p, smallest=smallest if smallest <= most else None)


def _by_prompt(prompt: Ints, *columns: Floats) -> tuple[Floats, list[Floats]]:
    """The number of rows of each prompt, and the columns' sums over them."""
    if not len(prompt):
        raise ValueError("nothing to estimate from: the mean over none is undefined")
    code = np.unique(prompt, return_inverse=True)[1]
    return np.bincount(code).astype(float), [sums_by(code, column) for column in columns]


def sums_by(group: Ints, values: Floats | Ints) -> Floats:
    """Sums of values [n] over groups numbered from 0, shape (groups,)."""
    return np.bincount(group, values).astype(np.float64)


def _positive(values: Floats) -> bool:
    return bool((values > 1e-12).all())
