"""`prefkit agree` from the command line: small runs whose arithmetic can be done by hand, other implementations, and
published figures where the real data is at hand."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest
from conftest import Outcome
from making import TWO, both_orders, compared, make_run, rated, rubric
from sklearn.metrics import cohen_kappa_score

from prefkit.agreement import together
from prefkit.agreement.coefficients import coincidences, krippendorff_alpha, quadratic_weights
from prefkit.agreement.intraclass import score_agreement
from prefkit.records import Comparison, Winner
from prefkit.resampling import Sums
from prefkit.run import Run

DOCS = Path(__file__).parent.parent / "docs" / "agreement.md"
SWAPPED: dict[Winner | None, Winner | None] = {"a": "b", "b": "a", "tie": "tie", None: None}
Agreed = Callable[..., dict[str, Any]]


@pytest.fixture
def agreed(prefkit: Callable[..., Outcome], tmp_path: Path) -> Agreed:
    """What `agree --json` writes for a run; the command must work."""

    def call(run: Path | Run, *options: object) -> dict[str, Any]:
        folder, output = run.path if isinstance(run, Run) else run, tmp_path / "report.json"
        outcome = prefkit("agree", folder, "--rounds", 200, "--json", output, *options)
        assert outcome.code == 0, outcome.err
        assert f"{output}: all figures\n" in outcome.out
        report: dict[str, Any] = json.loads(output.read_text())
        return report

    return call


def values(figures: dict[str, Any], *names: str) -> list[Any]:
    return [figures[name]["value"] for name in names]


def counted(figure: dict[str, Any]) -> tuple[float | None, int]:
    return figure["value"], figure["n"]


def rater(report: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in report["raters"] if one["annotator"] == name]
    result: dict[str, Any] = found
    return result


def said(by: str, winners: Iterable[Winner], *, turned: bool = False, sample: int = 0) -> list[Comparison]:
    """Answers about A and B of prompts p0, p1, ...; ``turned`` shows B on the left, the meaning stays."""
    found = []
    for place, winner in enumerate(winners):
        sides = (f"p{place}/B", f"p{place}/A") if turned else (f"p{place}/A", f"p{place}/B")
        found += compared(*sides, SWAPPED[winner] if turned else winner, by, sample=sample)
    return found


def flagged(judgements: list[Comparison], *flags: str, **fields: Any) -> list[Comparison]:
    return [msgspec.structs.replace(one, flags=flags, **fields) for one in judgements]


ANN: list[Winner] = ["a", "a", "b", "tie", "a", "b", "tie", "b"]
BEN: list[Winner] = ["a", "b", "b", "tie", "tie", "b", "a", "b"]
CYN: list[Winner] = ["a", "a", "a", "b", "a", "b", "tie", "b"]


# Scores without categories

# Six targets, four judges: Shrout & Fleiss 1979, table 2.
TARGETS = np.asarray([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float)


def scored(scores: np.ndarray) -> dict[str, float]:
    unit, who = np.nonzero(~np.isnan(scores))
    found = score_agreement(scores[unit, who], unit, who, unit, len(scores))
    return {name: total(sums) for name, sums in found.items()}


def total(sums: Sums) -> float:
    return float(sums.figure(sums.values.sum(axis=0)))


def test_intraclass_correlations_are_those_of_shrout_and_fleiss():
    found = scored(TARGETS)
    assert (round(found["icc_a"], 2), round(found["icc_c"], 2)) == (0.29, 0.71)


def test_a_constant_lowers_absolute_agreement_alone():
    rng = np.random.default_rng(0)
    quality = rng.normal(0, 1, 50)
    scores = np.stack([quality, quality + 1], axis=1)
    found = scored(scores)
    assert found["icc_c"] == pytest.approx(1)
    assert found["icc_a"] == pytest.approx(np.var(quality, ddof=1) / (np.var(quality, ddof=1) + 0.5))


def test_with_half_of_the_scores_missing_the_variances_are_still_those_of_the_simulation():
    """Variance of units 1, of raters -1, -0.5, 0, 0.5, 1 (0.625), of the rest 0.49."""
    rng = np.random.default_rng(1)
    scores = rng.normal(0, 1, (6000, 1)) + np.linspace(-1, 1, 5) + rng.normal(0, 0.7, (6000, 5))
    scores[rng.random(scores.shape) < 0.5] = np.nan
    found = scored(scores)
    assert found["icc_a"] == pytest.approx(1 / (1 + 0.625 + 0.49), abs=0.015)
    assert found["icc_c"] == pytest.approx(1 / 1.49, abs=0.015)


def test_interval_alpha_of_scores_is_that_of_categories():
    rng = np.random.default_rng(2)
    scores = np.where(rng.random((60, 4)) < 0.3, np.nan, rng.integers(1, 6, (60, 4)))
    counts = np.stack([(scores == value).sum(axis=1) for value in range(1, 6)], axis=1).astype(float)
    distances = 1 - quadratic_weights(np.arange(1.0, 6.0))
    assert scored(scores)["alpha_interval"] == pytest.approx(
        float(krippendorff_alpha(coincidences(counts).sum(axis=0), distances))
    )


# Comparisons


def test_two_people_by_hand(agreed, tmp_path):
    """Of eight pairs, five have the same answer; of those that neither ties, four of five the same side; a tie beside
    a side is a half, two ties the same."""
    report = agreed(make_run(tmp_path / "run", said("human:ann", ANN), said("human:ben", BEN)))
    figures = report["group"]["comparisons"]["figures"]
    assert report["kind"] == "people" and report["group"]["annotators"] == ["human:ann", "human:ben"]
    assert counted(figures["exact"]) == (pytest.approx(5 / 8), 8)
    assert counted(figures["same_side"]) == (pytest.approx(4 / 5), 5)
    assert counted(figures["same_side_ties_half"]) == (pytest.approx((5 + 2 / 2) / 8), 8)
    assert figures["kappa"]["value"] == pytest.approx(cohen_kappa_score(ANN, BEN))
    counts = report["group"]["comparisons"]["counts"]
    assert (counts["answers"], counts["answers that are ties"]) == (16, 4)


def test_left_and_right_are_undone(agreed, tmp_path):
    plain = agreed(make_run(tmp_path / "one", said("human:ann", ANN), said("human:ben", BEN)))
    turned = agreed(make_run(tmp_path / "two", said("human:ann", ANN), said("human:ben", BEN, turned=True)))
    assert turned["group"] == plain["group"]


def test_cohens_kappa_of_three_is_the_mean_of_the_three_pairs_of_them(agreed, tmp_path):
    run = make_run(tmp_path / "run", said("human:ann", ANN), said("human:ben", BEN), said("human:cyn", CYN))
    group = agreed(run)["group"]
    pairs = {tuple(pair["annotators"]): pair["comparisons"]["figures"]["kappa"]["value"] for pair in group["pairs"]}
    assert pairs == {
        ("human:ann", "human:ben"): pytest.approx(cohen_kappa_score(ANN, BEN)),
        ("human:ann", "human:cyn"): pytest.approx(cohen_kappa_score(ANN, CYN)),
        ("human:ben", "human:cyn"): pytest.approx(cohen_kappa_score(BEN, CYN)),
    }
    assert group["comparisons"]["figures"]["kappa"]["value"] == pytest.approx(np.mean(list(pairs.values())))


def test_any_number_of_people_share_one_alpha_and_one_fleiss(agreed, tmp_path):
    """Fleiss' kappa of three raters by its formula; alpha is 1 - (1 - kappa) (n - 1) / n, n being all 24 answers."""
    run = make_run(tmp_path / "run", said("human:ann", ANN), said("human:ben", BEN), said("human:cyn", CYN))
    counts = np.asarray(
        [
            [(one, two, three).count(side) for side in ("a", "tie", "b")]
            for one, two, three in zip(ANN, BEN, CYN, strict=True)
        ]
    )
    observed = ((counts**2).sum(axis=1) - 3).mean() / 6
    chance = ((counts.sum(axis=0) / 24) ** 2).sum()
    kappa = (observed - chance) / (1 - chance)
    figures = agreed(run)["group"]["comparisons"]["figures"]
    assert figures["fleiss"]["value"] == pytest.approx(kappa)
    assert figures["alpha_nominal"]["value"] == pytest.approx(1 - (1 - kappa) * 23 / 24)


