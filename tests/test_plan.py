"""``prefkit plan``: what it says before anything is asked, against what a server then counted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from making import build, make_run, rated

from benchmarks.chat_server import Served, running
from benchmarks.scale_parts.plan import all_of
from prefkit.planning.asked import line_at
from prefkit.planning.ranges import Range, resampled
from prefkit.records import Message, Prompt
from prefkit.rubric_files import load_rubric
from prefkit.run import Run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the server stops on SIGTERM")

PROMPTS = 12
TEXTS = {f"p{n}/{policy}": f"{policy * (20 + 17 * n)} to {n}" for n in range(PROMPTS) for policy in "ABC"}
SAMPLE = 6


@pytest.fixture(scope="module")
def one_server() -> Iterator[Served]:
    with running() as server:
        yield server


@pytest.fixture
def server(one_server: Served) -> Served:
    one_server.reset()
    one_server.fail()
    return one_server


@pytest.fixture
def run(tmp_path: Path, server: Served) -> Run:
    made = make_run(tmp_path / "run", rubric=load_rubric("psychocounsel"), texts=TEXTS)
    entry = f"{{model: fake, urls: ['{server.url}'], price: {{prompt: 2, completion: 8}}}}"
    (made.path / "models.yaml").write_text(f"models:\n  fake: {entry}\n  other: {entry}\n")
    return made


@pytest.fixture
def ask(prefkit: Callable[..., Any], run: Run) -> Callable[..., None]:
    def call(command: str, *options: object) -> None:
        outcome = prefkit(command, run.path, *options)
        assert outcome.code == 0, outcome.err

    return call


@pytest.fixture
def planned(prefkit: Callable[..., Any], run: Run) -> Callable[..., dict[str, Any]]:
    def call(*options: object) -> dict[str, Any]:
        outcome = prefkit("plan", run.path, *options, "--json")
        assert outcome.code == 0, outcome.err
        found: dict[str, Any] = json.loads(outcome.out)
        return found

    return call


def line(found: dict[str, Any], stage: str) -> dict[str, Any]:
    (one,) = [line for line in found["lines"] if line["stage"] == stage]
    return one  # type: ignore[no-any-return]


def beside(prefkit: Callable[..., Any], run: Run) -> dict[tuple[str, str], dict[str, Any]]:
    outcome = prefkit("plan", run.path, "--compare", "--json")
    assert outcome.code == 0, outcome.err
    return {(row["what"], row["figure"]): row for row in json.loads(outcome.out)}


@pytest.mark.parametrize(
    ("stage", "options"),
    [
        ("judge rate", ()),
        ("judge rate by principle", ("--per-principle", "--samples", 2)),
        ("judge compare", ("--mode", "compare", "--reason")),
        ("judge compare", ("--mode", "compare", "--baseline", "B", "--overall-only")),
        ("judge choose", ("--mode", "choose")),
    ],
)
def test_after_a_sample_calls_are_known_exactly_and_tokens_nearly(stage, options, ask, planned, prefkit, run, server):
    judge = ("judge", "--judge", "fake", *options)
    ask(*judge, "--prompts", SAMPLE)
    before = server.counts()["requests"]
    found = line(planned("--save"), stage)
    assert server.counts()["requests"] == before == found["before"]
    ask(*judge)
    assert round(found["calls"]["value"]) == server.counts()["requests"] - before
    rows = beside(prefkit, run)
    name = f"{stage.removesuffix(' by principle')}: fake"
    for figure in ("calls", "prompt tokens", "reply tokens", "cost"):
        assert abs(rows[name, figure]["off"]) < 0.05, figure
    assert rows[name, "calls"]["within"]
    assert abs(rows["judgements.jsonl", "bytes"]["off"]) < 0.02


def test_judges_are_planned_for_the_answers_that_are_still_to_come(ask, planned, prefkit, run, server):
    generate, judge = ("generate", "--policy", "fake", "--policy", "other"), ("judge", "--judge", "fake")
    for command in (generate, judge):
        ask(*command, "--prompts", SAMPLE)
    found, sent = planned("--save"), server.counts()["requests"]
    assert line(found, "judge rate")["calls"]["low"] == 3 * (PROMPTS - SAMPLE) + 2 * (PROMPTS - SAMPLE)
    for command in (generate, judge):
        ask(*command)
    calls = sum(one["calls"]["value"] for one in found["lines"] if one["stage"] in ("generate", "judge rate"))
    assert calls == server.counts()["requests"] - sent
    rows = beside(prefkit, run)
    assert all(abs(row["off"]) < 0.05 for row in rows.values()), rows
    assert not list(run.path.glob("*plan-*"))


def test_more_prompts_than_the_run_has_are_asked_like_them(ask, planned):
    ask("judge", "--judge", "fake", "--mode", "compare")
    found = planned("--prompts", 10_000)
    compare = line(found, "judge compare")
    assert compare["calls"]["low"] == 6 * (10_000 - PROMPTS) and compare["before"] == 6 * PROMPTS
    assert compare["prompt"]["low"] < compare["prompt"]["value"] < compare["prompt"]["high"]
    disk = {one["name"]: one for one in found["disk"]}
    assert [disk[name]["records"]["value"] for name in ("prompts", "responses", "judgements")] == [1e4, 3e4, 6e4]
    assert disk["judgements"]["parquet"]["value"] < disk["judgements"]["jsonl"]["value"]


def test_fewer_prompts_are_the_first_ones(planned):
    assert line(planned("--judge", "fake", "--prompts", 4), "judge rate")["calls"]["low"] == 12


def test_without_a_sample_only_the_ends_are_named(planned, server):
    found = line(planned("--judge", "fake"), "judge rate")
    assert (found["calls"]["low"], found["calls"]["high"], found["calls"]["value"]) == (36, 72, None)
    assert found["prompt"]["value"] is None and 1.3 < found["prompt"]["high"] / found["prompt"]["low"] < 1.4
    assert found["reply"]["high"] == 36 * 1024
    assert "3 to 4 bytes a token" in found["source"]
    assert server.counts()["requests"] == 0


def test_a_tokenizer_counts_what_no_answer_tells(planned, monkeypatch):
    """A token for four bytes, and ten around each message."""
    monkeypatch.setattr(
        "prefkit.planning.plan.tokenizer_of",
        lambda name: lambda messages: sum(10 + len(one.content.encode()) / 4 for one in messages),
    )
    found = line(planned("--judge", "fake", "--tokenizer", "some"), "judge rate")
    assert "counted by some" in found["source"]
    least = line(planned("--judge", "fake"), "judge rate")["prompt"]["low"]
    assert found["prompt"]["value"] == pytest.approx(least + 36 * 2 * 10)


def test_a_judge_whose_replies_are_often_unreadable_has_more_calls_in_its_range(ask, planned, prefkit, run, server):
    server.fail(shares={"prose": 0.5}, attempts=1)
    ask("judge", "--judge", "fake", "--prompts", SAMPLE)
    found = line(planned("--save"), "judge rate")
    assert found["calls"]["low"] == 18 < found["calls"]["value"] < found["calls"]["high"]
    ask("judge", "--judge", "fake")
    assert beside(prefkit, run)["judge rate: fake", "calls"]["within"]


def test_gpu_hours_are_tokens_over_the_table_and_cost_is_tokens_times_the_price(ask, planned, run):
    ask("judge", "--judge", "fake", "--prompts", SAMPLE)
    table = run.path / "throughput.yaml"
    table.write_text("fake: {total: [1000, 4000], gpus: 2}\nscore: {total: 500}\n")
    found = planned()
    rate = line(found, "judge rate")
    tokens = {end: rate["prompt"][end] + rate["reply"][end] for end in ("low", "value", "high")}
    assert rate["gpu_hours"]["low"] == pytest.approx(tokens["low"] / 4000 * 2 / 3600)
    assert rate["gpu_hours"]["high"] == pytest.approx(tokens["high"] / 1000 * 2 / 3600)
    assert rate["gpu_hours"]["value"] == pytest.approx(tokens["value"] / 2000 * 2 / 3600)
    assert rate["cost"]["value"] == pytest.approx(
        (2 * rate["prompt"]["value"] + 8 * rate["reply"]["value"]) / 1e6, 1e-3
    )
    assert line(found, "score")["gpu_hours"] is not None and line(found, "train-rm")["gpu_hours"] is None
    assert line(planned("--batch"), "judge rate")["cost"]["value"] == pytest.approx(rate["cost"]["value"] / 2)
    table.write_text("judge: {prompt: 2000, reply: 100}\n")
    apart = line(planned(), "judge rate")
    hours = apart["prompt"]["value"] / 2000 / 3600 + apart["reply"]["value"] / 100 / 3600
    assert apart["gpu_hours"]["value"] == pytest.approx(hours)


def test_what_is_not_known_is_a_dash(prefkit, planned, run):
    (run.path / "models.yaml").write_text("models:\n  fake: {model: fake, urls: ['http://127.0.0.1:9']}\n")
    printed = prefkit("plan", run.path, "--judge", "fake").out
    (row,) = [
        row
        for row in printed.splitlines()
        if row.startswith("judge rate: fake ") and " to " in row and "bytes" not in row
    ]
    assert row.split()[-2:] == ["-", "-"]
    assert printed.endswith("Nothing was sent.\n") and "in all" not in printed


def test_rounds_are_added_up_in_the_table(prefkit, ask, run):
    for judge in ("fake", "other"):
        ask("judge", "--judge", judge, "--prompts", SAMPLE)
    (row,) = [row for row in prefkit("plan", run.path).out.splitlines() if row.startswith("in all")]
    assert row.split()[:2] == ["in", "all"] and row.split()[2] == "36"


def test_training_is_planned_from_the_pairs_that_were_built(planned, tmp_path, run):
    assert line(planned("--judge", "fake"), "train-rm")["calls"] is None
    scores = {name: dict.fromkeys(run.rubric.principle_ids, 5 if name[-1] == "A" else 2) for name in TEXTS}
    made = make_run(tmp_path / "rated", rated(scores), rubric=run.rubric, texts=TEXTS)
    (made.path / "models.yaml").write_text((run.path / "models.yaml").read_text())
    report = build(made)
    from prefkit.planning.plan import PlanSettings, plan
    from prefkit.planning.rounds import Wanted

    found = plan(made, PlanSettings(wanted=Wanted(judges=("fake",)), prompts=PROMPTS * 100, preset="cpu"))
    train = next(one for one in found.lines if one.stage == "train-rm")
    assert train.calls == Range.exact(round(report.kept["train"] * 100 / 32))
    assert f"{report.kept['train'] * 100:,} pairs" in train.source
    pairs = next(one for one in found.disk if one.name == "pairs")
    assert pairs.records == Range.exact(report.kept["train"] * 100) and pairs.jsonl is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "found no model that was asked anything"),
        (("--compare",), "found no plan.json"),
        (("--mode", "compare"), "found no judge that was asked to compare"),
        (("--judge", "nobody"), "found no model of this name"),
        (("--policy", "fake", "--assign", 2), "--assign: found 2; expected as many policies"),
    ],
)
def test_what_cannot_be_planned_says_what_to_do(options, words, prefkit, run):
    outcome = prefkit("plan", run.path, *options)
    assert outcome.code == 1 and words in outcome.err and "Traceback" not in outcome.err


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("fake: {total: 0}", "throughput.yaml:1: fake.total: found 0; expected a number above 0"),
        ("fake: {total: [1, 2, 3]}", "found 3 numbers"),
        ("other: {total: 1}\nfake: {prompt: 5}", "throughput.yaml:2: fake: found prompt; expected total, or prompt"),
        ("fake: {total: 5, speed: 3}", "fake.speed: found a key that has no meaning here"),
        ("- 5", "found no mapping"),
        ("fake: [", "broken YAML"),
    ],
)
def test_a_broken_table_is_told_with_its_line(table, words, prefkit, run):
    (run.path / "throughput.yaml").write_text(table)
    outcome = prefkit("plan", run.path, "--judge", "fake")
    assert outcome.code == 1 and words in outcome.err


def test_policies_without_any_answer_are_planned_from_their_bound_and_judges_are_not(tmp_path, prefkit, server):
    run = Run.create(tmp_path / "new", load_rubric("psychocounsel"))
    run.replace(Prompt, [Prompt(id=f"p{n}", messages=(Message(role="user", content=f"{n} nights"),)) for n in range(3)])
    (run.path / "models.yaml").write_text(f"models:\n  fake: {{model: fake, urls: ['{server.url}']}}\n")
    outcome = prefkit("plan", run.path, "--policy", "fake", "--answer-tokens", 90, "--judge", "fake", "--json")
    found = json.loads(outcome.out)
    assert [one["stage"] for one in found["lines"]] == ["generate"]
    assert found["lines"][0]["reply"] == {"low": 90, "high": 270, "value": None}
    assert found["notes"] and "First generate a few" in found["notes"][0]


def test_a_line_is_found_that_tokens_follow_and_a_ratio_where_all_are_alike():
    """30 tokens a question and one for four bytes: sizes 100, 200, 400 give 55, 80, 130."""
    sizes = np.array([100.0, 200.0, 400.0])
    tokens = 30 + sizes / 4
    sums = np.array([tokens.sum(), 3, sizes.sum(), (sizes**2).sum(), (sizes * tokens).sum()])
    assert line_at(sums, 10, 5000.0) == pytest.approx(10 * 30 + 5000 / 4)
    alike = np.array([3 * 55.0, 3, 300, 3 * 100.0**2, 3 * 55.0 * 100])
    assert line_at(alike, 10, 1000.0) == pytest.approx(550)


def test_ranges_hold_what_prompts_to_come_take():
    """Of 200 samples of 20 prompts beside 20 others, whose sum varies as much as that of the sample."""
    rng = np.random.default_rng(5)
    held = 0
    for _ in range(200):
        drawn = rng.gamma(4.0, 50.0, 40)
        values = np.column_stack([drawn[:20], np.ones(20)])
        found = resampled(values, lambda totals: totals[..., 0] / totals[..., 1] * 20, measured=20, expected=20)
        held += found.low <= drawn[20:].sum() <= found.high
    assert 0.92 <= held / 200 <= 0.99


def test_the_range_of_a_product_is_that_of_both_doubts_together():
    product = Range(90, 110, 100).times(Range(0.8, 1.2, 1.0))
    assert product.value == 100
    assert product.high == pytest.approx(100 * (1 + np.hypot(0.1, 0.2)))
    assert Range(1, 2).times(Range.exact(3.0)) == Range(3, 6)


@pytest.mark.parametrize(("used", "ok"), [(1000, True), (1150, False)])
def test_the_proof_fails_where_tokens_are_a_tenth_off(used: float, ok: bool):
    rows = [
        {"figure": "reply tokens", "planned": {"value": 400.0}, "used": used / 2},
        {"figure": "reply tokens", "planned": {"value": 600.0}, "used": used / 2},
        {"figure": "prompt tokens", "planned": {"value": 9.0}, "used": 1.0},
    ]
    assert all_of(rows, "whole", "reply tokens").ok is ok
