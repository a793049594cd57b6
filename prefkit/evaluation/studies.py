"""Blind studies of two policies on a scale: every rater scores both answers to a prompt without knowing whose they are.

Reads   two scores for each prompt and rater, such as from 1 to 10, for one question or for several
Gives   the mean difference with a 95% interval over prompts, Wilcoxon's signed-rank test and the sign test, the effect
        size, and p-values corrected for the number of questions

The unit is the prompt: the scores of several raters on a prompt are averaged before the tests, which count each prompt
once. A prompt where either score is missing is left out and counted; a missing score is never a low one.

Chosen: the exact distribution of the signed ranks with their ties (the sign of each difference is a coin toss) for up
to ``EXACT`` differences, the normal one beyond. Prompts without a difference are left out of the ranks, as Wilcoxon
did, and stay in the mean and in the share of ties.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from prefkit.errors import PrefkitError
from prefkit.resampling import Clusters, Figure, estimates, per_cluster, ratio

Floats = npt.NDArray[np.float64]
EXACT = 300
FEWEST = 6
"""Prompts with a difference, below which the exact test cannot reach p < 0.05: 2 / 2**5 = 0.0625."""


@dataclass(frozen=True)
class Study:
    """Two policies' scores for one question.

    Args:
        prompts, left_out: prompts with both scores, and those without.
        first_mean, second_mean: over prompts.
        difference: first less second, with its interval.
        wins, ties, losses: prompts on which the first scored higher, the same, lower.
        wilcoxon: two-sided p of the signed ranks; None where no prompt differs.
        sign: two-sided p of the sign test.
        rank_biserial: matched-pairs rank-biserial correlation, from -1 to 1: the share of rank sums in favour less
            that against.
        standardised: mean difference over the standard deviation of the differences (Cohen's d_z); None without
            spread.
        holm, benjamini_hochberg: ``wilcoxon`` corrected for the questions of the study.
    """

    question: str
    prompts: int
    left_out: int
    first_mean: float
    second_mean: float
    difference: Figure
    wins: int
    ties: int
    losses: int
    wilcoxon: float | None
    sign: float | None
    rank_biserial: float | None
    standardised: float | None
    holm: float | None = None
    benjamini_hochberg: float | None = None
    notes: tuple[str, ...] = ()


def study(
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    prompt: npt.ArrayLike | None = None,
    *,
    question: str = "overall",
    rounds: int = 1000,
    seed: int = 0,
) -> Study:
    """Two policies' scores for one question.

    Args:
        first, second: [n] scores, NaN where missing; row i is of one prompt and one rater.
        prompt: [n] names or codes of prompts; None where each row is a prompt of its own.
        question: what was asked.
        rounds, seed: of the bootstrap.

    Raises:
        ValueError: the shapes differ.
        PrefkitError: no prompt has both scores.

    Source: Wilcoxon 1945, doi:10.2307/3001968; the effect size, Kerby 2014, doi:10.2466/11.IT.3.1.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != other.shape or one.ndim != 1:
        raise ValueError(f"scores must be aligned vectors; got {one.shape}, {other.shape}")
    names = np.arange(len(one)) if prompt is None else np.asarray(prompt)
    codes, code = np.unique(names, return_inverse=True)
    both = np.isfinite(one) & np.isfinite(other)
    if not both.any():
        raise PrefkitError(question, "no prompt with both scores", "a score for each of the two answers", "Rate some.")
    count = per_cluster(both[both], code[both], len(codes))
    there = count > 0
    means = [per_cluster(values[both], code[both], len(codes))[there] / count[there] for values in (one, other)]
    gap = np.round(means[0] - means[1], 9)
    return Study(
        question=question,
        prompts=len(gap),
        left_out=int((~there).sum()),
        first_mean=float(means[0].mean()),
        second_mean=float(means[1].mean()),
        difference=_mean(gap, rounds, seed),
        wins=int((gap > 0).sum()),
        ties=int((gap == 0).sum()),
        losses=int((gap < 0).sum()),
        wilcoxon=signed_rank(gap),
        sign=sign_test(int((gap > 0).sum()), int((gap < 0).sum())),
        rank_biserial=_rank_biserial(gap),
        standardised=float(gap.mean() / gap.std(ddof=1)) if len(gap) > 1 and np.ptp(gap) > 0 else None,
        notes=_notes(gap),
    )


def studies(
    first: Mapping[str, npt.ArrayLike],
    second: Mapping[str, npt.ArrayLike],
    prompt: npt.ArrayLike | None = None,
    *,
    rounds: int = 1000,
    seed: int = 0,
) -> tuple[Study, ...]:
    """Two policies' scores for several questions, with p-values corrected for their number.

    Args:
        first, second: question -> [n] scores, as for `study`.
        prompt, rounds, seed: as for `study`.

    Raises:
        ValueError: the questions differ.
        PrefkitError: a question without a prompt that has both scores.
    """
    from dataclasses import replace

    if first.keys() != second.keys():
        raise ValueError("both policies must be scored on the same questions")
    made = [study(first[name], second[name], prompt, question=name, rounds=rounds, seed=seed) for name in first]
    tested = [one for one in made if one.wilcoxon is not None]
    p = [one.wilcoxon for one in tested if one.wilcoxon is not None]
    corrected = {
        one.question: replace(one, holm=strict, benjamini_hochberg=rate)
        for one, strict, rate in zip(tested, holm(p), benjamini_hochberg(p), strict=True)
    }
    return tuple(corrected.get(one.question, one) for one in made)


def _mean(gap: Floats, rounds: int, seed: int) -> Figure:
    clusters = Clusters(np.arange(len(gap)), seed)
    cluster = clusters(np.arange(len(gap)))
    sums = ratio(
        per_cluster(gap, cluster, clusters.size),
        per_cluster(np.ones(len(gap)), cluster, clusters.size),
        len(gap),
        share=False,
    )
    return estimates({"difference": sums}, resamples=rounds, seed=seed)["difference"]


def signed_rank(gap: npt.ArrayLike) -> float | None:
    """Two-sided p-value of Wilcoxon's signed-rank test; None where no difference [n] is other than 0."""
    differences = np.asarray(gap, dtype=np.float64)
    differences = differences[differences != 0]
    if not len(differences):
        return None
    ranks = _ranks(differences)
    positive = float(ranks[differences > 0].sum())
    if len(differences) <= EXACT:
        return _exact(ranks, positive)
    from scipy.special import ndtr

    spread = math.sqrt(float((ranks**2).sum()) / 4)
    distance = max(abs(positive - ranks.sum() / 2) - 0.5, 0.0) / spread
    return float(min(1.0, 2 * ndtr(-distance)))


def _ranks(differences: Floats) -> Floats:
    from scipy.stats import rankdata

    ranks: Floats = rankdata(np.abs(differences)).astype(np.float64)
    return ranks


def _exact(ranks: Floats, positive: float) -> float:
    """Over all signs of the ranks: the chance of a sum as far from its middle. Ranks are multiples of one half."""
    doubled = np.round(2 * ranks).astype(np.int64)
    chance = np.zeros(int(doubled.sum()) + 1)
    chance[0] = 1.0
    for rank in doubled:
        shifted = np.zeros_like(chance)
        shifted[rank:] = chance[: len(chance) - rank]
        chance = (chance + shifted) / 2
    sums = np.arange(len(chance))
    middle = doubled.sum() / 2
    far = np.abs(sums - middle) >= abs(2 * positive - middle) - 1e-9
    return float(min(1.0, chance[far].sum()))


def sign_test(wins: int, losses: int) -> float | None:
    """Two-sided p-value of as many wins as losses, ties left out; None where there is neither."""
    from scipy.stats import binomtest

    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else None


def _rank_biserial(gap: Floats) -> float | None:
    differences = gap[gap != 0]
    if not len(differences):
        return None
    ranks = _ranks(differences)
    return float((ranks * np.sign(differences)).sum() / ranks.sum())


def _notes(gap: Floats) -> tuple[str, ...]:
    differing = int((gap != 0).sum())
    if 0 < differing < FEWEST:
        return (f"only {differing} prompts differ: no result of these could be significant at the 5% level",)
    return ("no prompt differs",) if not differing else ()


def holm(p: Sequence[float]) -> list[float]:
    """P-values by Holm: the chance of a single wrong finding among all stays at the level.

    Source: Holm 1979, doi:10.2307/4615733.
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values)
    raised = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    return _back(np.minimum(raised, 1.0), order)


def benjamini_hochberg(p: Sequence[float]) -> list[float]:
    """P-values by Benjamini and Hochberg: the share of wrong findings among the findings stays at the level.

    Source: Benjamini & Hochberg 1995, doi:10.1111/j.2517-6161.1995.tb02031.x.
    """
    values = np.asarray(p, dtype=np.float64)
    order = np.argsort(values)
    raised = values[order] * len(values) / np.arange(1, len(values) + 1)
    return _back(np.minimum.accumulate(raised[::-1])[::-1], order)


def _back(values: Floats, order: npt.NDArray[np.intp]) -> list[float]:
    found = np.empty(len(values))
    found[order] = values
    return [float(value) for value in found]
