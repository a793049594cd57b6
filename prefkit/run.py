"""The run folder: one rubric, and what each stage made of it.

    run.json             the rubrics in full, by content hash; what was imported; each stage as it ran
    prompts.jsonl        written whole
    responses.jsonl      appended
    judgements.jsonl     appended
    rejects/             rows that an import could not use, with line and reason
    pairs.parquet        written whole
    dataset/             written whole

Any of the three JSONL files may be a Parquet file of the same columns instead; the ending says which. One process
writes at a time: ``Run.writing`` holds the lock and first clears what a killed process left behind. ``run.json``
holds no time of day, so that the same commands give the same bytes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from prefkit import __version__
from prefkit.durable import PART, append_lines, drop_torn_line, explained_disk_errors, read_lines, replacing
from prefkit.errors import RecordError, RunError
from prefkit.records import Judgement, Prompt, Response
from prefkit.rubric import Rubric

Progress = Callable[[int], None]
STEMS: dict[Any, str] = {Prompt: "prompts", Response: "responses", Judgement: "judgements"}


class Import(msgspec.Struct, frozen=True, kw_only=True):
    """One import as it ran: of what, how it was read, and where each row went."""

    kind: str
    file: str
    digest: str
    settings: dict[str, Any]
    rows: int
    imported: dict[str, int]
    rejected: dict[str, int]
    notes: dict[str, int] = {}


class RunInfo(msgspec.Struct, kw_only=True):
    """What ``run.json`` holds."""

    format: int = 1
    rubric: str
    rubrics: dict[str, Rubric]
    imports: list[Import] = []
    stages: dict[str, dict[str, Any]] = {}


class Run:
    """A run folder that exists. ``Run.create`` makes one, ``Run(path)`` opens one."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.info = self._load()

    @classmethod
    def create(cls, path: str | Path, rubric: Rubric) -> Run:
        """Make an empty run for a rubric; a folder that holds anything else is left alone.

        Raises:
            RunError: the folder is not empty, or cannot be made.
        """
        folder = Path(path)
        if (folder / "run.json").exists():
            remedy = f"Go on with it (`prefkit status {folder}`), or choose another name."
            raise RunError(folder, "a run", "a new name", remedy)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunError(folder, "other files", "an empty folder or a new name", "Choose another name.")
        with explained_disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        info = RunInfo(rubric=rubric.hash, rubrics={rubric.hash: rubric})
        _write_info(folder, info)
        return cls(folder)

    def _load(self) -> RunInfo:
        path = self.path / "run.json"
        try:
            info = msgspec.json.decode(path.read_bytes(), type=RunInfo)
        except (FileNotFoundError, NotADirectoryError):
            remedy = f"Make one: prefkit new {self.path} --rubric psychocounsel"
            raise RunError(self.path, "no run.json", "a run folder", remedy) from None
        except PermissionError:
            raise RunError(path, "a file that may not be read", "a readable run", "Check who owns it.") from None
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            remedy = "Restore it from a copy; prefkit always replaces it whole, so something else changed it."
            raise RunError(path, f"{error}", "what prefkit wrote", remedy) from None
        if info.format != 1 or info.rubric not in info.rubrics:
            raise RunError(path, f"format {info.format}", "format 1", "Use the version of prefkit that wrote it.")
        return info

    @property
    def rubric(self) -> Rubric:
        """The rubric in use."""
        return self.info.rubrics[self.info.rubric]

    def use_rubric(self, rubric: Rubric) -> None:
        """Change the rubric in use; the earlier ones stay on record, so that it is known what old ratings mean."""
        self.info.rubrics[rubric.hash] = rubric
        self.info.rubric = rubric.hash
        self.save()

    def comparable(self, rubric_hash: str | None) -> frozenset[str]:
        """The principles of the rubric in use about which a judgement under ``rubric_hash`` was shown the same
        words."""
        if rubric_hash == self.info.rubric:
            return frozenset(self.rubric.principle_ids)
        if rubric_hash not in self.info.rubrics:
            return frozenset()
        theirs = self.info.rubrics[rubric_hash].principle_hashes()
        return frozenset(name for name, mine in self.rubric.principle_hashes().items() if theirs.get(name) == mine)

    def file(self, record: Any) -> Path | None:
        """The file that holds the records of a type, JSONL or Parquet; None where there is none yet.

        Raises:
            RunError: both are there.
        """
        found = [path for path in (self._jsonl(record), self._jsonl(record).with_suffix(".parquet")) if path.exists()]
        if len(found) > 1:
            remedy = "Move the one you do not mean out of the folder."
            raise RunError(self.path, f"both {found[0].name} and {found[1].name}", "one of them", remedy)
        return found[0] if found else None

    def _jsonl(self, record: Any) -> Path:
        return self.path / f"{STEMS[record]}.jsonl"

    def prompts(self) -> Iterator[Prompt]:
        """The prompts, in the order of their file.

        Raises:
            RecordError: a line is not a prompt.
        """
        return self._read(Prompt)

    def responses(self, progress: Progress | None = None) -> Iterator[Response]:
        """The responses, in the order of their file.

        Raises:
            RecordError: a line is not a response.
        """
        return self._read(Response, progress)

    def judgements(self, progress: Progress | None = None) -> Iterator[Judgement]:
        """The ratings, comparisons and choices, in the order of their file; ``progress`` is told the bytes read.

        Raises:
            RecordError: a line is not a judgement.
        """
        return self._read(Judgement, progress)

    def _read(self, record: Any, progress: Progress | None = None) -> Iterator[Any]:
        path = self.file(record)
        if path is None:
            return iter(())
        if path.suffix == ".parquet":
            return read_parquet_records(path, record)
        return read_records(path, record, progress)

    @contextlib.contextmanager
    def writing(self, command: str) -> Iterator[None]:
        """Hold the run for one writer, and first clear away what a killed one left.

        Raises:
            RunError: another process holds it.
        """
        with _lock(self.path, command):
            self.info = self._load()
            for part in self.path.rglob(f"*{PART}"):
                shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)
            for record in STEMS:
                drop_torn_line(self._jsonl(record))
            yield

    def replace(self, record: Any, records: Iterable[Prompt | Response | Judgement]) -> int:
        """Write the file of a type whole; return how many records."""
        count = 0
        with replacing(self._jsonl(record)) as file:
            for item in records:
                file.write(msgspec.json.encode(item) + b"\n")
                count += 1
        return count

    def append(self, record: Any, lines: Iterable[bytes]) -> int:
        """Append encoded records (JSON, newline) to the file of a type; return how many.

        Raises:
            RunError: the file is Parquet, or the disk is full (then nothing is appended).
        """
        path = self.file(record)
        if path is not None and path.suffix == ".parquet":
            remedy = "Write it as JSONL, or import into a run of its own."
            raise RunError(path, "Parquet, to which nothing can be appended", "a JSONL file", remedy)
        return append_lines(self._jsonl(record), lines)

    def save(self) -> None:
        """Replace ``run.json``."""
        _write_info(self.path, self.info)

    def record_import(self, entry: Import) -> None:
        """Note an import in ``run.json``, in the place of an earlier one of the same file with the same settings."""
        same = [
            (old.kind, old.file, old.settings) == (entry.kind, entry.file, entry.settings) for old in self.info.imports
        ]
        if any(same):
            self.info.imports[same.index(True)] = entry
        else:
            self.info.imports.append(entry)
        self.save()

    def record_stage(self, name: str, **facts: Any) -> None:
        """Note in ``run.json`` how a stage ran: settings, counts, digests, the versions that could change its
        result."""
        self.info.stages[name] = {"prefkit": __version__, **facts}
        self.save()


