"""Talking to policies: token by token, side by side, blind, and votes that become comparisons."""

from __future__ import annotations

import io
import random
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny import tiny_model

from prefkit.errors import PrefkitError
from prefkit.policies.conversation import Conversation
from prefkit.policies.talking import Drawing, Said, Talker
from prefkit.policies.voting import Shown, Votes
from prefkit.records import Comparison, Message
from prefkit.rubric_files import load_rubric
from prefkit.run import Run

GREEDY = Drawing(temperature=0, max_tokens=12)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    return tiny_model(folder / "base", seed=0), tiny_model(folder / "tuned", seed=1)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", load_rubric("psychocounsel"))


class Scripted:
    """A talker that says what it was told to, and remembers what it was asked."""

    def __init__(self, name: str, words: str = "", stop_after: int | None = None) -> None:
        self.name, self.words, self.stop_after = name, words or f"{name} speaks", stop_after
        self.asked: list[list[tuple[str, str]]] = []
        self.said: Said | None = None

    def answer(self, messages: Sequence[Message], drawing: Drawing, turn: int = 0) -> Iterator[str]:
        self.asked.append([(message.role, message.content) for message in messages])
        self.said = None
        text = ""
        try:
            for place, piece in enumerate(self.words.split(" ")):
                if place == self.stop_after:
                    raise KeyboardInterrupt
                text += piece + " "
                yield piece + " "
            self.said = Said(text, "stop")
        finally:
            self.said = self.said or Said(text, "stopped")


def talk(lines: list[str], talkers: Sequence[Any], **options: Any) -> str:
    """What a conversation shows."""
    waiting, shown = iter(lines), []

    def ask(prompt: str) -> str | None:
        shown.append(prompt)
        return next(waiting, None)

    Conversation(talkers, GREEDY, ask, shown.append, **options).hold()
    return "".join(shown)


def judgements(run: Run) -> list[Comparison]:
    return [one for one in run.judgements() if isinstance(one, Comparison)]


# --- a conversation --------------------------------------------------------------------------------------------------


def test_both_are_given_the_same_dialogue_and_it_goes_on_with_the_better_answer():
    base, tuned = Scripted("base"), Scripted("tuned")
    talk(["Hi.", "b", "And?", "tie", "Oh.", ""], [base, tuned])
    assert base.asked == tuned.asked
    assert base.asked[1] == [("user", "Hi."), ("assistant", "tuned speaks "), ("user", "And?")]
    assert base.asked[2][3] == ("assistant", "base speaks "), "after a tie with the first one shown"


def test_new_forgets_the_dialogue_and_system_sets_the_scene():
    base = Scripted("base")
    talk(["Hi.", "/new", "Hello.", "/system Be kind.", "Hm.", "/system", "So."], [base])
    assert base.asked == [
        [("user", "Hi.")],
        [("user", "Hello.")],
        [("system", "Be kind."), ("user", "Hm.")],
        [("user", "So.")],
    ]


def test_a_command_in_place_of_a_vote_is_obeyed():
    base, tuned = Scripted("base"), Scripted("tuned")
    talk(["Hi.", "/new", "Hello.", "what?", "/quit", "never asked"], [base, tuned])
    assert base.asked == [[("user", "Hi.")], [("user", "Hello.")]]


def test_blind_says_no_name_before_the_end():
    shown = talk(["Hi.", "a", "Hm.", "b"], [Scripted("base", "x"), Scripted("tuned", "y")], blind=True)
    before, _, after = shown.partition("votes: ")
    assert "base" not in before and "tuned" not in before
    assert "base" in after and "tuned" in after


def test_blind_draws_the_order_anew_each_turn():
    base, tuned = Scripted("base", "x"), Scripted("tuned", "y")
    shown = talk([part for _ in range(30) for part in ("Hi.", "")], [base, tuned], blind=True, shuffle=random.Random(0))
    assert 5 < shown.count("A> x") < 25 and shown.count("A> x") + shown.count("A> y") == 30


