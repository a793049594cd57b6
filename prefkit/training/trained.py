"""A trained sequence classifier as a scorer: weights and tokenizer loaded and checked, groups packed into rows.

Reads   reward-models/NAME/ of the kind ``trained``: whole weights, or adapters and the base that they belong to

What does not fit is an error before the first reward: another chat template than in training, a head without weights,
an adapter of another base. Texts are read whole, up to what the model can hold; a prompt that leaves no room for a
response is cut from its beginning, for that response alone, so that no reward depends on the other responses.
"""

from __future__ import annotations

import contextlib
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from prefkit.errors import PrefkitError
from prefkit.training.groups import Group, Rewards, TokenGroup, subset
from prefkit.training.reward_info import RewardInfo, template_digest
from prefkit.training.tokens import GroupTokenizer, window

ADAPTER = "adapter_config.json"
AT_ONCE = 64
"""Groups that are encoded and sorted into rows together."""
CPU_BUDGET, GPU_BUDGET = 4096, 32768
"""Tokens in a row."""
PADDED_BATCH = 16
"""Texts in a forward pass of a model whose rows are padded."""


class TrainedScorer:
    """A sequence classifier of transformers with its tokenizer.

    Args:
        model: the classifier, in ``eval`` mode.
        tokenizer: its own.
        info: what its folder says of it.
        budget: tokens in a row; a longer group is a row of its own.
    """

    def __init__(self, model: Any, tokenizer: Any, info: RewardInfo, budget: int) -> None:
        from prefkit.training.packed import enable_packing

        self.heads = info.heads
        self.tally: Counter[str] = Counter()
        """Responses that were not read as they are, by reason."""
        self.model = model
        self.tokenizer = tokenizer
        self.padded = enable_packing(model)
        """Why texts are padded; None where they are packed."""
        self._budget = budget
        self._combine = info.combine
        self._context = window(model.config, tokenizer)
        self._trained = info.max_tokens or self._context
        self._tail = _after_response(tokenizer, info.plain)
        self._whole = GroupTokenizer(tokenizer, plain=info.plain)
        self._cut = GroupTokenizer(tokenizer, plain=info.plain, max_tokens=self._context, over_long="cut")

    @classmethod
    def load(cls, folder: Path, info: RewardInfo, device: str | None, budget: int | None) -> TrainedScorer:
        """Open the weights and the tokenizer.

        Raises:
            PrefkitError: they cannot be read, do not fit together, or the chat template is another one.
        """
        try:
            import torch
            from transformers import AutoTokenizer
        except ImportError:
            remedy = "pip install 'prefkit[train]'"
            raise PrefkitError(folder, "no torch or transformers", "both to be installed", remedy) from None
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError, KeyError) as error:
            raise PrefkitError(folder, _short(error), "the model's tokenizer", "Copy the whole folder.") from None
        need_template(folder, tokenizer, info)
        gpu = torch.cuda.is_available() if device is None else device.startswith("cuda")
        model = _adapted(folder, info, gpu) if (folder / ADAPTER).exists() else _classifier(str(folder), info, gpu)
        if len(tokenizer) > model.get_input_embeddings().num_embeddings:
            found = f"{len(tokenizer):,} tokens for {model.get_input_embeddings().num_embeddings:,} embeddings"
            raise PrefkitError(folder, found, "an embedding for each token", "Put the model's own tokenizer there.")
        try:
            model.to(device or ("cuda" if gpu else "cpu"))
        except (RuntimeError, AssertionError) as error:
            raise PrefkitError(f"device {device}", _short(error), "one that is there", "Try cpu.") from None
        return cls(model.eval(), tokenizer, info, budget or (GPU_BUDGET if gpu else CPU_BUDGET))

    def rewards(self, groups: Iterable[Group]) -> Iterator[Rewards]:
        """The rewards of each group's responses, in order; a row of NaN where a response has no room at all."""
        return (rewards for rewards, _ in self.counted(groups))

    def counted(self, groups: Iterable[Group]) -> Iterator[tuple[Rewards, int]]:
        """The same with the tokens of each group, its prompt counted for each response.

        Raises:
            PrefkitError: a reward is not a number.
        """
        stream = (replace(group, pairs=()) for group in groups)
        while batch := list(islice(stream, AT_ONCE)):
            yield from self._together(batch)

    def texts(self, texts: Sequence[str]) -> Iterator[tuple[Rewards, int]]:
        """The rewards [1, 1 + heads] of whole texts, each a conversation as the chat template writes it, and its
        tokens. What the template puts behind a response is completed where it is missing."""
        pieces = [_whole_text(ids) for ids in self._encoded([self._closed(text) for text in texts])]
        fitting = [piece for piece in pieces if piece.tokens <= self._context]
        found = dict(zip(map(id, fitting), self._read(fitting), strict=True))
        self._count("left out: more tokens than the model can hold", len(pieces) - len(fitting))
        for piece in pieces:
            yield found.get(id(piece), self._none(1)), piece.tokens

    def _together(self, groups: Sequence[Group]) -> Iterator[tuple[Rewards, int]]:
        """Rewards of groups that are read in the same rows as far as there is room."""
        pieces = [self._pieces(whole) for whole in self._encoded_groups(groups)]
        flat = [piece for some in pieces for piece in some]
        read = iter(self._read(flat))
        for group, some in zip(groups, pieces, strict=True):
            rows = {name: row for piece in some for name, row in zip(piece.group.response_ids, next(read), strict=True)}
            tokens = sum(len(piece.prompt) * len(piece.responses) + sum(map(len, piece.responses)) for piece in some)
            missing = self._none(1)[0]
            yield np.stack([rows.get(str(place), missing) for place in range(len(group.texts))]), tokens

    def _encoded_groups(self, groups: Sequence[Group]) -> Iterator[TokenGroup]:
        """Groups whose responses are named by their places, in tokens."""
        return self._whole.tokenized(
            replace(group, response_ids=tuple(map(str, range(len(group.texts))))) for group in groups
        )

    def _pieces(self, whole: TokenGroup) -> list[TokenGroup]:
        """A group as it is read: whole, or where a response has no room, that response with a prompt of its own."""
        lengths = [len(whole.prompt) + len(one) for one in whole.responses]
        self._count("longer than in training", sum(self._trained < length <= self._context for length in lengths))
        if max(lengths) <= self._context:
            return [whole]
        pieces = []
        fits = [length <= self._context for length in lengths]
        if any(fits):
            pieces.append(_part(whole, [place for place, fit in enumerate(fits) if fit]))
        for place in (place for place, fit in enumerate(fits) if not fit):
            cut = list(self._cut.tokenized([_part(whole, [place]).group]))
            self._count("prompt cut: more tokens than the model can hold", len(cut))
            self._count("left out: more tokens than the model can hold", 1 - len(cut))
            pieces += cut
        return pieces

    def _read(self, pieces: Sequence[TokenGroup]) -> list[Rewards]:
        """The rewards of each piece's responses, [responses, 1 + heads]."""
        import torch

        from prefkit.training.heads import with_overall
        from prefkit.training.packed import packed_rewards, padded_rewards
        from prefkit.training.packing import group_tokens, pack, plan_rows

        found: dict[int, Rewards] = {}
        for places in plan_rows([group_tokens(piece) for piece in pieces], self._budget):
            row = pack([pieces[place] for place in places]).to(self.model.device)
            with torch.inference_mode():
                if self.padded is None:
                    outputs = packed_rewards(self.model, row)
                else:
                    outputs = padded_rewards(self.model, row, self.tokenizer.pad_token_id or 0, PADDED_BATCH)
            table = outputs.float().cpu().numpy()
            rewards = with_overall(table, self._combine) if self.heads else table
            if not np.isfinite(rewards).all():
                remedy = "The weights are damaged, or overflow in this precision: train again."
                raise PrefkitError("the reward model", "rewards that are no numbers", "numbers", remedy)
            starts = np.cumsum([0, *(len(pieces[place].responses) for place in places)])
            for place, start, stop in zip(places, starts, starts[1:], strict=False):
                found[place] = rewards[start:stop]
        return [found[place] for place in range(len(pieces))]

    def _count(self, what: str, number: int) -> None:
        if number:
            self.tally[what] += number

    def _none(self, count: int) -> Rewards:
        return np.full((count, 1 + len(self.heads)), np.nan, np.float32)

    def _encoded(self, texts: Sequence[str]) -> list[list[int]]:
        """Whole texts in tokens, with the tokens that open and close one where the text does not show them itself."""
        tokenizer = self.tokenizer
        opened = [bool(tokenizer.bos_token) and text.startswith(tokenizer.bos_token) for text in texts]
        return [
            tokenizer(text, add_special_tokens=not has)["input_ids"] for text, has in zip(texts, opened, strict=True)
        ]

    def _closed(self, text: str) -> str:
        """A text without padding around it, with all of what stands behind a response in training."""
        if pad := self.tokenizer.pad_token:
            while text.startswith(pad):
                text = text.removeprefix(pad)
            while text.endswith(pad):
                text = text.removesuffix(pad)
        tail = self._tail
        there = next(size for size in range(len(tail), -1, -1) if text.endswith(tail[:size]))
        return text + tail[there:]


