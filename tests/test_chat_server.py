"""The server that the proofs run against does what it is told to, and counts what it was asked."""

from __future__ import annotations

import json
import os
import re
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from benchmarks.chat_server import Served, fitting, running

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the server stops on SIGTERM")

SCHEMA = {
    "type": "object",
    "properties": {
        "why": {"type": "string"},
        "empathy": {"type": "integer", "enum": [1, 2, 3, 4, 5]},
        "overall": {"type": "string", "enum": ["A", "B", "tie"]},
        "share": {"type": "number", "minimum": 0, "maximum": 100},
        "each": {"type": "object", "properties": {"clarity": {"type": ["integer", "null"], "enum": [1, 2, None]}}},
    },
}

NUMBER = 24
"""Digits of an answer's number."""
ROW = {"method": "POST", "url": "/v1/chat/completions"}


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    with running(batch_seconds=0.4, batch_failed=0.3) as server:
        yield server


@pytest.fixture
def server(shared: Served) -> Iterator[Served]:
    shared.reset()
    shared.fail()
    yield shared


def body(words: str, **more: Any) -> bytes:
    return compact({"model": "fake", "messages": [{"role": "user", "content": words}], **more})


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def with_schema(words: str, **more: Any) -> bytes:
    return body(words, response_format={"type": "json_schema", "json_schema": {"name": "r", "schema": SCHEMA}}, **more)


def ask(server: Served, data: bytes, path: str = "/chat/completions") -> tuple[int, Any, Any]:
    request = urllib.request.Request(server.url + path, data, {"Authorization": "Bearer sk-secret"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, json.loads(answer.read()), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read()), error.headers


def text(server: Served, data: bytes) -> str:
    said: str = ask(server, data)[1]["choices"][0]["message"]["content"]
    return said


def raw(server: Served, data: bytes, wait: float = 0.2) -> bytes:
    """All bytes that come back within ``wait`` seconds, without the number of the answer."""
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(data), data))
        connection.settimeout(wait)
        got = b""
        try:
            while piece := connection.recv(65536):
                got += piece
        except (TimeoutError, ConnectionResetError):
            pass
        return re.sub(rb"chatcmpl-[0-9a-f]+", b"chatcmpl-", got)


def test_an_answer_fits_the_schema_and_the_same_question_gets_the_same(server: Served) -> None:
    status, answer, _ = ask(server, with_schema("one"))
    found = json.loads(answer["choices"][0]["message"]["content"])
    assert status == 200
    assert list(found) == list(SCHEMA["properties"])
    assert found["empathy"] in (1, 2, 3, 4, 5) and found["overall"] in ("A", "B", "tie")
    assert 0 <= found["share"] <= 100 and found["each"]["clarity"] in (1, 2)
    assert set(answer["usage"]) == {"prompt_tokens", "completion_tokens", "total_tokens"}
    assert text(server, with_schema("one")) == json.dumps(found, separators=(",", ":"))
    assert len({text(server, with_schema(f"question {number}")) for number in range(9)}) == 9


def test_scores_of_many_questions_cover_the_scale_evenly() -> None:
    scores = [fitting(SCHEMA, os.urandom(16))["empathy"] for _ in range(2000)]
    assert all(300 < scores.count(score) < 500 for score in (1, 2, 3, 4, 5))


def test_logprobs_come_when_asked_for_and_spell_the_text(server: Served) -> None:
    choice = ask(server, with_schema("one", logprobs=True, top_logprobs=5))[1]["choices"][0]
    tokens = choice["logprobs"]["content"]
    assert "".join(token["token"] for token in tokens) == choice["message"]["content"]
    assert all(token["logprob"] in {top["logprob"] for top in token["top_logprobs"]} for token in tokens)
    assert "logprobs" not in ask(server, with_schema("one"))[1]["choices"][0]


