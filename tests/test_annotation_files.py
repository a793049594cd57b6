"""Items go out as tables and Label Studio tasks, and answers come back from these and from Argilla's records."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import making
import msgspec
import openpyxl
import pyarrow as pa
import pytest
from asked import SPEECHES, TEXTS, asked_run, item, winners
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from prefkit.annotation.items import pseudonym
from prefkit.annotation.tables import LONGEST, guarded, unguarded
from prefkit.records import Comparison, Prompt, Rating
from prefkit.rubric import Principle, Rubric, Scale
from prefkit.run import Run

AB, BA, BC = item("p1/A", "p1/B"), item("p2/B", "p2/A"), item("p3/B", "p3/C", deck="first-2")
Call = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run with two decks."""
    return asked_run(tmp_path / "first", AB, BA, BC)


@pytest.fixture
def annotate(prefkit: Callable[..., Any]) -> Call:
    """Run a command of `prefkit annotate` that must succeed; gives what it says."""

    def call(*arguments: object) -> str:
        outcome = prefkit("annotate", *arguments)
        assert outcome.code == 0, outcome.err
        return str(outcome.out)

    return call


@pytest.fixture
def failing(prefkit: Callable[..., Any]) -> Call:
    """The same for one that must fail with a message; gives the message."""

    def call(*arguments: object) -> str:
        outcome = prefkit("annotate", *arguments)
        assert (outcome.code, outcome.err[:7]) == (1, "Error: "), outcome
        return str(outcome.err)

    return call


def judged(run: Run) -> list[Any]:
    return list(run.judgements())


# Argilla's records

SAID: dict[str, dict[str, Any]] = {
    "u1": {"overall": "B", "principle-warm": "A", "reason": "Hm.", "flags": ["risk"]},
    "u2": {"overall": "tie"},
}


def listed() -> list[dict[str, Any]]:
    return [
        {"question_name": name, "value": value, "user_id": user, "status": "submitted"}
        for user, values in SAID.items()
        for name, value in values.items()
    ]


def by_question(status: str | None = None) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for user, values in SAID.items():
        for name, value in values.items():
            found.setdefault(name, []).append(
                {"value": value, "user_id": user} | ({"status": status} if status else {})
            )
    return found


def flat() -> dict[str, Any]:
    row: dict[str, Any] = {}
    for name, answers in by_question().items():
        row[f"{name}.responses"] = [one["value"] for one in answers]
        row[f"{name}.responses.users"] = [one["user_id"] for one in answers]
        row[f"{name}.responses.status"] = ["submitted" for _ in answers]
    return row


def of_api() -> list[dict[str, Any]]:
    return [
        {"user_id": user, "status": "submitted", "values": {name: {"value": value} for name, value in values.items()}}
        for user, values in SAID.items()
    ]


SHAPES: dict[str, dict[str, Any]] = {
    "list of values": {"id": AB.id, "responses": listed()},
    "by question": {"id": AB.id, "_server_id": "x", "responses": by_question()},
    "by question, with statuses": {"id": AB.id, "responses": by_question("submitted")},
    "flat": {"id": AB.id, "status": "completed", **flat()},
    "of the API": {"id": "a server's", "external_id": AB.id, "responses": of_api()},
}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        parquet.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


MIXED = "list of values"
"""A column of labels and lists, which Parquet does not have."""


