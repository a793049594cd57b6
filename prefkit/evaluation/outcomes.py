"""Who was preferred to whom: the judgements of a run, or the rewards of its responses, as arrays.

Reads   prompts, responses, judgements of a run; or rewards.jsonl and the prompts and responses beside it
Gives   Outcomes: a row for each two responses by different policies, judge and order shown

A comparison is a row as it was shown. A choice of the best of k is k-1 rows. Ratings of two responses to a prompt by
one annotator are a row, by the sign of their difference, where that annotator did not compare the two. Rewards are
such ratings, and the reward model is the judge. ``balanced`` then makes one row of the two orders in which a judge was
asked. What is not a row is counted by reason; an answer that is missing is never a loss.
"""

from __future__ import annotations

import array
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from prefkit.durable import read_lines
from prefkit.errors import PrefkitError, RecordError, RunError
from prefkit.records import (
    UNANSWERED,
    Choice,
    Comparison,
    Judged,
    Judgement,
    Rating,
    Winner,
    is_attention,
    is_model,
)
from prefkit.rubric import DECIMALS
from prefkit.run import Run

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Kind = Literal["comparison", "choice", "rating", "reward"]
KINDS: tuple[Kind, ...] = ("comparison", "choice", "rating", "reward")
"""What a row comes from, by its code; the first two were shown in an order."""
WINS: dict[Winner | None, float] = {"a": 1.0, "tie": 0.5, "b": 0.0, None: math.nan}
ONE_ORDER = "asked of a model in one order only"
OTHER_RUBRIC = "under another rubric"
UNREADABLE = "unreadable"
UNKNOWN = -1
"""The length of a response whose text is not known, and the topic of a prompt that has none."""
EVERYONE = {"llm": "all models", "human": "all people"}
"""Names that stand for all judges of a kind."""


@dataclass(frozen=True)
class Outcomes:
    """Who was preferred in n comparisons of two policies.

    Args:
        prompt: [n] codes of prompts, which are the clusters.
        judge: [n] codes of annotators or reward models.
        first, second: [n] codes of policies; of a run ``first`` < ``second``, in the order asked for.
        preferred: [n] the probability that ``first`` is preferred: 1, 0, 0.5 for a tie, or between them.
        shown_first: [n] whether ``first`` stood in slot A; False where nothing was shown in an order (``ordered``);
            None where nothing at all was.
        length_first, length_second: [n] characters, ``UNKNOWN`` where there is no text.
        topic: [n] codes of topics, ``UNKNOWN`` where the prompt has none.
        pair: [n] codes of the two responses, as a policy may have several to a prompt.
        kind: [n] codes of ``KINDS``.
        prompts, judges, policies, topics: the names behind the codes.
        left_out: judgements that are no row, by reason.
        source: the run or file.
    """

    prompt: Ints
    judge: Ints
    first: Ints
    second: Ints
    preferred: Floats
    shown_first: Bools | None
    length_first: Ints
    length_second: Ints
    topic: Ints
    pair: Ints
    kind: Ints
    prompts: tuple[str, ...]
    judges: tuple[str, ...]
    policies: tuple[str, ...]
    topics: tuple[str, ...]
    left_out: dict[str, int] = field(default_factory=dict)
    source: str = ""

    def __len__(self) -> int:
        return len(self.prompt)

    def __getitem__(self, rows: Ints | Bools) -> Outcomes:
        """Some of the rows, with the same names."""
        arrays = {one.name: getattr(self, one.name) for one in fields(self)}
        some: dict[str, Any] = {name: one[rows] for name, one in arrays.items() if isinstance(one, np.ndarray)}
        return replace(self, **some)

    @property
    def ordered(self) -> Bools:
        """Which rows [n] were shown in an order."""
        ordered: Bools = (self.kind < KINDS.index("rating")) & (self.shown_first is not None)
        return ordered

    def between(self, policy: str, baseline: str) -> Outcomes:
        """The rows of two policies, turned so that ``first`` is the policy (code 0) and ``second`` the baseline.

        Raises:
            PrefkitError: there is no such policy.
        """
        codes = [known(name, self.policies, "policy", self.source) for name in (policy, baseline)]
        as_is = (self.first == codes[0]) & (self.second == codes[1])
        turned = (self.first == codes[1]) & (self.second == codes[0])
        rows = np.flatnonzero(as_is | turned)
        some, back = self[rows], turned[rows]
        shown = some.shown_first
        return Outcomes(
            prompt=some.prompt,
            judge=some.judge,
            first=np.zeros(len(rows), np.int64),
            second=np.ones(len(rows), np.int64),
            preferred=np.where(back, 1 - some.preferred, some.preferred),
            shown_first=None if shown is None else shown ^ (back & some.ordered),
            length_first=np.where(back, some.length_second, some.length_first),
            length_second=np.where(back, some.length_first, some.length_second),
            topic=some.topic,
            pair=some.pair,
            kind=some.kind,
            prompts=self.prompts,
            judges=self.judges,
            policies=(policy, baseline),
            topics=self.topics,
            left_out=self.left_out,
            source=self.source,
        )


