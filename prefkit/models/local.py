"""A model in this process, by transformers: requests that wait are answered together, on a GPU if there is one.

Reads   a hub id, or a folder with weights, a tokenizer and a chat template, such as training leaves behind

Requests go into a queue, and one thread takes up to a batch of them at a time. Each row of a batch keeps its own
settings: temperature, seed, bounds, stop words. A word is drawn by adding Gumbel noise from the row's own seed to its
logits and taking the largest, which is sampling from the softmax; so neighbours in a batch do not change each other's
draws. Out of memory halves the batch for good. A JSON schema is not enforced here: it is asked for in words only.
"""

from __future__ import annotations

import asyncio
import queue
import random
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from prefkit.errors import PrefkitError
from prefkit.models.chat import CallFailed, Reply, Request, Token, without_system
from prefkit.records import Usage

LINGER = 0.01
"""Seconds that a request waits for others to share its batch."""
LOWEST = -9999.0
"""The logprob of what cannot be; JSON has no infinity."""
_OUT_OF_MEMORY = "out of memory with one request at a time"
_SCHEMA_NOTE = "enforces no JSON schema; asked in words only"


@dataclass
class _Waiting:
    """A request in the queue."""

    request: Request
    answer: Future[Reply] = field(default_factory=Future)


@dataclass
class _Row:
    """A request in a batch, its prompt in tokens, and what was drawn for it so far; ``most`` bounds that."""

    waiting: _Waiting
    prompt: list[int]
    most: int
    drawn: list[int] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    finish: str | None = None
    noise: Any = None


