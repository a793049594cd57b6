"""Asking and scoring on a real cluster of Ray on this machine, and what its workers share."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.chat_server import Served, running
from prefkit.cluster import asking
from prefkit.cluster.asking import generate_on_cluster, judge_on_cluster
from prefkit.cluster.by_prompt import numbered, ordered_by_prompt
from prefkit.cluster.cluster import Cluster, joined
from prefkit.cluster.ledger import EVERYTHING, LOST, Allowance, Amount, Ledger
from prefkit.errors import PrefkitError
from prefkit.generating.settings import GenerateSettings
from prefkit.generating.stage import GenerateQuestions
from prefkit.judging.settings import JudgeSettings
from prefkit.judging.stage import JudgeQuestions
from prefkit.models.asking import AskSettings, ask_run
from prefkit.models.budget import Budget
from prefkit.models.engine import Tally
from prefkit.parts import Parts, set_generations
from prefkit.records import Message, Prompt, Response
from prefkit.run import Run
from prefkit.store import Store
from tests.making import ONE

pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")  # of its own settings, as it reads them
PROMPTS, POLICIES = 40, "ABC"


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Two processors of this machine; the one that other tests of this process have made, if they did."""
    with joined(None, 2) as found:
        yield found


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with running(latency=0.01) as found:
        yield found


@pytest.fixture
def records() -> tuple[list[Prompt], list[Response]]:
    """Prompts of which some are excluded, and responses to them in no order."""
    prompts = [
        Prompt(
            id=f"p{number}",
            messages=(Message(role="user", content=f"speech {number}"),),
            excluded="risk" if number % 7 == 3 else None,
            scrubbed=True,
        )
        for number in range(PROMPTS)
    ]
    responses = [
        Response(id=f"{prompt.id}/{policy}", prompt_id=prompt.id, policy=policy, text=f"{policy} to {prompt.id}")
        for prompt in prompts
        for policy in POLICIES
    ]
    random.Random(1).shuffle(responses)
    return prompts, responses


@pytest.fixture
def both(tmp_path: Path, records: Any, server: Served) -> tuple[Run, Run, Store]:
    """The same run with its records in JSONL, and in parts."""
    server.reset()
    server.fail()
    runs = [Run.create(tmp_path / name, ONE) for name in ("local", "ray")]
    store = Store(str(tmp_path / "ray"))
    set_generations(store, {})
    for kind, record, some in zip(("prompts", "responses"), (Prompt, Response), records, strict=True):
        runs[0].replace(record, some)
        Parts(store, kind).write_all(some[:25])
        Parts(store, kind).write_all(some[25:], 1)
    for run in runs:
        names = {name: {"model": "fake", "urls": [server.url]} for name in ("fake", "other", "third")}
        (run.path / "models.yaml").write_text(f'{{"models": {names}}}'.replace("'", '"'))
    return runs[0], runs[1], store


def judged_locally(run: Run, settings: JudgeSettings) -> set[str]:
    """The ids of the judgements that the local engine makes."""
    ask_run(run, JudgeQuestions(run, settings), AskSettings(models=("fake",)), lambda tally, total: None)
    return {one.id for one in run.judgements()}


def small_blocks(monkeypatch: pytest.MonkeyPatch, questions: int) -> None:
    """Let a block have so many questions, and a bucket and what is read for it a few records."""
    monkeypatch.setattr(asking, "QUESTIONS", questions)
    monkeypatch.setattr(asking, "ROUNDS", 0)
    monkeypatch.setattr("prefkit.cluster.by_prompt.PART_ROWS", 40)
    monkeypatch.setattr("prefkit.cluster.by_prompt.READ_AT_ONCE", 30)


