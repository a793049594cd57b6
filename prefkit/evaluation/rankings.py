"""Rankings of many policies: Bradley-Terry out of Outcomes, with intervals, rank ranges, and what separates two.

Reads   Outcomes: who was preferred to whom, by prompt
Gives   Ranking: each policy's rating with a 95% interval and the ranks it may have; each two policies, with whether
        they are told apart over the whole board and how many votes that would take

Judgements on one prompt depend on each other, so whole prompts are drawn again (1,000 times), and the sandwich
covariance adds up scores by prompt. Intervals are BCa, as in ``resampling.py``. Whether two policies are told apart
is tested for all pairs at once: by the largest studentised difference anywhere on the board (max-t), so that with 100
policies the chance of a single wrong separation is still 5%. A rank range counts who is told apart above and below.

A board that falls apart is refused, and its parts are named: nothing says how the one stands to the other. Draws in
which it falls apart are left out and counted. Where a policy never lost against the others, only the prior keeps its
rating finite: the interval has no upper end, and tests use the likelihood's curvature, as no draw shows a loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np

from prefkit.errors import PrefkitError
from prefkit.evaluation.outcomes import Outcomes
from prefkit.evaluation.strengths import ROUGH, Board, Bools, Cells, Floats, Ints, Ties
from prefkit.resampling import TAIL, Clusters, bca

POINTS = 400 / math.log(10)
"""Points of the usual scale in a unit of log-odds: 400 points ahead is preferred ten times in eleven."""
MEAN = 1000.0
POWER = 0.8
FEW = 20
"""Prompts below which intervals are called rough."""
MOST_VOTES = 10_000_000
Z = 1.959963984540054
_CHUNK = 250  # draws at once


@dataclass(frozen=True, kw_only=True)
class RankingSettings:
    """How a board is ranked.

    Args:
        ties: a tie is half a win each way, or an outcome of its own by Rao and Kupper or by Davidson.
        first_slot: fit how much standing first helps, out of rows that were shown in an order.
        prior: comparisons of each policy with an average one, half of them won; 0 for none.
        intervals: by drawing prompts again, or from the sandwich covariance.
        rounds: draws of prompts, or of the normal distribution for the sandwich.
        seed: of the draws.
    """

    ties: Ties = "half"
    first_slot: bool = False
    prior: float = 0.5
    intervals: Literal["bootstrap", "sandwich"] = "bootstrap"
    rounds: int = 1000
    seed: int = 0


@dataclass(frozen=True)
class Rated:
    """A policy: its rating in points (mean 1,000) with a 95% interval, rank, and the ranks that it may have at 95% for
    all policies together.

    ``low`` is None where it never won against the others, ``high`` where it never lost; both where there is one prompt.
    """

    policy: str
    rating: float
    low: float | None
    high: float | None
    rank: int
    best_rank: int
    worst_rank: int
    comparisons: int
    prompts: int
    wins: float
    ties: float
    losses: float


@dataclass(frozen=True)
class Separation:
    """Two policies: ``ahead`` leads ``behind`` by ``difference`` points.

    ``p`` is adjusted for all pairs of the board (max-t), ``separated`` is p <= 0.05, ``error`` the standard error in
    points. ``votes`` are the independent direct comparisons of the two that would tell them apart with 80% power, and
    ``prompts`` the prompts of a board like this one that would do it for all pairs at once; None beyond ten million.
    """

    ahead: str
    behind: str
    difference: float
    error: float | None
    p: float | None
    separated: bool
    votes: int | None
    prompts: int | None


@dataclass(frozen=True)
class Term:
    """What is fitted beside the ratings, in log-odds, with a 95% interval."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Rounds:
    """The draws: how many were used; left out as the board fell apart, or as no fit came to an end; and those among the
    used in which somebody won or lost everything, so that the prior alone kept the ratings finite."""

    used: int
    fell_apart: int
    unsolved: int
    one_sided: int


