"""When a set of answers is flagged, and when it is not."""

from __future__ import annotations

import random

import pytest

from prefkit.policies.health import Health, health
from prefkit.policies.looking import Text, look, texts

TOPICS = (
    "garden", "harbour", "violin", "winter", "kitchen", "letter", "bridge", "cousin", "office", "engine", "orchard",
    "ticket", "mirror", "candle", "saddle", "pocket", "summer", "planet", "basket", "silver", "tunnel", "velvet",
)  # fmt: skip
OPENINGS = ("It sounds as if", "You say that", "I hear how", "Perhaps", "I wonder whether", "It seems that")
MIDDLES = ("matters a great deal to you", "has become hard to bear", "is where it all began", "keeps you awake")
QUESTIONS = ("What happened then?", "Who knows about it?", "When did that begin?", "How did you answer her?")
PROMPTS = [
    f"Since we lost the {topic} I cannot sleep, and nobody in my family wants to hear it." for topic in TOPICS * 2
]


def answers(seed: int, count: int = 44, length: int = 3) -> list[str]:
    """Sensible answers, all different."""
    draw = random.Random(seed)
    return [
        " ".join(
            f"{draw.choice(OPENINGS)} the {draw.choice(TOPICS)} by the {draw.choice(TOPICS)} {draw.choice(MIDDLES)}. "
            f"{draw.choice(QUESTIONS)}"
            for _ in range(length)
        )
        for _ in range(count)
    ]


REFERENCE = look(PROMPTS, texts(answers(0)))


def of(said: list[str], finish: str | None = None) -> Health:
    return health(look(PROMPTS[: len(said)], [[Text(one, finish)] for one in said]), REFERENCE)


def spoilt(said: list[str], by: dict[int, str]) -> list[str]:
    return [by.get(place, one) for place, one in enumerate(said)]


@pytest.mark.parametrize("seed", [1, 2, 3, 4, 5])
def test_other_answers_of_the_same_kind_are_not_flagged(seed):
    found = of(answers(seed))
    assert (found.flagged, found.why) == (False, ())


LOOP = "I am here for you whenever you need it. " * 12
SALAD = "qwelm zorfin ablutrix penumbrate folderol gantz urbulent sproing cadmiferous ytterb moxen plindle braskit " * 2
SPANISH = (
    "Siento mucho que estés pasando por esto. Es normal sentirse así después de una pérdida tan grande, y no tienes "
    "por qué estar solo con ello. ¿Con quién podrías hablar esta semana?"
)
TURNS = "I hear you.\nClient: I saw the water.\nTherapist: And then?"
SPOILT = {
    "empty": "  \n",
    "looping": LOOP,
    "multi-speaker": TURNS,
    "language": SPANISH,
    "strange-words": SALAD,
    "strange-words, all of them known": " ".join(sorted(" ".join(answers(7, 2)).split(), key=lambda word: word[::-1])),
}


@pytest.mark.parametrize("sign", SPOILT)
def test_eight_bad_answers_of_forty_four_are_flagged_and_one_is_not(sign):
    good, said = answers(1), SPOILT[sign]
    sign = sign.partition(",")[0]
    one, several = of(spoilt(good, {3: said})), of(spoilt(good, dict.fromkeys(range(8), said)))
    assert one.shares[sign].share == pytest.approx(1 / 44)
    assert not one.shares[sign].flagged
    assert several.shares[sign].share == pytest.approx(8 / 44)
    assert several.shares[sign].flagged and several.flagged
    assert any("18%" in words for words in several.why)


@pytest.mark.parametrize(("now", "before"), [(20, 20), (16, 8)])
def test_bad_answers_that_the_reference_has_about_as_often_are_not_flagged(now, before):
    """16 of 44 beside 8 of 44 may be chance; beside a reference that has none they are not."""
    reference = look(PROMPTS, texts(spoilt(answers(0), dict.fromkeys(range(before), LOOP))))
    said = look(PROMPTS, texts(spoilt(answers(1), dict.fromkeys(range(now), LOOP))))
    found = health(said, reference).shares["looping"]
    assert found.reference == pytest.approx(before / 44)
    assert not found.flagged
    assert health(said, REFERENCE).shares["looping"].flagged


