"""``prefkit new`` and ``prefkit status``."""

from __future__ import annotations

from pathlib import Path

import click

RUN = click.argument("run", metavar="RUN", type=click.Path(path_type=Path))


@click.command()
@RUN
@click.option("--rubric", "-r", required=True, help="Name (`prefkit rubric list`) or path of a rubric.")
def new(run: Path, rubric: str) -> None:
    """Make the run folder RUN for a rubric.

    \b
        prefkit new runs/first --rubric psychocounsel
    """
    from prefkit.rubric_files import load_rubric
    from prefkit.run import Run

    made = Run.create(run, load_rubric(rubric))
    words = f"{made.rubric.id} version {made.rubric.version}, {len(made.rubric.principles)} principles"
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
