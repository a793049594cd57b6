"""The search engine `sqlite` of argilla-server: the server's calls, taken to the index and back.

The server makes an instance for every request; all of them share one store. Calls come after the database's commit.
Whatever an update finds missing (a record whose indexing failed) is logged and left to `upkeep.reconcile`, which the
launcher calls at every start: an answer that was saved is never turned into an error here.
"""

import logging
import sqlite3
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from argilla_server.enums import MetadataPropertyType, SimilarityOrder
from argilla_server.search_engine.base import (
    FloatMetadataMetrics,
    IntegerMetadataMetrics,
    MetadataMetrics,
    SearchEngine,
    SearchResponseItem,
    SearchResponses,
    TermsMetrics,
    TextQuery,
)

from argilla_embedded.search import asking, documents, kinds, tables
from argilla_embedded.search.asking import Found, Text
from argilla_embedded.search.filters import EVERY, condition, order_terms
from argilla_embedded.search.store import VERSION, Store, shared_store
from argilla_embedded.search.tables import Catalogue

NAME = "sqlite"
"""For ARGILLA_SEARCH_ENGINE."""

LARGEST_BATCH = 200
"""Records indexed in one transaction: searches and other writers wait no longer than that takes."""

T = TypeVar("T")
_LOG = logging.getLogger(__name__)
_NOTHING = Found([], 0)


