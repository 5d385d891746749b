"""Where in the space of tasks an agent is good: a map over two parameters, and figures for each kind of task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from envs.task import Parameter
from evaluation.plots import INK, SOFT, STYLE, score_title
from evaluation.results import Results, parameters_of
from evaluation.style import agent_label, parameter_label
from evaluation.summary import SplitSummary

MARKERS = "osD^vP*X<>hpd8"
MAPPED_AGENTS = 3  # maps side by side


@dataclass(frozen=True)
class TaskScores:
    """What one agent reached on each task of a family, all splits together: means over seeds, within the budget.

    values: of the tasks. score, success [T].
    """

    values: list[dict[str, Any]]
    score: np.ndarray
    success: np.ndarray


def task_scores(results: Results, splits: list[SplitSummary], agent: str, episodes: int) -> TaskScores | None:
    """The agent's last probe within `episodes` on the tasks of these splits; none where it was not measured."""
    values: list[dict[str, Any]] = []
    score: list[float] = []
    success: list[float] = []
    for split in splits:
        curves = results.curves(split.family, split.split, agent)
        listed = results.task_values(split.family, split.split)
        if curves is None:
            continue
        last = curves.probe_by(episodes)
        scores = results.score(split, curves.returns[last]).mean(axis=0)
        solved = curves.success[last].mean(axis=0)
        for column, task in enumerate(curves.tasks):
            if task < len(listed):
                values.append(listed[task])
                score.append(float(scores[column]))
                success.append(float(solved[column]))
    return TaskScores(values, np.array(score), np.array(success)) if values else None


@dataclass(frozen=True)
class TaskMap:
    """The figure and what it shows: the two parameters, and the agents."""

    figure: Figure
    axes: tuple[str, str]
    agents: tuple[str, ...]


def task_map(results: Results, splits: list[SplitSummary], episodes: int) -> TaskMap | None:
    """Score over two parameters of the tasks, a map for each adapting agent, the training range as a rectangle.

    The two are those number parameters with which the score of the agents changes most (rank correlation). None where
    fewer than two numbers vary, or nothing was measured.
    """
    family = splits[0].family
    usual = [a for a in splits[0].agents if not a.long]
    names = [a.agent for a in usual if a.adapts] or [a.agent for a in usual]
    scores = {name: found for name in names if (found := task_scores(results, splits, name, episodes)) is not None}
    scores = dict(list(scores.items())[:MAPPED_AGENTS])
    parameters = parameters_of(family)
    if not scores or not parameters:
        return None
    pair = _telling_pair(parameters, list(scores.values()))
    if pair is None:
        return None
    x, y = pair
    choice = next((p for p in parameters if p.train and isinstance(p.train[0], str)), None)
    kinds = _occurring(choice, next(iter(scores.values())).values) if choice else []
    values = np.concatenate([found.score[np.isfinite(found.score)] for found in scores.values()])
    low, high = (0.0, 1.0) if splits[0].normalised else (float(values.min()), float(values.max()))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.6, 3.9))
        grid = figure.subplots(1, len(scores), squeeze=False, sharex=True, sharey=True)[0]
        drawn = None
        for axes, (name, found) in zip(grid, scores.items(), strict=True):
            _training_range(axes, x, y)
            for number, kind in enumerate(kinds or [""]):
                chosen = [i for i, v in enumerate(found.values) if choice is None or v.get(choice.name) == kind]
                if not chosen:
                    continue
                drawn = axes.scatter(
                    [_plain(found.values[i], x) for i in chosen], [_plain(found.values[i], y) for i in chosen],
                    c=found.score[chosen], cmap="viridis", vmin=low, vmax=high, s=46, linewidths=0.6,
                    edgecolors=SOFT, marker=MARKERS[number % len(MARKERS)], label=kind, zorder=3,
                )  # fmt: skip
            axes.set_title(agent_label(name))
            axes.set_xlabel(_axis_label(x))
        grid[0].set_ylabel(_axis_label(y))
        if kinds:
            handles, labels = grid[-1].get_legend_handles_labels()
            legend = figure.legend(
                handles, labels, loc="upper center", bbox_to_anchor=(0.45, -0.01), ncols=min(len(labels), 7),
                frameon=False, fontsize=9, labelcolor=INK, handletextpad=0.3, columnspacing=1.4,
            )  # fmt: skip
            for handle in legend.legend_handles:
                if handle is not None:
                    handle.set(facecolor=SOFT, array=None)
        if drawn is not None:
            bar = figure.colorbar(drawn, ax=list(grid), pad=0.02, fraction=0.03)
            bar.set_label(score_title(splits[0]), fontsize=9)
            bar.outline.set_visible(False)
            assert bar.solids is not None  # there is something to colour
            bar.solids.set_rasterized(False)
            bar.solids.set_edgecolor("face")
    return TaskMap(figure, (_axis_label(x), _axis_label(y)), tuple(scores))


