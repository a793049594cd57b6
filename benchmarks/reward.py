"""Reward models: kills that change no bit, several processes that learn what one does, and trl's trainer beside ours.

    python -m benchmarks.reward --size small|full [--only kills|processes|trl] [--base BASE --pairs RUN|FILE]

**kills**      ``prefkit train-rm`` killed with -9 at random moments until it is done: the weights against those of a
               training that was left alone, byte by byte.
**processes**  two processes with gloo, as DDP and as FSDP: the course of the loss against that of one process, left
               alone, and with all processes killed with -9 at a checkpoint and the same command given again.
               accelerate shards on no CPU by itself; the proof tells it that there are GPUs.
**trl**        trl's RewardTrainer on the same pairs, model, precision and optimiser: pairs by CPU-second, peak memory,
               held-out accuracy.

The first two train a two-layer Llama with random weights and a token a byte. ``reward_parts`` holds the proofs of
single parts, each a command of its own: the packed forward, the losses, the frozen model.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.proof import Check, report

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
KILLS = {"small": 2, "full": 10}
STEPS = {"small": 4, "full": 40}
NEAR = 1e-4
"""By how much two courses of the loss may differ, in nats: sums in another order."""
SHARDED = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT",
}


def written(path: Path, prompts: int, seed: int = 0) -> Path:
    """Pairs among three answers to each prompt, one of them kind, one rude."""
    draw = random.Random(seed)
    with open(path, "w") as file:
        for number in range(prompts):
            texts = [
                f"{word}. {'so ' * draw.randint(0, 9)}{number}" for word in ("I hear you", "As you like", "Whatever")
            ]
            for better, worse in ((0, 1), (0, 2), (1, 2)):
                row = {"prompt": f"Client {number}?", "chosen": texts[better], "rejected": texts[worse]}
                file.write(json.dumps(row) + "\n")
    return path


def tiny(folder: Path) -> Path:
    """A base with random weights, from the tests."""
    from tiny import tiny_model

    path: Path = tiny_model(folder)
    return path


def command(source: Path, base: Path, out: Path, *more: str) -> list[str]:
    """A training of some twenty steps."""
    fixed = ("--batch", "8", "--row-tokens", "512", "--learning-rate", "1e-3", "--log-steps", "1", "--epochs", "2")
    return ["train-rm", str(source), "--base", str(base), "--out", str(out), *fixed, *more]


def prefkit(arguments: list[str], launcher: tuple[str, ...] = ("-m", "prefkit"), **environment: str) -> None:
    """Run a command to its end; what it says goes nowhere unless it fails."""
    done = subprocess.run(
        [sys.executable, *launcher, *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}\n{done.stdout}\n{done.stderr}")


def losses(folder: Path) -> list[float]:
    """The course of the loss."""
    history = json.loads((folder / "training.json").read_text())["history"]
    return [line["loss"] for line in history if "loss" in line]


def kills(folder: Path, size: str) -> list[Check]:
    """Killed at random moments, as often as the size says, and then left alone."""
    source, base = written(folder / "pairs.jsonl", 30), tiny(folder / "base")
    began = time.monotonic()
    prefkit(command(source, base, folder / "whole", "--save-steps", "2"))
    took, draw, killed = time.monotonic() - began, random.Random(0), 0
    arguments = command(source, base, folder / "cut", "--save-steps", "2")
    for _ in range(KILLS[size]):
        process = subprocess.Popen(
            [sys.executable, "-m", "prefkit", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(timeout=took * draw.uniform(0.5, 1.0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
        if (folder / "cut" / "training.json").exists():
            break
    if not (folder / "cut" / "training.json").exists():
        prefkit(arguments)
    whole, cut = ((folder / name / "model.safetensors").read_bytes() for name in ("whole", "cut"))
    after = json.loads((folder / "cut" / "training.json").read_text())["resumed_after_step"]
    return [
        Check("killed with -9", killed, "times"),
        Check("went on, the last time, after step", after),
        Check("weights after that are the same bytes", "yes" if whole == cut else "no", goal="yes", ok=whole == cut),
    ]


def processes(folder: Path, size: str) -> list[Check]:
    """One process, two with DDP, two with FSDP; the latter left alone, and killed and begun again."""
    source, base = written(folder / "pairs.jsonl", 30), tiny(folder / "base")
    prefkit(command(source, base, folder / "one"))
    two = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port")
    launchers = {
        "ddp": ((*two, "29631", "-m", "prefkit"), {"ACCELERATE_USE_CPU": "true"}),
        "fsdp": ((*two, "29632", "-m", "benchmarks.reward", "--as-if-on-gpus"),
                 {"ACCELERATE_USE_CPU": "true", **SHARDED}),
    }  # fmt: skip
    checks = []
    for name, (launcher, environment) in launchers.items():
        prefkit(command(source, base, folder / name), launcher, **environment)
        facts = json.loads((folder / name / "training.json").read_text())
        right = facts["processes"] == 2 and facts["sharded"] == (name == "fsdp")
        checks += [
            Check(f"{name}: two processes, weights sharded", f"{facts['processes']}, {facts['sharded']}",
                  goal=f"2, {name == 'fsdp'}", ok=right),
            _same_course(f"{name}: largest difference in loss", folder / "one", folder / name),
        ]  # fmt: skip
        cut = folder / f"{name}-cut"
        arguments = command(source, base, cut, "--save-steps", "4")
        killed_at_a_checkpoint(arguments, launcher, cut, **environment)
        prefkit(arguments, launcher, **environment)
        after = json.loads((cut / "training.json").read_text())["resumed_after_step"]
        checks += [
            Check(f"{name}: killed with -9, goes on after step", after, goal="> 0", ok=after > 0),
            _same_course(f"{name}: the same, killed and begun again", folder / "one", cut),
        ]
    return checks


def _same_course(name: str, one: Path, other: Path) -> Check:
    """Over all steps; strictly, so that none is missing or there twice."""
    off = max(abs(a - b) for a, b in zip(losses(one), losses(other), strict=True))
    return Check(f"{name}, over {len(losses(one))} steps", float(f"{off:.2g}"), "nats", f"<= {NEAR}", off <= NEAR)


def killed_at_a_checkpoint(arguments: list[str], launcher: tuple[str, ...], folder: Path, **environment: str) -> None:
    """Begin a training in several processes, and kill all of them when a checkpoint is whole; each has a session of its
    own, so that a signal to a group would not reach them."""
    import psutil

    process = subprocess.Popen(
        [sys.executable, *launcher, *arguments],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not any(folder.glob("checkpoints/checkpoint-*/trainer_state.json")):
        time.sleep(0.05)
    if process.poll() is not None:
        raise SystemExit(f"{' '.join(arguments)}: ended with {process.returncode} before it could be killed")
    agent = psutil.Process(process.pid)
    everyone = [agent, *agent.children(recursive=True)]
    for one in everyone:
        one.kill()
    psutil.wait_procs(everyone)


def as_if_on_gpus(arguments: list[str]) -> None:
    """Run a command in a process that accelerate believes to have a GPU, so that it shards."""
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    from prefkit.cli import main as run

    begin = PartialState.__init__

    def begin_with_gpus(self: Any, *args: Any, **options: Any) -> None:
        begin(self, *args, **options)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self._shared_state["distributed_type"] = DistributedType.MULTI_GPU

    PartialState.__init__ = begin_with_gpus
    run(arguments)


def beside_trl(folder: Path, size: str, base: str, source: Path) -> list[Check]:
    """Both trainers on the same pairs in processes of their own, for a number of steps."""
    found: dict[str, Mapping[str, Any]] = {}
    for name in ("prefkit", "trl"):
        out = folder / f"{name}.json"
        arguments = ["--worker", name, "--base", base, "--pairs", str(source), "--size", size, "--out", str(out)]
        prefkit(arguments, ("-m", "benchmarks.reward"))
        found[name] = json.loads(out.read_text())
    checks = [
        Check(f"{name}: {what}", value, unit)
        for name, figures in found.items()
        for what, (value, unit) in figures["figures"].items()
    ]
    ours, theirs = (found[name]["figures"]["speed"][0] for name in ("prefkit", "trl"))
    return [*checks, Check("prefkit over trl", round(ours / theirs, 2), "times")]


def worker(name: str, base: str, source: Path, size: str, out: Path) -> None:
    """Train with one of the two; the time is the CPU's, of training alone."""
    import resource

    from prefkit.training.examples import read_groups
    from prefkit.training.training_pairs import TrainingData, held_out_groups

    split = "train" if source.is_dir() else None
    train = [group for group in read_groups(source, split) if group.pairs]
    held_out = list(held_out_groups(TrainingData(source=source, split=split), "test"))
    trainer, pairs = {"prefkit": _ours, "trl": _theirs}[name](base, train, STEPS[size], out.with_suffix(""))
    began = time.process_time()
    trainer.train()
    seconds = time.process_time() - began
    figures = {
        "speed": (round(pairs / seconds, 4), "pairs/CPU-s"),
        "steps": (trainer.state.global_step, ""),
        "peak memory": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, "MB"),
    }
    if held_out:
        figures["held-out accuracy"] = (round(_accuracy(trainer, held_out), 4), "")
    out.write_text(json.dumps({"figures": figures}))


