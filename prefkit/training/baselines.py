"""What any reward model has to beat: the response's length, its words, and who wrote it.

Each is a Scorer, fitted by a Bradley-Terry regression on the same pairs as the model beside it. ``policy identity``
knows nothing but the policy that wrote a response: where it does as well as a reward model, that model may have learned
to tell policies apart and nothing else. Leaving policies out shows which: there a pair is scored by a model that saw
neither its prompt nor a response of either of its two policies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from prefkit.errors import PrefkitError
from prefkit.training.groups import Group, Pair, Rewards, Scorer, subset
from prefkit.training.linear import FOLDS, Floats, fit_weights, pair_table, prompt_folds, search

Maker = Callable[[Sequence[Group]], Scorer]
"""Fits a scorer on groups."""

POLICY_BUNDLES = 5
"""With more policies than this, they are left out in bundles: each pair of bundles is one fit a fold."""


@dataclass(frozen=True)
class LengthOnly:
    """Rewards from the number of characters alone."""

    weights: Floats
    scale: Floats
    heads: tuple[str, ...] = ()

    @classmethod
    def fitted(cls, groups: Sequence[Group]) -> LengthOnly:
        """Fit on the groups' pairs."""
        lengths = _stacked(groups, _lengths)
        scale = _spread(lengths)
        return cls(fit_weights(lengths / scale, pair_table(groups), shrinkage=1.0), scale)

    def rewards(self, groups: Iterable[Group]) -> Iterator[Rewards]:
        """See ``Scorer``."""
        for group in groups:
            yield _column(_lengths(group) / self.scale @ self.weights)


def _lengths(group: Group) -> Floats:
    return np.array([[len(text)] for text in group.texts], dtype=np.float64)


@dataclass(frozen=True)
class BagOfWords:
    """Rewards from which words and pairs of words a response holds: TF-IDF, linear."""

    vectorizer: Any = field(repr=False)
    weights: Floats = field(repr=False)
    shrinkage: float
    heads: tuple[str, ...] = ()

    SHRINKAGE = (0.1, 1.0, 10.0, 100.0)

    @classmethod
    def fitted(cls, groups: Sequence[Group], seed: int = 0) -> BagOfWords:
        """Fit on the groups' pairs; how much is shrunk is chosen by cross-validation over their prompts."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
        texts = [text for group in groups for text in group.texts]
        try:
            x = vectorizer.fit_transform(texts)
        except ValueError:
            found = f"{len(texts)} texts without a word in common"
            raise PrefkitError("bag of words", found, "words that stand in two texts", "Give more pairs.") from None
        pairs = pair_table(groups)
        shrinkage = _searched_shrinkage(x, groups, cls.SHRINKAGE, seed)
        return cls(vectorizer, fit_weights(x, pairs, shrinkage), shrinkage)

    def rewards(self, groups: Iterable[Group]) -> Iterator[Rewards]:
        """See ``Scorer``."""
        for group in groups:
            yield _column(self.vectorizer.transform(group.texts) @ self.weights)


def _searched_shrinkage(x: Any, groups: Sequence[Group], values: Sequence[float], seed: int) -> float:
    try:
        folds = prompt_folds(groups, seed=seed)
    except PrefkitError:  # too few prompts to choose by
        return values[len(values) // 2]
    return search([0], lambda _: x, pair_table(groups), folds, values).shrinkage


@dataclass(frozen=True)
class PolicyIdentity:
    """Rewards from who wrote a response alone; a policy that was not seen has the reward 0."""

    strength: dict[str, float]
    heads: tuple[str, ...] = ()

    @classmethod
    def fitted(cls, groups: Sequence[Group]) -> PolicyIdentity:
        """Fit on the groups' pairs."""
        names = sorted({policy for group in groups for policy in group.policies})
        place = {name: number for number, name in enumerate(names)}
        one_hot = np.eye(len(names))[[place[policy] for group in groups for policy in group.policies]]
        return cls(dict(zip(names, fit_weights(one_hot, pair_table(groups), shrinkage=1.0).tolist(), strict=True)))

    def rewards(self, groups: Iterable[Group]) -> Iterator[Rewards]:
        """See ``Scorer``."""
        for group in groups:
            yield _column(np.array([self.strength.get(policy, 0.0) for policy in group.policies]))


BASELINES: dict[str, Maker] = {
    "length only": LengthOnly.fitted,
    "bag of words": BagOfWords.fitted,
    "policy identity": PolicyIdentity.fitted,
}
"""What every report shows beside a reward model."""


def _stacked(groups: Sequence[Group], of: Callable[[Group], Floats]) -> Floats:
    return np.concatenate([of(group) for group in groups])


def _spread(x: npt.NDArray[Any]) -> Floats:
    spread = np.asarray(x.std(0), dtype=np.float64)
    spread[spread == 0] = 1.0
    return spread


def _column(reward: npt.NDArray[Any]) -> Rewards:
    return np.asarray(reward, dtype=np.float32)[:, None]


@dataclass(frozen=True)
class OutOfFold:
    """Rewards that no pair's own model had a hand in.

    Args:
        rewards: for each group [pairs, 2], of the chosen and the rejected response of each pair; NaN where the pair was
            left to no model, being the only one of its kind.
        tally: how many pairs were scored, and how many were not, by reason.
    """

    rewards: list[npt.NDArray[np.float32]]
    tally: Counter[str]


