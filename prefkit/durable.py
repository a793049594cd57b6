"""Files that survive a crash: replaced whole or not at all, appended a line at a time.

``replacing`` and ``replacing_folder`` write to ``NAME.part`` and rename it at the end, so that a reader sees the old
one or the new one. ``append_lines`` adds whole lines and takes them back if the disk fills up; an ``Appender`` adds
answers one by one, as they come. ``Together`` is for several files that change as one: an error in the middle leaves
all of them as they were.

A killed process leaves ``.part`` files, which ``clear_parts`` removes, and at most one torn line, which
``mend_last_line`` removes. A reader (``read_lines``) takes no notice of a torn line: it is not written yet. A last line
that is a whole JSON object and only lacks its newline, as an editor may leave it, is no torn line.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Self

import msgspec

from prefkit.errors import PrefkitError, RunError

PART = ".part"
OLD = f".old{PART}"
"""What a folder is called while another one takes its place."""

Put = Callable[[Path, Path], None]
"""Called with a finished ``.part`` and its place."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_IN_WORDS = (
    *(f"(os error {number})" for number in _FULL),  # safetensors
    "PytorchStreamWriter failed writing file",  # torch.save
    "unexpected pos ",  # torch.save, of a file that is shorter than what was written
)
"""What libraries say of a full disk in errors of their own."""
_CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
_NO_PATH = (errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)


@contextlib.contextmanager
def explained_disk_errors(path: Path) -> Iterator[None]:
    """Turn what an operating system says about a full or closed disk into a message with a remedy, and so what
    safetensors and torch say about a full one."""
    try:
        yield
    except PrefkitError:
        raise
    except OSError as error:
        found = (error.strerror or str(error)).lower()
        if error.errno in _FULL:
            raise _no_room(path) from None
        if error.errno in _CLOSED:
            remedy = "Check who owns the folder, or work on a copy."
            raise RunError(path, found, "a file that may be read and written", remedy) from None
        if error.errno in _NO_PATH:
            raise RunError(path, found, "a path that leads to a folder", "Look at the path.") from None
        if error.errno == errno.EIO:
            raise RunError(path, found, "a disk that works", "Copy the folder to another disk.") from None
        raise
    except Exception as error:
        if any(words in str(error) for words in _FULL_IN_WORDS):
            raise _no_room(path) from None
        raise


def _no_room(path: Path) -> RunError:
    remedy = "Make room and run the same command again; nothing is lost."
    return RunError(path, "no space left on the disk", "room for this file", remedy)


def cache_folder() -> Path:
    """Where prefkit keeps what can be made again: PREFKIT_CACHE, else the user's cache folder."""
    asked = os.environ.get("PREFKIT_CACHE")
    if asked:
        return Path(asked)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "prefkit"


def make_folders(path: Path) -> None:
    """Make a folder and those above it; one that is there is left as it is.

    Raises:
        RunError: it cannot be made.
    """
    with explained_disk_errors(path):
        try:
            path.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError:  # below /proc, or on a drive that is not there
            remedy = "Choose another folder."
            raise RunError(path, "a place where no folder can be made", "a folder that can be made", remedy) from None


def open_to_others(path: Path) -> None:
    """Give a file the permissions that the umask leaves to a new one, where a library made it for its owner alone."""
    mask = os.umask(0o077)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def put_in_place(part: Path, path: Path) -> None:
    """Let a finished ``.part`` take the place of ``path``."""
    if path.is_dir() or (part.is_dir() and path.exists()):
        old = path.with_name(path.name + OLD)
        os.replace(path, old)
        os.replace(part, path)
        remove(old)
    else:
        os.replace(part, path)
    sync_folder(path.parent)


