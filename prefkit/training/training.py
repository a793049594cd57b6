"""``prefkit train-rm``: pairs to a reward model, from the first token to the model's folder.

Reads   the pairs of a run or a file, a base model
Writes  reward-models/NAME/
    begun.json      what is trained on what: the same command goes on from the last checkpoint, another is refused
    scratch/        what is trained on, as tokens; removed at the end
    checkpoints/    to go on from; removed at the end
    config.json, model.safetensors, tokenizer*, reward.json, README.md    the model (``reward_model``)
    training.json   settings, versions, counts, the course of the loss, figures; written last: where it is, all is

The held-out pairs are scored at the end, and the model stands beside what it has to beat: length, words, who wrote it.
With several processes (``accelerate launch``, ``torchrun``) the first of each machine reads the data for all of them,
and the first of all writes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from prefkit.durable import remove
from prefkit.training.begun import CHECKPOINTS, begin, claimed
from prefkit.training.machine import PATIENCE, SCRATCH, Machine
from prefkit.training.settings import TrainingSettings
from prefkit.training.training_pairs import TrainingData, TrainingPairs, read_training_pairs

if TYPE_CHECKING:
    from prefkit.training.building import Built
    from prefkit.training.losses import RewardLoss
    from prefkit.training.policy_effects import PolicyEffects
    from prefkit.training.reward_trainer import PackedRewardTrainer
    from prefkit.training.trained_report import Trained

LINES = 50
"""Lines in the log of a training, about, unless asked otherwise."""

Opened = Callable[[str, int | None, str], Callable[[int], None]]


def model_folder(source: Path, base: str, name: str | None, out: Path | None) -> Path:
    """Where a reward model goes: into the run, or below where one stands; called after its base if not otherwise."""
    if out is not None:
        return out
    made = name or Path(base.rstrip("/")).name.lower()
    return (source if (source / "run.json").exists() else Path()) / "reward-models" / made


def train_reward_model(
    data: TrainingData,
    settings: TrainingSettings,
    folder: Path,
    *,
    overwrite: bool = False,
    opened: Opened = lambda title, total, unit: lambda done: None,
    say: Callable[[str], None] = lambda line: None,
) -> Trained:
    """Train a reward model, or go on with the training that was cut.

    Args:
        data: to train and measure on.
        settings: gaps are filled from the preset.
        folder: of the model.
        overwrite: throw away what is in the folder.
        opened: opens a progress bar: title, total, unit -> what is told how much is done in all.
        say: told lines worth reading, in the first process only.

    Raises:
        PrefkitError: there is nothing to learn from, the model cannot be loaded or trained, the folder holds a finished
            model or another training, or it cannot be written.
    """
    from accelerate import PartialState  # type: ignore[import-untyped]

    from prefkit.training.building import build, on_cpu, tokenizer_of, within_window
    from prefkit.training.finishing import finish
    from prefkit.training.packed_trainer import go_on
    from prefkit.training.preflight import preflight

    settings = settings.resolved()
    state = PartialState(cpu=on_cpu(), timeout=PATIENCE)
    if not state.is_main_process:
        opened, say = (lambda title, total, unit: lambda done: None), (lambda line: None)
    with ExitStack() as stack:
        if state.is_main_process:
            stack.enter_context(claimed(folder, overwrite))
        state.wait_for_everyone()
        tokenizer = tokenizer_of(settings.base)
        assert settings.max_tokens
        settings = replace(settings, max_tokens=within_window(settings.max_tokens, settings.base, tokenizer, say))
        machine = Machine.of(state)
        pairs = read_training_pairs(data, settings, tokenizer, say, folder, machine)
        if state.is_main_process:
            begin(folder, settings, pairs.digest)
        built = build(settings, tokenizer, num_labels=max(1, len(pairs.heads)))
        _say_what(say, settings, pairs, built)
        loss = _loss(settings, pairs)
        preflight(built.model, tokenizer, pairs.train, base=settings.base)
        trainer = _trainer(built, loss, pairs, settings, folder / CHECKPOINTS, opened, say)
        since, resumed = time.monotonic(), go_on(trainer, folder / CHECKPOINTS, say)
        seconds = time.monotonic() - since
        done = finish(trainer, pairs, settings, folder, seconds, resumed, say)
        if machine.writes:
            remove(folder / SCRATCH)
        return done


def _loss(settings: TrainingSettings, pairs: TrainingPairs) -> RewardLoss:
    from prefkit.training.heads import rubric_combine
    from prefkit.training.losses import LossSettings, RewardLoss

    combine: tuple[float, ...] = tuple(1 / len(pairs.heads) for _ in pairs.heads)
    if pairs.heads and pairs.rubric is not None and set(pairs.heads) <= set(pairs.rubric.principle_ids):
        combine = rubric_combine(pairs.rubric, pairs.heads)
    return RewardLoss(
        LossSettings(
            kind=settings.loss,
            label_smoothing=settings.label_smoothing,
            gap_margin=settings.margin,
            centring=settings.center,
            length_penalty=settings.length_penalty,
            combine=combine,
            learn_combine=bool(combine) and settings.combine == "learned",
        ),
        tie_share=pairs.tied / pairs.counts["training pairs"],
        effects=_effects(pairs) if settings.control_policies else None,
    )


def _effects(pairs: TrainingPairs) -> PolicyEffects:
    from prefkit.training.head_fitting import named_policies
    from prefkit.training.policy_effects import PolicyEffects

    return PolicyEffects(named_policies(pairs.policies), (group.group for group in pairs.train))


def _say_what(say: Callable[[str], None], settings: TrainingSettings, pairs: TrainingPairs, built: Built) -> None:
    from prefkit.training.building import device_name

    count = pairs.counts
    say(
        f"{count['training pairs']:,} pairs of {count['training prompts']:,} prompts,"
        f" {count['training responses']:,} responses, {count['training tokens']:,} tokens,"
        f" {'a prompt read again with each response' if built.padded else 'each read once an epoch'}"
    )
    share = built.trainable / sum(weight.numel() for weight in built.model.parameters())
    where = f"{settings.base}: {built.trainable / 1e6:,.1f} million weights learn ({share:.0%})"
    say(f"{where}, in {'bf16' if built.bf16 else 'fp32'} on {device_name()}")
    if settings.loss in ("rao-kupper", "davidson") and not pairs.tied:
        say(f"no pair is a tie, so {settings.loss} learns what bradley-terry does: see prefkit build-pairs --ties")
    if built.padded:
        say(f"rows are padded, as {built.padded}")


def _trainer(
    built: Built,
    loss: RewardLoss,
    pairs: TrainingPairs,
    settings: TrainingSettings,
    folder: Path,
    opened: Opened,
    say: Callable[[str], None],
) -> PackedRewardTrainer:
    from trl.trainer.reward_config import RewardConfig

    from prefkit.training.arguments import training_arguments
    from prefkit.training.building import quiet
    from prefkit.training.packed_trainer import Reporting, SaveByTime
    from prefkit.training.reward_trainer import PackedRewardTrainer

    assert settings.pairs_per_step and settings.row_tokens and settings.epochs
    steps = math.ceil(pairs.counts["training pairs"] / settings.pairs_per_step * settings.epochs)
    total = min(steps, settings.max_steps or steps)
    evaluate = bool(settings.evaluate_steps and (pairs.validation or pairs.test))
    assert settings.epochs and settings.learning_rate and settings.schedule and settings.warmup is not None
    with quiet():
        arguments = RewardConfig(
            **training_arguments(
                settings, built, folder, epochs=settings.epochs, learning_rate=settings.learning_rate,
                schedule=settings.schedule, warmup=settings.warmup,
                log_steps=settings.log_steps or max(1, total // LINES),
            ),
            eval_strategy="steps" if evaluate else "no",
            eval_steps=settings.evaluate_steps,
        )  # fmt: skip
        trainer = PackedRewardTrainer(
            built.model,
            arguments,
            tokenizer=built.tokenizer,
            loss=loss,
            groups=pairs.train,
            pairs_per_step=settings.pairs_per_step,
            row_tokens=settings.row_tokens,
            held_out=pairs.validation or pairs.test,
            principles=pairs.heads,
        )
    whole = math.ceil(len(trainer.steps) * settings.epochs)
    reach = opened("training", min(whole, settings.max_steps or whole), "steps")
    trainer.add_callback(Reporting(reach, lambda step, logs: _say_progress(say, step, logs)))
    if not settings.save_steps and settings.save_minutes:
        trainer.add_callback(SaveByTime(settings.save_minutes))
    return trainer


def _say_progress(say: Callable[[str], None], step: int, logs: Mapping[str, float]) -> None:
    words = {
        "loss": "loss {:.3f}", "eval_loss": "held out: loss {:.3f}", "accuracy": "accuracy {:.1%}",
        "eval_accuracy": "accuracy {:.1%}", "margin": "margin {:.2f}",
        "length correlation": "r(reward, length) {:+.2f}", "tokens_per_second": "{:,.0f} tokens/s",
    }  # fmt: skip
    line = ", ".join(form.format(logs[name]) for name, form in words.items() if name in logs)
    if "loss" in logs or "eval_loss" in logs:
        say(f"step {step}: {line}")
