"""From a base model to what is trained: whole, frozen in part, or with adapters.

The new head of a reward model starts from the seed, so the same settings start from the same weights. Weights are held
in 32 bits, since small steps are lost in 16; where only adapters learn on a GPU, the base is held in 16 bits or in 4.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from prefkit.errors import PrefkitError
from prefkit.training.bases import base_model
from prefkit.training.packed import enable_packing
from prefkit.training.reward_model import choose_pad_token
from prefkit.training.settings import CommonSettings, Precision
from prefkit.training.tokens import window

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LARGE = 1_000_000_000
"""Weights above which activations are computed again in the backward pass, unless asked otherwise."""


@dataclass(frozen=True)
class Task:
    """What a model is trained for.

    Args:
        auto: the class of transformers that loads it.
        adapters: what peft calls it.
        own: parts that no base has, and that learn beside adapters.
        name: in words.
        enable: lets it read packed rows, or says why it cannot.
        options: of ``from_pretrained``, unless others are given.
    """

    auto: str
    adapters: str
    own: tuple[str, ...]
    name: str
    enable: Callable[[torch.nn.Module], str | None]
    options: Mapping[str, Any] = field(default_factory=dict)


REWARDS = Task(
    auto="AutoModelForSequenceClassification",
    adapters="SEQ_CLS",
    own=("score",),
    name="a sequence classifier",
    enable=enable_packing,
    options={"num_labels": 1},
)


@dataclass(frozen=True)
class Built:
    """A model to train.

    Args:
        model: the classifier, or a PEFT model around it.
        tokenizer: of the base, with a padding token that ends no text.
        padded: why it reads padded rows; None where it reads packed ones.
        bf16: whether it computes in 16 bits.
        checkpointing: whether activations are computed again in the backward pass.
    """

    model: Any
    tokenizer: Any
    padded: str | None
    bf16: bool
    checkpointing: bool

    @property
    def trainable(self) -> int:
        """Weights that learn."""
        return sum(weight.numel() for weight in self.model.parameters() if weight.requires_grad)


def tokenizer_of(base: str) -> Any:
    """The tokenizer of a base model.

    Raises:
        PrefkitError: the base has none.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(base_model(base))
    except (OSError, ValueError, KeyError) as error:
        found = " ".join(str(error).split())[:200]
        raise PrefkitError(base, found, "a model with its tokenizer", "Name a folder that has both.") from None


def window_of(base: str, tokenizer: Any) -> int:
    """The tokens that a base model can hold."""
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(base_model(base))
    except (OSError, ValueError):  # of adapters alone: their own base has the config
        config = None
    return window(config, tokenizer)


def within_window(max_tokens: int, base: str, tokenizer: Any, say: Callable[[str], None]) -> int:
    """The tokens of a prompt with a response: as many as were asked for, or as the base can hold; that is said."""
    window = window_of(base, tokenizer)
    if max_tokens > window:
        say(f"texts of at most {window:,} tokens: {base} can hold no more")
    return min(max_tokens, window)


def build(settings: CommonSettings, tokenizer: Any, task: Task = REWARDS, **options: Any) -> Built:
    """Load the base and make of it what is trained.

    Args:
        settings: without gaps.
        tokenizer: of the base; for rewards it gets a padding token here that ends no text.
        task: what for.
        options: of transformers' ``from_pretrained``, such as ``num_labels``, the rewards of a response.

    Raises:
        PrefkitError: it is no model that can be loaded, its vocabulary does not fit, or the machine lacks what was
            asked for.
    """
    from transformers import set_seed

    model: Any
    bf16 = _bf16(settings.precision)
    set_seed(settings.seed)
    with quiet():
        model = _loaded(settings, task, bf16, options)
    _need_embeddings(settings.base, model, tokenizer)
    if task is REWARDS:
        choose_pad_token(tokenizer, model.config)
    padded = task.enable(model)
    freeze(model, settings.freeze_layers)
    size = sum(weight.numel() for weight in model.parameters())
    checkpointing = size > LARGE if settings.gradient_checkpointing is None else settings.gradient_checkpointing
    if settings.lora:
        with quiet():
            model = _with_adapters(model, settings, task)
    return Built(model=model, tokenizer=tokenizer, padded=padded, bf16=bf16, checkpointing=checkpointing)


