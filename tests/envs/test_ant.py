"""The ants against gymnasium's, and against arithmetic done by hand."""

from __future__ import annotations

from importlib import resources
from typing import Any

import mujoco
import numpy as np
import pytest

from envs.ant import AntDirFamily, AntDirTask, AntVelFamily
from envs.locomotion import GoalVelocityTask
from envs.simulation import TaskBatch

DIR, VEL = AntDirFamily(), AntVelFamily()
every = pytest.mark.parametrize("family", [DIR, VEL], ids=lambda family: family.name)
ACTION = np.array([[1.0, -1.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0]])


def random_actions(steps: int, size: int, scale: float = 1.0) -> np.ndarray:
    return scale * np.random.default_rng(1).uniform(-1.0, 1.0, (steps, size, 8))


def started(family: Any, task: Any, seed: int = 0) -> TaskBatch:
    batch = TaskBatch(family, [task], threads=1)
    batch.reset(seed)
    return batch


def published_model(file: str) -> mujoco.MjModel:
    """gymnasium's file, compiled as gymnasium compiles it."""
    folder = resources.files("gymnasium") / "envs" / "mujoco" / "assets"
    return mujoco.MjModel.from_xml_path(str(folder / file))


@every
def test_physics_is_gymnasiums_to_the_bit(family: Any) -> None:
    """The same actions from the same state, stepped as gymnasium's own environment does."""
    published = published_model("ant.xml")
    data = mujoco.MjData(published)
    batch = TaskBatch(family, family.sample("train", 2, np.random.default_rng(0)), threads=1)
    batch.reset(seed=0)
    data.qpos[:], data.qvel[:] = batch.sim.qpos[1], batch.sim.qvel[1]
    for action in random_actions(30, batch.size, scale=0.3):
        step = batch.step(action)
        data.ctrl[:] = action[1]
        mujoco.mj_step(published, data, nstep=family.frame_skip)
        assert not step.terminated[1]
        np.testing.assert_array_equal(batch.sim.qpos[1], data.qpos)
        np.testing.assert_array_equal(batch.sim.qvel[1], data.qvel)


@every
def test_observation_is_positions_without_x_and_y_and_velocities(family: Any) -> None:
    batch = TaskBatch(family, family.sample("train", 3, np.random.default_rng(0)), threads=1)
    batch.reset(seed=0)
    step = batch.step(random_actions(1, 3)[0])
    velocities = batch.sim.qvel * np.array([1.0] * 3 + [0.1] * 11)
    np.testing.assert_allclose(step.observation, np.column_stack([batch.sim.qpos[:, 2:], velocities]), rtol=1e-6)


def moved(family: Any, task: Any, x: float, y: float) -> dict[str, np.ndarray]:
    """The reward's terms of a step in which the torso goes x and y metres."""
    batch = started(family, task)
    family.control(batch.sim, ACTION)
    batch.sim.qpos[0, :2] += [x, y]
    return family.reward(batch.sim, ACTION)


def test_direction_reward_by_hand() -> None:
    """0.1 m along x in 0.05 s is 2 m/s forward; a quarter turn off it is nothing, half a turn is minus that."""
    for angle, expected in ((0.0, 2.0), (np.pi / 2.0, 0.0), (np.pi, -2.0), (np.pi / 3.0, 1.0)):
        terms = moved(DIR, AntDirTask(angle, 1.0), 0.1, 0.0)
        assert terms["velocity"][0] == pytest.approx(expected, abs=1e-9)
        assert terms["control"][0] == pytest.approx(-0.5 * 2.25)
        assert terms["alive"][0] == 1.0
    assert moved(DIR, AntDirTask(np.pi / 2.0, 1.0), 0.0, 0.1)["velocity"][0] == pytest.approx(2.0)


def test_velocity_reward_by_hand() -> None:
    for goal, expected in ((0.5, -1.5), (2.0, 0.0), (3.0, -1.0)):
        terms = moved(VEL, GoalVelocityTask(goal), 0.1, 0.3)
        assert terms["velocity"][0] == pytest.approx(expected, abs=1e-9)
        assert terms["control"][0] == pytest.approx(-0.005 * 2.25)
        assert terms["alive"][0] == 1.05


