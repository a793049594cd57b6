"""Judging at the speed of the wire, through faults and kills, and with a million answers stored.

    python -m benchmarks.judge --size small|full [--only speed,peers,memory,faults,kills,stored]

``prefkit judge`` runs whole, as a real process, against ``benchmarks.chat_server`` on the same machine: every rate
holds the start of the process, reading the run, the questions, the durable writes and the parsing, unless it is said to
be "while asking", which is from the first request that the server saw to its last answer. CPU a call is user and system
time of the process with many calls, less that of the process with 20, for each call more.

The peers are the scripts in ``judge_peers``: the same questions to the same server in the same minutes, each in a
virtual environment of its own under ``benchmarks/venvs``, which is made on first use. ``bare_aiohttp`` is the floor: it
runs before each run of ``prefkit judge``, and what counts is the ratio of the two. Size small has the floor alone.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.chat_server import Fault, Served, running
from benchmarks.generated_run import POLICIES, SEED, WORDS
from benchmarks.proof import Check, report
from prefkit.records import Message, Prompt, Rating, Response, Score, prompt_id, response_id
from prefkit.rubric import Principle, Rubric, Scale
from prefkit.run import Run

HERE = Path(__file__).parent
LATENCY = 0.05
START_UP = 20
"""Requests of the run whose CPU time is taken for that of starting."""
RUBRIC = Rubric(
    id="bench",
    version=1,
    title="Bench",
    unit="response",
    principles=tuple(
        Principle(id=name, title=name.title(), statement=f"The response shows {name}.", scale=Scale())
        for name in ("empathy", "clarity", "safety")
    ),
)
FAULTS: tuple[Fault, ...] = (
    "429",
    "429-retry-after",
    "500",
    "503",
    "400",
    "dropped",
    "dropped-in-body",
    "hung",
    "cut",
    "html",
    "no-choices",
    "prose",
    "out-of-range",
    "empty",
    "twice",
    "twice-late",
)


@dataclass(frozen=True)
class Size:
    """How much is tried. ``peers`` are scripts with their numbers of requests at 64 and at 256 in flight."""

    requests: int
    rounds: int
    peers: dict[str, tuple[int, int]]
    many: int
    faulty: int
    killed: int
    kills: int
    stored: int
    left: int


SIZES = {
    "small": Size(1_000, 1, {}, 3_000, 300, 300, 5, 10_000, 100),
    "full": Size(
        5_000,
        4,
        {
            "openai_sdk": (5_000, 2_000),
            "litellm_sdk": (2_000, 1_000),
            "distilabel_pipeline": (2_000, 1_000),
            "inspect_task": (1_000, 500),
        },
        200_000,
        2_000,
        2_000,
        50,
        1_000_000,
        3_000,
    ),
}
PARTS = ("speed", "peers", "memory", "faults", "kills", "stored")


def main() -> int:
    """Run the checks of a size and say how they went."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between")
    options = parser.parse_args()
    size, checks = SIZES[options.size], list[Check]()
    run_part = dict(zip(PARTS, (speed, peers, memory, faults, kills, stored), strict=True))
    with tempfile.TemporaryDirectory() as folder:
        for part in options.only.split(","):
            found = run_part[part](Path(folder), size)
            checks += found
            for check in found:
                print(f"  {check.check}: {check.value} {check.unit}", flush=True)
    return report("judge" if options.only == ",".join(PARTS) else f"judge-{options.only}", checks)


# Runs


