"""How long to wait before a failed call is made again, and the plain loop that does so.

Waits double, with jitter, up to half a minute, and are never shorter than what the endpoint asks for.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from prefkit.models.chat import CallFailed

FIRST_WAIT = 0.5
LONGEST_WAIT = 30.0

T = TypeVar("T")


def seconds_before(attempt: int, after: float | None) -> float:
    """Seconds before the ``attempt``-th further attempt, from 1; ``after`` is what the endpoint asks to wait."""
    wait = min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempt - 1)) * random.uniform(0.5, 1.5)
    return max(wait, after or 0.0)


async def until_answered(
    attempt: Callable[[], Awaitable[T]],
    retries: int,
    final: Callable[[CallFailed], bool] = lambda failure: False,
) -> T:
    """Make an attempt, and up to ``retries`` more while it may succeed later and is not ``final``.

    Raises:
        CallFailed: the last attempt's.
    """
    for number in itertools.count(1):
        try:
            return await attempt()
        except CallFailed as failure:
            if not failure.again or number > retries or final(failure):
                raise
            await asyncio.sleep(seconds_before(number, failure.after))
    raise AssertionError
