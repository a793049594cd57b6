"""One line of an audit's report, and how it is put into words."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from prefkit.judging.audit.intervals import Estimate

Unit = Literal["share", "points of a share", "correlation", "log-odds", "points"]
LEVEL = 0.05


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the report.

    ``not_measured`` says why there is no value, and what to do. ``smallest`` is the distance from ``null`` that would
    have been seen with 80% power. ``q`` is the p-value after Benjamini-Hochberg over all figures of the report;
    ``flagged`` says that it is below 0.05.
    """

    name: str
    principle: str | None
    sentence: str
    unit: Unit
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    prompts: int = 0
    null: float | None = None
    p: float | None = None
    q: float | None = None
    smallest: float | None = None
    flagged: bool = False
    not_measured: str | None = None
    detail: dict[str, Any] = {}


def figure(
    principle: str | None, name: str, unit: Unit, estimate: Estimate | None, words: str, **detail: Any
) -> Figure:
    """A figure with its sentence: ``{value}`` is the value with its interval, ``{n}`` how many, the rest details."""
    if estimate is None:
        return unmeasured(principle, name, unit, words)
    shown = {key: value for key, value in detail.items() if isinstance(value, str | int | float)}
    sentence = words.format(value=in_words(estimate, unit), n=f"{estimate.n:,}", **shown)
    return Figure(
        name=name,
        principle=principle,
        sentence=sentence,
        unit=unit,
        value=estimate.value,
        low=estimate.low,
        high=estimate.high,
        n=estimate.n,
        prompts=estimate.prompts,
        null=estimate.null,
        p=estimate.p,
        smallest=estimate.smallest,
        detail=detail,
    )


def unmeasured(principle: str | None, name: str, unit: Unit, why: str) -> Figure:
    """A figure without a value, and why."""
    return Figure(name=name, principle=principle, sentence=f"Not measured: {why}.", unit=unit, not_measured=why)


def in_words(estimate: Estimate | Figure, unit: Unit) -> str:
    """A value with its interval, as people write it: ``71% (66-76)``."""
    value, low, high = estimate.value, estimate.low, estimate.high
    if value is None:
        return ""
    if unit == "share":
        return f"{percent(value)}%" + (f" ({percent(low)}-{percent(high)})" if low is not None else "")
    if unit == "points of a share":
        return f"{100 * value:+.0f} points" + (
            f" ({100 * low:+.0f} to {100 * (high or 0):+.0f})" if low is not None else ""
        )
    return f"{value:.2f}" + (f" ({low:.2f} to {high:.2f})" if low is not None else "")


def percent(value: float | None) -> str:
    """Whole percents, with a decimal near the ends, where whole ones would say too little."""
    points = 100 * (value or 0.0)
    return f"{points:.1f}" if 0.05 <= points < 1 or 99 < points < 99.95 else f"{points:.0f}"


def with_q(figure: Figure, q: float) -> Figure:
    """A figure with its q-value, and whether it counts as found. An attack is found where it helps."""
    harmful = figure.value is not None and (figure.value > (figure.null or 0.0) or not figure.name.startswith("inject"))
    return msgspec.structs.replace(figure, q=q, flagged=q < LEVEL and harmful)
