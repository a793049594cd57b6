"""Find people's names.

Reads a text and the lists ``data/given_names.txt``, ``not_names.txt`` and ``public_names.txt``; gives spans. No model:
a name is known by where it stands ("my husband ...", "Dr. ...", a sign-off, before a credential), or because it is a
given name that is neither word nor place. A name of the second sort is kept when it is cited ("a book by ...") or
widely known: whoever wrote a recommended book is no party to the conversation.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from prefkit.prompts.contacts import Span, word_lines

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
_LAST_INITIAL = re.compile(rf"{_S}[B-HJ-Z](?![\w'’])\.?(?=[\s\u00a0,.!?)]|\Z)")
_LONGEST = 4  # words in a name
_SIGNATURE = 160  # characters at the end of a text that may be one

_RELATIVE = (
    r"(?:ex[- ]?)?(?:step|grand|god|half)?[- ]?(?:husband|wife|son|daughter|brother|sister|mother|father|mom|mum|dad"
    r"|parent|child|kid|baby|girl|boy|spouse|partner|fianc[eé]e?|boyfriend|girlfriend|bf|gf|hubby|ex|uncle|aunt|cousin|nephew"
    r"|niece|friend|roommate|neighbou?r|co-?worker|colleague|boss|manager|supervisor|teacher|therapist|counsell?or|psychologist"
    r"|psychiatrist|doctor|lawyer|dog|cat)"
)
_TITLED = re.compile(
    rf"\b(?:Drs?|Mrs?|Ms|Miss|Mx|Prof|Professor|Rev|Reverend|Pastor|Rabbi|Coach|Officer|Judge|Nurse|Doctor|Aunt|Auntie"
    rf"|Uncle)\.?{_S}{{0,2}}$"
)
_INTRODUCED = re.compile(rf"\b(?:names?(?:['’]s| is| are| was|:)|named|goes by|go by){_S}$", re.IGNORECASE)
_RELATED = re.compile(
    rf"\b(?:(?P<close>my|his|her|our|your|their|whose)|an?|the){_S}(?:\w+{_S}){{0,2}}{_RELATIVE}(?P<pause>,)?{_S}$",
    re.IGNORECASE,
)
_ONE_CASE_NAME = re.compile(
    rf"\b(?:[Mm]y|[Hh]is|[Hh]er) (?:name(?:['’]?s| is)|{_RELATIVE}(?:['’]?s name is|,? named)?)"
    r" ([a-z]{3,}|[A-Z]{3,})(?![\w'’])"
)
_NEVER_IN_ONE_CASE = frozenset({"sue", "rob", "chuck", "harry", "wade", "jack", "lee", "don", "van", "may"})
_GREETED = re.compile(
    rf"(?:^|[\s.!?\"“,])(?:hi|hello|hey|dear|thanks|thank you|good (?:morning|evening|afternoon)),?{_S}$", re.IGNORECASE
)
_ONE_CASE_SIGN_OFF = re.compile(
    r"\b(?i:regards|kindly|sincerely|best|wishes|warmly|love|cheers|thanks|care|well|luck)[\s\u00a0,.~–-]{1,3}"
    r"(([a-z]{3,}|[A-Z]{3,})(?: [a-z]{3,}| [A-Z]{3,})?)(?![\w'’])"
)
_CLOSED = re.compile(
    r"\b(?:best(?: (?:wishes|regards|of luck)[^.!?\n]{0,40})?|regards|sincerely|respectfully|yours(?: \w+)?|cheers"
    r"|(?:warm|kind)(?:est|ly)?(?: (?:regards|wishes))?[^.!?\n]{0,12}|take care|be well|blessings|namaste|peace|love"
    r"|thanks|thank you|good luck[^.!?\n]{0,40}|(?:this|that|it) helps|wish(?:es|ing)? you[^.!?\n]{0,40}|all the best"
    r"|wishes|my best(?: to you)?|with (?:care|love|warmth|gratitude|kindness|hope|light))[\s\u00a0,.!~–—-]*$"
    r"|(?:\A|[\s\u00a0.!?)])[-–—~]{1,2}[ \u00a0]?$",
    re.IGNORECASE,
)
_ENDS = re.compile(r"(?:[\s\u00a0.,!)(~|–—-]|(?:and |or |at )?\[[A-Z]+_\d+\])*(?:\Z|P\.?S\b)|[ \t\u00a0.,!]*\n")
_PLACE_BEFORE = re.compile(
    rf"\b(?:San|Santa|Los|Las|St|Saint|Fort|Ft|El|Port|Lake|Mount|Mt|New|North|South|East|West|Hotel|Camp|Puerto)\.?{_S}$"
)
_THING_AFTER = re.compile(
    rf"(?:['’]s)?{_S}(?:Method|Institute|University|College|Hospital|Center|Centre|Foundation|Project|Act|Law|Disease"
    r"|Syndrome|Disorder|Inventory|Scale|Test|Questionnaire|Technique|Effect|Theory|Model|School|Street|Avenue|County|Beach"
    r"|City|Island|[Tt]alks?)\b"
)
_WORK = (
    r"(?:books?|work|workbook|article|novel|memoir|study|theory|model|research|method|approach|talk|TED|podcast|videos?"
    r"|quote|poem)"
)
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
_INSIDE_A_SENTENCE = re.compile(r"[\w,;][\"“']?[ \u00a0]$")
_HAS_OR_DOES = re.compile(
    r"['’]s\b|[ \u00a0](?:is|was|has|had|and|said|says|told|will|would|can|could|did|does|never|just)\b"
)
_OWN_WORK = re.compile(rf"\bmy[\s\u00a0](?:\w+[\s\u00a0])?(?:{_WORK}|blog|website)\b", re.IGNORECASE)


class NameFinder:
    """Finds names of people.

    Args:
        credential_next: matches, from the end of a name, a credential; its group ``plain`` is empty when that
            credential is also a state or a word.
    """

    def __init__(self, credential_next: re.Pattern[str]) -> None:
        """Read the lists."""
        listed = word_lines("given_names.txt")
        self._doubtful = frozenset(name.rstrip("?") for name in listed if name.endswith("?"))
        self._given = frozenset(listed) - {name for name in listed if name.endswith("?")}
        self._stop = frozenset(word for line in word_lines("not_names.txt") for word in line.split())
        self._public = frozenset(word_lines("public_names.txt"))
        self._credential_next = credential_next

    def find(self, text: str, known: Collection[str]) -> list[Span]:
        """Spans in the order of the text; ``known`` are lower-case words of names met before in this document."""
        found = []
        for run in _RUN.finditer(text):
            for tokens in self._stretches(run):
                name = self._name(text, tokens, known)
                if name:
                    found.append(_span(text, *name))
        return sorted([*found, *self._in_one_case(text)], key=lambda span: span.start)

    def _in_one_case(self, text: str) -> Iterator[Span]:
        """Names in small or in large letters, where they introduce someone or sign."""
        for match in _ONE_CASE_NAME.finditer(text):
            if self._is_one_case_name(match[1]):
                yield _span(text, *match.span(1))
        for match in _ONE_CASE_SIGN_OFF.finditer(text, max(0, len(text) - _SIGNATURE)):
            last = _ENDS.match(text, match.end()) or self._credential_next.match(text, match.end())
            if last and self._is_one_case_name(match[2]):
                yield _span(text, *match.span(1))

    def _is_one_case_name(self, word: str) -> bool:
        return word.casefold() in self._given and word.casefold() not in _NEVER_IN_ONE_CASE

    def _stretches(self, run: re.Match[str]) -> Iterator[list[re.Match[str]]]:
        """The run's words, cut where a word is none of a name."""
        stretch: list[re.Match[str]] = []
        for token in _TOKEN.finditer(run.string, run.start(), run.end()):
            word = token.group().casefold()
            listed = word in self._given or word in self._doubtful
            if listed or not self._stop.intersection(re.split(r"[-'’]", word)):
                stretch.append(token)
                if len(stretch) < _LONGEST:
                    continue
            if stretch:
                yield stretch
                stretch = []
        if stretch:
            yield stretch

    def _name(self, text: str, tokens: list[re.Match[str]], known: Collection[str]) -> tuple[int, int] | None:
        """Start and end of the name that these words hold, if they hold one."""
        start, end = tokens[0].start(), _with_last_initial(text, tokens[-1].end())
        words = [token.group().casefold() for token in tokens]
        before = text[max(0, start - 90) : start]
        initials = _INITIALS.search(before)
        if initials and self._stands_as_a_name(words, before[: initials.start(1)], text, end):
            return start - len(initials[1]), end
        if self._stands_as_a_name(words, before, text, end):
            return start, end
        for i, (token, word) in enumerate(zip(tokens, words, strict=True)):
            first = tokens[i - 1] if i and words[i - 1] in self._doubtful else token
            if (
                word in self._given
                and not self._is_public(words)
                and not _is_set_aside(text, first.start(), token.end(), end)
            ):
                return first.start(), end
            if word in known and self._is_mention(word, text, token):
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
        if _GREETED.search(before) and listed and text[end : end + 1] in {",", ".", "!", "-", "\n", ""}:
            return True
        if self._is_public(words) or _is_cited(before, text, end):
            return False
        if _CLOSED.search(before) and _ENDS.match(text, end) and (listed or len(words) <= 2):
            return True
        if _TITLED.search(before):
            return True
        credential = self._credential_next.match(text, end)
        if credential is None or (len(words) == 1 and words[0] not in self._given):
            return False
        return listed or bool(credential["plain"])

    def _is_public(self, words: list[str]) -> bool:
        return " ".join(words) in self._public or any(word in self._public for word in words)

    def _is_mention(self, word: str, text: str, token: re.Match[str]) -> bool:
        """A known name again; one that may be a word too only inside a sentence, or where it has or does something."""
        if word in self._given or _INSIDE_A_SENTENCE.search(text[max(0, token.start() - 4) : token.start()]):
            return True
        return word not in self._doubtful and bool(_HAS_OR_DOES.match(text, token.end()))


def _with_last_initial(text: str, end: int) -> int:
    """The end of the name, with the letter that may stand for the last name; "I" and "A" are words."""
    initial = _LAST_INITIAL.match(text, end)
    return initial.end() if initial else end


def _is_set_aside(text: str, start: int, given_end: int, end: int) -> bool:
    """The name is a place's, a thing's or a cited author's."""
    before = text[max(0, start - 90) : start]
    thing = _THING_AFTER.match(text, given_end) or _THING_AFTER.match(text, end)
    return bool(thing or _PLACE_BEFORE.search(before)) or _is_cited(before, text, end)


def _is_cited(before: str, text: str, end: int) -> bool:
    """The person is named as the author of something, which the writer does not call "my book"."""
    cited = _CITED_BEFORE.search(before) or _CITED_AFTER.match(text, end)
    return bool(cited) and not _OWN_WORK.search(before)


def _span(text: str, start: int, end: int) -> Span:
    """The key is the name in lower case without initials: "Ann B. Lee" and "Ann Lee" are one person."""
    words = re.sub(r"(?<!\S)\w\.?(?=\s)", " ", re.sub(r"\s", " ", text[start:end]))
    return Span("NAME", start, end, " ".join(words.replace("’", "'").casefold().split()))
