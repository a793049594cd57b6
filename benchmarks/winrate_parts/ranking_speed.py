"""Bradley-Terry over many policies with a thousand bootstrap rounds, beside evalica, choix and arena-rank.

    python -m benchmarks.winrate_parts.ranking_speed --size small|full

Writes  benchmarks/out/ranking_speed.json

One board of comparisons of planted strengths; every program starts from its rows, in a process of its own and on one
thread, after its imports. prefkit draws prompts and gives BCa intervals, rank ranges and tests of all pairs; once each
row is a prompt of its own, as for the peers, and once there are as many prompts as ``PROMPTS``. What each peer is asked
for stands in ``ranking_peers``. One that needs longer does fewer rounds, whose time is scaled up, and the check says
so; one that has no end within ``LIMIT`` is stopped, and one that dies fails its check.

Times are of the processor and by the clock. All programs keep to one thread, so that on a free core the two are one;
other work on the machine lengthens the second only, and the goals are of the first. All must find the same strengths,
and planted ones must be found by the intervals.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.proof import Check, report
from benchmarks.winrate_parts.ranking_peers import Watch
from prefkit.evaluation.outcomes import KINDS, UNKNOWN, Outcomes
from prefkit.evaluation.rankings import RankingSettings, rank
from prefkit.evaluation.separations import POINTS

HERE = Path(__file__).parent
SCRIPT = HERE / "ranking_peers.py"
HOME = HERE.parent / "venvs" / "rankings"
GOAL, MEMORY = 10.0, 2.0
LIMIT = 900
"""Seconds by the clock after which a program is stopped."""
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
    "small": Size(30, 50_000, 200, {"choix": 200, "evalica": 10, "evalica-rows": 3, "arena-rank": 2}),
    "full": Size(100, 1_000_000, 1_000, {"choix": 1_000, "evalica": 30, "evalica-rows": 3, "arena-rank": 3}),
}
Found = dict[str, Any]


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
        checks = []
        for prompts in (size.comparisons, PROMPTS):
            ours = _run([*worker, str(prompts), str(size.rounds)])
            if isinstance(ours, str):
                raise SystemExit(ours)
            which = "each row a prompt" if prompts == size.comparisons else f"{PROMPTS:,} prompts"
            name = f"{size.policies} policies, {size.comparisons:,} comparisons, {size.rounds:,} rounds: {which}"
            checks += [
                _at_most(name, ours["all"]["processor"], "s of the processor", GOAL),
                Check(f"{which}: the same", round(ours["all"]["clock"], 2), "s by the clock"),
                _at_most(f"{which}: memory with the imports", ours["memory"], "GB", MEMORY),
            ]
            if prompts == size.comparisons:
                rows = ours
                checks += [_seconds("one fit of prefkit with sandwich intervals", ours["fit"]), _covered(ours, planted)]
        return [
            *checks,
            *(check for peer, rounds in size.peers.items() for check in _peer(peer, board, rounds, size, rows)),
        ]


def _peer(peer: str, board: Path, rounds: int, size: Size, ours: Found) -> list[Check]:
    found = _run([str(_environment()), str(SCRIPT), peer, str(board), str(rounds)])
    if isinstance(found, str):
        return [Check(f"{peer}: {rounds:,} rounds", found, ok=found.startswith("no end"))]
    one, all_of_it = found["seconds"]["fit"], found["seconds"]["all"]
    scale = size.rounds / rounds
    whole = {kind: one[kind] + (all_of_it[kind] - one[kind]) * scale for kind in one}
    scaled = f" (from {rounds:,})" if rounds < size.rounds else ""
    apart = float(np.abs(np.asarray(found["strengths"]) - np.asarray(ours["strengths"])).max())
    ahead = whole["processor"] / ours["all"]["processor"]
    return [
        _seconds(f"{peer}: {size.rounds:,} rounds{scaled}", whole),
        _seconds(f"{peer}: one fit", one),
        Check(f"{peer}: prefkit is faster by", round(ahead, 1), "times", "more than 1", ahead > 1),
        Check(f"{peer}: strengths differ at most by", round(apart, 5), "log-odds", f"at most {SAME}", apart <= SAME),
    ]


def _seconds(name: str, taken: dict[str, float]) -> Check:
    return Check(name, f"{taken['processor']:,.2f} s of the processor, {taken['clock']:,.2f} s by the clock")


def _at_most(name: str, value: float, unit: str, goal: float) -> Check:
    return Check(name, round(value, 2), unit, f"at most {goal:g}", value <= goal)


def _covered(found: Found, planted: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Check:
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


def _worker(path: Path, prompts: int, rounds: int) -> Found:
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
    watch = Watch()
    rank(outcomes, RankingSettings(intervals="sandwich", rounds=2))
    fit = watch()
    watch = Watch()
    ranking = rank(outcomes, RankingSettings(rounds=rounds))
    seconds = watch()
    by_name = sorted(ranking.policies, key=lambda one: one.policy)
    return {
        "fit": fit,
        "all": seconds,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "strengths": [(one.rating - 1000) / POINTS for one in by_name],
        "low": [((one.low or -1e9) - 1000) / POINTS for one in by_name],
        "high": [((one.high or 1e9) - 1000) / POINTS for one in by_name],
    }


def _run(command: list[str]) -> Found | str:
    """What a program prints last, or why it printed nothing."""
    alone = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
    alone["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=alone, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        return f"no end in {LIMIT} s"
    if done.returncode:
        return f"died: {done.stderr.strip()[-300:]}"
    found: Found = json.loads(done.stdout.splitlines()[-1])
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
