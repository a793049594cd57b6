"""``prefkit audit``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prefkit.cli.runs import RUN

if TYPE_CHECKING:
    from prefkit.judging.audit.families import Families
    from prefkit.judging.audit.report import Threshold
    from prefkit.run import Run


@click.command()
@RUN
@click.option("--judge", "judges", multiple=True, metavar="NAME", help="This judge (llm:NAME); all models without it.")
@click.option("--principles", is_flag=True, help="Look at each principle by itself, too.")
@click.option(
    "--family", "family", multiple=True, metavar="JUDGE=POLICY,...", help="A judge's own policies.  [default: by name]"
)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write the JSON there; - prints it.")
@click.option("--fail-on", multiple=True, metavar="FIGURE:VALUE", help="Exit with 1 where a figure lies beyond.")
@click.option("--inject", is_flag=True, help="First ask --judge about responses with injected instructions.")
@click.option("--compare", is_flag=True, help="--inject: into one of two responses to compare.  [default: rate]")
@click.option("--cases", type=click.IntRange(min=1), default=20, show_default=True, help="--inject: responses.")
@click.option("--seed", type=int, default=0, show_default=True, help="--inject: which responses.")
@click.option("--max-calls", type=click.IntRange(min=1), help="--inject: at most so many.")
@click.option("--concurrency", type=click.IntRange(min=1), default=64, show_default=True, help="--inject: at a time.")
@click.option(
    "--allow-unscrubbed", is_flag=True, help="--inject: send texts that were not scrubbed out of this network."
)
@click.option("--width", type=click.IntRange(min=60), help="Characters a line; without it, the terminal's.")
def audit(
    run: Path,
    judges: tuple[str, ...],
    principles: bool,
    family: tuple[str, ...],
    json_file: Path | None,
    fail_on: tuple[str, ...],
    inject: bool,
    width: int | None,
    **injecting: Any,
) -> None:
    """Whether the judges of RUN follow order, length or family, and what they leave out.

    Writes audit/audit.json and prints a table. Every figure has an interval clustered by prompt.

    \b
        prefkit audit runs/first
        prefkit audit runs/first --judge llm:gpt-4o --principles
        prefkit audit runs/first --fail-on order.first:0.6 --fail-on missing.unreadable:0.05
        prefkit audit runs/first --inject --judge llm:gpt-4o
    """
    from rich.console import Console

    from prefkit.cli.progress import Bars
    from prefkit.judging.audit import report
    from prefkit.judging.audit.reading import judgement_bytes
    from prefkit.run import Run

    names = tuple(map(_annotator, judges))
    settings = report.AuditSettings(judges=names, principles=principles, families=_families(family))
    thresholds = [_threshold(text) for text in fail_on]
    opened = Run(run)
    if inject:
        _inject(opened, names, **injecting)
    with Bars() as bars:
        found = report.audit(opened, settings, bars.open("Reading judgements", judgement_bytes(opened), "MB"))
    try:
        lines = report.beyond(found, thresholds)
    except ValueError as error:
        raise click.UsageError(f"--fail-on: {error}") from None
    if json_file is None:
        report.write(opened, found)
    elif str(json_file) != "-":
        from prefkit.durable import replacing

        with replacing(json_file) as file:
            file.write(report.as_json(found))
    if str(json_file) == "-":
        click.echo(report.as_json(found), nl=False)
    else:
        Console(width=width, highlight=False, emoji=False).print(report.rendered(found))
        click.echo(f"written: {json_file or run / report.FOLDER / 'audit.json'}")
    for line in lines:
        click.echo(f"beyond the threshold: {line}", err=True)
    if lines:
        sys.exit(1)


def _families(given: tuple[str, ...]) -> Families:
    from prefkit.judging.audit.families import Families

    said = {}
    for text in given:
        judge, equals, policies = text.partition("=")
        if not equals or not judge.strip():
            raise click.UsageError(f"--family {text}: give JUDGE=POLICY,POLICY")
        said[_annotator(judge.strip())] = frozenset(policy.strip() for policy in policies.split(",") if policy.strip())
    return Families(said)


def _threshold(text: str) -> Threshold:
    from prefkit.judging.audit.report import Threshold

    name, _, value = text.rpartition(":")
    try:
        return Threshold(name, float(value))
    except ValueError:
        raise click.UsageError(f"--fail-on {text}: give FIGURE:VALUE, such as order.first:0.6") from None


def _annotator(name: str) -> str:
    return name if name.startswith(("llm:", "human:")) else f"llm:{name}"


def _inject(
    run: Run,
    names: tuple[str, ...],
    compare: bool,
    cases: int,
    seed: int,
    max_calls: int | None,
    concurrency: int,
    allow_unscrubbed: bool,
) -> None:
    from prefkit.cli.asking import ask_and_report
    from prefkit.judging.audit.injecting import InjectQuestions, InjectSettings
    from prefkit.models.asking import AskSettings, known_models
    from prefkit.models.engine import Limits

    if not names:
        raise click.UsageError("--inject asks a model: name it with --judge.")
    asking = AskSettings(
        models=tuple(name.removeprefix("llm:") for name in names),
        limits=Limits(concurrency=concurrency),
        max_calls=max_calls,
        allow_unscrubbed=allow_unscrubbed,
    )
    known_models(run, asking.models)
    settings = InjectSettings(mode="compare" if compare else "rate", cases=cases, seed=seed)
    ask_and_report(run, InjectQuestions(run, settings, asking.models), asking, err=True)
