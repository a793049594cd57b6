"""Whether the 95% intervals of win rates hold the true rate in 95% of simulated studies.

    python -m benchmarks.winrate_parts.coverage [--studies 2000] [--only rates|differences|corrected|...]

A study: prompts differ in how far they favour the policy (normal, in log-odds); on each, one to ten comparisons by one
person, or by one or two judges in both orders, who favour the first slot by 0.4 in log-odds; two judges differ in
strictness, and on each prompt; ties. All studies of a cell are drawn at once, a few hundred at a time.

With 2,000 studies a coverage of 95% is known to one point to either side. So a cell that falls outside 93-97% is
simulated again with ten times as many, under another seed: by these it passes or fails, and both figures are shown.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import expit, stdtrit

from benchmarks.proof import Check, report
from prefkit.evaluation.correcting import corrected_interval
from prefkit.evaluation.intervals import bootstrap_interval, interval, naive_interval
from prefkit.evaluation.planning import assumed_spread, for_power, for_width

Floats = npt.NDArray[np.float64]
GOAL = (93.0, 97.0)
SLOT = 0.4
"""By how much a judge favours the first slot, in log-odds."""
STRICTNESS = 0.5
"""By how much each of two judges differs from their middle."""
TASTE = 0.6
"""The standard deviation of what a judge thinks of a prompt."""
AT_ONCE = 4_000_000
"""Answers drawn at once."""
AGAIN = 10
"""How many times as many studies decide about a cell that falls outside."""
MOST = 10
"""Comparisons on a prompt."""


@dataclass(frozen=True)
class Panel:
    """Who judges: how many, in how many orders, with what share of their doubtful answers ties."""

    name: str
    judges: int
    orders: tuple[float, ...]
    ties: float


PANELS = (
    Panel("a person", 1, (0.0,), 0.0),
    Panel("a judge", 1, (SLOT, -SLOT), 0.5),
    Panel("two judges", 2, (SLOT, -SLOT), 0.3),
)


@dataclass(frozen=True)
class Study:
    """``means`` [studies, prompts]; ``answers`` [studies, prompts, answers] as they were given, NaN where there is
    none."""

    means: Floats
    answers: Floats


@cache
def centre(rate: float, spread: float, panel: Panel) -> float:
    """Where prompts lie in the middle, in log-odds, for the win rate to be as wanted, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    wide = float(np.hypot(spread, TASTE if panel.judges > 1 else 0.0))
    shifts = [order + judge for order in panel.orders for judge in strictness(panel)]

    def surplus(middle: float) -> float:
        each = [(expit(middle + shift + wide * nodes) * weights).sum() / weights.sum() for shift in shifts]
        return float(np.mean(each)) - rate

    return float(brentq(surplus, -30, 30))


def strictness(panel: Panel) -> Floats:
    """Of each judge, in log-odds."""
    return np.linspace(-STRICTNESS, STRICTNESS, panel.judges) if panel.judges > 1 else np.zeros(1)


def drawn(
    rng: np.random.Generator,
    studies: int,
    prompts: int,
    comparisons: int | None,
    rate: float,
    spread: float,
    panel: Panel,
) -> Study:
    """Studies of one cell; ``comparisons`` is None for one to ten, drawn for each prompt."""
    most = comparisons or MOST
    favour = centre(rate, spread, panel) + rng.normal(0, spread, (studies, prompts, 1, 1, 1))
    favour = favour + strictness(panel)[:, None] + np.asarray(panel.orders)
    if panel.judges > 1:
        favour = favour + rng.normal(0, TASTE, (studies, prompts, 1, panel.judges, 1))
    chance = expit(favour)
    tied = panel.ties * np.minimum(chance, 1 - chance)  # half of the ties come from either side
    draw = rng.random((studies, prompts, most, panel.judges, len(panel.orders)))
    said = np.where(draw < chance - tied, 1.0, np.where(draw < chance + tied, 0.5, 0.0))
    if comparisons is None:
        count = rng.integers(1, MOST + 1, (studies, prompts, 1, 1, 1))
        said = np.where(np.arange(MOST)[:, None, None] < count, said, np.nan)
    answers = said.reshape(studies, prompts, -1)
    return Study(np.nanmean(answers, axis=-1), answers)


