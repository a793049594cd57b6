"""prefkit's trainer beside trl's RewardTrainer: what both learn, how fast, in how much memory.

    PREFKIT_DATA=FOLDER python -m benchmarks.reward_parts.beside_trl [--base BASE] [--layers N]

chatpsychiatrist, each trainer in a process of its own, on one thread, in float32. The same pairs in the same optimiser
steps from the same weights: one pair for each of many prompts, then all pairs of a few prompts with five responses: two
prompts of 4 pairs to one of 8, which fill steps of 8, and are 5.3 pairs a prompt as in the whole set. trl at several
batch sizes, and with texts of like length together. CPU seconds are those of ``train()``. Where trl reads the steps in
our order, the courses of the loss and the rewards at the end are compared. Whether both end at the same accuracy is
``reward_parts.three_seeds``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.proof import Check, report
from benchmarks.reward_parts.frozen import chatpsychiatrist
from benchmarks.reward_parts.packed import with_one_pair
from prefkit.training.groups import Group
from prefkit.training.linear import prompt_folds

RATE = 3e-5
MAX_TOKENS = 1024
NEAR = 1e-3
"""How far the loss of a step may be from trl's, in nats: sums in another order, and what AdamW makes of them."""


@dataclass(frozen=True)
class Job:
    """What a worker does.

    Args:
        data: ``one`` pair of each prompt, the whole ``grid`` of a few prompts, or ``rest``: prompts outside of a fold.
        trainer: ``prefkit`` or ``trl``.
        batch: pairs in trl's batch.
        order: of trl's batches: ``sequential``, the order of our steps; ``random``; ``group_by_length``.
        pairs: how many are read, about.
        step: pairs in an optimiser step.
        rate: the learning rate, at its highest.
    """

    data: str
    trainer: str
    base: str
    pairs: int
    step: int
    layers: int | None = None
    batch: int = 4
    order: str = "sequential"
    seed: int = 0
    rate: float = RATE

    @property
    def name(self) -> str:
        """For the table."""
        how = {"sequential": "", "random": "", "group_by_length": ", like lengths together"}[self.order]
        return "prefkit" if self.trainer == "prefkit" else f"trl, {self.batch} pairs a batch{how}"


