# /// script
# dependencies = ["evalica==0.4.2", "choix==0.4.1", "arena-rank==0.1.1"]
# ///
"""A peer ranks a board and draws it again; run in an environment of its own, by ``ranking_speed``.

    python ranking_peers.py choix|evalica|evalica-rows|arena-rank BOARD.npz ROUNDS

Each starts from the rows and does what its documentation offers for many of them:

choix          has no bootstrap. Wins as a dense matrix, draws of it (multinomial), ``ilsr_pairwise_dense`` from the fit
               to all.
evalica        aggregated comparisons with weights, draws of the weights (multinomial), ``bradley_terry`` of each.
evalica-rows   its own ``bootstrap``, by percentiles; its default, BCa, adds a fit without each row.
arena-rank     ``PairDataset``, which aggregates; its own bootstrap of counts, in one worker. By default its pool forks
               beside jax's threads and hangs: the worker is spawned.

Prints as JSON the seconds by the clock and of the processor (this process and its children) for one fit and for all,
and the strengths in log-odds.
"""

import json
import multiprocessing
import resource
import sys
import time

import numpy as np


def main() -> None:
    name, path, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
    board = np.load(path)
    runs = {"choix": choix, "evalica": evalica, "evalica-rows": evalica_rows, "arena-rank": arena_rank}
    seconds, strengths = runs[name](board["first"], board["second"], board["won"], rounds)
    strengths = np.asarray(strengths, dtype=float)
    print(json.dumps({"seconds": seconds, "strengths": (strengths - strengths.mean()).tolist()}))


class Watch:
    """Seconds since it was made, by the clock and of the processor."""

    def __init__(self):
        self.began = self._now()

    def _now(self):
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return time.perf_counter(), sum(one.ru_utime + one.ru_stime for one in used)

    def __call__(self):
        """What has passed."""
        return dict(zip(("clock", "processor"), np.subtract(self._now(), self.began).tolist(), strict=True))


def choix(first, second, won, rounds):
    import choix

    size = int(max(first.max(), second.max())) + 1
    watch = Watch()
    winner, loser = np.where(won, first, second), np.where(won, second, first)
    wins = np.bincount(winner * size + loser, minlength=size * size)
    board = wins.reshape(size, size).astype(float)
    fitted = choix.ilsr_pairwise_dense(board, alpha=0.01)
    fit = watch()
    draws = np.random.default_rng(0).multinomial(wins.sum(), wins / wins.sum(), rounds).reshape(rounds, size, size)
    drawn = [choix.ilsr_pairwise_dense(one.astype(float), alpha=0.01, initial_params=fitted) for one in draws]
    np.quantile(drawn, [0.025, 0.975], axis=0)
    return {"fit": fit, "all": watch()}, fitted


def evalica(first, second, won, rounds):
    import evalica

    size = int(max(first.max(), second.max())) + 1
    watch = Watch()
    code, counts = np.unique((first * size + second) * 2 + won, return_counts=True)
    xs = [f"m{one:03}" for one in code // 2 // size]
    ys = [f"m{one:03}" for one in code // 2 % size]
    winners = [evalica.Winner.X if one else evalica.Winner.Y for one in code % 2]
    index = evalica.indexing(xs, ys)[2]

    def ranked(weights):
        return evalica.bradley_terry(xs, ys, winners, index=index, weights=weights.astype(float), limit=1000).scores

    fitted = ranked(counts)
    fit = watch()
    draws = np.random.default_rng(0).multinomial(counts.sum(), counts / counts.sum(), rounds)
    np.quantile([ranked(one) for one in draws], [0.025, 0.975], axis=0)
    return {"fit": fit, "all": watch()}, np.log(fitted.sort_index())


def evalica_rows(first, second, won, rounds):
    import evalica

    names = [f"m{one:03}" for one in range(int(max(first.max(), second.max())) + 1)]
    watch = Watch()
    xs, ys = [names[one] for one in first.tolist()], [names[one] for one in second.tolist()]
    winners = [evalica.Winner.X if one else evalica.Winner.Y for one in won.tolist()]
    fitted = evalica.bradley_terry(xs, ys, winners, limit=1000).scores
    fit = watch()
    evalica.bootstrap(
        evalica.bradley_terry,
        xs,
        ys,
        winners,
        n_resamples=rounds,
        bootstrap_method="percentile",
        random_state=0,
        limit=1000,
    )
    return {"fit": fit, "all": watch()}, np.log(fitted.sort_index())


def arena_rank(first, second, won, rounds):
    import pandas as pd
    from arena_rank.models.bradley_terry import BradleyTerry
    from arena_rank.utils.data_utils import PairDataset

    multiprocessing.set_start_method("spawn")
    names = np.asarray([f"m{code:03}" for code in range(int(max(first.max(), second.max())) + 1)])
    frame = pd.DataFrame(
        {"model_a": names[first], "model_b": names[second], "winner": np.where(won, "model_a", "model_b")}
    )
    watch = Watch()
    data = PairDataset.from_pandas(frame)
    model = BradleyTerry(n_competitors=len(data.competitors))
    model.compute_ratings_and_cis(data, ci_method="sandwich")
    fit = watch()
    model.compute_ratings_and_cis(data, ci_method="bootstrap", num_bootstrap=rounds, n_jobs=1)
    order = np.argsort(data.competitors)
    return {"fit": fit, "all": watch()}, np.asarray(model.params["ratings"])[order]


if __name__ == "__main__":
    main()
