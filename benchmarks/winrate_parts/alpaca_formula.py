"""AlpacaEval's length-controlled rate and its standard error for many studies at once.

Its fit (L1 of the strength with the least log-loss over five folds) takes scikit-learn most of a second a study, which
is too long for thousands. Here the studies of a cell are fitted together, by proximal Newton steps with coordinate
descent inside. ``length_coverage`` compares the first of them with what scikit-learn makes of them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import expit

Floats = npt.NDArray[np.float64]
STRENGTHS = np.logspace(-4, 4, 10)  # scikit-learn's C
FOLDS = 5
NEAR = 1e-6
AT_ONCE = 2_000_000
"""Predictions held at once."""


def rates(seen: Floats, alike: Floats, preferred: Floats) -> tuple[Floats, Floats]:
    """The rate with the answers alike and its standard error by AlpacaEval's formula, each [studies].

    Args:
        seen, alike: features [studies, n, k] as they are, and with the answers alike.
        preferred: [studies, n] how far the policy is preferred.
    """
    some = max(1, AT_ONCE // (preferred.shape[1] * FOLDS))
    parts = [
        _rates(*(one[start : start + some] for one in (seen, alike, preferred))) for start in range(0, len(seen), some)
    ]
    return np.concatenate([one for one, _ in parts]), np.concatenate([one for _, one in parts])


def _rates(seen: Floats, alike: Floats, preferred: Floats) -> tuple[Floats, Floats]:
    chance = expit((alike @ weights(seen, preferred)[:, :, None])[..., 0])
    return chance.mean(axis=1), chance.std(axis=1, ddof=1) / np.sqrt(chance.shape[1])


def weights(seen: Floats, preferred: Floats) -> Floats:
    """The weights [studies, k] of the strength with the least log-loss over the folds."""
    from sklearn.model_selection import GroupKFold

    studies, size, width = seen.shape
    trained = np.ones((size, FOLDS))
    for fold, (_, test) in enumerate(GroupKFold(FOLDS).split(seen[0], groups=np.arange(size))):
        trained[test, fold] = 0.0
    gains = np.zeros((len(STRENGTHS), studies))
    found = np.zeros((studies, width, FOLDS))
    for place, strength in enumerate(STRENGTHS):
        found = lasso(seen, preferred, trained, 1 / strength, found)
        line = seen @ found
        loss = np.logaddexp(0.0, line) - preferred[:, :, None] * line
        gains[place] = -((1 - trained) * loss).sum(axis=1).mean(axis=1)
    best, whole = gains.argmax(axis=0), np.zeros((studies, width))
    for place, strength in enumerate(STRENGTHS):
        mine = best == place
        if mine.any():
            start = np.zeros((int(mine.sum()), width, 1))
            whole[mine] = lasso(seen[mine], preferred[mine], np.ones((size, 1)), 1 / strength, start)[:, :, 0]
    return whole


def lasso(seen: Floats, preferred: Floats, weight: Floats, penalty: float, start: Floats) -> Floats:
    """Weights [studies, k, fits] with the least weighted log-loss plus penalty times their absolute sum.

    Args:
        seen: [studies, n, k].
        preferred: [studies, n].
        weight: [n, fits].
        penalty: on the sum of absolute weights.
        start: [studies, k, fits].
    """
    width = seen.shape[2]
    turned = seen.transpose(0, 2, 1)
    products = (turned[:, :, None, :] * turned[:, None, :, :]).reshape(len(seen), width * width, -1)

    def loss(at: Floats) -> Floats:
        line = seen @ at
        fit = (weight * (np.logaddexp(0.0, line) - preferred[:, :, None] * line)).sum(axis=1)
        return np.asarray(fit + penalty * np.abs(at).sum(axis=1))

    found, here = start, loss(start)
    for _ in range(60):
        chance = expit(seen @ found)
        slope = turned @ (weight * (chance - preferred[:, :, None]))
        bend = (products @ (weight * chance * (1 - chance))).reshape(len(seen), width, width, -1)
        step = _descended(bend, slope, found, penalty) - found
        there = loss(found + step)
        for _ in range(30):
            worse = there > here + 1e-12 * np.abs(here)
            if not worse.any():
                break
            step = np.where(worse[:, None, :], step / 2, step)
            there = loss(found + step)
        found, here = found + step, there
        if np.abs(step).max() < NEAR:
            break
    return found


def _descended(bend: Floats, slope: Floats, at: Floats, penalty: float) -> Floats:
    """The least of the quadratic about ``at`` plus the penalty, by coordinates: [studies, k, fits]."""
    new = at.copy()
    for _ in range(300):
        before = new.copy()
        for one in range(new.shape[1]):
            own = bend[:, one, one] + 1e-9
            pull = slope[:, one] + (bend[:, one] * (new - at)).sum(axis=1)
            goal = new[:, one] - pull / own
            new[:, one] = np.sign(goal) * np.maximum(np.abs(goal) - penalty / own, 0.0)
        if np.abs(new - before).max() < NEAR / 10:
            break
    return new
