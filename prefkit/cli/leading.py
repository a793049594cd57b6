"""``prefkit leaderboard``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import click

from prefkit.cli.figures import show, table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from prefkit.evaluation.board_shifts import Compared
    from prefkit.evaluation.boards import Boards
    from prefkit.evaluation.elo import Elo
    from prefkit.evaluation.rankings import Ranking, Term
    from prefkit.evaluation.separations import Separation


def _controls(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in value.split(","))) if value else ()
    for name in names:
        if name not in ("length", "style"):
            raise click.BadParameter(f"{name!r} is neither length nor style; both are given as length,style.")
    return names


@click.command()
@click.argument("source", metavar="RUN|FILE", type=click.Path(path_type=Path))
@click.option("--by", type=click.Choice(["principle", "judge"]), help="Rank by each of these too, side by side.")
@click.option(
    "--judge",
    "judges",
    multiple=True,
    metavar="NAME",
    help="Only this annotator; human or llm for all of a kind. May be repeated.",
)
@click.option(
    "--rm", "models", multiple=True, metavar="NAME", help="By this reward model's rewards of RUN's responses."
)
@click.option("--principle", metavar="ID", help="Who is preferred on this principle.  [the whole]")
@click.option(
    "--ties",
    type=click.Choice(["half", "rao-kupper", "davidson"]),
    default="half",
    show_default=True,
    help="A tie is half a win each way, or an outcome of its own.",
)
@click.option("--first-slot", is_flag=True, help="Fit how much standing first helps, out of comparisons as shown.")
@click.option(
    "--control",
    callback=_controls,
    metavar="WHAT",
    help="Rank answers alike in length, in style (headers, lists, bold), or in length,style as the arena does.",
)
@click.option(
    "--prior", type=click.FloatRange(min=0), default=0.5, show_default=True, help="Comparisons with an average policy."
)
@click.option("--intervals", type=click.Choice(["bootstrap", "sandwich"]), default="bootstrap", show_default=True)
@click.option("--elo", "with_elo", is_flag=True, help="Also Elo, and how far it hangs on the order of the rows.")
@click.option("--rounds", type=click.IntRange(min=100), default=1000, show_default=True, help="Of the bootstrap.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write all figures as JSON here.")
def leaderboard(
    source: Path,
    by: str | None,
    judges: tuple[str, ...],
    models: tuple[str, ...],
    principle: str | None,
    ties: str,
    first_slot: bool,
    control: tuple[str, ...],
    prior: float,
    intervals: str,
    with_elo: bool,
    rounds: int,
    seed: int,
    out: Path | None,
) -> None:
    """Rank the policies of RUN, or of a FILE of comparisons, with 95% intervals and the ranks that each may have.

    \b
        prefkit leaderboard runs/first
        prefkit leaderboard runs/first --judge human --by principle
        prefkit leaderboard runs/first --by judge --out leaderboard.json
        prefkit leaderboard runs/first --control length,style
        prefkit leaderboard votes.csv --ties davidson --first-slot
    """
    from prefkit.cli.progress import Bars
    from prefkit.evaluation.board_styles import Control
    from prefkit.evaluation.boards import BoardSettings, boards
    from prefkit.evaluation.rankings import RankingSettings
    from prefkit.evaluation.strengths import Ties

    settings = BoardSettings(
        by=cast(Literal["principle", "judge"] | None, by),
        judges=judges,
        models=models,
        principle=principle,
        elo=with_elo,
        ranking=RankingSettings(
            ties=cast(Ties, ties),
            first_slot=first_slot,
            control=cast("tuple[Control, ...]", control),
            prior=prior,
            intervals=cast(Literal["bootstrap", "sandwich"], intervals),
            rounds=rounds,
            seed=seed,
        ),
    )
    with Bars() as bars:
        found = boards(source, settings, bars.open)
    show(_rendered(found))
    if out:
        import msgspec

        from prefkit.durable import replacing

        with replacing(out) as file:
            file.write(msgspec.json.format(msgspec.json.encode(found.as_json()), indent=1) + b"\n")
        click.echo(f"{out}: all figures")


def _rendered(found: Boards) -> Iterator[RenderableType]:
    ranking = found.overall
    yield f"\n{found.source}: {ranking.comparisons:,} comparisons on {ranking.prompts:,} prompts by {found.judges}"
    for reason, count in sorted(ranking.left_out.items()):
        yield f"  {count:,} {reason}"
    yield ""
    yield _board(ranking)
    yield from _beside(ranking)
    if ranking.style or found.controlled:
        yield ""
        yield from _alike(found)
    yield ""
    yield from _apart(ranking)
    if found.by:
        yield ""
        yield _by(found)
        for name, reason in found.unranked.items():
            yield f"  {name}: {reason}"
        yield from _shifts(found)
    if found.elo:
        yield ""
        yield from _elo(found.elo)


def _board(ranking: Ranking) -> Any:
    made = table("", "rank", "policy", "rating", "95%", "ranks", "n", "prompts", "won", "tied", "lost")
    made.title = None
    made.columns[1].justify = "left"
    for one in ranking.policies:
        made.add_row(
            str(one.rank),
            one.policy,
            f"{one.rating:,.0f}",
            _ends(one.low, one.high),
            _ranks(one.best_rank, one.worst_rank),
            f"{one.comparisons:,}",
            f"{one.prompts:,}",
            *(f"{count:,.6g}" for count in (one.wins, one.ties, one.losses)),
        )
    return made


def _ends(low: float | None, high: float | None) -> str:
    if low is None and high is None:
        return ""
    return f"[{'...' if low is None else f'{low:,.0f}'}, {'...' if high is None else f'{high:,.0f}'}]"


def _ranks(best: int, worst: int) -> str:
    return str(best) if best == worst else f"{best}-{worst}"


def _beside(ranking: Ranking) -> Iterator[str]:
    if ranking.first_slot:
        yield f"  first slot: preferred in {_share(ranking.first_slot)} of decided comparisons of equals"
    for note in ranking.notes:
        yield f"  {note}"


def _share(term: Term) -> str:
    """What a term in log-odds makes of a half."""
    from scipy.special import expit

    value, *ends = (None if one is None else 100 * float(expit(one)) for one in (term.value, term.low, term.high))
    return f"{value:.1f}%" + (f" [{ends[0]:.1f}, {ends[1]:.1f}]" if None not in ends else "")


def _alike(found: Boards) -> Iterator[RenderableType]:
    yield f"ranked with {' and '.join(found.overall.settings.control)} alike; between equals is preferred"
    for name, term in found.overall.style.items():
        more = "the longer answer" if name == "length" else f"the answer with more {name}"
        yield f"  {more}, by a usual difference: {_share(term)}"
    if found.controlled:
        yield _moved(found.controlled, "without", "alike")


def _apart(ranking: Ranking) -> Iterator[RenderableType]:
    apart = sum(one.separated for one in ranking.separations)
    yield f"told apart at 5% over the whole board: {apart:,} of {len(ranking.separations):,} pairs"
    rank = {one.policy: one.rank for one in ranking.policies}
    made = table("", "neighbours", "points", "p", "votes to tell apart", "prompts to tell apart")
    made.title = None
    for one in ranking.separations:
        if rank[one.behind] == rank[one.ahead] + 1:
            made.add_row(f"{one.ahead} > {one.behind}", f"{one.difference:+.0f}", *_needed(one))
    yield made


def _needed(one: Separation) -> tuple[str, str, str]:
    p = "" if one.p is None else f"{one.p:.3f}"
    beyond = "over 10 million"
    return p, f"{one.votes:,}" if one.votes else beyond, (f"{one.prompts:,}" if one.prompts else beyond) if p else ""


def _by(found: Boards) -> Any:
    made = table("", "rank, ranks", *found.by)
    made.title = None
    places = {
        name: {one.policy: f"{one.rank} ({_ranks(one.best_rank, one.worst_rank)})" for one in board.policies}
        for name, board in found.by.items()
    }
    for one in found.overall.policies:
        made.add_row(one.policy, *(places[name].get(one.policy, "-") for name in found.by))
    return made


def _shifts(found: Boards) -> Iterator[RenderableType]:
    for name, compared in found.compared.items():
        yield ""
        yield f"{name} beside {found.reference}: Kendall's tau {compared.tau:.2f}"
        yield _moved(compared, found.reference or "", name)


def _moved(compared: Compared, one: str, other: str) -> Any:
    made = table("", "policy", one, other, "points", "95%")
    made.title = None
    for shift in compared.shifts:
        made.add_row(
            shift.policy,
            f"{shift.rank} ({_ranks(*shift.ranks)})",
            f"{shift.other_rank} ({_ranks(*shift.other_ranks)})",
            f"{shift.difference:+.0f}",
            "" if shift.low is None or shift.high is None else f"[{shift.low:+.0f}, {shift.high:+.0f}]",
        )
    return made


def _elo(found: Elo) -> Iterator[RenderableType]:
    made = table("", "Elo", "as given", "mean", "lowest", "highest", "ranks")
    made.title = None
    for one in found.ratings:
        cells = (f"{value:,.0f}" for value in (one.as_given, one.mean, one.lowest, one.highest))
        made.add_row(one.policy, *cells, _ranks(one.best_rank, one.worst_rank))
    yield made
    yield f"  lowest and highest over {found.shuffles} orders of {found.rows:,} rows: this spread is the method's alone"
