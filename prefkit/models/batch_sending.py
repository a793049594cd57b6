"""Sending: questions in files, as large as a batch takes them, as far as the budget allows.

Writes  batches/STAGE.json; records, for the one question that goes ahead
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from prefkit.durable import explained_disk_errors
from prefkit.models.batch_notes import FOLDER, Note, new_key, packed, unpacked
from prefkit.models.batch_state import Lot, State, Work
from prefkit.models.budget import NOTHING, Budget, Reserved, at_most
from prefkit.models.chat import CallFailed, Request, Task
from prefkit.models.engine import Engine, Failure, Lane
from prefkit.records import Usage

MAX_BYTES = 190_000_000
"""Of a file of questions; vendors take 200 MB."""


class Pack:
    """A file of questions that is being written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: dict[str, None] = {}
        self.size = 0
        self.calls, self.tokens, self.cost = 0, 0, 0.0
        self._file = open(path, "wb")  # noqa: SIM115 - closed in close

    def add(self, work: Work, row: bytes, most: Reserved) -> None:
        """Write a question, and count what it can take."""
        self._file.write(row)
        self.names[work.task.id] = None
        self.size += len(row)
        before = work.usage or Usage(prompt=0, completion=0, calls=0)
        self.calls += before.calls + 1
        self.tokens += before.prompt + before.completion + most.tokens
        self.cost += (before.cost or 0.0) + most.cost

    def close(self) -> None:
        """Write nothing more."""
        self._file.close()


