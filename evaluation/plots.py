"""Figures of an evaluation: matplotlib's `Figure`s without a window, and the SVG text that pages embed.

One calm style; each agent has one colour everywhere; lines carry their names. The same results give the same bytes.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from evaluation.results import Results, duel
from evaluation.style import agent_colour, agent_label, agent_order, drawn_as
from evaluation.summary import AgentSummary, CurvePoint, SplitSummary

# Pages replace these by their own colours, so that figures follow the page into the dark; nothing else may use them.
INK, SOFT, GRID = "#1e2833", "#697582", "#dfe4ea"
STYLE: Any = {
    "svg.hashsalt": "quickstudy",
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 10.5,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": GRID,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "hatch.linewidth": 0.8,
}


Figures = Callable[[CurvePoint], tuple[float, float, float]]
"""A figure of a probe with the ends of its interval."""


def mean_score_of(point: CurvePoint) -> tuple[float, float, float]:
    return point.mean_score, point.mean_low, point.mean_high


def solved_of(point: CurvePoint) -> tuple[float, float, float]:
    return point.success, point.success_low, point.success_high


def svg(figure: Figure, prefix: str) -> str:
    """The figure as an SVG element for a page; `prefix` keeps its identifiers apart from other figures'."""
    buffer = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None}, bbox_inches="tight")
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'id="agent:([a-z0-9-]+)"', r'class="agent-\1"', text)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", text)
    text = re.sub(r'<svg([^>]*?) width="[^"]*"', r"<svg\1", text, count=1)
    text = re.sub(r'<svg([^>]*?) height="[^"]*"', r"<svg\1", text, count=1)
    for colour, name in ((INK, "ink"), (SOFT, "soft"), (GRID, "grid")):
        text = text.replace(colour, f"var(--{name})")
    return text.strip()


def png(figure: Figure, dots_per_inch: int = 160) -> bytes:
    """The figure as a PNG on white."""
    buffer = io.BytesIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(
            buffer, format="png", dpi=dots_per_inch, facecolor="white", bbox_inches="tight", metadata={"Software": None}
        )
    return buffer.getvalue()


def adaptation_figure(split: SplitSummary, episodes: int) -> Figure:
    """Mean score and share solved over adaptation episodes, with 95 % intervals; up to the common budget.

    Thin and dashed: the interquartile mean score.
    """
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.6, 3.9))
        left, right = figure.subplots(1, 2)
        shown = within(split, episodes)
        draw_curves(left, shown, lambda p: p.episode, mean_score_of, episodes, beside=lambda p: p.score)
        draw_curves(right, shown, lambda p: p.episode, solved_of, episodes)
        left.set_title(f"mean {score_title(split)}")
        right.set_title("share of tasks solved")
        right.set_ylim(-0.03, 1.03)
        right.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:.0f} %"))
        for axes in (left, right):
            axes.set_xlabel("adaptation episodes on the task")
            axes.set_xlim(0, max(episodes, 1))
            axes.xaxis.get_major_locator().set_params(integer=True)
        figure.subplots_adjust(wspace=0.62)
    return figure


