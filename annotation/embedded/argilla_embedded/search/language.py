"""What an annotator types into the search box, as an FTS5 MATCH expression.

The language is Elasticsearch's `simple_query_string` as Argilla asks for it, parsed the way Lucene's SimpleQueryParser
does: words are joined by AND; `+` and, `|` or, `-` not, `( )` grouping, `"a phrase"~N` with up to N words between,
`begin*`, `simlar~N` up to N letters away (2 at most), `\\` before a character that is meant as itself. `+` and `|` bind
equally, from left to right. Whatever does not fit (a lone quote, an unclosed bracket, `+` before anything) is ignored;
no text is an error. A text without any word finds nothing, as there.

Pure functions. Values never reach SQL: the expression is bound as one parameter, and inside it each word is quoted and
made only of characters that `words` lets through.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from argilla_embedded.search.words import Group, groups

LONGEST_QUERY = 4_000
"""Characters; what comes after is not read. Elasticsearch gives up (with an error) at 1,024 clauses."""
DEEPEST = 12
"""Brackets within brackets, and changes between + and | within a pair of them. What goes beyond is read as if it were
not there: FTS5 takes 256 levels."""
FARTHEST = 2
"""Letters that a word may be away: Lucene's maximum, and what `word~` without a number means."""

EVERY_RECORD = "\ue000"
"""Stands in a column of its own in every indexed text: FTS5 knows `a NOT b`, but not `NOT b` alone."""
NO_RECORD = "\ue001"
"""Stands in no text; neither character can come out of `words`."""

Similar = Callable[[str, int], Iterable[str]]
"""(word, distance) -> the indexed words at most so many letters away."""


@dataclass(frozen=True)
class Phrase:
    """Words in a row; one word is the shortest."""

    words: Group
    slop: int = 0  # words that may stand between
    begins: bool = False  # the last word is only the beginning of one


@dataclass(frozen=True)
class Fuzzy:
    """Words that are nearly this one."""

    word: str
    distance: int


@dataclass(frozen=True)
class Not:
    """Records that do not match."""

    query: "Query"


@dataclass(frozen=True)
class All:
    """Records that match every part."""

    queries: tuple["Query", ...]


@dataclass(frozen=True)
class Any:
    """Records that match some part."""

    queries: tuple["Query", ...]


Query = Phrase | Fuzzy | Not | All | Any


def parse(text: str) -> Query | None:
    """The query that `text` stands for; None when it has no word in it."""
    return _Reader(text[:LONGEST_QUERY]).read()


def match_expression(query: Query | None, *, columns: Sequence[str] = (), similar: Similar) -> str:
    """`query` for FTS5's MATCH, looking only into `columns` when any are named."""
    if query is None:
        return _quoted([NO_RECORD])
    within = f"{{{' '.join(columns)}}} : " if columns else ""
    return _expression(query, within, similar)


def _expression(query: Query, within: str, similar: Similar) -> str:
    if isinstance(query, Phrase):
        return within + _phrase(query)
    if isinstance(query, Fuzzy):
        near = [within + _quoted([word]) for word in similar(query.word, query.distance)]
        return f"({' OR '.join(near)})" if near else _quoted([NO_RECORD])
    if isinstance(query, Not):
        return f"({_quoted([EVERY_RECORD])} NOT {_expression(query.query, within, similar)})"
    if isinstance(query, Any):
        return f"({' OR '.join(_expression(part, within, similar) for part in query.queries)})"
    wanted = [_expression(part, within, similar) for part in query.queries if not isinstance(part, Not)]
    unwanted = [_expression(part.query, within, similar) for part in query.queries if isinstance(part, Not)]
    found = f"({' AND '.join(wanted or [_quoted([EVERY_RECORD])])})"
    return f"({found} NOT ({' OR '.join(unwanted)}))" if unwanted else found


def _phrase(phrase: Phrase) -> str:
    if phrase.slop and len(phrase.words) > 1:
        # FTS5 counts every word between the first and the last; those of the phrase itself are not the slop's.
        between = phrase.slop + len(phrase.words) - 2
        return f"NEAR({' '.join(_quoted([word]) for word in phrase.words)}, {between})"
    return _quoted(phrase.words) + (" *" if phrase.begins else "")


def _quoted(words: Iterable[str]) -> str:
    return '"' + " ".join(words).replace('"', '""') + '"'


