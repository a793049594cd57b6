"""Win rates: how often a policy is preferred to a baseline, and how sure that is.

Reads   Outcomes
Gives   a rate with its 95% interval: of everything, by judge, topic and length; differences of rates
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prefkit.errors import PrefkitError
from prefkit.evaluation.intervals import interval, naive_interval
from prefkit.evaluation.outcome_table import UNKNOWN, Bools, Ints, Outcomes, balanced, known
from prefkit.evaluation.rates import Difference, WinRate, difference, prompt_means, win_rate

__all__ = [
    "Difference",
    "Disagreement",
    "WinRate",
    "WinReport",
    "compare_policies",
    "difference",
    "disagreements",
    "interval",
    "naive_interval",
    "of_first_kind",
    "prompt_means",
    "win_rate",
    "win_report",
]

LENGTHS = (0.5, 0.8, 1.25, 2.0)
"""Where the ratio of the policy's length to the baseline's is cut."""
LENGTH_NAMES = (
    "less than half as long",
    "shorter by 20 to 50%",
    "about as long",
    "longer by 25 to 100%",
    "more than twice as long",
)
MAX_PAIRS = 45
"""Two judges whose disagreement is measured: all of ten."""


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """Two judges on the pairs of responses that both judged.

    Args:
        judges: the two.
        pairs: of responses.
        same, one_tie, opposite: how often they name the same side (or both a tie), one of them a tie, opposite sides.
        difference: of their win rates, first less second.
    """

    judges: tuple[str, str]
    pairs: int
    same: int
    one_tie: int
    opposite: int
    difference: Difference


@dataclass(frozen=True, kw_only=True)
class WinReport:
    """All win rates of a policy over a baseline.

    Args:
        policy, baseline: their names.
        principle: what is judged; None for the whole.
        overall: of all judges where they are of one kind, else of ``models`` and ``people``, who are not thrown
            together.
        by_judge, by_topic: by name. By topic and length, all judges of the first kind in ``overall``.
        by_length: by how long the policy's response is beside the baseline's.
        limits: of comparisons whose two responses have at most so many characters.
        disagreements: of each two judges.
        left_out: judgements and comparisons that are not counted, by reason.
    """

    policy: str
    baseline: str
    principle: str | None
    overall: dict[str, WinRate]
    by_judge: dict[str, WinRate]
    by_topic: dict[str, WinRate]
    by_length: dict[str, WinRate]
    limits: dict[int, WinRate]
    disagreements: list[Disagreement]
    left_out: dict[str, int]


def compare_policies(
    outcomes: Outcomes, one: str, other: str, baseline: str, *, both_orders: bool = True
) -> Difference:
    """The paired difference of two policies' win rates over the same baseline.

    Args:
        outcomes: rows as they were shown.
        one, other, baseline: policies.
        both_orders: leave out what a model was asked in one order only.

    Raises:
        PrefkitError: one of them is not there.
    """
    rows = balanced(outcomes, both_orders=both_orders)
    return difference(rows.between(one, baseline), rows.between(other, baseline))


def win_report(
    outcomes: Outcomes,
    policy: str,
    baseline: str,
    *,
    principle: str | None = None,
    limits: Sequence[int] = (),
    both_orders: bool = True,
    bootstrap: bool = False,
) -> WinReport:
    """All win rates of a policy over a baseline.

    Args:
        outcomes: rows as they were shown.
        policy, baseline: two of its policies.
        principle: what they were judged by, for the report.
        limits: in characters.
        both_orders: leave out, and count, what a model was asked in one order only.
        bootstrap: add the bootstrap's intervals to the overall rates.

    Raises:
        PrefkitError: a policy is not there, or no prompt has a comparison of the two that counts.
    """
    for name in (policy, baseline):
        known(name, outcomes.policies, "policy", outcomes.source)
    if policy == baseline:
        raise PrefkitError(outcomes.source, f"{policy!r} twice", "two policies", "A policy always ties with itself.")
    shown = outcomes.between(policy, baseline)
    rows = balanced(shown, both_orders=both_orders)
    if not len(rows):
        _refuse(rows, policy, baseline)
    shown = shown[np.isin(_asked(shown), _asked(rows))]
    kinds = _kinds(rows)
    overall = {name: _of(rows, shown, kept, bootstrap=bootstrap) for name, kept in kinds.items()}
    first = next(iter(kinds.values()))
    main = rows[first[rows.judge]], shown[first[shown.judge]]
    return WinReport(
        policy=policy,
        baseline=baseline,
        principle=principle,
        overall=overall,
        by_judge={name: _of(rows, shown, _only(rows, [code])) for code, name in _judging(rows)},
        by_topic={
            name: win_rate(main[0][main[0].topic == code], main[1][main[1].topic == code])
            for code, name in enumerate(rows.topics)
            if (main[0].topic == code).any()
        },
        by_length=_by_length(*main),
        limits={limit: win_rate(*(some[_within(some, limit)] for some in main)) for limit in limits},
        disagreements=disagreements(rows),
        left_out=rows.left_out,
    )


def _refuse(rows: Outcomes, policy: str, baseline: str) -> None:
    counted = "".join(f"; {count:,} {reason}" for reason, count in rows.left_out.items())
    remedy = f"Ask a judge about the two: prefkit judge {rows.source} --mode compare"
    raise PrefkitError(rows.source, f"0 prompts that compare {policy} with {baseline}{counted}", "at least 2", remedy)


def _asked(outcomes: Outcomes) -> Ints:
    asked: Ints = outcomes.pair * max(1, len(outcomes.judges)) + outcomes.judge
    return asked


def _judging(rows: Outcomes) -> list[tuple[int, str]]:
    there = set(np.unique(rows.judge).tolist())
    return [(code, name) for code, name in enumerate(rows.judges) if code in there]


def _only(rows: Outcomes, codes: Sequence[int]) -> Bools:
    kept = np.zeros(len(rows.judges), dtype=bool)
    kept[list(codes)] = True
    return kept


def _kinds(rows: Outcomes) -> dict[str, Bools]:
    """Who is taken together [judges], by name: people never with models."""
    there = _judging(rows)
    models = [code for code, name in there if not name.startswith("human:")]
    people = [code for code, name in there if name.startswith("human:")]
    if not models or not people:
        (one, *more) = there
        return {"all judges" if more else one[1]: _only(rows, models or people)}
    return {"models": _only(rows, models), "people": _only(rows, people)}


def _of(rows: Outcomes, shown: Outcomes, kept: Bools, *, bootstrap: bool = False) -> WinRate:
    return win_rate(rows[kept[rows.judge]], shown[kept[shown.judge]], bootstrap=bootstrap)


def of_first_kind(rows: Outcomes) -> Outcomes:
    """The rows of models where there are any, else those of people: whom topics, lengths and limits are about."""
    if not len(rows):
        return rows
    return rows[next(iter(_kinds(rows).values()))[rows.judge]]


def _within(rows: Outcomes, limit: int) -> Bools:
    texts = (rows.length_first != UNKNOWN) & (rows.length_second != UNKNOWN)
    short: Bools = texts & (np.maximum(rows.length_first, rows.length_second) <= limit)
    return short


def _by_length(rows: Outcomes, shown: Outcomes) -> dict[str, WinRate]:
    def bucket(some: Outcomes) -> Ints:
        ratio = some.length_first / np.maximum(some.length_second, 1)
        unknown = (some.length_first == UNKNOWN) | (some.length_second == UNKNOWN)
        return np.where(unknown, UNKNOWN, np.searchsorted(LENGTHS, ratio, side="right"))

    mine, theirs = bucket(rows), bucket(shown)
    return {
        name: win_rate(rows[mine == code], shown[theirs == code])
        for code, name in enumerate(LENGTH_NAMES)
        if (mine == code).any()
    }


def disagreements(rows: Outcomes) -> list[Disagreement]:
    """What each two judges say of the same pairs; of very many judges, the two that share most come first.

    Args:
        rows: of ``balanced``, turned by ``Outcomes.between``.
    """
    by_judge = [(code, rows[rows.judge == code]) for code, _ in _judging(rows)]
    found = []
    for place, (_, one) in enumerate(by_judge):
        for _, other in by_judge[place + 1 :]:
            _, left, right = np.intersect1d(one.pair, other.pair, return_indices=True)
            if len(left):
                found.append(_disagreement(one[left], other[right]))
    return sorted(found, key=lambda one: -one.pairs)[:MAX_PAIRS]


def _disagreement(one: Outcomes, other: Outcomes) -> Disagreement:
    sides = np.sign(one.preferred - 0.5), np.sign(other.preferred - 0.5)
    same, opposite = int((sides[0] == sides[1]).sum()), int((sides[0] * sides[1] < 0).sum())
    return Disagreement(
        judges=(one.judges[int(one.judge[0])], other.judges[int(other.judge[0])]),
        pairs=len(one),
        same=same,
        one_tie=len(one) - same - opposite,
        opposite=opposite,
        difference=difference(one, other),
    )
