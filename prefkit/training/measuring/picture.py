"""Pictures of a report, as SVG files that need nothing else.

Reads   a Report, or Curves alone
Gives   SVG

A report's picture has up to four parts: the accuracy of each scorer, beside that with the policies matched and left
out; the reliability of each model; the accuracy by rating gap; learning curves. These can be had alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from prefkit import svg
from prefkit.resampling import Figure
from prefkit.svg import EDGE, GREY, Scale
from prefkit.training.measuring.calibrating import Bin
from prefkit.training.measuring.report import Curve, Measured, Report

LABELS, WIDE, PANEL, ROW = 190, 420, 300, 17
ACROSS = 1.6 * PANEL
_ACCURACY = {
    "accuracy": "held-out pairs",
    "policy_matched": "policies matched: each of two chosen as often",
    "left_out": "policies left out of training",
}


def picture(report: Report) -> str:
    """The SVG of a report."""
    shown = [one for one in report.scorers if "accuracy" in one.figures]
    parts, top = _accuracies(shown, 64.0)
    models = [one for one in shown if one.kind != "baseline"][: len(svg.COLOURS)]
    middle = top + 20
    parts += [*_reliability(models, EDGE + 40, middle)]
    if any("gap" in one.by for one in models):
        parts += _by_gap(models, EDGE + 40 + PANEL + 90, middle)
    bottom = middle + 24 + PANEL + 44
    parts += _legend([one.name for one in models], bottom)
    bottom += 18 * len(models)
    if report.curves:
        parts.append(svg.text(EDGE + 40, bottom + 24, "Would more pairs help?", weight="600"))
        more, bottom = _curves(report.curves, bottom + 44)
        parts += more
    what = f"{report.counts['pairs']:,} pairs of {report.counts['prompts']:,} prompts"
    where = ", ".join(one for one in (report.source, report.split, what) if one)
    return svg.whole("Reward models on held-out pairs", where, parts, 2 * EDGE + 2 * PANEL + 130, bottom)


def curve_picture(curves: Sequence[Curve], figure: str = "accuracy") -> str:
    """The SVG of learning curves alone; ``figure`` may also be the accuracy of a gap.

    Raises:
        ValueError: there is no size with that figure.
    """
    parts, bottom = _curves(curves, 84.0, figure)
    return svg.whole("Learning curves", "Held-out accuracy over training pairs.", parts, 2 * EDGE + 60 + ACROSS, bottom)


def _curves(curves: Sequence[Curve], top: float, figure: str = "accuracy") -> tuple[list[str], float]:
    """Accuracy over training pairs, with what it means below; where what follows may begin."""
    shown = [(curve.name, sizes) for curve in curves if (sizes := [s for s in curve.sizes if figure in s.figures])]
    shown = shown[: len(svg.COLOURS)]
    if not shown:
        raise ValueError(f"no size of a learning curve has {figure}")
    low, high = _around([size.figures[figure] for _, sizes in shown for size in sizes])
    pairs = {size.share: size.pairs for _, sizes in shown for size in sizes}
    x0 = EDGE + 40
    across = Scale(math.log(min(pairs.values())) - 0.1, math.log(max(pairs.values())) + 0.1, x0, x0 + ACROSS)
    up = Scale(low, high, top + PANEL, top)
    parts = _up(up, x0, x0 + ACROSS)
    for number in pairs.values():
        at = across(math.log(number))
        parts += [
            svg.line(at, top, at, top + PANEL, "#eee"),
            svg.text(at, top + PANEL + 15, f"{number:,.0f}", "middle", fill=GREY),
        ]
    parts.append(svg.text(x0 + ACROSS / 2, top + PANEL + 34, "training pairs (logarithmic)", "middle"))
    for which, (name, sizes) in enumerate(shown):
        means = []
        for size in sizes:
            at, found = across(math.log(pairs[size.share])) + 5 * which, size.figures[figure]
            parts += [
                _small(at, up(value), which) for value in size.draws.get(figure, []) if len(size.draws[figure]) > 1
            ]
            parts += _upright(found, at, up, which, f"{name}, {size.pairs:,.0f} pairs")
            if found.value is not None:
                means.append((at, up(found.value)))
        parts.append(svg.path(means, svg.COLOURS[which]))
    bottom = top + PANEL + 58
    parts += _legend([name for name, _ in shown], bottom)
    words = "Lines are means of draws of training prompts, small dots the draws; whiskers are over held-out prompts."
    parts.append(svg.text(x0, bottom + 18 * len(shown) + 4, words, fill=GREY))
    return parts, bottom + 18 * len(shown) + 24


def _small(x: float, y: float, which: int) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.6" fill="{svg.COLOURS[which]}" opacity="0.6"/>'


def _accuracies(scorers: Sequence[Measured], top: float) -> tuple[list[str], float]:
    """Rows of dots, one for each scorer; where what follows may begin."""
    kinds = [name for name in _ACCURACY if any(name in one.figures for one in scorers)]
    parts = []
    for which, name in enumerate(kinds):
        parts += [svg.shape(which, EDGE + 6, top + 12 - 4, True), svg.text(EDGE + 18, top + 12, _ACCURACY[name])]
        top += ROW
    top += 24
    found = [one.figures[name] for one in scorers for name in kinds if name in one.figures]
    low, _ = _around(found)
    scale = Scale(min(0.5, low), 1.0, EDGE + LABELS, EDGE + LABELS + WIDE)
    step = len(kinds) * ROW + 10
    height = step * len(scorers)
    for place, one in enumerate(scorers):
        y = top + place * step
        if place % 2 == 0:
            parts.append(_box(EDGE, y, LABELS + WIDE + 60, step, "#f5f5f2"))
        parts.append(svg.text(EDGE + LABELS - 12, y + step / 2 + 4, svg.short(one.name, 28), "end"))
    for tick in _ticks(scale.low, scale.high):
        parts += [svg.line(scale(tick), top, scale(tick), top + height, "#ddd")]
        parts += [svg.text(scale(tick), top + height + 15, f"{tick:.0%}", "middle", fill=GREY)]
    if scale.low < 0.5:
        parts.append(svg.line(scale(0.5), top, scale(0.5), top + height, "#999", dashed=True))
    for place, one in enumerate(scorers):
        for which, name in enumerate(kinds):
            y = top + place * step + 5 + ROW * (which + 0.5)
            parts += _across(one.figures.get(name), scale, y, which, f"{one.name}, {_ACCURACY[name]}")
    parts.append(
        svg.text(EDGE + LABELS + WIDE / 2, top + height + 32, "preferred side has the higher reward", "middle")
    )
    return parts, top + height + 50


def _reliability(models: Sequence[Measured], x: float, top: float) -> list[str]:
    parts = [svg.text(x, top, "Does its confidence hold?", weight="600")]
    across, up = Scale(0.5, 1.0, x, x + PANEL), Scale(0.0, 1.0, top + 16 + PANEL, top + 16)
    parts += _up(up, x, x + PANEL, (0.0, 0.25, 0.5, 0.75, 1.0))
    for tick in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        at = across(tick)
        parts += [
            svg.line(at, up.end, at, up.start, "#eee"),
            svg.text(at, up.start + 15, f"{tick:.0%}", "middle", fill=GREY),
        ]
    parts.append(svg.line(across(0.5), up(0.5), across(1.0), up(1.0), "#999", dashed=True))
    for which, one in enumerate(models):
        parts.append(svg.path([(across(b.confidence), up(b.right)) for b in one.reliability], svg.COLOURS[which]))
        for b in one.reliability:
            words = f"{one.name}, confidence {b.start:.0%} to {b.end:.0%}"
            parts += _upright(_of_bin(b), across(b.confidence), up, which, words)
    parts.append(
        svg.text(x + PANEL / 2, up.start + 32, "confidence in the side put first, and how often it is right", "middle")
    )
    return parts


def _by_gap(models: Sequence[Measured], x: float, top: float) -> list[str]:
    parts = [svg.text(x, top, "By how far the ratings are apart", weight="600")]
    names = list(dict.fromkeys(row.name for one in models for row in one.by.get("gap", [])))
    found = [row.accuracy for one in models for row in one.by.get("gap", [])]
    up = Scale(min(0.5, _around(found)[0]), 1.0, top + 16 + PANEL, top + 16)
    parts += _up(up, x, x + PANEL)
    for place, name in enumerate(names):
        at = x + PANEL * (place + 0.5) / len(names)
        parts.append(svg.text(at, up.start + 15, name, "middle", fill=GREY, size=11))
        for which, one in enumerate(models):
            figure = next((row.accuracy for row in one.by.get("gap", []) if row.name == name), None)
            aside = (which - (len(models) - 1) / 2) * 11
            if figure is not None:
                parts += _upright(figure, at + aside, up, which, f"{one.name}, gap {name}")
    parts.append(svg.text(x + PANEL / 2, up.start + 32, "rating gap of the pair, and accuracy", "middle"))
    return parts


def _of_bin(one: Bin) -> Figure:
    return Figure(one.right, one.low, one.high, one.n, one.n)


def _around(figures: Sequence[Figure]) -> tuple[float, float]:
    """From a tenth below the lowest to a tenth above the highest, between 0 and 1."""
    low = min((one.low if one.low is not None else one.value or 0.0 for one in figures), default=0.5)
    high = max((one.high if one.high is not None else one.value or 1.0 for one in figures), default=1.0)
    return max(0.0, math.floor(low * 10) / 10), min(1.0, math.ceil(high * 10) / 10)


def _ticks(low: float, high: float) -> list[float]:
    return [place / 10 for place in range(math.ceil(low * 10 - 1e-9), math.floor(high * 10 + 1e-9) + 1)]


def _up(scale: Scale, x: float, to_x: float, ticks: Sequence[float] = ()) -> list[str]:
    """The lines and words of an upright scale."""
    parts = []
    for tick in ticks or _ticks(scale.low, scale.high):
        parts.append(svg.line(x, scale(tick), to_x, scale(tick), "#ddd"))
        parts.append(svg.text(x - 6, scale(tick) + 4, f"{tick:.0%}", "end", fill=GREY))
    return parts


def _across(figure: Figure | None, scale: Scale, y: float, which: int, said: str) -> list[str]:
    return _dot(figure, scale, which, said, lambda at: (at, y), lambda at: (at, y - 3, at, y + 3))


def _upright(figure: Figure, x: float, scale: Scale, which: int, said: str) -> list[str]:
    return _dot(figure, scale, which, said, lambda at: (x, at), lambda at: (x - 3, at, x + 3, at))


def _dot(
    figure: Figure | None,
    scale: Scale,
    which: int,
    said: str,
    point: Callable[[float], tuple[float, float]],
    end: Callable[[float], tuple[float, float, float, float]],
) -> list[str]:
    """A value with its interval, and words for whoever points at it."""
    if figure is None or figure.value is None:
        return []
    parts, words = [], f"{said}: {figure.value:.1%}"
    if figure.low is not None and figure.high is not None:
        words += f" [{100 * figure.low:.1f}, {100 * figure.high:.1f}]"
        low, high = scale(figure.low), scale(figure.high)
        parts.append(svg.line(*point(low), *point(high), svg.COLOURS[which], width=1.4))
        parts += [svg.line(*end(at), svg.COLOURS[which], width=1.4) for at in (low, high)]
    parts.append(svg.shape(which, *point(scale(figure.value)), figure.low is not None))
    return [f"<g><title>{escape(words)}, n = {figure.n:,}</title>", *parts, "</g>"]


def _legend(names: Sequence[str], top: float) -> list[str]:
    parts = []
    for which, name in enumerate(names):
        parts += [
            svg.shape(which, EDGE + 46, top + ROW * which - 4, True),
            svg.text(EDGE + 58, top + ROW * which, name),
        ]
    return parts


def _box(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" fill="{colour}"/>'
