"""What came of a training, and which packages it rests on."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What came of a training.

    Args:
        folder: of the model.
        counts: of the training data, by name.
        rows: figures on the held-out pairs, a row a scorer; empty without held-out pairs.
        notes: what they mean.
        steps, resumed: optimiser steps in all; after how many this process went on.
        seconds: of training, in this process.
        pairs_per_second, tokens_per_second: over this process's steps; a token counts once an epoch, also
            where rows are padded and a prompt is read again with each response.
    """

    folder: Path
    counts: dict[str, int]
    rows: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    steps: int = 0
    resumed: int = 0
    seconds: float = 0.0
    pairs_per_second: float = 0.0
    tokens_per_second: float = 0.0


def versions() -> dict[str, str]:
    """Of the packages on which the weights depend."""
    packages = ("torch", "transformers", "trl", "accelerate", "peft", "datasets", "numpy", "scikit-learn")
    return {name: importlib.metadata.version(name) for name in packages}
