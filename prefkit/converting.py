"""How a run keeps its records: as JSONL, a line each, or in parts of Parquet.

Reads, writes   prompts, responses, judgements, rewards of a run, wherever it is; parts.json

JSONL can be read and mended by anyone, and is appended; parts can be written by many machines at once, and in a bucket.
Nothing is lost either way. What counts changes at one moment, with ``parts.json``: a process that dies before it has
changed nothing, and one that dies after it leaves files that nobody reads, which the same command removes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import msgspec

from prefkit.errors import RunError
from prefkit.lease import LEASE, leased
from prefkit.parts import GENERATIONS, KINDS, Parts, generations, refuse_unscrubbed, set_generations
from prefkit.run import PROGRESS_EVERY, read_parquet_records, read_records
from prefkit.store import Store

Form = Literal["parquet", "jsonl"]
Progress = Callable[[int], None]
RUN_INFO = "run.json"
_NOT_COPIED = (LEASE, GENERATIONS, ".lock", ".lock-holder")


def convert(store: Store, to: Form, progress: Progress = lambda done: None, out: Store | None = None) -> dict[str, int]:
    """Let a run keep its records in another form; in parts already, they become few large ones.

    Args:
        store: the run.
        to: ``parquet`` or ``jsonl``.
        progress: told how many more records are written.
        out: leave the run as it is, and make another of it there.

    Returns:
        How many records of each kind there are.

    Raises:
        RunError: there is no run, another process writes to it, or a store does not answer; there is a run already
            where one is to be made.
        RecordError: something in it is no record.
    """
    if store.read(RUN_INFO) is None:
        raise RunError(store.url, "no run.json", "a run", f"Make one: prefkit new {store.url} --rubric psychocounsel")
    if out is not None and out.read(RUN_INFO) is not None:
        raise RunError(out.url, "a run", "a new name", "Choose another name.")
    with leased(out or store, "convert"), tempfile.TemporaryDirectory() as scratch:
        source = _Source(store, Path(scratch))
        write = _to_parts if to == "parquet" else _to_lines
        if out is None:
            return write(source, store, progress)
        counts = write(source, out, progress)
        _copy_others(source, out)
        return counts


def _copy_others(source: _Source, out: Store) -> None:
    """Copy what is not records, ``run.json`` last."""
    names = [name for name in source.files if name.partition(".")[0] not in KINDS and name not in _NOT_COPIED]
    for name in sorted(names, key=lambda name: (name == RUN_INFO, name)):
        file = source.store.local / name if source.store.local else source.scratch / "file"
        if not source.store.local:
            source.store.download(name, file)
        out.upload(file, name)


@dataclass(frozen=True)
class _Source:
    """The records of a run as it keeps them now."""

    store: Store
    scratch: Path

    @cached_property
    def generations(self) -> dict[str, int] | None:
        return generations(self.store)

    @cached_property
    def files(self) -> set[str]:
        return set(self.store.stamps())

    def file(self, kind: str) -> str | None:
        """The one file of a kind of record; None where there is none, or parts.

        Raises:
            RunError: there are two.
        """
        found = [f"{kind}{ending}" for ending in (".jsonl", ".parquet") if f"{kind}{ending}" in self.files]
        if len(found) > 1:
            remedy = "Move the one you do not mean out of the folder."
            raise RunError(self.store.url, " and ".join(found), "one of them", remedy)
        return found[0] if found and self.generations is None else None

    def records(self, kind: str) -> Iterator[Any]:
        if self.generations is not None:
            return Parts(self.store, kind, self.generations.get(kind, 0)).all()
        name = self.file(kind)
        if name is None:
            return iter(())
        path = self.store.local / name if self.store.local else self.scratch / name
        if not path.exists():
            self.store.download(name, path)
        return (read_records if name.endswith(".jsonl") else read_parquet_records)(path, KINDS[kind])


def _to_parts(source: _Source, store: Store, progress: Progress) -> dict[str, int]:
    before = source.generations if store is source.store else None
    after = {kind: 0 if before is None else before.get(kind, 0) + 1 for kind in KINDS}
    counts = {}
    for kind, generation in after.items():
        parts = Parts(store, kind, generation)
        store.remove(f"{parts.folder}/{name}" for name in parts.names())  # of a process that was killed
        counts[kind] = parts.write_all(_told(source.records(kind), progress))
    set_generations(store, after)
    if store is source.store:
        files = [f"{kind}{ending}" for kind in KINDS for ending in (".jsonl", ".parquet")]
        store.remove(file for file in files if file in source.files)
        for kind, generation in after.items():
            store.remove(Parts(store, kind, generation).earlier())
    return counts


def _to_lines(source: _Source, store: Store, progress: Progress) -> dict[str, int]:
    counts = {}
    for kind in KINDS:
        name = f"{kind}.jsonl"
        made = source.scratch / f"new-{name}"
        with open(made, "wb") as file:
            counts[kind] = 0
            for record in _told(source.records(kind), progress):
                refuse_unscrubbed(store, [record])
                file.write(msgspec.json.encode(record) + b"\n")
                counts[kind] += 1
        if counts[kind] and (store is not source.store or source.file(kind) != name):
            store.upload(made, name)
        made.unlink()
    if store is source.store:
        store.remove([GENERATIONS])
        folders = tuple(f"{kind}.parquet" for kind in KINDS)
        store.remove(name for name in source.files if name.partition("/")[0] in folders)
    return counts


def _told(records: Iterator[Any], progress: Progress) -> Iterator[Any]:
    for number, record in enumerate(records, 1):
        if number % PROGRESS_EVERY == 0:
            progress(PROGRESS_EVERY)
        yield record
