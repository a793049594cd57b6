"""Work on groups of pieces that come from many places, and counts that add up to those of the whole.

Chooses Ray Data's sort of keys: a piece has a number that says which group it belongs to; a worker makes the pieces of
an item, another one gets all of a group. Both may be done twice. Groups should be of about one size: one of them is in
one worker's memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Generic, TypeVar

from prefkit.cluster.cluster import packed, rows_of, unpacked
from prefkit.errors import PrefkitError

T = TypeVar("T")
P = TypeVar("P")
R = TypeVar("R")
K = TypeVar("K")
Place = tuple[float, ...]
_GROUP = "group"
_FAILED = -1
"""The group of errors."""


class Gathered(Generic[R]):
    """The results of groups: kept in the cluster's memory, to be read more than once.

    Args:
        dataset: of Ray Data; None without any.
    """

    def __init__(self, dataset: Any) -> None:
        self._dataset = dataset

    def __iter__(self) -> Iterator[R]:
        """The results, in any order.

        Raises:
            PrefkitError: as spreading or gathering raised it.
        """
        for row in self._dataset.iter_rows() if self._dataset is not None else ():
            yield _whole(unpacked(row))

    def then(self, spread: Callable[[R], Iterable[tuple[int, P]]], gather: Callable[[int, list[P]], T]) -> Iterator[T]:
        """Spread and gather the results in turn."""
        return iter(Gathered[T](None if self._dataset is None else _gathered(self._dataset, spread, gather)))

    def kept(self) -> Gathered[R]:
        """The same, worked out by now."""
        return Gathered(None if self._dataset is None else self._dataset.materialize())


def gathered(
    items: Iterable[T], spread: Callable[[T], Iterable[tuple[int, P]]], gather: Callable[[int, list[P]], R]
) -> Gathered[R]:
    """Spread items into pieces and work on groups of these.

    Args:
        items: small, such as blocks of parts.
        spread: the pieces of an item, each with the number of its group, from 0; over all items at least one.
        gather: is given the number of a group and its pieces, in any order.
    """
    rows = rows_of(items)
    return Gathered(None if rows is None else _gathered(rows, spread, gather))


def _gathered(rows: Any, spread: Callable[[Any], Iterable[tuple[int, Any]]], gather: Callable[..., Any]) -> Any:
    def pieces(row: dict[str, Any]) -> Iterator[dict[str, Any]]:
        try:
            for group, piece in spread(_whole(unpacked(row))):
                yield {_GROUP: group, **packed(piece)}
        except PrefkitError as error:
            yield {_GROUP: _FAILED, **packed(error)}

    def together(table: Any) -> dict[str, Any]:
        found = [unpacked(row) for row in table.to_pylist()]
        group = table[_GROUP][0].as_py()
        try:
            result = found[0] if group == _FAILED else gather(group, found)
        except PrefkitError as error:
            result = error
        return {name: [value] for name, value in packed(result).items()}

    return rows.flat_map(pieces).groupby(_GROUP).map_groups(together, batch_format="pyarrow")


def _whole(result: Any) -> Any:
    if isinstance(result, PrefkitError):
        raise result
    return result


class Counts(Generic[K]):
    """A counter that is filled elsewhere, and where in the whole each of its keys was first met.

    Args:
        counter: that is filled; its keys in the order in which they were met.
    """

    def __init__(self, counter: Counter[K]) -> None:
        self.counter = counter
        self.first: dict[K, Place] = {}

    def met(self, *place: float) -> None:
        """Say where the keys that are new in the counter were met."""
        fresh = list(islice(reversed(self.counter), len(self.counter) - len(self.first)))
        for at, key in enumerate(reversed(fresh)):
            self.first[key] = (*place, at)


def added(parts: Iterable[Counts[K]]) -> Counter[K]:
    """The sums, in the order in which the whole would have met the keys."""
    total, first = Counter[K](), dict[K, Place]()
    for part in parts:
        for key, count in part.counter.items():
            total[key] += count
            first[key] = min(part.first[key], first.get(key, part.first[key]))
    return Counter({key: total[key] for key in sorted(total, key=first.__getitem__)})