def test_a_tie_is_nearer_to_a_side_than_the_other_side_is(agreed, tmp_path):
    ann: list[Winner] = ["a", "b"] * 9
    ben: list[Winner] = ["tie" if place % 3 == 2 else one for place, one in enumerate(ann)]
    report = agreed(make_run(tmp_path / "run", said("human:ann", ann), said("human:ben", ben)))
    figures = report["group"]["comparisons"]["figures"]
    assert figures["alpha_ordinal"]["value"] > figures["alpha_nominal"]["value"] + 0.1


def test_principles_have_figures_of_their_own(agreed, tmp_path):
    judgements = []
    for place in range(6):
        judgements += compared(f"p{place}/A", f"p{place}/B", "a", "human:ann", warm="a", safe="ab"[place % 2])
        judgements += compared(f"p{place}/A", f"p{place}/B", "a", "human:ben", warm="b", safe="ab"[place % 2])
    principles = agreed(make_run(tmp_path / "run", judgements, rubric=TWO))["group"]["comparisons"]["principles"]
    assert {name: one["exact"]["value"] for name, one in principles.items()} == {"warm": 0, "safe": 1}
    assert principles["safe"]["kappa"]["value"] == 1


# Ratings


def both_rated(first: dict[str, int], second: dict[str, int]) -> list[Any]:
    return [*rated(first, "human:ann"), *rated(second, "human:ben")]