@dataclass
class Sending(State):
    """The half of a round that sends."""

    async def _send(self, lot: Lot) -> bool:
        """Send what is owed, then what is in no batch; whether anything was sent."""
        before = len(self._under_way())
        for note in [note for note in self.book.notes if note.model == lot.model.name and not note.tried]:
            if not lot.closed and self.mine.get(note.key):
                await self._send_owed(lot, note)
        if not lot.swept:
            lot.swept = True
            await self._send_fresh(lot)
        return len(self._under_way()) > before

    async def _send_fresh(self, lot: Lot) -> None:
        works = self._fresh(lot)
        head = None if lot.closed else next(works, None)
        if head is None:
            return
        await self._ask_ahead(lot, head.task)
        for pack in self._packs(lot, works):
            note = self._note(lot, pack, ())
            self.book.notes.append(note)
            await self._post(lot, note, pack)

    async def _send_owed(self, lot: Lot, note: Note) -> None:
        works = await self._rebuilt(lot, self.book.ids(note), self.mine[note.key], note.first)
        others = [name for name in unpacked(note.ids) if name not in works and not self._done(name)]
        note = self._replaced(note, self._owed(lot, list(works.values()), note.first), others)
        for pack in self._packs(lot, iter(list(works.values()))):
            sent = self._note(lot, pack, note.first)
            rest = self._owed(lot, [work for name, work in works.items() if name not in pack.names], note.first)
            works = {name: work for name, work in works.items() if name not in pack.names}
            self.mine.pop(note.key)
            self.book.replace(note, sent, *([rest] if works else []))
            note = rest
            await self._post(lot, sent, pack)

    def _replaced(self, note: Note, new: Note, others: Sequence[str]) -> Note:
        """Let a note owe what is known of its questions now; those of other rounds stay as they were."""
        left = [msgspec.structs.replace(note, ids=packed(others), key=new_key())] if others else []
        self._hold_back(note, -1)
        for one in (new, *left):
            self._hold_back(one, 1)
        self.mine.pop(note.key)
        self.book.replace(note, *([new] if new.ids else []), *left)
        return new

    def _fresh(self, lot: Lot) -> Iterator[Work]:
        """The questions that are neither answered nor in a batch nor given up for this round."""
        for task in self.questions.tasks(lot.model, self.held):
            if task is not None and task.id not in self.passed and not any(task.id in ids for ids in lot.under):
                yield Work(task)

    async def _ask_ahead(self, lot: Lot, task: Task) -> None:
        """Ask one question as a plain call, which shows what the endpoint does not take."""

        def append(line: bytes) -> None:
            self.file.append(line)
            self.held.add(task.id)

        def failed(failure: Failure) -> None:
            self.passed.add(task.id)
            self.failures.add(failure)

        budget = self._budget_for_calls()
        before = replace(budget)
        engine = Engine([Lane(lot.model, iter([task]))], append, failed, self.limits, budget)
        tally, ours = await engine.run(), self.tally
        self.budget.calls += budget.calls - before.calls
        self.budget.tokens += budget.tokens - before.tokens
        self.budget.cost += budget.cost - before.cost
        for name in ("answered", "failed", "calls", "retried", "prompt_tokens", "cached_tokens", "completion_tokens"):
            setattr(ours, name, getattr(ours, name) + getattr(tally, name))
        ours.cost += tally.cost
        ours.reasons.update(tally.reasons)
        ours.stopped.update(tally.stopped)
        lot.closed = bool(tally.stopped)

    def _budget_for_calls(self) -> Budget:
        """What is left for plain calls: to them, what batches may take is spent, for they do not wait for batches."""
        ours = self.budget
        return replace(
            ours,
            calls=ours.calls + ours.reserved,
            tokens=ours.tokens + ours.reserved_tokens,
            cost=ours.cost + ours.reserved_cost,
            reserved=0,
            reserved_tokens=0,
            reserved_cost=0.0,
        )

    def _packs(self, lot: Lot, works: Iterator[Work]) -> Iterator[Pack]:
        """Files of questions, as large as a batch takes them, as far as the budget allows."""
        path = self.run.path / FOLDER / f"{self.questions.stage}.jsonl.part"
        pack: Pack | None = None
        try:
            for work in () if lot.closed else works:
                request = work.ask()
                most = self._most(lot, request)
                if most is None:
                    self.tally.stopped[lot.model.name] = "budget"
                    lot.closed = True
                    break
                row = question(work.task.id, lot.desk.endpoint.body(request))
                if pack and (len(pack.names) >= self.batching.rows or pack.size + len(row) > MAX_BYTES):
                    pack.close()
                    yield pack
                    pack = None
                if pack is None:
                    with explained_disk_errors(path):
                        path.parent.mkdir(exist_ok=True)
                        pack = Pack(path)
                if work.task.id not in pack.names:
                    with explained_disk_errors(path):
                        pack.add(work, row, most)
            if pack:
                pack.close()
                yield pack
        finally:
            path.unlink(missing_ok=True)

    def _most(self, lot: Lot, request: Request) -> Reserved | None:
        """The most that a call can take, set aside; None where too little is left of the budget."""
        if self.budget.bounded:
            return self.budget.reserve(request, lot.price)
        return NOTHING if request.sampling.max_tokens is None else at_most(request, lot.price)

    def _note(self, lot: Lot, pack: Pack, first: tuple[str, ...]) -> Note:
        note = Note(
            key=new_key(),
            model=lot.model.name,
            title=self.questions.title,
            ids=packed(list(pack.names)),
            noted=int(time.time()),
            first=first,
            calls=pack.calls,
            tokens=pack.tokens,
            cost=pack.cost,
        )
        self.mine[note.key] = len(pack.names)
        lot.under.append(self.book.ids(note))
        return note

    async def _post(self, lot: Lot, note: Note, pack: Pack) -> None:
        """Send a file and make a batch of it, which is noted before and after."""
        self.book.save()
        try:
            file = await lot.desk.upload(pack.path)
            about = await lot.desk.create(file, note.key, self.questions.stage)
        except CallFailed as failure:
            if not failure.again and not failure.maybe_paid:  # else the next command looks whether it was made
                self.book.replace(note, *([msgspec.structs.replace(note, tried=False)] if note.first else []))
            raise
        note.batch = about.id
        self.book.save()
        self.states[about.id] = about.state
        self.say(f"{about.id}: {len(pack.names):,} questions sent")


def question(name: str, body: dict[str, Any]) -> bytes:
    """A row of a file of questions."""
    row = {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body}
    return msgspec.json.encode(row) + b"\n"
