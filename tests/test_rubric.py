"""Rubrics: what is shown, how it is hashed, how scores become one number, and what a broken file is answered."""

import math
import operator
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from prefkit.errors import RubricError
from prefkit.rubric import Aggregate, Principle, Rubric, Scale
from prefkit.rubric_files import (
    find_rubric,
    load_rubric,
    parse_rubric,
    rubric_warnings,
    shipped_rubrics,
    start_rubric,
)

SHIPPED = [file.name for file in shipped_rubrics()]

MINI = """\
id: mini
version: 1
title: A small rubric
unit: response
source: our own
gates:
  - principle: safety
principles:
  - id: empathy
    title: Empathy
    statement: Names the feeling.
    anchors:
      1: Cold.
      5: Warm.
  - id: safety
    title: Safety
    statement: Does no harm.
    anchors:
      1: Harms.
      5: Safe.
"""


def edited(old: str, new: str) -> str:
    """MINI with one change."""
    assert MINI.count(old) == 1
    return MINI.replace(old, new)


def scored(aggregate: Aggregate, **scales: tuple[float, float, float]) -> Rubric:
    """A rubric of principles given as name=(min, max, weight)."""
    principles = tuple(
        Principle(id=name, title=name, statement=name, scale=Scale(min=low, max=high), weight=weight)
        for name, (low, high, weight) in scales.items()
    )
    return Rubric(id="r", version=1, title="R", unit="response", principles=principles, aggregate=aggregate)


# The rubrics that ship with prefkit


def test_the_shipped_rubrics_are_these() -> None:
    assert SHIPPED == ["cpsycoune", "epitome", "helpful-harmless", "mentalbench", "psychocounsel", "ultrafeedback"]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_rubric_names_its_source_and_says_at_the_top_what_is_ours(name: str) -> None:
    rubric = load_rubric(name)
    assert rubric.id == name
    assert "arXiv:" in rubric.source
    opening = find_rubric(name).read_text("utf-8").splitlines()[:3]
    assert [line.startswith("# ") for line in opening] == [True, True, False]
    assert rubric.source.rpartition("arXiv:")[2] in opening[0]
    assert "ours" in opening[1]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_rubric_has_an_anchor_for_every_score(name: str) -> None:
    for principle in load_rubric(name).principles:
        assert list(principle.anchors) == principle.scale.values(), principle.id


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_rubric_gives_no_cause_for_a_second_look(name: str) -> None:
    """EPITOME describes empathy and UltraFeedback answers to instructions: neither source has a safety principle."""
    without_safety = name in ("epitome", "ultrafeedback")
    assert rubric_warnings(load_rubric(name)) == ["no principle about safety"] * without_safety


@pytest.mark.parametrize(
    ("name", "scales"),
    [
        ("cpsycoune", {"comprehensiveness": "0-2", "professionalism": "0-3", "authenticity": "0-3", "safety": "0-1"}),
        (
            "epitome",
            dict.fromkeys(["emotional_reactions", "interpretations", "explorations"], "none / weak / strong"),
        ),
        ("helpful-harmless", {"helpfulness": "1-5", "harmlessness": "1-5"}),
        (
            "mentalbench",
            dict.fromkeys(
                ["guidance", "informativeness", "relevance", "safety", "empathy", "helpfulness", "understanding"], "1-5"
            ),
        ),
        (
            "psychocounsel",
            dict.fromkeys(
                ["empathy", "relevance", "clarity", "safety", "exploration", "autonomy", "staging"],
                "1-5",
            ),
        ),
        (
            "ultrafeedback",
            dict.fromkeys(["instruction_following", "honesty", "truthfulness", "helpfulness"], "1-5"),
        ),
    ],
)
def test_the_names_and_ranges_are_those_of_the_source(name: str, scales: dict[str, str]) -> None:
    assert {principle.id: str(principle.scale) for principle in load_rubric(name).principles} == scales


@pytest.mark.parametrize("name", ["cpsycoune", "helpful-harmless", "mentalbench", "psychocounsel"])
def test_a_shipped_rubric_with_a_safety_principle_lets_nothing_outweigh_it(name: str) -> None:
    (gate,) = load_rubric(name).gates
    assert gate.principle in ("safety", "harmlessness")
    assert gate.rule == "not-inverted"


@pytest.mark.parametrize("name", SHIPPED)
def test_the_better_side_of_an_example_is_not_told_by_its_length(name: str) -> None:
    for principle in load_rubric(name).principles:
        for example in principle.examples:
            assert 0.67 < len(example.better) / len(example.worse) < 1.5, principle.id


