"""Find answers that a model wrote in lines, lists, sentences and tables instead of JSON.

Reads   text, and the names of what was asked
Gives   for each name that an answer follows, the words that stand there

A name counts where a line or a clause begins with it: in "Patient safety: 4" nothing is said about a principle named
Safety. What the words mean is for ``answers.py`` to say.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping

from prefkit.rubric import Principle

ENUMERATED = re.compile(r"\W*\d+\s*[.)]\s+\S")
"""A point of a list, whose number is no score."""

Said = tuple[str, str]
"""What was asked, and the words after it."""

_THINKING = re.compile(
    r"<(?P<end>/)?(?:think|thinking|thought|thoughts|reasoning|reflection|scratchpad)>|<\|channel\|>final<\|message\|>",
    re.IGNORECASE,
)
_SHOWN = re.compile(
    r"<<(?:prompt|dialogue|response|example)(?: \w+)? (?P<code>[0-9a-f]{16})>>.*?(?:<<end (?P=code)>>|\Z)", re.DOTALL
)


def without_asides(text: str) -> str:
    """The text with blanks where a model thought aloud or repeated what it was shown, delimiters and all: a score in
    there is none of its own. Places in the text stay what they are.

    An end of thinking without a beginning ends a thought that began with the text: some servers swallow the tag.
    """
    if "<" not in text:
        return text
    text = _SHOWN.sub(lambda shown: " " * len(shown.group()), text)
    begun: int | None = None
    for tag in _THINKING.finditer(text):
        if tag["end"] or "|" in tag.group():
            start = 0 if begun is None or not tag["end"] else begun
            text = f"{text[:start]}{' ' * (tag.end() - start)}{text[tag.end() :]}"
            begun = None
        elif begun is None:
            begun = tag.start()
    return text if begun is None else text[:begun] + " " * (len(text) - begun)


class Names:
    """Finds what was asked by its id or title, whatever its case and however its words are joined.

    Args:
        named: the id and title of each principle; a name that two of them share is nobody's.
        others: further slots with the patterns of their names, such as those of the overall verdict.
    """

    def __init__(self, named: Iterable[tuple[str, str]], others: Iterable[tuple[str, str]] = ()) -> None:
        named = tuple(named)
        self._exact = {slot for slot, _ in named}
        self._plain: dict[str, str | None] = {}
        for slot, _ in named:
            self._plain[plain_name(slot)] = slot if plain_name(slot) not in self._plain else None
        ids = set(self._plain)
        for slot, title in named:
            plain = plain_name(title)
            if plain not in ids:  # an id goes before a title
                self._plain[plain] = slot if self._plain.get(plain, slot) == slot else None
        self._words = {name.strip() for pair in named for name in pair}
        self._others = dict(others)

    @functools.cached_property
    def pattern(self) -> re.Pattern[str]:
        """Matches any of the names, the longest that stands there."""
        patterns = [_joined(name) for name in sorted(self._words, key=lambda name: (-len(name), name))]
        patterns += [f"(?P<{slot}>{pattern})" for slot, pattern in self._others.items()]
        return re.compile(rf"(?<![\w-])(?:{'|'.join(patterns) or '(?!)'})(?![\w-])", re.IGNORECASE)

    def get(self, name: str) -> str | None:
        """The id of the principle that a key or a cell names: ``1. Empathy (1-5)``, ``empathy_score``."""
        if name in self._exact:
            return name
        for words in (name, _ORNAMENTS.sub("", name)):
            plain = plain_name(words)
            for form in (plain, _SUFFIX.sub("", plain)):
                if form and form in self._plain:
                    return self._plain[form]
        return None

    def slot(self, found: re.Match[str]) -> str | None:
        """What a match of the pattern names."""
        for other in self._others:
            if found[other]:
                return other
        return self.get(found.group())


def names_of(principles: Iterable[Principle], others: Mapping[str, str] | None = None) -> Names:
    """The names of principles and of further slots, prepared once for all replies to one kind of question."""
    return _names(tuple((one.id, one.title) for one in principles), tuple((others or {}).items()))


@functools.lru_cache(maxsize=64)
def _names(named: tuple[tuple[str, str], ...], others: tuple[tuple[str, str], ...]) -> Names:
    return Names(named, others)


def plain_name(name: str) -> str:
    """A name's letters and digits, without case: ``Emotional reactions`` is ``emotional_reactions``."""
    return "".join(filter(str.isalnum, name.casefold()))


_ORNAMENTS = re.compile(r"^\W*\d+\s*[.):]\s*|\([^()]*\)|\[[^\[\]]*\]")
_SUFFIX = re.compile(r"(?:score|rating|grade|points|level|verdict|winner)$")


def _joined(name: str) -> str:
    return r"[\s_-]*".join(re.escape(word) for word in re.split(r"[\s_-]+", name) if word)


