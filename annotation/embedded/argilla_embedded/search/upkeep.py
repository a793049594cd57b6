"""The index is a function of the database: compare, mend, make anew.

    reconcile      what the launcher calls at every start: compares each record with the database (its status and
                   times, and those of each of its responses, suggestions and vectors), indexes what differs, forgets
                   what is gone. A killed process loses index calls between the database's commit and the index's;
                   this finds them. An index that is missing, unreadable or of another version is empty, so differs in
                   everything.
    needs_rebuild  the same comparison, in words, changing nothing
    rebuild        forgets everything and indexes everything, with the server's own Reindexer
    fingerprint    a digest of all the index says, whatever order it was written in

The comparison reads ids and times only, some 60,000 rows a second; texts are read for what differs.
"""

import hashlib
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

from argilla_server.cli.search_engine.reindex import Reindexer
from argilla_server.database import AsyncSessionLocal
from argilla_server.enums import DatasetStatus
from argilla_server.models import Dataset, Record, Response, Suggestion, Vector
from sqlalchemy import select
from sqlalchemy.orm import selectinload

from argilla_embedded.search import documents, kinds, tables
from argilla_embedded.search.engine import SqliteSearchEngine
from argilla_embedded.search.store import Store, shared_store

READ_AT_ONCE = 500
"""Records read from the database for indexing."""

State = tuple[str, str | None, str | None, frozenset[tuple[str, str | None]]]
"""Status, external id and time of a record, and the id and time of each thing that belongs to it."""


@dataclass(frozen=True)
class Mended:
    """What was done to make the index say what the database says.

    Args:
        datasets: indexes begun anew, because there were none or their properties had changed.
        indexed: records indexed.
        removed: records and datasets that were no longer in the database.
        seconds: taken.
        reason: why the whole file was begun anew, if it was.
    """

    datasets: int = 0
    indexed: int = 0
    removed: int = 0
    seconds: float = 0.0
    reason: str | None = None

    def __str__(self) -> str:
        """One line for the launcher; empty when there was nothing to do."""
        if not (self.datasets or self.indexed or self.removed):
            return ""
        why = f" ({self.reason})" if self.reason else ""
        removed = f", {self.removed} removed" if self.removed else ""
        return f"search index{why}: {self.indexed} records indexed{removed} in {self.seconds:.1f} s"


@dataclass
class _Difference:
    """Of one dataset: what has to be done."""

    dataset: Any
    begin: bool = False
    stale: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


async def reconcile(store: Store | None = None) -> Mended:
    """Make the index say what the database says, doing only what is needed. Before the server answers requests."""
    store = store or shared_store()
    began = time.monotonic()
    engine = SqliteSearchEngine(store)
    datasets = indexed = removed = 0
    async with _session() as db:
        for dataset_id in await _forgotten_datasets(db, store):
            await store.write(partial(tables.remove_dataset, dataset_id=dataset_id))
            removed += 1
        async for difference in _differences(db, store):
            if difference.begin:
                await engine.create_index(difference.dataset)
                datasets += 1
            await store.write(partial(tables.remove_records, record_ids=difference.gone))
            await _index(db, engine, difference)
            indexed += len(difference.stale)
            removed += len(difference.gone)
    return Mended(datasets, indexed, removed, time.monotonic() - began, store.begun_because)


async def needs_rebuild(store: Store | None = None) -> str | None:
    """In what the index differs from the database, in words; None when it does not."""
    store = store or shared_store()
    found: Counter[str] = Counter()
    async with _session() as db:
        found["datasets removed"] = len(await _forgotten_datasets(db, store))
        async for difference in _differences(db, store):
            found["datasets not indexed"] += difference.begin
            found["records not indexed"] += len(difference.stale)
            found["records removed"] += len(difference.gone)
    differing = ", ".join(f"{count} {what}" for what, count in found.items() if count)
    return differing or None


async def rebuild(store: Store | None = None) -> Mended:
    """Make the whole index anew from the database."""
    store = store or shared_store()
    began = time.monotonic()
    engine = SqliteSearchEngine(store)
    datasets = indexed = 0
    async with _session() as db:
        for dataset_id in await _forgotten_datasets(db, store):
            await store.write(partial(tables.remove_dataset, dataset_id=dataset_id))
        for dataset in await _ready_datasets(db):
            await Reindexer.reindex_dataset(db, engine, dataset.id)
            datasets += 1
            async for records in Reindexer.reindex_dataset_records(db, engine, dataset):
                indexed += len(records)
                for record in records:
                    db.expunge(record)
    return Mended(datasets, indexed, 0, time.monotonic() - began, "rebuilt")


async def fingerprint(store: Store | None = None, *, words: bool = True) -> str:
    """A digest of all that the index says, the same for two indexes that answer every question alike.

    Args:
        words: whether the word lists are read too, position by position: 2 s a million words.
    """
    return await (store or shared_store()).read(lambda connection: _digest(connection, words))


@asynccontextmanager
async def _session() -> AsyncIterator[Any]:
    async with AsyncSessionLocal() as db:
        yield db


async def _ready_datasets(db: Any) -> list[Any]:
    query = (
        select(Dataset)
        .where(Dataset.status == DatasetStatus.ready)
        .order_by(Dataset.inserted_at)
        .options(
            selectinload(Dataset.fields),
            selectinload(Dataset.questions),
            selectinload(Dataset.metadata_properties),
            selectinload(Dataset.vectors_settings),
        )
    )
    return list((await db.execute(query)).scalars())


async def _forgotten_datasets(db: Any, store: Store) -> list[str]:
    ready = {str(found) for found in await db.scalars(select(Dataset.id).where(Dataset.status == DatasetStatus.ready))}
    return sorted(await store.read(tables.dataset_ids) - ready)


