"""The tables of ``benchmarks/reward_parts``: what they count."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.reward_parts.frozen import accuracies, unscored
from prefkit.records import Message
from prefkit.training.baselines import cross_validated
from prefkit.training.groups import Group, Pair


class Unreadable:
    """Prefers the longer text, and cannot read any of more than nine letters."""

    heads: tuple[str, ...] = ()

    def rewards(self, groups):
        for group in groups:
            yield np.asarray([[len(text) if len(text) < 10 else math.nan] for text in group.texts], dtype=np.float32)


def test_pairs_that_a_row_could_not_read_are_counted_and_in_no_accuracy():
    """Of twelve prompts two have a response that is too long, one of them in a tie: one pair is missing of eleven."""
    groups = [
        Group(
            prompt_id=str(number),
            messages=(Message(role="user", content=f"Question {number} about {'abcdefghijkl'[number] * 9}"),),
            response_ids=("a", "b"),
            texts=("longer" if number not in (2, 5) else "much too long", "short"),
            policies=("wren", "lark"),
            pairs=(Pair(id=str(number), chosen=0, rejected=1, preferred=0.5 if number == 5 else 1.0, gap=1.0),),
        )
        for number in range(12)
    ]
    found = cross_validated(lambda some: Unreadable(), groups)
    assert unscored(groups, found) == 1
    (figure,) = accuracies(groups, found, (0.0,))
    assert (figure.value, figure.n) == (1.0, 10)
