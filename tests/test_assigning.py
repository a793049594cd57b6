"""Dealing policies to prompts: equally often, never twice, the same again whatever happens later."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.generating.assigning import hands

TWENTY = [f"policy-{number:02}" for number in range(20)]


def dealt(policies: list[str], size: int, seed: int, prompts: int) -> list[tuple[str, ...]]:
    return list(itertools.islice(hands(policies, size, seed), prompts))


sizes = st.integers(1, 9).flatmap(lambda policies: st.tuples(st.just(policies), st.integers(1, policies)))


@given(sizes, st.integers(), st.integers(0, 60))
def test_every_policy_is_used_equally_often_to_within_one_after_any_number_of_prompts(numbers, seed, prompts):
    policies, size = numbers
    used = Counter(dict.fromkeys(TWENTY[:policies], 0))
    for hand in dealt(TWENTY[:policies], size, seed, prompts):
        used.update(hand)
        assert max(used.values()) - min(used.values()) <= 1


@given(sizes, st.integers(), st.integers(0, 60))
def test_no_policy_answers_a_prompt_twice_and_every_prompt_gets_as_many_as_asked(numbers, seed, prompts):
    policies, size = numbers
    assert all(len(set(hand)) == len(hand) == size for hand in dealt(TWENTY[:policies], size, seed, prompts))


def test_prompts_added_later_change_no_earlier_hand():
    assert dealt(TWENTY, 4, 7, 1000)[:300] == dealt(TWENTY, 4, 7, 300)


def test_the_order_in_which_the_policies_are_named_makes_no_difference():
    named = TWENTY.copy()
    random.Random(1).shuffle(named)
    assert dealt(named, 3, 0, 50) == dealt(TWENTY, 3, 0, 50)


def test_another_seed_deals_other_hands():
    assert dealt(TWENTY, 4, 0, 50) != dealt(TWENTY, 4, 1, 50)


def test_the_hands_of_a_seed_are_these():
    """A later version that deals otherwise would ask more policies about the prompts of a run that goes on."""
    assert ["".join(hand) for hand in dealt(list("abcde"), 2, 0, 5)] == ["dc", "eb", "ac", "ad", "eb"]


@pytest.mark.parametrize(("policies", "size"), [(20, 4), (5, 2), (6, 4), (7, 3)])
def test_any_two_policies_meet_about_equally_often(policies, size):
    """Within five standard deviations of a Poisson count over 6,000 prompts."""
    meetings = Counter[tuple[str, ...]]()
    for hand in dealt(TWENTY[:policies], size, 3, 6000):
        meetings.update(itertools.combinations(sorted(hand), 2))
    pairs = policies * (policies - 1) // 2
    mean = 6000 * size * (size - 1) / 2 / pairs
    assert len(meetings) == pairs
    assert all(abs(count - mean) < 5 * mean**0.5 for count in meetings.values())


@pytest.mark.parametrize("size", [0, 21])
def test_a_hand_that_cannot_be_dealt_is_refused(size):
    with pytest.raises(ValueError, match=f"a hand of {size} cannot be dealt from 20 policies"):
        next(hands(TWENTY, size, 0))
