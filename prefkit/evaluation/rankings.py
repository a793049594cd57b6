"""Rankings of many policies: Bradley-Terry out of Outcomes, with intervals, rank ranges, and what separates two.

Reads   Outcomes: who was preferred to whom, by prompt; Features, to rank answers alike in length and style
Gives   Ranking: each policy's rating with a 95% interval and the ranks it may have; each two policies, with whether
        they are told apart over the whole board and how many votes that would take

Judgements on one prompt depend on each other, so whole prompts are drawn again (1,000 times), and the sandwich
covariance adds up scores by prompt. Intervals are BCa, as in ``resampling.py``. Two policies are told apart by a test
of all pairs at once, and a rank range counts who is told apart above and below (``separations.py``).

A board that falls apart is refused, and its parts are named: nothing says how the one stands to the other. Draws in
which it falls apart are left out and counted. Where a policy never lost against the others, only the prior keeps its
rating finite: the interval has no upper end, and tests use the likelihood's curvature, as no draw shows a loss.

The parts: ``strengths.py`` fits, ``tallies.py`` counts and refuses, ``draws.py`` draws again, ``separations.py`` tests,
``board_styles.py`` says what of two answers differs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import numpy as np

from prefkit.errors import PrefkitError
from prefkit.evaluation.board_styles import Control, Features
from prefkit.evaluation.draws import Intervals, Rounds, centred, draw, influences
from prefkit.evaluation.outcomes import Outcomes
from prefkit.evaluation.separations import POINTS, Separation, separations, tested
from prefkit.evaluation.strengths import Floats, Ties
from prefkit.evaluation.tallies import (
    PRIOR,
    SLOT,
    Groups,
    Tallied,
    by_policy,
    few,
    groups,
    prompts_by_policy,
    refuse_undecidable,
    tally,
)
from prefkit.resampling import TAIL, bca

MEAN = 1000.0
FEW = 20
"""Prompts below which intervals are called rough."""


@dataclass(frozen=True, kw_only=True)
class RankingSettings:
    """How a board is ranked.

    Args:
        ties: a tie is half a win each way, or an outcome of its own by Rao and Kupper or by Davidson.
        first_slot: fit how much standing first helps, out of rows that were shown in an order.
        control: rank answers that are alike in these; `rank` needs their Features.
        prior: comparisons of each policy with an average one, half of them won; 0 for none.
        intervals: by drawing prompts again, or from the sandwich covariance.
        rounds: draws of prompts, or of the normal distribution for the sandwich.
        seed: of the draws.
    """

    ties: Ties = "half"
    first_slot: bool = False
    control: tuple[Control, ...] = ()
    prior: float = 0.5
    intervals: Intervals = "bootstrap"
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
class Term:
    """What is fitted beside the ratings, in log-odds, with a 95% interval."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Ranking:
    """A ranked board, best first.

    ``style`` is what a usual difference in each feature adds for the answer that has more of it. ``draws``
    [rounds, policies] are points drawn, in the order of ``policies``; NaN for draws that are left out.
    """

    settings: RankingSettings
    policies: tuple[Rated, ...]
    separations: tuple[Separation, ...]
    first_slot: Term | None
    tie: Term | None
    style: dict[str, Term]
    comparisons: int
    prompts: int
    rounds: Rounds
    notes: tuple[str, ...]
    left_out: dict[str, int]
    draws: Floats = field(repr=False, compare=False)

    def as_json(self) -> dict[str, Any]:
        """All but the draws."""
        found = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "draws"}
        found["style"] = {name: asdict(term) for name, term in self.style.items()}
        for name in ("policies", "separations"):
            found[name] = [asdict(one) for one in found[name]]
        return {name: asdict(one) if hasattr(one, "__dataclass_fields__") else one for name, one in found.items()}


def rank(
    outcomes: Outcomes,
    settings: RankingSettings | None = None,
    progress: Callable[[int], None] | None = None,
    *,
    features: Features | None = None,
) -> Ranking:
    """Rank the policies of a board.

    Args:
        outcomes: n rows; each counts the same. A judge that was asked in both orders should be one row
            (`outcomes.balanced`), unless the first slot is fitted. Policies without a row are left out.
        settings: how.
        progress: told after how many draws.
        features: of the n rows, for the control that the settings ask for (`board_styles.alike`).

    Raises:
        ValueError: a control without features, or features without a control.
        PrefkitError: fewer than two policies were compared; the board falls apart; somebody won or lost everything and
            there is no prior; nothing was shown in an order, or always in the same, where the first slot is to be
            fitted; the policies decide what differs.
    """
    settings = settings or RankingSettings()
    if bool(settings.control) != (features is not None):
        raise ValueError("a control needs its features, and features a control")
    tallied = tally(
        outcomes,
        ties=settings.ties,
        first_slot=settings.first_slot,
        prior=settings.prior,
        seed=settings.seed,
        features=features,
    )
    found = groups(tallied)
    refuse_undecidable(tallied)
    fitted = _fitted(tallied)
    pulls = influences(tallied, fitted)
    drawn, rounds = draw(
        tallied,
        fitted,
        pulls,
        intervals=settings.intervals,
        rounds=settings.rounds,
        seed=settings.seed,
        progress=progress,
    )
    fit = _Fit(centred(fitted, tallied.board.cells.policies), pulls, drawn, rounds)
    return _ranking(outcomes, settings, tallied, found, fit, features)


