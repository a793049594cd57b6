"""Rewards by principle: how they become one number, and how that number explains itself.

A model with heads has one output for each principle, in log-odds, trained on what the pairs say of that principle. The
overall reward is their weighted sum, so the part of each principle in it can be said: in the difference of two
responses, everything that is not theirs cancels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from prefkit.errors import PrefkitError

if TYPE_CHECKING:
    from torch import Tensor

    from prefkit.rubric import Rubric


def rubric_combine(rubric: Rubric, heads: Sequence[str]) -> tuple[float, ...]:
    """The rubric's weights for these principles, in their order, summing to 1 by absolute value.

    A rubric's weights are made for its scales: a principle whose scale is twice as wide counts twice as much in a mean.
    Heads have no such scale, each is in log-odds, so only ``weight`` and the aggregation count.

    Raises:
        PrefkitError: a head is no principle of the rubric, or all weights are 0.
    """
    unknown = [head for head in heads if head not in rubric.principle_ids]
    if unknown:
        found, expected = f"no principle {unknown[0]!r}", f"one of {', '.join(rubric.principle_ids)}"
        raise PrefkitError(f"rubric {rubric.id}", found, expected, "Name principles of the rubric, or leave heads out.")
    weighted = rubric.aggregate in ("weighted-mean", "normalised")
    weights = {principle.id: principle.weight if weighted else 1.0 for principle in rubric.principles}
    total = sum(abs(weights[head]) for head in heads)
    if not total:
        remedy = "Give a principle a weight, or combine the heads with learned weights."
        raise PrefkitError(f"rubric {rubric.id}", "weights of 0 for every head", "a weight above 0", remedy)
    return tuple(weights[head] / total for head in heads)


def overall(rewards: Tensor, combine: Tensor | None) -> Tensor:
    """The overall rewards of a model's outputs.

    Args:
        rewards: [R, H].
        combine: [H] weight of each head; None for a model of one output, which is the reward.

    Returns:
        [R] in log-odds.
    """
    # no matrix product: autocast would round it to half precision
    return rewards[:, 0] if combine is None else (rewards * combine).sum(dim=1)


def with_overall(rewards: npt.ArrayLike, combine: Sequence[float]) -> npt.NDArray[np.float32]:
    """The table of rewards that is kept: the overall reward in front, then the heads.

    Args:
        rewards: [R, outputs] of a model.
        combine: weight of each head; empty for a model of one output.

    Returns:
        [R, 1 + H].
    """
    outputs = np.asarray(rewards, dtype=np.float64)
    if not combine:
        return outputs.astype(np.float32)
    return np.column_stack([outputs @ np.asarray(combine, dtype=np.float64), outputs]).astype(np.float32)


def contributions(
    heads: Sequence[str], combine: Sequence[float], better: npt.ArrayLike, worse: npt.ArrayLike
) -> dict[str, float]:
    """What each principle adds to the lead of one response over another.

    Args:
        heads: the principles.
        combine: their weights in the overall reward.
        better, worse: [H] rewards of the two responses by head.

    Returns:
        Principle -> log-odds, the largest first by size; they sum to the lead in overall reward.
    """
    leads = np.asarray(combine, dtype=np.float64) * (np.asarray(better, np.float64) - np.asarray(worse, np.float64))
    by_head = dict(zip(heads, leads.tolist(), strict=True))
    return dict(sorted(by_head.items(), key=lambda item: -abs(item[1])))


def explanation(leads: Mapping[str, float]) -> str:
    """A lead in words: ``+1.32 = empathy +0.90, clarity +0.50, safety -0.08``."""
    terms = ", ".join(f"{name} {value:+.2f}" for name, value in leads.items())
    return f"{sum(leads.values()):+.2f} = {terms}"
