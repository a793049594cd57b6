"""Pairs of responses by index, and rewards in the same order.

Reads   Groups; the rewards that a Scorer gives them
Gives   a Table; Floats [responses, 1 + heads]

The texts are read once and forgotten: a response leaves its length and the number of its policy, a pair the rows of its
two responses, which side is preferred and by how much. So any number of pairs fits in memory, and all figures are sums
over arrays.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from prefkit.errors import PrefkitError
from prefkit.resampling import Floats, Ints
from prefkit.training.groups import Group, Pair, Scorer

Bools = npt.NDArray[np.bool_]
UNKNOWN = ""


@dataclass(frozen=True)
class Table:
    """Pairs, and the responses they are made of.

    Of pairs, aligned: ``ids``; ``prompt``; ``chosen`` and ``rejected``, rows of responses; ``preferred``, the
    probability that the chosen side is better, at least 0.5 (0.5 is a tie); ``turned``, whether for that its sides
    stand here the other way round than in the group; ``gap``, NaN where there is none; ``topic``. ``sides`` and
    ``gaps`` [pairs, principles] are ``preferred`` and ``gap`` by principle, where the chosen side may be the worse.

    Of responses, aligned: ``length`` in characters, ``policy``, ``owner`` (the prompt), ``group``. ``policies`` and
    ``topics`` are names; an unknown one is empty.
    """

    ids: tuple[str, ...]
    prompt: Ints
    chosen: Ints
    rejected: Ints
    preferred: Floats
    turned: Bools
    gap: Floats
    topic: Ints
    principles: tuple[str, ...]
    sides: Floats
    gaps: Floats
    length: Ints
    policy: Ints
    owner: Ints
    group: Ints
    policies: tuple[str, ...]
    topics: tuple[str, ...]
    prompt_ids: tuple[str, ...]

    @property
    def decided(self) -> Bools:
        """The pairs with a side that is preferred."""
        return self.preferred != 0.5

    @property
    def paired(self) -> Bools:
        """The responses [responses] that stand in a pair."""
        found = np.zeros(len(self.length), dtype=bool)
        found[self.chosen] = found[self.rejected] = True
        return found

    @property
    def longer(self) -> Ints:
        """By how many characters the chosen side is longer."""
        return self.length[self.chosen] - self.length[self.rejected]

    def margins(self, rewards: Floats) -> Floats:
        """Reward of the chosen minus that of the rejected side [pairs], of rewards [responses]."""
        result: Floats = rewards[self.chosen] - rewards[self.rejected]
        return result

    def only(self, kept: Bools) -> Self:
        """The table with only these pairs, and all responses."""
        places = np.flatnonzero(kept)
        return replace(
            self,
            ids=tuple(self.ids[place] for place in places),
            **{
                name: getattr(self, name)[places]
                for name in ("prompt", "chosen", "rejected", "preferred", "turned", "gap", "topic", "sides", "gaps")
            },
        )


def table_of(groups: Iterable[Group], where: object = "the pairs") -> Table:
    """The table of some groups.

    Args:
        groups: read once.
        where: they come from, for messages.

    Raises:
        PrefkitError: there is no pair.
    """
    prompts, topics, policies = _Names(), _Names(), _Names()
    pairs: list[tuple[str, int, int, int, float, float, int]] = []
    by_principle: list[Pair] = []
    turned: list[bool] = []
    length: list[int] = []
    policy: list[int] = []
    owner: list[int] = []
    group_of: list[int] = []
    for number, group in enumerate(groups):
        first, prompt, topic = len(length), prompts(group.prompt_id), topics(group.topic or UNKNOWN)
        for text, name in zip(group.texts, group.policies, strict=True):
            length.append(len(text))
            policy.append(policies(name))
            owner.append(prompt)
            group_of.append(number)
        for pair in group.pairs:
            turned.append(pair.preferred < 0.5)
            pair = _turned(pair) if turned[-1] else pair
            gap = np.nan if pair.gap is None else pair.gap
            pairs.append((pair.id, prompt, first + pair.chosen, first + pair.rejected, pair.preferred, gap, topic))
            by_principle.append(pair)
    if not pairs:
        raise PrefkitError(where, "no pair", "at least one", "Name a split or a file that holds pairs.")
    names = tuple(dict.fromkeys(name for pair in by_principle for name in (*pair.principle_preferred, *pair.gaps)))
    sides = np.full((len(pairs), len(names)), np.nan)
    gaps = np.full((len(pairs), len(names)), np.nan)
    for row, pair in enumerate(by_principle):
        for column, name in enumerate(names):
            sides[row, column], gaps[row, column] = _side(pair, name)
    columns = list(zip(*pairs, strict=True))
    prompt_, chosen, rejected, topic_ = (np.asarray(columns[place], dtype=np.int64) for place in (1, 2, 3, 6))
    lengths, policy_, owner_, group_ = (np.asarray(one, dtype=np.int64) for one in (length, policy, owner, group_of))
    return Table(
        ids=columns[0],
        prompt=prompt_,
        chosen=chosen,
        rejected=rejected,
        preferred=np.asarray(columns[4], dtype=np.float64),
        turned=np.asarray(turned),
        gap=np.asarray(columns[5], dtype=np.float64),
        topic=topic_,
        principles=names,
        sides=sides,
        gaps=gaps,
        length=lengths,
        policy=policy_,
        owner=owner_,
        group=group_,
        policies=policies.names,
        topics=topics.names,
        prompt_ids=prompts.names,
    )


def rewards_of(scorer: Scorer, groups: Iterable[Group], table: Table, name: str) -> Floats:
    """What a scorer says of the responses of a table [responses, 1 + heads]; NaN for one that it cannot read.

    Raises:
        PrefkitError: no reward is a number, or there are not as many as responses.
    """
    parts = [np.asarray(part, dtype=np.float64) for part in scorer.rewards(groups)]
    rewards = np.concatenate(parts) if parts else np.zeros((0, 1))
    if rewards.ndim != 2 or len(rewards) != len(table.length):
        found = f"rewards of the shape {rewards.shape} for {len(table.length)} responses"
        raise PrefkitError(name, found, "a row for each", "This is a fault of the scorer; please report it.")
    known = np.isfinite(rewards).all(axis=1)
    if not known.any():
        found = f"no number among {len(rewards):,} rewards"
        raise PrefkitError(name, found, "finite rewards", "Train the model again; its weights have broken down.")
    rewards[~known] = np.nan
    return rewards


def margins_of(rewards: Iterable[npt.NDArray[Any]], table: Table) -> Floats:
    """Margins [pairs] of rewards that are of pairs and not of responses.

    Args:
        rewards: for each group [pairs, 2], of the sides that the group calls chosen and rejected; NaN where unknown.
        table: of the same groups.
    """
    both = np.concatenate([np.asarray(one, dtype=np.float64).reshape(-1, 2) for one in rewards])
    margin = both[:, 0] - both[:, 1]
    result: Floats = np.where(table.turned, -margin, margin)
    return result


class _Names:
    """Names by number, in the order in which they come."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def __call__(self, name: str) -> int:
        return self._numbers.setdefault(name, len(self._numbers))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._numbers)


def _turned(pair: Pair) -> Pair:
    """The pair with its sides exchanged."""
    return replace(
        pair,
        chosen=pair.rejected,
        rejected=pair.chosen,
        preferred=1 - pair.preferred,
        gap=None if pair.gap is None else -pair.gap,
        gaps={name: None if gap is None else -gap for name, gap in pair.gaps.items()},
        principle_preferred={
            name: None if share is None else 1 - share for name, share in pair.principle_preferred.items()
        },
    )


def _side(pair: Pair, principle: str) -> tuple[float, float]:
    """On a principle, the probability that the chosen side is better, and the gap."""
    gap, preferred = pair.gaps.get(principle), pair.principle_preferred.get(principle)
    if preferred is None:
        preferred = np.nan if gap is None else (np.sign(gap) + 1) / 2
    return float(preferred), np.nan if gap is None else float(gap)
