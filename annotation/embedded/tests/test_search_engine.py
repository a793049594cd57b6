"""What the engine finds, in which order, and how it counts: plain records in an index of their own."""

import asyncio
import sqlite3
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from search_server import server

server()

from argilla_server.search_engine.base import (  # noqa: E402
    AndFilter,
    MetadataFilterScope,
    Order,
    RangeFilter,
    RecordFilterScope,
    ResponseFilterScope,
    SuggestionFilterScope,
    TermsFilter,
    TextQuery,
)

from argilla_embedded.search import SqliteSearchEngine, Store, tables  # noqa: E402
from argilla_embedded.search.asking import nearby  # noqa: E402
from argilla_embedded.search.documents import Document, ResponseEntry, SuggestionEntry, VectorEntry  # noqa: E402

ANN, BOB = (SimpleNamespace(id=UUID(int=number)) for number in (1, 2))
SCHEMA = {
    "fields.speech": "words",
    "fields.answer": "words",
    "fields.picture": "opaque",
    "metadata.topic": "keyword",
    "metadata.turns": "integer",
    "metadata.gap": "float",
    "responses.rating": "integer",
    "responses.label": "keyword",
    "responses.why": "opaque",
    "suggestions.rating.value": "integer",
    "suggestions.rating.score": "float",
    "suggestions.rating.agent": "keyword",
    "suggestions.rating.type": "keyword",
}


class Index:
    """A dataset in an index file, its records numbered from 0."""

    def __init__(self, path: Path, schema: dict[str, str] = SCHEMA) -> None:
        self.store = Store(path)
        self.engine = SqliteSearchEngine(self.store)
        self.dataset = SimpleNamespace(id=uuid4(), is_draft=False)
        self.run(self.store.write(lambda connection: tables.add_dataset(connection, str(self.dataset.id), schema)))

    def run(self, work: Any) -> Any:
        return asyncio.run(work)

    def put(self, number: int, **parts: Any) -> None:
        moment = f"2026-01-01 00:00:00.{number:06d}"
        parts = {"inserted_at": moment, "updated_at": moment, "external_id": f"e{number}", **parts}
        self.run(self.engine.index_documents(self.dataset, [Document(id=str(UUID(int=number)), **parts)]))

    def find(self, query: Any = None, **options: Any) -> list[int]:
        found = self.run(self.engine.search(self.dataset, query=query, **options))
        assert found.total >= len(found.items)
        return [item.record_id.int for item in found.items]

    def matching(self, scope: Any, *values: Any) -> list[int]:
        return self.find(filter=TermsFilter(scope, list(values)))

    def between(self, scope: Any, ge: Any = None, le: Any = None) -> list[int]:
        return self.find(filter=RangeFilter(scope, ge=ge, le=le))


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    made = Index(tmp_path / "index.db")
    yield made
    made.store.close()


def response(user: Any, status: str = "submitted", at: str | None = None, **answers: Any) -> ResponseEntry:
    return ResponseEntry(str(uuid4()), str(user.id), status, at, answers)


def test_words_may_be_in_different_fields_unless_one_is_named(index: Index) -> None:
    index.put(0, fields={"speech": "I cannot sleep", "answer": "Tell me more"})
    index.put(1, fields={"speech": "Tell me", "answer": "more sleep"})
    assert sorted(index.find("sleep tell")) == [0, 1]
    assert index.find(TextQuery(q="sleep", field="answer")) == [1]
    assert index.find(TextQuery(q="-sleep", field="answer")) == [0]
    assert index.find(TextQuery(q="sleep", field="picture")) == index.find(TextQuery(q="sleep", field="nosuch")) == []


def test_a_chat_is_found_by_what_was_said_and_a_custom_field_by_its_values(index: Index) -> None:
    chat = [{"role": "user", "content": "hello there"}, {"role": "assistant", "content": "hi"}]
    index.put(0, fields={"speech": chat, "answer": {"first": "calm words", "second": ["and", 42]}})
    assert index.find("hello hi calm 42") == [0]
    assert index.find("role") == index.find("assistant") == index.find("second") == []


def test_a_changed_text_is_found_by_its_new_words_only(index: Index) -> None:
    index.put(0, fields={"speech": "old words 咨询"})
    index.put(0, fields={"speech": "new words"})
    assert index.find("words") == index.find("new") == [0]
    assert index.find("old") == index.find("咨询") == []


def test_the_better_match_comes_first(index: Index) -> None:
    for number in range(6):
        index.put(number, fields={"speech": "other words about something else entirely"})
    index.put(6, fields={"speech": "sleep and other words about something else"})
    index.put(7, fields={"speech": "sleep sleep sleep"})
    assert index.find("sleep") == [7, 6]


