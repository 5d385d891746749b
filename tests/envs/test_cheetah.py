"""The half-cheetahs against gymnasium's, against plain MuJoCo, and against arithmetic done by hand."""

from __future__ import annotations

from importlib import resources
from typing import Any

import mujoco
import numpy as np
import pytest

from envs.cheetah import (
    CheetahDir2017Family,
    CheetahDirFamily,
    CheetahDirTask,
    CheetahVel2017Family,
    CheetahVelFamily,
)
from envs.locomotion import GoalVelocityTask
from envs.simulation import TaskBatch

LATER, FORM_2017 = (CheetahVelFamily(), CheetahDirFamily()), (CheetahVel2017Family(), CheetahDir2017Family())
VELOCITY, DIRECTION = (CheetahVelFamily(), CheetahVel2017Family()), (CheetahDirFamily(), CheetahDir2017Family())
FAMILIES = LATER + FORM_2017
FORWARD, BACKWARD = CheetahDirTask("forward", 0.4), CheetahDirTask("backward", 0.4)

every = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


def tasks(family: Any, count: int = 3) -> list[Any]:
    return family.sample("train", count, np.random.default_rng(0))


def random_actions(steps: int, size: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1.0, 1.0, (steps, size, 6))


def published_model(file: str) -> mujoco.MjModel:
    """gymnasium's file, compiled as gymnasium compiles it."""
    folder = resources.files("gymnasium") / "envs" / "mujoco" / "assets"
    return mujoco.MjModel.from_xml_path(str(folder / file))


@every
@pytest.mark.filterwarnings("ignore:compiler attribute 'settotalmass':UserWarning")
def test_physics_is_gymnasiums_to_the_bit(family: Any) -> None:
    """The same actions from the same state, stepped as gymnasium's own environment does."""
    published = published_model("half_cheetah.xml")
    data = mujoco.MjData(published)
    batch = TaskBatch(family, tasks(family), threads=1)
    batch.reset(seed=0)
    data.qpos[:], data.qvel[:] = batch.sim.qpos[1], batch.sim.qvel[1]
    for action in random_actions(100, batch.size):
        batch.step(action)
        data.ctrl[:] = action[1]
        mujoco.mj_step(published, data, nstep=family.frame_skip)
        np.testing.assert_array_equal(batch.sim.qpos[1], data.qpos)
        np.testing.assert_array_equal(batch.sim.qvel[1], data.qvel)


def played(family: Any, steps: int = 37) -> tuple[TaskBatch, np.ndarray, np.ndarray, Any]:
    """A batch after some random steps; its actions and x of the torso before the last one, and that step."""
    batch = TaskBatch(family, tasks(family), 2, threads=1)
    batch.reset(seed=2)
    for action in random_actions(steps, batch.size):
        x_before = batch.sim.qpos[:, 0].copy()
        step = batch.step(action)
    return batch, action, x_before, step


def plain_mujoco(family: Any, batch: TaskBatch, n: int) -> mujoco.MjData:
    """The state of environment n, with all that MuJoCo derives from it."""
    model = family.model(batch.tasks[0])
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = batch.sim.qpos[n], batch.sim.qvel[n]
    mujoco.mj_forward(model, data)
    mujoco.mj_subtreeVel(model, data)
    return data


@pytest.mark.parametrize("family", FORM_2017, ids=lambda family: family.name)
def test_2017_measures_the_centre_of_mass_after_the_step(family: Any) -> None:
    batch, _, _, step = played(family)
    x, z = family.place(batch.sim)
    for n in range(batch.size):
        data = plain_mujoco(family, batch, n)
        torso = data.body("torso").id
        np.testing.assert_allclose([x[n], 0.0, z[n]], data.subtree_com[torso], atol=1e-14)
        assert family.speed(batch.sim)[n] == pytest.approx(data.subtree_linvel[torso, 0], abs=1e-13)
        np.testing.assert_allclose(step.observation[n, 17:], data.subtree_com[torso], atol=1e-6)


