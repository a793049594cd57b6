"""A linear head fitted on what a frozen model sees in a response.

Reads   groups with pairs; features of their responses (``features``)
Gives   a Fit: the weights, and how they were chosen; nothing is written

The head is a Bradley-Terry regression (``linear``). With policies controlled for, each policy has an effect of its own
beside the features, so that what tells policies apart need not be said by the features; rewards are made of the
features alone, and a policy that nobody saw has no effect to miss. Which layer it reads and how much it is shrunk is
chosen by cross-validation over the prompts of the training pairs, so that validation and test are not looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from prefkit.errors import PrefkitError
from prefkit.training.baselines import Maker
from prefkit.training.features import FeatureTable, Values
from prefkit.training.groups import Group, Rewards, subset
from prefkit.training.linear import (
    FOLDS,
    SHRINKAGE,
    Floats,
    fit_weights,
    pair_table,
    prompt_folds,
    search,
    temperature,
)
from prefkit.training.preference_files import UNKNOWN
from prefkit.training.reward_info import Pooling

HARDLY = 10.0
"""The scale of a policy's column beside features of scale 1: its effect is shrunk a hundred times less."""


@dataclass(frozen=True)
class Fit:
    """A head, and how it was chosen.

    Args:
        layer, pooling: of the features it reads.
        shrinkage: scikit-learn's C.
        weights: [width] so that features times weights are rewards.
        losses: out-of-fold log-loss of each layer and C that was tried, within the training pairs.
        accuracy: out-of-fold, of the pairs with a preferred side; the choice was made on the same pairs, so it is a
            little too high.
        temperature: what differences are divided by to be log-odds, from the same pairs.
        mean, std: of the rewards of the training responses.
        pairs: how many it was fitted on.
    """

    layer: int
    pooling: Pooling
    shrinkage: float
    weights: Floats = field(repr=False)
    losses: dict[tuple[int, float], float] = field(repr=False)
    accuracy: float
    temperature: float
    mean: float
    std: float
    pairs: int


