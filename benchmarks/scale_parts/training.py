"""Training beyond one process and one memory.

    [PREFKIT_DATA=FOLDER] python -m benchmarks.scale_parts.training --size small|full [--only resume|policies|...]

Writes  benchmarks/out/scale-training.json

**resume**    ``prefkit train-rm`` killed with -9 at a checkpoint, all its processes, and gone on with by another number
              of them, or sharded where it was not, or the reverse: the course of the loss against that of one process
              which was left alone. Small: three of them.
**policies**  the same for ``prefkit train-policy`` with sft, dpo and orpo, from two processes with FSDP to one.
**balance**   over the steps of real data, how many times the mean of all processes the fullest reads, in tokens of the
              rows as they are packed. A training waits for the fullest at every step, so it takes so many times as
              long.
**memory**    the peak of what processes hold for themselves, over the course of ``prefkit train-rm``, with ten times
              the data: one process, and two.

The models are two-layer Llamas with random weights and a token a byte; balance takes the tokens of SmolLM2. FSDP on a
CPU needs the trick of ``benchmarks.reward``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.proof import Check, report
from benchmarks.reward import (
    LAUNCHERS,
    command,
    killed_at_a_checkpoint,
    prefkit,
    same_course,
    tiny,
    written,
)

Size = Literal["small", "full"]
_PLAIN: tuple[tuple[str, ...], dict[str, str]] = (("-m", "prefkit"), {})
_FSDP_LAUNCHER, _FSDP = LAUNCHERS["fsdp"]
WAYS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "one process": _PLAIN,
    "two with DDP": LAUNCHERS["ddp"],
    "two with FSDP": LAUNCHERS["fsdp"],
    "two with FSDP, state in shards": (_FSDP_LAUNCHER, _FSDP | {"FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT"}),
    "one with FSDP": (tuple("1" if word == "2" else word for word in _FSDP_LAUNCHER), _FSDP),
}
RESUMED = {
    "small": [
        ("two with DDP", "one process"),
        ("one process", "two with DDP"),
        ("two with FSDP", "one process"),
    ],
    "full": [
        ("one process", "two with FSDP"),
        ("two with DDP", "two with FSDP"),
        ("two with FSDP", "one with FSDP"),
        ("two with FSDP, state in shards", "one process"),
        ("two with FSDP, state in shards", "two with FSDP"),
        ("one process", "two with FSDP, state in shards"),
    ],
}
METHODS = ("sft", "dpo", "orpo")
PROMPTS = {"small": 2_000, "full": 20_000}
EVEN = 1.05


def resume(size: Size) -> list[Check]:
    """Killed in one way, gone on with in another."""
    checks = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, base = written(folder / "pairs.jsonl", 30), tiny(folder / "base")
        prefkit(command(source, base, folder / "one"))
        for number, (before, after) in enumerate(RESUMED["small"] + (RESUMED["full"] if size == "full" else [])):
            arguments = command(source, base, folder / str(number), "--save-steps", "4")
            checks += _cut(f"{before}, then {after}", arguments, folder / str(number), folder / "one", before, after)
    return checks


def policies(size: Size) -> list[Check]:
    """Policies, sharded over two processes and gone on with by one."""
    checks = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["PREFKIT_CACHE"] = str(folder / "cache")
        source, base = written(folder / "pairs.jsonl", 30), tiny(folder / "base")
        for method in METHODS if size == "full" else ("dpo",):
            asked = f"--method {method} --batch {3 if method == 'sft' else 8} --row-tokens 512 --learning-rate 1e-3"
            asked += " --log-steps 1 --epochs 2 --check-tokens 4 --check-prompts 2 --check-steps 0 --keep last"
            arguments = ["train-policy", str(source), *asked.split(), "--base", str(base), "--out"]
            prefkit([*arguments, str(folder / f"{method}-one")])
            cut = folder / method
            checks += _cut(
                f"{method}: two with FSDP, then one process", [*arguments, str(cut), "--save-steps", "4"], cut,
                folder / f"{method}-one", "two with FSDP", "one process",
            )  # fmt: skip
    return checks


def _cut(name: str, arguments: list[str], cut: Path, whole: Path, before: str, after: str) -> list[Check]:
    (first, first_environment), (second, second_environment) = WAYS[before], WAYS[after]
    killed_at_a_checkpoint(arguments, first, cut, **first_environment)
    prefkit(arguments, second, **second_environment)
    facts = json.loads((cut / "training.json").read_text())
    asked = (1 if after.startswith("one") else 2, "FSDP" in after)
    right = (facts["processes"], facts["sharded"]) == asked and 0 < facts["resumed_after_step"] < facts["steps"]
    return [
        Check(
            f"{name}: gone on with after step", facts["resumed_after_step"], goal=f"> 0, < {facts['steps']}", ok=right
        ),
        same_course(f"{name}: largest difference in loss", whole, cut),
    ]


def balance(size: Size) -> list[Check]:
    """Tokens of processes over the steps of an epoch of real data."""
    from benchmarks.reward_parts.frozen import chatpsychiatrist
    from prefkit.training.building import tokenizer_of
    from prefkit.training.examples import read_groups
    from prefkit.training.tokens import GroupTokenizer

    data = Path(os.environ.get("PREFKIT_DATA") or "-")
    if not data.is_dir():
        sys.exit("PREFKIT_DATA names no folder with the real data sets")
    tokenizer = tokenizer_of("smollm2")
    sets = {
        "chatpsychiatrist, five responses a prompt": chatpsychiatrist(data / "chatpsychiatrist"),
        "hh-rlhf, two": read_groups(data / "hh-rlhf" / "test.jsonl.gz"),
    }
    checks = []
    for name, groups in sets.items():
        encoded = GroupTokenizer(tokenizer, max_tokens=1024).tokenized(groups)
        tokens = [group for group in encoded if group.group.pairs]
        for batch in (32, 128):
            checks += [_balanced(f"{name}, {batch} pairs a step", tokens, batch, processes) for processes in (2, 4, 8)]
    return checks


def _balanced(name: str, groups: list, batch: int, processes: int) -> Check:
    """A check where there are two prompts or more for each process in a step; a figure elsewhere."""
    from prefkit.training.packing import pack, shortest
    from prefkit.training.steps import Steps
    from prefkit.training.token_store import sizes

    def read(process: Steps, step: int) -> int:
        rows = [
            pack([shortest(groups[place]) if row.filler else groups[place] for place in row.groups])
            for row in process.rows(0, step)
        ]
        return sum(row.tokens for row in rows)

    known = sizes(groups)
    everyone = [
        Steps(known.read, known.pairs, pairs_per_step=batch, row_tokens=2048, process=process, processes=processes)
        for process in range(processes)
    ]
    steps = range(len(everyone[0]))
    by_step = np.array([[read(process, step) for process in everyone] for step in steps])
    uneven = float(by_step.max(axis=1).sum() * processes / by_step.sum())
    prompts = len(groups) / len(steps)
    asked = prompts >= 2 * processes
    return Check(
        f"{name} ({prompts:.1f} prompts), {processes} processes: fullest over mean", round(uneven, 3), "times",
        f"< {EVEN}" if asked else "", not asked or uneven < EVEN,
    )  # fmt: skip


def memory(size: Size) -> list[Check]:
    """Peaks of one process and of two, with the data and with ten times as much."""
    checks = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        base, few = tiny(folder / "base"), PROMPTS[size]
        for how, number in (("one process", 1), ("two with DDP", 2)):
            launcher, environment = WAYS[how]
            peaks = []
            for prompts in (few, 10 * few):
                source, out = folder / f"{prompts}.jsonl", folder / f"{how}-{prompts}"
                if not source.exists():
                    generated(source, prompts)
                arguments = command(source, base, out, "--max-steps", "4")
                peaks.append(peak([sys.executable, *launcher, *arguments], environment))
                checks.append(Check(f"{how}, {prompts:,} prompts: peak of each", " + ".join(map(str, peaks[-1])), "MB"))
            fewer, more = (sorted(found, reverse=True)[:number] for found in peaks)  # a launcher's helpers are small
            for place, (before, after) in enumerate(zip(fewer, more, strict=True)):
                grown, reads = (after - before) * 1e6 / (9 * few), place == 0
                checks.append(
                    Check(f"{how}: a further prompt, in {'the one that reads' if reads else 'another'}", round(grown),
                          "bytes", "" if reads else "< 500", reads or grown < 500)
                )  # fmt: skip
    return checks


def generated(path: Path, prompts: int) -> None:
    """Prompts of some 200 bytes with three responses of as many, in two pairs."""
    words = [
        "I",
        "hear",
        "you",
        "today",
        "and",
        "wonder",
        "what",
        "would",
        "help",
        "most",
        "with",
        "sleep",
        "work",
        "home",
    ]
    draw = random.Random(0)
    with open(path, "w") as file:
        for number in range(prompts):
            prompt, *texts = (" ".join(draw.choices(words, k=40)) + f" {number}" for _ in range(4))
            rows = [{"prompt": prompt, "chosen": texts[0], "rejected": worse} for worse in texts[1:]]
            file.writelines(json.dumps(row) + "\n" for row in rows)


def peak(arguments: list[str], environment: dict[str, str]) -> list[int]:
    """MB that each training process held for itself at its highest; files in the system's cache are nobody's own."""
    process = subprocess.Popen(
        arguments, env=os.environ | environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    highest: dict[int, int] = {}
    while process.poll() is None:
        for number in _workers(process.pid):
            highest[number] = max(highest.get(number, 0), _own(number))
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"{' '.join(arguments)}: ended with {process.returncode}")
    return [highest[number] // 1000 for number in sorted(highest)]


def _workers(number: int) -> list[int]:
    """The processes that a launcher started; the process itself where it is none."""
    import psutil

    try:
        return sorted(child.pid for child in psutil.Process(number).children()) or [number]
    except psutil.NoSuchProcess:
        return []


def _own(number: int) -> int:
    try:
        lines = Path(f"/proc/{number}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)


PROOFS: dict[str, Callable[[Size], list[Check]]] = {
    "resume": resume,
    "policies": policies,
    "balance": balance,
    "memory": memory,
}


def main() -> int:
    """Run the proofs that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--only", choices=tuple(PROOFS))
    asked = parser.parse_args()
    names = [asked.only] if asked.only else list(PROOFS)
    return report("scale-training", [check for name in names for check in PROOFS[name](asked.size)])


if __name__ == "__main__":
    sys.exit(main())