def batches(studies: int, per_study: int) -> Iterator[int]:
    """So many studies, a few at once."""
    most = max(1, AT_ONCE // per_study)
    for start in range(0, studies, most):
        yield min(most, studies - start)


def students(values: Floats) -> tuple[Floats, Floats]:
    """Student's t interval over prompts."""
    count = values.shape[-1]
    reach = stdtrit(count - 1, 0.975) * values.std(axis=-1, ddof=1) / np.sqrt(count)
    return values.mean(axis=-1) - reach, values.mean(axis=-1) + reach


def naive(answers: Floats) -> tuple[Floats, Floats]:
    """The interval that takes all answers of a study to be independent."""
    flat = answers.reshape(len(answers), -1)
    if not np.isnan(flat).any():
        return naive_interval(flat)
    ends = [naive_interval(one[~np.isnan(one)]) for one in flat]
    return np.array([low for low, _ in ends]), np.array([high for _, high in ends])


def rates(studies: int) -> Iterator[Check]:
    """Coverage of the interval of a win rate, beside the naive one and Student's t."""
    rng = np.random.default_rng(20260701)
    for rate in (0.5, 0.95):
        for prompts in (30, 100, 500):
            for comparisons in (1, 3, 10, None):
                for panel in PANELS:
                    cell = partial(_rate_cell, prompts=prompts, comparisons=comparisons, rate=rate, panel=panel)
                    yield _sure(cell, rng, studies)


def apart(studies: int) -> Iterator[Check]:
    """The same where prompts differ far more than they do elsewhere: figures to be read, at the edge of what holds."""
    rng = np.random.default_rng(20260705)
    for prompts in (30, 100):
        for panel in PANELS:
            cell = _rate_cell(rng, studies, prompts, 10, 0.95, panel, spread=2.0)
            yield Check(f"{cell.check}, prompts far apart", cell.value, cell.unit)


def _rate_cell(
    rng: np.random.Generator,
    studies: int,
    prompts: int,
    comparisons: int | None,
    rate: float,
    panel: Panel,
    spread: float = 1.2,
) -> Check:
    held: dict[str, list[npt.NDArray[np.bool_]]] = {"ours": [], "naive": [], "t": []}
    reach = []
    for some in batches(studies, prompts * (comparisons or MOST) * panel.judges * len(panel.orders)):
        study = drawn(rng, some, prompts, comparisons, rate, spread, panel)
        ours = interval(study.means)
        reach.append((ours[1] - ours[0]) / 2)
        for name, (low, high) in (("ours", ours), ("naive", naive(study.answers)), ("t", students(study.means))):
            held[name].append((low <= rate + 1e-12) & (high >= rate - 1e-12))
    share = {name: 100 * float(np.concatenate(each).mean()) for name, each in held.items()}
    asked = f"{comparisons or '1-10'} comparison{'s' * (comparisons != 1)}"
    beside = f"% (naive {share['naive']:.1f}, t {share['t']:.1f}; +-{100 * np.concatenate(reach).mean():.1f} points)"
    return _check(f"win rate {rate:.0%}, {prompts} prompts, {asked}, {panel.name}", share["ours"], beside, studies)


def _sure(cell: Callable[[np.random.Generator, int], Check], rng: np.random.Generator, studies: int) -> Check:
    """A cell, and where it falls outside the goal, what ten times as many studies say of it."""
    found = cell(rng, studies)
    if found.ok:
        return found
    more = cell(np.random.default_rng(20260707), AGAIN * studies)
    beside = f"{found.unit.rstrip(')')}; {AGAIN * studies:,} studies: {more.value})"
    return Check(found.check, found.value, beside, found.goal, more.ok)


def _check(name: str, share: float, beside: str, studies: int, *, most: float = GOAL[1]) -> Check:
    """A check against 93-97%; fewer than 2,000 studies have three standard errors more."""
    luck = 100 * 3 * float(np.sqrt(0.05 * 0.95 / studies)) if studies < 2000 else 0.0
    goal = f"{GOAL[0] - luck:.0f} to {most + luck:.0f}"
    return Check(name, round(share, 1), beside, goal, bool(GOAL[0] - luck <= round(share, 1) <= most + luck))


def differences(studies: int) -> Iterator[Check]:
    """Coverage of the paired difference of two policies' win rates over one baseline, on the same prompts."""
    rng = np.random.default_rng(20260702)
    for rates in ((0.5, 0.5), (0.7, 0.6), (0.95, 0.9), (0.95, 0.95)):
        for prompts in (30, 100, 500):
            yield _sure(partial(_difference_cell, prompts=prompts, rates=rates), rng, studies)


def _difference_cell(rng: np.random.Generator, studies: int, prompts: int, rates: tuple[float, float]) -> Check:
    held, panel, true = [], PANELS[1], rates[0] - rates[1]
    for some in batches(studies, prompts * 4):
        shared = rng.normal(0, 1.2, (some, prompts, 1))
        gaps = [_means(rng, centre(rate, 1.2, panel) + shared, panel) for rate in rates]
        low, high = interval((gaps[0] - gaps[1] + 1) / 2)
        held.append((2 * low - 1 <= true + 1e-12) & (2 * high - 1 >= true - 1e-12))
    share = 100 * float(np.concatenate(held).mean())
    return _check(f"difference {rates[0]:.0%} - {rates[1]:.0%}, {prompts} prompts", share, "%", studies)


def bootstrap(studies: int) -> Iterator[Check]:
    """The BCa bootstrap over prompts beside our interval, where it has it hard: figures to be read."""
    rng = np.random.default_rng(20260706)
    for rate in (0.5, 0.95):
        for comparisons, panel in ((1, PANELS[0]), (1, PANELS[1]), (None, PANELS[2])):
            study = drawn(rng, studies, 30, comparisons, rate, 1.2, panel)
            low, high = interval(study.means)
            ours = 100 * float(((low <= rate) & (high >= rate)).mean())
            # Without an interval (all prompts say the same) the bootstrap holds nothing.
            ends = [bootstrap_interval(one, resamples=1000) or (1.0, 0.0) for one in study.means]
            theirs = 100 * float(np.mean([one <= rate <= other for one, other in ends]))
            asked = f"{comparisons or '1-10'} comparison{'s' * (comparisons != 1)}"
            yield Check(
                f"BCa bootstrap, {rate:.0%}, 30 prompts, {asked}, {panel.name}",
                round(theirs, 1),
                f"% (ours {ours:.1f})",
            )


def _means(rng: np.random.Generator, favour: Floats, panel: Panel) -> Floats:
    """What a panel of one says of prompts [studies, prompts, 1] in the mean over its orders."""
    chance = expit(favour + np.asarray(panel.orders))
    tied = panel.ties * np.minimum(chance, 1 - chance)
    draw = rng.random(chance.shape)
    return np.where(draw < chance - tied, 1.0, np.where(draw < chance + tied, 0.5, 0.0)).mean(axis=-1)


def corrected(studies: int) -> Iterator[Check]:
    """Coverage and width of the judge's rate corrected by people, beside the people's and the judge's own."""
    rng, panel = np.random.default_rng(20260703), PANELS[0]
    ratios: dict[float, list[float]] = {}
    for rate in (0.5, 0.8, 0.95):
        for prompts, labelled in ((300, 30), (300, 60), (1000, 100), (1000, 200)):
            for known in (0.0, 0.6, 0.9):
                people = _means(rng, centre(rate, 1.2, panel) + rng.normal(0, 1.2, (studies, prompts, 1)), panel)
                coin = (rng.random(people.shape) < 0.7).astype(np.float64)
                judge = np.where(rng.random(people.shape) < known, people, coin)
                cell, ratio = _corrected_cell(judge, people, labelled, rate, known)
                yield cell
                if known:
                    ratios.setdefault(known, []).append(ratio)
    for known, each in ratios.items():
        name = f"interval beside the people's alone, judge knows {known:.0%}: mean and worst"
        yield Check(name, f"{np.mean(each):.2f}, {max(each):.2f}", "", "worst at most 1.02", max(each) <= 1.02)


def _corrected_cell(judge: Floats, people: Floats, labelled: int, rate: float, known: float) -> tuple[Check, float]:
    """The check of a cell, and the width beside the people's own. Where few labels lose, the interval is the people's
    own, whose coverage goes in steps, up to 98% with sixty prompts: so there is no upper goal."""
    estimate, low, high, _ = corrected_interval(judge[:, :labelled], judge[:, labelled:], people[:, :labelled])
    own, alone = interval(people[:, :labelled]), interval(judge)
    held = [100 * float(((ends[0] <= rate) & (ends[1] >= rate)).mean()) for ends in ((low, high), own, alone)]
    widths = [50 * float((ends[1] - ends[0]).mean()) for ends in ((low, high), own)]
    bias = 100 * float(estimate.mean() - rate)
    name = f"corrected {rate:.0%}, {labelled} of {judge.shape[1]} labelled, judge knows {known:.0%}"
    beside = f"% (judge alone {held[2]:.1f}; +-{widths[0]:.1f}, people alone +-{widths[1]:.1f}; bias {bias:+.2f})"
    return _check(name, held[0], beside, len(people), most=100), widths[0] / widths[1]


def planned(studies: int) -> Iterator[Check]:
    """Whether studies of the planned size come out as planned: 80% power or a little more, as rates go in steps."""
    rng = np.random.default_rng(20260704)
    for rate, each in ((0.6, 1), (0.6, 5), (0.7, 1), (0.85, 2)):
        spread = assumed_spread(rate, ties=0.0, alike=0.4)
        (plan,) = for_power(spread, 0.8, [each])
        found = 100 * _share(studies, plan.prompts, each, lambda low, high: low > 0.5, rng, rate)
        yield Check(
            f"power at {rate:.0%}, {plan.prompts} prompts, {each} a prompt",
            round(found, 1),
            "%",
            "79 to 86",
            79 <= found <= 86 or studies < 2000,
        )
        (plan,) = for_width(spread, 0.05, [each])
        found = 100 * _share(studies, plan.prompts, each, lambda low, high: (high - low) / 2, rng, rate)
        yield Check(
            f"half-width at {rate:.0%}, {plan.prompts} prompts, {each} a prompt",
            round(found, 2),
            "points",
            "4.8 to 5.2",
            4.8 <= found <= 5.2,
        )


def _share(
    studies: int,
    prompts: int | None,
    comparisons: int,
    of: Callable[[Floats, Floats], npt.NDArray[np.generic]],
    rng: np.random.Generator,
    rate: float,
) -> float:
    """The mean of something of intervals, where prompts' rates are beta-distributed with a correlation of 0.4."""
    found, size = 1 / 0.4 - 1, prompts or 0
    own = rng.beta(rate * found, (1 - rate) * found, (studies, size))
    return float(np.mean(np.asarray(of(*interval(rng.binomial(comparisons, own) / comparisons)), dtype=np.float64)))


PARTS = {
    "rates": rates,
    "apart": apart,
    "bootstrap": bootstrap,
    "differences": differences,
    "corrected": corrected,
    "planned": planned,
}


def main(arguments: list[str]) -> int:
    """Run the parts that are wanted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--studies", type=int, default=2000, help="for each cell")
    parser.add_argument("--only", choices=PARTS, action="append")
    asked = parser.parse_args(arguments)
    checks = []
    for name in asked.only or PARTS:
        for check in PARTS[name](asked.studies):
            checks.append(check)
            print(check.check, check.value, check.unit, file=sys.stderr, flush=True)  # the whole takes minutes
    return report("winrate-coverage", checks)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
