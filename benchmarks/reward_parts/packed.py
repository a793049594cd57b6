"""One forward and backward of a packed row beside the same pairs in padded rows, on one thread.

    python -m benchmarks.reward_parts.packed BASE RUN_OR_FILE [--pairs one|all] [--budget 2048] [--rounds 3]

The same model, pairs, loss and precision three ways, in turns in one process, in CPU seconds, the median of the rounds:
packed rows as training reads them; each response once in padded rows; and as trl reads pairs, two padded rows for each
(``--trl-batch`` pairs a time, in trl's order, at random). FLOPs are those of the products with the layers' weights,
attention's own not among them; MFU is their rate as a share of the fastest product of two matrices, measured beside.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from prefkit.training.examples import read_groups
from prefkit.training.groups import Group, TokenGroup
from prefkit.training.packed import enable_packing, packed_rewards, padded_rewards
from prefkit.training.packing import PackedRow, group_tokens, pack, plan_rows
from prefkit.training.tokens import GroupTokenizer


@dataclass(frozen=True)
class Timed:
    """What a way of reading took: pairs, tokens read (padding among them), CPU seconds, FLOPs, the machine's peak."""

    way: str
    pairs: int
    tokens: int
    seconds: float
    flops: float
    peak: float

    @property
    def pairs_a_second(self) -> float:
        """Pairs in a CPU second."""
        return self.pairs / self.seconds

    @property
    def mfu(self) -> float:
        """Share of the machine's fastest matrix product."""
        return self.flops / self.seconds / self.peak

    def __str__(self) -> str:
        return (
            f"{self.way:24} {self.pairs:4} pairs {self.tokens:7,} tokens {self.seconds:7.2f} CPU-s "
            f"{self.pairs_a_second:7.3f} pairs/s {self.tokens / self.seconds:6.0f} tokens/s  MFU {self.mfu:.0%}"
        )


def compared(model: Any, groups: Sequence[TokenGroup], *, budget: int, trl_batch: int, rounds: int) -> list[Timed]:
    """Each way over the same groups, in turns.

    Args:
        model: a sequence classifier in training mode.
        groups: with pairs.
        budget: tokens of a packed row.
        trl_batch: pairs in a batch of trl's way.
        rounds: of which the median is taken.
    """
    assert enable_packing(model) is None
    rows = [pack([groups[number] for number in row]) for row in plan_rows(list(map(group_tokens, groups)), budget)]
    pairs = [(row, number) for row in rows for number in range(row.pairs)]
    order = np.random.default_rng(0).permutation(len(pairs))
    batches = [[pairs[at] for at in order[first : first + trl_batch]] for first in range(0, len(order), trl_batch)]
    ways: dict[str, tuple[int, list[Callable[[], Tensor]]]] = {
        "packed": (sum(row.tokens for row in rows), [lambda row=row: _packed(model, row) for row in rows]),
        "padded, a text once": (_padded_tokens(rows), [lambda row=row: _padded(model, row) for row in rows]),
        f"as trl, {trl_batch} pairs a batch": (
            sum(_padded_tokens_of(batch) for batch in batches),
            [lambda batch=batch: _as_trl(model, batch) for batch in batches],
        ),
    }
    _packed(model, pack(groups[:1])).sum().backward()  # what the first call sets up is not timed
    flops = {way: _flops(model, tokens) for way, (tokens, _) in ways.items()}
    flops["packed"] = _flops(model, ways["packed"][0], ways["packed"][0] - sum(len(row.ends) for row in rows))
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    peaks = []
    for _ in range(rounds):
        for way, (_, reads) in ways.items():
            peaks.append(gemm_peak())
            seconds[way].append(_seconds(model, reads))
    return [
        Timed(way, len(pairs), tokens, median(seconds[way]), flops[way], median(peaks))
        for way, (tokens, _) in ways.items()
    ]


def gemm_peak(size: int = 1024, tries: int = 4) -> float:
    """FLOPs a second of the fastest product of two square matrices in float32, on the threads that torch has."""
    one, other = torch.randn(size, size), torch.randn(size, size)
    best = float("inf")
    for _ in range(tries):
        start = time.process_time()
        one @ other
        best = min(best, time.process_time() - start)
    return 2 * size**3 / best


