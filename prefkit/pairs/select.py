"""Which two responses to a prompt make a pair.

Gives   Candidates: indices of the chosen and the rejected response of each pair, sorted by prompt

Prompts are worked through in blocks of about a million candidate pairs, so that memory grows with the pairs that are
found and not with all there could be.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from prefkit.pairs.aggregate import gap
from prefkit.pairs.collect import Floats, Ints
from prefkit.pairs.settings import Strategy
from prefkit.rubric import DECIMALS

BLOCK = 1 << 20


@dataclass(frozen=True)
class Candidates:
    """Pairs by index: ``chosen`` and ``rejected`` [n] are indices of responses."""

    chosen: Ints
    rejected: Ints

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, rows: Ints | np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Candidates:
        return Candidates(self.chosen[rows], self.rejected[rows])


def select(overall: Floats, prompt: Ints, strategy: Strategy, min_gap: float, top: int = 1) -> Candidates:
    """The pairs that a strategy finds among rated responses.

    Args:
        overall: [n_responses] overall scores; NaN is not rated.
        prompt: [n_responses] index of each response's prompt.
        strategy: ``gap``, ``all``, ``best-worst`` or ``top-k``.
        min_gap: the smallest gap of a pair; 0 means any gap above 0, as equal scores prefer neither.
        top: for ``top-k``, how many of the best.

    Returns:
        Pairs whose chosen side has the higher score, sorted by prompt. Of equal responses the earlier one is taken for
        the best or the worst.
    """
    parts: list[Candidates] = []
    rounded = np.round(overall, DECIMALS)
    for rows in _blocks(overall, prompt):
        pairs = _best_worst(rounded, rows) if strategy == "best-worst" else _every_two(overall, rows)
        if strategy == "top-k":
            pairs = _between_top_and_rest(rounded, rows, pairs, top)
        gaps = gap(overall[pairs.chosen], overall[pairs.rejected])
        parts.append(pairs[(gaps > 0) & (gaps >= round(min_gap, DECIMALS))])
    found = Candidates(
        np.concatenate([part.chosen for part in parts] or [np.empty(0, np.int64)]),
        np.concatenate([part.rejected for part in parts] or [np.empty(0, np.int64)]),
    )
    return found[np.lexsort((found.rejected, found.chosen, prompt[found.chosen]))]


def _blocks(overall: Floats, prompt: Ints) -> Iterator[Ints]:
    """Matrices [prompts, k] of responses, for prompts with k rated responses, of about BLOCK candidate pairs each."""
    rated = np.flatnonzero(~np.isnan(overall))
    if not len(rated):
        return
    rated = rated[np.argsort(prompt[rated], kind="stable")]
    starts = np.flatnonzero(np.diff(prompt[rated], prepend=-1))
    sizes = np.diff(starts, append=len(rated))
    for size in np.unique(sizes[sizes > 1]):
        those = starts[sizes == size]
        step = max(1, BLOCK // int(size * (size - 1) // 2))
        for at in range(0, len(those), step):
            yield rated[those[at : at + step, None] + np.arange(size)]


def _every_two(overall: Floats, rows: Ints) -> Candidates:
    left, right = np.triu_indices(rows.shape[1], k=1)
    a, b = rows[:, left].ravel(), rows[:, right].ravel()
    a_better = overall[a] >= overall[b]
    return Candidates(np.where(a_better, a, b), np.where(a_better, b, a))


def _best_worst(overall: Floats, rows: Ints) -> Candidates:
    at = np.arange(len(rows))
    return Candidates(rows[at, overall[rows].argmax(axis=1)], rows[at, overall[rows].argmin(axis=1)])


def _between_top_and_rest(overall: Floats, rows: Ints, pairs: Candidates, top: int) -> Candidates:
    """The pairs with the chosen side among the ``top`` best of its prompt and the rejected side not."""
    order = np.take_along_axis(rows, np.argsort(-overall[rows], axis=1, kind="stable"), axis=1)
    is_top = np.zeros(len(overall), dtype=bool)
    is_top[order[:, :top].ravel()] = True
    return pairs[is_top[pairs.chosen] & ~is_top[pairs.rejected]]


def strongest(pairs: Candidates, gaps: Floats, prompt: Ints, most: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which pairs are among the ``most`` of the largest gap of their prompt; the earlier one where gaps are equal."""
    order = np.lexsort((np.arange(len(pairs)), -gaps, prompt[pairs.chosen]))
    of = prompt[pairs.chosen][order]
    starts = np.flatnonzero(np.diff(of, prepend=-1))
    rank = np.arange(len(of)) - np.repeat(starts, np.diff(starts, append=len(of)))
    keep = np.zeros(len(pairs), dtype=bool)
    keep[order[rank < most]] = True
    return keep
