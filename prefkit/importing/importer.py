"""Import a file from outside into a run.

Reads   the file, row by row; the ids that the run holds
Writes  prompts.jsonl (whole), responses.jsonl and judgements.jsonl (appended), rejects/KIND-FILE.jsonl (another file of
        the same name: KIND-FILE-2.jsonl), run.json

Every row ends as imported or under one named reason in the rejects file, with its line. A score out of range is left
out and listed, never clipped; a judgement that cannot be read is kept without a score. What the file brings is first
written to a temporary file, so that a broken file changes nothing; importing the same file again adds only what is
missing. An id that the run holds with another answer is a conflict, never a silent second answer: two policies under
one name are noticed here.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from prefkit.durable import PART, explained_disk_errors
from prefkit.errors import InputError
from prefkit.importing.columns import (
    ColumnMapping,
    ColumnReader,
    Kind,
    load_mapping,
    resolve_columns,
    unread_columns,
)
from prefkit.importing.resolver import REPEATED, ImportReport, ImportSettings, Resolver, Spool, nothing_imported
from prefkit.records import Judgement, Response
from prefkit.rows.drafts import Draft
from prefkit.rows.files import Row, read_rows, source_digest
from prefkit.rows.presets import PRESETS, Preset, Source, find_preset
from prefkit.run import Import, Run

HEAD = 100  # rows by which a file's columns are known: a record of JSON leaves out what it does not have


def import_file(
    run: Run, kind: Kind, file: str, settings: ImportSettings, progress: Callable[[int], None] | None = None
) -> ImportReport:
    """Import ``file`` into the run; see the module's words for what is promised.

    Raises:
        InputError: the file is broken or not the shape asked for, or no row of it could be used.
        RunError: the run is in use, or the disk is full.
    """
    with run.writing(f"import {kind}"), rejects_folder(run), run.at_once(), _spools(run) as spools:
        source = opened(run, kind, file, settings, progress)
        report = ImportReport(source.name, source.read_as)
        with run.replacing(source.rejects) as rejected:
            resolver = Resolver(run, settings, spools, report, rejected)
            for row in source.rows:
                resolver.take(row, source.reader)
            check_imported(source, report, resolver.first_detail, resolver.first_line, resolver.row.number)
            resolver.commit()
            report.rejects = run.path / source.rejects if rejected.tell() else None
        note_import(run, source, report)
    return report


Reader = ColumnReader | Callable[[Mapping[str, Any]], list[Draft]]
"""Makes drafts of a row's values."""


@dataclass(frozen=True)
class Opened:
    """A file whose shape is known.

    Args:
        kind: what its rows are.
        path: where it is.
        name: its name.
        rows: all of them.
        reader: how they are read.
        read_as: the same in words.
        digest: see ``source_digest``.
        on_record: the settings, as ``run.json`` has them.
        rejects: the file of the run that lists what is not imported.
    """

    kind: Kind
    path: str
    name: str
    rows: Iterator[Row]
    reader: Reader
    read_as: str
    digest: str
    on_record: dict[str, Any]
    rejects: str


def opened(
    run: Run, kind: Kind, file: str, settings: ImportSettings, progress: Callable[[int], None] | None = None
) -> Opened:
    """Open a file and find out how its rows are read.

    Raises:
        InputError: it is broken, or not the shape asked for.
    """
    rows = read_rows(file, format=settings.format, sheet=settings.sheet, split=settings.split, progress=progress)
    head = list(itertools.islice(rows, HEAD))
    reader, read_as = _reader(run, kind, file, _columns(file, head), settings)
    name, digest, on_record = Path(file).name, source_digest(file), _on_record(settings, read_as)
    rejects = f"rejects/{kind}-{name}{_place(run, kind, name, digest, on_record)}.jsonl"
    return Opened(kind, file, name, itertools.chain(head, rows), reader, read_as, digest, on_record, rejects)


def check_imported(
    source: Opened, report: ImportReport, details: Mapping[str, str], first_line: int, last_line: int
) -> None:
    """Raise an InputError where the rows, by now all read, cannot be meant: see ``ColumnReader.check`` and
    ``nothing_imported``."""
    if isinstance(source.reader, ColumnReader):
        source.reader.check(source.path)
    if not report.rows_imported and report.rejected.total() > report.rejected[REPEATED]:
        raise nothing_imported(report, details, first_line, last_line)


def note_import(run: Run, source: Opened, report: ImportReport) -> None:
    """Write to ``run.json`` where the rows went; without rejects their file is removed."""
    if not report.rejects:
        run.remove(source.rejects)
    run.record_import(
        Import(
            kind=source.kind,
            file=source.name,
            digest=source.digest,
            settings=source.on_record,
            rows=report.rows,
            imported=dict(report.imported),
            rejected=dict(report.rejected),
            notes=dict(report.notes),
        )
    )


