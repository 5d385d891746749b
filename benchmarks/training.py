"""What a meta-iteration's time is spent on: `python -m benchmarks.training shares`; `scaling` and `flatness` besides.

shares: for each agent and family, the parts of real meta-iterations (`training.loop.iterate`) by phase; the update's
time over that of sampling and over its arithmetic floor: its multiply-adds (`benchmarks.arithmetic`) at the rate of
bare matrix products of the same shapes, measured in between. Cells take turns within each repeat; figures are medians.
scaling, flatness: time and memory over numbers of tasks, and memory over iterations; see `benchmarks.scaling`.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import tyro
from rich.table import Table
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.arithmetic import Products, floor_seconds, multiply_adds, update_products
from benchmarks.record import machine, print_table, run, write_record
from benchmarks.scaling import Flatness, Scaling, measure_flatness, measure_scaling
from benchmarks.settings import agent_config, parse, words_for
from benchmarks.stopwatch import watched
from envs.errors import check_range
from envs.families import make_family
from training.config import make_run_config
from training.loop import TrainConfig, available_processors, iterate, torch_threads
from training.run import build_agent

PHASES = ("physics", "environment", "policy", "tasks", "advantages", "adaptation", "update", "other")
TARGETS = {
    ("maml", "grasp"): 0.25,
    ("maml", "terrain"): 0.25,
    ("maml", "cheetah-vel-2017"): 1.0,
    ("rl2", "grasp"): 1.0,
    ("rl2", "terrain"): 1.0,
}
"""The update's time over that of sampling, at most."""


@dataclass(frozen=True)
class Shares:
    """What the time of a meta-iteration is spent on."""

    agents: tuple[str, ...] = ("maml", "rl2", "ppo-robust")
    """Agents to measure."""
    families: tuple[str, ...] = ("grasp", "terrain", "terrain-planar", "cheetah-vel-2017")
    """Families to measure each of them on."""
    repeats: int = 5
    """Meta-iterations of each cell that count; one more comes before them."""
    threads: int = 0
    """Threads of physics and of updates; 0 for all processors."""
    seed: int = 0
    """Of weights, tasks, actions and initial states."""
    settings: tuple[str, ...] = ()
    """AGENT/FAMILY/NAME=VALUE: other settings than `benchmarks.settings` has."""
    out: Path = Path("results/training/shares.json")
    """Where the figures go."""

    def __post_init__(self) -> None:
        check_range(self, 1, math.inf, "repeats")


class Cell:
    """One agent on one family, trained for as long as it is measured."""

    def __init__(self, config: Shares, agent: str, family: str) -> None:
        self.threads = config.threads or available_processors()
        self.train = TrainConfig(seed=config.seed, threads=self.threads)
        self.family = make_family(family)
        settings = agent_config(agent, family, parse(words_for(agent, family, config.settings)))
        self.learner = build_agent(make_run_config(agent, family, settings, self.train), self.family)
        self.target = TARGETS.get((agent, family))
        self.iteration = 0
        self.seconds: list[dict[str, float]] = []
        self.last_products: Products = {}

    def turn(self) -> None:
        """One meta-iteration, and the bare matrix products of its update."""
        with watched(self.learner, self.family) as watch, gradient_steps() as counted, watch.phase("other"):
            done = self._iterate(self.train)
        self.last_products = update_products(self.learner, self.family, counted[0])
        with torch_threads(self.threads):
            floor = floor_seconds(self.last_products)
        seconds = {phase: watch.own[phase] for phase in PHASES} | {
            "iteration": watch.total["other"],
            "sampling": watch.total["collecting"],
            "whole_update": watch.total["update"],
            "whole_adaptation": watch.total["adaptation"],
            "floor": floor,
            "multiply_adds": multiply_adds(self.last_products),
            "env_steps": done.env_steps,
        }
        seconds["other"] += watch.own["collecting"]
        self.seconds.append(seconds)

    def executed(self) -> float:
        """Multiply-adds of all matrix products in one more update, over those of its floor. One thread: others than the
        calling one are not counted."""
        in_place = {torch.ops.aten.addmm_: in_place_operations, torch.ops.aten.baddbmm_: in_place_operations}
        counter = FlopCounterMode(display=False, custom_mapping=in_place)
        update = self.learner.update

        def counted_update(*arguments: Any) -> dict[str, float]:
            with counter:
                metrics: dict[str, float] = update(*arguments)
            return metrics

        with patch.object(self.learner, "update", counted_update), gradient_steps() as counted:
            self._iterate(dataclasses.replace(self.train, threads=1))
        return counter.get_total_flops() / 2 / multiply_adds(update_products(self.learner, self.family, counted[0]))

    def _iterate(self, train: TrainConfig) -> Any:
        done = iterate(self.learner, self.family, train, self.iteration)
        self.iteration += 1
        return done

    def figures(self) -> dict[str, Any]:
        """Medians over the turns; ratios are medians of each turn's own."""

        def median(over: str, under: str) -> float:
            return round(statistics.median(row[over] / row[under] for row in self.seconds), 4)

        rates = [row["multiply_adds"] / row["floor"] / 1e9 for row in self.seconds]
        return {
            "agent_config": dataclasses.asdict(self.learner.config),
            "version": self.family.version,
            "env_steps": int(statistics.median(row["env_steps"] for row in self.seconds)),
            "iteration_seconds": round(statistics.median(row["iteration"] for row in self.seconds), 4),
            "share": {phase: median(phase, "iteration") for phase in PHASES},
            "update_over_sampling": median("whole_update", "sampling"),
            "target": self.target,
            "adaptation_and_update_over_sampling": round(
                statistics.median(
                    (row["whole_update"] + row["whole_adaptation"]) / row["sampling"] for row in self.seconds
                ),
                4,
            ),
            "update_over_floor": median("whole_update", "floor"),
            "floor_multiply_adds": statistics.median(row["multiply_adds"] for row in self.seconds),
            "matrix_product_rate": round(statistics.median(rates), 2),
            "executed_over_floor": round(self.executed(), 3),
            "seconds": [{name: round(value, 5) for name, value in row.items()} for row in self.seconds],
        }