@dataclass(frozen=True)
class Ranking:
    """A ranked board, best first. ``draws`` [rounds, policies] are points drawn, in the order of ``policies``."""

    settings: RankingSettings
    policies: tuple[Rated, ...]
    separations: tuple[Separation, ...]
    first_slot: Term | None
    tie: Term | None
    comparisons: int
    prompts: int
    rounds: Rounds
    notes: tuple[str, ...]
    left_out: dict[str, int]
    draws: Floats = field(repr=False, compare=False)

    def as_json(self) -> dict[str, Any]:
        """All but the draws."""
        from dataclasses import asdict

        found = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "draws"}
        rows = ("policies", "separations")
        parts = {name: [asdict(one) for one in found.pop(name)] for name in rows}
        plain = {name: asdict(one) if hasattr(one, "__dataclass_fields__") else one for name, one in found.items()}
        return plain | parts


def rank(
    outcomes: Outcomes, settings: RankingSettings | None = None, progress: Callable[[int], None] | None = None
) -> Ranking:
    """Rank the policies of a board.

    Args:
        outcomes: n rows; each counts the same. A judge that was asked in both orders should be one row
            (`outcomes.balanced`), unless the first slot is fitted. Policies without a row are left out.
        settings: how.
        progress: told after how many draws.

    Raises:
        PrefkitError: fewer than two policies were compared; the board falls apart; somebody won or lost everything and
            there is no prior; nothing was shown in an order, or always in the same, where the first slot is to be
            fitted.
    """
    settings = settings or RankingSettings()
    _refuse_nothing(outcomes)
    tallied = _tallied(outcomes, settings)
    board, total = tallied.board, tallied.tallies.sum(axis=0).reshape(1, 3, -1)
    groups = _groups(board, total, tallied.names, settings, outcomes.source)
    fitted = board.fit(total, board.start(total))[0]
    if not np.isfinite(fitted).all():
        raise PrefkitError(_where(outcomes), "a board that cannot be fitted", "a likelihood with a maximum", _PRIOR)
    _refuse_slot_of_policies(board, total, fitted, outcomes)
    pulls = _pulls(tallied, fitted)
    drawn, rounds = _drawn(tallied, fitted, pulls, settings, progress)
    return _ranking(outcomes, settings, tallied, groups, fitted, pulls, drawn, rounds)


_PRIOR = "Ask about more pairs of policies, or give a prior of 0.5 comparisons."


@dataclass(frozen=True)
class _Tallied:
    """``tallies`` [clusters of prompts, 3 * cells]: a sparse matrix. ``names`` are of the policies compared."""

    board: Board
    tallies: Any
    names: tuple[str, ...]
    taking_part: int
    prompts: int
    shown: Ints  # codes of the policies among all of the outcomes


def _where(outcomes: Outcomes) -> str:
    return outcomes.source or "outcomes"


def _refuse_nothing(outcomes: Outcomes) -> None:
    if not len(outcomes):
        raise PrefkitError(_where(outcomes), "no comparison of two policies", "comparisons to rank by", "Judge some.")


def _tallied(outcomes: Outcomes, settings: RankingSettings) -> _Tallied:
    from scipy.sparse import csr_array

    shown = _present(np.concatenate([outcomes.first, outcomes.second]))[0]
    first, second = np.searchsorted(shown, outcomes.first), np.searchsorted(shown, outcomes.second)
    turned = first > second
    one, other = np.where(turned, second, first), np.where(turned, first, second)
    share = np.where(turned, 1 - outcomes.preferred, outcomes.preferred)
    slot = _slots(outcomes, turned) if settings.first_slot else np.zeros(len(outcomes), np.int64)
    codes, cell = _present((one * len(shown) + other) * 3 + slot + 1)
    pair = codes // 3
    ties: Ties = settings.ties if (share == 0.5).any() else "half"
    cells = Cells(
        policies=len(shown),
        one=pair // len(shown),
        other=pair % len(shown),
        slot=(codes % 3 - 1).astype(np.float64),
        ties=ties,
        prior=settings.prior,
    )
    prompts = len(_present(outcomes.prompt)[0])
    clusters = Clusters(np.arange(max(len(outcomes.prompts), int(outcomes.prompt.max()) + 1)), settings.seed)
    cluster = clusters(outcomes.prompt)
    tied = share == 0.5
    kinds = [np.where(tied, 0.0, share), tied.astype(np.float64), np.where(tied, 0.0, 1 - share)]
    columns = np.concatenate([cell + kind * len(codes) for kind in range(3)])
    values, rows = np.concatenate(kinds), np.tile(cluster, 3)
    filled = values != 0
    shape = (clusters.size, 3 * len(codes))
    tallies = csr_array((values[filled], (rows[filled], columns[filled])), shape=shape)
    names = tuple(outcomes.policies[code] for code in shown)
    return _Tallied(Board(cells), tallies, names, len(_present(cluster)[0]), prompts, shown)


