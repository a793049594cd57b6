"""What the model said of each response before it was trained, once and in 32 bits.

Reads   groups in tokens, the model as it was
Writes  CACHE/reference/DIGEST.npy   float32, the log-probability of each response's tokens, one behind the other

The name is a digest of the base and of the groups' tokens, so a second training on the same pairs, with another beta
say, finds them. They are read from there, a prompt's at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import overload

import numpy as np
import numpy.typing as npt

from prefkit.durable import explained_disk_errors, make_folders, replacing
from prefkit.training.groups import TokenGroup
from prefkit.training.machine import Machine
from prefkit.training.token_store import Floats32, Sizes, sizes

TokenLogProbs = npt.NDArray[np.float32]
"""[tokens of all responses of a group], in nats."""


PIECE = 1024
"""Prompts for each process that the model is asked about before their answers go to the disk."""


class WithReference(Sequence[TokenGroup]):
    """Groups, with what the model said of them beside each."""

    def __init__(self, groups: Sequence[TokenGroup], said: Floats32) -> None:
        self._groups, self._said = groups, said
        self._ends = np.cumsum(sizes(groups).responses)

    def __len__(self) -> int:
        return len(self._groups)

    @overload
    def __getitem__(self, place: int) -> TokenGroup: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[TokenGroup]: ...

    def __getitem__(self, place: int | slice) -> TokenGroup | Sequence[TokenGroup]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        begin = int(self._ends[place - 1]) if place else 0
        return replace(self._groups[place], reference=self._said.read(begin, int(self._ends[place])))

    def sizes(self) -> Sizes:
        """See ``token_store.sizes``."""
        return sizes(self._groups)


def reference_file(cache: Path, base: dict[str, str], groups: Iterable[TokenGroup]) -> Path:
    """Where the log-probabilities of these groups are kept.

    Args:
        cache: folder of what can be made again.
        base: what tells the model from another.
        groups: in tokens.
    """
    digest = hashlib.blake2b(json.dumps(base, sort_keys=True).encode(), digest_size=16)
    for group in groups:
        for ids in (group.prompt, *group.responses):
            digest.update(len(ids).to_bytes(4, "little") + ids.tobytes())
    return cache / "reference" / f"{digest.hexdigest()}.npy"


def with_reference(
    groups: Sequence[TokenGroup],
    path: Path,
    read: Callable[[Sequence[TokenGroup]], list[TokenLogProbs]],
    machine: Machine,
    scratch: Path,
    *,
    processes: int = 1,
    say: Callable[[], None] = lambda: None,
) -> WithReference:
    """The groups with the log-probabilities of their responses by the model as it was.

    Args:
        groups: in tokens.
        path: where those are kept.
        read: asks the model, on every process.
        machine: of this process.
        scratch: a folder of this machine, for when it does not share the disk of ``path`` with the first one.
        processes: among which ``read`` spreads.
        say: told that the model is asked.
    """
    wanted = int(sizes(groups).responses.sum())
    own = scratch / path.name
    if not all(machine.all([_kept(path, own, wanted) is not None])):
        say()
        to = (path if machine.number == 0 else own) if machine.writes else None
        step = PIECE * processes
        _write(to, wanted, (read(groups[first : first + step]) for first in range(0, len(groups), step)))
        machine.all([True])  # the others wait until it is there
    said = _kept(path, own, wanted)
    assert said is not None
    return WithReference(groups, said)


def _kept(path: Path, own: Path, wanted: int) -> Floats32 | None:
    """What one of two files holds; None where neither is of so many tokens."""
    for one in (path, own):
        with contextlib.suppress(OSError, ValueError, EOFError):
            if len(found := Floats32(one)) == wanted:
                return found
    return None


def _write(path: Path | None, wanted: int, pieces: Iterable[Sequence[TokenLogProbs]]) -> None:
    """Write what ``_kept`` reads, as it comes; without a path only ask."""
    if path is None:
        for _ in pieces:
            pass
        return
    with explained_disk_errors(path.parent):
        make_folders(path.parent)
        with replacing(path) as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (wanted,)}
            np.lib.format.write_array_header_1_0(file, header)
            for said in pieces:
                file.write(np.concatenate(said).astype("<f4").tobytes())
