"""Win rates, the board and lengths, as ``win-rate`` and ``leaderboard`` compute them.

Reads   judgements of a run, or the rewards of one reward model
Gives   Wins, Board, Longer

Where nobody says whose win rate is meant, it is that of the policy which leads the board over the one behind it, and
the page says that these data chose them.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from prefkit.errors import PrefkitError
from prefkit.evaluation.outcomes import ONE_ORDER, UNKNOWN, Outcomes, balanced, known, reward_outcomes, run_outcomes
from prefkit.evaluation.rankings import Ranking, RankingSettings, rank
from prefkit.evaluation.win_rates import WinRate, WinReport, win_rate, win_report
from prefkit.records import is_model
from prefkit.run import Run

Bar = Callable[[int], None]
ENOUGH = 0.1
"""Of the prompts that two policies share at most, for two others to be put into the headline unasked."""


@dataclass(frozen=True, kw_only=True)
class Absent:
    """Why a section has nothing to show, and the command that would change it (empty where none would)."""

    absent: str
    command: str = ""


@dataclass(frozen=True, kw_only=True)
class Corrected:
    """A judge's rate corrected by people's labels (``correcting.Corrected``), as far as it is shown."""

    rate: float
    low: float
    high: float
    weight: float
    bias: float
    unlike: float


@dataclass(frozen=True, kw_only=True)
class EqualLength:
    """The rate with both answers equally long (``length_control``), as far as it is shown."""

    value: float | None
    low: float | None
    high: float | None
    similar: float | None
    similar_n: int
    notes: list[str]


@dataclass(frozen=True, kw_only=True)
class Wins:
    """How often a policy is preferred to a baseline.

    Args:
        chosen: whether these data chose which two are compared.
        by: ``judgements``, or ``rewards of NAME``.
        report: overall, by judge, topic and length.
        principles: for each principle, the rate of each kind of judge; empty where none says anything about it.
        corrected: where people labelled some of what judges judged.
        equal_length: None where lengths are not known.
        one_order: comparisons that a model was asked in one order only, which do not count.
        apart: whether the board as a whole tells the two apart; None where there is no board.
    """

    policy: str
    baseline: str
    chosen: bool
    by: str
    report: WinReport
    principles: dict[str, dict[str, WinRate]]
    corrected: Corrected | None
    equal_length: EqualLength | None
    one_order: int
    apart: bool | None = None

    @property
    def decided(self) -> bool:
        """Whether it can be said who is preferred: the interval leaves out one half and, where these data chose the
        two, the board as a whole tells them apart."""
        return self.main[1].decided and not (self.chosen and self.apart is False)

    @property
    def main(self) -> tuple[str, WinRate]:
        """The rate of the headline, and whose it is: people's, where they were asked, else the first there is."""
        overall = self.report.overall
        return ("people", overall["people"]) if "people" in overall else next(iter(overall.items()))


