"""What a frozen model sees in a response: its hidden states, averaged over the response and at its last token.

Reads   groups; a language model or an encoder such as MiniLM (``bases``)
Writes  CACHE/features/MODEL/*.safetensors  a block of responses each: their keys, and float32 [n, layers, 2, width]

A prompt is read once, and each response after it, without padding; only the layers that are asked for are computed. A
layer's states go through the model's final norm, as if the model ended there: so a linear head on a last token is the
same as a shorter model with that head. What was read is kept under a digest of the model and of the words, so that a
second look costs nothing and a killed command goes on where it was.
"""

from __future__ import annotations

import copy
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from prefkit.durable import cache_folder, clear_parts, file_digest, make_folders, replacing
from prefkit.errors import PrefkitError
from prefkit.training.bases import base_model
from prefkit.training.groups import Group, TokenGroup
from prefkit.training.reward_info import Pooling, template_digest
from prefkit.training.tokens import GroupTokenizer, window

Values = npt.NDArray[np.float32]
POOLED = ("mean", "last")
"""The second axis of what is kept."""
BLOCK_SECONDS = 60.0
BLOCK_BYTES = 1 << 28
"""A block is written when it took so long, or is so large."""
_NORMS = ("norm", "final_layernorm", "ln_f", "final_norm", "norm_f")


def pooled(values: Values, pooling: Pooling) -> Values:
    """Features as asked for, [..., width], of what was read, [..., 2, width]; ``mean+last`` is twice as wide."""
    if pooling == "mean+last":
        return np.ascontiguousarray(values).reshape(*values.shape[:-2], -1)
    return values[..., POOLED.index(pooling), :]


def searched_layers(depth: int) -> tuple[int, ...]:
    """Layers worth a look in a model of so many: eight at most, from the third to the last; judgements sit in the
    middle, the last layers are about the next word."""
    return tuple(sorted({round(depth * (0.3 + 0.1 * step)) for step in range(8)} - {0}))


def feature_cache() -> Path:
    """Where features are kept unless said otherwise."""
    return cache_folder() / "features"


