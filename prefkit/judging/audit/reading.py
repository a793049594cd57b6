"""What an audit reads of a run, as arrays.

Reads   responses: policy and length of each (a run without responses has unknown ones)
        judgements: who said what of which, in which order and which sample; what was left unanswered

A rating counts for the principles whose words are those of the rubric in use; comparisons and choices under another
rubric are counted and left out, as in ``build-pairs``. Texts are measured and let go: memory is about 100 bytes a
response and 150 a judgement.
"""

from __future__ import annotations

import array
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from prefkit.judging.audit.intervals import Floats, Ints
from prefkit.records import Choice, Comparison, Judgement, Rating, Response
from prefkit.rubric import Rubric
from prefkit.run import Run

WINS = {"a": 1.0, "tie": 0.5, "b": 0.0, None: math.nan}


@dataclass(frozen=True)
class Ratings:
    """One row for each annotator, response and sample: a question asked a principle at a time is put together again.

    All [n]; ``scores`` [n, principles] is NaN where there is no answer.
    """

    annotator: Ints
    prompt: Ints
    response: Ints
    sample: Ints
    scores: Floats


@dataclass(frozen=True)
class Comparisons:
    """Readable comparisons in the order shown: all [n].

    ``win`` [n, 1 + principles] is 1 where ``a`` won, 0.5 for a tie, NaN where it was not asked; overall comes first.
    """

    annotator: Ints
    prompt: Ints
    a: Ints
    b: Ints
    sample: Ints
    win: Floats


@dataclass(frozen=True)
class Choices:
    """Readable choices: all [n]. The responses shown stand in ``shown`` from ``start`` on, ``count`` of them."""

    annotator: Ints
    prompt: Ints
    best: Ints
    count: Ints
    start: Ints
    shown: Ints


@dataclass(frozen=True)
class Answers:
    """Every judgement: all [n]. ``reason`` is an index into ``reasons``, -1 where it could be read; of the ``asked``
    scores of a readable rating, ``missing`` were not given."""

    annotator: Ints
    prompt: Ints
    reason: Ints
    asked: Ints
    missing: Ints
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Read:
    """All that an audit is made of. ``policy``, ``characters`` and ``words`` [responses] are -1 where unknown."""

    rubric: Rubric
    annotators: tuple[str, ...]
    policies: tuple[str, ...]
    policy: Ints
    characters: Ints
    words: Ints
    ratings: Ratings
    comparisons: Comparisons
    choices: Choices
    answers: Answers
    left_out: Counter[str]


def read(run: Run, progress: Callable[[int], None] = lambda _: None) -> Read:
    """Read a run; ``progress`` is told how many bytes of judgements more are read.

    Raises:
        RecordError: a line is not a record.
    """
    responses = _Responses(run)
    reader = _Reader(run, responses)
    for judgement in run.judgements(progress):
        reader.take(judgement)
    return reader.finished()


def judgement_bytes(run: Run) -> int:
    """The size of the judgements' file, for a progress bar."""
    path = run.file(Judgement)
    return path.stat().st_size if path else 0


class _Responses:
    def __init__(self, run: Run) -> None:
        self.index: dict[str, int] = {}
        self.policies: dict[str, int] = {}
        self._policy, self._characters, self._words = array.array("i"), array.array("i"), array.array("i")
        for response in run.responses():
            if response.id not in self.index:
                self._add(response)

    def _add(self, response: Response) -> None:
        self.index[response.id] = len(self.index)
        self._policy.append(self.policies.setdefault(response.policy, len(self.policies)))
        self._characters.append(-1 if response.text is None else len(response.text))
        self._words.append(-1 if response.text is None else len(response.text.split()))

    def __getitem__(self, name: str) -> int:
        return self.index.setdefault(name, len(self.index))

    def arrays(self) -> tuple[Ints, Ints, Ints]:
        unknown = np.full(len(self.index) - len(self._policy), -1, dtype=np.int64)
        known = (self._policy, self._characters, self._words)
        policy, characters, words = (np.concatenate([_ints(column), unknown]) for column in known)
        return policy, characters, words


