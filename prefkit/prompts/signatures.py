"""Find what stands beside a name: credentials, the practice, the writer's own book.

Reads a text whose names are placeholders already, and the list ``data/credentials.txt``; gives spans. "LMFT" or
"licensed counselor" alone is a profession, and stays; right after a name it singles a person out, and goes. A practice
is found by its place after a name or after "my practice", or by its legal form (LLC, Inc.).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from prefkit.prompts.contacts import Span, word_lines

_S = "[ \u00a0]"
_LICENCE = (
    rf"(?i:licensed|certified|registered|board[- ]certified|national(?:ly)?|provisional(?:ly)?|independent"
    rf"|clinical){_S}"
    rf"(?:(?:[A-Z][a-z]+(?:['’]?s)?|and|&|of|in){_S}){{0,6}}"
    r"(?i:counsell?or|therapist|psychologist|social worker|psychotherapist|coach|hypnotherapist|sexologist|supervisor"
    r"|practitioner)\b"
)
_CAPITALS = rf"(?:[A-Z][\w'’]*{_S}(?:(?:and|of|for|the|&){_S})?)"
_KIND_OF_PRACTICE = (
    r"(?:Counsell?ing|Therapy|Psychotherapy|Psychology|Wellness|Center|Centre|Clinic|Associates|Practice|Services|Institute"
    r"|Group|Consulting|Coaching|Counsell?ors|Therapists|Collective|Solutions|Healing|Mediation|Hypnotherapy)\b"
)
_LEGAL_FORM = r"(?:P?LLC|LLP|P\.C\.|Inc\b\.?|Ltd\b\.?|L\.L\.C\.)"
_NAMED_PRACTICE = rf"((?:The )?{_CAPITALS}{{1,5}}{_KIND_OF_PRACTICE}(?:,? {_LEGAL_FORM})?)"
_PRACTICE = re.compile(
    rf"({_CAPITALS}{{0,5}}[A-Z][\w'’]*,?{_S}{_LEGAL_FORM})(?!\w)"
    r"|(?<=[0-9]\])[\s\u00a0,|(~–-]{0,4}"
    rf"(?:(?:of|at|from|with|(?:[Ff]ounder|[Oo]wner|[Dd]irector)(?: of|,)){_S})?{_NAMED_PRACTICE}"
    rf"|(?<=[0-9]\])[\s\u00a0,|(~–-]{{0,4}}({_CAPITALS}{{1,5}}[A-Z][\w'’]*)[\s\u00a0.]*\Z"
    r"|(?i:\b(?:my|our|private|group|own) practice\b)(?:,? (?:is|called|named|at|in [A-Z][\w ]{2,20}))*[,:]? "
    rf"{_NAMED_PRACTICE}"
    rf"|(?i:\bI (?:work|practice|practise) (?:at|for|with) (?:the )?){_NAMED_PRACTICE}"
    rf"|\b[Aa]t {_NAMED_PRACTICE}(?=,? (?:we|I|our)\b)"
)
_PRACTICE_HINT = re.compile(r"LLC|LLP|P\.C\.|Inc\b|Ltd\b|L\.L\.C|\d\]|practi[cs]e|I work|[Aa]t [A-Z]")
_OWN_TITLE = re.compile(
    r"\b[Mm]y (?:\w+ )?(?:book|workbook|e-?book|blog|podcast|course|channel|group)"
    r"(?:, | is called |,? called |,? titled |,? entitled | is |: | )[\"“]?"
    r"([A-Z][\w'’]*(?: (?:of|the|and|to|in|for|a|your|from|with) [A-Z][\w'’]*| [A-Z][\w'’]*){1,8})"
)


class SignatureFinder:
    """Finds credentials after names, practices, and titles that a writer calls "my book".

    Attributes:
        credential_next: matches, from the end of a name, a credential; its group ``plain`` is empty when that
            credential is also a state or a word.
    """

    def __init__(self) -> None:
        """Read the list of credentials, and the words that name no practice: "Family Therapy" is a therapy."""
        self._words = {word for line in word_lines("not_names.txt") for word in line.split()}
        plain, doubtful = _credentials()
        listed = _any_of(plain | doubtful)
        before = r"[\s\u00a0]{0,4}[,|(–-]?[\s\u00a0]{0,4}"
        ends = r"(?![a-z]|[A-Z]{2})"
        listed = rf"{listed}(?:-(?:[A-Z]{{1,4}}|Associate|Intern|Supervisor)\b)?"
        item = rf"(?:{listed}{ends}|{_LICENCE})"
        another = rf"[\s\u00a0]{{0,4}}[,;/&|-]?[\s\u00a0]{{0,4}}(?:{item}|[A-Z]{{3,6}}(?:-[A-Z]+)?(?![A-Za-z]))"
        self.credential_next = re.compile(rf"{before}(?:(?P<plain>{_any_of(plain)})|{listed}){ends}")
        self._beside_name = re.compile(rf"\[(?:NAME|CREDENTIAL)_\d+\]{before}({item}(?:{another})*)")

    def find(self, text: str) -> list[Span]:
        """Credentials, or where there are none, practices and titles; none holds a placeholder."""
        if "]" in text and (credentials := list(_spans("CREDENTIAL", self._beside_name, text))):
            return credentials
        found = list(_spans("TITLE", _OWN_TITLE, text))
        if _PRACTICE_HINT.search(text):
            found += _spans("ORGANISATION", _PRACTICE, text)
        named = [span for span in found if not self._words.issuperset(re.findall(r"[a-z]+", span.key))]
        return sorted(named, key=lambda span: span.start)


def _spans(kind: str, pattern: re.Pattern[str], text: str) -> Iterator[Span]:
    for match in pattern.finditer(text):
        start, end = match.span(match.lastindex or 0)
        if "." not in text[start : end - 1]:
            end = start + len(text[start:end].rstrip("."))
        yield Span(kind, start, end, re.sub(r"\s+", " ", text[start:end]).casefold())


def _credentials() -> tuple[set[str], set[str]]:
    """Credentials, and those of them that are also a state or a word."""
    plain, doubtful = set[str](), set[str]()
    for line in word_lines("credentials.txt"):
        for word in line.split():
            (doubtful if word.endswith("*") else plain).add(word.rstrip("*"))
    return plain, doubtful


def _any_of(words: set[str]) -> str:
    """A pattern for any of the words, the longest first; the short ones with full stops too: ``PhD`` is ``Ph. D.``"""
    return "(?:" + "|".join(map(_with_stops, sorted(words, key=lambda word: (-len(word), word)))) + ")"


def _with_stops(word: str) -> str:
    if len(word) > 4:
        return re.escape(word)
    return r"(?:\.\s?)?".join(map(re.escape, re.findall(r"[A-Z][a-z]*|[^A-Z]+", word))) + r"\.?"