def steps_figure(split: SplitSummary, horizon: int) -> Figure:
    """Mean score over environment steps on the task, on a logarithmic axis, as far as each agent went."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.6, 4.0))
        axes = figure.subplots()
        draw_steps(axes, split.agents, horizon, split.budget_steps)
        axes.set_xlabel("environment steps on the task (logarithmic)")
        axes.set_title(f"mean {score_title(split)}")
    return figure


def draw_steps(
    axes: Axes,
    agents: Sequence[AgentSummary],
    horizon: int,
    budget_steps: int,
    y_of: Figures = mean_score_of,
    *,
    named: bool = True,
    in_words: Callable[[float], str] | None = None,
) -> None:
    """A figure over steps on a logarithmic axis, where "no step yet" is at half an episode. named: as `draw_curves`."""
    zero, in_words = horizon / 2, in_words or thousands
    far = max([point.env_steps for agent in agents for point in agent.curve] + [2.0 * horizon])
    axes.set_xscale("log")
    draw_curves(axes, agents, lambda p: max(p.env_steps, zero), y_of, far, named=named)
    if 0 < budget_steps < far:
        axes.axvline(budget_steps, color=SOFT, linewidth=0.9, linestyle=(0, (4, 3)))
        axes.annotate(
            "common budget", (budget_steps, 0.0), (4, 2), xycoords=("data", "axes fraction"),
            textcoords="offset points", va="bottom", fontsize=9, color=SOFT,
        )  # fmt: skip
    _mark_steps(axes, horizon, far, in_words)


def _mark_steps(axes: Axes, horizon: int, far: float, in_words: Callable[[float], str]) -> None:
    """A logarithmic axis of steps from "no step yet", at half an episode, to `far`."""
    zero = horizon / 2
    axes.set_xscale("log")
    axes.set_xlim(zero, far)
    decades = [10.0**n for n in range(1, 8) if zero * 1.6 < 10.0**n <= far * 1.001]
    marks = [m for d in decades for m in (d, 2 * d, 5 * d) if m <= far] if len(decades) < 3 else decades
    first = [m for m in (horizon,) if not any(0.6 < m / other < 1.7 for other in marks)]
    axes.set_xticks([zero, *first, *marks], labels=["0", *(in_words(m) for m in [*first, *marks])])
    axes.xaxis.set_minor_formatter(NullFormatter())


def duel_figure(results: Results, split: SplitSummary, episodes: int) -> Figure | None:
    """Each task a dot: the agent's return against that of PPO from scratch after the same number of steps."""
    duels = [
        (agent.agent, found)
        for agent in split.agents
        if agent.adapts
        and not agent.long
        and (found := duel(results, split.family, split.split, agent.agent, episodes)) is not None
    ]
    if not duels:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(min(3.5 * len(duels), 10.6) + 0.2, 3.7))
        grid = figure.subplots(1, len(duels), squeeze=False)[0]
        values = np.concatenate([np.concatenate([found.ours, found.theirs]) for _, found in duels])
        values = values[np.isfinite(values)]
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
        margin = 0.06 * max(high - low, 1e-3)
        for axes, (name, found) in zip(grid, duels, strict=True):
            axes.plot([low - margin, high + margin], [low - margin, high + margin], color=SOFT, linewidth=0.9)
            better = int((found.ours > found.theirs).sum())
            axes.plot(
                found.theirs, found.ours, "o", markersize=6, color=agent_colour(name), alpha=0.75,
                markeredgewidth=0, clip_on=False, gid=_group(name),
            )  # fmt: skip
            axes.set_xlim(low - margin, high + margin)
            axes.set_ylim(low - margin, high + margin)
            axes.set_aspect("equal")
            axes.set_title(f"{agent_label(name)}: better on {better} of {len(found.tasks)}", fontsize=10)
            axes.set_xlabel(f"PPO from scratch, {thousands(found.ppo_steps)} steps")
            axes.set_ylabel(f"{agent_label(name)}, {thousands(found.env_steps)} steps")
        figure.subplots_adjust(wspace=0.45)
    return figure


def steps_to_figure(split: SplitSummary, horizon: int, percent: str = "80") -> Figure | None:
    """Marks on a logarithmic axis: median steps until `percent` of the oracle; open where half or more never got there.

    Long arms stand in for the same agents with the common budget; agents that do not adapt take no steps.
    """
    replaced = {drawn_as(agent.agent) for agent in split.agents if agent.long}
    agents = [a for a in split.agents if percent in a.steps_to and a.adapts and a.agent not in replaced]
    if not agents:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.6, 0.46 * len(agents) + 0.9))
        axes = figure.subplots()
        furthest = max([agent.curve[-1].env_steps for agent in agents] + [2.0 * horizon])
        for row, agent in enumerate(reversed(agents)):
            steps, spent = agent.steps_to[percent], agent.curve[-1].env_steps
            colour, group = agent_colour(agent.agent), _group(agent.agent)
            reached = steps.median is not None
            x = max(steps.median if steps.median is not None else spent, horizon / 2)
            axes.plot([horizon / 2, x], [row, row], color=colour, linewidth=1.6, alpha=0.55, gid=group)
            axes.plot(
                [x], [row], "o" if reached else ">", color=colour, markersize=9, clip_on=False, gid=group,
                markerfacecolor=colour if reached else "white",
            )  # fmt: skip
            never = f"; {100 * steps.share_never:.0f} % of runs never" if 0 < steps.share_never < 1 else ""
            if steps.median is None:
                word = f"not within {thousands(spent)} steps"
            else:
                word = f"{thousands(steps.median)} steps" if steps.median > 0 else "before the first episode is over"
            axes.annotate(f"{word}{never}", (x, row), (9, 0), textcoords="offset points", va="center", gid=group)
        axes.set_yticks(range(len(agents)), labels=[agent_label(agent.agent) for agent in reversed(agents)])
        axes.set_ylim(-0.6, len(agents) - 0.4)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(False, axis="y")
        _mark_steps(axes, horizon, furthest, thousands)
        axes.set_xlabel(f"environment steps on the task until {percent} % of the oracle's score (median over runs)")
        figure.subplots_adjust(right=0.74)
    return figure


