"""A run's judgements as arrays, for comparing annotators with each other.

Reads   judgements of a run, and which prompts are excluded
Gives   Judgements: one row for each annotator and response rated, one for each two responses compared in one order

A response and a prompt are known by 64 bits of a digest of their id. That two of them meet by chance has the
probability 3e-8 for a million ids. Memory: about 150 bytes a judgement, whatever its reply.
"""

from __future__ import annotations

import array
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from prefkit.errors import RunError
from prefkit.judging.coefficients import Floats
from prefkit.judging.resampling import Ints
from prefkit.records import Choice, Comparison, Judgement, Rating, Winner
from prefkit.rubric import Rubric
from prefkit.run import Run

Bools = npt.NDArray[np.bool_]
WINS = {"a": 1.0, "tie": 0.5, "b": 0.0, None: math.nan}


@dataclass(frozen=True)
class Ratings:
    """A row for each annotator and response, sorted by prompt: ``prompt``, ``response``, ``annotator`` [n].

    ``scores`` [n, principles] are means over repeated answers, NaN where there is none.
    """

    prompt: Ints
    response: Ints
    annotator: Ints
    scores: Floats

    def __getitem__(self, rows: Ints | Bools) -> Ratings:
        return Ratings(self.prompt[rows], self.response[rows], self.annotator[rows], self.scores[rows])


@dataclass(frozen=True)
class Verdicts:
    """A row for each annotator, two responses and order shown, as they first came.

    ``low`` < ``high`` are the responses, ``low_first`` says which was shown first. ``wins`` [n, 1 + principles] is 1
    where ``low`` won, 0 where ``high`` did, 0.5 for a tie, overall and for each principle; NaN where it was not asked.
    Repeats in one order are one row: the side that won more of them.
    """

    prompt: Ints
    low: Ints
    high: Ints
    low_first: Bools
    annotator: Ints
    wins: Floats

    def __getitem__(self, rows: Ints | Bools) -> Verdicts:
        return Verdicts(
            self.prompt[rows],
            self.low[rows],
            self.high[rows],
            self.low_first[rows],
            self.annotator[rows],
            self.wins[rows],
        )


@dataclass(frozen=True)
class Judgements:
    """All judgements of a run by ``annotators``, sorted; ``left_out`` counts by annotator and reason."""

    annotators: tuple[str, ...]
    ratings: Ratings
    verdicts: Verdicts
    left_out: dict[str, Counter[str]]


def read_judgements(run: Run, rubric: Rubric, progress: Callable[[int], None] | None = None) -> Judgements:
    """The judgements of a run.

    Args:
        run: the run.
        rubric: what the judgements are to be about. A score counts if its principle was asked in the same words, a
            comparison if the whole rubric was.
        progress: called with bytes as they are read.

    Raises:
        RunError: there are no judgements.
        RecordError: a line is not a record.
    """
    if run.file(Judgement) is None:
        remedy = f"Import some: prefkit import judgements {run.path} FILE; or ask a model: prefkit judge {run.path}"
        raise RunError(run.path, "no judgements", "ratings or comparisons", remedy)
    reader = _Reader(run, rubric)
    for judgement in run.judgements(progress):
        reader.take(judgement)
    return Judgements(tuple(sorted(reader.annotators)), reader.ratings(), reader.verdicts(), reader.left_out)


