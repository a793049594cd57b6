"""A policy's chat template: prompts in tokens as the policy reads them, and what ends its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefkit.errors import PrefkitError
from prefkit.models.chat import without_system
from prefkit.records import Message
from prefkit.training.reward_model import Dialogue, group_of


def need_chat_template(tokenizer: Any, where: object) -> None:
    """Say it where a tokenizer has no chat template.

    Raises:
        PrefkitError: it has none.
    """
    if not tokenizer.chat_template:
        remedy = "Take an instruction-tuned model, or save a template with the tokenizer."
        raise PrefkitError(where, "a tokenizer without a chat template", "one that has it", remedy)


def prompt_ids(tokenizer: Any, prompts: Sequence[Dialogue], template: Mapping[str, Any], where: object) -> list[Any]:
    """Each prompt in tokens, up to where the assistant begins.

    Raises:
        PrefkitError: there is no chat template, or it refuses a prompt.
    """
    need_chat_template(tokenizer, where)
    texts = [_opened(tokenizer, prompt, place, template) for place, prompt in enumerate(prompts)]
    return list(tokenizer(texts, add_special_tokens=False)["input_ids"]) if texts else []


def _opened(tokenizer: Any, prompt: Dialogue, place: int, template: Mapping[str, Any]) -> str:
    from jinja2 import TemplateError

    messages = group_of(prompt, ()).messages
    said = ""
    for turns in (messages, without_system(messages)):
        try:
            return str(
                tokenizer.apply_chat_template(_plain(turns), tokenize=False, add_generation_prompt=True, **template)
            )
        except TemplateError as error:
            said = " ".join(str(error).split())[:200]
    roles = ", ".join(turn.role for turn in messages)
    remedy = "Take another model, or a chat template that allows it."
    raise PrefkitError(
        f"prompt {place}", f"turns of {roles}, which the chat template refuses ({said})", "ones that it allows", remedy
    )


def _plain(turns: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in turns]


def stop_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end an answer: those of the generation config, of the tokenizer, and the one that closes a turn
    of the assistant in the chat template."""
    said = getattr(model.generation_config, "eos_token_id", None)
    known = [*(said if isinstance(said, list | tuple) else [said]), tokenizer.eos_token_id, _closing(tokenizer)]
    return frozenset(token for token in known if token is not None)


def _closing(tokenizer: Any) -> int | None:
    """The special token that follows an answer in the chat template; None where there is none."""
    turns = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Good morning."}]
    behind = tokenizer.apply_chat_template(turns, tokenize=False).rpartition("Good morning.")[2]
    ids = tokenizer(behind, add_special_tokens=False)["input_ids"]
    special = {token for token, one in tokenizer.added_tokens_decoder.items() if one.special}
    return int(ids[0]) if ids and ids[0] in special else None
