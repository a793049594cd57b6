"""Asks many questions of several models at once: retries, waits, keeps to limits and budgets, hands on each answer as
it comes.

    lanes    one a model, each with its tasks, taken one by one as there is room for them
    append   called with each finished record at once; nothing is held back

A failed call is made again after a while (exponential, with jitter, not before the endpoint's ``Retry-After``), as
often as ``Limits.retries`` says; then its task is listed as failed. An endpoint at which no call has a chance (wrong
key, no credit), or that answered nothing for ``Limits.patience`` seconds, is given up, and what was not asked of it is
counted. There is one process, one thread, one event loop; what waits for another try is never more than the calls that
may be in flight, so memory does not grow with the number of tasks.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import msgspec

from prefkit.models.budget import Budget, Reserved
from prefkit.models.chat import CallFailed, Endpoint, Model, Reply, Request, Task
from prefkit.models.limits import Throttle
from prefkit.models.waits import seconds_before
from prefkit.records import Usage

NEVER_REACHED = 10.0
"""Seconds of patience with an endpoint that could not be connected to once."""
HOPELESS = 3
"""How many calls in a row without a chance make an endpoint be given up."""
BREATH = 2048
"""Tasks already done that are passed over before other work gets its turn."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much at a time, how often, how long. Times in seconds."""

    concurrency: int = 64
    timeout: float = 120.0
    retries: int = 8
    patience: float = 300.0
    time_limit: float | None = None


@dataclass(frozen=True)
class Failure:
    """A task without an answer, and why the last attempt at it failed."""

    id: str
    topic: str
    reason: str
    attempts: int


@dataclass
class Tally:
    """How it goes, changed while it goes."""

    from_before: int = 0
    answered: int = 0
    failed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    """Why calls failed, those that were made again included."""
    calls: int = 0
    retried: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    cost: float = 0.0
    in_flight: int = 0
    stopped: dict[str, str] = field(default_factory=dict)
    """Model -> why its tasks were not all asked."""
    seconds: float = 0.0


@dataclass(frozen=True)
class Place:
    """One of a model's endpoints, and how many calls it gets at a time."""

    endpoint: Endpoint
    throttle: Throttle


@dataclass
class Standing:
    """What is known of a model from its answers, which can outlive a round."""

    places: list[Place]
    reached: bool = False
    silent_since: float | None = None

    @classmethod
    def of(cls, model: Model, limits: Limits) -> Standing:
        """Of a model that was not asked anything yet."""
        most = limits.concurrency
        return cls([Place(one, Throttle(min(most, one.most or most))) for one in model.endpoints])


@dataclass(frozen=True)
class Lane:
    """A model and what it is to be asked; None stands for a task whose record is there from before. A round that goes
    on where another ended, in the same event loop, gets its ``standing``."""

    model: Model
    tasks: Iterator[Task | None]
    standing: Standing | None = None


@dataclass(slots=True)
class _Work:
    task: Task
    request: Request
    attempts: int = 0
    usage: Usage | None = None
    untold: bool = False
    """Whether some call of it had no usage."""


