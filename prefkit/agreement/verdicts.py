"""How far two sides' comparisons agree, as sums over prompts.

Reads   arrays of the verdicts of one annotator, and of those it is compared with
Gives   Agreement, as ``ratings.py`` does for ratings

What several people choose is what more of them say than anything else; where no answer leads they are split, and the
pair is left out. A judge's answer in each order is a question of its own: it is right or wrong, and the two may differ.
Where one side has only rated what the other compared, its ratings say which response it puts higher.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from prefkit.agreement.coefficients import Floats
from prefkit.agreement.counts import among, coefficients_of
from prefkit.agreement.judged import Bools, Ratings, Verdicts
from prefkit.agreement.ratings import Agreement, columns, places, share
from prefkit.resampling import Clusters, Ints, Sums, per_cluster
from prefkit.rubric import DECIMALS, Rubric

ORDERS = ("as_reference", "swapped")
SPLIT = 0.25


def verdicts_from_ratings(low: Ints, high: Ints, low_first: Bools, judge: Ratings, rubric: Rubric) -> Verdicts:
    """What an annotator's ratings say about pairs that others compared; pairs of which it rated one are left out."""
    order = np.argsort(judge.response, kind="stable")
    responses, scores = judge.response[order], columns(judge.scores, rubric)[order]
    left, right = places(responses, low), places(responses, high)
    both = np.flatnonzero((left >= 0) & (right >= 0))
    gap = np.round(scores[left[both]] - scores[right[both]], DECIMALS)
    return Verdicts(
        judge.prompt[order][left[both]],
        low[both],
        high[both],
        low_first[both],
        judge.annotator[order][left[both]],
        (np.sign(gap) + 1) / 2,
    )


class VerdictReference:
    """The verdicts of those one compares with, by two responses: votes for ``low``, for neither and for ``high``."""

    def __init__(self, verdicts: Verdicts) -> None:
        self.pairs, first, item = np.unique(pair_keys(verdicts), return_index=True, return_inverse=True)
        self.low_first = verdicts.low_first[first]
        self.prompt = verdicts.prompt[first]
        self.votes = np.zeros((len(self.pairs), 3, verdicts.wins.shape[1]), dtype=np.int16)
        self.ties = (verdicts.wins == 0.5).any(axis=0)
        self._own: dict[int, tuple[Ints, npt.NDArray[np.int8]]] = {}
        for annotator in np.unique(verdicts.annotator).tolist():
            rows = verdicts.annotator == annotator
            items, place = np.unique(item[rows], return_inverse=True)
            said = _ballots(_mean_of(verdicts.wins[rows], place, len(items)))
            self.votes[items] += said
            self._own[annotator] = items, said
        self.ties |= self.votes[:, 1].any(axis=0)

    def places(self, verdicts: Verdicts) -> Ints:
        """The index of each row's two responses, -1 where the reference has not compared them."""
        return places(self.pairs, pair_keys(verdicts))

    def choice(self, without: int | None = None) -> Floats:
        """What more of them say than anything else, as a win of ``low`` [pairs, 1 + principles]; 0.25 where no answer
        leads, NaN where nobody answered."""
        votes = self.votes.copy()
        if without in self._own:
            items, said = self._own[without]
            votes[items] -= said
        best = votes.max(axis=1)
        leading = (votes == best[:, None]).sum(axis=1)
        winner = 1 - votes.argmax(axis=1) / 2
        return np.where(best == 0, np.nan, np.where(leading > 1, SPLIT, winner))


def pair_keys(verdicts: Verdicts) -> Ints:
    """One number for two responses, as unlikely to meet another's as the digests that it is made of."""
    keys: Ints = verdicts.low * np.int64(0x1E3779B97F4A7C15) + verdicts.high
    return keys


def _ballots(wins: Floats) -> npt.NDArray[np.int8]:
    """Wins of ``low`` [n, columns] as votes [n, 3, columns] for low, neither and high; none where they are NaN."""
    return np.stack([wins > 0.5, wins == 0.5, wins < 0.5], axis=1).astype(np.int8)


