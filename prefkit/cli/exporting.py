"""``prefkit export``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument("source", metavar="RUN|MODEL")
@click.option("--policy", metavar="NAME", help="Of the run.  [default: the only one]")
@click.option("--to", "out", required=True, type=click.Path(path_type=Path), help="The folder to write.")
@click.option("--format", type=click.Choice(["safetensors", "gguf"]), help="[default: gguf with --quantize]")
@click.option("--quantize", "kinds", multiple=True, type=click.Choice(["f16", "q8_0", "q4_k_m"]),
              help="How GGUF stores weights; may be said several times.  [default: q8_0]")  # fmt: skip
@click.option("--base", metavar="MODEL", help="Of a LoRA adapter, in place of the one that it names.")
@click.option("--system", metavar="TEXT", help="The system prompt of the Modelfile.  [default: the template's]")
@click.option("--check/--no-check", default=True, help="Ask what was written beside the policy.  [default: check]")
@click.option("--overwrite", is_flag=True, help="Replace the folder.")
def export(source: str, out: Path, format: Any, kinds: Any, system: str | None, **options: Any) -> None:
    """Write a policy of RUN, or a MODEL's folder, for others: merged safetensors, or GGUF for llama.cpp and Ollama.

    What was written is loaded and asked beside the policy; one that answers otherwise is an error and leaves nothing.

    \b
        prefkit export runs/first --to out/tuned
        prefkit export runs/first --policy dpo --to out/gguf --quantize q8_0 --quantize q4_k_m
        prefkit export some/adapter --base smollm2 --to out/merged
        ollama create tuned -f out/gguf/dpo-q8_0.Modelfile
    """
    from prefkit.cli.progress import Bars
    from prefkit.policies.exporting import ExportSettings, export_policy

    format = format or ("gguf" if kinds else "safetensors")
    if format == "safetensors" and (kinds or system is not None):
        raise click.UsageError(f"{'--quantize' if kinds else '--system'} goes with --format gguf.")
    settings = ExportSettings(
        source=source, out=out, format=format, kinds=kinds or ("q8_0",), system=system, **options
    )  # fmt: skip
    with Bars() as bars:
        done = export_policy(settings, bars.open_absolute, lambda words: click.echo(words, err=True))
    for file in done.files:
        click.echo(f"{file.name}: {file.size / 1e6:,.1f} MB; {file.checked or 'not checked'}")
    click.echo(f"{done.folder}: exported")
