"""``prefkit judge``, as a process, against a server that fails in every way it can.

Whatever the server does, a question is judged as a well server would have it, or listed with a reason and asked again
by the same command; nothing is lost, nothing stands twice, and no key is written anywhere.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chat_server import FAULTS, Served, running
from benchmarks.judge import command, copied, judgements, killed, listed, new_run, point_at, settled
from prefkit.records import Rating

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX here")

ITEMS = 24
KEY = "sk-0123456789abcdef"
HOPELESS = {"401": "Incorrect API key", "404": "does not exist", "quota": "quota"}
UNHURT = ("twice", "twice-late")
"""Faults that leave a good answer: it is not asked for again."""
MENDED = [fault for fault in FAULTS if fault not in (*HOPELESS, "400")]


@dataclass(frozen=True)
class Done:
    """A finished command, its run, and what the server counted."""

    code: int
    words: str
    run: Path
    counts: dict[str, Any]


def judge(run: Path, server: Served, *options: object, **variables: str) -> Done:
    server.reset()
    point_at(run, server.url)
    done = subprocess.run(
        command(run, *options), capture_output=True, text=True, env={**os.environ, **variables}, timeout=60, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout + done.stderr, run, server.counts())


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with running(latency=0.02) as served:
        yield served


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, server: Served) -> Path:
    return new_run(tmp_path_factory.mktemp("faults") / "made", ITEMS, server.url)


@pytest.fixture(scope="module")
def truth(made: Path, server: Served) -> dict[str, Rating]:
    """The judgements by id, as the server gives them when it is well."""
    server.fail()
    done = judge(copied(made, made.with_name("well")), server)
    assert done.code == 0
    return {each.id: each for each in judgements(done.run)}


@pytest.fixture
def run(made: Path, tmp_path: Path, server: Served, truth: dict[str, Rating]) -> Path:
    """A fresh run; the server is well."""
    server.fail()
    return copied(made, tmp_path / "run")


# One kind of fault at a time


@dataclass(frozen=True)
class Hit:
    """What became of the questions whose first attempt failed in one way, and what their server counted."""

    found: list[Rating]
    counts: dict[str, Any]


@pytest.fixture(scope="module")
def outcomes(made: Path) -> dict[str, Hit]:
    """Each fault -> what it led to. One command asks as many judges, each at a server of its own."""
    run = copied(made, made.with_name("hit"))
    with ExitStack() as stack, ThreadPoolExecutor(4) as pool:
        servers = list(pool.map(lambda _: stack.enter_context(running(latency=0.02)), MENDED))
        for server, fault in zip(servers, MENDED, strict=True):
            server.fail(shares={fault: 1}, attempts=1, retry_after=0.2)
        models = {fault: {"model": "fake", "urls": [server.url]} for server, fault in zip(servers, MENDED, strict=True)}
        (run / "models.yaml").write_text(json.dumps({"models": models}))
        judges = [option for fault in MENDED for option in ("--judge", fault)]
        line = [sys.executable, "-m", "prefkit", "judge", str(run), *judges, "--concurrency", "8", "--timeout", "3"]
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0 and not listed(run), done.stderr
        found = judgements(run)
        return {
            fault: Hit([each for each in found if each.annotator == f"llm:{fault}"], server.counts())
            for server, fault in zip(servers, MENDED, strict=True)
        }


@pytest.mark.parametrize("fault", MENDED)
def test_a_passing_fault_leaves_every_question_judged_as_a_well_server_would(
    fault: str, outcomes: dict[str, Hit], truth: dict[str, Rating]
) -> None:
    hit = outcomes[fault]
    assert hit.counts["faults"] == {fault: ITEMS}
    assert len(hit.found) == ITEMS and all(each.failure is None for each in hit.found)
    scores = {each.response_id: each.scores for each in truth.values()}
    assert {each.response_id: each.scores for each in hit.found} == scores


@pytest.mark.parametrize("fault", [fault for fault in MENDED if fault not in UNHURT])
def test_a_fault_costs_one_more_attempt_and_no_more(fault: str, outcomes: dict[str, Hit]) -> None:
    assert outcomes[fault].counts["attempts"] == {"2": ITEMS}


def test_copies_of_answers_that_come_late_are_never_taken_for_answers_to_other_questions(tmp_path: Path) -> None:
    with running(latency=0.02) as server:
        run = new_run(tmp_path / "run", 200, server.url)
        well = judge(copied(run, tmp_path / "well"), server)
        server.fail(shares={"twice-late": 0.3})
        hit = judge(run, server)
    assert hit.counts["faults"]["twice-late"] > 30
    assert as_true(run, {each.id: each for each in judgements(well.run)})


# Faults that stay


def as_true(run: Path, truth: dict[str, Rating]) -> bool:
    """Whether each question stands once, with the scores that a well server gives."""
    found = [(each.id, each.scores) for each in judgements(run)]
    return sorted(found, key=str) == sorted(((name, each.scores) for name, each in truth.items()), key=str)


def test_what_cannot_be_answered_is_listed_with_its_reason_and_asked_again_alone(
    run: Path, server: Served, truth: dict[str, Rating]
) -> None:
    server.fail(shares={"400": 1}, questions=0.3)
    first = judge(run, server)
    missing, stored = listed(run), [each.id for each in judgements(run)]
    assert first.code == 1
    assert 2 <= len(missing) < ITEMS / 2 and f"{len(missing)} of {ITEMS} have no answer" in first.words
    assert all("content_policy_violation" in reason for reason in missing.values())
    assert sorted([*stored, *missing]) == sorted(truth)
    assert first.counts["requests"] == ITEMS

    second = judge(run, server)
    assert (second.code, second.counts["requests"], listed(run).keys()) == (1, len(missing), missing.keys())

    server.fail()
    third = judge(run, server)
    assert (third.code, third.counts["requests"], listed(run)) == (0, len(missing), {})
    assert as_true(run, truth)


def test_what_fails_at_every_try_is_listed_after_the_last_one(run: Path, server: Served) -> None:
    server.fail(shares={"500": 1}, questions=0.3)
    done = judge(run, server, "--max-retries", 1)
    missing = listed(run)
    assert done.code == 1 and len(judgements(run)) == ITEMS - len(missing)
    assert done.counts["attempts"] == {"1": ITEMS - len(missing), "2": len(missing)}
    assert all("500" in reason for reason in missing.values())


def test_a_reply_that_stays_unreadable_is_kept_with_its_words_and_no_score(run: Path, server: Served) -> None:
    server.fail(shares={"out-of-range": 1}, questions=0.3)
    judge(run, server)
    found = judgements(run)
    unread = [each for each in found if each.failure is not None]
    assert len(found) == ITEMS and 2 <= len(unread) < ITEMS
    assert all("99" in (each.reply or "") and set(each.scores.values()) == {None} for each in unread)
    assert all(None not in each.scores.values() for each in found if each.failure is None)


def test_a_server_that_only_says_429_ends_the_command_with_exit_code_1_and_no_rows(run: Path, server: Served) -> None:
    server.fail(shares={"429": 1})
    start = time.monotonic()
    done = judge(run, server, "--patience", 1.5, "--max-retries", 50)
    assert done.code == 1 and time.monotonic() - start < 12
    assert judgements(run) == [] and f"{ITEMS} of {ITEMS} have no answer" in done.words and "429" in done.words


@pytest.mark.parametrize("fault", HOPELESS)
def test_an_endpoint_without_hope_is_given_up_at_once_with_one_message(run: Path, server: Served, fault: str) -> None:
    server.fail(shares={fault: 1})
    done = judge(run, server, "--concurrency", 4)
    assert done.code == 1 and judgements(run) == []
    assert done.counts["requests"] <= 4 + 3
    assert sum(HOPELESS[fault] in line and "not all asked" in line for line in done.words.splitlines()) == 1


def test_a_server_without_json_schemas_is_asked_in_words(run: Path, truth: dict[str, Rating]) -> None:
    with running(no_schema=True) as server:
        done = judge(run, server)
    assert done.code == 0 and "takes no JSON schema" in done.words
    assert as_true(run, truth)


def test_a_server_with_little_room_gets_everything_answered(run: Path, truth: dict[str, Rating]) -> None:
    with running(latency=0.05, most=4) as server:
        done = judge(run, server)
    assert done.code == 0 and done.counts["peak_in_flight"] <= 4
    assert as_true(run, truth)


# Keys


@pytest.mark.parametrize("fault", ["401", "500"])
def test_a_key_is_sent_and_stands_nowhere_else(run: Path, fault: str) -> None:
    with running(key=KEY) as server:
        server.fail(shares={fault: 1}, attempts=1)
        point_at(run, server.url)
        entry = (run / "models.yaml").read_text().replace('"model"', '"key-env": "BENCH_KEY", "model"')
        (run / "models.yaml").write_text(entry)
        done = subprocess.run(
            command(run), capture_output=True, text=True, env={**os.environ, "BENCH_KEY": KEY}, check=False
        )
        assert server.counts()["refused"] == 0 and server.counts()["requests"] > 0
    assert done.returncode == (fault == "401")
    assert KEY not in done.stdout + done.stderr
    assert ("[key]" in done.stderr) == (fault == "401")
    files = [path for path in run.rglob("*") if path.is_file()]
    assert len(files) > 4 and all(KEY.encode() not in path.read_bytes() for path in files)


# Kills and Ctrl-C


def test_after_kill_9_nothing_is_lost_or_twice_and_only_what_was_in_flight_is_asked_again(tmp_path: Path) -> None:
    rng = random.Random(5)
    with running(latency=0.1, jitter=0.1) as server:
        run = new_run(tmp_path / "run", 300, server.url)
        for _ in range(4):
            start = server.counts()["requests"]
            with subprocess.Popen(command(run), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                while server.counts()["requests"] == start:
                    assert process.poll() is None
                    time.sleep(0.01)
                time.sleep(rng.uniform(0, 0.4))
                process.kill()
            settled(server)
        assert killed(command(run), rng.uniform(0.1, 0.3)) is None
        assert killed(command(run), None) == 0
        seen = server.counts()
    found = [each.id for each in judgements(run)]
    assert len(found) == len(set(found)) == seen["distinct"] == 300
    assert seen["abandoned"] > 0 and seen["requests"] - 300 <= seen["abandoned"] + seen["left"]


def interrupted(run: Path, server: Served, times: int) -> tuple[int, dict[str, Any]]:
    """Press Ctrl-C so many times when the first requests are in flight: exit code and counts."""
    server.reset()
    point_at(run, server.url)
    with subprocess.Popen(
        command(run, "--concurrency", 8), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        while server.counts()["in_flight"] < 8:
            assert process.poll() is None
            time.sleep(0.02)
        for _ in range(times):
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        code = process.wait(30)
    settled(server)
    return code, server.counts()


def test_ctrl_c_waits_for_what_is_in_flight_and_a_second_one_does_not(run: Path, server: Served) -> None:
    with running(latency=1.5) as slow:
        code, seen = interrupted(run, slow, 1)
        assert code not in (0, -signal.SIGINT)
        assert (seen["requests"], seen["answered"], seen["abandoned"], len(judgements(run))) == (8, 8, 0, 8)

        code, seen = interrupted(run, slow, 2)
        assert code not in (0, -signal.SIGINT)
        assert (seen["requests"], seen["answered"], seen["abandoned"], len(judgements(run))) == (8, 0, 8, 8)

    done = judge(run, server)
    assert (done.code, done.counts["requests"], len(judgements(run))) == (0, ITEMS - 8, ITEMS)


def test_a_second_command_on_the_same_run_is_refused_while_the_first_one_asks(run: Path) -> None:
    with running(latency=30) as server:
        point_at(run, server.url)
        with subprocess.Popen(command(run), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            while server.counts()["in_flight"] < ITEMS:
                assert process.poll() is None
                time.sleep(0.02)
            other = subprocess.run(command(run), capture_output=True, text=True, check=False)
            process.kill()
        assert other.returncode == 1 and f"in use by process {process.pid}" in other.stderr
        assert server.counts()["requests"] == ITEMS
