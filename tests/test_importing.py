"""`prefkit import`: which column means what, and where every row goes.

The presets are in test_presets.py, files that cannot be read in test_files.py, what cannot work in test_bad_input.py.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from conftest import Outcome
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.errors import InputError
from prefkit.importing.columns import FIELDS
from prefkit.importing.importer import HEAD, import_file
from prefkit.importing.resolver import REPEATED, ImportReport, ImportSettings
from prefkit.records import Message, prompt_id, response_id
from prefkit.rows.presets import PRESETS
from prefkit.rubric import Principle, Rubric, Scale
from prefkit.rubric_files import load_rubric
from prefkit.run import Run

DOCS = Path(__file__).parent.parent / "docs" / "importing.md"

PROMPTS = "id,text\n1,I sleep badly.\n2,I eat nothing.\n"
RESPONSES = "id,prompt,policy,text\nr1,1,A,Since when?\nr2,1,B,Count sheep.\nr3,2,A,What was before?\nr4,2,B,Eat.\n"

Bring = Callable[..., Outcome]


@pytest.fixture
def run(prefkit, tmp_path: Path) -> Path:
    path = tmp_path / "run"
    assert prefkit("new", path, "--rubric", "psychocounsel").code == 0
    return path


@pytest.fixture
def bring(prefkit, run: Path, tmp_path: Path) -> Bring:
    """Write a file and import it; it must work unless ``code`` says otherwise."""

    def call(kind: str, name: str, content: str, *options: object, code: int = 0) -> Outcome:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
        outcome = prefkit("import", kind, run, path, *options)
        assert outcome.code == code, outcome.err
        return outcome

    return call


@pytest.fixture
def answered(bring: Bring, run: Path) -> Path:
    """A run with two prompts and the answers of A and B to each."""
    bring("prompts", "prompts.csv", PROMPTS)
    bring("responses", "responses.csv", RESPONSES)
    return run


def records(run: Path, name: str) -> list[dict[str, Any]]:
    path = run / f"{name}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def said(run: Path) -> list[str]:
    """The words of each prompt's last turn."""
    return [prompt["messages"][-1]["content"] for prompt in records(run, "prompts")]


def rejects(run: Path, name: str) -> list[tuple[int, str]]:
    """(line, reason) of what an import listed."""
    path = run / "rejects" / name
    return [(entry["line"], entry["reason"]) for entry in map(json.loads, path.read_text().splitlines())]


def snapshot(run: Path) -> dict[str, bytes]:
    return {path.relative_to(run).as_posix(): path.read_bytes() for path in run.rglob("*") if path.is_file()}


def table(*rows: str, columns: str = "prompt,policy,annotator,empathy,safety") -> str:
    return "\n".join([columns, *rows]) + "\n"


# Columns


@pytest.mark.parametrize("text", ["text", "prompt", "question", "instruction", "speech"])
@pytest.mark.parametrize("key", ["key", "id", "prompt_id", "question_id"])
@pytest.mark.parametrize("topic", ["topic", "category"])
def test_prompts_are_known_by_usual_names(bring, run, text, key, topic):
    bring("prompts", "p.csv", f"{key},{topic},{text},note\n7,sleep,I wake at four.,x\n")
    assert records(run, "prompts") == [
        {
            "id": prompt_id([Message(role="user", content="I wake at four.")]),
            "messages": [{"role": "user", "content": "I wake at four."}],
            "topic": "sleep",
            "keys": ["7"],
        }
    ]


@pytest.mark.parametrize(
    "header",
    [
        "key,prompt,policy,text",
        "id,prompt_id,model,response",
        "response_id,question_id,model_id,output",
        "answer_id,question_id,generator,answer",
    ],
)
def test_responses_are_known_by_usual_names(bring, run, header):
    bring("prompts", "p.csv", PROMPTS)
    bring("responses", "r.csv", f"{header}\nr1,2,A,Since when?\n")
    (response,) = records(run, "responses")
    assert (response["keys"], response["policy"], response["text"]) == (["r1"], "A", "Since when?")
    assert response["prompt_id"] == records(run, "prompts")[1]["id"]


@pytest.mark.parametrize("header", ["prompt,policy,annotator", "prompt_id,model,judge", "question_id,generator,rater"])
def test_judgements_are_known_by_usual_names(bring, answered, header):
    bring("judgements", "j.csv", f"{header},empathy\n2,B,human:ann,4\n")
    (rating,) = records(answered, "judgements")
    assert (rating["annotator"], rating["scores"]) == ("human:ann", {"empathy": 4})
    assert rating["response_id"] == records(answered, "responses")[3]["id"]


def test_a_field_comes_from_the_column_that_it_is_mapped_to(bring, run):
    content = "text,words,id,number\nnot this,I wake at four.,x,12\n"
    outcome = bring("prompts", "p.csv", content, "--map", "text=words", "--map", "key=number")
    assert said(run) == ["I wake at four."]
    assert records(run, "prompts")[0]["keys"] == ["12"]
    assert "read as: text from words, key from number\n" in outcome.out


def test_a_mapped_column_is_not_read_for_a_second_field(bring, run):
    bring("prompts", "p.csv", "id,category\nsleep,I wake at four.\n", "--map", "text=category", "--map", "topic=id")
    assert records(run, "prompts")[0]["topic"] == "sleep"
    assert "keys" not in records(run, "prompts")[0]


def test_a_field_can_have_one_value_for_all_rows(bring, run):
    bring("prompts", "p.csv", PROMPTS)
    content = "question_id,answer\n1,Since when?\n2,And before?\n"
    outcome = bring("responses", "r.csv", content, "--set", "policy=gpt-4o", "--set", "finish=stop")
    assert {(row["policy"], row["finish"]) for row in records(run, "responses")} == {("gpt-4o", "stop")}
    assert "policy = gpt-4o" in outcome.out


