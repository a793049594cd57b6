"""What a policy's responses are ahead by while rewards are learned, and what is no part of a reward.

Where one policy mostly beats another, whatever tells the two apart is worth learning for a model, and of no use with a
third policy. With an effect of its own for each policy in the difference that a loss looks at, the rewards are left
with what makes one response better than another by the same policies.

Effects begin where the outcomes alone put them, so that the network never sees what they explain, and follow as the
tie parameter does (``losses``): a Newton step on what the latest pairs say, the same on all processes. Learned by
gradient, they would come after the network, which learns who wrote a response first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from prefkit.training.groups import Group

PRIOR = 1.0
"""An effect of 0 counts as so many pairs of equal rewards, so that a policy that always won has no endless one."""
STRENGTH = PRIOR / 4
"""A pair of equal rewards says a quarter as much of an effect as its square."""
ROUNDS = 100
"""Newton steps on the outcomes alone, at most."""


class PairsByPolicies(Protocol):
    """What effects read of a packed row: n pairs among R responses."""

    @property
    def chosen(self) -> Tensor:
        """[n] positions among the responses."""
        ...

    @property
    def rejected(self) -> Tensor:
        """[n] positions among the responses."""
        ...

    @property
    def policies(self) -> Sequence[str]:
        """[R] that wrote the responses."""
        ...


class PolicyEffects:
    """An effect in log-odds for each of P policies; 0 for any other.

    Args:
        policies: their names; none: there are no effects.
        groups: with the pairs to train on; where nothing is known of the outcomes, effects begin at 0.
    """

    def __init__(self, policies: Sequence[str] = (), groups: Iterable[Group] = ()) -> None:
        self._place = {name: place for place, name in enumerate(policies)}
        self._values = torch.zeros(len(policies), dtype=torch.float64)
        self._information = torch.zeros(len(policies), len(policies), dtype=torch.float64)
        if policies:
            self._begin(groups)

    def __len__(self) -> int:
        return len(self._values)

    @property
    def of(self) -> dict[str, float]:
        """The effect of each policy, as it stands."""
        return dict(zip(self._place, self._values.tolist(), strict=True))

    def lead(self, row: PairsByPolicies) -> Tensor:
        """[n] by how much each pair's chosen side is ahead for who wrote it, float32."""
        wrote = self._wrote(row)
        effects = torch.cat([self._values, self._values.new_zeros(1)]).float().to(wrote.device)
        return effects[wrote[row.chosen]] - effects[wrote[row.rejected]]

    def statistics(self, row: PairsByPolicies, slope: Tensor, curvature: Tensor) -> Tensor:
        """[P + P^2] sums over pairs, for ``move``.

        Args:
            row: its pairs.
            slope, curvature: [n] derivatives of each pair's loss by its difference, times its weight.
        """
        wrote = torch.nn.functional.one_hot(self._wrote(row), len(self) + 1)[:, :-1].to(slope.dtype)
        sides = wrote[row.chosen] - wrote[row.rejected]
        return torch.cat([slope @ sides, (sides.T @ (curvature[:, None] * sides)).flatten()])

    def move(self, kept: float, sums: Tensor) -> None:
        """One Newton step.

        What is minimised is the forgetting sum of losses plus ``STRENGTH / 2`` times the squared effects.

        Args:
            kept: share of what was known that is not forgotten.
            sums: [P + P^2] of the step's ``statistics``.
        """
        count = len(self)
        self._information = kept * self._information + sums[count:].reshape(count, count)
        self._values = self._values - self._step(sums[:count] + (1 - kept) * STRENGTH * self._values)

    def state(self) -> dict[str, list[float]]:
        """To be kept with a checkpoint."""
        return {
            "policies": self._values.tolist(),
            "policies_information": self._information.flatten().tolist(),
        }

    def load(self, state: Mapping[str, Sequence[float]]) -> None:
        """Go on from what ``state`` gave."""
        self._values = torch.tensor(state["policies"], dtype=torch.float64)
        information = torch.tensor(state["policies_information"], dtype=torch.float64)
        self._information = information.reshape(len(self), len(self))

    def _begin(self, groups: Iterable[Group]) -> None:
        """Put the effects where they are best with equal rewards, by Newton steps of a log-odds at most."""
        count = len(self)
        wins = torch.zeros(count + 1, count + 1, dtype=torch.float64)
        for group in groups:
            places = [self._place.get(name, count) for name in group.policies]
            for pair in group.pairs:
                chosen, rejected = places[pair.chosen], places[pair.rejected]
                wins[chosen, rejected] += pair.weight * pair.preferred
                wins[rejected, chosen] += pair.weight * (1 - pair.preferred)
        for _ in range(ROUNDS):
            values = torch.cat([self._values, self._values.new_zeros(1)])
            losing = torch.sigmoid(values - values[:, None])
            curvature = (wins + wins.T) * losing * (1 - losing)
            self._information = (torch.diag(curvature.sum(1)) - curvature)[:count, :count]
            slope = ((wins * losing).sum(0) - (wins * losing).sum(1))[:count]
            step = self._step(slope + STRENGTH * self._values).clamp(-1, 1)
            self._values = self._values - step
            if step.abs().max() < 1e-9:
                break

    def _step(self, gradient: Tensor) -> Tensor:
        """[P] that leads downhill."""
        matrix = self._information + STRENGTH * torch.eye(len(self), dtype=torch.float64)
        return torch.linalg.solve(matrix, gradient)

    def _wrote(self, row: PairsByPolicies) -> Tensor:
        """[R] number of the policy that wrote each response; P for any other."""
        return torch.tensor([self._place.get(name, len(self)) for name in row.policies], device=row.chosen.device)
