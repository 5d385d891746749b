"""The point moves as the paper says, to the last bit, and its episode ends at the goal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from agents.agent import Decision, Transition
from envs.errors import UserError
from envs.point import PointFamily, PointTask
from envs.simulation import TaskBatch
from training.collect import collect

FAMILY = PointFamily()


def test_it_moves_by_exactly_a_tenth_of_the_action() -> None:
    batch = TaskBatch(FAMILY, FAMILY.sample("train", 8, np.random.default_rng(0)))
    observation = batch.reset(seed=0)
    np.testing.assert_array_equal(observation, np.zeros((8, 2)))
    rng = np.random.default_rng(1)
    position = np.zeros((8, 2))
    going = np.ones(8, dtype=bool)
    for _ in range(30):
        action = rng.uniform(-1.3, 1.3, (8, 2))
        step = batch.step(action)
        position[going] += 0.1 * np.clip(action, -1.0, 1.0)[going]
        np.testing.assert_allclose(batch.sim.qpos, position, rtol=0, atol=1e-15)
        np.testing.assert_array_equal(step.observation[going], position[going].astype(np.float32))
        going = ~step.terminated
    assert going.sum() >= 6


def test_reward_is_the_distance_after_the_move() -> None:
    batch = TaskBatch(FAMILY, [PointTask(0.3, 0.5), PointTask(-0.1, 0.0)])
    batch.reset(seed=0)
    step = batch.step(np.array([[0.0, 1.0], [1.0, 0.0]]))
    np.testing.assert_allclose(step.reward, [-0.5, -0.2], atol=1e-7)


def test_arriving_ends_the_episode_with_success() -> None:
    """Near in both coordinates, not in one; the step of the arrival is rewarded and observed."""
    batch = TaskBatch(FAMILY, [PointTask(0.1, 0.005), PointTask(0.1, 0.011), PointTask(0.105, -0.0095)])
    batch.reset(seed=0)
    right = np.tile([1.0, 0.0], (3, 1))
    step = batch.step(right)
    assert step.terminated.tolist() == [True, False, True]
    assert step.success.tolist() == [True, False, True]
    np.testing.assert_allclose(step.observation[0], [0.1, 0.0], atol=1e-7)
    np.testing.assert_allclose(step.reward[0], -0.005, atol=1e-7)
    step = batch.step(right)
    assert step.terminated.tolist() == [True, False, True]
    assert step.success.tolist() == [True, False, True]
    assert not step.reward[0]
    assert batch.faults == 0
    assert batch.env_steps == 3 + 1


@pytest.mark.parametrize("split", ["train", "ood"])
def test_the_script_arrives_in_the_fewest_steps(split: str) -> None:
    tasks = FAMILY.sample(split, 50, np.random.default_rng(0))  # type: ignore[arg-type]
    batch = TaskBatch(FAMILY, tasks)
    batch.reset(seed=0)
    steps = np.zeros(50)
    for _ in range(12):
        step = batch.step(FAMILY.scripted(batch.sim))
        steps += ~step.terminated
    assert step.success.all()
    far = np.array([max(abs(task.goal_x_m), abs(task.goal_y_m)) for task in tasks])
    np.testing.assert_array_equal(steps + 1, np.maximum(np.ceil((far - 0.01) / 0.1 + 1e-9), 1))


def test_ood_goals_lie_outside_the_square() -> None:
    goals = np.array([[t.goal_x_m, t.goal_y_m] for t in FAMILY.sample("ood", 300, np.random.default_rng(0))])
    assert (np.abs(goals).max(axis=1) > 0.5).all()
    assert (np.abs(goals).max(axis=1) <= 1.0).all()
    assert (np.abs(goals).min(axis=1) < 0.5).any(), "one coordinate beyond is enough"
    with pytest.raises(UserError, match="goal_y_m"):
        FAMILY.task_from_json({"goal_x_m": 0.0, "goal_y_m": 5.0})


class Straight:
    """An agent that always goes the same way."""

    def act(self, memory: None, obs: Tensor, explore: bool) -> tuple[Decision, None]:
        action = torch.tensor([1.0, 0.0]).expand(*obs.shape[:-1], 2)
        return Decision(action, torch.zeros(obs.shape[:-1]), torch.zeros(obs.shape[:-1])), None

    def observe(self, memory: None, transition: Transition) -> None:
        return None


def test_trajectories_hold_the_arrival_and_nothing_after_it() -> None:
    """`collect` through an episode that ends early: valid steps are those counted, success is that of the arrival."""
    batch = TaskBatch(FAMILY, [PointTask(0.3, 0.0), PointTask(0.3, 0.4)], 2)
    agent: Any = Straight()
    data, _ = collect(agent, None, batch, seed=0, episode=0)
    assert data.valid.sum(0).tolist() == [[3, 3], [100, 100]]
    assert data.success.tolist() == [[True, True], [False, False]]
    assert int(data.valid.sum()) == batch.env_steps
    np.testing.assert_allclose(data.reward[:3, 0], [[-0.2] * 2, [-0.1] * 2, [0.0] * 2], atol=1e-6)
    assert not data.reward[3:, 0].any()
