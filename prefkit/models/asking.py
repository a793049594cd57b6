"""The part that generating and judging share: from a run and its questions to records in the run's file.

Reads   the file of the records that are made, for what is answered already and what it cost
Writes  the same file, a line as each answer comes; failures/STAGE.jsonl, what got no answer in the last round and why

There is no other state: the id of a record is known before its question is asked, so a round that is started again
asks what the file does not hold. What was in flight when a process was killed is asked again, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import msgspec

from prefkit.durable import Appender, explained_disk_errors, mend_last_line
from prefkit.errors import RunError
from prefkit.interrupts import interrupts
from prefkit.models.budget import Budget
from prefkit.models.catalogue import Catalogue
from prefkit.models.chat import Model, Task
from prefkit.models.engine import Engine, Failure, Lane, Limits, Tally
from prefkit.models.entries import ModelEntry
from prefkit.models.held import Held
from prefkit.models.opening import opened
from prefkit.run import Run

TICK = 0.25
"""Seconds between two looks at the tally."""
FAILURES = "failures"
PAID = ("responses.jsonl", "judgements.jsonl", "audit/injections.jsonl")
"""The files of a run whose records say what they took."""


class Round(Protocol):
    """What is said of a round of asking before and behind it."""

    stage: str
    file: str
    """Where its records go: ``judgements.jsonl``."""
    noun: str
    """What its records are called: ``judgements``."""
    unscrubbed: int
    """How many of the texts that are sent were not scrubbed."""

    @property
    def title(self) -> str:
        """What ``run.json`` calls such a round: ``judge rate``."""
        ...

    def facts(self) -> dict[str, Any]:
        """The settings, for ``run.json``."""
        ...


class Questions(Round, Protocol):
    """What a stage asks of each of its models."""

    def total(self, model: Model) -> int:
        """How many tasks there are for a model, those done before included."""
        ...

    def tasks(self, model: Model, held: Held) -> Iterator[Task | None]:
        """The tasks for a model; None for one whose record the run holds."""
        ...


@dataclass(frozen=True, kw_only=True)
class Batching:
    """That the vendor's batch protocol is used: whether to wait for the answers, how many questions a batch has."""

    wait: bool = True
    rows: int = 50_000


@dataclass(frozen=True, kw_only=True)
class AskSettings:
    """How it is asked; bounds are for the run folder as a whole, what earlier commands used included."""

    models: tuple[str, ...]
    limits: Limits = field(default_factory=Limits)
    max_calls: int | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    allow_unscrubbed: bool = False
    batch: Batching | None = None


@dataclass
class AskReport:
    """How a round went."""

    tally: Tally
    total: int
    failures: list[Failure] = field(default_factory=list)
    """The first of them; all are in ``failures/STAGE.jsonl``."""
    notes: dict[str, list[str]] = field(default_factory=dict)
    """Model -> what its endpoints did not take."""

    @property
    def missing(self) -> int:
        """How many tasks have no record yet."""
        return self.total - self.tally.from_before - self.tally.answered


Watch = Callable[[Tally, int], None]


def ask_run(run: Run, questions: Questions, settings: AskSettings, watch: Watch) -> AskReport:
    """Ask what the run does not hold yet, and append each answer to it.

    Args:
        run: the run.
        questions: what is asked.
        settings: of whom, and how.
        watch: called a few times a second with the tally and the total.

    Raises:
        PrefkitError: a model cannot be reached at all, texts are not scrubbed, or an answer could not be written.
    """
    entries = known_models(run, settings.models)
    refuse_unscrubbed(run, questions, entries, settings)
    with run.writing(questions.stage):
        path = ready_file(run, questions)
        held = Held.of(path)
        budget = budget_of(run, questions, held, entries, settings)
        with Failures(run, questions.stage) as failures, Appender(path) as file:
            round_ = _Round(entries, questions, held, settings, budget, file, failures, watch)
            report = _in_event_loop(round_)
        report.failures = failures.first
        record_round(run, questions, entries)
    return report


def ready_file(run: Run, questions: Questions) -> Path:
    """The file that takes the records, without a torn last line; its folder is there."""
    path = run.path / questions.file
    with explained_disk_errors(path):
        path.parent.mkdir(exist_ok=True)
    mend_last_line(path)
    return path


def known_models(run: Run, names: Sequence[str]) -> list[ModelEntry]:
    """The entries of models by name.

    Raises:
        PrefkitError: a name is not known, or stands twice.
    """
    catalogue = Catalogue.load(run.path)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise RunError("models", f"{twice[0]} twice", "each model once", "Leave one of them out.")
    return [catalogue.entry(name) for name in names]


