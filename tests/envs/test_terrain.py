"""The trot, the courses and the terrain family: upright everywhere, passable, and rewarded along the way through."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from envs.course import BOX_SLOTS, CELL, FIELD_X, FIELD_Y, FINISH_X, LAYOUTS, Ground, build_course, route_length
from envs.gait import ABDUCTION_LINK, CALF_LINK, SIDE, THIGH_LINK, Trot, leg_angles
from envs.simulation import TaskBatch
from envs.surfaces import START_X, SURFACE_KINDS, surface_height
from envs.task import TaskError
from envs.terrain import STAND, TROT, TerrainFamily, TerrainTask, uprightness

FAMILY = TerrainFamily()


def every_kind() -> list[TerrainTask]:
    """One task of each surface and layout, in the middle of the training ranges."""
    return [
        TerrainTask(
            surface=surface,
            slope_rad=0.12 if "slope" in surface else 0.0,
            relief_m=0.04 if surface in ("stairs", "rough", "waves", "stones") else 0.0,
            surface_seed=7 if surface in ("rough", "stones") else 0,
            friction=0.9,
            layout=layout,
            obstacle_x_m=1.1,
            gap_y_m=0.6,
            gap_width_m=0.7,
            second_gap_y_m=-0.1 if layout == "chicane" else 0.0,
        )
        for surface, layout in product(SURFACE_KINDS, LAYOUTS)
    ]


def task(**changes: object) -> TerrainTask:
    return replace(every_kind()[0], **changes)  # type: ignore[arg-type]


# -- surfaces ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SURFACE_KINDS)
def test_surfaces_begin_level_and_repeat_with_their_seed(kind: str) -> None:
    x, y = np.linspace(-1, 5, 121)[:, None], np.linspace(-2, 2, 41)[None, :]
    height = surface_height(kind, x, y, 0.15, 0.05, 3)  # type: ignore[arg-type]
    assert height.shape == (121, 41)
    assert np.abs(height[x[:, 0] < START_X]).max() == 0.0
    assert np.array_equal(height, surface_height(kind, x, y, 0.15, 0.05, 3))  # type: ignore[arg-type]
    if kind in ("rough", "stones"):
        assert not np.array_equal(height, surface_height(kind, x, y, 0.15, 0.05, 4))  # type: ignore[arg-type]
    if kind != "flat":
        assert np.ptp(height) > 0.02


def test_surfaces_have_the_size_that_they_are_asked_for() -> None:
    x = np.linspace(-1, 6, 2001)
    assert surface_height("slope-up", START_X + 2.0, 0.0, 0.1) == pytest.approx(2.0 * np.tan(0.1))  # type: ignore[arg-type]
    assert surface_height("slope-down", START_X + 2.0, 0.0, 0.1) == pytest.approx(-2.0 * np.tan(0.1))  # type: ignore[arg-type]
    steps = np.diff(surface_height("stairs", x, np.array(0.0), 0.0, 0.04))
    assert np.unique(steps.round(6)).tolist() == [0.0, 0.04]
    assert np.ptp(surface_height("waves", x, np.array(0.0), 0.0, 0.04)) == pytest.approx(0.04, rel=0.02)


# -- gait --------------------------------------------------------------------------------------------------------------


def forward_kinematics(angles: np.ndarray) -> np.ndarray:
    """[4, 3] feet from their abduction joints for angles [4, 3]."""
    abduction, thigh, knee = angles.T
    x = -THIGH_LINK * np.sin(thigh) - CALF_LINK * np.sin(thigh + knee)
    down = THIGH_LINK * np.cos(thigh) + CALF_LINK * np.cos(thigh + knee)
    y = SIDE * ABDUCTION_LINK * np.cos(abduction) + down * np.sin(abduction)
    z = SIDE * ABDUCTION_LINK * np.sin(abduction) - down * np.cos(abduction)
    return np.stack([x, y, z], axis=1)


def test_inverse_kinematics_reach_the_foot() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        feet = np.stack(
            [
                rng.uniform(-0.1, 0.1, 4),
                SIDE * ABDUCTION_LINK + rng.uniform(-0.08, 0.08, 4),
                rng.uniform(-0.3, -0.2, 4),
            ],
            axis=1,
        )
        np.testing.assert_allclose(forward_kinematics(leg_angles(feet)), feet, atol=1e-9)


def test_stance_feet_move_backwards_at_the_commanded_speed() -> None:
    trot, seconds = Trot(), 1e-3
    command, still = np.array([[0.5, 0.2, 0.0, 0.06, 2.0]]), np.zeros((1, 2))
    before = trot.feet(command, np.array([0.7]), still, command[:, :2])
    after = trot.feet(command, np.array([0.7 + 2.0 * seconds]), still, command[:, :2])
    stance = [0, 3]  # at this phase front left and rear right stand
    np.testing.assert_allclose((after - before)[0, stance, :2] / seconds, [[-0.5, -0.2]] * 2, atol=1e-9)
    assert (before[0, [1, 2], 2] > -trot.height + 0.01).all()


def test_actions_and_commands_are_inverse() -> None:
    action = np.random.default_rng(0).uniform(-1, 1, (20, 5))
    np.testing.assert_allclose(TROT.action(TROT.command(action)), action, atol=1e-12)
    np.testing.assert_allclose(TROT.command(STAND)[:4], 0.0, atol=1e-12)


# -- courses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_opening_is_open_and_the_rest_is_closed(layout: str) -> None:
    course = build_course(Ground("flat", 0.0, 0.0, 0), layout, 1.1, 0.5, 0.7, -0.2)  # type: ignore[arg-type]
    assert len(course.boxes) == BOX_SLOTS

    def passable(y: float, low: float, high: float) -> bool:
        """Can a robot's middle go straight along x at this y?"""
        for x in np.arange(low, high, 0.02):
            i = round((y - FIELD_Y[0]) / CELL)
            sunk = course.heights[i, round((x - FIELD_X[0]) / CELL)] < -0.2
            boxes = [
                box
                for box in course.boxes
                if abs(x - box.center[0]) <= box.half_size[0] and abs(y - box.center[1]) <= box.half_size[1]
            ]
            if any(box.kind == "wall" for box in boxes) or (sunk and not any(box.kind == "deck" for box in boxes)):
                return False
        return True

    end = 1.6 if layout == "chicane" else 2.4
    assert passable(0.5, 0.0, end)
    open_at = [y for y in np.arange(-1.8, 1.85, 0.1) if passable(float(y), 0.0, end)]
    assert max(abs(y - 0.5) for y in open_at) <= 0.36
    if layout == "chicane":
        assert passable(-0.2, end, 2.4)
        assert not passable(0.5, end, 2.4)


