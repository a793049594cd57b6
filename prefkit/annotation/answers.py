"""What a person answered becomes a judgement: who said so, about which two responses, the sides undone.

Reads   annotation/items.jsonl   what was shown under an item's id, and which response stood left
Gives   Judgements               Comparisons with ``a`` left and ``b`` right as they were shown, and Ratings

An answer tells its item's id and nothing else that is believed. Where the item is unknown, was shown under another
form, or a value cannot be understood, the answer is ``Unread`` with the reason: it is listed, never guessed at. A draft
or a discarded answer keeps its reason and flags, and has no winner and no scores.

How long an answer took is not told by Argilla, which keeps when an answer was first and last saved. ``seconds_taken``
says what follows from that and no more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from prefkit.annotation.form import Form
from prefkit.annotation.items import Item, Mode, Side, items_of, pseudonym
from prefkit.annotation.said import Said
from prefkit.records import Comparison, Judgement, Rating, Winner, judgement_id
from prefkit.run import Run

Status = Literal["submitted", "draft", "discarded"]
STATUSES: tuple[Status, ...] = ("submitted", "draft", "discarded")

BREAK = 900.0
"""Seconds. A longer gap between two answers of an annotator holds a break, and tells nothing about the second."""
TOGETHER = 0.5
"""Seconds. Answers saved this close to each other were sent together."""

_WINNERS: dict[Side, Winner] = {"left": "a", "right": "b", "tie": "tie"}


class Unread(Exception):
    """Why an answer is no judgement: a reason to count by, and what was found in this answer."""

    def __init__(self, reason: str, found: str) -> None:
        super().__init__(f"{reason}: {found}")
        self.reason, self.found = reason, found


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One person's answer to one item, as its source has it.

    Attributes:
        where: its place in the source, for the list of those that could not be read.
        item: the item's id.
        account: the account's id, or its name where the source knows no ids.
        status: None where the source does not say: then an answer to all that must be answered counts as submitted.
        values: question -> value, the labels and texts that the form uses.
        form: the digest of the form, where the source holds it.
        inserted, updated: when it was first and last saved, in seconds since 1970.
        seconds: how long it took, where the source measures that.
    """

    where: str
    item: str
    account: str
    status: Status | None
    values: Mapping[str, Any]
    form: str | None = None
    inserted: float | None = None
    updated: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """An answer that its source could not tell whole: where it stands, why, and what was found."""

    where: str
    reason: str
    found: str


@dataclass(frozen=True, slots=True)
class Read:
    """A judgement with the item and the answer that it came from; ``status`` is never unsaid."""

    judgement: Judgement
    item: Item
    status: Status


