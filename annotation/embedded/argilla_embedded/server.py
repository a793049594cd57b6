"""One serving process, from the lock to the clean end.

    lock DIR -> bind the address -> boot the server -> accounts -> answer -> server.json, the address printed
    SIGTERM or Ctrl-C -> no new requests, those begun are finished -> jobs finish -> page and server.json removed

Whatever stops a start that the user can mend is a `Problem`, raised before anything answers.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import json
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import httpx

from argilla_embedded import accounts, jobs
from argilla_embedded.booting import Booted, boot, booted_offline, in_words, shut_down
from argilla_embedded.errors import Problem
from argilla_embedded.folder import Folder, hold, open_folder, serving, write_private
from argilla_embedded.gate import LOOPBACK_NAMES

PORT = 6900
GRACE = 20
"""Seconds that requests and jobs get to finish when the server is stopped."""


@dataclass(frozen=True, kw_only=True)
class Serve:
    """What `serve` was asked for.

    Args:
        directory: DIR.
        host: address to listen on.
        port: 0 for a free one.
        allow_network: whether others are to reach it, at this host or through a proxy: it answers to any name then.
        cors: origins of other pages that may use the API.
        annotators: users to make if they do not exist.
    """

    directory: Path
    host: str = "127.0.0.1"
    port: int = PORT
    allow_network: bool = False
    cors: tuple[str, ...] = ()
    annotators: tuple[str, ...] = ()


@dataclass(frozen=True)
class Place:
    """Where the server listens.

    Args:
        address: to type.
        local: the same, for programs on this machine.
        private: whether only this machine is to reach it.
    """

    address: str
    local: str
    private: bool


def serve(asked: Serve, say: Callable[[str], None] = print) -> None:
    """Serve until stopped.

    Raises:
        Problem: the start failed for a reason the user can mend.
    """
    loopback = _is_loopback(asked.host)
    if not loopback and not asked.allow_network:
        raise Problem(
            f"--host {asked.host}, which others can reach",
            "127.0.0.1, or --allow-network as well",
            "If others are to reach it, add --allow-network and put a reverse proxy with TLS before it.",
        )
    accounts.check_names(asked.annotators)
    folder = open_folder(asked.directory, make=True)
    with hold(folder), _listening(asked.host, asked.port) as listener:
        folder.server.unlink(missing_ok=True)
        if not loopback:
            say("warning: passwords and texts travel readable without TLS; put a reverse proxy with TLS before this.")
        try:
            asyncio.run(_serve(asked, folder, listener, say))
        finally:
            folder.server.unlink(missing_ok=True)
            shutil.rmtree(folder.page, ignore_errors=True)


async def _serve(asked: Serve, folder: Folder, listener: socket.socket, say: Callable[[str], None]) -> None:
    port = listener.getsockname()[1]
    place = Place(_address(asked.host, port), _local(asked.host, port), not asked.allow_network)
    own = [place.address, *(f"http://{name}:{port}" for name in LOOPBACK_NAMES)]
    booted = await boot(folder, origins=[*own, *asked.cors], hosts=LOOPBACK_NAMES if place.private else None)
    if booted.repaired:
        say(f"repaired the status of {booted.repaired} records that a sudden end had left behind")
    if booted.index:
        say(booted.index)
    with in_words(folder):
        owner = await accounts.ensure_owner(folder)
        async with in_process(folder, booted) as client:
            new = [*([owner] if owner else []), *await accounts.add(folder, client, asked.annotators)]
    if new:
        for line in accounts.lines(new):
            say(line)
        say(f"(shown once; kept in {folder.accounts}, readable by you only)")
    await _run_until_stopped(folder, listener, booted.app, place, say)
    late = await jobs.finish(GRACE)
    await shut_down()
    if late:
        say(f"{late} background jobs did not finish in {GRACE} s and were dropped")


async def _run_until_stopped(
    folder: Folder, listener: socket.socket, app: Any, place: Place, say: Callable[[str], None]
) -> None:
    import uvicorn

    class Told(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started:
                write_private(folder.server, json.dumps(_told(place)) + "\n")
                say(f"Argilla answers at {place.address} (Ctrl-C to stop)")

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=not place.private,  # else who asks could say that they ask from elsewhere
        timeout_graceful_shutdown=GRACE,
        timeout_keep_alive=30,
    )
    for number in (signal.SIGINT, signal.SIGTERM):  # uvicorn raises them again when it is done; the end goes on here
        signal.signal(number, lambda *_: None)
    server = Told(config)
    await server.serve(sockets=[listener])
    if not server.started:
        raise Problem("the server ended while it started", "it to start", "The lines above say why.")


def _told(place: Place) -> dict[str, Any]:
    return {
        "address": place.address,
        "local": place.local,
        "pid": os.getpid(),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "workspace": accounts.WORKSPACE,
    }


@asynccontextmanager
async def in_process(folder: Folder, booted: Booted) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a booted server in this process, as its owner; nothing listens."""
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=booted.app), base_url="http://localhost", headers=_owner_key(folder)
    ) as client:
        yield client


@asynccontextmanager
async def as_owner(folder: Folder) -> AsyncIterator[httpx.AsyncClient]:
    """A client as the owner: of the server that runs on the folder, or of one in this process where none does."""
    running = serving(folder)
    if running:
        async with httpx.AsyncClient(
            base_url=running["local"], headers=_owner_key(folder), timeout=60, trust_env=False
        ) as client:
            yield client
        return
    async with booted_offline(folder) as booted:
        await accounts.ensure_owner(folder)
        async with in_process(folder, booted) as client:
            yield client


def _owner_key(folder: Folder) -> dict[str, str]:
    return {accounts.KEY_HEADER: accounts.read(folder)[accounts.OWNER].api_key}


def _listening(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        Problem: the port is taken or not ours to take, or the address is not one of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno in (errno.EADDRINUSE, errno.EACCES):
            raise Problem(
                f"port {port} on {host}: {error.strerror}", "a free port", "Choose another: --port 0 takes a free one."
            ) from None
        raise Problem(
            f"--host {host}: {error.strerror or error}", "an address of this machine", "Use 127.0.0.1."
        ) from None
    return listener


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _address(host: str, port: int) -> str:
    """The address to type; one that means every interface is reached by this machine's name."""
    return _local(socket.gethostname() if host in ("0.0.0.0", "::") else host, port)


def _local(host: str, port: int) -> str:
    """The address for programs on this machine."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