def _mean_of(values: Floats, place: Ints, size: int) -> Floats:
    """The mean of the rows at each place, column by column, leaving out NaN."""
    means = np.full((size, values.shape[1]), np.nan)
    for column in range(values.shape[1]):
        known = ~np.isnan(values[:, column])
        count = np.bincount(place[known], minlength=size)
        total = np.bincount(place[known], values[known, column], size)
        means[:, column] = np.divide(total, count, out=means[:, column].copy(), where=count > 0)
    return means


def verdict_agreement(
    judge: Verdicts,
    reference: VerdictReference,
    cluster_of: Clusters,
    principles: Sequence[str],
    *,
    annotator: int | None = None,
) -> Agreement | None:
    """How far one annotator's comparisons agree with a reference's; None where they share no pair.

    Tables are counts [judge, reference] over the answers first, tie, second: the side that the reference was shown
    first. ``orders`` are the same figures for the questions that showed the judge that side first (``as_reference``)
    and second (``swapped``); ``between_orders`` is the table of those two.

    Args:
        judge: the annotator's verdicts.
        reference: those it is compared with.
        cluster_of: the clusters of prompts.
        principles: ids, in the order of the columns of wins.
        annotator: the index of the annotator in the reference, if it is one of them: it is then taken out of it.
    """
    at = reference.places(judge)
    choice = reference.choice(annotator)
    if not len(choice):
        return None
    compared = np.where((at >= 0)[:, None], choice[at], np.nan)
    if not (~np.isnan(compared) & (compared != SPLIT) & ~np.isnan(judge.wins)).any():
        return None
    turned = ~reference.low_first[at][:, None]
    judged = np.where(turned, 1 - judge.wins, judge.wins)
    split = compared == SPLIT
    compared = np.where(split, np.nan, np.where(turned, 1 - compared, compared))
    cluster, size = cluster_of(judge.prompt), cluster_of.size
    swapped = judge.low_first != reference.low_first[at]
    counts = Counter(
        {
            "questions": len(at),
            "questions that the reference was not asked": int((np.isnan(compared[:, 0]) & ~split[:, 0]).sum()),
            "questions on which the reference is split": int(split[:, 0].sum()),
            "questions that only the judge ties": int(
                ((judged[:, 0] == 0.5) & (np.abs(compared[:, 0] - 0.5) == 0.5)).sum()
            ),
            "questions that only the reference ties": int(
                ((np.abs(judged[:, 0] - 0.5) == 0.5) & (compared[:, 0] == 0.5)).sum()
            ),
            "questions that both tie": int(((judged[:, 0] == 0.5) & (compared[:, 0] == 0.5)).sum()),
        }
    )
    ties = reference.ties | (judged == 0.5).any(axis=0)
    found, tables = [], {}
    for column in range(1 + len(principles)):
        x, y = judged[:, column], compared[:, column]
        known = ~np.isnan(x) & ~np.isnan(y)
        sums, table = _verdict_sums(x[known], y[known], cluster[known], size, ties[column])
        pair_sums, between = _order_sums(x, y, at, swapped, cluster, size, ties[column])
        found.append(sums | pair_sums)
        if column == 0:
            tables = {"all": table, "between_orders": between}
    orders = {}
    for name, rows in zip(ORDERS, (~swapped, swapped), strict=True):
        known = rows & ~np.isnan(judged[:, 0]) & ~np.isnan(compared[:, 0])
        if known.any():
            orders[name], tables[name] = _verdict_sums(
                judged[known, 0], compared[known, 0], cluster[known], size, ties[0]
            )
    by_principle = {name: sums for name, sums in zip(principles, found[1:], strict=True) if sums}
    return Agreement(found[0], by_principle, counts, orders=orders, tables=tables)


