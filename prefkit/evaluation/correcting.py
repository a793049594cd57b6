"""A judge's win rate made right by people who labelled some of the prompts.

Reads   Outcomes: a judge on all prompts, people on some of them, which were drawn at random
Gives   the win rate that people would give on all, with its 95% interval

A judge alone gives a narrow interval around the wrong rate, people alone a wide one around the right one.
Prediction-powered inference takes the judge's rate on the prompts that people did not label, and adds what people and
judge differ by where both spoke. How much the judge counts (``weight``, 0 to 1) follows from how well it goes with
people: a judge that says nothing leaves the people's own rate. Each prompt's weight is estimated without it, as the
estimate would otherwise lean towards what the prompt itself says; by as much as two points with thirty labels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prefkit.errors import PrefkitError
from prefkit.evaluation.intervals import HELD_BACK, effective, interval
from prefkit.evaluation.outcomes import Floats, Outcomes, balanced
from prefkit.evaluation.rates import PromptMeans, WinRate, prompt_means, win_rate
from prefkit.resampling import wilson

LEAST = 10
"""Labelled prompts without which nothing is corrected."""
FEW = 8
"""With fewer labelled prompts on which people say something else than they mostly do, how well the judge goes with
people is unknown, and the interval is not narrower than the people's own."""
UNLIKE = 0.01
"""Below this probability, the labelled prompts do not look like a random draw from all."""


@dataclass(frozen=True, kw_only=True)
class Corrected:
    """A judge's win rate corrected by people.

    Args:
        rate, low, high: from 0 to 1, with its 95% interval.
        weight: how much the judge counts, 0 to 1.
        judge: what the judge says alone, on all prompts.
        people: what people say alone, on those that they labelled.
        bias: the judge's rate less the people's, on the prompts that both judged.
        worth: how many prompts people alone would have had to label for an interval as narrow.
        unlike: the probability of the judge's rates on labelled and other prompts being as far apart by chance; a low
            one says that the labelled prompts were not drawn at random.
    """

    rate: float
    low: float
    high: float
    weight: float
    judge: WinRate
    people: WinRate
    bias: float
    worth: float
    unlike: float


