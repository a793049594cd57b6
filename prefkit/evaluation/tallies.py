"""The tallies of a board: Outcomes, counted by group of prompts and by who was compared with whom; boards that say
nothing are refused.

Reads   Outcomes, and for a control what of the two answers differs in each row
Gives   Tallied: a Board and its tallies; Groups: who never won, who never lost

Rows of the same two policies in the same order are one cell. With a control each row is a cell of its own, as no two
answers differ alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefkit.errors import PrefkitError
from prefkit.evaluation.board_styles import Features
from prefkit.evaluation.length_rows import PRIOR_SD
from prefkit.evaluation.outcomes import Outcomes
from prefkit.evaluation.strengths import Board, Bools, Cells, Floats, Ints, Ties
from prefkit.resampling import Clusters

PRIOR = "Ask about more pairs of policies, or give a prior of 0.5 comparisons."
SLOT = "first slot"


@dataclass(frozen=True)
class Tallied:
    """``tallies`` [clusters of prompts, 3 * cells]: a sparse matrix. ``names`` are of the policies compared, ``terms``
    of what is fitted beside their strengths; ``shown`` are their codes among all of the outcomes; ``tied`` is the share
    of rows that are ties."""

    board: Board
    tallies: Any
    names: tuple[str, ...]
    terms: tuple[str, ...]
    taking_part: int
    prompts: int
    shown: Ints
    tied: float
    where: str

    def total(self) -> Floats:
        """[1, 3, cells]: all of it."""
        return np.asarray(self.tallies.sum(axis=0), dtype=np.float64).reshape(1, 3, -1)


@dataclass(frozen=True)
class Groups:
    """Of each policy: its ``group`` of policies that won and lost against each other, and whether that group never won,
    or never lost, against the others. One group: everybody won and lost."""

    group: Ints
    never_won: Bools
    never_lost: Bools

    @property
    def several(self) -> bool:
        """Whether there is more than one."""
        return bool(self.group.max() > 0)


def where(outcomes: Outcomes) -> str:
    """What an error names."""
    return outcomes.source or "outcomes"


def tally(
    outcomes: Outcomes, *, ties: Ties, first_slot: bool, prior: float, seed: int, features: Features | None
) -> Tallied:
    """Count outcomes; where no row is a tie, or every one, ties are no outcome of their own.

    Raises:
        PrefkitError: there is no row; nothing was shown in an order where the first slot is to be fitted; the policies
            decide the order, or a feature.
    """
    from scipy.sparse import csr_array

    if not len(outcomes):
        remedy = "Judge some; `prefkit status RUN` shows what there is."
        raise PrefkitError(where(outcomes), "0 comparisons of two policies", "comparisons to rank by", remedy)
    shown = present(np.concatenate([outcomes.first, outcomes.second]))[0]
    first, second = np.searchsorted(shown, outcomes.first), np.searchsorted(shown, outcomes.second)
    turned = first > second
    one, other = np.where(turned, second, first), np.where(turned, first, second)
    share = np.where(turned, 1 - outcomes.preferred, outcomes.preferred)
    tied = share == 0.5
    extra = _extra(outcomes, turned, first_slot, features)
    cell = np.arange(len(outcomes))
    if features is None:
        slot: Ints = extra[:, 0].astype(np.int64) if first_slot else np.zeros(len(outcomes), np.int64)
        codes, cell = present((one * len(shown) + other) * 3 + slot + 1)
        pair = codes // 3
        one, other = pair // len(shown), pair % len(shown)
        extra = (codes % 3 - 1).astype(np.float64)[:, None][:, : int(first_slot)]
    terms = (SLOT,) * first_slot + (features.names if features else ())
    cells = Cells(
        policies=len(shown),
        one=one,
        other=other,
        extra=extra,
        held=np.array([0.0] * first_slot + [PRIOR_SD**-2] * (len(terms) - first_slot)),
        ties=ties if tied.any() and not tied.all() else "half",
        prior=prior,
    )
    clusters = Clusters(np.arange(max(len(outcomes.prompts), int(outcomes.prompt.max()) + 1)), seed)
    cluster = clusters(outcomes.prompt)
    kinds = [np.where(tied, 0.0, share), tied.astype(np.float64), np.where(tied, 0.0, 1 - share)]
    columns = np.concatenate([cell + kind * len(cells.one) for kind in range(3)])
    values, rows = np.concatenate(kinds), np.tile(cluster, 3)
    filled = values != 0
    tallies = csr_array((values[filled], (rows[filled], columns[filled])), shape=(clusters.size, 3 * len(cells.one)))
    return Tallied(
        board=Board(cells),
        tallies=tallies,
        names=tuple(outcomes.policies[code] for code in shown),
        terms=terms,
        taking_part=len(present(cluster)[0]),
        prompts=len(present(outcomes.prompt)[0]),
        shown=shown,
        tied=float(tied.mean()),
        where=where(outcomes),
    )


def present(codes: Ints) -> tuple[Ints, Ints]:
    """The codes that occur, and the place of each [n] among them: `np.unique` for codes that are small."""
    there = np.bincount(codes) > 0
    return np.flatnonzero(there), (np.cumsum(there) - 1)[codes]


def _extra(outcomes: Outcomes, turned: Bools, first_slot: bool, features: Features | None) -> Floats:
    """[n, terms] of each row, turned."""
    columns = [_slots(outcomes, turned)[:, None]] if first_slot else []
    if features is not None:
        columns.append(np.where(turned[:, None], -features.values, features.values))
    return np.concatenate(columns, axis=1) if columns else np.empty((len(outcomes), 0))


def _slots(outcomes: Outcomes, turned: Bools) -> Floats:
    ordered = outcomes.ordered
    if outcomes.shown_first is None or not ordered.any():
        remedy = "Leave out the first slot, or ask for comparisons: ratings are of one response at a time."
        raise PrefkitError(where(outcomes), "nothing that was shown in an order", "comparisons as shown", remedy)
    slot: Floats = np.where(ordered, np.where(outcomes.shown_first ^ turned, 1.0, -1.0), 0.0)
    return slot


def refuse_undecidable(tallied: Tallied) -> None:
    """Refuse a term that the policies of a comparison decide: nothing tells it from their strengths.

    Raises:
        PrefkitError: there is one.
    """
    cells = tallied.board.cells
    for count, term in enumerate(tallied.terms, 1):
        sides = tallied.board.sides[:, : cells.policies + count]
        square = np.asarray((sides.T @ sides).todense(), dtype=np.float64)
        square[: cells.policies, : cells.policies] += 1.0  # the mean strength is held
        scale = np.sqrt(np.diag(square))
        if np.linalg.eigvalsh(square / scale / scale[:, None])[0] > 1e-9:
            continue
        if term == SLOT:
            remedy = "Leave out the first slot, or have each two policies shown in both orders."
            found, expected = "an order that the two policies always decide", "policies shown now first, now second"
        else:
            remedy = "Leave out the control."
            found = f"differences in {term} that the two policies, or another control, always decide"
            expected = "answers of a policy that differ"
        raise PrefkitError(tallied.where, found, expected, remedy)


def groups(tallied: Tallied) -> Groups:
    """Who never won, and who never lost.

    Raises:
        PrefkitError: the board falls apart, or somebody won or lost everything and there is no prior.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    names = tallied.names
    beaten = tallied.board.beaten(tallied.total())[0]
    graph = csr_array(beaten)
    parts, part = connected_components(graph, directed=False)
    if parts > 1:
        listed = "; ".join(", ".join(few(names, part == one)) for one in range(min(parts, 8)))
        more = f"; and {parts - 8} more" if parts > 8 else ""
        remedy = "Compare a policy of each part with one of another, or rank the parts one by one."
        found = f"{parts} parts that were never compared with each other: {listed}{more}"
        raise PrefkitError(tallied.where, found, "a board that hangs together", remedy)
    count, group = connected_components(graph, directed=True, connection="strong")
    never_lost, never_won = np.zeros(len(names), dtype=bool), np.zeros(len(names), dtype=bool)
    if count > 1:
        outside = beaten & (group[:, None] != group[None, :])
        for one in range(count):
            never_lost[group == one] = not outside[group == one].any()
            never_won[group == one] = not outside[:, group == one].any()
        if not tallied.board.cells.prior:
            who = ", ".join(few(names, never_lost))
            found = f"policies that never lost against the others: {who}"
            raise PrefkitError(tallied.where, found, "wins and losses for each, or a prior", PRIOR)
    return Groups(np.asarray(group, dtype=np.int64), never_won, never_lost)


def few(names: Sequence[str], mask: Bools) -> list[str]:
    """The names of some, at most six."""
    found = [name for name, named in zip(names, mask, strict=True) if named]
    return [*found[:6], f"and {len(found) - 6} more"] if len(found) > 6 else found


def by_policy(cells: Cells, tallies: Floats) -> tuple[Floats, Floats, Floats]:
    """Wins, ties and losses [policies] out of tallies [3, cells]."""

    def summed(one: Floats, other: Floats) -> Floats:
        counts = np.bincount(cells.one, one, cells.policies) + np.bincount(cells.other, other, cells.policies)
        return counts.astype(np.float64)

    won, tied, lost = tallies
    return summed(won, lost), summed(tied, tied), summed(lost, won)


def prompts_by_policy(outcomes: Outcomes, shown: Ints) -> Ints:
    """On how many prompts each policy was compared. [policies]"""
    from scipy.sparse import csr_array

    policy, prompt = np.concatenate([outcomes.first, outcomes.second]), np.tile(outcomes.prompt, 2)
    there = csr_array((np.ones(len(policy), np.int8), (policy, prompt)))  # adds up what occurs twice
    counts: Ints = np.diff(there.indptr).astype(np.int64)[shown]
    return counts
