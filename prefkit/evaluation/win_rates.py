"""Win rates: how often a policy is preferred to a baseline, and how sure that is.

Reads   Outcomes
Gives   a rate with its 95% interval: of everything, by judge, topic and length; differences of rates

A prompt is the unit. The two orders of one judge are averaged first (a judge that picks by position ends at a tie),
then the answers of one judge on a prompt, then the judges; a tie is half a win; the rate is the mean over prompts, each
counting the same. Prompts are independent of each other, what is said on one prompt is not.

The interval is Wilson's, with as many observations as the spread between prompts is worth and Student's t for the
normal. In simulation (benchmarks/winrate_parts/coverage.py) it kept to 93-97% where t, logit-t, Hall's transformed t,
added prompts and the BCa bootstrap each fell short somewhere near 95 or 50% with thirty prompts. Where all prompts say
the same, the exact bound on the share of prompts that could say otherwise stands in for a spread.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prefkit.errors import PrefkitError
from prefkit.evaluation.outcomes import UNKNOWN, Bools, Floats, Ints, Outcomes, balanced, known
from prefkit.resampling import TAIL, wilson

Z = 1.959963984540054
HELD_BACK = 1 / 64
"""How much of a prompt is taken to have gone fully the other way, beside the spread that is seen: it keeps the interval
from shrinking to nothing where nearly all prompts say the same."""
FEW_DECIDED = 5
"""With fewer prompts that prefer a side, among mostly ties, the spread says too little: the exact bound is used."""
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
class WinRate:
    """How often a policy is preferred.

    Args:
        rate: from 0 to 1; None with fewer than two prompts, where a share would say nothing.
        standard_error: of the mean over prompts, by the spread between them.
        low, high: the 95% interval; None with fewer than two prompts.
        naive_low, naive_high: what it would be if every answer, each order by itself, were independent.
        prompts, comparisons, answers: of which there are so many; a comparison is one judge on two responses, an answer
            is a comparison in one order.
        wins, ties, losses: comparisons.
    """

    rate: float | None
    standard_error: float | None
    low: float | None
    high: float | None
    naive_low: float | None
    naive_high: float | None
    prompts: int
    comparisons: int
    answers: int
    wins: int
    ties: int
    losses: int

    @property
    def decided(self) -> bool:
        """Whether the interval leaves out one half."""
        return self.low is not None and self.high is not None and (self.low > 0.5 or self.high < 0.5)


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The difference of two rates on the prompts that both have.

    Args:
        difference: first less second; None with fewer than two prompts.
        low, high: 95% interval.
        p: of no difference, two-sided, by the paired t test over prompts.
        prompts: that both have.
    """

    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    prompts: int


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


def interval(values: Floats) -> tuple[Floats, Floats]:
    """The 95% interval of the mean of independent values between 0 and 1.

    Wilson's interval at n_eff = (n - 1) (z/t)^2 (n p q + c) / (S + c), with S the sum of squares about the mean p, and
    c = ``HELD_BACK``: n - 1 observations where each value is 0 or 1, more where the values are means of several.

    Args:
        values: [..., prompts], at least two.

    Returns:
        Lower and upper ends [...].

    Raises:
        ValueError: there are fewer than two values.

    Source: Wilson 1927, doi:10.1080/01621459.1927.10502953; with an effective number of observations, Korn & Graubard
    1998, Survey Methodology 24(2); the exact bound, Clopper & Pearson 1934, doi:10.1093/biomet/26.4.404.
    """
    from scipy.special import stdtrit

    count = values.shape[-1]
    if count < 2:
        raise ValueError(f"an interval takes two values or more; got {count}")
    mean = values.mean(axis=-1)
    squares = ((values - mean[..., None]) ** 2).sum(axis=-1)
    worth = (count - 1) * (Z / float(stdtrit(count - 1, 1 - TAIL))) ** 2
    low, high = np.vectorize(wilson, otypes=[float, float])(
        mean, worth * (count * mean * (1 - mean) + HELD_BACK) / (squares + HELD_BACK)
    )
    return _widened(values, mean, squares, low, high)


