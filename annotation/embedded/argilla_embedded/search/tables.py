"""The tables of the index, and how a record goes in and out.

    datasets, properties   what can be searched: a path (`metadata.topic`), its kind, a number for it
    records, documents     one row a record: what is filtered and sorted by; what was indexed, as JSON
    text_<dataset>         FTS5, a column a field; holds the word lists only, the text is in `documents`
    facts                  values of metadata and suggestions, one row a value
    responses, answers     who said what, and each searchable value in it
    suggestions, vectors   as they came

Functions of a connection inside a transaction; plain values in, plain values out. Names in SQL are made of this
module's words and of whole numbers; every value is bound.
"""

import json
import sqlite3
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

from argilla_embedded.search import kinds
from argilla_embedded.search.documents import Document, ResponseEntry, Schema, SuggestionEntry, VectorEntry, as_json
from argilla_embedded.search.language import EVERY_RECORD
from argilla_embedded.search.words import indexed

SHUFFLE = 2**31 - 1
"""Records are dealt to annotators by (a * shuffle + b) % SHUFFLE, a prime."""

_TABLES = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE datasets (key INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE);
CREATE TABLE properties (
    key INTEGER PRIMARY KEY, dataset INTEGER NOT NULL, path TEXT NOT NULL, kind TEXT NOT NULL, UNIQUE (dataset, path)
);
CREATE TABLE records (
    key INTEGER PRIMARY KEY, dataset INTEGER NOT NULL, id TEXT NOT NULL UNIQUE, external_id TEXT,
    status TEXT NOT NULL, inserted_at TEXT, updated_at TEXT, shuffle INTEGER NOT NULL
);
CREATE INDEX records_status ON records (dataset, status);
CREATE INDEX records_inserted ON records (dataset, inserted_at, id);
CREATE TABLE documents (record INTEGER PRIMARY KEY, fields TEXT NOT NULL, metadata TEXT NOT NULL);
CREATE TABLE facts (property INTEGER NOT NULL, value NOT NULL, record INTEGER NOT NULL);
CREATE INDEX facts_value ON facts (property, value, record);
CREATE INDEX facts_record ON facts (record, property, value);
CREATE TABLE responses (
    key INTEGER PRIMARY KEY, dataset INTEGER NOT NULL, record INTEGER NOT NULL, id TEXT NOT NULL UNIQUE,
    user TEXT NOT NULL, status TEXT NOT NULL, updated_at TEXT, answers TEXT NOT NULL
);
CREATE INDEX responses_record ON responses (record, user);
CREATE INDEX responses_user ON responses (dataset, user, status, record);
CREATE TABLE answers (property INTEGER NOT NULL, value NOT NULL, response INTEGER NOT NULL);
CREATE INDEX answers_value ON answers (property, value, response);
CREATE INDEX answers_response ON answers (response, property, value);
CREATE TABLE suggestions (
    id TEXT PRIMARY KEY, record INTEGER NOT NULL, question TEXT NOT NULL, updated_at TEXT, parts TEXT NOT NULL
);
CREATE INDEX suggestions_record ON suggestions (record);
CREATE TABLE vectors (
    id TEXT PRIMARY KEY, record INTEGER NOT NULL, settings TEXT NOT NULL, updated_at TEXT, value BLOB NOT NULL
);
CREATE INDEX vectors_record ON vectors (record);
CREATE INDEX vectors_settings ON vectors (settings);
"""


@dataclass(frozen=True)
class Property:
    """A path's number and kind."""

    key: int
    kind: str


@dataclass(frozen=True)
class Catalogue:
    """What can be searched in one dataset."""

    dataset: int
    properties: Mapping[str, Property]

    def key(self, path: str) -> int | None:
        """The number of a path; None when it is not searchable."""
        found = self.properties.get(path)
        return found.key if found else None

    @property
    def text(self) -> str:
        """The name of its FTS5 table."""
        return f"text_{self.dataset}"

    @cached_property
    def fields(self) -> dict[str, str]:
        """Searchable field to its column in the FTS5 table."""
        prefix = "fields."
        return {
            path[len(prefix) :]: f"f{found.key}"
            for path, found in self.properties.items()
            if path.startswith(prefix) and found.kind == kinds.WORDS
        }

    @property
    def schema(self) -> dict[str, str]:
        """Path to kind."""
        return {path: found.kind for path, found in self.properties.items()}


def create(connection: sqlite3.Connection, version: str) -> None:
    """Make the tables in an empty file."""
    for statement in filter(str.strip, _TABLES.split(";")):
        connection.execute(statement)
    connection.execute("INSERT INTO about VALUES ('version', ?)", (version,))


