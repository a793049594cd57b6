"""A cell of a foreign file as what it stands for: a name, words, a number, a dialogue."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from prefkit.records import Message
from prefkit.rows.drafts import Unfit


def as_key(value: Any) -> str | None:
    """A cell as a name: 12.0 and "12" are the same key, an empty cell is none.

    Raises:
        Unfit: it holds several values.
    """
    if isinstance(value, list | dict):
        raise Unfit("a list or an object instead of a text", repr(value)[:80])
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip() or None


def as_text(value: Any, name: str) -> str:
    """A cell as words, kept as they are.

    Raises:
        Unfit: it is empty, or holds several values.
    """
    if as_key(value) is None:
        raise Unfit(f"empty {name}")
    return value if isinstance(value, str) else str(value)


def as_count(value: str | None, name: str) -> int | None:
    """A whole number from 0, or None where the cell is empty."""
    if value is None:
        return None
    if not value.isdecimal() or len(value) > 9:
        raise Unfit(f"{name} is not a whole number from 0", repr(value[:80]))
    return int(value)


def as_messages(raw: Any) -> tuple[Message, ...]:
    """A dialogue in the chat format, given as a list of messages or as its JSON.

    Raises:
        Unfit: it is not one, or it does not end with the client.
    """
    try:
        value = msgspec.json.decode(raw) if isinstance(raw, str) else raw
        messages = msgspec.convert(
            [{"role": turn["role"], "content": turn["content"]} for turn in value], tuple[Message, ...]
        )
    except (msgspec.MsgspecError, TypeError, KeyError, RecursionError) as error:
        raise Unfit("not a dialogue of role and content", f"{error}") from None
    if not messages or messages[-1].role != "user" or not messages[-1].content.strip():
        raise Unfit("the dialogue does not end with the client")
    return messages


def as_number(value: Any, name: str) -> float:
    """A cell as a finite number.

    Raises:
        Unfit: it is none.
    """
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise Unfit(f"{name} is not a number", repr(value)[:80]) from None
    if not math.isfinite(number):
        raise Unfit(f"{name} is not a number", repr(value))
    return number
