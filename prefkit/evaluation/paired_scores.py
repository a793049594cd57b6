"""What annotators scored two policies' answers to the same prompts, side by side: the columns of a blind study.

Reads   the ratings, responses and prompts of a run
Gives   PairedScores: a row for each prompt and annotator, two columns for each question

The questions are the whole, where all principles were scored, and each principle. Several answers of a policy to a
prompt, and repeats of a model, are averaged; of a person the first answer counts, as the others are asked to see
whether it is the same. A score that is missing is NaN, never a low one; what is left out is counted.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prefkit.errors import RunError
from prefkit.evaluation.outcome_rows import Texts, counts, need_judges, unanswered
from prefkit.evaluation.outcomes import OTHER_RUBRIC, UNREADABLE
from prefkit.evaluation.studies import Study, studies
from prefkit.records import Rating, is_model
from prefkit.run import Run

Floats = npt.NDArray[np.float64]
WHOLE = "overall"


@dataclass(frozen=True)
class PairedScores:
    """Scores of two policies.

    Args:
        prompt: [rows] ids.
        first, second: question -> [rows] scores, NaN where missing.
        annotators: who scored both on some prompt.
        left_out: ratings that are no score of either, by reason.
    """

    prompt: tuple[str, ...]
    first: dict[str, Floats]
    second: dict[str, Floats]
    annotators: tuple[str, ...]
    left_out: dict[str, int]


def run_studies(
    run: Run, policy: str, baseline: str, *, judges: Sequence[str] | None = None, seed: int = 0
) -> tuple[PairedScores, tuple[Study, ...]]:
    """Two policies' scores on the whole and on each principle, with tests corrected for the number of questions.

    Args:
        run: the run.
        policy, baseline: of its policies.
        judges: annotators that count, or ``llm`` and ``human`` for all of a kind; None for everybody.
        seed: of the intervals.

    Raises:
        PrefkitError: there is no such policy or judge.
        RunError: nobody scored both on a prompt.
        RecordError: a line is not a record.
    """
    found = paired_scores(run, policy, baseline, judges=judges)
    asked = [name for name in found.first if np.isfinite(found.first[name] + found.second[name]).any()]
    if not asked:
        counted = "".join(f"; {count:,} {reason}" for reason, count in found.left_out.items())
        remedy = f"Ask for ratings: prefkit judge {run.path} --judge MODEL"
        raise RunError(
            run.path, f"0 prompts with scores of {policy} and {baseline}{counted}", "ratings of both", remedy
        )
    first, second = ({name: side[name] for name in asked} for side in (found.first, found.second))
    return found, studies(first, second, found.prompt, seed=seed)


def paired_scores(run: Run, policy: str, baseline: str, *, judges: Sequence[str] | None = None) -> PairedScores:
    """The scores of two policies' answers. Arguments and errors as for ``run_studies``."""
    texts = Texts(run, (policy, baseline))
    principles = run.rubric.principle_ids
    cells: dict[tuple[str, str], tuple[list[Mapping[str, float]], list[Mapping[str, float]]]] = defaultdict(
        lambda: ([], [])
    )
    left_out, there = Counter[str](), set[str]()
    for rating in run.judgements():
        there.add(rating.annotator)
        if not isinstance(rating, Rating) or not counts(rating.annotator, judges):
            continue
        place = texts.wanted(rating.response_id)
        if place is None:
            continue  # of other policies
        shown_as_now = run.comparable(rating.rubric)
        if reason := _unfit(rating, texts.excluded(place), shown_as_now):
            left_out[reason] += 1
            continue
        given = {
            name: score
            for name in principles
            if name in shown_as_now and (score := rating.scores.get(name)) is not None
        }
        if len(given) == len(principles):
            given[WHOLE] = run.rubric.overall(given)
        cells[rating.prompt_id, rating.annotator][int(texts.policy[place])].append(given)
    need_judges(judges, sorted(there), run.path)
    both = {key: sides for key, sides in cells.items() if all(sides)}
    return PairedScores(
        prompt=tuple(prompt for prompt, _ in both),
        first={name: _column([sides[0] for sides in both.values()], name) for name in (WHOLE, *principles)},
        second={name: _column([sides[1] for sides in both.values()], name) for name in (WHOLE, *principles)},
        annotators=tuple(sorted({annotator for _, annotator in both})),
        left_out=dict(left_out),
    )


def _unfit(rating: Rating, excluded: bool, shown_as_now: frozenset[str]) -> str | None:
    """Why a rating does not count."""
    if excluded:
        return "on excluded prompts"
    if reason := unanswered(rating):
        return reason
    if rating.failure is not None:
        return UNREADABLE
    if rating.sample and not is_model(rating.annotator):
        return "asked again of the same person"
    return None if shown_as_now else OTHER_RUBRIC


def _column(cells: Sequence[Sequence[Mapping[str, float]]], question: str) -> Floats:
    """The mean score of each cell [rows]."""
    given = [[scores[question] for scores in cell if question in scores] for cell in cells]
    return np.array([np.mean(some) if some else np.nan for some in given], dtype=np.float64)