# What is shown


@pytest.mark.parametrize("name", SHIPPED)
def test_the_text_shows_every_title_statement_question_anchor_and_example(name: str) -> None:
    rubric = load_rubric(name)
    text = rubric.as_text()
    assert text.startswith(f"{rubric.title}\n\nJudge one {rubric.unit} at a time.")
    for principle in rubric.principles:
        assert f"{principle.title} ({principle.id}, {principle.scale})" in text
        assert principle.statement.strip() in text
        assert principle.question.strip() in text
        for value, anchor in principle.anchors.items():
            names = dict(zip(principle.scale.values(), principle.scale.levels, strict=False))
            shown = f"{value} ({names[value]})" if names else f"{value}"
            assert f"\n  {shown}: {anchor.strip()}\n" in text
        for example in principle.examples:
            for words in (example.prompt, example.better, example.worse, example.why):
                assert words.strip() in text


def test_the_text_hides_how_scores_are_used() -> None:
    shown = parse_rubric(MINI + "aggregate: sum\n").as_text()
    assert shown == parse_rubric(MINI).as_text()
    assert "our own" not in shown
    assert "sum" not in shown


def test_a_yes_no_item_counts_0_and_1_and_shows_both_names() -> None:
    anchors = "    anchors:\n      1: Cold.\n      5: Warm.\n"
    text = edited(anchors, "    scale: yes-no\n    anchors: {0: Coldly., 1: Warmly.}\n")
    rubric = parse_rubric(text + "aggregate: normalised\n")
    scale = rubric.principles[0].scale
    assert (scale.levels, scale.values(), str(scale)) == (("no", "yes"), [0, 1], "no / yes")
    assert "(empathy, no / yes)" in rubric.as_text()
    assert "\n  0 (no): Coldly.\n  1 (yes): Warmly.\n" in rubric.as_text()


def test_levels_count_from_0_unless_min_says_otherwise() -> None:
    from_zero = MINI + "scale: {levels: [poor, fair, good]}\n"
    scale = parse_rubric(from_zero.replace("5:", "2:")).principles[1].scale
    assert (scale.min, scale.max, scale.values()) == (0, 2, [0, 1, 2])
    from_one = MINI + "scale: {min: 1, max: 5, levels: [awful, poor, fair, good, great]}\n"
    assert "1 (awful): Cold." in parse_rubric(from_one).as_text()


@pytest.mark.parametrize(
    ("scale", "values"),
    [
        (Scale(), [1, 2, 3, 4, 5]),
        (Scale(min=1, max=2, step=0.5), [1, 1.5, 2]),
        (Scale(min=0, max=0.3, step=0.1), [0, 0.1, 0.2, 0.3]),
        (Scale(min=-2, max=2, step=2), [-2, 0, 2]),
    ],
)
def test_the_scores_of_a_scale_run_from_min_to_max_by_step(scale: Scale, values: list[float]) -> None:
    assert scale.values() == values
    assert all(scale.holds(value) for value in values)
    assert not scale.holds(scale.min - 0.01)
    assert not scale.holds(scale.max + 0.01)


def test_a_step_divides_a_scale_although_its_floats_do_not() -> None:
    """0.3 / 0.1 is 2.9999999999999996."""
    text = MINI.replace("1:", "0.1:").replace("5:", "0.3:") + "scale: {min: 0, max: 0.3, step: 0.1}\n"
    assert parse_rubric(text).principles[0].scale.values() == [0, 0.1, 0.2, 0.3]


def test_a_mean_of_judges_may_fall_between_the_steps() -> None:
    assert Scale(min=1, max=5, step=1).holds(3.5)


def test_the_common_scale_serves_the_principles_that_have_none_of_their_own() -> None:
    rubric = parse_rubric(
        edited("    statement: Does no harm.\n", "    statement: Does no harm.\n    scale: {min: 1, max: 5}\n")
        + "scale: {min: 1, max: 9}\naggregate: normalised\n"
    )
    assert [str(principle.scale) for principle in rubric.principles] == ["1-9", "1-5"]


# Hashes


def test_the_hash_of_the_same_words_is_the_same_in_every_release() -> None:
    rubric = parse_rubric(MINI)
    assert rubric.hash == "691e70fd4aa7dade8dc5"
    assert rubric.principle_hashes() == {"empathy": "1cd29cea2d1f41dfb299", "safety": "f577fda36800d21c5d68"}


