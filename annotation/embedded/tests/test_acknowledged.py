"""A full disk and kills lose nothing that was acknowledged; a folder of records comes back whole."""

from __future__ import annotations

import resource
import sqlite3

import proofs
from serving import Server, choice, make_dataset, ok, push


def test_a_disk_that_fills_up_while_it_serves_loses_nothing_that_was_acknowledged(tmp_path):
    limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (6_000_000, 6_000_000))}
    server = Server(tmp_path / "dir", options=limit).start()
    with server.client() as owner:
        dataset = make_dataset(owner, "filling")
        acknowledged: list[str] = []
        for _ in range(40):
            body = {"items": [{"fields": {"text": "x" * 50_000}} for _ in range(10)]}
            answer = owner.post(f"datasets/{dataset}/records/bulk", json=body)
            if answer.is_error:
                break
            acknowledged += [record["id"] for record in answer.json()["items"]]
        assert answer.status_code == 500 and acknowledged
    with server.client() as owner:  # of a new connection: that of the failure may be closed any moment
        assert owner.get("version").status_code == 200
        assert ok(owner.get(f"records/{acknowledged[0]}"))["fields"]["text"].startswith("xxx")
    server.stop()
    server.options = {}  # there is room again
    server.start()
    with server.client() as owner:
        assert all(owner.get(f"records/{record}").status_code == 200 for record in acknowledged)
        push(owner, dataset, [{"fields": {"text": "more"}}])
    server.stop()


def test_a_status_that_a_kill_left_behind_is_mended_at_the_next_start(tmp_path):
    """The kill between two commits is put there by hand: a submitted response whose record is still pending."""
    server = Server(tmp_path / "dir", annotators=("anna",)).start()
    with server.client() as owner, server.client("anna") as anna:
        records = push(owner, make_dataset(owner, "torn"), [{"fields": {"text": str(n)}} for n in range(2)])
        ok(anna.post("me/responses/bulk", json={"items": [{"record_id": records[0], **choice("a")}]}))
    server.kill()
    connection = sqlite3.connect(server.directory / "argilla.db")
    with connection:
        connection.execute("UPDATE records SET status = CASE status WHEN 'pending' THEN 'completed' ELSE 'pending' END")
    connection.close()
    server.start()
    with server.client() as owner:
        assert [ok(owner.get(f"records/{record}"))["status"] for record in records] == ["completed", "pending"]
    assert "repaired the status of 2 records" in server.log.read_text()
    server.stop()


def test_what_was_acknowledged_survives_kills(tmp_path):
    """The proof at a small size; `python annotation/embedded/tests/proofs.py kills` runs it whole."""
    found = proofs.nothing_lost(tmp_path / "dir", responses=60, annotators=3, kills=2)
    assert found.acknowledged == 60 and found.kills == 2
    assert (found.lost, found.changed, found.statuses_wrong) == (0, 0, 0)
    assert found.index_after_restart == found.index_rebuilt
    assert found.restored == found.in_database


def test_a_folder_of_records_goes_out_and_comes_back(tmp_path):
    """`python annotation/embedded/tests/proofs.py size --records 20000` runs it whole."""
    steps = proofs.size(tmp_path / "dir", records=200, step=100)
    assert [step.records for step in steps] == [100, 200]
    assert steps[-1].read_back == 200 and steps[-1].answered == 200
