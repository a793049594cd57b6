"""Intervals against data simulated with a known truth."""

from __future__ import annotations

import numpy as np
import pytest

from prefkit import resampling
from prefkit.agreement.coefficients import cohen_kappa, identity_weights
from prefkit.resampling import Clusters, Sums, estimates, ratio, wilson


def simulated_shares(rng: np.random.Generator, prompts: int, centre: float, spread: float) -> Sums:
    """Simulated agreement: prompts differ in how easy they are (log-odds normal), and in how many pairs they have."""
    easy = 1 / (1 + np.exp(-rng.normal(centre, spread, prompts)))
    pairs = 1 + rng.poisson(8, prompts)
    return ratio(rng.binomial(pairs, easy).astype(float), pairs.astype(float), int(pairs.sum()))


def covered(figure: resampling.Figure, truth: float) -> bool:
    return figure.low <= truth <= figure.high


@pytest.mark.parametrize(("prompts", "centre"), [(20, 1.4), (20, 3.0), (80, 1.4)])
def test_the_interval_covers_the_truth_in_about_95_of_100_simulated_sets_of_clustered_pairs(prompts, centre):
    rng = np.random.default_rng(prompts)
    truth = float((1 / (1 + np.exp(-np.random.default_rng(0).normal(centre, 1.2, 400_000)))).mean())
    rounds, hits, as_if_independent = 300, 0, 0
    for round_ in range(rounds):
        sums = simulated_shares(rng, prompts, centre, 1.2)
        hits += covered(estimates({"share": sums}, resamples=500, seed=round_)["share"], truth)
        right, pairs = sums.values.sum(axis=0)
        low, high = wilson(right / pairs, int(pairs))
        as_if_independent += low <= truth <= high
    assert 0.92 <= hits / rounds <= 0.98
    assert as_if_independent / rounds < 0.88, "pairs of one prompt depend on each other here"


def test_the_interval_of_a_kappa_covers_the_truth_too():
    """Simulated: two raters with the same hidden view of an item copy it with probability 0.8, else toss a coin; their
    agreement beyond chance is 0.64."""
    rng, rounds, hits = np.random.default_rng(5), 200, 0
    for round_ in range(rounds):
        view = rng.integers(0, 2, (40, 6))
        raters = [np.where(rng.random((40, 6)) < 0.8, view, rng.integers(0, 2, (40, 6))) for _ in range(2)]
        cells = raters[0] * 2 + raters[1]
        tables = np.stack([(cells == cell).sum(axis=1) for cell in range(4)], axis=1).astype(float)
        sums = Sums(tables, lambda totals: cohen_kappa(totals.reshape(-1, 2, 2).squeeze(), identity_weights(2)), 240)
        hits += covered(estimates({"kappa": sums}, resamples=500, seed=round_)["kappa"], 0.64)
    assert 0.91 <= hits / rounds <= 0.99


def test_many_prompts_in_random_groups_have_the_interval_of_the_prompts_themselves(monkeypatch):
    rng = np.random.default_rng(2)
    sums, prompts = simulated_shares(rng, 6000, 1.0, 1.5), np.arange(6000)
    alone = estimates({"share": sums}, resamples=1000, seed=0)["share"]
    monkeypatch.setattr(resampling, "MAX_CLUSTERS", 300)
    clusters = Clusters(prompts, seed=0)
    grouped = np.stack([np.bincount(clusters(prompts), part, clusters.size) for part in sums.values.T], axis=1)
    together = estimates({"share": ratio(*grouped.T, sums.count)}, resamples=1000, seed=0)["share"]
    assert (clusters.grouped, together.prompts) == (True, 300)
    assert together.value == pytest.approx(alone.value)
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.15)


def test_a_share_without_any_spread_is_not_certain():
    """Wilson for 12 of 12: 12 / (12 + 1.96²) = 0.757."""
    whole = ratio(np.full(12, 3.0), np.full(12, 3.0), 36)
    figure = estimates({"share": whole}, resamples=200, seed=0)["share"]
    assert (figure.value, figure.n, figure.prompts) == (1, 36, 12)
    assert (figure.low, figure.high) == (pytest.approx(12 / (12 + 1.959964**2)), 1)


def test_a_figure_of_one_prompt_that_is_no_share_has_no_interval():
    sums = Sums(np.asarray([[3.0, 4.0]]), lambda totals: totals[..., 0] / totals[..., 1], 4)
    assert estimates({"ratio": sums}, resamples=100, seed=0)["ratio"] == resampling.Figure(0.75, None, None, 4, 1)


def test_the_same_seed_gives_the_same_interval():
    sums = {"share": simulated_shares(np.random.default_rng(3), 30, 1.0, 1.0)}
    first, second, other = (estimates(sums, resamples=300, seed=seed)["share"] for seed in (0, 0, 1))
    assert first == second != other
