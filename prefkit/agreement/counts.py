"""The coefficients of counts, as sums over prompts.

Reads   two raters' tables by cluster of prompts, or how many raters chose what for each unit
Gives   Sums by name of coefficient; ``coefficients.py`` has the formulas

Both ways give the same where two raters answered everything. A unit with one rater says nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from prefkit.agreement.coefficients import (
    Floats,
    cohen_kappa,
    coincidences,
    fleiss_kappa,
    gwet,
    gwet_from_sums,
    identity_weights,
    krippendorff_alpha,
    linear_weights,
    ordinal_alpha,
    quadratic_weights,
    unit_sums,
)
from prefkit.resampling import Ints, Sums, per_cluster, ratio


def coefficients_of(tables: Floats, possible: Floats, *, ordered: bool) -> dict[str, Sums]:
    """The coefficients of two raters' tables [clusters, q²]; ``ordered`` adds those that count near misses."""
    q, n = len(possible), int(tables.sum())
    same = identity_weights(q)

    def of(coefficient: Callable[[Floats], Floats]) -> Sums:
        return Sums(tables, lambda totals: coefficient(totals.reshape(*totals.shape[:-1], q, q)), n)

    def alpha(weights: Floats) -> Sums:
        return of(lambda table: krippendorff_alpha(table + table.swapaxes(-1, -2), 1 - weights))

    diagonal = tables.reshape(-1, q, q)[:, range(q), range(q)].sum(axis=1)
    found = {
        "exact": ratio(diagonal, tables.sum(axis=1), n),
        "kappa": of(lambda table: cohen_kappa(table, same)),
        "ac1": of(lambda table: gwet(table, same)),
        "alpha_nominal": alpha(same),
    }
    if ordered:
        linear, near = linear_weights(possible), quadratic_weights(possible)
        found |= {
            "linear_kappa": of(lambda table: cohen_kappa(table, linear)),
            "weighted_kappa": of(lambda table: cohen_kappa(table, near)),
            "ac2": of(lambda table: gwet(table, near)),
            "alpha_ordinal": of(lambda table: ordinal_alpha(table + table.swapaxes(-1, -2))),
            "alpha_interval": alpha(near),
        }
    return found


def among(counts: Floats, possible: Floats, cluster: Ints, size: int, *, ordered: bool) -> dict[str, Sums]:
    """Agreement among any number of raters; a unit with one says nothing.

    Args:
        counts: [units, q], how many raters chose each category.
        possible: [q] values of the categories.
        cluster: [units].
        size: how many clusters there are.
        ordered: whether a near miss is better than a far one.
    """
    several, q = int((counts.sum(axis=1) > 1).sum()), len(possible)
    if not several:
        return {}
    same = identity_weights(q)
    sums = _by_cluster(unit_sums(counts, same), cluster, size)
    pairs = _by_cluster(coincidences(counts).reshape(-1, q * q), cluster, size)

    def alpha(coefficient: Callable[[Floats], Floats]) -> Sums:
        return Sums(pairs, lambda totals: coefficient(totals.reshape(*totals.shape[:-1], q, q)), several)

    found = {
        "exact": ratio(sums[:, 0], sums[:, 1], several),
        "fleiss": Sums(sums, lambda totals: fleiss_kappa(totals, same), several),
        "ac1": Sums(sums, lambda totals: gwet_from_sums(totals, same), several),
        "alpha_nominal": alpha(lambda table: krippendorff_alpha(table, 1 - same)),
    }
    if ordered:
        near = quadratic_weights(possible)
        weighted = _by_cluster(unit_sums(counts, near), cluster, size)
        found |= {
            "ac2": Sums(weighted, lambda totals: gwet_from_sums(totals, near), several),
            "alpha_interval": alpha(lambda table: krippendorff_alpha(table, 1 - near)),
        }
    if ordered or q > 2:
        found["alpha_ordinal"] = alpha(ordinal_alpha)
    return found


def _by_cluster(values: Floats, cluster: Ints, size: int) -> Floats:
    return np.column_stack([per_cluster(column, cluster, size) for column in values.T])
