"""Who prefers which side: votes of annotators, from comparisons and from ratings.

An annotator has at most one vote on two responses. From comparisons it is the mean over that annotator's comparisons
of the two; a model must have been asked in both orders, so that a model that picks by position ends at one half,
which is a tie. From ratings it is the side with the higher overall score. The soft label of a pair is the mean of its
votes.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from prefkit.pairs.aggregate import gap
from prefkit.pairs.collect import Collected, Comparisons, Floats, Ints
from prefkit.pairs.select import Candidates, together
from prefkit.records import is_model

ONE_ORDER = "model's comparison in one order only"
TIED = "tied comparison"


@dataclass(frozen=True)
class Votes:
    """One row for each two responses and annotator with a vote: ``low`` < ``high`` are indices of responses.

    ``for_low`` [n] is 1 for a vote for ``low``, 0 for ``high``, and between them where repeats disagree;
    ``principle_for_low`` [n, principles] the same by principle, NaN where it was not asked.
    """

    low: Ints
    high: Ints
    annotator: Ints
    for_low: Floats
    principle_for_low: Floats


def votes_from_comparisons(collected: Collected, *, both_orders: bool) -> tuple[Votes, Counter[str]]:
    """The votes in a run's comparisons, and what was left out of them and why."""
    asked = collected.comparisons
    counts: Counter[str] = Counter()
    other_prompt = collected.responses.prompt[asked.a] != collected.responses.prompt[asked.b]
    if other_prompt.any():
        counts["comparison across prompts"] = int(other_prompt.sum())
        asked = _rows(asked, ~other_prompt)
    forward = asked.a < asked.b
    low, high = np.where(forward, asked.a, asked.b), np.where(forward, asked.b, asked.a)
    for_low = np.where(forward, asked.win, 1 - asked.win)
    named = np.where(forward[:, None], asked.principle_win, 1 - asked.principle_win)
    order = np.lexsort((~forward, asked.annotator, high, low))
    low, high, who, forward = low[order], high[order], asked.annotator[order], forward[order]
    starts = np.flatnonzero(
        (np.diff(low, prepend=-1) != 0) | (np.diff(high, prepend=-1) != 0) | (np.diff(who, prepend=-1) != 0)
    )
    if not len(starts):
        empty = np.empty(0)
        return Votes(low, high, who, empty, named[order]), counts
    size = np.diff(starts, append=len(low))
    n_forward = np.add.reduceat(forward.astype(np.int64), starts)
    n_backward = size - n_forward
    mean = _balanced(for_low[order], forward, starts)
    principle_mean = _balanced(named[order], forward, starts)
    keep = np.ones(len(starts), dtype=bool)
    if both_orders:
        models = np.asarray([is_model(name) for name in collected.annotators], dtype=bool)
        keep = ~models[who[starts]] | ((n_forward > 0) & (n_backward > 0))
        if not keep.all():
            counts[ONE_ORDER] = int((~keep).sum())
    at = starts[keep]
    return Votes(low[at], high[at], who[at], mean[keep], principle_mean[keep]), counts