class _Reader:
    def __init__(self, run: Run, responses: _Responses) -> None:
        self._run = run
        self._principles = run.rubric.principle_ids
        self._responses = responses
        self._annotators: dict[str, int] = {}
        self._prompts: dict[str, int] = {}
        self._reasons: dict[str, int] = {}
        self._shown_alike: dict[str | None, frozenset[str]] = {}
        self._rated = array.array("q")
        self._scores = array.array("d")
        self._compared = array.array("q")
        self._wins = array.array("d")
        self._chosen = array.array("q")
        self._shown = array.array("q")
        self._answered = array.array("q")
        self._left_out: Counter[str] = Counter()
        self._takers: dict[type, Callable[[Any, int, int], tuple[str | None, int, int] | None]] = {
            Rating: self._take_rating,
            Comparison: self._take_comparison,
            Choice: self._take_choice,
        }

    def take(self, judgement: Judgement) -> None:
        who = self._annotators.setdefault(judgement.annotator, len(self._annotators))
        prompt = self._prompts.setdefault(judgement.prompt_id, len(self._prompts))
        taken = self._takers[type(judgement)](judgement, who, prompt)
        if taken is None:
            self._left_out["under another rubric"] += 1
            return
        failure, asked, missing = taken
        reason = -1 if failure is None else self._reasons.setdefault(failure, len(self._reasons))
        self._answered.extend((who, prompt, reason, asked, missing))

    def _alike(self, rubric: str | None) -> frozenset[str]:
        if rubric not in self._shown_alike:
            self._shown_alike[rubric] = self._run.comparable(rubric)
        return self._shown_alike[rubric]

    def _take_rating(self, rating: Rating, who: int, prompt: int) -> tuple[str | None, int, int] | None:
        alike = self._alike(rating.rubric)
        if not alike:
            return None
        if rating.failure is not None:
            return rating.failure, 0, 0
        given = rating.scores
        if len(alike) < len(self._principles):
            given = {name: score for name, score in given.items() if name in alike}
        scores = [given.get(name) for name in self._principles]
        self._rated.extend((who, prompt, self._responses[rating.response_id], rating.sample))
        self._scores.extend([math.nan if score is None else score for score in scores])
        return None, len(given), sum(score is None for score in given.values())

    def _take_comparison(self, comparison: Comparison, who: int, prompt: int) -> tuple[str | None, int, int] | None:
        if comparison.rubric != self._run.info.rubric:
            return None
        if comparison.failure is not None:
            return comparison.failure, 0, 0
        if comparison.winner is None and not any(comparison.principles.values()):
            return "no verdict", 0, 0
        a, b = self._responses[comparison.a], self._responses[comparison.b]
        self._compared.extend((who, prompt, a, b, comparison.sample))
        self._wins.append(WINS[comparison.winner])
        self._wins.extend([WINS[comparison.principles.get(name)] for name in self._principles])
        return None, 0, 0

    def _take_choice(self, choice: Choice, who: int, prompt: int) -> tuple[str | None, int, int] | None:
        if choice.rubric != self._run.info.rubric:
            return None
        if choice.failure is not None:
            return choice.failure, 0, 0
        if choice.best is None or not 0 <= choice.best < len(choice.responses):
            return "no verdict", 0, 0
        self._chosen.extend((who, prompt, choice.best, len(choice.responses), len(self._shown)))
        self._shown.extend([self._responses[name] for name in choice.responses])
        return None, 0, 0

    def finished(self) -> Read:
        policy, characters, words = self._responses.arrays()
        scores = np.asarray(self._scores, dtype=float).reshape(-1, len(self._principles))
        wins = np.asarray(self._wins, dtype=float).reshape(-1, 1 + len(self._principles))
        who, prompt, response, sample = _ints(self._rated).reshape(-1, 4).T
        ratings = _together(Ratings(who, prompt, response, sample, scores))
        who, prompt, a, b, sample = _ints(self._compared).reshape(-1, 5).T
        comparisons = Comparisons(who, prompt, a, b, sample, wins)
        who, prompt, best, count, start = _ints(self._chosen).reshape(-1, 5).T
        choices = Choices(who, prompt, best, count, start, _ints(self._shown))
        who, prompt, reason, asked, missing = _ints(self._answered).reshape(-1, 5).T
        return Read(
            rubric=self._run.rubric,
            annotators=tuple(self._annotators),
            policies=tuple(self._responses.policies),
            policy=policy,
            characters=characters,
            words=words,
            ratings=ratings,
            comparisons=comparisons,
            choices=choices,
            answers=Answers(who, prompt, reason, asked, missing, tuple(self._reasons)),
            left_out=self._left_out,
        )


def _together(ratings: Ratings) -> Ratings:
    """One row for each annotator, response and sample: the mean of the answers that there are to a principle."""
    if not len(ratings.response):
        return ratings
    order = np.lexsort((ratings.sample, ratings.response, ratings.annotator))
    who, response, sample = (column[order] for column in (ratings.annotator, ratings.response, ratings.sample))
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = (np.diff(who) != 0) | (np.diff(response) != 0) | (np.diff(sample) != 0)
    starts = np.flatnonzero(fresh)
    scores = ratings.scores[order]
    if len(starts) < len(order):
        given = ~np.isnan(scores)
        total = np.add.reduceat(np.where(given, scores, 0.0), starts, axis=0)
        count = np.add.reduceat(given.astype(float), starts, axis=0)
        scores = np.divide(total, count, out=np.full_like(total, math.nan), where=count > 0)
    return Ratings(who[starts], ratings.prompt[order][starts], response[starts], sample[starts], scores)


def _ints(column: array.array[int]) -> Ints:
    return np.asarray(column, dtype=np.int64)
