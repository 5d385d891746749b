"""K tasks x E environments of one family, stepped together on `mujoco.batch.Batch`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mujoco
import mujoco.batch
import numpy as np

from envs.errors import UserError
from envs.task import Simulation, Task, TaskFamily

MAX_THREADS = 1024  # MuJoCo crashes where a thread cannot be started

BAD_STATES = [
    int(mujoco.mjtWarning.mjWARN_BADQPOS),
    int(mujoco.mjtWarning.mjWARN_BADQVEL),
    int(mujoco.mjtWarning.mjWARN_BADQACC),
    int(mujoco.mjtWarning.mjWARN_BADCTRL),
]


def _write_no_log_file() -> None:
    """MuJoCo would add a MUJOCO_LOG.TXT to the current folder at every diverged simulation; `faults` counts those."""
    config = mujoco.MjLogConfig.get()
    if config.logfile == "MUJOCO_LOG.TXT":  # the default: whoever named another wants one
        config.logto_file = False
        config.set()


_write_no_log_file()


@dataclass(frozen=True)
class Step:
    """One control step of N = K * E environments. Arrays are [N, ...], float32 or bool.

    terminated: the environment ended: its family says so (fallen, arrived), or through a fault: diverged physics, or
        an action, control, observation or reward that is not finite. From the next step (after a fault, from this one)
        until it is reset it stays frozen, with zero observation and reward and terminated set. So everything in here is
        finite.
    truncated: the horizon is reached. Nothing resets by itself.
    success: of the present state; of an environment that its family ended, that of the state in which it did; of a
        faulty one, never.
    """

    observation: np.ndarray
    reward: np.ndarray
    terms: dict[str, np.ndarray]
    terminated: np.ndarray
    truncated: np.ndarray
    success: np.ndarray


def as_actions(action: Any, *shape: int) -> np.ndarray:
    """The action as float64 of that shape, none other: the right count in a wrong layout would be other actions.

    Raises `UserError`.
    """
    try:
        array = np.asarray(action, dtype=np.float64)
    except (TypeError, ValueError):
        raise UserError(f"actions must be numbers of shape {shape}, got {type(action).__name__}") from None
    if array.shape != shape:
        raise UserError(f"actions must have shape {shape}, got {array.shape}")
    return array


def checked_shape(family: TaskFamily[Any], what: str, array: np.ndarray, *shape: int) -> np.ndarray:
    """An array that a family computed, if it has the shape that the family declares. Raises `UserError`."""
    if array.shape != shape:
        raise UserError(f"{family.name}: {what} must have shape {shape}, got {array.shape}")
    return array


class TaskBatch:
    """K tasks x E environments, ordered by task: environment n runs task n // E.

    `env_steps` counts the control steps of environments that were not frozen, since construction; `faults` counts the
    episodes that a diverged simulation ended, or an action, control, observation or reward that was not finite (not
    those that the family ended); an initial state that is not finite ends the episode at once. `features` [K, F]
    describe the tasks; `privileged` appends them to every observation, for the oracle.

    A deep copy or a pickle, taken at any moment, goes on with the same bits and shares nothing with the original.
    """

    def __init__(
        self,
        family: TaskFamily[Any],
        tasks: Sequence[Task],
        episodes: int = 1,
        *,
        threads: int = 0,
        privileged: bool = False,
        visual: bool = False,
    ) -> None:
        """threads: physics threads, 0 for all processors; the results do not depend on it."""
        if not 0 <= threads <= MAX_THREADS:
            raise UserError(f"threads must be from 0 (all processors) to {MAX_THREADS}, got {threads}")
        self.family = family
        self.privileged = privileged
        self.num_tasks, self.num_episodes = len(tasks), episodes
        self.size = self.num_tasks * episodes
        self.env_steps = 0
        self.faults = 0
        self._visual = visual
        self._threads = threads
        self.set_tasks(tasks)

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Put K other tasks in place of the present ones; `reset` has to follow. Counters go on."""
        if len(tasks) != self.num_tasks:
            raise ValueError(f"the batch holds {self.num_tasks} tasks, got {len(tasks)}")
        self.tasks = list(tasks)
        self.models = [self.family.model(task, self._visual) for task in tasks]
        per_task = [self.family.constants(task, model) for task, model in zip(tasks, self.models, strict=True)]
        constants = {
            name: np.repeat(np.array([row[name] for row in per_task], dtype=np.float64), self.num_episodes, axis=0)
            for name in per_task[0]
        }
        self._start_physics(constants)
        size = self.family.feature_size
        told = [checked_shape(self.family, "features", self.family.features(task), size) for task in tasks]
        self.features = np.stack(told)
        if self.privileged:
            self._told = np.repeat(self.features, self.num_episodes, axis=0)
        self._keys = [task.key for task in tasks]
        self._frozen = np.zeros(self.size, dtype=bool)
        self._success = np.zeros(self.size, dtype=bool)  # as of the last step that was not frozen

    def _start_physics(self, constants: dict[str, np.ndarray]) -> None:
        """A new batch over `models`, and the families' view of it."""
        repeat = self.num_episodes
        self._batch = mujoco.batch.Batch(self.models[0], nsim=self.size, nthread=self._threads)
        if any(model is not self.models[0] for model in self.models):  # a family may give all tasks one model
            self._batch.set_models([model for model in self.models for _ in range(repeat)])
        bind = self._batch.bind
        self.sim = Simulation(
            tasks=[task for task in self.tasks for _ in range(repeat)],
            constants=constants,
            qpos=bind("qpos"),
            qvel=bind("qvel"),
            ctrl=bind("ctrl"),
            sensordata=bind("sensordata"),
            step=np.zeros(self.size, dtype=np.int64),
            scratch={},
        )
        self._warnings = np.zeros(self.size, dtype=np.int64)

    def __getstate__(self) -> dict[str, Any]:
        """What a copy or a pickle holds: MuJoCo's batch cannot be copied, so the numbers in it stand for it."""
        state = self.__dict__.copy()
        del state["_batch"], state["sim"], state["_warnings"]
        physics = {"state": self._batch.state, "sensordata": self.sim.sensordata, "step": self.sim.step}
        return state | {"physics": physics, "constants": self.sim.constants, "scratch": self.sim.scratch}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Go on from the moment of the copy, to the same bits; `models` need no compiling."""
        physics, constants, scratch = (state.pop(name) for name in ("physics", "constants", "scratch"))
        self.__dict__.update(state)
        self._start_physics(constants)
        self._batch.state[:] = physics["state"]
        self.sim.step[:] = physics["step"]
        self.sim.scratch.update(scratch)
        sensordata = self.sim.sensordata
        sensordata.flags.writeable = True  # MuJoCo locks what it computes itself, and has not computed anything yet
        sensordata[:] = physics["sensordata"]
        sensordata.flags.writeable = False

    @property
    def observation_size(self) -> int:
        return self.family.observation_size + (self.family.feature_size if self.privileged else 0)

    def reset(self, seed: int, episode: int | np.ndarray = 0, ids: np.ndarray | None = None) -> np.ndarray:
        """Start episodes `episode` .. `episode + E - 1` of every task; returns [N, O].

        The initial state depends on (seed, the task's values, the episode's number) alone, never on K, E, the order of
        tasks or the number of threads. `ids` (ascending) resets those environments only; with an array [len(ids)] for
        `episode`, each plays the episode of its own number.
        """
        ids = np.arange(self.size) if ids is None else np.asarray(ids)
        numbers = episode if isinstance(episode, np.ndarray) else episode + ids % self.num_episodes
        noise = np.stack([self._noise(seed, int(n), int(number)) for n, number in zip(ids, numbers, strict=True)])
        self._batch.reset(ids, stage=mujoco.mjtStage.mjSTAGE_NONE.value)
        self.sim.step[ids] = 0
        self._frozen[ids] = False
        self._success[ids] = False
        self.family.reset(self.sim, ids, noise)
        self._warnings = self._warning_count()
        # All stages: a sensor of a stage left out would show what another environment felt on the same thread.
        self._batch.forward(ids, stage=mujoco.mjtStage.mjSTAGE_ACC.value)
        self._freeze_faulty(np.zeros(self.size, dtype=bool))
        observation = self._observe()
        self._refuse_non_finite(observation)
        return observation

    def _noise(self, seed: int, n: int, episode: int) -> np.ndarray:
        entropy = [seed, self._keys[n // self.num_episodes], episode]
        return np.random.default_rng(entropy).random(self.family.reset_noise_size)

    def step(self, action: np.ndarray) -> Step:
        """Advance every environment by one control step under action [N, A]; values outside [-1, 1] are clipped.

        Raises `UserError` for actions of another shape.
        """
        sim, family = self.sim, self.family
        action = as_actions(action, self.size, family.action_size)
        faulty = ~np.isfinite(action).all(axis=1) & ~self._frozen
        idle = faulty | self._frozen
        moving = np.flatnonzero(~idle) if idle.any() else None
        action = np.where(idle[:, None], 0.0, np.clip(action, -1.0, 1.0))
        for _ in range(family.control_repeat):
            family.control(sim, action)
            if not np.isfinite(sim.ctrl).all():  # MuJoCo would clip what is infinite to the control's range
                faulty |= ~np.isfinite(sim.ctrl).all(axis=1) & ~self._frozen
            if moving is not None and len(moving) == 0:
                break
            try:
                self._batch.step(moving, nstep=family.frame_skip)
            except mujoco.batch.SimulationError as error:
                faulty[error.ids] = True
        self.env_steps += int((~self._frozen).sum())
        sim.step[:] += 1
        self._freeze_faulty(faulty)

        observation = self._observe()
        terms, reward = self._reward(action)
        self._refuse_non_finite(observation, reward, terms)
        success = checked_shape(family, "success", family.success(sim), self.size)
        self._success = np.where(~self._frozen, success, self._success)
        self._frozen |= checked_shape(family, "terminated", family.terminated(sim), self.size)
        return Step(
            observation=observation,
            reward=reward,
            terms=terms,
            terminated=self._frozen.copy(),
            truncated=(sim.step >= family.horizon) & ~self._frozen,
            success=self._success.copy(),
        )

    def freeze(self, ended: np.ndarray) -> None:
        """Leave the environments `ended` [N] as they stand until they are reset, like those that their family ended."""
        self._frozen |= ended

    def _freeze_faulty(self, faulty: np.ndarray) -> None:
        """End the episodes of `faulty` [N] environments, and of those whose physics has just diverged."""
        sim = self.sim
        warnings = self._warning_count()
        diverged = (warnings > self._warnings) | ~np.isfinite(sim.qpos).all(axis=1) | ~np.isfinite(sim.qvel).all(axis=1)
        faulty |= diverged & ~self._frozen
        self._warnings = warnings
        if faulty.any():
            self._end_faulty(faulty)

    def _refuse_non_finite(
        self, observation: np.ndarray, reward: np.ndarray | None = None, terms: dict[str, np.ndarray] | None = None
    ) -> None:
        """End the episodes whose observation [N, O] or reward [N] is not finite, and make theirs zero.

        A sum that is finite has finite terms.
        """
        if np.isfinite(observation).all() and (reward is None or np.isfinite(reward).all()):
            return
        rewards = [] if reward is None else [reward, *(terms or {}).values()]
        faulty = ~np.isfinite(np.column_stack([observation, *rewards])).all(axis=1)
        self._end_faulty(faulty)
        for numbers in (observation, *rewards):
            numbers[faulty] = 0.0

    def _end_faulty(self, faulty: np.ndarray) -> None:
        """Count and freeze the `faulty` [N] environments, in a state that is finite."""
        self.faults += int(faulty.sum())
        self._frozen |= faulty
        self._success[faulty] = False
        self._batch.reset(np.flatnonzero(faulty), stage=mujoco.mjtStage.mjSTAGE_VEL.value)
        self._warnings = self._warning_count()

    def _warning_count(self) -> np.ndarray:
        """[N] how often MuJoCo found a bad position, velocity, acceleration or control (it then resets the data)."""
        counts: np.ndarray = self._batch.warning[:, BAD_STATES, 1].sum(axis=1)
        return counts

    def _observe(self) -> np.ndarray:
        with np.errstate(over="ignore"):  # what is too large for a float32 is infinite, and so a fault
            observation = self.family.observe(self.sim).astype(np.float32)
        checked_shape(self.family, "observations", observation, self.size, self.family.observation_size)
        if self.privileged:
            observation = np.concatenate([observation, self._told], axis=1, dtype=np.float32)
        observation[self._frozen] = 0.0
        return observation

    def _reward(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """The terms, each [N], and their sum [N]."""
        alive = ~self._frozen
        with np.errstate(over="ignore", invalid="ignore"):
            terms = {
                name: np.where(alive, checked_shape(self.family, name, value, self.size), 0.0).astype(np.float32)
                for name, value in self.family.reward(self.sim, action).items()
            }
            return terms, np.stack(list(terms.values())).sum(axis=0, dtype=np.float32)
