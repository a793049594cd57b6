"""Optimiser steps: whole groups, about equally many pairs, rows within a budget, equally many for each process."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefkit.training.steps import RowPlan, Steps, in_order, spread

GROUPS = st.lists(st.tuples(st.integers(1, 300), st.integers(1, 12)), min_size=1, max_size=40)


def steps_of(groups: list[tuple[int, int]], per_step: int = 8, budget: int = 256, **more: int) -> Steps:
    tokens, pairs = zip(*groups, strict=True)
    return Steps(tokens, pairs, pairs_per_step=per_step, row_tokens=budget, **more)


@given(GROUPS, st.integers(1, 30), st.integers(0, 5))
def test_an_epoch_holds_every_group_once_and_no_step_is_empty(groups, per_step, epoch):
    steps = steps_of(groups, per_step)
    held = [[place for row in rows for place in row.groups] for rows in steps.epoch(epoch)]
    assert len(held) == len(steps)
    assert all(held)
    assert sorted(place for step in held for place in step) == list(range(len(groups)))


@given(GROUPS, st.integers(1, 30))
def test_every_epoch_has_the_same_number_of_steps(groups, per_step):
    steps = steps_of(groups, per_step)
    assert [sum(1 for _ in steps.epoch(epoch)) for epoch in range(3)] == [len(steps)] * 3


def test_a_step_holds_about_as_many_pairs_as_asked_for():
    rng = np.random.default_rng(0)
    pairs = rng.integers(1, 7, 500)
    steps = Steps(np.full(500, 100), pairs, pairs_per_step=32, row_tokens=1000)
    held = [pairs[steps.groups(0, step)].sum() for step in range(len(steps))]
    assert len(steps) == -(-pairs.sum() // 32)
    assert min(held) >= 32 - 7 and max(held) <= 32 + 7


@given(GROUPS)
def test_rows_stay_within_the_budget_unless_a_group_is_larger_by_itself(groups):
    steps = steps_of(groups, budget=256)
    for row in (row for rows in steps.epoch(0) for row in rows):
        assert sum(groups[place][0] for place in row.groups) <= 256 or len(row.groups) == 1


@given(GROUPS, st.integers(2, 5), st.integers(0, 3))
def test_processes_share_a_step_in_equally_many_rows(groups, processes, epoch):
    alone = steps_of(groups)
    shared = [steps_of(groups, process=process, processes=processes) for process in range(processes)]
    for step in range(len(alone)):
        rows = [steps.rows(epoch, step) for steps in shared]
        assert len({len(of) for of in rows}) == 1
        counted = sorted(place for of in rows for row in of if not row.filler for place in row.groups)
        assert counted == sorted(alone.groups(epoch, step).tolist())


def test_a_row_is_parted_before_a_process_goes_without():
    """Four groups would fit one row; two processes get two each, of 70 and 60 tokens."""
    assert spread([0, 1, 2, 3], np.array([50, 40, 20, 20]), 256, 2) == [[RowPlan((0, 3))], [RowPlan((1, 2))]]


def test_one_group_for_two_processes_leaves_a_filler_without_weight():
    assert spread([0], np.array([50]), 256, 2) == [[RowPlan((0,))], [RowPlan((0,), filler=True)]]


def test_groups_are_exchanged_until_processes_read_alike():
    """Largest first, each to whoever has least, gives 8 + 5 + 5 and 7 + 6 + 1; the best are 16 and 16."""
    sizes = np.array([8, 7, 6, 5, 5, 1])
    shares = spread(list(range(6)), sizes, 100, 2)
    assert sorted(sum(int(sizes[list(row.groups)].sum()) for row in rows) for rows in shares) == [16, 16]


@given(GROUPS, st.integers(2, 5))
def test_no_process_reads_more_than_one_group_above_another(groups, processes):
    tokens = np.array([size for size, _ in groups])
    shares = spread(list(range(len(groups))), tokens, 256, processes)
    read = [sum(int(tokens[list(row.groups)].sum()) for row in rows if not row.filler) for rows in shares]
    assert max(read) - min(read) <= tokens.max()


def test_how_uneven_processes_are_is_known_and_which_batch_would_be_even():
    """Two prompts of 100 tokens for four processes: two of them wait, and the fullest reads twice the mean."""
    steps = Steps([100] * 64, [1] * 64, pairs_per_step=2, row_tokens=1000, processes=4)
    assert steps.unevenness() == pytest.approx(2.0)
    assert steps.even_batch() == 4
    assert Steps([100] * 64, [1] * 64, pairs_per_step=2, row_tokens=1000).unevenness() == 1.0


def test_a_step_is_the_same_whether_or_not_the_ones_before_it_were_made():
    groups = [(10 * (n % 7) + 5, n % 4 + 1) for n in range(60)]
    assert list(steps_of(groups).epoch(1))[4] == steps_of(groups).rows(1, 4)


def test_the_order_changes_with_epoch_and_seed():
    groups = [(10, 1)] * 64
    orders = {tuple(steps_of(groups, seed=seed).groups(epoch, 0)) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4


def test_reading_in_order_covers_every_group():
    rows = in_order([30, 90, 20, 60], 100)
    assert sorted(place for some in rows for row in some for place in row.groups) == [0, 1, 2, 3]


def test_many_groups_are_read_in_order_a_stretch_at_a_time():
    dealt = [list(in_order([10] * 5000, 100, process, 2)) for process in range(2)]
    assert [len(some) for some in dealt] == [3, 3]
    assert all(max(row.groups) < 2048 for some in dealt for row in some[0])
    rows = [row for of in dealt for some in of for row in some if not row.filler]
    assert sorted(place for row in rows for place in row.groups) == list(range(5000))


def test_steps_of_nothing_are_refused():
    with pytest.raises(ValueError, match="not empty"):
        Steps([], [], pairs_per_step=8, row_tokens=256)
