"""The index says what the database says: after every kind of change, after a kill, after a loss of the file."""

import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from search_server import Server, server

HERE = Path(__file__).parent
Store = Any


@pytest.fixture
def argilla() -> Server:
    return server()


def same_as_rebuilt(argilla: Server) -> bool:
    """Whether the index as it is and one made anew give the same fingerprint."""
    before = argilla.run(argilla.search.fingerprint())
    argilla.run(argilla.search.rebuild())
    return bool(before == argilla.run(argilla.search.fingerprint()))


def change_everything(argilla: Server, name: str) -> str:
    """A dataset on which each call that touches the index is made at least once; its id."""
    dataset, workspace = argilla.dataset(name, overlap=2, metadata={"topic": "terms", "turns": "integer"})
    (ann_id, ann), (_, bob) = (argilla.annotator(f"{who}-{name}", workspace) for who in ("ann", "bob"))
    questions = {found["name"]: found["id"] for found in argilla.ask("GET", f"/datasets/{dataset}/questions")["items"]}
    vector = {"name": "meaning", "title": "meaning", "dimensions": 3}
    argilla.ask("POST", f"/datasets/{dataset}/vectors-settings", json=vector)
    suggestion = {"question_id": questions["label"], "value": "A", "agent": "m", "score": 0.3}
    records = argilla.add(
        dataset,
        [
            {
                "fields": {"text": f"Text {number}: 我想预约心理咨询"},
                "external_id": f"e{number}",
                "metadata": {"topic": "sleep" if number % 2 else "work", "turns": number, "later": str(number)},
                "vectors": {"meaning": [number, 1.0, 0.5]},
                "suggestions": [suggestion],
                **({"responses": [_response(ann_id)]} if number < 2 else {}),
            }
            for number in range(8)
        ],
    )
    argilla.ask(
        "PUT",
        f"/datasets/{dataset}/records/bulk",
        json={"items": [{"id": records[2], "fields": {"text": "another text"}, "metadata": {"topic": "grief"}}]},
    )
    argilla.ask("PATCH", f"/records/{records[3]}", json={"metadata": {"turns": 77}, "vectors": {"meaning": [9, 9, 9]}})
    response = argilla.respond(records[3], ann, "draft", label="B")
    argilla.ask("PUT", f"/responses/{response}", key=ann, json=_response(status="submitted", rating=5))
    argilla.respond(records[3], bob, "submitted")
    taken_back = argilla.respond(records[4], bob, "submitted")
    argilla.ask("DELETE", f"/responses/{taken_back}", key=bob)
    bulk = [{"record_id": record, **_response(status="discarded")} for record in records[4:6]]
    argilla.ask("POST", "/me/responses/bulk", key=ann, json={"items": bulk})
    argilla.ask("PUT", f"/records/{records[5]}/suggestions", json={**suggestion, "value": "T"})
    shown = argilla.ask("GET", f"/datasets/{dataset}/records?include=suggestions")["items"]
    gone = next(record for record in shown if record["id"] == records[6])["suggestions"][0]["id"]
    argilla.ask("DELETE", f"/records/{records[6]}/suggestions?ids={gone}")
    argilla.ask("DELETE", f"/records/{records[7]}")
    later = {"name": "later", "title": "later", "settings": {"type": "terms"}, "visible_for_annotators": True}
    argilla.ask("POST", f"/datasets/{dataset}/metadata-properties", json=later)
    return dataset


def _response(user: str | None = None, status: str = "submitted", rating: int = 2) -> dict[str, Any]:
    values = {"rating": {"value": rating}, "label": {"value": "T"}}
    return {"values": values, "status": status, **({"user_id": user} if user else {})}


def test_every_call_of_the_server_leaves_the_index_as_a_rebuild_makes_it(argilla: Server) -> None:
    change_everything(argilla, "all-calls")
    assert argilla.run(argilla.search.needs_rebuild()) is None
    assert same_as_rebuilt(argilla)


def test_a_metadata_property_declared_later_finds_the_records_that_were_there(argilla: Server) -> None:
    dataset = change_everything(argilla, "later")
    scope = {"entity": "metadata", "metadata_property": "later"}
    body = {"filters": {"and": [{"type": "terms", "scope": scope, "values": ["4", "5"]}]}}
    assert argilla.found(dataset, body)["total"] == 2


def lost(*_: Any, **__: Any) -> Awaitable[None]:
    async def nothing() -> None:
        return None

    return nothing()


