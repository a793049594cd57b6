"""Multiple-choice questions: read from any file, asked, counted, compared."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tiny import tiny_model

from prefkit.errors import InputError, PrefkitError
from prefkit.policies.knowledge import Taken, letter_of, measure, option_log_probs, take
from prefkit.policies.opening import open_policy
from prefkit.policies.suites import Question, Suite, read_suite

ROWS = [
    {
        "question": "Who may break a confidence?",
        "options": ["Nobody", "The helper, where a life is at risk"],
        "answer": 1,
    },
    {"question": "What is reflected?", "options": ["The feeling", "The weather", "A fee"], "answer": 0},
    {"question": "When is a plan made?", "options": ["Never", "Together", "At night", "By post"], "answer": 3},
]
RIGHT = (1, 0, 3)


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    """The rows in the format of the ending."""
    if path.suffix == ".csv":
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def as_letters(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "answer": "ABCD"[row["answer"]]}


def as_words(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "answer": row["options"][row["answer"]]}


def as_object(row: dict[str, Any]) -> dict[str, Any]:
    return {**as_letters(row), "options": dict(zip("ABCD", row["options"], strict=False))}


def as_columns(row: dict[str, Any]) -> dict[str, Any]:
    """As CounselingBench has them: ``Choice A``, and the answer's words."""
    options = row["options"] + [""] * (4 - len(row["options"]))
    choices = {f"Choice {letter}": option for letter, option in zip("ABCD", options, strict=True)}
    return {"Question": row["question"], **choices, "Correct Answer": row["options"][row["answer"]]}


def as_cells(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "options": json.dumps(row["options"])}


def from_one(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "answer": row["answer"] + 1}


@pytest.mark.parametrize(
    ("shape", "ending"),
    [
        (dict, "jsonl"),
        (dict, "parquet"),
        (as_letters, "jsonl"),
        (as_words, "jsonl"),
        (as_object, "jsonl"),
        (as_columns, "csv"),
        (as_cells, "csv"),
        (from_one, "jsonl"),
    ],
)
def test_questions_are_read_whatever_their_shape(tmp_path, shape, ending):
    suite = read_suite(written(tmp_path / f"suite.{ending}", [shape(row) for row in ROWS]))
    assert [one.answer for one in suite.questions] == list(RIGHT)
    assert [list(one.options) for one in suite.questions] == [row["options"] for row in ROWS]
    assert suite.left_out == {}


def test_options_that_are_numbers_are_meant_by_an_answer_that_is_one_of_them(tmp_path):
    rows = [{"question": "How many sessions?", "A": "6", "B": "2", "C": "1", "answer": "2"}]
    assert read_suite(written(tmp_path / "suite.csv", rows)).questions[0].answer == 1


def test_indices_that_may_begin_at_0_or_1_are_asked_for(tmp_path):
    path = written(tmp_path / "suite.jsonl", [{**ROWS[2], "answer": 2}, {**ROWS[1], "answer": 1}])
    with pytest.raises(InputError, match="--index-from"):
        read_suite(path)
    assert [one.answer for one in read_suite(path, index_from=1).questions] == [1, 0]


def test_bad_rows_are_left_out_and_counted_by_reason(tmp_path):
    bad = [
        {"question": "", "options": ["a b", "b c"], "answer": "A"},
        {"question": "One?", "options": ["only"], "answer": "A"},
        {"question": "Twice?", "options": ["same", "same"], "answer": "A"},
        {"question": "None?", "options": ["yes", "no"], "answer": None},
        {"question": "Which?", "options": ["yes", "no"], "answer": "C"},
        {"question": "Words?", "options": ["yes", "no"], "answer": "perhaps"},
    ]
    path = written(tmp_path / "suite.jsonl", [*map(as_letters, ROWS), *bad])
    with open(path, "a") as file:
        file.write("{broken\n")
    suite = read_suite(path)
    assert len(suite.questions) == 3
    assert suite.left_out == {
        "no question": 1,
        "fewer than two options": 1,
        "the same option twice": 1,
        "no answer": 1,
        "answer not among the options": 2,
        "broken": 1,
    }


def test_a_file_without_questions_says_what_it_has(tmp_path):
    path = written(tmp_path / "suite.jsonl", [{"frage": "Wer?", "antwort": "Ich"}])
    with pytest.raises(InputError, match=r"columns frage, antwort \(1 no question\)"):
        read_suite(path)


def test_what_belongs_before_a_question_is_put_there(tmp_path):
    rows = [{**as_columns(row), "Case": "Ana, 34.", "Competency": "Ethics"} for row in ROWS]
    suite = read_suite(written(tmp_path / "suite.csv", rows), context=["Case"])
    assert suite.questions[0].text == "Ana, 34.\n\nWho may break a confidence?"
    assert suite.questions[0].category == "Ethics"


