"""The log of a training, as it is drawn: thinned where it is long.

Reads   the lines that a trainer logs, each with its step
Gives   points, panels, a table
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefkit.evaluation.report.markup import Html, behind, table
from prefkit.evaluation.report.panels import Panel, Series, panel, panels

MOST_POINTS = 160
"""Of a training's log that are drawn."""


def logged(history: Sequence[Mapping[str, Any]], key: str) -> list[tuple[float, float]]:
    """The points of a line of the log, thinned where there are many."""
    found = [
        (float(line["step"]), float(line[key]))
        for line in history
        if isinstance(line.get(key), int | float) and isinstance(line.get("step"), int | float)
    ]
    every = max(1, len(found) // MOST_POINTS)
    return found[::every] if every == 1 or not found else [*found[:-1][::every], found[-1]]


def log_panels(history: Sequence[Mapping[str, Any]], wanted: Mapping[str, str]) -> Html:
    """A panel for each figure of the log that is wanted, by its title."""
    made = []
    for key, title in wanted.items():
        line = logged(history, key)
        if len(line) > 1:
            share = key == "accuracy"
            series = [Series(name="training pairs", series=0, points=line)]
            made.append(
                panel(Panel(title=title, across="step", series=series, share=share, level=0.5 if share else None))
            )
    return panels(*made)


def history_table(history: Sequence[Mapping[str, Any]]) -> Html:
    """Some forty lines of the log."""
    keys = [key for key in ("loss", "accuracy", "margin", "learning_rate") if any(key in line for line in history)]
    lines = [line for line in history if "step" in line and any(key in line for key in keys)]
    every = max(1, len(lines) // 40)
    rows = [
        (f"{line['step']:,}", *(f"{line[key]:.4g}" if key in line else "" for key in keys)) for line in lines[::every]
    ]
    return behind(table(("step", *(key.replace("_", " ") for key in keys)), rows, "The log"))