def version(connection: sqlite3.Connection) -> str | None:
    """The version of the tables in a file; None when it has none."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'about'").fetchone():
        return None
    return str(connection.execute("SELECT value FROM about WHERE name = 'version'").fetchone()[0])


def dataset_ids(connection: sqlite3.Connection) -> set[str]:
    """The ids of the datasets that have an index."""
    return {row[0] for row in connection.execute("SELECT id FROM datasets")}


def catalogue(connection: sqlite3.Connection, dataset_id: str) -> Catalogue | None:
    """What is searchable in a dataset; None when there is no index for it."""
    row = connection.execute("SELECT key FROM datasets WHERE id = ?", (dataset_id,)).fetchone()
    if row is None:
        return None
    found = connection.execute("SELECT path, key, kind FROM properties WHERE dataset = ? ORDER BY key", row)
    return Catalogue(row[0], {path: Property(key, kind) for path, key, kind in found})


def add_dataset(connection: sqlite3.Connection, dataset_id: str, schema: Schema) -> Catalogue:
    """Begin the index of a dataset; one that is there is removed with its records."""
    remove_dataset(connection, dataset_id)
    key = connection.execute("INSERT INTO datasets (id) VALUES (?)", (dataset_id,)).lastrowid
    connection.executemany(
        "INSERT INTO properties (dataset, path, kind) VALUES (?, ?, ?)",
        [(key, path, kind) for path, kind in schema.items()],
    )
    made = catalogue(connection, dataset_id)
    assert made is not None
    columns = ", ".join([*made.fields.values(), "everything"])
    connection.execute(f"CREATE VIRTUAL TABLE {made.text} USING fts5({columns}, content = '', tokenize = 'ascii')")
    connection.execute(f"CREATE VIRTUAL TABLE {made.text}_words USING fts5vocab({made.text}, 'row')")
    return made


def remove_dataset(connection: sqlite3.Connection, dataset_id: str) -> None:
    """Forget a dataset and its records; no matter if there is none."""
    known = catalogue(connection, dataset_id)
    if known is None:
        return
    of_record = "record IN (SELECT key FROM records WHERE dataset = ?)"
    connection.execute(
        "DELETE FROM answers WHERE response IN (SELECT key FROM responses WHERE dataset = ?)", (known.dataset,)
    )
    for table in ("documents", "facts", "suggestions", "vectors"):
        connection.execute(f"DELETE FROM {table} WHERE {of_record}", (known.dataset,))
    for table in ("responses", "records", "properties"):
        connection.execute(f"DELETE FROM {table} WHERE dataset = ?", (known.dataset,))
    connection.execute("DELETE FROM datasets WHERE key = ?", (known.dataset,))
    connection.execute(f"DROP TABLE {known.text}_words")
    connection.execute(f"DROP TABLE {known.text}")


def add_property(connection: sqlite3.Connection, dataset_id: str, path: str, kind: str) -> None:
    """Make a path searchable, also in the records that are there; another kind replaces the one it had."""
    known = catalogue(connection, dataset_id)
    if known is None or (path in known.properties and known.properties[path].kind == kind):
        return
    connection.execute(
        "INSERT INTO properties (dataset, path, kind) VALUES (?, ?, ?) "
        "ON CONFLICT (dataset, path) DO UPDATE SET kind = excluded.kind",
        (known.dataset, path, kind),
    )
    entity, _, name = path.partition(".")
    if entity != "metadata":
        return
    (key,) = connection.execute(
        "SELECT key FROM properties WHERE dataset = ? AND path = ?", (known.dataset, path)
    ).fetchone()
    connection.execute("DELETE FROM facts WHERE property = ?", (key,))
    rows = connection.execute(
        "SELECT record, metadata FROM documents JOIN records ON key = record WHERE dataset = ?", (known.dataset,)
    )
    connection.executemany(
        "INSERT INTO facts VALUES (?, ?, ?)",
        [
            (key, value, record)
            for record, metadata in rows.fetchall()
            for value in kinds.stored(kind, json.loads(metadata).get(name))
        ],
    )


def put_records(connection: sqlite3.Connection, known: Catalogue, documents: Sequence[Document]) -> None:
    """Index records, new or changed, with all that belongs to them.

    A response that the index knows in a newer state than the document keeps it: the record was read before that
    response was written, by a request that came to the index later.
    """
    newer = [response for document in documents for response in _newer_responses(connection, document)]
    for document in documents:
        _put_record(connection, known, document)
    for record_id, response in newer:
        put_response(connection, record_id, response)


def _put_record(connection: sqlite3.Connection, known: Catalogue, document: Document) -> None:
    found = connection.execute(
        "SELECT key, dataset, fields FROM records JOIN documents ON record = key WHERE id = ?", (document.id,)
    ).fetchone()
    fields = as_json({name: value for name, value in document.fields.items() if name in known.fields})
    if found and found[1] != known.dataset:
        remove_records(connection, [document.id])
        found = None
    if found is None:
        key = _insert_record(connection, known, document)
        _insert_text(connection, known, key, fields)
    else:
        key = found[0]
        connection.execute(
            "UPDATE records SET external_id = ?, status = ?, inserted_at = ?, updated_at = ? WHERE key = ?",
            (document.external_id, document.status, document.inserted_at, document.updated_at, key),
        )
        if fields != found[2]:
            _delete_text(connection, known, key, found[2])
            _insert_text(connection, known, key, fields)
        _remove_parts(connection, key)
    connection.execute("INSERT INTO documents VALUES (?, ?, ?)", (key, fields, as_json(document.metadata)))
    connection.executemany("INSERT INTO facts VALUES (?, ?, ?)", _facts(known, "metadata", document.metadata, key))
    for response in document.responses:
        _insert_response(connection, known, key, response)
    for suggestion in document.suggestions:
        _insert_suggestion(connection, known, key, suggestion)
    connection.executemany(
        "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?, ?)",
        [(vector.id, key, vector.settings, vector.updated_at, blob(vector)) for vector in document.vectors],
    )


def _insert_record(connection: sqlite3.Connection, known: Catalogue, document: Document) -> int:
    key = connection.execute(
        "INSERT INTO records (dataset, id, external_id, status, inserted_at, updated_at, shuffle) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            known.dataset,
            document.id,
            document.external_id,
            document.status,
            document.inserted_at,
            document.updated_at,
            UUID(document.id).int % SHUFFLE,
        ),
    ).lastrowid
    assert key is not None
    return key


def remove_records(connection: sqlite3.Connection, record_ids: Iterable[str]) -> None:
    """Forget records; those that are not there do not matter."""
    for record_id in record_ids:
        found = connection.execute(
            "SELECT records.key, fields, datasets.id FROM records JOIN documents ON record = records.key "
            "JOIN datasets ON datasets.key = dataset WHERE records.id = ?",
            (record_id,),
        ).fetchone()
        if found is None:
            continue
        key, fields, dataset_id = found
        known = catalogue(connection, dataset_id)
        assert known is not None
        _delete_text(connection, known, key, fields)
        _remove_parts(connection, key)
        connection.execute("DELETE FROM records WHERE key = ?", (key,))


def set_status(connection: sqlite3.Connection, record_id: str, status: str, updated_at: str | None) -> None:
    """A record's new status, unless the index has heard of a later change."""
    connection.execute(
        "UPDATE records SET status = ?, updated_at = coalesce(?, updated_at) WHERE id = ? AND "
        "(updated_at IS NULL OR ? IS NULL OR updated_at <= ?)",
        (status, updated_at, record_id, updated_at, updated_at),
    )


