"""prefkit's policy trainer beside trl's DPOTrainer and experimental ORPOTrainer: what they learn, how fast, in how much
memory.

    PREFKIT_DATA=FOLDER python -m benchmarks.policy_parts.beside_trl [--method dpo|orpo] [--base BASE] [--layers N]

chatpsychiatrist, each trainer in a process of its own, on one thread, in float32: the same tokens in the same optimiser
steps from the same weights; one pair for each of many prompts, then all pairs of a few prompts with five responses.

trl is given what makes it fast: activations are kept, the reference is asked before the first step, its own chunked
head (DPO), several batch sizes, texts of like length together. CPU seconds are those of ``train()`` and of asking the
reference. Where trl reads the steps in our order, the losses of the steps are compared, and afterwards the
log-probabilities of answers to other prompts.

ORPO's other half differs: trl imitates the chosen text with its prompt, and a batch counts by its tokens; prefkit, as
the paper's equation 6, the response alone, and each pair once. What is timed is trl's. What is compared is trl's
trainer with the paper's half in place of its own, which is not timed.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.proof import Check, report
from benchmarks.reward_parts import beside_trl
from benchmarks.reward_parts.beside_trl import MAX_TOKENS, NEAR, RATE, base_of, turns
from benchmarks.reward_parts.packed import with_one_pair
from prefkit.training.groups import Group, TokenGroup

Method = Literal["dpo", "orpo"]
METHODS: tuple[Method, ...] = ("dpo", "orpo")
BETA = {"dpo": 0.1, "orpo": 0.2}
GOALS = {"dpo": 1.6, "orpo": 1.8}
ROW_TOKENS = 1024
"""Of prefkit's rows: about what trl's smallest batch, of one pair, holds, so that memory is compared as well."""
STEP = 8
"""Pairs in an optimiser step, about."""


@dataclass(frozen=True)
class Job(beside_trl.Job):
    """What a worker does.

    Args:
        method: ``dpo`` or ``orpo``.
        source: of the pairs; None for chatpsychiatrist.
        row_tokens: of prefkit.
        papers: ORPO of trl with the paper's loss.
        rate: of learning.
    """

    method: Method = "dpo"
    source: str | None = None
    row_tokens: int = ROW_TOKENS
    papers: bool = False
    rate: float = RATE

    @property
    def name(self) -> str:
        """For the table."""
        return f"{self.method}, {super().name}{', loss of the paper' if self.papers else ''}"


def data(job: Job) -> tuple[list[Group], list[Group]]:
    """What is trained on, and what is measured on afterwards."""
    from prefkit.training.examples import read_groups

    if job.source is None:
        return beside_trl.data(job)
    groups = list(read_groups(job.source))
    train = [with_one_pair(group) if job.data == "one" else group for group in groups[:-2]]
    return train, groups[-2:]


def work(job: Job, out: Path) -> None:
    """Train, measure, write what was found."""
    import torch
    from transformers import AutoTokenizer, set_seed

    from prefkit.training.tokens import GroupTokenizer

    torch.set_num_threads(1)
    set_seed(job.seed)
    train, test = data(job)
    base = base_of(job, out.with_suffix(".base"))
    tokenizer = AutoTokenizer.from_pretrained(base)
    groups, others = (list(GroupTokenizer(tokenizer, max_tokens=MAX_TOKENS).tokenized(some)) for some in (train, test))
    make = {"prefkit": ours, "trl": theirs_dpo if job.method == "dpo" else theirs_orpo}[job.trainer]
    trainer, found = make(job, base, tokenizer, groups, out.with_suffix(".run"))
    started = time.process_time()
    trainer.train()
    found["seconds"] = found["reference_seconds"] + time.process_time() - started
    found["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    found["pairs"] = sum(len(group.group.pairs) for group in groups)
    found["losses"] = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    found["log_probs"] = said_afterwards(trainer.model.eval(), others)
    out.write_text(json.dumps(found))


def said_afterwards(model: Any, groups: Sequence[TokenGroup]) -> list[float]:
    """The mean log-probability of a token of each response, by the model's plain forward, a text at a time."""
    import torch

    found = []
    with torch.no_grad():
        for group in groups:
            for ids in group.responses:
                text = torch.tensor([[*group.prompt.tolist(), *ids.tolist()]])
                said = model(input_ids=text).logits[0, -len(ids) - 1 : -1].log_softmax(-1)
                found.append(float(said.gather(1, text[0, -len(ids) :, None]).mean()))
    return found


