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
from prefkit.importing.drafts import (
    ComparisonDraft,
    Draft,
    PromptDraft,
    RatingDraft,
    ResponseDraft,
    ResponseRef,
    Unfit,
)
from prefkit.records import Message, Winner
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
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, msgspec.ValidationError) as error:
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
    for name in [*given.columns, *given.constants]:
        if name not in fields and name not in principles:
            known = ", ".join([*fields, *principles])
            raise InputError(where, f"the field {name!r} in the mapping", f"one of {known}", "Check --map and --set.")
    for name, column in given.columns.items():
        if column not in columns:
            shown = ", ".join(columns)
            raise InputError(where, f"no column {column!r} for {name}", f"one of {shown}", "Check --map.")
    taken = set(given.columns.values())
    found = {name: given.columns[name] for name in fields if name in given.columns}
    for name, others in fields.items():
        if name not in found and name not in given.constants:
            free = [column for column in (name, *others) if column in columns and column not in taken]
            if free:
                found[name] = free[0]
                taken.add(free[0])
    scored = {name: given.columns.get(name, name) for name in principles if given.columns.get(name, name) in columns}
    for options in NEEDED[kind]:
        if not any(name in found or name in given.constants for name in options):
            raise InputError(
                where,
                f"no column for {' or '.join(options)} among {', '.join(columns)}",
                f"a column for each of {', '.join(' or '.join(names) for names in NEEDED[kind])}",
                f"Say which one it is (--map {options[0]}=COLUMN), or give it one value (--set {options[0]}=VALUE).",
            )
    if kind == "judgements" and "winner" not in found and not scored:
        raise InputError(
            where,
            f"no column for a principle of {rubric.id} among {', '.join(columns)}",
            f"some of {', '.join(principles)}, or a winner",
            "Say which column it is (--map empathy=COLUMN), or make the run with the rubric that was used.",
        )
    return found, scored


class ColumnReader:
    """Rows of a file with a field a column, as drafts."""

    def __init__(self, kind: Kind, columns: Mapping[str, str], scored: Mapping[str, str], constants: Mapping[str, str]):
        self.kind, self.columns, self.scored, self.constants = kind, columns, scored, constants

    def __call__(self, values: Mapping[str, Any]) -> list[Draft]:
        """The drafts of one row.

        Raises:
            Unfit: the row cannot be used.
        """
        if self.kind == "prompts":
            return [self._prompt(values)]
        return [self._response(values) if self.kind == "responses" else self._judgement(values)]

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
        text = self._get(values, "text")
        if text is None or not str(text).strip():
            raise Unfit("empty text")
        return ResponseDraft(
            self._needed(values, "prompt"),
            self._needed(values, "policy"),
            str(text),
            as_count(self._text(values, "sample"), "sample"),
            finish=self._text(values, "finish"),
            key=self._text(values, "key"),
        )

    def _judgement(self, values: Mapping[str, Any]) -> Draft:
        annotator = self._needed(values, "annotator")
        sample = as_count(self._text(values, "sample"), "sample")
        if "winner" in self.columns:
            a, b = (self._side(values, name) for name in ("a", "b"))
            named = {name: as_winner(values.get(column), a, b) for name, column in self.scored.items()}
            winner = as_winner(self._get(values, "winner"), a, b)
            return ComparisonDraft(a, b, annotator, winner, named)
        ref = ResponseRef(
            self._text(values, "prompt"), self._text(values, "policy"), sample, self._text(values, "response")
        )
        return RatingDraft(ref, annotator, {name: values.get(column) for name, column in self.scored.items()})

    def _side(self, values: Mapping[str, Any], name: str) -> ResponseRef:
        side, prompt = self._needed(values, name), self._text(values, "prompt")
        return ResponseRef(prompt, side, None, None) if prompt else ResponseRef(key=side)


def as_key(value: Any) -> str | None:
    """A cell as a name: 12.0 and "12" are the same key, an empty cell is none."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value).strip() if value is not None else ""
    return text or None


def as_count(value: str | None, name: str) -> int | None:
    """A whole number from 0, or None where the cell is empty."""
    if value is None:
        return None
    if not value.isdecimal():
        raise Unfit(f"{name} is not a whole number from 0", repr(value))
    return int(value)


def as_messages(raw: Any) -> tuple[Message, ...]:
    """A dialogue in the chat format, given as a list of messages or as its JSON.

    Raises:
        Unfit: it is not one, or it does not end with the client.
    """
    try:
        value = msgspec.json.decode(raw) if isinstance(raw, str) else raw
        messages = msgspec.convert(
            [{"role": turn["role"], "content": turn["content"]} for turn in value], tuple[Message, ...]
        )
    except (msgspec.MsgspecError, TypeError, KeyError) as error:
        raise Unfit("not a dialogue of role and content", f"{error}") from None
    if not messages or messages[-1].role != "user" or not messages[-1].content.strip():
        raise Unfit("the dialogue does not end with the client")
    return messages


_TIES = {"tie", "draw", "both", "equal", "same", "0", "0.5"}


def as_winner(value: Any, a: Any, b: Any) -> Winner | None:
    """A verdict: ``a``, ``b``, ``tie`` or 1, 2, 0, or the name of the policy that won; None where there is none.

    Raises:
        Unfit: it is none of these.
    """
    text = as_key(value)
    if text is None:
        return None
    names = {getattr(a, "policy", None): "a", getattr(b, "policy", None): "b"}
    low = text.casefold()
    verdict = {"a": "a", "1": "a", "b": "b", "2": "b"}.get(low) or names.get(text) or ("tie" if low in _TIES else None)
    if verdict is None:
        raise Unfit("not a winner", f"{text!r}; a, b or tie")
    return verdict  # type: ignore[return-value]
