"""A policy as a GGUF file, for llama.cpp, Ollama, LM Studio and whatever else reads it.

Reads   a folder of safetensors with its tokenizer and chat template
Writes  a GGUF file with the tokenizer and the chat template inside

The format, the architectures and the tokenizers are llama.cpp's own affair: its converter does the work, in a process
of its own (``gguf_script``). What it does not know it refuses, and so do we, with its words.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

from prefkit.errors import PrefkitError
from prefkit.policies.gguf_script import QUIET

Kind = Literal["f16", "q8_0", "q4_k_m"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""16 bits a weight; 8.5; and about 5, of which small or oddly wide models lose more."""
_NEEDED = {"auto_round": "auto-round", "gguf": "gguf", "sentencepiece": "sentencepiece"}
_FULL = "No space left on device"


def need_converter() -> None:
    """Say it where a package is missing.

    Raises:
        PrefkitError: one is.
    """
    missing = [package for module, package in _NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        remedy = "Install them: `pip install 'prefkit[export]'`."
        raise PrefkitError("GGUF", f"no package {' or '.join(missing)}", "llama.cpp's converter", remedy)


def write_gguf(source: Path, out: Path, kind: Kind, reached: Callable[[int], None] = lambda tensors: None) -> None:
    """Write a GGUF file.

    Args:
        source: a model's folder.
        out: the file; it is there when it is whole.
        kind: how the weights are stored.
        reached: told how many tensors are ready.

    Raises:
        PrefkitError: the converter does not know the architecture or the tokenizer, or it failed.
        OSError: the disk is full.
    """
    need_converter()
    command = [sys.executable, "-m", "prefkit.policies.gguf_script", str(source.resolve()), str(out.resolve()), kind]
    environment = {**os.environ, **QUIET, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment.pop("LLAMA_CPP_ROOT", None)
    with (
        tempfile.TemporaryFile("w+", errors="replace") as log,
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdout is not None
        said, ready = "", 0
        try:
            for line in process.stdout:
                if line == "tensor\n":
                    ready += 1
                    reached(ready)
                else:
                    said = line.strip()
        except BaseException:
            process.kill()
            raise
        if process.wait() == 0 and said == "done" and out.exists():
            return
        log.seek(0)
        _raise(source, kind, said, log.read())


def _raise(source: Path, kind: Kind, said: str, log: str) -> None:
    if _FULL in log or _FULL in said:
        raise OSError(28, _FULL)
    if said.startswith("refused:"):
        remedy = "Export safetensors, and convert with a newer llama.cpp"
        remedy += ", or save tokenizer.model of the base beside it." if "tokenizer.model" in said else "."
        found = said.removeprefix("refused:").strip()
        raise PrefkitError(source, found, "a model and tokenizer that llama.cpp's converter knows", remedy)
    last = next((line.strip() for line in reversed(log.splitlines()) if line.strip()), "nothing")[:300]
    remedy = "Look at the free memory; export safetensors, and convert with llama.cpp itself."
    raise PrefkitError(source, f"a conversion to {kind} that failed: {last}", "a GGUF file", remedy)
