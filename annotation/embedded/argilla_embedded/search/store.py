"""The file that holds the index, and the threads that work on it.

One thread writes, two read, each with its own connection; the server's event loop only waits. Every write is one
transaction, and a search begun after it sees it. The file is a cache of the database: it is opened with
`synchronous=NORMAL` (a killed process loses nothing, a power cut at most the last writes, which `upkeep.reconcile`
finds), and a file of another version, or one that is not a database, is thrown away and begun anew.
"""

import asyncio
import contextlib
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from argilla_embedded.search import tables

VERSION = "1"
"""Of the tables and of the words in them. An index of another version is made anew."""

READERS = 2
CACHE = 32_000
"""KiB of pages that each connection keeps."""

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]

_LOG = logging.getLogger(__name__)


class Store:
    """An open index.

    Args:
        path: of the file; made, with its folder, where it is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.begun_because: str | None = None
        """Why the file was begun anew when it was opened; None when it was there."""
        self._local = threading.local()
        self._open: list[sqlite3.Connection] = []
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="index-writer")
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="index-reader")
        self._writer.submit(self._prepare).result()

    async def write(self, work: Work[T]) -> T:
        """Do `work` in one transaction: all of it is kept, or nothing."""
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._written, work)

    async def read(self, work: Work[T]) -> T:
        """Do `work` on one state of the index."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, work)

    def close(self) -> None:
        """Finish what was begun and close the file."""
        self._writer.shutdown()
        self._readers.shutdown()
        for connection in self._open:
            connection.close()

    def _written(self, work: Work[T]) -> T:
        with _transaction(self._connection(), "BEGIN IMMEDIATE") as connection:
            return work(connection)

    def _read(self, work: Work[T]) -> T:
        with _transaction(self._connection(), "BEGIN") as connection:
            return work(connection)

    def _connection(self) -> sqlite3.Connection:
        if not hasattr(self._local, "connection"):
            connection = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute(f"PRAGMA cache_size = -{CACHE}")
            connection.execute("PRAGMA temp_store = MEMORY")
            self._open.append(connection)
            self._local.connection = connection
        return self._local.connection  # type: ignore[no-any-return]

    def _prepare(self) -> None:
        self.begun_because = self._reason_to_begin()
        if self.begun_because:
            _LOG.info("search index %s: %s; begun anew", self.path, self.begun_because)
            self._forget_file()
            with _transaction(self._connection(), "BEGIN IMMEDIATE") as connection:
                tables.create(connection, VERSION)

    def _reason_to_begin(self) -> str | None:
        if not self.path.exists():
            return "there was none"
        try:
            found = tables.version(self._connection())
        except sqlite3.DatabaseError as error:
            return f"it could not be read ({error})"
        return None if found == VERSION else f"it was of version {found}, not {VERSION}"

    def _forget_file(self) -> None:
        if hasattr(self._local, "connection"):
            self._local.connection.close()
            self._open.remove(self._local.connection)
            del self._local.connection
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection, begin: str) -> Iterator[sqlite3.Connection]:
    connection.execute(begin)
    try:
        yield connection
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


_shared: dict[Path, Store] = {}


def index_path() -> Path:
    """`ARGILLA_EMBEDDED_INDEX`, or index.db beside the server's database."""
    named = os.environ.get("ARGILLA_EMBEDDED_INDEX")
    if named:
        return Path(named).absolute()
    from argilla_server.settings import settings

    return Path(str(settings.home_path)).absolute() / "index.db"


def shared_store() -> Store:
    """The store of this process: one for all requests, opened when it is first asked for."""
    path = index_path()
    if path not in _shared:
        _shared[path] = Store(path)
    return _shared[path]


def close_shared_store() -> None:
    """Close what `shared_store` opened, folding the write-ahead log into the file. Asking again opens anew."""
    while _shared:
        _shared.popitem()[1].close()
