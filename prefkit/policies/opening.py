"""Open a policy: a model with its tokenizer, to be asked and measured.

Reads   the folder of a policy or of any model, a folder with adapters, a hub id, ``smollm2``

Weights are in 32 bits on a CPU and in bf16 on a GPU that computes in it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefkit.errors import PrefkitError
from prefkit.training.bases import base_model

POLICIES = "policies"
"""The folder of a run with its policies."""


def policy_folder(run: Path, name: str) -> Path:
    """The folder of a run's policy.

    Raises:
        PrefkitError: there is none of that name.
    """
    folder = run / POLICIES / name
    if folder.is_dir():
        return folder
    known = sorted(one.name for one in (run / POLICIES).glob("*") if one.is_dir())
    remedy = f"It has {', '.join(known)}." if known else "Train one, or name a model's folder or hub id in its place."
    raise PrefkitError(run / POLICIES, f"no policy {name}", "one that was trained", remedy)


def open_policy(name: str | Path, device: str | None = None) -> tuple[Any, Any]:
    """A causal language model in ``eval`` mode, and its tokenizer.

    Args:
        name: what ``base_model`` understands.
        device: such as ``cuda:1``; None for a GPU where there is one.

    Raises:
        PrefkitError: there is no such model, it cannot be loaded, or it has no tokenizer.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from prefkit.training.building import quiet

    place = base_model(str(name))
    target = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    half = target.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(place)
            model: Any = AutoModelForCausalLM.from_pretrained(place, dtype=torch.bfloat16 if half else torch.float32)
            model.eval().to(target)
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        found = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        remedy = "Look at the name, the memory and the network."
        raise PrefkitError(name, found, "a causal language model with its tokenizer", remedy) from None
    return model, tokenizer
