"""Who was preferred to whom: the judgements of a run, or the rewards of its responses, as arrays.

Reads   prompts, responses, judgements of a run; or rewards.jsonl and the prompts and responses beside it
Gives   Outcomes: a row for each two responses by different policies, judge and order shown

A comparison is a row as it was shown. A choice of the best of k is k-1 rows. Ratings of two responses to a prompt by
one annotator are a row, by the sign of their difference, where that annotator did not compare the two. Rewards are
such ratings, and the reward model is the judge. ``balanced`` then makes one row of the two orders in which a judge was
asked. What is not a row is counted by reason; an answer that is missing is never a loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from prefkit.durable import read_lines
from prefkit.errors import PrefkitError, RecordError, RunError
from prefkit.evaluation.outcome_rows import Builder, Texts, counts, need_judges, nothing_counts, unanswered
from prefkit.evaluation.outcome_table import (
    KINDS,
    ONE_ORDER,
    UNKNOWN,
    Bools,
    Floats,
    Ints,
    Kind,
    Outcomes,
    balanced,
    known,
    rounded,
)
from prefkit.records import Choice, Comparison, Judged, Judgement, Rating, Winner
from prefkit.run import Run

__all__ = [
    "KINDS",
    "ONE_ORDER",
    "UNKNOWN",
    "Bools",
    "Floats",
    "Ints",
    "Kind",
    "Outcomes",
    "balanced",
    "known",
    "reward_heads",
    "reward_outcomes",
    "rounded",
    "run_outcomes",
]

WINS: dict[Winner | None, float] = {"a": 1.0, "tie": 0.5, "b": 0.0, None: math.nan}
OTHER_RUBRIC = "under another rubric"
UNREADABLE = "unreadable"


def run_outcomes(
    run: Run,
    principle: str | None = None,
    *,
    judges: Sequence[str] | None = None,
    policies: Sequence[str] | None = None,
    discrete: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Outcomes:
    """The outcomes of a run's judgements under the rubric in use.

    Args:
        run: the run.
        principle: who is preferred on this principle; None for the whole.
        judges: annotators that count, or ``llm`` and ``human`` for all of a kind; None for everybody.
        policies: those that count, in this order; None for all, sorted.
        discrete: take who won, even where a judge gave a probability.
        progress: told the bytes of judgements that were read.

    Raises:
        RunError: there are no judgements, or none that can be counted; the message says why.
        PrefkitError: a policy, judge or principle that is not there.
        RecordError: a line is not a record.
    """
    if run.file(Judgement) is None:
        remedy = f"Ask a model (prefkit judge {run.path}) or import some (prefkit import judgements {run.path} FILE)."
        raise RunError(run.path, "no judgements", "ratings, comparisons or choices", remedy)
    if principle is not None:
        known(principle, run.rubric.principle_ids, "principle", run.path)
    reader = _Judgements(Texts(run, policies), run, principle, judges, discrete)
    for judgement in run.judgements(progress):
        reader.take(judgement)
    return reader.outcomes()


class _Reward(msgspec.Struct, frozen=True):
    """What is read of a line of ``rewards.jsonl``."""

    model: str
    prompt_id: str
    response_id: str
    policy: str
    reward: float | None
    heads: dict[str, float] = {}


def reward_outcomes(
    rewards: Path,
    run: Run | None = None,
    principle: str | None = None,
    *,
    models: Sequence[str] | None = None,
    policies: Sequence[str] | None = None,
) -> Outcomes:
    """The outcomes that reward models see: of two responses to a prompt the one with the higher reward is preferred.

    Args:
        rewards: what ``prefkit score`` wrote. Of two rewards of one model for one response the later one counts.
        run: where the lengths of responses and the topics of prompts are looked up; prompts that it excludes are left
            out.
        principle: by the reward of this head; None for the overall one.
        models: reward models that count; None for all.
        policies: those that count, in this order; None for all, sorted.

    Raises:
        PrefkitError: there are no such rewards, policies, models or principle.
        RecordError: a line is not a reward.
    """
    if not rewards.exists():
        remedy = "Write it: prefkit score RUN --rm NAME"
        raise PrefkitError(rewards, "no such file", "the rewards of responses", remedy)
    lines = list(_reward_lines(rewards))
    there = sorted({line.model for line in lines})
    for name in models or ():
        known(name, there, "reward model", rewards)
    texts = Texts(run, policies, ((line.response_id, line.prompt_id, line.policy) for line in lines))
    builder = Builder(texts, str(rewards))
    heads = sorted({head for line in lines for head in line.heads})
    if principle is not None:
        known(principle, heads, "head", rewards)
    latest = {(line.model, line.response_id): line for line in lines if models is None or line.model in models}
    for line in latest.values():
        response = texts.wanted(line.response_id)
        value = line.reward if principle is None else line.heads.get(principle)
        if response is None:
            continue  # of other policies
        if texts.excluded(response):
            builder.left_out["on excluded prompts"] += 1
        elif value is None:
            builder.left_out["without a reward"] += 1
        else:
            builder.rating(f"rm:{line.model}", response, 0, value)
    outcomes = builder.outcomes("reward")
    if not len(outcomes):
        raise PrefkitError(rewards, nothing_counts(outcomes, policies), "rewards of two policies on one prompt", _SCORE)
    return outcomes


def reward_heads(rewards: Path) -> list[str]:
    """The principles on which a file of rewards says something, sorted.

    Raises:
        RecordError: a line is not a reward.
    """
    return sorted({head for line in _reward_lines(rewards) for head in line.heads})


_SCORE = "Score the responses of both: prefkit score RUN --rm NAME"


def _reward_lines(path: Path) -> list[_Reward]:
    decode = msgspec.json.Decoder(_Reward).decode
    found = []
    for number, line in read_lines(path):
        try:
            found.append(decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            remedy = "prefkit score wrote this file; mend the line, or remove the file and score again."
            raise RecordError(f"{path.name}:{number}", str(error), "a reward as prefkit writes it", remedy) from None
    return found


class _Judgements:
    """A run's judgements, one by one."""

    def __init__(
        self, texts: Texts, run: Run, principle: str | None, judges: Sequence[str] | None, discrete: bool
    ) -> None:
        self.run, self.principle, self.discrete, self.texts = run, principle, discrete, texts
        self.builder = Builder(texts, str(run.path))
        self._judges = judges
        self._there: dict[str, bool] = {}
        self._asked: dict[str | None, frozenset[str]] = {}

    def take(self, judgement: Judgement) -> None:
        """Add a judgement, or count why not."""
        if not self._counts(judgement.annotator):
            return
        responses = _responses(judgement)
        places = [place for place in map(self.texts.wanted, responses) if place is not None]
        left_out = self.builder.left_out
        if any(map(self.texts.unheard_of, responses)):
            left_out["of responses that the run does not hold"] += 1
        elif len(places) < min(2, len(responses)):
            return  # of other policies
        elif any(map(self.texts.excluded, places)):
            left_out["on excluded prompts"] += 1
        elif reason := self._unfit(judgement):
            left_out[reason] += 1
        elif isinstance(judgement, Rating):
            self._rating(judgement, places[0])
        elif isinstance(judgement, Comparison):
            self._comparison(judgement, places[0], places[1])
        else:
            self._choice(judgement)

    def _counts(self, annotator: str) -> bool:
        if annotator not in self._there:
            self._there[annotator] = counts(annotator, self._judges)
        return self._there[annotator]

    def _unfit(self, judgement: Judgement) -> str | None:
        if reason := unanswered(judgement):
            return reason
        if not _was_read(judgement):
            return UNREADABLE
        return None if self._same_rubric(judgement) else OTHER_RUBRIC

    def _same_rubric(self, judgement: Judged) -> bool:
        if not isinstance(judgement, Rating):
            return judgement.rubric == self.run.info.rubric
        if judgement.rubric not in self._asked:
            self._asked[judgement.rubric] = self.run.comparable(judgement.rubric)
        asked = self._asked[judgement.rubric]
        return self.principle in asked if self.principle else len(asked) == len(self.run.rubric.principles)

    def _rating(self, rating: Rating, place: int) -> None:
        score = self._score(rating.scores)
        if score is None:
            self.builder.left_out["incomplete ratings"] += 1
        else:
            self.builder.rating(rating.annotator, place, rating.sample, score)

    def _score(self, scores: Mapping[str, float | None]) -> float | None:
        if self.principle:
            return scores.get(self.principle)
        given = {name: score for name in self.run.rubric.principle_ids if (score := scores.get(name)) is not None}
        return self.run.rubric.overall(given) if len(given) == len(self.run.rubric.principles) else None

    def _comparison(self, comparison: Comparison, a: int, b: int) -> None:
        if self.principle:
            win = WINS[comparison.principles.get(self.principle)]
        elif comparison.preference is not None and not self.discrete:
            win = 1 - comparison.preference
        else:
            win = WINS[comparison.winner]
        if math.isnan(win):
            self.builder.left_out[f"without an answer about {self.principle}"] += 1
        else:
            self.builder.shown(comparison.annotator, a, b, win, "comparison")

    def _choice(self, choice: Choice) -> None:
        """The best of k counts as k-1 comparisons; who stands earlier in the list was shown first."""
        if self.principle:
            self.builder.left_out[f"without an answer about {self.principle}"] += 1
            return
        best = choice.best or 0
        chosen = self.texts.wanted(choice.responses[best])
        for place, name in enumerate(choice.responses):
            other = self.texts.wanted(name)
            if chosen is not None and other is not None and place < best:
                self.builder.shown(choice.annotator, other, chosen, 0.0, "choice")
            elif chosen is not None and other is not None and place > best:
                self.builder.shown(choice.annotator, chosen, other, 1.0, "choice")

    def outcomes(self) -> Outcomes:
        """All that was taken.

        Raises:
            PrefkitError: a judge, or a kind of judge, that is not in the run.
            RunError: there is no row.
        """
        need_judges(self._judges, self._there, self.run.path)
        outcomes = self.builder.outcomes()
        if not len(outcomes):
            policies = self.texts.policies if len(self.texts.policies) == 2 else None
            remedy = f"Ask a judge about both: prefkit judge {self.run.path} --judge MODEL --mode compare"
            if outcomes.left_out.get(OTHER_RUBRIC):
                remedy = (
                    f"Judge again by the rubric in use (prefkit judge {self.run.path}), or put the other back in use."
                )
            raise RunError(self.run.path, nothing_counts(outcomes, policies), "judgements of two policies", remedy)
        return outcomes


def _responses(judgement: Judgement) -> tuple[str, ...]:
    if isinstance(judgement, Rating):
        return (judgement.response_id,)
    return (judgement.a, judgement.b) if isinstance(judgement, Comparison) else judgement.responses


def _was_read(judgement: Judgement) -> bool:
    if isinstance(judgement, Rating):
        return judgement.failure is None
    if isinstance(judgement, Comparison):
        return judgement.winner is not None
    return judgement.best is not None and 0 <= judgement.best < len(judgement.responses)
