"""Name the language of a text.

Reads   the first 300 characters of a text
Gives   its ISO 639-1 code, or None where a few words do not tell

It is what py3langid (Naive Bayes over bytes, offline) says when it is sure.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

SURE = 0.6  # below this probability the language is unknown
READS = 300  # characters
_WRITTEN_AS = {"yue": "zh", "wuu": "zh", "nn": "no"}  # what py3langid tells apart and prefkit need not


def detect_language(text: str) -> str | None:
    """Name the language of a text by its ISO 639-1 code, or None where a few words do not tell."""
    language, probability = _identifier().classify(text[:READS])
    return _WRITTEN_AS.get(language, language) if probability >= SURE else None


@functools.cache
def _identifier() -> LanguageIdentifier:
    """The model that ships with py3langid, for languages that ISO 639-1 has a code for."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages([code for code in identifier.labels if len(code) == 2 or code in _WRITTEN_AS])
    return identifier
