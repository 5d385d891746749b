"""Episodes as films need them: every position, every reward, and what had been spent on the task before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from agents.agent import Agent
from envs.simulation import Step, TaskBatch
from envs.task import Task, TaskFamily
from evaluation.protocol import Budget, adapt_to_tasks
from evaluation.table import Episode


@dataclass(frozen=True)
class Clip:
    """One episode of one task. qpos [T + 1, nq]; reward [T].

    role: `adapt`, an episode that the agent learns from; `probe`, the policy as adapted so far, which costs nothing.
    episodes_spent, env_steps: spent on the task before this episode began. episode_return: as the evaluator adds it up;
    a sum of `reward` in another order may differ in the last bits.
    """

    role: Literal["adapt", "probe"]
    episodes_spent: int
    env_steps: int
    qpos: np.ndarray
    reward: np.ndarray
    episode_return: float
    success: bool


class RecordingBatch(TaskBatch):
    """A `TaskBatch` that keeps positions [T + 1, N, nq] and rewards [T, N] of the present episode.

    only: number of the one task whose environments are kept; none for all of them.
    """

    def __init__(
        self,
        family: TaskFamily[Any],
        tasks: Sequence[Task],
        episodes: int = 1,
        *,
        only: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(family, tasks, episodes, **options)
        self._kept = slice(0, self.size) if only is None else slice(only * episodes, (only + 1) * episodes)
        self._positions: list[np.ndarray] = []
        self._rewards: list[np.ndarray] = []

    def reset(self, seed: int, episode: int | np.ndarray = 0, ids: np.ndarray | None = None) -> np.ndarray:
        observation = super().reset(seed, episode, ids)
        self._positions, self._rewards = [self.sim.qpos[self._kept].copy()], []
        return observation

    def step(self, action: np.ndarray) -> Step:
        step = super().step(action)
        self._positions.append(self.sim.qpos[self._kept].copy())
        self._rewards.append(step.reward[self._kept].copy())
        return step

    def track(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Positions [T + 1, nq] and rewards [T] of environment n, one of those kept, in its present episode."""
        column = n - self._kept.start
        positions = np.stack([position[column] for position in self._positions])
        return positions, np.array([reward[column] for reward in self._rewards], dtype=np.float32)


class Recorder:
    """Keeps the episodes of one task while `adapt_to_tasks` plays it, alone or among others; of a probe the first.

    Give `make_batch` and `watch` to `adapt_to_tasks`; `clips` are then the episodes in the order in which they
    happened.
    """

    def __init__(self, task: int = 0) -> None:
        """task: its number among those that are played."""
        self.clips: list[Clip] = []
        self._task = task

    def make_batch(self, family: TaskFamily[Any], tasks: Sequence[Task], episodes: int, **options: Any) -> TaskBatch:
        self._batch = RecordingBatch(family, tasks, episodes, only=self._task, **options)
        return self._batch

    def watch(self, row: Episode, environment: int) -> None:
        if environment // self._batch.num_episodes != self._task:
            return
        if (row.role, row.episode) in {(clip.role, clip.episodes_spent) for clip in self.clips}:
            return  # the same probe from another initial state
        positions, reward = self._batch.track(environment)
        self.clips.append(
            Clip(row.role, row.episode, row.env_steps, positions, reward, row.episode_return, row.success)
        )


def record_adaptation(agent: Agent[Any], family: TaskFamily[Any], task: Task, episodes: int, seed: int) -> list[Clip]:
    """An agent's whole adaptation to one task, as `adapt_to_tasks` plays it, with one initial state a probe.

    seed: keys initial states and exploration. Initial states depend on (seed, task, episode) alone, so agents that are
    recorded with one seed meet the same ones. Raises `UserError` where `episodes` are fewer than a round of the agent.
    """
    recorder = Recorder()
    adapt_to_tasks(
        agent,
        family,
        [task],
        "test",
        Budget(episodes, probe_episodes=1, task_seed=seed),
        name=agent.name,
        seed=seed,
        threads=1,
        make_batch=recorder.make_batch,
        watch=recorder.watch,
        generator=torch.Generator().manual_seed(seed),
    )
    return recorder.clips


def record_start(family: TaskFamily[Any], tasks: Sequence[Task], seed: int) -> list[Clip]:
    """The initial state of each task alone: a clip of no steps."""
    batch = RecordingBatch(family, tasks, threads=1)
    batch.reset(seed)
    return [_outside_adaptation(batch, n, success=False) for n in range(len(tasks))]


def record_scripted(family: TaskFamily[Any], tasks: Sequence[Task], seed: int) -> list[Clip]:
    """One episode of the family's scripted controller on each task. Raises `UserError` for a family that has none."""
    batch = RecordingBatch(family, tasks, threads=1)
    batch.reset(seed)
    for _ in range(family.horizon):
        step = batch.step(family.scripted(batch.sim))
    return [_outside_adaptation(batch, n, bool(step.success[n])) for n in range(len(tasks))]


def _outside_adaptation(batch: RecordingBatch, n: int, success: bool) -> Clip:
    positions, reward = batch.track(n)
    return Clip("probe", 0, 0, positions, reward, float(reward.sum()), success)
