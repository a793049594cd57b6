"""A reward model in minutes on a CPU: a linear head on what a frozen model sees in a response.

Reads   groups with pairs; features of their responses (``features``)
Writes  reward-models/NAME/  reward.json, head.safetensors, README.md

The head is a Bradley-Terry regression (``linear``). Which layer it reads and how much it is shrunk is chosen by
cross-validation over the prompts of the training pairs, so that validation and test are not looked at. A head that
reads the last token can be folded into a model of transformers that ends at its layer (``folded``); one that reads the
mean over the response cannot, and is scored by prefkit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from prefkit.durable import explained_disk_errors, make_folders, replacing
from prefkit.errors import PrefkitError
from prefkit.training.baselines import Maker
from prefkit.training.bases import base_model
from prefkit.training.card import Card, model_card
from prefkit.training.features import (
    FeatureTable,
    FrozenReader,
    Values,
    feature_cache,
    pooled,
    read_features,
    shortened,
)
from prefkit.training.groups import Group, Rewards, Scorer, subset
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
from prefkit.training.reward_info import NAME, Pooling, RewardInfo, read_info, write_info

HEAD = "head.safetensors"


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
    ) -> None:
        self.table = table
        self.layers = tuple(layers) if layers is not None else table.reader.layers
        self.pooling = pooling
        self.tally: Counter[str] = Counter()
        """Pairs that could not be fitted on, by reason."""
        self._shrinkages = shrinkages
        self._folds = folds
        self._seed = seed
        self._layers: dict[int, Values] = {}

    def layer(self, layer: int) -> Values:
        """The features of all responses at a layer, [rows, width]."""
        if layer not in self._layers:
            self._layers[layer] = self.table.layer(layer, self.pooling)
        return self._layers[layer]

    def fit(self, groups: Sequence[Group], tried: Callable[[], None] = lambda: None) -> Fit:
        """Choose a layer and C within these groups, and fit a head on all their pairs.

        Raises:
            PrefkitError: there are too few prompts to choose by, or no pairs.
        """
        readable = self._readable(groups)
        pairs = pair_table(readable)
        if not len(pairs):
            remedy = "Build pairs for more prompts, or ask for another split."
            raise PrefkitError("training pairs", "none", "at least one", remedy)
        rows = self.table.of(readable)

        def described(layer: int) -> Floats:
            x = self.layer(layer)[rows].astype(np.float64)
            return x / _spread(x[pairs.used()])

        folds = prompt_folds(readable, self._folds, seed=self._seed)
        found = search(self.layers, described, pairs, folds, self._shrinkages, tried)
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
        return fit_weights(x / scale, pairs, shrinkage) / scale

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


@dataclass(frozen=True)
class _CachedScorer:
    """A head on features from the cache."""

    reader: FrozenReader
    pooling: Pooling
    weights: Floats
    cache: Path
    heads: tuple[str, ...] = ()

    def rewards(self, groups: Iterable[Group]) -> Iterator[Rewards]:
        some = list(groups)
        table = read_features(self.reader, some, self.cache)
        rewards = table.layer(self.reader.layers[0], self.pooling) @ self.weights
        for group in some:
            yield rewards[table.of([group])].astype(np.float32)[:, None]


def _spread(x: Floats) -> Floats:
    spread = x.std(0)
    spread[spread == 0] = 1.0
    return np.asarray(spread)


class FrozenRewardModel:
    """A frozen model with its head: a ``Scorer``.

    Args:
        info: what ``reward.json`` says.
        weights: [width] of the features.
        reader: the frozen model, at the head's layer.
        shrinkage: scikit-learn's C that the head was fitted with.
    """

    heads: tuple[str, ...] = ()

    def __init__(self, info: RewardInfo, weights: Floats, reader: FrozenReader, shrinkage: float) -> None:
        self.info = info
        self.shrinkage = shrinkage
        self.weights = weights
        self.reader = reader

    @classmethod
    def load(cls, folder: Path, device: str | None = None) -> FrozenRewardModel:
        """Open a folder that ``save`` wrote.

        Raises:
            PrefkitError: it is no frozen reward model, its head is broken, or its base is another one by now.
        """
        from safetensors import SafetensorError, safe_open

        info = read_info(folder)
        if info.kind != "frozen" or info.layer is None or info.pooling is None:
            remedy = "Open it with RewardModel.load."
            raise PrefkitError(folder, f"a {info.kind} reward model", "a frozen one", remedy)
        reader = FrozenReader(
            info.base, layers=[info.layer], max_tokens=info.max_tokens, plain=info.plain, device=device
        )
        try:
            with safe_open(folder / HEAD, "np") as file:
                weights, said = file.get_tensor("weights"), file.metadata()
            digest, shrinkage = said["reader"], float(said["shrinkage"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise PrefkitError(
                folder / HEAD, str(error), "what prefkit wrote there", "Train the model again."
            ) from None
        width = reader.width * (2 if info.pooling == "mean+last" else 1)
        if digest != reader.digest or weights.shape != (width,):
            found = f"another model or chat template under {info.base} than the head was fitted on"
            remedy = "Put the base back as it was, or train the model again."
            raise PrefkitError(folder, found, f"the model with the digest {digest}", remedy)
        return cls(info, weights, reader, shrinkage)

    @classmethod
    def maker(cls, folder: Path, cache: Path | None = None, device: str | None = None) -> Maker:
        """Fits the same head anew, at the same layer and C, on other groups: for leaving policies or prompts out.

        Args:
            folder: that ``save`` wrote.
            cache: where features are kept; None for the user's cache folder.
            device: None for a GPU where there is one.
        """
        model = cls.load(folder, device)
        return lambda groups: model._fitted_anew(groups, cache or feature_cache())

    def _fitted_anew(self, groups: Sequence[Group], cache: Path) -> Scorer:
        assert self.info.layer is not None and self.info.pooling is not None
        table = read_features(self.reader, groups, cache)
        fitter = Fitter(table, pooling=self.info.pooling)
        return _CachedScorer(
            self.reader, self.info.pooling, fitter.fit_at(groups, self.info.layer, self.shrinkage), cache
        )

    def save(self, folder: Path, card: Card | None = None) -> None:
        """Write the head and the card; ``reward.json`` comes last, so that a folder that has it is whole."""
        from safetensors.numpy import save

        with explained_disk_errors(folder):
            make_folders(folder)
            (folder / NAME).unlink(missing_ok=True)
        with replacing(folder / HEAD) as file:
            said = {"reader": self.reader.digest, "shrinkage": repr(self.shrinkage)}
            file.write(save({"weights": self.weights}, metadata=said))
        with replacing(folder / "README.md") as file:
            file.write(model_card(card or Card(), self.info).encode())
        write_info(folder, self.info)

    def rewards(self, groups: Iterable[Group]) -> Iterator[Rewards]:
        """See ``Scorer``; NaN for a response that is too long to be read."""
        assert self.info.pooling is not None
        for _, values in self.reader.read(groups):
            features = pooled(values[:, self.reader.layers.index(self.info.layer or 0)], self.info.pooling)
            yield (features @ self.weights).astype(np.float32)[:, None]


def folded(model: FrozenRewardModel) -> tuple[Any, Any, RewardInfo]:
    """The same rewards from a model of transformers: a sequence classifier that ends at the head's layer.

    Returns:
        (model, tokenizer, info), as ``save_reward_model`` takes them.

    Raises:
        PrefkitError: the head does not read the last token alone, or the base is no decoder with a ``score`` head.
    """
    import torch
    from transformers import AutoConfig, AutoModelForSequenceClassification

    from prefkit.training.building import quiet

    reader, info = model.reader, model.info
    if info.pooling != "last" or info.layer is None:
        remedy = "Fit it with --pooling last, or leave it to prefkit to score."
        raise PrefkitError("a frozen head", f"pooling {info.pooling}", "pooling last", remedy)
    config = shortened(AutoConfig.from_pretrained(base_model(info.base)), info.layer)
    config.num_labels = 1
    with quiet():
        classifier = AutoModelForSequenceClassification.from_pretrained(
            base_model(info.base), config=config, dtype=torch.float32
        ).eval()
    if not hasattr(classifier, "score"):
        remedy = "Leave it to prefkit to score."
        raise PrefkitError(info.base, "no linear head on the last token", "a decoder of transformers", remedy)
    with torch.no_grad():
        classifier.score.weight.copy_(torch.as_tensor(model.weights)[None])
    plain = RewardInfo(**{**_fields(info), "kind": "trained", "layer": None, "pooling": None})
    return classifier, reader.tokenizer, plain


def _fields(info: RewardInfo) -> dict[str, Any]:
    return {name: getattr(info, name) for name in info.__struct_fields__}


@dataclass(frozen=True)
class FrozenReport:
    """What ``train_frozen`` did.

    Args:
        model: what it wrote.
        fit: the head and how it was chosen.
        responses: whose features were read or found.
        tally: what was cut or not read, by reason.
    """

    model: FrozenRewardModel
    fit: Fit
    responses: int
    tally: Counter[str]


def train_frozen(
    groups: Iterable[Group],
    folder: Path,
    *,
    base: str = "smollm2",
    layer: int | None = None,
    pooling: Pooling = "mean",
    max_tokens: int = 2048,
    plain: bool = False,
    seed: int = 0,
    card: Card | None = None,
    cache: Path | None = None,
    device: str | None = None,
    done: Callable[[int], None] = lambda responses: None,
    tried: Callable[[], None] = lambda: None,
) -> FrozenReport:
    """Fit a head on groups' pairs and write the reward model.

    Args:
        groups: of the training split.
        folder: reward-models/NAME.
        base: see ``base_model``.
        layer: whose states are read; None to choose one.
        pooling: ``mean`` over the response, its ``last`` token, or both.
        max_tokens: of a prompt with a response.
        plain: write words as they are, without the chat template.
        seed: shuffles prompts for the search.
        card: what the model card says.
        cache: where features are kept; None for the user's cache folder.
        device: None for a GPU where there is one.
        done: called with the number of responses read or found, group by group.
        tried: called after each layer of the search.

    Raises:
        PrefkitError: no pairs, too few prompts to choose by, no such base or layer, a folder that cannot be written.
    """
    some = [group for group in groups if group.pairs]

    def opened(layers: Sequence[int] | None) -> FrozenReader:
        return FrozenReader(base, layers=layers, max_tokens=max_tokens, plain=plain, device=device)

    reader = opened(None if layer is None else [layer])
    table = read_features(reader, some, cache or feature_cache(), done)
    fitter = Fitter(table, pooling=pooling, seed=seed)
    fit = fitter.fit(some, tried)
    info = RewardInfo(
        kind="frozen",
        base=base,
        template=reader.template,
        max_tokens=reader.max_tokens,
        plain=plain,
        mean=fit.mean,
        std=fit.std,
        temperature=fit.temperature,
        layer=fit.layer,
        pooling=pooling,
    )
    at_layer = reader if reader.layers == (fit.layer,) else opened([fit.layer])
    model = FrozenRewardModel(info, fit.weights, at_layer, fit.shrinkage)
    model.save(folder, card)
    return FrozenReport(model, fit, len(table.places), reader.tally + fitter.tally)
