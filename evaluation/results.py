"""An evaluation's directory as figures need it: the summary, and per-task values from the raw table."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from envs.errors import UserError
from envs.families import make_family
from envs.task import Parameter
from evaluation.curves import PPO, Curves, Scale, curves_of, points_of, spreads_of
from evaluation.presets import ARMS
from evaluation.summary import SplitSummary, Summary, read_summary
from evaluation.table import TASKS_FILE, Episode, TaskValues, find_episodes, read_episodes, read_tasks

SplitKey = tuple[str, str]  # family, split


@dataclass(frozen=True)
class Results:
    """Everything that was measured. rows: by (family, split), then agent. tasks: {family: {split: [values]}}."""

    summary: Summary
    rows: dict[SplitKey, dict[str, list[Episode]]]
    tasks: TaskValues
    _curves: dict[tuple[str, str, str], Curves] = field(default_factory=dict)

    @classmethod
    def read(cls, directory: Path) -> Results:
        """Raises `UserError` where a file is missing, altered or not what it should be."""
        rows: dict[SplitKey, dict[str, list[Episode]]] = {}
        for row in read_episodes(find_episodes(directory)):
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
        return Scale(split.random, split.oracle).score(returns)

    def task_values(self, family: str, split: str) -> list[dict[str, Any]]:
        return self.tasks.get(family, {}).get(split, [])

    def longest(self, split: SplitSummary) -> SplitSummary:
        """The split as far as anyone went: long arms in place of the same agents with the common budget.

        Curves are on the tasks of the long arms, whose number is in `tasks`; other figures and the scale stay as they
        are. The very split where there are no long arms.
        """
        long = {ARMS[agent.agent].agent: agent.agent for agent in split.agents if agent.long}
        if not long:
            return split
        scale, agents = Scale(split.random, split.oracle), []
        of_long = self.curves(split.family, split.split, next(iter(long.values())))
        for agent in split.agents:
            curves = self.curves(split.family, split.split, agent.agent)
            if curves is None or of_long is None or agent.agent in long:
                continue
            curves = curves.of_tasks([task for task in of_long.tasks if task in curves.tasks])
            points = points_of(curves, scale, spreads_of(curves, scale))
            agents.append(replace(agent, curve=points, tasks=len(curves.tasks)))
        return replace(split, agents=tuple(agents))


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
    last = ours.probe_by(episodes)
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
