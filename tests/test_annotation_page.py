"""The page as people have it: a real server, a real Chromium, clicks and keys."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from browser import Annotator, Server, any_answer, chromium, prove, serving
from making import make_run

from prefkit.annotation.connection import sdk
from prefkit.annotation.form import Form
from prefkit.annotation.guidelines import guidelines_for
from prefkit.records import Message
from prefkit.rubric import Principle, Rubric
from prefkit.rubric_files import load_rubric

MARK = "parent.ran = top.ran = window.ran = 1"
NASTY = (
    f"</script><script>{MARK}; alert(1)</script>",
    f"<img src=x onerror='{MARK}'><svg onload='{MARK}'><iframe srcdoc=\"<script>{MARK}</script>\"></iframe>",
    f"<!--<script>{MARK}//--></ScRiPt ><a href='javascript:{MARK}'>x</a><style>*{{display:none}}</style>",
    '{{record.fields}} {{{record}}} {{#each x}}y{{/each}} ${1+1} `x` #TEMPLATE# #RECORD_OBJECT# "PRINCIPLES"',
    "$& $` $' $$ $1 $<x> costs 5$",
    r"\u003cscript\u003e \\ \n \u005c '\"",
    "a\0b \x1b[31m \x07 \x7f \x85 \u2028 \u2029 end",
    "مرحبا بالعالم \u202e gnorw \u2066 שלום",
    "👩‍👩‍👧 🙂 é e\u0301 ｆｕｌｌ 漢字",
    "line\r\nline\rline\n\n\n   indented\ttab",
    "https://evil.example/x.png //evil.example ![x](https://evil.example/y.png)",
    "Words and words. " * 6_000 + f"</script><script>{MARK}</script>",
)
SPEECH = (
    "I wake at four and go through every talk of that last year, as if I could find the sentence where it went wrong."
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("page") / "server", "anna", "ben", "cleo") as started:
        yield started


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def cleo(browser: Any, server: Server) -> Annotator:
    """Somebody who is logged in, and looks at the datasets that tests make."""
    annotator = Annotator(browser, server, "cleo")
    annotator.log_in()
    return annotator


@pytest.fixture(scope="module")
def conversation(server: Server) -> str:
    """A dataset of two items: a conversation of 41 turns, two long responses."""
    form = Form(load_rubric("psychocounsel"), "compare")
    turns = [Message(role=("user", "assistant")[n % 2], content=f"({n}) {SPEECH}") for n in range(41)]
    return put(server, "conversation", form, [form.fields(turns, SPEECH * 9, SPEECH * 7)] * 2)


def put(server: Server, name: str, form: Form, cases: Sequence[dict[str, Any]], number: int = 1) -> str:
    """A dataset with these cases that every annotator sees; its id."""
    rg = sdk()
    client = rg.Argilla(api_url=server.address, api_key=server.account("owner")["api_key"])
    settings = form.settings(guidelines_for(form), overlap=number, client=client)
    rg.Dataset(name=name, workspace="annotation", settings=settings, client=client).create()
    client.api.http_client.close()
    dataset = server.dataset(name)
    records = [
        {"fields": fields, "external_id": f"item{place}", "metadata": {"position": place}}
        for place, fields in enumerate(cases)
    ]
    server.call("POST", f"datasets/{dataset}/records/bulk", {"items": records})
    return dataset


def seen(text: str) -> str:
    """A text as the page shows it: one kind of line break, a picture for what has no shape."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(chr(0x2400 + ord(one)) if one < " " and one not in "\n\t" else one for one in lines).replace(
        "\x7f", "\u2421"
    )


