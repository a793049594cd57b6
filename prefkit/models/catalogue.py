"""Which model a name means: where it answers, what it costs, how it is asked.

Reads   models.yaml in the run folder, else in the folder that holds it, else where the command runs; and the
        environment, for base URLs
Gives   ModelEntry

A name is that of an entry in ``models.yaml``, or ``provider/model``, where the provider is a vendor, a kind of server,
``embedded``, ``local`` or ``replay``. An entry knows the *names* of the environment variables that may hold a key; the
key itself is read when the model is opened, and is kept nowhere.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

import msgspec

from prefkit.errors import InputError, RubricError
from prefkit.models.chat import Model, Price, Sampling
from prefkit.rubric_yaml import load_yaml

Kind = Literal["openai-compatible", "embedded", "local", "replay"]
FILE = "models.yaml"
MAX_BYTES = 1 << 18
SMOLLM2 = "smollm2"
TEMPLATE = "chat_template_kwargs"
"""The field of the body with further arguments of a chat template."""
_START = "Start from a working one: `prefkit models init`."
_HOUSE = [
    ipaddress.ip_network(network)
    for network in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
]
_HOUSE_NAMES = (".local", ".internal", ".localhost")
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
        sheet = _Sheet(path)
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
        _check_name(name, name)
        if provider in HERE:
            return _here(name, provider, model, self.prices.get(name))
        url, keys, needed = _provider(provider, name)
        return ModelEntry(
            name=name, model=model, urls=(url,), keys=keys, key_needed=needed, price=self.prices.get(name)
        )


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


def providers() -> Iterator[ModelEntry]:
    """Each provider with a model of no name, to show where it answers."""
    for provider in PROVIDERS:
        url, keys, needed = _provider(provider, provider)
        yield ModelEntry(name=f"{provider}/...", model="", urls=(url,), keys=keys, key_needed=needed)


def _provider(provider: str, asked: str) -> tuple[str, tuple[str, ...], bool]:
    """Base URL, variables that may hold the key, and whether one is needed."""
    stem = "PREFKIT_" + re.sub(r"\W", "_", provider.upper(), flags=re.ASCII)
    known = PROVIDERS.get(provider)
    variables = [f"{stem}_BASE_URL", *(["OPENAI_BASE_URL"] if provider == "openai" else [])]
    variable = next((name for name in variables if os.environ.get(name, "").strip()), None)
    if variable is None and known is None:
        expected = f"one of {', '.join([*PROVIDERS, *HERE])}, or a name in {FILE}"
        remedy = f"Set {variables[0]} to where it answers, or add an entry (`prefkit models init`)."
        raise InputError(asked, f"no provider {provider!r}", expected, remedy)
    url = os.environ[variable].strip() if variable else known.url if known else ""
    _check_url(url, variable or asked)
    keys = (f"{stem}_API_KEY", *([known.key] if known and known.key else []))
    return url, keys, bool(known and known.key) and not is_local(url)


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


class _Sheet:
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
        _check_name(name, self._place(at))
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
                _check_url(url, self._place(f"{at}.urls[{index}]"))
            return replace(entry, urls=tuple(raw.urls), keys=own, key_needed=bool(own))
        provider, slash, model = entry.model.partition("/")
        if not slash or not model:
            raise self._fault(at, "no urls", "urls: [http://...], or a model named provider/model")
        url, keys, needed = _provider(provider, self._place(f"{at}.model"))
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


def _check_name(name: str, where: str) -> None:
    if not name.strip() or not name.isprintable() or " " in name:
        raise InputError(where, "a name with blanks", "a word", "It stands in every record: keep it short.")


def _check_url(url: str, where: str) -> None:
    """Refuse what is no base URL, and what carries a password, which is not repeated."""
    try:
        parts = urlsplit(url)
        whole = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
        loaded = "@" in parts.netloc or bool(parts.query or parts.fragment)
    except ValueError:
        whole = loaded = False
    if not whole:
        raise InputError(where, "no base URL", "one such as http://127.0.0.1:8000/v1", "Look at the address.")
    if loaded:
        remedy = "Put a key into an environment variable and name it under key-env."
        raise InputError(where, f"more than an address in the URL of {public_url(url)}", "a plain base URL", remedy)


def is_local(url: str) -> bool:
    """Whether a URL leads to this machine or its private network: loopback, RFC 1918, unique local and link-local
    addresses, names without a dot, ``*.local``, ``*.internal``."""
    try:
        host = (urlsplit(url).hostname or "").rstrip(".").lower()
    except ValueError:
        return False
    address = _address(host)
    if address is None:
        return bool(host) and ("." not in host or host.endswith(_HOUSE_NAMES))
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in _HOUSE if network.version == address.version)


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host is, also in the short forms that systems take (``127.1``, ``134744072``)."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeError):
        return None


def public_url(url: str) -> str:
    """A URL without user, password, query and fragment, for errors and records."""
    try:
        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "a URL that cannot be read"
    return f"{parts.scheme}://{host}{port}{parts.path}"


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
