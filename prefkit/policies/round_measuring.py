"""What the judges make of policies at the held-out prompts: of the start, and of each round.

Reads   a policy, its training's looks, reward models, the held-out prompts
Writes  start/                 answers.jsonl, rewards.jsonl, second.jsonl, evaluation.json
        round-N/held-out/      answers.jsonl, rewards.jsonl, second.jsonl
        round-N/evaluation.json
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from prefkit.durable import make_folders
from prefkit.errors import PrefkitError
from prefkit.policies.health import health
from prefkit.policies.looking import Answers
from prefkit.policies.opening import open_policy
from prefkit.policies.round_answers import Drawing, Progress, Rewards, Said, answers, rewards
from prefkit.policies.round_evaluation import (
    Baseline,
    Column,
    Evaluation,
    Standing,
    evaluation,
    in_words,
    looked,
    standing,
)
from prefkit.policies.round_files import EVALUATION, write
from prefkit.policies.round_settings import RoundSettings
from prefkit.policies.watching import LOOKS, read_looks, too_far
from prefkit.records import Prompt, digest
from prefkit.run import Run

Opened = Callable[[str, int | None, str], Callable[[int], None]]
"""Opens a progress bar: title, total, unit -> what is told how much more is done."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Judge:
    """A reward model in its folder: what identifies its rewards, and their scale."""

    folder: Path
    digest: str
    mean: float
    std: float

    def normalised(self, rewards: Rewards) -> Rewards:
        """In standard deviations from the mean of its training responses."""
        return (rewards - self.mean) / self.std


def judges_of(run: Run, reward_model: Path, second: Path | None) -> tuple[Judge, ...]:
    """The reward model, and the second one where there is one.

    Raises:
        PrefkitError: one of them is no reward model or another rubric's, or both are the same.
    """
    judges = tuple(_judge(run, one) for one in (reward_model, second) if one is not None)
    if len(judges) == 2 and judges[0].digest == judges[1].digest:
        remedy = "Train it on other pairs or another base, or leave it out."
        raise PrefkitError(str(second), "the reward model that chooses the pairs", "another one to judge", remedy)
    return judges


def _judge(run: Run, folder: Path) -> Judge:
    from prefkit.training.reward_info import need_rubric, read_info
    from prefkit.training.scoring import model_digest

    info = read_info(folder)
    need_rubric(folder, info, run.rubric, run.path)
    return Judge(folder, model_digest(folder), info.mean, info.std or 1.0)


@dataclass
class Measured:
    """A policy at the held-out prompts: its answers and, by judge, their rewards in standard deviations."""

    said: list[Said]
    rewards: list[Rewards]

    def column(self, judge: int) -> Column:
        """The rewards of the first answers."""
        return self.rewards[judge][:, 0]


@dataclass
class Start(Measured):
    """The start: more answers, and which of those after the first is the best; looked at."""

    best: list[int]
    looked: Answers

    def column_of_best(self, judge: int) -> Column | None:
        """The rewards of the best answers."""
        return self.rewards[judge][np.arange(len(self.best)), self.best] if self.best else None


def drawing(chosen: RoundSettings, number: int, samples: int) -> Drawing:
    """How answers of a round are drawn; those of 0, at the held-out prompts, with the same seed whoever answers."""
    return Drawing(
        samples=samples,
        max_tokens=chosen.answer_tokens,
        temperature=chosen.temperature,
        top_p=chosen.top_p,
        seed=int(digest("round", chosen.seed, number)[:15], 16),
    )


