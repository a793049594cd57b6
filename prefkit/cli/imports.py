"""``prefkit import``: prompts, responses, judgements, presets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from prefkit.cli.engine import engine_options
from prefkit.cli.runs import RUN
from prefkit.errors import InputError

FORMATS = ("csv", "tsv", "jsonl", "json", "parquet", "arrow", "xlsx")


class Assignment(click.ParamType[tuple[str, str]]):
    """``NAME=VALUE``."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Split at the first equals sign."""
        name, equals, text = value.partition("=")
        if not (name and equals and text):
            option = param.opts[0] if param else "a mapping"
            remedy = f"For example: {option} {'annotator=llm:gpt-4o' if option == '--set' else 'prompt=question_id'}"
            raise InputError(option, repr(value), "NAME=VALUE", remedy)
        return name, text


def _assigned(option: str, given: tuple[tuple[str, str], ...]) -> dict[str, str]:
    for name, text in given:
        if dict(given)[name] != text:
            found = f"{name} twice, as {text!r} and {dict(given)[name]!r}"
            raise InputError(option, found, "each field once", "Leave one of the two out.")
    return dict(given)


@click.group("import")
def import_() -> None:
    """Bring a file into a run: CSV, TSV, JSONL, JSON, Parquet, XLSX (.gz too), a `datasets` folder or a hub id.

    Known shapes are recognised (`prefkit import presets`); for others, say which column is what. Every row ends as
    imported, or under a reason in RUN/rejects/ with its line. Importing the same file again adds only what is missing.

    \b
        prefkit import prompts runs/first questions.csv
        prefkit import responses runs/first answers.jsonl --map prompt=question_id --set policy=gpt-4o
        prefkit import judgements runs/first ratings.csv --set annotator=llm:gpt-4o
    """


def _options(command: Callable[..., None]) -> Callable[..., None]:
    options = [
        RUN,
        click.argument("file"),
        click.option("--preset", help="A known shape by name, or `none`; without it, known by its columns."),
        click.option("--map", "columns", type=Assignment(), multiple=True, help="FIELD=COLUMN; may be repeated."),
        click.option("--set", "constants", type=Assignment(), multiple=True, help="FIELD=VALUE for all rows."),
        click.option(
            "--mapping", type=click.Path(path_type=Path), help="YAML of field: column; FILE.mapping.yaml is found."
        ),
        click.option("--key-prefix", default="", help="Put before every key, where two sources number alike."),
        click.option("--skip-broken", is_flag=True, help="Leave out rows that cannot be read, instead of stopping."),
        click.option("--format", type=click.Choice(FORMATS), help="Without it, by the ending."),
        click.option("--sheet", help="The sheet of an XLSX that has several."),
        click.option("--split", help="The split of a `datasets` folder or hub id that has several."),
    ]
    command = engine_options(command)
    for option in reversed(options):
        command = option(command)
    return command


@import_.command()
@_options
def prompts(run: Path, file: str, **options: Any) -> None:
    """Import what responses answer: fields text or messages, topic, key.

    \b
        prefkit import prompts runs/first counsel.csv --map text=questionText --map key=questionID
    """
    _import("prompts", run, file, options)


@import_.command()
@_options
def responses(run: Path, file: str, **options: Any) -> None:
    """Import answers: fields prompt (key, id or words), policy, text, sample, finish, key.

    \b
        prefkit import responses runs/first model_answer/vicuna.jsonl
        prefkit import responses runs/first answers.csv --map prompt=question_id --set policy=gpt-4o
    """
    _import("responses", run, file, options)


@import_.command()
@_options
@click.option("--keep-out-of-range", is_flag=True, help="Keep scores outside the scale as they are, and list them.")
def judgements(run: Path, file: str, **options: Any) -> None:
    """Import ratings (a column a principle) or comparisons (a, b, winner); preference sets bring their texts along.

    \b
        prefkit import judgements runs/first ratings.csv --map prompt=question_id --map policy=model
        prefkit import judgements runs/first train.jsonl.gz --preset hh-rlhf
    """
    _import("judgements", run, file, options)


@import_.command()
def presets() -> None:
    """The shapes that are known without a mapping.

    \b
        prefkit import presets
    """
    from prefkit.rows.presets import PRESETS

    for preset in PRESETS.values():
        words = " ".join((preset.read.__doc__ or "").split())
        click.echo(f"{preset.name} ({', '.join(preset.kinds)})\n    {words}")


def _import(kind: Any, path: Path, file: str, options: dict[str, Any]) -> None:
    from prefkit.cli.progress import Bars
    from prefkit.importing.importer import import_file
    from prefkit.importing.resolver import ImportSettings
    from prefkit.rows.files import source_size
    from prefkit.run import Run
    from prefkit.store import is_url

    run, engine, address = Run(path), options.pop("engine"), options.pop("ray_address")
    options["columns"] = _assigned("--map", options["columns"])
    options["constants"] = _assigned("--set", options["constants"])
    settings = ImportSettings(**options)
    with Bars() as bars:
        size = None if is_url(file) else source_size(file)
        moved = bars.open_absolute(f"Importing {kind}" if engine == "local" else f"Reading {kind}", size, "MB")
        if engine == "ray":
            from prefkit.cluster.cluster import joined
            from prefkit.cluster.importing import import_on_cluster
            from prefkit.working_copy import store_of

            with joined(address) as cluster:
                report = import_on_cluster(run, store_of(path), kind, file, settings, cluster, moved)
        else:
            report = import_file(run, kind, file, settings, moved)
    brought = ", ".join(f"{count:,} {name}" for name, count in report.imported.items())
    click.echo(f"{report.file}: {report.rows_imported:,} of {report.rows:,} rows imported: {brought}")
    click.echo(f"  read as: {report.read_as}")
    before = {name: count - report.new[name] for name, count in report.imported.items() if name != "scores"}
    if any(before.values()):
        click.echo("  from before: " + ", ".join(f"{count:,} {name}" for name, count in before.items() if count))
    for reason, count in report.rejected.most_common():
        click.echo(f"  not imported: {count:,} {reason}")
    for reason, count in report.notes.most_common():
        click.echo(f"  {reason}: {count:,}")
    if report.rejects:
        click.echo(f"  listed in {report.rejects}")
