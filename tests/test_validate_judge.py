"""`prefkit validate-judge` from the command line: small runs by hand, the page for users, and published figures where
the real data is at hand."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from conftest import Outcome
from making import TWO, best_of, both_orders, compared, make_run, rated, rubric
from sklearn.metrics import cohen_kappa_score

from prefkit.records import Judgement
from prefkit.run import Run

DOCS = Path(__file__).parent.parent / "docs" / "validating.md"
Figures = dict[str, dict[str, Any]]
Validated = Callable[..., dict[str, Any]]


@pytest.fixture
def validated(prefkit: Callable[..., Outcome], tmp_path: Path) -> Validated:
    """What `validate-judge --json` writes for a run; the command must work."""

    def call(run: Path | Run, *options: object) -> dict[str, Any]:
        folder, output = run.path if isinstance(run, Run) else run, tmp_path / "report.json"
        outcome = prefkit("validate-judge", folder, "--resamples", 300, "--json", output, *options)
        assert outcome.code == 0, outcome.err
        assert f"{output}: all figures\n" in outcome.out
        report: dict[str, Any] = json.loads(output.read_text())
        return report

    return call


def only(report: dict[str, Any]) -> dict[str, Any]:
    (judge,) = report["judges"]
    result: dict[str, Any] = judge
    return result


def counted(figure: dict[str, Any]) -> tuple[float | None, int]:
    return figure["value"], figure["n"]


HUMAN = rated({"p1/A": 5, "p1/B": 3, "p2/A": 2, "p2/B": 4, "p3/A": 1, "p3/B": 2}, "human:ann")
JUDGE = rated({"p1/A": 4, "p1/B": 2, "p2/A": 1, "p2/B": 5, "p3/A": 3, "p3/B": 2}, "llm:owl")


# Ratings


def test_a_judge_is_held_against_people(validated, tmp_path):
    judge = only(validated(make_run(tmp_path / "run", HUMAN, JUDGE)))
    assert (judge["judge"], judge["against"]) == ("llm:owl", ["human:ann"])
    figures = judge["ratings"]["figures"]
    assert counted(figures["direction"]) == (pytest.approx(2 / 3), 3)
    assert judge["comparisons"] is None
    assert counted(judge["ratings"]["principles"]["good"]["exact"]) == (pytest.approx(1 / 6), 6)
    assert figures["mean_difference"]["value"] == pytest.approx(0)


def test_a_large_gap_is_a_quarter_of_the_range_unless_said_otherwise(validated, tmp_path):
    run = make_run(tmp_path / "run", HUMAN, JUDGE)
    usual, wider = validated(run), validated(run, "--gap", 2)
    assert (usual["gap"], wider["gap"]) == (1, 2)
    assert counted(only(usual)["ratings"]["figures"]["direction_at_gap"]) == (pytest.approx(2 / 3), 3)
    assert counted(only(wider)["ratings"]["figures"]["direction_at_gap"]) == (1, 2)


def test_repeats_of_a_judge_count_as_their_mean(validated, tmp_path):
    again = rated({"p1/A": 1}, "llm:owl", sample=1) + rated({"p1/A": 1}, "llm:owl", sample=2)
    judge = only(validated(make_run(tmp_path / "run", HUMAN, JUDGE, again)))
    assert counted(judge["ratings"]["figures"]["direction_ties_half"]) == (pytest.approx(0.5), 3), "4, 1, 1 is a tie"


def test_questions_about_one_principle_each_make_one_rating(validated, tmp_path):
    whole = rated({"p1/A": {"warm": 5, "safe": 4}, "p1/B": {"warm": 3, "safe": 3}}, "human:ann")
    parts = [
        one
        for name in ("warm", "safe")
        for one in rated({"p1/A": {name: 5}, "p1/B": {name: 4}}, "llm:owl", under="the rubric in use")
    ]
    judge = only(validated(make_run(tmp_path / "run", whole, parts, rubric=TWO)))
    assert counted(judge["ratings"]["figures"]["direction"]) == (1, 1)


def test_what_is_left_out_is_counted(validated, tmp_path):
    unread = rated({"p4/A": None}, "llm:owl", failure="no score")
    other = rated({"p4/B": 3}, "llm:owl", under="another")
    other += compared("p1/A", "p1/B", "a", "llm:owl", under="another")
    run = make_run(tmp_path / "run", HUMAN, JUDGE, unread, other, excluded={"p3": "too short"})
    report = validated(run)
    assert only(report)["left_out"] == {"unreadable": 1, "under another rubric": 2, "prompt excluded": 2}
    assert report["reference_left_out"] == {"prompt excluded": 2}
    assert only(report)["ratings"]["figures"]["direction"]["n"] == 2


# Who against whom


def test_all_models_are_judges_unless_named(validated, tmp_path):
    second = rated({"p1/A": 3, "p1/B": 5}, "llm:wren")
    run = make_run(tmp_path / "run", HUMAN, JUDGE, second)
    assert [one["judge"] for one in validated(run)["judges"]] == ["llm:owl", "llm:wren"]
    assert only(validated(run, "--judge", "llm:wren"))["ratings"]["figures"]["direction"]["value"] == 0
    between = validated(run, "--against", "llm:wren")
    assert only(between)["judge"] == "llm:owl" and only(between)["against"] == ["llm:wren"]


def test_people_are_the_ceiling_each_against_the_rest(validated, tmp_path):
    """bob turns prompt 1 round. Held against one another, each direction counts from both sides: 4 of 6 agree."""
    bob = rated({"p1/A": 1, "p1/B": 3, "p2/A": 2, "p2/B": 4, "p3/A": 1, "p3/B": 2}, "human:bob")
    report = validated(make_run(tmp_path / "run", HUMAN, bob, JUDGE))
    ceiling = report["ceiling"]
    assert ceiling["annotators"] == ["human:ann", "human:bob"]
    assert counted(ceiling["ratings"]["figures"]["direction"]) == (pytest.approx(2 / 3), 6)
    assert ceiling["raters"]["good"]["exact"]["value"] == pytest.approx(5 / 6)
    assert only(report)["ratings"]["figures"]["direction"]["n"] == 2, "of the mean, prompt 1 is tied"


def test_people_who_leave_the_scale_or_tie_in_one_order_alone_can_be_added_up(validated, tmp_path):
    ann = [
        *rated({"p1/A": 0, "p1/B": 3, "p2/A": 9, "p2/B": 4}, "human:ann"),
        *compared("p3/A", "p3/B", "tie", "human:ann"),
    ]
    ann += compared("p3/B", "p3/A", "a", "human:ann")
    bob = [*rated({"p1/A": 1, "p1/B": 3, "p3/A": 2}, "human:bob"), *compared("p3/A", "p3/B", "b", "human:bob")]
    cyn = [*rated({"p1/B": 3, "p2/B": 4, "p3/A": 2}, "human:cyn"), *compared("p3/A", "p3/B", "b", "human:cyn")]
    ceiling = validated(make_run(tmp_path / "run", ann, bob, cyn, JUDGE))["ceiling"]
    assert counted(ceiling["ratings"]["principles"]["good"]["exact"]) == (pytest.approx(10 / 12), 12)
    assert counted(ceiling["comparisons"]["figures"]["exact"]) == (pytest.approx(3 / 4), 4)


def test_a_person_is_not_held_against_themselves(validated, tmp_path):
    bob = rated({"p1/A": 1, "p1/B": 3}, "human:bob")
    run = make_run(tmp_path / "run", HUMAN, bob)
    judge = only(validated(run, "--judge", "human:bob", "--against", "human"))
    assert judge["against"] == ["human:ann"]
    assert counted(judge["ratings"]["figures"]["direction"]) == (0, 1)


def test_people_may_be_in_another_run_of_the_same_rubric(validated, tmp_path):
    run, other = make_run(tmp_path / "run", JUDGE), make_run(tmp_path / "other", HUMAN)
    here = make_run(tmp_path / "both", HUMAN, JUDGE)
    assert only(validated(run, "--against", other.path))["ratings"] == only(validated(here))["ratings"]


def test_judgements_under_other_words_do_not_match(prefkit, tmp_path):
    run, other = make_run(tmp_path / "run", JUDGE), make_run(tmp_path / "other", HUMAN, rubric=rubric("warm"))
    outcome = prefkit("validate-judge", run.path, "--against", other.path)
    assert outcome.code == 1
    assert "nothing that both llm:owl and human:ann judged (left out: 6 under another rubric)" in outcome.err


@pytest.mark.parametrize(
    ("judgements", "options", "said"),
    [
        ([], (), "no judgements; expected ratings or comparisons"),
        ([JUDGE], (), "no judgements by 'human' (there are some by llm:owl)"),
        ([HUMAN], (), "no judgements by a model (there are some by human:ann)"),
        ([HUMAN, JUDGE], ("--judge", "llm:wren"), "no judgements by llm:wren"),
        ([HUMAN, JUDGE], ("--against", "nobody"), "no judgements by 'nobody'"),
        ([HUMAN, JUDGE], ("--judge", "human:ann"), "human:ann as judge and as reference"),
        ([HUMAN, rated({"p9/A": 3}, "llm:owl")], (), "nothing that both llm:owl and human:ann judged"),
        ([HUMAN, JUDGE], ("--min-agreement", 0.5, "--figure", "luck"), "no figure 'luck'"),
    ],
)
def test_what_cannot_be_measured_is_said(prefkit, tmp_path, judgements, options, said):
    run = make_run(tmp_path / "run", *judgements)
    if not judgements:
        (run.path / "judgements.jsonl").unlink()
    outcome = prefkit("validate-judge", run.path, *options)
    assert outcome.code == 1
    assert said in outcome.err


def test_a_bar_without_its_height_is_a_usage_error(prefkit, tmp_path):
    run = make_run(tmp_path / "run", HUMAN, JUDGE)
    assert prefkit("validate-judge", run.path, "--lower-bound").code == 2


# The bar


def many(by: str, wrong: int) -> list[Any]:
    """Forty prompts of two responses, of which the first is the better one; turned round in the first ``wrong``."""
    return rated({f"p{n}/{side}": (4 if (side == "A") == (n >= wrong) else 2) for n in range(40) for side in "AB"}, by)


@pytest.fixture
def forty(tmp_path: Path) -> Path:
    """A judge that agrees on 36 of 40 prompts, which is 0.9."""
    return make_run(tmp_path / "run", many("human:ann", 0), many("llm:owl", 4)).path


def test_a_judge_that_reaches_the_bar_passes(prefkit, forty):
    outcome = prefkit("validate-judge", forty, "--min-agreement", 0.9)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.endswith("good enough: at least 0.9\n")


def test_a_judge_below_the_bar_ends_with_code_1_and_says_what_was_measured(prefkit, forty):
    outcome = prefkit("validate-judge", forty, "--min-agreement", 0.91)
    assert outcome.code == 1
    assert re.search(
        r"llm:owl: direction 0\.900 \[0\.7\d\d, 0\.9\d\d\] \(n = 40\); expected at least 0\.91", outcome.err
    )
    assert "direction, no ties" in outcome.out, "the table is there all the same"


def test_the_lower_end_of_the_interval_may_be_the_bar(prefkit, forty):
    outcome = prefkit("validate-judge", forty, "--min-agreement", 0.85, "--lower-bound")
    assert outcome.code == 1
    assert "expected the lower end of the interval at least 0.85" in outcome.err
    assert prefkit("validate-judge", forty, "--min-agreement", 0.7, "--lower-bound").code == 0


def test_the_figure_of_the_bar_may_be_chosen(prefkit, forty):
    assert prefkit("validate-judge", forty, "--min-agreement", 0.85, "--figure", "correlation").code == 1
    assert prefkit("validate-judge", forty, "--min-agreement", 0.75, "--figure", "correlation").code == 0


def test_one_judge_of_two_below_the_bar_is_enough(prefkit, tmp_path):
    run = make_run(tmp_path / "run", many("human:ann", 0), many("llm:owl", 4), many("llm:wren", 30))
    outcome = prefkit("validate-judge", run.path, "--min-agreement", 0.8)
    assert outcome.code == 1
    assert "llm:wren" in outcome.err and "llm:owl" not in outcome.err


def test_a_judge_that_shares_nothing_with_people_does_not_pass(prefkit, tmp_path):
    run = make_run(tmp_path / "run", HUMAN, JUDGE, rated({"p9/A": 3}, "llm:wren"))
    outcome = prefkit("validate-judge", run.path, "--min-agreement", 0.1)
    assert outcome.code == 1 and "llm:wren: direction and accuracy not measured" in outcome.err


def test_a_judge_that_ties_everything_does_not_pass(prefkit, tmp_path):
    flat = rated({f"p{n}/{side}": 3 for n in range(40) for side in "AB"}, "llm:owl")
    outcome = prefkit(
        "validate-judge", make_run(tmp_path / "run", many("human:ann", 0), flat).path, "--min-agreement", 0
    )
    assert outcome.code == 1 and "llm:owl: direction not defined (n = 0)" in outcome.err


# Comparisons


def test_comparisons_in_both_orders(validated, tmp_path):
    """Right twice on prompt 1, first-shown on prompt 2, a tie and a right answer on prompt 3."""
    people = [*compared("p1/A", "p1/B", "a"), *compared("p2/A", "p2/B", "b"), *compared("p3/B", "p3/A", "a")]
    judge = [
        *both_orders("p1/A", "p1/B", "llm:owl"),
        *compared("p2/A", "p2/B", "a", "llm:owl"),
        *compared("p2/B", "p2/A", "a", "llm:owl"),
        *compared("p3/A", "p3/B", "tie", "llm:owl"),
        *compared("p3/B", "p3/A", "a", "llm:owl"),
    ]
    found = only(validated(make_run(tmp_path / "run", people, judge)))["comparisons"]
    figures = found["figures"]
    assert counted(figures["accuracy"]) == (pytest.approx(4 / 5), 5)
    assert counted(figures["accuracy_ties_half"]) == (pytest.approx(4.5 / 6), 6)
    assert counted(figures["both_orders"]) == (pytest.approx(1 / 3), 3)
    assert counted(figures["consistency"]) == (pytest.approx(1 / 3), 3)
    assert {order: counted(one["accuracy"]) for order, one in found["orders"].items()} == {
        "as_reference": (pytest.approx(2 / 3), 3),
        "swapped": (1, 2),
    }
    assert found["counts"]["questions that only the judge ties"] == 1


def test_principles_of_comparisons_have_figures_of_their_own(validated, tmp_path):
    people = [one for n in range(4) for one in compared(f"p{n}/A", f"p{n}/B", "a", warm="a", safe="b")]
    judge = [one for n in range(4) for one in compared(f"p{n}/A", f"p{n}/B", "a", "llm:owl", warm="b", safe="b")]
    run = make_run(tmp_path / "run", people, judge, rubric=TWO)
    principles = only(validated(run))["comparisons"]["principles"]
    assert {name: one["accuracy"]["value"] for name, one in principles.items()} == {"warm": 0, "safe": 1}


def test_the_best_of_several_counts_as_comparisons_with_each_other(validated, tmp_path):
    people = best_of(["p1/A", "p1/B", "p1/C"], 1)
    judge = [*compared("p1/A", "p1/B", "b", "llm:owl"), *compared("p1/B", "p1/C", "b", "llm:owl")]
    found = only(validated(make_run(tmp_path / "run", people, judge)))["comparisons"]
    assert counted(found["figures"]["accuracy"]) == (0.5, 2)


def test_ratings_stand_in_where_the_other_side_compared(validated, tmp_path):
    people = [*compared("p1/A", "p1/B", "a"), *compared("p2/B", "p2/A", "a"), *compared("p3/A", "p3/B", "b")]
    found = only(validated(make_run(tmp_path / "one", people, JUDGE)))
    assert found["ratings"] is None and found["comparisons"]["derived"] == "judge"
    assert counted(found["comparisons"]["figures"]["accuracy"]) == (pytest.approx(2 / 3), 3)
    judge = [*both_orders("p1/A", "p1/B", "llm:owl"), *both_orders("p2/A", "p2/B", "llm:owl")]
    found = only(validated(make_run(tmp_path / "two", HUMAN, judge)))
    assert found["comparisons"]["derived"] == "reference"
    assert counted(found["comparisons"]["figures"]["both_orders"]) == (0.5, 2)


def test_a_person_who_only_rated_and_one_who_only_compared_are_both_people(validated, tmp_path):
    people = [*compared("p1/A", "p1/B", "a", "human:bob"), *compared("p2/A", "p2/B", "a", "human:cyn")]
    judge = [*JUDGE, *both_orders("p1/A", "p1/B", "llm:owl")]
    report = validated(make_run(tmp_path / "run", HUMAN, people, judge))
    assert only(report)["ratings"]["figures"]["direction"]["n"] == 3
    assert counted(only(report)["comparisons"]["figures"]["both_orders"]) == (1, 1)
    assert report["ceiling"]["comparisons"] is None, "no pair was compared by two"


# The report


def test_the_same_command_writes_the_same_bytes_in_whatever_order_judgements_came(prefkit, tmp_path):
    judgements = [*HUMAN, *JUDGE, *both_orders("p1/A", "p1/B", "llm:owl"), *compared("p1/B", "p1/A", "a")]
    reports = []
    for name, records in (("one", judgements), ("two", judgements), ("three", judgements[::-1])):
        run = make_run(tmp_path / name / "run", records)
        assert prefkit("validate-judge", run.path, "--resamples", 200, "--json", tmp_path / f"{name}.json").code == 0
        reports.append((tmp_path / f"{name}.json").read_text().replace(str(run.path), ""))
    assert reports[0] == reports[1]
    assert json.loads(reports[2])["judges"] == json.loads(reports[0])["judges"]


def test_nothing_in_the_run_is_changed(validated, tmp_path):
    run = make_run(tmp_path / "run", HUMAN, JUDGE)
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    validated(run)
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_an_annotators_name_is_shown_as_it_is(prefkit, tmp_path):
    run = make_run(tmp_path / "run", HUMAN, rated({"p1/A": 5, "p1/B": 2}, "llm:[red]owl[/red]:x:"))
    assert "llm:[red]owl[/red]:x: against human:ann" in prefkit("validate-judge", run.path).out


def test_a_line_that_is_no_judgement_is_named(prefkit, tmp_path):
    run = make_run(tmp_path / "run", HUMAN, JUDGE)
    with open(run.path / "judgements.jsonl", "ab") as file:
        file.write(b'{"kind":"rating"}\n')
    outcome = prefkit("validate-judge", run.path)
    assert outcome.code == 1 and "judgements.jsonl:13" in outcome.err


def test_judgements_in_parquet_are_read_too(validated, tmp_path):
    import pyarrow
    from pyarrow import parquet

    run = make_run(tmp_path / "run", HUMAN, JUDGE)
    expected = only(validated(run))
    rows = [msgspec.to_builtins(one) for one in run.judgements()]
    assert run.file(Judgement) is not None
    (run.path / "judgements.jsonl").unlink()
    parquet.write_table(pyarrow.Table.from_pylist(rows), run.path / "judgements.parquet")
    assert only(validated(run)) == expected


# The page for users

BLOCK = re.compile(r"```(\w+)(?: (\S+))?\n(.*?)```", re.DOTALL)


def test_the_page_for_users_is_true(prefkit, tmp_path, monkeypatch):
    """Every file of docs/validating.md is written and every command run, in their order."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for language, name, content in BLOCK.findall(DOCS.read_text(encoding="utf-8")):
        if name:
            Path(name).write_text(content, encoding="utf-8")
        elif language == "console":
            assert played(prefkit, content) == content


