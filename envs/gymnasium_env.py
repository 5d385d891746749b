"""One environment of one task of a family, as gymnasium knows environments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium.spaces import Box

from envs.errors import UserError
from envs.families import make_family
from envs.rendering import TaskRenderer
from envs.simulation import TaskBatch, as_actions
from envs.task import SPLITS, Task, TaskFamily


class TaskEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """A task of a family, drawn anew at each reset unless one is given.

    Observations [O] float32, actions [A] float32 in [-1, 1]. `truncated` is the horizon of the family; `terminated` is
    the family's own end of an episode (fallen, arrived), a physics fault or a non-finite action. `info` has `task` (as
    `Task.to_json` writes it), and after a step `success` (also as `is_success`, which stable-baselines3 counts) and
    `reward_terms`. `reset(seed=...)` decides the task drawn and the initial state.

    reset options: `task`, a `Task` or its JSON; or `split`, from which to draw one.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 25}  # type: ignore[misc]

    def __init__(
        self,
        family: str | TaskFamily[Any],
        task: Task | Mapping[str, Any] | None = None,
        split: str = "train",
        render_mode: str | None = None,
        width: int = 640,
        height: int = 480,
    ) -> None:
        """task: used at every reset that does not name another; split: drawn from otherwise. Raises `UserError`."""
        self.family = make_family(family) if isinstance(family, str) else family
        self.metadata = {**self.metadata, "render_fps": round(1.0 / self.family.control_seconds)}  # type: ignore[misc]
        self.render_mode = checked_render_mode(render_mode, self.metadata)
        self.observation_space, self.action_space = single_spaces(self.family)
        self._task = None if task is None else as_task(self.family, task)
        self._split = checked_split(split)
        self._size = (width, height)
        self._batch: TaskBatch | None = None
        self._renderer: TaskRenderer | None = None

    @property
    def task(self) -> Task | None:
        """The task of the present episode; none before the first reset."""
        return None if self._batch is None else self._batch.tasks[0]

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        task = self._choose_task(checked_options(options, ("task", "split")))
        if self._batch is None:
            self._batch = TaskBatch(self.family, [task], threads=1)
        elif task != self.task:
            self._batch.set_tasks([task])
            self._close_renderer()
        observation = self._batch.reset(int(self.np_random.integers(2**31)))
        return clipped(self.family, observation)[0], {"task": task.to_json()}

    def _choose_task(self, options: Mapping[str, Any]) -> Task:
        if "task" in options:
            return as_task(self.family, options["task"])
        if "split" not in options and self._task is not None:
            return self._task
        drawn: Task = self.family.sample(checked_split(options.get("split", self._split)), 1, self.np_random)[0]
        return drawn

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        if self._batch is None:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        step = self._batch.step(as_actions(action, self.family.action_size)[None])
        info = {
            "task": self._batch.tasks[0].to_json(),
            "success": bool(step.success[0]),
            "is_success": bool(step.success[0]),
            "reward_terms": {name: float(value[0]) for name, value in step.terms.items()},
        }
        done = bool(step.terminated[0]), bool(step.truncated[0])
        return clipped(self.family, step.observation)[0], float(step.reward[0]), *done, info

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle holds: all but the open renderer, which a copy opens anew."""
        return self.__dict__ | {"_renderer": None}

    def render(self) -> np.ndarray | None:
        """The task as it stands: uint8 [height, width, 3]; none without a render mode."""
        if self.render_mode is None:
            return None
        if self._batch is None:
            raise gymnasium.error.ResetNeeded("call reset() before render()")
        if self._renderer is None:
            self._renderer = TaskRenderer(self.family, self._batch.tasks[0], *self._size)
        return self._renderer.frame(self._batch.sim.qpos[0]).copy()

    def close(self) -> None:
        self._close_renderer()

    def _close_renderer(self) -> None:
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


def single_spaces(family: TaskFamily[Any]) -> tuple[Box, Box]:
    """The observation and action space of one environment."""
    limit = family.observation_limit
    observation = Box(-limit, limit, (family.observation_size,), np.float32)
    return observation, Box(-1.0, 1.0, (family.action_size,), np.float32)


def clipped(family: TaskFamily[Any], observation: np.ndarray) -> np.ndarray:
    """The observations within the space that `single_spaces` declares."""
    return np.clip(observation, -family.observation_limit, family.observation_limit)


def as_task(family: TaskFamily[Any], value: Any) -> Task:
    """A `Task` of this family from a task or its JSON. Raises `UserError` for anything else."""
    if isinstance(value, Task):
        if not isinstance(value, family.task_type):
            raise UserError(f"{family.name} takes a {family.task_type.__name__}, got a {type(value).__name__}")
        value = value.to_json()
    if not isinstance(value, Mapping):
        raise UserError(f"a task is a {family.task_type.__name__} or its JSON object, got {type(value).__name__}")
    task: Task = family.task_from_json(value)
    return task


def checked_split(split: Any) -> Any:
    """The split, if there is one of that name. Raises `UserError`."""
    if split not in SPLITS:
        raise UserError(f"unknown split '{split}': use one of {', '.join(SPLITS)}")
    return split


def checked_options(options: Mapping[str, Any] | None, known: tuple[str, ...]) -> Mapping[str, Any]:
    """The reset options, if all are known and at most one is given. Raises `UserError`."""
    options = options or {}
    for name in options:
        if name not in known:
            raise UserError(f"reset has no option '{name}': use {' or '.join(known)}")
    if len(options) > 1:
        raise UserError(f"reset takes one of the options {' and '.join(options)}, not both")
    return options


def checked_render_mode(mode: str | None, metadata: Mapping[str, Any]) -> str | None:
    """The render mode, if it is one that these environments have. Raises `UserError`."""
    if mode is not None and mode not in metadata["render_modes"]:
        raise UserError(f"unknown render mode '{mode}': use {', '.join(metadata['render_modes'])}")
    return mode
