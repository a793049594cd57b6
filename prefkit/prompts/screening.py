"""Say which prompts to keep, and what to know about them.

Reads   ids and texts of prompts
Gives   a verdict for each: why it is excluded, if it is, and its marks: language, risk

A prompt is excluded for one reason, the first of: length in characters, length in tokens, language, being a duplicate.
Duplicates are looked for among what is left by then, so that no prompt falls to a twin that is excluded itself; the
first of a group stays. The default length is the window of PsychoCounsel (arXiv:2502.19731): 100 to 1,000 characters.

Where the language is not sure, as for a few words, the mark is "language:unknown" and nobody is excluded for it. Risk
only ever marks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from prefkit.errors import PrefkitError
from prefkit.language import detect_language
from prefkit.prompts.risk import risk_marks

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ScreenSettings:
    """What a prompt must be like to stay; None and () ask for nothing."""

    min_chars: int | None = 100
    max_chars: int | None = 1000
    min_tokens: int | None = None
    max_tokens: int | None = None
    tokenizer: str | None = None  # name or folder for transformers.AutoTokenizer; special tokens are not counted
    languages: tuple[str, ...] = ()  # ISO 639-1: ("en", "zh")
    near_duplicates: float | None = 0.8  # Jaccard similarity of word pairs; None looks for no duplicates at all
    risk: bool = True

    def __post_init__(self) -> None:
        """Refuse settings that contradict themselves.

        Raises:
            PrefkitError: a minimum above its maximum, tokens to count and no tokenizer, an unknown kind of language
                code, a similarity outside (0, 1].
        """
        for unit, least, most in (
            ("chars", self.min_chars, self.max_chars),
            ("tokens", self.min_tokens, self.max_tokens),
        ):
            if least is not None and most is not None and least > most:
                raise PrefkitError(
                    f"min_{unit}", f"{least}", f"at most max_{unit}, {most}", "Raise the one or lower the other."
                )
        if self.counts_tokens and self.tokenizer is None:
            raise PrefkitError(
                "tokenizer", "none", "a tokenizer, since tokens are to be counted", "Name one, or limit characters."
            )
        for code in self.languages:
            if not re.fullmatch("[a-z]{2}", code):
                raise PrefkitError("languages", repr(code), "two letters, ISO 639-1", 'English is "en", Chinese "zh".')
        if self.near_duplicates is not None and not 0 < self.near_duplicates <= 1:
            raise PrefkitError(
                "near_duplicates", f"{self.near_duplicates}", "a similarity above 0, at most 1", "0.8 is the default."
            )

    @property
    def counts_tokens(self) -> bool:
        """Whether a limit in tokens is set."""
        return self.min_tokens is not None or self.max_tokens is not None


@dataclass(frozen=True)
class Verdict:
    """What the screen says of one prompt."""

    excluded: str | None  # the reason: "too short: 41 characters (at least 100)", "language es", "duplicate of p1"
    marks: tuple[str, ...]  # "language:en", "risk:self-harm"; an excluded prompt has them too


def screen(ids: Sequence[str], texts: Sequence[str], settings: ScreenSettings) -> list[Verdict]:
    """Give a verdict for each text, in their order.

    Args:
        ids: one for each text; a duplicate's reason names the id of the first of its group.
        texts: what the clients wrote.
        settings: what to ask for.

    Raises:
        ValueError: ids and texts differ in number.
        PrefkitError: the tokenizer cannot be loaded.
    """
    if len(ids) != len(texts):
        raise ValueError(f"ids and texts must be aligned; got {len(ids)} and {len(texts)}")
    verdicts = screened_alone(texts, settings)
    if settings.near_duplicates is None:
        return verdicts
    from prefkit.near_duplicates import near_duplicate_groups

    left = [index for index, verdict in enumerate(verdicts) if verdict.excluded is None]
    words = [texts[index] for index in left]
    groups = near_duplicate_groups(words, threshold=settings.near_duplicates)
    reasons = duplicates([ids[index] for index in left], words, groups)
    for index, reason in zip(left, reasons, strict=True):
        if reason:
            verdicts[index] = replace(verdicts[index], excluded=reason)
    return verdicts


def screened_alone(texts: Sequence[str], settings: ScreenSettings) -> list[Verdict]:
    """Give a verdict for each text, as if there were no other.

    Raises:
        PrefkitError: the tokenizer cannot be loaded.
    """
    languages = [detect_language(text) for text in texts]
    reasons = _lengths(texts, settings)
    if settings.languages:
        reasons = [
            reason or (f"language {language}" if language and language not in settings.languages else None)
            for reason, language in zip(reasons, languages, strict=True)
        ]
    return [
        Verdict(reason, (f"language:{language or 'unknown'}", *(risk_marks(text) if settings.risk else ())))
        for text, reason, language in zip(texts, reasons, languages, strict=True)
    ]


def _lengths(texts: Sequence[str], settings: ScreenSettings) -> list[str | None]:
    reasons = [_outside(len(text.strip()), "characters", settings.min_chars, settings.max_chars) for text in texts]
    if settings.counts_tokens and settings.tokenizer is not None:
        reasons = [
            reason or _outside(count, "tokens", settings.min_tokens, settings.max_tokens)
            for reason, count in zip(reasons, _token_counts(texts, settings.tokenizer), strict=True)
        ]
    return reasons


def _outside(length: int, unit: str, least: int | None, most: int | None) -> str | None:
    if least is not None and length < least:
        return f"too short: {length:,} {unit} (at least {least:,})"
    if most is not None and length > most:
        return f"too long: {length:,} {unit} (at most {most:,})"
    return None


def _token_counts(texts: Sequence[str], tokenizer: str) -> list[int]:
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise PrefkitError(
            f"tokenizer {tokenizer}",
            "no transformers",
            "the library that loads it",
            'Install it with pip install "prefkit[train]", or limit characters instead of tokens.',
        ) from error
    try:
        loaded = AutoTokenizer.from_pretrained(tokenizer)
    except (OSError, ValueError, ImportError) as error:
        raise PrefkitError(
            f"tokenizer {tokenizer}",
            str(error).strip().partition("\n")[0] or type(error).__name__,
            "a folder with a tokenizer, or a name on the Hugging Face Hub",
            "Check the name; without a network, give the folder.",
        ) from error
    return [len(loaded(text, add_special_tokens=False)["input_ids"]) for text in texts]


def duplicates(ids: Sequence[str], texts: Sequence[str], groups: Ints) -> list[str | None]:
    """For each text the reason, "duplicate of p1" or "near-duplicate of p1", where it is like an earlier one.

    Args:
        ids: one for each text.
        texts: among which the first of a group stays.
        groups: the index of the first of each text's group, as ``near_duplicate_groups`` gives it.
    """
    from prefkit.near_duplicates import normalised

    reasons: list[str | None] = [None] * len(texts)
    for index, first in enumerate(groups.tolist()):
        if first != index:
            kind = "duplicate" if normalised(texts[index]) == normalised(texts[first]) else "near-duplicate"
            reasons[index] = f"{kind} of {ids[first]}"
    return reasons
