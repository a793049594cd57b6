"""Two runs beside each other: the same figures of both, and the difference where prompts are shared.

Reads   two Reports
Gives   Beside: a line for each figure

A difference of win rates has an interval where both runs judged the same prompts (by id), as then each prompt is
compared with itself. Without a prompt in common there is a difference and no interval: the runs are of other prompts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from prefkit.evaluation.outcomes import Outcomes, balanced
from prefkit.evaluation.report.rates import Wins
from prefkit.evaluation.win_rates import Difference, WinRate, difference
from prefkit.records import is_model

if TYPE_CHECKING:
    from prefkit.evaluation.report.gathering import Report


@dataclass(frozen=True, kw_only=True)
class Line:
    """A figure of both runs, in the unit that ``unit`` names (``share``, ``number``, ``count``).

    ``difference`` is the second less the first; ``shared`` prompts are behind its interval, 0 where it has none.
    """

    section: str
    name: str
    unit: str
    one: float | None
    other: float | None
    one_ends: tuple[float, float] | None = None
    other_ends: tuple[float, float] | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    shared: int = 0


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Another run beside this one."""

    run: str
    other: str
    lines: list[Line]
    notes: list[str]


def beside(report: Report, other: Report) -> Beside:
    """The figures of two runs."""
    notes = []
    if report.facts.rubric_hash != other.facts.rubric_hash:
        notes.append("The runs have other rubrics: what is better in one need not be better in the other.")
    one_wins, other_wins = report.wins, other.wins
    if isinstance(one_wins, Wins) and isinstance(other_wins, Wins):
        names = (one_wins.policy, one_wins.baseline)
        if names != (other_wins.policy, other_wins.baseline):
            theirs = f"{other_wins.policy} over {other_wins.baseline}"
            notes.append(f"The rates are of other policies there: {theirs}. Name two with --policy and --baseline.")
    lines = [*_rates(report, other), *_others(report, other)]
    if not any(line.shared for line in lines):
        notes.append("The runs share no judged prompt, so no difference has an interval.")
    return Beside(run=report.run, other=other.run, lines=lines, notes=notes)


def _rates(report: Report, other: Report) -> Iterator[Line]:
    one, two = report.wins, other.wins
    if not isinstance(one, Wins) or not isinstance(two, Wins) or not report.rates or not other.rates:
        return
    mine, theirs = one.main, two.main
    name = f"{one.policy} over {one.baseline}"
    of_both = _paired(report.rates.outcomes, other.rates.outcomes, one, two)
    yield _line("Win rate", name, mine[1], theirs[1], of_both)
    for principle in report.facts.principles:
        rates = [
            wins.principles.get(principle.id, {}).get(who)
            for wins, who in ((one, mine[0]), (two, theirs[0]))
        ]  # fmt: skip
        if rates[0] is None or rates[1] is None:
            continue
        mine_of, theirs_of = (each.principle_outcomes.get(principle.id) for each in (report.rates, other.rates))
        both = _paired(mine_of, theirs_of, one, two)
        yield _line("Win rate by principle", principle.title, rates[0], rates[1], both)


def _line(section: str, name: str, one: WinRate, other: WinRate, both: Difference | None) -> Line:
    plain = other.rate - one.rate if one.rate is not None and other.rate is not None else None
    paired = both is not None and both.low is not None and both.high is not None
    return Line(
        section=section,
        name=name,
        unit="share",
        one=one.rate,
        other=other.rate,
        one_ends=_ends(one),
        other_ends=_ends(other),
        difference=both.difference if both and paired else plain,
        low=both.low if both and paired else None,
        high=both.high if both and paired else None,
        shared=both.prompts if both and paired else 0,
    )


def _ends(rate: WinRate) -> tuple[float, float] | None:
    return None if rate.low is None or rate.high is None else (rate.low, rate.high)


def _paired(one: Outcomes | None, other: Outcomes | None, mine: Wins, theirs: Wins) -> Difference | None:
    """The difference, second less first, on the prompts that both have; None where that cannot be told."""
    if one is None or other is None:
        return None
    sides = []
    for outcomes, wins in ((one, mine), (other, theirs)):
        rows = balanced(outcomes.between(wins.policy, wins.baseline))
        sides.append(rows[_of_kind(rows, wins.main[0])])
    prompts = tuple(dict.fromkeys([*one.prompts, *other.prompts]))
    judges = tuple(dict.fromkeys([*one.judges, *other.judges]))
    left, right = (_recoded(rows, prompts, judges) for rows in sides)
    shared = np.intersect1d(left.prompt, right.prompt)
    return difference(right, left) if len(shared) > 1 else None


def _of_kind(rows: Outcomes, who: str) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which rows are of people, or of models, where the headline is of one of them."""
    models = np.asarray([is_model(name) or name.startswith("rm:") for name in rows.judges], dtype=bool)
    if who == "people":
        return ~models[rows.judge]
    return models[rows.judge] if who == "models" else np.ones(len(rows), dtype=bool)


def _recoded(rows: Outcomes, prompts: tuple[str, ...], judges: tuple[str, ...]) -> Outcomes:
    """The same with codes of other lists of names."""
    place = {name: code for code, name in enumerate(prompts)}
    of_judge = {name: code for code, name in enumerate(judges)}
    return replace(
        rows,
        prompt=np.asarray([place[name] for name in rows.prompts], np.int64)[rows.prompt],
        judge=np.asarray([of_judge[name] for name in rows.judges], np.int64)[rows.judge],
        prompts=prompts,
        judges=judges,
    )


def _others(report: Report, other: Report) -> Iterator[Line]:
    """Figures without an interval of their difference."""
    scored = [
        {
            scorer.name: scorer.figures["accuracy"]
            for model in one.reward_models
            if model.evaluation
            for scorer in model.evaluation.scorers
            if scorer.kind != "baseline" and "accuracy" in scorer.figures
        }
        for one in (report, other)
    ]
    for name, figure in scored[0].items():
        if name in scored[1]:
            mine, theirs = figure, scored[1][name]
            ends = [None if one.low is None or one.high is None else (one.low, one.high) for one in (mine, theirs)]
            both = mine.value is not None and theirs.value is not None
            yield Line(
                section="Reward model: held-out accuracy",
                name=name,
                unit="share",
                one=mine.value,
                other=theirs.value,
                one_ends=ends[0],
                other_ends=ends[1],
                difference=(theirs.value or 0.0) - (mine.value or 0.0) if both else None,
            )
    for policy, lengths in report.facts.lengths.items():
        there = other.facts.lengths.get(policy)
        if lengths and there:
            yield _count("Length: mean characters", policy, lengths.mean, there.mean)
    for name in ("prompts", "responses"):
        yield _count("What there is", name, getattr(report.facts, name), getattr(other.facts, name))
    yield _count(
        "What there is", "judgements", sum(report.facts.judgements.values()), sum(other.facts.judgements.values())
    )
    pairs = [next((step.went_on for step in one.flow.steps if step.name == "Pairs"), 0) for one in (report, other)]
    yield _count("What there is", "pairs", *pairs)


def _count(section: str, name: str, one: float, other: float) -> Line:
    return Line(section=section, name=name, unit="count", one=one, other=other, difference=other - one)
