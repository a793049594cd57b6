"""Near-duplicates among more prompts than one memory holds, and the screen that leaves them out.

Reads   parts of prompts
Writes  the same prompts, marked, as parts of another generation

Which texts are compared depends only on which of them share a bucket, and on their order. So the buckets of all texts
go through Ray's sort, and whoever has a bucket proposes the pairs that ``prefkit.near_duplicates`` would. Of these, the
ones whose sketches are far apart are dropped. The rest hang together in chains, mostly short; lots of whole chains come
together with their words, and there the pairs are confirmed, in the order of the local engine. The groups are its
groups, unless a sketch misleads: one pair in 1e12.

What this process holds of all texts: 73 bytes each, and 24 for each pair that is left. A worker holds a block of
prompts, a part of the buckets with the sketches of all texts (64 bytes each, shared by the workers of a machine), or a
lot. A chain is never divided: if a million texts hang together, they come to one worker.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt

from prefkit.cluster.blocks import PromptBlock, parts_of, prompt_blocks, read_prompts
from prefkit.cluster.cluster import Cluster, Progress, Shared
from prefkit.cluster.gathering import gathered
from prefkit.near_duplicates import (
    SIGNATURE_SLOTS,
    bucket_keys,
    confirmed,
    digests,
    first_equal,
    first_of_component,
    may_be_alike,
    n_bands,
    proposed,
    sketches,
)
from prefkit.parts import Parts, generations, set_generations
from prefkit.prompts.cleaning import ScreenReport, client_words, marked, nothing_to_screen
from prefkit.prompts.screening import ScreenSettings, Verdict, duplicates, screened_alone
from prefkit.run import Run
from prefkit.store import Store

R = TypeVar("R")
Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]
PROMPTS_AT_ONCE = 1 << 13
"""Prompts in a block: what a worker reads at a time."""
KEYS_AT_ONCE = 1 << 22
"""Buckets of texts that a worker sorts at a time, about."""
TEXTS_AT_ONCE = 1 << 15
"""Texts in a lot, about."""
EQUAL = -1
"""The stage of a pair of texts of the same words; others are the band, twice, of all seeds', and which of the two
proposals of the band it is of."""


@dataclass(frozen=True)
class Texts:
    """Some of the texts among which near-duplicates are looked for; ``numbers`` [n] ascend."""

    numbers: Ints
    ids: list[str]
    texts: list[str]

    def __getitem__(self, places: Ints) -> Texts:
        chosen = places.tolist()
        return Texts(self.numbers[places], [self.ids[at] for at in chosen], [self.texts[at] for at in chosen])


Read = Callable[[PromptBlock], Texts]
"""Gives the texts of a block that count."""


def over_alike(
    cluster: Cluster,
    blocks: Sequence[PromptBlock],
    read: Read,
    total: int,
    work: Callable[[Texts, list[Ints]], R],
    *,
    threshold: float,
    seeds: Sequence[int] = (0,),
) -> Iterator[R]:
    """The results of some work on lots of texts, such that all near-duplicates of a text are in its lot.

    Args:
        cluster: that works.
        blocks: what to read the texts from.
        read: see ``Read``; the texts' numbers are below ``total``, and ascend from block to block.
        total: how many numbers there are.
        work: on a lot, its texts in the order of their numbers, and for each seed the pairs of places in it that link
            near-duplicates. A text that is like no other one may be in no lot.
        threshold: see ``near_duplicate_groups``.
        seeds: with each of which near-duplicates are looked for.
    """
    equal, distinct, sketch = _facts(cluster, blocks, read, total, threshold)
    parts = 1 + total * n_bands(threshold) * len(seeds) // KEYS_AT_ONCE
    spread = functools.partial(_keys, read, cluster.put(distinct), parts, threshold, seeds)
    found = list(gathered(blocks, spread, functools.partial(_proposed, cluster.put(sketch), threshold)))
    lots = _lots(total, np.concatenate([equal, *found]))
    if len(lots.numbers):
        held = cluster.put(lots)
        gather = functools.partial(_worked, held, len(seeds), 2 * n_bands(threshold), threshold, work)
        yield from gathered(blocks, functools.partial(_divided, read, held), gather)


def _facts(
    cluster: Cluster, blocks: Sequence[PromptBlock], read: Read, total: int, threshold: float
) -> tuple[Ints, npt.NDArray[np.bool_], Keys]:
    """Pairs of texts of the same words, with the stage ``EQUAL`` [n, 3]; which texts are the first of their words
    [total]; their sketches [total, ...]."""
    there, digest = np.zeros(total, bool), np.zeros(total, np.uint64)
    sketch = np.zeros((total, SIGNATURE_SLOTS // 16), np.uint64)
    for numbers, words, some in cluster.over(blocks, functools.partial(_facts_of, read, threshold)):
        there[numbers], digest[numbers], sketch[numbers] = True, words, some
    numbers = np.flatnonzero(there)
    first = numbers[first_equal(digest[numbers])]
    repeats = first != numbers
    there[numbers[repeats]] = False
    equal = np.stack([first[repeats], numbers[repeats], np.full(int(repeats.sum()), EQUAL)], axis=1)
    return equal, there, sketch


def _facts_of(read: Read, threshold: float, item: PromptBlock) -> tuple[Ints, Keys, Keys]:
    found = read(item)
    return found.numbers, digests(found.texts), sketches(found.texts, threshold=threshold)


class _Keyed(NamedTuple):
    """Texts in buckets: [n] the stage of the band, the bucket, that of the next band, the text's number."""

    stage: Ints
    key: Keys
    next_key: Keys
    number: Ints


