"""The shapes that are known without a mapping, each on a small invented file; the real ones where they are at hand."""

from __future__ import annotations

import gzip
import io
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from conftest import Outcome

from prefkit.records import Comparison, Rating, Response
from prefkit.rows.presets import PRESETS, find_preset
from prefkit.run import Run

Rows = list[dict[str, Any]]


@pytest.fixture
def into(prefkit, tmp_path: Path) -> Callable[..., tuple[Run, Outcome]]:
    """Import a file of rows into the run of a rubric, which is made if it is not there; it must work."""

    def call(rubric: str, kind: str, name: str, rows: Rows | bytes, *options: str) -> tuple[Run, Outcome]:
        run, path = tmp_path / rubric, tmp_path / name
        if not run.exists():
            prefkit("new", run, "--rubric", rubric)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(rows if isinstance(rows, bytes) else packed(path.name, rows))
        outcome = prefkit("import", kind, run, path, *options)
        assert outcome.code == 0, outcome.err
        return Run(run), outcome

    return call


def packed(name: str, rows: Rows) -> bytes:
    """Rows in the format that a file's name says."""
    if name.endswith(".json"):
        return json.dumps(rows).encode()
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return gzip.compress(lines) if name.endswith(".gz") else lines


def workbook(*rows: list[object]) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def responses(run: Run) -> list[Response]:
    return list(run.responses())


def texts(run: Run) -> dict[str, str | None]:
    """The words of each response by its id."""
    return {response.id: response.text for response in run.responses()}


def won(run: Run) -> list[tuple[str | None, str, str | None]]:
    """Each comparison in words: the text shown first, the verdict, the other text."""
    said = texts(run)
    return [(said[one.a], str(one.winner), said[one.b]) for one in comparisons(run)]


def comparisons(run: Run) -> list[Comparison]:
    return [one for one in run.judgements() if isinstance(one, Comparison)]


def ratings(run: Run) -> list[Rating]:
    return [one for one in run.judgements() if isinstance(one, Rating)]


def reasons(run: Run, name: str) -> list[tuple[int, str]]:
    lines = (run.path / "rejects" / name).read_text(encoding="utf-8").splitlines()
    return [(entry["line"], entry["reason"]) for entry in map(json.loads, lines) if not entry["rest_imported"]]


def preferred(run: Run) -> dict[str | None, str | None]:
    """The text that won -> the text that lost."""
    return {a if winner == "a" else b: b if winner == "a" else a for a, winner, b in won(run)}


# FastChat


QUESTIONS = [
    {"question_id": 81, "category": "sleep", "turns": ["I wake at four.", "And then?"]},
    {"question_id": 82, "category": "food", "turns": ["I eat nothing."]},
]


def answers(model: str, *said: tuple[int, str]) -> Rows:
    return [{"question_id": key, "model_id": model, "choices": [{"index": 0, "turns": [text]}]} for key, text in said]


def test_fastchat_questions(into):
    rows = [*QUESTIONS, {"question_id": 83, "turns": []}, {"question_id": 84, "turns": "I cry."}, {"question_id": 85}]
    run, outcome = into("psychocounsel", "prompts", "question.jsonl", rows)
    assert [(one.messages[0].content, one.topic, one.keys) for one in run.prompts()] == [
        ("I wake at four.", "sleep", ("81",)),
        ("I eat nothing.", "food", ("82",)),
    ]
    assert reasons(run, "prompts-question.jsonl.jsonl") == [(3, "no turns"), (4, "no turns"), (5, "no turns")]
    assert "read as: preset fastchat-questions\n" in outcome.out


def test_fastchat_answers_are_the_files_policy_and_each_choice_a_sample(into):
    into("psychocounsel", "prompts", "question.jsonl", QUESTIONS)
    rows = answers("wren-7b", (81, "Since when?"), (82, "No?"), (99, "Hm."))
    rows[0]["choices"].append({"index": 1, "turns": ["Every night?"]})
    rows += [
        {"question_id": 82, "choices": []},
        {"question_id": 82, "choices": [{"turns": [""]}]},
        {"question_id": None, "choices": [{"turns": ["x"]}]},
    ]
    run, _ = into("psychocounsel", "responses", "wren-7b.jsonl", rows)
    assert [(one.policy, one.sample, one.text) for one in responses(run)] == [
        ("wren-7b", 0, "Since when?"),
        ("wren-7b", 1, "Every night?"),
        ("wren-7b", 0, "No?"),
    ]
    assert reasons(run, "responses-wren-7b.jsonl.jsonl") == [
        (3, "unknown prompt"),
        (4, "no choices"),
        (5, "no turns"),
        (6, "empty question_id"),
    ]