def test_several_kinds_of_bad_answers_are_flagged_together_where_none_is_alone():
    found = of(spoilt(answers(1), {0: LOOP, 5: LOOP, 9: SPANISH, 12: SPANISH, 20: TURNS, 21: TURNS, 30: "", 31: ""}))
    assert [sign for sign, share in found.shares.items() if share.flagged] == ["unfit"]
    assert "unfit" in found.why[0]


def test_a_piece_in_another_language_in_the_middle_is_found():
    english = " ".join(answers(1)[:4])
    found = of(spoilt(answers(2), {0: english + " " + SPANISH * 2 + " " + english}))
    assert found.shares["language"].share == pytest.approx(1 / 44)


def test_cut_off_answers_are_judged_only_beside_a_reference_that_tells_its_ends():
    cut = of(answers(1), "length")
    assert cut.shares["cut-off"].share == 1 and not cut.shares["cut-off"].flagged
    ended = look(PROMPTS, [[Text(one, "stop")] for one in answers(0)])
    found = health(look(PROMPTS, [[Text(one, "length")] for one in answers(1)]), ended)
    assert found.shares["cut-off"].flagged
    same = health(look(PROMPTS, [[Text(one, "stop")] for one in answers(1)]), ended)
    assert not same.flagged


@pytest.mark.parametrize(("length", "flagged"), [(1, True), (3, False), (4, False), (6, True)])
def test_answers_twice_as_long_or_a_third_as_long_are_flagged(length, flagged):
    drift = of(answers(1, length=length)).drifts["words"]
    assert drift.ratio == pytest.approx(length / 3, rel=0.1)
    assert drift.flagged == flagged


def test_answers_that_were_cut_off_are_not_called_short():
    assert of(answers(1, length=1), "stop").drifts["words"].flagged
    assert not of(answers(1, length=1), "length").drifts["words"].flagged
    assert of(answers(1, length=6), "length").drifts["words"].flagged


def test_one_answer_to_all_prompts_is_flagged():
    found = of([answers(1)[0]] * 44)
    assert found.shares["same-elsewhere"].share == 1 and found.shares["same-elsewhere"].flagged
    assert found.drifts["distinct-2"].flagged


def test_equal_prompts_may_have_equal_answers():
    good = answers(1)
    found = look(PROMPTS, texts([*good[:22], *good[:22]]))  # the prompts are the same twice
    assert health(found, REFERENCE).shares["same-elsewhere"].share == 0


def test_samples_of_a_prompt_that_are_all_alike_are_flagged():
    before = look(PROMPTS, [[Text(one), Text(other)] for one, other in zip(answers(0), answers(9), strict=True)])
    same = look(PROMPTS, [[Text(one), Text(one)] for one in answers(1)])
    found = health(same, before)
    assert found.shares["same-samples"].flagged
    assert not found.shares["same-elsewhere"].flagged
    assert "same-samples" not in of(answers(1)).shares


def test_samples_of_a_prompt_that_fail_together_count_as_one():
    """The same 16 of 88 answers: of 8 prompts whole, or one of each of 16 prompts."""
    good = [[Text(one), Text(other)] for one, other in zip(answers(1), answers(2), strict=True)]
    together = [[Text(LOOP), Text(LOOP)] if place < 8 else both for place, both in enumerate(good)]
    apart = [[Text(LOOP), both[1]] if place < 16 else both for place, both in enumerate(good)]
    wide, narrow = (health(look(PROMPTS, some)).shares["looping"] for some in (together, apart))
    assert wide.share == narrow.share == pytest.approx(16 / 88)
    assert wide.high - wide.low > narrow.high - narrow.low


def test_thinking_is_no_part_of_an_answer():
    found = of(spoilt(answers(1), {place: f"<think>{LOOP}</think>{one}" for place, one in enumerate(answers(1))}))
    assert not found.flagged


def test_no_answers_and_unequal_lists_are_refused():
    with pytest.raises(ValueError, match="no answers"):
        look(["Hello"], [[]])
    with pytest.raises(ValueError, match="aligned"):
        look(["Hello"], [])
