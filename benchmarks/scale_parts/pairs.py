"""Screening and pairs on a Ray cluster of two processors, beside the local engine, and with workers killed.

    PREFKIT_DATA=FOLDER python -m benchmarks.scale_parts.pairs --prompts 20000

Reads   FOLDER/chatpsychiatrist: 229 questions, the answers of five models, ratings
Writes  benchmarks/out/scale-pairs.json

On each run, the real one and a generated one, ``screen`` and then ``build-pairs``: by the local engine; on the cluster;
and on the cluster while a worker is killed (-9) in each kind of work that Ray names (reading, sorting, reducing, ...),
once each. Generated prompts repeat an earlier one now and then, with words changed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.commands import prefkit
from benchmarks.generated_run import WORDS, generate
from benchmarks.proof import Check, report
from benchmarks.scale_parts.trees import kill, working
from prefkit.cluster.cluster import Cluster, joined
from prefkit.cluster.duplicates import screen_on_cluster
from prefkit.cluster.pairs import build_pairs_on_cluster
from prefkit.converting import convert
from prefkit.pairs.build import build_pairs
from prefkit.pairs.settings import PairSettings
from prefkit.prompts.cleaning import screen_run
from prefkit.prompts.screening import ScreenSettings
from prefkit.records import Message, Prompt
from prefkit.run import Run, read_pairs
from prefkit.store import Store

REPEATED = 0.05
SPLITS = ("train", "validation", "test")
SCREEN = ScreenSettings(max_chars=4000)
PAIRS = PairSettings(validation_size=0.05)


def main() -> int:
    """Compare both engines on both runs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, default=2_000, help="of the generated run")
    prompts = parser.parse_args().prompts
    checks: list[Check] = []
    with tempfile.TemporaryDirectory() as scratch, joined(None, 2) as cluster:
        if os.environ.get("PREFKIT_DATA"):
            real_run(Path(scratch) / "real")
            checks += beside("chatpsychiatrist", Path(scratch) / "real", cluster)
        made_run(Path(scratch) / "made", prompts)
        checks += beside(f"{prompts:,} generated prompts", Path(scratch) / "made", cluster)
    return report("scale-pairs", checks)


def real_run(folder: Path) -> None:
    """The questions, answers and ratings of chatpsychiatrist."""
    source = Path(os.environ["PREFKIT_DATA"]) / "chatpsychiatrist"
    prefkit("new", folder, "--rubric", "psychocounsel")
    prefkit("import", "prompts", folder, source / "question.jsonl")
    for file in sorted((source / "model_answer").glob("*.jsonl")):
        prefkit("import", "responses", folder, file)
    prefkit("import", "judgements", folder, source / "ratings.csv")


def made_run(folder: Path, prompts: int) -> None:
    """Generated prompts, some of which repeat an earlier one with a few words changed."""
    run, rng = generate(folder, prompts), np.random.default_rng(3)
    records = list(run.prompts())
    for at in np.flatnonzero(rng.random(len(records)) < REPEATED)[1:].tolist():
        words = records[rng.integers(0, at)].messages[0].content.split()
        for place in rng.integers(0, len(words), rng.integers(0, 6)).tolist():
            words[place] = str(WORDS[rng.integers(0, len(WORDS))])
        said = (Message(role="user", content=" ".join(words)),)
        records[at] = msgspec.structs.replace(records[at], messages=said)
    run.replace(Prompt, records)


def beside(name: str, folder: Path, cluster: Cluster) -> list[Check]:
    """Both engines on a run; then the cluster with workers killed."""
    copies = [folder.with_name(f"{folder.name}-{which}") for which in ("ray", "killed")]
    for copy in copies:
        shutil.copytree(folder, copy)
        convert(Store(str(copy)), "parquet")
    local = Run(folder)
    screened, built = screen_run(local, SCREEN), build_pairs(local, PAIRS)
    checks = [
        Check(f"{name}: prompts left out as duplicates", sum(screened.excluded.values())),
        Check(f"{name}: pairs", built.kept.total()),
    ]
    for copy, which in zip(copies, ("ray", "ray, workers killed"), strict=True):
        run, store = Run(copy), Store(str(copy))
        with killing() if which != "ray" else noone() as killed:
            same = screen_on_cluster(run, store, SCREEN, cluster) == screened
            checks += _killed(f"{name}: screen", killed) if which != "ray" else []
            killed.clear()
            paired = build_pairs_on_cluster(run, store, PAIRS, cluster)
            checks += _killed(f"{name}: build-pairs", killed) if which != "ray" else []
        checks.append(_same(f"{name}, {which}: what was screened, counts", same))
        counts = vars(paired) | {"manifest": built.manifest} == vars(built)
        checks.append(_same(f"{name}, {which}: what was built, counts", counts))
        rows = list(read_pairs(copy / "pairs.parquet")) == list(read_pairs(folder / "pairs.parquet"))
        checks.append(_same(f"{name}, {which}: pairs.parquet, row for row", rows))
        datasets = all(dataset(copy, split) == dataset(folder, split) for split in SPLITS)
        checks.append(_same(f"{name}, {which}: dataset/, row for row", datasets))
        convert(store, "jsonl")
        prompts = (copy / "prompts.jsonl").read_bytes() == (folder / "prompts.jsonl").read_bytes()
        checks.append(_same(f"{name}, {which}: prompts and their verdicts, byte for byte", prompts))
        shutil.rmtree(copy)
    return checks


def dataset(folder: Path, split: str) -> list[Any]:
    """The rows of a split."""
    from pyarrow import parquet

    files = sorted((folder / "dataset").glob(f"{split}*.parquet"))
    return [row for file in files for row in parquet.read_table(file).to_pylist()]


def _same(name: str, same: bool) -> Check:
    return Check(name, "the same" if same else "different", "", "the same", same)


def _killed(name: str, killed: list[str]) -> list[Check]:
    return [
        Check(f"{name}: workers killed in the middle of {', '.join(killed)}", len(killed), "", ">= 1", bool(killed))
    ]


@contextmanager
def noone() -> Iterator[list[str]]:
    """Nobody is killed."""
    yield []


@contextmanager
def killing() -> Iterator[list[str]]:
    """Kill one worker of this process's cluster in each kind of work; the list says in which."""
    killed: list[str] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.05):
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


if __name__ == "__main__":
    sys.exit(main())
