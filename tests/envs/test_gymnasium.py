"""The families as gymnasium and stable-baselines3 know environments."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import RecordVideo
from packaging.requirements import Requirement

import envs
from envs.errors import UserError
from envs.families import FAMILIES, make_family
from envs.gymnasium_env import TaskEnv
from envs.simulation import TaskBatch
from envs.task import TaskFamily
from envs.vector import TaskVectorEnv
from tests.probes import ProbeFamily

PLANAR = "quickstudy/TerrainPlanar-v0"


def vector(count: int, **kwargs: Any) -> TaskVectorEnv:
    return TaskVectorEnv(ProbeFamily(), num_envs=count, threads=1, **kwargs)


def test_every_family_is_registered_without_importing_the_simulator() -> None:
    assert set(envs.GYMNASIUM_IDS) == set(FAMILIES)
    code = (
        "import sys, envs, gymnasium; ids = [gymnasium.spec(i).id for i in envs.GYMNASIUM_IDS.values()]; "
        "print(len(ids), 'mujoco' in sys.modules, 'torch' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.split() == [str(len(FAMILIES)), "False", "False"]


@pytest.mark.parametrize("name", envs.GYMNASIUM_IDS)
def test_check_env_finds_nothing(name: str) -> None:
    """Warnings are errors here. The pictures of each declared render mode are among the checks."""
    env = gymnasium.make(envs.GYMNASIUM_IDS[name], width=64, height=48)
    check_env(env.unwrapped)
    env.close()


@pytest.mark.parametrize("name", envs.GYMNASIUM_IDS)
def test_an_episode_ends_at_the_horizon_and_says_what_it_was(name: str) -> None:
    env: Any = gymnasium.make(envs.GYMNASIUM_IDS[name]).unwrapped
    family = make_family(name)
    _, info = env.reset(seed=3)
    assert family.task_from_json(info["task"]) == env.task
    env.action_space.seed(0)
    for t in range(family.horizon):
        _, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert truncated == (t == family.horizon - 1 and not terminated)
        assert set(info["reward_terms"]) == set(family.reward_terms)
        assert reward == pytest.approx(sum(info["reward_terms"].values()), abs=1e-5)
        assert isinstance(info["success"], bool)
        if terminated:
            assert type(family).terminated is not TaskFamily.terminated
            break


def test_seed_decides_the_task_and_the_start_and_later_resets_follow_from_it() -> None:
    env = gymnasium.make(PLANAR).unwrapped
    first, info = env.reset(seed=7)
    second, next_info = env.reset()
    assert next_info["task"] != info["task"]
    again, _ = env.reset(seed=7)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(second, env.reset()[0])
    assert (env.reset(seed=8)[0] != first).any()


def test_a_task_is_taken_as_a_value_or_as_json_and_a_split_is_drawn_from() -> None:
    family = make_family("terrain-planar")
    task = family.sample("ood", 1, np.random.default_rng(0))[0]
    env: Any = gymnasium.make(PLANAR).unwrapped
    by_value, info = env.reset(seed=1, options={"task": task})
    assert info["task"] == task.to_json()
    by_json, _ = env.reset(seed=1, options={"task": task.to_json()})
    np.testing.assert_array_equal(by_value, by_json)
    env.reset(seed=1, options={"split": "test"})
    assert family.split_of(env.task) == "test"
    fixed: Any = gymnasium.make(PLANAR, task=task.to_json()).unwrapped
    assert fixed.reset(seed=5)[1]["task"] == fixed.reset()[1]["task"] == task.to_json()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"taks": 1}, "no option 'taks'"),
        ({"split": "validation"}, "unknown split 'validation'"),
        ({"task": 3}, "JSON object, got int"),
        ({"task": {"surface": "flat"}}, "slope_rad"),
        ({"task": {}, "split": "test"}, "not both"),
    ],
)
def test_bad_options_are_one_clear_line(options: dict[str, Any], said: str) -> None:
    for env in (gymnasium.make(PLANAR).unwrapped, gymnasium.make_vec(PLANAR, num_envs=2, threads=1)):
        with pytest.raises(UserError, match=said):
            env.reset(options=options)


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(UserError, match="render mode"):
        TaskEnv("terrain-planar", render_mode="human")
    with pytest.raises(UserError, match="no family"):
        TaskEnv("terrain-plana")
    with pytest.raises(UserError, match="num_envs"):
        vector(0)
    with pytest.raises(UserError, match="list of 3"):
        vector(3, tasks=[{"goal_m": 0.5}])
    with pytest.raises(UserError, match="takes a PlanarTerrainTask, got a ProbeTask"):
        TaskEnv("terrain-planar", task=ProbeFamily().sample("train", 1, np.random.default_rng(0))[0])


def test_a_picture_shows_the_task_at_hand() -> None:
    env: Any = gymnasium.make(PLANAR, render_mode="rgb_array", width=96, height=64).unwrapped
    env.reset(seed=0)
    task = env.task.to_json()
    pictures = []
    for way in ("forward", "backward"):
        env.reset(seed=0, options={"task": {**task, "open_direction": way}})
        pictures.append(env.render())
    assert pictures[0].shape == (64, 96, 3)
    assert pictures[0].dtype == np.uint8
    assert (pictures[0] != pictures[1]).mean() > 0.02
    env.close()


def test_step_before_reset_is_refused() -> None:
    for env in (TaskEnv(ProbeFamily()), vector(2)):
        with pytest.raises(gymnasium.error.ResetNeeded):
            env.step(env.action_space.sample())


def test_make_vec_declares_its_autoreset_and_equals_the_batch() -> None:
    env: Any = gymnasium.make_vec(PLANAR, num_envs=3, threads=1)
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    observation, infos = env.reset(seed=4)
    assert observation.shape == env.observation_space.shape
    assert len(set(infos["task"]["friction"])) == 3
    batch = TaskBatch(env.family, env.tasks, threads=1)
    batch.reset(env._seed, np.arange(3), np.arange(3))
    env.action_space.seed(1)
    for _ in range(10):
        action = env.action_space.sample()
        observation, reward, terminated, truncated, _ = env.step(action)
        step = batch.step(action)
        np.testing.assert_array_equal(observation, step.observation)
        np.testing.assert_array_equal(reward, step.reward)
    assert not terminated.any()
    assert not truncated.any()


def test_same_step_autoreset_keeps_the_end_of_the_old_episode() -> None:
    env = vector(3, autoreset_mode="SameStep")
    env.reset(seed=0)
    action = np.full((3, 1), 0.5, dtype=np.float32)
    for t in range(10):
        observation, _, terminated, truncated, infos = env.step(action)
        assert ("final_obs" in infos) == (t == 9)
    assert truncated.all()
    assert not terminated.any()
    assert infos["_final_obs"].all()
    final = np.stack(list(infos["final_obs"]))
    assert (final[:, 2] == 0.0).all()  # no time left
    assert (observation[:, 2] == 1.0).all()  # all of it
    assert (final[:, 0] > 0.5).all()
    assert (np.abs(observation[:, 0]) < 0.2).all()
    assert infos["final_info"]["_success"].all()
    assert "success" not in infos
    assert infos["final_info"]["task"]["goal_m"].tolist() == [task.goal_m for task in env.tasks]  # type: ignore[attr-defined]
    _, _, _, truncated, infos = env.step(action)
    assert not truncated.any()
    assert infos["_success"].all()


def test_a_fault_ends_and_resets_its_own_environment_alone() -> None:
    env, calm = vector(3, autoreset_mode="SameStep"), vector(3)
    env.reset(seed=0)
    calm.reset(seed=0)
    action = np.full((3, 1), 0.5, dtype=np.float32)
    bad = action.copy()
    bad[1] = np.nan
    observation, _, terminated, truncated, infos = env.step(bad)
    expected = calm.step(action)[0]
    assert terminated.tolist() == [False, True, False]
    assert not truncated.any()
    assert infos["_final_obs"].tolist() == [False, True, False]
    np.testing.assert_array_equal(observation[[0, 2]], expected[[0, 2]])
    assert observation[1, 2] == 1.0
    for _ in range(9):
        _, _, terminated, truncated, _ = env.step(action)
    assert truncated.tolist() == [True, False, True]
    assert not terminated.any()


def test_an_end_by_the_family_is_terminated_and_keeps_its_last_observation() -> None:
    task = {"goal_x_m": 0.3, "goal_y_m": -0.2}
    action = np.array([1.0, -2.0 / 3.0], dtype=np.float32)
    env: Any = gymnasium.make("quickstudy/Point-v0", task=task).unwrapped
    several: Any = gymnasium.make_vec(
        "quickstudy/Point-v0", num_envs=2, threads=1, task=task, autoreset_mode="SameStep"
    )
    env.reset(seed=0)
    several.reset(seed=0)
    actions = np.stack([action, -action])
    for t in range(3):
        observation, _, terminated, truncated, info = env.step(action)
        assert (terminated, truncated, info["success"]) == (t == 2, False, t == 2)
        observations, _, terminations, truncations, infos = several.step(actions)
        assert terminations.tolist() == [t == 2, False]
        assert not truncations.any()
    np.testing.assert_allclose(observation, [0.3, -0.2], atol=1e-6)
    np.testing.assert_array_equal(infos["final_obs"][0], observation)
    assert infos["final_info"]["success"].tolist() == [True, False]
    np.testing.assert_array_equal(observations[0], [0.0, 0.0])
    np.testing.assert_allclose(observations[1], [-0.3, 0.2], atol=1e-6)


def test_vector_tasks_stay_until_asked_and_equal_tasks_start_apart() -> None:
    env = vector(4)
    env.reset(seed=0)
    tasks = env.tasks
    env.reset()
    assert env.tasks == tasks
    env.reset(seed=1)
    assert env.tasks != tasks
    env.reset(seed=0)
    assert env.tasks == tasks
    observation, infos = env.reset(options={"task": {"goal_m": 0.5}})
    assert infos["task"]["goal_m"].tolist() == [0.5] * 4
    assert len(np.unique(observation[:, 0])) == 4
    _, infos = env.reset(options={"tasks": tasks})
    assert env.tasks == tasks
    family = ProbeFamily()
    env.reset(options={"split": "test"})
    assert {family.split_of(task) for task in env.tasks} == {"test"}


def test_gymnasium_sync_vectorisation_works_too() -> None:
    env = gymnasium.make_vec(PLANAR, num_envs=2, vectorization_mode="sync")
    env.reset(seed=0)
    assert env.step(env.action_space.sample())[0].shape == env.observation_space.shape
    env.close()


def test_record_video_needs_what_the_video_extra_installs(tmp_path: Path) -> None:
    """moviepy, which only this wrapper of gymnasium's uses."""
    project = tomllib.loads((Path(envs.__file__).parents[1] / "pyproject.toml").read_text())["project"]
    extra = [Requirement(line).name for line in project["optional-dependencies"]["video"]]
    assert extra == ["moviepy"]
    env: Any = gymnasium.make("quickstudy/Point-v0", render_mode="rgb_array", width=48, height=32, max_episode_steps=3)
    if find_spec("moviepy") is None:
        with pytest.raises(gymnasium.error.DependencyNotInstalled, match="moviepy is not installed"):
            RecordVideo(env, str(tmp_path / "films"))
        return
    film = RecordVideo(env, str(tmp_path / "films"), episode_trigger=lambda episode: True)
    film.reset(seed=0)
    for _ in range(3):
        film.step(np.zeros(2, dtype=np.float32))
    film.close()
    assert [path.suffix for path in (tmp_path / "films").iterdir()] == [".mp4"]
