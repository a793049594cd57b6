"""Which records a file holds already, and what their answers used.

Reads   responses.jsonl, judgements.jsonl, audit/injections.jsonl
"""

from __future__ import annotations

import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from prefkit.durable import explained_disk_errors, is_torn
from prefkit.errors import RecordError, RunError
from prefkit.records import Usage


class Held:
    """The ids that a file of records holds, in eight bytes each, and what their answers used."""

    def __init__(self, ids: Sequence[str] = ()) -> None:
        self._hold(array.array("q", map(hash, ids)))
        self.usage = Usage(prompt=0, completion=0, calls=0, cost=0.0)

    @classmethod
    def of(cls, path: Path) -> Held:
        """Read a file of records; nothing is held where there is none.

        Raises:
            RecordError: a line has no id.
            RunError: the records stand in a Parquet file.
        """
        held = cls()
        hashes, prompt, completion, calls, cost = array.array("q"), 0, 0, 0, 0.0
        for one in _stored(path):
            hashes.append(hash(one.id))
            if one.usage is not None:
                prompt += one.usage.prompt
                completion += one.usage.completion
                calls += one.usage.calls
                cost += one.usage.cost or 0.0
        held._hold(hashes)
        held.usage = Usage(prompt=prompt, completion=completion, calls=calls, cost=cost)
        return held

    def _hold(self, hashes: array.array[int]) -> None:
        self._keys = np.frombuffer(hashes, dtype=np.int64) if hashes else np.empty(0, np.int64)
        self._keys.sort()
        self._sorted = hashes

    def __contains__(self, name: str) -> bool:
        key = hash(name)
        place = bisect_left(self._sorted, key)
        return place < len(self._sorted) and self._sorted[place] == key

    def among(self, questions: Sequence[tuple[str, *tuple[object, ...]]]) -> list[bool]:
        """For each question, whose first part is an id, whether it is held: faster than one by one."""
        if not len(self._keys):
            return [False] * len(questions)
        keys = np.fromiter((hash(one[0]) for one in questions), dtype=np.int64, count=len(questions))
        place = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        found: list[bool] = (self._keys[place] == keys).tolist()
        return found

    def __len__(self) -> int:
        return len(self._sorted)


class _Stored(msgspec.Struct, gc=False):
    id: str
    usage: Usage | None = None


def _stored(path: Path) -> Iterator[_Stored]:
    if path.with_suffix(".parquet").exists():
        remedy = "Convert it to JSONL; answers are appended to it one by one."
        raise RunError(path.with_suffix(".parquet"), "Parquet, which is only read", "a JSONL file", remedy)
    if not path.exists():
        return
    decode = msgspec.json.Decoder(_Stored).decode
    with explained_disk_errors(path), open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                if is_torn(line):
                    return
                remedy = "prefkit wrote this file; if you edited it, mend the line, or remove it."
                where, expected = f"{path.name}:{number}", "a record as prefkit writes it"
                raise RecordError(where, str(error), expected, remedy) from None
