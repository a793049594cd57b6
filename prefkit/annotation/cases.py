"""What can be put before people: the responses of a run that are fit to be shown, as arrays.

Reads   prompts.jsonl, responses.jsonl (or .parquet)
Gives   Fit: a row for each response that may be shown, sorted by prompt; Case: what was chosen of them

Texts stay on disk; memory is about 60 bytes a response. A response is known by 64 bits of a digest of its id, so that
what is drawn at random depends on no order of files. That two of a million ids meet by chance has the probability 3e-8.
"""

from __future__ import annotations

import array
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from prefkit.by_prompt import mapped, open_records, scanned
from prefkit.records import Prompt, Response
from prefkit.run import Run

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Chances = npt.NDArray[np.uint64]

BLOCK = 1 << 20
"""Pairs that are looked at together."""
UNFIT = ("empty", "cut-off", "looping", "multi-speaker")
"""Marks of a response that nobody is asked about."""
_WHY = (
    "",
    "unknown prompt",
    "prompt excluded",
    "prompt with a mark of risk",
    "no text",
    *(f"marked {one}" for one in UNFIT),
)
_FIT, _NO_PROMPT, _EXCLUDED, _RISK, _NO_TEXT = range(5)


@dataclass(frozen=True)
class Case:
    """What a person is asked about: two responses to compare, or one to rate.

    ``reason`` says why it was chosen, in words for a log, and ``score`` how much it is wanted by the strategy's own
    measure (see selecting.py), None where there is none. Neither is ever shown to an annotator.
    """

    prompt_id: str
    responses: tuple[str, ...]
    reason: str
    score: float | None = None


def key_of(name: str) -> int:
    """The 64 bits by which an id is known."""
    return int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little", signed=True)


def pair_keys(one: Ints, other: Ints) -> Ints:
    """One number [n] for the two responses [n] and [n], whichever comes first."""
    low, high = np.minimum(one, other), np.maximum(one, other)
    keys: Ints = low * np.int64(0x1E3779B97F4A7C15) + high
    return keys


def shuffled(keys: Ints, seed: int) -> Chances:
    """A random number for each key, the same for the same key and seed wherever it stands (splitmix64).

    Source: Steele, Lea & Flood 2014, doi:10.1145/2714064.2660195.
    """
    salt = np.uint64((seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) % 2**64)
    mixed = keys.astype(np.uint64) ^ salt
    for factor, shift in ((0xBF58476D1CE4E5B9, 30), (0x94D049BB133111EB, 27)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    return mixed


def find(keys: Ints, wanted: Ints) -> Ints:
    """The place of each wanted key among sorted ``keys``, -1 where it is not there."""
    if not len(keys):
        return np.full(len(wanted), -1, dtype=np.int64)
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, at, -1)


class Fit:
    """The responses that may be shown, sorted by prompt and key.

    ``key``, ``prompt``, ``policy``, ``length`` (in characters), ``words`` (equal texts have equal ones) are [n];
    ``prompt`` is an index into ``topics`` and ``prompt_keys``, ``policy`` one into ``policies``. ``left_out`` counts
    the others by reason.

    Args:
        run: the run.
        policies: only responses of these, where any are named.
        risk: whether prompts with a mark of risk count.

    Raises:
        RunError: there are no prompts or no responses.
        RecordError: a line is not a record.
    """

    def __init__(self, run: Run, policies: Sequence[str] = (), *, risk: bool = True) -> None:
        self.left_out: Counter[str] = Counter()
        self.topics: list[str | None] = []
        """Of each prompt."""
        prompt_keys, why_not = array.array("q"), array.array("q")
        with open_records(run, Prompt) as file:
            for _, _, prompt in scanned(file, Prompt):
                prompt_keys.append(key_of(prompt.id))
                why_not.append(_why_not(prompt, risk))
                self.topics.append(prompt.topic)
        self.prompt_keys = np.asarray(prompt_keys, dtype=np.int64)
        self._file = open_records(run, Response)
        weakref.finalize(self, self._file.close)
        self._read(set(policies), np.asarray([*why_not, _NO_PROMPT], dtype=np.int64))
        self._bytes: Any = mapped(self._file)
        self._decode = msgspec.json.Decoder(Response).decode

    def _read(self, wanted: set[str], of_prompts: Ints) -> None:
        key, owner, policy, length, words, offset, unfit = (array.array("q") for _ in range(7))
        policies: dict[str, int] = {}
        last, last_key = "", 0
        for start, _, response in scanned(self._file, Response):
            if wanted and response.policy not in wanted:
                policies.setdefault(response.policy, len(policies))
                continue
            text = response.text or ""
            if response.prompt_id != last:
                last, last_key = response.prompt_id, key_of(response.prompt_id)
            key.append(key_of(response.id))
            owner.append(last_key)
            policy.append(policies.setdefault(response.policy, len(policies)))
            length.append(len(text))
            words.append(hash(" ".join(text.casefold().split())))
            offset.append(start)
            unfit.append(_why_unfit(response))
        self.policies = list(policies)
        columns = [np.asarray(one, dtype=np.int64) for one in (key, owner, policy, length, words, offset, unfit)]
        by_key = np.argsort(self.prompt_keys)
        at = find(self.prompt_keys[by_key], columns[1])
        prompt = np.where(at >= 0, np.append(by_key, -1)[at], -1)
        why = np.where(of_prompts[prompt] != _FIT, of_prompts[prompt], columns[6])
        codes, many = np.unique(why[why != _FIT], return_counts=True)
        self.left_out.update({_WHY[code]: count for code, count in zip(codes.tolist(), many.tolist(), strict=True)})
        rows = np.flatnonzero(why == _FIT)
        rows = rows[np.lexsort((columns[0][rows], self.prompt_keys[prompt[rows]]))]
        self.prompt = prompt[rows]
        self.key, self.policy, self.length, self.words, self._offset = (
            columns[place][rows] for place in (0, 2, 3, 4, 5)
        )

    def __len__(self) -> int:
        return len(self.key)

    def __getitem__(self, row: int) -> Response:
        start = self._offset[row]
        end = self._bytes.find(b"\n", start)
        return self._decode(memoryview(self._bytes)[start : end if end >= 0 else None])

    def pairs(self) -> Iterator[tuple[Ints, Ints]]:
        """Every two responses to one prompt, as rows, in blocks of about ``BLOCK``."""
        starts = np.flatnonzero(np.diff(self.prompt, prepend=-1))
        sizes = np.diff(starts, append=len(self.prompt))
        for size in np.unique(sizes[sizes > 1]).tolist():
            those = starts[sizes == size]
            left, right = np.triu_indices(size, k=1)
            step = max(1, BLOCK // len(left))
            for at in range(0, len(those), step):
                rows = those[at : at + step, None] + np.arange(size)
                yield rows[:, left].ravel(), rows[:, right].ravel()


def _why_not(prompt: Prompt, risk: bool) -> int:
    if prompt.excluded is not None:
        return _EXCLUDED
    return _RISK if not risk and any(mark.startswith("risk:") for mark in prompt.marks) else _FIT


def _why_unfit(response: Response) -> int:
    if not response.text or response.text.isspace():
        return _NO_TEXT
    if not response.marks:
        return _FIT
    return next((_NO_TEXT + 1 + place for place, mark in enumerate(UNFIT) if mark in response.marks), _FIT)