def test_ctrl_c_stops_the_answer_and_not_the_program():
    base, tuned = Scripted("base", "one two three", stop_after=2), Scripted("tuned")
    shown = talk(["Hi.", "Still there?"], [base, tuned])
    assert shown.count("(stopped)") == 2 and "better?" not in shown, "half an answer is not voted on"
    assert len(tuned.asked) == 2
    assert tuned.asked[1][1] == ("assistant", "one two ")


def test_a_model_cannot_write_commands_to_the_terminal():
    shown = talk(["Hi."], [Scripted("base", "\x1b[2Jgone\x07 \x9b31m kept\n")])
    assert "\x1b" not in shown and "\x07" not in shown and "\x9b" not in shown and "kept\n" in shown


def test_ctrl_c_at_the_prompt_says_how_to_leave():
    answers: Iterator[Callable[[], str]] = iter([lambda: (_ for _ in ()).throw(KeyboardInterrupt), lambda: "/quit"])
    shown: list[str] = []
    Conversation([Scripted("base")], GREEDY, lambda prompt: next(answers)(), shown.append).hold()
    assert "/quit leaves" in "".join(shown)


# --- votes -----------------------------------------------------------------------------------------------------------


def test_a_vote_is_a_comparison_of_two_answers_to_one_prompt(run):
    votes = Votes(run, "human:anna")
    talk(["Hi.", "b"], [Scripted("base"), Scripted("tuned")], votes=votes, setting="Be kind.")
    (prompt,), (vote,) = run.prompts(), judgements(run)
    assert [(turn.role, turn.content) for turn in prompt.messages] == [("system", "Be kind."), ("user", "Hi.")]
    by_id = {response.id: response for response in run.responses()}
    assert (by_id[vote.a].policy, by_id[vote.b].policy, vote.winner) == ("base", "tuned", "b")
    assert by_id[vote.b].text == "tuned speaks " and by_id[vote.b].sampling["temperature"] == 0
    assert (vote.annotator, vote.prompt_id, vote.rubric) == ("human:anna", prompt.id, run.info.rubric)
    assert vote.flags == ("chat",) and vote.seconds is not None


def test_blind_votes_go_to_the_policy_behind_the_letter(run):
    votes = Votes(run, "human:anna")
    talkers = [Scripted("base"), Scripted("tuned")]
    talk([part for n in range(12) for part in ("/new", f"Hi {n}.", "a")], talkers, blind=True, votes=votes,
         shuffle=random.Random(0))  # fmt: skip
    by_id = {response.id: response for response in run.responses()}
    assert {by_id[vote.a].policy for vote in judgements(run)} == {"base", "tuned"}
    assert all(by_id[vote.a].text == f"{by_id[vote.a].policy} speaks " for vote in judgements(run))
    assert all("blind" in vote.flags for vote in judgements(run))


def test_a_skip_keeps_nothing(run):
    talk(["Hi.", "skip", "Hm.", ""], [Scripted("base"), Scripted("tuned")], votes=Votes(run, "human:anna"))
    assert list(run.prompts()) == [] and judgements(run) == []


def test_another_answer_to_the_same_words_is_another_sample_and_the_same_one_is_there_once(run):
    asked = [Message(role="user", content="Hi.")]

    def keep(words: str) -> None:
        shown = Shown("base", words, "stop"), Shown("tuned", "y", "stop")
        Votes(run, "human:anna").keep(asked, *shown, "a", {}, blind=False, seconds=1.0)

    for words in ("x", "x", "z"):
        keep(words)
    assert sorted((one.policy, one.sample, one.text) for one in run.responses()) == [
        ("base", 0, "x"), ("base", 1, "z"), ("tuned", 0, "y"),
    ]  # fmt: skip
    assert len(list(run.prompts())) == 1
    assert len({vote.id for vote in judgements(run)}) == 3


