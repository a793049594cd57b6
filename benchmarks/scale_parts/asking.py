"""Generating, judging and scoring on a Ray cluster of two processors, beside the local engine, and with workers killed.

    PREFKIT_DATA=FOLDER python -m benchmarks.scale_parts.asking --size small|full [--prompts N] [--only data,made,speed]

Reads   FOLDER/chatpsychiatrist: 229 questions, the answers of five models
Writes  benchmarks/out/scale-asking.json; with --only, scale-asking-PARTS.json

``benchmarks.chat_server`` answers both engines, the same question with the same answer, and counts what it is asked;
the reward model has two layers and random weights. Each stage runs three times, on runs of their own: by the local
engine; on the cluster; on the cluster with one of its workers killed (-9) in the middle.

**data**    the real questions and answers: three more answers to each question, ratings of all, rewards of all
**made**    ``--prompts`` generated prompts, in the same way
**speed**   calls a second of both engines at one server that answers after 50 ms, from its first request to its last
            answer. Server, driver and workers share the machine's processors.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import math
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.chat_server import Served, running
from benchmarks.commands import prefkit
from benchmarks.generated_run import generate as generated
from benchmarks.proof import Check, report
from prefkit.cluster.asking import QUESTIONS, generate_on_cluster, judge_on_cluster
from prefkit.cluster.cluster import Cluster, joined
from prefkit.cluster.scoring import score_on_cluster
from prefkit.generating.settings import GenerateSettings
from prefkit.generating.stage import GenerateQuestions
from prefkit.judging.settings import JudgeSettings
from prefkit.judging.stage import JudgeQuestions
from prefkit.models.asking import AskSettings, ask_run
from prefkit.models.engine import Limits
from prefkit.parts import KINDS, Parts, generations, set_generations
from prefkit.records import Response
from prefkit.run import Run
from prefkit.store import Store

PROCESSORS = 2
PROMPTS = {"small": 200, "full": 5_000}
CALLS = {"small": 2_000, "full": 10_000}
ASKING = AskSettings(models=("fake",))
PARTS = "data,made,speed"
STAGES = ("generate", "judge", "score")
LATENCY = 0.1
"""Seconds to an answer: a block lasts longer than a look at what is under way."""
MADE = {"generate": "responses", "judge": "judgements", "score": "rewards"}


def main() -> int:
    """Run the checks and say how they went."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=PROMPTS, default="full")
    parser.add_argument("--prompts", type=int, help="how many are generated  [default: by the size]")
    parser.add_argument("--only", default=PARTS, help="parts, with commas between")
    options = parser.parse_args()
    checks: list[Check] = []
    with tempfile.TemporaryDirectory() as name, joined(None, PROCESSORS) as cluster:
        folder = Path(name)
        model = tiny_reward_model(folder / "model")
        for part in options.only.split(","):
            if part == "data":
                found = beside(folder / part, real_run, model, cluster, GenerateSettings(samples=3, temperature=1.0))
            elif part == "made":
                make = functools.partial(made_run, prompts=options.prompts or PROMPTS[options.size])
                found = beside(folder / part, make, model, cluster, GenerateSettings())
            else:
                found = speed(folder / part, CALLS[options.size], cluster)
            checks += [dataclasses.replace(check, check=f"{part}: {check.check}") for check in found]
    return report("scale-asking" if options.only == PARTS else f"scale-asking-{options.only}", checks)


# Runs


def real_run(folder: Path) -> None:
    """The questions and answers of chatpsychiatrist."""
    source = Path(os.environ["PREFKIT_DATA"]) / "chatpsychiatrist"
    prefkit("new", folder, "--rubric", "psychocounsel")
    prefkit("import", "prompts", folder, source / "question.jsonl")
    for file in sorted((source / "model_answer").glob("*.jsonl")):
        prefkit("import", "responses", folder, file)


def made_run(folder: Path, prompts: int) -> None:
    """Generated prompts with four responses each, of which the first two stay; no judgements."""
    run = generated(folder, prompts)
    kept = [one for one in run.responses() if one.policy in ("one", "two")]
    run.replace(Response, kept)
    (folder / "judgements.jsonl").unlink(missing_ok=True)


def point_at(folder: Path, server: Served) -> None:
    """Let the model ``fake`` of a run be the server."""
    models = {"models": {"fake": {"model": "fake", "urls": [server.url]}}}
    (folder / "models.yaml").write_text(json.dumps(models), encoding="utf-8")


