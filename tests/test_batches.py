"""``--batch`` against a server that speaks the vendor protocol: everything judged once, whatever is killed or fails."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chat_server import Served, running
from prefkit.models import batch_sending, batches
from prefkit.records import Message, Prompt, Response
from prefkit.run import Run
from tests.making import ONE

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the server stops on SIGTERM")

KEY = "sk-0123456789abcdef"
QUESTIONS = 12
WORDS = "Quietly the heron waits"
SECONDS = 0.3
PRICE = {"prompt": 100.0, "completion": 200.0}


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "FIRST_LOOK", 0.1)
    monkeypatch.setenv("FAKE_KEY", KEY)


@pytest.fixture(scope="module")
def shared() -> Iterator[Served]:
    with running(batch_seconds=SECONDS) as server:
        yield server


@pytest.fixture
def server(shared: Served) -> Served:
    shared.reset()
    return shared


def a_run(folder: Path, *urls: str, questions: int = QUESTIONS, **entry: Any) -> Path:
    run = Run.create(folder, ONE)
    prompts = [
        Prompt(id=f"p{at}", messages=(Message(role="user", content=f"{WORDS} {at}."),)) for at in range(questions // 2)
    ]
    run.replace(Prompt, prompts)
    run.replace(
        Response,
        [
            Response(id=f"{prompt.id}/{policy}", prompt_id=prompt.id, policy=policy, text=f"{policy} for {prompt.id}")
            for prompt in prompts
            for policy in "AB"
        ],
    )
    fake = {"model": "fake", "urls": list(urls), "key-env": "FAKE_KEY", "price": PRICE, **entry}
    (folder / "models.yaml").write_text(json.dumps({"models": {"fake": fake}}), encoding="utf-8")
    return folder


def judgements(run: Path) -> list[dict[str, Any]]:
    path = run / "judgements.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def by_id_without_cost(run: Path) -> dict[str, Any]:
    found = judgements(run)
    assert max(Counter(each["id"] for each in found).values()) == 1, "a judgement stands twice"
    return {each["id"]: {**each, "usage": {**each["usage"], "cost": None}} for each in found}


def get(server: Served, path: str) -> Any:
    with urllib.request.urlopen(server.url + path, timeout=10) as answer:
        return json.loads(answer.read())


def batches_of(run: Path, server: Served) -> list[dict[str, Any]]:
    """The batches that a run has noted."""
    noted = json.loads((run / "batches" / "judge.json").read_text(encoding="utf-8"))["batches"]
    return [get(server, f"/batches/{note['batch']}") for note in noted if note["batch"]]


def made(server: Served) -> set[str]:
    return {batch["id"] for batch in get(server, "/batches?limit=100")["data"]}


def killed_in(run: Path, patch: str) -> None:
    """Run the command as a process that a patch of the module kills."""
    script = f"""
