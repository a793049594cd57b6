"""Bradley-Terry on numbers that describe a response: a logistic regression on differences, without an intercept.

    P(chosen beats rejected) = sigmoid(w . (x_chosen - x_rejected))

A pair with a soft label q is a win with weight q and a loss with weight 1 - q, so that a tie is half of each. Every
second pair is looked at from its other side (w . (x_rejected - x_chosen), 1 - q), which says the same and gives
scikit-learn both of its classes. How much is shrunk, and which of several descriptions (layers) is taken, is chosen by
cross-validation over prompts, near-duplicates together, within the pairs given and nowhere else.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from prefkit.errors import PrefkitError
from prefkit.training.groups import Group

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
K = TypeVar("K", bound=Hashable)

FOLDS = 5
SHRINKAGE = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
"""What is searched for scikit-learn's C: the smaller, the more the weights are shrunk."""


@dataclass(frozen=True)
class PairTable:
    """The pairs of groups, by the rows of their responses.

    Args:
        chosen, rejected: [n] row of the response in a matrix that stacks all responses of all groups.
        preferred: [n] probability that the chosen one is better.
        weight: [n].
        group: [n] number of the pair's group.
        rows: how many responses there are.
    """

    chosen: Ints
    rejected: Ints
    preferred: Floats
    weight: Floats
    group: Ints
    rows: int

    def __len__(self) -> int:
        return len(self.chosen)

    def where(self, keep: npt.NDArray[np.bool_]) -> PairTable:
        """Only these pairs."""
        kept = (self.chosen[keep], self.rejected[keep], self.preferred[keep], self.weight[keep], self.group[keep])
        return PairTable(*kept, rows=self.rows)

    def used(self) -> Ints:
        """The rows of responses that stand in a pair."""
        return np.unique(np.concatenate([self.chosen, self.rejected]))


def pair_table(groups: Sequence[Group]) -> PairTable:
    """The pairs of groups whose responses are stacked in order."""
    first = np.cumsum([0, *(len(group.texts) for group in groups)])
    found = [(number, pair) for number, group in enumerate(groups) for pair in group.pairs]
    number = np.array([number for number, _ in found], dtype=np.int64)
    return PairTable(
        chosen=first[number] + np.array([pair.chosen for _, pair in found], dtype=np.int64),
        rejected=first[number] + np.array([pair.rejected for _, pair in found], dtype=np.int64),
        preferred=np.array([pair.preferred for _, pair in found], dtype=np.float64),
        weight=np.array([pair.weight for _, pair in found], dtype=np.float64),
        group=number,
        rows=int(first[-1]),
    )


def prompt_folds(groups: Sequence[Group], folds: int = FOLDS, *, seed: int = 0, alike: float = 0.8) -> Ints:
    """The fold of each group; groups with one prompt, or with near-duplicates of one, are in one fold. [groups]

    Args:
        groups: prompts with their responses.
        folds: how many; their sizes differ by one bundle of near-duplicates.
        seed: shuffles the prompts.
        alike: Jaccard similarity of word pairs from which on two prompts are near-duplicates.

    Raises:
        PrefkitError: there are fewer prompts that differ than folds.
    """
    from prefkit.near_duplicates import near_duplicate_groups
    from prefkit.records import prompt_text

    bundles = near_duplicate_groups((prompt_text(group.messages) for group in groups), threshold=alike)
    names, sizes = np.unique(bundles, return_counts=True)
    if len(names) < folds:
        remedy = "Give more prompts, or ask for fewer folds."
        raise PrefkitError("cross-validation", f"{len(names)} different prompts", f"at least {folds}", remedy)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    filled = np.zeros(folds, dtype=np.int64)
    fold_of = dict[int, int]()
    for place in order:
        emptiest = int(np.argmin(filled))
        fold_of[int(names[place])] = emptiest
        filled[emptiest] += sizes[place]
    return np.array([fold_of[int(bundle)] for bundle in bundles], dtype=np.int64)


