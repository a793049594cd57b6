"""How a prompt and its responses are written for a model: the ids of the whole conversation, each text encoded once.

Reads   Groups, a tokenizer of transformers
Gives   TokenGroups: ``prompt`` + ``responses[i]`` is what a model reads for response i

How a text is written follows from the tokenizer. With a chat template, the whole conversation goes through it; without
one (or with ``plain``), the words stand as they are, closed by the end-of-text token; an encoder (one with a separator)
reads its pair encoding. The first two are what trl's RewardTrainer reads, token for token.

A prompt is cut off from its responses at a special token, on whose two sides a tokenizer reads text independently;
where there is none, the whole is encoded for each response and what they share becomes the prompt. Either way the ids
are those of the whole, whatever the tokenizer merges at the seam.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from jinja2 import TemplateError

from prefkit.errors import PrefkitError
from prefkit.records import Message, prompt_text
from prefkit.training.groups import Group, Ids, TokenGroup

OPENINGS = 64
"""Openings of responses whose tokens are remembered; most templates have one, some another for each prompt."""


class Encoding(Protocol):
    """How groups become tokens."""

    def encoded(self, groups: Sequence[Group]) -> list[TokenGroup]:
        """Each group in tokens."""
        ...

    def without_first_tokens(self, text: str, count: int) -> str:
        """A text without its first ``count`` tokens, at least one character less."""
        ...


def encoding_for(tokenizer: Any, *, plain: bool = False) -> Encoding:
    """How the groups of a tokenizer are written; ``plain``: words as they are, without the chat template."""
    if tokenizer.chat_template and not plain:
        return Conversations(tokenizer)
    if tokenizer.cls_token is not None and tokenizer.sep_token is not None:
        return TextPairs(tokenizer)
    return PlainTexts(tokenizer, as_it_is=plain)


class _Encoder:
    """A tokenizer, many texts at once."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer if tokenizer.is_fast else None
        special = tokenizer.added_tokens_decoder.values()
        # A token that is looked for after normalising, or only as a word of its own, depends on what stands around it.
        self.seams = [one.content for one in special if one.special and not one.normalized and not one.single_word]

    def __call__(self, texts: Sequence[Any], *, special: bool = False) -> list[Ids]:
        """The ids of each text, or of each (text, second text)."""
        if not texts:
            return []
        if self._backend is None:
            split = zip(*texts, strict=True) if isinstance(texts[0], tuple) else (list(texts),)
            rows = self.tokenizer(*map(list, split), add_special_tokens=special)["input_ids"]
            return [np.asarray(row, dtype=np.int32) for row in rows]
        # A call of the tokenizer itself sets these again.
        self._backend.no_truncation()
        self._backend.no_padding()
        encodings = self._backend.encode_batch_fast(list(texts), add_special_tokens=special)
        return [np.asarray(encoding.ids, dtype=np.int32) for encoding in encodings]

    def without_first_tokens(self, text: str, count: int) -> str:
        """See ``Encoding``."""
        if self._backend is None:
            ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            rest: str = self.tokenizer.decode(ids[count:], skip_special_tokens=False)
            return rest if len(rest) < len(text) else text[1:]
        self._backend.no_truncation()
        offsets = self._backend.encode(text, add_special_tokens=False).offsets
        return text[max(1, offsets[count][0]) :] if count < len(offsets) else ""


