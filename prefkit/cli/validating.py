"""``prefkit validate-judge``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from prefkit.cli.figures import WORDS, counts, gaps, interval, table, value
from prefkit.cli.runs import RUN

if TYPE_CHECKING:
    from rich.console import RenderableType

    from prefkit.agreement.measuring import Ceiling, Measured, Section
    from prefkit.agreement.validate import Report

BY_PRINCIPLE = ("direction", "accuracy", "both_orders", "exact", "weighted_kappa", "ac2", "kappa", "ac1")


@click.command("validate-judge")
@RUN
@click.option(
    "--against",
    default="human",
    show_default=True,
    help="human, human:NAME, llm:NAME, or the folder of another run, whose people (or all annotators) are taken.",
)
@click.option("--judge", "judges", multiple=True, metavar="NAME", help="May be repeated.  [all llm:NAME of RUN]")
@click.option("--min-agreement", type=click.FloatRange(0, 1), help="Exit code 1 where a judge's figure is below it.")
@click.option("--figure", help="The figure for --min-agreement.  [direction for ratings, accuracy for comparisons]")
@click.option("--lower-bound", is_flag=True, help="Hold the lower end of the interval against --min-agreement.")
@click.option(
    "--gap", type=click.FloatRange(min=0, min_open=True), help="What is a large gap.  [a quarter of the score's range]"
)
@click.option("--resamples", type=click.IntRange(min=100), default=2000, show_default=True, help="Of the bootstrap.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path, dir_okay=False), help="Write all figures here.")
def validate_judge(
    run: Path,
    against: str,
    judges: tuple[str, ...],
    min_agreement: float | None,
    figure: str | None,
    lower_bound: bool,
    gap: float | None,
    resamples: int,
    seed: int,
    output: Path | None,
) -> None:
    """Hold the judges of RUN against people: how often they agree, with 95% intervals by prompt.

    \b
        prefkit validate-judge runs/first --against human --min-agreement 0.8
        prefkit validate-judge runs/first --judge llm:gpt-4o --min-agreement 0.9 --figure direction_at_gap
        prefkit validate-judge runs/first --against llm:second-pass --json agreement.json
    """
    from rich.console import Console

    from prefkit.agreement.validate import Bar, ValidationSettings, shortfalls, validate
    from prefkit.cli.progress import Bars
    from prefkit.errors import RunError
    from prefkit.records import Judgement
    from prefkit.run import Run

    if min_agreement is None and (figure or lower_bound):
        raise click.UsageError("--figure and --lower-bound go with --min-agreement.")
    opened = Run(run)
    settings = ValidationSettings(judges=judges, against=against, gap=gap, resamples=resamples, seed=seed)
    file = opened.file(Judgement)
    with Bars() as bars:
        moved = bars.open("Reading judgements", file.stat().st_size if file else None, "MB")
        report = validate(opened, settings, moved)
    if output:
        _write(output, report)
    console = Console(highlight=False, markup=False, emoji=False)
    for part in _rendered(report):
        console.print(part)
    if output:
        click.echo(f"{output}: all figures")
    if min_agreement is not None:
        bar = Bar(at_least=min_agreement, figure=figure, lower_bound=lower_bound)
        below = shortfalls(report, bar)
        end = "the lower end of the interval " if lower_bound else ""
        if below:
            remedy = "Do not build on this judge: change its prompt or model, or say why a lower bar will do."
            raise RunError(run, "; ".join(below), f"{end}at least {min_agreement:g}", remedy)
        click.echo(f"good enough: {end}at least {min_agreement:g}")


def _write(path: Path, report: Report) -> None:
    import msgspec

    from prefkit.durable import explained_disk_errors, replacing

    with explained_disk_errors(path), replacing(path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")


def _rendered(report: Report) -> list[RenderableType]:
    from rich.text import Text

    parts: list[RenderableType] = []
    for measured in report.judges:
        parts.append(Text.assemble("\n", (measured.judge, "bold"), f" against {', '.join(measured.against)}"))
        left_out = [f"{count:,} {reason}" for reason, count in measured.left_out.items()]
        if left_out:
            parts.append(f"  judgements left out: {', '.join(left_out)}")
        parts += _sections(measured, report.ceiling, report.gap)
    if report.reference_left_out:
        words = ", ".join(f"{count:,} {reason}" for reason, count in report.reference_left_out.items())
        parts.append(f"\nof the reference left out: {words}")
    return parts


def _sections(measured: Measured, ceiling: Ceiling | None, gap: float) -> list[RenderableType]:
    parts: list[RenderableType] = []
    if measured.ratings:
        among = ceiling.ratings if ceiling else None
        parts.append(_figures("ratings", measured.ratings, among))
        parts.append(_principles(measured.ratings))
        parts.append(gaps(measured.ratings))
        parts.append(counts(measured.ratings, f"; a large gap is {gap:g} or more of the reference's means"))
    if measured.comparisons:
        among = ceiling.comparisons if ceiling else None
        derived = measured.comparisons.derived
        title = f"comparisons (the {derived}'s from ratings)" if derived else "comparisons"
        parts.append(_figures(title, measured.comparisons, among))
        if measured.comparisons.principles:
            parts.append(_principles(measured.comparisons))
        parts.append(counts(measured.comparisons))
    return parts or ["  nothing that both judged"]


def _figures(title: str, section: Section, among: Section | None) -> RenderableType:
    made = table(title, "", "value", "95% interval", "n", *(["people"] if among else []))
    rows = [(WORDS[name], name, figure) for name, figure in section.figures.items()]
    rows += [
        (f"  shown {group.replace('_', ' ')}", "accuracy", figures["accuracy"])
        for group, figures in section.orders.items()
        if len(section.orders) > 1
    ]
    for words, name, figure in rows:
        cells = [words, value(name, figure), interval(name, figure), f"{figure.n:,}"]
        if among:
            alone = words.startswith(" ") or name == "mean_difference"
            ceiling = None if alone else among.figures.get(name)
            cells.append(f"{value(name, ceiling)} {interval(name, ceiling)}" if ceiling else "")
        made.add_row(*cells)
    return made


def _principles(section: Section) -> RenderableType:
    wanted = [name for name in BY_PRINCIPLE if any(name in figures for figures in section.principles.values())]
    made = table("by principle", "", *(WORDS[name].partition(",")[0] for name in wanted))
    for principle, figures in section.principles.items():
        shown = [figures.get(name) for name in wanted]
        made.add_row(principle, *(value(name, one) if one else "" for name, one in zip(wanted, shown, strict=True)))
    return made
