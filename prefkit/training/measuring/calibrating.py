"""Whether the probabilities of a reward model hold, and the temperature that mends them.

Reads   margins [pairs] in log-odds, the probability with which the chosen side is preferred [pairs]
Gives   Sums of Brier score, log-loss and calibration error; bins for a reliability diagram; a temperature

Under Bradley-Terry the chosen side wins with probability sigmoid(margin / temperature). All of this is of decided
pairs. The calibration error is that of Guo et al. 2017 (arXiv:1706.04599): the confidence in the side put first, from
0.5 to 1, in ten bins of equal width, against how often that side is right. It is never below zero, so that few pairs
raise it by luck alone: ``expected_by_luck`` says how much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from prefkit.resampling import Floats, Ints, Sums, wilson
from prefkit.training.measuring.accuracy import Counting
from prefkit.training.measuring.table import Bools

BINS = 10
LEAST, MOST = 1e-3, 1e3
"""Between which a temperature is looked for."""


@dataclass(frozen=True)
class Bin:
    """Pairs whose confidence lies from ``start`` to ``end``: its mean, how often the side put first is right, with
    Wilson's interval as if pairs were independent, and how many they are."""

    start: float
    end: float
    confidence: float
    right: float
    low: float
    high: float
    n: int


def probability(margin: Floats, temperature: float | Floats = 1.0) -> Floats:
    """That the chosen side wins: sigmoid(margin / temperature)."""
    from scipy.special import expit

    result: Floats = expit(np.asarray(margin, dtype=np.float64) / temperature)
    return result


def log_losses(margin: Floats, preferred: Floats, temperature: float | Floats = 1.0) -> Floats:
    """The cross-entropy of each pair in nats: ln 2 is a coin toss."""
    z = margin / temperature
    result: Floats = preferred * np.logaddexp(0, -z) + (1 - preferred) * np.logaddexp(0, z)
    return result


def brier_scores(margin: Floats, preferred: Floats, temperature: float | Floats = 1.0) -> Floats:
    """The squared error of each pair's probability; where people are split, its mean over them: a coin toss has 0.25.

    Source: Brier 1950, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2.
    """
    p = probability(margin, temperature)
    result: Floats = preferred * (1 - p) ** 2 + (1 - preferred) * p**2
    return result


def outcomes(margin: Floats, tie: Mapping[str, float]) -> tuple[Floats, Floats, Floats]:
    """The probabilities that the chosen side wins, that the two tie, that the rejected side wins; each [pairs].

    Args:
        margin: [pairs].
        tie: theta of Rao and Kupper (``rao-kupper``) or nu of Davidson (``davidson``); empty for none.

    Source: Rao & Kupper 1967, doi:10.1080/01621459.1967.10482901; Davidson 1970, doi:10.1080/01621459.1970.10481082.
    """
    if "rao-kupper" in tie:
        log_theta = np.log(tie["rao-kupper"])
        won, lost = probability(margin - log_theta), probability(-margin - log_theta)
        return won, 1 - won - lost, lost
    if "davidson" in tie:
        half = np.exp(-np.abs(margin) / 2)  # of the stronger side's weight, so that nothing overflows
        stronger, weaker, equal = np.ones(len(margin)), half**2, tie["davidson"] * half
        total = stronger + weaker + equal
        won = np.where(margin >= 0, stronger, weaker) / total
        return won, equal / total, 1 - won - equal / total
    won = probability(margin)
    return won, np.zeros(len(margin)), 1 - won


def log_odds(margin: Floats, tie: Mapping[str, float]) -> Floats:
    """The log-odds [pairs] that the chosen side wins where the two do not tie."""
    if "rao-kupper" in tie:
        log_theta = np.log(tie["rao-kupper"])
        result: Floats = np.logaddexp(0, log_theta + margin) - np.logaddexp(0, log_theta - margin)
        return result
    return margin


def calibration_sums(counting: Counting, margin: Floats, temperature: float | Floats = 1.0) -> dict[str, Sums]:
    """The sums of ``brier``, ``log_loss`` and ``ece``."""
    table, kept = counting.table, counting.table.decided
    confidence, right, place = _binned(margin[kept], table.preferred[kept], of_pairs(temperature, kept))
    cells, columns = counting.cluster[kept] * BINS + place, counting.size * BINS
    parts = [np.bincount(cells, values, columns) for values in (np.ones(len(cells)), confidence, right)]
    bins = np.concatenate([part.reshape(counting.size, BINS) for part in parts], axis=1)
    return {
        "brier": counting.mean(brier_scores(margin, table.preferred, temperature), kept),
        "log_loss": counting.mean(log_losses(margin, table.preferred, temperature), kept),
        "ece": Sums(bins, _ece_of_sums, int(kept.sum())),
    }


