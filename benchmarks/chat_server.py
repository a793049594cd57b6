"""A chat completions server as a process of its own, for proofs and tests: quick, countable, faulty when told to be.

    python -m benchmarks.chat_server --port 0 --latency 0.05 --faults '{"shares": {"500": 0.1}}'

It prints ``{"port": ...}`` when it listens and stops on SIGTERM. ``running`` starts it from Python.

    POST /v1/chat/completions         an object that fits the JSON schema asked for, by a digest of the messages: the
                                      same question gets the same answer
    POST /v1/files, /v1/batches, ...  the vendor batch protocol, with files in memory
    POST /v1/embeddings               vectors of the words that a text holds: texts that share words are near
    GET  /v1/models                   the one model
    GET  /counts                      what was asked so far
    GET  /questions?last=N            the messages of the last chat requests, 256 at most
    POST /reset, /faults              forget the counts; other faults from now on

A question is known by its messages up to the first turn of the assistant: a request to repair an answer counts as one
more attempt at the same question. A ``Faults`` says which attempts fail, and how; of embeddings those fail that fail
with a status.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import hashlib
import itertools
import json
import math
import random
import re
import resource
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from bisect import bisect
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, cast, get_args

import msgspec

Fault = Literal[
    "429",  # too many requests
    "429-retry-after",  # the same, with the seconds to wait
    "quota",  # 429 that no waiting mends
    "500",
    "503",
    "400",  # this question will never be answered
    "401",  # the message holds the key, as some vendors' do
    "404",
    "dropped",  # the connection closes before the answer
    "dropped-in-body",  # it closes in the middle of the answer
    "hung",  # nothing comes, for ever
    "cut",  # half of the JSON, under its true length
    "html",  # a page of a proxy, with status 200
    "no-choices",  # JSON of another shape
    "prose",  # text that is not what the schema asks for
    "out-of-range",  # every score and verdict outside of its scale
    "empty",  # an answer without text
    "twice",  # the whole answer twice in one packet
    "twice-late",  # the second copy comes a moment later, when the client may have asked the next question
]
FAULTS: tuple[Fault, ...] = get_args(Fault)


class Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which requests fail.

    ``shares`` of requests fail in each way; which ones depends on ``seed``, the question and the attempt alone.
    ``questions`` is the share of questions that may fail at all, ``attempts`` how many of a question's first attempts
    may, None for all.
    """

    shares: dict[Fault, float] = {}
    questions: float = 1.0
    attempts: int | None = None
    seed: int = 0
    retry_after: float = 1.0

    def of(self, question: bytes, attempt: int) -> Fault | None:
        """How an attempt at a question, counted from 1, fails; None where it does not."""
        if not self.shares or (self.attempts is not None and attempt > self.attempts):
            return None
        if _uniform(question, self.seed) >= self.questions:
            return None
        bounds = list(accumulate(self.shares.values()))
        place = bisect(bounds, _uniform(question, self.seed, attempt))
        return list(self.shares)[place] if place < len(bounds) else None


