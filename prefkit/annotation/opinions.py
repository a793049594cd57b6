"""What judges and people said about two responses of a run, as numbers to choose cases by.

Reads   judgements.jsonl (or .parquet), a file of rewards
Gives   Opinions: for two responses, how far each judge and the people prefer the one to the other, from 0 to 1

A judge that compared two responses speaks with two voices, one for each order in which it was asked; over samples its
answers are averaged, and a probability that it gave counts for more than the word. A judge that only rated them speaks
with one: the logistic of the gap between its two scores, in units of its usual gap. People are taken together.
"""

from __future__ import annotations

import array
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from prefkit.annotation.cases import Fit, Floats, Ints, find, key_of, pair_keys
from prefkit.durable import explained_disk_errors, read_lines
from prefkit.errors import InputError
from prefkit.records import Choice, Comparison, Judgement, Rating, is_model
from prefkit.run import Run

WINS = {"a": 1.0, "tie": 0.5, "b": 0.0}
PEOPLE = "people"


class Opinion:
    """What one judge, or the people together, said.

    ``pairs`` are sorted keys of two responses, ``preference`` [n, 2] how far the one of the lower key was preferred
    when it was shown first and second, NaN where it was not; ``scores`` [responses] are overall scores, NaN
    where there are none.
    """

    def __init__(self, pairs: Ints, preference: Floats, scores: Floats, usual_gap: float) -> None:
        self.pairs, self.preference, self.scores, self.usual_gap = pairs, preference, scores, usual_gap

    def voices(self, fit: Fit, left: Ints, right: Ints) -> Floats:
        """How far ``left`` [n] is preferred to ``right`` [n], as ``Fit.pairs`` gives them, the one of the lower key
        first: [n, 2], NaN for a voice that is not there."""
        at = find(self.pairs, pair_keys(fit.key[left], fit.key[right]))
        found = np.full((len(left), 2), np.nan)
        if len(self.pairs):
            found = np.where((at >= 0)[:, None], self.preference[at], np.nan)
        silent = np.isnan(found).all(axis=1)
        gap = self.scores[left[silent]] - self.scores[right[silent]]
        found[silent, 0] = logistic(gap / self.usual_gap)
        return found


class Opinions:
    """All that was said about the fit responses of a run.

    ``judges`` by name; ``people`` None where nobody answered. ``compared`` are the sorted keys of what a person
    compared, ``rated`` [fit] whether a person rated it.

    Args:
        run: the run.
        fit: its responses.
        judges: whether the models' judgements are wanted; it is quicker without.

    Raises:
        RecordError: a line is not a judgement.
    """

    def __init__(self, run: Run, fit: Fit, *, judges: bool = True) -> None:
        reader = _Reader(run, fit)
        for judgement in run.judgements():
            if judges or not is_model(judgement.annotator):
                reader.take(judgement)
        self.judges = {name: reader.opinion(name) for name in sorted(reader.names) if name != PEOPLE}
        people = reader.opinion(PEOPLE) if PEOPLE in reader.names else None
        self.people = people
        self.compared = people.pairs if people else np.empty(0, np.int64)
        self.rated = ~np.isnan(people.scores) if people else np.zeros(len(fit), dtype=bool)

    def of_judges(self, fit: Fit, left: Ints, right: Ints) -> Floats:
        """The voices of all judges: [n, judges, 2], NaN where one is not there."""
        voices = [judge.voices(fit, left, right) for judge in self.judges.values()]
        return np.stack(voices, axis=1) if voices else np.full((len(left), 0, 2), np.nan)


def mean_of(voices: Floats) -> Floats:
    """The preference [n] over voices [n, judges, 2]: each order of a judge counts the same, and each judge; NaN where
    nobody spoke."""
    return _nan_mean(_nan_mean(voices))


def logistic(log_odds: Floats) -> Floats:
    """The probability."""
    return 0.5 * (1 + np.tanh(log_odds / 2))


def variance_of(voices: Floats) -> Floats:
    """The variance [n] between all voices [n, judges, 2] that are there, each counting the same; NaN for fewer than
    two."""
    flat = voices.reshape(len(voices), -1)
    known = ~np.isnan(flat)
    off = flat - _nan_mean(flat)[:, None]
    found = _nan_mean(off**2)
    return np.where(known.sum(axis=1) > 1, found, math.nan)


def even(preference: Floats) -> Floats:
    """1 where neither of two is preferred, 0 where one is for certain."""
    return 1 - 2 * np.abs(preference - 0.5)


def _nan_mean(values: Floats) -> Floats:
    known = ~np.isnan(values)
    count = known.sum(axis=-1)
    total = np.where(known, values, 0.0).sum(axis=-1)
    return np.divide(total, count, out=np.full(total.shape, math.nan), where=count > 0)


@dataclass
class _Said:
    pair: array.array[int] = field(default_factory=lambda: array.array("q"))
    low_first: array.array[int] = field(default_factory=lambda: array.array("b"))
    win: array.array[float] = field(default_factory=lambda: array.array("d"))
    row: array.array[int] = field(default_factory=lambda: array.array("q"))
    score: array.array[float] = field(default_factory=lambda: array.array("d"))


