"""Mark prompts that a therapist would want to look at first: self-harm, harm to others, abuse.

Reads   texts, and the patterns of `risk.yaml`
Gives   findings (category, pattern, where it stands), or only the marks, "risk:self-harm"

Words decide, and nothing else: the patterns are made to miss little and mark too much, since a wrong mark costs a
look and a missed one may cost more. A mark never removes a prompt. English mainly, and a short list for Chinese;
docs/screening.md says how many are missed. A screen for reading data, not a clinical instrument, and no use in a
conversation with somebody in need.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from importlib.resources import files

import yaml

_STRAIGHT = str.maketrans("\u2018\u2019\u02bc\uff07\u00a0", "'''' ")
_CLAUSE_BEFORE = 80  # characters before a match in which a negation may begin


@dataclass(frozen=True)
class RiskFinding:
    """One place in a text where a pattern was found: `text[start:end]`."""

    category: str
    pattern: str  # the phrase that `risk.yaml` gives as its example
    start: int
    end: int


@dataclass(frozen=True)
class _Pattern:
    category: str
    says: str
    find: re.Pattern[str]


def risk_findings(text: str) -> tuple[RiskFinding, ...]:
    """Find what shows risk, at most one place for each pattern, in the order of `risk.yaml`."""
    patterns, negation = _patterns()
    plain = _lower(text.translate(_STRAIGHT))
    findings = []
    for pattern in patterns:
        for match in pattern.find.finditer(plain):
            if not _negated(plain, match.start(), negation):
                findings.append(RiskFinding(pattern.category, pattern.says, match.start(), match.end()))
                break
    return tuple(findings)


def risk_marks(text: str) -> tuple[str, ...]:
    """Give each category that the text shows once: ("risk:self-harm", "risk:abuse")."""
    return tuple(dict.fromkeys(f"risk:{finding.category}" for finding in risk_findings(text)))


def _lower(text: str) -> str:
    """Lower case, each character in its place: matching it is twice as fast as ignoring case in the patterns."""
    lower = text.lower()
    return lower if len(lower) == len(text) else "".join(c.lower() if len(c.lower()) == 1 else c for c in text)


def _negated(text: str, start: int, negation: re.Pattern[str]) -> bool:
    return negation.search(text, max(0, start - _CLAUSE_BEFORE), start) is not None


@functools.cache
def _patterns() -> tuple[tuple[_Pattern, ...], re.Pattern[str]]:
    """The patterns of risk.yaml, compiled, and what takes a match back when it stands right before it."""
    rules = yaml.safe_load(files(__package__).joinpath("risk.yaml").read_text(encoding="utf-8"))
    words: dict[str, str] = rules["words"]

    def compiled(*alternatives: str) -> re.Pattern[str]:
        expression = "|".join(alternatives)
        for name, group in words.items():
            expression = expression.replace(f"<{name}>", group)
        return re.compile(expression.translate(_STRAIGHT).replace(" ", r"\s+"))

    patterns = tuple(
        _Pattern(category, rule["says"], compiled(*rule["find"]))
        for category, rules_of_category in rules["categories"].items()
        for rule in rules_of_category["patterns"]
    )
    return patterns, compiled(*(f"(?:{expression})$" for expression in rules["negation"]))
