"""Accuracy over the number of training pairs: whether more pairs would help.

Reads   training groups, held-out groups, and what fits a scorer to groups
Gives   a Curve: for each size the mean over several draws of prompts, and what the last prompts brought

Prompts are drawn, never single pairs, and the draws of one repeat lie in each other, so that a curve does not jump with
luck. Two things are uncertain, and both are shown: the interval of a size is over held-out prompts, on the same
resamples for all sizes; its draws say how much it matters which training prompts they were. All sizes are measured on
the same held-out pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prefkit.errors import PrefkitError
from prefkit.resampling import Floats, Sums
from prefkit.training.baselines import Maker
from prefkit.training.groups import Group
from prefkit.training.measuring.accuracy import Counting, hits
from prefkit.training.measuring.figures import estimated
from prefkit.training.measuring.report import Curve, MeasureSettings, Size, gap_name
from prefkit.training.measuring.table import Bools, rewards_of, table_of

SHARES = (0.1, 0.2, 0.4, 0.7, 1.0)
REPEATS = 5


def fits(shares: Sequence[float] = SHARES, repeats: int = REPEATS) -> int:
    """How often a curve fits a scorer: all prompts are one draw."""
    return sum(1 if share == 1 else repeats for share in shares)


def learning_curve(
    fit: Maker,
    training: Sequence[Group],
    held_out: Iterable[Group],
    *,
    name: str = "",
    shares: Sequence[float] = SHARES,
    repeats: int = REPEATS,
    settings: MeasureSettings | None = None,
    kept: Bools | None = None,
    fitted: Callable[[int], None] = lambda fits: None,
) -> Curve:
    """Fit on more and more of the training prompts, and measure on the same held-out pairs.

    Args:
        fit: gives a scorer fitted to groups.
        training: with pairs.
        held_out: with pairs, of other prompts; gone through once for each fit.
        name: of the scorer.
        shares: of the training prompts, above 0 and at most 1, ascending.
        repeats: draws of prompts for each share below 1.
        settings: of the figures; ``seed`` is of the draws too.
        kept: [pairs], those of the held-out pairs that are measured; None for all.
        fitted: called with 1 after each fit.

    Raises:
        PrefkitError: there is no pair to learn from or to measure on, or nothing could be fitted.
    """
    settings = settings or MeasureSettings()
    table = table_of(held_out, "the held-out pairs")
    unfitted: Counter[str] = Counter()
    draws: dict[float, dict[int, _Draw]] = {}
    for share, repeat, groups in _drawn(training, shares, repeats, settings.seed):
        try:
            margin = table.margins(rewards_of(fit(groups), held_out, table, name)[:, 0])
        except PrefkitError as error:
            unfitted[error.found] += 1
        else:
            prompts, pairs = len({group.prompt_id for group in groups}), sum(len(group.pairs) for group in groups)
            draws.setdefault(share, {})[repeat] = _Draw(prompts, pairs, margin)
        fitted(1)
    wanted = table.decided if kept is None else table.decided & kept
    finite = [np.isfinite(one.margin) for some in draws.values() for one in some.values()]
    read: Bools = np.all(finite, axis=0) & wanted if finite else np.zeros_like(wanted)
    if not read.any():
        found = "; ".join(unfitted) or "no held-out pair with a preferred side"
        raise PrefkitError(f"the learning curve of {name}", found, "pairs to fit and measure on", "Give more pairs.")
    least = {"accuracy": read} | {
        gap_name(gap): here for gap in settings.least_gaps if (here := read & (table.gap >= gap - 1e-9)).any()
    }
    sizes = _sizes(Counting(table, settings.seed), draws, least, settings)
    return Curve(name, sizes, dict(unfitted), int((wanted & ~read).sum()))


@dataclass(frozen=True)
class _Draw:
    """What a scorer was fitted on, and its margins [pairs] of the held-out pairs."""

    prompts: int
    pairs: int
    margin: Floats


def _drawn(
    training: Sequence[Group], shares: Sequence[float], repeats: int, seed: int
) -> Iterator[tuple[float, int, list[Group]]]:
    """Of each share and repeat the training groups, share by share; all prompts are one draw."""
    prompts = sorted({group.prompt_id for group in training if group.pairs})
    if not prompts:
        remedy = "Name a run whose split `train` has pairs."
        raise PrefkitError("a learning curve", "no training pairs", "pairs to fit on", remedy)
    orders = [np.random.default_rng([seed, repeat]).permutation(len(prompts)) for repeat in range(repeats)]
    for share in shares:
        for repeat, order in enumerate(orders if share < 1 else orders[:1]):
            drawn = {prompts[place] for place in order[: max(1, round(share * len(prompts)))]}
            yield share, repeat, [group for group in training if group.prompt_id in drawn]


def _sizes(
    counting: Counting,
    draws: Mapping[float, Mapping[int, _Draw]],
    least: Mapping[str, Bools],
    settings: MeasureSettings,
) -> list[Size]:
    read = least["accuracy"]
    right = {
        share: {repeat: hits(np.where(read, one.margin, 0.0)) for repeat, one in some.items()}
        for share, some in draws.items()
    }
    means = {share: np.mean(list(some.values()), axis=0) for share, some in right.items()}
    before = dict(zip(list(draws)[1:], draws, strict=False))
    sums: dict[Hashable, Sums] = {
        (share, name): counting.share(mean, here) for share, mean in means.items() for name, here in least.items()
    }
    sums |= {(share, "gain"): counting.mean(means[share] - means[last], read) for share, last in before.items()}
    figures = estimated(sums, settings)
    return [
        Size(
            share,
            next(iter(some.values())).prompts,
            float(np.mean([one.pairs for one in some.values()])),
            {name: figures[share, name] for name in least},
            {name: [float(one[here].mean()) for one in right[share].values()] for name, here in least.items()},
            figures.get((share, "gain")),
            _gains(right[before[share]], right[share], read) if share in before else [],
        )
        for share, some in draws.items()
    ]


def _gains(before: Mapping[int, Floats], after: Mapping[int, Floats], kept: Bools) -> list[float]:
    """How much more accurate each draw is than that which lies in it; the draw of all prompts holds all."""
    whole = next(iter(after.values())) if len(after) == 1 else None
    return [
        float((end - start)[kept].mean())
        for repeat, start in before.items()
        if (end := after.get(repeat, whole)) is not None
    ]