def test_route_falls_on_the_way_through_and_grows_astray() -> None:
    opening = np.array([[[1.0, 1.6, 0.6, 0.8]] * 2])

    def route(x: float, y: float) -> float:
        return float(route_length(np.array([x]), np.array([y]), opening)[0])

    assert route(0.0, 0.7) == pytest.approx(FINISH_X)
    assert route(0.0, 0.0) == pytest.approx(np.hypot(1.0, 0.6) + FINISH_X - 1.0)
    assert route(0.0, 0.3) < route(0.0, 0.0) - 0.1  # sideways to the opening pays from the start
    assert route(1.4, -0.5) > route(1.0, -0.5)  # ahead in a dead end does not
    assert route(FINISH_X + 1.0, 0.0) == 0.0
    along = [route(x, 0.7) for x in np.linspace(0, 3, 61)]
    assert max(np.diff(along)) <= 1e-12


# -- family ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forward", [0.0, 0.2])
def test_standing_and_slow_steps_stay_upright_everywhere(forward: float) -> None:
    batch = TaskBatch(FAMILY, every_kind(), threads=1)
    batch.reset(0)
    slow = TROT.action(np.array([forward, 0.0, 0.0, 0.3 * forward, TROT.neutral[4]]))
    for _ in range(40 if forward else 20):
        batch.step(np.tile(slow, (batch.size, 1)))
    assert uprightness(batch.sim).min() > 0.9
    assert batch.faults == 0
    assert (np.abs(batch.sim.qpos[:, :2] - batch.sim.memory("start", 2)) < 0.15).all() == (forward == 0.0)


