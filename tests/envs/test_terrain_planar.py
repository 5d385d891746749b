"""What is particular to the planar runner: its ground, its wall, its two directions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import mujoco
import numpy as np
import pytest

from envs.simulation import TaskBatch
from envs.task import TaskError
from envs.terrain_planar import (
    APRON,
    OOD_SURFACES,
    STAND_HEIGHT,
    SUCCESS_DISTANCE,
    TRAIN_SURFACES,
    PlanarTerrainFamily,
    PlanarTerrainTask,
    ground_height,
)

FAMILY = PlanarTerrainFamily()
FLAT = PlanarTerrainTask("flat", 0.0, 0.0, 0, 0.9, "forward", 1.5)
STAIRS = replace(FLAT, surface="stairs", relief_m=0.06)


def play(tasks: list[PlanarTerrainTask], controller: Any, episodes: int = 1, steps: int = 100) -> tuple[TaskBatch, Any]:
    batch = TaskBatch(FAMILY, tasks, episodes, threads=1)
    batch.reset(seed=0)
    for _ in range(steps):
        step = batch.step(controller(batch.sim))
    return batch, step


def travelled(batch: TaskBatch) -> np.ndarray:
    return batch.sim.constants["sign"] * batch.sim.qpos[:, 0]


def test_robot_stands_still_on_the_level_apron_of_every_surface() -> None:
    surfaces = sorted({*TRAIN_SURFACES, *OOD_SURFACES})
    tasks = [replace(FLAT, surface=surface, slope_rad=0.2, relief_m=0.1) for surface in surfaces]
    batch, step = play(tasks, lambda sim: np.zeros((sim.size, 6)), episodes=2, steps=60)
    assert np.abs(batch.sim.qpos[:, 0]).max() < 0.2
    assert np.abs(batch.sim.qpos[:, 1] - STAND_HEIGHT).max() < 0.06
    assert np.abs(batch.sim.qpos[:, 2]).max() < 0.1
    assert np.abs(batch.sim.qvel).max() < 0.5
    np.testing.assert_allclose(step.terms["upright"], 0.1, atol=0.002)


def test_told_the_way_an_open_loop_gait_gets_far_on_every_training_surface() -> None:
    tasks = FAMILY.sample("train", 48, np.random.default_rng(0))
    batch, step = play(tasks, FAMILY.scripted)
    distance = travelled(batch)
    for surface in TRAIN_SURFACES:
        assert np.mean([d for d, task in zip(distance, tasks, strict=True) if task.surface == surface]) > 5.0
    assert step.success.mean() > 0.6


def test_the_closed_way_is_closed() -> None:
    """Running the wrong way at full gait ends at the wall; the same way, when open, goes far past it."""
    tasks = [replace(FLAT, open_direction=way, wall_distance_m=1.4) for way in ("forward", "backward")]

    def wrong_way(sim: Any) -> np.ndarray:
        return FAMILY.scripted(sim)[::-1]

    blocked, step = play(tasks, wrong_way)
    assert (travelled(blocked) > -1.4).all()
    assert not step.success.any()
    free, step = play(tasks, FAMILY.scripted)
    assert (travelled(free) > SUCCESS_DISTANCE).all()


def test_reward_names_the_direction_and_nothing_else_does() -> None:
    """The same actions in two tasks that differ in direction alone: equal observations, opposite progress."""
    batch, step = play([FLAT, replace(FLAT, open_direction="backward")], lambda sim: np.zeros((2, 6)), steps=1)
    state = batch.sim.qpos[0].copy(), batch.sim.qvel[0].copy()
    state[1][0] = 1.0
    batch.sim.qpos[:], batch.sim.qvel[:] = state
    step = batch.step(np.zeros((2, 6)))
    np.testing.assert_array_equal(step.observation[0], step.observation[1])
    assert step.terms["progress"][0] > 0.2
    assert step.terms["progress"][0] == -step.terms["progress"][1]


def test_progress_is_the_speed_over_the_step() -> None:
    batch, _ = play([FLAT], FAMILY.scripted, steps=30)
    before = batch.sim.qpos[0, 0]
    step = batch.step(np.zeros((1, 6)))
    expected = (batch.sim.qpos[0, 0] - before) / 0.05 / 2.5
    assert step.terms["progress"][0] == pytest.approx(np.clip(expected, -1, 1), abs=1e-6)
    assert step.terms["control"][0] == 0.0


def test_upside_down_is_no_success() -> None:
    batch, _ = play([FLAT], FAMILY.scripted, steps=1)
    batch.sim.qpos[0, :3] = [SUCCESS_DISTANCE + 0.1, STAND_HEIGHT, 0.0]
    assert FAMILY.success(batch.sim).all()
    batch.sim.qpos[0, 2] = np.pi
    assert not FAMILY.success(batch.sim).any()


def test_ground_is_level_at_the_start_and_mirrored() -> None:
    x = np.arange(-240, 241) / 20.0
    rng = np.random.default_rng(1)
    for task in FAMILY.sample("train", 20, rng) + FAMILY.sample("ood", 20, rng):
        height = ground_height(task, x)
        assert (height[np.abs(x) < APRON - 1e-6] == 0.0).all()
        np.testing.assert_allclose(height, height[::-1], atol=1e-12)


def test_the_compiled_ground_is_the_profile() -> None:
    """A ray straight down meets the ground where the profile says (to the slope of one cell)."""
    model = FAMILY.model(STAIRS)
    data = mujoco.MjData(model)
    data.qpos[0] = -10.0  # the robot out of the way
    mujoco.mj_forward(model, data)
    geom = np.zeros(1, dtype=np.int32)
    for x in (0.0, 0.9, 2.2, 3.1, 5.4):
        distance = mujoco.mj_ray(
            model, data, np.array([x, 0.1, 5.0]), np.array([0.0, 0, -1.0]), None, 1, -1, geom, None
        )
        assert 5.0 - distance == pytest.approx(ground_height(STAIRS, np.array([x]))[0], abs=0.01)


def test_equal_layout_over_kinds_of_task_and_visual_physics_is_the_same() -> None:
    tasks = [FLAT, STAIRS, replace(FLAT, surface="stones", relief_m=0.1)]
    ends = []
    for visual in (False, True):
        batch = TaskBatch(FAMILY, tasks, threads=1, visual=visual)
        batch.reset(seed=3)
        for _ in range(20):
            batch.step(FAMILY.scripted(batch.sim))
        ends.append(batch.sim.qpos.copy())
    np.testing.assert_array_equal(*ends)


@pytest.mark.parametrize(
    ("name", "value"), [("friction", 0.0), ("wall_distance_m", 0.2), ("slope_rad", -0.1), ("ground_seed", -1)]
)
def test_impossible_values_are_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(TaskError, match=name):
        FAMILY.task_from_json({**FLAT.to_json(), name: value})
