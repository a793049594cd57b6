"""Agreement beyond chance, from counts: Cohen's and Fleiss' kappa, Gwet's AC1 and AC2, Krippendorff's alpha.

Reads   how often raters chose which category: a table of two raters, or counts a unit for any number of raters
Gives   coefficients; 1 is perfect agreement, 0 what chance would give, NaN where chance is not defined

Each coefficient is a function of sums over units, so that a bootstrap has only to add up other units. Every function
takes leading axes: [..., q, q] gives [...]. Two raters' table is all that a judge and people need; people among
themselves are any number of raters with gaps, for which ``unit_sums`` and ``coincidences`` make the sums. No maintained
library has AC1 and AC2 (irrCAC pins old versions); kappa is scikit-learn's formula, alpha that of the package
krippendorff, both over a leading axis. Scores without categories are for ``intraclass.py``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def identity_weights(categories: int) -> Floats:
    """Weights [q, q] under which only the same category agrees."""
    return np.eye(categories)


def quadratic_weights(values: Floats) -> Floats:
    """Weights [q, q] of ordered categories with these values: 1 - (difference / largest difference)²."""
    spread = float(values.max() - values.min()) if len(values) > 1 else 1.0
    result: Floats = 1 - ((values[:, None] - values[None, :]) / spread) ** 2
    return result


def linear_weights(values: Floats) -> Floats:
    """Weights [q, q] of ordered categories with these values: 1 - difference / largest difference."""
    spread = float(values.max() - values.min()) if len(values) > 1 else 1.0
    result: Floats = 1 - np.abs(values[:, None] - values[None, :]) / spread
    return result


def observed_agreement(table: Floats, weights: Floats) -> Floats:
    """Weighted share [...] of a table [..., q, q] on which two raters agree."""
    return _divided((table * weights).sum((-2, -1)), table.sum((-2, -1)))


def cohen_kappa(table: Floats, weights: Floats) -> Floats:
    """Cohen's kappa [...] of two raters with their own margins.

    Source: Cohen 1960, doi:10.1177/001316446002000104; weighted, Cohen 1968, doi:10.1037/h0026256.
    """
    total = table.sum((-2, -1))
    rows, columns = table.sum(-1), table.sum(-2)
    expected = _divided(np.einsum("...k,kl,...l->...", rows, weights, columns), total**2)
    return _beyond(observed_agreement(table, weights), expected)


def gwet(table: Floats, weights: Floats) -> Floats:
    """Gwet's AC [...] of two raters: AC1 with identity weights, AC2 with others."""
    total = table.sum((-2, -1))
    shares = (table.sum(-1) + table.sum(-2)) / 2
    sums = np.concatenate(
        [(table * weights).sum((-2, -1))[..., None], total[..., None], shares, total[..., None]], axis=-1
    )
    return gwet_from_sums(sums, weights)


def unit_sums(counts: Floats, weights: Floats) -> Floats:
    """What each unit adds to Gwet's AC for any number of raters, some of them missing.

    Args:
        counts: [units, q], how many raters chose each category for each unit.
        weights: [q, q].

    Returns:
        [units, q + 3]: agreement within the unit, 1 if it has two raters, the share of each category, 1 if it has one.
    """
    raters = counts.sum(-1)
    pairs = raters * (raters - 1)
    agreeing = (counts * (counts @ weights - 1)).sum(-1)
    within = np.divide(agreeing, pairs, out=np.zeros_like(agreeing), where=pairs > 0)
    shares = np.divide(counts, raters[:, None], out=np.zeros_like(counts), where=raters[:, None] > 0)
    return np.column_stack([within, (raters > 1).astype(float), shares, (raters > 0).astype(float)])


