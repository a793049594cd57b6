"""A saved reward model gives everyone the same rewards: us, plain transformers, OpenRLHF and RewardBench."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from prefkit.errors import PrefkitError
from prefkit.records import Message
from prefkit.training.card import Card
from prefkit.training.groups import Group
from prefkit.training.reward_info import RewardInfo, read_info, template_digest
from prefkit.training.reward_model import RewardModel, choose_pad_token, save_reward_model
from tests.tiny import Kind, tiny_classifier, tiny_model

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

PROMPT = "I cannot sleep, and I am afraid of tomorrow."
ANSWERS = ["That sounds hard.", "Have you tried not being afraid? It is easy enough, they say.", "Tell me more", "?"]
DIALOGUE = [
    {"role": "user", "content": "Hello."},
    {"role": "assistant", "content": "Good evening."},
    {"role": "user", "content": PROMPT},
]


def saved(folder: Path, kind: Kind = "llama", *, heads: Sequence[str] = (), **options: Any) -> Path:
    """A reward model with random weights."""
    tiny_model(folder / "base", kind, **{name: options.pop(name) for name in ("pad_is_eos", "bos") if name in options})
    model = tiny_classifier(folder / "base", kind, labels=len(heads) or 1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "base")
    fields = {"combine": tuple(1.0 + place for place in range(len(heads))), "mean": 0.5, "std": 2.0} | options
    info = RewardInfo(
        kind="trained", base=str(folder / "base"), template=None, max_tokens=512, heads=tuple(heads), **fields
    )
    save_reward_model(model, tokenizer, folder / "rm", info)
    return folder / "rm"


def plainly(folder: Path, prompt: Any, answers: Sequence[str], model: Any = None) -> Any:
    """What plain transformers reads: a padded batch of templated texts."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = model or transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    texts = tokenizer.apply_chat_template(
        [[*turns, {"role": "assistant", "content": answer}] for answer in answers], tokenize=False
    )
    batch = tokenizer(texts, add_special_tokens=False, padding=True, return_tensors="pt")
    with torch.inference_mode():
        return model(**batch).logits.numpy()


@pytest.mark.parametrize("kind", ["llama", "gemma3", "mistral"])
@pytest.mark.parametrize("prompt", [PROMPT, DIALOGUE], ids=["words", "dialogue"])
def test_rewards_are_those_of_plain_transformers(tmp_path: Path, kind: Kind, prompt: Any) -> None:
    folder = saved(tmp_path, kind)
    found = RewardModel.load(folder).score(prompt, ANSWERS)
    assert found.shape == (4,) and np.ptp(found) > 0.01
    np.testing.assert_allclose(found, plainly(folder, prompt, ANSWERS)[:, 0], atol=1e-5)


def test_an_encoder_is_read_padded_and_scores_as_plain_transformers(tmp_path: Path) -> None:
    tiny_model(tmp_path / "base", "bert")
    model = tiny_classifier(tmp_path / "base", "bert")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "base")
    info = RewardInfo(kind="trained", base="x", template=None, max_tokens=512)
    save_reward_model(model, tokenizer, tmp_path / "rm", info)
    loaded = RewardModel.load(tmp_path / "rm")
    assert loaded.padded
    np.testing.assert_allclose(
        loaded.score(PROMPT, ANSWERS), plainly(tmp_path / "rm", PROMPT, ANSWERS)[:, 0], atol=1e-5
    )


def test_where_padding_ends_texts_another_token_pads_and_rewards_stay(tmp_path: Path) -> None:
    """The template without a newline at its end closes a text with the token that also pads."""
    folder = tiny_model(tmp_path / "base", pad_is_eos=True)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>\n", "<|im_end|>")
    model = tiny_classifier(folder)
    assert model.config.pad_token_id == tokenizer.eos_token_id
    info = RewardInfo(kind="trained", base=str(folder), template=None, max_tokens=512)
    save_reward_model(model, tokenizer, tmp_path / "rm", info)
    config = json.loads((tmp_path / "rm" / "config.json").read_text())
    assert config["pad_token_id"] == transformers.AutoTokenizer.from_pretrained(tmp_path / "rm").pad_token_id != 2
    alone = np.concatenate([plainly(tmp_path / "rm", PROMPT, [answer]) for answer in ANSWERS])
    np.testing.assert_allclose(plainly(tmp_path / "rm", PROMPT, ANSWERS), alone, atol=1e-5)
    np.testing.assert_allclose(RewardModel.load(tmp_path / "rm").score(PROMPT, ANSWERS), alone[:, 0], atol=1e-5)
    ends = tokenizer(ANSWERS[0] + "<|im_end|>")["input_ids"]
    with torch.no_grad():
        at_the_end = model.score(model.model(torch.tensor([ends])).last_hidden_state[0, -1])
        read = model(torch.tensor([ends + [config["pad_token_id"]] * 3])).logits[0]
    np.testing.assert_allclose(read.numpy(), at_the_end.numpy(), atol=1e-4)