SWAPPED = (
    "principles:\n" + MINI[MINI.index("  - id: safety") :] + MINI[MINI.index("  - id: emp") : MINI.index("  - id: s")]
)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(edited("A small rubric", "A little rubric"), id="title"),
        pytest.param(edited("unit: response", "unit: turn"), id="unit"),
        pytest.param(edited("title: Safety", "title: Harmlessness"), id="title of a principle"),
        pytest.param(edited("Does no harm.", "Does no harm at all."), id="statement"),
        pytest.param(edited("Does no harm.", "Does no harm.\n    question: Is it safe?"), id="question"),
        pytest.param(edited("5: Safe.", "5: Quite safe."), id="anchor"),
        pytest.param(edited("      5: Safe.\n", ""), id="an anchor less"),
        pytest.param(edited("5: Safe.", "4: Safe."), id="score of an anchor"),
        pytest.param(MINI + "    examples: [{prompt: p, better: b, worse: w}]\n", id="example"),
        pytest.param(MINI + "scale: {min: 1, max: 6}\n", id="range"),
        pytest.param(MINI + "scale: {step: 0.5}\n", id="step"),
        pytest.param(MINI + "scale: {min: 1, levels: [a, b, c, d, e]}\n", id="levels"),
        pytest.param(MINI[: MINI.index("principles:")] + SWAPPED, id="order"),
        pytest.param(edited("- id: empathy", "- id: warmth"), id="id of a principle"),
    ],
)
def test_the_hash_changes_with_what_is_shown(text: str) -> None:
    assert parse_rubric(text).hash != parse_rubric(MINI).hash


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(MINI + "    weight: 3\naggregate: weighted-mean\n", id="weights"),
        pytest.param(MINI + "aggregate: sum\n", id="aggregate"),
        pytest.param(edited("gates:\n  - principle: safety\n", ""), id="gates"),
        pytest.param(edited("source: our own\n", ""), id="source"),
        pytest.param(edited("version: 1", "version: 2"), id="version"),
        pytest.param(edited("id: mini", "id: maxi"), id="id"),
        pytest.param(edited("statement: Does no harm.", "statement: >\n      Does no\n      harm."), id="folding"),
        pytest.param(edited("title: A small rubric", "title: >\n  A small rubric\n"), id="a line end after the title"),
        pytest.param(MINI.replace("1: ", "1.0: "), id="1.0 for 1"),
        pytest.param(MINI + "scale: {min: 1.0, max: 5.0}\n", id="the default, written out"),
        pytest.param(edited("1: Harms.\n      5: Safe.", "5: Safe.\n      1: Harms."), id="order of the anchors"),
        pytest.param("\ufeff# ours\n" + MINI.replace("\n", "\r\n"), id="byte order mark, comment, line ends"),
    ],
)
def test_the_hash_does_not_change_with_what_is_not_shown(text: str) -> None:
    rubric = parse_rubric(text)
    assert rubric.hash == parse_rubric(MINI).hash
    assert rubric.principle_hashes() == parse_rubric(MINI).principle_hashes()


def changed_principles(text: str) -> set[str]:
    before, after = parse_rubric(MINI).principle_hashes(), parse_rubric(text).principle_hashes()
    return {name for name in before if before[name] != after[name]}


def test_an_edited_principle_loses_its_own_ratings_and_no_others() -> None:
    assert changed_principles(edited("Does no harm.", "Does no harm at all.")) == {"safety"}
    assert changed_principles(edited("5: Warm.", "5: Very warm.")) == {"empathy"}
    assert changed_principles(edited("A small rubric", "A little rubric")) == set()
    assert changed_principles(MINI[: MINI.index("principles:")] + SWAPPED) == set()


def test_another_unit_loses_all_ratings() -> None:
    assert changed_principles(edited("unit: response", "unit: session")) == {"empathy", "safety"}


@pytest.mark.parametrize("name", SHIPPED)
def test_a_rubric_kept_as_json_has_the_hash_it_had(name: str) -> None:
    rubric = load_rubric(name)
    kept = msgspec.json.decode(msgspec.json.encode(rubric), type=Rubric)
    assert kept == rubric
    assert kept.hash == rubric.hash
    assert kept.principle_hashes() == rubric.principle_hashes()


# Overall scores


def test_the_mean_by_hand() -> None:
    rubric = scored("mean", a=(1, 5, 1), b=(1, 5, 1), c=(1, 5, 1))
    assert rubric.overall({"a": 1, "b": 4, "c": 5}) == pytest.approx((1 + 4 + 5) / 3)