class AnswerReader:
    """Reads the answers of a run: knows its items by id, the form that each was shown under, and pseudonyms."""

    def __init__(self, run: Run) -> None:
        """Read the items.

        Raises:
            RecordError: a line of items.jsonl is not an item.
        """
        self._run = run
        self.items = {item.id: item for item in items_of(run)}
        made = {form.digest: form for form in forms_of(run)}
        self.forms = {item.id: made[item.form] for item in self.items.values() if item.form in made}
        self._pseudonyms: dict[str, str] = {}

    def read(self, answer: Answer) -> Read:
        """The judgement that an answer is.

        Raises:
            Unread: its item is unknown, or was shown under another form, or a value cannot be understood.
        """
        item = self.items.get(answer.item)
        if item is None:
            raise Unread("an item that this run does not have", repr(answer.item))
        form = self.forms.get(item.id)
        if form is None:
            raise Unread("a form that this version does not make", item.form)
        if answer.form is not None and answer.form != item.form:
            raise Unread("another form than its item's", answer.form)
        said = form.read(answer.values)
        complete = is_complete(form, said)
        status = answer.status or ("submitted" if complete else "draft")
        if said.problems:
            raise Unread("a value that cannot be understood", "; ".join(said.problems))
        if status == "submitted" and not complete:
            raise Unread("an answer without a choice, though submitted", ", ".join(sorted(answer.values)) or "nothing")
        return Read(self._judgement(answer, item, form, said, status), item, status)

    def _judgement(self, answer: Answer, item: Item, form: Form, said: Said, status: Status) -> Judgement:
        annotator = self.pseudonym(answer.account)
        finished = status == "submitted"
        shared: dict[str, Any] = {
            "id": question_id(annotator, item),
            "annotator": annotator,
            "prompt_id": item.prompt_id,
            "rubric": item.rubric,
            "sample": item.sample,
            "failure": None if finished else status,
            "reason": said.reason,
            "flags": (*said.flags, *_marks(item, said, finished)),
            "seconds": answer.seconds,
        }
        asked = form.rubric.principle_ids
        if item.right is None:
            scores = {name: said.scores.get(name) if finished else None for name in asked}
            return Rating(**shared, response_id=item.left, scores=scores)
        sides = said.principles if finished else {}
        return Comparison(
            **shared,
            a=item.left,
            b=item.right,
            winner=_winner(said.overall) if finished else None,
            principles={name: _winner(sides.get(name)) for name in asked} if form.per_principle else {},
            strength=said.strength if finished else None,
        )

    def pseudonym(self, account: str) -> str:
        """The annotator that an account is known as."""
        known = self._pseudonyms.get(account)
        if known is None:
            known = self._pseudonyms[account] = pseudonym(self._run, account)
        return known


def question_id(annotator: str, item: Item) -> str:
    """The id of an annotator's judgement of an item, before and after it is answered."""
    return judgement_id(annotator, [item.form, item.words, item.left, item.right], item.sample)


def is_complete(form: Form, said: Said) -> bool:
    """Whether all is answered that decides: the overall choice, or a score for every principle."""
    if form.mode == "compare":
        return said.overall is not None
    return all(name in said.scores for name in form.rubric.principle_ids)


def forms_of(run: Run) -> list[Form]:
    """Every form that items of a run may have been shown under: of its rubric, and of those it had before."""
    return [
        Form(rubric, mode, per_principle=per_principle, strength=strength, adjudicating=adjudicating)
        for rubric in run.info.rubrics.values()
        for mode in get_args(Mode)
        for per_principle in (True, False)
        for strength in (True, False)
        for adjudicating in (False, True)
    ]


def _winner(side: Side | None) -> Winner | None:
    return None if side is None else _WINNERS[side]


def _marks(item: Item, said: Said, finished: bool) -> tuple[str, ...]:
    """The flags that the item adds to an answer."""
    if item.kind == "adjudication":
        return ("adjudication",)
    if item.kind == "attention" and finished:
        return ("attention:right" if said.overall == item.expected else "attention:wrong",)
    return ()


def seconds_taken(saved: Sequence[tuple[float, float]]) -> list[float | None]:
    """How long each of one annotator's answers took, at most, as far as the times of saving tell.

    It is the time since the answer before it was finished. That holds the reading of this item, and whatever else was
    done in between: an upper bound. None where nothing follows: for the first answer; after a gap of more than
    ``BREAK``; where this answer or the one before was changed after the next one had been begun, as only the last
    saving is kept; and where two answers were sent together.

    Args:
        saved: when each answer was first and last saved, in seconds, in any order.

    Returns:
        Seconds, rounded to a tenth, in the order of ``saved``.
    """
    taken: list[float | None] = [None] * len(saved)
    order = sorted(range(len(saved)), key=lambda place: saved[place])
    next_begun = [*(saved[place][0] for place in order[1:]), math.inf]
    finished = [
        saved[place][1] if saved[place][1] <= following else None
        for place, following in zip(order, next_begun, strict=False)
    ]
    for number, place in enumerate(order[1:], 1):
        before, now = finished[number - 1], finished[number]
        if before is not None and now is not None and TOGETHER <= now - before <= BREAK:
            taken[place] = round(now - before, 1)
    return taken