@pytest.mark.parametrize(
    ("shape", "ending"),
    [
        (shape, ending)
        for shape in SHAPES
        for ending in ("jsonl", "json", "parquet")
        if (shape, ending) != (MIXED, "parquet")
    ],
)
def test_every_shape_of_argillas_records_brings_all_annotators(
    run: Run, tmp_path: Path, annotate: Call, shape: str, ending: str
) -> None:
    nobody = {"id": BA.id, "responses": [] if "list" in shape or "API" in shape else {}}
    rows = [SHAPES[shape]] + ([nobody] if ending != "parquet" and shape != "flat" else [])
    annotate("pull", run.path, "--file", write_rows(tmp_path / f"export.{ending}", rows))
    by = {one.annotator: one for one in judged(run)}
    one, two = by[pseudonym(run, "u1")], by[pseudonym(run, "u2")]
    assert (one.winner, one.principles, one.reason, one.flags) == ("b", {"warm": "a", "safe": None}, "Hm.", ("risk",))
    assert (two.winner, two.principles, two.reason, two.flags) == ("tie", {"warm": None, "safe": None}, None, ())


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"id": "another's", "responses": listed()}, "2 an item that this run does not have"),
        ({"id": 7, "responses": listed()}, "1 a record without an item's id"),
        ({"id": AB.id, "responses": "none"}, "1 responses that cannot be read"),
        ({"id": AB.id, "responses": [{"value": "A"}]}, "1 responses that cannot be read"),
        ({"id": AB.id, "responses": [*listed(), listed()[0]]}, "1 responses that cannot be read"),
        ({"id": AB.id, "responses": [{**listed()[0], "user_id": None}]}, "1 responses that cannot be read"),
        ({"id": AB.id, "responses": [{**listed()[0], "status": "sent"}]}, "1 responses that cannot be read"),
        ({"id": AB.id, "responses": [listed()[0], {**listed()[1], "status": "draft"}]}, "1 responses that cannot"),
        ({"id": AB.id, **flat(), "overall.responses.users": ["u1"]}, "1 responses that cannot be read"),
        ({"id": AB.id, "responses": [{**listed()[0], "value": "left"}]}, "1 a value that cannot be understood"),
    ],
)
def test_a_record_that_cannot_be_read_is_listed_and_the_others_come(
    run: Run, tmp_path: Path, annotate: Call, row: dict[str, Any], why: str
) -> None:
    good = {"id": BC.id, "responses": [listed()[0]]}
    path = tmp_path / "export.jsonl"
    path.write_text(json.dumps(row) + "\n" + json.dumps(good) + "\n{broken\n")
    out = annotate("pull", run.path, "--file", path)
    assert f"not brought in: {why}" in out
    assert "not brought in: 1 a row that cannot be read" in out
    assert winners(run) == {"p3/B|p3/C": "p3/C"}
    rejected = (run.path / "rejects" / "annotate-pull-export.jsonl.jsonl").read_text().splitlines()
    assert {json.loads(line)["where"] for line in rejected} == {"row 1", "row 3"}


def test_a_file_without_statuses_says_so_and_takes_incomplete_answers_for_drafts(
    run: Run, tmp_path: Path, annotate: Call
) -> None:
    rows = [
        {"id": AB.id, "responses": by_question()},
        {"id": BA.id, "responses": {"reason": [{"value": "x", "user_id": "u1"}]}},
    ]
    out = annotate("pull", run.path, "--file", write_rows(tmp_path / "export.json", rows))
    assert "answers without a status, read as submitted: 2" in out
    assert "answers without a status, read as draft: 1" in out
    assert [one.failure for one in judged(run)] == [None, None, "draft"]


@pytest.mark.parametrize("status", ["draft", None])
def test_an_older_file_takes_nothing_back(run: Run, tmp_path: Path, annotate: Call, status: str | None) -> None:
    """A draft does not replace what was submitted, nor an answer of unknown status what was discarded."""
    known = "submitted" if status == "draft" else "discarded"
    for path, said in (("new.jsonl", known), ("old.jsonl", status)):
        row = {"id": AB.id, "responses": [{"question_name": "overall", "value": "A", "user_id": "u1", "status": said}]}
        out = annotate("pull", run.path, "--file", write_rows(tmp_path / path, [row]))
    assert "may be older than what is here, passed over: 1" in out
    assert [one.failure for one in judged(run)] == [None if known == "submitted" else "discarded"]


