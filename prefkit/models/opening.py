"""From entries to models that answer: sessions, keys, servers inside this process, weights in memory.

Reads   the environment, for keys and proxies

One pool of connections serves all models. What is asked within the house goes past any proxy. Weights that two entries
share are loaded once.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp

from prefkit.errors import PrefkitError
from prefkit.models.addresses import proxy_for
from prefkit.models.chat import Endpoint, Model
from prefkit.models.embedded import PATIENCE, SLOTS, Served, served
from prefkit.models.entries import TEMPLATE, ModelEntry
from prefkit.models.http import Answer, HttpEndpoint
from prefkit.models.replay import Recorder, ReplayEndpoint

if TYPE_CHECKING:
    from prefkit.models.local import LocalEndpoint

BATCH = 8


@asynccontextmanager
async def opened(entries: Sequence[ModelEntry], *, timeout: float, concurrency: int) -> AsyncIterator[list[Model]]:
    """The models of the entries, in their order, ready to be asked; all is closed when the block ends.

    Args:
        entries: what `Catalogue.entry` gave.
        timeout: seconds for a call over HTTP; a model inside this process has ten minutes at least.
        concurrency: calls at a time, at most: no model gets more slots, nor a larger batch.

    Raises:
        PrefkitError: a key is missing, or a model inside this process cannot be loaded.
    """
    keys = [key_of(entry) for entry in entries]
    async with AsyncExitStack() as stack:
        opening = _Opening(stack, timeout, concurrency)
        yield [
            Model(entry.name, await opening.endpoints(entry, key), entry.price, entry.sampling, entry.local)
            for entry, key in zip(entries, keys, strict=True)
        ]


def key_variable(entry: ModelEntry) -> str | None:
    """The environment variable that holds the key of a model; None where none of its variables is set."""
    return next((name for name in entry.keys if os.environ.get(name, "").strip()), None)


def key_of(entry: ModelEntry) -> str | None:
    """The key of a model; None where it has none and needs none.

    Raises:
        PrefkitError: it needs one, or what the variable holds is none.
    """
    variable = key_variable(entry)
    if variable is None:
        if not entry.key_needed:
            return None
        remedy = f"Set it: export {entry.keys[-1]}=..."
        raise PrefkitError(entry.name, "no key", f"one in {' or '.join(entry.keys)}", remedy)
    key = os.environ[variable].strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        remedy = f"Look at {variable}: a blank, a line break or a letter with an accent stands in it."
        raise PrefkitError(entry.name, f"no key in {variable}", "letters, digits and signs", remedy)
    return key


class _Opening:
    def __init__(self, stack: AsyncExitStack, timeout: float, concurrency: int) -> None:
        self._stack = stack
        self._timeout = timeout
        self._concurrency = concurrency
        self._session: aiohttp.ClientSession | None = None
        self._served: dict[str, Served] = {}
        self._loaded: dict[str, LocalEndpoint] = {}

    async def endpoints(self, entry: ModelEntry, key: str | None) -> list[Endpoint]:
        found: list[Endpoint]
        if entry.kind == "replay":
            assert entry.file is not None
            found = [ReplayEndpoint(entry.file)]
        elif entry.kind == "local":
            found = [await self._local(entry)]
        elif entry.kind == "embedded":
            found = [await self._embedded(entry)]
        else:
            found = [await self._http(entry, url, key, entry.concurrency, self._timeout) for url in entry.urls]
        if entry.record is None:
            return found
        return [self._stack.enter_context(Recorder(endpoint, entry.record)) for endpoint in found]

    async def _http(
        self, entry: ModelEntry, url: str, key: str | None, most: int | None, timeout: float
    ) -> HttpEndpoint:
        return HttpEndpoint(
            await self._one_session(),
            url,
            entry.model,
            proxy=proxy_for(url),
            key=key,
            timeout=timeout,
            most=most,
            system_role=entry.system_role,
            extra=entry.extra,
        )

    async def _one_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar(), response_class=Answer
            )
            self._session = await self._stack.enter_async_context(session)
        return self._session

    async def _embedded(self, entry: ModelEntry) -> HttpEndpoint:
        slots = min(entry.concurrency or SLOTS, self._concurrency)
        weights = str(entry.file or "")
        if weights not in self._served:
            serving = served(entry.file, name=entry.model, slots=slots)
            self._served[weights] = await asyncio.to_thread(serving.__enter__)
            self._stack.callback(serving.__exit__, None, None, None)
        at = self._served[weights]
        return await self._http(entry, at.url, at.key, slots, max(self._timeout, PATIENCE))

    async def _local(self, entry: ModelEntry) -> LocalEndpoint:
        from prefkit.models.local import LocalEndpoint

        settings = f"{entry.model} {entry.system_role} {entry.extra}"
        if settings not in self._loaded:
            endpoint = await asyncio.to_thread(
                LocalEndpoint.load,
                entry.model,
                batch=min(entry.concurrency or BATCH, self._concurrency),
                system_role=entry.system_role,
                template=entry.extra.get(TEMPLATE, {}),
            )
            self._stack.callback(endpoint.close)
            self._loaded[settings] = endpoint
        return self._loaded[settings]
