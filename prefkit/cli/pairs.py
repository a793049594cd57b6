"""``prefkit build-pairs`` and ``prefkit pairs``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from prefkit.cli.engine import engine_options
from prefkit.cli.runs import RUN


@click.command("build-pairs")
@RUN
@click.option(
    "--strategy",
    type=click.Choice(["gap", "best-worst", "all", "top-k", "comparisons"]),
    default="gap",
    show_default=True,
    help="Which two responses to a prompt make a pair.",
)
@click.option(
    "--min-gap", type=click.FloatRange(min=0), help="Smallest gap of overall scores.  [gap: 1.0, others: > 0]"
)
@click.option("--top", type=click.IntRange(min=1), default=1, show_default=True, help="top-k: how many best ones.")
@click.option(
    "--aggregate",
    type=click.Choice(["mean", "median", "trimmed"]),
    default="mean",
    show_default=True,
    help="Over annotators.",
)
@click.option(
    "--z-scores",
    is_flag=True,
    help="Measure each annotator by their own mean and spread; gaps are then in standard deviations.",
)
@click.option("--gates/--no-gates", default=True, help="Apply the rubric's gates, such as safety.  [default: gates]")
@click.option(
    "--orders",
    type=click.Choice(["both", "any"]),
    default="both",
    show_default=True,
    help="Whether a model's comparison counts only when asked in both orders.",
)
@click.option("--min-votes", type=click.IntRange(min=1), default=1, show_default=True, help="comparisons: annotators.")
@click.option(
    "--ties", is_flag=True, help="gap, all, comparisons: keep ties as pairs, for reward models that learn them."
)
@click.option("--max-chars", type=click.IntRange(min=1), help="Leave out pairs with a longer response.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="The same in tokens of --tokenizer.")
@click.option("--tokenizer", help="Hub id or local folder.")
@click.option(
    "--near-identical",
    type=click.FloatRange(0, 1),
    default=0.95,
    show_default=True,
    help="Leave out pairs of texts at least this similar (edit distance).",
)
@click.option("--per-prompt", type=click.IntRange(min=1), help="At most so many pairs of one prompt.")
@click.option(
    "--test-size", type=click.FloatRange(min=0), default=0.1, show_default=True, help="Share or number of prompts."
)
@click.option(
    "--validation-size",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Share or number of prompts.",
)
@click.option(
    "--near-duplicates",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.8,
    show_default=True,
    help="Prompts at least this similar stay on one side of the split.",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--format",
    type=click.Choice(["conversational", "plain", "psychocounsel"]),
    default="conversational",
    show_default=True,
    help="How the dataset holds the texts.",
)
@click.option("--licence", default="unknown", show_default=True, help="For the dataset card, e.g. cc-by-4.0.")
@click.option("--push-to-hub", metavar="OWNER/NAME", help="Upload the dataset; refused while texts are not scrubbed.")
@click.option("--public", is_flag=True, help="With --push-to-hub: a public repository; private without it.")
@engine_options
def build_pairs(
    run: Path, push_to_hub: str | None, public: bool, engine: str, ray_address: str | None, **options: Any
) -> None:
    """Turn the judgements of RUN into pairs.parquet and dataset/.

    \b
        prefkit build-pairs runs/first
        prefkit build-pairs runs/first --strategy best-worst --test-size 200
        prefkit build-pairs runs/first --strategy comparisons --orders any
        prefkit build-pairs s3://bucket/runs/first --engine ray
    """
    from prefkit.cli.progress import Bars
    from prefkit.pairs.build import build_pairs as build
    from prefkit.pairs.settings import PairSettings
    from prefkit.run import Run

    if options["strategy"] == "comparisons" and options["min_gap"] is not None:
        raise click.UsageError("--min-gap is about ratings; --strategy comparisons has none.")
    if options["strategy"] != "top-k" and options["top"] != 1:
        raise click.UsageError("--top goes with --strategy top-k.")
    if options["ties"] and options["strategy"] in ("best-worst", "top-k"):
        raise click.UsageError("--ties goes with --strategy gap, all or comparisons.")
    opened = Run(run)
    if push_to_hub and engine == "ray":
        raise click.UsageError(
            "--push-to-hub goes with --engine local; what Ray wrote can be uploaded from where it is."
        )
    if push_to_hub:
        from prefkit.pairs.hub import refuse_unscrubbed

        refuse_unscrubbed(opened)
    settings = PairSettings(**options)
    if engine == "ray":
        from prefkit.cluster.cluster import joined
        from prefkit.cluster.pairs import build_pairs_on_cluster
        from prefkit.working_copy import store_of

        with joined(ray_address) as cluster, Bars() as bars:
            report = build_pairs_on_cluster(opened, store_of(run), settings, cluster, bars.open)
    else:
        with Bars() as bars:
            report = build(opened, settings, bars.open)
    judged = ", ".join(f"{count:,} {name}" for name, count in report.judgements.items() if count)
    click.echo(f"judgements read: {judged}")
    click.echo(f"selected: {report.selected:,} pairs ({options['strategy']})")
    for reason, count in report.dropped.most_common():
        click.echo(f"  left out: {count:,} {reason}")
    kept = ", ".join(f"{count:,} {name}" for name, count in report.kept.items())
    click.echo(f"pairs.parquet: {report.kept.total():,} pairs ({kept})")
    if report.tied:
        tied = ", ".join(f"{count:,} {name}" for name, count in report.tied.items())
        click.echo(f"  of them ties: {report.tied.total():,} ({tied}), which the dataset leaves out")
    if report.dataset:
        click.echo(f"dataset/: {report.dataset.total():,} rows, {options['format']}; manifest {report.manifest}")
    else:
        only_ties = report.tied.total() == report.kept.total()
        click.echo(f"dataset/: none, as {'all pairs are ties' if only_ties else 'the run has no response texts'}")
    if push_to_hub:
        from prefkit.pairs.hub import push

        click.echo(f"pushed to {push(opened, push_to_hub, private=not public)}")


@click.command()
@RUN
@click.option("--sample", type=click.IntRange(min=1), default=5, show_default=True, help="How many, at random.")
@click.option("--split", type=click.Choice(["train", "validation", "test"]), help="From this split only.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--width", type=click.IntRange(min=40), help="Characters a line; without it, the terminal's.")
def pairs(run: Path, sample: int, split: str | None, seed: int, width: int | None) -> None:
    """Read pairs of RUN in the terminal: prompt, chosen, rejected, and the gaps.

    \b
        prefkit pairs runs/first --sample 5
    """
    from rich.console import Console

    from prefkit.pairs.reading import rendered, sampled
    from prefkit.run import Run

    console = Console(width=width, emoji=False)
    for pair in sampled(Run(run), sample, split, seed):
        console.print(rendered(pair))
