"""``prefkit win-rate``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from prefkit.cli.figures import table

if TYPE_CHECKING:
    from rich.console import RenderableType

    from prefkit.evaluation.correcting import Corrected
    from prefkit.evaluation.length_control import LengthControlled
    from prefkit.evaluation.outcomes import Outcomes
    from prefkit.evaluation.planning import Plan, Spread
    from prefkit.evaluation.win_rates import Difference, WinRate, WinReport
    from prefkit.run import Run

WIDE = 150
ALL = "all"
FEW = 20
"""Prompts below which the report begins by saying that there are few."""
ROWS = 15
"""Rows of a table by topic or judges; all of them are in the JSON."""


@click.command("win-rate")
@click.argument("source", metavar="RUN|FILE", type=click.Path(path_type=Path, exists=True))
@click.option("--policy", help="Whose win rate.  [the first of a file of two]")
@click.option("--baseline", help="Over whom.  [the second of a file of two]")
@click.option("--and", "other", metavar="POLICY", help="Another policy over the same baseline, and the difference.")
@click.option("--principle", metavar="ID|all", help="Who is better on a principle; all: on each.  [the whole]")
@click.option(
    "--judge", "judges", multiple=True, metavar="NAME", help="Count these; llm or human for all of a kind.  [all]"
)
@click.option("--rm", "by_rewards", is_flag=True, help="By the rewards in RUN/rewards.jsonl; --judge rm:NAME for one.")
@click.option(
    "--length-limit",
    "limits",
    type=click.IntRange(min=1),
    multiple=True,
    metavar="CHARACTERS",
    help="The rate where both responses are no longer than this. May be repeated.",
)
@click.option("--discrete", is_flag=True, help="Who won, where a judge gave a probability.")
@click.option("--one-order", is_flag=True, help="Count what a model was asked in one order only.")
@click.option(
    "--length-controlled", "equal_length", is_flag=True, help="The rate if both wrote as much, controlled for length."
)
@click.option("--human-subset", is_flag=True, help="Correct the judges' rate by the people's on a part of the prompts.")
@click.option("--plan", is_flag=True, help="How many prompts an interval of a width, or a test, would take.")
@click.option(
    "--reach", type=click.FloatRange(0.5, 45), default=5.0, show_default=True, help="--plan: points to either side."
)
@click.option(
    "--power",
    type=click.FloatRange(10, 99),
    default=80.0,
    show_default=True,
    help="--plan: to tell the rate from 50%, in %.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Write all figures here, as JSON.")
def win_rate(
    source: Path,
    policy: str | None,
    baseline: str | None,
    other: str | None,
    principle: str | None,
    judges: tuple[str, ...],
    by_rewards: bool,
    limits: tuple[int, ...],
    discrete: bool,
    one_order: bool,
    equal_length: bool,
    human_subset: bool,
    plan: bool,
    reach: float,
    power: float,
    out: Path | None,
) -> None:
    """How often a policy is preferred to a baseline: by the judgements or rewards of RUN, or by a FILE of AlpacaEval's
    annotations or of rewards; 95% intervals by prompt.

    \b
        prefkit win-rate runs/first --policy tuned --baseline gpt-4
        prefkit win-rate runs/first --policy tuned --baseline gpt-4 --principle all --judge llm:ollama/llama3.2
        prefkit win-rate runs/first --policy tuned --baseline gpt-4 --human-subset --plan
        prefkit win-rate annotations.json --out rates.json
    """
    from prefkit.evaluation.correcting import corrected_rate
    from prefkit.evaluation.outcomes import balanced
    from prefkit.evaluation.win_rates import compare_policies, win_report

    source_of = _Source(source, judges, discrete, by_rewards)
    whole = source_of.outcomes(principle if principle != ALL else None, policy, baseline, other)
    policy, baseline = policy or whole.policies[0], baseline or whole.policies[1]
    both = not one_order
    report = win_report(
        whole,
        policy,
        baseline,
        principle=principle if principle != ALL else None,
        limits=sorted(set(limits)),
        both_orders=both,
    )
    shown = list(_rendered(report, source))
    figures: dict[str, Any] = {"source": str(source), "report": report}
    if principle == ALL:
        rates, missing = source_of.by_principle(policy, baseline, both)
        shown += [_table("by principle", rates), *missing, ""]
        figures["by_principle"] = rates
    if other:
        found = compare_policies(whole, policy, other, baseline, both_orders=both)
        shown += _difference(found, policy, other, baseline)
        figures["difference"] = {"other": other, "found": found}
    if equal_length:
        from prefkit.evaluation.length_control import length_controlled

        controlled = length_controlled(balanced(whole, both_orders=both), policy, baseline)
        shown += _controlled(controlled)
        figures["length_controlled"] = controlled
    if human_subset:
        corrected = corrected_rate(whole, policy, baseline, both_orders=both)
        shown += _corrected(corrected)
        figures["corrected"] = corrected
    if plan:
        rows = balanced(whole.between(policy, baseline), both_orders=both)
        shown += _planned(rows, reach / 100, power / 100, figures)
    _show(shown)
    if out:
        _write(out, figures)
        click.echo(f"{out}: all figures")


class _Source:
    """Where outcomes come from."""

    def __init__(self, path: Path, judges: tuple[str, ...], discrete: bool, by_rewards: bool) -> None:
        self.path, self.judges, self.discrete = path, judges, discrete
        self._run: Run | None = None
        self._rewards: Path | None = None
        if path.is_dir():
            from prefkit.run import Run

            self._run = Run(path)
            self._rewards = path / "rewards.jsonl" if by_rewards else None
        elif path.name.endswith("rewards.jsonl"):
            self._rewards = path
        elif by_rewards:
            raise click.UsageError("--rm goes with a RUN, or a file of rewards.")

    def outcomes(
        self, principle: str | None, policy: str | None, baseline: str | None, other: str | None = None
    ) -> Outcomes:
        """The outcomes of the policies that are asked about, or of all where none is."""
        from prefkit.errors import PrefkitError
        from prefkit.evaluation import outcomes

        named = [name for name in (policy, baseline, other) if name]
        if self._rewards is not None:
            models = [name.removeprefix("rm:") for name in self.judges] or None
            wanted = named if policy and baseline else None
            found = outcomes.reward_outcomes(self._rewards, self._run, principle, models=models, policies=wanted)
        elif self._run is not None:
            wanted = named if policy and baseline else None
            found = outcomes.run_outcomes(
                self._run, principle, judges=self.judges or None, policies=wanted, discrete=self.discrete
            )
        else:
            found = _of_file(self.path, principle, self.judges, self.discrete)
        if (not policy or not baseline) and len(found.policies) != 2:
            names = ", ".join(found.policies)
            remedy = "Say whose win rate over whom: --policy A --baseline B."
            raise PrefkitError(self.path, f"{len(found.policies)} policies ({names})", "two of them", remedy)
        return found

    def by_principle(self, policy: str, baseline: str, both_orders: bool) -> tuple[dict[str, WinRate], list[str]]:
        """The rate on each principle, and in words which have none."""
        from prefkit.errors import PrefkitError
        from prefkit.evaluation.outcomes import reward_heads
        from prefkit.evaluation.win_rates import win_report

        if self._run is None and self._rewards is None:
            raise click.UsageError("--principle goes with a RUN or a file of rewards: AlpacaEval's have none.")
        names: Sequence[str] = ()
        if self._rewards is not None:
            names = reward_heads(self._rewards)
        elif self._run is not None:
            names = self._run.rubric.principle_ids
        rates: dict[str, WinRate] = {}
        missing = []
        for name in names:
            try:
                report = win_report(self.outcomes(name, policy, baseline), policy, baseline, both_orders=both_orders)
            except PrefkitError as error:
                missing.append(f"  {name}: {error.found}")
                continue
            several = len(report.overall) > 1
            rates |= {f"{name}, {who}" if several else name: rate for who, rate in report.overall.items()}
        return rates, missing


def _of_file(path: Path, principle: str | None, judges: tuple[str, ...], discrete: bool) -> Outcomes:
    """What AlpacaEval's annotations say."""
    import numpy as np

    from prefkit.evaluation.alpaca_files import read_annotations
    from prefkit.evaluation.outcomes import known, rounded

    if principle:
        raise click.UsageError("--principle goes with a RUN or a file of rewards: AlpacaEval's have none.")
    found = read_annotations([path]).outcomes
    if judges:
        codes = [known(name, found.judges, "judge", path) for name in judges]
        found = found[np.isin(found.judge, codes)]
    return rounded(found) if discrete else found


