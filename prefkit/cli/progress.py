"""Progress bars with counts, for anything that takes longer than two seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

PATIENCE = 2.0
REFRESH = 0.1


class _Count(ProgressColumn):
    def render(self, task: Task) -> Text:
        unit = task.fields["unit"]
        scale = 1e6 if unit == "MB" else 1
        total = "?" if task.total is None else f"{task.total / scale:,.0f}"
        return Text(f"{task.completed / scale:,.0f}/{total} {unit}", style="progress.download")


class Bars:
    """Progress bars on the terminal's error stream; they appear once the work has taken two seconds."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            _Count(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._since = time.monotonic()
        self._started = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._started:
            self._bars.stop()

    def open(self, title: str, total: int | None, unit: str) -> Callable[[int], None]:
        """A new bar; the function that moves it takes how much more is done. The unit ``MB`` counts bytes.

        It may be called for every line of a large file: the bar is drawn ten times a second at most.
        """
        reach = self.open_absolute(title, total, unit)
        done = 0

        def advance(more: int) -> None:
            nonlocal done
            done += more
            reach(done)

        return advance

    def open_absolute(self, title: str, total: int | None, unit: str) -> Callable[[int], None]:
        """The same, for work that says how much is done in all."""
        task = self._bars.add_task(title, total=total, unit=unit)
        due = 0.0

        def reach(done: int) -> None:
            nonlocal due
            now = time.monotonic()
            if now < due and done != total:
                return
            due = now + REFRESH
            self._bars.update(task, completed=done)
            if not self._started and now - self._since > PATIENCE:
                self._started = True
                self._bars.start()

        return reach
