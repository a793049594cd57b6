"""Import a file from outside into a run.

Reads   the file, row by row; the ids that the run holds
Writes  prompts.jsonl (whole), responses.jsonl and judgements.jsonl (appended), rejects/KIND-FILE.jsonl, run.json

Every row ends as imported or under one named reason in the rejects file, with its line. A score out of range is left
out and listed, never clipped; a judgement that cannot be read is kept without a score. What the file brings is first
written to a temporary file, so that a broken file changes nothing; importing the same file again adds only what is
missing. An id that the run holds with another answer is a conflict, never a silent second answer: two policies under
one name are noticed here.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from prefkit.durable import PART, explained_disk_errors
from prefkit.errors import InputError
from prefkit.importing.columns import ColumnMapping, ColumnReader, Kind, load_mapping, resolve_columns
from prefkit.importing.drafts import Draft
from prefkit.importing.files import Row, read_rows, source_digest
from prefkit.importing.presets import PRESETS, Preset, Source, find_preset
from prefkit.importing.resolver import REPEATED, ImportReport, ImportSettings, Resolver, Spool
from prefkit.records import Judgement, Response
from prefkit.run import Import, Run


def import_file(
    run: Run, kind: Kind, file: str, settings: ImportSettings, progress: Callable[[int], None] | None = None
) -> ImportReport:
    """Import ``file`` into the run; see the module's words for what is promised.

    Raises:
        InputError: the file is broken or not the shape asked for, or no row of it could be used.
        RunError: the run is in use, or the disk is full.
    """
    with run.writing(f"import {kind}"), run.at_once(), _spools(run) as spools:
        rows = read_rows(file, format=settings.format, sheet=settings.sheet, split=settings.split, progress=progress)
        first = next(rows, None)
        if first is None:
            raise InputError(file, "no rows", "at least one", "Is this the file you meant?")
        rows = itertools.chain([first], rows)
        reader, read_as = _reader(run, kind, file, first, settings)
        name = Path(file).name
        rejects = f"rejects/{kind}-{name}.jsonl"
        with explained_disk_errors(run.path / "rejects"):
            (run.path / "rejects").mkdir(exist_ok=True)
        report = ImportReport(name, read_as)
        with run.replacing(rejects) as rejected:
            resolver = Resolver(run, settings, spools, report, rejected)
            for row in rows:
                resolver.take(row, reader)
            if not report.rows_imported and report.rejected.total() > report.rejected[REPEATED]:
                raise resolver.nothing_imported()
            resolver.commit()
            report.rejects = run.path / rejects if rejected.tell() else None
        if not report.rejects:
            run.remove(rejects)
        run.record_import(
            Import(
                kind=kind,
                file=name,
                digest=source_digest(file),
                settings=_on_record(settings, read_as),
                rows=report.rows,
                imported=dict(report.imported),
                rejected=dict(report.rejected),
                notes=dict(report.notes),
            )
        )
    return report


def _on_record(settings: ImportSettings, read_as: str) -> dict[str, Any]:
    kept = {name: value for name, value in msgspec.to_builtins(settings, enc_hook=str).items() if value}
    return {**kept, "read_as": read_as}


def _reader(
    run: Run, kind: Kind, file: str, first: Row, settings: ImportSettings
) -> tuple[Callable[[Mapping[str, Any]], list[Draft]], str]:
    """How rows become drafts, and that in words."""
    beside = Path(file + ".mapping.yaml")
    given = ColumnMapping()
    if settings.mapping or beside.is_file():
        given = load_mapping(settings.mapping or beside)
    given = ColumnMapping({**given.columns, **settings.columns}, {**given.constants, **settings.constants})
    preset = _preset(kind, file, first, settings, mapped=bool(given.columns))
    if preset:
        source = Source(file, run.rubric, given.constants)
        return lambda values: preset.read(values, source), f"preset {preset.name}"
    columns, scored = resolve_columns(kind, list(first.values), given, run.rubric, file)
    words = [name if name == column else f"{name} from {column}" for name, column in columns.items()]
    words += [f"{name} = {value}" for name, value in given.constants.items()]
    words += [f"{len(scored)} principles"] if scored else []
    return ColumnReader(kind, columns, scored, given.constants), ", ".join(words)


def _preset(kind: Kind, file: str, first: Row, settings: ImportSettings, *, mapped: bool) -> Preset | None:
    if settings.preset == "none" or (settings.preset is None and mapped):
        return None
    if settings.preset is None:
        return find_preset(kind, first.values)
    serving = [preset.name for preset in PRESETS.values() if kind in preset.kinds]
    if settings.preset not in serving:
        found = f"the preset {settings.preset!r} for {kind}"
        raise InputError(file, found, f"one of {', '.join(serving)}", "See `prefkit import presets`.")
    return PRESETS[settings.preset]


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
