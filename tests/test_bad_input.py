"""Whatever is wrong with what a user hands in: exit code 1, one message with a remedy, and the run as it was.

`broken.py` has the foreign files that cannot be read; `BAD` here has commands that cannot do what they are asked, each
under a name, with what its message must hold.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from broken import BROKEN, BROKEN_ROWS, SAYS

from prefkit.cli import main
from prefkit.rubric_files import load_rubric

MESSAGE = re.compile(r"Error: (?P<where>.+?): found (?P<found>.+); expected (?P<expected>.+)\.\n  (?P<remedy>\S.+)\n")
PRINCIPLES = load_rubric("psychocounsel").principle_ids

Arguments = list[object]
Bad = Callable[[Path, Path], Arguments]
"""Given a folder to write to and a run to spoil: the arguments of a command."""

BAD: dict[str, tuple[Bad, str]] = {}


def bad(says: str) -> Callable[[Bad], Bad]:
    """Put a command that cannot work among the others; ``says`` is part of its message."""

    def add(make: Bad) -> Bad:
        BAD[make.__name__] = (make, says)
        return make

    return add


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def lines(run: Path, name: str) -> list[str]:
    return (run / name).read_text(encoding="utf-8").splitlines(keepends=True)


def ratings(rows: str = "1,A,human:ann", columns: tuple[str, ...] = PRINCIPLES, score: str = "4") -> str:
    """A table of ratings, every principle with the same score."""
    cells = [f"{row},{','.join([score] * len(columns))}" for row in rows.splitlines()]
    return "\n".join([f"prompt,policy,annotator,{','.join(columns)}", *cells]) + "\n"


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve prompts, answers to each by A and B, ratings two points apart, and the pairs built of them."""
    folder = tmp_path_factory.mktemp("whole")
    run = folder / "run"
    prompts = "".join(f"{n},Number {n} wakes at {n} and counts {'sheep ' * n}.\n" for n in range(1, 13))
    answers = "".join(f"{n},{name},{name * 9} is the answer to {n}\n" for n in range(1, 13) for name in "AB")
    scores = [f"{n},{name},human:ann" for n in range(1, 13) for name in "AB"]
    rated = ratings("\n".join(scores[::2]), score="5") + "".join(
        ratings("\n".join(scores[1::2]), score="3").splitlines(keepends=True)[1:]
    )
    main(["new", str(run), "--rubric", "psychocounsel"])
    main(["import", "prompts", str(run), str(write(folder, "p.csv", "id,text\n" + prompts))])
    main(["import", "responses", str(run), str(write(folder, "r.csv", "prompt,policy,text\n" + answers))])
    main(["import", "judgements", str(run), str(write(folder, "j.csv", rated))])
    main(["build-pairs", str(run)])
    return run


