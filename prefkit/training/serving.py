"""A reward model over HTTP, with the requests and answers of vLLM's servers, so that their clients find what they know.

    POST /classify, /pooling             {"messages": [..., the response]} or {"input": text or texts}: whole texts
    POST /score, /v1/score               {"queries"|"text_1"|"data_1", "documents"|"items"|"text_2"|"data_2"}
    POST /rerank, /v1/rerank, /v2/rerank {"query", "documents", "top_n"}: the best first
    POST /v1/rewards                     {"messages" or "prompt", "responses", "normalised"}: ours; a prompt read once
    POST /get_reward                     {"query": texts}: as OpenRLHF asks a remote reward model
    GET  /v1/models, /health

Rewards are never squashed, whatever ``use_activation`` says: vLLM does the same with the models that prefkit saves.
While the model computes, requests wait; what waits is then read together, responses to one prompt as one group,
whoever sent them. A request that the model refuses fails alone; one whose client has gone is not read. Nothing of a
text is logged.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import ipaddress
import signal
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
from aiohttp import web

from prefkit.errors import PrefkitError
from prefkit.records import Message
from prefkit.training.groups import Group, Rewards, subset
from prefkit.training.reward_info import template_digest
from prefkit.training.reward_model import RewardModel

LARGEST_BODY = 32 << 20
TOGETHER = 256
"""Responses that are read together at most."""
WAITING = 16_384
"""Responses that may wait; then clients are told to come back."""
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


class Refused(Exception):
    """A request that is not answered.

    Args:
        status: of HTTP.
        message: why, for the client.
    """

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(message)


@dataclass(eq=False)
class _Asked:
    """One thing to score, and who waits for it: a group, or whole texts where ``group`` is None."""

    group: Group | None
    texts: tuple[str, ...]
    answer: asyncio.Future[tuple[Rewards, int]] = field(repr=False)

    @property
    def size(self) -> int:
        return len(self.texts)


class Desk:
    """Takes what is to be scored, and has the model read together what waits.

    Args:
        model: asked by one thread at a time.
    """

    def __init__(self, model: RewardModel) -> None:
        self._model = model
        self._waiting: deque[_Asked] = deque()
        self._size = 0
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "reward-model")
        self._closing = False

    async def ask(self, group: Group) -> tuple[Rewards, int]:
        """The rewards of a group's responses, and the tokens read."""
        return await self._wait(_Asked(group, group.texts, asyncio.get_running_loop().create_future()))

    async def ask_texts(self, texts: Sequence[str]) -> tuple[Rewards, int]:
        """The rewards of whole texts, and the tokens read."""
        return await self._wait(_Asked(None, tuple(texts), asyncio.get_running_loop().create_future()))

    async def _wait(self, asked: _Asked) -> tuple[Rewards, int]:
        if self._closing:
            raise Refused(503, "The server is stopping.")
        if self._waiting and self._size + asked.size > WAITING:
            raise Refused(503, f"More than {WAITING:,} responses wait already: ask again later.")
        self._waiting.append(asked)
        self._size += asked.size
        self._arrived.set()
        return await asked.answer

    async def work(self) -> None:
        """Answer until closed and nothing waits."""
        loop = asyncio.get_running_loop()
        while self._waiting or not self._closing:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
            batch = self._next()
            if not batch:
                continue
            found = await loop.run_in_executor(self._thread, self._answers, batch)
            for asked, answer in zip(batch, found, strict=True):
                if asked.answer.done():
                    continue
                if isinstance(answer, Exception):
                    asked.answer.set_exception(answer)
                else:
                    asked.answer.set_result(answer)
        self._thread.shutdown()

    def close(self) -> None:
        """Take nothing more."""
        self._closing = True
        self._arrived.set()

    def _next(self) -> list[_Asked]:
        """What is read together next; clients that are gone are forgotten."""
        batch: list[_Asked] = []
        size = 0
        while self._waiting and (not batch or size + self._waiting[0].size <= TOGETHER):
            asked = self._waiting.popleft()
            self._size -= asked.size
            if not asked.answer.done():
                batch.append(asked)
                size += asked.size
        return batch

    def _answers(self, batch: Sequence[_Asked]) -> list[tuple[Rewards, int] | Exception]:
        """For each its rewards; where the model refuses, each is asked alone to find out which it was."""
        try:
            return list(self._read(batch))
        except Exception as error:  # noqa: BLE001  a fault of one request, or of the model: neither ends the server
            if len(batch) == 1:
                return [error]
            return [answer for asked in batch for answer in self._answers([asked])]

    def _read(self, batch: Sequence[_Asked]) -> list[tuple[Rewards, int]]:
        whole = [text for asked in batch if asked.group is None for text in asked.texts]
        texts = iter(list(self._model.texts(whole)) if whole else [])
        groups = [asked.group for asked in batch if asked.group is not None]
        joined = _joined(groups)
        counted = dict(zip(joined, self._model.counted(list(joined.values())), strict=True))
        used: dict[tuple[Message, ...], int] = dict.fromkeys(joined, 0)
        found = []
        for asked in batch:
            if asked.group is None:
                rows = [next(texts) for _ in asked.texts]
                found.append((np.concatenate([row for row, _ in rows]), sum(tokens for _, tokens in rows)))
                continue
            messages = asked.group.messages
            rewards, tokens = counted[messages]
            start = used[messages]
            used[messages] += asked.size
            share = round(tokens * asked.size / len(rewards))
            found.append((rewards[start : start + asked.size], share))
        return found


