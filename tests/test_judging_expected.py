"""Expected scores and preferences from logprobs, against arithmetic by hand."""

import math

import pytest

from prefkit.judging.expected import expected_ratings, preference_for_b
from prefkit.models.chat import Token
from prefkit.rubric import Principle, Scale


def principle(name: str, **scale: float) -> Principle:
    return Principle(id=name, title=name.title(), statement="x", scale=Scale(**scale))  # type: ignore[arg-type]


EMPATHY, SAFETY = principle("empathy"), principle("safety")


def token(text: str, **chances: float) -> Token:
    """A token that is certain, or with its alternatives and their probabilities; ``_4`` stands for `` 4``."""
    top = {name.replace("_", " "): chance for name, chance in chances.items()}
    return at(text, top) if top else Token(text, 0.0, ((text, 0.0),))


def at(text: str, top: dict[str, float]) -> Token:
    alternatives = tuple((word, math.log(chance)) for word, chance in top.items())
    return Token(text, dict(alternatives).get(text, math.log(0.001)), alternatives)


def rated(*tokens: Token, scale: Principle = EMPATHY) -> float | None:
    """The expected score where the tokens stand for the value."""
    return expected_ratings([Token('{"', 0.0), token("warmth"), token('":'), *tokens], [scale_of(scale)])["warmth"]


def scale_of(other: Principle) -> Principle:
    return Principle(id="warmth", title="Warmth", statement="x", scale=other.scale)


def test_a_score_is_the_mean_of_its_alternatives_by_their_probability():
    """4 with .6, 5 with .3, and .1 on what is no score: (4 * .6 + 5 * .3) / .9 = 3.9 / .9."""
    assert rated(token(" "), at("4", {"4": 0.6, "5": 0.3, "x": 0.1}), token("}")) == round(3.9 / 0.9, 9)


def test_each_principle_has_its_own_token():
    tokens = [
        token('{"empathy'), token('": '), at("2", {"2": 0.5, "3": 0.5}), token(', "safety'), token('":'),
        at(" 5", {" 5": 0.75, " 1": 0.25}), token("}"), token("<|end|>"),
    ]  # fmt: skip
    assert expected_ratings(tokens, [EMPATHY, SAFETY]) == {"empathy": 2.5, "safety": 4.0}


def test_the_place_is_found_by_position_and_not_by_the_first_number():
    tokens = [token('{"reason": "4 of 5 sentences", "empathy": '), at("2", {"2": 0.8, "4": 0.2}), token("}")]
    assert expected_ratings(tokens, [EMPATHY]) == {"empathy": 2.4}


def test_what_shares_the_token_with_the_score_must_be_the_same_in_its_alternatives():
    """``4,``: the alternative ``5,`` counts, ``5}`` and ``.5,`` do not. (4 * .6 + 5 * .2) / .8 = 4.25."""
    assert rated(at("4,", {"4,": 0.6, "5,": 0.2, "5}": 0.1, ".5,": 0.1}), token(' "x": 1}')) == 4.25
    """``:4``: as 3 * .5 + 4 * .5."""
    tokens = [token('{"empathy"'), at(":4", {":4": 0.5, ":3": 0.5}), token("}")]
    assert expected_ratings(tokens, [EMPATHY]) == {"empathy": 3.5}


def test_blanks_make_no_other_shape():
    """` 4` and `4` are one answer: 4 * .7 + 5 * .3."""
    assert rated(at(" 4", {" 4": 0.5, "4": 0.2, " 5": 0.3}), token("}")) == 4.3


def test_a_score_in_quotes_is_found():
    assert rated(token(' "'), at("4", {"4": 0.5, "2": 0.5}), token('"}')) == 3.0
    assert rated(at(' "4"', {' "4"': 0.5, ' "2"': 0.5}), token("}")) == 3.0


def test_a_token_that_is_not_among_its_own_alternatives_counts_with_its_logprob():
    """4 was drawn with .2 beside 5 with .6: (4 * .2 + 5 * .6) / .8 = 4.75."""
    drawn = Token("4", math.log(0.2), (("5", math.log(0.6)),))
    assert rated(token(" "), drawn, token("}")) == 4.75


def test_no_score_where_the_valid_alternatives_hold_less_than_half():
    assert rated(token(" "), at("4", {"4": 0.3, "5": 0.19, "I": 0.5}), token("}")) is None
    assert rated(token(" "), at("4", {"4": 0.3, "5": 0.21, "I": 0.4}), token("}")) is not None


def test_alternatives_off_the_scale_do_not_count():
    """6 and 0 are no scores from 1 to 5: (4 * .5 + 2 * .1) / .6."""
    assert rated(token(" "), at("4", {"4": 0.5, "2": 0.1, "6": 0.3, "0": 0.1}), token("}")) == round(2.2 / 0.6, 9)


def test_a_token_that_may_be_the_beginning_of_another_score_makes_none():
    ten = principle("warmth", min=1, max=10)
    assert rated(token(" "), at("1", {"1": 0.6, "2": 0.4}), token("}"), scale=ten) is None
    assert rated(token(" "), at("1", {"1": 0.6, "10": 0.4}), token("}"), scale=ten) == 4.6
    assert rated(at(" 1,", {" 1,": 0.6, " 2,": 0.4}), token(' "x": 1}'), scale=ten) == 1.4
    assert rated(token(" "), at("7", {"7": 0.5, "8": 0.5}), token("}"), scale=ten) == 7.5
    assert rated(token(" "), at("7", {"7": 0.5, "8": 0.4, "1": 0.1}), token("}"), scale=ten) is None


