"""The rows of an import to records: the local engine's ``Resolver``, on a lot of rows with what the run holds for them.

What a lot brings is kept with the numbers of the rows that brought it, so that it can go back into their order.
"""

from __future__ import annotations

import functools
import io
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from prefkit.cluster.blocks import small_run
from prefkit.cluster.cluster import Cluster, Shared
from prefkit.cluster.gathering import Counts, Gathered, added, gathered
from prefkit.cluster.import_job import Batch, Ints, Item, Job, Records
from prefkit.cluster.import_lots import lots_of
from prefkit.columnar import Columnar
from prefkit.importing.columns import ColumnReader
from prefkit.importing.importer import Opened
from prefkit.importing.resolver import SEVERAL, ImportReport, Resolver, Spool
from prefkit.importing.touching import looked_up, response_key
from prefkit.parts import KINDS
from prefkit.records import Judgement, Response
from prefkit.rows.drafts import Draft
from prefkit.rows.files import Row

APPENDED: dict[str, Any] = {"responses": Response, "judgements": Judgement}
"""What an import appends to the run."""
_COUNTERS = ("imported", "new", "rejected", "notes")
Ordered = list[tuple[int, bytes]]
"""Encoded records or rejects, each with the number of the row that brought it."""


@dataclass
class Told:
    """What came of some rows.

    Args:
        rows, rows_imported, counts: see ``ImportReport``.
        details: the first detail of each reason.
        numbers: see ``ColumnReader``.
        groups: which groups of what they brought there are, by kind.
    """

    rows: int
    rows_imported: int
    counts: dict[str, Counts[str]]
    details: dict[str, str]
    numbers: set[str]
    groups: dict[str, set[int]]

    def report(self, source: Opened) -> ImportReport:
        """All of it as the local engine reports it."""
        report = ImportReport(source.name, source.read_as, self.rows, self.rows_imported)
        for name, counts in self.counts.items():
            setattr(report, name, counts.counter)
        return report


@dataclass
class Outcome:
    """The same with what they brought: by kind, by group."""

    told: Told
    brought: dict[str, dict[int, Ordered]] = field(default_factory=dict)


def told_of(outcome: Outcome) -> Iterator[tuple[int, Told]]:
    """That alone, for ``together``."""
    yield 0, outcome.told


def together(group: int, parts: list[Told]) -> Told:
    """What came of all rows."""
    details: dict[str, str] = {}
    for reason in {reason for part in parts for reason in part.details}:
        having = [part for part in parts if reason in part.details]
        details[reason] = min((part.counts["rejected"].first[reason], part.details[reason]) for part in having)[1]
    groups: dict[str, set[int]] = defaultdict(set)
    for part in parts:
        for kind, some in part.groups.items():
            groups[kind] |= some
    return Told(
        rows=sum(part.rows for part in parts),
        rows_imported=sum(part.rows_imported for part in parts),
        counts={name: Counts(added(part.counts[name] for part in parts)) for name in _COUNTERS},
        details=details,
        numbers=set[str]().union(*(part.numbers for part in parts)),
        groups=dict(groups),
    )


@dataclass(frozen=True)
class _Piece:
    """For a lot, what stands in a batch or a block: rows with their numbers, or encoded records."""

    kind: str
    number: int
    rows: list[tuple[int, Row]] = field(default_factory=list)
    lines: bytes = b""


def resolve(cluster: Cluster, job: Job) -> Gathered[Outcome]:
    """What came of the rows, lot by lot."""
    shared = cluster.put(lots_of(job))
    items: list[Item] = [*job.batches.batches, *job.records()]
    return gathered(items, functools.partial(_spread, job, shared), functools.partial(_outcome, job)).kept()


def _spread(job: Job, lots: Shared[Ints], item: Item) -> Iterator[tuple[int, _Piece]]:
    """The rows of a batch, or the records of a block, by lot."""
    if isinstance(item, Batch):
        rows, here = item.rows(), lots.get()[item.first : item.first + item.count]
        for lot in np.unique(here).tolist():
            some = [(item.first + at, rows[at]) for at in np.flatnonzero(here == lot).tolist()]
            yield lot, _Piece("rows", item.number, rows=some)
    elif isinstance(item, Records):
        lines: dict[int, list[bytes]] = defaultdict(list)
        for lot, record in _records_in_lots(job, lots.get(), item):
            lines[lot].append(msgspec.json.encode(record) + b"\n")
        for lot, some_lines in lines.items():
            yield lot, _Piece(item.kind, item.number, lines=b"".join(some_lines))


