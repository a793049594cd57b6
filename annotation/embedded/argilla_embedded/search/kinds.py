"""What kinds of values the index knows, and what becomes of a value of each.

    words     full text                     only searched
    keyword   a label, a name               compared letter by letter
    integer   a rating, a whole number      compared as numbers; "007" is 7, 3.9 is 3
    float     a score, a measure            compared as 32-bit numbers, as Elasticsearch's `float` does
    moment    inserted_at, updated_at       compared as UTC times
    opaque    spans, rankings, free answers kept, never searched

A value that cannot be read as its kind is left out of the index (it stays in the record), and a filter that asks for
such a value finds nothing.
"""

import json
import math
import struct
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any

Scalar = str | int | float

WORDS, KEYWORD, INTEGER, FLOAT, MOMENT, OPAQUE = "words", "keyword", "integer", "float", "moment", "opaque"

_LARGEST = 2**63 - 1
_EPOCH = datetime(1970, 1, 1)


def stored(kind: str, value: Any) -> list[Scalar]:
    """The values that go into the index for `value`: none, one, or one for each item of a list."""
    read = _STORED.get(kind)
    if read is None or value is None:
        return []
    items = value if isinstance(value, list) else [value]
    return [scalar for scalar in map(read, items) if scalar is not None]


def asked(kind: str, value: Any) -> Scalar | None:
    """What a filter for `value` has to be compared with; None when no indexed value can equal it."""
    read = _ASKED.get(kind)
    return None if read is None or value is None else read(value)


def bounds(kind: str, ge: Any, le: Any) -> tuple[Scalar | None, Scalar | None] | None:
    """The ends of a range, None for an open one; None altogether when an end cannot be read."""
    low, high = _bound(kind, ge, latest=False), _bound(kind, le, latest=True)
    if (ge is not None and low is None) or (le is not None and high is None):
        return None
    return low, high


def moment(value: datetime | None) -> str | None:
    """A time as the index keeps it: UTC, to the microsecond, so that the order of letters is that of time."""
    if value is None:
        return None
    if value.tzinfo is not None:
        value = value.astimezone(timezone.utc).replace(tzinfo=None)
    return value.isoformat(sep=" ", timespec="microseconds")


def plain(value: Any) -> str:
    """The text of an enum, a UUID or a string, without the lone surrogates that no database takes."""
    if isinstance(value, Enum):
        value = value.value
    return str(value).encode("utf-8", "replace").decode()


def texts(value: Any) -> Iterable[str]:
    """Every text in a field's value: itself, the contents of a chat, the leaves of a custom field (not its keys)."""
    if isinstance(value, dict):
        leaves = [value.get("content")] if value.keys() == {"role", "content"} else value.values()
        for leaf in leaves:
            yield from texts(leaf)
    elif isinstance(value, list):
        for item in value:
            yield from texts(item)
    elif value is not None:
        yield _keyword(value) or ""


def _keyword(value: Any) -> str | None:
    if isinstance(value, (dict, list)):
        return None
    if isinstance(value, (bool, float)):
        return json.dumps(value)
    return plain(value)


def _integer(value: Any) -> Scalar | None:
    number = _number(value)
    if number is None or math.isnan(number):
        return None
    return _whole(number)


def _float(value: Any) -> Scalar | None:
    number = _number(value)
    if number is None or math.isnan(number):
        return None
    try:
        return float(struct.unpack("<f", struct.pack("<f", number))[0])
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


def _number(value: Any) -> int | float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str):
        try:
            return _number(int(value))
        except ValueError:
            pass
        try:
            return float(value)
        except ValueError:
            return None
    if abs(value) <= _LARGEST or isinstance(value, float):
        return value
    return float(value) if abs(value) < 10**308 else math.inf if value > 0 else -math.inf


def _asked_integer(value: Any) -> Scalar | None:
    number = _number(value)
    return number if number is not None and number == _whole(number) else None


def _whole(number: float) -> int | float:
    return int(number) if abs(number) <= _LARGEST else number


def _asked_moment(value: Any) -> Scalar | None:
    return _time(value, latest=False)


def _bound(kind: str, value: Any, *, latest: bool) -> Scalar | None:
    if value is None:
        return None
    if kind == MOMENT:
        return _time(value, latest=latest)
    if kind == INTEGER:
        return _number(value)
    return asked(kind, value)


def _time(value: Any, *, latest: bool) -> str | None:
    """A date, a time, or milliseconds since 1970; a date without a time is its last moment when `latest`."""
    try:
        if isinstance(value, datetime):
            return moment(value)
        number = _number(value)
        if number is not None:
            return moment(_EPOCH + timedelta(milliseconds=number))
        text = str(value).strip().replace("Z", "+00:00")
        read = datetime.fromisoformat(text)
        whole_day = timedelta(days=1, microseconds=-1) if latest and len(text) <= len("2026-01-01") else timedelta()
        return moment(read + whole_day)
    except (ValueError, OverflowError):
        return None


_STORED: dict[str, Callable[[Any], Scalar | None]] = {KEYWORD: _keyword, INTEGER: _integer, FLOAT: _float}
_ASKED: dict[str, Callable[[Any], Scalar | None]] = {
    KEYWORD: _keyword,
    INTEGER: _asked_integer,
    FLOAT: _float,
    MOMENT: _asked_moment,
}