def test_a_word_written_wrongly_is_found_with_a_tilde(index: Index) -> None:
    for number, text in enumerate(["depression", "depressive", "expression", "impression", "anxiety"]):
        index.put(number, fields={"speech": text})
    assert sorted(index.find("deprssion~1")) == [0]
    assert sorted(index.find("depression~1")) == [0]
    assert sorted(index.find("depression~")) == [0, 1, 2, 3]
    assert index.find("depresion") == []


def test_nearby_words_are_those_that_levenshteins_table_gives() -> None:
    words = sorted({f"{a}{b}{c}{d}" for a in "ab" for b in "abc" for c in ["", "a", "bc"] for d in "abd"})

    def apart(left: str, right: str) -> int:
        if not left or not right:
            return len(left) + len(right)
        same = left[0] == right[0]
        return min(apart(left[1:], right) + 1, apart(left, right[1:]) + 1, apart(left[1:], right[1:]) + (not same))

    for most in (0, 1, 2):
        expected = [(word, apart("abca", word)) for word in words if apart("abca", word) <= most]
        assert list(nearby("abca", words, most)) == expected


@pytest.mark.parametrize(
    "query", ['"', "((", "a AND", "NEAR(a b, 2)", "speech:a", "a^2", "*", "-", "\x00", "{f1}:a", "';--"]
)
def test_no_query_is_an_error(index: Index, query: str) -> None:
    index.put(0, fields={"speech": "a b c"})
    index.find(query)
    index.find(TextQuery(q=query, field="speech"))


def test_metadata_is_compared_as_its_kind(index: Index) -> None:
    topic, turns, gap = (MetadataFilterScope(name) for name in ("topic", "turns", "gap"))
    index.put(0, metadata={"topic": "sleep", "turns": "007", "gap": 0.13})
    index.put(1, metadata={"topic": ["sleep", "work"], "turns": 12, "gap": "2.5"})
    index.put(2, metadata={"topic": 3, "turns": "many", "gap": None, "unknown": "sleep"})
    assert index.matching(topic, "sleep") == [0, 1]
    assert index.matching(topic, "work", "3") == [1, 2]
    assert index.matching(topic, "Sleep") == []
    assert index.matching(turns, "7") == index.matching(turns, 7.0) == [0]
    assert index.matching(turns, "7.5", "seven") == []
    assert index.between(turns, ge="7", le=11.5) == [0]
    assert index.between(gap, ge=0.13, le=0.13) == [0]
    assert index.between(gap, ge=1) == [1]
    assert index.between(gap, ge="low") == []
    assert index.matching(MetadataFilterScope("unknown"), "sleep") == []


@pytest.mark.parametrize("value", [10**400, float("nan"), "9" * 5000, "\ud800", {"a": 1}, [], "", True, -0.0])
def test_no_value_is_an_error(index: Index, value: Any) -> None:
    index.put(0, metadata={"topic": value, "turns": value, "gap": value}, responses=(response(ANN, rating=value),))
    for name in ("topic", "turns", "gap"):
        index.matching(MetadataFilterScope(name), value)
        index.between(MetadataFilterScope(name), ge=value)
    assert index.find() == [0]


def test_records_are_filtered_by_their_own_columns(index: Index) -> None:
    index.put(0, status="completed", inserted_at="2026-01-31 23:59:59.000001")
    index.put(1, inserted_at="2026-02-01 00:00:00.000000", external_id=None)
    at = RecordFilterScope("inserted_at")
    assert index.matching(RecordFilterScope("status"), "completed") == [0]
    assert index.matching(RecordFilterScope("external_id"), "e0") == [0]
    assert index.matching(RecordFilterScope("id"), str(UUID(int=1))) == [1]
    assert index.between(at, le="2026-01-31") == [0]
    assert index.between(at, ge="2026-01-31T23:59:59.000002Z") == [1]
    assert index.between(at, ge="2026-02-01T01:00:00+01:00") == [1]
    assert index.between(at, ge=1769904000000.0) == [1]
    assert index.between(at, ge="yesterday") == []


def test_suggestions_are_filtered_by_value_score_agent_and_type(index: Index) -> None:
    parts = {"value": 4, "score": 0.5, "agent": "judge, the first", "type": "model"}
    index.put(0, suggestions=(SuggestionEntry("s", "rating", None, parts),))
    index.put(1)
    for name, value in (("value", "4"), ("score", "0.5"), ("agent", "judge, the first"), ("type", "model")):
        assert index.matching(SuggestionFilterScope("rating", name), value) == [0]
    assert index.between(SuggestionFilterScope("rating", "score"), le=0.4) == []


