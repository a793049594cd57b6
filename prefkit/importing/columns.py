"""Columns to drafts: which column of a file means what, for files of any shape.

A mapping says ``field: column``. It comes from flags (``--map prompt=question_id``), or from a small YAML file kept
beside the data (``ratings.csv`` -> ``ratings.csv.mapping.yaml``), whose key ``set`` holds the fields that no column
has (``set: {annotator: "llm:gpt-4o"}``). A field that is not mapped is looked for under its own name and a few usual
ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from prefkit.errors import InputError
from prefkit.records import Message, Winner
from prefkit.rows.cells import as_count, as_key, as_messages, as_text
from prefkit.rows.drafts import (
    ComparisonDraft,
    Draft,
    PromptDraft,
    RatingDraft,
    ResponseDraft,
    ResponseRef,
    Unfit,
)
from prefkit.rubric import Rubric

Kind = Literal["prompts", "responses", "judgements"]

FIELDS: dict[Kind, dict[str, tuple[str, ...]]] = {
    "prompts": {
        "text": ("prompt", "question", "instruction", "speech"),
        "messages": ("conversation", "dialogue"),
        "topic": ("category",),
        "key": ("id", "prompt_id", "question_id"),
    },
    "responses": {
        "prompt": ("prompt_id", "question_id"),
        "policy": ("model", "model_id", "generator"),
        "text": ("response", "output", "answer"),
        "sample": (),
        "finish": ("finish_reason",),
        "key": ("id", "response_id", "answer_id"),
    },
    "judgements": {
        "prompt": ("prompt_id", "question_id"),
        "response": ("response_id", "answer_id"),
        "policy": ("model", "model_id", "generator"),
        "sample": (),
        "annotator": ("judge", "rater"),
        "a": ("policy_a", "model_a"),
        "b": ("policy_b", "model_b"),
        "winner": ("preferred",),
    },
}
NEEDED: dict[Kind, tuple[tuple[str, ...], ...]] = {
    "prompts": (("text", "messages"),),
    "responses": (("prompt",), ("policy",), ("text",)),
    "judgements": (("annotator",), ("response", "policy", "winner")),
}


@dataclass(frozen=True)
class ColumnMapping:
    """Which column each field is read from, and the fields that have one value for the whole file."""

    columns: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, str] = field(default_factory=dict)

    def changed(self, columns: Mapping[str, str], constants: Mapping[str, str]) -> ColumnMapping:
        """The same with these fields instead, whether they had a column or one value before."""
        kept = {name: column for name, column in self.columns.items() if name not in constants}
        fixed = {name: value for name, value in self.constants.items() if name not in columns}
        return ColumnMapping({**kept, **columns}, {**fixed, **constants})


def load_mapping(path: Path) -> ColumnMapping:
    """Read a mapping file.

    Raises:
        InputError: it is not YAML, or not ``field: column``.
    """
    import yaml

    remedy = "Write one `field: column` a line, for example `prompt: question_id`."
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        constants = value.pop("set", {}) if isinstance(value, dict) else {}
        return ColumnMapping(msgspec.convert(value, dict[str, str]), msgspec.convert(constants, dict[str, str]))
    except OSError as error:
        raise InputError(path, (error.strerror or "").lower(), "a mapping file", remedy) from None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError, msgspec.ValidationError) as error:
        raise InputError(path, " ".join(str(error).split()), "fields and columns, both texts", remedy) from None


def resolve_columns(
    kind: Kind, columns: Sequence[str], given: ColumnMapping, rubric: Rubric, where: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Which column each field, and each principle of the rubric, is read from.

    Returns:
        field -> column, principle id -> column.

    Raises:
        InputError: a mapped column or field does not exist, or a needed field has no column.
    """
    fields, principles = FIELDS[kind], rubric.principle_ids if kind == "judgements" else ()
    _check_given(fields, principles, columns, given, where)
    taken = set(given.columns.values())
    found = {name: given.columns[name] for name in fields if name in given.columns}
    for name, others in fields.items():
        if name not in found and name not in given.constants:
            free = [column for column in (name, *others) if column in columns and column not in taken]
            if free:
                found[name] = free[0]
                taken.add(free[0])
    scored = {name: given.columns.get(name, name) for name in principles if given.columns.get(name, name) in columns}
    named = found.keys() | given.constants.keys()
    needed = NEEDED[kind] + ((("a",), ("b",)) if "winner" in named else ())
    for options in needed:
        if named.isdisjoint(options):
            raise InputError(
                where,
                f"no column for {' or '.join(options)} among {', '.join(columns)}",
                f"a column for each of {', '.join(' or '.join(names) for names in needed)}",
                f"Say which one it is (--map {options[0]}=COLUMN), or give it one value (--set {options[0]}=VALUE).",
            )
    if kind == "judgements" and "winner" not in named and not scored:
        raise InputError(
            where,
            f"no column for a principle of {rubric.id} among {', '.join(columns)}",
            f"some of {', '.join(principles)}, or a winner",
            "Say which column it is (--map empathy=COLUMN), or make the run with the rubric that was used.",
        )
    return found, scored


