"""One label for each question that several annotators answered, and how far each annotator is to be believed.

Reads   judgements of a run
Gives   Consensus: labels with their probability, skills; as JSON for ``agreement/consensus.json``

A pair that was compared has a label overall and for each principle: ``a`` (the response of the smaller id), ``b`` or
``tie``; a response that was rated has one for each principle, a value of its scale, and an overall score made of them.
Each is a question of its own: an annotator may be good at safety and bad at warmth.

- An answer given as the adjudicator of a conflict settles it: that label has the probability 1, and the answer takes
  no part in the models, since it was given in knowledge of the others.
- A question on which no answer leads has no label.
- A question with one vote has that vote for a label, with the probability that the annotator's skill gives it (1 by
  majority); ``votes`` says how many there are.
- Annotators who share no question, directly or through others, cannot be compared: ``groups`` says who can. The skill
  of one who shares none at all is None.
- Answers to hidden repeats and attention items, drafts and discarded ones do not count.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import msgspec
import numpy as np

from prefkit.agreement.voting import Ballots, Floats, Labels, dawid_skene, mace, majority
from prefkit.errors import RunError
from prefkit.records import Choice, Comparison, Judgement, Rating, Winner, is_model
from prefkit.run import Run

Method = Literal["majority", "dawid-skene", "mace"]
Who = Literal["people", "judges", "all"]
Answer = str | int | float

OVERALL = "overall"
ADJUDICATION = "adjudication"
ANSWERS: tuple[Winner, ...] = ("a", "tie", "b")
_CLOSE = 1e-9  # two answers whose probabilities differ by less are as likely as each other


class Label(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is taken for right about one question. ``votes`` are counts by answer; ``settled`` means by an
    adjudicator."""

    label: Answer | None
    probability: float
    votes: dict[str, int]
    settled: bool = False


class Labelled(msgspec.Struct, frozen=True, kw_only=True):
    """The labels of two responses compared, or of one rated, by principle; ``overall`` is among them for two."""

    prompt_id: str
    responses: tuple[str, ...]
    labels: dict[str, Label]
    score: float | None = None
    """Of one rated, where every principle has a label."""


class Skill(msgspec.Struct, frozen=True, kw_only=True):
    """An annotator's votes and skill, overall and by principle."""

    annotator: str
    votes: dict[str, int]
    skill: dict[str, float | None]


