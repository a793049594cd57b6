"""The losses of a policy: what the pairs of a row say about the log-probabilities of its responses.

Reads   ``LogProbs`` of a packed row, those of the reference model, and which responses were preferred
Gives   a sum over the row's pairs (or tokens), so that whoever trains can normalise over a whole step

Below, ``lp`` is the log-probability of a response given its prompt, ``m`` its number of tokens, ``r = lp - lp_ref``,
``c`` the chosen and ``d`` the rejected response of a pair, ``p`` the probability that the chosen one is better, and
``bt(z) = -p log sigmoid(z) - (1 - p) log sigmoid(-z)``.

==========  =======================================================================================================
sft         -lp for each token (mean over the tokens of a step)
dpo         bt(beta (r_c - r_d)): Rafailov et al. 2023, arXiv:2305.18290, eq. 7; with ``p`` below 1 as in Mitchell 2023
ipo         (r_c / m_c - r_d / m_d - 1 / (2 beta))^2: Azar et al. 2023, arXiv:2310.12036, eq. 17, by token as trl does
orpo        -lp_c / m_c + beta bt(log odds(c) - log odds(d)) with odds(y) = P / (1 - P), P = exp(lp / m): Hong et al.
            2024, arXiv:2403.07691, eq. 6 and 7
simpo       bt(beta (lp_c / m_c - lp_d / m_d) - gamma): Meng et al. 2024, arXiv:2405.14734, eq. 6
kto         (s(beta (z - r_c)) + s(beta (r_d - z))) / 2, s the sigmoid: each side by itself against z, the divergence
            from the reference: Ethayarajh et al. 2024, arXiv:2402.01306, eq. 7, with both weights 1
==========  =======================================================================================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, sigmoid
from torch.nn.functional import logsigmoid

from prefkit.policies.logprobs import LogProbs
from prefkit.training.packing import PackedRow

Method = Literal["sft", "dpo", "ipo", "orpo", "simpo", "kto"]
WITH_REFERENCE = frozenset({"dpo", "ipo", "kto"})
"""Methods that compare with the model as it was."""

EVEN = 0.02
"""Nats by which two log-ratios may differ through rounding: such a pair is half right, as all are before training."""

STATISTICS = (
    "pairs", "right", "decided", "margin", "chosen", "rejected", "chosen_ratio", "rejected_ratio", "chosen_tokens",
    "rejected_tokens", "nll", "nll_tokens",
)  # fmt: skip
"""What is summed for the log: over pairs, except for the last two, which are over the tokens of chosen responses, or of
those to be imitated."""


@dataclass(frozen=True, kw_only=True)
class PolicyLossSettings:
    """Which loss.

    Args:
        method: see above.
        beta: how much a log-ratio counts; of orpo, the weight of the odds ratio (lambda there).
        gamma: simpo's margin.
        label_smoothing: probability that a label says the opposite of what was meant.
        length_alpha: dpo: what the tokens of a response count that are beyond the length of the other one (LD-DPO, Liu
            et al. 2024, arXiv:2409.06411); 1 is plain dpo.
        weighted: dpo: a pair counts by how likely the policy itself is to write both (WPO, Zhou et al. 2024,
            arXiv:2406.11827, eq. 2).
        sft: dpo, ipo, simpo, kto: weight of the chosen response's mean negative log-probability, added for each pair.
    """

    method: Method
    beta: float = 0.1
    gamma: float = 0.0
    label_smoothing: float = 0.0
    length_alpha: float = 1.0
    weighted: bool = False
    sft: float = 0.0

    def __post_init__(self) -> None:
        if not (self.beta > 0 and math.isfinite(self.beta)):
            raise ValueError(f"beta must be above 0; got {self.beta}")
        if not 0 <= self.label_smoothing < 0.5:
            raise ValueError(f"label_smoothing must lie from 0 to below 0.5; got {self.label_smoothing}")
        if not 0 <= self.length_alpha <= 1:
            raise ValueError(f"length_alpha must lie from 0 to 1; got {self.length_alpha}")
        if self.method != "dpo" and (self.length_alpha != 1 or self.weighted):
            raise ValueError(f"length_alpha and weighted are dpo's; got them with {self.method}")

    @property
    def needs_reference(self) -> bool:
        """Whether the log-probabilities of the model as it was are read."""
        return self.method in WITH_REFERENCE


@dataclass(frozen=True)
class Part:
    """Of a row: the sum of the losses of its pairs, and ``STATISTICS`` without gradients, [12]."""

    loss: Tensor
    statistics: Tensor


class PolicyLoss:
    """A loss over the pairs of rows.

    Args:
        settings: which.
    """

    def __init__(self, settings: PolicyLossSettings) -> None:
        self.settings = settings

    def __call__(
        self, policy: LogProbs, reference: LogProbs | None, row: PackedRow, *, divergence: float = 0.0
    ) -> Part:
        """The part of a row.

        Args:
            policy: of the row's R responses.
            reference: of the model as it was; None where the method reads none.
            row: its pairs, or for sft its responses.
            divergence: for kto, how far the policy is from the reference, in nats a response; not below 0.

        Raises:
            ValueError: the method needs a reference and there is none.
        """
        if self.settings.needs_reference and reference is None:
            raise ValueError(f"{self.settings.method} needs the log-probabilities of the reference")
        if self.settings.method == "sft":
            loss = -(policy.tokens * _by_token(row.weight_of_responses(), policy.lengths)).sum()
        else:
            loss = (self._of_pairs(policy, reference, row, divergence) * row.weight).sum()
        return Part(loss, self._statistics(policy.detached(), reference, row))

    def margins(self, policy: LogProbs, reference: LogProbs | None, row: PackedRow) -> Tensor:
        """[n] by how much each pair's chosen response leads: what the loss takes the sigmoid of, without smoothing."""
        chosen, rejected = self._sides(policy, reference, row)
        return self.settings.beta * (chosen - rejected)

    def _of_pairs(self, policy: LogProbs, reference: LogProbs | None, row: PackedRow, divergence: float) -> Tensor:
        settings = self.settings
        chosen, rejected = self._sides(policy, reference, row)
        nll = -policy.means()[row.chosen]
        target = row.target * (1 - 2 * settings.label_smoothing) + settings.label_smoothing
        if settings.method == "ipo":
            return (chosen - rejected - 1 / (2 * settings.beta)) ** 2 + settings.sft * nll
        if settings.method == "kto":
            right, wrong = (
                (sigmoid(settings.beta * (divergence - good)) + sigmoid(settings.beta * (bad - divergence))) / 2
                for good, bad in ((chosen, rejected), (rejected, chosen))
            )
            return target * right + (1 - target) * wrong + settings.sft * nll
        if settings.method == "orpo":
            return nll + settings.beta * _two_sided(log_odds(chosen) - log_odds(rejected), target)
        found = _two_sided(settings.beta * (chosen - rejected) - settings.gamma, target)
        if settings.weighted:
            found = found * _likely(policy, row)
        return found + settings.sft * nll

    def _sides(self, policy: LogProbs, reference: LogProbs | None, row: PackedRow) -> tuple[Tensor, Tensor]:
        """What is compared of the chosen and the rejected responses, [n] each."""
        if reference is None:
            means = policy.means()
            return means[row.chosen], means[row.rejected]
        ratio = LogProbs(policy.tokens - reference.tokens, policy.lengths)
        if self.settings.method == "ipo":
            return ratio.means()[row.chosen], ratio.means()[row.rejected]
        if self.settings.length_alpha == 1:
            return ratio.sums()[row.chosen], ratio.sums()[row.rejected]
        shared = torch.minimum(policy.lengths[row.chosen], policy.lengths[row.rejected])
        first, rest = zip(_parted(ratio, row.chosen, shared), _parted(ratio, row.rejected, shared), strict=True)
        chosen, rejected = (one + self.settings.length_alpha * other for one, other in zip(first, rest, strict=True))
        return chosen, rejected

    def _statistics(self, policy: LogProbs, reference: LogProbs | None, row: PackedRow) -> Tensor:
        sums, lengths = policy.sums(), policy.lengths.float()
        found = dict.fromkeys(STATISTICS, torch.zeros((), device=sums.device))
        if row.pairs:
            counts = (row.weight > 0).float()
            margin, decided = self.margins(policy, reference, row), (row.target != 0.5).float() * counts
            even = margin.abs() <= (0 if reference is None else EVEN * self.settings.beta)
            right = torch.where(even, 0.5, (margin * (row.target - 0.5) > 0).float()) * decided
            found |= {
                "pairs": counts.sum(), "right": right.sum(), "decided": decided.sum(),
                "margin": (margin * counts).sum(),
                "chosen": (sums[row.chosen] * counts).sum(), "rejected": (sums[row.rejected] * counts).sum(),
                "chosen_tokens": (lengths[row.chosen] * counts).sum(),
                "rejected_tokens": (lengths[row.rejected] * counts).sum(),
            }  # fmt: skip
            if reference is not None:
                ratio = sums - reference.sums()
                found["chosen_ratio"] = (ratio[row.chosen] * counts).sum()
                found["rejected_ratio"] = (ratio[row.rejected] * counts).sum()
        imitated = row.weight_of_responses() > 0
        if row.pairs:
            imitated &= torch.zeros_like(imitated).index_fill(0, row.chosen, True)
        found["nll"], found["nll_tokens"] = -(sums * imitated).sum(), (lengths * imitated).sum()
        return torch.stack([found[name].double() for name in STATISTICS]).cpu()


