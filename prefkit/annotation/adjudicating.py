"""Where people contradict each other, for a third person to decide.

Reads   judgements of a run, items.jsonl
Gives   Conflicts: the case, who has seen it, and what each of them said, without names

Two responses are in conflict where one person prefers the one and another the other; a tie contradicts nobody. A
response is where two scores on one principle lie further apart than half the scale. The third person decides in
knowledge of both reasons: their answer comes back with the flag ``adjudication`` and settles the label
(agreement/consensus.py), while coefficients of agreement leave it out. What an adjudicator has decided, or is being
asked, is in conflict no more.

A person writes of A and B as they saw them. Where somebody saw the two the other way round than the adjudicator will,
the note says so; the words stay as they were written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from prefkit.annotation.items import Mode, items_of
from prefkit.records import Comparison, Judgement, Rating, Winner, is_model
from prefkit.rubric import Rubric
from prefkit.run import Run

ADJUDICATION = "adjudication"
APART = 0.5
"""Of a scale's range: scores that differ by more are in conflict."""
_STRENGTHS = {None: "", 1: ", slightly", 2: ", clearly", 3: ", by far"}


@dataclass(frozen=True)
class Conflict:
    """A case that people answered in contradiction.

    ``annotators`` are the pseudonyms of those who answered it, who are not to decide it. ``weight`` puts first what is
    most in need of a decision: even votes before uneven ones, then strong opinions before weak ones.
    """

    prompt_id: str
    responses: tuple[str, ...]
    mode: Mode
    annotators: frozenset[str]
    weight: tuple[float, float]
    said: tuple[Comparison | Rating, ...]

    def notes(self, left: str, rubric: Rubric) -> tuple[str, ...]:
        """What each of them said, for a page that shows the response ``left`` as A; without names."""
        if self.mode == "compare":
            return tuple(_compared(one, left) for one in self.said if isinstance(one, Comparison))
        apart = _far_apart([one for one in self.said if isinstance(one, Rating)], rubric)
        titles = {one.id: one.title.strip() for one in rubric.principles if one.id in apart}
        return tuple(_rated(one, titles) for one in self.said if isinstance(one, Rating))


def conflicts(run: Run, mode: Mode = "compare", *, asked: bool = False) -> list[Conflict]:
    """The cases on which a run's people contradict each other, the most wanted first.

    Args:
        run: the run.
        mode: of comparisons, or of ratings.
        asked: also those that stand on an adjudicator's page already.

    Raises:
        RecordError: a line is not a record.
    """
    kind = Comparison if mode == "compare" else Rating
    excluded = {prompt.id for prompt in run.prompts() if prompt.excluded is not None}
    said: dict[tuple[str, ...], list[Comparison | Rating]] = {}
    pushed = () if asked else items_of(run)
    decided = {_case(item.left, item.right) for item in pushed if item.kind == ADJUDICATION}
    for judgement in run.judgements():
        if isinstance(judgement, kind) and _counts(judgement, run) and judgement.prompt_id not in excluded:
            case = _case_of(judgement)
            if ADJUDICATION in judgement.flags:
                decided.add(case)
            else:
                said.setdefault(case, []).append(judgement)
    found = [_conflict(case, answers, run.rubric) for case, answers in said.items() if case not in decided]
    return sorted(filter(None, found), key=lambda one: (*(-part for part in one.weight), one.prompt_id, one.responses))


def _counts(judgement: Judgement, run: Run) -> bool:
    answered = judgement.failure is None and not judgement.sample and not is_model(judgement.annotator)
    return (
        answered
        and judgement.rubric == run.info.rubric
        and not any(flag.startswith("attention:") for flag in judgement.flags)
    )


def _case(left: str, right: str | None) -> tuple[str, ...]:
    return tuple(sorted(filter(None, (left, right))))


def _case_of(judgement: Comparison | Rating) -> tuple[str, ...]:
    if isinstance(judgement, Comparison):
        return _case(judgement.a, judgement.b)
    return (judgement.response_id,)


def _conflict(case: tuple[str, ...], said: Sequence[Comparison | Rating], rubric: Rubric) -> Conflict | None:
    comparisons = [one for one in said if isinstance(one, Comparison)]
    ratings = [one for one in said if isinstance(one, Rating)]
    if comparisons:
        votes = [_favoured(one) for one in comparisons if one.winner not in (None, "tie")]
        each = sorted(votes.count(response) for response in case)
        if not each[0]:
            return None
        weight = (each[0] / each[1], float(sum(one.strength or 0 for one in comparisons) / len(comparisons)))
    else:
        apart = _far_apart(ratings, rubric)
        if not apart:
            return None
        weight = (max(apart.values()), float(len(apart)))
    return Conflict(
        prompt_id=said[0].prompt_id,
        responses=case,
        mode="compare" if comparisons else "rate",
        annotators=frozenset(one.annotator for one in said),
        weight=weight,
        said=tuple(sorted(said, key=lambda one: one.id)),
    )


def _favoured(said: Comparison) -> str:
    return said.a if said.winner == "a" else said.b


def _far_apart(ratings: Iterable[Rating], rubric: Rubric) -> dict[str, float]:
    """The principles on which ratings are in conflict, with how far they lie apart, of the scale's range."""
    rated, found = list(ratings), {}
    for principle in rubric.principles:
        scores = [score for one in rated if (score := one.scores.get(principle.id)) is not None]
        apart = (max(scores) - min(scores)) / (principle.scale.max - principle.scale.min) if scores else 0.0
        if apart > APART:
            found[principle.id] = apart
    return found


def _compared(said: Comparison, left: str) -> str:
    turned = said.a != left
    shown: dict[Winner | None, str] = {"a": "B" if turned else "A", "b": "A" if turned else "B", "tie": "neither"}
    return _note(f"Chose {shown.get(said.winner, 'neither')}{_STRENGTHS.get(said.strength, '')}", said.reason, turned)


def _rated(said: Rating, titles: dict[str, str]) -> str:
    scores = [f"{title} {said.scores[name]:g}" for name, title in titles.items() if said.scores.get(name) is not None]
    return _note("; ".join(scores) or "No score", said.reason, turned=False)


def _note(what: str, reason: str | None, turned: bool) -> str:
    if not reason or reason.isspace():
        return f"{what}. No reason given."
    other = " (The words call B what is A here: the two stood the other way round.)" if turned else ""
    return f"{what}: {reason.strip()}{other}"
