"""Replies kept in a file and given again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from prefkit.errors import PrefkitError
from prefkit.models.catalogue import Catalogue
from prefkit.models.chat import CallFailed, Endpoint, Reply, Request, Sampling, Token
from prefkit.models.opening import opened
from prefkit.models.replay import Recorder, ReplayEndpoint
from prefkit.records import Message, Usage


class Scripted:
    """Answers with the next of its replies."""

    def __init__(self, *replies: Reply | CallFailed) -> None:
        self.most: int | None = 3
        self.notes: dict[str, str] = {}
        self._replies = iter(replies)

    async def ask(self, request: Request) -> Reply:
        reply = next(self._replies)
        if isinstance(reply, CallFailed):
            raise reply
        return reply


def question(words: str, seed: int | None = None) -> Request:
    return Request((Message(role="user", content=words),), Sampling(seed=seed))


def ask(endpoint: Endpoint, *requests: Request) -> list[Reply]:
    async def all_of_them() -> list[Reply]:
        return [await endpoint.ask(request) for request in requests]

    return asyncio.run(all_of_them())


def recorded(path: Path, *asked: tuple[Request, Reply]) -> None:
    with Recorder(Scripted(*(reply for _, reply in asked)), path) as recorder:
        ask(recorder, *(request for request, _ in asked))


FULL = Reply(
    "Since when?",
    "stop",
    Usage(prompt=9, completion=3, cached=4),
    (Token("Since", -0.25, (("Since", -0.25), ("How", -1.5))),),
)


def test_a_recorded_reply_comes_back_whole(tmp_path):
    path = tmp_path / "answers.jsonl"
    recorded(path, (question("I wake at four."), FULL), (question("And now?"), Reply("Hm.")))
    assert ask(ReplayEndpoint(path), question("And now?"), question("I wake at four.")) == [Reply("Hm."), FULL]


def test_the_words_of_a_question_are_not_kept(tmp_path):
    path = tmp_path / "answers.jsonl"
    recorded(path, (question("I wake at four."), FULL))
    assert "four" not in path.read_text()


def test_samples_of_one_question_come_in_turn_and_none_twice(tmp_path):
    path = tmp_path / "answers.jsonl"
    recorded(path, (question("q"), Reply("first")), (question("q"), Reply("second")))
    endpoint = ReplayEndpoint(path)
    assert [reply.text for reply in ask(endpoint, question("q"), question("q"))] == ["first", "second"]
    with pytest.raises(CallFailed, match="not recorded"):
        ask(endpoint, question("q"))


def test_a_sample_is_found_by_its_seed_in_whatever_order_it_is_asked(tmp_path):
    path = tmp_path / "answers.jsonl"
    recorded(path, *((question("q", seed), Reply(f"seed {seed}")) for seed in (7, 8, 9)))
    replies = ask(ReplayEndpoint(path), question("q", 9), question("q", 7), question("q", 5))
    assert [reply.text for reply in replies] == ["seed 9", "seed 7", "seed 8"]


def test_what_was_not_recorded_fails_for_good(tmp_path):
    path = tmp_path / "answers.jsonl"
    recorded(path, (question("q"), Reply("a")))
    with pytest.raises(CallFailed) as caught:
        ask(ReplayEndpoint(path), question("other"))
    assert (caught.value.reason, caught.value.again) == ("not recorded", False)


def test_a_failed_call_is_not_recorded_and_a_second_recording_adds_to_the_first(tmp_path):
    path = tmp_path / "answers.jsonl"
    with Recorder(Scripted(CallFailed("HTTP 500"), Reply("a")), path) as recorder:
        with pytest.raises(CallFailed):
            ask(recorder, question("q"))
        ask(recorder, question("q"))
    recorded(path, (question("r"), Reply("b")))
    assert [reply.text for reply in ask(ReplayEndpoint(path), question("r"), question("q"))] == ["b", "a"]


def test_a_line_that_a_crash_cut_short_is_passed_over_and_recorded_over(tmp_path):
    path = tmp_path / "answers.jsonl"
    recorded(path, (question("q"), Reply("a")))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    assert ask(ReplayEndpoint(path), question("q"))[0].text == "a"
    recorded(path, (question("r"), Reply("b")))
    assert ask(ReplayEndpoint(path), question("r"))[0].text == "b"


def test_a_broken_line_is_an_error_with_its_number(tmp_path):
    path = tmp_path / "answers.jsonl"
    recorded(path, (question("q"), Reply("a")))
    with open(path, "a") as file:
        file.write('{"asked": "x"}\n')
    with pytest.raises(PrefkitError, match=r"answers.jsonl:2.*reply"):
        ReplayEndpoint(path)
    with pytest.raises(PrefkitError, match="no such file"):
        ReplayEndpoint(tmp_path / "none.jsonl")


def test_models_yaml_records_a_model_and_replays_it(tmp_path):
    """The model that is recorded is itself a replay, so that nothing else is needed."""
    recorded(tmp_path / "old.jsonl", (question("q"), FULL))
    (tmp_path / "models.yaml").write_text(
        "models:\n"
        "  kept: {kind: replay, file: old.jsonl, record: new.jsonl}\n"
        "  again: {kind: replay, file: new.jsonl}\n"
    )
    catalogue = Catalogue.load(tmp_path)

    async def asked(name: str) -> Reply:
        async with opened([catalogue.entry(name)], timeout=5, concurrency=4) as (model,):
            return await model.endpoints[0].ask(question("q"))

    assert asyncio.run(asked("kept")) == FULL
    assert asyncio.run(asked("again")) == FULL
