"""``prefkit train-rm``: what it learns and leaves behind; one that was cut ends as one that was not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Outcome
from tiny import tiny_model
from train_cut import Killed, die, in_a_process_of_its_own, pairs_file, rows

from prefkit import demo
from prefkit.errors import PrefkitError
from prefkit.training.groups import Group, Pair, TokenGroup
from prefkit.training.settings import TrainingSettings
from prefkit.training.training_pairs import TrainingData

SETTINGS: dict[str, Any] = {
    "pairs_per_step": 8, "learning_rate": 3e-3, "max_tokens": 400, "row_tokens": 512, "epochs": 2.0,
    "schedule": "constant",
}  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


def train(source: Path, folder: Path, base: Path, **more: Any) -> Any:
    from prefkit.training.training import train_reward_model

    lines: list[str] = []
    overwrite, held_out = more.pop("overwrite", False), more.pop("held_out", None)
    data = TrainingData(source=source, split=None, held_out=held_out)
    settings = TrainingSettings(base=str(base), **SETTINGS | more)
    return train_reward_model(data, settings, folder, overwrite=overwrite, say=lines.append), lines


def test_a_model_learns_what_is_preferred_and_stands_beside_the_baselines(tmp_path: Path, base: Path):
    trained, lines = train(
        pairs_file(tmp_path / "pairs.jsonl", 24),
        tmp_path / "rm",
        base,
        held_out=pairs_file(tmp_path / "test.jsonl", 8, seed=1),
    )
    assert [row[""] for row in trained.rows] == ["rm", "length only", "bag of words", "policy identity"]
    assert float(trained.rows[0]["accuracy"].split()[0]) > 90
    assert lines[0] == "72 pairs of 24 prompts, 72 responses, " + lines[0].split("responses, ")[1]
    done = json.loads((tmp_path / "rm" / "training.json").read_text())
    assert done["data"]["training pairs"] == 72
    assert done["steps"] == 18
    assert not (tmp_path / "rm" / "checkpoints").exists()


def test_the_saved_model_puts_the_pairs_right_that_the_report_says(tmp_path: Path, base: Path):
    from prefkit.training.examples import read_groups
    from prefkit.training.reward_model import RewardModel

    held_out = pairs_file(tmp_path / "test.jsonl", 8, seed=1)
    trained, _ = train(pairs_file(tmp_path / "pairs.jsonl"), tmp_path / "rm", base, held_out=held_out, max_steps=3)
    groups = list(read_groups(held_out))
    scored = zip(groups, RewardModel.load(tmp_path / "rm").rewards(groups), strict=True)
    right = [of[pair.chosen, 0] > of[pair.rejected, 0] for group, of in scored for pair in group.pairs]
    assert 0 < sum(right) < 24
    assert trained.rows[0]["accuracy"].startswith(f"{100 * sum(right) / 24:.1f} ")


def between_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the eighth step, after a checkpoint at the sixth."""
    from prefkit.training.reward_trainer import PackedRewardTrainer

    step = PackedRewardTrainer.training_step
    monkeypatch.setattr(
        PackedRewardTrainer,
        "training_step",
        lambda self, *args: die() if self.state.global_step == 7 else step(self, *args),
    )


def while_a_checkpoint_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the weights of the second one, before its optimiser."""
    from prefkit.training.reward_trainer import PackedRewardTrainer

    save = PackedRewardTrainer._save_optimizer_and_scheduler
    monkeypatch.setattr(
        PackedRewardTrainer,
        "_save_optimizer_and_scheduler",
        lambda self, folder: die() if self.state.global_step == 6 else save(self, folder),
    )


def before_the_model_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the last step, with the weights in their place and nothing that says so."""
    from prefkit.training import finishing

    monkeypatch.setattr(finishing, "_write_done", die)


CUT = {"save_steps": 3, "loss": "rao-kupper", "length_penalty": 0.1, "control_policies": True}


