"""HTML made of elements: what is not markup already is escaped, always.

A text becomes markup by ``el`` alone, so that no name, topic or sentence of the data can end a tag. Texts of examples
are not written as HTML at all: ``embedded`` puts them into a script element as JSON, and the page sets them as text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import msgspec

VOID = ("br", "hr", "input", "link", "meta", "wbr")


_UNSEEN = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069]"
)


def visible(words: str) -> str:
    """A name or sentence without characters that nobody sees and that turn others around, or steer a terminal: each
    becomes a replacement character. A text in a paragraph of its own needs it not."""
    return _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", words)


class Html(str):
    """Markup that is ready, and is not escaped again."""

    __slots__ = ()


Inside = str | None | Iterable["str | None"]
NOTHING = Html("")


def el(name: str, *inside: Inside, **attributes: Any) -> Html:
    """An element.

    Args:
        name: of the tag.
        inside: markup as it is, other texts escaped, None left out; lists of these.
        attributes: None and False are left out, True stands alone; ``cls`` is class, ``data_x`` is data-x.
    """
    words = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in VOID:
        return Html(f"<{name}{words}>")
    return Html(f"<{name}{words}>{joined(*inside)}</{name}>")


def joined(*inside: Inside) -> Html:
    """Several pieces one after the other."""
    return Html("".join(_piece(one) for one in inside))


def _piece(one: Inside) -> str:
    if one is None:
        return ""
    if isinstance(one, Html):
        return one
    if isinstance(one, str):
        return escape(visible(one))
    return "".join(_piece(part) for part in one)


def _attribute(key: str, value: Any) -> str:
    if value is None or value is False:
        return ""
    name = "class" if key == "cls" else key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(visible(str(value)))}"'


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> Html:
    """A table whose first column names the rows, in a box that scrolls by itself where it is wider than the page."""
    head = el("tr", [el("th", one, scope="col") if one else el("td") for one in heads])
    body = [el("tr", el("th", row[0], scope="row"), [el("td", cell) for cell in row[1:]]) for row in rows]
    made = el("table", el("caption", caption) if caption else None, el("thead", head), el("tbody", body))
    return el(
        "div", made, cls="scroll", tabindex="0", role="region", aria_label=f"Table: {caption}" if caption else "Table"
    )


def behind(made: Html, words: str = "The numbers") -> Html:
    """A table behind a plot: closed until it is asked for."""
    return el("details", el("summary", words), made, cls="numbers")


def command(words: str) -> Html:
    """A command to type."""
    return el("code", words, cls="command")


def quoted(words: str) -> Html:
    """A sentence in which what stands between backticks is a command or a name."""
    return joined([el("code", part) if place % 2 else part for place, part in enumerate(words.split("`"))])


_ESCAPES = {
    ord("<"): "\\u003c",
    ord(">"): "\\u003e",
    ord("&"): "\\u0026",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}


def embedded(value: Any) -> Html:
    """A value as JSON that may stand in a script element: nothing in it can end the element or begin a comment."""
    return Html(msgspec.json.encode(value).decode().translate(_ESCAPES))
