"""Items as Label Studio tasks, and its export back.

Writes  a JSON list of tasks, and the labeling configuration for them: plain tags, no interface of its own
Reads   Label Studio's full JSON export (Export, JSON): tasks with everybody's annotations

Two answers are compared by clicking on the better one (Pairwise), which knows no tie; a tie is a Choices tag beside it.
Scores are Rating stars where a scale is 1, 2, 3, ... and its steps have no words, otherwise Choices. Texts stand in a
task's data, where Label Studio shows them as they are; the configuration holds none but the rubric's.

Label Studio knows an account by a number: with it goes the annotator's pseudonym. ``lead_time`` is how long the
annotation was open, in seconds. Drafts that nobody submitted are counted and left out: they name their account
in another way. In its community edition anybody can open and change anybody's annotation, which stays under the
first one's account: such are counted.
"""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec

from prefkit.annotation.answers import Answer, Refused, Status
from prefkit.annotation.form import Form, Question
from prefkit.annotation.shown import Shown
from prefkit.annotation.tables import FileRow
from prefkit.durable import replacing

TIE = "tie"
"""The name of the tag for a tie."""
MOST_STARS = 10
LONGEST_INLINE = 20
"""Characters of a label; where one is longer, labels stand below each other."""

_SMALL = "font-size: 14px; font-weight: normal; white-space: pre-line; margin: 0 0 4px 0"
"""A description's style; by its size alone, a Header would be as large as the title above it."""

_SIDES = {"left": "A", "right": "B"}
_NUMBERED = "label-studio:"


class _Odd(Exception):
    """An annotation that says two things at once, or is none of ours."""


def write_tasks(path: Path, items: Iterable[Shown]) -> int:
    """Write a JSON list of tasks; return how many.

    Raises:
        RunError: the disk is full, or closed.
    """
    count = 0
    with replacing(path) as file:
        for shown in items:
            texts = {"client": shown.client, "left": shown.left} | ({"right": shown.right} if shown.right else {})
            data = {"item": shown.item.id, "form": shown.item.form, "deck": shown.item.deck, **texts}
            file.write((b",\n" if count else b"[\n") + msgspec.json.encode({"data": data}))
            count += 1
        file.write(b"\n]\n" if count else b"[]\n")
    return count


def write_configuration(path: Path, form: Form) -> None:
    """Write the labeling configuration of a form.

    Raises:
        RunError: the disk is full, or closed.
    """
    view = ElementTree.Element("View")
    _add(view, "Header", value="What the client says")
    _add(view, "Text", name="client", value="$client", valueType="text")
    if form.mode == "compare":
        question = next(one for one in form.questions if one.name == "overall")
        how = "Click on it, or tick that they are about equal; a second click takes either back."
        _add(view, "Header", value=f"{question.title} {how}")
        _add(view, "Pairwise", name=question.name, toName="left,right")
        sides = _add(view, "View", style="display: grid; grid-template-columns: 1fr 1fr; column-gap: 1em;")
        for letter, name in (("A", "left"), ("B", "right")):
            side = _add(sides, "View")
            _add(side, "Header", value=letter)
            _add(side, "Text", name=name, value=f"${name}", valueType="text")
        tie = _add(view, "Choices", name=TIE, toName="left", choice="single", showInline="true")
        _add(tie, "Choice", value="About equal", alias="tie")
    else:
        _add(view, "Header", value="The answer")
        _add(view, "Text", name="left", value="$left", valueType="text")
    for question in form.questions:
        if question.name != "overall":
            _ask(view, question)
    ElementTree.indent(view)
    with replacing(path) as file:
        file.write(ElementTree.tostring(view, encoding="utf-8") + b"\n")


def _add(parent: ElementTree.Element, tag: str, **attributes: str) -> ElementTree.Element:
    return ElementTree.SubElement(parent, tag, attributes)


def _ask(view: ElementTree.Element, question: Question) -> None:
    """The tags of one question."""
    _add(view, "Header", value=_literal(question.title), size="5")
    if question.description:
        lines = "\n".join(" ".join(line.split()) for line in question.description.splitlines())
        _add(view, "Header", value=_literal(lines), size="5", style=_SMALL)
    must = {"required": "true"} if question.required else {}
    if question.kind == "words":
        _add(view, "TextArea", name=question.name, toName="left", rows="2", maxSubmissions="1", editable="true", **must)
    elif stars := _stars(question):
        _add(view, "Rating", name=question.name, toName="left", maxRating=str(stars), **must)
    else:
        many = "multiple" if question.kind == "several" else "single"
        inline = "true" if all(len(words) <= LONGEST_INLINE for _, words in question.labels) else "false"
        choices = _add(view, "Choices", name=question.name, toName="left", choice=many, showInline=inline, **must)
        for value, words in question.labels:
            _add(choices, "Choice", value=_literal(words), alias=value)


def _literal(words: str) -> str:
    """Words of a rubric as Label Studio shows them unchanged: it takes $word for a field of the task, and $5 too."""
    return words.replace("$", "$\N{WORD JOINER}")


def _stars(question: Question) -> int:
    """How many stars stand for a question's labels; 0 where stars would say less than the labels do."""
    plain = [(str(number), str(number)) for number in range(1, len(question.labels) + 1)]
    return len(plain) if list(question.labels) == plain and len(plain) <= MOST_STARS else 0


