"""What the workers of an import share: the rows of the file, and what the run holds.

Chooses to let the driver read the file, with the local engine's readers; rows lie, packed, in the cluster's memory.
"""

from __future__ import annotations

import functools
import pickle
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import msgspec
import numpy as np
import numpy.typing as npt

from prefkit.cluster.blocks import PromptBlock, prompt_blocks
from prefkit.cluster.by_prompt import Keys, Numbers, keys_of, numbered
from prefkit.cluster.cluster import Cluster, Shared
from prefkit.cluster.strangers import strangers, with_strangers
from prefkit.importing.columns import ColumnReader, Kind
from prefkit.importing.importer import Opened, Reader
from prefkit.importing.resolver import ImportSettings, broken
from prefkit.importing.touching import response_key
from prefkit.parts import Block, Parts
from prefkit.rows.drafts import Draft, Unfit
from prefkit.rows.files import Row
from prefkit.run import Run

Ints = npt.NDArray[np.int64]
ROWS_AT_ONCE = 1 << 12
"""Rows in a batch: what a worker reads at a time."""
RECORDS_AT_ONCE = 1 << 14
"""Records of the run that a worker reads at a time."""
NEEDED: dict[Kind, tuple[str, ...]] = {
    "prompts": ("prompts",),
    "responses": ("prompts", "responses"),
    "judgements": ("prompts", "responses", "judgements"),
}
"""The records of the run that an import of each kind may touch."""


@dataclass(frozen=True)
class Batch:
    """Some rows, one behind the other, packed: ``first`` is the number of the first of them."""

    number: int
    first: int
    count: int
    packed: Shared[bytes]

    def rows(self) -> list[Row]:
        """Unpack them."""
        found: list[Row] = pickle.loads(zlib.decompress(self.packed.get()))
        return found


@dataclass(frozen=True)
class Batches:
    """All rows of a file, so many in a batch, and the lines of the first and the last."""

    batches: list[Batch]
    size: int
    rows: int
    first_line: int
    last_line: int

    @classmethod
    def of(cls, cluster: Cluster, source: Opened, settings: ImportSettings) -> Batches:
        """Read the file.

        Raises:
            InputError: it is broken, or a row is and that is not allowed.
        """
        batches: list[Batch] = []
        count, first, last = 0, 0, 0
        whole = _whole(source, settings)
        while rows := list(islice(whole, ROWS_AT_ONCE)):
            shared = cluster.put(zlib.compress(pickle.dumps(rows), 1))
            batches.append(Batch(len(batches), count, len(rows), shared))
            count, first, last = count + len(rows), first or rows[0].number, rows[-1].number
        return cls(batches, ROWS_AT_ONCE, count, first, last)


def _whole(source: Opened, settings: ImportSettings) -> Iterator[Row]:
    for row in source.rows:
        if row.broken and not settings.skip_broken:
            raise broken(source.name, row)
        yield row


@dataclass(frozen=True)
class Records:
    """A block of records of the run; ``number`` of all of its kind."""

    kind: str
    number: int
    block: Block


@dataclass(frozen=True)
class Strangers:
    """Prompts that records name and the run does not hold, by the digests of their ids."""

    first: int
    keys: Keys


Item = Batch | PromptBlock | Records | Strangers


@dataclass(frozen=True)
class Job:
    """What all workers are told.

    Args:
        info: what ``run.json`` holds.
        held: the parts of the run.
        needed: the kinds that the import may touch.
        settings, reader: of the import.
        batches: the rows.
        prompts: the run's, in blocks.
        numbers: of the prompts, and behind them of those that are named and not held.
        several: digests of the names of responses that stand for several, sorted.
        by_key: whether rows name responses by keys of their own.
    """

    info: bytes
    file: str
    held: dict[str, Parts]
    needed: tuple[str, ...]
    settings: ImportSettings
    reader: Reader
    batches: Batches
    prompts: list[PromptBlock]
    numbers: Shared[Numbers]
    strangers: Strangers
    several: Shared[Keys]
    by_key: bool

    @property
    def nodes(self) -> int:
        """Rows, prompts and strangers; numbered in this order."""
        return self.strangers.first + len(self.strangers.keys)

    def nodes_of(self, prompt_ids: Iterable[str]) -> Ints:
        """The nodes of prompts, all of which are known."""
        return self.batches.rows + self.numbers.get().of(prompt_ids)

    def records(self) -> list[Records]:
        """The blocks of records that the import may touch."""
        return [
            Records(kind, number, block)
            for kind in self.needed
            for number, block in enumerate(self.held[kind].blocks(RECORDS_AT_ONCE))
        ]

    def drafts(self, row: Row) -> list[Draft]:
        """What a row says; nothing where it cannot be used."""
        try:
            return [] if row.broken else self.reader(row.values)
        except Unfit:
            return []

    def stand_for_several(self, names: Sequence[str]) -> list[bool]:
        """Which names of responses stand for several."""
        found: list[bool] = np.isin(keys_of(names), self.several.get()).tolist()
        return found


def job_for(
    run: Run, cluster: Cluster, held: dict[str, Parts], source: Opened, settings: ImportSettings, batches: Batches
) -> Job:
    """What the workers of an import are told; see ``Job``."""
    needed, by_key = NEEDED[source.kind], source.kind == "judgements" and isinstance(source.reader, ColumnReader)
    numbers = numbered(cluster, held["prompts"])
    keys, several = np.empty(0, np.uint64), np.empty(0, np.uint64)
    for kind in needed[1:]:
        look = functools.partial(_named, held[kind], by_key and kind == "responses")
        found = list(cluster.over(held[kind].blocks(RECORDS_AT_ONCE), look))
        keys = strangers(numbers, np.concatenate([keys, *(prompts for prompts, _ in found)]))
        if by_key and kind == "responses":
            names, counts = np.unique(np.concatenate([several, *(names for _, names in found)]), return_counts=True)
            several = names[counts > 1]
    return Job(
        info=msgspec.json.encode(run.info),
        file=source.name,
        held=held,
        needed=needed,
        settings=settings,
        reader=source.reader,
        batches=batches,
        prompts=prompt_blocks(held["prompts"], RECORDS_AT_ONCE),
        numbers=cluster.put(with_strangers(numbers, keys)),
        strangers=Strangers(batches.rows + len(numbers.keys), keys),
        several=cluster.put(several),
        by_key=by_key,
    )


def _named(parts: Parts, keys: bool, block: Block) -> tuple[Keys, Keys]:
    """The digests of the prompts that records name, each once, and those of the records' keys as names."""
    prompts, names = set[str](), list[str]()
    for table in parts.tables(block.part, block.first, block.count, ["prompt_id", *(["keys"] if keys else [])]):
        prompts.update(table["prompt_id"].to_pylist())
        names += [response_key(key) for some in table["keys"].to_pylist() for key in some or ()] if keys else []
    return np.unique(keys_of(prompts)), keys_of(names)
