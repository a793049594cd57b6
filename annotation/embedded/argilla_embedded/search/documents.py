"""What the index keeps of a dataset and of a record, read from the server's objects.

Reading happens on the event loop (SQLAlchemy's objects are not for other threads) and touches only what the server
loaded before it called the engine; everything after works on these plain values.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from argilla_server.enums import MetadataPropertyType, QuestionType

from argilla_embedded.search import kinds
from argilla_embedded.search.kinds import FLOAT, INTEGER, KEYWORD, OPAQUE, WORDS

_METADATA_KINDS = {
    MetadataPropertyType.terms: KEYWORD,
    MetadataPropertyType.integer: INTEGER,
    MetadataPropertyType.float: FLOAT,
}
_QUESTION_KINDS = {
    QuestionType.rating: INTEGER,
    QuestionType.label_selection: KEYWORD,
    QuestionType.multi_label_selection: KEYWORD,
}
SUGGESTION_KINDS = {"score": FLOAT, "agent": KEYWORD, "type": KEYWORD}
"""Beside `value`, whose kind is its question's."""

Schema = Mapping[str, str]
"""Path (`fields.text`, `metadata.topic`, `suggestions.tone.value`, `responses.tone`, `vectors.<settings>`) to kind."""


@dataclass(frozen=True)
class ResponseEntry:
    """One person's response to a record."""

    id: str
    user: str
    status: str
    updated_at: str | None
    answers: Mapping[str, Any]  # question to value


@dataclass(frozen=True)
class SuggestionEntry:
    """What was suggested for a question of a record."""

    id: str
    question: str
    updated_at: str | None
    parts: Mapping[str, Any]  # value, score, agent, type


@dataclass(frozen=True)
class VectorEntry:
    """One vector of a record."""

    id: str
    settings: str
    updated_at: str | None
    value: list[float]


@dataclass(frozen=True, kw_only=True)
class Document:
    """One record with all that belongs to it."""

    id: str
    external_id: str | None = None
    status: str = "pending"
    inserted_at: str | None = None
    updated_at: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    responses: tuple[ResponseEntry, ...] = ()
    suggestions: tuple[SuggestionEntry, ...] = ()
    vectors: tuple[VectorEntry, ...] = ()


def schema_of(dataset: Any) -> dict[str, str]:
    """The paths of a dataset whose fields, questions, metadata properties and vector settings are loaded."""
    schema = {f"fields.{field.name}": OPAQUE if field.is_image else WORDS for field in dataset.fields}
    for found in dataset.metadata_properties:
        schema |= metadata_path(found)
    for question in dataset.questions:
        kind = _QUESTION_KINDS.get(question.type, OPAQUE)
        schema[f"responses.{question.name}"] = kind
        schema[f"suggestions.{question.name}.value"] = kind
        schema |= {f"suggestions.{question.name}.{part}": kind for part, kind in SUGGESTION_KINDS.items()}
    for settings in dataset.vectors_settings:
        schema |= vector_path(settings)
    return schema


def metadata_path(metadata_property: Any) -> dict[str, str]:
    """The path and kind of one metadata property."""
    return {f"metadata.{metadata_property.name}": _METADATA_KINDS[metadata_property.type]}


def vector_path(settings: Any) -> dict[str, str]:
    """The path of one kind of vector; its number of dimensions stands for a kind."""
    return {f"vectors.{settings.id}": str(settings.dimensions)}


def document_of(record: Any) -> Document:
    """A record whose responses, suggestions (with their questions) and vectors are loaded."""
    return Document(
        id=str(record.id),
        external_id=None if record.external_id is None else kinds.plain(record.external_id),
        status=kinds.plain(record.status),
        inserted_at=kinds.moment(record.inserted_at),
        updated_at=kinds.moment(record.updated_at),
        fields=dict(record.fields or {}),
        metadata=dict(record.metadata_ or {}),
        responses=tuple(map(response_of, record.responses)),
        suggestions=tuple(map(suggestion_of, record.suggestions)),
        vectors=tuple(
            VectorEntry(str(vector.id), str(vector.vector_settings_id), kinds.moment(vector.updated_at), vector.value)
            for vector in record.vectors
        ),
    )


def response_of(response: Any) -> ResponseEntry:
    """One person's response."""
    return ResponseEntry(
        str(response.id),
        str(response.user_id),
        kinds.plain(response.status),
        kinds.moment(response.updated_at),
        {question: answer.get("value") for question, answer in (response.values or {}).items()},
    )


def suggestion_of(suggestion: Any) -> SuggestionEntry:
    """One suggestion, its question loaded."""
    return SuggestionEntry(
        str(suggestion.id),
        suggestion.question.name,
        kinds.moment(suggestion.updated_at),
        {
            "value": suggestion.value,
            "score": suggestion.score,
            "agent": suggestion.agent,
            "type": None if suggestion.type is None else kinds.plain(suggestion.type),
        },
    )


def as_json(value: Any) -> str:
    """One text for equal values. ASCII, so that lone surrogates pass through a database."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