ANNS = {
    f"p{n}/{side}": score
    for n, scores in enumerate([(5, 3), (2, 4), (1, 2), (4, 1)])
    for side, score in zip("AB", scores, strict=True)
}
BENS = {
    f"p{n}/{side}": score
    for n, scores in enumerate([(4, 3), (2, 5), (2, 1), (4, 2)])
    for side, score in zip("AB", scores, strict=True)
}


def test_ratings_by_hand(agreed, tmp_path):
    """Three of four directions agree; three of eight scores are the same."""
    section = agreed(make_run(tmp_path / "run", both_rated(ANNS, BENS)))["group"]["ratings"]
    assert counted(section["figures"]["direction"]) == (pytest.approx(3 / 4), 4)
    good = section["principles"]["good"]
    assert counted(good["exact"]) == (pytest.approx(3 / 8), 8)
    first, second = list(ANNS.values()), list(BENS.values())
    for name, weights in (("kappa", None), ("linear_kappa", "linear"), ("weighted_kappa", "quadratic")):
        theirs = cohen_kappa_score(first, second, labels=range(1, 6), weights=weights)
        assert good[name]["value"] == pytest.approx(theirs), name
    assert section["figures"]["correlation"]["value"] == pytest.approx(np.corrcoef(first, second)[0, 1])
    assert good["icc_a"]["value"] == section["figures"]["icc_a"]["value"]


def test_direction_by_gap_counts_each_pair_by_the_gap_of_either(agreed, tmp_path):
    """ann's gaps are 2, 2, 1, 3, of which the third is wrong; ben's 1, 3, 1, 2."""
    rows = agreed(make_run(tmp_path / "run", both_rated(ANNS, BENS)))["group"]["ratings"]["by_gap"]["one of two"]
    assert [(row["start"], *counted(row["direction"])) for row in rows if row["direction"]["n"]] == [
        (1, pytest.approx(1 / 3), 3),
        (2, 1, 5),
    ]


def test_who_rates_higher_than_the_others_is_shown(agreed, tmp_path):
    """ann and cyn rate the same, ben one point higher: 1 above their mean; they half a point below theirs."""
    scores = {f"p{n}/{side}": 2 + (n + place) % 3 for n in range(12) for place, side in enumerate("AB")}
    judgements = [
        *rated(scores, "human:ann"),
        *rated({name: score + 1 for name, score in scores.items()}, "human:ben"),
        *rated(scores, "human:cyn"),
    ]
    report = agreed(make_run(tmp_path / "run", judgements))
    found = {
        name: rater(report, f"human:{name}")["with_the_rest"]["mean_difference"]["value"]
        for name in ("ann", "ben", "cyn")
    }
    assert found == {"ann": pytest.approx(-0.5), "ben": pytest.approx(1), "cyn": pytest.approx(-0.5)}
    assert rater(report, "human:ben")["severity"]["good"]["value"] == pytest.approx(1)


