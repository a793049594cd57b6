"""What pictures are drawn with, as words of SVG: marks, lines, text.

A mark tells a series by colour and by shape, so that a picture can be read with any colour vision and in print.
"""

from __future__ import annotations

from html import escape

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8a6d00")
"""Okabe and Ito's, told apart with any colour vision; shapes differ too."""


def shape(which: int, x: float, y: float, filled: bool) -> str:
    """A series' mark; hollow where a value has no interval."""
    paint = f'fill="{COLOURS[which] if filled else "#fff"}" stroke="{COLOURS[which]}" stroke-width="1.4"'
    if which == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.2" {paint}/>'
    corners = {
        1: ((-4, -4), (4, -4), (4, 4), (-4, 4)),
        2: ((0, -5.4), (5.4, 0), (0, 5.4), (-5.4, 0)),
        3: ((0, -5), (5, 4), (-5, 4)),
        4: ((0, 5), (5, -4), (-5, -4)),
    }[which]
    return f'<polygon points="{" ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)}" {paint}/>'


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


def short(words: str, most: int) -> str:
    """Words of at most so many characters, cut with an ellipsis."""
    return words if len(words) <= most else words[: most - 1] + "…"
