"""Read a judge's reply.

Reads   what a model wrote, and what it was asked
Gives   scores, a verdict or a choice; and why, where something could not be read

A reply that is the JSON asked for is read at once. Any other is searched: for JSON as models write it, and where that
says nothing, for lines, lists, tables and plain sentences. Where JSON answers, the words around it are not asked.

Never a guess: a score off its scale is no score and is not moved onto it, two readings that differ are none, and what
was not answered is None. ``failure`` says what could not be read, with at most forty characters of the reply.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from prefkit.judging.answers import UNDECIDED, Answer, Fault, read_best, read_verdict, score_reader, side
from prefkit.judging.loose_json import Array, Found, Node, Object, Scalar, find_json
from prefkit.judging.prose import ENUMERATED, LABELLED, Names, names_of, plain_name, said_of_names, without_asides
from prefkit.records import Score, Winner
from prefkit.rubric import Principle

OVERALL = "overall_"
"""The slot of the overall verdict; no principle has it."""

MOST_FAULTS = 3
"""Faults that a failure tells; further ones are counted. With twelve characters each they quote at most forty."""


@dataclass(frozen=True, slots=True)
class RatingAnswer:
    """A score for each principle asked, None where none could be read; ``failure`` is None where all have one."""

    scores: dict[str, Score | None]
    failure: str | None


@dataclass(frozen=True, slots=True)
class ComparisonAnswer:
    """The verdict overall and for each principle asked; ``failure`` is None where all could be read."""

    winner: Winner | None
    principles: dict[str, Winner | None]
    failure: str | None


@dataclass(frozen=True, slots=True)
class ChoiceAnswer:
    """The position from 0 of the response chosen, as shown; None with a ``failure`` where none could be read."""

    best: int | None
    failure: str | None


@dataclass(frozen=True, slots=True)
class Claim:
    """A value that stands where the answer for ``slot`` should stand, a principle's id or `OVERALL`."""

    slot: str
    value: Scalar


# --- ratings ----------------------------------------------------------------------------------------------------------


def read_rating(text: str, principles: Sequence[Principle]) -> RatingAnswer:
    """The score that a reply gives to each of the principles."""
    scores = _strict_rating(text, principles)
    if scores is not None:
        return RatingAnswer(scores, None)
    readings: dict[str, list[Answer]] = {one.id: [] for one in principles}
    readers = {one.id: score_reader(one.scale) for one in principles}
    said, (text, found) = text, _searched(text)
    claims = rating_claims(found.values, principles)
    for claim in claims:
        readings[claim.slot].append(readers[claim.slot].read(claim.value.value))
    if not claims and text.strip():
        names = names_of(principles)
        for slot, words in said_of_names(text, names):
            readings[slot].append(readers[slot].read(words))
        if len(principles) == 1 and not any(_answers(readings[principles[0].id])):
            only = principles[0]
            readings[only.id] += [readers[only.id].read(words) for words in _lone(text, found)]
            readings[only.id] += [readers[only.id].read(part.group()) for part in _OUT_OF_MOST.finditer(text)]
    settled = {name: _settled(answers) for name, answers in readings.items()}
    result = {name: None if isinstance(one, Fault | str) else one for name, one in settled.items()}
    return RatingAnswer(result, _failure(settled, said, found.cut, "score"))


def rating_claims(values: Sequence[Node], principles: Sequence[Principle]) -> list[Claim]:
    """Where JSON gives scores for principles, each with its place in the text."""
    names = names_of(principles)
    claims = [claim for value in values for claim in _rating_claims(value, names, principles)]
    if not claims and len(principles) == 1:
        claims = [Claim(principles[0].id, scalar) for value in values for scalar in _under_keys(value, _SCORE_KEYS)]
    return claims


def _strict_rating(text: str, principles: Sequence[Principle]) -> dict[str, Score | None] | None:
    """The scores where the reply is the JSON asked for, each on its scale; None where a closer look is needed."""
    reply = _strict_object(text, len(principles))
    if reply is None:
        return None
    scores: dict[str, Score | None] = {}
    for principle in principles:
        value = reply.get(principle.id)
        if type(value) is not int and type(value) is not float:
            return None
        score = score_reader(principle.scale).values.get(value)
        if score is None:
            return None
        scores[principle.id] = score
    return scores