def known(name: str, names: Sequence[str], what: str, where: object) -> int:
    """The place of a name.

    Raises:
        PrefkitError: it is not among the names; the message gives them.
    """
    if name in names:
        return list(names).index(name)
    there = ", ".join(sorted(names)[:20]) + (f" and {len(names) - 20} more" if len(names) > 20 else "")
    raise PrefkitError(where, f"no {what} {name!r}", f"one of {there or 'none'}", "Copy a name from the list.")


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
    reader = _Judgements(_Texts(run, policies), run, principle, judges, discrete)
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
    texts = _Texts(run, policies, lines)
    builder = _Builder(texts, str(rewards))
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
        raise PrefkitError(rewards, _nothing(outcomes, policies), "rewards of two policies on one prompt", _SCORE)
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


class _Texts:
    """The responses that may count: their prompt, policy, length; the prompts' topics."""

    def __init__(self, run: Run | None, policies: Sequence[str] | None, rewards: Sequence[_Reward] = ()) -> None:
        self.prompts: dict[str, int] = {}
        self.topics: dict[str, int] = {}
        self._topic_of: dict[str, int] = {}
        self._excluded: set[str] = set()
        for prompt in run.prompts() if run else ():
            if prompt.excluded:
                self._excluded.add(prompt.id)
            if prompt.topic is not None:
                self._topic_of[prompt.id] = self.topics.setdefault(prompt.topic, len(self.topics))
        owners: dict[str, tuple[str, str, int]] = {}
        for line in rewards:
            owners[line.response_id] = line.prompt_id, line.policy, UNKNOWN
        for response in run.responses() if run else ():
            if not rewards or response.id in owners:
                length = UNKNOWN if response.text is None else len(response.text)
                owners[response.id] = response.prompt_id, response.policy, length
        there = sorted({policy for _, policy, _ in owners.values()})
        for name in policies or ():
            known(name, there, "policy", run.path if run else "rewards")
        self.policies = tuple(dict.fromkeys(policies)) if policies else tuple(there)
        code = {name: place for place, name in enumerate(self.policies)}
        self._index: dict[str, int] = {}
        prompt_codes: list[int] = []
        policy_codes: list[int] = []
        lengths: list[int] = []
        topics: list[int] = []
        out: list[bool] = []
        for name, (prompt_id, policy, length) in owners.items():
            if policy in code:
                self._index[name] = len(prompt_codes)
                prompt_codes.append(self.prompts.setdefault(prompt_id, len(self.prompts)))
                policy_codes.append(code[policy])
                lengths.append(length)
                topics.append(self._topic_of.get(prompt_id, UNKNOWN))
                out.append(prompt_id in self._excluded)
        self._others = owners.keys() - self._index.keys()
        self.prompt, self.policy = np.asarray(prompt_codes, np.int64), np.asarray(policy_codes, np.int64)
        self.length, self.topic = np.asarray(lengths, np.int64), np.asarray(topics, np.int64)
        self._out = out

    def wanted(self, name: str) -> int | None:
        """The place of a response, if it is by a policy that counts."""
        return self._index.get(name)

    def unheard_of(self, name: str) -> bool:
        """Whether nobody knows this response."""
        return name not in self._index and name not in self._others

    def excluded(self, response: int) -> bool:
        """Whether the prompt of a response is excluded."""
        return self._out[response]


