"""How many calls at a time, and how much may be spent: the arithmetic, against simulated endpoints."""

from __future__ import annotations

import heapq

import pytest

from prefkit.models.budget import Budget, at_most
from prefkit.models.chat import Price, Request, Sampling
from prefkit.models.limits import Throttle
from prefkit.records import Message, Usage


def simulated(throttle: Throttle, seconds: float, *, slots: int, latency: float = 0.05) -> float:
    """Ask a simulated endpoint that works on ``slots`` calls at a time and queues the rest; answers a second over the
    last half of the time."""
    now, ends, free_at, answered = 0.0, [], [0.0] * slots, 0
    while now < seconds:
        while throttle.free(now):
            throttle.begin(now)
            start = max(now, heapq.heappop(free_at))
            heapq.heappush(free_at, start + latency)
            heapq.heappush(ends, start + latency)
        now = heapq.heappop(ends)
        throttle.end()
        throttle.answered(now)
        answered += now > seconds / 2
    return answered / (seconds / 2)


def test_the_limit_grows_to_the_most_while_answers_come_faster():
    throttle = Throttle(256)
    rate = simulated(throttle, 5.0, slots=1000)
    assert throttle.limit == 256
    assert rate == pytest.approx(256 / 0.05, rel=0.05)


def test_the_limit_does_not_grow_where_calls_only_wait_longer():
    throttle = Throttle(1024)
    rate = simulated(throttle, 60.0, slots=16)
    assert throttle.limit <= 64
    assert rate == pytest.approx(16 / 0.05, rel=0.05)


def test_the_limit_never_passes_the_most():
    throttle = Throttle(10)
    simulated(throttle, 2.0, slots=1000)
    assert throttle.limit == 10


def test_a_crowded_endpoint_halves_the_limit_once_a_second_down_to_one_call():
    throttle = Throttle(64)
    throttle.crowded(0.0, None)
    throttle.crowded(0.5, None)
    assert throttle.limit == 32
    for second in range(1, 10):
        throttle.crowded(float(second), None)
    assert throttle.limit == 1
    assert throttle.free(10.0)


def test_after_a_halving_the_limit_grows_again_by_small_steps():
    throttle = Throttle(64)
    throttle.crowded(0.0, None)
    assert throttle.limit == 32
    simulated(throttle, 5.0, slots=1000)
    assert throttle.limit == 64


def test_an_endpoint_that_turns_most_calls_away_is_left_alone_as_long_as_it_asks():
    throttle = Throttle(64)
    for _ in range(20):
        throttle.crowded(0.0, 7.0)
    assert not throttle.free(6.9)
    assert throttle.free(7.0)


def test_one_call_turned_away_among_many_stops_nothing():
    throttle = Throttle(64)
    throttle.crowded(0.0, 7.0)
    assert throttle.free(0.1)


# Budgets

ASKED = Request((Message(role="user", content="é" * 50),), Sampling(max_tokens=10))


def test_a_prompt_is_reserved_at_a_token_a_byte_and_the_whole_reply():
    assert at_most(ASKED, None).tokens >= 100 + 10
    with_schema = Request(ASKED.messages, ASKED.sampling, {"type": "object"})
    assert at_most(with_schema, None).tokens > at_most(ASKED, None).tokens


def test_a_reply_without_a_bound_cannot_be_reserved():
    with pytest.raises(ValueError, match="max_tokens"):
        at_most(Request(ASKED.messages), None)


def test_what_is_reserved_and_what_is_spent_count_together():
    budget = Budget(max_calls=2)
    first, second = budget.reserve(ASKED, None), budget.reserve(ASKED, None)
    assert first and second and budget.reserve(ASKED, None) is None
    budget.settle(first, Usage(prompt=1, completion=1), None)
    assert budget.reserve(ASKED, None) is None
    assert (budget.calls, budget.reserved) == (1, 1)


def test_a_call_that_took_less_than_reserved_leaves_room():
    most = at_most(ASKED, None).tokens
    budget = Budget(max_tokens=most + 5)
    held = budget.reserve(ASKED, None)
    assert held and budget.reserve(ASKED, None) is None
    budget.settle(held, Usage(prompt=3, completion=2), None)
    assert budget.tokens == 5
    assert budget.reserve(ASKED, None) is not None


def test_what_a_lost_call_may_have_taken_counts_as_spent_and_a_refused_one_takes_nothing():
    price = Price(prompt=1e6, completion=1e6)
    budget = Budget(max_cost=1e9)
    lost, refused = budget.reserve(ASKED, price), budget.reserve(ASKED, price)
    assert lost and refused
    budget.settle(lost, None, price, unknown=True)
    budget.settle(refused, None, price)
    assert budget.cost == lost.cost == lost.tokens
    assert budget.reserved_cost == pytest.approx(0)


def test_cached_tokens_have_a_price_of_their_own():
    usage = Usage(prompt=1000, completion=100, cached=600)
    assert Price(prompt=10, completion=20).of(usage) == pytest.approx((1000 * 10 + 100 * 20) / 1e6)
    assert Price(prompt=10, completion=20, cached=1).of(usage) == pytest.approx((400 * 10 + 600 + 100 * 20) / 1e6)
