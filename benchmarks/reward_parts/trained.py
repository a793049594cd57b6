"""What a trained model knows beside a frozen one, length, words and who wrote it: hours on a CPU, a job at a time.

    PREFKIT_DATA=FOLDER python -m benchmarks.reward_parts.trained OUT --name full --fold 0 -- --epochs 2
    PREFKIT_DATA=FOLDER python -m benchmarks.reward_parts.trained OUT --name lora --fold 0 -- --lora 16 --epochs 2
    PREFKIT_DATA=FOLDER python -m benchmarks.reward_parts.trained OUT --name full --folds 2 --fold 0 \
        --without alpaca-7b,vicuna-7b-v1.3 --start 16 -- --control-policies --epochs 2
    PREFKIT_DATA=FOLDER python -m benchmarks.reward_parts.trained OUT

chatpsychiatrist, all pairs whose mean ratings are 0.5 apart or more, and the folds of ``reward_parts.frozen``. A job
runs ``prefkit train-rm`` with what stands behind ``--`` on the prompts outside of a fold and keeps the model in OUT;
``--without`` leaves two policies out of training and measures the pairs between them; ``--start`` first fits a linear
head on the last token at a layer, with policies controlled for, and trains the model that ends there from that. The
same command goes on with a job that was cut. Without a name, all jobs of OUT are measured, beside the baselines fitted
on each job's own training pairs and measured on the same held-out pairs.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.reward_parts.frozen import chatpsychiatrist, rows
from prefkit.training.groups import Group, Scorer, subset
from prefkit.training.linear import prompt_folds
from prefkit.training.measuring.figures import Scored, measure
from prefkit.training.measuring.report import MeasureSettings, gap_name, in_words
from prefkit.training.measuring.table import margins_of, table_of
from prefkit.training.reward_model import RewardModel

BESIDE = (
    "length only",
    "bag of words",
    "policy identity",
    "MiniLM frozen, mean",
    "SmolLM2 frozen, layer 16, mean",
    "SmolLM2 frozen, layer 16, mean, policies controlled for",
    "SmolLM2 frozen, layer 16, last, policies controlled for",
)
FIGURES = ("accuracy", gap_name(1.0), "auc", "brier", "ece")


def parted(groups: Sequence[Group], job: dict[str, Any]) -> tuple[list[Group], list[Group]]:
    """The groups that a job trains on, and those that it is measured on."""
    fold = prompt_folds(groups, job["folds"])
    train = [groups[place] for place in np.flatnonzero(fold != job["fold"]).tolist()]
    test = [groups[place] for place in np.flatnonzero(fold == job["fold"]).tolist()]
    if job["without"]:
        train, test = (
            [_of(group, [name in job["without"] for name in group.policies], held_out) for group in some]
            for some, held_out in ((train, False), (test, True))
        )
    return [group for group in train if group.pairs], [group for group in test if group.pairs]


def _of(group: Group, left_out: Sequence[bool], held_out: bool) -> Group:
    return subset(group, [place for place, out in enumerate(left_out) if out == held_out])


def write_pairs(groups: Sequence[Group], path: Path) -> None:
    """A file that ``train-rm`` reads."""
    with open(path, "w") as file:
        for group in groups:
            for pair in group.pairs:
                row = {
                    "prompt": [{"role": turn.role, "content": turn.content} for turn in group.messages],
                    "chosen": group.texts[pair.chosen],
                    "rejected": group.texts[pair.rejected],
                    "chosen_policy": group.policies[pair.chosen],
                    "rejected_policy": group.policies[pair.rejected],
                    "rating_gap": pair.gap,
                }
                file.write(json.dumps(row) + "\n")


def train(groups: Sequence[Group], out: Path, job: dict[str, Any], options: list[str]) -> None:
    """Run a job to its end."""
    left = f"-without-{'-'.join(job['without'])}" if job["without"] else ""
    folder = out / f"{job['name']}-{job['fold']}-of-{job['folds']}{left}"
    folder.mkdir(parents=True, exist_ok=True)
    write_pairs(parted(groups, job)[0], folder / "train.jsonl")
    command = [sys.executable, "-m", "prefkit", "train-rm", str(folder / "train.jsonl")]
    if job["start"]:
        frozen = ("--frozen", "--layer", str(job["start"]), "--pooling", "last", "--control-policies")
        if not (folder / "start" / "training.json").exists():
            subprocess.run([*command, "--out", str(folder / "start"), *frozen], check=True)
        options = ["--base", str(folder / "start"), *options]
    subprocess.run([*command, "--out", str(folder / "model"), *options], check=True)
    (folder / "job.json").write_text(json.dumps(job))


def scored(groups: Sequence[Group], scorer: Scorer) -> Iterator[Any]:
    """Rewards of both sides of each pair [pairs, 2], group by group."""
    for group, rewards in zip(groups, scorer.rewards(groups), strict=True):
        yield np.array([[rewards[pair.chosen, 0], rewards[pair.rejected, 0]] for pair in group.pairs])


def together(groups: Sequence[Group], folders: Sequence[Path]) -> str:
    """The table of the jobs of one name: their held-out pairs together, a temperature from those of other prompts."""
    held_out: list[Group] = []
    of: dict[str, list[Any]] = {}
    made = rows(groups)
    for folder in folders:
        job = json.loads((folder / "job.json").read_text())
        training, test = parted(groups, job)
        held_out += test
        scorers: dict[str, Scorer] = {job["name"]: RewardModel.load(folder / "model")}
        scorers |= {name: made[name]()(training) for name in BESIDE}
        for name, scorer in scorers.items():
            of.setdefault(name, []).extend(scored(test, scorer))
    table = table_of(held_out)
    found = [
        Scored(name=name, kind="baseline", margins=margins_of(rewards, table), temperature=1.0)
        for name, rewards in of.items()
    ]
    report = measure(table, found, MeasureSettings())
    lines = [f"{len(folders)} jobs, {len(table.ids):,} pairs of {len(table.prompt_ids):,} prompts"]
    for one in report.scorers:
        lines.append(f"| {one.name} | {' | '.join(in_words(name, one.figures.get(name)) for name in FIGURES)} |")
    return "\n".join(lines)


def main() -> None:
    """Run a job, or measure those that are done."""
    ours, behind = sys.argv[1:], list[str]()
    if "--" in ours:
        at = ours.index("--")
        ours, behind = ours[:at], ours[at + 1 :]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--name")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--without", default="")
    parser.add_argument("--start", type=int, metavar="LAYER")
    asked = parser.parse_args(ours)
    folder = Path(os.environ.get("PREFKIT_DATA") or "-") / "chatpsychiatrist"
    if not folder.is_dir():
        sys.exit("PREFKIT_DATA names no folder with the real data sets")
    groups = chatpsychiatrist(folder)
    if asked.name:
        without = [name for name in asked.without.split(",") if name]
        job = {"name": asked.name, "fold": asked.fold, "folds": asked.folds, "without": without, "start": asked.start}
        train(groups, asked.out, job, behind)
        return
    kinds: dict[tuple[str, bool], list[Path]] = {}
    for path in sorted(asked.out.glob("*/job.json")):
        job = json.loads(path.read_text())
        kinds.setdefault((job["name"], bool(job["without"])), []).append(path.parent)
    for (name, without), folders in kinds.items():
        print(f"\n{name}, prompts{' and policies' if without else ''} left out: {together(groups, folders)}")


if __name__ == "__main__":
    main()