def _present(codes: Ints) -> tuple[Ints, Ints]:
    """The codes that occur, and the place of each [n] among them: `np.unique` for codes that are small."""
    there = np.bincount(codes) > 0
    return np.flatnonzero(there), (np.cumsum(there) - 1)[codes]


def _slots(outcomes: Outcomes, turned: Bools) -> Ints:
    ordered = outcomes.ordered
    if outcomes.shown_first is None or not ordered.any():
        remedy = "Leave out the first slot, or ask for comparisons: ratings are of one response at a time."
        raise PrefkitError(_where(outcomes), "nothing that was shown in an order", "comparisons as shown", remedy)
    slot: Ints = np.where(ordered, np.where(outcomes.shown_first ^ turned, 1, -1), 0)
    return slot


def _groups(
    board: Board, total: Floats, names: Sequence[str], settings: RankingSettings, source: str
) -> tuple[Bools, Bools, Ints]:
    """Which policies [policies] are in a group that never won, or never lost, against the others, and the group of
    each."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    beaten = board.beaten(total)[0]
    graph = csr_array(beaten)
    parts, part = connected_components(graph, directed=False)
    if parts > 1:
        listed = "; ".join(", ".join(_few(names, part == one)) for one in range(min(parts, 8)))
        more = f"; and {parts - 8} more" if parts > 8 else ""
        remedy = "Compare a policy of each part with one of another, or rank the parts one by one."
        found = f"{parts} parts that were never compared with each other: {listed}{more}"
        raise PrefkitError(source or "outcomes", found, "a board that hangs together", remedy)
    count, group = connected_components(graph, directed=True, connection="strong")
    never_lost, never_won = np.zeros(len(names), dtype=bool), np.zeros(len(names), dtype=bool)
    if count > 1:
        outside = beaten & (group[:, None] != group[None, :])
        for one in range(count):
            never_lost[group == one] = not outside[group == one].any()
            never_won[group == one] = not outside[:, group == one].any()
        if not settings.prior:
            who = ", ".join(_few(names, never_lost))
            found = f"policies that never lost against the others: {who}"
            raise PrefkitError(source or "outcomes", found, "wins and losses for each, or a prior", _PRIOR)
    return never_won, never_lost, np.asarray(group, dtype=np.int64)


def _few(names: Sequence[str], mask: Bools) -> list[str]:
    found = [name for name, named in zip(names, mask, strict=True) if named]
    return [*found[:6], f"and {len(found) - 6} more"] if len(found) > 6 else found


def _refuse_slot_of_policies(board: Board, total: Floats, fitted: Floats, outcomes: Outcomes) -> None:
    if not board.cells.with_slot:
        return
    held = np.zeros((1, board.cells.policies))
    held[0] = 1.0
    sides = np.vstack([board.sides(), np.append(held[0], 0.0)])
    if np.linalg.matrix_rank(sides) < sides.shape[1]:
        remedy = "Leave out the first slot, or have each two policies shown in both orders."
        found = "an order that the two policies always decide"
        raise PrefkitError(_where(outcomes), found, "policies shown now first, now second", remedy)


def _pulls(tallied: _Tallied, fitted: Floats) -> Floats:
    """[clusters, size]: how far each cluster of prompts pulls each parameter (its influence); mean strength held."""
    from scipy.sparse import csr_array

    from prefkit.evaluation.strengths import differences, slopes

    board, cells = tallied.board, tallied.board.cells
    d, a = differences(cells, fitted[None]), fitted[None, -1:]
    count = len(cells.one)
    by_d, by_a = np.empty((3, count)), np.zeros((3, count))
    for kind in range(3):
        unit = np.zeros((1, 3, count))
        unit[:, kind] = 1.0
        at = slopes(cells.ties, unit, d, a)
        by_d[kind], by_a[kind] = at.d[0], np.broadcast_to(at.a, (1, count))[0]
    sides = board.sides()
    scores = np.asarray(tallied.tallies @ csr_array((by_d[..., None] * sides).reshape(3 * count, -1)).todense())
    if cells.ties != "half":
        scores = np.column_stack([scores, tallied.tallies @ by_a.ravel()])
    curvature = board.terms(tallied.tallies.sum(axis=0).reshape(1, 3, -1), fitted[None]).curvature[0]
    pulls: Floats = np.linalg.solve(curvature, scores.T).T
    return _centred(pulls, cells.policies)


def _centred(parameters: Floats, policies: int) -> Floats:
    found = parameters.copy()
    found[..., :policies] -= found[..., :policies].mean(axis=-1, keepdims=True)
    return found


def _drawn(
    tallied: _Tallied, fitted: Floats, pulls: Floats, settings: RankingSettings, progress: Callable[[int], None] | None
) -> tuple[Floats, Rounds]:
    """Parameters [draws, size] with the mean strength 0, and what became of the draws."""
    board, size = tallied.board, tallied.tallies.shape[0]
    rng = np.random.default_rng(settings.seed)
    if tallied.taking_part < 2:
        return np.empty((0, board.cells.size)), Rounds(0, 0, 0, 0)
    if settings.intervals == "sandwich":
        spread = pulls * math.sqrt(tallied.taking_part / (tallied.taking_part - 1))
        drawn = _centred(fitted, board.cells.policies) + rng.standard_normal((settings.rounds, size)) @ spread
        return drawn, Rounds(settings.rounds, 0, 0, 0)
    across = tallied.tallies.T.tocsr()
    found, apart, unsolved, one_sided = [], 0, 0, 0
    for start in range(0, settings.rounds, _CHUNK):
        rows = min(_CHUNK, settings.rounds - start)
        picks = rng.integers(0, size, (rows, size)) + np.arange(rows)[:, None] * size
        times = np.bincount(picks.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float64)
        tallies = np.ascontiguousarray((across @ np.ascontiguousarray(times.T)).T).reshape(rows, 3, -1)
        together, both_ways = board.whole(tallies)
        usable = together if settings.prior else both_ways
        fits = board.fit(tallies[usable], fitted, ROUGH) if usable.any() else np.empty((0, board.cells.size))
        solved = np.isfinite(fits).all(axis=1)
        apart += int((~usable).sum())
        unsolved += int((~solved).sum())
        one_sided += int((~both_ways & usable).sum())
        found.append(fits[solved])
        if progress:
            progress(rows)
    drawn = _centred(np.concatenate(found), board.cells.policies)
    return drawn, Rounds(len(drawn), apart, unsolved, one_sided)


def _ranking(
    outcomes: Outcomes,
    settings: RankingSettings,
    tallied: _Tallied,
    groups: tuple[Bools, Bools, Ints],
    fitted: Floats,
    pulls: Floats,
    drawn: Floats,
    rounds: Rounds,
) -> Ranking:
    cells, names = tallied.board.cells, tallied.names
    never_won, never_lost, group = groups
    centred = _centred(fitted, cells.policies)
    k = cells.policies
    # What one draw in twenty leaves undefined has no interval at 95%.
    enough = rounds.used > 0.95 * settings.rounds and rounds.used > 0
    ends = [
        _interval(centred[at], drawn[:, at], pulls[:, at], tallied.taking_part, settings) for at in range(len(fitted))
    ]
    ends = ends if enough else [(None, None)] * len(fitted)
    test = _tested(tallied, centred, drawn if enough else drawn[:0], group, len(outcomes))
    strength = centred[:k]
    above = (test.p <= 0.05) & (strength[None, :] > strength[:, None])  # [policy, who is above it]
    order = np.argsort(-strength, kind="stable")
    tallies = np.asarray(tallied.tallies.sum(axis=0)).reshape(3, -1)
    won, tied, lost = _by_policy(cells, tallies)
    held = _prompts_by_policy(outcomes, tallied.shown)
    rated = []
    for place, at in enumerate(order, 1):
        low, high = ends[at]
        rated.append(
            Rated(
                policy=names[at],
                rating=_points(strength[at]),
                low=None if low is None or never_won[at] else _points(low),
                high=None if high is None or never_lost[at] else _points(high),
                rank=place,
                best_rank=1 + int(above[at].sum()) if enough else 1,
                worst_rank=k - int(above[:, at].sum()) if enough else k,
                comparisons=round(won[at] + tied[at] + lost[at]),
                prompts=int(held[at]),
                wins=float(won[at]),
                ties=float(tied[at]),
                losses=float(lost[at]),
            )
        )
    slot = Term(float(fitted[k]), *ends[k]) if cells.with_slot else None
    tie = Term(float(fitted[-1]), *ends[-1]) if cells.ties != "half" else None
    return Ranking(
        settings=settings,
        policies=tuple(rated),
        separations=_separations(names, strength, order, test, cells, tallies, fitted, tallied, enough),
        first_slot=slot,
        tie=tie,
        comparisons=len(outcomes),
        prompts=tallied.prompts,
        rounds=rounds,
        notes=tuple(_notes(settings, tallied, names, never_won, never_lost, group, rounds, enough)),
        left_out=dict(outcomes.left_out),
        draws=MEAN + POINTS * drawn[:, :k][:, order],
    )


def _points(strength: float) -> float:
    return float(MEAN + POINTS * strength)


def _interval(
    value: float, drawn: Floats, pulls: Floats, size: int, settings: RankingSettings
) -> tuple[float, float] | tuple[None, None]:
    if len(drawn) < 2 or np.ptp(drawn) < 1e-12:
        return None, None
    if settings.intervals == "bootstrap":
        return bca(float(value), drawn, value - pulls[pulls != 0], size)
    from scipy.special import stdtrit

    reach = float(stdtrit(size - 1, 1 - TAIL)) * math.sqrt(float((pulls**2).sum()) * size / (size - 1))
    return float(value - reach), float(value + reach)


@dataclass(frozen=True)
class _Tested:
    """``p`` and ``error`` [policies, policies] in log-odds, and the critical value of the largest difference."""

    p: Floats
    error: Floats
    critical: float


def _tested(tallied: _Tallied, centred: Floats, drawn: Floats, group: Ints, rows: int) -> _Tested:
    k = tallied.board.cells.policies
    if len(drawn) < 2:
        return _Tested(np.ones((k, k)), np.full((k, k), np.nan), math.nan)
    from scipy.special import stdtrit

    strength, draws = centred[:k], drawn[:, :k]
    covariance = np.atleast_2d(np.cov(draws, rowvar=False))
    error = _of_differences(covariance)
    if group.max() > 0:
        error = np.where(group[:, None] == group, error, np.maximum(error, _by_curvature(tallied, centred, rows)))
    # The spread of few prompts is itself uncertain, as Student's t is wider than the normal.
    wider = float(stdtrit(tallied.taking_part - 1, 1 - TAIL)) / Z
    error = error * wider
    largest = np.zeros(len(draws))
    off = draws - strength
    with np.errstate(divide="ignore", invalid="ignore"):
        for one in range(k - 1):
            apart = np.abs(off[:, one, None] - off[:, one + 1 :]) * wider / error[one, one + 1 :]
            largest = np.maximum(largest, np.nan_to_num(apart).max(axis=1))
        statistic = np.nan_to_num(np.abs(strength[:, None] - strength) / error)
    ranked = np.sort(largest)
    p = (1 + len(ranked) - np.searchsorted(ranked, statistic - 1e-12)) / (1 + len(ranked))
    return _Tested(p, error, float(np.quantile(ranked, 0.95)))


def _of_differences(covariance: Floats) -> Floats:
    spread = np.diag(covariance)
    found: Floats = np.sqrt(np.maximum(spread[:, None] + spread - 2 * covariance, 0.0))
    return found


def _by_curvature(tallied: _Tallied, centred: Floats, rows: int) -> Floats:
    """Standard errors of differences from the likelihood, as if each prompt were one observation."""
    k = tallied.board.cells.policies
    terms = tallied.board.terms(tallied.tallies.sum(axis=0).reshape(1, 3, -1), centred[None])
    return _of_differences(np.linalg.inv(terms.curvature[0])[:k, :k] * max(1.0, rows / tallied.prompts))


def _by_policy(cells: Cells, tallies: Floats) -> tuple[Floats, Floats, Floats]:
    def summed(one: Floats, other: Floats) -> Floats:
        counts = np.bincount(cells.one, one, cells.policies) + np.bincount(cells.other, other, cells.policies)
        return counts.astype(np.float64)

    won, tied, lost = tallies
    return summed(won, lost), summed(tied, tied), summed(lost, won)


def _prompts_by_policy(outcomes: Outcomes, shown: Ints) -> Ints:
    from scipy.sparse import csr_array

    policy, prompt = np.concatenate([outcomes.first, outcomes.second]), np.tile(outcomes.prompt, 2)
    there = csr_array((np.ones(len(policy), np.int8), (policy, prompt)))  # adds up what occurs twice
    counts: Ints = np.diff(there.indptr).astype(np.int64)[shown]
    return counts


def _separations(
    names: Sequence[str],
    strength: Floats,
    order: Ints,
    test: _Tested,
    cells: Cells,
    tallies: Floats,
    fitted: Floats,
    tallied: _Tallied,
    enough: bool,
) -> tuple[Separation, ...]:
    tie_share = float(tallies[1].sum() / tallies.sum())
    found = []
    for place, ahead in enumerate(order):
        for behind in order[place + 1 :]:
            lead = float(strength[ahead] - strength[behind])
            error = float(test.error[ahead, behind])
            p = float(test.p[ahead, behind])
            known = enough and error > 0
            reach = (test.critical + _beyond(POWER)) * error / lead if known and lead > 0 else math.inf
            found.append(
                Separation(
                    ahead=names[ahead],
                    behind=names[behind],
                    difference=POINTS * lead,
                    error=POINTS * error if known else None,
                    p=p if known else None,
                    separated=known and p <= 0.05,
                    votes=votes_needed(lead, cells.ties, float(fitted[-1]), tie_share),
                    prompts=_whole_number(tallied.prompts * reach**2),
                )
            )
    return tuple(found)


def _beyond(power: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(power))


def _whole_number(value: float) -> int | None:
    return math.ceil(value) if value <= MOST_VOTES else None


def votes_needed(lead: float, ties: Ties = "half", tie: float = 0.0, tie_share: float = 0.0) -> int | None:
    """Independent direct comparisons that tell two policies apart at the 5% level with 80% power.

    Args:
        lead: the difference of their strengths, in log-odds.
        ties: the model of ties.
        tie: its parameter, where ties are an outcome of their own.
        tie_share: how many comparisons are ties, where a tie is half a win: they make the mean less variable.

    Returns:
        At least 1; None beyond ten million.

    Source: the usual (z + z)^2 V / lead^2, with V the variance of the estimated lead from one comparison.
    """
    from prefkit.evaluation.strengths import slopes

    if abs(lead) < 1e-9:
        return None
    d, a = np.full((1, 1), lead), np.full((1, 1), tie)
    share = 1 / (1 + math.exp(-lead))
    if ties == "half":
        information = share * (1 - share)
        variance = max(information - tie_share / 4, 1e-3 * information) / information**2
    else:
        odds = np.exp([slopes(ties, unit, d, a).value[0, 0] for unit in np.eye(3)[:, None, :, None]])
        variance = 1 / float(slopes(ties, odds.reshape(1, 3, 1), d, a).dd[0, 0])
    return _whole_number(max(1.0, (Z + _beyond(POWER)) ** 2 * variance / lead**2))


def _notes(
    settings: RankingSettings,
    tallied: _Tallied,
    names: Sequence[str],
    never_won: Bools,
    never_lost: Bools,
    group: Ints,
    rounds: Rounds,
    enough: bool,
) -> list[str]:
    notes = []
    if settings.ties != "half" and tallied.board.cells.ties == "half":
        notes.append("there is no tie: the model has none either")
    for mask, words in ((never_lost, "never lost"), (never_won, "never won")):
        if group.max() > 0 and mask.any():
            end = "upper" if words == "never lost" else "lower"
            who = ", ".join(_few(names, mask))
            notes.append(f"{who} {words} against the others: the prior alone gives the rating, which has no {end} end")
    if tallied.prompts < 2:
        notes.append("all comparisons are on one prompt: there is nothing to tell the spread from, so no interval")
    elif not enough:
        notes.append(f"only {rounds.used:,} of {settings.rounds:,} draws of prompts could be ranked: no intervals")
    elif tallied.prompts < FEW:
        notes.append(f"intervals from {tallied.prompts} prompts are rough")
    if rounds.fell_apart:
        notes.append(f"{rounds.fell_apart:,} draws left out: the board fell apart in them")
    if rounds.unsolved:
        notes.append(f"{rounds.unsolved:,} draws left out: no fit came to an end")
    if rounds.one_sided:
        notes.append(f"in {rounds.one_sided:,} draws somebody won or lost everything: the prior kept them finite")
    return notes


@dataclass(frozen=True)
class Shift:
    """A policy on two boards: its rank on each with its range, and the difference of its ratings in points (other less
    one) with a 95% interval over the same draws of prompts."""

    policy: str
    rank: int
    ranks: tuple[int, int]
    other_rank: int
    other_ranks: tuple[int, int]
    difference: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Compared:
    """Two rankings of the same policies: Kendall's tau of the ratings, and each policy's shift."""

    tau: float
    shifts: tuple[Shift, ...]


def compare(one: Ranking, other: Ranking) -> Compared:
    """How another ranking differs from one, such as a judge's from people's.

    The draws are taken together where both boards drew the same prompts (the same names and the same seed), as
    `rank` does for parts of one Outcomes.

    Raises:
        ValueError: the policies are not the same.
    """
    from scipy.stats import kendalltau

    theirs = {rated.policy: (place, rated) for place, rated in enumerate(other.policies)}
    if theirs.keys() != {rated.policy for rated in one.policies}:
        raise ValueError("the two rankings are not of the same policies")
    ratings = [(rated.rating, theirs[rated.policy][1].rating) for rated in one.policies]
    paired = len(one.draws) == len(other.draws) and len(one.draws) > 1
    shifts = []
    for place, rated in enumerate(one.policies):
        at, second = theirs[rated.policy]
        low = high = None
        if paired:
            low, high = map(float, np.quantile(other.draws[:, at] - one.draws[:, place], [TAIL, 1 - TAIL]))
        ranks = (rated.best_rank, rated.worst_rank), (second.best_rank, second.worst_rank)
        change = second.rating - rated.rating
        shifts.append(Shift(rated.policy, rated.rank, ranks[0], second.rank, ranks[1], change, low, high))
    return Compared(float(kendalltau(*zip(*ratings, strict=True)).statistic), tuple(shifts))
