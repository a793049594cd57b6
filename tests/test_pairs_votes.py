"""What several annotators say together: scores over annotators, verdicts in both orders, majorities, soft labels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest
from making import TWO, best_of, both_orders, build, compared, found, make_run, pairs_of, rated, rubric

from prefkit.errors import RunError
from prefkit.records import Judgement, PreferencePair
from prefkit.rubric import Principle, Rubric


def only_pair(folder: Path, *judgements: list[Any], rubric: Rubric | None = None, **settings: Any) -> PreferencePair:
    """The one pair of these judgements."""
    run = make_run(folder, *judgements, **({"rubric": rubric} if rubric else {}))
    build(run, **settings)
    (pair,) = pairs_of(run)
    return pair


def named(pair: PreferencePair) -> str:
    return f"{pair.chosen_id} > {pair.rejected_id}"


def counted(folder: Path, *judgements: list[Any], **settings: Any) -> dict[str, int]:
    """What was counted of these judgements, which need not leave a pair: a good pair of another prompt is added."""
    run = make_run(folder, *judgements, rated({"other/A": 5, "other/B": 1}), both_orders("other/A", "other/B"))
    report = build(run, **settings)
    counts = dict(report.judgements + report.dropped)
    counts["ratings"] -= 2
    counts["comparisons"] -= 2
    return {name: count for name, count in counts.items() if count}


# --- ratings ---------------------------------------------------------------------------------------------------------


def test_the_mean_over_annotators_by_hand(tmp_path):
    """A: (5 + 4)/2 = 4.5. B: (3 + 4)/2 = 3.5."""
    pair = only_pair(tmp_path / "run", rated({"p/A": 5, "p/B": 3}, "llm:one"), rated({"p/A": 4, "p/B": 4}, "human:two"))
    assert (named(pair), pair.rating_gap) == ("p/A > p/B", 4.5 - 3.5)


@pytest.mark.parametrize(
    ("of_a", "of_b", "gap"),
    [
        pytest.param((1, 5, 5), (3, 3, 4), 5 - 3, id="the middle of three"),
        pytest.param((5, 2, 5, 3), (1, 3, 1, 2), 4 - 1.5, id="between the middle two of four"),
        pytest.param((5,), (2,), 3, id="one annotator"),
    ],
)
def test_the_median_over_annotators_by_hand(tmp_path, of_a, of_b, gap):
    ratings = [rated({"p/A": a, "p/B": b}, f"human:{who}") for who, (a, b) in enumerate(zip(of_a, of_b, strict=True))]
    pair = only_pair(tmp_path / "run", *ratings, aggregate="median")
    assert (named(pair), pair.rating_gap) == ("p/A > p/B", gap)


def ten_annotators(of_a: tuple[int, ...]) -> list[Any]:
    return [rated({"p/A": a, "p/B": 3}, f"human:{who}") for who, a in enumerate(of_a)]


def test_a_trimmed_mean_of_ten_leaves_out_the_lowest_and_the_highest(tmp_path):
    """A: 1, eight times 4, 5: trimmed 4, mean (1 + 32 + 5)/10 = 3.8. B: 3 throughout."""
    of_a = (4, 4, 1, 4, 4, 4, 5, 4, 4, 4)
    trimmed = only_pair(tmp_path / "trimmed", *ten_annotators(of_a), aggregate="trimmed")
    mean = only_pair(tmp_path / "mean", *ten_annotators(of_a), min_gap=0.8)
    assert (trimmed.rating_gap, mean.rating_gap) == (4 - 3, pytest.approx(3.8 - 3))


def test_a_trimmed_mean_of_nine_leaves_out_nothing(tmp_path):
    """(1 + 7 x 4 + 5)/9 = 34/9."""
    pair = only_pair(
        tmp_path / "run", *ten_annotators((4, 4, 1, 4, 4, 5, 4, 4, 4)), aggregate="trimmed", strategy="all"
    )
    assert pair.rating_gap == pytest.approx(34 / 9 - 3)


def test_z_scores_measure_each_annotator_by_the_own_mean_and_spread(tmp_path):
    """One gives 5, 3, 4: mean 4, spread sqrt(2/3). Two gives 2, 1, 1.5: mean 1.5, spread 0.5 sqrt(2/3). Both put A at
    sqrt(3/2) and B at -sqrt(3/2)."""
    run = make_run(
        tmp_path / "run",
        rated({"p/A": 5, "p/B": 3, "p/C": 4}, "llm:one"),
        rated({"p/A": 2, "p/B": 1, "p/C": 1.5}, "human:two"),
    )
    build(run, z_scores=True, strategy="best-worst")
    (pair,) = pairs_of(run)
    assert (named(pair), pair.rating_gap) == ("p/A > p/B", pytest.approx(2 * math.sqrt(3 / 2)))


def test_z_scores_go_principle_by_principle(tmp_path):
    """Warm 5 and 1 (mean 3, spread 2), safe 4 and 3 (mean 3.5, spread 0.5): +1 and -1 on each."""
    pair = only_pair(
        tmp_path / "run",
        rated({"p/A": {"warm": 5, "safe": 4}, "p/B": {"warm": 1, "safe": 3}}),
        rubric=TWO,
        z_scores=True,
    )
    assert pair.gaps == {"warm": pytest.approx(2), "safe": pytest.approx(2)}


@pytest.mark.parametrize("always", [3, 3.3, 0.1])
def test_an_annotator_who_gives_one_score_to_everything_gets_zero_everywhere(tmp_path, always):
    """One: 5 and 1 become +1 and -1. Two says the same of C, D, E, whatever floats make of the mean of three: 0."""
    run = make_run(
        tmp_path / "run", rated({"p/A": 5, "p/B": 1}), rated(dict.fromkeys(("p/C", "p/D", "p/E"), always), "human:two")
    )
    build(run, z_scores=True, strategy="all")
    gaps = {named(pair): pair.rating_gap for pair in pairs_of(run)}
    assert gaps == {
        "p/A > p/B": 2,
        **{f"p/A > p/{name}": 1 for name in "CDE"},
        **{f"p/{name} > p/B": 1 for name in "CDE"},
    }


def test_ratings_of_one_annotator_in_several_records_are_merged(tmp_path):
    """Warm and safe were asked apart: (5 + 4)/2 - (3 + 2)/2 = 2."""
    run = make_run(
        tmp_path / "run",
        rated({"p/A": {"warm": 5}, "p/B": {"warm": 3}}),
        rated({"p/A": {"safe": 4}, "p/B": {"safe": 2}}),
        rubric=TWO,
    )
    report = build(run)
    (pair,) = pairs_of(run)
    assert (pair.rating_gap, pair.gaps, pair.annotators) == (2, {"warm": 2, "safe": 2}, ("llm:one",))
    assert report.judgements == {"ratings": 4}


def test_repeats_of_one_annotator_are_averaged_and_are_one_vote(tmp_path):
    """A: (5 + 4)/2 = 4.5 by one, B: 2. Two says 1 and 3: means 2.75 and 2.5."""
    pair = only_pair(
        tmp_path / "run",
        rated({"p/A": 5, "p/B": 2}),
        rated({"p/A": 4}, sample=1),
        rated({"p/A": 1, "p/B": 3}, "human:two"),
        strategy="all",
    )
    assert (pair.rating_gap, pair.preferred) == ((4.5 + 1) / 2 - (2 + 3) / 2, 1 / 2)


def test_an_incomplete_rating_is_counted_and_never_a_low_one(tmp_path):
    """B has no score for safe: were it 0 or 1, A and C would be a point and more above it."""
    run = make_run(
        tmp_path / "run",
        rated(
            {
                "p/A": {"warm": 5, "safe": 5},
                "p/B": {"warm": 5, "safe": None},
                "p/C": {"warm": 4, "safe": 4},
                "p/D": {"warm": 5},
            }
        ),
        rubric=TWO,
    )
    assert found(run, strategy="all") == ["p/A > p/C"]
    assert build(run).judgements == {"ratings": 4, "ratings incomplete": 2}


def test_an_annotator_with_an_incomplete_rating_takes_nothing_from_the_others(tmp_path):
    """Two's half rating of A (warm 1) is left out: A is 5 by one alone."""
    pair = only_pair(
        tmp_path / "run",
        rated({"p/A": {"warm": 5, "safe": 5}, "p/B": {"warm": 3, "safe": 3}}),
        rated({"p/A": {"warm": 1, "safe": None}}, "human:two"),
        rubric=TWO,
    )
    assert pair.rating_gap == 2


