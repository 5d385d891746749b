"""How far a grid of cells is: a bar with the time left on a terminal, one line a cell everywhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


class GridProgress:
    """cells: what each is called. steps: how many environment steps each takes, so that the time left can be told."""

    def __init__(self, console: Console, cells: Sequence[str], steps: Sequence[int]) -> None:
        self._console = console
        self._cells, self._steps = list(cells), list(steps)
        self._current = 0
        self._begun = 0.0
        self._seconds, self._steps_done = 0.0, 0
        self._left = sum(steps)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=max(self._left, 1))

    def __enter__(self) -> GridProgress:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def kept(self, number: int) -> None:
        """The cell was finished by an earlier run."""
        self._left -= self._steps[number]
        self._bar.update(self._task, total=max(self._left + self._steps_done, 1))
        self._say(number, "kept")

    def begin(self, number: int) -> None:
        self._current, self._begun = number, time.monotonic()
        self._bar.update(self._task, description=self._cells[number])

    def advance(self, steps: int) -> None:
        self._bar.advance(self._task, steps)

    def end(self, outcome: str) -> None:
        seconds = time.monotonic() - self._begun
        self._seconds += seconds
        self._steps_done += self._steps[self._current]
        self._left -= self._steps[self._current]
        left = self._seconds / max(self._steps_done, 1) * self._left
        tail = f", {duration(left)} left" if self._left else ""
        self._say(self._current, f"{outcome} ({duration(seconds)}{tail})")

    def _say(self, number: int, text: str) -> None:
        width = max(map(len, self._cells))
        line = f"[{number + 1:>{len(str(len(self._cells)))}}/{len(self._cells)}] {self._cells[number]:<{width}}  {text}"
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """A time as people say it: 8 s, 2 min 05 s, 1 h 20 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
