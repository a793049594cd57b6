"""The processes of a training: which machine they are on, and what they wait for.

``torchrun`` and ``accelerate launch`` number them machine by machine. What all of a machine need is made by its first.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from prefkit.errors import PrefkitError

SCRATCH = "scratch"
"""The folder in that of a training, with one for each machine."""
PATIENCE = timedelta(hours=12)
"""How long processes wait for one that reads or measures alone; where one has died, the launcher ends the others."""

T = TypeVar("T")


def need_one_process(command: str) -> None:
    """Refuse to run a command several times over.

    Raises:
        PrefkitError: a launcher started several processes.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        remedy = "Start it without torchrun or accelerate launch."
        raise PrefkitError(f"prefkit {command}", "several processes", "one", remedy)


@dataclass(frozen=True)
class Machine:
    """The processes of a machine.

    Args:
        number: of its first process among all.
        writes: whether this is the first one.
        several: whether there are other processes, here or elsewhere.
    """

    number: int = 0
    writes: bool = True
    several: bool = False

    @classmethod
    def of(cls, state: Any) -> Machine:
        """That of a process, by accelerate's ``PartialState``."""
        first = state.process_index - state.local_process_index
        return cls(first, state.is_local_main_process, state.num_processes > 1)

    def scratch(self, folder: Path) -> Path:
        """Where it keeps what goes with the training of a folder."""
        return folder / SCRATCH / str(self.number)

    def once(self, make: Callable[[], T]) -> T:
        """What the first process of the machine makes, on all of its processes, which wait; it can be pickled."""
        if not self.several:
            return make()
        mine = [(self.number, pickle.dumps(make()))] if self.writes else []
        made: T = pickle.loads(dict(self.all(mine))[self.number])
        return made

    def all(self, mine: list[Any]) -> list[Any]:
        """What all processes of all machines have, in the order of the processes."""
        if not self.several:
            return mine
        from accelerate.utils import gather_object  # type: ignore[import-untyped]

        found: list[Any] = gather_object(mine)
        return found

    def need_the_same(self, digest: str) -> None:
        """Refuse machines that do not read the same.

        Raises:
            PrefkitError: they do not.
        """
        if len(set(self.all([digest]))) > 1:
            remedy = "Copy the run, or the file, to every machine, or put it on a disk that all of them share."
            raise PrefkitError("the machines of this training", "different pairs", "the same ones", remedy)


ALONE = Machine()
"""One process."""
