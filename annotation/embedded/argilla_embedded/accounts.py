"""The owner and the annotators: random passwords and keys, kept in accounts.json, which only its owner may read.

The owner is made in the database when the server first starts. All others are made by the owner through the API: of
the server that runs, or, where none does, of one in this process that nobody else can reach. argilla's default account
(argilla / 1234) is never made.

A password is shown when it is made, and stands in accounts.json. A new one ends no session: Argilla's log-ins last a
day.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import httpx

from argilla_embedded.errors import Problem
from argilla_embedded.folder import Folder, write_private

OWNER = "owner"
WORKSPACE = "annotation"
NAME = re.compile(r"[^\W_][\w.@-]{0,63}")
"""Letters and digits of any script, then also ``_ . @ -``."""
KEY_HEADER = "X-Argilla-Api-Key"


@dataclass(frozen=True)
class Account:
    """Who may log in, and with what."""

    username: str
    role: str
    password: str
    api_key: str


def read(folder: Folder) -> dict[str, Account]:
    """The accounts by name, in the order in which they were made; none where there is no file yet.

    Raises:
        Problem: the file is not what this module writes.
    """
    if not folder.accounts.exists():
        return {}
    try:
        listed = json.loads(folder.accounts.read_text())["users"]
        return {user["username"]: Account(**user) for user in listed}
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise Problem(
            f"{folder.accounts}: {type(error).__name__}: {error}",
            'JSON with "users"',
            "Move it away and start the server: the owner gets a new password, annotators by `users password NAME`.",
        ) from None


@contextlib.contextmanager
def _changing(folder: Folder) -> Iterator[dict[str, Account]]:
    """The accounts, to be changed; one process at a time; written when the block ends well."""
    with (folder.root / "accounts.lock").open("w") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        users = read(folder)
        yield users
        listed = [asdict(user) for user in users.values()]
        write_private(folder.accounts, json.dumps({"workspace": WORKSPACE, "users": listed}, indent=2) + "\n")


def check_names(names: Sequence[str]) -> list[str]:
    """The names, each once.

    Raises:
        Problem: one is not a name that can stand in a list and in an address.
    """
    for name in names:
        if not NAME.fullmatch(name):
            raise Problem(
                f"user name {name!r}", "letters and digits, then also _ . @ - (64 at most)", "Choose another name."
            )
    return list(dict.fromkeys(names))


def new_password() -> str:
    """Twelve random bytes as sixteen characters: to be typed once, not to be guessed."""
    return secrets.token_urlsafe(12)


async def ensure_owner(folder: Folder) -> Account | None:
    """See to it that the owner and the workspace exist and that accounts.json knows the owner.

    Runs in the process of the imported server, on its database.

    Returns:
        The owner where it is new, or its password is, because accounts.json did not know it; else None.
    """
    from argilla_server.contexts import accounts
    from argilla_server.database import AsyncSessionLocal
    from argilla_server.enums import UserRole
    from argilla_server.models import Workspace

    async with AsyncSessionLocal() as db:
        if await Workspace.get_by(db, name=WORKSPACE) is None:
            await accounts.create_workspace(db, {"name": WORKSPACE})
        owner = await accounts.get_user_by_username(db, OWNER)
        with _changing(folder) as users:
            if owner is not None and OWNER in users and users[OWNER].api_key == owner.api_key:
                return None
            password = new_password()
            if owner is None:
                attributes = {"username": OWNER, "first_name": OWNER, "last_name": None, "role": UserRole.owner}
                owner = await accounts.create_user(db, {**attributes, "password": password})
            else:
                await accounts.update_user(db, owner, {"password": password})
            users[OWNER] = Account(OWNER, "owner", password, owner.api_key)
        return users[OWNER]


async def add(
    folder: Folder, client: httpx.AsyncClient, names: Sequence[str], role: str = "annotator"
) -> list[Account]:
    """Make those of the names that do not exist yet, as members of the workspace.

    Args:
        folder: where accounts.json is.
        client: of a server, with its owner's key.
        names: user names; checked.
        role: annotator, admin or owner.

    Returns:
        The new ones.
    """
    existing = {user["username"] for user in (await _answer(client, "GET", "users"))["items"]}
    workspace = await _workspace(client)
    made = []
    for name in check_names(names):
        if name in existing:
            continue
        password = new_password()
        asked = {"username": name, "first_name": name, "role": role, "password": password}
        user = await _answer(client, "POST", "users", asked)
        await _answer(client, "POST", f"workspaces/{workspace}/users", {"user_id": user["id"]})
        account = Account(name, role, password, user["api_key"])
        with _changing(folder) as users:
            users[name] = account
        made.append(account)
    return made


async def renew_password(folder: Folder, client: httpx.AsyncClient, name: str) -> Account:
    """Give a user a new random password.

    Raises:
        Problem: there is no such user.
    """
    user = next((user for user in (await _answer(client, "GET", "users"))["items"] if user["username"] == name), None)
    if user is None:
        raise Problem(f"no user {name!r}", "one of `users list`", "Add it: argilla-embedded users add.")
    password = new_password()
    await _answer(client, "PATCH", f"users/{user['id']}", {"password": password})
    account = Account(name, user["role"], password, user["api_key"])
    with _changing(folder) as users:
        users[name] = account
    return account


async def _workspace(client: httpx.AsyncClient) -> str:
    for workspace in (await _answer(client, "GET", "me/workspaces"))["items"]:
        if workspace["name"] == WORKSPACE:
            return str(workspace["id"])
    return str((await _answer(client, "POST", "workspaces", {"name": WORKSPACE}))["id"])


async def _answer(client: httpx.AsyncClient, method: str, path: str, body: Any = None) -> Any:
    answer = await client.request(method, f"/api/v1/{path}", json=body)
    if answer.is_error:
        raise Problem(f"{method} {path}: {answer.status_code} {answer.text[:200]}", "the server to do it", "Try again.")
    return answer.json()


def lines(accounts: Sequence[Account]) -> list[str]:
    """The accounts as a table for people: name, role, password, key."""
    rows = [("user", "role", "password", "API key")] + [(a.username, a.role, a.password, a.api_key) for a in accounts]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)) for row in rows]
