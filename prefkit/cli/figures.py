"""How figures with intervals are shown on the terminal: their names in words, and tables of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, RenderableType
    from rich.table import Table

    from prefkit.agreement.measuring import Section
    from prefkit.resampling import Figure

WORDS = {
    "direction": "direction, no ties",
    "direction_at_gap": "direction, large gap",
    "direction_ties_half": "direction, ties half",
    "accuracy": "side, no ties",
    "accuracy_ties_half": "side, ties half",
    "same_side": "side, no ties",
    "same_side_ties_half": "side, ties half",
    "exact": "same answer",
    "both_orders": "right in both orders",
    "consistency": "same in both orders",
    "kappa_orders": "kappa between orders",
    "kappa": "kappa",
    "linear_kappa": "linear kappa",
    "weighted_kappa": "weighted kappa",
    "fleiss": "Fleiss' kappa",
    "alpha_nominal": "alpha, nominal",
    "alpha_ordinal": "alpha, ordinal",
    "alpha_interval": "alpha, interval",
    "ac1": "AC1",
    "ac2": "AC2",
    "icc_a": "ICC(A,1)",
    "icc_c": "ICC(C,1)",
    "correlation": "correlation of means",
    "mean_difference": "mean difference",
}
"""In the order in which they are shown."""
SHARES = ("direction", "accuracy", "exact", "both_orders", "consistency", "same_side")
"""What figures begin with that are shown as percentages."""


def table(title: str, *names: str) -> Table:
    """A table whose first column is of words, the others of numbers."""
    from rich.table import Table

    made = Table(title=title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for place, name in enumerate(names):
        made.add_column(name, justify="right" if place else "left", no_wrap=True)
    return made


def console(wide: int = 160) -> Console:
    """Where tables are printed: into a file or pipe as wide as they need, as what is cut off there is lost."""
    import os
    import sys

    from rich.console import Console

    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else wide
    return Console(highlight=False, markup=False, emoji=False, width=width)


def show(parts: Iterable[RenderableType], wide: int = 160) -> None:
    """Print tables and lines."""
    from rich.table import Table

    out = console(wide)
    for part in parts:
        if isinstance(part, Table) and part.title:
            out.print(part.title, style="table.title")  # inside the table it would be cut to the table's width
            part.title = None
        out.print(part)


def value(name: str, figure: Figure | None) -> str:
    """A figure's value; a dash where it is not defined, nothing where there is no figure."""
    if figure is None:
        return ""
    if figure.value is None:
        return "-"
    return f"{figure.value:.1%}" if name.startswith(SHARES) else f"{figure.value:.3f}"


def interval(name: str, figure: Figure | None) -> str:
    """A figure's interval; nothing where there is none."""
    if figure is None or figure.low is None or figure.high is None:
        return ""
    if name.startswith(SHARES):
        return f"[{100 * figure.low:.1f}, {100 * figure.high:.1f}]"
    return f"[{figure.low:.3f}, {figure.high:.3f}]"


def both(name: str, figure: Figure | None) -> str:
    """Value and interval in one cell."""
    return f"{value(name, figure)} {interval(name, figure)}".strip()


def gaps(section: Section) -> Table:
    """Direction by the size of a gap."""
    made = table("direction by gap, no ties", "gap", *(f"of {_whose(name)}" for name in section.by_gap), "n")
    for rows in zip(*section.by_gap.values(), strict=True):
        start, end = rows[0].start, rows[0].end
        span = f"{start:g} to {end:g}" if end is not None else f"{start:g} or more"
        cells = [both("direction", row.direction) for row in rows]
        made.add_row(span, *cells, " / ".join(f"{row.direction.n:,}" for row in rows))
    return made


def _whose(name: str) -> str:
    return name if name == "one of two" else f"the {name}"


def counts(section: Section, more: str = "") -> str:
    """What was counted, in a line."""
    return "  " + ", ".join(f"{count:,} {reason}" for reason, count in section.counts.items()) + more + "\n"
