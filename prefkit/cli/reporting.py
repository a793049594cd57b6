"""``prefkit report``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prefkit.cli.figures import show, table
from prefkit.cli.runs import RUN

if TYPE_CHECKING:
    from rich.console import RenderableType

    from prefkit.cli.progress import Bars
    from prefkit.evaluation.report.gathering import Report, ReportSettings
    from prefkit.evaluation.report.paired import Beside
    from prefkit.evaluation.report.rates import Board, Wins

FEW = 12
"""Rows of a table; all of them are on the page."""
NAME = 40
"""Characters of a name in a table."""


@click.command()
@RUN
@click.option("--policy", help="Whose win rate stands first.  [the first of the leaderboard]")
@click.option("--baseline", help="Over whom.  [the one behind it]")
@click.option("--rm", "reward_model", metavar="NAME", help="By this reward model's rewards in RUN/rewards.jsonl.")
@click.option(
    "--examples", type=click.IntRange(0, 500), default=20, show_default=True, help="Answers side by side; 0: no texts."
)
@click.option("--allow-unscrubbed", is_flag=True, help="Show texts that were not scrubbed where others were.")
@click.option("--compare", "other", metavar="RUN2", type=click.Path(path_type=Path), help="Another run beside it.")
@click.option("--rounds", type=click.IntRange(min=100), default=1000, show_default=True, help="Of the bootstrap.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the bootstrap and the draw of examples.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Write here.  [RUN/report]")
def report(
    run: Path,
    policy: str | None,
    baseline: str | None,
    reward_model: str | None,
    examples: int,
    allow_unscrubbed: bool,
    other: Path | None,
    rounds: int,
    seed: int,
    out: Path | None,
) -> None:
    """RUN on one page: index.html with everything in it, report.json, and summary.md for a card.

    \b
        prefkit report runs/first
        prefkit report runs/first --policy tuned --baseline base --examples 200
        prefkit report runs/first --compare runs/second --out comparison
        prefkit report runs/first --examples 0
    """
    from prefkit.cli.progress import Bars
    from prefkit.evaluation.report.gathering import ReportSettings, compare
    from prefkit.evaluation.report.writing import FOLDER, write_report

    settings = ReportSettings(
        policy=policy,
        baseline=baseline,
        reward_model=reward_model,
        examples=examples,
        allow_unscrubbed=allow_unscrubbed,
        rounds=rounds,
        seed=seed,
    )
    with Bars() as bars:
        found = _gathered(run, settings, bars)
        if other is not None:
            found = compare(found, _gathered(other, settings, bars))
    written = write_report(found, out or run / FOLDER)
    show(_rendered(found), wide=120)
    for path in written:
        click.echo(f"{path}: {_FILES[path.suffix]}, {path.stat().st_size / 1e3:,.0f} kB")


_FILES = {".html": "the page", ".json": "all figures", ".md": "for a card"}


def _gathered(run: Path, settings: ReportSettings, bars: Bars) -> Report:
    from prefkit.evaluation.report.gathering import gather
    from prefkit.run import Run

    opened = Run(run)
    return gather(opened, settings, agreement=_agreement(opened, settings, bars), open_bar=bars.open)


def _agreement(run: Any, settings: ReportSettings, bars: Bars) -> Any:
    """What ``prefkit agree`` measures, in plain values; None where there is nobody."""
    import msgspec

    from prefkit.agreement.agree import AgreeSettings, agree
    from prefkit.errors import RunError
    from prefkit.records import Judgement

    file = run.file(Judgement)
    if file is None:
        return None
    try:
        moved = bars.open("Agreement", file.stat().st_size, "MB")
        return msgspec.to_builtins(agree(run, AgreeSettings(rounds=settings.rounds, seed=settings.seed), moved))
    except RunError:
        return None


def _plain(text: str) -> str:
    """A text without what would steer the terminal."""
    from prefkit.evaluation.report.markup import visible

    return visible(text).replace("\n", " ")


def _name(text: str) -> str:
    from prefkit.svg import short

    return short(_plain(text), NAME)


def _rendered(found: Report) -> Iterator[RenderableType]:
    from rich.text import Text

    from prefkit.evaluation.report import words
    from prefkit.evaluation.report.rates import Absent

    wins, board = found.wins, found.board
    yield ""
    if isinstance(wins, Absent):
        yield Text(_plain(wins.absent), style="bold")
        yield from ([Text(f"  {_plain(wins.command)}")] if wins.command else [])
    else:
        yield Text(_plain(words.title(wins)), style="bold")
        people = wins.main[0] == "people" or not found.facts.models
        judges = words.judged_by(
            len(found.facts.people) if people else 0, 0 if people else len(found.facts.models), wins.by
        )
        for line in words.headline(wins, judges):
            yield Text(_plain(line))
        yield ""
        yield _rates(found, wins)
    if not isinstance(board, Absent) and len(board.policies) > 2:
        yield ""
        yield _board(board)
    if found.beside is not None:
        yield ""
        yield from _beside(found.beside)
    missing = [one.title for one in found.limits.not_measured]
    yield ""
    yield Text(f"not measured: {_plain('; '.join(missing))}")
    yield ""


def _rates(found: Report, wins: Wins) -> RenderableType:
    from prefkit.evaluation.report import words

    made = table("", f"win rate of {_name(wins.policy)}", "rate", "95% interval", "prompts")
    made.title = None
    who = wins.main[0]
    rows = {"the whole": wins.report.overall}
    rows |= {one.title: wins.principles.get(one.id, {}) for one in found.facts.principles}
    for name, rates in rows.items():
        rate = rates.get(who) or next(iter(rates.values()), None)
        if rate:
            cells = words.percent(rate.rate, rate.low, rate.high), words.ends(rate.low, rate.high)
            made.add_row(_name(name), *cells, f"{rate.prompts:,}")
    return made


def _beside(beside: Beside) -> Iterator[RenderableType]:
    from prefkit.evaluation.report import words

    made = table("", f"{_name(beside.other)} less {_name(beside.run)}, points", "difference", "shared prompts")
    made.title = None
    for line in beside.lines:
        if line.unit == "share":
            shared = f"{line.shared:,}" if line.shared else "-"
            made.add_row(_name(line.name), words.points(line.difference, line.low, line.high), shared)
    yield made
    for note in beside.notes:
        yield _plain(f"  {note}")


def _board(board: Board) -> RenderableType:
    made = table("", "leaderboard", "rank", "may be", "rating", "comparisons")
    made.title = None
    for one in board.policies[:FEW]:
        ranks = f"{one['best_rank']}-{one['worst_rank']}"
        made.add_row(_name(one["policy"]), str(one["rank"]), ranks, f"{one['rating']:,.0f}", f"{one['comparisons']:,}")
    return made
