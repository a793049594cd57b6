"""Texts as vectors, by an OpenAI-compatible ``/embeddings``, as vLLM, Ollama, llama.cpp and vendors serve it.

Reads   texts
Gives   a vector of length 1 for each

A request holds up to 64 texts; one that fails for a reason that may pass is made again, after waits like the engine's.
Only a plain list of numbers is understood, which is what every server sends unless asked for something else.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec
import numpy as np
from numpy.typing import NDArray

from prefkit.errors import PrefkitError
from prefkit.models.chat import CallFailed
from prefkit.models.engine import NEVER_REACHED, Limits
from prefkit.models.entries import ModelEntry
from prefkit.models.http import HttpEndpoint
from prefkit.models.opening import opened
from prefkit.models.waits import until_answered

PER_REQUEST = 64
"""Texts in one request, at most."""
AT_A_TIME = 4
"""Requests in flight, at most."""

FINAL = ("HTTP 501", "too large to process")
"""What llama.cpp says, with a status that elsewhere may pass, where it gives no embeddings or a text is too long."""

Vectors = NDArray[np.float32]


class _Embedding(msgspec.Struct):
    index: int
    embedding: list[float]


class _Answer(msgspec.Struct):
    data: list[_Embedding]


_answer = msgspec.json.Decoder(_Answer)


class Embedder:
    """A model that gives vectors; made by `opened_embedder`."""

    def __init__(self, entry: ModelEntry, endpoints: Sequence[HttpEndpoint], limits: Limits) -> None:
        self.block = PER_REQUEST * min(AT_A_TIME, limits.concurrency, entry.concurrency or AT_A_TIME)
        """How many texts are best given at a time."""
        self._entry = entry
        self._turns = itertools.cycle(endpoints)
        self._retries = limits.retries
        self._width: int | None = None

    async def embed(self, texts: Sequence[str]) -> Vectors:
        """A row for each text, shape (n texts, the model's width), of length 1; all zeros where the model gives zeros.

        Raises:
            PrefkitError: there is no use, or no usable answer.
        """
        parts = [texts[start : start + PER_REQUEST] for start in range(0, len(texts), PER_REQUEST)]
        try:
            found = np.concatenate(await asyncio.gather(*map(self._until_answered, parts)))
        except CallFailed as failure:
            remedy = (
                "Name an embedding model that is reached and takes texts of this length; `extra` in models.yaml may "
                "ask its server to cut them. No judge was asked; the same command begins again."
            )
            where = f"{self._entry.name}, {self._entry.where}"
            raise PrefkitError(where, failure.reason, "embeddings", remedy) from None
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        unit: Vectors = np.divide(found, lengths, out=np.zeros_like(found), where=lengths > 0)
        return unit

    async def _until_answered(self, texts: Sequence[str]) -> Vectors:
        begun = asyncio.get_running_loop().time()

        def final(failure: CallFailed) -> bool:
            tried = asyncio.get_running_loop().time() - begun
            return any(words in failure.reason for words in FINAL) or (failure.unreachable and tried > NEVER_REACHED)

        return await until_answered(lambda: self._once(next(self._turns), texts), self._retries, final)

    async def _once(self, endpoint: HttpEndpoint, texts: Sequence[str]) -> Vectors:
        body = msgspec.json.encode({"model": self._entry.model, "input": texts, **self._entry.extra})
        async with endpoint.exchange("POST", "/embeddings", json=body) as answer:
            found = read_embeddings(await answer.read(), len(texts))
        if self._width not in (None, found.shape[1]):
            raise CallFailed(f"vectors of {found.shape[1]} numbers after some of {self._width}")
        self._width = found.shape[1]
        return found


def read_embeddings(raw: bytes, count: int) -> Vectors:
    """The vectors in the body of an answer, in the order of the texts, shape (count, width).

    Raises:
        CallFailed: it does not hold one for each text, all of one width.
    """
    try:
        data = _answer.decode(raw).data
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        kind = "HTML" if raw.lstrip()[:1] == b"<" else "empty body" if not raw.strip() else "unreadable body"
        raise CallFailed(f"{kind} in place of embeddings", again=True, maybe_paid=True) from None
    rows = {one.index: one.embedding for one in data}
    if len(data) != count or rows.keys() != set(range(count)):
        raise CallFailed(f"{len(data)} embeddings of {count} texts, or not numbered", again=True, maybe_paid=True)
    widths = {len(row) for row in rows.values()}
    if len(widths) != 1 or 0 in widths:
        raise CallFailed("embeddings that are not of one width", again=True, maybe_paid=True)
    return np.array([rows[number] for number in range(count)], dtype=np.float32)


@asynccontextmanager
async def opened_embedder(entry: ModelEntry, limits: Limits) -> AsyncIterator[Embedder]:
    """The embedder of an entry, until the block ends.

    Raises:
        PrefkitError: its key is missing, or it is of a kind that gives no embeddings.
    """
    if entry.kind != "openai-compatible":
        found = f"a model of the kind {entry.kind}"
        remedy = "Name provider/model, or an entry in models.yaml with urls."
        raise PrefkitError(entry.name, found, "a server with /embeddings", remedy)
    entry = replace(entry, record=None)
    async with opened([entry], timeout=limits.timeout, concurrency=limits.concurrency) as (model,):
        yield Embedder(entry, [one for one in model.endpoints if isinstance(one, HttpEndpoint)], limits)