def test_two_fastchat_files_of_one_model_id_are_two_policies_and_it_is_said(into):
    into("psychocounsel", "prompts", "question.jsonl", QUESTIONS)
    into("psychocounsel", "responses", "wren-7b.jsonl", answers("wren-7b", (81, "Since"), (82, "No?")))
    rows = answers("wren-7b", (81, "Since when?"), (82, "No?"))
    run, outcome = into("psychocounsel", "responses", "wren-7b-unlimited.jsonl", rows)
    assert Counter(one.policy for one in responses(run)) == {"wren-7b": 2, "wren-7b-unlimited": 2}
    assert "policy named by the file, not by the row: 2\n" in outcome.out


def test_merging_two_fastchat_files_under_one_policy_is_noticed(into):
    into("psychocounsel", "prompts", "question.jsonl", QUESTIONS)
    into("psychocounsel", "responses", "wren-7b.jsonl", answers("wren-7b", (81, "Since"), (82, "No?")))
    rows = answers("wren-7b", (81, "Since when?"), (82, "No?"))
    run, outcome = into("psychocounsel", "responses", "unlimited.jsonl", rows, "--set", "policy=wren-7b")
    assert reasons(run, "responses-unlimited.jsonl.jsonl") == [(1, "another response stands under this policy")]
    assert "from before: 1 responses\n" in outcome.out
    assert [one.text for one in responses(run)] == ["Since", "No?"]


# MentalBench


SCORES = {
    "Guidance": 4,
    "Informativeness": 3,
    "Relevance": 5,
    "Safety": 5,
    "Empathy": 2,
    "Helpfulness": 4,
    "Understanding": 3,
}
IDS = ("guidance", "informativeness", "relevance", "safety", "empathy", "helpfulness", "understanding")


def test_mentalbench_cells_are_read_as_they_come(into):
    whole = json.dumps(SCORES)
    far = json.dumps({**SCORES, "Safety": 6, "Empathy": 0})
    short = json.dumps({name: value for name, value in SCORES.items() if name != "Safety"})
    book = workbook(
        ["ConvID", "context", "human_response_wren", "human_response_lark", "note"],
        [1, "I cry.", whole, f"```json\n{whole}\n```", "x"],
        [2, "I cry.", "{'Guidance': 4", None, "x"],
        [3, "I wake at four.", far, short, "x"],
        [4, None, whole, whole, "x"],
    )
    run, outcome = into("mentalbench", "judgements", "Human_judge.xlsx", book)
    assert [(one.messages[0].content, one.keys) for one in run.prompts()] == [
        ("I cry.", ("1",)),
        ("I cry.", ("2",)),
        ("I wake at four.", ("3",)),
    ]
    assert [(one.policy, one.text) for one in responses(run)] == [("wren", None), ("lark", None)] * 3
    expected = {name.casefold(): score for name, score in SCORES.items()}
    found = ratings(run)
    assert {one.annotator for one in found} == {"human:mentalbench"}
    assert [one.scores for one in found] == [
        expected,
        expected,
        {},
        {},
        {**expected, "safety": None, "empathy": None},
        {**expected, "safety": None},
    ]
    assert [(one.failure, one.reply) for one in found[2:4]] == [
        ("not a JSON object", "{'Guidance': 4"),
        ("empty cell", ""),
    ]
    assert set(found[0].scores) == set(IDS)
    assert reasons(run, "judgements-Human_judge.xlsx.jsonl") == [(5, "empty context")]
    for line in ("score out of range, left out: 2", "judgement kept without a score: 2", "score missing: 1"):
        assert line in outcome.out


def test_a_mentalbench_cell_with_words_around_its_json_is_read(into):
    whole = json.dumps({**SCORES, "Explanation": "It {almost} says so."}, indent=2)
    cells = [f"I rate it:\n\n{whole}", f"Here:\n```json\n{whole}\n```\nDone.", f"{whole}\n{whole}", "It says nothing }"]
    book = workbook(["ConvID", "context", *(f"judge_response_{name}" for name in "abcd")], [1, "I cry.", *cells])
    run, _ = into("mentalbench", "judgements", "judge.xlsx", book, "--set", "annotator=llm:owl")
    assert [one.failure for one in ratings(run)] == [None, None, "not a JSON object", "not a JSON object"]
    assert ratings(run)[0].scores == {name.casefold(): score for name, score in SCORES.items()}


