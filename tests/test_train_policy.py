"""``prefkit train-policy``: what it learns, what it sees on the way and leaves behind; one that was cut ends as one
that was not."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Outcome
from tiny import tiny_model
from train_cut import Killed, die, in_a_process_of_its_own, pairs_file

from prefkit.errors import PrefkitError
from prefkit.policies.settings import PolicySettings
from prefkit.policies.watching import Look, read_looks
from prefkit.training.groups import Group, Pair
from prefkit.training.training_pairs import TrainingData

SETTINGS: dict[str, Any] = {
    "pairs_per_step": 8, "learning_rate": 3e-3, "max_tokens": 400, "row_tokens": 512, "epochs": 2.0,
    "schedule": "constant", "check_tokens": 12, "check_prompts": 6,
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PREFKIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("base"))


def train(source: Path, folder: Path, base: Path, **more: Any) -> Any:
    from prefkit.policies.training import train_policy

    lines: list[str] = []
    told = {name: more.pop(name) for name in ("overwrite", "reward_model") if name in more}
    data = TrainingData(source=source, split=None, held_out=more.pop("held_out", None))
    settings = PolicySettings(base=str(base), **SETTINGS | more)
    return train_policy(data, settings, folder, say=lines.append, **told), lines


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("files")
    return pairs_file(folder / "pairs.jsonl", 16), pairs_file(folder / "test.jsonl", 8, seed=1)


def done(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "training.json").read_text())
    return found


@pytest.mark.parametrize("method", ["dpo", "ipo", "orpo", "simpo", "kto"])
def test_a_policy_learns_what_is_preferred(tmp_path: Path, base: Path, files: tuple[Path, Path], method: str):
    trained, lines = train(files[0], tmp_path / "policy", base, held_out=files[1], method=method)
    first, last = trained.looks[0], trained.looks[-1]
    assert last.held_out["accuracy"] > max(0.9, first.held_out["accuracy"])
    if method in ("dpo", "ipo", "kto"):
        assert first.held_out["accuracy"] == 0.5, "before training no response has gained anything"
    assert last.held_out["loss"] < first.held_out["loss"]
    assert lines[0].startswith(f"{method}: 48 pairs of 16 prompts, 48 responses")
    assert done(tmp_path / "policy")["steps"] == trained.steps == 12
    assert [look.step for look in trained.looks] == [0, 3, 6, 9, 12]
    assert not (tmp_path / "policy" / "checkpoints").exists()


def test_supervised_training_makes_what_was_preferred_likely(tmp_path: Path, base: Path, files: tuple[Path, Path]):
    trained, lines = train(files[0], tmp_path / "policy", base, held_out=files[1], method="sft")
    assert lines[0].startswith("sft: 16 prompts, 16 responses")
    assert trained.looks[-1].held_out["nll"] < 0.7 * trained.looks[0].held_out["nll"]


def test_the_saved_policy_says_what_the_look_says(tmp_path: Path, base: Path, files: tuple[Path, Path]):
    """Its mean log-probability of the held-out chosen responses, by plain transformers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    trained, _ = train(files[0], tmp_path / "policy", base, held_out=files[1], method="orpo")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "policy")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "policy")
    said = []
    for line in files[1].read_text().splitlines():
        row = json.loads(line)
        asked = [{"role": "user", "content": row["prompt"]}]
        before = tokenizer.apply_chat_template(asked, add_generation_prompt=True, return_dict=False)
        whole = tokenizer.apply_chat_template(
            [*asked, {"role": "assistant", "content": row["chosen"]}], return_dict=False
        )
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([whole])).logits[0, :-1].log_softmax(-1)
        said.append(float(logits.gather(-1, torch.tensor(whole[1:])[:, None])[len(before) - 1 :].sum()))
    kept = next(look for look in trained.looks if look.step == trained.kept)
    assert kept.held_out["chosen"] == pytest.approx(np.mean(said), rel=1e-4)


