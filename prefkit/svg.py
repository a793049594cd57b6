"""What pictures are drawn with, as words of SVG: marks, lines, text, the frame around them.

A mark tells a series by colour and by shape, so that a picture can be read with any colour vision and in print.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

EDGE = 24
"""Pixels from the left edge to what a picture begins with."""
GREY = "#666"
INTERVALS = "Dots are values, lines 95% intervals over prompts."
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00")
"""Okabe and Ito's, told apart with any colour vision; shapes differ too."""


@dataclass(frozen=True)
class Scale:
    """A scale from ``low`` at ``start`` to ``high`` at ``end``, in pixels; a value beyond it stands at its end."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Where a value stands."""
        place = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return self.start + (self.end - self.start) * place


def whole(title: str, words: str, parts: Sequence[str], width: float, height: float, said: str = INTERVALS) -> str:
    """A file of its own, on white, so that it can be read on a dark page too.

    Args:
        title: of the picture.
        words: below the title.
        parts: what is drawn, from 50 pixels down.
        width, height: in pixels.
        said: what is seen, for whoever cannot see it.
    """
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    font = 'font-family="system-ui, sans-serif" font-size="12" fill="#222"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" {font}>',
            f"<title>{escape(title)}</title>",
            f"<desc>{escape(said)}</desc>",
            '<rect width="100%" height="100%" fill="#fff"/>',
            text(EDGE, 24, title, size=15, weight="600"),
            text(EDGE, 42, words, fill=GREY),
            *parts,
            "</svg>",
            "",
        ]
    )


CORNERS = {
    1: ((-4, -4), (4, -4), (4, 4), (-4, 4)),
    2: ((0, -5.4), (5.4, 0), (0, 5.4), (-5.4, 0)),
    3: ((0, -5), (5, 4), (-5, 4)),
    4: ((0, 5), (5, -4), (-5, -4)),
}
"""Of a series' mark, in pixels from its middle; the first series has a circle."""


def shape(which: int, x: float, y: float, filled: bool) -> str:
    """A series' mark; hollow where a value has no interval."""
    paint = f'fill="{COLOURS[which] if filled else "#fff"}" stroke="{COLOURS[which]}" stroke-width="1.4"'
    return outline(which, x, y, paint)


def outline(which: int, x: float, y: float, attributes: str) -> str:
    """A series' mark, painted by attributes: a colour, or a class where the page has the colours."""
    if which == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.2" {attributes}/>'
    corners = " ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in CORNERS[which])
    return f'<polygon points="{corners}" {attributes}/>'


def line(x: float, y: float, to_x: float, to_y: float, colour: str, width: float = 1, dashed: bool = False) -> str:
    """A line; positions and width in pixels."""
    dash = ' stroke-dasharray="3 3"' if dashed else ""
    return (
        f'<line x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}" stroke="{colour}" '
        f'stroke-width="{width:g}"{dash}/>'
    )


def text(
    x: float, y: float, words: str, anchor: str = "start", *, size: int = 12, weight: str = "", fill: str = ""
) -> str:
    """Words at a place, which is their start, middle or end."""
    more = f' font-weight="{weight}"' if weight else ""
    more += f' fill="{fill}"' if fill else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}"{more}>{escape(words)}</text>'


def path(points: Sequence[tuple[float, float]], colour: str) -> str:
    """A line through points."""
    words = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{words}" fill="none" stroke="{colour}" stroke-width="1.2" opacity="0.6"/>'


def short(words: str, most: int) -> str:
    """Words of at most so many characters, cut with an ellipsis."""
    return words if len(words) <= most else words[: most - 1] + "…"
