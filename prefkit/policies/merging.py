"""The weights of a policy as one plain model: a LoRA adapter goes into its base, a plain folder is taken as it is.

Reads   a policy or any model's folder, a folder with a LoRA adapter, a hub id, ``smollm2``
Writes  a folder of safetensors with config, tokenizer and chat template

A plain folder of safetensors is copied byte for byte, but for what its training noted. A delta is added to weights as
precise as the base has them stored, as peft's ``merge_and_unload`` does it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prefkit.errors import PrefkitError
from prefkit.policies.opening import POLICIES, open_policy, policy_folder
from prefkit.policies.templates import need_chat_template
from prefkit.training.bases import base_model

ADAPTER = "adapter_config.json"
DONE = "training.json"
"""What a training writes last; the policy of a run is whole where it stands."""
_TAKEN = (
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "*.safetensors.index.json",
    "token*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template*",
    "additional_chat_templates",
    "preprocessor_config.json",
    "LICENSE*",
    "NOTICE*",
    "USE_POLICY*",
)


@dataclass(frozen=True)
class Source:
    """What is exported.

    Args:
        name: what it is called.
        place: what ``from_pretrained`` understands.
        adapter: whether only an adapter stands there.
        base: of the adapter, as ``from_pretrained`` understands it; None for a plain model.
    """

    name: str
    place: str
    adapter: bool = False
    base: str | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """What ``training.json`` says; nothing where there is none."""
        file = Path(self.place) / DONE
        try:
            found = json.loads(file.read_bytes())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def find_source(source: str, policy: str | None = None, base: str | None = None) -> Source:
    """What is meant by a run with the name of a policy, a folder, or the name of a model.

    Args:
        source: a run, a model's folder, a hub id or ``smollm2``.
        policy: of a run; it may be left out where there is one only.
        base: of an adapter, in place of the one that it names.

    Raises:
        PrefkitError: there is no such policy, it is not finished, it is a reward model, or its base is not there.
    """
    folder = Path(source).expanduser()
    if (folder / "run.json").exists():
        folder = policy_folder(folder, policy or _only(folder))
        if not (folder / DONE).exists():
            remedy = "Run the same train command again; it goes on where it was cut."
            raise PrefkitError(folder, f"no {DONE}", "a finished training", remedy)
        source = str(folder)
    elif policy is not None:
        raise PrefkitError(source, "no run.json", "a run, whose policy --policy names", "Leave --policy out.")
    if (folder / ADAPTER).exists():
        return Source(folder.resolve().name, str(folder), True, _base_of(folder, base))
    if base is not None:
        raise PrefkitError(source, "no adapter", "one, whose base --base names", "Leave --base out.")
    place = base_model(source)
    _refuse_other_kinds(source, place)
    return Source(folder.resolve().name if folder.is_dir() else source, place)


def _only(run: Path) -> str:
    known = sorted(one.name for one in (run / POLICIES).glob("*") if (one / DONE).exists())
    if len(known) == 1:
        return known[0]
    found = f"{len(known)} of them: {', '.join(known)}" if known else "none that is finished"
    remedy = "Say which: --policy NAME." if known else "Train one, or name a model's folder."
    raise PrefkitError(run / POLICIES, found, "one policy", remedy)


def _base_of(folder: Path, given: str | None) -> str:
    said = given or json.loads((folder / ADAPTER).read_bytes()).get("base_model_name_or_path")
    remedy = "Say where it is: --base FOLDER (or a hub id)."
    if not said:
        raise PrefkitError(folder / ADAPTER, "no base", "the name of the model that was adapted", remedy)
    try:
        return base_model(str(said))
    except PrefkitError as error:
        raise PrefkitError(
            folder / ADAPTER, f"the base {said} ({error.found})", "a base that is there", remedy
        ) from None


def _refuse_other_kinds(name: str, place: str) -> None:
    """Say it where a model does not write texts."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(place)
    except (OSError, ValueError, KeyError) as error:
        found = " ".join(str(error).split())[:200]
        raise PrefkitError(name, found, "a language model", "Name the folder of a policy.") from None
    kinds = config.architectures or []
    if any("SequenceClassification" in kind for kind in kinds):
        found = f"a reward model ({kinds[0]})"
        raise PrefkitError(name, found, "a policy, which writes texts", "Name the policy's folder.")


def open_source(source: Source) -> tuple[Any, Any]:
    """The model as it was trained, an adapter beside its base, in ``eval`` mode; and its tokenizer.

    Raises:
        PrefkitError: it cannot be loaded, it has no chat template, or the adapter belongs to another base.
    """
    if source.base is None:
        model, tokenizer = open_policy(source.place)
    else:
        model, tokenizer = open_policy(source.base)
        tokenizer = _own_tokenizer(source) or tokenizer
        model = _adapted(model, tokenizer, source)
    need_chat_template(tokenizer, source.place)
    return model, tokenizer


def _own_tokenizer(source: Source) -> Any:
    from transformers import AutoTokenizer

    if not any(Path(source.place).glob("tokenizer*")):
        return None
    return AutoTokenizer.from_pretrained(source.place)


def _adapted(model: Any, tokenizer: Any, source: Source) -> Any:
    """The model with its adapter.

    Raises:
        PrefkitError: the adapter was made for other weights.
    """
    import warnings

    from peft import PeftModel

    from prefkit.training.building import quiet

    remedy = "Name the base that it was trained on: --base FOLDER (or a hub id)."
    expected = f"an adapter of {source.base}"
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        found = f"a tokenizer of {len(tokenizer):,} tokens"
        raise PrefkitError(source.place, found, f"at most the {rows:,} of its base", remedy)
    with quiet(), warnings.catch_warnings():
        warnings.filterwarnings("error", message="Found missing adapter keys")
        try:
            return PeftModel.from_pretrained(model, source.place).eval()
        except (RuntimeError, ValueError, KeyError, UserWarning) as error:
            found = " ".join(str(error).split())[:200]
            raise PrefkitError(source.place, found, expected, remedy) from None


def write_safetensors(source: Source, folder: Path) -> None:
    """Put the whole model into a folder that is there.

    Raises:
        PrefkitError: as ``open_source``.
        OSError: the disk is full.
    """
    plain = Path(source.place)
    if source.base is None and plain.is_dir() and any(plain.glob("*.safetensors")):
        for pattern in _TAKEN:
            for file in sorted(plain.glob(pattern)):
                if file.is_dir():
                    shutil.copytree(file, folder / file.name)
                elif not (folder / file.name).exists():
                    shutil.copyfile(file, folder / file.name)
        return
    _save(source, folder)


def _save(source: Source, folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from prefkit.training.building import quiet

    with quiet():
        tokenizer: Any = _own_tokenizer(source) if source.base else None
        tokenizer = tokenizer or AutoTokenizer.from_pretrained(source.base or source.place)
        model: Any = AutoModelForCausalLM.from_pretrained(source.base or source.place, dtype="auto")
        if source.base is not None:
            model = _adapted(model, tokenizer, source).merge_and_unload()
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)


@contextmanager
def plain_folder(source: Source, beside: Path) -> Iterator[Path]:
    """A folder with the whole model in safetensors: its own, or one that is gone when the block ends.

    Args:
        source: the model.
        beside: near where the other one may be written.
    """
    plain = Path(source.place)
    if source.base is None and plain.is_dir() and any(plain.glob("*.safetensors")):
        yield plain
        return
    folder = beside / "merged"
    folder.mkdir()
    try:
        write_safetensors(source, folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