@pytest.mark.parametrize("family", LATER, ids=lambda family: family.name)
def test_later_form_measures_the_torso_over_the_step(family: Any) -> None:
    batch, _, x_before, step = played(family)
    for n in range(batch.size):
        data = plain_mujoco(family, batch, n)
        np.testing.assert_allclose(step.observation[n, 17:], data.body("torso").xpos, atol=1e-6)
    np.testing.assert_allclose(family.speed(batch.sim), (batch.sim.qpos[:, 0] - x_before) / 0.05, rtol=1e-12)


@every
def test_observation_is_positions_velocities_and_place(family: Any) -> None:
    batch, _, _, step = played(family)
    np.testing.assert_array_equal(step.observation[:, :8], batch.sim.qpos[:, 1:].astype(np.float32))
    velocities = batch.sim.qvel * np.array([1.0] * 2 + [0.1] * 7)
    np.testing.assert_allclose(step.observation[:, 8:17], velocities, rtol=1e-6)
    np.testing.assert_array_equal(step.observation[:, 18], 0.0)


@every
def test_the_first_observation_of_an_episode_describes_its_own_state(family: Any) -> None:
    """The place is kept between calls: a reset of some must not leave it behind."""
    batch, _, _, _ = played(family)
    fresh = TaskBatch(family, batch.tasks, 2, threads=1).reset(seed=7)
    np.testing.assert_array_equal(batch.reset(seed=7), fresh)
    batch.step(np.zeros((batch.size, 6)))
    some = batch.reset(seed=7, episode=np.array([1]), ids=np.array([3]))
    np.testing.assert_array_equal(some[3], fresh[3])


def test_2017_reward_by_hand() -> None:
    """A robot that flies rigidly at 1.5 m/s has a centre of mass that does."""
    for family, task, expected in (
        (CheetahVel2017Family(), GoalVelocityTask(0.4), -1.1),
        (CheetahVel2017Family(), GoalVelocityTask(2.0), -0.5),
        (CheetahDir2017Family(), FORWARD, 1.5),
        (CheetahDir2017Family(), BACKWARD, -1.5),
    ):
        batch = TaskBatch(family, [task], threads=1)
        batch.reset(seed=0)
        batch.sim.qvel[:] = 0.0
        batch.sim.qvel[0, 0] = 1.5
        terms = family.reward(batch.sim, np.array([[1.0, -1.0, 0.5, 0.0, 0.0, 0.0]]))
        assert terms["velocity"][0] == pytest.approx(expected, abs=1e-12)
        assert terms["control"][0] == pytest.approx(-0.05 * 2.25, abs=1e-12)


def test_later_reward_by_hand() -> None:
    for family, task, expected in (
        (CheetahVelFamily(), GoalVelocityTask(0.4), -1.1),
        (CheetahVelFamily(), GoalVelocityTask(2.0), -0.5),
        (CheetahDirFamily(), FORWARD, 1.5),
        (CheetahDirFamily(), BACKWARD, -1.5),
    ):
        batch = TaskBatch(family, [task], threads=1)
        batch.reset(seed=0)
        family.control(batch.sim, np.zeros((1, 6)))
        batch.sim.qpos[0, 0] += 1.5 * 0.05
        terms = family.reward(batch.sim, np.array([[1.0, -1.0, 0.5, 0.0, 0.0, 0.0]]))
        assert terms["velocity"][0] == pytest.approx(expected, abs=1e-12)
        assert terms["control"][0] == pytest.approx(-0.05 * 2.25, abs=1e-12)


