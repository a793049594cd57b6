"""Questions to the index: which records, in which order, how many of what, how alike.

Functions of a connection that reads one state of the index. What order records come in:

    sort given      that; equal ones in the order in which they were added
    a text query    best first (BM25); equal ones as without a query
    neither         by the integer metadata ``position``, where the dataset has such; else dealt: the same order for the
                    same person at every request, another for another person, and unchanged by responses or by a
                    rebuild; without a person, in the order in which they were added
"""

import heapq
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from argilla_embedded.search import kinds
from argilla_embedded.search.filters import NONE, Clause, joined
from argilla_embedded.search.language import match_expression, parse
from argilla_embedded.search.tables import SHUFFLE, Catalogue

MOST_SIMILAR_WORDS = 10
"""Words that stand for one written with `~`: Argilla's `fuzzy_max_expansions`."""
MOST_TERMS = 2**14
"""Values that a metric lists."""


@dataclass(frozen=True)
class Found:
    """A page of results and how many there are in all."""

    items: list[tuple[UUID, float | None]]
    total: int


@dataclass(frozen=True)
class Text:
    """A text query: what was typed and the field it is looked for in, or None for all."""

    q: str
    field: str | None = None


def search(
    connection: sqlite3.Connection,
    known: Catalogue,
    *,
    text: Text | None,
    where: Clause,
    sort: Sequence[Clause],
    person: UUID | None,
    offset: int,
    limit: int,
) -> Found:
    """The records from `offset` on, at most `limit`, with their scores (none when they are sorted)."""
    source, condition = _source(connection, known, text, where)
    total = connection.execute(f"SELECT count(*) FROM {source} WHERE {condition.sql}", condition.values).fetchone()[0]
    if not limit or offset >= total:
        return Found([], total)
    score = "NULL" if sort else f"-bm25({known.text})" if text else "1.0"
    order = list(sort) or [*([Clause("score DESC")] if text else []), *_dealt(person, known)]
    order.append(Clause("records.inserted_at, records.id"))
    rows = connection.execute(
        f"SELECT records.id, {score} AS score FROM {source} WHERE {condition.sql} "
        f"ORDER BY {', '.join(term.sql for term in order)} LIMIT ? OFFSET ?",
        (*condition.values, *(value for term in order for value in term.values), limit, offset),
    )
    return Found([(UUID(record), score) for record, score in rows], total)


def most_similar(
    connection: sqlite3.Connection,
    known: Catalogue,
    *,
    settings: str,
    value: Sequence[float],
    excluded: UUID | None,
    text: Text | None,
    where: Clause,
    limit: int,
) -> Found:
    """The `limit` records whose vector is closest to `value`; the score is (1 + cosine) / 2.

    Vectors of another length, and those without a direction (zeros), are passed over.
    """
    source, condition = _source(connection, known, text, where)
    rows = connection.execute(
        f"SELECT records.id, vectors.value FROM {source} JOIN vectors ON vectors.record = records.key "
        f"WHERE {condition.sql} AND vectors.settings = ? AND records.id <> ? AND length(vectors.value) = ?",
        (*condition.values, settings, str(excluded), 4 * len(value)),
    ).fetchall()
    if not rows:
        return Found([], 0)
    vectors = np.frombuffer(b"".join(row[1] for row in rows), dtype=np.float32).reshape(len(rows), -1)
    cosines = _cosines(vectors, np.asarray(value, dtype=np.float32))
    closest = np.argsort(-cosines, kind="stable")[:limit]
    items: list[tuple[UUID, float | None]] = [
        (UUID(rows[row][0]), float(1 + cosines[row]) / 2) for row in closest if np.isfinite(cosines[row])
    ]
    return Found(items, len(items))


def statuses(connection: sqlite3.Connection, known: Catalogue) -> dict[str, int]:
    """Records by status."""
    return dict(
        connection.execute("SELECT status, count(*) FROM records WHERE dataset = ? GROUP BY status", (known.dataset,))
    )


def own_statuses(connection: sqlite3.Connection, known: Catalogue, user: UUID) -> dict[str, int]:
    """One person's responses by status; what others answered on the same records does not count."""
    return dict(
        connection.execute(
            "SELECT status, count(*) FROM responses WHERE dataset = ? AND user = ? GROUP BY status",
            (known.dataset, str(user)),
        )
    )


def waiting(connection: sqlite3.Connection, known: Catalogue, user: UUID) -> int:
    """Records that still need answers and have none from this person: what the page's pending queue shows."""
    return int(
        connection.execute(
            "SELECT count(*) FROM records WHERE dataset = ? AND status = 'pending' "
            "AND key NOT IN (SELECT record FROM responses WHERE dataset = ? AND user = ?)",
            (known.dataset, known.dataset, str(user)),
        ).fetchone()[0]
    )


