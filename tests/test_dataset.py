"""``dataset/``: loaded as anybody would, its card against its files, its manifest against what it stands for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from making import ONE, TWO, answer, build, compared, make_run, pairs_of, rated, rows_of, rubric
from pyarrow import parquet

from prefkit.records import Judgement, Message, Rating
from prefkit.rubric import Gate
from prefkit.rubric_files import load_rubric
from prefkit.run import Run

DIALOGUE = [
    Message(role="user", content="I can't sleep."),
    Message(role="assistant", content="Since when?"),
    Message(role="user", content="Since June."),
]
PSYCHOCOUNSEL = ("relevance", "empathy", "clarity", "safety", "exploration", "autonomy", "staging")
TRACED = ["id", "prompt_id", "chosen_id", "rejected_id", "chosen_policy", "rejected_policy", "rating_gap", "gaps"]
TRACED += ["preferred", "principle_preferred", "annotators", "first"]


def grid(n_prompts: int, by: str = "llm:one") -> list[Rating]:
    """Three policies; A above B above C by two points on both principles."""
    levels = {"A": 5, "B": 3, "C": 1}
    return rated(
        {f"p{n}/{name}": {"warm": level, "safe": level} for n in range(n_prompts) for name, level in levels.items()}, by
    )


def loaded(run: Run, folder: Path) -> Any:
    """What ``datasets.load_dataset`` makes of the folder, by its card alone."""
    from datasets import load_dataset

    return load_dataset(str(run.path / "dataset"), cache_dir=str(folder / "cache"))


def card(run: Run) -> tuple[dict[str, Any], str]:
    """The head and the words of the card."""
    _, head, words = (run.path / "dataset" / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(head), words


def table(words: str, first: str) -> dict[str, list[str]]:
    """The table whose first heading is ``first``, by its first column."""
    (found,) = re.findall(rf"(?m)^\| {first} \|.*\n\| ---.*\n((?:\|.*\n)+)", words)
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in found.splitlines()]
    return {row[0]: row[1:] for row in rows}


def number(cell: str) -> int:
    return int(cell.replace(",", ""))


# --- loading ---------------------------------------------------------------------------------------------------------


def test_a_conversational_dataset_loads_with_prompt_chosen_and_rejected_as_messages(tmp_path):
    run = make_run(tmp_path / "run", grid(4), rubric=TWO, prompts={"p0": DIALOGUE})
    report = build(run, test_size=1, seed=1)
    data = loaded(run, tmp_path)
    assert {name: len(rows) for name, rows in data.items()} == report.dataset == report.kept
    assert data["train"].column_names == ["prompt", "chosen", "rejected", *TRACED]
    (row,) = [row for row in data["train"] if (row["chosen_id"], row["rejected_id"]) == ("p0/A", "p0/C")]
    assert row["prompt"] == [{"role": message.role, "content": message.content} for message in DIALOGUE]
    assert row["chosen"] == [{"role": "assistant", "content": answer("p0/A")}]
    assert row["rejected"] == [{"role": "assistant", "content": answer("p0/C")}]
    assert (row["rating_gap"], row["gaps"], row["preferred"]) == (4.0, {"warm": 4.0, "safe": 4.0}, 1.0)
    assert (row["annotators"], row["principle_preferred"]) == (["llm:one"], {"warm": 1.0, "safe": 1.0})


def test_a_plain_dataset_loads_with_prompt_chosen_and_rejected_as_texts(tmp_path):
    run = make_run(tmp_path / "run", grid(4), rubric=TWO, prompts={"p0": DIALOGUE})
    build(run, format="plain")
    data = loaded(run, tmp_path)["train"]
    assert data.column_names == ["prompt", "chosen", "rejected", *TRACED]
    by_id = {(row["chosen_id"], row["rejected_id"]): row for row in data}
    row = by_id["p0/A", "p0/B"]
    assert row["prompt"] == "Client: I can't sleep.\n\nTherapist: Since when?\n\nClient: Since June."
    assert (row["chosen"], row["rejected"]) == (answer("p0/A"), answer("p0/B"))
    assert by_id["p1/A", "p1/B"]["prompt"] == "p1, what am I to do?"


def test_a_psychocounsel_dataset_loads_with_the_columns_of_the_published_one(tmp_path):
    made = load_rubric("psychocounsel")
    scores = dict.fromkeys(made.principle_ids, 5)
    run = make_run(
        tmp_path / "run",
        rated({"p/A": scores, "p/B": {**scores, "safety": 3, "empathy": 1, "clarity": 1}}),
        rubric=made,
    )
    build(run, format="psychocounsel", strategy="all")
    data = loaded(run, tmp_path)["train"]
    rated_columns = [f"{side}_{name}_rating" for side in ("chosen", "rejected") for name in PSYCHOCOUNSEL]
    assert set(data.column_names) == {
        "ID", "prefID", "question", "chosen", "rejected", "chosen_model", "rejected_model", *rated_columns,
    }  # fmt: skip
    row = data[0]
    assert (row["ID"], row["prefID"], row["chosen_model"], row["rejected_model"]) == ("p", 0, "A", "B")
    assert (row["question"], row["chosen"]) == ("p, what am I to do?", answer("p/A"))
    assert (row["chosen_safety_rating"], row["rejected_safety_rating"], row["rejected_empathy_rating"]) == (5, 3, 1)


@pytest.mark.parametrize("form", ["conversational", "plain", "psychocounsel"])
def test_no_column_is_called_margin(tmp_path, form):
    """trl would subtract it inside its loss."""
    run = make_run(tmp_path / "run", grid(2), rubric=TWO)
    build(run, format=form)
    assert "margin" not in parquet.read_schema(run.path / "dataset" / "train.parquet").names
    assert "margin" not in parquet.read_schema(run.path / "pairs.parquet").names


def test_a_dataset_in_which_nobody_judged_both_sides_still_has_lists_of_names(tmp_path):
    run = make_run(tmp_path / "run", rated({"p/A": 5}, "human:one"), rated({"p/B": 2}, "human:two"))
    build(run)
    for path in ("pairs.parquet", "dataset/train.parquet"):
        assert str(parquet.read_schema(run.path / path).field("annotators").type.value_type) == "string"
    assert loaded(run, tmp_path)["train"][0]["annotators"] == []


def test_ratings_that_are_not_known_are_null_and_not_a_number_that_is_none(tmp_path):
    run = make_run(tmp_path / "run", compared("p/A", "p/B", "a"))
    build(run, strategy="comparisons", format="psychocounsel")
    assert rows_of(run)[0]["chosen_good_rating"] is None


def test_ratings_are_in_the_rubrics_units_where_gaps_are_of_z_scores(tmp_path):
    run = make_run(tmp_path / "run", rated({"p/A": 5, "p/B": 4}))
    build(run, z_scores=True, format="psychocounsel")
    assert (rows_of(run)[0]["chosen_good_rating"], rows_of(run)[0]["rejected_good_rating"]) == (5, 4)


def test_a_pair_whose_text_nobody_knows_is_in_the_pairs_and_not_in_the_dataset(tmp_path):
    run = make_run(tmp_path / "run", grid(2), rubric=TWO, texts={"p0/B": None})
    report = build(run)
    assert len(pairs_of(run)) == 6
    assert report.dataset == {"train": 4}
    assert {(row["chosen_id"], row["rejected_id"]) for row in rows_of(run)} == {
        ("p0/A", "p0/C"), ("p1/A", "p1/B"), ("p1/A", "p1/C"), ("p1/B", "p1/C"),
    }  # fmt: skip


def test_a_split_of_which_no_text_is_known_has_no_file_and_loads_without(tmp_path):
    run = make_run(tmp_path / "run", grid(6), rubric=TWO)
    build(run, test_size=2)
    of_test = {pair.prompt_id for pair in pairs_of(run) if pair.split == "test"}
    silent = {f"{prompt}/A": None for prompt in of_test}
    run = make_run(tmp_path / "silent", grid(6), rubric=TWO, texts=silent)
    report = build(run, test_size=2)
    assert report.kept == {"train": 12, "test": 2} and report.dataset == {"train": 12}
    assert list(loaded(run, tmp_path)) == ["train"]


def test_without_any_text_there_is_no_dataset_and_none_from_before(tmp_path, prefkit):
    run = make_run(tmp_path / "run", grid(2), rubric=TWO)
    build(run)
    run.replace(type(next(run.responses())), [msgspec.structs.replace(one, text=None) for one in list(run.responses())])
    outcome = prefkit("build-pairs", run.path, "--test-size", "0")
    assert "pairs.parquet: 6 pairs" in outcome.out and "dataset/: none, as the run has no response texts" in outcome.out
    assert not (run.path / "dataset").exists()


def test_chunks_of_rows_have_no_seam(tmp_path, monkeypatch):
    """Also where the first chunk has no voter, and a prompt's pairs stand in two chunks."""
    half = rated({"p0/A": {"warm": 5, "safe": 5}}, "human:one") + rated({"p0/B": {"warm": 1, "safe": 1}}, "human:two")
    run = make_run(tmp_path / "run", half, [one for one in grid(5) if one.prompt_id != "p0"], rubric=TWO)
    whole = {}
    for form in ("conversational", "plain", "psychocounsel"):
        build(run, format=form)
        whole[form] = (pairs_of(run), rows_of(run))
    monkeypatch.setattr("prefkit.pairs.dataset.CHUNK", 2)
    for form, (pairs, rows) in whole.items():
        build(run, format=form)
        assert (pairs_of(run), rows_of(run)) == (pairs, rows)
    assert [row["prefID"] for row in rows] == [0, *[0, 1, 2] * 4]


