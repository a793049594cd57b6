"""Several models: what they say together, and how far they disagree.

Reads   rewards of several models [responses] and their temperatures
Gives   rewards of the ensemble [responses], the disagreement about each pair [pairs]

Rewards are divided by the temperature of their model, so that each speaks in log-odds, and centred, as a constant means
nothing; then their mean is taken. Disagreement about a pair is the standard deviation of the models' margins: doubt
that one model's reward alone does not show (Coste et al. 2024, arXiv:2310.02743, use it against over-optimisation).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from prefkit.resampling import Floats
from prefkit.training.measuring.table import Table


def ensemble(rewards: Sequence[Floats], temperatures: Sequence[float]) -> Floats:
    """The mean reward [responses] in log-odds of models' rewards, each [responses]."""
    scaled = [one / temperature for one, temperature in zip(rewards, temperatures, strict=True)]
    result: Floats = np.mean([one - np.nanmean(one) for one in scaled], axis=0)
    return result


def disagreement(table: Table, rewards: Sequence[Floats], temperatures: Sequence[float]) -> Floats:
    """The standard deviation between the models' margins [pairs], in log-odds.

    Raises:
        ValueError: there is one model.
    """
    if len(rewards) < 2:
        raise ValueError("one model does not disagree with itself")
    margins = [table.margins(one) / temperature for one, temperature in zip(rewards, temperatures, strict=True)]
    result: Floats = np.std(margins, axis=0, ddof=1)
    return result


def errors_found(disagreement: Floats, right: Floats) -> float | None:
    """How often a pair put wrong has more disagreement than one put right, ties half; None where there are not both.

    Args:
        disagreement: [pairs].
        right: [pairs], 1, 0.5 or 0; halves are left out.
    """
    wrong, good = disagreement[right == 0], np.sort(disagreement[right == 1])
    if not len(wrong) or not len(good):
        return None
    below = (np.searchsorted(good, wrong, "left") + np.searchsorted(good, wrong, "right")) / 2
    return float(below.mean() / len(good))
