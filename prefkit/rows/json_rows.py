r"""Rows of JSON Lines and JSON files.

JSON is an array of objects, or {"data": such an array}, or an object of columns of one length; which of the latter
two is logged. Arrays are read element by element with the standard library's scanner: ijson 3.6 turned a lone
surrogate into "?" without a word, and was killed for its memory on 100,000 open brackets. An object of columns is
read whole, at most 512 MiB a column.

What Python's json takes but JSON does not have (NaN, 1e999, half a surrogate pair) and keys that stand twice in one
object break a row, because another reader would see another value there.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from prefkit.errors import InputError
from prefkit.rows.disguises import encoding_fault, nul_fault, renamed
from prefkit.rows.opening import (
    MAX_LINE,
    MAX_RAW,
    Progress,
    Row,
    broken_row,
    decode_line,
    lines,
    text_blocks,
)

MAX_COLUMN = 512 * 2**20  # characters
_RECORDS = "a JSON array of objects"
_AS_RECORDS = 'Write it as JSON Lines; from pandas: df.to_json(FILE, orient="records", lines=True).'

logger = logging.getLogger(__name__)
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode
_solid = re.compile(r"[^ \t\r\n]")


def read_json_lines(path: Path, progress: Progress | None) -> Iterator[Row]:
    r"""The rows of a JSON Lines file.

    A doubled key shows in the colons: an object written again has as many as the line that it was read from, unless
    a key was lost or the line spells a colon \u003a. Only such lines are looked at key by key.
    """
    first = True
    for number, line in enumerate(lines(path, "JSON Lines", progress), 1):
        values: Any = None
        found = ""
        try:
            values = _decode(line)
            odd = line.count(b":") != _encode(values).count(b":") or b"\\u003" in line
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as fault:
            if not line.strip():
                continue
            odd, found = True, f"text that is not JSON ({fault})"
        if first:
            _check_json_lines(f"{path}:{number}", line.strip(), values)
            first = False
        if odd:
            found = explain_json(decode_line(path, number, line)[0].rstrip("\r\n")) or found
        if not found and isinstance(values, dict):
            yield Row(number, values)
        else:
            yield broken_row(number, line, found or f"{_kind(values)} instead of an object")


def _check_json_lines(where: str, line: bytes, values: object) -> None:
    """Tell a JSON file from JSON Lines by the first line that is not blank."""
    records = isinstance(values, list) and all(isinstance(value, dict) for value in values)
    if line.startswith(b"[") and (values is None or records):
        raise InputError(where, "a JSON array", "one object a line", renamed("json"))
    if values is None and line.startswith(b"{") and line.endswith((b"{", b"[", b",")):
        raise InputError(
            where, "an object over several lines", "one object a line", "Write it again: jq -c . FILE > LINES.jsonl"
        )


def explain_json(text: str) -> str | None:
    """What was found in a JSON text that is not as the standard has it; None where it is in order."""
    faults: list[str] = []

    def constant(name: str) -> None:
        faults.append(f"{name}, which is not a JSON number")

    def number(digits: str) -> float:
        value = float(digits)
        if math.isinf(value):
            faults.append(f"the number {digits[:40]}, which is beyond 64 bits")
        return value

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        values = dict(pairs)
        if len(values) < len(pairs):
            names = [name for name, _ in pairs]
            faults.append(f"the key {next(name for name in names if names.count(name) > 1)!a} twice in one object")
        return values

    try:
        _encode(json.loads(text, parse_constant=constant, parse_float=number, object_pairs_hook=members))
    except json.JSONDecodeError as fault:
        return f"text that is not JSON ({_words(fault)}, column {fault.colno:,})"
    except RecursionError:
        return "values nested too deep"
    except UnicodeEncodeError:
        return "half a character (a lone surrogate), which UTF-8 cannot hold"
    except ValueError:
        return "a whole number of more than 4,300 digits"
    return faults[0] if faults else None


def _words(fault: json.JSONDecodeError) -> str:
    return fault.msg.removesuffix(" at").removesuffix(" starting")


def _kind(value: object) -> str:
    kinds = {dict: "an object", list: "an array", str: "a string", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def read_json(path: Path, progress: Progress | None) -> Iterator[Row]:
    """The rows of a JSON file, in any of the three shapes."""
    cursor = _Cursor(path, progress)
    start = cursor.peek()
    if start == "[":
        yield from _elements(cursor)
        cursor.end()
    elif start == "{":
        yield from _object(cursor)
    elif start:
        value, _ = cursor.value("the file")
        cursor.end()
        raise InputError(path, f"a single value, {_kind(value)}", _RECORDS, _AS_RECORDS)


def _elements(cursor: _Cursor) -> Iterator[Row]:
    """The rows of an array of objects."""
    cursor.take("[")
    number = 0
    while cursor.peek() != "]":
        number += 1
        value, odd = cursor.value(f"element {number:,}")
        if type(value) is not dict:
            if number == 1:
                found = odd or f"an array that begins with {_kind(value)}"
                remedy = "Give the values a name: jq -c '.[] | {text: .}' FILE > ROWS.jsonl"
                raise InputError(cursor.place(), found, _RECORDS, remedy)
            odd = odd or f"{_kind(value)} instead of an object"
        yield broken_row(number, cursor.raw(), odd) if odd else Row(number, value)
        cursor.separate("]")
    cursor.take("]")


def _object(cursor: _Cursor) -> Iterator[Row]:
    """The rows of {"data": [...]}, or of an object of columns."""
    path, columns = cursor.path, dict[str, Any]()
    rows: int | None = None
    cursor.take("{")
    while cursor.peek() != "}":
        name, _ = cursor.value("a key")
        if not isinstance(name, str) or name in columns:
            found = f"the key {name!a} twice" if isinstance(name, str) else f"{_kind(name)} as a key"
            raise InputError(cursor.place(), found, "names, once each", "Mend the object's keys.")
        cursor.take(":")
        if name == "data" and cursor.peek() == "[" and cursor.peek(after="[") == "{":
            logger.info('%s: an object with its rows under "data"', path)
            rows, columns[name] = 0, None
            for row in _elements(cursor):
                rows = row.number
                yield row
        else:
            columns[name], odd = cursor.value(f"the column {name!a}", limit=MAX_COLUMN)
            if odd:
                raise InputError(cursor.place(), f"{odd}, under {name!a}", "JSON as the standard has it", _AS_RECORDS)
        cursor.separate("}")
    cursor.take("}")
    cursor.end()
    if rows is None:
        yield from _columns(path, columns)
    elif twin := next(
        (name for name, value in columns.items() if isinstance(value, list) and len(value) == rows), None
    ):
        found = f'{rows:,} objects under "data" and as many values under {twin!a}'
        raise InputError(path, found, "either rows or columns", "Leave one of the two in the file.")


def _columns(path: Path, columns: dict[str, Any]) -> Iterator[Row]:
    """The rows of an object whose values are lists of one length."""
    names, values = list(columns), list(columns.values())
    if not columns or not all(isinstance(value, list) for value in values):
        if columns and all(isinstance(value, dict) for value in values):
            raise InputError(path, "an object of objects", _RECORDS, _AS_RECORDS)
        remedy = "If it is one row, put it in brackets; if the rows are inside it, take them out with jq."
        raise InputError(path, f"a single object ({', '.join(names[:3]) or 'without keys'})", _RECORDS, remedy)
    if len(values) == 1 and values[0] and isinstance(values[0][0], dict):
        remedy = (
            f"""If they are rows, call it "data", or take them out: jq '.[{json.dumps(names[0])}]' FILE > ROWS.json"""
        )
        raise InputError(path, f"an object with one array of objects, {names[0]!a}", _RECORDS, remedy)
    if odd := next((name for name in names if len(columns[name]) != len(values[0])), None):
        found = f"{len(values[0]):,} values under {names[0]!a} and {len(columns[odd]):,} under {odd!a}"
        raise InputError(path, found, "columns of one length, or an array of objects", _AS_RECORDS)
    logger.info("%s: an object of %d columns", path, len(columns))
    for number, cells in enumerate(zip(*values, strict=True), 1):
        yield Row(number, dict(zip(names, cells, strict=True)))


class _Cursor:
    """A place in a JSON file, of which a window is in memory: from the value in hand to the end of the block."""

    def __init__(self, path: Path, progress: Progress | None) -> None:
        self.path = path
        self.blocks = text_blocks(path, "JSON", progress)
        self.text, self.at = "", 0
        self.line = 1  # of the window's first character
        self.began = 0  # where the last value did
        self.decoded = 0  # bytes
        self.rest = b""  # the first bytes of a character that goes on in the next block
        self.odd = False
        self.scan = json.JSONDecoder(parse_constant=self._constant, parse_float=self._number).raw_decode

    def _constant(self, _name: str) -> None:
        self.odd = True

    def _number(self, digits: str) -> float:
        value = float(digits)
        self.odd = self.odd or math.isinf(value)
        return value

    def _more(self) -> bool:
        """Move the window on: as much again as it still holds, at least a block. False at the end of the file."""
        self.line += self.text.count("\n", 0, self.at)
        kept = self.text[self.at :]
        parts, wanted = [kept], max(1, len(kept))
        while wanted > 0:
            block = next(self.blocks, b"")
            data = self.rest + block
            if not data:
                break
            if b"\0" in block:
                raise nul_fault(self.path, self._line_of(parts, data, data.index(b"\0")), data)
            end = _whole(data) if block else len(data)
            self.rest = data[end:]
            parts.append(self._decoded(data[:end], parts))
            wanted -= len(parts[-1])
        self.text, self.at = "".join(parts), 0
        return len(self.text) > len(kept)

    def _decoded(self, data: bytes, before: list[str]) -> str:
        try:
            text = data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as fault:
            number = self._line_of(before, data, fault.start)
            place = f"byte {self.decoded + fault.start + 1:,} of the file"
            raise encoding_fault(self.path, number, data, fault.start, place) from None

        self.decoded += len(data)
        return text

    def _line_of(self, before: list[str], data: bytes, position: int) -> int:
        return self.line + sum(part.count("\n") for part in before) + data.count(b"\n", 0, position)

    def place(self) -> str:
        """The file and the line in hand."""
        return f"{self.path}:{self.line + self.text.count(chr(10), 0, self.at)}"

    def peek(self, after: str = "") -> str:
        """The next character that is not white space, "" at the end; or the one behind `after`, which comes next."""
        if not after and (mark := self.text[self.at : self.at + 1]) > " ":
            return mark
        while not (found := _solid.search(self.text, self.at + len(after))):
            self.at = self.at if after else len(self.text)
            if not self._more():
                return ""
        self.at = self.at if after else found.start()
        return found.group()

    def take(self, mark: str) -> None:
        """Step over a mark that must come next."""
        if (found := self.peek()) != mark:
            raise self._malformed(ascii(found) if found else "the end of the file", repr(mark))
        self.at += 1

    def separate(self, close: str) -> None:
        """Step over the comma before another value; stay before `close`."""
        if self.peek() != close:
            self.take(",")
            if self.peek() == close:
                raise self._malformed(f"a comma before {close!r}", "a value")

    def end(self) -> None:
        """Be at the end of the file."""
        mark = self.peek()
        if mark and mark in "{[":
            remedy = f"If it has one a line: {renamed('jsonl')}"
            raise InputError(self.place(), "a second JSON value", "one JSON array", remedy)
        if mark:
            raise self._malformed(f"{mark!a} behind the last value", "the end of the file")

    def value(self, what: str, limit: int = MAX_LINE) -> tuple[Any, str | None]:
        """The value that comes next, and what is odd about it."""
        self.peek()
        while True:
            self.odd = False
            try:
                value, end = self.scan(self.text, self.at)
            except json.JSONDecodeError as fault:
                held, position = len(self.text) - self.at, fault.pos - self.at
                cut = fault.msg.startswith("Unterminated") or position >= held - 12
                if cut and held > limit:
                    found = f"more than {limit:,} characters without an end, in {what}"
                    remedy = "Look for a quote or a bracket that is never closed."
                    raise InputError(self.place(), found, "smaller values", remedy) from None
                if not cut or not self._more():
                    raise self._not_json(_words(fault), position, what) from None
                continue
            except (RecursionError, ValueError) as fault:
                deep = isinstance(fault, RecursionError)
                found = f"{'values nested too deep' if deep else 'a whole number of more than 4,300 digits'}, in {what}"
                raise InputError(self.place(), found, "plain records", _AS_RECORDS) from None
            length = end - self.at
            if end < len(self.text) or not self._more():
                break
        self.began, self.at = self.at, self.at + length
        return value, explain_json(self.text[self.began : self.at]) if self.odd or self._lost_keys(value) else None

    def raw(self) -> str:
        """The beginning of the last value's text."""
        return self.text[self.began : min(self.at, self.began + MAX_RAW)]

    def _lost_keys(self, value: Any) -> bool:
        """Whether keys may have stood twice, as told by the colons; or the value cannot be written at all."""
        try:
            written = _encode(value).count(b":")
        except (UnicodeEncodeError, RecursionError):
            return True
        return (
            written != self.text.count(":", self.began, self.at) or self.text.find("\\u003", self.began, self.at) >= 0
        )

    def _not_json(self, message: str, position: int, what: str) -> InputError:
        self.at += position
        if message.startswith("Unterminated") or not self.text[self.at :].strip():
            remedy = "It is cut short: fetch it again."
            return InputError(self.place(), f"the end of the file inside {what}", "whole JSON", remedy)
        return self._malformed(f"text that is not JSON ({message}, in {what})", "JSON")

    def _malformed(self, found: str, expected: str) -> InputError:
        return InputError(self.place(), found, expected, "See where it breaks: python -m json.tool FILE")


def _whole(data: bytes) -> int:
    """How many of the bytes end with a whole character; the last character of several bytes may go on."""
    if data[-1] < 0x80:
        return len(data)
    return max((place for place in range(max(0, len(data) - 4), len(data)) if data[place] >= 0xC0), default=len(data))
