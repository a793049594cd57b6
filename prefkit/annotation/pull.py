"""Bring people's answers into a run.

Reads   an Argilla server, page by page; or answers that a file held (export_file.py, label_studio.py, tables.py)
Writes  judgements.jsonl                what people said, the sides undone
        rejects/annotate-pull.jsonl     answers that are no judgements, and why

Answers are read as they come, and each takes the memory of its line in judgements.jsonl, as all must be there before
the first one is written: an answer's time follows from the one before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from prefkit.annotation.answers import (
    STATUSES,
    Answer,
    AnswerReader,
    Refused,
    Status,
    Unread,
    question_id,
    seconds_taken,
)
from prefkit.annotation.export_file import file_answers
from prefkit.annotation.items import ITEMS, Item
from prefkit.annotation.merging import AnsweredItems, Merged, merge
from prefkit.annotation.server_answers import DeckState, Http, Progress, deck_answers, find_decks
from prefkit.annotation.shown import chosen_decks, few
from prefkit.annotation.tables import FileRow
from prefkit.durable import explained_disk_errors
from prefkit.errors import RunError
from prefkit.records import Comparison, Judgement, Rating
from prefkit.run import Import, Run

REJECTS = "rejects/annotate-pull.jsonl"


@dataclass(frozen=True)
class SourceFile:
    """A file's name, without its folder, and the digest of its bytes."""

    name: str
    digest: str


@dataclass
class Told:
    """What one annotator answered: by status, by flag; attention items and hidden repeats, right or equal of so
    many."""

    statuses: Counter[Status] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    attention: int = 0
    attention_right: int = 0
    repeats: int = 0
    repeats_equal: int = 0


@dataclass
class PullReport:
    """What a pull brought: by annotator, and what became of each answer."""

    annotators: dict[str, Told] = field(default_factory=dict)
    decks: list[DeckState] = field(default_factory=list)
    missing_decks: list[str] = field(default_factory=list)
    rows: int = 0
    merged: Merged = field(default_factory=Merged)
    refused: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    rejects: Path | None = None

    @property
    def statuses(self) -> Counter[Status]:
        """All answers by status."""
        return sum((told.statuses for told in self.annotators.values()), Counter())


def pull_server(
    run: Run,
    http: Http,
    *,
    decks: Sequence[str] = (),
    progress: Callable[[int], Progress] = lambda total: lambda more: None,
) -> PullReport:
    """Bring in what annotators answered at a server.

    Args:
        http: a client whose key may see all answers (an owner's, or an admin's of the decks' workspaces).
        decks: only those called so, or so and a number; all of the run's otherwise.
        progress: given how many records there should be, gives what is told how many more were read.

    Raises:
        RunError: no deck of the run is at the server, it does not answer, or the run is locked.
    """
    report = PullReport()
    with run.writing("annotate pull"):
        reader = _reader(run)
        wanted = chosen_decks(run, reader.items.values(), decks)
        found = find_decks(http, wanted)
        report.missing_decks = [name for name in wanted if name not in found]
        if not found:
            remedy = "Is it the right server? Otherwise: prefkit annotate push"
            raise RunError(run.path, f"none of its decks ({few(wanted)}) at the server", "a deck of this run", remedy)
        report.decks = [DeckState(name) for name in found]
        moved = progress(sum(item.deck in found for item in reader.items.values()))
        answers = (answer for deck in report.decks for answer in deck_answers(http, found[deck.name], deck, moved))
        with run.at_once():
            _bring_in(run, reader, answers, report, REJECTS, read_decks=frozenset(found))
            facts = {
                "decks": {deck.name: deck.items for deck in report.decks},
                "answers": {status: report.statuses[status] for status in STATUSES},
                "refused": dict(report.refused),
                "gone": report.merged.gone,
            }
            if _stage_facts(run) != facts:
                run.record_stage("annotate pull", **facts)
    return report


def _stage_facts(run: Run) -> dict[str, Any]:
    kept = run.info.stages.get("annotate pull", {})
    return {name: value for name, value in kept.items() if name != "prefkit"}


def pull_file(run: Run, file: SourceFile, rows: Iterable[FileRow], *, annotator: str | None = None) -> PullReport:
    """Bring in answers that a file holds; it may be older than the run, so no draft replaces a finished answer.

    Args:
        file: its name and digest, for messages and for run.json.
        rows: its rows.
        annotator: who filled in a table that has no column for it.

    Raises:
        InputError: the file has none of the known shapes.
        RunError: the run has no items, or is locked.
    """
    report = PullReport()
    with run.writing("annotate pull"), run.at_once():
        reader = _reader(run)
        answers = file_answers(file.name, _counting(rows, report), reader.forms, annotator, report.notes)
        _bring_in(run, reader, answers, report, f"rejects/annotate-pull-{file.name}.jsonl")
        entry = Import(
            kind="annotations",
            file=file.name,
            digest=file.digest,
            settings={"annotator": reader.pseudonym(annotator)} if annotator else {},
            rows=report.rows,
            imported={str(status): count for status, count in report.statuses.items()},
            rejected=dict(report.refused),
            notes=dict(+report.notes),
        )
        if entry not in run.info.imports:
            run.record_import(entry)
    return report


def _counting(rows: Iterable[FileRow], report: PullReport) -> Iterator[FileRow]:
    for row in rows:
        report.rows += 1
        yield row


def _reader(run: Run) -> AnswerReader:
    reader = AnswerReader(run)
    if not reader.items:
        remedy = f"Show some to people: prefkit annotate push {run.path}"
        raise RunError(run.path / ITEMS, "no items", "what was pushed or exported", remedy)
    return reader


