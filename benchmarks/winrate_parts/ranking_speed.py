"""Bradley-Terry over many policies with a thousand bootstrap rounds, beside evalica, choix and arena-rank.

    python -m benchmarks.winrate_parts.ranking_speed --size small|full

Writes  benchmarks/out/ranking_speed.json

One board of comparisons of planted strengths; every program starts from its rows, in a process of its own and on one
thread, after its imports. prefkit draws prompts and gives BCa intervals, rank ranges and tests of all pairs; once each
row is a prompt of its own, as for the peers, and once there are as many prompts as ``PROMPTS``. The peers draw rows. A
peer that needs longer does fewer rounds, whose time is scaled up, and the check says so. All must find the same
strengths, and planted ones must be found by the intervals.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.proof import Check, report
from prefkit.evaluation.outcomes import KINDS, UNKNOWN, Outcomes
from prefkit.evaluation.rankings import POINTS, RankingSettings, rank

HERE = Path(__file__).parent
SCRIPT = HERE / "ranking_peers.py"
HOME = HERE.parent / "venvs" / "rankings"
GOAL = 10.0
PROMPTS = 5_000
SAME = 0.02
"""Log-odds by which a peer's strengths may differ: their priors and tolerances are not ours."""


@dataclass(frozen=True)
class Size:
    """A board, how many rounds, and how many of them each peer does."""

    policies: int
    comparisons: int
    rounds: int
    peers: dict[str, int]


SIZES = {
    "small": Size(30, 50_000, 200, {"choix": 200, "evalica": 10, "arena-rank": 4}),
    "full": Size(100, 1_000_000, 1_000, {"choix": 1_000, "evalica": 30, "arena-rank": 10}),
}


def main() -> int:
    """Run the checks of a size and say how they went."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--worker", nargs=3, metavar=("BOARD", "PROMPTS", "ROUNDS"))
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(_worker(Path(arguments.worker[0]), *map(int, arguments.worker[1:]))))
        return 0
    return report("ranking_speed", speed(SIZES[arguments.size]))


def speed(size: Size) -> list[Check]:
    """All programs on one board."""
    with tempfile.TemporaryDirectory() as folder:
        board = Path(folder) / "board.npz"
        planted = _write_board(board, size)
        worker = [sys.executable, "-m", "benchmarks.winrate_parts.ranking_speed", "--worker", str(board)]
        rows = _run([*worker, str(size.comparisons), str(size.rounds)])
        prompts = _run([*worker, str(PROMPTS), str(size.rounds)])
        name = f"{size.policies} policies, {size.comparisons:,} comparisons, {size.rounds:,} rounds"
        checks = [
            _at_most(f"{name}: prefkit, each row a prompt", rows["all"], GOAL),
            _at_most(f"{name}: prefkit, {PROMPTS:,} prompts", prompts["all"], GOAL),
            Check("one fit of prefkit, from the rows", round(rows["fit"], 2), "s"),
            _covered(rows, planted),
        ]
        for peer, rounds in size.peers.items():
            checks += _peer(peer, board, rounds, size, rows)
    return checks


def _peer(peer: str, board: Path, rounds: int, size: Size, ours: dict[str, object]) -> list[Check]:
    found = _run([str(_environment()), str(SCRIPT), peer, str(board), str(rounds)])
    seconds = found["seconds"]
    whole = seconds["fit"] + (seconds["all"] - seconds["fit"]) * size.rounds / rounds
    scaled = f" (from {rounds:,})" if rounds < size.rounds else ""
    apart = float(np.abs(np.asarray(found["strengths"]) - np.asarray(ours["strengths"])).max())
    ahead = whole / float(str(ours["all"]))
    return [
        Check(f"{peer}: {size.rounds:,} rounds{scaled}", round(whole, 1), "s"),
        Check(f"{peer}: one fit", round(seconds["fit"], 2), "s"),
        Check(f"{peer}: prefkit is faster by", round(ahead, 1), "times", "more than 1", ahead > 1),
        Check(f"{peer}: strengths differ at most by", round(apart, 5), "log-odds", f"at most {SAME}", apart <= SAME),
    ]


def _at_most(name: str, value: float, goal: float) -> Check:
    return Check(name, round(value, 2), "s", f"at most {goal:g}", value <= goal)


def _covered(found: dict[str, list[float]], planted: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Check:
    share = float(np.mean((np.asarray(found["low"]) <= planted) & (planted <= np.asarray(found["high"]))))
    return Check(
        "planted strengths within their 95% intervals", round(100 * share, 1), "%", "at least 88", share >= 0.88
    )


def _write_board(path: Path, size: Size) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    rng = np.random.default_rng(7)
    strengths = np.linspace(-1.2, 1.2, size.policies)
    first = rng.integers(0, size.policies, size.comparisons)
    second = (first + 1 + rng.integers(0, size.policies - 1, size.comparisons)) % size.policies
    won = rng.random(size.comparisons) < 1 / (1 + np.exp(strengths[second] - strengths[first]))
    np.savez(path, first=first, second=second, won=won)
    return strengths


def _worker(path: Path, prompts: int, rounds: int) -> dict[str, object]:
    board = np.load(path)
    n = len(board["won"])
    unknown = np.full(n, UNKNOWN)
    outcomes = Outcomes(
        prompt=np.arange(n) % prompts,
        judge=np.zeros(n, np.int64),
        first=board["first"],
        second=board["second"],
        preferred=board["won"].astype(np.float64),
        shown_first=None,
        length_first=unknown,
        length_second=unknown,
        topic=unknown,
        pair=np.arange(n),
        kind=np.full(n, KINDS.index("comparison")),
        prompts=tuple(map(str, range(prompts))),
        judges=("human:planted",),
        policies=tuple(f"m{code:03}" for code in range(int(board["first"].max()) + 1)),
        topics=(),
    )
    rank(outcomes[:1_000], RankingSettings(rounds=100))  # the imports
    start = time.perf_counter()
    rank(outcomes, RankingSettings(intervals="sandwich", rounds=2))
    fit = time.perf_counter() - start
    start = time.perf_counter()
    ranking = rank(outcomes, RankingSettings(rounds=rounds))
    seconds = time.perf_counter() - start
    by_name = sorted(ranking.policies, key=lambda one: one.policy)
    return {
        "fit": fit,
        "all": seconds,
        "strengths": [(one.rating - 1000) / POINTS for one in by_name],
        "low": [((one.low or -1e9) - 1000) / POINTS for one in by_name],
        "high": [((one.high or 1e9) - 1000) / POINTS for one in by_name],
    }


def _run(command: list[str]) -> dict:  # type: ignore[type-arg]
    alone = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
    alone["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=alone)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


def _environment() -> Path:
    """The Python of the peers' environment, which is made if it is not there."""
    head = re.search(r"^# /// script\n((?:#.*\n)+?)# ///$", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE)
    assert head is not None
    needs = tomllib.loads(re.sub(r"^# ?", "", head[1], flags=re.MULTILINE))["dependencies"]
    made = HOME / "made-with"
    if not made.exists() or made.read_text(encoding="utf-8") != "\n".join(needs):
        subprocess.run([sys.executable, "-m", "venv", "--clear", HOME], check=True)
        subprocess.run([HOME / "bin" / "python", "-m", "pip", "install", "--quiet", *needs], check=True)
        made.write_text("\n".join(needs), encoding="utf-8")
    return HOME / "bin" / "python"


if __name__ == "__main__":
    sys.exit(main())