def in_parts(source: Path, folder: Path) -> tuple[Run, Store]:
    """A copy of a run whose records stand in parts."""
    shutil.copytree(source, folder)
    run, store = Run(folder), Store(str(folder))
    set_generations(store, {})
    for kind, records in (("prompts", run.prompts()), ("responses", run.responses())):
        Parts(store, kind).write_all(records)
        (folder / f"{kind}.jsonl").unlink()
    return run, store


def tiny_reward_model(folder: Path) -> Path:
    """A reward model of two layers with random weights, and a token a byte."""
    import transformers

    from prefkit.training.reward_info import RewardInfo
    from prefkit.training.reward_model import save_reward_model
    from tests.tiny import tiny_classifier, tiny_model

    transformers.logging.set_verbosity_error()
    tiny_model(folder / "base", "llama")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "base")
    info = RewardInfo(
        kind="trained", base=str(folder / "base"), template=None, max_tokens=2048, heads=(), combine=(), std=2.0
    )
    save_reward_model(tiny_classifier(folder / "base"), tokenizer, folder / "rm", info)
    return folder / "rm"


# The same by both engines


@dataclass(frozen=True)
class Engine:
    """A run and how each stage is done on it."""

    name: str
    generate: Callable[[], Any]
    judge: Callable[[], Any]
    score: Callable[[], Any]
    records: Callable[[str], list[Any]]


def beside(
    folder: Path, make: Callable[[Path], None], model: Path, cluster: Cluster, settings: GenerateSettings
) -> list[Check]:
    """Both engines on one run, stage by stage; then the cluster with a worker killed in each."""
    folder.mkdir()
    make(folder / "source")
    checks: list[Check] = []
    with running(latency=LATENCY) as server:
        point_at(folder / "source", server)
        engines = [
            local_engine(folder, settings, model),
            cluster_engine(folder, "ray", settings, model, cluster),
            cluster_engine(folder, "killed", settings, model, cluster),
        ]
        for stage in STAGES:
            asked: dict[str, int] = {}
            for engine in engines:
                server.reset()
                before, start = len(engine.records(MADE[stage])), time.perf_counter()
                watcher = killing(folder / "killed", stage, server) if engine.name == "killed" else noone()
                with watcher as killed:
                    getattr(engine, stage)()
                seconds = time.perf_counter() - start
                records = engine.records(MADE[stage])
                asked[engine.name] = server.counts()["requests"]
                made = len(records) - before
                print(
                    f"{stage} {engine.name}: {made:,} records, {asked[engine.name]:,} requests, {seconds:.1f} s",
                    flush=True,
                )
                checks.append(Check(f"{stage}, {engine.name}", round(seconds, 1), f"s for {made:,} {MADE[stage]}"))
                if engine.name == "killed":
                    checks.append(Check(f"{stage}: workers killed", len(killed), "", "1", len(killed) == 1))
            checks += compared(stage, [engine.records(MADE[stage]) for engine in engines], asked)
    return checks


def compared(stage: str, found: list[list[Any]], asked: dict[str, int]) -> list[Check]:
    """What the local engine, the cluster, and the cluster with a killed worker made of a stage."""
    checks = []
    local = {one.id: one for one in found[0]}
    for name, records in zip(("ray", "killed"), found[1:], strict=True):
        ids = [one.id for one in records]
        same = set(ids) == set(local)
        checks.append(Check(f"{stage}, {name}: same ids as local", len(ids), "", f"{len(local):,}", same))
        twice = len(ids) - len(set(ids))
        checks.append(Check(f"{stage}, {name}: ids twice", twice, "", "0", twice == 0))
        if stage == "score":
            gap = max(apart(one.reward, local[one.id].reward) for one in records if one.id in local)
            checks.append(Check(f"score, {name}: largest difference", gap, "log-odds", "1e-6", gap <= 1e-6))
            bits = sum(one != local.get(one.id) for one in records)
            checks.append(Check(f"score, {name}: rewards not equal to the last digit", bits))
        else:
            other = sum(without_usage(one) != without_usage(local[one.id]) for one in records if one.id in local)
            checks.append(Check(f"{stage}, {name}: records of other content", other, "", "0", other == 0))
            extra = asked[name] - asked["local"]
            goal = "0" if name == "ray" else f"1 to {QUESTIONS}"
            right = extra == 0 if name == "ray" else 0 < extra <= QUESTIONS
            checks.append(Check(f"{stage}, {name}: extra calls", extra, "", goal, right))
    return checks


def apart(one: float | None, other: float | None) -> float:
    """How far two rewards lie apart; where a text is too long to have one, both have none."""
    return (0.0 if one is other else math.inf) if one is None or other is None else abs(one - other)


def without_usage(record: Any) -> Any:
    """What was answered."""
    return msgspec.structs.replace(record, usage=None)