def _write_info(folder: Path, info: RunInfo) -> None:
    with replacing(folder / "run.json") as file:
        file.write(msgspec.json.format(msgspec.json.encode(info), indent=1) + b"\n")


@contextlib.contextmanager
def _lock(folder: Path, command: str) -> Iterator[None]:
    from filelock import FileLock, Timeout

    path = folder / ".lock"
    lock = FileLock(path)
    with explained_disk_errors(path):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            holder = (
                (folder / ".lock-holder").read_text(errors="replace") if (folder / ".lock-holder").exists() else "?"
            )
            remedy = "Wait until it ends, or stop it; the lock goes with the process."
            raise RunError(folder, f"a run in use by {holder}", "one writer at a time", remedy) from None
        try:
            (folder / ".lock-holder").write_text(f"process {os.getpid()} (prefkit {command})")
            yield
        finally:
            (folder / ".lock-holder").unlink(missing_ok=True)
            lock.release()


def read_records(path: Path, record: Any, progress: Progress | None = None) -> Iterator[Any]:
    """The records of a JSONL file, checked; memory does not grow with the file.

    Raises:
        RecordError: a line is not such a record.
    """
    decoder = msgspec.json.Decoder(record)
    for number, line in read_lines(path):
        if progress:
            progress(len(line))
        try:
            yield decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise not_a_record(f"{path.name}:{number}", error, record) from None


def read_parquet_records(path: Path, record: Any) -> Iterator[Any]:
    """The records of a Parquet file with a column for each field; nulls stand for fields left out.

    Raises:
        RecordError: a row is not such a record, or the file is not Parquet.
    """
    from pyarrow import ArrowInvalid, parquet

    number = 0
    try:
        for batch in parquet.ParquetFile(path).iter_batches(1 << 13):
            for row in batch.to_pylist():
                number += 1
                yield msgspec.convert(_without_nulls(row), record)
    except ArrowInvalid as error:
        raise RecordError(path.name, str(error), "a Parquet file", "Write it again.") from None
    except msgspec.ValidationError as error:
        raise not_a_record(f"{path.name}: row {number}", error, record) from None


_NULLS = {"rating": {"rubric"}, "comparison": {"rubric", "winner"}, "choice": {"rubric", "best"}, None: {"text"}}


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is null, but for the fields in which null says something."""
    kept = _NULLS.get(row.get("kind"), set())
    return {name: value for name, value in row.items() if value is not None or name in kept}


def not_a_record(where: str, error: Exception, record: Any) -> RecordError:
    """The error for a line that is not a record: msgspec's words with the place."""
    message, _, at = str(error).partition(" - at ")
    field = at.strip("`").removeprefix("$").lstrip(".")
    what = STEMS[record].removesuffix("s")
    remedy = "prefkit wrote this file; if you edited it, mend the line, or remove it and import again."
    return RecordError(f"{where}: {field}" if field else where, message, f"a {what} as prefkit writes it", remedy)
