"""The Python environment that the embedded Argilla server runs in: found, or made on first use.

Reads   annotation/embedded/             the server's launcher, and every version of what it needs
        PREFKIT_ANNOTATION_ENV           names an environment that is ready; nothing is installed then
Writes  ~/.local/share/prefkit/argilla-2.8.0-DIGEST    an environment, with made.json in it

argilla-server pins its world (pydantic, httpx, urllib3), so it never shares an environment with prefkit. Folders of
different studies share one; its name digests the pins, so that new pins make a new environment and old ones keep
working. It is built under a name that ends in ``.part`` and renamed at the end: one that was interrupted never looks
complete. Only what others wrote is installed; the launcher runs from where prefkit is, so an upgrade of prefkit
installs nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from prefkit.durable import PART, explained_disk_errors, remove
from prefkit.errors import PrefkitError

ENVIRONMENT = "PREFKIT_ANNOTATION_ENV"
PYTHONS = ((3, 12), (3, 11))
"""Versions of Python that every pin has a wheel for and that the launcher accepts, the best first."""
FETCHED_MB, UNPACKED_MB = 128, 490
"""What an installation takes, bytecode included; measured on Linux x86-64 with Python 3.11."""
PINS = "constraints.txt"
MADE = "made.json"

OpenedBar = Callable[[str, int | None, str], Callable[[int], None]]
"""Opens a progress bar: title, total and unit; the function it gives takes how many are done."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Server:
    """What the server is made of.

    Args:
        launcher: folder with the package ``argilla_embedded`` and its constraints.txt.
        version: of argilla-server.
        pins: all that is installed, ``name==version``.
    """

    launcher: Path
    version: str
    pins: tuple[str, ...]

    @property
    def name(self) -> str:
        """The environment's: version, and a digest of all that is installed."""
        digest = hashlib.blake2b("\n".join(self.pins).encode(), digest_size=4).hexdigest()
        return f"argilla-{self.version}-{digest}"


def server() -> Server:
    """The server that belongs to this prefkit."""
    shipped = Path(__file__).parent.parent / "annotation_files" / "embedded"
    return read_server(shipped if shipped.is_dir() else Path(__file__).parents[2] / "annotation" / "embedded")


def read_server(launcher: Path) -> Server:
    """The server whose launcher is in a folder."""
    lines = (launcher / PINS).read_text().splitlines()
    pins = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
    version = next(pin.partition("==")[2] for pin in pins if pin.startswith("argilla-server=="))
    return Server(launcher, version, pins)