def _joined(groups: Sequence[Group]) -> dict[tuple[Message, ...], Group]:
    """The groups of each prompt as one."""
    together: dict[tuple[Message, ...], list[str]] = {}
    for group in groups:
        together.setdefault(group.messages, []).extend(group.texts)
    return {
        messages: Group(
            prompt_id="the request",
            messages=messages,
            response_ids=tuple(map(str, range(len(texts)))),
            texts=tuple(texts),
            policies=("",) * len(texts),
        )
        for messages, texts in together.items()
    }


class _Body(msgspec.Struct, kw_only=True):
    """What the requests have in common; fields of theirs that change no reward are passed over."""

    model: str | None = None
    chat_template: str | None = None


class _Whole(_Body, kw_only=True):
    messages: list[Message] | None = None
    input: str | list[str] | None = None
    encoding_format: str = "float"


_Texts = str | list[str]


class _Score(_Body, kw_only=True):
    queries: _Texts | None = None
    text_1: _Texts | None = None
    data_1: _Texts | None = None
    documents: _Texts | None = None
    items: _Texts | None = None
    text_2: _Texts | None = None
    data_2: _Texts | None = None


class _Document(msgspec.Struct):
    text: str


class _Rerank(_Body, kw_only=True):
    query: str
    documents: list[str | _Document]
    top_n: int = 0


class _Rewards(_Body, kw_only=True):
    responses: list[str]
    messages: list[Message] | None = None
    prompt: str | None = None
    normalised: bool = False


class _GetReward(_Body, kw_only=True):
    query: _Texts


