"""The audit of a run: every figure of every judge, as JSON and as a table.

Reads   responses, judgements; audit/injections.jsonl where there is one
Writes  audit/audit.json

False discoveries are controlled over all figures of the report that are held against a null value, whichever judge they
are about: of the flagged ones, 5% are expected to be chance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from prefkit.durable import explained_disk_errors
from prefkit.errors import RunError
from prefkit.judging.audit.families import Families
from prefkit.judging.audit.figure import LEVEL, Figure, with_q
from prefkit.judging.audit.figures import figures_of
from prefkit.judging.audit.injections import Injected, figures_of_injections, injection_answers
from prefkit.judging.audit.intervals import discoveries
from prefkit.judging.audit.reading import Read, read
from prefkit.judging.audit.views import view
from prefkit.records import Judgement, is_model
from prefkit.run import Run

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

FOLDER = "audit"
GROUPS = {
    "order": "Order",
    "choice": "Order",
    "length": "Length",
    "family": "Own family",
    "saturation": "Saturation",
    "missing": "Missing",
    "samples": "Instability",
    "inject": "Injections",
    "inject-compare": "Injections",
}


@dataclass(frozen=True, kw_only=True)
class AuditSettings:
    """Which judges (all models where empty), whether each principle is looked at by itself, and who is whose own."""

    judges: tuple[str, ...] = ()
    principles: bool = False
    families: Families = field(default_factory=Families)


class JudgeAudit(msgspec.Struct, frozen=True, kw_only=True):
    """One judge: how much it judged, and its figures."""

    judge: str
    answers: int
    prompts: int
    figures: tuple[Figure, ...]


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """A report. ``tested`` figures were held against a null value, ``flagged`` of them have q < 0.05; ``left_out`` are
    judgements that it does not count."""

    rubric: str
    judges: tuple[JudgeAudit, ...]
    tested: int
    flagged: int
    left_out: dict[str, int]
    level: float = LEVEL
    confidence: float = 0.95
    clustered_by: str = "prompt"
    correction: str = "Benjamini-Hochberg over all tested figures"


@dataclass(frozen=True)
class Threshold:
    """A figure and how far it may go: ``order.first:0.6`` is passed by 0.61 and, as far on the other side, by 0.39."""

    name: str
    value: float

    def passed_by(self, figure: Figure) -> bool:
        """Whether a figure of this name lies beyond."""
        if figure.name != self.name or figure.value is None:
            return False
        if figure.name in LOW_IS_BAD:
            return figure.value < self.value
        if figure.null is None:
            return figure.value > self.value
        return abs(figure.value - figure.null) > abs(self.value - figure.null)


LOW_IS_BAD = ("order.same_verdict", "saturation.entropy")


def audit(run: Run, settings: AuditSettings | None = None, progress: Callable[[int], None] = lambda _: None) -> Audit:
    """Audit a run's judges; nothing is written.

    Args:
        run: the run.
        settings: see there.
        progress: called with bytes of judgements as they are read.

    Raises:
        RunError: there are no judgements, or none by the judges asked for.
        RecordError: a line is not a record.
    """
    settings = settings or AuditSettings()
    answers = injection_answers(run.path)
    if run.file(Judgement) is None and not answers:
        remedy = f"Import some (prefkit import judgements {run.path} FILE) or ask for them (prefkit judge {run.path})."
        raise RunError(run.path, "no judgements", "ratings or comparisons", remedy)
    found = read(run, progress)
    judges = _judges(run, found, answers, settings)
    columns = range(1 + len(found.rubric.principles)) if settings.principles else range(1)
    figures: dict[str, list[Figure]] = {judge: [] for judge in judges}
    for column in columns:
        views = {who: view(found, who, column) for who in range(len(found.annotators))}
        for who, seen in views.items():
            if found.annotators[who] in figures:
                others = {other: view_ for other, view_ in views.items() if other != who}
                figures[found.annotators[who]] += figures_of(seen, others, settings.families)
    for judge in judges:
        figures[judge] += figures_of_injections(answers, judge)
    return _assembled(found, figures)


def _judges(run: Run, found: Read, answers: Sequence[Injected], settings: AuditSettings) -> Sequence[str]:
    known = list(dict.fromkeys([*found.annotators, *(one.annotator for one in answers)]))
    models = [name for name in known if is_model(name)]
    for name in settings.judges:
        if name not in known:
            said = ", ".join(models) or "no model"
            raise RunError(run.path, f"no judgements by {name}", "a judge of the run", f"It has judgements by {said}.")
    if not models and not settings.judges:
        remedy = f"Ask one: prefkit judge {run.path} --judge NAME"
        raise RunError(run.path, "judgements by people only", "a model judge (llm:NAME)", remedy)
    return settings.judges or models


def _assembled(found: Read, figures: dict[str, list[Figure]]) -> Audit:
    tested = [figure for of_judge in figures.values() for figure in of_judge if figure.p is not None]
    q_values = iter(discoveries([figure.p for figure in tested if figure.p is not None]))
    number = {name: who for who, name in enumerate(found.annotators)}
    judges = []
    for judge, of_judge in figures.items():
        finished = [figure if figure.p is None else with_q(figure, next(q_values)) for figure in of_judge]
        mine = found.answers.annotator == number.get(judge, -1)
        prompts = len(np.unique(found.answers.prompt[mine]))
        judges.append(JudgeAudit(judge=judge, answers=int(mine.sum()), prompts=prompts, figures=tuple(finished)))
    flagged = sum(figure.flagged for judge in judges for figure in judge.figures)
    return Audit(
        rubric=found.rubric.hash,
        judges=tuple(judges),
        tested=len(tested),
        flagged=flagged,
        left_out=dict(found.left_out),
    )


def as_json(report: Audit) -> bytes:
    """The report as JSON; a figure that was not measured has the value null."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def write(run: Run, report: Audit) -> None:
    """Replace ``audit/audit.json``.

    Raises:
        RunError: the run is in use, or the disk is full.
    """
    with run.writing("audit"), explained_disk_errors(run.path / FOLDER):
        (run.path / FOLDER).mkdir(exist_ok=True)
        with run.replacing(f"{FOLDER}/audit.json") as file:
            file.write(as_json(report))


