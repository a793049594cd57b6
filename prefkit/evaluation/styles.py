"""What of an answer a reader sees before reading it: its length, headers, lists, bold.

Reads   texts in Markdown
Gives   counts for each, and for each row of outcomes

Outcomes hold no texts. A row finds its answers by prompt, policy and length; where two answers of a policy to a prompt
are of one length, by the mean of both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from prefkit.evaluation.outcomes import UNKNOWN, Floats, Ints, Outcomes

STYLE = ("length", "headers", "lists", "bold")
_AT_ONCE = 1000
_CODE = re.compile(r"^```.*?(?:^```|\Z)", re.MULTILINE | re.DOTALL)
_HEADER = re.compile(r"^ {0,3}#{1,6}\s", re.MULTILINE)
_ITEM = re.compile(r"^\s*(?:[-*+]|\d{1,3}[.)])\s", re.MULTILINE)
_BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")


def style_counts(texts: Sequence[str]) -> Floats:
    """Characters, headers, list items and bold passages of texts in Markdown, outside code blocks. [texts, 4]

    The characters are those of the whole text.

    Source: the arena's style control, whose elements these are (lmsys.org/blog/2024-08-28-style-control).
    """
    found = np.zeros((len(texts), len(STYLE)))
    for row, text in enumerate(texts):
        prose = _CODE.sub("", text)
        found[row] = (len(text), *(len(pattern.findall(prose)) for pattern in (_HEADER, _ITEM, _BOLD)))
    return found


class Texts:
    """Counts of form of responses, by prompt, policy and length."""

    def __init__(self, responses: Iterable[tuple[str, str, str | None]]) -> None:
        """Responses as prompt, policy, text."""
        self._found: dict[tuple[str, str, int], tuple[Floats, int]] = {}
        waiting: list[tuple[str, str, str]] = []
        for prompt, policy, text in responses:
            if text is not None:
                waiting.append((prompt, policy, text))
                if len(waiting) == _AT_ONCE:
                    self._take(waiting)
                    waiting = []
        self._take(waiting)

    def _take(self, responses: Sequence[tuple[str, str, str]]) -> None:
        for (prompt, policy, text), counts in zip(responses, style_counts([one[2] for one in responses]), strict=True):
            sums, times = self._found.get((prompt, policy, len(text)), (np.zeros(len(STYLE)), 0))
            self._found[prompt, policy, len(text)] = sums + counts, times + 1

    def of(self, outcomes: Outcomes) -> tuple[Floats, Floats]:
        """What `style_counts` says of the answers of ``first`` and ``second``, each [n, 4]; NaN where there is no
        text."""
        return (
            self._side(outcomes, outcomes.first, outcomes.length_first),
            self._side(outcomes, outcomes.second, outcomes.length_second),
        )

    def _side(self, outcomes: Outcomes, policy: Ints, length: Ints) -> Floats:
        keys, place = np.unique(np.stack([outcomes.prompt, policy, length], axis=1), axis=0, return_inverse=True)
        table = np.full((len(keys), len(STYLE)), np.nan)
        for row, (prompt, who, size) in enumerate(keys.tolist()):
            counted = self._found.get((outcomes.prompts[prompt], outcomes.policies[who], size))
            if counted and size != UNKNOWN:
                table[row] = counted[0] / counted[1]
        side: Floats = table[place.reshape(-1)]
        return side
