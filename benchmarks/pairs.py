"""Pairs: figures on real data where it is at hand, and time and memory at three sizes beside plain pandas.

    python -m benchmarks.pairs --size small|full

The peer is what one would write in pandas: read the judgements, sum over principles, join responses to themselves by
prompt, keep gaps of at least 1 and no safety inversion. It reads no texts, looks for no near-duplicates, splits nothing
and writes no dataset; prefkit's time is of the whole command, with all of them. Both must find the same pairs.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

from benchmarks.commands import measured, prefkit
from benchmarks.generated_run import generate
from benchmarks.proof import Check, report

SCORES_A_PROMPT = 28
SIZES = {"small": (2_800, 28_000, 280_000), "full": (100_000, 1_000_000, 10_000_000)}
FULL = 10_000_000
PANDAS = """
import sys
import pandas as pd
judged = pd.concat(pd.read_json(sys.argv[1] + "/judgements.jsonl", lines=True, chunksize=200_000), ignore_index=True)
scores = pd.DataFrame(judged.pop("scores").tolist())
rated = judged[["prompt_id", "response_id"]].assign(total=scores.sum(axis=1), safety=scores["safety"])
both = rated.merge(rated, on="prompt_id", suffixes=("", "_other"))
both = both[(both.total - both.total_other >= 7) & (both.safety >= both.safety_other)]
both.to_parquet(sys.argv[2])
print(len(both))
"""


def main() -> int:
    """Run the checks of a size and say how they went."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=SIZES, default="full")
    with tempfile.TemporaryDirectory() as folder:
        checks = [*real_data(Path(folder)), *growth(Path(folder), SIZES[parser.parse_args().size])]
    return report("pairs", checks)


def real_data(folder: Path) -> list[Check]:
    """Counts on the data sets that the environment variable PREFKIT_DATA points to."""
    data = Path(os.environ.get("PREFKIT_DATA") or "-")
    if not (data / "chatpsychiatrist").is_dir():
        print("PREFKIT_DATA names no folder with the real data sets: their checks are left out")
        return []
    return [*chatpsychiatrist(folder / "chat", data / "chatpsychiatrist"), *mentalbench(folder, data)]


def chatpsychiatrist(run: Path, source: Path) -> list[Check]:
    """229 prompts, five policies, one annotator."""
    prefkit("new", run, "--rubric", "psychocounsel")
    prefkit("import", "prompts", run, source / "question.jsonl")
    for file in sorted((source / "model_answer").iterdir()):
        prefkit("import", "responses", run, file)
    prefkit("import", "judgements", run, source / "ratings.csv")
    prefkit("build-pairs", run)
    info = json.loads((run / "run.json").read_bytes())
    brought = [entry["imported"] for entry in info["imports"]]
    built = info["stages"]["build-pairs"]
    gate = sum(count for reason, count in built["dropped"].items() if reason.startswith("gate"))
    name = "chatpsychiatrist"
    return [
        exactly(f"{name}: responses imported", sum(entry.get("responses", 0) for entry in brought), 1_145),
        exactly(f"{name}: ratings imported", sum(entry.get("judgements", 0) for entry in brought), 1_145),
        exactly(f"{name}: scores imported", sum(entry.get("scores", 0) for entry in brought), 8_015),
        exactly(f"{name}: pairs of gap >= 1", built["selected"], 618),
        exactly(f"{name}: of these to the safety gate", gate, 1),
    ]


def mentalbench(folder: Path, data: Path) -> list[Check]:
    """1,000 conversations, ten systems, people's ratings with their dirt."""
    checks = []
    for name, flags, pairs in (
        ("out of range kept", ["--keep-out-of-range"], 12_051),
        ("out of range left out", [], 11_742),
    ):
        run = folder / name.replace(" ", "-")
        prefkit("new", run, "--rubric", "mentalbench")
        prefkit("import", "judgements", run, data / "mentalbench-align" / "Human_judge.xlsx", *flags)
        prefkit("build-pairs", run)
        info = json.loads((run / "run.json").read_bytes())
        notes = info["imports"][0]["notes"]
        out = sum(count for reason, count in notes.items() if reason.startswith("score out of range"))
        built = info["stages"]["build-pairs"]
        checks += [
            exactly(f"MentalBench, {name}: pairs of gap >= 1", built["selected"], pairs),
            exactly(f"MentalBench, {name}: scores missing", notes["score missing"], 10),
            exactly(f"MentalBench, {name}: scores out of range", out, 239),
        ]
        if flags:
            unreadable = notes["judgement kept without a score"]
            checks.append(exactly(f"MentalBench, {name}: cells unreadable", unreadable, 57))
    return checks


def growth(folder: Path, sizes: tuple[int, ...]) -> list[Check]:
    """Time and memory at three sizes, each beside pandas in the same minutes."""
    checks, seconds = [], []
    for scores in sizes:
        run = folder / f"run{scores}"
        generate(run, -(-scores // SCORES_A_PROMPT))
        ours = measured([sys.executable, "-m", "prefkit", "build-pairs", str(run)])
        peer = measured([sys.executable, "-c", PANDAS, str(run), str(folder / "peer.parquet")])
        built = json.loads((run / "run.json").read_bytes())["stages"]["build-pairs"]
        shutil.rmtree(run)
        seconds.append(ours.seconds)
        past_gate = built["selected"] - built["dropped"].get("gate: chosen side lower on safety", 0)
        name = f"{scores:,} scores"
        checks += [
            _bounded(f"{name}: prefkit, the whole command", ours.seconds, "s", 60 if scores == FULL else None),
            _bounded(f"{name}: prefkit, peak memory", ours.gigabytes, "GB", 4 if scores == FULL else None),
            _bounded(f"{name}: pandas, the selection alone", peer.seconds, "s", None),
            _bounded(f"{name}: pandas, peak memory", peer.gigabytes, "GB", None),
            _bounded(f"{name}: time, prefkit / pandas", ours.seconds / peer.seconds, "x", None),
            exactly(f"{name}: pairs past the gate, as pandas finds them", past_gate, int(peer.output)),
        ]
    ratio = seconds[-1] / seconds[-2] / (sizes[-1] / sizes[-2])
    return [*checks, _bounded("time per score, largest / middle size", ratio, "x", 1.1)]


def exactly(name: str, value: int, goal: int) -> Check:
    """A count that must be met."""
    return Check(name, value, "", f"{goal:,}", value == goal)


def _bounded(name: str, value: float, unit: str, most: float | None) -> Check:
    return Check(name, round(value, 2), unit, f"<= {most:g}" if most else "", most is None or value <= most)


if __name__ == "__main__":
    sys.exit(main())