def test_a_score_of_two_tokens_makes_none():
    ten = principle("warmth", min=1, max=10)
    assert rated(token(" "), at("1", {"1": 0.6, "2": 0.4}), token("0"), token("}"), scale=ten) is None
    assert rated(token(' "'), at("4", {"4": 1.0}), token('/5"'), token("}")) is None
    half = principle("warmth", min=1, max=5, step=0.5)
    assert rated(token(" "), at("4", {"4": 1.0}), token(".5"), token("}"), scale=half) is None


@pytest.mark.parametrize(
    "reply",
    ["Empathy: 4", '{"empathy": 7}', '{"empathy": null}', '{"empathy": 4, "empathy": 4}', '{"safety": 4}', "", "4"],
)
def test_no_score_where_the_reply_gives_no_single_place_for_it(reply: str):
    assert expected_ratings([token(sign) for sign in reply], [EMPATHY]) == {"empathy": None}
    assert expected_ratings([], [EMPATHY]) == {"empathy": None}


def test_a_score_that_was_only_thought_of_is_not_the_place():
    tokens = [token('<think>{"empathy": 1}</think>'), token('{"empathy": '), at("4", {"4": 0.5, "2": 0.5}), token("}")]
    assert expected_ratings(tokens, [EMPATHY]) == {"empathy": 3.0}


# --- preferences ------------------------------------------------------------------------------------------------------


def compared(*tokens: Token) -> float | None:
    return preference_for_b([token('{"principles": {"empathy": "A"}, "overall": '), *tokens, token("}")], [EMPATHY])


def test_a_preference_is_b_and_half_of_tie_by_hand():
    """B .5, A .3, tie .2: .5 + .2 / 2 = .6; with .1 elsewhere of B .5, A .4: .5 / .9."""
    assert compared(token('"'), at("B", {"B": 0.5, "A": 0.3, "tie": 0.2}), token('"')) == 0.6
    assert compared(token('"'), at("B", {"B": 0.5, "A": 0.4, "C": 0.1}), token('"')) == round(0.5 / 0.9, 9)


def test_a_tie_of_several_tokens_is_known_by_its_first():
    assert compared(token('"'), at("t", {"t": 0.5, "A": 0.25, "B": 0.25}), token("ie"), token('"')) == 0.5
    assert compared(at(' "t', {' "t': 0.4, ' "B': 0.6}), token('ie"')) == 0.8


def test_what_follows_the_letter_in_its_token_does_not_matter():
    assert compared(token('"'), at('A"', {'A"': 0.6, "B": 0.2, "t": 0.2})) == round(0.2 + 0.1, 9)


def test_the_words_of_another_answer_are_no_tie():
    """``The`` and ``T`` begin sentences: A .6, B .3 remain, .3 / .9."""
    assert compared(token('"'), at("A", {"A": 0.6, "B": 0.3, "The": 0.05, "T": 0.05}), token('"')) == round(1 / 3, 9)


def test_no_preference_without_half_of_the_probability_or_without_a_verdict():
    assert compared(token('"'), at("A", {"A": 0.3, "B": 0.1, "I": 0.6}), token('"')) is None
    assert compared(token(' "'), at("Alpha", {"A": 0.6, "B": 0.4}), token('"')) is None
    assert preference_for_b([token('{"winner": "C"}')]) is None
    assert preference_for_b([token("B")]) is None
    assert preference_for_b([]) is None


def test_the_verdict_overall_is_not_that_of_a_principle():
    tokens = [
        token('{"principles": {"empathy": "'), at("B", {"B": 0.9, "A": 0.1}), token('"}, "overall": "'),
        at("A", {"A": 0.8, "B": 0.2}), token('"}'),
    ]  # fmt: skip
    assert preference_for_b(tokens, [EMPATHY]) == 0.2


# --- real logprobs ----------------------------------------------------------------------------------------------------

ONE = (-0.31295326352119446, -2.193682909011841, -3.2552902698616846, -3.8442795276641846, -3.9339935779571533)
OFF = {"0": -3.0015861988067627, "6": -4.359858989715576, "7": -5.1968607902526855, "8": -5.272288799285889}


def test_logprobs_of_smollm2_as_llama_cpp_gave_them():
    """A reply of SmolLM2-135M-Instruct about the sample, in the tokens of llama.cpp's server: it counts the fence that
    the reply's text has not, and ends with an empty one."""
    top = {str(score): logprob for score, logprob in enumerate(ONE, 1)} | OFF
    tokens = [
        *map(token, ("```", "json", "\n", "{", "\n ", ' "', "em", "pathy", '":', " ")),
        Token("1", ONE[0], tuple(top.items())),
        *map(token, ("\n", "}", "\n", "```", "")),
    ]
    chances = [math.exp(logprob) for logprob in ONE]
    by_hand = sum(score * chance for score, chance in enumerate(chances, 1)) / sum(chances)
    assert by_hand == pytest.approx(1.359, abs=0.0005)
    assert expected_ratings(tokens, [EMPATHY]) == {"empathy": round(by_hand, 9)}