def test_a_judge_on_a_cluster_is_asked_what_the_local_engine_asks_and_nothing_twice(
    both: Any, cluster: Cluster, server: Served, prefkit: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    small_blocks(monkeypatch, 20)
    monkeypatch.setenv("PREFKIT_CACHE", str(tmp_path / "cache"))
    local, run, store = both
    settings = JudgeSettings(mode="compare", pairs_per_prompt=2, seed=5, prompts=30)
    wanted = judged_locally(local, settings)
    server.reset()
    report = judge_on_cluster(run, store, settings, AskSettings(models=("fake",)), cluster)
    made = [one.id for one in Parts(store, "judgements").all()]
    assert report.missing == 0 and server.counts()["requests"] == len(wanted)
    assert set(made) == wanted and len(made) == len(wanted) == 30 * 4
    assert not store.stamps("by-prompt")
    assert run.info.stages == local.info.stages

    server.reset()
    options = ("--mode", "compare", "--pairs-per-prompt", 2, "--seed", 5, "--prompts", 30, "--engine", "ray")
    done = prefkit("judge", run.path, "--judge", "fake", *options)
    assert (done.code, server.counts()["requests"]) == (0, 0), done.err
    assert "judgements.parquet: 0 new judgements, 120 from before" in done.out


def test_a_budget_holds_over_all_workers_and_policies_are_dealt_out_as_over_a_whole_run(
    both: Any, cluster: Cluster, server: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch, 5)
    local, run, store = both
    settings, models = GenerateSettings(assign=2, seed=3, samples=2, prompts=30), ("fake", "other", "third")
    asked = AskSettings(models=models)
    ask_run(local, GenerateQuestions(local, models, settings), asked, lambda tally, total: None)
    server.reset()
    server.fail(shares={"500": 0.3}, attempts=2)
    first = generate_on_cluster(run, store, models, settings, replace(asked, max_calls=50), cluster)
    assert server.counts()["requests"] == first.tally.calls == 50
    assert set(first.tally.stopped.values()) == {"budget"} and 0 < first.tally.answered < 50
    second = generate_on_cluster(run, store, models, settings, asked, cluster)
    made = [one for one in Parts(store, "responses").all() if one.policy in models]
    assert {(one.id, one.text) for one in made} == {(one.id, one.text) for one in local.responses() if one.usage}
    assert len(made) == first.tally.answered + second.tally.answered == 30 * 2 * 2
    assert second.excluded == GenerateQuestions(local, models, settings).excluded > 0


def test_records_stand_in_the_order_of_their_prompts_whatever_order_they_came_in(
    both: Any, cluster: Cluster, records: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_blocks(monkeypatch, 20)
    _, _, store = both
    prompts, responses = records
    Parts(store, "responses").write_all([Response(id="x", prompt_id="nobody's", policy="A", text="x")], 2)
    numbers = numbered(cluster, Parts(store, "prompts"))
    with ordered_by_prompt(cluster, numbers, Parts(store, "responses")) as found:
        assert found.strangers == 1 and len(found.parts.names()) > 2
        for first in range(0, PROMPTS, 6):
            some = prompts[first : first + 6]
            rows = found.rows(first, len(some))
            read = [one for part in rows for one in found.parts.read(part.part, part.first, part.count)]
            assert read == [one for prompt in some for one in responses if one.prompt_id == prompt.id]


def test_a_run_in_jsonl_is_told_to_be_converted(both: Any, cluster: Cluster, prefkit: Any) -> None:
    local, _, _ = both
    done = prefkit("judge", local.path, "--judge", "fake", "--engine", "ray")
    assert done.code == 1 and f"prefkit convert {local.path} --to parquet" in done.err


# What workers share


def test_allowances_are_never_more_than_what_is_left_and_the_last_waits_for_the_others() -> None:
    ledger = Ledger(Budget(max_calls=10, calls=1))
    for block in range(2):
        ledger.look(block, f"worker {block}", Tally())
    assert ledger.draw(0, Amount(6, 60)) == Allowance(Amount(6, 60), last=False)
    assert ledger.draw(1, Amount(6, 60)) == "wait"
    ledger.spend(0, Amount(2, 20))
    assert ledger.draw(1, Amount(8, 80)) == Allowance(Amount(7, 80), last=True)
    ledger.spend(1, Amount(7, 70))
    assert ledger.draw(0, Amount(1, 10)) is None


def test_what_a_dead_worker_had_drawn_counts_as_spent() -> None:
    ledger = Ledger(Budget(max_calls=10))
    ledger.look(0, "dies", Tally())
    ledger.draw(0, Amount(6, 60))
    ledger.look(0, "dies", Tally(calls=4, answered=3))
    ledger.look(0, "takes its place", Tally())
    assert ledger.draw(0, Amount(6, 60)) == Allowance(Amount(4, 60), last=True)
    assert (ledger.tally().calls, ledger.tally().reasons[LOST]) == (4, 3)


def test_all_is_over_when_what_was_under_way_is_received() -> None:
    ledger = Ledger(Budget())
    ledger.look(0, "one", Tally())
    ledger.stop("stopped")
    assert ledger.look(0, "one", Tally()) == {EVERYTHING: "stopped"} and not ledger.over(0)
    ledger.settle(0, Tally(answered=2))
    assert not ledger.over(0) and ledger.over(1) and ledger.tally().answered == 2


def test_without_ray_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(PrefkitError, match=r"pip install 'prefkit\[ray\]'"), joined():
        pass
