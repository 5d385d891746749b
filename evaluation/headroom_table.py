"""The headroom of a family as tables in a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table

from evaluation.headroom import Headroom, Kind, SplitHeadroom
from evaluation.summary import Interval


def print_headroom(console: Console, headroom: Headroom) -> None:
    """For each split: the two policies and the gap between them, success on each kind of task, and the verdict."""
    if not console.is_terminal:  # a file or a pipe has no width of its own; rich's guess of 80 would break the rows
        console = Console(file=console.file, width=max(console.width, 140))
    for split in headroom.splits:
        console.print(_figures(headroom, split))
        if split.kinds:
            console.print(_kinds(split.kinds))
        for line in split.verdict:
            console.print(f"{headroom.family}, {split.split}: {line}", highlight=False, markup=False, soft_wrap=True)


def _figures(headroom: Headroom, split: SplitHeadroom) -> Table:
    title = (
        f"{headroom.family} {headroom.version}, {split.split}: {split.tasks} tasks;"
        f" {split.seeds} training run{'s' if split.seeds > 1 else ''} of each policy, {headroom.steps:,} steps each;"
        " returns are interquartile means, intervals are over runs and tasks"
    )
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("", no_wrap=True)
    for column in ("return [95 %]", "success [95 %]", "share of the oracle's score [95 %]"):
        table.add_column(column, justify="right")
    shown = split.figures
    table.add_row("random", _interval(shown.random_return, 1), "", "")
    table.add_row("ppo-robust, blind", _interval(shown.blind_return, 1), _interval(shown.blind_success), "")
    table.add_row("ppo-oracle, told the task", _interval(shown.oracle_return, 1), _interval(shown.oracle_success), "")
    gap = (_interval(shown.gap_return, 1), _interval(shown.gap_success), _interval(shown.headroom))
    table.add_row("gap: the headroom", *gap, style="bold")
    table.add_row("the same of plain means", "", "", _interval(shown.headroom_mean))
    return table


def _kinds(kinds: tuple[Kind, ...]) -> Table:
    table = Table("kind of task", "", box=box.SIMPLE_HEAD)
    for column in ("tasks", "success of the oracle", "of the blind"):
        table.add_column(column, justify="right")
    for kind in kinds:
        table.add_row(kind.parameter, kind.value, str(kind.tasks), f"{kind.oracle:.2f}", f"{kind.blind:.2f}")
    return table


def _interval(figure: Interval, decimals: int = 2) -> str:
    return f"{figure.value:.{decimals}f} [{figure.low:.{decimals}f}, {figure.high:.{decimals}f}]"
