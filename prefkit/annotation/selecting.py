"""What people should be asked about next.

Reads   prompts, responses, judgements of a run; a file of rewards where one is named
Gives   Selection: the cases, best first, what was never asked about and why

Strategies, each with the score of a pair by which the highest come first:

    random          none: prompts with equal chances, then two of a prompt's responses
    uncertain       1 where the judges together (or two rewards) stand even, 0 where they are sure
    disagreement    the variance between the judges' voices: between judges, and between a judge's two orders
    judge-person    how far judges and people differ; where no person answered yet, the probability that the judges are
                    wrong, learned from the pairs that both have answered
    coverage        none: topics in turn, those of which people have answered least first

Where responses are rated one by one, a response has the highest score of the pairs in which it stands. What people have
answered is left out unless asked for. At most ``per_prompt`` cases come from one prompt, since the pairs of a prompt
tell much the same. Never asked about: excluded prompts, responses without a text or with a mark that makes them unfit,
two responses of the same words. What is drawn at random depends on the seed and on ids, not on the order of files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from prefkit.annotation.cases import Case, Chances, Fit, Floats, Ints, find, key_of, pair_keys, shuffled
from prefkit.annotation.items import Mode
from prefkit.annotation.mistakes import mistakes
from prefkit.annotation.opinions import Opinions, even, logistic, mean_of, read_rewards, variance_of
from prefkit.errors import RunError
from prefkit.run import Run

Strategy = Literal["random", "uncertain", "disagreement", "judge-person", "coverage"]
Score = Callable[[Ints, Ints], Floats]
_Ranked = tuple[Ints, Ints, Floats, Ints]


ANSWERED = "answered by people"
SILENT = "no judge and no reward to go by"


@dataclass(frozen=True, kw_only=True)
class SelectSettings:
    """The choices about what to ask next."""

    count: int
    """Of cases, at most."""
    strategy: Strategy = "random"
    seed: int = 0
    mode: Mode = "compare"
    policies: tuple[str, ...] = ()
    """Only responses of these, where any are named."""
    per_prompt: int = 1
    again: bool = False
    """Also what people have answered."""
    risk: bool = True
    """Also prompts with a mark of risk."""
    rewards: Path | None = None
    """For ``uncertain``: a reward for each response, JSONL or Parquet (``response_id``, ``reward``), in place of the
    judges' verdicts."""


@dataclass(frozen=True)
class Selection:
    """``cases``, the most wanted first; ``left_out`` counts responses and pairs (or responses to rate) that cannot be
    asked about, by reason; ``notes`` are sentences for the user."""

    cases: list[Case]
    left_out: Counter[str]
    notes: tuple[str, ...]


def chosen_pairs(run: Run, settings: SelectSettings, taken: Collection[Collection[str]] = ()) -> list[Case]:
    """The cases of `selection`, the most wanted first."""
    return selection(run, settings, taken).cases


def selection(run: Run, settings: SelectSettings, taken: Collection[Collection[str]] = ()) -> Selection:
    """Choose what to ask about.

    Args:
        run: the run.
        settings: how.
        taken: the responses of cases that stand on a page already, in any order; they are left out.

    Raises:
        RunError: there is nothing to choose from, or not what the strategy needs.
        InputError: the file of rewards cannot be used.
        RecordError: a line is not a record.
    """
    fit = Fit(run, settings.policies, risk=settings.risk)
    for name in settings.policies:
        if name not in fit.policies:
            there = ", ".join(sorted(fit.policies)) or "none"
            raise RunError(run.path, f"no responses of the policy {name}", f"one of {there}", "Name one of these.")
    by_judges = settings.strategy in ("uncertain", "disagreement", "judge-person")
    chooser = _Chooser(run, settings, fit, Opinions(run, fit, judges=by_judges), taken)
    return chooser.choose()