@dataclass(frozen=True)
class KindTable:
    """Success by the values of one choice: {agent: (mean success, number of tasks), or none, for each value}."""

    label: str
    values: list[str]
    success: dict[str, list[tuple[float, int] | None]]


def success_by_kind(results: Results, splits: list[SplitSummary], episodes: int) -> list[KindTable]:
    """How often each agent succeeds on each kind of task, all splits together: a table for each choice."""
    agents = dict.fromkeys(agent.agent for split in splits for agent in split.agents if not agent.long)
    scores = {agent: task_scores(results, splits, agent, episodes) for agent in agents}
    tables = []
    for choice in parameters_of(splits[0].family):
        occurring = _occurring(choice, [v for found in scores.values() if found for v in found.values])
        if len(occurring) < 2:
            continue
        rows = {agent: [_mean_success(found, choice, v) for v in occurring] for agent, found in scores.items() if found}
        tables.append(KindTable(parameter_label(choice.name, choice.unit), occurring, rows))
    return tables


def _mean_success(found: TaskScores, choice: Parameter, value: str) -> tuple[float, int] | None:
    solved = [found.success[i] for i, values in enumerate(found.values) if values.get(choice.name) == value]
    return (float(np.mean(solved)), len(solved)) if solved else None


def _occurring(choice: Parameter, tasks: list[dict[str, Any]]) -> list[str]:
    """The values of a choice that occur in tasks, in the order in which the family declares them; none for a number."""
    found = {value for values in tasks if isinstance(value := values.get(choice.name), str)}
    return [
        str(name) for name in dict.fromkeys((*choice.train, *choice.ood)) if isinstance(name, str) and name in found
    ]


def _telling_pair(parameters: tuple[Parameter, ...], scores: list[TaskScores]) -> tuple[Parameter, Parameter] | None:
    numbers = [p for p in parameters if p.train and not isinstance(p.train[0], str) and not p.name.endswith("seed")]
    strength: dict[str, float] = {}
    for parameter in numbers:
        values = np.array([_plain(v, parameter) for v in scores[0].values])
        applies = np.isfinite(values) & (values != 0)  # zero says that a parameter does not apply
        if applies.mean() < 0.6 or np.ptp(values[applies]) == 0:
            continue
        found = [abs(_rank_correlation(np.array([_plain(v, parameter) for v in s.values]), s.score)) for s in scores]
        strength[parameter.name] = float(np.mean(found))
    usable = [p for p in numbers if p.name in strength]
    if len(usable) < 2:
        return None
    first, second = sorted(usable, key=lambda p: -round(strength[p.name], 6))[:2]
    return first, second


def _rank_correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Spearman's, ties in the order given; 0 where one of the two does not vary."""
    whole = np.isfinite(x) & np.isfinite(y)
    x, y = x[whole], y[whole]
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    first, second = (np.argsort(np.argsort(v, kind="stable"), kind="stable").astype(float) for v in (x, y))
    return float(np.corrcoef(first, second)[0, 1])


def _plain(values: dict[str, Any], parameter: Parameter) -> float:
    """A task's value in the unit of the axis."""
    value = values.get(parameter.name)
    return float(value) * _factor(parameter) if isinstance(value, (int, float)) else float("nan")


def _factor(parameter: Parameter) -> float:
    """From the parameter's unit to the axis': degrees, centimetres and grams for small things."""
    if parameter.unit == "rad":
        return 180.0 / np.pi
    largest = max(abs(float(end)) for end in parameter.train)
    if parameter.unit == "m" and largest < 1:
        return 100.0
    return 1000.0 if parameter.unit == "kg" and largest < 1 else 1.0


def _axis_label(parameter: Parameter) -> str:
    factor = _factor(parameter)
    unit = {"rad": "degrees", "m": "cm" if factor != 1 else "m", "kg": "g" if factor != 1 else "kg"}
    shown = unit.get(parameter.unit, parameter.unit)
    name = parameter_label(parameter.name, parameter.unit)
    return f"{name} ({shown})" if shown else name


def _training_range(axes: Any, x: Parameter, y: Parameter) -> None:
    (left, right), (low, high) = (
        tuple(float(end) * _factor(parameter) for end in parameter.train) for parameter in (x, y)
    )
    axes.add_patch(
        Rectangle(
            (left, low), right - left, high - low, facecolor=SOFT, alpha=0.10, linewidth=0, zorder=1,
        )
    )  # fmt: skip
    axes.add_patch(
        Rectangle(
            (left, low), right - left, high - low, fill=False, edgecolor=SOFT, linewidth=1.1, linestyle=(0, (4, 3)),
            zorder=2,
        )
    )  # fmt: skip
    axes.annotate(
        "trained within", (left, low), (1, -4), textcoords="offset points", va="top", fontsize=8.5, color=SOFT
    )