class Answers:
    """What each address answers.

    Args:
        model: the reward model.
        name: what clients call it.
        desk: where it is asked.
    """

    def __init__(self, model: RewardModel, name: str, desk: Desk) -> None:
        self._model = model
        self._name = name
        self._desk = desk
        self._labels = model.heads or ("reward",)

    def routes(self) -> list[web.RouteDef]:
        """The addresses."""
        posts: dict[str, Callable[[web.Request], Awaitable[Any]]] = {
            "/classify": self.classify,
            "/pooling": self.pooling,
            **dict.fromkeys(("/score", "/v1/score"), self.score),
            **dict.fromkeys(("/rerank", "/v1/rerank", "/v2/rerank"), self.rerank),
            "/v1/rewards": self.rewards,
            "/get_reward": self.get_reward,
        }
        return [
            *(web.post(path, _answering(function)) for path, function in posts.items()),
            web.get("/v1/models", _answering(self.models)),
            web.get("/health", self.health),
        ]

    async def health(self, request: web.Request) -> web.Response:
        """Whether it is there: an empty answer, as vLLM's."""
        return web.Response()

    async def models(self, request: web.Request) -> Any:
        """The one model."""
        info = self._model.info
        one = {"id": self._name, "object": "model", "created": 0, "owned_by": "prefkit", "root": info.base}
        return {"object": "list", "data": [one | {"heads": list(info.heads)}]}

    async def classify(self, request: web.Request) -> Any:
        """The model's outputs as vLLM's classes: ``probs`` holds rewards, as vLLM's does for such a model."""
        rewards, tokens = await self._whole(self._body(await request.read(), _Whole))
        data = [
            {
                "index": place,
                "label": self._labels[int(np.argmax(self._outputs(row)))],
                "probs": self._outputs(row),
                "num_classes": len(self._labels),
            }
            for place, row in enumerate(rewards)
        ]
        return self._list("classify", data, tokens)

    async def pooling(self, request: web.Request) -> Any:
        """The model's outputs as vLLM's pooled data, as numbers or base64 of 32-bit floats."""
        body = self._body(await request.read(), _Whole)
        if body.encoding_format not in ("float", "base64"):
            raise Refused(400, f"encoding_format is float or base64; got {body.encoding_format!r}")
        rewards, tokens = await self._whole(body)
        data = []
        for place, row in enumerate(rewards):
            outputs: Any = self._outputs(row)
            if body.encoding_format == "base64":
                outputs = base64.b64encode(np.asarray(outputs, "<f4").tobytes()).decode()
            data.append({"index": place, "object": "pooling", "data": outputs})
        return self._list("pool", data, tokens)

    async def score(self, request: web.Request) -> Any:
        """The reward of each document as a response to its query; one query goes with all documents."""
        body = self._body(await request.read(), _Score)
        queries = _one_of(body, "queries", "text_1", "data_1")
        documents = _one_of(body, "documents", "items", "text_2", "data_2")
        if len(queries) not in (1, len(documents)):
            raise Refused(400, f"{len(queries)} queries do not go with {len(documents)} documents")
        if len(queries) == 1:
            queries = queries * len(documents)
        prompts = [(_user(query),) for query in queries]
        rewards, tokens = await self._pairs(list(zip(prompts, documents, strict=True)))
        data = [{"index": place, "object": "score", "score": float(row[0])} for place, row in enumerate(rewards)]
        return self._list("score", data, tokens)

    async def rerank(self, request: web.Request) -> Any:
        """The documents as responses to the query, the best first."""
        body = self._body(await request.read(), _Rerank)
        texts = [one if isinstance(one, str) else one.text for one in body.documents]
        rewards, tokens = await self._pairs([((_user(body.query),), text) for text in texts])
        order = np.argsort(-rewards[:, 0], kind="stable").tolist()
        results = [
            {"index": place, "document": {"text": texts[place]}, "relevance_score": float(rewards[place, 0])}
            for place in order[: body.top_n or None]
        ]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return {"id": _name("rerank"), "model": self._name, "usage": usage, "results": results}

    async def rewards(self, request: web.Request) -> Any:
        """The rewards of several responses to a prompt, with those of each head."""
        body = self._body(await request.read(), _Rewards)
        if (body.messages is None) == (body.prompt is None):
            raise Refused(400, "one of messages and prompt is needed")
        messages = tuple(body.messages) if body.messages is not None else (_user(body.prompt or ""),)
        rewards, tokens = await self._pairs([(messages, text) for text in body.responses])
        shown = self._model.normalised(rewards) if body.normalised else rewards
        return {
            "id": _name("rewards"),
            "model": self._name,
            "rewards": [float(value) for value in shown[:, 0]],
            "heads": {head: rewards[:, 1 + place].tolist() for place, head in enumerate(self._model.heads)},
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }

    async def get_reward(self, request: web.Request) -> Any:
        """Rewards of whole texts, in the words of OpenRLHF."""
        body = self._body(await request.read(), _GetReward)
        texts = [body.query] if isinstance(body.query, str) else body.query
        rewards, _ = await self._desk.ask_texts(texts) if texts else (self._none(), 0)
        values = [float(value) for value in _known(rewards)[:, 0]]
        return {"rewards": values, "scores": values}

    def _outputs(self, row: Any) -> list[float]:
        return [float(value) for value in (row[1:] if self._model.heads else row[:1])]

    def _none(self) -> Rewards:
        return np.empty((0, 1 + len(self._model.heads)), np.float32)

    async def _whole(self, body: _Whole) -> tuple[Rewards, int]:
        """The rewards that a conversation, or whole texts, ask for."""
        if (body.messages is None) == (body.input is None):
            raise Refused(400, "one of messages and input is needed")
        if body.messages is not None:
            if len(body.messages) < 2 or body.messages[-1].role != "assistant":
                raise Refused(400, "messages must end with the assistant's response to what stands before it")
            return await self._pairs([(tuple(body.messages[:-1]), body.messages[-1].content)])
        texts = [body.input] if isinstance(body.input, str) else body.input or []
        rewards, tokens = await self._desk.ask_texts(texts) if texts else (self._none(), 0)
        return _known(rewards), tokens

    async def _pairs(self, pairs: Sequence[tuple[tuple[Message, ...], str]]) -> tuple[Rewards, int]:
        """The rewards [n, 1 + heads] of n prompts with a response each, and the tokens read."""
        places: dict[tuple[Message, ...], list[int]] = {}
        for place, (messages, _) in enumerate(pairs):
            if not messages:
                raise Refused(400, "a prompt needs a turn")
            places.setdefault(messages, []).append(place)
        everyone = Group(
            prompt_id="the request",
            messages=(),
            response_ids=tuple(map(str, range(len(pairs)))),
            texts=tuple(text for _, text in pairs),
            policies=("",) * len(pairs),
        )
        asked = [replace(subset(everyone, mine), messages=messages) for messages, mine in places.items()]
        found = await asyncio.gather(*(self._desk.ask(group) for group in asked))
        rewards = np.empty((len(pairs), 1 + len(self._model.heads)), np.float32)
        for mine, (some, _) in zip(places.values(), found, strict=True):
            rewards[mine] = some
        return _known(rewards), sum(tokens for _, tokens in found)

    def _body(self, data: bytes, kind: type[Any]) -> Any:
        """A request's body, for this model and its template."""
        try:
            body = msgspec.json.decode(data, type=kind)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise Refused(400, str(error)) from None
        if body.model not in (None, "", self._name):
            raise Refused(404, f"The model `{body.model}` does not exist; this server has `{self._name}`.")
        if body.chat_template is not None and template_digest(body.chat_template) != self._model.info.template:
            raise Refused(400, "This model's rewards mean nothing under another chat template; send none.")
        return body

    def _list(self, kind: str, data: list[dict[str, Any]], tokens: int) -> dict[str, Any]:
        return {
            "id": _name(kind),
            "object": "list",
            "created": int(time.time()),
            "model": self._name,
            "data": data,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens, "completion_tokens": 0},
        }