def _rendered(report: WinReport, source: Path) -> Iterator[RenderableType]:
    from rich.text import Text

    headline = next(iter(report.overall.values()))
    on = f" on {report.principle}" if report.principle else ""
    yield Text.assemble("\n", (f"{report.policy} over {report.baseline}{on}", "bold"), f", {source}")
    for reason, count in sorted(report.left_out.items()):
        yield f"  left out: {count:,} {reason}"
    yield ""
    yield _table("win rate, ties half", report.overall, naive=True)
    yield ""
    yield from _in_words(headline, report)
    yield ""
    if len(report.by_judge) > 1:
        yield _table("by judge", _first(report.by_judge))
        yield ""
    if report.disagreements:
        yield from _disagreements(report)
    if len(report.by_topic) > 1:
        yield _table("by topic", _first(report.by_topic))
        yield ""
    if report.by_length:
        yield _table(f"by length: {report.policy} is", report.by_length)
        yield ""
    if report.limits:
        yield _table("under a length limit", {f"both at most {most:,}": one for most, one in report.limits.items()})
        yield ""


def _controlled(found: LengthControlled) -> Iterator[str]:
    """The rate at equal length, beside that among answers that are."""
    if found.value is not None and found.low is not None and found.high is not None:
        rate, low, high = (f"{100 * part:.1f}" for part in (found.value, found.low, found.high))
        yield f"at equal length: {rate}% [{low}, {high}], from {found.n:,} comparisons on {found.prompts:,} prompts"
        if found.similar is not None:
            yield f"as judged where lengths are similar: {100 * found.similar:.1f}%, {found.similar_n:,} comparisons"
    for reason, count in found.left_out.items():
        yield f"  left out: {count:,} {reason}"
    yield from found.notes
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


