"""``prefkit train-rm --frozen``: a head on what a base model makes of the texts, and no weight of the base changed.

Reads   the pairs of a run or a file, a base model
Writes  reward-models/NAME/   the head (``frozen``), README.md; for a head on the last token the model that it folds
                              into; training.json, written last
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from prefkit import __version__
from prefkit.durable import replacing
from prefkit.training.begun import DONE, claimed, identity
from prefkit.training.card import Card
from prefkit.training.examples import read_groups
from prefkit.training.features import FrozenReader, feature_cache, read_features
from prefkit.training.frozen import FrozenRewardModel, save_folded
from prefkit.training.groups import Group
from prefkit.training.head_fitting import Fit, Fitter
from prefkit.training.held_out import beside_baselines
from prefkit.training.machine import need_one_process
from prefkit.training.reward_info import Pooling, RewardInfo, rubric_mark
from prefkit.training.trained_report import Trained, versions
from prefkit.training.training_pairs import TrainingData, held_out_groups, rubric_of, without_policies

Opened = Callable[[str, int | None, str], Callable[[int], None]]


@dataclass(frozen=True, kw_only=True)
class FrozenSettings:
    """The choices of ``--frozen``.

    Args:
        base: a folder, a Hub id, or ``smollm2``; sentence encoders too.
        layer: whose hidden states are read; None to choose one by cross-validation inside the training pairs.
        pooling: the mean over the response, its last token, or both.
        max_tokens: of a prompt with a response.
        control_policies: fit the head beside an effect of each policy, which is no part of the reward.
        seed: of the folds.
    """

    base: str
    layer: int | None = None
    pooling: Pooling = "mean"
    control_policies: bool = False
    max_tokens: int = 2048
    seed: int = 0


def train_frozen_reward_model(
    data: TrainingData,
    settings: FrozenSettings,
    folder: Path,
    *,
    overwrite: bool = False,
    opened: Opened = lambda title, total, unit: lambda done: None,
    say: Callable[[str], None] = lambda line: None,
) -> Trained:
    """Fit a head on a frozen model's features; the arguments are those of ``train_reward_model``.

    Raises:
        PrefkitError: there is nothing to learn from, the base cannot be read, the folder holds something else, or there
            are several processes.
    """
    need_one_process("train-rm --frozen")
    with claimed(folder, overwrite):
        since = time.monotonic()
        read = read_groups(data.source, data.split, plain=data.plain, soft=data.soft, weights=data.weights)
        train = list(without_policies(read, data.without))
        held_out = list(held_out_groups(data, "test"))
        counts = {
            "training pairs": sum(len(group.pairs) for group in train),
            "training prompts": len(train),
            "training responses": sum(len(group.texts) for group in train),
            "held-out pairs": sum(len(group.pairs) for group in held_out),
        }
        say(f"{counts['training pairs']:,} pairs of {len(train):,} prompts, {counts['training responses']:,} responses")
        report = train_frozen(
            train, folder, **asdict(settings), plain=data.plain,
            done=opened("reading", counts["training responses"], "responses"),
        )  # fmt: skip
        model, rows, notes = report.model, list[dict[str, str]](), list[str]()
        say(f"layer {model.info.layer} of {settings.base}, {settings.pooling} of the response")
        counts |= report.tally
        for reason, count in report.tally.items():
            say(f"  {count:,} {reason}")
        if held_out:
            rewards = np.concatenate(list(model.rewards(held_out)))
            rows, notes = beside_baselines(
                train, held_out, rewards, name=folder.name, temperature=model.info.temperature,
                temperature_from="cross-validation", source=str(data.held_out or data.source), say=say,
            )  # fmt: skip
        card = Card(title=folder.name, base=settings.base, rubric=rubric_of(data.source), data=counts, figures=rows,
                    notes=notes)  # fmt: skip
        model.save(folder, card)
        if settings.pooling == "last":
            say(save_folded(model, folder))
        seconds = time.monotonic() - since
        done = {
            "prefkit": __version__,
            "settings": {"frozen": True, **asdict(settings)},
            "base": identity(settings.base),
            "data": {"source": str(data.source), **counts},
            "policies": sorted({policy for group in train for policy in group.policies}),
            "versions": versions(),
            "seconds": round(seconds, 1),
            "held_out": rows,
            "notes": notes,
        }
        with replacing(folder / DONE) as file:
            file.write(json.dumps(done, indent=1).encode() + b"\n")
    return Trained(folder=folder, counts=counts, rows=rows, notes=notes, seconds=seconds)


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
    control_policies: bool = False,
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
        control_policies: see ``Fitter``.
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
    fitter = Fitter(table, pooling=pooling, seed=seed, control_policies=control_policies)
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
        control_policies=control_policies,
        rubric=rubric_mark(card.rubric) if card else None,
    )
    at_layer = reader if reader.layers == (fit.layer,) else opened([fit.layer])
    model = FrozenRewardModel(info, fit.weights, at_layer, fit.shrinkage)
    model.save(folder, card)
    return FrozenReport(model, fit, len(table.places), reader.tally + fitter.tally)
