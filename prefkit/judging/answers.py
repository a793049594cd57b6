"""What a few words say: a score on a scale, a verdict between two responses, or the number of one.

Reads   the words that stand where an answer should stand: ``4``, ``four out of five``, ``weak (1)``, ``Response B.``
Gives   the answer; a `Fault` where there is an answer that cannot be taken; None where there is none

Nothing is clipped, rounded or guessed. ``4/10`` is no 4 on a scale to 5, ``4-5`` is no score at all, and a score with
another score beside it is neither.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Literal

from prefkit.judging.loose_json import Value
from prefkit.records import Score, Winner
from prefkit.rubric import DECIMALS, Scale

MOST_QUOTED = 12
"""Characters of a reply that one fault may quote."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an answer that stands there cannot be taken; ends a sentence that begins with what was asked."""

    why: str


Answer = Score | Winner | Fault | None
"""A choice's answer is a position from 0, hence a `Score`."""

UNDECIDED = Fault("two different answers")

_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")
_MARKUP = r"[\s*_`\"'“”‘’(\[{|]{0,40}"
_NUMBER = rf"(?:[+-]?[0-9]+(?:\.[0-9]+)?|\b(?:{'|'.join(_NUMBERS)})\b)"
_HEDGES = r"or|to|and|but|maybe|perhaps|possibly|rather|actually|no|wait|correction|then|now|make it|point"
_NOT_APPLICABLE = re.compile(rf"{_MARKUP}(?:n\s*/\s*a|not applicable|cannot (?:be )?\w+)\b", re.IGNORECASE)


class ScoreReader:
    """Reads scores on one scale."""

    def __init__(self, scale: Scale) -> None:
        self.scale = scale
        self.values: dict[float, Score] = {
            value: int(value) if value == int(value) else value for value in scale.values()
        }
        named = zip(scale.levels, self.values.values(), strict=False)
        self._levels = {" ".join(level.casefold().split()): value for level, value in named if not _numeric(level)}
        words = "|".join(_spaced(level) for level in sorted(self._levels, key=len, reverse=True))
        one = rf"(?P<number>{_NUMBER})" + (rf"|(?P<level>{words})(?!\w|-\w)" if words else "")
        self._head = re.compile(rf"{_MARKUP}(?:{one})", re.IGNORECASE)
        self._other = re.compile(
            rf"[\W_]*?(?:(?:{_HEDGES})\b[\W_]*?)*(?:{one.replace('?P<', '?P<other_')})", re.IGNORECASE
        )

    def read(self, value: Value) -> Score | Fault | None:
        """The score that a value of JSON, or words, give."""
        if isinstance(value, str):
            return self._words(value)
        if value is None:
            return Fault("null")
        if isinstance(value, bool):
            return self._truth(value)
        return self._on_scale(value, str(value))

    def _truth(self, value: bool) -> Score | Fault:
        names = ("true", "yes") if value else ("false", "no")
        found = [self._levels[name] for name in names if name in self._levels]
        return found[0] if found else Fault(f"{str(value).lower()} is not a score")

    def _on_scale(self, value: Score, shown: str) -> Score | Fault:
        score = self.values.get(round(value, DECIMALS))
        if score is not None:
            return score
        return Fault(f"{_quoted(shown)} is not on the scale {self.scale.min:g}-{self.scale.max:g}{self._steps()}")

    def _steps(self) -> str:
        return "" if self.scale.step == 1 else f" by {self.scale.step:g}"

    def _words(self, words: str) -> Score | Fault | None:
        if _NOT_APPLICABLE.match(words):
            return Fault("not applicable")
        head = self._head.match(words)
        if head is None:
            return None
        rest = words[head.end() :]
        if head.groupdict().get("level"):
            score: Score | Fault = self._levels[" ".join(head["level"].casefold().split())]
        else:
            number = head["number"]
            if _PART.match(rest):
                return Fault(f"{_quoted(words[head.start('number') :])} is not a score")
            out_of = _OUT_OF.match(rest)
            if out_of:
                rest = rest[out_of.end() :]
                if _as_number(out_of["most"]) != self.scale.max:
                    return Fault(f"{_quoted(number + '/' + out_of['most'])} is on another scale")
            unit = _UNIT.match(rest)
            rest = rest[unit.end() :] if unit else rest
            if self._is_whole_range(number, rest):
                return None
            score = self._on_scale(_as_number(number), number)
        return score if isinstance(score, Fault) else self._alone(score, rest)

    def _is_whole_range(self, number: str, rest: str) -> bool:
        """``1-5`` repeats the scale; it is no score."""
        end = _RANGE_END.match(rest)
        return end is not None and (_as_number(number), _as_number(end["end"])) == (self.scale.min, self.scale.max)

    def _alone(self, score: Score, rest: str) -> Score | Fault | None:
        """The score, where what follows gives no other and does not count things (``two feelings are named``)."""
        if _UNSURE.match(rest):
            return UNDECIDED
        other = self._other.match(rest)
        if other is None:
            return score if _OVER.match(rest) else None
        found = other.groupdict()
        if found.get("other_level"):
            second: float = self._levels[" ".join(found["other_level"].casefold().split())]
        else:
            second = _as_number(found["other_number"])
        return score if second == score else UNDECIDED