def test_pulling_a_file_again_changes_no_byte(run: Run, tmp_path: Path, annotate: Call) -> None:
    path = write_rows(tmp_path / "export.jsonl", [SHAPES["flat"], {"id": "another's", **flat()}])
    annotate("pull", run.path, "--file", path)
    before = {one: one.read_bytes() for one in run.path.rglob("*") if one.is_file()}
    annotate("pull", run.path, "--file", path)
    assert {one: one.read_bytes() for one in run.path.rglob("*") if one.is_file()} == before
    entry = msgspec.json.decode((run.path / "run.json").read_bytes())["imports"]
    assert [(one["kind"], one["file"], one["rows"], one["imported"]) for one in entry] == [
        ("annotations", "export.jsonl", 2, {"submitted": 2})
    ]


# Tables


def filled(path: Path, *rows: dict[str, str]) -> None:
    """Fill in an exported table: a row's ``item`` says which; other keys are names of columns or their beginnings."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        table = list(csv.DictReader(file))
    for row in rows:
        line = next(line for line in table if line["item"] == "id-" + row["item"])
        for name, value in row.items():
            if name != "item":
                line[next(column for column in line if column == name or column.startswith(f"{name} ("))] = value
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(reversed(table))


def test_a_filled_table_comes_back_with_the_sides_undone_whatever_the_order_of_its_rows(
    run: Run, tmp_path: Path, annotate: Call
) -> None:
    path = tmp_path / "anna.csv"
    out = annotate("export", run.path, "--to", "csv", path)
    assert f"{path}: 3 items" in out
    filled(
        path,
        {"item": AB.id, "overall": "b", "strength": "Much", "principle-warm": "A", "flags": "risk, uncomfortable"},
        {"item": BA.id, "overall": " A ", "reason": "- warm\n- kind", "annotator": "ben"},
    )
    out = annotate("pull", run.path, "--file", path, "--annotator", "anna")
    assert winners(run) == {"p1/A|p1/B": "p1/B", "p2/B|p2/A": "p2/B"}
    assert "rows not filled in: 1" in out
    by = {one.annotator: one for one in judged(run)}
    one, two = by[pseudonym(run, "anna")], by[pseudonym(run, "ben")]
    assert (one.strength, one.principles, one.flags) == (3, {"warm": "a", "safe": None}, ("uncomfortable", "risk"))
    assert two.reason == "- warm\n- kind"
    names = [name for name in run.path.rglob("*") if name.is_file() and b'anna"' in name.read_bytes()]
    assert not names


def test_a_table_holds_the_texts_as_they_stood_and_no_formula(run: Run, tmp_path: Path, annotate: Call) -> None:
    path = tmp_path / "table.csv"
    annotate("export", run.path, "--to", "csv", path, "--dataset", "first-1")
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(row["client"].startswith("'=") for row in rows)
    shown = [(unguarded(row["client"]), row["A"], row["B"]) for row in rows]
    assert shown == [(SPEECHES["p1"], TEXTS["p1/A"], TEXTS["p1/B"]), (SPEECHES["p2"], TEXTS["p2/B"], TEXTS["p2/A"])]
    assert list(rows[0])[5:] == [
        "overall (A, B, tie)",
        "strength (slightly, clearly, much)",
        "principle-warm (A, B, tie)",
        "principle-safe (A, B, tie)",
        "reason",
        "flags (uncomfortable, risk)",
        "annotator",
    ]
    words = path.read_text(encoding="utf-8-sig")
    assert not [secret for secret in ("compared", AB.form, AB.rubric, AB.words) if secret in words]


@given(st.text(st.characters(exclude_categories=["Cs"])) | st.from_regex(r"'*\s*[=+@\t-].*", fullmatch=True))
def test_a_guarded_cell_is_no_formula_and_comes_back_exactly(text: str) -> None:
    cell = guarded(text)
    assert unguarded(cell) == text
    assert not cell.lstrip().startswith(("=", "+", "-", "@"))


@pytest.mark.parametrize(
    ("cells", "said", "failures"),
    [
        ({"reason": "I stopped here"}, "rows half filled in, kept as drafts: 1", ["draft"]),
        ({"overall": "C"}, "not brought in: 1 a value that cannot be understood", []),
        ({"overall": "A", "strength": "very"}, "not brought in: 1 a value that cannot be understood", []),
        ({"overall": "A", "flags": "tired"}, "not brought in: 1 a value that cannot be understood", []),
    ],
)
def test_a_row_that_is_half_filled_in_or_odd_is_counted_with_its_reason(
    run: Run, tmp_path: Path, annotate: Call, cells: dict[str, str], said: str, failures: list[str]
) -> None:
    path = tmp_path / "table.csv"
    annotate("export", run.path, "--to", "csv", path)
    filled(path, {"item": AB.id, **cells})
    assert said in annotate("pull", run.path, "--file", path, "--annotator", "anna")
    assert [one.failure for one in judged(run)] == failures


def test_a_table_that_does_not_say_who_filled_it_in_is_not_read(run: Run, tmp_path: Path, annotate: Call) -> None:
    path = tmp_path / "table.csv"
    annotate("export", run.path, "--to", "csv", path)
    filled(path, {"item": AB.id, "overall": "A"})
    assert "not brought in: 1 no annotator" in annotate("pull", run.path, "--file", path)


def test_a_workbook_made_of_the_table_comes_back_too(tmp_path: Path, annotate: Call) -> None:
    """Numbers are numbers there, and empty cells are none."""
    rated = item("p1/A", None, deck="rate")
    run = asked_run(tmp_path / "run", rated)
    path = tmp_path / "table.csv"
    annotate("export", run.path, "--to", "csv", path)
    book = openpyxl.Workbook()
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.reader(file):
            book.active.append([cell or None for cell in row])
    header = [cell.value for cell in book.active[1]]
    for name, value in (
        ("principle-warm (1, 2, 3, 4, 5)", 4),
        ("principle-safe (1, 2, 3, 4, 5)", 2.0),
        ("annotator", 12),
    ):
        book.active.cell(2, header.index(name) + 1, value)
    book.save(tmp_path / "table.xlsx")
    annotate("pull", run.path, "--file", tmp_path / "table.xlsx")
    [one] = judged(run)
    assert isinstance(one, Rating)
    assert (one.scores, one.annotator) == ({"warm": 4, "safe": 2}, pseudonym(run, "12"))


def test_an_items_id_is_never_a_number_to_a_spreadsheet(tmp_path: Path, annotate: Call) -> None:
    odd = [item("p1/A", "p1/B", id="12345678901234567890"), item("p2/A", "p2/B", id="1e345678901234567890")]
    run = asked_run(tmp_path / "run", *odd)
    annotate("export", run.path, "--to", "csv", tmp_path / "table.csv")
    filled(tmp_path / "table.csv", *({"item": one.id, "overall": "A"} for one in odd))
    with (tmp_path / "table.csv").open(encoding="utf-8-sig", newline="") as file:
        assert all(row["item"].startswith("id-") for row in csv.DictReader(file))
    annotate("pull", run.path, "--file", tmp_path / "table.csv", "--annotator", "anna")
    assert len(judged(run)) == 2


def test_texts_that_were_changed_since_and_adjudications_stay_behind(tmp_path: Path, annotate: Call) -> None:
    changed, judging = item("p1/A", "p1/B", words="other words"), item("p4/A", "p4/B", kind="adjudication")
    run = asked_run(tmp_path / "run", changed, judging, BA)
    out = annotate("export", run.path, "--to", "csv", tmp_path / "table.csv")
    assert "table.csv: 1 items" in out
    assert "left out: 1 item whose texts were changed since" in out
    assert "left out: 1 adjudication item" in out


def test_a_cell_that_a_spreadsheet_cuts_off_is_counted(
    tmp_path: Path, annotate: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TEXTS, "p1/A", "long " * LONGEST)
    run = asked_run(tmp_path / "run", item("p1/A", "p1/B"))
    out = annotate("export", run.path, "--to", "csv", tmp_path / "table.csv")
    assert "which a spreadsheet cuts off: 1 cells" in out


def test_texts_that_were_not_scrubbed_are_told(run: Run, tmp_path: Path, annotate: Call) -> None:
    assert "not scrubbed: 9 texts" in annotate("export", run.path, "--to", "csv", tmp_path / "table.csv")
    run.replace(Prompt, [msgspec.structs.replace(prompt, scrubbed=True) for prompt in run.prompts()])
    assert "not scrubbed: 6 texts" in annotate("export", run.path, "--to", "csv", tmp_path / "again.csv")


def test_an_export_replaces_no_file(run: Run, tmp_path: Path, annotate: Call, failing: Call) -> None:
    annotate("export", run.path, "--to", "csv", tmp_path / "table.csv")
    filled(tmp_path / "table.csv", {"item": AB.id, "overall": "A"})
    before = (tmp_path / "table.csv").read_bytes()
    assert "may hold answers already" in failing("export", run.path, "--to", "csv", tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_bytes() == before
    (tmp_path / "tasks.json.xml").write_text("mine")
    failing("export", run.path, "--to", "label-studio", tmp_path / "tasks.json")
    assert not (tmp_path / "tasks.json").exists()


def test_items_of_several_forms_do_not_go_into_one_file(tmp_path: Path, annotate: Call, failing: Call) -> None:
    run = asked_run(tmp_path / "run", AB, item("p2/A", None, deck="rate"))
    path = tmp_path / "table.csv"
    assert "expected items of one form" in failing("export", run.path, "--to", "csv", path)
    assert "1 items" in annotate("export", run.path, "--to", "csv", path, "--dataset", "rate")


def test_without_items_an_export_says_what_to_do_first(tmp_path: Path, failing: Call) -> None:
    run = making.make_run(tmp_path / "run", making.rated({"p1/A": 3}))
    assert "prefkit annotate push" in failing("export", run.path, "--to", "csv", tmp_path / "table.csv")


# Label Studio


def chosen(name: str, *values: str) -> dict[str, Any]:
    """What Label Studio exports of a Choices tag."""
    return {"id": "x", "from_name": name, "to_name": "left", "type": "choices", "value": {"choices": list(values)}}


def clicked(side: str) -> dict[str, Any]:
    """The same of a Pairwise tag."""
    return {"id": "x", "from_name": "overall", "to_name": "overall", "type": "pairwise", "value": {"selected": side}}


def written(*texts: str) -> dict[str, Any]:
    """The same of a TextArea tag."""
    return {"id": "x", "from_name": "reason", "to_name": "left", "type": "textarea", "value": {"text": list(texts)}}


def annotation(by: Any, *results: dict[str, Any], **more: Any) -> dict[str, Any]:
    """One annotator's annotation of a task."""
    times = {"created_at": "2026-11-21T10:00:00Z", "updated_at": "2026-11-21T10:00:00Z", "lead_time": 42.34}
    return {"id": 1, "completed_by": by, "was_cancelled": False, "result": list(results), **times, **more}


