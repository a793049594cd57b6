"""Whether 95% intervals of the length-controlled rate hold the truth, in simulated studies.

    python -m benchmarks.winrate_parts.length_coverage [--studies 2000] [--peer-studies 500] [--seed 7]

Writes  benchmarks/out/length_coverage.json

A study is 805, 200 or 60 prompts. Its answers' lengths are log-normal, the policy's with a bias towards long ones.
Who is preferred is drawn from log-odds of a level, a slope of the difference of lengths and the prompt's difficulty,
which two judges share; one comparison in twenty is a tie; half of the studies' cells have soft labels. The truth is
the mean chance where lengths are equal, over all prompts that there could be.

    glm       the difficulties known, as for AlpacaEval's prompts
    no gamma  the same model and studies with the difficulty left out
    simple    the logistic control by the relative difference; difficulty is there and unknown
    joint     difficulties estimated from four other policies on the same prompts

Beside the first stands AlpacaEval's formula on some of the same studies: a fit with its L1 penalty, and the spread of
the predictions as standard error. Thousands of these fits are made together (``alpaca_formula``); the first of a cell
are compared with scikit-learn's, as ``length_controlled`` makes them. One more cell shows the formula where prompts
hardly differ in difficulty.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from benchmarks.proof import Check, report
from benchmarks.winrate_parts import alpaca_formula
from prefkit.evaluation.length_control import LengthControlled, length_controlled
from prefkit.evaluation.length_rows import alpaca_design, rows_of
from prefkit.evaluation.outcomes import KINDS, Outcomes

Floats = npt.NDArray[np.float64]
PROMPTS = (60, 200, 805)
LEVELS = {"close": 0.15, "far": -1.8}
HOLDS = (0.93, 0.97)
DIFFICULTY = 1.4  # standard deviation, as of AlpacaEval's prompts
SLOPE = 1.2  # of the standardised difference
TIES = 0.05
OTHERS = (-2.0, -0.7, 0.4, 1.2)
LENGTH_SPREAD = (0.6, 0.5)  # of all answers to a prompt, of one answer, in logarithms
SEED = 7
Z = 1.959964
APART = 0.01
"""How far the rates of our fit with AlpacaEval's penalty may be from scikit-learn's, in points."""


@dataclass(frozen=True)
class World:
    """How studies come about: where ``tanh`` says so the length counts as in AlpacaEval's model."""

    level: float
    tanh: bool
    judges: int = 1
    soft: bool = False
    others: bool = False
    longer: float = 0.15  # the policy's answers, in logarithms
    difficulty: float = DIFFICULTY

    def feature(self, one: Floats, other: Floats, scale: float) -> Floats:
        """How much longer the first answer is, in the unit of the slope."""
        return np.tanh((one - other) / scale) if self.tanh else (one - other) / (one + other) / scale


def lengths(world: World, rng: np.random.Generator, size: int) -> tuple[Floats, Floats]:
    """Characters of the policy's answers and the baseline's. [size]"""
    shared, own = LENGTH_SPREAD
    prompt = rng.normal(7.0, shared, size)
    one, other = (np.round(np.exp(prompt + rng.normal(mean, own, size)), 0) for mean in (world.longer, 0.0))
    return np.asarray(one, np.float64), np.asarray(other, np.float64)


