"""What an audit finds in a run: each figure by hand on a few records, and planted biases in simulated judges."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from making import ONE, TWO, best_of, both_orders, compared, make_run, rated

from benchmarks.audit import Cell, audited, holds, planted_run
from prefkit.errors import RunError
from prefkit.judging.audit.families import Families, family_of
from prefkit.judging.audit.figure import Figure
from prefkit.judging.audit.intervals import correlation, difference, discoveries, share, slope
from prefkit.judging.audit.report import AuditSettings, Threshold, audit, beyond
from prefkit.records import Judgement
from prefkit.run import Run

Made = Iterable[Judgement]


def figures(run: Run, judge: str = "llm:one", principle: str | None = None, **settings: Any) -> Mapping[str, Figure]:
    """The figures of a judge by name."""
    report = audit(run, AuditSettings(principles=principle is not None, **settings))
    (mine,) = [one for one in report.judges if one.judge == judge]
    return {figure.name: figure for figure in mine.figures if figure.principle == principle}


def by_place(prompt: int, by: str = "llm:one") -> Made:
    """A judge that names the response shown first, whichever it is."""
    a, b = f"p{prompt}/A", f"p{prompt}/B"
    return compared(a, b, "a", by) + compared(b, a, "a", by)


def sound(prompt: int, by: str = "llm:one", better: str = "A", worse: str = "B") -> Made:
    """A judge that names the same response in both orders."""
    return both_orders(f"p{prompt}/{better}", f"p{prompt}/{worse}", by)


# order


def test_a_pair_counts_as_the_same_verdict_when_both_orders_name_the_same_response(tmp_path: Path):
    run = make_run(tmp_path / "run", *(sound(at) for at in range(3)), by_place(3))
    found = figures(run)
    assert (found["order.same_verdict"].value, found["order.same_verdict"].n) == (0.75, 4)
    assert (found["order.flips"].value, found["order.flips"].n) == (0.25, 4)
    assert (found["order.first"].value, found["order.first"].n) == (5 / 8, 8)
    assert (found["order.first_when_flipped"].value, found["order.first_when_flipped"].n) == (1.0, 1)


def test_a_tie_both_times_is_the_same_verdict_and_a_tie_once_is_not(tmp_path: Path):
    twice = compared("p1/A", "p1/B", "tie", "llm:one") + compared("p1/B", "p1/A", "tie", "llm:one")
    once = compared("p2/A", "p2/B", "tie", "llm:one") + compared("p2/B", "p2/A", "a", "llm:one")
    found = figures(make_run(tmp_path / "run", twice, once))
    assert (found["order.same_verdict"].value, found["order.same_verdict"].n) == (0.5, 2)
    assert found["order.flips"].not_measured == "no pair has a winner in both orders"
    assert (found["order.first"].value, found["order.first"].n) == (1.0, 1)


def test_what_was_shown_in_one_order_only_is_not_measured_and_never_a_zero(tmp_path: Path):
    run = make_run(tmp_path / "run", *(compared(f"p{at}/A", f"p{at}/B", "a", "llm:one") for at in range(5)))
    for name in ("order.same_verdict", "order.flips", "order.first", "order.first_when_flipped"):
        figure = figures(run)[name]
        assert (figure.value, figure.p, figure.flagged) == (None, None, False)
        assert figure.not_measured is not None
        assert "no two responses were shown in both orders (it named the first in 100% of 5" in figure.not_measured
        assert "prefkit judge RUN --mode compare" in figure.not_measured


def test_two_samples_are_not_the_two_orders_of_one_pair(tmp_path: Path):
    run = make_run(
        tmp_path / "run",
        compared("p1/A", "p1/B", "a", "llm:one", sample=0),
        compared("p1/B", "p1/A", "a", "llm:one", sample=1),
    )
    assert figures(run)["order.same_verdict"].not_measured is not None


def test_a_judge_of_places_is_flagged_and_a_sound_one_is_not(tmp_path: Path):
    run = make_run(
        tmp_path / "run",
        *(by_place(at, "llm:places") for at in range(30)),
        *(sound(at, "llm:sound", *("AB" if at % 2 else "BA")) for at in range(30)),
    )
    places, fair = figures(run, "llm:places")["order.first"], figures(run, "llm:sound")["order.first"]
    assert (places.value, places.flagged, places.null) == (1.0, True, 0.5)
    assert (fair.value, fair.flagged) == (0.5, False)
    assert places.q is not None
    assert places.q >= (places.p or 0)
    assert fair.low is not None
    assert fair.low < 0.5 < (fair.high or 0), "no flip in 30 pairs is no proof that there never is one"


def test_each_principle_has_its_own_order_preference(tmp_path: Path):
    judged = []
    for at in range(4):
        a, b = f"p{at}/A", f"p{at}/B"
        judged += compared(a, b, "a", "llm:one", warm="a", safe="a")
        judged += compared(b, a, "b", "llm:one", warm="b", safe="a")
    run = make_run(tmp_path / "run", judged, rubric=TWO)
    assert figures(run, principle="warm")["order.same_verdict"].value == 1.0
    assert figures(run, principle="safe")["order.first"].value == 1.0
    assert figures(run)["order.first"].value == 0.5


def test_each_place_of_a_choice_is_held_against_one_in_k(tmp_path: Path):
    names = [[f"p{at}/{letter}" for letter in "ABC"] for at in range(12)]
    run = make_run(tmp_path / "run", *(best_of(shown, 2, "llm:one") for shown in names))
    found = figures(run)
    assert [found[f"choice.position_{place}_of_3"].value for place in (1, 2, 3)] == [0, 0, 1]
    assert found["choice.position_3_of_3"].null == pytest.approx(1 / 3)
    assert found["choice.position_3_of_3"].flagged


# length


def lengths(run: Path, short_wins: int, long_wins: int, *more: Made, by: str = "llm:one") -> Run:
    judged: list[Made] = [sound(at, by) for at in range(short_wins)]
    judged += [sound(at, by, "B", "A") for at in range(short_wins, short_wins + long_wins)]
    prompts = range(short_wins + long_wins)
    texts = {f"p{at}/A": "short" for at in prompts} | {f"p{at}/B": "rather longer" * (1 + at % 5) for at in prompts}
    return make_run(run, *judged, *more, texts=texts)


def test_wins_of_the_longer_response_are_counted_and_ties_are_not(tmp_path: Path):
    tie = compared("p0/A", "p0/B", "tie", "llm:one", sample=1)
    found = figures(lengths(tmp_path / "run", 3, 7, tie))["length.longer"]
    assert (found.value, found.n, found.prompts, found.null) == (0.7, 20, 10, 0.5)


def test_responses_of_one_length_say_nothing_about_length(tmp_path: Path):
    run = make_run(tmp_path / "run", sound(1), texts={"p1/A": "same", "p1/B": "text"})
    assert "of unequal length" in (figures(run)["length.longer"].not_measured or "")


def test_without_texts_length_is_not_measured(tmp_path: Path):
    run = make_run(tmp_path / "run", sound(1), rated({"p1/A": 3, "p1/B": 4}), texts={"p1/A": None, "p1/B": None})
    for name in ("length.longer", "length.slope", "length.rating_characters"):
        assert "prefkit import responses" in (figures(run)[name].not_measured or "")


def test_a_preference_that_people_share_is_not_the_judges_own(tmp_path: Path):
    people = [sound(at, "human:ann", *("AB" if at < 3 else "BA")) for at in range(10)]
    run = lengths(tmp_path / "run", 3, 7, *people)
    shared = figures(run)["length.beyond_people"]
    assert (shared.value, shared.n, shared.detail["people"]) == (0.0, 10, 0.7)
    alone = lengths(
        tmp_path / "alone", 0, 10, *[sound(at, "human:ann", *("AB" if at < 3 else "BA")) for at in range(10)]
    )
    assert figures(alone)["length.beyond_people"].value == pytest.approx(0.3)


def test_scores_that_grow_with_length_within_prompts_correlate(tmp_path: Path):
    scores, texts = {}, {}
    for at in range(12):
        for length, name in enumerate("ABC"):
            scores[f"p{at}/{name}"] = min(5, max(1, 1 + length + at % 3))
            texts[f"p{at}/{name}"] = "word " * (10 - 4 * (at % 2)) * (1 + length)
    found = figures(make_run(tmp_path / "run", rated(scores), texts=texts))
    assert found["length.rating_words"].value == pytest.approx(0.99, abs=0.01)
    assert found["length.rating_words"].flagged
    assert found["length.rating_characters"].n == 36


def test_a_level_that_differs_between_prompts_is_no_correlation_within_them(tmp_path: Path):
    scores, texts = {}, {}
    for at in range(20):
        for turn, name in enumerate("AB"):
            scores[f"p{at}/{name}"] = 1 + 3 * (at % 2) + (turn + at // 2) % 2
            texts[f"p{at}/{name}"] = "w" * (10 + 100 * (at % 2) + turn)
    found = figures(make_run(tmp_path / "run", rated(scores), texts=texts))["length.rating_characters"]
    assert abs(found.value or 0) < 0.1


# own family


def test_the_own_family_is_known_by_name_and_said_otherwise():
    by_name, said = Families(), Families({"llm:reader": frozenset({"house"})})
    assert by_name.is_own("llm:openai/gpt-4o", "gpt-3.5-turbo")
    assert by_name.is_own("llm:chatgpt", "gpt-4o")
    assert not by_name.is_own("llm:claude-3", "gpt-4o")
    assert said.is_own("llm:reader", "house")
    assert not said.is_own("llm:reader", "reader")
    assert family_of("Qwen/Qwen2.5-7B") == family_of("qwen2")


def test_own_family_preference_is_what_others_do_not_share(tmp_path: Path):
    judged = []
    for at in range(10):
        own, other = f"p{at}/gpt-x", f"p{at}/llama-y"
        judged += both_orders(own, other, "llm:gpt-judge")
        judged += both_orders(own, other, "human:ann") if at < 4 else both_orders(other, own, "human:ann")
        judged += both_orders(own, other, "llm:gpt-other")
    found = figures(make_run(tmp_path / "run", judged), "llm:gpt-judge")["family.compared"]
    assert found.value == pytest.approx(0.6), "the judge 1.0, people 0.4; the kin does not count as another"
    assert (found.n, found.flagged, found.detail["policies"]) == (10, True, ["gpt-x"])


def test_ratings_tell_of_the_own_family_too(tmp_path: Path):
    judged = []
    for at in range(8):
        own, other = f"p{at}/claude-1", f"p{at}/llama-1"
        judged += rated({own: 5, other: 2}, "llm:claude-9") + rated({own: 3, other: 3}, "human:ann")
    found = figures(make_run(tmp_path / "run", judged), "llm:claude-9")["family.rated"]
    assert (found.value, found.n) == (0.5, 8)


def test_without_anybody_to_compare_with_own_family_is_not_measured(tmp_path: Path):
    run = make_run(tmp_path / "run", both_orders("p1/gpt-x", "p1/llama-y", "llm:gpt-judge"))
    assert "nobody else judged" in (figures(run, "llm:gpt-judge")["family.compared"].not_measured or "")


# saturation, missing answers


def test_scores_at_the_ends_of_the_scale_are_counted(tmp_path: Path):
    scores = {"p1/A": {"warm": 5, "safe": 5}, "p1/B": {"warm": 5, "safe": 1}, "p2/A": {"warm": 3, "safe": None}}
    scores |= {"p3/A": {"warm": 2, "safe": 4}}
    found = figures(make_run(tmp_path / "run", rated(scores), rubric=TWO))
    assert (found["saturation.top"].value, found["saturation.top"].n) == (3 / 7, 7)
    assert found["saturation.bottom"].value == 1 / 7
    assert (found["saturation.identical"].value, found["saturation.identical"].n) == (1 / 3, 3)


def test_entropy_is_one_where_all_scores_are_used_alike_and_nought_where_one_is(tmp_path: Path):
    even = rated({f"p{at}/A": 1 + at % 5 for at in range(10)})
    flat = rated({f"p{at}/A": 4 for at in range(10)}, "llm:flat")
    run = make_run(tmp_path / "run", even, flat)
    assert figures(run)["saturation.entropy"].value == pytest.approx(1.0)
    assert figures(run, "llm:flat")["saturation.entropy"].value == 0.0


def test_pairs_of_one_prompt_with_the_same_score_are_ties(tmp_path: Path):
    scores = {"p1/A": 4, "p1/B": 4, "p1/C": 4, "p1/D": 2, "p2/A": 4}
    found = figures(make_run(tmp_path / "run", rated(scores)))["saturation.tied"]
    assert (found.value, found.n) == (0.5, 6)


def test_unreadable_answers_are_counted_by_reason_and_bring_no_scores(tmp_path: Path):
    judged = rated({"p1/A": 4, "p2/A": 5}) + rated({"p3/A": None}, failure="no JSON in the reply")
    found = figures(make_run(tmp_path / "run", judged))
    assert found["missing.unreadable"].value == pytest.approx(1 / 3)
    assert found["missing.unreadable"].detail["reasons"] == {"no JSON in the reply": 1}
    assert (found["missing.scores"].value, found["missing.scores"].n) == (0.0, 2)


def test_a_score_left_out_is_missing_and_not_low(tmp_path: Path):
    scores = {"p1/A": {"warm": 3, "safe": None}, "p2/A": {"warm": 3, "safe": 3}}
    found = figures(make_run(tmp_path / "run", rated(scores), rubric=TWO))
    assert (found["missing.scores"].value, found["missing.scores"].n) == (0.25, 4)
    assert found["saturation.bottom"].value == 0.0


def test_judgements_under_another_rubric_are_left_out_and_said(tmp_path: Path):
    run = make_run(tmp_path / "run", sound(1), compared("p2/A", "p2/B", "a", "llm:one", under="elsewhere"))
    assert audit(run).left_out == {"under another rubric": 1}


# samples


def test_verdicts_that_change_from_sample_to_sample_are_counted_within_one_order(tmp_path: Path):
    judged = [*compared("p1/A", "p1/B", "a", "llm:one"), *compared("p1/A", "p1/B", "b", "llm:one", sample=1)]
    judged += compared("p2/A", "p2/B", "a", "llm:one") + compared("p2/A", "p2/B", "a", "llm:one", sample=1)
    judged += compared("p2/B", "p2/A", "b", "llm:one")
    found = figures(make_run(tmp_path / "run", judged))["samples.verdict_changes"]
    assert (found.value, found.n) == (0.5, 2)


def test_scores_within_a_question_are_held_against_those_between_responses(tmp_path: Path):
    """Within: 2 and 4 about 3, 4 and 4, 1 and 1: squares 2 over 3 degrees of freedom. Between: 3, 4, 1."""
    samples = [rated({"p1/A": first, "p2/A": 4, "p3/A": 1}, sample=at) for at, first in enumerate((2, 4))]
    more = [rated({"p4/A": score}, sample=at) for at, score in enumerate((1, 2))]
    found = figures(make_run(tmp_path / "run", *samples, *more))
    assert found["samples.score_deviation"].value == pytest.approx(math.sqrt(2.5 / 4))
    assert found["samples.score_deviation"].detail["between"] == pytest.approx(np.std([3, 4, 1, 1.5], ddof=1))
    assert found["samples.score_changes"].value == 0.5


# intervals


def test_the_interval_of_independent_verdicts_is_wilsons_nearly():
    """90 of 100: Wilson's interval is 0.826 to 0.945."""
    hits = np.asarray([1.0] * 90 + [0.0] * 10)
    found = share(hits, np.arange(100), 0.5)
    assert (found.low, found.high) == (pytest.approx(0.826, abs=0.005), pytest.approx(0.945, abs=0.005))


