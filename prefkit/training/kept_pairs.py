"""Which pairs are learned from, and how much each counts.

Reads pairs, the texts of their responses, the weights of annotators; counts what it leaves out, by reason.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from prefkit.errors import PrefkitError
from prefkit.training.groups import Pair

Weights = Mapping[str, float]

EMPTY = "pairs with an empty response, left out"
IDENTICAL = "pairs of identical texts, left out"
NO_TEXT = "pairs of responses whose text is not known, left out"
NO_WEIGHT = "pairs of weight 0, left out"


class Weighing:
    """The weight of a pair by its annotators."""

    def __init__(self, weights: Weights) -> None:
        for name, weight in weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                remedy = "Give the annotator a number such as 0.5; 0 leaves out what only they said."
                raise PrefkitError(f"weight of {name}", f"{weight}", "a finite number from 0", remedy)
        self._weights = weights
        self._seen: set[str] = set()

    def of(self, annotators: Sequence[str]) -> float:
        """The mean of the annotators' weights."""
        if not self._weights or not annotators:
            return 1.0
        self._seen.update(annotators)
        return sum(self._weights.get(name, 1.0) for name in annotators) / len(annotators)

    def check_names(self, source: object) -> None:
        """Raise an error about the weight of an annotator that judged nothing."""
        unknown = [name for name in self._weights if name not in self._seen]
        if unknown:
            known = ", ".join(sorted(self._seen)[:5]) or "none"
            remedy = "Look at the spelling: llm:NAME or human:NAME."
            raise PrefkitError(source, f"no pair of the annotator {unknown[0]!r}", f"one of: {known}", remedy)


def take(pair: Pair, texts: Sequence[str], kept: list[Pair], tally: Counter[str]) -> None:
    """Put a pair to those that are kept, or count why it is not."""
    chosen, rejected = texts[pair.chosen], texts[pair.rejected]
    if not chosen.strip() or not rejected.strip():
        tally[EMPTY] += 1
    elif chosen == rejected:
        tally[IDENTICAL] += 1
    elif not pair.weight:
        tally[NO_WEIGHT] += 1
    else:
        kept.append(pair)


def nothing_left(
    error: type[PrefkitError], source: object, count: int, tally: Counter[str], remedy: str
) -> PrefkitError:
    """The error for a source of which no pair is left: how many there were, and the commonest reason."""
    reasons = "; ".join(f"{number:,} {reason}" for reason, number in tally.most_common(2))
    return error(
        source, f"{count:,} pairs or rows of which none can be used ({reasons})", "pairs to learn from", remedy
    )
