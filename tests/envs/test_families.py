"""What must hold of every family, asked of each of them."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from typing import Any

import mujoco
import numpy as np
import pytest

from envs.errors import UserError
from envs.families import FAMILIES, make_family
from envs.simulation import Step, TaskBatch
from envs.task import SPLITS, Parameter, Task, TaskFamily

NAMES = tuple(FAMILIES)
FIXED_STARTS = ("bandit", "point")  # every episode begins in the same state, as published
SETS_VELOCITIES = ("bandit", "point")  # `control` writes them, so they cannot be broken from outside
pytestmark = pytest.mark.parametrize("name", NAMES)


class SameNoise(TaskBatch):
    """Every environment starts from the same reset noise, whatever its task."""

    def _noise(self, seed: int, n: int, episode: int) -> np.ndarray:
        return np.random.default_rng(seed).random(self.family.reset_noise_size)


@cache
def tasks_of(name: str, split: str, count: int) -> tuple[Task, ...]:
    rng = np.random.default_rng([SPLITS.index(split), count])  # type: ignore[arg-type]
    return tuple(make_family(name).sample(split, count, rng))  # type: ignore[arg-type]


def random_actions(family: TaskFamily[Any], steps: int, count: int, seed: int = 0) -> np.ndarray:
    """[steps, count, A] that linger, so that something happens."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1.0, 1.0, (steps, count, family.action_size))
    for t in range(1, steps):
        actions[t] = 0.7 * actions[t - 1] + 0.3 * actions[t]
    return np.clip(2.0 * actions, -1.0, 1.0)


def play(batch: TaskBatch, actions: np.ndarray, seed: int = 0) -> list[Step]:
    batch.reset(seed)
    return [batch.step(action) for action in actions]


def guided_actions(family: TaskFamily[Any], batch: TaskBatch, t: int) -> np.ndarray:
    """[N, A] of the scripted controller where the family has one, otherwise random, with a seed of its own."""
    if family.has_scripted:
        return family.scripted(batch.sim)
    return np.random.default_rng(t).uniform(-1.0, 1.0, (batch.size, family.action_size))


def bits(steps: list[Step]) -> np.ndarray:
    """[T, N, O + 2] all that a policy gets."""
    rows = [np.column_stack([step.observation, step.reward, step.success]) for step in steps]
    return np.stack(rows)


# -- tasks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", SPLITS)
def test_tasks_survive_json(name: str, split: str) -> None:
    family = make_family(name)
    for task in tasks_of(name, split, 100):
        again = family.task_from_json(json.loads(json.dumps(task.to_json())))
        assert again == task
        assert again.key == task.key
        assert hash(again) == hash(task)


def test_parameters_describe_the_task_type(name: str) -> None:
    family = make_family(name)
    fields = {field.name for field in dataclasses.fields(family.task_type)}  # type: ignore[arg-type]
    assert {parameter.name for parameter in family.parameters} == fields


def test_bad_values_are_refused_in_one_line_that_names_them(name: str) -> None:
    family = make_family(name)
    good = tasks_of(name, "train", 1)[0].to_json()
    refused = [("no_such_parameter", 1.0)]
    for key, value in good.items():
        refused += [(key, None), (key, [1.0])]
        if isinstance(value, float):
            refused += [(key, bad) for bad in (float("nan"), float("inf"), float("-inf"), "wide")]
        elif isinstance(value, str):
            refused += [(key, "no such choice"), (key, 3)]
    for key, bad in refused:
        with pytest.raises(UserError) as caught:
            family.task_from_json({**good, key: bad})
        message = str(caught.value)
        assert key in message, message
        assert "\n" not in message
    for key in good:
        with pytest.raises(UserError, match=key):
            family.task_from_json({k: v for k, v in good.items() if k != key})


def test_same_generator_draws_the_same_tasks(name: str) -> None:
    family = make_family(name)
    for split in SPLITS:
        first, again, other = (family.sample(split, 5, np.random.default_rng(seed)) for seed in (1, 1, 2))
        assert first == again
        assert first != other


def inside(parameter: Parameter, value: Any) -> bool:
    """Within the training values; 0 stands for a parameter that the kind of task has no use for."""
    if isinstance(value, tuple):
        return all(inside(parameter, entry) for entry in value)
    if isinstance(parameter.train[0], str):
        return value in parameter.train
    low, high = parameter.train
    return bool(low <= value <= high or value == 0)  # type: ignore[operator]