def gwet_from_sums(sums: Floats, weights: Floats) -> Floats:
    """Gwet's AC [...] from the total [..., q + 3] of ``unit_sums``.

    p_e = T_w / (q (q - 1)) · Σ π_k (1 - π_k), where T_w is the sum of the weights.

    Source: Gwet 2008, doi:10.1348/000711006X126600; with weights and missing values, Gwet 2014, Handbook of Inter-Rater
    Reliability, 4th edition, chapters 2 and 4.
    """
    categories = len(weights)
    if categories < 2:
        return np.full(sums.shape[:-1], np.nan)
    observed = _divided(sums[..., 0], sums[..., 1])
    shares = _divided(sums[..., 2:-1], sums[..., -1:])
    expected = weights.sum() / (categories * (categories - 1)) * (shares * (1 - shares)).sum(-1)
    return _beyond(observed, expected)


def fleiss_kappa(sums: Floats, weights: Floats) -> Floats:
    """Fleiss' kappa [...] from the total [..., q + 3] of ``unit_sums``: chance from all raters' common margins.

    Units may have different numbers of raters; where all have the same it is Fleiss' own.

    Source: Fleiss 1971, doi:10.1037/h0031619; with missing values, Gwet 2014, Handbook of Inter-Rater Reliability, 4th
    edition, chapter 2.
    """
    shares = _divided(sums[..., 2:-1], sums[..., -1:])
    expected = np.einsum("...k,kl,...l->...", shares, weights, shares)
    return _beyond(_divided(sums[..., 0], sums[..., 1]), expected)


def coincidences(counts: Floats) -> Floats:
    """How often two answers to one unit were a category and another, as Krippendorff counts it: each unit weighs as
    many answers as it has.

    Args:
        counts: [units, q], how many raters chose each category.

    Returns:
        [units, q, q]: zero for a unit with one rater; else the sum is its number of raters.
    """
    raters = counts.sum(-1)
    pairs = counts[:, :, None] * counts[:, None, :]
    diagonal = np.arange(counts.shape[1])
    pairs[:, diagonal, diagonal] -= counts
    result: Floats = pairs / np.where(raters > 1, raters - 1, 1)[:, None, None]
    return result


def ordinal_distances(margins: Floats) -> Floats:
    """Krippendorff's squared distances [..., q, q] of ordered categories: how many answers lie between two of them.

    Args:
        margins: [..., q], how often each category was given, in their order.
    """
    middles = margins.cumsum(-1) - margins / 2
    result: Floats = (middles[..., :, None] - middles[..., None, :]) ** 2
    return result


def krippendorff_alpha(pairs: Floats, distances: Floats) -> Floats:
    """Krippendorff's alpha [...] from the total [..., q, q] of ``coincidences``.

    Args:
        pairs: the coincidences; for two raters without gaps, their table plus its transpose.
        distances: squared [q, q] or [..., q, q]. 1 - identity weights give the nominal alpha, 1 - quadratic ones the
            interval alpha, ``ordinal_distances`` of the margins the ordinal alpha.

    Source: Krippendorff 2011, Computing Krippendorff's Alpha-Reliability,
    https://repository.upenn.edu/asc_papers/43.
    """
    margins = pairs.sum(-1)
    by_chance = np.einsum("...k,...kl,...l->...", margins, distances, margins)
    return 1 - _divided((pairs * distances).sum((-2, -1)) * (margins.sum(-1) - 1), by_chance)


def ordinal_alpha(pairs: Floats) -> Floats:
    """Krippendorff's ordinal alpha [...] from the total [..., q, q] of ``coincidences``."""
    return krippendorff_alpha(pairs, ordinal_distances(pairs.sum(-1)))


def _beyond(observed: Floats, expected: Floats) -> Floats:
    return _divided(observed - expected, 1 - expected)


def _divided(numerator: Floats, denominator: Floats) -> Floats:
    """A quotient that is NaN, without a warning, where nothing stands below; sums of many floats count as nothing
    below 1e-12."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    nan = np.full(numerator.shape, np.nan)
    result: Floats = np.divide(numerator, denominator, out=nan, where=np.abs(denominator) > 1e-12)
    return result
