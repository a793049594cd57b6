"""Hand a policy on: merged safetensors, or GGUF files with a Modelfile for Ollama.

Reads   RUN/policies/NAME, any model's folder, a folder with a LoRA adapter, a hub id
Writes  OUT/ with a model card and
    config.json, *.safetensors, tokenizer, chat template            safetensors
    NAME-KIND.gguf, NAME-KIND.Modelfile for each kind               GGUF

What was written is loaded again and answers beside the policy (``alike``). One file that answers otherwise, and nothing
of all stands under the final name. Nothing leaves this machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prefkit.durable import file_digest, make_folders, replacing_folder
from prefkit.errors import PrefkitError
from prefkit.policies.alike import AGREEMENT, PROMPTS, Alike, Asked, ask_policy, compare_gguf, compare_model
from prefkit.policies.export_card import Written, export_card
from prefkit.policies.gguf_files import Kind, need_converter, write_gguf
from prefkit.policies.merging import Source, find_source, open_source, plain_folder, write_safetensors
from prefkit.policies.modelfile import modelfile
from prefkit.policies.opening import open_policy
from prefkit.policies.templates import stop_tokens

Opened = Callable[[str, int | None, str], Callable[[int], None]]
"""Opens a bar: its title, its total, its unit."""


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """What is exported, and as what.

    Args:
        source: a run, a model's folder, a hub id or ``smollm2``.
        out: the folder that is written.
        policy: of the run.
        base: of an adapter, in place of the one that it names.
        format: of the weights.
        kinds: of GGUF.
        system: the system prompt of the Modelfile.
        check: whether what was written is asked beside the policy.
        overwrite: whether another folder may be replaced.
    """

    source: str
    out: Path
    policy: str | None = None
    base: str | None = None
    format: Literal["safetensors", "gguf"] = "safetensors"
    kinds: tuple[Kind, ...] = ("q8_0",)
    system: str | None = None
    check: bool = True
    overwrite: bool = False


@dataclass(frozen=True)
class Exported:
    """The folder and its files of weights."""

    folder: Path
    files: list[Written]


def export_policy(settings: ExportSettings, opened: Opened, say: Callable[[str], None]) -> Exported:
    """Write a policy for others.

    Raises:
        PrefkitError: there is no such policy, it cannot be written so, or what was written answers otherwise.
        RunError: the disk is full.
    """
    _need_room(settings)
    if settings.format == "gguf":
        need_converter()
        if settings.check:
            _need_llama()
    source = find_source(settings.source, settings.policy, settings.base)
    _refuse_inside(settings.out, source)
    policy: _Policy = _Policy(source, settings.check, say)
    make_folders(settings.out.parent)
    with replacing_folder(settings.out) as part:
        if settings.format == "gguf":
            files = _ggufs(settings, policy, part, opened, say)
        else:
            files = [_safetensors(policy, part)]
        named = None if Path(settings.source).exists() else settings.source
        base = source.facts.get("settings", {}).get("base") or source.base or named
        card = export_card(source.name, base, source.facts, files)
        (part / "README.md").write_text(card, encoding="utf-8")
    return Exported(settings.out, files)


class _Policy:
    """What the policy makes of the prompts; asked first, so that its memory is free for what is checked."""

    def __init__(self, source: Source, check: bool, say: Callable[[str], None]) -> None:
        model, tokenizer = open_source(source)
        self.source = source
        self.tokenizer = tokenizer
        self.ends = stop_tokens(model, tokenizer)
        if check:
            say(f"asking {source.name} {len(PROMPTS)} questions in transformers")
        self.asked: list[Asked] = ask_policy(model, tokenizer) if check else []


def _safetensors(policy: _Policy, part: Path) -> Written:
    write_safetensors(policy.source, part)
    weights = sorted(part.glob("*.safetensors"))
    name = weights[0].name if len(weights) == 1 else f"{len(weights)} safetensors files"
    said = None
    if policy.asked:
        model, tokenizer = open_policy(part)
        said = _judged(compare_model(model, tokenizer, policy.asked), name, policy.source, "f16")
    digest = file_digest(weights[0]) if len(weights) == 1 else "of each file: b2sum"
    return Written(name, sum(file.stat().st_size for file in weights), digest, said)


def _ggufs(
    settings: ExportSettings, policy: _Policy, part: Path, opened: Opened, say: Callable[[str], None]
) -> list[Written]:
    files = []
    stem = re.sub(r"[^\w.-]+", "-", policy.source.name)
    with plain_folder(policy.source, part) as folder:
        tensors = _tensors(folder)
        for kind in dict.fromkeys(settings.kinds):
            say(f"writing {stem}-{kind}.gguf")
            out = part / f"{stem}-{kind}.gguf"
            write_gguf(folder, out, kind, opened(kind, tensors, "tensors"))
            said = None
            if policy.asked:
                reached = opened(f"{kind}, checked", len(PROMPTS), "prompts")
                alike = compare_gguf(out, policy.asked, reached)
                said = _judged(alike, out.name, policy.source, kind)
            files.append(Written(out.name, out.stat().st_size, file_digest(out), said))
            text = modelfile(policy.tokenizer, sorted(policy.ends), out.name, settings.system)
            out.with_suffix(".Modelfile").write_text(text, encoding="utf-8")
    return files


def _judged(alike: Alike, name: str, source: Source, stored: str) -> str:
    """What was seen, in words.

    Raises:
        PrefkitError: it answers otherwise.
    """
    if alike.passes(stored):
        return alike.in_words()
    expected = f"what {source.name} answers in transformers: the same at {AGREEMENT[stored]:.0%}"
    if not all(alike.tokens):
        expected = "the tokens that transformers makes of the prompts"
    remedy = "Nothing was written. Try f16, which rounds least; --no-check writes it all the same."
    raise PrefkitError(name, alike.in_words(), expected, remedy)


def _tensors(folder: Path) -> int:
    from safetensors import safe_open

    count = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "numpy") as opened:
            count += len(opened.keys())
    return count


def _need_room(settings: ExportSettings) -> None:
    out = settings.out
    if out.is_dir() and any(out.iterdir()) and not settings.overwrite:
        raise PrefkitError(out, "a folder with files", "a new one", "Choose another name, or add --overwrite.")
    if out.exists() and not out.is_dir():
        raise PrefkitError(out, "a file", "a folder, or a new name", "Choose another name.")


def _refuse_inside(out: Path, source: Source) -> None:
    """A folder is replaced whole, so it must be no part of what is read."""
    mine, theirs = out.resolve(), Path(source.place).resolve()
    if theirs.exists() and (mine == theirs or mine in theirs.parents):
        raise PrefkitError(out, "the folder that is exported, or one around it", "another", "Choose another --to.")


def _need_llama() -> None:
    import importlib.util

    if importlib.util.find_spec("xllamacpp") is None:
        remedy = "Install it: `pip install xllamacpp`; or leave the check out: --no-check."
        raise PrefkitError("GGUF", "no package xllamacpp", "llama.cpp, to ask the file", remedy)
