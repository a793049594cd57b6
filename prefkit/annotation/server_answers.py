"""Answers at an Argilla server.

Reads   a server's API, page by page: the records of each deck with the responses of everybody
Gives   Answers, and how far each deck is

Memory does not grow with the deck, but for its records' ids. Why not the SDK's ``dataset.records``: its responses have
lost when they were saved. The list of records comes from the server's database and not from its search index. It is
paged by the time of pushing, which does not order records that were pushed together: so each is known by its id, and
where fewer came than there are, the deck is read again.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from prefkit.annotation.answers import Answer, Refused, Status
from prefkit.annotation.connection import ServerError, refused

FIRST_PAGE = 100
MOST = 1000
"""Records in a page; the server allows no more. It sorts all records of the deck for each page."""
PAGE_BYTES = 8_000_000
"""So much should a page be: few pages where texts are short, and no large ones where they are long."""
TRIES = 3

Progress = Callable[[int], None]


@dataclass
class DeckState:
    """What a deck's records looked like: so many, so many answers finished (submitted or discarded) of those wanted."""

    name: str
    items: int = 0
    wanted: int = 0
    finished: int = 0


class Http(Protocol):
    """As much of httpx's client as is used."""

    def get(self, url: str, *, params: Mapping[str, Any] = ...) -> Any:
        """Ask."""


class _Response(msgspec.Struct, frozen=True):
    status: Status
    user_id: str
    inserted_at: dt.datetime
    updated_at: dt.datetime
    values: dict[str, dict[str, Any]] | None = None


class _Record(msgspec.Struct, frozen=True):
    id: str
    external_id: str | None = None
    responses: list[_Response] = []


class _Page(msgspec.Struct, frozen=True):
    items: list[_Record]
    total: int


class _Distribution(msgspec.Struct, frozen=True):
    min_submitted: int = 1


class Dataset(msgspec.Struct, frozen=True):
    """What the server says of a dataset."""

    id: str
    name: str
    workspace_id: str
    distribution: _Distribution = _Distribution()


class _Workspace(msgspec.Struct, frozen=True):
    id: str
    name: str


class _Datasets(msgspec.Struct, frozen=True):
    items: list[Dataset]


class _Workspaces(msgspec.Struct, frozen=True):
    items: list[_Workspace]


def _asked(http: Http, what: str, answer_type: Any, **params: Any) -> Any:
    """What the server says."""
    return _read(_fetched(http, what, **params), what, answer_type)


def _fetched(http: Http, what: str, **params: Any) -> bytes:
    answer = http.get(f"/api/v1/{what}", params=params)
    if answer.status_code != 200:
        raise refused(f"the server, {what}", answer.status_code, answer.text)
    return bytes(answer.content)


def _read(text: bytes, what: str, answer_type: Any) -> Any:
    try:
        return msgspec.json.decode(text, type=answer_type)
    except (msgspec.MsgspecError, UnicodeDecodeError) as fault:
        raise ServerError(f"the server, {what}", str(fault), "what Argilla 2.8 says", "Look at its log.") from None


def find_decks(http: Http, wanted: Sequence[str]) -> dict[str, Dataset]:
    """The decks that are at the server; where a name is there twice, the one in the workspace of the same name."""
    workspaces = {one.id: one.name for one in _asked(http, "me/workspaces", _Workspaces).items}
    by_name: dict[str, list[Dataset]] = {}
    for dataset in _asked(http, "me/datasets", _Datasets).items:
        by_name.setdefault(dataset.name, []).append(dataset)
    return {
        name: max(by_name[name], key=lambda dataset: workspaces.get(dataset.workspace_id) == name)
        for name in wanted
        if name in by_name
    }


def deck_answers(http: Http, dataset: Dataset, deck: DeckState, progress: Progress) -> Iterator[Answer | Refused]:
    """The answers to a deck's records, each record once; ``deck`` counts them.

    Raises:
        ServerError: the server refuses the key, or loses records while they are read.
    """
    seen: set[str] = set()
    for _ in range(TRIES):
        total = 0
        for page in _pages(http, dataset):
            total = page.total
            for record in page.items:
                if record.id not in seen:
                    seen.add(record.id)
                    _count(deck, record, dataset.distribution.min_submitted)
                    yield from _record_answers(dataset.name, record)
            progress(len(page.items))
        if len(seen) >= total:
            return
    remedy = "Nothing was changed. Wait until nobody pushes or deletes, and pull again."
    raise ServerError(f"the deck {dataset.name}", f"{len(seen):,} of {total:,} records", "all", remedy)


def _pages(http: Http, dataset: Dataset) -> Iterator[_Page]:
    """The pages of a deck's records, each as large as those before it let it be."""
    what = f"datasets/{dataset.id}/records"
    offset, size = 0, min(FIRST_PAGE, MOST)
    while True:
        text = _fetched(http, what, offset=offset, limit=size, include="responses")
        page = _read(text, what, _Page)
        yield page
        offset += len(page.items)
        if not page.items or offset >= page.total:
            return
        size = max(1, min(MOST, PAGE_BYTES * len(page.items) // len(text)))


def _count(deck: DeckState, record: _Record, wanted: int) -> None:
    deck.items += 1
    deck.wanted += wanted
    deck.finished += min(wanted, sum(response.status != "draft" for response in record.responses))


def _record_answers(deck: str, record: _Record) -> Iterator[Answer | Refused]:
    for response in record.responses:
        where = f"{deck}: record {record.id}"
        if record.external_id is None:
            yield Refused(where, "a record without an item's id", "null")
            continue
        yield Answer(
            where=where,
            item=record.external_id,
            account=response.user_id,
            status=response.status,
            values={name: value.get("value") for name, value in (response.values or {}).items()},
            inserted=_epoch(response.inserted_at),
            updated=_epoch(response.updated_at),
        )


def _epoch(time: dt.datetime) -> float:
    """Seconds since 1970; Argilla's times are UTC and do not say so."""
    return (time if time.tzinfo else time.replace(tzinfo=dt.UTC)).timestamp()
