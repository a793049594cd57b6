"""Win rates: runs whose arithmetic can be done by hand, simulated studies with known rates, published figures."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from conftest import Outcome
from making import ONE, TWO, best_of, both_orders, compared, make_run, rated
from readme import blocks, differences, failures, in_this_process, played, with_the_sample
from scipy.stats import binomtest, bootstrap, ttest_rel
from scipy.stats import t as student

from prefkit.errors import PrefkitError
from prefkit.evaluation.correcting import corrected_interval, corrected_rate
from prefkit.evaluation.outcomes import ONE_ORDER, Outcomes, balanced, reward_outcomes, run_outcomes
from prefkit.evaluation.planning import assumed_spread, for_power, for_width, measured_spread
from prefkit.evaluation.win_rates import (
    WinReport,
    compare_policies,
    interval,
    naive_interval,
    of_first_kind,
    win_report,
)
from prefkit.records import Comparison, Judgement, Winner
from prefkit.run import Run

DOCS = Path(__file__).parent.parent / "docs" / "win-rates.md"


def votes(wins: int, losses: int, ties: int = 0, by: str = "human:one", start: int = 0) -> list[Comparison]:
    """One person about A and B on so many prompts, p0 and on."""
    said: list[Winner] = [*["a"] * wins, *["b"] * losses, *["tie"] * ties]  # type: ignore[list-item]
    return [
        one for place, winner in enumerate(said, start) for one in compared(f"p{place}/A", f"p{place}/B", winner, by)
    ]


def report(run: Run, **options: Any) -> WinReport:
    return win_report(run_outcomes(run), "A", "B", **options)


def rows(outcomes: Outcomes) -> list[tuple[str, str, str, str, float]]:
    """Prompt, judge, first and second policy, preferred: sorted."""
    found = zip(
        outcomes.prompt, outcomes.judge, outcomes.first, outcomes.second, outcomes.preferred.tolist(), strict=True
    )
    return sorted(
        (outcomes.prompts[p], outcomes.judges[j], outcomes.policies[a], outcomes.policies[b], value)
        for p, j, a, b, value in found
    )


# Outcomes


def test_two_orders_of_one_judge_are_one_comparison_and_a_picker_of_slots_ties(tmp_path):
    means_it = both_orders("p1/A", "p1/B")
    picks_first = compared("p2/A", "p2/B", "a", "llm:one") + compared("p2/B", "p2/A", "a", "llm:one")
    shown = run_outcomes(make_run(tmp_path / "run", means_it, picks_first))
    assert rows(shown) == [
        ("p1", "llm:one", "A", "B", 1.0),
        ("p1", "llm:one", "A", "B", 1.0),
        ("p2", "llm:one", "A", "B", 0.0),
        ("p2", "llm:one", "A", "B", 1.0),
    ]
    assert shown.shown_first is not None
    assert sorted(shown.shown_first.tolist()) == [False, False, True, True]
    assert rows(balanced(shown)) == [("p1", "llm:one", "A", "B", 1.0), ("p2", "llm:one", "A", "B", 0.5)]


def test_an_order_that_was_asked_twice_counts_no_more_than_the_other(tmp_path):
    again = compared("p1/A", "p1/B", "a", "llm:one", sample=1)
    run = make_run(
        tmp_path / "run", compared("p1/A", "p1/B", "a", "llm:one"), again, compared("p1/B", "p1/A", "a", "llm:one")
    )
    assert rows(balanced(run_outcomes(run))) == [("p1", "llm:one", "A", "B", 0.5)]


def test_a_model_asked_in_one_order_is_left_out_and_counted_and_a_person_is_not(tmp_path):
    run = make_run(
        tmp_path / "run", compared("p1/A", "p1/B", "a", "llm:one"), votes(1, 1, start=2), both_orders("p4/A", "p4/B")
    )
    found = balanced(run_outcomes(run))
    assert [row[:2] for row in rows(found)] == [("p2", "human:one"), ("p3", "human:one"), ("p4", "llm:one")]
    assert found.left_out == {ONE_ORDER: 1}
    assert len(balanced(run_outcomes(run), both_orders=False)) == 4


def test_ratings_are_preferences_by_the_sign_of_their_difference(tmp_path):
    run = make_run(
        tmp_path / "run",
        rated({"p1/A": {"warm": 5, "safe": 2}, "p1/B": {"warm": 3, "safe": 3}, "p1/C": {"warm": 3, "safe": 3}}),
        rated({"p2/A": {"warm": 1, "safe": None}, "p2/B": {"warm": 3, "safe": 3}}),
        rubric=TWO,
    )
    whole = run_outcomes(run)
    assert rows(whole) == [
        ("p1", "llm:one", "A", "B", 1.0),
        ("p1", "llm:one", "A", "C", 1.0),
        ("p1", "llm:one", "B", "C", 0.5),
    ]
    assert whole.left_out == {"incomplete ratings": 1}
    assert whole.shown_first is None
    assert not whole.ordered.any()
    assert rows(run_outcomes(run, "safe", policies=["A", "B"])) == [("p1", "llm:one", "A", "B", 0.0)]
    assert rows(run_outcomes(run, "warm", policies=["A", "B"]))[1] == ("p2", "llm:one", "A", "B", 0.0)


def test_of_repeats_a_persons_first_rating_counts_and_a_models_mean(tmp_path):
    people = [rated({"p1/A": score}, "human:one", sample=place) for place, score in ((1, 5), (0, 1))]
    models = [rated({"p1/A": score}, "llm:one", sample=place) for place, score in ((1, 5), (0, 1))]
    others = [rated({"p1/B": 2}, by) for by in ("human:one", "llm:one")]
    found = run_outcomes(make_run(tmp_path / "run", *people, *models, *others))
    assert rows(found) == [("p1", "human:one", "A", "B", 0.0), ("p1", "llm:one", "A", "B", 1.0)]


def test_ratings_say_nothing_more_where_the_annotator_compared_the_two(tmp_path):
    by_person = rated({"p1/A": 1, "p1/B": 5, "p1/C": 3}, "human:one")
    found = run_outcomes(make_run(tmp_path / "run", by_person, compared("p1/B", "p1/A", "b")))
    assert rows(found)[0] == ("p1", "human:one", "A", "B", 1.0)
    assert len(found) == 3


def test_the_best_of_three_is_two_comparisons(tmp_path):
    found = run_outcomes(make_run(tmp_path / "run", best_of(["p1/C", "p1/B", "p1/A"], 1)))
    assert rows(found) == [("p1", "human:one", "A", "B", 0.0), ("p1", "human:one", "B", "C", 1.0)]
    assert found.shown_first is not None
    assert found.shown_first.tolist() == [False, False]


def test_what_is_no_answer_is_counted_by_reason_and_never_a_loss(tmp_path):
    def turned(one: list[Comparison], **facts: Any) -> list[Comparison]:
        return [msgspec.structs.replace(each, **facts) for each in one]

    run = make_run(
        tmp_path / "run",
        votes(1, 0),
        turned(compared("p1/A", "p1/B", None), failure="no verdict in the reply"),
        turned(compared("p2/A", "p2/B", None), failure="draft"),
        turned(compared("p3/A", "p3/B", "b"), flags=("attention:right",)),
        compared("p4/A", "p4/B", "b", under="elsewhere"),
        compared("p5/A", "p5/B", "b"),
        compared("p6/A", "p6/C", "b"),
        excluded={"p5": "too short"},
    )
    found = run_outcomes(run, policies=["A", "B"])
    assert rows(found) == [("p0", "human:one", "A", "B", 1.0)]
    assert found.left_out == {
        "unreadable": 1,
        "left as drafts or discarded": 1,
        "to test attention": 1,
        "under another rubric": 1,
        "on excluded prompts": 1,
    }


def test_a_probability_counts_as_one_unless_who_won_is_wanted(tmp_path):
    sure = [msgspec.structs.replace(one, preference=0.25) for one in compared("p1/A", "p1/B", "a")]
    run = make_run(tmp_path / "run", sure)
    assert run_outcomes(run).preferred.tolist() == [0.75]
    assert run_outcomes(run, discrete=True).preferred.tolist() == [1.0]


def test_the_other_way_round_is_one_less_it_with_slots_and_lengths_turned(tmp_path):
    run = make_run(tmp_path / "run", compared("p1/A", "p1/B", "a"), texts={"p1/A": "long", "p1/B": "x"})
    there, back = run_outcomes(run).between("A", "B"), run_outcomes(run).between("B", "A")
    assert (there.preferred.tolist(), back.preferred.tolist()) == ([1.0], [0.0])
    assert there.shown_first is not None and back.shown_first is not None
    assert (there.shown_first.tolist(), back.shown_first.tolist()) == ([True], [False])
    assert (there.length_first.tolist(), back.length_first.tolist()) == ([4], [1])


def rewards(path: Path, lines: Iterable[tuple[str, float | None]], **heads: float) -> Path:
    path.write_text(
        "".join(
            json.dumps(
                {"id": str(place), "model": "small", "prompt_id": name[:2], "response_id": name, "policy": name[3:]}
                | {"reward": value, "normalised": value, "heads": heads}
            )
            + "\n"
            for place, (name, value) in enumerate(lines)
        )
    )
    return path


def test_the_response_with_the_higher_reward_is_preferred(tmp_path):
    path = rewards(
        tmp_path / "rewards.jsonl",
        [("p1/A", 1.0), ("p1/B", 0.5), ("p2/A", 2.0), ("p2/B", 2.0), ("p3/A", None), ("p3/B", 1.0), ("p1/A", -1.0)],
        warm=1.0,
    )
    found = reward_outcomes(path)
    assert rows(found) == [("p1", "rm:small", "A", "B", 0.0), ("p2", "rm:small", "A", "B", 0.5)]
    assert found.left_out == {"without a reward": 1}
    assert set(reward_outcomes(path, principle="warm").preferred.tolist()) == {0.5}


# Rates and their intervals


def test_a_prompt_counts_once_however_many_judges_it_has(tmp_path):
    many = [one for place in range(5) for one in votes(1, 0, by=f"human:{place}")]
    found = report(make_run(tmp_path / "run", many, votes(0, 1, start=1))).overall["all judges"]
    assert (found.rate, found.prompts, found.comparisons) == (0.5, 2, 6)


def test_the_standard_error_is_that_of_the_mean_over_prompts(tmp_path):
    found = report(make_run(tmp_path / "run", votes(3, 1))).overall["human:one"]
    assert found.standard_error == pytest.approx(np.std([1, 1, 1, 0], ddof=1) / 2)
    assert (found.wins, found.ties, found.losses) == (3, 0, 1)


@pytest.mark.parametrize("count", [2, 5, 30, 200])
def test_where_all_prompts_say_the_same_the_end_is_clopper_and_pearsons(count):
    low, high = interval(np.ones(count))
    assert (low, high) == pytest.approx(tuple(binomtest(count, count).proportion_ci()))
    low, high = interval(np.zeros(count))
    assert (low, high) == pytest.approx(tuple(binomtest(0, count).proportion_ci()))


def test_all_ties_fit_as_many_preferences_as_could_have_been_missed():
    low, high = interval(np.full(30, 0.5))
    missed = 1 - 0.025 ** (1 / 30)
    assert (low, high) == pytest.approx((0.5 - missed / 2, 0.5 + missed / 2))


def test_one_win_among_ties_does_not_narrow_the_interval_of_all_ties():
    ties = interval(np.full(30, 0.5))
    low, high = interval(np.array([1.0] + [0.5] * 29))
    assert low < ties[0] and high > ties[1]


def test_two_prompts_leave_nearly_everything_open():
    low, high = interval(np.array([0.0, 1.0]))
    assert low < 0.1 and high > 0.9
    low, high = interval(np.array([0.4, 0.6]))  # half a prompt's worth each, and nobody knows how far others lie
    assert low < 0.2 and high > 0.8


@pytest.mark.parametrize(("wins", "count"), [(1, 2), (5, 9), (70, 100), (499, 500)])
def test_plain_wins_and_losses_have_wilsons_interval(wins, count):
    low, high = interval(np.array([1.0] * wins + [0.0] * (count - wins)))
    expected = binomtest(wins, count).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((expected.low, expected.high))


def test_means_that_spread_little_get_students_t():
    """20 means with the variance 0.01 about one half: 0.5 +- t sqrt((19 x 0.01 + 1/40) / 19 / 20), nearly."""
    values = 0.5 + 0.1 * np.sqrt(19 / 20) * np.array([1.0, -1.0] * 10)
    low, high = interval(values)
    error = np.sqrt((0.19 + 1 / 40) / 19 / 20)
    assert float(high - low) / 2 == pytest.approx(student.ppf(0.975, 19) * error, rel=0.02)


def test_the_bootstrap_stands_beside_and_is_none_where_all_prompts_say_the_same(tmp_path):
    found = report(make_run(tmp_path / "run", votes(12, 6, ties=2)), bootstrap=True).overall["human:one"]
    expected = bootstrap([np.array([1.0] * 12 + [0.0] * 6 + [0.5] * 2)], np.mean, n_resamples=5000, rng=1)
    assert found.bootstrap_low == pytest.approx(expected.confidence_interval.low, abs=0.05)
    assert found.bootstrap_high == pytest.approx(expected.confidence_interval.high, abs=0.05)
    same = report(make_run(tmp_path / "same", votes(12, 0)), bootstrap=True).overall["human:one"]
    assert (same.bootstrap_low, same.bootstrap_high) == (None, None)


def test_where_people_and_models_judged_parts_are_of_the_models_alone(tmp_path):
    judged = [one for place in range(3) for one in both_orders(f"p{place}/B", f"p{place}/A")]
    shown = run_outcomes(make_run(tmp_path / "run", votes(3, 0), judged))
    assert set(of_first_kind(balanced(shown.between("A", "B"))).preferred.tolist()) == {0.0}


def simulated(rate: float, prompts: int, comparisons: int, studies: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Answers [studies, prompts, comparisons], two on one prompt correlated by 0.4."""
    rng = np.random.default_rng(7)
    own = rng.beta(1.5 * rate, 1.5 * (1 - rate), (studies, prompts, 1))
    drawn: np.ndarray[Any, np.dtype[np.float64]] = (rng.random((studies, prompts, comparisons)) < own).astype(float)
    return drawn


