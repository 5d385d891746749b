"""What the half-cheetahs and ants of the meta-RL literature share: gymnasium's models, goals, noise and marks.

The robots are read from the installed gymnasium package, so that their physics is the published one and stays so.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, ClassVar, TypeVar

import mujoco
import numpy as np

from envs.locomotion_scene import dress
from envs.task import Simulation, Task, TaskError, TaskFamily, uniform

SPEED_TOLERANCE = 0.2  # m/s from the goal, on average over the episode's second half, that counts as success
FASTEST_GOAL = 20.0  # m/s, beyond any of these robots
FRICTION_BOUNDS = (0.01, 5.0)
OBSERVED_TURN = 0.1  # of an angular velocity in rad/s: what makes it of order one, as all else that is observed

T = TypeVar("T", bound=Task)


@dataclass(frozen=True)
class GoalVelocityTask(Task):
    """goal_velocity: to run at, in m/s along x."""

    goal_velocity: float


class LocomotionFamily(TaskFamily[T]):
    """A robot of gymnasium's on level ground, in the later literature's form: 20 decisions a second for 10 s."""

    horizon = 200
    timestep = 0.01
    frame_skip = 5
    reward_bound = 100.0  # of a speed in m/s: no robot comes near it, so it binds on no physical state
    observation_limit = 1000.0  # likewise
    file: ClassVar[str]  # of the model, among gymnasium's
    friction: ClassVar[float]  # of the geoms in that file
    axes: ClassVar[int]  # 1 for a planar robot, 2 for one that goes where it likes: the first entries of qpos
    eye: ClassVar[Sequence[float]]  # of the camera, m from the robot

    @abstractmethod
    def marks(self, task: T) -> tuple[float, float]:
        """The direction (radians from +x) of a picture's arrows on the ground, and the metres between two of them."""

    def model(self, task: T, visual: bool = False) -> mujoco.MjModel:
        """The same compiled model for all tasks of one friction: goals have no part in the physics."""
        friction = getattr(task, "friction", self.friction)
        if not visual:
            return _compiled(self.file, friction)
        spec = _spec(self.file, friction)
        dress(spec, self.eye, *self.marks(task))
        return _quietly(spec.compile)

    def start(self, sim: Simulation, ids: np.ndarray) -> None:
        """To be called by `reset` when the positions are there."""
        sim.ctrl[ids] = 0.0
        for name in ("start", "before", "halfway"):
            sim.memory(name, self.axes)[ids] = sim.qpos[ids, : self.axes]

    def control(self, sim: Simulation, action: np.ndarray) -> None:
        place = sim.qpos[:, : self.axes]
        sim.memory("before", self.axes)[:] = place
        np.copyto(sim.memory("halfway", self.axes), place, where=(sim.step == self.horizon // 2)[:, None])
        sim.ctrl[:] = action

    def covered(self, sim: Simulation) -> np.ndarray:
        """[N, axes] metres from the start of the episode."""
        distance: np.ndarray = sim.qpos[:, : self.axes] - sim.memory("start", self.axes)
        return distance

    def velocity(self, sim: Simulation) -> np.ndarray:
        """[N, axes] velocity of the torso, m/s, on average over the control step."""
        velocity: np.ndarray = (sim.qpos[:, : self.axes] - sim.memory("before", self.axes)) / self.control_seconds
        return velocity

    def speed(self, sim: Simulation) -> np.ndarray:
        """[N] m/s along x that the reward goes by."""
        return self.velocity(sim)[:, 0]

    @abstractmethod
    def velocity_reward(self, sim: Simulation) -> np.ndarray:
        """[N] the reward's `velocity` term, m/s."""

    def bounded(self, reward: np.ndarray) -> np.ndarray:
        return np.clip(reward, -self.reward_bound, self.reward_bound)

    def check_friction(self, friction: float) -> None:
        """Raise `TaskError` for a friction that no ground has."""
        low, high = FRICTION_BOUNDS
        if not low <= friction <= high:
            raise TaskError(
                f"{self.name} task, parameter 'friction' must be from {low:g} to {high:g}, got {friction:g}"
            )


class VelocityFamily(LocomotionFamily[GoalVelocityTask]):
    """Run at a goal velocity along x."""

    task_type = GoalVelocityTask
    feature_size = 1

    def draw(self, rng: np.random.Generator, ood: bool) -> GoalVelocityTask:
        (goal,) = self.parameters
        intervals: Any = goal.ood if ood else (goal.train,)
        return GoalVelocityTask(uniform(rng, *intervals))

    def validate(self, task: GoalVelocityTask) -> None:
        if abs(task.goal_velocity) > FASTEST_GOAL:
            raise TaskError(
                f"{self.name} task, parameter 'goal_velocity' must be from {-FASTEST_GOAL:g} to {FASTEST_GOAL:g}, "
                f"got {task.goal_velocity:g}"
            )

    def features(self, task: GoalVelocityTask) -> np.ndarray:
        return np.array([task.goal_velocity], dtype=np.float32)

    def constants(self, task: GoalVelocityTask, model: mujoco.MjModel) -> dict[str, np.ndarray | float]:
        return {"goal_velocity": task.goal_velocity}

    def marks(self, task: GoalVelocityTask) -> tuple[float, float]:
        """A robot that keeps the velocity passes an arrow every half second."""
        return 0.0, 0.5 * task.goal_velocity

    def velocity_reward(self, sim: Simulation) -> np.ndarray:
        """[N] minus the distance of the speed from the goal, m/s."""
        return self.bounded(-np.abs(self.speed(sim) - sim.constants["goal_velocity"]))

    def success(self, sim: Simulation) -> np.ndarray:
        steps = sim.step - self.horizon // 2
        seconds = np.maximum(steps, 1) * self.control_seconds
        average = (sim.qpos[:, 0] - sim.memory("halfway", self.axes)[:, 0]) / seconds
        near = np.abs(average - sim.constants["goal_velocity"]) < SPEED_TOLERANCE
        return near & (steps > 0) & ~self.terminated(sim)


def normal(noise: np.ndarray) -> np.ndarray:
    """Standard normal numbers [n, 2 m] from uniform ones [n, 2 m] in [0, 1), by the Box-Muller transform."""
    half = noise.shape[1] // 2
    radius = np.sqrt(-2.0 * np.log1p(-noise[:, :half]))
    angle = 2.0 * np.pi * noise[:, half:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def control_cost(action: np.ndarray, weight: float) -> np.ndarray:
    """[N] the reward -weight |a|^2 of actions [N, A]."""
    cost: np.ndarray = -weight * np.einsum("na,na->n", action, action)
    return cost


@cache
def _compiled(file: str, friction: float) -> mujoco.MjModel:
    return _quietly(_spec(file, friction).compile)


def _spec(file: str, friction: float) -> mujoco.MjSpec:
    spec: mujoco.MjSpec = _quietly(mujoco.MjSpec.from_string, _xml(file))
    for geom in spec.geoms:  # all of them: of two that touch, MuJoCo takes the larger friction
        geom.friction = [friction, *geom.friction[1:]]
        geom.material = ""
    for look in (*spec.materials, *spec.textures):
        spec.delete(look)
    return spec


@cache
def _xml(file: str) -> str:
    return (resources.files("gymnasium") / "envs" / "mujoco" / "assets" / file).read_text()


def _quietly(make: Callable[..., Any], *arguments: Any) -> Any:
    """Without the warning that `settotalmass`, which the published half-cheetah has, is deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "compiler attribute 'settotalmass'", UserWarning)
        return make(*arguments)
