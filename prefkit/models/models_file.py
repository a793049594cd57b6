"""``models.yaml``: found, read, checked, started.

Reads   models.yaml in the run folder, else in the folder that holds it, else where the command runs
Gives   ModelEntry and Price by name

No key may stand in the file, and no message repeats what may be one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from prefkit.errors import InputError, RubricError
from prefkit.models.addresses import check_url
from prefkit.models.chat import Price, Sampling
from prefkit.models.entries import HERE, SMOLLM2, TEMPLATE, Kind, ModelEntry, check_name, reached
from prefkit.rubric_yaml import load_yaml

FILE = "models.yaml"
MAX_BYTES = 1 << 18
_START = "Start from a working one: `prefkit models init`."
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
_LOOKS_LIKE_A_KEY = re.compile(r"(?=.*\d)[A-Z0-9]{20,}")
_SECRET_FIELDS = {"key", "api-key", "apikey", "token", "access-token", "secret", "password", "authorization", "headers"}
_OURS = {"messages", "stream", "n"}
_AT = re.compile(r" - at (?:`key` in )?`\$([^`]*)`$")
_KINDS = {"str": "a text", "int": "a whole number", "float": "a number", "object": "a mapping", "array": "a list"} | {
    "null": "nothing",
    "bool": "true or false",
}

T = TypeVar("T")


def find_models_file(run: str | Path | None = None) -> Path | None:
    """The ``models.yaml`` of a run: inside it, beside it, or where the command runs."""
    folders = [] if run is None else [Path(run), Path(run).absolute().parent]
    return next((folder / FILE for folder in [*folders, Path()] if (folder / FILE).is_file()), None)


def start_models_file(folder: Path) -> Path:
    """Write a ``models.yaml`` to fill in.

    Raises:
        InputError: there is one already, or it cannot be written.
    """
    path = folder / FILE
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(NEW_FILE)
    except FileExistsError:
        raise InputError(path, "a file of this name", "none yet", "Edit it, or move it away first.") from None
    except OSError as error:
        found = (error.strerror or str(error)).lower()
        raise InputError(path, found, "a folder that may be written to", "Look at the path.") from None
    return path


class _FileEntry(msgspec.Struct, forbid_unknown_fields=True, rename="kebab", kw_only=True):
    kind: Kind = "openai-compatible"
    model: str | None = None
    urls: list[str] = []
    key_env: str | None = None
    file: str | None = None
    record: str | None = None
    price: Price | None = None
    sampling: dict[str, Any] = {}
    system_role: bool = True
    concurrency: int | None = None
    extra: dict[str, Any] = {}


class ModelsFile:
    """A ``models.yaml`` that is being read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._value, self._lines = _loaded(path)
        unknown = next((key for key in self._value if key not in ("models", "prices")), None)
        if unknown is not None:
            raise self._fault(str(unknown), "a key that has no meaning here", "models, prices")
        self.prices = {name: self._price(value, f"prices.{name}") for name, value in self._part("prices")}

    def entries(self) -> dict[str, ModelEntry]:
        """The entries, by name."""
        return {name: self._entry(name, value) for name, value in self._part("models")}

    def _part(self, part: str) -> Iterator[tuple[str, Any]]:
        value = self._value.get(part)
        if value is not None and not isinstance(value, dict):
            raise self._fault(part, "no mapping", "a mapping with a name before each colon")
        return ((str(name), inner) for name, inner in (value or {}).items())

    def _entry(self, name: str, value: Any) -> ModelEntry:
        at = f"models.{name}"
        check_name(name, self._place(at))
        self._refuse_secrets(value, at)
        raw = self._converted({} if value is None else value, _FileEntry, at)
        for place, found, expected in _faults(raw):
            raise self._fault(f"{at}.{place}".rstrip("."), found, expected)
        sampling = {key.replace("-", "_"): inner for key, inner in raw.sampling.items()}
        asked = raw.model or name
        shared = ModelEntry(
            name=name,
            kind=raw.kind,
            model=asked,
            file=self._beside(raw.file),
            record=self._beside(raw.record),
            price=raw.price or self.prices.get(name) or self.prices.get(asked),
            sampling=self._converted(sampling, Sampling, f"{at}.sampling"),
            system_role=raw.system_role,
            concurrency=raw.concurrency,
            extra=raw.extra,
        )
        if raw.price is not None:
            self._check_price(raw.price, f"{at}.price")
        return self._reached(shared, raw, at)

    def _reached(self, entry: ModelEntry, raw: _FileEntry, at: str) -> ModelEntry:
        """The entry with where it answers."""
        if entry.kind == "embedded" and entry.file is None:
            return replace(entry, model=SMOLLM2)
        if entry.kind == "local":
            folder = self._path.parent / entry.model
            return replace(entry, model=str(folder) if folder.is_dir() else entry.model)
        if entry.kind in HERE:
            return entry
        own = (raw.key_env,) if raw.key_env else ()
        if raw.urls:
            for index, url in enumerate(raw.urls):
                check_url(url, self._place(f"{at}.urls[{index}]"))
            return replace(entry, urls=tuple(raw.urls), keys=own, key_needed=bool(own))
        provider, slash, model = entry.model.partition("/")
        if not slash or not model:
            raise self._fault(at, "no urls", "urls: [http://...], or a model named provider/model")
        url, keys, needed = reached(provider, self._place(f"{at}.model"))
        return replace(entry, model=model, urls=(url,), keys=own or keys, key_needed=bool(own) or needed)

    def _beside(self, file: str | None) -> Path | None:
        return None if file is None else self._path.parent / file

    def _price(self, value: Any, at: str) -> Price:
        price = self._converted(value, Price, at)
        self._check_price(price, at)
        return price

    def _check_price(self, price: Price, at: str) -> None:
        for number in (price.prompt, price.completion, price.cached or 0):
            if not math.isfinite(number) or number < 0:
                raise self._fault(at, f"{number:g}", "money for a million tokens, 0 or more")

    def _refuse_secrets(self, value: Any, at: str) -> None:
        """Let no key stand in the file, and repeat none."""
        if not isinstance(value, dict):
            return
        extra = value.get("extra")
        for place, part in ((at, value), (f"{at}.extra", extra if isinstance(extra, dict) else {})):
            for key in part:
                if str(key).lower().replace("_", "-") in _SECRET_FIELDS:
                    raise self._key_fault(f"{place}.{key}")
        variable = value.get("key-env")
        if variable is None:
            return
        if not _VARIABLE.fullmatch(str(variable)) or _LOOKS_LIKE_A_KEY.fullmatch(str(variable)):
            raise self._key_fault(f"{at}.key-env")

    def _key_fault(self, at: str) -> InputError:
        remedy = "Take the key out of the file, `export GPU_KEY=...`, and write key-env: GPU_KEY."
        expected = "key-env with the name of an environment variable, in capitals"
        return InputError(self._place(at), "what may be a key (not shown)", expected, remedy)

    def _converted(self, value: Any, kind: type[T], at: str) -> T:
        try:
            return msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            place, found, expected = _explained(str(error), kind)
            raise self._fault(f"{at}.{place}".rstrip("."), found, expected) from None

    def _fault(self, at: str, found: str, expected: str) -> InputError:
        return InputError(self._place(at), found, expected, _START)

    def _place(self, at: str) -> str:
        known = at
        while known and known not in self._lines:
            known = known.rpartition("." if known.rfind(".") > known.rfind("[") else "[")[0]
        return f"{self._path}:{self._lines.get(known, 1)}: {at}"


