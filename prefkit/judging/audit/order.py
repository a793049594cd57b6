"""Whether the place in which a response is shown decides: order.* and choice.*."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from prefkit.judging.audit.figure import Figure, figure, percent, unmeasured
from prefkit.judging.audit.intervals import Ints, share
from prefkit.judging.audit.views import View, pair_key

MOST_POSITIONS = 8


@dataclass(frozen=True)
class _BothOrders:
    """Comparisons asked in both orders: rows of the view, [pairs]."""

    there: Ints
    back: Ints


def _both_orders(seen: View) -> _BothOrders:
    """For each two responses and sample, the row that shows one first and the row that shows the other first."""
    if not len(seen.a):
        return _BothOrders(np.empty(0, np.int64), np.empty(0, np.int64))
    key, swapped = pair_key(seen)
    key = key * (int(seen.sample.max()) + 1) + seen.sample
    distinct, place = np.unique(key, return_inverse=True)
    rows = np.full((2, len(distinct)), -1, dtype=np.int64)
    everything = np.arange(len(key))
    rows[swapped.astype(np.int64), place] = everything
    both = (rows >= 0).all(axis=0)
    return _BothOrders(rows[0, both], rows[1, both])


def order_figures(seen: View) -> Iterator[Figure]:
    """Comparisons shown in both orders. One order alone says nothing: the first may be the better one each time."""
    both = _both_orders(seen)
    names = ("order.same_verdict", "order.flips", "order.first", "order.first_when_flipped")
    if not len(seen.a):
        why = "no comparisons; ask for some with `prefkit judge RUN --mode compare`"
        yield from (unmeasured(seen.principle, name, "share", why) for name in names)
        return
    if not len(both.there):
        decided = seen.win[seen.win != 0.5]
        named = f" (it named the first in {percent(float(decided.mean()))}% of {len(decided):,}, which may be merit)"
        why = (
            f"no two responses were shown in both orders{named if len(decided) else ''}; "
            "`prefkit judge RUN --mode compare` asks both"
        )
        yield from (unmeasured(seen.principle, name, "share", why) for name in names)
        return
    there, back, prompt = seen.win[both.there], 1 - seen.win[both.back], seen.prompt[both.there]
    words = "Shown two responses in both orders, it gives the same verdict in {value} of {n}."
    yield figure(seen.principle, "order.same_verdict", "share", share((there == back).astype(float), prompt), words)
    decisive = (there != 0.5) & (back != 0.5)
    if decisive.any():
        flipped = (there != back).astype(float)[decisive]
        words = "Where it names a winner in both orders, the winner changes with the order in {value} of {n}."
        yield figure(seen.principle, "order.flips", "share", share(flipped, prompt[decisive]), words)
    else:
        yield unmeasured(seen.principle, "order.flips", "share", "no pair has a winner in both orders")
    yield _first(seen, np.concatenate([both.there, both.back]))
    flips = decisive & (there != back)
    if flips.any():
        words = "Where the winner changes with the order, it named the one shown first both times in {value} of {n}."
        yield figure(
            seen.principle,
            "order.first_when_flipped",
            "share",
            share((there == 1)[flips].astype(float), prompt[flips], 0.5),
            words,
        )
    else:
        yield unmeasured(seen.principle, "order.first_when_flipped", "share", "the winner never changes with the order")


def _first(seen: View, rows: Ints) -> Figure:
    rows = rows[seen.win[rows] != 0.5]
    if not len(rows):
        return unmeasured(seen.principle, "order.first", "share", "no verdict names a winner")
    words = "It names the response shown first in {value} of {n} verdicts that name a winner."
    return figure(seen.principle, "order.first", "share", share(seen.win[rows], seen.prompt[rows], 0.5), words)


def choice_figures(seen: View) -> Iterator[Figure]:
    """The best of several: each place, and the longest, against chance."""
    choices = seen.read.choices
    mine = np.flatnonzero(choices.annotator == seen.judge)
    if seen.column or not len(mine):
        return
    for count in np.unique(choices.count[mine]).tolist():
        rows = mine[choices.count[mine] == count]
        best, prompt = choices.best[rows], choices.prompt[rows]
        for place in range(min(count, MOST_POSITIONS)):
            words = f"Choosing the best of {count}, it names the one shown in place {place + 1} in {{value}} of {{n}}."
            estimate = share((best == place).astype(float), prompt, 1 / count)
            yield figure(seen.principle, f"choice.position_{place + 1}_of_{count}", "share", estimate, words)
        shown = seen.read.characters[choices.shown[choices.start[rows, None] + np.arange(count)]]
        longest = shown == shown.max(axis=1, keepdims=True)
        usable = (shown >= 0).all(axis=1) & (longest.sum(axis=1) == 1)
        if usable.any():
            words = f"Choosing the best of {count}, it names the longest in {{value}} of {{n}}."
            hits = longest[np.arange(len(rows)), best][usable].astype(float)
            yield figure(
                seen.principle, f"length.longest_of_{count}", "share", share(hits, prompt[usable], 1 / count), words
            )
