"""Write one GGUF file, in a process of its own: ``python -m prefkit.policies.gguf_script SOURCE OUT KIND``.

f16 and q8_0 are written by llama.cpp's own converter (convert_hf_to_gguf), which Intel's auto-round carries along;
q4_k_m by auto-round, which adds the k-quants to it, rounding to the nearest without calibration texts. Both write
through llama.cpp's package gguf. A process of its own, since these log, exit and import as scripts do. The converter is
imported from its folder: auto-round itself takes seconds to import, and it asks for nothing of it.

On standard output, a line ``tensor`` for each tensor that is ready, and at the end ``done``, or ``refused:`` with why.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefkit.garbage import search_rarely

QUIET = {"AUTO_ROUND_GGUF_AUTO_UPDATE": "0", "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "DO_NOT_TRACK": "1"}
"""What is set in this process: nothing is fetched."""


class _Counted(logging.Handler):
    """Says ``tensor`` where a log line is about one."""

    def emit(self, record: logging.LogRecord) -> None:
        if "-->" in record.getMessage():
            print("tensor", file=_said, flush=True)


_said = sys.stdout


def main(source: Path, out: Path, kind: str) -> None:
    """Write the file."""
    import torch

    sys.stdout = sys.stderr
    writers: dict[str, Callable[[Path, Path, str], None]] = {"q4_k_m": _quantised}
    try:
        with torch.inference_mode():
            writers.get(kind, _converted)(source, out, kind)
    except (NotImplementedError, FileNotFoundError, TypeError, ValueError, KeyError) as error:
        words = " ".join(str(error).split())[:300]
        print(f"refused: {type(error).__name__}: {words}", file=_said, flush=True)
        raise SystemExit(3) from error
    print("done", file=_said, flush=True)


def _converted(source: Path, out: Path, kind: str) -> None:
    """By llama.cpp's converter alone."""
    import gguf

    types = {"f16": gguf.LlamaFileType.MOSTLY_F16, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}
    conversion: Any = _converter(source)
    _count(logging.getLogger("hf-to-gguf"))
    described = conversion.ModelBase.load_hparams(source, False)
    architecture = conversion.get_model_architecture(described, conversion.ModelType.TEXT)
    conversion.get_model_class(architecture)(source, types[kind], out).write()


def _converter(source: Path) -> Any:
    """llama.cpp's package ``conversion``, which lies inside auto-round and imports nothing of it."""
    found = importlib.util.find_spec("auto_round")
    assert found is not None and found.submodule_search_locations
    sys.path.insert(0, str(Path(found.submodule_search_locations[0]) / "export" / "export_to_gguf"))
    try:
        return importlib.import_module("conversion")
    except ModuleNotFoundError:  # another version's folders
        from auto_round.export.export_to_gguf.llama_cpp_conversion import get_conversion

        return get_conversion(source, auto_update=False)


def _count(log: logging.Logger) -> None:
    log.setLevel(logging.INFO)
    log.addHandler(_Counted())


def _quantised(source: Path, out: Path, kind: str) -> None:
    """By auto-round, into a folder of its own, as it chooses the name of the file."""
    import torch
    from auto_round import AutoRound
    from auto_round.logger import logger
    from transformers import AutoModelForCausalLM, AutoTokenizer

    _count(logger)
    _count(logging.getLogger("hf-to-gguf"))
    model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rounding = AutoRound(
        model, AutoTokenizer.from_pretrained(source), scheme=f"gguf:{kind}", iters=0, disable_opt_rtn=True,
        device_map=device,
    )  # fmt: skip
    folder = out.with_name(f"{out.name}.folder")
    rounding.quantize_and_save(str(folder), format=f"gguf:{kind}")
    (file,) = folder.rglob("*.gguf")
    os.replace(file, out)
    shutil.rmtree(folder)


if __name__ == "__main__":
    os.environ.update(QUIET)
    search_rarely()
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
