"""Which two responses make a pair: exact gaps, and every strategy against a search through all possible pairs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from itertools import combinations, permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from making import rubric

from prefkit.pairs.aggregate import over_annotators, overall
from prefkit.pairs.collect import Ratings
from prefkit.pairs.select import Candidates, select, strongest
from prefkit.rubric import Aggregate, Rubric

STRATEGIES = ("gap", "best-worst", "all", "top-k")
HALVES = st.integers(2, 10).map(lambda halves: Fraction(halves, 2))
NAMES = "abcdefghi"
unhurried = settings(deadline=None)


def pairs(scores: list[float | None], prompts: list[int] | None = None, **settings) -> set[tuple[int, int]]:
    """``select`` on plain lists; None is a response that nobody rated."""
    numbers = np.asarray([math.nan if score is None else score for score in scores], dtype=np.float64)
    places = np.asarray(prompts or [0] * len(scores), dtype=np.int64)
    found = select(numbers, places, settings.pop("strategy", "gap"), settings.pop("min_gap", 1.0), **settings)
    listed = list(zip(found.chosen.tolist(), found.rejected.tolist(), strict=True))
    assert len(set(listed)) == len(listed), "a pair stands there twice"
    return set(listed)


# --- exact gaps ------------------------------------------------------------------------------------------------------

Table = list[list[list[Fraction]]]
"""Scores by response, annotator and principle."""


@st.composite
def tables(draw: st.DrawFn) -> Table:
    n_principles, n_responses = draw(st.integers(1, 9)), draw(st.integers(2, 6))
    one = st.lists(HALVES, min_size=n_principles, max_size=n_principles)
    several = st.lists(one, min_size=1, max_size=5)
    return draw(st.lists(several, min_size=n_responses, max_size=n_responses))


def exact(table: Table, how: Aggregate, weights: list[int]) -> list[Fraction]:
    """Overall scores on the scale 1-5, in fractions."""
    totals = []
    for annotators in table:
        means = [sum(column) / len(annotators) for column in zip(*annotators, strict=True)]
        if how == "normalised":
            means = [(mean - 1) / 4 for mean in means]
        factors = [Fraction(1)] * len(means) if how in ("mean", "sum") else [Fraction(weight) for weight in weights]
        total = sum(factor * mean for factor, mean in zip(factors, means, strict=True))
        totals.append(total if how == "sum" else total / sum(factors))
    return totals


def as_floats(table: Table, made: Rubric) -> list[float]:
    """The same by prefkit."""
    rows = [(place, who, scores) for place, annotators in enumerate(table) for who, scores in enumerate(annotators)]
    ratings = Ratings(
        np.asarray([place for place, _, _ in rows]),
        np.asarray([who for _, who, _ in rows]),
        np.asarray([[float(score) for score in scores] for _, _, scores in rows]),
    )
    return overall(over_annotators(ratings, len(table), "mean"), made).tolist()


@unhurried
@given(
    tables(),
    st.sampled_from(["mean", "weighted-mean", "sum", "normalised"]),
    st.lists(st.integers(1, 5), min_size=9, max_size=9),
    st.sampled_from([Fraction(1, 2), Fraction(1), Fraction(1, 3), Fraction(2, 7), Fraction(1, 9)]),
)
def test_the_pairs_at_a_threshold_are_those_of_exact_fractions(
    table: Table, how: Aggregate, weights: list[int], threshold: Fraction
):
    weights = weights[: len(table[0][0])]
    totals = exact(table, how, weights)
    expected = {(a, b) for a, b in permutations(range(len(table)), 2) if totals[a] - totals[b] >= threshold}
    made = rubric(*NAMES[: len(weights)], aggregate=how, weights=weights)
    assert pairs(as_floats(table, made), min_gap=float(threshold)) == expected


@unhurried
@given(tables(), st.data())
def test_a_threshold_that_is_just_the_gap_of_two_responses_takes_them(table: Table, data: st.DataObject):
    """Where bare floats go wrong: the threshold is itself a gap that occurs."""
    totals = exact(table, "mean", [])
    gaps = sorted({abs(a - b) for a, b in combinations(totals, 2)})
    threshold = data.draw(st.sampled_from(gaps))
    expected = {
        (a, b)
        for a, b in permutations(range(len(table)), 2)
        if totals[a] > totals[b] and totals[a] - totals[b] >= threshold
    }
    made = rubric(*NAMES[: len(table[0][0])])
    assert pairs(as_floats(table, made), min_gap=float(threshold)) == expected


def test_a_gap_of_just_one_is_a_pair_where_bare_floats_fall_short():
    """Sums of 16 and 9 over seven principles: 16/7 - 9/7 is 1, and less than 1 in floats."""
    better, worse = [3, 3, 2, 2, 2, 2, 2], [2, 2, 1, 1, 1, 1, 1]
    assert (sum(better), sum(worse)) == (16, 9) and 16 / 7 - 9 / 7 < 1
    assert pairs([16 / 7, 9 / 7], min_gap=1.0) == {(0, 1)}
    made = rubric(*"abcdefg")
    totals = overall(np.asarray([better, worse], dtype=np.float64), made)
    assert pairs(totals.tolist(), min_gap=1.0) == {(0, 1)}


def test_a_gap_just_below_the_threshold_is_no_pair():
    """Four principles, halves: sums of 15.5 and 12 have a gap of 3.5/4 = 0.875."""
    assert pairs([15.5 / 4, 12 / 4], min_gap=0.9) == set()
    assert pairs([15.5 / 4, 12 / 4], min_gap=0.875) == {(0, 1)}


# --- strategies ------------------------------------------------------------------------------------------------------


@st.composite
def grids(draw: st.DrawFn) -> tuple[list[float | None], list[int]]:
    """Scores of responses to up to four prompts, with many ties, some unrated, prompts interleaved."""
    size = draw(st.integers(0, 12))
    scores = draw(st.lists(st.sampled_from([None, 1.0, 1.5, 2.0, 3.0, 3.5, 5.0]), min_size=size, max_size=size))
    prompts = draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
    return scores, prompts


def searched(
    scores: list[float | None], prompts: list[int], strategy: str, min_gap: float, top: int
) -> Iterator[tuple[int, int]]:
    """The same pairs by looking at all of them; of equal responses the earlier one goes first."""
    for prompt in set(prompts):
        rated = [place for place, score in enumerate(scores) if prompts[place] == prompt and score is not None]
        if not rated:
            continue
        from_best = sorted(rated, key=lambda place: (-scores[place], place))
        worst = min(rated, key=lambda place: (scores[place], place))
        possible = {
            "gap": permutations(rated, 2),
            "all": permutations(rated, 2),
            "best-worst": [(from_best[0], worst)],
            "top-k": product(from_best[:top], from_best[top:]),
        }[strategy]
        for a, b in possible:
            if scores[a] > scores[b] and scores[a] - scores[b] >= min_gap:
                yield a, b


@pytest.mark.parametrize("strategy", STRATEGIES)
@unhurried
@given(grid=grids(), min_gap=st.sampled_from([0.0, 0.5, 1.0, 2.0]), top=st.integers(1, 3))
def test_a_strategy_finds_what_a_search_through_all_pairs_finds(strategy, grid, min_gap, top):
    found = pairs(*grid, strategy=strategy, min_gap=min_gap, top=top)
    assert found == set(searched(*grid, strategy, min_gap, top))


@pytest.mark.parametrize("strategy", STRATEGIES)
@unhurried
@given(grid=grids(), min_gap=st.sampled_from([0.0, 0.5, 1.0]))
def test_chosen_is_rated_above_rejected_and_answers_the_same_prompt(strategy, grid, min_gap):
    scores, prompts = grid
    for a, b in pairs(*grid, strategy=strategy, min_gap=min_gap, top=2):
        assert scores[a] > scores[b]
        assert prompts[a] == prompts[b]


@pytest.mark.parametrize("strategy", ["gap", "all"])
@unhurried
@given(grid=grids(), data=st.data())
def test_the_order_of_responses_changes_nothing_but_the_order_of_pairs(strategy, grid, data):
    scores, prompts = grid
    new = data.draw(st.permutations(range(len(scores))))
    swapped = pairs([scores[old] for old in new], [prompts[old] for old in new], strategy=strategy, min_gap=0.5)
    assert {(new[a], new[b]) for a, b in swapped} == pairs(*grid, strategy=strategy, min_gap=0.5)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("equal", [3.0, 2.7, 10 / 3])
def test_equal_scores_are_never_a_pair(strategy: str, equal: float):
    assert pairs([equal, equal, equal], strategy=strategy, min_gap=0.0) == set()


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_scores_that_differ_by_the_rounding_of_floats_are_equal(strategy: str):
    """0.1 + 0.2 is 0.30000000000000004."""
    assert pairs([0.3, 0.1 + 0.2], strategy=strategy, min_gap=0.0) == set()


@pytest.mark.parametrize("strategy", ["best-worst", "top-k"])
def test_the_rounding_of_floats_does_not_say_which_of_two_equal_responses_is_the_best(strategy: str):
    assert pairs([0.3, 0.1 + 0.2, 0.0], strategy=strategy, min_gap=0.0) >= {(0, 2)}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_response_that_nobody_rated_is_in_no_pair(strategy: str):
    assert pairs([None, 5.0, 1.0], strategy=strategy, min_gap=0.0) == {(1, 2)}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_blocks_of_prompts_have_no_seam(strategy: str, monkeypatch: pytest.MonkeyPatch):
    scores = [float(score) for score in (5, 1, 3, 4, 2, 2, 5, 1, 4, 3, 3, 5)]
    prompts = [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    whole = pairs(scores, prompts, strategy=strategy, min_gap=1.0)
    monkeypatch.setattr("prefkit.pairs.select.BLOCK", 3)
    assert pairs(scores, prompts, strategy=strategy, min_gap=1.0) == whole != set()


def test_pairs_come_prompt_by_prompt():
    """Though prompts with fewer responses are worked through first."""
    prompts = np.asarray([1, 0, 0, 1, 0, 2])
    found = select(np.asarray([1.0, 5.0, 1.0, 5.0, 3.0, 3.0]), prompts, "gap", 1.0)
    assert prompts[found.chosen].tolist() == [0, 0, 0, 1]


# --- the strongest of a prompt ---------------------------------------------------------------------------------------


@unhurried
@given(grids(), st.integers(1, 4))
def test_a_cap_keeps_the_largest_gaps_of_each_prompt(grid, most):
    scores, prompts = grid
    found = sorted(pairs(*grid, min_gap=0.5))
    at = Candidates.preferred(
        np.asarray([a for a, _ in found], dtype=np.int64), np.asarray([b for _, b in found], dtype=np.int64)
    )
    gaps = [scores[a] - scores[b] for a, b in found]
    kept = strongest(at, np.asarray(gaps, dtype=np.float64), np.asarray(prompts, dtype=np.int64), most).tolist()
    expected = set()
    for prompt in set(prompts):
        its = [row for row, (a, _) in enumerate(found) if prompts[a] == prompt]
        expected |= set(sorted(its, key=lambda row: (-gaps[row], row))[:most])
    assert {row for row, keep in enumerate(kept) if keep} == expected
