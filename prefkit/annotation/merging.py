"""Judgements that came, into those that are there.

Reads and writes   judgements.jsonl

A judgement's id digests who was asked what, so an answer that was changed, or a draft that was submitted, takes the
place of its earlier record, where that stands. Every other line stays as it is, byte for byte, and where nothing is new
nothing is written. An answer that was taken back at its source stays, and is counted as gone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from prefkit.annotation.answers import question_id
from prefkit.annotation.items import Item
from prefkit.durable import read_lines
from prefkit.errors import RunError
from prefkit.records import Judgement
from prefkit.run import Run


@dataclass
class Merged:
    """What became of the judgements that came, and how many of those that were there are gone at their source.

    ``kept`` are records that stayed though something else came: it may be older than they are.
    """

    new: int = 0
    changed: int = 0
    as_before: int = 0
    kept: int = 0
    gone: int = 0


class _Known(msgspec.Struct):
    """As much of a judgement as tells what it is about."""

    id: str = ""
    annotator: str = ""
    failure: str | None = None
    sample: int = 0
    a: str | None = None
    b: str | None = None
    response_id: str | None = None


class AnsweredItems:
    """Tells which judgements are answers to some items.

    Args:
        items: the items.
        but: ids of judgements that are left out.
    """

    def __init__(self, items: Iterable[Item], but: Collection[str] = ()) -> None:
        self._but = but
        self._by_responses: dict[tuple[str, str | None, int], list[Item]] = {}
        for item in items:
            self._by_responses.setdefault((item.left, item.right, item.sample), []).append(item)

    def hold(self, known: _Known) -> bool:
        """Whether a judgement answers one of the items: its id digests the question."""
        if known.id in self._but or not known.annotator.startswith("human:"):
            return False
        alike = self._by_responses.get((known.a or known.response_id or "", known.b, known.sample), ())
        return any(question_id(known.annotator, item) == known.id for item in alike)


def merge(
    run: Run, lines: Mapping[str, bytes], expected: AnsweredItems, *, newest: bool, unsure: Collection[str] = ()
) -> Merged:
    """Put judgements in the place of their earlier records, or at the end.

    Args:
        run: held for writing.
        lines: id -> the judgement as its line.
        expected: the items whose answers ``lines`` holds all of.
        newest: whether what comes is as it is now; otherwise a draft does not replace a finished answer, and where a
            time is not known it takes none away.
        unsure: ids of judgements of which it is not known whether they were submitted; none replaces what is known to
            be a draft, or discarded.

    Raises:
        RunError: the judgements are in Parquet, or the disk is full.
    """
    merged = Merged()
    path = run.file(Judgement)
    if path is None:
        merged.new = run.append(Judgement, lines.values()) if lines else 0
        return merged
    if path.suffix == ".parquet":
        raise RunError(path, "Parquet, which is only read", "a JSONL file", "Write it as JSONL, and pull again.")
    decoder = msgspec.json.Decoder(_Known)
    changed: set[str] = set()
    there: set[str] = set()
    for _, line in read_lines(path):
        known = _known(decoder, line)
        new = lines.get(known.id)
        if new is None:
            merged.gone += expected.hold(known)
            continue
        there.add(known.id)
        if _says_the_same(new, line, newest):
            merged.as_before += 1
        elif _may_be_older(known, _known(decoder, new), newest, unsure):
            merged.kept += 1
        else:
            changed.add(known.id)
    merged.changed = len(changed)
    fresh = [line for id, line in lines.items() if id not in there]
    merged.new = len(fresh)
    if changed:
        with run.replacing(path.name) as file:
            for _, line in read_lines(path):
                id = _known(decoder, line).id
                file.write(lines[id] if id in changed else line)
            file.writelines(fresh)
    elif fresh:
        run.append(Judgement, fresh)
    return merged


def _says_the_same(new: bytes, old: bytes, newest: bool) -> bool:
    if new == old:
        return True
    said, before = msgspec.json.decode(new), msgspec.json.decode(old)
    if not newest and "seconds" not in said:
        before.pop("seconds", None)
    return bool(said == before)


def _may_be_older(old: _Known, new: _Known, newest: bool, unsure: Collection[str]) -> bool:
    if old.failure is None:
        return not newest and new.failure is not None
    return new.id in unsure


def _known(decoder: msgspec.json.Decoder[_Known], line: bytes) -> _Known:
    """What a line is about; a line that is no judgement is about nothing, and stays for others to report."""
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _Known()