# --- asking ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    return open_policy(tiny_model(tmp_path_factory.mktemp("policy")))


QUESTIONS = [Question(place, row["question"], tuple(row["options"]), row["answer"]) for place, row in enumerate(ROWS)]


def test_the_likelihood_of_an_option_is_what_one_forward_says(policy):
    model, tokenizer = policy
    taken = take(model, tokenizer, QUESTIONS, "tiny")
    for question, scores in zip(QUESTIONS, taken.scores, strict=True):
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": question.text}], tokenize=False, add_generation_prompt=True
        )
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        for option, score in zip(question.options, scores, strict=True):
            said = tokenizer(option, add_special_tokens=False)["input_ids"]
            with torch.no_grad():
                logprobs = model(torch.tensor([ids + said])).logits[0].log_softmax(-1)
            by_hand = sum(float(logprobs[len(ids) + place - 1, word]) for place, word in enumerate(said))
            assert score == pytest.approx(by_hand, abs=1e-3)
    assert taken.options.tolist() == [int(np.argmax(one)) for one in taken.scores]


def test_normalised_likelihoods_are_divided_by_length(policy):
    plain, tokens, letters = (
        take(*policy, QUESTIONS, "tiny", normalised=how).scores for how in ("none", "tokens", "characters")
    )
    for question, one, by_token, by_letter in zip(QUESTIONS, plain, tokens, letters, strict=True):
        sizes = [len(option) for option in question.options]
        assert by_letter == pytest.approx([value / size for value, size in zip(one, sizes, strict=True)])
        assert by_token == pytest.approx(by_letter)  # a token a byte


def test_letters_are_asked_with_the_options_before_them(policy):
    taken = take(*policy, QUESTIONS, "tiny", by="letter")
    assert [len(one) for one in taken.scores] == [2, 3, 4]


def test_a_base_without_chat_template_is_asked_but_not_to_answer(tmp_path):
    folder = tiny_model(tmp_path)
    (folder / "chat_template.jinja").unlink()
    model, tokenizer = open_policy(folder)
    assert len(take(model, tokenizer, QUESTIONS, "base").scores) == 3
    with pytest.raises(PrefkitError, match="base: found a tokenizer without a chat template"):
        take(model, tokenizer, QUESTIONS, "base", by="answer")


def test_a_question_longer_than_the_context_is_said(tmp_path):
    model, tokenizer = open_policy(tiny_model(tmp_path, max_position_embeddings=50))
    with pytest.raises(PrefkitError, match=r"row 0, .* tokens with its longest option"):
        take(model, tokenizer, QUESTIONS, "tiny")


def test_a_model_that_was_taught_the_answers_is_right(tmp_path):
    """The likeliest option is the one whose words it was trained on, not the shortest or the first."""
    model, tokenizer = open_policy(tiny_model(tmp_path, num_hidden_layers=1, initializer_range=0.05))
    rows = []
    for question in QUESTIONS:
        text, option = question.text, question.options[question.answer]
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], tokenize=False, add_generation_prompt=True
        )
        rows.append(torch.tensor([tokenizer(prompt + option, add_special_tokens=False)["input_ids"]]))
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        for ids in rows:
            optimiser.zero_grad()
            model(input_ids=ids, labels=ids).loss.backward()
            optimiser.step()
    assert take(model, tokenizer, QUESTIONS, "taught", normalised="tokens").options.tolist() == list(RIGHT)


REPLIES = {
    "B": 1,
    "B.": 1,
    "(C)": 2,
    "**D** because": 3,
    "The correct answer is (B).": 1,
    "The answer is: C. Together": 2,
    "Answer: D": 3,
    "<think>Is it A? The answer is A.</think>B": 1,
    "I would say Together, as both decide.": 1,
    "A person may feel that way.": -1,
    "The answer is A. No, the answer is B.": -1,
    "It depends.": -1,
    "": -1,
    "E": -1,
}


@pytest.mark.parametrize("reply", REPLIES)
def test_the_letter_is_found_in_what_was_written(reply):
    assert letter_of(reply, ["Never", "Together", "At night", "By post"]) == REPLIES[reply]


def test_the_written_letters_are_kept_with_the_replies(policy):
    taken = take(*policy, QUESTIONS, "tiny", by="answer")
    assert [letter_of(reply, one.options) for reply, one in zip(taken.replies, QUESTIONS, strict=True)] == list(
        taken.options
    )


def test_a_prompt_is_read_once_whatever_the_order(policy):
    model, _ = policy
    prompts, said = [[1, 5, 9, 7], [1, 8]], [[[4, 5], [6]], [[7, 7, 7], [5], [9, 4]]]
    both = option_log_probs(model, prompts, said)
    alone = [option_log_probs(model, [prompt], [one])[0] for prompt, one in zip(prompts, said, strict=True)]
    for some, other in zip(both, alone, strict=True):
        assert some == pytest.approx(other, abs=1e-4)


