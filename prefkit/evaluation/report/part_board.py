"""The parts of the page about all policies: the board, lengths, another run.

Reads   Report
Gives   Html
"""

from __future__ import annotations

from collections.abc import Mapping

from prefkit.evaluation.report import words
from prefkit.evaluation.report.drawing import (
    Axis,
    Point,
    Strip,
    figure,
    forest,
    numbers,
)
from prefkit.evaluation.report.gathering import Report
from prefkit.evaluation.report.markup import NOTHING, Html, behind, el, table
from prefkit.evaluation.report.paired import Line
from prefkit.evaluation.report.part_wins import MANY, absent, section
from prefkit.evaluation.report.rates import Absent


def board_section(report: Report) -> Html:
    """The policies ranked."""
    board = report.board
    if isinstance(board, Absent):
        return section("board", "Leaderboard", absent(board))
    values = [one[end] for one in board.policies for end in ("low", "rating", "high") if one[end] is not None]
    axis = numbers(min(values), max(values))
    strips = [
        Strip(
            label=f"{_ranks(one)}  {one['policy']}",
            points=[Point(value=one["rating"], low=one["low"], high=one["high"])],
            said=_rating(one),
        )
        for one in board.policies[: 2 * MANY]
    ]
    rows = [
        (
            one["policy"],
            str(one["rank"]),
            _ranks(one),
            f"{one['rating']:,.0f}",
            _span(one["low"], one["high"]),
            f"{one['comparisons']:,}",
            f"{one['prompts']:,}",
            *(f"{one[name]:,.6g}" for name in ("wins", "ties", "losses")),
        )
        for one in board.policies
    ]
    heads = ("", "rank", "may be", "rating", "95% interval", "comparisons", "prompts", "won", "tied", "lost")
    apart = sum(one["separated"] for one in board.separations)
    pairs = f"{apart:,} of {words.count(len(board.separations), 'pair')} of policies can be told apart"
    caption = (
        "In front of each name the ranks that it may have at 95%, for all policies together. Ratings are Bradley-Terry "
        f"points around 1,000: 100 points ahead is preferred 64 times in 100. {pairs}."
    )
    return section(
        "board",
        "Leaderboard",
        figure(forest(strips, axis), caption, behind(table(heads, rows, "Leaderboard"))),
        [el("p", f"{note[:1].upper()}{note[1:]}.", cls="note") for note in board.notes],
    )


def _ranks(one: Mapping[str, object]) -> str:
    best, worst = one["best_rank"], one["worst_rank"]
    return f"{best}" if best == worst else f"{best}–{worst}"


def _rating(one: Mapping[str, object]) -> str:
    return f"{one['rating']:,.0f} {_span(one['low'], one['high'])}".strip()


def _span(low: object, high: object) -> str:
    if not isinstance(low, float) and not isinstance(high, float):
        return ""
    return f"[{'…' if low is None else f'{low:,.0f}'}, {'…' if high is None else f'{high:,.0f}'}]"


# ------------------------------------------------------------------------------------------------------------ length


def length_section(report: Report) -> Html:
    """How long answers are, and whether length is what is preferred."""
    known = {name: one for name, one in report.facts.lengths.items() if one}
    if not known:
        run = report.typed
        missing = Absent(
            absent="The texts of the responses are not known.", command=f"prefkit import responses {run} FILE"
        )
        return section("length", "Length", absent(missing))
    order = sorted(known, key=lambda name: -known[name].median)
    axis = numbers(0, max(one.ninetieth for one in known.values()))
    strips = [
        Strip(
            label=name,
            points=[Point(value=known[name].median, low=known[name].tenth, high=known[name].ninetieth)],
            said=f"{known[name].median:,.0f}",
        )
        for name in order[: 2 * MANY]
    ]
    rows = [
        (name, *(f"{value:,.0f}" for value in (one.n, one.mean, one.tenth, one.median, one.ninetieth)))
        for name, one in ((name, known[name]) for name in order)
    ]
    parts = [
        figure(
            forest(strips, axis),
            "Characters of an answer: marks are medians, lines hold eight answers in ten.",
            behind(table(("", "answers", "mean", "10%", "median", "90%"), rows, "Lengths in characters")),
        )
    ]
    longer = report.longer
    if longer and longer.rate is not None:
        means = "Longer answers are preferred" if longer.decided and longer.rate > 0.5 else ""
        means = means or (
            "Shorter answers are preferred" if longer.decided else "Length does not tell who is preferred"
        )
        parts.append(
            el(
                "p",
                el("strong", f"The longer of two answers is preferred in {words.rate(longer)}."),
                f" {means}, over all policies, on {words.count(longer.prompts, 'prompt')}.",
            )
        )
    return section("length", "Length", parts)


# -------------------------------------------------------------------------------------------------------- another run


def beside_section(report: Report) -> Html:
    """Another run's figures beside these."""
    if report.beside is None:
        return NOTHING
    by_section: dict[str, list[Line]] = {}
    for line in report.beside.lines:
        by_section.setdefault(line.section, []).append(line)
    paired = [line for line in report.beside.lines if line.low is not None and line.high is not None]
    parts: list[Html] = [
        el("p", f"{report.beside.other} beside {report.beside.run}. A difference is that run less this one.")
    ]
    parts += [el("p", note, cls="note") for note in report.beside.notes]
    if paired:
        ends = [abs(end) for line in paired for end in (line.low, line.high) if end is not None]
        reach = max(*ends, 0.02)
        found = numbers(-100 * reach, 100 * reach)
        axis = Axis(low=found.low, high=found.high, ticks=found.ticks, level=0)
        strips = [
            Strip(
                label=line.name,
                points=[Point(value=_hundred(line.difference), low=_hundred(line.low), high=_hundred(line.high))],
                said=words.points(line.difference, line.low, line.high),
            )
            for line in paired
        ]
        rows = [
            (line.name, *_sides(line), words.points(line.difference, line.low, line.high), f"{line.shared:,}")
            for line in paired
        ]
        heads = ("", "this run", "the other", "difference, points", "shared prompts")
        parts.append(
            figure(
                forest(strips, axis, ("this run", "the other run")),
                "Differences of win rates in points, on the prompts that both runs judged, with 95% intervals.",
                behind(table(heads, rows, "Differences of win rates")),
            )
        )
    rest = [line for line in report.beside.lines if line not in paired]
    if rest:
        plain = [(f"{line.section}: {line.name}", *_sides(line), _plain_difference(line)) for line in rest]
        parts.append(table(("", "this run", "the other", "difference"), plain, "Figures without a paired interval"))
    return section("beside", "Beside another run", parts)


def _hundred(value: float | None) -> float | None:
    return None if value is None else 100 * value


def _sides(line: Line) -> tuple[str, str]:
    if line.unit == "share":
        both = ((line.one, line.one_ends), (line.other, line.other_ends))
        one, other = (words.both(value, *(ends or (None, None))) for value, ends in both)
        return one, other
    return (f"{line.one:,.0f}", f"{line.other:,.0f}") if line.one is not None and line.other is not None else ("–", "–")


def _plain_difference(line: Line) -> str:
    if line.difference is None:
        return "–"
    return words.points(line.difference, None, None) if line.unit == "share" else f"{line.difference:+,.0f}"
