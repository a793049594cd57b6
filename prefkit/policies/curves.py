"""The course of a policy's training in pictures, as one SVG file that needs nothing else.

Reads   the trainer's log, the looks
Gives   SVG

Lines are the training pairs, as the log has them: each value is of the steps since the one before, so of other pairs.
Marks are looks: the same held-out pairs and the same prompts each time. Log-probabilities depend on the texts so much
that they are drawn of the held-out pairs where there are any. A panel that nothing is known of is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Literal

from prefkit import svg
from prefkit.policies.course import Held, Logged, held_out_figures
from prefkit.svg import EDGE, GREY, Scale

if TYPE_CHECKING:
    from prefkit.policies.watching import Look

ACROSS, DOWN = 340, 130
"""Pixels of the inside of a panel."""
LEFT, BETWEEN, ABOVE, BELOW = 46, 26, 30, 40
"""Pixels for the words around it."""
COLUMNS = 2
ROOM = 0.07
"""The share of a scale that stays free at its ends."""
TICKS = 6
"""Ticks of a scale, about."""
FLAG = "#b00020"
TRAINING, LOOKED = 0, 1
"""The colours of what the log says and of what looks say, where a panel shows both."""

Unit = Literal["share", "number"]


@dataclass(frozen=True)
class _Point:
    step: int
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class _Series:
    """``marked`` is what looks say; the others are lines alone."""

    name: str
    colour: int
    points: tuple[_Point, ...]
    marked: bool


@dataclass(frozen=True)
class _Panel:
    """``level`` is a value worth comparing with, such as that of a coin toss."""

    title: str
    series: tuple[_Series, ...]
    unit: Unit = "number"
    level: float | None = None


@dataclass(frozen=True)
class _Steps:
    """What all panels have in common: how far the training went, and which steps are marked."""

    last: int
    flagged: tuple[int, ...]
    kept: int | None


def curves(history: Sequence[Logged], looks: Sequence[Look], kept: int | None = None) -> str:
    """The SVG of a training.

    Args:
        history: the lines of the log, ``trainer.state.log_history``.
        looks: the first is at the start.
        kept: the step whose weights were kept; None where that is nobody's question.
    """
    panels = [panel for panel in _panels(history, looks) if panel.series]
    steps = _Steps(
        last=max([1, *(point.step for panel in panels for one in panel.series for point in one.points)]),
        flagged=tuple(one.step for one in looks if one.health.flagged),
        kept=kept,
    )
    parts, top = _marks_in_words(steps, 66.0)
    for place, panel in enumerate(panels):
        row, column = divmod(place, COLUMNS)
        x = EDGE + LEFT + column * (ACROSS + LEFT + BETWEEN)
        parts += _drawn(panel, steps, x, top + row * (ABOVE + DOWN + BELOW) + ABOVE)
    if not panels:
        parts.append(svg.text(EDGE, top + 14, "Nothing was noted."))
    rows = math.ceil(len(panels) / COLUMNS) or 0.2
    width = 2 * EDGE + COLUMNS * (ACROSS + LEFT + BETWEEN) - BETWEEN
    words = "Over optimiser steps. Lines: training pairs. Marks: looks, at held-out pairs and answers to fixed prompts."
    said = "Small pictures over the steps: lines are training pairs, marks are looks, bars 95% intervals over prompts."
    return svg.whole("The course of a training", words, parts, width, top + rows * (ABOVE + DOWN + BELOW), said)


# --- what is drawn ---------------------------------------------------------------------------------------------------


def _panels(history: Sequence[Logged], looks: Sequence[Look]) -> Iterator[_Panel]:
    lines = [line for line in history if "loss" in line]
    held = held_out_figures(history, looks)
    yield _Panel("loss", _both(lines, held, "loss"))
    yield _Panel("accuracy", _both(lines, held, "accuracy"), "share", 0.5)
    yield _log_probabilities(lines, held)
    yield _Panel("margin", _both(lines, held, "margin"), level=0.0)
    away = tuple(_Point(one.step, one.divergence) for one in looks)
    yield _Panel("KL from the start, nats an answer", _series(("from the start", LOOKED, away, True)))
    yield _Panel("words an answer", _series(("words", LOOKED, tuple(_lengths(looks)), True)))
    wins = tuple(
        _Point(one.step, rate.value, rate.low, rate.high) for one in looks if (rate := one.win_rate) is not None
    )
    yield _Panel("win rate against the start", _series(("win rate", LOOKED, wins, True)), "share", 0.5)
    unfit = tuple(
        _Point(one.step, share.share, share.low, share.high)
        for one in looks
        if (share := one.health.shares.get("unfit")) is not None
    )
    yield _Panel("unfit answers", _series(("unfit", LOOKED, unfit, True)), "share")


def _both(lines: Sequence[Logged], held: Held, name: str) -> tuple[_Series, ...]:
    return _series(
        ("training", TRAINING, _logged(lines, name), False), ("held out", LOOKED, _measured(held, name), True)
    )


def _log_probabilities(lines: Sequence[Logged], held: Held) -> _Panel:
    sides = ("chosen", "rejected")
    held_out = [_measured(held, side) for side in sides]
    marked = all(held_out)
    points = held_out if marked else [_logged(lines, side) for side in sides]
    drawn = _series(*((side, place, points[place], marked) for place, side in enumerate(sides)))
    return _Panel("log p of a response, nats", drawn)


def _logged(lines: Sequence[Logged], name: str) -> tuple[_Point, ...]:
    return tuple(_Point(int(line["step"]), line[name]) for line in lines if name in line)


def _measured(held: Held, name: str) -> tuple[_Point, ...]:
    return tuple(_Point(step, of[name]) for step, of in held.items() if name in of)


def _lengths(looks: Sequence[Look]) -> Iterator[_Point]:
    """The mean; its interval is that of its ratio to the start's."""
    for one in looks:
        if (drift := one.health.drifts.get("words")) is None:
            continue
        around = [end * drift.reference for end in (drift.low, drift.high) if end is not None and drift.reference]
        low, high = around if len(around) == 2 else (None, None)
        yield _Point(one.step, drift.value, low, high)