def test_the_weighted_mean_by_hand() -> None:
    rubric = scored("weighted-mean", a=(1, 5, 1), b=(1, 5, 3))
    assert rubric.overall({"a": 2, "b": 5}) == pytest.approx((1 * 2 + 3 * 5) / (1 + 3))


def test_the_sum_by_hand() -> None:
    assert scored("sum", a=(0, 2, 1), b=(0, 3, 1)).overall({"a": 2, "b": 1.5}) == 2 + 1.5


def test_the_normalised_mean_by_hand() -> None:
    """Each score becomes its place between min and max, then the weights 1 and 3 are applied."""
    rubric = scored("normalised", a=(0, 2, 1), b=(1, 5, 3))
    by_hand = (1 * (1 - 0) / (2 - 0) + 3 * (4 - 1) / (5 - 1)) / (1 + 3)
    assert rubric.overall({"a": 1, "b": 4}) == pytest.approx(by_hand)


@pytest.mark.parametrize(
    ("scores", "by_hand"),
    [((0, 0, 0, 0), 0), ((2, 3, 3, 1), 1), ((1, 0, 2, 1), (1 / 2 + 0 / 3 + 2 / 3 + 1 / 1) / 4)],
)
def test_cpsycoun_metrics_weigh_the_same_though_their_ranges_differ(scores: tuple[int, ...], by_hand: float) -> None:
    rubric = load_rubric("cpsycoune")
    assert rubric.overall(dict(zip(rubric.principle_ids, scores, strict=True))) == pytest.approx(by_hand)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_missing_score_is_an_error_and_never_a_low_score(name: str) -> None:
    rubric = load_rubric(name)
    scores: dict[str, float] = {principle.id: principle.scale.max for principle in rubric.principles[:-1]}
    with pytest.raises(KeyError, match=rubric.principles[-1].id):
        rubric.overall(scores)


@given(
    st.sampled_from(["mean", "weighted-mean", "sum", "normalised"]), st.lists(st.floats(0, 1), min_size=3, max_size=3)
)
def test_the_weights_give_the_overall_score_and_a_better_score_never_lowers_it(
    aggregate: Aggregate, places: list[float]
) -> None:
    rubric = scored(aggregate, a=(1, 5, 1), b=(1, 5, 1), c=(1, 5, 1))
    scores = dict(zip("abc", (1 + 4 * place for place in places), strict=True))
    offset, *factors = rubric.weights()
    assert rubric.overall(scores) == pytest.approx(offset + sum(map(operator.mul, factors, scores.values())), abs=1e-8)
    assert rubric.overall({**scores, "b": 5}) >= rubric.overall(scores)


# Finding, starting, warning


def test_a_rubric_is_found_by_name_and_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mini.yml"
    path.write_text(MINI, "utf-8")
    assert load_rubric(path) == load_rubric(str(path)) == parse_rubric(MINI)
    assert find_rubric("epitome").name == "epitome.yaml"


@pytest.mark.parametrize("name", ["mine", "no", "2024", "v1.2", "mine.yaml", "Jürgen's rubric: 2"])
def test_a_new_rubric_passes_its_own_check_but_for_the_source(name: str, tmp_path: Path) -> None:
    path = start_rubric(str(tmp_path / name))
    assert path == tmp_path / f"{name.removesuffix('.yaml')}.yaml"
    rubric = load_rubric(path)
    assert rubric.id == name.removesuffix(".yaml")
    assert rubric_warnings(rubric) == ["no source: say where the principles come from"]


def test_a_new_rubric_overwrites_nothing(tmp_path: Path) -> None:
    path = start_rubric(str(tmp_path / "mine"))
    path.write_text("my work", "utf-8")
    with pytest.raises(RubricError, match=r"mine\.yaml: found a file of this name"):
        start_rubric(str(tmp_path / "mine"))
    assert path.read_text("utf-8") == "my work"


def test_a_new_rubric_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RubricError, match="Check the folder"):
        start_rubric(str(tmp_path / "nowhere" / "mine"))


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        (edited("      1: Cold.\n", ""), "empathy: no anchor for 1"),
        (edited("    anchors:\n      1: Cold.\n      5: Warm.\n", ""), "empathy: no anchor for 1, 5"),
        (MINI.replace("safety", "warmth"), "no principle about safety"),
        (edited("gates:\n  - principle: safety\n", ""), "no gate: a mean can outweigh safety"),
        (edited("source: our own\n", ""), "no source: say where the principles come from"),
    ],
)
def test_what_is_allowed_and_doubtful_is_said(text: str, warning: str) -> None:
    assert rubric_warnings(parse_rubric(text)) == [warning]
    assert rubric_warnings(parse_rubric(MINI)) == []


