"""Learning curves of several labels side by side: a figure, and tables at equal environment steps.

Bands and intervals are of the mean over seeds, 95 %, by Student's t: with three seeds a bootstrap would know only their
range, which holds the mean three times in four.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from rich.table import Table

from envs.errors import UserError
from evaluation.intervals import student_t
from evaluation.plots import INK, STYLE, png

COLOURS = ("#7A7A7A", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
PUBLISHED = {
    "cheetah-vel-2017": (-129.5, -78.6, -66.6, -60.8),
    "cheetah-dir-2017": (-50.7, 293.2, 313.5, 315.7),
}
"""Returns after 0, 1, 2, 3 updates, by arXiv 1703.03400's published runs."""


@dataclass(frozen=True)
class Plot:
    """Compare the recorded curves: figure, table, JSON."""

    labels: tuple[str, ...] = ()
    """Which, in this order; all that there are if none are named."""
    updates: int = 1
    """Draw returns after so many updates."""
    at: tuple[int, ...] = ()
    """Environment steps at which to compare; by default quarters of those that all curves have."""
    out: Path = Path("results/learning")
    """Where the curves are and the figure goes."""


@dataclass(frozen=True)
class Curve:
    """One seed's evaluations: env_steps and training_seconds [P], returns [P, U] after 0 .. U - 1 updates."""

    seed: int
    family: str
    env_steps: np.ndarray
    training_seconds: np.ndarray
    returns: np.ndarray

    def at(self, axis: str, where: np.ndarray) -> np.ndarray:
        """[len(where), U]: returns at those steps or seconds, along straight lines between evaluations."""
        x = getattr(self, axis)
        return np.stack([np.interp(where, x, column) for column in self.returns.T], axis=1)


Curves = dict[str, list[Curve]]
"""By label, seeds ascending."""


def read_curves(config: Plot) -> Curves:
    """The labels' CSV files. Raises `UserError` where there are none, or where they do not go together."""
    found: Curves = {}
    for path in sorted(config.out.glob("*.csv")):
        named = re.fullmatch(r"(.+)-seed(\d+)", path.stem)
        if named:
            found.setdefault(named[1], []).append(read_curve(path, int(named[2])))
    missing = [label for label in config.labels if label not in found]
    if missing or not found:
        there = ", ".join(found) or "none"
        raise UserError(f"no curve of '{', '.join(missing) or 'any label'}' in {config.out}; there are {there}")
    chosen = {label: sorted(found[label], key=lambda curve: curve.seed) for label in config.labels or found}
    families = {curve.family for curves in chosen.values() for curve in curves}
    if len(families) > 1:
        raise UserError(f"curves of {' and '.join(sorted(families))} are not comparable: name the labels of one family")
    least = min(curve.returns.shape[1] for curves in chosen.values() for curve in curves) - 1
    if not 0 <= config.updates <= least:
        raise UserError(f"updates must be from 0 to {least}, which all curves have; got {config.updates}")
    return chosen


def read_curve(path: Path, seed: int) -> Curve:
    """The rows with an evaluation. Raises `UserError` where there are none."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["after_0"]]
    if not rows:
        raise UserError(f"{path} holds no evaluation: train for longer than evaluate-every")
    record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    after = [name for name in rows[0] if name.startswith("after_")]
    steps, seconds = (np.array([float(row[axis]) for row in rows]) for axis in ("env_steps", "training_seconds"))
    returns = np.array([[float(row[name]) for name in after] for row in rows])
    return Curve(seed, record["run"]["family"], steps, seconds, returns)


def mean_and_interval(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean over the first axis, the seeds, and half the width of its 95 % interval; one seed has none (NaN)."""
    seeds = len(values)
    mean = values.mean(0)
    if seeds < 2:
        return mean, np.full_like(mean, math.nan)
    return mean, student_t(seeds - 1) * values.std(0, ddof=1) / math.sqrt(seeds)


def common(curves: Sequence[Curve], axis: str) -> tuple[float, float]:
    """From where to where all of them were measured. Raises `UserError` where that is nowhere."""
    low = max(float(getattr(curve, axis)[0]) for curve in curves)
    high = min(float(getattr(curve, axis)[-1]) for curve in curves)
    if low > high:
        raise UserError(f"the curves have no {axis.replace('_', ' ')} in common: train them for as long as each other")
    return low, high


def compare(config: Plot, curves: Curves) -> dict[str, Any]:
    """Returns at equal environment steps by label, differences to the first label, and when the table is reached."""
    everything = [curve for of_label in curves.values() for curve in of_label]
    low, high = common(everything, "env_steps")
    asked = [at for at in config.at if not low <= at <= high]
    if asked:
        raise UserError(f"not all curves have {asked[0]} steps: ask for {low:.0f} to {high:.0f}")
    at = np.array(config.at or np.unique(np.clip(high * np.array([0.25, 0.5, 0.75, 1.0]), low, high)), dtype=float)
    family = everything[0].family
    by_label = {
        label: np.stack([curve.at("env_steps", at) for curve in of_label]) for label, of_label in curves.items()
    }
    first, *others = curves
    return {
        "family": family,
        "env_steps": at.tolist(),
        "returns": {label: _interval(values) for label, values in by_label.items()},
        "differences": {
            label: difference(curves[first], curves[label], by_label[first], by_label[label]) for label in others
        },
        "reached": {
            label: [reached(curve, PUBLISHED[family]) for curve in of_label] for label, of_label in curves.items()
        }
        if family in PUBLISHED
        else {},
    }


