"""A worker that asks: an event loop, open models and an engine, for one block of prompts after the other.

Reads   a block's prompts and responses; which records the run holds
Writes  a part of responses or judgements for the block

What the worker knows of an endpoint, such as how many calls at a time make it faster, outlives a block.
"""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from prefkit.cluster.blocks import PromptBlock
from prefkit.cluster.cluster import Shared
from prefkit.cluster.held import HeldKeys
from prefkit.cluster.ledger import EVERYTHING, LOOK, Allowance, Amount, SharedLedger, added
from prefkit.cluster.questions import AskedAbout
from prefkit.generating.stage import GenerateQuestions
from prefkit.judging.stage import JudgeQuestions
from prefkit.models.asking import loop_factory, settled_memory
from prefkit.models.budget import Budget, at_most
from prefkit.models.chat import Model, Task
from prefkit.models.engine import Engine, Failure, Lane, Limits, Standing, Tally
from prefkit.models.entries import ModelEntry
from prefkit.models.held import Held
from prefkit.models.opening import opened
from prefkit.parts import KINDS, Parts
from prefkit.records import digest

OUT_OF_BUDGET = "budget"


@dataclass
class Done:
    """What a block came to; ``settled``: the ledger counts it."""

    number: int
    settled: bool = False
    failures: list[Failure] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    marked: Counter[str] = field(default_factory=Counter)


class Worker:
    """Asks blocks, with models that stay open.

    Args:
        asked: makes a block's questions.
        entries: the models, with what of their endpoints is this worker's share.
        limits: the same of the limits.
        parts: where the records go, from the number ``base`` on.
        held: which records the run holds.
        ledger, bounds: what is shared; what may be spent, if that is bounded.
    """

    def __init__(
        self,
        *,
        asked: AskedAbout,
        entries: Sequence[ModelEntry],
        limits: Limits,
        parts: Parts,
        base: int,
        held: Shared[HeldKeys],
        ledger: SharedLedger,
        bounds: Budget,
    ) -> None:
        self.asked = asked
        self.limits = limits
        self.parts = parts
        self.base = base
        self.held = held.get()
        self.ledger = ledger
        self.bounds = bounds
        self._runner = asyncio.Runner(loop_factory=loop_factory())
        self._opening = opened(entries, timeout=limits.timeout, concurrency=limits.concurrency)
        self._settled = settled_memory()
        self._settled.__enter__()
        self.name = uuid.uuid4().hex
        self.models = self._runner.run(self._opening.__aenter__())
        self.standing = {model.name: Standing.of(model, limits) for model in self.models}

    def __call__(self, block: PromptBlock) -> Done:
        """Ask what the run does not hold of a block, and put it in place."""
        with self.asked.opened(block) as found:
            if found.questions is None:
                return Done(block.number)
            return self._runner.run(_BlockAsking(self, block, found.questions).go())


