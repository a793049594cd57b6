"""The run folder: one rubric, and what each stage made of it.

    run.json             the rubrics in full, by content hash; what was imported; each stage as it ran
    prompts.jsonl        written whole
    responses.jsonl      appended
    judgements.jsonl     appended
    rejects/             rows that an import could not use, with line and reason
    failures/            questions that got no answer in the last round, and why
    batches/             which questions are in a vendor's batch, without their words
    audit/               figures about judges, answers to injected instructions
    annotation/          the key of what people were shown
    pairs.parquet        written whole; a folder of files where Ray wrote it
    dataset/             written whole
    reward-models/       a folder for each, training.json written last
    rewards.jsonl        appended
    policies/            a folder for each, training.json written last
    iterations/          a folder for each, its rounds in it
    plan.json            replaced
    report/              written whole

Any of the three JSONL files may be a Parquet file of the same columns instead; the ending says which. One process
writes at a time: ``Run.writing`` holds the lock and first clears what a killed process left behind. A stage that
changes several files does so ``at_once``: an error changes none of them. ``run.json`` holds no time of day, so that the
same commands give the same bytes. A run in a bucket, or one whose records stand in parts, is worked on in a folder on
this machine (``prefkit.working_copy``), which ``Run.writing`` brings up to date and takes back.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from prefkit import __version__
from prefkit.durable import (
    PART,
    Together,
    append_lines,
    clear_parts,
    explained_disk_errors,
    make_folders,
    mend_last_line,
    put_in_place,
    read_lines,
    remove,
    replacing,
    replacing_folder,
)
from prefkit.errors import RecordError, RunError
from prefkit.records import Judgement, PreferencePair, Prompt, Response
from prefkit.rubric import Rubric
from prefkit.working_copy import WorkingCopy

Progress = Callable[[int], None]
PROGRESS_EVERY = 256  # records: a bar that is moved for each would cost as much as reading them
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
        self.info = _read_info(self.path)
        self._together: Together | None = None
        self._copy: WorkingCopy | None = None

    @classmethod
    def create(cls, path: str | Path, rubric: Rubric) -> Run:
        """Make an empty run for a rubric; a folder that holds anything else is left alone.

        Raises:
            RunError: the folder is not empty, or cannot be made.
        """
        folder = Path(path)
        with explained_disk_errors(folder):
            if (folder / "run.json").exists():
                remedy = f"Go on with it (`prefkit status {folder}`), or choose another name."
                raise RunError(folder, "a run", "a new name", remedy)
            if folder.exists() and not folder.is_dir():
                raise RunError(folder, "a file", "an empty folder or a new name", "Choose another name.")
            if folder.exists() and any(not file.name.endswith(PART) for file in folder.iterdir()):
                raise RunError(folder, "other files", "an empty folder or a new name", "Choose another name.")
            make_folders(folder)
        with replacing(folder / "run.json") as file:
            file.write(_encoded(RunInfo(rubric=rubric.hash, rubrics={rubric.hash: rubric})))
        return cls(folder)

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
            RunError: another process holds it, or the disk is full.
        """
        with _lock(self.path, command), explained_disk_errors(self.path), contextlib.ExitStack() as held:
            clear_parts(self.path)
            for record in STEMS:
                mend_last_line(self._jsonl(record))
            self._copy = WorkingCopy.of(self.path)
            if self._copy:
                held.enter_context(self._copy.writing(command))
            self.info = _read_info(self.path)
            yield

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Let all that the block changes take effect at its end, and nothing of it if the block fails.

        For stages that can be done again for nothing. One that pays for its answers appends without it, and keeps them.
        """
        with self._copy.busy if self._copy else contextlib.nullcontext():
            self._together = Together()
            try:
                yield
                self._together.finish()
            except BaseException:
                self._together.undo()
                raise
            finally:
                self._together = None

    def replacing(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """A binary file that takes the place of ``name`` in the run when the block ends without an error."""
        if self._copy:
            self._copy.rewriting(name)
        return replacing(self.path / name, self._together.put if self._together else put_in_place)

    def replacing_folder(self, name: str) -> contextlib.AbstractContextManager[Path]:
        """The same for a folder, which is empty at first."""
        return replacing_folder(self.path / name, self._together.put if self._together else put_in_place)

    def remove(self, name: str) -> None:
        """Remove a file or folder of the run, if it is there."""
        with explained_disk_errors(self.path / name):
            (self._together.remove if self._together else remove)(self.path / name)

    def replace(self, record: Any, records: Iterable[Prompt | Response | Judgement]) -> int:
        """Write the file of a type whole; return how many records.

        Raises:
            RunError: the file is Parquet, or the disk is full (then nothing is changed).
        """
        self._need_jsonl(record)
        count = 0
        with self.replacing(self._jsonl(record).name) as file:
            for item in records:
                file.write(msgspec.json.encode(item) + b"\n")
                count += 1
        return count

    def append(self, record: Any, lines: Iterable[bytes]) -> int:
        """Append encoded records (JSON, newline) to the file of a type; return how many.

        Raises:
            RunError: the file is Parquet, or the disk is full (then nothing is appended).
        """
        self._need_jsonl(record)
        return (self._together.append if self._together else append_lines)(self._jsonl(record), lines)

    def _need_jsonl(self, record: Any) -> None:
        path = self.file(record)
        if path is not None and path.suffix == ".parquet":
            remedy = "Write it as JSONL, or import into a run of its own."
            raise RunError(path, "Parquet, which is only read", "a JSONL file", remedy)

    def save(self) -> None:
        """Replace ``run.json``."""
        with self.replacing("run.json") as file:
            file.write(_encoded(self.info))

    def record_import(self, entry: Import) -> None:
        """Note an import in ``run.json``, in the place of an earlier one of the same file with the same settings."""
        same = [
            (old.kind, old.file, old.digest, old.settings) == (entry.kind, entry.file, entry.digest, entry.settings)
            for old in self.info.imports
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


class _Format(msgspec.Struct):
    format: int = 1


def _read_info(folder: Path) -> RunInfo:
    path = folder / "run.json"
    try:
        with explained_disk_errors(path):
            text = path.read_bytes()
        known = msgspec.json.decode(text, type=_Format).format
        if known != 1:
            raise RunError(path, f"format {known}", "format 1", "Use the version of prefkit that wrote it.")
        info = msgspec.json.decode(text, type=RunInfo)
    except FileNotFoundError:
        remedy = f"Make one: prefkit new {folder} --rubric psychocounsel"
        raise RunError(folder, "no run.json", "a run folder", remedy) from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RunError(path, f"{error}", "what prefkit wrote", _RESTORE) from None
    if info.rubric not in info.rubrics:
        raise RunError(path, f"the rubric {info.rubric}, which is not in it", "one of its rubrics", _RESTORE)
    return info


_RESTORE = "Restore it from a copy; prefkit always replaces it whole, so something else changed it."


def _encoded(info: RunInfo) -> bytes:
    return msgspec.json.format(msgspec.json.encode(info), indent=1) + b"\n"


@contextlib.contextmanager
def _lock(folder: Path, command: str) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock, note = FileLock(folder / ".lock"), folder / ".lock-holder"
    try:
        with explained_disk_errors(folder / ".lock"):
            lock.acquire(timeout=0)
    except Timeout:
        remedy = "Wait until it ends, or stop it; the lock goes with the process."
        raise RunError(folder, f"a run in use by {_holder(note)}", "one writer at a time", remedy) from None
    try:
        with contextlib.suppress(OSError):
            note.write_text(f"process {os.getpid()} (prefkit {command})")
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def _holder(note: Path) -> str:
    try:
        return note.read_text(errors="replace") or "another process"
    except OSError:
        return "another process"


def read_records(path: Path, record: Any, progress: Progress | None = None) -> Iterator[Any]:
    """The records of a JSONL file, checked; memory does not grow with the file.

    Raises:
        RecordError: a line is not such a record.
    """
    decoder = msgspec.json.Decoder(record)
    read = 0
    for number, line in read_lines(path):
        read += len(line)
        if progress and number % PROGRESS_EVERY == 0:
            progress(read)
            read = 0
        try:
            yield decoder.decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise not_a_record(f"{path.name}:{number}", error, record) from None
    if progress:
        progress(read)


def read_pairs(path: Path) -> Iterator[PreferencePair]:
    """The pairs of ``pairs.parquet``: a file, or a folder of those files of it that ``run.json`` names.

    Raises:
        RecordError: a row is not a pair, or a file is not Parquet.
    """
    files = [path]
    if path.is_dir():
        manifest = _read_info(path.parent).stages.get("build-pairs", {}).get("manifest", "")
        files = sorted(path.glob(f"{manifest}-*.parquet"))
    for file in files:
        yield from read_parquet_records(file, PreferencePair)


def read_parquet_records(path: Path, record: Any) -> Iterator[Any]:
    """The records of a Parquet file with a column for each field; nulls stand for fields left out. Memory does not grow
    with the file.

    Raises:
        RecordError: a row is not such a record, or the file is not Parquet.
    """
    from pyarrow import ArrowException, parquet

    number = 0
    try:
        with explained_disk_errors(path):
            # So a row group is read a piece at a time, however large it is.
            file = parquet.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
            for batch in file.iter_batches(1 << 10):
                for row in batch.to_pylist():
                    number += 1
                    yield msgspec.convert(_without_nulls(row), record)
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        found = " ".join(str(error).split()).rstrip(".: ")
        raise RecordError(path.name, found, "a whole Parquet file", "Write it again.") from None
    except msgspec.ValidationError as error:
        raise not_a_record(f"{path.name}: row {number}", error, record) from None


_NULLS = {
    "rating": {"rubric"},
    "comparison": {"rubric", "winner"},
    "choice": {"rubric", "best"},
    None: {"text", "rating_gap", "preferred"},
}


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is null, but for the fields in which null says something."""
    kept = _NULLS.get(row.get("kind"), set())
    return {name: value for name, value in row.items() if value is not None or name in kept}


def not_a_record(where: str, error: Exception, record: Any) -> RecordError:
    """The error for a line that is not a record: msgspec's words with the place."""
    message, _, at = str(error).partition(" - at ")
    field = at.strip("`").removeprefix("$").lstrip(".")
    what = STEMS.get(record, "pairs").removesuffix("s")
    remedy = "prefkit wrote this file; if you edited it, mend the line, or remove it and import again."
    return RecordError(f"{where}: {field}" if field else where, message, f"a {what} as prefkit writes it", remedy)