def test_a_mapping_file_beside_the_data_is_found(bring, run, tmp_path):
    (tmp_path / "p.csv.mapping.yaml").write_text("text: words\nset: {topic: sleep}\n")
    bring("prompts", "p.csv", "text,words\nnot this,I wake at four.\n")
    assert (said(run), records(run, "prompts")[0]["topic"]) == (["I wake at four."], "sleep")


def test_a_mapping_file_that_is_named_goes_before_the_one_beside_the_data(bring, run, tmp_path):
    (tmp_path / "p.csv.mapping.yaml").write_text("text: nothing\n")
    (tmp_path / "mine.yaml").write_text("text: words\n")
    bring("prompts", "p.csv", "words\nI wake at four.\n", "--mapping", tmp_path / "mine.yaml")
    assert said(run) == ["I wake at four."]


def test_a_flag_goes_before_the_mapping_file(bring, answered, tmp_path):
    (tmp_path / "r.csv.mapping.yaml").write_text("text: words\npolicy: model\nset: {finish: stop}\n")
    content = "prompt,words,other,model,why\n1,no,yes,M,length\n"
    bring("responses", "r.csv", content, "--map", "text=other", "--set", "policy=N", "--map", "finish=why")
    row = records(answered, "responses")[-1]
    assert (row["text"], row["policy"], row["finish"]) == ("yes", "N", "length")


def test_a_principle_comes_from_the_column_that_it_is_mapped_to(bring, answered):
    content = "prompt,policy,annotator,warmth,safety,remarks\n1,A,human:ann,4,5,x\n"
    bring("judgements", "j.csv", content, "--map", "empathy=warmth")
    assert records(answered, "judgements")[0]["scores"] == {"empathy": 4, "safety": 5}


def test_a_mapping_reads_a_file_by_its_columns_though_a_preset_knows_it(bring, run):
    line = '{"question_id": 1, "turns": ["not this"], "speech": "I wake at four."}\n'
    bring("prompts", "q.jsonl", line, "--map", "text=speech")
    assert said(run) == ["I wake at four."]


def test_no_preset_is_a_choice(bring, run):
    line = '{"question_id": 1, "turns": ["not this"], "speech": "I wake at four."}\n'
    bring("prompts", "q.jsonl", line, "--preset", "none")
    assert said(run) == ["I wake at four."]


def test_a_column_that_the_first_row_of_json_lines_leaves_out_is_read(bring, answered):
    bring(
        "judgements",
        "j.jsonl",
        '{"prompt": 1, "policy": "A", "annotator": "human:ann", "empathy": 4}\n'
        '{"prompt": 2, "policy": "A", "annotator": "human:ann", "empathy": 3, "safety": 2}\n',
    )
    assert [row["scores"] for row in records(answered, "judgements")] == [
        {"empathy": 4, "safety": None},
        {"empathy": 3, "safety": 2},
    ]


