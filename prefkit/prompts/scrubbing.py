"""Replace what identifies a person by typed placeholders.

Reads texts, gives them back with ``[NAME_1]``, ``[PHONE_1]``, ... and the list of what was replaced. The same thing
has the same placeholder throughout a document (a prompt with its responses): one ``known`` goes from text to text. A
first or last name alone is the person whose full name was met before.

Kinds: NAME, CREDENTIAL, ORGANISATION, TITLE (the writer's own book), EMAIL, URL, HANDLE, PHONE, ADDRESS, ID, BIRTHDATE.

This is a net with holes, not anonymisation: ``docs/scrubbing.md`` has the measurements. Crisis lines stay, so do cited
authors. Scrubbing a scrubbed text changes nothing: the rules run until they find nothing more.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files

import phonenumbers

from prefkit.prompts.contacts import ContactFinder, Span
from prefkit.prompts.names import NameFinder
from prefkit.prompts.signatures import SignatureFinder

Known = dict[tuple[str, str], str]

_RULES = (
    "scrubbing.py",
    "contacts.py",
    "names.py",
    "signatures.py",
    "data/credentials.txt",
    "data/given_names.txt",
    "data/helplines.txt",
    "data/not_names.txt",
    "data/public_names.txt",
)
_PLACEHOLDER = re.compile(r"\[([A-Z]+)_(\d+)\]")


@dataclass(frozen=True)
class Finding:
    """A replaced stretch; ``start`` and ``end`` are its place in the text as it came."""

    kind: str
    text: str
    placeholder: str
    start: int
    end: int


class Scrubber:
    """The rules, compiled once; it keeps nothing of the texts it has seen.

    ``version`` changes when a rule or a list changes.
    """

    def __init__(self) -> None:
        """Compile the rules and read the lists."""
        self._contacts = ContactFinder()
        self._signatures = SignatureFinder()
        self._names = NameFinder(self._signatures.credential_next)
        self.version = _version()

    def scrub(self, text: str, known: Known | None = None) -> tuple[str, list[Finding]]:
        """The text with placeholders, and what was replaced, in the order of the text.

        Args:
            text: what is to be scrubbed.
            known: (kind, normalised text) to placeholder, as an earlier call for the same document left it; new
                findings are added in place. None is a document of this one text.

        >>> Scrubber().scrub("Be well. Ann Example, LMFT, (202) 555-0143")[0]
        'Be well. [NAME_1], [CREDENTIAL_1], [PHONE_1]'
        """
        known = {} if known is None else known
        work, findings = text, list[Finding]()
        while spans := self._next(work, known):
            pieces, at, earlier = list[str](), 0, list(findings)
            for span in spans:
                placeholder = _placeholder(span, known, work)
                start = _origin(span.start, earlier)
                found = work[span.start : span.end]
                findings.append(Finding(span.kind, found, placeholder, start, start + len(found)))
                pieces += [work[at : span.start], placeholder]
                at = span.end
            work = "".join(pieces) + work[at:]
            findings.sort(key=lambda finding: finding.start)
        return work, findings

    def _next(self, work: str, known: Known) -> list[Span]:
        """What the first finder that finds anything finds: a placeholder set by one is context for the next."""
        if spans := self._contacts.find(work):
            return spans
        words = {word for kind, key in known if kind == "NAME" for word in key.split() if len(word) > 2}
        if spans := self._names.find(work, words):
            return _apart(spans)
        if spans := self._signatures.find(work):
            return _apart(spans)
        return _apart(_again(work, known))


def _origin(position: int, findings: list[Finding]) -> int:
    """Where a position in the half-scrubbed text lies in the original; ``findings`` made the difference, in order."""
    shift = 0
    for finding in findings:
        if position < finding.start + shift:
            break
        shift += len(finding.placeholder) - (finding.end - finding.start)
    return position - shift


def _placeholder(span: Span, known: Known, work: str) -> str:
    """The placeholder of this thing; a new one gets the next number that neither ``known`` nor the text has used."""
    placeholder = known.get((span.kind, span.key))
    if placeholder is None and span.kind == "NAME":
        placeholder = _same_person(span.key, known)
    if placeholder is None:
        used = [*known.values(), *(match.group() for match in _PLACEHOLDER.finditer(work))]
        numbers = [int(match[2]) for match in map(_PLACEHOLDER.fullmatch, used) if match and match[1] == span.kind]
        placeholder = f"[{span.kind}_{max(numbers, default=0) + 1}]"
    known[span.kind, span.key] = placeholder
    if span.kind == "NAME":
        words = span.key.split()
        for word in {words[0], words[-1]}:
            known.setdefault(("NAME", word), placeholder)
    return placeholder


def _same_person(key: str, known: Known) -> str | None:
    """The placeholder of someone met by first or last name alone, when no other full name has claimed it."""
    words = key.split()
    for word in (words[0], words[-1]) if len(words) > 1 else ():
        placeholder = known.get(("NAME", word))
        if placeholder and not any(
            kind == "NAME" and " " in name and known[kind, name] == placeholder for kind, name in known
        ):
            return placeholder
    return None


def _again(work: str, known: Known) -> list[Span]:
    """Practices and titles of several words that this document named before, word for word."""
    return [
        Span(kind, *match.span(), key)
        for kind, key in known
        if kind in ("ORGANISATION", "TITLE") and " " in key
        for match in re.finditer(rf"(?<!\w){re.escape(key)}(?!\w)", work, re.IGNORECASE)
    ]


def _apart(spans: list[Span]) -> list[Span]:
    """The spans in order, less those that overlap an earlier one."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if not kept or span.start >= kept[-1].end:
            kept.append(span)
    return kept


def _version() -> str:
    """A digest of the rules, the lists and the telephone library: what else decides what is found?"""
    digest = hashlib.sha256(phonenumbers.__version__.encode())
    for name in _RULES:
        digest.update((files("prefkit.prompts") / name).read_bytes())
    return digest.hexdigest()[:12]
