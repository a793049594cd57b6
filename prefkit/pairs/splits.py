"""Which prompts go to train, validation and test.

A split is by prompt, and prompts that are near-duplicates of each other stay on one side. scikit-learn's group splitter
draws them with a seed; a test set then holds what the training set has never seen, not the same client in other words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from prefkit.errors import RunError
from prefkit.near_duplicates import near_duplicate_groups
from prefkit.pairs.collect import Ints
from prefkit.pairs.settings import PairSettings

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)


def split_prompts(texts: Sequence[str], settings: PairSettings) -> tuple[npt.NDArray[np.int8], Ints]:
    """A split for each prompt, and its group of near-duplicates.

    Returns:
        ([n_prompts] 0 train, 1 validation, 2 test; [n_prompts] index of the first prompt of its group).

    Raises:
        RunError: there are too few prompts for the sizes asked for.
    """
    groups = near_duplicate_groups(texts, threshold=settings.near_duplicates, seed=0)
    split = np.full(len(texts), TRAIN, dtype=np.int8)
    for part, size in ((TEST, settings.test_size), (VALIDATION, settings.validation_size)):
        if size:
            left = np.flatnonzero(split == TRAIN)
            split[left[_draw(groups[left], size, len(texts), settings.seed, SPLITS[part])]] = part
    return split, groups


def _draw(groups: Ints, size: float, n_prompts: int, seed: int, name: str) -> Ints:
    """Whole groups, about ``size`` prompts of them (a share of ``n_prompts`` below 1)."""
    from sklearn.model_selection import GroupShuffleSplit

    n_groups = len(np.unique(groups))
    wanted = round(size * n_prompts) if size < 1 else int(size)
    share = round(wanted * n_groups / len(groups)) if len(groups) else 0
    if not 1 <= share < n_groups:
        found = f"{n_prompts:,} prompts with pairs, in {n_groups:,} groups of near-duplicates to draw from"
        asked = f"a share of {size:g}" if size < 1 else f"{wanted:,} prompts"
        expected = f"enough for {asked} to be at least one of them and not all"
        remedy = f"Ask for another share or number (--{name}-size), or for none with 0."
        raise RunError(f"the {name} split", found, expected, remedy)
    splitter = GroupShuffleSplit(n_splits=1, test_size=share, random_state=seed)
    _, drawn = next(splitter.split(np.zeros(len(groups)), groups=groups))
    return np.asarray(drawn, dtype=np.int64)