def refuse_unscrubbed(run: Run, questions: Round, entries: Sequence[ModelEntry], settings: AskSettings) -> None:
    """Let no text that was not scrubbed leave this machine or its private network.

    Raises:
        RunError: it would.
    """
    away = [entry.name for entry in entries if not entry.local]
    if questions.unscrubbed and away and not settings.allow_unscrubbed:
        found = f"{questions.unscrubbed:,} texts that were not scrubbed, for {away[0]}, which is not on this machine"
        remedy = f"Run `prefkit scrub {run.path}` first, or say --allow-unscrubbed if nobody can be named in them."
        raise RunError(run.path, found, "scrubbed texts", remedy)


def budget_of(
    run: Run, questions: Questions, held: Held, entries: Sequence[ModelEntry], settings: AskSettings
) -> Budget:
    """What the run may spend, with what its records say was spent.

    Raises:
        RunError: money is bounded, and a model has no price.
    """
    budget = bounds_of(entries, settings)
    if budget.bounded:
        others = [run.path / file for file in PAID if file != questions.file and (run.path / file).exists()]
        for usage in (held.usage, *(Held.of(path).usage for path in others)):
            budget.count(usage)
    return budget


def bounds_of(entries: Sequence[ModelEntry], settings: AskSettings) -> Budget:
    """What a run may spend, and nothing spent yet.

    Raises:
        RunError: money is bounded, and a model has no price.
    """
    if settings.max_cost is not None:
        for entry in entries:
            if entry.price is None:
                remedy = "Give it a price in models.yaml (`prefkit models init` writes one to fill in)."
                raise RunError("--max-cost", f"no price for {entry.name}", "a price for every model", remedy)
    return Budget(settings.max_calls, settings.max_tokens, settings.max_cost)


class Failures:
    """``failures/STAGE.jsonl``: written as they come; absent when there are none."""

    def __init__(self, run: Run, stage: str) -> None:
        self.first: list[Failure] = []
        self._run = run
        self._path = run.path / FAILURES / f"{stage}.jsonl"
        self._stack = contextlib.ExitStack()
        self._file: Appender | None = None

    def __enter__(self) -> Self:
        self._run.remove(f"{FAILURES}/{self._path.name}")
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def add(self, failure: Failure) -> None:
        """Write a failure, and keep it if it is among the first."""
        if self._file is None:
            with explained_disk_errors(self._path):
                self._path.parent.mkdir(exist_ok=True)
            self._file = self._stack.enter_context(Appender(self._path))
        if len(self.first) < 5:
            self.first.append(failure)
        self._file.append(msgspec.json.encode(failure) + b"\n")


@dataclass
class _Round:
    entries: Sequence[ModelEntry]
    questions: Questions
    held: Held
    settings: AskSettings
    budget: Budget
    file: Appender
    failures: Failures
    watch: Watch

    async def go(self) -> AskReport:
        limits = self.settings.limits
        async with opened(self.entries, timeout=limits.timeout, concurrency=limits.concurrency) as models:
            lanes = [Lane(model, self.questions.tasks(model, self.held)) for model in models]
            total = sum(self.questions.total(model) for model in models)
            engine = Engine(lanes, self.file.append, self.failures.add, limits, self.budget)
            watching = asyncio.create_task(self._look(engine.tally, total))
            try:
                with interrupts(_presses(engine)):
                    tally = await engine.run()
            finally:
                watching.cancel()
                self.watch(engine.tally, total)
            notes = {
                model.name: sorted({note for endpoint in model.endpoints for note in endpoint.notes.values()})
                for model in models
            }
        return AskReport(tally, total, notes={name: found for name, found in notes.items() if found})

    async def _look(self, tally: Tally, total: int) -> None:
        loop, ticks = asyncio.get_running_loop(), 0
        while True:
            await asyncio.sleep(TICK)
            self.watch(tally, total)
            ticks += 1
            if ticks % 8 == 0:
                await loop.run_in_executor(None, self.file.sync)


def _presses(engine: Engine) -> Callable[[], None]:
    """Ctrl-C once: nothing more is sent, what is in flight is waited for. Twice: that is left, too."""
    pressed = 0

    def press() -> None:
        nonlocal pressed
        pressed += 1
        engine.stop("stopped") if pressed == 1 else engine.abandon()

    return press


def _in_event_loop(round_: _Round) -> AskReport:
    with asyncio.Runner(loop_factory=loop_factory()) as runner, settled_memory():
        return runner.run(round_.go())


@contextlib.contextmanager
def settled_memory() -> Iterator[None]:
    """Let the garbage collector look less often, and not at what was there before: calls leave next to no cycles."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """uvloop's where there is one; it is not made for Windows."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def record_round(run: Run, questions: Round, entries: Sequence[ModelEntry]) -> None:
    """Note a round in ``run.json``, for each model."""
    facts = questions.facts()
    for entry in entries:
        run.record_stage(f"{questions.title}: {entry.name}", **facts, model=entry.facts())
