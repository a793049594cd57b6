"""Answers to prompts, looked at: what each is marked with, which are alike, how often each word stands in them.

Reads   the clients' words, and what was answered
Gives   ``Answers``: to be judged, or as the reference that others are judged by (``prefkit.policies.health``)
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

from prefkit.language import READS, detect_language
from prefkit.marking import EMPTY, marks_of, spoken
from prefkit.near_duplicates import near_duplicate_groups, normalised

LANGUAGE = "language"
LEAST_PIECE = 100
"""Characters from which the end of a text is a piece of its own."""
ALIKE = 0.8
"""Similarity from which two answers are nearly the same: see ``prefkit.near_duplicates``."""


class Said(Protocol):
    """An answer: of ``sample``, or a ``Text``."""

    @property
    def text(self) -> str:
        """What was said."""
        ...

    @property
    def finish(self) -> str | None:
        """``length`` where it was cut off; None where nobody knows."""
        ...

    @property
    def logprob(self) -> float | None:
        """Mean log-probability of its tokens; None where nobody knows."""
        ...


@dataclass(frozen=True)
class Text:
    """An answer of which no more than this is known."""

    text: str
    finish: str | None = None
    logprob: float | None = None


@dataclass(frozen=True)
class Looked:
    """One answer."""

    prompt: int
    marks: frozenset[str]
    words: tuple[str, ...]
    text: str
    logprob: float | None


@dataclass(frozen=True)
class Answers:
    """Answers to prompts, looked at: to be judged, or as a reference. Made by ``look``.

    Args:
        looked: the answers.
        asked: the words of each prompt, and its pairs of neighbouring ones.
        tells_ends: whether it is known of all why they ended.
        several: whether a prompt has several samples.
        counted: in how many answers each word and each pair stands.
    """

    looked: tuple[Looked, ...]
    asked: tuple[frozenset[str | tuple[str, str]], ...]
    tells_ends: bool
    several: bool
    same_elsewhere: frozenset[int]
    same_samples: frozenset[int]
    counted: Counter[str | tuple[str, str]] = field(repr=False)


def look(prompts: Sequence[str], answers: Sequence[Sequence[Said]]) -> Answers:
    """Look at the answers to prompts.

    Args:
        prompts: the clients' words.
        answers: of each prompt, by sample; a prompt may have none. Thinking before an answer is left out.

    Raises:
        ValueError: prompts and answers differ in number, or there is no answer.
    """
    if len(prompts) != len(answers):
        raise ValueError(f"prompts and answers must be aligned; got {len(prompts)} and {len(answers)}")
    if not any(answers):
        raise ValueError("no answers to look at")
    languages = _languages(prompts)
    looked = tuple(_look(place, one, languages[place]) for place, several in enumerate(answers) for one in several)
    elsewhere, samples = _alike(looked, [normalised(prompt) for prompt in prompts])
    return Answers(
        looked=looked,
        asked=tuple(parts_of(normalised(prompt).split()) for prompt in prompts),
        tells_ends=all(one.finish is not None for several in answers for one in several),
        several=any(len(several) > 1 for several in answers),
        same_elsewhere=elsewhere,
        same_samples=samples,
        counted=Counter(part for one in looked for part in parts_of(one.words)),
    )


def texts(answers: Iterable[str]) -> list[list[Text]]:
    """One answer for each prompt, of which no more than the text is known."""
    return [[Text(answer)] for answer in answers]


def _look(place: int, said: Said, language: str | None) -> Looked:
    text, thought_to_the_end = spoken(said.text)
    marks = set(marks_of(text, said.finish if thought_to_the_end else "length"))
    if language is not None and _switches(text, language):
        marks.add(LANGUAGE)
    words = tuple(normalised(text).split())
    return Looked(place, frozenset(marks), words, text, said.logprob)


def parts_of(words: Sequence[str]) -> frozenset[str | tuple[str, str]]:
    """A text's different words and pairs of neighbouring words."""
    return frozenset((*words, *pairwise(words)))


def _languages(prompts: Sequence[str]) -> list[str | None]:
    """The language of each prompt, or that of most where a prompt does not tell."""
    found = [detect_language(prompt) for prompt in prompts]
    known = Counter(language for language in found if language is not None)
    most = known.most_common(1)[0][0] if known else None
    return [language or most for language in found]


def _switches(text: str, language: str) -> bool:
    """Whether a piece of a text is surely in another language."""
    starts = range(0, max(1, len(text) - LEAST_PIECE), READS)
    return any(detect_language(text[start : start + READS]) not in (language, None) for start in starts)


def _alike(looked: Sequence[Looked], prompts: Sequence[str]) -> tuple[frozenset[int], frozenset[int]]:
    """The prompts with an answer like one to another prompt, and those with samples that are alike."""
    some = [one for one in looked if EMPTY not in one.marks]
    groups: dict[int, list[int]] = defaultdict(list)
    for one, group in zip(some, near_duplicate_groups((one.text for one in some), threshold=ALIKE), strict=True):
        groups[int(group)].append(one.prompt)
    elsewhere = {prompt for group in groups.values() if len({prompts[one] for one in group}) > 1 for prompt in group}
    samples = {prompt for group in groups.values() for prompt, times in Counter(group).items() if times > 1}
    return frozenset(elsewhere), frozenset(samples)
