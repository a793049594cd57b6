"""Open a foreign file: what a row is, unpacking, decoding, lines.

Reads   one file's bytes, through gzip, bzip2 or xz where the ending says so
Gives   blocks or lines of UTF-8 text; an InputError with the line where that cannot be

Only a block of the file (or one line, at most 32 MiB) is in memory. Text is UTF-8, with or without a byte order mark;
another encoding is named where it can be told, never guessed at silently. The bytes of a lone surrogate (what Java
and Oracle call UTF-8) spoil their row and not the file.
"""

from __future__ import annotations

import bz2
import difflib
import gzip
import lzma
import os
import stat
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from prefkit.errors import InputError
from prefkit.rows.disguises import check_disguise, describe, encoding_fault, nul_fault, renamed

MAX_LINE = 32 * 2**20  # bytes; a line, a field, an element of a JSON array
MAX_RAW = 2_000  # characters of a broken row that are kept
BLOCK = 2**18
FETCH = "It is damaged or cut short: fetch it again, or export it as CSV or JSON Lines."
UNPACK: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a foreign file, as the file has it.

    Attributes:
        number: 1-based. The physical line where the row starts in CSV, TSV and JSONL (a header is line 1), the sheet's
            row in a workbook, the element of a JSON array, otherwise the row. In a folder: the row of all its files.
        values: column to value. CSV and TSV hold text, "" for an empty cell; workbooks and Parquet hold None there.
        broken: what was found instead of a whole row, as it would follow "found"; then `values` is what could be read,
            mostly {"raw": the text, cut to 2,000 characters}.
    """

    number: int
    values: dict[str, Any]
    broken: str | None = None


def broken_row(number: int, raw: str | bytes, found: str) -> Row:
    """A row that could not be read, with its text as far as it can be shown."""
    if isinstance(raw, str):
        raw = raw[:MAX_RAW].encode("utf-8", "surrogatepass")
    text = raw[: 4 * MAX_RAW].decode("utf-8", "backslashreplace").rstrip("\r\n")
    return Row(number, {"raw": text[:MAX_RAW]}, found)


def file_status(path: Path) -> os.stat_result:
    """What the system says of a path; a path that leads nowhere is an InputError with the likely reason."""
    try:
        return path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            target = os.readlink(path)
            raise InputError(
                path,
                f"a link to {target}, which does not exist",
                "a file",
                "Bring its target back, or name it directly.",
            ) from None
        near = difflib.get_close_matches(path.name, _names_beside(path), n=1)
        hint = (
            f"Did you mean {path.parent / near[0]}?" if near else "Look at the spelling and at the folder you are in."
        )
        raise InputError(
            path, "nothing under this name", "a file, a folder or a hub id like owner/name", hint
        ) from None
    except PermissionError:
        raise unreadable(path) from None
    except (OSError, ValueError) as fault:
        raise InputError(
            ascii(str(path))[1:201],
            f"a name that the system refuses ({one_line(fault)})",
            "a file",
            "Look at the name.",
        ) from None


def check_file(path: Path) -> int:
    """The size in bytes of a file that has some; anything else is an InputError."""
    status = file_status(path)
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
        raise InputError(path, kind, "a file, which can be read twice", "Save what it gives into a file first.")
    if not status.st_size:
        raise InputError(path, "an empty file (0 bytes)", "a file with rows", "Export or download it again.")
    return status.st_size


def open_file(path: Path) -> IO[bytes]:
    """Open a file's bytes; a refusal is an InputError."""
    try:
        return open(path, "rb")
    except PermissionError:
        raise unreadable(path) from None
    except OSError as fault:
        raise InputError(
            path, f"a file that cannot be opened ({one_line(fault)})", "a readable file", "Look at the disk."
        ) from None


def unreadable(path: Path) -> InputError:
    """The fault of a file or folder that the system does not give to this user."""
    return InputError(
        path,
        "nothing that you may read",
        "a file or a folder of yours",
        f"As its owner: chmod u+rX {path}; or run as a user who may.",
    )


