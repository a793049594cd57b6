"""A client of an Argilla 2.8 server, whoever runs it.

Reads   DIR/server.json, DIR/accounts.json    address and owner's key of the embedded server
        PREFKIT_ARGILLA_API_KEY, ARGILLA_API_KEY    the key for a server named by its address

A key is never written anywhere, and stands in no message. One that would go unencrypted over the internet is not sent.
The SDK takes two seconds to import, so it is imported when a client is made.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefkit.annotation.server import default_folder, running
from prefkit.errors import PrefkitError, RunError
from prefkit.models.addresses import check_url, is_local, public_url

KEYS = ("PREFKIT_ARGILLA_API_KEY", "ARGILLA_API_KEY")
VERSION = "2.8."
TIMEOUT = 120
"""Seconds for one request: a bulk of records takes a few."""

PAUSE = 3.0
"""Seconds before a stumbling server is asked again."""
_STUMBLES = (409, 500, 502, 503, 504)

Client = Any
"""An ``argilla.Argilla``; the SDK has no types."""


class ServerError(RunError):
    """An Argilla server does not answer, or not as it should."""


@contextlib.contextmanager
def connect(*, url: str | None = None, folder: Path | None = None) -> Iterator[Client]:
    """A client with the owner's rights, for as long as the block lasts.

    Args:
        url: the server's address; its key is taken from the environment.
        folder: else that of an embedded server.

    Raises:
        PrefkitError: nothing answers, or not Argilla 2.8, or the key is not an owner's; also where the server goes away
            or refuses something while the block lasts.
    """
    address, key = _whereto(url, folder)
    rg = sdk()
    with _explained(address):
        client = _client(rg, address, key)
    http = client.api.http_client
    try:
        with _explained(address):
            yield client
    finally:
        http.close()


def sdk() -> Any:
    """The module ``argilla``.

    Raises:
        PrefkitError: it is not installed.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        with warnings.catch_warnings():
            from pydantic.warnings import PydanticDeprecatedSince20

            warnings.simplefilter("ignore", PydanticDeprecatedSince20)
            import argilla
        logging.getLogger("argilla.sdk").setLevel(logging.CRITICAL)  # what it logs, it raises too
    except ImportError:
        remedy = "pip install 'prefkit[annotate]'"
        raise PrefkitError("annotate", "no package argilla", "Argilla's client", remedy) from None
    return argilla


def _whereto(url: str | None, folder: Path | None) -> tuple[str, str]:
    """Address and key."""
    here = folder or default_folder()
    embedded = running(here)
    if url is None:
        if embedded is None:
            remedy = (
                f"Start one: prefkit annotate serve{'' if folder is None else f' --dir {folder}'}. Or name a server of"
            )
            remedy += f" your own by --url, with its owner's key in {KEYS[0]}."
            raise ServerError(here, "no Argilla server running here", "one that answers", remedy)
        return embedded.address, embedded.owner_key
    check_url(url, "--url")
    if url.lower().startswith("http:") and not is_local(url):
        remedy = "Use its https address; a key and clients' words would travel in the clear."
        raise ServerError(public_url(url), "http to a server that is not in this network", "https", remedy)
    name = next((name for name in KEYS if os.environ.get(name)), None)
    if name is None:
        if embedded is not None and embedded.address.rstrip("/") == url.rstrip("/"):
            return url, embedded.owner_key
        remedy = f"export {KEYS[0]}=... (in Argilla: your account, My settings, API key)."
        raise ServerError(public_url(url), "no key for this server", f"an owner's key in {KEYS[0]}", remedy)
    key = os.environ[name].strip()
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ServerError(f"${name}", "characters that no key has", "an API key", "Copy it again from Argilla.")
    return url.rstrip("/"), key