def _rows(asked: Comparisons, keep: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Comparisons:
    return Comparisons(asked.a[keep], asked.b[keep], asked.annotator[keep], asked.win[keep], asked.principle_win[keep])


def _balanced(values: Floats, forward: np.ndarray[tuple[int], np.dtype[np.bool_]], starts: Ints) -> Floats:
    """The mean of each group of rows, each order counting the same however often it was asked; NaN values are left
    out."""
    sides = forward if values.ndim == 1 else forward[:, None]
    means = []
    for side in (sides, ~sides):
        answered = ~np.isnan(values) & side
        total = np.add.reduceat(np.where(answered, values, 0.0), starts, axis=0)
        count = np.add.reduceat(answered.astype(np.int64), starts, axis=0)
        means.append(np.divide(total, count, out=np.full_like(total, math.nan), where=count > 0))
    first, second = means
    both = ~np.isnan(first) & ~np.isnan(second)
    return np.where(both, (first + second) / 2, np.where(np.isnan(first), second, first))


@dataclass(frozen=True)
class Majority:
    """What the votes on each two responses say together."""

    pairs: Candidates
    """Those that more prefer one way than the other, then those of which nobody prefers either side."""
    compared: int
    """How many two responses have a vote."""
    dropped: Counter[str]


def majority(votes: Votes, min_votes: int, *, ties: bool = False) -> Majority:
    """Pairs that more annotators prefer one way than the other; with ``ties``, also those that none prefers.

    ``dropped`` counts ties (nobody prefers either side), split votes (as many each way) and too few votes.
    """
    if not len(votes.low):
        nothing = np.empty(0, np.int64)
        return Majority(Candidates.preferred(nothing, nothing), 0, Counter())
    order = np.lexsort((votes.high, votes.low))
    low, high, share = votes.low[order], votes.high[order], votes.for_low[order]
    starts = np.flatnonzero((np.diff(low, prepend=-1) != 0) | (np.diff(high, prepend=-1) != 0))
    n_low = np.add.reduceat((share > 0.5).astype(np.int64), starts)
    n_high = np.add.reduceat((share < 0.5).astype(np.int64), starts)
    n_votes = np.diff(starts, append=len(low))
    few = n_votes < min_votes
    tied = ~few & (n_low == 0) & (n_high == 0)
    split = ~few & ~tied & (n_low == n_high)
    keep = ~few & (n_low != n_high)
    at, low_wins = starts[keep], n_low[keep] > n_high[keep]
    dropped = Counter({"too few votes": int(few.sum()), TIED: int(tied.sum()), "split vote": int(split.sum())})
    pairs = Candidates.preferred(np.where(low_wins, low[at], high[at]), np.where(low_wins, high[at], low[at]))
    if ties:
        del dropped[TIED]
        at = starts[tied]
        pairs = together([pairs, Candidates(low[at], high[at], np.ones(len(at), dtype=bool))])
    return Majority(pairs, len(starts), +dropped)


@dataclass(frozen=True)
class Support:
    """For each pair: the share of votes for the chosen side, overall [n] and by principle [n, principles], and who
    voted.

    ``voters`` [n] are tuples of annotators' indices. NaN where there is no vote.
    """

    overall: Floats
    by_principle: Floats
    voters: list[tuple[int, ...]]

    def __getitem__(self, rows: Ints) -> Support:
        return Support(self.overall[rows], self.by_principle[rows], [self.voters[row] for row in rows.tolist()])

    def with_ties(self, tied: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Support:
        """The same, with one half for each of the pairs that are ties."""
        return Support(np.where(tied, 0.5, self.overall), self.by_principle, self.voters)


def support(
    collected: Collected, pairs: Candidates, overall_by_rating: Floats, votes: Votes, *, ratings: bool = True
) -> Support:
    """The share of annotators that prefer the chosen side of each pair.

    Args:
        collected: the run.
        pairs: n pairs.
        overall_by_rating: [ratings] overall score of each rating.
        votes: from comparisons; they go before an annotator's ratings of the same two responses.
        ratings: whether ratings count as votes at all.
    """
    n_pairs, n_principles = len(pairs), collected.ratings.scores.shape[1]
    total, count = np.zeros(n_pairs), np.zeros(n_pairs)
    named_total, named_count = np.zeros((n_pairs, n_principles)), np.zeros((n_pairs, n_principles))
    voters: list[list[int]] = [[] for _ in range(n_pairs)]
    by_annotator = _VotesByAnnotator(votes, len(collected.responses))
    place = np.full(len(collected.responses), -1, dtype=np.int64)
    for annotator in range(len(collected.annotators)):
        mine = np.flatnonzero(collected.ratings.annotator == annotator) if ratings else np.empty(0, np.int64)
        place[collected.ratings.response[mine]] = mine
        left, right = place[pairs.chosen], place[pairs.rejected]
        place[collected.ratings.response[mine]] = -1
        share, named = by_annotator.lookup(annotator, pairs, n_principles)
        rated = np.flatnonzero((left >= 0) & (right >= 0) & np.isnan(share))
        share[rated] = _share(gap(overall_by_rating[left[rated]], overall_by_rating[right[rated]]))
        scores = collected.ratings.scores
        named[rated] = _share(gap(scores[left[rated]], scores[right[rated]]))
        voted = ~np.isnan(share)
        total[voted] += share[voted]
        count += voted
        answered = ~np.isnan(named)
        named_total[answered] += named[answered]
        named_count += answered
        for row in np.flatnonzero(voted):
            voters[row].append(annotator)
    return Support(
        np.divide(total, count, out=np.full(n_pairs, math.nan), where=count > 0),
        np.divide(named_total, named_count, out=np.full_like(named_total, math.nan), where=named_count > 0),
        [tuple(names) for names in voters],
    )


def _share(gaps: Floats) -> Floats:
    return (np.sign(gaps) + 1) / 2


class _VotesByAnnotator:
    def __init__(self, votes: Votes, n_responses: int) -> None:
        self.votes, self.n_responses = votes, n_responses

    def lookup(self, annotator: int, pairs: Candidates, n_principles: int) -> tuple[Floats, Floats]:
        """This annotator's vote for the chosen side of each pair, overall and by principle; NaN where there is none."""
        share = np.full(len(pairs), math.nan)
        named = np.full((len(pairs), n_principles), math.nan)
        mine = np.flatnonzero(self.votes.annotator == annotator)
        if not len(mine):
            return share, named
        keys = self.votes.low[mine] * self.n_responses + self.votes.high[mine]
        order = np.argsort(keys)
        low, high = np.minimum(pairs.chosen, pairs.rejected), np.maximum(pairs.chosen, pairs.rejected)
        wanted = low * self.n_responses + high
        at = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)
        found = np.flatnonzero(keys[order][at] == wanted)
        rows = mine[order[at[found]]]
        chosen_is_low = pairs.chosen[found] == low[found]
        share[found] = np.where(chosen_is_low, self.votes.for_low[rows], 1 - self.votes.for_low[rows])
        theirs = self.votes.principle_for_low[rows]
        named[found] = np.where(chosen_is_low[:, None], theirs, 1 - theirs)
        return share, named