def test_a_second_judge_of_mentalbench_meets_the_same_responses(into, prefkit, tmp_path):
    cell = json.dumps(SCORES)
    into(
        "mentalbench",
        "judgements",
        "h.xlsx",
        workbook(["ConvID", "context", "human_response_wren"], [1, "I cry.", cell]),
    )
    book = workbook(["ConvID", "context", "judge_response_wren"], [1, "I cry.\n", cell], [2, "I laugh.", cell])
    run, _ = into("mentalbench", "judgements", "g.xlsx", book, "--set", "annotator=llm:gpt-4o")
    assert [(one.annotator, one.prompt_id) for one in ratings(run)] == [
        (annotator, prompt.id)
        for annotator, prompt in zip(
            ("human:mentalbench", "llm:gpt-4o", "llm:gpt-4o"),
            [*[next(run.prompts())] * 2, list(run.prompts())[1]],
            strict=True,
        )
    ]
    (tmp_path / "nobody.xlsx").write_bytes(book)
    nobody = prefkit("import", "judgements", run.path, tmp_path / "nobody.xlsx")
    assert nobody.code == 1 and "--set annotator=llm:NAME" in nobody.err


# PandaLM and AlpacaEval


def panda(**changes: object) -> dict[str, Any]:
    row = {
        "idx": 0,
        "motivation_app": "Letters",
        "cmp_key": "wren-7b_lark-7b",
        "instruction": "Rewrite it.",
        "input": "It rains.",
    }
    row |= {"response1": "Rain falls.", "response2": "Rain.", "annotator1": 1, "annotator2": 2, "annotator3": 0}
    return {**row, **changes}


def test_pandalm(into):
    rows = [
        panda(),
        panda(input="", response1=True, response2="", annotator3="2"),
        panda(annotator2=3),
        panda(annotator2=[1]),
        panda(response2=None),
        panda(cmp_key="wren_7b_lark"),
        panda(instruction=" ", input=None),
    ]
    run, _ = into("ultrafeedback", "judgements", "testset.json", rows)
    assert [one.messages[0].content for one in run.prompts()] == ["Rewrite it.\n\nIt rains.", "Rewrite it."]
    assert {one.topic for one in run.prompts()} == {"Letters"}
    assert [(one.annotator, one.winner) for one in comparisons(run)] == [
        ("human:pandalm-1", "a"),
        ("human:pandalm-2", "b"),
        ("human:pandalm-3", "tie"),
        ("human:pandalm-1", "a"),
        ("human:pandalm-2", "b"),
        ("human:pandalm-3", "b"),
    ]
    assert won(run)[0] == ("Rain falls.", "a", "Rain.")
    assert won(run)[-1] == ("True", "b", "")
    assert [one.policy for one in responses(run)] == ["wren-7b", "lark-7b"] * 2
    assert reasons(run, "judgements-testset.json.jsonl") == [
        (3, "not a winner"),
        (4, "a list or an object instead of a text"),
        (5, "no response"),
        (6, "cmp_key does not name two policies"),
        (7, "empty prompt"),
    ]


def alpaca(preference: object, **changes: object) -> dict[str, Any]:
    row = {"instruction": f"Say {preference}.", "output_1": "One.", "output_2": "Two.", "dataset": "made"}
    row |= {"generator_1": "lark-7b", "generator_2": "wren-7b", "annotator": "made_judge", "preference": preference}
    return {**row, **changes}


def test_alpaca_eval(into):
    given = [1, 2, 1.25, 1.75, 0, 1.5, None, 3, "x", -1]
    rows = [alpaca(value) for value in given]
    rows += [alpaca(2.0, instruction="Say nothing.", output_1=""), alpaca(2, output_2=None, instruction="Say null.")]
    rows += [alpaca(1, instruction="Say less.", generator_2="lark-7b", output_2="One.")]
    run, _ = into("ultrafeedback", "judgements", "annotations.json", rows)
    assert [(one.winner, one.preference) for one in comparisons(run)] == [
        ("a", 0),
        ("b", 1),
        ("a", 0.25),
        ("b", 0.75),
        ("tie", 0.5),
        ("tie", 0.5),
        ("b", 1),
    ]
    assert won(run)[-1] == ("", "b", "Two.")
    assert {one.annotator for one in comparisons(run)} == {"llm:made_judge"}
    assert {one.topic for one in run.prompts()} == {"made"}
    assert reasons(run, "judgements-annotations.json.jsonl") == [
        (7, "no preference"),
        (8, "no preference"),
        (9, "preference is not a number"),
        (10, "no preference"),
        (12, "no response"),
        (13, "a response compared with itself"),
    ]
    assert len(list(run.prompts())) == 7, "a row that is refused brings no prompt"
    assert len(responses(run)) == 14


