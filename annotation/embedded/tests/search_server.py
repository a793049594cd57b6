"""The real argilla-server 2.8 in this process, asked over its HTTP API, with the search engine under test.

A process imports the server once, so all tests share one database; each makes datasets of its own.
"""

import asyncio
import functools
import os
import tempfile
import warnings
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import httpx

T = TypeVar("T")
API = "/api/v1"


class Server:
    """A started server: `await`s are run on its one event loop."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.index = home / "index.db"
        self._loop = asyncio.new_event_loop()
        self.search = _imported(home)
        self._owner_key = self.run(_make_owner())
        from argilla_server import app

        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test")

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    def ask(self, method: str, path: str, *, key: str | None = None, **options: Any) -> Any:
        """The JSON of a call that must succeed; as the owner unless a key is given."""
        return self.run(self.asking(method, path, key=key, **options))

    async def asking(self, method: str, path: str, *, key: str | None = None, **options: Any) -> Any:
        headers = {"X-Argilla-Api-Key": key or self._owner_key}
        answer = await self._client.request(method, API + path, headers=headers, **options)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json() if answer.content else None

    def annotator(self, name: str, workspace: str) -> tuple[str, str]:
        """A new annotator's id and key."""
        user = self.ask(
            "POST",
            "/users",
            json={"username": name, "password": "password-1", "first_name": name, "role": "annotator"},
        )
        self.ask("POST", f"/workspaces/{workspace}/users", json={"user_id": user["id"]})
        return user["id"], user["api_key"]

    def dataset(self, name: str, *, overlap: int = 1, metadata: dict[str, str] | None = None) -> tuple[str, str]:
        """A published dataset with a text field, a rating and a label; its id and its workspace's."""
        workspace = self.ask("POST", "/workspaces", json={"name": f"ws-{name}"})["id"]
        body = {"name": name, "workspace_id": workspace, "allow_extra_metadata": True}
        distribution = {"strategy": "overlap", "min_submitted": overlap}
        dataset = self.ask("POST", "/datasets", json={**body, "distribution": distribution})["id"]
        field = {"name": "text", "title": "text", "required": True, "settings": {"type": "text"}}
        self.ask("POST", f"/datasets/{dataset}/fields", json=field)
        rating = {"type": "rating", "options": [{"value": value} for value in range(1, 6)]}
        label = {"type": "label_selection", "options": [{"value": value, "text": value} for value in "ABT"]}
        for question, settings in (("rating", rating), ("label", label)):
            body = {"name": question, "title": question, "required": question == "rating", "settings": settings}
            self.ask("POST", f"/datasets/{dataset}/questions", json=body)
        for prop, kind in (metadata or {}).items():
            body = {"name": prop, "title": prop, "settings": {"type": kind}, "visible_for_annotators": True}
            self.ask("POST", f"/datasets/{dataset}/metadata-properties", json=body)
        self.ask("PUT", f"/datasets/{dataset}/publish")
        return dataset, workspace

    def add(self, dataset: str, records: list[dict[str, Any]]) -> list[str]:
        """The ids of new records."""
        added = self.ask("POST", f"/datasets/{dataset}/records/bulk", json={"items": records})
        return [record["id"] for record in added["items"]]

    def respond(self, record: str, key: str, status: str, rating: int | None = 3, label: str | None = None) -> str:
        values = {name: {"value": value} for name, value in (("rating", rating), ("label", label)) if value is not None}
        body = {"values": values or None, "status": status}
        return str(self.ask("POST", f"/records/{record}/responses", key=key, json=body)["id"])

    def found(self, dataset: str, body: dict[str, Any], *, key: str | None = None, **params: Any) -> dict[str, Any]:
        """A search as the page makes it, for the person whose key it is."""
        path = f"/me/datasets/{dataset}/records/search"
        return dict(self.ask("POST", path, key=key, json=body, params=params))


@functools.cache
def server() -> Server:
    """The server of this process."""
    return Server(Path(tempfile.mkdtemp(prefix="argilla-search-test-")))


def queue(status: str) -> dict[str, Any]:
    """What the page sends to show one of its four queues."""
    filters = [{"type": "terms", "scope": {"entity": "response", "property": "status"}, "values": [status]}]
    if status == "pending":
        filters.append({"type": "terms", "scope": {"entity": "record", "property": "status"}, "values": [status]})
    return {"query": {}, "filters": {"and": filters}}


def _imported(home: Path) -> Any:
    settings = {
        "ARGILLA_HOME_PATH": str(home),
        "ARGILLA_DATABASE_URL": f"sqlite+aiosqlite:///{home}/argilla.db?check_same_thread=False",
        "ARGILLA_SEARCH_ENGINE": "sqlite",
        "ARGILLA_ENABLE_TELEMETRY": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
    }
    with _environment(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import fakeredis

        with mock.patch("redis.from_url", lambda *_, **__: fakeredis.FakeStrictRedis()):
            import argilla_server
            import argilla_server.jobs.queues
        from argilla_server.cli.database.migrate import migrate_db

        migrate_db("head")
        from argilla_embedded import search
    assert argilla_server.app
    return search


@contextmanager
def _environment(settings: dict[str, str]) -> Iterator[None]:
    with mock.patch.dict(os.environ, settings):
        os.environ.pop("ARGILLA_EMBEDDED_INDEX", None)
        yield


async def _make_owner() -> str:
    from argilla_server.database import AsyncSessionLocal
    from argilla_server.enums import UserRole
    from argilla_server.models import User

    async with AsyncSessionLocal() as db:
        known = await User.get_by(db, username="owner")
        owner = known or await User.create(
            db, first_name="owner", username="owner", role=UserRole.owner, password_hash="none", api_key="owner.key"
        )
        return str(owner.api_key)