# --- the card --------------------------------------------------------------------------------------------------------


@pytest.fixture
def described(tmp_path: Path) -> Run:
    """Eight prompts, two annotators who agree on most, a gate, a text that is not known, a split."""
    made = rubric("warm", "safe", gates=[Gate(principle="safe")])
    other = rated(
        {"p0/A": {"warm": 5, "safe": 2}, "p0/B": {"warm": 1, "safe": 4}, "p1/A": {"warm": 1, "safe": 1}}, "human:two"
    )
    run = make_run(tmp_path / "run", grid(8), other, rubric=made, texts={"p2/C": None, "p3/B": answer("p3/A").upper()})
    build(run, test_size=2, validation_size=1, licence="cc-by-4.0", seed=3)
    return run


def test_the_head_of_the_card_is_yaml_with_the_licence_and_the_files(described):
    head, words = card(described)
    assert head["license"] == "cc-by-4.0" and "Licence: cc-by-4.0." in words
    files = {entry["split"]: entry["path"] for entry in head["configs"][0]["data_files"]}
    assert files == {split: f"{split}.parquet" for split in ("train", "validation", "test")}
    assert all((described.path / "dataset" / path).is_file() for path in files.values())
    assert head["pretty_name"] == "Made for a test" and head["size_categories"] == ["n<1K"]