@pytest.mark.parametrize(("rate", "prompts"), [(0.5, 30), (0.95, 100)])
def test_the_interval_covers_where_the_naive_one_fails(rate, prompts):
    answers = simulated(rate, prompts, 5, 2000)
    shares = []
    for low, high in (interval(answers.mean(axis=2)), naive_interval(answers.reshape(2000, -1))):
        shares.append(float(((low <= rate) & (rate <= high)).mean()))
    assert 0.93 <= shares[0] <= 0.97
    assert shares[1] < 0.85


def test_people_and_models_are_not_thrown_together(tmp_path):
    judged = [one for place in range(3) for one in both_orders(f"p{place}/B", f"p{place}/A")]
    found = report(make_run(tmp_path / "run", votes(3, 0), judged))
    assert {name: one.rate for name, one in found.overall.items()} == {"models": 0.0, "people": 1.0}
    (two,) = found.disagreements
    assert (two.pairs, two.same, two.opposite, two.difference.difference) == (3, 0, 3, 1.0)


def test_rates_by_topic_length_and_under_a_limit_are_of_their_rows(tmp_path):
    texts = {
        name: words
        for p in range(6)
        for name, words in ((f"p{p}/A", "word" * (4 if p < 3 else 1)), (f"p{p}/B", "four"))
    }
    topics = {f"p{p}": "grief" if p % 2 else "work" for p in range(6)}
    found = report(make_run(tmp_path / "run", votes(3, 3), texts=texts, topic=topics), limits=[4])
    assert {name: (one.wins, one.losses) for name, one in found.by_topic.items()} == {"work": (2, 1), "grief": (1, 2)}
    assert {name: one.rate for name, one in found.by_length.items()} == {
        "about as long": 0.0,
        "more than twice as long": 1.0,
    }
    assert (found.limits[4].rate, found.limits[4].prompts) == (0.0, 3)