def _user(text: str) -> Message:
    return Message(role="user", content=text)


def _name(kind: str) -> str:
    return f"{kind}-{uuid.uuid4().hex}"


def _known(rewards: Rewards) -> Rewards:
    if np.isnan(rewards).any():
        raise Refused(400, "a response is longer than the model can hold")
    return rewards


def _one_of(body: Any, *names: str) -> list[str]:
    """The texts under the one of several names that was used."""
    given = [value for name in names if (value := getattr(body, name)) is not None]
    if len(given) != 1:
        raise Refused(400, f"one of {', '.join(names)} is needed")
    return [given[0]] if isinstance(given[0], str) else given[0]


def _answering(function: Callable[[web.Request], Awaitable[Any]]) -> Callable[[web.Request], Awaitable[web.Response]]:
    """A handler whose result becomes JSON, and whose refusals become vLLM's errors."""

    async def handler(request: web.Request) -> web.Response:
        try:
            if request.method == "POST" and request.content_type != "application/json":
                raise Refused(415, "Content-Type must be application/json")
            answer = await function(request)
        except Refused as refused:
            return _error(refused.status, refused.message)
        except PrefkitError as error:
            return _error(400, f"found {error.found}; expected {error.expected}")
        except web.HTTPRequestEntityTooLarge:
            return _error(413, f"A request may have {LARGEST_BODY >> 20} MB.")
        except Exception as error:  # noqa: BLE001  the model's: too many kinds to name, and the server goes on
            return _error(500, f"The model failed: {type(error).__name__}")
        return web.Response(body=msgspec.json.encode(answer), content_type="application/json")

    return handler


_TYPES = {400: "BadRequestError", 401: "AuthenticationError", 404: "NotFoundError", 503: "ServiceUnavailableError"}


def _error(status: int, message: str) -> web.Response:
    error = {"message": message, "type": _TYPES.get(status, "Error"), "param": None, "code": status}
    headers = {"Retry-After": "1"} if status == 503 else {}
    body = msgspec.json.encode({"error": error})
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


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
            return _error(401, "Unauthorized")
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
        with _stopping() as stopped:
            host, port = served.addresses[0][:2]
            ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")
            await asyncio.wait([working, asyncio.create_task(stopped.wait())], return_when=asyncio.FIRST_COMPLETED)
    finally:
        await served.cleanup()
        desk.close()
        await working


@contextlib.contextmanager
def _stopping() -> Iterator[asyncio.Event]:
    """An event that Ctrl-C and SIGTERM set."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    taken = []
    with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # Windows, or not the main thread
        for one in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(one, stopped.set)
            taken.append(one)
    try:
        yield stopped
    finally:
        for one in taken:
            loop.remove_signal_handler(one)