def _names_beside(path: Path) -> list[str]:
    try:
        return [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return []


def one_line(fault: BaseException) -> str:
    """A library's complaint as one short line, without addresses in its source."""
    text = " ".join(str(fault).split())
    return (text or type(fault).__name__)[:200].rstrip(".: ")


@contextmanager
def undamaged(path: Path, kind: str) -> Iterator[None]:
    """Turn what a library says of a damaged file, in errors of many kinds, into an InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as fault:  # noqa: BLE001
        found = f"{kind} data that cannot be read ({one_line(fault)})"
        raise InputError(path, found, "a whole file", FETCH) from None


def blocks(path: Path, progress: Progress | None) -> Iterator[bytes]:
    """The bytes of a file, unpacked, a block at a time; `progress` hears of the bytes read from the disk."""
    unpack = UNPACK.get(path.suffix.lower())
    with open_file(path) as packed:
        stream = unpack(packed, "rb") if unpack else packed
        given = 0
        while block := _read_block(path, stream, packed, given):
            yield block
            given += len(block)
            if progress:
                progress(packed.tell())


def _read_block(path: Path, stream: IO[bytes], packed: IO[bytes], given: int) -> bytes:
    try:
        return stream.read(BLOCK)
    except EOFError:
        raise InputError(
            path,
            f"packed data that breaks off after {given:,} unpacked bytes",
            "a whole file",
            f"The copy is cut short: fetch it again and compare its size ({packed.tell():,} bytes here).",
        ) from None
    except (OSError, zlib.error, lzma.LZMAError) as fault:
        if stream is packed:
            raise InputError(
                path, f"a disk that fails ({one_line(fault)})", "readable bytes", "Copy the file."
            ) from None
        kind = path.suffix.lower()
        if given:
            found = f"{kind} data that is damaged after {given:,} unpacked bytes ({one_line(fault)})"
            raise InputError(path, found, "a whole file", "Fetch it again.") from None
        packed.seek(0)
        found, _ = describe(packed.read(256))
        remedy = f"Drop {kind} from the name if it is not packed; otherwise fetch it again."
        raise InputError(path, found, f"{kind} data, as the name says", remedy) from None


def text_blocks(path: Path, expected: str, progress: Progress | None) -> Iterator[bytes]:
    """The blocks of a text file without its byte order mark; a file that is something else is an InputError."""
    stream = blocks(path, progress)
    head = next(stream, b"")
    check_disguise(path, head[:256], expected)
    if text := head.removeprefix(b"\xef\xbb\xbf"):
        yield text
    yield from stream


def lines(path: Path, expected: str, progress: Progress | None) -> Iterator[bytes]:
    r"""The lines of a text file with their ends: \n, \r\n or \r. A NUL or a line above 32 MiB is an InputError."""
    number, held = 0, 0
    parts: list[bytes] = []
    stream = text_blocks(path, expected, progress)
    for block in stream:
        parts.append(block)
        held += len(block)
        if b"\0" not in block and b"\n" not in block and b"\r" not in block and held <= MAX_LINE:
            continue
        whole = b"".join(parts).splitlines(keepends=True)
        if b"\0" in block:
            inside = next(index for index, line in enumerate(whole, 1) if b"\0" in line)
            raise nul_fault(path, number + inside, block)
        if len(whole[0]) > MAX_LINE:
            raise _long_line(path, number + 1, whole[0], stream)
        parts = [whole.pop()] if not whole[-1].endswith(b"\n") else []
        held = sum(map(len, parts))
        number += len(whole)
        yield from whole
    yield from b"".join(parts).splitlines(keepends=True)


def _long_line(path: Path, number: int, start: bytes, stream: Iterator[bytes]) -> InputError:
    """Measure a line that is too long to hold, as far as 1 GiB."""
    length, part = len(start), start
    while length < 2**30 and not part.endswith((b"\n", b"\r")) and (block := next(stream, b"")):
        part = block.splitlines(keepends=True)[0]
        length += len(part)
    more = "at least " if length >= 2**30 else ""
    return InputError(
        f"{path}:{number}",
        f"a line of {more}{length:,} bytes",
        f"lines of at most {MAX_LINE:,} bytes",
        f"Is it the right format? If it is a JSON array on one line: {renamed('json')}",
    )


def decode_line(path: Path, number: int, line: bytes) -> tuple[str, bool]:
    """A line as text, and whether it holds surrogates; a line that is not UTF-8 is an InputError."""
    try:
        return line.decode("utf-8"), False
    except UnicodeDecodeError:
        try:
            return line.decode("utf-8", "surrogatepass"), True
        except UnicodeDecodeError as fault:
            place = f"byte {fault.start + 1:,} of the line"
            raise encoding_fault(path, number, line, fault.start, place) from None
