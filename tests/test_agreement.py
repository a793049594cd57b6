"""Coefficients against published values and other implementations; intervals against data simulated with a known truth;
figures against arithmetic that can be done by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from making import TWO, rubric
from sklearn.metrics import cohen_kappa_score

from prefkit.agreement.coefficients import (
    cohen_kappa,
    coincidences,
    fleiss_kappa,
    gwet,
    gwet_from_sums,
    identity_weights,
    krippendorff_alpha,
    linear_weights,
    observed_agreement,
    ordinal_alpha,
    quadratic_weights,
    unit_sums,
)
from prefkit.agreement.judged import Ratings, Verdicts
from prefkit.agreement.ratings import RatingReference, columns, rating_agreement
from prefkit.agreement.verdicts import VerdictReference, verdict_agreement
from prefkit.resampling import Clusters, Sums
from prefkit.rubric import Rubric

NAN = math.nan

# Four observers, twelve units, gaps: Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability". The coefficients
# on it are those of the R package irrCAC.
OBSERVERS = np.asarray(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
)
FIVE = np.arange(1.0, 6.0)


def counted(scores: np.ndarray, values: np.ndarray) -> np.ndarray:
    """[units, q] from [raters, units]."""
    return np.stack([(scores == value).sum(axis=0) for value in values], axis=1).astype(float)


def test_gwets_coefficients_on_krippendorffs_data_are_those_of_irrcac():
    counts = counted(OBSERVERS, FIVE)
    for weights, published in ((identity_weights(5), 0.77544), (quadratic_weights(FIVE), 0.91400)):
        assert gwet_from_sums(unit_sums(counts, weights).sum(axis=0), weights) == pytest.approx(published, abs=5e-6)


def test_the_sums_of_units_hold_what_gwets_variance_is_made_of():
    """irrCAC's interval, 0.46081 to 1 (cut there): Gwet's linearised variance, and t with 11 degrees of freedom."""
    weights, n = identity_weights(5), 12
    units = unit_sums(counted(OBSERVERS, FIVE), weights)
    whole = gwet_from_sums(units.sum(axis=0), weights)
    shares = units[:, 2:-1].sum(axis=0) / n
    chance = (shares * (1 - shares)).sum() / 4
    by_unit = units[:, 1] * n / units[:, 1].sum() * (units[:, 0] - chance) / (1 - chance)
    pulled = by_unit - 2 * (1 - whole) * ((units[:, 2:-1] * (1 - shares)).sum(axis=1) / 4 - chance) / (1 - chance)
    error = math.sqrt(((pulled - whole) ** 2).sum() / (n * (n - 1)))
    assert whole - 2.200985 * error == pytest.approx(0.46081, abs=1e-5)
    without_one = gwet_from_sums(units.sum(axis=0) - units, weights)
    jackknife = math.sqrt((n - 1) / n * ((without_one - without_one.mean()) ** 2).sum())
    assert jackknife == pytest.approx(error, rel=0.15)


def test_fleiss_kappa_on_krippendorffs_data_is_that_of_irrcac():
    sums = unit_sums(counted(OBSERVERS, FIVE), identity_weights(5)).sum(axis=0)
    assert fleiss_kappa(sums, identity_weights(5)) == pytest.approx(0.76117, abs=5e-6)


RATIO = 1 - ((FIVE[:, None] - FIVE) / (FIVE[:, None] + FIVE)) ** 2


@pytest.mark.parametrize(
    ("weights", "published"),
    [(identity_weights(5), 0.74342), (quadratic_weights(FIVE), 0.849), (RATIO, 0.797)],
)
def test_alpha_on_krippendorffs_data_is_the_published_one(weights, published):
    pairs = coincidences(counted(OBSERVERS, FIVE)).sum(axis=0)
    digits = len(str(published)) - 2
    assert krippendorff_alpha(pairs, 1 - weights) == pytest.approx(published, abs=0.5001 * 10**-digits)


def test_ordinal_alpha_on_krippendorffs_data_is_the_published_one():
    assert ordinal_alpha(coincidences(counted(OBSERVERS, FIVE)).sum(axis=0)) == pytest.approx(0.815, abs=5e-4)


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_alpha_is_that_of_the_package_krippendorff_on_answers_with_gaps(level):
    krippendorff = pytest.importorskip("krippendorff")
    rng = np.random.default_rng(2)
    for _ in range(10):
        answers = np.where(rng.random((5, 40)) < 0.3, NAN, rng.integers(1, 6, (5, 40)))
        pairs = coincidences(counted(answers, FIVE)).sum(axis=0)
        weights = identity_weights(5) if level == "nominal" else quadratic_weights(FIVE)
        ours = ordinal_alpha(pairs) if level == "ordinal" else krippendorff_alpha(pairs, 1 - weights)
        theirs = krippendorff.alpha(reliability_data=answers, value_domain=FIVE.tolist(), level_of_measurement=level)
        assert ours == pytest.approx(theirs)


def test_where_nearly_all_say_the_same_kappa_is_below_zero_and_ac1_is_not():
    """95 of 100 agree on one answer, the rest is split evenly: agreement 0.95; chance by kappa 0.9513 (97.5% each)."""
    table = np.asarray([[95.0, 3.0], [2.0, 0.0]])
    assert observed_agreement(table, identity_weights(2)) == pytest.approx(0.95)
    assert cohen_kappa(table, identity_weights(2)) == pytest.approx(-0.025, abs=2e-3)
    assert gwet(table, identity_weights(2)) == pytest.approx(0.947, abs=1e-3)


@pytest.mark.parametrize("weighting", [None, "linear", "quadratic"])
def test_kappa_is_scikit_learns(weighting):
    rng = np.random.default_rng(0)
    weights = {None: identity_weights(5), "linear": linear_weights(FIVE), "quadratic": quadratic_weights(FIVE)}[
        weighting
    ]
    for _ in range(20):
        one = rng.integers(0, 5, 60)
        other = np.clip(one + rng.integers(-1, 2, 60), 0, 4)
        table = np.zeros((5, 5))
        np.add.at(table, (one, other), 1)
        theirs = cohen_kappa_score(one, other, labels=range(5), weights=weighting)
        assert cohen_kappa(table, weights) == pytest.approx(theirs)


def test_two_raters_table_and_their_units_give_the_same_coefficients():
    rng = np.random.default_rng(1)
    scores = rng.integers(1, 6, (2, 50)).astype(float)
    table = np.zeros((5, 5))
    np.add.at(table, tuple(scores.astype(int) - 1), 1)
    for weights in (identity_weights(5), quadratic_weights(FIVE)):
        counts = counted(scores, FIVE)
        assert gwet(table, weights) == pytest.approx(gwet_from_sums(unit_sums(counts, weights).sum(axis=0), weights))
        assert coincidences(counts).sum(axis=0) == pytest.approx(table + table.T)


def test_coefficients_take_leading_axes_and_are_nan_where_chance_is_not_defined():
    tables = np.asarray([[[5.0, 1.0], [2.0, 4.0]], [[9.0, 0.0], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    kappas = cohen_kappa(tables, identity_weights(2))
    assert kappas[0] == pytest.approx(cohen_kappa(tables[0], identity_weights(2)))
    assert np.isnan(kappas[1:]).all(), "one category throughout; nothing at all"
    assert gwet(tables, identity_weights(2))[1] == 1
    assert np.isnan(gwet(tables[1:, :1, :1], identity_weights(1))).all(), "one possible answer"


# Ratings


def ratings(rows: list[tuple[int, int, int, list[float]]]) -> Ratings:
    """(prompt, response, annotator, scores)."""
    prompt, response, annotator, scores = zip(*sorted(rows, key=lambda row: row[:3]), strict=True)
    return Ratings(
        *(np.asarray(column, dtype=np.int64) for column in (prompt, response, annotator)), np.asarray(scores)
    )


def rated_by(annotator: int, scores: dict[tuple[int, int], list[float]]) -> list[tuple[int, int, int, list[float]]]:
    return [(prompt, response, annotator, given) for (prompt, response), given in scores.items()]


def measured(judge: Ratings, reference: Ratings, under: Rubric = TWO, annotator: int | None = None):
    agreement = rating_agreement(
        judge, RatingReference(reference, under), Clusters(reference.prompt, 0), gap=0.25, annotator=annotator
    )
    assert agreement is not None
    return agreement


def value(sums: Sums) -> float:
    return float(sums.figure(sums.values.sum(axis=0)))


def test_direction_by_hand():
    """Means of the judge 2, 3, 3, 1 and of the person 2, 4, 2, 1: six pairs, of which the judge ties (2, 3), the person
    (1, 3). Of the other four, 1 < 2, 1 > 4, 2 > 4, 3 > 4, all have the same direction; counting ties half: 5 of 6."""
    judge = ratings(rated_by(0, {(1, 11): [2, 2], (1, 12): [2, 4], (1, 13): [3, 3], (1, 14): [1, 1]}))
    person = ratings(rated_by(1, {(1, 11): [2, 2], (1, 12): [3, 5], (1, 13): [1, 3], (1, 14): [1, 1]}))
    found = measured(judge, person)
    overall = found.overall
    assert (value(overall["direction"]), overall["direction"].count) == (1, 4)
    assert overall["direction_at_gap"].count == 4, "gaps 2, 1, 3, 1 of the person's means"
    assert value(overall["direction_ties_half"]) == pytest.approx(5 / 6)
    assert found.counts["pairs"] == 6
    assert (found.counts["pairs that only the judge ties"], found.counts["pairs that only the reference ties"]) == (
        1,
        1,
    )


def test_two_ties_are_the_same_answer():
    both = {(1, 11): [3.0, 3.0], (1, 12): [2.0, 4.0]}
    found = measured(ratings(rated_by(0, both)), ratings(rated_by(1, both)))
    assert (value(found.overall["direction_ties_half"]), found.counts["pairs that both tie"]) == (1, 1)
    assert found.overall["direction"].count == 0


def test_a_principle_has_its_own_direction_and_scores():
    judge = ratings(rated_by(0, {(1, 11): [1, 5], (1, 12): [2, 4]}))
    person = ratings(rated_by(1, {(1, 11): [2, 4], (1, 12): [1, 4]}))
    warm, safe = measured(judge, person).principles.values()
    assert (value(warm["direction"]), warm["direction"].count) == (0, 1)
    assert safe["direction"].count == 0
    assert (value(warm["exact"]), value(safe["exact"])) == (0, 0.5)


def test_only_complete_responses_of_one_prompt_are_compared_overall():
    judge = ratings(rated_by(0, {(1, 11): [2, 2], (1, 12): [4, NAN], (2, 21): [5, 5]}))
    person = ratings(rated_by(1, {(1, 11): [2, 2], (1, 12): [4, 4], (2, 21): [5, 5]}))
    found = measured(judge, person)
    assert found.overall["direction"].count == 0, "12 is not complete, 21 answers another prompt"
    assert found.counts["pairs with a score missing"] == 1
    assert found.principles["warm"]["direction"].count == 1


def test_gaps_that_differ_in_the_last_bit_of_a_float_are_ties():
    seven = rubric(*"abcdefg")
    scores = {(1, 11): [5, 2, 3, 2, 1, 5, 3], (1, 12): [3, 5, 2, 2, 3, 5, 1]}
    first, second = columns(np.asarray(list(scores.values())), seven)[:, 0]
    assert first != second, "the sum of each is 21"
    person = {(1, 11): [1.0] * 7, (1, 12): [2.0] * 7}
    found = measured(ratings(rated_by(0, scores)), ratings(rated_by(1, person)), seven)
    assert found.counts["pairs that only the judge ties"] == 1


def test_several_people_are_compared_with_by_their_mean_and_one_of_them_by_that_of_the_others():
    people = [
        *rated_by(1, {(1, 11): [2, 2], (1, 12): [2, 2]}),
        *rated_by(2, {(1, 11): [2, 2], (1, 12): [3, 3]}),
        *rated_by(3, {(1, 11): [5, 5], (1, 12): [3, 3]}),
    ]
    judge = measured(ratings(rated_by(0, {(1, 11): [4, 4], (1, 12): [3, 3]})), ratings(people))
    assert (value(judge.overall["direction"]), judge.overall["direction"].count) == (1, 1), "means 3 and 8/3"
    third = measured(ratings([row for row in people if row[2] == 3]), ratings(people), annotator=3)
    assert value(third.overall["direction"]) == 0, "the others' means are 2 and 2.5"
    assert third.principles["warm"]["exact"].count == 4


def test_the_shares_of_gap_bins_add_up_to_the_whole():
    rng = np.random.default_rng(0)
    keys = [(prompt, prompt * 100 + place) for prompt in range(30) for place in range(int(rng.integers(2, 7)))]
    quality = {key: rng.normal(3, 1, 2) for key in keys}

    def seen(annotator: int) -> Ratings:
        noisy = {key: np.clip(np.rint(quality[key] + rng.normal(0, 0.8, 2)), 1, 5).tolist() for key in keys}
        return ratings(rated_by(annotator, noisy))

    found = measured(seen(0), seen(1))
    whole = found.overall["direction"]
    for whose in ("reference", "judge"):
        bins = list(found.gaps[whose].values())
        assert sum(one.count for one in bins) == whole.count
        assert sum(one.values for one in bins) == pytest.approx(whole.values)
    large = [one for span, one in found.gaps["reference"].items() if span.start >= 1]
    assert sum(one.count for one in large) == found.overall["direction_at_gap"].count


def test_direction_is_that_of_a_loop_over_all_pairs():
    rng = np.random.default_rng(4)
    keys = [(prompt, prompt * 100 + place) for prompt in range(40) for place in range(int(rng.integers(1, 6)))]
    mine, theirs = ({key: rng.integers(1, 6, 2).astype(float).tolist() for key in keys} for _ in range(2))
    right = decided = 0
    for one, other in itertools.combinations(keys, 2):
        a, b = (sum(side[one]) - sum(side[other]) for side in (mine, theirs))
        if one[0] == other[0] and a and b:
            decided += 1
            right += a * b > 0
    found = measured(ratings(rated_by(0, mine)), ratings(rated_by(1, theirs))).overall["direction"]
    assert (found.count, value(found)) == (decided, right / decided)


# Comparisons


def verdicts(rows: list[tuple[int, int, int, int, float]]) -> Verdicts:
    """(prompt, shown first, shown second, annotator, win of the first)."""
    prompt, first, second, annotator, win = (np.asarray(column) for column in zip(*rows, strict=True))
    low_first = first < second
    wins = np.where(low_first, win, 1 - win)[:, None]
    return Verdicts(prompt, np.minimum(first, second), np.maximum(first, second), low_first, annotator, wins)


def compared(judge: Verdicts, reference: Verdicts, annotator: int | None = None):
    agreement = verdict_agreement(
        judge, VerdictReference(reference), Clusters(reference.prompt, 0), (), annotator=annotator
    )
    assert agreement is not None
    return agreement


GOLD = verdicts([(1, 12, 11, 9, 1), (2, 21, 22, 9, 1), (3, 31, 32, 9, 0), (4, 41, 42, 9, 1)])


def test_accuracy_by_order_and_in_both():
    """Prompt 1 right twice, 2 right in the reference's order, 3 right when swapped, 4 wrong twice."""
    judge = verdicts(
        [
            *((1, 12, 11, 0, 1), (1, 11, 12, 0, 0), (2, 21, 22, 0, 1), (2, 22, 21, 0, 1)),
            *((3, 31, 32, 0, 1), (3, 32, 31, 0, 1), (4, 41, 42, 0, 0), (4, 42, 41, 0, 1)),
        ]
    )
    found = compared(judge, GOLD)
    assert value(found.overall["accuracy"]) == 0.5
    assert {order: value(sums["accuracy"]) for order, sums in found.orders.items()} == {
        "as_reference": 0.5,
        "swapped": 0.5,
    }
    assert value(found.overall["both_orders"]) == 0.25
    assert value(found.overall["consistency"]) == 0.5
    assert found.tables["as_reference"].tolist() == [[2, 0, 1], [0, 0, 0], [1, 0, 0]]
    assert found.tables["between_orders"].tolist() == [[1, 0, 2], [0, 0, 0], [0, 0, 1]]