def _keys(
    read: Read,
    distinct: Shared[npt.NDArray[np.bool_]],
    parts: int,
    threshold: float,
    seeds: Sequence[int],
    item: PromptBlock,
) -> Iterator[tuple[int, _Keyed]]:
    """The buckets of a block's texts, in parts."""
    found = read(item)
    found = found[np.flatnonzero(distinct.get()[found.numbers])]
    keys = [bucket_keys(found.texts, threshold=threshold, seed=seed) for seed in seeds]
    key = np.hstack(keys)
    next_key = np.hstack([np.roll(some, -1, axis=1) for some in keys])
    stage = np.broadcast_to(2 * np.arange(key.shape[1]), key.shape)
    number = np.broadcast_to(found.numbers[:, None], key.shape)
    part = (key % np.uint64(parts)).astype(np.int64)
    for which in range(parts):
        here = part == which
        yield which, _Keyed(stage[here], key[here], next_key[here], number[here])


def _proposed(sketch: Shared[Keys], threshold: float, part: int, pieces: list[_Keyed]) -> Ints:
    """The pairs of texts that share a bucket and may be alike, with their stages; [n, 3]"""
    keyed = _Keyed(*(np.concatenate(columns) for columns in zip(*pieces, strict=True)))
    found = [np.empty((0, 3), np.int64)]
    for stage in np.unique(keyed.stage).tolist():
        rows = np.flatnonzero(keyed.stage == stage)
        rows = rows[np.argsort(keyed.number[rows])]
        for kind, pairs in enumerate(proposed(keyed.key[rows], keyed.next_key[rows])):
            numbers = keyed.number[rows][pairs]
            near = may_be_alike(sketch.get()[numbers[:, 0]], sketch.get()[numbers[:, 1]], threshold)
            found.append(np.insert(numbers[near], 2, stage + kind, axis=1))
    return np.unique(np.concatenate(found), axis=0)


@dataclass(frozen=True)
class _Lots:
    """Which texts go to which lot: ``numbers`` [n] ascend; ``pairs`` [m, 3] are what was proposed, with stages, and
    ``ends`` where those of each lot end."""

    numbers: Ints
    lot: Ints
    pairs: Ints
    ends: Ints


