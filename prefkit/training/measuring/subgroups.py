"""The accuracy on some of the pairs: by gap, length, principle, topic, the two policies, disagreement.

Reads   a Table, margins of a scorer [pairs]
Gives   Sums for each group of pairs; of their figures, rows for a table
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from prefkit.resampling import Figure, Floats, Sums
from prefkit.training.measuring import accuracy
from prefkit.training.measuring.accuracy import Counting, hits, relative_length
from prefkit.training.measuring.report import Row
from prefkit.training.measuring.table import UNKNOWN, Bools, Table

LENGTHS = (-1.0, -0.5, -0.2, -0.05, 0.05, 0.2, 0.5, 1.0)
LENGTH_WORDS = (
    "chosen less than half as long",
    "shorter by 20 to 50%",
    "shorter by 5 to 20%",
    "within 5%",
    "longer by 5 to 20%",
    "longer by 20 to 50%",
    "rejected less than half as long",
)
GAP_WIDTHS = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 25.0)
"""Of gaps that are shown together: the smallest that needs no more than five of them."""
MOST_ROWS = 30


def by_group(
    counting: Counting, margin: Floats, own: Mapping[str, Floats], doubt: Floats | None
) -> Iterator[tuple[tuple[str, str, str], Sums]]:
    """The accuracy on groups of pairs: what they are grouped by, the group, ``accuracy`` or ``head``.

    Args:
        counting: of the pairs.
        margin: [pairs].
        own: margins [pairs] of the heads, by principle.
        doubt: the models' disagreement [pairs].
    """
    table = counting.table
    for what, name, kept in _groups(table, doubt):
        if (kept & table.decided).any():
            yield (what, name, "accuracy"), counting.accuracy(margin, kept)
    for column, name in enumerate(table.principles):
        side = table.sides[:, column]
        kept = np.isfinite(side) & (side != 0.5)
        if not kept.any():
            continue
        way = np.sign(np.nan_to_num(side) - 0.5)
        yield ("principle", name, "accuracy"), counting.share(hits(margin * way), kept)
        if name in own:
            yield ("principle", name, "head"), counting.share(hits(own[name] * way), kept)


def rows_by_group(found: Mapping[tuple[str, str, str], Figure]) -> dict[str, list[Row]]:
    """Rows by what pairs are grouped by, of the figures of ``by_group``."""
    by: dict[str, list[Row]] = {}
    for (what, name, which), figure in found.items():
        if which == "accuracy":
            by.setdefault(what, []).append(Row(name, figure, found.get((what, name, "head"))))
    return by


def _groups(table: Table, doubt: Floats | None) -> Iterator[tuple[str, str, Bools]]:
    known = np.isfinite(table.gap) & table.decided
    if known.any():
        edges = _edges(float(np.quantile(table.gap[known], 0.98)))
        for start, end in zip(edges, [*edges[1:], np.inf], strict=True):
            words = f"{start:g} to {end:g}" if np.isfinite(end) else f"{start:g} or more"
            yield "gap", words, known & (table.gap >= start - 1e-9) & (table.gap < end - 1e-9)
    relative = relative_length(table)
    place = np.clip(np.searchsorted(LENGTHS, relative, side="right") - 1, 0, len(LENGTH_WORDS) - 1)
    for number, words in enumerate(LENGTH_WORDS):
        yield "length", words, place == number
    if len([name for name in table.topics if name != UNKNOWN]) > 1:
        for number in _commonest(table.topic):
            yield "topic", table.topics[number] or "none", table.topic == number
    couple, _, kept = accuracy.policy_pairs(table)
    if kept.any():
        for number in _commonest(couple[kept]):
            first, second = divmod(int(number), len(table.policies))
            yield "policies", f"{table.policies[first]} / {table.policies[second]}", kept & (couple == number)
        chosen = table.policy[table.chosen]
        same = (chosen == table.policy[table.rejected]) & ~kept
        same &= np.asarray([name != UNKNOWN for name in table.policies])[chosen]
        if same.any():
            yield "policies", "the same policy twice", same
    if doubt is not None:
        quarters = np.quantile(doubt, (0.25, 0.5, 0.75))
        quarter = np.searchsorted(quarters, doubt, side="left")
        for number, words in enumerate(("least quarter", "second", "third", "most")):
            yield "disagreement", words, quarter == number


def _edges(largest: float) -> list[float]:
    """Where groups of gaps begin."""
    width = next((one for one in GAP_WIDTHS if largest / one <= 5), largest / 5)
    return [place * width for place in range(max(1, min(5, int(np.ceil(largest / width)))))]


def _commonest(numbers: np.ndarray) -> list[int]:
    found, often = np.unique(numbers, return_counts=True)
    return [int(one) for one in found[np.argsort(-often, kind="stable")[:MOST_ROWS]]]