def new_run(folder: Path, items: int, url: str, latest: float = 0.0) -> Path:
    """A run with ``items`` responses to judge, four a prompt, and the model ``fake`` at ``url``."""
    run = Run.create(folder, RUBRIC)
    rng = random.Random(SEED)
    texts = [" ".join(rng.choices(WORDS.tolist(), k=rng.randint(45, 120))) for _ in range(997)]
    prompts = [Message(role="user", content=f"{index} {texts[index % 997]}") for index in range(-(-items // 4))]
    names = [prompt_id((message,)) for message in prompts]
    run.replace(Prompt, (Prompt(id=name, messages=(said,)) for name, said in zip(names, prompts, strict=True)))
    run.replace(Response, _responses(names, texts, items))
    point_at(folder, url)
    return folder


def _responses(names: list[str], texts: list[str], items: int) -> Iterator[Response]:
    for index in range(items):
        name, policy = names[index // 4], POLICIES[index % 4]
        text = f"{texts[index * 7 % 997]} {index}"
        yield Response(id=response_id(name, policy), prompt_id=name, policy=policy, text=text)


def point_at(run: Path, url: str) -> None:
    """Let the model ``fake`` of a run be served at ``url``."""
    models = json.dumps({"models": {"fake": {"model": "fake", "urls": [url]}}})
    (run / "models.yaml").write_text(models + "\n", encoding="utf-8")


def command(run: Path, *options: object) -> list[str]:
    """The command that judges a run."""
    return [sys.executable, "-m", "prefkit", "judge", str(run), "--judge", "fake", *map(str, options)]


def copied(run: Path, to: Path) -> Path:
    """A copy of a run that takes the place of what was there."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(run, to)
    return to


def judgements(run: Path) -> list[Rating]:
    """The ratings that a run holds."""
    decoder = msgspec.json.Decoder(Rating)
    with suppress(FileNotFoundError), open(run / "judgements.jsonl", "rb") as file:
        return [decoder.decode(line) for line in file if line.endswith(b"\n")]
    return []


def listed(run: Path) -> dict[str, str]:
    """The questions that a run lists as failed, by id, with the reason."""
    with suppress(FileNotFoundError), open(run / "failures" / "judge.jsonl", "rb") as file:
        return {failure["id"]: failure["reason"] for failure in map(json.loads, file)}
    return {}


# Speed

PROBE = """
import json, os, subprocess, sys, time
start = time.time()
child = subprocess.Popen(sys.argv[1:])
_, status, used = os.wait4(child.pid, 0)
print(json.dumps({"code": os.waitstatus_to_exitcode(status), "start": start, "seconds": time.time() - start,
                  "cpu": used.ru_utime + used.ru_stime, "kilobytes": used.ru_maxrss}))
"""


@dataclass(frozen=True)
class Timed:
    """A finished command as the system and the server saw it; times in seconds, ``rate`` in calls a second."""

    requests: int
    rate: float
    """While asking."""
    start_up: float
    """Until the server saw the first request."""
    whole: float
    cpu: float
    megabytes: float
    peak: int
    bytes_a_call: float


def timed(server: Served, line: list[str]) -> Timed:
    """Run a command that must end well. A small process in between starts it, as a child's peak memory begins with
    that of its parent."""
    server.reset()
    probe = [sys.executable, "-S", "-c", PROBE, *line]
    done = subprocess.run(probe, capture_output=True, text=True, cwd=HERE.parent, check=True)
    used, seen = json.loads(done.stdout.splitlines()[-1]), server.counts()
    if used["code"]:
        raise RuntimeError(f"{' '.join(line)} ended with {used['code']}\n{done.stdout}\n{done.stderr}")
    return Timed(
        requests=seen["requests"],
        rate=seen["requests"] / (seen["last_answer_at"] - seen["first_request_at"]),
        start_up=seen["first_request_at"] - used["start"],
        whole=used["seconds"],
        cpu=used["cpu"],
        megabytes=used["kilobytes"] * 1024 / 1e6,
        peak=seen["peak_in_flight"],
        bytes_a_call=seen["bytes_received"] / seen["requests"],
    )


def speed(folder: Path, size: Size) -> list[Check]:
    """Calls a second, CPU and memory beside the floor, at 64 and 256 in flight."""
    with running(latency=LATENCY) as server:
        run = new_run(folder / "speed", size.requests, server.url)
        few = new_run(folder / "few", START_UP, server.url)
        questions = write_questions(run, folder / "questions.json")
        return [check for each in (64, 256) for check in at(each, server, run, few, questions, size.rounds)]


def write_questions(run: Path, path: Path) -> Path:
    """All questions of a run as the peers take them."""
    asked = [task.request() for task in tasks_of(run)]
    messages = [[msgspec.to_builtins(message) for message in request.messages] for request in asked]
    path.write_text(json.dumps({"messages": messages, "schema": asked[0].schema}), encoding="utf-8")
    return path


def tasks_of(run: Path) -> Iterator[Any]:
    """What ``prefkit judge`` would ask of a run that holds no judgements."""
    from prefkit.judging.settings import JudgeSettings
    from prefkit.judging.stage import JudgeQuestions
    from prefkit.models.chat import Model
    from prefkit.models.held import Held

    questions = JudgeQuestions(Run(run), JudgeSettings())
    return (task for task in questions.tasks(Model("fake", ()), Held()) if task is not None)


def at(concurrency: int, server: Served, run: Path, few: Path, questions: Path, rounds: int) -> list[Check]:
    """``prefkit judge`` and the floor in turn."""
    floor, ours, idle, floor_idle = [], [], [], []
    scratch = run.with_name("copy")
    n = len(json.loads(questions.read_bytes())["messages"])
    for _ in range(rounds):
        floor.append(timed(server, peer_line("bare_aiohttp", server, n, concurrency, questions)))
        ours.append(timed(server, command(copied(run, scratch), "--concurrency", concurrency)))
        idle.append(timed(server, command(copied(few, scratch), "--concurrency", concurrency)))
        floor_idle.append(timed(server, peer_line("bare_aiohttp", server, START_UP, concurrency, questions)))
    name = f"{concurrency} in flight"
    ratio = statistics.median(mine.rate / its.rate for mine, its in zip(ours, floor, strict=True))
    rate, start_up = statistics.median(each.rate for each in ours), statistics.median(each.start_up for each in ours)
    cpu, low_cpu = _cpu_a_call(ours, idle, n), _cpu_a_call(floor, floor_idle, n)
    low = statistics.median(each.rate for each in floor)
    fast = concurrency == 256
    return [
        Check(f"{name}: prefkit judge, bytes a request", round(ours[0].bytes_a_call), "", ""),
        Check(f"{name}: bare aiohttp, bytes a request", round(floor[0].bytes_a_call), "", ""),
        Check(f"{name}: bare aiohttp, while asking", round(low), "calls/s"),
        at_least(f"{name}: prefkit judge, while asking", rate, "calls/s", 2_500 if fast else None),
        at_least(f"{name}: prefkit judge / bare aiohttp", ratio, "x", None if fast else 0.85, 3),
        Check(f"{name}: prefkit judge, {n:,} calls, start to end", _median(ours, "whole"), "s"),
        Check(f"{name}: prefkit judge, peak in flight at the server", max(each.peak for each in ours)),
        Check(f"{name}: bare aiohttp, CPU a call", round(low_cpu * 1e3, 3), "ms"),
        at_most(f"{name}: prefkit judge, CPU a call", cpu * 1e3, "ms", 0.5, 3),
        at_most(f"{name}: prefkit judge, start to first request", start_up, "s", 1.0),
        at_most(f"{name}: prefkit judge, peak memory", max(each.megabytes for each in ours), "MB", 120, 1),
    ]


def _cpu_a_call(full: list[Timed], idle: list[Timed], n: int) -> float:
    return (statistics.median(each.cpu for each in full) - statistics.median(each.cpu for each in idle)) / (
        n - START_UP
    )


def _median(runs: list[Timed], what: str) -> float:
    return round(statistics.median(getattr(each, what) for each in runs), 2)


def at_least(name: str, value: float, unit: str, least: float | None, digits: int = 0) -> Check:
    """A figure that may have a lower bound."""
    goal = "" if least is None else f">= {least:g}"
    return Check(name, round(value, digits), unit, goal, least is None or value >= least)


def at_most(name: str, value: float, unit: str, most: float | None, digits: int = 2) -> Check:
    """A figure that may have an upper bound."""
    goal = "" if most is None else f"<= {most:g}"
    return Check(name, round(value, digits), unit, goal, most is None or value <= most)


def exactly(name: str, value: int, goal: int = 0) -> Check:
    """A count that must be met."""
    return Check(name, value, "", f"= {goal:,}", value == goal)


def memory(folder: Path, size: Size) -> list[Check]:
    """Peak memory with many more requests."""
    with running(latency=LATENCY) as server:
        runs = [new_run(folder / f"memory-{items}", items, server.url) for items in (size.requests, size.many)]
        few, many = (timed(server, command(run, "--concurrency", 256)) for run in runs)
    shutil.rmtree(runs[1])
    name = f"{size.requests:,} to {size.many:,} requests"
    return [
        Check(f"{name}: peak memory with the latter", round(many.megabytes, 1), "MB"),
        at_most(f"{name}: more memory", many.megabytes - few.megabytes, "MB", 20, 1),
        at_least(f"{name}: the latter at 256 in flight, while asking", many.rate, "calls/s", None),
    ]


# Peers


def peer_line(name: str, server: Served, n: int, concurrency: int, questions: Path) -> list[str]:
    """The command that runs a peer's script in its environment, which is made if it is not there."""
    script = HERE / "judge_peers" / f"{name}.py"
    head = re.search(r"^# /// script\n((?:#.*\n)+?)# ///$", script.read_text(encoding="utf-8"), re.MULTILINE)
    assert head is not None
    needs = tomllib.loads(re.sub(r"^# ?", "", head[1], flags=re.MULTILINE))["dependencies"]
    home = HERE / "venvs" / name
    made = home / "made-with"
    if not made.exists() or made.read_text(encoding="utf-8") != "\n".join(needs):
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        subprocess.run([home / "bin" / "python", "-m", "pip", "install", "--quiet", *needs], check=True)
        made.write_text("\n".join(needs), encoding="utf-8")
    return [str(each) for each in (home / "bin" / "python", script, server.port, n, concurrency, questions)]


def peers(folder: Path, size: Size) -> list[Check]:
    """The peers at 64 and 256 in flight, each after the floor with as many calls."""
    if not size.peers:
        return [Check("peers", "left out of this size")]
    with running(latency=LATENCY) as server:
        questions = write_questions(new_run(folder / "peers", size.requests, server.url), folder / "peers.json")
        return [
            check
            for place, concurrency in enumerate((64, 256))
            for name, numbers in size.peers.items()
            for check in peer(name, server, questions, numbers[place], concurrency)
        ]


def peer(name: str, server: Served, questions: Path, n: int, concurrency: int) -> list[Check]:
    """A peer's rate and CPU a call."""
    floor = timed(server, peer_line("bare_aiohttp", server, n, concurrency, questions))
    idle = timed(server, peer_line(name, server, START_UP, concurrency, questions))
    full = timed(server, peer_line(name, server, n, concurrency, questions))
    cpu = (full.cpu - idle.cpu) / (n - START_UP)
    words = f"{concurrency} in flight: {name}"
    return [
        Check(f"{words}, {n:,} calls, while asking", round(full.rate), "calls/s"),
        Check(f"{words} / bare aiohttp just before", round(full.rate / floor.rate, 3), "x"),
        Check(f"{words}, CPU a call", round(cpu * 1e3, 2), "ms"),
        Check(f"{words}, start to first request", round(full.start_up, 1), "s"),
        Check(f"{words}, peak memory of its largest process", round(full.megabytes), "MB"),
    ]


# Faults


def faults(folder: Path, size: Size) -> list[Check]:
    """Three of ten answers faulty: every question is judged, as a well server would have it, or listed."""
    shares = dict.fromkeys(FAULTS, 0.3 / len(FAULTS))
    quick = ("--timeout", 2, "--concurrency", 64)
    with running(latency=LATENCY) as server:
        run = new_run(folder / "faulty", size.faulty, server.url)
        well = copied(run, folder / "well")
        subprocess.run(command(well), capture_output=True, check=True, cwd=HERE.parent)
        truth = {each.id: each.scores for each in judgements(well)}
        server.reset()
        server.fail(shares=shares, seed=SEED, retry_after=0.2)
        first = subprocess.run(command(run, *quick), capture_output=True, check=False, cwd=HERE.parent)
        seen, made, missing = server.counts(), judgements(run), listed(run)
        server.reset()
        server.fail()
        second = subprocess.run(command(run, *quick), capture_output=True, check=False, cwd=HERE.parent)
        asked = server.counts()["requests"]
    ids = Counter(each.id for each in made)
    both = ids.keys() & missing.keys()
    unread = [each for each in made if each.failure is not None]
    wrong = sum(each.scores != truth.get(each.id) for each in made if each.failure is None)
    after = Counter(each.id for each in judgements(run))
    kinds = len(seen["faults"])
    return [
        Check("faults: answers that were faulty", sum(seen["faults"].values()), f"of {seen['requests']:,}"),
        exactly("faults: kinds among them", kinds, len(FAULTS)),
        exactly("faults: questions neither judged nor listed", len(truth.keys() - ids.keys() - missing.keys())),
        exactly(
            "faults: questions judged twice, or judged and listed",
            ids.total() - len(ids) + len(both),
        ),
        exactly("faults: scores other than of a well server", wrong),
        Check("faults: listed with a reason", sum(map(bool, missing.values())), f"of {len(missing)}"),
        Check("faults: kept as unreadable, with a reason", len(unread)),
        exactly("faults: exit code, where some are listed", first.returncode, int(bool(missing))),
        exactly("faults: second run on a well server, exit code", second.returncode),
        exactly("faults: second run, requests", asked, len(missing)),
        exactly("faults: after it, questions that stand once", sum(n == 1 for n in after.values()), len(truth)),
    ]


# Kills


def kills(folder: Path, size: Size) -> list[Check]:
    """Kill -9 at random moments, a quarter of them while the command starts; the same command again each time."""
    rng = random.Random(SEED)
    done = starts = extra = in_flight = missing = twice = ends = 0
    worst = 0
    with running(latency=0.1, jitter=0.2) as server:
        run = new_run(folder / "killed", size.killed, server.url)
        wanted = {task.id for task in tasks_of(run)}
        start_up = timed(server, command(copied(run, folder / "killed-copy"), "--concurrency", 64)).start_up
        while done < size.kills or ends == 0:
            fresh = copied(run, folder / "killed-copy")
            server.reset()
            lost = 0
            while True:
                starting = rng.random() < 0.25
                moment = rng.uniform(0, start_up) if starting else rng.uniform(start_up, start_up + 0.8)
                moment = moment if done < size.kills else None
                before = server.counts()
                code = killed(command(fresh, "--concurrency", 64), moment)
                if code is None:
                    settled(server)
                    after = server.counts()
                    done += 1
                    starts += after["requests"] == before["requests"]
                    lost += after["abandoned"] + after["left"] - before["abandoned"] - before["left"]
                else:
                    assert code == 0, code
                    break
            ends += 1
            seen_all = server.counts()
            ids = Counter(each.id for each in judgements(fresh))
            missing += len(wanted - ids.keys())
            twice += ids.total() - len(ids)
            more = seen_all["requests"] - len(wanted)
            extra, in_flight, worst = extra + more, in_flight + lost, max(worst, more - lost)
    return [
        exactly(f"kills: of runs with {size.killed:,} questions, 64 in flight", done, size.kills),
        Check("kills: of them before the first request of a process", starts),
        Check("kills: runs that were finished after them", ends),
        exactly("kills: questions missing at the end", missing),
        exactly("kills: questions judged twice", twice),
        Check("kills: in flight at the kills, as the server saw it", in_flight),
        at_most("kills: questions asked again", extra, "", in_flight, 0),
        exactly("kills: runs with more asked again than was in flight", int(worst > 0)),
    ]


def killed(line: list[str], moment: float | None) -> int | None:
    """Start a command and kill it after so many seconds; its exit code where it ended before."""
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=HERE.parent) as process:
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.kill()
        return None if process.wait() == -signal.SIGKILL else process.returncode


def settled(server: Served) -> None:
    """Wait until the server knows that its client is gone."""
    while (seen := server.counts())["in_flight"] or seen["connections"] > 1:
        time.sleep(0.01)


# Much stored


def stored(folder: Path, size: Size) -> list[Check]:
    """Time to the first request of a run that holds most of its answers."""
    with running(latency=LATENCY) as server:
        run = new_run(folder / "stored", size.stored, server.url)
        with open(run / "judgements.jsonl", "wb") as file:
            for index, task in enumerate(tasks_of(run)):
                if index < size.stored - size.left:
                    file.write(stored_line(task.id, index))
        server.reset()
        used = timed(server, command(run, "--concurrency", 64))
        ids = {each.id for each in judgements(run)} if size.stored <= 10_000 else None
    name = f"{size.stored - size.left:,} answers stored"
    checks = [
        at_most(f"{name}: start to first request", used.start_up, "s", 15, 1),
        exactly(f"{name}: requests made for the others", used.requests, size.left),
        Check(f"{name}: peak memory", round(used.megabytes), "MB"),
        Check(f"{name}: the whole command", round(used.whole, 1), "s"),
        Check(f"{name}: judgements.jsonl", round((run / "judgements.jsonl").stat().st_size / 1e6), "MB"),
    ]
    return checks if ids is None else [*checks, exactly(f"{name}: ids at the end", len(ids), size.stored)]


def stored_line(name: str, index: int) -> bytes:
    """A judgement as the command stores it."""
    scores: dict[str, Score | None] = {each: 1 + (index + place) % 5 for place, each in enumerate(RUBRIC.principle_ids)}
    rating = Rating(
        id=name,
        annotator="llm:fake",
        prompt_id=f"{index // 4:020x}",
        rubric=RUBRIC.hash,
        response_id=f"{index:020x}",
        scores=scores,
        reply=json.dumps(scores),
    )
    return msgspec.json.encode(rating) + b"\n"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