@pytest.mark.parametrize("family", VELOCITY, ids=lambda family: family.name)
def test_success_is_the_average_speed_of_the_second_half(family: Any) -> None:
    """Carried along at one speed, then at another: only the second counts, and only within 0.2 m/s of the goal."""
    for late, expected in ((1.0, True), (1.15, True), (1.25, False), (0.75, False)):
        batch = TaskBatch(family, [GoalVelocityTask(1.0)], threads=1)
        batch.reset(seed=0)
        sim = batch.sim
        for t in range(family.horizon):
            sim.step[:] = t
            family.control(sim, np.zeros((1, 6)))
            sim.qpos[0, 0] += (3.0 if t < family.horizon // 2 else late) * family.control_seconds
            sim.step[:] = t + 1
            assert t >= family.horizon // 2 or not family.success(sim)[0]
        assert family.success(sim)[0] == expected


@pytest.mark.parametrize("family", DIRECTION, ids=lambda family: family.name)
def test_success_is_distance_in_the_direction(family: Any) -> None:
    batch = TaskBatch(family, [FORWARD, BACKWARD], threads=1)
    batch.reset(seed=0)
    start = batch.sim.qpos[:, 0].copy()
    for travelled, expected in ((1.01, [True, False]), (0.99, [False, False]), (-1.01, [False, True])):
        batch.sim.qpos[:, 0] = start + travelled * family.success_distance
        np.testing.assert_array_equal(family.success(batch.sim), expected)


@pytest.mark.parametrize(("family", "position", "even"), [(CheetahVel2017Family(), 0.01, False), (LATER[0], 0.1, True)])
def test_starts_are_spread_as_published(family: Any, position: float, even: bool) -> None:
    batch = TaskBatch(family, [GoalVelocityTask(1.0)], 2000, threads=1)
    batch.reset(seed=0)
    spread = position / np.sqrt(3.0) if even else position
    np.testing.assert_allclose(batch.sim.qpos.std(axis=0), spread, rtol=0.07)
    np.testing.assert_allclose(batch.sim.qvel.std(axis=0), 0.1, rtol=0.07)
    assert np.abs(batch.sim.qpos.mean(axis=0)).max() < 4.0 * spread / np.sqrt(2000)
    assert np.abs(batch.sim.qvel.mean(axis=0)).max() < 4.0 * 0.1 / np.sqrt(2000)
    beyond = (np.abs(batch.sim.qpos) > 2.0 * spread).mean()
    assert beyond == 0.0 if even else 0.03 < beyond < 0.06  # 0.0455 of a normal distribution
    correlation = np.corrcoef(np.column_stack([batch.sim.qpos, batch.sim.qvel]).T)
    assert np.abs(correlation - np.eye(18)).max() < 0.1


@pytest.mark.parametrize(("family", "fastest"), [(CheetahVel2017Family(), 2.0), (CheetahVelFamily(), 3.0)])
def test_goals_fill_the_published_range_and_ood_goes_just_beyond(family: Any, fastest: float) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        goals = np.array([task.goal_velocity for task in family.sample(split, 2000, rng)])
        assert goals.min() >= 0.0
        assert goals.max() <= fastest
        np.testing.assert_allclose(np.histogram(goals, 4, (0.0, fastest))[0], 500, atol=100)
    beyond = [task.goal_velocity for task in family.sample("ood", 500, rng)]
    assert fastest <= min(beyond) < max(beyond) <= fastest + 1.0


@pytest.mark.parametrize("family", DIRECTION, ids=lambda family: family.name)
def test_directions_are_two_tasks_and_ood_is_the_same_on_slippery_ground(family: Any) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        drawn = family.sample(split, 400, rng)
        assert set(drawn) == {FORWARD, BACKWARD}
        assert 150 < drawn.count(FORWARD) < 250
    assert all(0.15 <= task.friction <= 0.3 for task in family.sample("ood", 100, rng))


def test_goals_have_no_part_in_the_physics_and_friction_has() -> None:
    family = CheetahVel2017Family()
    assert family.model(GoalVelocityTask(0.5)) is family.model(GoalVelocityTask(1.5))
    slide = []
    for friction in (0.4, 0.1):
        batch = TaskBatch(CheetahDirFamily(), [CheetahDirTask("forward", friction)], threads=1)
        batch.reset(seed=0)
        batch.sim.qvel[:] = 0.0
        batch.sim.qvel[0, 0] = 2.0
        for _ in range(10):
            batch.step(np.zeros((1, 6)))
        slide.append(batch.sim.qpos[0, 0])
    assert slide[1] > slide[0] + 0.1


@every
def test_the_visual_model_moves_to_the_bit_as_the_plain_one(family: Any) -> None:
    ends = []
    for visual in (False, True):
        batch = TaskBatch(family, tasks(family), threads=1, visual=visual)
        batch.reset(seed=3)
        for action in random_actions(30, batch.size):
            batch.step(action)
        ends.append(batch.sim.qpos.copy())
    np.testing.assert_array_equal(*ends)
