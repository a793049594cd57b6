"""Scrub a run on a cluster: a prompt and its responses together, as the local engine does.

Reads   parts of prompts and responses
Writes  the same records, scrubbed, in the same order, as parts of another generation of both

Responses are brought to their prompts, where they stand in the order of their own parts; so each placeholder has the
number that the local engine gives it. Only texts that change travel back to the places where they came from.

What this process holds: 40 bytes a response, 20 a prompt.
"""

from __future__ import annotations

import functools
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from prefkit.cluster.blocks import PromptBlock, parts_of, prompt_blocks, read_prompts, read_responses
from prefkit.cluster.by_prompt import FOLDER, ByPrompt, Keys, keys_of, numbered, ordered_by_prompt
from prefkit.cluster.cluster import Cluster, Progress, Shared
from prefkit.cluster.gathering import Counts, added, gathered
from prefkit.cluster.strangers import strangers, with_strangers
from prefkit.parts import Block, Parts, generations, set_generations
from prefkit.prompts.cleaning import Scrubbing, ScrubReport, note_scrubbed, nothing_to_scrub, with_scrubbed
from prefkit.prompts.scrubbing import Scrubber
from prefkit.records import Prompt
from prefkit.run import Run
from prefkit.store import Store

Ints = npt.NDArray[np.int64]
PROMPTS_AT_ONCE = 1 << 12
"""Prompts in a block: what is scrubbed again when a worker dies."""
CHANGES = f"{FOLDER}/scrubbed"
RESPONSES_AT_ONCE = 1 << 15
"""Responses in a part that is written."""


def scrub_on_cluster(
    run: Run, store: Store, cluster: Cluster, *, dry_run: bool = False, progress: Progress = lambda more: None
) -> ScrubReport:
    """Replace identifying text in all prompts and responses that were not scrubbed before; see ``scrub_run``.

    Args:
        run: what the stage is noted in.
        store: where the records are.
        cluster: that works.
        dry_run: change nothing. Only then does the report have examples.
        progress: told how many more texts were looked at.

    Raises:
        RunError: the run is in use, or has no prompts; or its records do not stand in parts.
    """
    with run.writing("scrub"), ExitStack() as scratch:
        prompts, responses = (parts_of(store, kind) for kind in ("prompts", "responses"))
        if not prompts.names():
            raise nothing_to_scrub(run)
        keys = _prompts_of(cluster, responses)
        numbers = numbered(cluster, prompts)
        numbers = with_strangers(numbers, strangers(numbers, keys))
        by_prompt = scratch.enter_context(ordered_by_prompt(cluster, numbers, responses)) if len(keys) else None
        into = Parts(store, "prompts", prompts.generation + 1), Parts(store, "responses", responses.generation + 1)
        for parts in into:  # of one that was stopped
            store.remove(f"{parts.folder}/{name}" for name in parts.names())
        order = cluster.put(np.argsort(numbers.numbers[np.searchsorted(numbers.keys, keys)], kind="stable"))
        job = _Job(prompts, by_prompt.parts if by_prompt else None, order, None if dry_run else into[0])
        scratch.callback(lambda: store.remove(store.stamps(CHANGES)))
        found: list[_Found] = []
        for one in cluster.over(_blocks(prompts, by_prompt), functools.partial(_scrubbed, job)):
            progress(one.report.texts["prompts"] + one.report.texts["responses"])
            found.append(one)
        found.sort(key=lambda one: one.number)
        report = _report(found)
        if dry_run:
            return report
        places = _Places(responses, into[1], responses.blocks(RESPONSES_AT_ONCE))
        for _ in gathered([*range(len(found)), *places.blocks], places.spread, places.write) if len(keys) else ():
            pass
        counting = {"prompts": into[0].generation} | ({"responses": into[1].generation} if len(keys) else {})
        set_generations(store, (generations(store) or {}) | counting)
        for parts in into if len(keys) else into[:1]:
            store.remove(parts.earlier())
        note_scrubbed(run, Scrubber(), added(one.texts for one in found), added(one.placeholders for one in found))
    return report


def _prompts_of(cluster: Cluster, responses: Parts) -> Keys:
    """The digest of each response's prompt, [responses]."""
    blocks = responses.blocks(RESPONSES_AT_ONCE)
    found = dict(cluster.over(blocks, functools.partial(_prompts_in, responses)))
    return np.concatenate([np.empty(0, np.uint64), *(found[block.number] for block in blocks)])


def _prompts_in(responses: Parts, block: Block) -> tuple[int, Keys]:
    tables = responses.tables(block.part, block.first, block.count, ["prompt_id"])
    return block.number, keys_of(name for table in tables for name in table["prompt_id"].to_pylist())


