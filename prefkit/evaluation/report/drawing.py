"""Plots, drawn as SVG by hand: strips that grow with the page, and panels of one size.

A strip is a row of a plot: its places are percentages, so that lines grow with the page and words do not shrink on a
narrow one. A series is told by colour and by shape (Okabe and Ito's colours, which are told apart with any colour
vision). Colours come from the page's style sheet, as they differ on dark paper. Every plot has a table behind it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from prefkit import svg
from prefkit.evaluation.report.markup import NOTHING, Html, el, joined
from prefkit.svg import Scale

ROW = 26
TICKS = 5
MOST_LANES = 5
"""Points of a row that lie one below the other."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A value with its interval; ``series`` says which mark it has."""

    value: float | None
    low: float | None = None
    high: float | None = None
    series: int = 0


@dataclass(frozen=True, kw_only=True)
class Strip:
    """A row: what it is, what stands at its end, its points."""

    label: str
    points: Sequence[Point]
    said: str
    strong: bool = False
    rule: bool = False


@dataclass(frozen=True, kw_only=True)
class Axis:
    """From ``low`` to ``high``, with ``ticks`` and what they are called; ``level`` is a value worth comparing with."""

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    level: float | None = None

    def place(self, value: float) -> float:
        """Where a value stands, in per cent."""
        return Scale(self.low, self.high, 1.5, 98.5)(value)


SHARES = Axis(low=0, high=1, ticks=[(0, "0"), (0.25, "25"), (0.5, "50"), (0.75, "75"), (1, "100%")], level=0.5)


def numbers(low: float, high: float, unit: str = "") -> Axis:
    """An axis around values, with round ticks."""
    if not high > low:
        low, high = low - 1, high + 1
    room = 0.04 * (high - low)
    step = _step(high - low)
    first = math.ceil((low - room) / step)
    last = math.floor((high + room) / step)
    ticks = [(place * step, f"{place * step:,.10g}") for place in range(first, last + 1)]
    if ticks and unit:
        ticks[-1] = (ticks[-1][0], ticks[-1][1] + unit)
    return Axis(low=low - room, high=high + room, ticks=ticks)


def _step(span: float) -> float:
    rough = span / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)


def forest(strips: Sequence[Strip], axis: Axis, ends: tuple[str, str] | None = None) -> Html:
    """Rows of points with intervals over one axis.

    Args:
        strips: the rows.
        axis: below them.
        ends: what it means to lie to the left, and to the right.
    """
    rows = [
        el(
            "div",
            el("div", one.label, cls="label"),
            el("div", _strip(one.points, axis), cls="strip"),
            el("div", one.said, cls="said"),
            cls="row" + (" strong" if one.strong else "") + (" rule" if one.rule else ""),
        )
        for one in strips
    ]
    foot = el("div", el("div", cls="label"), el("div", _axis(axis), cls="strip"), el("div", cls="said"), cls="row axis")
    head = NOTHING
    if ends:
        words = [el("span", f"← {ends[0]}"), el("span", f"{ends[1]} →")]
        head = el("div", el("div", cls="label"), el("div", words, cls="strip ends"), el("div", cls="said"), cls="row")
    return el("div", head, rows, foot, cls="forest")


def _strip(points: Sequence[Point], axis: Axis) -> Html:
    lanes = max(1, len(points))
    parts = [_grid(axis), *(_point(point, axis, 100 * (lane + 0.5) / lanes) for lane, point in enumerate(points))]
    return _open(ROW if lanes == 1 else 15 * lanes + 6, parts, f"lanes{min(lanes, MOST_LANES)}")


def _open(height: float, parts: Sequence[str], kind: str = "fixed") -> Html:
    attributes = f'width="100%" height="{height:g}" class="{kind}" aria-hidden="true" focusable="false"'
    return Html(f"<svg {attributes}>{''.join(parts)}</svg>")