def _series(*drawn: tuple[str, int, tuple[_Point, ...], bool]) -> tuple[_Series, ...]:
    """Those that have a point; a value that is no number is none."""
    kept = (
        _Series(name, colour, tuple(point for point in points if math.isfinite(point.value)), marked)
        for name, colour, points, marked in drawn
    )
    return tuple(one for one in kept if one.points)


# --- how it is drawn -------------------------------------------------------------------------------------------------


def _drawn(panel: _Panel, steps: _Steps, x: float, top: float) -> list[str]:
    """A panel whose inside begins at ``x`` and ``top``."""
    across = Scale(0, steps.last, x, x + ACROSS)
    low, high, apart = _range(panel)
    up = Scale(low, high, top + DOWN, top)
    parts = [svg.text(x, top - 12, panel.title, weight="600"), *_names(panel.series, x + ACROSS, top - 12)]
    for tick in _ticks(low, high, apart):
        parts.append(svg.line(x, up(tick), x + ACROSS, up(tick), "#ddd"))
        parts.append(svg.text(x - 6, up(tick) + 4, _number(tick, apart, panel.unit), "end", fill=GREY, size=11))
    for tick in _ticks(0, steps.last, max(1.0, _apart(steps.last))):
        parts.append(svg.line(across(tick), up.start, across(tick), up.start + 4, GREY))
        parts.append(svg.text(across(tick), up.start + 16, f"{tick:,.0f}", "middle", fill=GREY, size=11))
    if panel.level is not None and low <= panel.level <= high:
        parts.append(svg.line(x, up(panel.level), x + ACROSS, up(panel.level), "#999", dashed=True))
    parts += _marked_steps(steps, across, top)
    for one in panel.series:
        parts += _of_series(one, across, up, lambda value: _number(value, apart / 10, panel.unit), panel.title)
    return parts


