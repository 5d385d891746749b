"""The batched simulator as stable-baselines3 knows vector environments: `PPO("MlpPolicy", SB3VecEnv(...))`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvStepReturn

from envs.vector import TaskVectorEnv


class SB3VecEnv(VecEnv):
    """Wraps a `TaskVectorEnv` of any autoreset mode. Observations [N, O], rewards [N] float32, dones [N] bool.

    stable-baselines3 wants an environment that has ended to be reset in the same step, so that is done here. `infos[n]`
    of that step has `terminal_observation`, `TimeLimit.truncated`, `is_success`, `task`, the last `reward_terms` and
    `episode` (`r`, its return; `l`, its length), which stable-baselines3 logs.
    """

    def __init__(self, env: TaskVectorEnv) -> None:
        self.env = env
        self._actions = np.zeros(env.action_space.shape or (), dtype=np.float32)
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, dtype=np.int64)
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> np.ndarray:
        """Start new episodes. `seed(n)` and `set_options({...})` before it act as `TaskVectorEnv.reset`'s arguments."""
        observation, _ = self.env.reset(seed=self._seeds[0], options=self._options[0] or None)
        self.reset_infos = [{"task": task.to_json()} for task in self.env.tasks]
        self._reset_seeds()
        self._reset_options()
        self._returns[:] = 0.0
        self._lengths[:] = 0
        return observation

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        observation, reward, terminated, truncated, infos = self.env.step(self._actions)
        done = terminated | truncated
        self._returns += reward
        self._lengths += 1
        rows: list[dict[str, Any]] = [{"TimeLimit.truncated": False} for _ in range(self.num_envs)]
        if done.any():
            final, last = infos.get("final_obs", observation), infos.get("final_info", infos)
            for n in np.flatnonzero(done):
                self.reset_infos[n] = {"task": self.env.tasks[n].to_json()}
                rows[n] = {
                    "terminal_observation": final[n].copy(),
                    "TimeLimit.truncated": bool(truncated[n] and not terminated[n]),
                    "is_success": bool(last["success"][n]),
                    "reward_terms": {
                        name: float(last["reward_terms"][name][n]) for name in self.env.family.reward_terms
                    },
                    "episode": {"r": float(self._returns[n]), "l": int(self._lengths[n])},
                    **self.reset_infos[n],
                }
            if self.env.metadata["autoreset_mode"] is not AutoresetMode.SAME_STEP:
                observation, _ = self.env.reset(options={"reset_mask": done})
        self._returns[done] = 0.0
        self._lengths[done] = 0
        return observation, reward.astype(np.float32), done, rows

    def close(self) -> None:
        self.env.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        return self.env.render() or [None] * self.num_envs

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        value = getattr(self.env, attr_name)
        return [value for _ in self._indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Raises AttributeError: the environments are one simulation, and none has attributes of its own."""
        raise AttributeError(f"'{attr_name}' cannot be set: choose tasks with set_options, states with seed")

    def env_method(self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any) -> list[Any]:
        """Raises AttributeError: the environments are one simulation, and none has methods of its own."""
        raise AttributeError(f"'{method_name}' cannot be called in single environments: they are one simulation")

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        return [False for _ in self._indices(indices)]

    def _indices(self, indices: VecEnvIndices) -> Iterable[int]:
        return self._get_indices(indices)
