"""Find JSON in what a model wrote, as models write it.

Reads   any text
Gives   the objects and arrays in it, each value with the place where it stands

Taken beside JSON proper: code fences and prose around it, comments, trailing and missing commas at a line's end, single
and curly quotes, keys and values without quotes, quotes inside a text that nobody escaped, Python's True and None, a
key that stands twice (both are kept), and an end that is cut off: what is whole is given, what is not is left out.
A value without quotes is kept as its words (``4/5``, ``N/A``); what they mean is not for this module to say.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

MOST_STARTS = 100
"""Braces and brackets that are tried; a reply has one or two, and each that opens nothing costs a look at the rest."""

MOST_DEPTH = 24

MOST_QUOTES = 500
"""Quotes within one text at which its end is looked for."""

Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Scalar:
    """A text, number, truth value or null; ``start`` and ``end`` enclose it, without its quotes."""

    value: Value
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Object:
    """Keys with values, in the order written; a key may stand twice."""

    members: tuple[tuple[str, Node], ...]


@dataclass(frozen=True, slots=True)
class Array:
    """Values in the order written."""

    items: tuple[Node, ...]


Node = Scalar | Object | Array


@dataclass(frozen=True, slots=True)
class Found:
    """The outermost objects and arrays of a text, and whether the last of them lacks its end."""

    values: tuple[Object | Array, ...]
    cut: bool


def find_json(text: str) -> Found:
    """The outermost objects and arrays of a text, in order; never raises."""
    values: list[Object | Array] = []
    at, cut = 0, False
    for _ in range(MOST_STARTS):
        start = _OPENING.search(text, at)
        if start is None:
            break
        reader = _Reader(text, start.start())
        try:
            value = reader.container(0)
        except _NotJson:
            at = start.end()
            continue
        cut = reader.cut
        if cut and not _holds_anything(value):
            at = start.end()
            continue
        values.append(value)
        at = reader.at
    return Found(tuple(values), cut)


class _NotJson(Exception):
    """What stands here is nothing that could be meant as JSON."""


_OPENING = re.compile(r"[{\[]")
_BLANK = re.compile(r"(?:\s+|//[^\n]*|/\*.*?\*/|#[^\n]*)*", re.DOTALL)
_QUOTES = {'"': '"', "'": "'", "“": "”", "‘": "’"}
_BARE_KEY = re.compile(r"[^\W\d][\w .&()/-]{0,80}?(?=\s*[:=])")
_BARE_VALUE = re.compile(r"(?:[^,{}\[\]\n/#]|/(?![/*]))+")
_AFTER_KEY = re.compile(r"\s*(?:[:=]|$)")
_AFTER_TEXT = re.compile(r"\s*(?:[,}\]#]|//|/\*|$)|\s*\n")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,15})?(?:[eE][+-]?[0-9]{1,2})?")
_LITERALS: dict[str, Value] = {"true": True, "True": True, "false": False, "False": False, "null": None, "None": None}


class _Reader:
    """Walks over one object or array. ``cut`` is set where the text ends before it does."""

    def __init__(self, text: str, at: int) -> None:
        self.text = text
        self.at = at
        self.cut = False

    def container(self, depth: int) -> Object | Array:
        if depth > MOST_DEPTH:
            raise _NotJson
        opening = self.text[self.at]
        self.at += 1
        return self._object(depth) if opening == "{" else self._array(depth)

    def _object(self, depth: int) -> Object:
        members: list[tuple[str, Node]] = []
        while self._more("}"):
            key = self._key()
            if key is None or not self._past_colon():
                break
            value = self._value(depth)
            if value is not None:
                members.append((key, value))
            if not self._next("}"):
                break
        return Object(tuple(members))

    def _array(self, depth: int) -> Array:
        items: list[Node] = []
        while self._more("]"):
            item = self._value(depth)
            if item is not None:
                items.append(item)
            if not self._next("]"):
                break
        return Array(tuple(items))

    def _more(self, closing: str) -> bool:
        """Whether another member begins here; passes the closing sign."""
        self._pass_blank()
        if self._ended():
            return False
        if self.text[self.at] == closing:
            self.at += 1
            return False
        return True

    def _next(self, closing: str) -> bool:
        """Whether more may follow a member: a comma, a new line without one, or the closing sign, is there."""
        if self.cut:
            return False
        before = self.at
        self._pass_blank()
        if self._ended():
            return False
        if self.text[self.at] == ",":
            self.at += 1
        elif self.text[self.at] != closing and "\n" not in self.text[before : self.at]:
            raise _NotJson
        return True

    def _key(self) -> str | None:
        closing = _QUOTES.get(self.text[self.at])
        if closing:
            quoted = self._quoted(closing, _AFTER_KEY)
            return None if quoted is None else str(quoted.value)
        bare = _BARE_KEY.match(self.text, self.at)
        if bare is None:
            if self.text[self.at :].replace("_", "").replace(" ", "").isalnum():
                self.cut = True
                return None
            raise _NotJson
        self.at = bare.end()
        return bare.group()

    def _past_colon(self) -> bool:
        self._pass_blank()
        if self._ended():
            return False
        if self.text[self.at] not in ":=":
            raise _NotJson
        self.at += 1
        self._pass_blank()
        return not self._ended()

    def _value(self, depth: int) -> Node | None:
        """The value that begins here; None where it is cut off."""
        sign = self.text[self.at]
        if sign in "{[":
            return self.container(depth + 1)
        if sign in _QUOTES:
            return self._quoted(_QUOTES[sign], _AFTER_TEXT)
        bare = _BARE_VALUE.match(self.text, self.at)
        if bare is None:
            raise _NotJson
        if bare.end() == len(self.text) and not self.text[-1].isspace():
            self.at, self.cut = bare.end(), True
            return None
        words = bare.group().rstrip()
        self.at += len(words)
        value: Value = words
        if words in _LITERALS:
            value = _LITERALS[words]
        elif _NUMBER.fullmatch(words):
            value = float(words) if set(words) & set(".eE") else int(words)
        return Scalar(value, self.at - len(words), self.at)

    def _quoted(self, closing: str, after: re.Pattern[str]) -> Scalar | None:
        """A text in quotes: up to the first closing quote after which something fitting stands."""
        start = self.at + 1
        end = start
        for _ in range(MOST_QUOTES):
            end = self.text.find(closing, end)
            if end < 0:
                break
            if not self._escaped(start, end) and after.match(self.text, end + 1):
                self.at = end + 1
                return Scalar(_unescaped(self.text[start:end]), start, end)
            end += 1
        self.at, self.cut = len(self.text), True
        return None

    def _escaped(self, start: int, at: int) -> bool:
        """Whether an odd number of backslashes stands before a place."""
        before = at
        while before > start and self.text[before - 1] == "\\":
            before -= 1
        return (at - before) % 2 == 1

    def _pass_blank(self) -> None:
        blank = _BLANK.match(self.text, self.at)
        self.at = blank.end() if blank else self.at

    def _ended(self) -> bool:
        if self.at >= len(self.text):
            self.cut = True
        return self.cut


def _holds_anything(value: Object | Array) -> bool:
    return bool(value.members if isinstance(value, Object) else value.items)


def _unescaped(words: str) -> str:
    if "\\" not in words:
        return words
    try:
        return str(json.loads(f'"{words}"', strict=False))
    except ValueError:
        return re.sub(r"\\(.)", r"\1", words)
