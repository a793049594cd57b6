"""Rewards of a packed row, through the model's own forward.

``enable_packing`` binds a ``forward`` to a sequence classifier that besides its own arguments takes ``packed`` and
``ends``; calls without them are what they were. So whatever wraps the model (accelerate, DDP, FSDP, peft) keeps
working, and its weights and files stay transformers' own.

A decoder whose attention goes through transformers' attention interface and which takes position ids reads packed
rows. An encoder, or an architecture in which a token passes on anything except by attention, does not:
``supports_packing`` finds out, by reading a few texts both ways, and says why. Such a model reads padded rows.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from functools import partial, wraps
from types import MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prefkit.training import attention
from prefkit.training.packing import PackedRow, pack

TOLERANCE = 1e-3
"""By which hidden states of packed and padded rows may differ in the probe, as a share of what tells texts apart."""
HALF_TOLERANCE = 0.05
"""The same in bf16 and fp16."""
Read = Callable[[Any, Tensor, Any], Any]
"""What a bound forward makes of the hidden states that are read: see ``bind``."""
NO_SCORE = "it has no `score` head on a base model: an encoder, or an architecture of its own"


def classifier(model: nn.Module) -> Any:
    """The sequence classifier inside whatever wraps it: the outermost module with a ``score`` head on a base model,
    or None."""
    from transformers import PreTrainedModel

    for module in model.modules():
        if isinstance(module, PreTrainedModel) and hasattr(module, "score") and base_of(module) is not None:
            return module
    return None


def enable_packing(model: nn.Module) -> str | None:
    """Let a sequence classifier read packed rows; again is harmless.

    Args:
        model: the classifier, or what wraps it. Before FSDP cuts it up.

    Returns:
        None, or why it cannot: then it reads padded rows, in ``rewards`` as well.

    Raises:
        ValueError: something else replaced its forward before.
    """
    inner = classifier(model)
    if inner is None:
        return NO_SCORE
    if not hasattr(inner, "packing_refused"):
        bind(inner, _score)
        inner.packing_refused = None
        inner.packing_refused = supports_packing(inner)
    refused: str | None = inner.packing_refused
    return refused


def packs(model: nn.Module) -> bool:
    """Whether ``enable_packing`` was called and found no reason against it."""
    return getattr(classifier(model), "packing_refused", NO_SCORE) is None


def rewards(model: nn.Module, row: PackedRow, pad_id: int) -> Tensor:
    """[R, labels] in float32: packed where the model can, else padded."""
    return packed_rewards(model, row) if packs(model) else padded_rewards(model, row, pad_id)


def packed_rewards(model: nn.Module, row: PackedRow) -> Tensor:
    """[R, labels] in float32: the rewards of a row's responses, each shared token read once.

    Args:
        model: after ``enable_packing``; wrapped or not.
        row: on the model's device.
    """
    # a mask of four dimensions is taken as it is, so that none is built: which token sees which is the tree's to say
    none = torch.empty(1, 1, 0, 0, dtype=torch.bool, device=row.input_ids.device)
    out = model(
        input_ids=row.input_ids,
        attention_mask=none,
        position_ids=row.position_ids,
        packed=row.tree,
        ends=row.ends,
    )
    return out.logits.float()


def padded_rewards(model: nn.Module, row: PackedRow, pad_id: int, batch: int | None = None) -> Tensor:
    """[R, labels] in float32: each text in a row of its own, padded on the right; for a model that cannot pack.

    Args:
        model: a sequence classifier. One with a ``score`` head is read at each text's true last token, if
            ``enable_packing`` was called; an encoder pools as it does.
        row: on the model's device.
        pad_id: what rows are filled with; behind the attention mask, so any token will do.
        batch: texts in one call; None for all, which a training step under DDP needs.
    """
    lengths = torch.tensor([len(text) for text in row.texts])
    order = lengths.argsort(descending=True, stable=True) if batch else torch.arange(len(lengths))
    bound = hasattr(classifier(model), "packing_refused")
    parts = []
    for some in torch.split(order, batch or len(order)):
        width = int(lengths[some].max())
        ids = row.input_ids.new_full((len(some), width), pad_id)
        for line, text in zip(ids, some.tolist(), strict=True):
            line[: len(row.texts[text])] = row.input_ids[0, row.texts[text]]
        ends = lengths[some].to(ids.device) - 1
        place = torch.arange(width, device=ids.device)
        options = {"ends": ends} if bound else {}
        if row.two_types:
            begins = ends + 1 - row.lengths[some.to(row.lengths.device)].to(ids.device)
            options["token_type_ids"] = ((begins[:, None] <= place) & (place <= ends[:, None])).long()
        out = model(input_ids=ids, attention_mask=(place <= ends[:, None]).long(), **options)
        parts.append(out.logits.float())
    return torch.cat(parts)[order.argsort().to(parts[0].device)]


def bind(model: Any, read: Read) -> None:
    """Give a model a forward that also takes packed rows, and the attention that it needs.

    Args:
        model: a base model with a head of any kind; as loaded, wrapped by nothing.
        read: what the forward gives where ``ends`` says which tokens are read: of the model, their last hidden states
            [n, width], and what else was handed to the forward and is not the base model's.

    Raises:
        ValueError: something else replaced its forward before.
    """
    if "forward" in vars(model):
        raise ValueError("the model's forward was replaced already: enable packing before the model is prepared")
    attention.register()
    model.set_attn_implementation(attention.NAME)
    model.forward = MethodType(_with_packed(type(model).forward, read), model)
    layers = getattr(base_of(model), "layers", None)
    if layers is not None:
        for module in filter(None, map(partial(_inside, layers[-1]), _BY_TOKEN)):
            module.forward = MethodType(_where_read(type(module).forward), module)


def _with_packed(plain: Callable[..., Any], read: Read) -> Callable[..., Any]:
    @wraps(plain)
    def forward(
        self: Any,
        *args: Any,
        packed: attention.Tree | None = None,
        ends: Tensor | None = None,
        lines: Tensor | None = None,
        wanted: Any = None,
        **options: Any,
    ) -> Any:
        if ends is None:
            return plain(self, *args, **options)
        taken = {name: value for name, value in options.items() if value is not None and name not in _PLAIN_ONLY}
        places = None
        if packed is not None:
            taken["packed"], lines = packed, torch.zeros_like(ends)
            places = None if _recomputes(self) else torch.unique(ends)
        elif lines is None:
            lines = torch.arange(len(ends), device=ends.device)
        before = _READ.set(places)
        try:
            hidden = base_of(self)(*args, use_cache=False, **taken).last_hidden_state
        finally:
            _READ.reset(before)
        return read(self, hidden[lines, ends], wanted)

    return forward


def _score(model: Any, states: Tensor, wanted: None) -> Any:
    from transformers.modeling_outputs import SequenceClassifierOutputWithPast

    return SequenceClassifierOutputWithPast(logits=model.score(states))


def _where_read(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Of what works on each token alone, only what is read afterwards: in the last layer, the ends of texts."""

    @wraps(plain)
    def forward(self: Any, states: Tensor, *args: Any, **options: Any) -> Any:
        places = _READ.get()
        if places is None:
            return plain(self, states, *args, **options)
        part = plain(self, states[:, places], *args, **options)
        if not isinstance(part, Tensor):
            return plain(self, states, *args, **options)
        return part.new_zeros(*states.shape[:2], part.shape[2]).index_copy(1, places, part)

    return forward