def _table(title: str, rates: Mapping[str, WinRate], *, naive: bool = False) -> RenderableType:
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


def _digits(low: float | None, high: float | None) -> int:
    """Decimals of a percentage: no more than the interval bears."""
    reach = 50 * ((high or 0.0) - (low or 0.0))
    return 0 if reach >= 2 else 1 if reach >= 0.2 else 2


def _percent(value: float | None, rate: WinRate) -> str:
    return "-" if value is None else f"{100 * value:.{_digits(rate.low, rate.high)}f}%"


def _interval(low: float | None, high: float | None, rate: WinRate) -> str:
    if low is None or high is None:
        return "too few"
    digits = _digits(rate.low, rate.high)
    return f"[{100 * low:.{digits}f}, {100 * high:.{digits}f}]"


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
    digits = _digits(one.low, one.high)
    return f"{100 * one.difference:+.{digits}f} [{100 * one.low:+.{digits}f}, {100 * one.high:+.{digits}f}]"


def _difference(one: Difference, policy: str, other: str, baseline: str) -> Iterator[str]:
    words = (
        f"{policy} less {other}, both over {baseline}: {_gap(one)} points on the {one.prompts:,} prompts that both have"
    )
    chance = "" if one.p is None else f", p {'< 0.001' if one.p < 0.001 else f'= {one.p:.3f}'} (paired t test)"
    yield words + chance
    yield ""


def _corrected(one: Corrected) -> Iterator[RenderableType]:
    from prefkit.evaluation.correcting import UNLIKE

    digits = _digits(one.low, one.high)
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
    ends = f"[{100 * one.low:.{digits}f}, {100 * one.high:.{digits}f}]"
    made.add_row("judges corrected by people", f"{100 * one.rate:.{digits}f}%", ends, f"{one.judge.prompts:,}")
    yield made
    yield ""
    away = f"{100 * abs(one.bias):.0f} points {'higher' if one.bias > 0 else 'lower'} than people on the same prompts"
    worth = f"as if people had labelled {one.worth:,.0f} prompts"
    yield f"Judges put the rate {away}; they count with a weight of {one.weight:.2f}, {worth}."
    yield "This holds if the labelled prompts are a random draw from all."
    if one.unlike < UNLIKE:
        yield f"They do not look like one: judges rate them otherwise than the rest (p = {one.unlike:.4f})."
    yield ""


def _planned(rows: Outcomes, reach: float, power: float, figures: dict[str, Any]) -> Iterator[RenderableType]:
    from prefkit.errors import PrefkitError
    from prefkit.evaluation.planning import for_power, for_width, measured_spread

    if len(set(rows.prompt.tolist())) < 2:
        raise PrefkitError(
            rows.source, "one prompt", "two or more, to see how far they differ", "Ask about more prompts."
        )
    spread = measured_spread(rows)
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
    yield ""


def _planned_cells(plan: Plan) -> list[str]:
    return [f"{count:,}" if count is not None else "too many" for count in (plan.prompts, plan.annotations)]


def _spread(spread: Spread) -> str:
    total = spread.between + spread.within
    share = f"{spread.between / total:.0%}" if total > 0 else "none"
    how = "measured here" if spread.measured else "assumed: there is one comparison a prompt"
    return f"for a rate of {spread.rate:.0%}; {share} of the spread lies between prompts ({how})"


def _show(parts: Sequence[RenderableType]) -> None:
    import os
    import sys

    from rich.console import Console
    from rich.table import Table

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else WIDE
    console = Console(highlight=False, markup=False, emoji=False, width=width)
    for part in parts:
        if isinstance(part, Table) and part.title:
            console.print(part.title, style="table.title")  # inside the table it would be cut to the table's width
            part.title = None
        console.print(part)


def _write(path: Path, figures: dict[str, Any]) -> None:
    import msgspec

    from prefkit.durable import explained_disk_errors, replacing

    with explained_disk_errors(path), replacing(path) as file:
        file.write(msgspec.json.format(msgspec.json.encode(figures), indent=1) + b"\n")