def test_what_two_people_click_is_what_is_pulled_item_by_item(tmp_path: Any, server: Server, browser: Any) -> None:
    policies = ("Quokka-70b", "Wombat-7b", "Numbat-13b")
    texts = {
        f"p{number}/{policy}": f"Answer {number}, {sum(map(ord, policy))}."
        for number in range(6)
        for policy in policies
    }
    rubric = Rubric(
        id="two",
        version=1,
        title="Two",
        unit="response",
        principles=tuple(Principle(id=one, title=one.title(), statement=f"Is {one}.") for one in ("warm", "safe_u")),
    )
    run = make_run(tmp_path / "run", texts=texts, rubric=rubric)
    proof = prove(run, 3, server, browser, ("anna", "ben"), seed=3)
    assert proof.differences == []
    assert proof.foreign == []
    assert proof.noises == []
    statuses = {one.status for annotator in proof.annotators for one in annotator.clicked.values()}
    assert statuses >= {"submitted", "discarded"}
    assert sum(len(annotator.clicked) for annotator in proof.annotators) == 6
    for annotator in proof.annotators:
        content = annotator.page.content() + str(annotator.case.content())
        assert not [policy for policy in policies if policy in content]


def test_texts_with_scripts_templates_and_odd_signs_are_shown_whole_and_nothing_runs(
    server: Server, cleo: Annotator
) -> None:
    form = Form(load_rubric("psychocounsel"), "compare", adjudicating=True)
    cases = [
        form.fields([Message(role="user", content=text)], NASTY[place - 1], text[::-1], [text, "Fine."])
        for place, text in enumerate(NASTY)
    ]
    cleo.open(put(server, "nasty", form, cases))
    for place, text in enumerate(NASTY):
        item = cleo.item()
        assert item == f"item{place}"
        shown = cleo.shown()
        assert shown["turns"] == [seen(text)]
        assert shown["responses"] == [seen(NASTY[place - 1]), seen(text[::-1])]
        assert shown["notes"] == [seen(text), "Fine."]
        assert cleo.case.evaluate("[window.ran, parent.ran, top.ran]") == [None] * 3
        assert len(cleo.page.frames) == 2
        if place + 1 < len(NASTY):
            cleo.page.click("button[aria-label^=Next]")
            cleo.wait_for_item(item)
    assert cleo.noises == []
    assert cleo.foreign == []


def test_a_rubrics_own_words_run_nothing_on_the_page(server: Server, cleo: Annotator) -> None:
    nasty = f"{NASTY[0]} {NASTY[1]} {NASTY[3]} {NASTY[4]}"
    principle = Principle(id="é_ü", title=nasty[:400], statement=nasty, anchors={1: nasty[:400], 2: "Two."})
    form = Form(Rubric(id="x", version=1, title="X", unit="response", principles=(principle,)), "rate")
    cleo.open(put(server, "rubric", form, [form.fields([Message(role="user", content="Hello.")], "Hi.")]))
    cleo.case.click("summary")
    text = cleo.case.evaluate("""document.getElementById("prefkit").shadowRoot.querySelector(".principle").innerText""")
    assert nasty in text
    cleo.page.click(".icon-info >> nth=0")
    assert cleo.page.locator("text=<img src=x onerror=").count(), "the words of the tooltip"
    cleo.page.click("text=GUIDELINES")
    cleo.page.wait_for_selector("h1:has-text('Guidelines')")
    assert cleo.page.evaluate("window.ran") is None
    assert len(cleo.page.frames) == 2
    assert cleo.noises == []
    assert cleo.foreign == []