def test_a_row_that_is_refused_for_its_second_response_does_not_bring_the_first(into):
    into("ultrafeedback", "judgements", "first.json", [alpaca(1)])
    rows = [
        alpaca(2, instruction="Say 1.", output_1="Uno.", generator_1="finch", output_2="Due."),
        alpaca(2, instruction="Say two."),
    ]
    run, _ = into("ultrafeedback", "judgements", "second.json", rows)
    assert reasons(run, "judgements-second.json.jsonl") == [(1, "another response stands under this policy")]
    assert sorted({one.policy for one in responses(run)}) == ["lark-7b", "wren-7b"]


def test_the_annotator_of_alpaca_eval_can_be_set(into):
    run, _ = into("ultrafeedback", "judgements", "annotations.json", [alpaca(1)], "--set", "annotator=llm:gpt-4o")
    assert comparisons(run)[0].annotator == "llm:gpt-4o"


# LLMBar


def bar(label: object = 1, winners: tuple[object, object] | None = None, **changes: object) -> dict[str, Any]:
    row: dict[str, Any] = {"input": "Name it.", "output_1": "One.", "output_2": "Two.", "label": label}
    if winners:
        said = [{"completion": [f"Output {winner}", "stop"], "winner": winner} for winner in winners]
        row["results"] = [["the rules", "stop"], {"swap = False": said[0], "swap = True": said[1]}]
    return {**row, **changes}


def test_llmbars_labels_are_the_gold_and_a_judges_results_are_both_orders(into):
    into("helpful-harmless", "judgements", "dataset.json", [bar(), bar(2, input="Say it.")])
    rows = [bar(winners=("1", "1")), bar(2, ("2", None), input="Say it.")]
    run, outcome = into("helpful-harmless", "judgements", "result.json", rows, "--set", "annotator=llm:owl")
    said = [(one.annotator, *verdict) for one, verdict in zip(comparisons(run), won(run), strict=True)]
    assert said == [
        ("human:gold", "One.", "a", "Two."),
        ("human:gold", "One.", "b", "Two."),
        ("llm:owl", "One.", "a", "Two."),
        ("llm:owl", "Two.", "b", "One."),
        ("llm:owl", "One.", "b", "Two."),
        ("llm:owl", "Two.", "None", "One."),
    ]
    last = comparisons(run)[-1]
    assert (last.failure, last.reply) == ("no winner in the reply", "Output None")
    assert "from before: 2 prompts, 4 responses, 2 judgements\n" in outcome.out


def test_a_row_of_llmbar_that_cannot_be_read_is_refused(into, prefkit, tmp_path):
    rows = [
        bar(),
        bar(0),
        bar(None),
        bar(results=[]),
        bar(results=[{"swap = False": {"winner": "1"}}]),
        bar(output_2=None),
    ]
    run, _ = into("helpful-harmless", "judgements", "result.json", rows, "--set", "annotator=llm:owl")
    assert reasons(run, "judgements-result.json.jsonl") == [
        (2, "not a winner"),
        (3, "not a winner"),
        (4, "no verdict"),
        (5, "no verdict"),
        (6, "no response"),
    ]
    (tmp_path / "nobody.json").write_text(json.dumps([bar(winners=("1", "2"))]))
    nobody = prefkit("import", "judgements", run.path, tmp_path / "nobody.json")
    assert nobody.code == 1 and "--set annotator=llm:NAME" in nobody.err


# UltraFeedback and PsychoCounsel


def completion(model: object, response: object, *given: object) -> dict[str, Any]:
    names = ("instruction_following", "honesty", "truthfulness", "helpfulness")
    annotations = {name: {"Rating": rating, "Rationale": "x"} for name, rating in zip(names, given, strict=False)}
    return {"model": model, "response": response, "annotations": annotations}