def test_two_policies_are_compared_prompt_by_prompt(tmp_path):
    one: list[Winner] = ["a", "a", "a", "a", "b", "a", "tie", "a"]
    other: list[Winner] = ["a", "a", "b", "a", "b", "b", "b", "tie"]
    run = make_run(
        tmp_path / "run",
        *(compared(f"p{place}/A", f"p{place}/C", said) for place, said in enumerate(one)),
        *(compared(f"p{place}/B", f"p{place}/C", said) for place, said in enumerate(other)),
    )
    found = compare_policies(run_outcomes(run), "A", "B", "C")
    value = {"a": 1.0, "tie": 0.5, "b": 0.0}
    expected = ttest_rel([value[said] for said in one if said], [value[said] for said in other if said])
    assert found.difference == pytest.approx(3 / 8)
    assert found.p == pytest.approx(expected.pvalue)
    assert found.low is not None and found.high is not None and found.low < 3 / 8 < found.high


# A judge corrected by people


def test_a_judge_that_is_off_is_corrected_and_helps_all_the_same():
    rng = np.random.default_rng(3)
    people = (rng.random((500, 600)) < 0.6).astype(float)
    judge = np.where(rng.random(people.shape) < 0.85, people, 1.0)  # mistakes all in favour of the policy
    estimate, low, high, weight = corrected_interval(judge[:, :100], judge[:, 100:], people[:, :100])
    alone = interval(people[:, :100])
    assert judge.mean() == pytest.approx(0.66, abs=0.01)
    assert estimate.mean() == pytest.approx(0.6, abs=0.006)
    assert 0.92 <= ((low <= 0.6) & (high >= 0.6)).mean() <= 0.98
    assert (high - low).mean() < 0.75 * (alone[1] - alone[0]).mean()
    assert weight.mean() > 0.6


