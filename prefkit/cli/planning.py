"""``prefkit plan``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prefkit.cli.runs import RUN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import RenderableType

    from prefkit.planning.comparing import Beside
    from prefkit.planning.plan import Plan, PlanSettings
    from prefkit.planning.ranges import Range

_UNITS = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0))


@click.command()
@RUN
@click.option("--prompts", type=click.IntRange(min=1), help="For so many prompts.  [default: those that RUN has]")
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="MODEL",
    help="Who answers; may be repeated.  [default: those that RUN asked]",
)
@click.option("--samples", type=click.IntRange(min=1), help="generate: answers to each prompt.")
@click.option("--assign", type=click.IntRange(min=1), help="generate: so many of the policies for each prompt.")
@click.option("--answer-tokens", type=click.IntRange(min=1), help="generate: bound on an answer.")
@click.option(
    "--judge",
    "judges",
    multiple=True,
    metavar="MODEL",
    help="Who judges; may be repeated.  [default: those that RUN asked]",
)
@click.option("--mode", type=click.Choice(["rate", "compare", "choose"]), help="judge: as in `prefkit judge`.")
@click.option("--per-principle/--all-principles", default=None, help="rate: one question for each principle, or one.")
@click.option("--overall-only", is_flag=True, default=None, help="compare: no verdict for each principle.")
@click.option("--reason", is_flag=True, default=None, help="judge: a short reason before the scores.")
@click.option("--judge-samples", type=click.IntRange(min=1), help="judge: answers to each question.")
@click.option("--baseline", metavar="POLICY", help="compare: each policy with this one.")
@click.option("--pairs-per-prompt", type=click.IntRange(min=1), help="compare: so many, drawn at random.")
@click.option("--batch", is_flag=True, help="At the price of the vendors' batches: half.")
@click.option(
    "--tokenizer", metavar="MODEL", help="A folder, a hub id or smollm2: counts prompts of which no answer tells."
)
@click.option(
    "--throughput",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Tokens a second of a GPU, by model: docs/scale.md.  [default: throughput.yaml, found as models.yaml is]",
)
@click.option(
    "--preset", type=click.Choice(["cpu", "paper"]), default="paper", show_default=True, help="Of the training."
)
@click.option("--save", is_flag=True, help="Keep the plan in RUN, to compare with later.")
@click.option("--compare", is_flag=True, help="Put the plan that was kept beside what RUN has used since.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def plan(run: Path, save: bool, compare: bool, as_json: bool, **options: Any) -> None:
    """What RUN would take: calls, tokens, cost, GPU hours, disk, each with a range. Nothing is sent.

    Ask a sample first, and the plan rests on what that took. What is not said is as the sample was asked.

    \b
        prefkit judge runs/first --judge openai/gpt-4o --prompts 20
        prefkit plan runs/first --save
        prefkit plan runs/first --prompts 1000000 --mode compare
        prefkit judge runs/first --judge openai/gpt-4o
        prefkit plan runs/first --compare
    """
    import msgspec

    from prefkit.cli.figures import show
    from prefkit.cli.progress import Bars
    from prefkit.planning import comparing
    from prefkit.planning import plan as planning
    from prefkit.run import Run

    opened = Run(run)
    if compare:
        kept = planning.read(opened)
        rows = comparing.beside(opened, kept)
        if as_json:
            found = [{**msgspec.to_builtins(row), "off": row.off, "within": row.within} for row in rows]
            return click.echo(msgspec.json.format(msgspec.json.encode(found)))
        return show(_compared(run, rows))
    with Bars() as bars:
        made = planning.plan(opened, _settings(options), bars.open)
    if save:
        planning.save(opened, made)
    if as_json:
        return click.echo(msgspec.json.format(msgspec.json.encode(made)))
    show(_planned(run, made))
    click.echo("Nothing was sent.")
    if save:
        click.echo(f"{run / planning.FILE}: kept. Afterwards: prefkit plan {run} --compare")


def _settings(options: dict[str, Any]) -> PlanSettings:
    from prefkit.planning.plan import PlanSettings
    from prefkit.planning.rounds import Wanted

    def said(**names: str) -> dict[str, Any]:
        return {field: options[name] for field, name in names.items() if options[name] is not None}

    wanted = Wanted(
        policies=options["policies"],
        judges=options["judges"],
        generating=said(samples="samples", assign="assign", reply_tokens="answer_tokens"),
        judging=said(
            mode="mode",
            per_principle="per_principle",
            overall_only="overall_only",
            reason="reason",
            samples="judge_samples",
            baseline="baseline",
            pairs_per_prompt="pairs_per_prompt",
        ),
    )
    names = ("prompts", "tokenizer", "throughput", "preset", "batch")
    return PlanSettings(wanted=wanted, **{name: options[name] for name in names})


def _planned(run: Path, made: Plan) -> Iterator[RenderableType]:
    from prefkit.cli.figures import table

    has = "as it has" if made.prompts == made.there else f"it has {made.there:,}"
    asked = table(
        f"{run}: {made.prompts:,} prompts ({has})", "", "calls", "prompt tokens", "reply tokens", "cost", "GPU hours"
    )
    for line in made.lines:
        cells = (_shown(line.prompt), _shown(line.reply), _shown(line.cost, 2), _shown(line.gpu_hours, 1))
        asked.add_row(_name(line.stage, line.model), _whole(line.calls), *cells)
    rounds = [line for line in made.lines if line.model]
    if len(rounds) > 1:
        calls = _whole(_total(line.calls for line in rounds))
        tokens = [_shown(_total(part)) for part in zip(*((line.prompt, line.reply) for line in rounds), strict=True)]
        hours = _shown(_total(line.gpu_hours for line in made.lines), 1)
        asked.add_row("in all", calls, *tokens, _shown(_total(line.cost for line in rounds), 2), hours)
    yield asked
    disk = table("on disk, at the end", "", "records", "JSONL, bytes", "Parquet, bytes")
    for one in made.disk:
        disk.add_row(one.name, _whole(one.records), _shown(one.jsonl), _shown(one.parquet))
    yield disk
    yield "where tokens come from"
    for line in made.lines:
        before = f"{line.before:,} answered before; " if line.before else ""
        yield f"  {_name(line.stage, line.model)}: {before}{line.source}"
    yield from (f"- {note}" for note in made.notes)


def _total(parts: Iterable[Range | None]) -> Range | None:
    """The sum, from all that is lowest to all that is highest; None where a part is not known."""
    from functools import reduce
    from operator import add

    known = list(parts)
    return None if None in known else reduce(add, filter(None, known))


def _compared(run: Path, rows: list[Beside]) -> Iterator[RenderableType]:
    from prefkit.cli.figures import table

    made = table(f"{run}: what was planned, and what was used since", "", "", "planned", "used", "planned / used", "")
    for row in rows:
        whole = row.figure == "calls"
        off = "" if row.off is None else f"{round(row.off, 3) + 0.0:+.1%}"
        digits = 2 if row.figure == "cost" else None
        planned = _whole(row.planned) if whole else _shown(row.planned, digits)
        used = f"{row.used:,.0f}" if whole else _number(row.used, _unit(row.used), digits)
        made.add_row(row.what, row.figure, planned, used, off, "" if row.within else "out of its range")
    yield made


def _name(stage: str, model: str) -> str:
    return f"{stage}: {model}" if model else stage


def _whole(one: Range | None) -> str:
    """Calls and records in full, as far as they are known in full."""
    if one is None:
        return "-"
    if one.value is None:
        return f"{one.low:,.0f} to {one.high:,.0f}"
    value = f"{one.value:,.0f}"
    return value if round(one.low) == round(one.high) else f"{value} [{one.low:,.0f}, {one.high:,.0f}]"


def _shown(one: Range | None, digits: int | None = None) -> str:
    """A figure with its range in one unit; a dash where it is not known."""
    if one is None:
        return "-"
    unit = _unit(one.high if one.value is None else one.value)
    low, high = (_number(end, unit, digits, named=False) for end in (one.low, one.high))
    if one.value is None:
        return f"up to {high}{unit[0]}" if not one.low else f"{low} to {high}{unit[0]}"
    value = _number(one.value, unit, digits)
    return value if low == high else f"{value} [{low}, {high}]"


def _unit(value: float) -> tuple[str, float]:
    return next((unit for unit in _UNITS if value >= unit[1]), _UNITS[-1])


def _number(value: float, unit: tuple[str, float], digits: int | None = None, *, named: bool = True) -> str:
    scaled = value / unit[1]
    if digits is None or unit[0]:
        digits = (0 if not unit[0] else 2) if scaled < 100 else (1 if unit[0] else 0)
    return f"{scaled:,.{digits}f}{unit[0] if named else ''}"
