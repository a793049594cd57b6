r"""Rows of CSV and TSV files.

Fields are quoted as spreadsheets do it: a field that holds the delimiter, a quote or a new line stands in quotes, and
its quotes are doubled. The delimiter is the ending's, comma or tab; only where the header has a single column under
it are comma, semicolon, tab and | tried. Blank lines are skipped. A first column without a name is pandas' index, and
is called `index`.

A row with another number of fields than the header, or with a quote out of place, is a broken Row and the next line
is read. A quote that is never closed takes the rest of the file with it, which is an InputError at the line where its
row starts.
"""

from __future__ import annotations

import csv
import itertools
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from prefkit.errors import InputError
from prefkit.rows.opening import MAX_LINE, MAX_RAW, Progress, Row, broken_row, decode_line, lines

DELIMITERS = ",;\t|"

logger = logging.getLogger(__name__)


def column_names(where: str, cells: Sequence[str]) -> list[str]:
    """The columns that a header names.

    Raises:
        InputError: a name is missing or doubled, or all are numbers; `where` is the header's place.
    """
    names = [cell.strip() for cell in cells]
    if not names:
        raise InputError(where, "no columns", "a table", "Export it again.")
    if names[0] == "" and len(names) > 1 and "index" not in names:
        names[0] = "index"
    if "" in names:
        raise InputError(
            where,
            f"no name for column {names.index('') + 1} of {len(names)}",
            "a header that names every column",
            "Name the column or delete it; delete what stands above the header.",
        )
    if doubled := next((name for place, name in enumerate(names) if name in names[:place]), None):
        raise InputError(where, f"the column {doubled!r} twice", "a name for each column", "Rename one of the two.")
    if all(map(_is_number, names)):
        found = f"only numbers in the header ({', '.join(names[:5])})"
        raise InputError(where, found, "the columns' names", "Put a header above the rows.")
    return names


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def read_delimited(path: Path, delimiter: str, progress: Progress | None) -> Iterator[Row]:
    """The rows of a CSV or TSV file; `delimiter` is tried first."""
    # One limit for the process; csv's own 128 KiB cuts long dialogues.
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))
    physical = lines(path, "a text table", progress)
    head = _first_lines(physical)
    chosen = _delimiter([line.decode("utf-8", "replace") for line in head], delimiter)
    if chosen != delimiter:
        logger.info("%s: the header has one column by %r; fields are divided by %r", path, delimiter, chosen)
    feed = _Feed(path, itertools.chain(head, physical))
    header: list[str] | None = None
    for cells in _records(feed, chosen):
        if isinstance(cells, str):
            if header is None:
                raise InputError(f"{path}:{feed.start}", cells, "a header", "Write the columns' names, without quotes.")
            yield broken_row(feed.start, "".join(feed.raw), cells)
        elif len(cells) == 1 and not cells[0].strip() and (header is None or len(header) > 1):
            continue
        elif header is None:
            header = column_names(f"{path}:{feed.start}", cells)
        elif len(cells) != len(header):
            found = f"{len(cells)} field{'s' * (len(cells) != 1)}, where the header has {len(header)}"
            yield broken_row(feed.start, "".join(feed.raw), found)
        else:
            yield Row(feed.start, dict(zip(header, cells, strict=True)))
    if header is None:
        raise InputError(path, "only blank lines", "a header and rows", "Export it again.")


def _first_lines(physical: Iterator[bytes]) -> list[bytes]:
    """Enough lines to know the delimiter by."""
    head: list[bytes] = []
    while len(head) < 20 and sum(map(len, head)) < MAX_LINE and (line := next(physical, None)):
        head.append(line)
    return head


def _delimiter(head: Sequence[str], default: str) -> str:
    """The default; where that gives one column, the delimiter that gives most, in the header as in the row below it."""
    widths = {mark: _widths(head, mark) for mark in default + DELIMITERS.replace(default, "")}
    if widths[default][:1] != [1]:
        return default
    fitting = [mark for mark, found in widths.items() if found and found[0] > 1 and len(set(found)) == 1]
    return max(fitting, key=lambda mark: widths[mark][0], default=default)


def _widths(head: Sequence[str], delimiter: str) -> list[int]:
    """How many fields the header and the row below it have under a delimiter."""
    try:
        return [len(cells) for cells in itertools.islice(filter(None, csv.reader(head, delimiter=delimiter)), 2)]
    except csv.Error:
        return []


class _Feed:
    """Text lines for csv.reader, with the place and the words of the row in hand."""

    def __init__(self, path: Path, physical: Iterator[bytes]) -> None:
        self.path, self.physical = path, physical
        self.number = 0
        self.begin()

    def begin(self) -> None:
        """Start a row with the next line."""
        self.start = self.number + 1
        self.raw: list[str] = []
        self.kept = 0
        self.surrogates = False

    def __iter__(self) -> Iterator[str]:
        for line in self.physical:
            self.number += 1
            text, surrogates = decode_line(self.path, self.number, line)
            if self.kept < MAX_RAW:
                self.raw.append(text)
                self.kept += len(text)
            if surrogates:
                self.surrogates = True
            yield text


def _records(feed: _Feed, delimiter: str) -> Iterator[list[str] | str]:
    """The cells of each row that is not blank, or what was found instead of them."""
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        feed.begin()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as fault:
            yield _quoting_fault(feed, str(fault))
            continue
        if feed.surrogates:
            yield "half a character (a lone surrogate), which UTF-8 cannot hold"
        elif cells:
            yield cells


def _quoting_fault(feed: _Feed, fault: str) -> str:
    """What was found, in a row that csv refuses; where it took the rest of the file with it, an InputError."""
    where = f"{feed.path}:{feed.start}"
    if "unexpected end" in fault:
        found = f"a quote in this row that is still open at the end of the file, in line {feed.number:,}"
        raise InputError(where, found, "a closing quote", "Close it, or double it where it belongs to the text.")
    if "field limit" in fault:
        found = f"a field of more than {csv.field_size_limit():,} characters, as far as line {feed.number:,}"
        raise InputError(where, found, "a closing quote", "Look for a quote in this row that is never closed.")
    if "expected after" in fault:
        return "a quote inside a quoted field that is not doubled"
    return f"a row that is not CSV ({fault})"
