"""Groups out of runs and out of preference files: what belongs together, what is left out, what is refused."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from making import TWO, both_orders, build, compared, make_run, rated

from prefkit.errors import InputError, PrefkitError, RunError
from prefkit.records import Message
from prefkit.training.examples import read_groups
from prefkit.training.groups import Group, Groups, Pair


def in_words(groups: Groups) -> list[str]:
    """Each pair as ``chosen > rejected``, by its texts."""
    return [f"{group.texts[pair.chosen]} > {group.texts[pair.rejected]}" for group in groups for pair in group.pairs]


def labels(groups: Groups) -> list[float]:
    return [pair.preferred for group in groups for pair in group.pairs]


def only(groups: Groups) -> Group:
    (group,) = groups
    return group


# --- from a run ------------------------------------------------------------------------------------------------------

THREE = rated({"p/A": 5, "p/B": 3, "p/C": 1, "q/A": 4, "q/B": 1})


def test_the_pairs_of_a_prompt_are_one_group_and_each_response_stands_in_it_once(tmp_path):
    run = make_run(tmp_path / "run", THREE, topic={"p": "grief"})
    build(run)
    first, second = groups = read_groups(run.path)
    assert (first.prompt_id, first.response_ids, first.policies) == ("p", ("p/A", "p/B", "p/C"), ("A", "B", "C"))
    assert sorted((pair.chosen, pair.rejected, pair.gap) for pair in first.pairs) == [(0, 1, 2), (0, 2, 4), (1, 2, 2)]
    assert first.messages == (Message(role="user", content="p, what am I to do?"),)
    assert (first.topic, second.topic) == ("grief", None)
    assert (len(groups), groups.responses, groups.pairs) == (2, 5, 4)
    assert groups.principles == ("good",)


def test_groups_can_be_gone_through_again_and_count_nothing_twice(tmp_path):
    run = make_run(tmp_path / "run", THREE)
    build(run)
    groups = read_groups(run.path)
    assert list(groups) == list(groups)
    assert (groups.pairs, groups.tally) == (4, {})


def test_responses_without_a_pair_come_with_all_responses_only(tmp_path):
    """r was never rated; C of q stands in no pair, as nobody rated it."""
    run = make_run(tmp_path / "run", THREE, texts={"q/C": "Well.", "r/A": "Yes."})
    build(run)
    assert [group.response_ids for group in read_groups(run.path)] == [("p/A", "p/B", "p/C"), ("q/A", "q/B")]
    everything = read_groups(run.path, all_responses=True)
    assert [group.response_ids for group in everything] == [("p/A", "p/B", "p/C"), ("q/A", "q/B", "q/C"), ("r/A",)]
    assert [len(group.pairs) for group in everything] == [3, 1, 0]


def test_all_responses_need_no_pairs(tmp_path):
    run = make_run(tmp_path / "run", THREE)
    assert [len(group.texts) for group in read_groups(run.path, all_responses=True)] == [3, 2]


def test_a_split_gives_its_pairs_and_one_that_is_empty_is_an_error_that_says_what_is_there(tmp_path):
    run = make_run(
        tmp_path / "run", rated({f"p{n}/{name}": 5 if name == "A" else 1 for n in range(9) for name in "AB"})
    )
    build(run, test_size=3)
    assert len(read_groups(run.path, "test")) == 3
    assert len(read_groups(run.path)) == 9
    with pytest.raises(RunError, match=r"no pair in the split 'validation' \(6 train, 3 test\)"):
        read_groups(run.path, "validation")


def test_soft_labels_and_gaps_by_principle_come_straight_from_the_pairs(tmp_path):
    """Two of three annotators prefer A; on ``warm`` all three are asked and two prefer it."""
    judgements = [compared("p/A", "p/B", winner, f"human:{who}", warm=winner) for who, winner in enumerate("aab")]
    run = make_run(tmp_path / "run", *judgements, rubric=TWO)
    build(run, strategy="comparisons")
    (pair,) = only(read_groups(run.path)).pairs
    assert pair.preferred == pytest.approx(2 / 3)
    assert pair.principle_preferred == {"warm": pytest.approx(2 / 3), "safe": None}
    assert pair.gap is None
    assert labels(read_groups(run.path, soft=False)) == [1.0]


def test_a_tie_is_a_pair_with_one_half(tmp_path):
    run = make_run(tmp_path / "run", rated({"p/A": 3, "p/B": 3, "q/A": 5, "q/B": 1}))
    build(run, ties=True)
    tied, preferred = (group.pairs[0] for group in read_groups(run.path))
    assert (tied.preferred, tied.tied, preferred.preferred, preferred.tied) == (0.5, True, 1.0, False)
    assert labels(read_groups(run.path, soft=False)) == [0.5, 1.0]


def test_a_wide_gap_of_which_the_votes_are_even_is_a_tie_in_soft_labels_alone(tmp_path):
    """Means 3.5 and 2.5: a gap of 1; one annotator prefers each side."""
    run = make_run(tmp_path / "run", rated({"p/A": 5, "p/B": 2}, "human:1"), rated({"p/A": 2, "p/B": 3}, "human:2"))
    build(run)
    assert labels(read_groups(run.path)) == [0.5]
    assert labels(read_groups(run.path, soft=False)) == [1.0]


def test_a_pair_weighs_the_mean_of_its_annotators_weights(tmp_path):
    judgements = rated({"p/A": 5, "p/B": 1}, "llm:one"), rated({"p/A": 4, "p/B": 1, "q/A": 5, "q/B": 1}, "human:1")
    run = make_run(tmp_path / "run", *judgements)
    build(run)

    def weights(**given: float) -> list[float]:
        named = {name.replace("_", ":"): weight for name, weight in given.items()}
        return [group.pairs[0].weight for group in read_groups(run.path, weights=named)]

    assert weights() == [1.0, 1.0]
    assert weights(llm_one=0.5) == [0.75, 1.0]
    assert weights(llm_one=0.0, human_1=3.0) == [1.5, 3.0]


def test_a_pair_of_weight_0_is_left_out_and_counted(tmp_path):
    run = make_run(tmp_path / "run", rated({"p/A": 5, "p/B": 1}, "llm:one"), rated({"q/A": 5, "q/B": 1}, "human:1"))
    build(run)
    groups = read_groups(run.path, weights={"llm:one": 0.0})
    assert ([group.prompt_id for group in groups], groups.tally) == (["q"], {"pairs of weight 0, left out": 1})


@pytest.mark.parametrize("weight", [math.nan, -1.0, math.inf])
def test_a_weight_that_is_none_is_an_error(tmp_path, weight):
    run = make_run(tmp_path / "run", THREE)
    build(run)
    with pytest.raises(PrefkitError, match=r"weight of llm:one: found .*; expected a finite number from 0"):
        read_groups(run.path, weights={"llm:one": weight})


def test_the_weight_of_an_annotator_that_is_not_there_is_an_error(tmp_path):
    run = make_run(tmp_path / "run", THREE)
    build(run)
    with pytest.raises(PrefkitError, match="no pair of the annotator 'llm:won'; expected one of: llm:one"):
        read_groups(run.path, weights={"llm:won": 2.0})


def test_a_run_without_pairs_says_how_to_build_them(tmp_path):
    run = make_run(tmp_path / "run", THREE)
    with pytest.raises(RunError, match=r"no pairs(.|\n)*prefkit build-pairs"):
        read_groups(run.path)


def test_one_response_for_each_prompt_is_an_error_of_its_own(tmp_path):
    run = make_run(tmp_path / "run", rated({"p/A": 5, "q/A": 1}))
    with pytest.raises(RunError, match=r"one response for each prompt(.|\n)*prefkit generate"):
        read_groups(run.path)


def test_a_run_without_texts_says_so(tmp_path):
    run = make_run(tmp_path / "run", THREE, texts=dict.fromkeys(["p/A", "p/B", "p/C", "q/A", "q/B"]))
    build(run)
    with pytest.raises(RunError, match="no response with a text"):
        read_groups(run.path)


def test_pairs_of_unknown_texts_are_left_out_and_counted(tmp_path):
    run = make_run(tmp_path / "run", THREE, texts={"p/C": None})
    build(run)
    groups = read_groups(run.path)
    assert groups.pairs == 2
    assert groups.tally == {"pairs of responses whose text is not known, left out": 2}


def test_pairs_of_a_prompt_that_the_run_lost_are_an_error(tmp_path):
    run = make_run(tmp_path / "run", THREE)
    build(run)
    lines = (run.path / "prompts.jsonl").read_bytes().splitlines(keepends=True)
    (run.path / "prompts.jsonl").write_bytes(lines[0])
    with pytest.raises(RunError, match=r"the prompt q, which the run does not hold(.|\n)*Build them again"):
        read_groups(run.path)


def test_models_in_both_orders_and_the_dataset_folder_give_the_same_groups(tmp_path):
    run = make_run(tmp_path / "run", both_orders("p/A", "p/B"), both_orders("q/B", "q/A"))
    build(run, strategy="comparisons")
    from_run, from_dataset = read_groups(run.path), read_groups(run.path / "dataset")
    assert in_words(from_run) == in_words(from_dataset)
    ours, theirs = list(from_run), list(from_dataset)
    for a, b in zip(ours, theirs, strict=True):
        assert (a.prompt_id, a.messages, sorted(a.response_ids)) == (b.prompt_id, b.messages, sorted(b.response_ids))
        assert [pair.id for pair in a.pairs] == [pair.id for pair in b.pairs]


# --- from a file -----------------------------------------------------------------------------------------------------


def saved(folder: Path, rows: list[dict[str, Any]], kind: str = "jsonl", name: str = "pairs") -> Path:
    path = folder / f"{name}.{kind}"
    if kind == "jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    elif kind == "json":
        path.write_text(json.dumps(rows))
    elif kind == "csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        import pyarrow as pa
        from pyarrow import parquet

        parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def said(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


PLAIN = {"prompt": "I am sad.", "chosen": "Tell me more.", "rejected": "Cheer up."}
CHAT = {"prompt": [user("I am sad.")], "chosen": [said("Tell me more.")], "rejected": [said("Cheer up.")]}
IMPLICIT = {"chosen": [user("I am sad."), said("Tell me more.")], "rejected": [user("I am sad."), said("Cheer up.")]}
HH = {
    "chosen": "\n\nHuman: I am sad.\n\nAssistant: Tell me more.",
    "rejected": "\n\nHuman: I am sad.\n\nAssistant: Cheer up.",
}


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
@pytest.mark.parametrize("row", [PLAIN, CHAT, IMPLICIT, HH], ids=["plain", "chat", "implicit", "hh-rlhf"])
def test_each_format_of_trl_gives_the_same_group(tmp_path, row, kind):
    group = only(read_groups(saved(tmp_path, [row], kind)))
    assert group.messages == (Message(role="user", content="I am sad."),)
    assert (group.texts, group.policies) == (("Tell me more.", "Cheer up."), ("", ""))
    assert group.pairs == (Pair(id=group.pairs[0].id, chosen=0, rejected=1),)


def test_a_csv_of_texts_is_read(tmp_path):
    assert in_words(read_groups(saved(tmp_path, [PLAIN], "csv"))) == ["Tell me more. > Cheer up."]


def test_rows_of_one_prompt_make_one_group_wherever_they_stand(tmp_path):
    other = {"prompt": "I am glad.", "chosen": "Good.", "rejected": "Why?"}
    again = {**PLAIN, "rejected": "Shrug."}
    groups = read_groups(saved(tmp_path, [PLAIN, other, again]))
    assert [group.texts for group in groups] == [("Tell me more.", "Cheer up.", "Shrug."), ("Good.", "Why?")]
    assert in_words(groups) == ["Tell me more. > Cheer up.", "Tell me more. > Shrug.", "Good. > Why?"]


def test_a_pair_in_two_rows_stays_two_pairs_with_ids_of_their_own(tmp_path):
    first, second = only(read_groups(saved(tmp_path, [PLAIN, PLAIN]))).pairs
    assert second.id == f"{first.id}#2"


def test_what_else_a_row_says_is_taken_over(tmp_path):
    row = {**PLAIN, "id": 7, "subset": "grief", "chosen_model": "one", "rejected_model": "two", "weight": 2.5}
    row |= {"preferred": 0.75, "score_chosen": 9, "score_rejected": 6.5}
    group = only(read_groups(saved(tmp_path, [row])))
    (pair,) = group.pairs
    assert (group.topic, group.policies) == ("grief", ("one", "two"))
    assert (pair.id, pair.weight, pair.preferred, pair.gap) == ("7", 2.5, 0.75, 2.5)


def test_psychocounsel_ratings_are_gaps_by_principle(tmp_path):
    """Gaps 2 and 1: 1.5 on the mean."""
    row = {"question": "I am sad.", "chosen": "Tell me more.", "rejected": "Cheer up."}
    row |= {"chosen_model": "one", "rejected_model": "two"}
    rated_on = {"chosen_warm_rating": 5, "rejected_warm_rating": 3, "chosen_safe_rating": 4, "rejected_safe_rating": 3}
    groups = read_groups(saved(tmp_path, [{**row, **rated_on}]))
    (pair,) = only(groups).pairs
    assert (pair.gaps, pair.gap, groups.principles) == ({"warm": 2, "safe": 1}, 1.5, ("warm", "safe"))


def test_rewardbench_2_pairs_each_right_answer_with_each_wrong_one(tmp_path):
    row = {"id": "x", "prompt": "1 + 1?", "chosen": ["2", "Two"], "rejected": ["3", "4", "5"], "subset": "Math"}
    group = only(read_groups(saved(tmp_path, [{**row, "num_correct": 2, "total_completions": 5}])))
    assert group.texts == ("2", "Two", "3", "4", "5")
    assert [(pair.chosen, pair.rejected) for pair in group.pairs] == [(a, b) for a in (0, 1) for b in (2, 3, 4)]
    assert (group.topic, group.pairs[0].id, group.pairs[-1].id) == ("Math", "x/0-0", "x/1-2")


def test_hhh_is_read_out_of_the_words_of_prometheus(tmp_path):
    def task(response: str) -> str:
        return (
            f"###Task Description:\nJudge.\n\n###The instruction to evaluate:\nI am sad.\n\n"
            f"###Response to evaluate:\n{response}\n\n###Score Rubrics:\n[Is it kind?]"
        )

    row = {"source": "harmless", "chosen_instruction": task("Tell me more."), "rejected_instruction": task("Cheer up.")}
    group = only(read_groups(saved(tmp_path, [row], "json")))
    assert (group.messages[0].content, group.topic) == ("I am sad.", "harmless")
    assert (group.texts, len(group.pairs)) == (("Tell me more.", "Cheer up."), 1)


@pytest.mark.parametrize(
    ("votes", "soft", "majority"),
    [
        ((1, 1, 1), 1.0, 1.0),
        ((2, 1, 1), 2 / 3, 1.0),
        ((0, 0, 1), 2 / 3, 0.5),
        ((0, 1, 2), 0.5, 0.5),
        ((0, 0, 0), 0.5, 0.5),
    ],
)
def test_pandalms_annotators_are_a_soft_label_or_their_majority(tmp_path, votes, soft, majority):
    """A tie is half a vote for each side; a majority is more than half of the annotators."""
    row = {"instruction": "Rewrite.", "input": "It is.", "response1": "So.", "response2": "No.", "cmp_key": "one_two"}
    row |= {f"annotator{number}": vote for number, vote in enumerate(votes, 1)}
    file = saved(tmp_path, [row], "json")
    assert labels(read_groups(file)) == [pytest.approx(soft)]
    assert labels(read_groups(file, soft=False)) == [majority]
    assert only(read_groups(file)).policies == ("one", "two")


def test_the_better_side_is_chosen_whatever_stands_first(tmp_path):
    row = {"input": "1 + 1?", "output_1": "3", "output_2": "2", "label": 2}
    groups = read_groups(saved(tmp_path, [row], "json"))
    assert in_words(groups) == ["2 > 3"]
    assert only(groups).policies == ("", "")


def test_peoples_verdicts_go_before_a_models(tmp_path):
    """LLMBar's results: the gold label says 1, the judge said 2 in both orders."""
    verdicts = {"swap = False": {"winner": "2"}, "swap = True": {"winner": "2"}}
    row = {"input": "1 + 1?", "output_1": "2", "output_2": "3", "label": 1, "results": [verdicts]}
    groups = read_groups(saved(tmp_path, [row], "json"))
    assert (in_words(groups), labels(groups)) == (["2 > 3"], [1.0])