def test_pending_is_the_response_that_is_not_there(index: Index) -> None:
    index.put(0, responses=(response(ANN, "submitted"), response(BOB, "draft")))
    index.put(1, responses=(response(BOB, "discarded"),))
    index.put(2)

    def of(user: Any, *statuses: str) -> list[int]:
        return index.matching(ResponseFilterScope(property="status", user=user), *statuses)

    assert of(ANN, "pending") == [1, 2]
    assert of(BOB, "pending") == of(None, "pending") == [2]
    assert of(ANN, "draft") == []
    assert of(BOB, "draft", "pending") == [0, 2]
    assert of(None, "submitted", "discarded") == [0, 1]
    assert of(ANN) == [0] and of(None) == [0, 1, 2]


def test_what_one_person_answered_is_not_what_another_did(index: Index) -> None:
    index.put(0, responses=(response(ANN, rating=5, label=["A", "B"]), response(BOB, rating=1, label="T")))
    index.put(1, responses=(response(BOB, rating=5, why="rating"),))
    rating = {
        user: ResponseFilterScope(question="rating", user=user and SimpleNamespace(id=user))
        for user in (None, ANN.id, BOB.id)
    }
    assert index.matching(rating[ANN.id], "5") == [0]
    assert index.matching(rating[BOB.id], "5") == [1]
    assert index.matching(rating[None], "5") == [0, 1]
    assert index.between(rating[BOB.id], le=2) == [0]
    assert index.matching(ResponseFilterScope(question="label", user=ANN), "B") == [0]
    assert index.matching(ResponseFilterScope(question="why", user=BOB), "rating") == []
    both = AndFilter([TermsFilter(rating[ANN.id], ["5"]), TermsFilter(rating[BOB.id], ["5"])])
    assert index.find(filter=both) == []


def test_what_has_no_value_is_sorted_last_both_ways(index: Index) -> None:
    index.put(0, metadata={"turns": 3}, responses=(response(ANN, rating=1), response(BOB, rating=5)))
    index.put(1, metadata={})
    index.put(2, metadata={"turns": 10}, responses=(response(ANN, rating=2),))
    turns, rating = MetadataFilterScope("turns"), ResponseFilterScope(question="rating", user=None)
    assert index.find(sort=[Order(turns, "asc")]) == [0, 2, 1]
    assert index.find(sort=[Order(turns, "desc")]) == [2, 0, 1]
    assert index.find(sort=[Order(rating, "desc")]) == [0, 2, 1]  # means: 3, none, 2
    assert index.find(sort=[Order(ResponseFilterScope(question="rating", user=ANN), "desc")]) == [2, 0, 1]
    assert index.find(sort=[Order(RecordFilterScope("inserted_at"), "desc")]) == [2, 1, 0]
    assert index.find(sort=[Order(MetadataFilterScope("nosuch"), "asc")]) == [0, 1, 2]


def test_each_person_gets_an_order_of_their_own_that_stays(index: Index) -> None:
    for number in range(30):
        index.put(number)
    anns, bobs = (index.find(user_id=UUID(int=number * 10**30)) for number in (3, 4))
    assert sorted(anns) == sorted(bobs) == list(range(30))
    assert len({tuple(anns), tuple(bobs), tuple(range(30))}) == 3
    person = uuid4()
    before = index.find(user_id=person)
    index.put(4, responses=(response(ANN),), status="completed")
    assert index.find(user_id=str(person)) == before
    pages = [index.find(user_id=person, offset=offset, limit=7) for offset in range(0, 30, 7)]
    assert [record for page in pages for record in page] == before


def test_records_with_a_position_come_in_its_order_for_everybody(tmp_path: Path) -> None:
    index = Index(tmp_path / "ordered.db", {**SCHEMA, "metadata.position": "integer"})
    for number, position in enumerate((3, 1, 2)):
        index.put(number, metadata={"position": position}, fields={"speech": "sleep"})
    index.put(3)
    assert index.find(user_id=uuid4()) == index.find(user_id=uuid4()) == index.find() == [1, 2, 0, 3]
    assert index.find(sort=[Order(MetadataFilterScope("position"), "desc")]) == [0, 2, 1, 3]
    index.store.close()


