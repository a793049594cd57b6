"""What a linear head on a frozen model knows beside length, words and who wrote it.

    PREFKIT_DATA=FOLDER python -m benchmarks.reward_parts.frozen [chatpsychiatrist|pandalm] [--rows ROW ...]

chatpsychiatrist: 229 questions, five models, our ratings; all pairs whose mean ratings are 0.5 apart or more. PandaLM:
pairs of which a majority of three people prefers one. Five folds by prompt, near-duplicates together; the second column
also leaves out of training both policies of each pair that is scored. Layer and C are chosen inside the training folds.
Accuracy with a 95% interval from a bootstrap over prompts; a tied reward is half right. A pair with a response that
is too long for a model is left out of its row, which says how many they are.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from prefkit.records import Message
from prefkit.resampling import Figure, estimates, per_cluster, ratio
from prefkit.training.baselines import BASELINES, Maker, OutOfFold, cross_validated
from prefkit.training.bases import MINILM
from prefkit.training.examples import read_groups
from prefkit.training.features import FeatureTable, FrozenReader, feature_cache, read_features
from prefkit.training.groups import Group, Pair
from prefkit.training.head_fitting import Fitter
from prefkit.training.reward_info import Pooling

PRINCIPLES = ("empathy", "relevance", "clarity", "safety", "exploration", "autonomy", "staging")
LEAST_GAP = 0.5
LAYERS = range(8, 21)


def chatpsychiatrist(folder: Path) -> list[Group]:
    """The grid of responses, with a pair wherever mean ratings are ``LEAST_GAP`` apart or more."""
    texts = {}
    for file in sorted(folder.glob("model_answer/*.jsonl")):
        for line in file.read_text().splitlines():
            answer = json.loads(line)
            texts[file.stem, answer["question_id"]] = answer["choices"][0]["turns"][0]
    policies = sorted({policy for policy, _ in texts})
    rated = {}
    with open(folder / "ratings.csv", newline="") as ratings:
        for row in csv.DictReader(ratings):
            rated[row["model"], int(row["question_id"])] = np.mean([float(row[name]) for name in PRINCIPLES])
    groups = []
    for line in (folder / "question.jsonl").read_text().splitlines():
        question = json.loads(line)
        number = question["question_id"]
        pairs = []
        for better, one in enumerate(policies):
            for worse, other in enumerate(policies):
                gap = float(rated[one, number] - rated[other, number])
                if gap > LEAST_GAP - 1e-9:
                    pairs.append(Pair(id=f"{number}:{one}>{other}", chosen=better, rejected=worse, gap=gap))
        groups.append(
            Group(
                prompt_id=str(number),
                messages=(Message(role="user", content=question["turns"][0]),),
                response_ids=tuple(f"{number}:{policy}" for policy in policies),
                texts=tuple(texts[policy, number] for policy in policies),
                policies=tuple(policies),
                pairs=tuple(pairs),
            )
        )
    return groups


def accuracies(groups: Sequence[Group], found: OutOfFold, gaps: Sequence[float]) -> list[Figure]:
    """At each gap and above, of the pairs that are no ties; at the gap 0 all."""
    rewards = np.concatenate([one for one in found.rewards if len(one)])
    margin = rewards[:, 0] - rewards[:, 1]
    pairs = [(number, pair) for number, group in enumerate(groups) for pair in group.pairs]
    prompt = np.array([number for number, _ in pairs])
    gap = np.array([0.0 if pair.gap is None else pair.gap for _, pair in pairs])
    decided = np.array([not pair.tied for _, pair in pairs]) & ~np.isnan(margin)
    right = np.where(margin > 0, 1.0, np.where(margin == 0, 0.5, 0.0))
    sums = {}
    for least in gaps:
        kept = decided & (gap > least - 1e-9)
        counted = per_cluster(kept, prompt, len(groups))
        sums[least] = ratio(per_cluster(np.where(kept, right, 0), prompt, len(groups)), counted, int(kept.sum()))
    return list(estimates(sums, resamples=2000, seed=0).values())


def unscored(groups: Sequence[Group], found: OutOfFold) -> int:
    """How many pairs are no ties and have no margin, mostly as a response was too long to be read."""
    pairs = [pair for group in groups for pair in group.pairs]
    known = np.isfinite(np.concatenate([one for one in found.rewards if len(one)])).all(axis=1)
    return sum(not (pair.tied or there) for pair, there in zip(pairs, known, strict=True))


def rows(groups: Sequence[Group]) -> dict[str, Callable[[], Maker]]:
    """The scorers of the table; what a row has to read is read when it is asked for."""
    tables: dict[str, FeatureTable] = {}

    def features(base: str, layers: Sequence[int]) -> FeatureTable:
        if base not in tables:
            reader = FrozenReader(base, layers=layers)
            count = [0]

            def done(responses: int) -> None:
                count[0] += responses
                print(f"\r{base}: {count[0]:,} responses read", end="", file=sys.stderr, flush=True)

            tables[base] = read_features(reader, groups, feature_cache(), done)
            print(file=sys.stderr)
        return tables[base]

    def head(
        base: str, layers: Sequence[int], pooling: Pooling, of: Sequence[int] | None = None, control: bool = False
    ) -> Maker:
        return Fitter(features(base, layers), layers=of, pooling=pooling, control_policies=control).maker()

    found: dict[str, Callable[[], Maker]] = {name: lambda make=make: make for name, make in BASELINES.items()}  # type: ignore[misc]
    found["MiniLM frozen, mean"] = lambda: head(MINILM, (6,), "mean")
    for layer in (16, 20):
        found[f"SmolLM2 frozen, layer {layer}, mean"] = lambda layer=layer: head("smollm2", LAYERS, "mean", [layer])  # type: ignore[misc]
        found[f"SmolLM2 frozen, layer {layer}, mean, policies controlled for"] = lambda layer=layer: head(  # type: ignore[misc]
            "smollm2", LAYERS, "mean", [layer], control=True
        )
    searched: tuple[Pooling, ...] = ("mean", "last", "mean+last")
    for pooling in searched:
        found[f"SmolLM2 frozen, layer searched, {pooling}"] = lambda pooling=pooling: head(  # type: ignore[misc]
            "smollm2", LAYERS, pooling, range(8, 21, 2)
        )
    found["SmolLM2 frozen, layer 16, last, policies controlled for"] = lambda: head(
        "smollm2", LAYERS, "last", [16], control=True
    )
    found["SmolLM2 frozen, layer searched, mean, policies controlled for"] = lambda: head(
        "smollm2", LAYERS, "mean", range(8, 21, 2), control=True
    )
    return found


def main() -> None:
    """Print the table, a row as soon as it is known."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", nargs="?", default="chatpsychiatrist", choices=["chatpsychiatrist", "pandalm"])
    parser.add_argument("--rows", nargs="*", help="beginnings of rows' names; all unless said otherwise")
    parser.add_argument("--prompts", type=int, help="of the data set, the first so many")
    options = parser.parse_args()
    folder = Path(os.environ.get("PREFKIT_DATA") or "-") / options.data
    if not folder.is_dir():
        sys.exit("PREFKIT_DATA names no folder with the real data sets")
    gaps: tuple[float, ...] = (0.5, 1.0)
    if options.data == "pandalm":
        groups, gaps = list(read_groups(folder / "testset-v1.json", soft=False)), (0.0,)
    else:
        groups = chatpsychiatrist(folder)
    groups = groups[: options.prompts]
    print(f"{len(groups):,} prompts, {sum(len(group.pairs) for group in groups):,} pairs")
    print("| scorer | prompts left out | prompts and both policies left out |\n|---|---|---|")
    for name, opened in rows(groups).items():
        if options.rows and not any(name.startswith(one) for one in options.rows):
            continue
        make, since = opened(), time.process_time()
        cells = []
        for leave_policies_out in (False, True):
            found = cross_validated(make, groups, leave_policies_out=leave_policies_out)
            missing = unscored(groups, found)
            left_out = f"; {missing:,} pairs left out, not read" if missing else ""
            cells.append(" / ".join(map(said, accuracies(groups, found, gaps))) + left_out)
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
        print(f"{name}: {time.process_time() - since:.0f} CPU-s", file=sys.stderr)


def said(figure: Figure) -> str:
    """A share with its interval, without the leading zeros."""
    value, low, high = (
        "-" if number is None else f"{number:.3f}".lstrip("0") for number in (figure.value, figure.low, figure.high)
    )
    return f"{value} [{low}, {high}]"


if __name__ == "__main__":
    main()