def goes_beyond(parameter: Parameter) -> bool:
    """Are there out-of-distribution values outside the training values? (Or are they the rare ones among them?)"""
    if isinstance(parameter.train[0], str):
        return bool(set(parameter.ood) - set(parameter.train))
    return any(not inside(parameter, end) for interval in parameter.ood for end in interval)


def test_splits_draw_from_their_own_values(name: str) -> None:
    family = make_family(name)
    train, test, ood = (tasks_of(name, split, 200) for split in SPLITS)
    for task in train + test:
        outside = [p.name for p in family.parameters if not inside(p, getattr(task, p.name))]
        assert not outside, task
    if any(goes_beyond(parameter) for parameter in family.parameters):
        for task in ood:
            assert any(not inside(p, getattr(task, p.name)) for p in family.parameters), task


def test_splits_share_no_task_unless_the_family_says_so(name: str) -> None:
    family = make_family(name)
    train, test, ood = (set(tasks_of(name, split, 400)) for split in SPLITS)
    assert not ood & (train | test)
    if family.splits_share_tasks:
        assert train == test
        return
    assert not train & test
    assert all(family.split_of(task) == "train" for task in train)
    assert all(family.split_of(task) == "test" for task in test)
    assert min(len(train), len(test), len(ood)) > 350  # numbers of 4 decimals do coincide


def test_features_tell_tasks_apart(name: str) -> None:
    family = make_family(name)
    tasks = tasks_of(name, "train", 200)
    features = np.stack([family.features(task) for task in tasks])
    assert features.shape == (200, family.feature_size)
    assert features.dtype == np.float32
    assert np.abs(features).max() <= 10.0
    assert len(np.unique(features, axis=0)) == len(set(tasks))
    everywhere = np.concatenate([features, [family.features(task) for task in tasks_of(name, "ood", 200)]])
    assert (everywhere.std(axis=0) > 0).mean() > 0.7


# -- physics -----------------------------------------------------------------------------------------------------------


def variants(family: TaskFamily[Any], pool: tuple[Task, ...], name: str, count: int) -> list[Task]:
    """[2 * count] tasks: one of the pool, the same with the one parameter changed to another's value, and so on."""
    pairs: list[Task] = []
    for task, donor in zip(pool, pool[7:] + pool[:7], strict=True):
        value, other = getattr(task, name), getattr(donor, name)
        if value == other or (value == 0 and not isinstance(value, str)):
            continue
        variant = dataclasses.replace(task, **{name: other})  # type: ignore[type-var]
        try:
            family.model(family.task_from_json(variant.to_json()))
        except UserError:
            continue  # not every combination exists
        pairs += [task, variant]
        if len(pairs) == 2 * count:
            break
    assert len(pairs) >= 6, f"hardly any tasks can differ in {name} alone"
    return pairs


def test_every_parameter_changes_what_happens(name: str) -> None:
    """Same start, same actions, one parameter changed: another trajectory of observations or rewards."""
    family = make_family(name)
    both = zip(tasks_of(name, "train", 40), tasks_of(name, "ood", 40), strict=True)
    pool = tuple(task for pair in both for task in pair)
    unnoticed = []
    for parameter in family.parameters:
        batch = SameNoise(family, variants(family, pool, parameter.name, 10), threads=2)
        batch.reset(seed=5)
        for t in range(family.horizon):
            told = guided_actions(family, batch, t)[::2]
            told[::2] = np.roll(told, -1, axis=0)[::2]  # half are driven as another task asks: into walls, off the part
            step = batch.step(np.repeat(told, 2, axis=0))
            rows = np.column_stack([step.observation, step.reward])
            changed = np.abs(rows[::2] - rows[1::2]).max(axis=1) > 1e-4
            if changed.any():
                break
        if not changed.any():
            unnoticed.append(parameter.name)
    assert not unnoticed


def test_the_first_observation_does_not_depend_on_the_task(name: str) -> None:
    family = make_family(name)
    batch = SameNoise(family, tasks_of(name, "train", 60) + tasks_of(name, "ood", 60))
    for seed in range(3):
        observation = batch.reset(seed)
        np.testing.assert_allclose(observation, np.broadcast_to(observation[0], observation.shape), atol=1e-3)