@pytest.fixture
def tasks(run: Run, tmp_path: Path, annotate: Call) -> list[dict[str, Any]]:
    """The tasks of the run, as Label Studio would export them before anybody annotated."""
    annotate("export", run.path, "--to", "label-studio", tmp_path / "tasks.json")
    exported = json.loads((tmp_path / "tasks.json").read_text())
    return [{"id": number, "annotations": [], "drafts": [], **task} for number, task in enumerate(exported, 1)]


def pulled(run: Run, tmp_path: Path, annotate: Call, tasks: list[dict[str, Any]]) -> str:
    (tmp_path / "export.json").write_text(json.dumps(tasks, indent=1))
    return annotate("pull", run.path, "--file", tmp_path / "export.json")


def test_tasks_hold_the_texts_and_the_configuration_a_tag_for_each_question(
    tasks: list[dict[str, Any]], tmp_path: Path
) -> None:
    assert [task["data"]["item"] for task in tasks] == [AB.id, BA.id, BC.id]
    shown = tasks[1]["data"]
    assert (shown["client"], shown["left"], shown["right"]) == (SPEECHES["p2"], TEXTS["p2/B"], TEXTS["p2/A"])
    view = ElementTree.parse(tmp_path / "tasks.json.xml").getroot()
    asked = [(tag.tag, tag.get("name"), tag.get("toName")) for tag in view.iter() if tag.get("toName")]
    assert asked == [
        ("Pairwise", "overall", "left,right"),
        ("Choices", "tie", "left"),
        ("Choices", "strength", "left"),
        ("Choices", "principle-warm", "left"),
        ("Choices", "principle-safe", "left"),
        ("TextArea", "reason", "left"),
        ("Choices", "flags", "left"),
    ]
    texts = {tag.get("name"): tag.get("value") for tag in view.iter("Text")}
    assert texts == {"client": "$client", "left": "$left", "right": "$right"}
    assert all(set(task["data"]) >= {value.removeprefix("$") for value in texts.values() if value} for task in tasks)


