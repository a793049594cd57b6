"""The pairs of one evaluation: those that are measured on, and those that baselines and heads are fitted on.

Reads   a run, or a file of preferences (``examples.read_groups``)
Gives   Pairs
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from prefkit.training.groups import Group

HELD_OUT, TRAINING, VALIDATION = "test", "train", "validation"


@dataclass(frozen=True)
class Pairs:
    """The groups of one evaluation; ``training`` and ``validation`` are empty where there are none.

    ``left_out`` counts what the held-out groups do not hold of their source, by reason.
    """

    source: str
    split: str | None
    held_out: Iterable[Group]
    training: Sequence[Group] = ()
    validation: Iterable[Group] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)


def read_pairs(source: Path, split: str | None, *, soft: bool = True, plain: bool = False) -> Pairs:
    """The held-out pairs, and the others where the source has splits.

    Args:
        source: a run or a file.
        split: whose pairs are measured on; None for ``test`` of a run, and for all of a file.
        soft: labels are the share of annotators that prefer a side; else what most of them say.
        plain: texts as they stand, without roles.

    Raises:
        PrefkitError: there are none to measure on.
    """
    from prefkit.training.examples import read_groups

    splits = splits_of(source)
    wanted = split or (HELD_OUT if splits else None)
    groups = read_groups(source, wanted, soft=soft, plain=plain)
    others = {
        name: read_groups(source, name, soft=soft, plain=plain)
        for name in (TRAINING, VALIDATION)
        if name in splits and name != wanted
    }
    training = list(others.get(TRAINING, ()))
    return Pairs(source.name, wanted, groups, training, others.get(VALIDATION, ()), dict(groups.tally))


def splits_of(source: Path) -> set[str]:
    """The splits of a run's pairs; none of a file."""
    path = source / "pairs.parquet"
    if not path.exists():
        return set()
    from pyarrow import parquet

    return set(parquet.read_table(path, columns=["split"])["split"].unique().to_pylist()) - {None}
