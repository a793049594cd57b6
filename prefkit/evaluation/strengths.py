"""Strengths of policies out of counts of who was preferred to whom: Bradley-Terry, with ties, covariates and a prior.

Reads   tallies: for each cell (two policies, and what of them differs as shown) how often one won, tied, lost
Gives   strengths in log-odds, for many draws of the tallies at once; where a draw says nothing of somebody

The likelihood is concave in everything that is fitted, so that Newton's method with halved steps finds the one maximum;
a thousand draws that begin at the fit to all the data need three steps each.

Chosen: the prior is a number of comparisons of every policy with an opponent of average strength, half of them won. So
the pseudo-counts belong to one coherent board, whoever was compared with whom, and an undefeated policy has a finite
strength. It never joins a board that falls apart.

The models are those of the reward model's losses (``training/paired_comparison.py``), here with their derivatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Ties = Literal["half", "rao-kupper", "davidson"]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

BOUNDS = {"rao-kupper": (1e-4, 8.0), "davidson": (-9.0, 9.0)}
"""Where a tie parameter may lie: ln theta of Rao and Kupper, ln nu of Davidson."""
STEPS = 60
FINE, ROUGH = 1e-5, 1e-3
"""A Newton step below this, in log-odds, is the last, as the next would be of the order of its square: of the fit to
the data, and of fits to draws."""
_ROOM = 4_000_000  # floats of Hessian matrices at once


@dataclass(frozen=True)
class Cells:
    """Who can be compared with whom: cell c is of the policies ``one`` < ``other``.

    one, other: [cells] codes of policies. extra: [cells, terms] what else speaks for ``one``, such as 1 where it was
    shown first, -1 where ``other`` was; each term has a weight, with a normal prior of precision ``held`` [terms].
    Tallies are [draws, 3, cells]: ``one`` won, tie, ``other`` won.
    """

    policies: int
    one: Ints
    other: Ints
    extra: Floats
    held: Floats
    ties: Ties
    prior: float

    @property
    def untied(self) -> int:
        """How many parameters there are but that of ties: strengths, weights."""
        return self.policies + self.extra.shape[1]

    @property
    def size(self) -> int:
        """How many parameters there are: strengths, weights, ties."""
        return self.untied + (self.ties != "half")


@dataclass(frozen=True)
class Terms:
    """Log-likelihood [draws], gradient [draws, size], negative Hessian [draws, size, size]."""

    value: Floats
    gradient: Floats
    curvature: Floats


@dataclass(frozen=True)
class Slopes:
    """Of each cell [draws, cells]: log-likelihood, its slopes by the difference d of two strengths and by the tie
    parameter a, and the second derivatives with their signs turned."""

    value: Floats
    d: Floats
    a: Floats
    dd: Floats
    da: Floats
    aa: Floats


def differences(cells: Cells, parameters: Floats) -> Floats:
    """[draws, cells]: how much stronger ``one`` is as shown, in log-odds."""
    found: Floats = parameters[:, cells.one] - parameters[:, cells.other]
    if cells.extra.shape[1]:
        found = found + parameters[:, cells.policies : cells.untied] @ cells.extra.T
    return found


def slopes(ties: Ties, tallies: Floats, d: Floats, a: Floats) -> Slopes:
    """The likelihood of each cell and its derivatives.

    Args:
        ties: the model; ``half`` counts a tie as half a win each way.
        tallies: [draws, 3, cells].
        d: [draws, cells] differences.
        a: [draws, 1] the tie parameter: ln theta, ln nu, or nothing.

    Source: Rao & Kupper 1967, doi:10.1080/01621459.1967.10482901; Davidson 1970, doi:10.1080/01621459.1970.10481082.
    """
    won, tied, lost = tallies[:, 0], tallies[:, 1], tallies[:, 2]
    none = np.zeros((1, 1))
    if ties == "half":
        won, total = won + tied / 2, won + tied + lost
        small = np.exp(-np.abs(d))
        logistic = np.where(d >= 0, 1.0, small) / (1 + small)
        value = won * d - total * (np.maximum(d, 0.0) + np.log1p(small))
        return Slopes(value, won - total * logistic, none, total * (logistic * (1 - logistic)), none, none)
    if ties == "rao-kupper":
        left, right = _logistic(a - d), _logistic(d + a)  # what is missing to certainty
        ahead, behind = won + tied, lost + tied
        value = -ahead * np.logaddexp(0.0, a - d) - behind * np.logaddexp(0.0, d + a) + tied * np.log(np.expm1(2 * a))
        bent_left, bent_right = ahead * left * (1 - left), behind * right * (1 - right)
        return Slopes(
            value,
            ahead * left - behind * right,
            -ahead * left - behind * right - 2 * tied / np.expm1(-2 * a),
            bent_left + bent_right,
            bent_right - bent_left,
            bent_left + bent_right + tied / np.sinh(a) ** 2,
        )
    total = won + tied + lost
    top = np.logaddexp(np.logaddexp(d / 2, -d / 2), a)
    better, even, worse = np.exp(d / 2 - top), np.exp(a - top), np.exp(-d / 2 - top)
    return Slopes(
        (won - lost) * d / 2 + tied * a - total * top,
        (won - lost - total * (better - worse)) / 2,
        tied - total * even,
        total * (better + worse - (better - worse) ** 2) / 4,
        -total * even * (better - worse) / 2,
        total * even * (1 - even),
    )


def _logistic(x: Floats) -> Floats:
    from scipy.special import expit

    found: Floats = expit(x)
    return found


class Board:
    """The cells of a board, ready to be fitted to many tallies."""

    def __init__(self, cells: Cells) -> None:
        from scipy.sparse import csr_array, hstack

        self.cells = cells
        count = len(cells.one)
        rows, ones = np.arange(count), np.ones(count)
        shape = (count, cells.policies)
        place = (np.concatenate([rows, rows]), np.concatenate([cells.one, cells.other]))
        sides = csr_array((np.concatenate([ones, -ones]), place), shape=shape)
        self.sides = csr_array(hstack([sides, csr_array(cells.extra)])) if cells.extra.shape[1] else sides
        """[cells, size - tie parameter]: what the difference of each cell is made of."""
        self._signed = csr_array(sides.T)
        self._unsigned = csr_array(abs(sides).T)
        pairs, of_pair = np.unique(cells.one * cells.policies + cells.other, return_inverse=True)
        self._one, self._other = pairs // cells.policies, pairs % cells.policies
        self._by_pair = csr_array((ones, (of_pair, rows)), shape=(len(pairs), count)) if len(pairs) < count else None

    def terms(self, tallies: Floats, parameters: Floats) -> Terms:
        """Log-likelihood with the prior, and its derivatives.

        Args:
            tallies: [draws, 3, cells].
            parameters: [draws, size], or [1, size] for the same ones in all draws.
        """
        cells, k = self.cells, self.cells.policies
        strength = parameters[:, :k]
        tied = cells.ties != "half"
        at = slopes(cells.ties, tallies, differences(cells, parameters), parameters[:, -1:])
        value, gradient = at.value.sum(axis=1), np.empty((len(tallies), cells.size))
        curvature = np.zeros((len(tallies), cells.size, cells.size))
        gradient[:, :k] = (self._signed @ at.d.T).T
        between = (self._by_pair @ at.dd.T).T if self._by_pair is not None else at.dd
        curvature[:, self._one, self._other] = -between
        curvature[:, self._other, self._one] = -between
        diagonal = np.arange(k)
        curvature[:, diagonal, diagonal] = (self._unsigned @ at.dd.T).T
        for term, column in enumerate(cells.extra.T, k):
            bent = at.dd * column
            weight, held = parameters[:, term], cells.held[term - k]
            value = value - held * weight**2 / 2
            gradient[:, term] = at.d @ column - held * weight
            curvature[:, :k, term] = curvature[:, term, :k] = (self._signed @ bent.T).T
            curvature[:, term, k : cells.untied] = bent @ cells.extra
            curvature[:, term, term] += held
        if tied:
            gradient[:, -1] = at.a.sum(axis=1)
            curvature[:, :k, -1] = curvature[:, -1, :k] = (self._signed @ at.da.T).T
            curvature[:, k:-1, -1] = curvature[:, -1, k:-1] = at.da @ cells.extra
            curvature[:, -1, -1] = at.aa.sum(axis=1)
        if cells.prior:
            average = _logistic(strength)
            value = value + cells.prior * (strength / 2 - np.logaddexp(0.0, strength)).sum(axis=1)
            gradient[:, :k] -= cells.prior * (average - 0.5)
            curvature[:, diagonal, diagonal] += cells.prior * average * (1 - average)
        else:  # only differences have a meaning: the mean strength is held where it is
            curvature[:, :k, :k] += curvature[:, diagonal, diagonal].mean(axis=1)[:, None, None] / k
        return Terms(value, gradient, curvature)

    def start(self, tallies: Floats) -> Floats:
        """[size] where a fit begins: all are equal, and ties as frequent as they are."""
        found = np.zeros(self.cells.size)
        share = float(np.clip(tallies[:, 1].sum() / max(tallies.sum(), 1e-12), 1e-4, 0.999))
        if self.cells.ties == "rao-kupper":
            found[-1] = 2 * np.arctanh(share)
        elif self.cells.ties == "davidson":
            found[-1] = np.log(2 * share / (1 - share))
        return found

    def fit(self, tallies: Floats, start: Floats, fine: float = FINE) -> Floats:
        """The most likely parameters [draws, size] of each tally; NaN where Newton's method came to no end.

        Args:
            tallies: [draws, 3, cells].
            start: [size].
            fine: below which a step is the last.
        """
        chunk = max(1, _ROOM // max(self.cells.size**2, 3 * len(self.cells.one)))
        parts = [self._newton(tallies[at : at + chunk], start, fine) for at in range(0, len(tallies), chunk)]
        return np.concatenate(parts)

    def _newton(self, tallies: Floats, start: Floats, fine: float) -> Floats:
        done = np.full((len(tallies), self.cells.size), np.nan)
        active = np.arange(len(tallies))
        at, best = start[None], np.full(len(tallies), -np.inf)
        step = np.zeros_like(at)
        for _ in range(STEPS):
            trial = self._bounded(at + step)
            terms = self.terms(tallies[active] if len(active) < len(tallies) else tallies, trial)
            better = terms.value >= best - 1e-9 * np.abs(terms.value) - 1e-12
            at = np.where(better[:, None], trial, at)
            best = np.where(better, terms.value, best)
            step = np.where(better[:, None], self._steps(terms, trial), step / 2)
            last = (np.abs(step).max(axis=1) < fine) | ~np.isfinite(step).all(axis=1)
            at = np.broadcast_to(at, step.shape)
            done[active[last]] = self._bounded(at[last] + step[last])
            active, at, step, best = active[~last], at[~last], step[~last], best[~last]
            if not len(active):
                break
        return done

    def _steps(self, terms: Terms, at: Floats) -> Floats:
        self._held_at_bounds(terms, at)
        try:
            step = np.asarray(np.linalg.solve(terms.curvature, terms.gradient[..., None])[..., 0], dtype=np.float64)
        except np.linalg.LinAlgError:  # one of the draws says nothing of the first slot
            step = np.asarray((np.linalg.pinv(terms.curvature) @ terms.gradient[..., None])[..., 0], dtype=np.float64)
        longest = np.abs(step).max(axis=1, keepdims=True)
        return step * np.minimum(1.0, 3.0 / np.maximum(longest, 1e-300))

    def _held_at_bounds(self, terms: Terms, at: Floats) -> None:
        """A tie parameter that would leave its bounds stays there, and the others move without it."""
        if self.cells.ties == "half":
            return
        low, high = BOUNDS[self.cells.ties]
        pull = terms.gradient[:, -1]
        stuck = ((at[:, -1] <= low) & (pull < 0)) | ((at[:, -1] >= high) & (pull > 0))
        terms.gradient[stuck, -1] = 0.0
        terms.curvature[stuck, -1, :] = terms.curvature[stuck, :, -1] = 0.0
        terms.curvature[stuck, -1, -1] = 1.0

    def _bounded(self, parameters: Floats) -> Floats:
        if self.cells.ties != "half":
            low, high = BOUNDS[self.cells.ties]
            parameters[:, -1] = np.clip(parameters[:, -1], low, high)
        return parameters

    def beaten(self, tallies: Floats) -> Bools:
        """[draws, policies, policies]: whether the first was ever beaten or tied by the second."""
        found = np.zeros((len(tallies), self.cells.policies, self.cells.policies), dtype=bool)
        won, lost = tallies[:, 0] + tallies[:, 1], tallies[:, 2] + tallies[:, 1]
        if self._by_pair is not None:
            won, lost = (self._by_pair @ won.T).T, (self._by_pair @ lost.T).T
        found[:, self._other, self._one] = won > 0
        found[:, self._one, self._other] = lost > 0
        return found

    def whole(self, tallies: Floats) -> tuple[Bools, Bools]:
        """Of each draw [draws]: whether the board hangs together, and whether each group of policies has both won and
        lost against the others (otherwise the likelihood has no finite maximum without the prior)."""
        chunk = max(1, _ROOM // self.cells.policies**2)
        together, both = [], []
        for at in range(0, len(tallies), chunk):
            beaten = self.beaten(tallies[at : at + chunk]).astype(np.float32)
            backwards = beaten.transpose(0, 2, 1)
            together.append(_reached(np.maximum(beaten, backwards)))
            both.append(_reached(beaten) & _reached(backwards))
        return np.concatenate(together), np.concatenate(both)


def _reached(arrows: npt.NDArray[np.float32]) -> Bools:
    """Whether [draws] all nodes are reached from the first, along arrows [draws, nodes, nodes]."""
    seen = np.zeros(arrows.shape[:2], dtype=np.float32)
    seen[:, 0] = 1
    while True:
        more = np.minimum(1, seen + (seen[:, None, :] @ arrows)[:, 0])
        if (more > 0).sum() == (seen > 0).sum():
            return np.asarray((seen > 0).all(axis=1), dtype=bool)
        seen = (more > 0).astype(np.float32)
