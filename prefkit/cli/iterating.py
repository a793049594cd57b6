"""``prefkit iterate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.table import Table

    from prefkit.policies.round_evaluation import Standing
    from prefkit.policies.rounds import Iterated


@click.command()
@click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--base", required=True, metavar="MODEL", help="The start: a policy of RUN, a folder, a Hub id, smollm2.")
@click.option("--rm", "reward_model", required=True, metavar="PATH|NAME", help="A reward model, or its name in RUN.")
@click.option("--second-rm", "second", metavar="PATH|NAME", help="Another one, that only judges the rounds.")
@click.option("--rounds", type=int, default=2, show_default=True, help="More of them may be asked for later.")
@click.option("--prompts", type=int, default=512, show_default=True, help="Asked in a round.")
@click.option("--samples", type=int, default=8, show_default=True, help="Answers to each prompt.")
@click.option("--reference", type=click.Choice(["round", "start"]), default="round", show_default=True,
              help="Of each training: the policy that its round begins with, or the start.")  # fmt: skip
@click.option("--choose", type=click.Choice(["best-worst", "top-k"]), default="best-worst", show_default=True,
              help="The pairs of a prompt.")  # fmt: skip
@click.option("--top", type=int, default=2, show_default=True, help="Of top-k: so many best against so many worst.")
@click.option("--min-gap", type=float, default=0.0, show_default=True, metavar="SD",
              help="Least difference of rewards, in standard deviations.")  # fmt: skip
@click.option("--keep-cut-off", is_flag=True, help="Learn from answers that were cut off as well.")
@click.option("--held-out", type=int, default=128, show_default=True, help="Prompts to measure on.")
@click.option("--best-of", type=int, help="Answers of the start whose best is compared; 0: none.  [as --samples]")
@click.option("--answer-tokens", type=int, default=256, show_default=True, help="Of an answer at most.")
@click.option("--temperature", type=float, default=1.0, show_default=True)
@click.option("--top-p", type=float, default=1.0, show_default=True)
@click.option("--name", help="Of the iteration.  [default: after the base]")
@click.option("--overwrite", is_flag=True, help="Throw away the rounds that are there.")
@click.option("--learning-rate", type=float, help="Of DPO.  [1e-6; with --lora 1e-5]")
@click.option("--beta", type=float, help="Of DPO.  [0.1]")
@click.option("--epochs", type=float, default=1.0, show_default=True, help="Passes over the pairs of a round.")
@click.option("--batch", "pairs_per_step", type=int, default=32, show_default=True, help="Pairs in a step, about.")
@click.option("--max-tokens", type=int, default=1024, show_default=True, help="Of a prompt with an answer.")
@click.option("--row-tokens", type=int, default=1024, show_default=True, help="Read at once; memory grows with it.")
@click.option("--lora", type=int, metavar="RANK", help="Train an adapter, merged at the end of each round.")
@click.option("--gradient-checkpointing/--no-gradient-checkpointing", default=None,
              help="Less memory, more arithmetic.  [default: above a billion weights]")  # fmt: skip
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--save-minutes", type=float, default=10.0, show_default=True, help="Between checkpoints of a training.")
def iterate(
    run: Path, base: str, reward_model: str, second: str | None, name: str | None, overwrite: bool, seed: int,
    learning_rate: float | None, beta: float | None, epochs: float, pairs_per_step: int, max_tokens: int,
    row_tokens: int, lora: int | None, gradient_checkpointing: bool | None, precision: Any, save_minutes: float,
    **options: Any,
) -> None:  # fmt: skip
    """Rounds of preference learning on the policy's own answers to the prompts of RUN.

    In each round the policy answers, the reward model says which answers are better, and the policy learns that (DPO).
    The same command goes on where it was stopped, and with more --rounds behind the last one: see docs/iterating.md.

    \b
        prefkit iterate runs/first --base smollm2 --rm first
        prefkit iterate runs/first --base smollm2 --rm first --second-rm other --rounds 3 --prompts 6400
        prefkit iterate runs/first --base dpo --rm first --choose top-k --top 2 --min-gap 0.5 --name wide
    """
    from prefkit.cli.progress import Bars
    from prefkit.policies.opening import POLICIES
    from prefkit.policies.round_settings import RoundSettings
    from prefkit.policies.rounds import iterate, iteration_folder
    from prefkit.policies.settings import PolicySettings
    from prefkit.run import Run
    from prefkit.training.reward_info import reward_model_folder

    opened = Run(run)
    own = run / POLICIES / base
    start = str(own) if own.is_dir() else base
    training = PolicySettings(
        base=start, learning_rate=learning_rate, beta=beta, epochs=epochs, pairs_per_step=pairs_per_step,
        max_tokens=max_tokens, row_tokens=row_tokens, lora=lora, gradient_checkpointing=gradient_checkpointing,
        precision=precision, save_minutes=save_minutes, seed=seed, check_steps=0, check_prompts=16,
        keep="last",
    )  # fmt: skip
    with Bars() as bars:
        done = iterate(
            opened, RoundSettings(training=training, seed=seed, **options), iteration_folder(run, start, name),
            reward_model=reward_model_folder(reward_model, run),
            second=reward_model_folder(second, run) if second else None,
            overwrite=overwrite, opened=bars.open, say=click.echo,
        )  # fmt: skip
    _show(done)


def _show(done: Iterated) -> None:
    from prefkit.cli.figures import show

    show([_table(done)])
    if done.stopped:
        click.echo(f"stopped after round {len(done.rounds)}: {'; '.join(done.stopped)}")
    if done.best_round:
        click.echo(f"the best is that of round {done.best_round}: {done.best}")
        click.echo(f"Next: prefkit export {done.best} --to out/tuned")
    else:
        click.echo(f"no round is better than the start, {done.best}, without a reason to stop")
        click.echo(
            "Next: prefkit eval-rm, to see what the reward model is worth; or other settings under another --name"
        )


def _table(done: Iterated) -> Table:
    from prefkit.cli.figures import table

    second = done.start.reward_by_second is not None
    extra = ("second judge, %", "its reward") if second else ()
    made = table("", "round", "prompts", "pairs", "wins against the start, %", "reward, SD", "words", "flagged", *extra)
    start = done.start
    flagged = "yes" if start.health.flagged else "no"
    by_second = ("", f"{start.reward_by_second:+.2f}") if start.reward_by_second is not None else ()
    made.add_row("start", "", "", "", f"{start.reward:+.2f}", f"{start.words:.0f}", flagged, *by_second)
    if start.best and start.best_words is not None:
        by_second = _both(start.best_by_second) if second else ()
        win, reward = _both(start.best)
        made.add_row(f"best of {start.n}", "", "", win, reward, f"{start.best_words:.0f}", "", *by_second)
    for one in done.rounds:
        win, reward = _both(one.by_reward_model)
        flagged = "yes" if one.health.flagged else "no"
        by_second = _both(one.by_second) if second else ()
        counts = (f"{one.counts['prompts']:,}", f"{one.counts['pairs']:,}")
        made.add_row(str(one.round), *counts, win, reward, f"{one.words:.0f}", flagged, *by_second)
    return made


def _both(judged: Standing | None) -> tuple[str, str]:
    """The win rate against the start with its interval, and the mean reward."""
    if judged is None:
        return "", ""
    rate = judged.start
    return f"{100 * rate.value:.1f} [{100 * rate.low:.1f}, {100 * rate.high:.1f}]", f"{judged.reward:+.2f}"