def _uniform(question: bytes, *parts: int) -> float:
    drawn = hashlib.blake2b(question + repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(drawn) / 2**64


@dataclass(frozen=True)
class Settings:
    """How the server behaves; times in seconds.

    ``most`` requests may be in flight, more get 429. A batch is done ``batch_seconds`` after it was made;
    ``batch_failed`` is the share of its rows that fail, ``batch_prose`` the share of questions whose first answer is
    not what the schema asks for, ``batch_undone`` the share not reached when it expires (None: it does not expire).
    """

    latency: float = 0.0
    jitter: float = 0.0
    most: int | None = None
    key: str | None = None
    no_schema: bool = False
    no_embeddings: bool = False
    batch_seconds: float = 1.0
    batch_failed: float = 0.0
    batch_prose: float = 0.0
    batch_undone: float | None = None


# What is asked


class ChatBody(msgspec.Struct, frozen=True):
    """The parts of a request that matter here; messages and schema stay as they were written."""

    messages: msgspec.Raw
    model: str = "fake"
    response_format: msgspec.Raw = msgspec.Raw(b"null")
    logprobs: bool | None = None
    top_logprobs: int | None = None


class BatchRow(msgspec.Struct, frozen=True):
    """A row of a batch's input file."""

    custom_id: str
    method: Literal["POST"]
    url: Literal["/v1/chat/completions"]
    body: msgspec.Raw


class EmbeddingBody(msgspec.Struct, frozen=True):
    """The parts of a request for embeddings that matter here."""

    input: str | list[str]
    model: str = "fake"


_embedding_body = msgspec.json.Decoder(EmbeddingBody)
_chat_body = msgspec.json.Decoder(ChatBody)
_batch_row = msgspec.json.Decoder(BatchRow)
_assistant = re.compile(rb'\{\s*"role"\s*:\s*"assistant"')


def question_of(messages: bytes) -> bytes:
    """The digest of a question: of its messages, as their JSON was written, up to the first turn of the assistant."""
    turn = _assistant.search(messages)
    shown = messages[: turn.start()] if turn else messages
    return hashlib.blake2b(shown.rstrip(b", \n]"), digest_size=16).digest()


# What is answered


class Draw:
    """Numbers that a question's digest decides."""

    def __init__(self, question: bytes) -> None:
        self._state = int.from_bytes(question[:8])

    def below(self, n: int) -> int:
        """A number from 0 to ``n`` - 1."""
        self._state = (self._state * 6364136223846793005 + 1442695040888963407) & 0xFFFFFFFFFFFFFFFF
        return (self._state >> 33) % n


def fitting(schema: Mapping[str, Any], question: bytes, *, outside: bool = False) -> Any:
    """A value that fits a JSON schema; ``outside`` gives scores and choices that are beyond what it allows."""
    draw = Draw(question)
    definitions = schema.get("$defs", {})

    def value(part: Mapping[str, Any]) -> Any:
        if "$ref" in part:
            return value(definitions[part["$ref"].rpartition("/")[2]])
        for either in ("anyOf", "oneOf"):
            if either in part:
                return value(part[either][0])
        if "const" in part:
            return part["const"]
        if "enum" in part:
            choices = [choice for choice in part["enum"] if choice is not None]
            chosen = choices[draw.below(len(choices))]
            return ("neither" if isinstance(chosen, str) else 99) if outside else chosen
        kind = part.get("type", "object")
        kind = next((each for each in kind if each != "null"), "null") if isinstance(kind, list) else kind
        match kind:
            case "object":
                return {name: value(of) for name, of in part.get("properties", {}).items()}
            case "array":
                return [value(part.get("items", {"type": "string"})) for _ in range(part.get("minItems", 1))]
            case "integer" | "number":
                low, high = int(part.get("minimum", 1)), int(part.get("maximum", 5))
                return 99 if outside else low + draw.below(high - low + 1)
            case "boolean":
                return bool(draw.below(2))
            case "null":
                return None
        return f"It reads as {question.hex()[:12]}, plain and to the point."

    return value(schema)


@functools.lru_cache
def _schema_of(response_format: bytes) -> Mapping[str, Any] | None:
    """The schema in a ``response_format``, None where it holds none."""
    found = msgspec.json.decode(response_format)
    return found["json_schema"]["schema"] if found and found.get("type") == "json_schema" else None


_token = re.compile(r"\d+|[^\W\d]+|\W")


def logprobs_of(text: str, top: int, question: bytes) -> dict[str, Any]:
    """Log-probabilities as vendors write them: a digit is likely (0.7) and shares the rest with its neighbours, any
    other token is sure."""
    draw = Draw(question)
    tokens = []
    for token in _token.findall(text):
        other = [str(score) for score in range(1, 6) if str(score) != token] if token.isdigit() and top else []
        chances = [(token, 0.7 if other else 1.0)] + [(each, (1 + draw.below(9)) / 150) for each in other]
        likeliest = [_priced(each, chance) for each, chance in sorted(chances, key=lambda pair: -pair[1])]
        tokens.append(_priced(*chances[0]) | {"top_logprobs": likeliest[:top]})
    return {"content": tokens, "refusal": None}


def _priced(token: str, chance: float) -> dict[str, Any]:
    return {"token": token, "logprob": math.log(chance), "bytes": list(token.encode())}


WIDTH = 64
"""Numbers in an embedding."""
_word = re.compile(r"\w+")


def embedding_of(text: str) -> list[float]:
    """How often the words of a text hash to each of the places."""
    counted = [0.0] * WIDTH
    for word in _word.findall(text.lower()):
        counted[hashlib.blake2b(word.encode(), digest_size=8).digest()[0] % WIDTH] += 1.0
    return counted


def embeddings(asked: EmbeddingBody) -> bytes:
    """The embeddings of all texts of a request, the last one first, for their order is theirs to say."""
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    data = [
        {"object": "embedding", "index": number, "embedding": embedding_of(text)} for number, text in enumerate(texts)
    ]
    tokens = sum(map(len, texts)) // 4
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return msgspec.json.encode({"object": "list", "data": data[::-1], "model": asked.model, "usage": usage})


class Answers:
    """Makes completions. A schema that was refused is remembered: the model then writes the same object unasked, in a
    fence with prose around, as models do."""

    def __init__(self) -> None:
        self.refused: Mapping[str, Any] | None = None
        self._serial = 0

    def text(self, asked: ChatBody, question: bytes, fault: Fault | None = None) -> str:
        """What the model writes."""
        if fault == "empty":
            return ""
        schema = _schema_of(bytes(asked.response_format))
        if fault == "prose" or not (schema or self.refused):
            return f"I would rather say it in words: it reads as {question.hex()[:12]}, warm and to the point."
        found = fitting(schema or self.refused or {}, question, outside=fault == "out-of-range")
        written = msgspec.json.encode(found).decode()
        return written if schema else f"Here is what I think.\n\n```json\n{written}\n```\nI hope that it helps."

    def completion(self, asked: ChatBody, question: bytes, size: int, fault: Fault | None = None) -> bytes:
        """The whole answer; ``size`` is the length of the request in bytes, for the usage."""
        text = self.text(asked, question, fault)
        self._serial += 1
        prompt, completion = size // 4, len(text) // 4
        choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        if asked.logprobs:
            choice["logprobs"] = logprobs_of(text, asked.top_logprobs or 0, question)
        usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        whole = {
            "id": f"chatcmpl-{self._serial:024x}",
            "object": "chat.completion",
            "created": 1_795_000_000,
            "model": asked.model,
            "choices": [choice],
            "usage": usage,
        }
        return msgspec.json.encode(whole)


def error_body(message: str, kind: str, code: str | None = None) -> bytes:
    """An error as vendors write it."""
    return msgspec.json.encode({"error": {"message": message, "type": kind, "param": None, "code": code}})


# What was asked


@dataclass
class Counts:
    """What happened since the start or the last reset. Times are seconds since 1970.

    ``abandoned`` requests had no answer yet when their connection closed; ``left`` connections closed within a second
    of an answer, with no other request in between: the client may not have read it.
    """

    requests: int = 0
    questions: dict[bytes, int] = field(default_factory=dict)
    """Attempts at each question."""
    answered: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    peak_in_flight: int = 0
    abandoned: int = 0
    left: int = 0
    refused: int = 0
    bytes_received: int = 0
    batch_rows: int = 0
    embedding_requests: int = 0
    embedded: int = 0
    """Texts whose embedding was answered."""
    inputs: Counter[bytes] = field(default_factory=Counter)
    """Attempts at each request for embeddings."""
    connections: int = 0
    first_request_at: float | None = None
    last_answer_at: float | None = None

    def attempt(self, question: bytes) -> int:
        """Count an attempt at a question; the number of it."""
        self.questions[question] = attempt = self.questions.get(question, 0) + 1
        return attempt

    def summary(self) -> dict[str, Any]:
        """The counts as JSON can hold them."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        attempts = Counter(self.questions.values())
        own = {name: value for name, value in vars(self).items() if name not in ("questions", "faults", "inputs")}
        return own | {
            "distinct": len(self.questions),
            "attempts": {str(number): attempts[number] for number in sorted(attempts)},
            "faults": dict(self.faults),
            "server_cpu_seconds": usage.ru_utime + usage.ru_stime,
        }


# Batches


class Batches:
    """The vendor batch protocol. What a batch's state is follows from its age alone."""

    def __init__(self, settings: Settings, answers: Answers, counts: Counts) -> None:
        self.settings = settings
        self.answers = answers
        self.counts = counts
        self.files: dict[str, tuple[str, bytes]] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.cancelled: dict[str, float] = {}
        self.made: dict[str, float] = {}
        self.numbers = itertools.count(1)

    def handle(self, method: str, path: str, query: dict[str, str], head: bytes, body: bytes) -> tuple[int, bytes]:
        """Answer a request under /v1/files or /v1/batches with a status and a body."""
        try:
            match method, *path.strip("/").split("/")[1:]:
                case "POST", "files":
                    return self._upload(head, body)
                case "GET", "files", name:
                    return 200, msgspec.json.encode(self._file(name))
                case "GET", "files", name, "content":
                    return 200, self.files[name][1]
                case "DELETE", "files", name:
                    del self.files[name]
                    return 200, msgspec.json.encode({"id": name, "object": "file", "deleted": True})
                case "POST", "batches":
                    return self._create(msgspec.json.decode(body))
                case "GET", "batches":
                    return 200, msgspec.json.encode(self._listed(query))
                case "GET", "batches", name:
                    return 200, msgspec.json.encode(self._now(name))
                case "POST", "batches", name, "cancel":
                    self.cancelled.setdefault(self.batches[name]["id"], time.time())
                    return 200, msgspec.json.encode(self._now(name))
        except KeyError as error:
            return 404, error_body(f"No such object: {error}", "invalid_request_error")
        return 404, error_body(f"Unknown request: {method} {path}", "invalid_request_error")

    def _upload(self, head: bytes, body: bytes) -> tuple[int, bytes]:
        boundary = re.search(rb'boundary="?([^";\r\n]+)', head)
        if boundary is None:
            return 400, error_body("The request is not multipart/form-data.", "invalid_request_error")
        fields: dict[str, tuple[str, bytes]] = {}
        for part in body.split(b"--" + boundary[1])[1:-1]:
            about, _, content = part.partition(b"\r\n\r\n")
            field_name, file_name = re.search(rb'[ ;]name="([^"]*)"', about), re.search(rb'filename="([^"]*)"', about)
            if field_name:
                name = file_name[1].decode() if file_name else ""
                fields[field_name[1].decode()] = (name, content.removesuffix(b"\r\n"))
        if fields.get("purpose", ("", b""))[1] != b"batch" or "file" not in fields:
            return 400, error_body("A file and the purpose 'batch' are needed.", "invalid_request_error")
        return 200, msgspec.json.encode(self._file(self._keep(*fields["file"])))

    def _keep(self, name: str, content: bytes) -> str:
        key = f"file-{next(self.numbers):06}"
        self.files[key] = (name, content)
        return key

    def _file(self, key: str) -> dict[str, Any]:
        name, content = self.files[key]
        about = {"id": key, "object": "file", "bytes": len(content), "created_at": int(time.time())}
        return about | {"filename": name, "purpose": "batch", "status": "processed"}

    def _create(self, wanted: dict[str, Any]) -> tuple[int, bytes]:
        if wanted.get("completion_window") != "24h" or wanted.get("endpoint") != "/v1/chat/completions":
            return 400, error_body("Only /v1/chat/completions within 24h is served.", "invalid_request_error")
        rows = self.files[wanted["input_file_id"]][1].splitlines()
        now = time.time()
        key = f"batch_{len(self.batches) + 1:06}"
        moments = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
        self.made[key] = now
        self.batches[key] = {
            "id": key,
            "object": "batch",
            "endpoint": wanted["endpoint"],
            "errors": _faulty_input(rows),
            "input_file_id": wanted["input_file_id"],
            "completion_window": "24h",
            "status": "validating",
            "output_file_id": None,
            "error_file_id": None,
            "created_at": int(now),
            "expires_at": int(now) + 86_400,
            **{f"{moment}_at": None for moment in moments},
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
            "metadata": wanted.get("metadata"),
        }
        return 200, msgspec.json.encode(self.batches[key])

    def _listed(self, query: dict[str, str]) -> dict[str, Any]:
        keys = list(reversed(self.batches))
        if after := query.get("after"):
            keys = keys[keys.index(after) + 1 :] if after in keys else []
        page = [self._now(key) for key in keys[: int(query.get("limit", 20))]]
        ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
        return {"object": "list", "data": page, "has_more": len(page) < len(keys), **ends}

    def _now(self, key: str) -> dict[str, Any]:
        """A batch brought up to date."""
        batch, whole = self.batches[key], self.settings.batch_seconds
        if batch["status"] in ("completed", "failed", "expired", "cancelled"):
            return batch
        age = (time.time() - self.made[key]) / whole if whole else 1.0
        if batch["errors"]:
            self._enter(batch, "failed")
        elif key in self.cancelled:
            self._enter(batch, "cancelling")
            if time.time() - self.cancelled[key] > whole / 10:
                self._finish(batch, "cancelled", min((self.cancelled[key] - self.made[key]) / whole, 1.0))
        elif age >= 1 and self.settings.batch_undone is not None:
            self._finish(batch, "expired", 1 - self.settings.batch_undone)
        else:
            for status, begins in (("in_progress", 0.1), ("finalizing", 0.9)):  # also where nobody looked at the time
                if age >= begins:
                    self._enter(batch, status)
            if age >= 1:
                self._finish(batch, "completed", 1.0)
        return batch

    def _enter(self, batch: dict[str, Any], status: str) -> None:
        batch["status"] = status
        batch[f"{status}_at"] = batch[f"{status}_at"] or int(time.time())
        if status != "failed":
            batch["request_counts"]["total"] = len(self.files[batch["input_file_id"]][1].splitlines())

    def _finish(self, batch: dict[str, Any], status: str, share: float) -> None:
        """Write a batch's files, with answers for the first ``share`` of its rows, in another order than asked."""
        self._enter(batch, status)
        rows = self.files[batch["input_file_id"]][1].splitlines()
        reached = round(len(rows) * share)
        done: list[bytes] = []
        failed: list[bytes] = []
        for number, row in enumerate(rows):
            line, good = self._row(row, number, status if number >= reached else None)
            (done if good else failed).append(msgspec.json.encode(line) + b"\n")
        if done:
            batch["output_file_id"] = self._keep(f"{batch['id']}_output.jsonl", b"".join(reversed(done)))
        if failed:
            batch["error_file_id"] = self._keep(f"{batch['id']}_error.jsonl", b"".join(reversed(failed)))
        batch["request_counts"] = {"total": len(rows), "completed": len(done), "failed": len(failed)}

    def _row(self, row: bytes, number: int, ended: str | None) -> tuple[dict[str, Any], bool]:
        wanted = _batch_row.decode(row)
        line = {"id": f"batch_req_{number:06}", "custom_id": wanted.custom_id, "response": None, "error": None}
        if ended:
            message = f"This request was not executed before the batch was {ended}."
            return line | {"error": {"code": f"batch_{ended}", "message": message}}, False
        asked = _chat_body.decode(wanted.body)
        question = question_of(bytes(asked.messages))
        first = self.counts.attempt(question) == 1
        self.counts.batch_rows += 1
        response: dict[str, Any] = {"status_code": 200, "request_id": f"req_{number:06}"}
        if _uniform(question, number) < self.settings.batch_failed:
            response |= {"status_code": 500, "body": msgspec.Raw(error_body("It broke.", "server_error"))}
            return line | {"response": response}, False
        prose: Fault | None = "prose" if first and _uniform(question, -1) < self.settings.batch_prose else None
        answer = self.answers.completion(asked, question, len(bytes(wanted.body)), prose)
        return line | {"response": response | {"body": msgspec.Raw(answer)}}, True


def _faulty_input(rows: list[bytes]) -> dict[str, Any] | None:
    """What is wrong with the rows of a batch, as vendors say it; None where they are well."""
    wrong, seen = [], set[str]()
    for number, row in enumerate(rows, 1):
        code = None
        try:
            wanted = _batch_row.decode(row)
            _chat_body.decode(wanted.body)
            code = "duplicate_custom_id" if wanted.custom_id in seen else None
            seen.add(wanted.custom_id)
        except msgspec.ValidationError:
            code = "invalid_request"
        except msgspec.DecodeError:
            code = "invalid_json_line"
        if code:
            wrong.append({"code": code, "line": number, "message": f"Line {number} is not right.", "param": None})
    if len(rows) > 50_000 or not rows:
        wrong.append({"code": "invalid_number_of_rows", "line": None, "message": "1 to 50,000 rows.", "param": None})
    return {"object": "list", "data": wrong} if wrong else None


# The protocol

_PHRASES = {200: b"OK", 400: b"Bad Request", 401: b"Unauthorized", 404: b"Not Found", 429: b"Too Many Requests"}
_PHRASES |= {500: b"Internal Server Error", 501: b"Not Implemented", 503: b"Service Unavailable"}
_ERRORS: dict[str, tuple[int, bytes]] = {
    "429": (429, error_body("Rate limit reached.", "requests", "rate_limit_exceeded")),
    "429-retry-after": (429, error_body("Rate limit reached.", "requests", "rate_limit_exceeded")),
    "quota": (429, error_body("You exceeded your current quota.", "insufficient_quota", "insufficient_quota")),
    "500": (500, error_body("The server had an error.", "server_error")),
    "503": (503, error_body("The engine is overloaded.", "server_error")),
    "400": (400, error_body("This cannot be answered.", "invalid_request_error", "content_policy_violation")),
    "404": (404, error_body("The model does not exist.", "invalid_request_error", "model_not_found")),
}
_PAGE = b"<html><head><title>Sign in</title></head><body><h1>Please sign in to the network</h1></body></html>"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_KEY = re.compile(rb"\r\nauthorization: *bearer +([^\r]*)", re.IGNORECASE)
_CONTINUE = re.compile(rb"\r\nexpect: *100-continue", re.IGNORECASE)


def http(status: int, body: bytes, kind: bytes = b"application/json", more: bytes = b"") -> bytes:
    """A whole HTTP response."""
    head = b"HTTP/1.1 %d %b\r\nContent-Type: %b\r\nContent-Length: %d\r\n%b\r\n"
    return head % (status, _PHRASES[status], kind, len(body), more) + body


class ChatServer:
    """The state that all connections share."""

    def __init__(self, settings: Settings, faults: Faults) -> None:
        self.settings = settings
        self.faults = faults
        self.answers = Answers()
        self.counts = Counts()
        self.batches = Batches(settings, self.answers, self.counts)
        self.last: deque[bytes] = deque(maxlen=256)
        self.loop = asyncio.get_running_loop()
        self.jitter = random.Random(0)

    def handle(self, connection: Connection, head: bytes, body: bytes) -> None:
        """Answer a request, now or after the latency."""
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ", 2)
        if target == "/v1/chat/completions":
            return self.chat(connection, head, body)
        path, _, query = target.partition("?")
        status, found = self.other(method, path, dict(urllib.parse.parse_qsl(query)), head, body)
        connection.transport.write(http(status, found))

    def other(self, method: str, path: str, query: dict[str, str], head: bytes, body: bytes) -> tuple[int, bytes]:
        """Status and body for what is no chat."""
        if path.startswith(("/v1/files", "/v1/batches")):
            return self.batches.handle(method, path, query, head, body)
        match method, path:
            case "POST", "/v1/embeddings":
                return self.embed(head, body)
            case "GET", "/questions":
                last = list(self.last)[-int(query.get("last", 1)) :]
                return 200, b"[%b]" % b",".join(last)
            case "GET", "/counts":
                return 200, msgspec.json.encode(self.counts.summary())
            case "GET", "/v1/models":
                model = {"id": "fake", "object": "model", "created": 0, "owned_by": "benchmarks"}
                return 200, msgspec.json.encode({"object": "list", "data": [model]})
            case "POST", "/reset":
                self.counts = Counts(connections=self.counts.connections, in_flight=self.counts.in_flight)
                self.batches.counts = self.counts
                self.last.clear()
                return 200, b"{}"
            case "POST", "/faults":
                self.faults = msgspec.json.decode(body, type=Faults)
                return 200, b"{}"
        return 404, error_body(f"Unknown request: {method} {path}", "invalid_request_error")

    def embed(self, head: bytes, body: bytes) -> tuple[int, bytes]:
        """Answer a request for embeddings."""
        counts = self.counts
        counts.embedding_requests += 1
        if not self.allowed(head):
            return 401, error_body("Incorrect API key.", "invalid_request_error")
        if self.settings.no_embeddings:
            return 501, error_body("This server does not support embeddings.", "not_supported_error")
        try:
            asked = _embedding_body.decode(body)
        except msgspec.DecodeError as error:
            return 400, error_body(str(error), "invalid_request_error")
        question = hashlib.blake2b(body, digest_size=16).digest()
        counts.inputs[question] += 1
        fault = self.faults.of(question, counts.inputs[question])
        if fault in _ERRORS:
            counts.faults[fault] += 1
            return _ERRORS[fault]
        counts.embedded += 1 if isinstance(asked.input, str) else len(asked.input)
        return 200, embeddings(asked)

    def allowed(self, head: bytes) -> bool:
        """Whether a request holds the key, if one is asked for."""
        key = _KEY.search(head)
        return self.settings.key is None or (key is not None and key[1].decode() == self.settings.key)

    def chat(self, connection: Connection, head: bytes, body: bytes) -> None:
        """Take a chat request and plan its answer."""
        counts, settings = self.counts, self.settings
        counts.requests += 1
        counts.bytes_received += len(head) + len(body)
        if counts.first_request_at is None:
            counts.first_request_at = time.time()
        if settings.most is not None and counts.in_flight >= settings.most:
            counts.refused += 1
            return connection.transport.write(http(*_ERRORS["429"]))
        if not self.allowed(head):
            counts.refused += 1
            return connection.transport.write(http(401, error_body("Incorrect API key.", "invalid_request_error")))
        try:
            asked = _chat_body.decode(body)
        except msgspec.DecodeError as error:
            counts.refused += 1
            return connection.transport.write(http(400, error_body(str(error), "invalid_request_error")))
        if settings.no_schema and (schema := _schema_of(bytes(asked.response_format))):
            counts.refused += 1
            self.answers.refused = schema
            message = "response_format: this model does not support json_schema"
            return connection.transport.write(http(400, error_body(message, "invalid_request_error")))
        self.last.append(bytes(asked.messages))
        question = question_of(bytes(asked.messages))
        fault = self.faults.of(question, counts.attempt(question))
        counts.in_flight += 1
        counts.peak_in_flight = max(counts.peak_in_flight, counts.in_flight)
        connection.pending += 1
        delay = settings.latency + (self.jitter.random() * settings.jitter if settings.jitter else 0.0)
        if fault:
            counts.faults[fault] += 1
        if fault != "hung":
            self.loop.call_later(delay, self.answer, connection, asked, question, len(body), fault, head)

    def answer(
        self, connection: Connection, asked: ChatBody, question: bytes, size: int, fault: Fault | None, head: bytes
    ) -> None:
        """Write the answer to a request, or what a fault makes of it."""
        if connection.closed:
            return
        connection.pending -= 1
        self.counts.in_flight -= 1
        self.counts.last_answer_at = connection.answered_at = time.time()
        if fault is None:
            self.counts.answered += 1
            return connection.transport.write(http(200, self.answers.completion(asked, question, size)))
        good = http(200, self.answers.completion(asked, question, size, fault))
        write, transport = connection.transport.write, connection.transport
        match fault:
            case "401":
                key = _KEY.search(head)
                message = f"Incorrect API key provided: {key[1].decode() if key else ''}."
                write(http(401, error_body(message, "invalid_request_error", "invalid_api_key")))
            case "429-retry-after":
                write(http(*_ERRORS[fault], more=b"Retry-After: %g\r\n" % self.faults.retry_after))
            case "dropped":
                transport.abort()
            case "dropped-in-body":
                write(good[: len(good) * 2 // 3])
                transport.close()
            case "cut":
                body = good.partition(b"\r\n\r\n")[2]
                write(http(200, body[: len(body) // 2]))
            case "html":
                write(http(200, _PAGE, b"text/html"))
            case "no-choices":
                write(http(200, b'{"object":"chat.completion","status":"done"}'))
            case "prose" | "out-of-range" | "empty":
                write(good)
            case "twice":
                write(good + good)
            case "twice-late":
                write(good)
                self.loop.call_later(0.002, connection.late, good)
            case _:
                write(http(*_ERRORS[fault]))


class Connection(asyncio.Protocol):
    """One client's connection: HTTP/1.1 with keep-alive."""

    transport: asyncio.Transport

    def __init__(self, server: ChatServer) -> None:
        self.server = server
        self.buffer = bytearray()
        self.needed = 0
        self.pending = 0
        self.answered_at = 0.0
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self.transport = cast(asyncio.Transport, transport)
        self.server.counts.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        """Count what was not answered."""
        self.closed = True
        counts = self.server.counts
        counts.connections -= 1
        counts.in_flight -= self.pending
        counts.abandoned += self.pending
        counts.left += not self.pending and time.time() - self.answered_at < 1

    def late(self, answer: bytes) -> None:
        """Write an answer that nobody waits for."""
        if not self.closed:
            self.transport.write(answer)

    def data_received(self, data: bytes) -> None:
        """Hand on each whole request."""
        self.buffer += data
        while len(self.buffer) > self.needed and (found := self.request()):
            self.answered_at = 0.0
            self.server.handle(self, *found)

    def request(self) -> tuple[bytes, bytes] | None:
        """The first request of the buffer, taken out of it; None where it is not whole yet."""
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return None
        head = bytes(self.buffer[:end])
        if not self.needed and _CONTINUE.search(head):
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = _LENGTH.search(head)
        if length is None and _CHUNKED.search(head):
            return self.chunked(head, end + 4)
        stop = end + 4 + (int(length[1]) if length else 0)
        self.needed = 0 if len(self.buffer) >= stop else stop - 1
        if self.needed:
            return None
        body = bytes(self.buffer[end + 4 : stop])
        del self.buffer[:stop]
        return head, body

    def chunked(self, head: bytes, place: int) -> tuple[bytes, bytes] | None:
        """A request whose body comes in chunks."""
        body = bytearray()
        while (line := self.buffer.find(b"\r\n", place)) >= 0:
            size = int(self.buffer[place:line].partition(b";")[0], 16)
            after = line + 2 + size + 2
            if len(self.buffer) < after:
                break
            body += self.buffer[line + 2 : after - 2]
            place = after
            if not size:
                del self.buffer[:place]
                self.needed = 0
                return head, bytes(body)
        self.needed = len(self.buffer)
        return None


async def serve(port: int, settings: Settings, faults: Faults) -> None:
    """Serve on the loopback until SIGTERM or SIGINT; say the port on stdout."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = ChatServer(settings, faults)
    listening = await loop.create_server(lambda: Connection(server), "127.0.0.1", port, backlog=4096)
    print(json.dumps({"port": listening.sockets[0].getsockname()[1]}), flush=True)
    await stop.wait()
    listening.close()


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--jitter", type=float, default=0.0)
    parser.add_argument("--most", type=int)
    parser.add_argument("--key")
    parser.add_argument("--no-schema", action="store_true")
    parser.add_argument("--no-embeddings", action="store_true")
    parser.add_argument("--batch-seconds", type=float, default=1.0)
    parser.add_argument("--batch-failed", type=float, default=0.0)
    parser.add_argument("--batch-prose", type=float, default=0.0)
    parser.add_argument("--batch-undone", type=float)
    parser.add_argument("--faults", default="{}", help="JSON, or a file of it")
    options = vars(parser.parse_args())
    port, faults = options.pop("port"), options.pop("faults")
    text = faults if faults.lstrip().startswith("{") else Path(faults).read_text(encoding="utf-8")
    run: Callable[..., Any] = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        run = uvloop.run
    run(serve(port, Settings(**options), msgspec.json.decode(text, type=Faults)))


# From Python


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    port: int

    @property
    def url(self) -> str:
        """What a client takes as its base URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    def counts(self) -> dict[str, Any]:
        """What was asked so far."""
        found: dict[str, Any] = json.loads(self._ask("/counts"))
        return found

    def questions(self, last: int = 256) -> list[list[dict[str, str]]]:
        """The messages of the last chat requests, the oldest first."""
        found: list[list[dict[str, str]]] = json.loads(self._ask(f"/questions?last={last}"))
        return found

    def reset(self) -> None:
        """Forget the counts."""
        self._ask("/reset", b"")

    def fail(self, **faults: Any) -> None:
        """Fail in other ways from now on: the arguments of ``Faults``, none for no faults."""
        self._ask("/faults", json.dumps(faults).encode())

    def _ask(self, path: str, body: bytes | None = None) -> bytes:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", body, timeout=30) as answer:
            found: bytes = answer.read()
        return found


@contextlib.contextmanager
def running(**options: Any) -> Iterator[Served]:
    """A server in a process of its own; ``options`` are those of the command, ``faults`` the arguments of
    ``Faults``."""
    command = [sys.executable, "-m", "benchmarks.chat_server"]
    for name, value in options.items():
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            command.append(flag)
        elif value is not None:
            command += [flag, json.dumps(value) if isinstance(value, dict) else str(value)]
    here = Path(__file__).parent.parent
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=here) as process:
        assert process.stdout is not None
        try:
            yield Served(json.loads(process.stdout.readline())["port"])
        finally:
            process.terminate()
            process.wait(10)


if __name__ == "__main__":
    main()