def _part(whole: TokenGroup, places: Sequence[int]) -> TokenGroup:
    responses = tuple(whole.responses[place] for place in places)
    return replace(whole, group=subset(whole.group, places), responses=responses)


def _whole_text(ids: Sequence[int]) -> TokenGroup:
    group = Group(prompt_id="", messages=(), response_ids=("0",), texts=("",), policies=("",))
    return TokenGroup(group, np.empty(0, np.int32), (np.asarray(ids, np.int32),))


def _after_response(tokenizer: Any, plain: bool) -> str:
    """What stands behind a response in a text that the model was trained on."""
    if tokenizer.chat_template and not plain:
        mark = "\N{WHITE SMALL SQUARE}"
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": mark}]
        text: str = tokenizer.apply_chat_template(turns, tokenize=False)
        return text.rpartition(mark)[2]
    return tokenizer.eos_token or ""


def need_template(folder: Path, tokenizer: Any, info: RewardInfo) -> None:
    """Stop where the tokenizer's chat template is not the one that the model was trained with.

    Raises:
        PrefkitError: it is another one.
    """
    template = tokenizer.chat_template
    found = template_digest(template.get("default") if isinstance(template, dict) else template)
    if found != info.template:
        remedy = "Put back the tokenizer that it was saved with: under another template its rewards mean nothing."
        expected = f"{info.template or 'none'}, which the model was trained with"
        raise PrefkitError(folder, f"the chat template {found or 'none'}", expected, remedy)