class Fitter:
    """Fits heads on features that were read before; a layer stays in memory once it was looked at.

    Args:
        table: the features.
        layers: to choose from; None for all that were read.
        pooling: what of each layer.
        shrinkages: values of C to choose from, ascending.
        folds: of the search.
        seed: shuffles prompts.
        control_policies: give each policy an effect that is no part of the reward.
    """

    def __init__(
        self,
        table: FeatureTable,
        *,
        layers: Sequence[int] | None = None,
        pooling: Pooling = "mean",
        shrinkages: Sequence[float] = SHRINKAGE,
        folds: int = FOLDS,
        seed: int = 0,
        control_policies: bool = False,
    ) -> None:
        self.table = table
        self.layers = tuple(layers) if layers is not None else table.reader.layers
        self.pooling = pooling
        self.tally: Counter[str] = Counter()
        """Pairs that could not be fitted on, by reason."""
        self._shrinkages = shrinkages
        self._folds = folds
        self._seed = seed
        self._control_policies = control_policies
        self._layers: dict[int, Values] = {}

    def layer(self, layer: int) -> Values:
        """The features of all responses at a layer, [rows, width]."""
        if layer not in self._layers:
            self._layers[layer] = self.table.layer(layer, self.pooling)
        return self._layers[layer]

    def fit(self, groups: Sequence[Group], tried: Callable[[], None] = lambda: None) -> Fit:
        """Choose a layer and C within these groups, and fit a head on all their pairs.

        Raises:
            PrefkitError: there are too few prompts to choose by, no pairs, or no policies to control for.
        """
        readable = self._readable(groups)
        pairs = pair_table(readable)
        if not len(pairs):
            remedy = "Build pairs for more prompts, or ask for another split."
            raise PrefkitError("training pairs", "none", "at least one", remedy)
        rows, effects = self.table.of(readable), self._effects(readable)

        def described(layer: int) -> Floats:
            x = self.layer(layer)[rows].astype(np.float64)
            return np.hstack([x / _spread(x[pairs.used()]), effects])

        folds = prompt_folds(readable, self._folds, seed=self._seed)
        found = search(self.layers, described, pairs, folds, self._shrinkages, tried, effects.shape[1])
        weights = self.fit_at(readable, found.key, found.shrinkage)
        rewards = (self.layer(found.key)[rows] @ weights)[pairs.used()]
        decided = ~np.isnan(found.margins) & (pairs.preferred != 0.5)
        right = (found.margins[decided] > 0) == (pairs.preferred[decided] > 0.5)
        return Fit(
            layer=found.key,
            pooling=self.pooling,
            shrinkage=found.shrinkage,
            weights=weights,
            losses=found.losses,
            accuracy=float(right.mean()) if len(right) else float("nan"),
            temperature=temperature(found.margins, pairs),
            mean=float(rewards.mean()),
            std=float(rewards.std()) or 1.0,
            pairs=len(pairs),
        )

    def fit_at(self, groups: Sequence[Group], layer: int, shrinkage: float) -> Floats:
        """The weights of a head on features of a layer as they are, [width], with no search."""
        readable = self._readable(groups)
        pairs = pair_table(readable)
        x = self.layer(layer)[self.table.of(readable)].astype(np.float64)
        scale = _spread(x[pairs.used()])
        weights = fit_weights(np.hstack([x / scale, self._effects(readable)]), pairs, shrinkage)
        return weights[: len(scale)] / scale

    def _effects(self, groups: Sequence[Group]) -> Floats:
        """Who wrote each response, [responses, policies], hardly shrunk; no column where it is not controlled for.

        Raises:
            PrefkitError: fewer than two policies have a name.
        """
        wrote = [policy for group in groups for policy in group.policies]
        if not self._control_policies:
            return np.zeros((len(wrote), 0))
        names = np.array(named_policies(wrote))
        return HARDLY * (np.array(wrote)[:, None] == names[None]).astype(np.float64)

    def _readable(self, groups: Sequence[Group]) -> list[Group]:
        """The groups without responses that were too long to be read."""
        first = self.layer(self.layers[0])
        found = []
        for group in groups:
            missing = np.isnan(first[self.table.of([group]), 0])
            if missing.any():
                kept = subset(group, np.flatnonzero(~missing).tolist())
                self.tally["pairs with an over-long response"] += len(group.pairs) - len(kept.pairs)
                group = kept
            found.append(group)
        return found

    def maker(self) -> Maker:
        """For ``cross_validated``: fits, and scores from the same features."""
        return lambda groups: FittedScorer(self, self.fit(groups))


@dataclass(frozen=True)
class FittedScorer:
    """A head on features that were read before."""

    fitter: Fitter
    fit: Fit
    heads: tuple[str, ...] = ()

    def rewards(self, groups: Iterable[Group]) -> Iterator[Rewards]:
        """See ``Scorer``."""
        x = self.fitter.layer(self.fit.layer)
        for group in groups:
            yield (x[self.fitter.table.of([group])] @ self.fit.weights).astype(np.float32)[:, None]


def named_policies(policies: Iterable[str]) -> tuple[str, ...]:
    """The policies that can be controlled for, sorted.

    Args:
        policies: that wrote the responses to train on; those without a name have no effect.

    Raises:
        PrefkitError: fewer than two have a name.
    """
    names = sorted(set(policies) - {UNKNOWN})
    if len(names) < 2:
        remedy = "Leave --control-policies out, or name them (chosen_policy, rejected_policy in a file)."
        raise PrefkitError("training pairs", f"{len(names)} named policies", "at least two", remedy)
    return tuple(names)


def _spread(x: Floats) -> Floats:
    spread = x.std(0)
    spread[spread == 0] = 1.0
    return np.asarray(spread)