@pytest.mark.parametrize(
    "call",
    [
        "create_index",
        "index_records",
        "partial_record_update",
        "delete_records",
        "update_record_response",
        "delete_record_response",
        "update_record_suggestion",
        "delete_record_suggestion",
        "configure_metadata_property",
    ],
)
def test_a_lost_call_is_found_and_only_what_it_touched_is_indexed_again(
    argilla: Server, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    argilla.run(argilla.search.reconcile())
    with monkeypatch.context() as patched:
        patched.setattr(argilla.search.SqliteSearchEngine, call, lost)
        change_everything(argilla, f"lost-{call}".replace("_", "-"))
    assert argilla.run(argilla.search.needs_rebuild()) is not None
    mended = argilla.run(argilla.search.reconcile())
    assert mended.indexed <= 8
    assert argilla.run(argilla.search.needs_rebuild()) is None
    assert same_as_rebuilt(argilla)


def test_a_deleted_dataset_is_forgotten_though_the_call_was_lost(
    argilla: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = change_everything(argilla, "deleted")
    with monkeypatch.context() as patched:
        patched.setattr(argilla.search.SqliteSearchEngine, "delete_index", lost)
        argilla.ask("DELETE", f"/datasets/{dataset}")
    assert argilla.run(argilla.search.needs_rebuild()) == "1 datasets removed"
    assert argilla.run(argilla.search.reconcile()).removed == 1
    assert same_as_rebuilt(argilla)


def test_the_responses_of_a_deleted_user_are_gone_after_the_next_start(argilla: Server) -> None:
    """argilla-server removes them from the database only, and tells no search engine."""
    dataset, workspace = argilla.dataset("leaver")
    record, _ = argilla.add(dataset, [{"fields": {"text": "one"}}, {"fields": {"text": "two"}}])
    user, key = argilla.annotator("leaver", workspace)
    argilla.respond(record, key, "submitted")
    argilla.ask("DELETE", f"/users/{user}")
    assert argilla.run(argilla.search.reconcile()).indexed == 1
    assert same_as_rebuilt(argilla)


@pytest.mark.parametrize("damage", ["missing", "version", "unreadable"])
def test_an_index_that_is_no_use_is_made_anew(argilla: Server, tmp_path: Path, damage: str) -> None:
    change_everything(argilla, f"damage-{damage}")
    path = tmp_path / "index.db"
    store = argilla.search.Store(path)
    argilla.run(argilla.search.reconcile(store))
    whole = argilla.run(argilla.search.fingerprint(store))
    if damage == "version":
        argilla.run(store.write(lambda connection: connection.execute("UPDATE about SET value = '0'")))
    store.close()
    if damage == "missing":
        path.unlink()
    if damage == "unreadable":
        path.write_bytes(os.urandom(8192))
    store = argilla.search.Store(path)
    assert argilla.run(argilla.search.needs_rebuild(store)) is not None
    assert argilla.run(argilla.search.reconcile(store)).reason == store.begun_because is not None
    assert argilla.run(argilla.search.fingerprint(store)) == whole
    store.close()


@pytest.mark.parametrize("table", ["records", "documents", "facts", "responses", "answers", "suggestions", "vectors"])
def test_the_fingerprint_sees_every_table(argilla: Server, tmp_path: Path, table: str) -> None:
    change_everything(argilla, f"seen-{table}")
    store = argilla.search.Store(tmp_path / "index.db")
    argilla.run(argilla.search.reconcile(store))
    before = argilla.run(argilla.search.fingerprint(store, words=False))
    argilla.run(store.write(lambda connection: connection.execute(f"DELETE FROM {table} WHERE rowid % 2")))
    assert argilla.run(argilla.search.fingerprint(store, words=False)) != before
    store.close()


def test_the_fingerprint_sees_the_word_lists(argilla: Server, tmp_path: Path) -> None:
    change_everything(argilla, "seen-words")
    store = argilla.search.Store(tmp_path / "index.db")
    argilla.run(argilla.search.reconcile(store))
    before = argilla.run(argilla.search.fingerprint(store))
    from argilla_embedded.search import tables

    def add_a_word(connection: Any) -> None:
        known = tables.catalogue(connection, next(iter(tables.dataset_ids(connection))))
        connection.execute(f"INSERT INTO {known.text} (rowid, everything) VALUES (999, 'word')")

    argilla.run(store.write(add_a_word))
    assert argilla.run(argilla.search.fingerprint(store)) != before
    store.close()


def test_a_response_read_before_a_later_one_does_not_undo_it(argilla: Server) -> None:
    """A record's bulk update that read an old response comes to the index after the annotator's newer one."""
    dataset, workspace = argilla.dataset("overtaken")
    (record,) = argilla.add(dataset, [{"fields": {"text": "text"}}])
    _, key = argilla.annotator("overtaken", workspace)
    response = argilla.respond(record, key, "draft")
    engine_class = argilla.search.SqliteSearchEngine
    index_records: Callable[..., Awaitable[None]] = engine_class.index_records

    async def overtaken(self: Any, of: Any, records: list[Any]) -> None:
        await argilla.asking("PUT", f"/responses/{response}", key=key, json=_response(status="submitted"))
        await index_records(self, of, records)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(engine_class, "index_records", overtaken)
        argilla.ask("PATCH", f"/records/{record}", json={"metadata": {"touched": str(uuid4())}})
    body = {"filters": {"and": [{"type": "terms", "scope": {"entity": "response", "property": "status"}}]}}
    body["filters"]["and"][0]["values"] = ["submitted"]
    assert argilla.found(dataset, body, key=key)["total"] == 1


KILLS = ["index_records:3", "partial_record_update:9", "update_record_response:5"]


@pytest.mark.parametrize("kill", KILLS)
def test_after_kill_minus_nine_between_commit_and_index_a_start_mends_the_index(tmp_path: Path, kill: str) -> None:
    """The process kills itself at the call, so after the database's commit; the next one starts on what is left."""
    died = _started(tmp_path, kill)
    assert died.returncode == -signal.SIGKILL, died.stderr[-2000:]
    again = _started(tmp_path, "")
    assert again.returncode == 0, again.stderr[-2000:]
    needed, mended, rebuilt = again.stdout.split()[-3:]
    assert needed == "differs"
    assert mended == rebuilt


def _started(home: Path, kill: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)]), "KILL_AT": kill}
    command = [sys.executable, str(HERE / "search_killed.py"), str(home)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
