"""Which records the parts of a run hold already, and what their answers used: known to every worker.

Reads   the columns ``id`` and ``usage`` of parts
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from prefkit.cluster.by_prompt import Keys, keys_of
from prefkit.cluster.cluster import Cluster
from prefkit.models.held import Held
from prefkit.parts import PART_ROWS, Block, Parts
from prefkit.records import Usage


class HeldKeys(Held):
    """Held ids as digests that are the same in every process, eight bytes each, sorted.

    Args:
        keys: the digests, sorted.
        usage: what the answers used.
    """

    def __init__(self, keys: Keys, usage: Usage | None = None) -> None:
        super().__init__()
        self.keys = keys
        self.usage = usage or self.usage

    def __contains__(self, name: str) -> bool:
        return self.among([(name,)])[0]

    def among(self, questions: Sequence[tuple[str, *tuple[object, ...]]]) -> list[bool]:
        """See ``Held``."""
        if not len(self.keys):
            return [False] * len(questions)
        wanted = keys_of(one[0] for one in questions)
        place = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        found: list[bool] = (self.keys[place] == wanted).tolist()
        return found

    def __len__(self) -> int:
        return len(self.keys)


def held_in(cluster: Cluster, parts: Parts) -> HeldKeys:
    """What the parts of a kind of record hold."""
    found = list(cluster.over(parts.blocks(PART_ROWS), functools.partial(_held_in, parts)))
    keys = np.concatenate([np.empty(0, np.uint64), *(keys for keys, _ in found)])
    return HeldKeys(np.sort(keys), total_usage(usage for _, usage in found))


def total_usage(usages: Iterable[Usage]) -> Usage:
    """The sum of some usages."""
    prompt, completion, calls, cost = 0, 0, 0, 0.0
    for one in usages:
        prompt, completion, calls = prompt + one.prompt, completion + one.completion, calls + one.calls
        cost += one.cost or 0.0
    return Usage(prompt=prompt, completion=completion, calls=calls, cost=cost)


def _held_in(parts: Parts, block: Block) -> tuple[Keys, Usage]:
    import pyarrow as pa

    columns = ["id", "usage"] if parts.kind in ("responses", "judgements") else ["id"]
    table = pa.concat_tables(parts.tables(block.part, block.first, block.count, columns))
    usage = _sums(table["usage"]) if "usage" in columns else Usage(prompt=0, completion=0, calls=0, cost=0.0)
    return keys_of(table["id"].to_pylist()), usage


def _sums(column: Any) -> Usage:
    import pyarrow.compute as pc

    of = {
        name: pc.sum(pc.struct_field(column, name)).as_py() or 0 for name in ("prompt", "completion", "calls", "cost")
    }
    return Usage(**of)