def _lots(total: int, pairs: Ints) -> _Lots:
    """Lots of whole chains, of about ``TEXTS_AT_ONCE`` texts each; texts alone are in none."""
    first = first_of_component(pairs[:, :2], total)
    several = np.bincount(first, minlength=total) > 1
    numbers = np.flatnonzero(several[first])
    _, chain, sizes = np.unique(first[numbers], return_inverse=True, return_counts=True)
    lot = (np.cumsum(sizes) - sizes)[chain] // TEXTS_AT_ONCE
    of_pair = lot[np.searchsorted(numbers, pairs[:, 0])]
    order = np.argsort(of_pair, kind="stable")
    return _Lots(
        numbers, lot, pairs[order], np.searchsorted(of_pair[order], np.arange(lot.max(initial=-1) + 1), "right")
    )


def _divided(read: Read, lots: Shared[_Lots], item: PromptBlock) -> Iterator[tuple[int, Texts]]:
    """The texts of a block that are in a lot."""
    found, into = read(item), lots.get()
    if not len(found.numbers):
        return
    place = np.minimum(np.searchsorted(into.numbers, found.numbers), len(into.numbers) - 1)
    held = np.flatnonzero(into.numbers[place] == found.numbers)
    lot = into.lot[place[held]]
    for which in np.unique(lot).tolist():
        yield which, found[held[lot == which]]


def _worked(
    lots: Shared[_Lots],
    seeds: int,
    stages: int,
    threshold: float,
    work: Callable[[Texts, list[Ints]], R],
    lot: int,
    pieces: list[Texts],
) -> R:
    """Confirm the pairs of a lot, for each seed, and work on it."""
    texts, ends = _together(pieces), lots.get().ends
    pairs = lots.get().pairs[ends[lot - 1] if lot else 0 : ends[lot]]
    places = np.searchsorted(texts.numbers, pairs[:, :2])
    equal = places[pairs[:, 2] == EQUAL]
    distinct = np.setdiff1d(np.arange(len(texts.numbers)), equal[:, 1])
    words = texts[distinct].texts
    found = []
    for seed in range(seeds):
        of_seed = [pairs[:, 2] == seed * stages + stage for stage in range(stages)]
        proposals = (np.searchsorted(distinct, places[rows]) for rows in of_seed)
        found.append(np.concatenate([equal, distinct[confirmed(words, proposals, threshold)]]))
    return work(texts, found)


def _together(pieces: Sequence[Texts]) -> Texts:
    numbers = np.concatenate([piece.numbers for piece in pieces])
    ids = [name for piece in pieces for name in piece.ids]
    texts = [text for piece in pieces for text in piece.texts]
    return Texts(numbers, ids, texts)[np.argsort(numbers, kind="stable")]


# --- the screen ------------------------------------------------------------------------------------------------------


def screen_on_cluster(
    run: Run, store: Store, settings: ScreenSettings, cluster: Cluster, progress: Progress = lambda more: None
) -> ScreenReport:
    """Mark the run's prompts anew, as ``screen_run`` does.

    Args:
        run: what the stage is noted in.
        store: where the prompts are.
        settings: what to ask for.
        cluster: that works.
        progress: told how many more blocks are done, of which there are two for each block of prompts.

    Raises:
        RunError: the run is in use, or has no prompts.
        PrefkitError: the tokenizer cannot be loaded.
    """
    with run.writing("screen"):
        prompts = parts_of(store, "prompts")
        blocks = prompt_blocks(prompts, PROMPTS_AT_ONCE)
        if not blocks:
            raise nothing_to_screen(run)
        into = Parts(store, "prompts", prompts.generation + 1)
        store.remove(f"{into.folder}/{name}" for name in into.names())  # of a screen that was stopped
        verdicts = dict(cluster.over(blocks, functools.partial(_alone, prompts, settings), progress=progress))
        reasons = _duplicates(cluster, blocks, prompts, verdicts, settings)
        items = [
            _Marking(item, verdicts.pop(item.first)[0], reasons.within(item.first, item.prompts.count))
            for item in blocks
        ]
        report = ScreenReport()
        done = dict(cluster.over(items, functools.partial(_marked, prompts, into), progress=progress))
        for number in sorted(done):
            report.add(done[number])
        set_generations(store, (generations(store) or {}) | {"prompts": into.generation})
        store.remove(into.earlier())
        report.note(run, settings)
    return report


