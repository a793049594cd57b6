"""Accuracy over the number of training pairs: whether more pairs would help.

Reads   training groups, held-out groups, and what fits a scorer to groups
Gives   a Point for each size and repeat

Prompts are drawn, never single pairs, and the draws of one repeat lie in each other, so that a curve does not jump with
luck. The repeats show how much the choice of prompts matters; the interval of each point, how sure its measurement is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from prefkit.resampling import Figure, estimates
from prefkit.training.groups import Group, Scorer
from prefkit.training.measuring.accuracy import Counting
from prefkit.training.measuring.report import MeasureSettings, gap_name
from prefkit.training.measuring.table import rewards_of, table_of

SHARES = (0.1, 0.2, 0.4, 0.7, 1.0)


@dataclass(frozen=True)
class Point:
    """A scorer fitted on ``pairs`` of ``prompts``; ``figures``: accuracy, and that of at least some gaps."""

    repeat: int
    prompts: int
    pairs: int
    figures: dict[str, Figure]


def learning_curve(
    fit: Callable[[Sequence[Group]], Scorer],
    training: Sequence[Group],
    held_out: Sequence[Group],
    *,
    shares: Sequence[float] = SHARES,
    repeats: int = 1,
    settings: MeasureSettings | None = None,
) -> list[Point]:
    """Fit on more and more of the training prompts, and measure on the same held-out pairs.

    Args:
        fit: gives a scorer fitted to groups.
        training: with pairs.
        held_out: with pairs, of other prompts.
        shares: of the training prompts, above 0 and at most 1.
        repeats: draws of prompts.
        settings: of the figures; ``seed`` is of the draws too.
    """
    settings = settings or MeasureSettings()
    table = table_of(held_out, "the held-out pairs")
    counting = Counting(table, settings.seed)
    prompts = sorted({group.prompt_id for group in training})
    found = []
    for repeat in range(repeats):
        order = np.random.default_rng([settings.seed, repeat]).permutation(len(prompts))
        for share in shares:
            if share == 1 and repeat:
                continue  # all prompts are one draw
            drawn = {prompts[place] for place in order[: max(1, round(share * len(prompts)))]}
            groups = [group for group in training if group.prompt_id in drawn]
            scorer = fit(groups)
            margin = table.margins(rewards_of(scorer, held_out, table, "the learning curve")[:, 0])
            sums = {"accuracy": counting.accuracy(margin)}
            for least in settings.least_gaps:
                kept = table.decided & (table.gap >= least - 1e-9)
                if kept.any():
                    sums[gap_name(least)] = counting.accuracy(margin, kept)
            figures = estimates(sums, resamples=settings.rounds, seed=settings.seed)
            found.append(Point(repeat, len(drawn), sum(len(group.pairs) for group in groups), figures))
    return found