def test_verdicts_that_repeat_within_prompts_count_once():
    hits = np.asarray([1.0] * 30 + [0.0] * 20)
    once = share(hits, np.arange(50), 0.5)
    tenfold = share(np.repeat(hits, 10), np.repeat(np.arange(50), 10), 0.5)
    assert tenfold.low == pytest.approx(once.low, abs=0.003)
    assert tenfold.p == pytest.approx(once.p, abs=0.01)


def test_nothing_seen_in_twenty_prompts_leaves_room():
    found = share(np.zeros(100), np.repeat(np.arange(20), 5))
    assert found.low == 0.0
    assert 0.14 < (found.high or 0) < 0.25, "as 0 of 20, not as 0 of 100"


def test_one_prompt_gives_a_value_and_no_interval():
    found = share(np.asarray([1.0, 0.0]), np.zeros(2, dtype=int), 0.5)
    assert (found.value, found.low, found.p) == (0.5, None, None)


@pytest.mark.parametrize("seed", range(5))
def test_a_null_value_at_the_border_of_the_interval_has_p_of_five_percent(seed: int):
    rng = np.random.default_rng(seed)
    hits, prompt = rng.integers(0, 2, 80).astype(float), rng.integers(0, 20, 80)
    border = share(hits, prompt).low
    assert border is not None
    assert share(hits, prompt, border).p == pytest.approx(0.05, abs=1e-6)