def truth(world: World) -> float:
    """The rate at equal length: the mean of the chance over difficulties, by Gauss and Hermite, and ties."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    chance = 1 / (1 + np.exp(-(world.level + world.difficulty * nodes)))
    return float((1 - TIES) * (weights @ chance) / weights.sum() + TIES / 2)


def scale_of(world: World) -> float:
    """The spread of the difference over all prompts that there could be."""
    one, other = lengths(world, np.random.default_rng(1), 400_000)
    if world.tanh:
        return float((one - other).std())
    return float(np.sqrt((((one - other) / (one + other)) ** 2).mean()))


def study(world: World, size: int, scale: float, rng: np.random.Generator) -> tuple[Outcomes, dict[str, float]]:
    """Outcomes of policy 0 against the baseline, and of the others where the world has them; the difficulties."""
    gamma = rng.normal(0.0, world.difficulty, size)
    levels = (world.level, *(OTHERS if world.others else ()))
    parts = []
    for policy, level in enumerate(levels):
        one, other = lengths(world, rng, size)
        chance = 1 / (1 + np.exp(-(level + SLOPE * world.feature(one, other, scale) + gamma)))
        for judge in range(world.judges):
            parts.append((np.arange(size), judge, policy, verdicts(chance, world, rng), one, other))
    prompt, one, other = (np.concatenate([part[place] for part in parts]) for place in (0, 4, 5))
    rows = len(prompt)
    found = Outcomes(
        prompt=prompt,
        judge=np.concatenate([np.full(size, part[1]) for part in parts]),
        first=np.concatenate([np.full(size, part[2]) for part in parts]),
        second=np.full(rows, len(levels)),
        preferred=np.concatenate([part[3] for part in parts]),
        shown_first=None,
        length_first=one.astype(np.int64),
        length_second=other.astype(np.int64),
        topic=np.full(rows, -1),
        pair=np.arange(rows),
        kind=np.full(rows, KINDS.index("comparison")),
        prompts=tuple(map(str, range(size))),
        judges=tuple(f"judge {judge}" for judge in range(world.judges)),
        policies=(*(f"policy {policy}" for policy in range(len(levels))), "baseline"),
        topics=(),
    )
    return found, {str(prompt): value for prompt, value in enumerate(gamma.tolist())}


def verdicts(chance: Floats, world: World, rng: np.random.Generator) -> Floats:
    """Who is preferred [n]: 1, 0, 0.5 for a tie; or a number with the same mean that is mostly near one end."""
    drawn = rng.beta(0.4 * chance, 0.4 * (1 - chance)) if world.soft else (rng.random(len(chance)) < chance) * 1.0
    return np.where(rng.random(len(chance)) < TIES, 0.5, np.nan_to_num(drawn, nan=0.5))


@dataclass
class Count:
    """How often the intervals held the truth, and how wide they were."""

    held: int = 0
    made: int = 0
    width: float = 0.0
    error: float = 0.0

    def add(self, low: float | None, high: float | None, value: float | None, true: float) -> None:
        """One study; without an interval it counts as one that did not hold."""
        self.made += 1
        if low is not None and high is not None and value is not None:
            self.held += low <= true <= high
            self.width += high - low
            self.error += value - true

    def share(self) -> float:
        """Of the studies whose interval held the truth."""
        return self.held / self.made


Fit = Callable[[Outcomes, dict[str, float]], LengthControlled]
FITS: dict[str, Fit] = {
    "glm": lambda some, gamma: length_controlled(some, "policy 0", "baseline", method="glm", difficulty=gamma),
    "no gamma": lambda some, gamma: length_controlled(some, "policy 0", "baseline", method="glm", difficulty=None),
    "simple": lambda some, gamma: length_controlled(some, "policy 0", "baseline", method="simple"),
    "joint": lambda some, gamma: length_controlled(some, "policy 0", "baseline", method="glm"),
}


def cell(
    fit: str, world: World, size: int, studies: int, peers: int, compared: int = 0, seed: int = SEED
) -> tuple[Count, Count, float]:
    """Our intervals, AlpacaEval's in the first ``peers`` studies, and how far its rates are from those that
    scikit-learn's fit gives in the first ``compared``."""
    rng, true, scale = np.random.default_rng([seed, size]), truth(world), scale_of(world)
    ours, theirs, designs, sklearns = Count(), Count(), [], []
    for number in range(studies):
        outcomes, gamma = study(world, size, scale, rng)
        found = FITS[fit](outcomes, gamma)
        ours.add(found.low, found.high, found.value, true)
        if number < peers:
            rows = rows_of(outcomes, "policy 0", "baseline", ())
            design = alpaca_design(rows, np.array([gamma[outcomes.prompts[code]] for code in rows.prompt]))
            designs.append((design.seen, design.alike, rows.preferred))
        if number < min(peers, compared):
            slow = length_controlled(outcomes, "policy 0", "baseline", method="alpaca", difficulty=gamma)
            sklearns.append(np.nan if slow.value is None else slow.value)
    apart = 0.0
    if designs:
        values, errors = alpaca_formula.rates(*(np.stack(part) for part in zip(*designs, strict=True)))
        for value, error in zip(values.tolist(), errors.tolist(), strict=True):
            theirs.add(value - Z * error, value + Z * error, value, true)
        apart = float(np.abs(values[: len(sklearns)] - sklearns).max(initial=0.0))
    return ours, theirs, apart


def worlds(fit: str) -> dict[str, World]:
    """The worlds that a fit is tried in, by name."""
    tanh, others = fit != "simple", fit == "joint"
    found = {name: World(level, tanh, others=others) for name, level in LEVELS.items()}
    if not others:
        found["far, two judges, soft"] = World(LEVELS["far"], tanh, judges=2, soft=True)
    if fit == "glm":
        found["close, prompts alike"] = World(LEVELS["close"], tanh, difficulty=0.3)
    return found


def checks(studies: int, peer_studies: int, compared: int, seed: int) -> list[Check]:
    """Coverage in every cell. The bounds leave room for the luck of fewer than 2,000 studies."""
    luck = 3 * (0.95 * 0.05 / studies) ** 0.5 if studies < 2000 else 0.0
    low, high = HOLDS[0] - luck, HOLDS[1] + luck
    found = []
    started, furthest = time.perf_counter(), 0.0
    for size, fit in product(PROMPTS, FITS):
        for name, world in worlds(fit).items():
            peers = min(peer_studies, studies) if fit == "glm" and world.judges == 1 else 0
            ours, theirs, apart = cell(fit, world, size, studies, peers, compared, seed)
            furthest = max(furthest, apart)
            goal, holds = f"{100 * low:.1f} to {100 * high:.1f}", low <= ours.share() <= high
            new = [Check(f"{fit}, {name}, {size} prompts", said(ours), "%", goal, holds)]
            if theirs.made:
                new.append(Check(f"  AlpacaEval's formula, {name}, {size} prompts", said(theirs), "%"))
            found += new
            for one in new:
                print(one.check, one.value, file=sys.stderr, flush=True)  # the whole takes long
    furthest = round(100 * furthest, 4)
    goal = f"{APART} apart in {compared} studies a cell"
    found.append(Check("AlpacaEval's fit beside scikit-learn's, at most", furthest, "points", goal, furthest <= APART))
    found.append(Check("seconds for all of it", round(time.perf_counter() - started, 1), "s"))
    return found


def said(count: Count) -> str:
    """Coverage, half-width and bias of a cell's intervals."""
    share, reach = 100 * count.share(), 50 * count.width / count.made
    return f"{share:.1f}, +-{reach:.1f} points, bias {100 * count.error / count.made:+.2f}"


def main() -> int:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--peer-studies", type=int, default=500, help="of them, by AlpacaEval's formula too")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--check", type=int, default=3, help="studies a cell that scikit-learn fits too")
    asked = parser.parse_args()
    return report("length_coverage", checks(asked.studies, asked.peer_studies, asked.check, asked.seed))


if __name__ == "__main__":
    sys.exit(main())
