"""Annotating: one command to a working page, clicks that arrive, kills that lose nothing, and 20,000 items.

    python -m benchmarks.annotate --size small|full [--only install|clicks|kills|growth]

**install**  ``prefkit annotate serve`` with no environment for the server and empty caches: seconds to a page that
             answers. Fetches packages from their index, nothing else here needs a network.
**clicks**   two annotators in a real Chromium; what they clicked against what ``annotate pull`` brought.
**kills**    five annotators submit through the API while the server is killed with -9; what is gone afterwards.
**growth**   generated pairs at two sizes, all of them pushed, answered through the API, 50 answers a request, and
             pulled: time and memory by 1,000, and what the larger size takes by record beside the smaller.

The server stands on a free port of the loopback, in the environment that PREFKIT_ANNOTATION_ENV names.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.commands import prefkit_measured
from benchmarks.generated_run import generate
from benchmarks.proof import Check, report
from prefkit.records import Judgement
from prefkit.run import read_records

if TYPE_CHECKING:
    from browser import Server

ROOT = Path(__file__).parent.parent
PROOFS = ROOT / "annotation" / "embedded" / "tests" / "proofs.py"
PEOPLE = ("anna", "ben")
SIZES = {"small": (200, 600), "full": (2_000, 20_000)}
KILLS = {"small": ("--responses", "200", "--kills", "3"), "full": ("--responses", "2000", "--kills", "20")}
CLICKED = {"small": 6, "full": 20}
FLAT = 1.25
"""The larger size may take this many times the smaller one by record: the clock of a shared machine is not better."""


def install(folder: Path, size: str) -> list[Check]:
    """From nothing to a page, the packages fetched from their index."""
    caches = {name: str(folder / name) for name in ("XDG_DATA_HOME", "UV_CACHE_DIR", "PIP_CACHE_DIR")}
    bare = {name: value for name, value in os.environ.items() if name != "PREFKIT_ANNOTATION_ENV"} | caches
    where = ["--dir", str(folder / "server")]
    words = ["annotate", "serve", *where, "--port", "0", "--annotators", ",".join(PEOPLE)]
    checks = []
    for name in ("no environment, empty caches", "the second time"):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "prefkit", *words], env=bare, check=True, stdout=subprocess.DEVNULL)
        address = json.loads((folder / "server" / "server.json").read_text())["local"]
        page = urllib.request.build_opener(urllib.request.ProxyHandler({})).open(address)
        checks.append(Check(f"serve, {name}: to a page that answers", round(time.perf_counter() - began, 1), "s"))
        checks.append(_exactly(f"serve, {name}: the page's status", page.status, 200))
        stop = [sys.executable, "-m", "prefkit", "annotate", "stop", *where]
        subprocess.run(stop, env=bare, check=True, stdout=subprocess.DEVNULL)
    return checks


def clicks(folder: Path, size: str) -> list[Check]:
    """Twenty pairs each: keyboard and mouse, skip, flag, come back, edit."""
    sys.path.insert(0, str(ROOT / "tests"))
    from browser import chromium, prove, serving

    run = generate(folder / "run", CLICKED[size])
    with serving(folder / "server", *PEOPLE) as server, chromium() as browser:
        proof = prove(run, CLICKED[size], server, browser, PEOPLE)
    done = sum(len(annotator.clicked) for annotator in proof.annotators)
    asked = sum(len(annotator.requests) for annotator in proof.annotators)
    return [
        _exactly("clicks: items that two annotators did", done, len(PEOPLE) * CLICKED[size]),
        _exactly("clicks: differences to what was pulled", len(proof.differences), 0),
        Check("clicks: requests of the browser", asked),
        _exactly("clicks: of them to elsewhere", len(proof.foreign), 0),
        _exactly("clicks: errors, dialogs and windows on the page", len(proof.noises), 0),
    ]


def kills(folder: Path, size: str) -> list[Check]:
    """The server's own proof, in its own environment."""
    command = [str(_server_python()), str(PROOFS), "kills", "--dir", str(folder / "server"), *KILLS[size]]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    return [
        Check("kills: kill -9", found["kills"]),
        Check("kills: responses acknowledged", found["acknowledged"]),
        Check("kills: requests cut off and made again", found["cut"]),
        _exactly("kills: acknowledged responses lost", found["lost"], 0),
        _exactly("kills: acknowledged responses changed", found["changed"], 0),
        _exactly("kills: records with a wrong status", found["statuses_wrong"], 0),
        _equal("kills: index after restart", found["index_after_restart"], found["index_rebuilt"], "the rebuilt one"),
        _equal("kills: restored backup", found["restored"], found["in_database"], "the database"),
    ]


