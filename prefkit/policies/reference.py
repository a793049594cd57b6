"""What the model said of each response before it was trained, once and in 32 bits.

Reads   groups in tokens, the model as it was
Writes  CACHE/reference/DIGEST.npy   float32, the log-probability of each response's tokens, one behind the other

The name is a digest of the base and of the groups' tokens, so a second training on the same pairs, with another beta
say, finds them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from prefkit.durable import explained_disk_errors, make_folders, replacing
from prefkit.training.groups import TokenGroup

TokenLogProbs = npt.NDArray[np.float32]
"""[tokens of all responses of a group], in nats."""


def reference_file(cache: Path, base: dict[str, str], groups: Sequence[TokenGroup]) -> Path:
    """Where the log-probabilities of these groups are kept.

    Args:
        cache: folder of what can be made again.
        base: what tells the model from another.
        groups: in tokens.
    """
    digest = hashlib.blake2b(json.dumps(base, sort_keys=True).encode(), digest_size=16)
    for group in groups:
        for ids in (group.prompt, *group.responses):
            digest.update(len(ids).to_bytes(4, "little") + ids.tobytes())
    return cache / "reference" / f"{digest.hexdigest()}.npy"


def kept_reference(path: Path, groups: Sequence[TokenGroup]) -> list[TokenLogProbs] | None:
    """What a file holds for each group; None where there is none, or it is not of these groups."""
    try:
        values = np.load(path)
    except (OSError, ValueError, EOFError):
        return None
    sizes = [sum(map(len, group.responses)) for group in groups]
    if values.dtype != np.float32 or values.shape != (sum(sizes),):
        return None
    return np.split(values, np.cumsum(sizes)[:-1])


def keep_reference(path: Path, values: Sequence[TokenLogProbs]) -> None:
    """Write what ``kept_reference`` reads."""
    with explained_disk_errors(path.parent):
        make_folders(path.parent)
        with replacing(path) as file:
            np.save(file, np.concatenate(values).astype(np.float32))


def reference_log_probs(
    groups: Sequence[TokenGroup],
    path: Path,
    read: Callable[[Sequence[TokenGroup]], list[TokenLogProbs]],
    *,
    writes: bool,
) -> list[TokenLogProbs]:
    """The log-probabilities of each group's responses by the model as it was.

    Args:
        groups: in tokens.
        path: where they are kept.
        read: asks the model, on every process.
        writes: whether this process keeps them.
    """
    found = kept_reference(path, groups)
    if found is None:
        found = read(groups)
        if writes:
            keep_reference(path, found)
    return found
