"""What a person is asked about a case: the questions beside the page, and the page itself.

Reads   a rubric; a case: a prompt with its response or responses
Gives   Argilla settings and records' fields, and from the values that come back what was Said

A `Form` is made once for many cases, like that of the judges (judging/questions.py), and asks people the same: compare
two responses, or rate one by each principle. Nothing is pre-selected: Argilla fills suggestions in as if they were the
person's own answer, so none are ever sent.

Only the overall choice is required (in mode ``rate`` the scores): who cannot judge one principle leaves it open, and
who cannot judge the item discards it. The order of the questions is that of the keyboard: a choice moves on to the next
question, and the free text stands before the flags, so that one number too many ticks nothing.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from prefkit.annotation.connection import sdk
from prefkit.annotation.items import Mode
from prefkit.annotation.page import FIELD, case_field, template
from prefkit.annotation.said import Said, read_values, whole
from prefkit.records import Message, Score, digest
from prefkit.rubric import Principle, Rubric

if TYPE_CHECKING:
    import argilla

TEMPLATE = "1"
"""Goes up with every change to what a page says or how it orders it: an older answer answered another question."""

MOST_LABELS = 25
"""Scores beyond this many are typed, not chosen; as in the judges' questions."""

POSITION = "position"
"""The only metadata of a record: its place in the deck."""

Kind = Literal["choice", "several", "words"]

