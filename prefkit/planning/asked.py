"""What a model would be asked: each question as its stage asks it, counted and not sent.

Reads   what the questions read
Gives   sums by prompt: how many questions and bytes, how many of them are answered, what the measured ones took

Questions come prompt by prompt, so those of a prompt are taken to be so many in a row: their number over that of the
prompts. Beyond 4,096 prompts several are summed together, as everywhere (`prefkit.resampling`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import msgspec
import numpy as np

from prefkit.models.asking import Questions
from prefkit.models.chat import Model, Reply, Request, Task
from prefkit.models.held import Held
from prefkit.planning.lengths import BYTES_A_TOKEN, FEWEST, Answer, Tokenizer
from prefkit.planning.ranges import Range, resampled
from prefkit.resampling import MAX_CLUSTERS, Floats, wilson

COUNTED = 400
"""Prompts' worth of questions that a tokenizer counts."""


class Column(IntEnum):
    """What is summed for each prompt."""

    PROMPTS = 0
    QUESTIONS = 1
    BYTES = 2
    LEFT = 3
    """Questions without an answer, and their bytes."""
    LEFT_BYTES = 4
    MEASURED = 5
    """Questions whose answers say what they took, and what that was."""
    CACHED = 6
    REPLY = 7
    CALLS = 8
    LINES = 9
    PROMPT = 10
    """Tokens of the prompts, and what the line through tokens and bytes is fitted by: here the first of five columns,
    as told by answers; then as counted by a tokenizer."""
    COUNTED = 15


FIT = 5
"""Columns of a fit: tokens, questions, bytes, bytes squared, bytes times tokens."""


@dataclass(frozen=True)
class Asked:
    """The questions to a model.

    ``sums`` are [prompts, columns]; ``more`` is how many prompts come on top of those that the run has, asked like
    them. ``shortest`` is the number of bytes of the shortest reply that fits the schema, ``bound`` the most tokens of a
    reply.
    """

    sums: Floats
    prompts: int
    more: float
    shortest: int
    bound: int

    def total(self, column: Column) -> float:
        """The sum of a column."""
        return float(self.sums[:, column].sum())

    @property
    def before(self) -> int:
        """How many are answered."""
        return round(self.total(Column.QUESTIONS) - self.total(Column.LEFT))

    @property
    def questions(self) -> float:
        """How many are not answered; a whole number unless prompts come on top that are asked unequally often."""
        return self.total(Column.LEFT) + self.more * self.total(Column.QUESTIONS) / self.prompts

    @property
    def measured(self) -> int:
        """How many answers say what they took."""
        return round(self.total(Column.MEASURED))

    @property
    def measured_prompts(self) -> int:
        """How many prompts have a measured answer."""
        return int((self.sums[:, Column.MEASURED] > 0).sum())

    @property
    def counted(self) -> bool:
        """Whether a tokenizer counted."""
        return self.total(Column.COUNTED) > 0

    @property
    def _expected(self) -> float:
        return float((self.sums[:, Column.LEFT] > 0).sum()) + self.more

    def calls(self, *, repairs: bool) -> Range:
        """Calls; a question whose reply may not be readable takes a second one to repair it, and no third."""
        questions, seen = self.questions, self.total(Column.MEASURED)
        if not repairs or not questions:
            return Range.exact(questions)
        if not seen:
            return Range(questions, 2 * questions)
        share = self.total(Column.CALLS) / seen - 1
        return Range(questions, questions * (1 + wilson(min(share, 1.0), seen)[1]), questions * (1 + share))

    def prompt_bytes(self) -> float:
        """Bytes of the prompts to be sent."""
        return self.total(Column.LEFT_BYTES) + self.more * self.total(Column.BYTES) / self.prompts

    def prompt_tokens(self) -> Range:
        """Tokens of the prompts: so many a question and so many a byte, as measured, as counted, or as is usual."""
        if not self.questions:
            return Range.exact(0.0)
        if self.measured_prompts >= FEWEST:
            return self._fitted(Column.PROMPT)
        if self.counted:
            return self._fitted(Column.COUNTED)
        size, (few, many) = self.prompt_bytes(), BYTES_A_TOKEN
        return Range(size / many, size / few)

    def _fitted(self, first: Column) -> Range:
        """Tokens of all by a line that is fitted to some; of what it is asked for, only the bytes of prompts that come
        on top are not known."""
        questions, known, more = self.questions, self.total(Column.LEFT_BYTES), self.more
        of = slice(first, first + FIT)

        def figure(totals: Floats) -> Floats:
            rest = more * totals[..., Column.BYTES] / totals[..., Column.PROMPTS] if more else 0.0
            return line_at(totals[..., of], questions, known + rest)

        there = self.sums[:, first] > 0
        rows = self.sums if more else self.sums[there]
        return resampled(rows, figure, measured=int(there.sum()), expected=self._expected)

    def reply_tokens(self) -> Range | None:
        """Tokens of the replies, as measured; None where none is."""
        return self._mean(Column.REPLY)

    def line_bytes(self) -> Range | None:
        """Bytes of the lines that keep the answers, as measured; None where none is."""
        return self._mean(Column.LINES)

    def _mean(self, column: Column) -> Range | None:
        if not self.questions:
            return Range.exact(0.0)
        if self.measured_prompts < FEWEST:
            return None
        rows, questions = self.sums[self.sums[:, Column.MEASURED] > 0], self.questions
        return resampled(
            rows,
            lambda totals: totals[..., column] / totals[..., Column.MEASURED] * questions,
            measured=len(rows),
            expected=self._expected,
        )

    @property
    def cached(self) -> float:
        """The share of the measured prompts that endpoints read from a cache."""
        read = self.total(Column.PROMPT)
        return self.total(Column.CACHED) / read if read else 0.0