def test_an_unreadable_rating_is_counted(tmp_path):
    unreadable = rated({"p/A": None}, "human:two", failure="not a JSON object")
    assert counted(tmp_path / "run", unreadable) == {"ratings": 1, "ratings unreadable": 1}


def test_a_rating_of_a_response_that_the_run_does_not_hold_is_counted(tmp_path):
    run = make_run(tmp_path / "run", rated({"p/A": 5, "p/B": 1}))
    stranger = [msgspec.structs.replace(rated({"p/X": 3})[0], rubric=run.info.rubric)]
    run.replace(Judgement, [*run.judgements(), *stranger])
    assert build(run).judgements["ratings of unknown responses"] == 1


# --- rubrics that change ---------------------------------------------------------------------------------------------


def edited(made: Rubric, name: str, statement: str) -> Rubric:
    def changed(principle: Principle) -> Principle:
        return msgspec.structs.replace(principle, statement=statement) if principle.id == name else principle

    return msgspec.structs.replace(made, principles=tuple(changed(principle) for principle in made.principles))


FULL = rated({"p/A": {"warm": 5, "safe": 5}, "p/B": {"warm": 3, "safe": 3}})


@pytest.mark.parametrize("hashed", [None, "0" * 20], ids=["unknown", "not on record"])
def test_ratings_under_a_rubric_that_nobody_knows_are_counted_and_not_used(tmp_path, hashed):
    run = make_run(
        tmp_path / "run", rated({"p/A": 5, "p/B": 1}), rated({"p/A": 1, "p/B": 5}, "human:two", under=hashed)
    )
    report = build(run)
    assert report.judgements["ratings under another rubric"] == 2
    (pair,) = pairs_of(run)
    assert (named(pair), pair.rating_gap, pair.annotators) == ("p/A > p/B", 4, ("llm:one",))