def local_engine(folder: Path, settings: GenerateSettings, model: Path) -> Engine:
    """The engine in this process."""
    place = folder / "local"
    shutil.copytree(folder / "source", place)

    def generate() -> Any:
        run = Run(place)
        return ask_run(run, GenerateQuestions(run, ASKING.models, settings), ASKING, unwatched)

    def judge() -> Any:
        run = Run(place)
        return ask_run(run, JudgeQuestions(run, JudgeSettings()), ASKING, unwatched)

    def records(kind: str) -> list[Any]:
        path = place / f"{kind}.jsonl"
        decode = msgspec.json.Decoder(KINDS[kind]).decode
        return [decode(line) for line in path.read_bytes().splitlines()] if path.exists() else []

    return Engine("local", generate, judge, lambda: prefkit("score", place, "--rm", model), records)


def cluster_engine(folder: Path, name: str, settings: GenerateSettings, model: Path, cluster: Cluster) -> Engine:
    """The engine on the cluster."""
    run, store = in_parts(folder / "source", folder / name)

    def records(kind: str) -> list[Any]:
        return list(Parts(store, kind, (generations(store) or {}).get(kind, 0)).all())

    return Engine(
        name,
        lambda: generate_on_cluster(run, store, ASKING.models, settings, ASKING, cluster),
        lambda: judge_on_cluster(run, store, JudgeSettings(), ASKING, cluster),
        lambda: score_on_cluster(run, store, str(model), cluster),
        records,
    )


def unwatched(tally: Any, total: int) -> None:
    """Show nothing."""


# Killing


@contextmanager
def noone() -> Iterator[list[int]]:
    """Nobody is killed."""
    yield []


@contextmanager
def killing(folder: Path, stage: str, server: Served) -> Iterator[list[int]]:
    """Kill one worker of this process's cluster in the middle of a stage; the list says which."""
    killed: list[int] = []
    ended = threading.Event()
    parts = folder / f"{MADE[stage]}.parquet"
    before = len(list(parts.glob("*.parquet")))

    def under_way() -> bool:
        if stage == "score":
            return len(list(parts.glob("*.parquet"))) > before
        counts = server.counts()
        return counts["answered"] > QUESTIONS // 2 and counts["in_flight"] > 0

    def look() -> None:
        while not ended.wait(0.02):
            if under_way() and (workers := workers_of(os.getpid())):
                os.kill(workers[0], signal.SIGKILL)
                killed.append(workers[0])
                return

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()


def workers_of(driver: int) -> list[int]:
    """The processes that are at work on a block in the cluster that a process has made on this machine, first the one
    that has worked most."""
    parents, worked = {}, dict[int, int]()
    for place in Path("/proc").iterdir():
        try:
            told = (place / "stat").read_text().rpartition(")")[2].split()
            parents[int(place.name)] = int(told[1])
            if re.match(rb"ray::MapWorker.*\.submit", (place / "cmdline").read_bytes()):
                worked[int(place.name)] = int(told[11])
        except (OSError, ValueError):
            continue
    ours = [process for process in worked if driver in _line_of(process, parents)]
    return sorted(ours, key=lambda process: -worked[process])


def _line_of(process: int, parents: dict[int, int]) -> list[int]:
    line = [process]
    while line[-1] in parents:
        line.append(parents[line[-1]])
    return line


# Speed


def speed(folder: Path, calls: int, cluster: Cluster) -> list[Check]:
    """Calls a second while asking, of both engines in turn, twice."""
    from benchmarks.judge import new_run

    folder.mkdir()
    rates: dict[str, list[float]] = {"local": [], "ray": []}
    with running(latency=0.05) as server:
        asking = AskSettings(models=("fake",), limits=Limits(concurrency=64))
        new_run(folder / "source", calls, server.url)
        for turn in range(2):
            for name, found in rates.items():
                place = folder / f"{name}-{turn}"
                server.reset()
                if name == "local":
                    shutil.copytree(folder / "source", place)
                    run = Run(place)
                    ask_run(run, JudgeQuestions(run, JudgeSettings()), asking, unwatched)
                else:
                    run, store = in_parts(folder / "source", place)
                    judge_on_cluster(run, store, JudgeSettings(), asking, cluster)
                counts = server.counts()
                found.append(counts["answered"] / (counts["last_answer_at"] - counts["first_request_at"]))
                print(f"{name}: {found[-1]:,.0f} calls/s, {counts['peak_in_flight']} at a time at most", flush=True)
    load = os.getloadavg()[0]
    return [
        Check(f"{name}, {calls:,} calls, 64 at a time, load {load:.0f}", round(max(found)), "calls/s")
        for name, found in rates.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
