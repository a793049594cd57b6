"""``prefkit win-rate --study``: the scores of two policies beside each other, with tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Outcome
from making import ONE, TWO, make_run, rated
from scipy.stats import wilcoxon

from prefkit.errors import PrefkitError
from prefkit.evaluation.paired_scores import paired_scores, run_studies
from prefkit.records import Rating


def scored(place: int, a: float, b: float, by: str = "human:one", **more: object) -> list[Rating]:
    return rated({f"p{place}/A": a, f"p{place}/B": b}, by, **more)  # type: ignore[arg-type]


GAPS = (3, 1, 2, -1, 2, 0, 4, 1, -2, 3, 2, 1)


def test_a_study_counts_each_prompt_once_and_tests_as_scipy_does(tmp_path: Path):
    run = make_run(tmp_path / "run", *(scored(place, 3 + gap, 3) for place, gap in enumerate(GAPS)))
    _, (whole, *_) = run_studies(run, "A", "B")
    assert (whole.prompts, whole.wins, whole.ties, whole.losses) == (12, 9, 1, 2)
    assert whole.difference.value == pytest.approx(np.mean(GAPS))
    gaps = [gap for gap in GAPS if gap]
    assert whole.wilcoxon == pytest.approx(wilcoxon(gaps, method="exact").pvalue, abs=0.02)
    assert whole.holm is not None and whole.holm >= whole.wilcoxon


def test_raters_of_a_prompt_are_averaged_and_a_person_asked_again_counts_once(tmp_path: Path):
    again = scored(0, 1, 5, sample=1)
    run = make_run(tmp_path / "run", scored(0, 5, 3), scored(0, 4, 4, by="llm:one"), again, scored(1, 2, 1))
    found = paired_scores(run, "A", "B")
    assert found.left_out == {"asked again of the same person": 2}
    assert found.annotators == ("human:one", "llm:one")
    _, (whole, *_) = run_studies(run, "A", "B")
    assert whole.prompts == 2 and whole.difference.value == pytest.approx((1 + 1) / 2)
    _, (people, *_) = run_studies(run, "A", "B", judges=["human"])
    assert people.difference.value == pytest.approx((2 + 1) / 2)


def test_a_missing_score_is_no_low_one(tmp_path: Path):
    (first, second) = TWO.principle_ids
    given = [
        rated({f"p{n}/A": {first: 4, second: 4 if n else None}, f"p{n}/B": {first: 3, second: 2}}, "human:one")
        for n in range(3)
    ]
    run = make_run(tmp_path / "run", *given, rubric=TWO)
    _, found = run_studies(run, "A", "B")
    by_name = {one.question: one for one in found}
    assert (by_name[first].prompts, by_name[second].prompts, by_name["overall"].prompts) == (3, 2, 2)
    assert by_name[second].second_mean == 2 and by_name[second].first_mean == 4


def test_ratings_of_one_policy_alone_are_no_study(tmp_path: Path):
    run = make_run(tmp_path / "run", rated({"p1/A": 3.0}, "human:one"), rated({"p2/B": 4.0}, "human:one"))
    with pytest.raises(PrefkitError, match="0 prompts with scores of A and B"):
        run_studies(run, "A", "B")


def test_the_command_shows_both_means_and_refuses_a_file(tmp_path: Path, prefkit: Callable[..., Outcome]):
    run = make_run(tmp_path / "run", *(scored(place, 3 + gap, 3) for place, gap in enumerate(GAPS)), rubric=ONE)
    shown = prefkit("win-rate", run.path, "--policy", "A", "--baseline", "B", "--judge", "human", "--study")
    assert shown.code == 0
    (row,) = [line for line in shown.out.splitlines() if line.startswith("overall")]
    assert row.split()[1:4] == ["4.33", "3.00", "+1.33"]
    assert "12 prompts, scored by human:one" in shown.out
    wrong = prefkit("win-rate", run.path, "--policy", "A", "--baseline", "B", "--judge", "nobody", "--study")
    assert wrong.code == 1 and "nobody" in wrong.err
    same = prefkit("win-rate", run.path, "--policy", "A", "--baseline", "A")
    assert same.code == 1 and "found 'A' twice" in same.err