def _grid(axis: Axis) -> str:
    lines = [
        f'<line x1="{axis.place(tick):.2f}%" x2="{axis.place(tick):.2f}%" y1="0" y2="100%" class="grid"/>'
        for tick, _ in axis.ticks
    ]
    if axis.level is not None:
        at = axis.place(axis.level)
        lines.append(f'<line x1="{at:.2f}%" x2="{at:.2f}%" y1="0" y2="100%" class="level"/>')
    return "".join(lines)


def _point(point: Point, axis: Axis, y: float) -> str:
    if point.value is None:
        return ""
    found = ""
    certain = point.low is not None and point.high is not None
    if point.low is not None or point.high is not None:
        low = axis.place(point.low if point.low is not None else axis.low)
        high = axis.place(point.high if point.high is not None else axis.high)
        found = f'<line x1="{low:.2f}%" x2="{high:.2f}%" y1="{y:g}%" y2="{y:g}%" class="ci s{point.series}"/>'
    mark = mark_of(point.series, certain)
    return f'{found}<svg x="{axis.place(point.value):.2f}%" y="{y:g}%" overflow="visible">{mark}</svg>'


def mark_of(series: int, filled: bool = True) -> str:
    """The mark of a series around 0, 0."""
    return svg.outline(series % 5, 0, 0, f'class="mark s{series % 5}{"" if filled else " hollow"}"')


def _axis(axis: Axis) -> Html:
    words = []
    for tick, name in axis.ticks:
        at = axis.place(tick)
        anchor = "start" if at < 4 else "end" if at > 96 else "middle"
        words.append(f'<text x="{at:.2f}%" y="13" text-anchor="{anchor}">{escape(name)}</text>')
    return _open(18, words)


_LEGEND = 'width="14" height="14" viewBox="-7 -7 14 14"'


def legend(names: Sequence[tuple[int, str]]) -> Html:
    """Which mark is what; nothing where there is one series."""
    if len(names) < 2:
        return NOTHING
    items = [
        el(
            "li",
            Html(f'<svg width="14" height="14" viewBox="-7 -7 14 14" aria-hidden="true">{mark_of(which)}</svg>'),
            name,
        )
        for which, name in names
    ]
    return el("ul", items, cls="legend")


# ------------------------------------------------------------------------------------------------------------ bars


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A row of a waterfall: from ``start`` to ``end``, as shares of the widest."""

    label: str
    start: float
    end: float
    said: str
    kind: str
    note: str = ""


def waterfall(bars: Sequence[Bar]) -> Html:
    """What there was, what was taken away, what is left: bars one below the other."""
    rows = []
    for one in bars:
        left, width = 100 * one.start, max(100 * (one.end - one.start), 0.4)
        parts = [f'<rect x="{left:.2f}%" width="{width:.2f}%" y="5" height="14" rx="2" class="bar {one.kind}"/>']
        rows.append(
            el(
                "div",
                el("div", one.label, el("small", one.note) if one.note else None, cls="label"),
                el("div", _open(24, parts), cls="strip"),
                el("div", one.said, cls="said"),
                cls=f"row {one.kind}",
            )
        )
    return el("div", rows, cls="forest waterfall")


def figure(plot: Html, caption: str, numbers_: Html, names: Sequence[tuple[int, str]] = ()) -> Html:
    """A plot with what it shows in words, its legend, and the table behind it."""
    return el("figure", legend(names), plot, el("figcaption", caption), numbers_)


def headline_strip(value: float, low: float, high: float) -> Html:
    """The first rate from 0 to 100, large."""
    axis = SHARES
    height = 44
    a, b, at = axis.place(low), axis.place(high), axis.place(value)
    parts = [
        '<rect x="1.5%" width="97%" y="18" height="8" rx="4" class="track"/>',
        f'<rect x="{a:.2f}%" width="{b - a:.2f}%" y="16" height="12" rx="6" class="span s0"/>',
        '<line x1="50%" x2="50%" y1="6" y2="38" class="level"/>',
        f'<svg x="{at:.2f}%" y="22" overflow="visible"><circle r="8" class="mark s0"/></svg>',
    ]
    return joined(_open(height, parts), _axis(axis))
