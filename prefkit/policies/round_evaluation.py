"""What a round came to: answers at the held-out prompts beside those of the start and of the round before.

Reads   answers and rewards at the held-out prompts; those of a second judge where there is one
Gives   an ``Evaluation``: win rates with intervals, mean reward, lengths, ``Health`` beside the start, and why to stop

All policies answer the same prompts with the same seed, one answer each. A win rate is the share of prompts at which an
answer has the higher reward; equal rewards are half a win, and a prompt at which one of the two answers cannot be read
is in nobody's figure. Its interval is Wilson's, of so many prompts.

Reasons to stop, of which one is enough:
    the answers are flagged (``prefkit.policies.health``);
    the words of the policy before have become all but impossible (``prefkit.policies.watching.LOST``);
    the reward model prefers the round before, or the start: all of the win rate's interval lies below a half;
    the second judge does. Where the first one's reward rose, that is over-optimisation.

The start's best of n is what sampling alone gives: of n further answers the one with the highest reward, beside one
answer. By the reward model that chose it, it wins n times in n + 1 whatever the rewards mean; what a second judge says
of it, and how a trained policy does beside it, means more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from prefkit.errors import PrefkitError
from prefkit.policies.health import Health, health
from prefkit.policies.looking import Answers, look
from prefkit.policies.round_answers import Said
from prefkit.policies.watching import WinRate, win_rate
from prefkit.records import Prompt, Record, prompt_text

Column = npt.NDArray[np.float64]
"""[prompts] rewards of an answer each, in standard deviations from the mean of the reward model's training."""


class Standing(Record, frozen=True, kw_only=True):
    """What a judge makes of a policy: its mean reward, and win rates against others.

    ``before`` is the round before, None in the first, whose round before is the start; ``best_of`` the best of several
    answers of the start, None where they were not asked for.
    """

    reward: float
    start: WinRate
    before: WinRate | None = None
    best_of: WinRate | None = None


class Baseline(Record, frozen=True, kw_only=True):
    """The start at the held-out prompts, and the best of ``n`` of its answers beside one.

    ``best`` and ``best_by_second`` are what the two judges make of the best; None where none was asked for.
    """

    prompts: int
    reward: float
    words: float
    n: int
    best: Standing | None = None
    best_words: float | None = None
    reward_by_second: float | None = None
    best_by_second: Standing | None = None
    health: Health


class Evaluation(Record, frozen=True, kw_only=True):
    """What a round came to.

    ``policy`` is its folder beside ``iterate.json``, ``counts`` what was asked, chosen and left out; ``tokens`` the
    mean length of an answer; ``stop`` says why the rounds end here, if they do.
    """

    round: int
    policy: str
    counts: dict[str, int]
    prompts: int
    by_reward_model: Standing
    by_second: Standing | None = None
    words: float
    tokens: float
    health: Health
    stop: tuple[str, ...] = ()


def standing(ours: Column, start: Column, before: Column | None, best_of: Column | None) -> Standing:
    """What a judge makes of a policy, from the rewards it gives. All [prompts].

    Raises:
        PrefkitError: at no prompt can the judge read both answers.
    """
    rate = win_rate(ours, start)
    if rate is None:
        remedy = "Take a reward model with more context, or hold out shorter prompts."
        raise PrefkitError("rounds", "no prompt at which both answers can be read", "a win rate", remedy)
    return Standing(
        reward=float(np.nanmean(ours)),
        start=rate,
        before=None if before is None else win_rate(ours, before),
        best_of=None if best_of is None else win_rate(ours, best_of),
    )


def looked(prompts: Sequence[Prompt], said: Sequence[Said], places: Sequence[int] | None = None) -> Answers:
    """One answer to each prompt, looked at: the first one, or that at its place."""
    chosen = [[one.answers[place]] for one, place in zip(said, places or [0] * len(said), strict=True)]
    return look([prompt_text(one.messages) for one in prompts], chosen)


def evaluation(
    number: int,
    policy: str,
    counts: Mapping[str, int],
    prompts: Sequence[Prompt],
    said: Sequence[Said],
    by_reward_model: Standing,
    by_second: Standing | None,
    start: Answers,
    lost: Sequence[str] = (),
) -> Evaluation:
    """What a round came to, and whether it is the last.

    Args:
        number: of the round.
        policy: its folder.
        counts: what was asked, chosen and left out.
        prompts, said: the held-out prompts and the answers to them.
        by_reward_model, by_second: what the judges make of it.
        start: the start's answers, looked at.
        lost: where the round's training took it too far from the policy before: how far.
    """
    now = health(looked(prompts, said), start, number)
    return Evaluation(
        round=number,
        policy=policy,
        counts=dict(counts),
        prompts=len(prompts),
        by_reward_model=by_reward_model,
        by_second=by_second,
        words=now.drifts["words"].value,
        tokens=float(np.mean([one.answers[0].tokens for one in said])),
        health=now,
        stop=tuple(_reasons(by_reward_model, by_second, now, lost)),
    )


def _reasons(first: Standing, second: Standing | None, now: Health, lost: Sequence[str]) -> list[str]:
    found = [f"the answers are flagged: {'; '.join(now.why)}"] if now.flagged else []
    found += [f"the training went too far: {why}" for why in lost]
    if fell := _fell(first):
        found.append(f"the reward model prefers {fell}")
    if second and (fell := _fell(second)):
        rose = (first.before or first.start).value > 0.5
        found.append(f"{'the reward rises while ' if rose else ''}the second judge prefers {fell}")
    return found


def _fell(judged: Standing) -> str:
    """Whom a judge prefers to the policy, beyond chance."""
    against = {"the round before": judged.before, "the start": judged.start}
    return " and ".join(
        f"{name}: {in_words(rate)} of the answers win" for name, rate in against.items() if rate and rate.high < 0.5
    )


def in_words(rate: WinRate) -> str:
    """A win rate with its interval, in per cent."""
    return f"{rate.value:.1%} [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"


def best_round(evaluations: Sequence[Evaluation]) -> Evaluation | None:
    """The round that wins most often against the start, of those without a reason to stop; None where none wins more
    than half."""
    sound = [one for one in evaluations if not one.stop and one.by_reward_model.start.value > 0.5]
    return max(sound, key=lambda one: one.by_reward_model.start.value, default=None)
