"""``prefkit eval-rm``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from prefkit.cli.figures import show, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from prefkit.training.measuring.report import Curve, Measured, Report, Row, Size
    from prefkit.training.measuring.rewardbench import Scores

BY = {
    "gap": "by rating gap, %",
    "length": "by length: the chosen side is, %",
    "principle": "by principle: its better side first, %",
    "topic": "by topic, %",
    "policies": "by the two policies, %",
    "disagreement": "by the models' disagreement, %",
}
ALWAYS = ("gap", "length", "principle", "disagreement")
FEW = 12
"""Rows of a table by topic or policies; all of them are in the JSON."""


@click.command("eval-rm")
@click.argument("source", metavar="RUN|FILE", type=click.Path(path_type=Path))
@click.option(
    "--rm",
    "named",
    multiple=True,
    required=True,
    metavar="PATH|NAME",
    help="Folder of a reward model, or its name in RUN. May be repeated: then also all of them together.",
)
@click.option("--split", help="Whose pairs are measured on.  [test of a run; all of a file]")
@click.option(
    "--gap",
    "gaps",
    type=float,
    multiple=True,
    default=(0.5, 1.0),
    show_default=True,
    help="Accuracy from this gap on too.",
)
@click.option(
    "--by", "wanted", type=click.Choice([*BY]), multiple=True, help="Show these tables.  [gap, length, principle]"
)
@click.option("--majority", is_flag=True, help="Labels are what most annotators say, not their shares.")
@click.option("--no-baselines", is_flag=True, help="Without length, words and policies beside the models.")
@click.option("--no-left-out", is_flag=True, help="Fit nothing again with policies left out, which takes longest.")
@click.option(
    "--learning-curve",
    "curve",
    is_flag=True,
    help="Fit baselines and frozen models again on 10, 20, 40, 70% of RUN's training prompts, five draws each.",
)
@click.option("--device", metavar="NAME", help="Such as cpu or cuda.  [the fastest there is]")
@click.option("--rounds", type=click.IntRange(min=100), default=1000, show_default=True, help="Of the bootstrap.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write evaluation.json and evaluation.svg here.  [RUN/reward-models/NAME; nothing for a file]",
)
def eval_rm(
    source: Path,
    named: tuple[str, ...],
    split: str | None,
    gaps: tuple[float, ...],
    wanted: tuple[str, ...],
    majority: bool,
    no_baselines: bool,
    no_left_out: bool,
    curve: bool,
    device: str | None,
    rounds: int,
    seed: int,
    out: Path | None,
) -> None:
    """How good reward models are on the held-out pairs of RUN, or on a FILE of preferences; 95% intervals by prompt.

    \b
        prefkit eval-rm runs/first --rm small
        prefkit eval-rm runs/first --rm one --rm two --rm three --by disagreement
        prefkit eval-rm runs/first --rm frozen --learning-curve
        prefkit eval-rm pandalm.json --rm runs/first/reward-models/small --majority --out figures
        prefkit eval-rm reward-bench-2.jsonl --rm runs/first/reward-models/small
    """
    from prefkit.cli.progress import Bars
    from prefkit.training.measuring import evaluating
    from prefkit.training.measuring.report import MeasureSettings
    from prefkit.training.reward_info import reward_model_folder

    settings = evaluating.EvaluationSettings(
        split=split,
        baselines=not no_baselines,
        left_out=not no_left_out,
        curve=curve,
        soft=not majority,
        device=device,
        measure=MeasureSettings(rounds=rounds, seed=seed, least_gaps=tuple(sorted(set(gaps)))),
    )
    models = [reward_model_folder(name, source) for name in named]
    scores = evaluating.evaluate_benchmark(source, models, settings, _say)
    if scores is not None:
        show(_scores(scores))
        written = evaluating.write_scores(scores, out) if out else []
    else:
        with Bars() as bars:
            report = evaluating.evaluate(source, models, settings, _say, bars.open)
        show(_rendered(report, wanted or ALWAYS))
        folder = out or evaluating.saved_in(source, models)
        written = evaluating.write_report(report, folder) if folder else []
    for path in written:
        click.echo(f"{path}: {'all figures' if path.suffix == '.json' else 'the picture'}")


def _say(words: str) -> None:
    click.echo(words, err=True)


def _rendered(report: Report, wanted: Sequence[str]) -> Iterator[RenderableType]:
    from rich.text import Text

    from prefkit.training.measuring.report import RIGHT, SURE, gap_name, in_words, rows

    counts = report.counts
    where = f"{report.source}, {report.split}" if report.split else report.source
    yield Text.assemble("\n", (where, "bold"), f": {_counted(counts)}")
    for reason, count in sorted(report.left_out.items()):
        yield f"  {count:,} {reason}"
    yield ""
    for title, wanted_figures in (("who is put first, %", RIGHT), ("how sure, and what of", SURE)):
        shown = rows(report, wanted_figures)
        made = table(title, *shown[0])
        for row in shown:
            made.add_row(*row.values())
        yield made
        yield ""
    names = [gap_name(least) for least in report.settings.least_gaps]
    names = [name for name in names if any(name in one.figures for one in report.scorers)]
    if names:
        lefts = [f"left_out{name.removeprefix('accuracy')}" for name in names]
        heads = [name.replace("accuracy_gap_", "gap >= ") for name in names]
        made = table("by least gap, %", "", *heads, *(f"{head}, policies left out" for head in heads))
        for one in report.scorers:
            made.add_row(one.name, *(in_words("accuracy", one.figures.get(name)) for name in (*names, *lefts)))
        yield made
        yield ""
    models = [one for one in report.scorers if one.kind != "baseline"]
    for what in BY:
        having = [one for one in models if what in one.by]
        if what in wanted and having:
            yield _by(what, having)
            yield ""
    if any(one.best_of for one in models):
        yield _best_of(models, report.rated)
        yield ""
    yield from _curves(report.curves)
    for one in models:
        for reason, count in sorted(one.tally.items()):
            yield f"  {one.name}: {count:,} {reason}"
        if one.temperature_from:
            yield f"  {one.name}: temperature {one.temperature:.3g} from {one.temperature_from}"
    for one in report.scorers:
        if one.how and one.kind == "baseline":
            yield f"  {one.name}: {one.how}"
    if report.notes:
        yield ""
    for note in report.notes:
        yield Text(f"- {note}")


def _counted(counts: Mapping[str, int]) -> str:
    words = [f"{counts['pairs']:,} pairs of {counts['prompts']:,} prompts, {counts['responses']:,} responses"]
    if counts["ties"]:
        words.append(f"{counts['ties']:,} ties")
    if counts["unread"]:
        words.append(f"{counts['unread']:,} more pairs not read")
    return ", ".join(words)


def _by(what: str, models: Sequence[Measured]) -> RenderableType:
    from prefkit.training.measuring.report import in_words

    names = list(dict.fromkeys(row.name for one in models for row in one.by.get(what, [])))
    title = BY[what] + (f", {FEW} of {len(names)}" if len(names) > FEW else "")
    heads = any(row.head for one in models for row in one.by.get(what, []))
    columns = [column for one in models for column in ((one.name, f"{one.name}, own head") if heads else (one.name,))]
    made = table(title, "", *columns, "n")
    for name in names[:FEW]:
        cells = []
        for one in models:
            row: Row | None = next((row for row in one.by.get(what, []) if row.name == name), None)
            cells.append(in_words("accuracy", row.accuracy) if row else "")
            if heads:
                cells.append(in_words("accuracy", row.head) if row and row.head else "")
        number = next(row.accuracy.n for one in models for row in one.by.get(what, []) if row.name == name)
        made.add_row(name, *cells, f"{number:,}")
    return made


def _best_of(models: Sequence[Measured], rated: bool) -> RenderableType:
    from prefkit.training.measuring.report import in_words

    unit = "rating" if rated else "preference"
    made = table(
        f"best of n by reward: {unit} above a random one",
        "n",
        *(column for one in models for column in (one.name, "possible", "share")),
        "prompts",
    )
    for n in sorted({best.n for one in models for best in one.best_of}):
        cells, number = [], 0
        for one in models:
            best = next((best for best in one.best_of if best.n == n), None)
            if best is None:
                cells += ["", "", ""]
                continue
            number = best.gain.n
            possible = replace(best.possible, low=None, high=None)
            cells += [in_words("gain", best.gain), in_words("gain", possible), in_words("share", best.share)]
        made.add_row(str(n), *cells, f"{number:,}")
    return made


def _curves(curves: Sequence[Curve]) -> Iterator[RenderableType]:
    """Pairs x scorer: accuracies with intervals, for each gap that leaves pairs out too; how far draws are apart."""
    from prefkit.training.measuring.report import in_words

    sizes = {size.share: size for curve in curves for size in curve.sizes}
    names = list(dict.fromkeys(name for size in sizes.values() for name in size.figures))
    numbers = {name: max(one.figures[name].n for one in sizes.values() if name in one.figures) for name in names}
    shown = [name for name in names if name == "accuracy" or numbers[name] < numbers["accuracy"]]

    def rows(title: str, cell: Callable[[Size], str]) -> RenderableType:
        made = table(title, "share", "prompts", "pairs", *(curve.name for curve in curves))
        for share, size in sorted(sizes.items()):
            cells = (next((cell(one) for one in curve.sizes if one.share == share), "-") for curve in curves)
            made.add_row(f"{share:.0%}", f"{size.prompts:,}", f"{size.pairs:,.0f}", *cells)
        return made

    for name in shown:
        title = "accuracy" if name == "accuracy" else name.replace("accuracy_gap_", "gap >= ")
        yield rows(
            f"learning curve: {title}, %, {numbers[name]:,} held-out pairs",
            lambda size, name=name: in_words("accuracy", size.figures.get(name)),  # type: ignore[misc]
        )
        yield ""
    if curves:
        yield rows("learning curve: accuracy of single draws of training prompts, lowest to highest, %", _span)
        yield ""


def _span(size: Size) -> str:
    draws = size.draws["accuracy"]
    return f"{100 * min(draws):.1f} to {100 * max(draws):.1f}" if len(draws) > 1 else f"{100 * draws[0]:.1f}"


def _scores(scores: Mapping[str, Scores]) -> Iterator[RenderableType]:
    first = next(iter(scores.values()))
    made = table(f"RewardBench {first.version}", "", *scores, "n")
    for name, figure in first.subsets.items():
        made.add_row(name, *(_percent(one, name) for one in scores.values()), f"{figure.n:,}")
    for name in first.sections:
        made.add_row(name.upper(), *(f"{one.sections[name]:.1f}" for one in scores.values()), "")
    if first.overall is not None:
        made.add_row("OVERALL", *(f"{one.overall:.1f}" for one in scores.values()), "")
    yield made
    if first.missing:
        yield f"\nNo overall score: {len(first.missing)} subsets are not in the file: {', '.join(first.missing[:6])}"
    for name, one in scores.items():
        if one.equal:
            rule = "wrong" if one.version == 1 else "shared"
            yield f"{name}: {one.equal:,} rows with equal rewards at the top, which count as {rule}"
        if one.unread:
            yield f"{name}: {one.unread:,} rows with a response that it cannot read, which count as wrong"


def _percent(scores: Scores, name: str) -> str:
    figure = scores.subsets[name]
    if figure.value is None:
        return "-"
    if figure.low is None or figure.high is None:
        return f"{figure.value:.1f}"
    return f"{figure.value:.1f} [{figure.low:.1f}, {figure.high:.1f}]"