class Measuring:
    """Measures policies at the same prompts, with the same seed.

    Args:
        prompts: that are held out.
        settings: of the rounds.
        judges: the reward model, and the second one where there is one.
        opened: opens a progress bar.
        say: told lines worth reading.
    """

    def __init__(
        self, prompts: Sequence[Prompt], settings: RoundSettings, judges: Sequence[Judge], opened: Opened, say: Say
    ) -> None:
        self._prompts, self._settings, self._judges = prompts, settings, judges
        self._opened, self._say = opened, say

    def measured(self, folder: Path, policy: str, title: str, samples: int = 1) -> Measured:
        """A policy's answers at the held-out prompts and their rewards."""
        make_folders(folder)
        prompts, drawn = self._prompts, drawing(self._settings, 0, samples)
        bar = counting_answers(self._opened, samples * len(prompts))
        said = answers(folder / "answers.jsonl", prompts, lambda: open_policy(policy), drawn, bar(f"{title}, answers"))
        found = []
        for judge, name in zip(self._judges, ("rewards.jsonl", "second.jsonl"), strict=False):
            given = rewards(folder / name, prompts, said, opening(judge), bar(f"{title}, {name.partition('.')[0]}"))
            if missing := int(np.isnan(given[:, 0]).sum()):
                self._say(f"{title}: {missing:,} answers that {judge.folder.name} cannot read, in nobody's figure")
            found.append(judge.normalised(_some(given, judge)))
        return Measured(said, found)

    def start(self, folder: Path, base: str) -> Start:
        """The start's answers, one and those of which the best is taken."""
        assert self._settings.best_of is not None
        found = self.measured(folder, base, "start: held out", 1 + self._settings.best_of)
        of = np.nan_to_num(found.rewards[0][:, 1:], nan=-np.inf)
        best = (1 + of.argmax(axis=1)).tolist() if self._settings.best_of else []
        return Start(found.said, found.rewards, best, looked(self._prompts, found.said))

    def baseline(self, folder: Path, start: Start) -> Baseline:
        """What the start comes to; written and said."""
        path, n = folder / EVALUATION, self._settings.best_of or 0
        at_start = health(start.looked, None, 0)
        best = [_of_best(start, judge) for judge in range(len(self._judges))] if n else []
        found = Baseline(
            prompts=len(self._prompts),
            reward=float(np.nanmean(start.column(0))),
            words=at_start.drifts["words"].value,
            n=n,
            best=best[0] if best else None,
            best_words=_words_of_best(self._prompts, start) if best else None,
            reward_by_second=float(np.nanmean(start.column(1))) if len(self._judges) > 1 else None,
            best_by_second=best[1] if len(best) > 1 else None,
            health=at_start,
        )
        if not path.exists():
            write(path, found)
        self._say(f"start: reward {found.reward:+.2f} SD, {found.words:.0f} words, at {found.prompts:,} prompts")
        for why in at_start.why:
            self._say(f"  {why}")
        if found.best:
            said = f"{in_words(found.best.start)} beat one answer, reward {found.best.reward:+.2f} SD"
            self._say(f"  best of {n} of its answers: {said}")
        return found

    def evaluated(
        self, folder: Path, number: int, counts: Mapping[str, int], now: Measured, before: Measured, start: Start
    ) -> Evaluation:
        """What a round comes to beside the start and the round before, and by its training's own look; written and
        said."""
        path = folder / EVALUATION
        judged = [
            standing(
                now.column(judge),
                start.column(judge),
                before.column(judge) if number > 1 else None,
                start.column_of_best(judge),
            )
            for judge in range(len(self._judges))
        ]
        found = evaluation(
            number, f"round-{number}/policy", counts, self._prompts, now.said, judged[0],
            judged[1] if len(judged) > 1 else None, start.looked, _too_far(folder / "policy"),
        )  # fmt: skip
        if not path.exists():
            write(path, found)
        self._say_round(found)
        return found

    def _say_round(self, found: Evaluation) -> None:
        judged = found.by_reward_model
        parts = [f"{in_words(judged.start)} win against the start"]
        if judged.before:
            parts.append(f"{in_words(judged.before)} against the round before")
        if judged.best_of:
            parts.append(f"{in_words(judged.best_of)} against its best of {self._settings.best_of}")
        self._say(f"round {found.round}: {', '.join(parts)}; reward {judged.reward:+.2f} SD, {found.words:.0f} words")
        if found.by_second:
            self._say(f"  by the second judge {in_words(found.by_second.start)} win against the start")
        for why in found.stop:
            self._say(f"  stop: {why}")


def _too_far(policy: Path) -> tuple[str, ...]:
    """Whether the round's training made the words of the policy before all but impossible."""
    first, *_, last = read_looks(policy / LOOKS)
    return too_far(last.divergence, first)


def counting_answers(opened: Opened, total: int) -> Callable[[str], Progress]:
    """Opens bars for so many answers, by their titles."""
    return lambda title: opened(title, total, "answers")


def opening(judge: Judge) -> Callable[[], Any]:
    """Loads a judge when it is called."""
    from prefkit.training.reward_model import RewardModel

    return lambda: RewardModel.load(judge.folder)


def _some(given: Rewards, judge: Judge) -> Rewards:
    """Rewards of which at least one of each prompt's first answers is known.

    Raises:
        PrefkitError: there is none.
    """
    if np.isnan(given[:, 0]).all():
        remedy = "Take one with more context, or hold out shorter prompts."
        raise PrefkitError(judge.folder, "no held-out answer that it can read", "a reward for most", remedy)
    return given


def _of_best(start: Start, judge: int) -> Standing:
    best = start.column_of_best(judge)
    assert best is not None
    return standing(best, start.column(judge), None, None)


def _words_of_best(prompts: Sequence[Prompt], start: Start) -> float:
    return health(looked(prompts, start.said, start.best)).drifts["words"].value
