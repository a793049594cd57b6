"""Where people contradict each other, and what the third person is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from making import ONE, TWO, both_orders, compared, make_run, rated

from prefkit.annotation.adjudicating import conflicts
from prefkit.annotation.items import Item, keep_items
from prefkit.records import Comparison


def said(a: str, b: str, winner: Any, by: str, **facts: Any) -> list[Comparison]:
    return [msgspec.structs.replace(one, **facts) for one in compared(a, b, winner, f"human:{by}")]


def prompts_of(folder: Path, *answers: list[Comparison], **facts: Any) -> list[str]:
    return [one.prompt_id for one in conflicts(make_run(folder / "run", *answers, **facts))]


def test_two_people_who_prefer_different_responses_are_in_conflict_whatever_side_these_stood_on(tmp_path: Path):
    found = conflicts(
        make_run(
            tmp_path / "run",
            said("p1/A", "p1/B", "a", "x") + said("p1/B", "p1/A", "a", "y"),
            said("p2/A", "p2/B", "a", "x") + said("p2/B", "p2/A", "b", "y"),
            said("p3/A", "p3/B", "a", "x") + said("p3/A", "p3/B", "tie", "y"),
        )
    )
    assert [(one.responses, one.annotators) for one in found] == [(("p1/A", "p1/B"), {"human:x", "human:y"})]


def test_what_is_no_persons_first_answer_contradicts_nobody(tmp_path: Path):
    against = [
        both_orders("p1/B", "p1/A"),
        said("p2/A", "p2/B", "b", "y", sample=1),
        said("p3/A", "p3/B", "b", "y", flags=("attention:wrong",)),
        said("p4/A", "p4/B", "b", "y", failure="draft"),
        said("p5/A", "p5/B", "b", "y", rubric="another"),
        said("p6/A", "p6/B", "b", "y"),
    ]
    mine = [said(f"p{number}/A", f"p{number}/B", "a", "x") for number in range(1, 7)]
    assert prompts_of(tmp_path, *mine, *against, excluded={"p6": "not a client"}) == []


def test_what_was_decided_or_is_being_asked_is_in_conflict_no_more(tmp_path: Path):
    answers = [said(f"p{n}/A", f"p{n}/B", winner, by) for n in (1, 2, 3) for winner, by in (("a", "x"), ("b", "y"))]
    run = make_run(tmp_path / "run", *answers, said("p1/B", "p1/A", "a", "z", flags=("adjudication",)))
    item = Item(
        id="i",
        deck="run-1",
        number=0,
        kind="adjudication",
        mode="compare",
        prompt_id="p2",
        left="p2/B",
        right="p2/A",
        rubric=ONE.hash,
        form="f",
        words="w",
    )
    keep_items(run, [item, msgspec.structs.replace(item, kind="item", prompt_id="p3", left="p3/A", right="p3/B")])
    assert [one.prompt_id for one in conflicts(run)] == ["p3"]
    assert [one.prompt_id for one in conflicts(run, asked=True)] == ["p2", "p3"]


def test_even_votes_come_before_uneven_ones_and_strong_opinions_before_weak(tmp_path: Path):
    found = prompts_of(
        tmp_path,
        *(said("p1/A", "p1/B", winner, by, strength=3) for winner, by in (("a", "x"), ("a", "y"), ("b", "z"))),
        *(said("p2/A", "p2/B", winner, by, strength=1) for winner, by in (("a", "x"), ("b", "y"))),
        *(said("p3/A", "p3/B", winner, by, strength=3) for winner, by in (("a", "x"), ("b", "y"))),
    )
    assert found == ["p3", "p2", "p1"]


def test_the_notes_speak_of_the_sides_as_the_adjudicator_sees_them_and_name_nobody(tmp_path: Path):
    run = make_run(
        tmp_path / "run",
        said("p1/A", "p1/B", "a", "x", strength=2, reason="A asks first."),
        said("p1/B", "p1/A", "a", "y", strength=3, reason="A is shorter."),
        said("p1/A", "p1/B", "tie", "z"),
    )
    (conflict,) = conflicts(run)
    turned = "(The words call B what is A here: the two stood the other way round.)"
    assert sorted(conflict.notes("p1/A", ONE)) == [
        "Chose A, clearly: A asks first.",
        f"Chose B, by far: A is shorter. {turned}",
        "Chose neither. No reason given.",
    ]
    assert sorted(conflict.notes("p1/B", ONE)) == [
        "Chose A, by far: A is shorter.",
        f"Chose B, clearly: A asks first. {turned}",
        "Chose neither. No reason given.",
    ]
    assert not [note for note in conflict.notes("p1/A", ONE) if "human" in note]


def test_ratings_are_in_conflict_where_they_lie_more_than_half_the_scale_apart(tmp_path: Path):
    near = rated({"p1/A": 1}, "human:x") + rated({"p1/A": 3}, "human:y")
    far = rated({"p2/A": 1}, "human:x") + rated({"p2/A": 4}, "human:y")
    (conflict,) = conflicts(make_run(tmp_path / "run", near, far), mode="rate")
    assert (conflict.responses, conflict.mode) == (("p2/A",), "rate")
    assert sorted(conflict.notes("p2/A", ONE)) == ["Good 1. No reason given.", "Good 4. No reason given."]


def test_strong_opinions_are_so_on_average_and_not_for_being_many(tmp_path: Path):
    found = prompts_of(
        tmp_path,
        *(
            said("p1/A", "p1/B", winner, by, strength=2)
            for winner, by in (("a", "x"), ("b", "y"), ("a", "z"), ("b", "u"))
        ),
        *(said("p2/A", "p2/B", winner, by, strength=3) for winner, by in (("a", "x"), ("b", "y"))),
    )
    assert found == ["p2", "p1"]


def test_of_ratings_those_furthest_apart_come_first_and_the_notes_name_only_principles_in_conflict(tmp_path: Path):
    answers = [
        rated({f"{prompt}/A": {"warm": warm, "safe": 5}}, f"human:{by}")
        for prompt, scores in (("p1", (1, 4)), ("p2", (1, 5)))
        for by, warm in zip("xy", scores, strict=True)
    ]
    found = conflicts(make_run(tmp_path / "run", *answers, rubric=TWO), mode="rate")
    assert [one.prompt_id for one in found] == ["p2", "p1"]
    assert sorted(found[0].notes("p2/A", TWO)) == ["Warm 1. No reason given.", "Warm 5. No reason given."]


def test_blanks_are_no_reason(tmp_path: Path):
    run = make_run(tmp_path / "run", *(said("p1/A", "p1/B", *one, reason=" \n") for one in (("a", "x"), ("b", "y"))))
    assert sorted(conflicts(run)[0].notes("p1/A", ONE)) == ["Chose A. No reason given.", "Chose B. No reason given."]