def test_the_counts_in_the_card_are_those_of_the_files(described):
    _, words = card(described)
    rows = {split: rows_of(described, split) for split in ("train", "validation", "test")}
    total = sum(map(len, rows.values()))
    assert number(re.search(r"^([\d,]+) pairs of a chosen", words, re.MULTILINE)[1]) == total < len(pairs_of(described))
    assert {split: [number(cell) for cell in cells] for split, cells in table(words, "split").items()} == {
        split: [len(its), len({row["prompt_id"] for row in its})] for split, its in rows.items()
    }
    voted = Counter(name for its in rows.values() for row in its for name in row["annotators"])
    assert {name: number(cells[1]) for name, cells in table(words, "annotator").items()} == voted
    assert {name: cells[0] for name, cells in table(words, "annotator").items()} == {
        "llm:one": "model",
        "human:two": "person",
    }


def test_what_was_selected_is_what_was_left_out_and_what_was_kept(described):
    _, words = card(described)
    (selected, *left_out, kept) = table(words, "pairs").items()
    assert selected[0] == "selected (gap)" and kept[0] == "kept"
    assert number(selected[1][0]) == sum(number(cells[0]) for _, cells in left_out) + number(kept[1][0])
    assert number(kept[1][0]) == sum(len(rows_of(described, split)) for split in ("train", "validation", "test"))
    assert {"left out: identical texts", "left out: text unknown (in pairs.parquet only)"} < dict(left_out).keys()


