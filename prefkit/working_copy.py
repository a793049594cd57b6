"""A run elsewhere, and the folder on this machine in which it is worked on.

Reads, writes   a store: a bucket, or a folder whose records stand in parts
                PREFKIT_CACHE/runs/NAME/            a run folder like any other
                PREFKIT_CACHE/runs/NAME.copy.json   what was last the same in both

Commands know folders. For a run in a store they work in such a copy: ``pull`` brings what changed there, ``push`` takes
back what changed here. Records stand in the store as parts (``prefkit.parts``) and here as JSONL: parts that are new
there are appended here, and what was appended here becomes a part there, at the end of a command, and once a minute
while one runs. So the copy is also the journal of answers that were paid for and not yet put in place: a killed command
leaves them here, and the next one takes them there.

One machine writes at a time (``prefkit.lease``). Where both sides changed the same file, nothing is overwritten and the
error names it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from prefkit.durable import (
    PART,
    append_lines,
    cache_folder,
    explained_disk_errors,
    is_torn,
    make_folders,
    remove,
    replacing,
)
from prefkit.errors import RunError
from prefkit.lease import LEASE, leased
from prefkit.parts import (
    GENERATIONS,
    KINDS,
    PART_ROWS,
    Parts,
    generations,
    refuse_unscrubbed,
    set_generations,
)
from prefkit.store import Store

STATE = ".copy.json"
COMMIT_SECONDS = 60.0
"""How long an answer may stand on this machine alone while a command runs."""
PART_BYTES = 64 << 20
"""JSONL in a part, about."""
_WEIGHTS = re.compile(r"(reward-models|policies|iterations)/.*(\.(safetensors|bin|pt|pth|gguf)$|/checkpoint-\d+/)")
_OURS = (".lock", ".lock-holder", LEASE, GENERATIONS)
_BLOCK = 1 << 20
_RUN_INFO = "run.json"
_SCRATCH = "by-prompt/"
"""What a cluster keeps there while it works (``cluster.by_prompt``)."""


class Known(msgspec.Struct, frozen=True):
    """A file as it was when both sides had the same: there, and here; ``size`` None: it was not fetched."""

    stamp: str
    size: int | None
    changed: int = 0


class Rows(msgspec.Struct):
    """How far the JSONL file of a kind of record is the same as its parts.

    Args:
        generation: of the parts.
        parts: that are in the file.
        bytes: of the file that stand in parts.
        next: the part that is being made of what follows, and how far that goes.
        rewritten: the file was replaced, so that all parts must be made anew.
    """

    generation: int = 0
    parts: list[str] = []
    bytes: int = 0
    next: tuple[str, int] | None = None
    rewritten: bool = False


class State(msgspec.Struct):
    """What stands beside a working copy."""

    url: str
    format: int = 1
    files: dict[str, Known] = {}
    records: dict[str, Rows] = {}
    unscrubbed: bool = False
    """Of a run that is not there yet: whether texts that were not scrubbed may be put there."""
    light: bool = False
    """The command in hand reads and writes the records there, and has none here."""
    in_parts: bool | None = None
    """Whether the records stood in parts; None where no run was there, and records will stand in parts."""


def store_of(folder: Path) -> Store:
    """Where a run is kept: elsewhere, if its folder is a working copy, else the folder itself."""
    copy = WorkingCopy.of(folder)
    return copy.store if copy else Store(str(folder))


def working_folder(url: str) -> Path:
    """The folder in which a run at a URL is worked on."""
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", url.partition("://")[2] or url).strip("-")[-60:]
    return cache_folder() / "runs" / f"{name}-{hashlib.blake2b(url.encode(), digest_size=4).hexdigest()}"


class WorkingCopy:
    """A run in a store, and its folder here.

    Args:
        folder: here.
        store: there.
    """

    def __init__(self, folder: Path, store: Store) -> None:
        self.folder, self.store = folder, store
        self._state_file = folder.with_name(folder.name + STATE)
        self.state = State(url=store.url)
        with explained_disk_errors(self._state_file), contextlib.suppress(FileNotFoundError):
            self.state = msgspec.json.decode(self._state_file.read_bytes(), type=State)
        self.busy = threading.RLock()
        """Held while files change here, so that nothing half-changed is taken there."""

    @classmethod
    def of(cls, folder: Path) -> WorkingCopy | None:
        """The working copy that a folder is; None where it is no one's copy."""
        path = folder.with_name(folder.name + STATE)
        try:
            url = msgspec.json.decode(path.read_bytes(), type=State).url
        except (OSError, msgspec.MsgspecError, ValueError):
            return None
        return cls(folder, Store(url))

    def pull(self, *, records: bool = True, weights: bool = True) -> None:
        """Bring what changed there.

        Args:
            records: also prompts, responses, judgements and rewards.
            weights: also the weights of models.

        Raises:
            RunError: a file changed on both sides, or the store does not answer.
        """
        with self.busy:
            make_folders(self.folder)
            self.state.light = not records
            there = self.store.stamps()
            counting = generations(self.store) if GENERATIONS in there else None
            self._see(None if _RUN_INFO not in there else counting is not None)
            self._pull_files({name: stamp for name, stamp in there.items() if self._is_file(name, counting)}, weights)
            if records and counting is not None:
                for kind in KINDS:
                    self._pull_records(kind, counting.get(kind, 0), there)
            self._save()

    def push(self, *, records: bool = True) -> None:
        """Take there what changed here: records first, ``run.json`` last.

        Args:
            records: only whoever holds the lease may take records there.

        Raises:
            RunError: a file changed on both sides, or the store does not answer.
        """
        with self.busy:
            if not (self.folder / _RUN_INFO).exists():
                return
            counting = generations(self.store)
            if counting is None and self.state.in_parts is None:
                counting = {}
                set_generations(self.store, counting, unscrubbed=self.state.unscrubbed)
            if records and counting is not None:
                self._push_records(counting)
            self._push_files(counting)
            self.state.in_parts = counting is not None
            self._save()

    def commit_appended(self) -> None:
        """Make parts of what was appended to the records here."""
        with self.busy:
            counting = generations(self.store)
            for kind in KINDS if counting is not None else ():
                if not self._rows(kind).rewritten:
                    self._commit(kind)

    def allow_unscrubbed(self) -> None:
        """Let texts that were not scrubbed be put into the run that is being made."""
        self.state.unscrubbed = True
        self._save()

    def rewriting(self, name: str) -> None:
        """Be told that a file of records is about to be replaced whole."""
        kind = name.removesuffix(".jsonl")
        if kind in KINDS and name.endswith(".jsonl"):
            self._rows(kind).rewritten = True
            self._save()

    @contextlib.contextmanager
    def writing(self, command: str) -> Iterator[None]:
        """Hold the store for one writer; what others did is there before, what is done inside goes there, even if it
        ends in an error.

        Raises:
            RunError: another process holds it.
        """
        with leased(self.store, command) as lost, self._committing(lost):
            self.pull(records=not self.state.light, weights=False)
            try:
                yield
            except BaseException:
                with contextlib.suppress(RunError):  # what is not taken there now is taken by the next command
                    self._push_if_held(lost)
                raise
            self._push_if_held(lost)

    def _push_if_held(self, lost: threading.Event) -> None:
        if lost.is_set():
            found = "that another process took over, as this one did not answer for a while"
            remedy = "Run the same command again; what was done here is kept, and goes there then."
            raise RunError(self.store.url, found, "the lease on the run until the end", remedy)
        self.push()

    def _see(self, in_parts: bool | None) -> None:
        """Forget the records here where the run was converted there."""
        if self.state.in_parts not in (None, in_parts):
            for kind in KINDS:
                changed = self._waiting(kind) if self.state.in_parts else self._changed_here(f"{kind}.jsonl")
                if changed or self._rows(kind).rewritten:
                    raise self._both(kind)
            for kind in KINDS:
                remove(self._file(kind))
                self.state.files.pop(f"{kind}.jsonl", None)
            self.state.records = {}
        self.state.in_parts = in_parts
        self._save()

    # Files

    def _is_file(self, name: str, counting: dict[str, int] | None) -> bool:
        """Whether a file is taken as it is; records in parts are not."""
        if name in _OURS or name.endswith(PART) or name.startswith(_SCRATCH):
            return False
        kind, dot, rest = name.partition(".")
        if counting is None or kind not in KINDS:
            return True
        return not (dot and (rest == "jsonl" or rest.startswith("parquet/")))

    def _pull_files(self, there: dict[str, str], weights: bool) -> None:
        for name in [name for name in self.state.files if name not in there]:
            if not self._changed_here(name):
                remove(self.folder / name)
            del self.state.files[name]
        for name, stamp in there.items():
            known, path = self.state.files.get(name), self.folder / name
            if known and known.stamp == stamp and (known.size is not None or not weights):
                continue
            if known is None and _WEIGHTS.match(name) and not weights and not path.exists():
                self.state.files[name] = Known(stamp, None)
                continue
            if self._changed_here(name) and (known is None or known.stamp != stamp):
                self._need_agreement(name)
            else:
                self._make_room(path)
                self.store.download(name, path)
            self._note(name, stamp)

    def _make_room(self, path: Path) -> None:
        """Remove a folder where a file is to be, and a file where its folder is."""
        if path.is_dir():
            remove(path)
        for above in path.relative_to(self.folder).parents:
            if (self.folder / above).is_file():
                remove(self.folder / above)

    def _need_agreement(self, name: str) -> None:
        """Of a file that changed on both sides.

        Raises:
            RunError: they differ. A process that died between a transfer and the note about it leaves such as do not.
        """
        with self.store.opened(name) as there, open(self.folder / name, "rb") as here:
            while block := there.read(_BLOCK):
                if here.read(_BLOCK) != block:
                    raise self._both(name)
            if here.read(1):
                raise self._both(name)

    def _changed_here(self, name: str) -> bool:
        """Whether a file is not as it was when both sides had the same."""
        known, path = self.state.files.get(name), self.folder / name
        if not path.is_file():
            return False
        status = path.stat()
        return known is None or (known.size, known.changed) != (status.st_size, status.st_mtime_ns)

    def _push_files(self, counting: dict[str, int] | None) -> None:
        here = [path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if path.is_file()]
        here = [name for name in here if self._is_file(name, counting)]
        changed = [name for name in here if self._changed_here(name)]
        gone = [
            name
            for name, known in self.state.files.items()
            if known.size is not None and not (self.folder / name).is_file()
        ]
        if not changed and not gone:
            return
        there = self.store.stamps()
        for name in changed:
            known = self.state.files.get(name)
            if name in there and (known is None or known.stamp != there[name]):
                self._need_agreement(name)
        changed.sort(key=lambda name: (name == _RUN_INFO, (self.folder / name).stat().st_mtime_ns, name))
        for name in changed:
            kind = name.removesuffix(".jsonl")
            if kind in KINDS and name.endswith(".jsonl"):
                refuse_unscrubbed(self.store, map(_decoder(kind), _whole_lines(self.folder / name, 0)))
            self.store.upload(self.folder / name, name)
        now = self.store.stamps()
        for name in changed:
            self._note(name, now[name])
        self.store.remove(gone)
        for name in gone:
            del self.state.files[name]

    def _note(self, name: str, stamp: str) -> None:
        status = (self.folder / name).stat()
        self.state.files[name] = Known(stamp, status.st_size, status.st_mtime_ns)

    def _both(self, name: str) -> RunError:
        here = os.path.join(self.folder.parent, ".", self.folder.name)  # not what messages call by the run's name
        remedy = f"Move {here} and {here}{STATE} away if what is there counts, and run the command again."
        return RunError(f"{self.store.url}/{name}", "a change there and another here", "a change on one side", remedy)

    # Records

    def _rows(self, kind: str) -> Rows:
        return self.state.records.setdefault(kind, Rows())

    def _file(self, kind: str) -> Path:
        return self.folder / f"{kind}.jsonl"

    def _parts(self, kind: str) -> Parts:
        return Parts(self.store, kind, self._rows(kind).generation)

    def _pull_records(self, kind: str, generation: int, there: Iterable[str]) -> None:
        """Append here what parts are new there; begin anew where the records were rewritten there."""
        rows, path = self._rows(kind), self._file(kind)
        if rows.rewritten:  # and not taken there yet: what is here counts, unless it was rewritten there as well
            if rows.generation != generation:
                raise self._both(f"{kind}.parquet")
            return
        if rows.generation != generation:
            if self._waiting(kind):
                raise self._both(f"{kind}.parquet")
            remove(path)
            self.state.records[kind] = rows = Rows(generation)
        self._settle(kind)
        known = set(rows.parts)
        new = [name for name in self._parts(kind).names(there) if name not in known]
        if not new:
            return
        if self._waiting(kind):
            self._commit(kind)
        for name in new:
            records = self._parts(kind).read(name)
            append_lines(path, (msgspec.json.encode(record) + b"\n" for record in records))
            rows.parts.append(name)
            rows.bytes = path.stat().st_size
            self._save()

    def _waiting(self, kind: str) -> int:
        """How many bytes of whole lines stand in no part yet."""
        path, rows = self._file(kind), self._rows(kind)
        if not path.exists():
            return 0
        if path.stat().st_size < rows.bytes:
            rows.rewritten = True
            return path.stat().st_size
        return sum(map(len, _whole_lines(path, rows.bytes)))

    def _settle(self, kind: str) -> None:
        """Find out whether the part that was being made when a process died is there."""
        rows = self._rows(kind)
        if rows.next is not None:
            name, end = rows.next
            if name in self._parts(kind).names():
                rows.parts.append(name)
                rows.bytes = end
            rows.next = None
            self._save()

    def _commit(self, kind: str) -> None:
        """Make parts of what was appended."""
        rows, path = self._rows(kind), self._file(kind)
        if not path.exists():
            return
        self._settle(kind)
        decode, parts = _decoder(kind), self._parts(kind)
        for lines in _batches(path, rows.bytes):
            end = rows.bytes + sum(map(len, lines))
            name = parts.name(
                parts.next_number(rows.parts), hashlib.blake2b(b"".join(lines), digest_size=6).hexdigest()
            )
            rows.next = name, end
            self._save()
            parts.write(name, [decode(line) for line in lines])
            rows.next, rows.bytes = None, end
            rows.parts.append(name)
            self._save()

    def _push_records(self, counting: dict[str, int]) -> None:
        """Parts of what was appended; where records were rewritten, another generation of all of them at once."""
        rewritten = [kind for kind in KINDS if self._rows(kind).rewritten]
        for kind in KINDS:
            if kind not in rewritten:
                self._commit(kind)
        if not rewritten:
            return
        for kind in rewritten:
            if counting.get(kind, 0) != self._rows(kind).generation:
                raise self._both(f"{kind}.parquet")
        written: dict[str, Rows] = {}
        for kind in rewritten:
            path, generation = self._file(kind), self._rows(kind).generation + 1
            parts, decode = Parts(self.store, kind, generation), _decoder(kind)
            self.store.remove(f"{parts.folder}/{name}" for name in parts.names())
            batches = _batches(path, 0) if path.exists() else ()
            for number, lines in enumerate(batches):
                parts.write(parts.name(number), [decode(line) for line in lines])
            size = path.stat().st_size if path.exists() else 0
            written[kind] = Rows(generation, parts.names(), size)
        set_generations(self.store, counting | {kind: rows.generation for kind, rows in written.items()})
        self.state.records |= written
        self._save()
        for kind in rewritten:
            self.store.remove(self._parts(kind).earlier())

    @contextlib.contextmanager
    def _committing(self, lost: threading.Event) -> Iterator[None]:
        """Once a minute, make parts of what was appended."""
        done = threading.Event()

        def commit() -> None:
            while not done.wait(COMMIT_SECONDS):
                if not lost.is_set():
                    with contextlib.suppress(RunError):  # told at the end, if it lasts
                        self.commit_appended()

        thread = threading.Thread(target=commit, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _save(self) -> None:
        make_folders(self._state_file.parent)
        with replacing(self._state_file) as file:
            file.write(msgspec.json.encode(self.state))


def _decoder(kind: str) -> Callable[[bytes], Any]:
    return msgspec.json.Decoder(KINDS[kind]).decode


def _whole_lines(path: Path, start: int) -> Iterator[bytes]:
    with explained_disk_errors(path), open(path, "rb") as file:
        file.seek(start)
        for line in file:
            if is_torn(line) or not line.endswith(b"\n"):
                return
            yield line


def _batches(path: Path, start: int) -> Iterator[list[bytes]]:
    """The whole lines of a file from a byte on, as many at a time as a part has."""
    lines: list[bytes] = []
    size = 0
    for line in _whole_lines(path, start):
        lines.append(line)
        size += len(line)
        if size >= PART_BYTES or len(lines) >= PART_ROWS:
            yield lines
            lines, size = [], 0
    if lines:
        yield lines