class _Chooser:
    def __init__(
        self, run: Run, settings: SelectSettings, fit: Fit, opinions: Opinions, taken: Collection[Collection[str]]
    ) -> None:
        self.run, self.settings, self.fit, self.opinions = run, settings, fit, opinions
        self.compares = settings.mode == "compare"
        self.left_out: Counter[str] = Counter({f"responses: {why}": many for why, many in fit.left_out.items()})
        self.notes: list[str] = []
        self._taken = np.unique(np.asarray([_key(one) for one in taken], dtype=np.int64))
        self._chance = shuffled(fit.prompt_keys, settings.seed)

    def choose(self) -> Selection:
        settings, fit = self.settings, self.fit
        parts = [self._best_of_prompts(*block) for block in self._candidates()]
        if not any(len(part[0]) for part in parts):
            raise self._nothing()
        left, right, score, rank = (np.concatenate([part[column] for part in parts]) for column in range(4))
        chance = self._chance[fit.prompt[left]]
        if settings.strategy == "coverage" and self._has_topics():
            order = self._topics_in_turn(left, rank, chance)
        else:
            order = np.lexsort((chance, rank, -np.nan_to_num(score)))
        order = order[: settings.count]
        if len(order) < settings.count:
            self.notes.append(f"{len(order)} cases are all that can be asked about, of {settings.count} wanted.")
        cases = list(map(self._case, left[order].tolist(), right[order].tolist(), score[order].tolist()))
        return Selection(cases, +self.left_out, tuple(self.notes))

    def _candidates(self) -> Iterator[tuple[Ints, Ints, Floats]]:
        """Rows of two responses with their score, or of one response twice, whole prompts at a time."""
        if self.compares:
            score = self._score()
            for left, right in self.fit.pairs():
                yield left, right, score(left, right)
        elif self.settings.strategy in ("random", "coverage"):
            rows = np.arange(len(self.fit))
            yield rows, rows, np.full(len(rows), np.nan)
        else:
            score, highest = self._score(), np.full(len(self.fit), np.nan)
            for left, right in self.fit.pairs():
                scores = score(left, right)
                for side in (left, right):
                    np.fmax.at(highest, side, scores)
            rows = np.arange(len(self.fit))
            yield rows, rows, highest

    def _best_of_prompts(self, left: Ints, right: Ints, score: Floats) -> _Ranked:
        """Of each prompt the ``per_prompt`` highest that can be asked about, with their rank, from 0."""
        fit, noun = self.fit, "pairs" if self.compares else "responses"
        keys = pair_keys(fit.key[left], fit.key[right]) if self.compares else fit.key[left]
        same = (fit.words[left] == fit.words[right]) & (left != right)
        answered = (find(self.opinions.compared, keys) >= 0) if self.compares else self.opinions.rated[left]
        unknown = np.isnan(score) & (self.settings.strategy not in ("random", "coverage"))
        keep = np.ones(len(left), dtype=bool)
        for why, rows in (
            ("the same words", same),
            ("already on a page", find(self._taken, keys) >= 0),
            (ANSWERED, answered & (not self.settings.again)),
            (SILENT, unknown),
        ):
            self.left_out[f"{noun}: {why}"] += int((rows & keep).sum())
            keep &= ~rows
        left, right, score = left[keep], right[keep], score[keep]
        chance = shuffled(keys[keep], self.settings.seed)
        order = np.lexsort((chance, -np.nan_to_num(score), fit.prompt[left]))
        starts = np.flatnonzero(np.diff(fit.prompt[left][order], prepend=-1))
        rank: Ints = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
        few = rank < self.settings.per_prompt
        rows = order[few]
        return left[rows], right[rows], score[rows], rank[few]

    def _score(self) -> Score:
        """The strategy's score of pairs."""
        strategy, fit = self.settings.strategy, self.fit
        if strategy == "uncertain" and self.settings.rewards is not None:
            rewards = read_rewards(self.settings.rewards, fit)
            return lambda left, right: even(logistic(rewards[left] - rewards[right]))
        if strategy in ("random", "coverage"):
            return lambda left, right: np.full(len(left), np.nan)
        if not self.opinions.judges:
            remedy = f"Ask a model first (prefkit judge {self.run.path}), or take --select random."
            raise RunError(self.run.path, "no judgements by models", f"judges, for --select {strategy}", remedy)
        if strategy == "judge-person":
            return mistakes(self.run, fit, self.opinions)
        measure = variance_of if strategy == "disagreement" else lambda voices: even(mean_of(voices))
        return lambda left, right: measure(self.opinions.of_judges(fit, left, right))

    def _has_topics(self) -> bool:
        if any(self.fit.topics[prompt] is not None for prompt in np.unique(self.fit.prompt).tolist()):
            return True
        self.notes.append("No prompt has a topic: the cases are drawn at random.")
        return False

    def _topics_in_turn(self, left: Ints, rank: Ints, chance: Chances) -> Ints:
        """The order in which each topic comes once before any comes again, counting what people have answered; a topic
        has its cases of rank 0 before those of rank 1."""
        fit = self.fit
        names = {topic: place for place, topic in enumerate(dict.fromkeys(fit.topics))}
        topic_of = np.asarray([names[topic] for topic in fit.topics], dtype=np.int64)
        done = np.bincount(topic_of[self._answered_prompts()], minlength=len(names))
        topic = topic_of[fit.prompt[left]]
        order = np.lexsort((chance, rank, topic))
        starts = np.flatnonzero(np.diff(topic[order], prepend=-1))
        turn = np.empty(len(order), dtype=np.int64)
        turn[order] = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
        first_of_topic = shuffled(np.arange(len(names)), self.settings.seed)
        return np.lexsort((first_of_topic[topic], turn + done[topic]))

    def _answered_prompts(self) -> Ints:
        """The prompt of each case that people have answered."""
        if not self.compares:
            return self.fit.prompt[self.opinions.rated]
        found = [
            self.fit.prompt[left[find(self.opinions.compared, pair_keys(self.fit.key[left], self.fit.key[right])) >= 0]]
            for left, right in (self.fit.pairs() if len(self.opinions.compared) else ())
        ]
        return np.concatenate([np.empty(0, np.int64), *found])

    def _case(self, left: int, right: int, score: float) -> Case:
        first = self.fit[left]
        names = (first.id, self.fit[right].id) if self.compares else (first.id,)
        known = not np.isnan(score)
        reason = f"{self.settings.strategy} {score:.3f}" if known else self.settings.strategy
        return Case(first.prompt_id, names, reason, score if known else None)

    def _nothing(self) -> RunError:
        counts = ", ".join(f"{many} {why}" for why, many in (+self.left_out).most_common())
        needed = "a prompt with two fit responses" if self.compares else "a fit response"
        remedy = "Import or generate more; `prefkit status` says what is there."
        if any(why.endswith(ANSWERED) for why in +self.left_out):
            remedy = "People have answered all there is; --again asks a second time."
        elif any(why.endswith(SILENT) for why in +self.left_out):
            remedy = f"Ask a model about these responses: prefkit judge {self.run.path}"
        return RunError(self.run.path, f"nothing to ask about ({counts})" if counts else "nothing", needed, remedy)


def _key(names: Collection[str]) -> int:
    keys = np.asarray([key_of(name) for name in names], dtype=np.int64)
    return int(keys[0] if len(keys) == 1 else pair_keys(keys[:1], keys[1:])[0])
