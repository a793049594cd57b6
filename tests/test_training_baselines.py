"""What any reward model has to beat, and scoring what a scorer never saw."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pytest

from prefkit.errors import PrefkitError
from prefkit.records import Message
from prefkit.training.baselines import (
    BASELINES,
    BagOfWords,
    LengthOnly,
    PolicyIdentity,
    cross_validated,
    policies_left_out,
)
from prefkit.training.groups import Group, Pair, Rewards
from prefkit.training.linear import PairTable, fit_weights, log_loss, prompt_folds, search, temperature

SPEECHES = (
    "my brother took the car again",
    "work leaves me without any sleep",
    "nobody came to the birthday party",
    "the exam on monday frightens me",
    "we argue about money every evening",
    "since the move i know no one here",
    "her letter arrived after ten years",
    "panic grips me on crowded trains",
    "our dog died and i cannot stop crying",
    "i drink more than anyone knows",
)


def group(number: int, texts: Sequence[str], policies: Sequence[str], pairs: Sequence[tuple[int, int]]) -> Group:
    speech = SPEECHES[number] if number < len(SPEECHES) else f"speech {number} about {number * 7919} other things"
    return Group(
        prompt_id=f"p{number}",
        messages=(Message(role="user", content=speech),),
        response_ids=tuple(f"p{number}-{place}" for place in range(len(texts))),
        texts=tuple(texts),
        policies=tuple(policies),
        pairs=tuple(Pair(id=f"p{number}:{a}>{b}", chosen=a, rejected=b) for a, b in pairs),
    )


def table(chosen: Sequence[int], rejected: Sequence[int], preferred: Sequence[float], rows: int) -> PairTable:
    n = len(chosen)
    return PairTable(
        np.array(chosen), np.array(rejected), np.array(preferred, float), np.ones(n), np.arange(n), rows=rows
    )


# --- the regression ---------------------------------------------------------------------------------------------------


def test_two_wins_and_a_loss_give_log_odds_of_two_to_one():
    """Hardly shrunk, P(0 beats 1) = 2/3, so the weight of the difference 1 is ln 2."""
    weights = fit_weights(np.array([[1.0], [0.0]]), table([0, 0, 1], [1, 1, 0], [1, 1, 1], rows=2), shrinkage=1e6)
    assert weights == pytest.approx([math.log(2)], abs=1e-3)


def test_a_soft_label_is_so_much_of_a_win_and_the_rest_of_a_loss():
    soft = fit_weights(np.array([[1.0], [0.0]]), table([0, 0], [1, 1], [0.9, 0.9], rows=2), shrinkage=1e6)
    assert soft == pytest.approx([math.log(9)], abs=1e-2)


def test_a_tie_pulls_two_rewards_together():
    x = np.array([[1.0], [0.0]])
    assert fit_weights(x, table([0, 0], [1, 1], [0.5, 0.5], rows=2), shrinkage=1e3) == pytest.approx([0], abs=1e-3)


def test_a_pair_of_weight_three_counts_as_three_pairs():
    x = np.array([[1.0], [0.0]])
    three = replace(table([0, 1], [1, 0], [1, 1], rows=2), weight=np.array([3.0, 1.0]))
    assert fit_weights(x, three, shrinkage=1e6) == pytest.approx([math.log(3)], abs=1e-3)


def test_the_order_of_the_pairs_changes_nothing():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    chosen, rejected = rng.integers(0, 20, 30), rng.integers(20, 40, 30)
    pairs = table(chosen, rejected, rng.choice([1.0, 0.75], 30), rows=40)
    turned = table(chosen[::-1], rejected[::-1], pairs.preferred[::-1], rows=40)
    assert fit_weights(x, pairs, 1.0) == pytest.approx(fit_weights(x, turned, 1.0), abs=1e-3)


def test_one_pair_is_enough_to_fit():
    assert fit_weights(np.array([[1.0], [0.0]]), table([0], [1], [1], rows=2), shrinkage=1.0)[0] > 0


def test_known_rewards_are_found_again():
    rng = np.random.default_rng(1)
    x, truth = rng.normal(size=(400, 4)), np.array([1.0, -2.0, 0.0, 0.5])
    one, other = rng.integers(0, 400, 4000), rng.integers(0, 400, 4000)
    wins = rng.random(4000) < 1 / (1 + np.exp(-(x[one] - x[other]) @ truth))
    pairs = table(np.where(wins, one, other), np.where(wins, other, one), np.ones(4000), rows=400)
    assert fit_weights(x, pairs, shrinkage=100.0) == pytest.approx(truth, abs=0.15)


@pytest.mark.parametrize(
    ("field", "values", "found"),
    [
        ("weight", [1.0, math.nan], "a pair's weight: found nan"),
        ("weight", [1.0, -2.0], "a pair's weight: found -2"),
        ("weight", [0.0, 0.0], "found only zeros"),
        ("preferred", [1.0, math.nan], "a pair's preferred: found nan"),
    ],
)
def test_a_weight_that_is_no_number_is_one_message(field, values, found):
    pairs = replace(table([0, 1], [1, 0], [1, 1], rows=2), **{field: np.array(values)})
    with pytest.raises(PrefkitError, match=found):
        fit_weights(np.eye(2), pairs, 1.0)


def test_no_pairs_are_one_message():
    with pytest.raises(PrefkitError, match="training pairs: found none"):
        LengthOnly.fitted([group(0, ["a", "b"], "AB", [])])


def test_log_loss_by_hand():
    """A margin of 2 and one of 0: (ln(1 + e^-2) + ln 2) / 2."""
    by_hand = (math.log(1 + math.exp(-2)) + math.log(2)) / 2
    assert log_loss(np.array([2.0, 0.0]), table([0, 0], [1, 1], [1, 1], rows=2)) == pytest.approx(by_hand)


def test_margins_three_times_too_large_have_the_temperature_three():
    """Of pairs with the margin 3 as many are won as a margin of 1 says."""
    won = 1 / (1 + math.exp(-1))
    pairs = table([0, 0], [1, 1], [won, won], rows=2)
    assert temperature(np.array([3.0, 3.0]), pairs) == pytest.approx(3, rel=0.01)


def test_the_search_takes_the_description_that_tells_the_pairs_apart():
    rng = np.random.default_rng(2)
    quality, noise = rng.normal(size=(80, 1)), rng.normal(size=(80, 1))
    better = np.where(quality[:40, 0] > quality[40:, 0], np.arange(40), np.arange(40, 80))
    pairs = table(better, (better + 40) % 80, np.ones(40), rows=80)
    found = search(["noise", "quality"], {"noise": noise, "quality": quality}.__getitem__, pairs, np.arange(40) % 5)
    assert found.key == "quality"
    assert (found.margins > 0).all()
    assert found.losses["quality", found.shrinkage] == min(found.losses.values())


# --- folds -----------------------------------------------------------------------------------------------------------


def test_prompts_in_nearly_the_same_words_are_in_one_fold():
    groups = [group(number, ["a", "b"], "AB", [(0, 1)]) for number in range(10)]
    groups += [
        replace(one, messages=(Message(role="user", content=f"{one.messages[0].content} today"),)) for one in groups
    ]
    folds = prompt_folds(groups, 5, seed=3)
    assert (folds[:10] == folds[10:]).all()
    assert np.bincount(folds).tolist() == [4, 4, 4, 4, 4]


def test_fewer_prompts_than_folds_are_one_message():
    groups = [group(0, ["a", "b"], "AB", [(0, 1)])] * 9
    with pytest.raises(PrefkitError, match="found 1 different prompts; expected at least 5"):
        prompt_folds(groups, 5)


# --- the baselines ---------------------------------------------------------------------------------------------------


def accuracy(scorer, groups: Sequence[Group]) -> float:
    right = [
        reward[pair.chosen, 0] > reward[pair.rejected, 0]
        for one, reward in zip(groups, scorer.rewards(groups), strict=True)
        for pair in one.pairs
    ]
    return float(np.mean(right))


def test_length_only_learns_that_longer_is_better_or_that_shorter_is():
    longer = [group(n, ["x" * (5 + n), "x" * (50 + n)], "AB", [(1, 0)]) for n in range(8)]
    shorter = [replace(one, pairs=(replace(one.pairs[0], chosen=0, rejected=1),)) for one in longer]
    assert accuracy(LengthOnly.fitted(longer), longer) == 1
    assert accuracy(LengthOnly.fitted(shorter), shorter) == 1
    assert accuracy(LengthOnly.fitted(longer), shorter) == 0


def test_a_bag_of_words_learns_which_words_are_liked():
    days = ("today", "now", "today")
    groups = [
        group(n, [f"you could rest {days[n % 2]}", f"just stop it {days[n % 3]}"], "AB", [(0, 1)]) for n in range(10)
    ]
    scorer = BagOfWords.fitted(groups)
    assert accuracy(scorer, groups) == 1
    ((kind, harsh, other),) = scorer.rewards([group(3, ["you could", "just stop", "unheard of"], "AAA", [])])
    assert kind[0] > other[0] > harsh[0]
    assert other[0] == 0


def test_texts_without_a_word_in_common_are_one_message():
    with pytest.raises(PrefkitError, match="bag of words: found 2 texts without a word in common"):
        BagOfWords.fitted([group(0, ["one", "two"], "AB", [(0, 1)])])


def test_policy_identity_knows_who_wrote_and_nothing_else():
    groups = [group(n, ["", "", ""], "ABC", [(0, 1), (1, 2)]) for n in range(6)]
    scorer = PolicyIdentity.fitted(groups)
    assert scorer.strength["A"] > scorer.strength["B"] > scorer.strength["C"]
    (reward,) = scorer.rewards([group(7, ["", ""], ["A", "never seen"], [])])
    assert reward[0, 0] > 0 == reward[1, 0]


# --- cross-validation ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Watching:
    """Remembers what it was fitted on, and gives each response its number as a reward."""

    seen: frozenset[tuple[str, str]]
    asked: list[tuple[frozenset[tuple[str, str]], Group]]
    heads: tuple[str, ...] = ()

    def rewards(self, groups: Iterable[Group]) -> Iterator[Rewards]:
        for one in groups:
            self.asked.append((self.seen, one))
            yield np.arange(len(one.texts), dtype=np.float32)[:, None]


def watched(asked):
    def make(groups: Sequence[Group]) -> Watching:
        seen = frozenset((one.prompt_id, policy) for one in groups for policy in one.policies)
        return Watching(seen, asked)

    return make


def all_pairs(count: int, policies: str) -> list[Group]:
    k = len(policies)
    return [group(n, ["t"] * k, policies, [(b, a) for a in range(k) for b in range(a + 1, k)]) for n in range(count)]


def test_no_pair_is_scored_by_a_model_that_saw_its_prompt():
    asked: list[tuple[frozenset[tuple[str, str]], Group]] = []
    groups = all_pairs(10, "ABC")
    found = cross_validated(watched(asked), groups)
    assert sorted(one.prompt_id for _, one in asked) == sorted(one.prompt_id for one in groups)
    assert all(one.prompt_id not in {prompt for prompt, _ in seen} for seen, one in asked)
    assert all(len(seen) == 8 * 3 for seen, _ in asked)
    assert found.rewards[0].tolist() == [[1, 0], [2, 0], [2, 1]]
    assert found.tally == {"pairs": 30}


def test_with_policies_left_out_each_pair_is_scored_once_by_a_model_that_saw_neither():
    groups = all_pairs(10, "ABCDE")
    calls: list[tuple[frozenset[str], frozenset[str]]] = []

    def make(training: Sequence[Group]) -> Watching:
        calls.append((frozenset(p for one in training for p in one.policies), frozenset(o.prompt_id for o in training)))
        return Watching(frozenset(), [])

    found = cross_validated(make, groups, leave_policies_out=True)
    assert len(calls) == 10 * 5
    assert {policies for policies, _ in calls} == {frozenset(three) for three in combinations("ABCDE", 3)}
    assert not any(np.isnan(rewards).any() for rewards in found.rewards)
    assert found.tally == {"pairs": 10 * 10}


def test_policy_identity_is_at_chance_where_policies_are_left_out():
    groups = all_pairs(10, "ABCD")
    known = cross_validated(BASELINES["policy identity"], groups)
    unknown = cross_validated(BASELINES["policy identity"], groups, leave_policies_out=True)
    assert all((rewards[:, 0] > rewards[:, 1]).all() for rewards in known.rewards)
    assert all((rewards == 0).all() for rewards in unknown.rewards)


def test_many_policies_are_left_out_in_bundles_and_each_pair_still_once():
    groups = all_pairs(5, "ABCDEFG")
    found = cross_validated(watched([]), groups, leave_policies_out=True)
    assert found.tally == {"pairs": 5 * 21}
    assert not any(np.isnan(rewards).any() for rewards in found.rewards)


def test_held_out_prompts_are_scored_by_models_of_the_training_prompts_without_their_policies():
    groups = all_pairs(8, "ABCDE")
    fits = []
    found = policies_left_out(BASELINES["length only"], groups[:6], groups[6:], fitted=lambda: fits.append(1))
    assert len(fits) == 10
    assert [len(rewards) for rewards in found.rewards] == [10, 10]
    assert not np.isnan(np.concatenate(found.rewards)).any()


def test_only_the_pairs_asked_for_are_trained_on_and_all_are_scored():
    groups = [
        replace(one, pairs=tuple(replace(pair, gap=float(gap)) for gap, pair in enumerate(one.pairs)))
        for one in all_pairs(10, "ABC")
    ]
    seen: list[set[float | None]] = []

    def make(training: Sequence[Group]) -> Watching:
        seen.append({pair.gap for one in training for pair in one.pairs})
        return Watching(frozenset(), [])

    found = cross_validated(make, groups, train_on=lambda pair: (pair.gap or 0) >= 1)
    assert seen == [{1.0, 2.0}] * 5
    assert found.tally == {"pairs": 30}


def test_three_policies_are_too_few_to_leave_two_out():
    with pytest.raises(PrefkitError, match="policies: found 3; expected at least four"):
        cross_validated(watched([]), all_pairs(10, "ABC"), leave_policies_out=True)
