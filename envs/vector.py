"""Many tasks of a family at once, as gymnasium knows vector environments, on the batched simulator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from envs.errors import UserError
from envs.families import make_family
from envs.gymnasium_env import as_task, checked_options, checked_render_mode, checked_split, clipped, single_spaces
from envs.rendering import TaskRenderer
from envs.simulation import Step, TaskBatch
from envs.task import Task, TaskFamily


class TaskVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """N environments, each with a task of its own, on one `TaskBatch`. Observations [N, O], rewards [N] float32.

    Tasks are drawn at the first reset and at each `reset(seed=...)`; other resets and autoresets keep them. An
    environment that ends is reset in the same step (`AutoresetMode.SAME_STEP`): its observation is that of the new
    episode, `infos["final_obs"]` and `infos["final_info"]` hold the end of the old one. `task` (JSON) is in the infos
    of `reset` and in `final_info`, `success` and `reward_terms` are in those of every step.

    reset options: `tasks`, N of them (`Task` or JSON); `task`, one for all; or `split`, from which to draw.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["rgb_array"],
        "render_fps": 25,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        family: str | TaskFamily[Any],
        num_envs: int = 1,
        tasks: Sequence[Task | Mapping[str, Any]] | None = None,
        task: Task | Mapping[str, Any] | None = None,
        split: str = "train",
        threads: int = 0,
        render_mode: str | None = None,
        width: int = 640,
        height: int = 480,
    ) -> None:
        """tasks, task, split: as the reset options, for resets that give none. threads: 0 for all processors.

        Raises `UserError`.
        """
        if num_envs < 1:
            raise UserError(f"num_envs must be at least 1, got {num_envs}")
        self.family = make_family(family) if isinstance(family, str) else family
        self.metadata = {**self.metadata, "render_fps": round(1.0 / self.family.control_seconds)}  # type: ignore[misc]
        self.render_mode = checked_render_mode(render_mode, self.metadata)
        self.num_envs = num_envs
        self.single_observation_space, self.single_action_space = single_spaces(self.family)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._threads = threads
        self._split = checked_split(split)
        given = {name: value for name, value in (("tasks", tasks), ("task", task)) if value is not None}
        self._tasks = self._tasks_from(checked_options(given, ("tasks", "task")))
        self._batch: TaskBatch | None = None
        self._seed = 0
        self._episodes = np.zeros(num_envs, dtype=np.int64)  # of each environment, under the present seed
        self._size = (width, height)
        self._renderers: list[TaskRenderer] = []

    @property
    def tasks(self) -> list[Task]:
        """The task of each environment; empty before the first reset."""
        return [] if self._batch is None else list(self._batch.tasks)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        options = dict(checked_options(options, ("tasks", "task", "split")))
        tasks = self._tasks_from(options)
        if tasks is None and (seed is not None or "split" in options or self._batch is None):
            split = checked_split(options.get("split", self._split))
            fixed = None if "split" in options else self._tasks
            tasks = fixed or self.family.sample(split, self.num_envs, self.np_random)
        if self._batch is None:
            assert tasks is not None
            self._batch = TaskBatch(self.family, tasks, threads=self._threads)
        elif tasks is not None and tasks != self._batch.tasks:
            self._batch.set_tasks(tasks)
            self._close_renderers()
        self._seed = int(self.np_random.integers(2**31))
        self._episodes[:] = 0
        observation = self._reset(np.arange(self.num_envs))
        return clipped(self.family, observation), self._task_info(np.ones(self.num_envs, dtype=bool))

    def _tasks_from(self, options: Mapping[str, Any]) -> list[Task] | None:
        if "task" in options:
            return [as_task(self.family, options["task"])] * self.num_envs
        if "tasks" not in options:
            return None
        values = options["tasks"]
        if not isinstance(values, Sequence) or len(values) != self.num_envs:
            count = len(values) if isinstance(values, Sequence) else type(values).__name__
            raise UserError(f"tasks must be a list of {self.num_envs}, one for each environment, got {count}")
        return [as_task(self.family, value) for value in values]

    def _reset(self, ids: np.ndarray) -> np.ndarray:
        """Start the next episode of environments `ids`; numbered apart, so that equal tasks start from other states."""
        assert self._batch is not None
        observation = self._batch.reset(self._seed, self._episodes[ids] * self.num_envs + ids, ids)
        self._episodes[ids] += 1
        return observation

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        if self._batch is None:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        step = self._batch.step(actions)
        observation = clipped(self.family, step.observation)
        done = step.terminated | step.truncated
        infos = self._step_info(step, ~done)
        if done.any():
            final = np.full(self.num_envs, None, dtype=object)
            for n in np.flatnonzero(done):
                final[n] = observation[n].copy()
            infos |= {"final_obs": final, "_final_obs": done.copy()}
            infos |= {"final_info": self._task_info(done) | self._step_info(step, done), "_final_info": done.copy()}
            observation = clipped(self.family, self._reset(np.flatnonzero(done)))
        return observation, step.reward, step.terminated, step.truncated, infos

    def _task_info(self, mask: np.ndarray) -> dict[str, Any]:
        tasks = np.full(self.num_envs, None, dtype=object)
        for n in np.flatnonzero(mask):
            tasks[n] = self._batch.tasks[n].to_json() if self._batch else None
        return {"task": tasks, "_task": mask.copy()}

    def _step_info(self, step: Step, mask: np.ndarray) -> dict[str, Any]:
        """Arrays [N] with the `_` masks that say where they hold, as gymnasium's vector environments have them."""
        terms: dict[str, np.ndarray] = {}
        for name, value in step.terms.items():
            terms |= {name: np.where(mask, value, 0.0), f"_{name}": mask.copy()}
        success = {"success": step.success & mask, "_success": mask.copy()}
        return success | {"reward_terms": terms, "_reward_terms": mask.copy()}

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle holds: all but the open renderers, which a copy opens anew."""
        return self.__dict__ | {"_renderers": []}

    def render(self) -> tuple[np.ndarray, ...] | None:
        """One picture of each environment, uint8 [height, width, 3]; none without a render mode."""
        if self.render_mode is None:
            return None
        if self._batch is None:
            raise gymnasium.error.ResetNeeded("call reset() before render()")
        if not self._renderers:
            self._renderers = [TaskRenderer(self.family, task, *self._size) for task in self._batch.tasks]
        qpos = self._batch.sim.qpos
        return tuple(renderer.frame(qpos[n]).copy() for n, renderer in enumerate(self._renderers))

    def close_extras(self, **kwargs: Any) -> None:
        self._close_renderers()

    def _close_renderers(self) -> None:
        for renderer in self._renderers:
            renderer.close()
        self._renderers = []