def unread_columns(
    kind: Kind, columns: Sequence[str], found: Mapping[str, str], given: ColumnMapping, rubric: Rubric
) -> frozenset[str]:
    """The columns that a file of other rows would be read by: usual names of the fields that were not ``found``, and
    principles."""
    open_fields = [name for name in FIELDS[kind] if name not in found and name not in given.constants]
    names = {other for name in open_fields for other in (name, *FIELDS[kind][name])}
    if kind == "judgements":
        names.update(name for name in rubric.principle_ids if name not in given.columns)
    return frozenset(names.difference(columns))


def _check_given(
    fields: Mapping[str, Any], principles: Sequence[str], columns: Sequence[str], given: ColumnMapping, where: str
) -> None:
    """Raise an InputError where a mapping names a field or a column that is not there, or a field twice."""
    for name in [*given.columns, *given.constants]:
        if name not in fields and name not in principles:
            known = ", ".join([*fields, *principles])
            raise InputError(where, f"the field {name!r} in the mapping", f"one of {known}", "Check --map and --set.")
    for name in given.constants:
        if name in principles:
            found = f"one score of {name} for all rows"
            raise InputError(where, found, "a column of scores", f"Say which one it is: --map {name}=COLUMN.")
        if name in given.columns:
            found = f"both a column and one value for {name}"
            raise InputError(where, found, "one of the two", f"Leave out --map {name}=... or --set {name}=...")
    for name, column in given.columns.items():
        if column not in columns:
            shown = ", ".join(columns)
            raise InputError(where, f"no column {column!r} for {name}", f"one of {shown}", "Check --map.")


