"""Judgements to preference pairs where there are more of them than one memory holds.

Reads   parts of prompts, responses, judgements of a run
Writes  pairs.parquet/DIGEST-00000-of-00012.parquet             the same rows as the local engine's, in its order
        dataset/train-00000-of-00012-DIGEST.parquet, README.md

Responses and judgements are brought together by prompt. A worker then does with a block of prompts what the local
engine does with a run: first it finds the pairs that nothing speaks against, and, when it is known which prompt is in
which split, it writes them. Between the two lies what needs all prompts: near-duplicates, the splits, which side is
shown first. Sums over annotators are made in the order in which the annotators came in the whole run. DIGEST is the
manifest: ``run.json`` names it last, and what it names counts.

What this process holds: some 60 bytes a prompt, 20 a pair. Scores in each annotator's standard deviations take sums
over all ratings in one order, and are for the local engine alone.
"""

from __future__ import annotations

import functools
import hashlib
import io
import pickle
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise

import msgspec
import numpy as np
import numpy.typing as npt

from prefkit import __version__
from prefkit.by_prompt import none_of
from prefkit.cluster.blocks import PromptBlock, parts_of, prompt_blocks, read_prompts, read_responses, small_run
from prefkit.cluster.by_prompt import FOLDER, ByPrompt, Keys, Numbers, Rows, keys_of, numbered, ordered_by_prompt
from prefkit.cluster.cluster import Cluster, Shared
from prefkit.cluster.duplicates import Texts, over_alike
from prefkit.columnar import Columnar
from prefkit.errors import RunError
from prefkit.pairs.build import NOT_THE_WIDEST, Stages, Undivided, note, nothing_left, random_half, silent, weighed
from prefkit.pairs.card import dataset_card
from prefkit.pairs.collect import Ints, JudgementReader, Whole, no_judgements, twice
from prefkit.pairs.dataset import write_pairs, write_split
from prefkit.pairs.evidence import gather
from prefkit.pairs.figures import Figures, together
from prefkit.pairs.filters import EXCLUDED
from prefkit.pairs.settings import PairReport, PairSettings
from prefkit.pairs.splits import SEEDS, SPLITS, TEST, split_alike
from prefkit.parts import PART_ROWS, Block, Parts
from prefkit.records import Judgement, Response, digest, prompt_text
from prefkit.run import Run
from prefkit.store import Store

PROMPTS_AT_ONCE = 1 << 12
"""Prompts that a worker takes at a time, with all that belongs to them."""
PAIRS, DATASET = "pairs.parquet", "dataset"
_STATE = f"{FOLDER}/pairs"
_NO_KEYS: Keys = np.empty(0, np.uint64)


def build_pairs_on_cluster(
    run: Run, store: Store, settings: PairSettings, cluster: Cluster, stages: Stages = silent
) -> PairReport:
    """Build the pairs and the dataset of a run anew, as ``build_pairs`` does.

    Args:
        run: what the stage is noted in.
        store: where the records are, and the pairs go.
        settings: which pairs.
        cluster: that works.
        stages: opens a progress bar.

    Raises:
        RunError: there is nothing to build pairs from, no pair is left, the run is in use, or z-scores are asked for.
        RecordError: two prompts or responses have the same id.
    """
    if settings.z_scores:
        found = "--engine ray, whose workers see some of the ratings each"
        remedy = "Leave out --engine ray, or measure in the rubric's units."
        raise RunError("--z-scores", found, "all ratings of an annotator in one place", remedy)
    with run.writing("build-pairs"):
        building = _Building(run, store, settings, cluster, stages)
        with ExitStack() as stack:
            stack.callback(building.clear)
            report = building.build(stack)
        note(run, settings, report)
    building.remove_earlier()
    return report


@dataclass(frozen=True)
class _Job:
    """What every worker needs to know."""

    store: Store
    info: bytes
    prompts: Parts
    responses: Parts
    judgements: Parts
    settings: PairSettings
    manifest: str


@dataclass(frozen=True)
class _Item:
    """A block of prompts, and where its judgements stand."""

    block: PromptBlock
    judgements: tuple[Rows, ...]

    @property
    def state(self) -> str:
        """Where its pairs wait until it is known which prompt is in which split."""
        return f"{_STATE}/{self.block.number:08d}"


