"""The vendor batch protocol, as OpenAI has it: files of questions, batches of them, files of answers.

Some other vendors and gateways have the same; protocols of their own (Anthropic's, Mistral's) are not spoken. Files are
sent from the disk and read as they come.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import aiohttp
import msgspec

from prefkit.models.chat import CallFailed
from prefkit.models.http import HttpEndpoint
from prefkit.models.waits import until_answered

ENDED = ("completed", "expired", "cancelled", "failed")
GONE = "HTTP 404"

T = TypeVar("T")


@dataclass(frozen=True)
class BatchState:
    """How far a batch is; ``done`` and ``failed`` of ``total`` as the vendor counts them."""

    id: str
    status: str
    total: int
    done: int
    failed: int


class _Counts(msgspec.Struct):
    total: int = 0
    completed: int = 0
    failed: int = 0


class Fault(msgspec.Struct):
    """What the vendor says is wrong."""

    code: str | None = None
    message: str | None = None

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.code, self.message))) or "no reason"


class FaultList(msgspec.Struct):
    """All that is wrong with a file of questions."""

    data: list[Fault] | None = None


class About(msgspec.Struct):
    """What the vendor says of a batch."""

    id: str
    status: str
    input_file_id: str | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    request_counts: _Counts | None = None
    errors: FaultList | None = None
    metadata: dict[str, str] | None = None
    created_at: int = 0

    @property
    def state(self) -> BatchState:
        """How far it is."""
        counts = self.request_counts or _Counts()
        return BatchState(self.id, self.status, counts.total, counts.completed, counts.failed)


class _List(msgspec.Struct):
    data: list[About]
    has_more: bool = False


class _File(msgspec.Struct):
    id: str


class Answer(msgspec.Struct):
    """What a plain call would have got."""

    status_code: int = 200
    body: msgspec.Raw = msgspec.Raw(b"null")


class Row(msgspec.Struct):
    """A row of a file of answers."""

    custom_id: str
    response: Answer | None = None
    error: Fault | None = None

    @property
    def reached(self) -> bool:
        """Whether the question's turn came before the batch ended."""
        return self.error is None or self.error.code not in ("batch_expired", "batch_cancelled")


_row = msgspec.json.Decoder(Row)


class Desk:
    """One vendor's batches and files. An exchange that fails for a while is made again.

    Raises:
        CallFailed: by all methods, when there is no use.
    """

    def __init__(self, endpoint: HttpEndpoint, retries: int) -> None:
        self.endpoint = endpoint
        self._retries = retries

    async def check(self) -> None:
        """See whether there are batches at all."""
        await self._made("GET", "/batches?limit=1", _List)

    async def batch(self, name: str) -> About:
        """A batch, as it is now; one attempt, for there will be another look."""
        async with self.endpoint.exchange("GET", f"/batches/{name}") as answer:
            return _decoded(await answer.read(), About)

    async def upload(self, path: Path) -> str:
        """Send a file of questions; the vendor's name for it."""

        async def attempt() -> _File:
            with open(path, "rb") as file:  # noqa: ASYNC230 - it is read elsewhere, while it is sent
                form = aiohttp.FormData()
                form.add_field("purpose", "batch")
                form.add_field("file", file, filename="questions.jsonl", content_type="application/jsonl")
                async with self.endpoint.exchange("POST", "/files", data=form) as answer:
                    return _decoded(await answer.read(), _File)

        return (await until_answered(attempt, self._retries)).id

    async def create(self, file: str, key: str, stage: str) -> About:
        """Make a batch of a file; where it is not certain whether that was done, look before doing it again."""
        wanted = {
            "input_file_id": file,
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "metadata": {"prefkit": key, "stage": stage},
        }
        begun = int(time.time())

        async def attempt() -> About:
            try:
                async with self.endpoint.exchange("POST", "/batches", json=msgspec.json.encode(wanted)) as answer:
                    return _decoded(await answer.read(), About)
            except CallFailed as failure:
                if not failure.again and not failure.maybe_paid:
                    raise
                found = await self.made_with({key}, begun)
                if key not in found:
                    raise
                return found[key]

        return await until_answered(attempt, self._retries)

    async def made_with(self, keys: set[str], since: int) -> dict[str, About]:
        """The batches with these keys in their metadata, of those made after a moment (seconds since 1970)."""
        found: dict[str, About] = {}
        after = ""
        while True:
            page = await self._made("GET", f"/batches?limit=100{after}", _List)
            for about in page.data:
                key = (about.metadata or {}).get("prefkit")
                if key in keys:
                    found[key] = about
            late = [about for about in page.data if about.created_at >= since - 3600]
            if len(found) == len(keys) or not page.has_more or not late:
                return found
            after = f"&after={page.data[-1].id}"

    async def each_row(self, file: str, take: Callable[[Row], None]) -> None:
        """Hand on each row of a file once, as it comes; a file that the vendor no longer has counts as an empty one."""
        seen: set[str] = set()

        async def attempt() -> None:
            async for row in self._rows(file):
                if row.custom_id not in seen:
                    seen.add(row.custom_id)
                    take(row)

        try:
            await until_answered(attempt, self._retries)
        except CallFailed as failure:
            if not failure.reason.startswith(GONE):
                raise

    async def _rows(self, file: str) -> AsyncIterator[Row]:
        async with self.endpoint.exchange("GET", f"/files/{file}/content") as answer:
            rest = b""
            async for piece in answer.content.iter_chunked(1 << 18):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    if row := _as_row(line):
                        yield row
            if row := _as_row(rest):
                yield row

    async def remove(self, file: str) -> None:
        """Remove a file; that it is gone already, or cannot be removed, is no harm."""
        try:
            async with self.endpoint.exchange("DELETE", f"/files/{file}"):
                pass
        except CallFailed:
            pass

    async def _made(self, method: str, path: str, shape: type[T]) -> T:
        async def attempt() -> T:
            async with self.endpoint.exchange(method, path) as answer:
                return _decoded(await answer.read(), shape)

        return await until_answered(attempt, self._retries)


def _as_row(line: bytes) -> Row | None:
    try:
        return _row.decode(line) if line.strip() else None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _decoded(raw: bytes, shape: type[T]) -> T:
    try:
        return msgspec.json.decode(raw, type=shape)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise CallFailed("an answer that is not of the batch protocol", maybe_paid=True) from None