class _Reader:
    """One pass over a text, or over what stands in a pair of brackets.

    `joined` collects the parts under one operator; when the operator changes, what was collected becomes the first
    part of the new one, so that operators of equal rank are read from left to right.
    """

    def __init__(self, text: str, depth: int = 0) -> None:
        self.text = text
        self.depth = depth
        self.at = 0
        self.operator: type[All | Any] | None = None  # written, and waiting for its right side
        self.joining: type[All | Any] | None = None  # under which `joined` was collected
        self.joined: list[Query] = []
        self.turns = 0  # from one operator to the other
        self.negated = False

    def read(self) -> Query | None:
        while self.at < len(self.text):
            if self._negation():
                continue
            self._part()
            self.negated = False  # not even a space may stand between `-` and what it denies
        if self.joining:
            return self.joining(tuple(self.joined))
        return self.joined[0] if self.joined else None

    def _negation(self) -> bool:
        if self.text[self.at] != "-":
            return False
        self.negated = not self.negated
        self.at += 1
        return True

    def _part(self) -> None:
        character = self.text[self.at]
        if character == "(":
            self._brackets()
        elif character == '"':
            self._quotes()
        elif character in "+|":
            if self.joined and self.operator is None:
                self.operator = All if character == "+" else Any
            self.at += 1
        elif character == ")" or character.isspace():
            self.at += 1
        else:
            self._token()

    def _brackets(self) -> None:
        start = self.at + 1
        end = self._closing(start)
        if end is None or self.depth == DEEPEST:
            self.at = start
        elif end == start:
            self.operator = None
            self.at = end + 1
        else:
            self._join(_Reader(self.text[start:end], self.depth + 1).read())
            self.at = end + 1

    def _closing(self, start: int) -> int | None:
        open_brackets, at = 1, start
        while at < len(self.text):
            if self.text[at] == "\\":
                at += 1
            elif self.text[at] in "()":
                open_brackets += 1 if self.text[at] == "(" else -1
                if not open_brackets:
                    return at
            at += 1
        return None

    def _quotes(self) -> None:
        start = at = self.at + 1
        phrase = []
        while at < len(self.text) and self.text[at] != '"':
            if self.text[at] == "\\" and at + 1 < len(self.text):
                at += 1
            phrase.append(self.text[at])
            at += 1
        if at >= len(self.text):
            self.at = start
            return
        self.at = at + 1
        if at == start:
            self.operator = None
            return
        slop = self._number(FARTHEST) if self._tilde() else 0
        self._join(_phrase_of("".join(phrase), slop))

    def _token(self) -> None:
        token: list[str] = []
        begins = False
        while self.at < len(self.text):
            character = self.text[self.at]
            if character == "\\":
                begins = False
                self.at += 1
                if self.at < len(self.text):
                    token.append(self.text[self.at])
                    self.at += 1
                continue
            if self._ends_token(character):
                break
            if character == "~" and token:
                distance = min(self._number(FARTHEST), FARTHEST) if self._tilde() else 0
                self._join(_words_of("".join(token), distance=distance))
                return
            begins = character == "*" and bool(token)
            token.append(character)
            self.at += 1
        if token:
            self._join(_words_of("".join(token), begins=begins))

    @staticmethod
    def _ends_token(character: str) -> bool:
        return character in '"|+()' or character.isspace()

    def _tilde(self) -> bool:
        if self.at < len(self.text) and self.text[self.at] == "~":
            self.at += 1
            return True
        return False

    def _number(self, unsaid: int) -> int:
        """The number after a `~`; `unsaid` when none is written, 0 when it cannot be read."""
        start = self.at
        while self.at < len(self.text) and not self._ends_token(self.text[self.at]):
            self.at += 1
        digits = self.text[start : self.at]
        if not digits:
            return unsaid
        return min(int(digits), LONGEST_QUERY) if digits.isascii() and digits.isdigit() else 0

    def _join(self, part: Query | None) -> None:
        if part is not None:
            operator = self.operator or All
            if self.joining and self.joining is not operator:
                if self.turns == DEEPEST:
                    operator = self.joining
                else:
                    self.joined = [self.joining(tuple(self.joined))]
                    self.turns += 1
            if self.joined:
                self.joining = operator
            self.joined.append(Not(part) if self.negated else part)
        self.operator = None


def _phrase_of(text: str, slop: int) -> Query | None:
    words = tuple(word for group in groups(text) for word in group)
    return Phrase(words, slop=slop) if words else None


def _words_of(token: str, *, distance: int = 0, begins: bool = False) -> Query | None:
    """What was written without a space between: its words must all be there, those of one group side by side."""
    found = groups(token)
    parts: list[Query] = [_fuzzy(group, distance) for group in found]
    if begins and found:
        parts[-1] = Phrase(found[-1], begins=True)
    if len(parts) > 1:
        return All(tuple(parts))
    return parts[0] if parts else None


def _fuzzy(group: Group, distance: int) -> Query:
    return Fuzzy(group[0], distance) if distance and len(group) == 1 else Phrase(group)
