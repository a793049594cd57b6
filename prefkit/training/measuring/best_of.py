"""What the best of n responses is worth when the reward chooses it.

Reads   a Table, rewards [responses]
Gives   BestOf for n = 2, 3, ...: how much better than a random response the chosen one is, and what was possible

How good a response is comes from the pairs: within a prompt, values whose differences are the rating gaps (least
squares), or, where nobody rated, shares of preference. A prompt takes part where its pairs link all responses that
stand in them; a response in no pair is left out. For n below the number of responses, the mean over all choices of n
of them is exact: the response in place j of K by reward is the best of n in C(K - j, n - 1) of C(K, n) choices.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import comb

import numpy as np

from prefkit.resampling import Floats, Ints, Sums, ratio
from prefkit.training.measuring.accuracy import Counting
from prefkit.training.measuring.table import Table

MOST = 64
"""Responses of a prompt that are looked at."""


@dataclass(frozen=True)
class Known:
    """The responses of a prompt whose worth is known: rows of the table, and worth about a mean of zero."""

    prompt: int
    rows: Ints
    worth: Floats


def known(table: Table) -> tuple[list[Known], bool]:
    """The prompts whose responses can be put on one scale, and whether it is that of ratings."""
    rated = bool(np.isfinite(table.gap).any())
    difference = table.gap if rated else 2 * table.preferred - 1
    usable = np.flatnonzero(np.isfinite(difference))
    group = table.group[table.chosen[usable]]
    order = np.argsort(group, kind="stable")
    usable, group = usable[order], group[order]
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    return list(_connected(table, difference, np.split(usable, starts[1:]))), rated


def best_of(counting: Counting, prompts: list[Known], rewards: Floats) -> dict[int, dict[str, Sums]]:
    """The sums of figures by n.

    ``gain``: worth of the response that the reward chooses of n, above that of a random one; ``possible``: the same of
    the best; ``share``: the first as a share of the second.
    """
    largest = max((len(one.rows) for one in prompts), default=0)
    found = {}
    for n in range(2, min(largest, MOST) + 1):
        here = [one for one in prompts if len(one.rows) >= n]
        gained = np.asarray([expected_of(rewards[one.rows], one.worth, n) for one in here])
        possible = np.asarray([expected_of(one.worth, one.worth, n) for one in here])
        cluster = counting.clusters(np.asarray([one.prompt for one in here], dtype=np.int64))

        def summed(values: Floats, cluster: Ints = cluster) -> Floats:
            return np.bincount(cluster, values, counting.size).astype(np.float64)

        ones = np.ones(len(here))
        found[n] = {
            "gain": ratio(summed(gained), summed(ones), len(here), share=False),
            "possible": ratio(summed(possible), summed(ones), len(here), share=False),
            "share": ratio(summed(gained), summed(possible), len(here), share=False),
        }
    return found


def expected_of(rewards: Floats, worth: Floats, n: int) -> float:
    """The mean worth of the response with the highest reward, over all choices of ``n`` of them.

    Args:
        rewards: [K]; equal ones are as if one of them were drawn.
        worth: [K].
        n: at most K.
    """
    count = len(rewards)
    order = np.argsort(-rewards, kind="stable")
    chance = np.asarray([comb(count - place - 1, n - 1) / comb(count, n) for place in range(count)])
    _, tied = np.unique(-rewards[order], return_inverse=True)
    chance = (np.bincount(tied, chance) / np.bincount(tied))[tied]
    return float(chance @ worth[order])


def _connected(table: Table, difference: Floats, parts: list[Ints]) -> Iterator[Known]:
    for pairs in parts:
        if not len(pairs):
            continue
        rows, places = np.unique(np.stack([table.chosen[pairs], table.rejected[pairs]]), return_inverse=True)
        places = places.reshape(2, -1)
        if len(rows) > MOST:
            continue
        design = np.zeros((len(pairs), len(rows)))
        design[np.arange(len(pairs)), places[0]] = 1
        design[np.arange(len(pairs)), places[1]] -= 1
        worth, _, rank, _ = np.linalg.lstsq(design, difference[pairs], rcond=None)
        if rank == len(rows) - 1:
            yield Known(int(table.prompt[pairs[0]]), rows, worth - worth.mean())