def _loaded(path: Path) -> tuple[dict[Any, Any], dict[str, int]]:
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise InputError(path, f"more than {MAX_BYTES:,} bytes", "a list of models", "Is this the file you meant?")
        value, lines = load_yaml(raw.decode("utf-8-sig"), path)
    except OSError as error:
        raise InputError(
            path, (error.strerror or str(error)).lower(), "a readable file", "Look at its owner and rights."
        ) from None
    except UnicodeDecodeError as error:
        found = f"the byte 0x{error.object[error.start]:02x}, which is not UTF-8"
        raise InputError(path, found, "UTF-8 text", "Save it as UTF-8.") from None
    except RubricError as error:
        raise InputError(error.where, error.found, error.expected, _START) from None
    if value is not None and not isinstance(value, dict):
        raise InputError(path, "no mapping", "a mapping with models and prices", _START)
    return value or {}, lines


def _explained(message: str, kind: type) -> tuple[str, str, str]:
    """msgspec's words about a ``kind`` as (field, found, expected)."""
    at = _AT.search(message)
    place = at[1].lstrip(".").replace("[...]", "") if at else ""
    message = message[: at.start()] if at else message
    if message.startswith("Object contains unknown field"):
        owner: type = Price if place.endswith("price") else kind
        known = ", ".join(known.encode_name.replace("_", "-") for known in msgspec.structs.fields(owner))
        return f"{place}.{message.split('`')[1]}".lstrip("."), "a key that has no meaning here", f"one of {known}"
    if message.startswith("Object missing required field"):
        return place, f"no {message.split('`')[1]!r}", "this key"
    if message.startswith("Invalid enum value"):
        return place, "no kind of model", "openai-compatible, embedded, local or replay"
    expected, _, found = message.removeprefix("Expected ").replace("`", "").partition(", got ")
    expected = expected.removesuffix(" | null")
    return place, _KINDS.get(found, found or "no such value"), _KINDS.get(expected, expected)


