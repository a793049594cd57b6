"""Logistic regressions of who was preferred, and what a rate read off them is worth.

Reads   Rows and a Design
Gives   the rate with the answers alike, its interval, the weights; prompts' difficulties
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from prefkit.evaluation.intervals import interval, mostly_ties
from prefkit.evaluation.length_rows import MIN_PROMPTS, PRIOR_SD, Design, Floats, Ints, Rows, rows_of, spread_of
from prefkit.evaluation.outcomes import Outcomes
from prefkit.resampling import TAIL

DIFFICULTY_SD = 1.5
"""Of prompts' difficulties before anything is seen, in log-odds: that of AlpacaEval's own."""
_STRENGTHS = np.logspace(-4, 4, 10)  # scikit-learn's C
_FOLDS = 5


@dataclass(frozen=True)
class Coefficient:
    """A weight in log-odds, with its standard error."""

    name: str
    value: float
    error: float


@dataclass(frozen=True)
class Estimate:
    """The rate with the answers alike, as `LengthControlled` says it, and the weights [k] of the features."""

    value: float | None
    low: float | None
    high: float | None
    error: float | None
    weights: Floats | None = None
    coefficients: tuple[Coefficient, ...] = ()


def estimate_of(rows: Rows, design: Design) -> tuple[Estimate, list[str]]:
    """The rate with the answers alike and its interval, and what there is to say where there is none."""
    size, raw = rows.prompts(), rows.raw()
    if size < MIN_PROMPTS:
        few = f"{size} prompts are too few to control for length: it takes {MIN_PROMPTS}."
        return Estimate(None, None, None, None), [few]
    means = rows.prompt_means()
    wide = interval(means)
    if np.ptp(means) < 1e-12:
        said = {0.0: "was lost", 0.5: "was a tie", 1.0: "was won"}.get(raw, "went the same way")
        return Estimate(raw, float(wide[0]), float(wide[1]), None), [
            f"Every comparison {said}, so length could change nothing that was seen."
        ]
    weights = fit_logistic(design.seen, rows.preferred, rows.weight, design.prior)
    pulls, rate_pulls, value = _left_out(rows, design, weights)
    clusters = len(pulls)
    shrink = (clusters - 1) / clusters
    errors = np.sqrt(shrink * (pulls**2).sum(axis=0))
    error = math.sqrt(shrink * float((rate_pulls**2).sum()))
    low, high = _interval(value, error, size - design.seen.shape[1])
    if mostly_ties(means):  # too few to see a spread
        low, high = min(low, float(wide[0])), max(high, float(wide[1]))
    found = zip(design.names, weights.tolist(), errors.tolist(), strict=True)
    return Estimate(value, low, high, error, weights, tuple(Coefficient(*one) for one in found)), []


def _left_out(rows: Rows, design: Design, weights: Floats) -> tuple[Floats, Floats, float]:
    """By how much each prompt moves the weights [prompts, k] and the rate [prompts]: one Newton step without it.

    Source: the one-step jackknife, Pregibon 1981, doi:10.1214/aos/1176345513; over clusters it is CR3, Bell &
    McCaffrey 2002.
    """
    names, cluster = np.unique(rows.prompt, return_inverse=True)
    size, width = len(names), design.seen.shape[1]
    chance = sigmoid(design.seen @ weights)
    score, info = np.zeros((size, width)), np.zeros((size, width, width))
    np.add.at(score, cluster, design.seen * (rows.weight * (rows.preferred - chance))[:, None])
    spread = design.seen * (rows.weight * chance * (1 - chance))[:, None]
    np.add.at(info, cluster, spread[:, :, None] * design.seen[:, None, :])
    without = info.sum(axis=0) + np.diag(design.prior) - info
    pulls = np.linalg.solve(without, score[:, :, None])[:, :, 0]
    alike = sigmoid(design.alike @ weights)
    shares = rows.shares()
    total = float(shares.sum())
    value = float(alike @ shares / total)
    gradient = (shares * alike * (1 - alike)) @ design.alike / total
    mine = np.bincount(cluster, shares, size)
    own = np.bincount(cluster, shares * (alike - value), size) / np.maximum(total - mine, 1.0)
    return pulls, own + pulls @ gradient, value


def _interval(value: float, error: float, freedom: int) -> tuple[float, float]:
    """The 95% interval, symmetric in log-odds."""
    from scipy.special import stdtrit

    reach = float(stdtrit(freedom, 1 - TAIL)) * error / (value * (1 - value))
    middle = math.log(value / (1 - value))
    low, high = sigmoid(np.array([middle - reach, middle + reach])).tolist()
    return low, high


def predictions(rows: Rows, design: Design, weights: Floats) -> Floats:
    """The chance with the answers alike, of each of the policy's rows."""
    return sigmoid(design.alike[rows.mine] @ weights)


