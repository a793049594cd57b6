"""How much of the scale a judge uses: saturation.*."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from prefkit.judging.audit.figure import Figure, figure, unmeasured
from prefkit.judging.audit.intervals import Floats, Ints, jackknifed, share, share_of_counts, sums_by
from prefkit.judging.audit.views import View, pairs_alike, response_scores


def saturation_figures(seen: View) -> Iterator[Figure]:
    """Scores at the ends of the scale, all alike, or tied."""
    read = seen.read
    rows = np.flatnonzero(read.ratings.annotator == seen.judge)
    columns = [seen.column - 1] if seen.column else list(range(len(read.rubric.principles)))
    scores, prompt = read.ratings.scores[rows][:, columns], read.ratings.prompt[rows]
    given = ~np.isnan(scores)
    if not given.any():
        why = "no ratings; ask for some with `prefkit judge RUN --mode rate`"
        for name in ("top", "bottom", "entropy", "tied"):
            yield unmeasured(seen.principle, f"saturation.{name}", "share", why)
        return
    scales = [read.rubric.principles[column].scale for column in columns]
    every = np.broadcast_to(prompt[:, None], scores.shape)[given]
    beyond = sum(
        int(((scores[:, at] > scale.max) | (scores[:, at] < scale.min)).sum()) for at, scale in enumerate(scales)
    )
    for name, hit in (
        ("top", scores >= np.asarray([scale.max for scale in scales])),
        ("bottom", scores <= np.asarray([scale.min for scale in scales])),
    ):
        words = f"{{value}} of {{n}} scores are at the {name} of the scale."
        estimate = share(hit[given].astype(float), every)
        yield figure(seen.principle, f"saturation.{name}", "share", estimate, words, out_of_scale=beyond)
    if len(columns) > 1:
        yield _identical(seen, scores, prompt)
    yield _entropy(seen, scores, prompt, [np.asarray(scale.values(), dtype=float) for scale in scales])
    yield _tied(seen)


def _identical(seen: View, scores: Floats, prompt: Ints) -> Figure:
    whole = ~np.isnan(scores).any(axis=1)
    if not whole.any():
        return unmeasured(seen.principle, "saturation.identical", "share", "no rating has a score for every principle")
    same = (scores[whole] == scores[whole][:, :1]).all(axis=1).astype(float)
    words = "{value} of {n} ratings give the same score on every principle."
    return figure(seen.principle, "saturation.identical", "share", share(same, prompt[whole]), words)


def _entropy(seen: View, scores: Floats, prompt: Ints, grids: Sequence[Floats]) -> Figure:
    """Entropy over the scores of the scale, as a share of the most there could be, mean over principles."""
    code = np.unique(prompt, return_inverse=True)[1]
    prompts = int(code.max()) + 1
    total, without = [], []
    for column, grid in zip(scores.T, grids, strict=True):
        rows = ~np.isnan(column)
        if not rows.any() or len(grid) < 2:
            continue
        level = np.abs(column[rows, None] - grid).argmin(axis=1)
        counts = np.bincount(code[rows] * len(grid) + level, minlength=prompts * len(grid)).reshape(prompts, -1)
        everything = counts.sum(axis=0)
        total.append(float(_relative_entropy(everything[None])[0]))
        without.append(_relative_entropy(everything - counts))
    if not total or prompts < 2:
        return unmeasured(seen.principle, "saturation.entropy", "share", "scores on one prompt only")
    sizes = sums_by(code, (~np.isnan(scores)).sum(axis=1))
    estimate = jackknifed(float(np.mean(total)), np.mean(without, axis=0), sizes, bounds=(0.0, 1.0))
    words = "Its scores have {value} of the entropy of a scale used evenly, over {n} scores."
    return figure(seen.principle, "saturation.entropy", "share", estimate, words)


def _relative_entropy(counts: Any) -> Floats:
    """Of counts [rows, levels]: 1 where all levels are as frequent, 0 where there is one."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    terms = np.where(shares > 0, shares * np.log(np.where(shares > 0, shares, 1.0)), 0.0)
    return -terms.sum(axis=1) / math.log(counts.shape[1])


def _tied(seen: View) -> Figure:
    rated = response_scores(seen)
    _, place, sizes = np.unique(rated.prompt, return_inverse=True, return_counts=True)
    pairs = sizes * (sizes - 1) / 2
    if not pairs.any():
        why = "no prompt has two responses with a score"
        return unmeasured(seen.principle, "saturation.tied", "share", why)
    tied = sums_by(place, pairs_alike(place, rated.score))
    estimate = share_of_counts(tied[pairs > 0], pairs[pairs > 0])
    words = "{value} of the {n} pairs of responses to one prompt have the same score."
    return figure(seen.principle, "saturation.tied", "share", estimate, words)