def reliability(margin: Floats, preferred: Floats, temperature: float | Floats = 1.0) -> list[Bin]:
    """The bins of a reliability diagram that hold a pair; of decided pairs."""
    confidence, right, place = _binned(margin, preferred, temperature)
    found = []
    for number in np.unique(place).tolist():
        here = place == number
        share, n = float(right[here].mean()), int(here.sum())
        start, end = (0.5 + 0.5 * edge / BINS for edge in (number, number + 1))
        found.append(Bin(start, end, float(confidence[here].mean()), share, *wilson(share, n), n))
    return found


def ece(margin: Floats, preferred: Floats, temperature: float | Floats = 1.0) -> float:
    """The expected calibration error of decided pairs: mean |confidence - share right| over bins, by their pairs."""
    confidence, right, place = _binned(margin, preferred, temperature)
    apart = np.bincount(place, confidence - right, BINS)
    return float(np.abs(apart).sum() / len(place))


def expected_by_luck(margin: Floats, temperature: float | Floats = 1.0, *, draws: int = 200, seed: int = 0) -> float:
    """The mean calibration error of labels drawn from the probabilities themselves: what a perfect model would show."""
    confidence, _, place = _binned(margin, np.ones(len(margin)), temperature)
    rng, total = np.random.default_rng(seed), 0.0
    for _ in range(draws):
        right = rng.random(len(confidence)) < confidence
        total += float(np.abs(np.bincount(place, confidence - right, BINS)).sum()) / len(place)
    return total / draws


def fit_temperature(margin: Floats, preferred: Floats) -> float:
    """The temperature under which decided pairs are most likely.

    Pairs that are all put right are most likely at zero, and those that say nothing at infinity; then the end of the
    range is given.

    Args:
        margin: [pairs], in log-odds at temperature 1.
        preferred: [pairs].

    Returns:
        Between ``LEAST`` and ``MOST``; margins are to be divided by it.

    Source: Platt scaling without an intercept, as the two orders of a pair are alike; Guo et al. 2017.
    """
    from scipy.optimize import minimize_scalar

    margin, preferred = np.asarray(margin, dtype=np.float64), np.asarray(preferred, dtype=np.float64)
    if not len(margin):
        raise ValueError("no pairs to fit a temperature on")
    scale = float(np.abs(margin).mean())
    if not scale:
        return 1.0
    ends = np.log(LEAST), np.log(MOST)
    found = minimize_scalar(
        lambda log: float(log_losses(margin, preferred, float(np.exp(log))).mean()),
        bounds=ends,
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def cross_fitted(margin: Floats, preferred: Floats, prompt: Ints, *, folds: int = 5, seed: int = 0) -> Floats:
    """A temperature for each pair [pairs], fitted on the pairs of other prompts."""
    numbers, place = np.unique(prompt, return_inverse=True)
    fold = (np.random.default_rng(seed).permutation(len(numbers)) % folds)[place]
    result = np.ones(len(margin))
    for one in range(min(folds, len(numbers))):
        others = fold != one
        if others.any():
            result[~others] = fit_temperature(margin[others], preferred[others])
    return result


def of_pairs(temperature: float | Floats, kept: Bools) -> float | Floats:
    """The temperature of some of the pairs."""
    return temperature[kept] if isinstance(temperature, np.ndarray) else temperature


def _binned(margin: Floats, preferred: Floats, temperature: float | Floats) -> tuple[Floats, Floats, Ints]:
    """Confidence in the side put first, how often that is right, the bin; a margin of zero has both sides half."""
    p = probability(margin, temperature)
    confidence = np.maximum(p, 1 - p)
    side = (np.sign(margin) + 1) / 2
    right = side * preferred + (1 - side) * (1 - preferred)
    place = np.clip(np.ceil((confidence - 0.5) * 2 * BINS).astype(np.int64) - 1, 0, BINS - 1)
    return confidence, right, place


def _ece_of_sums(totals: Floats) -> Floats:
    n, confidence, right = (totals[..., part * BINS : (part + 1) * BINS] for part in range(3))
    number = n.sum(axis=-1)
    nan = np.full(number.shape, np.nan)
    result: Floats = np.divide(np.abs(confidence - right).sum(axis=-1), number, out=nan, where=number > 0)
    return result
