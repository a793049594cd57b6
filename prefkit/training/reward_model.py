"""A reward model in its folder: saved so that anything reads the same reward from it, loaded, and asked for rewards.

Writes and reads   reward-models/NAME/
    config.json, model.safetensors, tokenizer*   what transformers' AutoModelForSequenceClassification loads
    reward.json                                  what only prefkit asks for; written last
    README.md                                    the model card

Plain transformers reads a reward at the last token that is not the padding token. Where a model pads with the token
that ends its texts that is one token too early, so the model is saved with another padding token; what it is does not
matter, as no weight ever sees it. ``config.json`` also says what other programs ask for: that the outputs are no
probabilities (``problem_type``; vLLM and the pipelines of transformers would squash them), what the head is called and
how rewards are normalised (OpenRLHF).

A prompt is read once for all its responses, and rows are filled up to a budget of tokens, so memory does not grow with
the number of groups.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from prefkit.durable import explained_disk_errors, make_folders, open_to_others, replacing
from prefkit.errors import PrefkitError
from prefkit.records import Message
from prefkit.training.card import Card, model_card
from prefkit.training.groups import Group, Rewards, Scorer
from prefkit.training.reward_info import NAME, RewardInfo, read_info, template_digest, write_info
from prefkit.training.trained import TrainedScorer

Dialogue = str | Sequence[Mapping[str, str]] | Sequence[Message]
"""The client's words, or turns as ``{"role": ..., "content": ...}``."""

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

PADS = ("<|finetune_right_pad_id|>", "<|pad|>", "<pad>", "[PAD]", "<|endoftext|>", "<unk>", "[UNK]")
"""Tokens that models keep for padding or never write, best first."""


def choose_pad_token(tokenizer: PreTrainedTokenizerBase, config: PretrainedConfig) -> int:
    """Give a tokenizer and a model's config a padding token that no text ends with; return its id.

    The one that they have stays where it is such. Else it is one that models keep for padding, then one that opens a
    text, then any token that ends none.
    """
    ends = _last_tokens(tokenizer)
    limit = getattr(config.get_text_config(), "vocab_size", len(tokenizer))
    known = [tokenizer.pad_token, *PADS, *tokenizer.all_special_tokens, *tokenizer.get_added_vocab()]
    vocabulary = tokenizer.get_vocab()
    candidates = [vocabulary[token] for token in known if token in vocabulary]
    chosen = next(one for one in itertools.chain(candidates, range(limit)) if one not in ends and one < limit)
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(chosen)
    tokenizer.padding_side = "right"
    config.pad_token_id = config.get_text_config().pad_token_id = chosen
    return chosen


