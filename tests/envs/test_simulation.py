"""The batched simulator itself, on a probe whose physics is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import mujoco
import numpy as np
import pytest

from envs.simulation import Step, TaskBatch
from envs.task import Simulation
from tests.probes import SLIDER, ProbeFamily, ProbeTask

TASKS = [ProbeTask(-0.6), ProbeTask(0.2), ProbeTask(0.7)]


def batch_of(episodes: int = 2, **kwargs: Any) -> TaskBatch:
    return TaskBatch(ProbeFamily(), TASKS, episodes, threads=1, **kwargs)


def constant(batch: TaskBatch, value: float) -> np.ndarray:
    return np.full((batch.size, 1), value)


def test_environments_are_ordered_by_task() -> None:
    batch = batch_of()
    assert [task.goal_m for task in batch.sim.tasks] == [-0.6, -0.6, 0.2, 0.2, 0.7, 0.7]
    assert batch.sim.constants["goal"].tolist() == [-0.6, -0.6, 0.2, 0.2, 0.7, 0.7]


def test_rewards_are_those_of_each_environments_own_task() -> None:
    batch = batch_of()
    batch.reset(seed=0)
    step = batch.step(constant(batch, 0.0))
    goals = np.array([-0.6, -0.6, 0.2, 0.2, 0.7, 0.7])
    np.testing.assert_allclose(step.reward, 1.0 - np.abs(batch.sim.qpos[:, 0] - goals), atol=1e-6)
    np.testing.assert_array_equal(step.reward, step.terms["near"])


def test_success_is_that_of_the_present_state() -> None:
    batch = batch_of()
    batch.reset(seed=0)
    for _ in range(10):
        step = batch.step(batch.family.scripted(batch.sim))
    assert step.success.all()
    away = batch.step(constant(batch, 1.0))
    assert not away.success.all()


def test_the_horizon_truncates_and_nothing_resets_by_itself() -> None:
    batch = batch_of()
    batch.reset(seed=0)
    for t in range(12):
        step = batch.step(constant(batch, 0.3))
        assert (step.truncated == (t >= 9)).all()
        assert not step.terminated.any()
    assert batch.sim.qpos[:, 0].min() > 0.5
    assert batch.env_steps == 12 * 6


def test_actions_are_clipped_and_may_be_float32() -> None:
    ends = []
    for value in (1.0, 25.0, np.float32(1.0)):
        batch = batch_of()
        batch.reset(seed=0)
        batch.step(np.full((6, 1), value))
        ends.append(batch.sim.qpos.copy())
    np.testing.assert_array_equal(ends[0], ends[1])
    np.testing.assert_array_equal(ends[0], ends[2])


def test_the_callers_actions_are_left_alone() -> None:
    batch = batch_of()
    batch.reset(seed=0)
    action = constant(batch, 3.0)
    action[2] = np.nan
    before = action.copy()
    batch.step(action)
    np.testing.assert_array_equal(action, before)


def test_initial_states_depend_on_seed_task_and_number_alone() -> None:
    whole = batch_of(episodes=4).reset(seed=3)
    np.testing.assert_array_equal(
        batch_of(episodes=2).reset(seed=3, episode=2), whole.reshape(3, 4, -1)[:, 2:].reshape(6, -1)
    )
    one = TaskBatch(ProbeFamily(), TASKS[1:2], threads=1)
    np.testing.assert_array_equal(one.reset(seed=3, episode=3)[0], whole[7])
    np.testing.assert_array_equal(batch_of(1).reset(3, np.array([2, 0, 3])), whole[[2, 4, 11]])


def test_resetting_some_leaves_the_others_where_they_are() -> None:
    batch = batch_of()
    start = batch.reset(seed=0)
    for _ in range(4):
        moved = batch.step(constant(batch, 0.5)).observation
    observation = batch.reset(seed=0, ids=np.array([1, 4]))
    np.testing.assert_array_equal(observation[[1, 4]], start[[1, 4]])
    np.testing.assert_array_equal(observation[[0, 2, 3, 5]], moved[[0, 2, 3, 5]])
    for t in range(6):
        step = batch.step(constant(batch, 0.0))
        assert step.truncated.tolist() == [t == 5, False, t == 5, t == 5, False, t == 5]


def test_frozen_environments_cost_no_steps_until_they_are_reset() -> None:
    batch = batch_of()
    batch.reset(seed=0)
    action = constant(batch, 0.5)
    action[0] = np.nan
    for _ in range(5):
        step = batch.step(action)
    assert batch.env_steps == 5 * 5 + 1
    assert batch.faults == 1
    assert step.terminated.tolist() == [True] + [False] * 5
    batch.reset(seed=0, ids=np.array([0]))
    step = batch.step(constant(batch, 0.5))
    assert not step.terminated.any()
    assert batch.env_steps == 5 * 5 + 1 + 6


def test_privileged_observations_end_in_the_features() -> None:
    plain, told = batch_of(), batch_of(privileged=True)
    assert told.observation_size == plain.observation_size + 1
    observation = told.reset(seed=0)
    np.testing.assert_array_equal(observation[:, :3], plain.reset(seed=0))
    np.testing.assert_allclose(observation[:, 3], [-0.6, -0.6, 0.2, 0.2, 0.7, 0.7])
    np.testing.assert_array_equal(told.step(constant(told, 0.1)).observation[:, 3], observation[:, 3])


def test_other_tasks_in_place_are_as_good_as_a_new_batch() -> None:
    others = [ProbeTask(0.5), ProbeTask(-0.5), ProbeTask(0.0)]
    swapped = batch_of(privileged=True)
    swapped.reset(seed=0)
    swapped.step(constant(swapped, 0.5))
    swapped.set_tasks(others)
    fresh = TaskBatch(ProbeFamily(), others, 2, threads=1, privileged=True)
    np.testing.assert_array_equal(swapped.reset(seed=2), fresh.reset(seed=2))
    for _ in range(3):
        left, right = swapped.step(constant(swapped, 0.5)), fresh.step(constant(fresh, 0.5))
        np.testing.assert_array_equal(left.observation, right.observation)
        np.testing.assert_array_equal(left.reward, right.reward)
    assert swapped.env_steps == 6 * 4
    with pytest.raises(ValueError, match="holds 3 tasks, got 1"):
        swapped.set_tasks(others[:1])


class ArrivingFamily(ProbeFamily):
    """The probe, whose episode ends within 0.1 m of the goal."""

    def terminated(self, sim: Simulation) -> np.ndarray:
        return self.success(sim)


def arriving(actions: list[np.ndarray]) -> tuple[TaskBatch, list[Step]]:
    batch = TaskBatch(ArrivingFamily(), TASKS, 2, threads=1)
    batch.reset(seed=0)
    return batch, [batch.step(action) for action in actions]


def test_a_family_may_end_an_episode_and_its_last_step_counts() -> None:
    plain = batch_of()
    plain.reset(seed=0)
    left = [np.full((6, 1), -0.5)] * 10  # 1 m/s towards the goal at -0.6 m
    going_on = [plain.step(action) for action in left]
    batch, steps = arriving(left)
    end = next(t for t, step in enumerate(steps) if step.terminated[0])
    assert 3 <= end <= 7
    for field in ("observation", "reward"):
        np.testing.assert_array_equal(getattr(steps[end], field)[0], getattr(going_on[end], field)[0])
        assert not any(getattr(step, field)[0].any() for step in steps[end + 1 :])
        for step, calm in zip(steps, going_on, strict=True):
            np.testing.assert_array_equal(getattr(step, field)[2:], getattr(calm, field)[2:])
    assert [bool(step.terminated[0]) for step in steps] == [t >= end for t in range(10)]
    assert [bool(step.success[0]) for step in steps] == [t >= end for t in range(10)]
    assert not going_on[-1].success[0], "without its end, the episode would have passed the goal"
    assert steps[-1].truncated.tolist() == [False, False, True, True, True, True]
    assert batch.faults == 0
    assert batch.env_steps == 60 - sum(int(step.terminated.sum()) for step in steps[:-1])


def test_an_ended_environment_stands_where_it_ended_until_it_is_reset() -> None:
    batch, _ = arriving([np.full((6, 1), -0.5)] * 10)
    assert (np.abs(batch.sim.qpos[:2, 0] + 0.6) < 0.1).all()
    batch.reset(seed=0, ids=np.array([0]))
    step = batch.step(np.zeros((6, 1)))
    assert step.terminated.tolist() == [False, True, False, False, False, False]
    assert step.success.tolist() == [False, True, False, False, False, False]


def test_a_fault_after_the_end_is_none() -> None:
    """What a frozen environment is told does not matter; a fault in the step that would have ended it is a failure."""
    batch, steps = arriving([np.full((6, 1), -0.5)] * 9)
    bad = np.full((6, 1), np.nan)
    bad[2:] = 0.5
    assert batch.step(bad).success[:2].all()
    assert batch.faults == 0
    end = next(t for t, step in enumerate(steps) if step.terminated[0])
    bad = np.full((6, 1), -0.5)
    bad[0] = np.nan
    again, steps = arriving([np.full((6, 1), -0.5)] * end + [bad])
    assert steps[-1].terminated[0]
    assert not steps[-1].success[0]
    assert again.faults == 1


def test_a_batch_of_which_everyone_has_ended_goes_on_to_its_horizon() -> None:
    batch = TaskBatch(ArrivingFamily(), TASKS, 2, threads=1)
    batch.reset(seed=0)
    for _ in range(10):
        step = batch.step(batch.family.scripted(batch.sim))
    assert step.terminated.all()
    assert step.success.all()
    assert not step.truncated.any()
    assert not step.observation.any()


class SharingFamily(ProbeFamily):
    """The probe with one model for all tasks."""

    shared = mujoco.MjModel.from_xml_string(SLIDER)

    def model(self, task: ProbeTask, visual: bool = False) -> mujoco.MjModel:
        return self.shared


def test_tasks_may_share_one_model() -> None:
    own, shared = batch_of(), TaskBatch(SharingFamily(), TASKS, 2, threads=1)
    np.testing.assert_array_equal(own.reset(seed=0), shared.reset(seed=0))
    for _ in range(5):
        left, right = own.step(constant(own, 0.5)), shared.step(constant(shared, 0.5))
        np.testing.assert_array_equal(left.observation, right.observation)
        np.testing.assert_array_equal(left.reward, right.reward)


class FeelingFamily(ProbeFamily):
    """The probe with an accelerometer: a sensor that MuJoCo computes in its last stage."""

    def model(self, task: ProbeTask, visual: bool = False) -> mujoco.MjModel:
        spec = mujoco.MjSpec.from_string(SLIDER)
        spec.add_sensor(
            name="force",
            type=mujoco.mjtSensor.mjSENS_ACTUATORFRC,
            objtype=mujoco.mjtObj.mjOBJ_ACTUATOR,
            objname="drive",
        )
        return spec.compile()

    def reset(self, sim: Simulation, ids: np.ndarray, noise: np.ndarray) -> None:
        super().reset(sim, ids, noise)
        sim.ctrl[ids, 0] = 0.5


def test_every_sensor_is_current_after_a_reset() -> None:
    """Not what another environment felt, nor nothing: what MuJoCo computes for the initial state."""
    batch = TaskBatch(FeelingFamily(), TASKS, 2, threads=1)
    batch.reset(seed=0)
    for _ in range(3):
        batch.step(constant(batch, -1.0))
    batch.reset(seed=1, ids=np.array([2]))
    np.testing.assert_allclose(batch.sim.sensordata[2], 50 * 0.5)


def test_it_is_the_same_as_stepping_mujoco_by_hand() -> None:
    family = ProbeFamily()
    batch = TaskBatch(family, TASKS, threads=2)
    batch.reset(seed=0)
    states = [mujoco.MjData(model) for model in batch.models]
    for data, qpos in zip(states, batch.sim.qpos, strict=True):
        data.qpos[:] = qpos
    rng = np.random.default_rng(0)
    for _ in range(10):
        action = rng.uniform(-1, 1, (3, 1))
        batch.step(action)
        for n, (model, data) in enumerate(zip(batch.models, states, strict=True)):
            data.ctrl[:] = 2.0 * action[n]
            for _ in range(family.frame_skip):
                mujoco.mj_step(model, data)
    np.testing.assert_array_equal(batch.sim.qpos, [data.qpos for data in states])
    np.testing.assert_array_equal(batch.sim.qvel, [data.qvel for data in states])


# -- what is not finite ends an episode, and only that one -------------------------------------------------------------


class FaultyFamily(ProbeFamily):
    """The probe, with `bad` written into what `where` names, of environment 3 in its fifth control step."""

    reward_terms: ClassVar[tuple[str, ...]] = ("near", "still")

    def __init__(self, where: str = "", bad: float = 0.0) -> None:
        self.where, self.bad = where, bad

    def _spoilt(self, where: str, numbers: np.ndarray, now: np.ndarray) -> np.ndarray:
        if where == self.where and now[3] == 4:
            numbers[3] = self.bad
        return numbers

    def control(self, sim: Simulation, action: np.ndarray) -> None:
        super().control(sim, action)
        for name in ("ctrl", "qpos", "qvel"):
            self._spoilt(name, getattr(sim, name), sim.step)

    def observe(self, sim: Simulation) -> np.ndarray:
        return self._spoilt("observation", super().observe(sim), sim.step - 1)

    def reward(self, sim: Simulation, action: np.ndarray) -> dict[str, np.ndarray]:
        still = self._spoilt("reward", -0.1 * np.abs(sim.qvel[:, 0]), sim.step - 1)
        return {**super().reward(sim, action), "still": still}


def played(
    family: ProbeFamily, threads: int, bad_action: float | None = None, **options: Any
) -> tuple[int, list[Step]]:
    """The faults and the steps of an episode under random actions."""
    batch = TaskBatch(family, TASKS, 2, threads=threads, **options)
    batch.reset(seed=0)
    rng = np.random.default_rng(1)
    steps = []
    for t in range(10):
        action = rng.uniform(-1, 1, (6, 1))
        if t == 4 and bad_action is not None:
            action[3] = bad_action
        steps.append(batch.step(action))
    assert np.isfinite(batch.sim.qpos).all()
    return batch.faults, steps


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("where", ["qpos", "qvel", "ctrl", "action", "observation", "reward"])
def test_what_is_not_finite_ends_that_episode_alone(where: str, bad: float, threads: int) -> None:
    faults, calm = played(FaultyFamily(), threads)
    assert faults == 0
    if where == "action":
        faults, steps = played(FaultyFamily(), threads, bad)
    else:
        faults, steps = played(FaultyFamily(where, bad), threads)
    clipped = where in ("action", "ctrl") and bad == 1e300
    assert faults == (0 if clipped else 1)
    others = [0, 1, 2, 4, 5]
    for t, (step, expected) in enumerate(zip(steps, calm, strict=True)):
        arrays = {**vars(step), **step.terms}
        arrays.pop("terms")
        wanted = {**vars(expected), **expected.terms}
        for name, found in arrays.items():
            assert np.isfinite(found).all(), name
            np.testing.assert_array_equal(found[others], wanted[name][others])
            if t < 4:
                np.testing.assert_array_equal(found, wanted[name])
            elif not clipped:
                assert (found[3] == (name == "terminated")).all(), name


def test_an_episode_may_begin_with_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = batch_of()
    reset = ProbeFamily.reset

    def broken(family: ProbeFamily, sim: Simulation, ids: np.ndarray, noise: np.ndarray) -> None:
        reset(family, sim, ids, noise)
        sim.qvel[2] = np.nan

    monkeypatch.setattr(ProbeFamily, "reset", broken)
    observation = batch.reset(seed=0)
    assert np.isfinite(observation).all()
    assert not observation[2].any()
    step = batch.step(constant(batch, 0.5))
    assert step.terminated.tolist() == [False, False, True, False, False, False]
    assert batch.faults == 1
    monkeypatch.undo()
    batch.reset(seed=0)
    assert not batch.step(constant(batch, 0.5)).terminated.any()


def test_a_fault_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo's MUJOCO_LOG.TXT, in whatever folder was current."""
    monkeypatch.chdir(tmp_path)
    for threads in (1, 2):
        assert played(FaultyFamily("qvel", np.nan), threads)[0] == 1
    assert not list(tmp_path.iterdir())
