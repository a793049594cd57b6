"""What the workers of a round share: the budget, the reasons to stop, and how it goes.

One actor of Ray keeps it, on the driver's machine. A worker tells it once a second how its block goes and hears whether
to stop. Where there is a budget, a worker first draws an allowance for its block, the most that the questions of the
block can take, spends of it as the local engine spends of a budget, and hands back the rest. Allowances are never more
than what is left, so the bounds are never passed. Where what is left is too little for a whole block, a worker waits
until the others have handed back theirs, and then spends what there is, call by call.

What a worker that died had drawn counts as spent for the rest of the command, for nobody knows how much of it was. The
next command reads what was spent from the records.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import math
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from prefkit.models.asking import Watch
from prefkit.models.budget import Budget
from prefkit.models.engine import Tally

LOOK = 1.0
"""Seconds between two words with the ledger."""

UNHEARD = 120.0
"""Seconds after which a worker that says nothing is taken for dead, and its allowance for spent."""
LOST = "a worker died with the answers of its block"
EVERYTHING = ""
"""In the place of a model's name: all of them."""


@dataclass(frozen=True)
class Amount:
    """Calls, tokens and money."""

    calls: float = 0
    tokens: float = 0
    cost: float = 0.0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.calls + other.calls, self.tokens + other.tokens, self.cost + other.cost)

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.calls - other.calls, self.tokens - other.tokens, self.cost - other.cost)

    def within(self, other: Amount) -> bool:
        """Whether no part of it is more than that of the other."""
        return self.calls <= other.calls and self.tokens <= other.tokens and self.cost <= other.cost + 1e-12


@dataclass(frozen=True)
class Allowance:
    """What a worker may spend on its block; ``last`` says that nothing is left beside it."""

    amount: Amount
    last: bool

    def budget(self, bounds: Budget) -> Budget:
        """The budget of the block: bounded where that of the run is."""
        amount = self.amount
        return Budget(
            max_calls=None if bounds.max_calls is None else int(amount.calls),
            max_tokens=None if bounds.max_tokens is None else int(amount.tokens),
            max_cost=None if bounds.max_cost is None else amount.cost,
        )


@dataclass
class _Active:
    worker: str
    tally: Tally
    drawn: Amount | None
    heard: float


