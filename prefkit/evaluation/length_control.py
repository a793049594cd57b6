"""How often a policy would be preferred if its answers were as long as the baseline's.

Reads   Outcomes, and for the control of style the counts of headers, lists and bold in the texts
Gives   LengthControlled: the rate at equal length, with a 95% interval over prompts

Four controls (``method``), each a logistic regression of who was preferred, read off where the two answers are alike:

    simple  theta + phi z                      z = (a - b) / (a + b), scaled: the arena's way to write a difference
    style   theta + sum of phi z               the same of length, headers, lists and bold, as the arena does
    glm     theta + phi tanh(d) + psi gamma    AlpacaEval's model without its L1 penalty. d is the difference of lengths
                                               in units of its standard deviation, gamma the prompt's difficulty: given,
                                               estimated from the other policies' outcomes on it, or left out
    alpaca  the same, fitted as AlpacaEval does: L1 of cross-validated strength, rows of gamed versions of the baseline

What nobody can compute is how the judge would see answers of equal length where there are hardly any: then the four
differ by more than their intervals. So the rate among the answers of similar length, as judged, stands beside.

The interval is not AlpacaEval's. Its standard error is the spread of the predictions over prompts: 95% intervals of it
held the truth in 51 to 66% of studies simulated with prompts that differ as AlpacaEval's do, in 12 to 20% with prompts
that hardly differ (benchmarks/winrate_parts/length_coverage.py), and its model without difficulty predicts the same
everywhere, for an error of 0. Here each prompt is left out in turn by one Newton step, with all its rows: the jackknife
of the whole estimate, which is the delta method with a sandwich covariance (CR3). It holds where the model is wrong,
labels are soft and a prompt has many rows. It is taken in log-odds, with Student's t.

Slopes have a normal prior, wide beside any that was published, so that 60 prompts which longer answers always won still
give a number; the level theta has none. Nothing is joined by position.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from prefkit.evaluation.alpaca_files import Weights
from prefkit.evaluation.length_fit import (
    Coefficient,
    estimate_of,
    estimated_difficulties,
    l1_weights,
    predictions,
    sigmoid,
)
from prefkit.evaluation.length_rows import (
    Bools,
    Floats,
    Rows,
    alpaca_design,
    arena_design,
    check_design,
    check_rows,
    rows_of,
    spread_of,
    styles_of_rows,
)
from prefkit.evaluation.outcomes import Outcomes, known
from prefkit.evaluation.styles import style_counts

__all__ = ["LengthControlled", "Method", "is_extreme", "length_controlled", "predicted", "style_counts"]

Method = Literal["glm", "alpaca", "simple", "style"]

ENOUGH_SIMILAR = 0.1
"""Of the answers, to say nothing of it."""
ALIKE = Weights(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class LengthControlled:
    """How often the policy is preferred, as judged (``raw``) and with the answers alike (``value``), from 0 to 1.

    ``value`` is None where there are too few prompts or nothing that could be controlled for, ``low`` and ``high`` are
    its 95% interval, ``standard_error`` is on its scale. ``spread`` is what AlpacaEval calls the standard error: how
    the predictions differ between prompts, and nothing of how sure the rate is. ``similar`` is the rate as judged
    where the longer answer is at most a fifth longer, in ``similar_n`` rows. ``n`` rows on ``prompts`` prompts were
    used; ``left_out`` counts the other rows of the two policies by reason. ``difficulty`` says where prompts'
    difficulties came from. ``notes`` are sentences for the reader, ``extreme`` is AlpacaEval's warning (`is_extreme`).
    """

    policy: str
    baseline: str
    method: Method
    value: float | None
    low: float | None
    high: float | None
    standard_error: float | None
    spread: float | None
    raw: float
    similar: float | None
    similar_n: int
    n: int
    prompts: int
    difficulty: Literal["given", "estimated", "none"]
    coefficients: tuple[Coefficient, ...]
    left_out: dict[str, int]
    notes: tuple[str, ...]
    extreme: bool


def length_controlled(
    outcomes: Outcomes,
    policy: str,
    baseline: str,
    *,
    method: Method = "simple",
    difficulty: Mapping[str, float] | Literal["estimated"] | None = "estimated",
    gamed: Sequence[str] = (),
    styles: tuple[Floats, Floats] | None = None,
) -> LengthControlled:
    """The rate at which a policy would be preferred to the baseline if their answers were alike.

    Args:
        outcomes: n rows. Those of the two policies are fitted; the others only say how difficult prompts are.
        policy, baseline: their names.
        method: see the module.
        difficulty: by prompt, in log-odds, higher where the policy is more likely to win; or ``estimated`` from what
            other policies came to against this baseline, if there are any; or None to leave it out. For ``glm`` and
            ``alpaca``.
        gamed: for ``alpaca``, policies that are the baseline asked to write more or less.
        styles: for ``style``, what `style_counts` says of the texts of ``first`` and ``second``, each [n, 4].

    Raises:
        PrefkitError: there is no such policy, no row of the two with known lengths, or one answer is longer by
            the same amount everywhere, so that no rate at equal length can be told.
        ValueError: ``style`` without styles.
    """
    if (method == "style") != (styles is not None):
        raise ValueError("styles belong to the method style, and it needs them")
    asked = rows_of(outcomes, policy, baseline, gamed if method == "alpaca" else ())
    source: Literal["given", "estimated", "none"] = "none"
    notes: list[str] = []
    gamma: Floats | None = None
    if method in ("glm", "alpaca") and difficulty is not None:
        by_prompt = difficulties_of(outcomes, policy, baseline, difficulty)
        if by_prompt is None:
            notes.append("No other policy was compared with the baseline, so prompts' difficulty is left out.")
        else:
            source = "estimated" if difficulty == "estimated" else "given"
            asked = asked.where(np.isfinite(by_prompt[asked.prompt]), "no difficulty for the prompt")
            gamma = by_prompt[asked.prompt]
    check_rows(asked, outcomes, policy, baseline)
    asked = asked.weighed(outcomes.judge)
    if method in ("glm", "alpaca"):
        design = alpaca_design(asked, gamma)
    else:
        design = arena_design(asked, None if styles is None else styles_of_rows(styles, asked))
    check_design(asked, design, outcomes, policy, baseline)
    estimate, unused = estimate_of(asked, design)
    value, weights = estimate.value, estimate.weights
    if method == "alpaca" and weights is not None:
        weights = l1_weights(asked, design)
        value = float(np.average(predictions(asked, design, weights), weights=asked.weight[asked.mine]))
        if estimate.low is not None and estimate.high is not None and not estimate.low <= value <= estimate.high:
            notes.append("The L1 penalty pulls the rate out of the interval, which is that of the fit without it.")
    alike = None if weights is None else predictions(asked, design, weights)
    raw, near = asked.raw(), asked.similar()
    notes += unused + _about_length(asked, near, policy, baseline)
    extreme = value is not None and is_extreme(raw, value)
    if extreme:
        notes.append(
            "Control for length moves the rate so far that the model of length may have failed: see the rate as judged."
        )
    return LengthControlled(
        policy=policy,
        baseline=baseline,
        method=method,
        value=value,
        low=estimate.low,
        high=estimate.high,
        standard_error=estimate.error,
        spread=None if alike is None else spread_of(alike) / math.sqrt(len(alike)),
        raw=raw,
        similar=asked.raw(near) if near.any() else None,
        similar_n=int(near.sum()),
        n=int(asked.mine.sum()),
        prompts=asked.prompts(),
        difficulty=source,
        coefficients=estimate.coefficients,
        left_out=asked.left_out,
        notes=tuple(notes),
        extreme=extreme,
    )


def predicted(
    weights: Weights, difficulties: Mapping[str, float] | Sequence[float], baseline: Weights = ALIKE
) -> float:
    """The length-controlled rate, from 0 to 1, that weights and difficulties of prompts come to.

    It is the mean over prompts of sigmoid(theta + psi gamma), with theta and psi less those of the baseline.

    Raises:
        ValueError: there are no difficulties.

    Source: Dubois et al. 2024, arXiv:2404.04475; as alpaca_eval 0.6.6 computes it.
    """
    gamma = np.fromiter(difficulties.values() if isinstance(difficulties, Mapping) else difficulties, np.float64)
    if not len(gamma):
        raise ValueError("no difficulties: the mean over none is undefined")
    weight = weights.difficulty - baseline.difficulty
    return float(sigmoid(weights.model - baseline.model + weight * gamma).mean())


def is_extreme(raw: float, controlled: float) -> bool:
    """Whether control for length moves a rate so far that AlpacaEval warns that its model may have failed.

    Both are from 0 to 1. It warns below the lower of raw less a quarter of it and raw less 0.1, and above the higher of
    raw plus a quarter of what is left to 1 and raw plus 0.1.
    """
    return controlled < min(raw - raw / 4, raw - 0.1) or controlled > max(raw + (1 - raw) / 4, raw + 0.1)


def difficulties_of(
    outcomes: Outcomes, policy: str, baseline: str, difficulty: Mapping[str, float] | Literal["estimated"]
) -> Floats | None:
    """The difficulty of each prompt [prompts], NaN where it is not known; None with nothing to estimate it from."""
    if difficulty != "estimated":
        return np.array([difficulty.get(name, math.nan) for name in outcomes.prompts], dtype=np.float64)
    codes = [known(name, outcomes.policies, "policy", outcomes.source) for name in (policy, baseline)]
    others = [
        name
        for code, name in enumerate(outcomes.policies)
        if code not in codes
        and (
            ((outcomes.first == code) & (outcomes.second == codes[1]))
            | ((outcomes.first == codes[1]) & (outcomes.second == code))
        ).any()
    ]
    if not others:
        return None
    return estimated_difficulties(outcomes, others, baseline)


def _about_length(rows: Rows, near: Bools, policy: str, baseline: str) -> list[str]:
    """What the reader must know where hardly any two answers are of similar length."""
    mine = rows.mine
    share = float(near.sum() / mine.sum())
    if share >= ENOUGH_SIMILAR:
        return []
    longer = float((rows.lengths[mine, 0] > rows.lengths[mine, 1]).mean())
    where = f"{policy} is longer than {baseline} in {longer:.0%}"
    beyond = "the rate at equal length goes beyond what was seen, and another model of length may give another one"
    return [f"Only {share:.0%} of the answers are of similar length ({where}): {beyond}."]
