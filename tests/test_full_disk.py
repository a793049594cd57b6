"""A disk that is full while a model is saved: a message, and the same command goes on when there is room.

The system refuses files above a size, which libraries tell as they tell a full disk."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import Outcome
from tiny import tiny_model
from train_cut import pairs_file

WEIGHTS, OPTIMIZER = 50_000, 200_000
"""Bytes that neither the weights of the tiny model nor what the optimiser holds of them fit in, and that these do."""


@contextmanager
def no_room_for_more_than(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [WEIGHTS, OPTIMIZER])
@pytest.mark.parametrize("command", ["train-policy", "train-rm"])
def test_a_training_says_that_the_disk_is_full_and_goes_on_when_it_is_not(
    tmp_path: Path, prefkit: Callable[..., Outcome], command: str, size: int
):
    base, out = tiny_model(tmp_path / "base"), tmp_path / "model"
    pairs = pairs_file(tmp_path / "pairs.jsonl", 4)
    asked = [command, pairs, "--base", base, "--out", out, "--max-steps", 2, "--batch", 4, "--save-steps", 1]
    with no_room_for_more_than(size):
        outcome = prefkit(*asked)
    assert outcome.code == 1
    assert "found no space left on the disk" in outcome.err
    assert not (out / "training.json").exists()
    assert prefkit(*asked).code == 0
    assert (out / "training.json").exists()


def test_an_export_that_the_disk_has_no_room_for_leaves_nothing(tmp_path: Path, prefkit: Callable[..., Outcome]):
    base = tiny_model(tmp_path / "base")
    with no_room_for_more_than(WEIGHTS):
        outcome = prefkit("export", base, "--to", tmp_path / "out")
    assert outcome.code == 1
    assert "found no space left on the disk" in outcome.err
    assert not list(tmp_path.glob("out*"))
