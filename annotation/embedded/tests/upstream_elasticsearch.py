"""What Argilla's own search-engine suite needs beside an engine: an Elasticsearch client to look behind it with.

The suite writes some states and reads most results through `opensearchpy`. This client does the same with the index
file of the engine under test: a document is made of what the tables hold of a record, a mapping of the paths and kinds
that the engine indexes and compares by. Nothing is remembered here but the names of indexes; what the engine did not
keep is not in an answer, and no assertion of the suite is touched.

Words of Elasticsearch that have no counterpart in an engine without mappings stand here as constants (`_CONTAINERS`:
"dynamic", "nested", "include_in_root"). So an assertion on a mapping tests the paths and their kinds, not those words.
"""

import json
import sqlite3
from array import array
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from argilla_embedded.search import SqliteSearchEngine, tables
from argilla_embedded.search.documents import Document, ResponseEntry, VectorEntry
from argilla_embedded.search.kinds import FLOAT, INTEGER, KEYWORD, OPAQUE, WORDS

_RECORD_COLUMNS = {
    "id": {"type": "keyword"},
    "external_id": {"type": "keyword"},
    "status": {"type": "keyword"},
    "inserted_at": {"type": "date_nanos"},
    "updated_at": {"type": "date_nanos"},
}
_OPAQUE = {"type": "object", "enabled": False}
_TYPES = {WORDS: {"type": "text"}, KEYWORD: {"type": "keyword"}, FLOAT: {"type": "float"}, OPAQUE: _OPAQUE}
_INTEGERS = {"metadata": {"type": "long"}, "responses": {"type": "integer"}, "suggestions": {"type": "integer"}}
_CONTAINERS = {
    "responses": {"dynamic": "strict", "include_in_root": True, "type": "nested"},
    "root": {"dynamic": "strict"},
}
_RESPONSE_COLUMNS = {name: {"type": "keyword"} for name in ("id", "status", "user_id")}


class Engine(SqliteSearchEngine):
    """The engine under test, with the one private method that the suite calls: to set vectors."""

    async def _bulk_op_request(self, actions: list[dict[str, Any]]) -> None:
        def put(connection: sqlite3.Connection) -> None:
            for number, action in enumerate(actions):
                known = tables.catalogue(connection, _dataset(action["_index"]))
                assert known is not None and action["_op_type"] == "update"
                document = _document(connection, known, str(action["_id"]))
                ((path, value),) = action["doc"].items()
                added = VectorEntry(f"{document.id} {number}", path.removeprefix("vectors."), None, value)
                changed = {**document.__dict__, "vectors": (*document.vectors, added)}
                tables.put_records(connection, known, [Document(**changed)])

        await self.store.write(put)