def test_agreement_and_length_in_the_card_by_hand(tmp_path):
    """Three pairs: two of two for A, two of two for A, two of three for A; shares 1, 1, 2/3: mean 8/9.

    Chosen 10, 10 and 30 characters, rejected 20, 5 and 15: longer in two of three."""
    second = rated({"p/A": 4, "p/B": 3, "q/A": 4, "q/B": 3, "r/A": 3, "r/B": 4}, "human:two")
    third = rated({"r/A": 5, "r/B": 1}, "human:three")
    texts = {"p/A": "a" * 10, "p/B": "b" * 20, "q/A": "c" * 10, "q/B": "d" * 5, "r/A": "e" * 30, "r/B": "f" * 15}
    run = make_run(
        tmp_path / "run", rated({name: 5 if name[2] == "A" else 1 for name in texts}), second, third, texts=texts
    )
    build(run)
    _, words = card(run)
    assert "3 pairs have two annotators or more; on 66.7% of them all prefer the chosen side" in words
    assert "the mean share that does is 88.9%" in words
    assert "The longer response is the chosen one in 66.7%" in words
    assert table(words, "characters")["chosen"] == ["17", "10", "10", "26"]
    assert table(words, "characters")["rejected"] == ["13", "7", "15", "19"]


@pytest.mark.parametrize(
    ("judged", "claim"),
    [
        (rated({"p/A": 5, "p/B": 1}), "No person judged these pairs"),
        (rated({"p/A": 5, "p/B": 1}, "human:two"), "People judged at least some of the pairs"),
        (rated({"p/A": 5}, "human:one") + rated({"p/B": 1}, "human:two"), "People judged at least some of the pairs"),
        (compared("p/A", "p/B", "a", "human:two"), "People judged at least some of the pairs"),
        (rated({"p/A": 5, "p/B": 1}) + rated({"q/A": 3, "q/B": 3}, "human:two"), "No person judged these pairs"),
    ],
    ids=["a model", "a person", "a person for each side", "a person who compared", "a person on other responses"],
)
def test_the_card_says_whether_a_person_judged_these_pairs(tmp_path, judged, claim):
    run = make_run(tmp_path / "run", judged)
    build(run, strategy="gap" if isinstance(judged[0], Rating) else "comparisons")
    assert claim in card(run)[1]


@pytest.mark.parametrize(("z_scores", "units"), [(False, "the rubric's units"), (True, "standard deviations of each")])
def test_the_card_says_in_what_units_a_gap_is(tmp_path, z_scores, units):
    run = make_run(tmp_path / "run", rated({"p/A": 5, "p/B": 1}))
    build(run, z_scores=z_scores)
    assert f"A gap is in {units}" in card(run)[1]


def test_a_title_over_several_lines_makes_one_heading(tmp_path):
    made = msgspec.structs.replace(ONE, title='Warm: "really" \u2013 w\u00e4rm\n  on two lines\n')
    run = make_run(tmp_path / "run", rated({"p/A": 5, "p/B": 1}), rubric=made)
    build(run)
    head, words = card(run)
    title = 'Warm: "really" \u2013 w\u00e4rm on two lines'
    assert head["pretty_name"] == title
    assert f"\n# {title}: preference pairs\n" in words


def test_the_card_says_how_many_near_duplicates_it_found_on_one_side(tmp_path):
    """p0 and p1 say the same, p2 and p3 too."""
    words = {f"p{n}": f"The {n // 2 * 111} sheep of {n // 2 * 77} dreams keep me awake." for n in range(8)}
    run = make_run(tmp_path / "run", grid(8), rubric=TWO, prompts={**words, "p4": "Four.", "p5": "Five.", "p6": "Six."})
    build(run, test_size=2)
    assert "0.8 or more do: 2 pairs of near-duplicates were found and held together" in card(run)[1]


def test_the_card_says_how_scrubbed_its_prompts_are(tmp_path):
    run = make_run(tmp_path / "run", rated({"p/A": 5, "p/B": 1, "q/A": 5, "q/B": 1}), scrubbed={"p": True})
    build(run)
    assert "replaced by placeholders in 1 of 2 prompts" in card(run)[1]


# --- the manifest, and the same bytes --------------------------------------------------------------------------------


def manifest_of(run: Run, **settings: Any) -> str:
    return build(run, **settings).manifest


def fresh(folder: Path, judged: Iterable[Rating] | None = None) -> Run:
    return make_run(folder, grid(3) if judged is None else judged, rubric=TWO)


def test_the_manifest_is_the_same_for_the_same_run_and_settings(tmp_path):
    run = fresh(tmp_path / "run")
    manifest = manifest_of(run)
    assert manifest == manifest_of(run) == manifest_of(fresh(tmp_path / "elsewhere"))
    assert manifest in card(run)[1]
    assert Run(run.path).info.stages["build-pairs"]["manifest"] == manifest


