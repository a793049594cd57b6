"""Pairs: figures on real data where it is at hand, and time and memory at three sizes beside plain pandas.

    python -m benchmarks.pairs --size small|full

The peer is what one would write in pandas: read the judgements, mean over principles, join responses to themselves by
prompt, keep gaps of at least 1 and no safety inversion. It gets no texts, no near-duplicates, no splits and writes no
dataset; prefkit's time is of the whole command, with all of them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.generated_run import generate
from benchmarks.proof import Check, report

SCORES_A_PROMPT = 28
SIZES = {"small": (2_800, 28_000, 280_000), "full": (100_000, 1_000_000, 10_000_000)}
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
    size = parser.parse_args().size
    with tempfile.TemporaryDirectory() as folder:
        checks = [*real_data(Path(folder)), *growth(Path(folder), SIZES[size], full=size == "full")]
    return report("pairs", checks)


def real_data(folder: Path) -> list[Check]:
    """Counts on the data sets that the environment variable PREFKIT_DATA points to."""
    data = Path(os.environ.get("PREFKIT_DATA") or "-")
    if not (data / "chatpsychiatrist").is_dir():
        print("real data: PREFKIT_DATA names no folder with it; skipped")
        return []
    run, source = folder / "chat", data / "chatpsychiatrist"
    prefkit("new", run, "--rubric", "psychocounsel")
    prefkit("import", "prompts", run, source / "question.jsonl")
    for file in sorted((source / "model_answer").iterdir()):
        prefkit("import", "responses", run, file)
    imported = prefkit("import", "judgements", run, source / "ratings.csv")
    built = prefkit("build-pairs", run)
    checks = [
        counted("chatpsychiatrist: ratings imported", imported, "judgements,", 1_145),
        counted("chatpsychiatrist: scores imported", imported, "scores", 8_015),
        counted("chatpsychiatrist: pairs of gap >= 1", built, "pairs (gap)", 618),
        counted("chatpsychiatrist: to the safety gate", built, "gate:", 1),
    ]
    for flags, expected in ((["--keep-out-of-range"], 12_051), ([], 11_742)):
        run = folder / f"mental{len(flags)}"
        prefkit("new", run, "--rubric", "mentalbench")
        imported = prefkit("import", "judgements", run, data / "mentalbench-align" / "Human_judge.xlsx", *flags)
        built = prefkit("build-pairs", run)
        name = f"MentalBench, people{', out of range kept' if flags else ''}"
        checks.append(counted(f"{name}: pairs of gap >= 1", built, "pairs (gap)", expected))
        checks.append(counted(f"{name}: scores missing", imported, "score missing:", 10))
        out = "score out of range, kept:" if flags else "score out of range, left out:"
        checks.append(counted(f"{name}: scores out of range", imported, out, 239))
    return checks


def growth(folder: Path, sizes: tuple[int, ...], *, full: bool) -> list[Check]:
    """Time and memory at three sizes, each beside pandas in the same minute."""
    checks, seconds = [], []
    for scores in sizes:
        run = folder / f"run{scores}"
        generate(run, -(-scores // SCORES_A_PROMPT))
        ours = measured([sys.executable, "-m", "prefkit", "build-pairs", str(run)])
        peer = measured([sys.executable, "-c", PANDAS, str(run), str(folder / "peer.parquet")])
        shutil.rmtree(run)
        seconds.append(ours.seconds)
        last = scores == 10_000_000
        checks += [
            Check(f"{scores:,} scores: prefkit, the whole command", round(ours.seconds, 1), "s", "< 60" if last else "", not last or ours.seconds < 60),
            Check(f"{scores:,} scores: prefkit, peak memory", round(ours.gigabytes, 2), "GB", "< 4" if last else "", not last or ours.gigabytes < 4),
            Check(f"{scores:,} scores: pandas, the selection alone", round(peer.seconds, 1), "s", "", True),
            Check(f"{scores:,} scores: pandas, peak memory", round(peer.gigabytes, 2), "GB", "", True),
            Check(f"{scores:,} scores: time, pandas / prefkit", round(peer.seconds / ours.seconds, 2), "x", "", True),
        ]
    ratio = seconds[-1] / seconds[-2] / (sizes[-1] / sizes[-2])
    checks.append(Check("time per score, largest / middle size", round(ratio, 2), "x", "<= 1.1", ratio <= 1.1 or not full))
    return checks


class Measured:
    """Wall seconds, peak memory and output of a finished command."""

    def __init__(self, seconds: float, gigabytes: float, output: str) -> None:
        self.seconds, self.gigabytes, self.output = seconds, gigabytes, output


def measured(command: list[str]) -> Measured:
    """Run a command by itself and measure it."""
    probe = (
        "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", probe, *command], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    *output, kilobytes = done.stdout.splitlines()
    return Measured(seconds, int(kilobytes) * 1024 / 1e9, "\n".join(output))


def prefkit(*arguments: object) -> str:
    """What a command prints."""
    command = [sys.executable, "-m", "prefkit", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def counted(name: str, output: str, before_or_after: str, expected: int) -> Check:
    """A count in a command's output, next to some words."""
    import re

    words = re.escape(before_or_after)
    number = r"([\d,]+)"
    found = re.search(rf"{words}\s*{number}" if before_or_after.endswith(":") and before_or_after != "gate:" else rf"{number} {words}", output)
    value = int(found[1].replace(",", "")) if found else -1
    return Check(name, value, "", str(expected), value == expected)


if __name__ == "__main__":
    sys.exit(main())
