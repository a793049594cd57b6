"""A judge, and people one by one, held against people: figures with intervals.

Reads   Judgements, and who among them is the reference
Gives   Measured: one judge against the reference; Ceiling: each of the reference against the rest

All figures of one report rest on the same clusters of prompts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from prefkit.agreement.judged import Judgements, Ratings, Verdicts
from prefkit.agreement.ratings import Agreement, RatingReference, among_raters, rating_agreement
from prefkit.agreement.verdicts import VerdictReference, among_voters, verdict_agreement, verdicts_from_ratings
from prefkit.resampling import Clusters, Figure, Name, Sums, estimates
from prefkit.rubric import Rubric


@dataclass(frozen=True)
class GapRow:
    """Direction agreement where the gap lies from ``start`` up to ``end`` (None: no end)."""

    start: float
    end: float | None
    direction: Figure


@dataclass(frozen=True)
class Section:
    """What one kind of judgement shows.

    ``figures`` are overall, ``principles`` by principle, ``orders`` by the order shown. ``by_gap`` has a table for the
    gap of the reference, and one for the judge's own. ``tables`` are 3 x 3 counts [judge][reference] of the answers
    first, tie, second (of what the reference was shown). ``derived`` names the side whose ratings stood in for
    comparisons.
    """

    figures: dict[str, Figure]
    principles: dict[str, dict[str, Figure]]
    counts: dict[str, int] = field(default_factory=dict)
    orders: dict[str, dict[str, Figure]] = field(default_factory=dict)
    by_gap: dict[str, list[GapRow]] = field(default_factory=dict)
    tables: dict[str, list[list[int]]] = field(default_factory=dict)
    derived: str | None = None


@dataclass(frozen=True)
class Measured:
    """One judge against the reference; a section is None where the two share nothing of that kind."""

    judge: str
    against: tuple[str, ...]
    ratings: Section | None
    comparisons: Section | None
    left_out: dict[str, int]
    """Judgements that could not be used, by reason."""


@dataclass(frozen=True)
class Ceiling:
    """How far those of the reference agree with each other.

    The sections are of each against the rest, all of them added up: what a judge's are to be held against. ``raters``
    (by principle) and ``voters`` (on comparisons) have the coefficients of any number of them.
    """

    annotators: tuple[str, ...]
    ratings: Section | None
    comparisons: Section | None
    raters: dict[str, dict[str, Figure]]
    voters: dict[str, Figure]


@dataclass(frozen=True)
class Side:
    """Some annotators of some judgements, by index."""

    judgements: Judgements
    who: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The annotators."""
        return tuple(self.judgements.annotators[index] for index in self.who)

    def ratings(self) -> Ratings:
        """Their ratings."""
        return self.judgements.ratings[np.isin(self.judgements.ratings.annotator, self.who)]

    def verdicts(self) -> Verdicts:
        """Their comparisons."""
        return self.judgements.verdicts[np.isin(self.judgements.verdicts.annotator, self.who)]

    def left_out(self) -> dict[str, int]:
        """Their judgements that could not be used, by reason."""
        return dict(sum((self.judgements.left_out.get(name, Counter()) for name in self.names), Counter[str]()))

    def without(self, index: int) -> Side:
        """All but one."""
        return Side(self.judgements, tuple(other for other in self.who if other != index))