def test_the_most_alike_come_first_and_the_least_alike_when_asked(index: Index) -> None:
    settings = SimpleNamespace(id=uuid4())
    for number, value in enumerate([[1.0, 0.0], [1.0, 1.0], [-1.0, 0.0], [0.0, 0.0], [1.0, 0.0, 0.0]]):
        vector = VectorEntry(str(number), str(settings.id), None, value)
        index.put(number, vectors=(vector,), metadata={"topic": "odd" if number % 2 else "even"})

    def alike(**options: Any) -> list[tuple[int, float]]:
        options = {"value": [2.0, 0.0], **options}
        found = index.run(index.engine.similarity_search(index.dataset, settings, **options))
        return [(item.record_id.int, round(item.score, 4)) for item in found.items]

    assert alike() == [(0, 1.0), (1, 0.8536), (2, 0.0)]  # (1 + cos 45 degrees) / 2
    assert alike(order="least_similar") == [(2, 1.0), (1, 0.1464), (0, 0.0)]
    assert alike(filter=TermsFilter(MetadataFilterScope("topic"), ["odd"])) == [(1, 0.8536)]
    assert alike(max_results=1) == [(0, 1.0)] and alike(threshold=0.9) == [(0, 1.0)]
    record = SimpleNamespace(id=UUID(int=0), vector_value_by_vector_settings=lambda _: [1.0, 0.0])
    assert alike(value=None, record=record) == [(1, 0.8536), (2, 0.0)]


def test_metrics_count_values_and_give_the_ends_of_numbers(index: Index) -> None:
    index.put(0, metadata={"topic": ["a", "b"], "turns": 3, "gap": -149.13})
    index.put(1, metadata={"topic": "a", "turns": "12"})

    def metrics(name: str, kind: str) -> dict[str, Any]:
        asked = SimpleNamespace(name=name, type=kind, dataset_id=index.dataset.id)
        return dict(index.run(index.engine.compute_metrics_for(asked)).model_dump(exclude={"type"}))

    assert metrics("topic", "terms") == {"total": 3, "values": [{"term": "a", "count": 2}, {"term": "b", "count": 1}]}
    assert metrics("turns", "integer") == {"min": 3, "max": 12}
    assert metrics("gap", "float") == {"min": -149.1300048828125, "max": -149.1300048828125}
    assert metrics("nosuch", "float") == {"min": None, "max": None}


def test_progress_counts_ones_own_statuses(index: Index) -> None:
    index.put(0, status="completed", responses=(response(ANN), response(BOB, "draft")))
    index.put(1, responses=(response(BOB),))
    engine, dataset = index.engine, index.dataset
    assert index.run(engine.get_dataset_progress(dataset)) == {"total": 2, "completed": 1, "pending": 1}
    assert index.run(engine.get_dataset_user_progress(dataset, ANN)) == {"total": 1, "submitted": 1}
    assert index.run(engine.get_dataset_user_progress(dataset, BOB)) == {"total": 2, "draft": 1, "submitted": 1}
    assert index.run(engine.count_waiting(dataset, ANN)) == 1
    assert index.run(engine.get_dataset_progress(SimpleNamespace(is_draft=True))) == {}


def test_an_older_status_that_comes_late_changes_nothing(index: Index) -> None:
    index.put(0)
    for status, moment in (("completed", "2026-01-02"), ("pending", "2026-01-01 12:00")):
        record = SimpleNamespace(id=UUID(int=0), updated_at=datetime.fromisoformat(moment))
        index.run(index.engine.partial_record_update(record, status=status))
    assert index.matching(RecordFilterScope("status"), "completed") == [0]


def test_many_write_and_read_at_once_and_nothing_is_lost(index: Index) -> None:
    for number in range(20):
        index.put(number, fields={"speech": f"word{number}"})

    async def respond(number: int) -> None:
        entry = SimpleNamespace(id=uuid4(), user_id=uuid4(), status="submitted", updated_at=None, values=None)
        entry.record_id = UUID(int=number % 20)
        await index.engine.update_record_response(entry)
        found = await index.engine.search(index.dataset, query=f"word{number % 20}")
        assert [item.record_id.int for item in found.items] == [number % 20]

    async def all_at_once() -> None:
        await asyncio.gather(*map(respond, range(200)))

    index.run(all_at_once())
    connection = sqlite3.connect(index.store.path)
    assert connection.execute("SELECT count(*) FROM responses").fetchone() == (200,)
    connection.close()


def test_the_event_loop_does_none_of_the_work(index: Index) -> None:
    async def where() -> set[int]:
        return {
            await index.store.write(lambda _: threading.get_ident()),
            await index.store.read(lambda _: threading.get_ident()),
        }

    assert threading.get_ident() not in index.run(where())


def test_a_write_that_fails_leaves_nothing_behind(index: Index) -> None:
    def half(connection: sqlite3.Connection) -> None:
        connection.execute("DELETE FROM datasets")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        index.run(index.store.write(half))
    index.put(0)
    assert index.find() == [0]
