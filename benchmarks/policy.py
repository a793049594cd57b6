"""Policies: the proofs.

    python -m benchmarks.policy --size small|full [--only beside_trl]

**beside_trl**  prefkit's trainer beside trl's DPOTrainer and ORPOTrainer: losses, log-probabilities, pairs by
                CPU-second, memory. Small: a two-layer Llama with random weights and made-up pairs, for what is learned;
                how fast says nothing there.

``policy_parts`` holds the proofs, each a command of its own.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from benchmarks.policy_parts import beside_trl
from benchmarks.proof import Check, report
from benchmarks.reward import tiny, written

Size = Literal["small", "full"]
PAIRS = 24


def trl(size: Size) -> list[Check]:
    """See ``policy_parts.beside_trl``."""
    if size == "full":
        return [check for method in beside_trl.METHODS for check in beside_trl.speed(method, "smollm2", PAIRS, None)]
    with tempfile.TemporaryDirectory() as folder:
        base, source = tiny(Path(folder) / "base"), written(Path(folder) / "pairs.jsonl", 18)
        return beside_trl.learned(str(base), str(source))


PROOFS: dict[str, Callable[[Size], list[Check]]] = {"beside_trl": trl}


def main() -> int:
    """Run the proofs that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--only", choices=tuple(PROOFS))
    asked = parser.parse_args()
    names = [asked.only] if asked.only else list(PROOFS)
    return report("policy", [check for name in names for check in PROOFS[name](asked.size)])


if __name__ == "__main__":
    sys.exit(main())
