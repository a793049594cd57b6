"""``prefkit train-rm``."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from prefkit.training.trained_report import Trained

"""Columns where the output is no terminal."""


def _weights(ctx: click.Context, option: click.Parameter, given: tuple[str, ...]) -> dict[str, float]:
    found = {}
    for one in given:
        name, _, number = one.rpartition("=")
        try:
            found[name] = float(number)
        except ValueError:
            raise click.BadParameter(f"{one}: write NAME=NUMBER, such as human:anna=2") from None
        if not name or not math.isfinite(found[name]):
            raise click.BadParameter(f"{one}: write NAME=NUMBER, such as human:anna=2")
    return found


@click.command("train-rm")
@click.argument("source", metavar="RUN|FILE", type=click.Path(exists=True, path_type=Path))
@click.option("--base", default="smollm2", show_default=True, help="A folder, a Hub id, or smollm2.")
@click.option("--preset", type=click.Choice(["cpu", "paper"]), default="cpu", show_default=True)
@click.option("--name", help="Of the model.  [default: after the base]")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="[default: RUN/reward-models/NAME]")
@click.option("--overwrite", is_flag=True, help="Throw away what was trained there.")
@click.option("--split", help="Train on this split.  [default: train; all of a single file]")
@click.option(
    "--held-out", type=click.Path(exists=True, path_type=Path), help="Measure on this.  [default: split test]"
)
@click.option("--leave-policies-out", metavar="A,B", help="Do not train on what these wrote.")
@click.option("--plain", is_flag=True, help="Texts of a file as they stand, without the chat template.")
@click.option("--majority", is_flag=True, help="Labels by majority, in place of the share of annotators.")
@click.option("--weight", "weights", multiple=True, metavar="NAME=W", callback=_weights, help="Of an annotator.")
@click.option("--epochs", type=float, help="[cpu: 1, paper: 2]")
@click.option("--batch", "pairs_per_step", type=int, help="Pairs in an optimiser step, about.  [cpu: 32, paper: 128]")
@click.option("--learning-rate", type=float, help="[cpu: 3e-5, paper: 9e-6; with --lora ten times that]")
@click.option("--schedule", type=click.Choice(["linear", "cosine", "constant"]), help="[cpu: linear, paper: cosine]")
@click.option("--warmup", type=float, help="Share of the steps.  [cpu: 0.1, paper: 0.03]")
@click.option("--weight-decay", type=float, default=0.0, show_default=True)
@click.option("--max-tokens", type=int, help="Of a prompt with a response.  [cpu: 1024, paper: 2048]")
@click.option("--over-long", type=click.Choice(["drop", "cut"]), default="drop", show_default=True,
              help="Leave longer responses out, or cut their prompt.")  # fmt: skip
@click.option("--row-tokens", type=int, help="Read at once; memory grows with it.  [cpu: 2048, paper: 8192]")
@click.option("--loss", type=click.Choice(["bradley-terry", "rao-kupper", "davidson", "hinge"]),
              default="bradley-terry", show_default=True)  # fmt: skip
@click.option("--margin", type=float, default=0.0, help="Lead asked for, in log-odds by point of rating gap.")
@click.option("--label-smoothing", type=float, default=0.0)
@click.option("--center", type=float, default=0.0, help="Penalty that keeps rewards around 0; such as 0.01.")
@click.option("--length-penalty", type=float, default=0.0, help="Penalty on rewards that go with length; such as 0.5.")
@click.option("--heads", type=click.Choice(["one", "principles"]), default="one", show_default=True,
              help="One reward, or one for each principle.")  # fmt: skip
@click.option("--combine", type=click.Choice(["learned", "fixed"]), default="learned", show_default=True,
              help="Weights of the principles: learned, or the rubric's.")  # fmt: skip
@click.option("--frozen", is_flag=True, help="Fit a head on what the base makes of the texts; minutes on a CPU.")
@click.option("--layer", type=int, help="With --frozen: whose hidden states.  [default: the best one, searched]")
@click.option("--pooling", type=click.Choice(["mean", "last", "mean+last"]), default="mean", show_default=True,
              help="With --frozen: over the response's tokens.")  # fmt: skip
@click.option("--control-policies", is_flag=True,
              help="Learn an effect of each policy beside the reward, for policies that are new.")  # fmt: skip
@click.option("--lora", type=int, metavar="RANK", help="Train an adapter in place of all weights; such as 16.")
@click.option("--quantize", is_flag=True, help="With --lora: hold the base in 4 bits. Needs a GPU.")
@click.option("--freeze-layers", type=int, default=0, help="So many of the lowest layers stay as they are.")
@click.option("--gradient-checkpointing/--no-gradient-checkpointing", default=None,
              help="Less memory, more arithmetic.  [default: above a billion weights]")  # fmt: skip
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--max-steps", type=int, help="Stop after so many optimiser steps.")
@click.option("--save-minutes", type=float, default=10.0, show_default=True, help="Between checkpoints.")
@click.option("--save-steps", type=int, help="The same in steps.")
@click.option("--log-steps", type=int, help="[default: about fifty lines in all]")
@click.option("--evaluate-steps", type=int, help="Score the validation pairs every so many steps.")
@click.option("--push-to-hub", metavar="OWNER/NAME", help="Upload it; refused while texts are not scrubbed.")
@click.option("--public", is_flag=True, help="With --push-to-hub: a public repository; private without it.")
def train_rm(
    source: Path, name: str | None, out: Path | None, overwrite: bool, split: str | None, held_out: Path | None,
    leave_policies_out: str | None, plain: bool, majority: bool, weights: dict[str, float], frozen: bool,
    layer: int | None, pooling: Any, control_policies: bool, push_to_hub: str | None, public: bool, **options: Any,
) -> None:  # fmt: skip
    """Train a reward model on the pairs of RUN or FILE.

    The same command goes on with a training that was cut: see docs/training.md.

    \b
        prefkit train-rm runs/first
        prefkit train-rm runs/first --frozen
        prefkit train-rm runs/first --base Qwen/Qwen2.5-0.5B-Instruct --lora 16 --name qwen
        prefkit train-rm runs/first --base meta-llama/Llama-3.2-3B-Instruct --preset paper
        prefkit train-rm pairs.jsonl --held-out test.jsonl --name first
        accelerate launch --num_processes 2 -m prefkit train-rm runs/first --preset paper
    """
    from prefkit.cli.progress import Bars
    from prefkit.training.frozen_training import FrozenSettings, train_frozen_reward_model
    from prefkit.training.settings import TrainingSettings
    from prefkit.training.training import model_folder, train_reward_model
    from prefkit.training.training_pairs import TrainingData

    data = TrainingData(
        source=source, split=split or (None if source.is_file() else "train"), held_out=held_out, plain=plain,
        without=tuple(filter(None, (leave_policies_out or "").split(","))),
        weights=weights or None, soft=not majority,
    )  # fmt: skip
    if push_to_hub and (source / "run.json").exists():
        from prefkit.pairs.hub import refuse_unscrubbed
        from prefkit.run import Run

        refuse_unscrubbed(Run(source))
    with Bars() as bars:
        told: dict[str, Any] = {"overwrite": overwrite, "opened": bars.open_absolute, "say": click.echo}
        if frozen:
            _refuse_without_effect(options)
            folder = model_folder(source, f"{options['base']}-frozen", name, out)
            chosen = FrozenSettings(
                base=options["base"], layer=layer, pooling=pooling, control_policies=control_policies,
                max_tokens=options["max_tokens"] or 2048, seed=options["seed"],
            )  # fmt: skip
            trained = train_frozen_reward_model(data, chosen, folder, **told)
        else:
            if layer is not None or pooling != "mean":
                raise click.UsageError("--layer and --pooling go with --frozen.")
            settings = TrainingSettings(control_policies=control_policies, **options)
            folder = model_folder(source, settings.base + ("-lora" if settings.lora else ""), name, out)
            trained = train_reward_model(data, settings, folder, **told)
    if int(os.environ.get("RANK", "0")):
        return
    _print(trained)
    if push_to_hub:
        from prefkit.training.hub import push_reward_model

        click.echo(f"pushed to {push_reward_model(folder, push_to_hub, private=not public)}")


def _refuse_without_effect(options: dict[str, Any]) -> None:
    """Options that mean nothing where no weight is changed."""
    ctx = click.get_current_context()
    kept = {"base", "max_tokens", "seed", "preset"}
    for name in options:
        if name not in kept and ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} has no effect with --frozen.")


def _print(trained: Trained) -> None:
    if trained.steps:
        before = f" ({trained.resumed} of them before)" if trained.resumed else ""
        speed = f"{trained.pairs_per_second:,.2f} pairs/s, {trained.tokens_per_second:,.0f} tokens/s"
        click.echo(f"{trained.steps} steps{before}: {trained.seconds:,.0f} s, {speed}")
    if trained.rows:
        _show(trained)
    else:
        click.echo("nothing was held out, so nothing is known of pairs that it has not seen: --held-out FILE")
    click.echo(f"{trained.folder}: a reward model. Next: prefkit score RUN --rm {trained.folder}")


def _show(trained: Trained) -> None:
    """The figures on the held-out pairs."""
    from prefkit.cli.figures import console, table
    from prefkit.training.measuring.report import RIGHT, SURE

    out = console()
    pairs = f"{trained.counts['held-out pairs']:,} held-out pairs"
    for title, figures in ((f"{pairs}: who is put first, %", RIGHT), ("how sure, and what of", SURE)):
        names = ["", *(name for name in figures.values() if name in trained.rows[0])]
        made = table(title, *names)
        for row in trained.rows:
            made.add_row(*(row[name] for name in names))
        out.print(made)
    for note in trained.notes:
        out.print(f"- {note}")
