"""Reads the replies of judges once more, with the parser as it is now, and pays for nothing.

Reads   judgements.jsonl
Writes  judgements.jsonl, whole, where something changed

Judgements without a reply (imported ones, people's) stay as they are, and so do those whose scores are expected values:
the probabilities are not kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec

from prefkit.judging.parsing import read_choice, read_comparison, read_rating
from prefkit.records import Choice, Comparison, Judgement, Rating
from prefkit.rubric import Rubric
from prefkit.run import Run

UNCHANGED = "as before"
READABLE = "readable now"
OTHER = "with another answer"
LOST = "no longer readable"


def reparse_run(
    run: Run, *, dry_run: bool = False, progress: Callable[[int], None] = lambda read: None
) -> Counter[str]:
    """Read all replies of a run again.

    Returns:
        How many replies came out in each way; ``passed over`` are those that are not read again.

    Raises:
        RunError: another process holds the run, or the disk is full.
    """
    counts: Counter[str] = Counter()
    with run.writing("reparse"):
        found = (_counted(run, judgement, counts) for judgement in run.judgements(progress))
        if dry_run:
            for _ in found:
                pass
            return counts
        with run.at_once():
            run.replace(Judgement, found)
    return counts


def _counted(run: Run, judgement: Judgement, counts: Counter[str]) -> Judgement:
    rubric = run.info.rubrics.get(judgement.rubric or "")
    if judgement.reply is None or judgement.expected or rubric is None:
        counts["passed over"] += 1
        return judgement
    again = read_again(judgement, rubric)
    if again == judgement:
        counts[UNCHANGED] += 1
    elif judgement.failure is None and again.failure is not None:
        counts[LOST] += 1
    else:
        counts[READABLE if again.failure is None and judgement.failure is not None else OTHER] += 1
    return again


def read_again(judgement: Judgement, rubric: Rubric) -> Judgement:
    """A judgement as its reply is read now; it must have one."""
    reply = judgement.reply or ""
    if isinstance(judgement, Rating):
        asked = [principle for principle in rubric.principles if principle.id in judgement.scores]
        rating = read_rating(reply, asked)
        return msgspec.structs.replace(judgement, scores=rating.scores, failure=rating.failure)
    if isinstance(judgement, Comparison):
        asked = [principle for principle in rubric.principles if principle.id in judgement.principles]
        verdict = read_comparison(reply, asked)
        return msgspec.structs.replace(
            judgement, winner=verdict.winner, principles=verdict.principles, failure=verdict.failure
        )
    assert isinstance(judgement, Choice)
    choice = read_choice(reply, len(judgement.responses))
    return msgspec.structs.replace(judgement, best=choice.best, failure=choice.failure)