def in_place_operations(shape: torch.Size, left: torch.Size, right: torch.Size, **_: Any) -> int:
    """Of `addmm_` and `baddbmm_`, which torch's counter does not know: two for each multiply-add."""
    return 2 * left.numel() * right[-1]


@contextmanager
def gradient_steps() -> Iterator[list[int]]:
    """[n]: how many steps torch's optimisers take in the block."""
    counted = [0]

    def count(*_: Any) -> None:
        counted[0] += 1

    handle = register_optimizer_step_post_hook(count)
    try:
        yield counted
    finally:
        handle.remove()


def measure_shares(config: Shares) -> dict[str, dict[str, Any]]:
    """{agent: {family: figures}}; all cells in turn, `repeats` times."""
    cells = {(agent, family): Cell(config, agent, family) for agent in config.agents for family in config.families}
    for repeat in range(config.repeats + 1):
        for cell in cells.values():
            cell.turn()
            if repeat == 0:
                cell.seconds.clear()
    results: dict[str, dict[str, Any]] = {agent: {} for agent in config.agents}
    for (agent, family), cell in cells.items():
        results[agent][family] = cell.figures()
    return results


def shares_tables(results: dict[str, dict[str, Any]]) -> list[Table]:
    """The figures for a terminal: parts of the time, and the update beside what it is measured against."""
    parts = _table("Share of a meta-iteration", "agent", "family", "seconds", *PHASES)
    update = _table(
        "The update",
        "agent",
        "family",
        "over sampling",
        "at most",
        "with adaptation",
        "over floor",
        "G multiply-adds/s",
    )
    for agent, families in results.items():
        for family, row in families.items():
            shares = [f"{row['share'][phase]:.3f}" for phase in PHASES]
            parts.add_row(agent, family, f"{row['iteration_seconds']:.2f}", *shares)
            target = "" if row["target"] is None else f"{row['target']:.2f}"
            over = f"{row['update_over_sampling']:.2f}", target, f"{row['adaptation_and_update_over_sampling']:.2f}"
            update.add_row(agent, family, *over, f"{row['update_over_floor']:.2f}", f"{row['matrix_product_rate']:.1f}")
    return [parts, update]


def scaling_table(results: dict[str, Any]) -> Table:
    """Time of a task-step and memory, by number of tasks."""
    view = _table(
        "More tasks in one batch: time of an environment step, and memory",
        "agent",
        "tasks",
        "sampling µs",
        "of first",
        "of cheapest",
        "update µs",
        "of first",
        "of cheapest",
        "peak MB",
        "MB a task",
    )
    for agent, rows in results.items():
        for tasks, row in rows.items():
            cells = []
            for phase in ("sampling", "update"):
                of = f"{row['of_first'][phase]:.2f}", f"{row['of_cheapest'][phase]:.2f}"
                cells += [f"{row['microseconds_per_step'][phase]:.2f}", *of]
            each = row["megabytes_per_further_task"]
            more = "" if each is None else f"{each:.2f}"
            view.add_row(agent, str(tasks), *cells, f"{row['peak_megabytes']:.0f}", more)
    return view


def flatness_table(results: dict[str, dict[str, Any]]) -> Table:
    """Resident memory over iterations."""
    view = _table("Memory over iterations", "agent", "family", "first MB", "last MB", "slope, kB an iteration", "±")
    for agent, families in results.items():
        for family, row in families.items():
            slope, error = (f"{row[name]:.1f}" for name in ("slope_kilobytes", "slope_error_kilobytes"))
            view.add_row(agent, family, f"{row['megabytes'][0]:.0f}", f"{row['megabytes'][-1]:.0f}", slope, error)
    return view


def _table(title: str, *columns: str) -> Table:
    view = Table(title=title)
    for column in columns:
        view.add_column(column, justify="left" if column in ("agent", "family") else "right")
    return view


def main() -> None:
    """Measure, print tables, write the JSON."""
    config: Shares | Scaling | Flatness = tyro.cli(Shares | Scaling | Flatness, description=__doc__)
    where = machine()
    tables: list[Table]
    results: dict[str, Any]
    if isinstance(config, Shares):
        results = measure_shares(config)
        tables = shares_tables(results)
    elif isinstance(config, Scaling):
        results = measure_scaling(config)
        tables = [scaling_table(results)]
    else:
        results = measure_flatness(config)
        tables = [flatness_table(results)]
    write_record(config.out, "benchmarks.training", config, where, agents=results)
    for table in tables:
        print_table(table)


if __name__ == "__main__":
    run(main)
