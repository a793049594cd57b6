"""Scoring: responses per CPU-second by prefkit and by plain transformers, the same model, texts and rewards.

    python -m benchmarks.reward_parts.scoring MODEL FILE [PROMPTS]

MODEL is a reward model's folder, FILE responses or preferences. Plain transformers does what it does best: texts sorted
by length, padded on the right, 16 at a time. CPU time is of the whole process, without loading.
"""

from __future__ import annotations

import sys
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np


def compare(folder: Path, source: Path, prompts: int = 40, batch: int = 16) -> dict[str, Any]:
    """Both ways over the first so many prompts; the rewards must agree."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from prefkit.training.examples import read_groups
    from prefkit.training.reward_model import RewardModel

    groups = list(islice(read_groups(source, all_responses=True), prompts))
    model = RewardModel.load(folder, "cpu")
    start = time.process_time()
    mine = np.concatenate([rewards[:, 0] for rewards in model.rewards(groups)])
    packed = time.process_time() - start

    tokenizer = AutoTokenizer.from_pretrained(folder)
    plain = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    start = time.process_time()
    texts = tokenizer.apply_chat_template(
        [
            [*({"role": turn.role, "content": turn.content} for turn in group.messages), _answer(text)]
            for group in groups
            for text in group.texts
        ],
        tokenize=False,
    )
    order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
    theirs = np.empty(len(texts), np.float32)
    for first in range(0, len(order), batch):
        places = order[first : first + batch]
        rows = tokenizer(
            [texts[place] for place in places], add_special_tokens=False, padding=True, return_tensors="pt"
        )
        with torch.inference_mode():
            theirs[places] = plain(**rows).logits[:, 0].numpy()
    padded = time.process_time() - start
    return {
        "prompts": len(groups),
        "responses": len(texts),
        "prefkit, responses per CPU-second": len(texts) / packed,
        "transformers, responses per CPU-second": len(texts) / padded,
        "ratio": padded / packed,
        "largest difference of two rewards": float(np.abs(mine - theirs).max()),
    }


def _answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


if __name__ == "__main__":
    for name, value in compare(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:])).items():
        print(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")
