"""An evaluation's directory as figures need it: the summary, and per-task values from the raw table."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from envs.errors import UserError
from envs.families import make_family
from envs.task import Parameter
from evaluation.summarise import PPO, Curves, curves_of
from evaluation.summary import SplitSummary, Summary, read_summary
from evaluation.table import EPISODES_FILE, TASKS_FILE, Episode, read_episodes, read_tasks

SplitKey = tuple[str, str]  # family, split


@dataclass(frozen=True)
class Results:
    """Everything that was measured. rows: by (family, split), then agent. tasks: {family: {split: [values]}}."""

    summary: Summary
    rows: dict[SplitKey, dict[str, list[Episode]]]
    tasks: dict[str, dict[str, list[dict[str, Any]]]]
    _curves: dict[tuple[str, str, str], Curves] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: Path) -> Results:
        """Raises `UserError` where a file is missing or is not what it should be."""
        rows: dict[SplitKey, dict[str, list[Episode]]] = {}
        for row in read_episodes(directory / EPISODES_FILE):
            rows.setdefault((row.family, row.split), {}).setdefault(row.agent, []).append(row)
        return cls(read_summary(directory), rows, read_tasks(directory / TASKS_FILE))

    def curves(self, family: str, split: str, agent: str) -> Curves | None:
        """All probes of an agent; none where it was not measured."""
        rows = self.rows.get((family, split), {}).get(agent)
        if not rows:
            return None
        key = (family, split, agent)
        if key not in self._curves:
            self._curves[key] = curves_of(rows)
        return self._curves[key]

    def score(self, split: SplitSummary, returns: np.ndarray) -> np.ndarray:
        """Returns on the scale random = 0, oracle = 1; unchanged where the split has no such scale."""
        if not split.normalised or split.random is None or split.oracle is None:
            return returns
        low, high = split.random.episode_return, split.oracle.episode_return
        return (returns - low) / (high - low)

    def task_values(self, family: str, split: str) -> list[dict[str, Any]]:
        return self.tasks.get(family, {}).get(split, [])


@dataclass(frozen=True)
class Duel:
    """An agent against PPO from scratch on each task, after the same number of steps: means over seeds, [T]."""

    tasks: tuple[int, ...]
    ours: np.ndarray
    theirs: np.ndarray
    env_steps: float
    ppo_steps: float


def duel(results: Results, family: str, split: str, agent: str, episodes: int) -> Duel | None:
    """Returns after the agent's last probe within `episodes`, and PPO's at its last probe within as many steps."""
    ours, theirs = results.curves(family, split, agent), results.curves(family, split, PPO)
    if ours is None or theirs is None or agent == PPO:
        return None
    tasks = [task for task in ours.tasks if task in theirs.tasks]
    if not tasks:
        return None
    ours, theirs = ours.of_tasks(tasks), theirs.of_tasks(tasks)
    last = int(np.flatnonzero(ours.episodes <= episodes)[-1])
    steps = float(ours.steps[last].mean())
    ppo_steps = theirs.steps.mean(axis=(1, 2))
    same = int(np.flatnonzero(ppo_steps <= steps + 0.5)[-1])
    return Duel(
        tuple(tasks), ours.returns[last].mean(axis=0), theirs.returns[same].mean(axis=0), steps, float(ppo_steps[same])
    )


def parameters_of(family: str) -> tuple[Parameter, ...]:
    """The family's parameters with their ranges; nothing for a family that this version no longer has."""
    try:
        return make_family(family).parameters
    except (UserError, ImportError):
        return ()
