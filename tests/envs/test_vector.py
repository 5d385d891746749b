"""The vector environments beside gymnasium's own vectorisation of the same environments, and under its wrappers."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import TimeAwareObservation
from gymnasium.wrappers import vector as wrappers

import envs
from envs.errors import UserError
from envs.families import make_family
from envs.vector import TaskVectorEnv
from tests.probes import ProbeFamily

MODES = pytest.mark.parametrize("mode", AutoresetMode)
IDS = pytest.mark.parametrize("name", envs.GYMNASIUM_IDS)


def assert_same(ours: Any, theirs: Any, where: str = "", values: bool = True) -> None:
    """Equal in form (names, masks, types, shapes), and if `values` to the bit."""
    assert type(ours) is type(theirs), where
    if isinstance(ours, dict):
        assert set(ours) == set(theirs), where
        for name in ours:
            assert_same(ours[name], theirs[name], f"{where}/{name}", values)
    elif isinstance(ours, np.ndarray):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), where
        if ours.dtype == object:
            assert [type(value) for value in ours] == [type(value) for value in theirs], where
        if values or ours.dtype == bool:
            assert [str(value) for value in ours] == [str(value) for value in theirs], where


def pair(name: str, tasks: list[Any], mode: AutoresetMode, **options: Any) -> tuple[Any, SyncVectorEnv]:
    """Our environments of these tasks, and gymnasium's."""
    id = envs.GYMNASIUM_IDS[name]
    ours = gymnasium.make_vec(id, len(tasks), tasks=tasks, threads=1, autoreset_mode=mode, **options)
    made = [lambda task=task: gymnasium.make(id, task=task, **options) for task in tasks]
    return ours, SyncVectorEnv(made, autoreset_mode=mode)


@MODES
@IDS
def test_the_form_is_that_of_gymnasiums_own_vectorisation(name: str, mode: AutoresetMode) -> None:
    """Over the end of an episode. The first environment's first episode is the same to the bit."""
    family = make_family(name)
    tasks = family.sample("train", 3, np.random.default_rng(0))
    ours, theirs = pair(name, tasks, mode, max_episode_steps=4)
    ours.action_space.seed(0)
    first, other = ours.reset(seed=5), theirs.reset(seed=5)
    assert_same(first[1], other[1], "reset")
    np.testing.assert_array_equal(first[0][0], other[0][0])
    for t in range(6):
        action = ours.action_space.sample() * 0.1
        step, expected = ours.step(action), theirs.step(action)
        for part, wanted in zip(step, expected, strict=True):
            assert_same(part, wanted, f"{t}", values=False)
            if t < 3 and isinstance(part, np.ndarray):
                np.testing.assert_array_equal(part[0], wanted[0])
        if t < 3:
            assert_same(step[4]["task"], expected[4]["task"])
        if mode is AutoresetMode.DISABLED and (done := step[2] | step[3]).any():
            for env in (ours, theirs):
                with pytest.raises((gymnasium.error.ResetNeeded, AssertionError)):
                    env.step(action)
            again, wanted = (env.reset(options={"reset_mask": done.copy()}) for env in (ours, theirs))
            assert_same(again[1], wanted[1], "reset_mask")
    ours.close()
    theirs.close()


@MODES
def test_environments_that_end_apart_are_those_of_gymnasium_to_the_bit(mode: AutoresetMode) -> None:
    """`point` starts at the origin and ends on arrival, so the same actions are the same episodes in both."""
    tasks = [{"goal_x_m": 0.3, "goal_y_m": -0.2}, {"goal_x_m": -0.4, "goal_y_m": 0.1}]
    ours, theirs = pair("point", tasks, mode, max_episode_steps=8)
    assert_same(ours.reset(seed=0), theirs.reset(seed=0))
    actions = np.random.default_rng(0).uniform(-1, 1, (30, 2, 2)).astype(np.float32)
    actions[:, 0] = [1.0, -2.0 / 3.0]
    ends = set()
    for t, action in enumerate(actions):
        step, expected = ours.step(action), theirs.step(action)
        for part, wanted in zip(step, expected, strict=True):
            assert_same(part, wanted, f"{t}")
        done = step[2] | step[3]
        ends.add((*done.tolist(), bool(step[2].any()), bool(step[3].any())))
        if mode is AutoresetMode.DISABLED and done.any():
            again, wanted = (env.reset(options={"reset_mask": done.copy()}) for env in (ours, theirs))
            assert_same(again[0], wanted[0], "reset_mask")
            assert_same(again[1], wanted[1], "reset_mask")
    assert {(True, False, True, False), (False, True, False, True), (False, False, False, False)} <= ends
    ours.close()
    theirs.close()


def test_an_environment_that_waits_for_its_reset_costs_no_steps() -> None:
    env = TaskVectorEnv(ProbeFamily(), 2, threads=1, max_episode_steps=3)
    env.reset(seed=0)
    for _ in range(4):
        observation, reward, _, _, infos = env.step(np.ones((2, 1), dtype=np.float32))
    assert env._batch is not None
    assert env._batch.env_steps == 2 * 3
    assert reward.tolist() == [0.0, 0.0]
    assert (observation[:, 2] == 1.0).all(), "all of the new episode's time is left"
    assert "success" not in infos


