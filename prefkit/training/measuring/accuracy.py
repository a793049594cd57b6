"""Which side a reward puts first, as sums over prompts.

Reads   a Table, margins: reward of the chosen minus that of the rejected side [pairs]
Gives   Sums, of which ``resampling.estimates`` makes figures with intervals

A pair that the labels leave tied is in none of these; a margin of exactly zero counts as half right, so that a reward
which says nothing is at one half.

Matched: within pairs alike in some respect (the same two policies; as different in length), as many that go one way as
the other. What a reward gets right only because it knows the longer side, or the policy that mostly wins, is one half
there: its share is what it knows besides.
"""

from __future__ import annotations

import numpy as np

from prefkit.resampling import Clusters, Floats, Ints, Sums, per_cluster, ratio
from prefkit.training.measuring.table import UNKNOWN, Bools, Table

AUC_BINS = 256
LENGTH_EDGES = (0.05, 0.1, 0.2, 0.3, 0.45, 0.6)
"""Of the difference in length, as a share of the longer side: where strata of pairs as different begin."""
MAX_STRATA = 300


def hits(margin: Floats) -> Floats:
    """1 where the chosen side is put first, 0.5 where neither, else 0."""
    result: Floats = (np.sign(margin) + 1) / 2
    return result


class Counting:
    """Sums over the clusters of a table's prompts.

    Args:
        table: of pairs.
        seed: of the clusters, where there are more prompts than are drawn.
    """

    def __init__(self, table: Table, seed: int = 0) -> None:
        self.table = table
        self.clusters = Clusters(table.prompt, seed)
        self.cluster = self.clusters(table.prompt)
        self.size = self.clusters.size

    def sums(self, values: Floats, kept: Bools) -> Floats:
        """The sum [clusters] of values [pairs] over the pairs kept."""
        return per_cluster(values[kept], self.cluster[kept], self.size)

    def share(self, values: Floats, kept: Bools) -> Sums:
        """The mean of values between 0 and 1 over the pairs kept."""
        return ratio(self.sums(values, kept), self.sums(np.ones(len(values)), kept), int(kept.sum()))

    def mean(self, values: Floats, kept: Bools) -> Sums:
        """The mean of any values over the pairs kept."""
        sums = self.sums(values, kept), self.sums(np.ones(len(values)), kept)
        return ratio(*sums, int(kept.sum()), share=False)

    def accuracy(self, margin: Floats, kept: Bools | None = None) -> Sums:
        """The share of decided pairs whose preferred side is put first."""
        return self.share(hits(margin), self.table.decided if kept is None else kept & self.table.decided)

    def auc(self, margin: Floats) -> Sums:
        """The sums of ``auc`` with margins thrown into bins of equal numbers of pairs."""
        kept = self.table.decided
        size = np.abs(margin[kept])
        edges = np.unique(np.quantile(size[size > 0], np.linspace(0, 1, AUC_BINS)[1:-1])) if size.any() else size[:0]
        half = len(edges) + 1
        places = np.searchsorted(edges, size, side="right") + 1
        signed = half + np.where(size > 0, places, 0) * np.sign(margin[kept]).astype(np.int64)
        columns = 2 * half + 1
        cells = self.cluster[kept] * columns + signed
        counts = np.bincount(cells, minlength=self.size * columns).reshape(self.size, columns).astype(np.float64)
        return Sums(counts, _auc_of_counts, int(kept.sum()), share=True)

    def matched(self, margin: Floats, stratum: Ints, forth: Bools, kept: Bools) -> Sums | None:
        """The accuracy with as many pairs that go forth as back in each stratum; None where none has both.

        Args:
            margin: [pairs].
            stratum: [pairs], numbers of what pairs have in common.
            forth: [pairs], one of the two ways they may go.
            kept: [pairs], those that are in a stratum.
        """
        kept = kept & self.table.decided
        both = np.intersect1d(stratum[kept & forth], stratum[kept & ~forth])
        if len(both) > MAX_STRATA:
            often = np.asarray([int((stratum[kept] == one).sum()) for one in both])
            both = np.sort(both[np.argsort(-often, kind="stable")[:MAX_STRATA]])
        kept = kept & np.isin(stratum, both)
        if not kept.any():
            return None
        place = np.searchsorted(both, stratum[kept]) * 2 + forth[kept]
        columns = 2 * len(both)
        cells = self.cluster[kept] * columns + place
        shape = (self.size, columns)
        counts = np.bincount(cells, minlength=self.size * columns).reshape(shape)
        right = np.bincount(cells, hits(margin[kept]), self.size * columns).reshape(shape)
        return Sums(np.concatenate([counts, right], axis=1).astype(np.float64), _balanced, int(kept.sum()), share=True)

    def length_matched(self, margin: Floats) -> Sums | None:
        """The accuracy with as many chosen sides longer as shorter, by how different the two are in length."""
        relative = relative_length(self.table)
        return self.matched(margin, np.searchsorted(LENGTH_EDGES, np.abs(relative)), relative > 0, relative != 0)

    def policy_matched(self, margin: Floats) -> Sums | None:
        """The accuracy with each of two policies chosen as often as the other."""
        stratum, forth, kept = policy_pairs(self.table)
        return self.matched(margin, stratum, forth, kept)

    def correlation(self, x: Floats, y: Floats) -> Sums:
        """Pearson's correlation of values of responses; those whose ``x`` is NaN are left out."""
        known = np.isfinite(x)
        cluster, x, y = self.clusters(self.table.owner[known]), x[known], y[known]
        x, y = x - x.mean(), y - y.mean()
        parts = (np.ones(len(x)), x, y, x * x, y * y, x * y)
        sums = np.column_stack([per_cluster(part, cluster, self.size) for part in parts])
        return Sums(sums, _pearson, len(x))

    def within_prompts(self, x: Floats, y: Floats) -> Sums:
        """The same of the deviations from the mean of the prompt."""
        known = np.isfinite(x)
        return self.correlation(_centred(x, self.table.owner, known), _centred(y, self.table.owner, known))


