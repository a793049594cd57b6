"""Multiple-choice questions from files as they are found.

Reads   JSON lines, JSON, CSV, TSV, Parquet, workbooks, a folder of one of them, a dataset on the hub
Gives   Questions, and what was left out, by reason

Columns are found by their names, whatever their case, blanks and underscores:

    question    question, stem, prompt, query, input
    options     options, choices, answers: a list, an object by letter, either of them as JSON in a cell; or a column
                for each: A B C ..., option_a, choice_1
    answer      answer_idx, answer_index, correct_answer, answer, answer_key, label, gold, correct, target: an index,
                a letter, or the words of an option
    category    category, competency, subject, topic, domain

An answer of a number is an index where options are no such numbers; whether indices begin at 0 or 1 is seen in the
whole file, and asked for where it cannot be seen. A row that is no question with an answer among its options is counted
and left out, never guessed.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from prefkit.errors import InputError
from prefkit.rows.files import read_rows

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_QUESTION = ("question", "stem", "prompt", "query", "input")
_OPTIONS = ("options", "choices", "answers")
_ANSWER = (
    "answeridx", "answerindex", "correctanswer", "answer", "answerkey", "label", "gold", "correct", "target"
)  # fmt: skip
_CATEGORY = ("category", "competency", "subject", "topic", "domain")
_ONE_OPTION = re.compile(r"(?:option|choice|answer|op|opt|ending)?([a-j]|\d{1,2})")
_LETTER = re.compile(r"\(?([A-Za-z])\)?[.:)]?")
_NUMBER = re.compile(r"\d{1,2}")


@dataclass(frozen=True)
class Question:
    """A question with one right option.

    Args:
        number: of its row in the file.
        text: the question, what belongs before it included.
        options: at least two.
        answer: which is right, from 0.
        category: "" where the file names none.
    """

    number: int
    text: str
    options: tuple[str, ...]
    answer: int
    category: str = ""


@dataclass(frozen=True)
class Suite:
    """The questions of a file.

    Args:
        name: of the file.
        questions: in its order.
        left_out: rows that are none, by reason.
        answers_are: how the file names right options, in words.
    """

    name: str
    questions: tuple[Question, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)
    answers_are: str = ""


@dataclass(frozen=True)
class _Raw:
    number: int
    text: str
    options: tuple[str, ...]
    answer: Any
    category: str


class _Unfit(Exception):
    """A row is no question, for a reason in few words."""


def read_suite(
    source: str | Path,
    *,
    category: str | None = None,
    context: Sequence[str] = (),
    split: str | None = None,
    index_from: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Suite:
    """Read a file of questions.

    Args:
        source: a file, a folder, or a dataset on the hub.
        category: the column of categories, where it is none of the usual ones.
        context: columns whose words are put before the question, in this order.
        split: of a folder or a dataset.
        index_from: 0 or 1 where answers are indices; None to see it in the file.
        progress: told of the bytes read so far.

    Raises:
        InputError: there is no such file, no column that is needed, no question, or nothing to tell whether indices
            begin at 0 or 1.
    """
    left_out: Counter[str] = Counter()
    raw: list[_Raw] = []
    columns: list[str] = []
    for row in read_rows(source, split=split, progress=progress):
        columns = columns or list(row.values)
        if row.broken:
            left_out["broken"] += 1
            continue
        try:
            raw.append(_raw(row.number, row.values, category, context))
        except _Unfit as unfit:
            left_out[str(unfit)] += 1
    first, said = _first_index(source, raw, index_from)
    questions = []
    for one in raw:
        answer = _answer(one, first)
        if answer is None:
            left_out["answer not among the options"] += 1
        else:
            questions.append(Question(one.number, one.text, one.options, answer, one.category))
    if not questions:
        counted = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items())
        remedy = "Name the columns question, options (or A, B, C, D) and answer: see docs/knowledge.md."
        found = f"no question in columns {', '.join(columns[:12])} ({counted})"
        raise InputError(source, found, "questions with options and an answer", remedy)
    return Suite(Path(source).name, tuple(questions), dict(left_out), said)


def _raw(number: int, row: Mapping[str, Any], category: str | None, context: Sequence[str]) -> _Raw:
    named = {_plain(name): value for name, value in row.items()}
    question = _words(_first(named, _QUESTION))
    if not question:
        raise _Unfit("no question")
    for name in (*context, *([category] if category else [])):
        if name not in row:
            raise _Unfit(f"no column {name}")
    before = [words for name in context if (words := _words(row[name]))]
    options = _options(named)
    if len(options) < 2 or len(options) > len(LETTERS):
        raise _Unfit("fewer than two options" if len(options) < 2 else "more than 26 options")
    if len(set(options)) < len(options):
        raise _Unfit("the same option twice")
    answer = _first(named, _ANSWER)
    if answer is None or answer == "":
        raise _Unfit("no answer")
    kind = _words(row[category]) if category else _words(_first(named, _CATEGORY))
    return _Raw(number, "\n\n".join([*before, question]), options, answer, kind)


def _plain(name: str) -> str:
    """``Choice A`` and ``choice_a`` are one."""
    return re.sub(r"[\W_]+", "", name.casefold())


def _first(named: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((named[name] for name in names if named.get(name) not in (None, "")), None)


def _words(value: Any) -> str:
    missing = isinstance(value, float) and math.isnan(value)
    return " ".join(str(value).split()) if isinstance(value, str | int | float) and not missing else ""


def _options(named: Mapping[str, Any]) -> tuple[str, ...]:
    value = _first(named, _OPTIONS)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError:
            value = None
    if isinstance(value, Mapping):
        if isinstance(value.get("text"), list | tuple):  # as ARC has them: labels beside texts
            value = value["text"]
        else:
            value = [value[name] for name in sorted(value)]
    if value is not None and not isinstance(value, str | int | float):
        return tuple(_words(one) for one in value if _words(one))
    single = sorted((len(found[1]), found[1], name) for name in named if (found := _ONE_OPTION.fullmatch(name)))
    return tuple(words for *_, name in single if (words := _words(named[name])))


def _index(one: _Raw) -> int | None:
    """The number that an answer is, where it is no option's own words."""
    if isinstance(one.answer, bool):
        return None
    if isinstance(one.answer, int) or (isinstance(one.answer, float) and one.answer.is_integer()):
        return int(one.answer)
    words = _words(one.answer)
    return int(words) if _NUMBER.fullmatch(words) and words not in one.options else None


def _first_index(source: object, raw: Sequence[_Raw], told: int | None) -> tuple[int, str]:
    """Where indices begin, and in words what answers are."""
    found = [(index, len(one.options)) for one in raw if (index := _index(one)) is not None]
    if not found:
        return 0, "letters or the words of an option"
    if told is None:
        zero, last = any(index == 0 for index, _ in found), any(index == size for index, size in found)
        if zero == last:
            seen = "both 0 and the number of options" if zero else "neither 0 nor the number of options"
            remedy = "Say --index-from 0 or --index-from 1."
            raise InputError(source, f"answers that are indices, {seen} among them", "indices from 0 or from 1", remedy)
        told = 0 if zero else 1
    return told, f"indices from {told}"


def _answer(one: _Raw, first: int) -> int | None:
    """Which option is right; None where that is none of them."""
    index = _index(one)
    if index is not None:
        return index - first if 0 <= index - first < len(one.options) else None
    words = _words(one.answer)
    if words in one.options:
        return one.options.index(words)
    letter = _LETTER.fullmatch(words)
    if letter is None:
        return None
    place = LETTERS.index(letter[1].upper())
    return place if place < len(one.options) else None