def put_response(connection: sqlite3.Connection, record_id: str, response: ResponseEntry) -> bool:
    """Index one response, unless the index has a newer state of it.

    Returns:
        Whether the record is known.
    """
    found = _record(connection, record_id)
    if found is None:
        return False
    key, known = found
    row = connection.execute("SELECT updated_at FROM responses WHERE id = ?", (response.id,)).fetchone()
    if row and _is_newer(row[0], response.updated_at):
        return True
    remove_response(connection, response.id)
    _insert_response(connection, known, key, response)
    return True


def remove_response(connection: sqlite3.Connection, response_id: str) -> None:
    """Forget one response."""
    connection.execute("DELETE FROM answers WHERE response = (SELECT key FROM responses WHERE id = ?)", (response_id,))
    connection.execute("DELETE FROM responses WHERE id = ?", (response_id,))


def put_suggestion(connection: sqlite3.Connection, record_id: str, suggestion: SuggestionEntry) -> bool:
    """Index one suggestion in place of the one its question had. Returns whether the record is known."""
    found = _record(connection, record_id)
    if found is None:
        return False
    remove_suggestion(connection, record_id, suggestion.question)
    _insert_suggestion(connection, found[1], found[0], suggestion)
    return True


def remove_suggestion(connection: sqlite3.Connection, record_id: str, question: str) -> None:
    """Forget the suggestion that a record has for a question."""
    found = _record(connection, record_id)
    if found is None:
        return
    key, known = found
    connection.execute("DELETE FROM suggestions WHERE record = ? AND question = ?", (key, question))
    of_question = [
        (key, searchable.key)
        for path, searchable in known.properties.items()
        if path.startswith(f"suggestions.{question}.")
    ]
    connection.executemany("DELETE FROM facts WHERE record = ? AND property = ?", of_question)


