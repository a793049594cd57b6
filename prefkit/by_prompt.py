"""The prompts of a run, each with its responses, however the responses are ordered in their file.

Reads   prompts.jsonl, responses.jsonl (or .parquet)

Each file is read once; texts stay on disk, and memory is some 50 bytes a record. A prompt is known by its number (0, 1,
... of those that count), a response by its place; the responses of a prompt come in the order of their file.
"""

from __future__ import annotations

import array
import hashlib
import mmap
import os
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, BinaryIO, Generic, TypeVar

import msgspec
import numpy as np

from prefkit.durable import explained_disk_errors, is_torn
from prefkit.errors import RunError
from prefkit.records import Prompt, Response
from prefkit.run import STEMS, Run, not_a_record, read_parquet_records

R = TypeVar("R", Prompt, Response)
Ints = np.ndarray[tuple[int], np.dtype[np.int64]]

PRINT = 8
"""Bytes of a fingerprint."""


class ByPrompt:
    """Prompts with their responses.

    Args:
        run: the run.
        wanted: which responses count.
        prompt_wanted: which prompts count; all prompts are looked at before the first response.

    Raises:
        RunError: there are no prompts or no responses.
        RecordError: a line is not a record.
    """

    def __init__(
        self,
        run: Run,
        wanted: Callable[[Response], bool] = lambda response: True,
        prompt_wanted: Callable[[Prompt], bool] = lambda prompt: True,
    ) -> None:
        self._prompts = _OnDisk(run, Prompt)
        keys = array.array("q")
        for prompt in self._prompts.scan(prompt_wanted, _words):
            keys.append(hash(prompt.id))
        self._responses = _OnDisk(run, Response)
        index: dict[str, int] = {}
        owners, policies = array.array("q"), array.array("q")
        for response in self._responses.scan(wanted, _id_and_text):
            owners.append(hash(response.prompt_id))
            policies.append(index.setdefault(response.policy, len(index)))
        order = np.argsort(_as_ints(owners), kind="stable")
        self._responses.reorder(order)
        self._policy = _as_ints(policies)[order]
        self.policies = list(index)
        """The policies of the responses that count."""
        self.keys = _as_ints(keys)
        """The hashes of the prompts' ids, shape (prompts,)."""
        sorted_owners = _as_ints(owners)[order]
        self._first = np.searchsorted(sorted_owners, self.keys)
        self.counts = np.searchsorted(sorted_owners, self.keys, "right") - self._first
        """How many responses each prompt has, shape (prompts,)."""

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[tuple[Prompt, list[Response]]]:
        """The prompts, each with its responses."""
        for number in range(len(self)):
            yield self.prompt(number), list(map(self.response, self.places(number)))

    def places(self, number: int) -> range:
        """The places of a prompt's responses."""
        first = int(self._first[number])
        return range(first, first + int(self.counts[number]))

    def prompt(self, number: int) -> Prompt:
        """Read a prompt."""
        return self._prompts.read(number)

    def words(self, number: int) -> bytes:
        """Eight bytes that digest the messages of a prompt."""
        return self._prompts.fingerprint(number)

    def response(self, place: int) -> Response:
        """Read a response."""
        return self._responses.read(place)

    def fingerprint(self, place: int) -> bytes:
        """Eight bytes that digest the id and the text of a response."""
        return self._responses.fingerprint(place)

    def fingerprints(self, places: Sequence[int]) -> bytes:
        """Those of several responses, one after the other."""
        prints = self._responses.prints
        return b"".join([prints[PRINT * place : PRINT * place + PRINT] for place in places])

    def policy(self, place: int) -> str:
        """The policy of a response."""
        return self.policies[self._policy[place]]


class _OnDisk(Generic[R]):
    """The records of a run that count: where they stand, and a fingerprint of each."""

    def __init__(self, run: Run, record: type[R]) -> None:
        self._record: type[R] = record
        self._decoder: msgspec.json.Decoder[R] = msgspec.json.Decoder(record)
        self._file = open_records(run, record)
        weakref.finalize(self, self._file.close)
        self._offsets = self._lengths = np.empty(0, np.int64)
        self.prints = b""

    def scan(self, wanted: Callable[[R], bool], print_of: Callable[[R], bytes]) -> Iterator[R]:
        """Read all once, and give those that count."""
        offsets, lengths, prints = array.array("q"), array.array("q"), bytearray()
        for offset, length, record in scanned(self._file, self._record):
            if wanted(record):
                offsets.append(offset)
                lengths.append(length)
                prints += hashlib.blake2b(print_of(record), digest_size=PRINT).digest()
                yield record
        self._offsets, self._lengths, self.prints = _as_ints(offsets), _as_ints(lengths), bytes(prints)

    def reorder(self, order: Ints) -> None:
        """Let another record come first."""
        self._offsets, self._lengths = self._offsets[order], self._lengths[order]
        self.prints = np.frombuffer(self.prints, dtype=np.int64)[order].tobytes()

    def read(self, number: int) -> R:
        self._file.seek(self._offsets[number])
        return self._decoder.decode(self._file.read(self._lengths[number]))

    def fingerprint(self, number: int) -> bytes:
        return self.prints[PRINT * number : PRINT * number + PRINT]


def _words(prompt: Prompt) -> bytes:
    return msgspec.json.encode([(message.role, message.content) for message in prompt.messages])


def _id_and_text(response: Response) -> bytes:
    return f"{response.id}\n{response.text or ''}".encode()


def _as_ints(values: array.array[int]) -> Ints:
    return np.frombuffer(values, dtype=np.int64) if values else np.empty(0, np.int64)


def open_records(run: Run, record: Any) -> BinaryIO:
    """The prompts or responses of a run as JSONL, so that a text can be found by where its line stands: the file
    itself, or a temporary copy of a Parquet file without a name. What is opened stays as it is, whatever becomes of
    the run.

    Raises:
        RunError: there are none.
    """
    path = run.file(record)
    if path is None:
        raise none_of(run, record)
    with explained_disk_errors(run.path):
        if path.suffix != ".parquet":
            return open(path, "rb")
        with ExitStack() as on_failure:
            copy = on_failure.enter_context(tempfile.TemporaryFile(dir=run.path))
            for one in read_parquet_records(path, record):
                copy.write(msgspec.json.encode(one) + b"\n")
            copy.seek(0)
            on_failure.pop_all()
    return copy


def none_of(run: Run, record: Any) -> RunError:
    """The error for a run without prompts or responses."""
    noun = STEMS[record]
    remedy = f"Import some (prefkit import {noun} {run.path} FILE)"
    remedy += " or generate them (prefkit generate)." if record is Response else "."
    return RunError(run.path, f"no {noun}", "responses to prompts", remedy)


def scanned(file: BinaryIO, record: type[R]) -> Iterator[tuple[int, int, R]]:
    """The records of an open JSONL file, each with the byte at which its line begins and the line's length.

    Raises:
        RecordError: a line is not such a record.
    """
    decode = msgspec.json.Decoder(record).decode
    offset = 0
    for number, line in enumerate(file, 1):
        try:
            found = decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            if is_torn(line):
                return
            raise not_a_record(f"{STEMS[record]}.jsonl:{number}", error, record) from None
        yield offset, len(line), found
        offset += len(line)


def mapped(file: BinaryIO) -> Any:
    """The bytes of a file, read when they are looked at."""
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if os.fstat(file.fileno()).st_size else b""
