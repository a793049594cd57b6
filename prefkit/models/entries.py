"""A model with everything known about it but its key, and the providers whose models need no entry in a file.

Reads   the environment, for base URLs

An entry knows the *names* of the environment variables that may hold a key; the key itself is read when the model is
opened, and is kept nowhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from prefkit.errors import InputError
from prefkit.models.addresses import check_url, is_local, public_url
from prefkit.models.chat import Model, Price, Sampling

Kind = Literal["openai-compatible", "embedded", "local", "replay"]
SMOLLM2 = "smollm2"
TEMPLATE = "chat_template_kwargs"
"""The field of the body with further arguments of a chat template."""


@dataclass(frozen=True)
class Provider:
    """Where the models of a provider answer, and the variable that holds the key; None where none is needed."""

    url: str
    key: str | None = None


PROVIDERS = {
    "openai": Provider("https://api.openai.com/v1", "OPENAI_API_KEY"),
    "anthropic": Provider("https://api.anthropic.com/v1", "ANTHROPIC_API_KEY"),
    "gemini": Provider("https://generativelanguage.googleapis.com/v1beta/openai", "GEMINI_API_KEY"),
    "openrouter": Provider("https://openrouter.ai/api/v1", "OPENROUTER_API_KEY"),
    "together": Provider("https://api.together.ai/v1", "TOGETHER_API_KEY"),
    "groq": Provider("https://api.groq.com/openai/v1", "GROQ_API_KEY"),
    "mistral": Provider("https://api.mistral.ai/v1", "MISTRAL_API_KEY"),
    "deepseek": Provider("https://api.deepseek.com/v1", "DEEPSEEK_API_KEY"),
    "ollama": Provider("http://127.0.0.1:11434/v1"),
    "vllm": Provider("http://127.0.0.1:8000/v1"),
    "sglang": Provider("http://127.0.0.1:30000/v1"),
    "llamacpp": Provider("http://127.0.0.1:8080/v1"),
}
HERE = ("embedded", "local", "replay")
"""Kinds that are no provider and stand in a provider's place: ``embedded/smollm2``."""


@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """A model by name, with everything known about it but its key.

    ``model`` is what the endpoints at ``urls`` call it, or the hub id or folder of a ``local`` one. ``keys`` are the
    environment variables that may hold the key, the first that is set counts. ``file`` holds the weights of an
    ``embedded`` model (None for SmolLM2) or the answers of a ``replay``. ``concurrency`` is the number of calls at a
    time for each endpoint: the slots of an embedded model, the batch of a local one.
    """

    name: str
    model: str
    kind: Kind = "openai-compatible"
    urls: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    key_needed: bool = False
    file: Path | None = None
    record: Path | None = None
    price: Price | None = None
    sampling: Sampling = field(default_factory=Sampling)
    system_role: bool = True
    concurrency: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def local(self) -> bool:
        """Whether what is asked stays on this machine or in its private network."""
        return all(is_local(url) for url in self.urls)

    @property
    def where(self) -> str:
        """Where it answers, in words; no user, password or query."""
        if self.urls:
            return ", ".join(public_url(url) for url in self.urls)
        if self.kind == "local":
            return f"transformers, {self.model}"
        return str(self.file) if self.file else "SmolLM2-135M-Instruct, in this process"

    def as_model(self) -> Model:
        """The model without its endpoints."""
        return Model(self.name, (), self.price, self.sampling, self.local)

    def facts(self) -> dict[str, Any]:
        """What ``run.json`` says of it; no paths, no keys."""
        known = {
            "kind": self.kind,
            "model": Path(self.model).name if self.kind == "local" and Path(self.model).is_absolute() else self.model,
            "endpoints": [public_url(url) for url in self.urls],
            "file": self.file.name if self.file else None,
            "sampling": msgspec.to_builtins(self.sampling),
            "price": msgspec.to_builtins(self.price),
            "system_role": None if self.system_role else False,
            "extra": dict(self.extra),
        }
        return {name: value for name, value in known.items() if value not in (None, [], {})}


def reached(provider: str, asked: str) -> tuple[str, tuple[str, ...], bool]:
    """Base URL, variables that may hold the key, and whether one is needed."""
    stem = "PREFKIT_" + re.sub(r"\W", "_", provider.upper(), flags=re.ASCII)
    known = PROVIDERS.get(provider)
    variables = [f"{stem}_BASE_URL", *(["OPENAI_BASE_URL"] if provider == "openai" else [])]
    variable = next((name for name in variables if os.environ.get(name, "").strip()), None)
    if variable is None and known is None:
        expected = f"one of {', '.join([*PROVIDERS, *HERE])}, or a name in models.yaml"
        remedy = f"Set {variables[0]} to where it answers, or add an entry (`prefkit models init`)."
        raise InputError(asked, f"no provider {provider!r}", expected, remedy)
    url = os.environ[variable].strip() if variable else known.url if known else ""
    check_url(url, variable or asked)
    keys = (f"{stem}_API_KEY", *([known.key] if known and known.key else []))
    return url, keys, bool(known and known.key) and not is_local(url)


def check_name(name: str, where: str) -> None:
    """Refuse what cannot stand for a model in records.

    Raises:
        InputError: it has blanks, or nothing in it.
    """
    if not name.strip() or not name.isprintable() or " " in name:
        raise InputError(where, "a name with blanks", "a word", "It stands in every record: keep it short.")