def _tables(x: Floats, y: Floats, cluster: Ints, size: int) -> Floats:
    """Counts [clusters, 3, 3] of answers first, tie, second."""
    cells = np.rint(2 - 2 * x).astype(np.int64) * 3 + np.rint(2 - 2 * y).astype(np.int64)
    return np.bincount(cluster * 9 + cells, minlength=size * 9).reshape(size, 3, 3).astype(np.float64)


def _coefficients_of_verdicts(tables: Floats, ties: np.bool_) -> dict[str, Sums]:
    """Without the category tie where nobody ties anything."""
    used = [0, 1, 2] if ties else [0, 2]
    part = tables[:, used][:, :, used].reshape(len(tables), -1)
    return coefficients_of(part, np.asarray(used, dtype=np.float64), ordered=False)


def _verdict_sums(x: Floats, y: Floats, cluster: Ints, size: int, ties: np.bool_) -> tuple[dict[str, Sums], Floats]:
    """The figures of wins of the reference's first side: the judge's and the reference's, none NaN."""
    tables = _tables(x, y, cluster, size)
    if not len(x):
        return {}, tables.sum(axis=0)
    decided, right = (x != 0.5) & (y != 0.5), (x == y) & (y != 0.5)
    counted = [per_cluster(part, cluster, size) for part in (right, decided, 1 - np.abs(x - y))]
    found = {
        "accuracy": share(counted[0], counted[1]),
        "accuracy_ties_half": share(counted[2], per_cluster(np.ones(len(x)), cluster, size)),
    }
    return found | _coefficients_of_verdicts(tables, ties), tables.sum(axis=0)


def _order_sums(
    x: Floats, y: Floats, item: Ints, swapped: Bools, cluster: Ints, size: int, ties: np.bool_
) -> tuple[dict[str, Sums], Floats]:
    """The figures of pairs that the judge was shown in both orders: both right, and the same answer twice."""
    rows = np.flatnonzero(~np.isnan(x) & (item >= 0))
    there, back = rows[~swapped[rows]], rows[swapped[rows]]
    _, one, other = np.intersect1d(item[there], item[back], return_indices=True)
    there, back = there[one], back[other]
    tables = _tables(x[there], x[back], cluster[there], size)
    if not len(there):
        return {}, tables.sum(axis=0)
    decided = np.abs(y[there] - 0.5) == 0.5
    both = decided & (x[there] == y[there]) & (x[back] == y[there])
    same = x[there] == x[back]
    right, asked, alike, pairs = (
        per_cluster(part, cluster[there], size) for part in (both, decided, same, np.ones(len(there)))
    )
    return {
        "both_orders": share(right, asked),
        "consistency": share(alike, pairs),
        "kappa_orders": _coefficients_of_verdicts(tables, ties)["kappa"],
    }, tables.sum(axis=0)


def among_voters(reference: VerdictReference, cluster_of: Clusters, column: int = 0) -> dict[str, Sums]:
    """How far those one compares with agree on comparisons, any number of them on each pair.

    The sides of a pair are those of who first compared it; ``column`` is 0 for the whole, then the principles.
    """
    votes = reference.votes[:, :, column].astype(np.float64)
    votes = np.where(reference.low_first[:, None], votes, votes[:, ::-1])
    cluster, size = cluster_of(reference.prompt), cluster_of.size
    used = [0, 1, 2] if votes[:, 1].any() else [0, 2]
    found = among(votes[:, used], np.asarray(used, float), cluster, size, ordered=False)
    return found | _sides(votes, cluster, size) if found else {}


def _sides(votes: Floats, cluster: Ints, size: int) -> dict[str, Sums]:
    """Of two answers to one pair, how often they have the same side: without ties, and with a tie as half of each."""
    first, tie, second = votes.T
    same = (first * (first - 1) + second * (second - 1)) / 2
    decided = same + first * second
    tied = tie * (tie - 1) / 2
    half = tie * (first + second)
    counted = [
        per_cluster(part, cluster, size) for part in (same, decided, same + tied + half / 2, decided + tied + half)
    ]
    return {"same_side": share(counted[0], counted[1]), "same_side_ties_half": share(counted[2], counted[3])}