@dataclass(frozen=True)
class _Piece:
    """What came of a block.

    Args:
        report: what was found and left out.
        unknown: digests of the ids of responses that are judged and not in it.
        prompts: [n] the numbers of those that have a pair, among all prompts.
        pairs: [n] how many each has.
        in_test: [n] how many of these stay where the prompt is in the test split.
    """

    item: _Item
    report: PairReport
    unknown: Keys
    prompts: Ints
    pairs: Ints
    in_test: Ints


@dataclass(frozen=True)
class _Writing:
    """The pairs of a block that are to be written: how many files there are, and which one this is."""

    item: _Item
    number: int
    of: int
    split: npt.NDArray[np.int8]
    chosen_first: npt.NDArray[np.bool_]


class _Building:
    def __init__(self, run: Run, store: Store, settings: PairSettings, cluster: Cluster, stages: Stages) -> None:
        self.run, self.store, self.settings, self.cluster, self.stages = run, store, settings, cluster, stages
        self.prompts, self.responses, self.judgements = (
            parts_of(store, kind) for kind in ("prompts", "responses", "judgements")
        )
        if not self.responses.names():
            raise none_of(run, Response)
        if not self.judgements.names():
            raise no_judgements(run)
        self.manifest = self._digest()

    def build(self, stack: ExitStack) -> PairReport:
        numbers = numbered(self.cluster, self.prompts)
        self._refuse_twice(numbers)
        bar = self.stages("Bringing records together by prompt", None, "buckets")
        responses = stack.enter_context(ordered_by_prompt(self.cluster, numbers, self.responses, bar))
        judgements = stack.enter_context(ordered_by_prompt(self.cluster, numbers, self.judgements, bar))
        job = _Job(
            self.store,
            (self.run.path / "run.json").read_bytes(),
            self.prompts,
            responses.parts,
            judgements.parts,
            self.settings,
            self.manifest,
        )
        report = PairReport(manifest=self.manifest)
        pieces = self._pieces(job, self._items(responses, judgements), numbers, judgements.strangers, report)
        for piece in pieces:
            report.add(piece.report)
        if responses.strangers:
            report.responses["responses to unknown prompts"] += responses.strangers
        report.dropped = _in_order(report.dropped)
        pieces = [piece for piece in pieces if len(piece.prompts)]
        if not pieces:
            raise nothing_left(self.run, report)
        self._write(job, pieces, report)
        return report

    def _digest(self) -> str:
        """One hash from rubric to dataset, see ``prefkit.pairs.dataset.manifest``; of records in parts."""
        rubric = self.run.rubric
        used = (rubric.aggregate, [principle.weight for principle in rubric.principles], rubric.gates)
        files = [
            f"{parts.folder}/{name}"
            for parts in (self.prompts, self.responses, self.judgements)
            for name in parts.names()
        ]
        found = dict(self.cluster.over(files, functools.partial(_file_digest, self.store)))
        parts = [found[name] for name in files]
        return digest("dataset", rubric.hash, used, parts, msgspec.to_builtins(self.settings), __version__)

    def _refuse_twice(self, numbers: Numbers) -> None:
        same = np.flatnonzero(numbers.keys[1:] == numbers.keys[:-1])
        if not len(same):
            return
        wanted = numbers.keys[same[0]]
        name = next(prompt.id for prompt in self.prompts.all() if keys_of([prompt.id])[0] == wanted)
        raise twice(name, self.prompts.folder)

    def _items(self, responses: ByPrompt, judgements: ByPrompt) -> list[_Item]:
        blocks = prompt_blocks(self.prompts, PROMPTS_AT_ONCE, responses)
        return [_Item(block, tuple(judgements.rows(block.first, block.prompts.count))) for block in blocks]

    def _pieces(
        self, job: _Job, items: Sequence[_Item], numbers: Numbers, strangers: int, report: PairReport
    ) -> list[_Piece]:
        """What comes of each block, in the order of the blocks.

        In which order the annotators came depends on which responses are known, and that is seen on the way. It is
        taken for granted that all are; where that turns out to matter, all is done again.
        """
        unknown = self._of_strangers(numbers, report) if strangers else _NO_KEYS
        annotators = self._annotators(unknown)
        while True:
            bar = self.stages("Finding pairs", len(items), "blocks")
            work = functools.partial(_weigh, job, self.cluster.put(annotators))
            pieces = sorted(self.cluster.over(items, work, progress=bar), key=lambda piece: piece.item.block.number)
            seen = np.unique(np.concatenate([unknown, *(piece.unknown for piece in pieces)]))
            if len(seen) == len(unknown):
                return pieces
            self._refuse_astray(numbers, seen)
            unknown, before = seen, annotators
            annotators = self._annotators(unknown)
            if [name for name in before if name in set(annotators)] == annotators:
                return pieces

    def _of_strangers(self, numbers: Numbers, report: PairReport) -> Keys:
        """Count the judgements on prompts that the run does not hold; give digests of the responses that they name."""
        blocks = self.judgements.blocks(PART_ROWS)
        work = functools.partial(_strangers, self._info(), self.judgements, self.cluster.put(numbers))
        found = sorted(self.cluster.over(blocks, work), key=lambda one: one[0])
        for _, counts, _ in found:
            report.judgements.update(counts)
        return np.unique(np.concatenate([_NO_KEYS, *(keys for _, _, keys in found)]))

    def _annotators(self, unknown: Keys) -> list[str]:
        """The annotators in the order of their first judgements that count."""
        blocks = self.judgements.blocks(PART_ROWS)
        work = functools.partial(_first_judgements, self._info(), self.judgements, self.cluster.put(unknown))
        first: dict[str, tuple[int, int]] = {}
        for number, places in self.cluster.over(blocks, work):
            for name, place in places.items():
                first[name] = min(first.get(name, (number, place)), (number, place))
        return sorted(first, key=first.__getitem__)

    def _refuse_astray(self, numbers: Numbers, unknown: Keys) -> None:
        """Stop where a judgement's response answers another prompt than the judgement says.

        Raises:
            RunError: it is so.
        """
        blocks = self.responses.blocks(PART_ROWS)
        work = functools.partial(_known, self.responses, self.cluster.put(numbers), self.cluster.put(unknown))
        for name in self.cluster.over(blocks, work):
            if name is not None:
                found = f"judgements of the response {name} under another prompt than it answers"
                remedy = "Import the judgements again, or leave out --engine ray."
                raise RunError(self.run.path, found, "the prompt of a judgement to be that of its response", remedy)

    def _info(self) -> bytes:
        return (self.run.path / "run.json").read_bytes()

    def _write(self, job: _Job, pieces: Sequence[_Piece], report: PairReport) -> None:
        prompts = np.concatenate([piece.prompts for piece in pieces])
        split, held_together = split_on_cluster(self.cluster, self.prompts, prompts, self.settings)
        items = list(_writings(pieces, split, self.settings.seed))
        if PAIRS in self.store.stamps(PAIRS):
            self.store.remove([PAIRS])  # a file, where a folder is to be
        bar = self.stages("Writing the dataset", len(items), "blocks")
        written = sorted(
            self.cluster.over(items, functools.partial(_written, job), progress=bar), key=lambda one: one[0]
        )
        for _, counted, _ in written:
            report.add(counted)
        report.kept, report.tied = _by_split(report.kept), _by_split(report.tied)
        figures = [found for part in range(len(SPLITS)) for *_, parts in written if (found := parts[part]) is not None]
        if not figures:
            return
        whole = together(figures)
        report.dataset = _by_split(whole.pairs)
        card = dataset_card(
            self.run, whole, prompts[held_together], self.settings, report, f"{{split}}-*-{self.manifest}.parquet"
        )
        self.store.write(f"{DATASET}/README.md", card.encode())

    def clear(self) -> None:
        """Remove what waited between the two halves."""
        self.store.remove(self.store.stamps(_STATE))

    def remove_earlier(self) -> None:
        """Remove what an earlier command wrote, now that ``run.json`` names another."""
        files = self.store.stamps(DATASET)
        has_dataset = any(self.manifest in name for name in files)
        self.store.remove(
            name
            for name in (*files, *self.store.stamps(PAIRS))
            if self.manifest not in name and not (has_dataset and name == f"{DATASET}/README.md")
        )