def log_odds(mean: Tensor) -> Tensor:
    """log(P / (1 - P)) of P = exp(mean), of mean log-probabilities below 0."""
    below = mean.clamp(max=-1e-6)
    return below - torch.log(-torch.expm1(below))


def _two_sided(z: Tensor, target: Tensor) -> Tensor:
    return -target * logsigmoid(z) - (1 - target) * logsigmoid(-z)


def _by_token(values: Tensor, lengths: Tensor) -> Tensor:
    return torch.repeat_interleave(values.to(lengths.device), lengths)


def _parted(of: LogProbs, responses: Tensor, shared: Tensor) -> tuple[Tensor, Tensor]:
    """[n] sums over the first ``shared`` tokens of some responses, and over the others."""
    running = torch.cat((of.tokens.new_zeros(1), of.tokens.double().cumsum(0)))
    starts = of.lengths.cumsum(0) - of.lengths
    start, end = starts[responses], starts[responses] + of.lengths[responses]
    first = running[start + shared] - running[start]
    rest = running[end] - running[start + shared]
    return first.to(of.tokens.dtype), rest.to(of.tokens.dtype)


def _likely(policy: LogProbs, row: PackedRow) -> Tensor:
    """[n] WPO's weight of each pair: how likely the policy is to write its responses, by token and against how sure it
    is at all."""
    if policy.collisions is None:
        raise ValueError("weighted pairs need the collisions of the policy")
    mean = LogProbs(policy.tokens.detach() - policy.collisions.detach(), policy.lengths).means()
    return torch.exp(mean[row.chosen] + mean[row.rejected])