@dataclass(slots=True)
class _Held:
    """A judgement that was brought, as its line, until all are there."""

    line: bytes
    item: Item
    annotator: str
    status: Status
    inserted: float | None
    updated: float | None
    unsure: bool
    """Whether the source did not say its status."""


def _bring_in(
    run: Run,
    reader: AnswerReader,
    answers: Iterable[Answer | Refused],
    report: PullReport,
    rejects: str,
    read_decks: frozenset[str] | None = None,
) -> None:
    """Read all answers, then change judgements.jsonl.

    Args:
        rejects: where refused answers are listed.
        read_decks: the decks whose answers these all are, as they are now; None where they may be older, or a part.
    """
    held, refused, unread = _held(reader, answers, report)
    _time(held)
    _count_told(held, report)
    about = [item for item in reader.items.values() if item.deck in (read_decks or ())]
    questions = AnsweredItems(about, but=unread)
    lines = {id: one.line for id, one in held.items()}
    unsure = {id for id, one in held.items() if one.unsure}
    report.merged = merge(run, lines, questions, newest=read_decks is not None, unsure=unsure)
    _list_refused(run, refused, report, rejects)


def _held(
    reader: AnswerReader, answers: Iterable[Answer | Refused], report: PullReport
) -> tuple[dict[str, _Held], list[Refused], set[str]]:
    """The judgements by id; what was refused; and the ids that refused answers to known items would have had.

    Where one annotator answered the same question in two decks, a finished answer goes before a draft, and then the
    later one before the earlier.
    """
    held: dict[str, _Held] = {}
    refused: list[Refused] = []
    unread: set[str] = set()
    encode = msgspec.json.Encoder().encode
    for answer in answers:
        if isinstance(answer, Refused):
            refused.append(answer)
            continue
        try:
            read = reader.read(answer)
        except Unread as fault:
            refused.append(Refused(answer.where, fault.reason, fault.found))
            if answer.item in reader.items:
                unread.add(question_id(reader.pseudonym(answer.account), reader.items[answer.item]))
            continue
        if answer.status is None:
            report.notes[f"answers without a status, read as {read.status}"] += 1
        judgement = read.judgement
        line = encode(judgement) + b"\n"
        times, unsure = (answer.inserted, answer.updated), answer.status is None
        one = _Held(line, read.item, judgement.annotator, read.status, *times, unsure)
        earlier = held.get(judgement.id)
        if earlier is not None:
            report.notes["questions answered twice by the same annotator, of which one answer counts"] += 1
            if _standing(earlier) >= _standing(one):
                continue
        held[judgement.id] = one
    report.refused = Counter(one.reason for one in refused)
    return held, refused, unread


def _standing(one: _Held) -> tuple[bool, float]:
    return one.status == "submitted", one.updated or 0.0


def _time(held: Mapping[str, _Held]) -> None:
    """Note what follows from the times of saving, for submitted answers."""
    by_annotator: dict[str, list[_Held]] = {}
    for one in held.values():
        if one.inserted is not None and one.updated is not None:
            by_annotator.setdefault(one.annotator, []).append(one)
    decoder = msgspec.json.Decoder(Judgement)
    for answers in by_annotator.values():
        saved = [(one.inserted or 0.0, one.updated or 0.0) for one in answers]
        for one, seconds in zip(answers, seconds_taken(saved), strict=True):
            if seconds is not None and one.status == "submitted":
                timed = msgspec.structs.replace(decoder.decode(one.line), seconds=seconds)
                one.line = msgspec.json.encode(timed) + b"\n"


def _list_refused(run: Run, refused: Sequence[Refused], report: PullReport, name: str) -> None:
    """Write the list of answers that are no judgements, or remove that of an earlier pull."""
    path = run.path / name
    if not refused:
        if path.exists():
            run.remove(name)
        return
    with explained_disk_errors(path):
        path.parent.mkdir(exist_ok=True)
    with run.replacing(name) as file:
        for one in refused:
            file.write(msgspec.json.encode({"where": one.where, "reason": one.reason, "found": one.found}) + b"\n")
    report.rejects = path


def _count_told(held: Mapping[str, _Held], report: PullReport) -> None:
    """Count what each annotator said; a hidden repeat is equal where it says the same of the same responses."""
    decoder = msgspec.json.Decoder(Judgement)
    first: dict[tuple[str, frozenset[str | None]], Any] = {}
    repeats: list[tuple[str, frozenset[str | None], Any]] = []
    for one in held.values():
        told = report.annotators.setdefault(one.annotator, Told())
        told.statuses[one.status] += 1
        judgement = decoder.decode(one.line)
        told.flags.update(flag for flag in judgement.flags if ":" not in flag and flag != "adjudication")
        if one.status != "submitted" or one.item.kind == "adjudication":
            continue
        told.attention += one.item.kind == "attention"
        told.attention_right += "attention:right" in judgement.flags
        about = frozenset((one.item.left, one.item.right))
        if one.item.sample:
            repeats.append((one.annotator, about, _choice(judgement)))
        else:
            first[one.annotator, about] = _choice(judgement)
    for annotator, about, choice in repeats:
        if (annotator, about) in first:
            report.annotators[annotator].repeats += 1
            report.annotators[annotator].repeats_equal += first[annotator, about] == choice


def _choice(judgement: Judgement) -> Any:
    """What was chosen, whichever side it stood on: the winner's response id, ``tie``, or the scores."""
    if isinstance(judgement, Comparison):
        return {"a": judgement.a, "b": judgement.b}.get(judgement.winner or "", judgement.winner)
    assert isinstance(judgement, Rating)
    return tuple(sorted(judgement.scores.items()))