def test_raters_at_different_levels_are_told(prefkit, tmp_path):
    scores = {f"p{n}/A": 1 + n % 4 for n in range(40)}
    shifted = {name: score + 1 for name, score in scores.items()}
    outcome = prefkit("agree", make_run(tmp_path / "run", both_rated(scores, shifted)).path, "--rounds", 100)
    assert "ICC(C,1) is 1.00" in outcome.out and "the same order at different levels" in " ".join(outcome.out.split())


# What is no answer


def test_drafts_and_discarded_questions_are_counted_and_are_no_answers(agreed, tmp_path):
    left = [msgspec.structs.replace(one, failure="draft") for one in compared("p8/A", "p8/B", None, "human:ben")]
    left += [msgspec.structs.replace(one, failure="discarded") for one in compared("p9/A", "p9/B", None, "human:ben")]
    without = agreed(make_run(tmp_path / "one", said("human:ann", ANN), said("human:ben", BEN)))
    report = agreed(make_run(tmp_path / "two", said("human:ann", ANN), said("human:ben", BEN), left))
    assert report["left_out"] == {"human:ben": {"left as drafts": 1, "discarded": 1}}
    assert rater(report, "human:ben")["not_answered"] == {"left as drafts": 1, "discarded": 1}
    assert rater(report, "human:ben")["answered"] == 8
    assert report["group"]["comparisons"]["figures"] == without["group"]["comparisons"]["figures"]


def test_questions_that_test_attention_are_left_out_and_who_fails_them_is_named(agreed, prefkit, tmp_path):
    known = [f"q{n}" for n in range(5)]
    tests = []
    for who, right in (("human:ann", 4), ("human:ben", 3)):
        for place, prompt in enumerate(known):
            flag = "attention:right" if place < right else "attention:wrong"
            tests += flagged(compared(f"{prompt}/A", f"{prompt}/B", "a" if place < right else "b", who), flag)
    run = make_run(tmp_path / "run", said("human:ann", ANN), said("human:ben", BEN), tests)
    without = agreed(make_run(tmp_path / "other", said("human:ann", ANN), said("human:ben", BEN)))
    report = agreed(run)
    assert report["group"]["comparisons"]["figures"] == without["group"]["comparisons"]["figures"]
    assert {who: rater(report, f"human:{who}")["attention"] for who in ("ann", "ben")} == {"ann": [4, 5], "ben": [3, 5]}
    assert report["inattentive"] == ["human:ben"]
    assert rater(report, "human:ben")["flags"] == {} and rater(report, "human:ben")["left"]["n"] == 7 - 1
    outcome = prefkit("agree", run.path, "--rounds", 100)
    assert "Less than 80% of the questions with a known answer right: human:ben." in outcome.out
    assert agreed(run, "--attention", 0.5)["inattentive"] == []


def test_who_settled_a_conflict_knew_the_others_answers_and_is_left_out(agreed, tmp_path):
    settled = flagged(said("human:cyn", ["a"] * 8), "adjudication")
    report = agreed(make_run(tmp_path / "run", said("human:ann", ANN), said("human:ben", BEN), settled))
    assert report["left_out"] == {"human:cyn": {"to settle a conflict": 8}}
    assert report["group"]["comparisons"]["counts"]["answers"] == 16


# Each with themselves