def corrected_interval(judge: Floats, others: Floats, people: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """The mean that people would give on all prompts, by prediction-powered inference with power tuning.

    Args:
        judge: [..., n] what the judge says on each labelled prompt, 0 to 1.
        others: [..., m] what it says on the other prompts.
        people: [..., n] what people say on the labelled prompts.

    Returns:
        Estimate, lower and upper end of the 95% interval, weight of the judge: each [...].

    Raises:
        ValueError: n is below ``LEAST``.

    Source: Angelopoulos, Duchi & Zrnic 2023, arXiv:2311.01453 (the weight), after Angelopoulos et al.
    2023, arXiv:2301.09633. Ours: the weight of each prompt leaves it out, and the interval is Wilson's at the effective
    number of observations.
    """
    count, more = people.shape[-1], others.shape[-1]
    if count < LEAST:
        raise ValueError(f"at least {LEAST} labelled prompts; got {count}")
    alone_low, alone_high = interval(people)
    if more < 2:  # the judge has nothing to add
        return people.mean(axis=-1), alone_low, alone_high, np.zeros(people.shape[:-1])
    weight = _weights(judge, others, people)
    estimate = (people - weight * (judge - others.mean(axis=-1, keepdims=True))).mean(axis=-1).clip(0, 1)
    low, high = _wilson(
        people, weight * judge, weight.mean(axis=-1) ** 2 * others.var(axis=-1, ddof=1) / more, estimate
    )
    commonest = np.stack([np.isclose(people, value).sum(axis=-1) for value in (0.0, 0.5, 1.0)]).max(axis=0)
    few = count - commonest < FEW
    low = np.where(few, np.minimum(alone_low, estimate), low)
    high = np.where(few, np.maximum(alone_high, estimate), high)
    return estimate, low, high, weight.mean(axis=-1)


def _weights(judge: Floats, others: Floats, people: Floats) -> Floats:
    """The judge's weight [..., n] for each labelled prompt: cov(people, judge) / var(judge) / (1 + n/m), without it."""
    count, more = people.shape[-1], others.shape[-1]
    rest = count - 1
    product = (judge * people).sum(axis=-1, keepdims=True) - judge * people
    sums = (judge.sum(axis=-1, keepdims=True) - judge) * (people.sum(axis=-1, keepdims=True) - people)
    spread = np.concatenate([judge, others], axis=-1).var(axis=-1, ddof=1, keepdims=True)
    covariance = (product - sums / rest) / (rest - 1)
    tuned = np.divide(covariance, spread, out=np.zeros_like(covariance), where=spread > 1e-12) / (1 + count / more)
    weights: Floats = tuned.clip(0, 1)
    return weights


def _wilson(people: Floats, predicted: Floats, of_others: Floats, estimate: Floats) -> tuple[Floats, Floats]:
    """Wilson's interval with the people's effective number of prompts, times how much less the estimate varies."""
    count = people.shape[-1]
    mean = people.mean(axis=-1)
    variances = []
    for values in (people, people - predicted):
        squares = ((values - values.mean(axis=-1, keepdims=True)) ** 2).sum(axis=-1)
        variances.append((squares + HELD_BACK) / (count - 1) / count)
    share = variances[0] * count * (count - 1) / (count * mean * (1 - mean) + HELD_BACK)
    worth = effective(count, share) * variances[0] / (variances[1] + of_others)
    low, high = np.vectorize(wilson, otypes=[float, float])(estimate, worth)
    return low, high


def corrected_rate(
    outcomes: Outcomes, policy: str, baseline: str, *, judges: Sequence[str] | None = None, both_orders: bool = True
) -> Corrected:
    """The win rate that people would give on all prompts that a judge has judged.

    Args:
        outcomes: rows as they were shown, of people (``human:``) and of judges.
        policy, baseline: two of its policies.
        judges: which judges, taken together; None for all that are not people.
        both_orders: leave out what a model was asked in one order only.

    Raises:
        PrefkitError: a policy is not there; there is no judge; people have labelled fewer than ``LEAST`` of the judge's
            prompts.
    """
    rows = balanced(outcomes.between(policy, baseline), both_orders=both_orders)
    human = np.asarray([name.startswith("human:") for name in rows.judges], dtype=bool)
    wanted = ~human & np.asarray([judges is None or name in judges for name in rows.judges], dtype=bool)
    by_judge, by_people = rows[wanted[rows.judge]], rows[human[rows.judge]]
    judged, labelled = prompt_means(by_judge), prompt_means(by_people)
    both = np.intersect1d(judged.prompt, labelled.prompt)
    if not len(judged.prompt):
        remedy = f"Ask one about all prompts: prefkit judge {rows.source}"
        raise PrefkitError(rows.source, f"no judge's comparison of {policy} with {baseline}", "a model's", remedy)
    if len(both) < LEAST:
        found = (
            f"people's judgements of {policy} and {baseline} on {len(both)} of the {len(judged.prompt)} judged prompts"
        )
        remedy = "Have people label a random draw of the prompts: prefkit annotate."
        raise PrefkitError(rows.source, found, f"at least {LEAST}", remedy)
    others = judged.on(np.setdiff1d(judged.prompt, both))
    estimate, low, high, weight = corrected_interval(judged.on(both), others, labelled.on(both))
    people_low, people_high = interval(labelled.on(both))
    return Corrected(
        rate=float(estimate),
        low=float(low),
        high=float(high),
        weight=float(weight),
        judge=win_rate(by_judge),
        people=win_rate(by_people[np.isin(by_people.prompt, both)]),
        bias=float((judged.on(both) - labelled.on(both)).mean()),
        worth=len(both) * float((people_high - people_low) / (high - low)) ** 2,
        unlike=_unlike(judged, both),
    )


def _unlike(judged: PromptMeans, labelled: np.ndarray[tuple[int], np.dtype[np.int64]]) -> float:
    """The two-sided probability of the judge's means on labelled and on other prompts being so far apart by chance."""
    drawn = np.isin(judged.prompt, labelled)
    one, other = judged.mean[drawn], judged.mean[~drawn]
    if min(len(one), len(other)) < 2:
        return 1.0
    error = math.sqrt(one.var(ddof=1) / len(one) + other.var(ddof=1) / len(other))
    gap = abs(float(one.mean() - other.mean()))
    return math.erfc(gap / error / math.sqrt(2)) if error > 0 else float(gap < 1e-12)
