"""What a dataset's card counts, so that pieces of a dataset can be counted one by one and put together.

Gives   Figures: a few bytes for each pair and each prompt, without their words
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prefkit.pairs.build import Pairs
from prefkit.pairs.collect import Floats, Ints
from prefkit.pairs.splits import SPLITS
from prefkit.records import prompt_text


@dataclass(frozen=True)
class Figures:
    """Of pairs in the order of the dataset."""

    pairs: Counter[str]
    """By split."""
    prompts: Ints
    """[n_prompts] by number; one that stands in two splits would be here twice."""
    split: npt.NDArray[np.int8]
    """[n_prompts]"""
    words: npt.NDArray[np.uint64]
    """[n_prompts] digests of what the prompts say, case and blanks aside."""
    scrubbed: int
    """Prompts."""
    risky: int
    """Prompts with a mark of risk."""
    votes: Counter[str]
    """By annotator."""
    judges: frozenset[str]
    """The annotators who rated a side of these pairs, or voted on one."""
    shares: Floats
    """For each pair with several annotators, the share of them that prefers the chosen side."""
    lengths: npt.NDArray[np.int32]
    """[n_pairs, 2] characters of the chosen and the rejected response."""


def figures(pairs: Pairs, lengths: Sequence[tuple[int, int]], first_prompt: int = 0) -> Figures:
    """Count some pairs.

    Args:
        pairs: in the order of the dataset.
        lengths: characters of each pair's two responses.
        first_prompt: the number of the first of the prompts that are here, among all.
    """
    of_pair = pairs.collected.responses.prompt[pairs.at.chosen]
    number, split = np.unique(np.stack([of_pair, pairs.split.astype(np.int64)]), axis=1)
    prompts = [pairs.collected.prompts[index] for index in number.tolist()]
    names = pairs.collected.annotators
    votes = Counter(index for voters in pairs.support.voters for index in voters)
    return Figures(
        pairs=Counter({SPLITS[part]: count for part, count in enumerate(np.bincount(pairs.split).tolist()) if count}),
        prompts=first_prompt + number,
        split=split.astype(np.int8),
        words=np.asarray([_digest(prompt_text(prompt.messages)) for prompt in prompts], np.uint64),
        scrubbed=sum(prompt.scrubbed for prompt in prompts),
        risky=sum(any(mark.startswith("risk:") for mark in prompt.marks) for prompt in prompts),
        votes=Counter({names[index]: count for index, count in votes.items()}),
        judges=frozenset(names[index] for index in _judges(pairs)),
        shares=pairs.support.overall[[row for row, voters in enumerate(pairs.support.voters) if len(voters) > 1]],
        lengths=np.asarray(lengths, np.int32).reshape(-1, 2),
    )


def together(pieces: Sequence[Figures]) -> Figures:
    """The figures of pieces of a dataset, one behind the other, as those of the whole."""
    votes: Counter[str] = Counter()
    pairs: Counter[str] = Counter()
    for piece in pieces:
        votes.update(piece.votes)
        pairs.update(piece.pairs)
    return Figures(
        pairs=pairs,
        prompts=np.concatenate([piece.prompts for piece in pieces]),
        split=np.concatenate([piece.split for piece in pieces]),
        words=np.concatenate([piece.words for piece in pieces]),
        scrubbed=sum(piece.scrubbed for piece in pieces),
        risky=sum(piece.risky for piece in pieces),
        votes=votes,
        judges=frozenset().union(*(piece.judges for piece in pieces)),
        shares=np.concatenate([piece.shares for piece in pieces]),
        lengths=np.concatenate([piece.lengths for piece in pieces]),
    )


def _digest(text: str) -> int:
    same = " ".join(text.casefold().split())
    return int.from_bytes(hashlib.blake2b(same.encode(errors="surrogatepass"), digest_size=8).digest(), "little")


def _judges(pairs: Pairs) -> set[int]:
    ratings = pairs.collected.ratings
    sides = np.isin(ratings.response, np.concatenate((pairs.at.chosen, pairs.at.rejected)))
    return set(ratings.annotator[sides].tolist()).union(*pairs.support.voters)