def test_a_person_is_held_against_their_own_answers_to_hidden_repeats(agreed, tmp_path):
    """Three of four repeats have the same answer as before, one of them seen the other way round."""
    again = said("human:ann", ANN[:1], turned=True, sample=1)
    again += [one for place in (1, 2) for one in said("human:ann", ANN, sample=1)[place : place + 1]]
    again += compared("p3/A", "p3/B", "a", "human:ann", sample=1)
    report = agreed(make_run(tmp_path / "run", said("human:ann", ANN), said("human:ben", BEN), again))
    assert counted(rater(report, "human:ann")["itself"]["comparisons"]["figures"]["exact"]) == (0.75, 4)
    assert rater(report, "human:ben")["itself"] == {}


def test_between_people_the_first_of_repeated_answers_counts(agreed, tmp_path):
    once = agreed(make_run(tmp_path / "one", said("human:ann", ANN), said("human:ben", BEN)))
    again = said("human:ann", [SWAPPED[winner] or "a" for winner in ANN], sample=1)
    twice = agreed(make_run(tmp_path / "two", again, said("human:ann", ANN), said("human:ben", BEN)))
    assert twice["group"]["comparisons"]["figures"] == once["group"]["comparisons"]["figures"]
    scores = agreed(make_run(tmp_path / "three", both_rated(ANNS, BENS)))
    later = rated({name: 6 - score for name, score in ANNS.items()}, "human:ann", sample=1)
    again_scores = agreed(make_run(tmp_path / "four", later, both_rated(ANNS, BENS)))
    assert again_scores["group"]["ratings"]["figures"] == scores["group"]["ratings"]["figures"]


def test_a_judge_asked_in_two_orders_was_not_asked_the_same_twice(agreed, tmp_path):
    """Both samples choose what is shown first, always: the same answer to each of four questions."""
    judgements = [
        one
        for sample in (0, 1)
        for n in (0, 1)
        for pair in ((f"p{n}/A", f"p{n}/B"), (f"p{n}/B", f"p{n}/A"))
        for one in compared(*pair, "a", "llm:owl", sample=sample)
    ]
    report = agreed(make_run(tmp_path / "run", judgements, said("human:ann", ANN)))
    assert counted(rater(report, "llm:owl")["itself"]["comparisons"]["figures"]["exact"]) == (1, 4)
    assert counted(rater(report, "llm:owl")["left"]) == (1, 8)


def test_samples_of_ratings_are_held_against_each_other(agreed, tmp_path):
    again = rated({"p0/A": 5, "p0/B": 3, "p1/A": 3}, "llm:owl", sample=3)
    report = agreed(make_run(tmp_path / "run", rated(ANNS, "llm:owl"), again, said("human:ann", ANN)))
    itself = rater(report, "llm:owl")["itself"]["ratings"]
    assert counted(itself["principles"]["good"]["exact"]) == (pytest.approx(2 / 3), 3)
    assert counted(itself["figures"]["direction"]) == (1, 1)


# Judges with people


def test_a_judges_figures_are_those_of_validate_judge(agreed, prefkit, tmp_path):
    judge = [
        one
        for place, winner in enumerate(CYN)
        for one in (
            both_orders(f"p{place}/A", f"p{place}/B", "llm:owl")
            if winner == "a"
            else both_orders(f"p{place}/B", f"p{place}/A", "llm:owl")
        )
    ]
    run = make_run(
        tmp_path / "run",
        said("human:ann", ANN),
        said("human:ben", BEN),
        judge,
        both_rated(ANNS, BENS),
        rated(BENS, "llm:owl"),
    )
    ours = agreed(run)["with_judges"]
    assert prefkit("validate-judge", run.path, "--resamples", 200, "--json", tmp_path / "other.json").code == 0
    theirs = json.loads((tmp_path / "other.json").read_text())
    for part in ("ratings", "comparisons"):
        assert ours["measured"][0][part]["figures"] == theirs["judges"][0][part]["figures"]
        assert ours[part]["figures"] == theirs["ceiling"][part]["figures"]


def test_a_judge_is_held_against_each_person_too(agreed, tmp_path):
    judge = said("llm:owl", ANN)
    pairs = agreed(make_run(tmp_path / "run", said("human:ann", ANN), said("human:ben", BEN), judge))["with_judges"][
        "one_by_one"
    ]
    found = {tuple(pair["annotators"]): pair["comparisons"]["figures"]["exact"]["value"] for pair in pairs}
    assert found == {("llm:owl", "human:ann"): 1, ("llm:owl", "human:ben"): pytest.approx(5 / 8)}