def test_a_column_that_comes_too_late_refuses_its_row_rather_than_going_unread(bring, run):
    rows = [{"text": f"I wake at {n}."} for n in range(HEAD)] + [{"text": "I wake late.", "topic": "sleep"}]
    outcome = bring("prompts", "p.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert "not imported: 1 a column that the first rows do not have" in outcome.out
    assert rejects(run, "prompts-p.jsonl.jsonl") == [(HEAD + 1, "a column that the first rows do not have")]
    assert len(records(run, "prompts")) == HEAD


def test_columns_are_known_by_the_first_whole_row(bring, run):
    outcome = bring("prompts", "p.jsonl", "{'id': 1}\n" + '{"id": 2, "text": "I wake at four."}\n', "--skip-broken")
    assert said(run) == ["I wake at four."]
    assert "not imported: 1 broken row" in outcome.out


def test_a_number_and_its_text_are_one_key(bring, run):
    bring(
        "prompts", "p.jsonl", '{"id": 1, "text": "One."}\n{"id": 2.0, "text": "Two."}\n{"id": "3", "text": "Three."}\n'
    )
    bring("responses", "r.csv", "prompt,policy,text\n1,A,1\n2,A,2\n3,A,3\n")
    assert [row["keys"] for row in records(run, "prompts")] == [["1"], ["2"], ["3"]]
    assert len(records(run, "responses")) == 3


# Prompts


def test_the_same_words_twice_are_one_prompt(bring, run):
    outcome = bring("prompts", "p.csv", "text\nI wake at four.\nI eat nothing.\n  I wake at four. \n")
    assert said(run) == ["I wake at four.", "I eat nothing."]
    assert outcome.out.startswith("p.csv: 2 of 3 rows imported: 2 prompts\n")
    assert rejects(run, "prompts-p.csv.jsonl") == [(4, REPEATED)]


def test_the_same_words_under_two_keys_are_one_prompt_with_both(bring, run):
    outcome = bring("prompts", "p.csv", "id,text\n1,I wake at four.\n2,I wake at four.\n")
    assert [row["keys"] for row in records(run, "prompts")] == [["1", "2"]]
    assert outcome.out.startswith("p.csv: 2 of 2 rows imported: 1 prompts\n")


def test_a_key_of_two_prompts_names_neither(bring, run):
    outcome = bring("prompts", "p.csv", "id,text\n1,I wake at four.\n1,I eat nothing.\n2,I cry.\n")
    assert "a key names several prompts: 1\n" in outcome.out
    outcome = bring("responses", "r.csv", "prompt,policy,text\n1,A,Since when?\n2,A,Where?\nI eat nothing.,A,No?\n")
    assert rejects(run, "responses-r.csv.jsonl") == [(2, "the key names several prompts")]
    assert [row["text"] for row in records(run, "responses")] == ["Where?", "No?"]


def test_a_key_of_a_second_source_names_neither_prompt_unless_it_has_a_prefix(bring, run):
    bring("prompts", "p.csv", "id,text\n1,I wake at four.\n")
    bring("prompts", "q.csv", "id,text\n1,I eat nothing.\n", "--key-prefix", "q/")
    bring("responses", "r.csv", "id,prompt,policy,text\n5,1,A,Since when?\n")
    bring("responses", "s.csv", "id,prompt,policy,text\n5,1,A,No?\n", "--key-prefix", "q/")
    assert {row["text"]: row["keys"] for row in records(run, "responses")} == {"Since when?": ["5"], "No?": ["q/5"]}
    assert [row["prompt_id"] for row in records(run, "responses")] == [row["id"] for row in records(run, "prompts")]
    bring("judgements", "j.csv", "response,annotator,empathy\n5,human:ann,2\n", "--key-prefix", "q/")
    assert records(run, "judgements")[0]["response_id"] == records(run, "responses")[1]["id"]
    outcome = bring("prompts", "t.csv", "id,text\n1,I cry.\n")
    assert "a key names several prompts: 1\n" in outcome.out


DIALOGUE = [
    {"role": "user", "content": "I cry."},
    {"role": "assistant", "content": "When?"},
    {"role": "user", "content": "At four."},
]


def test_a_dialogue_is_a_list_of_messages_or_its_json(bring, run):
    bring("prompts", "p.jsonl", json.dumps({"messages": DIALOGUE}) + "\n")
    text = io.StringIO()
    csv.writer(text).writerows([["id", "dialogue"], ["1", json.dumps(DIALOGUE)]])
    outcome = bring("prompts", "q.csv", text.getvalue())
    assert [row["messages"] for row in records(run, "prompts")] == [DIALOGUE]
    assert "from before: 1 prompts" in outcome.out


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (DIALOGUE[:2], "the dialogue does not end with the client"),
        ([], "the dialogue does not end with the client"),
        ([{"role": "user", "content": " "}], "the dialogue does not end with the client"),
        ([{"role": "client", "content": "I cry."}], "not a dialogue of role and content"),
        ([{"from": "human", "value": "I cry."}], "not a dialogue of role and content"),
        ("I cry.", "not a dialogue of role and content"),
        (["I cry."], "not a dialogue of role and content"),
        ({"role": "user"}, "not a dialogue of role and content"),
        (None, "empty text"),
    ],
)
def test_a_dialogue_that_is_none_is_refused(bring, run, messages, reason):
    rows = [{"messages": messages}, {"messages": DIALOGUE}]
    bring("prompts", "p.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert rejects(run, "prompts-p.jsonl.jsonl") == [(1, reason)]
    assert len(records(run, "prompts")) == 1


def test_a_topic_that_comes_later_is_added_and_one_that_is_there_stays(bring, run):
    bring("prompts", "p.csv", "text\nI wake at four.\n")
    bring("prompts", "q.csv", "text,topic\nI wake at four.,sleep\n")
    bring("prompts", "r.csv", "text,topic\nI wake at four.,food\n")
    assert [row["topic"] for row in records(run, "prompts")] == ["sleep"]


def test_a_prompt_without_words_is_refused(bring, run):
    bring("prompts", "p.csv", "id,text\n1,\n2,  \n3,I cry.\n")
    assert rejects(run, "prompts-p.csv.jsonl") == [(2, "empty text"), (3, "empty text")]
    assert said(run) == ["I cry."]


# Responses


def test_a_response_names_its_prompt_by_key_by_id_or_by_words(bring, run):
    bring("prompts", "p.csv", PROMPTS)
    ids = [row["id"] for row in records(run, "prompts")]
    bring(
        "responses", "r.csv", table("1,A,key", f"{ids[1]},A,id", "I sleep badly.,B,words", columns="prompt,policy,text")
    )
    assert [(row["text"], row["prompt_id"]) for row in records(run, "responses")] == [
        ("key", ids[0]),
        ("id", ids[1]),
        ("words", ids[0]),
    ]


def test_a_prompt_is_found_by_its_raw_words_after_scrubbing(prefkit, bring, run):
    words = "My name is Quentin Bell and I cry."
    bring("prompts", "p.csv", f"text\n{words}\n")
    assert prefkit("scrub", run).code == 0
    assert "Quentin" not in said(run)[0]
    bring("responses", "r.csv", f"prompt,policy,text\n{words},A,When?\n")
    outcome = bring("prompts", "p.csv", f"text\n{words}\n")
    assert "from before: 1 prompts" in outcome.out and "Quentin" not in said(run)[0]


def test_answers_of_one_policy_are_numbered_in_the_order_of_the_file(bring, run):
    bring("prompts", "p.csv", PROMPTS)
    rows = ("1,A,first", "1,A,second", "2,A,other", "1,A,first", "1,A,third")
    outcome = bring("responses", "r.csv", table(*rows, columns="prompt,policy,text"))
    found = records(run, "responses")
    assert [(row["text"], row.get("sample", 0)) for row in found] == [
        ("first", 0),
        ("second", 1),
        ("other", 0),
        ("third", 2),
    ]
    assert [row["id"] for row in found] == [
        response_id(row["prompt_id"], "A", None, row.get("sample", 0)) for row in found
    ]
    assert rejects(run, "responses-r.csv.jsonl") == [(5, REPEATED)]
    assert outcome.out.startswith("r.csv: 4 of 5 rows imported: 4 responses\n")


def test_a_sample_column_numbers_the_answers(bring, run):
    bring("prompts", "p.csv", PROMPTS)
    rows = ("1,A,late,3", "1,A,early,0", "1,A,none,", "1,A,half,1.5", "1,A,far,1234567890", "1,A,other,3")
    bring("responses", "r.csv", table(*rows, columns="prompt,policy,text,sample"))
    assert [(row["text"], row.get("sample", 0)) for row in records(run, "responses")] == [("late", 3), ("early", 0)]
    assert rejects(run, "responses-r.csv.jsonl") == [
        (4, "another response stands under this policy"),
        (5, "sample is not a whole number from 0"),
        (6, "sample is not a whole number from 0"),
        (7, "another response stands under this policy"),
    ]


def test_a_response_is_kept_as_it_was_said(bring, run):
    bring("prompts", "p.csv", PROMPTS)
    line = {"prompt": 1, "policy": "A", "text": "  Since\r\nwhen? \n", "finish_reason": "length"}
    bring("responses", "r.jsonl", json.dumps(line) + "\n")
    (row,) = records(run, "responses")
    assert (row["text"], row["finish"]) == ("  Since\r\nwhen? \n", "length")


def test_a_response_without_words_is_refused(bring, answered):
    rows = ("1,C, ", "2,C,", ",C,Hm.", "1,,Hm.", "2,C,Hm.")
    bring("responses", "r.csv", table(*rows, columns="prompt,policy,text"))
    assert rejects(answered, "responses-r.csv.jsonl") == [
        (2, "empty text"),
        (3, "empty text"),
        (4, "empty prompt"),
        (5, "empty policy"),
    ]


@pytest.mark.parametrize(
    ("kind", "name", "content"),
    [
        ("prompts", "prompts.csv", PROMPTS),
        (
            "prompts",
            "p.csv",
            "id,text,topic\n1,I cry.,\n1,I laugh.,x\n2,I cry.,y\n2,I cry.,z\n3,\n".replace("3,", "3,,"),
        ),
        ("responses", "responses.csv", RESPONSES),
        ("responses", "r.csv", "prompt,policy,text\n1,A,Since when?\n1,A,And then?\n1,A,Since when?\n9,A,No.\n"),
        ("judgements", "j.csv", table("1,A,human:ann,4,9", "1,A,human:ann,5,5", "1,B,llm:x,,", "2,C,llm:x,1,1")),
        ("judgements", "c.csv", table("1,A,B,human:ann,a", "1,A,B,human:ann,b", columns="prompt,a,b,annotator,winner")),
    ],
)
def test_the_same_file_again_adds_nothing_and_changes_no_byte(prefkit, bring, answered, tmp_path, kind, name, content):
    first = bring(kind, name, content)
    before = snapshot(answered)
    again = prefkit("import", kind, answered, tmp_path / name)
    assert again.code == 0 and "from before: " in again.out
    assert again.out.splitlines()[0] == first.out.splitlines()[0]
    assert snapshot(answered) == before


def test_another_answer_under_the_same_policy_is_refused(bring, answered):
    before = records(answered, "responses")
    outcome = bring("responses", "other.csv", "prompt,policy,text\n1,A,Since Monday?\n2,C,Hm.\n")
    assert "not imported: 1 another response stands under this policy" in outcome.out
    assert rejects(answered, "responses-other.csv.jsonl") == [(2, "another response stands under this policy")]
    assert records(answered, "responses")[:4] == before and len(records(answered, "responses")) == 5


def test_two_files_of_one_name_are_two_imports_and_keep_their_lists(prefkit, bring, answered):
    for folder, line in (("x", "9,A,Hm.\n1,X,Hm.\n"), ("y", "1,Y,Hm.\n8,A,Hm.\n"), ("x", "9,A,Hm.\n1,X,Hm.\n")):
        bring("responses", f"{folder}/answers.csv", "prompt,policy,text\n" + line)
    assert rejects(answered, "responses-answers.csv.jsonl") == [(2, "unknown prompt")]
    assert rejects(answered, "responses-answers.csv-2.jsonl") == [(3, "unknown prompt")]
    info = Run(answered).info
    assert [entry.file for entry in info.imports].count("answers.csv") == 2


def test_the_list_of_rejects_holds_the_row(bring, answered):
    bring("responses", "r.csv", "prompt,policy,text\n1,C,Hm.\n99,C,Why?\n")
    (entry,) = map(json.loads, (answered / "rejects" / "responses-r.csv.jsonl").read_text().splitlines())
    assert entry == {
        "line": 3,
        "reason": "unknown prompt",
        "detail": "'99' is no key, id or text of a prompt of this run",
        "rest_imported": False,
        "values": {"prompt": "99", "policy": "C", "text": "Why?"},
    }


def test_an_import_without_rejects_leaves_no_folder_for_them(bring, run):
    bring("prompts", "p.csv", PROMPTS)
    assert not (run / "rejects").exists()


# Ratings


def test_a_rating_names_its_response_by_prompt_and_policy_by_key_or_by_id(bring, answered):
    ids = [row["id"] for row in records(answered, "responses")]
    bring("judgements", "a.csv", table("1,A,human:ann,4,5"))
    bring("judgements", "b.csv", f"response,annotator,empathy,safety\nr2,human:ann,3,5\n{ids[2]},human:ann,2,5\n")
    assert [row["response_id"] for row in records(answered, "judgements")] == ids[:3]
    assert [row["prompt_id"] for row in records(answered, "judgements")] == [
        row["prompt_id"] for row in records(answered, "responses")[:3]
    ]


def test_one_of_several_answers_must_be_named(bring, run):
    bring("prompts", "p.csv", PROMPTS)
    bring("responses", "r.csv", table("r1,1,A,first", "r2,1,A,second", columns="id,prompt,policy,text"))
    rows = ("1,A,human:ann,,4,", "1,A,human:bea,1,3,", "1,A,human:cat,7,3,", ",,human:dee,,2,r1")
    bring("judgements", "j.csv", table(*rows, columns="prompt,policy,annotator,sample,empathy,response"))
    assert rejects(run, "judgements-j.csv.jsonl") == [(2, "several responses fit"), (4, "unknown response")]
    ids = [row["id"] for row in records(run, "responses")]
    assert {row["annotator"]: row["response_id"] for row in records(run, "judgements")} == {
        "human:bea": ids[1],
        "human:dee": ids[0],
    }


def test_a_key_of_two_responses_names_neither(bring, run):
    bring("prompts", "p.csv", PROMPTS)
    bring("responses", "A.csv", "id,prompt,text\n1,1,Since when?\n2,2,Hm.\n", "--set", "policy=A")
    bring("responses", "B.csv", "id,prompt,text\n1,1,Count sheep.\n3,2,Eat.\n", "--set", "policy=B")
    bring("judgements", "j.csv", "response,annotator,empathy\n1,human:ann,4\n3,human:ann,2\n")
    assert rejects(run, "judgements-j.csv.jsonl") == [(2, "the key names several responses")]
    assert records(run, "judgements")[0]["response_id"] == records(run, "responses")[3]["id"]


def test_a_response_of_another_prompt_is_refused(bring, answered):
    rows = ("2,r1,human:ann,4", "1,r1,human:bea,4", "unheard of,r1,human:cat,4")
    bring("judgements", "j.csv", table(*rows, columns="prompt,response,annotator,empathy"))
    assert rejects(answered, "judgements-j.csv.jsonl") == [(2, "the response answers another prompt")]
    assert len(records(answered, "judgements")) == 2


def test_a_score_out_of_range_is_left_out_and_never_clipped(bring, answered):
    outcome = bring("judgements", "j.csv", table("1,A,human:ann,6,5", "1,B,human:ann,0,-1", "2,A,human:ann,5,1"))
    kept = records(answered, "judgements")
    assert [row["scores"] for row in kept] == [
        {"empathy": None, "safety": 5},
        {"empathy": None, "safety": None},
        {"empathy": 5, "safety": 1},
    ]
    assert kept[1]["failure"] == "no score within its scale"
    assert json.loads(kept[1]["reply"]) == {"empathy": "0", "safety": "-1"}
    assert "score out of range, left out: 3\n" in outcome.out and "3 judgements, 3 scores" in outcome.out
    reason = "score out of range, left out"
    listed = rejects(answered, "judgements-j.csv.jsonl")
    assert [line for line, found in listed if found == reason] == [2, 3, 3]


def test_scores_out_of_range_are_kept_as_they_are_when_asked_for(bring, answered):
    outcome = bring("judgements", "j.csv", table("1,A,human:ann,6,5", "1,B,human:ann,0,-1"), "--keep-out-of-range")
    assert [row["scores"] for row in records(answered, "judgements")] == [
        {"empathy": 6, "safety": 5},
        {"empathy": 0, "safety": -1},
    ]
    assert "score out of range, kept: 3\n" in outcome.out


def test_a_missing_score_is_none_and_a_row_without_any_is_refused(bring, answered):
    outcome = bring("judgements", "j.csv", table("1,A,human:ann,,5", "1,B,human:ann,,", "2,A,human:ann,x,3.50"))
    assert [row["scores"] for row in records(answered, "judgements")] == [
        {"empathy": None, "safety": 5},
        {"empathy": None, "safety": 3.5},
    ]
    assert rejects(answered, "judgements-j.csv.jsonl") == [
        (2, "score missing"),
        (3, "no score in the row"),
        (4, "score not a number"),
    ]
    assert "2 judgements, 2 scores" in outcome.out


@pytest.mark.parametrize("score", ["true", "[4]", '{"score": 4}', "9" * 400, '"nan"', '"4/5"', '"1e999"'])
def test_what_is_no_number_is_no_score(bring, answered, score):
    line = f'{{"prompt": 1, "policy": "A", "annotator": "human:ann", "empathy": {score}, "safety": 4}}\n'
    outcome = bring("judgements", "j.jsonl", line)
    assert records(answered, "judgements")[0]["scores"] == {"empathy": None, "safety": 4}
    assert "score not a number: 1\n" in outcome.out


LEVELS = """\
id: levels
version: 1
title: Levels
unit: response
aggregate: normalised
scale: yes-no
principles:
  - {id: asks, title: Asks, statement: It asks.}
  - {id: warm, title: Warm, statement: It is warm., scale: {levels: [Cold, Fair, Warm]}}
"""


def test_levels_are_read_by_name_or_number(prefkit, tmp_path):
    (tmp_path / "levels.yaml").write_text(LEVELS)
    run = tmp_path / "run"
    prefkit("new", run, "--rubric", tmp_path / "levels.yaml")
    files = {
        "prompts": PROMPTS,
        "responses": RESPONSES,
        "judgements": table(
            "1,A,human:ann,yes,warm",
            "1,B,human:ann,No,COLD",
            "2,A,human:ann,1, fair ",
            "2,B,human:ann,maybe,2",
            columns="prompt,policy,annotator,asks,warm",
        ),
    }
    for kind, content in files.items():
        (tmp_path / f"{kind}.csv").write_text(content)
        assert prefkit("import", kind, run, tmp_path / f"{kind}.csv").code == 0
    assert [row["scores"] for row in records(run, "judgements")] == [
        {"asks": 1, "warm": 2},
        {"asks": 0, "warm": 0},
        {"asks": 1, "warm": 1},
        {"asks": None, "warm": 2},
    ]


def test_an_annotator_is_a_model_or_a_person(bring, answered):
    names = ("human:ann", "llm:gpt-4o", "ann", "human:", "llm: ", "judge:x", "Human:ann", "")
    bring("judgements", "j.csv", table(*(f"1,A,{name},4,4" for name in names)))
    assert [row["annotator"] for row in records(answered, "judgements")] == ["human:ann", "llm:gpt-4o"]
    grammar = "annotator is not llm:NAME or human:NAME"
    assert [reason for _, reason in rejects(answered, "judgements-j.csv.jsonl")] == [grammar] * 5 + ["empty annotator"]


def test_an_annotator_who_answers_otherwise_is_refused_and_the_first_answer_kept(bring, answered):
    outcome = bring(
        "judgements", "j.csv", table("1,A,human:ann,4,4", "1,A,human:ann,5,4", "1,A,human:ann,4,4", "1,A,human:bea,5,4")
    )
    assert rejects(answered, "judgements-j.csv.jsonl") == [(3, "answered differently before"), (4, REPEATED)]
    assert "2 judgements, 4 scores\n" in outcome.out
    bring("judgements", "k.csv", table("1,A,human:ann,1,1", "2,A,human:ann,1,1"))
    assert rejects(answered, "judgements-k.csv.jsonl") == [(2, "answered differently before")]
    assert [row["scores"]["empathy"] for row in records(answered, "judgements")] == [4, 5, 1]


def test_ratings_belong_to_the_rubric_of_their_time(prefkit, bring, answered, tmp_path):
    bring("judgements", "j.csv", table("1,A,human:ann,4,4"))
    (tmp_path / "mine.yaml").write_text(LEVELS.replace("asks", "safety").replace("scale: yes-no", "scale: {max: 5}"))
    assert prefkit("rubric", "use", answered, tmp_path / "mine.yaml").code == 0
    bring("judgements", "k.csv", table("1,A,human:ann,1", columns="prompt,policy,annotator,safety"))
    first, second = records(answered, "judgements")
    assert first["rubric"] == load_rubric("psychocounsel").hash
    assert second["rubric"] == load_rubric(tmp_path / "mine.yaml").hash


# Comparisons


def compared(*rows: str) -> str:
    return table(*rows, columns="prompt,annotator,a,b,winner")


@pytest.mark.parametrize(
    ("winner", "meant"),
    [
        ("a", "a"),
        ("A", "a"),
        ("1", "a"),
        ("model_a", "a"),
        ("b", "b"),
        ("2", "b"),
        ("policy_b", "b"),
        ("tie", "tie"),
        ("Tie", "tie"),
        ("tie (bothbad)", "tie"),
        ("draw", "tie"),
        ("kind", "a"),
        ("wise", "b"),
    ],
)
def test_a_winner_is_a_place_a_number_or_a_name(bring, run, winner, meant):
    bring("prompts", "p.csv", PROMPTS)
    bring("responses", "r.csv", "prompt,policy,text\n1,kind,Oh dear.\n1,wise,Since when?\n")
    bring("judgements", "j.csv", compared(f"1,human:ann,kind,wise,{winner}"))
    (row,) = records(run, "judgements")
    assert row["winner"] == meant
    assert [row["a"], row["b"]] == [response["id"] for response in records(run, "responses")]


def test_0_is_a_tie_where_the_file_counts_from_1(bring, answered):
    bring("judgements", "j.csv", compared("1,human:ann,A,B,0", "2,human:ann,A,B,2", "2,human:bea,A,B,1"))
    assert [row["winner"] for row in records(answered, "judgements")] == ["tie", "b", "a"]


@pytest.mark.parametrize("winner", ["", "c", "left", "3", "0.5", "kind of a"])
def test_what_names_no_side_is_no_winner(bring, answered, winner):
    bring("judgements", "j.csv", compared(f"1,human:ann,A,B,{winner}", "2,human:ann,A,B,a"))
    assert rejects(answered, "judgements-j.csv.jsonl") == [(2, "not a winner" if winner else "no winner")]


def test_a_name_that_is_the_other_sides_place_is_refused(bring, answered):
    """Policies are called A and B, and B was shown first: nobody knows which of the two the winner "A" is."""
    bring("judgements", "j.csv", compared("1,human:ann,B,A,A", "1,human:bea,B,A,tie", "1,human:cat,A,B,A"))
    assert rejects(answered, "judgements-j.csv.jsonl") == [(2, "a winner that can be read two ways")]
    assert [row["winner"] for row in records(answered, "judgements")] == ["tie", "a"]


def test_the_sides_are_policies_or_responses(bring, answered):
    ids = [row["id"] for row in records(answered, "responses")]
    bring("judgements", "policies.csv", compared("1,human:ann,A,B,b"))
    bring("judgements", "keys.csv", compared("1,human:bea,r1,r2,r2"))
    bring("judgements", "ids.csv", f"annotator,a,b,winner\nhuman:cat,{ids[0]},{ids[1]},{ids[1]}\n")
    bring("judgements", "alone.csv", "annotator,a,b,winner\nhuman:dee,r1,r2,2\n")
    assert [(row["a"], row["b"], row["winner"]) for row in records(answered, "judgements")] == [(*ids[:2], "b")] * 4


def test_a_side_of_another_prompt_is_refused(bring, answered):
    bring(
        "judgements",
        "j.csv",
        "prompt,annotator,a,b,winner\n1,human:ann,r1,r3,a\n,human:ann,r1,r4,a\n1,human:ann,A,B,a\n",
    )
    assert rejects(answered, "judgements-j.csv.jsonl") == [
        (2, "unknown response"),
        (3, "the two responses answer different prompts"),
    ]


def test_a_response_is_not_compared_with_itself(bring, answered):
    bring("judgements", "j.csv", compared("1,human:ann,A,A,a", "1,human:ann,A,r1,a", "1,human:ann,A,B,a"))
    assert rejects(answered, "judgements-j.csv.jsonl") == [(line, "a response compared with itself") for line in (2, 3)]


def test_two_answers_of_one_policy_are_compared_by_their_keys(bring, run):
    bring("prompts", "p.csv", PROMPTS)
    bring("responses", "r.csv", table("r1,1,A,first", "r2,1,A,second", columns="id,prompt,policy,text"))
    bring("judgements", "j.csv", compared("1,human:ann,r1,r2,b", "1,human:ann,A,r2,a", "1,human:bea,r1,r2,A"))
    assert rejects(run, "judgements-j.csv.jsonl") == [(3, "several responses fit")]
    assert [row["winner"] for row in records(run, "judgements")] == ["b", "a"]


def test_a_comparison_can_have_a_winner_for_each_principle(bring, answered):
    rows = ("1,human:ann,A,B,a,b,", "2,human:ann,A,B,tie,2,1")
    bring("judgements", "j.csv", table(*rows, columns="prompt,annotator,a,b,winner,empathy,safety"))
    assert [(row["winner"], row["principles"]) for row in records(answered, "judgements")] == [
        ("a", {"empathy": "b", "safety": None}),
        ("tie", {"empathy": "b", "safety": "a"}),
    ]


def test_the_first_side_can_win_in_all_rows(bring, answered):
    content = "prompt,annotator,better,worse\n1,human:ann,A,B\n2,human:ann,B,A\n"
    bring("judgements", "j.csv", content, "--map", "a=better", "--map", "b=worse", "--set", "winner=a")
    policies = {row["id"]: row["policy"] for row in records(answered, "responses")}
    assert [(policies[row["a"]], row["winner"]) for row in records(answered, "judgements")] == [("A", "a"), ("B", "a")]


def test_the_two_orders_are_two_questions(bring, answered):
    bring("judgements", "j.csv", compared("1,llm:judge,A,B,1", "1,llm:judge,B,A,2"))
    assert [row["winner"] for row in records(answered, "judgements")] == ["a", "b"]
    assert not (answered / "rejects").exists()


# Every row ends somewhere


MADE = Rubric(
    id="made",
    version=1,
    title="Made for a test",
    unit="response",
    principles=tuple(
        Principle(id=name, title=name, statement=f"It is {name}.", scale=Scale(min=1, max=5))
        for name in ("warm", "safe")
    ),
)


def imported(folder: Path, *files: tuple[str, str, str]) -> tuple[Run, ImportReport | InputError, list[dict[str, Any]]]:
    """A run with these files imported (kind, name, content), and what became of the last: its report, or the error
    where no row of it was of use, and its rejects."""
    run = Run.create(folder / "run", MADE)
    for kind, name, content in files:
        (folder / name).write_text(content, encoding="utf-8")
        try:
            report = import_file(run, kind, str(folder / name), ImportSettings(skip_broken=True))  # type: ignore[arg-type]
        except InputError as error:
            return run, error, []
    listed = report.rejects.read_text(encoding="utf-8").splitlines() if report.rejects else []
    return run, report, [json.loads(line) for line in listed]


def check(
    report: ImportReport | InputError, listed: list[dict[str, Any]], expected: list[str | None], first_line: int
) -> None:
    """Hold an import against the reason that each row should have been refused for, None for none."""
    reasons = Counter(filter(None, expected))
    if isinstance(report, InputError):
        assert None not in expected
        return
    assert report.rows == len(expected) == report.rows_imported + report.rejected.total()
    assert report.rejected == reasons
    refused = [(entry["line"], entry["reason"]) for entry in listed if not entry["rest_imported"]]
    assert refused == [(line, reason) for line, reason in enumerate(expected, first_line) if reason]
    parts = Counter(entry["reason"] for entry in listed if entry["rest_imported"])
    assert parts == report.notes


prompt_rows = st.lists(
    st.one_of(
        st.sampled_from([None, "", " ", "I cry.", "I cry. ", "I laugh.", 5, ["I cry."], {"a": 1}]).map(
            lambda text: json.dumps({"text": text})
        ),
        st.sampled_from([DIALOGUE, DIALOGUE[:1], DIALOGUE[:2], json.dumps(DIALOGUE), "[", 7]).map(
            lambda messages: json.dumps({"messages": messages})
        ),
        st.sampled_from(["{", "[]", '{"text": "a", "text": "b"}', '{"text": NaN}', '"I cry."']),
    ),
    min_size=1,
    max_size=12,
)


@settings(deadline=None, max_examples=30)
@given(rows=prompt_rows)
def test_every_row_of_prompts_is_imported_or_has_one_reason(rows: list[str]):
    rows = ['{"text": "I am here.", "messages": null}', *rows]
    expected, seen = [reason_for_prompt(row) for row in rows], set[str]()
    for place, row in enumerate(rows):
        if expected[place] is None:
            words = prompt_words(json.loads(row))
            expected[place] = REPEATED if words in seen else None
            seen.add(words)
    with tempfile.TemporaryDirectory() as folder:
        run, report, listed = imported(Path(folder), ("prompts", "p.jsonl", "\n".join(rows) + "\n"))
        check(report, listed, expected, first_line=1)
        assert len(list(run.prompts())) == len(seen)


def prompt_words(row: dict[str, Any]) -> str:
    messages = row.get("messages")
    if messages is None:
        return json.dumps([{"role": "user", "content": str(row["text"]).strip()}])
    return json.dumps(json.loads(messages) if isinstance(messages, str) else messages)


def reason_for_prompt(row: str) -> str | None:
    if row in ("{", "[]", '{"text": "a", "text": "b"}', '{"text": NaN}', '"I cry."'):
        return "broken row"
    values = json.loads(row)
    if values.get("messages") is None:
        text = values.get("text")
        if isinstance(text, list | dict):
            return "a list or an object instead of a text"
        return None if str(text or "").strip() else "empty text"
    if values["messages"] in ("[", 7):
        return "not a dialogue of role and content"
    ends = values["messages"] == DIALOGUE[:2]
    return "the dialogue does not end with the client" if ends else None


rating_rows = st.lists(
    st.tuples(
        st.sampled_from(["1", "2", "I sleep badly.", "9", ""]),
        st.sampled_from(["A", "B", "C", ""]),
        st.sampled_from(["human:ann", "llm:x", "ann", ""]),
        st.sampled_from(["3", "3.0", "5", "0", "6", "x", ""]),
        st.sampled_from(["3", "6", ""]),
    ),
    min_size=1,
    max_size=15,
)


@settings(deadline=None, max_examples=30)
@given(rows=rating_rows)
def test_every_row_of_ratings_is_imported_or_has_one_reason(rows: list[tuple[str, ...]]):
    expected: list[str | None] = []
    answers: dict[tuple[str, ...], tuple[object, ...]] = {}
    for prompt, policy, annotator, *scores in rows:
        asked = ("1" if prompt == "I sleep badly." else prompt, policy, annotator)
        said = tuple({"3": 3, "3.0": 3, "5": 5}.get(score) for score in scores)
        kept = (*said, *(scores if not any(said) else ()))
        if not annotator:
            expected.append("empty annotator")
        elif annotator == "ann":
            expected.append("annotator is not llm:NAME or human:NAME")
        elif not any(scores):
            expected.append("no score in the row")
        elif not prompt or not policy:
            expected.append("no response named")
        elif prompt == "9":
            expected.append("unknown prompt")
        elif policy == "C":
            expected.append("unknown response")
        elif asked in answers:
            expected.append(REPEATED if answers[asked] == kept else "answered differently before")
        else:
            answers[asked] = kept
            expected.append(None)
    text = io.StringIO()
    csv.writer(text).writerows([["prompt", "policy", "annotator", "warm", "safe"], *rows])
    files = (("prompts", "p.csv", PROMPTS), ("responses", "r.csv", RESPONSES), ("judgements", "j.csv", text.getvalue()))
    with tempfile.TemporaryDirectory() as folder:
        run, report, listed = imported(Path(folder), *files)
        check(report, listed, expected, first_line=2)
        assert len(list(run.judgements())) == (len(answers) if isinstance(report, ImportReport) else 0)


response_rows = st.lists(
    st.tuples(
        st.sampled_from(["1", "2", "9", ""]),
        st.sampled_from(["A", "B", ""]),
        st.sampled_from(["Since when?", "Hm.", " ", ""]),
        st.sampled_from(["", "0", "1", "x"]),
    ),
    min_size=1,
    max_size=15,
)


@settings(deadline=None, max_examples=30)
@given(rows=response_rows)
def test_every_row_of_responses_is_imported_or_has_one_reason(rows: list[tuple[str, ...]]):
    expected: list[str | None] = []
    texts: dict[tuple[str, str, int], str] = {}
    order: dict[tuple[str, str], list[str]] = {}
    for prompt, policy, text, sample in rows:
        mine = order.setdefault((prompt, policy), [])
        number = int(sample) if sample in ("0", "1") else mine.index(text) if text in mine else len(mine)
        standing = texts.get((prompt, policy, number))
        if not prompt:
            expected.append("empty prompt")
        elif not policy:
            expected.append("empty policy")
        elif not text.strip():
            expected.append("empty text")
        elif sample == "x":
            expected.append("sample is not a whole number from 0")
        elif prompt == "9":
            expected.append("unknown prompt")
        elif standing not in (None, text):
            expected.append("another response stands under this policy")
        else:
            expected.append(None if standing is None else REPEATED)
            texts[prompt, policy, number] = text
            if not sample and text not in mine:
                mine.append(text)
    content = io.StringIO()
    csv.writer(content).writerows([["prompt", "policy", "text", "sample"], *rows])
    files = (("prompts", "p.csv", PROMPTS), ("responses", "r.csv", content.getvalue()))
    with tempfile.TemporaryDirectory() as folder:
        run, report, listed = imported(Path(folder), *files)
        check(report, listed, expected, first_line=2)
        assert len(list(run.responses())) == (len(texts) if isinstance(report, ImportReport) else 0)


# The page for users

BLOCK = re.compile(r"```(\w+)(?: (\S+))?\n(.*?)```", re.DOTALL)


def lay_down(path: Path, content: str) -> None:
    """Write a file of the page; a workbook is shown there as CSV."""
    if path.suffix == ".xlsx":
        book = openpyxl.Workbook()
        for row in csv.reader(io.StringIO(content)):
            book.active.append(row)
        book.save(path)
    else:
        path.write_text(content, encoding="utf-8")


def played(prefkit: Callable[..., Outcome], block: str) -> str:
    """A block of commands with what they print now."""
    printed = ""
    for line in re.findall(r"^\$ (.*)$", block, re.MULTILINE):
        command, *arguments = shlex.split(line)
        if command == "cat":
            printed += f"$ {line}\n" + Path(*arguments).read_text(encoding="utf-8")
        else:
            assert command == "prefkit"
            outcome = prefkit(*arguments)
            printed += f"$ {line}\n{outcome.out}{outcome.err}"
    return printed


def test_the_page_for_users_is_true(prefkit, tmp_path, monkeypatch):
    """Every file of docs/importing.md is written and every command run, in their order."""
    monkeypatch.chdir(tmp_path)
    for language, name, content in BLOCK.findall(DOCS.read_text(encoding="utf-8")):
        if name:
            lay_down(Path(name), content)
        elif language == "console":
            assert played(prefkit, content) == content


def test_the_page_names_every_field_with_its_usual_names():
    rows = re.findall(r"^\| (\w*) ?\| `(\w+)` \| ([\w, ]*)\|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    shown: dict[str, dict[str, tuple[str, ...]]] = {}
    for kind, name, usual in rows:
        shown[kind or list(shown)[-1]] = {
            **shown.get(kind or list(shown)[-1], {}),
            name: tuple(usual.replace(",", "").split()),
        }
    assert shown == FIELDS


def test_the_page_has_each_preset_with_what_may_be_set():
    rows = re.findall(r"^\| `([a-z-]+)` \| (\w+) \| (.*)\|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert {name: ((kind,), tuple(sorted(re.findall(r"--set (\w+)=", rest)))) for name, kind, rest in rows} == {
        preset.name: (preset.kinds, preset.takes) for preset in PRESETS.values()
    }
