"""The families as stable-baselines3 knows vector environments."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor

from agents.sb3_vec_env import SB3VecEnv
from envs.gymnasium_env import TaskEnv
from envs.vector import TaskVectorEnv
from tests.probes import ProbeFamily

MODES = pytest.mark.parametrize("mode", AutoresetMode)


def vector(count: int, **kwargs: Any) -> TaskVectorEnv:
    return TaskVectorEnv(ProbeFamily(), num_envs=count, threads=1, **kwargs)


@MODES
def test_stable_baselines3_sees_the_end_of_each_episode(mode: AutoresetMode) -> None:
    env = SB3VecEnv(vector(2, autoreset_mode=mode))
    env.seed(0)
    first = env.reset()
    total = np.zeros(2)
    for t in range(10):
        observation, reward, done, infos = env.step(np.full((2, 1), 0.5, dtype=np.float32))
        total += reward
        assert (observation.dtype, reward.dtype) == (np.float32, np.float32)
        assert done.tolist() == [t == 9] * 2
        assert all(info["TimeLimit.truncated"] == (t == 9) for info in infos)
    for n, info in enumerate(infos):
        assert info["terminal_observation"][2] == 0.0
        assert info["episode"]["l"] == 10
        assert info["episode"]["r"] == pytest.approx(total[n])
        assert info["task"] == env.reset_infos[n]["task"]
    assert (observation[:, 2] == 1.0).all()
    _, _, done, infos = env.step(np.array([[np.nan], [0.5]], dtype=np.float32))
    assert done.tolist() == [True, False]
    assert not infos[0]["TimeLimit.truncated"]
    assert infos[0]["episode"]["l"] == 1
    env.seed(0)
    np.testing.assert_array_equal(env.reset(), first)


def test_stable_baselines3_trains() -> None:
    """PPO drives the slider to a goal it can find: its mean return rises well above where it began."""
    env = SB3VecEnv(vector(8, task={"goal_m": 0.9}))
    model = PPO("MlpPolicy", env, n_steps=40, batch_size=160, n_epochs=10, learning_rate=3e-3, seed=0, device="cpu")
    model.learn(320)
    before = np.mean([episode["r"] for episode in model.ep_info_buffer or ()])
    model.learn(3200)
    assert np.mean([episode["r"] for episode in model.ep_info_buffer or ()]) > before + 1.0


def test_stable_baselines3_cannot_reach_into_single_environments() -> None:
    env = SB3VecEnv(vector(2))
    assert env.env_is_wrapped(gymnasium.Wrapper) == [False, False]
    assert env.get_attr("render_mode", [0]) == [None]
    with pytest.raises(AttributeError, match="one simulation"):
        env.env_method("reset")
    with pytest.raises(AttributeError, match="set_options"):
        env.set_attr("task", None)


def test_every_autoreset_mode_is_the_same_to_stable_baselines3() -> None:
    """Bit for bit, where environments end apart: `point` ends on arrival."""
    tasks = [
        {"goal_x_m": 0.3, "goal_y_m": -0.2},
        {"goal_x_m": -0.4, "goal_y_m": 0.1},
        {"goal_x_m": 0.0, "goal_y_m": 0.5},
    ]
    several = [
        SB3VecEnv(TaskVectorEnv("point", 3, tasks=tasks, threads=1, autoreset_mode=mode, max_episode_steps=7))
        for mode in AutoresetMode
    ]
    first = [env.reset() for env in several if env.seed(0)]
    actions = np.random.default_rng(0).uniform(-1, 1, (40, 3, 2)).astype(np.float32)
    actions[:, 0] = [1.0, -2.0 / 3.0]
    ends = []
    for action in actions:
        steps = [env.step(action) for env in several]
        for other in (first, [step[0] for step in steps], [step[1] for step in steps], [step[2] for step in steps]):
            np.testing.assert_array_equal(other[0], other[1])
            np.testing.assert_array_equal(other[0], other[2])
        assert str(steps[0][3]) == str(steps[1][3]) == str(steps[2][3])
        ends.append(steps[0][2].tolist())
        for n in np.flatnonzero(steps[0][2]):
            np.testing.assert_array_equal(steps[0][0][n], [0.0, 0.0])
            assert steps[0][3][n]["terminal_observation"].any()
    assert [True, False, False] in ends
    assert [False, True, True] in ends or [True, True, True] in ends


@pytest.mark.parametrize(("goal", "solved"), [(0.0, True), (1.5, False)])
@pytest.mark.parametrize("batched", [True, False])
def test_evaluations_of_stable_baselines3_count_successes(
    goal: float, solved: bool, batched: bool, tmp_path: Path
) -> None:
    """`is_success`, which `EvalCallback` reads at the end of an episode."""
    task = {"goal_m": goal}
    env: Any = SB3VecEnv(vector(1, task=task)) if batched else Monitor(TaskEnv(ProbeFamily(), task=task))
    model = PPO("MlpPolicy", env, n_steps=10, batch_size=10, n_epochs=1, seed=0, device="cpu")
    for parameter in model.policy.parameters():
        parameter.data.zero_()  # it stays where it is, within 0.1 m of 0
    callback = EvalCallback(env, n_eval_episodes=3, eval_freq=1, log_path=str(tmp_path), verbose=0)
    model.set_logger(configure(None, []))
    callback.init_callback(model)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Evaluation environment is not wrapped with a ``Monitor``")
        callback.on_step()
    assert callback.evaluations_successes == [[solved] * 3]


def test_stable_baselines3_over_registered_environments() -> None:
    """make_vec's own mode, and the time limit that make adds."""
    env = SB3VecEnv(gymnasium.make_vec("quickstudy/Bandit-v0", num_envs=2, threads=1))  # type: ignore[arg-type]
    PPO("MlpPolicy", env, n_steps=25, batch_size=50, n_epochs=1, seed=0, device="cpu").learn(100)
    model = PPO(
        "MlpPolicy", gymnasium.make("quickstudy/Bandit-v0"), n_steps=25, n_epochs=1, batch_size=25, device="cpu"
    )
    model.learn(50)
    assert [episode["l"] for episode in model.ep_info_buffer or ()] == [10] * 5