def _shared(steps: int, out: Path) -> dict[str, Any]:
    return {
        "output_dir": str(out), "max_steps": steps, "learning_rate": 3e-5, "lr_scheduler_type": "constant",
        "bf16": False, "gradient_checkpointing": False, "save_strategy": "no", "report_to": "none",
        "disable_tqdm": True, "use_cpu": True,
        "remove_unused_columns": False, "dataloader_pin_memory": False, "logging_steps": 10,
    }  # fmt: skip


def _ours(base: str, groups: list[Any], steps: int, out: Path) -> tuple[Any, int]:
    from trl import RewardConfig

    from prefkit.training.building import build, tokenizer_of
    from prefkit.training.losses import LossSettings, RewardLoss
    from prefkit.training.reward_trainer import PackedRewardTrainer
    from prefkit.training.settings import TrainingSettings
    from prefkit.training.tokens import GroupTokenizer

    settings = TrainingSettings(base=base).resolved()
    tokenizer = tokenizer_of(base)
    built = build(settings, tokenizer)
    encoded = list(GroupTokenizer(tokenizer, max_tokens=settings.max_tokens).tokenized(groups))
    trainer = PackedRewardTrainer(
        built.model, RewardConfig(**_shared(steps, out)), tokenizer=tokenizer, loss=RewardLoss(LossSettings()),
        groups=encoded, pairs_per_step=32, row_tokens=settings.row_tokens or 2048,
    )  # fmt: skip
    of = trainer.steps
    return trainer, sum(int(of.pairs[of.groups(*divmod(step, len(of)))].sum()) for step in range(steps))