def _records_in_lots(job: Job, lots: Ints, item: Records) -> Iterator[tuple[int, Any]]:
    import pyarrow as pa

    columnar, block = Columnar(KINDS[item.kind]), item.block
    for table in job.held[item.kind].tables(block.part, block.first, block.count):
        here = lots[job.nodes_of(table["id" if item.kind == "prompts" else "prompt_id"].to_pylist())]
        yield from zip(here[here >= 0].tolist(), columnar.records(table.filter(pa.array(here >= 0))), strict=True)


def _outcome(job: Job, lot: int, pieces: list[_Piece]) -> Outcome:
    """What the rows of a lot bring, to the records of the run that they touch."""
    pieces.sort(key=lambda piece: piece.number)
    report, rejected = ImportReport(job.file, ""), io.BytesIO()
    spools = {record: Spool(Path(), io.BytesIO()) for record in (Response, Judgement)}
    with small_run(job.info, (), ()) as run:
        for kind in job.needed:
            lines = b"".join(piece.lines for piece in pieces if piece.kind == kind)
            (run.path / f"{kind}.jsonl").write_bytes(lines)
        resolver = Resolver(run, job.settings, spools, report, rejected)
    brought = _Brought(job, resolver, {"rejects": rejected} | {kind: spools[it].file for kind, it in APPENDED.items()})
    reader = functools.partial(_drafts, job, resolver) if job.by_key else job.reader
    for index, row in (one for piece in pieces for one in piece.rows):
        resolver.take(row, reader)
        brought.take(index, row)
    brought.finish()
    numbers = job.reader.numbers if isinstance(job.reader, ColumnReader) else set()
    groups = {kind: set(found) for kind, found in brought.found.items()}
    told = Told(report.rows, report.rows_imported, brought.counts, resolver.first_detail, set(numbers), groups)
    return Outcome(told, {kind: dict(found) for kind, found in brought.found.items()})


def _drafts(job: Job, resolver: Resolver, values: Mapping[str, Any]) -> list[Draft]:
    """The drafts of a row; the resolver is told which of the keys in it stand for several responses of the run."""
    drafts = job.reader(values)
    keys = [key for draft in drafts for key in looked_up(draft, job.settings.key_prefix)]
    for key, several in zip(keys, job.stand_for_several([response_key(key) for key in keys]), strict=True):
        if several:
            resolver.response_keys[key] = SEVERAL
    return drafts


class _Brought:
    """What a resolver writes, by the row that brought it.

    Args:
        job: see there.
        resolver: that takes the rows of a lot.
        files: that it writes to.
    """

    def __init__(self, job: Job, resolver: Resolver, files: dict[str, Any]) -> None:
        self.found: dict[str, dict[int, Ordered]] = defaultdict(lambda: defaultdict(list))
        self.counts = {name: Counts(getattr(resolver.report, name)) for name in _COUNTERS}
        self._job, self._resolver, self._files = job, resolver, files
        self._held = dict(resolver.prompts)
        self._made: dict[str, int] = {}
        self._rows: dict[int, int] = {}

    def take(self, index: int, row: Row) -> None:
        """Keep what the row brought that was just taken."""
        self._rows[row.number] = index
        for counts in self.counts.values():
            counts.met(index)
        for kind in self._files:
            if content := self._written(kind):
                self.found[kind][index // self._job.batches.size].append((index, content))
        prompts = self._resolver.prompts
        fresh = len(prompts) - len(self._held) - len(self._made)
        for name in reversed(list(islice(reversed(prompts), fresh))):
            self._made[name] = index

    def finish(self) -> None:
        """Keep what is known when all rows of the lot are taken."""
        prompts, blocks = self._resolver.prompts, self._job.prompts
        firsts = np.asarray([block.first for block in blocks], np.int64)
        for name, prompt in self._held.items():
            if prompts[name] is not prompt:
                number = int(self._job.numbers.get().of([name])[0])
                block = int(np.searchsorted(firsts, number, "right")) - 1
                self.found["prompts"][block].append((number, msgspec.json.encode(prompts[name])))
        for name, index in self._made.items():
            group = len(blocks) + index // self._job.batches.size
            self.found["prompts"][group].append((index, msgspec.json.encode(prompts[name])))
        self._resolver.note_keys_of_several()
        self.counts["notes"].met(math.inf)
        for line in self._written("rejects").splitlines(keepends=True):
            index = self._rows[msgspec.json.decode(line)["line"]]
            group = len(self._job.batches.batches) + index // self._job.batches.size
            self.found["rejects"][group].append((index, line))

    def _written(self, kind: str) -> bytes:
        file = self._files[kind]
        content: bytes = file.getvalue()
        if content:
            file.seek(0)
            file.truncate()
        return content
