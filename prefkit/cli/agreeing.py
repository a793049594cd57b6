"""``prefkit agree``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prefkit.cli.figures import WORDS, both, counts, gaps, interval, show, table, value
from prefkit.cli.runs import RUN

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from prefkit.agreement.agree import Report, WithJudges
    from prefkit.agreement.consensus import Consensus, Method, Who
    from prefkit.agreement.measuring import Section
    from prefkit.agreement.raters import Rater
    from prefkit.agreement.together import Pair
    from prefkit.resampling import Figure
    from prefkit.run import Run

RATINGS = ("direction", "exact", "weighted_kappa", "ac2", "alpha_ordinal", "icc_a")
COMPARISONS = ("same_side", "exact", "kappa", "fleiss", "ac1", "alpha_nominal")
OF_PAIRS = ("direction", "correlation", "exact", "kappa")
FEW = 15
"""Lines of a table about annotators; all of them are in the JSON."""
CONSENSUS = "agreement/consensus.json"


@click.command("agree")
@RUN
@click.option(
    "--annotators",
    metavar="NAMES",
    help="Whose agreement with each other is measured: human:anna,human:ben.  [all people; without people, all models]",
)
@click.option("--by", type=click.Choice(["principle"]), help="All figures with their intervals for each principle too.")
@click.option(
    "--attention",
    type=click.FloatRange(0, 1),
    default=0.8,
    show_default=True,
    help="Name annotators with less than this share of the questions with a known answer right.",
)
@click.option(
    "--consensus",
    type=click.Choice(["majority", "dawid-skene", "mace"]),
    help=f"Also make one label of several answers: RUN/{CONSENSUS}.",
)
@click.option("--rounds", type=click.IntRange(min=100), default=1000, show_default=True, help="Of the bootstrap.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path, dir_okay=False), help="Write all figures here.")
@click.option("--picture", type=click.Path(path_type=Path, dir_okay=False), help="Draw them here, as SVG.")
def agree(
    run: Path,
    annotators: str | None,
    by: str | None,
    attention: float,
    consensus: Method | None,
    rounds: int,
    seed: int,
    output: Path | None,
    picture: Path | None,
) -> None:
    """Whether the people of RUN agree with each other and with themselves, and judges with them; 95% intervals by
    prompt.

    \b
        prefkit agree runs/first --by principle
        prefkit agree runs/first --json agreement.json --picture agreement.svg
        prefkit agree runs/first --annotators llm:first-pass,llm:second-pass
        prefkit agree runs/first --consensus dawid-skene
    """
    import msgspec

    from prefkit.agreement.agree import AgreeSettings
    from prefkit.agreement.agree import agree as measured
    from prefkit.agreement.picture import picture as drawn
    from prefkit.cli.progress import Bars
    from prefkit.records import Judgement, is_model
    from prefkit.run import Run

    opened = Run(run)
    named = tuple(name.strip() for name in (annotators or "").split(",") if name.strip())
    settings = AgreeSettings(annotators=named, attention=attention, rounds=rounds, seed=seed)
    file = opened.file(Judgement)
    with Bars() as bars:
        moved = bars.open("Reading judgements", file.stat().st_size if file else None, "MB")
        report = measured(opened, settings, moved)
    show(_rendered(report, whole=by == "principle"), wide=130)
    if output:
        _write(output, msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
        click.echo(f"{output}: all figures")
    if picture:
        _write(picture, drawn(report).encode())
        click.echo(f"{picture}: the picture")
    if consensus:
        _consensus(opened, consensus, "judges" if all(map(is_model, report.group.annotators)) else "people", seed)


def _write(path: Path, content: bytes) -> None:
    from prefkit.durable import explained_disk_errors, replacing

    with explained_disk_errors(path), replacing(path) as file:
        file.write(content)


def _rendered(report: Report, *, whole: bool) -> Iterator[RenderableType]:
    from rich.text import Text

    group = report.group
    who = {"people": "people with people", "judges": "judges with judges", "named": "with each other"}[report.kind]
    yield Text.assemble("\n", (who, "bold"), f": {_listed(group.annotators)}")
    for kind, section, wanted in (("comparisons", group.comparisons, COMPARISONS), ("ratings", group.ratings, RATINGS)):
        if section is None:
            continue
        yield _figures(kind, section.figures)
        if section.principles and whole:
            for name, figures in section.principles.items():
                yield _figures(f"{kind}, {name}", figures)
        elif section.principles:
            yield _principles(section, wanted)
        if section.by_gap:
            yield gaps(section)
        yield counts(section, f"; a large gap is {report.gap:g} or more" if kind == "ratings" else "")
    if len(group.annotators) > 2 and group.pairs:
        yield _pairs("two by two", group.pairs)
    if report.with_judges:
        yield from _judges(report.with_judges, report.kind)
    if any(rater.itself for rater in report.raters):
        yield _themselves(report.raters)
    yield from _raters(report.raters)
    for name, reasons in report.left_out.items():
        yield f"left out of {name}: {', '.join(f'{count:,} {reason}' for reason, count in reasons.items())}"
    if report.notes:
        yield ""
    for note in report.notes:
        yield Text(f"- {note}")


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} others" if len(names) > 8 else "")


def _figures(title: str, figures: dict[str, Figure]) -> Table:
    made = table(title, "", "value", "95% interval", "n")
    for name in WORDS:
        if name in figures:
            figure = figures[name]
            made.add_row(WORDS[name], value(name, figure), interval(name, figure), f"{figure.n:,}")
    return made


def _principles(section: Section, wanted: tuple[str, ...]) -> Table:
    shown = [name for name in wanted if any(name in figures for figures in section.principles.values())]
    made = table("by principle", "", *(WORDS[name] for name in shown))
    for principle, figures in section.principles.items():
        made.add_row(principle, *(value(name, figures.get(name)) for name in shown))
    return made


def _pairs(title: str, pairs: list[Pair]) -> Table:
    flat = []
    for pair in pairs:
        parts = [part for part in (pair.comparisons, pair.ratings) if part]
        flat.append((pair.annotators, {name: one for part in parts for name, one in part.figures.items()}))
    shown = [name for name in OF_PAIRS if any(name in figures for _, figures in flat)]
    more = f", those {FEW} of {len(pairs)} with most in common" if len(pairs) > FEW else ""
    made = table(title + more, "", "", *(WORDS[name] for name in shown), "n")
    for (one, other), figures in flat[:FEW]:
        cells = [both(name, figures.get(name)) for name in shown]
        made.add_row(one, other, *cells, f"{max(figure.n for figure in figures.values()):,}")
    return made


def _judges(judges: WithJudges, kind: str) -> Iterator[RenderableType]:
    from rich.text import Text

    names = {
        "ratings": ("direction", "direction_at_gap", "correlation"),
        "comparisons": ("accuracy", "exact", "kappa"),
    }
    yield Text.assemble(("judges with people" if kind == "people" else "judges with these annotators", "bold"))
    for part, wanted in names.items():
        sections = {one.judge: getattr(one, part) for one in judges.measured}
        sections = {judge: section for judge, section in sections.items() if section}
        if not sections:
            continue
        shown = [name for name in wanted if any(name in section.figures for section in sections.values())]
        made = table(part, "", *(WORDS[name] for name in shown), "n")
        for judge, section in sections.items():
            made.add_row(judge, *(both(name, section.figures.get(name)) for name in shown), f"{_n(section):,}")
        rest: Section | None = getattr(judges, part)
        if rest:
            made.add_row(
                "each of them with the rest", *(both(name, rest.figures.get(name)) for name in shown), f"{_n(rest):,}"
            )
        yield made
    if judges.one_by_one and len({pair.annotators[1] for pair in judges.one_by_one}) > 1:
        yield _pairs("a judge and one person", judges.one_by_one)
    yield ""


def _n(section: Section) -> int:
    return max(figure.n for figure in section.figures.values())


def _themselves(raters: list[Rater]) -> Table:
    shown = ("exact", "kappa", "direction", "icc_a")
    made = table("with themselves, on questions asked again", "", "", *(WORDS[name] for name in shown), "n")
    for rater in raters:
        for kind, section in rater.itself.items():
            figures = section.figures
            made.add_row(rater.annotator, kind, *(both(name, figures.get(name)) for name in shown), f"{_n(section):,}")
    return made


def _raters(raters: list[Rater]) -> Iterator[RenderableType]:
    several = [rater for rater in raters if rater.answered or rater.not_answered]
    more = f", {FEW} of {len(several)}" if len(several) > FEW else ""
    columns: dict[str, Callable[[Rater], str]] = {
        "answers": lambda one: f"{one.answered:,}",
        "chose left/first": lambda one: both("exact", one.left),
        "ties": lambda one: value("exact", one.ties),
        "with the rest": lambda one: both(
            "exact", one.with_the_rest.get("accuracy", one.with_the_rest.get("direction"))
        ),
        "severity": lambda one: both("mean_difference", one.with_the_rest.get("mean_difference")),
        "known right": lambda one: f"{one.attention[0]} of {one.attention[1]}" if one.attention else "",
        "seconds": lambda one: f"{one.seconds.median:g}" if one.seconds else "",
    }
    first = sorted(several, key=lambda one: (not one.stands_out, -one.answered))[:FEW]
    cells = {name: [made(one) for one in first] for name, made in columns.items()}
    kept = [name for name, said in cells.items() if any(said)]
    made = table(f"each annotator{more}", "", *kept)
    for place, rater in enumerate(first):
        made.add_row(rater.annotator, *(cells[name][place] for name in kept))
    yield made
    for rater in first:
        said = [f"{count:,} marked {flag}" for flag, count in rater.flags.items()] + rater.stands_out
        if said:
            yield f"  {rater.annotator}: {'; '.join(said)}"
    yield ""


def _consensus(run: Run, method: Method, who: Who, seed: int) -> None:
    from prefkit.agreement.consensus import consensus
    from prefkit.durable import explained_disk_errors

    found = consensus(run, method=method, who=who, seed=seed)
    with explained_disk_errors(run.path):
        (run.path / CONSENSUS).parent.mkdir(exist_ok=True)
    with run.replacing(CONSENSUS) as file:
        file.write(found.as_json())
    click.echo(f"{run.path / CONSENSUS}: {_labels(found)}")


def _labels(found: Consensus) -> str:
    said = [(found.compared, "pairs"), (found.rated, "responses")]
    return f"labels of {' and '.join(f'{len(made):,} {what}' for made, what in said if made)} by {found.method}"