def _classifier(place: str, info: RewardInfo, gpu: bool, *, head_missing: bool = False) -> Any:
    """A sequence classifier with all its weights; ``head_missing`` where adapters bring the head."""
    import torch
    from transformers import AutoModelForSequenceClassification

    try:
        with _quietly():
            model, loading = AutoModelForSequenceClassification.from_pretrained(
                place,
                num_labels=len(info.heads) or 1,
                dtype="auto" if gpu else torch.float32,
                output_loading_info=True,
            )
    except Exception as error:  # noqa: BLE001  of weights, memory, hub: their exceptions are too many to name
        remedy = "Copy the whole folder again, or train the model again."
        raise PrefkitError(place, _short(error), "the weights of a sequence classifier", remedy) from None
    missing = sorted(loading["missing_keys"])
    if head_missing:
        missing = [name for name in missing if not name.startswith(("score.", "classifier."))]
    if missing:
        remedy = "Copy the whole folder again: transformers would make these weights up at random."
        raise PrefkitError(place, f"no weights for {missing[0]} ({len(missing)} missing)", "all of them", remedy)
    return model


def _adapted(folder: Path, info: RewardInfo, gpu: bool) -> Any:
    """The base that adapters belong to, with the adapters merged into it."""
    from peft import PeftModel

    from prefkit.training.bases import base_model

    base = _classifier(base_model(info.base), info, gpu, head_missing=True)
    try:
        with _quietly():
            return PeftModel.from_pretrained(base, folder).merge_and_unload()
    except Exception as error:  # noqa: BLE001  sizes, names and files that do not fit: peft raises what torch does
        remedy = f"These adapters belong to {info.base} as it was in training; give that one back its place."
        raise PrefkitError(folder, _short(error), f"adapters of {info.base}", remedy) from None


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the bars, tables and warnings that transformers and peft print as they load: what matters is checked."""
    from transformers import utils

    logging: Any = utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
