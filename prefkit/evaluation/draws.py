"""Boards drawn again, prompt by prompt, and how far each prompt pulls a fit.

Reads   Tallied, and the fit to all of it
Gives   influences of clusters of prompts; fits to draws of them, or normal draws with the sandwich covariance; Rounds

A draw in which the board falls apart has no fit and is NaN, as is one whose fit comes to no end; both are counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prefkit.evaluation.strengths import ROUGH, Floats, differences, slopes
from prefkit.evaluation.tallies import Tallied

Intervals = Literal["bootstrap", "sandwich"]
_CHUNK = 250  # draws at once
_ROOM = 12_000_000  # floats of their tallies


@dataclass(frozen=True)
class Rounds:
    """The draws: how many were used; left out as the board fell apart, or as no fit came to an end; and those among the
    used in which somebody won or lost everything, so that the prior alone kept the ratings finite."""

    used: int
    fell_apart: int
    unsolved: int
    one_sided: int


def influences(tallied: Tallied, fitted: Floats) -> Floats:
    """[clusters, size]: how far each cluster of prompts pulls each parameter; the mean strength is held."""
    from scipy.sparse import diags_array

    board, cells = tallied.board, tallied.board.cells
    d, a = differences(cells, fitted[None]), fitted[None, -1:]
    count = len(cells.one)
    by_d, by_a = np.empty((3, count)), np.zeros((3, count))
    for kind in range(3):
        unit = np.zeros((1, 3, count))
        unit[:, kind] = 1.0
        at = slopes(cells.ties, unit, d, a)
        by_d[kind], by_a[kind] = at.d[0], np.broadcast_to(at.a, (1, count))[0]
    pushed = (tallied.tallies @ diags_array(by_d.ravel())).tocsc()
    by_cell = pushed[:, :count] + pushed[:, count : 2 * count] + pushed[:, 2 * count :]
    scores = np.asarray((by_cell @ board.sides).todense())
    if cells.ties != "half":
        scores = np.column_stack([scores, tallied.tallies @ by_a.ravel()])
    curvature = board.terms(tallied.total(), fitted[None]).curvature[0]
    pulls: Floats = np.linalg.solve(curvature, scores.T).T
    return centred(pulls, cells.policies)


def centred(parameters: Floats, policies: int) -> Floats:
    """The same with a mean strength of 0."""
    found = parameters.copy()
    found[..., :policies] -= found[..., :policies].mean(axis=-1, keepdims=True)
    return found


def draw(
    tallied: Tallied,
    fitted: Floats,
    pulls: Floats,
    *,
    intervals: Intervals,
    rounds: int,
    seed: int,
    progress: Callable[[int], None] | None = None,
) -> tuple[Floats, Rounds]:
    """Parameters [rounds, size] with the mean strength 0, NaN for draws that are left out; none with one prompt."""
    board, size = tallied.board, tallied.tallies.shape[0]
    rng = np.random.default_rng(seed)
    if tallied.taking_part < 2:
        return np.empty((0, board.cells.size)), Rounds(0, 0, 0, 0)
    if intervals == "sandwich":
        spread = pulls * math.sqrt(tallied.taking_part / (tallied.taking_part - 1))
        drawn = centred(fitted, board.cells.policies) + rng.standard_normal((rounds, size)) @ spread
        return drawn, Rounds(rounds, 0, 0, 0)
    across = tallied.tallies.T.tocsr().astype(np.float32)  # counts below 2**24 are exact
    chunk = max(1, min(_CHUNK, _ROOM // across.shape[0]))
    drawn = np.full((rounds, board.cells.size), np.nan)
    apart = one_sided = 0
    for start in range(0, rounds, chunk):
        rows = min(chunk, rounds - start)
        picks = rng.integers(0, size, (rows, size)) + np.arange(rows)[:, None] * size
        times = np.bincount(picks.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float32)
        tallies = np.ascontiguousarray((across @ np.ascontiguousarray(times.T)).T, np.float64).reshape(rows, 3, -1)
        together, both_ways = board.whole(tallies)
        usable = np.flatnonzero(together if board.cells.prior else both_ways)
        if len(usable):
            drawn[start + usable] = board.fit(tallies[usable], fitted, ROUGH)
        apart += rows - len(usable)
        one_sided += int((together & ~both_ways).sum()) if board.cells.prior else 0
        if progress:
            progress(rows)
    drawn[~np.isfinite(drawn).all(axis=1)] = np.nan
    used = int(np.isfinite(drawn[:, 0]).sum())
    return centred(drawn, board.cells.policies), Rounds(used, apart, rounds - apart - used, one_sided)
