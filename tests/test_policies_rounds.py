"""``prefkit iterate``: which answers become pairs, what a round comes to, and rounds that are killed anywhere."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tiny import tiny_classifier, tiny_model, tiny_tokenizer

from prefkit.errors import PrefkitError
from prefkit.policies import round_answers
from prefkit.policies.choosing import pairs_of
from prefkit.policies.health import health
from prefkit.policies.looking import look, texts
from prefkit.policies.round_answers import Drawing, Said, Spoken
from prefkit.policies.round_evaluation import Evaluation, best_round, evaluation, standing, win_rate
from prefkit.policies.round_prompts import draw_pool
from prefkit.records import Message, PreferencePair, Prompt, prompt_id
from prefkit.rubric_files import load_rubric
from prefkit.run import Run

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # trl calls transformers by old names

WORDS = (
    "sleep", "work", "mother", "exam", "friend", "money", "winter", "dog", "city", "illness", "night", "train", "music",
    "garden", "letter", "river",
)  # fmt: skip


def prompt(words: str) -> Prompt:
    messages = (Message(role="user", content=words),)
    return Prompt(id=prompt_id(messages), messages=messages)


def prompts(count: int) -> list[Prompt]:
    """Clients who have nothing in common."""
    draw = np.random.default_rng(5)
    return [prompt(f"{' '.join(draw.permutation(WORDS)[:6])} {number}?") for number in range(count)]


def run_of(folder: Path, some: list[Prompt]) -> Run:
    run = Run.create(folder, load_rubric("psychocounsel"))
    if some:
        run.replace(Prompt, some)
    return run


def with_pairs(run: Run, splits: dict[str, str]) -> Run:
    """A run with a pair for each of these prompts, in that split."""
    import pyarrow
    from pyarrow import parquet

    rows = [
        PreferencePair(
            id=f"pair {name}", prompt_id=name, chosen_id=f"{name} a", rejected_id=f"{name} b", chosen_policy="a",
            rejected_policy="b", rating_gap=None, gaps={"warm": 1.0}, preferred=1.0, principle_preferred={"warm": 1.0},
            annotators=("human:me",), first="chosen", split=split,  # type: ignore[arg-type]
        )
        for name, split in splits.items()
    ]  # fmt: skip
    parquet.write_table(pyarrow.Table.from_pylist(msgspec.to_builtins(rows)), run.path / "pairs.parquet")
    return run


# --- choosing --------------------------------------------------------------------------------------------------------


def said(*answers: str | tuple[str, str]) -> Said:
    both = [one if isinstance(one, tuple) else (one, "stop") for one in answers]
    spoken = tuple(Spoken(text=text, finish=finish, tokens=9, logprob=-1.0) for text, finish in both)
    return Said(prompt_id="p", answers=spoken)


def chosen(answers: Said, rewards: list[float], **more: Any) -> tuple[list[tuple[str, str]], dict[str, int]]:
    tally = Counter[str]()
    options: Any = {"choose": "best-worst", "top": 2, "least": 0.0, "keep_cut_off": False, **more}
    found = pairs_of(prompt("Hm?"), answers, np.array(rewards), "me", tally=tally, **options)
    return [(one["chosen"][0]["content"], one["rejected"][0]["content"]) for one in found], dict(tally)


FIVE = said("one", "two", "three", "four", "five")


def test_the_best_answer_stands_against_the_worst():
    assert chosen(FIVE, [0, 3, 1, -2, 2]) == ([("two", "four")], {})


def test_each_of_the_two_best_stands_against_each_of_the_two_worst():
    found, _ = chosen(FIVE, [0, 3, 1, -2, 2], choose="top-k")
    assert found == [("two", "four"), ("two", "one"), ("five", "four"), ("five", "one")]


def test_of_three_answers_top_k_takes_the_best_and_the_worst():
    assert chosen(said("one", "two", "three"), [0, 3, 1], choose="top-k", top=5)[0] == [("two", "one")]


def test_a_pair_needs_the_least_gap_and_equal_rewards_are_none():
    assert chosen(said("one", "two"), [1, 0], least=1.0)[0] == [("one", "two")]
    assert chosen(said("one", "two"), [1, 0], least=1.1) == ([], {"pairs left out: too near in reward": 1})
    assert chosen(said("one", "two"), [1, 1]) == ([], {"pairs left out: too near in reward": 1})


def test_unfit_answers_stand_in_no_pair_and_are_counted():
    loop, turn = "I hear you, that sounds hard. " * 9, "Yes.\nClient: And then?"
    answers = said("...", loop, turn, ("It may be", "length"), "Yes, yes", "No", "No", "What?")
    found, counted = chosen(answers, [9, 8, 7, 6, 0, 1, 1, float("nan")])
    assert found == [("No", "Yes, yes")]
    assert counted == {
        "answers left out: empty": 1,
        "answers left out: looping": 1,
        "answers left out: multi-speaker": 1,
        "answers left out: cut-off": 1,
        "answers left out: the words of another one to the prompt": 1,
        "answers left out: the reward model cannot read them": 1,
    }
    assert chosen(answers, [9, 8, 7, 6, 0, 1, 1, 0], keep_cut_off=True)[0] == [("It may be", "What?")]


def test_a_prompt_with_one_fit_answer_gives_no_pair_and_is_counted():
    counted = {"answers left out: empty": 1, "prompts without two answers to compare": 1}
    assert chosen(said("", "Yes"), [1, 2]) == ([], counted)


# --- prompts ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_tokenizer(tmp_path_factory.mktemp("tokenizer")))


def pool(run: Run, tokenizer: Any, **more: Any) -> Any:
    return draw_pool(run, tokenizer, **{"to_ask": 100, "held_out": 4, "most_tokens": 150, "seed": 0, **more})


def ids(some: Any) -> list[str]:
    return [one.id for one in some]


def test_rounds_ask_other_prompts_as_long_as_there_are_any_and_none_twice(tmp_path, tokenizer):
    found = pool(run_of(tmp_path / "run", prompts(14)), tokenizer)
    rounds = [ids(found.of_round(number, 4)) for number in (1, 2, 3)]
    assert len({*rounds[0], *rounds[1]}) == 8
    assert rounds[2] == [*ids(found.to_ask)[8:], *rounds[0][:2]]
    assert len(ids(found.of_round(1, 99))) == len(set(ids(found.to_ask))) == 10
    other = pool(Run(tmp_path / "run"), tokenizer, seed=1)
    assert ids(other.to_ask) != ids(found.to_ask)


def test_prompts_of_held_out_pairs_are_held_out_and_all_others_asked(tmp_path, tokenizer):
    some = prompts(9)
    splits = ["train", "test", "train", "validation", "train", "test"]
    run = with_pairs(run_of(tmp_path / "run", some), {one.id: of for one, of in zip(some, splits, strict=False)})
    found = pool(run, tokenizer)
    assert set(ids(found.held_out)) == {some[place].id for place in (1, 3, 5)}
    assert set(ids(found.to_ask)) == {some[place].id for place in (0, 2, 4, 6, 7, 8)}


def test_a_prompt_like_one_that_is_held_out_is_not_asked_nor_one_without_room(tmp_path, tokenizer):
    long = "My sister and I have not spoken since the funeral, and every week I write a letter and burn it"
    some = [prompt(f"{long}."), prompt(f"{long}!!"), prompt("x" * 200), *prompts(3)]
    run = with_pairs(run_of(tmp_path / "run", some), {some[0].id: "test"})
    found = pool(run, tokenizer)
    assert set(ids(found.to_ask)) == set(ids(some[3:]))
    assert sorted(found.counts.values()) == [1, 1]


def test_a_run_whose_pairs_are_all_trained_on_has_nothing_to_measure_on(tmp_path, tokenizer):
    some = prompts(4)
    run = with_pairs(run_of(tmp_path / "run", some), {one.id: "train" for one in some})
    with pytest.raises(PrefkitError, match=r"no prompt that is held out.*\n.*--test-size"):
        pool(run, tokenizer)


# --- evaluating ------------------------------------------------------------------------------------------------------


def test_a_win_rate_counts_ties_half_and_leaves_out_what_cannot_be_read():
    nan = float("nan")
    rate = win_rate(np.array([1.0, 0.0, 2.0, 5.0, nan, nan, 1.0]), np.array([0.0, 1.0, 2.0, 0.0, 0.0, nan, nan]))
    assert rate is not None and rate.low < rate.value < rate.high
    assert (rate.value, rate.n) == (2.5 / 4, 4)
    assert win_rate(np.array([nan, 1.0]), np.array([0.0, nan])) is None
    with pytest.raises(PrefkitError, match="no prompt at which both answers can be read"):
        standing(np.array([nan, 1.0]), np.array([0.0, nan]), None, None)


def judged(wins: float, before: float | None = None, n: int = 100) -> Any:
    """Of a policy that wins this share of ``n`` prompts against the start, and against the round before."""
    ours = np.zeros(n)
    other = [None if share is None else np.where(np.arange(n) < share * n, -1.0, 1.0) for share in (wins, before)]
    return standing(ours, other[0], other[1], None)  # type: ignore[arg-type]


def round_of(first: Any, second: Any = None, words: str = "It sounds hard, and I hear you.") -> Evaluation:
    asked = prompts(40)
    answers = [Said(prompt_id=one.id, answers=said(words).answers) for one in asked]
    start = look([one.messages[0].content for one in asked], texts(["It sounds hard, and I hear you."] * 40))
    assert not health(start, start).flagged
    return evaluation(3, "round-3/policy", {}, asked, answers, first, second, start)


def test_a_round_that_is_not_worse_goes_on():
    assert round_of(judged(0.45, 0.44), judged(0.6, 0.42)).stop == ()


def test_a_round_that_falls_behind_the_one_before_beyond_chance_stops():
    (why,) = round_of(judged(0.7, 0.3)).stop
    assert why == "the reward model prefers the round before: 30.0% [21.9, 39.6] of the answers win"


def test_a_reward_that_rises_while_the_second_judge_disagrees_stops():
    (why,) = round_of(judged(0.8, 0.7), judged(0.3, 0.45)).stop
    assert why.startswith("the reward rises while the second judge prefers the start: 30.0%")


def test_flagged_answers_stop_whatever_their_reward():
    (why,) = round_of(judged(0.9, 0.9), words="so so so so so so so so so so so so so so so so so so so so so").stop
    assert why.startswith("the answers are flagged: ") and "loop" in why


def test_the_best_round_wins_most_often_and_gave_no_reason_to_stop():
    rounds = [round_of(judged(0.6)), round_of(judged(0.7)), round_of(judged(0.9, 0.2))]
    assert best_round(rounds) is rounds[1]
    assert best_round([round_of(judged(0.48))]) is None


# --- answers and rewards on disk -------------------------------------------------------------------------------------

DRAWING = Drawing(samples=2, max_tokens=6, temperature=1.0, top_p=1.0, seed=3)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"), max_position_embeddings=256)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(round_answers, "ANSWERS", 8)


def test_answers_that_were_cut_anywhere_are_completed_to_the_same_bytes(tmp_path, base, small_blocks):
    from prefkit.policies.opening import open_policy

    path, some = tmp_path / "answers.jsonl", prompts(10)
    opened: list[int] = []

    def make() -> list[int]:
        counted: list[int] = []
        round_answers.answers(path, some, lambda: opened.append(1) or open_policy(base), DRAWING, counted.append)
        return counted

    make()
    whole = path.read_bytes()
    ends = [place + 1 for place, letter in enumerate(whole) if letter == 10]
    for size, before in ((ends[0], 0), (ends[4] + 9, 4), (ends[7], 8), (len(whole) - 1, 10), (len(whole), 10)):
        path.write_bytes(whole[:size])
        opened.clear()
        counted = make()
        assert path.read_bytes() == whole
        assert (counted[0], sum(counted), bool(opened)) == (2 * before, 20, before < 10)


def test_answers_to_other_prompts_are_refused(tmp_path, base):
    path = tmp_path / "answers.jsonl"
    path.write_bytes(msgspec.json.encode(said("Yes", "No")) + b"\n")
    with pytest.raises(PrefkitError, match=r"answers.jsonl:1: found the prompt p, which is not asked here"):
        round_answers.answers(path, prompts(2), lambda: (None, None), DRAWING, lambda more: None)


# --- the command -----------------------------------------------------------------------------------------------------


def reward_model(folder: Path, base: Path, seed: int = 1, **more: Any) -> Path:
    from transformers import AutoTokenizer

    from prefkit.training.reward_info import RewardInfo
    from prefkit.training.reward_model import save_reward_model

    info = RewardInfo(kind="trained", base="tiny", template=None, max_tokens=256, **more)
    save_reward_model(tiny_classifier(base, seed=seed), AutoTokenizer.from_pretrained(base), folder, info)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """A folder with two reward models."""
    folder = tmp_path_factory.mktemp("place")
    reward_model(folder / "rm", base)
    reward_model(folder / "other", base, seed=2)
    return folder


def arguments(run: Path, base: Path, place: Path, *more: object) -> list[str]:
    options = {
        "--base": base, "--rm": place / "rm", "--second-rm": place / "other", "--rounds": 2, "--prompts": 6,
        "--samples": 3, "--held-out": 8, "--answer-tokens": 8, "--max-tokens": 200, "--batch": 2,
        "--learning-rate": 1e-4, "--name": "first", "--save-minutes": 1e-6,
    }  # fmt: skip
    given = [str(part) for option in options.items() for part in option]
    return ["iterate", str(run), *given, "--keep-cut-off", *map(str, more)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, base: Path, place: Path) -> dict[str, bytes]:
    """What two rounds leave that nobody killed."""
    import prefkit.policies.finishing
    import prefkit.policies.policy_trainer  # noqa: F401 - not in every fork anew

    look(["Hm?"], texts(["The tables that it makes are not made in every fork anew either."]))
    folder = tmp_path_factory.mktemp("whole")
    run_of(folder / "run", prompts(24))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(round_answers, "ANSWERS", 8)
        patch.setenv("PREFKIT_CACHE", str(folder / "cache"))
        in_a_process_of_its_own(arguments(folder / "run", base, place))
    return left(folder / "run")


def left(run: Path) -> dict[str, bytes]:
    """The files of an iteration, but for those of trainings."""
    folder = run / "iterations" / "first"
    found = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.json*") if path.is_file()}
    return {name: text for name, text in found.items() if "policy/" not in name}


def in_a_process_of_its_own(given: list[str], kill: Callable[[], bool] = lambda: False) -> int:
    """Run the command in a fork, which is killed with -9 when ``kill`` says so; how it ended."""
    from prefkit.cli import main

    child = os.fork()
    if not child:
        try:
            main(given)
        except SystemExit as stop:
            os._exit(int(stop.code or 0))
        except BaseException:  # noqa: BLE001 - the child may not go on as a second pytest
            import traceback

            traceback.print_exc()
            os._exit(99)
        os._exit(0)
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if kill():
            os.kill(child, signal.SIGKILL)
        time.sleep(0.0005)


def of_lines(file: bytes) -> set[str]:
    """The prompts of its lines."""
    return {json.loads(line)["prompt_id"] for line in file.splitlines()}


def test_two_rounds_leave_what_they_promise(whole):
    assert set(whole) == {
        "iterate.json", "finished.json",
        *(f"start/{name}" for name in ("answers.jsonl", "rewards.jsonl", "second.jsonl", "evaluation.json")),
        *(
            f"round-{number}/{name}"
            for number in (1, 2)
            for name in ("answers.jsonl", "rewards.jsonl", "pairs.jsonl", "evaluation.json", "held-out/answers.jsonl",
                         "held-out/rewards.jsonl", "held-out/second.jsonl")
        ),
    }  # fmt: skip
    second = json.loads(whole["round-2/evaluation.json"])
    assert (second["prompts"], second["counts"]["answers"], second["by_reward_model"]["before"]["n"]) == (8, 18, 8)
    asked = [
        {json.loads(line)["prompt_id"] for line in whole[f"round-{one}/answers.jsonl"].splitlines()} for one in (1, 2)
    ]
    held_out = {json.loads(line)["prompt_id"] for line in whole["start/answers.jsonl"].splitlines()}
    assert (len(asked[0] | asked[1]), (asked[0] | asked[1]) & held_out) == (12, set())
    assert json.loads(whole["finished.json"])["rounds"] == 2


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_blocks: None) -> Path:
    monkeypatch.setenv("PREFKIT_CACHE", str(tmp_path / "cache"))
    return run_of(tmp_path / "run", prompts(24)).path


KILLED = {
    "before anything": "iterate.json",
    "the start answers": "start/answers.jsonl",
    "the start is scored": "start/rewards.jsonl",
    "generating": "round-1/answers.jsonl",
    "scoring": "round-1/rewards.jsonl",
    "chosen": "round-1/pairs.jsonl",
    "training begins": "round-1/policy/begun.json",
    "training": "round-1/policy/checkpoints/checkpoint-2",
    "training ends": "round-1/policy/model.safetensors",
    "evaluating: answers": "round-1/held-out/answers.jsonl",
    "evaluating: second judge": "round-1/held-out/second.jsonl",
    "the second round": "round-2/answers.jsonl",
}


@pytest.mark.parametrize("phases", [list(KILLED)[::2], list(KILLED)[1::2]], ids=["even", "odd"])
def test_rounds_killed_in_each_phase_leave_the_same_bytes(run, base, place, whole, phases):
    folder, killed = run / "iterations" / "first", []
    for phase in phases:
        ended = in_a_process_of_its_own(arguments(run, base, place), (folder / KILLED[phase]).exists)
        killed.append((phase, ended))
    assert in_a_process_of_its_own(arguments(run, base, place)) == 0
    assert left(run) == whole
    assert [phase for phase, ended in killed if ended != -signal.SIGKILL] == []


def test_rounds_killed_while_pairs_are_chosen_leave_the_same_pairs(run, base, place, whole, monkeypatch):
    from prefkit.policies import rounds

    def die(*ignored: object, **more: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    one_round = arguments(run, base, place, "--rounds", 1)
    with monkeypatch.context() as patch:
        patch.setattr(rounds, "pairs_of", die)
        assert in_a_process_of_its_own(one_round) == -signal.SIGKILL
    assert in_a_process_of_its_own(one_round) == 0
    assert left(run)["round-1/pairs.jsonl"] == whole["round-1/pairs.jsonl"]
    assert left(run)["round-1/evaluation.json"] == whole["round-1/evaluation.json"]


def test_more_rounds_go_on_behind_the_last_one_and_finished_ones_are_told_again(run, base, place, whole, prefkit):
    first = prefkit(*arguments(run, base, place, "--rounds", 1))
    assert (first.code, left(run)["round-1/evaluation.json"]) == (0, whole["round-1/evaluation.json"])
    before = (run / "iterations/first/round-1/answers.jsonl").stat().st_mtime_ns
    second = prefkit(*arguments(run, base, place))
    assert (second.code, left(run)) == (0, whole)
    assert (run / "iterations/first/round-1/answers.jsonl").stat().st_mtime_ns == before
    again = prefkit(*arguments(run, base, place))
    assert "finished before" in again.out and "Next: prefkit" in again.out
    table = [line.split() for line in second.out.splitlines()]
    assert [line[:3] for line in table if line and line[0] in ("1", "2") and line[1] == "6"] == [
        [str(one), "6", str(len(whole[f"round-{one}/pairs.jsonl"].splitlines()))] for one in (1, 2)
    ]
    assert again.out.splitlines()[-4:] == second.out.splitlines()[-4:]
    best = json.loads(left(run)["finished.json"])["best_round"]
    told = f"the best is round {best}" if best else "none better than the start"
    assert f"iterations/       first: 2 rounds, {told}" in prefkit("status", run).out


def test_a_round_that_goes_too_far_from_the_policy_before_is_the_last(run, base, place, prefkit):
    outcome = prefkit(*arguments(run, base, place, "--learning-rate", 0.3))
    assert outcome.code == 0
    assert re.search(r"the training went too far: a token of the start's answers has lost \d+\.\d nats", outcome.out)
    assert "round-2/evaluation.json" not in left(run)


def test_another_command_for_the_same_rounds_is_refused_by_what_differs(run, base, place, prefkit):
    folder = run / "iterations" / "first"
    assert in_a_process_of_its_own(arguments(run, base, place), (folder / "iterate.json").exists) == -signal.SIGKILL
    other = prefkit(*arguments(run, base, place, "--samples", 4, "--rm", place / "other", "--second-rm", place / "rm"))
    assert other.code == 1
    assert "rounds with another samples (3, now 4), best_of (3, now 4), reward model, second reward model;" in other.err
    assert "--overwrite" in other.err
    Run(run).replace(Prompt, prompts(25))
    changed = prefkit(*arguments(run, base, place))
    assert (changed.code, "rounds with another prompts of the run;" in changed.err) == (1, True)


def test_a_folder_with_something_else_is_left_alone(run, base, place, prefkit):
    (run / "iterations" / "first").mkdir(parents=True)
    (run / "iterations" / "first" / "notes.txt").write_text("mine")
    refused = prefkit(*arguments(run, base, place))
    assert (refused.code, "found other files (notes.txt)" in refused.err) == (1, True)
    assert left(run) == {}


def test_one_process_at_a_time(run, base, place, prefkit):
    from filelock import FileLock

    (run / "iterations" / "first").mkdir(parents=True)
    with FileLock(run / "iterations" / "first" / ".lock"):
        refused = prefkit(*arguments(run, base, place))
    assert (refused.code, "another process at work" in refused.err) == (1, True)


def wrong(case: str, run: Path, base: Path, place: Path) -> list[object]:
    """The options of a case, and what makes it wrong."""
    match case:
        case "one sample":
            return ["--samples", 1]
        case "no reward model":
            return ["--rm", base]
        case "another rubric":
            return ["--rm", reward_model(run / "theirs", base, rubric="other 123")]
        case "the same judge twice":
            return ["--second-rm", place / "rm"]
        case "no chat template":
            other = tiny_model(run / "other")
            (other / "chat_template.jinja").unlink()
            return ["--base", other]
        case "no prompts":
            (run / "prompts.jsonl").unlink()
            return []
        case "no room":
            return ["--answer-tokens", 190]
        case _:
            return ["--temperature", 0]


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("one sample", "settings: samples: found 1; expected at least 2"),
        ("no reward model", "no reward.json"),
        ("another rubric", "a reward model of the rubric other 123"),
        ("the same judge twice", "expected another one to judge"),
        ("no chat template", "a tokenizer without a chat template"),
        ("no prompts", "found no prompts; expected prompts to answer"),
        ("no room", "24 prompts left out: too long to answer"),
        ("no chance", "settings: temperature: found 0"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_written(run, base, place, prefkit, case, said):
    refused = prefkit(*arguments(run, base, place, *wrong(case, run, base, place)))
    assert (refused.code, said in refused.err) == (1, True), refused.err
    assert "Traceback" not in refused.err
    assert not (run / "iterations").exists()


def test_rounds_say_what_to_do_where_most_answers_are_cut_off(run, base, place, prefkit):
    given = arguments(run, base, place)
    given.remove("--keep-cut-off")
    outcome = prefkit(*given)
    assert "most are cut off at 8 tokens: ask for longer ones (--answer-tokens)" in outcome.out


def test_a_policy_that_writes_nothing_ends_with_how_much_was_left_out(run, base, place, prefkit, tmp_path):
    """Its first word is the end."""
    import torch
    from transformers import AutoModelForCausalLM

    silent = tiny_model(tmp_path / "silent", max_position_embeddings=256)
    model = AutoModelForCausalLM.from_pretrained(silent, tie_word_embeddings=False)
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.model.norm.weight.zero_()
    model.generation_config.eos_token_id = list(range(model.config.vocab_size))
    model.save_pretrained(silent)
    refused = prefkit(*arguments(run, silent, place))
    assert refused.code == 1
    assert "found no pair of 18 answers (18 answers left out: empty; 6 prompts without two answers" in refused.err