# -- gymnasium's wrappers ----------------------------------------------------------------------------------------------


def half(array: np.ndarray) -> np.ndarray:
    return array * np.float32(0.5)


WRAPPERS: dict[str, Any] = {
    "NormalizeObservation": wrappers.NormalizeObservation,
    "NormalizeReward": wrappers.NormalizeReward,
    "RecordEpisodeStatistics": wrappers.RecordEpisodeStatistics,
    "DictInfoToList": wrappers.DictInfoToList,
    "FlattenObservation": wrappers.FlattenObservation,
    "ClipAction": wrappers.ClipAction,
    "ClipReward": partial(wrappers.ClipReward, min_reward=-0.5, max_reward=0.5),
    "DtypeObservation": partial(wrappers.DtypeObservation, dtype=np.float64),
    "RescaleAction": partial(wrappers.RescaleAction, min_action=-2.0, max_action=2.0),
    "RescaleObservation": partial(wrappers.RescaleObservation, min_obs=np.float32(0.0), max_obs=np.float32(1.0)),
    "ReshapeObservation": lambda env: wrappers.ReshapeObservation(env, (1, *env.single_observation_space.shape)),
    "TransformObservation": partial(wrappers.TransformObservation, func=half),
    "TransformAction": partial(wrappers.TransformAction, func=half),
    "TransformReward": partial(wrappers.TransformReward, func=half),
    "VectorizeTransformObservation": lambda env: wrappers.VectorizeTransformObservation(
        env, gymnasium.wrappers.TransformObservation, func=half, observation_space=env.single_observation_space
    ),
    "VectorizeTransformAction": partial(wrappers.VectorizeTransformAction, wrapper=gymnasium.wrappers.ClipAction),
    "VectorizeTransformReward": partial(
        wrappers.VectorizeTransformReward, wrapper=gymnasium.wrappers.TransformReward, func=half
    ),
}
FOR_OTHER_SPACES = {"FilterObservation", "GrayscaleObservation", "ResizeObservation"}  # dictionaries, pictures
WANT_MORE = {"HumanRendering", "RecordVideo"}  # a screen; moviepy
OTHER_ARRAYS = {"ArrayConversion", "JaxToNumpy", "JaxToTorch", "NumpyToTorch"}  # want jax or array_api_compat


def test_every_vector_wrapper_of_gymnasium_is_tried() -> None:
    assert set(wrappers.__all__) == set(WRAPPERS) | FOR_OTHER_SPACES | WANT_MORE | OTHER_ARRAYS


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")  # gymnasium's Box, of a float64's limit as float32
@pytest.mark.filterwarnings("ignore:.*precision lowered by casting")  # and of a space that gymnasium rescaled itself
@IDS
def test_gymnasiums_vector_wrappers_run_over_every_id(name: str) -> None:
    """Over the end of an episode. Each wraps ours and gymnasium's, and what comes out has the same form."""
    tasks = make_family(name).sample("train", 2, np.random.default_rng(0))
    for called, wrap in WRAPPERS.items():
        ours, theirs = (wrap(env) for env in pair(name, tasks, AutoresetMode.NEXT_STEP, max_episode_steps=2))
        assert ours.observation_space == theirs.observation_space, called
        ours.action_space.seed(0)
        ours.reset(seed=0)
        theirs.reset(seed=0)
        for t in range(4):
            action = ours.action_space.sample()
            step, expected = ours.step(action), theirs.step(action)
            assert ours.observation_space.contains(step[0]), called
            for part, wanted in zip(step, expected, strict=True):
                assert_same(part, wanted, f"{called}, step {t}", values=False)
        ours.close()
        theirs.close()


def test_normalised_rewards_leave_out_the_step_that_resets() -> None:
    """Its reward of 0 is no reward: the statistics are those of the steps taken."""
    env: Any = TaskVectorEnv(ProbeFamily(), 2, task={"goal_m": 0.0}, threads=1)
    env = wrappers.NormalizeReward(env)
    env.reset(seed=0)
    for _ in range(22):
        env.step(np.zeros((2, 1), dtype=np.float32))
    assert env.return_rms.count == pytest.approx(2 * 20, abs=0.01)


# -- horizons ----------------------------------------------------------------------------------------------------------


@IDS
def test_the_horizon_is_declared(name: str) -> None:
    id, horizon = envs.GYMNASIUM_IDS[name], make_family(name).horizon
    assert gymnasium.spec(id).max_episode_steps == horizon == envs.HORIZONS[name]
    env: Any = TimeAwareObservation(gymnasium.make(id))
    assert env.observation_space.contains(env.reset(seed=0)[0])
    env.close()


