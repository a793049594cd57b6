"""The prompts of a run, each with its responses, however the responses are ordered in their file.

Reads   prompts.jsonl, responses.jsonl (or .parquet)

Texts stay on disk: memory is 16 bytes a response. The responses of a prompt come in the order of their file.
"""

from __future__ import annotations

import array
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
        prompts, offsets = array.array("q"), array.array("q")
        for number, (offset, line) in enumerate(lines_with_offsets(self._path), 1):
            try:
                response = self._decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise not_a_record(f"{self._path.name}:{number}", error, Response) from None
            if wanted(response):
                prompts.append(hash(response.prompt_id))
                offsets.append(offset)
        found = np.frombuffer(prompts, dtype=np.int64) if prompts else np.empty(0, np.int64)
        order = np.argsort(found, kind="stable")
        self._prompts = found[order]
        self._offsets = np.frombuffer(offsets, dtype=np.int64)[order] if offsets else found
        self._bytes = mapped(self._path)

    def __iter__(self) -> Iterator[tuple[Prompt, list[Response]]]:
        for prompt in self._run.prompts():
            if not self._prompt_wanted(prompt):
                continue
            first, behind = self._place(prompt.id)
            responses = [self._at(offset) for offset in self._offsets[first:behind].tolist()]
            yield prompt, [response for response in responses if response.prompt_id == prompt.id]

    def counts(self) -> Iterator[tuple[Prompt, int]]:
        """Each prompt with how many responses it has, without reading them."""
        for prompt in self._run.prompts():
            if self._prompt_wanted(prompt):
                first, behind = self._place(prompt.id)
                yield prompt, behind - first

    def _place(self, prompt: str) -> tuple[int, int]:
        key = hash(prompt)
        return int(np.searchsorted(self._prompts, key)), int(np.searchsorted(self._prompts, key, "right"))

    def _at(self, offset: int) -> Response:
        end = self._bytes.find(b"\n", offset)
        return self._decoder.decode(memoryview(self._bytes)[offset : end if end >= 0 else None])


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