@pytest.fixture(scope="module")
def uncut(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    folder = tmp_path_factory.mktemp("uncut")
    in_a_process_of_its_own(lambda: train(pairs_file(folder / "pairs.jsonl"), folder / "rm", base, **CUT))
    return folder / "rm"


@pytest.mark.parametrize("moment", [between_checkpoints, while_a_checkpoint_is_written, before_the_model_is_whole])
def test_a_training_that_is_killed_ends_in_the_same_weights_bit_by_bit(
    tmp_path: Path, base: Path, uncut: Path, moment: Callable[[pytest.MonkeyPatch], None]
):
    source, folder = pairs_file(tmp_path / "pairs.jsonl"), tmp_path / "rm"
    with pytest.MonkeyPatch.context() as patched:
        moment(patched)
        with pytest.raises(Killed):
            in_a_process_of_its_own(lambda: train(source, folder, base, **CUT))
    assert not (folder / "training.json").exists()
    in_a_process_of_its_own(lambda: train(source, folder, base, **CUT))
    for name in ("model.safetensors", "reward.json"):
        assert (folder / name).read_bytes() == (uncut / name).read_bytes()
    resumed = json.loads((folder / "training.json").read_text())["resumed_after_step"]
    assert resumed == {between_checkpoints: 6, while_a_checkpoint_is_written: 3, before_the_model_is_whole: 10}[moment]


def test_a_finished_model_is_not_trained_again_by_accident(uncut: Path, base: Path):
    with pytest.raises(PrefkitError, match="a finished model"):
        train(uncut.parent / "pairs.jsonl", uncut, base, **CUT)


def test_another_training_does_not_go_on_in_the_same_folder(tmp_path: Path, base: Path):
    source, folder = pairs_file(tmp_path / "pairs.jsonl"), tmp_path / "rm"
    with pytest.MonkeyPatch.context() as patched:
        between_checkpoints(patched)
        with pytest.raises(Killed):
            in_a_process_of_its_own(lambda: train(source, folder, base, **CUT))
    with pytest.raises(PrefkitError, match=r"another learning_rate \(0.003, now 0.001\)"):
        train(source, folder, base, **CUT | {"learning_rate": 1e-3})
    with pytest.raises(PrefkitError, match="another set of pairs"):
        train(pairs_file(tmp_path / "more.jsonl", 13), folder, base, **CUT)
    (tmp_path / "base").mkdir()
    with pytest.raises(PrefkitError, match="another base"):
        train(source, folder, tiny_model(tmp_path / "base", seed=1), **CUT)


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, base: Path):
    (tmp_path / "rm").mkdir()
    (tmp_path / "rm" / "thesis.txt").write_text("years of work")
    with pytest.raises(PrefkitError, match=r"other files \(thesis.txt\)"):
        train(pairs_file(tmp_path / "pairs.jsonl"), tmp_path / "rm", base)
    assert (tmp_path / "rm" / "thesis.txt").exists()


def losses(folder: Path) -> list[float]:
    history = json.loads((folder / "training.json").read_text())["history"]
    return [line["loss"] for line in history if "loss" in line]


def test_the_loss_does_not_depend_on_how_a_step_is_cut_into_rows(tmp_path: Path, base: Path):
    source = pairs_file(tmp_path / "pairs.jsonl")
    for name, row_tokens in (("small", 64), ("large", 4096)):
        train(source, tmp_path / name, base, row_tokens=row_tokens, max_steps=5, learning_rate=1e-3, log_steps=1)
    assert losses(tmp_path / "small") == pytest.approx(losses(tmp_path / "large"), rel=1e-4)
    assert len(losses(tmp_path / "small")) == 5


def test_over_long_responses_are_said_and_counted(tmp_path: Path, base: Path):
    made = rows(12)
    made[0]["chosen"] += " and on" * 100
    source = tmp_path / "pairs.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in made))
    trained, lines = train(source, tmp_path / "rm", base, max_steps=1)
    assert trained.counts["pairs over 400 tokens, left out"] == 1
    assert "  1 pairs over 400 tokens, left out" in lines
    with pytest.raises(PrefkitError, match="pairs over 8 tokens"):
        train(source, tmp_path / "none", base, max_tokens=8)


