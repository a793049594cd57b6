"""A command with all the processes that it starts: how long they took together, and how much memory they had at once.

Memory is the sum of each process's proportional share (Linux's PSS), so that what several of them map, such as Ray's
object store, counts once. Pages of files that are only mapped can be taken away by the system at any time; they are
said apart.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

EVERY = 0.5
_SERVANTS = ("IDLE", "Agent", "_StatsActor", "Autoscaling", "ActorLocationTracker")
"""In what Ray calls processes that do no work for a command; with an agent, its whole machine would go."""
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Tree:
    """What a command took.

    Args:
        seconds: on the wall clock.
        cpu: processor seconds of all its processes.
        gigabytes: at most at one time, without pages of files.
        mapped: pages of files at that time, in gigabytes.
        output: what it printed.
    """

    seconds: float
    cpu: float
    gigabytes: float
    mapped: float
    output: str


def watched(command: Sequence[str]) -> Tree:
    """Run a command and look at its processes twice a second.

    Raises:
        CalledProcessError: it failed.
    """
    started, spent = time.perf_counter(), dict[int, float]()
    peak, mapped = 0, 0
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=sys.stderr)
        while process.poll() is None:
            here = family(process.pid)
            shares = [_share(pid) for pid in here]
            if sum(kept for kept, _ in shares) > peak:
                peak, mapped = sum(kept for kept, _ in shares), sum(file for _, file in shares)
            spent |= {pid: found for pid in here if (found := _cpu(pid)) is not None}
            time.sleep(EVERY)
        seconds = time.perf_counter() - started
        output.seek(0)
        said = output.read()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command), said)
    return Tree(seconds, sum(spent.values()), peak * 1024 / 1e9, mapped * 1024 / 1e9, said)


def family(pid: int) -> list[int]:
    """A process and those that come from it."""
    children: dict[int, list[int]] = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit() and (parent := _parent(int(place.name))) is not None:
            children.setdefault(parent, []).append(int(place.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def _stat(pid: int) -> list[str] | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _parent(pid: int) -> int | None:
    stat = _stat(pid)
    return int(stat[1]) if stat else None


def _cpu(pid: int) -> float | None:
    stat = _stat(pid)
    return (int(stat[11]) + int(stat[12])) / _TICK if stat else None


def _share(pid: int) -> tuple[int, int]:
    """Kilobytes that a process has for itself, and of files."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return 0, 0
    fields = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.endswith("kB")}
    files = fields.get("Pss_File", 0)
    return fields.get("Pss", 0) - files, files


def working(pid: int, seen: set[str]) -> tuple[int, str] | None:
    """A process of a family that works for Ray on something whose name was not seen yet, and the name."""
    for one in family(pid):
        try:
            name = Path(f"/proc/{one}/cmdline").read_bytes().split(b"\0")[0].decode()
        except OSError:
            continue
        if name.startswith("ray::") and name not in seen and not any(word in name for word in _SERVANTS):
            return one, name
    return None


def kill(pid: int) -> None:
    """End a process at once."""
    os.kill(pid, signal.SIGKILL)