def test_the_weights_of_the_best_look_are_kept_and_not_those_of_the_last_step(
    tmp_path: Path, base: Path, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
):
    from safetensors.torch import load_file

    worth = Look.worth
    monkeypatch.setattr(Look, "worth", lambda self: (1.0,) if self.step == 6 else worth(self)[:0])
    told = {"held_out": files[1], "warmup": 0.0, "check_steps": 3}
    best, _ = train(files[0], tmp_path / "best", base, **told)
    assert best.kept == done(tmp_path / "best")["kept_step"] == 6
    train(files[0], tmp_path / "last", base, keep="last", **told)
    train(files[0], tmp_path / "short", base, keep="last", max_steps=6, **told)
    weights = {name: load_file(tmp_path / name / "model.safetensors") for name in ("best", "last", "short")}
    for name, weight in weights["best"].items():
        assert weight.equal(weights["short"][name])
    assert any(not weight.equal(weights["last"][name]) for name, weight in weights["best"].items())
    assert not (tmp_path / "best" / "best.safetensors").exists()


def between_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the eighth step, after a checkpoint at the sixth."""
    from prefkit.policies.policy_trainer import PackedPolicyTrainer

    step = PackedPolicyTrainer.training_step
    monkeypatch.setattr(
        PackedPolicyTrainer,
        "training_step",
        lambda self, *args: die() if self.state.global_step == 7 else step(self, *args),
    )


def while_it_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the second look, with the weights of a better one half in their place."""
    from prefkit.policies import watching

    monkeypatch.setattr(watching, "put_in_place", lambda part, path: die() if path.exists() else part.rename(path))


