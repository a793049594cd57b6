"""Prompts with their responses, whatever the order of the files."""

from __future__ import annotations

import msgspec
import pyarrow as pa
import pytest
from making import make_run
from pyarrow import parquet

from prefkit.by_prompt import ByPrompt
from prefkit.errors import RecordError, RunError
from prefkit.records import Prompt, Response
from prefkit.run import Run

TEXTS = {name: f"words of {name}" for name in ("p1/A", "p2/A", "p1/B", "p3/A", "p2/B", "p1/C")}


def grouped(cases: ByPrompt) -> dict[str, list[str]]:
    return {prompt.id: [response.id for response in responses] for prompt, responses in cases}


def test_responses_come_with_their_prompt_in_the_order_of_the_files(tmp_path):
    run = make_run(tmp_path / "run", texts=TEXTS)
    assert grouped(ByPrompt(run)) == {"p1": ["p1/A", "p1/B", "p1/C"], "p2": ["p2/A", "p2/B"], "p3": ["p3/A"]}
    assert list(grouped(ByPrompt(run))) == ["p1", "p2", "p3"]


def test_a_prompt_without_responses_has_an_empty_list(tmp_path):
    run = make_run(tmp_path / "run", texts={"p1/A": "x"}, prompts={"p1": "one", "p2": "two"})
    assert grouped(ByPrompt(run)) == {"p1": ["p1/A"], "p2": []}


def test_what_is_not_wanted_is_left_out(tmp_path):
    run = make_run(tmp_path / "run", texts=TEXTS)
    cases = ByPrompt(run, lambda response: response.policy != "A", lambda prompt: prompt.id != "p3")
    assert grouped(cases) == {"p1": ["p1/B", "p1/C"], "p2": ["p2/B"]}
    assert cases.counts.tolist() == [2, 1]


def test_it_can_be_read_several_times_at_once(tmp_path):
    cases = ByPrompt(make_run(tmp_path / "run", texts=TEXTS))
    assert [(a[0].id, b[0].id) for a, b in zip(cases, cases, strict=True)] == [("p1", "p1"), ("p2", "p2"), ("p3", "p3")]


def test_parquet_responses_are_read_as_well(tmp_path):
    run = make_run(tmp_path / "run", texts=TEXTS)
    rows = [msgspec.to_builtins(response) for response in run.responses()]
    parquet.write_table(pa.Table.from_pylist(rows), run.path / "responses.parquet")
    (run.path / "responses.jsonl").unlink()
    assert grouped(ByPrompt(Run(run.path)))["p1"] == ["p1/A", "p1/B", "p1/C"]


def test_a_run_without_responses_says_so(tmp_path):
    run = make_run(tmp_path / "run", prompts={"p1": "one"})
    (run.path / "responses.jsonl").unlink()
    with pytest.raises(RunError, match="no responses"):
        ByPrompt(run)


def test_a_line_that_is_no_response_is_named(tmp_path):
    run = make_run(tmp_path / "run", texts=TEXTS)
    with open(run.path / "responses.jsonl", "ab") as file:
        file.write(b'{"id": 3}\n')
    with pytest.raises(RecordError, match=r"responses\.jsonl:7"):
        ByPrompt(run)


def test_no_response_at_all_is_no_error(tmp_path):
    run = make_run(tmp_path / "run", prompts={"p1": "one"})
    run.replace(Response, [])
    run.replace(Prompt, list(run.prompts()))
    assert grouped(ByPrompt(run)) == {"p1": []}