def played(prefkit: Callable[..., Outcome], block: str) -> str:
    """A block of commands with what they print now; blanks at the ends of lines are not shown."""
    printed = ""
    for line in re.findall(r"^\$ (.*)$", block, re.MULTILINE):
        outcome = prefkit(*shlex.split(line)[1:])
        printed += f"$ {line}\n{outcome.out}{outcome.err}"
    return re.sub(r" +$", "", printed, flags=re.MULTILINE)


def test_the_page_names_every_figure(validated, tmp_path):
    judgements = [*HUMAN, *JUDGE, *both_orders("p1/A", "p1/B", "llm:owl"), *compared("p1/B", "p1/A", "a")]
    judge = only(validated(make_run(tmp_path / "run", judgements)))
    known = {name for part in ("ratings", "comparisons") for name in judge[part]["figures"]}
    known |= {name for part in judge["ratings"]["principles"].values() for name in part}
    assert set(re.findall(r"^\| `(\w+)`", DOCS.read_text(encoding="utf-8"), re.MULTILINE)) == known


# Published figures, where PREFKIT_DATA names the data


@pytest.fixture
def made(prefkit, real_data: Path, tmp_path: Path) -> Callable[..., Path]:
    """A run into which files of the real data were imported: (kind, file, options)."""

    def call(rubric: str, *imports: tuple[str, ...]) -> Path:
        run = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        assert prefkit("new", run, "--rubric", rubric).code == 0
        for kind, name, *options in imports:
            outcome = prefkit("import", kind, run, real_data / name, *options)
            assert outcome.code == 0, outcome.err
        return run

    return call