class _Builder:
    """Rows from comparisons and from ratings, as they come."""

    def __init__(self, texts: _Texts, source: str) -> None:
        self.texts, self.source = texts, source
        self.judges: dict[str, int] = {}
        self.left_out: Counter[str] = Counter()
        self._shown = (array.array("q"), array.array("q"), array.array("q"), array.array("q"), array.array("d"))
        self._rated = (array.array("q"), array.array("q"), array.array("q"), array.array("d"))

    def _judge(self, name: str) -> int:
        return self.judges.setdefault(name, len(self.judges))

    def shown(self, judge: str, a: int, b: int, win: float, kind: Kind) -> None:
        """Add two responses as they were shown; ``win`` is the probability that ``a`` is preferred."""
        if self.texts.policy[a] == self.texts.policy[b]:
            self.left_out["between two responses of one policy"] += 1
        elif self.texts.prompt[a] != self.texts.prompt[b]:
            self.left_out["across prompts"] += 1
        else:
            who, one, other, kinds, wins = self._shown
            who.append(self._judge(judge))
            one.append(a)
            other.append(b)
            kinds.append(KINDS.index(kind))
            wins.append(win)

    def rating(self, judge: str, response: int, sample: int, score: float) -> None:
        """Add a score for one response."""
        who, rated, samples, scores = self._rated
        who.append(self._judge(judge))
        rated.append(response)
        samples.append(sample)
        scores.append(score)

    def outcomes(self, kind: Kind = "rating") -> Outcomes:
        """All rows, sorted by prompt, pair, judge; ``kind`` is what the scores are."""
        judge, a, b, kinds = (np.asarray(one, np.int64) for one in self._shown[:4])
        win = np.asarray(self._shown[4], np.float64)
        scores = self._scores(kind)
        size = len(self.texts.prompt)
        compared = _keys(judge, np.minimum(a, b), np.maximum(a, b), size)
        rated = _keys(scores[0], np.minimum(scores[1], scores[2]), np.maximum(scores[1], scores[2]), size)
        new = ~np.isin(rated, compared)
        judge = np.concatenate([judge, scores[0][new]])
        a, b = np.concatenate([a, scores[1][new]]), np.concatenate([b, scores[2][new]])
        win = np.concatenate([win, scores[3][new]])
        kinds = np.concatenate([kinds, np.full(int(new.sum()), KINDS.index(kind))])
        return self._oriented(judge, a, b, win, kinds)

    def _oriented(self, judge: Ints, a: Ints, b: Ints, win: Floats, kinds: Ints) -> Outcomes:
        policy = self.texts.policy
        forward = policy[a] < policy[b]
        first, second = np.where(forward, a, b), np.where(forward, b, a)
        _, pair = np.unique(np.stack([first, second], axis=1), axis=0, return_inverse=True)
        pair = pair.reshape(-1).astype(np.int64)
        order = np.lexsort((~forward, judge, pair, self.texts.prompt[first]))
        first, second, forward, kinds = first[order], second[order], forward[order], kinds[order]
        shown = kinds < KINDS.index("rating")
        return Outcomes(
            prompt=self.texts.prompt[first],
            judge=judge[order],
            first=policy[first],
            second=policy[second],
            preferred=np.where(forward, win[order], 1 - win[order]),
            shown_first=(forward & shown) if shown.any() else None,
            length_first=self.texts.length[first],
            length_second=self.texts.length[second],
            topic=self.texts.topic[first],
            pair=pair[order],
            kind=kinds,
            prompts=tuple(self.texts.prompts),
            judges=tuple(self.judges),
            policies=self.texts.policies,
            topics=tuple(self.texts.topics),
            left_out=dict(+self.left_out),
            source=self.source,
        )

    def _scores(self, kind: Kind) -> tuple[Ints, Ints, Ints, Floats]:
        """Judge, two responses, win of the first, for each two rated by one annotator on one prompt."""
        judge, response, sample = (np.asarray(one, np.int64) for one in self._rated[:3])
        judge, response, score = _one_each(
            judge, response, sample, np.asarray(self._rated[3]), self._first_counts(kind)
        )
        order = np.lexsort((response, judge, self.texts.prompt[response]))
        judge, response, score = judge[order], response[order], score[order]
        group = _keys(judge, self.texts.prompt[response], np.zeros_like(judge), 1 + len(self.texts.prompts))
        left, right = _within(group)
        other = self.texts.policy[response[left]] != self.texts.policy[response[right]]
        left, right = left[other], right[other]
        win = (np.sign(np.round(score[left] - score[right], DECIMALS)) + 1) / 2
        return judge[left], response[left], response[right], win

    def _first_counts(self, kind: Kind) -> Bools:
        """Of which judges [judges] the first answer counts and not the mean: people, who are asked again to see whether
        they answer the same."""
        return np.asarray([kind == "rating" and not is_model(name) for name in self.judges], dtype=bool)


def _keys(judge: Ints, one: Ints, other: Ints, size: int) -> Ints:
    keys: Ints = (judge * size + one) * size + other
    return keys


def _one_each(
    judge: Ints, response: Ints, sample: Ints, score: Floats, first_counts: Bools
) -> tuple[Ints, Ints, Floats]:
    """One score for each judge and response: the mean over repeats, or the first."""
    if not len(judge):
        return judge, response, score
    order = np.lexsort((sample, response, judge))
    judge, response, score = judge[order], response[order], score[order]
    starts = np.flatnonzero((np.diff(judge, prepend=-1) != 0) | (np.diff(response, prepend=-1) != 0))
    mean = np.add.reduceat(score, starts) / np.diff(starts, append=len(judge))
    return judge[starts], response[starts], np.where(first_counts[judge[starts]], score[starts], mean)


