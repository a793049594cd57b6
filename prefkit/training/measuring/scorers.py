"""What is measured in an evaluation: models and baselines, with their rewards of the held-out pairs.

Reads   Pairs; folders of reward models
Gives   a Scored for each

Beside each stands its accuracy on pairs of two policies that it never saw: a baseline and a frozen model are fitted
again without them; a trained model shows it where policies were left out of its training (``training.json`` names those
that were not).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from prefkit.errors import PrefkitError
from prefkit.resampling import Floats
from prefkit.training.groups import Scorer
from prefkit.training.measuring import calibrating
from prefkit.training.measuring.figures import Scored
from prefkit.training.measuring.sources import Pairs
from prefkit.training.measuring.table import UNKNOWN, Table, margins_of, rewards_of, table_of
from prefkit.training.reward_info import RewardInfo

if TYPE_CHECKING:
    from prefkit.training.baselines import Maker

Say = Callable[[str], None]
ON_ITSELF = "fitted on the same file, five folds by prompt"
ON_TRAINING = "fitted on the training pairs"
LEAST_POLICIES = 4
"""With fewer, nothing is left to learn from when two are left out."""


def of_baselines(pairs: Pairs, table: Table, *, left_out: bool, say: Say) -> list[Scored]:
    """Length, words and policy, fitted on the training pairs, or on the held-out prompts of other folds.

    Args:
        pairs: the groups.
        table: of the held-out ones.
        left_out: whether each is also fitted without the policies of the pairs that it scores.
        say: told what is done, and what cannot be.
    """
    from prefkit.training.baselines import BASELINES, cross_validated

    several = len([name for name in table.policies if name != UNKNOWN]) > 1
    found = []
    for name, make in BASELINES.items():
        if name == "policy identity" and not several:
            say(f"{name}: left out, the policies are not known")
            continue
        say(f"{name}: fitting")
        try:
            if pairs.training:
                rewards = rewards_of(make(pairs.training), pairs.held_out, table, name)
                one = Scored(name=name, kind="baseline", rewards=rewards, how=ON_TRAINING)
            else:
                margins = margins_of(cross_validated(make, list(pairs.held_out)).rewards, table)
                one = Scored(name=name, kind="baseline", margins=margins, how=ON_ITSELF)
        except PrefkitError as error:
            say(f"{name}: left out, {error.found}")
            continue
        found.append(replace(one, left_out=_left_out(make, pairs, table, name, say) if left_out else None))
    return found


def of_model(
    folder: Path,
    name: str,
    info: RewardInfo,
    pairs: Pairs,
    table: Table,
    *,
    left_out: bool,
    device: str | None,
    say: Say,
) -> tuple[Scored, Maker | None]:
    """A reward model, and what fits it anew: a frozen one is fitted as baselines are, where there are training pairs.

    Args:
        folder: of the model.
        name: that it is called by.
        info: what the folder says of it.
        pairs: the groups.
        table: of the held-out ones.
        left_out: whether a frozen model is also fitted without the policies of the pairs that it scores.
        device: None for the fastest there is.
        say: told what is done.
    """
    from prefkit.training.frozen import FrozenRewardModel
    from prefkit.training.reward_model import RewardModel

    model = RewardModel.load(folder, device)
    rewards = rewards_of(model, pairs.held_out, table, name)
    scored = Scored(
        name=name,
        kind="model",
        rewards=rewards,
        heads=model.heads,
        tie=info.tie,
        how=f"{info.kind} {info.base}",
        tally=dict(model.tally),
    )
    temperature, whence = _temperature(scored, model, info, pairs, table, name)
    scored = replace(scored, temperature=temperature, temperature_from=whence)
    make = model.scorer.maker() if isinstance(model.scorer, FrozenRewardModel) and pairs.training else None
    if make is not None and left_out:
        say(f"{name}: fitting again with policies left out")
        return replace(scored, left_out=_left_out(make, pairs, table, name, say)), make
    return replace(scored, left_out=_unseen(folder, scored, table)), make


def _left_out(make: Maker, pairs: Pairs, table: Table, name: str, say: Say) -> Floats | None:
    """Margins [pairs] of scorers that saw neither the prompt nor either policy; None where that cannot be."""
    from prefkit.training.baselines import cross_validated, policies_left_out

    if len([name for name in table.policies if name != UNKNOWN]) < LEAST_POLICIES:
        return None
    groups = list(pairs.held_out)
    try:
        if pairs.training:
            found = policies_left_out(make, pairs.training, groups)
        else:
            found = cross_validated(make, groups, leave_policies_out=True)
    except PrefkitError as error:
        say(f"{name}: not fitted without policies, {error.found}")
        return None
    return margins_of(found.rewards, table)


def _temperature(
    scored: Scored, model: Scorer, info: RewardInfo, pairs: Pairs, table: Table, name: str
) -> tuple[float | Floats, str]:
    """The temperature of the model's own folder; else from validation pairs; else from held-out pairs of other prompts.
    And where it is from."""
    if info.temperature != 1.0:
        return info.temperature, "training"
    validation = list(pairs.validation)
    if validation:
        theirs = table_of(validation, name)
        margin = calibrating.log_odds(theirs.margins(rewards_of(model, validation, theirs, name)[:, 0]), info.tie)
        kept = theirs.decided & np.isfinite(margin)
        if kept.any():
            found = calibrating.fit_temperature(margin[kept], theirs.preferred[kept])
            return found, "validation pairs"
    margin = calibrating.log_odds(scored.margins_in(table), info.tie)
    kept = table.decided & np.isfinite(margin)
    temperature = np.ones(len(margin))
    temperature[kept] = calibrating.cross_fitted(margin[kept], table.preferred[kept], table.prompt[kept])
    return temperature, "these pairs, five folds by prompt"


def _unseen(folder: Path, scored: Scored, table: Table) -> Floats | None:
    """The margins [pairs] of pairs whose two policies were not in the training of a model; NaN for others."""
    try:
        seen = json.loads((folder / "training.json").read_bytes()).get("policies")
    except (OSError, ValueError, AttributeError):
        return None
    if not seen or UNKNOWN in seen:
        return None  # one that had no name there may have one here
    new = np.asarray([bool(name) and name not in seen for name in table.policies])
    kept = new[table.policy[table.chosen]] & new[table.policy[table.rejected]]
    return np.where(kept, scored.margins_in(table), np.nan) if kept.any() else None
