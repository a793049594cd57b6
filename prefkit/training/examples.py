"""What a reward model reads: groups out of a run, or out of a preference file.

Reads   a run (``run_examples``), or a file, a folder or a dataset of the hub (``file_examples``)
Gives   Groups: each prompt once, with the responses of all its pairs

Texts stay on disk; memory is some 100 bytes a record. All is read once before the first group is given, so that what is
missing or wrong is said at the beginning, and what was left out is counted in ``Groups.tally``.
"""

from __future__ import annotations

from pathlib import Path

from prefkit.errors import PrefkitError
from prefkit.run import Run
from prefkit.training.file_examples import Progress, file_groups
from prefkit.training.groups import Groups
from prefkit.training.kept_pairs import Weighing, Weights
from prefkit.training.preference_files import Reading
from prefkit.training.run_examples import run_groups


def read_groups(
    source: str | Path,
    split: str | None = None,
    *,
    all_responses: bool = False,
    plain: bool = False,
    soft: bool = True,
    weights: Weights | None = None,
    progress: Progress | None = None,
) -> Groups:
    """The groups of a run or of a preference file.

    Args:
        source: a run folder; a file, a folder or the name of a dataset on the hub.
        split: only the pairs of this split; None for all that are there.
        all_responses: also the responses that stand in no pair, for scoring; then there need be no pairs at all.
        plain: take the texts of a file as they stand, without roles, as trl does with texts.
        soft: labels are the share of annotators that prefer the chosen side; else 1, and 0.5 for a tie.
        weights: of annotators, 1 for one that is not named; a pair's weight is the mean of its annotators'.
        progress: told the bytes of a file as they are read.

    Raises:
        InputError: a file that cannot be read, or without pairs.
        RunError: a run without pairs, texts, or this split.
        PrefkitError: a weight that is none, of an annotator that is not there.
    """
    weighing = Weighing(weights or {})
    if (Path(source) / "run.json").exists():
        if plain:
            raise PrefkitError(source, "a run", "a file of plain texts for --plain", "Leave out --plain.")
        groups = run_groups(Run(source), split, weighing, all_responses=all_responses, soft=soft)
    else:
        reading = Reading(plain, soft)
        groups = file_groups(source, split, weighing, progress, reading, all_responses=all_responses)
    weighing.check_names(source)
    return groups
