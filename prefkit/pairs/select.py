"""Which two responses to a prompt make a pair.

Gives   Candidates: indices of the chosen and the rejected response of each pair, sorted by prompt

Prompts are worked through in blocks of about a million candidate pairs, so that memory grows with the pairs that are
found and not with all there could be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prefkit.pairs.aggregate import gap
from prefkit.pairs.collect import Floats, Ints
from prefkit.pairs.settings import Strategy
from prefkit.rubric import DECIMALS

BLOCK = 1 << 20
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Candidates:
    """Pairs by index: ``chosen`` and ``rejected`` [n] are indices of responses.

    Of the pairs in ``tied`` [n] neither side is preferred: which is called chosen says nothing.
    """

    chosen: Ints
    rejected: Ints
    tied: Bools

    @classmethod
    def preferred(cls, chosen: Ints, rejected: Ints) -> Candidates:
        """Pairs of which none is a tie."""
        return cls(chosen, rejected, np.zeros(len(chosen), dtype=bool))

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, rows: Ints | Bools) -> Candidates:
        return Candidates(self.chosen[rows], self.rejected[rows], self.tied[rows])

    def sorted_by(self, prompt: Ints) -> Candidates:
        """The pairs in the order of their prompts, given the prompt of each response."""
        return self[np.lexsort((self.rejected, self.chosen, prompt[self.chosen]))]


def together(parts: Sequence[Candidates]) -> Candidates:
    """Pairs one behind the other."""
    return Candidates(
        np.concatenate([part.chosen for part in parts] or [np.empty(0, np.int64)]),
        np.concatenate([part.rejected for part in parts] or [np.empty(0, np.int64)]),
        np.concatenate([part.tied for part in parts] or [np.empty(0, np.bool_)]),
    )


def select(
    overall: Floats, prompt: Ints, strategy: Strategy, min_gap: float, top: int = 1, *, ties: bool = False
) -> Candidates:
    """The pairs that a strategy finds among rated responses.

    Args:
        overall: [n_responses] overall scores; NaN is not rated.
        prompt: [n_responses] index of each response's prompt.
        strategy: ``gap``, ``all``, ``best-worst`` or ``top-k``.
        min_gap: the smallest gap of a pair; 0 means any gap above 0, as equal scores prefer neither.
        top: for ``top-k``, how many of the best.
        ties: whether two responses of equal scores are a pair too, a tie.

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
        tied = (gaps == 0) & ties
        keep = ((gaps > 0) & (gaps >= round(min_gap, DECIMALS))) | tied
        parts.append(Candidates(pairs.chosen[keep], pairs.rejected[keep], tied[keep]))
    return together(parts).sorted_by(prompt)


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
    return Candidates.preferred(np.where(a_better, a, b), np.where(a_better, b, a))


def _best_worst(overall: Floats, rows: Ints) -> Candidates:
    at = np.arange(len(rows))
    return Candidates.preferred(rows[at, overall[rows].argmax(axis=1)], rows[at, overall[rows].argmin(axis=1)])


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
