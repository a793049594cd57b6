"""Whether a model answers, and what it can do: one small question to each of its endpoints.

The question asks for words and its JSON schema for something else, so that a reply in the schema's shape shows that the
schema was enforced, and not that the model took a hint.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import msgspec

from prefkit.errors import PrefkitError
from prefkit.models.addresses import public_url
from prefkit.models.chat import CallFailed, Endpoint, Reply, Request
from prefkit.models.entries import ModelEntry
from prefkit.models.models_file import FILE
from prefkit.models.opening import key_of, opened
from prefkit.records import Message

REPLY_TOKENS = 256
_QUESTION = (
    Message(role="system", content="Answer in a few words."),
    Message(role="user", content="How are you today?"),
)
_MOODS = ("well", "unwell")
_SCHEMA = {
    "type": "object",
    "properties": {"mood": {"enum": list(_MOODS)}},
    "required": ["mood"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class Check:
    """What an endpoint did: its answer in one line, the seconds it took, and findings: (what, what it means that it is
    missing), the latter empty where it is not."""

    where: str
    seconds: float
    answer: str
    findings: tuple[tuple[str, str], ...]


def checked(entry: ModelEntry, timeout: float = 60.0) -> list[Check]:
    """Ask each endpoint of a model one question.

    Raises:
        PrefkitError: one of them does not answer.
    """
    return asyncio.run(_checked(entry, timeout))


async def _checked(entry: ModelEntry, timeout: float) -> list[Check]:
    places = [public_url(url) for url in entry.urls] or [entry.where]
    async with opened([entry], timeout=timeout, concurrency=1) as (model,):
        return [await _one(entry, endpoint, place) for endpoint, place in zip(model.endpoints, places, strict=True)]


async def _one(entry: ModelEntry, endpoint: Endpoint, place: str) -> Check:
    sampling = msgspec.structs.replace(entry.sampling, max_tokens=entry.sampling.max_tokens or REPLY_TOKENS)
    start = time.perf_counter()
    try:
        reply = await endpoint.ask(Request(_QUESTION, sampling, schema=_SCHEMA, top_logprobs=2))
    except CallFailed as failed:
        raise PrefkitError(f"{entry.name}, {place}", failed.reason, "an answer", _remedy(failed.reason)) from None
    seconds = time.perf_counter() - start
    return Check(place, seconds, _shown(reply, entry), tuple(_findings(entry, endpoint, reply)))


def _findings(entry: ModelEntry, endpoint: Endpoint, reply: Reply) -> list[tuple[str, str]]:
    system = endpoint.notes.get("system") if entry.system_role else "models.yaml says system-role: false"
    left_out = [note for field, note in endpoint.notes.items() if field not in _FIELDS]
    return [
        (
            "JSON schema",
            "" if _in_shape(reply.text) else "replies are read from free text; more of them are unreadable",
        ),
        ("logprobs", "" if reply.tokens else "no scores as expected values (`prefkit judge --expected`)"),
        ("usage", "" if reply.usage else "tokens and cost are not counted, and the budget goes by its own bounds"),
        ("system role", f"its text opens the user's message ({system})" if system else ""),
        ("price", "" if entry.price else f"no cost is counted; give it a price in {FILE}"),
        ("private", "" if entry.local else "texts leave this network: scrub them first"),
        *([("encrypted", "texts and key can be read on the way: use https")] if _is_open(entry) else []),
        *(("all fields", note) for note in left_out),
    ]


_FIELDS = {"json_schema", "json_object", "logprobs", "system"}


def _is_open(entry: ModelEntry) -> bool:
    return not entry.local and any(url.startswith("http://") for url in entry.urls)


def _in_shape(text: str) -> bool:
    try:
        found = msgspec.json.decode(text.encode())
    except (msgspec.MsgspecError, UnicodeError):
        return False
    return isinstance(found, dict) and list(found) == ["mood"] and found["mood"] in _MOODS


def _shown(reply: Reply, entry: ModelEntry) -> str:
    """The answer in one line, without the key, should a server put it there."""
    words = " ".join(reply.text.split())
    key = key_of(entry)
    if key:
        words = words.replace(key, "[key]")
    return words[:100] or f"(nothing; ended by {reply.finish})"


def _remedy(reason: str) -> str:
    if reason.startswith("not recorded"):
        return "The file does not hold this question, as is to be expected; its own it may."
    if "HTTP 401" in reason or "HTTP 403" in reason:
        return "Look at the key (`prefkit models list` says which variable it comes from)."
    if "HTTP 404" in reason:
        return "Does the URL end in /v1 (as most do), and does the server know the model by this name?"
    if reason.startswith("cannot connect"):
        return "Is the server running, and is this its address?"
    return "Mend that, and check again."