_PLAIN_ONLY = ("labels", "return_dict", "use_cache", "past_key_values")
_BY_TOKEN = ("self_attn.q_proj", "self_attn.o_proj", "mlp")
_READ: ContextVar[Tensor | None] = ContextVar("_READ", default=None)
"""The tokens of the row whose last hidden state is read; None for all."""


def base_of(model: Any) -> Any:
    """The model without its head; None where it has none."""
    return getattr(model, model.base_model_prefix or "-", None)


def _inside(layer: nn.Module, path: str) -> nn.Module | None:
    """A layer's part, unless there is none or its forward was replaced."""
    module: Any = layer
    for name in path.split("."):
        module = getattr(module, name, None)
    return module if isinstance(module, nn.Module) and "forward" not in vars(module) else None


def _recomputes(model: Any) -> bool:
    """Whether the last layer is computed again in the backward pass, where ``_READ`` is not set."""
    last = getattr(base_of(model), "layers", [None])[-1]
    return bool(getattr(last, "gradient_checkpointing", False)) and model.training


def supports_packing(model: nn.Module) -> str | None:
    """Why a classifier cannot read packed rows; None if it can. ``enable_packing`` asks it.

    It reads a few made-up texts packed and padded and compares the hidden states that the rewards are read from.
    """
    inner = classifier(model)
    if inner is None:
        return NO_SCORE
    config = inner.config.get_text_config()
    if not getattr(config, "is_causal", True):
        return "its tokens see those behind them"
    row = probe(config.vocab_size).to(next(inner.parameters()).device)
    training, head = inner.training, inner.score
    inner.eval()
    inner.score = nn.Identity()
    try:
        with torch.no_grad():
            packed, padded = packed_rewards(inner, row), padded_rewards(inner, row, 0, batch=1)
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        return f"its forward does not take packed rows: {type(error).__name__}: {str(error).splitlines()[0]}"
    finally:
        inner.score = head
        inner.train(training)
    off = float((packed - padded).square().mean().sqrt() / padded.var(dim=0).mean().sqrt())
    allowed = TOLERANCE if next(inner.parameters()).dtype == torch.float32 else HALF_TOLERANCE
    return None if off <= allowed else f"packed rows change its hidden states by {off:.2%}"


def probe(vocabulary: int) -> PackedRow:
    """A row of two made-up prompts with two responses each."""
    from prefkit.training.groups import Group, TokenGroup

    random = np.random.default_rng(0)
    group = Group(prompt_id="probe", messages=(), response_ids=(), texts=(), policies=())
    prompt, *responses = (random.integers(0, vocabulary, length, dtype=np.int32) for length in (12, 9, 5, 7, 11))
    reverse = prompt[::-1].copy()
    return pack([TokenGroup(group, prompt, tuple(responses[:2])), TokenGroup(group, reverse, tuple(responses[2:]))])
