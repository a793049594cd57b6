"""Attention over a tree of texts that lie in one row, each shared beginning once.

A row holds texts that begin alike: a prompt and its responses, prompts under one system message. What they share is
a span of its own, read once, and what follows it lies behind it, depth first. A token sees what stands before it in
its own span and in the spans that its text passed through. So token ``q`` sees token ``k`` exactly if ``k`` is not
behind ``q`` and ``q`` lies inside what continues ``k``'s span: ``k <= q < stop[k]``.

``register`` makes it known to transformers as the attention ``prefkit_packed``. A call with ``packed=Tree`` among its
keyword arguments is computed as above; any other call is what ``sdpa`` computes. On a CPU each span attends to itself,
and everything that continues a span attends to that span in one call; the parts are joined by their log-sum-exp, so
nothing masked is computed and no key is copied. On CUDA it is FlexAttention; elsewhere, a dense mask.

Source: the parts are joined as in Dao et al. 2022 (FlashAttention), arXiv:2205.14135, section 3.1; shared prompts as in
Juravsky et al. 2024 (Hydragen), arXiv:2402.05099, which only decodes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention

NAME = "prefkit_packed"
GROUPED = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 13)
"""Whether a CPU's kernel reads key heads that several query heads share; else they are repeated for it."""


class Span(NamedTuple):
    """Neighbouring tokens of a row that the same texts hold.

    Args:
        start, end: its tokens.
        stop: where what continues it ends: the texts that pass through it lie in ``end`` to ``stop``.
        offset: place of its first token in its text.
        before: the spans that its text passed through, outermost first.
    """

    start: int
    end: int
    stop: int
    offset: int
    before: tuple[int, ...]


@dataclass(frozen=True)
class Tree:
    """The spans of a row, in the order of their tokens, which they cover without a gap."""

    spans: tuple[Span, ...]
    _kept: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def tokens(self) -> int:
        """Tokens of the row."""
        return self.spans[-1].end

    @property
    def longest(self) -> int:
        """Tokens of the longest text."""
        return max(span.offset + span.end - span.start for span in self.spans)

    def positions(self) -> Tensor:
        """[tokens] place of each token in its text."""
        return torch.cat([torch.arange(span.offset, span.offset + span.end - span.start) for span in self.spans])

    def stops(self) -> Tensor:
        """[tokens] for each token, where what continues its span ends."""
        return torch.cat([torch.full((span.end - span.start,), span.stop) for span in self.spans])

    def visible(self, window: int | None, device: torch.device) -> Tensor:
        """[tokens, tokens] of bool: which keys a query sees; made once for each window and device."""
        key = ("dense", window, device)
        if key not in self._kept:
            place, stops = torch.arange(self.tokens), self.stops()
            seen = (place[None, :] <= place[:, None]) & (place[:, None] < stops[None, :])
            if window is not None:
                position = self.positions()
                seen &= position[:, None] - position[None, :] < window
            self._kept[key] = seen.to(device)
        return self._kept[key]

    def blocks(self, window: int | None, device: torch.device) -> Any:
        """The same as a ``BlockMask`` of FlexAttention."""
        from torch.nn.attention.flex_attention import create_block_mask

        key = ("flex", window, device)
        if key not in self._kept:
            stops, position = self.stops().to(device), self.positions().to(device)

            def seen(batch: Tensor, head: Tensor, query: Tensor, other: Tensor) -> Tensor:
                inside = (other <= query) & (query < stops[other])
                return inside if window is None else inside & (position[query] - position[other] < window)

            self._kept[key] = create_block_mask(seen, None, None, self.tokens, self.tokens, device=device)
        return self._kept[key]


def register() -> None:
    """Make ``prefkit_packed`` known to transformers; again is harmless."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    packed: Tree | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """What transformers calls in each layer.

    Args:
        module: the layer's attention.
        query: [1, heads, tokens, size].
        key, value: [1, key heads, tokens, size].
        attention_mask: of a plain call.
        dropout: of the attention's weights.
        scaling: of the scores; None for 1 / sqrt(size).
        sliding_window: tokens that a query sees, itself among them.
        softcap: scores become ``softcap * tanh(scores / softcap)``.
        packed: the row's tree; None for a plain call.
        options: what ``sdpa`` takes.

    Returns:
        [1, tokens, heads, size], and no weights.
    """
    if packed is None:
        return _plain(module, query, key, value, attention_mask, dropout, scaling, softcap, options)
    if sliding_window is None and _kind(module) not in ("full_attention", None):
        raise NotImplementedError(f"{_kind(module)} that only its mask knows of")
    window = sliding_window if sliding_window is not None and sliding_window < packed.longest else None
    query, key = query.to(value.dtype), key.to(value.dtype)  # under autocast, rotary positions leave them in float32
    if query.device.type == "cuda" and not dropout:
        out = _flex(query, key, value, packed, window, scaling, softcap)
    elif (
        query.device.type == "cpu"
        and window is None
        and softcap is None
        and not dropout
        and query.shape[3] == value.shape[3]
    ):
        if not GROUPED:
            key, value = (one.repeat_interleave(query.shape[1] // one.shape[1], dim=1) for one in (key, value))
        return _Joined.apply(query, key, value, packed, scaling), None  # type: ignore[no-untyped-call]
    else:
        out = _by_span(query, key, value, packed, window, scaling, softcap, dropout)
    return out.transpose(1, 2).contiguous(), None


def _kind(module: torch.nn.Module) -> str | None:
    """What the configuration says of a layer's attention; None where it says nothing."""
    kinds = getattr(getattr(module, "config", None), "layer_types", None)
    number = getattr(module, "layer_idx", None)
    return kinds[number] if kinds is not None and isinstance(number, int) else None


