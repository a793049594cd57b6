"""A run's judgements as arrays, for comparing annotators with each other.

Reads   judgements of a run, and which prompts are excluded
Gives   Judgements: one row for each annotator and response rated, one for each two responses compared in one order

A response and a prompt are known by 64 bits of a digest of their id. That two of them meet by chance has the
probability 3e-8 for a million ids. Memory: about 600 bytes a judgement at most, with seven
principles, whatever its reply.

Answers of one annotator to one question count as one: a model's by their mean, or the side that won more of them. A
person is shown a question again to see whether they answer as before; between annotators their first answer counts.
``Each`` has them all. Questions left as a draft or discarded and those that test attention are no answers, and whoever
settled a conflict knew what others had said: they are counted and left out.
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

from prefkit.agreement.coefficients import Floats
from prefkit.errors import RunError
from prefkit.records import Choice, Comparison, Judgement, Rating, Winner, is_model
from prefkit.resampling import Ints
from prefkit.rubric import Rubric
from prefkit.run import Run

Bools = npt.NDArray[np.bool_]
NOT_ANSWERED = {"draft": "left as drafts", "discarded": "discarded"}
ATTENTION = "attention:"
ADJUDICATION = "adjudication"
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
class Each:
    """Every answer by itself, in the order in which they came; ``sample`` [n] is above 0 for a repeat."""

    ratings: Ratings
    rating_sample: Ints
    verdicts: Verdicts
    verdict_sample: Ints


@dataclass(frozen=True)
class Judgements:
    """All judgements of a run by ``annotators``, sorted; ``left_out`` counts by annotator and reason.

    ``ratings`` and ``verdicts`` have an annotator's answers to one question as one, ``each`` has them all.
    """

    annotators: tuple[str, ...]
    ratings: Ratings
    verdicts: Verdicts
    each: Each
    left_out: dict[str, Counter[str]]


def read_judgements(
    run: Run,
    rubric: Rubric,
    progress: Callable[[int], None] | None = None,
    beside: Callable[[Judgement], None] | None = None,
) -> Judgements:
    """The judgements of a run.

    Args:
        run: the run.
        rubric: what the judgements are to be about. A score counts if its principle was asked in the same words, a
            comparison if the whole rubric was.
        progress: called with bytes as they are read.
        beside: called with every judgement, for what else is to be known of them: the file is read once.

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
        if beside:
            beside(judgement)
    return reader.judgements()


def _key(name: str) -> int:
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little", signed=True)


def _ints() -> array.array[int]:
    return array.array("q")


class _Reader:
    def __init__(self, run: Run, rubric: Rubric) -> None:
        self.run, self.rubric, self.principles = run, rubric.hash, rubric.principle_hashes()
        self.annotators: dict[str, int] = {}
        self.left_out: dict[str, Counter[str]] = {}
        self._excluded = {prompt.id for prompt in run.prompts() if prompt.excluded}
        self._asked: dict[str | None, frozenset[str]] = {}
        self._rated = (_ints(), _ints(), _ints(), _ints(), array.array("d"))
        self._compared = (_ints(), _ints(), _ints(), _ints(), _ints(), array.array("d"))

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
        if judgement.failure in NOT_ANSWERED:
            return NOT_ANSWERED[judgement.failure]
        if judgement.flags:
            if any(flag.startswith(ATTENTION) for flag in judgement.flags):
                return "to test attention"
            if ADJUDICATION in judgement.flags:
                return "to settle a conflict"
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
        prompt, response, annotator, sample, values = self._rated
        prompt.append(_key(rating.prompt_id))
        response.append(_key(rating.response_id))
        annotator.append(who)
        sample.append(rating.sample)
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
        prompt, first, second, annotator, sample, wins = self._compared
        prompt.append(_key(asked.prompt_id))
        first.append(_key(a))
        second.append(_key(b))
        annotator.append(who)
        sample.append(asked.sample)
        wins.append(WINS[winner])
        wins.extend(WINS[principles.get(name)] for name in self.principles)

    def _places(self) -> Ints:
        """The place of each annotator among the sorted names, so that nothing depends on who came first."""
        names = list(self.annotators)
        places = np.empty(len(names), dtype=np.int64)
        places[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names))
        return places

    def judgements(self) -> Judgements:
        """All that was taken."""
        names = tuple(sorted(self.annotators))
        models = np.asarray([is_model(name) for name in names], dtype=bool)
        each = self._each()
        rated, compared = each.ratings, each.verdicts
        rated = rated[_counting(models, rated.annotator, each.rating_sample, rated.response)]
        compared = compared[_counting(models, compared.annotator, each.verdict_sample, compared.low, compared.high)]
        return Judgements(names, one_rating_each(rated), one_verdict_each(compared), each, self.left_out)

    def _each(self) -> Each:
        places = self._places()
        prompt, response, annotator, sample = (np.asarray(one, dtype=np.int64) for one in self._rated[:4])
        scores = np.asarray(self._rated[4], dtype=np.float64).reshape(len(prompt), len(self.principles))
        rated = Ratings(prompt, response, places[annotator], scores)
        prompt, first, second, annotator, again = (np.asarray(one, dtype=np.int64) for one in self._compared[:5])
        wins = np.asarray(self._compared[5], dtype=np.float64).reshape(len(prompt), 1 + len(self.principles))
        low_first = first < second
        low, high = np.where(low_first, first, second), np.where(low_first, second, first)
        wins = np.where(low_first[:, None], wins, 1 - wins)
        return Each(rated, sample, Verdicts(prompt, low, high, low_first, places[annotator], wins), again)


def _counting(models: Bools, annotator: Ints, sample: Ints, *question: Ints) -> Bools:
    """Which answers count between annotators [n]: all of models, the first sample of people."""
    repeated = ~models[annotator] & (sample > 0)
    if not repeated.any():
        return np.ones(len(sample), dtype=bool)
    order = np.lexsort((sample, *question, annotator))
    starts = _starts(annotator[order], *(column[order] for column in question))
    first = np.empty(len(sample), dtype=np.int64)
    first[order] = np.repeat(sample[order][starts], np.diff(starts, append=len(sample)))
    result: Bools = ~repeated | (sample == first)
    return result


def one_rating_each(rows: Ratings) -> Ratings:
    """An annotator's ratings of one response as one, sorted."""
    rows = rows[np.lexsort((rows.annotator, rows.response, rows.prompt))]
    starts = _starts(rows.prompt, rows.response, rows.annotator)
    return Ratings(rows.prompt[starts], rows.response[starts], rows.annotator[starts], _means(rows.scores, starts))


def one_verdict_each(rows: Verdicts) -> Verdicts:
    """An annotator's comparisons of two responses in one order as one, as they first came."""
    order = np.lexsort((rows.annotator, rows.low_first, rows.high, rows.low))
    starts = _starts(rows.low[order], rows.high[order], rows.low_first[order], rows.annotator[order])
    came = order[starts]
    merged = (np.sign(_means(rows.wins[order], starts) - 0.5) + 1) / 2
    by_time = np.argsort(came)
    one = rows[came[by_time]]
    return Verdicts(one.prompt, one.low, one.high, one.low_first, one.annotator, merged[by_time])


def _starts(*columns: Ints | Bools) -> Ints:
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