def difference(one: list[Curve], other: list[Curve], ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
    """`theirs` less `ours` [seeds, P, U], over the seeds that both have: the same seed starts from the same weights."""
    shared = sorted({curve.seed for curve in one} & {curve.seed for curve in other})
    if not shared:
        return {"seeds": []}
    pick = [[[curve.seed for curve in side].index(seed) for seed in shared] for side in (one, other)]
    return {"seeds": shared, **_interval(theirs[pick[1]] - ours[pick[0]])}


def _interval(values: np.ndarray) -> dict[str, Any]:
    mean, half = mean_and_interval(values)
    widths = None if np.isnan(half).any() else np.round(half, 3).tolist()
    return {"mean": np.round(mean, 3).tolist(), "half_width": widths, "seeds_counted": len(values)}


def reached(curve: Curve, published: Sequence[float]) -> dict[str, Any]:
    """First evaluation at or above the published return after each update, and after all of them at once."""
    updates = range(1, min(len(published), curve.returns.shape[1]))
    above: dict[str, np.ndarray] = {f"after_{n}": curve.returns[:, n] >= published[n] for n in updates}
    above["all"] = np.all(np.stack(list(above.values())), axis=0)
    found: dict[str, Any] = {"seed": curve.seed}
    for name, where in above.items():
        index = int(np.argmax(where))
        found[name] = (
            {"env_steps": int(curve.env_steps[index]), "training_seconds": float(curve.training_seconds[index])}
            if where.any()
            else None
        )
    return found


def draw(config: Plot, curves: Curves) -> bytes:
    """PNG: returns after `updates` updates against environment steps, and against seconds of training."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(10.5, 4.2), layout="constrained")
        axes = figure.subplots(1, 2, sharey=True)
        everything = [curve for of_label in curves.values() for curve in of_label]
        published = PUBLISHED.get(everything[0].family, ())
        for axis, name, unit, label in (
            (axes[0], "env_steps", 1e6, "environment steps, millions"),
            (axes[1], "training_seconds", 60.0, "training time, minutes"),
        ):
            for number, (title, of_label) in enumerate(curves.items()):
                _draw_label(axis, of_label, name, unit, config.updates, title, COLOURS[number % len(COLOURS)])
            if config.updates < len(published):
                axis.axhline(
                    published[config.updates], color=INK, linewidth=1.0, linestyle=(0, (4, 3)), label="published"
                )
            axis.set_xlabel(label)
            axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_xlim(left=0)
        updates = f"{config.updates} update{'' if config.updates == 1 else 's'}"
        axes[0].set_title(f"{everything[0].family}: held-out return after {updates}")
        axes[0].set_ylabel("return of an episode, mean over tasks")
        axes[0].legend(frameon=False, loc="lower right")
    return png(figure)


def _draw_label(axis: Axes, curves: list[Curve], name: str, unit: float, updates: int, title: str, colour: str) -> None:
    """Every seed thin, their mean thick where all were measured, and its band."""
    for curve in curves:
        axis.plot(getattr(curve, name) / unit, curve.returns[:, updates], color=colour, linewidth=0.7, alpha=0.45)
    where = np.linspace(*common(curves, name), 200)
    mean, half = mean_and_interval(np.stack([curve.at(name, where)[:, updates] for curve in curves]))
    axis.plot(where / unit, mean, color=colour, linewidth=2.0, label=title)
    axis.fill_between(where / unit, mean - half, mean + half, color=colour, alpha=0.15, linewidth=0)


def tables(config: Plot, figures: dict[str, Any]) -> list[Table]:
    """The comparison for a terminal."""
    steps = [f"{at / 1e6:.3g} M" for at in figures["env_steps"]]
    returns = _table("Return on held-out tasks at equal environment steps", "label", "updates", *steps)
    for label, row in figures["returns"].items():
        _rows(returns, label, row)
    views = [returns]
    if figures["differences"]:
        first = next(iter(figures["returns"]))
        gained = _table(f"More than {first}, over the same seeds", "label", "updates", *steps)
        for label, row in figures["differences"].items():
            if row["seeds"]:
                _rows(gained, label, row)
        views.append(gained)
    if figures["reached"]:
        columns = [name for name in next(iter(figures["reached"].values()))[0] if name != "seed"]
        published = PUBLISHED[figures["family"]]
        heads = ["all" if name == "all" else f"{published[int(name[6:])]} after {name[6:]}" for name in columns]
        view = _table("Minutes of training until the published returns", "label", "seed", *heads)
        for label, rows in figures["reached"].items():
            for row in rows:
                cells = ["not reached" if row[n] is None else f"{row[n]['training_seconds'] / 60:.1f}" for n in columns]
                view.add_row(label, str(row["seed"]), *cells)
        views.append(view)
    return views


def _rows(view: Table, label: str, row: dict[str, Any]) -> None:
    for number in range(len(row["mean"][0])):
        cells = []
        for point, means in enumerate(row["mean"]):
            half = "" if row["half_width"] is None else f" ± {row['half_width'][point][number]:.1f}"
            cells.append(f"{means[number]:.1f}{half}")
        view.add_row(label if number == 0 else "", str(number), *cells)


def _table(title: str, *columns: str) -> Table:
    view = Table(title=title)
    for column in columns:
        view.add_column(column, justify="left" if column == "label" else "right")
    return view