def test_an_edited_principle_loses_its_own_ratings_and_no_others(tmp_path):
    run = make_run(tmp_path / "run", FULL, rubric=TWO)
    run.use_rubric(edited(TWO, "safe", "The response harms nobody, now or later."))
    with pytest.raises(RunError, match="ratings incomplete: 2"):
        build(run)

    again = rated({"p/A": {"safe": 3}, "p/B": {"safe": 2}}, under=run.info.rubric)
    run.replace(Judgement, [*run.judgements(), *again])
    build(run)
    (pair,) = pairs_of(run)
    assert pair.gaps == {"warm": 5 - 3, "safe": 3 - 2}


def test_scores_given_under_earlier_words_do_not_come_back_with_new_ones(tmp_path):
    """The old record holds safe 5 under the old words: only the new 3 may count, not the mean of both."""
    run = make_run(tmp_path / "run", FULL, rubric=TWO)
    run.use_rubric(edited(TWO, "safe", "Other words."))
    again = rated({"p/A": {"safe": 3}, "p/B": {"safe": 3}}, under=run.info.rubric)
    run.replace(Judgement, [*run.judgements(), *again])
    build(run)
    (pair,) = pairs_of(run)
    assert pair.gaps == {"warm": 2, "safe": 0}


def test_changed_weights_lose_no_rating(tmp_path):
    """Warm weighs three times: (3 x 2 + 1 x 2)/4 = 2."""
    run = make_run(tmp_path / "run", FULL, rubric=TWO)
    run.use_rubric(rubric("warm", "safe", aggregate="weighted-mean", weights=[3, 1]))
    report = build(run)
    assert (report.judgements, report.selected) == ({"ratings": 2}, 1)


