"""Whether prefkit's trainer and trl's RewardTrainer end at the same accuracy, from three seeds each.

    PREFKIT_DATA=FOLDER python -m benchmarks.reward_parts.three_seeds [--base BASE] [--layers N] [--pairs N]

chatpsychiatrist: an epoch over all pairs of some prompts, 8 pairs a step, accuracy on the pairs of a fold that neither
saw. Both get the same settings and weights, and each its own order: trl draws pairs, prefkit whole prompts. The base is
cut to its lowest layers, since trl takes hours with all of them; each job has a process and one thread for itself.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from benchmarks.proof import Check, report
from benchmarks.reward_parts.beside_trl import Job, run
from prefkit.resampling import Sums, estimates, per_cluster

SEEDS = range(3)
RATE = 1e-4


def checks(base: str, layers: int, pairs: int) -> list[Check]:
    """Held-out accuracy of both from each seed, and how far their means are apart."""
    made = []
    of: dict[str, list[float]] = {"prefkit": [], "trl": []}
    right: dict[str, list[np.ndarray]] = {"prefkit": [], "trl": []}
    for seed in SEEDS:
        for trainer in ("prefkit", "trl"):
            order = "sequential" if trainer == "prefkit" else "random"
            job = Job("rest", trainer, base, pairs, 8, layers=layers, batch=2, order=order, seed=seed, rate=RATE)
            found = run(job)
            right[trainer].append(np.array(found["margins"]) > 0)
            of[trainer].append(float(right[trainer][-1].mean()))
            said = f"seed {seed}: {trainer}, {found['pairs']} pairs in {found['seconds']:.0f} CPU-s, loss at the end"
            made.append(Check(said, round(float(np.mean(found["losses"][-3:])), 3), "nats"))
            name = f"seed {seed}: {trainer}, held-out accuracy of {len(found['margins'])} pairs"
            made.append(Check(name, round(of[trainer][-1], 3)))
            prompts = np.array(found["prompts"])
    mine, theirs = (float(np.mean(of[trainer])) for trainer in of)
    lead = np.mean(right["prefkit"], axis=0) - np.mean(right["trl"], axis=0)
    values = np.stack([per_cluster(of, prompts, prompts.max() + 1) for of in (lead, np.ones(len(lead)))], axis=1)
    sums = Sums(values, lambda totals: totals[..., 0] / totals[..., 1], len(lead))
    between = float(np.hypot(*(np.std(some, ddof=1) for some in of.values()))) / len(SEEDS) ** 0.5
    [figure] = estimates({"lead": sums}, resamples=2000, seed=0).values()
    made.append(Check("means", f"{mine:.3f} and {theirs:.3f}"))
    made.append(Check("standard error of their difference, between seeds", round(between, 3)))
    inside = figure.low is not None and figure.high is not None and figure.low <= 0 <= figure.high
    interval = f"{figure.value:+.3f} [{figure.low:+.3f}, {figure.high:+.3f}]"
    made.append(Check("prefkit's lead, interval over prompts", interval, "", "holds 0", inside))
    return made


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="smollm2")
    parser.add_argument("--layers", type=int, default=6, help="of the base, from below")
    parser.add_argument("--pairs", type=int, default=240, help="that are trained on, about")
    asked = parser.parse_args()
    return report("reward-seeds", checks(asked.base, asked.layers, asked.pairs))


if __name__ == "__main__":
    sys.exit(main())
