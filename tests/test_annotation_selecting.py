"""What people are asked about next: each strategy on runs of a few records, whose right answer can be seen."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from making import both_orders, compared, make_run, rated

from prefkit.annotation.selecting import SelectSettings, chosen_pairs, selection
from prefkit.errors import InputError, RunError
from prefkit.records import Comparison, Response
from prefkit.run import Run


def chosen(run: Run, strategy: str = "random", count: int = 100, **settings: Any) -> list[tuple[str, ...]]:
    wanted = SelectSettings(count=count, strategy=strategy, **settings)  # type: ignore[arg-type]
    return [tuple(sorted(case.responses)) for case in chosen_pairs(run, wanted)]


def texts(prompts: Iterable[str], policies: str = "AB") -> dict[str, str]:
    return {f"{prompt}/{policy}": f"{policy * 9} to {prompt}" for prompt in prompts for policy in policies}


def marked(run: Run, **marks: str) -> Run:
    """Mark responses by their policy."""
    records = [
        msgspec.structs.replace(one, marks=(marks[one.policy],) if one.policy in marks else ())
        for one in run.responses()
    ]
    run.replace(Response, records)
    return run


def leaning(a: str, b: str, preference: float) -> list[Comparison]:
    """A judge in both orders that prefers ``a`` with this probability."""
    there, back = compared(a, b, "a", "llm:one"), compared(b, a, "b", "llm:one")
    return [
        *(msgspec.structs.replace(one, preference=1 - preference) for one in there),
        *(msgspec.structs.replace(one, preference=preference) for one in back),
    ]


def test_what_is_unfit_to_be_shown_is_never_chosen_and_is_counted(tmp_path: Path):
    words = {
        **texts(["p1", "p2", "p3"], "ABCDEF"),
        "p1/F": None,
        "p2/F": " ",
        "p3/A": "Same  words.",
        "p3/B": "same words.",
    }
    run = make_run(tmp_path / "run", texts=words, excluded={"p2": "not a client"}, marks={"p1": ("risk:self-harm",)})
    marked(run, C="looping", D="cut-off", E="multi-speaker")
    found = selection(run, SelectSettings(count=100, per_prompt=100))
    assert {tuple(sorted(case.responses)) for case in found.cases} == {
        ("p1/A", "p1/B"),
        ("p3/A", "p3/F"),
        ("p3/B", "p3/F"),
    }
    assert found.left_out == {
        "responses: no text": 1,
        "responses: marked looping": 2,
        "responses: marked cut-off": 2,
        "responses: marked multi-speaker": 2,
        "responses: prompt excluded": 6,
        "pairs: the same words": 1,
    }
    without_risk = selection(run, SelectSettings(count=100, risk=False))
    assert {case.prompt_id for case in without_risk.cases} == {"p3"}
    assert without_risk.left_out["responses: prompt with a mark of risk"] == 6


def test_at_most_so_many_pairs_come_from_one_prompt_and_each_prompt_is_asked_about_once_first(tmp_path: Path):
    run = make_run(tmp_path / "run", texts=texts(["p1", "p2", "p3"], "ABCD"))
    prompts = [case.prompt_id for case in chosen_pairs(run, SelectSettings(count=100, per_prompt=2))]
    assert sorted(prompts[:3]) == sorted(prompts[3:]) == ["p1", "p2", "p3"]


def test_what_people_answered_and_what_stands_on_a_page_is_left_out_unless_asked_for(tmp_path: Path):
    run = make_run(tmp_path / "run", compared("p1/B", "p1/A", "tie", "human:x"), texts=texts(["p1", "p2", "p3"]))
    taken = [frozenset(("p2/B", "p2/A"))]
    found = selection(run, SelectSettings(count=9), taken)
    assert [case.prompt_id for case in found.cases] == ["p3"]
    assert found.left_out == {"pairs: answered by people": 1, "pairs: already on a page": 1}
    assert sorted(case.prompt_id for case in chosen_pairs(run, SelectSettings(count=9, again=True), taken)) == [
        "p1",
        "p3",
    ]


def test_a_draft_an_attention_item_and_a_judge_are_no_answer_of_people(tmp_path: Path):
    draft = [msgspec.structs.replace(one, failure="draft") for one in compared("p1/A", "p1/B", None)]
    attention = [msgspec.structs.replace(one, flags=("attention:right",)) for one in compared("p2/A", "p2/B", "a")]
    run = make_run(tmp_path / "run", draft, attention, both_orders("p3/A", "p3/B"))
    assert len(chosen(run)) == 3


def test_the_same_seed_gives_the_same_cases_whatever_the_order_of_files_and_another_seed_others(tmp_path: Path):
    words = texts([f"p{number}" for number in range(40)], "ABC")
    mixed = dict(random.Random(1).sample(list(words.items()), len(words)))
    there, back = make_run(tmp_path / "one", texts=words), make_run(tmp_path / "two", texts=mixed)
    assert chosen(there, count=10) == chosen(back, count=10)
    assert chosen(there, count=10) != chosen(there, count=10, seed=1)


def test_random_gives_every_pair_about_the_same_chance(tmp_path: Path):
    run = make_run(tmp_path / "run", texts=texts(["p1"], "ABC"))
    drawn = [chosen(run, count=1, seed=seed)[0] for seed in range(120)]
    assert {pair: drawn.count(pair) > 20 for pair in drawn} == {
        ("p1/A", "p1/B"): True,
        ("p1/A", "p1/C"): True,
        ("p1/B", "p1/C"): True,
    }


def test_uncertain_asks_first_where_the_judges_stand_even(tmp_path: Path):
    sure, close, even = leaning("p1/A", "p1/B", 0.9), leaning("p2/B", "p2/A", 0.6), leaning("p3/A", "p3/B", 0.5)
    run = make_run(tmp_path / "run", sure, close, even, texts=texts(["p4"]))
    found = selection(run, SelectSettings(count=9, strategy="uncertain"))
    assert [(case.prompt_id, case.score) for case in found.cases] == [
        ("p3", pytest.approx(1.0)),
        ("p2", pytest.approx(0.8)),
        ("p1", pytest.approx(0.2)),
    ]
    assert sum(found.left_out.values()) == 1


def test_a_judge_that_picks_by_position_is_even_over_both_orders(tmp_path: Path):
    first = [*compared("p1/A", "p1/B", "a", "llm:one"), *compared("p1/B", "p1/A", "a", "llm:one")]
    run = make_run(tmp_path / "run", first, both_orders("p2/A", "p2/B"))
    assert chosen(run, "uncertain") == [("p1/A", "p1/B"), ("p2/A", "p2/B")]


def test_ratings_near_each_other_are_uncertain_where_nobody_compared(tmp_path: Path):
    run = make_run(tmp_path / "run", rated({"p1/A": 5, "p1/B": 1, "p2/A": 4, "p2/B": 3, "p3/A": 2, "p3/B": 2}))
    assert [pair[0][:2] for pair in chosen(run, "uncertain")] == ["p3", "p2", "p1"]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_uncertain_by_rewards_takes_the_smallest_difference_whatever_judges_say(tmp_path: Path, kind: str):
    run = make_run(tmp_path / "run", leaning("p1/A", "p1/B", 0.5), texts=texts(["p1", "p2", "p3"]))
    rewards = {"p1/A": 0.0, "p1/B": -6.0, "p2/A": 5.0, "p2/B": 5.1, "p3/A": -0.2, "p3/B": 0.8, "unknown": 2.0}
    rows = [{"response_id": name, "reward": value, "model": "m"} for name, value in rewards.items()]
    path = tmp_path / f"rewards.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        from pyarrow import Table, parquet

        parquet.write_table(Table.from_pylist(rows), path)
    assert [pair[0][:2] for pair in chosen(run, "uncertain", rewards=path)] == ["p2", "p3", "p1"]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (None, "no file"),
        ('{"response_id": "p1/A"}\n', "reward"),
        ('{"response_id": "other", "reward": 1}\n', "no response of this run"),
        ("nonsense\n", "malformed"),
    ],
)
def test_rewards_that_cannot_be_used_are_named(tmp_path: Path, text: str | None, found: str):
    run = make_run(tmp_path / "run", texts=texts(["p1"]))
    path = tmp_path / "rewards.jsonl"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=found):
        chosen(run, "uncertain", rewards=path)


def test_disagreement_asks_first_where_judges_or_orders_contradict(tmp_path: Path):
    run = make_run(
        tmp_path / "run",
        both_orders("p1/A", "p1/B", "llm:one") + both_orders("p1/A", "p1/B", "llm:two"),
        both_orders("p2/A", "p2/B", "llm:one") + both_orders("p2/B", "p2/A", "llm:two"),
        both_orders("p3/A", "p3/B", "llm:one") + compared("p3/A", "p3/B", "a", "llm:two"),
        compared("p3/B", "p3/A", "a", "llm:two"),
        compared("p4/A", "p4/B", "a", "llm:one"),
    )
    found = chosen_pairs(run, SelectSettings(count=9, strategy="disagreement"))
    scores = {case.prompt_id: case.score for case in found}
    # Four voices each: two against two, three against one, four of one mind; on p4 there is one voice alone.
    assert [case.prompt_id for case in found] == ["p2", "p3", "p1"]
    assert scores == {"p2": pytest.approx(1 / 4), "p3": pytest.approx(3 / 16), "p1": pytest.approx(0)}


def checked_run(folder: Path) -> Run:
    """A judge that prefers A everywhere; people found it wrong on grief and right on work, in 15 pairs each; of each
    topic five more pairs are not checked."""
    prompts = {f"{topic}{number}": topic for topic in ("grief", "work") for number in range(20)}
    judged = [one for prompt in prompts for one in both_orders(f"{prompt}/A", f"{prompt}/B")]
    people = [
        one
        for prompt, topic in prompts.items()
        if int(prompt.removeprefix(topic)) < 15
        for one in compared(f"{prompt}/A", f"{prompt}/B", "b" if topic == "grief" else "a", "human:x")
    ]
    return make_run(folder, judged, people, topic=prompts)


def test_judge_person_asks_first_for_what_is_like_the_judges_mistakes(tmp_path: Path):
    found = chosen_pairs(checked_run(tmp_path / "run"), SelectSettings(count=10, strategy="judge-person"))
    assert [case.prompt_id[:4] for case in found] == ["grie"] * 5 + ["work"] * 5
    assert (found[0].score or 0) > 0.7
    assert (found[-1].score or 1) < 0.3


def test_judge_person_asks_again_where_they_differ_if_that_is_wanted(tmp_path: Path):
    wanted = SelectSettings(count=15, strategy="judge-person", again=True)
    found = chosen_pairs(checked_run(tmp_path / "run"), wanted)
    assert {case.score for case in found} == {1.0}
    assert {case.prompt_id for case in found} == {f"grief{number}" for number in range(15)}


def test_judge_person_says_what_it_lacks(tmp_path: Path):
    run = make_run(tmp_path / "run", both_orders("p1/A", "p1/B"), compared("p1/A", "p1/B", "b", "human:x"))
    with pytest.raises(RunError, match="1 mistakes in 1 pairs"):
        chosen(run, "judge-person")


def test_coverage_takes_topics_in_turn_beginning_with_those_answered_least(tmp_path: Path):
    topics = {**{f"w{n}": "work" for n in range(20)}, **{f"g{n}": "grief" for n in range(3)}, "s0": "sleep"}
    done = [one for n in range(2) for one in compared(f"w{n}/A", f"w{n}/B", "a", "human:x")]
    run = make_run(tmp_path / "run", done, texts=texts(topics), topic=topics)
    found = [topics[case.prompt_id] for case in chosen_pairs(run, SelectSettings(count=9, strategy="coverage"))]
    assert sorted(found[:2]) == ["grief", "sleep"]
    assert found[2] == "grief"
    assert sorted(found[3:5]) == ["grief", "work"]
    assert found[5:] == ["work"] * 4


def test_coverage_without_topics_is_random_and_says_so(tmp_path: Path):
    run = make_run(tmp_path / "run", texts=texts([f"p{number}" for number in range(9)]))
    found = selection(run, SelectSettings(count=4, strategy="coverage"))
    assert len(found.cases) == 4
    assert found.notes == ("No prompt has a topic: the cases are drawn at random.",)


def test_one_response_at_a_time_where_they_are_rated(tmp_path: Path):
    run = make_run(
        tmp_path / "run", rated({"p1/A": 3}, "human:x"), leaning("p3/A", "p3/B", 0.5), texts=texts(["p1", "p2", "p3"])
    )
    assert len(chosen(run, mode="rate", per_prompt=2)) == 5
    assert ("p1/A",) not in chosen(run, mode="rate", per_prompt=2)
    assert set(chosen(run, "uncertain", mode="rate", per_prompt=2)) == {("p3/A",), ("p3/B",)}


def test_only_the_policies_named(tmp_path: Path):
    run = make_run(tmp_path / "run", texts=texts(["p1", "p2"], "ABC"))
    assert set(chosen(run, policies=("A", "C"), per_prompt=9)) == {("p1/A", "p1/C"), ("p2/A", "p2/C")}
    with pytest.raises(RunError, match="no responses of the policy Z"):
        chosen(run, policies=("Z",))


def test_when_all_is_answered_it_says_so(tmp_path: Path):
    run = make_run(tmp_path / "run", compared("p1/A", "p1/B", "a", "human:x"))
    with pytest.raises(RunError, match=r"1 pairs: answered by people.*\n.*--again"):
        chosen(run)
    with pytest.raises(RunError, match="no judgements by models"):
        chosen(run, "disagreement")


def test_fewer_than_wanted_are_said(tmp_path: Path):
    run = make_run(tmp_path / "run", texts=texts(["p1"]))
    assert selection(run, SelectSettings(count=5)).notes == ("1 cases are all that can be asked about, of 5 wanted.",)
