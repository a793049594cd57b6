"""Records in parts: Parquet files that are written once, each whole, by any number of processes.

Reads, writes   RUN/responses.parquet/0000-00000012-....parquet, and so for each kind of record; RUN/parts.json

A part is there when its file is, since a file of a store appears whole; what a process had not finished is not seen.
The order of the records is that of the parts' names: generation, number, and what the part was made of. A part that
is written again takes its own place, so that doing work twice does no harm.

Records that are rewritten (scrubbed, imported anew) get another generation: ``parts.json`` says for each kind which
one counts, and replacing that one small file changes all of them at once. It also says that a run keeps its records
in parts at all.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec

from prefkit.columnar import Columnar
from prefkit.errors import RecordError, RunError
from prefkit.records import Judgement, Prompt, Response, Rewarded
from prefkit.store import Store

GENERATIONS = "parts.json"
KINDS: dict[str, Any] = {"prompts": Prompt, "responses": Response, "judgements": Judgement, "rewards": Rewarded}
"""The files of records that a run may keep in parts, and what is in them."""
ROWS = 1 << 12
"""Records in a row group: what is read at a time."""
PART_ROWS = 1 << 16
"""Records in a part, at most, where many are written at a time."""


class Generations(msgspec.Struct):
    """What ``parts.json`` holds."""

    format: int = 1
    generations: dict[str, int] = {}
    unscrubbed: bool = False
    """Whether texts that were not scrubbed may be put there, though it is outside the house."""


@dataclass(frozen=True)
class Block:
    """Some records of a part, for one worker: from the ``first``, ``count`` of them; ``number`` of all blocks."""

    number: int
    part: str
    first: int
    count: int


def generations(store: Store) -> dict[str, int] | None:
    """Which generation of each kind of record counts; None where a run keeps none in parts.

    Raises:
        RunError: ``parts.json`` is not as prefkit writes it.
    """
    known = _known(store)
    return None if known is None else known.generations


def set_generations(store: Store, counting: dict[str, int], *, unscrubbed: bool = False) -> None:
    """Let other generations count; parts of the earlier ones are no longer read.

    Args:
        store: the run.
        counting: the generation of each kind.
        unscrubbed: see ``Generations``; once said, it stays.
    """
    before = _known(store)
    allowed = unscrubbed or (before is not None and before.unscrubbed)
    text = msgspec.json.encode(Generations(generations=counting, unscrubbed=allowed))
    store.write(GENERATIONS, msgspec.json.format(text, indent=1) + b"\n")


def _known(store: Store) -> Generations | None:
    text = store.read(GENERATIONS)
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=Generations)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        remedy = "Restore it from a copy; prefkit always replaces it whole."
        raise RunError(f"{store.url}/{GENERATIONS}", str(error), "what prefkit wrote", remedy) from None


def refuse_unscrubbed(store: Store, records: Iterable[Any]) -> None:
    """Let no client's words leave the house that were not scrubbed, unless the run was made for that.

    Args:
        store: where the records go.
        records: of any kind; what a model answered is not a client's.

    Raises:
        RunError: they would.
    """
    if store.in_house:
        return
    named = sum(map(_unscrubbed, records))
    known = _known(store) if named else None
    if named and not (known and known.unscrubbed):
        found, expected = f"{named:,} texts that were not scrubbed", "scrubbed texts, outside this house"
        remedy = (
            "Scrub them in a run on this machine and put that there (prefkit convert RUN --to parquet --out URL), or "
            "make the run there with --allow-unscrubbed if nobody can be named in them."
        )
        raise RunError(store.url, found, expected, remedy)


def _unscrubbed(record: Any) -> bool:
    if isinstance(record, Response):
        return not (record.scrubbed or record.usage or not record.text)
    return isinstance(record, Prompt) and not record.scrubbed


@dataclass(frozen=True)
class Parts:
    """The parts of one kind of record, of one generation; can be pickled.

    Args:
        store: the run.
        kind: ``prompts``, ``responses``, ``judgements``, ``rewards``.
        generation: see ``generations``.
        copies: what is written there is in the run already, so that it goes nowhere where it was not.
    """

    store: Store
    kind: str
    generation: int = 0
    copies: bool = False

    @property
    def folder(self) -> str:
        """The folder of the parts in the store."""
        return f"{self.kind}.parquet"

    def names(self, files: Iterable[str] | None = None) -> list[str]:
        """The parts that are whole, in order.

        Args:
            files: of the store, where they are known.
        """
        return sorted(name for name in self._files(files) if name.startswith(f"{self.generation:04d}-"))

    def earlier(self) -> list[str]:
        """Files of the store that belong to other generations."""
        ours = f"{self.generation:04d}-"
        return [f"{self.folder}/{name}" for name in self._files(None) if not name.startswith(ours)]

    def _files(self, files: Iterable[str] | None) -> list[str]:
        there = self.store.stamps(self.folder) if files is None else files
        names = (file.removeprefix(f"{self.folder}/") for file in there if file.startswith(f"{self.folder}/"))
        return [name for name in names if name.endswith(".parquet") and "/" not in name]

    def name(self, number: int, made_of: str = "") -> str:
        """What a part is called.

        Args:
            number: its place.
            made_of: a digest of what it was made of, which tells it from another at the same place.
        """
        return f"{self.generation:04d}-{number:08d}{f'-{made_of}' if made_of else ''}.parquet"

    def next_number(self, names: Sequence[str] | None = None) -> int:
        """The place behind all others."""
        there = self.names() if names is None else names
        return max((int(name[5:13]) for name in there), default=-1) + 1

    def rows(self, name: str) -> int:
        """How many records a part has."""
        with self._opened(name) as file:
            return int(file.metadata.num_rows)

    def blocks(self, rows: int) -> list[Block]:
        """All records, cut into blocks of so many, none over the end of a part."""
        found: list[Block] = []
        for name in self.names():
            total = self.rows(name)
            for first in range(0, total, rows):
                found.append(Block(len(found), name, first, min(rows, total - first)))
        return found

    def read(self, name: str, first: int = 0, count: int | None = None) -> Iterator[Any]:
        """Records of a part, in order, checked.

        Raises:
            RecordError: it is not a part as prefkit writes it.
        """
        columnar, at = Columnar(KINDS[self.kind]), first
        for table in self.tables(name, first, count):
            at += table.num_rows
            try:
                yield from columnar.records(table)
            except msgspec.ValidationError as error:
                where, remedy = f"{self.folder}/{name}: rows {at - table.num_rows + 1} to {at}", "Make this part again."
                raise RecordError(where, str(error), f"{self.kind} as prefkit writes them", remedy) from None

    def tables(
        self, name: str, first: int = 0, count: int | None = None, columns: Sequence[str] | None = None
    ) -> Iterator[Any]:
        """The same rows as tables of Arrow, unchecked, a row group at a time; only some columns of them if need be."""
        at, end = 0, None if count is None else first + count
        with self._opened(name) as file:
            groups = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
            for group, rows in enumerate(groups):
                begin, stop = max(first - at, 0), rows if end is None else min(end - at, rows)
                at += rows
                if begin < stop:
                    yield file.read_row_group(group, columns=columns).slice(begin, stop - begin)

    def all(self) -> Iterator[Any]:
        """All records, in order."""
        for name in self.names():
            yield from self.read(name)

    def write(self, name: str, records: Sequence[Any]) -> int:
        """Write a part, whole; one of the same name is replaced. How many records it has: of none there is no part.

        Raises:
            RunError: see ``refuse_unscrubbed``; or the store does not answer.
        """
        return self.write_table(name, Columnar(KINDS[self.kind]).table(records)) if records else 0

    def write_table(self, name: str, table: Any) -> int:
        """The same for records that are a table of Arrow already."""
        from pyarrow import parquet

        if self.kind in ("prompts", "responses") and not self.copies and not self.store.in_house:
            refuse_unscrubbed(self.store, Columnar(KINDS[self.kind]).records(table))
        file = io.BytesIO()
        parquet.write_table(table, file, compression="zstd", row_group_size=ROWS)
        self.store.write(f"{self.folder}/{name}", file.getbuffer().tobytes())
        return int(table.num_rows)

    def there(self, name: str) -> bool:
        """Whether a part is there."""
        try:
            with self.store.opened(f"{self.folder}/{name}"):
                return True
        except FileNotFoundError:
            return False

    def write_all(self, records: Iterable[Any], first: int = 0) -> int:
        """Write many records as parts from a place on; how many records."""
        stream, total = iter(records), 0
        while batch := list(islice(stream, PART_ROWS)):
            total += self.write(self.name(first), batch)
            first += 1
        return total

    @contextlib.contextmanager
    def _opened(self, name: str) -> Iterator[Any]:
        """A part as pyarrow reads it.

        Raises:
            RunError: it is gone.
            RecordError: it is no Parquet file.
        """
        from pyarrow import ArrowException, parquet

        where = f"{self.folder}/{name}"
        try:
            with self.store.opened(where) as file:
                yield parquet.ParquetFile(file)
        except FileNotFoundError:
            remedy = "Another command rewrote these records; run this one again."
            raise RunError(f"{self.store.url}/{where}", "no such part", "the part that was there", remedy) from None
        except ArrowException as error:
            found = " ".join(str(error).split()).rstrip(".: ")
            raise RecordError(where, found, "a whole Parquet file", "Make this part again.") from None