def test_a_judge_beside_one_person_has_nothing_to_be_held_against(prefkit, tmp_path):
    run = make_run(tmp_path / "run", said("human:ann", ANN), said("llm:owl", BEN))
    words = " ".join(prefkit("agree", run.path, "--rounds", 100).out.split())
    assert "How far people agree with each other cannot be said: there is one annotator." in words
    assert "llm:owl takes the side that most people take in 80.0%" in words
    assert "with no second person on the same questions there is nothing to hold that against" in words


def test_without_people_the_judges_are_measured_among_themselves(agreed, tmp_path):
    report = agreed(make_run(tmp_path / "run", said("llm:owl", ANN), said("llm:wren", BEN)))
    assert (report["kind"], report["with_judges"]) == ("judges", None)
    assert report["group"]["comparisons"]["figures"]["exact"]["value"] == pytest.approx(5 / 8)


def test_annotators_may_be_named(agreed, prefkit, tmp_path):
    run = make_run(tmp_path / "run", said("human:ann", ANN), said("human:ben", BEN), said("human:cyn", CYN))
    report = agreed(run, "--annotators", "human:cyn, human:ann")
    assert (report["kind"], report["group"]["annotators"]) == ("named", ["human:ann", "human:cyn"])
    assert report["group"]["comparisons"]["figures"]["kappa"]["value"] == pytest.approx(cohen_kappa_score(ANN, CYN))
    outcome = prefkit("agree", run.path, "--annotators", "human:dan")
    assert outcome.code == 1
    assert "no judgements by human:dan; expected annotators of this run: human:ann, human:ben, human:cyn" in outcome.err


# Each annotator


def test_side_ties_speed_and_flags_of_an_annotator(agreed, tmp_path):
    """ben chooses the left in 27 of 30, and ties 10; ann needs 30 s, ben 3 s in a quarter of his answers."""
    winners: list[Winner] = ["a"] * 27 + ["b"] * 3 + ["tie"] * 10
    slow = flagged(said("human:ann", winners), seconds=30.0)
    fast = [
        msgspec.structs.replace(one, seconds=3.0 if place % 4 == 0 else 33.0, flags=("risk",) if place == 5 else ())
        for place, one in enumerate(said("human:ben", winners))
    ]
    ben = rater(agreed(make_run(tmp_path / "run", slow, fast)), "human:ben")
    assert counted(ben["left"]) == (0.9, 30) and counted(ben["ties"]) == (0.25, 40)
    assert (ben["left"]["low"], ben["left"]["high"]) == (
        pytest.approx(0.7438, abs=1e-4),
        pytest.approx(0.9654, abs=1e-4),
    )
    assert ben["seconds"] == {"n": 40, "low": 3.0, "median": 33.0, "high": 33.0, "fast": 10}
    assert ben["flags"] == {"risk": 1}
    assert ben["stands_out"] == [
        "chose the left side in 90% of 30",
        "10 of 40 answers in less than a third of the usual time",
    ]


# Words, and how sure


def test_where_nearly_all_answers_are_the_same_the_percentage_is_to_be_looked_at(prefkit, tmp_path):
    """38 of 40 the same, and a kappa a little below 0."""
    first: list[Winner] = ["a"] * 39 + ["b"]
    second: list[Winner] = ["b"] + ["a"] * 39
    run = make_run(tmp_path / "run", said("human:ann", first), said("human:ben", second))
    words = " ".join(prefkit("agree", run.path, "--rounds", 100).out.split())
    assert "overall: 95% the same answer, and a kappa that is -0.03. Nearly all answers are of one kind" in words
    assert "AC1, 0.95" in words


def test_few_prompts_are_said_to_be_few(prefkit, tmp_path):
    run = make_run(tmp_path / "run", said("human:ann", ANN), said("human:ben", BEN))
    assert "Comparisons: only 8 prompts judged by two or more." in prefkit("agree", run.path, "--rounds", 100).out