@pytest.mark.parametrize("size", [(1366, 768), (1024, 768), (768, 1024)], ids=str)
def test_a_and_b_stand_side_by_side_and_read_well_on_a_laptop_and_a_tablet(
    cleo: Annotator, conversation: str, size: tuple[int, int]
) -> None:
    cleo.page.set_viewport_size({"width": size[0], "height": size[1]})
    cleo.open(conversation)
    boxes = cleo.case.evaluate(
        """() => {
            const root = document.getElementById("prefkit").shadowRoot;
            const box = (one) => one.getBoundingClientRect().toJSON();
            const style = getComputedStyle(root.querySelector(".answer .text"));
            const turns = root.querySelector(".turns");
            return {answers: [...root.querySelectorAll(".answer")].map(box), last: box(turns.lastElementChild),
                    turns: box(turns), wide: document.documentElement.scrollWidth - innerWidth, inside: innerHeight,
                    page: document.documentElement.scrollHeight, font: parseFloat(style.fontSize),
                    line: parseFloat(style.lineHeight), ink: style.color};
        }"""
    )
    cleo.page.set_viewport_size({"width": 1366, "height": 768})
    left, right = boxes["answers"]
    assert left["top"] == right["top"]
    assert left["right"] < right["left"]
    assert left["width"] == pytest.approx(right["width"], abs=1)
    assert max(left["height"], right["height"]) < size[1]
    assert boxes["turns"]["height"] < size[1] / 2
    assert boxes["last"]["bottom"] <= boxes["turns"]["bottom"], "a dialogue opens at its last turn"
    assert boxes["wide"] <= 0
    assert boxes["page"] <= boxes["inside"] + 1, "the frame is as high as what it holds"
    assert boxes["font"] >= 16
    assert boxes["line"] >= 1.5 * boxes["font"]
    assert all(int(part) < 80 for part in boxes["ink"].removeprefix("rgb(").removesuffix(")").split(","))


def test_a_question_that_has_the_keys_is_in_view_and_a_click_on_the_text_leaves_them_there(
    cleo: Annotator, conversation: str
) -> None:
    cleo.open(conversation)
    frame = cleo.page.locator("iframe").bounding_box()
    names = cleo.names()
    for place in range(len(names) - 2):
        cleo.page.mouse.click(frame["x"] + 60, frame["y"] + 60)
        cleo.page.keyboard.press("1")
        cleo.page.wait_for_function(
            "(place) => document.querySelectorAll('.questions > div')[place].contains(document.activeElement)",
            arg=place + 1,
        )
    cleo.page.wait_for_function(  # the panel ends above the buttons
        "(place) => document.querySelectorAll('.questions > div')[place].getBoundingClientRect().bottom < 768 - 120",
        arg=len(names) - 2,
    )
    chosen = cleo.page.evaluate("[...document.querySelectorAll('.questions input:checked')].map((one) => one.id)")
    assert len(chosen) == len(names) - 2
    item = cleo.item()
    cleo.page.keyboard.press("Enter")
    assert cleo.wait_for_item(item) == "item1"
    panel = cleo.page.locator(".questions > div").first.bounding_box()
    assert panel["y"] > 56, "the next item begins at its first question"


def test_the_anchors_of_a_rating_are_read_whole_and_its_scores_come_back(server: Server, cleo: Annotator) -> None:
    form = Form(load_rubric("psychocounsel"), "rate")
    dataset = put(server, "rate", form, [form.fields([Message(role="user", content=SPEECH)], "A response.")])
    cleo.open(dataset)
    cut = "[...document.querySelectorAll('.label-text__text')].filter((one) => one.scrollWidth > one.clientWidth + 1)"
    assert cleo.page.evaluate(f"{cut}.length") == 0
    rng = random.Random(5)
    wanted = {name: str(rng.randint(1, 5)) for name in form.names.values()}
    item = cleo.item()
    cleo.answer({**wanted, "flags": ["risk"]}, "submit", "keyboard")
    found = server.responses(dataset)["cleo", item or ""]
    said = form.read(found.values)
    assert said.scores == {name: int(wanted[question]) for name, question in form.names.items()}
    assert (said.flags, said.problems) == (("risk",), ())


def test_any_answer_of_the_bench_is_one_that_the_form_understands() -> None:
    form = Form(load_rubric("psychocounsel"), "compare")
    rng = random.Random(1)
    for _ in range(200):
        assert not form.read(any_answer(rng, [one.name for one in form.questions])).problems