class _Reader:
    """Collects what counts under the rubric in use, as the other stages do."""

    def __init__(self, run: Run, fit: Fit) -> None:
        self._run, self._rubric, self._fit = run, run.rubric, fit
        self._order = np.argsort(fit.key)
        self._sorted = fit.key[self._order]
        self._all = frozenset(self._rubric.principle_ids)
        self._comparable: dict[str | None, bool] = {}
        self.names: dict[str, _Said] = {}

    def take(self, judgement: Judgement) -> None:
        if judgement.failure is not None or any(flag.startswith("attention:") for flag in judgement.flags):
            return
        if isinstance(judgement, Rating):
            self._rate(judgement)
        elif judgement.rubric != self._run.info.rubric:
            return
        elif isinstance(judgement, Comparison):
            if judgement.winner is not None:
                win = WINS[judgement.winner] if judgement.preference is None else 1 - judgement.preference
                self._compare(judgement.annotator, judgement.a, judgement.b, win)
        else:
            self._choose(judgement)

    def _said(self, annotator: str) -> _Said:
        name = annotator if is_model(annotator) else PEOPLE
        if name not in self.names:
            self.names[name] = _Said()
        return self.names[name]

    def _rate(self, rating: Rating) -> None:
        if rating.rubric not in self._comparable:
            self._comparable[rating.rubric] = self._run.comparable(rating.rubric) == self._all
        given = {name: score for name, score in rating.scores.items() if score is not None}
        if self._comparable[rating.rubric] and given.keys() >= self._all:
            said = self._said(rating.annotator)
            said.row.append(key_of(rating.response_id))
            said.score.append(self._rubric.overall(given))

    def _compare(self, annotator: str, a: str, b: str, win: float) -> None:
        said, first, second = self._said(annotator), key_of(a), key_of(b)
        said.pair.extend((first, second))
        said.low_first.append(first < second)
        said.win.append(win if first < second else 1 - win)

    def _choose(self, choice: Choice) -> None:
        """The best of k counts as k-1 comparisons."""
        if choice.best is not None and 0 <= choice.best < len(choice.responses):
            for place, other in enumerate(choice.responses):
                best = choice.responses[choice.best]
                if place < choice.best:
                    self._compare(choice.annotator, other, best, 0.0)
                elif place > choice.best:
                    self._compare(choice.annotator, best, other, 1.0)

    def opinion(self, name: str) -> Opinion:
        said = self.names[name]
        both = np.asarray(said.pair, dtype=np.int64).reshape(-1, 2)
        keys, at = np.unique(pair_keys(both[:, 0], both[:, 1]), return_inverse=True)
        win, low_first = np.asarray(said.win), np.asarray(said.low_first, dtype=bool)
        columns = [_mean_at(at[side], win[side], len(keys)) for side in (low_first, ~low_first)]
        place = find(self._sorted, np.asarray(said.row, dtype=np.int64))
        known = place >= 0
        scores = _mean_at(self._order[place[known]], np.asarray(said.score)[known], len(self._fit))
        return Opinion(keys, np.column_stack(columns), scores, self._usual_gap(scores))

    def _usual_gap(self, scores: Floats) -> float:
        """The root mean square of the gaps between responses to one prompt that follow each other; 1 where there is
        none."""
        rated = np.flatnonzero(~np.isnan(scores))
        next_to = self._fit.prompt[rated[1:]] == self._fit.prompt[rated[:-1]]
        gaps = np.diff(scores[rated])[next_to]
        return float(np.sqrt(np.mean(gaps**2))) if (gaps != 0).any() else 1.0


def _mean_at(place: Ints, values: Floats, size: int) -> Floats:
    """The mean of the values [n] at each place, [size]; NaN where there are none."""
    count = np.bincount(place, minlength=size)
    total = np.bincount(place, values, size)
    return np.divide(total, count, out=np.full(size, math.nan), where=count > 0)


class Reward(msgspec.Struct):
    """A line of a file of rewards; further columns are passed over."""

    response_id: str
    reward: float


def read_rewards(path: Path, fit: Fit) -> Floats:
    """The rewards [fit] in a file of the columns ``response_id`` and ``reward``, JSONL or Parquet; NaN where it has
    none. Only differences between responses to one prompt are used, in log-odds.

    Raises:
        InputError: the file is not there, not such a table, or names none of the responses.
    """
    keys, rewards = array.array("q"), array.array("d")
    for row in _reward_rows(path):
        keys.append(key_of(row.response_id))
        rewards.append(row.reward)
    order = np.argsort(fit.key)
    place = find(fit.key[order], np.asarray(keys, dtype=np.int64))
    known = place >= 0
    if not known.any():
        raise InputError(path, "no response of this run", "rewards by response_id", "Name the rewards of this run.")
    return _mean_at(order[place[known]], np.asarray(rewards)[known], len(fit))


def _reward_rows(path: Path) -> Iterable[Reward]:
    expected, remedy = "a line for each response: response_id, reward", "Write such a file, JSONL or Parquet."
    if not path.exists():
        raise InputError(path, "no file", expected, remedy)
    if path.suffix == ".parquet":
        from pyarrow import ArrowException, parquet

        try:
            with explained_disk_errors(path):
                for batch in parquet.ParquetFile(path).iter_batches(1 << 16, columns=["response_id", "reward"]):
                    yield from msgspec.convert(batch.to_pylist(), list[Reward])
        except (ArrowException, OSError, msgspec.ValidationError) as error:
            raise InputError(path, str(error), expected, remedy) from None
        return
    decode = msgspec.json.Decoder(Reward).decode
    for number, line in read_lines(path):
        try:
            yield decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InputError(f"{path}:{number}", str(error), expected, remedy) from None
