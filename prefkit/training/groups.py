"""What every reward model reads: a prompt with its responses, and the pairs among them; the same in tokens.

All responses of a prompt stand together, so that a model can read the prompt once and each response once, whatever the
number of pairs they stand in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from prefkit.records import Message

Rewards = npt.NDArray[np.float32]
"""[responses, 1 + heads] of a group: the overall reward, in log-odds, then one column for each head."""
Ids = npt.NDArray[np.int32]
"""[tokens] of a text, as numbers of the vocabulary."""


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


def without_unpaired(group: Group) -> Group:
    """The group with only those responses that stand in a pair."""
    return subset(group, sorted({side for pair in group.pairs for side in (pair.chosen, pair.rejected)}))


@dataclass(frozen=True)
class TokenGroup:
    """A group in tokens.

    Args:
        group: the group, without the responses that were over-long: its texts and ``responses`` are aligned.
        prompt: [p] ids that all responses share.
        responses: ids of each response, [r_i]; the last is the one at which a decoder's reward is read.
        two_types: whether the response's tokens are of type 1, as an encoder of text pairs has them.
        reference: log-probability of the tokens of all responses, one behind the other, by the model before it is
            trained, float32; None where no loss asks for it.
    """

    group: Group
    prompt: Ids
    responses: tuple[Ids, ...]
    two_types: bool = False
    reference: npt.NDArray[np.float32] | None = None

    @property
    def tokens(self) -> int:
        """Of the prompt and all responses, each counted once."""
        return len(self.prompt) + sum(map(len, self.responses))


class Groups:
    """Groups that can be gone through again and again.

    Args:
        source: what they were read from.
        principles: on which the pairs may have gaps, in the rubric's order; () where there is no rubric.
        made: gives the groups anew, and counts what it leaves out.
    """

    def __init__(
        self, source: str, principles: tuple[str, ...], made: Callable[[Counter[str]], Iterator[Group]]
    ) -> None:
        self.source = source
        self.principles = principles
        self.tally: Counter[str] = Counter()
        """What was left out, by reason."""
        self.prompts = self.responses = self.pairs = 0
        self._made = made
        for group in made(self.tally):
            self.prompts += 1
            self.responses += len(group.texts)
            self.pairs += len(group.pairs)

    def __iter__(self) -> Iterator[Group]:
        return self._made(Counter())

    def __len__(self) -> int:
        return self.prompts


class Scorer(Protocol):
    """Whatever gives rewards: a trained model, a frozen one, a baseline."""

    @property
    def heads(self) -> tuple[str, ...]:
        """The principles that have a reward of their own."""
        ...

    def rewards(self, groups: Iterable[Group]) -> Iterator[Rewards]:
        """The rewards of each group's responses, in order."""
        ...