class FrozenReader:
    """A model that reads and is never trained.

    Args:
        base: as it was named.
        layers: whose states are kept, from 1 (after the first) to the model's depth; None for ``searched_layers``.
        max_tokens: of a prompt with a response; a longer prompt loses its beginning, a response that does not fit has
            no features.
        plain: write words as they are, without the chat template.
        device: None for a GPU where there is one.

    Raises:
        PrefkitError: there is no such model, or it has no such layer.
    """

    def __init__(
        self,
        base: str,
        *,
        layers: Sequence[int] | None = None,
        max_tokens: int = 2048,
        plain: bool = False,
        device: str | None = None,
    ) -> None:
        from transformers import AutoConfig, AutoTokenizer

        self.base = base
        self._place = base_model(base)
        self.tokenizer = AutoTokenizer.from_pretrained(self._place)
        self.config = AutoConfig.from_pretrained(self._place)
        self.depth: int = self.config.num_hidden_layers
        self.layers = tuple(layers) if layers is not None else searched_layers(self.depth)
        if not self.layers or not set(self.layers) <= set(range(1, self.depth + 1)):
            found = f"layer {', '.join(map(str, layers or ()))}" if layers else "no layer"
            raise PrefkitError(base, found, f"layers from 1 to {self.depth}", "Ask for another --layer.")
        self.width: int = self.config.hidden_size
        self.max_tokens = min(max_tokens, window(self.config, self.tokenizer))
        self.template = template_digest(self.tokenizer.chat_template)
        self.tally: Counter[str] = Counter()
        """What was cut or not read, by reason."""
        self._plain = plain
        self._device = device

    @cached_property
    def digest(self) -> str:
        """What identifies the model, its tokenizer and its bounds: 32 hexadecimal digits."""
        place = Path(self._place)
        if not place.is_dir():
            from transformers.utils.hub import cached_file

            place = Path(str(cached_file(self._place, "config.json"))).parent
        parts = [f"{self.max_tokens} {self._plain} {self.template}"]
        for path in sorted(place.iterdir()):
            if path.suffix in (".safetensors", ".bin") or path.name in ("config.json", "tokenizer.json", "vocab.txt"):
                parts.append(f"{path.name} {file_digest(path)}")
        return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()

    @cached_property
    def model(self) -> Any:
        """The model up to the highest layer, in float32, in ``eval`` mode."""
        import torch
        from transformers import AutoModel

        from prefkit.training.building import quiet

        config = shortened(self.config, max(self.layers))
        try:
            with quiet():
                model = AutoModel.from_pretrained(self._place, config=config, dtype=torch.float32)
        except (OSError, ValueError, RuntimeError) as error:
            found = " ".join(str(error).split())[:160]
            raise PrefkitError(self.base, found, "a model that transformers opens", "Name another base.") from None
        device = self._device or ("cuda" if torch.cuda.is_available() else "cpu")
        return model.requires_grad_(False).eval().to(device)

    @cached_property
    def _norm(self) -> Any:
        return next((getattr(self.model, name) for name in _NORMS if hasattr(self.model, name)), lambda states: states)

    @cached_property
    def _looks_back_only(self) -> bool:
        """Whether what follows a token leaves its state as it is, so that a prompt can be read once."""
        import torch

        ids = torch.tensor([[1, 1, 1], [1, 1, 2]], device=self.model.device)
        with torch.inference_mode():
            states = self.model(input_ids=ids).last_hidden_state
        return bool(torch.allclose(states[0, :2], states[1, :2], atol=1e-5))

    def read(self, groups: Iterable[Group]) -> Iterator[tuple[Group, Values]]:
        """Groups with the features of their responses, float32 [responses, layers, 2, width]; NaN where a response is
        too long to be read with any of its prompt."""
        tokenizer = GroupTokenizer(
            self.tokenizer, max_tokens=self.max_tokens, over_long="cut", plain=self._plain, batch=1
        )
        for group in groups:
            values = np.full((len(group.texts), len(self.layers), 2, self.width), np.nan, dtype=np.float32)
            for tokens in tokenizer.tokenized([replace(group, pairs=())]):
                place = {key: at for at, key in enumerate(group.response_ids)}
                rows = [place[key] for key in tokens.group.response_ids]
                values[rows] = self._states(tokens)
            yield group, values
        self.tally.update(tokenizer.tally)

    def _states(self, tokens: TokenGroup) -> Values:
        import torch

        read = self._after_prompt if self._looks_back_only else self._whole
        with torch.inference_mode():
            return np.stack([states.float().cpu().numpy() for states in read(tokens)])

    def _after_prompt(self, tokens: TokenGroup) -> Iterator[Any]:
        import torch

        device = self.model.device
        kept = None
        if len(tokens.prompt):
            prompt = torch.as_tensor(tokens.prompt.astype(np.int64), device=device)[None]
            kept = self.model(input_ids=prompt, use_cache=True).past_key_values
        for response in tokens.responses:
            ids = torch.as_tensor(response.astype(np.int64), device=device)[None]
            before = copy.deepcopy(kept)
            found = self.model(input_ids=ids, past_key_values=before, use_cache=True, output_hidden_states=True)
            yield self._pooled(found.hidden_states, 0)

    def _whole(self, tokens: TokenGroup) -> Iterator[Any]:
        import torch

        for response in tokens.responses:
            ids = np.concatenate([tokens.prompt, response]).astype(np.int64)
            ids_of_both = torch.as_tensor(ids, device=self.model.device)[None]
            found = self.model(input_ids=ids_of_both, output_hidden_states=True)
            yield self._pooled(found.hidden_states, len(tokens.prompt))

    def _pooled(self, hidden: Sequence[Any], first: int) -> Any:
        """[layers, 2, width]: mean and last of the states from ``first`` on."""
        import torch

        found = []
        for layer in self.layers:
            states = hidden[layer][0, first:]
            if layer < max(self.layers):  # the last one went through the norm already
                states = self._norm(states)
            found.append(torch.stack([states.mean(0), states[-1]]))
        return torch.stack(found)


def shortened(config: Any, layers: int) -> Any:
    """A configuration of the same model that ends after so many layers."""
    config = copy.deepcopy(config)
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
    return config


def response_keys(group: Group) -> list[bytes]:
    """What each response of a group is kept under: 20 bytes that digest the conversation's words."""
    turns = msgspec.json.encode([(message.role, message.content) for message in group.messages])
    return [hashlib.blake2b(turns + b"\n" + text.encode(), digest_size=20).digest() for text in group.texts]


