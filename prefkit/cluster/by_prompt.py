"""Records in the order of their prompts, so that a block of prompts finds what belongs to it in a range of rows.

Reads   the parts of prompts, and of the responses, judgements or rewards of a run, in whatever order they came
Writes  by-prompt/ in the store, the same records again as other parts; removed when they are no longer needed

A prompt is known by its number, its place among all prompts. Ray Data sorts the records by buckets of prompts (with
tasks that hold nothing, so one whose worker died is done again); within a bucket they are in the order of their
prompts, and within a prompt in that of their own parts. What is held of all prompts at once is numbers: 20 bytes a
prompt, and 8 for each kind of record.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefkit.cluster.cluster import Cluster, Progress, Shared, packed, rows_of, unpacked
from prefkit.parts import PART_ROWS, Block, Parts
from prefkit.store import Store

Ints = np.ndarray[tuple[int], np.dtype[np.int64]]
Keys = np.ndarray[tuple[int], np.dtype[np.uint64]]
FOLDER = "by-prompt"
READ_AT_ONCE = 1 << 15
"""Rows that a task of the sorting reads."""
_BUCKET, _NUMBER, _PLACE = "prompt_bucket", "prompt_number", "place_in_parts"


@dataclass(frozen=True)
class Rows:
    """Rows of a part: ``count`` from the ``first`` on."""

    part: str
    first: int
    count: int


@dataclass(frozen=True)
class Numbers:
    """The numbers of a run's prompts by their ids.

    Args:
        keys: digests of the ids, sorted, [prompts].
        numbers: of the prompts with these digests, [prompts].
    """

    keys: Keys
    numbers: Ints

    def of(self, ids: Iterable[str]) -> Ints:
        """The numbers of the prompts with these ids; -1 for an id that no prompt has."""
        wanted = keys_of(ids)
        if not len(self.keys):
            return np.full(len(wanted), -1)
        place = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where(self.keys[place] == wanted, self.numbers[place], -1)


def keys_of(ids: Iterable[str]) -> Keys:
    """Eight bytes that digest each id, the same in every process, [ids]."""
    joined = b"".join([hashlib.blake2b(name.encode(), digest_size=8).digest() for name in ids])
    return np.frombuffer(joined, np.uint64)


@dataclass(frozen=True)
class ByPrompt:
    """Records of one kind in the order of their prompts.

    Args:
        parts: where they stand, a part a bucket.
        per_bucket: how many prompts a bucket has.
        ends: how many records the prompts up to each have, that one included, [prompts].
        strangers: how many records have no prompt; they are left out.
    """

    parts: Parts
    per_bucket: int
    ends: Ints
    strangers: int

    def rows(self, first: int, count: int) -> list[Rows]:
        """Where the records of ``count`` prompts stand, from the prompt with the number ``first`` on."""
        found = []
        while count > 0:
            bucket = first // self.per_bucket
            some = min(count, (bucket + 1) * self.per_bucket - first)
            begin = self._before(bucket * self.per_bucket)
            start, stop = self._before(first), self._before(first + some)
            if stop > start:
                found.append(Rows(self.parts.name(bucket), start - begin, stop - start))
            first, count = first + some, count - some
        return found

    def counts(self) -> Ints:
        """How many records each prompt has, [prompts]."""
        return np.diff(self.ends, prepend=0)

    def _before(self, number: int) -> int:
        return int(self.ends[number - 1]) if number else 0


def numbered(cluster: Cluster, prompts: Parts) -> Numbers:
    """Number the prompts of a run."""
    blocks = prompts.blocks(PART_ROWS)
    found = dict(cluster.over(blocks, functools.partial(_keys_in, prompts)))
    keys = np.concatenate([found[block.number] for block in blocks]) if blocks else np.empty(0, np.uint64)
    order = np.argsort(keys, kind="stable")
    return Numbers(keys[order], order)


def _keys_in(prompts: Parts, block: Block) -> tuple[int, Keys]:
    tables = prompts.tables(block.part, block.first, block.count, ["id"])
    return block.number, keys_of(name for table in tables for name in table["id"].to_pylist())


@contextlib.contextmanager
def ordered_by_prompt(
    cluster: Cluster, numbers: Numbers, parts: Parts, progress: Progress = lambda more: None
) -> Iterator[ByPrompt]:
    """The records of one kind in the order of their prompts, for as long as the block lasts.

    Args:
        cluster: that sorts them.
        numbers: of the prompts.
        parts: the records.
        progress: told how many more buckets are sorted.
    """
    into = Parts(Store(f"{parts.store.url}/{FOLDER}"), parts.kind, copies=True)
    into.store.remove(into.store.stamps(into.folder))
    blocks, total = parts.blocks(READ_AT_ONCE), len(numbers.keys)
    rows = sum(block.count for block in blocks)
    per_bucket = max(1, min(total, total * PART_ROWS // max(rows, 1)))
    counts, sorted_ = np.zeros(total, np.int64), 0
    try:
        for bucket, found in _sorted(cluster, blocks, parts, into, cluster.put(numbers), per_bucket):
            counts[bucket * per_bucket : bucket * per_bucket + len(found)] = found
            sorted_ += int(found.sum())
            progress(1)
        yield ByPrompt(into, per_bucket, np.cumsum(counts), rows - sorted_)
    finally:
        into.store.remove(into.store.stamps(into.folder))


def _sorted(
    cluster: Cluster, blocks: list[Block], parts: Parts, into: Parts, numbers: Shared[Numbers], per_bucket: int
) -> Iterator[tuple[int, Ints]]:
    """Sort the records into buckets; for each bucket how many records its prompts have."""

    def read(row: dict[str, Any]) -> Iterator[Any]:
        return _with_numbers(
            unpacked({name: values[0] for name, values in row.items()}), parts, numbers.get(), per_bucket
        )

    def write(table: Any) -> dict[str, Any]:
        return {name: [value] for name, value in packed(_written(table, into, per_bucket)).items()}

    rows = rows_of(blocks)
    if rows is None:
        return
    tables = rows.map_batches(read, batch_size=1, batch_format="numpy")
    for row in tables.groupby(_BUCKET).map_groups(write, batch_format="pyarrow").iter_rows():
        yield unpacked(row)


def _with_numbers(block: Block, parts: Parts, numbers: Numbers, per_bucket: int) -> Iterator[Any]:
    """The rows of a block that have a prompt, with what they are sorted by."""
    import pyarrow as pa

    place = block.number * READ_AT_ONCE
    for table in parts.tables(block.part, block.first, block.count):
        number = numbers.of(table["prompt_id"].to_pylist())
        places = np.arange(place, place + table.num_rows)
        place += table.num_rows
        for name, values in ((_BUCKET, number // per_bucket), (_NUMBER, number), (_PLACE, places)):
            table = table.append_column(name, pa.array(values))
        yield table.filter(pa.array(number >= 0))


def _written(table: Any, into: Parts, per_bucket: int) -> tuple[int, Ints]:
    """Write a bucket; its number, and how many records its prompts have, up to the last that has one."""
    bucket = table[_BUCKET][0].as_py()
    table = table.sort_by([(_NUMBER, "ascending"), (_PLACE, "ascending")])
    numbers = table[_NUMBER].to_numpy()
    into.write_table(into.name(bucket), table.drop_columns([_BUCKET, _NUMBER, _PLACE]))
    return bucket, np.bincount(numbers - bucket * per_bucket)