def test_rows_that_teach_nothing_are_counted_by_their_reason(tmp_path):
    identical, empty = {**PLAIN, "rejected": PLAIN["chosen"]}, {**PLAIN, "rejected": " "}
    groups = read_groups(saved(tmp_path, [PLAIN, identical, empty, {**PLAIN, "prompt": None}]))
    assert groups.pairs == 1
    assert groups.tally == {
        "rows left out: chosen and rejected are the same text": 1,
        "rows left out: empty response": 1,
        "rows left out: no prompt": 1,
    }


def test_two_annotated_responses_of_the_same_words_are_no_pair(tmp_path):
    row = {"instruction": "Rewrite.", "input": "It is.", "response2": "So.", "cmp_key": "one_two", "annotator1": 1}
    groups = read_groups(saved(tmp_path, [{**row, "response1": "No."}, {**row, "response1": "So."}], "json"))
    assert (groups.pairs, groups.tally) == (1, {"pairs of identical texts, left out": 1})


def test_a_broken_line_is_counted(tmp_path):
    path = saved(tmp_path, [PLAIN])
    path.write_text(path.read_text() + '{"prompt": \n' + json.dumps({**PLAIN, "rejected": "No."}) + "\n")
    groups = read_groups(path)
    assert (groups.pairs, groups.tally) == (2, {"rows that could not be read, left out": 1})


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{**PLAIN, "rejected": PLAIN["chosen"]}], "1 pairs or rows of which none can be used .*the same text"),
        ([{"prompt": "I am sad.", "response": "Tell me more."}], "one response for each row"),
        ([{"text": "I am sad.", "stars": 5}], "the columns text, stars; expected prompt, chosen and rejected"),
        ([{**PLAIN, "weight": "NaN"}], r"row 1: weight: found 'NaN'; expected a number from 0"),
        ([{**PLAIN, "weight": -1}], r"row 1: weight: found -1; expected a number from 0"),
    ],
)
def test_a_file_without_a_pair_is_one_clear_error(tmp_path, rows, words):
    with pytest.raises(InputError, match=words):
        read_groups(saved(tmp_path, rows))