class Engine:
    """One round of asking.

    Args:
        lanes: what is asked of whom.
        append: takes each record, a line of JSON.
        failed: takes each failure.
        limits: see there.
        budget: for all lanes together, with what was spent before.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        append: Callable[[bytes], None],
        failed: Callable[[Failure], None],
        limits: Limits,
        budget: Budget,
    ) -> None:
        self.tally = Tally()
        self._append = append
        self._failed = failed
        self._limits = limits
        self._budget = budget
        self._lanes = [_Lane(lane, limits, self) for lane in lanes]
        self._calls: set[asyncio.Task[None]] = set()
        self._broken: BaseException | None = None
        self._clock: asyncio.TimerHandle | None = None
        self._stopping: str | None = None

    async def run(self) -> Tally:
        """Ask everything, and tell how it went.

        Raises:
            RunError: an answer could not be written; nothing more was asked.
        """
        start = time.monotonic()
        try:
            await asyncio.gather(*(lane.drive() for lane in self._lanes))
        finally:
            if self._clock:
                self._clock.cancel()
            for call in self._calls:
                call.cancel()
            await asyncio.gather(*self._calls, return_exceptions=True)
            self.tally.seconds = time.monotonic() - start
        if self._broken is not None:
            raise self._broken
        return self.tally

    def _begin(self, call: asyncio.Task[None]) -> None:
        """A call begins; the first one starts the clock of the time limit."""
        if self._clock is None and self._limits.time_limit is not None:
            reason = f"time limit of {self._limits.time_limit:g} s"
            self._clock = asyncio.get_running_loop().call_later(self._limits.time_limit, self.stop, reason)
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    def stop(self, reason: str) -> None:
        """Send nothing more; what is in flight is waited for."""
        self._stopping = self._stopping or reason
        self._wake_all()

    def give_up(self, model: str, reason: str) -> None:
        """Send nothing more to one of the models."""
        self.tally.stopped.setdefault(model, reason)
        self._wake_all()

    def fail(self, error: BaseException) -> None:
        """Stop, and raise this error when what is in flight has been answered."""
        self._broken = self._broken or error
        self.stop("an error")

    def abandon(self) -> None:
        """Do not wait for what is in flight either."""
        self.stop("stopped")
        for call in list(self._calls):
            call.cancel()

    def _wake_all(self) -> None:
        for lane in self._lanes:
            lane.woken.set()


class _Lane:
    def __init__(self, lane: Lane, limits: Limits, engine: Engine) -> None:
        self.model = lane.model
        self.woken = asyncio.Event()
        self._engine = engine
        self._limits = limits
        self._tasks: Iterator[Task | None] | None = lane.tasks
        self._ready: list[_Work] = []
        self._waiting: list[tuple[float, int, _Work]] = []
        self._numbers = itertools.count()
        self._standing = lane.standing or Standing.of(lane.model, limits)
        self._places = self._standing.places
        self._in_flight = 0
        self._passing = False
        self._hopeless = 0

    async def drive(self) -> None:
        """Send calls as there is room, until nothing is left or there is no use."""
        engine, loop = self._engine, asyncio.get_running_loop()
        while True:
            now = loop.time()
            reason = self._halted()
            if reason is not None:
                if self._tasks is not None or self._ready or self._waiting:
                    engine.tally.stopped.setdefault(self.model.name, reason)
                if not self._in_flight:
                    return
                await self._sleep(None)
                continue
            place = self._free_place(now)
            work = self._next(now) if place is not None else None
            if work is None or place is None:
                if self._passing or engine._stopping:
                    await asyncio.sleep(0)
                    continue
                if self._tasks is None and not (self._ready or self._waiting or self._in_flight):
                    return
                await self._sleep(self._next_moment(now))
                continue
            reserved = self._start(place, work, now)
            if reserved is not None:
                engine._begin(loop.create_task(self._calls(place, work, reserved)))
            elif engine._budget.reserved:
                await self._sleep(None)
            else:
                engine.tally.stopped[self.model.name] = "budget"

    def _halted(self) -> str | None:
        """Why nothing more is sent to this model; None while something is."""
        return self._engine._stopping or self._engine.tally.stopped.get(self.model.name)

    def _start(self, place: Place, work: _Work, now: float) -> Reserved | None:
        """Count a call that begins, and give what is reserved for it; None where the budget has too little left."""
        reserved = self._engine._budget.reserve(work.request, self.model.price)
        if reserved is None:
            self._ready.append(work)
            return None
        place.throttle.begin(now)
        self._in_flight += 1
        self._engine.tally.in_flight += 1
        return reserved

    def _free_place(self, now: float) -> Place | None:
        if len(self._places) == 1:
            return self._places[0] if self._places[0].throttle.free(now) else None
        free = [place for place in self._places if place.throttle.free(now)]
        return min(free, key=lambda place: place.throttle.in_flight / place.throttle.limit, default=None)

    def _next(self, now: float) -> _Work | None:
        """What to send next: what is due again, then a new task."""
        self._passing = False
        if self._ready:
            return self._ready.pop()
        if self._waiting and self._waiting[0][0] <= now:
            return heapq.heappop(self._waiting)[2]
        if self._tasks is None or len(self._waiting) >= self._limits.concurrency:
            return None
        passed = 0
        try:
            for task in itertools.islice(self._tasks, BREATH):
                if task is not None:
                    return _Work(task, task.request())
                passed += 1
        except Exception as error:  # noqa: BLE001 - raised again when what is in flight is answered
            self._engine.fail(error)
            return None
        finally:
            self._engine.tally.from_before += passed
        self._passing = passed == BREATH
        if not self._passing:
            self._tasks = None
        return None

    def _next_moment(self, now: float) -> float | None:
        """Seconds until something may be sent that no answer wakes us for."""
        moments = [place.throttle.paused_until - now for place in self._places if place.throttle.paused_until > now]
        if self._waiting and self._free_place(now) is not None:
            moments.append(self._waiting[0][0] - now)
        return max(0.0, min(moments)) if moments else None

    async def _sleep(self, seconds: float | None) -> None:
        self.woken.clear()
        if seconds is None:
            await self.woken.wait()
            return
        timer = asyncio.get_running_loop().call_later(seconds, self.woken.set)
        await self.woken.wait()
        timer.cancel()

    async def _calls(self, place: Place, work: _Work, reserved: Reserved) -> None:
        """Make a call, and go on with the next for as long as there is room: that costs less than to begin anew."""
        loop, throttle = asyncio.get_running_loop(), place.throttle
        next_work: _Work | None = work
        next_reserved: Reserved | None = reserved
        while next_work is not None and next_reserved is not None:
            await self._call(place, next_work, next_reserved)
            now = loop.time()
            going_on = self._halted() is None and throttle.free(now)
            next_work = self._next(now) if going_on else None
            next_reserved = self._start(place, next_work, now) if next_work is not None else None
            if throttle.free(now):
                self.woken.set()
        self.woken.set()

    async def _call(self, place: Place, work: _Work, reserved: Reserved) -> None:
        engine, loop = self._engine, asyncio.get_running_loop()
        settled = False
        try:
            try:
                reply = await place.endpoint.ask(work.request)
            except CallFailed as failure:
                settled = True
                engine._budget.settle(reserved, None, None, unknown=failure.maybe_paid)
                self._after_failure(place, work, failure, loop.time())
            else:
                settled = True
                engine._budget.settle(reserved, reply.usage, self.model.price, unknown=True)
                place.throttle.answered(loop.time())
                self._after_reply(work, reply)
        except asyncio.CancelledError:
            engine.tally.stopped.setdefault(self.model.name, "stopped")
        except BaseException as error:  # noqa: BLE001 - the same
            engine.fail(error)
        finally:
            if not settled:
                engine._budget.settle(reserved, None, None, unknown=True)
            engine.tally.calls += 1
            place.throttle.end()
            self._in_flight -= 1
            engine.tally.in_flight -= 1
            if engine._budget.bounded:
                engine._wake_all()

    def _after_reply(self, work: _Work, reply: Reply) -> None:
        tally, usage = self._engine.tally, reply.usage
        self._hopeless, self._standing.silent_since, self._standing.reached = 0, None, True
        work.attempts += 1
        if usage is None:
            work.untold = True
        else:
            cost = self.model.price.of(usage) if self.model.price else None
            tally.prompt_tokens += usage.prompt
            tally.cached_tokens += usage.cached
            tally.completion_tokens += usage.completion
            tally.cost += cost or 0.0
            work.usage = usage_so_far(work.usage, usage, cost)
        found = work.task.receive(reply, None if work.untold else work.usage)
        if isinstance(found, bytes):
            self._engine._append(found)
            tally.answered += 1
        else:
            work.request, work.attempts = found, 0
            self._ready.append(work)

    def _after_failure(self, place: Place, work: _Work, failure: CallFailed, now: float) -> None:
        tally = self._engine.tally
        tally.reasons[failure.reason] += 1
        work.attempts += 1
        if failure.crowded:
            place.throttle.crowded(now, failure.after)
        if self._standing.silent_since is None:
            self._standing.silent_since = now
        self._hopeless = self._hopeless + 1 if failure.hopeless else 0
        if self._hopeless >= HOPELESS:
            tally.stopped[self.model.name] = failure.reason
        never = failure.unreachable and not self._standing.reached
        patience = min(self._limits.patience, NEVER_REACHED) if never else self._limits.patience
        if now - self._standing.silent_since > patience:
            words = f"no answer for {patience:g} s; the last attempt: {failure.reason}"
            tally.stopped.setdefault(self.model.name, words)
        if failure.again and work.attempts <= self._limits.retries:
            tally.retried += 1
            due = now + seconds_before(work.attempts, failure.after)
            heapq.heappush(self._waiting, (due, next(self._numbers), work))
        else:
            tally.failed += 1
            self._engine._failed(Failure(work.task.id, work.task.topic, failure.reason, work.attempts))


def usage_so_far(before: Usage | None, usage: Usage, cost: float | None) -> Usage:
    """The usage of a task's calls, with that of one more; ``cost`` is that of the one."""
    if before is None:
        return usage if cost is None else msgspec.structs.replace(usage, cost=cost)
    return Usage(
        prompt=before.prompt + usage.prompt,
        completion=before.completion + usage.completion,
        cached=before.cached + usage.cached,
        calls=before.calls + usage.calls,
        cost=None if cost is None or before.cost is None else before.cost + cost,
    )
