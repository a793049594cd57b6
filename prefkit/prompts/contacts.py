"""Find what reaches or locates a person: mail and web addresses, telephone numbers, handles, streets, ids, birth dates.

Reads a text and the list ``data/helplines.txt``; gives spans. These things have a form, so regular expressions find
them; for telephone numbers outside North America ``phonenumbers`` is asked. Crisis lines and the sites of public help
are left standing: they are care, not identity.

Real text leaves out blanks ("...for you.Then", "example.comCall"). So a bare domain must end in one of few endings,
since nearly every two letters are some country's, and a link is cut where a sentence was glued to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import NamedTuple

import phonenumbers


class Span(NamedTuple):
    """One identifying stretch of a text; spans with the same ``kind`` and ``key`` are the same thing."""

    kind: str
    start: int
    end: int
    key: str


def word_lines(name: str) -> list[str]:
    """The lines of a word list in ``data/``, less the comments."""
    text = (files("prefkit.prompts") / "data" / name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]+@(?:[A-Za-z0-9-]+\.)+(?:[a-z]{2,12}|(?i:com|org|net|edu|gov|info|ca|uk)\b)"
    r"|\b[\w.+-]+\s*[\[(]\s*at\s*[\])]\s*[\w-]+(?:\s*[\[(]\s*dot\s*[\])]\s*|\.)[a-z]{2,6}\b"
    r"|\b[\w.+-]+ at [\w-]+ dot (?:com|org|net|edu|ca)\b"
)
_PATH = r"(?:[/?#][^\s<>\"'\[\]]*)?"
_LINK = re.compile(
    rf"(?:https?://|www\.)(?:[A-Za-z0-9_-]+\.)+(?:[a-z]{{2,12}}|(?i:com|org|net|edu|gov|info|ca|uk|us))(?::\d+)?{_PATH}"
)
_DOMAIN = re.compile(
    r"(?<![\w@.-])(?:[A-Za-z0-9][A-Za-z0-9-]*\.)+"
    r"(?:(?:com?|org|net)\.(?:uk|au|nz)|(?i:com|org|net|edu|gov|info|biz)|ca|uk|ie|(?:io|me|co|us|tv|au)(?=/))"
    rf"(?![a-z]){_PATH}"
)
_LAST_WORD = re.compile(r".*[^A-Z_-](?=([A-Z][a-z]*)(?:['’][a-z]+)?[.,!?;:)]*\Z)")
_PAGE = re.compile(r".*?\.(?:html?|php|pdf|aspx)(?=[A-Z])")
_HANDLE = re.compile(
    r"(?<![\w.@/])@[A-Za-z_]\w{1,29}(?:\.\w+)*"
    r"|(?<=\b[Ii]nstagram: )[\w.]{3,30}|(?<=\b[Tt]witter: )\w{3,30}|(?<=\b[Ss]kype: )[\w.:]{3,32}"
)

_NORTH_AMERICAN = re.compile(
    r"(?<![\d/_-])(?:\+?1[\s.-]{0,2})?"
    r"(?:\([2-9]\d\d\)[\s.-]{0,2}|[2-9]\d\d[\s.‐-—-]{0,3})\d{3}[\s.‐-—-]{0,3}\d{4}(?![\d/_]|-\d)"
)
_LOCAL = re.compile(
    r"(?i:\b(?:call|ring|phone|tel|telephone|text|cell|mobile|fax|number is|reach me at)\b"
    r"(?:\[PHONE_\d+\]|[^.\n\d]){0,20})(?<!\d)"
    r"(\d{3}[-. ]\d{4})(?![\d-])"
)
_WITH_TRUNK_ZERO = re.compile(r"(?<![\w/.-])0\d{2,4}[ -]?\d{3,4}[ -]?\d{3,4}(?![\w/]|[.-]\d)")
_SEVEN_DIGITS = re.compile(r"\d(?:[^\w\n]{0,3}\d){6}")
_HELPLINE_BEFORE = re.compile(
    r"\b(?:(?:hot|life|help|warm|talk)\s?-?line|phone line|abuse line|crisis|suicide|emergency|toll[- ]free)\b"
    r"[^.!?\n]{0,80}$",
    re.IGNORECASE,
)
_OWN_NUMBER = re.compile(r"\b(?:my|our|(?:call|text|reach|contact|phone) (?:me|us))\b[^.!?]{0,40}$", re.IGNORECASE)

_STATE = (
    "(?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|PA|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY]"
    "|Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia|Hawaii|Idaho|Illinois"
    "|Indiana|Iowa|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|Michigan|Minnesota|Mississippi|Missouri|Montana"
    "|Nebraska|Nevada|New Hampshire|New Jersey|New Mexico|New York|(?:North|South) (?:Carolina|Dakota)|Ohio|Oklahoma"
    "|Oregon|Pennsylvania|Rhode Island|Tennessee|Texas|Utah|Vermont|(?:West )?Virginia|Washington|Wisconsin|Wyoming)"
)
_TOWN = r"[A-Z][a-z]+(?: [A-Z][a-z]+){0,2}"
_ZIP = r"\d{5}(?:-\d{4})?\b"
_TOWN_AND_STATE = rf"(?:,?\s+{_TOWN},?\s+{_STATE}\b(?:,?\s+{_ZIP})?)?"
_STREET = re.compile(
    r"(?<![\w$#.,])\d{1,6}[A-Za-z]? (?:[NSEW]\.? |North |South |East |West )?"
    r"(?:[A-Z][\w']*\.? |\d{1,3}(?:st|nd|rd|th) ){1,4}?"
    r"(?:Street|Avenue|Boulevard|Road|Drive|Lane|Court|Place|Square|Terrace|Highway|Parkway|Circle|Plaza|Trail|Turnpike|Way"
    r"|St|Ave|Blvd|Rd|Dr|Ln|Ct|Pl|Sq|Hwy|Pkwy|Cir)\b\.?"
    rf"(?:,? (?:#|(?:Suite|Ste|Apt|Apartment|Unit|Room|Rm|Floor|Fl)\b\.? ?#?) ?\w+)?{_TOWN_AND_STATE}"
)
_POST_BOX = re.compile(rf"\b[Pp]\.? ?[Oo]\.? [Bb]ox \d+{_TOWN_AND_STATE}")
_STATE_AND_ZIP = re.compile(rf"(?:\b{_TOWN},?\s+)?\b{_STATE},?\s+{_ZIP}")
_POSTCODE = re.compile(
    r"\b(?:[A-PR-UWYZ][A-HK-Y]?\d[A-Z\d]? \d[ABD-HJLNP-UW-Z]{2}|[ABCEGHJ-NPRSTVXY]\d[A-Z] ?\d[A-Z]\d)\b"
)

_ID = re.compile(
    r"(?<![\w-])(\d{3}-\d{2}-\d{4})(?![\w-])"
    r"|(?i:\b(?:licen[cs]ed?|lic|registration|reg|certificate|npi|ssn|social security|medical record|mrn"
    r"|member|policy|account|acct|case|patient|passport|medicare|medicaid|insurance|nhs|id)\b[\s.]*"
    r"(?:(?:no|num|number|id|card)\b\.?|[#:]|is\b|\s){1,5})(?<=[#: .])([A-Z]{0,5}[- ]?\d[\dA-Z-]{3,})\b"
    r"|\b(?:LMFT|MFT|MFC|LCSW|LPCC?|LMHC|LICSW|PSY|RN|MD|NPI|SSN)(?: ?(?:#|[Nn]o\.?|[Ll]ic\.?(?:ense)?) ?#?:? ?|[ :])"
    r"([A-Z]{0,4}\d{4,10})\b"
)
_FOUR_DIGITS = re.compile(r"\d(?:-?\d){3}")

_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)[a-z]*\.?"
_DATE = (
    rf"(?:\d{{1,2}}[/.-]\d{{1,2}}[/.-]\d{{2,4}}|\d{{4}}-\d{{2}}-\d{{2}}|{_MONTH}\s+\d{{1,2}}(?:st|nd|rd|th)?,?\s+\d{{4}}"
    rf"|\d{{1,2}}(?:st|nd|rd|th)?\s+(?:of\s+)?{_MONTH},?\s+\d{{4}})"
)
_BIRTH_DATE = re.compile(
    rf"\b(?:born(?:\s+on)?|DOB|D\.O\.B\.|(?:date\s+of\s+birth|birth\s?date|birthday)(?:\s+is)?)[\s:]*({_DATE})",
    re.IGNORECASE,
)

_PLACEHOLDER = re.compile(r"\[[A-Z]+_\d+\]")


class ContactFinder:
    """Finds addresses, numbers, links, handles and birth dates, and knows which of them are public help."""

    def __init__(self) -> None:
        """Read the list of public help, and the words that may be glued to the end of a link."""
        numbers, hosts = set[str](), set[str]()
        for line in word_lines("helplines.txt"):
            (numbers if line[0].isdigit() and " " in line else hosts).add(line.split()[0])
        openers = {word for line in word_lines("not_names.txt") for word in line.split()}
        self._words = openers.union(name for name in word_lines("given_names.txt") if not name.endswith("?"))
        self._help_numbers = frozenset(numbers)
        self._help_hosts = frozenset(hosts)

    def find(self, text: str) -> list[Span]:
        """Spans in the order of the text, none overlapping another or a placeholder."""
        found = list[Span]()
        closed = [match.span() for match in _PLACEHOLDER.finditer(text)]
        for span, public in self._candidates(text):
            if all(span.end <= start or span.start >= end for start, end in closed):
                closed.append((span.start, span.end))
                if not public:
                    found.append(span)
        return sorted(found, key=lambda span: span.start)

    def _candidates(self, text: str) -> Iterator[tuple[Span, bool]]:
        """Spans with whether they are public help; of two that overlap the earlier given counts."""
        if "@" in text or " dot " in text or "dot]" in text or "dot)" in text:
            yield from _matches("EMAIL", _EMAIL, text)
        if "." in text:
            yield from self._links(text)
        if "@" in text or ": " in text:
            yield from _matches("HANDLE", _HANDLE, text)
        if any(map(str.isdigit, text)):
            yield from self._numbers(text)

    def _links(self, text: str) -> Iterator[tuple[Span, bool]]:
        for pattern in (_LINK, _DOMAIN):
            for match in pattern.finditer(text):
                link = self._without_glue(match.group())
                address = re.sub(r"^(?:https?://)?(?:www\.)?", "", link, flags=re.IGNORECASE).lower()
                public = self._is_help_host(re.split(r"[/?#:]", address)[0])
                yield Span("URL", match.start(), match.start() + len(link), address.rstrip("/")), public

    def _without_glue(self, link: str) -> str:
        """The link without closing punctuation and without the next sentence's word: ``/tips/Then`` ends at the slash.

        Only a word that opens sentences, or a given name (which the finder of names will see), is cut off: anything
        else may be somebody's page.
        """
        again = link.find("http", 4)
        if again > 0:
            link = link[:again]
        path = re.search(r"(?<![/:])[/?#].*", link)
        if path:
            glued, page = _LAST_WORD.match(path.group()), _PAGE.match(path.group())
            if glued and glued[1].casefold() in self._words:
                link = link[: path.start() + glued.end()]
            elif page:
                link = link[: path.start() + page.end()]
        return link.rstrip(".,;:!?)*’”")

    def _is_help_host(self, host: str) -> bool:
        labels = host.split(".")
        return any(".".join(labels[i:]) in self._help_hosts for i in range(len(labels)))

    def _numbers(self, text: str) -> Iterator[tuple[Span, bool]]:
        yield from _matches("ADDRESS", _STREET, text)
        yield from _matches("ADDRESS", _POST_BOX, text)
        yield from _matches("ADDRESS", _POSTCODE, text)
        if not _FOUR_DIGITS.search(text):
            return
        yield from _matches("BIRTHDATE", _BIRTH_DATE, text)
        yield from _matches("ID", _ID, text)
        if re.search(_ZIP, text):
            yield from _matches("ADDRESS", _STATE_AND_ZIP, text)
        if _SEVEN_DIGITS.search(text):
            for start, end, digits in _phones(text):
                public = digits in self._help_numbers or _is_called_a_helpline(text, start)
                yield Span("PHONE", start, end, digits), public


def _matches(kind: str, pattern: re.Pattern[str], text: str) -> Iterator[tuple[Span, bool]]:
    """What the pattern, or the group of it that took part, matched; none of it public."""
    for match in pattern.finditer(text):
        start, end = match.span(match.lastindex or 0)
        yield Span(kind, start, end, re.sub(r"\W+", " ", text[start:end]).strip().casefold()), False


def _phones(text: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and digits (with country code) of what is a telephone number."""
    for match in _NORTH_AMERICAN.finditer(text):
        digits = re.sub(r"\D", "", match.group())
        yield match.start(), match.end(), digits if len(digits) == 11 else "1" + digits
    for region in ("US", "GB", "AU"):
        for found in phonenumbers.PhoneNumberMatcher(text, region, leniency=phonenumbers.Leniency.VALID):
            yield found.start, found.end, f"{found.number.country_code}{found.number.national_number}"
    for match in _WITH_TRUNK_ZERO.finditer(text):
        digits = re.sub(r"\D", "", match.group())
        if len(digits) in (10, 11):
            yield match.start(), match.end(), digits
    for match in _LOCAL.finditer(text):
        yield match.start(1), match.end(1), re.sub(r"\D", "", match.group(1))


def _is_called_a_helpline(text: str, start: int) -> bool:
    """The words before the number call it a crisis line, and not the writer's own."""
    before = text[max(0, start - 110) : start]
    return bool(_HELPLINE_BEFORE.search(before)) and not _OWN_NUMBER.search(before[-60:])
