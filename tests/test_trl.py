"""trl takes the dataset as it is: a two-layer Llama and a byte tokenizer, made here, are trained for two steps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from making import TWO, answer, make_run, rated, save_byte_tokenizer

from prefkit.pairs.build import build_pairs
from prefkit.pairs.settings import PairSettings
from prefkit.records import Message

os.environ.setdefault("OMP_NUM_THREADS", "1")

# trl sets and asks for gradient_checkpointing, which transformers calls activation_checkpointing by now.
pytestmark = pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing` is deprecated:FutureWarning")

N_PROMPTS = 8


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_byte_tokenizer(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module", params=["conversational", "plain"])
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The splits of a dataset in one of the formats; one prompt is a dialogue."""
    from datasets import load_dataset

    folder = tmp_path_factory.mktemp(request.param)
    judged = rated(
        {
            f"p{n}/{name}": {"warm": score, "safe": score}
            for n in range(N_PROMPTS)
            for name, score in zip("ABC", (5, 3, 1), strict=True)
        }
    )
    dialogue = [("user", "I can't sleep."), ("assistant", "Since when?"), ("user", "Since June.")]
    prompts = {"p0": [Message(role=role, content=content) for role, content in dialogue]}
    run = make_run(folder / "run", judged, rubric=TWO, prompts=prompts)
    build_pairs(run, PairSettings(format=request.param, test_size=2.0))
    splits = load_dataset(str(run.path / "dataset"), cache_dir=str(folder / "cache"))
    assert {name: len(rows) for name, rows in splits.items()} == {"train": (N_PROMPTS - 2) * 3, "test": 2}
    return splits


def tiny(head: str, tokenizer: Any, folder: Path) -> Any:
    """A two-layer Llama with random weights, saved and loaded, so that trl can load it again by its path."""
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    kind = getattr(transformers, head)
    kind(config).save_pretrained(folder)
    return kind.from_pretrained(folder)


def settings(folder: Path) -> dict[str, Any]:
    return {
        "output_dir": str(folder / "trained"),
        "max_steps": 2,
        "per_device_train_batch_size": 2,
        "max_length": 512,
        "bf16": False,
        "gradient_checkpointing": False,
        "use_cpu": True,
        "report_to": [],
        "save_strategy": "no",
        "logging_steps": 1,
    }


@pytest.mark.parametrize("kind", ["reward", "dpo"])
def test_trl_prepares_every_row_and_trains(data, kind, tokenizer_folder, tmp_path):
    import torch
    import trl
    from transformers import AutoTokenizer

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    trainer_of, config_of, head = {
        "reward": (trl.RewardTrainer, trl.RewardConfig, "LlamaForSequenceClassification"),
        "dpo": (trl.DPOTrainer, trl.DPOConfig, "LlamaForCausalLM"),
    }[kind]
    trainer = trainer_of(
        model=tiny(head, tokenizer, tmp_path / "model"),
        args=config_of(**settings(tmp_path)),
        train_dataset=data["train"],
        eval_dataset=data["test"],
        processing_class=tokenizer,
    )
    assert len(trainer.train_dataset) == len(data["train"])
    assert len(trainer.eval_dataset) == len(data["test"])
    for tokens, row in zip(trainer.train_dataset["chosen_ids"], data["train"], strict=True):
        assert tokenizer.decode(tokens).removesuffix("<eos>").endswith(answer(row["chosen_id"]))
    trainer.train()
    assert trainer.state.global_step == 2
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 2 and all(0 < loss < 10 for loss in losses)
