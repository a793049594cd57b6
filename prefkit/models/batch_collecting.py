"""Collecting: from a batch that has ended to records, failures, and questions that are owed a further batch.

Reads   the vendor's files of answers
Writes  records and failures; batches/STAGE.json
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from prefkit.errors import PrefkitError
from prefkit.models.batch_desk import ENDED, GONE, About, Fault, Row
from prefkit.models.batch_notes import Note, new_key, packed, unpacked
from prefkit.models.batch_state import Lot, State, Work
from prefkit.models.chat import CallFailed, Reply
from prefkit.models.http import SAID, read_completion


@dataclass
class Collecting(State):
    """The half of a round that takes answers in."""

    async def _look(self) -> None:
        """See how the batches are, and collect those that ended."""
        for lot, note in self._under_way():
            assert note.batch is not None
            try:
                about = await lot.desk.batch(note.batch)
            except CallFailed as failure:
                if failure.reason.startswith(GONE):
                    found = f"no {note.batch} at {lot.model.name}"
                    remedy = (
                        "Use the key and the base URL that it was sent with; "
                        f"or remove {self.book.path} to give up what is under way."
                    )
                    raise PrefkitError(self.book.path, found, "the batch that was sent", remedy) from None
                raise
            self.states[about.id] = about.state
            self.watch(list(self.states.values()))
            if about.status in ENDED:
                await self._collect(lot, note, about)

    async def _collect(self, lot: Lot, note: Note, about: About) -> None:
        """Put a batch's answers into the run; note what is owed a further batch, and strike it out."""
        works = await self._rebuilt(lot, self.book.ids(note), self.mine[note.key], note.first)
        known = len(works)
        others = [name for name in unpacked(note.ids) if name not in works and not self._done(name)]
        before = self.tally.answered
        owed: list[Work] = []
        for file in filter(None, (about.output_file_id, about.error_file_id)):
            await lot.desk.each_row(file, lambda row: self._take(lot, works, owed, row, 2 if note.first else 1))
        self._leave(lot, about, works)
        self.file.sync()
        self._hold_back(note, -1)
        self.mine.pop(note.key)
        new = []
        if others:
            new.append(msgspec.structs.replace(note, ids=packed(others), key=new_key()))
            self.mine[new[0].key] = 0
        if owed and about.output_file_id:
            new.append(self._owed(lot, owed, (*note.first, about.output_file_id)))
        for one in new:
            self._hold_back(one, 1)
        self.book.replace(note, *new)
        answered = self.tally.answered - before
        rest = f", {len(owed):,} to be repaired" if owed else ""
        rest += f", {len(others):,} belong to other questions" if others else ""
        self.say(f"{about.id}: {about.status}, {answered:,} of {known:,} answered{rest}")
        if not others:
            await self._clear(lot, note, about)

    async def _clear(self, lot: Lot, note: Note, about: About) -> None:
        """Leave no texts with the vendor that are not needed any more."""
        needed = {file for one in self.book.notes for file in one.first}
        for file in (about.input_file_id, about.output_file_id, about.error_file_id, *note.first):
            if file is not None and file not in needed:
                await lot.desk.remove(file)

    def _take(self, lot: Lot, works: dict[str, Work], owed: list[Work], row: Row, attempts: int) -> None:
        """Make of a row what it is: a record, a further question, a failure; or leave it, if its turn never came."""
        if row.custom_id not in works or not row.reached:
            return
        work = works.pop(row.custom_id)
        reply, reason = self._read(lot, row)
        if reply is None:
            self._fail(work, reason, attempts)
            return
        found = self._received(lot, work, reply)
        self._count(lot, work, reply)
        if isinstance(found, bytes):
            self._append(work, found)
        else:
            owed.append(work)

    def _read(self, lot: Lot, row: Row) -> tuple[Reply | None, str]:
        answer = row.response
        if answer is not None and answer.status_code == 200 and row.error is None:
            try:
                return read_completion(bytes(answer.body)), ""
            except CallFailed as failure:
                return None, failure.reason
        if answer is not None and answer.status_code != 200:
            return None, lot.desk.endpoint.refusal(answer.status_code, {}, bytes(answer.body)).reason
        return None, lot.desk.endpoint.redacted(str(row.error))[:SAID]

    def _count(self, lot: Lot, work: Work, reply: Reply) -> None:
        tally, usage = self.tally, reply.usage
        tally.calls += 1
        if usage is not None:
            tally.prompt_tokens += usage.prompt
            tally.cached_tokens += usage.cached
            tally.completion_tokens += usage.completion
            tally.cost += lot.price.of(usage) if lot.price else 0.0

    def _leave(self, lot: Lot, about: About, works: dict[str, Work]) -> None:
        """Deal with the questions of a batch that has no row for them."""
        if not works:
            return
        if about.status == "completed":
            for work in works.values():
                self._fail(work, "no row in the batch's files", 1)
            return
        if about.status == "failed":
            faults = (about.errors and about.errors.data) or [Fault()]
            words = f"{about.id} was refused: {faults[0]}"
        else:
            words = f"{about.id} {about.status} with {len(works):,} questions unanswered"
        self.passed.update(works)
        self.tally.stopped[lot.model.name] = lot.desk.endpoint.redacted(words)[: 2 * SAID]