def within(split: SplitSummary, episodes: int) -> list[AgentSummary]:
    """The agents without those that had a budget of their own, each as far as so many episodes."""
    return [
        replace(agent, curve=tuple(point for point in agent.curve if point.episode <= episodes))
        for agent in split.agents
        if not agent.long
    ]


def draw_curves(
    axes: Axes,
    agents: Sequence[AgentSummary],
    x_of: Callable[[CurvePoint], float],
    y_of: Figures,
    right: float,
    *,
    named: bool = True,
    beside: Callable[[CurvePoint], float] | None = None,
) -> None:
    """Lines with bands to x = `right`, dotted from where an agent was given no more; `named` at the right end.

    beside: another figure, thin and dashed.
    """
    ends: list[tuple[str, float]] = []
    for agent in agents:
        x = np.array([x_of(point) for point in agent.curve], dtype=float)
        y, low, high = np.array([y_of(point) for point in agent.curve], dtype=float).reshape(-1, 3).T
        if not np.isfinite(y).any():
            continue
        colour, name = agent_colour(agent.agent), _group(agent.agent)
        if len(x) == 1 or x[-1] < right:
            style = "-" if len(x) == 1 else (0, (1, 2))
            width = 1.6 if len(x) == 1 else 1.3
            axes.plot([x[-1], right], [y[-1], y[-1]], color=colour, linewidth=width, linestyle=style, gid=name)
            axes.fill_between([x[-1], right], low[-1], high[-1], color=colour, alpha=0.09, linewidth=0, gid=name)
        if len(x) > 1:
            axes.plot(x, y, color=colour, linewidth=2.2, solid_capstyle="round", gid=name)
            axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0, gid=name)
        if beside is not None:
            others = [beside(point) for point in agent.curve]
            xs = [*x, right] if x[-1] < right else [*x]
            others += others[-1:] if x[-1] < right else []
            axes.plot(xs, others, color=colour, linewidth=1.0, linestyle=(0, (4, 3)), alpha=0.8, gid=name)
        ends.append((agent.agent, float(y[np.flatnonzero(np.isfinite(y))[-1]])))
    if named:
        _name_lines(axes, ends)


def _group(name: str) -> str:
    """The identifier of what pages show and hide together."""
    return f"agent:{drawn_as(name)}"


def _name_lines(axes: Axes, ends: Sequence[tuple[str, float]]) -> None:
    """Write each line's name beside its right end, moved apart where they would overlap."""
    if not ends:
        return
    low, high = axes.get_ylim()
    span = max(high - low, 1e-9)
    height = axes.get_window_extent().height / axes.figure.dpi * 72  # points
    gap = 13.5 / height
    order = sorted(ends, key=lambda end: (end[1], agent_order([e[0] for e in ends]).index(end[0])))
    places = [(value - low) / span for _, value in order]
    for _ in range(60):  # push neighbours apart until all have room
        for i in range(len(places) - 1):
            overlap = gap - (places[i + 1] - places[i])
            if overlap > 0:
                places[i] -= overlap / 2
                places[i + 1] += overlap / 2
    for (name, value), place in zip(order, places, strict=True):
        axes.annotate(
            agent_label(name), (1.0, value), (1.035, place), xycoords=("axes fraction", "data"),
            textcoords="axes fraction", va="center", color=agent_colour(name), fontsize=10, gid=_group(name),
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": agent_colour(name), "linewidth": 0.8, "shrinkA": 1, "shrinkB": 0},
        )  # fmt: skip


def score_title(split: SplitSummary) -> str:
    return "score (random = 0, oracle = 1)" if split.normalised else "return"


def compact(number: float) -> str:
    """Steps where there is little room: 800, `1k`, `2 500`, `13k`, `1.25M`."""
    whole = round(number)
    if whole >= 1_000_000:
        return f"{whole / 1e6:.3g}M"
    return f"{whole / 1e3:.0f}k" if whole >= 10_000 or (whole and whole % 1000 == 0) else thousands(whole)


def thousands(number: float) -> str:
    """12345 as `12 345`."""
    return f"{round(number):,}".replace(",", "\u202f")
