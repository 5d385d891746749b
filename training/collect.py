"""One round of experience: the loop between an agent and a `TaskBatch`, used by training and evaluation alike."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from agents.agent import Agent, Decision, Trajectories, Transition
from envs.errors import UserError
from envs.simulation import TaskBatch

M = TypeVar("M")


def collect(
    agent: Agent[M], memory: M, batch: TaskBatch, *, seed: int, episode: int, explore: bool = True
) -> tuple[Trajectories, M]:
    """Play episodes `episode` .. `episode + E - 1` of every task to their horizon.

    seed: keys the initial states with the task and the episode's number (see `TaskBatch.reset`).
    explore: sample actions; otherwise take the policy's mode.
    Raises `UserError` where a decision of the agent has another shape than `Decision` says.
    """
    k, e, horizon = batch.num_tasks, batch.num_episodes, batch.family.horizon
    obs = _tensor(batch.reset(seed, episode), k, e)
    rows: dict[str, list[Tensor]] = {
        name: [] for name in ("obs", "action", "reward", "log_prob", "value", "terminated", "truncated")
    }
    terms = {name: np.zeros(batch.size, dtype=np.float32) for name in batch.family.reward_terms}
    with torch.no_grad():
        for _ in range(horizon):
            decision, memory = agent.act(memory, obs, explore)
            _check(agent, decision, k, e, batch.family.action_size)
            step = batch.step(decision.action.flatten(0, 1).numpy())
            reward, terminated, truncated = (
                _tensor(array, k, e) for array in (step.reward, step.terminated, step.truncated)
            )
            memory = agent.observe(memory, Transition(decision.action, reward, terminated | truncated))
            row = (obs, decision.action, reward, decision.log_prob, decision.value, terminated, truncated)
            for values, value in zip(rows.values(), row, strict=True):
                values.append(value)
            for name, term in step.terms.items():
                terms[name] += term
            obs = _tensor(step.observation, k, e)
    trajectories = Trajectories(
        **{name: torch.stack(values) for name, values in rows.items()},
        final_obs=obs,
        success=_tensor(step.success, k, e),
        terms={name: _tensor(value, k, e) for name, value in terms.items()},
        features=torch.from_numpy(batch.features),
    )
    return trajectories, memory


def _check(agent: Agent[M], decision: Decision, k: int, e: int, actions: int) -> None:
    """The right count in a wrong layout, [E, K, A] say, would be actions for other environments."""
    for name, wanted in (("action", (k, e, actions)), ("log_prob", (k, e)), ("value", (k, e))):
        found = tuple(getattr(decision, name).shape)
        if found != wanted:
            raise UserError(f"agent {agent.name}: {name} must have shape {wanted}, got {found}")


def _tensor(array: np.ndarray, k: int, e: int) -> Tensor:
    return torch.from_numpy(array).reshape(k, e, *array.shape[1:])