def _of_series(one: _Series, across: Scale, up: Scale, words: Callable[[float], str], title: str) -> Iterator[str]:
    colour = svg.COLOURS[one.colour]
    if len(one.points) > 1:
        yield svg.path([(across(point.step), up(point.value)) for point in one.points], colour)
    for point in one.points if one.marked or len(one.points) == 1 else ():
        x, said = across(point.step), f"{title}, {one.name}, step {point.step:,}: {words(point.value)}"
        parts = []
        if point.low is not None and point.high is not None:
            said += f" [{words(point.low)}, {words(point.high)}]"
            ends = up(point.low), up(point.high)
            parts.append(svg.line(x, ends[0], x, ends[1], colour, width=1.4))
            parts += [svg.line(x - 3, end, x + 3, end, colour, width=1.4) for end in ends]
        mark = svg.shape(one.colour, x, up(point.value), True)
        yield f"<g><title>{escape(said)}</title>{''.join(parts)}{mark}</g>"


def _names(series: Sequence[_Series], x: float, y: float) -> Iterator[str]:
    """Which series is which, to the left of ``x``; nothing of a single one."""
    if len(series) < 2:
        return
    for one in reversed(series):
        yield svg.text(x, y, one.name, "end", size=11)
        x -= 6.2 * len(one.name) + 10
        if one.marked:
            yield svg.shape(one.colour, x, y - 4, True)
        else:
            yield svg.line(x - 10, y - 4, x + 5, y - 4, svg.COLOURS[one.colour], width=1.6)
        x -= 16


def _marked_steps(steps: _Steps, across: Scale, top: float) -> Iterator[str]:
    if steps.kept is not None:
        yield _kept(across(steps.kept), top, top + DOWN)
    for step in steps.flagged:
        yield from _flag(across(step), top, top + DOWN)


def _flag(x: float, top: float, bottom: float) -> Iterator[str]:
    yield svg.line(x, top, x, bottom, FLAG, width=1.2, dashed=True)
    yield svg.line(x - 3.5, top - 3.5, x + 3.5, top + 3.5, FLAG, width=1.8)
    yield svg.line(x - 3.5, top + 3.5, x + 3.5, top - 3.5, FLAG, width=1.8)


def _kept(x: float, top: float, bottom: float) -> str:
    return svg.line(x, top, x, bottom, "#bcd9f0", width=7)


def _marks_in_words(steps: _Steps, top: float) -> tuple[list[str], float]:
    """What upright lines mean; where the panels may begin."""
    parts: list[str] = []
    x = EDGE + 4.0
    if steps.kept is not None:
        parts += [_kept(x, top - 10, top + 4), svg.text(x + 10, top, "the weights that were kept")]
        x += 190
    if steps.flagged:
        parts += [*_flag(x, top - 8, top + 4), svg.text(x + 10, top, "a look whose text is flagged as degenerate")]
    return (parts, top + 14) if parts else (parts, top - 14)


# --- scales ----------------------------------------------------------------------------------------------------------


def _range(panel: _Panel) -> tuple[float, float, float]:
    """A little more than what all values and intervals need, and how far apart ticks are."""
    ends = [
        end
        for one in panel.series
        for point in one.points
        for end in (point.value, point.low, point.high)
        if end is not None and math.isfinite(end)
    ]
    low, high = min(ends), max(ends)
    if panel.unit == "share" and high - low < 0.1:
        low, high = max(0.0, low - 0.05), min(1.0, high + 0.05)
    if high - low <= 1e-9 * max(1.0, abs(high)):
        low, high = low - 0.5, high + 0.5
    room = ROOM * (high - low)
    least, most = (0.0 if low >= 0 else -math.inf), (1.0 if panel.unit == "share" else math.inf)
    return max(least, low - room), min(most, high + room), _apart(high - low)


def _apart(span: float) -> float:
    """1, 2 or 5 times a power of ten: so far apart are about ``TICKS`` ticks."""
    rough = span / TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    return next((step * power for step in (1, 2, 5) if step * power >= rough - 1e-12), 10 * power)


def _ticks(low: float, high: float, apart: float) -> list[float]:
    first, last = math.ceil(low / apart - 1e-9), math.floor(high / apart + 1e-9)
    return [place * apart for place in range(first, last + 1)]


def _number(value: float, apart: float, unit: Unit) -> str:
    """A value with as many decimals as ``apart`` needs."""
    scaled, step = (100 * value, 100 * apart) if unit == "share" else (value, apart)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    said = f"{scaled:,.{decimals}f}"
    said = said.removeprefix("-") if float(said.replace(",", "")) == 0 else said
    return f"{said}%" if unit == "share" else said
