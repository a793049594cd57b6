"""``prefkit train-policy``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from prefkit.policies.training import TrainedPolicy
    from prefkit.policies.watching import Look

_METHODS = ["sft", "dpo", "ipo", "orpo", "simpo", "kto"]


@click.command("train-policy")
@click.argument("source", metavar="RUN|FILE", type=click.Path(exists=True, path_type=Path))
@click.option("--base", default="smollm2", show_default=True, help="A folder, a Hub id, or smollm2.")
@click.option("--method", type=click.Choice(_METHODS), default="dpo", show_default=True)
@click.option("--rm", "reward_model", metavar="PATH|NAME",
              help="A reward model: looks say how often it prefers the policy to the start.")  # fmt: skip
@click.option("--name", help="Of the policy.  [default: after base and method]")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="[default: RUN/policies/NAME]")
@click.option("--overwrite", is_flag=True, help="Throw away what was trained there.")
@click.option("--split", help="Train on this split.  [default: train; all of a single file]")
@click.option("--held-out", type=click.Path(exists=True, path_type=Path),
              help="Look at this.  [default: split validation, else test]")  # fmt: skip
@click.option("--leave-policies-out", metavar="A,B", help="Do not train on what these wrote.")
@click.option("--majority", is_flag=True, help="Labels by majority, in place of the share of annotators.")
@click.option("--sft-first", type=float, default=0.0, metavar="EPOCHS",
              help="Supervised training on the same prompts before; such as 1.")  # fmt: skip
@click.option("--imitate", type=click.Choice(["best", "chosen", "all"]), default="best", show_default=True,
              help="Responses that supervised training reads.")  # fmt: skip
@click.option("--epochs", type=float, default=1.0, show_default=True)
@click.option("--batch", "pairs_per_step", type=int, default=32, show_default=True,
              help="Pairs in an optimiser step, about; of sft, prompts.")  # fmt: skip
@click.option(
    "--learning-rate", type=float, help="[dpo, ipo, simpo: 1e-6, orpo: 5e-6, sft: 2e-5; with --lora times 10]"
)
@click.option("--reference", metavar="MODEL", help="That dpo, ipo and kto compare with.  [default: the base]")
@click.option("--beta", type=float, help="[dpo, ipo, kto: 0.1, orpo: 0.2, simpo: 2]")
@click.option("--gamma", type=float, help="Margin of simpo.  [default: 1]")
@click.option("--label-smoothing", type=float, default=0.0)
@click.option("--length-alpha", type=float, default=1.0, help="LD-DPO: what tokens beyond the shorter side count.")
@click.option("--weighted", is_flag=True, help="WPO: pairs count by how likely the policy is to write them.")
@click.option("--sft", type=float, default=0.0, help="Weight of the chosen side's log-likelihood, added to the loss.")
@click.option("--schedule", type=click.Choice(["linear", "cosine", "constant"]), default="linear", show_default=True)
@click.option("--warmup", type=float, default=0.1, show_default=True, help="Share of the steps.")
@click.option("--weight-decay", type=float, default=0.0, show_default=True)
@click.option("--max-tokens", type=int, default=1024, show_default=True, help="Of a prompt with a response.")
@click.option("--over-long", type=click.Choice(["drop", "cut"]), default="drop", show_default=True,
              help="Leave longer responses out, or cut their prompt.")  # fmt: skip
@click.option("--row-tokens", type=int, default=1024, show_default=True, help="Read at once; memory grows with it.")
@click.option("--lora", type=int, metavar="RANK", help="Train an adapter in place of all weights; such as 16.")
@click.option("--quantize", is_flag=True, help="With --lora: hold the base in 4 bits. Needs a GPU.")
@click.option("--freeze-layers", type=int, default=0, help="So many of the lowest layers stay as they are.")
@click.option("--gradient-checkpointing/--no-gradient-checkpointing", default=None,
              help="Less memory, more arithmetic.  [default: above a billion weights]")  # fmt: skip
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--max-steps", type=int, help="Stop after so many optimiser steps.")
@click.option("--check-steps", type=int, help="Between looks; 0 for one at the end.  [default: five looks]")
@click.option("--check-prompts", type=int, default=32, show_default=True, help="Answered at each look.")
@click.option("--check-tokens", type=int, default=256, show_default=True, help="Of such an answer at most.")
@click.option("--stop-when-degenerate", is_flag=True, help="End the training when a look finds degenerate text.")
@click.option("--patience", type=int, help="End it after so many looks that were not better.")
@click.option("--keep", type=click.Choice(["best", "last"]), default="best", show_default=True,
              help="The weights of the best look, or of the last step.")  # fmt: skip
@click.option("--save-minutes", type=float, default=10.0, show_default=True, help="Between checkpoints.")
@click.option("--save-steps", type=int, help="The same in steps.")
@click.option("--log-steps", type=int, help="[default: about fifty lines in all]")
def train_policy(
    source: Path, reward_model: str | None, name: str | None, out: Path | None, overwrite: bool, split: str | None,
    held_out: Path | None, leave_policies_out: str | None, majority: bool, **options: Any,
) -> None:  # fmt: skip
    """Train a policy on the pairs of RUN or FILE, and look at what it writes on the way.

    The same command goes on with a training that was cut: see docs/policies.md.

    \b
        prefkit train-policy runs/first --rm smollm2
        prefkit train-policy runs/first --method orpo --sft-first 1
        prefkit train-policy runs/first --base Qwen/Qwen2.5-0.5B-Instruct --lora 16 --name qwen
        accelerate launch --num_processes 2 -m prefkit train-policy runs/first
    """
    from prefkit.cli.progress import Bars
    from prefkit.policies.settings import PolicySettings
    from prefkit.policies.training import train_policy as trained_policy
    from prefkit.training.reward_info import reward_model_folder
    from prefkit.training.training_pairs import TrainingData

    data = TrainingData(
        source=source, split=split or (None if source.is_file() else "train"), held_out=held_out,
        without=tuple(filter(None, (leave_policies_out or "").split(","))), soft=not majority,
    )  # fmt: skip
    settings = PolicySettings(**options)
    run = source if (source / "run.json").exists() else Path()
    made = name or f"{Path(settings.base.rstrip('/')).name.lower()}-{settings.method}"
    with Bars() as bars:
        found = trained_policy(
            data, settings, out or run / "policies" / made, overwrite=overwrite,
            reward_model=reward_model_folder(reward_model, source) if reward_model else None,
            opened=bars.open_absolute, say=click.echo,
        )  # fmt: skip
    if not int(os.environ.get("RANK", "0")):
        _print(found)


def _print(found: TrainedPolicy) -> None:
    from prefkit.cli.figures import show, table

    before = f" ({found.resumed} of them before)" if found.resumed else ""
    speed = f"{found.pairs_per_second:,.2f} pairs/s, {found.tokens_per_second:,.0f} tokens/s"
    click.echo(f"{found.steps} steps{before}: {found.seconds:,.0f} s, {speed}")
    made = table("looks", "step", "held out", "win rate against the start", "words", "unfit", "nats from the start", "")
    for look in found.looks:
        made.add_row(*_cells(look, found.kept))
    show([made])
    for note in found.notes:
        click.echo(f"- {note}")
    click.echo(f"{found.folder}: a policy. Next: prefkit chat {found.folder}, or prefkit export {found.folder}")


def _cells(look: Look, kept: int) -> list[str]:
    held_out = look.held_out
    right = f"{held_out['accuracy']:.1%}" if "accuracy" in held_out else f"nll {held_out.get('nll', 0):.3f}"
    rate = look.win_rate
    unfit, words = look.health.shares.get("unfit"), look.health.drifts.get("words")
    marks = ["degenerate"] * look.health.flagged + ["kept"] * (look.step == kept)
    return [
        f"{look.step:,}",
        right if held_out else "",
        f"{rate.value:.0%} ({rate.low:.0%} to {rate.high:.0%})" if rate else "",
        f"{words.value:.0f}" if words else "",
        f"{unfit.share:.0%}" if unfit else "",
        f"{look.divergence:z.1f}",
        ", ".join(marks),
    ]