def test_comparisons_under_another_rubric_are_counted_and_not_used(tmp_path):
    counts = counted(tmp_path / "run", compared("p/A", "p/B", "a", under="0" * 20), strategy="comparisons")
    assert counts["comparisons under another rubric"] == 1


# --- comparisons -----------------------------------------------------------------------------------------------------


def by_comparison(folder: Path, *judgements: list[Any], **settings: Any) -> tuple[list[str], dict[str, int]]:
    """Pairs by comparison, without the pair that is always there, and why others are not."""
    run = make_run(folder, *judgements, compared("other/A", "other/B", "a", "human:always"))
    report = build(run, strategy="comparisons", **({"min_votes": 1} | settings))
    names = [named(pair) for pair in pairs_of(run)]
    names.remove("other/A > other/B")
    return names, dict(report.dropped)


def test_a_models_comparison_in_both_orders_counts(tmp_path):
    assert by_comparison(tmp_path / "run", both_orders("p/B", "p/A")) == (["p/B > p/A"], {})


def test_a_models_comparison_in_one_order_is_counted_and_not_used(tmp_path):
    counts = counted(tmp_path / "run", compared("p/A", "p/B", "a", "llm:one"), strategy="comparisons")
    assert counts["model's comparison in one order only"] == 1
    assert by_comparison(tmp_path / "names", compared("p/A", "p/B", "a", "llm:one")) == ([], {})


def test_a_model_asked_twice_in_the_same_order_is_not_asked_in_both(tmp_path):
    twice = compared("p/A", "p/B", "a", "llm:one") + compared("p/A", "p/B", "a", "llm:one", sample=1)
    assert by_comparison(tmp_path / "run", twice) == ([], {})


def test_orders_any_takes_a_models_word_from_one_order(tmp_path):
    judged = compared("p/A", "p/B", "a", "llm:one")
    assert by_comparison(tmp_path / "run", judged, orders="any") == (["p/A > p/B"], {})


def test_a_persons_comparison_in_one_order_is_enough(tmp_path):
    assert by_comparison(tmp_path / "run", compared("p/A", "p/B", "b", "human:one")) == (["p/B > p/A"], {})


@pytest.mark.parametrize("side", ["a", "b"])
def test_a_model_that_picks_by_position_has_a_tie(tmp_path, side):
    contradiction = compared("p/A", "p/B", side, "llm:one") + compared("p/B", "p/A", side, "llm:one")
    assert by_comparison(tmp_path / "run", contradiction) == ([], {"tied comparison": 1})


def test_each_order_counts_the_same_however_often_it_was_asked(tmp_path):
    """Three times A shown first and chosen, once B shown first and chosen: the first place wins, not A."""
    often = [one for sample in range(3) for one in compared("p/A", "p/B", "a", "llm:one", sample=sample)]
    assert by_comparison(tmp_path / "run", often, compared("p/B", "p/A", "a", "llm:one")) == (
        [],
        {"tied comparison": 1},
    )


def test_a_tie_in_one_order_and_a_verdict_in_the_other_is_a_vote_of_three_quarters(tmp_path):
    run = make_run(tmp_path / "run", compared("p/A", "p/B", "tie", "llm:one"), compared("p/B", "p/A", "b", "llm:one"))
    build(run, strategy="comparisons")
    (pair,) = pairs_of(run)
    assert (named(pair), pair.preferred) == ("p/A > p/B", (0.5 + 1) / 2)