def _on_record(settings: ImportSettings, read_as: str) -> dict[str, Any]:
    kept = {name: value for name, value in msgspec.to_builtins(settings, enc_hook=str).items() if value}
    return {**kept, "read_as": read_as}


def _place(run: Run, kind: Kind, name: str, digest: str, on_record: dict[str, Any]) -> str:
    """What tells the rejects of this import from those of others of the same kind and file name: "", -2, -3, ..."""
    like = [(old.digest, old.settings) for old in run.info.imports if (old.kind, old.file) == (kind, name)]
    place = like.index((digest, on_record)) if (digest, on_record) in like else len(like)
    return f"-{place + 1}" if place else ""


def _columns(file: str, head: Sequence[Row]) -> dict[str, Any]:
    """The columns of the first rows, each with its first value.

    Raises:
        InputError: there is no row, or no whole one.
    """
    if not head:
        raise InputError(file, "no rows", "at least one", "Is this the file you meant?")
    whole = [row for row in head if not row.broken]
    if not whole:
        found = f"no whole row among the first {len(head):,} ({head[0].broken})"
        raise InputError(file, found, "rows", "Is it the format that its ending says? Otherwise add --format.")
    first: dict[str, Any] = {}
    for row in whole:
        first = {**row.values, **first} if row.values.keys() - first.keys() else first
    return first


def _reader(run: Run, kind: Kind, file: str, first: Mapping[str, Any], settings: ImportSettings) -> tuple[Reader, str]:
    """How rows become drafts, and that in words."""
    beside = Path(file + ".mapping.yaml")
    given = ColumnMapping()
    if settings.mapping or beside.is_file():
        given = load_mapping(settings.mapping or beside)
    given = given.changed(settings.columns, settings.constants)
    preset = _preset(kind, file, first, settings, mapped=bool(given.columns))
    if preset:
        _check_beside_preset(preset, file, given)
        source = Source(file, run.rubric, given.constants)
        return lambda values: preset.read(values, source), f"preset {preset.name}"
    columns, scored = resolve_columns(kind, list(first), given, run.rubric, file)
    words = [name if name == column else f"{name} from {column}" for name, column in columns.items()]
    words += [f"{name} = {value}" for name, value in given.constants.items()]
    words += [f"{len(scored)} principles"] if scored else []
    unread = unread_columns(kind, list(first), columns, given, run.rubric)
    return ColumnReader(kind, columns, scored, given.constants, unread), ", ".join(words)


def _check_beside_preset(preset: Preset, file: str, given: ColumnMapping) -> None:
    """Raise an InputError where a mapping says what a preset would pass over."""
    taken = f"--set {' or '.join(preset.takes)}" if preset.takes else "nothing"
    for name in [*given.columns, *(name for name in given.constants if name not in preset.takes)]:
        found = f"the field {name!r} in the mapping, beside the preset {preset.name}"
        remedy = "Leave it out, or read the file by its columns: --preset none."
        raise InputError(file, found, f"{taken} beside this preset", remedy)


def _preset(
    kind: Kind, file: str, first: Mapping[str, Any], settings: ImportSettings, *, mapped: bool
) -> Preset | None:
    if settings.preset == "none" or (settings.preset is None and mapped):
        return None
    if settings.preset is None:
        return find_preset(kind, first)
    serving = [preset.name for preset in PRESETS.values() if kind in preset.kinds]
    if settings.preset not in serving:
        found = f"the preset {settings.preset!r} for {kind}"
        raise InputError(file, found, f"one of {', '.join(serving)}", "See `prefkit import presets`.")
    return PRESETS[settings.preset]


@contextlib.contextmanager
def rejects_folder(run: Run) -> Iterator[None]:
    """A folder that stays only if something is in it at the end."""
    folder = run.path / "rejects"
    with explained_disk_errors(folder):
        folder.mkdir(exist_ok=True)
    try:
        yield
    finally:
        if not any(folder.iterdir()):
            folder.rmdir()


@contextlib.contextmanager
def _spools(run: Run) -> Iterator[dict[Any, Spool]]:
    with contextlib.ExitStack() as stack:
        spools = {}
        for record, name in ((Response, "responses"), (Judgement, "judgements")):
            path = run.path / f"new-{name}{PART}"
            stack.callback(path.unlink, missing_ok=True)
            stack.enter_context(explained_disk_errors(path))
            spools[record] = Spool(path, stack.enter_context(open(path, "wb")))
        yield spools
