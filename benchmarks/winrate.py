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

import sys

from benchmarks.parts import Part, run_parts

PARTS = {
    "alpaca": Part(data="alpaca-eval"),
    "judges": Part(data="llmbar"),
    "mentalbench": Part(data="mentalbench-align"),
    "ranking_speed": Part(("--size", "small"), ("--size", "full")),
    "ranking_coverage": Part(("--boards", "60"), ("--boards", "1000")),
    "coverage": Part(("--studies", "100"), ("--studies", "2000"), "winrate-coverage"),
    "length_coverage": Part(("--studies", "40"), ("--studies", "2000")),
}


if __name__ == "__main__":
    sys.exit(run_parts("winrate", __doc__, PARTS))