@pytest.mark.parametrize(("chance", "likeness"), [(0.5, 0.0), (0.7, 0.3), (0.03, 0.3), (0.97, 0.6)])
def test_intervals_hold_the_truth_with_thirty_prompts_of_uneven_size(chance: float, likeness: float):
    rng, held = np.random.default_rng(3), 0
    for _ in range(400):
        sizes = rng.integers(1, 8, 30)
        strength = 1 / max(likeness, 1e-3) - 1
        chances = rng.beta(chance * strength, (1 - chance) * strength, 30)
        prompt = np.repeat(np.arange(30), sizes)
        found = share((rng.random(len(prompt)) < chances[prompt]).astype(float), prompt)
        held += found.low <= chance <= found.high  # type: ignore[operator]
    assert held >= 0.93 * 400


def test_an_effect_of_the_smallest_visible_size_is_seen_in_eighty_percent():
    rng, seen = np.random.default_rng(4), []
    smallest = share(rng.integers(0, 2, 400).astype(float), np.arange(400), 0.5).smallest
    assert smallest is not None
    for _ in range(400):
        found = share((rng.random(400) < 0.5 + smallest).astype(float), np.arange(400), 0.5)
        seen.append((found.p or 0) < 0.05)
    assert np.mean(seen) == pytest.approx(0.8, abs=0.06)


