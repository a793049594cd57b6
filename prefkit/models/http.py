"""One attempt at an OpenAI-compatible ``/chat/completions``, as vLLM, Ollama, llama.cpp, SGLang and vendors serve it.

What an endpoint does not take (a JSON schema, ``temperature``, a system role, ...) is left out from its first refusal
on, and stands in ``notes``; any other refusal is a CallFailed that says whether another try makes sense. The key is in
the header of the call and nowhere else: what a server says is searched for it before it becomes an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import os
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from prefkit.models.chat import CallFailed, Reply, Request, Sampling, Token, without_system
from prefkit.models.deadlines import Deadlines
from prefkit.records import Message, Usage

CONNECT_SECONDS = 15.0
REMEMBERED = 4096
"""Answers of an endpoint that are known again if they come twice."""
SAID = 200
"""Characters of a server's own words that an error repeats."""

_AGAIN = {408, 409, 425, 429}
_HOPELESS = {401, 402, 403, 404, 405}
_CROWDED = {429, 503, 529}


class Answer(aiohttp.ClientResponse):
    """A response that still knows its connection when it has been read, and the connection is back in the pool."""

    _transport: asyncio.Transport | None = None

    async def start(self, connection: aiohttp.connector.Connection) -> aiohttp.ClientResponse:
        """Read the head."""
        self._transport = connection.transport
        return await super().start(connection)

    def hang_up(self) -> None:
        """Close the connection, whoever uses it now: what comes over it belongs to earlier calls."""
        if self._transport is not None:
            self._transport.abort()


class HttpEndpoint:
    """An endpoint that speaks the protocol.

    Args:
        session: whose connections are used; made with ``response_class=Answer``.
        base_url: with its ``/v1``; ``/chat/completions`` is added.
        model: what the endpoint calls the model.
        proxy: the URL of the proxy to go through.
        key: for the Authorization header.
        timeout: seconds for a whole call.
        most: calls at a time, None for no limit of its own.
        system_role: False for chat templates without a system role: its text then opens the first user message.
        extra: further fields of the body.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        base_url: str,
        model: str,
        *,
        proxy: str | None = None,
        key: str | None = None,
        timeout: float = 120.0,
        most: int | None = None,
        system_role: bool = True,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.most = most
        self.notes: dict[str, str] = {}
        self._session = session
        self._url = URL(base_url.rstrip("/") + "/chat/completions")
        self._model = model
        self._proxy = URL(proxy) if proxy else None
        self._key = key
        self._headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {key}"} if key else {})}
        self._seconds = timeout
        self._deadlines = Deadlines(timeout)
        self._timeout = aiohttp.ClientTimeout(sock_connect=min(CONNECT_SECONDS, timeout))
        self._extra = dict(extra or {})
        self._refused: frozenset[str] = frozenset() if system_role else frozenset({"system"})
        self._answers = _Answers()
        self._rest: tuple[Mapping[str, Any] | None, Sampling, int, frozenset[str]] | None = None
        self._rest_encoded = b""

    async def ask(self, request: Request) -> Reply:
        """Make one attempt; a call that the endpoint refuses for one of its fields is made again without it.

        Raises:
            CallFailed: there is no usable answer.
        """
        copies: set[int] = set()
        tried: set[str] = set()  # not what other calls were refused meanwhile
        while True:
            refused = self._refused
            try:
                status, headers, raw = await self._post(self._encoded(request))
            except _SaidBefore as copy:
                if copy.answer in copies:
                    self._answers.known = None
                copies.add(copy.answer)
                continue
            if status == 200:
                return read_completion(raw)
            said = self.redacted(_message(raw))
            field = _refused_field(said, self._body(request, refused)) if status in (400, 422, 500) else None
            if field is None or field in tried:
                raise _refusal(status, headers, said)
            tried.add(field)
            self._refused |= {field}
            self.notes[field] = _NOTES[field]

    async def _post(self, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        try:
            with self._deadlines.of_call():
                async with self._session.post(
                    self._url,
                    data=aiohttp.BytesPayload(body),
                    headers=self._headers,
                    proxy=self._proxy,
                    timeout=self._timeout,
                    allow_redirects=False,
                ) as answer:
                    raw = await answer.read()
                    if answer.status == 200 and self._answers.hold(raw):
                        if isinstance(answer, Answer):
                            answer.hang_up()
                        raise _SaidBefore(hash(raw))
                    return answer.status, answer.headers, raw
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            raise self._lost(error) from None

    @contextlib.asynccontextmanager
    async def exchange(
        self, method: str, path: str, *, data: Any = None, json: bytes | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Another exchange with the same API, such as a GET of ``/batches``, to be read within the block.

        Only connecting and each pause between two packets are bound in time, for large files take as long as they take.

        Raises:
            CallFailed: the connection failed, or the status is not one of success.
        """
        headers = {name: value for name, value in self._headers.items() if json is not None or name != "Content-Type"}
        timeout = aiohttp.ClientTimeout(sock_read=self._seconds, sock_connect=self._timeout.sock_connect)
        url = URL(str(self._url).removesuffix("/chat/completions") + path)
        body = data if json is None else json
        try:
            async with self._session.request(
                method, url, data=body, headers=headers, proxy=self._proxy, timeout=timeout, allow_redirects=False
            ) as answer:
                if not 200 <= answer.status < 300:
                    raise self.refusal(answer.status, answer.headers, await answer.read())
                yield answer
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise self._lost(error) from None

    def refusal(self, status: int, headers: Mapping[str, str], raw: bytes) -> CallFailed:
        """What an answer with another status than 200 says."""
        return _refusal(status, headers, self.redacted(_message(raw)))

    def _lost(self, error: Exception) -> CallFailed:
        """What went wrong with a connection."""
        if isinstance(error, TimeoutError):
            return CallFailed(f"no answer within {self._seconds:g} s", again=True, maybe_paid=True)
        if isinstance(error, aiohttp.InvalidURL):
            return CallFailed("the endpoint's URL is not one", hopeless=True)
        if isinstance(error, aiohttp.ClientConnectorError):
            said = os.strerror(error.os_error.errno) if error.os_error.errno else "no connection"
            reason = f"cannot connect to {error.host}:{error.port}: {said.lower()}"
            return CallFailed(reason, again=True, unreachable=True)
        words = self.redacted(" ".join(str(error).split()))[:SAID]
        return CallFailed(f"broken connection: {type(error).__name__} {words}".rstrip(), again=True, maybe_paid=True)

    def body(self, request: Request) -> dict[str, Any]:
        """The body of a call, without what the endpoint refused so far."""
        return self._body(request, self._refused)

    def _body(self, request: Request, refused: frozenset[str]) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self._model, "messages": _messages(request, refused), **self._extra}
        for name, value in msgspec.structs.asdict(request.sampling).items():
            if value is not None and value != () and name not in refused:
                body["max_completion_tokens" if name == "max_tokens" and "long name" in refused else name] = value
        if request.schema is not None and "json_object" not in refused:
            form = {"name": "reply", "schema": request.schema, "strict": True}
            plain = "json_schema" in refused
            body["response_format"] = {"type": "json_object"} if plain else {"type": "json_schema", "json_schema": form}
        if request.top_logprobs and "logprobs" not in refused:
            body["logprobs"] = True
            body["top_logprobs"] = request.top_logprobs
        return body

    def _encoded(self, request: Request) -> bytes:
        """The body as JSON; all but its messages is mostly the same as in the call before, and encoded once."""
        rest = (request.schema, request.sampling, request.top_logprobs, self._refused)
        if self._rest is None or rest[0] is not self._rest[0] or rest[1:] != self._rest[1:]:
            fixed = {name: value for name, value in self.body(request).items() if name != "messages"}
            self._rest, self._rest_encoded = rest, msgspec.json.encode(fixed)[:-1] + b',"messages":'
        return self._rest_encoded + msgspec.json.encode(_messages(request, self._refused)) + b"}"

    def redacted(self, words: str) -> str:
        """What a server says, without our key."""
        return words.replace(self._key, "[key]") if self._key else words