def test_mentalbenchs_judges_agree_with_people_as_often_as_measured_before(made, validated):
    folder, kept = "mentalbench-align", "--keep-out-of-range"
    run = made(
        "mentalbench",
        ("judgements", f"{folder}/Human_judge.xlsx", kept),
        ("judgements", f"{folder}/gpt-4o_llm_judge.xlsx", kept, "--set", "annotator=llm:gpt-4o"),
        ("judgements", f"{folder}/claude_llm_judge.xlsx", kept, "--set", "annotator=llm:claude"),
    )
    found = {}
    for judge in validated(run)["judges"]:
        figures = judge["ratings"]["figures"]
        for name in ("direction", "direction_at_gap"):
            assert figures[name]["low"] < figures[name]["value"] < figures[name]["high"]
            found[judge["judge"], name] = (round(100 * figures[name]["value"], 1), figures[name]["n"])
    assert found == {
        ("llm:gpt-4o", "direction"): (83.8, 25_824),
        ("llm:gpt-4o", "direction_at_gap"): (96.3, 10_556),
        ("llm:claude", "direction"): (78.3, 32_592),
        ("llm:claude", "direction_at_gap"): (92.7, 11_290),
    }


def test_two_passes_over_chatpsychiatrist_agree_as_measured_before(made, validated, real_data):
    answers = sorted((real_data / "chatpsychiatrist" / "model_answer").iterdir())
    run = made(
        "psychocounsel",
        ("prompts", "chatpsychiatrist/question.jsonl"),
        *(("responses", f"chatpsychiatrist/model_answer/{path.name}") for path in answers),
        ("judgements", "chatpsychiatrist/ratings.csv"),
        ("judgements", "chatpsychiatrist/ratings_second_pass.csv"),
    )
    judge = only(validated(run, "--against", "llm:first-pass"))
    figures, principles = judge["ratings"]["figures"], judge["ratings"]["principles"]
    assert round(100 * figures["direction"]["value"], 1) == 96.7
    assert (round(figures["correlation"]["value"], 3), figures["correlation"]["n"]) == (0.946, 300)
    assert figures["correlation"]["prompts"] == 60
    exact = [round(100 * figures["exact"]["value"]) for figures in principles.values()]
    assert (min(exact), max(exact)) == (73, 83)


