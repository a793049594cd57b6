"""What a measurement found: the figures of each scorer, and the same in words.

Gives   a Report, which ``evaluation.json`` holds as it is; rows of words for a table or a model card
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from prefkit.resampling import Figure
from prefkit.training.measuring.calibrating import Bin

Kind = Literal["model", "ensemble", "baseline"]


@dataclass(frozen=True, kw_only=True)
class MeasureSettings:
    """How figures are made.

    Args:
        rounds: of the bootstrap.
        seed: of its draws.
        least_gaps: accuracy is also given for pairs of at least these rating gaps.
    """

    rounds: int = 1000
    seed: int = 0
    least_gaps: tuple[float, ...] = (0.5, 1.0)


@dataclass(frozen=True)
class Row:
    """The accuracy on some of the pairs; for a principle, also that of its own head."""

    name: str
    accuracy: Figure
    head: Figure | None = None


@dataclass(frozen=True)
class BestOf:
    """The best of ``n`` by reward: above a random response, by ``gain``; ``possible`` is the best there is."""

    n: int
    gain: Figure
    possible: Figure
    share: Figure


@dataclass(frozen=True)
class Measured:
    """One scorer's figures.

    Args:
        name, kind, how: as in ``Scored``.
        figures: by name.
        as_it_is: Brier, log-loss and calibration error before the temperature.
        temperature: the mean of those that were used.
        by: the accuracy for ``gap``, ``length``, ``topic``, ``policies``, ``principle``, ``disagreement``.
        reliability: bins of the reliability diagram, after the temperature.
        best_of: for each n.
        ahead: accuracy minus that of each baseline, on the same draws.
        unread: pairs that it cannot read.
        tally: what it read otherwise than it stands, or not at all, by reason.
    """

    name: str
    kind: Kind
    how: str
    figures: dict[str, Figure]
    as_it_is: dict[str, Figure] = field(default_factory=dict)
    temperature: float = 1.0
    temperature_from: str = ""
    by: dict[str, list[Row]] = field(default_factory=dict)
    reliability: list[Bin] = field(default_factory=list)
    best_of: list[BestOf] = field(default_factory=list)
    ahead: dict[str, Figure] = field(default_factory=dict)
    unread: int = 0
    tally: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Size:
    """Scorers fitted on one share of the training prompts.

    Args:
        share, prompts: of the training prompts.
        pairs: the mean over the draws, as prompts have unequal numbers of them.
        figures: accuracy, and that of at least some gaps: the mean over the draws.
        draws: the same of each draw of prompts.
        gain: mean accuracy minus that of the size before; None for the smallest.
        gains: the same of each draw.
    """

    share: float
    prompts: int
    pairs: float
    figures: dict[str, Figure]
    draws: dict[str, list[float]]
    gain: Figure | None = None
    gains: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Curve:
    """A learning curve.

    Args:
        name: of the scorer.
        sizes: ascending; those at which at least one draw could be fitted.
        unfitted: draws that nothing could be fitted on, by reason.
        unread: held-out pairs that are in no figure, as the scorer could not read them.
    """

    name: str
    sizes: list[Size]
    unfitted: dict[str, int] = field(default_factory=dict)
    unread: int = 0


@dataclass(frozen=True)
class Report:
    """What was measured.

    Args:
        counts: of what the figures rest on; ``unread`` is pairs that a model cannot read, and that are in no figure.
        scorers: models first, then the ensemble, then baselines.
        labels: what the pairs themselves say: how often the longer side is chosen.
        rated: whether the worth of a response (``best_of``) is in the unit of ratings.
        notes: what the figures mean, in sentences.
        left_out: what of the source was not measured, by reason.
        curves: learning curves, where they were asked for.
    """

    source: str
    split: str | None
    counts: dict[str, int]
    scorers: list[Measured]
    labels: dict[str, Figure]
    rated: bool
    settings: MeasureSettings
    notes: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    curves: list[Curve] = field(default_factory=list)


def rows(report: Report, names: Mapping[str, str] | None = None) -> list[dict[str, str]]:
    """The main figures in words, a row a scorer: for a model card or a table."""
    wanted = {
        name: words
        for name, words in (names or {**RIGHT, **SURE}).items()
        if any(name in one.figures for one in report.scorers)
    }
    return [
        {"": one.name} | {words: in_words(name, one.figures.get(name)) for name, words in wanted.items()}
        for one in report.scorers
    ]


RIGHT = {
    "accuracy": "accuracy",
    "left_out": "policies left out",
    "policy_matched": "policies matched",
    "length_matched": "length matched",
}
"""The main figures of which side is put first, and what they are called."""
SURE = {
    "auc": "AUC",
    "log_loss": "log-loss",
    "brier": "Brier",
    "ece": "ECE",
    "length_correlation": "r(reward, length)",
}
"""The main figures of how far rewards are apart."""
SHARES = ("accuracy", "policy_matched", "left_out", "length_matched", "longer", "share", "three_way_accuracy")


def in_words(name: str, figure: Figure | None) -> str:
    """A figure with its interval; a dash where it is not defined."""
    if figure is None or figure.value is None:
        return "-"
    share = name.startswith(SHARES)

    def one(value: float) -> str:
        return f"{100 * value:.1f}" if share else f"{value:.3f}".replace("0.", ".", 1 if abs(value) < 1 else 0)

    if figure.low is None or figure.high is None:
        return one(figure.value)
    return f"{one(figure.value)} [{one(figure.low)}, {one(figure.high)}]"


def gap_name(least: float) -> str:
    """The name of the accuracy of pairs of at least a gap."""
    return f"accuracy_gap_{least:g}"