def before_it_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind the last step, with the weights in their place and nothing that says so."""
    from prefkit.policies import finishing

    monkeypatch.setattr(finishing, "_write_done", die)


CUT = {"save_steps": 3, "check_steps": 4}


@pytest.fixture(scope="module")
def uncut(tmp_path_factory: pytest.TempPathFactory, base: Path, files: tuple[Path, Path]) -> Path:
    folder = tmp_path_factory.mktemp("uncut") / "policy"
    in_a_process_of_its_own(lambda: train(files[0], folder, base, held_out=files[1], **CUT))
    return folder


@pytest.mark.parametrize("moment", [between_checkpoints, while_it_looks, before_it_is_whole])
def test_a_training_that_is_killed_ends_in_the_same_policy_and_the_same_looks(
    tmp_path: Path, base: Path, files: tuple[Path, Path], uncut: Path, moment: Callable[[pytest.MonkeyPatch], None]
):
    folder = tmp_path / "policy"
    with pytest.MonkeyPatch.context() as patched:
        moment(patched)
        with pytest.raises(Killed):
            in_a_process_of_its_own(lambda: train(files[0], folder, base, held_out=files[1], **CUT))
    assert not (folder / "training.json").exists()
    in_a_process_of_its_own(lambda: train(files[0], folder, base, held_out=files[1], **CUT))
    for name in ("model.safetensors", "looks.jsonl"):
        assert (folder / name).read_bytes() == (uncut / name).read_bytes()
    resumed = done(folder)["resumed_after_step"]
    assert resumed == {between_checkpoints: 6, while_it_looks: 6, before_it_is_whole: 12}[moment]


def test_the_reference_is_asked_once_for_the_same_pairs(tmp_path: Path, base: Path, files: tuple[Path, Path]):
    other = tiny_model(tmp_path / "other", seed=3)
    _, first = train(files[0], tmp_path / "one", other, max_steps=1)
    _, second = train(files[0], tmp_path / "two", other, max_steps=1, beta=0.5)
    assert any("is read first" in line for line in first)
    assert not any("is read first" in line for line in second)
    losses = [done(tmp_path / name)["history"][0]["loss"] for name in ("one", "two")]
    assert losses == pytest.approx([np.log(2)] * 2, abs=1e-5)


def test_another_model_can_be_the_reference(tmp_path: Path, base: Path, files: tuple[Path, Path]):
    """The loss of the first step is that of the log-ratio to it, which is not 0."""
    other = tiny_model(tmp_path / "other", seed=5)
    train(files[0], tmp_path / "policy", base, max_steps=1, reference=str(other))
    train(files[0], tmp_path / "turned", other, max_steps=1, reference=str(base))
    first, turned = (done(tmp_path / name)["history"][0]["margin"] for name in ("policy", "turned"))
    assert abs(first) > 0.01 and first == pytest.approx(-turned, rel=1e-3)
    with pytest.raises(PrefkitError, match="which compare with one"):
        train(files[0], tmp_path / "none", base, method="orpo", reference=str(other))


def test_two_stages_are_two_policies_the_second_from_the_first(tmp_path: Path, base: Path, files: tuple[Path, Path]):
    folder = tmp_path / "policy"
    options = {"method": "orpo", "sft_first": 1.0, "held_out": files[1], "max_steps": 4}
    trained, _ = train(files[0], folder, base, **options)
    before = done(tmp_path / "policy-sft")
    assert before["settings"]["method"] == "sft" and before["settings"]["learning_rate"] == 2e-5
    assert done(folder)["settings"]["base"] == str(tmp_path / "policy-sft")
    assert trained.looks[0].held_out["nll"] > trained.looks[-1].held_out["nll"]
    for path in folder.iterdir():
        path.unlink()
    _, again = train(files[0], folder, base, **options)
    assert again[0] == f"{tmp_path / 'policy-sft'}: done before"


def test_an_adapter_is_merged_into_a_policy_that_stands_alone(tmp_path: Path, base: Path, files: tuple[Path, Path]):
    from transformers import AutoModelForCausalLM

    train(files[0], tmp_path / "policy", base, lora=4, max_steps=3, freeze_layers=1)
    assert not list((tmp_path / "policy").glob("adapter*"))
    before = AutoModelForCausalLM.from_pretrained(base).state_dict()
    after = AutoModelForCausalLM.from_pretrained(tmp_path / "policy").state_dict()
    changed = {name for name, weight in after.items() if not weight.equal(before[name])}
    assert changed and {name.split(".")[2] for name in changed} == {"1"}


def test_a_reward_model_says_how_often_it_prefers_the_policy_to_the_start(
    tmp_path: Path, base: Path, files: tuple[Path, Path]
):
    from test_train_rm import train as train_reward_model

    train_reward_model(files[0], tmp_path / "rm", base, max_steps=2)
    trained, lines = train(
        files[0], tmp_path / "policy", base, held_out=files[1], reward_model=tmp_path / "rm", max_steps=2
    )
    assert trained.looks[0].win_rate is None
    rate = trained.looks[-1].win_rate
    assert rate is not None and rate.n == 6 and 0 <= rate.low <= rate.value <= rate.high <= 1
    assert any("win rate" in line for line in lines)


def test_degenerate_text_is_flagged_while_the_pairs_look_perfect_and_ends_the_training(
    tmp_path: Path, files: tuple[Path, Path]
):
    """A base that writes sentences, and a rate a thousand times too high."""
    draw = random.Random(0)
    words = [
        "I",
        "hear",
        "how",
        "hard",
        "this",
        "week",
        "was",
        "for",
        "you",
        "and",
        "wonder",
        "what",
        "would",
        "help",
        "today",
    ]
    sentences = [{"prompt": f"Client {n}?", "completion": " ".join(draw.sample(words, 8))} for n in range(60)]
    source = tmp_path / "sentences.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in sentences))
    options = {"check_tokens": 40, "check_prompts": 16}
    train(source, tmp_path / "base", tiny_model(tmp_path / "tiny", hidden_size=96, intermediate_size=192), method="sft",
          imitate="all", epochs=40.0, learning_rate=5e-3, check_steps=0, **options)  # fmt: skip
    trained, lines = train(
        files[0], tmp_path / "policy", tmp_path / "base", held_out=pairs_file(tmp_path / "t.jsonl", 20, seed=1),
        learning_rate=0.1, epochs=20.0, check_steps=10, stop_when_degenerate=True, **options,
    )  # fmt: skip
    last = trained.looks[-1]
    assert last.health.flagged and last.held_out["accuracy"] > 0.9
    assert trained.steps < 120
    assert any("degenerate" in line for line in lines)
    assert any("The rewards look healthy and the text does not" in note for note in trained.notes)


@pytest.mark.parametrize(("method", "flagged"), [("dpo", True), ("sft", False)])
def test_a_policy_to_which_the_words_of_the_start_are_impossible_is_flagged_unless_it_was_to_learn_others(
    tmp_path: Path, base: Path, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, method: str, flagged: bool
):
    from prefkit.policies import watching

    monkeypatch.setattr(watching, "LOST", 0.01)
    trained, _ = train(files[0], tmp_path / "policy", base, held_out=files[1], method=method, warmup=0.0, max_steps=3)
    assert any("of the start's answers has lost" in why for why in trained.looks[-1].health.why) == flagged
    assert trained.looks[0].health.why == ()


def test_patience_ends_a_training_that_does_not_get_better(
    tmp_path: Path, base: Path, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Look, "worth", lambda self: (-float(self.step),))
    trained, _ = train(files[0], tmp_path / "policy", base, held_out=files[1], check_steps=2, patience=2)
    assert trained.steps == 6 and trained.kept == 2


def group(*pairs: tuple[int, int]) -> Group:
    names = ("a", "b", "c")
    return Group(
        prompt_id="p", messages=(), response_ids=names, texts=names, policies=names,
        pairs=tuple(Pair(id=str(n), chosen=left, rejected=right) for n, (left, right) in enumerate(pairs)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("imitate", "pairs", "texts"),
    [
        ("best", [(1, 0), (2, 0), (2, 1)], ["c"]),
        ("chosen", [(1, 0), (2, 0), (2, 1)], ["b", "c"]),
        ("best", [(0, 1), (1, 2), (2, 0)], ["a"]),
        ("all", [], ["a", "b", "c"]),
    ],
)
def test_what_is_imitated(imitate: Any, pairs: list[tuple[int, int]], texts: list[str]):
    from prefkit.policies.policy_data import imitated

    (found,) = imitated([group(*pairs)], imitate, Counter())
    assert list(found.texts) == texts and not found.pairs


def test_a_prompt_without_a_preferred_response_is_not_imitated_and_counted():
    from prefkit.policies.policy_data import imitated

    tally: Counter[str] = Counter()
    assert not list(imitated([group()], "best", tally))
    assert tally == {"prompts with no preferred response, not imitated": 1}


def test_the_command_trains_says_what_it_saw_and_goes_no_second_time(
    tmp_path: Path, base: Path, files: tuple[Path, Path], prefkit: Callable[..., Outcome]
):
    run = tmp_path / "run"
    prefkit("new", run, "--rubric", "psychocounsel")
    given = ("--base", base, "--out", run / "policies" / "first", "--max-steps", 2, "--learning-rate", 1e-3,
             "--check-tokens", 8, "--check-prompts", 4, "--held-out", files[1])  # fmt: skip
    made = prefkit("train-policy", files[0], *given)
    assert made.code == 0, made.err
    assert "48 pairs of 16 prompts" in made.out and "nats from the start" in made.out
    looks = read_looks(run / "policies" / "first" / "looks.jsonl")
    assert len(looks) == 3
    kept = next(look for look in looks if look.step == done(run / "policies" / "first")["kept_step"])
    told = f"policies/         first: held-out accuracy {kept.held_out['accuracy']:.1%}"
    assert told in prefkit("status", run).out
    again = prefkit("train-policy", files[0], *given)
    assert again.code == 1 and "a finished model" in again.err


def test_a_tokenizer_without_a_chat_template_is_one_line(
    tmp_path: Path, files: tuple[Path, Path], prefkit: Callable[..., Outcome]
):
    from tiny import tiny_tokenizer

    base = tiny_model(tmp_path / "base")
    for path in (*base.glob("tokenizer*"), *base.glob("chat_template*")):
        path.unlink()
    tiny_tokenizer(base, template=None)
    made = prefkit("train-policy", files[0], "--base", base, "--out", tmp_path / "policy")
    assert made.code == 1 and "chat template" in made.err
    assert not (tmp_path / "policy" / "begun.json").exists()


def test_an_adapter_is_no_base(tmp_path: Path, base: Path, files: tuple[Path, Path]):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(PrefkitError, match="an adapter alone"):
        train(files[0], tmp_path / "policy", tmp_path / "adapter")


def test_a_folder_that_is_no_reward_model_is_refused_before_training(
    tmp_path: Path, base: Path, files: tuple[Path, Path]
):
    (tmp_path / "rm").mkdir()
    with pytest.raises(PrefkitError, match=r"no reward\.json"):
        train(files[0], tmp_path / "policy", base, reward_model=tmp_path / "rm")


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"beta": float("inf")}, "beta"),
        ({"method": "orpo", "weighted": True}, "whose variants they are"),
        ({"length_alpha": 2.0}, "from 0 to 1"),
        ({"quantize": True}, "an adapter"),
        ({"quantize": True, "lora": 4, "sft_first": 1.0}, "two stages"),
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(wrong: dict[str, Any], words: str):
    with pytest.raises(PrefkitError, match=words):
        PolicySettings(base="smollm2", **wrong).resolved()