def test_requests_questions_and_attempts_are_counted_a_repair_as_an_attempt(server: Served) -> None:
    for words in ("one", "two", "two"):
        ask(server, body(words))
    repair = [{"role": "assistant", "content": "?"}, {"role": "user", "content": "JSON, please."}]
    ask(server, compact({"messages": [{"role": "user", "content": "one"}, *repair]}))
    counts = server.counts()
    assert (counts["requests"], counts["answered"], counts["in_flight"]) == (4, 4, 0)
    assert (counts["distinct"], counts["attempts"]) == (2, {"2": 2})
    assert counts["first_request_at"] == pytest.approx(time.time(), abs=5)


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ("429", 429, "rate_limit_exceeded"),
        ("quota", 429, "insufficient_quota"),
        ("500", 500, "server_error"),
        ("503", 503, "overloaded"),
        ("400", 400, "content_policy_violation"),
        ("401", 401, "sk-secret"),
        ("404", 404, "model_not_found"),
    ],
)
def test_an_error_has_its_status_and_the_shape_that_vendors_give_it(
    server: Served, fault: str, status: int, words: str
) -> None:
    server.fail(shares={fault: 1})
    found, answer, headers = ask(server, body("one"))
    assert found == status and words in json.dumps(answer["error"]) and "Retry-After" not in headers


def test_a_crowded_server_can_say_how_long_to_wait(server: Served) -> None:
    server.fail(shares={"429-retry-after": 1}, retry_after=2)
    status, _, headers = ask(server, body("one"))
    assert (status, headers["Retry-After"]) == (429, "2")


def test_broken_answers_are_broken_as_they_should_be(server: Served) -> None:
    good = raw(server, with_schema("one"))
    found = {}
    for fault in ("dropped", "dropped-in-body", "hung", "cut", "html", "no-choices", "twice", "twice-late"):
        server.fail(shares={fault: 1})
        found[fault] = raw(server, with_schema("one"))
    assert found["dropped"] == found["hung"] == b""
    assert good.startswith(found["dropped-in-body"]) and len(found["dropped-in-body"]) < len(good)
    head, _, half = found["cut"].partition(b"\r\n\r\n")
    assert (
        f"Content-Length: {len(half) + NUMBER}".encode() in head and half and half in good and not half.endswith(b"}")
    )
    assert b"text/html" in found["html"] and b"200 OK" in found["html"]
    assert b"choices" not in found["no-choices"] and json.loads(found["no-choices"].partition(b"\r\n\r\n")[2])
    assert found["twice"] == found["twice-late"] == good + good
    counts = server.counts()
    assert counts["faults"] == dict.fromkeys(found, 1)
    assert (counts["in_flight"], counts["abandoned"], counts["answered"]) == (0, 1, 1)


def test_unusable_replies_are_whole_answers(server: Served) -> None:
    server.fail(shares={"out-of-range": 1})
    wrong = json.loads(text(server, with_schema("one")))
    assert (wrong["empathy"], wrong["overall"], wrong["share"]) == (99, "neither", 99)
    server.fail(shares={"empty": 1})
    assert text(server, with_schema("one")) == ""
    server.fail(shares={"prose": 1})
    assert "{" not in text(server, with_schema("one"))


def test_faults_follow_from_seed_question_and_attempt_alone(server: Served) -> None:
    def statuses(**faults: Any) -> list[int]:
        server.reset()
        server.fail(**faults)
        return [ask(server, body(f"question {number % 40}"))[0] for number in range(80)]

    half = statuses(shares={"500": 0.3, "503": 0.2})
    assert 20 < half.count(200) < 60 and {200, 500, 503} == set(half)
    assert half == statuses(shares={"500": 0.3, "503": 0.2})
    assert half != statuses(shares={"500": 0.3, "503": 0.2}, seed=1)
    assert statuses(shares={"500": 1}, attempts=1) == [500] * 40 + [200] * 40
    some = statuses(shares={"400": 1}, questions=0.25)
    assert some[:40] == some[40:] and 2 < some.count(400) < 40


def test_key_schema_and_crowd_are_refused_when_the_server_is_set_so() -> None:
    with running(key="sk-other") as server:
        assert ask(server, body("one"))[0] == 401
    with running(no_schema=True) as server:
        status, answer, _ = ask(server, with_schema("one"))
        assert status == 400 and "json_schema" in answer["error"]["message"]
        assert '"empathy"' in text(server, body("one"))
    with running(most=0) as server:
        assert ask(server, body("one"))[0] == 429