def cross_validated(
    make: Maker,
    groups: Sequence[Group],
    *,
    folds: int = FOLDS,
    leave_policies_out: bool = False,
    train_on: Callable[[Pair], bool] = lambda pair: True,
    seed: int = 0,
    fitted: Callable[[], None] = lambda: None,
) -> OutOfFold:
    """Score each pair by a scorer that never saw its prompt, nor, if asked, its policies.

    Args:
        make: fits a scorer.
        groups: prompts with their responses and pairs.
        folds: over prompts, near-duplicates together.
        leave_policies_out: also leave out of training all responses of the two policies of the pairs that are scored;
            more than five policies are left out in bundles.
        train_on: which pairs are trained on; all are scored.
        seed: shuffles prompts.
        fitted: called after each fit.

    Raises:
        PrefkitError: there are fewer prompts than folds, or fewer than four policies to leave two of them out.
    """
    fold = prompt_folds(groups, folds, seed=seed)
    left_outs = _left_out(groups) if leave_policies_out else [None]
    found = _nothing_scored(groups)
    for left_out in left_outs:
        for number in range(folds):
            training = [groups[place] for place in np.flatnonzero(fold != number).tolist()]
            places = np.flatnonzero(fold == number).tolist()
            if _score(make, training, groups, places, left_out, train_on, found):
                fitted()
    return found


def policies_left_out(
    make: Maker,
    training: Sequence[Group],
    held_out: Sequence[Group],
    *,
    train_on: Callable[[Pair], bool] = lambda pair: True,
    fitted: Callable[[], None] = lambda: None,
) -> OutOfFold:
    """Score each held-out pair by a scorer that was fitted on the training groups without the pair's two policies.

    Args:
        make: fits a scorer.
        training, held_out: of different prompts.
        train_on: which pairs are trained on.
        fitted: called after each fit: ten for five policies or more.

    Raises:
        PrefkitError: there are fewer than four policies.
    """
    found = _nothing_scored(held_out)
    for left_out in _left_out([*training, *held_out]):
        if _score(make, training, held_out, range(len(held_out)), left_out, train_on, found):
            fitted()
    return found


def _nothing_scored(groups: Sequence[Group]) -> OutOfFold:
    return OutOfFold([np.full((len(group.pairs), 2), np.nan, dtype=np.float32) for group in groups], Counter())


def _score(
    make: Maker,
    training: Iterable[Group],
    groups: Sequence[Group],
    places: Iterable[int],
    left_out: _LeftOut | None,
    train_on: Callable[[Pair], bool],
    found: OutOfFold,
) -> bool:
    """Fit once and score the pairs of some groups that the fit is asked about; False where there was nothing to do."""
    tested = [(place, positions) for place in places if (positions := _positions(groups[place], left_out))]
    if not tested:
        return False
    train = list(_training(training, left_out, train_on))
    if not train:
        found.tally["pairs without others to learn from"] += sum(len(positions) for _, positions in tested)
        return False
    scored = make(train).rewards([groups[place] for place, _ in tested])
    for (place, positions), given in zip(tested, scored, strict=True):
        for position in positions:
            pair = groups[place].pairs[position]
            found.rewards[place][position] = given[pair.chosen, 0], given[pair.rejected, 0]
        found.tally["pairs"] += len(positions)
    return True


@dataclass(frozen=True)
class _LeftOut:
    """Policies that a model may not see, and the pairs that it is asked about: those between two bundles of them."""

    first: frozenset[str]
    second: frozenset[str]

    @property
    def all(self) -> frozenset[str]:
        return self.first | self.second

    def about(self, one: str, other: str) -> bool:
        return (one in self.first and other in self.second) or (one in self.second and other in self.first)


def _left_out(groups: Sequence[Group]) -> list[_LeftOut]:
    found = Counter(policy for group in groups for policy in group.policies)
    if len(found) < 4:
        expected = "at least four, to leave out two and learn from the others"
        remedy = "Import responses of more policies, or leave out prompts only."
        raise PrefkitError("policies", f"{len(found)}", expected, remedy)
    names = sorted(found, key=lambda name: (-found[name], name))
    bundles = [frozenset(names[start::POLICY_BUNDLES]) for start in range(min(POLICY_BUNDLES, len(names)))]
    return [
        _LeftOut(first, second)
        for place, first in enumerate(bundles)
        for second in bundles[place:]
        if first is not second or len(first) > 1
    ]


def _positions(group: Group, left_out: _LeftOut | None) -> list[int]:
    """The pairs of a group that a model is asked about."""
    return [
        position
        for position, pair in enumerate(group.pairs)
        if left_out is None or left_out.about(group.policies[pair.chosen], group.policies[pair.rejected])
    ]


def _training(groups: Iterable[Group], left_out: _LeftOut | None, train_on: Callable[[Pair], bool]) -> Iterator[Group]:
    banned = left_out.all if left_out else frozenset()
    for group in groups:
        wanted = replace(group, pairs=tuple(pair for pair in group.pairs if train_on(pair)))
        known = subset(wanted, [place for place, policy in enumerate(group.policies) if policy not in banned])
        if known.pairs:
            yield known
