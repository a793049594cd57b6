"""Reward models: kills that change no bit, and several processes that learn what one does.

    python -m benchmarks.reward --size small|full [--only kills|processes]

**kills**      ``prefkit train-rm`` killed with -9 at random moments until it is done: the weights against those of a
               training that was left alone, byte by byte.
**processes**  two processes with gloo, as DDP and as FSDP: the course of the loss against that of one process, left
               alone, and with all processes killed with -9 at a checkpoint and the same command given again.
               accelerate shards on no CPU by itself; the proof tells it that there are GPUs.

Both train a two-layer Llama with random weights and a token a byte. ``reward_parts`` holds the proofs of single parts,
each a command of its own: the packed forward, the losses, the frozen model, trained ones, trl's trainer beside ours.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.proof import Check, report

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
KILLS = {"small": 2, "full": 10}
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


_TWO = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
LAUNCHERS: dict[str, tuple[tuple[str, ...], dict[str, str]]] = {
    "ddp": ((*_TWO, "-m", "prefkit"), {"ACCELERATE_USE_CPU": "true"}),
    "fsdp": ((*_TWO, "-m", "benchmarks.reward", "--as-if-on-gpus"), {"ACCELERATE_USE_CPU": "true", **SHARDED}),
}
"""Two processes on one machine without a GPU."""


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
    """Killed as often as the size says, a moment after checkpoints drawn at random, and then left alone."""
    source, base, draw = written(folder / "pairs.jsonl", 30), tiny(folder / "base"), random.Random(0)
    longer = ("--save-steps", "2", "--epochs", "6")
    prefkit(command(source, base, folder / "whole", *longer))
    steps = len(losses(folder / "whole"))
    arguments = command(source, base, folder / "cut", *longer)
    for step in sorted(draw.sample(range(2, steps * 2 // 3, 2), KILLS[size])):
        killed_at_a_checkpoint(arguments, ("-m", "prefkit"), folder / "cut", step, draw.uniform(0, 0.1))
    prefkit(arguments)
    whole, cut = ((folder / name / "model.safetensors").read_bytes() for name in ("whole", "cut"))
    after = json.loads((folder / "cut" / "training.json").read_text())["resumed_after_step"]
    return [
        Check("killed with -9", KILLS[size], "times"),
        Check(f"went on, the last time, after step, of {steps}", after, goal="> 0", ok=after > 0),
        Check("weights after that are the same bytes", "yes" if whole == cut else "no", goal="yes", ok=whole == cut),
    ]


def processes(folder: Path, size: str) -> list[Check]:
    """One process, two with DDP, two with FSDP; the latter left alone, and killed and begun again."""
    source, base = written(folder / "pairs.jsonl", 30), tiny(folder / "base")
    prefkit(command(source, base, folder / "one"))
    checks = []
    for name, (launcher, environment) in LAUNCHERS.items():
        prefkit(command(source, base, folder / name), launcher, **environment)
        facts = json.loads((folder / name / "training.json").read_text())
        right = facts["processes"] == 2 and facts["sharded"] == (name == "fsdp")
        checks += [
            Check(f"{name}: two processes, weights sharded", f"{facts['processes']}, {facts['sharded']}",
                  goal=f"2, {name == 'fsdp'}", ok=right),
            same_course(f"{name}: largest difference in loss", folder / "one", folder / name),
        ]  # fmt: skip
        cut = folder / f"{name}-cut"
        arguments = command(source, base, cut, "--save-steps", "4")
        killed_at_a_checkpoint(arguments, launcher, cut, **environment)
        prefkit(arguments, launcher, **environment)
        after = json.loads((cut / "training.json").read_text())["resumed_after_step"]
        checks += [
            Check(f"{name}: killed with -9, goes on after step", after, goal="> 0", ok=after > 0),
            same_course(f"{name}: the same, killed and begun again", folder / "one", cut),
        ]
    return checks


def same_course(name: str, one: Path, other: Path) -> Check:
    """Over all steps; strictly, so that none is missing or there twice."""
    off = max(abs(a - b) for a, b in zip(losses(one), losses(other), strict=True))
    return Check(f"{name}, over {len(losses(one))} steps", float(f"{off:.2g}"), "nats", f"<= {NEAR}", off <= NEAR)


def killed_at_a_checkpoint(
    arguments: list[str], launcher: tuple[str, ...], folder: Path, step: int = 1, pause: float = 0, **environment: str
) -> None:
    """Begin a training, or go on with it, and kill all its processes when a checkpoint at ``step`` or later is whole.

    Several processes have a session each, so that a signal to a group would not reach them.

    Args:
        arguments, launcher: of the command.
        folder: of the model.
        step: the first whose checkpoint will do.
        pause: seconds between the checkpoint and the kill.
        environment: of the command, besides this one's.
    """
    import psutil

    process = subprocess.Popen(
        [sys.executable, *launcher, *arguments],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and _saved(folder) < step:
        time.sleep(0.02)
    time.sleep(pause)
    if process.poll() is not None:
        raise SystemExit(f"{' '.join(arguments)}: ended with {process.returncode} before it could be killed")
    agent = psutil.Process(process.pid)
    everyone = [agent, *agent.children(recursive=True)]
    for one in everyone:
        one.kill()
    psutil.wait_procs(everyone)


def _saved(folder: Path) -> int:
    """The step of the latest checkpoint that is whole; 0 where there is none."""
    whole = folder.glob("checkpoints/checkpoint-*/trainer_state.json")
    return max((int(path.parent.name.removeprefix("checkpoint-")) for path in whole), default=0)


def believe_in_gpus() -> None:
    """Let accelerate take this process for one that has a GPU, so that it shards."""
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    begin = PartialState.__init__

    def begin_with_gpus(self: Any, *args: Any, **options: Any) -> None:
        begin(self, *args, **options)
        if self.distributed_type == DistributedType.MULTI_CPU:
            self._shared_state["distributed_type"] = DistributedType.MULTI_GPU

    PartialState.__init__ = begin_with_gpus


def as_if_on_gpus(arguments: list[str]) -> None:
    """Run a command in a process that accelerate believes to have a GPU."""
    from prefkit.cli import main as run

    believe_in_gpus()
    run(arguments)


def main() -> int:
    """Run the proofs that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=("small", "full"), default="small")
    parser.add_argument("--only", choices=("kills", "processes"))
    asked = parser.parse_args()
    proofs: dict[str, Callable[[Path, str], list[Check]]] = {"kills": kills, "processes": processes}
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