class ColumnReader:
    """Rows of a file with a field a column, as drafts.

    Args:
        kind: what the rows are.
        columns: field -> column.
        scored: principle -> column.
        constants: field -> value, for all rows.
        unread: columns that would be read if the rows by which the columns were found had them. A record of JSON
            leaves out what it does not have; one that brings such a column later is refused rather than read in part.
    """

    def __init__(
        self,
        kind: Kind,
        columns: Mapping[str, str],
        scored: Mapping[str, str],
        constants: Mapping[str, str],
        unread: frozenset[str] = frozenset(),
    ):
        self.kind, self.columns, self.scored, self.constants, self.unread = kind, columns, scored, constants, unread
        self.compared = "winner" in columns or "winner" in constants
        self.numbers: set[str] = set()

    def __call__(self, values: Mapping[str, Any]) -> list[Draft]:
        """The drafts of one row.

        Raises:
            Unfit: the row cannot be used.
        """
        if not self.unread.isdisjoint(values):
            late = min(self.unread & values.keys())
            raise Unfit("a column that the first rows do not have", f"{late!r}; put such a row first")
        if self.kind == "prompts":
            return [self._prompt(values)]
        return [self._response(values) if self.kind == "responses" else self._judgement(values)]

    def check(self, where: str) -> None:
        """Raise an InputError where the winners of the file, by now all read, are numbers that count from 0."""
        if "0" in self.numbers and "2" not in self.numbers:
            raise InputError(
                where,
                f"winners {' and '.join(sorted(self.numbers))}, and never 2",
                "1 where a won, 2 where b won, 0 where neither did",
                "Is it a count from 0? Write a, b or tie instead of the numbers.",
            )

    def _get(self, values: Mapping[str, Any], name: str) -> Any:
        return self.constants[name] if name in self.constants else values.get(self.columns.get(name, ""))

    def _text(self, values: Mapping[str, Any], name: str) -> str | None:
        value = self._get(values, name)
        return as_key(value)

    def _needed(self, values: Mapping[str, Any], name: str) -> str:
        text = self._text(values, name)
        if text is None:
            raise Unfit(f"empty {name}")
        return text

    def _prompt(self, values: Mapping[str, Any]) -> PromptDraft:
        raw = self._get(values, "messages")
        messages = (
            as_messages(raw) if raw not in (None, "") else (Message(role="user", content=self._needed(values, "text")),)
        )
        return PromptDraft(messages, self._text(values, "topic"), self._text(values, "key"))

    def _response(self, values: Mapping[str, Any]) -> ResponseDraft:
        return ResponseDraft(
            self._needed(values, "prompt"),
            self._needed(values, "policy"),
            as_text(self._get(values, "text"), "text"),
            as_count(self._text(values, "sample"), "sample"),
            finish=self._text(values, "finish"),
            key=self._text(values, "key"),
        )

    def _judgement(self, values: Mapping[str, Any]) -> Draft:
        annotator = self._needed(values, "annotator")
        sample = as_count(self._text(values, "sample"), "sample")
        if self.compared:
            a, b = (self._side(values, name) for name in ("a", "b"))
            said = {name: values.get(column) for name, column in self.scored.items()}
            won = self._get(values, "winner")
            self.numbers.update(as_key(value) or "" for value in (won, *said.values()))
            self.numbers &= {"0", "1", "2"}
            named = {name: as_winner(value, a, b) for name, value in said.items()}
            return ComparisonDraft(a, b, annotator, as_winner(won, a, b), named)
        ref = ResponseRef(
            self._text(values, "prompt"), self._text(values, "policy"), sample, self._text(values, "response")
        )
        return RatingDraft(ref, annotator, {name: values.get(column) for name, column in self.scored.items()})

    def _side(self, values: Mapping[str, Any], name: str) -> ResponseRef:
        side, prompt = self._needed(values, name), self._text(values, "prompt")
        return ResponseRef(prompt, side, None, None) if prompt else ResponseRef(key=side)


_VERDICTS: dict[str, Winner] = {
    **dict.fromkeys(("a", "1", "model_a", "policy_a"), "a"),
    **dict.fromkeys(("b", "2", "model_b", "policy_b"), "b"),
    **dict.fromkeys(("tie", "tie (bothbad)", "draw", "both", "equal", "same", "0"), "tie"),
}


def as_winner(value: Any, a: ResponseRef, b: ResponseRef) -> Winner | None:
    """A verdict: ``a``, ``b``, ``tie`` or 1, 2, 0, or the name of the side that won; None where there is none.

    Raises:
        Unfit: it is none of these, or names one side by its place and the other by its name.
    """
    text = as_key(value)
    if text is None:
        return None
    names: dict[str | None, Winner] = {a.policy or a.key: "a", b.policy or b.key: "b"}
    read = {_VERDICTS.get(text.casefold()), names.get(text)} - {None}
    if len(read) > 1:
        raise Unfit("a winner that can be read two ways", f"{text!r}: a place and a name; write a, b or tie")
    if not read:
        raise Unfit("not a winner", f"{text!r}; a, b or tie")
    return read.pop()