def test_a_linear_probe_learns_nothing_of_the_task_from_first_observations(name: str) -> None:
    """Held-out R^2 of ridge regression from first observations to features: no better than chance."""
    family = make_family(name)
    tasks = tasks_of(name, "train", 400)
    starts = np.arange(400)  # another for each, where tasks are equal
    observation = TaskBatch(family, tasks).reset(seed=3, episode=starts).astype(np.float64)
    targets = np.stack([family.features(task) for task in tasks]).astype(np.float64)
    varied = targets.std(axis=0) > 0
    targets = (targets[:, varied] - targets[:, varied].mean(axis=0)) / targets[:, varied].std(axis=0)
    scale = observation.std(axis=0)
    inputs = (observation - observation.mean(axis=0)) / np.where(scale > 1e-6, scale, 1.0)
    fit, held = slice(0, 250), slice(250, 400)
    normal = inputs[fit].T @ inputs[fit] + 30.0 * np.eye(inputs.shape[1])
    predicted = inputs[held] @ np.linalg.solve(normal, inputs[fit].T @ targets[fit])
    r_squared = 1.0 - np.square(targets[held] - predicted).sum(axis=0) / np.square(targets[held]).sum(axis=0)
    assert r_squared.max() < 0.1


def test_same_seed_same_bits_whatever_the_threads_order_and_batch(name: str) -> None:
    family = make_family(name)
    tasks = tasks_of(name, "train", 3) + tasks_of(name, "ood", 3)
    actions = random_actions(family, min(family.horizon, 40), 12)
    one = TaskBatch(family, tasks, 2, threads=1)
    expected = bits(play(one, actions))
    np.testing.assert_array_equal(bits(play(TaskBatch(family, tasks, 2, threads=2), actions)), expected)
    np.testing.assert_array_equal(bits(play(one, actions)), expected, err_msg="an earlier episode left a trace")

    backwards = np.arange(12).reshape(6, 2)[::-1].ravel()
    reordered = TaskBatch(family, tasks[::-1], 2, threads=2)
    np.testing.assert_array_equal(bits(play(reordered, actions[:, backwards])), expected[:, backwards])
    alone = TaskBatch(family, tasks[2:3], 1, threads=1)
    np.testing.assert_array_equal(bits(play(alone, actions[:, 4:5])), expected[:, 4:5])