def test_annotations_of_several_people_come_back_with_the_sides_undone(
    run: Run, tasks: list[dict[str, Any]], tmp_path: Path, annotate: Call
) -> None:
    tasks[1]["annotations"] = [
        annotation(
            7, clicked("left"), chosen("strength", "much"), chosen("principle-warm", "B"), written("So", "kind")
        ),
        annotation(
            {"id": 8, "email": "ben@example.org"}, chosen("tie", "tie"), chosen("flags", "risk", "uncomfortable")
        ),
        annotation("cleo@example.org", clicked("right")),
    ]
    out = pulled(run, tmp_path, annotate, tasks)
    by = {one.annotator: one for one in judged(run)}
    seven, eight, cleo = (by[pseudonym(run, who)] for who in ("label-studio:7", "label-studio:8", "cleo@example.org"))
    assert [one.winner for one in (seven, eight, cleo)] == ["a", "tie", "b"]
    assert (seven.a, seven.strength, seven.principles, seven.reason) == (
        "p2/B",
        3,
        {"warm": "b", "safe": None},
        "So\nkind",
    )
    assert (eight.flags, seven.seconds) == (("uncomfortable", "risk"), 42.3)
    assert "tasks without an annotation: 2" in out
    assert not [path for path in run.path.rglob("*") if path.is_file() and b"example.org" in path.read_bytes()]


