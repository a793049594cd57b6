"""Scores as expected values over what a judge nearly said.

Reads   the tokens of a reply, each with the likeliest alternatives and their logprobs
Gives   for each principle the expectation of its score; for a comparison the probability that B is better

A judge that writes 4 may have been torn between 4 and 5. At the token of the score, with alternatives v on the scale
and their probabilities p(v), the expected score is

    sum of v * p(v) / sum of p(v)

as in G-Eval (Liu et al. 2023, arXiv:2303.16634, section 2.3), with the model's own logprobs in place of its samples.
Beyond that paper, a score is given only where it can be trusted: alternatives are compared on the shape that the
token has (`` 4``, ``4,``), those on the scale must hold at least half of all probability, and a token that may be only
the beginning of another score (``1`` of ``10``) makes none. What cannot be told is None.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from prefkit.judging.answers import read_verdict, score_reader
from prefkit.judging.loose_json import Scalar, find_json
from prefkit.judging.parsing import OVERALL, Claim, rating_claims, verdict_claims
from prefkit.judging.prose import without_asides
from prefkit.models.chat import Token
from prefkit.rubric import DECIMALS, Principle, Scale

LEAST_MASS = 0.5
"""Probability that the valid alternatives must hold together."""


def expected_ratings(tokens: Sequence[Token], principles: Sequence[Principle]) -> dict[str, float | None]:
    """The expected score of each principle, on its scale and rounded to `DECIMALS`.

    None where the reply is no JSON with one readable score for the principle, where the score is not within one token,
    where its alternatives on the scale hold less than `LEAST_MASS`, or where one of them may be the beginning of
    another score.

    Args:
        tokens: the whole reply in order; their texts make its text.
        principles: those that were asked.
    """
    text, starts = _text_and_starts(tokens)
    claims = rating_claims(find_json(without_asides(text)).values, principles)
    expected: dict[str, float | None] = {}
    for principle in principles:
        place = _only(claims, principle.id)
        read = place and score_reader(principle.scale).read(place.value)
        spot = _spot(tokens, starts, place) if place and isinstance(read, int | float) else None
        expected[principle.id] = _expected_score(spot, principle.scale) if spot else None
    return expected


def preference_for_b(tokens: Sequence[Token], principles: Sequence[Principle] = ()) -> float | None:
    """P(B is better) + P(tie) / 2 at the overall verdict's token, rounded to `DECIMALS`, from 0 to 1.

    The verdicts A, B and tie differ in their first letter, so the first token of the verdict decides, whatever follows
    the letter, also where ``tie`` is spelt with several. None where the reply is no JSON with one overall verdict, or
    where A, B and tie hold less than `LEAST_MASS`.

    Args:
        tokens: the whole reply in order; their texts make its text.
        principles: those that were asked beside the overall verdict; one of them may be called ``overall``.
    """
    text, starts = _text_and_starts(tokens)
    place = _only(verdict_claims(find_json(without_asides(text)).values, principles), OVERALL)
    if place is None or read_verdict(place.value) not in ("a", "b", "tie"):
        return None
    spot = _spot(tokens, starts, place, first_only=True)
    mass = _mass(_Spot(spot.token, spot.before, ""), _verdict_of) if spot else {}
    total = math.fsum(mass.values())
    if total < LEAST_MASS:
        return None
    return round((mass.get("b", 0.0) + mass.get("tie", 0.0) / 2) / total, DECIMALS)


@dataclass(frozen=True)
class _Spot:
    """The token where an answer stands: its text is ``before``, the answer (or its first part), ``after``."""

    token: Token
    before: str
    after: str


def _text_and_starts(tokens: Sequence[Token]) -> tuple[str, list[int]]:
    starts = list(accumulate((len(token.text) for token in tokens), initial=0))
    return "".join(token.text for token in tokens), starts


def _only(claims: Sequence[Claim], slot: str) -> Scalar | None:
    """The one place where the reply answers, None where it has none or several."""
    places = [claim.value for claim in claims if claim.slot == slot]
    return places[0] if len(places) == 1 else None


def _spot(tokens: Sequence[Token], starts: Sequence[int], place: Scalar, *, first_only: bool = False) -> _Spot | None:
    """The token that holds the whole answer; with ``first_only`` the one in which it begins."""
    at = bisect_right(starts, place.start) - 1
    token, start, end = tokens[at], starts[at], starts[at + 1]
    if place.end > end and not first_only:
        return None
    return _Spot(token, token.text[: place.start - start], token.text[min(place.end, end) - start :])


def _alternatives(spot: _Spot) -> Iterator[tuple[str, float]]:
    """What could have stood in the answer's place, in tokens of the same shape, with its probability.

    Blanks before and after do not make another shape.
    """
    seen = dict(spot.token.top)
    seen.setdefault(spot.token.text, spot.token.logprob)
    before, after = spot.before.strip(), spot.after.strip()
    for text, logprob in seen.items():
        bare = text.strip()
        if bare.startswith(before) and bare.endswith(after) and len(bare) > len(before) + len(after):
            yield bare[len(before) : len(bare) - len(after)].strip(), math.exp(logprob)


def _mass(spot: _Spot, meaning: Callable[[str], float | str | None]) -> Mapping[float | str, float]:
    """The probability of each answer, over all tokens that mean it."""
    mass: dict[float | str, float] = {}
    for words, probability in _alternatives(spot):
        answer = meaning(words)
        if answer is not None:
            mass[answer] = mass.get(answer, 0.0) + probability
    return mass


def _expected_score(spot: _Spot, scale: Scale) -> float | None:
    numerals = {_numeral(value): float(value) for value in score_reader(scale).values}
    mass = {float(value): weight for value, weight in _mass(spot, numerals.get).items()}
    total = math.fsum(mass.values())
    if total < LEAST_MASS or _may_go_on(spot, mass, numerals):
        return None
    return round(math.fsum(value * weight for value, weight in mass.items()) / total, DECIMALS)


def _may_go_on(spot: _Spot, mass: Mapping[float, float], numerals: Mapping[str, float]) -> bool:
    """Whether an alternative may be only the beginning of a longer score, as 1 is of 10 where both take two tokens.

    It is whole where something follows it within the token, or where the longer one is an alternative in one token.
    """
    if spot.after.strip():
        return False
    return any(
        longer.startswith(numeral) and longer != numeral and value not in mass
        for numeral, at in numerals.items()
        if at in mass
        for longer, value in numerals.items()
    )


def _numeral(value: float) -> str:
    return repr(int(value)) if value == int(value) else repr(value)


def _verdict_of(words: str) -> str | None:
    bare = words.rstrip("\"'}], ")
    if bare in ("A", "B"):
        return bare.lower()
    return "tie" if bare and "tie".startswith(bare) else None