def line_at(sums: Floats, questions: float, size: Floats | float) -> Floats:
    """Tokens of so many questions with so many bytes in all, by least squares.

    A chat template adds the same tokens to each question, and a rubric has other words than a client: a ratio of tokens
    to bytes would be off where sizes differ. Where they hardly do, the ratio is taken.

    Args:
        sums: [..., 5] those of the questions it is fitted to: tokens, questions, bytes, bytes squared, bytes times
            tokens.
        questions, size: what it is asked for.
    """
    tokens, count, total, squares, products = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = squares - total**2 / count
        slope = np.where(spread > 1e-6 * squares, (products - total * tokens / count) / spread, tokens / total)
        fixed = np.where(spread > 1e-6 * squares, (tokens - slope * total) / count, 0.0)
    found: Floats = fixed * questions + slope * size
    return found


@dataclass(frozen=True)
class Counting:
    """How questions are counted.

    Args:
        held: ids that have an answer.
        answers: of these, what they took, by id.
        prompts: how many prompts the questions are about.
        more: how many prompts come on top.
        tokenizer: counts tokens of some questions' prompts.
    """

    held: Held
    answers: Mapping[str, Answer]
    prompts: int
    more: float = 0.0
    tokenizer: Tokenizer | None = None


def asked(questions: Questions, model: Model, how: Counting, progress: Callable[[int], None]) -> Asked:
    """Make every question to a model once.

    Raises:
        PrefkitError: the questions cannot be made.
    """
    total = questions.total(model)
    sums = np.zeros((min(how.prompts, MAX_CLUSTERS), Column.COUNTED + FIT))
    places = np.arange(how.prompts) % len(sums)
    sums[:, Column.PROMPTS] = np.bincount(places, minlength=len(sums))
    shortest, bound = 0, 0
    counted = max(1, how.prompts // COUNTED)
    for number, task in enumerate(questions.tasks(model, Held())):
        progress(1)
        assert task is not None, "nothing is held here"
        prompt = number * how.prompts // max(total, 1)
        row = sums[prompt % len(sums)]
        row[Column.QUESTIONS] += 1
        answer = how.answers.get(task.id)
        request = task.request()
        size = sum(len(message.content.encode()) for message in request.messages)
        row[Column.BYTES] += size
        if task.id not in how.held:
            row[Column.LEFT] += 1
            row[Column.LEFT_BYTES] += size
        if answer is not None:
            _add(row, answer, size)
        if how.tokenizer is not None and prompt % counted == 0:
            _add_to_fit(row, Column.COUNTED, how.tokenizer(request.messages), size)
        if number == 0:
            shortest, bound = len(fitting(request)), request.sampling.max_tokens or 0
    return Asked(sums, how.prompts, how.more, shortest, bound)


def _add(row: Floats, answer: Answer, size: int) -> None:
    usage = answer.usage
    row[Column.MEASURED] += 1
    _add_to_fit(row, Column.PROMPT, usage.prompt, size)
    row[Column.CACHED] += usage.cached
    row[Column.REPLY] += usage.completion
    row[Column.CALLS] += usage.calls
    row[Column.LINES] += answer.size


def _add_to_fit(row: Floats, first: Column, tokens: int, size: int) -> None:
    row[first : first + FIT] += tokens, 1, size, size * size, size * tokens


def fitting(request: Request) -> bytes:
    """The shortest reply that follows a request's schema; nothing where it has none."""
    return b"" if request.schema is None else msgspec.json.encode(_fitting(request.schema))


def _fitting(schema: Mapping[str, Any]) -> Any:
    if schema.get("type") == "object":
        return {name: _fitting(part) for name, part in schema["properties"].items()}
    return schema["enum"][0] if "enum" in schema else schema.get("minimum", "")


def line_of(task: Task) -> int:
    """Bytes of the line that keeps an answer of the fewest words."""
    kept = task.receive(Reply(fitting(task.request()).decode()), None)
    return len(kept) if isinstance(kept, bytes) else 0