def _fitted(tallied: Tallied) -> Floats:
    board, total = tallied.board, tallied.total()
    fitted = board.fit(total, board.start(total))[0]
    if np.isfinite(fitted).all():
        return fitted
    if SLOT in tallied.terms:
        remedy = "Leave out the first slot."
        raise PrefkitError(tallied.where, "a slot that always wins or loses", "each slot preferred at times", remedy)
    raise PrefkitError(tallied.where, "a board that cannot be fitted", "a likelihood with a maximum", PRIOR)


@dataclass(frozen=True)
class _Fit:
    """The fit [size] with a mean strength of 0, the influences [clusters, size], the draws [rounds, size]."""

    at: Floats
    pulls: Floats
    drawn: Floats
    rounds: Rounds


def _ranking(
    outcomes: Outcomes,
    settings: RankingSettings,
    tallied: Tallied,
    found: Groups,
    fit: _Fit,
    features: Features | None,
) -> Ranking:
    cells, names, rounds = tallied.board.cells, tallied.names, fit.rounds
    k, strength = cells.policies, fit.at[: cells.policies]
    finite = fit.drawn[np.isfinite(fit.drawn).all(axis=1)]
    # What one draw in twenty leaves undefined has no interval at 95%.
    enough = rounds.used > 0.95 * settings.rounds and rounds.used > 1
    drawn = finite if enough else finite[:0]
    ends = [
        _interval(fit.at[at], drawn[:, at], fit.pulls[:, at], tallied.taking_part, settings) for at in range(cells.size)
    ]
    test = tested(tallied, fit.at, drawn, found, len(outcomes))
    above = test.above(strength)  # [policy, who is above it]
    order = np.argsort(-strength, kind="stable")
    won, tied, lost = by_policy(cells, tallied.total()[0])
    held = prompts_by_policy(outcomes, tallied.shown)
    rated = []
    for place, at in enumerate(order, 1):
        low, high = ends[at]
        rated.append(
            Rated(
                policy=names[at],
                rating=_points(strength[at]),
                low=None if low is None or found.never_won[at] else _points(low),
                high=None if high is None or found.never_lost[at] else _points(high),
                rank=place,
                best_rank=1 + int(above[at].sum()),
                worst_rank=k - int(above[:, at].sum()),
                comparisons=round(won[at] + tied[at] + lost[at]),
                prompts=int(held[at]),
                wins=float(won[at]),
                ties=float(tied[at]),
                losses=float(lost[at]),
            )
        )
    terms = {name: Term(float(fit.at[at]), *ends[at]) for at, name in enumerate(tallied.terms, k)}
    return Ranking(
        settings=settings,
        policies=tuple(rated),
        separations=separations(tallied, fit.at, order, test),
        first_slot=terms.pop(SLOT, None),
        tie=Term(float(fit.at[-1]), *ends[-1]) if cells.ties != "half" else None,
        style=terms,
        comparisons=len(outcomes),
        prompts=tallied.prompts,
        rounds=rounds,
        notes=tuple(_notes(settings, tallied, found, rounds, features, enough)),
        left_out=dict(outcomes.left_out),
        draws=MEAN + POINTS * fit.drawn[:, :k][:, order],
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


def _notes(
    settings: RankingSettings,
    tallied: Tallied,
    found: Groups,
    rounds: Rounds,
    features: Features | None,
    enough: bool,
) -> list[str]:
    notes = []
    if tallied.tied == 1:
        notes.append("every comparison is a tie: there is no spread to tell an interval from")
    elif settings.ties != "half" and not tallied.tied:
        notes.append("there is no tie: the model has none either")
    for mask, words in ((found.never_lost, "never lost"), (found.never_won, "never won")):
        if found.several and mask.any():
            end = "upper" if words == "never lost" else "lower"
            who = ", ".join(few(tallied.names, mask))
            notes.append(f"{who} {words} against the others: the prior alone gives the rating, which has no {end} end")
    if tallied.prompts < 2:
        notes.append("all comparisons are on one prompt: there is nothing to tell the spread from, so no interval")
    elif not enough:
        notes.append(f"only {rounds.used:,} of {settings.rounds:,} draws of prompts could be ranked: no intervals")
    elif tallied.prompts < FEW:
        notes.append(f"intervals from {tallied.prompts} prompts are rough")
    if features and features.left_out:
        notes.append(f"no two answers differ in {', '.join(features.left_out)}")
    if rounds.fell_apart:
        notes.append(f"{rounds.fell_apart:,} draws left out: the board fell apart in them")
    if rounds.unsolved:
        notes.append(f"{rounds.unsolved:,} draws left out: no fit came to an end")
    if rounds.one_sided:
        notes.append(f"in {rounds.one_sided:,} draws somebody won or lost everything: the prior kept them finite")
    return notes
