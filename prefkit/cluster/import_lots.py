"""Which rows of an import hang together, and so must be resolved by one worker.

Two rows hang together where they touch a name in common (``importing.touching``), and so does whatever they hang
together with. Names go through Ray's shuffle as digests; the rest is worked out from numbers alone.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from prefkit.cluster.blocks import PromptBlock
from prefkit.cluster.by_prompt import Keys, keys_of
from prefkit.cluster.gathering import gathered
from prefkit.cluster.import_job import Batch, Ints, Item, Job, Strangers
from prefkit.importing.touching import prompt_names, response_names, touched
from prefkit.near_duplicates import first_of_component
from prefkit.parts import Block, Parts

NAMES_AT_ONCE = 1 << 22
"""Names that a worker sorts at a time, about."""
ROWS_IN_A_LOT = 1 << 14
"""Rows, and prompts of the run that they name, that are resolved together, about."""


def lots_of(job: Job) -> Ints:
    """The lot of each node; -1 for prompts that no row names. [nodes]"""
    parts = 1 + 3 * job.nodes // NAMES_AT_ONCE
    items: list[Item] = [*job.batches.batches, *job.prompts, job.strangers]
    items += [item for item in job.records() if item.kind == "responses"] if job.by_key else []
    first = np.arange(job.nodes)
    for links in gathered(items, functools.partial(_spread_names, job, parts), _linked):
        first = first_of_component(first[links], job.nodes)[first]
    sizes = np.bincount(first, minlength=job.nodes)
    lot = (np.cumsum(sizes) - sizes)[first] // ROWS_IN_A_LOT
    return np.where(first < job.batches.rows, lot, -1)


def _spread_names(job: Job, parts: int, item: Item) -> Iterator[tuple[int, tuple[Keys, Ints]]]:
    """The names that an item touches, as digests, with the nodes that touch them; divided by digest."""
    keys, nodes = _names(job, item)
    part = (keys % np.uint64(parts)).astype(np.int64)
    yield 0, (keys[part == 0], nodes[part == 0])
    for which in np.unique(part[part > 0]).tolist():
        yield which, (keys[part == which], nodes[part == which])


def _names(job: Job, item: Item) -> tuple[Keys, Ints]:
    if isinstance(item, Strangers):
        return item.keys, item.first + np.arange(len(item.keys))
    names: list[list[str]] = []
    if isinstance(item, Batch):
        nodes = item.first + np.arange(item.count)
        for row in item.rows():
            names.append([name for draft in job.drafts(row) for name in touched(draft, job.settings.key_prefix)])
    elif isinstance(item, PromptBlock):
        nodes = job.batches.rows + item.first + np.arange(item.prompts.count)
        names += [list(prompt_names(*record)) for record in _columns(job.held["prompts"], item.prompts, "id", "keys")]
    else:
        records = list(_columns(job.held[item.kind], item.block, "id", "keys", "prompt_id"))
        nodes = job.nodes_of(prompt for *_, prompt in records)
        names += [list(response_names(name, keys)) for name, keys, _ in records]
    flat = [name for some in names for name in some]
    keys, repeated = keys_of(flat), np.repeat(nodes, np.asarray([len(some) for some in names], np.int64))
    kept = ~np.isin(keys, job.several.get())
    return keys[kept], repeated[kept]


def _columns(parts: Parts, block: Block, *columns: str) -> Iterator[tuple[Any, ...]]:
    """Some columns of records, a tuple for each; empty lists for null."""
    for table in parts.tables(block.part, block.first, block.count, columns):
        values = [[() if value is None else value for value in table[name].to_pylist()] for name in columns]
        yield from zip(*values, strict=True)


def _linked(part: int, pieces: list[tuple[Keys, Ints]]) -> Ints:
    """Pairs of nodes, enough to hold together all that touch a name; [n, 2]"""
    keys = np.concatenate([keys for keys, _ in pieces])
    order = np.argsort(keys, kind="stable")
    nodes = np.concatenate([nodes for _, nodes in pieces])[order]
    same = keys[order][1:] == keys[order][:-1]
    held, places = np.unique(np.stack([nodes[:-1][same], nodes[1:][same]], axis=1), return_inverse=True)
    first = first_of_component(places.reshape(-1, 2), len(held))
    linked = np.flatnonzero(first != np.arange(len(held)))
    return np.stack([held[first[linked]], held[linked]], axis=1)
