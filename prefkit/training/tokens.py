"""Groups to tokens, within a limit: what is longer is left out or cut, and counted.

Reads   Groups, a tokenizer of transformers
Gives   TokenGroups, written as ``encodings`` says
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Literal

from prefkit.records import Message
from prefkit.training.encodings import encoding_for
from prefkit.training.groups import Group, TokenGroup, subset

OverLong = Literal["drop", "cut"]
UNBOUNDED = 1 << 20


def window(config: Any, tokenizer: Any) -> int:
    """The tokens that a model can hold: those it has positions for, or fewer where its tokenizer says so, as the one of
    RoBERTa does, two of whose positions are for padding. A config that is not known bounds nothing."""
    positions = getattr(config and config.get_text_config(), "max_position_embeddings", None) or UNBOUNDED
    return min(int(positions), int(tokenizer.model_max_length or UNBOUNDED), UNBOUNDED)


class GroupTokenizer:
    """Turns groups into tokens.

    Args:
        tokenizer: of transformers.
        max_tokens: of a prompt with one response; None for no limit.
        over_long: what is done with more. ``drop`` leaves the response out, and the pairs it stands in; ``cut``
            shortens the prompt of the group from its beginning (whole turns first, the system's message and the
            response never), and leaves out what does not fit with any prompt. Both are counted in ``tally``.
        plain: write words as they are, without the chat template.
        batch: how many groups are encoded in one call.

    Raises:
        ValueError: ``max_tokens`` is below 1.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        max_tokens: int | None = None,
        over_long: OverLong = "drop",
        plain: bool = False,
        batch: int = 64,
    ) -> None:
        if max_tokens is not None and max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1; got {max_tokens}")
        self.max_tokens = max_tokens
        self.over_long = over_long
        self.tally: Counter[str] = Counter()
        """What was left out or cut, by reason."""
        self._batch = batch
        self._encoding = encoding_for(tokenizer, plain=plain)

    def tokenized(self, groups: Iterable[Group]) -> Iterator[TokenGroup]:
        """The groups in tokens, in order; one of which nothing is left is counted and passed over.

        Raises:
            PrefkitError: the chat template refuses a conversation.
        """
        stream = iter(groups)
        while batch := list(islice(stream, self._batch)):
            for whole in self._encoding.encoded(batch):
                fitting = self._fitted(whole)
                if fitting is not None:
                    yield fitting

    def _fitted(self, whole: TokenGroup) -> TokenGroup | None:
        """What of a group is within the limit; None for nothing."""
        limit = self.max_tokens
        if limit is None or _longest(whole) <= limit:
            return whole
        if self.over_long == "cut":
            fitting, was_cut = self._cut(whole, limit)
        else:
            fitting, was_cut = _kept(whole, [len(whole.prompt) + len(one) <= limit for one in whole.responses]), False
        self._count(whole.group, fitting.group, was_cut, f"over {limit:,} tokens")
        nothing_left = not fitting.responses or (whole.group.pairs and not fitting.group.pairs)
        return None if nothing_left else fitting

    def _count(self, before: Group, after: Group, was_cut: bool, over: str) -> None:
        self.tally[f"responses {over}, left out"] += len(before.texts) - len(after.texts)
        self.tally[f"pairs {over}, left out"] += len(before.pairs) - len(after.pairs)
        self.tally[f"prompts cut, as they were {over} with a response"] += was_cut
        self.tally = +self.tally

    def _cut(self, whole: TokenGroup, limit: int) -> tuple[TokenGroup, bool]:
        """The group with as much of its prompt's end as fits before the longest response that fits with any, and
        whether anything of the prompt is gone."""
        left = whole
        while left.responses:
            prompt = self._shortened(left, limit)
            if prompt is not None:
                return replace(prompt, group=left.group), prompt.prompt is not whole.prompt
            longest = max(map(len, left.responses))
            left = _kept(left, [len(one) < longest for one in left.responses])
        return left, False

    def _shortened(self, whole: TokenGroup, limit: int) -> TokenGroup | None:
        """The group with less of its prompt, so that each response fits; None where the longest fits with none."""
        messages, now = whole.group.messages, whole
        while _longest(now) > limit:
            shorter = _without_oldest(messages)
            if shorter is None:
                said = self._encoding.without_first_tokens(messages[-1].content, _longest(now) - limit)
                if not said.strip():
                    return None
                shorter = (*messages[:-1], Message(role=messages[-1].role, content=said))
            messages = shorter
            (now,) = self._encoding.encoded([replace(whole.group, messages=messages)])
        return now


def _longest(group: TokenGroup) -> int:
    return len(group.prompt) + max(map(len, group.responses), default=0)


def _kept(whole: TokenGroup, keep: Sequence[bool]) -> TokenGroup:
    """A group of some of its responses, with the pairs among them."""
    places = [place for place, kept in enumerate(keep) if kept]
    responses = tuple(whole.responses[place] for place in places)
    return replace(whole, group=subset(whole.group, places), responses=responses)


def _without_oldest(messages: tuple[Message, ...]) -> tuple[Message, ...] | None:
    """The dialogue without its oldest turn of the user and what was answered to it; None where one turn is left."""
    start = 1 if messages[0].role == "system" else 0
    later = [place for place in range(start + 1, len(messages)) if messages[place].role == "user"]
    return (*messages[:start], *messages[later[0] :]) if later else None
