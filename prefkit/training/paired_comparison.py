"""Models of paired comparison: what the difference of two rewards says of which response is preferred.

Reads differences d = r(chosen) - r(rejected), in log-odds, and labels; gives the loss of each pair, the probabilities
of its outcomes, and where a tie parameter begins.

A label is a probability. ``target`` is the probability with which the chosen response is better, and a loss is the
expected negative log-likelihood under it; a target of one half is a tie, which the models with ties see as a third
outcome and the others as half a win each way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Kind = Literal["bradley-terry", "rao-kupper", "davidson", "hinge"]

ETA = (1e-4, 8.0)
"""Where the tie parameter of Rao and Kupper may lie, as ln theta."""

LOG_NU = (-9.0, 9.0)
"""Where the tie parameter of Davidson may lie, as ln nu."""


def bradley_terry(difference: Tensor, target: Tensor) -> Tensor:
    """Negative log-likelihood of each pair: -p ln s(d) - (1 - p) ln s(-d), with s the logistic function.

    A tie (p = 1/2) pulls the difference to 0, and no soft label asks for more than its own log-odds, ln(p / (1 - p)).

    Args:
        difference: [n] d, the reward of the chosen response less that of the rejected one, in log-odds.
        target: [n] p, the probability that the chosen one is better.

    Returns:
        [n] in nats.

    Source: Bradley & Terry 1952, doi:10.2307/2334029; as a loss, Ouyang et al. 2022, arXiv:2203.02155, eq. 1.
    """
    return -target * functional.logsigmoid(difference) - (1 - target) * functional.logsigmoid(-difference)


def hinge(difference: Tensor, target: Tensor, margin: float = 1.0) -> Tensor:
    """Expected hinge loss of each pair: p max(0, m - d) + (1 - p) max(0, m + d).

    It stops pushing where the chosen response leads by the margin. Its rewards have no scale of their own: a
    difference is no log-odds before it is calibrated.

    Args:
        difference, target: [n], as for `bradley_terry`.
        margin: m, the lead that is enough.

    Returns:
        [n] in the unit of the difference.

    Source: the ranking support vector machine, Joachims 2002, doi:10.1145/775047.775067.
    """
    return target * functional.relu(margin - difference) + (1 - target) * functional.relu(margin + difference)


def rao_kupper(difference: Tensor, target: Tensor, tied: Tensor, eta: Tensor) -> Tensor:
    """Negative log-likelihood of each pair where a lead below a threshold is a tie.

    With theta = exp(eta) >= 1::

        P(chosen better)   = s(d - eta)
        P(rejected better) = s(-d - eta)
        P(tie)             = (theta^2 - 1) s(d - eta) s(-d - eta)

    which is the model pi_i / (pi_i + theta pi_j) for pi = exp(reward). At theta = 1 it is Bradley-Terry.

    Args:
        difference: [n] d.
        target: [n] probability that the chosen one is better, a tie counting half.
        tied: [n] probability of a tie, at most 2 min(target, 1 - target).
        eta: ln theta, above 0, in log-odds; a scalar.

    Returns:
        [n] in nats: -(target - tied/2) ln P(chosen better) - (1 - target - tied/2) ln P(rejected better)
        - tied ln P(tie).

    Source: Rao & Kupper 1967, doi:10.1080/01621459.1967.10482901.
    """
    won, tie, lost = rao_kupper_logs(difference, eta)
    return -((target - tied / 2) * won + tied * tie + (1 - target - tied / 2) * lost)


def davidson(difference: Tensor, target: Tensor, tied: Tensor, log_nu: Tensor) -> Tensor:
    """Negative log-likelihood of each pair where equal rewards make a tie likely.

    ::

        P(chosen better) : P(tie) : P(rejected better) = exp(d / 2) : nu : exp(-d / 2)

    which is the model pi_i / (pi_i + pi_j + nu sqrt(pi_i pi_j)) for pi = exp(reward). The difference stays the
    log-odds among the pairs that are no ties. At nu = 0 it is Bradley-Terry.

    Args:
        difference, target, tied: as for `rao_kupper`.
        log_nu: ln nu; a scalar.

    Returns:
        [n] in nats.

    Source: Davidson 1970, doi:10.1080/01621459.1970.10481082.
    """
    won, tie, lost = davidson_logs(difference, log_nu)
    return -((target - tied / 2) * won + tied * tie + (1 - target - tied / 2) * lost)


def outcomes(difference: Tensor, tie: Mapping[str, float]) -> Tensor:
    """Probabilities of the three outcomes.

    Args:
        difference: [n] d.
        tie: the tie parameter by the loss's name, as `RewardLoss.tie` gives it; empty for none.

    Returns:
        [n, 3]: chosen better, tie, rejected better.
    """
    if "rao-kupper" in tie:
        eta = difference.new_tensor(math.log(tie["rao-kupper"]))
        return torch.stack(rao_kupper_logs(difference, eta), dim=-1).exp()
    if "davidson" in tie:
        log_nu = difference.new_tensor(math.log(tie["davidson"]))
        return torch.stack(davidson_logs(difference, log_nu), dim=-1).exp()
    return torch.stack([difference.sigmoid(), torch.zeros_like(difference), (-difference).sigmoid()], dim=-1)


def tie_start(kind: Kind, share: float) -> float:
    """The tie parameter under which responses of equal reward tie with the probability ``share``.

    As long as a model tells nothing apart, the share of ties among the pairs is the maximum-likelihood choice.

    Args:
        kind: a loss with ties.
        share: of ties among the pairs, from 0 to 1.

    Returns:
        ln theta = 2 artanh(share) for Rao-Kupper, since P(tie | d = 0) = (theta - 1) / (theta + 1); ln nu =
        ln(2 share / (1 - share)) for Davidson, since P(tie | d = 0) = nu / (2 + nu). Both are kept within their bounds.
    """
    share = min(max(share, 0.0), 1 - 1e-6)
    if kind == "rao-kupper":
        return min(max(2 * math.atanh(share), ETA[0]), ETA[1])
    return min(max(math.log(2 * share / (1 - share)) if share else -math.inf, LOG_NU[0]), LOG_NU[1])


def rao_kupper_logs(difference: Tensor, eta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[n] log-probabilities: chosen better, tie, rejected better."""
    won, lost = functional.logsigmoid(difference - eta), functional.logsigmoid(-difference - eta)
    return won, 2 * eta + torch.log(-torch.expm1(-2 * eta)) + won + lost, lost


def davidson_logs(difference: Tensor, log_nu: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[n] log-probabilities: chosen better, tie, rejected better."""
    logits = torch.stack([difference / 2, log_nu.expand_as(difference), -difference / 2])
    won, tie, lost = torch.log_softmax(logits, dim=0)
    return won, tie, lost