def data_home() -> Path:
    """Where programs keep a user's data: ``~/.local/share`` unless XDG_DATA_HOME says otherwise."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share").absolute()


def place(of: Server) -> Path:
    """Where its environment is, or will be."""
    if named := os.environ.get(ENVIRONMENT):
        return Path(named).expanduser().absolute()
    return data_home() / "prefkit" / of.name


def python_of(of: Server) -> Path | None:
    """The Python of a complete environment; None where none is made yet, or the Python it was made of is gone.

    Raises:
        PrefkitError: PREFKIT_ANNOTATION_ENV names something else than such an environment.
    """
    folder = place(of)
    python = folder / "bin" / "python"
    if os.environ.get(ENVIRONMENT):
        if python.exists() and any(_site_packages(folder).glob(f"argilla_server-{of.version}.dist-info")):
            return python
        remedy = f"Unset it and prefkit makes an environment, or install argilla-server=={of.version} there."
        found = f"${ENVIRONMENT}, where there is no argilla-server {of.version}"
        raise PrefkitError(folder, found, "a virtual environment that holds it", remedy)
    return python if (folder / MADE).exists() and python.exists() else None


def _site_packages(environment: Path) -> Path:
    return next(environment.glob("lib/python3*/site-packages"), environment)


def make(of: Server, opened_bar: OpenedBar, say: Say) -> Path:
    """Install what the server needs, unless it is there.

    A second process that wants the same waits until the first is done.

    Args:
        of: the server.
        opened_bar: opens a progress bar.
        say: takes lines for the user: what will be installed, how long it took.

    Returns:
        The environment's Python.

    Raises:
        PrefkitError: no Python fits, the disk is full, or the installation failed, with the installer's last words.
    """
    from filelock import FileLock, Timeout

    if python := python_of(of):
        return python
    folder = place(of)
    with explained_disk_errors(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f"{folder.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say("another process is installing Argilla; waiting for it")
        lock.acquire()
    try:
        return python_of(of) or _install(of, folder, opened_bar, say)
    finally:
        lock.release()


@dataclass(frozen=True)
class _Installer:
    """The commands that make an environment in a folder and install into it."""

    name: str
    environment: tuple[str, ...]
    install: tuple[str, ...]


def _install(of: Server, folder: Path, opened_bar: OpenedBar, say: Say) -> Path:
    began = time.monotonic()
    part, log = folder.with_name(folder.name + PART), folder.with_name(f"{folder.name}.log")
    installer = _installer(part, say)
    free = shutil.disk_usage(folder.parent).free // 1_000_000
    if free < FETCHED_MB + UNPACKED_MB:
        remedy = "Make room, or set XDG_DATA_HOME to a folder on another disk."
        raise PrefkitError(folder.parent, f"{free} MB free", f"{FETCHED_MB + UNPACKED_MB} MB for Argilla", remedy)
    say(f"Argilla {of.version} is not installed yet: {installer.name} installs it, with {len(of.pins)} packages, in an")
    say(f"environment of its own; about {FETCHED_MB} MB to fetch, {UNPACKED_MB} MB on the disk:")
    say(f"  {folder}")
    with explained_disk_errors(folder), _removed_unless_done(part):
        remove(part)
        log.write_bytes(b"")
        fetched, unpacked = (opened_bar(title, len(of.pins), "packages") for title in ("fetched", "unpacked"))

        def watch() -> None:
            there = sum(1 for _ in _site_packages(part).glob("*.dist-info"))
            unpacked(min(there, len(of.pins)))
            fetched(min(max(there, log.read_bytes().count(b"\nCollecting ")), len(of.pins)))

        _run(installer.environment, log, watch)
        _run((*installer.install, "--no-deps", "--requirement", str(of.launcher / PINS)), log, watch)
        made = {"pins": of.pins, "installer": installer.name, "made": datetime.now(UTC).isoformat(timespec="seconds")}
        (part / MADE).write_bytes(msgspec.json.encode(made))
        os.sync()  # all of it is on the disk before its name says that it is complete
        remove(folder)
        os.replace(part, folder)
    log.unlink()
    say(f"installed in {time.monotonic() - began:.0f} s")
    return folder / "bin" / "python"


@contextlib.contextmanager
def _removed_unless_done(part: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _installer(part: Path, say: Say) -> _Installer:
    """uv where there is one, which also brings a Python; else the Python that runs this, or one beside it.

    Raises:
        PrefkitError: there is no Python of a version that fits.
    """
    python = str(part / "bin" / "python")
    fitting = _fitting_python()
    if uv := shutil.which("uv"):
        wanted = fitting or ".".join(map(str, PYTHONS[0]))
        return _Installer(
            "uv",
            (uv, "venv", "--no-config", "--python", wanted, str(part)),
            (uv, "pip", "install", "--no-config", "--python", python),
        )
    here = ".".join(map(str, sys.version_info[:2]))
    if fitting is None:
        wanted = " or ".join(f"{major}.{minor}" for major, minor in PYTHONS)
        remedy = f"Install Python {wanted} with its module venv beside this one, or uv, which brings one."
        raise PrefkitError("annotate serve", f"Python {here}, and no other", f"Python {wanted} for Argilla", remedy)
    if fitting != sys.executable:
        say(f"Argilla does not run with Python {here}; {fitting} does")
    options = ("--no-input", "--no-compile", "--disable-pip-version-check", "--progress-bar=off", "--retries=2")
    return _Installer("pip", (fitting, "-m", "venv", str(part)), (python, "-m", "pip", "install", *options))


def _fitting_python() -> str | None:
    """A Python of a version that fits and that can make environments; this one before others."""
    others = [found for major, minor in PYTHONS if (found := shutil.which(f"python{major}.{minor}"))]
    for python in ([sys.executable] if sys.version_info[:2] in PYTHONS else []) + others:
        asked = subprocess.run([python, "-c", "import venv, ensurepip"], capture_output=True, check=False)
        if asked.returncode == 0:
            return python
    return None


def _run(command: tuple[str, ...], log: Path, watch: Callable[[], None]) -> None:
    """Run a command of the installer to its end, or end it where this process is to end."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with log.open("ab") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
    try:
        while process.poll() is None:
            watch()
            time.sleep(0.2)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)  # with what it started itself, which would go on writing
        process.wait()
        raise
    watch()
    if process.returncode:
        raise _failed(log, process.returncode)


def _failed(log: Path, code: int) -> PrefkitError:
    """The error that says why an installation failed, in the installer's last words."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    last = (errors or lines or [f"exit code {code}"])[-1].removeprefix("ERROR: ").removeprefix("error: ")
    remedy = f"Run the same command again; all that was said is in {log}."
    if any(words in line for line in lines for words in ("connection broken by", "Failed to fetch", "dns error")):
        remedy = f"The package index cannot be reached. With a connection: the same command again. Details: {log}"
    return PrefkitError("installing Argilla", last[:300], "a finished installation", remedy)
