"""Decks on a server: workspaces, who may see them, datasets, records.

A deck is a dataset in a workspace of its own, of the same name, whose members are its annotators. Nothing is ever
removed, but a dataset that a killed push left half made, before it could hold a record.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from prefkit.annotation.connection import Client, ServerError, call, sdk
from prefkit.annotation.items import known_secret, pseudonym
from prefkit.errors import InputError
from prefkit.run import Progress, Run

BULK = 500
"""Records in one request; Argilla takes no more."""
BULK_BYTES = 4_000_000
"""Bytes in one request, about: long texts go in smaller bulks, so that neither side holds much."""
TRIES = 3


@dataclass(frozen=True)
class Deck:
    """A deck, and the annotators who answer it: their user names, which are for the terminal only."""

    name: str
    annotators: tuple[str, ...]


class User(msgspec.Struct, frozen=True):
    """An account."""

    id: str
    username: str
    role: str


class Distribution(msgspec.Struct, frozen=True):
    """How many answers complete a record."""

    min_submitted: int = 1


class Named(msgspec.Struct, frozen=True):
    """A workspace or dataset."""

    id: str
    name: str
    status: str = "ready"
    distribution: Distribution | None = None


class NoServer:
    """What a server would be asked, where there is none: decks go by the order of names, and nothing is there yet."""

    def pool(self, series: str) -> list[Deck]:
        """The one deck of all."""
        return [Deck(series, ())]

    def decks(self, series: str, names: Sequence[str], known: Collection[str]) -> list[Deck]:
        """A deck for each annotator, numbered in the order of their names."""
        return [Deck(f"{series}-{number}", (name,)) for number, name in enumerate(names, 1)]

    def members(self, deck: str) -> set[str]:
        """Nobody that is known of."""
        return set()

    def pseudonyms(self, run: Run, deck: Deck) -> set[str]:
        """None: an account has one."""
        return set()

    def dataset(self, deck: str) -> None:
        """None."""

    def held(self, dataset: Named, wanted: Collection[str]) -> set[str]:
        """Nothing."""
        return set()


class Server:
    """What is on a server, as far as pushing needs it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.address = str(client.api_url)
        self.users = {user.username: user for user in self._list("users", User)}
        self._workspaces = {one.name: one for one in self._list("me/workspaces", Named)}

    def _list(self, path: str, kind: type[Any]) -> list[Any]:
        return msgspec.convert(call(self.client, "GET", path)["items"], list[kind])  # type: ignore[valid-type]

    def members(self, deck: str) -> set[str]:
        """The user names of those who answer a deck; nobody where it is not there."""
        if deck not in self._workspaces:
            return set()
        found = self._list(f"workspaces/{self._workspaces[deck].id}/users", User)
        return {user.username for user in found if user.role != "owner"}

    def pseudonyms(self, run: Run, deck: Deck) -> set[str]:
        """What a run knows the annotators of a deck as; nobody before its first item."""
        if known_secret(run) is None:
            return set()
        return {pseudonym(run, self.users[name].id) for name in deck.annotators}

    def pool(self, series: str) -> list[Deck]:
        """The one deck of all annotators that the server has."""
        everybody = tuple(sorted(user.username for user in self.users.values() if user.role == "annotator"))
        if not everybody:
            remedy = "Add one: prefkit annotate users add NAME."
            raise ServerError(self.address, "no annotator", "somebody who may answer", remedy)
        return [Deck(series, everybody)]

    def decks(self, series: str, names: Sequence[str], known: Collection[str]) -> list[Deck]:
        """A deck for each annotator: the one they have, else a new one.

        Args:
            series: what the decks are called, without their numbers.
            names: the annotators' user names.
            known: decks of the run; one that is not on this server is given before a new number.

        Raises:
            InputError: a name is not an annotator's, or stands twice.
        """
        self._check(names)
        numbered = re.compile(re.escape(series) + r"-(\d+)")
        there = {name: self.members(name) for name in self._workspaces if numbered.fullmatch(name)}
        taken = {name: members for name, members in there.items() if members}
        numbers = {name for name in (*known, *taken) if numbered.fullmatch(name)}
        free = (name for n in range(1, len(numbers) + len(names) + 1) if (name := f"{series}-{n}") not in taken)
        found = [
            Deck(
                next((deck for deck, members in sorted(taken.items()) if name in members), None) or next(free), (name,)
            )
            for name in names
        ]
        if len({deck.name for deck in found}) < len(found):
            raise InputError(
                "--annotators", "two members of one deck", "a deck each", "Look at its workspace's members."
            )
        return found

    def _check(self, names: Sequence[str]) -> None:
        for name in names:
            if names.count(name) > 1:
                raise InputError("--annotators", f"{name} twice", "each once", "Leave one out.")
            if name not in self.users:
                remedy = f"prefkit annotate users add {name}"
                raise InputError("--annotators", f"no user {name} on this server", "users it has", remedy)
            if self.users[name].role == "owner":
                remedy = f"Make an account to annotate with: prefkit annotate users add {name}-annotates"
                raise InputError("--annotators", f"{name}, who is an owner and sees all decks", "annotators", remedy)

    def dataset(self, deck: str) -> Named | None:
        """The dataset of a deck, if it is there and can hold records."""
        if deck not in self._workspaces:
            return None
        workspace = self._workspaces[deck].id
        found = self._list(f"me/datasets?workspace_id={workspace}", Named)
        one = next((dataset for dataset in found if dataset.name == deck), None)
        return one if one is None or one.status == "ready" else None

    def open(self, deck: Deck, settings: Callable[[], Any]) -> Named:
        """Make what is missing of a deck: workspace, members, dataset.

        Args:
            deck: the deck.
            settings: makes the ``argilla.Settings`` of a new dataset.
        """
        self._workspace(deck.name)
        for name in set(deck.annotators) - self.members(deck.name):
            path = f"workspaces/{self._workspaces[deck.name].id}/users"
            call(self.client, "POST", path, json={"user_id": self.users[name].id})
        found = self.dataset(deck.name)
        if found is None:
            self._remove_half_made(deck.name)
            rg = sdk()
            workspace = self.client.workspaces(deck.name)
            rg.Dataset(name=deck.name, workspace=workspace, settings=settings(), client=self.client).create()
            found = self.dataset(deck.name)
        assert found is not None, "a dataset that was made a moment ago"
        return found

    def _workspace(self, name: str) -> None:
        if name not in self._workspaces:
            made = call(self.client, "POST", "workspaces", json={"name": name})
            self._workspaces[name] = msgspec.convert(made, Named)

    def _remove_half_made(self, deck: str) -> None:
        for dataset in self._list(f"me/datasets?workspace_id={self._workspaces[deck].id}", Named):
            if dataset.name == deck and dataset.status == "draft":
                call(self.client, "DELETE", f"datasets/{dataset.id}")

    def held(self, dataset: Named, wanted: Collection[str]) -> set[str]:
        """Which of these items a dataset holds already; all of them, where it holds as many records."""
        total = call(self.client, "GET", f"datasets/{dataset.id}/progress")["total"]
        if total == len(wanted):
            return set(wanted)
        return self._external_ids(dataset, total) & set(wanted)

    def _external_ids(self, dataset: Named, total: int) -> set[str]:
        """The ids of all records. Pages follow the time of pushing, which is the same for many records, so that one may
        be on two pages and another on none: then they are read again."""
        found: set[str] = set()
        for _ in range(TRIES):
            for offset in range(0, total, BULK):
                page = call(self.client, "GET", f"datasets/{dataset.id}/records?limit={BULK}&offset={offset}")
                found.update(record["external_id"] for record in page["items"])
            if len(found) == total:
                break
        return found

    def send(self, dataset: Named, records: Iterator[dict[str, Any]], progress: Progress) -> int:
        """Put records into a dataset, a bulk at a time; one whose id it holds is replaced. Returns how many."""
        sent = 0
        for bulk, body in _bulks(records):
            path, headers = f"datasets/{dataset.id}/records/bulk", {"Content-Type": "application/json"}
            call(self.client, "PUT", path, again=True, content=body, headers=headers)
            sent += bulk
            progress(bulk)
        return sent

    def link(self, dataset: Named) -> str:
        """Where annotators answer, in the order of the deck: the page has an order of its own for each person unless
        told otherwise."""
        where = f"{self.address.rstrip('/')}/dataset/{dataset.id}/annotation-mode"
        return f"{where}?page=1&status=pending&sort=metadata.position.asc"


def _bulks(records: Iterator[dict[str, Any]]) -> Iterator[tuple[int, bytes]]:
    """How many records, and the body of a request with them."""
    some: list[bytes] = []
    size = 0
    for record in records:
        encoded = msgspec.json.encode(record)
        if some and (len(some) == BULK or size + len(encoded) > BULK_BYTES):
            yield len(some), b'{"items":[' + b",".join(some) + b"]}"
            some, size = [], 0
        some.append(encoded)
        size += len(encoded)
    if some:
        yield len(some), b'{"items":[' + b",".join(some) + b"]}"
