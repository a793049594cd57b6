"""Policies: the proofs.

    python -m benchmarks.policy --size small|full [--only beside_trl]

**processes**   two processes (gloo) with DDP and FSDP beside one: losses, and the weights that are kept.
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
from benchmarks.reward import LAUNCHERS, losses, prefkit, tiny, written

Size = Literal["small", "full"]
PAIRS = 24


def trl(size: Size) -> list[Check]:
    """See ``policy_parts.beside_trl``."""
    if size == "full":
        return [check for method in beside_trl.METHODS for check in beside_trl.speed(method, "smollm2", PAIRS, None)]
    with tempfile.TemporaryDirectory() as folder:
        base, source = tiny(Path(folder) / "base"), written(Path(folder) / "pairs.jsonl", 18)
        return beside_trl.learned(str(base), str(source))


def processes(size: Size) -> list[Check]:
    """One process, two with DDP, two with FSDP: the same losses, and the same weights kept."""
    from safetensors.torch import load_file

    checks = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, held_out = written(folder / "pairs.jsonl", 30), written(folder / "held-out.jsonl", 8)
        asked = "--batch 8 --row-tokens 512 --learning-rate 1e-3 --log-steps 1 --epochs 2"
        asked += " --check-tokens 12 --check-prompts 8 --check-steps 6"
        arguments = ["train-policy", str(source), "--held-out", str(held_out), *asked.split()]
        arguments += ["--base", str(tiny(folder / "base")), "--out"]
        prefkit([*arguments, str(folder / "one")])
        one = load_file(folder / "one" / "model.safetensors")
        for how, (launcher, environment) in LAUNCHERS.items():
            prefkit([*arguments, str(folder / how)], launcher, **environment)
            off = max(abs(a - b) for a, b in zip(losses(folder / "one"), losses(folder / how), strict=True))
            other = load_file(folder / how / "model.safetensors")
            apart = max(float((one[key] - other[key]).abs().max()) for key in one)
            checks += [
                Check(f"{how}: largest difference in loss", float(f"{off:.2g}"), "nats", "<= 1e-4", off <= 1e-4),
                Check(f"{how}: of a weight that was kept", float(f"{apart:.2g}"), "", "<= 1e-3", apart <= 1e-3),
            ]
    return checks


PROOFS: dict[str, Callable[[Size], list[Check]]] = {"processes": processes, "beside_trl": trl}


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
