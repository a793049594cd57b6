"""Agreement among any number of annotators: people, judges, or the answers that one of them gave on several occasions.

Reads   arrays of their ratings and comparisons
Gives   Together: figures over all of them and two by two, with intervals

Coefficients for any number of raters (Fleiss, Krippendorff, Gwet, ICC) are of all answers at once. What is defined for
two (direction, Cohen's kappa) is measured between each two annotators: directions are added up, kappas averaged, each
pair weighing as much as it has in common. With very many annotators, the ``MAX_PAIRS`` pairs that share most stand for
all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from prefkit.agreement.coefficients import Floats
from prefkit.agreement.intraclass import score_agreement
from prefkit.agreement.judged import Ratings, Verdicts
from prefkit.agreement.measuring import GapRow, Section, section_of
from prefkit.agreement.ratings import Agreement, RatingReference, among_raters, columns, rating_agreement
from prefkit.agreement.verdicts import VerdictReference, among_voters, pair_keys, verdict_agreement
from prefkit.resampling import Clusters, Ints, Sums, estimates
from prefkit.rubric import Rubric

MAX_PAIRS = 45
"""Of annotators: all pairs of ten."""
ADDED = ("direction", "direction_at_gap", "direction_ties_half", "correlation")
AVERAGED = ("kappa", "linear_kappa", "weighted_kappa")
OF_A_PAIR = ("direction", "correlation", "accuracy", "accuracy_ties_half", "exact", "kappa", "weighted_kappa", "ac1")
OVERALL = "overall"


@dataclass(frozen=True)
class Pair:
    """Two annotators; a section is None where they share nothing of that kind."""

    annotators: tuple[str, str]
    ratings: Section | None
    comparisons: Section | None


@dataclass(frozen=True)
class Together:
    """How far annotators agree; a section is None where no two of them judged the same."""

    annotators: tuple[str, ...]
    ratings: Section | None
    comparisons: Section | None
    pairs: list[Pair]
    pairs_left_out: int
    """Of annotators that share something, but less than the pairs that are there."""


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What the figures of one report have in common: ``gap`` is a large gap, as a share of the score's range."""

    rubric: Rubric
    clusters: Clusters
    gap: float
    resamples: int
    seed: int

    def section(self, agreement: Agreement) -> Section | None:
        """The figures of an agreement."""
        return section_of(agreement, resamples=self.resamples, seed=self.seed)


_Two = tuple[Agreement | None, Agreement | None]


class Group:
    """Annotators by index: their rows, and each of them as one whom others are compared with."""

    def __init__(self, names: Sequence[str], ratings: Ratings, verdicts: Verdicts, drawing: Drawing) -> None:
        self.names, self.ratings, self.verdicts, self.drawing = tuple(names), ratings, verdicts, drawing
        self._references: dict[int, tuple[RatingReference, VerdictReference]] = {}

    def rows_of(self, who: int) -> tuple[Ratings, Verdicts]:
        """The rows of one of them."""
        return self.ratings[self.ratings.annotator == who], self.verdicts[self.verdicts.annotator == who]

    def two(self, one: int, other: int) -> _Two:
        """How far one agrees with the other: ratings and comparisons."""
        if other not in self._references:
            rated, compared = self.rows_of(other)
            self._references[other] = RatingReference(rated, self.drawing.rubric), VerdictReference(compared)
        raters, voters = self._references[other]
        rated, compared = self.rows_of(one)
        clusters, names = self.drawing.clusters, self.drawing.rubric.principle_ids
        return (
            rating_agreement(rated, raters, clusters, gap=self.drawing.gap),
            verdict_agreement(compared, voters, clusters, names),
        )

    def sharing(self, among: Sequence[int], others: Sequence[int] | None = None) -> list[tuple[int, int]]:
        """Two annotators who judged the same, those with most in common first: both from ``among``, or the second from
        ``others``."""
        shared = _shared(self.ratings.response, self.ratings.annotator, len(self.names))
        shared += _shared(pair_keys(self.verdicts), self.verdicts.annotator, len(self.names))
        second = np.isin(np.arange(len(self.names)), among if others is None else others)
        first = np.isin(np.arange(len(self.names)), among)
        wanted = first[:, None] & second[None, :]
        if others is None:
            wanted &= np.triu(np.ones_like(wanted), 1)
        one, other = np.nonzero(wanted & (shared > 0))
        order = np.argsort(-shared[one, other], kind="stable")
        return list(zip(one[order].tolist(), other[order].tolist(), strict=True))

    def pair(self, one: int, other: int, found: _Two) -> Pair:
        """The figures of two annotators that a reader compares pairs by."""
        sections = [self.drawing.section(_few(part)) if part else None for part in found]
        return Pair((self.names[one], self.names[other]), *sections)

    def together(self, among: Sequence[int], *, each_pair: bool = True) -> Together:
        """How far some of them agree; ``each_pair`` adds the figures of each two."""
        sharing = self.sharing(among)
        pairs = [(one, other, self.two(one, other)) for one, other in sharing[:MAX_PAIRS]]
        rated = self.ratings[np.isin(self.ratings.annotator, among)]
        compared = self.verdicts[np.isin(self.verdicts.annotator, among)]
        return Together(
            tuple(self.names[index] for index in among),
            self._rated_together(rated, [found[0] for *_, found in pairs if found[0]]),
            self._compared_together(compared, [found[1] for *_, found in pairs if found[1]]),
            [self.pair(*one) for one in pairs] if each_pair else [],
            max(0, len(sharing) - MAX_PAIRS),
        )

    def _rated_together(self, rows: Ratings, pairs: list[Agreement]) -> Section | None:
        if not pairs:
            return None
        rubric, clusters = self.drawing.rubric, self.drawing.clusters
        reference = RatingReference(rows, rubric)
        by_principle, scores = among_raters(reference, clusters), columns(rows.scores, rubric)
        cluster, found = clusters(rows.prompt), {}
        for place, name in enumerate((OVERALL, *rubric.principle_ids)):
            known = ~np.isnan(scores[:, place])
            sums = _of_pairs(pairs, name) | by_principle.get(name, {})
            sums |= score_agreement(
                scores[known, place], rows.response[known], rows.annotator[known], cluster[known], clusters.size
            )
            found[name] = sums
        raters = np.bincount(reference.item)
        section = self._section(found, _units("responses", "rated", raters))
        return replace(section, by_gap={"one of two": self._by_gap(pairs)})

    def _compared_together(self, rows: Verdicts, pairs: list[Agreement]) -> Section | None:
        if not pairs:
            return None
        reference, found = VerdictReference(rows), {}
        for place, name in enumerate((OVERALL, *self.drawing.rubric.principle_ids)):
            found[name] = among_voters(reference, self.drawing.clusters, place) | _of_pairs(pairs, name)
        votes = reference.votes[:, :, 0].sum(axis=0)
        counts = _units("pairs", "compared", reference.votes[:, :, 0].sum(axis=1))
        counts |= {"answers": int(votes.sum()), "answers that are ties": int(votes[1])}
        return self._section(found, counts)

    def _section(self, found: dict[str, dict[str, Sums]], counts: dict[str, int]) -> Section:
        resamples, seed = self.drawing.resamples, self.drawing.seed
        figures = {name: estimates(sums, resamples=resamples, seed=seed) for name, sums in found.items() if sums}
        return Section(figures.pop(OVERALL, {}), figures, counts)

    def _by_gap(self, pairs: list[Agreement]) -> list[GapRow]:
        sums = {}
        for span in pairs[0].gaps["judge"]:
            parts = [pair.gaps[whose][span] for pair in pairs for whose in ("judge", "reference")]
            sums[span] = _added(parts)
        found = estimates(sums, resamples=self.drawing.resamples, seed=self.drawing.seed)
        return [GapRow(span.start, span.end, figure) for span, figure in found.items()]


