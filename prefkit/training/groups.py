"""What every reward model reads: a prompt with its responses, and the pairs among them.

All responses of a prompt stand together, so that a model can read the prompt once and each response once, whatever the
number of pairs they stand in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from prefkit.records import Message

Rewards = npt.NDArray[np.float32]
"""[responses, 1 + heads] of a group: the overall reward, in log-odds, then one column for each head."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A preference between two responses of a group.

    Args:
        id: of the pair.
        chosen, rejected: positions among the group's responses.
        preferred: probability with which the chosen one is better, as far as it is known: 1 where nobody said
            otherwise, 0.5 for a tie.
        weight: of the pair in a loss, above 0.
        gap: of the overall ratings, in the rubric's unit; None where they were only compared.
        gaps: the same by principle.
        principle_preferred: ``preferred`` by principle.
    """

    id: str
    chosen: int
    rejected: int
    preferred: float = 1.0
    weight: float = 1.0
    gap: float | None = None
    gaps: Mapping[str, float | None] = field(default_factory=dict)
    principle_preferred: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def tied(self) -> bool:
        """Whether neither side is preferred."""
        return self.preferred == 0.5


@dataclass(frozen=True, kw_only=True)
class Group:
    """A prompt, its responses, and the pairs among them.

    Args:
        prompt_id: of the prompt.
        messages: its turns; the last is the client's.
        response_ids, texts, policies: of the responses, aligned.
        pairs: may be empty, for scoring.
        topic: of the prompt.
    """

    prompt_id: str
    messages: tuple[Message, ...]
    response_ids: tuple[str, ...]
    texts: tuple[str, ...]
    policies: tuple[str, ...]
    pairs: tuple[Pair, ...] = ()
    topic: str | None = None


def subset(group: Group, keep: Sequence[int]) -> Group:
    """A group of the responses at these positions, with the pairs among them."""
    if len(keep) == len(group.texts):
        return group
    place = {old: new for new, old in enumerate(keep)}
    return replace(
        group,
        response_ids=tuple(group.response_ids[old] for old in keep),
        texts=tuple(group.texts[old] for old in keep),
        policies=tuple(group.policies[old] for old in keep),
        pairs=tuple(
            replace(pair, chosen=place[pair.chosen], rejected=place[pair.rejected])
            for pair in group.pairs
            if pair.chosen in place and pair.rejected in place
        ),
    )


class Scorer(Protocol):
    """Whatever gives rewards: a trained model, a frozen one, a baseline."""

    @property
    def heads(self) -> tuple[str, ...]:
        """The principles that have a reward of their own."""
        ...

    def rewards(self, groups: Iterable[Group]) -> Iterator[Rewards]:
        """The rewards of each group's responses, in order."""
        ...