# --- counting --------------------------------------------------------------------------------------------------------

MANY = Suite(
    "many",
    tuple(
        Question(n, "?", ("a", "b") if n < 40 else ("a", "b", "c", "d"), 0, "x" if n < 40 else "y") for n in range(100)
    ),
)


def test_accuracies_chance_and_differences_by_hand():
    """The first is right in 30 of x's 40 and 30 of y's 60, the second in 10 more of y."""
    first = np.array([0] * 30 + [1] * 10 + [0] * 30 + [1] * 30)
    second = np.array([0] * 30 + [1] * 10 + [0] * 40 + [1] * 20)
    found = measure(MANY, [Taken("before", first), Taken("after", second)])
    assert {name: figure.value for name, figure in found.accuracy["before"].items()} == {"": 0.6, "x": 0.75, "y": 0.5}
    assert found.chance == {"": pytest.approx(0.35), "x": 0.5, "y": 0.25}
    change = found.difference["after"]
    assert change[""].value == pytest.approx(0.1) and change["y"].value == pytest.approx(1 / 6)
    assert change[""].low is not None and 0.03 < change[""].low < 0.1 < change[""].high < 0.19
    assert change["x"].value == 0 and change["x"].low is None
    wide = found.accuracy["before"][""]
    assert wide.low is not None and 0.48 < wide.low < 0.52 and 0.67 < wide.high < 0.71


def test_the_difference_is_paired():
    """Two policies that are right in the same 50 of 100 differ by nothing; in other 50, by nothing or by much."""
    same = np.array([0, 1] * 50)
    found = measure(MANY, [Taken("a", same), Taken("b", same.copy()), Taken("c", 1 - same)])
    assert found.difference["b"][""].low is None
    wide = found.difference["c"][""]
    assert wide.low is not None and wide.high - wide.low > 0.35


def test_answers_that_name_no_option_are_wrong_and_counted():
    found = measure(MANY, [Taken("a", np.array([-1] * 10 + [0] * 90))])
    assert found.accuracy["a"][""].value == 0.9
    assert found.unread == {"a": 10}


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def suite_file(tmp_path: Path) -> Path:
    rows = [{**as_letters(row), "category": kind} for row in ROWS for kind in ("ethics", "intake")]
    return written(tmp_path / "suite.jsonl", [*rows, {"question": "?", "options": [], "answer": "A"}])


def test_bench_shows_policies_side_by_side_and_writes_json(prefkit, tmp_path, suite_file):
    first, second = tiny_model(tmp_path / "first"), tiny_model(tmp_path / "second", seed=1)
    outcome = prefkit(
        "bench", first, "--policy", second, "--suite", suite_file, "--out", tmp_path / "out" / "found.json"
    )
    assert outcome.code == 0, outcome.err
    assert "suite.jsonl: 6 questions in 2 categories" in outcome.out
    assert "1 rows left out: fewer than two options" in outcome.out
    assert "second - first" in outcome.out and "36.1%" in outcome.out
    found = json.loads((tmp_path / "out" / "found.json").read_text())
    assert len(found["questions"]) == 6
    right = sum(one["taken"]["first"] == one["answer"] for one in found["questions"])
    assert found["figures"]["accuracy"]["first"][""]["value"] == pytest.approx(right / 6)


def test_bench_takes_the_policies_of_a_run(prefkit, tmp_path, suite_file):
    run = tmp_path / "run"
    assert prefkit("new", run, "--rubric", "psychocounsel").code == 0
    outcome = prefkit("bench", run, "--suite", suite_file)
    assert outcome.code == 1 and "no policy yet" in outcome.err
    tiny_model(run / "policies" / "dpo")
    outcome = prefkit("bench", run, "--suite", suite_file, "--by", "answer")
    assert outcome.code == 0, outcome.err
    assert "answers name no option" in outcome.out
    assert (run / "knowledge-suite.json").exists()
    outcome = prefkit("bench", run, "--suite", suite_file, "--policy", "sft")
    assert outcome.code == 1 and "It has dpo" in outcome.err


def test_bench_without_the_file_says_so_before_a_model_is_opened(prefkit, tmp_path):
    outcome = prefkit("bench", "smollm2", "--suite", tmp_path / "none.csv")
    assert outcome.code == 1 and outcome.err.startswith("Error:")


def test_ctrl_c_leaves_no_half_written_file(prefkit, tmp_path, suite_file, monkeypatch):
    def interrupted(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("prefkit.policies.knowledge.take", interrupted)
    out = tmp_path / "found.json"
    assert prefkit("bench", tiny_model(tmp_path / "first"), "--suite", suite_file, "--out", out).code == 130
    assert not out.exists()