def test_the_slope_is_that_of_a_known_logistic_model():
    rng = np.random.default_rng(5)
    x, prompt = rng.normal(size=4000), np.repeat(np.arange(1000), 4)
    won = (rng.random(4000) < 1 / (1 + np.exp(-(0.3 + 0.8 * x)))).astype(float)
    found = slope(x, won, prompt)
    assert found is not None
    assert found.low is not None
    assert found.low < 0.8 < (found.high or 0)
    assert (found.high or 0) - found.low == pytest.approx(4 * 0.04, rel=0.25), "the textbook error is 0.040"


def test_where_nothing_could_have_been_seen_no_smallest_effect_is_named():
    assert share(np.asarray([1.0, 0.0, 1.0]), np.arange(3), 0.5).smallest is None
    assert share(np.asarray([1.0, 0.0] * 50), np.arange(100), 0.5).smallest is not None


def test_a_length_that_tells_every_winner_has_no_slope():
    x = np.linspace(-1, 1, 40)
    assert slope(x, (x > 0).astype(float), np.arange(40)) is None


def test_a_correlation_needs_something_that_varies():
    assert correlation(np.ones(10), np.arange(10.0), np.repeat(np.arange(5), 2)) is None


def test_no_difference_in_five_pairs_is_not_certainty():
    found = difference(np.zeros(5), np.arange(5))
    assert found.low is not None
    assert found.low < -0.2
    assert found.p == 1.0


