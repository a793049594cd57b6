"""The loss of a reward model: what the pairs of a row say about the rewards of its responses.

Reads rewards of the responses of a packed row, and which of them were preferred; gives sums, so that whoever trains
can normalise over a whole step whatever the rows and the processes it was cut into. Everything is computed in float32
from the differences of rewards, under a model of ``paired_comparison``, with what else was asked for: margins, rewards
around 0, a penalty on length, the heads' own losses, effects of policies.

A few numbers are learned beside the model: the tie parameter, the weights that combine the heads, the effects of
policies (``policy_effects``), and the running correlation of reward and length. They are no parameters of the network:
with a learning rate that suits its weights they would not move in a whole training. Each step's pairs give a gradient
and a curvature for them, summed over rows and processes, and `RewardLoss.finish_step` makes one Newton step on what the
latest ``MEMORY`` pairs or more say.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from prefkit.training.heads import overall
from prefkit.training.paired_comparison import (
    ETA,
    LOG_NU,
    Kind,
    bradley_terry,
    davidson,
    davidson_logs,
    hinge,
    rao_kupper,
    rao_kupper_logs,
    tie_start,
)
from prefkit.training.policy_effects import PairsByPolicies, PolicyEffects

MEMORY = 1000.0
"""After so many pairs (by weight) what a step said counts 1/e; after a quarter of all seen, where that is more."""

LENGTH_MEMORY = 200.0
"""So many for the correlation of reward and length, at all times: it has to follow the model."""

TIE_PRIOR = 20.0
"""The tie parameter's starting value counts as so many pairs."""

COMBINE_PRIOR = 50.0
"""The starting weights of the heads count as so many pairs in which each head leads by one log-odds."""

LARGEST_TIE_STEP = 0.5


