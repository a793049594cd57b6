"""A run's records as arrays, for the arithmetic of pairs.

Reads   prompts, responses, judgements of a run
Gives   Collected: texts stay on disk (a response is known by where its line stands), scores are arrays

Memory: about 250 bytes a response and 100 a rating, whatever the texts' length.
"""

from __future__ import annotations

import array
import math
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from prefkit.by_prompt import mapped, open_records, scanned
from prefkit.errors import RecordError, RunError
from prefkit.records import (
    UNANSWERED,
    Choice,
    Comparison,
    Judgement,
    Prompt,
    Rating,
    Response,
    Winner,
    is_attention,
)
from prefkit.run import PROGRESS_EVERY, Run

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Index(Protocol):
    """What gives the place of a response."""

    def get(self, response: str, /) -> int | None:
        """By its id; None where there is none."""


WINS = {"a": 1.0, "tie": 0.5, "b": 0.0, None: math.nan}


@dataclass(frozen=True)
class Ratings:
    """Complete ratings, a row for each annotator and response.

    ``response`` and ``annotator`` [n] are indices; ``scores`` [n, principles] has no missing value.
    """

    response: Ints
    annotator: Ints
    scores: Floats


@dataclass(frozen=True)
class Comparisons:
    """Comparisons in the order shown: ``a``, ``b``, ``annotator`` [n] are indices; ``win`` [n] is 1 where ``a`` won,
    0.5 for a tie.

    ``principle_win`` [n, principles] is the same for each principle, NaN where it was not asked.
    """

    a: Ints
    b: Ints
    annotator: Ints
    win: Floats
    principle_win: Floats


class Responses:
    """The responses of a run by index: ids, prompts, policies in memory, texts on disk.

    They stand in the order of their ids: which of two equal responses comes first is then a matter of a digest, and not
    of whose file was imported first. ``prompt`` and ``policy`` [n] are indices into the run's prompts and into
    ``policies``.
    """

    def __init__(self, run: Run, prompt_index: dict[str, int], progress: Callable[[int], None]) -> None:
        self._decoder = msgspec.json.Decoder(Response)
        file = open_records(run, Response)
        weakref.finalize(self, file.close)
        self.ids: list[str] = []
        self.policies: list[str] = []
        self.unknown_prompt = 0
        prompts, policies, offsets = array.array("q"), array.array("q"), array.array("q")
        policy_index: dict[str, int] = {}
        reported = 0
        for number, (offset, _, response) in enumerate(scanned(file, Response), 1):
            if number % PROGRESS_EVERY == 0:
                progress(offset - reported)
                reported = offset
            prompt = prompt_index.get(response.prompt_id)
            if prompt is None:
                self.unknown_prompt += 1
                continue
            self.ids.append(response.id)
            prompts.append(prompt)
            policies.append(policy_index.setdefault(response.policy, len(policy_index)))
            offsets.append(offset)
        progress(file.tell() - reported)
        order = sorted(range(len(self.ids)), key=self.ids.__getitem__)
        self.ids = [self.ids[place] for place in order]
        self.policies = list(policy_index)
        self.prompt = np.asarray(prompts, dtype=np.int64)[order]
        self.policy = np.asarray(policies, dtype=np.int64)[order]
        self._offsets = np.asarray(offsets, dtype=np.int64)[order]
        self._bytes: Any = mapped(file)

    def __getstate__(self) -> dict[str, Any]:
        """With the texts, for another process."""
        return {**vars(self), "_bytes": bytes(self._bytes), "_decoder": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _decoder=msgspec.json.Decoder(Response))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Response:
        start = self._offsets[index]
        end = self._bytes.find(b"\n", start)
        return self._decoder.decode(memoryview(self._bytes)[start : end if end >= 0 else None])


@dataclass(frozen=True)
class Collected:
    """All that pairs are made of."""

    prompts: Sequence[Prompt]
    responses: Responses
    annotators: Sequence[str]
    ratings: Ratings
    comparisons: Comparisons
    counts: Counter[str]


@dataclass(frozen=True)
class Whole:
    """What is to be known of the run of which this one is a piece."""

    annotators: Sequence[str]
    """In the order in which their first judgements that count stand there: sums are made in it."""
    unknown: Callable[[str], object]
    """Told the ids of responses that are judged and not here."""