def test_an_adapter_is_merged_into_a_model_that_stands_alone(tmp_path: Path, base: Path):
    from transformers import AutoModelForSequenceClassification

    _, lines = train(pairs_file(tmp_path / "pairs.jsonl"), tmp_path / "rm", base, lora=4, max_steps=2, freeze_layers=1)
    assert "million weights learn" in lines[1]
    assert not list((tmp_path / "rm").glob("adapter*"))
    before = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1).state_dict()
    after = AutoModelForSequenceClassification.from_pretrained(tmp_path / "rm").state_dict()
    changed = {name for name, weight in after.items() if not weight.equal(before[name])}
    assert {name.split(".")[2] for name in changed if "layers" in name} == {"1"}


def test_frozen_layers_stay_as_they_were(tmp_path: Path, base: Path):
    from safetensors.torch import load_file

    train(pairs_file(tmp_path / "pairs.jsonl"), tmp_path / "rm", base, freeze_layers=1, max_steps=2)
    before, after = load_file(base / "model.safetensors"), load_file(tmp_path / "rm" / "model.safetensors")
    changed = {name for name in after.keys() & before.keys() if not after[name].equal(before[name])}
    assert changed and all(name.startswith(("model.layers.1", "model.norm")) for name in changed)


def test_with_policies_controlled_for_a_model_does_not_learn_who_wrote_a_response(tmp_path: Path, base: Path):
    """A, who writes in a's, beats B, who writes in b's, in three of four pairs, for no reason that a text shows."""
    from prefkit.training.reward_model import RewardModel

    said = {"A": "aaaa", "B": "bbbb"}
    pairs = []
    for number in range(48):
        better, worse = "AB" if number % 4 else "BA"
        pair = {"prompt": f"{number}?", "chosen": said[better], "rejected": said[worse]}
        pairs.append(pair | {"chosen_policy": better, "rejected_policy": worse})
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    leads = []
    for control in (False, True):
        train(tmp_path / "pairs.jsonl", tmp_path / str(control), base, control_policies=control, learning_rate=1e-3)
        model = RewardModel.load(tmp_path / str(control))
        assert model.info.control_policies == control
        leads.append(float(np.subtract(*model.score("99?", list(said.values())))))
    assert leads[0] > 2 and abs(leads[1]) < leads[0] / 2


def test_a_training_begins_where_a_head_on_the_last_token_ended(tmp_path: Path, base: Path):
    from prefkit.training.frozen_training import FrozenSettings, train_frozen_reward_model
    from prefkit.training.reward_model import RewardModel

    source, head = pairs_file(tmp_path / "pairs.jsonl"), tmp_path / "head"
    settings = FrozenSettings(base=str(base), layer=1, pooling="last")
    train_frozen_reward_model(TrainingData(source=source, split=None), settings, head)
    train(source, tmp_path / "rm", head, learning_rate=1e-9, max_steps=1)
    asked = ("Client 3?", ["I hear you. 3", "Whatever. 3"])
    began, ended = (RewardModel.load(path).score(*asked) for path in (head, tmp_path / "rm"))
    assert began[0] - began[1] > 0.1
    np.testing.assert_allclose(ended, began, atol=1e-4)
    assert json.loads((tmp_path / "rm" / "config.json").read_text())["num_hidden_layers"] == 1


def test_policies_without_names_cannot_be_controlled_for(tmp_path: Path, base: Path):
    (tmp_path / "pairs.jsonl").write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}) + "\n")
    with pytest.raises(PrefkitError, match="0 named policies; expected at least two"):
        train(tmp_path / "pairs.jsonl", tmp_path / "rm", base, control_policies=True)


def test_each_pair_counts_as_every_other_in_the_accuracy():
    """Nine pairs of which three are put right: 1/3, whatever batches they would have come in."""
    from prefkit.training.reward_trainer import agreement

    groups = [in_tokens(str(number)) for number in range(9)]
    rewards = [np.array([1.0, 0.0]) if number < 3 else np.array([0.0, 1.0]) for number in range(9)]
    assert agreement(groups, rewards)["accuracy"] == pytest.approx(1 / 3)


def test_equal_rewards_count_half_and_ties_are_not_asked():
    from prefkit.training.reward_trainer import agreement

    groups = [in_tokens("right"), in_tokens("equal"), in_tokens("tie", preferred=0.5)]
    found = agreement(groups, [np.array([1.0, 0.0]), np.zeros(2), np.array([5.0, 0.0])])
    assert found["accuracy"] == 0.75
    assert found["pairs"] == 3


