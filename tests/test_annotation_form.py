"""What people are asked, how a case is put into a record, and what is read from the values that come back."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from making import rubric

from prefkit.annotation.form import MOST_LABELS, Form, question_name
from prefkit.annotation.guidelines import LONGEST, guidelines_for
from prefkit.annotation.page import FIELD, escaped, template, unescaped
from prefkit.annotation.said import Said, score_of
from prefkit.errors import InputError
from prefkit.records import Message
from prefkit.rubric import Principle, Rubric, Scale
from prefkit.rubric_files import load_rubric, shipped_rubrics

TWO = rubric("warm", "safe")
SPEECH = (Message(role="user", content="I feel empty."),)
FIVE = Scale(min=1, max=5)
YES_NO = Scale(min=0, max=1, levels=("no", "yes"))
HUNDRED = Scale(min=0, max=100, step=0.5)


def rated_on(**scales: Scale) -> Rubric:
    principles = tuple(
        Principle(id=name, title=name.title(), statement=f"Is {name}.", scale=scale, anchors={scale.max: "All of it."})
        for name, scale in scales.items()
    )
    return Rubric(id="scales", version=1, title="Scales", unit="response", principles=principles, aggregate="sum")


def names_of(form: Form) -> list[str]:
    return [question.name for question in form.questions]


def test_a_comparison_asks_overall_strength_and_each_principle_then_words_and_flags() -> None:
    assert names_of(Form(TWO, "compare")) == [
        "overall",
        "strength",
        "principle-warm",
        "principle-safe",
        "reason",
        "flags",
    ]


def test_a_comparison_can_ask_for_the_overall_choice_alone() -> None:
    assert names_of(Form(TWO, "compare", per_principle=False, strength=False)) == ["overall", "reason", "flags"]


def test_only_the_overall_choice_of_a_comparison_is_required() -> None:
    assert [question.name for question in Form(TWO, "compare").questions if question.required] == ["overall"]


def test_a_rating_requires_every_score_and_nothing_else() -> None:
    required = [question.name for question in Form(TWO, "rate").questions if question.required]
    assert required == ["principle-warm", "principle-safe"]


@pytest.mark.parametrize("mode", ["compare", "rate"])
@pytest.mark.parametrize("path", [one.path for one in shipped_rubrics()], ids=lambda path: path.stem)
def test_every_shipped_rubric_fits_what_argilla_takes(path: Path, mode: Any) -> None:
    form = Form(load_rubric(path), mode)
    for question in form.questions:
        assert len(question.name) <= 200
        assert 1 <= len(question.title) <= 500
        assert len(question.description) <= 1000
        assert question.kind == "words" or len(question.labels) >= 2
        assert all(1 <= len(value) <= 200 and 1 <= len(words) <= 500 for value, words in question.labels)
    assert len(guidelines_for(form)) <= LONGEST


def test_the_first_three_keys_of_every_preference_are_a_b_and_equal() -> None:
    choices = [question for question in Form(TWO, "compare").questions if question.kind == "choice"]
    keys = {question.name: [value for value, _ in question.labels] for question in choices}
    assert keys.pop("strength") == ["slightly", "clearly", "much"]
    assert set(map(tuple, keys.values())) == {("A", "B", "tie")}


def test_a_score_shows_its_level_or_number_with_its_anchor() -> None:
    form = Form(rated_on(good=FIVE, kind=YES_NO), "rate")
    assert form.questions[0].labels == (("1", "1"), ("2", "2"), ("3", "3"), ("4", "4"), ("5", "All of it."))
    assert form.questions[1].labels == (("0", "no"), ("1", "yes · All of it."))


def test_a_scale_that_does_not_count_from_one_shows_its_numbers_beside_the_number_keys() -> None:
    zero = Principle(id="z", title="Z", statement="Z.", scale=Scale(min=0, max=2), anchors={0: "None.", 1: "Some."})
    form = Form(Rubric(id="z", version=1, title="Z", unit="response", principles=(zero,)), "rate")
    assert form.questions[0].labels == (("0", "0 · None."), ("1", "1 · Some."), ("2", "2"))


def test_a_scale_of_many_scores_is_typed() -> None:
    question = Form(rated_on(good=HUNDRED), "rate").questions[0]
    assert (question.kind, question.title) == ("words", "Good (a number from 0 to 100)")
    assert Form(rated_on(good=Scale(min=1, max=MOST_LABELS)), "rate").questions[0].kind == "choice"


def test_words_too_long_for_argilla_are_cut_beside_the_text_and_whole_on_the_page() -> None:
    long = Principle(id="x", title="t" * 600, statement="s" * 3000, scale=HUNDRED, anchors={0: "a" * 600})
    one = Rubric(id="long", version=1, title="Long", unit="response", principles=(long,))
    question = Form(one, "rate").questions[0]
    assert len(question.title) == 500
    assert question.title.endswith("… (a number from 0 to 100)")
    assert len(question.description) == 1000
    assert "s" * 3000 in template(one)
    assert "a" * 600 in template(one)


def test_a_description_is_written_for_a_tooltip_that_takes_html() -> None:
    nasty = Principle(id="x", title="X", statement="<img src=x onerror=alert(1)> & so on " * 30, scale=HUNDRED)
    form = Form(Rubric(id="x", version=1, title="X", unit="response", principles=(nasty,)), "compare")

    class Client:
        """The SDK asks for one, and calls nothing of it here."""

        class api:
            questions = fields = metadata = datasets = None

    described = {one.name: one.description for one in form.settings("Read.", client=Client()).questions}  # type: ignore[arg-type]
    assert described["principle-x"].startswith("&lt;img src=x onerror=alert(1)&gt; &amp; so on")
    assert 900 < len(described["principle-x"]) <= 1000


@given(st.text(min_size=1), st.text(min_size=1))
def test_no_two_principles_have_one_question(one: str, other: str) -> None:
    assert (question_name(one) == question_name(other)) == (one == other)
    assert re.fullmatch("[A-Za-z0-9_-]{1,200}", question_name(one))


@pytest.mark.parametrize(("one", "other"), [("é", "_ue9_"), ("_u", "_u5f_u"), ("x_u", "x_u5f_u"), ("é", "è")])
def test_an_id_that_looks_like_an_escaped_one_keeps_a_name_of_its_own(one: str, other: str) -> None:
    assert question_name(one) != question_name(other)


def test_an_ordinary_id_stands_in_its_questions_name_as_it_is() -> None:
    assert question_name("stage-of_change2") == "principle-stage-of_change2"


def test_the_digest_changes_with_what_is_shown_and_with_nothing_else() -> None:
    base = Form(TWO, "compare")
    heavier = rubric("warm", "safe", aggregate="weighted-mean", weights=[2.0, 1.0])
    assert base.digest == Form(heavier, "compare").digest == Form(TWO, "compare").digest
    others = [
        Form(TWO, "rate"),
        Form(TWO, "compare", per_principle=False),
        Form(TWO, "compare", strength=False),
        Form(TWO, "compare", adjudicating=True),
        Form(rubric("warm", "kind"), "compare"),
    ]
    assert len({base.digest, *(form.digest for form in others)}) == 6


def test_an_answer_in_argillas_shape_and_one_without_wrapping_are_read_alike() -> None:
    form = Form(TWO, "compare")
    values = {
        "overall": "B",
        "strength": "much",
        "principle-warm": "A",
        "principle-safe": "tie",
        "reason": " Warmer. ",
        "flags": ["risk", "uncomfortable"],
    }
    said = Said(
        overall="right",
        strength=3,
        principles={"warm": "left", "safe": "tie"},
        reason="Warmer.",
        flags=("uncomfortable", "risk"),
    )
    assert form.read(values) == said
    assert form.read({name: {"value": value} for name, value in values.items()}) == said


def test_what_was_left_open_is_no_problem() -> None:
    assert Form(TWO, "compare").read({"overall": None, "reason": "  ", "flags": [], "principle-warm": ""}) == Said()


def test_scores_are_read_as_labels_levels_and_typed_numbers() -> None:
    form = Form(rated_on(good=FIVE, kind=YES_NO, full=HUNDRED), "rate")
    said = form.read({"principle-good": "4", "principle-kind": "Yes", "principle-full": " 99,5 "})
    assert said == Said(scores={"good": 4, "kind": 1, "full": 99.5})
    assert isinstance(said.scores["good"], int)


@pytest.mark.parametrize(
    "value", ["6", "0", "2.5", "nan", "inf", "1e999", "four", True, [4], {"value": 4, "x": 1}, b"4"]
)
def test_a_score_that_is_not_on_the_scale_is_a_problem_and_no_score(value: Any) -> None:
    said = Form(rated_on(good=FIVE), "rate").read({"principle-good": value})
    assert not said.scores
    assert len(said.problems) == 1
    assert said.problems[0].startswith("principle-good: ")


@pytest.mark.parametrize(
    "values",
    [
        {"overall": "C"},
        {"overall": ["A"]},
        {"overall": 1},
        {"strength": "very"},
        {"flags": 3},
        {"flags": ["risk", "bored"]},
        {"reason": 7},
        {"principle-gone": "A"},
        {7: "A"},
        None,
        "A",
        [("overall", "A")],
    ],
)
def test_an_odd_value_is_a_problem_and_nothing_is_guessed(values: Any) -> None:
    said = Form(TWO, "compare").read(values)
    assert len(said.problems) == 1
    assert said == Said(problems=said.problems)


def test_one_odd_value_takes_no_other_with_it() -> None:
    said = Form(TWO, "compare").read({"overall": "tie", "strength": {"x": 1}})
    assert (said.overall, len(said.problems)) == ("tie", 1)


odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
questions = st.sampled_from(["overall", "strength", "principle-warm", "reason", "flags"]) | st.text()


@given(odd | st.dictionaries(questions, odd))
def test_no_value_makes_reading_fail(values: Any) -> None:
    for form in (Form(TWO, "compare"), Form(TWO, "rate")):
        json.dumps(form.read(values).problems).encode()


def test_a_reason_that_no_file_could_hold_is_mended() -> None:
    assert Form(TWO, "compare").read({"reason": "half an emoji: \ud83d"}).reason == "half an emoji: ���"


@given(st.floats(min_value=0, max_value=100))
def test_a_typed_score_is_taken_exactly_where_it_is_a_step_of_the_scale(number: float) -> None:
    value = repr(number)
    if math.isclose(number * 2, round(number * 2), abs_tol=1e-7):
        assert score_of(value, HUNDRED) == pytest.approx(number, abs=1e-6)
    elif not math.isclose(number * 2, round(number * 2), abs_tol=1e-5):
        with pytest.raises(ValueError, match="is not a score"):
            score_of(value, HUNDRED)


def test_a_record_has_the_one_field_of_the_page_and_no_name_or_id() -> None:
    form = Form(TWO, "compare")
    dialogue = (Message(role="system", content="S."), *SPEECH, Message(role="assistant", content="Since when?"))
    assert form.fields(dialogue, "Left.", "Right.") == {
        FIELD: {
            "turns": [
                {"who": "setting", "text": "S."},
                {"who": "client", "text": "I feel empty."},
                {"who": "therapist", "text": "Since when?"},
            ],
            "responses": ["Left.", "Right."],
        }
    }


def test_a_rating_shows_one_response_and_an_adjudication_the_earlier_reasons() -> None:
    assert Form(TWO, "rate").fields(SPEECH, "Only.")[FIELD]["responses"] == ["Only."]
    noted = Form(TWO, "compare", adjudicating=True).fields(SPEECH, "L", "R", ["First.", "Second."])
    assert noted[FIELD]["notes"] == ["First.", "Second."]


def test_texts_that_do_not_fit_the_form_are_refused() -> None:
    with pytest.raises(ValueError, match="mode compare with 1"):
        Form(TWO, "compare").fields(SPEECH, "L")
    with pytest.raises(ValueError, match="mode rate with 2"):
        Form(TWO, "rate").fields(SPEECH, "L", "R")
    with pytest.raises(ValueError, match="notes"):
        Form(TWO, "compare").fields(SPEECH, "L", "R", ["A note."])
    with pytest.raises(ValueError, match="no mode"):
        Form(TWO, "choose")  # type: ignore[arg-type]


@given(st.text(st.characters()))  # with lone surrogates, NUL and all other controls
def test_an_escaped_text_comes_back_whole_and_holds_nothing_that_a_page_acts_on(text: str) -> None:
    written = escaped(text)
    assert unescaped(written) == text
    assert not re.search("[<$#\0\u2028\u2029\ud800-\udfff]", written)
    written.encode()


def test_an_ordinary_text_is_escaped_to_itself() -> None:
    text = '»Ich weiß nicht« — I\'m "fine", 50% {ok} & more > less 🙂\n\n\tمرحبا'
    assert escaped(text) == text


def test_a_rubric_cannot_break_out_of_the_template() -> None:
    nasty = "</script><script>alert(1)</script> $& $' #TEMPLATE# #RECORD_OBJECT# \u2028."
    one = Principle(id="x", title=nasty, statement=nasty, question=nasty, anchors={1: nasty})
    page = template(Rubric(id="x", version=1, title="X", unit="response", principles=(one,)))
    assert page.count("</script>") == 1
    baked = re.search(r"const principles = (.*);\n", page)
    assert baked
    assert not re.search("[<$#\u2028]", baked[1])
    assert json.loads(baked[1])[0]["anchors"] == [["1", nasty]]


def test_the_template_has_no_pattern_of_string_replace_and_fetches_nothing() -> None:
    page = template(TWO)
    assert not re.search(r"\$[&`'$0-9<]", page)
    assert not re.search(r"https?://|//[a-z]|url\(|@import|src=|href=|innerHTML|insertAdjacent|document\.write", page)


def test_guidelines_name_what_this_form_asks_and_the_principles() -> None:
    compared = guidelines_for(Form(load_rubric("psychocounsel"), "compare"))
    rated = guidelines_for(Form(load_rubric("psychocounsel"), "rate"))
    assert "two responses, A and B" in compared
    assert "one response" in rated
    assert "How much better?" in compared
    assert "How much better?" not in rated
    assert "How much better?" not in guidelines_for(Form(load_rubric("psychocounsel"), "compare", strength=False))
    for principle in load_rubric("psychocounsel").principles:
        assert f"**{principle.title}.** {principle.statement.split(',')[0]}" in compared
    assert "{{" not in compared + rated


@pytest.mark.parametrize("name", ["psychocounsel", "epitome"])
def test_guidelines_are_short_and_say_what_matters_most(name: str) -> None:
    words = guidelines_for(Form(load_rubric(name), "compare"))
    assert len(words.split()) < 900
    for said in ("Discard", "Nobody is alerted when you tick it", "take breaks", "Enter", "Backspace", "about equal"):
        assert said in words
    assert "Two colleagues chose differently" not in words
    assert "Two colleagues chose differently" in guidelines_for(Form(load_rubric(name), "compare", adjudicating=True))


def test_guidelines_say_whom_to_turn_to_and_whether_names_were_removed() -> None:
    form = Form(TWO, "compare")
    usual, told = guidelines_for(form), guidelines_for(form, contact="Dr Roe, 555 0100", scrubbed=False)
    assert "contact whoever sent you the link to this page directly" in usual
    assert "contact Dr Roe, 555 0100 directly" in told
    assert "were removed by a program" in usual and "were removed by a program" not in told
    assert "No program has removed names" in told


def test_the_words_of_a_rubric_are_no_markdown() -> None:
    one = Principle(id="x", title="*Bold* <b>x</b>", statement="[link](http://example.org) | `code`\n\n# Title")
    words = guidelines_for(Form(Rubric(id="x", version=1, title="X", unit="response", principles=(one,)), "compare"))
    assert r"**\*Bold\* \<b\>x\</b\>.** \[link\](http://example.org) \| \`code\` \# Title" in words


def test_guidelines_of_ones_own_are_taken_with_their_places_filled(tmp_path: Path) -> None:
    own = tmp_path / "own.md"
    own.write_text("# Mine\nline\n{{principles}}\n", encoding="utf-8")
    assert guidelines_for(Form(TWO, "compare"), own) == (
        "# Mine\nline\n- **Warm.** The response is warm.\n- **Safe.** The response is safe.\n"
    )


def test_a_long_rubric_is_named_where_its_statements_do_not_fit() -> None:
    long = rubric(*(f"good{number}" for number in range(60)))
    principles = tuple(
        Principle(id=one.id, title=one.title, statement=one.statement * 20, scale=one.scale) for one in long.principles
    )
    form = Form(Rubric(id="long", version=1, title="Long", unit="response", principles=principles), "compare")
    words = guidelines_for(form)
    assert "- **Good59**" in words
    assert "The response is good59" not in words


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b" \n", "an empty file"),
        (b"x" * 10_001, "10,001 characters"),
        (None, "no such file"),
    ],
)
def test_guidelines_that_cannot_be_used_are_refused_with_the_reason(
    tmp_path: Path, content: bytes | None, found: str
) -> None:
    own = tmp_path / "own.md"
    if content is not None:
        own.write_bytes(content)
    with pytest.raises(InputError, match=found):
        guidelines_for(Form(TWO, "compare"), own)
