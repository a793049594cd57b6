"""argilla-server 2.8.0 imported as it is, with SQLite, the search engine and jobs put under it and the gate before it.

The server reads its settings from environment variables while it is imported, and opens Redis and copies its page
then; so the order matters, a process can do this once, and all of it happens in `boot`.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import shutil
import sqlite3
import warnings
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from argilla_embedded import closed, database, gate, hotspots, isolation, jobs, page
from argilla_embedded.errors import Problem
from argilla_embedded.folder import Folder, disk_full, hold, secret_of
from argilla_embedded.gate import LOOPBACK_NAMES

VERSION = "2.8.0"
"""The argilla-server whose routes and slow spots were looked through."""


@dataclass(frozen=True)
class Booted:
    """The imported server.

    Args:
        app: the application to serve, gate included.
        api: its API, for ``openapi()``.
        repaired: records whose status a kill had left behind.
        index: what the search engine did about its index, in words.
    """

    app: Any
    api: Any
    repaired: int
    index: str


async def boot(folder: Folder, *, origins: Sequence[str], hosts: tuple[str, ...] | None) -> Booted:
    """Import the server for this folder, bring the database up to date, repair it and reconcile the index.

    Args:
        folder: held by this process.
        origins: pages that may use the API: the server's own addresses and those named by ``--cors``.
        hosts: names that the server answers to; None for any.

    Raises:
        Problem: what the user can mend: another version, an unreadable database, no room.
    """
    from sqlalchemy.exc import SAWarning

    os.environ.update(_settings(folder, origins))
    with page.temporary_files(folder.page), jobs.redis_in_process(), closed.without_datasets(), in_words(folder):
        server = _imported()
    app, api = server.app, importlib.import_module("argilla_server.api.routes").api_v1
    files = page.served_files(app)
    page.make_local(files)
    page.escape_records(files)
    jobs.run_on_loop()
    hotspots.mend()
    isolation.mend(api)
    closed.close(app, api)
    gate.slow_down_guessing(api, gate.Patience())
    database.open_safely()
    warnings.filterwarnings("ignore", category=SAWarning)  # the server's own, one at every first record
    with in_words(folder):
        database.migrate(folder.database)
        repaired = database.repair(folder.database)
        index = str(await _search().reconcile())
    return Booted(gate.Gate(app, hosts), api, repaired, index)


def _settings(folder: Folder, origins: Sequence[str]) -> dict[str, str]:
    """The environment the server reads. Nothing in it lets a request leave the machine."""
    return {
        "ARGILLA_HOME_PATH": str(folder.root),
        "ARGILLA_BASE_URL": "/",
        "ARGILLA_DATABASE_URL": database.url(folder.database),
        "ARGILLA_DATABASE_SQLITE_TIMEOUT": str(database.BUSY_SECONDS),
        "ARGILLA_SEARCH_ENGINE": "sqlite",
        "ARGILLA_EMBEDDED_INDEX": str(folder.index),
        "ARGILLA_AUTH_SECRET_KEY": secret_of(folder),
        "ARGILLA_AUTH_OAUTH_CFG": str(folder.root / "oauth.yaml"),
        "ARGILLA_CORS_ORIGINS": json.dumps(list(origins)),
        "ARGILLA_ENABLE_TELEMETRY": "false",
        "ARGILLA_ENABLE_SHARE_YOUR_PROGRESS": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
    }


def _imported() -> Any:
    with warnings.catch_warnings(), _uncollected():
        warnings.simplefilter("ignore")  # deprecations inside what argilla-server pins
        server = importlib.import_module("argilla_server")
        found = importlib.import_module("argilla_server._version").__version__
        if found != VERSION:
            raise Problem(f"argilla-server {found}", VERSION, f"pip install argilla-server=={VERSION}")
        _search()
    return server


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """No search for garbage among the half million objects that an import makes and keeps: not during it, and none
    later, where the last one takes longer than the rest of an end."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _search() -> Any:
    return importlib.import_module("argilla_embedded.search")


async def shut_down() -> None:
    """Close the index and the database; the last connection folds the write-ahead log into the database."""
    _search().close_shared_store()
    await database.close()


@contextlib.contextmanager
def in_words(folder: Folder) -> Iterator[None]:
    """Failures of the database that the user can mend, said as such."""
    from sqlalchemy.exc import DBAPIError

    try:
        yield
    except (DBAPIError, sqlite3.DatabaseError, OSError) as error:
        text = str(getattr(error, "orig", None) or error)
        if any(words in text for words in ("disk is full", "No space left", "File too large")):
            raise disk_full(folder.root) from None
        if "disk I/O error" in text:
            raise Problem(
                f"{folder.database}: {text}", "a disk that works and has room left", "Free some room; look at the disk."
            ) from None
        if "is locked" in text:
            raise Problem(
                f"{folder.database}: {text}", "no other program that writes to it", "Close what has it open."
            ) from None
        if "not a database" in text or "malformed" in text:
            raise database.not_a_database(folder.database, Exception(text)) from None
        if "readonly" in text or "unable to open" in text:
            raise Problem(
                f"{folder.database}: {text}", "files that this user may write", "Have their owner give them to you."
            ) from None
        raise


@asynccontextmanager
async def booted_offline(folder: Folder) -> AsyncIterator[Booted]:
    """A booted server that only this process can talk to; it holds the folder and cleans up behind itself."""
    with hold(folder):
        try:
            yield await boot(folder, origins=[], hosts=LOOPBACK_NAMES)
            await shut_down()
        finally:
            shutil.rmtree(folder.page, ignore_errors=True)


async def rebuild_index(folder: Folder) -> str:
    """Make the index anew from the database; nothing else may work on the folder.

    Returns:
        What was done, in words.
    """
    async with booted_offline(folder):
        return str(await _search().rebuild())


async def index_fingerprint(folder: Folder) -> str:
    """A digest of all that the index of a stopped server says, which is not compared with the database before."""
    os.environ.update(_settings(folder, []))
    with hold(folder), page.temporary_files(folder.page), jobs.redis_in_process(), closed.without_datasets():
        _imported()
        try:
            return str(await _search().fingerprint())
        finally:
            await shut_down()
            shutil.rmtree(folder.page, ignore_errors=True)
