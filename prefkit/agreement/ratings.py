"""How far two sides' ratings agree, as sums over prompts.

Reads   arrays of the ratings of one annotator, and of those it is compared with
Gives   Sums by name of figure (``resampling.estimates`` makes figures with intervals of them), and counts of what was
        left out

Ratings are compared by direction first: of two responses to one prompt, do both sides put the same one higher? Raters
agree on order more than on absolute values. Exact scores, kappas and the like are there beside it. Several people are
one reference by their mean for directions, and by each of them in turn for exact scores. ``verdicts.py`` does the same
for comparisons.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from prefkit.agreement.coefficients import Floats
from prefkit.agreement.counts import among, coefficients_of
from prefkit.agreement.judged import Bools, Ratings
from prefkit.resampling import Clusters, Ints, Sums, per_cluster, ratio
from prefkit.rubric import DECIMALS, Rubric, Scale

MAX_CATEGORIES = 15
_PAIRS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Span:
    """Gaps from ``start`` up to ``end``, which is not in it."""

    start: float
    end: float | None


@dataclass(frozen=True)
class Agreement:
    """Sums of the figures: ``overall`` by name, ``principles`` by principle and name.

    ``gaps`` are directions by whose gap it is and its size; ``orders`` and ``tables`` are of comparisons (see
    ``verdicts.py``).
    """

    overall: dict[str, Sums]
    principles: dict[str, dict[str, Sums]]
    counts: Counter[str]
    gaps: dict[str, dict[Span, Sums]] = field(default_factory=dict)
    orders: dict[str, dict[str, Sums]] = field(default_factory=dict)
    tables: dict[str, Floats] = field(default_factory=dict)


def columns(scores: Floats, rubric: Rubric) -> Floats:
    """Scores [n, principles] with the rubric's overall score in front [n, 1 + principles]; NaN where one is missing."""
    offset, *factors = rubric.weights()
    return np.column_stack([scores @ np.asarray(factors) + offset, scores])


def ranges(rubric: Rubric) -> Floats:
    """How far apart the overall score and each principle's can be, [1 + principles]."""
    scales = [principle.scale for principle in rubric.principles]
    ends = np.asarray([[scale.min for scale in scales], [scale.max for scale in scales]], dtype=np.float64)
    low, high = columns(ends, rubric)
    result: Floats = high - low
    return result


def places(known: Ints, wanted: Ints) -> Ints:
    """Where each wanted number stands among sorted ones; -1 where it does not."""
    if not len(known):
        return np.full(len(wanted), -1)
    at = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[at] == wanted, at, -1)


class RatingReference:
    """The ratings of those one compares with, by response: sums from which any one of them can be taken out."""

    def __init__(self, ratings: Ratings, rubric: Rubric) -> None:
        self.rubric = rubric
        self.rows = ratings
        self.responses, self.item = np.unique(self.rows.response, return_inverse=True)
        given = columns(self.rows.scores, rubric)
        answered = ~np.isnan(given)
        shape = (len(self.responses), given.shape[1])
        self.total, self.count = np.zeros(shape), np.zeros(shape)
        for column in range(shape[1]):
            known = answered[:, column]
            self.total[:, column] = np.bincount(self.item[known], given[known, column], shape[0])
            self.count[:, column] = np.bincount(self.item[known], minlength=shape[0])

    def means(self, at: Ints, without: Floats | None) -> Floats:
        """The mean of the reference's columns for these responses, [n, 1 + principles], ``without`` one's own."""
        total, count = self.total[at], self.count[at]
        if without is not None:
            own = ~np.isnan(without)
            total, count = total - np.where(own, without, 0.0), count - own
        result: Floats = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0.5)
        return result


def rating_agreement(
    judge: Ratings,
    reference: RatingReference,
    cluster_of: Clusters,
    *,
    gap: float,
    annotator: int | None = None,
) -> Agreement | None:
    """How far one annotator's ratings agree with a reference's; None where they share no response.

    Args:
        judge: the annotator's ratings, sorted by prompt.
        reference: those it is compared with.
        cluster_of: the clusters of prompts.
        gap: a large gap of the reference, as a share of the score's range.
        annotator: the index of the annotator in the reference, if it is one of them: it is then taken out of it.
    """
    if not len(reference.responses):
        return None
    rubric, at = reference.rubric, places(reference.responses, judge.response)
    counts = Counter({"responses": len(at), "responses that only the judge rated": int((at < 0).sum())})
    judged = columns(judge.scores, rubric)
    compared = reference.means(at, judged if annotator is not None else None)
    compared[at < 0] = np.nan
    shared = (~np.isnan(judged) & ~np.isnan(compared)).any(axis=1)
    if annotator is not None:
        counts["responses that only the judge rated"] = int((~shared).sum())
    if not shared.any():
        return None
    counts["responses with a score missing on one side"] = int(
        (shared & (np.isnan(judged[:, 0]) | np.isnan(compared[:, 0]))).sum()
    )
    cluster, size = cluster_of(judge.prompt), cluster_of.size
    wide = ranges(rubric)
    directions = _Directions(size, wide, gap)
    directions.add(judge.prompt[shared], cluster[shared], judged[shared], compared[shared])
    named = [directions.sums(column) for column in range(len(wide))]
    for column, sums in enumerate(named):
        sums.update(_levels(judged[:, column], compared[:, column], cluster, size))
    by_principle = dict(zip(rubric.principle_ids, named[1:], strict=True))
    beside = _Beside.of(judge, reference, cluster_of, annotator)
    for column, name in enumerate(rubric.principle_ids):
        by_principle[name].update(beside.sums(column))
    counts.update(directions.counts)
    return Agreement(named[0], by_principle, counts, directions.by_gap())


