"""DIR, the folder that one server works on: what is in it, who may read it, who holds it.

    argilla.db       the database (SQLite, WAL): records, responses, accounts; all that cannot be made again
    search.db        the index; made from the database when it is missing
    accounts.json    names, passwords, API keys (0600)
    secret           signs the log-ins (0600)
    server.json      address, pid, start of the server that answers now; gone when none does
    lock             held by the one process that may write; holds its pid
    page/            the page's files as they are served; made at start, removed at the end
    backups/         where ``backup`` writes unless told otherwise
    server_id.dat    argilla-server's; it would go with telemetry, which is off

The folder is readable by its owner only (0700), so what is in it is too.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from argilla_embedded.errors import Problem


@dataclass(frozen=True)
class Folder:
    """The paths below DIR."""

    root: Path
    database: Path
    index: Path
    accounts: Path
    secret: Path
    server: Path
    lock: Path
    page: Path
    backups: Path


def below(root: Path) -> Folder:
    """The paths, whether or not anything is there."""
    return Folder(
        root,
        database=root / "argilla.db",
        index=root / "search.db",
        accounts=root / "accounts.json",
        secret=root / "secret",
        server=root / "server.json",
        lock=root / "lock",
        page=root / "page",
        backups=root / "backups",
    )


def open_folder(path: Path, *, make: bool = False) -> Folder:
    """DIR as a `Folder`, made where asked, closed to everyone but its owner.

    Raises:
        Problem: it is not there and not to be made, is not a folder, or cannot be written to.
    """
    root = path.expanduser().absolute()
    if "?" in str(root):
        raise Problem(
            f"a question mark in {root}", "a path that can stand in a database address", "Choose another DIR."
        )
    if not make and not root.is_dir():
        raise Problem(f"no folder {root}", "the DIR of a server", f"Start one: argilla-embedded serve --dir {root}")
    try:
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        root.chmod(0o700)
        with tempfile.TemporaryFile(dir=root) as probe:
            probe.write(b"\0" * 4096)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise disk_full(root) from None
        raise Problem(
            f"{root}: {error.strerror or error}",
            "a folder that this user may make and write to",
            "Choose another DIR, or have its owner give it to you (chown).",
        ) from None
    return below(root)


def disk_full(root: Path) -> Problem:
    """What to say when a write failed for want of room."""
    return Problem(
        f"no room to write in {root}", "a disk with space left (1 GB is plenty)", "Free some and start again."
    )


@contextlib.contextmanager
def hold(folder: Folder) -> Iterator[None]:
    """Be the one process that may write to the folder; the system lets go when the process ends, however it ends.

    Raises:
        Problem: another process holds it; its pid is named.
    """
    with folder.lock.open("a+") as file:
        os.chmod(file.fileno(), 0o600)
        if not _locked(file):
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise Problem(
                f"{folder.root} in use by process {holder}",
                "a folder no other process works on",
                f"Use that one (argilla-embedded status --dir {folder.root}) or stop it "
                f"(argilla-embedded stop --dir {folder.root}).",
            )
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


def _locked(file: IO[str]) -> bool:
    """Take the lock; wait a second for it, since ``status`` holds it for a moment while it looks."""
    for _ in range(20):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return True
    return False


def holder(folder: Folder) -> int | None:
    """The pid of the process that holds the folder; None where none does."""
    try:
        with folder.lock.open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read().strip() or 0) or None
    except FileNotFoundError:
        pass
    return None


def serving(folder: Folder) -> dict[str, Any] | None:
    """What server.json says, if the process that wrote it still holds the folder; else None."""
    try:
        told: dict[str, Any] = json.loads(folder.server.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return told if told.get("pid") == holder(folder) else None


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all, and on the disk when this returns."""
    handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp makes it 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        Path(part).unlink(missing_ok=True)
        raise


def secret_of(folder: Folder) -> str:
    """The secret that signs log-ins: made once, kept, so that a restart logs nobody out."""
    if not folder.secret.exists():
        write_private(folder.secret, secrets.token_hex(32))
    folder.secret.chmod(0o600)
    return folder.secret.read_text().strip()