def freeze(model: PreTrainedModel, layers: int) -> None:
    """Let the lowest layers and the embeddings stay as they are.

    Raises:
        PrefkitError: the model has not so many, or they cannot be told.
    """
    if not layers:
        return
    stack = _stack(model)
    if layers > len(stack):
        found = f"{layers} to freeze" + (f" of {len(stack)}" if stack else ", and a model that names no layers")
        remedy = "Choose a smaller number."
        raise PrefkitError("settings: freeze_layers", found, "at most the layers of the model", remedy)
    for part in (model.get_input_embeddings(), *stack[:layers]):
        part.requires_grad_(False)


def _stack(model: PreTrainedModel) -> Sequence[torch.nn.Module]:
    """The layers of a decoder or an encoder, lowest first."""
    base = getattr(model, model.base_model_prefix)
    stack: Any = getattr(base, "layers", None) or getattr(getattr(base, "encoder", None), "layer", ())
    return list(stack)


def on_cpu() -> bool:
    """Whether training is on the CPU: there is nothing else, or accelerate was told so."""
    told = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    return told or not torch.accelerator.is_available()


def device_name() -> str:
    """What is trained on, in words."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU ({torch.get_num_threads()} threads)"


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out what the libraries say of what is meant: a head that is new, an old one that is left, and each other's
    old names (peft 0.21 and trl 1.16 call transformers 5.23 by them)."""
    from transformers.utils import logging

    said: Any = logging
    before, bars = said.get_verbosity(), said.is_progress_bar_enabled()
    said.set_verbosity_error()
    said.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        said.set_verbosity(before)
        if bars:
            said.enable_progress_bar()


def _bf16(precision: Precision) -> bool:
    if precision == "auto":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bf16"


def _loaded(settings: CommonSettings, task: Task, bf16: bool, options: dict[str, Any]) -> PreTrainedModel:
    import transformers

    small = bool(settings.lora) and bf16 and torch.cuda.is_available()
    options = {"dtype": torch.bfloat16 if small else torch.float32, **task.options, **options}
    if settings.quantize:
        options["quantization_config"] = _four_bits(task)
    try:
        model: PreTrainedModel = getattr(transformers, task.auto).from_pretrained(base_model(settings.base), **options)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        found = " ".join(str(error).split())[:200]
        remedy = f"Name a model that transformers loads as {task.name}."
        raise PrefkitError(settings.base, found, "a base model", remedy) from None
    return model


def _four_bits(task: Task) -> Any:
    import transformers

    if not torch.cuda.is_available() or importlib.util.find_spec("bitsandbytes") is None:
        found = "no GPU" if not torch.cuda.is_available() else "no bitsandbytes"
        remedy = "Leave --quantize out: adapters alone need little memory too."
        raise PrefkitError("settings: quantize", found, "a GPU and the package bitsandbytes", remedy)
    maker: Any = transformers.BitsAndBytesConfig
    return maker(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=list(task.own) or None,
    )


def _need_embeddings(base: str, model: PreTrainedModel, tokenizer: Any) -> None:
    embeddings: Any = model.get_input_embeddings()
    rows, largest = int(embeddings.num_embeddings), max(tokenizer.get_vocab().values())
    if largest >= rows:
        found = f"a token {largest:,} and {rows:,} embeddings"
        remedy = "Use the tokenizer that belongs to the model, or resize its embeddings and save it."
        raise PrefkitError(base, found, "an embedding for every token", remedy)


def _with_adapters(model: PreTrainedModel, settings: CommonSettings, task: Task) -> Any:
    import peft

    assert settings.lora is not None
    if settings.quantize:
        prepare: Any = peft.prepare_model_for_kbit_training
        model = prepare(model, use_gradient_checkpointing=False)
    config = peft.LoraConfig(
        task_type=task.adapters,
        r=settings.lora,
        lora_alpha=2 * settings.lora,
        lora_dropout=0.0,
        target_modules=_above(model, settings.freeze_layers) if settings.freeze_layers else "all-linear",
        modules_to_save=list(task.own) or None,
    )
    return peft.get_peft_model(model, config)


def _above(model: PreTrainedModel, frozen: int) -> list[str]:
    """The names of the linear maps in the layers that are not frozen."""
    kept = {part for layer in _stack(model)[frozen:] for part in layer.modules()}
    return [name for name, part in model.named_modules() if part in kept and isinstance(part, torch.nn.Linear)]
