"""What each address of a reward server answers.

    POST /classify, /pooling             {"messages": [..., the response]} or {"input": text or texts}: whole texts
    POST /score, /v1/score               {"queries"|"text_1"|"data_1", "documents"|"items"|"text_2"|"data_2"}
    POST /rerank, /v1/rerank, /v2/rerank {"query", "documents", "top_n"}: the best first
    POST /v1/rewards                     {"messages" or "prompt", "responses", "normalised"}: ours; a prompt read once
    POST /get_reward                     {"query": texts}: as OpenRLHF asks a remote reward model
    GET  /v1/models, /health

Rewards are never squashed, whatever ``use_activation`` says: vLLM does the same with the models that prefkit saves.
Nothing of a text is logged.
"""

from __future__ import annotations

import asyncio
import base64
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
from aiohttp import web

from prefkit.errors import PrefkitError
from prefkit.records import Message
from prefkit.training.groups import Group, Rewards, subset
from prefkit.training.reward_info import template_digest
from prefkit.training.reward_model import RewardModel
from prefkit.training.serving.desk import Desk, Refused

LARGEST_BODY = 32 << 20


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
            return refusal(refused.status, refused.message)
        except PrefkitError as error:
            return refusal(400, f"found {error.found}; expected {error.expected}")
        except web.HTTPRequestEntityTooLarge:
            return refusal(413, f"A request may have {LARGEST_BODY >> 20} MB.")
        except Exception as error:  # noqa: BLE001  the model's: too many kinds to name, and the server goes on
            return refusal(500, f"The model failed: {type(error).__name__}")
        return web.Response(body=msgspec.json.encode(answer), content_type="application/json")

    return handler


_TYPES = {400: "BadRequestError", 401: "AuthenticationError", 404: "NotFoundError", 503: "ServiceUnavailableError"}


def refusal(status: int, message: str) -> web.Response:
    """An error as vLLM writes it."""
    error = {"message": message, "type": _TYPES.get(status, "Error"), "param": None, "code": status}
    headers = {"Retry-After": "1"} if status == 503 else {}
    body = msgspec.json.encode({"error": error})
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)