def is_export(row: Mapping[str, Any]) -> bool:
    """Whether a row is a task of Label Studio's full JSON export."""
    return isinstance(row.get("data"), dict) and "annotations" in row


def is_short_export(columns: Iterable[str]) -> bool:
    """Whether these are the columns of Label Studio's JSON-MIN or CSV, which leave out what is needed."""
    return "annotation_id" in columns or {"annotator", "lead_time"} <= set(columns)


def export_answers(
    rows: Iterable[FileRow], forms: Mapping[str, Form], notes: Counter[str]
) -> Iterator[Answer | Refused]:
    """The answers in Label Studio's export.

    Args:
        rows: its tasks.
        forms: item id -> form.
        notes: is told of tasks without an annotation, of drafts, of annotations that somebody else changed, and of
            tags that are not ours.
    """
    for row in rows:
        task = f"task {row.values.get('id', row.number)}"
        data, annotations = row.values.get("data"), row.values.get("annotations")
        if row.broken or not isinstance(data, dict) or not isinstance(annotations, list):
            yield Refused(f"row {row.number}", "a task that cannot be read", row.broken or "no data or no annotations")
            continue
        drafts = row.values.get("drafts")
        notes["drafts in Label Studio, left out"] += len(drafts) if isinstance(drafts, list) else 0
        notes["tasks without an annotation"] += not annotations
        item = data.get("item")
        form = forms.get(item) if isinstance(item, str) else None
        if form is None:
            yield from (
                Refused(task, "an item that this run does not have", repr(item)) for annotation in annotations[:1]
            )
            continue
        for annotation in annotations:
            yield _answer(task, str(item), data.get("form"), form, annotation, notes)


def _answer(
    task: str, item: str, digest: object, form: Form, annotation: object, notes: Counter[str]
) -> Answer | Refused:
    if not isinstance(annotation, dict) or not isinstance(annotation.get("result"), list):
        return Refused(task, "an annotation that cannot be read", "no list under `result`")
    where = f"{task}, annotation {annotation.get('id', '?')}"
    account = _account(annotation.get("completed_by"))
    if account is None:
        return Refused(where, "no annotator", "an annotation without `completed_by`")
    changed_by = annotation.get("updated_by")
    notes["changed by another account since, kept as the first one's"] += (
        isinstance(changed_by, int) and account.startswith(_NUMBERED) and account != f"{_NUMBERED}{changed_by}"
    )
    try:
        values = _values(annotation["result"], form, notes)
    except _Odd as odd:
        return Refused(where, "a value that cannot be understood", str(odd))
    status: Status = "discarded" if annotation.get("was_cancelled") is True else "submitted"
    seconds = annotation.get("lead_time")
    measured = isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < float("inf")
    return Answer(
        where=where,
        item=item,
        account=account,
        status=status,
        values=values,
        form=digest if isinstance(digest, str) else None,
        updated=_epoch(annotation.get("updated_at")),
        seconds=round(float(seconds), 1) if measured and status == "submitted" else None,  # type: ignore[arg-type]
    )


def _account(by: object) -> str | None:
    """The account that an annotation is from: its number, or where there is none its address."""
    if isinstance(by, dict):
        by = by.get("id") if by.get("id") is not None else by.get("email")
    if isinstance(by, int) and not isinstance(by, bool):
        return f"{_NUMBERED}{by}"
    return by.strip() or None if isinstance(by, str) else None


def _values(results: list[object], form: Form, notes: Counter[str]) -> dict[str, Any]:
    """Question -> value, as the form reads it."""
    questions = {question.name: question for question in form.questions}
    values: dict[str, Any] = {}
    tie = False
    for result in results:
        if not isinstance(result, dict) or not isinstance(result.get("value"), dict):
            raise _Odd(repr(result)[:200])
        name, value = result.get("from_name"), result["value"]
        if name == TIE and "overall" in questions:
            tie = tie or bool(value.get("choices"))
        elif name not in questions:
            notes["answers to tags that are not prefkit's, passed over"] += 1
        elif name in values:
            raise _Odd(f"{name} twice")
        else:
            values[name] = _value(questions[name], value)
    if tie and values.get("overall") not in (None, "tie"):
        raise _Odd(f"both {values['overall']} and a tie")
    return values | ({"overall": "tie"} if tie else {})


def _value(question: Question, value: Mapping[str, Any]) -> Any:
    if "selected" in value:
        return _SIDES.get(value["selected"], value["selected"])
    if "rating" in value:
        return value["rating"]
    if "text" in value:
        text = value["text"]
        return "\n".join(map(str, text)) if isinstance(text, list) else text
    chosen = value.get("choices")
    if question.kind == "several" or not isinstance(chosen, list):
        return chosen
    if len(chosen) != 1:
        raise _Odd(f"{question.name}: {len(chosen)} choices")
    return chosen[0]


def _epoch(time: object) -> float | None:
    """Seconds since 1970; None for what is not a time."""
    try:
        return dt.datetime.fromisoformat(time).timestamp() if isinstance(time, str) else None
    except ValueError:
        return None