import os, signal
from prefkit.durable import Appender
from prefkit.models import batches
batches.FIRST_LOOK = 0.1
def die(): os.kill(os.getpid(), signal.SIGKILL)
{patch}
from prefkit.cli import main
main(["judge", {str(run)!r}, "--judge", "fake", "--batch"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.fixture
def judge(prefkit: Callable[..., Any]) -> Callable[..., Any]:
    return lambda run, *options: prefkit("judge", run, "--judge", "fake", "--batch", *options)


# --- the way through -------------------------------------------------------------------------------------------------


def test_a_batch_gives_the_records_of_plain_calls_at_half_the_price(tmp_path, server, judge, prefkit):
    run = a_run(tmp_path / "run", server.url)
    plain = shutil.copytree(run, tmp_path / "plain")
    assert prefkit("judge", plain, "--judge", "fake").code == 0
    done = judge(run)
    assert done.code == 0, done.err
    assert by_id_without_cost(run) == by_id_without_cost(plain)
    full = {each["id"]: each["usage"]["cost"] for each in judgements(plain)}
    ahead, *rest = judgements(run)
    assert ahead["usage"]["cost"] == full[ahead["id"]] > 0
    assert [each["usage"]["cost"] for each in rest] == pytest.approx([full[each["id"]] / 2 for each in rest])
    assert f"{QUESTIONS} new judgements" in done.out
    assert server.counts()["batch_rows"] == QUESTIONS - 1


def test_what_one_command_sent_another_collects(tmp_path, server, judge):
    run, before = a_run(tmp_path / "run", server.url), made(server)
    sent = judge(run, "--no-wait", "--batch-rows", 4)
    assert (sent.code, len(judgements(run))) == (0, 1)
    assert "11 questions in batches that go on by themselves" in sent.out and "Run the same command again" in sent.out
    names = {batch["id"] for batch in batches_of(run, server)}
    assert (len(names), made(server) - before) == (3, names)
    assert WORDS not in (run / "batches" / "judge.json").read_text(encoding="utf-8")
    time.sleep(SECONDS)
    done = judge(run)
    assert (done.code, len(by_id_without_cost(run))) == (0, QUESTIONS), done.err
    assert (made(server) - before, server.counts()["attempts"]) == (names, {"1": QUESTIONS})
    assert not (run / "batches").exists()


def test_a_file_of_questions_stays_below_its_bound_in_bytes(tmp_path, server, judge, monkeypatch):
    monkeypatch.setattr(batch_sending, "MAX_BYTES", 10_000)
    run = a_run(tmp_path / "run", server.url)
    judge(run, "--no-wait")
    sizes = [get(server, f"/files/{batch['input_file_id']}")["bytes"] for batch in batches_of(run, server)]
    assert len(sizes) > 1 and max(sizes) <= 10_000 < sizes[0] + sizes[1]
    time.sleep(SECONDS)
    assert judge(run).code == 0
    assert len(by_id_without_cost(run)) == QUESTIONS


def test_the_estimate_of_a_batch_is_half(tmp_path, server, judge, prefkit):
    run = a_run(tmp_path / "run", server.url)
    whole, half = prefkit("judge", run, "--judge", "fake", "--estimate"), judge(run, "--estimate")
    costs = [[float(cost) for cost in re.findall(r"\d+\.\d+", done.out)] for done in (whole, half)]
    assert costs[1] == pytest.approx([cost / 2 for cost in costs[0]], abs=1e-4) and costs[0][0] > 0


def test_no_text_stays_with_the_vendor_and_no_key_anywhere(tmp_path, server, judge):
    run = a_run(tmp_path / "run", server.url)
    sent = judge(run, "--no-wait")
    time.sleep(SECONDS)
    (batch,) = batches_of(run, server)
    done = judge(run)
    for file in (batch["input_file_id"], batch["output_file_id"]):
        with pytest.raises(urllib.error.HTTPError):
            get(server, f"/files/{file}")
    assert KEY not in sent.out + sent.err + done.out + done.err
    assert not [path for path in run.rglob("*") if path.is_file() and KEY in path.read_text(errors="replace")]
    assert not list(run.rglob("*.part"))


def test_answers_to_other_questions_wait_for_the_command_that_asked_them(tmp_path, server, judge):
    run = a_run(tmp_path / "run", server.url)
    judge(run, "--no-wait")
    time.sleep(SECONDS)
    some = judge(run, "--prompts", 2)
    assert (some.code, len(judgements(run))) == (0, 4), some.err
    assert "belong to other questions" in some.out
    assert judge(run).code == 0
    assert len(by_id_without_cost(run)) == QUESTIONS
    assert server.counts()["attempts"] == {"1": QUESTIONS}


def test_plain_calls_are_refused_while_the_questions_are_in_a_batch(tmp_path, server, judge, prefkit):
    run = a_run(tmp_path / "run", server.url)
    judge(run, "--no-wait")
    plain = prefkit("judge", run, "--judge", "fake")
    assert plain.code == 1 and "--batch" in plain.err
    assert judge(run).code == 0
    assert prefkit("judge", run, "--judge", "fake").code == 0


def test_policies_answer_in_batches_too(tmp_path, server, prefkit):
    run = a_run(tmp_path / "run", server.url)
    done = prefkit("generate", run, "--policy", "fake", "--batch")
    assert done.code == 0, done.err
    answers = [response for response in Run(run).responses() if response.policy == "fake"]
    assert sorted(answer.prompt_id for answer in answers) == [f"p{at}" for at in range(QUESTIONS // 2)]
    assert all(answer.text for answer in answers)


def test_a_reply_that_cannot_be_read_is_repaired_by_a_further_batch(tmp_path, judge):
    with running(batch_seconds=SECONDS, batch_prose=1.0) as server:
        run = a_run(tmp_path / "run", server.url)
        assert judge(run, "--no-wait").code == 0
        time.sleep(SECONDS)
        repairing = judge(run, "--no-wait")
        assert "11 to be repaired" in repairing.out and len(judgements(run)) == 1
        time.sleep(SECONDS)
        done = judge(run)
        assert (done.code, len(by_id_without_cost(run))) == (0, QUESTIONS), done.err
        assert [each["usage"].get("calls", 1) for each in judgements(run)] == [1] + [2] * 11
        assert not [each for each in judgements(run) if each.get("failure")]
        assert server.counts()["attempts"] == {"1": 1, "2": 11}


def test_what_the_plain_question_was_refused_is_left_out_of_the_batch(tmp_path, judge):
    with running(batch_seconds=SECONDS, no_schema=True) as server:
        run = a_run(tmp_path / "run", server.url)
        sent = judge(run, "--no-wait")
        assert "takes no JSON schema" in sent.out
        (batch,) = batches_of(run, server)
        with urllib.request.urlopen(f"{server.url}/files/{batch['input_file_id']}/content", timeout=10) as answer:
            rows = [json.loads(line) for line in answer]
        assert {row["body"]["response_format"]["type"] for row in rows} == {"json_object"}
        assert judge(run).code == 0


# --- killed ----------------------------------------------------------------------------------------------------------

AFTER = """
whole = batches.Desk.{name}
async def patched(*arguments):
    await whole(*arguments)
    die()
batches.Desk.{name} = patched
"""
AFTER_SIX_LINES = """
whole, lines = Appender.append, []
def patched(self, line):
    whole(self, line)
    lines.append(line)
    if len(lines) == 6:
        die()
Appender.append = patched
"""
BEFORE_STRIKING_OUT = """
whole = batches.Book.replace
def patched(*arguments):
    die()
batches.Book.replace = patched
"""


@pytest.mark.parametrize(
    ("patch", "lines"),
    [
        pytest.param(AFTER.format(name="upload"), 1, id="between the file and the batch"),
        pytest.param(AFTER.format(name="create"), 1, id="between the batch and its note"),
        pytest.param(AFTER_SIX_LINES, 6, id="while collecting"),
        pytest.param(BEFORE_STRIKING_OUT, QUESTIONS, id="when all is collected"),
    ],
)
def test_a_killed_command_loses_nothing_and_asks_nothing_twice(tmp_path, server, judge, patch, lines):
    run, before = a_run(tmp_path / "run", server.url), made(server)
    killed_in(run, patch)
    assert len(judgements(run)) == lines
    done = judge(run)
    assert (done.code, len(by_id_without_cost(run))) == (0, QUESTIONS), done.err
    assert len(made(server) - before) == 1
    assert server.counts()["attempts"] == {"1": QUESTIONS}
    assert not (run / "batches" / "judge.json").exists()


@pytest.mark.parametrize("name", ["upload", "create"])
def test_a_repair_is_asked_once_though_its_command_is_killed(tmp_path, judge, name):
    with running(batch_seconds=SECONDS, batch_prose=1.0) as server:
        run = a_run(tmp_path / "run", server.url)
        judge(run, "--no-wait")
        time.sleep(SECONDS)
        killed_in(run, AFTER.format(name=name))
        done = judge(run)
        assert (done.code, len(by_id_without_cost(run))) == (0, QUESTIONS), done.err
        assert server.counts()["attempts"] == {"1": 1, "2": 11}
        assert [each["usage"].get("calls", 1) for each in judgements(run)] == [1] + [2] * 11, (
            "the first replies were lost"
        )
        assert len(made(server)) == 2


def test_ctrl_c_leaves_the_batches_to_the_vendor(tmp_path, judge):
    with running(batch_seconds=4) as server:
        run = a_run(tmp_path / "run", server.url)
        line = [sys.executable, "-m", "prefkit", "judge", str(run), "--judge", "fake", "--batch"]
        with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert "questions sent" in process.stdout.readline()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        assert process.returncode == 1 and "Traceback" not in err
        assert "go on by themselves: batch_000001" in out
        assert judge(run).code == 0
        assert (len(by_id_without_cost(run)), len(made(server))) == (QUESTIONS, 1)


# --- failing ---------------------------------------------------------------------------------------------------------


def test_rows_that_failed_are_listed_and_asked_again_by_the_next_command(tmp_path, judge):
    with running(batch_seconds=SECONDS, batch_failed=0.4) as server:
        run = a_run(tmp_path / "run", server.url)
        judge(run, "--no-wait")
        time.sleep(SECONDS)
        done = judge(run)
        assert len(made(server)) == 1, "what failed is for the next command"
        missing = QUESTIONS - len(by_id_without_cost(run))
        assert done.code == 1 and 0 < missing < QUESTIONS - 1
        listed = [json.loads(line) for line in (run / "failures" / "judge.jsonl").read_text().splitlines()]
        assert [failure["reason"] for failure in listed] == ["HTTP 500: It broke. (server_error)"] * missing
        assert f"{missing} of {QUESTIONS} have no answer ({missing} failed)" in done.err
        assert not {failure["id"] for failure in listed} & set(by_id_without_cost(run))
        server.reset()
        judge(run)
        assert server.counts()["distinct"] == missing


def test_what_an_expired_batch_answered_is_kept_and_the_rest_asked_again(tmp_path, judge):
    with running(batch_seconds=SECONDS, batch_undone=0.5) as server:
        run = a_run(tmp_path / "run", server.url)
        judge(run, "--no-wait")
        time.sleep(SECONDS)
        done = judge(run)
        assert (done.code, len(by_id_without_cost(run))) == (1, 7)
        assert "expired with 5 questions unanswered" in done.err and "(0 failed)" in done.err
        assert len(made(server)) == 1, "the rest is for the next command"
        judge(run)
        assert len(by_id_without_cost(run)) == 7 + 1 + 2
        assert server.counts()["attempts"] == {"1": 10}


def test_a_batch_that_was_refused_says_why_and_keeps_nothing(tmp_path, server, judge, monkeypatch):
    run = a_run(tmp_path / "run", server.url)
    with monkeypatch.context() as patch:
        patch.setattr(batch_sending, "question", lambda name, body: b'{"custom_id": 1}\n')
        done = judge(run)
    assert done.code == 1 and "was refused: invalid_request: Line 1 is not right." in done.err
    assert judge(run).code == 0
    assert len(by_id_without_cost(run)) == QUESTIONS


def test_a_batch_that_the_vendor_does_not_know_is_not_asked_again(tmp_path, judge):
    with running() as server, running() as elsewhere:
        run = a_run(tmp_path / "run", server.url)
        judge(run, "--no-wait")
        there = (run / "models.yaml").read_text(encoding="utf-8").replace(server.url, elsewhere.url)
        (run / "models.yaml").write_text(there, encoding="utf-8")
        done = judge(run)
        assert done.code == 1 and re.search(r"no batch_\d+ at fake", done.err) and "key" in done.err
        assert not made(elsewhere)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"urls": ["http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"]}, "2 URLs"),
        ({"kind": "embedded", "urls": [], "model": None, "key-env": None}, "a model of the kind embedded"),
    ],
)
def test_batches_need_one_endpoint(tmp_path, judge, entry, words):
    run = a_run(tmp_path / "run", "http://127.0.0.1:1/v1", **entry)
    done = judge(run)
    assert done.code == 1 and words in done.err


