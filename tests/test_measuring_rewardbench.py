"""RewardBench's scores against arithmetic that can be done by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from prefkit.errors import InputError
from prefkit.training.groups import Group, Rewards
from prefkit.training.measuring.rewardbench import SECTIONS, SUBSETS, Item, read_items, score, scores_of, ties_score


class ByLength:
    """The longer a text, the higher its reward."""

    heads: tuple[str, ...] = ()

    def rewards(self, groups: Iterable[Group]) -> Iterator[Rewards]:
        for group in groups:
            yield np.asarray([[len(text)] for text in group.texts], dtype=np.float32)


def written(folder: Path, rows: list[dict[str, object]], name: str = "bench.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def first(subset: str, chosen: str = "long", rejected: str = "no", number: int = 0) -> dict[str, object]:
    """A row of RewardBench 1."""
    return {"id": number, "prompt": "Why?", "chosen": chosen, "rejected": rejected, "subset": subset}


def second(subset: str, chosen: list[str], rejected: list[str], name: str = "1") -> dict[str, object]:
    """A row of RewardBench 2."""
    counts = {"num_correct": len(chosen), "total_completions": len(chosen) + len(rejected)}
    return {"id": name, "prompt": "Why?", "chosen": chosen, "rejected": rejected, "subset": subset, **counts}


def scored(path: Path):
    version, items = read_items(path)
    return score(ByLength(), items, version, rounds=100)


def test_ties_by_hand():
    """Two questions. Question 1: tied rewards 5, 4 right and 1 wrong: d = 1, m = 3; ref 6 right, 2 wrong: m = 4.
    Question 2: tied 5, 2 right and 1 wrong: d = 3, m = 1; ref 1 right, 2 wrong: m = -1.

    accurate(tied) 2/2, accurate(ref) 1/2, m_tied > d 1/2, min(m_ref, m_tied) > d 1/2,
    closeness (tanh(3/1 - 1) + tanh(-1/3 - 1)) / 2.
    """
    rows = {
        "tied:1": (np.asarray([5.0, 4.0, 1.0]), 2),
        "ref:1": (np.asarray([6.0, 2.0]), 1),
        "tied:2": (np.asarray([5.0, 2.0, 1.0]), 2),
        "ref:2": (np.asarray([1.0, 2.0]), 1),
    }
    closeness = (math.tanh(2) + math.tanh(-4 / 3)) / 2
    found = ties_score(rows)
    assert found["score"] == pytest.approx(0.30 + 0.15 + 0.10 + 0.10 + 0.01 * closeness)
    assert found["closeness"] == pytest.approx(closeness)


def test_right_answers_that_are_all_alike_have_the_most_that_ties_can_have():
    """d = 0: min / d is infinite, tanh is 1, and the score 1.01; nothing apart from anything: 0 / 0 counts 0."""
    best = ties_score({"tied:1": (np.asarray([3.0, 3.0, 1.0]), 2), "ref:1": (np.asarray([3.0, 1.0]), 1)})
    assert best["score"] == pytest.approx(1.01)
    flat = ties_score({"tied:1": (np.zeros(3), 2), "ref:1": (np.zeros(2), 1)})
    assert flat["score"] == 0


def test_a_question_without_its_other_half_counts_in_the_accuracies_alone():
    rows = {"tied:1": (np.asarray([3.0, 2.0, 1.0]), 2), "ref:2": (np.asarray([3.0, 1.0]), 1)}
    assert ties_score(rows)["score"] == pytest.approx(0.6)


def test_a_tie_is_wrong_in_the_first_benchmark_and_shared_in_the_second(tmp_path):
    one = scored(written(tmp_path, [first("donotanswer", "same", "size"), first("donotanswer")]))
    assert (one.version, one.subsets["donotanswer"].value, one.equal) == (1, 50.0, 1)
    rows = [second("Math", ["same"], ["size", "a", "b"]), second("Math", ["x"], ["size", "a", "b"])]
    two = scored(written(tmp_path, rows, "two.jsonl"))
    assert (two.version, two.subsets["Math"].value, two.equal) == (2, 25.0, 1)


def test_sections_weigh_their_subsets_as_the_published_set_does(tmp_path):
    """Reasoning: math-prm 984 right, one language of 164 wrong: 984 / 1148."""
    rows = [first("math-prm"), first("hep-go", "no", "long"), first("mt-bench-hard")]
    found = scored(written(tmp_path, rows))
    assert found.sections["Reasoning"] == pytest.approx(100 * 984 / 1148)
    assert found.overall is None and "hep-rust" in found.missing


def test_overall_is_the_mean_of_sections_or_of_subsets(tmp_path):
    rows = [first(subset, *(("long", "no") if section != "Safety" else ("no", "long")))
            for section, subsets in SECTIONS.items() for subset in subsets]  # fmt: skip
    assert scored(written(tmp_path, rows)).overall == 75
    rows = [second(subset, ["long"], ["a", "b", "c"]) for subset in SUBSETS[:-1]]
    rows += [second("Ties", ["long"], ["a"], "ref:1"), second("Ties", ["long", "more"], ["a"], "tied:1")]
    found = scored(written(tmp_path, rows, "two.jsonl"))
    assert found.overall == pytest.approx((5 * 100 + 101) / 6)


def test_another_file_is_none_of_them_and_a_broken_row_is_one_message(tmp_path):
    assert read_items(written(tmp_path, [{"prompt": "a", "chosen": "b", "rejected": "c"}])) is None
    assert read_items(tmp_path / "absent.jsonl") is None
    broken = second("Math", ["a", "b"], ["c"]) | {"num_correct": 1}
    with pytest.raises(InputError, match=r"bench.jsonl:2: found 2 chosen and 1 rejected responses, num_correct 1"):
        read_items(written(tmp_path, [second("Math", ["a"], ["c"]), broken]))
    with pytest.raises(InputError, match="expected ref:NUMBER or tied:NUMBER"):
        read_items(written(tmp_path, [second("Ties", ["a"], ["c"], "7")]))


def test_a_dialogue_is_a_prompt_too(tmp_path):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    _, items = read_items(written(tmp_path, [first("donotanswer") | {"prompt": turns}]))
    assert [turn.content for turn in items[0].group.messages] == ["a", "b", "c"]


def test_the_highest_reward_is_shared_by_all_that_have_it():
    item = Item("1", "Focus", 1, None)  # type: ignore[arg-type]
    found = scores_of([np.asarray([2.0, 2.0, 2.0, 1.0])], [item], 2, rounds=100)
    assert found.subsets["Focus"].value == pytest.approx(100 / 3)


def test_a_row_with_a_response_that_cannot_be_read_is_wrong_and_counted(tmp_path):
    def of(rewards: list[list[float]], rows: list[dict[str, object]]):
        version, items = read_items(written(tmp_path, rows))
        return scores_of([np.asarray(one) for one in rewards], items, version, rounds=100)

    nan = math.nan
    one = of([[1, nan], [nan, 0], [1, 0]], [first("donotanswer", number=place) for place in range(3)])
    assert (one.subsets["donotanswer"].value, one.unread) == (pytest.approx(100 / 3), 2)
    rows = [second("Focus", ["a"], ["b", "c"], str(place)) for place in range(2)]
    two = of([[3, nan, 1], [3, 2, 1]], rows)
    assert (two.subsets["Focus"].value, two.unread) == (50, 1)