@contextlib.contextmanager
def replacing(path: Path, put: Put = put_in_place) -> Iterator[BinaryIO]:
    """A binary file that takes the place of ``path`` when the block ends without an error, and vanishes otherwise."""
    part = path.with_name(path.name + PART)
    with explained_disk_errors(path):
        try:
            with open(part, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            put(part, path)
        except BaseException:
            remove(part)
            raise


@contextlib.contextmanager
def replacing_folder(path: Path, put: Put = put_in_place) -> Iterator[Path]:
    """A new folder that takes the place of ``path`` when the block ends without an error, and vanishes otherwise."""
    part = path.with_name(path.name + PART)
    with explained_disk_errors(path):
        try:
            remove(part)
            part.mkdir()
            yield part
            for inside in (part, *part.rglob("*")):
                (sync_folder if inside.is_dir() else sync)(inside)
            put(part, path)
        except BaseException:
            remove(part)
            raise


def append_lines(path: Path, lines: Iterable[bytes]) -> int:
    """Append whole lines (each ending in a newline) and return how many.

    When it fails, what was appended so far is taken back; when the process is killed, whole lines and at most one
    torn line stay, and the same command completes them.
    """
    count = 0
    before = size(path)
    with explained_disk_errors(path):
        try:
            with open(path, "ab") as file:
                for line in lines:
                    file.write(line)
                    count += 1
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            cut_back(path, before)
            raise
        if before is None:
            sync_folder(path.parent)
    return count


class Together:
    """Changes to several files of which all happen or, after an error, none.

    What is put waits as ``.part`` until ``finish``. What is appended is there at once, and ``undo`` takes it back. A
    process that is killed while it finishes leaves some files new and some old; the order in which they were put is
    the order in which they get their places.
    """

    def __init__(self) -> None:
        """Nothing is to be done yet."""
        self._waiting: dict[Path, Path | None] = {}
        self._before: dict[Path, int | None] = {}

    def put(self, part: Path, path: Path) -> None:
        """Let a finished ``.part`` wait for its place; what waited for the same place before is gone."""
        self._waiting.pop(path, None)
        self._waiting[path] = part

    def remove(self, path: Path) -> None:
        """Remove a file or folder, and what waits for its place, at the end."""
        if part := self._waiting.pop(path, None):
            remove(part)
        self._waiting[path] = None

    def append(self, path: Path, lines: Iterable[bytes]) -> int:
        """Append lines, and remember where they begin."""
        self._before.setdefault(path, size(path))
        return append_lines(path, lines)

    def finish(self) -> None:
        """Put everything in its place."""
        for path, part in self._waiting.items():
            with explained_disk_errors(path):
                if part is None:
                    remove(path)
                else:
                    put_in_place(part, path)

    def undo(self) -> None:
        """Leave every file as it was."""
        for part in filter(None, self._waiting.values()):
            remove(part)
        for path, before in self._before.items():
            cut_back(path, before)


def size(path: Path) -> int | None:
    """The bytes of a file; None where there is none."""
    return path.stat().st_size if path.exists() else None


def cut_back(path: Path, before: int | None) -> None:
    """Give a file the size that it had; None is no file."""
    if before is None:
        path.unlink(missing_ok=True)
    elif path.exists():
        os.truncate(path, before)


def remove(path: Path) -> None:
    """Remove a file, or a folder with what is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def clear_parts(folder: Path) -> None:
    """Remove what a killed process left unfinished in a folder and below; a folder that it had just moved aside goes
    back."""
    with explained_disk_errors(folder):
        for part in list(folder.rglob(f"*{PART}")):
            place = part.with_name(part.name.removesuffix(OLD))
            if part.name.endswith(OLD) and not place.exists():
                os.replace(part, place)
            else:
                remove(part)


def mend_last_line(path: Path) -> int:
    """Remove what a killed process left of a line, and return how many bytes that was.

    A last line that is whole but for its newline gets one.
    """
    if not path.exists():
        return 0
    with explained_disk_errors(path):
        with open(path, "rb") as file:
            torn = _behind_last_newline(file)
        if _is_object(torn):
            append_lines(path, [b"\n"])
            return 0
        if torn:
            os.truncate(path, path.stat().st_size - len(torn))
    return len(torn)


def _behind_last_newline(file: BinaryIO) -> bytes:
    end, block = file.seek(0, os.SEEK_END), 1 << 16
    while True:
        start = file.seek(max(0, end - block))
        text = file.read()
        newline = text.rfind(b"\n")
        if newline >= 0 or start == 0:
            return text[newline + 1 :]
        block *= 4


def is_torn(line: bytes) -> bool:
    """Whether a killed process left this beginning of a line: it has no newline and is no whole JSON object."""
    return not line.endswith(b"\n") and not _is_object(line)


def _is_object(line: bytes) -> bool:
    """Whether a line is a whole JSON object; no beginning of one is."""
    try:
        return isinstance(msgspec.json.decode(line), dict)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The whole lines of a file with their numbers from 1; memory does not grow with the file."""
    with explained_disk_errors(path), open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not is_torn(line):
                yield number, line


def file_digest(path: Path) -> str:
    """Thirty-two hexadecimal digits (BLAKE2b) of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def sync(path: Path) -> None:
    """Have the system write a file to the disk."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    """Make a rename survive a power cut, where the system lets a folder be opened."""
    if os.name == "posix":
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class Appender:
    """Appends lines one at a time, each in one write, so that a killed process leaves whole lines and at most one torn.

    ``sync`` has the system put what was written on the disk; it is also done at the end.
    """

    def __init__(self, path: Path) -> None:
        """Nothing is opened yet."""
        self._path = path
        self._file: int | None = None
        self._synced = True

    def __enter__(self) -> Self:
        with explained_disk_errors(self._path):
            new = not self._path.exists()
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            if new:
                sync_folder(self._path.parent)
        return self

    def __exit__(self, *error: object) -> None:
        self.sync()
        if self._file is not None:
            os.close(self._file)

    def append(self, line: bytes) -> None:
        """Write a line that ends in a newline.

        Raises:
            RunError: the disk is full; what was written of the line is taken back.
        """
        assert self._file is not None, "an Appender is used in a with block"
        with explained_disk_errors(self._path):
            written = 0
            try:
                while written < len(line):
                    written += os.write(self._file, line[written:] if written else line)
            except OSError:
                os.ftruncate(self._file, os.fstat(self._file).st_size - written)
                raise
        self._synced = False

    def sync(self) -> None:
        """Have the system put what was written on the disk."""
        if not self._synced and self._file is not None:
            self._synced = True
            with explained_disk_errors(self._path):
                os.fsync(self._file)