def _messages(request: Request, refused: frozenset[str]) -> tuple[Message, ...]:
    return without_system(request.messages) if "system" in refused else request.messages


_NOTES = {
    "json_schema": "takes no JSON schema; asked for a JSON object",
    "json_object": "takes no response format; asked in words only",
    "long name": "wants max_completion_tokens",
    "system": "takes no system role; its text opens the user's message",
    "logprobs": "gives no logprobs",
    "temperature": "takes no temperature; its own is used",
    "top_p": "takes no top_p; its own is used",
    "seed": "takes no seed",
    "stop": "takes no stop words",
    "frequency_penalty": "takes no frequency_penalty",
    "presence_penalty": "takes no presence_penalty",
    "max_tokens": "takes no bound on the reply's length",
}


_FORMAT_WORDS = ("response_format", "response format", "json_schema", "json schema", "json_object", "grammar")
_NOT_TAKEN = ("support", "unknown", "unrecognized", "unexpected", "not permitted", "not allowed", "alternate", "remove")


def _refused_field(said: str, body: Mapping[str, Any]) -> str | None:
    """Which field of a body a refusal is about, as far as its words tell."""
    words = said.lower()
    if "response_format" in body and any(word in words for word in _FORMAT_WORDS):
        return "json_schema" if body["response_format"]["type"] == "json_schema" else "json_object"
    if not any(word in words for word in _NOT_TAKEN):
        return None
    if "max_tokens" in body and "max_completion_tokens" in words and "too large" not in words:
        return "long name"
    if "logprobs" in body and "logprobs" in words:
        return "logprobs"
    if "system role" in words or "role 'system'" in words or "roles must alternate" in words:
        return "system" if any(message.role == "system" for message in body["messages"]) else None
    named = (name for name in ("temperature", "top_p", "seed", "stop", "frequency_penalty", "presence_penalty"))
    return next((name for name in named if name in body and name in words), None)


