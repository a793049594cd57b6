"""Where an embedded Argilla server works, whether it runs, and who may log in.

Reads   DIR/server.json      address and process of the server that answers now
        DIR/accounts.json    names, passwords, keys; readable by their owner only

`prefkit.annotation.launcher` starts and stops it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from prefkit.annotation.environment import data_home
from prefkit.durable import explained_disk_errors
from prefkit.errors import PrefkitError

DIRECTORY = "PREFKIT_ANNOTATION_DIR"
"""Names DIR where no ``--dir`` does."""
OWNER = "owner"
LOG = "log"
GATE = "serve.lock"
"""Held by a `serve` from its first look until the server answers."""

_OURS = {"argilla.db", "accounts.json", "secret", "lock", LOG, GATE}


@dataclass(frozen=True)
class Running:
    """A server that answers now.

    Args:
        address: of the page and the API, ``http://127.0.0.1:6900``.
        owner_key: may do everything; never to be printed.
        pid: its process.
    """

    address: str
    owner_key: str = field(repr=False)
    pid: int


@dataclass(frozen=True)
class Account:
    """Who may log in, and with what."""

    username: str
    role: str
    password: str = field(repr=False)
    api_key: str = field(repr=False)


def default_folder() -> Path:
    """DIR where the user names none: that of PREFKIT_ANNOTATION_DIR, or prefkit's in the user's data folder."""
    if named := os.environ.get(DIRECTORY):
        return Path(named).expanduser().absolute()
    return data_home() / "prefkit" / "annotation"


def running(folder: Path) -> Running | None:
    """The server that answers for a folder; None where none does, also where one was killed and left its notes.

    Raises:
        PrefkitError: accounts.json cannot be read.
    """
    told = noted(folder)
    if told is None:
        return None
    owner = next((account for account in accounts(folder) if account.username == OWNER), None)
    if owner is None or not _holds(folder, told.pid):
        return None
    return Running(told.address, owner.api_key, told.pid)


class Told(msgspec.Struct):
    """What a server notes in server.json once it answers."""

    address: str
    pid: int


def noted(folder: Path) -> Told | None:
    """What server.json says; a server that was killed leaves it behind."""
    path = folder / "server.json"
    with explained_disk_errors(path):
        try:
            return msgspec.json.decode(path.read_bytes(), type=Told)
        except (FileNotFoundError, NotADirectoryError, msgspec.MsgspecError):
            return None


class _Accounts(msgspec.Struct):
    users: list[Account]


def accounts(folder: Path) -> list[Account]:
    """The accounts in the order in which they were made; none where none was made yet.

    Raises:
        PrefkitError: the file cannot be read.
    """
    path = folder / "accounts.json"
    if not path.exists():
        return []
    with explained_disk_errors(path):
        try:
            return msgspec.json.decode(path.read_bytes(), type=_Accounts).users
        except msgspec.MsgspecError as error:
            remedy = "Take it from a backup, or move it away: the next start gives the owner a new password."
            raise PrefkitError(path, str(error), "the accounts as the server writes them", remedy) from None


def _holds(folder: Path, pid: int) -> bool:
    """Whether this process holds the folder's lock, which the system takes away when a process ends."""
    import fcntl

    with contextlib.suppress(FileNotFoundError), (folder / "lock").open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return lock.read().strip() == str(pid)
    return False


def served_before(folder: Path) -> bool:
    """Whether a server worked on this folder."""
    return (folder / "argilla.db").exists()


def prepare_folder(folder: Path) -> None:
    """Make DIR, or take it as it is, and close it to everyone but its owner.

    Raises:
        PrefkitError: it holds other things, or cannot be made.
    """
    with explained_disk_errors(folder):
        if folder.is_dir() and (there := {path.name for path in folder.iterdir()}) and not there & _OURS:
            remedy = "Name another --dir; nobody else will be able to read it."
            raise PrefkitError(folder, "a folder with other files in it", "an empty or a new one", remedy)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)


@contextlib.contextmanager
def starting(folder: Path, wait: Callable[[], None]) -> Iterator[None]:
    """Be the one `serve` that starts a server on a folder; ``wait`` is called before waiting for another."""
    from filelock import FileLock, Timeout

    with explained_disk_errors(folder):
        gate = FileLock(folder / GATE, mode=0o600)
        try:
            gate.acquire(timeout=0)
        except Timeout:
            wait()
            gate.acquire()
    try:
        yield
    finally:
        gate.release()
