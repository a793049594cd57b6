"""What every request and answer passes: names the server answers to, headers, and patience with failed log-ins.

    Host       on a loopback address only its own names are answered: a foreign page that has its name resolve to
               127.0.0.1 (DNS rebinding) gets nothing
    headers    a Content-Security-Policy under which the page and the templates of custom fields work and nothing is
               loaded from or sent to another origin; no framing, no sniffing, no referrer; API answers in no cache
    log-ins    after a few failures from one address, for one user or for many, further tries wait; the count is by
               address, so that nobody can lock somebody else out

The policy has to allow inline scripts and ``eval``: the page brings its settings inline, templates of custom fields are
inline scripts in a frame, and Handlebars, which they use, compiles with ``eval``. So it does not stop a script that is
in the page already; it stops that script from loading or sending anything elsewhere by request.
"""

from __future__ import annotations

import time
from collections import deque
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from argilla_embedded.isolation import Handler, replace_handler

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' data: blob:; connect-src 'self'; "
    "frame-src 'self'; worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-frame-options", b"DENY"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")

_address: ContextVar[str] = ContextVar("address", default="")


class Gate:
    """The ASGI application around the server's own.

    Args:
        app: the server's.
        hosts: names it answers to; None for any (then a proxy in front decides).
    """

    def __init__(self, app: Any, hosts: tuple[str, ...] | None) -> None:
        self._app = app
        self._hosts = None if hosts is None else {host.lower() for host in hosts}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        _address.set((scope.get("client") or ("",))[0])
        cache = _cache_control(scope["path"])

        async def send_with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), *HEADERS, *cache]}
            await send(message)

        if self._hosts is not None and _host_of(scope) not in self._hosts:
            await _refuse_host(send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)


def _cache_control(path: str) -> tuple[tuple[bytes, bytes], ...]:
    if path.startswith("/api/"):
        return ((b"cache-control", b"no-store"),)
    if path.startswith("/_nuxt/"):
        return ((b"cache-control", b"public, max-age=31536000, immutable"),)  # their names are digests
    return ()


def _host_of(scope: Any) -> str:
    """The name in the Host header, without the port."""
    host = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1").lower()
    return host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host


async def _refuse_host(send: Any) -> None:
    body = b"This server does not answer to that name."
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 421, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@dataclass
class Patience:
    """Counts failed log-ins by address, and by address and user, over a sliding window.

    Args:
        per_user: failures within the window after which that user waits, at that address.
        per_address: the same for all users together.
        window: seconds.
    """

    per_user: int = 5
    per_address: int = 30
    window: float = 60.0
    _failures: dict[tuple[str, str], deque[float]] = field(default_factory=dict)

    def seconds_to_wait(self, address: str, user: str, now: float) -> float:
        """Seconds until another try is heard; 0 for now."""
        return max(self._wait((address, user), self.per_user, now), self._wait((address, ""), self.per_address, now))

    def failed(self, address: str, user: str, now: float) -> None:
        """Count one failure."""
        if len(self._failures) > 10_000:
            self._failures = {key: times for key, times in self._failures.items() if now - times[-1] < self.window}
        for key, keep in (((address, user), self.per_user), ((address, ""), self.per_address)):
            self._failures.setdefault(key, deque(maxlen=keep)).append(now)

    def _wait(self, key: tuple[str, str], limit: int, now: float) -> float:
        times = self._failures.get(key)
        return max(0.0, times[0] + self.window - now) if times and len(times) == limit else 0.0


def slow_down_guessing(api: Any, patience: Patience) -> None:
    """Have the log-in route refuse further tries for a while after too many failures. Call once."""
    from argilla_server.errors import UnauthorizedError
    from fastapi import HTTPException

    def patiently(upstream: Handler) -> Handler:
        async def create_token(*, db: Any, username: str, password: str) -> Any:
            address, user = _address.get(), username.casefold()[:200]
            wait = patience.seconds_to_wait(address, user, time.monotonic())
            if wait:
                raise HTTPException(429, "too many failed log-ins", {"Retry-After": str(int(wait) + 1)})
            try:
                return await upstream(db=db, username=username, password=password)
            except UnauthorizedError:
                patience.failed(address, user, time.monotonic())
                raise

        return create_token

    replace_handler(api, "POST", "/token", patiently)
