"""Rows of outcomes from comparisons and from scores, as they come.

Texts says which responses count, by whom they are and how long; Builder takes what was said of them and makes Outcomes.
"""

from __future__ import annotations

import array
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from prefkit.evaluation.outcome_table import KINDS, UNKNOWN, Bools, Floats, Ints, Kind, Outcomes, known
from prefkit.records import UNANSWERED, Judgement, is_attention, is_model
from prefkit.rubric import DECIMALS
from prefkit.run import Run


class Texts:
    """The responses that may count: their prompt, policy, length; the prompts' topics."""

    def __init__(
        self, run: Run | None, policies: Sequence[str] | None, named: Iterable[tuple[str, str, str]] = ()
    ) -> None:
        """``named`` are (response, prompt, policy) where a file says it by itself: then no other response counts."""
        self.prompts: dict[str, int] = {}
        self.topics: dict[str, int] = {}
        self._topic_of: dict[str, int] = {}
        self._excluded: set[str] = set()
        for prompt in run.prompts() if run else ():
            if prompt.excluded:
                self._excluded.add(prompt.id)
            if prompt.topic is not None:
                self._topic_of[prompt.id] = self.topics.setdefault(prompt.topic, len(self.topics))
        owners = {response: (prompt, policy, UNKNOWN) for response, prompt, policy in named}
        only = bool(owners)
        for response in run.responses() if run else ():
            if not only or response.id in owners:
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


class Builder:
    """Rows from comparisons and from ratings, as they come."""

    def __init__(self, texts: Texts, source: str) -> None:
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


EVERYONE = ("llm", "human")
"""Names that stand for all judges of a kind."""


def counts(annotator: str, judges: Sequence[str] | None) -> bool:
    """Whether an annotator is among those asked for: by name or kind; None for everybody."""
    return judges is None or annotator in judges or annotator.partition(":")[0] in judges


def need_judges(judges: Sequence[str] | None, there: Iterable[str], where: object) -> None:
    """Refuse a judge, or a kind of judge, that is not there.

    Raises:
        PrefkitError: there is such.
    """
    names = list(there)
    kinds = {name.partition(":")[0] for name in names}
    for name in judges or ():
        if name not in EVERYONE or name not in kinds:
            known(name, names, "judge", where)


def unanswered(judgement: Judgement) -> str | None:
    """Why a judgement says nothing, whatever it says; None where it may count."""
    if is_attention(judgement):
        return "to test attention"
    return "left as drafts or discarded" if judgement.failure in UNANSWERED else None


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


def nothing_counts(outcomes: Outcomes, policies: Sequence[str] | None) -> str:
    """Why there is no row."""
    between = f" of {policies[0]} and {policies[1]} on one prompt" if policies and len(policies) == 2 else ""
    counted = ", ".join(f"{count:,} {reason}" for reason, count in outcomes.left_out.items())
    return f"0 prompts with a judgement{between} that counts" + f" (left out: {counted})" * bool(counted)
