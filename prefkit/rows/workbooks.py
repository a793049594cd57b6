"""Rows of Excel workbooks.

Reads   .xlsx and .xls with python-calamine, one sheet, whole
Gives   Rows with Python values: text, numbers, dates, times, True and False, None for an empty cell

Why calamine: eight releases in the last nine months, where openpyxl had none for two years; old and new formats; the
same cells as openpyxl in the three workbooks we tried, in a sixth to a third of the time. Excel has one kind of number,
so a whole one comes as `int`. A cell with an error, or with a formula that no program has computed yet, is empty.

Calamine holds a sheet as a full rectangle, so its corner is looked at first: one stray cell in the last row and column
would take all memory. A damaged .xls can end the process that reads it, so another process does.
"""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefkit.errors import InputError
from prefkit.rows.delimited import column_names
from prefkit.rows.disguises import describe
from prefkit.rows.opening import FETCH, MAX_RAW, Progress, Row, check_file, open_file, undamaged

MAX_CELLS = 50_000_000  # of a sheet's rectangle; about 2 GB
MAX_UNPACKED = 4 * 2**30  # bytes of a workbook's parts
_ZIP, _OLD_OFFICE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"


@dataclass(frozen=True, slots=True)
class Sheet:
    """The cells of a sheet; `top` is the row, from 1, of the first that holds any."""

    name: str
    top: int
    cells: list[list[Any]]


def read_workbook(path: Path, sheet: str | None, progress: Progress | None) -> Iterator[Row]:
    """The rows of a workbook's sheet: the one named, or the only visible one with cells. Empty rows are skipped."""
    size = check_file(path)
    table = open_sheet(path, sheet) if _is_new(path) else _open_apart(path, sheet)
    header = [_text(cell) for cell in table.cells[0]]
    rows = table.cells[1:]
    used = [place for place, cell in enumerate(header) if cell.strip() or any(row[place] != "" for row in rows)]
    columns = column_names(f"{path}:{table.name}:{table.top}", [header[place] for place in used])
    for number, row in enumerate(rows, table.top + 1):
        values = {column: _value(row[place]) for column, place in zip(columns, used, strict=True)}
        if any(value is not None for value in values.values()):
            yield Row(number, values)
    if progress:
        progress(size)


def _value(cell: Any) -> Any:
    if type(cell) is float and cell.is_integer() and abs(cell) < 2**53:
        return int(cell)
    return None if cell == "" else cell


def _text(cell: Any) -> str:
    return str(_value(cell)) if cell != "" else ""


def _is_new(path: Path) -> bool:
    """Whether a workbook is an .xlsx, not an .xls; one that is neither, or is too large, is an InputError."""
    with open_file(path) as file:
        head = file.read(256)
        if head.startswith(_OLD_OFFICE):
            if "EncryptedPackage".encode("utf-16-le") in head + file.read():
                raise _locked(path)
            return False
    if not head.startswith(_ZIP):
        raise InputError(path, describe(head)[0], "an Excel workbook", describe(head)[1])
    with undamaged(path, "workbook"), zipfile.ZipFile(path) as parts:
        _check_parts(path, parts)
    return True


def _check_parts(path: Path, parts: zipfile.ZipFile) -> None:
    sizes = {part.filename: part.file_size for part in parts.infolist()}
    if not any(name.startswith("xl/") for name in sizes):
        found = f"a zip archive without a workbook ({', '.join(sorted(sizes)[:3]) or 'empty'})"
        raise InputError(path, found, "an Excel workbook", "Unzip it, or save the table as .xlsx or CSV.")
    if sum(sizes.values()) > MAX_UNPACKED:
        found = f"a workbook that unpacks to {sum(sizes.values()):,} bytes"
        raise InputError(path, found, f"at most {MAX_UNPACKED:,}", "Export the sheet as CSV.")
    for name in sizes:
        if re.fullmatch(r"xl/worksheets/[^/]+\.xml", name, re.IGNORECASE):
            rows, columns = _corner(path, parts, name)
            if rows * columns > MAX_CELLS:
                found = f"cells as far as row {rows:,} and column {columns:,} of {name}"
                remedy = "Delete the stray cell at its edge (Ctrl+End shows it), or export the sheet as CSV."
                raise InputError(path, found, f"a sheet of at most {MAX_CELLS:,} cells", remedy)