def _rating_claims(node: Node, names: Names, principles: Sequence[Principle]) -> Iterator[Claim]:
    if isinstance(node, Array):
        for item in node.items:
            yield from _rating_claims(item, names, principles)
    if not isinstance(node, Object):
        return
    named = _named_slot(node, names)
    if named:
        yield from (Claim(named, scalar) for scalar in _inner(node, _SCORE_KEYS, named, principles))
    for key, child in node.members:
        slot = names.get(key)
        child = _unwrapped(child)
        if slot and isinstance(child, Scalar):
            yield Claim(slot, child)
        elif slot and isinstance(child, Object):
            yield from (Claim(slot, scalar) for scalar in _inner(child, _SCORE_KEYS, slot, principles))
        elif not isinstance(child, Scalar):
            yield from _rating_claims(child, names, principles)


def _inner(node: Object, keys: frozenset[str], slot: str, principles: Sequence[Principle] = ()) -> Iterator[Scalar]:
    """The answers in the object that belongs to a principle, such as ``{"score": 4, "max": 5}``."""
    most = next((one.scale.max for one in principles if one.id == slot), None)
    other = [child for key, child in node.members if plain_name(key) in _MOST_KEYS and isinstance(child, Scalar)]
    another_scale = most is not None and any(scalar.value != most for scalar in other)
    for key, child in node.members:
        child = _unwrapped(child)
        if plain_name(key) in keys and isinstance(child, Scalar):
            value = f"{child.value}/{other[0].value}" if another_scale else child.value
            yield Scalar(value, child.start, child.end)


def _lone(text: str, found: Found) -> Iterator[str]:
    """Words that may be the one answer asked for: labelled lines, the first line and the last, beside no object."""
    if any(isinstance(value, Object) for value in found.values):
        return
    lines = [line for line in text.splitlines() if line.strip()]
    for index, line in enumerate(lines):
        label = LABELLED.match(line)
        if label:
            yield line[label.end() :]
        elif index in (0, len(lines) - 1) and not ENUMERATED.match(line):
            yield line


_SCORE_KEYS = frozenset(("score", "rating", "value", "points", "grade", "mark", "level"))
_MOST_KEYS = frozenset(("max", "maximum", "outof", "maxscore", "scale", "total", "of"))
_NAME_KEYS = frozenset(("principle", "name", "id", "criterion", "criteria", "title", "dimension", "metric", "aspect"))
_OUT_OF_MOST = re.compile(r"(?<![\w./-])[0-9]+(?:\.[0-9]+)?\s*(?:/|out of)\s*[0-9]+(?:\.[0-9]+)?(?![\w/]|\.[0-9])")


# --- comparisons ------------------------------------------------------------------------------------------------------


def read_comparison(text: str, principles: Sequence[Principle]) -> ComparisonAnswer:
    """The verdict that a reply gives overall and for each of the principles, none for a verdict overall alone."""
    strict = _strict_comparison(text, principles)
    if strict is not None:
        return strict
    readings: dict[str, list[Answer]] = {name: [] for name in (*(one.id for one in principles), OVERALL)}
    said, (text, found) = text, _searched(text)
    claims = verdict_claims(found.values, principles)
    for claim in claims:
        readings[claim.slot].append(read_verdict(claim.value.value))
    if not claims and text.strip():
        for slot, words in said_of_names(text, names_of(principles, {OVERALL: _OVERALL_WORDS})):
            readings[slot].append(read_verdict(words))
        readings[OVERALL] += [read_verdict(words) for words in _MARKED.findall(text)]
        if not any(_answers(readings[OVERALL])):
            readings[OVERALL] += _preferred(text)
            readings[OVERALL] += [read_verdict(line) for line in _lone(text, found)]
    settled = {name: _settled(answers) for name, answers in readings.items()}
    verdicts: dict[str, Any] = {name: one if one in ("a", "b", "tie") else None for name, one in settled.items()}
    failure = _failure(settled, said, found.cut, "verdict")
    return ComparisonAnswer(verdicts.pop(OVERALL), verdicts, failure)


def verdict_claims(values: Sequence[Node], principles: Sequence[Principle]) -> list[Claim]:
    """Where JSON gives verdicts, for principles and overall, each with its place in the text."""
    names = names_of(principles)
    return [claim for value in values for claim in _verdict_claims(value, names, whole=True)]


def _strict_comparison(text: str, principles: Sequence[Principle]) -> ComparisonAnswer | None:
    """The verdicts where the reply is the JSON asked for; None where a closer look is needed."""
    reply = _strict_object(text, 2 if principles else 1, len(principles))
    inner = reply.get("principles") if reply and principles else {}
    if reply is None or type(inner) is not dict or len(inner) != len(principles):
        return None
    verdicts: dict[str, Winner | None] = {}
    try:
        for principle in principles:
            verdicts[principle.id] = _VERDICTS[inner[principle.id]]
        return ComparisonAnswer(_VERDICTS[reply["overall"]], verdicts, None)
    except (KeyError, TypeError):
        return None


