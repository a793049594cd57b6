"""``prefkit models``: list, init, check, serve."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from prefkit.models.chat import Price
    from prefkit.models.entries import ModelEntry

_RUN = click.option("--run", type=click.Path(path_type=Path), help="The run whose models.yaml counts.")


@click.group()
def models() -> None:
    """Models: what a name means, what is missing, what it can do.

    \b
        prefkit models list
        prefkit models check openai/gpt-4o
    """


@models.command("list")
@_RUN
def list_(run: Path | None) -> None:
    """The models of models.yaml, and the providers that need no entry.

    \b
        prefkit models list --run runs/first
    """
    from prefkit.models.catalogue import Catalogue, providers
    from prefkit.models.models_file import FILE

    catalogue = Catalogue.load(run)
    if catalogue.path is None:
        click.echo(f"no {FILE}; `prefkit models init` writes one to fill in")
    else:
        click.echo(f"{catalogue.path}:")
        _table([(name, *_facts(entry)) for name, entry in catalogue.entries.items()])
        _table([(name, _money(price)) for name, price in catalogue.prices.items()])
        click.echo("and by provider/model:")
    here: list[tuple[str, ...]] = [
        ("embedded/smollm2", "SmolLM2-135M-Instruct or PATH.gguf, in this process"),
        ("local/...", "a folder or hub id, by transformers"),
        ("replay/FILE", "answers recorded earlier"),
    ]
    _table([*((entry.name, *_facts(entry)[1:-1]) for entry in providers()), *here])


@models.command()
@click.argument("run", required=False, type=click.Path(path_type=Path))
def init(run: Path | None) -> None:
    """Write a models.yaml to fill in, into the folder RUN or here.

    \b
        prefkit models init runs/first
    """
    from prefkit.models.models_file import start_models_file

    path = start_models_file(run or Path())
    click.echo(f"{path}: edit it, then prefkit models list{f' --run {run}' if run else ''}")


@models.command()
@click.argument("name")
@_RUN
@click.option("--timeout", type=click.FloatRange(min=1), default=60.0, show_default=True, help="Seconds.")
def check(name: str, run: Path | None, timeout: float) -> None:
    """Ask the model NAME one small question, at each of its URLs, and say what works.

    \b
        prefkit models check embedded/smollm2
    """
    from prefkit.models.catalogue import Catalogue
    from prefkit.models.checking import checked

    for found in checked(Catalogue.load(run).entry(name), timeout):
        click.echo(f"{name}, {found.where}: answered in {found.seconds:.2f} s")
        click.echo(f"  {found.answer!r}")
        for what, consequence in found.findings:
            click.echo(f"  no   {what}: {consequence}" if consequence else f"  yes  {what}")


@models.command()
@click.argument("name")
@_RUN
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 for any free one.")
@click.option("--slots", type=click.IntRange(min=1), help="Answers written at the same time.  [default: 2]")
def serve(name: str, run: Path | None, port: int, slots: int | None) -> None:
    """Serve an embedded model to other programs on this machine, until Ctrl-C.

    \b
        prefkit models serve embedded/smollm2 --port 8080
    """
    import threading

    from prefkit.models.catalogue import Catalogue
    from prefkit.models.embedded import SLOTS, served

    entry = Catalogue.load(run).entry(name)
    if entry.kind != "embedded":
        raise click.UsageError(f"{name} is served elsewhere; only embedded models are served here.")
    slots = slots or entry.concurrency or SLOTS
    try:
        with served(entry.file, name=entry.model, slots=slots, port=port, public=True) as at:
            click.echo(f"{at.url} serves {entry.model}; stop it with Ctrl-C")
            threading.Event().wait()
    except KeyboardInterrupt:
        click.echo("stopped")


def _facts(entry: ModelEntry) -> tuple[str, str, str, str]:
    from prefkit.models.opening import key_variable

    variable = key_variable(entry)
    names = " or ".join(entry.keys)
    key = f"key from {variable}" if variable else f"no key: set {names}" if entry.key_needed else "needs no key"
    return entry.kind, entry.where, key if entry.kind == "openai-compatible" else "", _money(entry.price)


def _money(price: Price | None) -> str:
    if price is None:
        return "no price"
    cached = "" if price.cached is None else f", cached {price.cached:g}"
    return f"{price.prompt:g} in, {price.completion:g} out{cached} a million tokens"


def _table(rows: list[tuple[str, ...]]) -> None:
    for row in rows:
        widths = [max(len(other[place]) for other in rows if len(other) > place) for place in range(len(row))]
        click.echo("  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