@pytest.mark.parametrize(("given", "limit"), [(5, 5), (None, 10), (-1, 10), (10, 10), (1000, 10)])
def test_an_episode_may_be_cut_short_but_not_drawn_out(given: int | None, limit: int) -> None:
    """As gymnasium.make's time limit cuts it."""
    options = {} if given is None else {"max_episode_steps": given}
    one = gymnasium.make("quickstudy/Bandit-v0", **options)  # type: ignore[arg-type]
    several = gymnasium.make_vec("quickstudy/Bandit-v0", 2, threads=1, **options)
    one.reset(seed=0)
    several.reset(seed=0)
    for t in range(limit):
        truncated = one.step(np.zeros(5, dtype=np.float32))[3]
        assert several.step(np.zeros((2, 5), dtype=np.float32))[3].tolist() == [truncated] * 2 == [t == limit - 1] * 2


# -- what goes in ------------------------------------------------------------------------------------------------------


@IDS
def test_what_a_reset_hands_out_it_takes_back(name: str) -> None:
    env: Any = gymnasium.make_vec(envs.GYMNASIUM_IDS[name], num_envs=3, threads=1)
    _, infos = env.reset(seed=0)
    tasks, keys = env.tasks, [task.key for task in env.tasks]
    json = [task.to_json() for task in tasks]
    narrow = {key: value.astype(np.float32) if value.dtype == float else value for key, value in infos["task"].items()}
    as_array = np.empty(3, dtype=object)
    as_array[:] = json
    for given in (infos["task"], tasks, tuple(tasks), json, as_array, narrow):
        env.reset(seed=1, options={"split": "ood"})
        assert [task.key for task in env.tasks] != keys
        _, again = env.reset(options={"tasks": given})
        assert (env.tasks, [task.key for task in env.tasks]) == (tasks, keys)
        assert_same(again["task"], infos["task"])
    fixed: Any = gymnasium.make_vec(envs.GYMNASIUM_IDS[name], num_envs=3, threads=1, tasks=infos["task"])
    assert_same(fixed.reset(seed=3)[1]["task"], infos["task"])


def test_tasks_in_another_layout_are_refused() -> None:
    env = TaskVectorEnv("bandit", 3, threads=1)
    _, infos = env.reset(seed=0)
    chances = np.array(list(infos["task"]["probabilities"]))
    env.reset(options={"tasks": {"probabilities": chances}})
    partly = infos["task"] | {"_probabilities": np.array([True, False, True])}
    for given, said in (
        ({"probabilities": chances.T}, "'probabilities' must be a list of 3.*got 5"),
        ({"probabilities": chances[None]}, "'probabilities' must be a list of 3.*got 1"),
        ({"probabilities": 0.5}, "got float"),
        (partly, "'_probabilities': environments 1 have no task"),
        (chances, "JSON object, got ndarray"),
        (env.tasks[:2], "list of 3.*got 2"),
        ("abc", "got str"),
        (np.array(3), "got ndarray"),
        (5, "got int"),
    ):
        with pytest.raises(UserError, match=said):
            env.reset(options={"tasks": given})


def test_bad_modes_masks_and_limits_are_one_clear_line() -> None:
    with pytest.raises(UserError, match="use NextStep, SameStep, Disabled"):
        TaskVectorEnv(ProbeFamily(), autoreset_mode="Never")
    with pytest.raises(UserError, match="max_episode_steps must be at least 1, or -1"):
        TaskVectorEnv(ProbeFamily(), max_episode_steps=0)
    env = TaskVectorEnv(ProbeFamily(), 2, threads=1)
    everyone = np.ones(2, dtype=bool)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.reset(options={"reset_mask": everyone})
    env.reset(seed=0)
    for mask in ([True, False], np.ones(3, dtype=bool), np.ones((1, 2), dtype=bool), np.array([0, 1]), ~everyone):
        with pytest.raises(UserError, match="array of 2 bools"):
            env.reset(options={"reset_mask": mask})
    with pytest.raises(UserError, match="give no seed"):
        env.reset(seed=1, options={"reset_mask": everyone})
    with pytest.raises(UserError, match="not both"):
        env.reset(options={"reset_mask": everyone, "split": "test"})


def test_what_a_step_hands_out_is_the_callers_own() -> None:
    """Writing into it changes nothing of what comes later."""
    env, calm = (TaskVectorEnv(ProbeFamily(), 2, threads=1, autoreset_mode="Disabled") for _ in range(2))
    env.reset(seed=0)
    calm.reset(seed=0)
    action = np.zeros((2, 1), dtype=np.float32)
    step, expected = env.step(action), calm.step(action)
    for array in (*step[:4], step[4]["task"]["goal_m"], step[4]["_task"], step[4]["reward_terms"]["near"]):
        array[:] = 0
    mask = np.array([True, False])
    again, wanted = env.reset(options={"reset_mask": mask}), calm.reset(options={"reset_mask": mask})
    assert_same(again[0], wanted[0])
    assert_same(again[1], wanted[1])
    np.testing.assert_array_equal(wanted[0][1], expected[0][1])
    for part, other in zip(env.step(action), calm.step(action), strict=True):
        assert_same(part, other)
