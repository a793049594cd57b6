"""Tokens and bytes of the answers that a run holds: what a plan is measured on.

Reads   responses.jsonl, judgements.jsonl, each once
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from prefkit.planning.ranges import Range, resampled
from prefkit.records import Judgement, Message, Response, Usage
from prefkit.resampling import MAX_CLUSTERS, Floats
from prefkit.run import Run

MOST = 20_000
"""Answers of a model that are measured; the others are only known to be there."""
TEXTS = 500
"""Texts of a policy that stand in for those to come."""
BYTES_A_TOKEN = (3.0, 4.0)
"""Of a prompt of which nothing is measured: as ``--estimate`` counts."""
FEWEST = 2
"""Prompts, or texts, below which nothing counts as measured: one has no spread."""

Tokenizer = Callable[[Sequence[Message]], int]


@dataclass(frozen=True)
class Answer:
    """What an answer took, and the bytes of its line."""

    usage: Usage
    size: int


@dataclass
class Measured:
    """What a run's own answers say.

    ``answers`` are by file and model, then by id; ``texts`` by policy; ``rate`` is tokens a byte of the responses' own
    texts, None where no model counted.
    """

    answers: dict[tuple[str, str], dict[str, Answer]] = field(default_factory=dict)
    texts: dict[str, list[str]] = field(default_factory=dict)
    responses: Counter[str] = field(default_factory=Counter)
    """By policy; and bytes of their texts."""
    text_bytes: Counter[str] = field(default_factory=Counter)
    rate: Range | None = None


def measured(run: Run, progress: Callable[[int], None]) -> Measured:
    """Read what a run holds."""
    found = Measured()
    sums = np.zeros((MAX_CLUSTERS, 2))
    prompts: set[int] = set()
    for response in run.responses(progress):
        found.responses[response.policy] += 1
        texts = found.texts.setdefault(response.policy, [])
        if response.text is None:
            continue
        size = len(response.text.encode())
        found.text_bytes[response.policy] += size
        if len(texts) < TEXTS and response.text.strip():
            texts.append(response.text)
        if response.usage is not None and _kept(found, response.policy, response, response.usage):
            cluster = hash(response.prompt_id) % MAX_CLUSTERS
            prompts.add(cluster)
            sums[cluster] += response.usage.completion, size
    if len(prompts) >= FEWEST:
        found.rate = tokens_a_byte(sums, len(prompts), found.responses.total())
    for judgement in run.judgements(progress):
        if judgement.usage is not None:
            _kept(found, judgement.annotator.removeprefix("llm:"), judgement, judgement.usage)
    return found


def usual_rate() -> Range:
    """Tokens a byte where nothing says more."""
    few, many = BYTES_A_TOKEN
    return Range(1 / many, 1 / few)


def tokens_a_byte(sums: Floats, measured_on: int, expected: float) -> Range:
    """The ratio of two columns [clusters, 2]: tokens, bytes."""
    return resampled(sums, lambda totals: totals[..., 0] / totals[..., 1], measured=measured_on, expected=expected)


def _kept(found: Measured, model: str, record: Response | Judgement, usage: Usage) -> bool:
    file = "responses.jsonl" if isinstance(record, Response) else "judgements.jsonl"
    known = found.answers.setdefault((file, model), {})
    if len(known) >= MOST:
        return False
    known[record.id] = Answer(usage, len(msgspec.json.encode(record)) + 1)
    return True


def tokenizer_of(name: str) -> Tokenizer:
    """How many tokens a model's own tokenizer and chat template make of messages.

    Args:
        name: a folder, a hub id, or ``smollm2``.

    Raises:
        PrefkitError: there is none.
    """
    from transformers import AutoTokenizer

    from prefkit.training.bases import base_model

    loaded: Any = AutoTokenizer.from_pretrained(base_model(name))

    def count(messages: Sequence[Message]) -> int:
        turns = [{"role": one.role, "content": one.content} for one in messages]
        if loaded.chat_template is None:
            return sum(len(loaded(one["content"])["input_ids"]) for one in turns)
        text = loaded.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return len(loaded(text, add_special_tokens=False)["input_ids"])

    return count