def _theirs(base: str, groups: list[Any], steps: int, out: Path) -> tuple[Any, int]:
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    from prefkit.training.bases import base_model
    from prefkit.training.building import tokenizer_of

    def turns(group: Any, place: int) -> list[dict[str, str]]:
        before = [{"role": message.role, "content": message.content} for message in group.messages]
        return [*before, {"role": "assistant", "content": group.texts[place]}]

    rows = [
        {"chosen": turns(group, pair.chosen), "rejected": turns(group, pair.rejected)}
        for group in groups
        for pair in group.pairs
    ]
    options = _shared(steps, out) | {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 8,
        "max_length": 1024,
    }
    options["remove_unused_columns"] = True
    trainer = RewardTrainer(
        model=base_model(base), args=RewardConfig(**options), train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer_of(base),
    )  # fmt: skip
    return trainer, 32 * steps


def _accuracy(trainer: Any, groups: list[Any]) -> float:
    """Of held-out pairs, read as plain transformers reads them."""
    import torch

    from prefkit.training.tokens import GroupTokenizer

    model, tokenizer = trainer.accelerator.unwrap_model(trainer.model).eval(), trainer.processing_class
    right = []
    with torch.no_grad():
        for group in GroupTokenizer(tokenizer).tokenized(groups):
            rewards = [
                float(model(input_ids=torch.tensor([[*group.prompt.tolist(), *ids.tolist()]])).logits[0, 0])
                for ids in group.responses
            ]
            right += [rewards[pair.chosen] > rewards[pair.rejected] for pair in group.group.pairs if not pair.tied]
    return sum(right) / len(right)


def main() -> int:
    """Run the proofs that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--only", choices=("kills", "processes", "trl"))
    parser.add_argument("--base", default="smollm2")
    parser.add_argument("--pairs", type=Path)
    parser.add_argument("--worker", choices=("prefkit", "trl"), help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.worker:
        worker(asked.worker, asked.base, asked.pairs, asked.size, asked.out)
        return 0
    proofs: dict[str, Callable[[Path, str], list[Check]]] = {"kills": kills, "processes": processes}
    if asked.pairs:
        proofs["trl"] = lambda folder, size: beside_trl(folder, size, asked.base, asked.pairs)
    checks = []
    for name, proof in proofs.items():
        if asked.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                checks += proof(Path(folder), asked.size)
    return report("reward", checks)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--as-if-on-gpus"]:
        as_if_on_gpus(sys.argv[2:])
    else:
        sys.exit(main())
