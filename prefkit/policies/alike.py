"""Whether an exported file answers as the policy does.

Reads   the policy in transformers; a GGUF file, asked in llama.cpp (xllamacpp); or a folder, in transformers
Gives   on eight prompts: equal tokens, equal greedy texts, the likeliest next token, and how far log-probabilities are
        apart

The prompts' tokens must be equal: llama.cpp makes them by the chat template and the tokenizer inside the file. The
policy then answers each prompt with up to 16 greedy tokens. At each place of these answers, given what stands before
it, the file is asked for its likeliest next token. How often that must be the policy's own depends on how the weights
are stored, as rounding alone changes some. Measured on SmolLM2, which suffers more from rounding than larger models do:
f16 99%, q8_0 96%, q4_k_m 84%; f16 with a dead layer 78%, with one layer's heads scrambled 83%, with wrong positions
80%, with all heads scrambled 26%. So q4_k_m is only told from gross mistakes.
"""

from __future__ import annotations

import json
import math
import statistics
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefkit.errors import PrefkitError
from prefkit.models.embedded import Served, served

WORDS = 16
"""Greedy tokens of an answer."""
AGREEMENT = {"f16": 0.97, "q8_0": 0.9, "q4_k_m": 0.7}
"""The share of places at which the likeliest next token must be the same, by how weights are stored."""
_LIKELIEST = 64
"""Tokens whose log-probabilities are asked for."""
_WAIT = 600.0

Dialogue = list[dict[str, str]]

PROMPTS: tuple[Dialogue, ...] = (
    [{"role": "user", "content": "I feel so alone since I moved to a new city."}],
    [{"role": "user", "content": "What is the capital of France?"}],
    [{"role": "user", "content": "My sister and I do not talk any more, and it hurts."}],
    [{"role": "user", "content": "Write a haiku about rain."}],
    [{"role": "user", "content": "Give me three tips against stress."}],
    [{"role": "user", "content": "Ich kann nicht schlafen – was hilft? 😴"}],
    [{"role": "user", "content": "def fib(n):\n    # what stands here?\n"}],
    [
        {"role": "user", "content": "Hello! My name is Ana."},
        {"role": "assistant", "content": "Hello, Ana. What brings you here?"},
        {"role": "user", "content": "I argue with my mother every single day."},
    ],
)


@dataclass(frozen=True)
class Asked:
    """A prompt and what the policy makes of it.

    Args:
        messages: the prompt.
        ids: its tokens.
        words: the policy's greedy answer in tokens, with the one that ends it.
        logprobs: of each of them, in nats.
    """

    messages: Dialogue
    ids: list[int]
    words: list[int]
    logprobs: list[float]


@dataclass(frozen=True)
class Alike:
    """What was seen.

    Args:
        tokens: for each prompt, whether its tokens are equal.
        texts: for each prompt, whether the greedy answers are equal.
        firsts: how far the log-probabilities of the policy's first token are apart, in nats, for each prompt on which
            both are known.
        places: for each place of the answers, whether the likeliest next token is the same.
    """

    tokens: list[bool] = field(default_factory=list)
    texts: list[bool] = field(default_factory=list)
    firsts: list[float] = field(default_factory=list)
    places: list[bool] = field(default_factory=list)

    @property
    def agreement(self) -> float:
        """The share of places at which the likeliest next token is the same."""
        return sum(self.places) / len(self.places)

    def passes(self, stored: str) -> bool:
        """Whether it answers as the policy does, given how its weights are stored."""
        return all(self.tokens) and self.agreement >= AGREEMENT[stored]

    def in_words(self) -> str:
        """One line."""
        text = (
            f"the likeliest next token is the same at {sum(self.places)} of {len(self.places)} places, the greedy text"
            f" on {sum(self.texts)} of {len(self.texts)} prompts"
        )
        if self.firsts:
            middle, most = statistics.median(self.firsts), max(self.firsts)
            text += f"; first tokens are {middle:.3f} nat apart in the median, {most:.3f} at most"
        wrong = self.tokens.count(False)
        return text + (f"; {wrong} prompts have other tokens" if wrong else "")


