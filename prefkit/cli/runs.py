"""``prefkit new``, ``status``, ``convert`` and ``spending``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

RUN = click.argument("run", metavar="RUN", type=click.Path(path_type=Path))


@click.command()
@RUN
@click.option("--rubric", "-r", required=True, help="Name (`prefkit rubric list`) or path of a rubric.")
@click.option(
    "--allow-unscrubbed", is_flag=True, help="Texts that were not scrubbed may be put into a bucket outside this house."
)
def new(run: Path, rubric: str, allow_unscrubbed: bool) -> None:
    """Make the run folder RUN for a rubric; RUN may be in a bucket: docs/elsewhere.md.

    \b
        prefkit new runs/first --rubric psychocounsel
        prefkit new s3://bucket/first --rubric psychocounsel
    """
    from prefkit.rubric_files import load_rubric
    from prefkit.run import Run
    from prefkit.working_copy import WorkingCopy

    made = Run.create(run, load_rubric(rubric))
    words = f"{made.rubric.id} version {made.rubric.version}, {len(made.rubric.principles)} principles"
    if (copy := WorkingCopy.of(run)) and allow_unscrubbed:
        copy.allow_unscrubbed()
    click.echo(f"{run}: a run with the rubric {words}")
    click.echo(f"Next: prefkit import prompts {run} FILE")


@click.command()
@RUN
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def status(run: Path, as_json: bool) -> None:
    """What RUN holds, what is missing, and what comes next.

    \b
        prefkit status runs/first
    """
    from prefkit.run import Run
    from prefkit.status import run_status

    found = run_status(Run(run))
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(found)))
        return
    click.echo(f"{run}: {found.rubric}")
    for line in found.lines:
        click.echo(f"  {line}")
    click.echo(f"Next: {found.next}")


@click.command()
@click.argument("run", metavar="RUN")
@click.option("--to", type=click.Choice(["parquet", "jsonl"]), required=True, help="How records are kept from now on.")
@click.option("--out", metavar="RUN2", help="Leave RUN as it is, and make this run of it.")
def convert(run: str, to: Literal["parquet", "jsonl"], out: str | None) -> None:
    """Let RUN keep its records as Parquet parts, or as JSONL.

    Parts can be written by many machines at a time (--engine ray), and in a bucket: see docs/elsewhere.md. Of a run in
    parts `--to parquet` makes few large parts.

    \b
        prefkit convert runs/first --to parquet
        prefkit convert runs/first --to parquet --out s3://bucket/first
        prefkit convert s3://bucket/first --to jsonl --out runs/second
    """
    from prefkit.cli.progress import Bars
    from prefkit.converting import convert as converted
    from prefkit.store import Store

    with Bars() as bars:
        counts = converted(Store(run), to, bars.open("converting", None, "records"), Store(out) if out else None)
    said = ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count) or "no records yet"
    click.echo(f"{out or run}: {said}, as {'Parquet parts' if to == 'parquet' else 'JSONL'}")


@click.command()
@RUN
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def spending(run: Path, as_json: bool) -> None:
    """What the answers in RUN took: calls, tokens and cost, by model and by what it was asked.

    \b
        prefkit spending runs/first
    """
    import msgspec

    from prefkit.run import Run
    from prefkit.spending import spending as spent

    found = spent(Run(run))
    if as_json:
        rows = [{"model": who, "asked": what, **msgspec.to_builtins(one)} for (who, what), one in found.items()]
        click.echo(msgspec.json.format(msgspec.json.encode(rows)))
        return
    if not found:
        click.echo("No answer in this run says what it took.")
        return
    width = max(len(f"{who}: {what}") for who, what in found)
    for (who, what), one in found.items():
        cached = f" ({one.cached_tokens:,} cached)" if one.cached_tokens else ""
        cost = "no price" if one.cost is None else f"cost {one.cost:,.4f}"
        tokens = f"{one.prompt_tokens:,}{cached} prompt and {one.reply_tokens:,} reply tokens"
        click.echo(f"{f'{who}: {what}':<{width}}  {one.answers:,} in {one.calls:,} calls; {tokens}; {cost}")
