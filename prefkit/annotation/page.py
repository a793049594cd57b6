"""The page's reading side: a case as the values of a record's one field, and the template that shows them.

Reads   annotation/templates/case.html
Gives   the field ``case`` of a record, and the template with the rubric's principles in it

Argilla shows such a field in an iframe of its own origin, without a sandbox, and puts the whole record into a script
there as plain JSON: a text with ``</script>`` in it would run, and ``$&`` or ``#TEMPLATE#`` would be replaced (the page
is put together with String.replace). So no text of a case goes out as it is: what could end a script, open a tag or
start a pattern is written as ``\\u003c``, and the template undoes that and sets text, never HTML. All of a case is in
this one field, since the texts of other fields of the record would stand in that script too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from prefkit.records import Message, Role
from prefkit.rubric import Rubric

FIELD = "case"
"""The only field of a record."""

SPEAKERS: dict[Role, str] = {"system": "setting", "user": "client", "assistant": "therapist"}

_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f<$#\\\\\u2028\u2029\ud800-\udfff]")
_UNSAFE_IN_SCRIPT = re.compile("[<$#\u2028\u2029\x7f-\x9f]")
_ESCAPED = re.compile(r"\\u([0-9a-f]{4})")
_PLACE = '"PRINCIPLES"'


def escaped(text: str) -> str:
    """A text without anything that means something to the page that Argilla builds; most texts stay as they are."""
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def unescaped(text: str) -> str:
    """The text that `escaped` was given, as the template shows it."""
    return _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)


def case_field(prompt: Sequence[Message], responses: Sequence[str], notes: Sequence[str] = ()) -> dict[str, Any]:
    """What a record's field ``case`` holds.

    Args:
        prompt: what is answered; a dialogue with its speakers.
        responses: one, or A and B in the order in which they are shown.
        notes: what earlier annotators wrote, where somebody is asked to decide between them.
    """
    turns = [{"who": SPEAKERS[message.role], "text": escaped(message.content)} for message in prompt]
    field = {"turns": turns, "responses": [escaped(text) for text in responses]}
    return {**field, "notes": [escaped(note) for note in notes]} if notes else field


def template(rubric: Rubric) -> str:
    """The HTML of the page, with the principles that it can unfold."""
    principles = [
        {
            "title": one.title.strip(),
            "text": "\n".join(filter(None, (one.statement.strip(), one.question.strip()))),
            "anchors": [[f"{value:g}", one.anchors[value].strip()] for value in sorted(one.anchors)],
        }
        for one in rubric.principles
    ]
    # JSON is read as JavaScript here, so the escapes are undone by the parser itself.
    known = _UNSAFE_IN_SCRIPT.sub(lambda found: f"\\u{ord(found[0]):04x}", msgspec.json.encode(principles).decode())
    return _file().replace(_PLACE, known, 1)


@cache
def _file() -> str:
    return (shipped("templates") / "case.html").read_text(encoding="utf-8")


def shipped(folder: str) -> Path:
    """A folder of files that ship with prefkit: in the wheel beside the code, in the repository under annotation/."""
    beside_the_code = Path(__file__).parent.parent / "annotation_files"
    root = beside_the_code if beside_the_code.is_dir() else Path(__file__).parent.parent.parent / "annotation"
    return root / folder
