"""A picture of a report: dots with whiskers, one row a principle, as one SVG file that needs nothing else.

Reads   a Report
Gives   SVG

On the left the share of agreement (the same answer, or the same direction of ratings), which is easy to understand; on
the right alpha, which takes off what chance would give. They are side by side since either alone misleads: where nearly
all answers are the same, the share is high and alpha low.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from prefkit import svg
from prefkit.agreement.agree import Report
from prefkit.agreement.measuring import Section
from prefkit.resampling import Figure
from prefkit.svg import EDGE, GREY

LABELS, PANEL, BETWEEN = 190, 300, 56
LINE, ROW_GAP = 15, 12
MARKS = (0.667, 0.8)
_SHARE = {"ratings": "direction", "comparisons": "exact"}
_SHARE_WORDS = {"ratings": "the same direction, of two responses that neither ties", "comparisons": "the same answer"}
_ALPHA = {"ratings": "alpha_interval", "comparisons": "alpha_nominal"}


@dataclass(frozen=True)
class _Series:
    name: str
    section: Section


@dataclass(frozen=True)
class _Axis:
    """A scale from ``low`` to ``high`` at the left edge ``x``."""

    x: float
    low: float
    high: float
    ticks: tuple[float, ...]
    percent: bool
    title: str
    marks: tuple[float, ...] = ()

    def at(self, value: float) -> float:
        """Where a value stands; one below the scale at its end."""
        place = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.x + PANEL * place

    def words(self, value: float) -> str:
        """A value on the scale."""
        return f"{value:.0%}" if self.percent else f"{value:g}"


def picture(report: Report) -> str:
    """The SVG of a report."""
    parts: list[str] = []
    top = 56.0
    for kind in ("comparisons", "ratings"):
        series = _series(report, kind)
        if series:
            drawn, top = _kind(kind, series, top)
            parts += drawn
    if not parts:
        parts.append(svg.text(EDGE, top, "No two annotators judged the same."))
    width, height = LABELS + 2 * PANEL + BETWEEN + 2 * EDGE, top + 20
    who = {"people": "People", "judges": "Judges", "named": "Annotators"}[report.kind]
    title = f"Agreement: {who} with each other" + (", judges with them" if report.with_judges else "")
    words = "Dots: values. Lines: 95% intervals, by drawing prompts again."
    return svg.whole(title, words, parts, width, height)


def _series(report: Report, kind: str) -> list[_Series]:
    """The group, and judges beside it: as many as there are colours."""
    found = []
    group: Section | None = getattr(report.group, kind)
    if group:
        who = {"people": "people with people", "judges": "judges with judges", "named": "with each other"}
        found.append(_Series(who[report.kind], group))
    rest: Section | None = getattr(report.with_judges, kind) if report.with_judges else None
    if rest:
        found.append(_Series("each of them with the rest, as a judge with all", rest))
    if report.with_judges:
        for measured in report.with_judges.measured:
            section: Section | None = getattr(measured, kind)
            if section:
                found.append(_Series(f"{measured.judge} with them", section))
    return found[: len(svg.COLOURS)]


def _kind(kind: str, series: Sequence[_Series], top: float) -> tuple[list[str], float]:
    """One kind of judgement: its legend, two panels, and where what follows may begin."""
    rows = ["overall", *dict.fromkeys(name for one in series for name in one.section.principles)]
    parts = [svg.text(EDGE, top + 14, kind.capitalize(), size=13, weight="600")]
    top += 32
    for place, one in enumerate(series):
        parts += [svg.shape(place, EDGE + 6, top - 4, True), svg.text(EDGE + 18, top, svg.short(one.name, 60))]
        top += 17
    top += 14
    height = len(rows) * (LINE * len(series) + ROW_GAP)
    share, alpha = _axes(kind, series)
    for axis in (share, alpha):
        parts += _frame(axis, top, height)
    for place, row in enumerate(rows):
        y = top + place * (LINE * len(series) + ROW_GAP)
        if place % 2 == 0:
            width = LABELS + 2 * PANEL + BETWEEN
            parts.insert(
                0, f'<rect x="{EDGE}" y="{y:g}" width="{width}" height="{height / len(rows):g}" fill="#f5f5f2"/>'
            )
        middle = y + height / len(rows) / 2
        parts.append(svg.text(EDGE + LABELS - 10, middle + 4, svg.short(row, 26), anchor="end"))
        for which, one in enumerate(series):
            figures = one.section.figures if row == "overall" else one.section.principles.get(row, {})
            at = y + ROW_GAP / 2 + LINE * (which + 0.5)
            parts += _dot(figures.get(_SHARE[kind]), share, at, which, row, one.name)
            parts += _dot(figures.get(_ALPHA[kind]), alpha, at, which, row, one.name)
    return parts, top + height + 52


def _axes(kind: str, series: Sequence[_Series]) -> tuple[_Axis, _Axis]:
    lowest = min(
        (
            figure.low if figure.low is not None else figure.value
            for one in series
            for figures in (one.section.figures, *one.section.principles.values())
            for name, figure in figures.items()
            if name == _ALPHA[kind] and figure.value is not None
        ),
        default=0.0,
    )
    low = 0.0 if (lowest or 0.0) >= 0 else -0.5
    words = f"Krippendorff's alpha, {_ALPHA[kind].removeprefix('alpha_')}"
    ticks = (0.0, 0.25, 0.5, 0.75, 1.0) if low == 0 else (-0.5, 0.0, 0.5, 1.0)
    x = EDGE + LABELS
    return (
        _Axis(x, 0.0, 1.0, (0.0, 0.25, 0.5, 0.75, 1.0), True, _SHARE_WORDS[kind]),
        _Axis(x + PANEL + BETWEEN, low, 1.0, ticks, False, words, MARKS),
    )


def _frame(axis: _Axis, top: float, height: float) -> list[str]:
    bottom = top + height
    parts = []
    for tick in axis.ticks:
        x = axis.at(tick)
        parts.append(svg.line(x, top, x, bottom, "#ddd"))
        parts.append(svg.text(x, bottom + 15, axis.words(tick), anchor="middle", fill=GREY, size=11))
    for mark in axis.marks:
        x = axis.at(mark)
        parts.append(svg.line(x, top, x, bottom, "#999", dashed=True))
        parts.append(svg.text(x, top - 4, f"{mark:.3f}".lstrip("0"), anchor="middle", fill=GREY, size=10))
    parts.append(svg.text(axis.x + PANEL / 2, bottom + 32, axis.title, anchor="middle", fill="#444"))
    return parts


def _dot(figure: Figure | None, axis: _Axis, y: float, which: int, row: str, series: str) -> list[str]:
    if figure is None or figure.value is None:
        return []
    colour = svg.COLOURS[which]
    said = f"{series}, {row}: {figure.value:.3f}"
    parts = []
    if figure.low is not None and figure.high is not None:
        low, high = axis.at(figure.low), axis.at(figure.high)
        said += f" [{figure.low:.3f}, {figure.high:.3f}]"
        parts.append(svg.line(low, y, high, y, colour, width=1.6))
        parts += [svg.line(end, y - 3, end, y + 3, colour, width=1.6) for end in (low, high)]
    parts.append(svg.shape(which, axis.at(figure.value), y, figure.low is not None))
    return [f"<g><title>{escape(said)}, n = {figure.n:,}</title>", *parts, "</g>"]