def _plain(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout: float,
    scaling: float | None,
    softcap: float | None,
    options: dict[str, Any],
) -> tuple[Tensor, None]:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if softcap is None:
        return sdpa_attention_forward(module, query, key, value, mask, dropout=dropout, scaling=scaling, **options)
    if mask is None:
        mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device)
        mask = mask.tril(key.shape[2] - query.shape[2])
    return _capped(query, key, value, mask, scaling, softcap, dropout).transpose(1, 2).contiguous(), None


def _by_span(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tree: Tree,
    window: int | None,
    scaling: float | None,
    softcap: float | None,
    dropout: float,
) -> Tensor:
    """Each span's queries over the keys of their text, one after the other: [1, heads, tokens, size]."""
    seen = tree.visible(window, query.device)
    parts = []
    for span in tree.spans:
        of_text = [slice(tree.spans[other].start, tree.spans[other].end) for other in span.before]
        of_text.append(slice(span.start, span.end))
        keys = torch.cat([key[:, :, part] for part in of_text], dim=2)
        values = torch.cat([value[:, :, part] for part in of_text], dim=2)
        mask = torch.cat([seen[span.start : span.end, part] for part in of_text], dim=1)
        queries = query[:, :, span.start : span.end]
        if softcap is not None:
            parts.append(_capped(queries, keys, values, mask, scaling, softcap, dropout))
            continue
        grouped = keys.shape[1] != queries.shape[1]
        parts.append(
            scaled_dot_product_attention(queries, keys, values, mask, dropout, scale=scaling, enable_gqa=grouped)
        )
    return torch.cat(parts, dim=2)


def _capped(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float | None, softcap: float, dropout: float
) -> Tensor:
    """Attention with capped scores, which no fused kernel of a CPU computes."""
    repeats = query.shape[1] // key.shape[1]
    keys, values = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    scores = query @ keys.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = softcap * torch.tanh(scores / softcap)
    hidden = torch.finfo(scores.dtype).min
    scores = scores.masked_fill(~mask, hidden) if mask.dtype == torch.bool else scores + mask
    weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
    return torch.dropout(weights, dropout, dropout > 0) @ values


@lru_cache(maxsize=1)
def _compiled_flex() -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention, dynamic=True)


def _flex(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    tree: Tree,
    window: int | None,
    scaling: float | None,
    softcap: float | None,
) -> Tensor:
    cap = softcap or 1.0

    def capped(score: Tensor, batch: Tensor, head: Tensor, at: Tensor, other: Tensor) -> Tensor:
        return cap * torch.tanh(score / cap)

    out: Tensor = _compiled_flex()(
        query,
        key,
        value,
        score_mod=None if softcap is None else capped,
        block_mask=tree.blocks(window, query.device),
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return out


_forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class _Joined(torch.autograd.Function):
    """Attention over a tree on a CPU, by parts that are joined by their log-sum-exp."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, tree: Tree, scaling: float | None) -> Tensor:
        """[1, heads, tokens, size] to [1, tokens, heads, size]."""
        out = query.new_empty(query.shape[0], query.shape[2], query.shape[1], value.shape[3]).transpose(1, 2)
        weight = query.new_empty(
            query.shape[:3], dtype=torch.promote_types(query.dtype, torch.float32)
        )  # log-sum-exp of each query's scores
        for start, end, *_ in tree.spans:
            here = slice(start, end)
            part, weight[:, :, here] = _forward(
                query[:, :, here], key[:, :, here], value[:, :, here], 0.0, True, scale=scaling
            )
            out[:, :, here] = part
        for start, end, stop, *_ in tree.spans:
            if end == stop:
                continue
            after, here = slice(end, stop), slice(start, end)
            part, more = _forward(query[:, :, after], key[:, :, here], value[:, :, here], 0.0, False, scale=scaling)
            # softmax over both: each part counts by its share of the summed weights, sigmoid of their log ratio
            share = torch.sigmoid(more - weight[:, :, after]).unsqueeze(-1).to(part.dtype)
            out[:, :, after].lerp_(part, share)
            weight[:, :, after] = torch.logaddexp(weight[:, :, after], more)
        ctx.save_for_backward(query, key, value, out, weight)
        ctx.tree, ctx.scaling = tree, scaling
        return out.transpose(1, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Each part's gradient needs only the joined output and log-sum-exp, so parts add up."""
        query, key, value, out, weight = ctx.saved_tensors
        grad = grad.transpose(1, 2)
        of_query, of_key, of_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        for start, end, *_ in ctx.tree.spans:
            here = slice(start, end)
            of_query[:, :, here], of_key[:, :, here], of_value[:, :, here] = _backward(
                grad[:, :, here],
                query[:, :, here],
                key[:, :, here],
                value[:, :, here],
                out[:, :, here],
                weight[:, :, here],
                0.0,
                True,
                scale=ctx.scaling,
            )
        for start, end, stop, *_ in ctx.tree.spans:
            if end == stop:
                continue
            after, here = slice(end, stop), slice(start, end)
            more_query, more_key, more_value = _backward(
                grad[:, :, after],
                query[:, :, after],
                key[:, :, here],
                value[:, :, here],
                out[:, :, after],
                weight[:, :, after],
                0.0,
                False,
                scale=ctx.scaling,
            )
            of_query[:, :, after] += more_query
            of_key[:, :, here] += more_key
            of_value[:, :, here] += more_value
        return of_query, of_key, of_value, None, None
