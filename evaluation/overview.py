"""Figures of a whole evaluation, a panel for each family: what a reader of the README sees first."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from evaluation.plots import INK, STYLE, compact, draw_curves, draw_steps, score_title, within
from evaluation.results import Results
from evaluation.style import agent_colour, agent_label, agent_order, drawn_as
from evaluation.summary import AgentSummary, SplitSummary

ROWS = {"train": "on training tasks", "test": "on held-out tasks", "ood": "out of distribution"}


def overview_figure(results: Results) -> Figure:
    """Score over adaptation episodes with 95 % intervals: a column for each family, a row for each split."""
    episodes, splits = results.summary.protocol.episodes, results.summary.results
    with matplotlib.rc_context(STYLE):
        figure, panels = _panels(splits)
        for split, axes in zip(splits, panels, strict=True):
            shown = _told(within(split, episodes))
            draw_curves(
                axes, shown, lambda p: p.episode, lambda p: (p.score, p.low, p.high), max(episodes, 1), named=False
            )
            axes.set_xlim(0, max(episodes, 1))
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            axes.set_xlabel("adaptation episodes on the task")
        _finish(figure, panels, splits, [agent for split in splits for agent in _told(within(split, episodes))])
    return figure


def steps_overview(results: Results) -> Figure | None:
    """Score over steps on the task, as far as PPO's long runs go, everyone on the tasks of these. None without any."""
    long = [split for split in results.summary.results if any(agent.long for agent in split.agents)]
    if not long:
        return None
    splits = [results.longest(split) for split in long]
    with matplotlib.rc_context(STYLE):
        figure, panels = _panels(splits)
        for split, axes in zip(splits, panels, strict=True):
            horizon = results.summary.protocol.horizons[split.family]
            draw_steps(axes, _told(split.agents), horizon, split.budget_steps, named=False, in_words=compact)
            axes.set_xlabel("environment steps on the task")
        _finish(figure, panels, splits, [agent for split in splits for agent in _told(split.agents)])
    return figure


def _told(agents: Sequence[AgentSummary]) -> list[AgentSummary]:
    """All but the random agent, which is 0 by definition."""
    return [agent for agent in agents if agent.agent != "random"]


def _panels(splits: Sequence[SplitSummary]) -> tuple[Figure, list[Axes]]:
    """A panel for each split, families side by side and splits one above the other."""
    families = list(dict.fromkeys(split.family for split in splits))
    rows = [name for name in ROWS if any(split.split == name for split in splits)]
    comparable = all(split.normalised for split in splits)
    figure = Figure(figsize=(10.6, 0.55 + 2.85 * len(rows)))
    grid: np.ndarray = figure.subplots(
        len(rows), len(families), squeeze=False, sharey="row" if comparable else False, sharex=False
    )
    panels = [grid[rows.index(split.split), families.index(split.family)] for split in splits]
    for axes in grid.flat:
        axes.set_visible(any(axes is panel for panel in panels))
    return figure, panels


def _finish(
    figure: Figure, panels: Sequence[Axes], splits: Sequence[SplitSummary], agents: Sequence[AgentSummary]
) -> None:
    """Titles, and one legend for all panels."""
    for split, axes in zip(splits, panels, strict=True):
        place = axes.get_subplotspec()
        if place is None or place.is_first_row():
            axes.set_title(split.family, pad=9)
        if place is None or place.is_first_col():
            axes.set_ylabel(f"{score_title(split)}\n{ROWS[split.split]}", fontsize=9.5, linespacing=1.5)
    names = agent_order({drawn_as(agent.agent) for agent in agents})
    top = 1.0 - 0.42 / figure.get_figheight()
    figure.subplots_adjust(
        left=0.08, right=0.99, top=top - 0.3 / figure.get_figheight(), bottom=0.55 / figure.get_figheight(),
        wspace=0.14, hspace=0.42,
    )  # fmt: skip
    figure.legend(
        [Line2D([], [], color=agent_colour(name), linewidth=2.6) for name in names],
        [agent_label(name) for name in names],
        loc="lower center", bbox_to_anchor=(0.535, top), ncols=len(names), frameon=False, labelcolor=INK, fontsize=10,
        handlelength=1.5, handletextpad=0.5, columnspacing=1.7,
    )  # fmt: skip
