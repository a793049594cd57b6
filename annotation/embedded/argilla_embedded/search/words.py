"""Cut a text into the words that are indexed and looked up.

A word is a run of letters, digits and their marks, lower-cased, wide forms and accents folded (`Café`, `ｃａｆé` and
`cafe` are one word). Scripts written without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) and Hangul are
cut into single characters, so any part of a run is found as a phrase; SQLite's own tokenisers make such a run one word.
An emoji is a word. Everything else (punctuation, control characters, NUL, lone surrogates) only separates.

The output is ASCII letters and digits and non-ASCII characters, which is what FTS5's `ascii` tokeniser takes as it is:
the same words come out of the index as go in here. A change to this file changes what the index holds: raise
`store.VERSION` with it.
"""

import re
import unicodedata

LONGEST_WORD = 255
"""Characters; a longer run (base64, a hash) is cut into pieces, as Lucene's standard analyser does."""

Group = tuple[str, ...]
"""Words that were written as one (`don't` is don, t; `咨询` is 咨, 询) and must stand side by side to match."""

_UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\ua9e0-\ua9ff\uaa60-\uaa7f"  # Thai, Lao, Burmese, Khmer
    "\u2e80-\u2fdf\u3005-\u3007\u3021-\u3029\u3040-\u30ff\u3100-\u312f\u31f0-\u31ff"  # radicals, kana, bopomofo
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Han
    "\uac00-\ud7a3"  # Hangul syllables
)
_JOINED = "\x01"  # stands for an apostrophe, dot, comma or colon until we know that letters or digits are on both sides
_JOINERS = frozenset("'\u2019\u02bc.,:\u00b7\u2027")
_GROUPS = re.compile(f"[{_UNSPACED}]+|[^ \x01{_UNSPACED}]+(?:\x01[^ \x01{_UNSPACED}]+)*")
_IS_UNSPACED = re.compile(f"[{_UNSPACED}]")

# Marks that may be left out: Latin, Greek and Cyrillic accents, Hebrew points, Arabic vowels, emoji variants.
_OPTIONAL_MARKS = dict.fromkeys(
    [
        *range(0x0300, 0x0370),
        *range(0x0591, 0x05C8),
        *range(0x0610, 0x061B),
        *range(0x064B, 0x0660),
        0x0670,
        *range(0xFE00, 0xFE10),
    ]
)
_NOT_DECOMPOSED = {"ø": "o", "ł": "l", "đ": "d", "ħ": "h", "ı": "i", "æ": "ae", "œ": "oe", "þ": "th", "ð": "d"}


class _Roles(dict[int, str]):
    """For `str.translate`: what becomes of a character, worked out once for each that occurs."""

    def __missing__(self, code: int) -> str:
        self[code] = role = self._role(chr(code))
        return role

    @staticmethod
    def _role(character: str) -> str:
        if character in _JOINERS:
            return _JOINED
        if character in _NOT_DECOMPOSED:
            return _NOT_DECOMPOSED[character]
        category = unicodedata.category(character)
        if category[0] in "LN" or category in ("Mn", "Mc"):
            return character
        if category == "So":
            return f" {character} "
        if category == "Cf":  # zero-width joiners, soft hyphens, marks of direction
            return ""
        return " "


_ROLES = _Roles()


def groups(text: str) -> list[Group]:
    """The words of `text` in order, grouped as they were written.

    >>> groups("Don't PAY, café!")
    [('don', 't'), ('pay',), ('cafe',)]
    >>> groups("心理咨询 2.5")
    [('心', '理', '咨', '询'), ('2', '5')]
    """
    return [_group(piece) for piece in _GROUPS.findall(_folded(text))]


def indexed(text: str) -> str:
    """`text` as it goes into the index: the words of all its `groups`, spaces between; ten times faster."""
    folded = _folded(text).replace(_JOINED, " ")
    if not folded.isascii():
        folded = _IS_UNSPACED.sub(r" \g<0> ", folded)
    if max(map(len, folded.split()), default=0) > LONGEST_WORD:
        folded = " ".join(cut for word in folded.split() for cut in _cut(word))
    return folded


def _folded(text: str) -> str:
    if text.isascii():
        return text.lower().translate(_ROLES)
    decomposed = unicodedata.normalize("NFKD", text.casefold()).translate(_OPTIONAL_MARKS)
    return unicodedata.normalize("NFC", decomposed).casefold().translate(_ROLES)


def _group(piece: str) -> Group:
    if _IS_UNSPACED.match(piece):
        return tuple(piece)
    return tuple(cut for word in piece.split(_JOINED) for cut in _cut(word))


def _cut(word: str) -> list[str]:
    return [word[start : start + LONGEST_WORD] for start in range(0, len(word), LONGEST_WORD)]
