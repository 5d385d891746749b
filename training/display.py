"""What a person sees while training: a progress bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from types import TracebackType

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Column
from rich.text import Text

from training.checkpoint import Counters

LINE_EVERY = 10.0  # seconds between plain lines


class Bar(Progress):
    """How far and how long yet in one line, and the figures below: in one row they would push the bar out."""

    figures = ""

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        if self.figures:
            yield Text(self.figures)


class Display:
    """Shows how far training is, when it will end, and the figures that matter."""

    def __init__(self, console: Console, title: str, total_steps: int, start: Counters) -> None:
        self._console = console
        self._title, self._total, self._start = title, total_steps, start
        self._begun = time.monotonic()
        self._last_line = self._begun
        self._held_out = ""
        self._watched = True
        self._bar = Bar(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None, table_column=Column(max_width=24)),
            TaskProgressColumn(),
            TextColumn("{task.fields[left]}"),
            console=console,
            auto_refresh=False,  # drawn after each iteration; a thread that redraws meanwhile would only slow it down
        )
        self._bar_task = self._bar.add_task(title, total=total_steps, completed=start.env_steps, left="")

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._draw(self._bar.start)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._console.is_terminal:
            self._draw(self._bar.stop)

    def _draw(self, draw: Callable[[], None]) -> None:
        """Training outlives those who look on: a closed terminal, `| head`, a full disk under a log."""
        if self._watched:
            try:
                draw()
            except (OSError, SystemExit):  # the latter is what rich makes of a broken pipe
                self._watched = False

    def say(self, text: str) -> None:
        self._draw(lambda: self._console.print(text, highlight=False, markup=False, soft_wrap=True))

    def show(self, counters: Counters, metrics: dict[str, float]) -> None:
        """After each iteration."""
        held_out = _per_round(metrics, "adapt/")
        self._held_out = f" · held-out {held_out}" if held_out else self._held_out
        done = counters.env_steps >= self._total
        if self._console.is_terminal:
            steps = min(counters.env_steps, self._total)
            left = self._left(counters)
            self._bar.figures = self._figures(counters, metrics)
            self._draw(lambda: self._bar.update(self._bar_task, completed=steps, left=left, refresh=True))
        elif done or time.monotonic() - self._last_line >= LINE_EVERY:
            self._last_line = time.monotonic()
            share = min(1.0, counters.env_steps / self._total)
            figures = f"{self._left(counters)} · {self._figures(counters, metrics)}"
            self.say(f"{self._title} {share:4.0%} {counters.env_steps:,} steps · {figures}")

    def _left(self, counters: Counters) -> str:
        left = max(0, self._total - counters.env_steps) / max(1.0, self._speed(counters))
        return f"{_clock(left)} left"

    def _figures(self, counters: Counters, metrics: dict[str, float]) -> str:
        return (
            f"{self._speed(counters):,.0f} steps/s · return {_per_round(metrics, 'rollout/')}"
            f" · success {metrics['rollout/success_rate']:.2f}{self._held_out}"
        )

    def _speed(self, counters: Counters) -> float:
        """Environment steps a second since training began or went on."""
        return (counters.env_steps - self._start.env_steps) / max(1e-9, time.monotonic() - self._begun)


def _per_round(metrics: dict[str, float], prefix: str) -> str:
    """Return of the first and the last round, as `3.20 -> 5.75`."""
    returns = [value for tag, value in metrics.items() if tag.startswith(f"{prefix}round_") and tag.endswith("_return")]
    return " -> ".join(f"{value:.2f}" for value in (returns[:1] if len(returns) == 1 else returns[:: len(returns) - 1]))


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