def ask_policy(model: Any, tokenizer: Any) -> list[Asked]:
    """What the policy makes of the prompts."""
    from prefkit.policies.templates import stop_tokens

    ends = stop_tokens(model, tokenizer)
    return [_asked(model, tokenizer, ends, messages) for messages in PROMPTS]


def _asked(model: Any, tokenizer: Any, ends: frozenset[int], messages: Dialogue) -> Asked:
    import torch
    from transformers import GenerationConfig

    config: Any = GenerationConfig

    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
    rows = torch.tensor([ids], device=model.device)
    settings = config(
        do_sample=False, max_new_tokens=WORDS, eos_token_id=sorted(ends), pad_token_id=min(ends, default=0),
        return_dict_in_generate=True, output_logits=True,
    )  # fmt: skip
    with torch.inference_mode():
        out = model.generate(rows, attention_mask=torch.ones_like(rows), generation_config=settings)
    words = out.sequences[0, len(ids) :].tolist()
    logprobs = [float(logits[0].float().log_softmax(-1)[word]) for logits, word in zip(out.logits, words, strict=True)]
    return Asked(messages, ids, words, logprobs)


def compare_model(model: Any, tokenizer: Any, expected: Sequence[Asked]) -> Alike:
    """A model in transformers beside the policy."""
    import torch

    alike = Alike()
    for one, found in zip(expected, ask_policy(model, tokenizer), strict=True):
        rows = torch.tensor([one.ids + one.words[:-1]], device=model.device)
        with torch.inference_mode():
            logits = model(rows).logits[0, len(one.ids) - 1 :].float()
        alike.tokens.append(found.ids == one.ids)
        alike.texts.append(found.words == one.words)
        alike.firsts.append(abs(float(logits[0].log_softmax(-1)[one.words[0]]) - one.logprobs[0]))
        alike.places.extend(logits.argmax(-1).eq(torch.tensor(one.words, device=model.device)).tolist())
    return alike


def compare_gguf(file: Path, expected: Sequence[Asked], reached: Callable[[int], None] = lambda prompts: None) -> Alike:
    """A GGUF file in llama.cpp beside the policy.

    Raises:
        PrefkitError: xllamacpp is missing, or it cannot load or ask the file.
    """
    alike = Alike()
    with served(file, name="exported", slots=1) as at:
        for place, one in enumerate(expected, 1):
            prompt = _post(at, "/apply-template", {"messages": one.messages}, file)["prompt"]
            read = {"content": prompt, "add_special": True, "parse_special": True}
            alike.tokens.append(_post(at, "/tokenize", read, file)["tokens"] == one.ids)
            likeliest = [_next(at, one.ids + one.words[:drawn], file) for drawn in range(len(one.words))]
            same = [first == word for (first, _), word in zip(likeliest, one.words, strict=True)]
            alike.texts.append(all(same))
            if known := likeliest[0][1]:
                alike.firsts.append(abs(known.get(one.words[0], -math.inf) - one.logprobs[0]))
            alike.places.extend(same)
            reached(place)
    return alike


def _next(at: Served, ids: list[int], file: Path) -> tuple[int, dict[int, float]]:
    """The likeliest next token, and the log-probabilities of the likeliest ones; none where it is but a part of a
    letter, of which llama.cpp tells none."""
    question = {"prompt": ids, "n_predict": 1, "temperature": 0, "top_k": 1, "n_probs": _LIKELIEST}
    told = _post(at, "/completion", {**question, "return_tokens": True}, file)
    first = (told.get("completion_probabilities") or [{}])[0]
    known = {top["id"]: float(top["logprob"]) for top in first.get("top_logprobs", ())}
    return max(known, key=known.__getitem__) if known else next(iter(told["tokens"]), -1), known


def _post(at: Served, path: str, body: dict[str, Any], file: Path) -> Any:
    """Ask the server in this process; no proxy is asked."""
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {at.key}"}
    request = urllib.request.Request(at.url.removesuffix("/v1") + path, json.dumps(body).encode(), headers)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_WAIT) as answer:
            return json.load(answer)
    except (OSError, ValueError) as error:
        found = f"no answer at {path}: {error}"
        raise PrefkitError(file.name, found, "a file that llama.cpp can ask", "Try another --quantize.") from None