@pytest.mark.parametrize(("split", "least"), [("train", 0.9), ("test", 0.9), ("ood", 0.4)])
def test_the_scripted_controller_gets_through(split: str, least: float) -> None:
    tasks = FAMILY.sample(split, 30, np.random.default_rng(3))  # type: ignore[arg-type]
    batch = TaskBatch(FAMILY, tasks, threads=1)
    batch.reset(0)
    total = np.zeros(batch.size)
    for _ in range(FAMILY.horizon):
        step = batch.step(FAMILY.scripted(batch.sim))
        total += step.reward
        assert np.isfinite(step.observation).all()
        assert np.abs(step.observation).max() < 20.0
        for name, (low, high) in {
            "progress": (-1.0, 1.0),
            "finish": (0.0, 1.0),
            "upright": (0.0, 0.1),
            "effort": (-0.05, 0.0),
            "smoothness": (-0.05, 0.0),
        }.items():
            assert (step.terms[name] >= low - 1e-6).all()
            assert (step.terms[name] <= high + 1e-6).all()
    assert batch.faults == 0
    assert step.success.mean() >= least
    assert total[step.success].min() > 40.0


def test_reward_leads_to_the_opening() -> None:
    """The same walk to the left earns more where the opening is on the left."""
    batch = TaskBatch(FAMILY, [task(gap_y_m=1.0), task(gap_y_m=-1.0)], threads=1)
    batch.reset(0)
    left = np.tile(TROT.action(np.array([0.3, 0.4, 0.0, 0.08, 2.5])), (2, 1))
    earned = np.sum([batch.step(left).terms["progress"] for _ in range(12)], axis=0)
    assert earned[0] > earned[1] + 2.0


@pytest.mark.parametrize(
    "changed",
    [{"surface": "stairs", "relief_m": 0.04}, {"friction": 0.1}, {"gap_y_m": -0.9}, {"layout": "bridge"}],
    ids=lambda changed: next(iter(changed)),
)
def test_parameters_change_the_physics(changed: dict[str, object]) -> None:
    class SameStart(TaskBatch):
        def _noise(self, seed: int, n: int, episode: int) -> np.ndarray:
            return np.full(FAMILY.reset_noise_size, 0.5)

    plain = task(gap_y_m=0.0)
    batch = SameStart(FAMILY, [plain, replace(plain, **changed)], threads=1)  # type: ignore[arg-type]
    batch.reset(0)
    for _ in range(45):
        batch.step(np.tile([0.4, 0.0, 0.0, 0.0, 0.0], (2, 1)))
    assert np.abs(batch.sim.qpos[0] - batch.sim.qpos[1]).max() > 0.02


def test_a_fallen_robot_earns_nothing_more() -> None:
    batch = TaskBatch(FAMILY, [task()], threads=1)
    batch.reset(0)
    batch.sim.qpos[:, 3:7] = [0.0, 1.0, 0.0, 0.0]
    batch.sim.qpos[:, 0] = FINISH_X + 0.5
    step = batch.step(np.zeros((1, 5)))
    assert step.terms["progress"] == step.terms["finish"] == step.terms["upright"] == 0.0
    assert not step.success[0]
    assert not step.terminated[0]


@pytest.mark.parametrize(
    ("name", "value"), [("friction", 0.0), ("gap_y_m", 3.0), ("layout", "maze"), ("relief_m", -0.1)]
)
def test_impossible_tasks_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(TaskError, match=name):
        FAMILY.task_from_json(task().to_json() | {name: value})
