"""Generating: what is asked of which policy, what is written, what a second round asks."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest

from prefkit.errors import RunError
from prefkit.generating.settings import GenerateSettings, system_text
from prefkit.generating.stage import GenerateQuestions
from prefkit.models.chat import Model, Reply, Sampling
from prefkit.models.held import Held
from prefkit.records import Message, Prompt, Response, digest, response_id
from prefkit.rubric_files import load_rubric
from prefkit.run import Run

SIX = ("p1", "p2", "p3", "p4", "p5", "p6")


def a_prompt(name: str, **fields: Any) -> Prompt:
    return Prompt(id=name, messages=(Message(role="user", content=f"{name}: what am I to do?"),), **fields)


def a_run(folder: Path, *prompts: Prompt) -> Run:
    run = Run.create(folder / "run", load_rubric("psychocounsel"))
    run.replace(Prompt, prompts or [a_prompt(name) for name in SIX])
    return run


def questions(run: Run, *policies: str, **settings: Any) -> GenerateQuestions:
    return GenerateQuestions(run, policies or ("wren",), GenerateSettings(**settings))


def asked(stage: GenerateQuestions, policy: str = "wren", held: Held | None = None, **sampling: Any) -> list[Any]:
    """The tasks for a policy; None for what is held."""
    return list(stage.tasks(Model(policy, (), sampling=Sampling(**sampling)), held or Held()))


def answered(task: Any, text: str = "I hear you.", **fields: Any) -> Response:
    """The response that a task makes of a reply."""
    return msgspec.json.decode(task.receive(Reply(text, **fields), None), type=Response)


# --- what is asked of whom -------------------------------------------------------------------------------------------


def test_each_policy_is_asked_each_prompt_as_often_as_samples_are_wanted(tmp_path):
    stage = questions(a_run(tmp_path), "wren", "lark", samples=2)
    for policy in ("wren", "lark"):
        answers = [answered(task) for task in asked(stage, policy)]
        assert [(one.prompt_id, one.sample) for one in answers] == [(name, k) for name in SIX for k in (0, 1)]
        assert {one.policy for one in answers} == {policy}
        assert stage.total(Model(policy, ())) == 12


def test_excluded_prompts_are_passed_over_and_counted(tmp_path):
    stage = questions(a_run(tmp_path, a_prompt("p1"), a_prompt("p2", excluded="too short"), a_prompt("p3")))
    assert [answered(task).prompt_id for task in asked(stage)] == ["p1", "p3"]
    assert (stage.excluded, stage.total(Model("wren", ()))) == (1, 2)


def test_the_first_so_many_prompts_are_the_first_that_are_not_excluded(tmp_path):
    run = a_run(tmp_path, a_prompt("p1", excluded="too short"), *(a_prompt(name) for name in SIX[1:]))
    stage = questions(run, prompts=2)
    assert [answered(task).prompt_id for task in asked(stage)] == ["p2", "p3"]
    assert stage.total(Model("wren", ())) == 2


def test_prompts_that_were_not_scrubbed_are_counted_among_those_that_are_sent(tmp_path):
    run = a_run(tmp_path, a_prompt("p1", scrubbed=True), a_prompt("p2", excluded="x"), a_prompt("p3"), a_prompt("p4"))
    assert questions(run).unscrubbed == 2
    assert questions(run, prompts=1).unscrubbed == 0


BIRDS = ("wren", "lark", "rook", "kite", "crow")


def drawn(stage: GenerateQuestions) -> dict[str, set[str]]:
    """Prompt -> the policies that it is assigned to."""
    found: dict[str, set[str]] = {}
    for policy in BIRDS:
        for task in asked(stage, policy):
            found.setdefault(answered(task).prompt_id, set()).add(policy)
    return found


def test_assigning_gives_each_prompt_to_so_many_policies_evenly(tmp_path):
    run = a_run(tmp_path, *(a_prompt(f"p{number}") for number in range(50)))
    stage = questions(run, *BIRDS, assign=2)
    hands = drawn(stage)
    assert len(hands) == 50 and {len(hand) for hand in hands.values()} == {2}
    assert Counter(policy for hand in hands.values() for policy in hand) == dict.fromkeys(BIRDS, 20)
    assert {stage.total(Model(policy, ())) for policy in BIRDS} == {20}


def test_excluding_a_prompt_later_changes_nobody_elses_policies(tmp_path):
    run = a_run(tmp_path)
    before = drawn(questions(run, *BIRDS, assign=2))
    run.replace(Prompt, [a_prompt(name, excluded="too long" if name == "p2" else None) for name in SIX])
    after = drawn(questions(run, *reversed(BIRDS), assign=2))
    assert after == {name: hand for name, hand in before.items() if name != "p2"}


def test_the_seed_draws_other_policies(tmp_path):
    run = a_run(tmp_path)
    assert drawn(questions(run, *BIRDS, assign=2, seed=1)) != drawn(questions(run, *BIRDS, assign=2))


def test_without_a_prompt_to_answer_there_is_an_error(tmp_path):
    run = a_run(tmp_path, a_prompt("p1", excluded="too short"))
    with pytest.raises(RunError, match="1 prompts, all excluded"):
        questions(run)
    run.replace(Prompt, [])
    with pytest.raises(RunError, match="no prompts"):
        questions(run)


# --- ids -------------------------------------------------------------------------------------------------------------


def test_the_id_digests_all_that_was_asked_and_the_record_tells_it(tmp_path):
    run = a_run(tmp_path, a_prompt("p1"))
    stage = questions(run, samples=2, temperature=0.5, top_p=0.9, reply_tokens=64, seed=7, system="Be kind.", words=50)
    sampling = {"temperature": 0.5, "top_p": 0.9, "max_tokens": 64, "system": digest("Be kind."), "words": 50}
    for sample, task in enumerate(asked(stage)):
        expected = {**sampling, "seed": 7 + sample}
        response = answered(task)
        assert response.sampling == expected
        assert response.id == task.id == response_id("p1", "wren", expected, sample)
        assert task.request().sampling.seed == 7 + sample


def test_what_the_run_holds_is_not_asked_again(tmp_path):
    run = a_run(tmp_path)
    held = Held([task.id for task in asked(questions(run, samples=2))])
    assert asked(questions(run, samples=2), held=held) == [None] * 12
    more = asked(questions(run, samples=3), held=held)
    assert [answered(task).sample for task in more if task] == [2] * 6
    assert all(asked(questions(run, samples=2, temperature=0.5), held=held))
    assert all(asked(questions(run, samples=2, system="Be kind."), held=held))


def test_options_go_before_the_models_entry_and_the_entry_before_our_default(tmp_path):
    run = a_run(tmp_path, a_prompt("p1"))

    def sent(stage: GenerateQuestions, **entry: Any) -> Sampling:
        sampling: Sampling = asked(stage, **entry)[0].request().sampling
        return sampling

    assert sent(questions(run)) == Sampling(max_tokens=512)
    entry = {"temperature": 1.2, "max_tokens": 99, "seed": 3, "stop": ("\n\n",), "presence_penalty": 0.1}
    assert sent(questions(run), **entry) == Sampling(**entry)
    chosen = questions(run, temperature=0.0, top_p=1.0, reply_tokens=10, seed=0)
    assert sent(chosen, **entry) == Sampling(**{**entry, "temperature": 0.0, "top_p": 1.0, "max_tokens": 10, "seed": 0})


def test_each_sample_has_a_seed_of_its_own_also_where_the_seed_is_the_entrys(tmp_path):
    tasks = asked(questions(a_run(tmp_path, a_prompt("p1")), samples=3), seed=3)
    assert [task.request().sampling.seed for task in tasks] == [3, 4, 5]


# --- what a policy is shown ------------------------------------------------------------------------------------------

OWN = Prompt(
    id="p2",
    messages=(
        Message(role="system", content="A first session."),
        Message(role="user", content="I am tired."),
        Message(role="assistant", content="Since when?"),
        Message(role="user", content="May."),
    ),
)
LENGTH = "Answer in no more than 80 words."


@pytest.mark.parametrize(
    ("settings", "plain", "own"),
    [
        ({}, None, "A first session."),
        ({"system": "Be kind."}, "Be kind.", "A first session."),
        ({"words": 80}, LENGTH, f"A first session. {LENGTH}"),
        ({"system": "Be kind.", "words": 80}, f"Be kind. {LENGTH}", f"A first session. {LENGTH}"),
    ],
)
def test_the_system_prompt_is_for_dialogues_without_one_and_the_length_for_all(tmp_path, settings, plain, own):
    run = a_run(tmp_path, a_prompt("p1"), OWN)
    first, second = (task.request().messages for task in asked(questions(run, **settings)))
    assert [message.content for message in first if message.role == "system"] == ([plain] if plain else [])
    assert first[-1] == a_prompt("p1").messages[0]
    assert second == (Message(role="system", content=own), *OWN.messages[1:])


def test_a_system_prompt_that_a_dialogue_does_not_get_is_not_in_its_id(tmp_path):
    run = a_run(tmp_path, OWN)
    assert asked(questions(run, system="Be kind."))[0].id == asked(questions(run))[0].id


def test_a_system_prompt_is_a_text_or_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("therapist.txt").write_text("You are a therapist.\nBe kind.\n", encoding="utf-8")
    assert system_text("therapist.txt") == "You are a therapist.\nBe kind."
    assert system_text("Be kind. Ask.") == "Be kind. Ask."
    assert system_text("Listen.") == "Listen."
    assert system_text("Be kind. " * 1000) == ("Be kind. " * 1000).strip()


@pytest.mark.parametrize("value", ["therapst.txt", "prompts/therapist", "", " "])
def test_a_system_prompt_that_cannot_be_meant_is_refused(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="--system: found "):
        system_text(value)


def test_a_system_prompt_that_is_no_text_is_refused(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(b"\x89PNG\xff")
    with pytest.raises(RunError, match="cannot be read"):
        system_text(str(path))


# --- what is written -------------------------------------------------------------------------------------------------


def test_marks_finish_and_the_number_of_marks_are_kept(tmp_path):
    stage = questions(a_run(tmp_path))
    one, two, three, *_ = asked(stage)
    assert answered(one, "I hear", finish="length").marks == ("cut-off",)
    assert answered(two, "I hear you.\nClient: Do you?", finish="stop").marks == ("multi-speaker",)
    good = answered(three, " I hear you.\n", finish="stop")
    assert (good.text, good.marks, good.finish) == ("I hear you.", (), "stop")
    assert stage.marked == {"cut-off": 1, "multi-speaker": 1}


def test_thinking_is_no_part_of_the_answer(tmp_path):
    task = asked(questions(a_run(tmp_path)))[0]
    assert answered(task, "<think>She grieves.</think>\n\nI am sorry.", finish="stop").text == "I am sorry."
    unfinished = answered(task, "<think>She grieves, and", finish=None)
    assert (unfinished.text, unfinished.marks) == ("", ("empty", "cut-off"))


def test_a_response_is_left_for_scrub_to_look_at(tmp_path):
    run = a_run(tmp_path, a_prompt("p1", scrubbed=True))
    assert answered(asked(questions(run))[0]).scrubbed is False


def test_run_json_keeps_every_system_prompt_by_its_digest(tmp_path):
    run = a_run(tmp_path)
    run.record_stage("generate: lark", **questions(run, system="Be kind.").facts())
    facts = questions(run, system="Be brief.", samples=3).facts()
    assert facts["systems"] == {digest(text): text for text in ("Be kind.", "Be brief.")}
    assert facts["settings"]["samples"] == 3


def test_run_json_names_the_policies_that_were_drawn_from(tmp_path):
    run = a_run(tmp_path)
    assert questions(run, *BIRDS, assign=2).facts()["drawn_from"] == sorted(BIRDS)
    assert questions(run, *BIRDS).facts()["drawn_from"] == []


# --- the whole command, over HTTP ------------------------------------------------------------------------------------


@dataclass
class FakeServer:
    """A server of chat completions: ``answer`` makes a reply of a request's body; ``bodies`` are those it had."""

    answer: Callable[[dict[str, Any]], str] = lambda body: "I hear you."
    bodies: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            fake.bodies.append(body)
            text = fake.answer(body)
            status = 200 if text else 500
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
            raw = json.dumps({"choices": [choice], "usage": usage}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        fake.url = f"http://127.0.0.1:{listening.server_port}/v1"
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield fake
        listening.shutdown()
        thread.join()


def with_models(run: Run, server: FakeServer, *names: str) -> Path:
    """A models.yaml in the run that names models of the server."""
    entries = "".join(f"  {name}:\n    urls: [{server.url}]\n" for name in names)
    (run.path / "models.yaml").write_text(f"models:\n{entries}", encoding="utf-8")
    return run.path


def test_the_command_asks_appends_and_asks_nothing_twice(tmp_path, prefkit, server):
    folder = with_models(a_run(tmp_path), server, "wren", "lark")
    command = ("generate", folder, "--policy", "wren", "--policy", "lark", "--temperature", "0.7")
    done = prefkit(*command)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("responses.jsonl: 12 new responses, 0 from before\n")
    found = list(Run(folder).responses())
    assert Counter((one.prompt_id, one.policy) for one in found) == {(p, m): 1 for p in SIX for m in ("wren", "lark")}
    assert {(one.text, one.finish, one.usage.prompt, one.usage.completion) for one in found if one.usage} == {
        ("I hear you.", "stop", 10, 5)
    }
    assert {body["temperature"] for body in server.bodies} == {0.7}
    assert prefkit(*command).out.startswith("responses.jsonl: 0 new responses, 12 from before\n")
    assert len(server.bodies) == 12
    assert Run(folder).info.stages["generate: lark"]["settings"]["temperature"] == 0.7


def test_what_failed_is_told_and_asked_by_the_next_command(tmp_path, prefkit, server):
    folder = with_models(a_run(tmp_path), server, "wren")
    server.answer = lambda body: "" if "p3" in body["messages"][-1]["content"] else "I hear you."
    command = ("generate", folder, "--policy", "wren", "--max-retries", "0")
    failed = prefkit(*command)
    assert failed.code == 1
    assert "failed: response to p3 by wren: " in failed.err and "1 of 6 have no answer" in failed.err
    server.answer = lambda body: "And now?"
    assert prefkit(*command).out.startswith("responses.jsonl: 1 new responses, 5 from before\n")
    assert {one.prompt_id for one in Run(folder).responses()} == set(SIX)


def test_the_command_takes_a_system_prompt_from_a_file(tmp_path, prefkit, server):
    path = tmp_path / "therapist.txt"
    path.write_text("Be kind.\n", encoding="utf-8")
    prefkit("generate", with_models(a_run(tmp_path), server, "wren"), "--policy", "wren", "--system", path)
    assert {body["messages"][0]["content"] for body in server.bodies} == {"Be kind."}


def test_marks_and_excluded_prompts_are_told(tmp_path, prefkit, server):
    run = a_run(tmp_path, a_prompt("p1"), a_prompt("p2", excluded="too short"), a_prompt("p3"))
    server.answer = lambda body: "Yes. " + "I am here for you now. " * 9
    out = prefkit("generate", with_models(run, server, "wren"), "--policy", "wren").out
    assert "passed over: 1 excluded prompts\n" in out and "  marked: 2 looping\n" in out


def test_an_estimate_sends_nothing(tmp_path, prefkit, server):
    folder = with_models(a_run(tmp_path), server, "wren")
    out = prefkit("generate", folder, "--policy", "wren", "--samples", 2, "--estimate").out
    assert out.startswith("wren: 12 calls, ") and server.bodies == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--assign", 2), "--assign 2 needs as many policies; there are 1."),
        (("--policy", "wren", "--assign", 2), "there are 1."),
        (("--samples", 2, "--temperature", 0), "asks for one answer many times"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, prefkit, options, words):
    outcome = prefkit("generate", a_run(tmp_path).path, "--policy", "wren", *options)
    assert outcome.code == 2 and words in outcome.err
