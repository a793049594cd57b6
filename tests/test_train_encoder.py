"""``prefkit train-rm`` on an encoder: padded rows, a pair of texts for a prompt and a response, its own window."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Outcome
from tiny import Kind, tiny_config, tiny_encoder_tokenizer

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

WINDOW = 96
WORDS = ("I hear you", "As you like", "Whatever")


def encoder(folder: Path, kind: Kind, **options: Any) -> Path:
    """A tiny encoder that reads a prompt and its response as a pair of texts."""
    two_types = kind == "bert"
    tiny_encoder_tokenizer(folder, two_types=two_types, model_max_length=options.pop("model_max_length", None))
    special = {"cls_token_id": 1, "sep_token_id": 2} if kind == "modernbert" else {}
    config = tiny_config(kind, max_position_embeddings=options.pop("max_position_embeddings", WINDOW), **special)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.AutoModel.from_config(config).save_pretrained(folder)
    return folder


def pairs_file(path: Path, prompts: range, long: tuple[int, ...] = ()) -> Path:
    """A kind, a middling and an unkind response to each prompt, in two pairs; prompts in ``long`` do not fit."""
    with path.open("w") as file:
        for number in prompts:
            prompt = f"Client {number}?" + " hm" * (WINDOW if number in long else 0)
            for better, worse in ((0, 1), (1, 2)):
                row = {"prompt": prompt, "chosen": f"{WORDS[better]} {number}", "rejected": f"{WORDS[worse]} {number}"}
                file.write(json.dumps(row) + "\n")
    return path


def plainly(folder: Path, rows: list[tuple[str, str]]) -> Any:
    """What transformers makes of prompts and responses in a padded batch."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    batch = tokenizer([one for one, _ in rows], [two for _, two in rows], padding=True, return_tensors="pt")
    with torch.inference_mode():
        return model(**batch).logits[:, 0].numpy()


def rewards(path: Path) -> list[float]:
    return [json.loads(line)["reward"] for line in path.read_text().splitlines()]


def train(prefkit: Any, folder: Path, source: Path, base: Path, *more: str) -> Outcome:
    outcome: Outcome = prefkit(
        "train-rm", source, "--base", base, "--out", folder / "rm", "--batch", "4", "--epochs", "4",
        "--learning-rate", "3e-3", "--schedule", "constant", *more,
    )  # fmt: skip
    return outcome


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_an_encoder_is_trained_padded_and_everyone_reads_the_same_rewards(prefkit: Any, tmp_path: Path, kind: Kind):
    source = pairs_file(tmp_path / "pairs.jsonl", range(12))
    held_out = pairs_file(tmp_path / "test.jsonl", range(20, 26))
    trained = train(prefkit, tmp_path, source, encoder(tmp_path / "base", kind), "--held-out", str(held_out))
    assert trained.code == 0, trained.err
    assert "a prompt read again with each response" in trained.out
    assert "rows are padded, as it has no `score` head on a base model: an encoder" in trained.out
    done = json.loads((tmp_path / "rm" / "training.json").read_text())
    losses = [line["loss"] for line in done["history"] if "loss" in line]
    assert losses[-1] < losses[0] / 2
    assert float(done["held_out"][0]["accuracy"].split()[0]) > 90

    scored = prefkit("score", held_out, "--rm", tmp_path / "rm")
    assert "texts were padded" in scored.out, scored.err
    found = rewards(tmp_path / "test.rewards.jsonl")
    rows = [(f"Client {number}?", f"{word} {number}") for number in range(20, 26) for word in WORDS]
    np.testing.assert_allclose(found, plainly(tmp_path / "rm", rows), atol=1e-5)
    assert np.ptp(found) > 0.1
    measured = prefkit("eval-rm", held_out, "--rm", tmp_path / "rm", "--no-baselines")
    assert (measured.code, "12 pairs of 6 prompts" in measured.out) == (0, True), measured.err


@pytest.mark.parametrize("limit", [{}, {"max_position_embeddings": WINDOW + 2, "model_max_length": WINDOW}])
def test_texts_that_an_encoder_cannot_hold_are_left_out_of_training_and_cut_for_scoring(
    prefkit: Any, tmp_path: Path, limit: dict[str, int]
):
    """Its positions bound them, or its tokenizer: RoBERTa keeps two of its 514 positions for padding."""
    source = pairs_file(tmp_path / "pairs.jsonl", range(6), long=(2,))
    trained = train(prefkit, tmp_path, source, encoder(tmp_path / "base", "bert", **limit), "--max-steps", "2")
    assert trained.code == 0, trained.err
    assert f"texts of at most {WINDOW} tokens: {tmp_path / 'base'} can hold no more" in trained.out
    assert f"2 pairs over {WINDOW} tokens, left out" in trained.out
    assert json.loads((tmp_path / "rm" / "reward.json").read_text())["max_tokens"] == WINDOW
    scored = prefkit("score", source, "--rm", tmp_path / "rm")
    assert f"{source.stem}.rewards.jsonl: 18 new rewards by rm" in scored.out, scored.err


def test_adapters_on_an_encoder_are_merged_into_what_plain_transformers_reads(prefkit: Any, tmp_path: Path):
    source = pairs_file(tmp_path / "pairs.jsonl", range(4))
    trained = train(prefkit, tmp_path, source, encoder(tmp_path / "base", "bert"), "--lora", "4", "--max-steps", "3")
    assert trained.code == 0, trained.err
    assert prefkit("score", source, "--rm", tmp_path / "rm").code == 0
    found = rewards(tmp_path / "pairs.rewards.jsonl")
    rows = [(f"Client {number}?", f"{word} {number}") for number in range(4) for word in WORDS]
    np.testing.assert_allclose(found, plainly(tmp_path / "rm", rows), atol=1e-5)
