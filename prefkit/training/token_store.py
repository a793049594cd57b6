"""Groups in tokens on the disk, so that the memory of a training does not grow with its data.

Writes  FOLDER/NAME/
    tokens    int32: of each group the prompt, then its responses, one behind the other
    groups    msgpack: of each group what is not tokens, and how long its prompt and its responses are
    places    int64, two for each group and two behind the last: where in the two files it begins
    sizes     float64, five for each group: see ``Sizes``

The first process of a machine writes, and all of its processes read: what they have read stays in the system's file
cache, once for all of them. In memory a group takes no byte here.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, overload

import msgspec
import numpy as np
import numpy.typing as npt

from prefkit.durable import explained_disk_errors, make_folders, remove
from prefkit.training.groups import Group, Ids, TokenGroup

_TOKEN, _PLACE, _SIZE = np.dtype(np.int32), np.dtype(np.int64), np.dtype(np.float64)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


class Sizes(NamedTuple):
    """Of groups, [groups] each: tokens, those that are read as responses that begin alike share that, pairs, the weight
    of the pairs, tokens of the responses."""

    tokens: Ints
    read: Ints
    pairs: Ints
    weight: Floats
    responses: Ints


@dataclass(frozen=True)
class _Kept:
    """What of a group is not tokens."""

    group: Group
    prompt: int
    responses: tuple[int, ...]
    two_types: bool = False


class StoredGroups(Sequence[TokenGroup]):
    """The groups of a folder that ``stored`` wrote, read when they are looked at."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with explained_disk_errors(folder):
            self._tokens, self._groups, self._places = (
                _opened(self, folder / name) for name in ("tokens", "groups", "places")
            )
            self._number = os.stat(folder / "places").st_size // (2 * _PLACE.itemsize) - 1
        self._decode = msgspec.msgpack.Decoder(_Kept).decode

    def __len__(self) -> int:
        return self._number

    @overload
    def __getitem__(self, place: int) -> TokenGroup: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[TokenGroup]: ...

    def __getitem__(self, place: int | slice) -> TokenGroup | Sequence[TokenGroup]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        record = 2 * _PLACE.itemsize
        at = np.frombuffer(os.pread(self._places, 2 * record, place * record), _PLACE)
        kept = self._decode(os.pread(self._groups, int(at[3] - at[1]), int(at[1])))
        tokens: Ids = np.frombuffer(
            os.pread(self._tokens, int(at[2] - at[0]) * _TOKEN.itemsize, int(at[0]) * _TOKEN.itemsize), _TOKEN
        )
        prompt, *responses = np.split(tokens, np.cumsum([kept.prompt, *kept.responses])[:-1])
        return TokenGroup(kept.group, prompt, tuple(responses), kept.two_types)

    def __iter__(self) -> Iterator[TokenGroup]:
        return (self[place] for place in range(len(self)))

    def sizes(self) -> Sizes:
        """See ``sizes``."""
        return _sizes(np.fromfile(self._folder / "sizes", _SIZE))

    def __reduce__(self) -> tuple[Callable[[Path], StoredGroups], tuple[Path]]:
        return StoredGroups, (self._folder,)


def stored(groups: Iterable[TokenGroup], folder: Path) -> StoredGroups:
    """Write groups, and give them as they are read from there; nothing but one of them is held in memory.

    Args:
        groups: without a reference.
        folder: for them alone; what is in it goes.

    Raises:
        RunError: it cannot be written.
    """
    encode = msgspec.msgpack.Encoder().encode
    remove(folder)
    make_folders(folder)
    with (
        explained_disk_errors(folder),
        open(folder / "tokens", "wb") as tokens,
        open(folder / "groups", "wb") as records,
        open(folder / "places", "wb") as places,
        open(folder / "sizes", "wb") as columns,
    ):
        token = byte = 0
        for one in groups:
            places.write(np.array([token, byte], _PLACE).tobytes())
            columns.write(np.array(_of(one), _SIZE).tobytes())
            lengths = tuple(map(len, one.responses))
            kept = encode(_Kept(one.group, len(one.prompt), lengths, one.two_types))
            records.write(kept)
            tokens.writelines(np.ascontiguousarray(ids, _TOKEN).tobytes() for ids in (one.prompt, *one.responses))
            token, byte = token + len(one.prompt) + sum(lengths), byte + len(kept)
        places.write(np.array([token, byte], _PLACE).tobytes())
    return StoredGroups(folder)


def sizes(groups: Sequence[TokenGroup]) -> Sizes:
    """How large groups are; those on the disk need not be read for that."""
    known: Callable[[], Sizes] | None = getattr(groups, "sizes", None)
    if known is not None:
        return known()
    return _sizes(np.array([_of(group) for group in groups], _SIZE))


def _of(group: TokenGroup) -> tuple[float, ...]:
    from prefkit.training.packing import read_tokens

    weight = sum(pair.weight for pair in group.group.pairs)
    return group.tokens, read_tokens(group), len(group.group.pairs), weight, sum(map(len, group.responses))


def _sizes(rows: Floats) -> Sizes:
    columns = rows.reshape(-1, 5).T
    tokens, read, pairs, responses = (columns[place].astype(np.int64) for place in (0, 1, 2, 4))
    return Sizes(tokens, read, pairs, columns[3].copy(), responses)


class Floats32:
    """A file of float32 as numpy writes it, read a stretch at a time.

    Raises:
        ValueError, OSError: it is none.
    """

    def __init__(self, path: Path) -> None:
        found = np.load(path, mmap_mode="r")
        if found.dtype != np.float32 or found.ndim != 1:
            raise ValueError(f"{path}: not one row of float32")
        self._begin, self._number = int(found.offset), len(found)
        self._file = _opened(self, path)

    def __len__(self) -> int:
        return self._number

    def read(self, begin: int, end: int) -> npt.NDArray[np.float32]:
        """Those from ``begin`` to before ``end``."""
        return np.frombuffer(os.pread(self._file, (end - begin) * 4, self._begin + begin * 4), np.float32)


def _opened(owner: object, path: Path) -> int:
    number = os.open(path, os.O_RDONLY)
    weakref.finalize(owner, os.close, number)
    return number