@pytest.mark.parametrize(
    ("different", "words"),
    [
        (0, "alpha 1.000; prompts do not differ"),
        (4, "is above .800 throughout"),
        (21, "is above .667 throughout"),
        (50, "is below .667"),
        (31, "reaches below .667"),
    ],
)
def test_alpha_is_put_into_words_by_its_whole_interval(agreed, tmp_path, different, words):
    first: list[Winner] = ["a", "b"] * 100
    second: list[Winner] = [SWAPPED[one] or "a" if place < different else one for place, one in enumerate(first)]
    report = agreed(make_run(tmp_path / "run", said("human:ann", first), said("human:ben", second)))
    assert words in report["notes"][0], report["notes"]


def test_an_annotators_name_is_shown_as_it_is(prefkit, tmp_path):
    draft = [msgspec.structs.replace(one, failure="draft") for one in compared("p9/A", "p9/B", None, "human:x")]
    run = make_run(tmp_path / "run", said("human:x", ANN), said("human:[red]", BEN), draft)
    out = prefkit("agree", run.path, "--rounds", 100).out
    assert "people with people: human:[red], human:x" in out and "left out of human:x: 1 left as drafts" in out


def test_people_who_share_nothing_are_told_so(prefkit, tmp_path):
    run = make_run(tmp_path / "run", said("human:ann", ANN[:1]), compared("p9/A", "p9/B", "a", "human:ben"))
    assert "no two of these people judged the same" in prefkit("agree", run.path, "--rounds", 100).out


def test_of_too_many_pairs_of_people_those_with_most_in_common_stand_for_all(agreed, tmp_path, monkeypatch):
    monkeypatch.setattr(together, "MAX_PAIRS", 1)
    run = make_run(tmp_path / "run", said("human:ann", ANN[:4]), said("human:ben", BEN), said("human:cyn", CYN))
    report = agreed(run)
    assert [pair["annotators"] for pair in report["group"]["pairs"]] == [["human:ben", "human:cyn"]]
    assert report["group"]["pairs_left_out"] == 2
    assert any("2 other pairs are left out" in note for note in report["notes"])


def test_the_same_command_writes_the_same_bytes(prefkit, tmp_path):
    run = make_run(tmp_path / "run", said("human:ann", ANN), said("human:ben", BEN), both_rated(ANNS, BENS))
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    for name in ("one", "two"):
        assert (
            prefkit("agree", run.path, "--json", tmp_path / f"{name}.json", "--picture", tmp_path / f"{name}.svg").code
            == 0
        )
    for ending in ("json", "svg"):
        assert (tmp_path / f"one.{ending}").read_bytes() == (tmp_path / f"two.{ending}").read_bytes()
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before, "nothing is changed"


def test_every_figure_has_an_interval_where_prompts_differ(agreed, tmp_path):
    rng = np.random.default_rng(0)
    sides: list[list[Winner]] = [[("a", "tie", "b")[int(one)] for one in rng.integers(0, 3, 60)] for _ in range(2)]
    mixed = [[one if rng.random() < 0.6 else other for one, other in zip(*sides, strict=True)] for _ in range(3)]
    run = make_run(tmp_path / "run", *(said(f"human:{place}", winners) for place, winners in enumerate(mixed)))
    for name, figure in agreed(run)["group"]["comparisons"]["figures"].items():
        assert figure["low"] < figure["value"] < figure["high"], name


# The picture


def test_the_picture_is_one_svg_that_needs_nothing_else(prefkit, tmp_path):
    run = make_run(
        tmp_path / "run",
        said("human:ann", ANN),
        said("human:ben", BEN),
        said("llm:<b>&owl", CYN),
        rubric=rubric("good"),
    )
    assert prefkit("agree", run.path, "--rounds", 100, "--picture", tmp_path / "agree.svg").code == 0
    text = (tmp_path / "agree.svg").read_text(encoding="utf-8")
    root = ElementTree.fromstring(text)
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "llm:<b>&owl with them" in words and "people with people" in words
    titles = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}title")]
    assert any(title.startswith("people with people, overall: 0.625 [") for title in titles)
    assert not re.search(r"(href|src|url\(|@import|<script|<style)", text)