def test_an_endpoint_without_batches_is_named(tmp_path, judge):
    with without_batches() as url:
        done = judge(a_run(tmp_path / "run", url))
    assert done.code == 1 and "fake: found no batches at" in done.err and "Leave out --batch" in done.err


@contextlib.contextmanager
def without_batches() -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        def log_message(self, *words: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()
        thread.join()


# --- budget ----------------------------------------------------------------------------------------------------------


def test_what_is_under_way_counts_against_the_budget(tmp_path, judge):
    with running(batch_seconds=60) as server:
        run = a_run(tmp_path / "run", server.url)
        first = judge(run, "--no-wait", "--max-calls", 5)
        assert first.code == 1 and "not all asked: budget" in first.err
        assert "4 questions sent" in first.out
        again = judge(run, "--no-wait", "--max-calls", 8)
        assert again.code == 1 and "2 questions sent" in again.out
        assert sum(batch["request_counts"]["total"] for batch in batches_of(run, server)) <= 6
        same = judge(run, "--no-wait", "--max-calls", 8)
        assert same.code == 1 and "questions sent" not in same.out


def test_money_is_never_passed_and_the_half_price_counts(tmp_path, judge):
    with running() as server:
        run = a_run(tmp_path / "run", server.url)
        assert judge(run, "--max-cost", 0.000001).code == 1
        assert not judgements(run) and server.counts()["requests"] == 0 and not made(server)
        sent = judge(run, "--no-wait", "--max-cost", 1.5)
    assert sent.code == 1 and "not all asked: budget" in sent.err
    (note,) = json.loads((run / "batches" / "judge.json").read_text(encoding="utf-8"))["batches"]
    left = 1.5 - judgements(run)[0]["usage"]["cost"]
    each = note["cost"] / note["calls"]
    assert note["calls"] > 1 and left - 1.1 * each < note["cost"] <= left
    assert note["cost"] < note["tokens"] * 100 / 1e6, "no token costs so little at the full price"
