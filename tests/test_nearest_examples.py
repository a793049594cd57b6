"""``prefkit judge --nearest-examples``, through the command line, against a server whose embeddings count words: texts
that share words are near."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from making import make_run, rubric

from benchmarks.chat_server import Served, embedding_of, running
from prefkit.models.chat import CallFailed
from prefkit.models.embeddings import read_embeddings
from prefkit.records import Message, Prompt, Response
from prefkit.rubric import Example, Rubric
from prefkit.run import Run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the server stops on SIGTERM")

CAT = {"prompt": "my cat died yesterday", "better": "I am sorry.", "worse": "Get a dog."}
BOSS = {"prompt": "the boss shouted over work", "better": "That must sting.", "worse": "So quit."}
SLEEP = {
    "prompt": "sleep escapes whenever night falls",
    "better": "How tiring.",
    "worse": "Count sheep.",
    "why": "Warm.",
}
EXAM = {"prompt": "exam fear before university finals", "better": "What do you fear?", "worse": "Just learn."}
PROMPTS = {
    "p1": "why did my cat have to die yesterday",
    "p2": "is it normal that a boss shouted at me about work",
    "p3": "each night i wait for sleep",
}
NEAREST = {"p1": CAT, "p2": BOSS, "p3": SLEEP}
TEXTS = {f"{prompt}/{policy}": f"{policy * 20} to {prompt}" for prompt in PROMPTS for policy in "AB"}


def with_examples(made: Rubric, **examples: list[dict[str, str]]) -> Rubric:
    principles = tuple(
        msgspec.structs.replace(one, examples=tuple(Example(**example) for example in examples.get(one.id, [])))
        for one in made.principles
    )
    return msgspec.structs.replace(made, principles=principles)


@pytest.fixture(scope="module")
def one_server() -> Iterator[Served]:
    with running() as server:
        yield server


@pytest.fixture
def server(one_server: Served) -> Served:
    one_server.reset()
    one_server.fail()
    return one_server


@pytest.fixture
def run(tmp_path: Path, server: Served) -> Run:
    own = with_examples(rubric("warm", "safe"), warm=[CAT, SLEEP], safe=[BOSS])
    made = make_run(tmp_path / "run", rubric=own, texts=TEXTS, prompts=PROMPTS)
    write_models(made, f"  near: {{model: words, urls: ['{server.url}']}}\n", server)
    return made


def write_models(run: Run, more: str, server: Served) -> None:
    (run.path / "models.yaml").write_text(f"models:\n  fake: {{model: fake, urls: ['{server.url}']}}\n{more}")


@pytest.fixture
def judge(prefkit: Callable[..., Any], run: Run) -> Callable[..., Any]:
    return lambda *options: prefkit("judge", run.path, "--judge", "fake", *options)


def near(count: int = 1, *options: object) -> tuple[object, ...]:
    return ("--nearest-examples", count, "--embedder", "near", *options)


def ids(run: Run) -> set[str]:
    return {one.id for one in run.judgements()}


def shown(server: Served) -> dict[str, list[str]]:
    """For each prompt asked about, the prompts of the examples that its questions showed, in their order."""
    found: dict[str, list[str]] = {}
    for messages in server.questions():
        words = messages[-1]["content"]
        prompt = re.findall(r"<<prompt [0-9a-f]{16}>>\n(.*)\n", words)[0]
        name = next(name for name, text in PROMPTS.items() if text == prompt)
        examples = re.findall(r"<<example \d+ [0-9a-f]{16}>>\nPrompt: (.*)\n", words)
        assert found.setdefault(name, examples) == examples
    return found


def lines(path: Path, *examples: dict[str, str]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in examples))
    return path


def test_the_example_shown_is_the_one_whose_prompt_is_nearest(judge, run, server):
    outcome = judge(*near())
    assert outcome.code == 0, outcome.err
    assert shown(server) == {name: [example["prompt"]] for name, example in NEAREST.items()}
    assert "embedded 3 prompts and 3 examples with near" in outcome.out
    assert len(ids(run)) == 6


def test_the_chosen_examples_take_the_place_of_those_in_the_fixed_text(judge, server):
    judge(*near())
    (system,) = {messages[0]["content"] for messages in server.questions()}
    assert not any(example["better"] in system for example in NEAREST.values())
    of_p3 = next(m[-1]["content"] for m in server.questions() if PROMPTS["p3"] in m[-1]["content"])
    assert "Better: How tiring.\nWorse: Count sheep.\nWhy: Warm.\n" in of_p3


def test_several_examples_come_with_the_nearest_first(judge, server):
    """By hand: the cosines of all examples with each prompt; among equals the order of the texts."""
    examples = [one["prompt"] for one in (CAT, BOSS, SLEEP)]
    judge(*near(3))
    for name, text in PROMPTS.items():
        cosines = {example: round(cosine(text, example), 6) for example in examples}
        assert shown(server)[name] == sorted(examples, key=lambda one: (-cosines[one], one))


def cosine(a: str, b: str) -> float:
    x, y = np.array(embedding_of(a)), np.array(embedding_of(b))
    return float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))


@pytest.mark.parametrize("ending", ["jsonl", "yaml"])
def test_examples_of_a_file_are_chosen_from_as_well(judge, server, tmp_path, ending):
    mine = {**CAT, "prompt": "why did my cat die"}
    file = tmp_path / f"mine.{ending}"
    lines(file, mine) if ending == "jsonl" else file.write_text(json.dumps([mine]))
    outcome = judge(*near(2, "--examples", file))
    assert outcome.code == 0, outcome.err
    assert shown(server)["p1"] == [mine["prompt"], CAT["prompt"]]


def test_a_question_about_one_principle_shows_examples_of_that_principle(judge, server):
    outcome = judge("--per-principle", *near())
    assert outcome.code == 0, outcome.err
    for messages in server.questions():
        about_safe = '"safe": score' in messages[0]["content"]
        assert (BOSS["better"] in messages[-1]["content"]) == about_safe


def test_an_edited_example_of_one_principle_leaves_the_answers_about_the_others(prefkit, judge, run, tmp_path):
    judge("--per-principle", *near())
    edited = with_examples(rubric("warm", "safe"), warm=[CAT, SLEEP], safe=[{**BOSS, "better": "Ouch."}])
    file = tmp_path / "edited.yaml"
    file.write_bytes(msgspec.json.encode(edited))
    assert prefkit("rubric", "use", run.path, file).code == 0
    assert "6 new judgements, 6 from before" in judge("--per-principle", *near()).out


def test_questions_in_batches_show_them(judge, run, server):
    outcome = judge("--batch", *near())
    assert outcome.code == 0, outcome.err
    assert len(ids(run)) == 6 and server.counts()["batch_rows"] == 5
    server.reset()
    assert "0 new judgements, 6 from before" in judge(*near()).out
    assert server.counts()["embedding_requests"] == 0


@pytest.mark.parametrize("mode", ["compare", "choose"])
def test_comparisons_and_choices_show_them_too(judge, server, mode):
    assert judge("--mode", mode, *near()).code == 0
    assert shown(server) == {name: [example["prompt"]] for name, example in NEAREST.items()}


def test_an_answered_question_is_neither_embedded_nor_asked_again(judge, run, server):
    judge(*near())
    before = server.counts()
    outcome = judge(*near())
    assert outcome.code == 0 and "embedded" not in outcome.out
    after = server.counts()
    assert (after["embedding_requests"], after["requests"]) == (before["embedding_requests"], before["requests"])


def test_a_run_that_goes_on_embeds_only_prompts_with_an_unanswered_question(judge, run, server):
    judge(*near())
    kept = [line for line in (run.path / "judgements.jsonl").read_text().splitlines() if '"p2/A"' not in line]
    (run.path / "judgements.jsonl").write_text("\n".join(kept) + "\n")
    server.reset()
    outcome = judge(*near())
    assert "embedded 1 prompts and 3 examples with near" in outcome.out
    assert server.counts()["embedded"] == 4
    assert server.counts()["requests"] == 1
    assert shown(server) == {"p2": [BOSS["prompt"]]}


def test_judgements_without_the_option_keep_the_ids_they_had(run, judge, server):
    """The ids by hand: what the digest has held since before there was this option."""
    import hashlib

    from prefkit.judging.questions import Form
    from prefkit.records import digest

    judge()
    assert server.counts()["embedding_requests"] == 0
    form = Form(rubric=run.rubric, mode="rate").digest
    drawn = digest({"temperature": 0.0, "max_tokens": 1024}, False)
    head = msgspec.json.encode(("judgement", "llm:fake", 0, form, drawn))
    expected = set()
    for response in run.responses():
        case = [
            msgspec.json.encode([("user", PROMPTS[response.prompt_id])]),
            f"{response.id}\n{response.text}".encode(),
        ]
        prints = b"".join(hashlib.blake2b(part, digest_size=8).digest() for part in case)
        expected.add(hashlib.blake2b(head + prints, digest_size=10).hexdigest())
    assert ids(run) == expected


def test_another_number_embedder_or_pool_is_another_question(judge, run, server, tmp_path):
    write_models(
        run, f"  near: {{model: words, urls: ['{server.url}']}}\n  far: {{model: w, urls: ['{server.url}']}}\n", server
    )
    file = lines(tmp_path / "mine.jsonl", EXAM)
    for options in (
        (),
        near(),
        near(2),
        ("--nearest-examples", 1, "--embedder", "far"),
        near(1, "--examples", file),
    ):
        assert "6 new judgements" in judge(*options).out
    file.write_text(file.read_text().replace("Just learn.", "Learn."))
    assert "6 new judgements" in judge(*near(1, "--examples", file)).out
    assert len(ids(run)) == 36


def test_the_same_pool_in_another_order_or_file_is_the_same_question(judge, run, server, tmp_path):
    judge(*near(2, "--examples", lines(tmp_path / "one.jsonl", EXAM, CAT)))
    again = lines(tmp_path / "two.jsonl", {**CAT, "prompt": f" {CAT['prompt']}\n"}, EXAM, EXAM)
    assert "0 new judgements, 6 from before" in judge(*near(2, "--examples", again)).out


def test_prompts_are_embedded_in_requests_of_64(prefkit, tmp_path, server):
    prompts = {f"p{number}": f"the boss of number {number}" for number in range(150)}
    own = with_examples(rubric("warm"), warm=[CAT, BOSS])
    run = make_run(tmp_path / "many", rubric=own, texts={f"{name}/A": name for name in prompts}, prompts=prompts)
    write_models(run, f"  near: {{model: words, urls: ['{server.url}']}}\n", server)
    outcome = prefkit("judge", run.path, "--judge", "fake", "--concurrency", 2, *near())
    assert outcome.code == 0, outcome.err
    assert server.counts()["embedded"] == 152
    assert server.counts()["embedding_requests"] == 1 + 2 + 1
    assert all(BOSS["prompt"] in messages[-1]["content"] for messages in server.questions())


def test_a_request_that_fails_for_a_while_is_made_again(judge, server):
    server.fail(shares={"503": 1.0}, attempts=1)
    outcome = judge(*near())
    assert outcome.code == 0, outcome.err
    assert server.counts()["embedding_requests"] == 2 * 2


def test_an_embedder_that_refuses_ends_the_command_before_a_judge_is_asked(judge, run, server):
    server.fail(shares={"404": 1.0})
    outcome = judge(*near(1, "--max-retries", 1))
    assert outcome.code == 1
    assert "near, http://127.0.0.1" in outcome.err and "HTTP 404" in outcome.err
    assert "Name an embedding model" in outcome.err
    assert (server.counts()["requests"], server.counts()["embedding_requests"]) == (0, 1)


def test_a_server_without_embeddings_is_asked_once(judge, run, server):
    with running(no_embeddings=True) as other:
        write_models(run, f"  near: {{model: words, urls: ['{other.url}']}}\n", server)
        outcome = judge(*near(1, "--max-retries", 1))
        assert other.counts()["embedding_requests"] == 1
    assert outcome.code == 1 and "HTTP 501: This server does not support embeddings." in outcome.err


def test_unscrubbed_texts_do_not_leave_for_an_embedder_elsewhere(judge, run, server):
    write_models(run, "  near: {model: words, urls: ['https://embeddings.example.com/v1']}\n", server)
    outcome = judge(*near())
    assert outcome.code == 1
    assert "9 texts that were not scrubbed, for near, which is not on this machine" in outcome.err
    assert "prefkit scrub" in outcome.err
    assert server.counts()["requests"] == 0


def test_scrubbed_texts_are_let_through(judge, run, server):
    write_models(run, "  near: {model: words, urls: ['https://embeddings.invalid/v1']}\n", server)
    run.replace(Prompt, [msgspec.structs.replace(one, scrubbed=True) for one in run.prompts()])
    run.replace(Response, [msgspec.structs.replace(one, scrubbed=True) for one in run.responses()])
    outcome = judge(*near(1, "--max-retries", 0))
    assert outcome.code == 1 and "not scrubbed" not in outcome.err
    assert "near, https://embeddings.invalid/v1: found" in outcome.err


def test_a_missing_key_of_the_embedder_is_said(judge, run, server, monkeypatch):
    monkeypatch.delenv("NEAR_KEY", raising=False)
    write_models(run, f"  near: {{model: words, urls: ['{server.url}'], key-env: NEAR_KEY}}\n", server)
    outcome = judge(*near())
    assert outcome.code == 1 and "export NEAR_KEY=..." in outcome.err


def test_an_estimate_sends_nothing_and_counts_the_longest_examples(judge, run, server):
    outcome = judge("--estimate", *near(2))
    assert outcome.code == 0, outcome.err
    assert "fake: 6 calls" in outcome.out
    assert "Each question is counted with the 2 longest examples it may show." in outcome.out
    assert (server.counts()["requests"], server.counts()["embedding_requests"]) == (0, 0)


def test_an_estimate_is_not_passed_by_what_is_asked(judge, run, server):
    """Four bytes a token for the prompts, and for the six replies a third of their bound of three tokens."""
    said = judge("--estimate", "--reply-tokens", 3, *near()).out
    low = int(re.findall(r"([\d,]+) to [\d,]+ tokens", said)[0].replace(",", ""))
    judge("--reply-tokens", 3, *near())
    sent = sum(len(one["content"].encode()) for messages in server.questions() for one in messages)
    assert sent // 4 + 6 <= low <= sent // 4 + 6 + 6 * 20


def test_run_json_says_what_was_chosen_from_and_no_path(judge, run, tmp_path):
    judge(*near(1, "--examples", lines(tmp_path / "mine.jsonl", EXAM)))
    stage = json.loads((run.path / "run.json").read_text())["stages"]["judge rate: fake"]
    assert stage["settings"]["nearest_examples"] == 1
    assert (stage["settings"]["embedder"], stage["settings"]["examples"]) == ("near", "mine.jsonl")
    assert len(stage["nearest_examples"]) == 1
    assert str(tmp_path) not in (run.path / "run.json").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--nearest-examples", 1), "--nearest-examples needs an --embedder"),
        (("--embedder", "near"), "--embedder goes with --nearest-examples"),
        (("--examples", "mine.jsonl"), "--examples goes with --nearest-examples"),
        (near(0), "0 is not in the range"),
    ],
)
def test_options_that_do_not_go_together_are_usage_errors(judge, options, said):
    outcome = judge(*options)
    assert outcome.code == 2 and said in outcome.err


def test_more_examples_than_there_are_is_an_error_with_a_remedy(judge, server, tmp_path):
    outcome = judge(*near(4))
    assert outcome.code == 1
    assert "found 3 contrast examples in the rubric made; expected 4 or more" in outcome.err
    assert "Give more with --examples FILE, or ask for 3 at most." in outcome.err
    file = lines(tmp_path / "mine.jsonl", EXAM)
    assert "4 contrast examples in the rubric made and mine.jsonl" in judge(*near(5, "--examples", file)).err
    assert "1 contrast example for safe in the rubric" in judge("--per-principle", *near(2)).err
    assert server.counts()["embedding_requests"] == 0


def test_a_rubric_without_examples_needs_a_file(prefkit, tmp_path, server):
    run = make_run(tmp_path / "bare", texts={"p1/A": "Mm."})
    write_models(run, f"  near: {{model: words, urls: ['{server.url}']}}\n", server)
    outcome = prefkit("judge", run.path, "--judge", "fake", *near())
    assert outcome.code == 1 and "no contrast examples in the rubric made; expected 1 or more" in outcome.err
    assert "or leave --nearest-examples out" in outcome.err


@pytest.mark.parametrize(
    ("name", "text", "place", "said"),
    [
        ("mine.jsonl", json.dumps(EXAM) + "\n\n{broken\n", ":3", "broken JSON"),
        ("mine.jsonl", json.dumps(EXAM) + "\n" + json.dumps({**EXAM, "beter": "x"}), ":2: [1].beter", "one of prompt"),
        ("mine.jsonl", '{"prompt": "a", "better": "b"}', ":1: [0]", "no 'worse'"),
        ("mine.jsonl", "[1]\n", ":1: [0]", "a list"),
        ("mine.jsonl", json.dumps({**EXAM, "worse": " "}), ":1: [0].worse", "an empty text"),
        ("mine.yaml", "- prompt: a\n  better: 3\n  worse: c\n", ":2: [0].better", "a text"),
        ("mine.yaml", "- prompt: a: b\n", ":1", "broken YAML"),
        ("mine.yaml", "prompt: a\nbetter: b\nworse: c\n", "", "a mapping; expected a list of examples"),
        ("mine.csv", "prompt,better\n", "", "'.csv'; expected .yaml or .jsonl"),
        ("mine.yaml", None, "", "no such file"),
    ],
)
def test_a_broken_file_of_examples_is_named_with_its_place(judge, server, tmp_path, name, text, place, said):
    file = tmp_path / name
    if text is not None:
        file.write_text(text)
    outcome = judge(*near(1, "--examples", file))
    assert outcome.code == 1
    assert f"{file}{place}: found" in outcome.err and said in outcome.err
    assert server.counts()["requests"] == 0


def test_a_model_inside_this_process_gives_no_embeddings(judge):
    outcome = judge("--nearest-examples", 1, "--embedder", "embedded/smollm2", "--max-retries", 0)
    assert outcome.code == 1 and "a model of the kind embedded; expected a server with /embeddings" in outcome.err


def test_a_dialogue_is_near_by_all_its_turns(prefkit, tmp_path, server):
    turns = ("hm", "hm, what brings you", "each night sleep escapes")
    talk = [Message(role=role, content=said) for role, said in zip(("user", "assistant", "user"), turns, strict=True)]
    own = with_examples(rubric("warm"), warm=[CAT, BOSS, SLEEP])
    run = make_run(tmp_path / "talk", rubric=own, texts={"p1/A": "Mm."}, prompts={"p1": talk})
    write_models(run, f"  near: {{model: words, urls: ['{server.url}']}}\n", server)
    assert prefkit("judge", run.path, "--judge", "fake", *near()).code == 0
    assert SLEEP["prompt"] in server.questions()[0][-1]["content"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>", "HTML"),
        (b"", "empty body"),
        (b'{"data": 3}', "unreadable body"),
        (b'{"data": [{"index": 0, "embedding": [1.0]}]}', "1 embeddings of 2 texts"),
        (b'{"data": [{"index": 0, "embedding": [1]}, {"index": 0, "embedding": [1]}]}', "not numbered"),
        (b'{"data": [{"index": 0, "embedding": [1]}, {"index": 1, "embedding": [1, 2]}]}', "one width"),
    ],
)
def test_an_answer_that_holds_no_vector_for_each_text_is_a_failed_call_that_may_be_made_again(body, said):
    with pytest.raises(CallFailed, match=said) as failed:
        read_embeddings(body, 2)
    assert failed.value.again


def test_vectors_come_in_the_order_of_the_texts():
    body = b'{"data": [{"index": 1, "embedding": [3, 4]}, {"index": 0, "embedding": [1, 2]}]}'
    assert read_embeddings(body, 2).tolist() == [[1, 2], [3, 4]]
