"""Records put together by a key, however many there are: the texts on disk, some 30 bytes a record in memory."""

from __future__ import annotations

import array
import hashlib
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from prefkit.durable import explained_disk_errors

KEY_BYTES = 8


class Spool:
    """Lines in a temporary file without a name, which goes with the process; written once, then read by key."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._written_keys, self._starts = array.array("q"), array.array("q", [0])
        self._order: np.ndarray[tuple[int], np.dtype[np.int64]] | None = None

    def __len__(self) -> int:
        return len(self._written_keys)

    def add(self, key: str, line: bytes) -> None:
        """Put a record to those of the same key.

        Raises:
            RunError: the disk is full.
        """
        with explained_disk_errors(Path(tempfile.gettempdir())):
            self._file.write(line)
        self._written_keys.append(_digest(key))
        self._starts.append(self._starts[-1] + len(line))

    def groups(self) -> Iterator[list[bytes]]:
        """The records of each key, in the order of the keys' first records."""
        order = self._sorted()
        keys = np.frombuffer(self._written_keys, dtype=np.int64)[order] if len(self) else np.empty(0, np.int64)
        begins = np.flatnonzero(np.diff(keys, prepend=keys[:1] - 1))
        ends = np.append(begins[1:], len(keys))
        for group in np.argsort(order[begins], kind="stable"):
            yield [self._read(int(place)) for place in order[begins[group] : ends[group]]]

    def of(self, key: str) -> list[bytes]:
        """The records of a key, in the order in which they came; none where there are none."""
        if not len(self):
            return []
        order = self._sorted()
        keys = np.frombuffer(self._written_keys, dtype=np.int64)
        wanted = _digest(key)
        begin = np.searchsorted(keys, wanted, sorter=order)
        end = np.searchsorted(keys, wanted, "right", sorter=order)
        return [self._read(int(place)) for place in order[begin:end]]

    def _sorted(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Places by key, those of one key in the order in which they came. [records]"""
        if self._order is None:
            self._file.flush()
            keys = np.frombuffer(self._written_keys, dtype=np.int64) if len(self) else np.empty(0, np.int64)
            self._order = np.argsort(keys, kind="stable").astype(np.int64)
        return self._order

    def _read(self, place: int) -> bytes:
        self._file.seek(self._starts[place])
        return self._file.read(self._starts[place + 1] - self._starts[place])


def _digest(key: str) -> int:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=KEY_BYTES).digest(), "little", signed=True)