def _refusal(status: int, headers: Mapping[str, str], said: str) -> CallFailed:
    after = _retry_after(headers)
    reason = f"HTTP {status}: {said[:SAID]}" if said else f"HTTP {status}"
    if status == 429 and any(word in said.lower() for word in ("insufficient_quota", "billing", "credit balance")):
        return CallFailed(reason, hopeless=True)
    again = status in _AGAIN or status >= 500
    return CallFailed(reason, again=again, after=after, crowded=status in _CROWDED, hopeless=status in _HOPELESS)


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait: ``retry-after-ms``, or ``Retry-After`` as seconds or as a date."""
    for name, unit in (("retry-after-ms", 1e-3), ("Retry-After", 1.0)):
        said = headers.get(name)
        if said is None:
            continue
        try:
            return max(0.0, float(said) * unit)
        except ValueError:
            moment = email.utils.parsedate_tz(said)
            if moment is not None:
                return max(0.0, email.utils.mktime_tz(moment) - time.time())
    return None


class _SaidBefore(Exception):
    """An answer came that was given before, to another question; ``answer`` is its hash."""

    def __init__(self, answer: int) -> None:
        super().__init__()
        self.answer = answer


class _Id(msgspec.Struct, gc=False):
    id: str | None = None


class _Answers:
    """The latest answers by the id that the endpoint gave them.

    A broken proxy may send an answer twice; the second copy is then read as the answer to the next question on that
    connection. An endpoint that gives an id to two different answers, or the same answer when it is asked once more,
    says nothing by its ids, and is not watched any longer.
    """

    def __init__(self) -> None:
        self.known: dict[str, int] | None = {}

    def hold(self, raw: bytes) -> bool:
        """Whether this very answer came before."""
        if self.known is None:
            return False
        try:
            name = _id.decode(raw).id
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return False
        if not name:
            return False
        if name not in self.known:
            self.known[name] = hash(raw)
            if len(self.known) > REMEMBERED:
                del self.known[next(iter(self.known))]
            return False
        if self.known[name] == hash(raw):
            return True
        self.known = None
        return False


_id = msgspec.json.Decoder(_Id)


class _Said(msgspec.Struct, gc=False):
    content: str | list[dict[str, Any]] | None = None
    refusal: str | None = None


class _Top(msgspec.Struct, gc=False):
    token: str
    logprob: float


class _Position(msgspec.Struct, gc=False):
    token: str
    logprob: float
    top_logprobs: list[_Top] = []


class _Logprobs(msgspec.Struct, gc=False):
    content: list[_Position] | None = None


class _Choice(msgspec.Struct, gc=False):
    message: _Said
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Cached(msgspec.Struct, gc=False):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: _Cached | None = None


class _Completion(msgspec.Struct, gc=False):
    choices: list[_Choice]
    usage: _Usage | None = None


_completion = msgspec.json.Decoder(_Completion)


def read_completion(raw: bytes) -> Reply:
    """The reply in the body of an answer.

    Raises:
        CallFailed: it holds none.
    """
    try:
        answer = _completion.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        kind = "HTML" if raw.lstrip()[:1] == b"<" else "empty body" if not raw.strip() else "unreadable body"
        raise CallFailed(f"{kind} in place of an answer", again=True, maybe_paid=True) from None
    if not answer.choices:
        raise CallFailed("an answer without choices", again=True, maybe_paid=True)
    choice, usage = answer.choices[0], answer.usage
    positions = choice.logprobs.content if choice.logprobs else None
    return Reply(
        text=_text(choice.message),
        finish=choice.finish_reason,
        usage=None
        if usage is None
        else Usage(
            prompt=usage.prompt_tokens,
            completion=usage.completion_tokens,
            cached=(usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens) or 0,
        ),
        tokens=None
        if positions is None
        else tuple(
            Token(at.token, at.logprob, tuple((one.token, one.logprob) for one in at.top_logprobs)) for at in positions
        ),
    )


def _text(said: _Said) -> str:
    if isinstance(said.content, list):
        return "".join(str(part.get("text", "")) for part in said.content)
    return said.content or said.refusal or ""


def _message(raw: bytes) -> str:
    """The words of a refusal, of whichever shape, in one line."""
    try:
        found: Any = msgspec.json.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        found = "" if raw.lstrip()[:1] == b"<" else raw[:2000].decode(errors="replace")
    for name in ("error", "message", "detail"):
        if isinstance(found, dict) and name in found:
            inner = found[name]
            if name == "error" and isinstance(inner, dict):
                code = inner.get("code") or inner.get("type")
                words = str(inner.get("message") or "")
                found = f"{words} ({code})" if code and str(code) not in words else words
            else:
                found = inner
    return " ".join((found if isinstance(found, str) else msgspec.json.encode(found).decode()).split())
