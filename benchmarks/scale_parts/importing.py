"""Importing and scrubbing on a Ray cluster of two processors, beside the local engine, and with workers killed.

    PREFKIT_DATA=FOLDER python -m benchmarks.scale_parts.importing --prompts 20000 [--kills 2] [--only hh-rlhf,...]

Reads   FOLDER/chatpsychiatrist, counsel-chat, hh-rlhf
Writes  benchmarks/out/scale-importing.json

Each run is made three times: by the local engine; on the cluster; on the cluster while a worker is killed (-9) in each
kind of work that Ray names, once in each command, ``--kills`` in all at most. Then all files of the three are compared,
byte for byte, the records as JSONL: words, ids, order, counts in run.json, rejects.

**chatpsychiatrist**    questions, the answers of five models, ratings; scrubbed
**counsel-chat**        questions and answers of one CSV; scrubbed, which changes many
**hh-rlhf**             preference pairs that bring prompts and responses along; imported twice
**generated prompts**   ``--prompts`` of them as JSONL with keys, the answers of four policies that name prompts by key,
                        ratings of these; some rows repeat others, some keys name two prompts, some name none
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.generated_run import POLICIES, WORDS
from benchmarks.proof import Check, report
from benchmarks.scale_parts.trees import kill, working
from prefkit.cluster.cluster import Cluster, joined
from prefkit.cluster.importing import import_on_cluster
from prefkit.cluster.scrubbing import scrub_on_cluster
from prefkit.converting import convert
from prefkit.importing.columns import Kind
from prefkit.importing.importer import import_file
from prefkit.importing.resolver import ImportSettings
from prefkit.prompts.cleaning import scrub_run
from prefkit.rubric_files import load_rubric
from prefkit.run import Run
from prefkit.store import Store

SEED = 20261122
STRANGE = 0.01
"""The share of rows that repeat another, give a key a second time, or name a prompt that is not there."""
ENGINES = ("local", "ray", "ray, workers killed")


@dataclass(frozen=True)
class Step:
    """An import; or, without a file, scrubbing."""

    kind: Kind = "prompts"
    file: str = ""
    settings: ImportSettings = field(default_factory=ImportSettings)

    @property
    def words(self) -> str:
        """What it is, in a table."""
        return f"import {self.kind} {Path(self.file).name}" if self.file else "scrub"

    def locally(self, run: Run) -> None:
        """By the local engine."""
        if self.file:
            import_file(run, self.kind, self.file, self.settings)
        else:
            scrub_run(run)

    def on_cluster(self, run: Run, store: Store, cluster: Cluster) -> None:
        """On a cluster."""
        if self.file:
            import_on_cluster(run, store, self.kind, self.file, self.settings, cluster)
        else:
            scrub_on_cluster(run, store, cluster)


def main() -> int:
    """Compare both engines on all runs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=2_000, help="how many are generated")
    parser.add_argument("--only", default="chatpsychiatrist,counsel-chat,hh-rlhf,generated", help="with commas between")
    parser.add_argument("--kills", type=int, default=100, help="workers killed in a command, at most")
    options = parser.parse_args()
    checks: list[Check] = []
    with tempfile.TemporaryDirectory() as scratch, joined(None, 2) as cluster:
        for name in options.only.split(","):
            folder = Path(scratch) / name
            folder.mkdir()
            steps = made(folder, options.prompts) if name == "generated" else RUNS[name]()
            checks += beside(name, steps, folder, cluster, options.kills)
    return report("scale-importing", checks)


def data() -> Path:
    """The folder of real data."""
    return Path(os.environ["PREFKIT_DATA"])


def chatpsychiatrist() -> list[Step]:
    """Questions, answers, ratings."""
    source = data() / "chatpsychiatrist"
    answers = [Step("responses", str(file)) for file in sorted((source / "model_answer").glob("*.jsonl"))]
    ratings = Step("judgements", str(source / "ratings.csv"))
    return [Step("prompts", str(source / "question.jsonl")), *answers, ratings, Step()]


def counsel_chat() -> list[Step]:
    """Questions, and therapists' answers to them, from the same rows."""
    file = str(data() / "counsel-chat" / "20200325_counsel_chat.csv")
    asked = ImportSettings(columns={"text": "questionText", "key": "questionID", "topic": "topic"})
    answered = ImportSettings(columns={"prompt": "questionID", "text": "answerText", "policy": "therapistURL"})
    return [Step("prompts", file, asked), Step("responses", file, answered), Step()]


def hh_rlhf() -> list[Step]:
    """Preference pairs, twice: the second time all is there."""
    step = Step("judgements", str(data() / "hh-rlhf" / "test.jsonl.gz"))
    return [step, step]


