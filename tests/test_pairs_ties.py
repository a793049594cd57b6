"""Ties as pairs: which two responses tie, what speaks against a tie, where ties go and where they do not."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from making import answer, best_of, both_orders, build, compared, make_run, pairs_of, rated, rows_of, rubric

from prefkit.records import PreferencePair, Response
from prefkit.rubric import Gate
from prefkit.run import Run

SAFE = rubric("warm", "safe", gates=[Gate(principle="safe")])
SAFE_ENOUGH = rubric("warm", "safe", gates=[Gate(principle="safe", rule="at-least", value=4)])


def ties(run: Run) -> dict[frozenset[str], PreferencePair]:
    return {frozenset((pair.chosen_id, pair.rejected_id)): pair for pair in pairs_of(run) if not pair.rating_gap}


def two(a: str, b: str) -> frozenset[str]:
    return frozenset((a, b))


@pytest.mark.parametrize("strategy", ["gap", "all"])
def test_equal_ratings_are_a_pair_preferred_by_one_half(tmp_path, strategy):
    """B and C tie; A is 1 above both, which is a pair of either strategy."""
    run = make_run(tmp_path / "run", rated({"p/A": 4, "p/B": 3, "p/C": 3}))
    without = build(run, strategy=strategy)
    assert (without.kept, without.tied) == ({"train": 2}, {})
    report = build(run, strategy=strategy, ties=True)
    assert (report.selected, report.kept, report.tied) == (3, {"train": 3}, {"train": 1})
    (tie,) = ties(run).values()
    assert (tie.rating_gap, tie.gaps, tie.preferred) == (0.0, {"good": 0.0}, 0.5)
    assert tie.annotators == ("llm:one",)


def test_a_gap_below_the_threshold_is_no_tie(tmp_path):
    run = make_run(tmp_path / "run", rated({"p/A": 4, "p/B": 3.5, "p/C": 1}))
    assert build(run, ties=True).tied == {}


def test_means_that_differ_by_the_rounding_of_floats_tie(tmp_path):
    """Three say 3.3 of one and 3.3, 3.2, 3.4 of the other."""
    each = zip((3.3, 3.3, 3.3), (3.3, 3.2, 3.4), strict=True)
    run = make_run(tmp_path / "run", *(rated({"p/A": a, "p/B": b}, f"human:{a}{b}") for a, b in each))
    assert build(run, strategy="all", ties=True).tied == {"train": 1}


def test_annotators_who_disagree_and_tie_on_the_mean_are_one_half_too(tmp_path):
    """+2, -1 and -1: two of three prefer B, and the mean neither."""
    each = [(5, 3), (3, 4), (3, 4)]
    run = make_run(tmp_path / "run", *(rated({"p/A": a, "p/B": b}, f"human:{n}") for n, (a, b) in enumerate(each)))
    build(run, strategy="all", ties=True)
    (tie,) = ties(run).values()
    assert tie.preferred == 0.5


def test_a_tied_comparison_is_a_pair_and_a_split_vote_is_none(tmp_path):
    """A model that picks by position ties; two people who disagree are split."""
    run = make_run(
        tmp_path / "run",
        compared("p/A", "p/B", "tie"),
        compared("q/A", "q/B", "a", "llm:one"),
        compared("q/B", "q/A", "a", "llm:one"),
        compared("r/A", "r/B", "a", "human:1"),
        compared("r/A", "r/B", "b", "human:2"),
        both_orders("s/A", "s/B"),
    )
    assert build(run, strategy="comparisons").dropped == {"tied comparison": 2, "split vote": 1}
    report = build(run, strategy="comparisons", ties=True)
    assert (report.selected, report.dropped, report.tied) == (4, {"split vote": 1}, {"train": 2})
    assert set(ties(run)) == {two("p/A", "p/B"), two("q/A", "q/B"), two("s/A", "s/B")}
    assert [pair.preferred for pair in pairs_of(run)] == [0.5, 0.5, 1.0]
    assert [pair.rating_gap for pair in pairs_of(run)] == [None] * 3


def test_a_tie_needs_as_many_votes_as_a_preference(tmp_path):
    run = make_run(tmp_path / "run", compared("p/A", "p/B", "tie"), best_of(["q/A", "q/B"], 0))
    report = build(run, strategy="comparisons", ties=True, min_votes=1)
    assert report.tied == {"train": 1}
    for who in ("human:1", "human:2"):
        run = make_run(
            tmp_path / who, compared("p/A", "p/B", "tie"), compared("q/A", "q/B", "a"), compared("q/A", "q/B", "a", who)
        )
        report = build(run, strategy="comparisons", ties=True, min_votes=2)
        assert (report.tied, report.dropped) == ({}, {"too few votes": 1})


@pytest.mark.parametrize(
    ("rubric", "a", "b", "passes"),
    [
        (SAFE, (4, 3), (3, 4), False),
        (SAFE, (3, 4), (4, 3), False),
        (SAFE, (3, 4), (3, 4), True),
        (SAFE_ENOUGH, (3, 4), (3, 4), True),
        (SAFE_ENOUGH, (4, 3), (3, 4), False),
        (SAFE_ENOUGH, (3, 4), (4, 3), False),
    ],
)
def test_a_gate_must_let_a_tie_through_with_either_side_as_the_chosen_one(tmp_path, rubric, a, b, passes):
    named = {name: dict(zip(("warm", "safe"), scores, strict=True)) for name, scores in (("p/A", a), ("p/B", b))}
    other = {"q/A": {"warm": 5, "safe": 5}, "q/B": {"warm": 1, "safe": 5}}
    run = make_run(tmp_path / "run", rated({**named, **other}), rubric=rubric)
    assert build(run, ties=True).tied == ({"train": 1} if passes else {})


@pytest.mark.parametrize("marked", ["p/A", "p/B"])
def test_no_side_of_a_tie_may_be_unfit_to_choose(tmp_path, marked):
    run = make_run(tmp_path / "run", rated({"p/A": 3, "p/B": 3, "q/A": 5, "q/B": 1}))
    run.replace(
        Response,
        [
            msgspec.structs.replace(one, marks=("looping",)) if one.id == marked else one
            for one in list(run.responses())
        ],
    )
    report = build(run, ties=True)
    assert (report.tied, report.dropped) == ({}, {"chosen side marked looping": 1})


def test_identical_texts_do_not_tie(tmp_path):
    run = make_run(tmp_path / "run", rated({"p/A": 3, "p/B": 3, "q/A": 5, "q/B": 1}), texts={"p/B": answer("p/A")})
    assert build(run, ties=True).dropped == {"identical texts": 1}


def test_a_cap_keeps_preferences_before_ties(tmp_path):
    run = make_run(tmp_path / "run", rated({"p/A": 3, "p/B": 3, "p/C": 1}))
    report = build(run, ties=True, per_prompt=2)
    assert (report.kept, report.tied) == ({"train": 2}, {})


def many(folder: Path) -> Run:
    """Twelve prompts, each with two preferences and a tie."""
    return make_run(
        folder, rated({f"p{n}/{name}": at for n in range(12) for name, at in zip("ABC", (5, 3, 3), strict=True)})
    )


def test_ties_are_split_with_their_prompts_and_a_test_prompt_keeps_its_ties(tmp_path):
    run = many(tmp_path / "run")
    report = build(run, ties=True, test_size=3)
    assert (report.kept, report.tied) == ({"train": 27, "test": 6}, {"train": 9, "test": 3})
    by_split = {name: {pair.prompt_id for pair in pairs_of(run) if pair.split == name} for name in ("train", "test")}
    assert len(by_split["test"]) == 3 and not by_split["train"] & by_split["test"]


def test_the_dataset_has_no_ties_and_its_card_says_how_many(tmp_path):
    run = many(tmp_path / "run")
    report = build(run, ties=True, test_size=3)
    assert report.dataset == {"train": 18, "test": 3}
    for split in ("train", "test"):
        assert all(row["preferred"] == 1.0 for row in rows_of(run, split))
    card = (run.path / "dataset" / "README.md").read_text()
    assert "| left out: ties (in pairs.parquet only) | 12 |" in card
    assert "text unknown" not in card


def test_the_command_says_how_many_are_ties(tmp_path, prefkit):
    run = many(tmp_path / "run")
    outcome = prefkit("build-pairs", run.path, "--ties", "--test-size", "3")
    assert outcome.out.splitlines()[3:5] == [
        "pairs.parquet: 33 pairs (27 train, 6 test)",
        "  of them ties: 12 (9 train, 3 test), which the dataset leaves out",
    ]
    shown = prefkit("pairs", run.path, "--sample", "33", "--width", "80").out
    assert shown.count("tied: ") == 2 * 12


def test_a_run_of_ties_alone_has_pairs_and_no_dataset(tmp_path, prefkit):
    run = make_run(tmp_path / "run", rated({"p/A": 3, "p/B": 3}))
    outcome = prefkit("build-pairs", run.path, "--ties", "--test-size", "0")
    assert (outcome.code, outcome.out.splitlines()[-1]) == (0, "dataset/: none, as all pairs are ties")
    assert len(pairs_of(run)) == 1


@pytest.mark.parametrize("strategy", ["best-worst", "top-k"])
def test_ties_are_refused_where_the_strategy_has_none(tmp_path, prefkit, strategy):
    run = make_run(tmp_path / "run", rated({"p/A": 3, "p/B": 3}))
    outcome = prefkit("build-pairs", run.path, "--ties", "--strategy", strategy)
    assert outcome.code == 2 and "--ties goes with" in outcome.err