def test_another_rating_makes_another_manifest(tmp_path):
    run = fresh(tmp_path / "run")
    before = manifest_of(run)
    first, *others = run.judgements()
    run.replace(Judgement, [msgspec.structs.replace(first, scores={"warm": 4, "safe": 5}), *others])
    assert manifest_of(run) != before


@pytest.mark.parametrize(
    "made",
    [
        rubric("warm", "safe", gates=[Gate(principle="safe")]),
        rubric("warm", "safe", aggregate="sum"),
        rubric("warm", "safe", aggregate="weighted-mean", weights=[1, 3]),
    ],
    ids=["a gate", "another aggregate", "weights"],
)
def test_a_rubric_that_is_used_otherwise_makes_another_manifest(tmp_path, made):
    """Nobody is shown gates or weights, so the content hash is the same, and the pairs are not."""
    run = fresh(tmp_path / "run")
    before = manifest_of(run)
    run.use_rubric(made)
    assert made.hash == TWO.hash and manifest_of(run) != before


@pytest.mark.parametrize(
    "changed",
    [{"min_gap": 2.0}, {"seed": 1}, {"near_identical": 0.9}, {"format": "plain"}, {"licence": "mit"}, {"gates": False}],
    ids=lambda changed: next(iter(changed)),
)
def test_another_setting_makes_another_manifest(tmp_path, changed):
    run = fresh(tmp_path / "run")
    assert manifest_of(run) != manifest_of(run, **changed)


def written(run: Run) -> dict[str, bytes]:
    paths = [run.path / "pairs.parquet", *(run.path / "dataset").iterdir()]
    return {path.name: path.read_bytes() for path in paths}


def test_two_builds_give_the_same_bytes_in_another_process_too(tmp_path):
    run = fresh(tmp_path / "run")
    build(run, test_size=1.0)
    before = written(run)
    assert set(before) == {"pairs.parquet", "README.md", "train.parquet", "test.parquet"}
    shutil.copytree(run.path, tmp_path / "copy")
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-m", "prefkit", "build-pairs", str(tmp_path / "copy"), "--test-size", "1"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    build(run, test_size=1.0)
    assert written(run) == before == written(Run(tmp_path / "copy"))


# --- and back --------------------------------------------------------------------------------------------------------


def test_a_psychocounsel_dataset_comes_back_with_the_same_ratings(tmp_path, prefkit):
    """Two annotators whose means are wholes, halves and (with one that rated twice) quarters."""
    made = load_rubric("psychocounsel")
    levels = {"A": 5, "B": 3, "C": 1}

    def ratings(by: str, shift: int, sample: int = 0) -> list[Rating]:
        scores = {
            f"p{n}/{name}": {
                principle: min(5, max(1, level + (place + n) % 3 - 1 + shift))
                for place, principle in enumerate(made.principle_ids)
            }
            for n in range(3)
            for name, level in levels.items()
        }
        return rated(scores, by, sample=sample)

    run = make_run(
        tmp_path / "run", ratings("llm:one", 0), ratings("llm:one", 1, sample=1), ratings("human:two", -1), rubric=made
    )
    build(run, format="psychocounsel", strategy="all")
    back = Run.create(tmp_path / "back", made)
    file = run.path / "dataset" / "train.parquet"
    outcome = prefkit(
        "import", "judgements", back.path, file, "--preset", "psychocounsel", "--set", "annotator=llm:mean"
    )
    assert outcome.code == 0 and "9 judgements, 63 scores" in outcome.out

    policies = {one.id: (one.policy, one.text) for one in back.responses()}
    returned = {policies[one.response_id]: one.scores for one in back.judgements()}
    expected = {}
    for row in rows_of(run):
        for side in ("chosen", "rejected"):
            expected[row[f"{side}_model"], row[side]] = {
                name: row[f"{side}_{name}_rating"] for name in made.principle_ids
            }
    assert returned == expected and len(expected) == 9
    by_hand = {one.response_id: [] for one in run.judgements()}
    for one in run.judgements():
        by_hand[one.response_id].append((one.annotator, one.scores))
    for name, given in by_hand.items():
        one = [scores for who, scores in given if who == "llm:one"]
        (two,) = [scores for who, scores in given if who == "human:two"]
        for principle, score in returned[name[-1], answer(name)].items():
            assert score == ((one[0][principle] + one[1][principle]) / 2 + two[principle]) / 2
    report = build(back, strategy="all")
    assert (report.selected, report.dataset) == (9, {"train": 9})
