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
from evaluation.protocol import PROBE_EPISODE
from training.collect import collect


@dataclass(frozen=True)
class Clip:
    """One episode of one task. qpos [T + 1, nq]; reward [T].

    role: `adapt`, an episode that the agent learns from; `probe`, the policy as adapted so far, which costs nothing.
    episodes_spent, env_steps: spent on the task before this episode began.
    """

    role: Literal["adapt", "probe"]
    episodes_spent: int
    env_steps: int
    qpos: np.ndarray
    reward: np.ndarray
    success: bool

    @property
    def episode_return(self) -> float:
        return float(self.reward.sum())


class RecordingBatch(TaskBatch):
    """A `TaskBatch` that keeps positions [T + 1, N, nq] and rewards [T, N] of the present episode."""

    def __init__(self, family: TaskFamily[Any], tasks: Sequence[Task], episodes: int = 1, **options: Any) -> None:
        super().__init__(family, tasks, episodes, **options)
        self._positions: list[np.ndarray] = []
        self._rewards: list[np.ndarray] = []
        self._success = np.zeros(self.size, dtype=bool)

    def reset(self, seed: int, episode: int | np.ndarray = 0, ids: np.ndarray | None = None) -> np.ndarray:
        observation = super().reset(seed, episode, ids)
        self._positions, self._rewards = [self.sim.qpos.copy()], []
        return observation

    def step(self, action: np.ndarray) -> Step:
        step = super().step(action)
        self._positions.append(self.sim.qpos.copy())
        self._rewards.append(step.reward.copy())
        self._success = step.success
        return step

    def clip(self, n: int, role: Literal["adapt", "probe"], episodes_spent: int, env_steps: int) -> Clip:
        """The present episode of environment n."""
        return Clip(
            role=role,
            episodes_spent=episodes_spent,
            env_steps=env_steps,
            qpos=np.stack(self._positions)[:, n],
            reward=np.array([reward[n] for reward in self._rewards], dtype=np.float32),
            success=bool(self._success[n]),
        )


def record_adaptation(
    agent: Agent[Any],
    family: TaskFamily[Any],
    task: Task,
    episodes: int,
    seed: int,
    *,
    explore_probes: bool = False,
) -> list[Clip]:
    """An agent's whole adaptation to one task, in the order in which it happened.

    Plays whole rounds until `episodes` episodes are spent, at least one round. Each round gives its E adaptation clips;
    before the first and after each round comes one probe. Initial states depend on (seed, task, episode) alone, so
    agents that are recorded with one seed meet the same ones.
    """
    e = agent.episodes_per_round
    batch = RecordingBatch(family, [task], e, threads=1, privileged=agent.privileged)
    probe_batch = RecordingBatch(family, [task], e, threads=1, privileged=agent.privileged)
    generator = torch.Generator().manual_seed(seed)
    memory = agent.fresh(1, e, generator)

    def probe(spent: int) -> Clip:
        adaptation_state = generator.get_state()  # adaptation draws the same numbers, probed or not
        collect(agent, memory, probe_batch, seed=seed, episode=PROBE_EPISODE, explore=explore_probes)
        generator.set_state(adaptation_state)
        return probe_batch.clip(0, "probe", spent, batch.env_steps)

    clips = [probe(0)]
    for spent in range(0, max(episodes - e, 0) + 1, e):
        before = batch.env_steps
        trajectories, memory = collect(agent, memory, batch, seed=seed, episode=spent)
        memory = agent.adapt(memory, trajectories)
        steps = trajectories.valid.sum(0)[0].tolist()  # [E]: an episode may end before its horizon
        clips += [batch.clip(i, "adapt", spent + i, before + int(sum(steps[:i]))) for i in range(e)]
        clips.append(probe(spent + e))
    return clips


def record_start(family: TaskFamily[Any], tasks: Sequence[Task], seed: int) -> list[Clip]:
    """The initial state of each task alone: a clip of no steps."""
    batch = RecordingBatch(family, tasks, threads=1)
    batch.reset(seed)
    return [batch.clip(n, "probe", 0, 0) for n in range(len(tasks))]


def record_scripted(family: TaskFamily[Any], tasks: Sequence[Task], seed: int) -> list[Clip]:
    """One episode of the family's scripted controller on each task. Raises `UserError` for a family that has none."""
    batch = RecordingBatch(family, tasks, threads=1)
    batch.reset(seed)
    for _ in range(family.horizon):
        batch.step(family.scripted(batch.sim))
    return [batch.clip(n, "probe", 0, 0) for n in range(len(tasks))]