def _within(group: Ints) -> tuple[Ints, Ints]:
    """The places of each two rows of one group, where the rows of a group stand together."""
    lefts, rights = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for distance in range(1, len(group)):
        left = np.flatnonzero(group[:-distance] == group[distance:])
        if not len(left):
            break
        lefts.append(left)
        rights.append(left + distance)
    return np.concatenate(lefts), np.concatenate(rights)


class _Judgements:
    """A run's judgements, one by one."""

    def __init__(
        self, texts: _Texts, run: Run, principle: str | None, judges: Sequence[str] | None, discrete: bool
    ) -> None:
        self.run, self.principle, self.discrete, self.texts = run, principle, discrete, texts
        self.builder = _Builder(texts, str(run.path))
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
            kind = annotator.partition(":")[0]
            self._there[annotator] = self._judges is None or annotator in self._judges or kind in self._judges
        return self._there[annotator]

    def _unfit(self, judgement: Judgement) -> str | None:
        if is_attention(judgement):
            return "to test attention"
        if judgement.failure in UNANSWERED:
            return "left as drafts or discarded"
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
            PrefkitError: a judge that is not in the run.
            RunError: there is no row.
        """
        for name in self._judges or ():
            if name not in EVERYONE:
                known(name, list(self._there), "judge", self.run.path)
        outcomes = self.builder.outcomes()
        if not len(outcomes):
            policies = self.texts.policies if len(self.texts.policies) == 2 else None
            remedy = f"See what there is: prefkit status {self.run.path}"
            if outcomes.left_out.get(OTHER_RUBRIC):
                remedy = (
                    f"Judge again by the rubric in use (prefkit judge {self.run.path}), or put the other back in use."
                )
            raise RunError(self.run.path, _nothing(outcomes, policies), "judgements of two policies", remedy)
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


def _nothing(outcomes: Outcomes, policies: Sequence[str] | None) -> str:
    """Why there is no row."""
    between = f" of {policies[0]} and {policies[1]} on one prompt" if policies and len(policies) == 2 else ""
    counted = ", ".join(f"{count:,} {reason}" for reason, count in outcomes.left_out.items())
    return f"0 prompts with a judgement{between} that counts" + f" (left out: {counted})" * bool(counted)


def rounded(outcomes: Outcomes) -> Outcomes:
    """The same with who won in place of a probability: 1, 0, or 0.5 for exactly one half."""
    return replace(outcomes, preferred=(np.sign(outcomes.preferred - 0.5) + 1) / 2)


def balanced(outcomes: Outcomes, *, both_orders: bool = True) -> Outcomes:
    """One row for each judge and two responses: each order counts the same, however often it was asked.

    A judge that picks by position ends at one half. ``kind`` is that of the first row; ``shown_first`` is None.

    Args:
        outcomes: n rows as they were shown.
        both_orders: leave out, and count, what a model was asked about in one order only.
    """
    order = np.lexsort((outcomes.judge, outcomes.pair))
    rows = outcomes[order]
    starts = np.flatnonzero((np.diff(rows.judge, prepend=-1) != 0) | (np.diff(rows.pair, prepend=-1) != 0))
    if not len(starts):
        return rows
    there = rows.shown_first if rows.shown_first is not None else np.zeros(len(rows), bool)
    means = []
    for side in (there, ~there):
        count = np.add.reduceat(side.astype(np.float64), starts)
        total = np.add.reduceat(np.where(side, rows.preferred, 0.0), starts)
        means.append(np.divide(total, count, out=np.full(len(starts), np.nan), where=count > 0))
    one_order = np.isnan(means[0]) | np.isnan(means[1])
    merged = np.where(np.isnan(means[0]), means[1], np.where(np.isnan(means[1]), means[0], (means[0] + means[1]) / 2))
    models = np.asarray([is_model(name) for name in outcomes.judges], dtype=bool)
    dropped = one_order & models[rows.judge[starts]] & rows.ordered[starts]
    keep = ~dropped if both_orders else np.ones(len(starts), bool)
    counted = {ONE_ORDER: int(dropped.sum())} if both_orders and dropped.any() else {}
    some = rows[starts[keep]]
    by_prompt = np.argsort(some.prompt, kind="stable")
    kept = replace(some, preferred=merged[keep], shown_first=None, left_out=outcomes.left_out | counted)
    return kept[by_prompt]
