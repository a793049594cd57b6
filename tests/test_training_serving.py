"""A reward model over HTTP: vLLM's requests, the model's own rewards, many clients at once, a clean end."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp.test_utils import TestServer

from prefkit.errors import PrefkitError
from prefkit.training.groups import Group, Rewards
from prefkit.training.reward_info import RewardInfo
from prefkit.training.reward_model import RewardModel, save_reward_model
from prefkit.training.serving.desk import WAITING, Desk
from prefkit.training.serving.server import Serving, application, serve
from tests.tiny import tiny_classifier, tiny_model

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

PROMPT = "I cannot sleep."
ANSWERS = ["That sounds hard.", "Have you tried sheep?", "Tell me more"]
CLIENT = {"role": "user", "content": PROMPT}
Ask = Callable[..., Awaitable[tuple[int, Any]]]
OPEN = Serving()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("served")
    tiny_model(made / "base", max_position_embeddings=256)
    tokenizer = transformers.AutoTokenizer.from_pretrained(made / "base")
    info = RewardInfo(
        kind="trained",
        base="tiny",
        template=None,
        max_tokens=256,
        heads=("warm", "safe"),
        combine=(0.75, 0.25),
        mean=0.5,
        std=2.0,
    )
    save_reward_model(tiny_classifier(made / "base", labels=2), tokenizer, made / "rm", info)
    return made / "rm"


@pytest.fixture(scope="module")
def model(folder: Path) -> RewardModel:
    return RewardModel.load(folder)


def serving(
    model: RewardModel, talk: Callable[[Ask], Awaitable[None]], settings: Serving = OPEN, patience: float = 30
) -> None:
    """Serve on a free port of the loopback while ``talk`` asks."""

    async def run() -> None:
        desk = Desk(model)
        working = asyncio.create_task(desk.work())
        async with TestServer(application(model, settings, "rm", desk)) as server, aiohttp.ClientSession() as session:

            async def ask(path: str, body: Any = None, **options: Any) -> tuple[int, Any]:
                method = "GET" if body is None else "POST"
                sent = {"data": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
                async with session.request(method, server.make_url(path), **sent, **options) as answer:
                    text = await answer.read()
                    return answer.status, json.loads(text) if text else None

            await asyncio.wait_for(talk(ask), patience)
        desk.close()
        await working

    asyncio.run(run())


def test_score_and_rerank_take_the_query_for_the_prompt_and_documents_for_responses(model: RewardModel) -> None:
    mine = model.score(PROMPT, ANSWERS)

    async def talk(ask: Ask) -> None:
        for path, first, second in (
            ("/score", "queries", "documents"),
            ("/v1/score", "text_1", "text_2"),
            ("/score", "data_1", "data_2"),
            ("/score", "queries", "items"),
        ):
            status, answer = await ask(path, {"model": "rm", first: PROMPT, second: ANSWERS})
            assert status == 200 and (answer["object"], answer["model"]) == ("list", "rm")
            assert [one["score"] for one in answer["data"]] == pytest.approx(mine.tolist(), abs=1e-5)
            assert [(one["index"], one["object"]) for one in answer["data"]] == [
                (0, "score"),
                (1, "score"),
                (2, "score"),
            ]
            assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 100
        status, answer = await ask("/score", {"queries": [PROMPT, "Hello."], "documents": ANSWERS[:2]})
        other = model.score("Hello.", ANSWERS[1:2])[0]
        assert [one["score"] for one in answer["data"]] == pytest.approx([mine[0], other], abs=1e-5)

        order = np.argsort(-mine).tolist()
        for path in ("/rerank", "/v1/rerank", "/v2/rerank"):
            documents = [ANSWERS[0], {"text": ANSWERS[1]}, ANSWERS[2]]
            status, answer = await ask(path, {"query": PROMPT, "documents": documents, "top_n": 2})
            assert [one["index"] for one in answer["results"]] == order[:2]
            assert [one["relevance_score"] for one in answer["results"]] == pytest.approx(
                mine[order[:2]].tolist(), abs=1e-5
            )
            assert answer["results"][0]["document"] == {"text": ANSWERS[order[0]]}

    serving(model, talk)


def test_classify_and_pooling_give_the_models_outputs_unsquashed(model: RewardModel) -> None:
    outputs = model.scores(PROMPT, ANSWERS)[:, 1:]

    async def talk(ask: Ask) -> None:
        body = {"messages": [CLIENT, {"role": "assistant", "content": ANSWERS[0]}], "use_activation": True}
        status, answer = await ask("/classify", body)
        assert status == 200
        (one,) = answer["data"]
        assert one["probs"] == pytest.approx(outputs[0].tolist(), abs=1e-5)
        assert (one["index"], one["num_classes"], one["label"]) == (0, 2, ("warm", "safe")[int(outputs[0].argmax())])
        status, answer = await ask("/pooling", body)
        assert answer["data"][0]["data"] == pytest.approx(outputs[0].tolist(), abs=1e-5)
        status, answer = await ask("/pooling", body | {"encoding_format": "base64"})
        raw = np.frombuffer(base64.b64decode(answer["data"][0]["data"]), "<f4")
        assert raw.tolist() == pytest.approx(outputs[0].tolist(), abs=1e-5)

    serving(model, talk)


def test_whole_texts_score_as_their_prompt_and_response_do_whatever_is_missing_or_padded_at_their_end(
    model: RewardModel,
) -> None:
    scorer: Any = model.scorer
    texts = [
        scorer.tokenizer.apply_chat_template([CLIENT, {"role": "assistant", "content": answer}], tokenize=False)
        for answer in ANSWERS
    ]
    found = model.scores(PROMPT, ANSWERS)

    async def talk(ask: Ask) -> None:
        status, answer = await ask("/classify", {"input": texts})
        assert [one["probs"] for one in answer["data"]] == [
            pytest.approx(row.tolist(), abs=1e-5) for row in found[:, 1:]
        ]
        assert answer["usage"]["prompt_tokens"] == sum(len(scorer.tokenizer(text)["input_ids"]) for text in texts)
        status, answer = await ask("/pooling", {"input": texts[0]})
        assert answer["data"][0]["data"] == pytest.approx(found[0, 1:].tolist(), abs=1e-5)
        cut = [texts[0].removesuffix("\n"), texts[1].removesuffix("<|im_end|>\n"), "<pad><pad>" + texts[2] + "<pad>"]
        for query in (texts, cut):
            status, answer = await ask("/get_reward", {"query": query, "prompts": [PROMPT] * 3})
            assert status == 200
            assert answer["rewards"] == answer["scores"] == pytest.approx(found[:, 0].tolist(), abs=1e-5)

    serving(model, talk)


def test_rewards_come_with_heads_and_normalised_on_request(model: RewardModel) -> None:
    dialogue = [CLIENT, {"role": "assistant", "content": "Since when?"}, {"role": "user", "content": "May."}]
    found = model.scores(dialogue, ANSWERS)

    async def talk(ask: Ask) -> None:
        _, answer = await ask("/v1/rewards", {"messages": dialogue, "responses": ANSWERS})
        assert answer["rewards"] == pytest.approx(found[:, 0].tolist(), abs=1e-5)
        assert answer["heads"]["safe"] == pytest.approx(found[:, 2].tolist(), abs=1e-5)
        body = {"messages": dialogue, "responses": ANSWERS, "normalised": True}
        assert (await ask("/v1/rewards", body))[1]["rewards"] == pytest.approx(
            ((found[:, 0] - 0.5) / 2).tolist(), abs=1e-5
        )
        assert (await ask("/v1/rewards", {"prompt": PROMPT, "responses": []}))[1]["rewards"] == []
        _, answer = await ask("/v1/models")
        assert (answer["data"][0]["id"], answer["data"][0]["heads"]) == ("rm", ["warm", "safe"])
        assert await ask("/health") == (200, None)

    serving(model, talk)


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("/score", {"queries": PROMPT}, 400, "documents"),
        ("/score", {"queries": [PROMPT, PROMPT], "documents": ANSWERS}, 400, "2 queries do not go with 3"),
        ("/score", b"{", 400, "truncated"),
        ("/score", {"queries": 3, "documents": ANSWERS}, 400, "$.queries"),
        ("/classify", {"messages": [CLIENT]}, 400, "must end with the assistant"),
        ("/classify", {}, 400, "one of messages and input"),
        ("/classify", {"input": "a", "model": "other"}, 404, "`other` does not exist"),
        ("/classify", {"input": "a", "chat_template": "{{ messages }}"}, 400, "chat template"),
        ("/pooling", {"input": "a", "encoding_format": "bytes"}, 400, "float or base64"),
        ("/v1/rewards", {"responses": ANSWERS}, 400, "one of messages and prompt"),
        ("/v1/rewards", {"messages": [], "responses": ANSWERS}, 400, "a prompt needs a turn"),
        ("/v1/rewards", {"prompt": PROMPT, "responses": ["x" * 999]}, 400, "longer than the model can hold"),
    ],
)
def test_a_request_that_cannot_be_answered_gets_the_reason(
    model: RewardModel, path: str, body: Any, status: int, words: str
) -> None:
    async def talk(ask: Ask) -> None:
        headers = {"Content-Type": "application/json"}
        found, answer = await ask(path, body, headers=headers)
        assert found == status
        assert words in answer["error"]["message"] and answer["error"]["code"] == status

    serving(model, talk)


def test_a_page_in_a_browser_cannot_ask_without_saying_json(model: RewardModel) -> None:
    async def talk(ask: Ask) -> None:
        assert (await ask("/score", b"{}", headers={"Content-Type": "text/plain"}))[0] == 415

    serving(model, talk)


def test_with_a_key_only_those_who_send_it_are_answered(model: RewardModel) -> None:
    body = {"queries": PROMPT, "documents": ANSWERS}

    async def talk(ask: Ask) -> None:
        assert (await ask("/score", body))[0] == 401
        assert (await ask("/v1/models", headers={"Authorization": "Bearer wrong"}))[0] == 401
        assert (await ask("/score", body, headers={"Authorization": "Bearer secret"}))[0] == 200
        assert (await ask("/health"))[0] == 200

    serving(model, talk, Serving(key="secret"))


def test_an_address_for_others_needs_a_key() -> None:
    with pytest.raises(PrefkitError, match="no key"):
        Serving(host="0.0.0.0").check()
    Serving(host="0.0.0.0", key="secret").check()


class Slow:
    """Says how long each response is, when it is let; refuses prompts that hold a fault."""

    heads = ()

    def __init__(self) -> None:
        self.go = threading.Event()
        self.calls: list[list[Group]] = []

    def rewards(self, groups: Iterable[Group]) -> Iterator[Rewards]:
        asked = list(groups)
        self.calls.append(asked)
        self.go.wait(10)
        for group in asked:
            if "fault" in group.messages[0].content:
                raise PrefkitError("prompt", "a fault", "none", "")
            yield np.array([[len(text)] for text in group.texts], np.float32)


def slow() -> tuple[RewardModel, Slow]:
    scorer = Slow()
    return RewardModel(RewardInfo(kind="frozen", base="x", template=None, max_tokens=9), scorer, "rm"), scorer


async def until(true: Callable[[], bool]) -> None:
    while not true():
        await asyncio.sleep(0.005)


def test_what_waits_is_read_together_and_equal_prompts_as_one_group() -> None:
    model, scorer = slow()

    async def talk(ask: Ask) -> None:
        first = asyncio.create_task(ask("/score", {"queries": "first", "documents": "a"}))
        await until(lambda: len(scorer.calls) == 1)
        rest = [
            asyncio.create_task(ask("/score", {"queries": f"prompt {place % 2}", "documents": ["x" * place, "y"]}))
            for place in range(10)
        ]
        await asyncio.sleep(0.3)
        scorer.go.set()
        answers = await asyncio.gather(first, *rest)
        for place, (status, answer) in enumerate(answers[1:]):
            assert status == 200 and [one["score"] for one in answer["data"]] == [place, 1]

    serving(model, talk)
    assert [len(call) for call in scorer.calls] == [1, 2]
    assert sorted(len(group.texts) for group in scorer.calls[1]) == [10, 10]


def test_a_request_that_the_model_refuses_fails_alone() -> None:
    model, scorer = slow()

    async def talk(ask: Ask) -> None:
        first = asyncio.create_task(ask("/score", {"queries": "first", "documents": "a"}))
        await until(lambda: len(scorer.calls) == 1)
        names = ("one", "fault", "two")
        rest = [asyncio.create_task(ask("/score", {"queries": name, "documents": name})) for name in names]
        await asyncio.sleep(0.2)
        scorer.go.set()
        (_, one, fault, two) = await asyncio.gather(first, *rest)
        assert (one[0], fault[0], two[0]) == (200, 400, 200)
        assert "found a fault" in fault[1]["error"]["message"]
        assert one[1]["data"][0]["score"] == 3

    serving(model, talk)


def test_what_a_client_waits_for_no_longer_is_not_read() -> None:
    model, scorer = slow()
    ended: list[threading.Thread] = []

    def post(address: str, query: str, timeout: float) -> None:
        data = json.dumps({"queries": query, "documents": "a"}).encode()
        request = urllib.request.Request(f"{address}/score", data, {"Content-Type": "application/json"})
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=timeout) as answer:
            answer.read()

    def ready(address: str) -> None:
        def ask() -> None:
            first = threading.Thread(target=post, args=(address, "first", 20))
            first.start()
            while not scorer.calls:
                time.sleep(0.01)
            post(address, "gone", 0.2)
            time.sleep(0.2)
            scorer.go.set()
            first.join()
            post(address, "last", 20)
            os.kill(os.getpid(), signal.SIGTERM)

        ended.append(threading.Thread(target=ask))
        ended[0].start()

    serve(model, Serving(port=0), "rm", ready)
    ended[0].join(20)
    assert [group.messages[0].content for call in scorer.calls for group in call] == ["first", "last"]


def test_more_than_can_wait_is_sent_away_at_once() -> None:
    model, scorer = slow()

    async def talk(ask: Ask) -> None:
        first = asyncio.create_task(ask("/score", {"queries": "first", "documents": "a"}))
        await until(lambda: len(scorer.calls) == 1)
        second = asyncio.create_task(ask("/score", {"queries": "second", "documents": ["a"] * WAITING}))
        await asyncio.sleep(0.3)
        assert (await ask("/score", {"queries": "third", "documents": "a"}))[0] == 503
        scorer.go.set()
        assert [(await first)[0], (await second)[0]] == [200, 200]

    serving(model, talk)


def test_whole_texts_are_refused_by_a_frozen_model() -> None:
    model, scorer = slow()
    scorer.go.set()

    async def talk(ask: Ask) -> None:
        status, answer = await ask("/classify", {"input": "a"})
        assert status == 400 and "whole text" in answer["error"]["message"]

    serving(model, talk)


def test_a_port_that_is_taken_is_one_message() -> None:
    import socket

    model, _ = slow()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PrefkitError, match="in use"):
            serve(model, Serving(port=taken.getsockname()[1]), "rm", lambda address: None)


@pytest.mark.skipif(os.name != "posix", reason="stops on a signal")
def test_the_command_serves_until_it_is_told_to_stop(folder: Path, model: RewardModel) -> None:
    command = [sys.executable, "-m", "prefkit", "serve-rm", str(folder), "--port", "0", "--name", "ours"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stderr is not None
        name, _, address = process.stdout.readline().strip().partition(": ")
        assert name == "ours" and address.startswith("http://127.0.0.1:"), process.stderr.read()
        data = json.dumps({"model": "ours", "prompt": PROMPT, "responses": ANSWERS}).encode()
        request = urllib.request.Request(f"{address}/v1/rewards", data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            rewards = json.loads(answer.read())["rewards"]
        assert rewards == pytest.approx(model.score(PROMPT, ANSWERS).tolist(), abs=1e-5)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (0, "stopped\n", "")
        with pytest.raises(urllib.error.URLError):
            urllib.request.urlopen(f"{address}/health", timeout=5)
    finally:
        process.kill()
        process.wait()


def test_a_stop_answers_what_was_begun() -> None:
    model, scorer = slow()
    found: list[int] = []

    def ready(address: str) -> None:
        def ask() -> None:
            data = json.dumps({"queries": "p", "documents": "abc"}).encode()
            request = urllib.request.Request(f"{address}/score", data, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=20) as answer:
                found.append(json.loads(answer.read())["data"][0]["score"])

        def stop() -> None:
            while not scorer.calls:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)
            scorer.go.set()

        asking.append(threading.Thread(target=ask))
        asking.append(threading.Thread(target=stop))
        for thread in asking:
            thread.start()

    asking: list[threading.Thread] = []
    serve(model, Serving(port=0), "rm", ready)
    for thread in asking:
        thread.join(20)
    assert found == [3]