def ours(job: Job, base: str, tokenizer: Any, groups: Sequence[TokenGroup], out: Path) -> tuple[Any, dict[str, Any]]:
    """prefkit's trainer, and what it reads."""
    from transformers import TrainingArguments

    from prefkit.policies.logprobs import LANGUAGE_MODEL
    from prefkit.policies.losses import PolicyLoss, PolicyLossSettings
    from prefkit.policies.policy_trainer import PackedPolicyTrainer
    from prefkit.policies.settings import PolicySettings
    from prefkit.training.building import build

    built = build(PolicySettings(base=base, seed=job.seed).resolved(), tokenizer, LANGUAGE_MODEL)
    assert built.padded is None, built.padded
    loss = PolicyLoss(PolicyLossSettings(method=job.method, beta=BETA[job.method]))
    trainer = PackedPolicyTrainer(
        built.model, TrainingArguments(**arguments(job, out), remove_unused_columns=False), tokenizer=tokenizer,
        loss=loss, groups=groups, pairs_per_step=job.step, row_tokens=job.row_tokens,
    )  # fmt: skip
    started = time.process_time()
    if loss.settings.needs_reference:
        said = trainer.log_probs(groups)
        trainer.groups = [replace(group, reference=of) for group, of in zip(groups, said, strict=True)]
    seconds = time.process_time() - started
    return trainer, {"reference_seconds": seconds, "tokens": sum(group.tokens for group in groups)}


