"""Time and memory by record: push, annotate, read back, a thousand at a time on one dataset that grows."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
from serving import Server, choice, make_dataset, ok, push


@dataclass(frozen=True)
class Took:
    """Seconds on the clock, and of the server's processor time: the second stays the same on a busy machine."""

    clock: float
    processor: float


@dataclass(frozen=True)
class Step:
    """One step of the proof of size.

    Args:
        records: in the dataset after it.
        push, annotate, read: this step's records added, given one response each, read back with responses.
        pending, words: the page's first screen (pending records), and a search by two words.
        peak_mb: the server's largest resident memory until now.
        answered, read_back: records with a response so far, and read back with one in all.
    """

    records: int
    push: Took
    annotate: Took
    read: Took
    pending: Took
    words: Took
    peak_mb: float
    answered: int
    read_back: int


def size(directory: Path, *, records: int = 20_000, step: int = 1_000) -> list[Step]:
    """Push, annotate and read back, step by step on one dataset.

    A record has a speech of 150 characters, two answers of 600, two metadata values. Responses go by the bulk route,
    50 a request.
    """
    server = Server(directory, annotators=("anna",)).start()
    steps: list[Step] = []
    with server.client() as owner, server.client("anna") as anna:
        dataset = _pairs_dataset(owner)
        for done in range(0, records, step):
            items = [_pair(n) for n in range(done, min(done + step, records))]
            with _timed(server) as pushing:
                pushed = push(owner, dataset, items, at_a_time=250)
            with _timed(server) as annotating:
                _answer_all(anna, pushed)
            with _timed(server) as reading:
                back = _read(owner, dataset, done, len(items))
            with _timed(server) as pending:
                _search(anna, dataset, None)
            with _timed(server) as words:
                _search(anna, dataset, "speech river")
            steps.append(
                Step(
                    records=done + len(items),
                    push=pushing[0],
                    annotate=annotating[0],
                    read=reading[0],
                    pending=pending[0],
                    words=words[0],
                    peak_mb=_peak_mb(server),
                    answered=done + len(pushed),
                    read_back=back + (steps[-1].read_back if steps else 0),
                )
            )
            print(json.dumps(asdict(steps[-1])), file=sys.stderr, flush=True)
    server.stop()
    return steps


@contextmanager
def _timed(server: Server) -> Iterator[list[Took]]:
    """A list that holds what the block took once it is over."""
    took: list[Took] = []
    began, busy = time.monotonic(), _processor_seconds(server)
    yield took
    took.append(Took(round(time.monotonic() - began, 3), round(_processor_seconds(server) - busy, 2)))


def _processor_seconds(server: Server) -> float:
    assert server.process is not None
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _pairs_dataset(owner: httpx.Client) -> str:
    dataset = make_dataset(owner, "size", publish=False)
    for name in ("answer_a", "answer_b"):
        ok(
            owner.post(
                f"datasets/{dataset}/fields",
                json={
                    "name": name,
                    "title": name,
                    "required": True,
                    "settings": {"type": "text", "use_markdown": False},
                },
            )
        )
    for name in ("topic", "batch"):
        ok(
            owner.post(
                f"datasets/{dataset}/metadata-properties",
                json={"name": name, "title": name, "settings": {"type": "terms"}, "visible_for_annotators": False},
            )
        )
    ok(owner.put(f"datasets/{dataset}/publish"))
    return dataset


WORDS = [
    "river",
    "stone",
    "morning",
    "letter",
    "window",
    "garden",
    "silence",
    "question",
    "answer",
    "patience",
    "light",
    "corner",
    "speech",
    "weather",
]


def _pair(n: int) -> dict[str, Any]:
    draw = random.Random(n)
    speech, first, second = (" ".join(draw.choices(WORDS, k=words)) for words in (21, 86, 86))
    return {
        "external_id": f"pair-{n}",
        "fields": {"text": speech, "answer_a": first, "answer_b": second},
        "metadata": {"topic": WORDS[n % len(WORDS)], "batch": str(n // 100)},
    }


def _answer_all(anna: httpx.Client, ids: list[str]) -> None:
    for start in range(0, len(ids), 50):
        items = [{"record_id": record, **choice("a", "because")} for record in ids[start : start + 50]]
        answers = ok(anna.post("me/responses/bulk", json={"items": items}))["items"]
        assert [answer["error"] for answer in answers] == [None] * len(items)


def _read(owner: httpx.Client, dataset: str, start: int, count: int) -> int:
    found = 0
    for offset in range(start, start + count, 250):
        query = {"include": "responses", "offset": offset, "limit": min(250, start + count - offset)}
        items = ok(owner.get(f"datasets/{dataset}/records", params=query))["items"]
        found += sum(bool(item["responses"]) for item in items)
    return found


def _search(anna: httpx.Client, dataset: str, words: str | None) -> None:
    scope = {"entity": "response", "property": "status"}
    body: dict[str, Any] = {"filters": {"and": [{"type": "terms", "scope": scope, "values": ["pending"]}]}}
    if words:
        body = {"query": {"text": {"q": words}}}
    ok(anna.post(f"me/datasets/{dataset}/records/search?include=responses&limit=10", json=body))


def _peak_mb(server: Server) -> float:
    """The largest resident memory of the server's process so far."""
    assert server.process is not None
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return round(int(next(line for line in status.split("\n") if line.startswith("VmHWM")).split()[1]) / 1024, 1)