@pytest.fixture
def run(whole_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole_run, tmp_path / "run"))


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder and its bytes, None for a folder; the lock says nothing about the data."""
    return {
        path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.name != ".lock"
    }


def explained(prefkit: Callable[..., object], *arguments: object) -> str:
    """The message of a command that must fail as a command should."""
    outcome = prefkit(*arguments)
    assert outcome.code == 1
    assert "Traceback" not in outcome.err + outcome.out
    assert MESSAGE.fullmatch(outcome.err), outcome.err
    return str(outcome.err)


# Foreign files that cannot be read


@pytest.mark.parametrize("name", [*BROKEN, *BROKEN_ROWS])
def test_a_broken_file_is_one_message_and_leaves_the_run_alone(prefkit, tmp_path, run, name):
    (folder := tmp_path / "files").mkdir()
    path = (BROKEN | BROKEN_ROWS)[name](folder)
    skipping = ["--skip-broken"] if name in BROKEN else []  # which leaves out rows, and never a file
    before = snapshot(run)
    assert SAYS[name] in explained(prefkit, "import", "prompts", run, path, *skipping)
    assert snapshot(run) == before


@pytest.mark.parametrize("name", BROKEN_ROWS)
def test_a_broken_row_can_be_left_out_and_is_listed_with_its_line(prefkit, tmp_path, run, name):
    path = BROKEN_ROWS[name](tmp_path)
    outcome = prefkit("import", "prompts", run, path, "--skip-broken")
    assert outcome.code == 0
    assert "not imported: 1 broken row" in outcome.out
    (listed,) = [json.loads(line) for line in lines(run, f"rejects/prompts-{path.name}.jsonl") if "broken row" in line]
    assert f"{path.name}:{listed['line']}: found {listed['detail']}".startswith(SAYS[name])


# Commands that cannot do what they are asked: files that can be read and do not fit


@bad("p.csv: found no column for text or messages among id, words; expected a column for each of text or messages")
def no_column_for_the_text(folder, run):
    return ["import", "prompts", run, write(folder, "p.csv", "id,words\n1,I sleep badly.\n")]


@bad("found no column 'wrods' for text; expected one of id, words")
def a_mapped_column_that_is_not_there(folder, run):
    return ["import", "prompts", run, write(folder, "p.csv", "id,words\n1,I sleep badly.\n"), "--map", "text=wrods"]


@bad("found the field 'txet' in the mapping; expected one of text, messages, topic, key")
def a_field_that_does_not_exist(folder, run):
    return ["import", "prompts", run, write(folder, "p.csv", "id,words\n1,I sleep badly.\n"), "--map", "txet=words"]


@bad("--map: found 'text'; expected NAME=VALUE")
def a_mapping_without_an_equals_sign(folder, run):
    return ["import", "prompts", run, write(folder, "p.csv", "id,words\n1,I sleep badly.\n"), "--map", "text"]


@bad("--set: found '=human:ann'; expected NAME=VALUE")
def a_constant_without_a_name(folder, run):
    return ["import", "judgements", run, write(folder, "j.csv", ratings()), "--set", "=human:ann"]


@bad("--map: found text twice, as 'words' and 'id'; expected each field once")
def a_field_mapped_twice(folder, run):
    path = write(folder, "p.csv", "id,words\n1,I sleep badly.\n")
    return ["import", "prompts", run, path, "--map", "text=words", "--map", "text=id"]


@bad("found both a column and one value for topic; expected one of the two")
def a_field_mapped_and_set(folder, run):
    path = write(folder, "p.csv", "id,text\n1,I sleep badly.\n")
    return ["import", "prompts", run, path, "--map", "topic=id", "--set", "topic=sleep"]


@bad("found one score of safety for all rows; expected a column of scores")
def a_score_for_all_rows(folder, run):
    return ["import", "judgements", run, write(folder, "j.csv", ratings()), "--set", "safety=5"]


@bad("p.csv: found the preset 'fastchta' for prompts; expected one of fastchat-questions")
def an_unknown_preset(folder, run):
    return ["import", "prompts", run, write(folder, "p.csv", "id,text\n1,Hm.\n"), "--preset", "fastchta"]


@bad("found the preset 'hh-rlhf' for prompts; expected one of fastchat-questions")
def a_preset_of_another_kind(folder, run):
    return ["import", "prompts", run, write(folder, "p.csv", "id,text\n1,Hm.\n"), "--preset", "hh-rlhf"]


@bad("found the field 'topic' in the mapping, beside the preset fastchat-questions; expected nothing beside")
def a_constant_that_a_preset_would_pass_over(folder, run):
    path = write(folder, "q.jsonl", '{"question_id": 1, "turns": ["Hm."]}\n')
    return ["import", "prompts", run, path, "--set", "topic=sleep"]


@bad("found the field 'prompt' in the mapping, beside the preset fastchat; expected --set policy beside this preset")
def a_column_that_a_preset_would_pass_over(folder, run):
    path = write(folder, "A.jsonl", '{"question_id": 1, "choices": [{"turns": ["Hm."]}]}\n')
    return ["import", "responses", run, path, "--preset", "fastchat", "--map", "prompt=question_id"]


@bad("nowhere.yaml: found no such file or directory; expected a mapping file")
def a_mapping_file_that_is_missing(folder, run):
    return ["import", "prompts", run, write(folder, "p.csv", "a\nb\n"), "--mapping", folder / "nowhere.yaml"]


@bad("p.csv.mapping.yaml: found mapping values are not allowed here")
def a_mapping_file_beside_the_data_that_is_not_yaml(folder, run):
    write(folder, "p.csv.mapping.yaml", "text: words: more\n")
    return ["import", "prompts", run, write(folder, "p.csv", "id,words\n1,I sleep badly.\n")]


@bad("m.yaml: found Expected `str`, got `object`")
def a_mapping_file_that_holds_itself(folder, run):
    path = write(folder, "m.yaml", "&all {text: *all}\n")
    return ["import", "prompts", run, write(folder, "p.csv", "a\nb\n"), "--mapping", path]


@bad("m.yaml: found Expected `object`, got `array`; expected fields and columns")
def a_mapping_file_with_a_list(folder, run):
    path = write(folder, "m.yaml", "- text\n- words\n")
    return ["import", "prompts", run, write(folder, "p.csv", "a\nb\n"), "--mapping", path]


@bad("m.yaml: found month must be in 1..12")
def a_mapping_file_with_a_date_that_is_none(folder, run):
    path = write(folder, "m.yaml", "text: 2026-13-01\n")
    return ["import", "prompts", run, write(folder, "p.csv", "a\nb\n"), "--mapping", path]


@bad("m.yaml: found 'utf-8' codec can't decode byte 0xe9")
def a_mapping_file_in_another_encoding(folder, run):
    path = write(folder, "m.yaml", "text: d\xe9tresse\n".encode("latin-1"))
    return ["import", "prompts", run, write(folder, "p.csv", "a\nb\n"), "--mapping", path]


@bad("l.jsonl:2: found text that is not JSON (Expecting property name")
def a_first_row_that_is_broken(folder, run):
    return ["import", "prompts", run, write(folder, "l.jsonl", "\n{'id': 1}\n" + '{"id": 2, "text": "Hm."}\n')]


@bad("l.jsonl: found no whole row among the first 2 (text that is not JSON")
def nothing_but_broken_rows(folder, run):
    return ["import", "prompts", run, write(folder, "l.jsonl", "{'id': 1}\n{'id': 2}\n"), "--skip-broken"]


@bad("l.jsonl:2: found a line of 100,000,001 bytes; expected lines of at most 33,554,432 bytes")
def a_line_of_a_hundred_megabytes(folder, run):
    path = write(folder, "l.jsonl", '{"id": 1, "text": "Hm."}\n')
    with open(path, "ab") as file:
        file.write(b"x" * 100_000_000 + b"\n")
    return ["import", "prompts", run, path]


@bad("found no row to import: a list or an object instead of a text ([{'role': 'user'")
def a_dialogue_where_a_text_should_be(folder, run):
    path = write(folder, "l.jsonl", '{"id": 1, "text": [{"role": "user", "content": "Hm."}]}\n')
    return ["import", "prompts", run, path]


@bad("found no row to import: not a dialogue of role and content (maximum recursion depth")
def a_dialogue_that_goes_too_deep(folder, run):
    return ["import", "prompts", run, write(folder, "p.csv", f"id,messages\n1,{'[' * 50_000}\n")]


# Judgements that do not fit


@bad("j.csv:2-3: found no row to import: unknown prompt ('77' is no key, id or text of a prompt of this run) in 2 of 2")
def judgements_of_prompts_that_are_unknown(folder, run):
    return ["import", "judgements", run, write(folder, "j.csv", ratings("77,A,human:ann\n78,A,human:ann"))]


@bad("found no row to import: unknown response (no response of 'C' to this prompt) in 2 of 2 rows")
def judgements_of_policies_that_are_unknown(folder, run):
    return ["import", "judgements", run, write(folder, "j.csv", ratings("1,C,human:ann\n2,C,human:ann"))]


@bad("found no row to import: unknown response ('r1' is no key or id of a response of this run)")
def judgements_of_responses_that_are_unknown(folder, run):
    path = write(folder, "j.csv", "response,annotator,empathy\nr1,human:ann,4\n")
    return ["import", "judgements", run, path]


@bad("found no column for a principle of psychocounsel among prompt, policy, annotator, honesty, truthfulness")
def judgements_under_another_rubric(folder, run):
    return ["import", "judgements", run, write(folder, "j.csv", ratings(columns=("honesty", "truthfulness")))]


@bad("found no row to import: no score in the row")
def a_preference_set_rated_on_other_principles(folder, run):
    row = {"question": "Hm?", "chosen": "Yes.", "rejected": "No.", "chosen_model": "A", "rejected_model": "B"}
    path = write(folder, "j.jsonl", json.dumps({**row, "chosen_honesty_rating": 4, "rejected_honesty_rating": 2}))
    return ["import", "judgements", run, path]


@bad("found no row to import: annotator is not llm:NAME or human:NAME ('ann'; --set annotator=... gives all rows one)")
def annotators_of_no_kind(folder, run):
    return ["import", "judgements", run, write(folder, "j.csv", ratings("1,A,ann"))]


@bad("found no row to import: no annotator (the file does not say who judged: --set annotator=llm:NAME or human:NAME)")
def a_preference_set_by_nobody(folder, run):
    path = write(folder, "d.jsonl", '{"prompt": "Hm?", "chosen": "Yes.", "rejected": "No."}\n')
    return ["import", "judgements", run, path]


@bad("found no column for a among prompt, annotator, winner; expected a column for each of annotator, ")
def a_winner_of_nothing(folder, run):
    return ["import", "judgements", run, write(folder, "j.csv", "prompt,annotator,winner\n1,human:ann,a\n")]


@bad("j.csv: found winners 0 and 1, and never 2; expected 1 where a won, 2 where b won, 0 where neither did")
def winners_that_count_from_0(folder, run):
    rows = "1,A,B,human:ann,0\n2,A,B,human:ann,1\n"
    return ["import", "judgements", run, write(folder, "j.csv", "prompt,a,b,annotator,winner\n" + rows)]


@bad("found no row to import: another response stands under this policy ('A' has answered this prompt otherwise")
def other_answers_of_the_same_policy(folder, run):
    return ["import", "responses", run, write(folder, "r.csv", "prompt,policy,text\n1,A,Something else.\n")]


@bad("found no row to import: answered differently before (human:ann on the same question; the first is kept)")
def other_scores_by_the_same_annotator(folder, run):
    return ["import", "judgements", run, write(folder, "j.csv", ratings(score="1"))]


@bad("found no row to import: a response compared with itself")
def a_response_compared_with_itself(folder, run):
    return ["import", "judgements", run, write(folder, "j.csv", "prompt,a,b,annotator,winner\n1,A,A,human:ann,a\n")]


@bad("found csv, which has no sheets; expected a workbook, for a sheet")
def a_sheet_of_a_text_table(folder, run):
    return ["import", "prompts", run, write(folder, "p.csv", "text\nHm.\n"), "--sheet", "Sheet1"]


@bad("found one file, without splits; expected a folder or a dataset, for a split")
def a_split_of_one_file(folder, run):
    return ["import", "prompts", run, write(folder, "p.csv", "text\nHm.\n"), "--split", "test"]


# Run folders that are none, or were edited by hand


@bad("nowhere: found no run.json; expected a run folder")
def a_run_that_is_missing(folder, run):
    return ["status", folder / "nowhere"]


@bad("found not a directory; expected a path that leads to a folder")
def a_run_that_is_a_file(folder, run):
    return ["import", "prompts", write(folder, "p.csv", "text\nHm.\n"), folder / "p.csv"]


@bad("run.json: found format 7; expected format 1")
def a_run_of_another_format(folder, run):
    (run / "run.json").write_text((run / "run.json").read_text().replace('"format": 1', '"format": 7'))
    return ["status", run]


@bad("run.json: found Input data was truncated; expected what prefkit wrote")
def a_run_whose_record_is_cut_short(folder, run):
    (run / "run.json").write_bytes((run / "run.json").read_bytes()[:400])
    return ["build-pairs", run]


@bad("run.json: found is a directory")
def a_run_whose_record_is_a_folder(folder, run):
    (run / "run.json").unlink()
    (run / "run.json").mkdir()
    return ["status", run]


@bad("run: found both prompts.jsonl and prompts.parquet; expected one of them")
def a_run_with_prompts_in_two_formats(folder, run):
    write(run, "prompts.parquet", b"")
    return ["import", "prompts", run, write(folder, "p.csv", "text\nHm.\n")]


@bad("rejects: found file exists; expected a path that leads to a folder")
def a_run_with_a_file_where_rejects_go(folder, run):
    write(run, "rejects", "mine")
    return ["import", "prompts", run, write(folder, "p.csv", "text\nHm.\n")]


@bad("run: found a run; expected a new name")
def a_new_run_over_another(folder, run):
    return ["new", run, "--rubric", "psychocounsel"]


@bad("notes: found other files; expected an empty folder or a new name")
def a_new_run_among_other_files(folder, run):
    (folder / "notes").mkdir()
    write(folder / "notes", "todo.txt", "sleep")
    return ["new", folder / "notes", "--rubric", "psychocounsel"]


def edited(run: Path, name: str, number: int, line: str) -> None:
    """Put a line of one's own into a run's file."""
    kept = lines(run, name)
    (run / name).write_text("".join([*kept[: number - 1], line + "\n", *kept[number - 1 :]]), encoding="utf-8")


@bad("prompts.jsonl:3: found Object missing required field `id`; expected a prompt as prefkit writes it")
def a_line_that_is_not_a_prompt(folder, run):
    edited(run, "prompts.jsonl", 3, '{"messages": []}')
    return ["import", "prompts", run, write(folder, "p.csv", "text\nHm.\n")]


@bad("responses.jsonl:5: found Object contains unknown field `score`; expected a response as prefkit writes it")
def a_field_of_ones_own_in_a_response(folder, run):
    edited(run, "responses.jsonl", 5, lines(run, "responses.jsonl")[4].strip().replace("}", ', "score": 3}', 1))
    return ["build-pairs", run]


@bad("judgements.jsonl:2: scores[...]: found Expected `int | float | null`, got `str`; expected a judgement")
def a_score_in_quotes(folder, run):
    line = lines(run, "judgements.jsonl")[0].strip()
    edited(run, "judgements.jsonl", 2, line.replace('"empathy":5', '"empathy":"5"'))
    return ["build-pairs", run]


@bad("judgements.jsonl:1: found JSON is malformed: invalid character (byte 0); expected a judgement")
def zero_bytes_in_a_run(folder, run):
    edited(run, "judgements.jsonl", 1, "\0\0\0\0")
    return ["status", run]


@bad("responses.jsonl:1: found Input data was truncated; expected a response")
def a_blank_line_in_a_run(folder, run):
    edited(run, "responses.jsonl", 1, "")
    return ["status", run]


def doubled(run: Path, name: str) -> Path:
    """Write a file's first line once more at its end."""
    edited(run, name, len(lines(run, name)) + 1, lines(run, name)[0].strip())
    return run


