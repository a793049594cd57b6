"""What the training of a policy was like, in sentences; each only where it is true.

Reads   the trainer's log, the looks
Gives   notes: a few sentences

What rose and fell is told from the same held-out pairs, or the answers to the same prompts, at two steps. The lines of
the log are of other pairs each: they tell only where nothing was held out.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prefkit.policies.losses import Method
    from prefkit.policies.watching import Look, WinRate

FELL = 1.0
"""Nats by which a log-probability has to fall to be spoken of: e times less likely."""
LONGER = 1.2
"""The factor from which answers are spoken of as longer, or shorter."""
FAR = 20.0
"""Nats an answer from which the policy is far from the start."""
LAST = 5
"""Lines of the log that a value at its end is the mean of."""

SEVERAL = 5
"""Steps that are named one by one."""

Logged = Mapping[str, float]
Held = dict[int, dict[str, float]]


@dataclass(frozen=True)
class _Course:
    """A training as it is spoken of: ``shown`` is the look whose weights were kept."""

    history: Sequence[Logged]
    looks: Sequence[Look]
    held_out: Held
    method: Method
    shown: Look | None


def notes(history: Sequence[Logged], looks: Sequence[Look], method: Method, kept: int | None = None) -> tuple[str, ...]:
    """The sentences of a training.

    Args:
        history: the lines of the log, ``trainer.state.log_history``.
        looks: the first is at the start.
        method: the loss.
        kept: the step whose weights were kept; None: those of the best look.
    """
    course = _Course(history, looks, held_out_figures(history, looks), method, kept_look(looks, kept))
    return (
        *_of_flags(course),
        *_of_gain(course),
        *_of_kept(course),
        *_of_displacement(course),
        *_of_length(course),
        *_of_distance(course),
    )


def held_out_figures(history: Sequence[Logged], looks: Sequence[Look]) -> Held:
    """The figures of the held-out pairs by step, without the prefix that they have in the log."""
    found: Held = {}
    for line in history:
        figures = {name.removeprefix("eval_"): value for name, value in line.items() if name.startswith("eval_")}
        if figures:
            found.setdefault(int(line["step"]), {}).update(figures)
    for look in looks:
        if look.held_out:
            found.setdefault(look.step, {}).update(look.held_out)
    return dict(sorted(found.items()))


def kept_look(looks: Sequence[Look], kept: int | None = None) -> Look | None:
    """The look at the weights that were kept, or the last one before them; None without any.

    Args:
        looks: in order.
        kept: the step; None: that of the best look after the start that is not flagged, else the last.
    """
    if kept is not None:
        return next((one for one in reversed(looks) if one.step <= kept), None)
    sound = [one for one in looks if one.step and not one.health.flagged]
    return max(sound, key=lambda one: one.worth(), default=looks[-1] if looks else None)


def rate_in_words(rate: WinRate) -> str:
    """A win rate with its interval: ``71.9% [54.6, 84.4]``."""
    return f"{rate.value:.1%} [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"


# --- the text --------------------------------------------------------------------------------------------------------


def _of_flags(course: _Course) -> Iterator[str]:
    """Where the text is degenerate, and whether the rewards would have told."""
    if course.looks and course.looks[0].health.flagged:
        yield (
            f"The base itself is flagged: {_why(course.looks[0])}. Later answers are compared with its own, so a look "
            "without a flag only says: no worse than that."
        )
    later = [one for one in course.looks if one.step]
    flagged = [one for one in later if one.health.flagged]
    if not flagged:
        return
    last = flagged[-1]
    where = f"{len(flagged)} of {len(later)} looks {'is' if len(flagged) == 1 else 'are'} flagged ({_steps(flagged)})."
    advice = "Read the answers in looks.jsonl. Take fewer steps, a lower --learning-rate"
    advice += ", or a higher --beta." if course.method in ("dpo", "ipo") else "."
    healthy = list(_healthy(course, last))
    if healthy:
        yield (
            f"The rewards look healthy and the text does not. At step {last.step:,} {_listed(healthy)}; of the "
            f"answers: {_why(last)}. {where} Pairs are texts of others, and a reward model knows only texts like those "
            f"it was trained on. {advice}"
        )
    else:
        yield f"The text is degenerate at step {last.step:,}: {_why(last)}. {where} {advice}"


def _healthy(course: _Course, look: Look) -> Iterator[str]:
    """What would please whoever looks at the rewards alone."""
    start: Logged = course.held_out.get(0, {})
    now: Logged = course.held_out.get(look.step, {})
    whose = "held-out accuracy"
    if "accuracy" not in now:
        lines = [line for line in course.history if "loss" in line and "accuracy" in line and line["step"] <= look.step]
        start, now, whose = (lines[0], lines[-1], "accuracy on the training pairs") if lines else ({}, {}, "")
    if "accuracy" in start and now["accuracy"] > start["accuracy"]:
        yield f"the {whose} is {now['accuracy']:.1%}, from {start['accuracy']:.1%}"
    if "margin" in start and now["margin"] > start["margin"]:
        yield f"the margin is {now['margin']:.2f}, from {start['margin']:.2f}"
    if look.win_rate and look.win_rate.value > 0.5:
        yield f"the win rate against the start is {rate_in_words(look.win_rate)}"


def _why(look: Look) -> str:
    return "; ".join(look.health.why)


# --- whether it was worth it -----------------------------------------------------------------------------------------


def _of_gain(course: _Course) -> Iterator[str]:
    later = [one for one in course.looks if one.step]
    if not later:
        return
    best = max([one for one in later if not one.health.flagged] or later, key=lambda one: one.worth())
    rate, start = best.win_rate, course.held_out.get(0, {})
    at = f"at step {best.step:,}"
    if rate:
        if rate.value <= 0.5:
            yield (
                f"Nothing improved: the win rate against the start is at best {rate_in_words(rate)} ({at}; 50% is no "
                "change). The start's weights are as good."
            )
        elif rate.low <= 0.5:
            yield (
                f"Not clearly better than the start: at best a win rate of {rate_in_words(rate)} ({at}) on {rate.n:,} "
                "answers, and that interval holds 50%. More --check-prompts would tell."
            )
        return
    now = course.held_out.get(best.step, {})
    if "accuracy" in start and "accuracy" in now:
        if now["accuracy"] <= start["accuracy"]:
            yield (
                f"Nothing improved: the held-out accuracy is at best {now['accuracy']:.1%} ({at}), and "
                f"{start['accuracy']:.1%} at the start. The start's weights are as good."
            )
    elif "nll" in start and "nll" in now:
        if now["nll"] >= start["nll"]:
            yield (
                f"Nothing improved: a token of a held-out chosen response costs {now['nll']:.3f} nats at best ({at}), "
                f"and {start['nll']:.3f} at the start. The start's weights are as good."
            )
    else:
        yield "Nothing tells whether it improved: nothing was held out, and no reward model judged (--rm)."


def _of_kept(course: _Course) -> Iterator[str]:
    kept = course.shown
    if kept is None or len(course.looks) < 2:
        return
    last = course.looks[-1]
    if kept.health.flagged and kept.step:
        others = any(one.step and not one.health.flagged for one in course.looks)
        why = "" if others else ": no look after the start is without a flag"
        yield f"The weights that were kept are flagged (step {kept.step:,}){why}. Do not use them before you read them."
    elif kept is not last:
        loss = _worth(kept) == _worth(last)
        whose, mine = (f"step {kept.step:,}", _worth(kept, loss)) if kept.step else ("the start", "")
        text = "degenerate text" if last.health.flagged else ""
        then = _listed([*filter(None, (_worth(last, loss), text))])
        yield f"Kept are the weights of {whose}{mine and f', with {mine}'}." + (
            f" The last step, {last.step:,}, has {then}." if then else ""
        )


def _worth(look: Look, loss: bool = False) -> str:
    """What looks are compared by, in words, ``loss`` where the rest is alike; empty where there is nothing."""
    known = look.held_out
    parts = [f"a win rate of {rate_in_words(look.win_rate)}"] if look.win_rate else []
    if "accuracy" in known and (loss or not parts):
        parts.append(f"a held-out accuracy of {known['accuracy']:.1%}")
    if "loss" in known and (loss or not parts):
        parts.append(f"a held-out loss of {known['loss']:.4g}")
    return _listed(parts)


# --- how it went -----------------------------------------------------------------------------------------------------


def _of_displacement(course: _Course) -> Iterator[str]:
    """Where the preferred responses become less likely with the others."""
    said = _both_fall(course)
    if said is None:
        return
    advice = "A lower --learning-rate or fewer steps"
    advice += "; --sft 1 holds them up." if course.method in ("dpo", "ipo", "simpo") else " let them fall less."
    yield (
        f"Both log-probabilities fall: {said}. The policy makes what was preferred less likely too, and what it writes "
        "instead nobody compared (likelihood displacement: Razin et al. 2024, arXiv:2410.08847). " + advice
    )


def _both_fall(course: _Course) -> str | None:
    measured = [(step, of) for step, of in course.held_out.items() if "chosen" in of and "rejected" in of]
    if len(measured) > 1:
        (_, first), (step, last) = measured[0], measured[-1]
        if min(first[side] - last[side] for side in ("chosen", "rejected")) < FELL:
            return None
        kept = course.shown.step if course.shown else step
        then = dict(measured).get(kept, last) if kept else last
        also = f"; {then['chosen']:.1f} and {then['rejected']:.1f} at step {kept:,}" if then is not last else ""
        return (
            f"a held-out chosen response from {first['chosen']:.1f} to {last['chosen']:.1f} nats, a rejected one from "
            f"{first['rejected']:.1f} to {last['rejected']:.1f} (step {step:,}{also})"
        )
    lines = [line for line in course.history if "chosen_ratio" in line and "rejected_ratio" in line][-LAST:]
    if not lines:
        return None
    chosen, rejected = (statistics.fmean(line[name] for line in lines) for name in ("chosen_ratio", "rejected_ratio"))
    if max(chosen, rejected) > -FELL:
        return None
    return f"against the reference, a chosen response by {-chosen:.1f} nats, a rejected one by {-rejected:.1f}"


def _of_length(course: _Course) -> Iterator[str]:
    look = course.shown
    words = look.health.drifts.get("words") if look else None
    if look is None or words is None or words.reference is None or not words.ratio:
        return
    surely = words.low is not None and words.high is not None and not words.low <= 1 <= words.high
    if not surely or 1 / LONGER < words.ratio < LONGER:
        return
    which = "longer" if words.ratio > 1 else "shorter"
    rate = f", with a win rate of {rate_in_words(look.win_rate)}" if look.win_rate else ""
    cut = look.health.shares.get("cut-off")
    more = ""
    if which == "longer":
        more = " Part of what it won may be length."
        if course.method == "dpo":
            more += " --length-alpha 0.5 counts the tokens beyond the other side's length less."
    if cut and cut.share >= 0.1:
        more += f" {cut.share:.0%} are cut off at --check-tokens, so nobody knows how long they would be."
    yield (
        f"Answers became {which}: {words.value:.0f} words on average at step {look.step:,}, {words.reference:.0f} at "
        f"the start ({words.ratio:.2f} times [{words.low:.2f}, {words.high:.2f}]){rate}.{more}"
    )


def _of_distance(course: _Course) -> Iterator[str]:
    look = course.shown
    if look is None or not look.step or not (look.divergence >= FAR or math.isnan(look.divergence)):
        return
    more = ""
    if course.method != "sft":
        more = " The farther from it, the less its rewards can be trusted (over-optimisation: Gao et al. 2022,"
        more += " arXiv:2210.10760)."
    yield (
        f"Far from the start: what the start answered is {look.divergence:.1f} nats an answer less likely to the "
        f"policy of step {look.step:,} (KL(start || policy)).{more}"
    )


def _steps(looks: Sequence[Look]) -> str:
    if len(looks) > SEVERAL:
        return f"steps {looks[0].step:,} to {looks[-1].step:,}"
    return f"step{'s' * (len(looks) > 1)} {_listed([f'{one.step:,}' for one in looks])}"


def _listed(words: Sequence[str]) -> str:
    return " and ".join([*([", ".join(words[:-1])] if len(words) > 1 else []), *words[-1:]])
