"""``prefkit scrub`` and ``prefkit screen``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from prefkit.cli.engine import engine_options
from prefkit.cli.runs import RUN


@click.command()
@RUN
@click.option("--dry-run", is_flag=True, help="Change nothing; show what would be replaced, most frequent first.")
@click.option("--most", type=click.IntRange(min=1), default=20, show_default=True, help="--dry-run: lines a kind.")
@engine_options
def scrub(run: Path, dry_run: bool, most: int, engine: str, ray_address: str | None) -> None:
    """Replace names, credentials, phone numbers, addresses and the like in RUN by placeholders.

    Ids stay, so that importing the raw files again brings nothing back. It is a net with holes, not anonymisation: see
    docs/scrubbing.md.

    \b
        prefkit scrub runs/first --dry-run
        prefkit scrub runs/first
    """
    from prefkit.cli.progress import Bars
    from prefkit.prompts.cleaning import scrub_run
    from prefkit.run import Run

    opened = Run(run)
    if engine == "ray":
        from prefkit.cluster.cluster import joined
        from prefkit.cluster.scrubbing import scrub_on_cluster
        from prefkit.working_copy import store_of

        with joined(ray_address) as cluster, Bars() as bars:
            advance = bars.open("Scrubbing", None, "texts")
            report = scrub_on_cluster(opened, store_of(run), cluster, dry_run=dry_run, progress=advance)
    else:
        with Bars() as bars:
            report = scrub_run(opened, dry_run=dry_run, progress=bars.open("Scrubbing", None, "texts"))
    if dry_run:
        for kind in sorted({kind for kind, _ in report.examples}):
            found = [(text, count) for (k, text), count in report.examples.most_common() if k == kind]
            click.echo(f"{kind}: {report.found[kind]:,} ({len(found):,} different)")
            for text, count in found[:most]:
                click.echo(f"  {count:>5,}  {' '.join(text.split())}")
    for name in ("prompts", "responses"):
        looked, changed = report.texts[name], report.texts[f"{name} changed"]
        click.echo(f"{name}: {looked:,} scrubbed, {changed:,} of them changed" + (" (dry run)" if dry_run else ""))
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in report.found.most_common())
    click.echo(f"replaced: {kinds or 'nothing'}")


@click.command()
@RUN
@click.option("--min-chars", type=click.IntRange(min=0), default=100, show_default=True)
@click.option("--max-chars", type=click.IntRange(min=1), default=1000, show_default=True)
@click.option("--min-tokens", type=click.IntRange(min=0), help="In tokens of --tokenizer.")
@click.option("--max-tokens", type=click.IntRange(min=1), help="In tokens of --tokenizer.")
@click.option("--tokenizer", help="Hub id or local folder.")
@click.option(
    "--language", "languages", multiple=True, metavar="CODE", help="Keep only these (en, zh, ...); may be repeated."
)
@click.option(
    "--near-duplicates",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.8,
    show_default=True,
    help="Exclude prompts at least this similar to an earlier one (Jaccard of word pairs).",
)
@click.option("--keep-near-duplicates", is_flag=True, help="Exclude none for being similar.")
@click.option("--risk/--no-risk", default=True, help="Mark signs of self-harm, harm to others, abuse.  [default: risk]")
@engine_options
def screen(run: Path, keep_near_duplicates: bool, engine: str, ray_address: str | None, **options: Any) -> None:
    """Mark the prompts of RUN: too short or long, other language, duplicates (excluded), risk (marked only).

    Nothing is deleted; screening again with other settings sets the marks anew. The risk screen is a word list, not a
    clinical tool: see docs/screening.md.

    \b
        prefkit screen runs/first
        prefkit screen runs/first --max-chars 4000 --language en
    """
    from prefkit.prompts.cleaning import screen_run
    from prefkit.prompts.screening import ScreenSettings
    from prefkit.run import Run

    if keep_near_duplicates:
        options["near_duplicates"] = None
    settings, opened = ScreenSettings(**options), Run(run)
    if engine == "ray":
        from prefkit.cli.progress import Bars
        from prefkit.cluster.cluster import joined
        from prefkit.cluster.duplicates import screen_on_cluster
        from prefkit.working_copy import store_of

        with joined(ray_address) as cluster, Bars() as bars:
            report = screen_on_cluster(opened, store_of(run), settings, cluster, bars.open("Screening", None, "blocks"))
    else:
        report = screen_run(opened, settings)
    click.echo(f"prompts: {report.kept:,} of {report.prompts:,} kept")
    for reason, count in report.excluded.most_common():
        click.echo(f"  excluded: {count:,} {reason}")
    for mark, count in report.marked.most_common():
        click.echo(f"  marked: {count:,} {mark}")