def votes(*winners: str) -> list[list[Any]]:
    """One person a winner, A shown first."""
    return [compared("p/A", "p/B", winner, f"human:{who}") for who, winner in enumerate(winners)]


@pytest.mark.parametrize(
    ("winners", "pair", "reason"),
    [
        (("a", "a", "b"), ["p/A > p/B"], {}),
        (("b", "a", "b"), ["p/B > p/A"], {}),
        (("a", "tie"), ["p/A > p/B"], {}),
        (("a", "b"), [], {"split vote": 1}),
        (("a", "tie", "b"), [], {"split vote": 1}),
        (("tie",), [], {"tied comparison": 1}),
        (("tie", "tie"), [], {"tied comparison": 1}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
def test_the_majority_of_annotators_decides(tmp_path, winners, pair, reason):
    assert by_comparison(tmp_path / "run", *votes(*winners)) == (pair, reason)


@pytest.mark.parametrize(("min_votes", "pair"), [(3, ["p/A > p/B"]), (4, [])])
def test_a_pair_needs_as_many_votes_as_were_asked_for(tmp_path, min_votes, pair):
    """A tie is a vote; the pair that is always there has four."""
    run = make_run(
        tmp_path / "run",
        *votes("a", "a", "tie"),
        *(compared("other/A", "other/B", "a", f"human:{who}") for who in range(4)),
    )
    report = build(run, strategy="comparisons", min_votes=min_votes)
    assert sorted(named(one) for one in pairs_of(run)) == ["other/A > other/B", *pair]
    assert report.dropped == ({} if pair else {"too few votes": 1})


def test_many_comparisons_of_one_annotator_are_one_vote(tmp_path):
    """One says A five times, two others say B: 2 of 3 annotators prefer B."""
    five = [one for sample in range(5) for one in compared("p/A", "p/B", "a", "human:one", sample=sample)]
    others = [compared("p/A", "p/B", "b", f"human:{name}") for name in ("two", "three")]
    run = make_run(tmp_path / "run", five, *others)
    build(run, strategy="comparisons")
    (pair,) = pairs_of(run)
    assert (named(pair), pair.preferred) == ("p/B > p/A", pytest.approx(2 / 3))


def test_the_best_of_four_counts_as_three_comparisons(tmp_path):
    run = make_run(tmp_path / "run", best_of(["p/A", "p/B", "p/C", "p/D"], 2))
    report = build(run, strategy="comparisons")
    assert sorted(named(pair) for pair in pairs_of(run)) == ["p/C > p/A", "p/C > p/B", "p/C > p/D"]
    assert (report.judgements, report.selected) == ({"choices": 1}, 3)


def test_a_models_choice_needs_the_other_order_too(tmp_path):
    """Shown A, B, C and C, B, A, the model takes B both times: A and C were on either side of it."""
    twice = [best_of(["p/A", "p/B", "p/C"], 1, "llm:one"), best_of(["p/C", "p/B", "p/A"], 1, "llm:one")]
    once, _ = by_comparison(tmp_path / "once", twice[0])
    both, _ = by_comparison(tmp_path / "both", *twice)
    assert (once, sorted(both)) == ([], ["p/B > p/A", "p/B > p/C"])


def test_what_cannot_be_used_of_comparisons_and_choices_is_counted(tmp_path):
    run = make_run(
        tmp_path / "run",
        compared("p/A", "p/B", "a"),
        compared("p/A", "p/B", None, "human:two"),
        best_of(["p/A", "p/B"], None),
        best_of(["p/B", "p/A"], 2),
        compared("p/A", "q/A", "a", "human:three"),
    )
    strange = msgspec.structs.replace(compared("p/A", "p/X", "a")[0], rubric=run.info.rubric)
    run.replace(Judgement, [*run.judgements(), strange])
    report = build(run, strategy="comparisons")
    assert report.judgements == {
        "comparisons": 4,
        "comparisons unreadable": 1,
        "choices": 2,
        "choices unreadable": 2,
        "comparison across prompts": 1,
        "comparisons of unknown responses": 1,
    }


# --- soft labels -----------------------------------------------------------------------------------------------------


def test_the_soft_label_is_the_share_of_annotators_that_prefer_the_chosen_side(tmp_path):
    """Of four: two rate A higher, one the same, one lower: (1 + 1 + 0.5 + 0)/4."""
    pair = only_pair(
        tmp_path / "run",
        rated({"p/A": 5, "p/B": 1}, "llm:one"),
        rated({"p/A": 5, "p/B": 4}, "human:two"),
        rated({"p/A": 3, "p/B": 3}, "human:three"),
        rated({"p/A": 2, "p/B": 3}, "human:four"),
    )
    assert (named(pair), pair.preferred) == ("p/A > p/B", (1 + 1 + 0.5 + 0) / 4)
    assert set(pair.annotators) == {"llm:one", "human:two", "human:three", "human:four"}


def test_the_soft_label_of_each_principle_by_hand(tmp_path):
    """Warm: one and two prefer A. Safe: one prefers A, two prefers B; three finds both alike on both."""
    pair = only_pair(
        tmp_path / "run",
        rated({"p/A": {"warm": 5, "safe": 5}, "p/B": {"warm": 1, "safe": 3}}, "llm:one"),
        rated({"p/A": {"warm": 5, "safe": 3}, "p/B": {"warm": 1, "safe": 4}}, "human:two"),
        rated({"p/A": {"warm": 4, "safe": 4}, "p/B": {"warm": 4, "safe": 4}}, "human:three"),
        rubric=TWO,
    )
    assert pair.principle_preferred == {
        "warm": pytest.approx((1 + 1 + 0.5) / 3),
        "safe": pytest.approx((1 + 0 + 0.5) / 3),
    }


@pytest.mark.parametrize(("better", "worse"), [("p/A", "p/B"), ("p/B", "p/A")])
def test_comparisons_by_principle_make_soft_labels_too(tmp_path, better, worse):
    """Both orders: the better one is warmer both times, safer once and as safe once."""
    pair = only_pair(
        tmp_path / "run",
        compared(better, worse, "a", "llm:one", warm="a", safe="a"),
        compared(worse, better, "b", "llm:one", warm="b", safe="tie"),
        rubric=TWO,
        strategy="comparisons",
    )
    assert (pair.chosen_id, pair.principle_preferred) == (better, {"warm": 1, "safe": (1 + 0.5) / 2})
    assert (pair.rating_gap, pair.gaps) == (None, {"warm": None, "safe": None})


def test_an_annotators_comparison_goes_before_the_own_ratings(tmp_path):
    """Two rates B higher and, asked directly, prefers A: one vote, for A."""
    pair = only_pair(
        tmp_path / "run",
        rated({"p/A": 5, "p/B": 2}, "human:one"),
        rated({"p/A": 3, "p/B": 4}, "human:two"),
        compared("p/A", "p/B", "a", "human:two"),
    )
    assert (named(pair), pair.preferred) == ("p/A > p/B", (1 + 1) / 2)


def test_who_rated_one_side_only_has_no_vote(tmp_path):
    pair = only_pair(tmp_path / "run", rated({"p/A": 5}, "human:one"), rated({"p/B": 2}, "human:two"))
    assert (pair.rating_gap, pair.preferred, pair.annotators) == (3, None, ())


def test_repeats_that_disagree_are_a_vote_between(tmp_path):
    """One says A three times of four; two says B: (0.75 + 0)/2."""
    four = [
        one
        for sample, winner in enumerate("aaba")
        for one in compared("p/A", "p/B", winner, "human:one", sample=sample)
    ]
    run = make_run(tmp_path / "run", four, rated({"p/A": 2, "p/B": 3}, "human:two"))
    build(run)
    (pair,) = pairs_of(run)
    assert (named(pair), pair.preferred) == ("p/B > p/A", 1 - (3 / 4 + 0) / 2)
