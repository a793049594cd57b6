"""Whether the longer response wins: length.*, but for choices."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import numpy as np

from prefkit.judging.audit.figure import Figure, figure, unmeasured
from prefkit.judging.audit.intervals import correlation, difference, share, slope
from prefkit.judging.audit.views import View, pair_table, response_scores, won
from prefkit.records import is_model


def length_figures(seen: View, others: Mapping[int, View]) -> Iterator[Figure]:
    """Verdicts and scores against length, and against what people make of the same pairs."""
    yield from _length_compared(seen, others)
    yield from _length_rated(seen)


def _length_compared(seen: View, others: Mapping[int, View]) -> Iterator[Figure]:
    characters = seen.read.characters
    known = (characters[seen.a] >= 0) & (characters[seen.b] >= 0) if len(seen.a) else np.zeros(0, bool)
    uneven = known & (characters[seen.a] != characters[seen.b])
    rows = np.flatnonzero(uneven & (seen.win != 0.5))
    if not len(rows):
        if not len(seen.a):
            why = "no comparisons; ask for some with `prefkit judge RUN --mode compare`"
        elif not known.any():
            why = "the run has no texts of the responses compared; import them with `prefkit import responses`"
        else:
            why = "no verdict names a winner between responses of unequal length"
        yield unmeasured(seen.principle, "length.longer", "share", why)
        yield unmeasured(seen.principle, "length.slope", "log-odds", why)
        return
    a_longer = characters[seen.a[rows]] > characters[seen.b[rows]]
    hits = np.where(a_longer, seen.win[rows], 1 - seen.win[rows])
    words = "Where two responses differ in length, it names the longer in {value} of {n} verdicts that name a winner."
    yield figure(seen.principle, "length.longer", "share", share(hits, seen.prompt[rows], 0.5), words)
    gap = np.log1p(characters[seen.a[rows]]) - np.log1p(characters[seen.b[rows]])
    deviation = float(np.sqrt(np.mean(gap**2)))
    fitted = slope(gap / deviation, seen.win[rows], seen.prompt[rows])
    if fitted is None:
        why = "too few prompts, or length tells its winner almost without error; see length.longer"
        yield unmeasured(seen.principle, "length.slope", "log-odds", why)
    else:
        words = (
            "A response longer by a factor of {factor:.2f} has log-odds to win that are higher by {value}, over {n}."
        )
        yield figure(seen.principle, "length.slope", "log-odds", fitted, words, factor=math.exp(deviation))
    yield _beyond_people(seen, others)


def _beyond_people(seen: View, others: Mapping[int, View]) -> Figure:
    characters = seen.read.characters
    people = [other for who, other in others.items() if not is_model(seen.read.annotators[who])]
    mine, theirs = pair_table([seen]), pair_table(people)
    shared, here, there = np.intersect1d(mine.key, theirs.key, return_indices=True)
    low, high = characters[shared // len(characters)], characters[shared % len(characters)]
    uneven = (low >= 0) & (high >= 0) & (low != high)
    if not uneven.any():
        why = "no people compared the same responses; `prefkit import judgements` brings theirs"
        return unmeasured(seen.principle, "length.beyond_people", "points of a share", why)
    low_longer = (low > high)[uneven]
    ours, peoples = won(mine, here)[uneven], won(theirs, there)[uneven]
    ours, peoples = (np.where(low_longer, wins, 1 - wins) for wins in (ours, peoples))
    words = (
        "On the pairs that people judged too, the longer response wins {value} more often with it than with people "
        "({judge:.0%} against {people:.0%}, {n} pairs)."
    )
    return figure(
        seen.principle,
        "length.beyond_people",
        "points of a share",
        difference(ours - peoples, mine.prompt[here][uneven]),
        words,
        judge=float(ours.mean()),
        people=float(peoples.mean()),
    )


def _length_rated(seen: View) -> Iterator[Figure]:
    rated = response_scores(seen)
    for name, lengths in (("characters", seen.read.characters), ("words", seen.read.words)):
        known = lengths[rated.response] >= 0
        if not len(rated.response):
            estimate, why = None, "no ratings; ask for some with `prefkit judge RUN --mode rate`"
        elif not known.any():
            estimate = None
            why = "the run has no texts of the responses rated; import them with `prefkit import responses`"
        else:
            logs = np.log1p(lengths[rated.response[known]].astype(float))
            estimate = correlation(logs, rated.score[known], rated.prompt[known])
            why = "too few prompts with several rated responses, or scores or lengths that never differ within one"
        words = f"Within a prompt, score and length in {name} correlate by {{value}} over {{n}} responses."
        yield figure(seen.principle, f"length.rating_{name}", "correlation", estimate, words if estimate else why)