def test_ultrafeedback(into):
    rows = [
        {
            "instruction": "Say yes.",
            "source": "made",
            "completions": [
                completion("wren", "Yes.", "5", "4", "N/A", "3"),
                completion("lark", "No.", "1", 2),
                completion("finch", "Hm.", *["N/A"] * 4),
            ],
        },
        {"instruction": "Say no.", "completions": [{"model": "wren", "response": "No.", "annotations": []}]},
        {"instruction": "Say it.", "completions": []},
        {"instruction": "Say it.", "completions": 3},
        {"instruction": "Say it.", "completions": ["It."]},
        {"instruction": "Say it.", "completions": [completion("wren", " ", "5")]},
        {"instruction": "Say it.", "completions": [completion(None, "It.", "5")]},
        {"instruction": None, "completions": [completion("wren", "It.", "5")]},
    ]
    run, outcome = into("ultrafeedback", "judgements", "uf.jsonl", rows)
    found = {
        next(one.policy for one in responses(run) if one.id == rating.response_id): rating for rating in ratings(run)
    }
    assert {name: rating.scores for name, rating in found.items()} == {
        "wren": {"instruction_following": 5, "honesty": 4, "truthfulness": None, "helpfulness": 3},
        "lark": {"instruction_following": 1, "honesty": 2},
        "finch": dict.fromkeys(("instruction_following", "honesty", "truthfulness", "helpfulness")),
    }
    assert found["finch"].failure == "no score within its scale"
    assert {rating.annotator for rating in found.values()} == {"llm:gpt-4"}
    assert len(responses(run)) == 4
    assert "score not a number: 5\n" in outcome.out
    assert reasons(run, "judgements-uf.jsonl.jsonl") == [
        (3, "no completions"),
        (4, "no completions"),
        (5, "a completion that is not an object"),
        (6, "empty response"),
        (7, "empty model"),
        (8, "empty instruction"),
    ]


def counsel(chosen: str, rejected: str, **changes: object) -> dict[str, Any]:
    names = ("empathy", "relevance", "clarity", "safety", "exploration", "autonomy", "staging")
    row: dict[str, Any] = {"ID": 7, "prefID": 1, "question": "I cry.", "chosen": chosen, "rejected": rejected}
    row |= {"chosen_model": "wren", "rejected_model": "lark"}
    row |= {f"chosen_{name}_rating": 5 for name in names} | {f"rejected_{name}_rating": 2.5 for name in names}
    return {**row, **changes}


def test_psychocounsel(into):
    rows = [
        counsel(" When? ", "Stop."),
        counsel(" When? ", "Do not.", rejected_model="finch"),
        counsel("When?!", "Stop.", prefID=3),
        counsel("", "Stop."),
        counsel(" When? ", "Stop."),
        counsel("Oh.", "Hm.", ID=8, question="I laugh.", chosen_safety_rating=None, rejected_safety_rating=7),
    ]
    run, outcome = into("psychocounsel", "judgements", "train.jsonl", rows)
    assert [(one.policy, one.sample, one.text) for one in responses(run)] == [
        ("wren", 0, " When? "),
        ("lark", 0, "Stop."),
        ("finch", 0, "Do not."),
        ("wren", 1, "When?!"),
        ("wren", 0, "Oh."),
        ("lark", 0, "Hm."),
    ]
    assert [one.keys for one in run.prompts()] == [("7",), ("8",)]
    assert {one.annotator for one in ratings(run)} == {"llm:gpt-4o"}
    assert [one.scores["safety"] for one in ratings(run)] == [5, 2.5, 2.5, 5, None, None]
    assert reasons(run, "judgements-train.jsonl.jsonl") == [(4, "empty chosen"), (5, "repeats an earlier row")]
    assert "score missing: 1\n" in outcome.out and "score out of range, left out: 1\n" in outcome.out


# Preference sets


def spoken(*turns: str) -> str:
    return "".join(f"\n\n{'Human' if place % 2 == 0 else 'Assistant'}: {words}" for place, words in enumerate(turns))


def test_hh_rlhf(into):
    rows = [
        {"chosen": spoken("I cry.", "When?"), "rejected": spoken("I cry.", "Stop.")},
        {
            "chosen": spoken("I cry.", "When?", "At four.", "Oh."),
            "rejected": spoken("I cry.", "When?", "At four.", "So?"),
        },
        {"chosen": spoken("I cry.", "When?"), "rejected": spoken("I laugh.", "Stop.")},
        {"chosen": spoken("I cry.", "When?"), "rejected": spoken("I cry.", "Stop.", "Why?", "So.")},
        {"chosen": spoken("I cry.", ""), "rejected": spoken("I cry.", "Stop.")},
        {"chosen": spoken("I cry.", "When?"), "rejected": spoken("I cry.", "When? ")},
        {"chosen": spoken("I cry."), "rejected": spoken("I cry.")},
        {"chosen": spoken("I cry.", "When?", "At four."), "rejected": spoken("I cry.", "When?", "At five.")},
        {"chosen": spoken("I cry.", "When?")},
        {"chosen": "When?", "rejected": "Stop."},
    ]
    run, outcome = into("helpful-harmless", "judgements", "test.jsonl.gz", rows)
    assert [[(turn.role, turn.content) for turn in one.messages] for one in run.prompts()] == [
        [("user", "I cry.")],
        [("user", "I cry."), ("assistant", "When?"), ("user", "At four.")],
    ]
    assert preferred(run) == {"When?": "Stop.", "Oh.": "So?"}
    assert {one.annotator for one in comparisons(run)} == {"human:hh-rlhf"}
    assert reasons(run, "judgements-test.jsonl.gz.jsonl") == [
        (3, "chosen and rejected answer different prompts"),
        (4, "chosen and rejected answer different prompts"),
        (5, "empty response"),
        (6, "chosen and rejected are the same text"),
        (7, "no response"),
        (8, "no response"),
        (9, "not a dialogue"),
        (10, "not a dialogue"),
    ]
    assert "read as: preset hh-rlhf\n" in outcome.out