def test_a_skipped_task_is_discarded_and_a_draft_is_counted(
    run: Run, tasks: list[dict[str, Any]], tmp_path: Path, annotate: Call
) -> None:
    tasks[0]["annotations"] = [annotation(7, written("Too close to home."), was_cancelled=True)]
    tasks[1]["drafts"] = [{"user": "ben@example.org", "result": [clicked("left")]}]
    out = pulled(run, tmp_path, annotate, tasks)
    [one] = judged(run)
    assert (one.failure, one.winner, one.reason, one.seconds) == ("discarded", None, "Too close to home.", None)
    assert "drafts in Label Studio, left out: 1" in out


@pytest.mark.parametrize(
    ("results", "by", "why"),
    [
        ([clicked("left"), chosen("tie", "tie")], 7, "a value that cannot be understood"),
        ([clicked("left"), clicked("right")], 7, "a value that cannot be understood"),
        ([clicked("left"), chosen("strength", "much", "slightly")], 7, "a value that cannot be understood"),
        ([clicked("middle")], 7, "a value that cannot be understood"),
        (["left"], 7, "a value that cannot be understood"),
        ([], 7, "an answer without a choice, though submitted"),
        ([clicked("left")], None, "no annotator"),
    ],
)
def test_an_annotation_that_says_nothing_or_two_things_is_listed(
    run: Run, tasks: list[dict[str, Any]], tmp_path: Path, annotate: Call, results: list[Any], by: Any, why: str
) -> None:
    tasks[0]["annotations"] = [annotation(by, *results)]
    assert f"not brought in: 1 {why}" in pulled(run, tmp_path, annotate, tasks)
    assert not judged(run)