_placed = re.compile(rb"""<(?:\w+:)?(?:c|row)\s[^<>]*?\br\s*=\s*["']([^"'<>]*)["']""")
_reference = re.compile(rb"([A-Z]{0,3})([0-9]{1,7})")


def _corner(path: Path, parts: zipfile.ZipFile, name: str) -> tuple[int, int]:
    """The last row and column that the cells of a sheet name."""
    rows, columns, rest = {0}, {b"A"}, b""
    with parts.open(name) as part:
        while block := part.read(2**20):
            data = rest + block
            for reference in set(_placed.findall(data)):
                if not (found := _reference.fullmatch(reference)):
                    remedy = "It is damaged: save it again with a spreadsheet program."
                    raise InputError(path, f"a cell called {reference[:20]!r} in {name}", "a name like B12", remedy)
                columns.add(found[1])
                rows.add(int(found[2]))
            rows = {max(rows)}
            rest = data[data.rfind(b"<") :][:MAX_RAW]
    return max(rows), max(map(_column_number, columns))


def _column_number(letters: bytes) -> int:
    number = 0
    for letter in letters:
        number = number * 26 + letter - 64
    return number


def open_sheet(path: Path, sheet: str | None) -> Sheet:
    """Read one sheet of a workbook.

    Raises:
        InputError: there is no such sheet, or none is named where several hold cells, or the workbook is damaged.
    """
    from python_calamine import CalamineWorkbook, PasswordError, SheetTypeEnum, SheetVisibleEnum

    with undamaged(path, "workbook"), open_file(path) as file:
        try:
            book = CalamineWorkbook.from_filelike(file)
        except PasswordError:
            raise _locked(path) from None
        kept = [page for page in book.sheets_metadata if page.typ == SheetTypeEnum.WorkSheet]
        names = [page.name for page in kept]
        if sheet is not None and sheet not in names:
            found = f"no sheet {sheet!r}, but {', '.join(map(repr, names))}"
            raise InputError(path, found, "one of its sheets", "Look at its spelling.")
        visible = [page.name for page in kept if page.visible == SheetVisibleEnum.Visible]
        pages = {name: book.get_sheet_by_name(name) for name in ([sheet] if sheet is not None else visible or names)}
        filled = {name: page for name, page in pages.items() if page.start is not None}
        if len(filled) > 1:
            found = f"{len(filled)} sheets with cells: {', '.join(map(repr, filled))}"
            remedy = f"Save the one that is meant as CSV; `prefkit import` also takes --sheet {next(iter(filled))!r}."
            raise InputError(path, found, "one, or the name of one", remedy)
        for name, page in filled.items():
            first_row, _ = page.start or (0, 0)
            return Sheet(name, first_row + 1, page.to_python())
    raise InputError(path, "no cells", "a sheet with a header and rows", "Is it the right workbook?")


def _open_apart(path: Path, sheet: str | None) -> Sheet:
    """`open_sheet` in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    code = f"import sys; from {__name__} import give_sheet; give_sheet(*sys.argv[1:])"
    command = [sys.executable, "-c", code, str(path), *([] if sheet is None else [sheet])]
    done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        raise InputError(path, "workbook data that cannot be read", "a whole file", FETCH)
    result: Sheet | InputError = pickle.loads(done.stdout)
    if isinstance(result, InputError):
        raise result
    return result


def give_sheet(path: str, sheet: str | None = None) -> None:
    """Write what `open_sheet` returns or raises to standard output, for the process that asked."""
    try:
        result: Sheet | InputError = open_sheet(Path(path), sheet)
    except InputError as fault:
        result = fault
    sys.stdout.buffer.write(pickle.dumps(result))


def _locked(path: Path) -> InputError:
    remedy = "Open it, take the password off (File, Info, Protect), and save it."
    return InputError(path, "a workbook with a password", "one without", remedy)
