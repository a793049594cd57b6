"""Pairs that a tiny model learns in seconds, and trainings that are killed on the way."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path


def rows(prompts: int, seed: int = 0) -> list[dict[str, str]]:
    """Three responses to a prompt, in three pairs: one that is kind, one that is not, one between; by three policies,
    each kind in turn."""
    draw = random.Random(seed)
    words = ("I hear you", "As you like", "Whatever")
    made = []
    for number in range(prompts):
        texts = [f"{word}. {'so ' * draw.randint(0, 4)}{number}" for word in words]
        for better, worse in ((0, 1), (0, 2), (1, 2)):
            row = {"prompt": f"Client {number}?", "chosen": texts[better], "rejected": texts[worse]}
            by = {"chosen_policy": f"P{(number + better) % 3}", "rejected_policy": f"P{(number + worse) % 3}"}
            made.append(row | by)
    return made


def pairs_file(path: Path, prompts: int = 12, seed: int = 0) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(prompts, seed)))
    return path


class Killed(Exception):
    """The process that trained was killed."""


def in_a_process_of_its_own(work: Callable[[], object]) -> None:
    """Run it in a fork, so that it can be killed.

    Raises:
        Killed: it was, by signal 9.
    """
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException:  # noqa: BLE001 - the child may not go on as a second pytest
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        raise Killed
    assert status == 0


def die(*ignored: object, **more: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
