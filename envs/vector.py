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
from envs.vector_infos import columns, masked, rows


class TaskVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """N environments, each with a task of its own, on one `TaskBatch`.

    Observations [N, O] float32, actions [N, A], rewards [N] float64; all of it, infos included, in the form in which
    gymnasium's `SyncVectorEnv` gives the same environments. `task` (a dict of arrays [N], one for each of the task's
    values), `success`, `is_success` and `reward_terms` are in the infos of every step, `task` alone in those of a
    reset. Tasks are drawn at the first reset and at each `reset(seed=...)`; other resets and autoresets keep them.

    What becomes of an environment that has ended is `autoreset_mode`, an `AutoresetMode` or its value:

    - "NextStep": the next step resets it, whatever its action, and earns 0;
    - "SameStep": it is reset in the step that ended it, `infos["final_obs"]` and `infos["final_info"]` are of the end;
    - "Disabled": `reset(options={"reset_mask": ended})` has to come before the next step.

    reset options: `tasks`, N of them (`Task`s or JSON, or `infos["task"]`); `task`, one for all; `split`, from which to
    draw; or `reset_mask` [N] bool: the next episode of these environments, with their tasks, whatever the mode.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]
        "render_modes": ["rgb_array"],
        "render_fps": 25,
        "autoreset_mode": AutoresetMode.NEXT_STEP,
    }

    def __init__(
        self,
        family: str | TaskFamily[Any],
        num_envs: int = 1,
        tasks: Sequence[Task | Mapping[str, Any]] | Mapping[str, Any] | None = None,
        task: Task | Mapping[str, Any] | None = None,
        split: str = "train",
        threads: int = 0,
        render_mode: str | None = None,
        width: int = 640,
        height: int = 480,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        max_episode_steps: int | None = None,
    ) -> None:
        """tasks, task, split: as the reset options, for resets that give none. threads: 0 for all processors.

        max_episode_steps: truncate before the family's horizon, which is the most; None or -1 for the horizon.
        Raises `UserError`.
        """
        if num_envs < 1:
            raise UserError(f"num_envs must be at least 1, got {num_envs}")
        self.family = make_family(family) if isinstance(family, str) else family
        self._mode = checked_mode(autoreset_mode)
        self.metadata = {  # type: ignore[misc]
            **self.metadata,
            "render_fps": round(1.0 / self.family.control_seconds),
            "autoreset_mode": self._mode,
        }
        self.render_mode = checked_render_mode(render_mode, self.metadata)
        self.num_envs = num_envs
        self.single_observation_space, self.single_action_space = single_spaces(self.family)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._limit = checked_limit(max_episode_steps, self.family.horizon)
        self._threads = threads
        self._split = checked_split(split)
        given = {name: value for name, value in (("tasks", tasks), ("task", task)) if value is not None}
        self._tasks = self._tasks_from(checked_options(given, ("tasks", "task")))
        self._batch: TaskBatch | None = None
        self._seed = 0
        self._episodes = np.zeros(num_envs, dtype=np.int64)  # of each environment, under the present seed
        self._ended = np.zeros(num_envs, dtype=bool)  # and not been reset yet
        self._observation = np.zeros(self.observation_space.shape or (), dtype=np.float32)  # the last
        self._values: dict[str, np.ndarray] = {}  # of the tasks, as infos have them
        self._size = (width, height)
        self._renderers: list[TaskRenderer] = []

    @property
    def tasks(self) -> list[Task]:
        """The task of each environment; empty before the first reset."""
        return [] if self._batch is None else list(self._batch.tasks)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        options = dict(checked_options(options, ("tasks", "task", "split", "reset_mask")))
        if "reset_mask" in options:
            return self._reset_some(options["reset_mask"], seed)
        super().reset(seed=seed)
        tasks = self._tasks_from(options)
        if tasks is None and (seed is not None or "split" in options or self._batch is None):
            split = checked_split(options.get("split", self._split))
            fixed = None if "split" in options else self._tasks
            tasks = fixed or self.family.sample(split, self.num_envs, self.np_random)
        if tasks is not None:
            self._set_tasks(tasks)
        self._seed = int(self.np_random.integers(2**31))
        self._episodes[:] = 0
        everyone = np.ones(self.num_envs, dtype=bool)
        self._start(everyone)
        return self._observation.copy(), masked({"task": self._values}, everyone)

    def _set_tasks(self, tasks: list[Task]) -> None:
        if self._batch is None:
            self._batch = TaskBatch(self.family, tasks, threads=self._threads)
        elif tasks != self._batch.tasks:
            self._batch.set_tasks(tasks)
            self._close_renderers()
        self._values = columns(tasks)

    def _tasks_from(self, options: Mapping[str, Any]) -> list[Task] | None:
        if "task" in options:
            return [as_task(self.family, options["task"])] * self.num_envs
        if "tasks" not in options:
            return None
        return [as_task(self.family, value) for value in rows(options["tasks"], self.num_envs)]

    def _reset_some(self, mask: Any, seed: int | None) -> tuple[np.ndarray, dict[str, Any]]:
        """The observations of all, after a new episode began where `mask` [N] says so."""
        if self._batch is None:
            raise gymnasium.error.ResetNeeded("call reset() before a reset with a reset_mask")
        if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.shape != (self.num_envs,) or not mask.any():
            got = f"{mask.dtype} of shape {mask.shape}" if isinstance(mask, np.ndarray) else type(mask).__name__
            raise UserError(f"reset_mask must be an array of {self.num_envs} bools, one of them True, got {got}")
        if seed is not None:
            raise UserError("reset_mask goes on with the episodes of the present seed: give no seed with it")
        self._start(mask)
        return self._observation.copy(), masked({"task": self._values}, mask)

    def _start(self, mask: np.ndarray) -> None:
        """Begin the next episode of the environments in `mask`; numbered apart, so that equal tasks start apart."""
        assert self._batch is not None
        ids = np.flatnonzero(mask)
        observation = self._batch.reset(self._seed, self._episodes[ids] * self.num_envs + ids, ids)
        self._observation[ids] = clipped(self.family, observation[ids])
        self._episodes[ids] += 1
        self._ended[ids] = False

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        if self._batch is None:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        due = self._ended.copy()
        if self._mode is AutoresetMode.DISABLED and due.any():
            which = ", ".join(map(str, np.flatnonzero(due)))
            raise gymnasium.error.ResetNeeded(f"call reset() with a reset_mask: environments {which} have ended")
        step = self._batch.step(actions)
        terminated = step.terminated & ~due
        truncated = (self._batch.sim.step >= self._limit) & ~due
        self._observation = clipped(self.family, step.observation)
        self._ended = terminated | truncated
        if due.any():
            self._start(due)
        infos = self._infos(step, ~due)
        if self._mode is AutoresetMode.SAME_STEP and self._ended.any():
            infos = self._autoreset(step)
        self._batch.freeze(self._ended)
        return self._observation.copy(), step.reward.astype(np.float64), terminated, truncated, infos

    def _autoreset(self, step: Step) -> dict[str, Any]:
        """Start anew where an episode has just ended; the infos of that step."""
        ended = self._ended.copy()
        final = np.full(self.num_envs, None, dtype=object)
        for n in np.flatnonzero(ended):
            final[n] = self._observation[n].copy()
        infos: dict[str, Any] = {"final_obs": final, "_final_obs": ended.copy()}
        infos |= {"final_info": self._infos(step, ended, ended), "_final_info": ended.copy()}
        self._start(ended)
        return infos | self._infos(step, ~ended)

    def _infos(self, step: Step, stepped: np.ndarray, told: np.ndarray | None = None) -> dict[str, Any]:
        """The tasks of environments `told` [N] (all of them by default), and what the step of `stepped` [N] came to."""
        infos = masked({"task": self._values}, np.ones(self.num_envs, dtype=bool) if told is None else told)
        if stepped.any():
            terms = {name: value.astype(np.float64) for name, value in step.terms.items()}
            infos |= masked({"success": step.success, "is_success": step.success, "reward_terms": terms}, stepped)
        return infos

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


def checked_mode(mode: AutoresetMode | str) -> AutoresetMode:
    """The autoreset mode, if there is one of that value. Raises `UserError`."""
    try:
        return AutoresetMode(mode)
    except ValueError:
        raise UserError(f"unknown autoreset mode '{mode}': use {', '.join(m.value for m in AutoresetMode)}") from None


def checked_limit(steps: int | None, horizon: int) -> int:
    """The steps after which an episode is truncated. Raises `UserError` where there are none."""
    if steps is None or steps == -1:
        return horizon
    if steps < 1:
        raise UserError(f"max_episode_steps must be at least 1, or -1 for the horizon of {horizon}, got {steps}")
    return min(steps, horizon)
