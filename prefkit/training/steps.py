"""Which groups make an optimiser step, and how they are packed into rows and spread over processes.

Reads   the size of each group in tokens, its number of pairs
Gives   for each step of each epoch the rows of a process, as positions of groups

A step holds about as many pairs as asked for, in whole groups, so that a prompt is read once. What a step holds depends
on the seed and the epoch alone, not on the number of processes. Its groups are dealt so that every process has about
the same number of tokens, and each has equally many rows: what is missing is filled with a row that has no weight,
since processes that share gradients must run the same number of times. Any step can be made without those before it;
that is how training goes on in the middle.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prefkit.training.packing import plan_rows

Ints = npt.NDArray[np.int64]

EVEN = 1.05
"""How many times the mean the fullest process may read; a batch is called too small for the processes above it."""
LOOKED_AT = 32
"""Steps of which it is looked at."""
READ_TOGETHER = 1024
"""Groups for each process that are dealt at a time where all are read once."""
FILLER_TOKENS = 2
"""Tokens of a row that only fills a gap, at least: ``packing.shortest`` makes it."""


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
        self.pairs_per_step, self.row_tokens, self.seed = pairs_per_step, row_tokens, seed
        self.process, self.processes = process, processes
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
        return self._dealt(epoch, step)[self.process]

    def unevenness(self) -> float:
        """How many times the mean of all processes the fullest one reads, in tokens: 1 where they all read equally
        much. Processes wait for each other at every step, so a training takes so many times as long. Of the first steps
        of the first epoch."""
        if self.processes == 1:
            return 1.0
        fullest = together = 0
        for step in range(min(LOOKED_AT, len(self))):
            read = [sum(map(self._read, rows)) for rows in self._dealt(0, step)]
            fullest, together = fullest + max(read), together + int(self.tokens[self.groups(0, step)].sum())
        return fullest * self.processes / together

    def even_batch(self) -> int | None:
        """The smallest doubling of the pairs a step with which processes read about equally much; None for none."""
        asked = self.pairs_per_step
        while asked < int(self.pairs.sum()):
            asked *= 2
            larger = Steps(
                self.tokens, self.pairs, pairs_per_step=asked, row_tokens=self.row_tokens, seed=self.seed,
                process=self.process, processes=self.processes,
            )  # fmt: skip
            if larger.unevenness() < EVEN:
                return asked
        return None

    def _dealt(self, epoch: int, step: int) -> list[list[RowPlan]]:
        return spread(self.groups(epoch, step).tolist(), self.tokens, self.row_tokens, self.processes)

    def _read(self, row: RowPlan) -> int:
        return FILLER_TOKENS if row.filler else int(self.tokens[list(row.groups)].sum())

    def epoch(self, epoch: int) -> Iterator[list[RowPlan]]:
        """The rows of this process, step by step."""
        return (self.rows(epoch, step) for step in range(len(self)))


def in_order(
    tokens: Sequence[int] | Ints, row_tokens: int, process: int = 0, processes: int = 1
) -> Iterator[list[RowPlan]]:
    """The rows of a process for reading every group once, as in an evaluation: so many at a time that memory and time
    do not grow with the square of the groups."""
    sizes = np.asarray(tokens, np.int64)
    for first in range(0, len(sizes), READ_TOGETHER * processes):
        some = range(first, min(len(sizes), first + READ_TOGETHER * processes))
        yield spread(list(some), sizes, row_tokens, processes)[process]


def _cuts(pairs: Ints, steps: int) -> Ints:
    """Where to cut groups in a row so that each piece has about equally many pairs and none is empty, [steps - 1]."""
    behind = np.cumsum(pairs)
    at = np.searchsorted(behind - pairs / 2, behind[-1] * np.arange(1, steps) / steps)
    room = np.arange(1, steps)
    at = np.maximum.accumulate(at - room) + room  # each piece at least one group further than the last
    return np.minimum(np.maximum(at, room), len(pairs) - steps + room)


def spread(groups: Sequence[int], tokens: Ints, row_tokens: int, processes: int) -> list[list[RowPlan]]:
    """Deal groups to processes, and pack those of each into rows.

    Every process has equally many rows, and about as many tokens as the others in all of them together and in the rows
    that run at the same time. Rows of several groups are parted while a process would have fewer rows; what is missing
    then is filled.

    Args:
        groups: at least one.
        tokens: of all groups, [groups].
        row_tokens: what a row may hold.
        processes: among which.

    Returns:
        The rows of each process, largest first.
    """
    sizes = {place: int(tokens[place]) for place in groups}
    shares = _even_shares(sizes, processes) if processes > 1 else [list(groups)]
    packed = [_packed(share, sizes, row_tokens) for share in shares]
    number = max(map(len, packed))
    if processes > 1:
        packed = [_in_rows(rows, sizes, row_tokens, number) for rows in packed]
    smallest = min(groups, key=lambda place: (sizes[place], place))
    dealt = []
    for rows in packed:
        rows = [sorted(row, key=lambda place: (-sizes[place], place)) for row in rows]
        rows.sort(key=lambda row: (-_sum(row, sizes), row))
        plans = [RowPlan(tuple(row)) for row in rows]
        dealt.append(plans + [RowPlan((smallest,), filler=True)] * (number - len(plans)))
    return dealt


def _even_shares(sizes: dict[int, int], number: int) -> list[list[int]]:
    """Groups in so many parts of about equally many tokens: the largest first, each to the part that has least; then
    groups of the fullest part are exchanged for smaller ones of others while that makes it smaller."""
    parts: list[list[int]] = [[] for _ in range(number)]
    least = [(0, part) for part in range(number)]
    for place in sorted(sizes, key=lambda place: (-sizes[place], place)):
        held, part = least[0]
        parts[part].append(place)
        heapq.heapreplace(least, (held + sizes[place], part))
    held_by = np.array([_sum(part, sizes) for part in parts])
    for _ in range(len(sizes)):
        fullest = int(held_by.argmax())
        if held_by[fullest] * number <= held_by.sum() * ENOUGH or not _exchanged(fullest, parts, held_by, sizes):
            break
    return parts


ENOUGH = 1.005
"""How many times the mean a part may have for no more exchanges to be looked for."""


def _exchanged(fullest: int, parts: list[list[int]], held_by: Ints, sizes: dict[int, int]) -> bool:
    """Exchange a group of the fullest part for a smaller one of another, or for none: the one exchange after which the
    larger of the two is smallest. Whether there is any; the others are tried from the emptiest on."""
    mine = np.array([sizes[place] for place in parts[fullest]])
    for other in np.argsort(held_by, kind="stable").tolist()[:EXCHANGED_WITH]:
        gap = int(held_by[fullest] - held_by[other])
        if gap <= 0:
            return False
        theirs = np.array([0, *(sizes[place] for place in parts[other])])
        less = mine[:, None] - theirs[None, :]
        after = np.where((less > 0) & (less < gap), np.abs(2 * less - gap), gap)
        give, take = np.unravel_index(int(after.argmin()), after.shape)
        if after[give, take] < gap:
            given, taken = parts[fullest].pop(int(give)), parts[other].pop(int(take) - 1) if take else None
            parts[other].append(given)
            if taken is not None:
                parts[fullest].append(taken)
            moved = int(less[give, take])
            held_by[fullest] -= moved
            held_by[other] += moved
            return True
    return False


EXCHANGED_WITH = 8
"""Parts with which an exchange is looked for, at most."""


def _packed(places: Sequence[int], sizes: dict[int, int], row_tokens: int) -> list[list[int]]:
    return [[places[at] for at in row] for row in plan_rows([sizes[place] for place in places], row_tokens)]


def _in_rows(rows: list[list[int]], sizes: dict[int, int], row_tokens: int, number: int) -> list[list[int]]:
    """The groups of some rows in ``number`` rows, or as many as there are groups: of equal size if they fit so, else
    the largest ones are halved."""
    places = [place for row in rows for place in row]
    if not places:
        return []
    even = _even_shares({place: sizes[place] for place in places}, min(number, len(places)))
    if all(len(row) == 1 or _sum(row, sizes) <= row_tokens for row in even):
        return even
    while len(rows) < number and any(len(row) > 1 for row in rows):
        largest = max((row for row in rows if len(row) > 1), key=lambda row: _sum(row, sizes))
        rows.remove(largest)
        rows += _even_shares({place: sizes[place] for place in largest}, 2)
    return rows


def _sum(places: Sequence[int], sizes: dict[int, int]) -> int:
    return sum(sizes[place] for place in places)