@bad("prompts.jsonl:13: id: found ")
def a_prompt_that_stands_twice(folder, run):
    return ["import", "prompts", doubled(run, "prompts.jsonl"), write(folder, "p.csv", "text\nHm.\n")]


@bad("responses.jsonl:25: id: found ")
def a_response_that_stands_twice(folder, run):
    return ["import", "prompts", doubled(run, "responses.jsonl"), write(folder, "p.csv", "text\nHm.\n")]


@bad("judgements.jsonl:25: id: found ")
def a_judgement_that_stands_twice(folder, run):
    return ["import", "prompts", doubled(run, "judgements.jsonl"), write(folder, "p.csv", "text\nHm.\n")]


# Rubrics


@bad("nowhere.yaml: found no such file or directory; expected a file that can be read")
def a_rubric_that_is_missing(folder, run):
    return ["new", folder / "new", "--rubric", folder / "nowhere.yaml"]


@bad("psychocounsle: found no rubric of this name; expected one of ")
def a_rubric_of_an_unknown_name(folder, run):
    return ["new", folder / "new", "--rubric", "psychocounsle"]


@bad("r.yaml:2: found a YAML anchor or alias")
def a_rubric_that_holds_itself(folder, run):
    return ["new", folder / "new", "--rubric", write(folder, "r.yaml", "id: r\nprinciples: &all [*all]\n")]


