"""``prefkit annotate pull``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from prefkit.cli.runs import RUN

if TYPE_CHECKING:
    from prefkit.annotation.answers import Status
    from prefkit.annotation.pull import PullReport, Told
    from prefkit.run import Run

STATUSES: dict[Status, str] = {"submitted": "submitted", "draft": "drafts", "discarded": "discarded"}
"""Statuses in the plural."""


@click.command()
@RUN
@click.option("--url", help="Another Argilla 2.8; its owner's key in PREFKIT_ARGILLA_API_KEY.")
@click.option("--dir", "folder", type=click.Path(path_type=Path, file_okay=False), help="Folder of `annotate serve`.")
@click.option("--dataset", "datasets", metavar="NAME", multiple=True, help="Only decks called so; may be repeated.")
@click.option("--file", help="Not from a server: Argilla's records, Label Studio's JSON export, a filled table.")
@click.option("--annotator", metavar="NAME", help="--file: who filled in a table that does not say.")
def pull(
    run: Path, url: str | None, folder: Path | None, datasets: tuple[str, ...], file: str | None, annotator: str | None
) -> None:
    """Bring what people answered into RUN/judgements.jsonl, under pseudonyms.

    It may be run as often as you like, also while people answer: what was changed since replaces what was there.

    \b
        prefkit annotate pull runs/first
        prefkit annotate pull runs/first --url https://argilla.example.org
        prefkit annotate pull runs/first --file export.jsonl
        prefkit annotate pull runs/first --file table.csv --annotator anna
    """
    from prefkit.run import Run

    if file is not None and (url or folder or datasets):
        raise click.UsageError("--file is read in place of a server: leave out --url, --dir and --dataset.")
    if annotator is not None and file is None:
        raise click.UsageError("--annotator goes with --file.")
    opened = Run(run)
    report = _from_file(opened, file, annotator) if file else _from_server(opened, url, folder, datasets)
    _say(opened, report, file)


def _from_server(run: Run, url: str | None, folder: Path | None, datasets: tuple[str, ...]) -> PullReport:
    from prefkit.annotation.connection import connect
    from prefkit.annotation.pull import pull_server
    from prefkit.cli.progress import Bars

    with connect(url=url, folder=folder) as client, Bars() as bars:
        return pull_server(
            run,
            client.api.http_client,
            decks=datasets,
            progress=lambda total: bars.open("Pulling", total, "records"),
        )


def _from_file(run: Run, file: str, annotator: str | None) -> PullReport:
    from prefkit.annotation.pull import SourceFile, pull_file
    from prefkit.cli.progress import Bars
    from prefkit.rows.files import read_rows, source_digest, source_size

    with Bars() as bars:
        moved = bars.open_absolute("Reading", source_size(file), "MB")
        rows = read_rows(file, progress=moved)
        return pull_file(run, SourceFile(Path(file).name, source_digest(file)), rows, annotator=annotator)


def _say(run: Run, report: PullReport, file: str | None) -> None:
    counts = ", ".join(f"{report.statuses[status]:,} {words}" for status, words in STATUSES.items())
    click.echo(f"{Path(file).name if file else 'answers'}: {counts}")
    for annotator, told in sorted(report.annotators.items()):
        click.echo(f"  {annotator}: {_told(told)}")
    for deck in report.decks:
        left = f"{deck.wanted - deck.finished:,} of {deck.wanted:,} answers left over" if deck.wanted else "empty"
        click.echo(f"  {deck.name}: {left}")
    for name in report.missing_decks:
        click.echo(f"  {name}: not at this server")
    merged = report.merged
    click.echo(f"judgements.jsonl: {merged.new:,} new, {merged.changed:,} changed, {merged.as_before:,} as before")
    if merged.gone:
        click.echo(f"  gone at the server, kept here: {merged.gone:,}")
    if merged.kept:
        click.echo(f"  may be older than what is here, passed over: {merged.kept:,}")
    for note, count in (+report.notes).most_common():
        click.echo(f"  {note}: {count:,}")
    for reason, count in report.refused.most_common():
        click.echo(f"  not brought in: {count:,} {reason}")
    if report.rejects:
        click.echo(f"  listed in {report.rejects}")
    click.echo(f"Next: prefkit agree {run.path}")


def _told(told: Told) -> str:
    parts = [f"{told.statuses[status]:,} {words}" for status, words in STATUSES.items() if told.statuses[status]]
    parts += [f"{count:,} flagged {flag}" for flag, count in sorted(told.flags.items())]
    if told.attention:
        parts.append(f"attention {told.attention_right:,} of {told.attention:,} right")
    if told.repeats:
        parts.append(f"repeats {told.repeats_equal:,} of {told.repeats:,} equal")
    return ", ".join(parts)
