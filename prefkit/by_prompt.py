"""The prompts of a run, each with its responses, however the responses are ordered in their file.

Reads   prompts.jsonl, responses.jsonl (or .parquet)

Texts stay on disk: memory is 24 bytes a response. The responses of a prompt come in the order of their file.
"""

from __future__ import annotations

import array
import io
import itertools
import mmap
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from prefkit.durable import PART, explained_disk_errors, read_lines
from prefkit.errors import RunError
from prefkit.records import Prompt, Response
from prefkit.run import Run, not_a_record, read_parquet_records

AT_A_TIME = 1024
"""Prompts that are looked up together."""


class ByPrompt:
    """Prompts with their responses. Iterating gives a prompt and a list of its responses; it may be done many times,
    also at once.

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
        self._spool, self._path = responses_as_jsonl(run)
        prompts, offsets, lengths = array.array("q"), array.array("q"), array.array("q")
        for number, (offset, line) in enumerate(lines_with_offsets(self._path), 1):
            try:
                response = self._decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise not_a_record(f"{self._path.name}:{number}", error, Response) from None
            if wanted(response):
                prompts.append(hash(response.prompt_id))
                offsets.append(offset)
                lengths.append(len(line))
        order = np.argsort(_as_ints(prompts), kind="stable")
        self._prompts = _as_ints(prompts)[order]
        self._offsets = _as_ints(offsets)[order]
        self._lengths = _as_ints(lengths)[order]

    def __iter__(self) -> Iterator[tuple[Prompt, list[Response]]]:
        decode = self._decoder.decode
        with open(self._path, "rb", buffering=0) as file:
            for prompt, first, behind in self._places():
                responses = map(decode, self._lines(file, first, behind))
                yield prompt, [response for response in responses if response.prompt_id == prompt.id]

    def _lines(self, file: io.FileIO, first: int, behind: int) -> list[bytes]:
        """The lines of some responses, in one read where they stand together."""
        offsets, lengths = self._offsets[first:behind].tolist(), self._lengths[first:behind].tolist()
        if not offsets:
            return []
        if offsets[-1] + lengths[-1] - offsets[0] == sum(lengths):
            return _read(file, offsets[0], sum(lengths)).removesuffix(b"\n").split(b"\n")
        return [_read(file, offset, length) for offset, length in zip(offsets, lengths, strict=True)]

    def counts(self) -> Iterator[tuple[Prompt, int]]:
        """Each prompt with how many responses it has, without reading them."""
        for prompt, first, behind in self._places():
            yield prompt, behind - first

    def _places(self) -> Iterator[tuple[Prompt, int, int]]:
        """Each prompt with where its responses begin and end among ours."""
        wanted = filter(self._prompt_wanted, self._run.prompts())
        while some := list(itertools.islice(wanted, AT_A_TIME)):
            keys = np.fromiter((hash(prompt.id) for prompt in some), dtype=np.int64, count=len(some))
            first = np.searchsorted(self._prompts, keys).tolist()
            behind = np.searchsorted(self._prompts, keys, "right").tolist()
            yield from zip(some, first, behind, strict=True)


def _read(file: io.FileIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length) or b""


def _as_ints(values: array.array[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.frombuffer(values, dtype=np.int64) if values else np.empty(0, np.int64)


def responses_as_jsonl(run: Run) -> tuple[Any, Path]:
    """The responses of a run as JSONL, so that a text can be found by where its line stands: the file itself, or a
    temporary copy of a Parquet file, which lasts as long as the first value given.

    Raises:
        RunError: there are none.
    """
    path = run.file(Response)
    if path is None:
        remedy = f"Import some (prefkit import responses {run.path} FILE) or generate them (prefkit generate)."
        raise RunError(run.path, "no responses", "responses to prompts", remedy)
    if path.suffix != ".parquet":
        return None, path
    with explained_disk_errors(run.path):
        spool = tempfile.NamedTemporaryFile(dir=run.path, prefix="responses-", suffix=PART)  # noqa: SIM115
        for response in read_parquet_records(path, Response):
            spool.write(msgspec.json.encode(response) + b"\n")
        spool.flush()
    return spool, Path(spool.name)


def lines_with_offsets(path: Path) -> Iterator[tuple[int, bytes]]:
    """The whole lines of a file, each with the byte at which it begins."""
    offset = 0
    for _, line in read_lines(path):
        yield offset, line
        offset += len(line)


def mapped(path: Path) -> Any:
    """The bytes of a file, read when they are looked at."""
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