def _levels(judged: Floats, compared: Floats, cluster: Ints, size: int) -> dict[str, Sums]:
    """Correlation, and the mean difference, of two sides' scores of a response."""
    known = ~np.isnan(judged) & ~np.isnan(compared)
    x, y, at = judged[known], compared[known], cluster[known]
    if not len(x):
        return {}
    difference = x - y
    x, y = x - x.mean(), y - y.mean()
    moments = np.column_stack([per_cluster(part, at, size) for part in (np.ones(len(x)), x, y, x * x, y * y, x * y)])
    gaps = np.column_stack([per_cluster(difference, at, size), moments[:, 0]])
    return {
        "correlation": Sums(moments, _correlation, len(x)),
        "mean_difference": Sums(gaps, lambda totals: totals[..., 0] / np.maximum(totals[..., 1], 1), len(x)),
    }


def _correlation(totals: Floats) -> Floats:
    n, x, y, xx, yy, xy = np.moveaxis(totals, -1, 0)
    spread = (n * xx - x * x) * (n * yy - y * y)
    nan = np.full(spread.shape, np.nan)
    result: Floats = np.divide(n * xy - x * y, np.sqrt(np.maximum(spread, 0)), out=nan, where=spread > 1e-9)
    return result


def categories(scale: Scale, *seen: Floats) -> Floats:
    """The scores that a principle can have: the scale's, and whole ones outside it that were kept."""
    outside = [np.unique(np.rint(one[(one < scale.min) | (one > scale.max)])) for one in seen]
    return np.unique(np.concatenate([np.asarray(scale.values(), dtype=np.float64), *outside]))


def nearest(values: Floats, possible: Floats) -> Ints:
    """The index of the category nearest to each value; a mean of repeats may lie between two, and goes to the lower."""
    middles = (possible[1:] + possible[:-1]) / 2
    return np.searchsorted(middles, values, side="left").astype(np.int64)


@dataclass(frozen=True)
class _Beside:
    """Each rating of the reference beside the judge's of the same response: rows of the one, rows of the other."""

    judge: Floats
    reference: Floats
    cluster: Ints
    size: int
    possible: list[Floats]
    """The categories of each principle, from all that either side ever said: they are the same for each of several
    people held against the rest."""

    @classmethod
    def of(cls, judge: Ratings, reference: RatingReference, clusters: Clusters, annotator: int | None) -> _Beside:
        order = np.argsort(judge.response, kind="stable")
        at = places(judge.response[order], reference.rows.response)
        use = np.flatnonzero((at >= 0) & (reference.rows.annotator != (-1 if annotator is None else annotator)))
        mine = order[at[use]]
        theirs = reference.rows.scores
        possible = [
            categories(principle.scale, judge.scores[:, column], theirs[:, column])
            for column, principle in enumerate(reference.rubric.principles)
        ]
        return cls(judge.scores[mine], theirs[use], clusters(judge.prompt[mine]), clusters.size, possible)

    def sums(self, column: int) -> dict[str, Sums]:
        """Exact agreement and coefficients of one principle."""
        known = ~np.isnan(self.judge[:, column]) & ~np.isnan(self.reference[:, column])
        mine, theirs = self.judge[known, column], self.reference[known, column]
        possible = self.possible[column]
        if not known.any() or len(possible) > MAX_CATEGORIES:
            return {}
        q = len(possible)
        cells = self.cluster[known] * q * q + nearest(mine, possible) * q + nearest(theirs, possible)
        tables = np.bincount(cells, minlength=self.size * q * q).reshape(self.size, q * q)
        return coefficients_of(tables.astype(np.float64), possible, ordered=True)


_DIRECTION = ("decided", "right", "decided at gap", "right at gap", "compared", "half")


