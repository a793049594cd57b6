"""Nothing lost: people submit while the server is killed with -9, then all that it acknowledged is looked for."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from serving import Server, choice, environment, make_dataset, ok, push, run

VALUES = ("a", "b", "tie")


@dataclass(frozen=True)
class NothingLost:
    """What was found after the kills.

    Args:
        acknowledged: responses that the server said it has, edits of one counted once.
        edits: how many of them were changed again later, acknowledged too.
        kills: kill -9 while people were submitting.
        cut: requests that a kill left without an answer; they were made again.
        lost, changed: acknowledged responses that are gone, or are not as last acknowledged.
        statuses_wrong: records whose status is not what their submitted responses say.
        index_after_restart, index_rebuilt: digests of the search index after the last kill and a start, and made anew.
        in_database, restored: digests of all responses in the database and in a restored backup.
        seconds: the whole, starts included.
    """

    acknowledged: int
    edits: int
    kills: int
    cut: int
    lost: int
    changed: int
    statuses_wrong: int
    index_after_restart: str
    index_rebuilt: str
    in_database: str
    restored: str
    seconds: float


@dataclass
class _Shared:
    """What the annotators' threads and the killer share."""

    server: Server
    up: threading.Event = field(default_factory=threading.Event)
    acknowledged: dict[tuple[str, str], str] = field(default_factory=dict)
    edits: int = 0
    cut: int = 0
    failures: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def nothing_lost(
    directory: Path, *, responses: int = 2000, annotators: int = 5, kills: int = 20, seed: int = 0
) -> NothingLost:
    """Annotators submit at the same time, one response in eight is edited, the server is killed in between.

    A request without an answer is made again after the restart, as the page's user would. Every answer of the server
    that says "saved" is remembered, and compared with the database at the end.

    Args:
        directory: for the server; new.
        responses: in all; each annotator answers responses / annotators records, all the same ones.
        annotators: threads.
        kills: spread evenly over the responses, each at a random moment.
        seed: of the choices and moments.
    """
    began = time.monotonic()
    names = tuple(f"annotator{n}" for n in range(annotators))
    server = Server(directory, annotators=names).start()
    with server.client() as owner:
        dataset = make_dataset(owner, "kills", overlap=annotators // 2 + 1)
        records = push(owner, dataset, [{"fields": {"text": f"case {n}"}} for n in range(responses // annotators)])
    shared = _Shared(server)
    shared.up.set()
    threads = [threading.Thread(target=_annotate, args=(shared, name, records, seed)) for name in names]
    for thread in threads:
        thread.start()
    killed = _kill_now_and_then(shared, threads, kills=kills, responses=responses, seed=seed)
    for thread in threads:
        thread.join()
    if shared.failures:
        raise AssertionError(shared.failures[0])
    server.kill()
    server.start()
    server.stop()
    after_restart = Path(shutil.copytree(directory, f"{directory}-after-restart"))
    lost, changed, statuses_wrong = _compare(directory, shared.acknowledged)
    rebuilt = run("reindex", "--dir", directory)
    assert rebuilt.returncode == 0, rebuilt.stderr
    index_after_restart, index_rebuilt = _index_digests(after_restart, directory)
    return NothingLost(
        acknowledged=len(shared.acknowledged),
        edits=shared.edits,
        kills=killed,
        cut=shared.cut,
        lost=lost,
        changed=changed,
        statuses_wrong=statuses_wrong,
        index_after_restart=index_after_restart,
        index_rebuilt=index_rebuilt,
        in_database=_responses_digest(directory),
        restored=_restored_digest(directory),
        seconds=round(time.monotonic() - began, 1),
    )


def _annotate(shared: _Shared, name: str, records: list[str], seed: int) -> None:
    draw = random.Random(f"{seed} {name}")
    order = draw.sample(records, len(records))
    try:
        for place, record in enumerate(order):
            _submit(shared, name, record, draw.choice(VALUES), f"{name} on {place}")
            if draw.random() < 1 / 8:
                _submit(shared, name, draw.choice(order[: place + 1]), draw.choice(VALUES), f"edited at {place}")
    except Exception as error:  # noqa: BLE001 - a thread's failure is raised by the main one
        shared.failures.append(f"{name}: {type(error).__name__}: {error}")


def _submit(shared: _Shared, name: str, record: str, value: str, reason: str) -> None:
    """One response, until the server says that it has it."""
    body = {"items": [{"record_id": record, **choice(value, reason)}]}
    for _ in range(200):
        shared.up.wait(120)
        try:
            with shared.server.client(name) as client:
                answer = client.post("me/responses/bulk", json=body)
        except httpx.TransportError:
            with shared.lock:
                shared.cut += 1
            time.sleep(0.05)
            continue
        (item,) = ok(answer)["items"]
        if item["error"]:
            raise AssertionError(item["error"])
        with shared.lock:
            shared.edits += (name, record) in shared.acknowledged
            shared.acknowledged[name, record] = json.dumps(item["item"]["values"], sort_keys=True)
        return
    raise AssertionError("200 tries without an answer")


def _kill_now_and_then(
    shared: _Shared, threads: list[threading.Thread], *, kills: int, responses: int, seed: int
) -> int:
    draw = random.Random(seed)
    done = 0
    while done < kills and any(thread.is_alive() for thread in threads):
        if len(shared.acknowledged) < (done + 0.5) * responses / kills:
            time.sleep(0.005)
            continue
        time.sleep(draw.random() * 0.2)
        shared.up.clear()
        shared.server.kill()
        shared.server.start()
        shared.up.set()
        done += 1
    return done


def _compare(directory: Path, acknowledged: dict[tuple[str, str], str]) -> tuple[int, int, int]:
    """Lost, changed, records with a wrong status."""
    with _database(directory / "argilla.db") as connection:
        rows = connection.execute(
            'SELECT username, record_id, "values" FROM responses JOIN users ON users.id = user_id '
            "WHERE status = 'submitted'"
        )
        stored = {(name, record.replace("-", "")): _same(values) for name, record, values in rows}
        wrong = connection.execute(
            "SELECT count(*) FROM records JOIN datasets ON datasets.id = dataset_id WHERE records.status != "
            "CASE WHEN (SELECT count(*) FROM responses WHERE record_id = records.id AND status = 'submitted') >= "
            "json_extract(distribution, '$.min_submitted') THEN 'completed' ELSE 'pending' END"
        ).fetchone()[0]
    told = {(name, record.replace("-", "")): values for (name, record), values in acknowledged.items()}
    lost = sum(key not in stored for key in told)
    changed = sum(key in stored and stored[key] != values for key, values in told.items())
    return lost, changed, wrong


def _same(values: str) -> str:
    return json.dumps(json.loads(values), sort_keys=True)


@contextmanager
def _database(path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(path)
    try:
        yield connection
    finally:
        connection.close()


def _responses_digest(directory: Path) -> str:
    with _database(directory / "argilla.db") as connection:
        rows = connection.execute('SELECT record_id, user_id, status, "values" FROM responses ORDER BY 1, 2').fetchall()
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def _restored_digest(directory: Path) -> str:
    file = directory.with_suffix(".tar.gz")
    for step in (("backup", "--dir", directory, "--to", file), ("restore", "--dir", f"{directory}-restored", file)):
        done = run(*step)
        assert done.returncode == 0, done.stderr
    return _responses_digest(Path(f"{directory}-restored"))


def _index_digests(*directories: Path) -> list[str]:
    """The search engine's own digest of all that is in the index of each folder, computed in a process of its own."""
    code = (
        "import asyncio, sys; from pathlib import Path; from argilla_embedded.folder import below; "
        "from argilla_embedded.booting import index_fingerprint; "
        "[print('DIGEST' + asyncio.run(index_fingerprint(below(Path(folder))))) for folder in sys.argv[1:]]"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code, *map(str, directories)],
        capture_output=True,
        check=False,
        text=True,
        env=environment(),
        timeout=300,
    )
    assert printed.returncode == 0, printed.stderr
    return [line.partition("DIGEST")[2] for line in printed.stdout.splitlines() if "DIGEST" in line]
