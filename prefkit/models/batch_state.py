"""What collecting and sending share while a command goes on: questions, ids, budget, notes, tally.

Reads   batches/STAGE.json, and the vendor's files with earlier replies
Writes  records and failures
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from prefkit.durable import Appender
from prefkit.models.asking import (
    AskSettings,
    Batching,
    Failures,
    Questions,
)
from prefkit.models.batch_desk import BatchState, Desk, Row
from prefkit.models.batch_notes import Book, Note, new_key, packed
from prefkit.models.budget import Budget, halved
from prefkit.models.chat import Model, Reply, Request, Task
from prefkit.models.engine import Failure, Limits, Tally, usage_so_far
from prefkit.models.held import Held
from prefkit.models.http import read_completion
from prefkit.records import Usage
from prefkit.run import Run

Watch = Callable[[Sequence[BatchState]], None]
Say = Callable[[str], None]


class Grown(Held):
    """Held ids to which more can be added."""

    def __init__(self, ids: Sequence[str] = ()) -> None:
        super().__init__(ids)
        self._parts: list[Held] = []
        self._recent: set[str] = set()

    def add(self, name: str) -> None:
        """Hold one more."""
        self._recent.add(name)
        if len(self._recent) >= 1 << 16:
            self._parts.append(Held(list(self._recent)))
            self._recent.clear()

    def among(self, questions: Sequence[tuple[str, *tuple[object, ...]]]) -> list[bool]:
        """For each question, whose first part is an id, whether it is held."""
        return [one[0] in self for one in questions]

    def __contains__(self, name: str) -> bool:
        return super().__contains__(name) or name in self._recent or any(name in part for part in self._parts)


@dataclass(slots=True)
class Work:
    """A question with what it took so far."""

    task: Task
    request: Request | None = None
    usage: Usage | None = None
    untold: bool = False

    def ask(self) -> Request:
        """What to ask next."""
        if self.request is None:
            self.request = self.task.request()
        return self.request


@dataclass
class Lot:
    """A model, and what is in batches of it."""

    model: Model
    desk: Desk
    under: list[Held] = field(default_factory=list)
    """The ids that are in its batches."""
    swept: bool = False
    """Whether all that is in no batch was sent; nothing comes back to that while a command goes on."""
    closed: bool = False
    """Whether nothing more is sent."""

    def __post_init__(self) -> None:
        self.price = halved(self.model.price)


@dataclass
class State:
    """A round as it stands."""

    run: Run
    questions: Questions
    settings: AskSettings
    held: Grown
    budget: Budget
    file: Appender
    failures: Failures
    watch: Watch
    say: Say

    def __post_init__(self) -> None:
        self.batching = self.settings.batch or Batching()
        self.limits: Limits = self.settings.limits
        self.tally = Tally()
        self.total = 0
        self.book = Book.of(self.run, self.questions.stage)
        self.lots: list[Lot] = []
        self.mine: dict[str, int] = {}
        """Key of a note -> how many of its questions are among those of this round."""
        self.passed: set[str] = set()
        """The ids that got no answer in this round and are left to the next."""
        self.states: dict[str, BatchState] = {}

    def _under_way(self) -> list[tuple[Lot, Note]]:
        """The batches with questions of this round."""
        lots = {lot.model.name: lot for lot in self.lots}
        return [
            (lots[note.model], note)
            for note in self.book.notes
            if note.model in lots and note.batch is not None and self.mine.get(note.key)
        ]

    def _hold_back(self, note: Note, sign: int) -> None:
        self.budget.reserved += sign * note.calls
        self.budget.reserved_tokens += sign * note.tokens
        self.budget.reserved_cost += sign * note.cost

    def _done(self, name: str) -> bool:
        return name in self.held or name in self.passed

    def _owed(self, lot: Lot, works: Sequence[Work], first: tuple[str, ...]) -> Note:
        used = [work.usage for work in works if work.usage is not None]
        note = Note(
            key=new_key(),
            model=lot.model.name,
            title=self.questions.title,
            ids=packed([work.task.id for work in works]),
            noted=int(time.time()),
            tried=False,
            first=first,
            calls=sum(usage.calls for usage in used),
            tokens=sum(usage.prompt + usage.completion for usage in used),
            cost=sum(usage.cost or 0.0 for usage in used),
        )
        self.mine[note.key] = len(works)
        return note

    async def _rebuilt(self, lot: Lot, ids: Held, count: int, first: Sequence[str]) -> dict[str, Work]:
        """The questions with these ids, of which there are ``count``, brought to where their earlier replies led."""
        works: dict[str, Work] = {}
        for task in self.questions.tasks(lot.model, self.held):
            if task is not None and task.id in ids and task.id not in self.passed:
                works[task.id] = Work(task)
                if len(works) == count:
                    break
        replied: set[str] = set()

        def take(row: Row) -> None:
            work = works.get(row.custom_id)
            if work is None or row.response is None or row.response.status_code != 200:
                return
            found = self._received(lot, work, read_completion(bytes(row.response.body)))
            replied.add(row.custom_id)
            if isinstance(found, bytes):  # as a better parser may read it
                self._append(works.pop(row.custom_id), found)

        for file in first:
            await lot.desk.each_row(file, take)
        if first:
            for name in [name for name in works if name not in replied]:
                self._fail(works.pop(name), "its first reply is no longer there", 1)
        return works

    def _received(self, lot: Lot, work: Work, reply: Reply) -> bytes | Request:
        work.ask()
        if reply.usage is None:
            work.untold = True
        else:
            cost = lot.price.of(reply.usage) if lot.price else None
            work.usage = usage_so_far(work.usage, reply.usage, cost)
        found = work.task.receive(reply, None if work.untold else work.usage)
        if isinstance(found, Request):
            work.request = found
        return found

    def _append(self, work: Work, line: bytes) -> None:
        self.file.append(line)
        self.held.add(work.task.id)
        self.tally.answered += 1
        usage = work.usage
        if usage is not None:
            self.budget.calls += usage.calls
            self.budget.tokens += usage.prompt + usage.completion
            self.budget.cost += usage.cost or 0.0

    def _fail(self, work: Work, reason: str, attempts: int) -> None:
        self.passed.add(work.task.id)
        self.tally.failed += 1
        self.tally.reasons[reason] += 1
        self.failures.add(Failure(work.task.id, work.task.topic, reason, attempts))
