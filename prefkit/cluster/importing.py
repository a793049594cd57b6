"""Import a file that has more rows than one memory holds, with the same result as the local engine.

Reads   the file, row by row, a URL too; parts of prompts, responses and judgements
Writes  prompts: all of them, as parts of another generation, where any is new or changed
        responses, judgements: a part for each batch of rows that brings any
        rejects/KIND-FILE.jsonl, run.json: as the local engine does

``importing.Resolver`` itself does the work, on lots of rows with what the run holds for them. Rows are in one lot if
they have a name in common (the words, the id or a key of a prompt; the id or key of a response), be it through other
rows or through records of the run: what a row brings depends on nothing else. Which rows hang together is worked out
from numbers alone. Then all goes back into the order of the rows.

This process reads the file; the rows lie, packed, in the cluster's memory, which overflows to disk. What it holds
itself: 40 bytes a row and a prompt, 16 a response if judgements name responses by keys of their own. Rows that hang
together are never divided: a key that a million rows share is a million rows in one worker. Nothing is in place before
all rows are resolved; then prompts come first, responses next, judgements last, so that what a process leaves behind
that dies in between is completed by importing the same file again.
"""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec

from prefkit.cluster.blocks import PromptBlock, parts_of
from prefkit.cluster.by_prompt import FOLDER
from prefkit.cluster.cluster import Cluster
from prefkit.cluster.gathering import Gathered
from prefkit.cluster.import_job import NEEDED, Batches, Job, job_for
from prefkit.cluster.resolving import APPENDED, Ordered, Outcome, Told, resolve, together, told_of
from prefkit.errors import InputError
from prefkit.importing.columns import ColumnReader, Kind
from prefkit.importing.importer import check_imported, note_import, opened, rejects_folder
from prefkit.importing.resolver import ImportReport, ImportSettings
from prefkit.parts import Parts, generations, set_generations
from prefkit.records import Prompt
from prefkit.run import Run
from prefkit.store import Store, is_url

REJECTS = f"{FOLDER}/rejects"


def import_on_cluster(
    run: Run,
    store: Store,
    kind: Kind,
    file: str,
    settings: ImportSettings,
    cluster: Cluster,
    progress: Callable[[int], None] | None = None,
) -> ImportReport:
    """Import ``file`` into a run whose records stand in parts; see ``import_file``.

    Args:
        run: the run's folder here.
        store: where its records are.
        kind, file, settings, progress: see ``import_file``. The file is read by this process; where it is a URL, it is
            fetched first, with the mapping beside it.
        cluster: that works.

    Raises:
        InputError, RunError: as ``import_file`` does; or the records do not stand in parts.
    """
    with run.writing(f"import {kind}"), rejects_folder(run), run.at_once(), ExitStack() as scratch:
        file = scratch.enter_context(_fetched(file))
        held = {name: parts_of(store, name) for name in NEEDED["judgements"]}
        source = opened(run, kind, file, settings, progress)
        batches = Batches.of(cluster, source, settings)
        job = job_for(run, cluster, held, source, settings, batches)
        resolved = resolve(cluster, job)
        told = next(resolved.then(told_of, together))
        report = told.report(source)
        if isinstance(source.reader, ColumnReader):
            source.reader.numbers.update(told.numbers)
        check_imported(source, report, told.details, batches.first_line, batches.last_line)
        scratch.callback(lambda: store.remove(store.stamps(REJECTS)))
        _write_records(cluster, job, resolved, told)
        with run.replacing(source.rejects) as rejected:
            for group in sorted(told.groups.get("rejects", ())):
                rejected.write(store.read(f"{REJECTS}/{group:08d}") or b"")
            report.rejects = run.path / source.rejects if rejected.tell() else None
        note_import(run, source, report)
    return report


@contextlib.contextmanager
def _fetched(file: str) -> Iterator[str]:
    """A file on this machine, for as long as the block lasts; messages name it as the user did."""
    place, _, name = file.rpartition("/")
    if not is_url(file):
        yield file
        return
    with tempfile.TemporaryDirectory() as folder:
        for one in (name, f"{name}.mapping.yaml"):
            with contextlib.suppress(FileNotFoundError):
                Store(place).download(one, Path(folder) / one)
        if not (Path(folder) / name).exists():
            raise InputError(file, "nothing under this name", "a file", "Look at the spelling.")
        try:
            yield f"{folder}/{name}"
        except InputError as error:
            where, remedy = (text.replace(folder, place) for text in (error.where, error.remedy))
            raise InputError(where, error.found, error.expected, remedy) from None


def _write_records(cluster: Cluster, job: Job, resolved: Gathered[Outcome], told: Told) -> None:
    if "prompts" in told.groups:
        _write_prompts(cluster, job, resolved, told.groups["prompts"])
    for kind in ("responses", "judgements", "rejects"):
        if kind in told.groups:
            base = job.held[kind].next_number() if kind in job.held else 0
            _written(resolved, kind, functools.partial(_write_rows, job, kind, base))


def _write_prompts(cluster: Cluster, job: Job, resolved: Gathered[Outcome], changed: set[int]) -> None:
    """Write all prompts anew: those of the run, some of them changed, and behind them the new ones."""
    old = job.held["prompts"]
    new = Parts(old.store, old.kind, old.generation + 1)
    new.store.remove(f"{new.folder}/{name}" for name in new.names())  # of an import that was stopped
    same = [block for block in job.prompts if block.number not in changed]
    for _ in cluster.over(same, functools.partial(_copy, old, new)):
        pass
    _written(resolved, "prompts", functools.partial(_write_changed, job, new))
    set_generations(new.store, (generations(new.store) or {}) | {"prompts": new.generation})
    new.store.remove(new.earlier())


def _written(resolved: Gathered[Outcome], kind: str, write: Callable[[int, list[Ordered]], int]) -> None:
    def spread(outcome: Outcome) -> Iterator[tuple[int, Ordered]]:
        yield from outcome.brought.get(kind, {}).items()

    for _ in resolved.then(spread, write):
        pass


def _copy(old: Parts, new: Parts, item: PromptBlock) -> int:
    import pyarrow as pa

    block = item.prompts
    table = pa.concat_tables(old.tables(block.part, block.first, block.count))
    return new.write_table(new.name(item.number), table)


def _write_changed(job: Job, new: Parts, group: int, pieces: list[Ordered]) -> int:
    found = [msgspec.json.decode(line, type=Prompt) for line in _in_order(pieces)]
    if group < len(job.prompts):
        block, changed = job.prompts[group].prompts, {prompt.id: prompt for prompt in found}
        before = job.held["prompts"].read(block.part, block.first, block.count)
        found = [changed.get(prompt.id, prompt) for prompt in before]
    return new.write(new.name(group), found)


def _write_rows(job: Job, kind: str, base: int, group: int, pieces: list[Ordered]) -> int:
    if kind == "rejects":
        job.held["prompts"].store.write(f"{REJECTS}/{group:08d}", b"".join(_in_order(pieces)))
        return 0
    parts, decoder = job.held[kind], msgspec.json.Decoder(APPENDED[kind])
    lines = (line for content in _in_order(pieces) for line in content.splitlines())
    return parts.write(parts.name(base + group), list(map(decoder.decode, lines)))


def _in_order(pieces: list[Ordered]) -> list[bytes]:
    """What rows brought, in their order."""
    every = [one for piece in pieces for one in piece]
    return [content for _, content in sorted(every, key=lambda one: one[0])]