@bad("r.yaml:3: unti: found a key that has no meaning here; expected one of id, ")
def a_rubric_with_an_unknown_key(folder, run):
    return ["rubric", "use", run, write(folder, "r.yaml", "id: r\nversion: 1\nunti: response\n")]


# Pairs


def fresh(folder: Path, *files: tuple[str, str]) -> Path:
    """A run with these files imported: kind and content."""
    run = folder / "fresh"
    main(["new", str(run), "--rubric", "psychocounsel"])
    for number, (kind, content) in enumerate(files):
        main(["import", kind, str(run), str(write(folder, f"{number}.csv", content))])
    return run


TWO_PROMPTS = ("prompts", "id,text\n1,I sleep badly.\n2,I eat nothing.\n")
TWO_RESPONSES = ("responses", "prompt,policy,text\n1,A,Since when?\n1,B,Count sheep until you sleep.\n")


@bad("fresh: found no responses; expected responses to prompts")
def pairs_of_an_empty_run(folder, run):
    return ["build-pairs", fresh(folder)]


@bad("fresh: found no responses; expected responses to prompts")
def pairs_of_prompts_alone(folder, run):
    return ["build-pairs", fresh(folder, TWO_PROMPTS)]


@bad("fresh: found no judgements; expected ratings or comparisons")
def pairs_of_responses_that_nobody_judged(folder, run):
    return ["build-pairs", fresh(folder, TWO_PROMPTS, TWO_RESPONSES)]