def collect(run: Run, progress: Callable[[int], None], whole: Whole | None = None) -> Collected:
    """Read a run.

    Args:
        run: the run.
        progress: called with bytes as they are read.
        whole: if it is a piece of another one.

    Raises:
        RunError: there are no prompts, no responses or no judgements.
        RecordError: a line is not a record.
    """
    prompts = list(run.prompts())
    responses = Responses(run, _index([prompt.id for prompt in prompts], run.file(Prompt)), progress)
    reader = JudgementReader(run, _index(responses.ids, run.file(Response)), whole.unknown if whole else None)
    if run.file(Judgement) is None:
        raise no_judgements(run)
    for judgement in run.judgements(progress):
        reader.take(judgement)
    if whole:
        reader.reorder(whole.annotators)
    return Collected(prompts, responses, list(reader.annotators), reader.ratings(), reader.comparisons(), reader.counts)


def _index(ids: Sequence[str], file: Path | None) -> dict[str, int]:
    """The place of each id.

    Raises:
        RecordError: an id stands twice.
    """
    index = {name: place for place, name in enumerate(ids)}
    if len(index) < len(ids):
        raise twice(next(name for name, count in Counter(ids).items() if count > 1), file.name if file else "records")
    return index


def twice(name: str, where: str) -> RecordError:
    """The error for an id that two records have."""
    return RecordError(where, f"the id {name} a second time", "each record once", "Remove one of the two lines.")


def no_judgements(run: Run) -> RunError:
    """The error for a run without judgements."""
    remedy = f"Import some: prefkit import judgements {run.path} FILE"
    return RunError(run.path, "no judgements", "ratings or comparisons", remedy)