class Consensus(msgspec.Struct, frozen=True, kw_only=True):
    """All labels of a run, sorted by prompt and response, and the annotators."""

    method: Method
    who: Who
    seed: int
    compared: list[Labelled]
    rated: list[Labelled]
    skills_compared: list[Skill]
    skills_rated: list[Skill]
    groups: list[list[str]]
    """Annotators who can be compared with each other, the largest group first."""
    left_out: dict[str, int]

    def as_json(self) -> bytes:
        """The whole as JSON, indented."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"


def consensus(run: Run, *, method: Method = "dawid-skene", who: Who = "people", seed: int = 0) -> Consensus:
    """The labels on which a run's annotators agree.

    Args:
        run: the run.
        method: how votes become labels; see voting.py.
        who: whose votes.
        seed: of ``mace``; the others draw nothing at random.

    Raises:
        RunError: nobody voted.
        RecordError: a line is not a judgement.
    """
    reader = _Reader(run, who)
    for judgement in run.judgements():
        reader.take(judgement)
    if not reader.compared.votes and not reader.rated.votes:
        found = "no answers by " + {"people": "people", "judges": "models", "all": "anybody"}[who]
        remedy = f"Let people judge (prefkit annotate push {run.path}), or take --who all."
        raise RunError(run.path, found, "comparisons or ratings", remedy)
    compared, skills_compared = reader.compared.labelled(method, seed)
    rated, skills_rated = reader.rated.labelled(method, seed)
    return Consensus(
        method=method,
        who=who,
        seed=seed,
        compared=compared,
        rated=[_scored(one, run) for one in rated],
        skills_compared=skills_compared,
        skills_rated=skills_rated,
        groups=_groups([*reader.compared.seats(), *reader.rated.seats()]),
        left_out=dict(reader.left_out),
    )


def _scored(one: Labelled, run: Run) -> Labelled:
    scores = {name: label.label for name, label in one.labels.items() if isinstance(label.label, int | float)}
    whole = scores.keys() >= set(run.rubric.principle_ids)
    return msgspec.structs.replace(one, score=run.rubric.overall(scores) if whole else None)


@dataclass
class _Poll:
    """The votes on one kind of case: answers by question, annotator and case."""

    answers: dict[str, tuple[Answer, ...]]
    """The possible answers to each question, in an order that ``turned`` reverses."""
    turns: bool
    cases: dict[tuple[str, ...], str] = field(default_factory=dict)
    """The prompt of each case, by its responses."""
    votes: dict[str, list[tuple[tuple[str, ...], str, int, bool]]] = field(default_factory=dict)
    """By question: case, annotator, place of the answer, whether it was shown the other way round."""
    settled: dict[str, dict[tuple[str, ...], int]] = field(default_factory=dict)

    def seats(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Who answered about which case."""
        yield from {(case, annotator) for votes in self.votes.values() for case, annotator, _, _ in votes}

    def labelled(self, method: Method, seed: int) -> tuple[list[Labelled], list[Skill]]:
        """Every case with its labels, every annotator with their skills."""
        labels: dict[tuple[str, ...], dict[str, Label]] = {}
        skill: dict[str, dict[str, float | None]] = {}
        counts: dict[str, Counter[str]] = {}
        for question in self.answers:
            votes = self.votes.get(question, [])
            cases = sorted({*(vote[0] for vote in votes), *self.settled.get(question, {})})
            names = sorted({vote[1] for vote in votes})
            if not cases:
                continue
            ballots = self._ballots(question, cases, names)
            found = _labels(ballots, method, seed)
            shared = _shares_a_question(ballots)
            for place, name in enumerate(names):
                value = found.skill[place]
                known = shared[place] and not math.isnan(value)
                skill.setdefault(name, {})[question] = round(float(value), 6) if known else None
            for _, name, _, _ in votes:
                counts.setdefault(name, Counter())[question] += 1
            for case, row, given in zip(cases, found.probability, ballots.votes(), strict=True):
                labels.setdefault(case, {})[question] = self._label(question, case, row, given)
        order = sorted(labels, key=lambda case: (self.cases[case], case))
        return (
            [Labelled(prompt_id=self.cases[case], responses=case, labels=labels[case]) for case in order],
            [Skill(annotator=name, votes=dict(counts[name]), skill=skill[name]) for name in sorted(skill)],
        )

    def _ballots(self, question: str, cases: list[tuple[str, ...]], names: list[str]) -> Ballots:
        votes = self.votes.get(question, [])
        item, who = {case: place for place, case in enumerate(cases)}, {name: place for place, name in enumerate(names)}
        rows = np.asarray([(item[case], who[name], said, turned) for case, name, said, turned in votes], dtype=np.int64)
        rows = rows.reshape(-1, 4)
        # The same votes in another order of lines are the same sums to the last bit.
        rows = rows[np.lexsort(rows.T)]
        answers = np.arange(len(self.answers[question]))
        mirror = answers[::-1].copy() if self.turns else answers
        return Ballots(rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 3] > 0, len(cases), len(names), mirror)

    def _label(self, question: str, case: tuple[str, ...], probability: Floats, given: Floats) -> Label:
        answers = self.answers[question]
        votes = {str(name): int(many) for name, many in zip(answers, given, strict=True) if many}
        settled = self.settled.get(question, {}).get(case)
        if settled is not None:
            return Label(label=answers[settled], probability=1.0, votes=votes, settled=True)
        best = float(probability.max())
        leading = np.flatnonzero(probability > best - _CLOSE)
        label = answers[int(leading[0])] if len(leading) == 1 else None
        return Label(label=label, probability=round(best, 6), votes=votes)


