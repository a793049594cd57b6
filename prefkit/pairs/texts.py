"""What the words of two responses say against making them a pair.

Two texts that are the same (but for case and blanks), one that is the beginning of the other, or two that differ in a
few characters teach nothing about what is better. Over-long responses are left out on both sides or not at all. What
is marked as empty, looping or of several speakers may be rejected, and is never what to learn from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from rapidfuzz.distance import Levenshtein

from prefkit.errors import RunError
from prefkit.pairs.collect import Responses
from prefkit.pairs.select import Candidates

EMPTY = "empty response"
IDENTICAL = "identical texts"
CUT_OFF = "cut-off copy"
NEAR_IDENTICAL = "near-identical texts"
TOO_LONG = "over-long response"
UNFIT_TO_CHOOSE = ("empty", "looping", "multi-speaker")
"""Marks of a response that is never the chosen side."""

TooLong = Callable[[str], bool]


def text_objections(
    responses: Responses,
    pairs: Candidates,
    near_identical: float,
    too_long: TooLong | None,
    progress: Callable[[int], None],
) -> np.ndarray[tuple[int], np.dtype[np.object_]]:
    """For each pair the first reason against it, or None. [n_pairs]"""
    reasons = np.full(len(pairs), None, dtype=object)
    rows = zip(pairs.chosen.tolist(), pairs.rejected.tolist(), pairs.tied.tolist(), strict=True)
    for row, (chosen, rejected, tied) in enumerate(rows):
        better, worse = responses[chosen], responses[rejected]
        marks = better.marks + worse.marks if tied else better.marks
        reasons[row] = objection(better.text, worse.text, near_identical, too_long) or unfit_to_choose(marks)
        progress(1)
    return reasons


def objection(
    chosen: str | None, rejected: str | None, near_identical: float, too_long: TooLong | None = None
) -> str | None:
    """The first reason against a pair of these two texts, or None; a text that is not known says nothing against it.

    >>> objection("Take a breath.", "take a  breath.", 0.95)
    'identical texts'
    >>> objection("Take a breath. Then", "Take a breath. Then call me.", 0.95)
    'cut-off copy'
    """
    if chosen is None or rejected is None:
        return None
    a, b = (" ".join(text.casefold().split()) for text in (chosen, rejected))
    if not a or not b:
        return EMPTY
    if a == b:
        return IDENTICAL
    short, long = sorted((a, b), key=len)
    if long.startswith(short):
        return CUT_OFF
    # A difference in length alone bounds the similarity: most texts need not be compared.
    if len(short) >= near_identical * len(long) and (
        Levenshtein.normalized_similarity(a, b, score_cutoff=near_identical) >= near_identical
    ):
        return NEAR_IDENTICAL
    if too_long is not None and (too_long(chosen) or too_long(rejected)):
        return TOO_LONG
    return None


def unfit_to_choose(marks: Sequence[str]) -> str | None:
    """The first reason, among a response's marks, for which it is not the chosen side of a pair."""
    return next((f"chosen side marked {mark}" for mark in UNFIT_TO_CHOOSE if mark in marks), None)


def longer_than(max_chars: int | None, max_tokens: int | None, tokenizer: str | None) -> TooLong | None:
    """Whether a text has more characters, or more tokens of a named tokenizer, than allowed; None where nothing is
    too long.

    Raises:
        RunError: a number of tokens without a tokenizer, or one that cannot be loaded.
    """
    if max_tokens is None:
        return None if max_chars is None else lambda text: len(text) > max_chars
    if tokenizer is None:
        remedy = "Name it: --tokenizer meta-llama/Llama-3.2-3B, or a local folder."
        raise RunError("--max-tokens", "no tokenizer", "the tokenizer that counts them", remedy)
    count = token_counter(tokenizer)
    return lambda text: (max_chars is not None and len(text) > max_chars) or count(text) > max_tokens


def token_counter(name: str) -> Callable[[str], int]:
    """A function that counts the tokens of a text, without special ones.

    Raises:
        RunError: transformers is not installed, or there is no such tokenizer.
    """
    try:
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(name)
    except ImportError:
        remedy = "pip install 'prefkit[train]'"
        raise RunError("--tokenizer", "no transformers", "the package that has tokenizers", remedy) from None
    except (OSError, ValueError) as error:
        found = f"no tokenizer {name!r} ({str(error).splitlines()[0]})"
        raise RunError("--tokenizer", found, "a hub id or a local folder", "Check the name.") from None
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])
