"""Answers of a policy at prompts, in this process.

Reads   a causal language model with a chat template, loaded or in a folder; prompts
Gives   for each prompt its answers: text, why it ended, tokens, mean log-probability

Rows of different length are padded on the left and decoded together. A prompt is read once for all its samples. A row
that ends makes room: once an eighth of the rows have ended, they are taken out, and the next prompts come in, so that
short answers do not wait for long ones. How many rows go together follows from a budget of tokens that the cache of
keys and values may hold.

Each answer has a random generator of its own, whose seed digests the asked seed, the prompt's tokens and the number of
the sample. A word is drawn by adding Gumbel noise to the logits and taking the largest, which is sampling from the
softmax. So an answer does not depend on its neighbours, their order or the budget, except for rounding: rows of another
shape round differently, and a draw that is as good as tied may fall the other way.

An answer ends with a token that ends texts, or that closes a turn in the chat template. All other special tokens stay
in the text, so that an invented turn of somebody else can be seen.

The model is put into ``eval`` mode without gradients and afterwards is as it was, in a trainer too; adapters stay as
they are. The global state of random numbers is not touched.
"""

from __future__ import annotations

import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import DynamicCache

from prefkit.errors import PrefkitError
from prefkit.policies.cache import RoomyCache, has_plain_layers
from prefkit.policies.opening import open_policy
from prefkit.policies.templates import prompt_ids, stop_tokens
from prefkit.training.reward_model import Dialogue

CACHED, CACHED_ON_GPU = 16_384, 65_536
"""Tokens whose keys and values are held at once, unless asked otherwise."""
ENDED = 8
"""Rows are arranged anew when one in so many has ended."""
CANDIDATES = 256
"""Words among which the nucleus of ``top_p`` is looked for first."""
MODELS_OWN = 1 << 17
"""Context of a model that says nothing of it."""


@dataclass(frozen=True)
class Answer:
    """What a policy said.

    Args:
        text: its words without the token that ended them.
        finish: ``stop``, or ``length`` where it was cut off.
        tokens: how many it drew, the one that ended it included.
        logprob: their mean log-probability under the policy at temperature 1, in nats.
        sample: which of the prompt's answers it is, from 0.
        ids: the tokens, the one that ended it included: a text may be written in others.
    """

    text: str
    finish: Literal["stop", "length"]
    tokens: int
    logprob: float
    sample: int
    ids: tuple[int, ...] = field(default=(), repr=False)


@dataclass
class _Prompt:
    """A prompt in tokens, and how many tokens an answer may have."""

    place: int
    ids: list[int]
    most: int
    nth: int

    @property
    def length(self) -> int:
        return len(self.ids) + self.most


@dataclass
class _Row:
    """An answer on its way; ``start`` is where its prompt begins in the cache."""

    prompt: _Prompt
    sample: int
    noise: torch.Generator | None
    start: int = 0
    drawn: list[int] = field(default_factory=list)
    logprob: float = 0.0
    finish: Literal["stop", "length"] | None = None


def sample(
    model: Any,
    tokenizer: Any = None,
    prompts: Sequence[Dialogue] = (),
    *,
    samples: int = 1,
    max_tokens: int = 256,
    temperature: float = 1.0,
    top_p: float = 1.0,
    seed: int = 0,
    tokens: int | None = None,
    template: Mapping[str, Any] | None = None,
    received: Callable[[int, Answer], None] = lambda place, answer: None,
) -> list[list[Answer]]:
    """Let a policy answer prompts.

    Args:
        model: a causal language model, wrapped or not; or what ``open_policy`` opens.
        tokenizer: its tokenizer; None for the one in the model's folder.
        prompts: texts of clients, or dialogues.
        samples: answers to each prompt.
        max_tokens: of an answer; it ends before where the model's context does.
        temperature: 0 takes the likeliest word each time, so all samples are alike.
        top_p: only the likeliest words that together have this share are drawn.
        seed: the same seed gives the same answers.
        tokens: of prompts and answers, held at once; None for 16,384, on a GPU 65,536.
        template: further arguments of the chat template, such as ``enable_thinking``.
        received: told of each answer as it ends, with the place of its prompt.

    Returns:
        For each prompt its answers by sample.

    Raises:
        PrefkitError: the tokenizer has no chat template, the template refuses a prompt, or a prompt leaves no room.
        ValueError: a setting that means nothing.
    """
    _check(samples, max_tokens, temperature, top_p)
    if isinstance(model, str | Path):
        model, own = open_policy(model)
        tokenizer = tokenizer or own
    inner = _inner(model)
    asked = _encoded(inner, tokenizer, prompts, max_tokens, dict(template or {}))
    found: list[list[Answer | None]] = [[None] * samples for _ in prompts]

    def deliver(row: _Row) -> None:
        answer = _answer(row, tokenizer, ends)
        found[row.prompt.place][row.sample] = answer
        received(row.prompt.place, answer)

    ends = stop_tokens(inner, tokenizer)
    budget = tokens or (CACHED if inner.device.type == "cpu" else CACHED_ON_GPU)
    with answering(inner):
        _Decoding(inner, ends, temperature, top_p, seed, budget, deliver).run(asked, samples)
    return [[answer for answer in answers if answer is not None] for answers in found]