def test_neither_the_policy_nor_the_place_tells_which_side_won(into):
    rows = [
        {"chosen": spoken(f"I cry {n}.", f"When {n}?"), "rejected": spoken(f"I cry {n}.", "Stop.")} for n in range(300)
    ]
    run, _ = into("helpful-harmless", "judgements", "test.jsonl", rows)
    assert {one.policy for one in responses(run)} == {"test"}
    shown_first = Counter(one.winner for one in comparisons(run))
    assert 120 < shown_first["a"] < 180 and shown_first["a"] + shown_first["b"] == 300
    samples = {one.id: one.sample for one in responses(run)}
    winning = Counter(samples[one.a if one.winner == "a" else one.b] for one in comparisons(run))
    assert 120 < winning[0] < 180, "nor does the sample's number"
    files = b"".join((run.path / name).read_bytes() for name in ("responses.jsonl", "judgements.jsonl"))
    assert b"chosen" not in files and b"rejected" not in files


def chat(*turns: str) -> list[dict[str, str]]:
    return [{"role": "user" if place % 2 == 0 else "assistant", "content": words} for place, words in enumerate(turns)]


def answer(words: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": words}]


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"prompt": "I cry.", "chosen": "When?", "rejected": "Stop."}, chat("I cry.")),
        ({"prompt": chat("I cry."), "chosen": answer("When?"), "rejected": answer("Stop.")}, chat("I cry.")),
        ({"prompt": "I cry.", "chosen": chat("I cry.", "When?"), "rejected": chat("I cry.", "Stop.")}, chat("I cry.")),
        ({"chosen": chat("I cry.", "When?"), "rejected": chat("I cry.", "Stop.")}, chat("I cry.")),
        ({"chosen": spoken("I cry.", "When?"), "rejected": spoken("I cry.", "Stop."), "id": 1}, chat("I cry.")),
        (
            {"prompt": chat("Hello.", "Hi.", "I cry."), "chosen": answer("When?"), "rejected": answer("Stop.")},
            chat("Hello.", "Hi.", "I cry."),
        ),
        (
            {
                "prompt": "I cry.",
                "chosen": chat("Hello.", "Hi.", "I cry.", "When?"),
                "rejected": chat("Hello.", "Hi.", "I cry.", "Stop."),
            },
            chat("Hello.", "Hi.", "I cry."),
        ),
        (
            {
                "prompt": [{"role": "system", "content": "Be kind."}, *chat("I cry.")],
                "chosen": answer("When?"),
                "rejected": answer("Stop."),
            },
            [{"role": "system", "content": "Be kind."}, *chat("I cry.")],
        ),
    ],
)
def test_a_preference_set_in_each_of_its_forms(into, row, prompt):
    run, outcome = into("psychocounsel", "judgements", "dpo.jsonl", [row], "--set", "annotator=human:ann")
    assert [[{"role": turn.role, "content": turn.content} for turn in one.messages] for one in run.prompts()] == [
        prompt
    ]
    assert preferred(run) == {"When?": "Stop."}
    assert {one.policy for one in responses(run)} == {"dpo"}
    assert "read as: preset preference\n" in outcome.out


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "I cry.", "chosen": "When?", "rejected": None}, "not a text or a dialogue"),
        ({"prompt": "I cry.", "chosen": "When?"}, "not a text or a dialogue"),
        ({"prompt": "I cry.", "chosen": "When?", "rejected": [1]}, "not a text or a dialogue"),
        ({"prompt": "I cry.", "chosen": [], "rejected": []}, "empty response"),
        ({"prompt": "I cry.", "chosen": "When?", "rejected": " "}, "empty response"),
        ({"prompt": "I cry.", "chosen": "When?", "rejected": "When?"}, "chosen and rejected are the same text"),
        ({"prompt": "I cry.", "chosen": chat("When?"), "rejected": chat("Stop.")}, "no response"),
        (
            {"prompt": "I cry.", "chosen": chat("I laugh.", "When?"), "rejected": chat("I laugh.", "Stop.")},
            "the dialogues do not go on from the prompt",
        ),
        (
            {"prompt": "I cry.", "chosen": "When?", "rejected": chat("I cry.", "Stop.")},
            "chosen and rejected answer different prompts",
        ),
        ({"chosen": "When?", "rejected": "Stop."}, "no prompt"),
        ({"prompt": [{"role": "user"}], "chosen": "When?", "rejected": "Stop."}, "not a dialogue of role and content"),
        (
            {"prompt": chat("I cry.", "When?"), "chosen": "When?", "rejected": "Stop."},
            "the dialogue does not end with the client",
        ),
    ],
)
def test_a_row_of_a_preference_set_that_cannot_be_read_is_refused(into, row, reason):
    good = {"prompt": "I wake.", "chosen": "When?", "rejected": "Stop."}
    run, _ = into("psychocounsel", "judgements", "dpo.jsonl", [good, row], "--set", "annotator=human:ann")
    assert reasons(run, "judgements-dpo.jsonl.jsonl") == [(2, reason)]
    assert len(list(run.prompts())) == 1