def terms(connection: sqlite3.Connection, known: Catalogue, path: str) -> list[tuple[str, int]]:
    """The values of a keyword and how many records have each, most frequent first."""
    return connection.execute(
        "SELECT value, count(*) FROM facts WHERE property = ? GROUP BY value ORDER BY count(*) DESC, value LIMIT ?",
        (known.key(path), MOST_TERMS),
    ).fetchall()


def extent(connection: sqlite3.Connection, known: Catalogue, path: str) -> tuple[float | None, float | None]:
    """The least and the greatest value of a number; None, None when no record has one."""
    low, high = connection.execute(
        "SELECT min(value), max(value) FROM facts WHERE property = ?", (known.key(path),)
    ).fetchone()
    return low, high


def _source(connection: sqlite3.Connection, known: Catalogue, text: Text | None, where: Clause) -> tuple[str, Clause]:
    of_dataset = Clause("records.dataset = ?", (known.dataset,))
    if text is None:
        return "records", joined("AND", [of_dataset, where])
    if text.field is not None and text.field not in known.fields:
        return f"{known.text} CROSS JOIN records ON records.key = {known.text}.rowid", NONE
    columns = [known.fields[text.field]] if text.field is not None else []
    words = match_expression(
        parse(text.q), columns=columns, similar=lambda word, most: similar_words(connection, known, word, most)
    )
    return (
        f"{known.text} CROSS JOIN records ON records.key = {known.text}.rowid",
        joined("AND", [Clause(f"{known.text} MATCH ?", (words,)), of_dataset, where]),
    )


def _dealt(person: UUID | None, known: Catalogue) -> list[Clause]:
    """Where nothing is asked for: by the number that whoever made the dataset gave each record as ``position``, else in
    an order of each person's own."""
    position = known.properties.get("metadata.position")
    if position is not None and position.kind == kinds.INTEGER:
        by_position = "(SELECT min(value) FROM facts WHERE facts.record = records.key AND property = ?)"
        return [Clause(f"{by_position} IS NULL, {by_position}", (position.key, position.key))]
    if person is None:
        return []
    by, start = 1 + person.int % (SHUFFLE - 1), (person.int >> 64) % SHUFFLE
    return [Clause("(records.shuffle * ? + ?) % ?", (by, start, SHUFFLE))]


def similar_words(connection: sqlite3.Connection, known: Catalogue, word: str, most: int) -> list[str]:
    """Indexed words at most `most` letters away, nearest and most frequent first."""
    frequencies = dict(connection.execute(f"SELECT term, doc FROM {known.text}_words"))
    near = [(apart, -frequencies[term], term) for term, apart in nearby(word, frequencies, most) if apart < len(word)]
    return [term for _, _, term in heapq.nsmallest(MOST_SIMILAR_WORDS, near)]


def nearby(word: str, ordered: Iterable[str], most: int) -> Iterator[tuple[str, int]]:
    """Of words in the order of the dictionary, those at most `most` letters away, and how many.

    A letter away is one to add, to leave out or to change (Levenshtein). The table of distances is kept for the
    beginning that a word shares with the one before; words whose beginning is already too far away are passed over.
    """
    rows = [list(range(len(word) + 1))]
    before = hopeless = "\n"
    for term in ordered:
        if abs(len(term) - len(word)) > most or term.startswith(hopeless):
            continue
        shared = _shared(before, term)
        del rows[shared + 1 :]
        hopeless, before = "\n", term
        for letter in term[shared:]:
            rows.append(_next_row(rows[-1], letter, word))
            if min(rows[-1]) > most:
                hopeless = before = term[: len(rows) - 1]
                break
        else:
            if rows[-1][-1] <= most:
                yield term, rows[-1][-1]


def _shared(left: str, right: str) -> int:
    """The letters with which both begin."""
    for place, (letter, other) in enumerate(zip(left, right, strict=False)):
        if letter != other:
            return place
    return min(len(left), len(right))


def _next_row(above: Sequence[int], letter: str, word: str) -> list[int]:
    row = [above[0] + 1]
    for place, other in enumerate(word):
        row.append(min(row[-1] + 1, above[place + 1] + 1, above[place] + (letter != other)))
    return row


def _cosines(vectors: NDArray[np.float32], value: NDArray[np.float32]) -> NDArray[np.float32]:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(value)
        return np.where(lengths > 0, np.clip(vectors @ value / lengths, -1, 1), np.nan)


def items_at_least(found: Found, threshold: float | None) -> Iterable[tuple[UUID, float | None]]:
    """The results whose score reaches a threshold."""
    return [item for item in found.items if threshold is None or (item[1] is not None and item[1] >= threshold)]
