"""Find people's names.

Reads a text and the lists ``data/given_names.txt``, ``not_names.txt`` and ``public_names.txt``; gives spans. No model: a
name is known by where it stands ("my husband ...", "Dr. ...", a sign-off, before a credential), or because it is a given
name that is neither word nor place. A name of the second sort is kept when it is cited ("a book by ...") or widely
known: whoever wrote a recommended book is no party to the conversation.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from importlib.resources import files

from prefkit.prompts.contacts import Span

_S = "[ \u00a0]"
_LOWER = "a-zß-öø-ÿ"
_WORD = (
    rf"(?:(?:Mc|Mac|[OD]['’]|De|Di|La|Le|Van|Fitz)(?=[A-Z][{_LOWER}]{{2}}))?"
    rf"[A-ZÀ-ÖØ-Þ][{_LOWER}]+(?:['’][A-Z][{_LOWER}]+|-[A-ZÀ-Ö]?[{_LOWER}]+)*"
)
_JOINT = (
    rf"{_S}{{1,2}}(?:[A-Z]\.?{_S}{{1,2}}){{0,2}}(?:(?:van|von|de|der|den|del|la|da|dos|di|bin|ibn|el|le){_S}){{0,2}}"
)
_RUN = re.compile(rf"{_WORD}(?:{_JOINT}{_WORD})*")
_TOKEN = re.compile(_WORD)
_INITIALS = re.compile(rf"(?:\A|[\s\u00a0,.!~(-])((?:[A-Z]\.{_S}?){{1,2}})$")
_LONGEST = 4  # words in a name

_RELATIVE = (
    r"(?:ex[- ]?)?(?:step|grand|god|half)?[- ]?(?:husband|wife|son|daughter|brother|sister|mother|father|mom|mum|dad"
    r"|parent|child|kid|baby|girl|boy|spouse|partner|fianc[eé]e?|boyfriend|girlfriend|bf|gf|hubby|ex|uncle|aunt|cousin|nephew|niece"
    r"|friend|roommate|neighbou?r|co-?worker|colleague|boss|manager|supervisor|teacher|therapist|counsell?or|psychologist"
    r"|psychiatrist|doctor|lawyer|dog|cat)"
)
_TITLED = re.compile(
    rf"\b(?:Drs?|Mrs?|Ms|Miss|Mx|Prof|Professor|Rev|Reverend|Pastor|Rabbi|Coach|Officer|Judge|Nurse|Doctor|Aunt|Auntie"
    rf"|Uncle)\.?{_S}{{0,2}}$"
)
_INTRODUCED = re.compile(rf"\b(?:names?(?:['’]?s| is| are| was)?:?|named|goes by|go by){_S}$", re.IGNORECASE)
_RELATED = re.compile(
    rf"\b(?:(?P<close>my|his|her|our|your|their|whose)|an?|the){_S}(?:\w+{_S}){{0,2}}{_RELATIVE}(?P<pause>,)?{_S}$",
    re.IGNORECASE,
)
_ONE_CASE_NAME = re.compile(
    rf"\b(?:[Mm]y|[Hh]is|[Hh]er) (?:name(?:['’]?s| is)|{_RELATIVE}(?:['’]?s name is|,? named)?) ([a-z]{{3,}}|[A-Z]{{3,}})(?![\w'’])"
)
_NEVER_IN_ONE_CASE = frozenset("sue rob chuck harry wade jack lee don van may".split())
_GREETED = re.compile(
    rf"(?:^|[\s.!?\"“,])(?:hi|hello|hey|dear|thanks|thank you|good (?:morning|evening|afternoon)),?{_S}$", re.IGNORECASE
)
_CLOSED = re.compile(
    r"\b(?:best(?: (?:wishes|regards|of luck)[^.!?\n]{0,40})?|(?:warm|kind)(?:est|ly)?(?: (?:regards|wishes))?[^.!?\n]{0,12}"
    r"|regards|sincerely|respectfully|yours(?: \w+)?|cheers|take care|be well|blessings|namaste|peace|love|thanks"
    r"|thank you|good luck[^.!?\n]{0,40}|(?:this|that|it) helps|wish(?:es|ing)? you[^.!?\n]{0,40}|all the best|wishes"
    r"|my best(?: to you)?|with (?:care|love|warmth|gratitude|kindness|hope|light))[\s\u00a0,.!~–—-]*$"
    r"|(?:\A|[\s\u00a0.!?)])[-–—~]{1,2}[ \u00a0]?$",
    re.IGNORECASE,
)
_ENDS = re.compile(r"(?:[\s\u00a0.,!)(~|–—-]*(?:(?:and |or |at )?\[[A-Z]+_\d+\])?)*(?:\Z|P\.?S\b)|[ \t\u00a0.,!]*\n")
_PLACE_BEFORE = re.compile(
    rf"\b(?:San|Santa|Los|Las|St|Saint|Fort|Ft|El|Port|Lake|Mount|Mt|New|North|South|East|West|Hotel|Camp)\.?{_S}$"
)
_THING_AFTER = re.compile(
    rf"(?:['’]s)?{_S}(?:Method|Institute|University|College|Hospital|Center|Centre|Foundation|Project|Act|Law|Disease"
    r"|Syndrome|Disorder|Inventory|Scale|Test|Questionnaire|Technique|Effect|Theory|Model|School|Street|Avenue|County|Beach"
    r"|City|Island|Park|[Tt]alks?)\b"
)
_WORK = r"(?:books?|work|workbook|article|novel|memoir|study|theory|model|research|method|approach|talk|TED|podcast|videos?|quote|poem)"
_CITED_BEFORE = re.compile(
    rf"(?:[”\"’)]|[A-Z][\w’']*|\b(?:written|edited|{_WORK})\b[^.!?\n]{{0,60}})[\s\u00a0,]{{1,3}}\(?by[\s\u00a0]"
    r"(?:(?:Drs?\.?|[A-Z][\w.'’-]*|and|&|,)[\s\u00a0,]{1,2}){0,5}$"
    r"|\b(?:[Aa]uthors?|actor|actress|singer|comedian|poet|philosopher|[Pp]resident),?[\s\u00a0]$"
    r"|[”\"][\s\u00a0]*[-–—]{1,2}[\s\u00a0]*$"
)
_CITED_AFTER = re.compile(
    rf"['’]s?[\s\u00a0](?:\w+[\s\u00a0])?{_WORK}\b"
    r"|,?[\s\u00a0]\(?(?:19|20)\d\d\b|,?[\s\u00a0](?:who|he|she)[\s\u00a0](?:wrote|has written|authored)\b"
)
_HAS_OR_DOES = re.compile(r"['’]s\b|[ \u00a0](?:is|was|has|had|and|said|says|told|will|would|can|could|did|does|never|just)\b")
_OWN_WORK = re.compile(rf"\bmy[\s\u00a0](?:\w+[\s\u00a0])?(?:{_WORK}|blog|website)\b", re.IGNORECASE)


class NameFinder:
    """Finds names of people.

    Args:
        credential_next: matches, from the end of a name, a credential; its group ``plain`` is empty when that credential
            is also a state or a word.
    """

    def __init__(self, credential_next: re.Pattern[str]) -> None:
        """Read the lists."""
        listed = _lines("given_names.txt")
        self._doubtful = frozenset(name.rstrip("?") for name in listed if name.endswith("?"))
        self._given = frozenset(listed) - {name for name in listed if name.endswith("?")}
        self._stop = frozenset(word for line in _lines("not_names.txt") for word in line.split())
        self._public = frozenset(_lines("public_names.txt"))
        self._credential_next = credential_next

    def find(self, text: str, known: Collection[str]) -> list[Span]:
        """Spans in the order of the text; ``known`` are lower-case words of names met before in this document."""
        found = []
        for run in _RUN.finditer(text):
            for tokens in self._stretches(run):
                name = self._name(text, tokens, known)
                if name:
                    found.append(_span(text, *name))
        for match in _ONE_CASE_NAME.finditer(text):
            word = match.group(1).casefold()
            if word in self._given and word not in _NEVER_IN_ONE_CASE:
                found.append(_span(text, *match.span(1)))
        return sorted(found, key=lambda span: span.start)

    def _stretches(self, run: re.Match[str]) -> Iterator[list[re.Match[str]]]:
        """The run's words, cut where a word is none of a name."""
        stretch: list[re.Match[str]] = []
        for token in _TOKEN.finditer(run.string, run.start(), run.end()):
            word = token.group().casefold()
            if word in self._given or word in self._doubtful or not self._stop.intersection(re.split(r"[-'’]", word)):
                stretch.append(token)
            elif stretch:
                yield stretch[:_LONGEST]
                stretch = []
        if stretch:
            yield stretch[:_LONGEST]

    def _name(self, text: str, tokens: list[re.Match[str]], known: Collection[str]) -> tuple[int, int] | None:
        """Start and end of the name that these words hold, if they hold one."""
        start, end = tokens[0].start(), tokens[-1].end()
        words = [token.group().casefold() for token in tokens]
        before = text[max(0, start - 90) : start]
        if initials := _INITIALS.search(before):
            if self._stands_as_a_name(words, before[: initials.start(1)], text, end):
                return start - len(initials[1]), end
        if self._stands_as_a_name(words, before, text, end):
            return start, end
        for token, word in zip(tokens, words, strict=True):
            before = text[max(0, token.start() - 90) : token.start()]
            if word in self._given and not self._is_public(words) and not _names_a_thing(before, text, end):
                if not _is_cited(before, text, end):
                    return token.start(), end
            if word in known and self._is_mention(word, before, text[token.end() : token.end() + 12]):
                return token.start(), token.end()
        return None

    def _stands_as_a_name(self, words: list[str], before: str, text: str, end: int) -> bool:
        """Whether the words around leave no other reading, so that even a doubtful or unlisted name is one."""
        listed = words[0] in self._given or words[0] in self._doubtful
        if _INTRODUCED.search(before):
            return True
        related = _RELATED.search(before)
        if related and related["pause"]:
            return listed and text[end : end + 1] in {",", ".", ""}
        if related and (related["close"] or listed):
            return True
        quoted = _is_cited(before, text, end)
        if _CLOSED.search(before) and _ENDS.match(text, end) and (listed or len(words) <= 2) and not quoted:
            return True
        if _GREETED.search(before) and listed and text[end : end + 1] in {",", ".", "!", "-", "\n", ""}:
            return True
        if self._is_public(words) or quoted:
            return False
        if _TITLED.search(before):
            return True
        credential = self._credential_next.match(text, end)
        return credential is not None and (bool(credential["plain"]) or listed) and (len(words) > 1 or words[0] in self._given)

    def _is_public(self, words: list[str]) -> bool:
        return " ".join(words) in self._public or any(word in self._public for word in words)

    def _is_mention(self, word: str, before: str, after: str) -> bool:
        """A known name again; one that may be a word too only inside a sentence, or where it has or does something."""
        if word in self._given or re.search(r"[\w,;][\"“']?[ \u00a0]$", before):
            return True
        return word not in self._doubtful and bool(_HAS_OR_DOES.match(after))


def _names_a_thing(before: str, text: str, end: int) -> bool:
    return bool(_PLACE_BEFORE.search(before) or _THING_AFTER.match(text, end))


def _is_cited(before: str, text: str, end: int) -> bool:
    """The person is named as the author of something, which the writer does not call "my book"."""
    cited = _CITED_BEFORE.search(before) or _CITED_AFTER.match(text, end)
    return bool(cited) and not _OWN_WORK.search(before)


def _span(text: str, start: int, end: int) -> Span:
    """The key is the name in lower case without initials: "Ann B. Lee" and "Ann Lee" are one person."""
    words = re.sub(r"(?<!\S)\w\.?(?=\s)", " ", re.sub(r"\s", " ", text[start:end]))
    return Span("NAME", start, end, " ".join(words.replace("’", "'").casefold().split()))


def _lines(name: str) -> list[str]:
    text = (files("prefkit.prompts") / "data" / name).read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]
