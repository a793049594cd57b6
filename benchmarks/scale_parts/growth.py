"""Time and memory of near-duplicates, splits and pairs as prompts grow tenfold, on both engines.

    python -m benchmarks.scale_parts.growth --prompts 10000 --prompts 100000 --engine local --engine ray

Reads   --runs FOLDER, with a generated run ``N`` and the same in parts, ``N-parts``, for each size; made where missing
Writes  benchmarks/out/scale-growth.json, to which a later call adds; a row for each size, engine and part

Prompts are of 90 words, with four responses of 70 words and a rating on seven principles for each (``generated_run``).
Each part is a process of its own (``--one``), with all that it starts: Ray on this machine, of two processors, is its
workers, its store of objects and its servers. Memory is without pages of files, which the system takes back when it
needs them (``trees``).

**dedup**        which prompts repeat an earlier one, as ``prefkit screen`` finds it
**splits**       which prompt goes to which split, near-duplicates together, as ``prefkit build-pairs`` does it
**build-pairs**  the whole command, with both
"""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.generated_run import generate
from benchmarks.proof import OUT, machine
from benchmarks.scale_parts.trees import watched
from prefkit.converting import convert
from prefkit.run import Run
from prefkit.store import Store

ENGINES = ("local", "ray")
PARTS = ("dedup", "splits", "build-pairs")
CPUS = 2
THRESHOLD = 0.8


@dataclass(frozen=True)
class Row:
    """What a part took at a size on an engine."""

    prompts: int
    engine: str
    part: str
    seconds: float
    cpu_seconds: float
    gigabytes: float
    mapped_gigabytes: float
    load: float


