"""Bytes of a run's files, as JSONL and as Parquet: measured on the records that are there.

Reads   prompts, responses, judgements; pairs.parquet and dataset/ where they were built
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from prefkit.columnar import Columnar
from prefkit.planning.asked import Asked
from prefkit.planning.lengths import BYTES_A_TOKEN
from prefkit.planning.ranges import Range
from prefkit.planning.responses import Responses
from prefkit.records import Judgement, Prompt, Response, Rewarded
from prefkit.run import STEMS, Run

SAMPLE = 5000
"""Records that are written as Parquet to see how many bytes they take."""


@dataclass(frozen=True)
class Artefact:
    """A file of the run at the size that is planned for; ``jsonl`` and ``parquet`` are bytes, None where it is not kept
    that way or nothing says how large it is."""

    name: str
    records: Range
    jsonl: Range | None
    parquet: Range | None


@dataclass(frozen=True)
class Judged:
    """What a judge adds to judgements.jsonl; ``shortest`` is the bytes of a line with the shortest reply."""

    counts: Asked
    shortest: int

    def line_bytes(self) -> Range:
        """Bytes of all lines to come."""
        measured, questions = self.counts.line_bytes(), self.counts.questions
        if measured is not None:
            return measured
        longest = self.shortest + self.counts.bound * BYTES_A_TOKEN[1]
        return Range(questions * self.shortest, questions * longest)


@dataclass(frozen=True)
class Built:
    """Pairs that were built, those of the training split and what they are made of; beside it, what the run holds."""

    pairs: int
    train: int
    prompts: int
    all_prompts: int
    responses: int
    all_responses: int
    pair_bytes: int
    dataset_bytes: int


def built(run: Run) -> Built | None:
    """The pairs of a run; None where none were built."""
    path = run.path / "pairs.parquet"
    if not path.exists():
        return None
    from pyarrow import compute, parquet

    table = parquet.read_table(path, columns=["prompt_id", "chosen_id", "rejected_id", "split"])
    train = table.filter(compute.equal(table["split"], "train"))
    sides = set(train["chosen_id"].to_pylist()) | set(train["rejected_id"].to_pylist())
    return Built(
        pairs=table.num_rows,
        train=train.num_rows,
        prompts=len(train["prompt_id"].unique()),
        all_prompts=sum(1 for _ in run.prompts()),
        responses=len(sides),
        all_responses=max(1, sum(1 for _ in run.responses())),
        pair_bytes=path.stat().st_size,
        dataset_bytes=sum(file.stat().st_size for file in (run.path / "dataset").glob("*.parquet")),
    )


@dataclass(frozen=True)
class _Stored:
    records: int
    line_bytes: int
    packed: float | None
    """Bytes as Parquet over bytes as lines."""
    spread: float
    """Standard deviation of the bytes of a line over their mean."""

    def artefact(self, record: Any, records: float, line_bytes: Range | None) -> Artefact:
        packed = None if self.packed is None or line_bytes is None else line_bytes.times(Range.exact(self.packed))
        return Artefact(STEMS[record], Range.exact(records), line_bytes, packed)


def _stored(run: Run, record: Any) -> _Stored:
    count = size = squares = 0
    first: list[Any] = []
    for one in _records(run, record):
        line = len(msgspec.json.encode(one)) + 1
        count += 1
        size += line
        squares += line * line
        if len(first) < SAMPLE:
            first.append(one)
    spread = math.sqrt(max(0.0, squares * count / size**2 - 1)) if count else 0.0
    return _Stored(count, size, _packed(first, record), spread)


def _scaled(stored: _Stored, scale: float, seen: int) -> Range:
    """1, with the doubt about the mean of lines of which most are not there; so many say something of their own."""
    reach = 1.96 * stored.spread * math.sqrt(max(0.0, 1 - 1 / scale) / max(seen, 1)) if scale > 1 else 0.0
    return Range(max(0.0, 1 - reach), 1 + reach, 1.0)


def _records(run: Run, record: Any) -> Iterator[Any]:
    if record is Prompt:
        return run.prompts()
    return run.responses() if record is Response else run.judgements()


def _packed(records: Sequence[Any], record: Any) -> float | None:
    from pyarrow import parquet

    if not records:
        return None
    file = io.BytesIO()
    parquet.write_table(Columnar(record).table(records), file, compression="zstd")
    return file.tell() / sum(len(msgspec.json.encode(one)) + 1 for one in records)


def on_disk(
    run: Run, responses: Responses, judged: Sequence[Judged], pairs: Built | None, scale: float
) -> list[Artefact]:
    """The files at the size that is planned for.

    Args:
        run: the run as it is.
        responses: as they will be.
        judged: what judges add.
        pairs: as they are, if they are.
        scale: prompts planned for over those that the run has.
    """
    prompts, answers, judgements = (_stored(run, record) for record in (Prompt, Response, Judgement))
    held = Range.exact(judgements.line_bytes)
    verdicts = sum((one.line_bytes() for one in judged), held)
    prompt_lines = Range.exact(prompts.line_bytes * scale).times(_scaled(prompts, scale, prompts.records))
    answer_lines = responses.line_bytes(answers.line_bytes)
    if answer_lines is not None:
        answer_lines = answer_lines.times(_scaled(answers, scale, prompts.records))
    found = [
        prompts.artefact(Prompt, prompts.records * scale, prompt_lines),
        answers.artefact(Response, responses.count, answer_lines),
        judgements.artefact(Judgement, judgements.records + sum(one.counts.questions for one in judged), verdicts),
    ]
    if pairs:
        for name, size in (("pairs", pairs.pair_bytes), ("dataset", pairs.dataset_bytes)):
            found.append(Artefact(name, Range.exact(pairs.pairs * scale), None, Range.exact(size * scale)))
    rewards = Range.exact(responses.count * _reward_line())
    return [*found, Artefact("rewards", Range.exact(responses.count), rewards, None)]


def _reward_line() -> int:
    """Bytes of a line of rewards.jsonl, for names of a usual length."""
    name, reward = "0" * 20, -0.12345678
    line = Rewarded(
        id=name,
        model="reward-model",
        prompt_id=name,
        response_id=name,
        policy="a-policy",
        reward=reward,
        normalised=reward,
    )
    return len(msgspec.json.encode(line)) + 1
