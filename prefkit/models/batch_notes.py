"""Which questions are in which of the vendor's batches.

Reads, writes   batches/STAGE.json

It holds no text: a question is known by its id, and what is asked is made again from the run. A batch is noted before
it is sent, under a key that goes into its metadata, and struck out when all its answers are in the run.
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Sequence

import msgspec

from prefkit.durable import explained_disk_errors
from prefkit.errors import RunError
from prefkit.models.held import Held
from prefkit.run import Run

FOLDER = "batches"
ID_DIGITS = 20


class Note(msgspec.Struct, kw_only=True):
    """Questions that are in a batch, or are owed one.

    ``ids`` are packed; ``batch`` is the vendor's number. A note that was ``tried`` and has no number is one that may
    have been sent. ``first`` are the vendor's files with the earlier replies to these questions. ``calls``, ``tokens``
    and ``cost`` are the most that their records can say when all is answered.
    """

    key: str
    model: str
    title: str
    ids: str
    noted: int
    tried: bool = True
    batch: str | None = None
    first: tuple[str, ...] = ()
    calls: int = 0
    tokens: int = 0
    cost: float = 0.0


class _Notes(msgspec.Struct):
    batches: list[Note] = []
    format: int = 1


def packed(names: Sequence[str]) -> str:
    """Ids of twenty hexadecimal digits in ten bytes each, as base64."""
    return base64.b64encode(bytes.fromhex("".join(names))).decode()


def unpacked(ids: str) -> list[str]:
    """The ids in what `packed` made."""
    digits = base64.b64decode(ids).hex()
    return [digits[place : place + ID_DIGITS] for place in range(0, len(digits), ID_DIGITS)]


class Book:
    """``batches/STAGE.json``; absent when there is nothing to note."""

    def __init__(self, run: Run, stage: str, notes: list[Note]) -> None:
        self.path = run.path / FOLDER / f"{stage}.json"
        self.notes = notes
        self._run = run
        self._ids: dict[str, Held] = {}

    @classmethod
    def of(cls, run: Run, stage: str) -> Book:
        """Read it.

        Raises:
            RunError: it is not what prefkit wrote.
        """
        path = run.path / FOLDER / f"{stage}.json"
        if not path.exists():
            return cls(run, stage, [])
        try:
            with explained_disk_errors(path):
                return cls(run, stage, msgspec.json.decode(path.read_bytes(), type=_Notes).batches)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            remedy = "Restore it from a copy; without it, answers that are under way are asked and paid again."
            raise RunError(path, str(error), "what prefkit wrote", remedy) from None

    def save(self) -> None:
        """Write it."""
        name = f"{FOLDER}/{self.path.name}"
        if not self.notes:
            self._run.remove(name)
            with contextlib.suppress(OSError):  # another stage has one there
                self.path.parent.rmdir()
            return
        with explained_disk_errors(self.path):
            self.path.parent.mkdir(exist_ok=True)
        with self._run.replacing(name) as file:
            file.write(msgspec.json.encode(_Notes(self.notes)) + b"\n")

    def ids(self, note: Note) -> Held:
        """The ids of a note, to look one up."""
        if note.key not in self._ids:
            self._ids[note.key] = Held(unpacked(note.ids))
        return self._ids[note.key]

    def replace(self, old: Note, *new: Note) -> None:
        """Let notes take the place of one, and write it."""
        place = self.notes.index(old)
        self.notes[place : place + 1] = new
        self._ids.pop(old.key, None)
        self.save()


def new_key() -> str:
    """A key that no other batch has."""
    return os.urandom(10).hex()