class Conversations(_Encoder):
    """Through the chat template of the tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer)
        self._any_seam = re.compile("|".join(map(re.escape, sorted(self.seams, key=len, reverse=True))) or "(?!)")
        self._opening: dict[str, Ids] = {}

    def encoded(self, groups: Sequence[Group]) -> list[TokenGroup]:
        """See ``Encoding``."""
        rendered = self._rendered(groups)
        cuts = [self._cut_at_a_seam(prompt) for prompt, _ in rendered]
        heads = self([prompt[:end] for (prompt, _), (_, end) in zip(rendered, cuts, strict=True)])
        starts = [(start, whole) for (_, wholes), (start, _) in zip(rendered, cuts, strict=True) for whole in wholes]
        tails = iter(self([whole[start:] for start, whole in starts]))
        found = []
        for group, (prompt, wholes), (start, end), head in zip(groups, rendered, cuts, heads, strict=True):
            ends = list(islice(tails, len(wholes)))
            joined = self._joined(group, head, ends, prompt[start:]) if end > start else None
            found.append(joined or self._whole(group, prompt, wholes))
        return found

    def _rendered(self, groups: Sequence[Group]) -> list[tuple[str, list[str]]]:
        """Each conversation up to the response, and with each response."""
        turns = [[{"role": turn.role, "content": turn.content} for turn in group.messages] for group in groups]
        whole = [
            [*before, {"role": "assistant", "content": text}]
            for before, group in zip(turns, groups, strict=True)
            for text in group.texts
        ]
        try:
            opened = self._render(turns, add_generation_prompt=True)
            wholes = iter(self._render(whole))
        except TemplateError as error:
            if len(groups) > 1:
                return [self._rendered([group])[0] for group in groups]
            roles = ", ".join(turn["role"] for turn in turns[0])
            remedy = "Take another base model, or a chat template that allows it."
            found = f"turns of {roles}, which the chat template refuses ({error})"
            where = f"prompt {groups[0].prompt_id}"
            raise PrefkitError(where, found, "a dialogue that it allows", remedy) from None
        both = ((start, list(islice(wholes, len(group.texts)))) for start, group in zip(opened, groups, strict=True))
        return [(_shared_start(start, ends), ends) for start, ends in both]

    def _render(self, turns: list[list[dict[str, str]]], **options: Any) -> list[str]:
        return list(self.tokenizer.apply_chat_template(turns, tokenize=False, **options)) if turns else []

    def _cut_at_a_seam(self, prompt: str) -> tuple[int, int]:
        """Where the last special token of a prompt begins and ends; (0, 0) where there is none."""
        spans = [match.span() for match in self._any_seam.finditer(prompt)]
        return spans[-1] if spans else (0, 0)

    def _joined(self, group: Group, head: Ids, ends: list[Ids], opening: str) -> TokenGroup | None:
        """Head and ends, both of which hold the special token; None where it is not one token in both."""
        if not len(head) or any(not len(end) or end[0] != head[-1] for end in ends):
            return None
        if opening not in self._opening:
            if len(self._opening) == OPENINGS:
                self._opening.clear()
            (self._opening[opening],) = self([opening])
        shared = self._opening[opening]
        if all(np.array_equal(end[: len(shared)], shared) for end in ends):
            return TokenGroup(group, np.concatenate([head, shared[1:]]), tuple(end[len(shared) :] for end in ends))
        return TokenGroup(group, head, tuple(end[1:] for end in ends))

    def _whole(self, group: Group, prompt: str, wholes: list[str]) -> TokenGroup:
        (head,) = self([prompt])
        return _split(group, head, self(wholes))


def _shared_start(opened: str, wholes: Sequence[str]) -> str:
    if all(whole.startswith(opened) for whole in wholes):
        return opened
    for place, letter in enumerate(opened):
        if any(whole[place : place + 1] != letter for whole in wholes):
            return opened[:place]
    return opened


class PlainTexts(_Encoder):
    """The words as they stand, closed by the end-of-text token."""

    def __init__(self, tokenizer: Any, *, as_it_is: bool) -> None:
        super().__init__(tokenizer)
        self._as_it_is = as_it_is
        self._splits_at_blanks = self._backend is not None and _splits_at_blanks(self._backend)

    def encoded(self, groups: Sequence[Group]) -> list[TokenGroup]:
        """See ``Encoding``."""
        prompts = [self._prompt(group.messages) for group in groups]
        texts = [[self._closed(text) for text in group.texts] for group in groups]
        cuts = [self._cut_between_words(prompt, len(ends)) for prompt, ends in zip(prompts, texts, strict=True)]
        tasks = list(zip(prompts, texts, cuts, strict=True))
        firsts = self._with_places([prompt + ends[0] for prompt, ends, cut in tasks if cut is not None])
        rests = iter(
            self([prompt[cut:] + end for prompt, ends, cut in tasks if cut is not None for end in ["", *ends]])
        )
        found = []
        for group, (prompt, ends, cut) in zip(groups, tasks, strict=True):
            joined = None
            if cut is not None:
                joined = _joined_between_words(group, *next(firsts), cut, list(islice(rests, 1 + len(ends))))
            found.append(joined or self._whole(group, prompt, ends))
        return found

    def _closed(self, text: str) -> str:
        eos = self.tokenizer.eos_token or ""
        return text if text.endswith(eos) else text + eos

    def _whole(self, group: Group, prompt: str, texts: list[str]) -> TokenGroup:
        head, *wholes = self([prompt, *(prompt + text for text in texts)], special=True)
        return _split(group, head, wholes)

    def _cut_between_words(self, prompt: str, responses: int) -> int | None:
        """The last blank between two words of a prompt; None where nothing is to be saved by a cut there."""
        if responses < 2 or not self._splits_at_blanks:
            return None
        found = _BLANK.search(prompt[::-1], MARGIN)
        return len(prompt) - found.end() if found else None

    def _with_places(self, texts: Sequence[str]) -> Iterator[tuple[Ids, npt.NDArray[np.int64]]]:
        """The ids of each text, and the place of the letter at which each token begins; special tokens are placed at
        0."""
        assert self._backend is not None
        for encoding in self._backend.encode_batch(list(texts), add_special_tokens=True):
            starts = np.asarray([start for start, _ in encoding.offsets], dtype=np.int64)
            yield np.asarray(encoding.ids, dtype=np.int32), starts

    def _prompt(self, messages: tuple[Message, ...]) -> str:
        words = "".join(message.content for message in messages) if self._as_it_is else prompt_text(messages)
        if self._as_it_is:
            return words
        return f"{words}\n\n" if len(messages) == 1 else f"{words}\n\nTherapist: "


_BLANK = re.compile(r"(?<=[A-Za-z]) (?=[A-Za-z])")
MARGIN = 16
"""Letters of a prompt behind the cut: the rules of tokenizers look ahead by one or two."""


def _splits_at_blanks(backend: Any) -> bool:
    """Whether a tokenizer reads a word with the blank before it independently of what stands before: it changes nothing
    in the text beforehand, and cuts it by a rule that does not look back."""
    described = json.loads(backend.to_str())
    rules = json.dumps(described["pre_tokenizer"])
    if described["normalizer"] is not None or described["pre_tokenizer"] is None:
        return False
    if '"Metaspace"' in rules or '"add_prefix_space": true' in rules or "(?<" in rules:
        return False
    return [place for _, place in backend.pre_tokenizer.pre_tokenize_str("ab cd")] == [(0, 2), (2, 5)]


def _joined_between_words(
    group: Group, first: Ids, places: npt.NDArray[np.int64], cut: int, rests: list[Ids]
) -> TokenGroup | None:
    """The tokens of a group whose texts were cut at a blank.

    Args:
        group: the group.
        first: ids of the whole of its first response, special ones included.
        places: of its tokens.
        cut: the place of the blank.
        rests: ids of what is behind the cut: of the prompt alone, of the first response, of the others.

    Returns:
        None where the first response, put together again, is not what it is as a whole.
    """
    head = int(np.argmax(places >= cut))
    prompt_rest, *ends = rests
    behind = head + len(ends[0])
    if not np.array_equal(first[head:behind], ends[0]) or places[behind:].any():
        return None
    split = _split(group, prompt_rest, ends)
    closing = first[behind:]
    return TokenGroup(
        group,
        np.concatenate([first[:head], split.prompt]),
        tuple(np.concatenate([response, closing]) for response in split.responses),
    )


class TextPairs(_Encoder):
    """The pair encoding of an encoder: prompt, separator, response, separator."""

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer)
        self._two_types = 1 in tokenizer("a", "b").get("token_type_ids", ())

    def encoded(self, groups: Sequence[Group]) -> list[TokenGroup]:
        """See ``Encoding``."""
        prompts = [prompt_text(group.messages) for group in groups]
        pairs = [(prompt, text) for prompt, group in zip(prompts, groups, strict=True) for text in group.texts]
        wholes = iter(self(pairs, special=True))
        return [
            replace(_split(group, head, list(islice(wholes, len(group.texts)))), two_types=self._two_types)
            for group, head in zip(groups, self(prompts, special=True), strict=True)
        ]


def _split(group: Group, head: Ids, wholes: list[Ids]) -> TokenGroup:
    """What all wholes have in common with the prompt alone, and what is left of each."""
    shared = len(head)
    for whole in wholes:
        most = min(shared, len(whole))
        differ = np.flatnonzero(head[:most] != whole[:most])
        shared = int(differ[0]) if len(differ) else most
    return TokenGroup(group, head[:shared], tuple(whole[shared:] for whole in wholes))