class Measure:
    """What all judges have in common: the reference, the clusters, the draws."""

    def __init__(
        self,
        rubric: Rubric,
        reference: Side,
        gap: float,
        *,
        resamples: int,
        seed: int,
        clusters: Clusters | None = None,
    ) -> None:
        self.rubric, self.reference, self.gap = rubric, reference, gap
        self.resamples, self.seed = resamples, seed
        self.rated, self.compared = reference.ratings(), reference.verdicts()
        self.clusters = clusters or Clusters(np.concatenate([self.rated.prompt, self.compared.prompt]), seed)
        self.ratings = RatingReference(self.rated, rubric)
        self.verdicts = VerdictReference(self.compared)

    def judge(self, judgements: Judgements, index: int) -> Measured:
        """One judge, which is taken out of the reference where it is in it."""
        side = Side(judgements, (index,))
        own = index if judgements is self.reference.judgements and index in self.reference.who else None
        against = self.reference.names if own is None else self.reference.without(index).names
        rated, compared = side.ratings(), side.verdicts()
        by_ratings = rating_agreement(rated, self.ratings, self.clusters, gap=self.gap, annotator=own)
        by_verdicts, derived = self._verdicts(rated, compared, own)
        return Measured(
            side.names[0],
            against,
            self.section(by_ratings),
            self.section(by_verdicts, derived),
            side.left_out(),
        )

    def _verdicts(self, rated: Ratings, compared: Verdicts, own: int | None) -> tuple[Agreement | None, str | None]:
        """The comparisons of both; where they share none, one side's beside the other's ratings."""
        names = self.rubric.principle_ids
        found = verdict_agreement(compared, self.verdicts, self.clusters, names, annotator=own)
        if found or own is not None:
            return found, None
        asked = self.compared
        if len(rated.response) and len(asked.low):
            _, first = np.unique(np.column_stack([asked.low, asked.high]), axis=0, return_index=True)
            pairs = asked[np.sort(first)]
            stand_in = verdicts_from_ratings(pairs.low, pairs.high, pairs.low_first, rated, self.rubric)
            found = verdict_agreement(stand_in, self.verdicts, self.clusters, names)
            if found:
                return found, "judge"
        if len(compared.low) and len(self.rated.response):
            low, high, order = compared.low, compared.high, compared.low_first
            people = [self.rated[self.rated.annotator == who] for who in self.reference.who]
            stand_ins = [verdicts_from_ratings(low, high, order, one, self.rubric) for one in people]
            found = verdict_agreement(compared, VerdictReference(_joined(stand_ins)), self.clusters, names)
        return found, "reference" if found else None

    def each(self) -> Iterator[tuple[int, Agreement | None, Agreement | None]]:
        """Each of the reference, by index, against the rest: the ratings' agreement and the comparisons'."""
        for who in self.reference.who:
            mine = self.rated[self.rated.annotator == who]
            rated = rating_agreement(mine, self.ratings, self.clusters, gap=self.gap, annotator=who)
            said = self.compared[self.compared.annotator == who]
            names = self.rubric.principle_ids
            compared = verdict_agreement(said, self.verdicts, self.clusters, names, annotator=who)
            yield who, rated, compared

    def together(
        self, each: Iterator[tuple[int, Agreement | None, Agreement | None]]
    ) -> tuple[Section | None, Section | None]:
        """Each against the rest, added up: of ratings and of comparisons."""
        rated: Agreement | None = None
        compared: Agreement | None = None
        for _, of_ratings, of_verdicts in each:
            rated, compared = _pooled(rated, of_ratings), _pooled(compared, of_verdicts)
        return self.section(rated), self.section(compared)

    def ceiling(self) -> Ceiling | None:
        """Each of the reference against the rest; None where there is one."""
        if len(self.reference.who) < 2:
            return None
        rated, compared = self.together(self.each())
        raters, voters = among_raters(self.ratings, self.clusters), among_voters(self.verdicts, self.clusters)
        return Ceiling(
            self.reference.names,
            rated,
            compared,
            {name: self.estimates(sums) for name, sums in raters.items() if sums},
            self.estimates(voters) if voters else {},
        )

    def estimates(self, sums: Mapping[Name, Sums]) -> dict[Name, Figure]:
        """Figures with intervals."""
        return estimates(sums, resamples=self.resamples, seed=self.seed)

    def section(self, agreement: Agreement | None, derived: str | None = None) -> Section | None:
        """The figures of an agreement."""
        return section_of(agreement, derived, resamples=self.resamples, seed=self.seed)


def section_of(agreement: Agreement | None, derived: str | None = None, *, resamples: int, seed: int) -> Section | None:
    """The figures of an agreement, with intervals; None where there is none."""
    if agreement is None:
        return None
    flat: dict[tuple[object, ...], Sums] = {}
    flat |= {("overall", name): sums for name, sums in agreement.overall.items()}
    for part, groups in (("principles", agreement.principles), ("orders", agreement.orders)):
        flat |= {(part, group, name): sums for group, figures in groups.items() for name, sums in figures.items()}
    flat |= {("gap", whose, span): sums for whose, rows in agreement.gaps.items() for span, sums in rows.items()}
    found = estimates(flat, resamples=resamples, seed=seed)
    return Section(
        {name: found["overall", name] for name in agreement.overall},
        {
            group: {name: found["principles", group, name] for name in figures}
            for group, figures in agreement.principles.items()
        },
        {reason: count for reason, count in agreement.counts.items() if count},
        {
            group: {name: found["orders", group, name] for name in figures}
            for group, figures in agreement.orders.items()
        },
        {
            whose: [GapRow(span.start, span.end, found["gap", whose, span]) for span in rows]
            for whose, rows in agreement.gaps.items()
        },
        {name: np.rint(table).astype(int).tolist() for name, table in agreement.tables.items()},
        derived,
    )


def _pooled(one: Agreement | None, other: Agreement | None) -> Agreement | None:
    """The agreement of several annotators together: their sums added. ``one`` is changed."""
    if other is None:
        return one
    if one is None:
        return other
    _add(one.overall, other.overall)
    for group, theirs in other.principles.items():
        _add(one.principles.setdefault(group, {}), theirs)
    for group, theirs in other.orders.items():
        _add(one.orders.setdefault(group, {}), theirs)
    for name, table in other.tables.items():
        one.tables[name] = one.tables[name] + table if name in one.tables else table
    one.counts.update(other.counts)
    for whose, rows in other.gaps.items():
        for span, sums in rows.items():
            one.gaps[whose][span] = one.gaps[whose][span] + sums
    return one


def _add(mine: dict[str, Sums], theirs: dict[str, Sums]) -> None:
    for name, sums in theirs.items():
        mine[name] = mine[name] + sums if name in mine else sums


def _joined(parts: Sequence[Verdicts]) -> Verdicts:
    return Verdicts(
        *(
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("prompt", "low", "high", "low_first", "annotator", "wins")
        )
    )