@functools.lru_cache(maxsize=256)
def score_reader(scale: Scale) -> ScoreReader:
    """The reader of a scale, made once."""
    return ScoreReader(scale)


_PART = re.compile(r"[0-9]|[.,][0-9]|\s*[%⁄½¼¾²³]|(?!分|点)[^\W_]|\s+(?:and a half|point \w+)", re.IGNORECASE)
_OUT_OF = re.compile(
    rf"[*_`\"'”’)\]]{{0,4}}\s*\(?(?:/|out[ -]of|of)\s*(?P<most>{_NUMBER})(?![0-9]|\.[0-9])", re.IGNORECASE
)
_UNIT = re.compile(r"[\s-]*(?:points?|pts?|stars?|分|点)(?!\w)", re.IGNORECASE)
_RANGE_END = re.compile(rf"\s*(?:-|–|—|to|\.\.+)\s*(?P<end>{_NUMBER})", re.IGNORECASE)
_OVER = re.compile(
    r"[\s*_`\"'”’)\]}|]*(?:$|[.,;:!(–—-]|\b(?:because|since|as|for|on|in|and|here|overall)\b)", re.IGNORECASE
)
_UNSURE = re.compile(r"\s*(?:[+?~<>→⇒]|-+>|and a half\b|plus\b|/|\^|[×x*]\s*[0-9])", re.IGNORECASE)


def _as_number(words: str) -> float:
    lowered = words.casefold()
    return _NUMBERS.index(lowered) if lowered in _NUMBERS else float(words)


def _numeric(level: str) -> bool:
    return re.match(rf"\s*{_NUMBER}", level, re.IGNORECASE) is not None


def _spaced(words: str) -> str:
    """A pattern for words with any blanks, hyphens or underscores between them."""
    return r"[\s_-]+".join(re.escape(word) for word in re.split(r"[\s_-]+", words.strip()) if word)


def _quoted(words: str) -> str:
    words = " ".join(words.split())
    return words if len(words) <= MOST_QUOTED else f"{words[: MOST_QUOTED - 1]}…"


# --- verdicts ---------------------------------------------------------------------------------------------------------

_RESPONSE = r"(?:the\s+)?(?:response|answer|option|assistant|reply|candidate|session|text)\s*"
_SIDE = (
    rf"(?:{_RESPONSE}{_MARKUP}(?:[AaBb]|[12])|{_MARKUP}[AaBb]|"
    r"(?:the\s+)?(?:first|second)(?:\s+(?:response|one|answer))?)\b"
)
_CLOSED = r"[*_`\"'”’)\]}|]*"
_BETTER = (
    r"(?:is|was|seems|looks|would be|does)\s+(?:(?:clearly|slightly|somewhat|much|far|marginally|a (?:bit|little)|"
    r"definitely|overall|generally|also|significantly|the)\s+)*"
    r"(?:better|best|stronger|superior|preferable|preferred|winner)|wins|is the winner"
)
_TIE = (
    r"(?:(?:it|this|that|they|both|the two|the responses|the two responses|both responses)(?:\s+is|'s|\s+are|\s+were)?"
    r"\s+)?(?:(?:a|an|roughly|about|essentially|equally|just|call it|very)\s+)*"
    r"(?:tied?|draw|equals?|even|same|equally good|comparable|no (?:clear )?(?:preference|difference|winner)|"
    r"neither(?: (?:one|response))?(?: is better)?|both|the same)\b|"
    r"(?:response )?[ab]\s*(?:=+|≈)\s*(?:response )?[ab]\b|"
    r"(?:response )?a and (?:response )?b are (?:equal|tied|the same|comparable|equally good)\b"
)
_VERDICT = re.compile(
    rf"{_MARKUP}(?:(?P<tie>{_TIE})|(?P<side>{_SIDE}){_CLOSED}"
    rf"(?:\s*(?P<sign>>+|<+)\s*{_MARKUP}(?P<than>{_SIDE}){_CLOSED}|\s+(?:{_BETTER})"
    rf"(?:\s+than\s+(?P<worse>{_SIDE}))?(?:\s+(?:one|response|overall))*)?){_CLOSED}"
    r"(?=\s*$|\s*[.,;:!(–—-]|\s+(?:because|since|as|for)\b)",
    re.IGNORECASE,
)
_TWO_SIDES = re.compile(
    rf"\s*[,;:.(–—-]*\s*(?:(?:{_HEDGES}|if|though|although|unless|except)\b|{_SIDE}{_CLOSED}\s*(?:$|[:;,.)]))",
    re.IGNORECASE,
)
_NAMED_AGAIN = re.compile(rf"(?:^|[.;,\n]\s*){_MARKUP}(?P<side>{_SIDE}){_CLOSED}\s*(?::|{_BETTER})", re.IGNORECASE)