@SearchEngine.register(engine_name=NAME)
class SqliteSearchEngine(SearchEngine):  # type: ignore[misc]
    """argilla-server's search engine on an index file."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @classmethod
    async def new_instance(cls) -> "SqliteSearchEngine":
        """An engine on the store that all requests share."""
        return cls(shared_store())

    async def close(self) -> None:
        """Nothing: the store outlives the request."""

    async def ping(self) -> bool:
        """Whether the index can be read."""
        return await self.store.read(tables.version) == VERSION

    async def info(self) -> dict[str, Any]:
        """For the server's /status."""
        return {"name": NAME, "version": VERSION, "sqlite": sqlite3.sqlite_version}

    async def create_index(self, dataset: Any) -> None:
        """Begin the index of a dataset whose fields, questions, properties and vector settings are loaded."""
        schema = documents.schema_of(dataset)
        await self.store.write(lambda connection: tables.add_dataset(connection, str(dataset.id), schema))

    async def delete_index(self, dataset: Any) -> None:
        """Forget a dataset."""
        await self.store.write(lambda connection: tables.remove_dataset(connection, str(dataset.id)))

    async def configure_metadata_property(self, dataset: Any, metadata_property: Any) -> None:
        """Make a metadata property searchable, also in the records that are indexed."""
        await self._add_paths(dataset.id, documents.metadata_path(metadata_property))

    async def configure_index_vectors(self, vector_settings: Any) -> None:
        """Make a kind of vector known."""
        await self._add_paths(vector_settings.dataset_id, documents.vector_path(vector_settings))

    async def index_records(self, dataset: Any, records: Iterable[Any]) -> None:
        """Index records, new or changed, with their loaded responses, suggestions and vectors."""
        await self.index_documents(dataset, [documents.document_of(record) for record in records])

    async def index_documents(self, dataset: Any, indexed: list[documents.Document]) -> None:
        """The same, of records already read."""
        if not await self._read(dataset.id, lambda _, known: True, False):
            await self._begin_late(dataset)
        for start in range(0, len(indexed), LARGEST_BATCH):
            batch = indexed[start : start + LARGEST_BATCH]
            await self._write(dataset.id, partial(tables.put_records, documents=batch))

    async def partial_record_update(self, record: Any, **update: Any) -> None:
        """A record's new status: the only thing the server updates this way."""
        status, updated_at = kinds.plain(update["status"]), kinds.moment(record.__dict__.get("updated_at"))
        await self.store.write(lambda connection: tables.set_status(connection, str(record.id), status, updated_at))

    async def delete_records(self, dataset: Any, records: Iterable[Any]) -> None:
        """Forget records."""
        ids = [str(record.id) for record in records]
        await self.store.write(lambda connection: tables.remove_records(connection, ids))

    async def update_record_response(self, response: Any) -> None:
        """A response that was given or changed."""
        entry, record = documents.response_of(response), str(response.record_id)
        self._told(await self.store.write(lambda connection: tables.put_response(connection, record, entry)), record)

    async def delete_record_response(self, response: Any) -> None:
        """A response that was taken back."""
        await self.store.write(lambda connection: tables.remove_response(connection, str(response.id)))

    async def update_record_suggestion(self, suggestion: Any) -> None:
        """A suggestion that was made or changed."""
        entry, record = documents.suggestion_of(suggestion), str(suggestion.record_id)
        self._told(await self.store.write(lambda connection: tables.put_suggestion(connection, record, entry)), record)

    async def delete_record_suggestion(self, suggestion: Any) -> None:
        """A suggestion that was taken back."""
        record, question = str(suggestion.record_id), suggestion.question.name
        await self.store.write(lambda connection: tables.remove_suggestion(connection, record, question))

    async def get_dataset_progress(self, dataset: Any) -> dict[str, int]:
        """Records by status, and in all; nothing for a draft."""
        return {} if dataset.is_draft else _with_total(await self._read(dataset.id, asking.statuses, {}))

    async def get_dataset_user_progress(self, dataset: Any, user: Any) -> dict[str, int]:
        """One person's own responses by status, and in all; nothing for a draft."""
        if dataset.is_draft:
            return {}
        return _with_total(await self._read(dataset.id, partial(asking.own_statuses, user=user.id), {}))

    async def count_waiting(self, dataset: Any, user: Any) -> int:
        """Records in this person's pending queue."""
        return await self._read(dataset.id, partial(asking.waiting, user=user.id), 0)

    async def search(
        self,
        dataset: Any,
        query: TextQuery | str | None = None,
        filter: Any = None,
        sort: list[Any] | None = None,
        offset: int = 0,
        limit: int = 100,
        user_id: UUID | str | None = None,
    ) -> SearchResponses:
        """A page of the records that match; see `asking` for their order."""

        def ask(connection: sqlite3.Connection, known: Catalogue) -> Found:
            return asking.search(
                connection,
                known,
                text=_text(query),
                where=condition(filter, known) if filter else EVERY,
                sort=order_terms(sort or [], known),
                person=UUID(str(user_id)) if user_id else None,
                offset=offset,
                limit=limit,
            )

        return _responses(await self._asked(dataset, ask))

    async def similarity_search(
        self,
        dataset: Any,
        vector_settings: Any,
        value: list[float] | None = None,
        record: Any = None,
        query: TextQuery | str | None = None,
        filter: Any = None,
        max_results: int = 100,
        order: SimilarityOrder = SimilarityOrder.most_similar,
        threshold: float | None = None,
    ) -> SearchResponses:
        """The records whose vector is nearest to (or farthest from) a value or another record's vector."""
        if bool(value) == bool(record):
            raise ValueError("Must provide either vector value or record to compute the similarity search")
        wanted = value or record.vector_value_by_vector_settings(vector_settings)
        if not wanted:
            raise ValueError("Cannot find a vector value to apply with provided info")
        sign = -1 if order == SimilarityOrder.least_similar else 1

        def ask(connection: sqlite3.Connection, known: Catalogue) -> Found:
            return asking.most_similar(
                connection,
                known,
                settings=str(vector_settings.id),
                value=[sign * number for number in wanted],
                excluded=record.id if record else None,
                text=_text(query),
                where=condition(filter, known) if filter else EVERY,
                limit=max_results,
            )

        return _responses(await self._asked(dataset, ask), threshold)

    async def compute_metrics_for(self, metadata_property: Any) -> MetadataMetrics:
        """How often each value of a property occurs, or from where to where its numbers go."""
        dataset_id, path = metadata_property.dataset_id, f"metadata.{metadata_property.name}"
        if metadata_property.type == MetadataPropertyType.terms:
            counts = partial(asking.terms, path=path)
            found: list[tuple[str, int]] = await self._read(dataset_id, counts, [])
            values = [TermsMetrics.TermCount(term=term, count=count) for term, count in found]
            return TermsMetrics(total=sum(value.count for value in values), values=values)
        nowhere: tuple[float | None, float | None] = (None, None)
        low, high = await self._read(dataset_id, partial(asking.extent, path=path), nowhere)
        whole = metadata_property.type == MetadataPropertyType.integer
        return (IntegerMetadataMetrics if whole else FloatMetadataMetrics)(min=low, max=high)

    async def _asked(self, dataset: Any, ask: Callable[[sqlite3.Connection, Catalogue], Found]) -> Found:
        try:
            return await self._read(dataset.id, ask, _NOTHING)
        except sqlite3.OperationalError as error:
            if "fts5" not in str(error):
                raise
            _LOG.warning("a text query that FTS5 does not take (%s) found nothing", error)
            return _NOTHING

    async def _read(self, dataset_id: UUID, ask: Callable[[sqlite3.Connection, Catalogue], T], without: T) -> T:
        """What `ask` says of the dataset's part of the index; `without`, when it has none."""

        def work(connection: sqlite3.Connection) -> T:
            known = tables.catalogue(connection, str(dataset_id))
            return without if known is None else ask(connection, known)

        return await self.store.read(work)

    async def _write(self, dataset_id: UUID, change: Callable[[sqlite3.Connection, Catalogue], None]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            known = tables.catalogue(connection, str(dataset_id))
            if known is not None:
                change(connection, known)

        await self.store.write(work)

    async def _add_paths(self, dataset_id: UUID, paths: dict[str, str]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            for path, kind in paths.items():
                tables.add_property(connection, str(dataset_id), path, kind)

        await self.store.write(work)

    async def _begin_late(self, dataset: Any) -> None:
        for relation in ("fields", "questions", "metadata_properties", "vectors_settings"):
            await getattr(dataset.awaitable_attrs, relation)
        await self.create_index(dataset)

    @staticmethod
    def _told(known: bool, record: str) -> None:
        if not known:
            _LOG.warning("record %s is not in the search index; it will be after the next start", record)


def _text(query: TextQuery | str | None) -> Text | None:
    if query is None:
        return None
    return Text(query) if isinstance(query, str) else Text(query.q, query.field or None)


def _with_total(counts: dict[str, int]) -> dict[str, int]:
    return {"total": sum(counts.values()), **counts}


def _responses(found: Found, threshold: float | None = None) -> SearchResponses:
    return SearchResponses(
        items=[
            SearchResponseItem(record_id=record, score=score)
            for record, score in asking.items_at_least(found, threshold)
        ],
        total=found.total,
    )
