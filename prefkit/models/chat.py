"""What is asked of a chat model and what it gives: the whole interface between stages and models.

    Request   messages, sampling, a JSON schema for the reply, how many logprobs
    Reply     text, why it ended, usage, logprobs
    Endpoint  ``await endpoint.ask(request)`` gives a Reply or raises CallFailed
    Model     a name, its endpoints, its price
    Task      one question of a stage: its requests, and what becomes of the reply

An endpoint makes one attempt. Trying again, waiting, limits and budgets are the engine's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from prefkit.records import Message, Usage


class Sampling(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """How a model draws its words; None leaves a choice to the endpoint. ``max_tokens`` bounds the reply."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    frequency_penalty: float | None = None
    presence_penalty: float | None = None


class Request(msgspec.Struct, frozen=True, gc=False):
    """One call.

    ``schema`` is a JSON schema that the reply must follow; endpoints that have no such thing are asked without it.
    ``top_logprobs`` is how many alternatives are wanted for each token of the reply, 0 for none.
    """

    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    schema: Mapping[str, Any] | None = None
    top_logprobs: int = 0


class Token(msgspec.Struct, frozen=True, gc=False):
    """A token of a reply; ``top`` are (token, logprob) of the likeliest alternatives, itself among them."""

    text: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What came back. ``finish`` is ``stop``, ``length`` or the endpoint's own word; ``usage`` and ``tokens`` are None
    where the endpoint does not tell."""

    text: str
    finish: str | None = None
    usage: Usage | None = None
    tokens: tuple[Token, ...] | None = None


def without_system(messages: Iterable[Message]) -> tuple[Message, ...]:
    """The messages with the system's text at the head of the first user message, for templates without that role."""
    setting = "\n\n".join(message.content for message in messages if message.role == "system")
    rest = [message for message in messages if message.role != "system"]
    if setting and rest and rest[0].role == "user":
        rest[0] = Message(role="user", content=f"{setting}\n\n{rest[0].content}")
    elif setting:
        rest.insert(0, Message(role="user", content=setting))
    return tuple(rest)


class CallFailed(Exception):
    """A call brought no usable answer.

    Args:
        reason: in few words, without keys and without the texts asked about.
        again: whether the same call may succeed later.
        after: seconds that the endpoint asks to wait.
        crowded: whether the endpoint says that it has too much to do (429, 503).
        hopeless: whether no other call to this endpoint will fare better (wrong key, no such model, no credit).
        maybe_paid: whether the endpoint may have done the work all the same, as after a lost connection.
        unreachable: whether there was no connection at all.
    """

    def __init__(
        self,
        reason: str,
        *,
        again: bool = False,
        after: float | None = None,
        crowded: bool = False,
        hopeless: bool = False,
        maybe_paid: bool = False,
        unreachable: bool = False,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.again = again
        self.after = after
        self.crowded = crowded
        self.hopeless = hopeless
        self.maybe_paid = maybe_paid
        self.unreachable = unreachable


class Endpoint(Protocol):
    """One place where a model answers.

    ``most`` is the number of calls that it can take at a time, None for no limit of its own; ``notes`` says what it
    turned out not to take, by field.
    """

    most: int | None
    notes: dict[str, str]

    async def ask(self, request: Request) -> Reply:
        """Make one attempt.

        Raises:
            CallFailed: there is no usable answer.
        """
        ...


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Money for a million tokens; ``cached`` is the price of prompt tokens read from a cache, the full one without
    it."""

    prompt: float
    completion: float
    cached: float | None = None

    def of(self, usage: Usage) -> float:
        """The cost of a usage."""
        cached = self.prompt if self.cached is None else self.cached
        fresh = usage.prompt - usage.cached
        return (fresh * self.prompt + usage.cached * cached + usage.completion * self.completion) / 1e6


@dataclass(frozen=True)
class Model:
    """A model that can be asked; calls are balanced over its endpoints."""

    name: str
    endpoints: Sequence[Endpoint]
    price: Price | None = None
    sampling: Sampling = field(default_factory=Sampling)
    """What the model's entry says about sampling; a stage's own choices go before it."""
    local: bool = True
    """Whether what is asked stays on this machine or in its private network."""


class Task(Protocol):
    """One question of a stage to one model. Its record's id is known before it is asked."""

    id: str

    @property
    def topic(self) -> str:
        """What it is about, for the list of failures, without anybody's words: ``rate 2f0c by llm:gpt``."""
        ...

    def request(self) -> Request:
        """What to ask first."""
        ...

    def receive(self, reply: Reply, usage: Usage | None) -> bytes | Request:
        """The record as a line of JSON with its newline; or one more request, such as to repair an unreadable reply.

        ``usage`` is that of all calls of this task so far, with cost; None where the endpoint does not tell.
        """
        ...