def theirs_dpo(
    job: Job, base: str, tokenizer: Any, groups: Sequence[TokenGroup], out: Path
) -> tuple[Any, dict[str, Any]]:
    """trl's DPOTrainer, and what it reads: the pairs in the order of our steps."""
    from trl import DPOConfig, DPOTrainer

    class Timed(DPOTrainer):
        """Tells what asking the reference took, which its constructor does."""

        def _precompute_ref_logps(self, *args: Any, **options: Any) -> Any:
            started = time.process_time()
            found = super()._precompute_ref_logps(*args, **options)
            self.reference_seconds = time.process_time() - started
            return found

    rows, places = as_rows(job, groups)
    trainer = Timed(
        model=loaded(base),
        args=DPOConfig(
            **arguments(job, out),
            **batches(job),
            max_length=MAX_TOKENS,
            beta=BETA["dpo"],
            precompute_ref_log_probs=True,
        ),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    texts = [
        tuple([*row["prompt_ids"], *row[side]] for side in ("chosen_ids", "rejected_ids"))
        for row in trainer.train_dataset
    ]
    must_be_ours(texts, groups, places)
    trainer.train_dataset = trainer.train_dataset.add_column("length", [max(map(len, pair)) for pair in texts])
    trainer._set_signature_columns_if_needed()
    trainer._signature_columns.append("length")  # else it is taken for unused before the sampler looks for it
    return trainer, {"reference_seconds": trainer.reference_seconds, "tokens": tokens_of(texts)}


def theirs_orpo(
    job: Job, base: str, tokenizer: Any, groups: Sequence[TokenGroup], out: Path
) -> tuple[Any, dict[str, Any]]:
    """trl's ORPOTrainer, and what it reads: the pairs in the order of our steps."""
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    class Papers(ORPOTrainer):
        """Imitates the responses alone, each pair once."""

        def concatenated_forward(self, *args: Any, **options: Any) -> Any:
            chosen, rejected, chosen_logits, rejected_logits, _ = super().concatenated_forward(*args, **options)
            return chosen, rejected, chosen_logits, rejected_logits, -chosen.mean()

    rows, places = as_rows(job, groups)
    trainer = (Papers if job.papers else ORPOTrainer)(
        model=loaded(base),
        args=ORPOConfig(
            **arguments(job, out), **batches(job), max_length=MAX_TOKENS, beta=BETA["orpo"], remove_unused_columns=False
        ),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    trainer.train_dataset = trainer.train_dataset.map(without_second_end, fn_kwargs={"end": tokenizer.eos_token_id})
    texts = [(row["chosen_input_ids"], row["rejected_input_ids"]) for row in trainer.train_dataset]
    must_be_ours(texts, groups, places)
    trainer.train_dataset = trainer.train_dataset.add_column("length", [max(map(len, pair)) for pair in texts])
    return trainer, {"reference_seconds": 0.0, "tokens": tokens_of(texts)}


def without_second_end(row: dict[str, Any], end: int) -> dict[str, Any]:
    """A row of trl's without the end of text that it puts behind a template's line break."""
    ends = 1 + row["prompt_input_ids"].count(end)
    return {
        f"{side}_{part}": row[f"{side}_{part}"][:-1]
        if row[f"{side}_input_ids"].count(end) > ends
        else row[f"{side}_{part}"]
        for side in ("chosen", "rejected")
        for part in ("input_ids", "attention_mask", "labels")
    }


def tokens_of(texts: Sequence[Any]) -> int:
    """Of pairs of texts."""
    return sum(len(text) for pair in texts for text in pair)


def must_be_ours(texts: Sequence[Any], groups: Sequence[TokenGroup], places: Sequence[tuple[int, int]]) -> None:
    """See that trl's pairs are ours, token by token.

    Raises:
        ValueError: they are not.
    """
    for pair, (group, number) in zip(texts, places, strict=True):
        of, told = groups[group], groups[group].group.pairs[number]
        for text, at in zip(pair, (told.chosen, told.rejected), strict=True):
            if text != [*of.prompt.tolist(), *of.responses[at].tolist()]:
                raise ValueError(f"trl reads other tokens of pair {told.id}")


def loaded(base: str) -> Any:
    """The model as trl gets it."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)


def arguments(job: Job, out: Path) -> dict[str, Any]:
    """What both trainers get."""
    return {**beside_trl.shared(job, out), "learning_rate": job.rate}


def batches(job: Job) -> dict[str, Any]:
    """How trl reads."""
    return {
        "per_device_train_batch_size": job.batch, "gradient_accumulation_steps": max(1, job.step // job.batch),
        "train_sampling_strategy": job.order,
    }  # fmt: skip


def as_rows(job: Job, groups: Sequence[TokenGroup]) -> tuple[Any, list[tuple[int, int]]]:
    """The pairs as trl wants them, in the order of our steps; of each the place of its group, and its own in it."""
    from datasets import Dataset

    from prefkit.training.steps import Steps

    steps = Steps(
        [group.tokens for group in groups], [len(group.group.pairs) for group in groups], pairs_per_step=job.step,
        row_tokens=job.row_tokens, seed=job.seed,
    )  # fmt: skip
    order = [int(place) for step in range(len(steps)) for place in steps.groups(0, step)]
    places = [(place, number) for place in order for number in range(len(groups[place].group.pairs))]
    rows = []
    for place, number in places:
        group = groups[place].group
        chosen, rejected = (turns(group, at) for at in (group.pairs[number].chosen, group.pairs[number].rejected))
        rows.append({"prompt": chosen[:-1], "chosen": chosen[-1:], "rejected": rejected[-1:]})
    return Dataset.from_list(rows), places


def learned(base: str, source: str) -> list[Check]:
    """Whether both learn the same from one pair of each prompt of a file, however fast: all in this process."""
    checks = []
    for method in METHODS:
        job = Job("one", "prefkit", base, 0, STEP, method=method, source=source, rate=3e-3)
        peer = replace(job, trainer="trl", papers=method == "orpo")
        found = []
        for one in (job, peer):
            with tempfile.TemporaryDirectory() as folder:
                work(one, out := Path(folder) / "found.json")
                found.append(json.loads(out.read_text()))
        checks += alike(peer.name, *found)
    return checks


def speed(method: Method, base: str, pairs: int, layers: int | None, *, row_tokens: int = ROW_TOKENS) -> list[Check]:
    """Both trainers over the same pairs of chatpsychiatrist.

    Args:
        method: of the loss.
        base: of the policy.
        pairs: that are read.
        layers: of the base, from below; None for all.
        row_tokens: of prefkit.
    """
    checks = []
    for which, settings in (
        ("one", ((1, "sequential"), (4, "sequential"), (4, "group_by_length"))),
        ("grid", ((1, "sequential"), (4, "group_by_length"))),
    ):
        said = {"one": "two responses a prompt", "grid": "five responses a prompt"}[which]
        job = Job(which, "prefkit", base, pairs, STEP, layers, method=method, row_tokens=row_tokens)
        mine = run(job)
        checks += figures(f"{said}: {job.name}", mine)
        others = []
        for batch, order in settings:
            peer = replace(job, trainer="trl", batch=batch, order=order)
            others.append(run(peer))
            checks += figures(f"{said}: {peer.name}", others[-1])
            if order == "sequential" and method == "dpo":
                checks += alike(f"{said}: {peer.name}", mine, others[-1])
        if method == "orpo":
            peer = replace(job, trainer="trl", batch=1, papers=True)
            checks += alike(f"{said}: {peer.name}", mine, run(peer))
        checks += compared(f"{said}: {method}", mine, others, GOALS[method] if which == "one" else None)
    return checks


def run(job: Job) -> dict[str, Any]:
    """A worker's findings."""
    return beside_trl.run(job, "benchmarks.policy_parts.beside_trl")


def figures(name: str, found: dict[str, Any]) -> list[Check]:
    """What a trainer took."""
    checks = [
        Check(name, round(found["pairs"] / found["seconds"], 3), "pairs/CPU-s"),
        Check(f"{name}, reads", round(found["tokens"] / found["seconds"]), "tokens/CPU-s"),
        Check(f"{name}, peak memory", found["memory"], "MB"),
    ]
    if found["reference_seconds"]:
        share = found["reference_seconds"] / found["seconds"]
        checks.append(Check(f"{name}, of its seconds for the reference", round(share, 2)))
    return checks


def alike(name: str, mine: dict[str, Any], theirs: dict[str, Any]) -> list[Check]:
    """How far what was learned is apart."""
    off = max(abs(one - other) for one, other in zip(mine["losses"], theirs["losses"], strict=True))
    apart = float(np.abs(np.subtract(mine["log_probs"], theirs["log_probs"])).max())
    return [
        Check(f"{name}, largest difference in loss over {len(mine['losses'])} steps", float(f"{off:.2g}"), "nats",
              f"<= {NEAR}", off <= NEAR),
        Check(f"{name}, largest difference of a mean log-probability afterwards", float(f"{apart:.2g}"), "nats",
              f"<= {NEAR}", apart <= NEAR),
    ]  # fmt: skip


def compared(name: str, mine: dict[str, Any], others: Sequence[dict[str, Any]], goal: float | None) -> list[Check]:
    """Over trl's best, and beside its leanest; figures to be read where there is no goal."""
    best = min(others, key=lambda found: found["seconds"])
    ratio, least = best["seconds"] / mine["seconds"], min(found["memory"] for found in others)
    share = mine["memory"] / least
    return [
        Check(f"{name}: over trl's best", round(ratio, 2), "times", f">= {goal}" if goal else "",
              goal is None or ratio >= goal),
        Check(f"{name}: peak memory over that of trl's leanest", round(share, 2), "times", "<= 1" if goal else "",
              goal is None or share <= 1),
    ]  # fmt: skip


def main() -> int:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", choices=("dpo", "orpo"), help="both unless said otherwise")
    parser.add_argument("--base", default="smollm2")
    parser.add_argument("--pairs", type=int, default=24, help="that are read, in steps of 8")
    parser.add_argument("--layers", type=int, help="of the base, from below; all unless said otherwise")
    parser.add_argument("--row-tokens", type=int, default=ROW_TOKENS, help="of prefkit's rows")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        work(Job(**json.loads(asked.worker)), asked.out)
        return 0
    methods = (asked.method,) if asked.method else METHODS
    checks = [
        check
        for method in methods
        for check in speed(method, asked.base, asked.pairs, asked.layers, row_tokens=asked.row_tokens)
    ]
    return report("policy-speed", checks)


if __name__ == "__main__":
    sys.exit(main())