@pytest.mark.parametrize("judge", ["GPT-4", "ChatGPT"])
@pytest.mark.parametrize("part", ["Natural", "Adversarial/GPTInst"])
def test_llmbars_published_statistics_are_met_to_the_last_digit(made, validated, real_data, part, judge):
    run = made(
        "helpful-harmless",
        ("judgements", f"llmbar/{part}/dataset.json"),
        ("judgements", f"llmbar/{part}/{judge}/result.json", "--set", f"annotator=llm:{judge}"),
    )
    found = only(validated(run))["comparisons"]
    published = json.loads((real_data / "llmbar" / part / judge / "statistics.json").read_text())
    there, back = (found["orders"][order]["accuracy"] for order in ("as_reference", "swapped"))
    figures = found["figures"]

    def printed(figure: dict[str, Any]) -> str:
        right = round(figure["value"] * figure["n"])
        return f"{right} / {figure['n']} = {right / figure['n'] * 100}%"

    both_ways = (round(there["value"] * there["n"]) + round(back["value"] * back["n"])) / 2
    assert {
        "correct_False": printed(there),
        "correct_True": printed(back),
        "correct_average": f"{both_ways / there['n'] * 100}%",
        "correct_both": printed(figures["both_orders"]),
        "equal": printed(figures["consistency"]),
    } == {name: text for name, text in published.items() if "kappa" not in name}
    assert figures["accuracy"]["value"] == pytest.approx(float(published["correct_average"].rstrip("%")) / 100)
    # Their kappa between orders is Cohen's. Theirs against the labels compares answers that were meant to be 0 or 1
    # with labels that are 1 or 2: the answer "2" becomes 0, and never agrees. Ours is beside it, from the same counts.
    assert figures["kappa_orders"]["value"] == pytest.approx(published["kappa_agreement"], abs=1e-12)
    theirs = []
    for order, name in (("as_reference", "kappa_False"), ("swapped", "kappa_True")):
        table = found["tables"][order]
        cells = [(row, column) for row in (0, 2) for column in (0, 2) for _ in range(table[row][column])]
        labels, answers = [1 + column // 2 for _, column in cells], [1 - row // 2 for row, _ in cells]
        theirs.append(cohen_kappa_score(answers, labels))
        assert theirs[-1] == pytest.approx(published[name], abs=1e-12)
        ours = cohen_kappa_score([row for row, _ in cells], [column for _, column in cells])
        assert found["orders"][order]["kappa"]["value"] == pytest.approx(ours)
    assert sum(theirs) / 2 == pytest.approx(published["kappa_average"], abs=1e-12)


def test_pandalms_people_agree_with_each_other_as_published(made, validated):
    run = made("ultrafeedback", ("judgements", "pandalm/testset-v1.json"))
    kappas = []
    for one, other in ((1, 2), (1, 3), (2, 3)):
        report = validated(run, "--judge", f"human:pandalm-{one}", "--against", f"human:pandalm-{other}")
        kappas.append(only(report)["comparisons"]["figures"]["kappa"])
    assert [round(kappa["value"], 3) for kappa in kappas] == [0.852, 0.879, 0.862]
    assert {kappa["n"] for kappa in kappas} == {999}
