"""What a row of a foreign file says, before it is known which records of the run it means.

A draft names prompts and responses as the file does: by key, by policy, or by their words. The importer gives them ids.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prefkit.records import Message, Winner


class Unfit(Exception):
    """A row, or a part of one, cannot be used: under a named reason, with what was found."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class PromptDraft:
    """A prompt in full. ``distinct`` says that the same words under another key are another prompt."""

    messages: tuple[Message, ...]
    topic: str | None = None
    key: str | None = None
    distinct: bool = False


@dataclass(frozen=True, slots=True)
class ResponseDraft:
    """A response in full; ``prompt`` is the prompt in full, or its key, id or words."""

    prompt: PromptDraft | str
    policy: str
    text: str | None
    sample: int | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    finish: str | None = None
    key: str | None = None
    note: str | None = None
    """What the reader of the import should know about how this row was read."""


@dataclass(frozen=True, slots=True)
class ResponseRef:
    """A response that the run has already: by its key or id, or by prompt and policy."""

    prompt: str | None = None
    policy: str | None = None
    sample: int | None = None
    key: str | None = None


Target = ResponseDraft | ResponseRef


@dataclass(frozen=True, slots=True)
class RatingDraft:
    """One annotator's scores for one response, as the file has them; ``failure`` where they cannot be read."""

    response: Target
    annotator: str
    scores: Mapping[str, Any]
    sample: int = 0
    failure: str | None = None
    reply: str | None = None


@dataclass(frozen=True, slots=True)
class ComparisonDraft:
    """One annotator's verdict on two responses, in the order of the file."""

    a: Target
    b: Target
    annotator: str
    winner: Winner | None
    principles: Mapping[str, Winner | None] = field(default_factory=dict)
    preference: float | None = None
    sample: int = 0
    failure: str | None = None
    reply: str | None = None


Draft = PromptDraft | ResponseDraft | RatingDraft | ComparisonDraft