def test_q_values_are_those_of_benjamini_and_hochberg():
    """Their paper's example (p. 295): of 15 p-values the four smallest are discoveries at 0.05."""
    p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344]
    p += [0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
    assert [q < 0.05 for q in discoveries(p)] == [True] * 4 + [False] * 11


def test_q_is_taken_over_all_judges_of_the_report(tmp_path: Path):
    run = make_run(
        tmp_path / "run", *(by_place(at, "llm:one") for at in range(9)), *(sound(9 + at, "llm:two") for at in range(9))
    )
    report = audit(run)
    tested = [figure for judge in report.judges for figure in judge.figures if figure.p is not None]
    assert report.tested == len(tested)
    assert [figure.q for figure in tested] == pytest.approx(discoveries([figure.p or 0.0 for figure in tested]))


# simulated judges


@pytest.fixture(scope="module")
def biased(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Simulated: 40 judges that name the first with 0.7 and the longer with 0.6, on 40 prompts."""
    folder = tmp_path_factory.mktemp("biased")
    return [audited(folder / "run", Cell(40, 0.7, 0.6), seed) for seed in range(40)]


@pytest.mark.parametrize(("name", "planted"), [("order.first", 0.7), ("length.longer", 0.6)])
def test_intervals_contain_what_was_planted(biased: list[dict[str, Any]], name: str, planted: float):
    assert sum(holds(found[name], planted) for found in biased) >= 35
    assert np.mean([found[name]["value"] for found in biased]) == pytest.approx(planted, abs=0.02)


def test_a_strong_order_preference_is_flagged_in_nearly_every_judge(biased: list[dict[str, Any]]):
    assert sum(found["order.first"]["flagged"] for found in biased) >= 36


def test_an_unbiased_judge_is_rarely_flagged_for_anything(tmp_path: Path):
    flagged = 0
    for seed in range(40):
        found = audited(tmp_path / "run", Cell(40, 0.5, 0.5), seed)
        flagged += any(figure["flagged"] for figure in found.values())
    assert flagged <= 5


# the command


def test_the_command_writes_the_report_and_says_it_in_sentences(tmp_path: Path, prefkit: Callable[..., Any]):
    run = planted_run(tmp_path / "run", Cell(30, 0.7, 0.6), 1)
    done = prefkit("audit", run.path, "--width", 200)
    report = json.loads((run.path / "audit" / "audit.json").read_bytes())
    assert done.code == 0
    assert "Shown two responses in both orders, it gives the same verdict in " in done.out
    assert "not measured: samples.verdict_changes" in done.out
    (judge,) = report["judges"]
    first = next(figure for figure in judge["figures"] if figure["name"] == "order.first")
    assert first["sentence"] in done.out
    assert {"low", "high", "n", "prompts", "null", "p", "q", "smallest"} <= first.keys()


def test_the_json_goes_where_it_is_told_to(tmp_path: Path, prefkit: Callable[..., Any]):
    run = make_run(tmp_path / "run", sound(1))
    printed = json.loads(prefkit("audit", run.path, "--json", "-").out)
    prefkit("audit", run.path, "--json", tmp_path / "here.json")
    assert json.loads((tmp_path / "here.json").read_bytes()) == printed
    assert not (run.path / "audit").exists()


def test_a_figure_beyond_its_threshold_ends_the_command_with_exit_code_1(tmp_path: Path, prefkit: Callable[..., Any]):
    run = make_run(tmp_path / "run", *(by_place(at) for at in range(8)))
    done = prefkit("audit", run.path, "--fail-on", "order.first:0.6")
    assert done.code == 1
    assert "llm:one: order.first is 1.00, beyond 0.6" in done.err
    assert prefkit("audit", run.path, "--fail-on", "missing.unreadable:0.05").code == 0
    assert prefkit("audit", run.path, "--fail-on", "order.frist:0.6").code == 2


def test_a_threshold_bounds_a_preference_on_both_sides_and_agreement_from_below(tmp_path: Path):
    found = audit(
        make_run(
            tmp_path / "run",
            *(compared(f"p{at}/{x}", f"p{at}/{y}", "b", "llm:one") for at in range(6) for x, y in ("AB", "BA")),
        )
    )
    assert beyond(found, [Threshold("order.first", 0.6)]) == ["llm:one: order.first is 0.00, beyond 0.6"]
    assert beyond(found, [Threshold("order.same_verdict", 0.5)])
    assert not beyond(found, [Threshold("missing.unreadable", 0.1)])


def test_a_family_is_said_on_the_command_line(tmp_path: Path, prefkit: Callable[..., Any]):
    judged = [*both_orders("p1/A", "p1/B", "llm:one"), *both_orders("p1/A", "p1/B", "human:ann")]
    run = make_run(tmp_path / "run", judged)
    report = json.loads(prefkit("audit", run.path, "--family", "one=A", "--json", "-").out)
    (family,) = [figure for figure in report["judges"][0]["figures"] if figure["name"] == "family.compared"]
    assert (family["value"], family["n"]) == (0.0, 1)
    assert prefkit("audit", run.path, "--family", "one").code == 2


def test_a_judge_that_the_run_does_not_know_is_named_with_those_it_knows(tmp_path: Path):
    run = make_run(tmp_path / "run", sound(1))
    with pytest.raises(RunError, match=r"no judgements by llm:two.*\n.*llm:one"):
        audit(run, AuditSettings(judges=("llm:two",)))


def test_a_run_judged_by_people_alone_has_nothing_to_audit(tmp_path: Path):
    run = make_run(tmp_path / "run", sound(1, "human:ann"))
    with pytest.raises(RunError, match="judgements by people only"):
        audit(run)


def test_a_run_without_judgements_says_how_to_get_some(tmp_path: Path):
    with pytest.raises(RunError, match="no judgements"):
        audit(Run.create(tmp_path / "run", ONE))
