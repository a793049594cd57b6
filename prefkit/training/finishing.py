"""The end of a training: the model measured on what was held out, saved, and what it took.

Writes  reward-models/NAME/
    config.json, model.safetensors, tokenizer*, reward.json, README.md    the model (``reward_model``)
    training.json   settings, versions, counts, the course of the loss, figures; written last: where it is, all is

The model stands beside what it has to beat: length, words, who wrote it.
"""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from prefkit import __version__
from prefkit.durable import remove, replacing
from prefkit.training.begun import CHECKPOINTS, DONE, identity
from prefkit.training.building import device_name, quiet
from prefkit.training.card import Card
from prefkit.training.groups import Rewards, TokenGroup
from prefkit.training.heads import with_overall
from prefkit.training.held_out import beside_baselines
from prefkit.training.reward_info import RewardInfo, rubric_mark
from prefkit.training.reward_model import save_reward_model
from prefkit.training.reward_trainer import PackedRewardTrainer
from prefkit.training.settings import TrainingSettings
from prefkit.training.trained_report import Trained, versions
from prefkit.training.training_pairs import TrainingPairs, without_policies

SCALED_ON = 64
"""Groups of the training pairs whose rewards give the mean and the standard deviation that the model is saved with."""


@dataclass(frozen=True)
class _Measured:
    """What the trained model says: of held-out responses, and on which scale.

    Args:
        rewards: of each group of the held-out pairs.
        mean, std: of the rewards of some training responses.
        temperature: what margins are divided by to be log-odds.
    """

    rewards: list[Rewards]
    mean: float
    std: float
    temperature: float


def finish(
    trainer: PackedRewardTrainer,
    pairs: TrainingPairs,
    settings: TrainingSettings,
    folder: Path,
    seconds: float,
    resumed: int,
    say: Callable[[str], None],
) -> Trained:
    """Measure the model on what was held out, save it, and remove the checkpoints; on every process."""
    measured = _measured(trainer, pairs, settings)
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped) if trainer.way != "whole" else None
    report = _what_it_took(trainer, pairs, folder, seconds, resumed)
    if trainer.args.should_save:
        if pairs.test:
            report = _beside_baselines(report, pairs, measured, say)
        _save_model(trainer, pairs, settings, measured, report, weights)
        _write_done(folder, settings, pairs, trainer, report)
        remove(folder / CHECKPOINTS)
    trainer.accelerator.wait_for_everyone()
    return report


def _measured(trainer: PackedRewardTrainer, pairs: TrainingPairs, settings: TrainingSettings) -> _Measured:
    def scores(groups: Sequence[TokenGroup]) -> list[Rewards]:
        return [with_overall(outputs, trainer.pair_loss.combine) for outputs in trainer.scores(groups)]

    sample = np.random.default_rng(settings.seed).permutation(len(pairs.train))[:SCALED_ON]
    some = np.concatenate([of[:, 0] for of in scores([pairs.train[place] for place in sorted(sample)])])
    temperature = _temperature(pairs.validation, scores(pairs.validation))
    return _Measured(scores(pairs.test), float(some.mean()), float(some.std()) or 1.0, temperature)


def _what_it_took(
    trainer: PackedRewardTrainer, pairs: TrainingPairs, folder: Path, seconds: float, resumed: int
) -> Trained:
    steps, read = trainer.state.global_step, trainer.steps
    groups = [read.groups(*divmod(step, len(read))) for step in range(resumed, steps)]
    return Trained(
        folder=folder,
        counts=pairs.counts,
        steps=steps,
        resumed=resumed,
        seconds=seconds,
        pairs_per_second=sum(int(read.pairs[places].sum()) for places in groups) / seconds,
        tokens_per_second=sum(int(read.tokens[places].sum()) for places in groups) / seconds,
    )


def _beside_baselines(
    report: Trained, pairs: TrainingPairs, measured: _Measured, say: Callable[[str], None]
) -> Trained:
    assert pairs.read is not None  # what the first process read, and this is the first
    rows, notes = beside_baselines(
        without_policies(pairs.read, pairs.data.without),
        [group.group for group in pairs.test],
        np.concatenate(measured.rewards),
        name=report.folder.name,
        heads=pairs.heads,
        temperature=measured.temperature,
        temperature_from="validation pairs" if pairs.validation else "",
        source=str(pairs.data.held_out or pairs.data.source),
        say=say,
    )
    return replace(report, rows=rows, notes=notes)


def _save_model(
    trainer: PackedRewardTrainer,
    pairs: TrainingPairs,
    settings: TrainingSettings,
    measured: _Measured,
    report: Trained,
    weights: dict[str, Any] | None,
) -> None:
    info = RewardInfo(
        kind="trained",
        base=settings.base,
        template=None,
        max_tokens=settings.max_tokens or 0,
        plain=pairs.data.plain,
        heads=pairs.heads,
        combine=trainer.pair_loss.combine,
        mean=measured.mean,
        std=measured.std,
        temperature=measured.temperature,
        tie=trainer.pair_loss.tie,
        control_policies=settings.control_policies,
        rubric=rubric_mark(pairs.rubric),
    )
    card = Card(
        title=report.folder.name,
        base=settings.base,
        rubric=pairs.rubric,
        data={name: count for name, count in pairs.counts.items() if count},
        figures=report.rows,
        notes=report.notes,
    )
    tokenizer: Any = trainer.processing_class
    model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    with quiet():
        save_reward_model(
            model, tokenizer, report.folder, info, card=card, merge=not settings.quantize, state_dict=weights
        )


def _temperature(groups: Sequence[TokenGroup], rewards: Sequence[Rewards]) -> float:
    """What validation pairs say that margins must be divided by; 1 without any."""
    from prefkit.training.measuring.calibrating import fit_temperature

    pairs = [
        (float(of[pair.chosen, 0] - of[pair.rejected, 0]), pair.preferred)
        for group, of in zip(groups, rewards, strict=True)
        for pair in group.group.pairs
    ]
    if not pairs:
        return 1.0
    margin, preferred = np.array(pairs, np.float64).T
    return fit_temperature(margin, preferred)


def _write_done(
    folder: Path, settings: TrainingSettings, pairs: TrainingPairs, trainer: PackedRewardTrainer, report: Trained
) -> None:
    done = {
        "prefkit": __version__,
        "settings": asdict(settings),
        "base": identity(settings.base),
        "data": {"source": str(pairs.data.source), "digest": pairs.digest, **pairs.counts},
        "policies": pairs.policies,
        "versions": versions(),
        "device": device_name(),
        "processes": trainer.args.world_size,
        "sharded": trainer.way != "whole",
        "steps": report.steps,
        "seconds": round(report.seconds, 1),
        "pairs_per_second": round(report.pairs_per_second, 3),
        "tokens_per_second": round(report.tokens_per_second, 1),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "resumed_after_step": report.resumed,
        "history": trainer.state.log_history,
        "held_out": report.rows,
        "notes": report.notes,
    }
    with replacing(folder / DONE) as file:
        file.write(json.dumps(done, indent=1).encode() + b"\n")
