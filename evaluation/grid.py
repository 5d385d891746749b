"""The cells of a benchmark, and the agent that each of them measures."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agents.catalogue import agent_class, make_agent
from envs.errors import UserError
from envs.families import make_family
from envs.task import Split, Task, TaskFamily
from evaluation.presets import ARMS, Arm, LongBudget, Preset, is_long
from evaluation.protocol import Budget, adapt_to_tasks
from evaluation.table import Episode, read_episodes
from training.provenance import present
from training.run import RunDirectory, load_agent, shipped_runs

CELLS = "cells"
"""The folder of tables of finished cells, within that of the results."""
LONG_CELL_TASKS = 2
"""Tasks of a cell of a long arm: what an interruption costs is minutes, not hours."""
HORIZON_ENDS = "the horizon ends what counts"
"""What an arm's origin says where PPO learns a task by the meta-learners' rule; while it bootstrapped, none said so."""
DEFAULT_RUNS = "runs"
"""Where `quickstudy train` puts its run directories."""


@dataclass(frozen=True)
class Cell:
    """One arm with one seed on tasks of one split.

    name: of the arm. agent: the one that acts. tasks: which of the split's.
    reference: a run or a shipped name; none for an agent that is not trained before.
    """

    name: str
    agent: str
    family: str
    seed: int
    split: Split
    reference: str | None
    tasks: range
    budget: Budget

    @property
    def about(self) -> str:
        part = f" tasks {self._part}" if is_long(self.name) else ""
        return f"{self.family}/{self.split} {self.name} seed {self.seed}{part}"

    def path(self, directory: Path) -> Path:
        part = f".{self._part}" if is_long(self.name) else ""
        return directory / CELLS / f"{self.family}.{self.split}.{self.name}.{self.seed}{part}.csv"

    @property
    def _part(self) -> str:
        return f"{self.tasks[0]}-{self.tasks[-1]}"

    def load(self) -> tuple[Any, TaskFamily[Any], str]:
        """The agent, its family, and where its weights came from and what it learns with on a task."""
        if self.reference is None:
            family, kind = make_family(self.family), agent_class(self.agent)
            agent = make_agent(self.agent, kind.config_type(), family, self.seed)
            return agent, family, f"not trained before{_learning(agent)}"
        loaded = load_agent(self.reference, as_name=self.agent)
        origin = f"{present(self.reference)}, {loaded.env_steps} steps, weights {_digest(loaded.agent)}"
        return loaded.agent, loaded.family, origin + _learning(loaded.agent)

    def rows(self, directory: Path) -> list[Episode]:
        """What was measured. Raises `UserError` where the table is missing or damaged."""
        path = self.path(directory)
        try:
            return read_episodes(path)
        except UserError as error:
            raise UserError(f"{error}; to have this cell measured again, delete {path}") from None

    def play(self, listed: Sequence[Task], **options: Any) -> list[Episode]:
        """Measure it. listed: the split's tasks, of which it takes its own; options: those of `adapt_to_tasks`."""
        agent, family, _ = self.load()
        return adapt_to_tasks(
            agent,
            family,
            [listed[task] for task in self.tasks],
            self.split,
            self.budget,
            name=self.name,
            seed=self.seed,
            first=self.tasks[0],
            **options,
        )


@dataclass(frozen=True)
class Grid:
    """Everything that a folder of results is made from. long: the budget of long arms; none where it has none."""

    name: str
    cells: tuple[Cell, ...]
    tasks: int
    seeds: tuple[int, ...]
    budget: Budget
    long: LongBudget | None = None


def grid_of(preset: Preset, runs: Path | None = None) -> Grid:
    """The cells of a preset; trained agents are the shipped ones and, before these, the run directories in `runs`.

    Cells of long arms come last: each takes as long as many others. Raises `UserError` for an arm whose training run is
    missing, with what would train it.
    """
    found = _trained(runs)
    budget = Budget(
        episodes=preset.episodes,
        probe_episodes=preset.probe_episodes,
        explore_probes=preset.explore_probes,
        task_seed=preset.task_seed,
    )
    usual = [name for name in preset.arms if name not in preset.long_arms]
    cells = [
        Cell(name, ARMS[name].agent, family, seed, split, reference, part, _budget_of(ARMS[name], budget, preset.long))
        for arms, splits, parts, seeds in (
            (usual, preset.splits, (range(preset.tasks),), preset.seeds),
            (preset.long_arms, preset.long.splits, parts_of(preset.long.tasks), preset.long.seeds),
        )
        for family in preset.families
        for split in splits
        for name in arms
        for seed, reference in enumerate(_references(ARMS[name], family, seeds, found))
        for part in parts
    ]
    long = preset.long if preset.long_arms else None
    return Grid(preset.name, tuple(cells), preset.tasks, tuple(range(preset.seeds)), budget, long)


def parts_of(tasks: int) -> tuple[range, ...]:
    """The first so many tasks, as the cells of a long arm share them."""
    return tuple(range(first, min(first + LONG_CELL_TASKS, tasks)) for first in range(0, tasks, LONG_CELL_TASKS))


def _budget_of(arm: Arm, budget: Budget, long: LongBudget) -> Budget:
    if not arm.learns:
        return dataclasses.replace(budget, episodes=0)
    return dataclasses.replace(budget, max_env_steps=long.env_steps) if arm.long else budget


def _trained(runs: Path | None) -> dict[tuple[str, str], list[str]]:
    """The folders in `runs` with each (agent, family), by training seed. Raises `UserError` where there is none."""
    if runs is None:
        return {}
    opened = [RunDirectory.open(config.parent) for config in sorted(Path(runs).glob("*/config.json"))]
    if not opened:
        raise UserError(f"no run directory in {runs}: give the folder that holds them, as {DEFAULT_RUNS}")
    found: dict[tuple[str, str], list[str]] = {}
    for run, config in sorted(((run, run.config()) for run in opened), key=lambda pair: pair[1].train.seed):
        found.setdefault((config.agent, config.family), []).append(str(run.path))
    return found


def _references(arm: Arm, family: str, seeds: int, trained: dict[tuple[str, str], list[str]]) -> list[str] | list[None]:
    """What each seed is loaded from: runs of one's own, else `AGENT/FAMILY` for seed 0, `AGENT/FAMILY-seed1` and on
    where they are shipped."""
    if arm.weights is None:
        return [None] * seeds
    if (arm.weights, family) in trained:
        return trained[arm.weights, family][:seeds]
    first, shipped = f"{arm.weights}/{family}", shipped_runs()
    if first not in shipped:
        raise UserError(
            f"no trained '{arm.weights}' for '{family}': train one with"
            f" `quickstudy train {arm.weights} {family}` and give --runs {DEFAULT_RUNS}, or name other --arms"
        )
    found = [first]
    while len(found) < seeds and f"{first}-seed{len(found)}" in shipped:
        found.append(f"{first}-seed{len(found)}")
    return found


def _learning(agent: Any) -> str:
    """The settings that an agent of PPO learns a task with, which its weights do not tell."""
    task = getattr(agent, "task", None)
    return "" if task is None else f", learns with {json.dumps(dataclasses.asdict(task))}; {HORIZON_ENDS}"


def _digest(agent: Any) -> str:
    """The first 12 digits of the SHA-256 of an agent's state."""
    digest = hashlib.sha256()
    for name, tensor in sorted(agent.state().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