@bad("found 0 pairs selected and none kept; expected at least one pair")
def pairs_of_one_response_to_each_prompt(folder, run):
    answers = ("responses", "prompt,policy,text\n1,A,Since when?\n2,A,What did you eat before?\n")
    return ["build-pairs", fresh(folder, TWO_PROMPTS, answers, ("judgements", ratings("1,A,human:ann\n2,A,human:ann")))]


@bad("found 0 pairs selected and none kept; expected at least one pair")
def pairs_of_responses_that_are_rated_the_same(folder, run):
    rated = ("judgements", ratings("1,A,human:ann\n1,B,human:ann"))
    return ["build-pairs", fresh(folder, TWO_PROMPTS, TWO_RESPONSES, rated), "--strategy", "all"]


@bad("found 1 pairs selected and none kept (tied comparison: 1); expected at least one pair")
def pairs_of_ties(folder, run):
    tied = ("judgements", "prompt,a,b,annotator,winner\n1,A,B,human:ann,tie\n")
    return ["build-pairs", fresh(folder, TWO_PROMPTS, TWO_RESPONSES, tied), "--strategy", "comparisons"]


@bad("--orders any takes a model's word from one order.")
def pairs_of_a_model_asked_in_one_order(folder, run):
    compared = ("judgements", "prompt,a,b,annotator,winner\n1,A,B,llm:judge,a\n")
    return ["build-pairs", fresh(folder, TWO_PROMPTS, TWO_RESPONSES, compared), "--strategy", "comparisons"]


