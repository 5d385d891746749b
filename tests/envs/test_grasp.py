"""The hand can do every task it is told, and nothing but holding the object counts as success."""

import dataclasses
from collections.abc import Callable

import mujoco
import numpy as np
import pytest

from envs.grasp import GraspFamily
from envs.grasp_objects import KINDS, OOD_KINDS, PART_SHAPES, TRAIN_KINDS, GraspTask, pieces
from envs.simulation import Step, TaskBatch
from envs.task import SPLITS, TaskError

FAMILY = GraspFamily()


def play(batch: TaskBatch, policy: Callable[[int], np.ndarray], seed: int = 0) -> list[Step]:
    batch.reset(seed)
    return [batch.step(policy(t)) for t in range(FAMILY.horizon)]


def sample(split: str, count: int) -> list[GraspTask]:
    return FAMILY.sample(split, count, np.random.default_rng(11))


@pytest.fixture(scope="module")
def pan() -> GraspTask:
    return next(task for task in sample("train", 50) if task.kind == "pan")


@pytest.mark.parametrize("split", SPLITS)
def test_the_scripted_hand_lifts_what_it_is_told(split: str) -> None:
    batch = TaskBatch(FAMILY, sample(split, 60), threads=1)
    steps = play(batch, lambda t: FAMILY.scripted(batch.sim))
    assert steps[-1].success.mean() >= 0.95
    assert batch.faults == 0
    first = np.argmax([step.success for step in steps], axis=0)
    assert np.median(first) <= 30, "a known object should leave time to spare"


def test_reward_terms_are_bounded_and_rise_with_the_lift() -> None:
    batch = TaskBatch(FAMILY, sample("train", 20), threads=1)
    bounds = {"progress": 0.1, "approach": 0.1, "reach": 0.1, "pinch": 0.2, "lift": 0.4, "hold": 0.1}
    assert sum(bounds.values()) == pytest.approx(1.0)
    rng = np.random.default_rng(0)
    for policy in (lambda t: FAMILY.scripted(batch.sim), lambda t: rng.uniform(-1, 1, (batch.size, 5))):
        for step in play(batch, policy):
            assert tuple(step.terms) == FAMILY.reward_terms
            for name, bound in bounds.items():
                assert (step.terms[name] >= (-bound if name == "progress" else 0)).all()
                assert (step.terms[name] <= bound + 1e-6).all()
    lifted = play(batch, lambda t: FAMILY.scripted(batch.sim))
    assert np.mean([step.reward.mean() for step in lifted[-5:]]) > 0.8
    assert lifted[0].reward.mean() < 0.25


def test_only_an_object_in_the_hand_counts(pan: GraspTask) -> None:
    batch = TaskBatch(FAMILY, [pan], threads=1)
    steps = play(batch, lambda t: FAMILY.scripted(batch.sim))
    assert not steps[5].success.any()
    assert steps[-1].success.all()
    let_go = np.array([[0.0, 0.0, 0.0, 0.0, 1.0]])
    outcomes = [batch.step(let_go).success[0] for _ in range(8)]
    assert not any(outcomes[3:]), "falling and lying objects are not held"

    batch.reset(0)
    batch.sim.qpos[:, 8] += 0.1  # in the air, in no hand
    assert not batch.step(np.zeros((1, 5))).success.any()


def test_closing_over_the_tracked_centre_lifts_nothing() -> None:
    """The body is too wide for the jaws: the part has to be found."""
    batch = TaskBatch(FAMILY, sample("train", 40), threads=1)

    def straight_down(t: int) -> np.ndarray:
        down, close, up = t < 15, 15 <= t < 22, t >= 22
        action = np.zeros((batch.size, 5))
        centre = np.array([FAMILY.observe(batch.sim)[:, 15], FAMILY.observe(batch.sim)[:, 16]]).T * 0.05
        action[:, :2] = np.clip(centre / 0.012, -1, 1) if t < 8 else 0.0
        action[:, 2] = -1.0 if down else float(up)
        action[:, 4] = 1.0 if down else -1.0
        assert down or close or up
        return action

    assert play(batch, straight_down)[-1].success.mean() <= 0.15