def test_a_task_of_another_run_or_form_is_listed(
    run: Run, tasks: list[dict[str, Any]], tmp_path: Path, annotate: Call
) -> None:
    for task in tasks:
        task["annotations"] = [annotation(7, clicked("left"))]
    tasks[0]["data"]["item"] = "another's"
    tasks[1]["data"]["form"] = "another"
    del tasks[2]["data"]["item"]
    out = pulled(run, tmp_path, annotate, tasks)
    assert "not brought in: 2 an item that this run does not have" in out
    assert "not brought in: 1 another form than its item's" in out


def test_an_annotation_that_another_account_changed_is_counted(
    run: Run, tasks: list[dict[str, Any]], tmp_path: Path, annotate: Call
) -> None:
    tasks[0]["annotations"] = [annotation(7, clicked("left"), updated_by=8)]
    tasks[1]["annotations"] = [annotation({"id": 7}, clicked("left"), updated_by=7)]
    out = pulled(run, tmp_path, annotate, tasks)
    assert "changed by another account since, kept as the first one's: 1" in out
    assert {one.annotator for one in judged(run)} == {pseudonym(run, "label-studio:7")}


def test_tags_that_a_team_added_are_passed_over_and_counted(
    run: Run, tasks: list[dict[str, Any]], tmp_path: Path, annotate: Call
) -> None:
    tasks[0]["annotations"] = [annotation(7, clicked("left"), chosen("our-own", "x"))]
    assert "answers to tags that are not prefkit's, passed over: 1" in pulled(run, tmp_path, annotate, tasks)
    assert winners(run) == {"p1/A|p1/B": "p1/A"}


def test_scores_are_stars_where_the_scale_is_plain_and_choices_where_its_steps_have_words(
    tmp_path: Path, annotate: Call
) -> None:
    principles = (
        Principle(id="warm", title="Warm", statement="It is warm."),
        Principle(
            id="risk", title="Risk & <safety>", statement="Safe.", scale=Scale(min=0, max=1, levels=("no", "yes"))
        ),
    )
    rubric = Rubric(id="made", version=1, title="Made", unit="response", principles=principles)
    rated = item("p1/A", None, deck="rate", rubric=rubric)
    run = asked_run(tmp_path / "run", rated, rubric=rubric)
    annotate("export", run.path, "--to", "label-studio", tmp_path / "tasks.json")
    view = ElementTree.parse(tmp_path / "tasks.json.xml").getroot()
    [stars] = view.iter("Rating")
    assert (stars.get("name"), stars.get("maxRating")) == ("principle-warm", "5")
    assert [choice.get("alias") for choice in view.findall(".//Choices[@name='principle-risk']/Choice")] == ["0", "1"]
    [task] = json.loads((tmp_path / "tasks.json").read_text())
    star = {"from_name": "principle-warm", "to_name": "left", "type": "rating", "value": {"rating": 4}}
    task |= {"id": 1, "annotations": [annotation(7, star, chosen("principle-risk", "1"))]}
    pulled(run, tmp_path, annotate, [task])
    [one] = judged(run)
    assert one.scores == {"warm": 4, "risk": 1}


