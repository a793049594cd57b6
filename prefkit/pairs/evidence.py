"""What a run says about its responses, in numbers: the ratings over annotators, the votes from comparisons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from prefkit.pairs.aggregate import gap, over_annotators, overall, z_scored
from prefkit.pairs.collect import Collected, Floats, Ratings, Whole, collect
from prefkit.pairs.select import Candidates
from prefkit.pairs.settings import PairSettings
from prefkit.pairs.votes import Support, Votes, support, votes_from_comparisons
from prefkit.records import Judgement, Response
from prefkit.rubric import Rubric
from prefkit.run import Run


@dataclass(frozen=True)
class Evidence:
    """A run in numbers; rows of [n_responses] arrays are responses by index, NaN where a response has no rating."""

    collected: Collected
    rubric: Rubric
    ratings: Ratings
    """As gaps are measured: z-scores where these were asked for."""
    rated: Floats
    """[n_responses, principles] over annotators, in the rubric's units whether or not gaps are of z-scores."""
    scores: Floats
    """[n_responses, principles] over annotators, as gaps are measured."""
    totals: Floats
    """[n_responses] overall scores, as gaps are measured."""
    votes: Votes
    unusable: Counter[str]
    """Judgements by kind, and those that could not be used by reason."""

    def gap(self, pairs: Candidates) -> Floats:
        """The overall gap of each pair; NaN where a side has no rating."""
        return gap(self.totals[pairs.chosen], self.totals[pairs.rejected])

    def gaps(self, pairs: Candidates) -> Floats:
        """The gap of each pair on each principle, [n_pairs, principles]."""
        return gap(self.scores[pairs.chosen], self.scores[pairs.rejected])

    def support(self, pairs: Candidates) -> Support:
        """Who prefers the chosen side of each pair, by ratings and comparisons."""
        return support(self.collected, pairs, overall(self.ratings.scores, self.rubric), self.votes)

    def response_counts(self) -> Counter[str]:
        """How many responses there are, how many are rated, how many answer a prompt that the run does not hold."""
        return +Counter(
            {
                "responses": len(self.collected.responses),
                "responses rated": int((~np.isnan(self.totals)).sum()),
                "responses to unknown prompts": self.collected.responses.unknown_prompt,
            }
        )


def gather(
    run: Run, settings: PairSettings, open_bar: Callable[[int], Callable[[int], None]], whole: Whole | None = None
) -> Evidence:
    """Read a run and aggregate over annotators.

    Args:
        run: the run.
        settings: aggregation, z-scores, orders.
        open_bar: opens a progress bar, given how many bytes there are to read.
        whole: if it is a piece of another one.

    Raises:
        RunError: there are no prompts, no responses or no judgements.
        RecordError: a line is not a record.
    """
    files = [path for path in map(run.file, (Response, Judgement)) if path]
    collected = collect(run, open_bar(sum(file.stat().st_size for file in files)), whole)
    rated = over_annotators(collected.ratings, len(collected.responses), settings.aggregate)
    ratings, scores = collected.ratings, rated
    if settings.z_scores:
        ratings = z_scored(collected.ratings)
        scores = over_annotators(ratings, len(collected.responses), settings.aggregate)
    votes, unusable = votes_from_comparisons(collected, both_orders=settings.orders == "both")
    totals = overall(scores, run.rubric)
    return Evidence(collected, run.rubric, ratings, rated, scores, totals, votes, collected.counts + unusable)