@pytest.mark.parametrize(
    ("name", "value"),
    [("mass_kg", 0.6), ("friction", 0.05), ("part_width_m", 0.03), ("yaw_rad", 2.0), ("part_x_m", 0.05)],
)
def test_parameters_change_the_physics(pan: GraspTask, name: str, value: float) -> None:
    other = dataclasses.replace(pan, **{name: value})
    final = []
    for task in (pan, other):
        told = TaskBatch(FAMILY, [pan], threads=1)
        batch = TaskBatch(FAMILY, [task], threads=1)
        for each in (told, batch):
            each.reset(3)
        # The noise is keyed by the task, so both start from the same hand; only the object differs.
        batch.sim.qpos[:, :6], batch.sim.ctrl[:] = told.sim.qpos[:, :6], told.sim.ctrl
        for _ in range(FAMILY.horizon):
            action = FAMILY.scripted(told.sim)
            told.step(action)
            batch.step(action)
        final.append(batch.sim.qpos[0, 6:9].copy())
    assert np.abs(final[0] - final[1]).max() > 1e-4


def test_tasks_round_trip_and_impossible_ones_are_refused(pan: GraspTask) -> None:
    for split in SPLITS:
        for task in sample(split, 20):
            assert FAMILY.task_from_json(task.to_json()) == task
    for change in (
        {"kind": "sock"},
        {"mass_kg": 0.0},
        {"part_shape": "torus"},
        {"part_base_m": -0.1},
        {"part_width_m": -1},
    ):
        with pytest.raises(TaskError, match=next(iter(change))):
            FAMILY.task_from_json(pan.to_json() | change)


def test_draws_stay_in_the_declared_ranges() -> None:
    for ood in (False, True):
        rng = np.random.default_rng(5)
        for task in [FAMILY.draw(rng, ood) for _ in range(400)]:
            for parameter in FAMILY.parameters:
                value, allowed = getattr(task, parameter.name), parameter.ood if ood else parameter.train
                if isinstance(value, str):
                    assert value in allowed
                else:
                    intervals = allowed if ood else (allowed,)
                    assert any(low <= value <= high for low, high in intervals), (parameter.name, value)


def test_kinds_never_trained_on_are_only_in_ood() -> None:
    assert {task.kind for task in sample("train", 100)} == set(TRAIN_KINDS)
    assert {task.kind for task in sample("ood", 100)} >= set(OOD_KINDS)
    assert {task.part_shape for task in sample("train", 200)} == set(PART_SHAPES)
    assert set(TRAIN_KINDS) | set(OOD_KINDS) == set(KINDS)


def test_the_tracked_point_starts_on_the_table_and_the_object_rests() -> None:
    """Reset puts the object's own frame, not MuJoCo's aligned one, where it belongs; it then stays."""
    tasks = [task for split in SPLITS for task in sample(split, 30)]
    batch = TaskBatch(FAMILY, tasks, threads=1)
    batch.reset(1)
    assert np.abs(FAMILY.clearance(batch.sim) - 0.0005).max() < 2e-3
    before = batch.sim.qpos[:, 6:9].copy()
    for _ in range(10):
        batch.step(np.zeros((batch.size, 5)))
    assert np.abs(batch.sim.qpos[:, 6:9] - before).max() < 3e-3
    assert np.abs(batch.sim.qvel[:, 6:]).max() < 0.05


def test_constants_agree_with_the_compiled_model() -> None:
    for task in sample("train", 10) + sample("ood", 10):
        model = FAMILY.model(task)
        data = mujoco.MjData(model)
        mujoco.mj_forward(model, data)
        constants = FAMILY.constants(task, model)
        body = data.body("object")
        for slot, piece in enumerate(pieces(task)):
            if piece.shape != "mesh":  # whose geom sits at the centre of its mass instead
                offset = data.geom(f"object{slot}").xpos - data.site("tracked").xpos
                assert offset == pytest.approx(piece.centre, abs=1e-6)
        points = body.xpos + constants["points"] @ body.xmat.reshape(3, 3).T
        assert points[:, 2].min() == pytest.approx(data.site("tracked").xpos[2], abs=1e-6)


def test_looks_do_not_change_the_physics() -> None:
    tasks = sample("train", 3) + sample("ood", 3)
    final = []
    for visual in (False, True):
        batch = TaskBatch(FAMILY, tasks, threads=1, visual=visual)
        play(batch, lambda t, batch=batch: FAMILY.scripted(batch.sim))
        final.append(batch.sim.qpos.copy())
    assert (final[0] == final[1]).all()


def test_features_tell_tasks_apart() -> None:
    rows = np.stack([FAMILY.features(task) for task in sample("train", 50) + sample("ood", 50)])
    assert rows.shape[1] == FAMILY.feature_size
    assert np.abs(rows).max() < 4
    assert len(np.unique(rows, axis=0)) == len(rows)