def _verdict_claims(node: Node, names: Names, *, whole: bool) -> Iterator[Claim]:
    """``whole``: whether a verdict without a principle's name, here, is the overall one."""
    if isinstance(node, Array):
        for item in node.items:
            yield from _verdict_claims(item, names, whole=whole)
    if not isinstance(node, Object):
        return
    named = _named_slot(node, names, overall=True)
    if named:
        yield from (Claim(named, scalar) for scalar in _inner(node, _VERDICT_KEYS, named))
    for key, child in node.members:
        slot, plain = names.get(key), plain_name(key)
        child = _unwrapped(child)
        if slot and isinstance(child, Scalar):
            yield Claim(slot, child)
        elif slot and isinstance(child, Object):
            yield from (Claim(slot, scalar) for scalar in _inner(child, _VERDICT_KEYS, slot))
        elif isinstance(child, Scalar):
            if plain in _VERDICT_KEYS and whole and not named:
                yield Claim(OVERALL, child)
        else:
            within = whole and (plain in _VERDICT_KEYS or plain in _CONTAINERS)
            yield from _verdict_claims(child, names, whole=within)


def _preferred(text: str) -> Iterator[Winner]:
    """The sides that plain sentences call better or prefer."""
    for found in _SENTENCE.finditer(text):
        reach = max(0, found.start() - 200)
        begun = max(reach, *(text.rfind(sign, reach, found.start()) + 1 for sign in ".!?\n"))
        if not _DOUBT.search(text[begun : found.start()]):
            yield side(found["better"] or found["preferred"])


_VERDICTS: dict[str, Winner] = {"A": "a", "B": "b", "tie": "tie"}
_VERDICT_KEYS = frozenset(
    ("overall", "winner", "verdict", "better", "best", "preference", "preferred", "choice", "answer", "decision")
).union(
    (f"{kind}{what}" for kind in ("overall", "final") for what in ("winner", "verdict", "preference", "answer")),
    ("betterresponse", "bestresponse", "preferredresponse", "result"),
)
_CONTAINERS = frozenset(
    ("results", "comparison", "judgement", "judgment", "evaluation", "output", "response", "data", "final", "reply")
)
_OVERALL_WORDS = (
    r"(?:(?:the|my|final|overall)\s+)*(?:overall|verdict|winner|decision|answer|choice|preference|judge?ment|"
    r"(?:better|best|preferred)(?:\s+(?:response|one|answer))?)"
)
_MARKED = re.compile(r"\[\[\s*([^\[\]\n]{1,20}?)\s*\]\]")
_SENTENCE = re.compile(
    r"\b(?:(?P<better>Response\s+[AB]|[AB])\s+(?:is|was)\s+(?:(?:clearly|slightly|somewhat|much|far|marginally|"
    r"definitely|overall|the)\s+)*(?:better|best|stronger|superior|preferable|preferred|winner)"
    r"|(?i:i|we)\s+(?i:would\s+)?(?i:prefer|choose|pick|favou?r|go with)\s+(?P<preferred>Response\s+[AB]|[AB]))\b"
    r"(?!\s+(?:on|at|in|for|with|when|if|by|regarding)\b)"
)
_DOUBT = re.compile(
    r"\b(?:no|not|never|neither|nor|whether|if|unless|although|though|while|than)\b|n't\b", re.IGNORECASE
)


# --- choices ----------------------------------------------------------------------------------------------------------


def read_choice(text: str, count: int) -> ChoiceAnswer:
    """Which of ``count`` responses, numbered from 1, a reply calls the best."""
    strict = _strict_choice(text, count)
    if strict is not None:
        return ChoiceAnswer(strict, None)
    said, (text, found) = text, _searched(text)
    claims = [scalar for value in found.values for scalar in _under_keys(value, _VERDICT_KEYS)]
    readings: list[Answer] = [read_best(claim.value, count) for claim in claims]
    if not claims and text.strip():
        readings += [
            read_best(words, count) for _, words in said_of_names(text, names_of((), {OVERALL: _OVERALL_WORDS}))
        ]
        readings += [read_best(words, count) for words in _MARKED.findall(text)]
        if not any(_answers(readings)):
            readings += [read_best(number, count) for number in _BEST.findall(text)]
            readings += [read_best(line, count) for line in _lone(text, found)]
    settled = _settled(readings)
    best = settled if isinstance(settled, int) else None
    return ChoiceAnswer(best, _failure({"best": settled}, said, found.cut, "choice"))


