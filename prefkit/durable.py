"""Files that survive a crash: replaced whole or not at all, appended a line at a time.

``replacing`` writes to ``NAME.part`` and renames it at the end, so that a reader sees the old file or the new one.
``append_lines`` adds whole lines and takes them back if the disk fills up. ``drop_torn_line`` removes what a killed
process left of a line. A reader (``read_lines``) takes no notice of a last line without its newline: it is not
written yet.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from prefkit.errors import RunError

PART = ".part"


@contextlib.contextmanager
def explained_disk_errors(path: Path) -> Iterator[None]:
    """Turn what an operating system says about a full or closed disk into a message with a remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            remedy = "Nothing was changed. Make room and run the same command again."
            raise RunError(path, "no space left on the disk", "room for this file", remedy) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            remedy = "Check who owns the folder, or work on a copy."
            raise RunError(path, (error.strerror or "").lower(), "a file that may be written", remedy) from None
        raise


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A binary file that takes the place of ``path`` when the block ends without an error, and vanishes otherwise."""
    part = path.with_name(path.name + PART)
    with explained_disk_errors(path):
        try:
            with open(part, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
            sync_folder(path.parent)
        except BaseException:
            part.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A new folder that takes the place of ``path`` when the block ends without an error, and vanishes otherwise."""
    part, old = path.with_name(path.name + PART), path.with_name(path.name + ".old" + PART)
    with explained_disk_errors(path):
        for left in (part, old):
            shutil.rmtree(left, ignore_errors=True)
        part.mkdir()
        try:
            yield part
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        if path.exists():
            os.replace(path, old)
        os.replace(part, path)
        sync_folder(path.parent)
        shutil.rmtree(old, ignore_errors=True)


def append_lines(path: Path, lines: Iterable[bytes]) -> int:
    """Append whole lines (each ending in a newline) and return how many.

    When it fails, what was appended so far is taken back; when the process is killed, whole lines and at most one
    torn line stay, and the same command completes them.
    """
    count = 0
    with explained_disk_errors(path):
        before = path.stat().st_size if path.exists() else 0
        try:
            with open(path, "ab") as file:
                for line in lines:
                    file.write(line)
                    count += 1
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            if path.exists():
                os.truncate(path, before)
            raise
    return count


def drop_torn_line(path: Path) -> int:
    """Remove what stands behind the last newline; return how many bytes that was."""
    if not path.exists():
        return 0
    with open(path, "rb+") as file:
        size = end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - (1 << 16))
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        file.truncate(end)
    return size - end


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The whole lines of a file with their numbers from 1; memory does not grow with the file."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if line.endswith(b"\n"):
                yield number, line


def file_digest(path: Path) -> str:
    """Thirty-two hexadecimal digits (BLAKE2b) of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def sync_folder(path: Path) -> None:
    """Make a rename survive a power cut, where the system lets a folder be opened."""
    if os.name == "posix":
        folder = os.open(path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
