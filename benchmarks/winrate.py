"""Win rates and rankings: the proofs.

    python -m benchmarks.winrate --size small|full [--only PART]

**alpaca**           AlpacaEval 2: win rates, standard errors and length-controlled rates as published.
**judges**           LLMBar and PandaLM: accuracy in both orders and kappas as published.
**mentalbench**      MentalBench: means as published; ten systems ranked by people and by each judge.
**ranking_speed**    a hundred policies, a million comparisons, a thousand draws, beside three peers.
**ranking_coverage** intervals of ratings and of style's effects over simulated boards.
**coverage**         intervals of win rates over simulated studies.
**length_coverage**  intervals of length-controlled win rates over simulated studies.

``winrate_parts`` holds them, each a command and a process of its own with a JSON of its own, and
``benchmarks/out/winrate.json`` has all that were run. The first three read data that is not in the repository, in the
folder PREFKIT_DATA, and are left out without it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.proof import OUT, Check, report

Size = Literal["small", "full"]


@dataclass(frozen=True)
class Part:
    """A command of ``winrate_parts``: what it is told at each size, the name of its JSON where that differs, the folder
    of data that it reads."""

    small: tuple[str, ...] = ()
    full: tuple[str, ...] = ()
    written: str = ""
    data: str = ""


PARTS = {
    "alpaca": Part(data="alpaca-eval"),
    "judges": Part(data="llmbar"),
    "mentalbench": Part(data="mentalbench-align"),
    "ranking_speed": Part(("--size", "small"), ("--size", "full")),
    "ranking_coverage": Part(("--boards", "60"), ("--boards", "1000")),
    "coverage": Part(("--studies", "100"), ("--studies", "2000"), "winrate-coverage"),
    "length_coverage": Part(("--studies", "40"), ("--studies", "2000")),
}


def ran(name: str, size: Size) -> list[Check]:
    """The checks of a part."""
    part = PARTS[name]
    if part.data and not (Path(os.environ.get("PREFKIT_DATA") or "-") / part.data).is_dir():
        return [Check(name, f"left out: PREFKIT_DATA names no folder with {part.data}")]
    written = OUT / f"{part.written or name}.json"
    written.unlink(missing_ok=True)
    print(f"\n{name}", flush=True)
    arguments = part.small if size == "small" else part.full
    code = subprocess.run(
        [sys.executable, "-m", f"benchmarks.winrate_parts.{name}", *arguments], check=False
    ).returncode
    if not written.exists():
        return [Check(name, f"ended with {code} and without a result", ok=False)]
    found = json.loads(written.read_bytes())["checks"]
    return [Check(**{**check, "check": f"{name}: {check['check']}"}) for check in found]


def main() -> int:
    """Run the proofs that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--only", choices=tuple(PARTS), action="append")
    asked = parser.parse_args()
    checks = [check for name in asked.only or PARTS for check in ran(name, asked.size)]
    print()
    return report("winrate", checks)


if __name__ == "__main__":
    sys.exit(main())
