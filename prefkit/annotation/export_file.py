"""Answers that a file holds, in the shape of Argilla's records, of Label Studio's export, or of a filled table.

Reads   rows of a file, however it was read
Gives   Answers, and for what is none of them the place and the reason

Argilla's records come in four shapes, all of which hold several annotators per question:

    records.to_list(flatten=False), to_json    responses: question -> list of value, user_id      no status
    records.to_list(flatten=True), to_datasets question.responses, .responses.users, .responses.status
    Response.serialize                         responses: list of question_name, value, user_id, status
    the API                                    responses: list of values, user_id, status

The first has lost whether an answer was submitted: there, one to all that must be answered counts as submitted, and is
counted. ``user_id`` is the account's id where Argilla wrote the file, so an annotator's pseudonym is that of a pull
from the server; elsewhere it may be a name.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from prefkit.annotation.answers import STATUSES, Answer, Refused
from prefkit.annotation.form import Form
from prefkit.annotation.label_studio import export_answers, is_export, is_short_export
from prefkit.annotation.tables import FileRow, is_table, table_answers
from prefkit.errors import InputError

LOOKED_AT = 100
"""Rows by which a file's shape is known."""

_FLAT = ".responses"


def file_answers(
    file: str, rows: Iterable[FileRow], forms: Mapping[str, Form], annotator: str | None, notes: Counter[str]
) -> Iterator[Answer | Refused]:
    """The answers in a file.

    Args:
        file: its name, for messages.
        rows: its rows.
        forms: item id -> form.
        annotator: who filled in a table that has no column for it.
        notes: is told what was passed over, and how often.

    Raises:
        InputError: it has none of the shapes.
    """
    stream = iter(rows)
    head = list(itertools.islice(stream, LOOKED_AT))
    whole = [row.values for row in head if not row.broken]
    columns = {name for values in whole for name in values}
    rows = itertools.chain(head, stream)
    if any(map(is_export, whole)):
        return export_answers(rows, forms, notes)
    if is_short_export(columns):
        remedy = "In Label Studio: Export, and choose JSON."
        raise InputError(file, "Label Studio's JSON-MIN or CSV export", "its full JSON export", remedy)
    if "responses" in columns or any(name.endswith(_FLAT) for name in columns) or "_server_id" in columns:
        return record_answers(rows, notes)
    if is_table(columns):
        return table_answers(rows, forms, annotator, notes)
    shown = ", ".join(sorted(columns)[:6]) or head[0].broken if head else "no rows"
    expected = "Argilla records (`responses`), Label Studio tasks (`annotations`) or a filled table (`item`, `overall`)"
    raise InputError(file, f"none of the known shapes ({shown})", expected, "Is this the file you meant?")


def record_answers(rows: Iterable[FileRow], notes: Counter[str]) -> Iterator[Answer | Refused]:
    """The answers in Argilla's records."""
    for row in rows:
        where = f"row {row.number}"
        if row.broken:
            yield Refused(where, "a row that cannot be read", row.broken)
            continue
        item = row.values.get("external_id") or row.values.get("id")
        if not isinstance(item, str):
            yield Refused(where, "a record without an item's id", repr(item))
            continue
        try:
            by_user = _by_user(row.values)
        except _Odd as odd:
            yield Refused(where, "responses that cannot be read", str(odd))
            continue
        notes["records without an answer"] += not by_user
        for user, (status, values) in by_user.items():
            yield Answer(where=where, item=item, account=user, status=status, values=values)


class _Odd(Exception):
    """Responses of a shape that Argilla does not write."""


_ByUser = dict[str, tuple[Any, dict[str, Any]]]


def _by_user(row: Mapping[str, Any]) -> _ByUser:
    """User -> status and values.

    Raises:
        _Odd: the shape is not known, a user answered a question twice, or has two statuses.
    """
    responses = row.get("responses")
    if isinstance(responses, dict):
        found = [
            (question, one.get("value"), one.get("user_id"), one.get("status"))
            for question, answers in responses.items()
            for one in _dicts(answers)
        ]
    elif isinstance(responses, list):
        found = [part for one in _dicts(responses) for part in _listed(one)]
    elif responses is None:
        found = list(_flat(row))
    else:
        raise _Odd(f"{type(responses).__name__} under `responses`")
    by_user: _ByUser = {}
    for question, value, user, status in found:
        _put(by_user, question, value, user, status)
    return by_user


def _dicts(answers: Any) -> list[dict[str, Any]]:
    if answers is None:
        return []
    if not isinstance(answers, list) or not all(isinstance(one, dict) for one in answers):
        raise _Odd(f"{str(answers)[:80]!r} in place of a list of answers")
    return answers


def _listed(one: dict[str, Any]) -> list[tuple[str | None, Any, Any, Any]]:
    """The values of an element of a list of responses: one value, or all of a user's."""
    if "question_name" in one:
        return [(one["question_name"], one.get("value"), one.get("user_id"), one.get("status"))]
    if "user_id" not in one:
        raise _Odd(f"an answer with {', '.join(map(repr, one)) or 'nothing'}")
    values = one.get("values") or {}
    if not isinstance(values, dict):
        raise _Odd(f"{str(values)[:80]!r} under `values`")
    found = [(name, value, one["user_id"], one.get("status")) for name, value in values.items()]
    return found or [(None, None, one["user_id"], one.get("status"))]


def _flat(row: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any, Any]]:
    """The values of a flattened record: lists side by side."""
    for column, values in row.items():
        if not column.endswith(_FLAT) or values is None:
            continue
        users = row.get(f"{column}.users")
        statuses = row.get(f"{column}.status") or [None] * len(values)
        if not (isinstance(values, list) and isinstance(users, list) and len(values) == len(users) == len(statuses)):
            raise _Odd(f"lists of several lengths under {column!r}, .users and .status")
        yield from zip(itertools.repeat(column.removesuffix(_FLAT)), values, users, statuses)


def _put(by_user: _ByUser, question: str | None, value: Any, user: Any, status: Any) -> None:
    if user in (None, "", "None"):
        raise _Odd("an answer without a `user_id`")
    said = getattr(status, "value", status)
    if said not in (None, *STATUSES):
        raise _Odd(f"the status {said!r}")
    known, values = by_user.setdefault(str(user), (said, {}))
    if known != said:
        raise _Odd(f"one annotator's answers as {known} and as {said}")
    if question is None or value is None:
        return
    if question in values:
        raise _Odd(f"{question} twice from one annotator")
    values[question] = value