def data(job: Job) -> tuple[list[Group], list[Group]]:
    """What is trained on, and what is measured on afterwards."""
    groups = chatpsychiatrist(Path(os.environ["PREFKIT_DATA"]) / "chatpsychiatrist")
    fold = prompt_folds(groups, 5)
    train = [groups[place] for place in np.flatnonzero(fold != 0).tolist() if groups[place].pairs]
    test = [groups[place] for place in np.flatnonzero(fold == 0).tolist() if groups[place].pairs]
    drawn = [train[place] for place in np.random.default_rng(0).permutation(len(train)).tolist()]
    if job.data == "rest":
        behind = np.cumsum([len(group.pairs) for group in drawn])
        return drawn[: int(np.searchsorted(behind, job.pairs)) + 1], test
    drawn = [group for group in drawn if max(map(len, group.texts)) < 2 * MAX_TOKENS]  # none is cut
    if job.data == "one":
        return [with_one_pair(group) for group in drawn[: job.pairs]], test[:4]
    few, many = ([group for group in drawn if len(group.pairs) == count] for count in (4, 8))
    return [*few[: job.pairs // 8], *many[: job.pairs // 16]], test[:4]


def base_of(job: Job, folder: Path) -> str:
    """The base, or its lowest layers in a folder of their own."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from prefkit.training.bases import base_model

    whole = base_model(job.base)
    if job.layers is None:
        return whole
    AutoModelForCausalLM.from_pretrained(whole, num_hidden_layers=job.layers).save_pretrained(folder)
    AutoTokenizer.from_pretrained(whole).save_pretrained(folder)
    return str(folder)


def work(job: Job, out: Path) -> None:
    """Train, measure, write what was found."""
    import torch

    from prefkit.training.tokens import GroupTokenizer

    torch.set_num_threads(1)
    train, test = data(job)
    base = base_of(job, out.with_suffix(".base"))
    trainer, read = {"prefkit": ours, "trl": theirs}[job.trainer](job, base, train, out.with_suffix(".run"))
    started = time.process_time()
    trainer.train()
    seconds = time.process_time() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    model, tokenizer = trainer.model.eval(), trainer.processing_class
    margins, prompts = [], []
    with torch.no_grad():
        for number, group in enumerate(GroupTokenizer(tokenizer, max_tokens=MAX_TOKENS).tokenized(test)):
            rewards = [
                float(model(input_ids=torch.tensor([[*group.prompt.tolist(), *ids.tolist()]])).logits[0, 0])
                for ids in group.responses
            ]
            margins += [rewards[pair.chosen] - rewards[pair.rejected] for pair in group.group.pairs]
            prompts += [number] * len(group.group.pairs)
    found = {
        "seconds": seconds,
        "memory": memory,
        "losses": [line["loss"] for line in trainer.state.log_history if "loss" in line],
        "margins": margins,
        "prompts": prompts,
        **read,
    }
    out.write_text(json.dumps(found))


def shared(job: Job, out: Path) -> dict[str, Any]:
    """The arguments that both trainers get."""
    return {
        "output_dir": str(out), "num_train_epochs": 1, "learning_rate": job.rate, "seed": job.seed,
        "lr_scheduler_type": "linear" if job.data == "rest" else "constant", "bf16": False,
        "gradient_checkpointing": False, "save_strategy": "no", "report_to": "none", "disable_tqdm": True,
        "use_cpu": True, "dataloader_pin_memory": False, "logging_steps": 1,
    }  # fmt: skip


def fresh(base: str, seed: int) -> tuple[Any, Any]:
    """The model with its new head, and the tokenizer."""
    import torch
    from transformers import set_seed

    from prefkit.training.building import build, tokenizer_of
    from prefkit.training.settings import TrainingSettings

    set_seed(seed)
    tokenizer = tokenizer_of(base)
    model = build(TrainingSettings(base=base, seed=seed).resolved(), tokenizer).model
    head = torch.Generator().manual_seed(seed)
    model.score.weight.data.normal_(0, 0.02, generator=head)
    return model, tokenizer


def ours(job: Job, base: str, train: Sequence[Group], out: Path) -> tuple[Any, dict[str, Any]]:
    """prefkit's trainer, and what it reads."""
    from trl import RewardConfig

    from prefkit.training.losses import LossSettings, RewardLoss
    from prefkit.training.reward_trainer import PackedRewardTrainer
    from prefkit.training.tokens import GroupTokenizer

    model, tokenizer = fresh(base, job.seed)
    groups = list(GroupTokenizer(tokenizer, max_tokens=MAX_TOKENS).tokenized(train))
    trainer = PackedRewardTrainer(
        model, RewardConfig(**shared(job, out), remove_unused_columns=False), tokenizer=tokenizer,
        loss=RewardLoss(LossSettings()), groups=groups, pairs_per_step=job.step, row_tokens=2048,
    )  # fmt: skip
    pairs, tokens = sum(len(group.group.pairs) for group in groups), sum(group.tokens for group in groups)
    weights = sum(weight.numel() for weight in model.model.layers.parameters() if weight.ndim == 2)
    return trainer, {"pairs": pairs, "tokens": tokens, "flops": 6.0 * weights * tokens}


def theirs(job: Job, base: str, train: Sequence[Group], out: Path) -> tuple[Any, dict[str, Any]]:
    """trl's trainer, and what it reads: the pairs in the order of our steps."""
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    from prefkit.training.steps import Steps
    from prefkit.training.tokens import GroupTokenizer

    model, tokenizer = fresh(base, job.seed)
    groups = list(GroupTokenizer(tokenizer, max_tokens=MAX_TOKENS).tokenized(train))
    steps = Steps(
        [group.tokens for group in groups], [len(group.group.pairs) for group in groups], pairs_per_step=job.step,
        row_tokens=2048, seed=job.seed,
    )  # fmt: skip
    order = [int(place) for step in range(len(steps)) for place in steps.groups(0, step)]
    rows = [
        {"chosen": turns(groups[place].group, pair.chosen), "rejected": turns(groups[place].group, pair.rejected)}
        for place in order
        for pair in groups[place].group.pairs
    ]
    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(
            **shared(job, out), per_device_train_batch_size=job.batch, max_length=MAX_TOKENS,
            gradient_accumulation_steps=max(1, job.step // job.batch), train_sampling_strategy=job.order,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )  # fmt: skip
    if job.order == "group_by_length":
        longest = [max(map(len, pair)) for pair in _encoded(trainer.train_dataset)]
        trainer.train_dataset = trainer.train_dataset.add_column("length", longest)
        trainer._set_signature_columns_if_needed()
        trainer._signature_columns.append("length")  # else it is taken for unused before the sampler looks for it
    tokens = sum(len(ids) for pair in _encoded(trainer.train_dataset) for ids in pair)
    return trainer, {"pairs": len(rows), "tokens": tokens}


def _encoded(rows: Any) -> list[tuple[list[int], list[int]]]:
    return [(row["chosen_ids"], row["rejected_ids"]) for row in rows]


def turns(group: Group, place: int) -> list[dict[str, str]]:
    """A response behind its prompt, as trl wants it."""
    before = [{"role": message.role, "content": message.content} for message in group.messages]
    return [*before, {"role": "assistant", "content": group.texts[place]}]


def run(job: Job, module: str = "benchmarks.reward_parts.beside_trl") -> dict[str, Any]:
    """The findings of a worker, which is a command of ``module``."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        command = [sys.executable, "-m", module, "--worker", json.dumps(job.__dict__)]
        done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr)
        found: dict[str, Any] = json.loads(out.read_text())
    speed = found["pairs"] / found["seconds"]
    print(f"{job.data} {job.name}: {found['seconds']:.0f} CPU-s, {speed:.4f} pairs/CPU-s", file=sys.stderr, flush=True)
    return found


def speed(base: str, pairs: int, layers: int | None, only: str | None) -> list[Check]:
    """Both trainers over the same pairs."""
    import torch

    from benchmarks.reward_parts.packed import gemm_peak

    torch.set_num_threads(1)
    checks = []
    for which, settings, goal in (
        ("one", ((1, "sequential"), (4, "sequential"), (4, "group_by_length")), 1.7),
        ("grid", ((2, "sequential"), (4, "sequential"), (4, "group_by_length")), 4.0),
    ):
        if only not in (None, which):
            continue
        said = {"one": "two responses a prompt", "grid": "five responses a prompt"}[which]
        peak = gemm_peak()
        mine = run(Job(which, "prefkit", base, pairs, step=8, layers=layers))
        peak = max(peak, gemm_peak())
        checks += [
            Check(f"{said}: prefkit", round(mine["pairs"] / mine["seconds"], 3), "pairs/CPU-s"),
            Check(f"{said}: prefkit reads", round(mine["tokens"] / mine["seconds"]), "tokens/CPU-s"),
            Check(f"{said}: prefkit, of the GEMM peak of {peak / 1e9:.0f} GFLOP/s",
                  round(mine["flops"] / mine["seconds"] / peak, 2), "", ">= 0.6",
                  mine["flops"] / mine["seconds"] / peak >= 0.6),
            Check(f"{said}: prefkit, peak memory", mine["memory"], "MB"),
        ]  # fmt: skip
        best = 0.0
        for batch, order in settings:
            job = Job(which, "trl", base, pairs, step=8, layers=layers, batch=batch, order=order)
            found = run(job)
            rate = found["pairs"] / found["seconds"]
            best = max(best, rate)
            checks += [
                Check(f"{said}: {job.name}", round(rate, 3), "pairs/CPU-s"),
                Check(f"{said}: {job.name}, reads", round(found["tokens"] / found["seconds"]), "tokens/CPU-s"),
                Check(f"{said}: {job.name}, peak memory", found["memory"], "MB"),
            ]
            if order == "sequential":
                off = max(abs(a - b) for a, b in zip(mine["losses"], found["losses"], strict=True))
                apart = float(np.abs(np.subtract(mine["margins"], found["margins"])).max())
                checks += [
                    Check(f"{said}: {job.name}, largest difference in loss over {len(mine['losses'])} steps",
                          float(f"{off:.2g}"), "nats", f"<= {NEAR}", off <= NEAR),
                    Check(f"{said}: {job.name}, largest difference of a margin afterwards", float(f"{apart:.2g}"), ""),
                ]  # fmt: skip
        ratio = mine["pairs"] / mine["seconds"] / best
        checks.append(Check(f"{said}: over trl's best", round(ratio, 2), "times", f">= {goal}", ratio >= goal))
    return checks


def main() -> int:
    """Run the comparison that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", default="smollm2")
    parser.add_argument("--pairs", type=int, default=16, help="that are read for the speed")
    parser.add_argument("--only", choices=("one", "grid"), help="of the speed: one pair a prompt, or all")
    parser.add_argument("--layers", type=int, help="of the base, from below; all unless said otherwise")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        work(Job(**json.loads(asked.worker)), asked.out)
        return 0
    return report("reward-speed", speed(asked.base, asked.pairs, asked.layers, asked.only))


if __name__ == "__main__":
    sys.exit(main())
