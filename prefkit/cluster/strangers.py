"""Prompts that records name and the run does not hold: they have numbers too, behind those of the run's prompts."""

from __future__ import annotations

import numpy as np

from prefkit.cluster.by_prompt import Keys, Numbers


def strangers(numbers: Numbers, named: Keys) -> Keys:
    """Which of the prompts named are not the run's, each once.

    Args:
        numbers: of the run's prompts.
        named: digests of ids, in any order.
    """
    return np.setdiff1d(named, numbers.keys)


def with_strangers(numbers: Numbers, unknown: Keys) -> Numbers:
    """The numbers of the run's prompts, and of some more, in their order."""
    keys = np.concatenate([numbers.keys, unknown])
    places = np.concatenate([numbers.numbers, len(numbers.keys) + np.arange(len(unknown))])
    order = np.argsort(keys, kind="stable")
    return Numbers(keys[order], places[order])
