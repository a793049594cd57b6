"""Asking by the vendor batch protocol: files of questions go up, files of answers come down, at half the price.

Reads   the file of the records that are made, as plain asking does; batches/STAGE.json
Writes  the same file, a line for each answer; failures/STAGE.jsonl; batches/STAGE.json

``batches/STAGE.json`` says which questions are in which batch, by their ids and without any text: what is asked is
made again from the run. A batch is noted before it is sent, under a key that goes into its metadata, so that one whose
number could not be noted any more is found in the vendor's list. It is struck out when all its answers are in the run.
A process may be killed at any moment: what a batch holds is neither sent twice nor lost.

A reply that calls for one more question (a repair) goes into a further batch. What was replied first is then read again
from the vendor's file, so no text waits in the run. One question of a command goes ahead as a plain call: what the
endpoint does not take is known before a day is spent on it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from prefkit.durable import Appender
from prefkit.errors import PrefkitError, RunError
from prefkit.models.addresses import public_url
from prefkit.models.asking import (
    AskReport,
    AskSettings,
    Failures,
    Questions,
    budget_of,
    known_models,
    loop_factory,
    ready_file,
    record_round,
    refuse_unscrubbed,
)
from prefkit.models.batch_collecting import Collecting
from prefkit.models.batch_desk import Desk
from prefkit.models.batch_notes import FOLDER, Book, Note, unpacked
from prefkit.models.batch_sending import Sending
from prefkit.models.batch_state import Grown, Lot, Say, Watch
from prefkit.models.chat import CallFailed
from prefkit.models.entries import ModelEntry
from prefkit.models.http import HttpEndpoint
from prefkit.models.opening import opened
from prefkit.run import Run

STAGES = ("generate", "judge")
FIRST_LOOK = 0.5
"""Seconds from sending to the first look; each later one waits half as long again."""
LONGEST_LOOK = 60.0
_NO_BATCHES = ("HTTP 404", "HTTP 405", "HTTP 501")


@dataclass
class BatchReport(AskReport):
    """How a round went; ``under_way`` questions are in ``batches`` that have not ended."""

    under_way: int = 0
    batches: tuple[str, ...] = ()


def batch_run(run: Run, questions: Questions, settings: AskSettings, watch: Watch, say: Say) -> BatchReport:
    """Send what the run does not hold in batches, collect the answers of those that have ended.

    Args:
        run: the run.
        questions: what is asked.
        settings: of whom, and how; ``settings.batch`` says whether to wait for the batches.
        watch: called with the batches of these questions whenever they were looked at.
        say: called with a line for each batch that is sent or collected.

    Raises:
        PrefkitError: a model has no batches or cannot be reached, texts are not scrubbed, or an answer could not be
            written. Batches under way go on.
    """
    entries = [_with_batches(entry) for entry in known_models(run, settings.models)]
    refuse_unscrubbed(run, questions, entries, settings)
    with run.writing(questions.stage):
        path = ready_file(run, questions)
        held = Grown.of(path)
        assert isinstance(held, Grown)
        budget = budget_of(run, questions, held, entries, settings)
        with Failures(run, questions.stage) as failures, Appender(path) as file:
            round_ = _Round(run, questions, settings, held, budget, file, failures, watch, say)
            report = round_.ask(entries)
        report.failures = failures.first
        record_round(run, questions, entries)
    return report


def refuse_under_way(run: Run, questions: Questions, settings: AskSettings) -> None:
    """Do not pay for plain calls while the same questions are in a batch.

    Raises:
        RunError: a batch of the same kind of questions to one of the models has not been collected.
    """
    book = Book.of(run, questions.stage)
    for note in book.notes:
        if note.model in settings.models and note.title == questions.title:
            found = f"questions to {note.model} in a batch, {note.batch or 'just being made'}"
            remedy = "Add --batch to collect them, or remove the file to give them up; they are billed all the same."
            raise RunError(book.path, found, "none for plain calls", remedy)


def _with_batches(entry: ModelEntry) -> ModelEntry:
    if entry.kind != "openai-compatible" or len(entry.urls) != 1:
        found = f"{len(entry.urls)} URLs" if entry.urls else f"a model of the kind {entry.kind}"
        remedy = "Leave out --batch, or name an entry that has one."
        raise PrefkitError(entry.name, found, "an openai-compatible model at one URL for --batch", remedy)
    return replace(entry, record=None)


@dataclass
class _Round(Collecting, Sending):
    def ask(self, entries: Sequence[ModelEntry]) -> BatchReport:
        """Go through the round; Ctrl-C leaves the batches to the vendor."""
        begun = time.monotonic()
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(self._go(entries))
        except KeyboardInterrupt:
            if not self.total:
                raise
        self.tally.seconds = time.monotonic() - begun
        under_way = [note for note in self.book.notes if self.mine.get(note.key)]
        return BatchReport(
            self.tally,
            self.total,
            notes={lot.model.name: found for lot in self.lots if (found := sorted(lot.desk.endpoint.notes.values()))},
            under_way=sum(self.mine[note.key] for note in under_way if note.tried),
            batches=tuple(note.batch for note in under_way if note.batch),
        )

    async def _go(self, entries: Sequence[ModelEntry]) -> None:
        async with opened(entries, timeout=self.limits.timeout, concurrency=self.limits.concurrency) as models:
            for model, entry in zip(models, entries, strict=True):
                (endpoint,) = model.endpoints
                assert isinstance(endpoint, HttpEndpoint)
                lot = Lot(model, Desk(endpoint, self.limits.retries))
                try:
                    await lot.desk.check()
                    await self._find_lost(lot)
                except CallFailed as failure:
                    raise _no_use(entry, failure) from None
                self.lots.append(lot)
            self._reserve_noted()
            self._survey()
            try:
                await self._ask_until_done()
            except CallFailed as failure:
                raise self._stopped(entries, failure) from None

    async def _ask_until_done(self) -> None:
        loop = asyncio.get_running_loop()
        end = None if self.limits.time_limit is None else loop.time() + self.limits.time_limit
        wait, heard = FIRST_LOOK, loop.time()
        while True:
            try:
                await self._look()
                heard = loop.time()
            except CallFailed as failure:
                if not failure.again or loop.time() - heard > self.limits.patience:
                    raise
            sent = [await self._send(lot) for lot in self.lots]
            if not self.batching.wait or not self._under_way():
                return
            wait = FIRST_LOOK if any(sent) else min(LONGEST_LOOK, wait * 1.5)
            if end is not None and loop.time() + wait > end:
                return
            await asyncio.sleep(wait)

    def _stopped(self, entries: Sequence[ModelEntry], failure: CallFailed) -> PrefkitError:
        where = ", ".join(entry.where for entry in entries)
        under_way = ", ".join(note.batch for _, note in self._under_way() if note.batch)
        kept = f"Batches go on ({under_way}). " if under_way else ""
        remedy = f"{kept}Run the same command again; what is noted in {FOLDER}/ is neither lost nor sent twice."
        return PrefkitError(where, failure.reason, "an exchange of the batch protocol", remedy)

    async def _find_lost(self, lot: Lot) -> None:
        """Look in the vendor's list for batches whose number could not be noted; drop those that were never made."""
        lost = [note for note in self.book.notes if note.model == lot.model.name and note.tried and not note.batch]
        if not lost:
            return
        found = await lot.desk.made_with({note.key for note in lost}, min(note.noted for note in lost))
        for note in lost:
            if note.key in found:
                note.batch = found[note.key].id
                self.say(f"{note.batch}: found again")
            elif note.first:
                note.tried = False
            else:
                self.book.notes.remove(note)
        self.book.save()

    def _reserve_noted(self) -> None:
        """Keep the part of the budget that batches of any stage can take."""
        other = [Book.of(self.run, stage) for stage in STAGES if stage != self.questions.stage]
        for book in (self.book, *other):
            for note in book.notes:
                self._hold_back(note, 1)

    def _survey(self) -> None:
        """Count the questions, those answered before, and which of the noted ones are among them."""
        for lot in self.lots:
            self.total += self.questions.total(lot.model)
            notes = [note for note in self.book.notes if note.model == lot.model.name]
            lot.under = [self.book.ids(note) for note in notes]
            for task in self.questions.tasks(lot.model, self.held):
                if task is None:
                    self.tally.from_before += 1
                    continue
                for note, ids in zip(notes, lot.under, strict=True):
                    if task.id in ids:
                        self.mine[note.key] = self.mine.get(note.key, 0) + 1
                        break
            for note in notes:
                if all(name in self.held for name in unpacked(note.ids)):
                    self.mine[note.key] = 0  # killed between the last answer and the note: to be struck out
                    self._strike(note)

    def _strike(self, note: Note) -> None:
        self._hold_back(note, -1)
        self.book.replace(note)


def _no_use(entry: ModelEntry, failure: CallFailed) -> PrefkitError:
    url = public_url(entry.urls[0])
    if failure.reason.startswith(_NO_BATCHES):
        found = f"no batches at {url} ({failure.reason})"
        return PrefkitError(entry.name, found, "an endpoint with /files and /batches", "Leave out --batch.")
    return PrefkitError(entry.name, f"{failure.reason} at {url}", "its list of batches", "Look at the key and the URL.")
