"""Rows of columnar files: Parquet, and the Arrow streams of `datasets.save_to_disk`.

Reads   .parquet and .arrow with pyarrow, 256 rows at a time
Gives   Rows with Python values: text, numbers, dates, lists, dictionaries, None; a map comes as a list of pairs

Nothing is converted but the values that Python cannot hold (text that is not UTF-8, a date beyond the year 9999), which
break their row.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefkit.errors import InputError
from prefkit.rows.delimited import column_names
from prefkit.rows.disguises import describe
from prefkit.rows.opening import Progress, Row, check_file, one_line, open_file, undamaged

BATCH = 256  # rows
_NO_VALUE = (ValueError, OverflowError, RuntimeError, TypeError, LookupError)


def read_parquet(path: Path, progress: Progress | None) -> Iterator[Row]:
    """The rows of a Parquet file; a column is read page by page, so that a large row group does not fill the memory."""
    import pyarrow.parquet as pq

    _check_start(path, b"PAR1", "a Parquet file")
    with open_file(path) as file:
        with undamaged(path, "Parquet"):
            table = pq.ParquetFile(file, pre_buffer=False, buffer_size=2**20)
            total, names = table.metadata.num_rows, list(table.schema_arrow.names)
        yield from _batches(path, table.iter_batches(batch_size=BATCH, use_threads=False), names, total, progress)


def read_arrow(path: Path, progress: Progress | None) -> Iterator[Row]:
    """The rows of an Arrow stream, as `datasets.save_to_disk` writes it."""
    import pyarrow as pa

    with open_file(path) as file:
        with undamaged(path, "Arrow"):
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


def _batches(
    path: Path, batches: Iterator[Any], names: list[str], total: int | None, progress: Progress | None
) -> Iterator[Row]:
    """The rows of record batches; a row with a value that Python cannot hold is broken."""
    column_names(str(path), names)
    size, number = path.stat().st_size, 0
    while True:
        with undamaged(path, "table"):
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
