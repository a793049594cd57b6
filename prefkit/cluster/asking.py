"""Policies answer and judges judge on a cluster: the local engine in each worker, on blocks of prompts.

Reads   the parts of prompts and responses, and which answers are there
Writes  a part of responses or judgements for each block, when all of the block is asked

A worker is an actor of Ray with an event loop, open connections and an engine of its own. It makes the questions of a
block as the local engine makes those of a run, and with the same ids; asks what the run does not hold; and puts the
answers in place as one part, whose name is that of the block. A block whose worker died is asked again as a whole,
unless its part is in place: so a death costs the calls of one block. The calls at a time that an endpoint is allowed
are divided among the workers, each of which still gives way to an endpoint that is crowded; budget, time limit and
reasons to stop are shared (``ledger``).
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from prefkit.cluster.blocks import parts_of, prompt_blocks
from prefkit.cluster.by_prompt import ByPrompt, numbered, ordered_by_prompt
from prefkit.cluster.cluster import Cluster
from prefkit.cluster.held import HeldKeys, held_in
from prefkit.cluster.ledger import SharedLedger
from prefkit.cluster.questions import Generating, Judging, Survey, survey
from prefkit.cluster.worker import Done, Worker
from prefkit.errors import RunError
from prefkit.generating.settings import GenerateSettings
from prefkit.judging.settings import JudgeSettings
from prefkit.models.asking import (
    PAID,
    AskReport,
    AskSettings,
    Failures,
    Watch,
    bounds_of,
    known_models,
    record_round,
    refuse_unscrubbed,
)
from prefkit.models.budget import Budget
from prefkit.models.chat import Model
from prefkit.models.engine import Limits, Tally
from prefkit.models.entries import ModelEntry
from prefkit.models.held import Held
from prefkit.parts import KINDS, Parts
from prefkit.run import Run
from prefkit.store import Store

SURVEYED = 4096
"""Prompts that are looked at together before anything is asked."""
QUESTIONS = 256
"""Questions to each model in a block, about: what is asked again when a worker dies."""
ROUNDS = 4
"""A block has so many times the calls that a worker may have in flight at an endpoint, if that is more."""


@dataclass
class ClusterReport(AskReport):
    """How a round on a cluster went.

    Args:
        excluded, without_text: prompts and responses that were passed over.
        marked: marks of the answers that came.
    """

    excluded: int = 0
    without_text: int = 0
    marked: Counter[str] = field(default_factory=Counter)


def generate_on_cluster(
    run: Run,
    store: Store,
    policies: Sequence[str],
    settings: GenerateSettings,
    asking: AskSettings,
    cluster: Cluster,
    watch: Watch = lambda tally, total: None,
) -> ClusterReport:
    """Have policies answer the prompts of a run whose records stand in parts; see ``models.asking.ask_run``.

    Args:
        run: the run's folder here, for its rubric, its models and what is noted about the round.
        store: where its records are.
        policies, settings, asking: as for the local engine.
        cluster: that works.
        watch: called about once a second with the tally and the total.

    Raises:
        PrefkitError: as for the local engine; or the records do not stand in parts.
    """
    with run.writing("generate"):
        prompts = parts_of(store, "prompts")
        asked = Generating(msgspec.json.encode(run.info), prompts, tuple(policies), settings)
        return _Round(run, store, asked, asking, cluster, watch).go(prompts, None, settings.prompts)


def judge_on_cluster(
    run: Run,
    store: Store,
    settings: JudgeSettings,
    asking: AskSettings,
    cluster: Cluster,
    watch: Watch = lambda tally, total: None,
) -> ClusterReport:
    """Ask judges about a run whose records stand in parts; see ``generate_on_cluster``.

    Raises:
        PrefkitError: as for the local engine; or the records do not stand in parts.
    """
    if settings.nearest_examples is not None:
        found, expected = "--nearest-examples with --engine ray", "all of the rubric's examples, or --engine local"
        raise RunError("judge", found, expected, "Leave out --nearest-examples, or judge with --engine local.")
    with run.writing("judge"):
        prompts, responses = parts_of(store, "prompts"), parts_of(store, "responses")
        with ordered_by_prompt(cluster, numbered(cluster, prompts), responses) as by_prompt:
            asked = Judging(msgspec.json.encode(run.info), prompts, by_prompt.parts, settings)
            return _Round(run, store, asked, asking, cluster, watch).go(prompts, by_prompt, settings.prompts)


@dataclass
class _Noted:
    """What ``run.json`` says of the round: the facts of its blocks, put together."""

    stage: str
    file: str
    noun: str
    title: str
    unscrubbed: int
    settings: dict[str, Any]
    _facts: dict[str, Any] = field(default_factory=dict)

    def add(self, facts: dict[str, Any]) -> None:
        forms = self._facts.get("forms", {}) | facts.get("forms", {})
        self._facts = self._facts | facts
        if forms:
            self._facts["forms"] = dict(sorted(forms.items()))

    def facts(self) -> dict[str, Any]:
        return self._facts | {"settings": self._facts.get("settings", {}) | self.settings}


@dataclass
class _Round:
    run: Run
    store: Store
    asked: Generating | Judging
    asking: AskSettings
    cluster: Cluster
    watch: Watch

    def go(self, prompts: Parts, responses: ByPrompt | None, limit: int | None) -> ClusterReport:
        """Survey, ask, note."""
        entries = known_models(self.run, self.asking.models)
        _refuse(entries, self.asking)
        models = [entry.as_model() for entry in entries]
        surveys, end = self._surveyed(prompts, responses, models, limit)
        self.asked.check(self.run, surveys)
        noted = self._noted(surveys)
        refuse_unscrubbed(self.run, noted, entries, self.asking)
        parts = parts_of(self.store, self.asked.kind)
        held = held_in(self.cluster, parts)
        bounds = self._bounds(entries, held)
        workers, gpus = _workers(self.cluster, entries, self.asking.limits)
        limits = _share(self.asking.limits, workers)
        ledger = SharedLedger.started(bounds, self.asking.limits.time_limit)
        load = functools.partial(
            Worker,
            asked=self.asked,
            entries=[_share_of(entry, workers) for entry in entries],
            limits=limits,
            parts=parts,
            base=parts.next_number(),
            held=self.cluster.put(held),
            ledger=ledger,
            bounds=bounds,
        )
        blocks = prompt_blocks(prompts, _size(surveys, limits, models), responses, end)
        report = ClusterReport(
            Tally(),
            sum(sum(one.totals.values()) for one in surveys),
            excluded=sum(one.excluded for one in surveys),
            without_text=sum(one.without_text for one in surveys),
        )
        results = self.cluster.over_loaded(blocks, load, workers=workers, gpus=gpus)
        self._asked(results, ledger, report, noted)
        record_round(self.run, noted, entries)
        return report

    def _asked(
        self, results: Generator[Done, None, None], ledger: SharedLedger, report: ClusterReport, noted: _Noted
    ) -> None:
        """Take in what the blocks come to."""
        start, settled = time.monotonic(), 0
        with (
            Failures(self.run, self.asked.stage) as failures,
            ledger.stoppable(),
            ledger.watched(self.watch, report.total),
        ):
            for done in results:
                settled += done.settled
                for failure in done.failures:
                    failures.add(failure)
                for name, said in done.notes.items():
                    report.notes[name] = sorted({*report.notes.get(name, []), *said})
                report.marked.update(done.marked)
                noted.add(done.facts)
                if ledger.over(settled):
                    results.close()
                    break
        report.failures = failures.first
        report.tally = dataclasses.replace(ledger.tally(), seconds=time.monotonic() - start)

    def _surveyed(
        self, prompts: Parts, responses: ByPrompt | None, models: Sequence[Model], limit: int | None
    ) -> tuple[list[Survey], int | None]:
        """What there is to ask, and the number of the first prompt that is left out where only some are asked about."""
        look = functools.partial(survey, self.asked, models)
        blocks = prompt_blocks(prompts, SURVEYED, responses)
        surveys = sorted(self.cluster.over(blocks, look), key=lambda one: one.number)
        if limit is None:
            return surveys, None
        asked = np.flatnonzero(np.concatenate([np.zeros(0, bool), *(one.asked for one in surveys)]))
        if len(asked) <= limit:
            return surveys, None
        end = int(asked[limit - 1]) + 1
        kept = prompt_blocks(prompts, SURVEYED, responses, end)
        last, rest = len(kept) - 1, list[Survey]()
        cut = next(self.cluster.over(kept[last:], look))
        if isinstance(self.asked, Judging):  # then all responses are looked at, as the local engine does
            cut = dataclasses.replace(surveys[last], totals=cut.totals, asked=cut.asked)
            rest = [dataclasses.replace(one, totals={}, asked=one.asked[:0]) for one in surveys[last + 1 :]]
        return [*surveys[:last], cut, *rest], end

    def _noted(self, surveys: Sequence[Survey]) -> _Noted:
        title = "generate" if isinstance(self.asked, Generating) else f"judge {self.asked.settings.mode}"
        return _Noted(
            self.asked.stage,
            f"{self.asked.kind}.parquet",
            self.asked.noun,
            title,
            sum(one.unscrubbed for one in surveys),
            {"prompts": self.asked.settings.prompts},
        )

    def _bounds(self, entries: Sequence[ModelEntry], held: HeldKeys) -> Budget:
        bounds = bounds_of(entries, self.asking)
        if bounds.bounded:
            bounds.count(held.usage)
            for file in PAID:
                kind = file.removesuffix(".jsonl")
                if kind in KINDS and kind != self.asked.kind:
                    bounds.count(held_in(self.cluster, parts_of(self.store, kind)).usage)
                elif kind not in KINDS:
                    bounds.count(Held.of(self.run.path / file).usage)
        return bounds


def _refuse(entries: Sequence[ModelEntry], asking: AskSettings) -> None:
    if asking.batch is not None:
        found, remedy = "--batch with --engine ray", "Send batches with --engine local: the vendor does the work."
        raise RunError("--batch", found, "one of them", remedy)
    for entry in entries:
        if entry.record is not None:
            remedy = "Leave out `record` in models.yaml, or record with --engine local."
            raise RunError(entry.name, "a file that records its answers", "none with --engine ray", remedy)


def _workers(cluster: Cluster, entries: Sequence[ModelEntry], limits: Limits) -> tuple[int, int]:
    """How many workers there are, and the GPUs of each: never more workers than calls at a time that an endpoint
    takes."""
    if cluster.gpus and any(entry.kind == "local" for entry in entries):
        return cluster.gpus, 1
    fewest = min([limits.concurrency, *(entry.concurrency for entry in entries if entry.urls and entry.concurrency)])
    return max(1, min(cluster.cpus, fewest)), 0


def _share(limits: Limits, workers: int) -> Limits:
    """What each of the workers keeps to. The time limit is the ledger's."""
    return dataclasses.replace(limits, concurrency=max(1, limits.concurrency // workers), time_limit=None)


def _share_of(entry: ModelEntry, workers: int) -> ModelEntry:
    """A model as each of the workers may use it; what runs inside a worker is its own."""
    if not entry.urls or entry.concurrency is None:
        return entry
    return dataclasses.replace(entry, concurrency=max(1, entry.concurrency // workers))


def _size(surveys: Sequence[Survey], limits: Limits, models: Sequence[Model]) -> int:
    """How many prompts make a block of about so many questions to each model."""
    most = max(sum(one.totals.get(model.name, 0) for one in surveys) for model in models)
    prompts = sum(len(one.asked) for one in surveys)
    return max(1, max(QUESTIONS, ROUNDS * limits.concurrency) * prompts // max(most, 1))