def test_a_judge_that_tosses_coins_leaves_the_peoples_own_rate():
    rng = np.random.default_rng(4)
    people, judge = (rng.random(100) < 0.6).astype(float), (rng.random(2000) < 0.5).astype(float)
    estimate, low, high, weight = corrected_interval(judge[:100], judge[100:], people)
    alone = interval(people)
    assert weight < 0.15
    assert float(estimate) == pytest.approx(people.mean(), abs=0.02)
    assert float(high - low) == pytest.approx(float(alone[1] - alone[0]), rel=0.05)


def labelled(count: int) -> list[list[Judgement]]:
    """A judge that is always for A on forty prompts, and a person about some of them."""
    judged: list[Judgement] = [one for place in range(40) for one in both_orders(f"p{place}/A", f"p{place}/B")]
    return [judged, [*votes(count // 2, count - count // 2)]]


def test_a_judge_that_always_says_the_same_is_not_listened_to(tmp_path):
    found = corrected_rate(run_outcomes(make_run(tmp_path / "run", *labelled(20))), "A", "B")
    assert (found.judge.rate, found.people.rate, found.rate, found.weight) == (1.0, 0.5, 0.5, 0.0)
    assert found.bias == pytest.approx(0.5)


def test_with_one_prompt_more_than_people_labelled_their_own_rate_stands():
    people = np.array([1.0, 0.0] * 10)
    estimate, low, high, weight = corrected_interval(people, np.array([1.0]), people)
    assert (float(estimate), float(weight)) == (0.5, 0.0)
    assert (float(low), float(high)) == pytest.approx(tuple(map(float, interval(people))))


def test_the_corrected_rate_is_that_of_power_tuned_prediction_powered_inference():
    """With many labels the weight without a prompt is the weight: cov / var / (1 + n/m), as in arXiv:2311.01453."""
    rng = np.random.default_rng(8)
    people = (rng.random(3000) < 0.6) * 1.0
    judge = np.where(rng.random(3000) < 0.8, people, rng.random(3000))
    seen, others, labels = judge[:1000], judge[1000:], people[:1000]
    weight = np.cov(labels, seen)[0, 1] / judge.var(ddof=1) / (1 + 1000 / 2000)
    rate = labels.mean() - weight * (seen.mean() - others.mean())
    error = np.sqrt((labels - weight * seen).var(ddof=1) / 1000 + weight**2 * others.var(ddof=1) / 2000)
    estimate, low, high, found = corrected_interval(seen, others, labels)
    assert (float(estimate), float(found)) == pytest.approx((rate, weight), abs=3e-4)
    assert (float(low), float(high)) == pytest.approx((rate - 1.96 * error, rate + 1.96 * error), abs=1e-3)


def test_too_few_labels_correct_nothing(tmp_path):
    with pytest.raises(PrefkitError, match="on 9 of the 40 judged prompts; expected at least 10"):
        corrected_rate(run_outcomes(make_run(tmp_path / "run", *labelled(9))), "A", "B")


# Planning


def test_the_planned_prompts_give_the_planned_width():
    (plan,) = for_width(assumed_spread(0.5, ties=0.0), 0.1, [1])
    assert plan.prompts is not None
    low, high = interval(np.array([1.0, 0.0] * (plan.prompts // 2)))
    assert float(high - low) / 2 == pytest.approx(0.1, abs=0.001)


def test_the_planned_prompts_give_the_planned_power():
    (plan,) = for_power(assumed_spread(0.65, ties=0.0), 0.8, [5])
    assert plan.prompts is not None
    low, _ = interval(simulated(0.65, plan.prompts, 5, 3000).mean(axis=2))
    assert (low > 0.5).mean() == pytest.approx(0.8, abs=0.03)


def test_more_comparisons_on_a_prompt_help_only_with_what_differs_on_it():
    alike, unlike = assumed_spread(0.6, alike=1.0), assumed_spread(0.6, alike=0.0)
    assert len({plan.prompts for plan in for_width(alike, 0.05, (1, 10))}) == 1
    one, ten = for_width(unlike, 0.05, (1, 10))
    assert one.prompts is not None and ten.prompts is not None
    assert ten.prompts == pytest.approx(one.prompts / 10, rel=0.15)


@pytest.mark.parametrize("said", [votes(30, 0), votes(0, 0, ties=30), votes(1, 0)])
def test_where_all_prompts_say_the_same_nothing_is_planned(prefkit, tmp_path, said):
    found = shown(prefkit, make_run(tmp_path / "run", said), "--plan")
    assert found.code == 0
    assert "Nothing to plan from" in found.out
    assert "+-5 points" not in found.out


def test_nothing_tells_a_rate_of_one_half_from_one_half():
    assert [plan.prompts for plan in for_power(assumed_spread(0.5))] == [None, None, None]


def test_the_spread_is_split_into_that_between_prompts_and_that_on_them(tmp_path):
    drawn = simulated(0.5, 2000, 4, 1)[0]
    place = np.repeat(np.arange(2000), 4)
    base = run_outcomes(make_run(tmp_path / "run", votes(1, 0)))
    many = {
        one.name: np.resize(getattr(base, one.name), 8000)
        for one in fields(base)
        if isinstance(getattr(base, one.name), np.ndarray)
    }
    found = measured_spread(replace(base, **(many | {"prompt": place, "preferred": drawn.ravel()})))
    assert (found.between, found.within) == pytest.approx((0.4 * 0.25, 0.6 * 0.25), abs=0.01)
    assert found.measured


# The command


def shown(prefkit: Callable[..., Outcome], run: Run | Path, *options: object) -> Outcome:
    folder = run.path if isinstance(run, Run) else run
    return prefkit("win-rate", folder, "--policy", "A", "--baseline", "B", *options)


def test_no_prompt_that_counts_is_said_with_the_reasons(prefkit, tmp_path):
    found = shown(prefkit, make_run(tmp_path / "run", compared("p1/A", "p1/B", "a", "llm:one")))
    assert found.code == 1
    assert "found 0 prompts that compare A with B; 1 asked of a model in one order only" in found.err


def test_judgements_of_another_rubric_are_named_as_the_reason(prefkit, tmp_path):
    found = shown(prefkit, make_run(tmp_path / "run", compared("p1/A", "p1/B", "a", under="elsewhere")))
    assert found.code == 1
    assert "(left out: 1 under another rubric)" in found.err
    assert "Judge again by the rubric in use" in found.err


def test_an_unknown_policy_is_answered_with_the_known_ones(prefkit, tmp_path):
    run = make_run(tmp_path / "run", votes(2, 1))
    found = prefkit("win-rate", run.path, "--policy", "C", "--baseline", "B")
    assert found.code == 1
    assert "found no policy 'C'; expected one of A, B" in found.err


def test_of_two_policies_the_one_that_is_not_named_is_the_other(prefkit, tmp_path):
    run = make_run(tmp_path / "run", votes(2, 1))
    for named, title in (
        (("--policy", "B"), "B over A"),
        (("--baseline", "A"), "B over A"),
        (("--policy", "A"), "A over B"),
        ((), "A over B"),
    ):
        assert f"\n{title}, " in prefkit("win-rate", run.path, *named).out
    assert prefkit("win-rate", run.path, "--policy", "A", "--baseline", "A").code == 1
    third = shown(prefkit, run, "--and", "B")
    assert third.code == 2
    assert "name a third policy" in third.err


def test_an_unknown_judge_is_answered_with_the_known_ones(prefkit, tmp_path):
    found = shown(prefkit, make_run(tmp_path / "run", votes(2, 1)), "--judge", "llm:other")
    assert "found no judge 'llm:other'; expected one of human:one" in found.err
    found = shown(prefkit, make_run(tmp_path / "people", votes(2, 1)), "--judge", "llm")
    assert "found no judge 'llm'; expected one of human:one" in found.err


def test_one_prompt_has_no_rate(prefkit, tmp_path):
    found = shown(prefkit, make_run(tmp_path / "run", votes(1, 0)), "--out", tmp_path / "rate.json")
    assert found.code == 0
    assert not re.search(r"\d%", found.out.replace("95% interval", ""))
    assert "One prompt (1 wins, 0 ties, 0 losses) says nothing about a rate" in found.out
    overall = json.loads((tmp_path / "rate.json").read_text())["report"]["overall"]["human:one"]
    assert (overall["rate"], overall["low"], overall["wins"]) == (None, None, 1)


def test_all_ties_are_said_to_be_that(prefkit, tmp_path):
    found = shown(prefkit, make_run(tmp_path / "run", votes(0, 0, ties=30)))
    assert "All 30 comparisons are ties: nothing speaks for either side." in found.out
    assert "that fits win rates between 44% and 56%" in found.out


def test_an_order_that_is_missing_is_counted_and_can_be_let_pass(prefkit, tmp_path):
    both = [one for place in range(3) for one in both_orders(f"p{place}/A", f"p{place}/B")]
    run = make_run(tmp_path / "run", both, compared("p9/A", "p9/B", "b", "llm:one"))
    assert "left out: 1 asked of a model in one order only" in shown(prefkit, run).out
    assert "left out" not in shown(prefkit, run, "--one-order").out


def test_few_prompts_and_an_open_question_are_said_in_words(prefkit, tmp_path):
    found = shown(prefkit, make_run(tmp_path / "run", votes(3, 2)))
    assert "Who is preferred cannot be told" in found.out
    assert "Only 5 prompts" in found.out


def test_a_clear_win_is_said_in_words_without_decimals_that_mean_nothing(prefkit, tmp_path):
    found = shown(prefkit, make_run(tmp_path / "run", votes(80, 20)))
    assert "A is preferred to B: A wins between 71% and 87% of the time" in found.out
    assert "Models judged" not in found.out


def test_where_only_models_judged_it_is_said(prefkit, tmp_path):
    judged = [one for place in range(3) for one in both_orders(f"p{place}/A", f"p{place}/B")]
    assert (
        "Models judged. What people would say is not measured" in shown(prefkit, make_run(tmp_path / "r", judged)).out
    )


def test_each_principle_has_its_rate_or_the_reason_why_not(prefkit, tmp_path):
    warm = [compared(f"p{p}/A", f"p{p}/B", "a", warm="b", safe=None) for p in range(4)]
    found = shown(prefkit, make_run(tmp_path / "run", *warm, rubric=TWO), "--principle", "all")
    assert found.code == 0
    (line,) = [line.split() for line in found.out.splitlines() if line.startswith("warm ")]
    assert line[1] == "0%"
    assert "safe: 0 prompts with a judgement of A and B on one prompt that counts" in found.out
    assert "4 without an answer about safe" in found.out


def test_all_figures_are_written_with_people_plan_and_another_policy(prefkit, tmp_path):
    more = [compared(f"p{p}/C", f"p{p}/B", "b") for p in range(20)]
    out = tmp_path / "rate.json"
    found = shown(
        prefkit,
        make_run(tmp_path / "run", *labelled(20), *more),
        "--human-subset",
        "--plan",
        "--and",
        "C",
        "--out",
        out,
    )
    assert found.code == 0, found.err
    figures = json.loads(out.read_text())
    assert figures["corrected"]["rate"] == 0.5
    assert figures["report"]["overall"]["models"]["bootstrap_low"] is None  # all of its prompts say the same
    assert 0.2 < figures["report"]["overall"]["people"]["bootstrap_low"] < 0.5
    assert figures["difference"]["found"]["difference"] == 0.5
    assert [plan["comparisons"] for plan in figures["plan"]["for_width"]] == [1, 2, 5]


def test_rewards_beside_a_run_give_rates_too(prefkit, tmp_path):
    run = make_run(tmp_path / "run", votes(2, 1), rubric=ONE)
    rewards(
        run.path / "rewards.jsonl",
        [(f"p{p}/{who}", value) for p in range(3) for who, value in (("A", 1.0), ("B", 0.0))],
    )
    found = shown(prefkit, run, "--rm")
    assert any(line.split()[:2] == ["rm:small", "100%"] for line in found.out.splitlines()), found.out


def test_the_page_for_users_is_true(tmp_path, monkeypatch):
    with_the_sample(tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks(DOCS.read_text(encoding="utf-8")):
        if block[1] == "console":
            assert differences(played(block[2], tmp_path, in_this_process), block[2]) == []
        else:
            assert failures(block[2], names) == []


# Real data


def test_win_rates_and_standard_errors_are_the_leaderboards(real_data):
    from prefkit.evaluation.alpaca_files import read_annotations

    folder = real_data / "alpaca-eval"
    with open(folder / "leaderboard.csv", newline="") as file:
        published = {row[""]: row for row in csv.DictReader(file)}
    for path in sorted(folder.glob("*/annotations.json")):
        row = published[path.parent.name]
        outcomes = read_annotations([path]).outcomes
        (found,) = win_report(outcomes, *outcomes.policies).overall.values()
        assert found.rate is not None and found.standard_error is not None
        assert 100 * found.rate == pytest.approx(float(row["win_rate"]), abs=1e-6)
        assert 100 * found.standard_error == pytest.approx(float(row["standard_error"]), abs=1e-6)
        assert found.prompts == int(float(row["n_total"]))
