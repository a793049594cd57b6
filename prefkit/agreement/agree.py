"""Whether annotators agree: people with people, judges with people, each with themselves.

Reads   judgements of a run, once; a million with seven principles take 0.7 GB
Gives   a Report: coefficients with intervals, overall and by principle, and each annotator's ways

Some annotators are the group whose agreement is measured: all people, unless others are named. Models outside it are
judges, and are held against it as ``validate-judge`` does, with what each of the group reaches against the rest beside
it. Drafts, discarded questions, those that test attention and settled conflicts are counted and left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from prefkit.agreement.judged import (
    Each,
    Judgements,
    Ratings,
    Verdicts,
    one_rating_each,
    one_verdict_each,
    read_judgements,
)
from prefkit.agreement.measuring import Measure, Measured, Section, Side
from prefkit.agreement.raters import Conduct, Rater, inattentive
from prefkit.agreement.ratings import Agreement, ranges
from prefkit.agreement.together import MAX_PAIRS, OVERALL, Drawing, Group, Pair, Together
from prefkit.agreement.words import notes
from prefkit.errors import RunError
from prefkit.records import is_model
from prefkit.resampling import Clusters, Figure, Sums
from prefkit.run import Run

GROUPS = 1024
"""Of prompts, where there are more: with as many, an interval is that of the prompts themselves."""
WITH_THE_REST = ("direction", "correlation", "mean_difference", "accuracy")


@dataclass(frozen=True, kw_only=True)
class AgreeSettings:
    """The choices of a report.

    ``annotators`` are the group; empty: all people, or all models where there are no people. ``attention`` is the share
    of questions with known answers that an annotator should get right.
    """

    annotators: tuple[str, ...] = ()
    attention: float = 0.8
    rounds: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class WithJudges:
    """Judges held against the group.

    ``measured`` is each judge against all of the group; ``ratings`` and ``comparisons`` have each of the group against
    the rest, which a judge's figures are to be held against; ``one_by_one`` a judge and one of the group.
    """

    measured: list[Measured]
    ratings: Section | None
    comparisons: Section | None
    one_by_one: list[Pair]


@dataclass(frozen=True)
class Report:
    """All that was measured, and the settings it was measured with.

    ``kind`` says who the group are: ``people``, ``judges``, or ``named``. ``inattentive`` are those below the share of
    ``attention``. ``grouped`` says that prompts were thrown together at random, so that a figure's ``prompts`` are
    groups of them.
    """

    run: str
    rubric: str
    settings: AgreeSettings
    kind: str
    group: Together
    with_judges: WithJudges | None
    raters: list[Rater]
    inattentive: list[str]
    left_out: dict[str, dict[str, int]]
    gap: float
    grouped: bool
    notes: list[str] = field(default_factory=list)
    """What the figures mean, in sentences."""


def agree(run: Run, settings: AgreeSettings, progress: Callable[[int], None] | None = None) -> Report:
    """Measure how far annotators agree.

    Args:
        run: the run with the judgements.
        settings: who, and how.
        progress: called with bytes as they are read.

    Raises:
        RunError: there are no judgements, or none by an annotator that was named.
        RecordError: a line is not a record.
    """
    conduct = Conduct()
    judgements = read_judgements(run, run.rubric, progress, conduct.take)
    kind, among = _group(run, judgements, settings)
    judges = [index for index, name in enumerate(judgements.annotators) if is_model(name) and index not in among]
    wide = float(ranges(run.rubric)[0])
    prompts = np.concatenate([judgements.ratings.prompt, judgements.verdicts.prompt])
    clusters = Clusters(prompts, settings.seed, GROUPS)
    drawing = Drawing(rubric=run.rubric, clusters=clusters, gap=0.25, resamples=settings.rounds, seed=settings.seed)
    group = Group(judgements.annotators, judgements.ratings, judgements.verdicts, drawing)
    measure = Measure(
        run.rubric,
        Side(judgements, tuple(among)),
        drawing.gap,
        resamples=settings.rounds,
        seed=settings.seed,
        clusters=clusters,
    )
    alone: dict[str, _Alone] = {}
    ratings, comparisons = measure.together(_watched(measure, judgements.annotators, alone))
    with_judges = None
    if judges:
        pairs = [(one, other, group.two(one, other)) for one, other in group.sharing(judges, among)[:MAX_PAIRS]]
        measured = [measure.judge(judgements, index) for index in judges]
        with_judges = WithJudges(measured, ratings, comparisons, [group.pair(*one) for one in pairs])
        alone |= {one.judge: _alone(one) for one in measured}
    took = conduct.seconds()
    raters = [
        conduct.rater(
            name,
            took.get(name),
            *alone.get(name, ({}, {})),
            _with_itself(judgements.each, index, name, drawing),
            settings.attention,
        )
        for index in (*among, *judges)
        for name in (judgements.annotators[index],)
    ]
    report = Report(
        str(run.path),
        run.rubric.hash,
        settings,
        kind,
        group.together(among),
        with_judges,
        raters,
        [rater.annotator for rater in raters if inattentive(rater.attention, settings.attention)],
        {name: dict(counts) for name, counts in sorted(judgements.left_out.items())},
        wide * drawing.gap,
        clusters.grouped,
    )
    return replace(report, notes=notes(report))


def _group(run: Run, judgements: Judgements, settings: AgreeSettings) -> tuple[str, list[int]]:
    known = {name: index for index, name in enumerate(judgements.annotators)}
    missing = [name for name in settings.annotators if name not in known]
    if missing:
        found = f"no judgements by {', '.join(missing)}"
        there = ", ".join([*known][:10]) + (f" and {len(known) - 10} others" if len(known) > 10 else "")
        raise RunError(run.path, found, f"annotators of this run: {there}", "Change --annotators.")
    if settings.annotators:
        return "named", sorted({known[name] for name in settings.annotators})
    people = [index for name, index in known.items() if not is_model(name)]
    return ("people", people) if people else ("judges", list(known.values()))


_Alone = tuple[dict[str, Figure], dict[str, Figure]]


def _watched(
    measure: Measure, names: Sequence[str], alone: dict[str, _Alone]
) -> Iterator[tuple[int, Agreement | None, Agreement | None]]:
    """Each against the rest, with some figures of each put into ``alone`` before they are added up."""
    for who, rated, compared in measure.each():
        sums: dict[tuple[str, str], Sums] = {}
        for agreement in (rated, compared):
            if agreement:
                sums |= {
                    (OVERALL, name): agreement.overall[name] for name in WITH_THE_REST if name in agreement.overall
                }
                sums |= {
                    (principle, "mean_difference"): figures["mean_difference"]
                    for principle, figures in agreement.principles.items()
                    if "mean_difference" in figures
                }
        found = measure.estimates(sums) if sums else {}
        alone[names[who]] = (
            {name: figure for (part, name), figure in found.items() if part == OVERALL},
            {part: figure for (part, _), figure in found.items() if part != OVERALL},
        )
        yield who, rated, compared


def _alone(judge: Measured) -> _Alone:
    """The same of a judge, for whom the rest are the whole group."""
    sections = [section for section in (judge.ratings, judge.comparisons) if section]
    return (
        {name: one.figures[name] for one in sections for name in WITH_THE_REST if name in one.figures},
        {
            principle: figures["mean_difference"]
            for one in sections
            for principle, figures in one.principles.items()
            if "mean_difference" in figures
        },
    )


def _with_itself(each: Each, who: int, name: str, drawing: Drawing) -> dict[str, Section]:
    """An annotator's answers to repeated questions, each occasion (``sample``) as if it were an annotator.

    A model is asked about two responses in both orders, which are two questions; a person who sees them again may see
    them the other way round.
    """
    rated, compared = each.ratings.annotator == who, each.verdicts.annotator == who
    samples = np.concatenate([each.rating_sample[rated], each.verdict_sample[compared]])
    if not samples.any():
        return {}
    occasions, place = np.unique(samples, return_inverse=True)
    rows, said = each.ratings[rated], each.verdicts[compared]
    place, place_of_verdicts = np.split(place, [len(rows.prompt)])
    low = np.where(said.low_first, said.low, ~said.low) if is_model(name) else said.low
    ratings = one_rating_each(Ratings(rows.prompt, rows.response, place, rows.scores))
    verdicts = one_verdict_each(Verdicts(said.prompt, low, said.high, said.low_first, place_of_verdicts, said.wins))
    group = Group([f"{name}, sample {sample}" for sample in occasions], ratings, verdicts, drawing)
    found = group.together(range(len(occasions)), each_pair=False)
    sections = {"ratings": found.ratings, "comparisons": found.comparisons}
    return {kind: section for kind, section in sections.items() if section}