class Client:
    """As much of `opensearchpy.OpenSearch` as the suite uses, over an engine's index file."""

    def __init__(self, path: Path) -> None:
        self.indices = _Indices(path)
        self.transport = self
        self.serializer = _Json()
        self._path = path

    def get(self, index: str, id: Any) -> dict[str, Any]:
        with _open(self._path) as connection:
            known = tables.catalogue(connection, _dataset(index))
            assert known is not None
            document = _document(connection, known, str(id))
            return {"_source": {"responses": [], **_source(document)}}

    def search(self, index: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        wanted = body["query"]["ids"]["values"] if body else None
        with _open(self._path) as connection:
            known = tables.catalogue(connection, _dataset(index))
            assert known is not None
            rows = connection.execute("SELECT id FROM records WHERE dataset = ? ORDER BY key", (known.dataset,))
            ids = [id for (id,) in rows.fetchall() if wanted is None or id in wanted]
            return {"hits": {"hits": [{"_source": _source(_document(connection, known, id))} for id in ids]}}

    def update(self, index: str, id: Any, body: dict[str, Any]) -> None:
        """Give a record the responses in `body`, all of them."""
        responses = tuple(map(_response, body["doc"]["responses"]))
        with _open(self._path) as connection:
            known = tables.catalogue(connection, _dataset(index))
            assert known is not None
            changed = {**_document(connection, known, str(id)).__dict__, "responses": responses}
            tables.put_records(connection, known, [Document(**changed)])
            connection.commit()

    def bulk(self, body: str, *_: Any, **__: Any) -> dict[str, Any]:
        """Index documents of text fields, which become known with the first, as in an index with dynamic fields."""
        lines = [json.loads(line) for line in body.splitlines()]
        actions = list(zip((line["index"] for line in lines[::2]), lines[1::2], strict=True))
        with _open(self._path) as connection:
            dataset = _dataset(actions[0][0]["_index"])
            schema = {f"fields.{name}": WORDS for name in actions[0][1]["fields"]}
            known = tables.add_dataset(connection, dataset, schema)
            indexed = [Document(id=action["_id"], fields=document["fields"]) for action, document in actions]
            tables.put_records(connection, known, indexed)
            connection.commit()
        return {"errors": False, "items": [{"index": {"status": 201}} for _ in actions]}


class _Indices:
    def __init__(self, path: Path) -> None:
        self._path = path

    def create(self, index: str, body: dict[str, Any]) -> None:
        with _open(self._path) as connection:
            tables.add_dataset(connection, _dataset(index), {})
            connection.commit()

    def delete(self, index: str) -> None:
        with _open(self._path) as connection:
            tables.remove_dataset(connection, _dataset(index))
            connection.commit()

    def refresh(self, index: str) -> None:
        """Nothing: what was written is searchable."""

    def exists(self, index: str) -> bool:
        with _open(self._path) as connection:
            return tables.catalogue(connection, _dataset(index)) is not None

    def get(self, index: str, **_: Any) -> dict[str, Any]:
        return {index: {"mappings": self._mapping(index), "settings": {}}}

    def get_mapping(self, index: str) -> dict[str, Any]:
        return {index: {"mappings": self._mapping(index)}}

    def _mapping(self, index: str) -> dict[str, Any]:
        with _open(self._path) as connection:
            known = tables.catalogue(connection, _dataset(index))
        assert known is not None
        properties: dict[str, Any] = {**_RECORD_COLUMNS}
        responses, unstored = {**_RESPONSE_COLUMNS}, []
        metadata: dict[str, Any] = {}
        for path, kind in known.schema.items():
            entity, name = path.split(".", 1)
            mapped = _INTEGERS[entity] if kind == INTEGER else _TYPES.get(kind)
            if entity == "responses":
                responses[name] = mapped
            elif entity == "metadata":
                metadata[name] = mapped
            elif entity == "fields":
                properties.setdefault("fields", {"properties": {}})["properties"][name] = mapped
                if kind == OPAQUE:
                    unstored.append(path)
            elif entity == "suggestions":
                question, part = name.rsplit(".", 1)
                suggestions = properties.setdefault("suggestions", {"properties": {}})["properties"]
                suggestions.setdefault(question, {"properties": {}})["properties"][part] = mapped
        properties["metadata"] = {"dynamic": "false", **({"properties": metadata} if metadata else {"type": "object"})}
        properties["responses"] = {**_CONTAINERS["responses"], "properties": responses}
        source = {"_source": {"excludes": unstored}} if unstored else {}
        return {**_CONTAINERS["root"], **source, "properties": properties}


class _Json:
    def dumps(self, value: Any) -> str:
        return value if isinstance(value, str) else json.dumps(value, default=str)


def _open(path: Path) -> Any:
    return closing(sqlite3.connect(path, timeout=30))


def _dataset(index: str) -> str:
    return index.removeprefix("rg.")


def _response(source: dict[str, Any]) -> ResponseEntry:
    answers = {name: value for name, value in source.items() if name not in _RESPONSE_COLUMNS}
    return ResponseEntry(source["id"], source["user_id"], source["status"], None, answers)


def _document(connection: sqlite3.Connection, known: tables.Catalogue, id: str) -> Document:
    """A record as the tables hold it."""
    key, *columns, fields, metadata = connection.execute(
        "SELECT key, external_id, status, inserted_at, updated_at, fields, metadata "
        "FROM records JOIN documents ON record = key WHERE id = ? AND dataset = ?",
        (id, known.dataset),
    ).fetchone()
    responses = connection.execute(
        "SELECT id, user, status, updated_at, answers FROM responses WHERE record = ? ORDER BY key", (key,)
    )
    suggestions = connection.execute("SELECT id, question, updated_at, parts FROM suggestions WHERE record = ?", (key,))
    vectors = connection.execute("SELECT id, settings, updated_at, value FROM vectors WHERE record = ?", (key,))
    return Document(
        id=id,
        **dict(zip(("external_id", "status", "inserted_at", "updated_at"), columns, strict=True)),
        fields=json.loads(fields),
        metadata=json.loads(metadata),
        responses=tuple(ResponseEntry(*row, json.loads(answers)) for *row, answers in responses),
        suggestions=tuple(tables.SuggestionEntry(*row, json.loads(parts)) for *row, parts in suggestions),
        vectors=tuple(VectorEntry(*row, array("f", value).tolist()) for *row, value in vectors),
    )


def _source(document: Document) -> dict[str, Any]:
    """As Elasticsearch gives a document back: parts that a record does not have are left out."""
    parts: dict[str, Any] = {
        "metadata": document.metadata,
        "responses": [
            {"id": found.id, "status": found.status, "user_id": found.user, **found.answers}
            for found in document.responses
        ],
        "suggestions": {found.question: found.parts for found in document.suggestions},
        "vectors": {found.settings: found.value for found in document.vectors},
    }
    return {
        "id": document.id,
        "external_id": document.external_id,
        "status": document.status,
        "fields": document.fields,
        **{name: _iso(getattr(document, name)) for name in ("inserted_at", "updated_at")},
        **{name: part for name, part in parts.items() if part},
    }


def _iso(moment: str | None) -> str | None:
    return datetime.fromisoformat(moment).isoformat() if moment else None