def split_on_cluster(
    cluster: Cluster, prompts: Parts, used: Ints, settings: PairSettings
) -> tuple[npt.NDArray[np.int8], Ints]:
    """The split of each prompt that has a pair, as ``split_prompts`` gives it.

    Args:
        cluster: that looks for near-duplicates.
        prompts: all of them.
        used: [n] the numbers of those that have a pair, ascending.
        settings: sizes, seed, near-duplicates.

    Raises:
        RunError: there are too few prompts for the sizes asked for.
    """
    blocks = prompt_blocks(prompts, PROMPTS_AT_ONCE)
    read = functools.partial(_used, prompts, cluster.put(used))
    found = over_alike(cluster, blocks, read, len(used), _alike, threshold=settings.near_duplicates, seeds=SEEDS)
    return split_alike(np.concatenate([np.empty((0, 2), np.int64), *found]), len(used), settings)


def _in_order(dropped: Counter[str]) -> Counter[str]:
    """Reasons in the order in which pairs are looked at, whichever block was told first."""
    return Counter(dict(sorted(dropped.items(), key=lambda item: _rank(item[0]))))


def _rank(reason: str) -> int:
    stages = ("too few votes", "tied comparison", "split vote", EXCLUDED, "gate: ", "", "beyond ", NOT_THE_WIDEST)
    return next((rank for rank, words in enumerate(stages) if words and reason.startswith(words)), stages.index(""))