def test_a_column_of_splits_is_a_split(tmp_path):
    path = saved(tmp_path, [{**PLAIN, "split": "train"}, {**PLAIN, "rejected": "Shrug.", "split": "test"}])
    assert in_words(read_groups(path, "test")) == ["Tell me more. > Shrug."]
    with pytest.raises(InputError, match="no row of the split 'validation'"):
        read_groups(path, "validation")
    with pytest.raises(InputError, match="one file, without splits"):
        read_groups(saved(tmp_path, [PLAIN], name="other"), "test")


def test_one_response_alone_can_be_scored(tmp_path):
    rows = [{"prompt": "I am sad.", "responses": ["Oh.", "Tell me more."]}, {"prompt": "Hm.", "responses": ["Yes?"]}]
    groups = read_groups(saved(tmp_path, rows), all_responses=True)
    assert [(group.texts, group.pairs) for group in groups] == [(("Oh.", "Tell me more."), ()), (("Yes?",), ())]


def test_plain_texts_stay_as_they_stand(tmp_path):
    row = {"prompt": "The sky is ", "chosen": "blue.\n", "rejected": " green."}
    group = only(read_groups(saved(tmp_path, [row]), plain=True))
    assert (group.messages[0].content, group.texts) == ("The sky is ", ("blue.\n", " green."))


def test_plain_dialogues_are_cut_behind_the_last_speaker_that_they_share(tmp_path):
    group = only(read_groups(saved(tmp_path, [HH]), plain=True))
    assert group.messages[0].content == "\n\nHuman: I am sad.\n\nAssistant:"
    assert group.texts == (" Tell me more.", " Cheer up.")


def test_plain_is_refused_for_what_is_no_plain_text(tmp_path):
    with pytest.raises(InputError, match="no plain texts"):
        read_groups(saved(tmp_path, [CHAT]), plain=True)


@pytest.mark.parametrize(
    ("file", "pairs"),
    [("hh-rlhf/test.jsonl.gz", 2308), ("hhh-alignment/hhh_alignment_eval.json", 221), ("pandalm/testset-v1.json", 945)],
)
def test_the_real_sets_are_read_whole(real_data, file, pairs):
    groups = read_groups(real_data / file)
    assert groups.pairs == pairs
    assert groups.tally.total() == {2308: 4, 221: 0, 945: 54}[pairs]
