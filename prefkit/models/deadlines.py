"""The same time limit for each of many calls, with one timer for all of them: a timer a call costs a twentieth of it.

deadlines = Deadlines(120.0)
with deadlines.of_call():  # TimeoutError after 120 seconds
    ...
"""

from __future__ import annotations

import asyncio
from types import TracebackType


class Deadlines:
    """Calls that may take ``seconds`` each. They are due in the order in which they began."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._running: dict[_Call, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def of_call(self) -> _Call:
        """A block around one call; raises TimeoutError at its end if the time is over."""
        return _Call(self)

    def begin(self, call: _Call) -> None:
        """A call begins."""
        loop = asyncio.get_running_loop()
        self._running[call] = due = loop.time() + self._seconds
        if self._timer is None:
            self._timer = loop.call_at(due, self._look)

    def end(self, call: _Call) -> None:
        """A call is over."""
        self._running.pop(call, None)
        if not self._running and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        while self._running:
            call, due = next(iter(self._running.items()))
            if due > loop.time():
                self._timer = loop.call_at(due, self._look)
                return
            del self._running[call]
            call.give_up()


class _Call:
    __slots__ = ("_cancelled_before", "_deadlines", "_late", "_task")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._late = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._cancelled_before = task.cancelling()
        self._deadlines.begin(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadlines.end(self)
        if self._late and self._task.uncancel() <= self._cancelled_before and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def give_up(self) -> None:
        """The time is over."""
        self._late = True
        self._task.cancel()