@contextmanager
def answering(model: torch.nn.Module) -> Iterator[None]:
    """``eval`` mode without gradients; afterwards each part is in the mode that it was in."""
    modes = [(part, part.training) for part in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in modes:
            part.training = training


def _check(samples: int, max_tokens: int, temperature: float, top_p: float) -> None:
    if samples < 1 or max_tokens < 1:
        raise ValueError(f"samples and max_tokens must be at least 1; got {samples} and {max_tokens}")
    if temperature < 0 or not 0 < top_p <= 1:
        raise ValueError(f"temperature must be 0 or more, top_p above 0 and at most 1; got {temperature} and {top_p}")


def _inner(model: Any) -> Any:
    """The language model inside what a trainer wraps around it."""
    from prefkit.policies.logprobs import language_model

    found = language_model(model)
    return model if found is None else found


# --- prompts ---------------------------------------------------------------------------------------------------------


def _encoded(
    model: Any, tokenizer: Any, prompts: Sequence[Dialogue], most: int, template: dict[str, Any]
) -> list[_Prompt]:
    """The prompts in tokens."""
    config = model.config.get_text_config()
    context = int(getattr(config, "max_position_embeddings", None) or MODELS_OWN)
    where = getattr(model, "name_or_path", "") or "the policy"
    seen: Counter[tuple[int, ...]] = Counter()
    found = []
    for place, ids in enumerate(prompt_ids(tokenizer, prompts, template, where)):
        if len(ids) >= context:
            remedy = "Shorten the prompt, or take a model with more context."
            raise PrefkitError(
                f"prompt {place}", f"{len(ids):,} tokens", f"fewer than the context of {context:,}", remedy
            )
        found.append(_Prompt(place, list(ids), min(most, context - len(ids)), seen[tuple(ids)]))
        seen[tuple(ids)] += 1
    return found


def _seed(seed: int, prompt: _Prompt, sample: int) -> int:
    """The seed of an answer; of equal prompts each has its own."""
    said = repr((seed, prompt.ids, prompt.nth, sample)).encode()
    return int.from_bytes(hashlib.blake2b(said, digest_size=8).digest(), "big") >> 1


def _answer(row: _Row, tokenizer: Any, ends: frozenset[int]) -> Answer:
    assert row.finish is not None
    words = row.drawn[:-1] if row.drawn[-1] in ends else row.drawn
    text = tokenizer.decode(words, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return Answer(text, row.finish, len(row.drawn), row.logprob / len(row.drawn), row.sample, tuple(row.drawn))


# --- decoding --------------------------------------------------------------------------------------------------------


class _Decoding:
    """Rows that are decoded together, their keys and values, and who waits."""

    def __init__(
        self,
        model: Any,
        ends: frozenset[int],
        temperature: float,
        top_p: float,
        seed: int,
        budget: int,
        deliver: Callable[[_Row], None],
    ) -> None:
        self._model = model
        self._device = model.device
        self._ends = torch.tensor(sorted(ends), device=self._device)
        self._temperature = temperature
        self._top_p = top_p
        self._seed = seed
        self._budget = budget
        self._deliver = deliver
        self._rows: list[_Row] = []
        self._cache: Any = None
        self._words = torch.empty(0, dtype=torch.long, device=self._device)
        self._arranges = has_plain_layers(model)

    def run(self, prompts: Sequence[_Prompt], samples: int) -> None:
        """Answer all prompts, the longest first."""
        waiting = deque(
            (prompt, number) for prompt in sorted(prompts, key=lambda one: -one.length) for number in range(samples)
        )
        while waiting or self._rows:
            ended = sum(row.finish is not None for row in self._rows)
            if ended == len(self._rows) or (self._arranges and ended * ENDED >= len(self._rows)):
                self._leave()
                if waiting and (more := self._next(waiting)):
                    self._enter(more)
            if self._rows:
                self._step()

    def _next(self, waiting: deque[tuple[_Prompt, int]]) -> list[tuple[_Prompt, int]]:
        """Who comes in next, from the head of the queue: as many as the budget has room for, at least one."""
        live = [row for row in self._rows if row.finish is None]
        longest = max([waiting[0][0].length, *(row.prompt.length for row in live)])
        free = max(self._budget // longest, 1) - len(live)
        return [waiting.popleft() for _ in range(min(free, len(waiting)))]

    def _leave(self) -> None:
        """Deliver the rows that have ended, and take them out."""
        kept = [place for place, row in enumerate(self._rows) if row.finish is None]
        for row in self._rows:
            if row.finish is not None:
                self._deliver(row)
        self._rows = [self._rows[place] for place in kept]
        if not kept:
            self._cache = None
        elif self._cache is not None:
            self._arrange([(self._cache, kept, [row.start for row in self._rows])])
        self._words = self._words[kept]

    def _enter(self, asked: Sequence[tuple[_Prompt, int]]) -> None:
        """Read the prompts of new rows, each once, and draw their first words."""
        rows = [_Row(prompt, number, self._noise(prompt, number)) for prompt, number in asked]
        read = list({prompt.place: prompt for prompt, _ in asked}.values()) if self._arranges else [a for a, _ in asked]
        of_row = {prompt.place: line for line, prompt in enumerate(read)}
        lines = [of_row[row.prompt.place] for row in rows] if self._arranges else list(range(len(rows)))
        cache, logits, starts = self._read(read)
        for row, line in zip(rows, lines, strict=True):
            row.start = starts[line]
        words = self._draw(logits[lines], rows)
        if self._arranges:
            parts = [(cache, lines, [starts[line] for line in lines])]
            if self._rows:
                parts.insert(0, (self._cache, list(range(len(self._rows))), [row.start for row in self._rows]))
            self._rows = [*self._rows, *rows]
            self._arrange(parts)
        else:
            self._rows, self._cache = rows, cache
        self._words = torch.cat([self._words, words])

    def _noise(self, prompt: _Prompt, sample: int) -> torch.Generator | None:
        if self._temperature == 0:
            return None
        return torch.Generator(self._device).manual_seed(_seed(self._seed, prompt, sample))

    def _read(self, prompts: Sequence[_Prompt]) -> tuple[Any, Tensor, list[int]]:
        """The keys and values of prompts, the logits behind each, and where each begins."""
        length = max(len(prompt.ids) for prompt in prompts)
        starts = [length - len(prompt.ids) for prompt in prompts]
        ids = torch.zeros(len(prompts), length, dtype=torch.long)
        for line, prompt in zip(ids, prompts, strict=True):
            line[length - len(prompt.ids) :] = torch.tensor(prompt.ids)
        cache = RoomyCache() if self._arranges else DynamicCache(config=self._model.config)
        return cache, self._logits(ids.to(self._device), cache, starts), starts

    def _step(self) -> None:
        """One more word for each row."""
        logits = self._logits(self._words[:, None], self._cache, [row.start for row in self._rows])
        self._words = self._draw(logits, self._rows)

    def _logits(self, ids: Tensor, cache: Any, starts: Sequence[int]) -> Tensor:
        """[rows, vocabulary] behind the last token of ``ids`` [rows, more], in 32 bits or more."""
        end = cache.get_seq_length() + ids.shape[1]
        place = torch.arange(end, device=self._device)
        begin = torch.tensor(starts, device=self._device)[:, None]
        out = self._model(
            input_ids=ids,
            attention_mask=(place >= begin).long(),
            position_ids=(place - begin).clamp_min(0)[:, -ids.shape[1] :],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = out.logits[:, -1]
        return logits if logits.dtype == torch.float64 else logits.float()

    def _draw(self, logits: Tensor, rows: Sequence[_Row]) -> Tensor:
        """[rows] the word that each row draws from its logits, kept in the row."""
        words = self._chosen(logits, rows)
        logprobs = logits.gather(1, words[:, None])[:, 0] - logits.logsumexp(-1)
        ends = torch.isin(words, self._ends)
        for row, word, logprob, end in zip(rows, words.tolist(), logprobs.tolist(), ends.tolist(), strict=True):
            if row.finish is None:
                row.drawn.append(word)
                row.logprob += logprob
                if end:
                    row.finish = "stop"
                elif len(row.drawn) == row.prompt.most:
                    row.finish = "length"
        return words

    def _chosen(self, logits: Tensor, rows: Sequence[_Row]) -> Tensor:
        if self._temperature == 0:
            return logits.argmax(-1)
        scaled = logits / self._temperature
        if self._top_p < 1:
            scaled = _nucleus(scaled, self._top_p)
        waiting = torch.empty_like(scaled)
        for line, row in zip(waiting, rows, strict=True):
            line.exponential_(generator=row.noise)
        return (scaled - waiting.log_()).argmax(-1)

    def _arrange(self, parts: Sequence[tuple[Any, list[int], list[int]]]) -> None:
        """Put rows of caches together, all ending at the same place, and nothing before where the longest begins.

        Args:
            parts: of each cache, which of its rows, and where each begins; in the order of ``_rows``.
        """
        used = [cache.get_seq_length() - min(starts) for cache, _, starts in parts]
        length = max(used)
        self._cache = RoomyCache.of([(cache, lines) for cache, lines, _ in parts], length)
        begins = [length - cache.get_seq_length() + start for cache, _, starts in parts for start in starts]
        for row, begin in zip(self._rows, begins, strict=True):
            row.start = begin


def _nucleus(logits: Tensor, top_p: float) -> Tensor:
    """The logits of the likeliest words that together have a share of at least ``top_p``; all others are -inf."""
    some = logits.topk(min(CANDIDATES, logits.shape[1])).values
    if bool(((some - logits.logsumexp(-1, keepdim=True)).exp().sum(-1) < top_p).any()):
        some = logits.sort(descending=True).values
    shares = (some - logits.logsumexp(-1, keepdim=True)).exp()
    inside = (shares.cumsum(-1) - shares < top_p).sum(-1, keepdim=True)
    lowest = some.gather(1, inside - 1)
    return logits.masked_fill(logits < lowest, float("-inf"))
