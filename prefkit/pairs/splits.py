"""Which prompts go to train, validation and test.

A split is by prompt, and prompts that are near-duplicates of each other stay on one side. scikit-learn's group splitter
draws them with a seed; a test set then holds what the training set has never seen, not the same client in other words.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from prefkit.errors import RunError
from prefkit.near_duplicates import find_near_duplicate_pairs
from prefkit.pairs.collect import Ints
from prefkit.pairs.settings import PairSettings

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)
SEEDS = (0, 1)
"""With which near-duplicates are looked for: twice, as one search misses a few just at the threshold."""


def split_prompts(texts: Sequence[str], settings: PairSettings) -> tuple[npt.NDArray[np.int8], Ints]:
    """A split for each prompt, and the near-duplicates that were held together.

    Returns:
        ([n_prompts] 0 train, 1 validation, 2 test; [n, 2] near-duplicate prompts that tie each group together).

    Raises:
        RunError: there are too few prompts for the sizes asked for.
    """
    alike = [find_near_duplicate_pairs(texts, threshold=settings.near_duplicates, seed=seed) for seed in SEEDS]
    return split_alike(np.concatenate(alike), len(texts), settings)


def split_alike(pairs: Ints, n_prompts: int, settings: PairSettings) -> tuple[npt.NDArray[np.int8], Ints]:
    """The same, given which prompts are near-duplicates.

    Raises:
        RunError: there are too few prompts for the sizes asked for.
    """
    groups = _tied_together(pairs, n_prompts)
    split = np.full(n_prompts, TRAIN, dtype=np.int8)
    for part, size in ((TEST, settings.test_size), (VALIDATION, settings.validation_size)):
        if size:
            left = np.flatnonzero(split == TRAIN)
            split[left[_draw(groups[left], size, n_prompts, settings.seed, SPLITS[part])]] = part
    return split, np.unique(pairs, axis=0)


def _tied_together(alike: Ints, n_prompts: int) -> Ints:
    """The number of each prompt's group, given pairs of prompts that belong together. [n_prompts]"""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ties = coo_array((np.ones(len(alike), dtype=np.int8), (alike[:, 0], alike[:, 1])), shape=(n_prompts, n_prompts))
    _, groups = connected_components(ties, directed=False)
    return np.asarray(groups, dtype=np.int64)


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
