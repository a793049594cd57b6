"""The arguments of transformers that every training gets: where, how long, how fast, how often it is noted and kept."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from prefkit.training.building import Built, on_cpu
from prefkit.training.settings import CommonSettings, Schedule


def training_arguments(
    settings: CommonSettings,
    built: Built,
    folder: Path,
    *,
    epochs: float,
    learning_rate: float,
    schedule: Schedule,
    warmup: float,
    log_steps: int,
) -> dict[str, Any]:
    """What ``TrainingArguments`` and trl's configs are made of.

    Args:
        settings: of the training.
        built: what is trained.
        folder: of the checkpoints.
        epochs: passes over the data.
        learning_rate: at its highest.
        schedule, warmup: how it goes; the share of steps in which it rises.
        log_steps: how often the loss is noted.
    """
    return {
        "output_dir": str(folder),
        "use_cpu": on_cpu(),
        "seed": settings.seed,
        "num_train_epochs": epochs,
        "max_steps": settings.max_steps or -1,
        "learning_rate": learning_rate,
        "lr_scheduler_type": "constant_with_warmup" if schedule == "constant" else schedule,
        "warmup_steps": warmup,
        "weight_decay": settings.weight_decay,
        "bf16": built.bf16,
        "gradient_checkpointing": built.checkpointing,
        "logging_steps": log_steps,
        "logging_nan_inf_filter": False,  # a loss that is no number is an error here
        "save_strategy": "steps",
        "save_steps": settings.save_steps or sys.maxsize,
        "save_total_limit": 1,
        "ddp_find_unused_parameters": False,
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
        "disable_tqdm": True,
        "report_to": "none",
    }