class PairsOfRow(PairsByPolicies, Protocol):
    """What a loss reads of a packed row: n pairs among R responses; H principles."""

    @property
    def target(self) -> Tensor:
        """[n] probability that the chosen one is better."""
        ...

    @property
    def weight(self) -> Tensor:
        """[n], 0 for a filler."""
        ...

    @property
    def gap(self) -> Tensor:
        """[n] of the overall ratings; NaN where they were only compared."""
        ...

    @property
    def principle_targets(self) -> Tensor:
        """[n, H] `target` by principle; NaN where nothing is known."""
        ...

    @property
    def lengths(self) -> Tensor:
        """[R] tokens of the responses."""
        ...


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """Which loss, and what is added to it.

    Args:
        kind: of the loss over pairs.
        label_smoothing: probability that a label says the opposite of what was meant, from 0 to below 0.5.
        gap_margin: log-odds per unit of rating gap by which the chosen response has to lead; 0 for none (Llama 2,
            Touvron et al. 2023, arXiv:2307.09288, eq. 2). A pair without ratings has no margin.
        hinge_margin: lead at which the hinge loss is content, in log-odds.
        centring: factor of the squared sum of a pair's rewards, which keeps rewards around 0 (Eisenstein et al. 2023,
            arXiv:2312.09244, with 0.01).
        length_penalty: factor of the squared correlation of reward and length within prompts; 1 is a lot.
        combine: weight of each head in the overall reward, in the order of the model's outputs; empty for a model of
            one output.
        learn_combine: whether ``combine`` is only where the weights begin.
        principles: factor of the heads' own losses, on what is known of each principle.
    """

    kind: Kind = "bradley-terry"
    label_smoothing: float = 0.0
    gap_margin: float = 0.0
    hinge_margin: float = 1.0
    centring: float = 0.0
    length_penalty: float = 0.0
    combine: tuple[float, ...] = ()
    learn_combine: bool = False
    principles: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 0.5:
            raise ValueError(f"label_smoothing must lie from 0 to below 0.5; got {self.label_smoothing}")
        for name in ("gap_margin", "hinge_margin", "centring", "length_penalty", "principles"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more, and finite; got {getattr(self, name)}")
        if self.gap_margin and self.has_ties:
            raise ValueError(f"gap_margin with {self.kind}: a margin and a tie parameter say the same thing twice")
        if self.learn_combine and not self.combine:
            raise ValueError("learn_combine without heads to combine")
        if self.learn_combine and not self.principles:
            raise ValueError("learn_combine with principles=0: nothing holds the scale of the heads")
        if not all(math.isfinite(weight) for weight in self.combine):
            raise ValueError(f"the weights of the heads must be finite; got {self.combine}")

    @property
    def has_ties(self) -> bool:
        """Whether a tie is an outcome of its own."""
        return self.kind in ("rao-kupper", "davidson")


class RowLoss(NamedTuple):
    """What the pairs of a row come to."""

    loss: Tensor
    """Scalar: the sum over pairs of weight times loss. Divide it by the weight of the whole step."""
    weight: Tensor
    """Scalar: the sum of the weights."""
    statistics: Tensor
    """[k] float64 without gradient: sums over pairs. Add them over rows and processes for `finish_step`."""


class RewardLoss:
    """The loss over the pairs of a row, and the numbers that are learned beside the model.

    Called on a row it gives sums and changes nothing; `finish_step`, called once a step with the sums of all rows of
    all processes, moves the learned numbers. So the outcome does not depend on how a step was cut.

    Args:
        settings: which loss.
        tie_share: of ties among the pairs to train on, where the tie parameter begins (`tie_start`).
        effects: of policies, beside the rewards.
    """

    def __init__(self, settings: LossSettings, *, tie_share: float = 0.0, effects: PolicyEffects | None = None) -> None:
        self.settings = settings
        self.effects = effects or PolicyEffects()
        self._heads = len(settings.combine)
        self._combine = torch.tensor(settings.combine, dtype=torch.float64)
        self._combine_information = torch.zeros(self._heads, self._heads, dtype=torch.float64)
        self._tie = tie_start(settings.kind, tie_share) if settings.has_ties else 0.0
        self._tie_information = 0.0
        self._length = torch.zeros(4, dtype=torch.float64)
        self._seen = 0.0

    @property
    def combine(self) -> tuple[float, ...]:
        """The weight of each head in the overall reward, as it stands."""
        return tuple(self._combine.tolist())

    @property
    def tie(self) -> dict[str, float]:
        """The tie parameter as it stands: theta or nu, by the loss's name; empty for a loss without ties."""
        return {self.settings.kind: math.exp(self._tie)} if self.settings.has_ties else {}

    @property
    def length_correlation(self) -> float:
        """Correlation of reward and length within prompts over the last pairs; 0 before the first step.

        It is taken over the differences of pairs, each in both directions: what the responses of a prompt have in
        common cancels, and the means are 0.
        """
        product, reward, length, _ = self._length.tolist()
        return product / math.sqrt(reward * length) if reward > 0 and length > 0 else 0.0

    def figures(self) -> dict[str, float]:
        """What is worth a line in the log."""
        return {**self.tie, "length correlation": self.length_correlation}

    def overall(self, rewards: Tensor) -> Tensor:
        """[R] overall rewards of [R, outputs], with the weights as they stand."""
        return overall(rewards, rewards.new_tensor(self.combine) if self._heads else None)

    def __call__(self, rewards: Tensor, row: PairsOfRow) -> RowLoss:
        """The sums over the pairs of a row.

        Args:
            rewards: [R, outputs], one output or one for each head.
            row: its pairs; a row without pairs or of weight 0 gives a loss of 0 that can still be differentiated.

        Raises:
            ValueError: the model has another number of outputs than the loss has heads.
        """
        outputs = max(self._heads, 1)
        if rewards.ndim != 2 or rewards.shape[1] != outputs:
            raise ValueError(f"rewards must be [responses, {outputs}]; got {tuple(rewards.shape)}")
        rewards = rewards.float()
        total = self.overall(rewards)
        weight = row.weight.float()
        chosen, rejected = total[row.chosen], total[row.rejected]
        difference = chosen - rejected
        target = self._smoothed(row.target.float())
        lengths = row.lengths.float()
        longer = lengths[row.chosen] - lengths[row.rejected]

        compared = difference + self.effects.lead(row).to(difference) if len(self.effects) else difference
        pairs = self._pair_loss(compared, target, row)
        if self.settings.centring:
            pairs = pairs + self.settings.centring * (chosen + rejected) ** 2
        if self.settings.length_penalty:
            pairs = pairs + self.settings.length_penalty * self._length_penalty(difference, longer)
        heads = rewards[row.chosen] - rewards[row.rejected]
        if self._heads and self.settings.principles:
            pairs = pairs + self.settings.principles * self._principle_loss(heads, row.principle_targets.float())
        with torch.no_grad():
            statistics = self._statistics(difference, compared, heads, longer, target, row)
        return RowLoss((weight * pairs).sum(), weight.sum(), statistics)

    def finish_step(self, statistics: Tensor) -> None:
        """Move the learned numbers by what the step's pairs say.

        Args:
            statistics: [k] the sum of ``RowLoss.statistics`` over all rows of the step, on all processes.
        """
        sums = statistics.to("cpu", torch.float64)
        weight = float(sums[0])
        if weight <= 0:
            return
        self._seen += weight
        kept = math.exp(-weight / max(MEMORY, self._seen / 4))
        self._length = math.exp(-weight / LENGTH_MEMORY) * self._length + torch.cat([sums[1:4], sums[:1]])
        last = len(sums) - len(self.effects) * (len(self.effects) + 1)
        if self.settings.has_ties:
            self._move_tie(kept, weight, gradient=float(sums[4]), curvature=float(sums[5]))
        if self.settings.learn_combine:
            self._move_combine(kept, gradient=sums[6 : 6 + self._heads], information=sums[6 + self._heads : last])
        if len(self.effects):
            self.effects.move(kept, sums[last:])

    def state(self) -> dict[str, list[float]]:
        """The learned numbers, to be kept with a checkpoint; as JSON they come back exactly."""
        return {
            "tie": [self._tie, self._tie_information],
            "combine": self._combine.tolist(),
            "combine_information": self._combine_information.flatten().tolist(),
            "length": self._length.tolist(),
            "seen": [self._seen],
            **self.effects.state(),
        }

    def load(self, state: Mapping[str, Sequence[float]]) -> None:
        """Go on from what `state` gave."""
        self._tie, self._tie_information = state["tie"]
        self._combine = torch.tensor(state["combine"], dtype=torch.float64)
        information = torch.tensor(state["combine_information"], dtype=torch.float64)
        self._combine_information = information.reshape(self._heads, self._heads)
        self._length = torch.tensor(state["length"], dtype=torch.float64)
        (self._seen,) = state["seen"]
        self.effects.load(state)

    def _smoothed(self, target: Tensor) -> Tensor:
        """The probability that the chosen one is better, when a label is wrong with the probability of smoothing."""
        wrong = self.settings.label_smoothing
        return target * (1 - wrong) + (1 - target) * wrong

    def _pair_loss(self, difference: Tensor, target: Tensor, row: PairsOfRow) -> Tensor:
        """[n] loss of each pair on the overall reward."""
        kind = self.settings.kind
        if kind in ("rao-kupper", "davidson"):
            parameter = difference.new_tensor(self._tie)
            model = rao_kupper if kind == "rao-kupper" else davidson
            return model(difference, target, _tied(row), parameter)
        if self.settings.gap_margin:
            difference = difference - self.settings.gap_margin * torch.nan_to_num(row.gap.float(), nan=0.0).relu()
        if kind == "hinge":
            return hinge(difference, target, self.settings.hinge_margin)
        return bradley_terry(difference, target)

    def _principle_loss(self, heads: Tensor, targets: Tensor) -> Tensor:
        """[n] mean loss over the principles of which a pair says something; 0 where it says nothing.

        Args:
            heads: [n, H] differences of the heads' rewards.
            targets: [n, H], NaN where nothing is known.
        """
        known = ~torch.isnan(targets)
        target = self._smoothed(torch.where(known, targets, 0.5))
        losses = torch.where(known, bradley_terry(heads, target), 0.0)
        return losses.sum(dim=1) / known.sum(dim=1).clamp(min=1)

    def _length_penalty(self, difference: Tensor, longer: Tensor) -> Tensor:
        """[n] terms whose weighted mean has the gradient of the squared covariance of reward and length.

        With c = E[d l], v = E[d^2], u = E[l^2] over pairs (d the difference of rewards, l that of lengths), the penalty
        is c^2 / ((v + 1) u), with v and u held: it pushes against length, and asks nothing of the scale of rewards. It
        is the squared correlation for rewards that differ by more than a log-odds; for those that hardly differ yet,
        correlation is noise and would have the largest gradients. The gradient by d, 2 c l / ((v + 1) u), is linear in
        the pairs, with the expectations taken from the latest steps before: the few pairs of one row always correlate
        (one pair by 1 or -1) and a square of theirs would punish noise, while an error of pairs read before is
        independent of those at hand, and cancels. The value is that of before.

        Source: a penalty on the correlation with length, by batch, is in ODIN, Chen et al. 2024, arXiv:2402.07319;
        running estimates inside a square are those of Wang et al. 2017, arXiv:1411.3803.
        """
        product, reward, length, weight = self._length.tolist()
        if not length > 0:
            return torch.zeros_like(difference)
        units = (reward + weight) * length
        terms = 2 * product * weight / units * longer * difference
        return terms - terms.detach() + product**2 / units

    def _statistics(
        self, difference: Tensor, compared: Tensor, heads: Tensor, longer: Tensor, target: Tensor, row: PairsOfRow
    ) -> Tensor:
        """[6 + H + H^2 + P + P^2] sums over pairs: weight; products for the correlation; tie; combination of heads;
        effects of policies.

        Args:
            difference: [n] of the rewards.
            compared: [n] the same with the effects of policies, as the loss sees it.
            heads, longer, target, row: as for the loss.
        """
        exact = torch.float32 if difference.device.type == "mps" else torch.float64
        difference, compared, longer, target, weight = (
            x.to(exact) for x in (difference, compared, longer, target, row.weight)
        )
        slope = curvature = torch.zeros_like(difference)
        if self.settings.has_ties:
            slope, curvature = self._tie_derivatives(compared, target, _tied(row).to(exact))
        sums = [weight, weight * difference * longer, weight * difference**2, weight * longer**2]
        parts = [torch.stack([*(x.sum() for x in sums), (weight * slope).sum(), (weight * curvature).sum()])]
        if self.settings.learn_combine or len(self.effects):
            slope, curvature = (weight * by for by in self._difference_derivatives(compared, target, row))
        if self.settings.learn_combine:
            heads = heads.to(exact)
            parts += [slope @ heads, (heads.T @ (curvature[:, None] * heads)).flatten()]
        if len(self.effects):
            parts.append(self.effects.statistics(row, slope, curvature))
        return torch.cat(parts)

    def _tie_derivatives(self, difference: Tensor, target: Tensor, tied: Tensor) -> tuple[Tensor, Tensor]:
        """[n] first derivative of each pair's loss by the tie parameter, and [n] the expected second one.

        For a scalar parameter t the expected second derivative is the Fisher information, sum of (dP/dt)^2 / P over
        the outcomes: above 0 everywhere, so that a Newton step goes downhill.
        """
        if self.settings.kind == "davidson":
            # ln P = (d/2, t, -d/2) - ln(sum of exp): by t that is -P(tie), and 1 - P(tie) for the tie itself.
            tie = davidson_logs(difference, difference.new_tensor(self._tie))[1].exp()
            return tie - tied, tie * (1 - tie)
        # ln P(chosen) = ln s(d - t): by t -s(t - d). ln P(tie) has 2 / (1 - exp(-2 t)) - s(t - d) - s(t + d).
        eta = self._tie
        chosen, rejected = torch.sigmoid(eta - difference), torch.sigmoid(eta + difference)
        tie = 2 / -math.expm1(-2 * eta) - chosen - rejected
        slope = (target - tied / 2) * chosen + (1 - target - tied / 2) * rejected - tied * tie
        won, drawn, lost = (x.exp() for x in rao_kupper_logs(difference, difference.new_tensor(eta)))
        return slope, won * chosen**2 + drawn * tie**2 + lost * rejected**2

    def _difference_derivatives(self, difference: Tensor, target: Tensor, row: PairsOfRow) -> tuple[Tensor, Tensor]:
        """[n] first derivative of each pair's loss by its difference, and [n] a bound from above 0 for the second."""
        with torch.enable_grad():
            variable = difference.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self._pair_loss(variable, target, row).sum(), variable)
        return slope, torch.sigmoid(difference) * torch.sigmoid(-difference)

    def _move_tie(self, kept: float, weight: float, *, gradient: float, curvature: float) -> None:
        """One Newton step on the tie parameter."""
        prior = 0.0 if self._tie_information else TIE_PRIOR * curvature / weight
        self._tie_information = kept * self._tie_information + curvature + prior
        if self._tie_information <= 0:
            return
        step = -gradient / self._tie_information
        largest = min(LARGEST_TIE_STEP, self._tie / 2) if self.settings.kind == "rao-kupper" else LARGEST_TIE_STEP
        low, high = ETA if self.settings.kind == "rao-kupper" else LOG_NU
        self._tie = min(max(self._tie + min(max(step, -largest), LARGEST_TIE_STEP), low), high)

    def _move_combine(self, kept: float, *, gradient: Tensor, information: Tensor) -> None:
        """One Newton step on the weights of the heads; none falls below 0.

        What is minimised is the forgetting sum of losses plus ``strength / 2`` times the squared distance from the
        starting weights, which is never forgotten: a pair at d = 0 says a quarter as much of a weight as its squared
        lead. So heads that tell nothing apart yet neither lose their weight soon nor have it blown up.
        """
        self._combine_information = kept * self._combine_information + information.reshape(self._heads, self._heads)
        start, strength = torch.tensor(self.settings.combine, dtype=torch.float64), COMBINE_PRIOR / 4
        gradient = gradient + (1 - kept) * strength * (self._combine - start)
        matrix = self._combine_information + strength * torch.eye(self._heads, dtype=torch.float64)
        self._combine = (self._combine - torch.linalg.solve(matrix, gradient)).clamp(min=0.0)


def _tied(row: PairsOfRow) -> Tensor:
    """[n] 1 for a tie, 0 otherwise: a target between a half and 1 says how surely one is better, not how often tied."""
    return (row.target == 0.5).float()
