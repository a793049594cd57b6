"""What ``prefkit win-rate`` shows: tables, and sentences on what they say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefkit.cli.figures import table
from prefkit.evaluation.intervals import digits

if TYPE_CHECKING:
    from rich.console import RenderableType

    from prefkit.evaluation.correcting import Corrected
    from prefkit.evaluation.length_control import LengthControlled
    from prefkit.evaluation.outcomes import Outcomes
    from prefkit.evaluation.paired_scores import PairedScores
    from prefkit.evaluation.planning import Plan, Spread
    from prefkit.evaluation.studies import Study
    from prefkit.evaluation.win_rates import Difference, WinRate, WinReport

FEW = 20
"""Prompts below which the report begins by saying that there are few."""
MANY = 8
"""Topics from which on a line says that one interval in twenty misses."""
ROWS = 15
"""Rows of a table by topic or judges; all of them are in the JSON."""


def rendered(report: WinReport, source: Path) -> Iterator[RenderableType]:
    """The whole report."""
    from rich.text import Text

    headline = next(iter(report.overall.values()))
    on = f" on {report.principle}" if report.principle else ""
    yield Text.assemble("\n", (f"{report.policy} over {report.baseline}{on}", "bold"), f", {source}")
    for reason, count in sorted(report.left_out.items()):
        yield f"  left out: {count:,} {reason}"
    yield ""
    yield rates_table("win rate, ties half", report.overall, naive=True)
    yield ""
    yield from _in_words(headline, report)
    yield ""
    if len(report.by_judge) > 1:
        yield rates_table("by judge", _first(report.by_judge))
        yield ""
    if report.disagreements:
        yield from _disagreements(report)
    if len(report.by_topic) > 1:
        yield rates_table("by topic", _first(report.by_topic))
        if len(report.by_topic) >= MANY:
            yield "  one interval in twenty misses by chance: do not make much of a single topic"
        yield ""
    if report.by_length:
        yield rates_table(f"by length: {report.policy} is", report.by_length)
        yield ""
    if report.limits:
        limits = {f"both at most {most:,} characters": one for most, one in report.limits.items()}
        yield rates_table("under a length limit", limits)
        yield ""


def controlled(found: LengthControlled) -> Iterator[str]:
    """The rate with answers alike, beside that as judged and that among answers of similar length."""
    if found.value is not None and found.low is not None and found.high is not None:
        places = digits(found.low, found.high)
        rate, low, high, raw = (f"{100 * part:.{places}f}" for part in (found.value, found.low, found.high, found.raw))
        alike = "alike in length and style" if found.method == "style" else "of the same length"
        yield f"If both had written answers {alike}: {rate}% [{low}, {high}]; as judged {raw}% of the same comparisons."
        used = f"{found.n:,} comparisons on {found.prompts:,} prompts"
        difficulty = {
            "given": ", with the difficulties of prompts that were given",
            "estimated": ", with prompts' difficulty estimated from other policies over the same baseline",
            "none": "",
        }[found.difficulty]
        yield f"  {found.method} control, {used}{difficulty}"
        if found.similar is not None:
            few = f"{found.similar_n:,} comparisons, too few for a rate"
            many = f"{100 * found.similar:.0f}% of {found.similar_n:,} comparisons"
            yield f"  as judged where lengths are similar: {many if found.similar_n >= FEW else few}"
    for reason, count in found.left_out.items():
        yield f"  left out: {count:,} {reason}"
    yield from (f"  {note}" for note in found.notes)
    yield ""


def _first(rates: Mapping[str, WinRate]) -> dict[str, WinRate]:
    most = sorted(rates, key=lambda name: -rates[name].prompts)[:ROWS]
    return {name: rates[name] for name in rates if name in most}


def _in_words(rate: WinRate, report: WinReport) -> Iterator[str]:
    """What the first row says."""
    policy, baseline = report.policy, report.baseline
    if rate.rate is None or rate.low is None or rate.high is None:
        counted = f"{rate.wins} wins, {rate.ties} ties, {rate.losses} losses"
        yield f"One prompt ({counted}) says nothing about a rate: ask about more."
        return
    ends = f"{_percent(rate.low, rate)} and {_percent(rate.high, rate)}"
    if rate.ties == rate.comparisons:
        yield f"All {rate.comparisons:,} comparisons are ties: nothing speaks for either side."
        yield f"With {rate.prompts:,} prompts that fits win rates between {ends}."
        return
    if rate.decided:
        better, worse = (policy, baseline) if rate.rate > 0.5 else (baseline, policy)
        yield f"{better} is preferred to {worse}: {policy} wins between {ends} of the time on prompts like these."
    else:
        yield f"Who is preferred cannot be told: win rates between {ends} fit these {rate.prompts:,} prompts."
    if rate.prompts < FEW:
        yield f"Only {rate.prompts} prompts: look at the interval; the rate may be luck."
    if not any(name.startswith("human:") for name in report.by_judge):
        yield "Models judged. What people would say is not measured here."


def rates_table(title: str, rates: Mapping[str, WinRate], *, naive: bool = False) -> RenderableType:
    """A row for each rate; ``naive`` adds what the interval would be if all answers were independent."""
    made = table(
        title,
        "",
        "rate",
        "95% interval",
        "prompts",
        "comparisons",
        "wins",
        "ties",
        "losses",
        *["naive interval"] * naive,
    )
    for name, rate in rates.items():
        counts = [rate.prompts, rate.comparisons, rate.wins, rate.ties, rate.losses]
        cells = [_percent(rate.rate, rate), _interval(rate.low, rate.high, rate), *(f"{count:,}" for count in counts)]
        made.add_row(name, *cells, *[_interval(rate.naive_low, rate.naive_high, rate)] * naive)
    return made


def _percent(value: float | None, rate: WinRate) -> str:
    return "-" if value is None else f"{100 * value:.{digits(rate.low, rate.high)}f}%"


def _interval(low: float | None, high: float | None, rate: WinRate) -> str:
    if low is None or high is None:
        return "too few"
    places = digits(rate.low, rate.high)
    return f"[{100 * low:.{places}f}, {100 * high:.{places}f}]"


def _disagreements(report: WinReport) -> Iterator[RenderableType]:
    made = table("two judges on the same pairs", "", "pairs", "same", "one a tie", "opposite", "difference of rates")
    for one in report.disagreements[:ROWS]:
        shares = [f"{100 * count / one.pairs:.0f}%" for count in (one.same, one.one_tie, one.opposite)]
        made.add_row(" and ".join(one.judges), f"{one.pairs:,}", *shares, _gap(one.difference))
    yield made
    yield ""


def _gap(one: Difference) -> str:
    """A difference in points with its interval."""
    if one.difference is None or one.low is None or one.high is None:
        return "too few"
    places = digits(one.low, one.high)
    return f"{100 * one.difference:+.{places}f} [{100 * one.low:+.{places}f}, {100 * one.high:+.{places}f}]"


def difference(one: Difference, policy: str, other: str, baseline: str) -> Iterator[str]:
    """What two policies over one baseline differ by, in words."""
    if one.difference is None:
        yield f"{policy} and {other} were both compared with {baseline} on {one.prompts} prompts: too few to tell."
        yield ""
        return
    words = (
        f"The rate of {policy} less that of {other}, both over {baseline}: {_gap(one)} points on the {one.prompts:,}"
        " prompts that both have"
    )
    chance = "" if one.p is None else f", p {'< 0.001' if one.p < 0.001 else f'= {one.p:.3f}'} (paired t test)"
    yield words + chance
    yield ""


def corrected(one: Corrected) -> Iterator[RenderableType]:
    """The rates of judges, of people, and of judges corrected by people."""
    from prefkit.evaluation.correcting import UNLIKE

    places = digits(one.low, one.high)
    made = table("corrected by people", "", "rate", "95% interval", "prompts")
    made.add_row(
        "judges alone",
        _percent(one.judge.rate, one.judge),
        _interval(one.judge.low, one.judge.high, one.judge),
        f"{one.judge.prompts:,}",
    )
    made.add_row(
        "people alone",
        _percent(one.people.rate, one.people),
        _interval(one.people.low, one.people.high, one.people),
        f"{one.people.prompts:,}",
    )
    ends = f"[{100 * one.low:.{places}f}, {100 * one.high:.{places}f}]"
    made.add_row("judges corrected by people", f"{100 * one.rate:.{places}f}%", ends, f"{one.judge.prompts:,}")
    yield made
    yield ""
    away = f"{100 * abs(one.bias):.0f} points {'higher' if one.bias > 0 else 'lower'} than people on the same prompts"
    worth = f"as if people had labelled {one.worth:,.0f} prompts"
    yield f"Judges put the rate {away}; they count with a weight of {one.weight:.2f}, {worth}."
    yield "This holds if the labelled prompts are a random draw from all."
    if one.unlike < UNLIKE:
        yield f"They do not look like one: judges rate them otherwise than the rest (p = {one.unlike:.4f})."
    yield ""


def studied(scores: PairedScores, found: Sequence[Study], policy: str, baseline: str) -> Iterator[RenderableType]:
    """Mean scores of the two beside each other, and whether the difference is chance."""
    made = table(
        "scores by prompt", "", policy, baseline, "difference", "higher", "same", "lower", "Wilcoxon p", "Holm",
        "sign test", "r", "d",
    )  # fmt: skip
    for one in found:
        gap = one.difference
        ends = f" [{gap.low:+.2f}, {gap.high:+.2f}]" if gap.low is not None and gap.high is not None else ""
        made.add_row(
            one.question, f"{one.first_mean:.2f}", f"{one.second_mean:.2f}", f"{gap.value or 0:+.2f}{ends}",
            f"{one.wins:,}", f"{one.ties:,}", f"{one.losses:,}", _p(one.wilcoxon), _p(one.holm), _p(one.sign),
            _signed(one.rank_biserial), _signed(one.standardised),
        )  # fmt: skip
    yield made
    who = scores.annotators[0] if len(scores.annotators) == 1 else f"{len(scores.annotators):,} annotators, averaged"
    yield f"  {max(one.prompts for one in found):,} prompts, scored by {who}"
    yield "  Holm: Wilcoxon's p, corrected for the questions; r: rank-biserial correlation; d: difference over its SD"
    yield from (f"  left out: {count:,} {reason}" for reason, count in sorted(scores.left_out.items()))
    yield from (f"  {one.question}: {note}" for one in found for note in one.notes)
    yield ""


def _p(value: float | None) -> str:
    if value is None:
        return "-"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.2f}"


def planned(rows: Outcomes, reach: float, power: float, figures: dict[str, Any]) -> Iterator[RenderableType]:
    """How many prompts and comparisons it takes, which also goes into the figures; or why nobody can tell."""
    from prefkit.evaluation.planning import for_power, for_width, measured_spread

    prompts = len(set(rows.prompt.tolist()))
    if prompts < 2:
        yield "Nothing to plan from: with one prompt nobody sees how far prompts differ."
        yield ""
        return
    spread = measured_spread(rows)
    if spread.between + spread.within < 1e-12:
        yield f"Nothing to plan from: all {prompts:,} prompts say the same."
        yield ""
        return
    wide, strong = for_width(spread, reach), for_power(spread, power)
    figures["plan"] = {"spread": spread, "reach": reach, "power": power, "for_width": wide, "for_power": strong}
    made = table(
        "what it takes", "comparisons a prompt", f"+-{100 * reach:g} points: prompts", "comparisons",
        f"{100 * power:g}% to tell from 50%: prompts", "comparisons",
    )  # fmt: skip
    for one, other in zip(wide, strong, strict=True):
        made.add_row(str(one.comparisons), *_planned_cells(one), *_planned_cells(other))
    yield made
    yield f"  {_spread(spread)}"
    if prompts < FEW:
        yield f"  measured on {prompts} prompts only: take it for a first guess"
    yield ""


def _planned_cells(plan: Plan) -> list[str]:
    return [f"{count:,}" if count is not None else "too many" for count in (plan.prompts, plan.annotations)]


def _spread(spread: Spread) -> str:
    total = spread.between + spread.within
    share = f"{spread.between / total:.0%}" if total > 0 else "none"
    how = "measured here" if spread.measured else "assumed: there is one comparison a prompt"
    return f"for a rate of {spread.rate:.0%}; {share} of the spread lies between prompts ({how})"