async def _differences(db: Any, store: Store) -> AsyncIterator[_Difference]:
    for dataset in await _ready_datasets(db):
        difference = _Difference(dataset)
        true = await _states_in_database(db, dataset.id)
        known = await store.read(partial(tables.catalogue, dataset_id=str(dataset.id)))
        if known is None or known.schema != documents.schema_of(dataset):
            difference.begin, indexed = True, {}
        else:
            indexed = await store.read(partial(_states_in_index, dataset=known.dataset))
        difference.stale = [record for record, state in true.items() if indexed.get(record) != state]
        difference.gone = [record for record in indexed if record not in true]
        if difference.begin or difference.stale or difference.gone:
            yield difference


async def _index(db: Any, engine: SqliteSearchEngine, difference: _Difference) -> None:
    for start in range(0, len(difference.stale), READ_AT_ONCE):
        ids = [UUID(record) for record in difference.stale[start : start + READ_AT_ONCE]]
        query = (
            select(Record)
            .where(Record.id.in_(ids))
            .options(
                selectinload(Record.responses),
                selectinload(Record.suggestions).selectinload(Suggestion.question),
                selectinload(Record.vectors),
            )
        )
        records = list((await db.execute(query)).scalars())
        read = [documents.document_of(record) for record in records]
        for record in records:
            db.expunge(record)
        # A response that the index has and the database does not, or an older one, may not survive here.
        await engine.store.write(partial(tables.remove_records, record_ids=[document.id for document in read]))
        await engine.index_documents(difference.dataset, read)


async def _states_in_database(db: Any, dataset_id: UUID) -> dict[str, State]:
    parts: dict[UUID, set[tuple[str, str | None]]] = {}
    for model in (Response, Suggestion, Vector):
        query = select(model.record_id, model.id, model.updated_at).join(Record).where(Record.dataset_id == dataset_id)
        for record, part, updated_at in await db.execute(query):
            parts.setdefault(record, set()).add((str(part), kinds.moment(updated_at)))
    query = (
        select(Record.id, Record.status, Record.external_id, Record.updated_at)
        .where(Record.dataset_id == dataset_id)
        .order_by(Record.inserted_at)
    )
    return {
        str(record): (
            kinds.plain(status),
            None if external_id is None else kinds.plain(external_id),
            kinds.moment(updated_at),
            frozenset(parts.get(record, ())),
        )
        for record, status, external_id, updated_at in await db.execute(query)
    }


def _states_in_index(connection: sqlite3.Connection, dataset: int) -> dict[str, State]:
    parts: dict[int, set[tuple[str, str | None]]] = {}
    for table in ("responses", "suggestions", "vectors"):
        for record, part, updated_at in connection.execute(
            f"SELECT record, {table}.id, {table}.updated_at FROM {table} JOIN records ON records.key = record "
            "WHERE records.dataset = ?",
            (dataset,),
        ):
            parts.setdefault(record, set()).add((part, updated_at))
    return {
        id: (status, external_id, updated_at, frozenset(parts.get(key, ())))
        for key, id, status, external_id, updated_at in connection.execute(
            "SELECT key, id, status, external_id, updated_at FROM records WHERE dataset = ?", (dataset,)
        )
    }


_SAYS = {
    "properties": "SELECT datasets.id, path, kind FROM properties JOIN datasets ON datasets.key = dataset",
    "records": "SELECT datasets.id, records.id, external_id, status, inserted_at, updated_at, shuffle, fields, "
    "metadata FROM records JOIN datasets ON datasets.key = dataset JOIN documents ON record = records.key",
    "facts": "SELECT records.id, path, value FROM facts JOIN records ON records.key = record "
    "JOIN properties ON properties.key = property",
    "responses": "SELECT responses.id, records.id, user, responses.status, responses.updated_at, answers "
    "FROM responses JOIN records ON records.key = record",
    "answers": "SELECT responses.id, path, value FROM answers JOIN responses ON responses.key = response "
    "JOIN properties ON properties.key = property",
    "suggestions": "SELECT suggestions.id, records.id, question, suggestions.updated_at, parts "
    "FROM suggestions JOIN records ON records.key = record",
    "vectors": "SELECT vectors.id, records.id, settings, vectors.updated_at, value "
    "FROM vectors JOIN records ON records.key = record",
}


def _digest(connection: sqlite3.Connection, words: bool) -> str:
    digest = hashlib.sha256()
    for name, query in _SAYS.items():
        _add(digest, name, connection.execute(query))
    for id in sorted(tables.dataset_ids(connection)) if words else ():
        known = tables.catalogue(connection, id)
        assert known is not None
        _add(digest, id, _words(connection, known))
    return digest.hexdigest()


def _words(connection: sqlite3.Connection, known: tables.Catalogue) -> Iterable[tuple[Any, ...]]:
    """Every word of every record at its place, from the word lists themselves; fields by name."""
    names: Mapping[str, str] = {column: name for name, column in known.fields.items()}
    connection.execute(f"CREATE VIRTUAL TABLE temp.every_word USING fts5vocab(main, {known.text}, 'instance')")
    try:
        for term, record, column, place in connection.execute(
            'SELECT term, records.id, col, "offset" FROM temp.every_word LEFT JOIN records ON records.key = doc'
        ):
            yield term, record, names.get(column, column), place
    finally:
        connection.execute("DROP TABLE temp.every_word")


def _add(digest: Any, name: str, rows: Iterable[tuple[Any, ...]]) -> None:
    digest.update(name.encode())
    for line in sorted(repr(row) for row in rows):
        digest.update(line.encode("utf-8", "surrogatepass"))