def fit_weights(x: Any, pairs: PairTable, shrinkage: float, start: Floats | None = None) -> Floats:
    """The weights of a Bradley-Terry regression. [width]

    Args:
        x: [responses, width], dense or sparse; a column's scale decides how much it is shrunk.
        pairs: over its rows, at least one.
        shrinkage: scikit-learn's C, for weights of pairs that are 1 on average.
        start: weights to begin at.

    Raises:
        PrefkitError: there are no pairs, or a weight or a label that is no number, or a weight that is negative.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    _check(pairs)
    side = np.where(np.arange(len(pairs)) % 2, -1.0, 1.0)
    one = np.where(side > 0, pairs.chosen, pairs.rejected)
    other = np.where(side > 0, pairs.rejected, pairs.chosen)
    difference = x[one] - x[other]
    first = np.where(side > 0, pairs.preferred, 1 - pairs.preferred)
    weight = pairs.weight / pairs.weight.mean()
    wins, losses = np.flatnonzero(first > 0), np.flatnonzero(first < 1)
    if len(wins) == 0 or len(losses) == 0:  # one certain pair: seen from both sides it is half as heavy
        difference, wins, losses = _both_sides(difference, side), np.array([0]), np.array([1])
        first, weight = np.array([0.5, 0.5]), np.repeat(weight, 2)
    rows = np.concatenate([wins, losses])
    model = LogisticRegression(C=shrinkage, fit_intercept=False, max_iter=200, tol=1e-4, warm_start=start is not None)
    if start is not None:
        model.coef_ = start[None]
        model.intercept_ = np.zeros(1)
        model.classes_ = np.array([False, True])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a hardly shrunk fit that goes on gaining nothing
        model.fit(
            difference[rows],
            np.arange(len(rows)) < len(wins),
            sample_weight=np.concatenate([(weight * first)[wins], (weight * (1 - first))[losses]]),
        )
    return np.asarray(model.coef_[0], dtype=np.float64)


def _both_sides(difference: Any, side: Floats) -> Any:
    forward = difference * side[0]
    if hasattr(difference, "tocsr"):
        from scipy.sparse import vstack

        return vstack([forward, -forward]).tocsr()
    return np.concatenate([forward, -forward])


def _check(pairs: PairTable) -> None:
    if len(pairs) == 0:
        remedy = "Build pairs for more prompts, or ask for another split."
        raise PrefkitError("training pairs", "none", "at least one", remedy)
    for name, values, good in (
        ("weight", pairs.weight, pairs.weight >= 0),
        ("preferred", pairs.preferred, (pairs.preferred >= 0) & (pairs.preferred <= 1)),
    ):
        if not good.all():
            value = values[~good][0]
            raise PrefkitError(f"a pair's {name}", f"{value:g}", "a number of its range", "Look at the pairs' weights.")
    if not pairs.weight.any():
        raise PrefkitError("the pairs' weights", "only zeros", "some above 0", "Give a weight to some annotator.")


def log_loss(margin: Floats, pairs: PairTable) -> float:
    """Mean negative log-likelihood of the pairs, in nats; 0.693 is a coin toss.

    Args:
        margin: [n] reward of the chosen minus that of the rejected response, in log-odds.
        pairs: their labels and weights.
    """
    losses = pairs.preferred * np.logaddexp(0, -margin) + (1 - pairs.preferred) * np.logaddexp(0, margin)
    return float(np.average(losses, weights=pairs.weight))


@dataclass(frozen=True)
class Searched(Generic[K]):
    """What a search within the training pairs chose.

    Args:
        key: the description taken.
        shrinkage: C.
        losses: out-of-fold log-loss of everything tried.
        margins: [n] out-of-fold differences of what was chosen; NaN where a pair's fold had no other to learn from.
    """

    key: K
    shrinkage: float
    losses: dict[tuple[K, float], float]
    margins: Floats = field(repr=False)


def search(
    keys: Sequence[K],
    described: Callable[[K], Any],
    pairs: PairTable,
    folds: Ints,
    shrinkages: Sequence[float] = SHRINKAGE,
    tried: Callable[[], None] = lambda: None,
    explained: int = 0,
) -> Searched[K]:
    """Choose a description and how much is shrunk, by the log-loss of pairs whose prompts were left out.

    Args:
        keys: what to choose from.
        described: gives the matrix of a key, [responses, width].
        pairs: over its rows.
        folds: [groups] the fold of each pair's group.
        shrinkages: values of C, ascending.
        tried: called after each key.
        explained: so many of the last columns explain the training pairs and are no part of a reward.
    """
    losses: dict[tuple[K, float], float] = {}
    best: tuple[float, K, float, Floats] | None = None
    fold = folds[pairs.group]
    for key in keys:
        x = described(key)
        margins = np.full((len(shrinkages), len(pairs)), np.nan)
        read = x.shape[1] - explained
        for left_out in np.unique(fold):
            train, test = pairs.where(fold != left_out), pairs.where(fold == left_out)
            if not len(train):
                continue
            weights: Floats | None = None
            for place, shrinkage in enumerate(shrinkages):
                weights = fit_weights(x, train, shrinkage, weights)
                reward = x[:, :read] @ weights[:read]
                margins[place, fold == left_out] = reward[test.chosen] - reward[test.rejected]
        known = ~np.isnan(margins[0])
        for place, shrinkage in enumerate(shrinkages):
            loss = log_loss(margins[place, known], pairs.where(known)) if known.any() else np.inf
            losses[key, shrinkage] = loss
            if best is None or loss < best[0]:
                best = (loss, key, shrinkage, margins[place])
        tried()
    if best is None:
        raise ValueError("nothing to choose from")
    return Searched(best[1], best[2], losses, best[3])


def temperature(margin: Floats, pairs: PairTable) -> float:
    """What margins are best divided by to be log-odds, within 1/20 and 20; 1 where nothing is known."""
    from scipy.optimize import minimize_scalar

    known = ~np.isnan(margin)
    if not known.any():
        return 1.0
    some = pairs.where(known)
    found = minimize_scalar(lambda t: log_loss(margin[known] / np.exp(t), some), bounds=(-3, 3), method="bounded")
    return float(np.exp(found.x))