def _labels(ballots: Ballots, method: Method, seed: int) -> Labels:
    if method == "majority":
        return majority(ballots)
    return dawid_skene(ballots) if method == "dawid-skene" else mace(ballots, seed)


def _shares_a_question(ballots: Ballots) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Whether each annotator answered a question that another answered too."""
    pairs = np.unique(np.column_stack([ballots.item, ballots.annotator]), axis=0)
    many = np.bincount(pairs[:, 0], minlength=ballots.items)[pairs[:, 0]] > 1
    return np.bincount(pairs[:, 1][many], minlength=ballots.annotators) > 0


def _groups(seats: list[tuple[tuple[str, ...], str]]) -> list[list[str]]:
    """Annotators joined by cases that they share, the largest group first."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    names = sorted({name for _, name in seats})
    cases = {case: place for place, case in enumerate(dict.fromkeys(case for case, _ in seats), len(names))}
    place = {name: at for at, name in enumerate(names)}
    rows, columns = [place[name] for _, name in seats], [cases[case] for case, _ in seats]
    size = len(names) + len(cases)
    joined = coo_array((np.ones(len(rows)), (rows, columns)), shape=(size, size))
    count, group = connected_components(joined, directed=False)
    found = [[name for name, at in zip(names, group, strict=False) if at == one] for one in range(count)]
    return sorted(filter(None, found), key=lambda group: (-len(group), group))


class _Reader:
    def __init__(self, run: Run, who: Who) -> None:
        self._run, self._who, self._rubric = run, who, run.info.rubric
        principles = run.rubric.principles
        self.compared = _Poll({OVERALL: ANSWERS, **{one.id: ANSWERS for one in principles}}, turns=True)
        self.rated = _Poll({one.id: tuple(one.scale.values()) for one in principles}, turns=False)
        self.left_out: Counter[str] = Counter()

    def take(self, judgement: Judgement) -> None:
        """Count a judgement's answers as votes, or why not."""
        if self._who != "all" and is_model(judgement.annotator) != (self._who == "judges"):
            return
        why = self._why_not(judgement)
        if why:
            self.left_out[why] += 1
        elif isinstance(judgement, Rating):
            self._rate(judgement)
        elif isinstance(judgement, Comparison):
            self._compare(judgement)

    def _why_not(self, judgement: Judgement) -> str | None:
        if judgement.failure is not None:
            return judgement.failure if judgement.failure in ("draft", "discarded") else "unreadable"
        if any(flag.startswith("attention:") for flag in judgement.flags):
            return "attention items"
        if judgement.sample:
            return "repeats"
        if isinstance(judgement, Choice):
            return "choices of the best of several"
        return "under another rubric" if not self._asked(judgement) else None

    def _asked(self, judgement: Judgement) -> frozenset[str]:
        """The principles about which the same was asked; a comparison's overall winner is about all of them."""
        asked = self._run.comparable(judgement.rubric)
        return asked if isinstance(judgement, Rating) or judgement.rubric == self._rubric else frozenset()

    def _compare(self, said: Comparison) -> None:
        turned = said.a > said.b
        case = (said.b, said.a) if turned else (said.a, said.b)
        for question, winner in {**said.principles, OVERALL: said.winner}.items():
            if winner is not None and question in self.compared.answers:
                self._vote(self.compared, said, case, question, ANSWERS.index(winner), turned)

    def _rate(self, said: Rating) -> None:
        asked = self._asked(said)
        for question, score in said.scores.items():
            if question in asked and score is not None:
                values = self.rated.answers[question]
                if score in values:
                    self._vote(self.rated, said, (said.response_id,), question, values.index(score), turned=False)
                else:
                    self.left_out["scores between the steps of the scale"] += 1

    def _vote(self, poll: _Poll, by: Judgement, case: tuple[str, ...], question: str, said: int, turned: bool) -> None:
        poll.cases[case] = by.prompt_id
        if ADJUDICATION in by.flags:
            meant = len(ANSWERS) - 1 - said if turned else said
            poll.settled.setdefault(question, {})[case] = meant
        else:
            poll.votes.setdefault(question, []).append((case, by.annotator, said, turned))
