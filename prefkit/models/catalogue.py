"""Which model a name means.

A name is that of an entry in ``models.yaml``, or ``provider/model``, where the provider is a vendor, a kind of server,
``embedded``, ``local`` or ``replay``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from prefkit.errors import InputError
from prefkit.models.chat import Price
from prefkit.models.entries import HERE, PROVIDERS, SMOLLM2, ModelEntry, check_name, reached
from prefkit.models.models_file import FILE, ModelsFile, find_models_file


@dataclass(frozen=True)
class Catalogue:
    """The entries and prices of a ``models.yaml``; both empty where there is none."""

    path: Path | None = None
    entries: Mapping[str, ModelEntry] = field(default_factory=dict)
    prices: Mapping[str, Price] = field(default_factory=dict)

    @classmethod
    def load(cls, run: str | Path | None = None) -> Self:
        """Read the ``models.yaml`` of a run, if there is one.

        Raises:
            InputError: with file, line and field, whatever is wrong with it.
        """
        path = find_models_file(run)
        if path is None:
            return cls()
        sheet = ModelsFile(path)
        return cls(path, sheet.entries(), sheet.prices)

    def entry(self, name: str) -> ModelEntry:
        """The model that a name means.

        Raises:
            InputError: it means none.
        """
        if name in self.entries:
            return self.entries[name]
        provider, slash, model = name.partition("/")
        if not slash or not model.strip():
            known = ", ".join(self.entries) or "none there yet"
            expected = f"provider/model such as openai/gpt-4o, or a name in {self.path or FILE} ({known})"
            raise InputError(name, "no model of this name", expected, "See `prefkit models list`.")
        check_name(name, name)
        if provider in HERE:
            return _here(name, provider, model, self.prices.get(name))
        url, keys, needed = reached(provider, name)
        return ModelEntry(
            name=name, model=model, urls=(url,), keys=keys, key_needed=needed, price=self.prices.get(name)
        )


def providers() -> Iterator[ModelEntry]:
    """Each provider with a model of no name, to show where it answers."""
    for provider in PROVIDERS:
        url, keys, needed = reached(provider, provider)
        yield ModelEntry(name=f"{provider}/...", model="", urls=(url,), keys=keys, key_needed=needed)


def _here(name: str, kind: str, model: str, price: Price | None) -> ModelEntry:
    if kind == "local":
        return ModelEntry(name=name, kind="local", model=model, price=price)
    if kind == "replay":
        return ModelEntry(name=name, kind="replay", model=Path(model).stem, file=Path(model), price=price)
    if model != SMOLLM2 and not model.endswith(".gguf"):
        remedy = f"Say embedded/{SMOLLM2}, or embedded/PATH.gguf."
        raise InputError(name, f"no embedded model {model!r}", f"{SMOLLM2} or a .gguf file", remedy)
    file = None if model == SMOLLM2 else Path(model)
    return ModelEntry(name=name, kind="embedded", model=Path(model).stem if file else model, file=file, price=price)
