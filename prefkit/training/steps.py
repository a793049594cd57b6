"""Which groups make an optimiser step, and how they are packed into rows and spread over processes.

Reads   the size of each group in tokens, its number of pairs
Gives   for each step of each epoch the rows of a process, as positions of groups

A step holds about as many pairs as asked for, in whole groups, so that a prompt is read once. What a step holds depends
on the seed and the epoch alone, not on the number of processes, and each process has equally many rows: what is
missing is filled with a row that has no weight, since processes that share gradients must run the same number of
times. Any step can be made without those before it; that is how training goes on in the middle.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prefkit.training.packing import plan_rows

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RowPlan:
    """A row: which groups are in it, and whether it only fills a gap and has no weight."""

    groups: tuple[int, ...]
    filler: bool = False


class Steps:
    """The optimiser steps of a training, for one process.

    Args:
        tokens: of each group when it is packed, [groups].
        pairs: of each group, [groups].
        pairs_per_step: about how many pairs a step has, over all processes.
        row_tokens: what a row may hold; a group that is larger is a row of its own.
        seed: of the order.
        process, processes: which one this is, of how many.

    Raises:
        ValueError: there are no groups, or a number is below 1.
    """

    def __init__(
        self,
        tokens: Sequence[int] | Ints,
        pairs: Sequence[int] | Ints,
        *,
        pairs_per_step: int,
        row_tokens: int,
        seed: int = 0,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.tokens, self.pairs = np.asarray(tokens, np.int64), np.asarray(pairs, np.int64)
        if self.tokens.shape != self.pairs.shape or self.tokens.ndim != 1 or not self.tokens.size:
            raise ValueError(
                f"tokens and pairs must be aligned and not empty; got {self.tokens.shape}, {self.pairs.shape}"
            )
        if pairs_per_step < 1 or row_tokens < 1 or not 0 <= process < processes:
            raise ValueError(
                f"cannot make steps of {pairs_per_step} pairs, rows of {row_tokens} for {process}/{processes}"
            )
        self.row_tokens, self.seed, self.process, self.processes = row_tokens, seed, process, processes
        self._number = min(len(self.pairs), max(1, math.ceil(int(self.pairs.sum()) / pairs_per_step)))
        self._cut: tuple[int, list[Ints]] = (-1, [])

    def __len__(self) -> int:
        """Steps in an epoch."""
        return self._number

    def groups(self, epoch: int, step: int) -> Ints:
        """The groups of a step, over all processes, in the order of the epoch."""
        if self._cut[0] != epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self.pairs))
            self._cut = epoch, np.split(order, _cuts(self.pairs[order], self._number))
        return self._cut[1][step]

    def rows(self, epoch: int, step: int) -> list[RowPlan]:
        """The rows of this process in a step, largest first."""
        members = self.groups(epoch, step)
        rows = [
            [int(members[place]) for place in row] for row in plan_rows(self.tokens[members].tolist(), self.row_tokens)
        ]
        return spread(rows, self.tokens, self.processes)[self.process]

    def epoch(self, epoch: int) -> Iterator[list[RowPlan]]:
        """The rows of this process, step by step."""
        return (self.rows(epoch, step) for step in range(len(self)))


def in_order(tokens: Sequence[int] | Ints, row_tokens: int, process: int = 0, processes: int = 1) -> list[RowPlan]:
    """The rows of a process for reading every group once, as in an evaluation."""
    sizes = np.asarray(tokens, np.int64)
    return spread(plan_rows(sizes.tolist(), row_tokens), sizes, processes)[process]


def _cuts(pairs: Ints, steps: int) -> Ints:
    """Where to cut groups in a row so that each piece has about equally many pairs and none is empty, [steps - 1]."""
    behind = np.cumsum(pairs)
    at = np.searchsorted(behind - pairs / 2, behind[-1] * np.arange(1, steps) / steps)
    room = np.arange(1, steps)
    at = np.maximum.accumulate(at - room) + room  # each piece at least one group further than the last
    return np.minimum(np.maximum(at, room), len(pairs) - steps + room)


def spread(rows: list[list[int]], tokens: Ints, processes: int) -> list[list[RowPlan]]:
    """Deal rows to processes so that each has equally many, of about the same size at the same time.

    Rows of several groups are halved while processes would go without; what is missing then is filled.
    """
    wanted = math.ceil(len(rows) / processes) * processes
    rows = [sorted(row, key=lambda place: (-tokens[place], place)) for row in rows]
    while len(rows) < wanted and any(len(row) > 1 for row in rows):
        largest = max((row for row in rows if len(row) > 1), key=lambda row: int(tokens[row].sum()))
        rows.remove(largest)
        rows += _halves(largest, tokens)
    rows.sort(key=lambda row: (-int(tokens[row].sum()), row))
    dealt = [RowPlan(tuple(row)) for row in rows]
    smallest = min((place for row in rows for place in row), key=lambda place: (int(tokens[place]), place))
    dealt += [RowPlan((smallest,), filler=True)] * (wanted - len(dealt))
    return [dealt[process::processes] for process in range(processes)]


def _halves(row: list[int], tokens: Ints) -> list[list[int]]:
    halves: list[list[int]] = [[], []]
    for place in row:
        halves[int(tokens[halves[0]].sum() > tokens[halves[1]].sum())].append(place)
    return halves
