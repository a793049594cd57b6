"""What a judge leaves out, and what changes when it is asked again: missing.* and samples.*."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

import numpy as np

from prefkit.judging.audit.figure import Figure, figure, unmeasured
from prefkit.judging.audit.intervals import Floats, Ints, jackknifed, share, share_of_counts, sums_by
from prefkit.judging.audit.views import View, pairs_alike


def missing_figures(seen: View) -> Iterator[Figure]:
    """Answers that could not be read, and scores left out of those that could."""
    answers = seen.read.answers
    mine = np.flatnonzero(answers.annotator == seen.judge)
    reason = answers.reason[mine]
    if len(mine):
        reasons = Counter({answers.reasons[key]: count for key, count in Counter(reason[reason >= 0].tolist()).items()})
        words = "{value} of its {n} answers could not be read."
        estimate = share((reason >= 0).astype(float), answers.prompt[mine])
        yield figure(
            seen.principle, "missing.unreadable", "share", estimate, words, reasons=dict(reasons.most_common(10))
        )
    asked = answers.asked[mine] > 0
    if asked.any():
        _, place = np.unique(answers.prompt[mine][asked], return_inverse=True)
        missing, total = (sums_by(place, column[mine][asked]) for column in (answers.missing, answers.asked))
        words = "{value} of the {n} scores asked for are missing from answers that could be read."
        yield figure(seen.principle, "missing.scores", "share", share_of_counts(missing, total), words)


def sample_figures(seen: View) -> Iterator[Figure]:
    """How often, and by how much, an answer changes when the same question is asked again."""
    yield _verdicts_over_samples(seen)
    yield from _scores_over_samples(seen)


def _verdicts_over_samples(seen: View) -> Figure:
    if len(seen.a):
        question = np.unique(seen.a * len(seen.read.policy) + seen.b, return_inverse=True)[1]
        sizes = np.bincount(question)
        repeated = sizes > 1
        if repeated.any():
            alike = sums_by(question, pairs_alike(question, seen.win))
            prompt = np.zeros(len(sizes), dtype=np.int64)
            prompt[question] = seen.prompt
            n = sizes[repeated]
            changed = 1 - alike[repeated] / (n * (n - 1) / 2)
            words = "Asked the same question twice, it gives another verdict in {value} ({n} questions)."
            return figure(seen.principle, "samples.verdict_changes", "share", share(changed, prompt[repeated]), words)
    why = "no comparison was asked more than once; `prefkit judge RUN --mode compare --samples 3` does"
    return unmeasured(seen.principle, "samples.verdict_changes", "share", why)


def _scores_over_samples(seen: View) -> Iterator[Figure]:
    response, place, sizes = np.unique(seen.rated, return_inverse=True, return_counts=True)
    repeated = sizes > 1
    if not repeated.any():
        why = "no rating was asked more than once; `prefkit judge RUN --mode rate --samples 3` does"
        yield unmeasured(seen.principle, "samples.score_changes", "share", why)
        yield unmeasured(seen.principle, "samples.score_deviation", "points", why)
        return
    prompt = np.zeros(len(response), dtype=np.int64)
    prompt[place] = seen.rated_prompt
    pairs = sizes * (sizes - 1) / 2
    changed = 1 - sums_by(place, pairs_alike(place, seen.score))[repeated] / pairs[repeated]
    words = "Asked twice to rate a response, it gives another score in {value} ({n} responses)."
    yield figure(seen.principle, "samples.score_changes", "share", share(changed, prompt[repeated]), words)
    means = sums_by(place, seen.score) / sizes
    squares = sums_by(place, (seen.score - means[place]) ** 2)
    yield _deviation(seen, squares[repeated], sizes[repeated] - 1, means[repeated], prompt[repeated])


def _deviation(seen: View, squares: Floats, freedom: Ints, means: Floats, prompt: Ints) -> Figure:
    """Standard deviation of scores within a question, pooled, with that between the questions' means."""
    code = np.unique(prompt, return_inverse=True)[1]
    by_prompt, free = sums_by(code, squares), sums_by(code, freedom)
    variance = squares.sum() / freedom.sum()
    between = float(means.std(ddof=1)) if len(means) > 1 else math.nan
    rest, left = squares.sum() - by_prompt, freedom.sum() - free
    if len(free) < 2 or not (rest > 0).all() or math.isnan(between):
        why = "its scores never change, or change on one prompt only; see samples.score_changes"
        return unmeasured(seen.principle, "samples.score_deviation", "points", why)
    estimate = jackknifed(math.log(variance) / 2, np.log(rest / left) / 2, free, back=math.exp, bounds=(0.0, math.inf))
    words = (
        "The standard deviation of its scores of one response is {value}; between responses it is {between:.2f} "
        "({n} repeated ratings)."
    )
    return figure(seen.principle, "samples.score_deviation", "points", estimate, words, between=between)