class JudgementReader:
    """Takes judgements one by one.

    Args:
        run: whose rubric counts.
        index: the place of each response by id, in a mapping or what gets like one.
        unknown: told the ids of responses that are judged and have no place.
    """

    def __init__(self, run: Run, index: Index, unknown: Callable[[str], object] | None = None) -> None:
        self.run = run
        self.principles = run.rubric.principle_ids
        self.index = index
        self.unknown = unknown
        self.annotators: dict[str, int] = {}
        self.counts: Counter[str] = Counter()
        self._rated = (array.array("q"), array.array("q"), array.array("d"))
        self._compared = (array.array("q"), array.array("q"), array.array("q"), array.array("d"), array.array("d"))
        self._comparable: dict[str | None, frozenset[str]] = {}
        self._take: dict[type, Callable[[Any], None]] = {
            Rating: self._take_rating,
            Comparison: self._take_comparison,
            Choice: self._take_choice,
        }

    def take(self, judgement: Judgement) -> None:
        """Count it, and what it says if it counts."""
        if is_attention(judgement):
            self.counts["answers to attention items"] += 1
        elif judgement.failure in UNANSWERED:
            self.counts["drafts and discarded"] += 1
        else:
            self._take[type(judgement)](judgement)

    def reorder(self, order: Sequence[str]) -> None:
        """Let the annotators stand in an order that names all of them."""
        rank = {name: place for place, name in enumerate(order)}
        names = sorted(self.annotators, key=rank.__getitem__)
        places = np.argsort([self.annotators[name] for name in names])
        for numbers in (self._rated[1], self._compared[2]):
            if numbers:
                np.frombuffer(numbers, np.int64)[:] = places[np.frombuffer(numbers, np.int64)]
        self.annotators = {name: place for place, name in enumerate(names)}

    def _asked(self, rubric: str | None) -> frozenset[str]:
        if rubric not in self._comparable:
            self._comparable[rubric] = self.run.comparable(rubric)
        return self._comparable[rubric]

    def _place(self, response: str) -> int | None:
        place = self.index.get(response)
        if place is None and self.unknown:
            self.unknown(response)
        return place

    def _take_rating(self, rating: Rating) -> None:
        self.counts["ratings"] += 1
        index = self._place(rating.response_id)
        asked = self._asked(rating.rubric)
        if rating.failure is not None:
            self.counts["ratings unreadable"] += 1
        elif index is None:
            self.counts["ratings of unknown responses"] += 1
        elif not asked:
            self.counts["ratings under another rubric"] += 1
        else:
            given = rating.scores if len(asked) == len(self.principles) else _only(rating.scores, asked)
            scores = list(map(given.get, self.principles))
            response, annotator, values = self._rated
            response.append(index)
            annotator.append(self.annotators.setdefault(rating.annotator, len(self.annotators)))
            values.extend([math.nan if score is None else score for score in scores] if None in scores else scores)  # type: ignore[arg-type]

    def _take_comparison(self, comparison: Comparison) -> None:
        self.counts["comparisons"] += 1
        if comparison.winner is None:
            self.counts["comparisons unreadable"] += 1
        elif comparison.rubric != self.run.info.rubric:
            self.counts["comparisons under another rubric"] += 1
        else:
            self._compare(comparison.annotator, comparison.a, comparison.b, comparison.winner, comparison.principles)

    def _take_choice(self, choice: Choice) -> None:
        """The best of k counts as k-1 comparisons; which place is shown first is the place in the list."""
        self.counts["choices"] += 1
        if choice.best is None or not 0 <= choice.best < len(choice.responses):
            self.counts["choices unreadable"] += 1
        elif choice.rubric != self.run.info.rubric:
            self.counts["choices under another rubric"] += 1
        else:
            for place, other in enumerate(choice.responses):
                if place < choice.best:
                    self._compare(choice.annotator, other, choice.responses[choice.best], "b", {})
                elif place > choice.best:
                    self._compare(choice.annotator, choice.responses[choice.best], other, "a", {})

    def _compare(self, annotator: str, a: str, b: str, winner: Winner, principles: dict[str, Winner | None]) -> None:
        left, right = self._place(a), self._place(b)
        if left is None or right is None:
            self.counts["comparisons of unknown responses"] += 1
            return
        first, second, who, win, named = self._compared
        first.append(left)
        second.append(right)
        who.append(self.annotators.setdefault(annotator, len(self.annotators)))
        win.append(WINS[winner])
        named.extend(WINS[principles.get(name)] for name in self.principles)

    def ratings(self) -> Ratings:
        """The ratings, those of one annotator on one response merged (mean over repeats), incomplete ones left out."""
        response, annotator, values = self._rated
        ratings = Ratings(
            np.asarray(response, dtype=np.int64),
            np.asarray(annotator, dtype=np.int64),
            np.asarray(values, dtype=np.float64).reshape(-1, len(self.principles)),
        )
        merged = _merge(ratings)
        complete = ~np.isnan(merged.scores).any(axis=1)
        self.counts["ratings incomplete"] += int((~complete).sum())
        return Ratings(merged.response[complete], merged.annotator[complete], merged.scores[complete])

    def comparisons(self) -> Comparisons:
        """The comparisons; a choice is several."""
        first, second, who, win, named = self._compared
        return Comparisons(
            np.asarray(first, dtype=np.int64),
            np.asarray(second, dtype=np.int64),
            np.asarray(who, dtype=np.int64),
            np.asarray(win, dtype=np.float64),
            np.asarray(named, dtype=np.float64).reshape(-1, len(self.principles)),
        )


def _only(scores: dict[str, Any], asked: frozenset[str]) -> dict[str, Any]:
    return {name: score for name, score in scores.items() if name in asked}


def _merge(ratings: Ratings) -> Ratings:
    """One row for each response and annotator: the mean over repeated answers to a principle, NaN where there is
    none."""
    if not len(ratings.response):
        return ratings
    key = ratings.response * (int(ratings.annotator.max()) + 1) + ratings.annotator
    order = np.argsort(key, kind="stable")
    starts = np.flatnonzero(np.diff(key[order], prepend=-1))
    if len(starts) == len(key):
        return Ratings(ratings.response[order], ratings.annotator[order], ratings.scores[order])
    scores = ratings.scores[order]
    answered = ~np.isnan(scores)
    total = np.add.reduceat(np.where(answered, scores, 0.0), starts, axis=0)
    count = np.add.reduceat(answered.astype(np.int64), starts, axis=0)
    with np.errstate(invalid="ignore"):
        means = np.where(count > 0, total / count, math.nan)
    return Ratings(ratings.response[order][starts], ratings.annotator[order][starts], means)
