"""The records that every stage reads and writes, and their ids.

    Prompt          what a response answers: a client's speech, or a dialogue that ends with the client
    Response        one answer to a prompt by one policy
    Judgement       one question to one annotator, and what came back:
      Rating          one response, a score for each principle that was asked
      Comparison      two responses as shown, which is better
      Choice          several responses as shown, which is best
    PreferencePair  prompt, chosen, rejected, by id, and who said so
    Rewarded        what a reward model gave a response

An id digests what was *asked*, never what was answered: it is known before a model or a person is asked, so a stage
that is run again skips the ids that its output holds. A prompt's id digests the messages as they were imported;
scrubbing later changes the words and keeps the id, so that importing the raw file again brings nothing back.

JSON in and out is msgspec's: it validates while it parses, at about a microsecond a record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

Role = Literal["system", "user", "assistant"]
Winner = Literal["a", "b", "tie"]
Score = int | float


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """What all records share: they cannot be changed, and a field that is not theirs is an error."""


class Message(Record, frozen=True, kw_only=True):
    """One turn of a dialogue, in the chat format of transformers and trl."""

    role: Role
    content: str


class Usage(Record, frozen=True, kw_only=True):
    """What an answer took: tokens of the prompt (``cached`` of them read from a cache) and of the completion, in
    ``calls`` calls; ``cost`` in the currency of the price table, None where the model has no price."""

    prompt: int
    completion: int
    cached: int = 0
    calls: int = 1
    cost: float | None = None


class Prompt(Record, frozen=True, kw_only=True):
    """What a response answers.

    ``keys`` are the names by which other files refer to it (``question_id``); ``excluded`` is the reason why later
    stages pass over it; ``marks`` are findings that exclude nothing, such as ``risk:self-harm``.
    """

    id: str
    messages: tuple[Message, ...]
    topic: str | None = None
    keys: tuple[str, ...] = ()
    scrubbed: bool = False
    marks: tuple[str, ...] = ()
    excluded: str | None = None


class Response(Record, frozen=True, kw_only=True):
    """One answer by one policy. ``text`` is None where only the judgements about it are known.

    ``marks`` are findings about the text: ``empty``, ``cut-off``, ``looping``, ``multi-speaker``.
    """

    id: str
    prompt_id: str
    policy: str
    text: str | None
    sample: int = 0
    sampling: dict[str, Any] = {}
    finish: str | None = None
    keys: tuple[str, ...] = ()
    scrubbed: bool = False
    marks: tuple[str, ...] = ()
    usage: Usage | None = None


class Judged(Record, frozen=True, kw_only=True):
    """What the three kinds of judgement share.

    ``rubric`` is the content hash of the rubric that was shown, None where nobody knows it. ``reply`` is what a model
    wrote, so that a better parser needs no new question; ``failure`` says why it could not be read. ``expected`` says
    that the scores are means over the probabilities of the reply's words, and not the words.

    What a person may add: ``reason`` in their own words; ``flags``, such as ``uncomfortable`` or ``risk``; ``seconds``
    that they took. A person's ``failure`` is ``draft`` or ``discarded``, for a question opened and not answered.
    """

    id: str
    annotator: str
    prompt_id: str
    rubric: str | None
    sample: int = 0
    failure: str | None = None
    reply: str | None = None
    expected: bool = False
    usage: Usage | None = None
    reason: str | None = None
    flags: tuple[str, ...] = ()
    seconds: float | None = None


class Rating(Judged, frozen=True, kw_only=True, tag_field="kind", tag="rating"):
    """Scores for one response. A principle that was asked and not answered has the score None, never a low one."""

    response_id: str
    scores: dict[str, Score | None]


class Comparison(Judged, frozen=True, kw_only=True, tag_field="kind", tag="comparison"):
    """Two responses, in the order shown, and which is better.

    ``preference`` is the annotator's probability for ``b`` where it gave one (0 to 1); ``strength`` how much better the
    winner is, from 1 (slightly) to 3 (much).
    """

    a: str
    b: str
    winner: Winner | None
    principles: dict[str, Winner | None] = {}
    preference: float | None = None
    strength: int | None = None


class Choice(Judged, frozen=True, kw_only=True, tag_field="kind", tag="choice"):
    """Several responses, in the order shown; ``best`` is the position of the one chosen, from 0."""

    responses: tuple[str, ...]
    best: int | None


Judgement = Rating | Comparison | Choice


class PreferencePair(Record, frozen=True, kw_only=True):
    """A row of ``pairs.parquet``: who is preferred to whom, by how much, and who said so.

    ``rating_gap`` and ``gaps`` are differences of aggregated scores, chosen minus rejected, in the rubric's units; None
    where the two were compared and never rated. ``preferred`` is the share of annotators that prefer the chosen side, a
    tie counting half, and ``principle_preferred`` the same for each principle. ``first`` names the side to show first.
    """

    id: str
    prompt_id: str
    chosen_id: str
    rejected_id: str
    chosen_policy: str
    rejected_policy: str
    rating_gap: float | None
    gaps: dict[str, float | None]
    preferred: float | None
    principle_preferred: dict[str, float | None]
    annotators: tuple[str, ...]
    first: Literal["chosen", "rejected"]
    split: Literal["train", "validation", "test"]


class Rewarded(Record, frozen=True, kw_only=True):
    """A line of ``rewards.jsonl``: what one reward model gave one response.

    ``reward`` is the overall reward in log-odds, ``normalised`` the same in standard deviations from the mean of the
    model's training responses, ``heads`` the rewards by principle. A response that the model cannot read has none, and
    ``failure`` says why.
    """

    id: str
    model: str
    prompt_id: str
    response_id: str
    policy: str
    reward: float | None
    normalised: float | None
    heads: dict[str, float] = {}
    failure: str | None = None


def digest(*parts: Any) -> str:
    """Twenty hexadecimal digits (80 bits of BLAKE2b) of the parts' canonical JSON: keys sorted, no blanks."""
    return hashlib.blake2b(msgspec.json.encode(parts, order="deterministic"), digest_size=10).hexdigest()


