"""Keys and values of texts on their way, with room for more, whose rows can be taken out and put together.

A token more copies nothing of what is there. Rows of several caches are put into one, aligned at their ends, so that
texts of any length can be decoded together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

ROOM = 64
"""Tokens by which it grows."""


def has_plain_layers(model: Any) -> bool:
    """Whether a model remembers nothing but keys and values, each layer its own."""
    layers = DynamicCache(config=model.config).layers
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


class RoomyLayer(DynamicLayer):  # type: ignore[no-untyped-call]  # transformers leaves __init_subclass__ untyped
    """The keys and values of a layer: ``keys`` and ``values`` are the part of ``_held`` that is filled."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._held: list[Tensor] = []

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """See transformers."""
        length = self.get_seq_length()
        end = length + key_states.shape[-2]
        if not self._held or self._held[0].shape[-2] < end:
            old = [None, None] if not self._held else [held[:, :, :length] for held in self._held]
            self._hold([_with_room(one, more) for one, more in zip(old, (key_states, value_states), strict=True)])
        for held, more in zip(self._held, (key_states, value_states), strict=True):
            held[:, :, length:end] = more
        return self._filled(end)

    def take(self, parts: Sequence[tuple[DynamicLayer, list[int]]], length: int) -> None:
        """Hold rows of other layers, at most the last ``length`` tokens of each, ending at the same place."""
        self._hold([_together([(getattr(layer, name), rows) for layer, rows in parts], length) for name in _BOTH])
        self._filled(length)

    def _hold(self, both: list[Tensor]) -> None:
        self._held = both
        self.is_initialized, self.dtype, self.device = True, both[0].dtype, both[0].device

    def _filled(self, end: int) -> tuple[Tensor, Tensor]:
        self.keys, self.values = (held[:, :, :end] for held in self._held)
        return self.keys, self.values


_BOTH = ("keys", "values")


class RoomyCache(DynamicCache):
    """The keys and values of all layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer_class_to_replicate = RoomyLayer

    @classmethod
    def of(cls, parts: Sequence[tuple[Any, list[int]]], length: int) -> RoomyCache:
        """Rows of other caches: see ``RoomyLayer.take``."""
        made = cls()
        for layers in zip(*(cache.layers for cache, _ in parts), strict=True):
            layer = RoomyLayer()
            layer.take([(one, rows) for one, (_, rows) in zip(layers, parts, strict=True)], length)
            made.layers.append(layer)
        return made


def _with_room(old: Tensor | None, more: Tensor) -> Tensor:
    """Room for what is there, for more, and for some tokens after that; with what is there in it."""
    length = 0 if old is None else old.shape[-2]
    made = _empty(more, more.shape[0], length + more.shape[-2] + ROOM)
    if old is not None:
        made[:, :, :length] = old
    return made


def _together(parts: Sequence[tuple[Tensor, list[int]]], length: int) -> Tensor:
    made = _empty(parts[0][0], sum(len(rows) for _, rows in parts), length + ROOM)
    first = 0
    for tensor, rows in parts:
        some = tensor[:, :, -length:]
        made[first : first + len(rows), :, length - some.shape[-2] : length] = some[rows]
        first += len(rows)
    return made


def _empty(like: Tensor, rows: int, tokens: int) -> Tensor:
    return like.new_zeros(rows, like.shape[1], tokens, like.shape[3])
