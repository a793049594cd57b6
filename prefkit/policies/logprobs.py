"""Log-probabilities of responses, with a prompt read once for all its responses.

``enable_packing`` binds a ``forward`` to a language model that besides its own arguments takes a packed row and which
tokens are to be predicted. Only those pass through the last layer's later half and the head: the logits of a prompt
are never made. The logits of the rest are made piece by piece, and made again in the backward pass where they would
not fit in KEPT bytes, so that memory does not grow with the vocabulary.

A model that cannot read packed rows reads padded ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from prefkit.training.building import Task
from prefkit.training.packed import HALF_TOLERANCE, TOLERANCE, base_of, bind, probe
from prefkit.training.packing import PackedRow

KEPT = 1 << 29
"""Bytes of logits in 32 bits that are kept for the backward pass; above, they are made again."""
PIECE = 1 << 27
"""Bytes of logits that are made at once where they are not kept."""
ROWS = 64
"""Tokens whose logits are summed up at once."""
NO_HEAD = "it has no language-model head on a base model"


@dataclass(frozen=True)
class LogProbs:
    """What a model says of the responses of a row.

    Args:
        tokens: [N] log-probability of each token of the responses, one response behind the other, in nats.
        lengths: [R] tokens of each response.
        collisions: [N] log of the sum of squared probabilities, if it was asked for: the expected probability of a
            token drawn from the model itself.
    """

    tokens: Tensor
    lengths: Tensor
    collisions: Tensor | None = None

    def sums(self) -> Tensor:
        """[R] log-probability of each response."""
        return _summed(self.tokens, self.lengths)

    def means(self) -> Tensor:
        """[R] the same for a token, on average."""
        return self.sums() / self.lengths

    def detached(self) -> LogProbs:
        """The same without gradients."""
        return LogProbs(
            self.tokens.detach(), self.lengths, None if self.collisions is None else self.collisions.detach()
        )


def _summed(values: Tensor, lengths: Tensor) -> Tensor:
    owner = torch.repeat_interleave(torch.arange(len(lengths), device=values.device), lengths)
    return values.new_zeros(len(lengths)).index_add(0, owner, values)


def language_model(model: nn.Module) -> Any:
    """The language model inside whatever wraps it: the outermost module with an output embedding on a base model, or
    None."""
    from transformers import PreTrainedModel

    inside: list[Any] = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    for module in inside:
        if module.get_output_embeddings() is not None:
            return module if base_of(module) is not None and base_of(module) is not module else None
    return None


def enable_packing(model: nn.Module) -> str | None:
    """Let a language model read packed rows; again is harmless.

    Args:
        model: as loaded, before anything wraps it.

    Returns:
        None, or why it cannot: then it reads padded rows.

    Raises:
        ValueError: something else replaced its forward before.
    """
    inner = language_model(model)
    if inner is None:
        return NO_HEAD
    if not hasattr(inner, "packing_refused"):
        bind(inner, _predicted)
        inner.packing_refused = None
        inner.packing_refused = _refused(inner)
    return cast("str | None", inner.packing_refused)


def packs(model: nn.Module) -> bool:
    """Whether ``enable_packing`` was called and found no reason against it."""
    return getattr(language_model(model), "packing_refused", NO_HEAD) is None


def log_probs(model: nn.Module, row: PackedRow, pad_id: int, *, collisions: bool = False) -> LogProbs:
    """What a model says of the responses of a row, in 32 bits: packed where it can, else padded.

    Args:
        model: after ``enable_packing``; wrapped or not.
        row: on the model's device. Only responses are predicted, not their prompts.
        pad_id: what padded rows are filled with; behind the mask, so any token will do.
        collisions: also give ``LogProbs.collisions``.
    """
    found = (_packed if packs(model) else _padded)(model, row, pad_id, collisions)
    tokens, squared = found.unbind(-1) if collisions else (found, None)
    return LogProbs(tokens, row.lengths.to(tokens.device), squared)


def _packed(model: nn.Module, row: PackedRow, pad_id: int, collisions: bool) -> Tensor:
    none = torch.empty(1, 1, 0, 0, dtype=torch.bool, device=row.input_ids.device)
    places, targets = _predictions(row)
    out = model(
        input_ids=row.input_ids,
        attention_mask=none,
        position_ids=row.position_ids,
        packed=row.tree,
        ends=places,
        wanted=(targets, collisions),
    )
    return cast("Tensor", out.logits)


def _predictions(row: PackedRow) -> tuple[Tensor, Tensor]:
    """[N] the place from which each token of the responses is predicted, and the token."""
    sizes = row.lengths.tolist()
    places = torch.cat([text[-size - 1 : -1] for text, size in zip(row.texts, sizes, strict=True)])
    targets = torch.cat([row.input_ids[0, text[-size:]] for text, size in zip(row.texts, sizes, strict=True)])
    return places, targets


def _padded(model: nn.Module, row: PackedRow, pad_id: int, collisions: bool) -> Tensor:
    """Each text in a row of its own, padded on the right."""
    device, sizes = row.input_ids.device, row.lengths.tolist()
    whole = torch.tensor([len(text) for text in row.texts], device=device)
    ids = row.input_ids.new_full((len(row.texts), int(whole.max())), pad_id)
    for line, text in zip(ids, row.texts, strict=True):
        line[: len(text)] = row.input_ids[0, text]
    lines = torch.repeat_interleave(torch.arange(len(sizes), device=device), row.lengths.to(device))
    places = torch.cat([torch.arange(end - size, end) - 1 for end, size in zip(whole.tolist(), sizes, strict=True)]).to(
        device
    )
    out = model(
        input_ids=ids,
        attention_mask=(torch.arange(ids.shape[1], device=device) < whole[:, None]).long(),
        ends=places,
        lines=lines,
        wanted=(ids[lines, places + 1], collisions),
    )
    return cast("Tensor", out.logits)


def _predicted(model: Any, states: Tensor, wanted: tuple[Tensor, bool]) -> Any:
    """The bound forward's output: ``logits`` holds log-probabilities, [N] or with collisions [N, 2]."""
    from transformers.modeling_outputs import CausalLMOutput

    targets, collisions = wanted
    head, cap, scale = model.get_output_embeddings(), _soft_cap(model), _scale(model)

    def of(some: Tensor, said: Tensor) -> Tensor:
        logits = head(some).float()
        if scale != 1:
            logits = logits * scale
        if cap is not None:
            logits = torch.tanh(logits / cap) * cap
        found: Tensor = cast("Any", _Chosen).apply(logits, said)
        if not collisions:
            return found
        squared = torch.logsumexp(2 * logits.detach(), -1) - 2 * torch.logsumexp(logits.detach(), -1)
        return torch.stack((found, squared), -1)

    vocabulary = head.weight.shape[0]
    if len(targets) * vocabulary * 4 <= KEPT or not torch.is_grad_enabled():
        pieces = [of(*some) for some in _pieces(states, targets, KEPT // (4 * vocabulary))]
    else:
        pieces = [
            checkpoint(of, *some, use_reentrant=False) for some in _pieces(states, targets, PIECE // (4 * vocabulary))
        ]
    return CausalLMOutput(logits=cast("Any", torch.cat(pieces)))


class _Chosen(torch.autograd.Function):
    """Log-probabilities [N] of tokens [N] under logits [N, V]; the gradient is made in the place of the logits, which
    nothing else may read then. Of what else would stand beside them in memory there is none."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, said: Tensor) -> Tensor:
        total = torch.cat([torch.logsumexp(some, -1) for some in torch.split(logits, ROWS)])
        ctx.save_for_backward(logits, said, total)
        ctx.spent = False
        return logits.gather(1, said[:, None])[:, 0] - total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        if ctx.spent:
            raise RuntimeError("the logits were spent by the backward pass before")
        ctx.spent = True
        logits, said, total = ctx.saved_tensors
        logits.sub_(total[:, None]).exp_().mul_(-gradient[:, None])
        logits.scatter_add_(1, said[:, None], gradient[:, None])
        return logits, None


def _pieces(states: Tensor, targets: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    step = max(1, size)
    return list(zip(torch.split(states, step), torch.split(targets, step), strict=True))


def _soft_cap(model: Any) -> float | None:
    """Gemma's bound on logits."""
    return cast("float | None", getattr(model.config.get_text_config(), "final_logit_softcapping", None))


def _scale(model: Any) -> float:
    """Cohere multiplies logits, Granite divides them."""
    config = model.config.get_text_config()
    return float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)


def _refused(model: Any) -> str | None:
    """Why packed rows do not say what padded ones do; None if they do."""
    config = model.config.get_text_config()
    row = probe(config.vocab_size).to(next(model.parameters()).device)
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            packed, padded = _packed(model, row, 0, False), _padded(model, row, 0, False)
            plain = _plain(model, row)
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        return f"its forward does not take packed rows: {type(error).__name__}: {str(error).splitlines()[0]}"
    finally:
        model.train(training)
    allowed = TOLERANCE if next(model.parameters()).dtype == torch.float32 else HALF_TOLERANCE
    spread = float(plain.std())
    if (off := float((padded - plain).abs().max())) > allowed * spread:
        return f"its head is not all of what it makes logits by: they differ by {off / spread:.2%}"
    off = float((packed - plain).abs().max())
    return None if off <= allowed * spread else f"packed rows change what it predicts by {off / spread:.2%}"


def _plain(model: Any, row: PackedRow) -> Tensor:
    """[N] the same by the model's own forward, a text at a time."""
    parts = []
    for text, size in zip(row.texts, row.lengths.tolist(), strict=True):
        ids = row.input_ids[:, text]
        logits = model(input_ids=ids).logits[0, -size - 1 : -1].float()
        parts.append(-cross_entropy(logits, ids[0, -size:], reduction="none"))
    return torch.cat(parts)


LANGUAGE_MODEL = Task(
    auto="AutoModelForCausalLM", adapters="CAUSAL_LM", own=(), name="a causal language model", enable=enable_packing
)
"""A policy, to be built."""