def _by_split(counts: Counter[str]) -> Counter[str]:
    return Counter({name: counts[name] for name in SPLITS if counts[name]})


def _writings(pieces: Sequence[_Piece], split: npt.NDArray[np.int8], seed: int) -> Iterator[_Writing]:
    """The blocks to write, in order."""
    prompts = np.cumsum([0, *(len(piece.prompts) for piece in pieces)])
    splits = [split[start:end] for start, end in pairwise(prompts)]
    kept = [
        int(np.where(of_prompt == TEST, piece.in_test, piece.pairs).sum())
        for piece, of_prompt in zip(pieces, splits, strict=True)
    ]
    first = random_half(sum(kept), seed)
    ends = np.cumsum(kept)
    for number, (piece, of_prompt) in enumerate(zip(pieces, splits, strict=True)):
        yield _Writing(piece.item, number, len(pieces), of_prompt, first[ends[number] - kept[number] : ends[number]])


# --- what workers do -------------------------------------------------------------------------------------------------


def _file_digest(store: Store, name: str) -> tuple[str, str]:
    return name, hashlib.blake2b(store.read(name) or b"", digest_size=16).hexdigest()


def _weigh(job: _Job, annotators: Shared[list[str]], item: _Item) -> _Piece:
    """Find a block's pairs, and lay them by."""
    unknown: set[str] = set()
    report = PairReport()
    prompts, responses = read_prompts(job.prompts, item.block), read_responses(job.responses, item.block)
    with small_run(job.info, prompts, responses) as here:
        with open(here.path / "judgements.jsonl", "wb") as file:
            for rows in item.judgements:
                records = job.judgements.read(rows.part, rows.first, rows.count)
                file.writelines(msgspec.json.encode(judgement) + b"\n" for judgement in records)
        evidence = gather(here, job.settings, lambda total: _nothing, Whole(annotators.get(), unknown.add))
        found = weighed(evidence, job.settings, report, lambda total: _nothing)
        if len(found.at):
            job.store.write(item.state, zlib.compress(pickle.dumps(found, pickle.HIGHEST_PROTOCOL), 1))
    return _Piece(
        item,
        report,
        np.unique(keys_of(unknown)),
        item.block.first + found.prompts,
        np.bincount(found.place, minlength=len(found.prompts)),
        np.bincount(found.place[found.in_test], minlength=len(found.prompts)),
    )


def _nothing(done: int) -> None:
    pass


