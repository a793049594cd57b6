"""The parts of the page about who is preferred: the headline, and win rates by principle, judge, topic and length.

Reads   Report
Gives   Html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from prefkit.evaluation.report import words
from prefkit.evaluation.report.drawing import (
    SHARES,
    Point,
    Strip,
    figure,
    forest,
    headline_strip,
)
from prefkit.evaluation.report.gathering import Report
from prefkit.evaluation.report.markup import NOTHING, Html, behind, command, el, joined, table
from prefkit.evaluation.report.rates import Absent, Wins
from prefkit.evaluation.win_rates import WinRate

MANY = 24
"""Rows of a plot; all of them are in its table."""
RATE_HEADS = ("", "rate", "95% interval", "prompts", "comparisons", "wins", "ties", "losses")


def absent(one: Absent) -> Html:
    """A section that has nothing to show: why, and the command that would change it."""
    return el(
        "p", one.absent, " " if one.command else None, command(one.command) if one.command else None, cls="absent"
    )


def section(name: str, title: str, *inside: Html | Sequence[Html]) -> Html:
    """A section with its heading, which the contents link to."""
    return el("section", el("h2", title, id=f"{name}-title"), *inside, id=name, aria_labelledby=f"{name}-title")


def headline(report: Report) -> Html:
    """The first rate, large and in words."""
    facts, wins = report.facts, report.wins
    if isinstance(wins, Absent):
        return el("div", el("h1", "Nobody was preferred yet"), absent(wins), cls="headline")
    who, one = wins.main
    judges = [name for name in wins.report.by_judge if _is_of(name, who)]
    people = sum(name.startswith("human:") for name in judges)
    said = words.headline(wins, words.judged_by(people, len(judges) - people, wins.by))
    plot = NOTHING
    if one.rate is not None and one.low is not None and one.high is not None:
        sides = el("div", el("span", f"{wins.baseline} preferred"), el("span", f"{wins.policy} preferred"), cls="sides")
        label = f"{wins.policy} is preferred in {words.percent(one.rate)} of cases, {words.ends(one.low, one.high)}"
        plot = el(
            "div", sides, headline_strip(one.rate, one.low, one.high), cls="headstrip", role="img", aria_label=label
        )
    counts = [
        (words.rate(one), "win rate, 95% interval"),
        (f"{one.prompts:,}", "prompts"),
        (f"{one.comparisons:,}", "comparisons"),
        (f"{one.wins:,} · {one.ties:,} · {one.losses:,}", "wins · ties · losses"),
        (_judges(len(facts.people), len(facts.models)) if wins.by == "judgements" else wins.by, "judged"),
    ]
    return el(
        "div",
        el("h1", words.title(wins)),
        el("p", " ".join(said), cls="lede"),
        plot,
        el("dl", [el("div", el("dt", name), el("dd", value)) for value, name in counts], cls="counts"),
        cls="headline",
    )


def _is_of(name: str, who: str) -> bool:
    if who == "people":
        return name.startswith("human:")
    return not name.startswith("human:") if who == "models" else True


def _judges(people: int, models: int) -> str:
    parts = [words.count(people, "person", "people")] if people else []
    return " · ".join([*parts, words.count(models, "model")] if models or not parts else parts)


def wins_section(report: Report) -> Html:
    """Win rates: by principle, judge, topic and length; how judges differ; what corrects them."""
    wins = report.wins
    if isinstance(wins, Absent):
        return section("win-rate", "Win rate", absent(wins))
    kinds = list(
        dict.fromkeys(
            [wins.main[0], *wins.report.overall, *(who for rates in wins.principles.values() for who in rates)]
        )
    )
    titles = {one.id: one.title for one in report.facts.principles}
    rows = {"The whole": wins.report.overall} | {titles[name]: rates for name, rates in wins.principles.items()}
    shown = {name: rates for name, rates in rows.items() if rates}
    missing = [name for name, rates in rows.items() if not rates]
    what = "rewards" if wins.by != "judgements" else "judgements"
    caption = (
        f"How often {wins.policy} is preferred to {wins.baseline}, on the whole and on each principle, by the {what}. "
        "Marks are rates, lines 95% intervals over prompts; on the dashed line both are preferred as often."
    )
    parts = [
        figure(
            forest([_strip(name, rates, kinds, place == 0) for place, (name, rates) in enumerate(shown.items())],
                   SHARES, (wins.baseline, wins.policy)),
            caption,
            behind(table(RATE_HEADS, list(_rate_rows(shown)), "Win rates by principle")),
            [(place, name) for place, name in enumerate(kinds)],
        )
    ]  # fmt: skip
    if missing:
        parts.append(el("p", f"No rate on {words.listed(missing)}: nobody was asked about these alone.", cls="note"))
    parts += _more_wins(wins)
    left_out = [f"{count:,} {reason}" for reason, count in sorted(wins.report.left_out.items())]
    if left_out:
        parts.append(el("p", "Left out and counted: ", "; ".join(left_out), ".", cls="note"))
    return section("win-rate", "Win rate", parts)


def _strip(name: str, rates: Mapping[str, WinRate], kinds: Sequence[str], first: bool) -> Strip:
    there = [(place, rates[who]) for place, who in enumerate(kinds) if who in rates]
    points = [Point(value=one.rate, low=one.low, high=one.high, series=place) for place, one in there]
    return Strip(label=name, points=points, said=words.rate(there[0][1]), strong=first, rule=first)


def _rate_rows(shown: Mapping[str, Mapping[str, WinRate]]) -> Iterator[tuple[str, ...]]:
    several = any(len(rates) > 1 for rates in shown.values())
    for name, rates in shown.items():
        for who, one in rates.items():
            yield (f"{name}, {who}" if several else name, *_cells(one))


def _cells(one: WinRate) -> tuple[str, ...]:
    counts = (one.prompts, one.comparisons, one.wins, one.ties, one.losses)
    interval = words.ends(one.low, one.high) or "too few"
    return (words.percent(one.rate, one.low, one.high), interval, *(f"{count:,}" for count in counts))


def _more_wins(wins: Wins) -> Iterator[Html]:
    report = wins.report
    if wins.corrected:
        one = wins.corrected
        away = f"{100 * abs(one.bias):.0f} points {'higher' if one.bias > 0 else 'lower'}"
        unlike = " The labelled prompts do not look like a random draw." if one.unlike < 0.01 else ""
        yield el(
            "p",
            el("strong", f"Corrected by people: {words.both(one.rate, one.low, one.high)}."),
            f" The judges put the rate {away} than people on the prompts that both judged.{unlike}",
        )
    if wins.equal_length and wins.equal_length.value is not None:
        even = wins.equal_length
        yield el(
            "p",
            el("strong", f"At equal length: {words.both(even.value, even.low, even.high)}."),
            " What the rate would be if both wrote as much (a logistic regression on the difference of lengths). ",
            " ".join(even.notes),
        )
    for title, rates, sort in (
        ("By judge", report.by_judge, False),
        ("By topic", report.by_topic, True),
        (f"By length: {wins.policy} is", report.by_length, False),
    ):
        if len(rates) > 1:
            yield _rates(title, rates, wins, sort=sort)
    if report.disagreements:
        yield _disagreements(wins)


def _rates(title: str, rates: Mapping[str, WinRate], wins: Wins, *, sort: bool) -> Html:
    order = sorted(rates, key=lambda name: -(rates[name].rate or 0)) if sort else list(rates)
    most = sorted(order, key=lambda name: -rates[name].prompts)[:MANY]
    strips = [_strip(name, {"": rates[name]}, [""], False) for name in order if name in most]
    note = f" {len(order) - len(most)} more are in the table." if len(order) > len(most) else ""
    caption = f"Win rate of {wins.policy}, {title.partition(':')[0].lower()}, with 95% intervals.{note}"
    rows = [(name, *_cells(rates[name])) for name in order]
    return joined(
        el("h3", title),
        figure(forest(strips, SHARES, (wins.baseline, wins.policy)), caption, behind(table(RATE_HEADS, rows, title))),
    )


def _disagreements(wins: Wins) -> Html:
    rows = []
    for one in wins.report.disagreements:
        shares = [f"{100 * count / one.pairs:.0f}%" for count in (one.same, one.one_tie, one.opposite)]
        gap = one.difference
        rows.append(
            (" and ".join(one.judges), f"{one.pairs:,}", *shares, words.points(gap.difference, gap.low, gap.high))
        )
    heads = ("", "pairs", "same side", "one a tie", "opposite sides", "difference of rates, points")
    return joined(el("h3", "Where judges differ"), table(heads, rows, "Two judges on the same pairs of answers"))
