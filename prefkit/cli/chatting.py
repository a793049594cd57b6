"""``prefkit chat``."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.argument("model")
@click.argument("other", metavar="[MODEL2]", required=False)
@click.option("--blind", is_flag=True, help="Hide which is which, in an order drawn anew each turn.")
@click.option("--run", "run", type=click.Path(path_type=Path), help="Keep votes in this run, as comparisons.")
@click.option("--annotator", default="me", show_default=True, help="A pseudonym; votes are those of human:NAME.")
@click.option("--system", metavar="TEXT", help="The setting: a system prompt.")
@click.option("--temperature", type=click.FloatRange(min=0), default=0.7, show_default=True)
@click.option("--top-p", type=click.FloatRange(min=0, max=1, min_open=True), default=1.0, show_default=True)
@click.option("--max-tokens", type=click.IntRange(min=1), default=512, show_default=True, help="Of an answer.")
@click.option("--seed", type=int, help="The same seed gives the same answers and orders.")
def chat(
    model: str, other: str | None, blind: bool, run: Path | None, annotator: str, system: str | None,
    temperature: float, top_p: float, max_tokens: int, seed: int | None,
) -> None:  # fmt: skip
    """Talk to MODEL, or to MODEL and MODEL2 side by side, and vote after each turn.

    A model is a folder, a Hub id, smollm2, or RUN:POLICY. Ctrl-C stops an answer. Nothing leaves this machine.

    \b
        prefkit chat smollm2
        prefkit chat smollm2 runs/first:dpo --blind --run runs/first --annotator anna
    """
    if other is None and (blind or run):
        raise click.UsageError(f"{'--blind' if blind else '--run'} goes with two models.")
    from prefkit.errors import PrefkitError
    from prefkit.policies.conversation import HELP, Conversation
    from prefkit.policies.talking import Drawing, Talker
    from prefkit.policies.voting import Votes
    from prefkit.records import is_annotator
    from prefkit.run import Run

    name = annotator if annotator.startswith("human:") else f"human:{annotator}"
    if not is_annotator(name):
        raise click.BadParameter("a pseudonym, such as anna", param_hint="--annotator")
    votes = Votes(Run(run), name) if run else None
    talkers = [Talker.load(one) for one in (model, other) if one]
    if len(talkers) == 2 and talkers[0].name == talkers[1].name:
        remedy = "Rename one of the folders: a vote says which of two names is better."
        raise PrefkitError(f"{model} and {other}", f"{talkers[0].name} twice", "two names", remedy)
    import random

    click.echo(f"({HELP})", err=True)
    if run:
        rubric = Run(run).rubric
        titles = ", ".join(one.title for one in rubric.principles)
        click.echo(f"(better by the rubric {rubric.id}: {titles})", err=True)
    Conversation(
        talkers, Drawing(temperature=temperature, top_p=top_p, max_tokens=max_tokens, seed=seed), _ask, _write,
        blind=blind, votes=votes, setting=system, shuffle=random.Random(seed),
    ).hold()  # fmt: skip


def _ask(prompt: str) -> str | None:
    """A line from the terminal, or from whatever is the input; None at its end."""
    if sys.stdin.isatty():
        import contextlib

        with contextlib.suppress(ImportError):
            import readline  # noqa: F401  arrows and history
        try:
            return input(prompt)
        except EOFError:
            _write("\n")
            return None
    _write(prompt)
    line = sys.stdin.readline()
    _write(line if line.endswith("\n") else f"{line}\n")
    return line.rstrip("\n") if line else None


def _write(words: str) -> None:
    click.echo(words, nl=False)
    sys.stdout.flush()