@dataclass
class Ledger:
    """See the module.

    Args:
        bounds: the run's, with what was spent before.
        time_limit: seconds from the first block on.
    """

    bounds: Budget
    time_limit: float | None = None
    _active: dict[int, _Active] = field(default_factory=dict)
    _done: Tally = field(default_factory=Tally)
    _settled: set[int] = field(default_factory=set)
    _reasons: dict[str, str] = field(default_factory=dict)
    _started: float | None = None

    def look(self, block: int, worker: str, tally: Tally) -> dict[str, str]:
        """Hear how a block goes; why its worker should stop, for each model, or for all under ``EVERYTHING``."""
        now = time.monotonic()
        self._started = self._started or now
        if self.time_limit is not None and now - self._started > self.time_limit:
            self.stop(f"time limit of {self.time_limit:g} s")
        active = self._active.get(block)
        if active is None or active.worker != worker:
            self._bury(block)
            self._active[block] = active = _Active(worker, tally, None, now)
        active.tally, active.heard = tally, now
        return dict(self._reasons)

    def draw(self, block: int, wanted: Amount) -> Allowance | str | None:
        """An allowance for a block that is looked at; ``wait`` while others hold some, None where none is left."""
        self._bury_the_unheard()
        left = self._left()
        if block not in self._active:
            return "wait"
        if wanted.within(left):
            amount, last = wanted, False
        elif any(active.drawn is not None for active in self._active.values()):
            return "wait"
        else:
            calls, tokens = min(wanted.calls, left.calls), min(wanted.tokens, left.tokens)
            amount, last = Amount(calls, tokens, min(wanted.cost, left.cost)), True
            if min(amount.calls, amount.tokens) < 1:
                return None
        self._active[block].drawn = amount
        return Allowance(amount, last)

    def spend(self, block: int, spent: Amount) -> None:
        """Take back the allowance of a block, less what was spent of it."""
        self._spend(spent)
        if block in self._active:
            self._active[block].drawn = None

    def settle(self, block: int, tally: Tally) -> None:
        """A block is done and its part is in place."""
        active = self._active.pop(block, None)
        if active is not None and active.drawn is not None:
            self._spend(active.drawn)
        if block in self._settled:
            return
        self._settled.add(block)
        self._done = added(self._done, dataclasses.replace(tally, in_flight=0))
        for model, reason in tally.stopped.items():
            self._reasons.setdefault(model, reason)

    def stop(self, reason: str) -> None:
        """Let nothing more be sent."""
        self._reasons.setdefault(EVERYTHING, reason)

    def tally(self) -> Tally:
        """How it goes, all blocks together."""
        found = self._done
        for active in self._active.values():
            found = added(found, active.tally)
        return found

    def over(self, received: int) -> bool:
        """Whether all was stopped, and the driver has received what every block that began came to."""
        return EVERYTHING in self._reasons and not self._active and received >= len(self._settled)

    def _left(self) -> Amount:
        bounds, drawn = self.bounds, Amount()
        for active in self._active.values():
            drawn += active.drawn or Amount()
        limits = (bounds.max_calls, bounds.max_tokens, bounds.max_cost)
        return Amount(*(math.inf if one is None else one for one in limits)) - drawn - self._spent()

    def _spent(self) -> Amount:
        return Amount(self.bounds.calls, self.bounds.tokens, self.bounds.cost)

    def _spend(self, amount: Amount) -> None:
        self.bounds.calls += int(amount.calls)
        self.bounds.tokens += int(amount.tokens)
        self.bounds.cost += amount.cost

    def _bury_the_unheard(self) -> None:
        limit = time.monotonic() - UNHEARD
        for block in [block for block, active in self._active.items() if active.heard < limit]:
            self._bury(block)

    def _bury(self, block: int) -> None:
        """Count what a worker did that died with a block."""
        dead = self._active.pop(block, None)
        if dead is None:
            return
        self._spend(dead.drawn or Amount())
        told = dead.tally
        lost = Tally(calls=told.calls, retried=told.retried, reasons=told.reasons, cost=told.cost)
        lost.prompt_tokens, lost.cached_tokens = told.prompt_tokens, told.cached_tokens
        lost.completion_tokens = told.completion_tokens
        lost.reasons[LOST] += told.answered
        self._done = added(self._done, lost)


def added(one: Tally, other: Tally) -> Tally:
    """Two tallies in one."""
    values: dict[str, Any] = {}
    for name in (item.name for item in dataclasses.fields(Tally)):
        mine, theirs = getattr(one, name), getattr(other, name)
        values[name] = theirs | mine if name == "stopped" else mine + theirs
    return Tally(**values)


class SharedLedger:
    """The ledger, as the driver and the workers see it.

    Args:
        actor: Ray's handle.
    """

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    @classmethod
    def started(cls, bounds: Budget, time_limit: float | None) -> SharedLedger:
        """A new one, on this machine where that can be."""
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        actor = ray.remote(Ledger).options(num_cpus=0, scheduling_strategy=here)
        return cls(actor.remote(bounds, time_limit))

    async def ask(self, method: str, *arguments: Any) -> Any:
        """Call a method of it, in a worker."""
        return await asyncio.wrap_future(getattr(self._actor, method).remote(*arguments).future())

    def tally(self) -> Tally:
        """How it goes."""
        import ray

        found: Tally = ray.get(self._actor.tally.remote())
        return found

    def over(self, received: int) -> bool:
        """See ``Ledger.over``."""
        import ray

        return bool(ray.get(self._actor.over.remote(received)))

    @contextlib.contextmanager
    def watched(self, watch: Watch, total: int) -> Iterator[None]:
        """Show the tally about once a second."""
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(LOOK):
                watch(self.tally(), total)

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    @contextlib.contextmanager
    def stoppable(self) -> Iterator[None]:
        """Let the first Ctrl-C or SIGTERM send nothing more and wait for what is in flight, and the second end it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        pressed = 0

        def press(*_: object) -> None:
            nonlocal pressed
            pressed += 1
            if pressed > 1:
                raise KeyboardInterrupt
            self._actor.stop.remote("stopped")

        before = {one: signal.signal(one, press) for one in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)
