"""The choices of ``prefkit train-rm``: what each is, and the two presets.

A field left at None is taken from the preset; ``resolved`` gives settings without such gaps. What follows from the
machine, such as the precision, stays open here and is decided where the model is loaded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from prefkit.errors import PrefkitError

Preset = Literal["paper", "cpu"]
Loss = Literal["bradley-terry", "rao-kupper", "davidson", "hinge"]
Heads = Literal["one", "principles"]
Combine = Literal["learned", "fixed"]
OverLong = Literal["drop", "cut"]
Schedule = Literal["linear", "cosine", "constant"]
Precision = Literal["auto", "fp32", "bf16"]

PRESETS: dict[Preset, dict[str, Any]] = {
    # arXiv:2502.19731, section 4.2, for Llama-3.2-3B and Llama-3.1-8B.
    "paper": {
        "epochs": 2.0, "pairs_per_step": 128, "learning_rate": 9e-6, "max_tokens": 2048, "schedule": "cosine",
        "warmup": 0.03, "row_tokens": 8192,
    },
    # A small model in minutes to hours on one or two cores.
    "cpu": {
        "epochs": 1.0, "pairs_per_step": 32, "learning_rate": 3e-5, "max_tokens": 1024, "schedule": "linear",
        "warmup": 0.1, "row_tokens": 2048,
    },
}  # fmt: skip
LORA_LEARNING_RATE = 10.0
"""How many times the preset's learning rate is when only an adapter is trained, which starts from nothing."""


@dataclass(frozen=True, kw_only=True)
class CommonSettings:
    """What every training chooses.

    Args:
        base: a folder, a Hub id, or ``smollm2``.
        over_long: what happens to texts of more than ``max_tokens``: ``drop`` leaves the response out, ``cut`` shortens
            the prompt from the left.
        weight_decay: of AdamW.
        label_smoothing: share of every label that goes to the other side.
        lora: rank of an adapter that is trained in place of all weights; None trains them all.
        quantize: hold the base in 4 bits under the adapter (QLoRA); needs a GPU and bitsandbytes.
        freeze_layers: so many of the lowest layers stay as they are, with the embeddings.
        gradient_checkpointing: save memory for a third more arithmetic; None: above a billion weights.
        precision: ``auto`` is bf16 where the hardware computes in it, else fp32.
        seed: of the order, of what is new, of dropout and of samples.
        max_steps: stop after so many optimiser steps, whatever the epochs.
        save_minutes: how often a checkpoint is kept, to go on from after a crash.
        save_steps: the same in steps, in place of minutes.
        log_steps: how often the loss is noted; None: about fifty times.
    """

    base: str
    over_long: OverLong = "drop"
    weight_decay: float = 0.0
    label_smoothing: float = 0.0
    lora: int | None = None
    quantize: bool = False
    freeze_layers: int = 0
    gradient_checkpointing: bool | None = None
    precision: Precision = "auto"
    seed: int = 0
    max_steps: int | None = None
    save_minutes: float = 10.0
    save_steps: int | None = None
    log_steps: int | None = None

    def check(self, ranges: Ranges) -> None:
        """Refuse what is out of its range, and what excludes each other.

        Args:
            ranges: of the numbers that only the one training has.

        Raises:
            PrefkitError: there is such.
        """
        for name, lowest, open_end in (*_RANGES, *ranges):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and (value > lowest if open_end else value >= lowest)):
                words = f"a number {'above' if open_end else 'of at least'} {lowest}"
                raise PrefkitError(f"settings: {name}", str(value), words, "Choose another value.")
        if not 0 <= self.label_smoothing < 0.5:
            remedy = "Half is a coin toss: nothing is left to learn."
            raise PrefkitError("settings: label_smoothing", str(self.label_smoothing), "from 0 to below 0.5", remedy)
        if self.quantize and not self.lora:
            remedy = "Add --lora 16, say, or leave --quantize out."
            raise PrefkitError("settings: quantize", "no adapter", "an adapter, as 4-bit weights cannot learn", remedy)


Ranges = tuple[tuple[str, float, bool], ...]
"""Names, the lowest value, and whether the value lies above it."""
_RANGES: Ranges = (
    ("weight_decay", 0, False), ("lora", 1, False), ("freeze_layers", 0, False), ("max_steps", 1, False),
    ("save_minutes", 0, False), ("save_steps", 1, False), ("log_steps", 1, False),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(CommonSettings):
    """How a reward model is trained; the common choices are those of ``CommonSettings``.

    Args:
        preset: where the fields below that are None take their values from.
        epochs: passes over the pairs, not necessarily whole.
        pairs_per_step: about how many pairs an optimiser step has, over all processes.
        learning_rate: at its highest.
        max_tokens: of a prompt with a response.
        schedule, warmup: how the learning rate goes; the share of steps in which it rises.
        row_tokens: what is read at once; memory grows with it.
        loss: ``bradley-terry``, with ties ``rao-kupper`` or ``davidson``, or ``hinge``.
        margin: log-odds for each point of rating gap by which the chosen response has to lead.
        center: weight of the penalty that keeps rewards around 0 (Eisenstein et al. 2023, arXiv:2312.09244).
        length_penalty: weight of the penalty on rewards that go with length.
        heads: one reward, or one for each principle.
        combine: how those make the overall reward: weights that are learned, or the rubric's.
        control_policies: give each policy an effect that is no part of the reward.
        evaluate_steps: how often the validation pairs are scored on the way; None: at the end only.
    """

    preset: Preset = "cpu"
    epochs: float | None = None
    pairs_per_step: int | None = None
    learning_rate: float | None = None
    max_tokens: int | None = None
    schedule: Schedule | None = None
    warmup: float | None = None
    row_tokens: int | None = None
    loss: Loss = "bradley-terry"
    margin: float = 0.0
    center: float = 0.0
    length_penalty: float = 0.0
    heads: Heads = "one"
    combine: Combine = "learned"
    control_policies: bool = False
    evaluate_steps: int | None = None

    def resolved(self) -> TrainingSettings:
        """The same with the preset's values in the gaps.

        Raises:
            PrefkitError: a number is out of its range, or two choices exclude each other.
        """
        preset = dict(PRESETS[self.preset])
        if self.lora:
            preset["learning_rate"] *= LORA_LEARNING_RATE
        settings = replace(self, **{name: value for name, value in preset.items() if getattr(self, name) is None})
        settings.check(RANGES)
        settings._check()
        return settings

    def _check(self) -> None:
        if self.margin and self.loss not in ("bradley-terry", "hinge"):
            remedy = "Leave one of the two out."
            raise PrefkitError("settings: margin", self.loss, "bradley-terry or hinge", remedy)
        if self.control_policies and self.heads == "principles":
            remedy = "Leave one of the two out: an effect stands beside one reward."
            raise PrefkitError("settings: control_policies", "heads for principles", "one reward", remedy)


RANGES: Ranges = (
    ("epochs", 0, True), ("pairs_per_step", 1, False), ("learning_rate", 0, True), ("max_tokens", 8, False),
    ("warmup", 0, False), ("row_tokens", 8, False), ("center", 0, False), ("length_penalty", 0, False),
    ("margin", 0, False), ("evaluate_steps", 1, False),
)  # fmt: skip

WITHOUT_EFFECT = frozenset({"save_minutes", "save_steps", "log_steps", "evaluate_steps"})
"""What may differ when a training goes on: the weights at the end are the same."""


def decisive(settings: CommonSettings) -> dict[str, Any]:
    """What the weights at the end depend on."""
    return {item.name: getattr(settings, item.name) for item in fields(settings) if item.name not in WITHOUT_EFFECT}
