"""``prefkit annotate push``."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prefkit.cli.runs import RUN

if TYPE_CHECKING:
    from prefkit.annotation.items import Kind, Mode
    from prefkit.annotation.push_settings import DeckReport, PushReport, PushSettings
    from prefkit.run import Run

_KINDS: tuple[tuple[Kind, str], ...] = (("repeat", "hidden repeats"), ("attention", "attention items"))
FILE = click.Path(path_type=Path, dir_okay=False)


class _FileOrCount(click.ParamType[Path | int]):
    name = "FILE|N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | int:
        """A number, else a path."""
        if isinstance(value, (Path, int)):
            return value
        return int(value) if str(value).isdigit() else Path(value)


@click.command()
@RUN
@click.option(
    "--mode",
    type=click.Choice(["compare", "rate"]),
    help="Which of two responses is better, or scores for one.  [default: compare]",
)
@click.option("--pairs", type=click.IntRange(min=1), help="compare: so many in all, earlier pushes included.  [100]")
@click.option("--responses", type=click.IntRange(min=1), help="rate: so many in all.  [100]")
@click.option(
    "--select",
    "strategy",
    type=click.Choice(["random", "uncertain", "disagreement", "judge-person", "coverage"]),
    default="random",
    show_default=True,
    help="What to ask about first. docs/annotation.md",
)
@click.option("--rewards", type=FILE, help="--select uncertain: rewards of responses, JSONL or Parquet.")
@click.option("--policy", "policies", multiple=True, help="Responses of this policy only; may be repeated.")
@click.option("--no-risk", is_flag=True, help="No prompts with a mark of risk.")
@click.option("--annotators", default="", metavar="A,B", help="A deck for each.  [default: one pool for all]")
@click.option("--overlap", type=click.IntRange(min=1), help="Annotators to each item.  [2, or 1 where there is one]")
@click.option("--shared", type=click.FloatRange(0, 1), help="Share of items that all get; --annotators.  [0.1]")
@click.option(
    "--repeats", type=click.FloatRange(0, 0.5), help="Share of a deck that comes twice, unsaid; --annotators.  [0.05]"
)
@click.option("--attention", type=_FileOrCount(), help="Items with a known answer: a file, or so many made from RUN.")
@click.option("--strength/--no-strength", default=True, help="compare: ask how much better.  [default: ask]")
@click.option("--no-principles", is_flag=True, help="compare: no question for each principle.")
@click.option("--guidelines", type=FILE, help="Markdown for annotators.  [default: prefkit's own]")
@click.option("--contact", default="", metavar="WORDS", help="Whom annotators can turn to: a name, a number.")
@click.option("--dataset", metavar="NAME", help="What decks are called; annotators see it.  [default: as the folder]")
@click.option("--again", is_flag=True, help="What others were asked, for these annotators too; nothing new.")
@click.option("--adjudicate", is_flag=True, help="What others answered differently, with their reasons; --annotators.")
@click.option("--no-server", is_flag=True, help="Only decide who is asked what; for `annotate export`.")
@click.option("--url", help="Another Argilla 2.8; its owner's key in PREFKIT_ARGILLA_API_KEY.")
@click.option("--dir", "folder", type=click.Path(path_type=Path, file_okay=False), help="Folder of `annotate serve`.")
@click.option("--seed", type=int, default=0, show_default=True, help="What is drawn, by whom, on which side.")
@click.option("--dry-run", is_flag=True, help="Push nothing; say what would be.")
@click.option(
    "--allow-unscrubbed", is_flag=True, help="Texts that were not scrubbed, to a server outside this network."
)
def push(run: Path, url: str | None, folder: Path | None, no_server: bool, dry_run: bool, **options: Any) -> None:
    """Put questions about the responses of RUN onto the annotation page, blinded.

    The same command again adds nothing, or goes on where it was stopped; a larger number adds the difference.

    \b
        prefkit annotate push runs/first --pairs 100
        prefkit annotate push runs/first --pairs 200 --annotators anna,ben,cleo --overlap 2 --shared 0.1
        prefkit annotate push runs/first --responses 50 --mode rate --annotators anna
    """
    from prefkit.annotation.connection import connect
    from prefkit.annotation.push import push as push_run
    from prefkit.cli.progress import Bars
    from prefkit.run import Run

    opened = Run(run)
    settings = _settings(opened, options)
    server = nullcontext() if no_server else connect(url=url, folder=folder)
    with server as client, Bars() as bars:
        report = push_run(opened, client, settings, lambda total: bars.open("Pushing", total, "items"), dry=dry_run)
    _say(opened, settings, report, dry_run)


def _settings(run: Run, options: dict[str, Any]) -> PushSettings:
    """The settings, once it is known that the options go together."""
    from prefkit.annotation.push_settings import PushSettings, series_of

    mode: Mode = options["mode"] or ("rate" if options["responses"] else "compare")
    for option, needed in (("pairs", "compare"), ("responses", "rate"), ("no_principles", "compare")):
        if options[option] and mode != needed:
            raise click.UsageError(f"--{option.replace('_', '-')} goes with --mode {needed}.")
    if options["attention"] is not None and mode == "rate":
        raise click.UsageError("--attention goes with --mode compare.")
    if options["rewards"] and options["strategy"] != "uncertain":
        raise click.UsageError("--rewards goes with --select uncertain.")
    names = tuple(filter(None, map(str.strip, options["annotators"].split(","))))
    for option in ("shared", "repeats", "again", "adjudicate"):
        if options[option] and not names:
            raise click.UsageError(f"--{option} needs --annotators: nobody knows who gets what from a pool.")
    adjudicate = options["adjudicate"]
    for option in ("overlap", "shared", "repeats", "again", "attention", "rewards"):
        if adjudicate and options[option]:
            raise click.UsageError(f"--{option} does not go with --adjudicate: one more person sees each item once.")
    overlap = 1 if adjudicate else options["overlap"] or (min(2, len(names)) if names else 2)
    if names and overlap > len(names):
        raise click.UsageError(f"--overlap {overlap} needs as many --annotators.")
    attention, usual = options["attention"], bool(names) and not adjudicate
    return PushSettings(
        mode=mode,
        count=options["pairs"] or options["responses"] or (sys.maxsize if adjudicate else 100),
        strategy=options["strategy"],
        policies=options["policies"],
        rewards=options["rewards"],
        risk=not options["no_risk"],
        annotators=names,
        overlap=overlap,
        shared=_or(options["shared"], 0.1 if usual else 0.0),
        repeats=_or(options["repeats"], 0.05 if usual else 0.0),
        attention=attention if isinstance(attention, int) else 0,
        attention_file=attention if isinstance(attention, Path) else None,
        principles=not options["no_principles"],
        strength=options["strength"],
        guidelines=options["guidelines"],
        contact=options["contact"],
        series=series_of(run, options["dataset"], mode, adjudicate=adjudicate),
        again=options["again"],
        adjudicate=adjudicate,
        seed=options["seed"],
        allow_unscrubbed=options["allow_unscrubbed"],
    )


def _or(given: float | None, otherwise: float) -> float:
    return otherwise if given is None else given


def _say(run: Run, settings: PushSettings, report: PushReport, dry: bool) -> None:
    noun = "pairs" if settings.mode == "compare" else "responses"
    click.echo(f"{settings.series}: {report.new:,} new {noun}, {report.cases:,} in all")
    for why, count in report.left_out.most_common():
        click.echo(f"  left out: {count:,} {why}")
    for note in report.notes:
        click.echo(f"  {note}")
    for prompt, good, bad in report.attention if dry else ():
        click.echo(f"  attention item:\n    client: {prompt}\n    better: {good}\n    worse:  {bad}")
    for told in report.decks:
        click.echo(f"{told.deck.name}{_for(told.deck.annotators)}: {_held(told, dry)}")
        if told.link:
            click.echo(f"  {told.link}")
    if dry:
        click.echo("Nothing was pushed.")
    elif any(told.link for told in report.decks):
        click.echo("Send annotators their link: it leads to their log-in, and keeps the order of the deck.")
        click.echo(f"Next: prefkit annotate pull {run.path}")
    elif report.cases:
        click.echo(f"Next: prefkit annotate export {run.path} --help")


def _for(names: tuple[str, ...]) -> str:
    return f" for {', '.join(names)}" if names else ""


def _held(told: DeckReport, dry: bool) -> str:
    total = sum(told.kinds.values())
    if not total:
        return "nothing; --again gives them what others were asked, a larger number something new"
    special = ", ".join(f"{told.kinds[kind]:,} {words}" for kind, words in _KINDS if told.kinds[kind])
    sent = f"{total - told.before:,} to send" if dry else f"{told.sent:,} sent"
    return f"{total:,} items{f' ({special})' if special else ''}, {sent}"