def test_a_rubrics_words_name_no_field_of_a_task_and_descriptions_and_long_labels_keep_their_lines(
    tmp_path: Path, annotate: Call
) -> None:
    """Label Studio shows `undefined` for $5, which no task has, and the client's words for $client."""
    principles = (
        Principle(id="warm", title="Worth $5", statement="Not $client.", anchors={1: "Cold.", 5: "Warm."}),
        Principle(id="risk", title="Risk", statement="Safe.", scale=Scale(min=0, max=1, levels=("no $1", "yes"))),
        Principle(id="slow", title="Slow", statement="Slow.", scale=Scale(min=0, max=1, levels=("no", "yes, " * 5))),
    )
    rubric = Rubric(id="made", version=1, title="Made", unit="response", principles=principles, aggregate="normalised")
    shown = {
        "rate": item("p1/A", None, deck="rate", rubric=rubric),
        "compare": item("p1/A", "p1/B", rubric=rubric),
    }
    views = {}
    for mode, one in shown.items():
        run = asked_run(tmp_path / mode, one, rubric=rubric)
        annotate("export", run.path, "--to", "label-studio", tmp_path / f"{mode}.json")
        views[mode] = ElementTree.parse(tmp_path / f"{mode}.json.xml").getroot()
        words = [tag.get("value", "") for tag in views[mode].iter() if tag.tag in ("Header", "Choice")]
        assert [text for text in words if re.search(r"\$\w", text)] == []
        assert "Worth $\N{WORD JOINER}5" in words
    described = next(tag for tag in views["compare"].iter("Header") if "Cold" in tag.get("value", ""))
    assert described.get("value") == "Not $\N{WORD JOINER}client.\n1: Cold.\n5: Warm."
    assert "font-weight: normal" in described.get("style", "")
    inline = {tag.get("name"): tag.get("showInline") for tag in views["rate"].iter("Choices")}
    assert (inline["principle-risk"], inline["principle-slow"]) == ("true", "false")
    assert all(tag.get("editable") == "true" for tag in views["rate"].iter("TextArea"))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("short.json", '[{"item": "x", "overall": "left", "annotation_id": 3, "annotator": 1}]', "choose JSON"),
        ("other.csv", "name,age\nann,3\n", "none of the known shapes (age, name)"),
        ("empty.jsonl", "", "empty file"),
        ("broken.json", '[{"id": ', "JSON"),
        ("broken.parquet", "PAR1 and then nothing", "Parquet"),
        ("table.xlsx", "not a workbook", "found"),
    ],
)
def test_a_file_that_is_something_else_is_said_so_and_changes_nothing(
    run: Run, tmp_path: Path, failing: Call, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    before = (run.path / "run.json").read_bytes()
    assert message in failing("pull", run.path, "--file", tmp_path / name)
    assert (run.path / "run.json").read_bytes() == before
    assert not judged(run)


def test_what_cannot_be_listed_brings_nothing_in(run: Run, tmp_path: Path, failing: Call) -> None:
    rows = [{"id": AB.id, "responses": listed()}, {"id": "another's", "responses": listed()}]
    (run.path / "rejects").write_text("not a folder")
    failing("pull", run.path, "--file", write_rows(tmp_path / "export.jsonl", rows))
    assert not judged(run)


def test_options_that_do_not_go_together_are_refused(run: Run, prefkit: Callable[..., Any]) -> None:
    for options in (["--file", "x.csv", "--url", "http://127.0.0.1:1"], ["--annotator", "anna"]):
        assert prefkit("annotate", "pull", run.path, *options).code == 2


def test_a_comparison_from_a_file_is_what_the_server_would_have_given(
    run: Run, tasks: list[dict[str, Any]], tmp_path: Path, annotate: Call
) -> None:
    """The id digests the question and the annotator: one account's answers from a table and from records are one."""
    annotate("pull", run.path, "--file", write_rows(tmp_path / "a.jsonl", [{"id": AB.id, "responses": [listed()[0]]}]))
    annotate("export", run.path, "--to", "csv", tmp_path / "table.csv")
    filled(tmp_path / "table.csv", {"item": AB.id, "overall": "A", "annotator": "u1"})
    out = annotate("pull", run.path, "--file", tmp_path / "table.csv")
    assert "0 new, 1 changed" in out
    [one] = judged(run)
    assert isinstance(one, Comparison)
    assert one.winner == "a"