def _shared(unit: Ints, annotator: Ints, annotators: int) -> Ints:
    """How many units each two annotators judged [annotators, annotators]."""
    from scipy.sparse import csr_matrix

    if not len(unit):
        return np.zeros((annotators, annotators), dtype=np.int64)
    _, item = np.unique(unit, return_inverse=True)
    judged = csr_matrix((np.ones(len(item), dtype=np.int64), (item, annotator)), (item.max() + 1, annotators))
    judged.sum_duplicates()
    judged.data[:] = 1
    both = csr_matrix(judged.T @ judged)
    result: Ints = both.toarray()
    return result


def _few(agreement: Agreement) -> Agreement:
    return Agreement(
        {name: sums for name, sums in agreement.overall.items() if name in OF_A_PAIR},
        {
            principle: {name: sums for name, sums in figures.items() if name in OF_A_PAIR}
            for principle, figures in agreement.principles.items()
        },
        agreement.counts,
    )


def _units(units: str, judged: str, raters: Ints) -> dict[str, int]:
    several = int((raters > 1).sum())
    return {f"{units} {judged} by two or more": several, f"{units} {judged} by one": int((raters == 1).sum())}


def _of_pairs(pairs: list[Agreement], column: str) -> dict[str, Sums]:
    """Between each two annotators: directions added up, kappas averaged."""
    figures = [pair.overall if column == OVERALL else pair.principles.get(column, {}) for pair in pairs]
    found = {}
    for name in ADDED:
        parts = [one[name] for one in figures if name in one]
        if parts:
            found[name] = _added(parts)
    with_kappas = [one for one in figures if "kappa" in one]
    if with_kappas:
        values = np.concatenate([one["kappa"].values for one in with_kappas], axis=1)
        for name in AVERAGED:
            if all(name in one for one in with_kappas):
                found[name] = _average([one[name] for one in with_kappas], values)
    return found


def _added(parts: list[Sums]) -> Sums:
    return Sums(
        np.sum([one.values for one in parts], axis=0),
        parts[0].figure,
        sum(one.count for one in parts),
        parts[0].share,
    )


def _average(parts: list[Sums], values: Floats) -> Sums:
    """The mean of a figure over pairs of annotators, each weighing as many things as it counts; Light 1971,
    doi:10.1037/h0031643, gives each the same weight, which is this where all pairs share as much."""
    ends = np.cumsum([one.values.shape[1] for one in parts])
    spans = [slice(end - one.values.shape[1], end) for one, end in zip(parts, ends, strict=True)]
    weights = np.asarray([one.count for one in parts], dtype=np.float64)

    def mean(totals: Floats) -> Floats:
        each = np.stack([one.figure(totals[..., span]) for one, span in zip(parts, spans, strict=True)], axis=-1)
        known = ~np.isnan(each)
        weight = (known * weights).sum(-1)
        total = (np.where(known, each, 0.0) * weights).sum(-1)
        result: Floats = np.divide(total, weight, out=np.full_like(total, np.nan), where=weight > 0)
        return result

    return Sums(values, mean, int(weights.sum()))