@dataclass(frozen=True)
class Took:
    """Seconds by 1,000 items, and peak memory in MB."""

    push: float
    answer: float
    pull: float
    client: float
    server: float


def growth(folder: Path, size: str) -> list[Check]:
    """All items pushed, answered and pulled, at two sizes."""
    sys.path.insert(0, str(ROOT / "tests"))
    checks: list[Check] = []
    took: list[Took] = []
    for items in SIZES[size]:
        took.append(_way(folder / str(items), items, checks))
    little, much = took
    last = SIZES[size][-1]
    return [
        *checks,
        *(
            _bounded(f"growth: {name}, by record, {last:,} / {SIZES[size][0]:,}", after / before, "x", FLAT)
            for name, before, after in (
                ("push", little.push, much.push),
                ("answering", little.answer, much.answer),
                ("pull", little.pull, much.pull),
            )
        ),
    ]


def _way(folder: Path, items: int, checks: list[Check]) -> Took:
    """Push so many pairs to one annotator, answer them, pull them; what it took."""
    from browser import serving

    run = generate(folder / "run", items)
    with serving(folder / "server", "anna") as server:
        where = ("--dir", server.folder)
        pushed = prefkit_measured(
            "annotate", "push", run.path, *where, "--pairs", items, "--annotators", "anna", "--repeats", 0
        )
        began = time.perf_counter()
        _answer_all(server, items)
        answering = time.perf_counter() - began
        pulled = prefkit_measured("annotate", "pull", run.path, *where)
        resident = _peak_mb(server.process.pid)
    thousands = items / 1000
    took = Took(
        push=pushed.seconds / thousands,
        answer=answering / thousands,
        pull=pulled.seconds / thousands,
        client=1000 * max(pushed.gigabytes, pulled.gigabytes),
        server=resident,
    )
    judged = read_records(run.path / "judgements.jsonl", Judgement)
    here = sum(one.annotator.startswith("human:") for one in judged)
    name = f"growth, {items:,} pairs"
    checks += [
        _exactly(f"{name}: answers pulled", here, items),
        Check(f"{name}: push, whole command, by 1,000", round(took.push, 2), "s"),
        Check(f"{name}: one answer", round(took.answer, 1), "ms"),
        Check(f"{name}: pull, whole command, by 1,000", round(took.pull, 2), "s"),
        Check(f"{name}: prefkit's peak memory", round(took.client), "MB"),
        Check(f"{name}: server's peak memory", round(took.server), "MB"),
    ]
    return took


def _answer_all(server: Server, items: int) -> None:
    """Submit an answer to every item of anna's deck, a page at a time, as her own account."""
    deck = server.call("GET", "me/datasets", by="anna")["items"][0]["id"]
    path = f"me/datasets/{deck}/records/search?limit=50"
    pending = {"entity": "response", "property": "status"}
    body = {"filters": {"and": [{"type": "terms", "scope": pending, "values": ["pending"]}]}}
    done = 0
    while page := server.call("POST", path, body, by="anna")["items"]:
        answers = [
            {"record_id": one["record"]["id"], "status": "submitted", "values": {"overall": {"value": "A"}}}
            for one in page
        ]
        given = server.call("POST", "me/responses/bulk", {"items": answers}, by="anna")["items"]
        assert not any(one["error"] for one in given)
        done += len(page)
    assert done == items, (done, items)


def _peak_mb(process: int) -> float:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def _server_python() -> Path:
    return Path(os.environ.get("PREFKIT_ANNOTATION_ENV") or ROOT / ".venv-annotation") / "bin" / "python"


def _exactly(name: str, value: int, goal: int) -> Check:
    return Check(name, value, "", f"{goal:,}", value == goal)


def _equal(name: str, found: str, goal: str, words: str) -> Check:
    return Check(name, "equal" if found == goal else "other", "", f"equals {words}", found == goal)


def _bounded(name: str, value: float, unit: str, most: float) -> Check:
    return Check(name, round(value, 2), unit, f"<= {most:g}", value <= most)


PARTS: dict[str, Callable[[Path, str], list[Check]]] = {
    "install": install,
    "clicks": clicks,
    "kills": kills,
    "growth": growth,
}


def main() -> int:
    """Run the parts that are asked for and say how they went."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--only", choices=PARTS, action="append")
    asked = parser.parse_args()
    checks = []
    for name in asked.only or PARTS:
        with tempfile.TemporaryDirectory() as folder:
            checks += PARTS[name](Path(folder), asked.size)
    return report("annotate", checks)


if __name__ == "__main__":
    sys.exit(main())
