"""``prefkit annotate export``."""

from __future__ import annotations

from pathlib import Path

import click

from prefkit.cli.runs import RUN
from prefkit.errors import InputError


@click.command()
@RUN
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--to", "kind", type=click.Choice(["label-studio", "csv"]), required=True, help="What FILE becomes.")
@click.option("--dataset", "datasets", metavar="NAME", multiple=True, help="Only decks called so; may be repeated.")
def export(run: Path, file: Path, kind: str, datasets: tuple[str, ...]) -> None:
    """Write the items that were pushed to FILE: Label Studio tasks, or a table to fill in.

    Beside tasks stands their labeling configuration, FILE.xml. The answers come back with `annotate pull --file`.

    \b
        prefkit annotate export runs/first --to label-studio tasks.json
        prefkit annotate export runs/first --to csv table.csv --dataset first-1
        prefkit annotate pull runs/first --file table.csv --annotator anna
    """
    from prefkit.annotation.label_studio import write_configuration, write_tasks
    from prefkit.annotation.shown import shown_items
    from prefkit.annotation.tables import LONGEST, write_table
    from prefkit.run import Run

    configuration = file.with_name(f"{file.name}.xml")
    for path in (file, configuration) if kind == "label-studio" else (file,):
        if path.exists():
            remedy = "Choose another name: it may hold answers already."
            raise InputError(path, "a file of this name", "a new one", remedy)
    selected = shown_items(Run(run), datasets)
    too_long = 0
    if kind == "csv":
        too_long = write_table(file, selected.form, selected.items)
    else:
        write_tasks(file, selected.items)
        write_configuration(configuration, selected.form)
    click.echo(f"{file}: {len(selected.items):,} items")
    for reason, count in selected.left_out.most_common():
        click.echo(f"  left out: {count:,} {reason}")
    if selected.unscrubbed:
        click.echo(f"  not scrubbed: {selected.unscrubbed:,} texts; look before you send them")
    if too_long:
        click.echo(f"  longer than {LONGEST:,} characters, which a spreadsheet cuts off: {too_long:,} cells")
    if kind == "csv":
        click.echo("Fill in the columns behind the texts; rows may be left empty, and stand in any order.")
        click.echo(f"Next: prefkit annotate pull {run} --file {file} --annotator NAME")
    else:
        click.echo(f"{configuration}: the labeling configuration, for Settings, Labeling Interface, Code")
        click.echo(f"Next: import both into Label Studio; then: prefkit annotate pull {run} --file EXPORT.json")
