"""The run folder: made, opened, read, written by one process at a time; and what is wrong with it, in a message."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefkit.errors import RecordError, RunError
from prefkit.importing.importer import import_file
from prefkit.importing.resolver import ImportSettings
from prefkit.pairs.build import build_pairs
from prefkit.pairs.settings import PairSettings
from prefkit.records import (
    Comparison,
    Judgement,
    Message,
    Prompt,
    Rating,
    Response,
    judgement_id,
    prompt_id,
    response_id,
)
from prefkit.rubric import Principle, Rubric
from prefkit.run import Import, Run, read_records

quick = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
WARM, CLEAR = (
    Principle(id="warm", title="Warm", statement="It is kind to the client."),
    Principle(id="clear", title="Clear", statement="It can be understood at once."),
)
RUBRIC = Rubric(id="mini", version=1, title="Mini", unit="response", principles=(WARM, CLEAR))
WORDS = ["river", "stone", "cloud", "bread", "window", "garden", "letter", "candle", "mirror", "basket"]
POLICIES = ("one", "two", "three")


def words(seed: str) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=30))


def prompt(number: int) -> Prompt:
    messages = (Message(role="user", content=words(f"prompt {number}")),)
    return Prompt(id=prompt_id(messages), messages=messages, keys=(f"q{number}",))


def response(to: Prompt, policy: str) -> Response:
    name = response_id(to.id, policy)
    return Response(id=name, prompt_id=to.id, policy=policy, text=words(name))


def rating(of: Response, scores: dict[str, Any], rubric: Rubric = RUBRIC, annotator: str = "llm:judge") -> Rating:
    return Rating(
        id=judgement_id(annotator, ["rating", rubric.hash, of.id, sorted(scores)]),
        annotator=annotator,
        prompt_id=of.prompt_id,
        rubric=rubric.hash,
        response_id=of.id,
        scores=scores,
    )


PROMPTS = [prompt(number) for number in range(24)]
RESPONSES = [response(to, policy) for to in PROMPTS for policy in POLICIES]
RATINGS = [
    rating(of, {"warm": 1 + index * 7 % 5, "clear": 1 + (index * 3 + index // 5) % 5})
    for index, of in enumerate(RESPONSES)
]


def filled(folder: Path, judgements: Iterable[Judgement] = RATINGS) -> Run:
    run = Run.create(folder, RUBRIC)
    run.replace(Prompt, PROMPTS)
    run.append(Response, (msgspec.json.encode(item) + b"\n" for item in RESPONSES))
    run.append(Judgement, (msgspec.json.encode(item) + b"\n" for item in judgements))
    return run


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return filled(tmp_path / "run")


def contents(folder: Path) -> dict[str, bytes | None]:
    paths = (path for path in sorted(folder.rglob("*")) if path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


# Made


def test_the_same_command_makes_the_same_run(tmp_path):
    for name in ("a", "b"):
        Run.create(tmp_path / name, RUBRIC)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert Run(tmp_path / "a").rubric == RUBRIC


def test_an_empty_folder_and_folders_above_that_are_not_there_become_a_run(tmp_path):
    (tmp_path / "empty").mkdir()
    Run.create(tmp_path / "empty", RUBRIC)
    Run.create(tmp_path / "not" / "there", RUBRIC)
    assert Run(tmp_path / "not" / "there").rubric == Run(tmp_path / "empty").rubric == RUBRIC


def test_a_folder_that_holds_anything_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="found other files; expected an empty folder or a new name"):
        Run.create(tmp_path, RUBRIC)
    assert contents(tmp_path) == {"thesis.txt": b"years of work"}


def test_a_run_is_not_made_anew(run):
    before = contents(run.path)
    with pytest.raises(RunError, match="found a run; expected a new name"):
        Run.create(run.path, RUBRIC)
    assert contents(run.path) == before


def test_a_command_that_was_killed_while_it_made_a_run_can_be_run_again(tmp_path):
    (tmp_path / "run.json.part").write_text("{")
    assert contents(Run.create(tmp_path, RUBRIC).path).keys() == {"run.json"}


@pytest.mark.parametrize(
    ("name", "found"),
    [("file", "a file"), ("file/run", "not a directory"), ("x" * 300, "file name too long")],
)
def test_a_run_cannot_be_made_where_no_folder_can_be(tmp_path, name, found):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=f"found {found}; expected"):
        Run.create(tmp_path / name, RUBRIC)
    assert contents(tmp_path) == {"file": b""}


# Opened


@pytest.mark.parametrize("name", ["nothing", "folder"])
def test_a_path_without_a_run_says_how_to_make_one(tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(
        RunError, match=f"no run.json; expected a run folder.\n  Make one: prefkit new {tmp_path / name}"
    ):
        Run(tmp_path / name)


@pytest.mark.parametrize(("name", "found"), [("file", "not a directory"), ("x" * 300, "file name too long")])
def test_a_path_that_is_no_folder_is_no_run(tmp_path, name, found):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=f"found {found}; expected a path that leads to a folder"):
        Run(tmp_path / name)


def test_a_folder_in_the_place_of_run_json_is_no_run(tmp_path):
    (tmp_path / "run.json").mkdir()
    with pytest.raises(RunError, match=r"run.json: found is a directory"):
        Run(tmp_path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"", "truncated"),
        (b'{"format": 1, "rubric": "', "truncated"),
        (b"\xff\xfe", "malformed"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "missing required field `rubric`"),
        (b'{"rubric": 1, "rubrics": {}}', "Expected `str`, got `int` - at `"),
        (b'{"rubric": "ab", "rubrics": {"ab": {"id": "x"}}}', "missing required field `version`"),
        (b'{"rubric": "ab", "rubrics": {}}', "the rubric ab, which is not in it; expected one of its rubrics"),
        (b'{"format": 2, "anything": "else"}', "format 2; expected format 1"),
    ],
)
def test_a_run_json_that_prefkit_did_not_write_is_one_message(tmp_path, prefkit, text, found):
    (tmp_path / "run.json").write_bytes(text)
    with pytest.raises(RunError) as caught:
        Run(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/run.json: found ")
    assert found in str(caught.value)
    outcome = prefkit("status", tmp_path)
    assert (outcome.code, outcome.err.count("\n")) == (1, 2)


def test_two_files_of_one_type_are_not_chosen_between(run, prefkit):
    (run.path / "responses.parquet").write_bytes(b"")
    with pytest.raises(RunError, match=r"found both responses.jsonl and responses.parquet; expected one of them"):
        run.responses()
    for command in (["status"], ["scrub"], ["build-pairs"], ["import", "responses"]):
        file = [str(run.path / "responses.jsonl")] if command[0] == "import" else []
        outcome = prefkit(*command, run.path, *file)
        assert outcome.code == 1
        assert "both responses.jsonl and responses.parquet" in outcome.err


# Read


def test_what_was_written_is_read_in_its_order(run):
    assert list(run.prompts()) == PROMPTS
    assert list(run.responses()) == RESPONSES
    assert list(run.judgements()) == RATINGS


def test_a_run_without_records_reads_as_none(tmp_path):
    run = Run.create(tmp_path, RUBRIC)
    assert [*run.prompts(), *run.responses(), *run.judgements()] == []


def test_progress_is_told_all_bytes(run):
    told: list[int] = []
    list(run.judgements(told.append))
    assert sum(told) == (run.path / "judgements.jsonl").stat().st_size


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (b"", "responses.jsonl:3: found Input data was truncated"),
        (b"\0" * 40, "responses.jsonl:3: found JSON is malformed"),
        (b"{}", "responses.jsonl:3: found Object missing required field `id`"),
        (b'{"id": 1}', "responses.jsonl:3: id: found Expected `str`, got `int`"),
        (b'{"id": "a", "colour": "blue"}', "responses.jsonl:3: found Object contains unknown field `colour`"),
        (b'{"id": "\xff"}', "responses.jsonl:3: found "),
    ],
)
def test_a_damaged_line_in_the_middle_is_named_and_not_passed_over(run, prefkit, damage, found):
    path = run.path / "responses.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:2], damage + b"\n", *lines[2:]]))
    read = run.responses()
    assert list(itertools.islice(read, 2)) == RESPONSES[:2]
    with pytest.raises(RecordError) as caught:
        next(read)
    assert str(caught.value).startswith(found)
    before = contents(run.path)
    for command in ("status", "scrub", "build-pairs"):
        outcome = prefkit(command, run.path)
        assert outcome.code == 1
        assert outcome.err.startswith(f"Error: {found}")
    assert contents(run.path) == before


@quick
@given(st.data())
def test_a_file_cut_at_any_byte_is_read_up_to_the_last_whole_record_and_mended_by_the_next_writer(
    tmp_path_factory, data
):
    run = filled(tmp_path_factory.mktemp("cut") / "run")
    record, records = data.draw(st.sampled_from([(Prompt, PROMPTS), (Response, RESPONSES), (Judgement, RATINGS)]))
    path = run.file(record)
    assert path is not None
    text = path.read_bytes()
    end = data.draw(st.integers(0, len(text)) | st.sampled_from([at for at, byte in enumerate(text) if byte == 10]))
    path.write_bytes(text[:end])
    # A record is whole with its closing bracket; the newline behind it may be missing.
    whole = (text[:end] + b"\n" * (text[end : end + 1] == b"\n")).count(b"\n")
    read = {Prompt: run.prompts, Response: run.responses, Judgement: run.judgements}[record]
    assert list(read()) == records[:whole]
    with run.writing("nothing"):
        pass
    assert path.read_bytes() == b"".join(text.splitlines(keepends=True)[:whole])


@quick
@given(st.data())
def test_an_import_that_was_cut_at_any_byte_is_completed_by_the_same_import(tmp_path_factory, data):
    """What a kill in the middle of appending leaves: the earlier run.json, and a part of the new lines."""
    folder = tmp_path_factory.mktemp("cut")
    run = Run.create(folder / "run", RUBRIC)
    run.replace(Prompt, PROMPTS[:6])
    rows = [
        {"prompt": f"q{number}", "policy": policy, "text": f"{policy} {number}"}
        for number in range(6)
        for policy in POLICIES
    ]
    (folder / "answers.jsonl").write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    before = (run.path / "run.json").read_bytes()
    import_file(run, "responses", str(folder / "answers.jsonl"), ImportSettings())
    whole = contents(run.path)
    text = whole["responses.jsonl"] or b""
    (run.path / "responses.jsonl").write_bytes(text[: data.draw(st.integers(0, len(text)))])
    (run.path / "run.json").write_bytes(before)
    report = import_file(Run(run.path), "responses", str(folder / "answers.jsonl"), ImportSettings())
    assert contents(run.path) == whole
    assert report.imported == {"responses": len(rows)}


def read_all(run: Run) -> int:
    return sum(1 for _ in itertools.chain(run.prompts(), run.responses(), run.judgements()))


def test_the_memory_of_a_reader_does_not_grow_with_the_run(tmp_path):
    def peak(copies: int) -> int:
        run = Run.create(tmp_path / str(copies), RUBRIC)
        run.replace(Prompt, PROMPTS * copies)
        run.replace(Response, RESPONSES * copies)
        run.replace(Judgement, RATINGS * copies)
        tracemalloc.start()
        try:
            assert read_all(run) == copies * (len(PROMPTS) + len(RESPONSES) + len(RATINGS))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)
    assert peak(100) < peak(2) + 100_000


# Parquet in the place of JSONL


def as_parquet(run: Run, record: Any) -> Path:
    """Write a file of the run as Parquet, a column a field, as pyarrow infers it."""
    import pyarrow as pa
    from pyarrow import parquet

    path = run.file(record)
    assert path is not None
    rows = [msgspec.to_builtins(item) for item in read_records(path, record)]
    columns = list(dict.fromkeys(itertools.chain.from_iterable(rows)))
    table = pa.table({column: [row.get(column) for row in rows] for column in columns})
    parquet.write_table(table, path.with_suffix(".parquet"), row_group_size=10)
    path.unlink()
    return path.with_suffix(".parquet")


def compared(a: Response, b: Response, winner: Any, **more: Any) -> Comparison:
    question = ["comparison", RUBRIC.hash, a.id, b.id, []]
    return Comparison(
        id=judgement_id("llm:other", question),
        annotator="llm:other",
        prompt_id=a.prompt_id,
        rubric=RUBRIC.hash,
        a=a.id,
        b=b.id,
        winner=winner,
        **more,
    )


COMPARISONS = [
    compared(a, b, winner, principles={"warm": winner})
    for index, (one, two) in enumerate(zip(RESPONSES[::3], RESPONSES[1::3], strict=True))
    for a, b, winner in ((one, two, "ab"[index % 2]), (two, one, "ba"[index % 2]))
]
UNREADABLE = [
    rating(RESPONSES[0], {"warm": None, "clear": None}, annotator="llm:vague"),
    msgspec.structs.replace(compared(RESPONSES[0], RESPONSES[2], None), failure="no verdict", reply="Hm."),
]


@pytest.mark.parametrize("strategy", ["gap", "comparisons"])
@pytest.mark.parametrize(
    "records", [(Prompt,), (Response,), (Judgement,), (Prompt, Response, Judgement)], ids=lambda types: len(types)
)
def test_parquet_in_the_place_of_jsonl_gives_the_same_records_and_the_same_pairs(
    tmp_path, records: Sequence[Any], strategy: Any
):
    run = filled(tmp_path / "run", [*RATINGS, *COMPARISONS, *UNREADABLE])
    settings = PairSettings(strategy=strategy, test_size=0.2)
    counts = build_pairs(run, settings)
    pairs = {name: text for name, text in contents(run.path).items() if name.endswith(".parquet")}
    assert len(pairs) == 3
    before = [list(run.prompts()), list(run.responses()), [item.id for item in run.judgements()]]
    for record in records:
        as_parquet(run, record)
    assert [list(run.prompts()), list(run.responses()), [item.id for item in run.judgements()]] == before
    again = build_pairs(run, settings)
    assert {name: contents(run.path)[name] for name in pairs} == pairs
    assert (again.judgements, again.kept, again.dropped) == (counts.judgements, counts.kept, counts.dropped)


def test_nothing_is_written_beside_a_parquet_file(run, tmp_path, prefkit):
    for record in (Prompt, Response, Judgement):
        as_parquet(run, record)
    before = contents(run.path)
    line = msgspec.json.encode(RESPONSES[0]) + b"\n"
    with pytest.raises(RunError, match=r"responses.parquet: found Parquet, which is only read; expected a JSONL file"):
        run.append(Response, [line])
    with pytest.raises(RunError, match=r"prompts.parquet: found Parquet, which is only read; expected a JSONL file"):
        run.replace(Prompt, PROMPTS)
    questions, answers = tmp_path / "questions.csv", tmp_path / "answers.csv"
    questions.write_text("key,text\nnew,Another question.\n")
    answers.write_text("prompt,policy,text\nq1,four,Another answer.\n")
    for command in (
        ["import", "prompts", run.path, questions],
        ["import", "responses", run.path, answers],
        ["scrub", run.path],
    ):
        outcome = prefkit(*command)
        assert outcome.code == 1
        assert "expected a JSONL file" in outcome.err
    assert contents(run.path) == before


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (lambda text: b"", "responses.parquet: found "),
        (lambda text: b"not a table", "responses.parquet: found "),
        (lambda text: text[: len(text) // 2], "responses.parquet: found "),
        (lambda text: text[:4] + bytes(2000) + text[2004:], "responses.parquet: found "),
    ],
    ids=["empty", "other", "cut", "damaged"],
)
def test_a_damaged_parquet_file_is_one_message(run, prefkit, damage, found):
    path = as_parquet(run, Response)
    path.write_bytes(damage(path.read_bytes()))
    for command in ("status", "build-pairs"):
        outcome = prefkit(command, run.path)
        assert outcome.code == 1
        assert outcome.err.startswith(f"Error: {found}")


def test_a_row_of_parquet_that_is_no_record_is_named(run):
    import pyarrow as pa
    from pyarrow import parquet

    (run.path / "responses.jsonl").unlink()
    rows = [{"id": "a", "prompt_id": "p", "policy": "one", "text": "x"}, {"id": "b", "policy": "one", "text": "x"}]
    parquet.write_table(pa.Table.from_pylist(rows), run.path / "responses.parquet")
    with pytest.raises(RecordError, match=r"responses.parquet: row 2: found Object missing required field `prompt_id`"):
        list(run.responses())


READ_ALL = """
import sys
import pyarrow
from prefkit.run import Run

