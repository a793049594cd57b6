"""Is this judge good enough? Its judgements beside those of people, with intervals.

Reads   judgements of a run; the people's from the same run or from another one of the same rubric
Gives   a Report: for each judge its figures, n and what was left out; and how far the people agree with each other

People among themselves are measured as the judge is: each against the rest. A judge need not agree with people more
than they do. ``shortfalls`` holds a report against a bar.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from prefkit.errors import RunError
from prefkit.judging.agreement import (
    Agreement,
    RatingReference,
    among_raters,
    ranges,
    rating_agreement,
)
from prefkit.judging.judged import Judgements, Ratings, Verdicts, read_judgements
from prefkit.judging.resampling import Clusters, Figure, Name, Sums, estimates
from prefkit.judging.verdicts import VerdictReference, among_voters, verdict_agreement, verdicts_from_ratings
from prefkit.records import is_model
from prefkit.rubric import DECIMALS, Rubric
from prefkit.run import Run

Progress = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class ValidationSettings:
    """The choices of a validation.

    ``against`` is ``human`` or ``llm`` (all of that kind), an annotator's name, or the folder of another run. ``gap``
    is what counts as a large gap of overall scores; None is a quarter of their range, 1 on a scale 1-5.
    """

    judges: tuple[str, ...] = ()
    against: str = "human"
    gap: float | None = None
    resamples: int = 2000
    seed: int = 0


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
class Report:
    """All that was measured, and the settings it was measured with."""

    run: str
    rubric: str
    settings: ValidationSettings
    gap: float
    judges: list[Measured]
    ceiling: Ceiling | None
    reference_left_out: dict[str, int]
    grouped: bool
    """Whether prompts were thrown together at random, so that a figure's ``prompts`` are groups of them."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """What a judge must reach: a figure's value, or the lower end of its interval."""

    at_least: float
    figure: str | None = None
    """One of the overall figures; None takes direction for ratings and accuracy for comparisons."""
    lower_bound: bool = False


@dataclass(frozen=True)
class _Side:
    """Some annotators of some judgements, by index."""

    judgements: Judgements
    who: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.judgements.annotators[index] for index in self.who)

    def ratings(self) -> Ratings:
        return self.judgements.ratings[np.isin(self.judgements.ratings.annotator, self.who)]

    def verdicts(self) -> Verdicts:
        return self.judgements.verdicts[np.isin(self.judgements.verdicts.annotator, self.who)]

    def left_out(self) -> dict[str, int]:
        return dict(sum((self.judgements.left_out.get(name, Counter()) for name in self.names), Counter[str]()))

    def without(self, index: int) -> _Side:
        return _Side(self.judgements, tuple(other for other in self.who if other != index))


def validate(run: Run, settings: ValidationSettings, progress: Progress | None = None) -> Report:
    """Measure judges against a reference.

    Args:
        run: the run with the judges' judgements.
        settings: who, against whom, and how.
        progress: called with bytes as they are read.

    Raises:
        RunError: an annotator is not there, or no judge shares anything with the reference.
        RecordError: a line is not a record.
    """
    judgements = read_judgements(run, run.rubric, progress)
    reference = _reference(run, judgements, settings.against, progress)
    judges = _judges(run, judgements, settings, reference)
    wide = float(ranges(run.rubric)[0])
    gap = round(wide / 4 if settings.gap is None else settings.gap, DECIMALS)
    measure = _Measure(run.rubric, reference, gap / wide, settings)
    measured = [measure.judge(judgements, index) for index in judges]
    if not any(one.ratings or one.comparisons for one in measured):
        names = ", ".join(reference.names)
        found = f"nothing that both {_listed([one.judge for one in measured])} and {names} judged"
        found += _why(measured, reference)
        remedy = "Let both judge the same responses (the same run, or runs of the same prompts and responses)."
        raise RunError(run.path, found, "ratings or comparisons of the same responses by both", remedy)
    return Report(
        str(run.path),
        run.rubric.hash,
        settings,
        gap,
        measured,
        measure.ceiling(),
        reference.left_out(),
        measure.clusters.grouped,
    )


def _why(measured: Sequence[Measured], reference: _Side) -> str:
    left_out = Counter(reference.left_out())
    for one in measured:
        left_out.update(one.left_out)
    return f" (left out: {', '.join(f'{count:,} {why}' for why, count in left_out.items())})" if left_out else ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} others" if len(names) > 5 else "")


def _reference(run: Run, judgements: Judgements, against: str, progress: Progress | None) -> _Side:
    where = run.path
    if against not in judgements.annotators and against not in ("human", "llm") and Path(against).exists():
        where = Path(against)
        judgements = read_judgements(Run(where), run.rubric, progress)
        people = _of_kind(judgements, "human")
        return _Side(judgements, people or tuple(range(len(judgements.annotators))))
    if against in ("human", "llm"):
        found = _of_kind(judgements, against)
    else:
        found = tuple(index for index, name in enumerate(judgements.annotators) if name == against)
    if not found:
        remedy = (
            "Say --against human, human:NAME, llm:NAME or the folder of another run; or import people's judgements."
        )
        there = f"no judgements by {against!r} (there are some by {_listed(judgements.annotators)})"
        raise RunError(where, there, "an annotator to compare with", remedy)
    return _Side(judgements, found)


def _of_kind(judgements: Judgements, kind: str) -> tuple[int, ...]:
    return tuple(index for index, name in enumerate(judgements.annotators) if name.startswith(f"{kind}:"))


def _judges(run: Run, judgements: Judgements, settings: ValidationSettings, reference: _Side) -> list[int]:
    """The judges by index; without names, all models that are not the reference."""
    known = {name: index for index, name in enumerate(judgements.annotators)}
    same = reference.judgements is judgements
    wanted = settings.judges or tuple(
        name
        for name in known
        if is_model(name) and not (same and known[name] in reference.who and len(reference.who) == 1)
    )
    missing = [name for name in wanted if name not in known]
    if missing or not wanted:
        found = f"no judgements by {_listed(missing)}" if missing else "no judgements by a model"
        found += f" (there are some by {_listed(judgements.annotators)})"
        raise RunError(
            run.path, found, "a judge", f"Let one judge first: prefkit judge {run.path}; or name it: --judge."
        )
    alone = [name for name in wanted if same and reference.names == (name,)]
    if alone:
        raise RunError(
            run.path, f"{alone[0]} as judge and as reference", "two annotators", "Change --judge or --against."
        )
    return [known[name] for name in wanted]


class _Measure:
    """What all judges have in common: the reference, the clusters, the draws."""

    def __init__(self, rubric: Rubric, reference: _Side, gap: float, settings: ValidationSettings) -> None:
        self.rubric, self.reference, self.gap, self.settings = rubric, reference, gap, settings
        self.rated, self.compared = reference.ratings(), reference.verdicts()
        self.clusters = Clusters(np.concatenate([self.rated.prompt, self.compared.prompt]), settings.seed)
        self.ratings = RatingReference(self.rated, rubric)
        self.verdicts = VerdictReference(self.compared)

    def judge(self, judgements: Judgements, index: int) -> Measured:
        """One judge, which is taken out of the reference where it is in it."""
        side = _Side(judgements, (index,))
        own = index if judgements is self.reference.judgements and index in self.reference.who else None
        against = self.reference.names if own is None else self.reference.without(index).names
        rated, compared = side.ratings(), side.verdicts()
        by_ratings = rating_agreement(rated, self.ratings, self.clusters, gap=self.gap, annotator=own)
        by_verdicts, derived = self._verdicts(rated, compared, own)
        return Measured(
            side.names[0],
            against,
            self._section(by_ratings),
            self._section(by_verdicts, derived),
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

    def ceiling(self) -> Ceiling | None:
        """Each of the reference against the rest; None where there is one."""
        if len(self.reference.who) < 2:
            return None
        rated: Agreement | None = None
        compared: Agreement | None = None
        for who in self.reference.who:
            mine = self.rated[self.rated.annotator == who]
            found = rating_agreement(mine, self.ratings, self.clusters, gap=self.gap, annotator=who)
            rated = _pooled(rated, found)
            said = self.compared[self.compared.annotator == who]
            found = verdict_agreement(said, self.verdicts, self.clusters, self.rubric.principle_ids, annotator=who)
            compared = _pooled(compared, found)
        raters, voters = among_raters(self.ratings, self.clusters), among_voters(self.verdicts, self.clusters)
        return Ceiling(
            self.reference.names,
            self._section(rated),
            self._section(compared),
            {name: self._estimates(sums) for name, sums in raters.items() if sums},
            self._estimates(voters) if voters else {},
        )

    def _estimates(self, sums: Mapping[Name, Sums]) -> dict[Name, Figure]:
        return estimates(sums, resamples=self.settings.resamples, seed=self.settings.seed)

    def _section(self, agreement: Agreement | None, derived: str | None = None) -> Section | None:
        if agreement is None:
            return None
        flat: dict[tuple[object, ...], Sums] = {}
        flat |= {("overall", name): sums for name, sums in agreement.overall.items()}
        for part, groups in (("principles", agreement.principles), ("orders", agreement.orders)):
            flat |= {(part, group, name): sums for group, figures in groups.items() for name, sums in figures.items()}
        flat |= {("gap", whose, span): sums for whose, rows in agreement.gaps.items() for span, sums in rows.items()}
        found = self._estimates(flat)
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


def shortfalls(report: Report, bar: Bar) -> list[str]:
    """What does not reach the bar, in words; a figure that could not be measured does not reach it.

    Raises:
        RunError: no judge has a figure of that name.
    """
    found, known = [], set[str]()
    for measured in report.judges:
        sections = [one for one in (measured.ratings, measured.comparisons) if one]
        for section in sections:
            known |= section.figures.keys()
        names = [bar.figure] if bar.figure else ["direction", "accuracy"]
        figures = [(name, section.figures[name]) for section in sections for name in names if name in section.figures]
        found += [
            f"{measured.judge}: {in_words(name, figure)}" for name, figure in figures if not _reaches(figure, bar)
        ]
        if not figures:
            found.append(f"{measured.judge}: {' and '.join(names)} not measured")
    if bar.figure and bar.figure not in known:
        remedy = f"Choose one of {', '.join(sorted(known))}."
        raise RunError(report.run, f"no figure {bar.figure!r}", "an overall figure of these judges", remedy)
    return found


def _reaches(figure: Figure, bar: Bar) -> bool:
    reached = figure.low if bar.lower_bound else figure.value
    return reached is not None and reached >= bar.at_least


def in_words(name: str, figure: Figure) -> str:
    """``direction 0.838 [0.831, 0.845] (n = 25,824)``."""
    if figure.value is None or not math.isfinite(figure.value):
        return f"{name} not defined (n = {figure.n:,})"
    interval = "no interval" if figure.low is None else f"[{figure.low:.3f}, {figure.high:.3f}]"
    return f"{name} {figure.value:.3f} {interval} (n = {figure.n:,})"