def auc(margin: Floats) -> float:
    """The area under the curve of pairs shown in both orders: how often one pair's margin beats another's turned round.

    Args:
        margin: of decided pairs; not empty.

    Returns:
        The share of ordered couples of pairs (i, j) with margin[i] > -margin[j], ties half: what scikit-learn's
        ``roc_auc_score`` gives for each pair once as it is (1) and once turned round (0).
    """
    turned = np.sort(-margin)
    below = (np.searchsorted(turned, margin, "left") + np.searchsorted(turned, margin, "right")) / 2
    return float(below.mean() / len(margin))


def relative_length(table: Table) -> Floats:
    """How much longer the chosen side is [pairs], as a share of the longer one: from -1 to 1."""
    longest = np.maximum(table.length[table.chosen], table.length[table.rejected])
    result: Floats = table.longer / np.maximum(longest, 1)
    return result


def policy_pairs(table: Table) -> tuple[Ints, Bools, Bools]:
    """The number of the unordered couple of policies [pairs], whether the first of them is chosen, and whether both are
    known and differ."""
    chosen, rejected = table.policy[table.chosen], table.policy[table.rejected]
    known = np.asarray([name != UNKNOWN for name in table.policies])
    number = np.minimum(chosen, rejected) * len(table.policies) + np.maximum(chosen, rejected)
    return number, chosen < rejected, known[chosen] & known[rejected] & (chosen != rejected)


def _auc_of_counts(totals: Floats) -> Floats:
    turned = totals[..., ::-1]
    below = np.cumsum(turned, axis=-1) - turned / 2
    number = totals.sum(axis=-1)
    nan = np.full(number.shape, np.nan)
    result: Floats = np.divide((totals * below).sum(axis=-1), number**2, out=nan, where=number > 0)
    return result


def _balanced(totals: Floats) -> Floats:
    """Counts and hits of two ways in each stratum; strata weigh what the rarer way has."""
    half = totals.shape[-1] // 2
    counts, right = totals[..., :half], totals[..., half:]
    share = np.divide(right, counts, out=np.zeros_like(right), where=counts > 0)
    weight = np.minimum(counts[..., 0::2], counts[..., 1::2])
    number = weight.sum(axis=-1)
    nan = np.full(number.shape, np.nan)
    total = (weight * (share[..., 0::2] + share[..., 1::2]) / 2).sum(axis=-1)
    result: Floats = np.divide(total, number, out=nan, where=number > 0)
    return result


def _pearson(totals: Floats) -> Floats:
    n, x, y, xx, yy, xy = np.moveaxis(totals, -1, 0)
    spread = np.maximum(n * xx - x * x, 0) * np.maximum(n * yy - y * y, 0)
    nan = np.full(spread.shape, np.nan)
    result: Floats = np.divide(n * xy - x * y, np.sqrt(spread), out=nan, where=spread > 1e-18 * (n * n) ** 2)
    return result


def _centred(values: Floats, owner: Ints, known: Bools) -> Floats:
    size = int(owner.max()) + 1
    means = np.bincount(owner[known], values[known], size) / np.maximum(np.bincount(owner[known], minlength=size), 1)
    result: Floats = values - means[owner]
    return result
