"""A frozen model with a linear head, as a reward model: opened, saved, scored.

Reads   reward-models/NAME/, and the base that the head was fitted on
Writes  reward-models/NAME/  reward.json, head.safetensors, README.md

A head (``head_fitting``) that reads the last token can be folded into a model of transformers that ends at its layer
(``folded``), which stands beside it as ``save_folded`` wrote it; one that reads the mean over the response cannot, and
is scored by prefkit.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prefkit.durable import explained_disk_errors, make_folders, replacing
from prefkit.errors import PrefkitError
from prefkit.training.baselines import Maker
from prefkit.training.bases import base_model
from prefkit.training.card import Card, model_card
from prefkit.training.features import FrozenReader, feature_cache, pooled, read_features, shortened
from prefkit.training.groups import Group, Rewards, Scorer
from prefkit.training.head_fitting import Fitter
from prefkit.training.linear import Floats
from prefkit.training.reward_info import NAME, Pooling, RewardInfo, read_info, write_info

HEAD = "head.safetensors"


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

    def maker(self, cache: Path | None = None) -> Maker:
        """Fits the same head anew, at the same layer and C, on other groups: for leaving policies or prompts out.

        Args:
            cache: where features are kept; None for the user's cache folder.
        """
        return lambda groups: self._fitted_anew(groups, cache or feature_cache())

    @property
    def tally(self) -> Mapping[str, int]:
        """Responses that were not read as they are, by reason."""
        return self.reader.tally

    def _fitted_anew(self, groups: Sequence[Group], cache: Path) -> Scorer:
        assert self.info.layer is not None and self.info.pooling is not None
        table = read_features(self.reader, groups, cache)
        fitter = Fitter(table, pooling=self.info.pooling, control_policies=self.info.control_policies)
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


def save_folded(model: FrozenRewardModel, folder: Path) -> str:
    """Write the model that ``folded`` gives beside the head, for transformers and as a base to train; what was done.

    Writes  config.json, model.safetensors, tokenizer*
    """
    from prefkit.training.building import quiet
    from prefkit.training.reward_model import save_classifier

    try:
        classifier, tokenizer, info = folded(model)
    except PrefkitError as error:
        return f"a head that only prefkit reads, as {model.info.base} has {error.found}"
    with quiet():
        save_classifier(classifier, tokenizer, folder, info)
    return f"the same as a model of {model.info.layer} layers that transformers loads, and train-rm --base"


def _fields(info: RewardInfo) -> dict[str, Any]:
    return {name: getattr(info, name) for name in info.__struct_fields__}


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
