"""Filters and orders as conditions and terms of SQL over `records`.

Every value is bound; the only words put together are those of this module. A filter by something the dataset does not
have, or by a value that its kind cannot be, is met by no record.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from argilla_server.enums import ResponseStatusFilter, SortOrder
from argilla_server.errors.future import UnprocessableEntityError
from argilla_server.search_engine.base import (
    AndFilter,
    MetadataFilterScope,
    RangeFilter,
    RecordFilterScope,
    ResponseFilterScope,
    SuggestionFilterScope,
    TermsFilter,
)

from argilla_embedded.search import kinds
from argilla_embedded.search.kinds import KEYWORD, MOMENT, Scalar
from argilla_embedded.search.tables import Catalogue, Property

RECORD_COLUMNS = {
    "id": KEYWORD,
    "external_id": KEYWORD,
    "status": KEYWORD,
    "inserted_at": MOMENT,
    "updated_at": MOMENT,
}
_PENDING = ResponseStatusFilter.pending.value


@dataclass(frozen=True)
class Clause:
    """A piece of SQL and the values bound to its question marks, in order."""

    sql: str
    values: tuple[Any, ...] = ()


EVERY = Clause("1")
NONE = Clause("0")


def condition(filter: Any, known: Catalogue) -> Clause:
    """The condition that the records a filter lets through meet."""
    if isinstance(filter, AndFilter):
        return joined("AND", [condition(part, known) for part in filter.filters])
    if not isinstance(filter, (TermsFilter, RangeFilter)):
        raise TypeError(f"a filter by terms or range, or several of them; got {filter!r}")
    scope = filter.scope
    if isinstance(scope, ResponseFilterScope):
        return _by_response(filter, scope, known)
    if isinstance(scope, RecordFilterScope):
        column = _plain(scope.property)
        kind = RECORD_COLUMNS.get(column)
        return _compared(f"records.{column}", kind, filter) if kind else NONE
    searchable = _property(scope, known)
    if searchable is None:
        return NONE
    compared = _compared("value", searchable.kind, filter)
    return Clause(
        f"records.key IN (SELECT record FROM facts WHERE property = ? AND {compared.sql})",
        (searchable.key, *compared.values),
    )


def order_terms(orders: Iterable[Any], known: Catalogue) -> list[Clause]:
    """What to order by, in order of weight; records without a value come last either way."""
    return [_term(order.scope, SortOrder(order.order), known) for order in orders]


def joined(word: str, clauses: Sequence[Clause]) -> Clause:
    """The clauses under one AND or OR."""
    if not clauses:
        return EVERY
    values = tuple(value for clause in clauses for value in clause.values)
    return Clause(f"({f' {word} '.join(clause.sql for clause in clauses)})", values)


def _compared(column: str, kind: str, filter: Any) -> Clause:
    if isinstance(filter, TermsFilter):
        wanted = [scalar for value in filter.values if (scalar := kinds.asked(kind, _plain(value))) is not None]
        return _among(column, wanted)
    ends = kinds.bounds(kind, filter.ge, filter.le)
    if ends is None:
        return NONE
    limits = [(sign, end) for sign, end in zip((">=", "<="), ends, strict=True) if end is not None]
    return joined("AND", [Clause(f"{column} {sign} ?", (end,)) for sign, end in limits])


def _among(column: str, values: Sequence[Scalar]) -> Clause:
    return Clause(f"{column} IN ({', '.join('?' * len(values))})", tuple(values)) if values else NONE


def _by_response(filter: Any, scope: ResponseFilterScope, known: Catalogue) -> Clause:
    if scope.question:
        searchable = known.properties.get(f"responses.{scope.question}")
        if searchable is None:
            return NONE
        compared = _compared("value", searchable.kind, filter)
        return _having_response(
            scope,
            known,
            Clause(
                f"responses.key IN (SELECT response FROM answers WHERE property = ? AND {compared.sql})",
                (searchable.key, *compared.values),
            ),
        )
    if isinstance(filter, RangeFilter):
        raise UnprocessableEntityError("responses have no range of statuses; name a question, or filter by terms")
    return _by_response_status(filter, scope, known)


def _by_response_status(filter: TermsFilter, scope: ResponseFilterScope, known: Catalogue) -> Clause:
    """Pending is the status of a response that is not there: that user's, or anyone's when no user is named."""
    wanted = [_plain(value) for value in filter.values]
    statuses = [status for status in wanted if status != _PENDING]
    if not wanted:
        return _having_response(scope, known, EVERY) if scope.user else EVERY
    alternatives = []
    if _PENDING in wanted:
        without = _having_response(scope, known, EVERY)
        alternatives.append(Clause(f"NOT {without.sql}", without.values))
    if statuses:
        alternatives.append(_having_response(scope, known, _among("responses.status", statuses)))
    return joined("OR", alternatives)


def _having_response(scope: ResponseFilterScope, known: Catalogue, which: Clause) -> Clause:
    """Records with one response (by the scope's user, if any) for which all of `which` holds."""
    by_user = Clause("responses.user = ?", (str(scope.user.id),)) if scope.user else EVERY
    found = joined("AND", [Clause("responses.dataset = ?", (known.dataset,)), by_user, which])
    return Clause(f"(records.key IN (SELECT record FROM responses WHERE {found.sql}))", found.values)


def _term(scope: Any, order: SortOrder, known: Catalogue) -> Clause:
    direction = "DESC" if order == SortOrder.desc else "ASC"
    value = _sorted_value(scope, "max" if order == SortOrder.desc else "min", known)
    return Clause(f"{value.sql} {direction} NULLS LAST", value.values)


def _sorted_value(scope: Any, best: str, known: Catalogue) -> Clause:
    if isinstance(scope, RecordFilterScope):
        column = _plain(scope.property)
        return Clause(f"records.{column}" if column in RECORD_COLUMNS else "NULL")
    if isinstance(scope, ResponseFilterScope):
        return _sorted_response(scope, best, known)
    searchable = _property(scope, known)
    if searchable is None:
        return Clause("NULL")
    return Clause(
        f"(SELECT {best}(value) FROM facts WHERE facts.record = records.key AND property = ?)", (searchable.key,)
    )


def _sorted_response(scope: ResponseFilterScope, best: str, known: Catalogue) -> Clause:
    """Numbers by their mean over the responses (the user's alone, if one is named), labels by the first or last."""
    user = Clause(" AND responses.user = ?", (str(scope.user.id),)) if scope.user else Clause("")
    of_record = f"FROM responses{{}} WHERE responses.record = records.key{user.sql}"
    if not scope.question:
        return Clause(f"(SELECT {best}(responses.status) {of_record.format('')})", user.values)
    searchable = known.properties.get(f"responses.{scope.question}")
    if searchable is None:
        return Clause("NULL")
    mean = "avg" if searchable.kind in (kinds.INTEGER, kinds.FLOAT) else best
    source = of_record.format(" CROSS JOIN answers ON answers.response = responses.key")  # in this order: few to each
    return Clause(f"(SELECT {mean}(value) {source} AND property = ?)", (*user.values, searchable.key))


def _property(scope: Any, known: Catalogue) -> Property | None:
    if isinstance(scope, MetadataFilterScope):
        return known.properties.get(f"metadata.{scope.metadata_property}")
    if isinstance(scope, SuggestionFilterScope):
        return known.properties.get(f"suggestions.{scope.question}.{_plain(scope.property)}")
    raise ValueError(f"a scope of metadata, suggestion, response or record; got {scope!r}")


def _plain(value: Any) -> Any:
    return kinds.plain(value) if isinstance(value, str) else value
