"""The launcher as its users meet it: one real server, its folder, its commands."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import START_SECONDS, Server, choice, environment, make_dataset, ok, push, run


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("launcher") / "dir", annotators=("anna", "ben")).start()
    yield server
    server.stop()


def log_in(server: Server, name: str, password: str) -> int:
    with server.client(None) as client:
        return client.post("token", data={"username": name, "password": password}).status_code


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_serves_the_page_and_the_api_at_the_address_it_wrote_down(server):
    with server.client() as owner:
        assert ok(owner.get("version")) == {"version": "2.8.0"}
        assert "<title>Argilla</title>" in owner.get(server.address).text
        assert "<title>Argilla</title>" in owner.get(f"{server.address}/dataset/none/annotation-mode").text
    told = json.loads((server.directory / "server.json").read_text())
    assert (told["address"], told["pid"], told["workspace"]) == (server.address, server.process.pid, "annotation")


def test_the_folder_and_all_in_it_are_for_its_owner_only(server):
    assert mode(server.directory) == 0o700
    assert {path.name: oct(mode(path)) for path in server.directory.iterdir() if mode(path) & 0o077} == {}


def test_every_account_has_a_long_random_password_and_logs_in_with_it(server):
    accounts = [server.account(name) for name in ("owner", "anna", "ben")]
    assert [account["role"] for account in accounts] == ["owner", "annotator", "annotator"]
    assert len({account["password"] for account in accounts}) == 3
    assert all(len(account["password"]) >= 16 and len(account["api_key"]) >= 40 for account in accounts)
    assert [log_in(server, account["username"], account["password"]) for account in accounts] == [201] * 3


def test_argillas_default_account_does_not_exist(server):
    assert log_in(server, "argilla", "1234") == 401
    with server.client(None, headers={"X-Argilla-Api-Key": "argilla.apikey"}) as client:
        assert client.get("me").status_code == 401


def test_passwords_are_printed_once_and_a_restart_prints_and_changes_none(tmp_path):
    server = Server(tmp_path / "dir", annotators=("anna",)).start()
    before = (server.directory / "accounts.json").read_text()
    token = log_in_token(server)
    printed = server.log.read_text()
    assert printed.count(server.account("anna")["password"]) == printed.count(server.account("owner")["password"]) == 1
    assert server.stop() == 0
    server.start()
    assert (server.directory / "accounts.json").read_text() == before
    assert server.log.read_text().count(server.account("anna")["password"]) == 1
    with server.client(None, headers={"Authorization": f"Bearer {token}"}) as client:  # the secret is kept
        assert ok(client.get("me"))["username"] == "anna"
    server.stop()


def log_in_token(server: Server) -> str:
    with server.client(None) as client:
        anna = {"username": "anna", "password": server.account("anna")["password"]}
        return str(ok(client.post("token", data=anna))["access_token"])


def test_users_can_be_added_while_it_serves_and_again_changes_nothing(server):
    added = run("users", "add", "--dir", server.directory, "cleo", "anna")
    assert added.returncode == 0 and "already there, unchanged: anna" in added.stdout
    assert log_in(server, "cleo", server.account("cleo")["password"]) == 201
    with server.client("cleo") as cleo:
        assert [workspace["name"] for workspace in ok(cleo.get("me/workspaces"))["items"]] == ["annotation"]
    listed = run("users", "list", "--dir", server.directory).stdout.split("\n")
    assert "cleo  annotator" in listed and not any(server.account("cleo")["password"] in line for line in listed)


def test_a_new_password_replaces_the_old(server):
    run("users", "add", "--dir", server.directory, "dora")
    old = server.account("dora")["password"]
    printed = run("users", "password", "--dir", server.directory, "dora").stdout
    new = server.account("dora")["password"]
    assert new in printed and new != old
    assert (log_in(server, "dora", old), log_in(server, "dora", new)) == (401, 201)


def test_users_can_be_added_before_the_first_start(tmp_path):
    added = run("users", "add", "--dir", tmp_path / "dir", "früh")
    assert added.returncode == 0, added.stderr
    server = Server(tmp_path / "dir").start()
    assert log_in(server, "früh", server.account("früh")["password"]) == 201
    server.stop()


def test_status_tells_people_and_programs_how_it_stands(server):
    with server.client() as owner, server.client("anna") as anna:
        records = push(owner, make_dataset(owner, "counted"), [{"fields": {"text": str(n)}} for n in range(3)])
        ok(anna.post("me/responses/bulk", json={"items": [{"record_id": records[0], **choice("a")}]}))
        ok(anna.post("me/responses/bulk", json={"items": [{"record_id": records[1], **choice("a", status="draft")}]}))
    told = json.loads(run("status", "--dir", server.directory, "--json").stdout)
    assert told["running"]["address"] == server.address
    counted = next(dataset for dataset in told["datasets"] if dataset["name"] == "counted")
    assert (counted["records"], counted["completed"]) == (3, 1)
    assert counted["responses"] == {"submitted": 1, "draft": 1}
    assert {"owner", "anna", "ben"} <= {user["username"] for user in told["users"]}
    text = run("status", "--dir", server.directory).stdout
    assert f"running at {server.address}" in text
    assert "annotation/counted (ready): 1 of 3 records completed; responses: 1 draft, 1 submitted" in text


def test_a_second_server_on_the_folder_is_refused_with_the_pid_of_the_first(server):
    second = run("serve", "--dir", server.directory, "--port", 0)
    assert second.returncode == 1
    assert f"in use by process {server.process.pid}" in second.stderr and "Traceback" not in second.stderr
    with server.client() as owner:
        assert owner.get("version").status_code == 200


OFFLINE = """
import asyncio, json, sys
from pathlib import Path
from argilla_embedded.booting import booted_offline
from argilla_embedded.folder import open_folder
async def ask():
    async with booted_offline(open_folder(Path(sys.argv[1]), make=True)):
        from argilla_server.database import AsyncSessionLocal
        from sqlalchemy import text
        async with AsyncSessionLocal() as db:
            names = ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
            return [(await db.execute(text(f"PRAGMA {name}"))).scalar() for name in names]
