"""What a person answered becomes a judgement, the sides undone."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import making
import pytest
from asked import asked_run, item
from hypothesis import given
from hypothesis import strategies as st

from prefkit.annotation.answers import BREAK, Answer, AnswerReader, Read, Unread, seconds_taken
from prefkit.annotation.form import Form
from prefkit.records import Comparison, Rating, judgement_id

SIDES = {"A": "left", "B": "right", "tie": None}
ITEMS = [
    item(f"p1/{left}", f"p1/{right}", deck=deck, kind=kind, expected="left" if kind == "attention" else None)
    for left, right in itertools.permutations("ABC", 2)
    for deck, kind in (("first-1", "item"), ("first-2", "repeat"), ("first-3", "attention"))
]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> AnswerReader:
    """Reads answers to ITEMS, and to an item to rate and one to adjudicate."""
    folder = tmp_path_factory.mktemp("answers")
    others = [
        item("p2/A", None, deck="rate-1"),
        item("p3/A", "p3/B", deck="judge", kind="adjudication", adjudicating=True),
        item("p4/A", "p4/B", deck="old", form="a form of another version"),
    ]
    return AnswerReader(asked_run(folder / "run", *ITEMS, *others))


def answered(item_id: str, status: Any = "submitted", account: str = "u1", **values: Any) -> Answer:
    named = {name.replace("_", "-"): value for name, value in values.items()}
    return Answer(where="here", item=item_id, account=account, status=status, values=named)


def read(reader: AnswerReader, item_id: str, status: Any = "submitted", **values: Any) -> Any:
    return reader.read(answered(item_id, status, **values)).judgement


labels = st.sampled_from(sorted(SIDES))


@given(
    which=st.sampled_from(ITEMS),
    overall=labels,
    warm=st.none() | labels,
    strength=st.sampled_from((None, "slightly", "clearly", "much")),
)
def test_the_winner_is_the_response_that_was_chosen_whatever_its_side(
    reader: AnswerReader, which: Any, overall: str, warm: str | None, strength: str | None
) -> None:
    judgement = read(reader, which.id, overall=overall, principle_warm=warm, strength=strength)
    shown = {"left": which.left, "right": which.right, None: "tie"}
    named = {"a": judgement.a, "b": judgement.b, "tie": "tie", None: None}
    assert named[judgement.winner] == shown[SIDES[overall]]
    assert named[judgement.principles["warm"]] == (shown[SIDES[warm]] if warm else None)
    assert judgement.principles["safe"] is None
    assert judgement.strength == {None: None, "slightly": 1, "clearly": 2, "much": 3}[strength]
    assert (judgement.prompt_id, judgement.failure, judgement.preference) == ("p1", None, None)


@given(which=st.sampled_from(ITEMS), account=st.text(min_size=1))
def test_an_id_digests_the_annotator_and_what_was_shown_and_never_the_answer(
    reader: AnswerReader, which: Any, account: str
) -> None:
    said = [
        reader.read(answered(which.id, status, account, overall=overall)).judgement
        for status, overall in (("submitted", "A"), ("submitted", "B"), ("draft", "tie"), ("discarded", None))
    ]
    question = [which.form, which.words, which.left, which.right]
    assert {one.id for one in said} == {judgement_id(said[0].annotator, question, which.sample)}


def test_an_account_is_known_by_a_pseudonym_that_is_always_the_same(reader: AnswerReader) -> None:
    names = [reader.read(answered(ITEMS[0].id, account=who, overall="A")).judgement.annotator for who in "xyx"]
    assert names[0] == names[2] != names[1]
    assert all(name.startswith("human:") and len(name) == len("human:") + 8 for name in names)


@pytest.mark.parametrize("status", ["draft", "discarded"])
def test_an_answer_that_is_not_submitted_keeps_its_reason_and_flags_and_decides_nothing(
    reader: AnswerReader, status: str
) -> None:
    one = read(
        reader, ITEMS[0].id, status, overall="A", principle_warm="B", strength="much", reason="Hm", flags=["risk"]
    )
    assert isinstance(one, Comparison)
    assert (one.winner, one.strength, one.principles) == (None, None, {"warm": None, "safe": None})
    assert (one.failure, one.reason, one.flags) == (status, "Hm", ("risk",))


@pytest.mark.parametrize(("label", "flag"), [("A", "right"), ("B", "wrong"), ("tie", "wrong")])
def test_an_attention_item_says_whether_its_answer_was_the_known_one(
    reader: AnswerReader, label: str, flag: str
) -> None:
    attention = ITEMS[2]
    assert (attention.kind, attention.expected) == ("attention", "left")
    assert read(reader, attention.id, overall=label, flags=["risk"]).flags == ("risk", f"attention:{flag}")
    assert read(reader, attention.id, "draft", overall=label).flags == ()


def test_a_hidden_repeat_is_a_second_sample_with_an_id_of_its_own(reader: AnswerReader) -> None:
    first, again = (read(reader, ITEMS[place].id, overall="A") for place in (0, 1))
    assert (first.a, first.b, first.sample) == (again.a, again.b, again.sample - 1)
    assert first.id != again.id


def test_an_adjudication_says_that_it_is_one(reader: AnswerReader) -> None:
    one = read(reader, "judge/p3/A|p3/B adjudication", overall="B")
    assert (one.flags, one.winner, one.sample) == (("adjudication",), "b", 0)


def test_a_rating_has_a_score_for_each_principle_and_none_where_it_is_not_submitted(reader: AnswerReader) -> None:
    said = {"principle_warm": "4", "principle_safe": "2"}
    one = read(reader, "rate-1/p2/A|None", **said)
    assert isinstance(one, Rating)
    assert (one.response_id, one.scores) == ("p2/A", {"warm": 4, "safe": 2})
    assert read(reader, "rate-1/p2/A|None", "draft", **said).scores == {"warm": None, "safe": None}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (answered("nobody/knows|this", overall="A"), "an item that this run does not have"),
        (answered("old/p4/A|p4/B", overall="A"), "a form that this version does not make"),
        (answered(ITEMS[0].id, overall="C"), "a value that cannot be understood"),
        (answered(ITEMS[0].id, overall="A", principle_kind="A"), "a value that cannot be understood"),
        (answered(ITEMS[0].id, reason="I cannot say"), "an answer without a choice, though submitted"),
        (answered("rate-1/p2/A|None", principle_warm="4"), "an answer without a choice, though submitted"),
        (answered("rate-1/p2/A|None", principle_warm="4", principle_safe="6"), "a value that cannot be understood"),
    ],
)
def test_what_cannot_be_read_says_why_and_is_never_guessed_at(
    reader: AnswerReader, answer: Answer, reason: str
) -> None:
    with pytest.raises(Unread) as fault:
        reader.read(answer)
    assert fault.value.reason == reason


def test_an_answer_under_another_form_than_its_items_is_not_read(reader: AnswerReader) -> None:
    other = Form(making.TWO, "compare", strength=False).digest
    answer = Answer(where="", item=ITEMS[0].id, account="u", status="submitted", values={"overall": "A"}, form=other)
    with pytest.raises(Unread, match="another form"):
        reader.read(answer)


def test_an_answer_under_an_earlier_rubric_is_read_as_it_was_asked(tmp_path: Path) -> None:
    run = asked_run(tmp_path / "run", item("p1/A", "p1/B"))
    run.use_rubric(making.ONE)
    one = read(AnswerReader(run), "first-1/p1/A|p1/B", overall="B", principle_warm="A")
    assert (one.rubric, one.principles) == (making.TWO.hash, {"warm": "a", "safe": None})


def test_where_the_source_has_no_statuses_a_complete_answer_counts_as_submitted(reader: AnswerReader) -> None:
    def status(**values: Any) -> Read:
        return reader.read(answered(ITEMS[0].id, None, **values))

    assert status(overall="A").status == "submitted"
    assert status(principle_warm="A").status == "draft"


def test_an_answer_took_at_most_the_time_since_the_one_before_it() -> None:
    """Saved at 100, begun at 130 and finished at 160, saved at 172.5."""
    assert seconds_taken([(100, 100), (130, 160), (172.5, 172.5)]) == [None, 60.0, 12.5]


def test_after_a_break_nobody_knows_how_long_an_answer_took() -> None:
    assert seconds_taken([(0, 0), (BREAK, BREAK), (2 * BREAK + 0.1, 2 * BREAK + 0.1)]) == [None, BREAK, None]


def test_an_answer_that_was_changed_later_hides_its_own_time_and_that_of_the_next() -> None:
    """The second was changed at 300, after the third had been begun: when it was first finished is not kept."""
    assert seconds_taken([(10, 10), (40, 300), (60, 60), (80, 80)]) == [None, None, None, 20.0]


def test_answers_that_were_sent_together_have_no_times_of_their_own() -> None:
    assert seconds_taken([(0, 0), (50, 50), (50.1, 50.1), (50.2, 50.2)]) == [None, 50.0, None, None]


@given(st.lists(st.tuples(st.floats(0, 1e5), st.floats(0, 1e4)), max_size=30), st.randoms())
def test_times_do_not_depend_on_the_order_and_sum_to_no_more_than_all_took(saved: Any, draw: Any) -> None:
    spans = [(begun, begun + more) for begun, more in saved]
    taken = seconds_taken(spans)
    known = [seconds for seconds in taken if seconds is not None]
    if known:
        whole = max(end for _, end in spans) - min(begun for begun, _ in spans)
        assert sum(known) <= whole + 0.05 * len(known) + 1e-6
    order = list(range(len(spans)))
    draw.shuffle(order)
    if len(set(spans)) == len(spans):
        assert seconds_taken([spans[place] for place in order]) == [taken[place] for place in order]
