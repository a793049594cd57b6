"""Several annotators' scores to one score a response.

For each principle the scores of a response are aggregated over its annotators; the rubric's own aggregation then
makes the overall score. Gaps are rounded to nine decimals before they are compared with a threshold: sums of halves
and sevenths differ in the last bit of a float, and two different gaps of real ratings differ by far more than 1e-9,
so this compares them exactly. (With bare floats about one in fourteen of the gaps that are just 1 falls short of it.)
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from prefkit.pairs.collect import Floats, Ratings
from prefkit.rubric import DECIMALS, Rubric

TRIMMED_SHARE = 0.1


def z_scored(ratings: Ratings) -> Ratings:
    """Each annotator's scores in that annotator's own standard deviations from the own mean, principle by principle.

    An annotator who gives one score to everything says nothing about order, and gets 0 everywhere.
    """
    scores = ratings.scores.copy()
    for annotator in np.unique(ratings.annotator):
        rows = ratings.annotator == annotator
        spread = np.round(scores[rows].std(axis=0), DECIMALS)
        centred = scores[rows] - scores[rows].mean(axis=0)
        scores[rows] = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0)
    return Ratings(ratings.response, ratings.annotator, scores)


def over_annotators(ratings: Ratings, n_responses: int, how: Literal["mean", "median", "trimmed"]) -> Floats:
    """Each response's score on each principle.

    Args:
        ratings: complete ratings, sorted by response.
        n_responses: how many responses there are.
        how: ``trimmed`` leaves out the lowest and highest tenth of the scores (none of fewer than ten).

    Returns:
        [n_responses, principles]; NaN where a response has no rating.
    """
    count = np.bincount(ratings.response, minlength=n_responses)
    result = np.full((n_responses, ratings.scores.shape[1]), math.nan)
    if not len(ratings.response):
        return result
    if how == "mean" or count.max() < 2:
        for column in range(ratings.scores.shape[1]):
            total = np.bincount(ratings.response, weights=ratings.scores[:, column], minlength=n_responses)
            result[:, column] = np.divide(total, count, out=result[:, column].copy(), where=count > 0)
        return result
    starts = np.concatenate(([0], np.cumsum(count)))
    for size in np.unique(count[count > 0]):
        those = np.flatnonzero(count == size)
        rows = starts[those][:, None] + np.arange(size)
        scores = np.sort(ratings.scores[rows], axis=1)
        cut = int(size * TRIMMED_SHARE) if how == "trimmed" else (int(size) - 1) // 2
        result[those] = scores[:, cut : size - cut].mean(axis=1)
    return result


def overall(scores: Floats, rubric: Rubric) -> Floats:
    """The rubric's overall score of each row of ``scores`` [n, principles]: [n], NaN where a score is missing."""
    offset, *factors = rubric.weights()
    result: Floats = np.asarray(scores @ np.asarray(factors) + offset, dtype=np.float64)
    return result


def gap(chosen: Floats, rejected: Floats | float) -> Floats:
    """Differences that can be compared with a threshold: rounded to nine decimals."""
    return np.round(chosen - rejected, DECIMALS)