def test_a_reset_in_the_middle_leaves_no_trace(name: str) -> None:
    """First observations, too, are the same after any other episode (touch and forces included)."""
    family = make_family(name)
    batch = TaskBatch(family, tasks_of(name, "train", 12), 2, threads=2)
    fresh = batch.reset(seed=1)
    for t in range(family.horizon // 2 + 5):
        batch.step(guided_actions(family, batch, t))
    np.testing.assert_array_equal(batch.reset(seed=1), fresh)


def test_starts_vary(name: str) -> None:
    family = make_family(name)
    batch = TaskBatch(family, tasks_of(name, "train", 2), 6)
    first, second = batch.reset(seed=0), batch.reset(seed=1)
    if name in FIXED_STARTS:
        assert len(np.unique(np.concatenate([first, second]), axis=0)) == 1
        return
    assert len(np.unique(np.concatenate([first, second]), axis=0)) == 24
    np.testing.assert_array_equal(batch.reset(seed=0, episode=2)[:4], first[2:6])


@pytest.mark.parametrize("split", ["train", "ood"])
def test_values_are_finite_and_bounded_and_rewards_add_up(name: str, split: str) -> None:
    family = make_family(name)
    batch = TaskBatch(family, tasks_of(name, split, 24))
    observation = batch.reset(seed=0)
    actions = random_actions(family, family.horizon, 24)
    ended, taken = np.zeros(24, dtype=bool), 0
    for t in range(family.horizon):
        assert observation.shape == (24, family.observation_size)
        assert observation.dtype == np.float32
        assert np.abs(observation).max() <= family.observation_limit
        step = batch.step(actions[t] if t % 4 else guided_actions(family, batch, t))
        observation = step.observation
        assert tuple(step.terms) == family.reward_terms
        for term, value in step.terms.items():
            assert np.abs(value).max() <= family.reward_bound, term
        np.testing.assert_allclose(step.reward, sum(step.terms.values()), atol=1e-6)
        assert (step.terminated >= ended).all(), "an episode that ended stays ended"
        taken += int((~ended).sum())
        ended = step.terminated
        assert (step.truncated == ((t == family.horizon - 1) & ~ended)).all()
    assert not ended.any() or type(family).terminated is not TaskFamily.terminated
    assert np.isfinite(observation).all()
    assert batch.faults == 0
    assert batch.env_steps == taken


def test_scripted_actions_are_in_range(name: str) -> None:
    """A family without a scripted controller says so."""
    family = make_family(name)
    batch = TaskBatch(family, tasks_of(name, "train", 10) + tasks_of(name, "ood", 10))
    batch.reset(seed=0)
    if not family.has_scripted:
        with pytest.raises(UserError, match=f"{name} has no scripted controller"):
            family.scripted(batch.sim)
        return
    for _ in range(family.horizon):
        action = family.scripted(batch.sim)
        assert action.shape == (20, family.action_size)
        assert np.abs(action).max() <= 1.0
        batch.step(action)


def test_returned_arrays_are_the_callers_own(name: str) -> None:
    family = make_family(name)
    batch = TaskBatch(family, tasks_of(name, "train", 3), 2)
    first = batch.reset(seed=0)
    actions = random_actions(family, 3, 6)
    steps = [batch.step(action) for action in actions]
    inner = [batch.sim.qpos, batch.sim.qvel, batch.sim.ctrl, batch.sim.sensordata, batch.sim.step]
    inner += [*batch.sim.scratch.values(), *batch.sim.constants.values()]
    for step in steps:
        arrays = [step.observation, step.reward, step.terminated, step.truncated, step.success, *step.terms.values()]
        for array in arrays:
            assert not any(np.shares_memory(array, other) for other in [*inner, actions, first])
    copies = [step.observation.copy() for step in steps]
    batch.step(actions[0])
    batch.reset(seed=4)
    for step, copy in zip(steps, copies, strict=True):
        np.testing.assert_array_equal(step.observation, copy)


def test_families_keep_no_state(name: str) -> None:
    family = make_family(name)
    settings = dict(vars(family))
    batch = TaskBatch(family, tasks_of(name, "train", 2))
    play(batch, random_actions(family, 5, 2))
    assert vars(family) == settings


def test_the_visual_model_has_the_camera_and_the_same_coordinates(name: str) -> None:
    family = make_family(name)
    for task in tasks_of(name, "train", 3):
        plain, visual = family.model(task), family.model(task, visual=True)
        assert mujoco.mj_name2id(visual, mujoco.mjtObj.mjOBJ_CAMERA, family.camera) >= 0
        assert (visual.nq, visual.nv, visual.nu) == (plain.nq, plain.nv, plain.nu)
        assert plain.ntex == 0


# -- faults ------------------------------------------------------------------------------------------------------------


FAULTS = ("nan action", "infinite action", "nan position", "nan velocity", "diverged velocity")


def broken_at(kind: str, batch: TaskBatch, action: np.ndarray, n: int) -> np.ndarray:
    """Break environment n before a step; returns the actions of that step."""
    action = action.copy()
    if kind == "nan action":
        action[n, -1] = np.nan
    elif kind == "infinite action":
        action[n, 0] = -np.inf
    elif kind == "nan position":
        batch.sim.qpos[n, 0] = np.nan
    elif kind == "nan velocity":
        batch.sim.qvel[n, 0] = np.nan
    else:
        batch.sim.qvel[n] = 1e12
    return action


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_ends_its_own_episode_alone_and_is_counted(name: str, kind: str) -> None:
    if kind.endswith("velocity") and name in SETS_VELOCITIES:
        pytest.skip("the family sets its velocities itself")
    family = make_family(name)
    tasks = tasks_of(name, "train", 3)
    actions = random_actions(family, 12, 6)
    calm = play(TaskBatch(family, tasks, 2, threads=2), actions)

    batch = TaskBatch(family, tasks, 2, threads=2)
    batch.reset(seed=0)
    others = np.arange(6) != 3
    for t, action in enumerate(actions):
        step = batch.step(broken_at(kind, batch, action, 3) if t == 4 else action)
        assert step.terminated[3] == (t >= 4)
        assert not step.terminated[others].any()
        for field in ("observation", "reward", "success"):
            np.testing.assert_array_equal(getattr(step, field)[others], getattr(calm[t], field)[others])
        for field in ("observation", "reward", "success"):
            assert np.isfinite(getattr(step, field)).all()
            assert t < 4 or not getattr(step, field)[3].any()
    assert batch.faults == 1
    assert batch.env_steps == 5 * 12 + 5  # the faulty step was taken; the frozen ones were not
    again = play(batch, actions)
    np.testing.assert_array_equal(bits(again), bits(calm), err_msg="a fault left a trace in the next episode")