class _Directions:
    """Counts of pairs of responses to one prompt, by cluster: [clusters, columns, ...]."""

    def __init__(self, size: int, wide: Floats, gap: float) -> None:
        self.counts: Counter[str] = Counter()
        self.wide, self.gap = wide, gap
        self._sums = np.zeros((size, len(wide), len(_DIRECTION)))
        self.spans = spans(float(wide[0]))
        self._by_gap = {whose: np.zeros((size, len(self.spans), 2)) for whose in ("reference", "judge")}

    def add(self, prompt: Ints, cluster: Ints, judged: Floats, compared: Floats) -> None:
        """Count all pairs of rows with one prompt; the rows are sorted by prompt."""
        starts = np.flatnonzero(np.concatenate(([True], prompt[1:] != prompt[:-1])))
        sizes = np.diff(starts, append=len(prompt))
        for size in np.unique(sizes[sizes > 1]).tolist():
            left, right = np.triu_indices(size, 1)
            of_size = starts[sizes == size]
            step = max(1, _PAIRS_AT_ONCE // len(left))
            for begin in range(0, len(of_size), step):
                at = of_size[begin : begin + step]
                rows = at[:, None] + np.arange(size)
                for column in range(len(self.wide)):
                    x, y = judged[rows, column], compared[rows, column]
                    self._count(
                        column,
                        cluster[at],
                        np.round(x[:, left] - x[:, right], DECIMALS),
                        np.round(y[:, left] - y[:, right], DECIMALS),
                    )

    def _count(self, column: int, at: Ints, judge_gap: Floats, reference_gap: Floats) -> None:
        """Count pairs whose gaps [prompts, pairs] are rounded: sums of sevenths differ in the last bit of a float."""
        known = ~np.isnan(judge_gap) & ~np.isnan(reference_gap)
        judge_side, reference_side = np.sign(judge_gap), np.sign(reference_gap)
        decided = known & (judge_side != 0) & (reference_side != 0)
        right = decided & (judge_side == reference_side)
        large = np.abs(reference_gap) >= round(self.gap * float(self.wide[column]), DECIMALS)
        half = np.where(known, 1 - np.abs(judge_side - reference_side) / 2, 0.0)
        parts = (decided, right, decided & large, right & large, known, half)
        for place, part in enumerate(parts):
            self._sums[:, column, place] += per_cluster(part.sum(axis=1), at, len(self._sums))
        if column == 0:
            self._count_spans("reference", at, np.abs(reference_gap), decided, right)
            self._count_spans("judge", at, np.abs(judge_gap), decided, right)
            self.counts["pairs"] += known.size
            self.counts["pairs with a score missing"] += int((~known).sum())
            self.counts["pairs that both tie"] += int((known & (judge_side == 0) & (reference_side == 0)).sum())
            self.counts["pairs that only the judge ties"] += int(
                (known & (judge_side == 0) & (reference_side != 0)).sum()
            )
            self.counts["pairs that only the reference ties"] += int(
                (known & (judge_side != 0) & (reference_side == 0)).sum()
            )

    def _count_spans(self, whose: str, at: Ints, gap: Floats, decided: Bools, right: Bools) -> None:
        for place, span in enumerate(self.spans):
            inside = (gap >= span.start) & (gap < (np.inf if span.end is None else span.end))
            for which, part in enumerate((right & inside, decided & inside)):
                counted = per_cluster(part.sum(axis=1), at, len(self._sums))
                self._by_gap[whose][:, place, which] += counted

    def sums(self, column: int) -> dict[str, Sums]:
        """The figures of direction for one column."""
        sums = dict(zip(_DIRECTION, self._sums[:, column].T, strict=True))
        return {
            "direction": share(sums["right"], sums["decided"]),
            "direction_at_gap": share(sums["right at gap"], sums["decided at gap"]),
            "direction_ties_half": share(sums["half"], sums["compared"]),
        }

    def by_gap(self) -> dict[str, dict[Span, Sums]]:
        """Direction by the size of the reference's gap, and by that of the judge's."""
        return {
            whose: {span: share(*sums[:, place].T) for place, span in enumerate(self.spans)}
            for whose, sums in self._by_gap.items()
        }


def spans(wide: float) -> list[Span]:
    """Gaps by eighths of a score's range, from a half of it on together: 0-0.5, 0.5-1, ... on a scale 1-5."""
    edges = [round(wide * eighths / 8, DECIMALS) for eighths in range(5)]
    return [Span(start, end) for start, end in zip(edges, [*edges[1:], None], strict=True)]


def share(numerator: Floats, denominator: Floats) -> Sums:
    """The sums of a share whose denominator counts."""
    return ratio(numerator, denominator, round(float(denominator.sum())))


def among_raters(reference: RatingReference, cluster_of: Clusters) -> dict[str, dict[str, Sums]]:
    """How far those one compares with agree on exact scores: by principle, any number of them on each response."""
    found: dict[str, dict[str, Sums]] = {}
    first = np.unique(reference.item, return_index=True)[1]
    cluster = cluster_of(reference.rows.prompt[first])
    for column, principle in enumerate(reference.rubric.principles):
        scores = reference.rows.scores[:, column]
        known = ~np.isnan(scores)
        possible = categories(principle.scale, scores[known])
        if known.any() and len(possible) <= MAX_CATEGORIES:
            q = len(possible)
            cells = reference.item[known] * q + nearest(scores[known], possible)
            counts = np.bincount(cells, minlength=len(first) * q).reshape(-1, q).astype(np.float64)
            found[principle.id] = among(counts, possible, cluster, cluster_of.size, ordered=True)
    return found
