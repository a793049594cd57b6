"""What a foreign file is when it is not what its ending says: another format, another encoding.

A file is known by its first bytes. An encoding is never guessed at silently: a guess is part of an error's remedy, as
the command that writes the file again.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from prefkit.errors import InputError


def renamed(format: str) -> str:
    """The remedy for a file whose name says another format."""
    return f"Rename it so that it ends in .{format}; `prefkit import` also takes --format {format}."


_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b\x08", "gzip data", "Rename it so that it ends in .gz, or unpack it with gunzip."),
    (b"\xfd7zXZ\0", "xz data", "Rename it so that it ends in .xz, or unpack it with unxz."),
    (b"\x28\xb5\x2f\xfd", "Zstandard data", "Unpack it with zstd -d."),
    (b"PAR1\x15", "a Parquet file", renamed("parquet")),
    (b"ARROW1\0\0", "an Arrow file", "Save it as Parquet."),
    (b"PK\x03\x04", "a zip archive, as .xlsx is one", f"If it is no workbook, unzip it; if it is: {renamed('xlsx')}"),
    (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "an old or password-protected Office file",
        f"Save it as CSV, or, if it is a workbook: {renamed('xls')}",
    ),
    (b"%PDF-", "a PDF", "Export the table itself, as CSV or JSON."),
    (b"SQLite format 3\0", "an SQLite database", "Export the table: sqlite3 -header -csv FILE 'select * from TABLE'."),
    (b"{\\rtf", "a rich text document", "Save it as plain text."),
    (b"\xff\xfe\0\0", "UTF-32 text, as its byte order mark says", ""),
    (b"\xff\xfe", "UTF-16 text, as its byte order mark says", ""),
    (b"\xfe\xff", "UTF-16 text, as its byte order mark says", ""),
    (
        b"version https://git-lfs.github.com/",
        "a Git LFS pointer instead of the data",
        "Fetch the file itself: git lfs pull.",
    ),
)
_FREQUENT = "的一是不我了有在人你他这来说到们就要会好很没对吗"
_WESTERN = "äöüßÄÖÜàâæçéèêëîïôœùûÀÂÇÉÈÊÔáíóúñ¿¡ÁÍÓÚÑãõåøìòÅØ‘’“”„«»–—…•€£§°´\xa0"
_HTML = (b"<!doctype", b"<html", b"<head", b"<body", b"<table", b"<meta", b"<script", b"<div", b"<style")


def disguise(head: bytes) -> tuple[str, str] | None:
    """What a file's first bytes are known to be, other than text of ours, and what to do about it."""
    for signature, name, remedy in _SIGNATURES:
        if head.startswith(signature):
            return name, remedy
    if head.startswith(b"BZh") and head[4:10] == b"1AY&SY":
        return "bzip2 data", "Rename it so that it ends in .bz2, or unpack it with bunzip2."
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if start.startswith(_HTML):
        return "an HTML page", "It may be a login or an error page: open it in a browser, and download the file itself."
    if start.startswith(b"<?xml"):
        return "XML", "Export it as CSV, JSON or .xlsx."
    return None


def describe(head: bytes) -> tuple[str, str]:
    """What a file that begins with these bytes seems to be, and what to do about it."""
    if any(byte < 9 for byte in head):
        return (
            f"something else (it begins with {head[:12]!r})",
            "It is damaged or not what its name says: fetch it again.",
        )
    return disguise(head) or ("plain text", f"If it is a table in text (csv, tsv, jsonl or json): {renamed('csv')}")


def check_disguise(path: Path, head: bytes, expected: str) -> None:
    """Raise an InputError where a text file begins like something else."""
    if known := disguise(head):
        raise InputError(path, known[0], expected, known[1] or _rewrite(path, known[0].split()[0]))


def nul_fault(path: Path, number: int, block: bytes) -> InputError:
    """The fault of a NUL byte in line `number`; every second byte of `block` being one tells of UTF-16."""
    if block.count(b"\0") > len(block) // 4:
        remedy = "It looks like UTF-16LE; look at the result: " + _rewrite(path, "UTF-16LE")
        return InputError(f"{path}:{number}", "NUL bytes, as UTF-16 text has them", "UTF-8", remedy)
    remedy = "Is it a text file, whole and undamaged? If so: tr -d '\\000' < FILE > CLEAN"
    return InputError(f"{path}:{number}", "a NUL byte", "text", remedy)


def encoding_fault(path: Path, number: int, data: bytes, position: int, place: str) -> InputError:
    """The fault of a byte in line `number` that is no UTF-8: the one at `position` in `data`; `place` is for people."""
    guess = _likely_encoding(data[max(0, position - 2_000) : position + 2_000])
    about = f"It looks like {guess}; look at the result" if guess else "Ask what encoding it was saved in, then"
    return InputError(
        f"{path}:{number}",
        f"byte 0x{data[position]:02X}, which is not UTF-8 ({place})",
        "UTF-8",
        f"{about}: {_rewrite(path, guess or 'ENCODING')}",
    )


def _likely_encoding(sample: bytes) -> str | None:
    """GB18030 where it gives frequent Chinese letters, Windows-1252 where it gives single Western ones, else None."""
    runs = re.findall(rb"[\x80-\xff]+", sample)
    chinese = [letter for letter in sample.decode("gb18030", "replace") if "\u4e00" <= letter <= "\u9fff"]
    if sum(letter in _FREQUENT for letter in chinese) >= max(3, len(chinese) / 10):
        return "GB18030"
    western = set(b"".join(runs).decode("cp1252", "replace")) <= set(_WESTERN)
    return "WINDOWS-1252" if western and max(map(len, runs)) <= 2 else None


def _rewrite(path: Path, encoding: str) -> str:
    """The command that writes a file again as UTF-8."""
    unpack = {".gz": "gzip -dc", ".bz2": "bzip2 -dc", ".xz": "xz -dc"}.get(path.suffix.lower())
    plain = path.with_suffix("") if unpack else path
    name, target = shlex.quote(str(path)), shlex.quote(f"{plain.stem}.utf8{plain.suffix}")
    convert = f"iconv -f {encoding} -t UTF-8"
    return f"{unpack} {name} | {convert} > {target}" if unpack else f"{convert} {name} > {target}"
