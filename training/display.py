"""What a person sees while training: a progress bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from training.checkpoint import Counters

LINE_EVERY = 10.0  # seconds between plain lines


class Display:
    """Shows how far training is, when it will end, and the figures that matter."""

    def __init__(self, console: Console, title: str, total_steps: int, start: Counters) -> None:
        self._console = console
        self._title, self._total, self._start = title, total_steps, start
        self._begun = time.monotonic()
        self._last_line = self._begun
        self._held_out = ""
        self._watched = True
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            TaskProgressColumn(),
            TextColumn("{task.fields[rest]}"),
            console=console,
            auto_refresh=False,  # drawn after each iteration; a thread that redraws meanwhile would only slow it down
        )
        self._bar_task = self._bar.add_task(title, total=total_steps, completed=start.env_steps, rest="")

    def __enter__(self) -> Display:
        if self._console.is_terminal:
            self._draw(self._bar.start)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
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
            rest = self._figures(counters, metrics)
            self._draw(lambda: self._bar.update(self._bar_task, completed=steps, rest=rest, refresh=True))
        elif done or time.monotonic() - self._last_line >= LINE_EVERY:
            self._last_line = time.monotonic()
            share = min(1.0, counters.env_steps / self._total)
            self.say(f"{self._title} {share:4.0%} {counters.env_steps:,} steps · {self._figures(counters, metrics)}")

    def _figures(self, counters: Counters, metrics: dict[str, float]) -> str:
        speed = (counters.env_steps - self._start.env_steps) / max(1e-9, time.monotonic() - self._begun)
        left = max(0, self._total - counters.env_steps) / max(1.0, speed)
        return (
            f"{_clock(left)} left · {speed:,.0f} steps/s · return {_per_round(metrics, 'rollout/')}"
            f" · success {metrics['rollout/success_rate']:.2f}{self._held_out}"
        )


def _per_round(metrics: dict[str, float], prefix: str) -> str:
    """Return of the first and the last round, as `3.20 -> 5.75`."""
    returns = [value for tag, value in metrics.items() if tag.startswith(f"{prefix}round_") and tag.endswith("_return")]
    return " -> ".join(f"{value:.2f}" for value in (returns[:1] if len(returns) == 1 else returns[:: len(returns) - 1]))


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
