"""Ctrl-C and SIGTERM in an event loop: told, instead of raised wherever the code stands."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def interrupts(told: Callable[[], None]) -> Iterator[None]:
    """Inside, each Ctrl-C and SIGTERM calls ``told``; on Windows and outside the main thread they do what they did."""
    loop, taken = asyncio.get_running_loop(), []
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
        for one in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(one, told)
            taken.append(one)
    try:
        yield
    finally:
        for one in taken:
            loop.remove_signal_handler(one)