_LONGEST = {"name": 200, "title": 500, "description": 1000, "label": 500}  # characters that Argilla 2.8 takes


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question as the page puts it. ``labels`` are (value, words) in the order of the number keys."""

    name: str
    kind: Kind
    title: str
    description: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    required: bool = False


@dataclass(frozen=True, eq=False)
class Form:
    """A kind of question to people: all of it but the case.

    Args:
        rubric: what is good.
        mode: ``compare`` two responses, or ``rate`` one.
        per_principle: compare on each principle too; in mode ``rate`` this is what is asked, whatever it says.
        strength: ask how much better.
        adjudicating: the case comes with the reasons of two people who disagree.

    Raises:
        ValueError: there is no such mode.
    """

    rubric: Rubric
    mode: Mode
    per_principle: bool = True
    strength: bool = True
    adjudicating: bool = False

    def __post_init__(self) -> None:
        if self.mode not in ("compare", "rate"):
            raise ValueError(f"no mode {self.mode!r}: compare or rate")

    @cached_property
    def names(self) -> dict[str, str]:
        """Principle id -> the name of its question."""
        return {one.id: question_name(one.id) for one in self.rubric.principles}

    @cached_property
    def questions(self) -> tuple[Question, ...]:
        """The questions in the order in which they are asked."""
        principles = self.rubric.principles
        if self.mode == "rate":
            asked = [self._score_question(one) for one in principles]
        else:
            asked = [self._overall_question]
            if self.strength:
                asked.append(_STRENGTH)
            if self.per_principle:
                asked += [self._side_question(one) for one in principles]
        return (*asked, _REASON, _FLAGS)

    @cached_property
    def digest(self) -> str:
        """Digests all that is shown but the case and the guidelines, which say nothing of what is good."""
        shown = [
            [one.name, one.kind, one.title, one.description, list(one.labels), one.required] for one in self.questions
        ]
        return digest("human form", TEMPLATE, self.mode, self.adjudicating, self.rubric.hash, shown)

    def settings(self, guidelines: str, overlap: int = 1, client: argilla.Argilla | None = None) -> argilla.Settings:
        """The settings of an Argilla dataset that asks these questions.

        Args:
            guidelines: Markdown, at most 10,000 characters.
            overlap: submitted answers that complete a record.
            client: the connection; the last one made where it is None.
        """
        rg = sdk()
        made: dict[Kind, Any] = {
            "choice": lambda one: rg.LabelQuestion(labels=dict(one.labels), **_common(one), client=client),
            "several": lambda one: rg.MultiLabelQuestion(labels=dict(one.labels), **_common(one), client=client),
            "words": lambda one: rg.TextQuestion(use_markdown=False, **_common(one), client=client),
        }
        page = rg.CustomField(name=FIELD, title=" ", template=template(self.rubric), advanced_mode=True, _client=client)
        return rg.Settings(
            guidelines=guidelines,
            fields=[page],
            questions=[made[one.kind](one) for one in self.questions],
            metadata=[rg.IntegerMetadataProperty(name=POSITION, title="Position", client=client)],
            distribution=rg.TaskDistribution(min_submitted=overlap),
        )

    def fields(
        self, prompt: Sequence[Message], left: str, right: str | None = None, notes: Sequence[str] = ()
    ) -> dict[str, Any]:
        """The fields of a record.

        Args:
            prompt: what is answered.
            left: the response shown as A, or the only one.
            right: the response shown as B; None in mode ``rate``.
            notes: the earlier annotators' reasons, without names; for an adjudicating form.

        Raises:
            ValueError: the texts do not fit the form.
        """
        if (right is None) != (self.mode == "rate"):
            raise ValueError(f"a form of mode {self.mode} with {1 if right is None else 2} responses")
        if notes and not self.adjudicating:
            raise ValueError("notes for a form that shows none")
        return {FIELD: case_field(prompt, [left] if right is None else [left, right], notes)}

    def read(self, values: Any) -> Said:
        """What a person said; whatever cannot be understood is among the problems. Never raises."""
        if self.mode == "rate":
            scales = {self.names[one.id]: (one.id, one.scale) for one in self.rubric.principles}
            return read_values(values, {}, scales, strength=False)
        principles = {name: principle for principle, name in self.names.items()} if self.per_principle else {}
        return read_values(values, {"overall": "", **principles}, {}, strength=self.strength)

    @cached_property
    def _overall_question(self) -> Question:
        what = "session" if self.rubric.unit == "session" else "response"
        return Question(
            name="overall",
            kind="choice",
            title=f"Which {what} is better, all in all?",
            labels=(("A", "A"), ("B", "B"), ("tie", "About equal")),
            required=True,
        )

    def _side_question(self, principle: Principle) -> Question:
        return Question(
            name=self.names[principle.id],
            kind="choice",
            title=_cut(principle.title, "title"),
            description=_described(principle, anchors=True),
            labels=(("A", "A"), ("B", "B"), ("tie", "About equal")),
        )

    def _score_question(self, principle: Principle) -> Question:
        scores = principle.scale.values()
        typed = len(scores) > MOST_LABELS
        ends = f" (a number from {score_label(scores[0])} to {score_label(scores[-1])})" if typed else ""
        labels = [(score_label(score), _label_words(score, key, principle)) for key, score in enumerate(scores, 1)]
        return Question(
            name=self.names[principle.id],
            kind="words" if typed else "choice",
            title=_cut(principle.title, "title", len(ends)) + ends,
            description=_described(principle, anchors=typed),
            labels=() if typed else tuple(labels),
            required=True,
        )


_STRENGTH = Question(
    name="strength",
    kind="choice",
    title="How much better?",
    description="Leave this open if the two are about equal.",
    labels=(("slightly", "Slightly"), ("clearly", "Clearly"), ("much", "Much")),
)
_REASON = Question(
    name="reason",
    kind="words",
    title="Why? (if you like)",
    description="A sentence in your own words. Please write no names.",
)
_FLAGS = Question(
    name="flags",
    kind="several",
    title="If it applies",
    description="For the researchers, who read these later. Nobody is alerted now.",
    labels=(
        ("uncomfortable", "I am not comfortable with this item"),
        ("risk", "The client may be at risk"),
    ),
)


def question_name(principle: str) -> str:
    """The name of a principle's question: ``principle-`` and its id, of which letters, digits, - and _ stay.

    Anything else becomes its code point, ``_ue9_``; an underscore before a u is written so too, so that no two ids
    have one name. An id too long for Argilla becomes a digest.
    """
    safe = re.sub("_(?=u)|[^A-Za-z0-9_-]", lambda found: f"_u{ord(found[0]):x}_", principle)
    name = f"principle-{safe}"
    return name if len(name) <= _LONGEST["name"] else f"principle-_u_{digest(principle)}"


def score_label(score: Score) -> str:
    """The label that stands for a score."""
    return str(whole(score))


def _common(question: Question) -> dict[str, Any]:
    return {
        "name": question.name,
        "title": question.title,
        "description": _as_html(question.description) or None,
        "required": question.required,
    }


def _label_words(score: Score, key: int, principle: Principle) -> str:
    """A score's words on its button: level or number, then its anchor; the page puts the number key before them."""
    level = dict(zip(principle.scale.values(), principle.scale.levels, strict=False)).get(score)
    anchor = {whole(value): text.strip() for value, text in principle.anchors.items()}.get(whole(score), "")
    if not level and anchor and score_label(score) == str(key):
        return _cut(anchor, "label")
    return _cut(" · ".join(filter(None, (level or score_label(score), anchor))), "label")


def _explained(principle: Principle) -> str:
    return " ".join(filter(None, (principle.statement.strip(), principle.question.strip())))


def _described(principle: Principle, anchors: bool) -> str:
    lines = [_explained(principle)]
    if anchors:
        lines += [f"{score_label(value)}: {principle.anchors[value].strip()}" for value in sorted(principle.anchors)]
    return _cut("\n".join(lines), "description")


def _as_html(description: str) -> str:
    """A description for the page, which sets it as HTML in its tooltip."""
    over = len(html.escape(description, quote=False)) - _LONGEST["description"]
    shorter = description if over <= 0 else f"{description[: -over - 1].rstrip()}…"
    return html.escape(shorter, quote=False)


def _cut(text: str, what: str, less: int = 0) -> str:
    """As much of a text as Argilla takes there; the page unfolds the whole of it."""
    text, most = text.strip(), _LONGEST[what] - less
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"