def test_batches_pass_through_their_states_and_every_row_comes_back_once(server: Served) -> None:
    rows = [{"custom_id": f"row {number}", **ROW, "body": json.loads(body(str(number)))} for number in range(40)]
    batch = make_batch(server, jsonl(rows), metadata={"stage": "judge"})
    assert batch["status"] == "validating" and batch["metadata"] == {"stage": "judge"}
    order, states = ["validating", "in_progress", "finalizing", "completed"], []
    while batch["status"] != "completed":
        time.sleep(0.02)
        batch = get(server, f"/batches/{batch['id']}")
        states.append(order.index(batch["status"]))
    assert states == sorted(states)
    moments = [batch[f"{name}_at"] for name in ("created", *order[1:])]
    assert None not in moments and moments == sorted(moments)
    output, errors = lines(server, batch["output_file_id"]), lines(server, batch["error_file_id"])
    assert batch["request_counts"] == {"total": 40, "completed": len(output), "failed": len(errors)}
    assert sorted(row["custom_id"] for row in output + errors) == sorted(row["custom_id"] for row in rows)
    assert {row["response"]["status_code"] for row in output} == {200} and errors[0]["response"]["status_code"] == 500
    by_id = {row["custom_id"]: row["response"]["body"]["choices"][0]["message"]["content"] for row in output}
    name, said = next(iter(by_id.items()))
    assert said == text(server, body(name.removeprefix("row ")))
    assert get(server, "/batches?limit=1")["data"][0]["id"] == batch["id"]
    assert server.counts()["batch_rows"] == 40


def test_a_batch_can_be_cancelled_can_expire_and_can_be_refused() -> None:
    ten = jsonl({"custom_id": str(number), **ROW, "body": json.loads(body("one"))} for number in range(10))
    with running(batch_seconds=0.2, batch_undone=0.4) as server:
        expires, stops = make_batch(server, ten), make_batch(server, ten)
        assert ask(server, b"", f"/batches/{stops['id']}/cancel")[1]["status"] == "cancelling"
        refused = make_batch(server, ten * 2)
        time.sleep(0.25)
        expired, cancelled = (get(server, f"/batches/{batch['id']}") for batch in (expires, stops))
        assert (expired["status"], cancelled["status"]) == ("expired", "cancelled")
        errors = lines(server, expired["error_file_id"])
        assert len(lines(server, expired["output_file_id"])) == 6
        assert [error["error"]["code"] for error in errors] == ["batch_expired"] * 4
        failed = get(server, f"/batches/{refused['id']}")
        assert failed["status"] == "failed" and failed["errors"]["data"][0]["code"] == "duplicate_custom_id"


def jsonl(rows: Iterable[Any]) -> bytes:
    return b"".join(compact(row) + b"\n" for row in rows)


def make_batch(server: Served, content: bytes, **more: Any) -> dict[str, Any]:
    head = '--x\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n'
    purpose, file_name = head.format("purpose", "").encode(), head.format("file", '; filename="in.jsonl"').encode()
    parts = b"%bbatch\r\n%b%b\r\n--x--\r\n" % (purpose, file_name, content)
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    request = urllib.request.Request(f"{server.url}/files", parts, headers)
    with urllib.request.urlopen(request, timeout=5) as answer:
        file = json.loads(answer.read())["id"]
    wanted = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h", **more}
    status, batch, _ = ask(server, json.dumps(wanted).encode(), "/batches")
    assert status == 200
    made: dict[str, Any] = batch
    return made


def get(server: Served, path: str) -> Any:
    with urllib.request.urlopen(server.url + path, timeout=5) as answer:
        return json.loads(answer.read())


def lines(server: Served, file: str) -> list[Any]:
    with urllib.request.urlopen(f"{server.url}/files/{file}/content", timeout=5) as answer:
        return [json.loads(line) for line in answer.read().splitlines()]