RUNS: dict[str, Callable[[], list[Step]]] = {
    "chatpsychiatrist": chatpsychiatrist,
    "counsel-chat": counsel_chat,
    "hh-rlhf": hh_rlhf,
}


def made(folder: Path, prompts: int) -> list[Step]:
    """Files with generated prompts, responses and ratings, and rows that cannot be used among them."""
    rng = np.random.default_rng(SEED)
    words = [" ".join(rng.choice(WORDS, 60)) for _ in range(prompts)]
    principles = load_rubric("psychocounsel").principle_ids

    def other(number: int) -> int:
        return int(rng.integers(0, prompts)) if rng.random() < STRANGE else number

    def asked() -> Iterator[dict[str, Any]]:
        for number in range(prompts):
            yield {"id": f"q{other(number)}", "text": words[other(number)]}

    def pairs() -> Iterator[tuple[str, str]]:
        for policy in POLICIES:
            for number in rng.permutation(prompts).tolist():
                yield "nobody's" if rng.random() < STRANGE else f"q{other(number)}", policy

    def answered() -> Iterator[dict[str, Any]]:
        for key, policy in pairs():
            yield {"prompt": key, "policy": policy, "text": " ".join(rng.choice(WORDS, 30))}

    def rated() -> Iterator[dict[str, Any]]:
        for key, policy in pairs():
            scores = dict(zip(principles, rng.integers(0, 6, len(principles)).tolist(), strict=True))
            yield {"prompt": key, "policy": policy, "annotator": "llm:made", **scores}

    files = {"prompts": asked, "responses": answered, "judgements": rated}
    for kind, rows in files.items():
        with open(folder / f"{kind}.jsonl", "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows())
    return [*(Step(kind, str(folder / f"{kind}.jsonl")) for kind in files), Step()]  # type: ignore[arg-type]


def beside(name: str, steps: list[Step], folder: Path, cluster: Cluster, kills: int) -> list[Check]:
    """All engines on a run, and whether they agree."""
    checks: list[Check] = []
    found: dict[str, dict[str, bytes]] = {}
    for engine in ENGINES:
        run = Run.create(folder / engine, load_rubric("psychocounsel"))
        store = Store(str(run.path))
        if engine != "local":
            convert(store, "parquet")
        for step in steps:
            started = time.perf_counter()
            with killing(kills if engine == ENGINES[2] else 0) as killed:
                step.locally(run) if engine == "local" else step.on_cluster(run, store, cluster)
            seconds = time.perf_counter() - started
            checks.append(Check(f"{name}, {engine}: {step.words}", round(seconds, 1), "s"))
            if engine == ENGINES[2]:
                checks.append(Check(f"{name}: {step.words}: workers killed", len(killed), "", ">= 1", bool(killed)))
        if engine != "local":
            convert(store, "jsonl")
        found[engine] = files(run.path)
    wanted = found["local"]
    for engine in ENGINES[1:]:
        same = "the same" if found[engine] == wanted else f"different: {different(found[engine], wanted)}"
        checks.append(Check(f"{name}, {engine}: all files, byte for byte", same, "", "the same", same == "the same"))
        doubled = sum(twice(content) for file, content in found[engine].items() if "/" not in file)
        checks.append(Check(f"{name}, {engine}: ids that stand twice", doubled, "", "0", not doubled))
    rows = {file: content.count(b"\n") for file, content in wanted.items() if file.endswith(".jsonl")}
    return [*checks, Check(f"{name}: lines", ", ".join(f"{count:,} {file}" for file, count in rows.items()))]


@contextmanager
def killing(most: int) -> Iterator[list[str]]:
    """Kill one worker of this process's cluster in each kind of work, so many at most; the list says in which."""
    killed: list[str] = []
    ended = threading.Event()

    def look() -> None:
        while len(killed) < most and not ended.wait(0.05):
            if found := working(os.getpid(), set(killed)):
                kill(found[0])
                killed.append(found[1])

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()


def files(folder: Path) -> dict[str, bytes]:
    """All files of a run by name."""
    every = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in every}


def different(found: dict[str, bytes], wanted: dict[str, bytes]) -> str:
    """Which files differ."""
    return ", ".join(sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name)))


def twice(content: bytes) -> int:
    """How many ids of a file of records stand in more than one line."""
    ids = [json.loads(line).get("id") for line in content.splitlines()] if content.startswith(b'{"') else []
    return len(ids) - len(set(ids))


if __name__ == "__main__":
    sys.exit(main())
