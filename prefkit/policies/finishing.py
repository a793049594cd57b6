"""The end of a policy's training: the best weights saved, and what was seen.

Writes  policies/NAME/
    config.json, model.safetensors, tokenizer*, generation_config.json    the policy, adapters merged into it
    README.md, curves.svg    its card; its course in pictures
    training.json   settings, versions, counts, the course of the loss, looks; written last: where it is, all is
"""

from __future__ import annotations

import resource
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from prefkit import __version__
from prefkit.durable import explained_disk_errors, make_folders, open_to_others, remove, replacing
from prefkit.policies.course import notes
from prefkit.policies.curves import curves
from prefkit.policies.policy_card import policy_card
from prefkit.policies.policy_data import PolicyData
from prefkit.policies.policy_trainer import PackedPolicyTrainer
from prefkit.policies.settings import PolicySettings
from prefkit.policies.training import TrainedPolicy
from prefkit.policies.watching import BEST, Watch
from prefkit.training.begun import CHECKPOINTS, DONE, identity
from prefkit.training.building import device_name, quiet
from prefkit.training.settings import decisive
from prefkit.training.trained_report import versions
from prefkit.training.training_pairs import TrainingData


def finish(
    trainer: PackedPolicyTrainer,
    watch: Watch,
    data: TrainingData,
    read: PolicyData,
    settings: PolicySettings,
    folder: Path,
    reward_model: Path | None,
    seconds: float,
    resumed: int,
) -> TrainedPolicy:
    """Save the weights of the best look and what was seen, and remove the checkpoints; on every process."""
    kept, weights = watch.kept_step(), _weights(trainer, watch)
    report = _report(trainer, watch, read, settings, folder, seconds, resumed, kept)
    if trainer.args.should_save:
        _save(trainer, settings, folder, weights)
        history, named = trainer.state.log_history, reward_model.name if reward_model else None
        _write(folder / "curves.svg", curves(history, watch.looks, kept))
        _write(folder / "README.md", policy_card(report, settings, rubric=read.rubric, reward_model=named))
        _write_done(trainer, data, read, settings, report)
        remove(folder / BEST)
        remove(folder / CHECKPOINTS)
    trainer.accelerator.wait_for_everyone()
    return report


def _weights(trainer: PackedPolicyTrainer, watch: Watch) -> dict[str, Any] | None:
    """The best weights: given to the model on every process, or where no process holds all of them, by name."""
    best = watch.best_weights()
    if trainer.way != "whole":
        weights: dict[str, Any] = trainer.accelerator.get_state_dict(trainer.model_wrapped)
        return weights | best if trainer.args.should_save else weights
    model: Any = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    model.load_state_dict(best, strict=False)
    return None


def _report(
    trainer: PackedPolicyTrainer,
    watch: Watch,
    read: PolicyData,
    settings: PolicySettings,
    folder: Path,
    seconds: float,
    resumed: int,
    kept: int,
) -> TrainedPolicy:
    plan = trainer.steps
    groups = [plan.groups(*divmod(step, len(plan))) for step in range(resumed, trainer.state.global_step)]
    return TrainedPolicy(
        folder=folder,
        counts=read.counts,
        looks=tuple(watch.looks),
        kept=kept,
        steps=trainer.state.global_step,
        resumed=resumed,
        seconds=seconds,
        pairs_per_second=sum(int(plan.pairs[places].sum()) for places in groups) / seconds,
        tokens_per_second=sum(int(plan.tokens[places].sum()) for places in groups) / seconds,
        notes=notes(trainer.state.log_history, watch.looks, settings.method, kept),
    )


def _save(trainer: PackedPolicyTrainer, settings: PolicySettings, folder: Path, weights: dict[str, Any] | None) -> None:
    model: Any = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    tokenizer: Any = trainer.processing_class
    with quiet(), explained_disk_errors(folder):
        if weights is None and hasattr(model, "merge_and_unload") and not settings.quantize:
            model = model.merge_and_unload()
        make_folders(folder)
        model.save_pretrained(folder, **({} if weights is None else {"state_dict": weights}))
        tokenizer.save_pretrained(folder)
        for file in folder.glob("*.safetensors"):
            open_to_others(file)


def _write(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())


def _write_done(
    trainer: PackedPolicyTrainer,
    data: TrainingData,
    read: PolicyData,
    settings: PolicySettings,
    report: TrainedPolicy,
) -> None:
    done = {
        "kind": "policy",
        "prefkit": __version__,
        "settings": asdict(settings),
        "decisive": decisive(settings),
        "base": identity(settings.base),
        "data": {"source": str(data.source), "digest": read.digest, **read.counts},
        "versions": versions(),
        "device": device_name(),
        "processes": trainer.args.world_size,
        "sharded": trainer.way != "whole",
        "steps": report.steps,
        "kept_step": report.kept,
        "seconds": round(report.seconds, 1),
        "pairs_per_second": round(report.pairs_per_second, 3),
        "tokens_per_second": round(report.tokens_per_second, 1),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "resumed_after_step": report.resumed,
        "history": trainer.state.log_history,
        "looks": [_without_texts(msgspec.to_builtins(look)) for look in report.looks],
        "notes": report.notes,
    }
    _write(report.folder / DONE, msgspec.json.format(msgspec.json.encode(done), indent=1).decode() + "\n")


def _without_texts(look: dict[str, Any]) -> dict[str, Any]:
    """Texts stay in ``looks.jsonl``."""
    return {name: value for name, value in look.items() if name not in ("answers", "tokens", "start")}
