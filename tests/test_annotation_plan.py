"""Who is asked what, in which order, and what stands left."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefkit.annotation.plan import GAP, Asked, Place, PlanSettings, Stamp, dealt, flips, items, plan, words_digest
from prefkit.records import Message, Prompt

POLICIES = ("A", "B", "C", "D")


def case(number: int, one: str = "A", other: str = "B") -> Asked:
    return Asked(f"p{number}", (f"p{number}/{one}", f"p{number}/{other}"), (one, other))


def cases(count: int, seed: int = 0, policies: tuple[str, ...] = POLICIES) -> list[Asked]:
    draw = random.Random(seed)
    return [case(number, *draw.sample(policies, 2)) for number in range(count)]


def known(number: int) -> Asked:
    return Asked(f"known{number}", (f"known{number}/good", f"known{number}/bad"), ("good", "bad"), "attention")


def planned(of: list[Asked], decks: int, attention: int = 0, **chosen: float) -> list[list[Place]]:
    given_to_each = [[known(number) for number in range(attention)] for _ in range(decks)]
    return plan(of, given_to_each, PlanSettings(**chosen))  # type: ignore[arg-type]


@st.composite
def plans(draw: st.DrawFn) -> tuple[list[Asked], list[list[Place]], PlanSettings]:
    decks = draw(st.integers(1, 7))
    how = PlanSettings(
        overlap=draw(st.integers(1, decks)),
        shared=draw(st.sampled_from((0.0, 0.1, 0.5, 1.0))),
        repeats=draw(st.sampled_from((0.0, 0.05, 0.3))),
        ranked=draw(st.booleans()),
        seed=draw(st.integers(0, 1000)),
    )
    of = cases(draw(st.integers(0, 90)), draw(st.integers(0, 1000)))
    attention = [[known(number) for number in range(draw(st.integers(0, 4)))] for _ in range(decks)]
    return of, plan(of, attention, how), how


def own(deck: list[Place]) -> list[Place]:
    return [place for place in deck if place.kind == "item"]


@settings(max_examples=60, deadline=None)
@given(plans())
def test_each_case_goes_to_as_many_decks_as_wanted_and_loads_differ_by_one(
    made: tuple[list[Asked], list[list[Place]], PlanSettings],
) -> None:
    of, decks, how = made
    times = Counter(place.asked.prompt_id for deck in decks for place in own(deck))
    to_all = sum(count == len(decks) for count in times.values())
    assert set(times.values()) <= {how.overlap, len(decks)} and len(times) == len(of)
    if how.overlap < len(decks):
        assert to_all == round(how.shared * len(of))
    loads = [len(own(deck)) for deck in decks]
    assert max(loads) - min(loads) <= 1
    assert all(len({place.asked for place in own(deck)}) == len(own(deck)) for deck in decks)


@pytest.mark.parametrize(("decks", "overlap"), [(3, 2), (4, 2), (5, 2), (5, 3), (7, 3), (8, 2), (10, 4)])
def test_any_two_annotators_share_about_as_many_cases_as_any_other_two(decks: int, overlap: int) -> None:
    """300 cases: the mean is 300 * overlap * (overlap - 1) / (decks * (decks - 1)); all are within 2 of it."""
    hands = dealt([frozenset()] * 300, decks, overlap, random.Random(1))
    met = [sum({one, other} <= set(hand) for hand in hands) for one, other in itertools.combinations(range(decks), 2)]
    mean = 300 * overlap * (overlap - 1) / (decks * (decks - 1))
    assert all(abs(times - mean) <= 2 for times in met)


@settings(max_examples=60, deadline=None)
@given(plans())
def test_in_each_deck_each_policy_stands_left_in_half_of_its_cases(
    made: tuple[list[Asked], list[list[Place]], PlanSettings],
) -> None:
    _, decks, _ = made
    for deck in decks:
        left = Counter(place.left.partition("/")[2] for place in own(deck))
        right = Counter((place.right or "").partition("/")[2] for place in own(deck))
        assert all(abs(left[policy] - right[policy]) <= 1 for policy in POLICIES)


def test_two_samples_of_one_policy_take_turns_on_the_left() -> None:
    of = [Asked(f"p{n}", (f"p{n}/one", f"p{n}/two"), ("A", "A")) for n in range(21)]
    [deck] = planned(of, 1)
    assert sum(place.flipped for place in deck) in (10, 11)


def test_a_side_by_itself_is_a_coin_toss() -> None:
    """With 400 seeds a fair coin falls between 160 and 240 times in all but one of 15,000 trials."""
    pairs = [("A", "B"), ("B", "C"), ("C", "A"), ("A", "B"), ("A", "D")]
    tosses = [flips(pairs, random.Random(seed)) for seed in range(400)]
    assert all(160 < sum(toss[number] for toss in tosses) < 240 for number in range(len(pairs)))


def test_sides_differ_from_deck_to_deck() -> None:
    one, other = planned(cases(40), 2, overlap=2)
    sides = {place.asked.prompt_id: place.flipped for place in one}
    assert 5 < sum(sides[place.asked.prompt_id] != place.flipped for place in other) < 35


@settings(max_examples=60, deadline=None)
@given(plans())
def test_a_repeat_comes_later_with_the_sides_swapped(
    made: tuple[list[Asked], list[list[Place]], PlanSettings],
) -> None:
    _, decks, how = made
    for deck in decks:
        first = {place.asked: (number, place) for number, place in enumerate(deck) if place.kind == "item"}
        repeats = [(number, place) for number, place in enumerate(deck) if place.sample]
        for number, place in repeats:
            earlier, same = first[place.asked]
            assert number - earlier >= GAP and (place.left, place.right) == (same.right, same.left)
        size = len(own(deck))
        assert len(repeats) == min(round(how.repeats * size), max(0, size - GAP + 1))
        assert len({place.asked for _, place in repeats}) == len(repeats)


@settings(max_examples=60, deadline=None)
@given(plans())
def test_no_attention_item_comes_first_and_its_known_side_is_told(
    made: tuple[list[Asked], list[list[Place]], PlanSettings],
) -> None:
    _, decks, _ = made
    for deck in decks:
        those = [place for place in deck if place.kind == "attention"]
        assert not own(deck) or deck[0].kind == "item"
        sides = {"left": [place.left for place in those], "right": [place.right or "" for place in those]}
        good = [sides[str(place.expected)][number] for number, place in enumerate(those)]
        assert good == [f"{place.asked.prompt_id}/good" for place in those]
        assert abs(sum(place.expected == "left" for place in those) * 2 - len(those)) <= 1


def test_attention_items_are_spread_over_the_deck() -> None:
    """One in each quarter of forty cases."""
    [deck] = planned(cases(40), 1, attention=4)
    at = [number for number, place in enumerate(deck) if place.kind == "attention"]
    assert all(11 * part < place + 1 <= 11 * part + 12 for part, place in enumerate(at))


def test_what_helps_most_comes_first_and_what_all_share_comes_early() -> None:
    decks = planned(cases(60), 3, overlap=1, shared=0.1, ranked=True)
    shared = set.intersection(*({place.asked.prompt_id for place in deck} for deck in decks))
    for deck in decks:
        names = [place.asked.prompt_id for place in deck]
        ranks = [int(name[1:]) for name in names if name not in shared]
        assert ranks == sorted(ranks)
        assert set(names[:11:2]) == shared


def test_without_a_ranking_each_annotator_has_an_order_of_their_own() -> None:
    one, other = planned(cases(30), 2, overlap=2)
    assert [place.asked for place in one] != [place.asked for place in other]


def test_the_same_seed_gives_the_same_plan_and_another_seed_another() -> None:
    chosen = {"overlap": 2, "shared": 0.2, "repeats": 0.1}
    assert planned(cases(50), 3, 2, seed=4, **chosen) == planned(cases(50), 3, 2, seed=4, **chosen)
    assert planned(cases(50), 3, 2, seed=4, **chosen) != planned(cases(50), 3, 2, seed=5, **chosen)


def test_a_single_response_has_no_other_side() -> None:
    [deck] = planned([Asked("p1", ("p1/A",), ("A",))], 1)
    assert [(place.left, place.right, place.expected) for place in deck] == [("p1/A", None, None)]


def test_more_annotators_than_decks_is_an_error() -> None:
    with pytest.raises(ValueError, match="an overlap of 3 with 2 decks"):
        planned(cases(3), 2, overlap=3)


def stamped(deck: list[Place], name: str = "run-1", secret: bytes = b"one") -> list[str]:
    stamp = Stamp(mode="compare", rubric="r", form="f", secret=secret, words=lambda *ids: "w")
    return [item.id for item in items(deck, name, 0, stamp)]


def test_an_items_id_is_its_own_and_needs_the_secret() -> None:
    [deck] = planned(cases(50), 1, 3, repeats=0.2)
    ids = stamped(deck)
    assert len(set(ids)) == len(deck) and ids == stamped(deck)
    assert not set(ids) & {*stamped(deck, name="run-2"), *stamped(deck, secret=b"another")}


def test_a_deck_goes_on_counting_where_it_stood() -> None:
    [deck] = planned(cases(3), 1)
    stamp = Stamp(mode="compare", rubric="r", form="f", secret=b"s", words=lambda *ids: "w")
    assert [item.number for item in items(deck, "d", 7, stamp)] == [7, 8, 9]


def test_the_digest_of_words_is_of_all_words_in_their_order() -> None:
    def prompt(*said: str) -> Prompt:
        return Prompt(id="p", messages=tuple(Message(role="user", content=one) for one in said))

    digests = [
        words_digest(prompt("Hello"), "yes", "no"),
        words_digest(prompt("Hello"), "no", "yes"),
        words_digest(prompt("Hello", "you"), "yes", "no"),
        words_digest(prompt("Hello"), "yes", None),
    ]
    assert len(set(digests)) == 4