class _BlockAsking:
    """A block that is asked: what came of it so far."""

    def __init__(self, worker: Worker, block: PromptBlock, questions: GenerateQuestions | JudgeQuestions) -> None:
        self._worker = worker
        self._block = block
        self._questions = questions
        self._failures: list[Failure] = []
        self._lines: list[bytes] = []
        self._order: dict[str, tuple[int, int]] = {}
        self._over = _OrOver(worker.held)
        self._tally = Tally()

    async def go(self) -> Done:
        """Ask, unless the answers are in place."""
        worker, questions = self._worker, self._questions
        stopped = await self._look(Tally())
        made_of = digest(dataclasses.asdict(self._block), [model.name for model in worker.models], questions.facts())
        name = worker.parts.name(worker.base + self._block.number, made_of)
        if worker.parts.there(name):
            self._count(worker.parts.read(name))
        else:
            try:
                await self._ask(stopped)
            finally:
                worker.parts.write(name, self._records())
        await worker.ledger.ask("settle", self._block.number, self._tally)
        notes = {
            model.name: sorted({note for endpoint in model.endpoints for note in endpoint.notes.values()})
            for model in worker.models
        }
        notes = {model: found for model, found in notes.items() if found}
        marked = questions.marked if isinstance(questions, GenerateQuestions) else Counter[str]()
        return Done(self._block.number, True, self._failures, notes, questions.facts(), marked)

    async def _ask(self, stopped: dict[str, str]) -> None:
        """Round by round, until nothing is left to ask or to spend."""
        worker = self._worker
        while True:
            allowance = await self._allowance(stopped) if worker.bounds.bounded else None
            if EVERYTHING in stopped:
                self._tally.stopped |= {model.name: stopped[EVERYTHING] for model in worker.models}
            self._tally.stopped |= {name: why for name, why in stopped.items() if name != EVERYTHING}
            models = [model for model in worker.models if model.name not in self._tally.stopped]
            if not models:
                return
            budget = allowance.budget(worker.bounds) if allowance else Budget()
            tally = await self._round(models, budget)
            if allowance is None:
                return
            await worker.ledger.ask("spend", self._block.number, Amount(budget.calls, budget.tokens, budget.cost))
            short = [model for model, reason in tally.stopped.items() if reason == OUT_OF_BUDGET]
            if not short or allowance.last:
                return
            for model in short:
                del self._tally.stopped[model]
            self._over.ids = {one.id for one in (*self._records(), *self._failures)}

    async def _round(self, models: Sequence[Model], budget: Budget) -> Tally:
        worker, before = self._worker, self._tally
        lanes = [
            Lane(model, self._in_order(place, model), worker.standing[model.name])
            for place, model in enumerate(worker.models)
            if model in models
        ]
        engine = Engine(lanes, self._lines.append, self._failed, worker.limits, budget)
        watching = asyncio.create_task(self._watch(engine, before))
        try:
            await engine.run()
        finally:
            watching.cancel()
            if self._over.ids:
                engine.tally.from_before = 0
            self._tally = added(before, engine.tally)
        return engine.tally

    def _in_order(self, place: int, model: Model) -> Iterator[Task | None]:
        """The tasks for a model; the order in which they came is that of the records."""
        for number, task in enumerate(self._questions.tasks(model, self._over)):
            if task is not None:
                self._order[task.id] = place, number
            yield task

    def _failed(self, failure: Failure) -> None:
        self._failures.append(failure)

    async def _watch(self, engine: Engine, before: Tally) -> None:
        while True:
            await asyncio.sleep(LOOK)
            for model, reason in (await self._look(added(before, engine.tally))).items():
                if model == EVERYTHING:
                    engine.stop(reason)
                else:
                    engine.give_up(model, reason)

    async def _look(self, tally: Tally) -> dict[str, str]:
        found: dict[str, str] = await self._worker.ledger.ask("look", self._block.number, self._worker.name, tally)
        return found

    async def _allowance(self, stopped: dict[str, str]) -> Allowance | None:
        """What may be spent on the rest of the block; None where nothing is left, or nothing is to be asked, and
        ``stopped`` says why."""
        wanted = Amount()
        for model in self._worker.models:
            if model.name not in stopped and EVERYTHING not in stopped:
                for task in self._questions.tasks(model, self._over):
                    if task is not None:
                        most = at_most(task.request(), model.price)
                        wanted += Amount(1, most.tokens, most.cost)
        while wanted.calls and EVERYTHING not in stopped:
            found = await self._worker.ledger.ask("draw", self._block.number, wanted)
            if isinstance(found, Allowance):
                return found
            if found is None:
                stopped |= {model.name: OUT_OF_BUDGET for model in self._worker.models}
                return None
            await asyncio.sleep(LOOK / 2)
            stopped |= await self._look(self._tally)
        return None

    def _records(self) -> list[Any]:
        decoder = msgspec.json.Decoder(KINDS[self._worker.parts.kind])
        return sorted(map(decoder.decode, self._lines), key=lambda one: self._order[one.id])

    def _count(self, records: Iterable[Any]) -> None:
        """Tally a block whose answers another worker put in place, and then died."""
        for one in records:
            self._tally.answered += 1
            if one.usage is not None:
                self._tally.calls += one.usage.calls
                self._tally.prompt_tokens += one.usage.prompt
                self._tally.cached_tokens += one.usage.cached
                self._tally.completion_tokens += one.usage.completion
                self._tally.cost += one.usage.cost or 0.0
        for model in self._worker.models:
            self._tally.from_before += sum(task is None for task in self._questions.tasks(model, self._over))


class _OrOver(Held):
    """What the run holds, or what this block is over with."""

    def __init__(self, held: Held) -> None:
        super().__init__()
        self._held = held
        self.ids: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self.ids or name in self._held

    def among(self, questions: Sequence[tuple[str, *tuple[object, ...]]]) -> list[bool]:
        """See ``Held``."""
        if not self.ids:
            return self._held.among(questions)
        there = self._held.among(questions)
        return [known or one[0] in self.ids for known, one in zip(there, questions, strict=True)]