@dataclass(frozen=True)
class _Block:
    """Prompts, or none of the run, and their responses.

    Args:
        block: both.
        place: how many responses stand before them, in the order of prompts.
        held: whether the prompts are the run's.
    """

    block: PromptBlock
    place: int
    held: bool


def _blocks(prompts: Parts, by_prompt: ByPrompt | None) -> Iterator[_Block]:
    place, end, number = 0, 0, 0
    for block in prompt_blocks(prompts, PROMPTS_AT_ONCE, by_prompt):
        yield _Block(block, place, held=True)
        place += sum(rows.count for rows in block.responses)
        end, number = block.first + block.prompts.count, block.number + 1
    for first in range(end, len(by_prompt.ends) if by_prompt else 0, PROMPTS_AT_ONCE):
        assert by_prompt
        count = min(PROMPTS_AT_ONCE, len(by_prompt.ends) - first)
        rows = tuple(by_prompt.rows(first, count))
        yield _Block(PromptBlock(number, first, Block(number, "", 0, count), rows), place, held=False)
        place, number = place + sum(row.count for row in rows), number + 1


@dataclass(frozen=True)
class _Job:
    """What all blocks share.

    Args:
        prompts: the run's.
        responses: in the order of their prompts.
        order: for each of these its place among the run's, [responses].
        into: where scrubbed prompts go; None for a dry run.
    """

    prompts: Parts
    responses: Parts | None
    order: Shared[Ints]
    into: Parts | None


@dataclass(frozen=True)
class _Found:
    """What a block came to."""

    number: int
    report: ScrubReport
    found: Counts[str]
    examples: Counts[tuple[str, str]]
    texts: Counts[str]
    placeholders: Counts[str]


@functools.cache
def _scrubber() -> Scrubber:
    """One for all blocks of a worker."""
    return Scrubber()


def _scrubbed(job: _Job, item: _Block) -> _Found:
    """Scrub a block; write its prompts, and the new texts of its responses beside them."""
    scrubbing = Scrubbing(_scrubber())
    found, examples = Counts(scrubbing.report.found), Counts(scrubbing.report.examples)
    texts, placeholders = Counts(scrubbing.texts), Counts(scrubbing.placeholders)
    prompts: list[Prompt] = []
    for at, prompt in enumerate(read_prompts(job.prompts, item.block) if item.held else ()):
        prompts.append(scrubbing.prompt(prompt))
        _met((found, examples, texts, placeholders), 0, item.block.first + at)
    changes: list[tuple[int, str]] = []
    for at, response in enumerate(read_responses(job.responses, item.block) if job.responses else ()):
        place = int(job.order.get()[item.place + at])
        new = scrubbing.response(response)
        _met((found, examples, texts, placeholders), 1, place)
        if new.text is not None and new.text != response.text:
            changes.append((place, new.text))
    number = item.block.number
    if job.into:
        job.into.write(job.into.name(number), prompts)
        job.into.store.write(f"{CHANGES}/{number:08d}", zlib.compress(msgspec.msgpack.encode(changes), 1))
        examples = Counts(Counter())  # for the eyes of whoever asks for a dry run
    return _Found(number, scrubbing.report, found, examples, texts, placeholders)


def _met(counts: Sequence[Counts[Any]], *place: int) -> None:
    for one in counts:
        one.met(*place)


def _report(found: Sequence[_Found]) -> ScrubReport:
    looked = Counter[str]()
    for one in found:
        looked.update(one.report.texts)
    return ScrubReport(looked, added(one.found for one in found), added(one.examples for one in found))


@dataclass(frozen=True)
class _Places:
    """Parts of responses as they are, and as they will be."""

    old: Parts
    new: Parts
    blocks: list[Block]

    def spread(self, item: int | Block) -> Iterator[tuple[int, list[tuple[int, str]]]]:
        """The changes that a block of prompts brought, by the block of responses that they belong to; each of these
        also comes by itself, without a change."""
        if isinstance(item, Block):
            yield item.number, []
            return
        content = zlib.decompress(self.new.store.read(f"{CHANGES}/{item:08d}") or b"")
        changes = msgspec.msgpack.decode(content, type=list[tuple[int, str]])
        starts = np.cumsum([0, *(block.count for block in self.blocks)])
        which = np.searchsorted(starts, [place for place, _ in changes], "right") - 1
        for number in np.unique(which).tolist():
            chosen = [changes[at] for at in np.flatnonzero(which == number).tolist()]
            yield number, [(place - int(starts[number]), text) for place, text in chosen]

    def write(self, number: int, pieces: list[list[tuple[int, str]]]) -> int:
        """Write a block again with its changes; how many records."""
        block = self.blocks[number]
        texts = dict(change for piece in pieces for change in piece)
        records = [
            with_scrubbed(response, texts.get(at))
            for at, response in enumerate(self.old.read(block.part, block.first, block.count))
        ]
        return self.new.write(self.new.name(number), records)