def test_votes_become_pairs(run, prefkit):
    talkers = [Scripted("base"), Scripted("tuned")]
    talk([part for n in range(4) for part in ("/new", f"Hi {n}.", "b")], talkers, votes=Votes(run, "human:anna"))
    outcome = prefkit("build-pairs", run.path, "--strategy", "comparisons", "--test-size", 0)
    assert outcome.code == 0 and "4 pairs" in outcome.out, outcome


def test_a_run_that_is_in_use_is_said_and_the_talk_goes_on(run):
    votes = Votes(run, "human:anna")
    base = Scripted("base")
    with Run(run.path).writing("judge"):
        shown = talk(["Hi.", "a", "Hm.", ""], [base, Scripted("tuned")], votes=votes)
    assert "not kept" in shown and "a run in use" in shown
    assert len(base.asked) == 2 and "votes:" not in shown


# --- real models -----------------------------------------------------------------------------------------------------


def test_an_answer_comes_in_pieces_and_is_what_the_model_says_greedily(models):
    import torch

    talker = Talker.load(str(models[0]))
    pieces = list(talker.answer([Message(role="user", content="Hello there.")], Drawing(temperature=0, max_tokens=200)))
    assert len(pieces) > 1 and talker.said is not None
    assert talker.said.text == "".join(pieces)
    ids = talker._ids([Message(role="user", content="Hello there.")])
    with torch.inference_mode():
        out = talker._model.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=200, pad_token_id=0)
    assert talker.said.text == talker._tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True)
    assert talker.said.finish == ("length" if int(out[0, -1]) != 2 else "stop")


def test_an_answer_that_is_left_stops_the_model(models):
    talker = Talker.load(str(models[0]))
    words = talker.answer([Message(role="user", content="Hi.")], Drawing(temperature=1.0, max_tokens=1900, seed=1))
    first = next(words)
    words.close()  # type: ignore[attr-defined]
    assert talker.said is not None
    assert talker.said.finish == "stopped" and talker.said.text.startswith(first) and len(talker.said.text) < 500


def test_a_seed_draws_the_same_words_again_and_others_next_turn(models):
    talker = Talker.load(str(models[0]))
    asked, drawing = [Message(role="user", content="Hi.")], Drawing(temperature=1.0, max_tokens=12, seed=4)
    first, again, later = ("".join(talker.answer(asked, drawing, turn)) for turn in (0, 0, 1))
    assert first == again != later


def test_a_dialogue_that_fills_the_context_is_refused(models):
    talker = Talker.load(str(models[0]))
    with pytest.raises(PrefkitError, match="/new"):
        list(talker.answer([Message(role="user", content="x" * 3000)], GREEDY))


def test_the_command_talks_over_a_pipe_and_keeps_votes(models, run, prefkit, monkeypatch):
    base, tuned = models
    monkeypatch.setattr("sys.stdin", io.StringIO("I feel alone.\nb\n/quit\n"))
    outcome = prefkit("chat", base, tuned, "--run", run.path, "--annotator", "anna", "--max-tokens", 8, "--seed", 1)
    assert outcome.code == 0, outcome.err
    assert "A (base)> " in outcome.out and "B (tuned)> " in outcome.out
    assert "votes: base 0, tuned 1, tie 0" in outcome.out
    assert "Empathy" in outcome.err, "what better means here"
    assert [vote.annotator for vote in judgements(run)] == ["human:anna"]


def test_a_policy_of_a_run_is_named_behind_a_colon(models, run, prefkit, monkeypatch):
    shutil.copytree(models[1], run.path / "policies" / "dpo")
    (run.path / "policies/dpo/training.json").write_text("{}")
    monkeypatch.setattr("sys.stdin", io.StringIO("Hi.\n"))
    outcome = prefkit("chat", f"{run.path}:dpo", "--max-tokens", 4)
    assert outcome.code == 0 and "dpo> " in outcome.out


def test_two_of_one_name_and_options_for_two_are_refused(models, tmp_path, prefkit):
    twin = shutil.copytree(models[0], tmp_path / "base")
    assert "two names" in prefkit("chat", models[0], twin).err
    assert prefkit("chat", models[0], "--blind").code == 2