def read_verdict(value: Value) -> Winner | Fault | None:
    """The verdict that a value of JSON, or words, give. A number alone is none: it may count from 0 or from 1."""
    if not isinstance(value, str):
        return Fault("null" if value is None else f"{_quoted(str(value).lower())} is not A, B or tie")
    if _NOT_APPLICABLE.match(value):
        return Fault("not applicable")
    head = _VERDICT.match(value)
    if head is None:
        return None
    rest = value[head.end() :]
    if head["tie"]:
        return "tie" if not _TWO_SIDES.match(rest) else UNDECIDED
    winner = side(head["side"])
    other = head["than"] or head["worse"]
    if other and side(other) == winner:
        return UNDECIDED
    if head["sign"] and head["sign"][0] == "<":
        winner = "b" if winner == "a" else "a"
    again = _NAMED_AGAIN.search(rest)
    if _TWO_SIDES.match(rest) or (again and side(again["side"]) != winner):
        return UNDECIDED
    return winner


def side(words: str) -> Literal["a", "b"]:
    """Which of two a label such as ``Response B`` or ``the first`` names."""
    lowered = words.casefold().rstrip()
    first = "first" in lowered or ("second" not in lowered and lowered[-1] in "a1")
    return "a" if first else "b"


# --- choices ----------------------------------------------------------------------------------------------------------

_CHOICE = re.compile(
    rf"{_MARKUP}(?:{_RESPONSE}|number\s*|no\.\s*)?{_MARKUP}#?(?:(?P<number>[0-9]+|\b(?:{'|'.join(_NUMBERS)})\b)|"
    rf"(?:the\s+)?(?P<ordinal>{'|'.join(_ORDINALS)})(?:\s+(?:response|one|answer))?\b){_CLOSED}"
    rf"(?:\s+(?:{_BETTER})(?:\s+(?:one|response|overall))*)?{_CLOSED}"
    r"(?=\s*$|\s*[,;:!(–—-](?!\s*[0-9])|\s*\.(?![0-9])|\s+(?:because|since|as|for)\b)",
    re.IGNORECASE,
)
_ANOTHER = re.compile(rf"\s*[,;:.(–—-]*\s*(?:(?:{_HEDGES}|if|unless)\b|{_RESPONSE}[0-9]|#?[0-9])", re.IGNORECASE)


def read_best(value: Value, count: int) -> int | Fault | None:
    """The position from 0 of the response that a value of JSON, or words, name; they are numbered from 1."""
    if isinstance(value, str):
        head = _CHOICE.match(value)
        if head is None:
            return None
        if _ANOTHER.match(value[head.end() :]):
            return UNDECIDED
        if head["ordinal"]:
            return _within(_ORDINALS.index(head["ordinal"].casefold()) + 1, head["ordinal"], count)
        return _within(_as_number(head["number"]), head["number"], count)
    if value is None or isinstance(value, bool):
        return Fault("null" if value is None else f"{str(value).lower()} is not a number")
    return _within(value, str(value), count)


def _within(number: float, shown: str, count: int) -> int | Fault:
    if number in range(1, count + 1):
        return int(number) - 1
    return Fault(f"{_quoted(shown)} is not from 1 to {count}")
