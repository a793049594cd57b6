"""What each loss finds again of rewards that are known: pairs with ties, and annotators who like length.

    python -m benchmarks.reward_parts.losses [--pairs 6000] [--seed 0]

The rewards of thirty responses are free parameters, learned in steps of 128 pairs as a model is. For each way of
drawing outcomes and each loss: the slope of the found rewards on the true ones (1: their scale is right), their
correlation, and the tie parameter that was found. Then a linear reward of quality and length, learned from annotators
who follow both alike, in steps of sixteen pairs, under the length penalty.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prefkit.training.losses import LossSettings, RewardLoss
from prefkit.training.paired_comparison import Kind, outcomes

RESPONSES = 30
TIES: tuple[dict[str, float], ...] = (
    {},
    {"rao-kupper": 1.2},
    {"rao-kupper": 2.0},
    {"davidson": 0.5},
    {"davidson": 1.5},
)
KINDS: tuple[Kind, ...] = ("bradley-terry", "rao-kupper", "davidson", "hinge")
PENALTIES = (0.0, 0.1, 0.3, 1.0, 3.0)


@dataclass(frozen=True)
class Drawn:
    """Pairs among responses, as a loss reads them."""

    chosen: Tensor
    rejected: Tensor
    target: Tensor
    lengths: Tensor

    @property
    def weight(self) -> Tensor:
        """One each."""
        return torch.ones_like(self.target)

    @property
    def gap(self) -> Tensor:
        """None known."""
        return torch.full_like(self.target, torch.nan)

    @property
    def principle_targets(self) -> Tensor:
        """None."""
        return self.target.new_zeros(len(self.target), 0)

    def batches(self, size: int, epochs: int, seed: int) -> Iterator[Drawn]:
        """Some pairs at a time, each epoch in another order."""
        generator = torch.Generator().manual_seed(seed)
        for _ in range(epochs):
            for some in torch.randperm(len(self.target), generator=generator).split(size):
                yield Drawn(self.chosen[some], self.rejected[some], self.target[some], self.lengths)


def drawn(true: Tensor, tie: dict[str, float], pairs: int, seed: int, lengths: Tensor | None = None) -> Drawn:
    """Pairs of two responses at random, the outcome by the model of ties."""
    random = np.random.default_rng(seed)
    first = random.integers(0, len(true), pairs)
    second = (first + random.integers(1, len(true), pairs)) % len(true)
    probability = outcomes(true[first] - true[second], tie).numpy()
    outcome = (random.random((pairs, 1)) > probability.cumsum(axis=1)).sum(axis=1).clip(max=2)
    lost = outcome == 2
    return Drawn(
        torch.from_numpy(np.where(lost, second, first)),
        torch.from_numpy(np.where(lost, first, second)),
        torch.from_numpy(np.where(outcome == 1, 0.5, 1.0)).float(),
        torch.ones(len(true)) if lengths is None else lengths,
    )


def learned(loss: RewardLoss, features: Tensor, pairs: Drawn, *, size: int, epochs: int, rate: float) -> Tensor:
    """The weights of a linear reward of features, [features]."""
    weights = torch.zeros(features.shape[1], 1, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=rate)
    steps = epochs * -(-len(pairs.target) // size)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, steps)
    for some in pairs.batches(size, epochs, seed=1):
        part = loss(features @ weights, some)
        optimizer.zero_grad()
        (part.loss / part.weight).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        loss.finish_step(part.statistics)
    return weights.detach()[:, 0].double()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=6000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random = torch.Generator().manual_seed(options.seed)

    true = 1.2 * torch.randn(RESPONSES, generator=random, dtype=torch.float64)
    true -= true.mean()
    print(f"{'drawn by':16} {'ties':>5}  {'loss':14} {'slope':>6} {'corr':>6}  tie parameter")
    for tie in TIES:
        pairs = drawn(true, tie, options.pairs, options.seed)
        share = float((pairs.target == 0.5).float().mean())
        by = ", ".join(f"{name} {value:g}" for name, value in tie.items()) or "bradley-terry"
        for kind in KINDS:
            loss = RewardLoss(LossSettings(kind=kind), tie_share=share)
            found = learned(loss, torch.eye(RESPONSES), pairs, size=128, epochs=8, rate=0.1)
            found -= found.mean()
            slope, together = (
                float(found @ true / (true @ true)),
                float(torch.corrcoef(torch.stack([found, true]))[0, 1]),
            )
            said = ", ".join(f"{value:.2f}" for value in loss.tie.values())
            print(f"{by:16} {share:5.2f}  {kind:14} {slope:6.2f} {together:6.3f}  {said}", flush=True)

    quality, length = torch.randn(2, 400, generator=random, dtype=torch.float64)
    pairs = drawn(quality + length, {}, options.pairs, options.seed, lengths=(200 + 60 * length).float())
    features = torch.stack([quality, length], dim=1).float()
    print(f"\n{'length penalty':>14} {'quality':>8} {'length':>7} {'corr(reward, length) of the latest pairs':>41}")
    for penalty in PENALTIES:
        loss = RewardLoss(LossSettings(length_penalty=penalty))
        of_quality, of_length = learned(loss, features, pairs, size=16, epochs=2, rate=0.01).tolist()
        print(f"{penalty:14g} {of_quality:8.2f} {of_length:7.2f} {loss.length_correlation:41.2f}", flush=True)


if __name__ == "__main__":
    main()