def prompt_id(messages: Sequence[Message], key: str | None = None) -> str:
    """The id of a prompt with these messages; ``key`` tells apart prompts of the same words, where a source has
    such."""
    return digest("prompt", [(message.role, message.content) for message in messages], *([key] if key else []))


def response_id(prompt: str, policy: str, sampling: Mapping[str, Any] | None = None, sample: int = 0) -> str:
    """The id of the ``sample``-th answer of ``policy`` to the prompt with the id ``prompt``."""
    return digest("response", prompt, policy, dict(sampling or {}), sample)


def judgement_id(annotator: str, question: Any, sample: int = 0) -> str:
    """The id of an annotator's ``sample``-th answer to a question: any JSON value that holds all of what was shown."""
    return digest("judgement", annotator, question, sample)


def pair_id(prompt: str, chosen: str, rejected: str) -> str:
    """The id of a preference between two responses to a prompt."""
    return digest("pair", prompt, chosen, rejected)


def is_annotator(name: str) -> bool:
    """Whether a name says what kind of annotator it is: ``llm:<model>`` or ``human:<pseudonym>``."""
    kind, colon, rest = name.partition(":")
    return kind in ("llm", "human") and bool(colon) and bool(rest.strip())


def is_model(annotator: str) -> bool:
    """Whether an annotator is a model, which must be asked in both orders before its verdict counts."""
    return annotator.startswith("llm:")


ATTENTION = "attention:"
"""How the flags begin that say whether the answer to an attention item was the known one: ``attention:right``."""
UNANSWERED = ("draft", "discarded")
"""The failures of a person's judgement that say that there is no answer."""


def is_attention(judgement: Judged) -> bool:
    """Whether a judgement answers an attention item, whose answer was known before: it says nothing new."""
    return any(flag.startswith(ATTENTION) for flag in judgement.flags)


def prompt_text(messages: Sequence[Message]) -> str:
    """A prompt in plain text: the words alone where there is one message, else a turn a paragraph with its speaker."""
    if len(messages) == 1:
        return messages[0].content
    speakers = {"system": "Setting", "user": "Client", "assistant": "Therapist"}
    return "\n\n".join(f"{speakers[message.role]}: {message.content}" for message in messages)