def test_a_preference_set_does_not_say_who_preferred(prefkit, into, tmp_path):
    row = {"prompt": "I cry.", "chosen": "When?", "rejected": "Stop."}
    run, _ = into(
        "psychocounsel", "judgements", "dpo.jsonl", [row], "--set", "annotator=human:ann", "--set", "policy=wren"
    )
    assert {one.policy for one in responses(run)} == {"wren"}
    nobody = prefkit("import", "judgements", run.path, tmp_path / "dpo.jsonl")
    assert nobody.code == 1 and "no annotator (the file does not say who judged: --set annotator=" in nobody.err


# All of them


@pytest.mark.parametrize(
    ("name", "kind", "rubric", "rows", "options"),
    [
        ("fastchat-questions", "prompts", "psychocounsel", QUESTIONS, []),
        ("pandalm", "judgements", "ultrafeedback", [panda()], []),
        ("alpaca-eval", "judgements", "ultrafeedback", [alpaca(1), alpaca(0), alpaca(None)], []),
        ("llmbar", "judgements", "helpful-harmless", [bar(), bar(2, ("1", "2"))], ["--set", "annotator=llm:owl"]),
        (
            "ultrafeedback",
            "judgements",
            "ultrafeedback",
            [
                {
                    "instruction": "Say yes.",
                    "completions": [completion("wren", "Yes.", "5", "9"), completion("lark", "No.", "x")],
                }
            ],
            [],
        ),
        ("psychocounsel", "judgements", "psychocounsel", [counsel("When?", "Stop."), counsel("When?!", "Stop.")], []),
        (
            "hh-rlhf",
            "judgements",
            "helpful-harmless",
            [{"chosen": spoken("I cry.", "When?"), "rejected": spoken("I cry.", "Stop.")}],
            [],
        ),
        (
            "preference",
            "judgements",
            "psychocounsel",
            [{"prompt": "I cry.", "chosen": "When?", "rejected": "Stop."}],
            ["--set", "annotator=human:ann"],
        ),
    ],
)
def test_a_preset_is_known_by_its_columns_and_a_second_import_changes_nothing(into, name, kind, rubric, rows, options):
    run, first = into(rubric, kind, "rows.jsonl", rows, *options)
    assert f"read as: preset {name}\n" in first.out
    before = {path.name: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    _, again = into(rubric, kind, "rows.jsonl", rows, *options)
    assert "from before: " in again.out
    assert {path.name: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_each_preset_says_what_it_reads(prefkit):
    shown = prefkit("import", "presets").out
    assert shown.count("\n    ") == len(PRESETS) == 10
    for name, preset in PRESETS.items():
        assert f"{name} ({', '.join(preset.kinds)})\n" in shown


def test_a_plain_table_is_no_preset():
    for kind in ("prompts", "responses", "judgements"):
        assert find_preset(kind, dict.fromkeys(("prompt", "policy", "text", "annotator", "winner", "a", "b"))) is None


# The real sets, where PREFKIT_DATA names them: every row is accounted for


@pytest.fixture
def real(prefkit, real_data: Path, tmp_path: Path) -> Callable[..., tuple[Run, dict[str, int], dict[str, int]]]:
    """Import one of the real files into the run of a rubric: what it brought, and why rows were refused."""

    def call(rubric: str, kind: str, name: str, *options: str) -> tuple[Run, dict[str, int], dict[str, int]]:
        path = tmp_path / rubric
        if not path.exists():
            prefkit("new", path, "--rubric", rubric)
        outcome = prefkit("import", kind, path, real_data / name, *options)
        assert outcome.code == 0, outcome.err
        run = Run(path)
        entry = run.info.imports[-1]
        first_line = outcome.out.splitlines()[0].replace(",", "")
        rows_imported = int(first_line.split(": ")[1].split(" of ")[0])
        assert entry.rows == rows_imported + sum(entry.rejected.values())
        return run, {"rows": entry.rows, **entry.imported}, {**entry.rejected, **entry.notes}

    return call


def test_counsel_chat_in_full(real):
    name = "counsel-chat/20200325_counsel_chat.csv"
    _, brought, refused = real("psychocounsel", "prompts", name, "--map", "text=questionText")
    assert brought["rows"] == 2129
    assert brought["prompts"] + sum(refused.values()) == 2129
    columns = ("--map", "prompt=questionText", "--map", "policy=therapistURL", "--map", "text=answerText")
    run, brought, refused = real("psychocounsel", "responses", name, *columns)
    assert brought["rows"] == 2129
    assert brought["responses"] + sum(refused.values()) == 2129
    assert len(list(run.responses())) == brought["responses"] > 2000


def test_chatpsychiatrist_in_full(real, real_data):
    real("psychocounsel", "prompts", "chatpsychiatrist/question.jsonl")
    for path in sorted((real_data / "chatpsychiatrist" / "model_answer").iterdir()):
        _, brought, refused = real("psychocounsel", "responses", f"chatpsychiatrist/model_answer/{path.name}")
        assert brought == {"rows": 229, "responses": 229}
        named = {"policy named by the file, not by the row": 229} if "unlimited" in path.name else {}
        assert refused == named
    run, brought, refused = real("psychocounsel", "judgements", "chatpsychiatrist/ratings.csv")
    assert (brought, refused) == ({"rows": 1145, "judgements": 1145, "scores": 8015}, {})
    run, brought, refused = real("psychocounsel", "judgements", "chatpsychiatrist/ratings_second_pass.csv")
    assert (brought, refused) == ({"rows": 300, "judgements": 300, "scores": 2100}, {})
    assert len({response.policy for response in run.responses()}) == 5


def test_mentalbench_in_full(real):
    files = {"Human_judge": 69_352, "claude_llm_judge": 69_979, "gpt-4o_llm_judge": 70_000}
    for name, scores in files.items():
        options = [] if name == "Human_judge" else ["--set", f"annotator=llm:{name}"]
        run, brought, refused = real("mentalbench", "judgements", f"mentalbench-align/{name}.xlsx", *options)
        assert brought == {"rows": 1000, "prompts": 1000, "responses": 10_000, "judgements": 10_000, "scores": scores}
        if name == "Human_judge":
            assert refused == {
                "score out of range, left out": 239,
                "judgement kept without a score": 90,
                "score missing": 10,
            }
    assert sum(1 for _ in run.judgements()) == 30_000


def test_pandalm_in_full(real):
    run, brought, refused = real("ultrafeedback", "judgements", "pandalm/testset-v1.json")
    assert brought["rows"] == 999 and brought["judgements"] == 2997
    assert refused == {}
    votes: dict[tuple[str, str], Counter[str]] = {}
    for one in comparisons(run):
        votes.setdefault((one.a, one.b), Counter())[str(one.winner)] += 1
    assert len(votes) == 999


def test_alpaca_eval_in_full(real, real_data):
    models = [path.parent.name for path in sorted((real_data / "alpaca-eval").glob("*/annotations.json"))]
    for model in models:
        run, brought, refused = real("ultrafeedback", "judgements", f"alpaca-eval/{model}/annotations.json")
        assert brought["rows"] == 805 and brought["judgements"] + sum(refused.values()) == 805
    assert len(models) == 5 == len(run.info.imports)
    assert sum(entry.rows for entry in run.info.imports) == 5 * 805
    assert len(list(run.prompts())) == 805


def test_hh_rlhf_in_full(real):
    run, brought, refused = real("helpful-harmless", "judgements", "hh-rlhf/test.jsonl.gz")
    assert brought["rows"] == 2312 and brought["judgements"] == 2308
    assert refused == {"empty response": 4}
    shown_first = Counter(one.winner for one in comparisons(run))
    assert 0.45 < shown_first["a"] / 2308 < 0.55
