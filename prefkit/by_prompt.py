"""The prompts of a run, each with its responses, however the responses are ordered in their file.

Reads   prompts.jsonl, responses.jsonl (or .parquet)

Texts stay on disk: memory is 48 bytes a response. The responses of a prompt come in the order of their file.
"""

from __future__ import annotations

import array
import hashlib
import itertools
import mmap
import os
import tempfile
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, BinaryIO

import msgspec
import numpy as np

from prefkit.durable import explained_disk_errors, whole_lines
from prefkit.errors import RunError
from prefkit.records import Prompt, Response
from prefkit.run import Run, not_a_record, read_parquet_records

AT_A_TIME = 1024
"""Prompts that are looked up together."""


class ByPrompt:
    """Prompts with their responses, which are known by place (0, 1, ...) until they are read.

    Args:
        run: the run.
        wanted: which responses count.
        prompt_wanted: which prompts count.

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
        self._run = run
        self._prompt_wanted = prompt_wanted
        self._decoder = msgspec.json.Decoder(Response)
        self._file = open_responses(run)
        weakref.finalize(self, self._file.close)
        index: dict[str, int] = {}
        prompts, offsets, lengths, policies, prints = (array.array("q") for _ in range(5))
        for number, (offset, line) in enumerate(lines_with_offsets(self._file), 1):
            try:
                response = self._decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise not_a_record(f"responses.jsonl:{number}", error, Response) from None
            if wanted(response):
                prompts.append(hash(response.prompt_id))
                offsets.append(offset)
                lengths.append(len(line))
                policies.append(index.setdefault(response.policy, len(index)))
                prints.frombytes(_fingerprint(response))
        order = np.argsort(_as_ints(prompts), kind="stable")
        self._prompts, self._offsets, self._lengths, self._policy = (
            _as_ints(values)[order] for values in (prompts, offsets, lengths, policies)
        )
        self._fingerprints = _as_ints(prints)[order].tobytes()
        self.policies = list(index)
        """The policies of the responses that count."""

    def __iter__(self) -> Iterator[tuple[Prompt, list[Response]]]:
        """The prompts, each with its responses."""
        for prompt, places in self.places():
            yield prompt, list(map(self.response, places))

    def places(self) -> Iterator[tuple[Prompt, range]]:
        """The prompts, each with the places of its responses; these are not read."""
        wanted = filter(self._prompt_wanted, self._run.prompts())
        while some := list(itertools.islice(wanted, AT_A_TIME)):
            keys = np.fromiter((hash(prompt.id) for prompt in some), dtype=np.int64, count=len(some))
            first = np.searchsorted(self._prompts, keys).tolist()
            behind = np.searchsorted(self._prompts, keys, "right").tolist()
            yield from zip(some, map(range, first, behind), strict=True)

    def response(self, place: int) -> Response:
        """Read a response."""
        self._file.seek(self._offsets[place])
        return self._decoder.decode(self._file.read(self._lengths[place]))

    def policy(self, place: int) -> str:
        """The policy of a response."""
        return self.policies[self._policy[place]]

    def fingerprint(self, place: int) -> bytes:
        """Eight bytes that digest the id and the text of a response."""
        return self._fingerprints[8 * place : 8 * place + 8]


def _fingerprint(response: Response) -> bytes:
    return hashlib.blake2b(f"{response.id}\n{response.text or ''}".encode(), digest_size=8).digest()


def _as_ints(values: array.array[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.frombuffer(values, dtype=np.int64) if values else np.empty(0, np.int64)


def open_responses(run: Run) -> BinaryIO:
    """The responses of a run as JSONL, so that a text can be found by where its line stands: the file itself, or a
    temporary copy of a Parquet file without a name. What is opened stays as it is, whatever becomes of the run.

    Raises:
        RunError: there are none.
    """
    path = run.file(Response)
    if path is None:
        remedy = f"Import some (prefkit import responses {run.path} FILE) or generate them (prefkit generate)."
        raise RunError(run.path, "no responses", "responses to prompts", remedy)
    with explained_disk_errors(run.path):
        if path.suffix != ".parquet":
            return open(path, "rb")
        with ExitStack() as on_failure:
            copy = on_failure.enter_context(tempfile.TemporaryFile(dir=run.path))
            for response in read_parquet_records(path, Response):
                copy.write(msgspec.json.encode(response) + b"\n")
            copy.seek(0)
            on_failure.pop_all()
    return copy


def lines_with_offsets(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The whole lines of a file, each with the byte at which it begins."""
    offset = 0
    for _, line in whole_lines(file):
        yield offset, line
        offset += len(line)


def mapped(file: BinaryIO) -> Any:
    """The bytes of a file, read when they are looked at."""
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if os.fstat(file.fileno()).st_size else b""