def blob(vector: VectorEntry) -> bytes:
    """A vector as 32-bit floats."""
    return array("f", vector.value).tobytes()


def _record(connection: sqlite3.Connection, record_id: str) -> tuple[int, Catalogue] | None:
    row = connection.execute(
        "SELECT records.key, datasets.id FROM records JOIN datasets ON datasets.key = dataset WHERE records.id = ?",
        (record_id,),
    ).fetchone()
    if row is None:
        return None
    known = catalogue(connection, row[1])
    assert known is not None
    return row[0], known


def _newer_responses(connection: sqlite3.Connection, document: Document) -> list[tuple[str, ResponseEntry]]:
    if not document.responses:
        return []
    offered = {response.id: response.updated_at for response in document.responses}
    rows = connection.execute(
        "SELECT responses.id, user, responses.status, responses.updated_at, answers FROM responses "
        "JOIN records ON records.key = record WHERE records.id = ?",
        (document.id,),
    )
    return [
        (document.id, ResponseEntry(id, user, status, updated_at, json.loads(answers)))
        for id, user, status, updated_at, answers in rows
        if id in offered and _is_newer(updated_at, offered[id])
    ]


def _is_newer(known: str | None, offered: str | None) -> bool:
    return known is not None and offered is not None and known > offered


def _remove_parts(connection: sqlite3.Connection, key: int) -> None:
    connection.execute("DELETE FROM answers WHERE response IN (SELECT key FROM responses WHERE record = ?)", (key,))
    for table in ("documents", "facts", "responses", "suggestions", "vectors"):
        connection.execute(f"DELETE FROM {table} WHERE record = ?", (key,))


def _insert_response(connection: sqlite3.Connection, known: Catalogue, record: int, response: ResponseEntry) -> None:
    key = connection.execute(
        "INSERT INTO responses (dataset, record, id, user, status, updated_at, answers) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            known.dataset,
            record,
            response.id,
            response.user,
            response.status,
            response.updated_at,
            as_json(response.answers),
        ),
    ).lastrowid
    assert key is not None
    connection.executemany("INSERT INTO answers VALUES (?, ?, ?)", _facts(known, "responses", response.answers, key))


def _insert_suggestion(
    connection: sqlite3.Connection, known: Catalogue, record: int, suggestion: SuggestionEntry
) -> None:
    connection.execute(
        "INSERT OR REPLACE INTO suggestions VALUES (?, ?, ?, ?, ?)",
        (suggestion.id, record, suggestion.question, suggestion.updated_at, as_json(suggestion.parts)),
    )
    entity = f"suggestions.{suggestion.question}"
    connection.executemany("INSERT INTO facts VALUES (?, ?, ?)", _facts(known, entity, suggestion.parts, record))


def _facts(known: Catalogue, entity: str, values: Mapping[str, Any], owner: int) -> list[tuple[int, kinds.Scalar, int]]:
    rows = []
    for name, value in values.items():
        searchable = known.properties.get(f"{entity}.{name}")
        if searchable:
            rows += [(searchable.key, scalar, owner) for scalar in kinds.stored(searchable.kind, value)]
    return rows


def _insert_text(connection: sqlite3.Connection, known: Catalogue, key: int, fields: str) -> None:
    columns = known.fields
    names = ", ".join([*columns.values(), "everything"])
    marks = ", ".join("?" * (len(columns) + 2))
    connection.execute(f"INSERT INTO {known.text} (rowid, {names}) VALUES ({marks})", (key, *_text(known, fields)))


def _delete_text(connection: sqlite3.Connection, known: Catalogue, key: int, fields: str) -> None:
    """Take a record out of the word lists, which must be given the text as it went in."""
    columns = known.fields
    names = ", ".join([known.text, "rowid", *columns.values(), "everything"])
    marks = ", ".join("?" * (len(columns) + 2))
    connection.execute(f"INSERT INTO {known.text} ({names}) VALUES ('delete', {marks})", (key, *_text(known, fields)))


def _text(known: Catalogue, fields: str) -> list[str]:
    values = json.loads(fields)
    return [*(indexed(" ".join(kinds.texts(values.get(name)))) for name in known.fields), EVERY_RECORD]
