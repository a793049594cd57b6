# /// script
# dependencies = ["evalica==0.4.2", "choix==0.4.1", "arena-rank==0.1.1"]
# ///
"""A peer ranks a board and draws it again; run in an environment of its own, by ``ranking_speed``.

    python ranking_peers.py evalica|choix|arena-rank BOARD.npz ROUNDS

Each starts from the rows and is given what makes it fast: choix and evalica aggregated counts and draws of them (the
multinomial distribution; evalica's own bootstrap draws rows, with a jackknife over all of them), choix a start at the
fit to all; arena-rank the function that its own bootstrap calls, without its pool, whose forks hang beside jax's
threads. Prints seconds and strengths in log-odds as JSON.
"""

import json
import sys
import time

import numpy as np


def main() -> None:
    name, board, rounds = sys.argv[1], np.load(sys.argv[2]), int(sys.argv[3])
    first, second, won = board["first"], board["second"], board["won"]
    run = {"evalica": evalica, "choix": choix, "arena-rank": arena_rank}[name]
    seconds, strengths = run(first, second, won, rounds)
    strengths = np.asarray(strengths, dtype=float)
    print(json.dumps({"seconds": seconds, "strengths": (strengths - strengths.mean()).tolist()}))


def choix(first, second, won, rounds):
    import choix

    size = int(max(first.max(), second.max())) + 1
    start = time.perf_counter()
    winner, loser = np.where(won, first, second), np.where(won, second, first)
    wins = np.bincount(winner * size + loser, minlength=size * size)
    board = wins.reshape(size, size).astype(float)
    fitted = choix.ilsr_pairwise_dense(board, alpha=0.01)
    fit = time.perf_counter() - start
    draws = np.random.default_rng(0).multinomial(wins.sum(), wins / wins.sum(), rounds).reshape(rounds, size, size)
    drawn = [choix.ilsr_pairwise_dense(one.astype(float), alpha=0.01, initial_params=fitted) for one in draws]
    np.quantile(drawn, [0.025, 0.975], axis=0)
    return {"fit": fit, "all": time.perf_counter() - start}, fitted


def evalica(first, second, won, rounds):
    import evalica

    size = int(max(first.max(), second.max())) + 1
    start = time.perf_counter()
    code, counts = np.unique((first * size + second) * 2 + won, return_counts=True)
    xs = [f"m{one:03}" for one in code // 2 // size]
    ys = [f"m{one:03}" for one in code // 2 % size]
    winners = [evalica.Winner.X if one else evalica.Winner.Y for one in code % 2]
    index = evalica.indexing(xs, ys)[2]

    def ranked(weights):
        return evalica.bradley_terry(xs, ys, winners, index=index, weights=weights.astype(float), limit=1000).scores

    fitted = ranked(counts)
    fit = time.perf_counter() - start
    draws = np.random.default_rng(0).multinomial(counts.sum(), counts / counts.sum(), rounds)
    np.quantile([ranked(one) for one in draws], [0.025, 0.975], axis=0)
    return {"fit": fit, "all": time.perf_counter() - start}, np.log(fitted.sort_index())


def arena_rank(first, second, won, rounds):
    import jax.numpy as jnp
    import pandas as pd
    from arena_rank.models.bradley_terry import BradleyTerry, fit_single_bootstrap_sample
    from arena_rank.utils.data_utils import PairDataset

    names = np.asarray([f"m{code:03}" for code in range(int(max(first.max(), second.max())) + 1)])
    frame = pd.DataFrame(
        {"model_a": names[first], "model_b": names[second], "winner": np.where(won, "model_a", "model_b")}
    )
    start = time.perf_counter()
    data = PairDataset.from_pandas(frame)
    model = BradleyTerry(n_competitors=len(data.competitors))
    model.fit(data)
    fit = time.perf_counter() - start
    counts = np.asarray(data.counts, dtype=float)
    draws = np.random.default_rng(0).multinomial(int(counts.sum()), counts / counts.sum(), rounds)
    drawn = [fit_single_bootstrap_sample(jnp.asarray(one, dtype=float), model, data)["ratings"] for one in draws]
    np.quantile(drawn, [0.025, 0.975], axis=0)
    order = np.argsort(data.competitors)
    return {"fit": fit, "all": time.perf_counter() - start}, np.asarray(model.params["ratings"])[order]


if __name__ == "__main__":
    main()