def _alone(prompts: Parts, settings: ScreenSettings, item: PromptBlock) -> tuple[int, tuple[bytes, bytes]]:
    """The verdicts on a block as if there were no other, and which prompts are left by then."""
    verdicts = screened_alone(list(map(client_words, read_prompts(prompts, item))), settings)
    left = np.asarray([verdict.excluded is None for verdict in verdicts], dtype=bool)
    return item.first, (zlib.compress(msgspec.msgpack.encode(verdicts), 1), np.packbits(left).tobytes())


@dataclass(frozen=True)
class _Reasons:
    """Why prompts fall to duplicates: ``numbers`` [n] of prompts ascend."""

    numbers: Ints
    reasons: list[str]

    def within(self, start: int, count: int) -> dict[int, str]:
        """The reasons of a block, by place in it."""
        first, end = np.searchsorted(self.numbers, [start, start + count]).tolist()
        return {int(self.numbers[at]) - start: self.reasons[at] for at in range(first, end)}


def _duplicates(
    cluster: Cluster,
    blocks: Sequence[PromptBlock],
    prompts: Parts,
    verdicts: dict[int, tuple[bytes, bytes]],
    settings: ScreenSettings,
) -> _Reasons:
    if settings.near_duplicates is None:
        return _Reasons(np.empty(0, np.int64), [])
    masks = [
        np.unpackbits(np.frombuffer(verdicts[item.first][1], np.uint8), count=item.prompts.count) for item in blocks
    ]
    read = functools.partial(left, prompts, cluster.put(np.concatenate(masks).astype(bool)))
    total = sum(item.prompts.count for item in blocks)
    found = list(over_alike(cluster, blocks, read, total, fallen, threshold=settings.near_duplicates))
    numbers = np.concatenate([np.empty(0, np.int64), *(some for some, _ in found)])
    reasons = [reason for _, some in found for reason in some]
    order = np.argsort(numbers)
    return _Reasons(numbers[order], [reasons[at] for at in order.tolist()])


def left(prompts: Parts, wanted: Shared[npt.NDArray[np.bool_]], item: PromptBlock) -> Texts:
    """The prompts of a block that nothing speaks against."""
    here = wanted.get()[item.first : item.first + item.prompts.count]
    found = list(compress(read_prompts(prompts, item), here.tolist()))
    return Texts(item.first + np.flatnonzero(here), [prompt.id for prompt in found], list(map(client_words, found)))


def fallen(lot: Texts, pairs: list[Ints]) -> tuple[Ints, list[str]]:
    """Which prompts of a lot fall to an earlier one, and why."""
    reasons = duplicates(lot.ids, lot.texts, first_of_component(pairs[0], len(lot.texts)))
    fallen = [at for at, reason in enumerate(reasons) if reason]
    return lot.numbers[fallen], [reason for reason in reasons if reason]


@dataclass(frozen=True)
class _Marking:
    """A block to mark: its verdicts, and by place in it why a prompt falls to a duplicate."""

    block: PromptBlock
    verdicts: bytes
    reasons: dict[int, str]


def _marked(prompts: Parts, into: Parts, item: _Marking) -> tuple[int, ScreenReport]:
    verdicts = msgspec.msgpack.decode(zlib.decompress(item.verdicts), type=list[Verdict])
    for place, reason in item.reasons.items():
        verdicts[place] = Verdict(reason, verdicts[place].marks)
    report = ScreenReport()
    for verdict in verdicts:
        report.count(verdict)
    into.write(into.name(item.block.number), list(map(marked, read_prompts(prompts, item.block), verdicts)))
    return item.block.number, report
