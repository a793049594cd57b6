"""How likely the judges are to be wrong about two responses, learned from where people have checked them.

Reads   Fit, Opinions
Gives   a score for each pair: where people have answered, how far they and the judges differ (0 to 1); elsewhere the
        probability that they will

A logistic regression (L2 penalty of 1) on what is known of every pair: how sure the judges are, how much longer the
response is that they prefer, its policy and the other's, the topic. So a pair is near those that went wrong if it is
like them in these; the words are not read. It knows no more than a few answered pairs can teach.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from prefkit.annotation.cases import Fit, Floats, Ints
from prefkit.annotation.opinions import Opinions, mean_of
from prefkit.errors import RunError
from prefkit.run import Run

AT_LEAST = 20
"""Pairs that both judges and people have decided, before anything can be learned from them."""


def mistakes(run: Run, fit: Fit, opinions: Opinions) -> Callable[[Ints, Ints], Floats]:
    """The score of pairs, both given as rows of ``fit``; NaN where no judge spoke.

    Raises:
        RunError: people have answered too little of what the judges have, or the judges were never, or always, wrong.
    """
    left, right, judged, said = _answered(fit, opinions)
    wrong = (judged > 0.5) != (said > 0.5)
    if len(wrong) < AT_LEAST or wrong.all() or not wrong.any():
        found = f"{wrong.sum()} mistakes in {len(wrong)} pairs that judges and people have decided"
        needed = f"both mistakes and none, in at least {AT_LEAST}"
        raise RunError(run.path, found, needed, "Until then choose by --select uncertain or random.")
    topics = {name: place for place, name in enumerate(dict.fromkeys(fit.topics))}
    topic_of = np.asarray([topics[name] for name in fit.topics], dtype=np.int64)

    def features(left: Ints, right: Ints, judged: Floats) -> object:
        from scipy.sparse import csr_array, hstack

        better, worse = np.where(judged >= 0.5, left, right), np.where(judged >= 0.5, right, left)
        sure = np.abs(judged - 0.5) * 2
        longer = np.log1p(fit.length[better]) - np.log1p(fit.length[worse])
        rows, one = np.arange(len(left)), np.ones(len(left))
        kinds = [(fit.policy[better], len(fit.policies)), (fit.policy[worse], len(fit.policies))]
        kinds.append((topic_of[fit.prompt[left]], len(topics)))
        hot = [csr_array((one, (rows, of)), shape=(len(left), many)) for of, many in kinds]
        return hstack([csr_array(np.column_stack([sure, longer])), *hot]).tocsr()

    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=1000).fit(features(left, right, judged), wrong)

    def score(left: Ints, right: Ints) -> Floats:
        judged, said = _both(fit, opinions, left, right)
        found = np.full(len(left), np.nan)
        spoke = ~np.isnan(judged)
        if spoke.any():
            found[spoke] = model.predict_proba(features(left[spoke], right[spoke], judged[spoke]))[:, 1]
        return np.where(np.isnan(said) | ~spoke, found, np.abs(judged - said))

    return score


def _both(fit: Fit, opinions: Opinions, left: Ints, right: Ints) -> tuple[Floats, Floats]:
    """How far the judges, and the people, prefer ``left``; NaN where they did not say."""
    judged = mean_of(opinions.of_judges(fit, left, right))
    if opinions.people is None:
        return judged, np.full(len(left), np.nan)
    return judged, mean_of(opinions.people.voices(fit, left, right)[:, None])


def _answered(fit: Fit, opinions: Opinions) -> tuple[Ints, Ints, Floats, Floats]:
    """The pairs that both have decided, with both preferences for the left one."""
    rows = np.empty(0, dtype=np.int64)
    found = [(rows, rows, np.empty(0), np.empty(0))]
    for left, right in fit.pairs():
        judged, said = _both(fit, opinions, left, right)
        keep = ~np.isnan(judged) & ~np.isnan(said) & (judged != 0.5) & (said != 0.5)
        found.append((left[keep], right[keep], judged[keep], said[keep]))
    left, right = (np.concatenate([one[column] for one in found]) for column in (0, 1))
    judged, said = (np.concatenate([one[column] for one in found]) for column in (2, 3))
    return left, right, judged, said