@bad("Judgements that could not be used: ratings of unknown responses: 24.")
def pairs_of_responses_that_were_removed(folder, run):
    write(run, "responses.jsonl", "")
    return ["build-pairs", run]


@bad("the test split: found 12 prompts with pairs, in 12 groups of near-duplicates")
def a_test_set_larger_than_the_data(folder, run):
    return ["build-pairs", run, "--test-size", 50]


@bad("the validation split: found ")
def a_validation_set_of_all_that_is_left(folder, run):
    return ["build-pairs", run, "--test-size", 6, "--validation-size", 6]


@bad("--max-tokens: found no tokenizer; expected the tokenizer that counts them")
def tokens_without_a_tokenizer(folder, run):
    return ["build-pairs", run, "--max-tokens", 100]


@bad("found none; expected a tokenizer, since tokens are to be counted")
def tokens_without_a_tokenizer_in_screening(folder, run):
    return ["screen", run, "--max-tokens", 100]


@bad("--tokenizer: found no tokenizer 'no-such/tokenizer' (")
def a_tokenizer_that_is_unknown(folder, run):
    return ["build-pairs", run, "--max-tokens", 100, "--tokenizer", "no-such/tokenizer"]


@bad("run: found 12 prompts and 24 responses that were not scrubbed; expected scrubbed texts before anything is pushed")
def a_dataset_pushed_before_it_is_scrubbed(folder, run):
    return ["build-pairs", run, "--push-to-hub", "someone/pairs"]


