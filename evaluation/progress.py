"""How far a grid of cells is: one line a cell, and within a cell a bar on a terminal and a line a minute elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

LINE_EVERY_SECONDS = 60.0


class GridProgress:
    """The time left follows from what each cell is expected to cost and from how long the costs so far took.

    cells: what each is called. steps: how many environment steps each takes. costs: seconds, or any other unit; the
    steps where there are none. afterwards: the cost of what comes after the last cell.
    """

    def __init__(
        self,
        console: Console,
        cells: Sequence[str],
        steps: Sequence[int],
        costs: Sequence[float] | None = None,
        afterwards: float = 0.0,
    ) -> None:
        self._console = console
        self._cells, self._steps = list(cells), list(steps)
        self._costs = list(steps if costs is None else costs)
        self._current, self._within = 0, 0
        self._begun, self._said = 0.0, 0.0
        self._seconds, self._done = 0.0, 0.0  # of finished cells: how long they took, and their costs
        self._left = sum(self._costs) + afterwards
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=self._left)

    def __enter__(self) -> GridProgress:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def kept(self, number: int) -> None:
        """The cell was finished by an earlier run."""
        self._left -= self._costs[number]
        self._bar.update(self._task, total=self._left + self._done)
        self._say(number, "kept")

    def begin(self, number: int) -> None:
        self._current, self._within = number, 0
        self._begun = self._said = time.monotonic()
        self._bar.update(self._task, description=self._cells[number])

    def advance(self, steps: int) -> None:
        self._within += steps
        self._bar.update(self._task, completed=self._done + self._cost_within())
        now = time.monotonic()
        unfinished = self._within < self._steps[self._current]
        if unfinished and not self._console.is_terminal and now >= self._said + LINE_EVERY_SECONDS:
            self._said = now
            self._say(self._current, f"{self._within / self._steps[self._current]:.0%}{self._time_left()}")

    def end(self, outcome: str) -> None:
        self._within = self._steps[self._current]
        left = self._time_left()
        seconds = time.monotonic() - self._begun
        self._seconds += seconds
        self._done += self._costs[self._current]
        self._left -= self._costs[self._current]
        self._within = 0
        self._say(self._current, f"{outcome} ({duration(seconds)}{left})")

    def _cost_within(self) -> float:
        """Of the present cell, as far as it is."""
        return self._costs[self._current] * self._within / max(self._steps[self._current], 1)

    def _time_left(self) -> str:
        """At the rate of all that was measured so far; nothing where that is all there is."""
        seconds = self._seconds + time.monotonic() - self._begun
        done, left = self._done + self._cost_within(), self._left - self._cost_within()
        return f", {duration(seconds / done * left)} left" if left > 1e-9 * done > 0 else ""

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
