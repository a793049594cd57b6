"""Plots of lines over steps, rounds, confidence or numbers of pairs: panels of one size, beside each other.

Each has a legend where it has several lines; a line's values with intervals are moved aside a little, so that those of
several do not hide each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from prefkit import svg
from prefkit.evaluation.report.drawing import legend, numbers
from prefkit.evaluation.report.markup import NOTHING, Html, el
from prefkit.svg import Scale

PANEL, TALL = 330, 200
LEFT, RIGHT, TOP, BOTTOM = 44, 12, 12, 34
APART = 5
"""Pixels between intervals of several series at one place."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """A line through points (x, y), ``marked`` with its shape and intervals (x, low, high)."""

    name: str
    series: int
    points: Sequence[tuple[float, float]]
    marked: bool = False
    intervals: Sequence[tuple[float, float, float]] = ()


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A plot of lines.

    Args:
        title: above it.
        across: what x is.
        series: the lines.
        share: whether y is a share, drawn from 0 to 100%.
        level: a value of y worth comparing with; ``diagonal`` is where x and y are alike.
        upright: values of x to mark, each with the class of its line.
        logarithmic: x is drawn by its logarithm.
        said: what is seen, for whoever cannot see it.
    """

    title: str
    across: str
    series: Sequence[Series]
    share: bool = False
    level: float | None = None
    diagonal: bool = False
    upright: Sequence[tuple[float, str]] = ()
    logarithmic: bool = False
    said: str = ""


def panel(one: Panel) -> Html:
    """A panel with its legend; nothing where no line has a point."""
    xs = [x for line in one.series for x, _ in line.points]
    ys = [y for line in one.series for _, y in line.points]
    ys += [end for line in one.series for _, low, high in line.intervals for end in (low, high)]
    if not xs:
        return NOTHING
    across = _scale(xs, LEFT, PANEL - RIGHT, one.logarithmic)
    low, high = (0.0, 1.0) if one.share else _around(ys if one.level is None else [*ys, one.level])
    if one.diagonal:
        across = Scale(0.5 if min(xs) >= 0.5 else 0, 1, LEFT, PANEL - RIGHT)
        low = 0.0
    up = Scale(low, high, TALL - BOTTOM, TOP)
    parts = [*_frame(one, across, up, xs, low, high)]
    for x, kind in one.upright:
        at = across(_x(x, one.logarithmic))
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{TALL - BOTTOM}" class="upright {kind}"/>')
    shown = [line for line in one.series if line.points]
    for place, line in enumerate(shown):
        aside = APART * (place - (len(shown) - 1) / 2) if line.intervals else 0.0
        parts += _line(line, across, up, one.logarithmic, aside)
    drawn = (
        f'<svg viewBox="0 0 {PANEL} {TALL}" width="{PANEL}" height="{TALL}" role="img" class="panel">'
        f"{el('title', f'{one.title}. {one.said}'.strip())}{''.join(parts)}</svg>"
    )
    names = [(line.series, line.name) for line in one.series if line.points]
    return el("div", el("h4", one.title), Html(drawn), legend(names), cls="panelbox")


def _x(value: float, logarithmic: bool) -> float:
    return math.log(max(value, 1e-9)) if logarithmic else value


def _scale(values: Sequence[float], start: float, end: float, logarithmic: bool) -> Scale:
    found = [_x(one, logarithmic) for one in values]
    low, high = min(found), max(found)
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    room = 0.04 * (high - low)
    return Scale(low - room, high + room, start, end)


def _around(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    if high - low < 1e-12:
        low, high = low - 0.5, high + 0.5
    room = 0.07 * (high - low)
    return low - room, high + room


def _frame(one: Panel, across: Scale, up: Scale, xs: Sequence[float], low: float, high: float) -> list[str]:
    parts = []
    if one.share:
        ticks = [(value, f"{100 * value:.0f}%") for value in (0, 0.25, 0.5, 0.75, 1)]
    else:
        ticks = [(value, words) for value, words in numbers(low, high).ticks if low <= value <= high]
    for value, words in ticks:
        y = up(value)
        parts.append(f'<line x1="{LEFT}" x2="{PANEL - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{words}</text>')
    if one.level is not None:
        y = up(one.level)
        parts.append(f'<line x1="{LEFT}" x2="{PANEL - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="level"/>')
    if one.diagonal:
        parts.append(
            f'<line x1="{across(across.low):.1f}" y1="{up(across.low):.1f}" x2="{across(1):.1f}" y2="{up(1):.1f}" '
            'class="level"/>'
        )
    for value, words in _ticks(one, across, xs):
        parts.append(f'<text x="{across(value):.1f}" y="{TALL - 18}" text-anchor="middle">{words}</text>')
    parts.append(
        f'<text x="{(LEFT + PANEL - RIGHT) / 2}" y="{TALL - 3}" text-anchor="middle">{el("tspan", one.across)}</text>'
    )
    return parts


def _ticks(one: Panel, across: Scale, xs: Sequence[float]) -> list[tuple[float, str]]:
    if one.diagonal:
        return [(value, f"{100 * value:.0f}%") for value in (0.0, 0.25, 0.5, 0.75, 1.0) if value >= across.low]
    if one.logarithmic:
        found: list[tuple[float, str]] = []
        for value in sorted(set(xs)):
            if not found or across(_x(value, True)) - across(found[-1][0]) > 44:
                found.append((_x(value, True), f"{value:,.0f}"))
        return found
    return [
        (value, words)
        for value, words in numbers(min(xs), max(xs)).ticks
        if across.low <= value <= across.high and float(value).is_integer()
    ]


def _line(line: Series, across: Scale, up: Scale, logarithmic: bool, aside: float) -> list[str]:
    """A line and its marks, moved ``aside`` by some pixels so that intervals of several do not hide each other."""
    parts = []
    places = [(across(_x(x, logarithmic)) + aside, up(y)) for x, y in line.points]
    for x, low, high in line.intervals:
        at = across(_x(x, logarithmic)) + aside
        parts.append(
            f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{up(low):.1f}" y2="{up(high):.1f}" class="ci s{line.series}"/>'
        )
    if len(places) > 1:
        words = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{words}" class="line s{line.series}"/>')
    if line.marked or len(places) == 1:
        for x, y in places:
            parts.append(svg.outline(line.series % 5, x, y, f'class="mark s{line.series % 5}"'))
    return parts


def panels(*found: Html) -> Html:
    """Panels beside each other, as far as there is room."""
    shown = [one for one in found if one]
    return el("div", shown, cls="panels") if shown else NOTHING