# Labels


def test_labels_of_several_answers_are_written_beside(prefkit, tmp_path):
    run = make_run(tmp_path / "run", said("human:ann", ANN), said("human:ben", BEN), said("human:cyn", CYN))
    outcome = prefkit("agree", run.path, "--rounds", 100, "--consensus", "majority")
    assert outcome.code == 0, outcome.err
    assert f"{run.path / 'agreement' / 'consensus.json'}: labels of 8 pairs by majority" in outcome.out
    assert len(json.loads((run.path / "agreement" / "consensus.json").read_text())["compared"]) == 8


# The page for users

BLOCK = re.compile(r"```(\w+)(?: (\S+))?\n(.*?)```", re.DOTALL)


def test_the_page_for_users_is_true(prefkit, tmp_path, monkeypatch):
    """Every file of docs/agreement.md is written and every command run, in their order."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "110")
    for language, name, content in BLOCK.findall(DOCS.read_text(encoding="utf-8")):
        if name:
            Path(name).write_text(content, encoding="utf-8")
        elif language == "console":
            printed = ""
            for line in re.findall(r"^\$ (.*)$", content, re.MULTILINE):
                outcome = prefkit(*shlex.split(line)[1:])
                printed += f"$ {line}\n{outcome.out}{outcome.err}"
            assert re.sub(r" +$", "", printed, flags=re.MULTILINE) == content


def test_the_page_names_every_figure(agreed, tmp_path):
    run = make_run(tmp_path / "run", said("human:ann", ANN), said("human:ben", BEN), both_rated(ANNS, BENS))
    group = agreed(run)["group"]
    known = {name for part in ("ratings", "comparisons") for name in group[part]["figures"]}
    known |= {name for part in group["ratings"]["principles"].values() for name in part}
    assert set(re.findall(r"^\| `(\w+)`", DOCS.read_text(encoding="utf-8"), re.MULTILINE)) == known


# Published figures, where PREFKIT_DATA names the data


def test_pandalms_people_agree_with_each_other_as_published(prefkit, agreed, real_data, tmp_path):
    run = tmp_path / "run"
    assert prefkit("new", run, "--rubric", "ultrafeedback").code == 0
    assert prefkit("import", "judgements", run, real_data / "pandalm" / "testset-v1.json").code == 0
    group = agreed(run)["group"]
    kappas = {tuple(pair["annotators"]): pair["comparisons"]["figures"]["kappa"] for pair in group["pairs"]}
    assert {pair: (round(kappa["value"], 3), kappa["n"]) for pair, kappa in kappas.items()} == {
        ("human:pandalm-1", "human:pandalm-2"): (0.852, 999),
        ("human:pandalm-1", "human:pandalm-3"): (0.879, 999),
        ("human:pandalm-2", "human:pandalm-3"): (0.862, 999),
    }
    assert all(kappa["low"] < kappa["value"] < kappa["high"] for kappa in kappas.values())


def test_two_passes_over_chatpsychiatrist_agree_as_measured_before(prefkit, agreed, real_data, tmp_path):
    run, folder = tmp_path / "run", real_data / "chatpsychiatrist"
    assert prefkit("new", run, "--rubric", "psychocounsel").code == 0
    assert prefkit("import", "prompts", run, folder / "question.jsonl").code == 0
    for path in sorted((folder / "model_answer").iterdir()):
        assert prefkit("import", "responses", run, path).code == 0
    for name in ("ratings.csv", "ratings_second_pass.csv"):
        assert prefkit("import", "judgements", run, folder / name).code == 0
    section = agreed(run, "--annotators", "llm:first-pass,llm:second-pass")["group"]["ratings"]
    figures = section["figures"]
    assert round(100 * figures["direction"]["value"], 1) == 96.7
    assert (round(figures["correlation"]["value"], 3), figures["correlation"]["n"]) == (0.946, 300)
    exact = [round(100 * one["exact"]["value"]) for one in section["principles"].values()]
    assert (min(exact), max(exact)) == (73, 83)
