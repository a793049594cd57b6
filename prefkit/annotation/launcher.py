"""The embedded Argilla server as a process of its own: started, asked, stopped.

Writes   DIR/log     what the server says when something goes wrong
         DIR/log.1   the log before, where that was long when a server was started

prefkit never imports the server: it runs ``argilla_embedded`` with the Python of the environment that
`prefkit.annotation.environment` makes. The server gets only those environment variables that it needs; keys of models
stay here. Its standard output, which names passwords and keys of new accounts, goes nowhere: callers read them from
accounts.json and show what is to be shown.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from prefkit.annotation import environment
from prefkit.annotation.server import (
    LOG,
    Account,
    Running,
    accounts,
    noted,
    prepare_folder,
    running,
    served_before,
    starting,
)
from prefkit.durable import explained_disk_errors
from prefkit.errors import PrefkitError

_PASSED_ON = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TMPDIR", "TZ", "SYSTEMROOT")
_LOG_BYTES = 1_000_000
_PROBLEM = re.compile(
    r"argilla-embedded: found (?P<found>.*?); expected (?P<expected>.*?)\.\n\s*(?P<remedy>.*)", re.DOTALL
)


@dataclass(frozen=True, kw_only=True)
class Serve:
    """What a server is started with.

    Args:
        host: the address to listen on.
        port: 0 for a free one.
        allow_network: whether an address that others can reach is meant.
        annotators: accounts to make where they do not exist.
        own_session: whether it outlives this process and its terminal.
    """

    host: str = "127.0.0.1"
    port: int = 6900
    allow_network: bool = False
    annotators: tuple[str, ...] = ()
    own_session: bool = True


@dataclass(frozen=True)
class Served:
    """What came of a `serve`.

    Args:
        running: the server.
        new: accounts that were made, whose passwords are to be shown once.
        process: the server's, where it was started now; None where it ran already.
    """

    running: Running
    new: list[Account]
    process: subprocess.Popen[bytes] | None


class Answers(msgspec.Struct):
    """How many responses of each kind there are."""

    submitted: int = 0
    draft: int = 0
    discarded: int = 0


class Annotator(msgspec.Struct):
    """How far somebody is with a dataset."""

    username: str
    responses: Answers


class Dataset(msgspec.Struct):
    """A deck as the server has it; ``annotators`` are all who are to answer, or did."""

    name: str
    workspace: str
    records: int
    completed: int
    responses: Answers
    annotators: list[Annotator] = []


class User(msgspec.Struct):
    """An account as the database has it."""

    username: str
    role: str


class Status(msgspec.Struct, rename={"sizes": "bytes"}):
    """What a folder holds, whether or not a server runs; sizes in bytes."""

    users: list[User]
    datasets: list[Dataset]
    sizes: dict[str, int]
    free_bytes: int


@dataclass(frozen=True)
class Launcher:
    """Runs ``argilla_embedded`` on a folder.

    Args:
        folder: DIR.
        python: of the server's environment.
        code: where the package is.
    """

    folder: Path
    python: Path
    code: Path

    def start(self, asked: Serve, tick: Callable[[int], None]) -> subprocess.Popen[bytes]:
        """Start a server and wait until it answers.

        Args:
            asked: how.
            tick: called with the seconds waited so far.

        Returns:
            Its process.

        Raises:
            PrefkitError: it ended before it answered; with its own words.
        """
        options = ["--host", asked.host, "--port", str(asked.port), "--annotators", ",".join(asked.annotators)]
        command = self._command("serve", *options, *(["--allow-network"] if asked.allow_network else []))
        began = time.monotonic()
        with explained_disk_errors(self.folder), _private_log(self.folder) as log:
            said_before = log.tell()
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=self._environment(),
                start_new_session=asked.own_session,
            )
        try:
            while (told := noted(self.folder)) is None or told.pid != process.pid:
                if process.poll() is not None:
                    said = (self.folder / LOG).read_bytes()[said_before:].decode(errors="replace")
                    raise self._refusal(said, "the server ended while it started", f"All it said: {self.folder / LOG}")
                tick(int(time.monotonic() - began))
                time.sleep(0.05)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        return process

    def stop(self) -> bool:
        """Stop the server, begun requests finished; False where none ran."""
        return self._run("stop").startswith("stopped")

    def status(self) -> Status:
        """Users, datasets and who is how far; also while no server runs."""
        return msgspec.json.decode(self._run("status", "--json"), type=Status)

    def back_up(self, to: Path | None) -> Path:
        """Write a backup, also while the server runs; by default into DIR/backups.

        Returns:
            The file.
        """
        said = self._run("backup", *(["--to", str(to.absolute())] if to else []))
        return Path(said.rpartition(": ")[0])

    def restore(self, backup: Path, *, replace: bool) -> str:
        """Put a backup back; what was there is kept beside, where ``replace`` allows it. Says what was done."""
        return self._run("restore", str(backup.absolute()), *(["--replace"] if replace else []))

    def add_users(self, names: Sequence[str]) -> list[Account]:
        """Make annotators, also while the server runs.

        Returns:
            Those that are new.
        """
        before = {account.username for account in accounts(self.folder)}
        self._run("users", "add", *names)
        return [account for account in accounts(self.folder) if account.username not in before]

    def renew_password(self, name: str) -> Account:
        """Give a user a new random password; who is logged in stays so for up to a day."""
        self._run("users", "password", name)
        return next(account for account in accounts(self.folder) if account.username == name)

    def _run(self, *arguments: str) -> str:
        """Run a command to its end and return what it said.

        Raises:
            PrefkitError: it refused; with its own words.
        """
        done = subprocess.run(
            self._command(*arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self._environment(),
            check=False,
        )
        if done.returncode:
            raise self._refusal(done.stderr, f"a failure ({' '.join(arguments[:2])})", "Run the same command again.")
        return done.stdout.strip()

    def _command(self, *arguments: str) -> list[str]:
        words = 2 if arguments[0] == "users" else 1
        where = ["--dir", str(self.folder)]
        return [str(self.python), "-m", "argilla_embedded", *arguments[:words], *where, *arguments[words:]]

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith("LC_")}
        return {**kept, "PYTHONPATH": str(self.code), "PYTHONSAFEPATH": "1"}

    def _refusal(self, said: str, found: str, remedy: str) -> PrefkitError:
        """The error for what the launcher said last: its own words where it explained itself."""
        if explained := _PROBLEM.search(said):
            ours = explained["remedy"].strip().replace("argilla-embedded ", "prefkit annotate ")
            return PrefkitError(self.folder, explained["found"], explained["expected"], ours)
        last = [line.strip() for line in said.splitlines() if line.strip()][-1:]
        return PrefkitError(self.folder, ": ".join([found, *last])[:300], "none", remedy)


@contextlib.contextmanager
def _private_log(folder: Path) -> Iterator[BinaryIO]:
    """The log to add to; a long one makes room first, and takes the place of the one before."""
    if (folder / LOG).exists() and (folder / LOG).stat().st_size > _LOG_BYTES:
        (folder / LOG).replace(folder / f"{LOG}.1")
    handle = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with open(handle, "ab") as log:
        yield log


def serve(folder: Path, asked: Serve, opened_bar: environment.OpenedBar, say: environment.Say) -> Served:
    """See to it that a server answers for a folder: install it, start it, or find the one that runs.

    Args:
        folder: DIR; made where it is not there.
        asked: how to start it; of a server that runs, only the annotators count.
        opened_bar: opens a progress bar: title, total (None where nobody knows), unit.
        say: takes lines for the user.

    Raises:
        PrefkitError: the installation or the start failed for a reason the user can mend.
    """
    if os.name != "posix":
        remedy = "Run prefkit inside the Windows Subsystem for Linux (WSL)."
        raise PrefkitError("annotate serve", "Windows", "Linux or macOS, whose file locks it relies on", remedy)
    prepare_folder(folder)
    with starting(folder, lambda: say("another `serve` is starting a server here; waiting for it")):
        before = {account.username for account in accounts(folder)}
        if found := running(folder):
            missing = [name for name in asked.annotators if name not in before]
            return Served(found, launcher(folder).add_users(missing) if missing else [], None)
        of = environment.server()
        python = environment.make(of, opened_bar, say)
        say("starting Argilla")
        process = Launcher(folder, python, of.launcher).start(asked, opened_bar("starting", None, "s"))
        started = running(folder)
        if started is None:
            raise PrefkitError(folder, "a server that ended at once", "one that stays", f"Look at {folder / LOG}.")
        new = [account for account in accounts(folder) if account.username not in before]
        return Served(started, new, process)


def launcher(folder: Path) -> Launcher:
    """What runs on a folder that a server worked on before.

    Raises:
        PrefkitError: none did, or there is no environment.
    """
    if not served_before(folder):
        remedy = f"Start one: prefkit annotate serve --dir {folder}"
        raise PrefkitError(folder, "no Argilla here", "the folder of a server", remedy)
    return installed(folder)


def installed(folder: Path) -> Launcher:
    """What runs on any folder, with the environment that is there.

    Raises:
        PrefkitError: none is there.
    """
    of = environment.server()
    python = environment.python_of(of)
    if python is None:
        remedy = "prefkit annotate serve installs and starts it."
        raise PrefkitError(environment.place(of), "no Argilla installed", "its environment", remedy)
    return Launcher(folder, python, of.launcher)
