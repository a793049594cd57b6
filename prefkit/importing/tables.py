"""Rows of binary tables: Parquet, Arrow streams, Excel workbooks.

Reads   .parquet and .arrow with pyarrow, 256 rows at a time; .xlsx and .xls with calamine, a sheet at a time
Gives   Rows with Python values: text, numbers, dates, lists, dictionaries, None

Workbooks are read with python-calamine: eight releases in the last nine months where openpyxl had none for two years,
both old and new formats, and the same cells as openpyxl on our data in a sixth to a third of the time. It holds a
sheet as a full rectangle, so the corners of the sheets are looked at first: one stray cell in the last column would
take all memory. A whole number comes as `int`, since Excel has one kind of number. A cell with an error, or with a
formula that no spreadsheet program has computed yet, is empty.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefkit.errors import InputError
from prefkit.importing.delimited import column_names
from prefkit.importing.disguises import describe
from prefkit.importing.opening import MAX_RAW, Progress, Row, check_file, one_line, open_file

if TYPE_CHECKING:
    from python_calamine import CalamineSheet

BATCH = 256  # rows
MAX_CELLS = 50_000_000  # of a sheet's rectangle; about 2 GB
MAX_UNPACKED = 4 * 2**30  # bytes of a workbook's parts
_ZIP, _OLD_OFFICE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_NO_VALUE = (ValueError, OverflowError, RuntimeError, TypeError, LookupError)  # bad UTF-8, a date beyond 9999, ...
_FETCH = "It is damaged or cut short: fetch it again, or export it as CSV or JSON Lines."


def read_parquet(path: Path, progress: Progress | None) -> Iterator[Row]:
    """The rows of a Parquet file; a column is read page by page, so that a large row group does not fill the memory."""
    import pyarrow.parquet as pq

    _check_start(path, b"PAR1", "a Parquet file")
    with open_file(path) as file:
        with _undamaged(path, "Parquet"):
            table = pq.ParquetFile(file, pre_buffer=False, buffer_size=2**20)
            total, names = table.metadata.num_rows, list(table.schema_arrow.names)
        yield from _batches(path, table.iter_batches(batch_size=BATCH, use_threads=False), names, total, progress)


def read_arrow(path: Path, progress: Progress | None) -> Iterator[Row]:
    """The rows of an Arrow stream, as `datasets.save_to_disk` writes it."""
    import pyarrow as pa

    with open_file(path) as file:
        with _undamaged(path, "Arrow"):
            stream = pa.ipc.open_stream(file)
            names = list(stream.schema.names)
        yield from _batches(path, _pieces(stream), names, None, progress)


def _pieces(stream: Iterator[Any]) -> Iterator[Any]:
    for batch in stream:
        batch.validate(full=True)  # pyarrow follows damaged offsets out of its memory
        yield from (batch.slice(start, BATCH) for start in range(0, batch.num_rows, BATCH))


def _check_start(path: Path, signature: bytes, expected: str) -> None:
    check_file(path)
    with open_file(path) as file:
        head = file.read(256)
    if not head.startswith(signature):
        raise InputError(path, describe(head)[0], expected, describe(head)[1])


@contextmanager
def _undamaged(path: Path, kind: str) -> Iterator[None]:
    """Turn what a library says of a damaged file, in errors of many kinds, into an InputError."""
    try:
        yield
    except InputError:
        raise
    except Exception as fault:  # noqa: BLE001
        found = f"{kind} data that cannot be read ({one_line(fault)})"
        raise InputError(path, found, "a whole file", _FETCH) from None


def _batches(
    path: Path, batches: Iterator[Any], names: list[str], total: int | None, progress: Progress | None
) -> Iterator[Row]:
    """The rows of record batches; a row with a value that Python cannot hold is broken."""
    column_names(str(path), names)
    size, number = path.stat().st_size, 0
    while True:
        with _undamaged(path, "table"):
            batch = next(batches, None)
        if batch is None:
            return
        try:
            values = batch.to_pylist()
        except _NO_VALUE:
            yield from (_row(batch, names, place, number + place + 1) for place in range(batch.num_rows))
        else:
            yield from map(Row, range(number + 1, number + 1 + len(values)), values)
        number += batch.num_rows
        if progress and total:
            progress(size * number // total)


def _row(batch: Any, names: list[str], place: int, number: int) -> Row:
    """One row, value by value, to find the one that cannot be read."""
    values: dict[str, Any] = {}
    broken = None
    for index, name in enumerate(names):
        try:
            values[name] = batch.column(index)[place].as_py()
        except _NO_VALUE as fault:
            broken = broken or f"a value under {name!r} that cannot be read ({one_line(fault)})"
    return Row(number, values, broken)


def read_workbook(path: Path, sheet: str | None, progress: Progress | None) -> Iterator[Row]:
    """The rows of a workbook's sheet: the one named, or the only visible one with cells. Empty rows are skipped."""
    size = check_file(path)
    _check_workbook(path)
    name, table = _open_sheet(path, sheet)
    cells = table.to_python()
    if not cells or table.start is None:
        return
    top = table.start[0] + 1
    header = [_text(cell) for cell in cells[0]]
    used = [place for place, cell in enumerate(header) if cell.strip() or any(row[place] != "" for row in cells[1:])]
    columns = column_names(f"{path}:{name}:{top}", [header[place] for place in used])
    for number, row in enumerate(cells[1:], top + 1):
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


def _check_workbook(path: Path) -> None:
    """Raise an InputError where a file is no workbook, or one that would not fit into memory."""
    with open_file(path) as file:
        head = file.read(256)
        if head.startswith(_OLD_OFFICE):
            if "EncryptedPackage".encode("utf-16-le") in head + file.read():
                raise _locked(path)
            return
    if not head.startswith(_ZIP):
        raise InputError(path, describe(head)[0], "an Excel workbook", describe(head)[1])
    with _undamaged(path, "workbook"), zipfile.ZipFile(path) as parts:
        _check_parts(path, parts)


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


def _open_sheet(path: Path, sheet: str | None) -> tuple[str, CalamineSheet]:
    from python_calamine import CalamineWorkbook, PasswordError, SheetTypeEnum, SheetVisibleEnum

    with _undamaged(path, "workbook"), open_file(path) as file:
        try:
            book = CalamineWorkbook.from_filelike(file)
        except PasswordError:
            raise _locked(path) from None
        kept = [page for page in book.sheets_metadata if page.typ == SheetTypeEnum.WorkSheet]
        names = [page.name for page in kept]
        if sheet is not None:
            if sheet not in names:
                found = f"no sheet {sheet!r}, but {', '.join(map(repr, names))}"
                raise InputError(path, found, "one of its sheets", "Look at the spelling of --sheet.")
            return sheet, book.get_sheet_by_name(sheet)
        visible = [page.name for page in kept if page.visible == SheetVisibleEnum.Visible]
        sheets = {name: book.get_sheet_by_name(name) for name in visible or names}
    filled = [name for name, page in sheets.items() if page.height]
    if len(filled) > 1:
        found = f"{len(filled)} sheets with cells: {', '.join(map(repr, filled))}"
        raise InputError(path, found, "one, or the name of one", f"Add --sheet {filled[0]!r}, or another of them.")
    if not filled:
        raise InputError(path, "no cells", "a sheet with a header and rows", "Is it the right workbook?")
    return filled[0], sheets[filled[0]]


def _locked(path: Path) -> InputError:
    remedy = "Open it, take the password off (File, Info, Protect), and save it."
    return InputError(path, "a workbook with a password", "one without", remedy)