def _widened(values: Floats, mean: Floats, squares: Floats, low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """The interval with exact bounds where the spread says nothing: all values are the same, or nearly all ties."""
    from scipy.special import betaincinv

    count = values.shape[-1]
    other = 1 - TAIL ** (1 / count)  # as many prompts could say something else, and have not been met
    same = squares < 1e-12
    low, high = np.where(same, mean * (1 - other), low), np.where(same, mean + (1 - mean) * other, high)
    decided = (np.abs(values - 0.5) > 1e-12).sum(axis=-1)
    few = ~same & (decided < FEW_DECIDED) & (4 * decided < count)
    reach = betaincinv(decided + 1, np.maximum(count - decided, 1), 1 - TAIL) / 2
    low, high = np.where(few, np.minimum(low, 0.5 - reach), low), np.where(few, np.maximum(high, 0.5 + reach), high)
    return np.minimum(low, mean), np.maximum(high, mean)


def naive_interval(values: Floats) -> tuple[Floats, Floats]:
    """The interval of independent answers [..., answers], mean +- 1.96 sd / sqrt(n): right only where there is one
    answer a prompt and the rate is far from 0 and 1. For comparison."""
    reach = Z * values.std(axis=-1, ddof=1) / math.sqrt(values.shape[-1])
    mean = values.mean(axis=-1)
    return np.maximum(mean - reach, 0), np.minimum(mean + reach, 1)


@dataclass(frozen=True)
class PromptMeans:
    """The rate on each prompt: codes of prompts [n], sorted, and means [n]."""

    prompt: Ints
    mean: Floats

    def on(self, prompts: Ints) -> Floats:
        """The means on some of the prompts, which must be among them."""
        return self.mean[np.searchsorted(self.prompt, prompts)]


def prompt_means(outcomes: Outcomes) -> PromptMeans:
    """The rate of ``first`` on each prompt: the mean over its judges of the mean of what each says.

    Args:
        outcomes: rows of ``balanced``, turned by ``Outcomes.between``.
    """
    cells, place = np.unique(np.stack([outcomes.prompt, outcomes.judge], axis=1), axis=0, return_inverse=True)
    if not len(cells):
        return PromptMeans(np.empty(0, np.int64), np.empty(0))
    said = np.bincount(place.reshape(-1), outcomes.preferred) / np.bincount(place.reshape(-1))
    prompts, of_prompt = np.unique(cells[:, 0], return_inverse=True)
    return PromptMeans(prompts, np.bincount(of_prompt, said) / np.bincount(of_prompt))


def win_rate(outcomes: Outcomes, as_shown: Outcomes | None = None) -> WinRate:
    """The rate of ``first`` over ``second``.

    Args:
        outcomes: rows of ``balanced``, turned by ``Outcomes.between``.
        as_shown: the same before they were balanced, for the naive interval; the rows themselves where it is None.
    """
    means, preferred = prompt_means(outcomes).mean, outcomes.preferred
    answers = preferred if as_shown is None else as_shown.preferred
    enough = len(means) > 1
    low, high = interval(means) if enough else (None, None)
    naive_low, naive_high = naive_interval(answers) if enough else (None, None)
    return WinRate(
        rate=float(means.mean()) if enough else None,
        standard_error=float(means.std(ddof=1) / math.sqrt(len(means))) if enough else None,
        low=_number(low),
        high=_number(high),
        naive_low=_number(naive_low),
        naive_high=_number(naive_high),
        prompts=len(means),
        comparisons=len(preferred),
        answers=len(answers),
        wins=int((preferred > 0.5).sum()),
        ties=int((preferred == 0.5).sum()),
        losses=int((preferred < 0.5).sum()),
    )


def _number(value: Floats | None) -> float | None:
    return None if value is None else float(value)


def difference(one: Outcomes, other: Outcomes) -> Difference:
    """How much more often ``first`` is preferred in one set of outcomes than in another, on the prompts that both have.

    Where both have the same judges on a prompt, each judge is compared with itself; where they share none (two judges
    are compared), the prompt's means are.

    Args:
        one, other: rows of ``balanced``, turned by ``Outcomes.between``; codes of prompts and judges are the same.
    """
    from scipy.special import stdtr

    shared = np.intersect1d(_cells(one), _cells(other))
    if len(shared):
        one, other = one[np.isin(_cells(one), shared)], other[np.isin(_cells(other), shared)]
    left, right = prompt_means(one), prompt_means(other)
    both = np.intersect1d(left.prompt, right.prompt)
    gaps = left.on(both) - right.on(both)
    if len(gaps) < 2:
        return Difference(difference=None, low=None, high=None, p=None, prompts=len(gaps))
    low, high = interval((gaps + 1) / 2)  # a difference lies between -1 and 1
    spread = float(gaps.std(ddof=1)) / math.sqrt(len(gaps))
    if spread > 1e-12:
        p = 2 * float(stdtr(len(gaps) - 1, -abs(float(gaps.mean())) / spread))
    else:  # all differ by the same: the sign test
        p = 1.0 if abs(float(gaps.mean())) < 1e-12 else 2.0 ** (1 - len(gaps))
    return Difference(
        difference=float(gaps.mean()), low=float(2 * low - 1), high=float(2 * high - 1), p=p, prompts=len(gaps)
    )


def _cells(outcomes: Outcomes) -> Ints:
    cells: Ints = outcomes.prompt * max(1, len(outcomes.judges)) + outcomes.judge
    return cells


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
) -> WinReport:
    """All win rates of a policy over a baseline.

    Args:
        outcomes: rows as they were shown.
        policy, baseline: two of its policies.
        principle: what they were judged by, for the report.
        limits: in characters.
        both_orders: leave out, and count, what a model was asked in one order only.

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
    overall = {name: _of(rows, shown, kept) for name, kept in kinds.items()}
    first = next(iter(kinds.values()))
    main = rows[first[rows.judge]], shown[first[shown.judge]]
    longest = np.maximum(main[0].length_first, main[0].length_second)
    texts = (main[0].length_first != UNKNOWN) & (main[0].length_second != UNKNOWN)
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
        limits={limit: win_rate(main[0][texts & (longest <= limit)]) for limit in limits},
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


def _of(rows: Outcomes, shown: Outcomes, kept: Bools) -> WinRate:
    return win_rate(rows[kept[rows.judge]], shown[kept[shown.judge]])


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
