"""Figures of a whole evaluation, a column for each family: what a reader of the README sees first.

Each split has two rows, what is solved and the mean score: neither hides what the other does not show.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from evaluation.plots import INK, STYLE, compact, draw_curves, draw_steps, mean_score_of, solved_of, within
from evaluation.results import Results
from evaluation.style import agent_colour, agent_label, agent_order, drawn_as
from evaluation.summary import AgentSummary, SplitSummary

FIGURES = (solved_of, mean_score_of)  # one above the other
Panel = tuple[SplitSummary, int, Axes]  # with the number of its figure
ROWS = {"train": "on training tasks", "test": "on held-out tasks", "ood": "out of distribution"}


def overview_figure(results: Results) -> Figure:
    """What is solved and the mean score over adaptation episodes, with 95 % intervals, on every split."""
    episodes, splits = results.summary.protocol.episodes, results.summary.results
    told = {(split.family, split.split): _told(within(split, episodes)) for split in splits}
    with matplotlib.rc_context(STYLE):
        figure, panels = _panels(splits)
        for split, number, axes in panels:
            y_of = FIGURES[number]
            draw_curves(axes, told[split.family, split.split], lambda p: p.episode, y_of, max(episodes, 1), named=False)
            axes.set_xlim(0, max(episodes, 1))
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        _finish(figure, panels, list(told.values()), "adaptation episodes on the task")
    return figure


def steps_overview(results: Results) -> Figure | None:
    """The same over steps on the task, as far as PPO's long runs go, everyone on the tasks of these. None without."""
    long = [split for split in results.summary.results if any(agent.long for agent in split.agents)]
    if not long:
        return None
    splits = [results.longest(split) for split in long]
    told = {(split.family, split.split): _told(split.agents) for split in splits}
    with matplotlib.rc_context(STYLE):
        figure, panels = _panels(splits)
        for split, number, axes in panels:
            horizon = results.summary.protocol.horizons[split.family]
            draw_steps(
                axes,
                told[split.family, split.split],
                horizon,
                split.budget_steps,
                FIGURES[number],
                named=False,
                in_words=compact,
            )
        _finish(figure, panels, list(told.values()), "environment steps on the task")
    return figure


def _told(agents: Sequence[AgentSummary]) -> list[AgentSummary]:
    """All but the random agent, which is 0 by definition."""
    return [agent for agent in agents if agent.agent != "random"]


def _panels(splits: Sequence[SplitSummary]) -> tuple[Figure, list[Panel]]:
    """For each split two panels, one above the other: families side by side, splits below each other."""
    families = list(dict.fromkeys(split.family for split in splits))
    rows = [name for name in ROWS if any(split.split == name for split in splits)]
    comparable = all(split.normalised for split in splits)
    figure = Figure(figsize=(10.6, 0.55 + 2.25 * len(FIGURES) * len(rows)))
    grid: np.ndarray = figure.subplots(
        len(FIGURES) * len(rows), len(families), squeeze=False, sharey="row" if comparable else False, sharex=False
    )
    panels = [
        (split, number, grid[len(FIGURES) * rows.index(split.split) + number, families.index(split.family)])
        for split in splits
        for number in range(len(FIGURES))
    ]
    for axes in grid.flat:
        axes.set_visible(any(axes is panel for _, _, panel in panels))
    return figure, panels


def _finish(figure: Figure, panels: Sequence[Panel], told: Sequence[Sequence[AgentSummary]], across: str) -> None:
    """Titles, and one legend for all panels. across: what the horizontal axes are."""
    for split, number, axes in panels:
        place = axes.get_subplotspec()
        if place is None or place.is_first_row():
            axes.set_title(split.family, pad=9)
        if FIGURES[number] is solved_of:
            axes.set_ylim(-0.03, 1.03)
            axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        else:
            axes.set_xlabel(across)
        if place is None or place.is_first_col():
            what = "solved" if FIGURES[number] is solved_of else f"mean {'score' if split.normalised else 'return'}"
            axes.set_ylabel(f"{what}\n{ROWS[split.split]}", fontsize=9.5, linespacing=1.5)
    names = agent_order({drawn_as(agent.agent) for agents in told for agent in agents})
    top = 1.0 - 0.42 / figure.get_figheight()
    figure.subplots_adjust(
        left=0.08, right=0.99, top=top - 0.3 / figure.get_figheight(), bottom=0.55 / figure.get_figheight(),
        wspace=0.14, hspace=0.36,
    )  # fmt: skip
    figure.legend(
        [Line2D([], [], color=agent_colour(name), linewidth=2.6) for name in names],
        [agent_label(name) for name in names],
        loc="lower center", bbox_to_anchor=(0.535, top), ncols=len(names), frameon=False, labelcolor=INK, fontsize=10,
        handlelength=1.5, handletextpad=0.5, columnspacing=1.7,
    )  # fmt: skip
