"""Tokenising: groups beside trl's RewardTrainer, which encodes both whole conversations of each pair.

    python -m benchmarks.reward_parts.tokenising RUN|FILE --tokenizer FOLDER [--plain] [--rounds 3]

CPU seconds of this process, one thread, the best of some rounds, both in turn; the texts are read before. The ids of
every pair must be the same. trl's own filter by length is left out on both sides.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from types import SimpleNamespace
from typing import Any

from benchmarks.proof import Check, report
from prefkit.training.examples import read_groups
from prefkit.training.groups import Group, TokenGroup
from prefkit.training.tokens import GroupTokenizer

GOAL = 2.0


def trl_rows(groups: list[Group], *, plain: bool) -> list[dict[str, Any]]:
    """The pairs as trl's explicit-prompt preferences."""

    def said(role: str, text: str) -> Any:
        return text if plain else [{"role": role, "content": text}]

    def prompt(group: Group) -> Any:
        turns = [{"role": turn.role, "content": turn.content} for turn in group.messages]
        return group.messages[0].content if plain else turns

    return [
        {
            "prompt": prompt(group),
            "chosen": said("assistant", group.texts[pair.chosen]),
            "rejected": said("assistant", group.texts[pair.rejected]),
        }
        for group in groups
        for pair in group.pairs
    ]


def same_ids(ours: list[TokenGroup], theirs: Any) -> int:
    """How many pairs have the ids that trl gives them."""
    pairs = [(group, pair) for group in ours for pair in group.group.pairs]
    return sum(
        all(
            row[f"{side}_ids"] == [*group.prompt.tolist(), *group.responses[place].tolist()]
            for side, place in (("chosen", pair.chosen), ("rejected", pair.rejected))
        )
        for (group, pair), row in zip(pairs, theirs, strict=True)
    )


def compare(source: str, folder: str, *, plain: bool, rounds: int) -> list[Check]:
    """Both ways of tokenising, in turn."""
    import datasets
    from transformers import AutoTokenizer
    from trl.trainer.reward_trainer import RewardTrainer

    datasets.disable_progress_bars()
    datasets.disable_caching()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    groups = list(read_groups(source, plain=plain))
    rows = datasets.Dataset.from_list(trl_rows(groups, plain=plain))
    settings: Any = SimpleNamespace(dataset_num_proc=None, max_length=None)
    trainer: Any = RewardTrainer
    trl_seconds, our_seconds = [], []
    theirs: Any = None
    ours: list[TokenGroup] = []
    for _ in range(rounds):
        began = time.process_time()
        theirs = trainer._prepare_dataset(None, rows, tokenizer, settings, "train")
        trl_seconds.append(time.process_time() - began)
        began = time.process_time()
        ours = list(GroupTokenizer(tokenizer, plain=plain).tokenized(groups))
        our_seconds.append(time.process_time() - began)
    pairs, same = len(rows), same_ids(ours, theirs)
    ratio = min(trl_seconds) / min(our_seconds)
    return [
        Check("pairs with trl's ids", float(same), "pairs", f"all {pairs:,}", same == pairs),
        Check("trl", round(pairs / min(trl_seconds)), "pairs/CPU s"),
        Check("prefkit", round(pairs / min(our_seconds)), "pairs/CPU s"),
        Check("times as fast", round(ratio, 2), "x", f"at least {GOAL:g}", ratio >= GOAL),
    ]


def main() -> int:
    """Read the arguments, measure, report."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source")
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    os.environ.update(TOKENIZERS_PARALLELISM="false", RAYON_NUM_THREADS="1", HF_HUB_OFFLINE="1")
    warnings.filterwarnings("ignore", module="trl")
    name = "reward-tokenising-plain" if given.plain else "reward-tokenising"
    return report(name, compare(given.source, given.tokenizer, plain=given.plain, rounds=given.rounds))


if __name__ == "__main__":
    sys.exit(main())