def test_a_tie_is_no_side_half_a_side_and_an_answer():
    judge = verdicts([(1, 12, 11, 0, 0.5), (2, 21, 22, 0, 1), (3, 31, 32, 0, 0.5)])
    reference = verdicts([(1, 12, 11, 9, 1), (2, 21, 22, 9, 1), (3, 31, 32, 9, 0.5)])
    overall = compared(judge, reference).overall
    assert (value(overall["accuracy"]), overall["accuracy"].count) == (1, 1)
    assert value(overall["accuracy_ties_half"]) == pytest.approx(2.5 / 3)
    assert value(overall["exact"]) == pytest.approx(2 / 3)


def test_people_choose_by_plurality_and_where_no_answer_leads_the_pair_is_left_out():
    people = verdicts(
        [
            *((1, 11, 12, 1, 1), (1, 11, 12, 2, 0.5), (1, 12, 11, 3, 0.5), (2, 21, 22, 1, 1), (2, 21, 22, 2, 0)),
            *((3, 31, 32, 1, 1), (3, 31, 32, 2, 1), (3, 31, 32, 3, 0)),
        ]
    )
    judge = verdicts([(1, 11, 12, 0, 0.5), (2, 21, 22, 0, 1), (3, 31, 32, 0, 1), (4, 41, 42, 0, 1)])
    found = compared(judge, people)
    assert (value(found.overall["exact"]), found.overall["exact"].count) == (1, 2)
    assert found.counts["questions on which the reference is split"] == 1
    assert found.counts["questions that the reference was not asked"] == 1
    second = compared(verdicts([(2, 21, 22, 2, 0)]), people, annotator=2)
    assert (value(second.overall["accuracy"]), second.overall["accuracy"].count) == (0, 1), "its own vote is not there"


def test_swapping_what_is_shown_and_said_changes_no_figure_but_the_order():
    rng = np.random.default_rng(6)
    rows = [(prompt, prompt * 10 + 1, prompt * 10 + 2, 0, float(rng.integers(0, 3)) / 2) for prompt in range(40)]
    gold = verdicts([(*row[:3], 9, float(rng.integers(0, 3)) / 2) for row in rows])
    there = compared(verdicts(rows), gold)
    back = compared(verdicts([(prompt, b, a, 0, 1 - win) for prompt, a, b, _, win in rows]), gold)
    assert {name: value(one) for name, one in there.overall.items()} == {
        name: value(one) for name, one in back.overall.items()
    }
    assert (list(there.orders), list(back.orders)) == (["as_reference"], ["swapped"])