def _faults(raw: _FileEntry) -> Iterator[tuple[str, str, str]]:
    """What types do not show: (field, found, expected)."""
    served = raw.kind == "openai-compatible"
    for name, value in (("urls", raw.urls), ("key-env", raw.key_env)):
        if value and not served:
            yield name, f"{name} for kind: {raw.kind}", "this key for openai-compatible models only"
    if raw.file is not None and raw.kind not in ("embedded", "replay"):
        yield "file", f"a file for kind: {raw.kind}", "this key for embedded and replay only"
    if raw.kind == "replay" and raw.file is None:
        yield "", "no 'file'", "the file of recorded answers"
    if raw.kind == "local" and raw.model is None:
        yield "", "no 'model'", "a hub id or a folder"
    if raw.kind == "embedded" and raw.file is None and raw.model not in (None, SMOLLM2):
        yield "model", f"the model {raw.model!r} without a file", f"{SMOLLM2}, or file: PATH.gguf"
    if raw.concurrency is not None and raw.concurrency < 1:
        yield "concurrency", str(raw.concurrency), "a whole number from 1"
    for name in raw.extra:
        if name in _OURS:
            yield f"extra.{name}", "a field that prefkit sets itself", "further fields of the body"
        elif raw.kind == "local" and name != TEMPLATE:
            yield f"extra.{name}", "a field that transformers does not get", TEMPLATE
        elif raw.kind == "replay":
            yield "extra", "fields for recorded answers", "none"
    if not isinstance(raw.extra.get(TEMPLATE, {}), dict):
        yield f"extra.{TEMPLATE}", "no mapping", "a mapping"


NEW_FILE = """\
# Models by names of your own. A model named provider/model (openai/gpt-4o, ollama/llama3.2) needs no entry here.
# `prefkit models list` shows what is there, `prefkit models check NAME` asks one small question.
models:
  small:                    # the name in the run's records
    kind: embedded          # SmolLM2-135M-Instruct in this process: shows that everything works, judges at random

#  judge-a:
#    model: Qwen/Qwen3-8B   # what the servers call it
#    urls: [http://gpu1:8000/v1, http://gpu2:8000/v1]    # calls are balanced over them
#    key-env: GPU_KEY       # the name of an environment variable; a key itself is refused
#    price: {prompt: 0.15, completion: 0.6, cached: 0.075}    # made up; money for a million tokens
#    sampling: {temperature: 0, max-tokens: 512}
#    system-role: false     # for chat templates without one: its text opens the first user message
#    concurrency: 64        # calls at a time for each URL; for embedded its slots, for local its batch
#    extra: {chat_template_kwargs: {enable_thinking: false}}    # further fields of the body
#    record: answers.jsonl  # keep each reply
#  careful:
#    model: openai/gpt-4o   # provider/model with settings of its own
#    sampling: {temperature: 0}
#  other-weights:
#    kind: embedded
#    file: weights.gguf
#  mine:
#    kind: local            # transformers in this process
#    model: policies/dpo    # a folder beside this file, or a hub id
#  again:
#    kind: replay
#    file: answers.jsonl    # what `record` kept

# Prices of models named provider/model, money for a million tokens. prefkit knows none: vendors change them.
# The numbers are made up.
#prices:
#  openai/gpt-4o: {prompt: 2.5, completion: 10}
"""