def test_a_pad_token_that_ends_no_text_stays(tmp_path: Path) -> None:
    tiny_model(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    config = transformers.AutoConfig.from_pretrained(tmp_path)
    assert choose_pad_token(tokenizer, config) == tokenizer.convert_tokens_to_ids("<pad>") == config.pad_token_id


def test_heads_add_up_to_the_overall_reward(tmp_path: Path) -> None:
    folder = saved(tmp_path, heads=("warm", "safe"))
    model = RewardModel.load(folder)
    found = model.scores(PROMPT, ANSWERS)
    outputs = plainly(folder, PROMPT, ANSWERS)
    np.testing.assert_allclose(found[:, 1:], outputs, atol=1e-5)
    np.testing.assert_allclose(found[:, 0], outputs[:, 0] + 2 * outputs[:, 1], atol=1e-5)
    assert model.heads == ("warm", "safe")
    assert json.loads((folder / "config.json").read_text())["id2label"] == {"0": "warm", "1": "safe"}


@pytest.mark.skipif(os.name == "nt", reason="no umask")
@pytest.mark.parametrize("mask", [0o022, 0o027])
def test_every_file_of_a_model_is_as_open_as_the_umask_lets_it(tmp_path: Path, mask: int) -> None:
    """The weights too, which safetensors makes for their owner alone."""
    before = os.umask(mask)
    try:
        modes = {path.name: path.stat().st_mode & 0o777 for path in saved(tmp_path).iterdir()}
        assert os.umask(mask) == mask
    finally:
        os.umask(before)
    assert "model.safetensors" in modes and set(modes.values()) == {0o666 & ~mask}, modes


def test_normalised_rewards_are_standard_deviations_from_the_training_mean(tmp_path: Path) -> None:
    model = RewardModel.load(saved(tmp_path, mean=0.5, std=2.0))
    raw = model.score(PROMPT, ANSWERS)
    np.testing.assert_allclose(model.score(PROMPT, ANSWERS, normalised=True), (raw - 0.5) / 2.0, atol=1e-6)


def group(prompt: str, *answers: str) -> Group:
    places = tuple(map(str, range(len(answers))))
    return Group(
        prompt_id=prompt,
        messages=(Message(role="user", content=prompt),),
        response_ids=tuple(f"{prompt}/{place}" for place in places),
        texts=answers,
        policies=places,
    )


def test_rewards_do_not_depend_on_the_budget_or_on_other_groups(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    groups = [group(f"{PROMPT} {place}", *ANSWERS[: 1 + place % 4]) for place in range(9)]
    model = RewardModel.load(folder)
    alone = [model.score(one.messages, one.texts) for one in groups]
    for budget in (1, 300, 100_000):
        together = list(RewardModel.load(folder, budget=budget).rewards(iter(groups)))
        assert [found.shape for found in together] == [(1 + place % 4, 1) for place in range(9)]
        np.testing.assert_allclose(np.concatenate(together)[:, 0], np.concatenate(alone), atol=1e-5)


def test_a_prompt_is_cut_for_the_response_that_needs_it_and_what_never_fits_has_no_reward(tmp_path: Path) -> None:
    """The model can hold 128 tokens, a byte each: template and first turn take some of them."""
    tiny_model(tmp_path / "base", max_position_embeddings=128)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "base")
    info = RewardInfo(kind="trained", base="x", template=None, max_tokens=100)
    save_reward_model(tiny_classifier(tmp_path / "base"), tokenizer, tmp_path / "rm", info)
    model = RewardModel.load(tmp_path / "rm")
    found = model.score("y" * 40, ["short", "x" * 80, "z" * 200])
    assert np.isfinite(found[:2]).all() and np.isnan(found[2])  # with no prompt at all, 200 are too many
    assert model.tally == {
        "prompt cut: more tokens than the model can hold": 1,
        "left out: more tokens than the model can hold": 1,
    }
    np.testing.assert_allclose(found[0], model.score("y" * 40, ["short"])[0], atol=1e-5)
    assert model.score("y" * 40, ["x" * 45]) and model.tally["longer than in training"] == 1


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # peft asks for it
def test_adapters_are_merged_or_kept_and_score_alike(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    base = tiny_model(tmp_path / "base")
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    info = RewardInfo(kind="trained", base=str(base), template=None, max_tokens=512)
    config = peft.LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["q_proj"], modules_to_save=["score"])
    for merge in (False, True):
        with torch.random.fork_rng():
            torch.manual_seed(1)
            model = peft.get_peft_model(tiny_classifier(base), config)
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    torch.nn.init.normal_(weight, std=0.5)
        save_reward_model(model.eval(), tokenizer, tmp_path / f"rm-{merge}", info, merge=merge)
    merged = RewardModel.load(tmp_path / "rm-True").score(PROMPT, ANSWERS)
    kept = RewardModel.load(tmp_path / "rm-False").score(PROMPT, ANSWERS)
    assert not (tmp_path / "rm-False" / "model.safetensors").exists()
    np.testing.assert_allclose(merged, kept, atol=1e-5)
    np.testing.assert_allclose(merged, plainly(tmp_path / "rm-True", PROMPT, ANSWERS)[:, 0], atol=1e-5)
    opened = peft.AutoPeftModelForSequenceClassification.from_pretrained(tmp_path / "rm-False", num_labels=1)
    opened.config.pad_token_id = 0
    rewards = plainly(tmp_path / "rm-False", PROMPT, ANSWERS, opened.eval())[:, 0]
    np.testing.assert_allclose(kept, rewards, atol=1e-5)

    shutil.rmtree(base)
    tiny_model(base, hidden_size=16)
    with pytest.raises(PrefkitError, match="adapters"):
        RewardModel.load(tmp_path / "rm-False")


def test_another_chat_template_is_an_error(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    assert read_info(folder).template == template_digest(tokenizer.chat_template)
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_end|>", "<|im_end|> ")
    tokenizer.save_pretrained(folder)
    with pytest.raises(PrefkitError, match="the chat template"):
        RewardModel.load(folder)


def test_a_folder_that_is_no_reward_model_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PrefkitError, match=r"no reward\.json"):
        RewardModel.load(tiny_model(tmp_path))


def test_a_head_without_weights_is_an_error_and_not_made_up(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = saved(tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["score.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(PrefkitError, match=r"score\.weight"):
        RewardModel.load(folder)


def test_a_tokenizer_with_more_tokens_than_embeddings_is_an_error(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"new {place}" for place in range(9)])
    tokenizer.save_pretrained(folder)
    with pytest.raises(PrefkitError, match="269 tokens for 260 embeddings"):
        RewardModel.load(folder)


def test_weights_that_are_no_numbers_are_neither_saved_nor_scored_with(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = saved(tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights["score.weight"][0, 0] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(PrefkitError, match="no numbers"):
        RewardModel.load(folder).score(PROMPT, ANSWERS)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with pytest.raises(PrefkitError, match=r"score\.weight with values that are no numbers"):
        save_reward_model(model, tokenizer, tmp_path / "again", read_info(folder))
    assert not (tmp_path / "again" / "reward.json").exists()


def test_heads_must_be_the_outputs(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    info = msgspec.structs.replace(read_info(folder), heads=("warm", "safe"), combine=(1.0, 1.0))
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with pytest.raises(PrefkitError, match="1 outputs, 2 heads"):
        save_reward_model(model, tokenizer, tmp_path / "again", info)


def test_a_prompt_that_is_no_dialogue_is_an_error(tmp_path: Path) -> None:
    model = RewardModel.load(saved(tmp_path))
    with pytest.raises(PrefkitError, match="the prompt"):
        model.score([{"speaker": "user", "text": "Hello"}], ANSWERS)
    with pytest.raises(PrefkitError, match="no turns"):
        model.score([], ANSWERS)
    assert model.score(PROMPT, []).shape == (0,)


def openrlhf(folder: Path, *, normalise: bool) -> Any:
    """How OpenRLHF opens a reward model: the base class of the config, with a linear head of the name it is told."""
    config = transformers.AutoConfig.from_pretrained(folder)
    base = transformers.AutoModel._model_mapping[type(config)]

    class Opened(base.__base__):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            setattr(self, self.base_model_prefix, base(config))
            setattr(self, config.value_head_prefix, torch.nn.Linear(config.hidden_size, 1, bias=False))
            self.post_init()

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            position = (attention_mask.long().cumsum(-1) - 1).masked_fill_(attention_mask == 0, 1)
            hidden = getattr(self, self.base_model_prefix)(
                input_ids, attention_mask=attention_mask, position_ids=position
            ).last_hidden_state
            values = getattr(self, self.config.value_head_prefix)(hidden).squeeze(-1)
            last = attention_mask.size(1) - 1 - attention_mask.long().fliplr().argmax(1, keepdim=True)
            reward = values.gather(1, last).squeeze(1)
            return (reward - self.config.mean) / self.config.std if normalise else reward

    return Opened.from_pretrained(folder, config=config, dtype=torch.float32).eval()


@pytest.mark.parametrize("normalise", [False, True])
def test_openrlhf_reads_the_same_rewards(tmp_path: Path, normalise: bool) -> None:
    folder = saved(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
    texts = tokenizer.apply_chat_template(
        [[{"role": "user", "content": PROMPT}, {"role": "assistant", "content": answer}] for answer in ANSWERS],
        tokenize=False,
    )
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.inference_mode():
        found = openrlhf(folder, normalise=normalise)(batch["input_ids"], batch["attention_mask"])
    mine = RewardModel.load(folder).score(PROMPT, ANSWERS, normalised=normalise)
    np.testing.assert_allclose(found.numpy(), mine, atol=1e-5)


def test_the_pipeline_that_rewardbench_uses_gives_raw_rewards(tmp_path: Path) -> None:
    folder = saved(tmp_path)
    classify = transformers.pipeline("text-classification", model=str(folder), device="cpu")
    texts = classify.tokenizer.apply_chat_template(
        [[{"role": "user", "content": PROMPT}, {"role": "assistant", "content": answer}] for answer in ANSWERS],
        tokenize=False,
    )
    found = [one["score"] for one in classify(texts, batch_size=2)]
    np.testing.assert_allclose(found, RewardModel.load(folder).score(PROMPT, ANSWERS), atol=1e-5)


def test_the_card_says_what_was_handed_in(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "base")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    info = RewardInfo(kind="trained", base="/home/anna/tiny", template=None, max_tokens=512, mean=0.25)
    card = Card(
        title="Ours",
        base="smollm2",
        licence="apache-2.0",
        data={"training pairs": 2811},
        figures=[{"measure": "accuracy", "value": "0.91"}],
        notes=["Trained on one clinic's letters."],
    )
    written = save_reward_model(tiny_classifier(folder), tokenizer, tmp_path / "rm", info, card=card)
    text = (tmp_path / "rm" / "README.md").read_text()
    assert text.startswith("---\nlicense: apache-2.0\n") and "# Ours\n" in text
    assert "base_model: HuggingFaceTB/SmolLM2-135M-Instruct\n" in text
    assert "Made from `tiny`" in text and "anna" not in text
    for part in ("| training pairs | 2,811 |", "| accuracy | 0.91 |", "one clinic's letters", str(written.template)):
        assert part in text


def made_run(folder: Path) -> Path:
    """Three prompts with four, four and two responses."""
    from prefkit.records import Prompt, Response
    from prefkit.run import Run
    from tests.making import ONE

    run = Run.create(folder, ONE)
    asked = {"p1": 4, "p2": 4, "p3": 2}
    run.replace(
        Prompt, [Prompt(id=name, messages=(Message(role="user", content=f"{PROMPT} {name}"),)) for name in asked]
    )
    run.replace(
        Response,
        [
            Response(id=f"{name}/{place}", prompt_id=name, policy="ABCD"[place], text=f"{ANSWERS[place]} {name}")
            for name, count in asked.items()
            for place in range(count)
        ],
    )
    return folder


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_score_writes_each_reward_once_and_goes_on_where_it_was_stopped(prefkit: Any, tmp_path: Path) -> None:
    folder, run = saved(tmp_path), made_run(tmp_path / "run")
    done = prefkit("score", run, "--rm", folder)
    assert (done.code, done.err) == (0, "")
    assert done.out == f"{run}/rewards.jsonl: 10 new rewards by rm\n"
    whole = (run / "rewards.jsonl").read_text()
    rewards = {one["response_id"]: one for one in lines(run / "rewards.jsonl")}
    model = RewardModel.load(folder)
    mine = model.score(f"{PROMPT} p2", [f"{answer} p2" for answer in ANSWERS])
    assert [rewards[f"p2/{place}"]["reward"] for place in range(4)] == pytest.approx(mine.tolist(), abs=1e-5)
    assert rewards["p1/0"]["normalised"] == pytest.approx((rewards["p1/0"]["reward"] - 0.5) / 2, abs=1e-5)

    (run / "rewards.jsonl").write_text(whole[: len(whole) // 2])  # killed in the middle of a line
    assert " from before" in prefkit("score", run, "--rm", folder).out
    again = lines(run / "rewards.jsonl")
    assert sorted(one["id"] for one in again) == sorted(one["id"] for one in rewards.values())
    assert prefkit("score", run, "--rm", folder).out.endswith("0 new rewards by rm, 10 from before\n")


def test_a_reworded_response_and_another_model_are_scored_anew(prefkit: Any, tmp_path: Path) -> None:
    folder, run = saved(tmp_path), made_run(tmp_path / "run")
    prefkit("score", run, "--rm", folder)
    responses = run / "responses.jsonl"
    responses.write_text(responses.read_text().replace(f"{ANSWERS[0]} p1", "Reworded."))
    assert "1 new rewards by rm, 9 from before" in prefkit("score", run, "--rm", folder).out
    info = msgspec.structs.replace(read_info(folder), temperature=3.0)
    (folder / "reward.json").write_bytes(msgspec.json.encode(info))
    assert "0 new rewards" in prefkit("score", run, "--rm", folder).out  # calibrating changes no reward
    (run / "reward-models").mkdir()
    other = saved(tmp_path / "other", mean=1.5).rename(run / "reward-models" / "mine")
    assert other.exists()
    assert "10 new rewards by mine, 0" not in (said := prefkit("score", run, "--rm", "mine").out)
    assert "10 new rewards by mine" in said


def test_the_best_of_n_are_written_as_prompt_and_completion(prefkit: Any, tmp_path: Path) -> None:
    folder, run = saved(tmp_path), made_run(tmp_path / "run")
    done = prefkit("score", run, "--rm", folder, "--best-of", 3)
    rewards = {one["response_id"]: one["reward"] for one in lines(run / "rewards.jsonl")}
    best = lines(run / "best-of-3.jsonl")
    for name, count, row in zip(("p1", "p2", "p3"), (3, 3, 2), best, strict=True):
        winner = max((f"{name}/{place}" for place in range(count)), key=rewards.__getitem__)
        assert (row["prompt_id"], row["response_id"], row["of"]) == (name, winner, count)
        assert row["prompt"] == [{"role": "user", "content": f"{PROMPT} {name}"}]
        answer = f"{ANSWERS[int(winner[-1])]} {name}"
        assert row["completion"] == [{"role": "assistant", "content": answer}]
    normalised = np.mean([row["reward"] for row in best]) / 2 - 0.25
    assert f"best-of-3.jsonl: 3 prompts; normalised reward {normalised:+.2f} of the best" in done.out
    assert "1 prompts have fewer than 3 responses" in done.out


def test_a_file_of_preferences_is_scored_beside_it(prefkit: Any, tmp_path: Path) -> None:
    folder, file = saved(tmp_path), tmp_path / "pairs.jsonl"
    rows = [{"prompt": PROMPT, "chosen": ANSWERS[0], "rejected": ANSWERS[1]}]
    file.write_text("\n".join(map(json.dumps, rows)))
    done = prefkit("score", file, "--rm", folder)
    assert done.code == 0, done.err
    found = [one["reward"] for one in lines(tmp_path / "pairs.rewards.jsonl")]
    assert found == pytest.approx(RewardModel.load(folder).score(PROMPT, ANSWERS[:2]).tolist(), abs=1e-5)


def test_a_model_that_is_not_there_is_one_message(prefkit: Any, tmp_path: Path) -> None:
    done = prefkit("score", made_run(tmp_path / "run"), "--rm", "nowhere")
    assert done.code == 1 and done.err.startswith("Error: nowhere: found no reward.json")
    assert not (tmp_path / "run" / "rewards.jsonl").exists()


def test_a_push_uploads_what_opens_the_model_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is stood in for: what would be uploaded is what the patterns let through."""
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    from prefkit.training.hub import push_reward_model

    folder = saved(tmp_path)
    for name in ("training.json", "evaluation.json", "rewards.jsonl", "checkpoint-1/model.safetensors"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    sent: list[str] = []

    class Hub:
        def create_repo(self, repository: str, *, private: bool, exist_ok: bool) -> str:
            assert private and exist_ok
            return f"hub/{repository}"

        def upload_folder(self, *, repo_id: str, folder_path: Path, allow_patterns: Any, ignore_patterns: Any) -> None:
            there = [str(path.relative_to(folder_path)) for path in folder_path.rglob("*") if path.is_file()]
            sent.extend(filter_repo_objects(there, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns))

    monkeypatch.setattr(huggingface_hub, "HfApi", Hub)
    assert push_reward_model(folder, "me/rm", private=True) == "hub/me/rm"
    must = {"README.md", "reward.json", "config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"}
    assert must <= set(sent)
    assert not [name for name in sent if name.startswith(("training", "evaluation", "rewards", "checkpoint"))]
