"""Guidelines for the people who judge: what is asked, how long, how to stop, what to do when an item distresses.

Reads   annotation/guidelines/RUBRIC.md, or general.md where a rubric has none, or a file of the user's own
Gives   Markdown, with what this form asks and the rubric's principles in the places that the file names

A file may hold ``{{shown}}``, ``{{questions}}``, ``{{principles}}``, ``{{removed}}`` (whether identifying words were
taken out of the texts) and ``{{contact}}``; one without them is taken as it stands. The words of a rubric are shown as
words, whatever Markdown would make of them.
"""

from __future__ import annotations

import re
from pathlib import Path

from prefkit.annotation.form import Form
from prefkit.annotation.page import shipped
from prefkit.errors import InputError
from prefkit.rubric import Rubric

LONGEST = 10_000
"""Characters of guidelines that Argilla 2.8 takes."""

_SENDER = "whoever sent you the link to this page"
_REMOVED = {
    True: "Names, numbers and addresses were removed by a program, which can miss some.",
    False: "No program has removed names, numbers or addresses: what you read may be about somebody who can be found.",
}

_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|!~$&])")

_WRAPPED = re.compile(r"(?<=[^\n|])\n(?=[^\n|#-])")  # Argilla's Markdown breaks a line where the file does


def guidelines_for(form: Form, path: Path | None = None, *, contact: str = "", scrubbed: bool = True) -> str:
    """The guidelines of a form.

    Args:
        form: what is asked.
        path: a file of the user's own; the shipped one for the form's rubric where it is None.
        contact: whom to turn to, in words; without any, whoever sent the link.
        scrubbed: whether all texts went through scrubbing.

    Raises:
        InputError: the file cannot be read, is empty, or is longer than Argilla allows.
    """
    where = path or _shipped_for(form.rubric)
    text = _read(where) if path else _WRAPPED.sub(" ", _read(where))
    for whole in (True, False):  # a rubric may be long; its statements stand beside the questions too
        filled = text
        places = {
            "shown": _shown(form),
            "questions": _questions(form),
            "principles": _principles(form, whole),
            "removed": _REMOVED[scrubbed],
            "contact": _as_words(contact) or _SENDER,
        }
        for place, words in places.items():
            filled = filled.replace(f"{{{{{place}}}}}", words)
        if len(filled) <= LONGEST:
            return filled
    raise InputError(where, f"{len(filled):,} characters", f"at most {LONGEST:,}, which Argilla allows", "Shorten it.")


def _shipped_for(rubric: Rubric) -> Path:
    own = shipped("guidelines") / f"{rubric.id}.md"
    return own if own.is_file() else shipped("guidelines") / "general.md"


def _read(path: Path) -> str:
    remedy = "Check the path given with --guidelines; it is a Markdown file."
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(path, (error.strerror or str(error)).lower(), "a file that can be read", remedy) from None
    except UnicodeDecodeError as error:
        found = f"the byte 0x{error.object[error.start]:02x}, which is not UTF-8"
        raise InputError(path, found, "UTF-8 text", remedy) from None
    if not text.strip():
        raise InputError(path, "an empty file", "guidelines for the people who judge", remedy)
    return text.replace("\0", "")


def _shown(form: Form) -> str:
    if form.mode == "rate":
        return "Below it stands one response."
    return "Below it stand two responses, A and B."


def _questions(form: Form) -> str:
    if form.mode == "rate":
        lines = ["**Each principle.** Choose the description that fits the response best. All of them need an answer."]
    else:
        equal = "about equal: you would not mind which of them the person received"
        lines = [f"**{form.questions[0].title}** A, B, or {equal}. This is the one question that needs an answer."]
        if form.strength:
            lines.append("**How much better?** Leave this open if the two are about equal.")
        if form.per_principle:
            lines.append(
                "**Each principle.** The same choice, for this principle alone. Leave open what you cannot tell."
            )
    if form.adjudicating:
        lines.insert(
            0,
            "**Two colleagues chose differently here.** What they wrote stands below the text. Judge for "
            "yourself first; you may agree with either, or with neither.",
        )
    lines.append("**Why?** A sentence if you like, in your own words. It helps us more than anything else.")
    lines.append("**If it applies.** Two flags, explained below.")
    return "\n".join(f"- {line}" for line in lines)


def _principles(form: Form, whole: bool) -> str:
    lines = []
    for one in form.rubric.principles:
        title = _as_words(one.title).rstrip(".")
        lines.append(f"- **{title}.** {_as_words(one.statement)}" if whole else f"- **{title}**")
    return "\n".join(lines)


def _as_words(text: str) -> str:
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))