def _strict_choice(text: str, count: int) -> int | None:
    reply = _strict_object(text, 1)
    best = reply.get("best") if reply else None
    return best - 1 if type(best) is int and 1 <= best <= count else None


_BEST = re.compile(r"\b[Rr]esponse\s+([0-9]+)\s+(?:is|was)\s+(?:(?:clearly|slightly|overall|the)\s+)*(?:best|winner)\b")


# --- what they share --------------------------------------------------------------------------------------------------


def _strict_object(text: str, asked: int, inner: int = 0) -> dict[str, Any] | None:
    """The one JSON object of a reply, of ``asked`` keys beside a reason; None where there is anything else.

    What stands around the braces says nothing, but for thinking and repeated texts, which want a closer look.
    A key that stands twice would be lost in a dict. It shows as a colon too many, and then, as a reason may hold
    colons as well, the pairs are counted.
    """
    if "<" not in text:
        text = text[text.find("{") : text.rfind("}") + 1]
    try:
        reply = msgspec.json.decode(text)
        if type(reply) is not dict:
            return None
        spare = len(reply) - asked
        if spare and not (spare == 1 and ("reason" in reply or "_reason" in reply)):
            return None
        if text.count(":") != len(reply) + inner:
            json.loads(text, object_pairs_hook=_all_different)
    except (ValueError, RecursionError):
        return None
    return reply


def _all_different(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _searched(text: str) -> tuple[str, Found]:
    text = without_asides(text)
    return text, find_json(text)


def _unwrapped(node: Node) -> Node:
    """``[[A]]`` as ``A``."""
    while isinstance(node, Array) and len(node.items) == 1:
        node = node.items[0]
    return node


def _named_slot(node: Object, names: Names, *, overall: bool = False) -> str | None:
    """What an object such as ``{"principle": "Empathy", "score": 4}`` is about."""
    for key, child in node.members:
        if plain_name(key) in _NAME_KEYS and isinstance(child, Scalar) and isinstance(child.value, str):
            slot = names.get(child.value)
            if slot or not overall:
                return slot
            return OVERALL if plain_name(child.value).startswith("overall") else None
    return None


def _under_keys(node: Node, keys: frozenset[str]) -> Iterator[Scalar]:
    node = _unwrapped(node)
    if isinstance(node, Array):
        for item in node.items:
            yield from _under_keys(item, keys)
    elif isinstance(node, Object):
        for key, child in node.members:
            child = _unwrapped(child)
            if not isinstance(child, Scalar):
                yield from _under_keys(child, keys)
            elif plain_name(key) in keys:
                yield child


def _answers(readings: Sequence[Answer]) -> Iterator[bool]:
    return (reading is not None for reading in readings)


def _settled(readings: Sequence[Answer]) -> Answer:
    """The one answer that all readings give; a fault where they differ; None where there is none."""
    answers = [reading for reading in readings if reading is not None]
    if not answers:
        return None
    if all(answer == answers[0] for answer in answers):
        return answers[0]
    if all(isinstance(answer, Fault) for answer in answers):
        return answers[0]
    return UNDECIDED


def _failure(settled: dict[str, Answer], text: str, cut: bool, what: str) -> str | None:
    """What could not be read, in few words."""
    missing = [name for name, answer in settled.items() if answer is None]
    faults = [f"{_shown(name)}: {answer.why}" for name, answer in settled.items() if isinstance(answer, Fault)]
    if not missing and not faults:
        return None
    if not without_asides(text).strip():
        return "only thinking, or what was shown" if text.strip() else "an empty reply"
    if missing:
        named = [_shown(name) for name in missing[:MOST_FAULTS]]
        more = f" and {len(missing) - MOST_FAULTS} more" if len(missing) > MOST_FAULTS else ""
        none_at_all = len(missing) == len(settled) > 1
        faults.append(f"no {what}" if none_at_all or what == "choice" else f"no {what} for {', '.join(named)}{more}")
    more = f"; {len(faults) - MOST_FAULTS} more" if len(faults) > MOST_FAULTS else ""
    return ("the reply is cut off; " if cut else "") + "; ".join(faults[:MOST_FAULTS]) + more


def _shown(name: str) -> str:
    return "overall" if name == OVERALL else name
