"""A command in a process of its own: what it printed, how long it took, how much memory it needed."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Measured:
    """Wall seconds, peak memory and output of a finished command."""

    seconds: float
    gigabytes: float
    output: str


def measured(command: list[str]) -> Measured:
    """Run a command and measure it.

    Raises:
        CalledProcessError: it failed.
    """
    probe = (
        "import resource, subprocess, sys; code = subprocess.call(sys.argv[1:]);"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss); sys.exit(code)"
    )
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", probe, *command], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - start
    *output, kilobytes = done.stdout.splitlines()
    return Measured(seconds, int(kilobytes) * 1024 / 1e9, "\n".join(output))


def prefkit(*arguments: object) -> str:
    """What a command of prefkit prints.

    Raises:
        CalledProcessError: it failed.
    """
    return prefkit_measured(*arguments).output


def prefkit_measured(*arguments: object) -> Measured:
    """Run a command of prefkit and measure it."""
    return measured([sys.executable, "-m", "prefkit", *map(str, arguments)])