_MARKS = r"[\s>*_`\"'“”|#•·–—+-]*"
_BEFORE = re.compile(
    rf"(?:^|[,;.|)]|\band\b){_MARKS}(?:\(?\d+\s*[.):]{_MARKS}|\[{_MARKS})?"
    r"(?:(?:my\s+|the\s+|final\s+)*(?:score|rating|grade|verdict|winner)\s*(?:for|of|on|in)?\s*[:(-]?\s*|"
    r"(?:i(?:'d| would| will| do)?\s+)?(?:give|rate|score|assign|grade|on|for|in|in terms of)\s+)?(?:the\s+)?"
    r"[*_`\"'“]*$",
    re.IGNORECASE,
)
_LINK = re.compile(
    r"[*_`\"'”’\])]*+\s*+(?:\([^()\n]{0,80}\))?[\s*_`\"']*+(?:(?:score|rating|grade|verdict|winner|response|answer)\b)?"
    r"[\s*_`\"']*+(?:[-–—=]++>|[:：=|→,]++|[-–—]++(?=[\s*_`\"'(\[A-Za-z0-9])|"
    r"(?:\b(?:is|was|gets?|got|scores?|scored|rates?|rated|deserves|earns|receives|goes to|would be|should be|at|of|"
    r"an?|as|with)\b\s*+)++|(?<=[\s*_`\"'\])])(?=[0-9(\[]))"
    r"[\s*_`\"']*+(?:(?:score|rating|grade|verdict|winner)\b(?:\s*(?:is|of)\b)?\s*[:=-]?)?\s*+",
    re.IGNORECASE,
)
_NOTHING_MORE = re.compile(r"[\s*_`\"':.#=|–—\[\]-]*+(?:\([^()]{0,80}\))?[\s*_`\"':.]*+$")
LABELLED = re.compile(
    rf"{_MARKS}(?:(?:my|the|final|overall)\s+)*(?:score|rating|grade|points|verdict|winner|better)\b[\s*_`\"']*"
    r"(?:(?:is|of)\b)?\s*[:：=-]*\s*",
    re.IGNORECASE,
)


def said_of_names(text: str, names: Names) -> Iterator[Said]:
    """What follows each name, in lines, lists and tables."""
    heading: str | None = None
    table: list[list[str]] = []
    for line in [*text.splitlines(), ""]:
        if line.count("|") >= 2:
            table.append([cell.strip() for cell in line.strip().strip("|").split("|")])
            continue
        if table:
            yield from _of_table(table, names)
            table = []
        clauses = list(_clauses(line, names))
        for slot, rest in clauses:
            link = _LINK.match(rest)
            if _NOTHING_MORE.match(rest):
                heading = slot
            elif link and slot:
                heading = None
                yield slot, rest[link.end() :]
        if heading and not clauses:
            label = LABELLED.match(line)
            if label or not ENUMERATED.match(line):
                yield heading, line[label.end() :] if label else line


def _clauses(line: str, names: Names) -> Iterator[tuple[str | None, str]]:
    """Each name that begins a clause, with what follows it up to the next."""
    begun = [
        found
        for found in names.pattern.finditer(line)
        if _BEFORE.search(line[max(0, found.start() - _REACH) : found.start()])
    ]
    for index, found in enumerate(begun):
        end = begun[index + 1].start() if index + 1 < len(begun) else len(line)
        rest = line[found.end() : end]
        if index + 1 < len(begun):
            rest = rest[:-_REACH] + _JOINT.sub("", rest[-_REACH:])
        yield names.slot(found), rest


_JOINT = re.compile(
    r"[\s,;|.*_`\"'(]*+(?:\band\b)?[\s,;|.*_`\"'(]*+"
    r"(?:(?:score|rating|verdict|winner) (?:for|of|on)\b|\b(?:for|on|in|in terms of)\b)?[\s*_`\"'(]*+(?:the\s)?"
    r"(?:(?<=[,;] )\d+[.)])?[\s*_`\"'(\[]*+$",
    re.IGNORECASE,
)
"""What stands between an answer and the next name; it belongs to neither."""

_REACH = 80
"""Characters before a name in which it is looked for whether a clause begins there."""

_RULE = re.compile(r":?-+:?")
_SCORE_HEAD = re.compile(
    r"\W*(?:your |final )?(?:score|rating|grade|points|value|verdict|winner|better|answer)", re.IGNORECASE
)


def _of_table(rows: list[list[str]], names: Names) -> Iterator[Said]:
    """What a table says: a row for each name, or a column for each."""
    body = [row for row in rows if not all(_RULE.fullmatch(cell) or not cell for cell in row)]
    if not body:
        return
    heads = [names.get(cell) for cell in body[0]]
    if len(body) > 1 and sum(head is not None for head in heads) > 1:
        for row in body[1:]:
            yield from ((head, cell) for head, cell in zip(heads, row, strict=False) if head)
        return
    column = next((at for at, cell in enumerate(body[0]) if at and _SCORE_HEAD.match(cell)), None)
    for row in body:
        at = next((index for index, cell in enumerate(row) if _row_name(cell, names)), None)
        slot = None if at is None else _row_name(row[at], names)
        if at is None or slot is None:
            continue
        if column is not None and column < len(row):
            yield slot, row[column]
        else:
            yield from ((slot, cell) for cell in row[at + 1 :])


def _row_name(cell: str, names: Names) -> str | None:
    bare = cell.strip(" *_`\"'")
    whole = names.pattern.fullmatch(bare)
    return names.slot(whole) if whole else names.get(bare)
