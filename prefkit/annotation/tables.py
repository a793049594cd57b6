"""Items as a table that people fill in, in any spreadsheet, and the filled table back.

Writes  CSV, a row an item: its id, the texts, and an empty column for each question and for the annotator
Reads   its rows again, from CSV or a workbook, whatever became of their order

A header cell says after its name what may be entered, ``overall (A, B, tie)``; what is in brackets is not read back. A
cell that a spreadsheet would take for a formula gets an apostrophe in front, and loses it on the way back: nothing that
a client or a model wrote is ever run. The file begins with a byte order mark, without which Excel takes UTF-8 for
another encoding.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from prefkit.annotation.answers import Answer, Refused
from prefkit.annotation.form import Form, Question
from prefkit.annotation.shown import Shown
from prefkit.durable import replacing

LONGEST = 32_767
"""Characters; a spreadsheet cuts a longer cell off."""

HALF = "rows half filled in, kept as drafts"
EMPTY = "rows not filled in"

_FORMULA = re.compile("'*\\s*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_ID = "id-"
"""Stands before an item's id, of which a spreadsheet would take one in some thousands for a number."""
_TEXTS = {"compare": ("client", "A", "B"), "rate": ("client", "answer")}


class FileRow(Protocol):
    """A row of a file: its line, its columns; ``broken`` is why it could not be read."""

    @property
    def number(self) -> int:
        """From 1."""

    @property
    def values(self) -> dict[str, Any]:
        """Column to value."""

    @property
    def broken(self) -> str | None:
        """What was found in place of a whole row."""


def write_table(path: Path, form: Form, items: Iterable[Shown]) -> int:
    """Write a table to fill in; return how many cells are longer than a spreadsheet keeps.

    Raises:
        RunError: the disk is full, or closed.
    """
    too_long = 0
    texts = _TEXTS[form.mode]
    with replacing(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="", write_through=True)
        rows = csv.writer(text)
        header = ["item", "deck", *texts, *map(_headed, form.questions), "annotator"]
        rows.writerow(header)
        for shown in items:
            words = [shown.client, shown.left, *([shown.right] if shown.right is not None else [])]
            cells = [guarded(cell.replace("\0", "\ufffd")) for cell in (_ID + shown.item.id, shown.item.deck, *words)]
            too_long += sum(len(cell) > LONGEST for cell in cells)
            rows.writerow(cells + [""] * (len(header) - len(cells)))
        text.detach()
    return too_long


def _headed(question: Question) -> str:
    """The header of a question's column, with what may be entered."""
    values = [value for value, _ in question.labels]
    return guarded(f"{question.name} ({', '.join(values)})" if values else question.name)


def guarded(text: str) -> str:
    """A cell that no spreadsheet takes for a formula. ``unguarded`` gives back the text, exactly."""
    return f"'{text}" if _FORMULA.match(text) else text


def unguarded(cell: str) -> str:
    """What ``guarded`` was given; a cell that was never guarded and needed no guard is itself."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def is_table(columns: Iterable[str]) -> bool:
    """Whether these are the columns of a table to fill in."""
    names = {_name(column) for column in columns}
    return "item" in names and any(name == "overall" or name.startswith("principle-") for name in names)


def _name(column: str) -> str:
    return unguarded(column).partition(" (")[0].strip()


def table_answers(
    rows: Iterable[FileRow], forms: Mapping[str, Form], annotator: str | None, notes: Counter[str]
) -> Iterator[Answer | Refused]:
    """The answers in a filled table.

    Args:
        rows: its rows.
        forms: item id -> form.
        annotator: who filled it in, where no column says so.
        notes: is told of rows that are empty or half filled in.
    """
    for row in rows:
        where = f"row {row.number}"
        if row.broken:
            yield Refused(where, "a row that cannot be read", row.broken)
            continue
        cells = {_name(column): _value(value) for column, value in row.values.items()}
        item, who = str(cells.get("item", "")).removeprefix(_ID), str(cells.get("annotator", "")) or annotator
        form = forms.get(item)
        if form is None:
            yield Refused(where, "an item that this run does not have", repr(item))
            continue
        values = {one.name: _entered(one, cells[one.name]) for one in form.questions if cells.get(one.name, "") != ""}
        if not values:
            notes[EMPTY] += 1
        elif not who:
            yield Refused(where, "no annotator", "an empty column `annotator`, and no --annotator")
        else:
            complete = all(one.name in values for one in form.questions if one.required)
            notes[HALF] += not complete
            yield Answer(
                where=where, item=item, account=who, status="submitted" if complete else "draft", values=values
            )


def _value(cell: Any) -> Any:
    """A cell without its guard and blank edges; a whole number as one, and an empty cell as ""."""
    if isinstance(cell, str):
        return unguarded(cell).strip()
    if isinstance(cell, float) and cell.is_integer():
        return int(cell)
    return "" if cell is None else cell


def _entered(question: Question, cell: Any) -> Any:
    """What was entered for a question: several labels stand in one cell, words may have been taken for a number."""
    if question.kind == "several":
        return [word for word in re.split(r"[\s,;|]+", str(cell)) if word]
    return str(cell) if question.kind == "words" else cell