@bad("run: found no pairs; expected pairs.parquet")
def reading_pairs_before_there_are_any(folder, run):
    (run / "pairs.parquet").unlink()
    return ["pairs", run]


@bad("pairs.parquet: found no pair in the split 'validation'; expected a split that has pairs")
def reading_pairs_of_an_empty_split(folder, run):
    return ["pairs", run, "--split", "validation"]


@bad("pairs.parquet: found Parquet magic bytes not found in footer")
def pairs_that_are_cut_short(folder, run):
    write(run, "pairs.parquet", (run / "pairs.parquet").read_bytes()[:-100])
    return ["pairs", run]


@bad("expected a whole Parquet file")
def pairs_that_are_damaged(folder, run):
    content = (run / "pairs.parquet").read_bytes()
    write(run, "pairs.parquet", content[:100] + bytes(40) + content[140:])
    return ["pairs", run]


@bad("pairs.parquet: row 1: id: found Expected `str`, got `int`; expected a pair as prefkit writes it")
def pairs_of_another_kind(folder, run):
    from pyarrow import parquet, table

    parquet.write_table(table({"id": [1]}), run / "pairs.parquet")
    return ["pairs", run]


@bad(", which the run does not hold; expected pairs of this run")
def pairs_of_responses_that_are_gone(folder, run):
    write(run, "responses.jsonl", "")
    return ["pairs", run]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of transformers, which looks for the unknown tokenizer
@pytest.mark.parametrize("name", BAD)
def test_a_command_that_cannot_work_says_why_and_leaves_everything_alone(prefkit, tmp_path, run, name):
    make, says = BAD[name]
    arguments = make(tmp_path, run)
    before = snapshot(tmp_path)
    assert says in explained(prefkit, *arguments)
    assert snapshot(tmp_path) == before


def test_more_than_sixty_inputs_are_broken():
    assert len(BROKEN | BROKEN_ROWS) >= 45
    assert len(BAD) >= 25
    assert len(BROKEN | BROKEN_ROWS) + len(BAD) >= 60


@pytest.mark.parametrize("option", [["--format", "xml"], ["--sample", "2"]])
def test_a_wrong_option_is_a_usage_error(prefkit, run, tmp_path, option):
    before = snapshot(run)
    outcome = prefkit("import", "prompts", run, write(tmp_path, "p.csv", "text\nHm.\n"), *option)
    assert outcome.code == 2
    assert outcome.err.startswith("Usage: ") and "Traceback" not in outcome.err
    assert snapshot(run) == before
