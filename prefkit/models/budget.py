"""What a run may spend, reserved before each call is sent, so that it is never passed.

A call is reserved at the most that it can take: a prompt (with its schema)
has no more tokens than bytes, a reply no more than its bound.
What it did take replaces that when the answer is there. Where that is not known, as after a lost connection, the most
that it can have been counts as spent.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from prefkit.models.chat import Price, Request
from prefkit.records import Usage

TEMPLATE_TOKENS = 64
"""Tokens that a chat template may add to a message."""


@dataclass(frozen=True, slots=True)
class Reserved:
    """The most that a call can take."""

    tokens: int
    cost: float


NOTHING = Reserved(0, 0.0)


@dataclass
class Budget:
    """Bounds for a run (None is no bound), and what is spent and reserved of them.

    ``calls`` are attempts; ``tokens`` those of prompts and replies; ``cost`` is in the currency of the prices.
    """

    max_calls: int | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    calls: int = 0
    tokens: int = 0
    cost: float = 0.0
    reserved: int = 0
    reserved_tokens: int = 0
    reserved_cost: float = 0.0

    @property
    def bounded(self) -> bool:
        """Whether there is any bound."""
        return not (self.max_calls is None and self.max_tokens is None and self.max_cost is None)

    def count(self, usage: Usage) -> None:
        """Count as spent what some records took."""
        self.calls += usage.calls
        self.tokens += usage.prompt + usage.completion
        self.cost += usage.cost or 0.0

    def reserve(self, request: Request, price: Price | None) -> Reserved | None:
        """Set aside what a call may take; None where too little is left."""
        if not self.bounded:
            return NOTHING
        most = at_most(request, price)
        if (
            _beyond(self.calls + self.reserved + 1, self.max_calls)
            or _beyond(self.tokens + self.reserved_tokens + most.tokens, self.max_tokens)
            or _beyond(self.cost + self.reserved_cost + most.cost, self.max_cost)
        ):
            return None
        self.reserved += 1
        self.reserved_tokens += most.tokens
        self.reserved_cost += most.cost
        return most

    def settle(self, reserved: Reserved, usage: Usage | None, price: Price | None, *, unknown: bool = False) -> None:
        """Replace what was set aside by what was used; ``unknown`` says that it may have been all of it."""
        self.calls += 1
        if self.bounded:
            self.reserved -= 1
            self.reserved_tokens -= reserved.tokens
            self.reserved_cost -= reserved.cost
        if usage is not None:
            self.tokens += usage.prompt + usage.completion
            self.cost += price.of(usage) if price else 0.0
        elif unknown:
            self.tokens += reserved.tokens
            self.cost += reserved.cost


def at_most(request: Request, price: Price | None) -> Reserved:
    """The most that a call can take.

    Raises:
        ValueError: the reply has no bound.
    """
    if request.sampling.max_tokens is None:
        raise ValueError("a budget needs a bound on the reply: sampling.max_tokens")
    prompt = sum(len(message.content.encode()) + TEMPLATE_TOKENS for message in request.messages) + TEMPLATE_TOKENS
    prompt += len(msgspec.json.encode(request.schema)) if request.schema is not None else 0
    usage = Usage(prompt=prompt, completion=request.sampling.max_tokens)
    return Reserved(prompt + request.sampling.max_tokens, price.of(usage) if price else 0.0)


def halved(price: Price | None) -> Price | None:
    """The price of a batch, as vendors have it: half of everything."""
    if price is None:
        return None
    cached = None if price.cached is None else price.cached / 2
    return Price(prompt=price.prompt / 2, completion=price.completion / 2, cached=cached)


def _beyond(amount: float, bound: float | None) -> bool:
    return bound is not None and amount > bound + 1e-12