def _key(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little", signed=True)


class _Reader:
    def __init__(self, run: Run, rubric: Rubric) -> None:
        self.run, self.rubric, self.principles = run, rubric.hash, rubric.principle_hashes()
        self.annotators: dict[str, int] = {}
        self.left_out: dict[str, Counter[str]] = {}
        self._excluded = {prompt.id for prompt in run.prompts() if prompt.excluded}
        self._asked: dict[str | None, frozenset[str]] = {}
        self._rated = (array.array("q"), array.array("q"), array.array("q"), array.array("d"))
        self._compared = (array.array("q"), array.array("q"), array.array("q"), array.array("q"), array.array("d"))

    def take(self, judgement: Judgement) -> None:
        """Add a judgement, or count why not."""
        who = self.annotators.setdefault(judgement.annotator, len(self.annotators))
        reason = self._unfit(judgement)
        if reason:
            self.left_out.setdefault(judgement.annotator, Counter())[reason] += 1
        elif isinstance(judgement, Rating):
            self._take_rating(judgement, who)
        elif isinstance(judgement, Comparison):
            self._take_pair(judgement, who, judgement.a, judgement.b, judgement.winner, judgement.principles)
        else:
            self._take_choice(judgement, who)

    def _unfit(self, judgement: Judgement) -> str | None:
        if judgement.prompt_id in self._excluded:
            return "prompt excluded"
        if isinstance(judgement, Rating):
            read = judgement.failure is None
            asked = bool(self._comparable(judgement.rubric))
        elif isinstance(judgement, Comparison):
            read, asked = judgement.winner is not None, judgement.rubric == self.rubric
        else:
            read = judgement.best is not None and 0 <= judgement.best < len(judgement.responses)
            asked = judgement.rubric == self.rubric
        return None if read and asked else "under another rubric" if read else "unreadable"

    def _comparable(self, rubric: str | None) -> frozenset[str]:
        """The principles about which a judgement under this rubric was asked in the same words."""
        if rubric not in self._asked:
            known = self.run.info.rubrics.get(rubric or "")
            theirs = known.principle_hashes() if known else {}
            self._asked[rubric] = frozenset(
                name for name, words in self.principles.items() if theirs.get(name) == words
            )
        return self._asked[rubric]

    def _take_rating(self, rating: Rating, who: int) -> None:
        given, asked = rating.scores, self._asked[rating.rubric]
        if len(asked) < len(self.principles):
            given = {name: score for name, score in given.items() if name in asked}
        scores = list(map(given.get, self.principles))
        prompt, response, annotator, values = self._rated
        prompt.append(_key(rating.prompt_id))
        response.append(_key(rating.response_id))
        annotator.append(who)
        values.extend([math.nan if score is None else score for score in scores] if None in scores else scores)  # type: ignore[arg-type]

    def _take_choice(self, choice: Choice, who: int) -> None:
        """The best of k counts as k-1 comparisons; which place is shown first is the place in the list."""
        best = choice.best or 0
        for place, other in enumerate(choice.responses):
            if place < best:
                self._take_pair(choice, who, other, choice.responses[best], "b", {})
            elif place > best:
                self._take_pair(choice, who, choice.responses[best], other, "a", {})

    def _take_pair(
        self, asked: Judgement, who: int, a: str, b: str, winner: Winner | None, principles: Mapping[str, Winner | None]
    ) -> None:
        prompt, first, second, annotator, wins = self._compared
        prompt.append(_key(asked.prompt_id))
        first.append(_key(a))
        second.append(_key(b))
        annotator.append(who)
        wins.append(WINS[winner])
        wins.extend(WINS[principles.get(name)] for name in self.principles)

    def _places(self) -> Ints:
        """The place of each annotator among the sorted names, so that nothing depends on who came first."""
        names = list(self.annotators)
        places = np.empty(len(names), dtype=np.int64)
        places[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
        return places

    def ratings(self) -> Ratings:
        """The ratings, an annotator's repeats on one response merged."""
        prompt, response, annotator = (np.asarray(one, dtype=np.int64) for one in self._rated[:3])
        annotator = self._places()[annotator]
        scores = np.asarray(self._rated[3], dtype=np.float64).reshape(len(prompt), len(self.principles))
        order = np.lexsort((annotator, response, prompt))
        prompt, response, annotator = prompt[order], response[order], annotator[order]
        starts = _starts(prompt, response, annotator)
        return Ratings(prompt[starts], response[starts], annotator[starts], _means(scores[order], starts))

    def verdicts(self) -> Verdicts:
        """The comparisons, an annotator's repeats in one order merged."""
        prompt, first, second, annotator = (np.asarray(one, dtype=np.int64) for one in self._compared[:4])
        annotator = self._places()[annotator]
        wins = np.asarray(self._compared[4], dtype=np.float64).reshape(len(prompt), 1 + len(self.principles))
        order = np.lexsort((annotator, second, first))
        starts = _starts(first[order], second[order], annotator[order])
        came = order[starts]
        merged = (np.sign(_means(wins[order], starts) - 0.5) + 1) / 2
        by_time = np.argsort(came)
        came, merged = came[by_time], merged[by_time]
        low_first = first[came] < second[came]
        low, high = np.minimum(first[came], second[came]), np.maximum(first[came], second[came])
        return Verdicts(
            prompt[came], low, high, low_first, annotator[came], np.where(low_first[:, None], merged, 1 - merged)
        )


def _starts(*columns: Ints) -> Ints:
    """Where, in sorted rows, another combination begins."""
    changed = np.zeros(len(columns[0]), dtype=bool)
    changed[:1] = True
    for column in columns:
        changed[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(changed)


def _means(values: Floats, starts: Ints) -> Floats:
    """The mean of each run of rows, column by column, leaving out NaN."""
    if len(starts) == len(values):
        return values
    answered = ~np.isnan(values)
    total = np.add.reduceat(np.where(answered, values, 0.0), starts, axis=0)
    count = np.add.reduceat(answered.astype(np.float64), starts, axis=0)
    result: Floats = np.divide(total, count, out=np.full_like(total, math.nan), where=count > 0)
    return result