def in_tokens(name: str, preferred: float = 1.0) -> TokenGroup:
    pair = Pair(id=name, chosen=0, rejected=1, preferred=preferred)
    group = Group(
        prompt_id=name, messages=(), response_ids=("a", "b"), texts=("", ""), policies=("p", "q"), pairs=(pair,)
    )
    return TokenGroup(group, np.array([1, 2], np.int32), (np.array([3, 4], np.int32), np.array([5], np.int32)))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"epochs": float("nan")}, "epochs"),
        ({"label_smoothing": 0.5}, "from 0 to below 0.5"),
        ({"quantize": True}, "an adapter"),
        ({"control_policies": True, "heads": "principles"}, "one reward"),
        ({"loss": "davidson", "margin": 1.0}, "bradley-terry or hinge"),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(wrong: dict[str, Any], words: str):
    with pytest.raises(PrefkitError, match=words):
        TrainingSettings(base="smollm2", **wrong).resolved()


def test_the_paper_preset_is_that_of_the_paper():
    settings = TrainingSettings(base="b", preset="paper").resolved()
    assert (settings.epochs, settings.pairs_per_step, settings.learning_rate, settings.max_tokens) == (
        2,
        128,
        9e-6,
        2048,
    )


def test_the_command_trains_and_says_what_it_knows(tmp_path: Path, base: Path, prefkit: Callable[..., Outcome]):
    source, held_out = pairs_file(tmp_path / "pairs.jsonl"), pairs_file(tmp_path / "test.jsonl", 8, seed=1)
    given = ("--base", base, "--out", tmp_path / "rm", "--max-steps", 2, "--learning-rate", 1e-3)
    done = prefkit("train-rm", source, *given, "--held-out", held_out)
    assert done.code == 0, done.err
    assert "36 pairs of 12 prompts, 36 responses" in done.out
    assert "24 held-out pairs" in done.out
    again = prefkit("train-rm", source, *given, "--held-out", held_out)
    assert again.code == 1 and "a finished model" in again.err


def test_a_base_without_a_model_is_one_line(tmp_path: Path, prefkit: Callable[..., Outcome]):
    (tmp_path / "empty").mkdir()
    done = prefkit("train-rm", pairs_file(tmp_path / "p.jsonl"), "--base", tmp_path / "empty", "--out", tmp_path / "rm")
    assert done.code == 1
    assert done.err.startswith(f"Error: {tmp_path / 'empty'}")


def test_each_principle_can_have_a_reward_of_its_own(tmp_path: Path, base: Path, prefkit: Callable[..., Outcome]):
    sample, run = Path(demo.__file__).parent / "sample", tmp_path / "run"
    prefkit("new", run, "--rubric", "psychocounsel")
    for kind, name in (("prompts", "prompts.csv"), ("responses", "responses.jsonl"), ("judgements", "ratings.csv")):
        prefkit("import", kind, run, sample / name)
    prefkit("build-pairs", run, "--test-size", 0.2, "--validation-size", 0.2, "--min-gap", 0.5)
    options = ("--heads", "principles", "--max-tokens", 2000, "--max-steps", 2, "--evaluate-steps", 1)
    done = prefkit("train-rm", run, "--base", base, "--name", "heads", *options)
    assert done.code == 0, done.err
    assert done.out.count("held out: loss") == 2
    info = json.loads((run / "reward-models" / "heads" / "reward.json").read_text())
    assert info["heads"] == ["empathy", "relevance", "clarity", "safety", "exploration", "autonomy", "staging"]
    assert len(info["combine"]) == 7
    assert info["temperature"] != 1.0
    assert "reward-models/    heads: held-out accuracy" in prefkit("status", run).out


def test_options_without_effect_are_refused(tmp_path: Path, prefkit: Callable[..., Outcome]):
    source = pairs_file(tmp_path / "p.jsonl")
    assert prefkit("train-rm", source, "--frozen", "--lora", 4).code == 2
    assert prefkit("train-rm", source, "--layer", 4).code == 2
