"""Is this judge good enough? Its judgements beside those of people, with intervals.

Reads   judgements of a run; the people's from the same run or from another one of the same rubric
Gives   a Report: for each judge its figures, n and what was left out; and how far the people agree with each other

People among themselves are measured as the judge is: each against the rest. A judge need not agree with people more
than they do. ``shortfalls`` holds a report against a bar.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from prefkit.agreement.judged import Judgements, read_judgements
from prefkit.agreement.measuring import Ceiling, Measure, Measured, Side
from prefkit.agreement.ratings import ranges
from prefkit.errors import RunError
from prefkit.records import is_model
from prefkit.resampling import Figure
from prefkit.rubric import DECIMALS
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
    measure = Measure(run.rubric, reference, gap / wide, resamples=settings.resamples, seed=settings.seed)
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


def _why(measured: Sequence[Measured], reference: Side) -> str:
    left_out = Counter(reference.left_out())
    for one in measured:
        left_out.update(one.left_out)
    return f" (left out: {', '.join(f'{count:,} {why}' for why, count in left_out.items())})" if left_out else ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} others" if len(names) > 5 else "")


def _reference(run: Run, judgements: Judgements, against: str, progress: Progress | None) -> Side:
    where = run.path
    if against not in judgements.annotators and against not in ("human", "llm") and Path(against).exists():
        where = Path(against)
        judgements = read_judgements(Run(where), run.rubric, progress)
        people = _of_kind(judgements, "human")
        return Side(judgements, people or tuple(range(len(judgements.annotators))))
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
    return Side(judgements, found)


def _of_kind(judgements: Judgements, kind: str) -> tuple[int, ...]:
    return tuple(index for index, name in enumerate(judgements.annotators) if name.startswith(f"{kind}:"))


def _judges(run: Run, judgements: Judgements, settings: ValidationSettings, reference: Side) -> list[int]:
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
