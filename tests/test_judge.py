"""``prefkit judge`` through the command line, against a server that answers over HTTP what the schema asks for."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from making import make_run
from pyarrow import parquet

from benchmarks.chat_server import Served, running
from prefkit.records import Choice, Comparison, Judgement, Rating
from prefkit.rubric_files import load_rubric
from prefkit.run import Run

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the server stops on SIGTERM")

TEXTS = {f"p{prompt}/{policy}": f"{policy * 40} to {prompt}" for prompt in range(5) for policy in "ABC"}


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
    write_models(made, server.url)
    return made


def write_models(run: Run, url: str, more: str = "") -> None:
    (run.path / "models.yaml").write_text(f"models:\n  fake: {{model: fake, urls: ['{url}']{more}}}\n")


@pytest.fixture
def judge(prefkit: Callable[..., Any], run: Run) -> Callable[..., Any]:
    return lambda *options: prefkit("judge", run.path, "--judge", "fake", *options)


def judgements(run: Run) -> list[Judgement]:
    return list(run.judgements())


def test_every_response_gets_a_rating_with_a_score_for_each_principle(judge, run, server):
    outcome = judge()
    assert outcome.code == 0, outcome.err
    ratings = judgements(run)
    assert sorted(rating.response_id for rating in ratings) == sorted(TEXTS)
    assert {(rating.annotator, rating.rubric, rating.failure) for rating in ratings} == {
        ("llm:fake", run.rubric.hash, None)
    }
    for rating in ratings:
        assert rating.scores == json.loads(rating.reply)
        assert tuple(rating.scores) == run.rubric.principle_ids
        assert rating.usage.prompt > 0 and rating.usage.calls == 1
    assert server.counts()["requests"] == 15


def test_asking_again_asks_nothing(judge, run, server):
    judge()
    before = (run.path / "judgements.jsonl").read_bytes()
    outcome = judge()
    assert outcome.code == 0
    assert "0 new judgements, 15 from before" in outcome.out
    assert (run.path / "judgements.jsonl").read_bytes() == before
    assert server.counts()["requests"] == 15


def test_new_responses_are_asked_about_and_no_others(judge, run, server):
    judge("--policy", "A")
    judge()
    assert len(judgements(run)) == server.counts()["requests"] == 15


def test_a_comparison_is_asked_in_both_orders(judge, run):
    assert judge("--mode", "compare").code == 0
    asked = Counter((one.a, one.b) for one in judgements(run) if isinstance(one, Comparison))
    assert set(asked.values()) == {1}
    assert len(asked) == 5 * 3 * 2
    assert all((b, a) in asked for a, b in asked)
    assert all(set(one.principles) == set(run.rubric.principle_ids) for one in judgements(run))


def test_a_baseline_is_compared_with_every_other_policy(judge, run):
    judge("--mode", "compare", "--baseline", "B", "--overall-only")
    asked = {(one.a, one.b) for one in judgements(run)}
    assert asked == {(f"p{n}/{a}", f"p{n}/{b}") for n in range(5) for a, b in ("AB", "BA", "CB", "BC")}
    assert all(one.principles == {} and one.winner is not None for one in judgements(run))


def test_pairs_are_drawn_at_random_and_the_same_ones_each_time(judge, run, server):
    judge("--mode", "compare", "--pairs-per-prompt", "1")
    drawn = {frozenset((one.a, one.b)) for one in judgements(run)}
    assert len(drawn) == 5 and len(judgements(run)) == 10
    assert len({frozenset(name[-1] for name in pair) for pair in drawn}) > 1
    assert "0 new" in judge("--mode", "compare", "--pairs-per-prompt", "1").out


def test_a_choice_is_shown_in_an_order_drawn_for_each_prompt(judge, run):
    assert judge("--mode", "choose").code == 0
    choices = [one for one in judgements(run) if isinstance(one, Choice)]
    orders = {"".join(name[-1] for name in one.responses) for one in choices}
    assert len(choices) == 5 and len(orders) > 1
    assert all(sorted(order) == list("ABC") for order in orders)
    assert all(one.best in (0, 1, 2) for one in choices)


def test_one_question_a_principle_makes_ratings_that_pairs_are_built_from(prefkit, judge, run):
    assert judge("--per-principle").code == 0
    asked = [tuple(one.scores) for one in judgements(run) if isinstance(one, Rating)]
    assert Counter(asked) == {(name,): 15 for name in run.rubric.principle_ids}
    built = prefkit("build-pairs", run.path, "--min-gap", "0.1", "--test-size", "0")
    assert built.code == 0 and "incomplete" not in built.out


def test_an_edited_principle_is_asked_again_and_the_others_are_not(prefkit, judge, run, tmp_path, server):
    judge("--per-principle")
    text = (Path(__file__).parent.parent / "principles" / "psychocounsel.yaml").read_text()
    edited = tmp_path / "edited.yaml"
    edited.write_text(text.replace("Off topic, or about another problem.", "Off topic."))
    assert prefkit("rubric", "use", run.path, edited).code == 0
    outcome = judge("--per-principle")
    assert "15 new judgements, 90 from before" in outcome.out


def test_samples_are_records_of_their_own(judge, run):
    judge("--samples", "3")
    seen = Counter((one.response_id, one.sample) for one in judgements(run))
    assert seen == {(name, sample): 1 for name in TEXTS for sample in range(3)}


def test_expected_scores_lie_between_the_scores_of_the_scale(judge, run):
    assert judge("--expected").code == 0
    scores = [score for one in judgements(run) for score in one.scores.values()]
    assert all(1 <= score <= 5 for score in scores)
    assert any(score != int(score) for score in scores)


def test_excluded_prompts_and_responses_without_a_text_are_passed_over(prefkit, tmp_path, server):
    texts = {**TEXTS, "p1/A": None, "p2/A": "  "}
    run = make_run(tmp_path / "other", rubric=load_rubric("psychocounsel"), texts=texts, excluded={"p0": "too short"})
    write_models(run, server.url)
    outcome = prefkit("judge", run.path, "--judge", "fake")
    assert outcome.code == 0
    assert "passed over: 2 responses without a text" in outcome.out
    assert {one.response_id for one in judgements(run)} == set(TEXTS) - {"p0/A", "p0/B", "p0/C", "p1/A", "p2/A"}


def test_responses_in_parquet_are_judged_and_nothing_is_left_behind(judge, run):
    rows = [msgspec.to_builtins(response) for response in run.responses()]
    parquet.write_table(pa.Table.from_pylist(rows), run.path / "responses.parquet")
    (run.path / "responses.jsonl").unlink()
    outcome = judge()
    assert outcome.code == 0, outcome.err
    assert sorted(one.response_id for one in judgements(run)) == sorted(TEXTS)
    assert not [file.name for file in run.path.iterdir() if file.name.startswith("responses-")]


# Replies that cannot be read


def test_an_unreadable_reply_gets_one_question_to_repair_it(judge, run, server):
    server.fail(shares={"prose": 1.0}, attempts=1)
    assert judge().code == 0
    assert {one.failure for one in judgements(run)} == {None}
    assert {one.usage.calls for one in judgements(run)} == {2}
    assert server.counts()["requests"] == 30


@pytest.mark.parametrize("fault", ["prose", "out-of-range", "empty"])
def test_what_stays_unreadable_is_kept_with_its_words_and_no_score(prefkit, judge, run, server, fault):
    server.fail(shares={fault: 1.0})
    assert judge().code == 0
    for one in judgements(run):
        assert one.failure and one.reply is not None
        assert set(one.scores.values()) == {None}
    assert server.counts()["requests"] == 30
    server.fail()
    assert "0 new judgements, 15 from before" in judge().out
    assert "15 unreadable" in prefkit("status", run.path).out


# What may be spent


def test_the_number_of_calls_is_never_passed_and_the_rest_is_asked_later(judge, run, server):
    outcome = judge("--max-calls", "7")
    assert outcome.code == 1
    assert "8 of 15 have no answer" in outcome.err and "budget" in outcome.err
    assert server.counts()["requests"] == len(judgements(run)) == 7
    assert judge("--max-calls", "7").code == 1
    assert server.counts()["requests"] == 7
    assert judge().code == 0
    assert server.counts()["requests"] == len(judgements(run)) == 15


@pytest.mark.parametrize("bound", [12_000, 24_000])
def test_tokens_are_reserved_before_they_are_spent(judge, run, server, bound):
    judge("--max-tokens", bound, "--reply-tokens", "100")
    spent = sum(one.usage.prompt + one.usage.completion for one in judgements(run))
    assert spent <= bound
    mean = spent / max(1, len(judgements(run)))
    assert spent > bound - 6 * mean, "what is left is less than one call at its most"


def test_money_is_reserved_before_it_is_spent(judge, run, server):
    write_models(run, server.url, ", price: {prompt: 1000000, completion: 0}")
    judge("--max-cost", "30000", "--reply-tokens", "100")
    cost = sum(one.usage.cost for one in judgements(run))
    assert 0 < cost <= 30_000
    assert cost == sum(one.usage.prompt for one in judgements(run))


def test_a_bound_on_money_needs_a_price(judge, run, server):
    outcome = judge("--max-cost", "1")
    assert outcome.code == 1
    assert "no price for fake" in outcome.err and "models.yaml" in outcome.err
    assert server.counts()["requests"] == 0


def test_an_estimate_sends_nothing_and_holds_what_it_then_takes(judge, run, server):
    write_models(run, server.url, ", price: {prompt: 2, completion: 8}")
    outcome = judge("--estimate")
    assert outcome.code == 0
    assert outcome.out.startswith("fake: 15 calls, ") and "cost" in outcome.out
    assert server.counts()["requests"] == 0
    assert judgements(run) == []


def test_after_some_answers_an_estimate_counts_the_rest(judge):
    judge("--policy", "A")
    assert "fake: 10 calls (5 answered before)" in judge("--estimate").out


# What is refused


def test_texts_that_were_not_scrubbed_do_not_leave_the_house(judge, run):
    write_models(run, "https://judge.example.com/v1")
    outcome = judge()
    assert outcome.code == 1
    assert "20 texts that were not scrubbed" in outcome.err and "prefkit scrub" in outcome.err
    assert "Traceback" not in outcome.err
    assert judgements(run) == []


def test_a_policy_that_is_not_there_is_named_beside_those_that_are(judge, run, server):
    outcome = judge("--mode", "compare", "--baseline", "D")
    assert outcome.code == 1
    assert "no responses of the policy D" in outcome.err and "A, B, C" in outcome.err
    assert server.counts()["requests"] == 0


def test_an_endpoint_that_is_not_there_ends_with_the_reason(judge, run):
    write_models(run, "http://127.0.0.1:9/v1")
    outcome = judge("--patience", "0.5", "--max-retries", "2")
    assert outcome.code == 1
    assert "cannot connect to 127.0.0.1:9" in outcome.err and "15 of 15 have no answer" in outcome.err
    assert judgements(run) == []


@pytest.mark.parametrize(
    "options",
    [
        ("--mode", "compare", "--per-principle"),
        ("--baseline", "A"),
        ("--mode", "choose", "--expected"),
        ("--mode", "choose", "--overall-only"),
    ],
)
def test_options_that_do_not_go_together_are_usage_errors(judge, options):
    assert judge(*options).code == 2


def test_several_judges_are_asked_at_once_and_told_apart(prefkit, run, server):
    entries = "".join(f"  {name}: {{model: {name}, urls: ['{server.url}']}}\n" for name in ("one", "two"))
    (run.path / "models.yaml").write_text("models:\n" + entries)
    assert prefkit("judge", run.path, "--judge", "one", "--judge", "two").code == 0
    assert Counter(one.annotator for one in judgements(run)) == {"llm:one": 15, "llm:two": 15}
    assert len({one.id for one in judgements(run)}) == 30


def test_run_json_keeps_how_it_was_asked_and_no_key(judge, run, server, monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-very-secret")
    write_models(run, server.url, ", key-env: MY_KEY")
    judge()
    stage = json.loads((run.path / "run.json").read_bytes())["stages"]["judge rate: fake"]
    assert stage["settings"]["mode"] == "rate" and stage["model"]["endpoints"] == [server.url]
    assert all(b"sk-very-secret" not in file.read_bytes() for file in run.path.rglob("*") if file.is_file())


# Afterwards


def test_replies_are_read_again_without_asking(prefkit, judge, run, server):
    server.fail(shares={"prose": 1.0})
    judge()
    file = run.path / "judgements.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines[:4]:
        line["reply"] = "Scores:\n" + "\n".join(f"{name}: 4/5" for name in run.rubric.principle_ids)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    asked = server.counts()["requests"]
    dry = prefkit("reparse", run.path, "--dry-run")
    assert dry.out == "replies: 11 as before, 4 readable now (dry run)\n"
    assert sum(one.failure is None for one in judgements(run)) == 0
    assert prefkit("reparse", run.path).code == 0
    read = [one for one in judgements(run) if one.failure is None]
    assert [set(one.scores.values()) for one in read] == [{4}] * 4
    assert server.counts()["requests"] == asked


@pytest.mark.parametrize("options", [(), ("--mode", "compare"), ("--mode", "choose"), ("--per-principle",)])
def test_reading_again_with_the_same_parser_changes_nothing(prefkit, judge, run, options):
    judge(*options)
    before = (run.path / "judgements.jsonl").read_bytes()
    assert prefkit("reparse", run.path).out.endswith("as before\n")
    assert (run.path / "judgements.jsonl").read_bytes() == before


def test_expected_scores_and_imported_judgements_are_not_read_again(prefkit, judge, run):
    judge("--expected")
    before = (run.path / "judgements.jsonl").read_bytes()
    assert prefkit("reparse", run.path).out == "replies: 15 passed over\n"
    assert (run.path / "judgements.jsonl").read_bytes() == before


def test_spending_is_broken_down_by_judge_and_principle(prefkit, judge, run, server):
    write_models(run, server.url, ", price: {prompt: 2, completion: 8}")
    judge("--per-principle")
    judge("--mode", "compare")
    rows = json.loads(prefkit("spending", run.path, "--json").out)
    assert [row["asked"] for row in rows[:-1]] == [f"ratings on {name}" for name in run.rubric.principle_ids]
    assert rows[-1]["asked"] == "comparisons" and rows[-1]["answers"] == rows[-1]["calls"] == 30
    for row in rows:
        assert row["cost"] == pytest.approx((2 * row["prompt_tokens"] + 8 * row["reply_tokens"]) / 1e6)
    assert sum(row["cost"] for row in rows) == pytest.approx(sum(one.usage.cost for one in judgements(run)))
    assert "ratings on empathy" in prefkit("spending", run.path).out


def test_what_leaves_the_house_goes_through_the_proxy_and_what_stays_does_not(judge, run, server, monkeypatch):
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/v1"))
    write_models(run, "http://judge.example/v1")
    said = judge("--allow-unscrubbed", "--max-retries", 0).err
    assert "HTTP 404: Unknown request: POST http://judge.example/v1/chat/completions" in said, "as a proxy is asked"
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    write_models(run, server.url)
    assert judge("--mode", "compare").code == 0


def test_no_proxy_is_heeded(judge, run, server, monkeypatch):
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/v1"))
    monkeypatch.setenv("no_proxy", "judge.invalid")
    write_models(run, "http://judge.invalid/v1")
    assert "cannot connect to judge.invalid" in judge("--allow-unscrubbed", "--max-retries", 0).err