def _written(job: _Job, writing: _Writing) -> tuple[int, PairReport, list[Figures | None]]:
    """Write a block's pairs."""
    undivided: Undivided = pickle.loads(zlib.decompress(job.store.read(writing.item.state) or b""))
    report = PairReport()
    pairs = undivided.divided(writing.split, writing.chosen_first, np.empty((0, 2), np.int64), report)
    place = f"{writing.number:05d}-of-{writing.of:05d}"
    file = io.BytesIO()
    write_pairs(file, pairs)
    job.store.write(f"{PAIRS}/{job.manifest}-{place}.parquet", file.getvalue())
    figures: list[Figures | None] = []
    for part, name in enumerate(SPLITS):
        file = io.BytesIO()
        found = write_split(file, pairs, part, job.settings, _nothing, writing.item.block.first)
        if found is not None:
            job.store.write(f"{DATASET}/{name}-{place}-{job.manifest}.parquet", file.getvalue())
        figures.append(found)
    return writing.number, report, figures


def _used(prompts: Parts, used: Shared[Ints], item: PromptBlock) -> Texts:
    """The texts of the prompts that have a pair; their numbers are places among these."""
    first, end = np.searchsorted(used.get(), [item.first, item.first + item.prompts.count]).tolist()
    wanted = (used.get()[first:end] - item.first).tolist()
    records = read_prompts(prompts, item) if wanted else []
    chosen = [records[place] for place in wanted]
    texts = [prompt_text(prompt.messages) for prompt in chosen]
    return Texts(np.arange(first, end), [prompt.id for prompt in chosen], texts)


def _alike(lot: Texts, pairs: list[Ints]) -> Ints:
    return lot.numbers[np.sort(np.concatenate(pairs), axis=1)]


@dataclass(frozen=True)
class _AllBut:
    """Places of responses, as if all were known but some."""

    unknown: Keys

    def get(self, response: str, /) -> int | None:
        if not len(self.unknown):
            return 0
        key = keys_of([response])[0]
        place = min(int(np.searchsorted(self.unknown, key)), len(self.unknown) - 1)
        return None if self.unknown[place] == key else 0


@dataclass(frozen=True)
class _None:
    """No response is known."""

    def get(self, response: str, /) -> int | None:
        return None


def _first_judgements(
    info: bytes, judgements: Parts, unknown: Shared[Keys], block: Block
) -> tuple[int, dict[str, int]]:
    """The first judgement of each annotator that counts, in a block: its place there."""
    columnar = Columnar(Judgement)
    found: dict[str, int] = {}
    place = 0
    with small_run(info, (), ()) as here:
        reader = JudgementReader(here, _AllBut(unknown.get()))
        for table in judgements.tables(block.part, block.first, block.count):
            names = np.asarray(table["annotator"].to_pylist(), object)
            for name in sorted(set(names.tolist()) - found.keys()):
                for row in np.flatnonzero(names == name).tolist():
                    reader.take(next(columnar.records(table.slice(row, 1))))
                    if name in reader.annotators:
                        found[name] = place + row
                        break
            place += table.num_rows
    return block.number, found


def _strangers(
    info: bytes, judgements: Parts, numbers: Shared[Numbers], block: Block
) -> tuple[int, Counter[str], Keys]:
    """The judgements of a block on prompts that the run does not hold."""
    import pyarrow as pa

    columnar, unknown = Columnar(Judgement), set[str]()
    with small_run(info, (), ()) as here:
        reader = JudgementReader(here, _None(), unknown.add)
        for table in judgements.tables(block.part, block.first, block.count):
            without = pa.array(numbers.get().of(table["prompt_id"].to_pylist()) < 0)
            for judgement in columnar.records(table.filter(without)):
                reader.take(judgement)
    return block.number, reader.counts, np.unique(keys_of(unknown))


def _known(responses: Parts, numbers: Shared[Numbers], unknown: Shared[Keys], block: Block) -> str | None:
    """A response of a block that is said to be unknown, though its prompt is known."""
    for table in responses.tables(block.part, block.first, block.count, ["id", "prompt_id"]):
        names = table["id"].to_pylist()
        known = np.isin(keys_of(names), unknown.get()) & (numbers.get().of(table["prompt_id"].to_pylist()) >= 0)
        if known.any():
            return str(names[int(np.flatnonzero(known)[0])])
    return None