def _client(rg: Any, address: str, key: str) -> Client:
    """A client, once it is known that there is Argilla 2.8 and that the key is its owner's."""
    import httpx

    trust_env = not is_local(address)  # a proxy to the internet knows no way to this machine
    with httpx.Client(base_url=address, timeout=20, trust_env=trust_env) as plain:
        _check_version(address, plain.get("/api/v1/version"))
        me = plain.get("/api/v1/me", headers={"X-Argilla-Api-Key": key})
    where = public_url(address)
    if me.status_code == httpx.codes.UNAUTHORIZED:
        remedy = f"Look at {' and '.join(KEYS)}; keys belong to one server."
        raise ServerError(where, "a key that this server does not know", "its owner's key", remedy)
    if not me.is_success:
        raise refused(where, me.status_code, me.text)
    role = me.json()["role"]
    if role != "owner":
        remedy = "Decks and who may see them are the owner's business: use the owner's key."
        raise ServerError(where, f"the key of an account with the role {role}", "an owner's key", remedy)
    return rg.Argilla(api_url=address, api_key=key, timeout=TIMEOUT, trust_env=trust_env)


def _check_version(address: str, answer: Any) -> None:
    """Refuse what is not Argilla 2.8."""
    where = public_url(address)
    try:
        version = str(answer.json()["version"]) if answer.is_success else ""
    except (ValueError, KeyError, TypeError):
        version = ""
    if not version:
        found = f"no Argilla (status {answer.status_code} for its version)"
        remedy = "Look at the address: it is that of the page, such as http://127.0.0.1:6900."
        raise ServerError(where, found, "an Argilla 2.8 server", remedy)
    if not version.startswith(VERSION):
        remedy = "Use a server of version 2.8: prefkit annotate serve starts one."
        raise ServerError(where, f"Argilla {version}", "Argilla 2.8", remedy)


@contextlib.contextmanager
def _explained(address: str) -> Iterator[None]:
    """Turn what goes wrong on the way to a server, or what it refuses, into a message with a remedy."""
    import httpx
    from argilla._exceptions import ArgillaError

    where = public_url(address)
    try:
        yield
    except httpx.TimeoutException:
        remedy = "The same command goes on from here. Look at the server: prefkit annotate status."
        raise ServerError(where, "no answer in time", "an answer", remedy) from None
    except httpx.TransportError as error:
        found = f"nothing that answers ({type(error).__name__})"
        remedy = "Is it running? prefkit annotate serve starts one here. The same command goes on from here."
        raise ServerError(where, found, "an Argilla server", remedy) from None
    except ArgillaError as error:
        cause = error.__cause__ or error  # the SDK wraps what a server said of a dataset's settings
        raise refused(where, getattr(cause, "status_code", None), str(cause)) from None


def refused(where: str, status: int | None, words: str) -> ServerError:
    """The error for what a server would not do; of its words only the first, since they may repeat texts."""
    found = f"a refusal (status {status})" if status else "a refusal"
    found += f": {' '.join(words.split())[:200]}"
    remedy = (
        "The same command goes on from here, once that is mended. `prefkit annotate status` tells where the log is."
    )
    return ServerError(where, found, "what was asked for", remedy)


def call(client: Client, method: str, path: str, *, again: bool = False, **options: Any) -> Any:
    """Ask a server's API, below ``/api/v1/``; the answer's JSON.

    Args:
        client: the server's.
        method: of HTTP.
        path: with its query.
        again: whether to ask a second time if the server stumbles, as where a push that was killed a moment ago left it
            at work on the same records. For what may be done twice.
        options: of httpx.

    Raises:
        ServerError: it refuses.
    """
    http = client.api.http_client
    answer = http.request(method, f"/api/v1/{path}", **options)
    if again and answer.status_code in _STUMBLES:
        time.sleep(PAUSE)
        answer = http.request(method, f"/api/v1/{path}", **options)
    if not answer.is_success:
        raise refused(f"{public_url(client.api_url)} {path.split('?')[0]}", answer.status_code, answer.text)
    return answer.json() if answer.content else None
