"""Groups on the disk are those that were put there, however they are looked at."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prefkit.policies.policy_data import Astray
from prefkit.policies.reference import with_reference
from prefkit.records import Message
from prefkit.training.groups import Group, Pair, TokenGroup
from prefkit.training.machine import Machine
from prefkit.training.packing import pack, read_tokens, shortest
from prefkit.training.token_store import StoredGroups, sizes, stored


def made_up(number: int, *, two_types: bool = False) -> TokenGroup:
    draw = np.random.default_rng(number)
    pair = Pair(id=f"{number}", chosen=0, rejected=1, weight=0.5 + number, gaps={"empathy": 1.5, "safety": None})
    group = Group(
        prompt_id=f"p{number}",
        messages=(Message(role="user", content="Grüße " * number),),
        response_ids=("a", "b"),
        texts=(),
        policies=("wren", "lark"),
        pairs=(pair,) if number else (),
        topic="sleep" if number % 2 else None,
    )
    ids = [draw.integers(0, 250, size, dtype=np.int32) for size in (number, 12 + number, 3)]
    return TokenGroup(group, ids[0], (ids[1], ids[2]), two_types)


def same(one: TokenGroup, other: TokenGroup) -> bool:
    ids = zip((one.prompt, *one.responses), (other.prompt, *other.responses), strict=True)
    alike = all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in ids)
    return alike and (one.group, one.two_types) == (other.group, other.two_types)


@pytest.fixture
def groups() -> list[TokenGroup]:
    return [made_up(number, two_types=number == 3) for number in range(6)]


def test_groups_come_back_in_any_order_and_in_another_process(tmp_path: Path, groups: list[TokenGroup]):
    found = pickle.loads(pickle.dumps(stored(iter(groups), tmp_path / "train")))
    assert isinstance(found, StoredGroups)
    assert len(found) == 6
    assert all(map(same, found, groups))
    assert same(found[-1], groups[5]) and same(found[2:4][1], groups[3])
    with pytest.raises(IndexError):
        found[6]


def test_sizes_are_known_without_reading_and_are_those_of_the_groups(tmp_path: Path, groups: list[TokenGroup]):
    found, expected = stored(groups, tmp_path / "train").sizes(), sizes(groups)
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))
    assert expected.tokens.tolist() == [group.tokens for group in groups]
    assert expected.weight.tolist() == [0, 1.5, 2.5, 3.5, 4.5, 5.5]


def test_what_was_there_before_is_gone_and_nothing_can_be_stored(tmp_path: Path, groups: list[TokenGroup]):
    stored(groups, tmp_path / "train")
    assert list(stored([], tmp_path / "train")) == []


def test_tokens_read_are_those_of_the_row_where_responses_begin_alike(groups: list[TokenGroup]):
    twice = TokenGroup(groups[4].group, groups[4].prompt, (groups[4].responses[0],) * 2)
    longer = np.concatenate((groups[5].responses[0], groups[5].responses[1]))
    prefix = TokenGroup(groups[5].group, groups[5].prompt, (groups[5].responses[0], longer))
    for group in (*groups, twice, prefix):
        assert read_tokens(group) == pack([group]).tokens
    assert read_tokens(twice) == twice.tokens - len(twice.responses[0])


def test_a_filler_costs_a_token_of_each_text():
    group = made_up(5)
    row = pack([shortest(group)]).without_weight()
    assert row.tokens <= 4 and row.pairs == 1 and float(row.weight.sum()) == 0


def test_the_reference_is_asked_once_a_piece_at_a_time_and_lies_beside_its_group(
    tmp_path: Path, groups: list[TokenGroup], monkeypatch: pytest.MonkeyPatch
):
    from prefkit.policies import reference

    monkeypatch.setattr(reference, "PIECE", 4)
    asked: list[int] = []

    def read(some: Any) -> list[Any]:
        asked.append(len(some))
        return [np.concatenate(group.responses).astype(np.float32) / 7 for group in some]

    on_disk = stored(groups, tmp_path / "train")
    for _ in range(2):
        found = with_reference(on_disk, tmp_path / "cache" / "said.npy", read, Machine(), tmp_path)
        for one in found:
            assert np.array_equal(one.reference, np.concatenate(one.responses).astype(np.float32) / 7)
    assert asked == [4, 2]
    assert np.array_equal(found.sizes().tokens, on_disk.sizes().tokens)


def test_a_reference_of_other_groups_is_asked_anew(tmp_path: Path, groups: list[TokenGroup]):
    def read(some: Any) -> list[Any]:
        return [np.zeros(sum(map(len, group.responses)), np.float32) for group in some]

    with_reference(groups, tmp_path / "said.npy", read, Machine(), tmp_path)
    assert len(with_reference(groups[:2], tmp_path / "said.npy", read, Machine(), tmp_path)) == 2
    assert len(np.load(tmp_path / "said.npy")) == sum(len(ids) for group in groups[:2] for ids in group.responses)


def test_astray_is_each_prompt_with_a_response_to_the_next(groups: list[TokenGroup]):
    found = Astray(groups)
    assert [np.array_equal(found[place].prompt, groups[place].prompt) for place in range(6)] == [True] * 6
    assert np.array_equal(found[1].responses[0], groups[2].responses[1])
    assert np.array_equal(found[5].responses[0], groups[0].responses[1])