def beyond(report: Audit, thresholds: Iterable[Threshold]) -> list[str]:
    """The figures beyond a threshold, a line each.

    Raises:
        ValueError: the report has no figure of that name.
    """
    lines = []
    for threshold in thresholds:
        if not any(figure.name == threshold.name for judge in report.judges for figure in judge.figures):
            raise ValueError(f"no figure {threshold.name!r} in this report")
        for judge in report.judges:
            for figure in judge.figures:
                if threshold.passed_by(figure):
                    about = f" on {figure.principle}" if figure.principle else ""
                    lines.append(
                        f"{judge.judge}: {figure.name}{about} is {figure.value:.2f}, beyond {threshold.value:g}"
                    )
    return lines


# -------------------------------------------------------------------------------------------------------- the table


def rendered(report: Audit) -> Group:
    """The report as tables, one for each judge, with what was not measured below."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [part for judge in report.judges for part in (*_judge_parts(judge), Text(""))]
    flagged = f"{report.flagged} flagged (*)" if report.flagged else "none flagged"
    closing = (
        f"{report.tested} figures held against a null value, {flagged}: q < {report.level:g} after Benjamini-Hochberg "
        "over all of them. In brackets: 95% intervals, clustered by prompt."
    )
    parts.append(Text(closing))
    for reason, count in report.left_out.items():
        parts.append(Text(f"{count:,} judgements {reason} are left out."))
    return Group(*parts)


def _judge_parts(judge: JudgeAudit) -> list[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=Text(f"{judge.judge}: {judge.answers:,} answers about {judge.prompts:,} prompts"),
        title_justify="left",
        expand=False,
    )
    table.add_column("")
    table.add_column("what was found")
    for name in ("null", "p", "q", "detects"):
        table.add_column(name, justify="right", no_wrap=True)
    shown = ""
    for figure in judge.figures:
        if figure.not_measured is not None:
            continue
        group = GROUPS[figure.name.partition(".")[0]]
        sentence = f"{figure.principle}: {figure.sentence}" if figure.principle else figure.sentence
        words = Text(sentence + (" *" if figure.flagged else ""), style="bold" if figure.flagged else "")
        table.add_row(group if group != shown else "", words, *_numbers(figure))
        shown = group
    return [table, *_not_measured(judge.figures)]


def _numbers(figure: Figure) -> Sequence[str]:
    if figure.null is None:
        return ("", "", "", "")
    if figure.p is None or figure.q is None:
        return (_plain(figure, figure.null), "", "", "")
    detects = "nothing" if figure.smallest is None else f"±{_plain(figure, figure.smallest)}"
    return (_plain(figure, figure.null), _chance(figure.p), _chance(figure.q), detects)


def _plain(figure: Figure, value: float) -> str:
    if figure.unit == "share":
        return f"{100 * value:.0f}%"
    return f"{100 * value:.0f}" if figure.unit == "points of a share" else f"{value:.2f}"


def _chance(value: float) -> str:
    return "<.001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def _not_measured(figures: Sequence[Figure]) -> list[RenderableType]:
    from rich.text import Text

    reasons: dict[str, list[str]] = {}
    for figure in figures:
        if figure.not_measured is not None:
            name = f"{figure.name} ({figure.principle})" if figure.principle else figure.name
            reasons.setdefault(figure.not_measured, []).append(name)
    return [Text(f"not measured: {', '.join(names)}: {why}.") for why, names in reasons.items()]