def main() -> int:
    """Measure what is asked for, and print the table of all that was measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--prompts", type=int, action="append", help="size, may be repeated; 10,000 and 100,000")
    parser.add_argument("--engine", choices=ENGINES, action="append", help="may be repeated; both")
    parser.add_argument("--part", choices=PARTS, action="append", help="may be repeated; all")
    parser.add_argument("--runs", type=Path, help="where generated runs are kept; a temporary folder")
    parser.add_argument("--one", nargs=3, metavar=("ENGINE", "PART", "RUN"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        engine, part, folder = options.one
        print(ONE[engine, part](Path(folder)))
        return 0
    rows = _earlier()
    with tempfile.TemporaryDirectory() as scratch:
        for prompts in options.prompts or (10_000, 100_000):
            runs = made(options.runs or Path(scratch), prompts, options.engine or ENGINES)
            for engine in options.engine or ENGINES:
                for part in options.part or PARTS:
                    row = measured(prompts, engine, part, runs[engine])
                    rows[prompts, engine, part] = row
                    _write(list(rows.values()))
                    print(_line(row), flush=True)
    print(table(sorted(rows.values(), key=lambda row: (PARTS.index(row.part), row.engine, row.prompts))))
    return 0


def made(folder: Path, prompts: int, engines: Sequence[str]) -> dict[str, Path]:
    """The run of a size for each engine."""
    lines, parts = folder / str(prompts), folder / f"{prompts}-parts"
    if not lines.exists():
        generate(lines, prompts)
    if "ray" in engines and not parts.exists():
        shutil.copytree(lines, parts)
        convert(Store(str(parts)), "parquet")
    return {"local": lines, "ray": parts}


def measured(prompts: int, engine: str, part: str, folder: Path) -> Row:
    """Do a part in a process of its own."""
    load = float(machine().get("load", 0))
    command = [sys.executable, "-m", "benchmarks.scale_parts.growth", "--one", engine, part, str(folder)]
    tree = watched(command)
    shutil.rmtree(folder / "dataset", ignore_errors=True)
    return Row(prompts, engine, part, tree.seconds, tree.cpu, tree.gigabytes, tree.mapped, load)


# What is measured


def dedup_locally(folder: Path) -> int:
    """How many prompts repeat an earlier one."""
    from prefkit.near_duplicates import near_duplicate_groups
    from prefkit.prompts.cleaning import client_words

    groups = near_duplicate_groups(map(client_words, Run(folder).prompts()), threshold=THRESHOLD)
    return int((groups != np.arange(len(groups))).sum())


def split_locally(folder: Path) -> int:
    """How many prompts are in the test split."""
    from prefkit.pairs.settings import PairSettings
    from prefkit.pairs.splits import TEST, split_prompts
    from prefkit.records import prompt_text

    texts = [prompt_text(prompt.messages) for prompt in Run(folder).prompts()]
    return int((split_prompts(texts, PairSettings())[0] == TEST).sum())


def build_locally(folder: Path) -> int:
    """How many pairs there are."""
    from prefkit.pairs.build import build_pairs
    from prefkit.pairs.settings import PairSettings

    return build_pairs(Run(folder), PairSettings()).kept.total()


def dedup_on_ray(folder: Path) -> int:
    """The same on a cluster."""
    from prefkit.cluster.blocks import parts_of, prompt_blocks
    from prefkit.cluster.cluster import joined
    from prefkit.cluster.duplicates import PROMPTS_AT_ONCE, fallen, left, over_alike

    with joined(None, CPUS) as cluster:
        prompts = parts_of(Store(str(folder)), "prompts")
        blocks = prompt_blocks(prompts, PROMPTS_AT_ONCE)
        total = sum(block.prompts.count for block in blocks)
        read = functools.partial(left, prompts, cluster.put(np.ones(total, bool)))
        found = over_alike(cluster, blocks, read, total, fallen, threshold=THRESHOLD)
        return sum(len(numbers) for numbers, _ in found)


def split_on_ray(folder: Path) -> int:
    """The same on a cluster."""
    from prefkit.cluster.blocks import parts_of
    from prefkit.cluster.cluster import joined
    from prefkit.cluster.pairs import split_on_cluster
    from prefkit.pairs.settings import PairSettings
    from prefkit.pairs.splits import TEST

    with joined(None, CPUS) as cluster:
        prompts = parts_of(Store(str(folder)), "prompts")
        used = np.arange(sum(prompts.rows(name) for name in prompts.names()))
        return int((split_on_cluster(cluster, prompts, used, PairSettings())[0] == TEST).sum())


def build_on_ray(folder: Path) -> int:
    """The same on a cluster."""
    from prefkit.cluster.cluster import joined
    from prefkit.cluster.pairs import build_pairs_on_cluster
    from prefkit.pairs.settings import PairSettings

    with joined(None, CPUS) as cluster:
        return build_pairs_on_cluster(Run(folder), Store(str(folder)), PairSettings(), cluster).kept.total()


ONE = {
    ("local", "dedup"): dedup_locally,
    ("local", "splits"): split_locally,
    ("local", "build-pairs"): build_locally,
    ("ray", "dedup"): dedup_on_ray,
    ("ray", "splits"): split_on_ray,
    ("ray", "build-pairs"): build_on_ray,
}


# What came of it


def _earlier() -> dict[tuple[int, str, str], Row]:
    try:
        rows = [Row(**row) for row in json.loads((OUT / "scale-growth.json").read_bytes())["rows"]]
    except FileNotFoundError:
        return {}
    return {(row.prompts, row.engine, row.part): row for row in rows}


def _write(rows: Sequence[Row]) -> None:
    OUT.mkdir(exist_ok=True)
    found = {"name": "scale-growth", "machine": machine(), "rows": [asdict(row) for row in rows]}
    (OUT / "scale-growth.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _line(row: Row) -> str:
    return (
        f"| {row.part} | {row.engine} | {row.prompts:,} | {row.seconds:,.0f} | {row.cpu_seconds:,.0f} |"
        f" {row.gigabytes:.2f} | {row.mapped_gigabytes:.2f} | {row.load:.0f} |"
    )


def table(rows: Sequence[Row]) -> str:
    """All that was measured, in Markdown; and for each part and engine what a further prompt takes."""
    head = ("part", "engine", "prompts", "s", "processor s", "GB", "GB of files mapped", "load before")
    lines = [f"| {' | '.join(head)} |", "|" + " --- |" * len(head), *map(_line, rows), ""]
    for before, after in pairwise(rows):
        if (before.part, before.engine) == (after.part, after.engine):
            more = after.prompts - before.prompts
            lines.append(
                f"{after.part}, {after.engine}, {before.prompts:,} to {after.prompts:,} prompts: a further one takes"
                f" {(after.gigabytes - before.gigabytes) / more * 1e9:,.0f} bytes and"
                f" {(after.cpu_seconds - before.cpu_seconds) / more * 1e6:,.0f} processor microseconds"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
