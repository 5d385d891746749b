"""A deep copy or a pickle of an environment, taken in the middle of an episode, goes on with the same bits."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import pytest

import envs
from agents.sb3_vec_env import SB3VecEnv
from envs.families import make_family
from envs.simulation import TaskBatch

Copy = Callable[[Any], Any]


def through_pickle(value: Any) -> Any:
    return pickle.loads(pickle.dumps(value))


COPIES = pytest.mark.parametrize("copied", [copy.deepcopy, through_pickle])


def numbers(value: Any) -> list[Any]:
    """Everything that a step returned, in one flat list."""
    if isinstance(value, dict):
        return [number for name in sorted(value) for number in [name, *numbers(value[name])]]
    if isinstance(value, (tuple, list)):
        return [number for entry in value for number in numbers(entry)]
    return [value.tobytes() if isinstance(value, np.ndarray) and value.dtype != object else str(value)]


def state_of(batch: TaskBatch) -> list[Any]:
    sim = batch.sim
    arrays = {"qpos": sim.qpos, "qvel": sim.qvel, "ctrl": sim.ctrl, "sensordata": sim.sensordata, "step": sim.step}
    return numbers({**arrays, **sim.scratch, "counters": (batch.env_steps, batch.faults), "told": batch.features})


@COPIES
@pytest.mark.parametrize("name", envs.GYMNASIUM_IDS)
def test_a_copied_batch_goes_on_with_the_same_bits(name: str, copied: Copy) -> None:
    family = make_family(name)
    batch = TaskBatch(family, family.sample("train", 2, np.random.default_rng(0)), 2, threads=1, privileged=True)
    rng = np.random.default_rng(1)
    actions = rng.uniform(-1, 1, (min(family.horizon, 24), batch.size, family.action_size))
    actions[2, 1] = np.nan
    batch.reset(seed=0)
    for action in actions[:8]:
        batch.step(action)
    other = copied(batch)
    assert state_of(other) == state_of(batch)
    for action in actions[8:]:
        assert numbers(vars(batch.step(action))) == numbers(vars(other.step(action)))
    assert batch.reset(3, 1, np.array([1])).tobytes() == other.reset(3, 1, np.array([1])).tobytes()
    assert numbers(vars(batch.step(actions[0]))) == numbers(vars(other.step(actions[0])))
    assert state_of(other) == state_of(batch)
    assert batch.faults == 1
    with pytest.raises(ValueError, match="read-only"):
        other.sim.sensordata[:] = 0.0


@COPIES
def test_original_and_copy_share_nothing(copied: Copy) -> None:
    family = make_family("terrain")
    batch = TaskBatch(family, family.sample("train", 2, np.random.default_rng(0)), threads=1)
    batch.reset(seed=0)
    batch.step(np.ones((2, family.action_size)))
    before = state_of(batch)
    other = copied(batch)
    for _ in range(3):
        other.step(np.full((2, family.action_size), np.nan))
    other.set_tasks(family.sample("ood", 2, np.random.default_rng(1)))
    other.reset(seed=1)
    assert state_of(batch) == before
    assert not batch.step(np.ones((2, family.action_size))).terminated.any()


@COPIES
@pytest.mark.parametrize("name", envs.GYMNASIUM_IDS)
def test_a_copied_environment_goes_on_with_the_same_bits(name: str, copied: Copy) -> None:
    """The next reset included: it draws another task."""
    env: Any = gymnasium.make(envs.GYMNASIUM_IDS[name])
    env.action_space.seed(0)
    env.reset(seed=0)
    for _ in range(3):
        env.step(env.action_space.sample())
    other = copied(env)
    for _ in range(3):
        action = env.action_space.sample()
        assert numbers(env.step(action)) == numbers(other.step(action))
    assert numbers(env.reset()) == numbers(other.reset())
    action = env.action_space.sample()
    assert numbers(env.step(action)) == numbers(other.step(action))


@COPIES
@pytest.mark.parametrize("name", ["grasp", "bandit", "point", "ant-vel"])
def test_copied_vector_environments_go_on_with_the_same_bits(name: str, copied: Copy) -> None:
    """Through the end of an episode and the autoreset after it, and a reset with a seed drawn by the generator."""
    env: Any = gymnasium.make_vec(envs.GYMNASIUM_IDS[name], num_envs=3, threads=1)
    env.action_space.seed(0)
    env.reset(seed=0)
    horizon = make_family(name).horizon
    for _ in range(horizon - 1):
        env.step(env.action_space.sample())
    other = copied(env)
    for _ in range(4):
        action = env.action_space.sample()
        assert numbers(env.step(action)) == numbers(other.step(action))
    for options in (None, {"split": "ood"}):
        assert numbers(env.reset(options=options)) == numbers(other.reset(options=options))


def test_a_copy_of_what_stable_baselines3_sees_goes_on_too() -> None:
    env = SB3VecEnv(gymnasium.make_vec("quickstudy/Point-v0", num_envs=2, threads=1))  # type: ignore[arg-type]
    env.seed(0)
    env.reset()
    actions = np.random.default_rng(0).uniform(-1, 1, (30, 2, 2)).astype(np.float32)
    env.step(actions[0])
    other = through_pickle(env)
    for action in actions[1:]:
        assert numbers(env.step(action)) == numbers(other.step(action))


@COPIES
def test_a_copy_draws_pictures_of_its_own(copied: Copy) -> None:
    env: Any = gymnasium.make("quickstudy/TerrainPlanar-v0", render_mode="rgb_array", width=48, height=32)
    env.reset(seed=0)
    picture = env.render()
    other = copied(env)
    env.close()
    np.testing.assert_array_equal(other.render(), picture)
    other.close()
    several: Any = gymnasium.make_vec("quickstudy/Point-v0", num_envs=2, render_mode="rgb_array", width=48, height=32)
    several.reset(seed=0)
    pictures = several.render()
    other = copied(several)
    several.close()
    np.testing.assert_array_equal(np.stack(other.render()), np.stack(pictures))
    other.close()