print("RESULT", json.dumps([asyncio.run(ask()), [name for name in ("datasets", "pyarrow") if name in sys.modules]]))
"""


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], list[str]]:
    """What a process that booted the server says: pragmas of a connection of its pool, heavy libraries loaded."""
    printed = subprocess.run(
        [sys.executable, "-c", OFFLINE, str(tmp_path_factory.mktemp("offline") / "dir")],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment(),
        check=True,
    ).stdout
    pragmas, loaded = json.loads(printed.partition("RESULT ")[2])
    return pragmas, loaded


def test_the_database_writes_ahead_and_flushes_before_it_acknowledges(booted):
    """synchronous 2 is FULL."""
    assert booted[0] == ["wal", 2, 30000, 1]


def test_what_only_the_closed_transfers_to_a_hub_need_is_not_loaded(booted):
    assert booted[1] == []


def test_compressed_twins_of_the_pages_files_which_nothing_serves_are_not_copied(server):
    assert {path.suffix for path in (server.directory / "page").rglob("*.*")} & {".js", ".br", ".gz"} == {".js"}


def test_a_page_of_records_is_read_in_order_without_sorting_the_dataset(server):
    with sqlite3.connect(server.directory / "argilla.db") as database:
        listing = "SELECT * FROM records WHERE dataset_id = ? ORDER BY inserted_at LIMIT 250 OFFSET 5000"
        plan = " ".join(row[3] for row in database.execute(f"EXPLAIN QUERY PLAN {listing}", ("a",)))
    assert "USING INDEX" in plan and "TEMP B-TREE" not in plan, plan


def test_stop_ends_it_cleanly_and_leaves_no_page_log_or_temporary_file(tmp_path):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    server = Server(tmp_path / "dir")
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(temporary)
    try:
        server.start()
        stopped = run("stop", "--dir", server.directory)
    finally:
        os.environ.pop("TMPDIR") if before is None else os.environ.update(TMPDIR=before)
    assert stopped.stdout == f"stopped {server.process.pid}\n"
    assert server.process.wait(START_SECONDS) == 0
    left = {path.name for path in server.directory.iterdir()}
    assert not left & {"page", "server.json", "argilla.db-wal"}
    assert [*temporary.iterdir()] == []
    assert run("stop", "--dir", server.directory).stdout == "not running\n"
    assert json.loads(run("status", "--dir", server.directory, "--json").stdout)["running"] is None


def test_a_killed_server_leaves_one_page_folder_which_the_next_start_replaces(tmp_path):
    server = Server(tmp_path / "dir").start()
    server.kill()
    left = [path.name for path in (server.directory / "page").iterdir()]
    assert len(left) == 1
    assert json.loads(run("status", "--dir", server.directory, "--json").stdout)["running"] is None
    server.start()
    assert [path.name for path in (server.directory / "page").iterdir()] != left
    assert len([*(server.directory / "page").iterdir()]) == 1
    server.stop()


def test_a_request_that_was_begun_is_finished_before_it_stops(tmp_path):
    server = Server(tmp_path / "dir").start()
    with server.client() as owner:
        dataset = make_dataset(owner, "slow")
        items = [{"fields": {"text": f"record {n}"}} for n in range(500)]
        body = json.dumps({"items": items}).encode()

        def slowly() -> Iterator[bytes]:
            yield body[:1000]
            server.process.terminate()
            yield body[1000:]

        answer = owner.post(
            f"datasets/{dataset}/records/bulk", content=slowly(), headers={"Content-Type": "application/json"}
        )
    assert answer.status_code == 201 and len(answer.json()["items"]) == 500
    assert server.process.wait(60) == 0
    connection = sqlite3.connect(server.directory / "argilla.db")
    assert connection.execute("SELECT count(*) FROM records").fetchone() == (500,)
    connection.close()


def test_a_backup_taken_while_it_serves_restores_to_a_server_that_knows_all(server, tmp_path):
    with server.client() as owner, server.client("ben") as ben:
        records = push(owner, make_dataset(owner, "precious"), [{"fields": {"text": f"text {n}"}} for n in range(5)])
        ok(ben.post("me/responses/bulk", json={"items": [{"record_id": r, **choice("b")} for r in records]}))
    file = tmp_path / "backup.tar.gz"
    written = run("backup", "--dir", server.directory, "--to", file)
    assert written.returncode == 0 and mode(file) == 0o600
    with server.client() as owner:
        ok(owner.delete(f"records/{records[0]}"))
    assert run("restore", "--dir", tmp_path / "new", file).returncode == 0
    restored = Server(tmp_path / "new").start()
    assert restored.account("ben") == server.account("ben")
    with restored.client("ben") as ben:
        shown = [ok(ben.get(f"records/{record}"))["responses"][0]["values"]["better"]["value"] for record in records]
        assert shown == ["b"] * 5
    assert run("restore", "--dir", restored.directory, file, "--replace").returncode == 1  # it runs
    restored.stop()


def test_a_restore_over_a_database_needs_a_word_and_keeps_what_was_there(tmp_path):
    assert run("users", "add", "--dir", tmp_path / "dir", "anna").returncode == 0
    file = Path(re.match(r"(.*\.tar\.gz): ", run("backup", "--dir", tmp_path / "dir").stdout)[1])
    assert file.parent == tmp_path / "dir" / "backups"
    refused = run("restore", "--dir", tmp_path / "dir", file)
    assert refused.returncode == 1 and "--replace" in refused.stderr
    done = run("restore", "--dir", tmp_path / "dir", file, "--replace")
    assert done.returncode == 0
    kept = Path(done.stdout.partition("what was there: ")[2].strip())
    assert sqlite3.connect(kept).execute("SELECT count(*) FROM users").fetchone() == (2,)


def test_with_allow_network_it_answers_to_a_proxys_name_and_by_every_interface(tmp_path):
    server = Server(tmp_path / "dir", extra=("--host", "0.0.0.0", "--allow-network", "--cors", "https://study.example"))
    server.start()
    assert "reverse proxy with TLS" in server.log.read_text()
    told = json.loads((server.directory / "server.json").read_text())
    server.address = told["local"]
    with server.client() as owner:
        asked = {"Host": "study.example", "Origin": "https://study.example"}
        answer = owner.get("me", headers=asked)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://study.example")
    assert run("users", "add", "--dir", server.directory, "anna").returncode == 0
    server.stop()