print(sum(1 for _ in Run(sys.argv[1]).responses()), pyarrow.default_memory_pool().max_memory())
"""


def test_the_memory_of_a_reader_of_parquet_does_not_grow_with_the_file(tmp_path):
    """One row group, as pyarrow writes by default: 16 MB of texts, and 64."""
    import pyarrow as pa
    from pyarrow import parquet

    def peak(n_rows: int) -> int:
        run = Run.create(tmp_path / str(n_rows), RUBRIC)
        texts = [os.urandom(500).hex() for _ in range(n_rows)]
        names = [str(number) for number in range(n_rows)]
        table = pa.table({"id": names, "prompt_id": names, "policy": ["one"] * n_rows, "text": texts})
        parquet.write_table(table, run.path / "responses.parquet")
        command = [sys.executable, "-c", READ_ALL, str(run.path)]
        read, most = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert int(read) == n_rows
        return int(most)

    assert peak(64_000) < peak(16_000) + 10_000_000


# Written by one process at a time


def test_a_writer_in_the_same_process_is_refused_too(run):
    held = rf"in use by process {os.getpid()} \(prefkit one\)"
    with run.writing("one"), pytest.raises(RunError, match=held), Run(run.path).writing("two"):
        pass
    with Run(run.path).writing("two"):
        pass


def test_the_lock_goes_with_an_error(run):
    with pytest.raises(ZeroDivisionError), run.writing("one"):
        raise ZeroDivisionError
    with run.writing("two"):
        assert (run.path / ".lock-holder").exists()
    assert not (run.path / ".lock-holder").exists()


@pytest.mark.parametrize("note", ["", None], ids=["empty", "none"])
def test_a_holder_that_left_no_note_is_another_process(run, note):
    """The disk was full, or it has not written it yet."""
    with run.writing("one"):
        (run.path / ".lock-holder").unlink()
        if note is not None:
            (run.path / ".lock-holder").write_text(note)
        with pytest.raises(RunError, match="a run in use by another process"), Run(run.path).writing("two"):
            pass


def test_a_writer_clears_away_what_a_killed_one_left(run):
    before = contents(run.path)
    (run.path / "responses.jsonl.part").write_bytes(b"half")
    (run.path / "dataset.part").mkdir()
    (run.path / "dataset.part" / "train.parquet").write_bytes(b"half")
    (run.path / ".lock-holder").write_text("process 1 (prefkit import prompts)")
    for name in ("responses", "judgements"):
        with open(run.path / f"{name}.jsonl", "ab") as file:
            file.write(b'{"id": "half')
    with run.writing("next"):
        pass
    assert contents(run.path) == before


def test_a_writer_sees_what_another_wrote_since_the_run_was_opened(run):
    other = Run(run.path)
    with other.writing("other"):
        other.record_stage("other", count=1)
    with run.writing("next"):
        run.record_stage("next", count=2)
    assert Run(run.path).info.stages.keys() == {"other", "next"}


class Broken(Exception):
    """What goes wrong in these tests."""


def change_everything(run: Run) -> None:
    run.replace(Prompt, PROMPTS[:1])
    run.append(Response, [b"{}\n"])
    with run.replacing("pairs.parquet") as file:
        file.write(b"pairs")
    with run.replacing_folder("dataset") as folder:
        (folder / "README.md").write_text("card")
    run.remove("judgements.jsonl")
    run.record_stage("everything", count=1)


def test_what_is_done_at_once_takes_effect_at_the_end(run):
    before = contents(run.path)
    with run.writing("everything"), run.at_once():
        change_everything(run)
        assert (run.path / "prompts.jsonl").read_bytes() == before["prompts.jsonl"]
        assert (run.path / "judgements.jsonl").exists()
    after = contents(run.path)
    assert after.keys() == {
        "run.json",
        "prompts.jsonl",
        "responses.jsonl",
        "pairs.parquet",
        "dataset",
        "dataset/README.md",
    }
    assert after["responses.jsonl"] == (before["responses.jsonl"] or b"") + b"{}\n"
    assert Run(run.path).info.stages["everything"]["count"] == 1


@pytest.mark.parametrize("error", [Broken, KeyboardInterrupt])
def test_an_error_in_what_is_done_at_once_changes_nothing(run, error):
    before = contents(run.path)
    with pytest.raises(error), run.writing("everything"), run.at_once():
        change_everything(run)
        raise error
    assert contents(run.path) == before


def test_a_stage_that_pays_for_its_answers_keeps_those_it_has(run):
    with pytest.raises(Broken), run.writing("judge"):
        run.append(Response, [b'{"paid": 1}\n'])
        raise Broken
    assert (run.path / "responses.jsonl").read_bytes().endswith(b'{"paid": 1}\n')


def entry(**changes: Any) -> Import:
    known = {
        "kind": "prompts",
        "file": "a.csv",
        "digest": "d",
        "settings": {},
        "rows": 1,
        "imported": {},
        "rejected": {},
    }
    return Import(**{**known, **changes})


def test_an_import_of_the_same_file_takes_the_place_of_the_earlier_one_on_record(run):
    for one in (entry(), entry(file="b.csv"), entry(kind="responses"), entry(rows=2)):
        run.record_import(one)
    assert Run(run.path).info.imports == [entry(rows=2), entry(file="b.csv"), entry(kind="responses")]


# Stages that are run again when more has come


def signed(name: str, policy: str) -> Response:
    text = f"Take care of yourself. Yours, {name}, LMFT"
    return msgspec.structs.replace(response(PROMPTS[0], policy), text=text)


def test_what_is_scrubbed_later_gets_numbers_that_were_not_given_away_before(tmp_path, prefkit):
    run = Run.create(tmp_path, RUBRIC)
    run.replace(Prompt, PROMPTS[:1])
    for name, policy in (("Bob Sample", "one"), ("Ann Example", "two")):
        run.append(Response, [msgspec.json.encode(signed(name, policy)) + b"\n"])
        assert prefkit("scrub", run.path).code == 0
    first, second = (item.text for item in run.responses())
    assert first == "Take care of yourself. Yours, [NAME_1], [CREDENTIAL_1]"
    assert second == "Take care of yourself. Yours, [NAME_2], [CREDENTIAL_2]"


def test_the_record_of_scrubbing_counts_what_is_scrubbed_by_now(tmp_path, prefkit):
    run = Run.create(tmp_path, RUBRIC)
    run.replace(Prompt, PROMPTS[:2])
    for name, policy in (("Bob Sample", "one"), ("Ann Example", "two")):
        run.append(Response, [msgspec.json.encode(signed(name, policy)) + b"\n"])
        prefkit("scrub", run.path)
    found = Run(run.path).info.stages["scrub"]
    assert found["texts"] == {
        "prompts": 2,
        "prompts with placeholders": 0,
        "responses": 2,
        "responses with placeholders": 2,
    }
    assert found["placeholders"] == {"CREDENTIAL": 2, "NAME": 2}


# The rubric changes

CLEARER = msgspec.structs.replace(CLEAR, statement="A tired person understands it at once.")
EDITED = msgspec.structs.replace(RUBRIC, version=2, principles=(WARM, CLEARER))


def test_an_edited_principle_loses_its_own_ratings_and_no_others(run):
    assert run.comparable(RUBRIC.hash) == {"warm", "clear"}
    run.use_rubric(EDITED)
    again = Run(run.path)
    assert again.rubric == EDITED
    assert again.comparable(RUBRIC.hash) == {"warm"}
    assert again.comparable(EDITED.hash) == {"warm", "clear"}
    assert again.comparable("never seen") == again.comparable(None) == frozenset()


def test_what_is_not_shown_to_an_annotator_can_change_without_losing_a_rating(run):
    weighed = msgspec.structs.replace(
        RUBRIC, version=2, aggregate="sum", principles=(WARM, msgspec.structs.replace(CLEAR, weight=2.0))
    )
    run.use_rubric(weighed)
    assert Run(run.path).rubric == weighed
    assert run.comparable(RUBRIC.hash) == {"warm", "clear"}


def test_pairs_count_the_ratings_that_an_edited_principle_lost_until_it_is_rated_again(run):
    settings = PairSettings(test_size=0.2)
    before = build_pairs(run, settings)
    assert before.judgements["ratings incomplete"] == 0
    pairs = (run.path / "pairs.parquet").read_bytes()
    run.use_rubric(EDITED)
    with pytest.raises(RunError, match=f"ratings incomplete: {len(RATINGS)}"):
        build_pairs(run, settings)
    assert (run.path / "pairs.parquet").read_bytes() == pairs
    anew = [rating(of, {"clear": old.scores["clear"]}, EDITED) for of, old in zip(RESPONSES, RATINGS, strict=True)]
    run.append(Judgement, (msgspec.json.encode(item) + b"\n" for item in anew))
    after = build_pairs(run, settings)
    assert (after.judgements["ratings"], after.judgements["ratings incomplete"]) == (2 * len(RATINGS), 0)
    assert after.kept == before.kept
    assert (run.path / "pairs.parquet").read_bytes() == pairs


def test_ratings_under_a_rubric_that_the_run_never_had_are_counted_and_not_used(run):
    strange = msgspec.structs.replace(RUBRIC, title="Another")
    extra = rating(RESPONSES[0], {"warm": 5, "clear": 5}, strange, "human:ann")
    run.append(Judgement, [msgspec.json.encode(extra) + b"\n"])
    assert build_pairs(run, PairSettings(test_size=0.2)).judgements["ratings under another rubric"] == 1
