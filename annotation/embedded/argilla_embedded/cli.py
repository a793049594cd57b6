"""``argilla-embedded``: arguments in, one call, a few lines out. A `Problem` is printed bare and ends with code 1."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from argilla_embedded import __version__
from argilla_embedded.errors import Problem
from argilla_embedded.folder import Folder, holder, open_folder, serving

STOP_SECONDS = 60
"""How long ``stop`` waits for a server to finish its requests and jobs."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command. All files it makes are for this user only."""
    os.umask(0o077)
    parsed = _parser().parse_args(arguments)
    try:
        parsed.run(parsed)
    except Problem as problem:
        sys.exit(f"argilla-embedded: {problem}")
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="argilla-embedded", description="The real Argilla server and page in one process, on one folder."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = _command(commands, "serve", _serve, "start the server and stay")
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    serve.add_argument("--port", type=int, default=6900, help="0 takes a free one (%(default)s)")
    serve.add_argument("--allow-network", action="store_true", help="needed with a --host that others can reach")
    serve.add_argument("--cors", nargs="+", default=[], metavar="ORIGIN", help="other pages that may use the API")
    serve.add_argument("--annotators", default="", metavar="A,B,C", help="annotators to make if they do not exist")

    _command(commands, "stop", _stop, "stop the server, requests finished")
    status = _command(commands, "status", _status, "address, users, datasets, sizes")
    status.add_argument("--json", action="store_true", help="for programs")

    users = commands.add_parser("users", help="the accounts").add_subparsers(required=True, metavar="ACTION")
    add = _command(users, "add", _users_add, "make users with random passwords, also while the server runs")
    add.add_argument("names", nargs="+", metavar="NAME")
    add.add_argument("--role", choices=["annotator", "admin", "owner"], default="annotator")
    _command(users, "list", _users_list, "names and roles; passwords are in accounts.json")
    password = _command(users, "password", _users_password, "give a user a new password")
    password.add_argument("name", metavar="NAME")

    backup = _command(commands, "backup", _backup, "write a backup, also while the server runs")
    backup.add_argument("--to", type=Path, metavar="FILE", help="by default DIR/backups/argilla-TIME.tar.gz")
    restore = _command(commands, "restore", _restore, "put a backup back; the server must be stopped")
    restore.add_argument("file", type=Path, metavar="FILE")
    restore.add_argument("--replace", action="store_true", help="the present database is kept beside, renamed")
    _command(commands, "reindex", _reindex, "make the search index anew; the server must be stopped")
    return parser


def _command(commands: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
    parser.add_argument("--dir", type=Path, required=True, help="the folder of this server")
    parser.set_defaults(run=run)
    return parser


def _say(line: str) -> None:
    print(line, flush=True)


def _serve(asked: argparse.Namespace) -> None:
    from argilla_embedded.server import Serve, serve

    serve(
        Serve(
            directory=asked.dir,
            host=asked.host,
            port=asked.port,
            allow_network=asked.allow_network,
            cors=tuple(asked.cors),
            annotators=tuple(name for name in asked.annotators.split(",") if name),
        ),
        _say,
    )


def _stop(asked: argparse.Namespace) -> None:
    folder = open_folder(asked.dir)
    pid = holder(folder)
    if pid is None:
        _say("not running")
        return
    os.kill(pid, signal.SIGTERM)
    until = time.monotonic() + STOP_SECONDS
    while holder(folder) == pid:
        if time.monotonic() > until:
            raise Problem(f"process {pid} still there after {STOP_SECONDS} s", "it to end", f"kill -9 {pid} is safe.")
        time.sleep(0.05)
    _say(f"stopped {pid}")


def _status(asked: argparse.Namespace) -> None:
    told = status(open_folder(asked.dir))
    if asked.json:
        _say(json.dumps(told))
        return
    running = told["running"]
    _say(f"running at {running['address']} (process {running['pid']})" if running else "not running")
    _say(f"users: {', '.join(user['username'] for user in told['users']) or 'none'}")
    for dataset in told["datasets"]:
        answers = ", ".join(f"{count} {status}" for status, count in sorted(dataset["responses"].items())) or "none"
        _say(
            f"{dataset['workspace']}/{dataset['name']} ({dataset['status']}): {dataset['completed']} of "
            f"{dataset['records']} records completed; responses: {answers}"
        )
    _say("sizes: " + ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in told["bytes"].items()))


def status(folder: Folder) -> dict[str, Any]:
    """What ``status --json`` prints: running (server.json or null), users, datasets, bytes by file, free bytes."""
    from argilla_embedded.database import counts, schema_revision

    known = schema_revision(folder.database) is not None
    sizes = {
        name: sum(path.stat().st_size for path in folder.root.glob(f"{name}*"))
        for name in (folder.database.name, folder.index.name)
    }
    return {
        "running": serving(folder),
        **(counts(folder.database) if known else {"users": [], "datasets": []}),
        "bytes": sizes,
        "free_bytes": shutil.disk_usage(folder.root).free,
    }


def _users_add(asked: argparse.Namespace) -> None:
    from argilla_embedded import accounts
    from argilla_embedded.server import as_owner

    folder = open_folder(asked.dir, make=True)
    names = accounts.check_names(asked.names)

    async def add() -> list[accounts.Account]:
        async with as_owner(folder) as client:
            return await accounts.add(folder, client, names, asked.role)

    made = asyncio.run(add())
    there = [name for name in names if name not in {account.username for account in made}]
    if there:
        _say(f"already there, unchanged: {', '.join(there)}")
    if made:
        for line in accounts.lines(made):
            _say(line)


def _users_list(asked: argparse.Namespace) -> None:
    for user in status(open_folder(asked.dir))["users"]:
        _say(f"{user['username']}  {user['role']}")


def _users_password(asked: argparse.Namespace) -> None:
    from argilla_embedded import accounts
    from argilla_embedded.server import as_owner

    folder = open_folder(asked.dir)

    async def renew() -> accounts.Account:
        async with as_owner(folder) as client:
            return await accounts.renew_password(folder, client, asked.name)

    for line in accounts.lines([asyncio.run(renew())]):
        _say(line)


def _backup(asked: argparse.Namespace) -> None:
    from argilla_embedded.backup import back_up

    file = back_up(open_folder(asked.dir), asked.to)
    _say(f"{file}: {file.stat().st_size / 1e6:.1f} MB; it holds passwords and clients' words")


def _restore(asked: argparse.Namespace) -> None:
    from argilla_embedded.backup import restore

    folder = open_folder(asked.dir, make=True)
    kept = restore(folder, asked.file, replace=asked.replace)
    _say(f"restored to {folder.root}" + (f"; what was there: {kept}" if kept else ""))


def _reindex(asked: argparse.Namespace) -> None:
    from argilla_embedded.booting import rebuild_index

    _say(asyncio.run(rebuild_index(open_folder(asked.dir))))
