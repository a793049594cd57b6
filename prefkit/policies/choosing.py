"""Which of a policy's answers to a prompt become pairs, by their rewards.

Reads   answers and their rewards
Gives   pairs, as lines of a preference file that ``prefkit.training.examples`` reads; how much was left out, by reason

Of several answers of the same words one counts. Those that are unfit to be learned from (``prefkit.marking``) stand in
no pair, on neither side: what a reward model makes of a loop or of half an answer says little, and half an answer would
teach to stop there.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from prefkit.marking import CUT_OFF, marks_of
from prefkit.policies.round_answers import Said
from prefkit.records import Prompt, digest, pair_id

Choose = Literal["best-worst", "top-k"]

UNREADABLE = "answers left out: the reward model cannot read them"
REPEATED = "answers left out: the words of another one to the prompt"
TOO_FEW = "prompts without two answers to compare"
TOO_CLOSE = "pairs left out: too near in reward"


def pairs_of(
    prompt: Prompt,
    said: Said,
    rewards: npt.NDArray[np.float64],
    policy: str,
    *,
    choose: Choose,
    top: int,
    least: float,
    keep_cut_off: bool,
    tally: Counter[str],
) -> list[dict[str, Any]]:
    """The pairs of a prompt.

    Args:
        prompt: the prompt.
        said: the answers to it.
        rewards: of the answers, in log-odds.
        policy: the name of who answered.
        choose: the best answer against the worst, or each of the ``top`` best against each of the ``top`` worst.
        top: fewer where there are not twice as many answers.
        least: by how much the chosen side's reward has to be higher; equal rewards are never a pair.
        keep_cut_off: answers that were cut off count too.
        tally: is told what was left out.
    """
    fit = _fit(said, rewards, keep_cut_off, tally)
    if len(fit) < 2:
        tally[TOO_FEW] += 1
        return []
    ranked = sorted(fit, key=lambda place: (-rewards[place], place))
    count = 1 if choose == "best-worst" else min(top, len(ranked) // 2)
    found = []
    for better in ranked[:count]:
        for worse in reversed(ranked[-count:]):
            gap = rewards[better] - rewards[worse]
            if gap <= 0 or gap < least:
                tally[TOO_CLOSE] += 1
            else:
                found.append(_line(prompt, said, rewards, policy, better, worse))
    return found


def _fit(said: Said, rewards: npt.NDArray[np.float64], keep_cut_off: bool, tally: Counter[str]) -> list[int]:
    """The places of the answers that may be learned from."""
    seen: set[str] = set()
    fit = []
    for place, one in enumerate(said.answers):
        unfit = set(marks_of(one.text, one.finish)) - ({CUT_OFF} if keep_cut_off else set())
        if unfit:
            tally.update(f"answers left out: {mark}" for mark in unfit)
        elif np.isnan(rewards[place]):
            tally[UNREADABLE] += 1
        elif one.text in seen:
            tally[REPEATED] += 1
        else:
            seen.add(one.text)
            fit.append(place)
    return fit


def _line(
    prompt: Prompt, said: Said, rewards: npt.NDArray[np.float64], policy: str, better: int, worse: int
) -> dict[str, Any]:
    ids = [digest("round", policy, prompt.id, place) for place in (better, worse)]
    return {
        "id": pair_id(prompt.id, *ids),
        "prompt": [{"role": turn.role, "content": turn.content} for turn in prompt.messages],
        "chosen": [{"role": "assistant", "content": said.answers[better].text}],
        "rejected": [{"role": "assistant", "content": said.answers[worse].text}],
        "prompt_id": prompt.id,
        "chosen_id": ids[0],
        "rejected_id": ids[1],
        "chosen_policy": policy,
        "rejected_policy": policy,
        "chosen_reward": float(rewards[better]),
        "rejected_reward": float(rewards[worse]),
        "topic": prompt.topic,
    }