@dataclass(frozen=True)
class FeatureTable:
    """The features of some groups' responses, in their order, on disk until a layer is asked for.

    Args:
        rows: the row of each response, by its key.
        places: the block of each row, and where it stands there.
        reader: what read them.
    """

    rows: dict[bytes, int]
    places: Sequence[tuple[Path, int]]
    reader: FrozenReader

    def layer(self, layer: int, pooling: Pooling) -> Values:
        """Features of all rows at a layer, [rows, width or twice that]."""
        from safetensors import safe_open

        by_block: dict[Path, list[tuple[int, int]]] = {}
        for row, (block, place) in enumerate(self.places):
            by_block.setdefault(block, []).append((row, place))
        found = np.empty((len(self.places), self.reader.width * (2 if pooling == "mean+last" else 1)), np.float32)
        for block, pairs in by_block.items():
            with safe_open(block, "np") as file:
                layers = _layers_of(file)
                values = file.get_slice("values")[:, layers.index(layer)]
            rows, places = zip(*pairs, strict=True)
            found[list(rows)] = pooled(values[list(places)], pooling)
        return found

    def of(self, groups: Iterable[Group]) -> npt.NDArray[np.int64]:
        """The rows of the groups' responses, stacked in order.

        Raises:
            KeyError: a response was not among those read.
        """
        return np.array([self.rows[key] for group in groups for key in response_keys(group)], dtype=np.int64)


def read_features(
    reader: FrozenReader, groups: Iterable[Group], cache: Path, done: Callable[[int], None] = lambda responses: None
) -> FeatureTable:
    """The features of all responses of groups: from the cache what it has, the rest from the model.

    Args:
        reader: the model.
        groups: prompts with their responses.
        cache: folder; one is made in it for the model.
        done: called with the number of responses of each group.

    Raises:
        PrefkitError: the cache cannot be written.
    """
    folder = cache / reader.digest
    make_folders(folder)
    clear_parts(folder)
    kept = _kept(folder, set(reader.layers))
    rows: dict[bytes, int] = {}
    waiting: dict[bytes, Values] = {}
    since = time.monotonic()

    def write() -> None:
        block = folder / f"{hashlib.blake2b(b''.join(waiting), digest_size=8).hexdigest()}.safetensors"
        _write_block(block, waiting, reader.layers)
        kept.update({key: (block, place) for place, key in enumerate(waiting)})
        waiting.clear()

    for group in groups:
        keys = response_keys(group)
        new = [place for place, key in enumerate(keys) if key not in kept and key not in waiting]
        if new:
            some = Group(
                prompt_id=group.prompt_id,
                messages=group.messages,
                response_ids=tuple(map(str, new)),
                texts=tuple(group.texts[place] for place in new),
                policies=tuple("" for _ in new),
            )
            ((_, values),) = reader.read([some])
            waiting.update(zip([keys[place] for place in new], values, strict=True))
            size = len(waiting) * values[0].nbytes
            if time.monotonic() - since > BLOCK_SECONDS or size > BLOCK_BYTES:
                write()
                since = time.monotonic()
        for key in keys:
            rows.setdefault(key, len(rows))
        done(len(keys))
    if waiting:
        write()
    return FeatureTable(rows, [kept[key] for key in rows], reader)


def _write_block(block: Path, values: dict[bytes, Values], layers: Sequence[int]) -> None:
    from safetensors.numpy import save

    keys = np.frombuffer(b"".join(values), dtype=np.uint8).reshape(len(values), -1)
    tensors: dict[str, npt.NDArray[Any]] = {"keys": keys.copy(), "values": np.stack(list(values.values()))}
    with replacing(block) as file:
        file.write(save(tensors, metadata={"layers": ",".join(map(str, layers))}))


def _kept(folder: Path, layers: set[int]) -> dict[bytes, tuple[Path, int]]:
    """Where the responses stand of which the layers were kept; a broken file is as if it were not there."""
    from safetensors import SafetensorError, safe_open

    found: dict[bytes, tuple[Path, int]] = {}
    for block in sorted(folder.glob("*.safetensors")):
        with suppress(SafetensorError), safe_open(block, "np") as file:
            if layers <= set(_layers_of(file)):
                found.update({row.tobytes(): (block, place) for place, row in enumerate(file.get_tensor("keys"))})
    return found


def _layers_of(file: Any) -> list[int]:
    return list(map(int, file.metadata()["layers"].split(",")))
