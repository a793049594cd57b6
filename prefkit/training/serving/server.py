"""``prefkit serve-rm``: a reward model that listens until it is stopped.

Reads a reward model, where to listen and the key; gives the address when it listens. Others than this machine are
served with a key only. Requests that were begun are answered before the end.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from prefkit.errors import PrefkitError
from prefkit.interrupts import interrupts
from prefkit.training.reward_model import RewardModel
from prefkit.training.serving.answers import LARGEST_BODY, Answers, refusal
from prefkit.training.serving.desk import Desk

PATIENCE = 30.0
"""Seconds that a stopping server gives the requests it has begun."""


@dataclass(frozen=True, kw_only=True)
class Serving:
    """Where a server listens, and whom it answers.

    Args:
        host, port: 0 takes a free port.
        key: what clients must send as ``Authorization: Bearer KEY``; None asks for none, on this machine only.
        key_name: the environment variable that the key comes from, for messages.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    key: str | None = None
    key_name: str = "PREFKIT_RM_KEY"

    def check(self) -> None:
        """Refuse to serve others without a key.

        Raises:
            PrefkitError: the address is not this machine's own, and there is no key.
        """
        if self.key is None and not _is_loopback(self.host):
            remedy = f"Put one into {self.key_name}, or listen on 127.0.0.1."
            raise PrefkitError(f"--host {self.host}", "no key", "a key, as others can reach this address", remedy)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def application(model: RewardModel, settings: Serving, name: str, desk: Desk) -> web.Application:
    """The server's addresses, behind the key."""

    @web.middleware
    async def keyed(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> Any:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if (
            settings.key
            and request.path != "/health"
            and not hmac.compare_digest(given.encode(), settings.key.encode())
        ):
            return refusal(401, "Unauthorized")
        return await handler(request)

    app = web.Application(client_max_size=LARGEST_BODY, middlewares=[keyed])
    app.add_routes(Answers(model, name, desk).routes())
    return app


def serve(model: RewardModel, settings: Serving, name: str, ready: Callable[[str], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; requests that were begun are answered first.

    Args:
        model: the reward model.
        settings: where, and for whom.
        name: what clients call it.
        ready: called with the address when it listens.

    Raises:
        PrefkitError: the address is taken, or needs a key.
    """
    settings.check()
    with asyncio.Runner() as runner:
        runner.run(_serve(model, settings, name, ready))


async def _serve(model: RewardModel, settings: Serving, name: str, ready: Callable[[str], None]) -> None:
    desk = Desk(model)
    app = application(model, settings, name, desk)
    served = web.AppRunner(app, access_log=None, shutdown_timeout=PATIENCE, handler_cancellation=True)
    await served.setup()
    working = asyncio.create_task(desk.work())
    try:
        site = web.TCPSite(served, settings.host, settings.port)
        try:
            await site.start()
        except OSError as error:
            where, remedy = f"{settings.host}:{settings.port}", "Choose another --port; 0 takes a free one."
            raise PrefkitError(where, (error.strerror or str(error)).lower(), "a free address", remedy) from None
        stopped = asyncio.Event()
        with interrupts(stopped.set):
            host, port = served.addresses[0][:2]
            ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
            await asyncio.wait([working, asyncio.create_task(stopped.wait())], return_when=asyncio.FIRST_COMPLETED)
    finally:
        await served.cleanup()
        desk.close()
        await working
