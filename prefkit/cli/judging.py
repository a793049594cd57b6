"""``prefkit judge``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prefkit.cli.asking import asking_options
from prefkit.cli.engine import engine_options
from prefkit.cli.runs import RUN

if TYPE_CHECKING:
    from prefkit.judging.stage import JudgeQuestions
    from prefkit.models.asking import AskSettings
    from prefkit.run import Run


@click.command()
@RUN
@click.option(
    "--judge",
    "judges",
    multiple=True,
    required=True,
    metavar="MODEL",
    help="provider/model, or a name in models.yaml; may be repeated.",
)
@click.option(
    "--mode",
    type=click.Choice(["rate", "compare", "choose"]),
    default="rate",
    show_default=True,
    help="Score each response, say which of two is better (asked in both orders), or pick the best of all.",
)
@click.option("--per-principle", is_flag=True, help="rate: one question for each principle.")
@click.option("--overall-only", is_flag=True, help="compare: no verdict for each principle.")
@click.option("--reason", is_flag=True, help="Ask for a short reason before the scores.")
@click.option("--expected", is_flag=True, help="Scores as expected values over the logprobs of the score's token.")
@click.option("--samples", type=click.IntRange(min=1), default=1, show_default=True, help="Answers to each question.")
@click.option("--temperature", type=click.FloatRange(min=0), help="[default: 0, or 1 with several samples]")
@click.option("--reply-tokens", type=click.IntRange(min=1), default=1024, show_default=True, help="Bound on a reply.")
@click.option("--seed", type=int, help="Sent with each call, and used where pairs are drawn.")
@click.option("--policy", "policies", multiple=True, help="Judge responses of this policy only; may be repeated.")
@click.option("--baseline", metavar="POLICY", help="compare: each policy with this one.  [default: all with all]")
@click.option("--pairs-per-prompt", type=click.IntRange(min=1), help="compare: so many, drawn at random.")
@click.option("--prompts", type=click.IntRange(min=1), help="Only the first so many prompts.")
@click.option(
    "--nearest-examples",
    type=click.IntRange(min=1),
    metavar="K",
    help="Show the K contrast examples whose prompts are nearest, in place of all of the rubric's.",
)
@click.option("--embedder", metavar="MODEL", help="--nearest-examples: the model that says what is near.")
@click.option(
    "--examples",
    type=click.Path(path_type=Path, dir_okay=False),
    help="--nearest-examples: more to choose from, .yaml or .jsonl.",
)
@asking_options
@engine_options
def judge(
    run: Path, judges: tuple[str, ...], estimate: bool, engine: str, ray_address: str | None, **options: Any
) -> None:
    """Ask judge models about the responses of RUN.

    \b
        prefkit judge runs/first --judge openai/gpt-4o --estimate
        prefkit judge runs/first --judge openai/gpt-4o --max-cost 20
        prefkit judge runs/first --judge ollama/llama3.2 --mode compare --baseline gpt-4
    """
    from prefkit.cli.asking import (
        ask_and_report,
        ask_on_cluster_and_report,
        ask_settings,
        print_estimate,
        refuse_estimate,
    )
    from prefkit.judging.settings import JudgeSettings
    from prefkit.judging.stage import JudgeQuestions
    from prefkit.run import Run

    for option, mode in (
        ("per_principle", "rate"),
        ("overall_only", "compare"),
        ("baseline", "compare"),
        ("pairs_per_prompt", "compare"),
    ):
        if options[option] and options["mode"] != mode:
            raise click.UsageError(f"--{option.replace('_', '-')} goes with --mode {mode}.")
    if options["expected"] and options["mode"] == "choose":
        raise click.UsageError("--expected goes with --mode rate or compare.")
    if options["nearest_examples"] and not options["embedder"]:
        raise click.UsageError("--nearest-examples needs an --embedder MODEL.")
    for option in ("embedder", "examples"):
        if options[option] and not options["nearest_examples"]:
            raise click.UsageError(f"--{option} goes with --nearest-examples K.")
    refuse_estimate(estimate, engine)
    settings = ask_settings(judges, options)
    opened = Run(run)
    if engine == "ray":
        from prefkit.cluster.asking import judge_on_cluster
        from prefkit.working_copy import store_of

        ask_on_cluster_and_report(
            opened,
            "judge",
            "judgements",
            settings,
            ray_address,
            lambda cluster, watch: judge_on_cluster(
                opened, store_of(run), JudgeSettings(**options), settings, cluster, watch
            ),
        )
        return
    questions = JudgeQuestions(opened, JudgeSettings(**options))
    if estimate:
        if questions.nearest:
            questions.nearest.take_longest()
        print_estimate(opened, questions, settings)
        if questions.nearest:
            click.echo(f"Each question is counted with the {questions.nearest.count} longest examples it may show.")
        return
    if questions.without_text:
        click.echo(f"passed over: {questions.without_text:,} responses without a text")
    if questions.nearest:
        _choose_examples(opened, questions, settings)
    ask_and_report(opened, questions, settings)


def _choose_examples(run: Run, questions: JudgeQuestions, settings: AskSettings) -> None:
    from prefkit.cli.progress import Bars
    from prefkit.judging.examples import choose_examples

    with Bars() as bars:
        prompts, examples = choose_examples(
            run, questions, settings, lambda total: bars.open("Embedding", total, "prompts")
        )
    name = questions.nearest.embedder if questions.nearest else ""
    if prompts:
        click.echo(f"embedded {prompts:,} prompts and {examples:,} examples with {name}")


@click.command()
@RUN
@click.option("--dry-run", is_flag=True, help="Change nothing; say what would change.")
def reparse(run: Path, dry_run: bool) -> None:
    """Read the stored replies of the judges of RUN again, with the parser as it is now. Nothing is asked.

    \b
        prefkit reparse runs/first --dry-run
        prefkit reparse runs/first
    """
    from prefkit.cli.progress import Bars
    from prefkit.judging.reparse import reparse_run
    from prefkit.records import Judgement
    from prefkit.run import Run

    opened = Run(run)
    file = opened.file(Judgement)
    with Bars() as bars:
        size = file.stat().st_size if file else 0
        counts = reparse_run(opened, dry_run=dry_run, progress=bars.open("Reading", size, "MB"))
    changed = ", ".join(f"{count:,} {way}" for way, count in counts.most_common())
    click.echo(f"replies: {changed or 'none'}" + (" (dry run)" if dry_run else ""))
