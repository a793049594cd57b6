"""What was not measured, and what the page must not be used for: said from what the run does not hold.

Reads   Facts, Wins, what other commands wrote
Gives   Limits
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from prefkit.evaluation.report.agreement import Agreement
from prefkit.evaluation.report.facts import Facts
from prefkit.evaluation.report.files import Written
from prefkit.evaluation.report.rates import Rates, Wins

FEW, SOME = 20, 100
"""Prompts below which a rate may be luck, and below which it is not told from 50% within ten points."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Something that was not measured: what that means, and the command that would measure it (empty for none)."""

    title: str
    words: str
    command: str = ""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What was not measured, and what it must not be used for."""

    not_measured: list[Gap]
    not_for: list[str]


def limits_of(run: str, facts: Facts, rates: Rates, agreement: Agreement | None, written: Written) -> Limits:
    """Say what is absent.

    Args:
        run: the run, as it is typed in commands.
        facts, rates, agreement, written: what there is.
    """
    wins = rates.wins if isinstance(rates.wins, Wins) else None
    gaps = [
        *_judges(run, facts, wins, agreement, written),
        *_prompts(run, facts, wins),
        *_answers(run, facts, written),
        Gap(
            title="What happens to a client",
            words="An answer was read and judged; nobody received it. Whether it helps or harms a person who seeks "
            "help is not measured by anything on this page.",
        ),
    ]
    return Limits(not_measured=gaps, not_for=list(_not_for(facts, wins)))


def _judges(run: str, facts: Facts, wins: Wins | None, agreement: Agreement | None, written: Written) -> Iterator[Gap]:
    if not facts.annotators:
        return
    if wins and wins.by != "judgements":
        yield Gap(
            title="Judgement by anybody but the reward model",
            words="Who is preferred is said by a reward model here. It repeats what it learned, right or wrong, and "
            "favours policies that were trained with it.",
            command=f"prefkit report {run}",
        )
    if not facts.people:
        yield Gap(
            title="Human judgement",
            words=f"No person judged these answers: all {sum(facts.judgements.values()):,} judgements are by models. "
            "Whether a professional would say the same is not known.",
            command=f"prefkit annotate push {run} --pairs 200 --annotators NAME,NAME --overlap 2",
        )
    if len(facts.annotators) == 1:
        yield Gap(
            title="A second opinion",
            words="One annotator said everything. How far others would agree is not known, and no interval on this "
            "page holds that doubt.",
            command=f"prefkit judge {run} --judge ANOTHER",
        )
    elif agreement is None or not agreement.measured:
        yield Gap(
            title="Agreement",
            words="No two annotators judged the same answers, so nothing shows how far they agree.",
            command=f"prefkit annotate push {run} --annotators NAME,NAME --overlap 2",
        )
    if facts.models and not facts.shown_together:
        yield Gap(
            title="Answers seen side by side",
            words="Each answer was rated by itself; who is preferred follows from the higher rating. Side by side, "
            "the same judges may decide otherwise.",
            command=f"prefkit judge {run} --judge NAME --mode compare",
        )
    if wins and wins.one_order:
        yield Gap(
            title="Both orders",
            words=f"{wins.one_order:,} comparisons were asked of a model in one order only. They are left out, since "
            "a model may pick by position.",
            command=f"prefkit judge {run} --judge NAME --mode compare",
        )
    if facts.models and written.audit is None:
        yield Gap(
            title="Bias of the judges",
            words="Whether the judges follow order, length or their own family was not looked at.",
            command=f"prefkit audit {run}",
        )
    if not facts.repeats:
        yield Gap(
            title="The same question twice",
            words="Nobody was asked the same question again, so nothing shows how steady each annotator is.",
            command=f"prefkit judge {run} --judge NAME --samples 2",
        )


def _prompts(run: str, facts: Facts, wins: Wins | None) -> Iterator[Gap]:
    prompts = wins.main[1].prompts if wins else facts.kept
    two = f" --policy {shlex.quote(wins.policy)} --baseline {shlex.quote(wins.baseline)}" if wins else ""
    if prompts < FEW:
        yield Gap(
            title="Enough prompts",
            words=f"There are {prompts:,}. Any rate on this page may be luck: look at the intervals.",
            command=f"prefkit win-rate {run}{two} --plan",
        )
    elif prompts < SOME:
        yield Gap(
            title="Small differences",
            words=f"With {prompts:,} prompts, a rate within about {100 * math.sqrt(0.96 / prompts):.0f} points of 50% "
            "cannot be told from chance.",
            command=f"prefkit win-rate {run}{two} --plan",
        )
    if facts.prompts and not facts.in_dialogue:
        yield Gap(
            title="Conversations",
            words="Every prompt is one message and every answer a first reply. How a policy goes on is not seen.",
        )
    if facts.prompts and not facts.topics:
        yield Gap(title="Differences between topics", words="The prompts have no topic.")
    languages = [mark.partition(":")[2] for mark in facts.marks if mark.startswith("language:")]
    if len(languages) == 1:
        yield Gap(
            title="Other languages", words=f"All prompts that were screened are in one language ({languages[0]})."
        )
    if facts.prompts and not languages and not any(mark.startswith("risk:") for mark in facts.marks):
        yield Gap(
            title="Risk",
            words="No screen looked for signs of self-harm, abuse or harm to others, so how policies answer those is "
            "not told apart.",
            command=f"prefkit screen {run}",
        )


def _answers(run: str, facts: Facts, written: Written) -> Iterator[Gap]:
    if facts.responses and not facts.several:
        yield Gap(
            title="How much a policy's answers vary",
            words="Each policy answered each prompt once; asked again, it would answer otherwise.",
            command=f"prefkit generate {run} --policy NAME --samples 3",
        )
    if written.reward_models and not any(one.evaluation or one.held_out for one in written.reward_models):
        yield Gap(
            title="The reward model on held-out pairs",
            words="There is a reward model, and no figures of how good it is.",
            command=f"prefkit eval-rm {run} --rm {shlex.quote(written.reward_models[0].name)}",
        )
    looked = [one for one in written.policies if len(one.looks) > 1]
    if written.policies and not looked:
        yield Gap(
            title="What the trained policy writes",
            words="Nothing was looked at in training: rewards can look perfect while the text falls apart.",
            command=f"prefkit train-policy {run} --check-steps 50",
        )


def _not_for(facts: Facts, wins: Wins | None) -> Iterator[str]:
    yield "Deciding about a person: nothing here is a diagnosis, an assessment of risk, or advice for treatment."
    yield "Saying that a model is safe or fit for clinical use. A rating of safety is an opinion about a text."
    if not facts.people:
        yield "Saying what professionals or clients prefer: no person was asked."
    if wins is not None:
        if not wins.decided:
            yield f"Saying that {wins.policy} or {wins.baseline} is the better one: these data do not tell."
        if wins.chosen:
            yield (
                f"Quoting the first figure as a test: these data chose {wins.policy} and {wins.baseline} as the first "
                "on the board, which flatters the difference."
            )
        yield (
            "Comparison with win rates from other prompts, other judges or another baseline: a win rate has no "
            "meaning beyond its own."
        )
    yield "Training or evaluation beyond the rubric above: scores under other words of a principle are other scores."