class LocalEndpoint:
    """An endpoint that computes its answers itself. ``close`` it when done.

    Args:
        model: a causal language model of transformers.
        tokenizer: its tokenizer, with a chat template.
        batch: requests answered at a time.
        system_role: False for chat templates without a system role.
        template: further arguments of the chat template, such as ``enable_thinking``.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        batch: int = 8,
        system_role: bool = True,
        template: Mapping[str, Any] | None = None,
    ) -> None:
        self.most: int | None = 2 * batch
        self.notes: dict[str, str] = {}
        self.batch = batch
        self._model = model
        self._tokenizer = tokenizer
        self._system_role = system_role
        self._template = dict(template or {})
        self._context = _context(model)
        self._eos = _eos(model, tokenizer)
        self._defaults = model.generation_config
        model.generation_config = type(self._defaults)()
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._closing = False
        self._worker = threading.Thread(target=self._work, name="prefkit-local", daemon=True)
        self._worker.start()

    @classmethod
    def load(
        cls, name: str, *, batch: int = 8, system_role: bool = True, template: Mapping[str, Any] | None = None
    ) -> LocalEndpoint:
        """Load a hub id or a folder.

        Raises:
            PrefkitError: transformers is not installed, or cannot load it.
        """
        model, tokenizer = _loaded(name)
        return cls(model, tokenizer, batch=batch, system_role=system_role, template=template)

    async def ask(self, request: Request) -> Reply:
        """Wait for a place in a batch, and for the answer.

        Raises:
            CallFailed: the prompt is longer than the model's context, or the template refuses it.
        """
        if self._closing:
            raise _closed()
        waiting = _Waiting(request)
        self._queue.put(waiting)
        return await asyncio.wrap_future(waiting.answer)

    def close(self) -> None:
        """Stop at the next word, and let go of the model."""
        self._closing = True
        self._queue.put(None)
        self._worker.join()
        self._model = None

    def _row(self, waiting: _Waiting) -> _Row:
        request = waiting.request
        if request.schema is not None:
            self.notes["json_schema"] = _SCHEMA_NOTE
        prompt = self._tokenizer(self._prompt(request), add_special_tokens=False)["input_ids"]
        room = self._context - len(prompt)
        if room < 1:
            raise CallFailed(f"a prompt of {len(prompt):,} tokens, for a context of {self._context:,}")
        return _Row(waiting, list(prompt), min(request.sampling.max_tokens or room, room))

    def _prompt(self, request: Request) -> str:
        from jinja2 import TemplateError

        for fold in (not self._system_role, True):
            messages = without_system(request.messages) if fold else request.messages
            try:
                return str(
                    self._tokenizer.apply_chat_template(
                        [{"role": message.role, "content": message.content} for message in messages],
                        tokenize=False,
                        add_generation_prompt=True,
                        **self._template,
                    )
                )
            except TemplateError as error:
                if fold:
                    raise CallFailed(f"the chat template refuses it: {_short(error)}") from None
                self._system_role = False
                self.notes["system"] = "takes no system role; its text opens the user's message"
        raise AssertionError("the second try returns or raises")

    def _work(self) -> None:
        """The thread: take what waits and answer it, until ``None`` comes."""
        waiting: list[_Waiting] = []
        while self._fill(waiting):
            batch, waiting = waiting[: self.batch], waiting[self.batch :]
            waiting = self._answer(batch) + waiting
        while not self._queue.empty():
            waiting += [one for one in (self._queue.get(),) if one is not None]
        for one in waiting:
            _fail(one, _closed())

    def _fill(self, waiting: list[_Waiting]) -> bool:
        """Wait until there is something to do, and take no more than a batch; False is the end."""
        wait = 0.0 if waiting else None
        while len(waiting) < self.batch:
            try:
                one = self._queue.get(timeout=wait)
            except queue.Empty:
                break
            if one is None:
                return False
            waiting.append(one)
            wait = LINGER
        return not self._closing

    def _answer(self, batch: Sequence[_Waiting]) -> list[_Waiting]:
        """Answer a batch; give back what has to be tried again in smaller ones."""
        rows = []
        for waiting in batch:
            try:
                if not waiting.answer.cancelled():
                    rows.append(self._row(waiting))
            except CallFailed as failed:
                _fail(waiting, failed)
        if not rows:
            return []
        fault: str | None = None
        try:
            self._generate(rows)
        except Exception as error:  # noqa: BLE001  whatever a model raises is the answer to those who asked it
            fault = _OUT_OF_MEMORY if _is_out_of_memory(error) else f"{type(error).__name__}: {_short(error)}"
        if fault == _OUT_OF_MEMORY and len(rows) > 1:
            _free_memory()
            self.batch = len(rows) // 2
            self.notes["batch"] = f"ran out of memory; {self.batch} at a time from then on"
            return [row.waiting for row in rows]
        for row in rows:
            self._deliver(row, fault)
        return []

    def _deliver(self, row: _Row, fault: str | None) -> None:
        if fault is not None:
            _fail(row.waiting, CallFailed(fault))
        elif row.finish is None:
            _fail(row.waiting, _closed())
        else:
            with suppress(InvalidStateError):
                row.waiting.answer.set_result(self._reply(row))

    def _generate(self, rows: Sequence[_Row]) -> None:
        """Draw words for all rows until the last of them ends."""
        import torch

        longest = max(len(row.prompt) for row in rows)
        pad = self._tokenizer.pad_token_id if self._tokenizer.pad_token_id is not None else min(self._eos, default=0)
        gaps = [longest - len(row.prompt) for row in rows]
        ids = torch.tensor([[pad] * gap + row.prompt for gap, row in zip(gaps, rows, strict=True)])
        mask = torch.tensor([[0] * gap + [1] * len(row.prompt) for gap, row in zip(gaps, rows, strict=True)])
        device = self._model.device
        for row in rows:
            seed = row.waiting.request.sampling.seed
            row.noise = torch.Generator(device).manual_seed(random.getrandbits(63) if seed is None else seed)
        with torch.inference_mode():
            self._model.generate(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                do_sample=False,
                max_new_tokens=max(row.most for row in rows),
                pad_token_id=pad,
                eos_token_id=sorted(self._eos) or None,
                logits_processor=[lambda seen, logits: self._draw(rows, logits)],
                stopping_criteria=[lambda seen, scores, **_: self._ended(rows, seen)],
            )

    def _draw(self, rows: Sequence[_Row], logits: Any) -> Any:
        """Make the word that each row draws its largest logit, shape (rows, vocabulary), and keep it."""
        import torch

        logits = logits.float()
        chosen = torch.stack([self._chosen(row, logits[place]) for place, row in enumerate(rows)])
        for row, word, scores in zip(rows, chosen.tolist(), logits, strict=True):
            if row.finish is None:
                self._keep(row, word, scores)
        return torch.full_like(logits, float("-inf")).scatter_(1, chosen[:, None], 0.0)

    def _chosen(self, row: _Row, logits: Any) -> Any:
        """The word that a row draws from its logits, shape (vocabulary,)."""
        import torch

        asked, defaults = row.waiting.request.sampling, self._defaults
        if asked.frequency_penalty or asked.presence_penalty:
            logits = logits.clone()
            for word, count in Counter(row.drawn).items():
                logits[word] -= (asked.frequency_penalty or 0.0) * count + (asked.presence_penalty or 0.0)
        temperature = _first(asked.temperature, getattr(defaults, "temperature", None), 1.0)
        if temperature <= 0:
            return logits.argmax()
        logits = logits / temperature
        if top_k := getattr(defaults, "top_k", None):
            lowest = logits.topk(min(top_k, logits.shape[0])).values[-1]
            logits = logits.masked_fill(logits < lowest, float("-inf"))
        top_p = _first(asked.top_p, getattr(defaults, "top_p", None), 1.0)
        if top_p < 1:
            ordered, order = logits.sort(descending=True)
            shares = ordered.softmax(0)
            logits = logits.clone()
            logits[order[shares.cumsum(0) - shares >= top_p]] = float("-inf")
        uniform = torch.rand(logits.shape, generator=row.noise, device=logits.device)
        return (logits - (-uniform.clamp_min(1e-20).log()).log()).argmax()

    def _keep(self, row: _Row, word: int, logits: Any) -> None:
        row.drawn.append(word)
        if word in self._eos:
            row.finish = "stop"
            return
        if row.waiting.request.top_logprobs:
            row.tokens.append(self._token(word, logits.log_softmax(0), row.waiting.request.top_logprobs))
        if any(stop in self._tokenizer.decode(row.drawn) for stop in row.waiting.request.sampling.stop):
            row.finish = "stop"
        elif len(row.drawn) >= row.most:
            row.finish = "length"

    def _token(self, word: int, logprobs: Any, top: int) -> Token:
        values, words = logprobs.topk(min(top, logprobs.shape[0]))
        alternatives = zip(words.tolist(), values.tolist(), strict=True)
        return Token(
            self._tokenizer.decode([word]),
            max(LOWEST, float(logprobs[word])),
            tuple((self._tokenizer.decode([one]), max(LOWEST, value)) for one, value in alternatives),
        )

    def _ended(self, rows: Sequence[_Row], seen: Any) -> Any:
        """Which rows draw no more words, shape (rows,)."""
        import torch

        ended = [self._closing or row.finish is not None or row.waiting.answer.cancelled() for row in rows]
        return torch.tensor(ended, device=seen.device)

    def _reply(self, row: _Row) -> Reply:
        words = [word for word in row.drawn if word not in self._eos]
        text = self._tokenizer.decode(words, skip_special_tokens=True)
        for stop in row.waiting.request.sampling.stop:
            text = text.partition(stop)[0]
        return Reply(
            text=text,
            finish=row.finish,
            usage=Usage(prompt=len(row.prompt), completion=len(row.drawn)),
            tokens=tuple(row.tokens) if row.waiting.request.top_logprobs else None,
        )


def _fail(waiting: _Waiting, failed: CallFailed) -> None:
    with suppress(InvalidStateError):
        waiting.answer.set_exception(failed)


def _closed() -> CallFailed:
    return CallFailed("the model was closed")


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _first(*values: float | None) -> float:
    return next(value for value in values if value is not None)


def _loaded(name: str) -> tuple[Any, Any]:
    try:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer
    except ImportError:
        remedy = "Install them: `pip install 'prefkit[local]'`, or serve the model with vLLM and name its URL."
        raise PrefkitError(f"local/{name}", "no torch or transformers", "both to be installed", remedy) from None
    gpu = torch.cuda.is_available()
    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
        model: Any = AutoModelForCausalLM.from_pretrained(name, dtype=torch.bfloat16 if gpu else torch.float32)
        model.eval().to("cuda" if gpu else "cpu")
    except Exception as error:  # noqa: BLE001  of weights, hub, GPU: their exceptions are too many to name
        found = f"{type(error).__name__}: {_short(error)}"
        expected = "a folder with weights and tokenizer, or a hub id that can be reached"
        raise PrefkitError(f"local/{name}", found, expected, "Look at the name, the memory and the network.") from None
    if not tokenizer.chat_template:
        remedy = "Take an instruction-tuned model, or save a template with the tokenizer."
        raise PrefkitError(f"local/{name}", "a tokenizer without a chat template", "one that has it", remedy)
    return model, tokenizer


def _context(model: Any) -> int:
    """How many tokens a model can read and write."""
    config = model.config.get_text_config()
    return int(getattr(config, "max_position_embeddings", None) or 1 << 17)


def _eos(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end an answer."""
    said = model.generation_config.eos_token_id
    said = said if isinstance(said, list) else [said]
    return frozenset(token for token in (*said, tokenizer.eos_token_id) if token is not None)


def _is_out_of_memory(error: Exception) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def _free_memory() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