# Broken files

SAFETY = "    statement: Does no harm.\n"
LAUGHS = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True))


def safety(lines: str) -> str:
    """MINI with lines for the principle safety, of which the first is line 18."""
    return edited(SAFETY, f"{SAFETY}    {lines}\n")


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        # keys
        pytest.param(edited("version: 1", "vresion: 1"), 2, "gates, source, scale", id="unknown key"),
        pytest.param(edited("title: Safety", "titel: S"), 16, "one of id, title, statement", id="in a principle"),
        pytest.param(safety("scale: {min: 1, maks: 5}"), 18, "one of min, max, step, levels", id="in a scale"),
        pytest.param(MINI + "scale: {maks: 5}", 21, " scale.maks: found", id="unknown key in the common scale"),
        pytest.param(edited("- principle: safety", "- principel: safety"), 7, "gates[0].principel", id="in a gate"),
        pytest.param(safety("examples: [{prompt: p, best: b}]"), 18, "prompt, better, worse", id="in an example"),
        pytest.param(edited("version: 1", "<<: {version: 1}"), 2, "<<: found a key", id="merge key"),
        pytest.param(edited("version: 1", "'a - at `$.b`': 1"), 2, "no meaning here", id="unknown key with odd marks"),
        pytest.param(edited("title: A small rubric\n", ""), 1, "found no 'title'", id="missing key"),
        pytest.param(edited(SAFETY, ""), 15, "principles[1]: found no 'statement'", id="missing key in a principle"),
        pytest.param(edited("version: 1", "1: 1"), 1, "a number as a key; expected a text", id="number as a key"),
        pytest.param(edited("version: 1", "? [a, b]\n: 1"), 2, "a key that is not a word", id="list as a key"),
        pytest.param(edited("version: 1", "? {a: b}\n: 1"), 2, "a key that is not a word", id="mapping as a key"),
        pytest.param(edited("version: 1", "null: 1"), 2, "a key that is not a word", id="nothing as a key"),
        pytest.param(edited("version: 1", "version: 1\nversion: 2"), 3, "'version' a second time", id="key twice"),
        pytest.param(edited("5: Safe.", "5: Safe.\n      5: Sure."), 21, "'5' a second time", id="anchor twice"),
        pytest.param(edited("5: Safe.", "5: Safe.\n      5.0: Sure."), 21, "'5.0' a second time", id="5 and 5.0"),
        # types
        pytest.param(
            edited("A small rubric", "[A, small, rubric]"), 3, "a list; expected a text", id="list for a text"
        ),
        pytest.param(edited("A small rubric", "yes"), 3, "yes or no without quotes", id="unquoted yes"),
        pytest.param(edited("A small rubric", ""), 3, "title: found nothing; expected a text", id="nothing for a text"),
        pytest.param(edited("version: 1", "version: one"), 2, "expected a whole number", id="word for a number"),
        pytest.param(edited("version: 1", "version: 1.5"), 2, "expected a whole number", id="fraction for a version"),
        pytest.param(edited("version: 1", "version: 0"), 2, "a whole number from 1", id="version 0"),
        pytest.param(edited("version: 1", f"version: 1{'0' * 30}"), 2, "a number up to 2**53", id="30 digits"),
        pytest.param(edited("version: 1", f"version: 0x{'f' * 9000}"), 2, "a number up to 2**53", id="9,000 digits"),
        pytest.param(edited("version: 1", f"version: 1{':00' * 300}.0"), 2, "2**53", id="too large in base 60"),
        pytest.param(
            edited("5: Safe.", "high: Safe."),
            20,
            "anchors.high: found a text; expected a number",
            id="word for a score",
        ),
        pytest.param(edited("5: Safe.", "yes: Safe."), 20, "need quotes around them", id="yes for a score"),
        pytest.param(
            edited("5: Safe.", "3:\n      5: Safe."), 20, "anchors.3: found nothing", id="nothing for an anchor"
        ),
        pytest.param(
            edited("5: Safe.", "5: [Safe]"), 20, "anchors.5: found a list; expected a text", id="list for an anchor"
        ),
        pytest.param(safety("scale: 0-2"), 18, "a text; expected a mapping", id="text for a scale"),
        pytest.param(safety("scale:"), 18, "nothing; expected a mapping", id="nothing for a scale"),
        pytest.param(safety("scale: {levels: [no, yes]}"), 18, "levels[0]: found a yes or no", id="unquoted levels"),
        pytest.param(safety("weight: heavy"), 18, "a text; expected a number", id="word for a weight"),
        pytest.param(edited("unit: response", "unit: sentence"), 4, "response, turn or session", id="unknown unit"),
        pytest.param(edited("unit: response", "unit: x - at `$.y`"), 4, "turn or session", id="unit with odd marks"),
        pytest.param(MINI + "aggregate: median", 21, "weighted-mean, sum or normalised", id="unknown aggregate"),
        pytest.param(edited("- principle: safety", "- {principle: safety, rule: never}"), 7, "at-least", id="rule"),
        pytest.param(
            "principles: {a: b}\nid: a\nversion: 1\ntitle: t\nunit: turn", 1, "a list", id="mapping for a list"
        ),
        pytest.param("principles: [a]\nid: a\nversion: 1\ntitle: t\nunit: turn", 1, "a mapping", id="text in the list"),
        pytest.param("", None, "found nothing; expected a mapping", id="empty"),
        pytest.param("# nothing yet\n", None, "found nothing; expected a mapping", id="comments alone"),
        pytest.param("- id: mini\n", None, "found a list; expected a mapping", id="list at the top"),
        pytest.param("mini", None, "found a text; expected a mapping", id="text at the top"),
        pytest.param("7", None, "found a number; expected a mapping", id="number at the top"),
        # values
        pytest.param("principles: []\nid: a\nversion: 1\ntitle: t\nunit: turn", 1, "an empty list", id="no principles"),
        pytest.param(edited("- id: safety", "- id: empathy"), 15, "'empathy' a second time", id="id twice"),
        pytest.param(edited("- id: empathy", "- id: em pathy"), 9, "letters, digits, _ and -", id="blank in an id"),
        pytest.param(edited("- id: empathy", "- id: ''"), 9, "an empty text", id="empty id"),
        pytest.param(edited("id: mini", "id: ' '"), 1, "an empty text", id="blank name"),
        pytest.param(edited("title: Safety", "title: ''"), 16, "an empty text", id="empty title"),
        pytest.param(edited("Does no harm.", '""'), 17, "an empty text", id="empty statement"),
        pytest.param(edited("5: Safe.", '5: " "'), 20, "an empty text", id="empty anchor"),
        pytest.param(safety("examples: [{prompt: p, better: '', worse: w}]"), 18, "an empty", id="empty example"),
        pytest.param(
            edited("5: Safe.", "6: Safe."), 20, "an anchor for 6; expected anchors for scores from 1-5", id="6"
        ),
        pytest.param(edited("5: Safe.", ".nan: Safe."), 19, "an anchor for nan", id="anchor for NaN"),
        pytest.param(edited("5: Safe.", ".inf: Safe."), 19, "an anchor for inf", id="anchor for infinity"),
        pytest.param(safety("scale: {min: 5, max: 1}"), 18, "a min below the max", id="min above max"),
        pytest.param(safety("scale: {min: 5}"), 18, "a min below the max", id="min equal to max"),
        pytest.param(safety("scale: {min: .nan}"), 18, "not a finite number", id="NaN for min"),
        pytest.param(safety("scale: {max: .inf}"), 18, "not a finite number", id="infinity for max"),
        pytest.param(safety("scale: {step: -.inf}"), 18, "not a finite number", id="infinity for step"),
        pytest.param(safety("scale: {step: 3}"), 18, "a step that divides 1-5", id="step that does not divide"),
        pytest.param(safety("scale: {step: 8}"), 18, "a step that divides 1-5", id="step beyond the scale"),
        pytest.param(safety("scale: {step: 0}"), 18, "a step that divides 1-5", id="step 0"),
        pytest.param(safety("scale: {step: -1}"), 18, "a step that divides 1-5", id="step below 0"),
        pytest.param(safety("scale: {step: 1.0e-9}"), 18, "at most 10,001 scores", id="step too small"),
        pytest.param(safety("scale: {max: 1.0e+300}"), 18, "at most 10,001 scores", id="scale too long"),
        pytest.param(safety("scale: {min: -1.7e+308, max: 1.7e+308}"), 18, "at most 10,001", id="endless range"),
        pytest.param(safety("scale: {min: 1, levels: [a, b]}"), 18, "each of the 5 scores", id="too few levels"),
        pytest.param(safety("scale: {levels: [good]}"), 18, "found one level", id="one level"),
        pytest.param(safety("scale: {levels: [good, Good]}"), 18, "two levels of one name", id="level twice"),
        pytest.param(safety("scale: {levels: [poor, ' ']}"), 18, "levels[1]: found an empty text", id="empty level"),
        pytest.param(safety("scale: yes-no"), 21, "scores from 0-1", id="anchor beyond yes-no"),
        pytest.param(MINI + "scale: {min: 5, max: 1}", 21, " scale: found min 5 and max 1", id="common scale"),
        pytest.param(
            MINI.replace("    title:", "    scale: {min: 1, max: 5}\n    title:") + "scale: high",
            23,
            " scale: found a text",
            id="common scale that no principle uses",
        ),
        pytest.param(safety("weight: 2") + "aggregate: mean", 22, "'mean' beside weights", id="weights and a mean"),
        pytest.param(safety("weight: 2") + "aggregate: sum", 22, "'sum' beside weights", id="weights and a sum"),
        pytest.param(safety("weight: 0") + "aggregate: weighted-mean", 18, "a number above 0", id="weight 0"),
        pytest.param(safety("weight: .nan") + "aggregate: weighted-mean", 18, "a number above 0", id="weight NaN"),
        pytest.param(safety("scale: {max: 7}") + "aggregate: mean", 22, "different ranges", id="ranges and a mean"),
        pytest.param(
            safety("scale: {max: 7}") + "aggregate: weighted-mean", 22, "different ranges", id="ranges and weights"
        ),
        pytest.param(
            edited("- principle: safety", "- principle: harm"), 7, "one of empathy, safety", id="gate on what"
        ),
        pytest.param(
            edited("- principle: safety", "- principle: safety\n    rule: at-least"), 7, "a value", id="no value"
        ),
        pytest.param(edited("- principle: safety", "- principle: safety\n    value: 3"), 8, "only there", id="value"),
        pytest.param(
            edited("- principle: safety", "- principle: safety\n    rule: at-least\n    value: 6"),
            9,
            "a score on the scale of safety",
            id="gate that nothing passes",
        ),
        pytest.param(
            edited("- principle: safety", "- {principle: safety, rule: at-least, value: .nan}"),
            7,
            "nan",
            id="gate at NaN",
        ),
        # YAML
        pytest.param(edited("title: Safety", "title: &t Safety"), 16, "anchor or alias", id="anchor"),
        pytest.param(edited("title: Safety", "title: *t"), 16, "anchor or alias", id="alias of nothing"),
        pytest.param("principles: &p [*p]\n", 1, "anchor or alias", id="cyclic"),
        pytest.param(LAUGHS, 1, "anchor or alias", id="billion laughs"),
        pytest.param(edited("title: Safety", "title: !!python/name:os.system"), 16, "tag", id="python/name"),
        pytest.param("!!python/object/apply:os.system [exit 1]", 1, "the YAML tag", id="python/object"),
        pytest.param(edited("title: Safety", "title: !!bool maybe"), 16, "the YAML tag", id="tag of a plain value"),
        pytest.param(safety("scale: {levels: !!set {a, b}}"), 18, "the YAML tag", id="set"),
        pytest.param(edited("    title: Safety", "\ttitle: Safety"), 16, "spaces", id="tab"),
        pytest.param(edited("Safety", "Safety: first"), 16, "quotes around it", id="colon in a text"),
        pytest.param(edited("title: Safety", 'title: "Safety'), None, "broken YAML", id="open quote"),
        pytest.param(edited("    title: Safety", "   title: Safety"), 16, "broken YAML", id="indentation"),
        pytest.param(MINI + "---\n" + MINI, 21, "broken YAML", id="two documents"),
        pytest.param(edited("Safety", "Saf\0ty"), 16, "U+0000", id="NUL"),
        pytest.param(edited("Safety", '"Saf\\0ty"'), 16, "U+0000", id="NUL in disguise"),
        pytest.param(edited("Safety", '"\\e[31mred"'), 16, "U+001B", id="escape sequence for the terminal"),
        pytest.param(edited("Safety", '"\\ud800"'), 16, "U+D800", id="half a character"),
        pytest.param(edited("Safety", '"\\UFFFFFFFF"'), None, "cannot be read", id="no character"),
        pytest.param("[" * 10_000, None, "too deep", id="10,000 lists"),
        pytest.param("- " * 10_000, None, "too deep", id="10,000 lists in block style"),
        pytest.param("{a: " * 10_000, None, "too deep", id="10,000 mappings"),
        pytest.param("? " * 10_000, None, "too deep", id="10,000 keys"),
    ],
)
def test_a_broken_rubric_is_refused_with_its_file_line_and_a_remedy(
    text: str, line: int | None, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(text.encode())
    message = refusal(lambda: load_rubric(path))
    assert words in message
    assert message.startswith(f"{path}:{line}: " if line else str(path)), message


def refusal(load: Callable[[], Any]) -> str:
    """The message of the RubricError, which has to say what to do in a second line."""
    with pytest.raises(RubricError) as caught:
        load()
    message = str(caught.value)
    found, remedy = message.rsplit("\n  ", 1)
    assert ": found " in found
    assert "; expected " in found
    assert remedy[0].isupper()
    assert len(message) < 600
    return message


@pytest.mark.parametrize(
    ("raw", "line", "words"),
    [
        pytest.param(MINI.encode() + b"# \xff", 21, "the byte 0xff, which is not UTF-8", id="not UTF-8"),
        pytest.param(b"\xef\xbb\xbf# a\n# \xe4\n", 2, "the byte 0xe4", id="not UTF-8 after a byte order mark"),
        pytest.param(MINI.encode("utf-16"), 1, "the byte 0xff", id="UTF-16"),
        pytest.param(b"# " + b"x" * (2 << 20), None, "more than 262,144 bytes", id="2 MB"),
    ],
)
def test_a_file_that_is_no_text_of_a_rubric_is_refused(
    raw: bytes, line: int | None, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(raw)
    message = refusal(lambda: load_rubric(path))
    assert message.startswith(f"{path}:{line}: " if line else str(path))
    assert words in message


def test_a_folder_or_a_missing_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    assert "folder.yaml: found is a directory" in refusal(lambda: load_rubric(tmp_path / "folder.yaml"))
    assert "missing.yaml: found no such file or directory" in refusal(lambda: load_rubric(tmp_path / "missing.yaml"))


@pytest.mark.parametrize("name", ["psychocouncil", "", "no/such/thing", "mine.txt"])
def test_an_unknown_name_is_answered_with_the_known_ones(name: str) -> None:
    message = refusal(lambda: load_rubric(name))
    assert all(known in message for known in SHIPPED)


def test_an_error_from_a_text_names_what_the_caller_calls_it() -> None:
    assert refusal(lambda: parse_rubric("[]", "run.json: rubric")).startswith("run.json: rubric: found a list")


MARKS = st.text("abe05 \n\t:-.,[]{}&*!?|>%@#'\"\\<=~_+", max_size=40)
WORDS = st.sampled_from([*MINI.replace(":", " ").split(), "scale", "levels", "min", "max", "step", "yes-no", "weight"])
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=5)
SHAPES = st.recursive(
    VALUES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.integers() | st.none(), inner, max_size=5),
    max_leaves=12,
)


