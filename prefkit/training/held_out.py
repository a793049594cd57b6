"""A new reward model on the held-out pairs, beside what it has to beat: length, words, who wrote it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from prefkit.errors import PrefkitError
from prefkit.training.baselines import BASELINES
from prefkit.training.groups import Group, Rewards
from prefkit.training.measuring.figures import Scored, measure
from prefkit.training.measuring.report import rows
from prefkit.training.measuring.table import rewards_of, table_of

FITTED_ON = 20_000
"""Prompts on which baselines are fitted at most: their texts have to be in memory."""


def _some(groups: Iterable[Group]) -> list[Group]:
    """As many groups as baselines are fitted on, each with the same chance to be among them."""
    draw, kept = np.random.default_rng(0), list[Group]()
    for number, group in enumerate(groups):
        if number < FITTED_ON:
            kept.append(group)
        elif (place := int(draw.integers(number + 1))) < FITTED_ON:
            kept[place] = group
    return kept


def beside_baselines(
    train: Iterable[Group],
    held_out: Sequence[Group],
    rewards: Rewards,
    *,
    name: str,
    heads: tuple[str, ...] = (),
    temperature: float = 1.0,
    temperature_from: str = "",
    source: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> tuple[list[dict[str, str]], list[str]]:
    """Figures of a model and of the baselines, each fitted on the same training pairs; and what they mean, in words.

    Args:
        train: that the model was trained on.
        held_out: with pairs.
        rewards: of all their responses, [responses, 1 + heads].
        name: of the model.
        heads, temperature, temperature_from: of the model.
        source: of the held-out pairs.
        say: told which baseline cannot be had.
    """
    table = table_of(held_out)
    known = _some(group for group in train if group.pairs)
    if len(known) == FITTED_ON:
        say(f"  baselines are fitted on {FITTED_ON:,} of the prompts, drawn at random")
    model = np.asarray(rewards, np.float64)
    scored = [Scored(name=name, kind="model", rewards=model, heads=heads, temperature=temperature,
                     temperature_from=temperature_from)]  # fmt: skip
    for baseline, fitted in BASELINES.items():
        try:
            scorer = fitted(known)
        except PrefkitError as error:
            say(f"no baseline {baseline}: {error.found}")
            continue
        of = rewards_of(scorer, held_out, table, baseline)
        scored.append(Scored(name=baseline, kind="baseline", rewards=of, how="fitted on the training pairs"))
    report = measure(table, scored, source=source, split="test")
    return rows(report), report.notes