def _seconds(model: Any, reads: Sequence[Callable[[], Tensor]]) -> float:
    model.zero_grad()
    start = time.process_time()
    for read in reads:
        (-logsigmoid(read()).sum()).backward()
    return time.process_time() - start


def _flops(model: Any, tokens: int, unread: int = 0) -> float:
    """Of a step's products with the layers' weights: forward, and backward for weights and states.

    ``unread`` tokens pass through the last layer's keys and values only.
    """
    layers = model.model.layers
    last = [layers[-1].mlp, layers[-1].self_attn.q_proj, layers[-1].self_attn.o_proj]
    return 6.0 * (_weights([layers]) * tokens - _weights(last) * unread)


def _weights(modules: Sequence[torch.nn.Module]) -> int:
    return sum(weight.numel() for module in modules for weight in module.parameters() if weight.ndim == 2)


def _packed(model: Any, row: PackedRow) -> Tensor:
    found = packed_rewards(model, row)[:, 0]
    return found[row.chosen] - found[row.rejected]


def _padded(model: Any, row: PackedRow) -> Tensor:
    found = padded_rewards(model, row, model.config.pad_token_id)[:, 0]
    return found[row.chosen] - found[row.rejected]


def _as_trl(model: Any, batch: Sequence[tuple[PackedRow, int]]) -> Tensor:
    """The chosen texts, then the rejected, padded to the longest, through the model's plain forward."""
    sides = [(row, row.chosen[number]) for row, number in batch] + [
        (row, row.rejected[number]) for row, number in batch
    ]
    texts = [row.input_ids[0, row.texts[int(at)]] for row, at in sides]
    ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True, padding_value=model.config.pad_token_id)
    lengths = torch.tensor(list(map(len, texts)))
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    found = model(input_ids=ids, attention_mask=mask).logits[:, 0]
    return found[: len(batch)] - found[len(batch) :]


def _padded_tokens(rows: Sequence[PackedRow]) -> int:
    return sum(len(row.texts) * max(map(len, row.texts)) for row in rows)


def _padded_tokens_of(batch: Sequence[tuple[PackedRow, int]]) -> int:
    longest = max(len(row.texts[int(side[number])]) for row, number in batch for side in (row.chosen, row.rejected))
    return 2 * len(batch) * longest


def with_one_pair(group: Group) -> Group:
    """The group with its pair of the widest gap alone, for data of two responses a prompt."""
    pair = max(group.pairs, key=lambda pair: pair.gap or 0.0)
    kept = (pair.chosen, pair.rejected)
    return replace(
        group,
        response_ids=tuple(group.response_ids[at] for at in kept),
        texts=tuple(group.texts[at] for at in kept),
        policies=tuple(group.policies[at] for at in kept),
        pairs=(replace(pair, chosen=0, rejected=1),),
    )


def main() -> None:
    """Print the table."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    parser = argparse.ArgumentParser()
    parser.add_argument("base", type=Path)
    parser.add_argument("source")
    parser.add_argument("--pairs", choices=("one", "all"), default="all")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--budget", type=int, default=2048)
    parser.add_argument("--trl-batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    groups = list(read_groups(asked.source))
    chosen = np.random.default_rng(0).permutation(len(groups))[: asked.prompts]
    groups = [with_one_pair(groups[at]) if asked.pairs == "one" else groups[at] for at in chosen]
    tokenizer = AutoTokenizer.from_pretrained(asked.base)
    model = AutoModelForSequenceClassification.from_pretrained(asked.base, num_labels=1, dtype=torch.float32).train()
    model.config.pad_token_id = 0 if model.config.pad_token_id is None else model.config.pad_token_id
    timed = compared(
        model,
        list(GroupTokenizer(tokenizer, max_tokens=2048).tokenized(groups)),
        budget=asked.budget,
        trl_batch=asked.trl_batch,
        rounds=asked.rounds,
    )
    for one in timed:
        print(one)
    print(f"GEMM peak {timed[0].peak / 1e9:.0f} GFLOP/s; packed over trl's way: ", end="")
    print(f"{timed[0].pairs_a_second / timed[2].pairs_a_second:.2f} times the pairs a second")


if __name__ == "__main__":
    main()