def fit_logistic(x: Floats, target: Floats, weight: Floats, prior: Floats) -> Floats:
    """Weights [k] of the logistic regression of soft labels [n], with normal priors of these precisions [k].

    Steps are halved while the likelihood falls.
    """
    weights = np.zeros(x.shape[1])

    def loss(at: Floats) -> float:
        line = x @ at
        return float(weight @ (np.logaddexp(0.0, line) - target * line) + 0.5 * prior @ at**2)

    here = loss(weights)
    for _ in range(100):
        chance = sigmoid(x @ weights)
        slope = x.T @ (weight * (target - chance)) - prior * weights
        bend = (x * (weight * chance * (1 - chance))[:, None]).T @ x + np.diag(prior + 1e-12)
        step = np.linalg.solve(bend, slope)
        there = loss(weights + step)
        while there > here + 1e-12 * abs(here) and np.abs(step).max() > 1e-12:
            step = step / 2
            there = loss(weights + step)
        weights, here = weights + step, there
        if np.abs(step).max() < 1e-9:
            break
    return weights


def l1_weights(rows: Rows, design: Design) -> Floats:
    """The weights [k] as AlpacaEval fits them: L1 of the strength with the least log-loss over five folds of rows."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold

    size = len(rows.preferred)
    twice = np.concatenate([design.seen, design.seen])
    labels = np.repeat([1, 0], size)
    weight = np.concatenate([rows.preferred, 1 - rows.preferred]) * np.tile(rows.weight, 2)
    group = np.tile(np.arange(size), 2)

    def fitted(strength: float, some: Ints) -> Floats:
        model = LogisticRegression(
            C=strength, l1_ratio=1.0, solver="liblinear", fit_intercept=False, random_state=123, tol=1e-4
        )
        model.fit(twice[some], labels[some], sample_weight=weight[some])
        return np.asarray(model.coef_[0], dtype=np.float64)

    gains = np.zeros(len(_STRENGTHS))
    for train, test in GroupKFold(_FOLDS).split(twice, labels, group):
        some = test[test < size]
        for place, strength in enumerate(_STRENGTHS):
            line = design.seen[some] @ fitted(strength, train)
            loss = rows.weight[some] * (np.logaddexp(0.0, line) - rows.preferred[some] * line)
            gains[place] -= float(loss.mean())
    return fitted(float(_STRENGTHS[np.argmax(gains)]), np.arange(2 * size))


def estimated_difficulties(outcomes: Outcomes, policies: Sequence[str], baseline: str) -> Floats:
    """How readily these policies beat the baseline on each prompt, in log-odds. [prompts]

    One logistic regression of all their outcomes: a level for each policy, one slope of the length difference as in
    ``glm``, and a difficulty for each prompt, which all share and which has a normal prior of mean 0. A prompt on which
    none of them was compared has 0. The policy to be measured must not be among them: a difficulty that its own
    outcomes were used for would explain them.

    Raises:
        PrefkitError: there is no such policy.

    Source: the instruction difficulty of AlpacaEval (its issues 284 and 346), which is fitted over all of its
    leaderboard's models, the measured one among them.
    """
    rows = rows_of(outcomes, policies[0], baseline, policies[1:])
    shorter = rows.lengths[:, 1] - rows.lengths[:, 0]
    x = np.zeros((len(shorter), len(policies) + 1))
    for model in range(len(policies)):
        mine = rows.model == model
        x[mine, model] = 1.0
        x[mine, -1] = np.tanh(shorter[mine] / (spread_of(shorter[mine]) or 1.0))
    size = len(outcomes.prompts)
    prior = np.append(np.full(len(policies), 1e-6), PRIOR_SD**-2)
    weights, gamma = np.zeros(x.shape[1]), np.zeros(size)
    for _ in range(100):
        chance = sigmoid(x @ weights + gamma[rows.prompt])
        info, miss = chance * (1 - chance), rows.preferred - chance
        own = np.bincount(rows.prompt, info, size) + DIFFICULTY_SD**-2
        slope_own = np.bincount(rows.prompt, miss, size) - gamma * DIFFICULTY_SD**-2
        cross = np.zeros((size, x.shape[1]))
        np.add.at(cross, rows.prompt, x * info[:, None])
        bend = (x * info[:, None]).T @ x + np.diag(prior) - cross.T @ (cross / own[:, None])
        slope = x.T @ miss - prior * weights - cross.T @ (slope_own / own)
        step = np.clip(np.linalg.solve(bend, slope), -2, 2)
        step_own = np.clip((slope_own - cross @ step) / own, -2, 2)
        weights, gamma = weights + step, gamma + step_own
        if max(np.abs(step).max(), np.abs(step_own).max()) < 1e-8:
            break
    return gamma


def sigmoid(x: Floats) -> Floats:
    """The chance of log-odds."""
    chance: Floats = np.exp(-np.logaddexp(0.0, -x))
    return chance
