"""Records as columns of Parquet, and back, without loss.

A column for each field, under its name; the three kinds of judgement share one table with a column ``kind``. Texts,
numbers and lists are themselves; scores and verdicts by principle are maps; sampling settings, which may be anything,
are JSON. Null is a field left out, or None where a field must be given. A whole score reads as an integer, so that only
the spelling of 4.0 is lost.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

import msgspec

from prefkit.records import Message, Score, Usage, Winner

Change = Callable[[Any], Any]


@dataclass(frozen=True)
class Column:
    """A column: its type in Arrow, and how a value goes in and comes out where it changes."""

    name: str
    arrow: Any
    into: Change | None = None
    out_of: Change | None = None


class Columnar:
    """How the records of a type stand in a table.

    Args:
        record: a struct, or a union of structs with a tag.
    """

    def __init__(self, record: Any) -> None:
        import pyarrow as pa

        self.record = record
        self._kinds = {kind.__struct_config__.tag: kind for kind in get_args(record) or (record,)}
        self._tag = next(iter(self._kinds.values())).__struct_config__.tag_field
        self._fields = {tag: msgspec.structs.fields(kind) for tag, kind in self._kinds.items()}
        self._columns: dict[str, Column] = {self._tag: Column(self._tag, pa.string())} if self._tag else {}
        for fields in self._fields.values():
            for field in fields:
                self._columns.setdefault(field.name, _column(field.name, field.type))
        self.schema = pa.schema([(column.name, column.arrow) for column in self._columns.values()])

    def table(self, records: Sequence[Any]) -> Any:
        """The records as a table of Arrow, in their order."""
        import pyarrow as pa

        arrays = []
        for column in self._columns.values():
            values = (
                [one.__struct_config__.tag for one in records]
                if column.name == self._tag
                else [getattr(one, column.name, None) for one in records]
            )
            if column.into is not None:
                values = [None if value is None else column.into(value) for value in values]
            arrays.append(pa.array(values, column.arrow))
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def records(self, table: Any) -> Iterator[Any]:
        """The records of a table or batch, in its order; maps may be structs as well, and JSON may be one.

        Raises:
            msgspec.ValidationError: a row is not such a record.
        """
        values = {name: self._values(name, table[name]) for name in table.schema.names}
        strange = [name for name in values if name not in self._columns]
        for row in range(table.num_rows):
            tag = values[self._tag][row] if self._tag in values else None
            kept = {name: values[name][row] for name in strange if values[name][row] is not None}
            kept |= {self._tag: tag} if self._tag else {}
            for field in self._fields.get(tag, ()):
                value = values[field.name][row] if field.name in values else None
                if value is not None or (field.required and field.name in values):
                    kept[field.name] = value
            yield msgspec.convert(kept, self.record)

    def _values(self, name: str, array: Any) -> list[Any]:
        change = self._columns[name].out_of if name in self._columns else None
        given: list[Any] = array.to_pylist()
        return given if change is None else [None if value is None else change(value) for value in given]


def _column(name: str, kind: Any) -> Column:
    import pyarrow as pa

    kind = _without_none(kind)
    origin, parts = get_origin(kind), get_args(kind)
    if kind is str or origin is typing.Literal:
        return Column(name, pa.string())
    if kind in (bool, int, float):
        return Column(name, {bool: pa.bool_(), int: pa.int64(), float: pa.float64()}[kind])
    if origin is tuple and parts[0] is str:
        return Column(name, pa.list_(pa.string()))
    if origin is tuple and parts[0] is Message:
        turn = pa.struct([("role", pa.string()), ("content", pa.string())])
        return Column(name, pa.list_(turn), msgspec.to_builtins)
    if kind is Usage:
        counts = [(field, pa.int64()) for field in ("prompt", "completion", "cached", "calls")]
        return Column(name, pa.struct([*counts, ("cost", pa.float64())]), msgspec.to_builtins, _given)
    if origin is dict and parts[1] in (float, Score | None):
        return Column(name, pa.map_(pa.string(), pa.float64()), _items, _scores if parts[1] is not float else dict)
    if origin is dict and parts[1] == Winner | None:
        return Column(name, pa.map_(pa.string(), pa.string()), _items, dict)
    if origin is dict:
        return Column(name, pa.string(), _as_json, _anything)
    raise TypeError(f"no column for {name}: {kind}")


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (typing.Union, types.UnionType):
        rest = [part for part in get_args(kind) if part is not type(None)]
        return rest[0] if len(rest) == 1 else typing.Union[tuple(rest)]  # noqa: UP007
    return kind


def _items(value: dict[str, Any]) -> list[tuple[str, Any]]:
    return list(value.items())


def _as_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _anything(value: Any) -> Any:
    return msgspec.json.decode(value) if isinstance(value, str) else value


def _given(value: dict[str, Any]) -> dict[str, Any]:
    return {name: part for name, part in value.items() if part is not None}


def _scores(items: Any) -> dict[str, Score | None]:
    scores = dict(items)
    return {name: int(value) if value is not None and value == int(value) else value for name, value in scores.items()}