def _last_tokens(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens that texts end with: the end of text, and what the chat template puts behind a response."""
    ends = {tokenizer.eos_token_id} - {None}
    if tokenizer.chat_template:
        conversation = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        text = tokenizer.apply_chat_template(conversation, tokenize=False)
        ends.add(tokenizer(text, add_special_tokens=False)["input_ids"][-1])
    return ends


def save_reward_model(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    info: RewardInfo,
    *,
    card: Card | None = None,
    merge: bool = True,
    state_dict: Mapping[str, Any] | None = None,
) -> RewardInfo:
    """Write a trained reward model; what ``reward.json`` says is returned.

    Args:
        model: a sequence classifier of transformers, or a PEFT model around one.
        tokenizer: the one that its texts were encoded with; gets another padding token where a text could end with its
            own.
        folder: made where it is not there. ``reward.json`` is removed first and written last, so that a folder that
            has it is whole.
        info: ``template`` is filled in from the tokenizer.
        card: what the model card says.
        merge: adapters are merged into the weights, after which the model is spent. Without it the folder holds the
            adapters alone, as peft writes them, and ``info.base`` is what they belong to; prefkit and peft open it.
        state_dict: the weights where the model does not hold them all, as under FSDP; adapters are kept apart then.

    Raises:
        PrefkitError: the heads are not the model's outputs, or a weight or reward is not a number.
        RunError: the folder cannot be written.
    """
    outputs = int(model.config.num_labels)
    if outputs != (len(info.heads) or 1) or len(info.combine) != len(info.heads):
        found = f"{outputs} outputs, {len(info.heads)} heads and {len(info.combine)} weights for them"
        raise PrefkitError(folder, found, "a weight and an output for each head", "Train the model again.")
    if merge and state_dict is None and hasattr(model, "merge_and_unload"):
        model = model.merge_and_unload()
    _need_numbers(folder, state_dict if state_dict is not None else dict(model.named_parameters()))
    info = msgspec.structs.replace(info, template=template_digest(_template(tokenizer)))
    with explained_disk_errors(folder):
        make_folders(folder)
        (folder / NAME).unlink(missing_ok=True)
    save_classifier(model, tokenizer, folder, info, state_dict)
    with replacing(folder / "README.md") as file:
        file.write(model_card(card or Card(), info).encode())
    write_info(folder, info)
    return info


def save_classifier(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    folder: Path,
    info: RewardInfo,
    state_dict: Mapping[str, Any] | None = None,
) -> None:
    """Write what transformers and other programs read of a reward model; see ``save_reward_model``."""
    choose_pad_token(tokenizer, model.config)
    _tell_others(model.config, info)
    with explained_disk_errors(folder):
        options = {} if state_dict is None else {"state_dict": dict(state_dict)}
        model.save_pretrained(folder, **options)
        tokenizer.save_pretrained(folder)
        for weights in folder.glob("*.safetensors"):  # safetensors writes to a temporary file, and renames it
            open_to_others(weights)


def _need_numbers(folder: Path, weights: Mapping[str, Any]) -> None:
    import torch

    broken = next((name for name, weight in weights.items() if not bool(torch.isfinite(weight).all())), None)
    if broken is not None:
        remedy = "Train again with a smaller learning rate, or without bf16."
        raise PrefkitError(folder, f"{broken} with values that are no numbers", "finite weights", remedy)


def _template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The chat template in use: the default one where a tokenizer has several."""
    template = tokenizer.chat_template
    return template.get("default") if isinstance(template, dict) else template


def _tell_others(config: PretrainedConfig, info: RewardInfo) -> None:
    """Say in ``config.json`` what vLLM, sentence-transformers, OpenRLHF and the pipelines of transformers look for."""
    config.problem_type = "regression"
    config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity"}
    names = info.heads or ("reward",)
    config.id2label = dict(enumerate(names))
    config.label2id = {name: place for place, name in enumerate(names)}
    config.value_head_prefix = "score"
    if not info.heads:
        config.mean, config.std = info.mean, info.std


class RewardModel:
    """A reward model that gives rewards, from a folder that prefkit wrote.

    Args:
        info: what the folder says of itself.
        scorer: what computes the rewards.
        name: of the folder.
    """

    def __init__(self, info: RewardInfo, scorer: Scorer, name: str) -> None:
        self.info = info
        self.name = name
        self.scorer = scorer
        self.heads = info.heads

    @classmethod
    def load(cls, path: str | Path, device: str | None = None, *, budget: int | None = None) -> RewardModel:
        """Open a reward model.

        Args:
            path: its folder.
            device: such as ``cuda:1``; without it a GPU where there is one.
            budget: tokens in a forward pass; a longer group has one for itself.

        Raises:
            PrefkitError: no reward model, weights that do not fit their base, or a chat template that is not the one
                that it was trained with.
        """
        folder = Path(path)
        info = read_info(folder)
        if info.kind == "frozen":
            from prefkit.training.frozen import FrozenRewardModel

            return cls(info, FrozenRewardModel.load(folder, device=device), folder.resolve().name)
        return cls(info, TrainedScorer.load(folder, info, device, budget), folder.resolve().name)

    def rewards(self, groups: Iterable[Group]) -> Iterator[Rewards]:
        """The rewards of each group's responses, in order: [responses, 1 + heads], the overall one first.

        A response that is too long for the model has a row of NaN, and is counted in ``tally``.

        Raises:
            PrefkitError: a reward is not a number.
        """
        return self.scorer.rewards(groups)

    def counted(self, groups: Iterable[Group]) -> Iterator[tuple[Rewards, int]]:
        """The same with the tokens of each group, its prompt counted for each response; 0 of a frozen model."""
        if isinstance(self.scorer, TrainedScorer):
            return self.scorer.counted(groups)
        return ((rewards, 0) for rewards in self.scorer.rewards(groups))

    def texts(self, texts: Sequence[str]) -> Iterator[tuple[Rewards, int]]:
        """The rewards [1, 1 + heads] and tokens of whole texts, conversations as the chat template writes them. What
        the template puts behind a response is completed where it is missing.

        Raises:
            PrefkitError: the model is a frozen one, which must know where the response begins.
        """
        if isinstance(self.scorer, TrainedScorer):
            return self.scorer.texts(texts)
        remedy = "Send the prompt and the response apart."
        raise PrefkitError(self.name, "a whole text for a frozen reward model", "a prompt and a response", remedy)

    @property
    def tally(self) -> Mapping[str, int]:
        """How many responses were not read as they are, by reason."""
        return getattr(self.scorer, "tally", {})

    @property
    def padded(self) -> str | None:
        """Why texts are padded; None where they are packed."""
        return getattr(self.scorer, "padded", None)

    def scores(self, prompt: Dialogue, responses: Sequence[str]) -> Rewards:
        """The overall reward of each response, then a column for each head: [responses, 1 + heads]."""
        if not responses:
            return np.empty((0, 1 + len(self.heads)), np.float32)
        return next(self.rewards([group_of(prompt, responses)]))

    def score(
        self,
        prompt: Dialogue,
        responses: Sequence[str],
        *,
        normalised: bool = False,
    ) -> npt.NDArray[np.float32]:
        """The reward of each response to a prompt, in log-odds: only differences between them have a meaning.

        Args:
            prompt: the client's words, or the turns of a dialogue as ``{"role": ..., "content": ...}``.
            responses: texts.
            normalised: in standard deviations from the mean of the training responses.
        """
        rewards = self.scores(prompt, responses)
        return (self.normalised(rewards) if normalised else rewards)[:, 0]

    def normalised(self, rewards: Rewards) -> Rewards:
        """Rewards with the overall one in standard deviations from the mean of the training responses."""
        overall = (rewards[:, :1] - self.info.mean) / self.info.std
        return np.concatenate([overall, rewards[:, 1:]], axis=1).astype(np.float32)


def group_of(prompt: Dialogue, responses: Sequence[str]) -> Group:
    """A prompt and its responses as a group.

    Raises:
        PrefkitError: the prompt has no turns, or is no dialogue.
    """
    if isinstance(prompt, str):
        messages: tuple[Message, ...] = (Message(role="user", content=prompt),)
    else:
        try:
            messages = msgspec.convert([msgspec.to_builtins(turn) for turn in prompt], tuple[Message, ...])
        except msgspec.ValidationError as error:
            remedy = 'Write turns as {"role": "user", "content": "..."}.'
            raise PrefkitError("the prompt", str(error), "a text, or the turns of a dialogue", remedy) from None
    if not messages:
        raise PrefkitError("the prompt", "no turns", "at least one", "Leave no prompt empty.")
    places = tuple(map(str, range(len(responses))))
    return Group(
        prompt_id="", messages=messages, response_ids=places, texts=tuple(responses), policies=("",) * len(responses)
    )
