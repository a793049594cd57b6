"""What one annotator said, as the audit's figures look at it.

Reads   the run's arrays
Gives   a view of one annotator, overall or on one principle; its scores by response; who won between which two
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefkit.judging.audit.intervals import Floats, Ints, sums_by
from prefkit.judging.audit.reading import Read
from prefkit.rubric import DECIMALS


@dataclass(frozen=True)
class View:
    """One judge, overall (``column`` 0) or on one principle; comparisons and ratings without an answer there are left
    out. All arrays [n]."""

    read: Read
    judge: int
    column: int
    prompt: Ints
    a: Ints
    b: Ints
    sample: Ints
    win: Floats
    rated_prompt: Ints
    rated: Ints
    score: Floats

    @property
    def principle(self) -> str | None:
        """The id of the principle, None overall."""
        return self.read.rubric.principle_ids[self.column - 1] if self.column else None


def view(read: Read, judge: int, column: int = 0) -> View:
    """What an annotator said overall (``column`` 0) or on the principle ``column - 1``."""
    compared, rated = read.comparisons, read.ratings
    mine = np.flatnonzero((compared.annotator == judge) & ~np.isnan(compared.win[:, column]))
    if column:
        score = rated.scores[:, column - 1]
    else:
        offset, *factors = read.rubric.weights()
        score = np.round(offset + rated.scores @ np.asarray(factors), DECIMALS)
    own = np.flatnonzero((rated.annotator == judge) & ~np.isnan(score))
    return View(
        read=read,
        judge=judge,
        column=column,
        prompt=compared.prompt[mine],
        a=compared.a[mine],
        b=compared.b[mine],
        sample=compared.sample[mine],
        win=compared.win[mine, column],
        rated_prompt=rated.prompt[own],
        rated=rated.response[own],
        score=score[own],
    )


@dataclass(frozen=True)
class ResponseScores:
    """A judge's score of each response, its samples averaged: all [responses], sorted by prompt."""

    prompt: Ints
    response: Ints
    score: Floats


def response_scores(seen: View) -> ResponseScores:
    """Average the samples."""
    order = np.lexsort((seen.rated, seen.rated_prompt))
    prompt, response = seen.rated_prompt[order], seen.rated[order]
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = (np.diff(response) != 0) | (np.diff(prompt) != 0)
    starts = np.flatnonzero(fresh)
    if not len(starts):
        return ResponseScores(prompt, response, seen.score)
    counts = np.diff(np.append(starts, len(order)))
    score = np.round(np.add.reduceat(seen.score[order], starts) / counts, DECIMALS)
    return ResponseScores(prompt[starts], response[starts], score)


def pair_key(seen: View) -> tuple[Ints, Any]:
    """A number for the two responses whatever their order, and whether they are shown the other way round."""
    low, high = np.minimum(seen.a, seen.b), np.maximum(seen.a, seen.b)
    return low * len(seen.read.policy) + high, seen.a > seen.b


@dataclass(frozen=True)
class Pairs:
    """How often the lower-numbered of two responses wins (a tie is half), summed over annotators, each counting once:
    all [pairs], sorted by key = lower * responses + higher."""

    key: Ints
    prompt: Ints
    win: Floats
    voices: Floats


def won(pairs: Pairs, rows: Ints) -> Floats:
    """The share of annotators with whom the lower-numbered response wins."""
    return pairs.win[rows] / pairs.voices[rows]


def pair_table(views: Sequence[View]) -> Pairs:
    """The comparisons of several annotators together."""
    return summed([compared_pairs(one) for one in views if len(one.a)])


def compared_pairs(seen: View) -> Pairs:
    """An annotator's comparisons, orders and samples averaged."""
    key, swapped = pair_key(seen)
    win = np.where(swapped, 1 - seen.win, seen.win)
    distinct, first, place, counts = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    return Pairs(distinct, seen.prompt[first], sums_by(place, win) / counts, np.ones(len(distinct)))


def rated_pairs(seen: View) -> Pairs:
    """Every two responses to a prompt as if compared: the higher score wins."""
    rated = response_scores(seen)
    i, j = _within(rated.prompt)
    low_first = rated.response[i] < rated.response[j]
    low, high = np.where(low_first, i, j), np.where(low_first, j, i)
    win = (np.sign(rated.score[low] - rated.score[high]) + 1) / 2
    key = rated.response[low] * len(seen.read.policy) + rated.response[high]
    order = np.argsort(key, kind="stable")
    return Pairs(key[order], rated.prompt[low][order], win[order], np.ones(len(order)))


def _within(prompt: Ints) -> tuple[Ints, Ints]:
    """All pairs of rows of the same prompt, for prompts sorted."""
    _, starts, counts = np.unique(prompt, return_index=True, return_counts=True)
    first, second = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for count in np.unique(counts).tolist():
        i, j = np.triu_indices(count, 1)
        begin = starts[counts == count][:, None]
        first.append((begin + i).ravel())
        second.append((begin + j).ravel())
    return np.concatenate(first), np.concatenate(second)


def summed(tables: Sequence[Pairs]) -> Pairs:
    """The pairs of several annotators together."""
    if not tables:
        nothing = np.empty(0, np.int64)
        return Pairs(nothing, nothing, np.empty(0), np.empty(0))
    key = np.concatenate([table.key for table in tables])
    distinct, first, place = np.unique(key, return_index=True, return_inverse=True)
    prompt, win, voices = (
        np.concatenate([getattr(table, name) for table in tables]) for name in ("prompt", "win", "voices")
    )
    return Pairs(distinct, prompt[first], sums_by(place, win), sums_by(place, voices))


def pairs_alike(group: Ints, values: Floats) -> Floats:
    """How many pairs of rows of a group have the same value: told at the first row of each group and value, 0 at the
    others, so that sums over groups are right. All [n]."""
    order = np.lexsort((values, group))
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = (np.diff(group[order]) != 0) | (np.diff(values[order]) != 0)
    starts = np.flatnonzero(fresh)
    counts = np.diff(np.append(starts, len(order)))
    found = np.zeros(len(order))
    found[order[starts]] = counts * (counts - 1) / 2
    return found