@every
def test_the_episode_ends_where_the_torso_leaves_its_heights(family: Any) -> None:
    """The step that ends it is paid; what follows is frozen and not counted."""
    batch = TaskBatch(family, family.sample("train", 2, np.random.default_rng(0)), threads=1)
    batch.reset(seed=0)
    for height, ends in ((0.19, True), (0.21, False), (0.99, False), (1.01, True)):
        batch.sim.qpos[0, 2] = height
        np.testing.assert_array_equal(family.terminated(batch.sim), [ends, False])
    batch.sim.qpos[0, 2] = 1.1
    batch.sim.qvel[0] = 0.0
    step = batch.step(np.zeros((2, 8)))
    np.testing.assert_array_equal(step.terminated, [True, False])
    assert step.terms["alive"][0] == pytest.approx(family.alive_reward)
    after = batch.step(np.zeros((2, 8)))
    np.testing.assert_array_equal(after.terminated, [True, False])
    np.testing.assert_array_equal(after.reward == 0.0, [True, False])
    assert batch.env_steps == 3
    assert batch.faults == 0


def test_success_of_a_direction_is_distance_on_its_feet() -> None:
    batch = started(DIR, AntDirTask(np.pi / 2.0, 1.0))
    start = batch.sim.qpos[0, :2].copy()
    for x, y, expected in ((0.0, 5.1, True), (0.0, 4.9, False), (9.0, 0.0, False), (0.0, -6.0, False)):
        batch.sim.qpos[0, :2] = start + np.array([x, y])
        assert DIR.success(batch.sim)[0] == expected
    batch.sim.qpos[0, :2] = start + np.array([0.0, 6.0])
    batch.sim.qpos[0, 2] = 0.1
    assert not DIR.success(batch.sim)[0]


def test_success_of_a_velocity_is_the_second_half_on_its_feet() -> None:
    for late, height, expected in ((1.1, 0.6, True), (1.3, 0.6, False), (1.1, 0.1, False)):
        batch = started(VEL, GoalVelocityTask(1.0))
        for t in range(200):
            batch.sim.step[:] = t
            VEL.control(batch.sim, np.zeros((1, 8)))
            batch.sim.qpos[0, 0] += 0.05 * (3.0 if t < 100 else late)
        batch.sim.step[:] = 200
        batch.sim.qpos[0, 2] = height
        assert VEL.success(batch.sim)[0] == expected


def test_starts_are_spread_as_published() -> None:
    batch = TaskBatch(VEL, [GoalVelocityTask(1.0)], 2000, threads=1)
    batch.reset(seed=0)
    qpos, qvel = batch.sim.qpos, batch.sim.qvel
    np.testing.assert_allclose(np.linalg.norm(qpos[:, 3:7], axis=1), 1.0, atol=1e-12)
    rest = np.array([0.0, 0.0, 0.75, *[0.0] * 8])
    np.testing.assert_allclose(np.delete(qpos, [3, 4, 5, 6], axis=1).mean(axis=0), rest, atol=0.006)
    np.testing.assert_allclose(np.delete(qpos, 3, axis=1).std(axis=0), 0.1 / np.sqrt(3.0), rtol=0.07)
    np.testing.assert_allclose(qvel.std(axis=0), 0.1, rtol=0.07)
    assert 0.03 < (np.abs(qvel) > 0.2).mean() < 0.06


def test_splits() -> None:
    rng = np.random.default_rng(0)
    angles = np.array([task.goal_direction_rad for task in DIR.sample("train", 2000, rng)])
    np.testing.assert_allclose(np.histogram(angles, 4, (0.0, 2.0 * np.pi))[0], 500, atol=100)
    assert all(task.friction == 1.0 for task in DIR.sample("test", 100, rng))
    assert all(0.3 <= task.friction <= 0.6 for task in DIR.sample("ood", 100, rng))
    assert all(0.0 <= task.goal_velocity <= 3.0 for task in VEL.sample("train", 100, rng))
    assert all(3.0 <= task.goal_velocity <= 4.0 for task in VEL.sample("ood", 100, rng))


def test_goals_have_no_part_in_the_physics() -> None:
    assert DIR.model(AntDirTask(0.0, 1.0)) is DIR.model(AntDirTask(2.0, 1.0))
    assert DIR.model(AntDirTask(0.0, 0.5)) is not DIR.model(AntDirTask(0.0, 1.0))


@every
def test_the_visual_model_moves_to_the_bit_as_the_plain_one(family: Any) -> None:
    drawn = family.sample("train", 2, np.random.default_rng(0))
    ends = []
    for visual in (False, True):
        batch = TaskBatch(family, drawn, threads=1, visual=visual)
        batch.reset(seed=3)
        for action in random_actions(20, 2, scale=0.3):
            batch.step(action)
        ends.append(batch.sim.qpos.copy())
    np.testing.assert_array_equal(*ends)
