"""``prefkit generate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from prefkit.cli.asking import asking_options
from prefkit.cli.engine import engine_options
from prefkit.cli.runs import RUN


@click.command()
@RUN
@click.option(
    "--policy",
    "policies",
    multiple=True,
    required=True,
    metavar="MODEL",
    help="provider/model, or a name in models.yaml; may be repeated.",
)
@click.option("--samples", type=click.IntRange(min=1), default=1, show_default=True, help="Answers to each prompt.")
@click.option("--assign", type=click.IntRange(min=1), help="Draw so many of the policies for each prompt, evenly.")
@click.option("--temperature", type=click.FloatRange(min=0), help="[default: the model's own]")
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), help="[default: the model's own]")
@click.option("--reply-tokens", type=click.IntRange(min=1), help="Bound on an answer.  [default: 512]")
@click.option("--seed", type=int, help="Sent with each call (plus the sample's number), and used by --assign.")
@click.option("--system", metavar="TEXT|FILE", help="System prompt, for prompts that have none of their own.")
@click.option("--words", type=click.IntRange(min=1), help="Ask for no more than so many words.")
@click.option("--prompts", type=click.IntRange(min=1), help="Only the first so many prompts.")
@asking_options
@engine_options
def generate(
    run: Path, policies: tuple[str, ...], estimate: bool, engine: str, ray_address: str | None, **options: Any
) -> None:
    """Have policies answer the prompts of RUN.

    Answers that are empty, cut off, looping, or go on with somebody else's turn are kept and marked: see
    docs/generating.md.

    \b
        prefkit generate runs/first --policy embedded/smollm2
        prefkit generate runs/first --policy openai/gpt-4o --system therapist.txt --words 150 --estimate
        prefkit generate runs/first --policy a --policy b --policy c --policy d --assign 2 --max-cost 20
    """
    from prefkit.cli.asking import (
        ask_and_report,
        ask_on_cluster_and_report,
        ask_settings,
        print_estimate,
        refuse_estimate,
    )
    from prefkit.generating.settings import GenerateSettings, system_text
    from prefkit.generating.stage import GenerateQuestions
    from prefkit.run import Run

    if options["assign"] is not None and options["assign"] > len(set(policies)):
        raise click.UsageError(f"--assign {options['assign']} needs as many policies; there are {len(set(policies))}.")
    if options["samples"] > 1 and options["temperature"] == 0:
        raise click.UsageError("--samples with --temperature 0 asks for one answer many times.")
    refuse_estimate(estimate, engine)
    settings = ask_settings(policies, options)
    if options["system"] is not None:
        options["system"] = system_text(options["system"])
    opened = Run(run)
    if engine == "ray":
        from prefkit.cluster.asking import generate_on_cluster
        from prefkit.working_copy import store_of

        ask_on_cluster_and_report(
            opened,
            "generate",
            "responses",
            settings,
            ray_address,
            lambda cluster, watch: generate_on_cluster(
                opened, store_of(run), policies, GenerateSettings(**options), settings, cluster, watch
            ),
        )
        return
    questions = GenerateQuestions(opened, policies, GenerateSettings(**options))
    if questions.excluded:
        click.echo(f"passed over: {questions.excluded:,} excluded prompts")
    if estimate:
        print_estimate(opened, questions, settings)
        return
    try:
        ask_and_report(opened, questions, settings)
    finally:
        for mark, count in questions.marked.most_common():
            click.echo(f"  marked: {count:,} {mark}")