@dataclass(frozen=True, kw_only=True)
class Board:
    """The policies ranked (``Ranking.as_json``)."""

    by: str
    comparisons: int
    prompts: int
    policies: list[dict[str, Any]]
    separations: list[dict[str, Any]]
    notes: list[str]
    left_out: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What was measured; ``outcomes`` are the rows behind it, None where there are none."""

    wins: Wins | Absent
    board: Board | Absent
    longer: WinRate | None
    outcomes: Outcomes | None
    principle_outcomes: dict[str, Outcomes] = field(default_factory=dict)


def rates_of(
    run: Run,
    *,
    policy: str | None,
    baseline: str | None,
    reward_model: str | None,
    rounds: int,
    seed: int,
    open_bar: Callable[[str, int | None, str], Bar],
) -> Rates:
    """Measure who is preferred.

    Args:
        run: the run.
        policy, baseline: whose rate over whom; None to let the board choose.
        reward_model: the one whose rewards say who is preferred; None for the judgements.
        rounds, seed: of the board's bootstrap.
        open_bar: opens a progress bar.

    Raises:
        PrefkitError: a policy or reward model that is not there.
        RecordError: a line is not a record.
    """
    try:
        outcomes = _outcomes(run, None, reward_model, open_bar("Who was preferred", None, "MB"))
    except PrefkitError as error:
        _refuse_unknown(run, policy, baseline)
        if reward_model is not None:
            raise
        nothing = Absent(absent=f"There are {error.found}.", command=f"prefkit judge {typed(run)} --judge MODEL")
        return Rates(wins=nothing, board=nothing, longer=None, outcomes=None)
    for name in filter(None, (policy, baseline)):
        known(name, outcomes.policies, "policy", run.path)
    if policy is not None and policy == baseline:
        raise PrefkitError(run.path, f"{policy!r} twice", "two policies", "A policy always ties with itself.")
    rows = balanced(outcomes)
    if not len(rows):
        counted = ", ".join(f"{count:,} {reason}" for reason, count in sorted(rows.left_out.items()))
        nothing = Absent(
            absent=f"Of the comparisons none counts: {counted}.",
            command=f"prefkit judge {typed(run)} --judge MODEL --mode compare",
        )
        return Rates(wins=nothing, board=nothing, longer=None, outcomes=outcomes)
    by = f"rewards of {reward_model}" if reward_model else "judgements"
    board = _board(rows, by, rounds, seed, open_bar("Ranking", rounds, "draws"))
    chosen = policy is None or baseline is None
    policy, baseline = _two(rows, board, policy, baseline)
    if policy is None or baseline is None:
        nothing = Absent(
            absent="No two policies were compared.", command=f"prefkit judge {typed(run)} --judge MODEL --mode compare"
        )
        return Rates(wins=nothing, board=board, longer=_longer(rows), outcomes=outcomes)
    bar = open_bar("By principle", len(run.rubric.principles), "principles")
    by_principle = _by_principle(run, (policy, baseline), reward_model, bar)
    chosen = chosen and len(outcomes.policies) > 2
    wins = _wins(outcomes, by_principle, policy, baseline, chosen, by, run)
    if isinstance(wins, Wins):
        wins = replace(wins, apart=_apart(board, policy, baseline))
    return Rates(wins=wins, board=board, longer=_longer(rows), outcomes=outcomes, principle_outcomes=by_principle)


def typed(run: Run) -> str:
    """A run as it is typed in a command."""
    return shlex.quote(str(run.path))


def _outcomes(
    run: Run, principle: str | None, reward_model: str | None, bar: Bar | None, policies: Sequence[str] | None = None
) -> Outcomes:
    if reward_model is not None:
        return reward_outcomes(run.path / "rewards.jsonl", run, principle, models=[reward_model], policies=policies)
    return run_outcomes(run, principle, policies=policies, progress=bar)


def _apart(board: Board | Absent, policy: str, baseline: str) -> bool | None:
    """Whether the two are told apart over the whole board; None where there is none."""
    pairs = board.separations if isinstance(board, Board) else []
    both = {policy, baseline}
    return next((bool(one["separated"]) for one in pairs if {one["ahead"], one["behind"]} == both), None)


def _refuse_unknown(run: Run, policy: str | None, baseline: str | None) -> None:
    there = sorted({one.policy for one in run.responses()})
    for name in filter(None, (policy, baseline)):
        known(name, there, "policy", run.path)


def _board(rows: Outcomes, by: str, rounds: int, seed: int, bar: Bar) -> Board | Absent:
    try:
        found: Ranking = rank(rows, RankingSettings(rounds=rounds, seed=seed), bar)
    except PrefkitError as error:
        return Absent(absent=f"No board: {error.found}. {error.remedy}")
    plain = found.as_json()
    return Board(
        by=by,
        comparisons=found.comparisons,
        prompts=found.prompts,
        policies=plain["policies"],
        separations=plain["separations"],
        notes=list(found.notes),
        left_out=dict(found.left_out),
    )


def _two(
    rows: Outcomes, board: Board | Absent, policy: str | None, baseline: str | None
) -> tuple[str | None, str | None]:
    """Who is compared with whom: those named, else the first on the board that were compared with each other."""
    order = [one["policy"] for one in board.policies] if isinstance(board, Board) else list(rows.policies)
    if policy is not None and baseline is not None:
        return policy, baseline
    met = _met(rows)
    for one in [policy] if policy else order:
        for other in [baseline] if baseline else order:
            if one != other and frozenset((one, other)) in met:
                return one, other
    return policy, baseline


def _met(rows: Outcomes) -> set[frozenset[str]]:
    """Which two policies were compared, on two prompts or more and a share of the most that any two were."""
    cells = np.unique(np.stack([rows.first, rows.second, rows.prompt], axis=1), axis=0)
    pairs, counts = np.unique(cells[:, :2], axis=0, return_counts=True)
    least = max(2.0, ENOUGH * float(counts.max(initial=0)))
    enough = counts >= least if (counts >= least).any() else counts > 0
    return {frozenset((rows.policies[one], rows.policies[other])) for one, other in pairs[enough].tolist()}


def _by_principle(run: Run, policies: tuple[str, str], reward_model: str | None, bar: Bar) -> dict[str, Outcomes]:
    found = {}
    for name in run.rubric.principle_ids:
        try:
            found[name] = _outcomes(run, name, reward_model, None, policies)
        except PrefkitError:
            continue
        finally:
            bar(1)
    return found


def _wins(
    outcomes: Outcomes,
    by_principle: dict[str, Outcomes],
    policy: str,
    baseline: str,
    chosen: bool,
    by: str,
    run: Run,
) -> Wins | Absent:
    try:
        report = win_report(outcomes, policy, baseline)
    except PrefkitError as error:
        return Absent(
            absent=f"There are {error.found}.", command=f"prefkit judge {typed(run)} --judge MODEL --mode compare"
        )
    principles: dict[str, dict[str, WinRate]] = {}
    for name in run.rubric.principle_ids:
        try:
            principles[name] = win_report(by_principle[name], policy, baseline).overall if name in by_principle else {}
        except PrefkitError:
            principles[name] = {}
    return Wins(
        policy=policy,
        baseline=baseline,
        chosen=chosen,
        by=by,
        report=report,
        principles=principles,
        corrected=_corrected(outcomes, policy, baseline),
        equal_length=_equal_length(outcomes, policy, baseline),
        one_order=report.left_out.get(ONE_ORDER, 0),
    )


def _corrected(outcomes: Outcomes, policy: str, baseline: str) -> Corrected | None:
    from prefkit.evaluation.correcting import corrected_rate

    if all(map(is_model, outcomes.judges)) or not any(map(is_model, outcomes.judges)):
        return None
    try:
        found = corrected_rate(outcomes, policy, baseline)
    except PrefkitError:
        return None
    return Corrected(
        rate=found.rate, low=found.low, high=found.high, weight=found.weight, bias=found.bias, unlike=found.unlike
    )


def _equal_length(outcomes: Outcomes, policy: str, baseline: str) -> EqualLength | None:
    from prefkit.evaluation.length_control import length_controlled
    from prefkit.evaluation.win_rates import of_first_kind

    try:
        found = length_controlled(of_first_kind(balanced(outcomes)), policy, baseline)
    except PrefkitError:
        return None
    return EqualLength(
        value=found.value,
        low=found.low,
        high=found.high,
        similar=found.similar,
        similar_n=found.similar_n,
        notes=list(found.notes),
    )


def _longer(rows: Outcomes) -> WinRate | None:
    """How often the longer of two answers is preferred, over all policies; None where lengths are not known."""
    some = rows[
        (rows.length_first != UNKNOWN) & (rows.length_second != UNKNOWN) & (rows.length_first != rows.length_second)
    ]
    if not len(some):
        return None
    first_longer = some.length_first > some.length_second
    return win_rate(replace(some, preferred=np.where(first_longer, some.preferred, 1 - some.preferred)))