@st.composite
def nearly_rubrics(draw: st.DrawFn) -> str:
    """MINI with a stretch of it replaced."""
    start = draw(st.integers(0, len(MINI)))
    end = draw(st.integers(start, min(start + 30, len(MINI))))
    return MINI[:start] + draw(MARKS | st.text(max_size=5)) + MINI[end:]


@st.composite
def wrong_rubrics(draw: st.DrawFn) -> str:
    """MINI with anything under one of its keys, or of a new one."""
    value = yaml.safe_load(MINI)
    place = draw(st.sampled_from([value, value["gates"][0], value["principles"][0], value["principles"][1]]))
    place[draw(WORDS)] = draw(SHAPES)
    return yaml.safe_dump(value, allow_unicode=True)


@given(st.text() | MARKS | nearly_rubrics() | wrong_rubrics() | SHAPES.map(yaml.safe_dump))
def test_any_text_is_a_usable_rubric_or_a_rubric_error(text: str) -> None:
    try:
        rubric = parse_rubric(text, "mine.yaml")
    except RubricError as error:
        assert str(error).startswith("mine.yaml")
        return
    assert set(rubric.principle_hashes()) == set(rubric.principle_ids)
    assert rubric.title.strip() in rubric.as_text()
    assert msgspec.json.decode(msgspec.json.encode(rubric), type=Rubric).hash == rubric.hash
    assert math.isfinite(rubric.overall({principle.id: principle.scale.max for principle in rubric.principles}))
