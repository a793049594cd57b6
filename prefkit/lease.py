"""One writer at a time, in a store that knows no locks.

Reads, writes   .lease in the store: who writes, and when that was last said

Whoever creates the file holds the lease, renews it while it works and removes it at the end. A lease that was not
renewed for a while, or whose process on this machine is no more, is taken over; who lost it that way is told.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from prefkit.errors import RunError
from prefkit.store import Store

LEASE = ".lease"
RENEW_SECONDS = 15.0
STALE_SECONDS = 90.0
"""A lease that was not renewed for so long belongs to a process that is no more."""


class Lease(msgspec.Struct):
    """Who writes, and when that was last said."""

    holder: str
    machine: str
    process: int
    renewed: float

    @property
    def over(self) -> bool:
        """Whether its process is no more, as far as that can be known from here."""
        if self.machine != this_machine():
            return time.time() - self.renewed > STALE_SECONDS
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return self.process == os.getpid()


@contextlib.contextmanager
def leased(store: Store, command: str) -> Iterator[threading.Event]:
    """Hold the lease; the event says that another process took it over.

    Raises:
        RunError: another process holds it.
    """
    mine = Lease(f"prefkit {command}", this_machine(), os.getpid(), time.time())
    while not store.create(LEASE, msgspec.json.encode(mine)):
        held = _held(store)
        if held is not None and not held.over:
            found = f"a run in use by {held.holder}, process {held.process} on {held.machine.partition(' ')[0]}"
            remedy = "Wait until it ends, or stop it; its hold on the run ends a minute and a half after it."
            raise RunError(store.url, found, "one writer at a time", remedy)
        store.remove([LEASE])
    done, lost = threading.Event(), threading.Event()

    def renew() -> None:
        while not done.wait(RENEW_SECONDS):
            with contextlib.suppress(RunError):  # tried again in a while
                held = _held(store)
                if held is None or (held.machine, held.process) != (mine.machine, mine.process):
                    lost.set()
                    return
                mine.renewed = time.time()
                store.write(LEASE, msgspec.json.encode(mine))

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        done.set()
        thread.join()
        if not lost.is_set():
            store.remove([LEASE])


def _held(store: Store) -> Lease | None:
    text = store.read(LEASE)
    try:
        return msgspec.json.decode(text, type=Lease) if text else None
    except msgspec.MsgspecError:
        return Lease("another version of prefkit", "", 0, time.time())


def this_machine() -> str:
    """What tells this machine, or container, from others, as it runs now."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    return f"{socket.gethostname()} {boot}".strip()
