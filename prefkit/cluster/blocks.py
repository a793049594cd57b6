"""Blocks of prompts with their responses, for a worker that does with one what the local engine does with a run.

Reads   parts of prompts, and of responses in the order of their prompts
Gives   for each block a run folder of its own, on the worker's disk for as long as it is worked on

So the stages' own code reads a block: it cannot tell it from a small run. What needs all prompts (whether there is
anything to ask, who answers the 7,000th prompt, how many are asked about) is found before and handed to it.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from prefkit.cluster.by_prompt import ByPrompt, Rows
from prefkit.errors import RunError
from prefkit.parts import Block, Parts, generations
from prefkit.records import Prompt, Response
from prefkit.run import Run
from prefkit.store import Store


@dataclass(frozen=True)
class PromptBlock:
    """Some prompts, one behind the other, with their responses.

    Args:
        number: of the block, from 0.
        first: the number of its first prompt, among all of the run.
        prompts: where they stand.
        responses: where those of these prompts stand; () where they are not asked for.
    """

    number: int
    first: int
    prompts: Block
    responses: tuple[Rows, ...] = ()


def parts_of(store: Store, kind: str) -> Parts:
    """The parts of a kind of record that count.

    Raises:
        RunError: the run does not keep its records in parts.
    """
    counting = generations(store)
    if counting is None:
        remedy = f"Put them in parts first: prefkit convert {store.url} --to parquet"
        raise RunError(store.url, "records in JSONL", "records in parts, for --engine ray", remedy)
    return Parts(store, kind, counting.get(kind, 0))


def prompt_blocks(
    prompts: Parts, size: int, responses: ByPrompt | None = None, end: int | None = None
) -> list[PromptBlock]:
    """The prompts of a run in blocks.

    Args:
        prompts: all of them.
        size: prompts in a block, at most.
        responses: their responses, if these are wanted.
        end: the prompts from this number on are left out.
    """
    found: list[PromptBlock] = []
    first = 0
    for block in prompts.blocks(size):
        count = block.count if end is None else min(block.count, end - first)
        if count <= 0:
            break
        rows = tuple(responses.rows(first, count)) if responses else ()
        found.append(PromptBlock(len(found), first, replace(block, count=count), rows))
        first += block.count
    return found


def read_prompts(prompts: Parts, block: PromptBlock) -> list[Prompt]:
    """The prompts of a block."""
    return list(prompts.read(block.prompts.part, block.prompts.first, block.prompts.count))


def read_responses(responses: ByPrompt | Parts, block: PromptBlock) -> list[Response]:
    """The responses of a block, in the order of its prompts."""
    parts = responses.parts if isinstance(responses, ByPrompt) else responses
    return [one for rows in block.responses for one in parts.read(rows.part, rows.first, rows.count)]


@contextlib.contextmanager
def small_run(info: bytes, prompts: Iterable[Prompt], responses: Iterable[Response]) -> Iterator[Run]:
    """A run folder that holds these records, for as long as the block lasts.

    Args:
        info: what ``run.json`` of the whole run holds.
        prompts, responses: the records.
    """
    with tempfile.TemporaryDirectory(prefix="prefkit-block-") as folder:
        (Path(folder) / "run.json").write_bytes(info)
        for name, records in (("prompts", prompts), ("responses", responses)):
            (Path(folder) / f"{name}.jsonl").write_bytes(b"".join(map(_line, records)))
        yield Run(folder)


def _line(record: Any) -> bytes:
    return msgspec.json.encode(record) + b"\n"
