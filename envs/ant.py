"""Ants of the meta-RL literature: run in a direction, or at a speed, that nothing but the reward tells.

The robot is gymnasium's `ant.xml`, unchanged, with its Runge-Kutta integrator: 20 decisions a second, episodes of 10 s
that end early where the torso leaves the heights of 0.2 to 1 m. Observations are what was published: positions without
x and y, then velocities, the angular ones in units of 10 rad/s. The published cost of contacts is left out: the MuJoCo
of that time reported none to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import mujoco
import numpy as np

from envs.locomotion import OBSERVED_TURN, GoalVelocityTask, LocomotionFamily, VelocityFamily, control_cost, normal
from envs.task import Parameter, Simulation, Task, TaskError, uniform

FRICTION = 1.0  # of gymnasium's file
POSITIONS, VELOCITIES = 15, 14
REST = np.array([0.0, 0.0, 0.75, 1.0, *[0.0] * 11])  # qpos, from the file
HEALTHY_HEIGHT = (0.2, 1.0)  # m, of the torso
SUCCESS_DISTANCE = 5.0  # m in the goal's direction


@dataclass(frozen=True)
class AntDirTask(Task):
    """goal_direction_rad: to run in, from +x towards +y. friction: of the ground and the feet."""

    goal_direction_rad: float
    friction: float


T = TypeVar("T", bound=Task)


class _AntFamily(LocomotionFamily[T]):
    """What both ants share."""

    file = "ant.xml"
    friction = FRICTION
    axes = 2
    eye = (-2.2, -3.4, 3.0)
    observation_size = POSITIONS - 2 + VELOCITIES
    action_size = 8
    reset_noise_size = POSITIONS + VELOCITIES
    reward_terms = ("velocity", "control", "alive")
    control_weight: ClassVar[float]
    alive_reward: ClassVar[float]

    def reset(self, sim: Simulation, ids: np.ndarray, noise: np.ndarray) -> None:
        """Positions uniform within 0.1 of rest, velocities normal with 0.1, as gymnasium resets its ant."""
        qpos = REST + 0.2 * noise[:, :POSITIONS] - 0.1
        qpos[:, 3:7] /= np.linalg.norm(qpos[:, 3:7], axis=1, keepdims=True)
        sim.qpos[ids] = qpos
        sim.qvel[ids] = 0.1 * normal(noise[:, POSITIONS:])
        self.start(sim, ids)

    def observe(self, sim: Simulation) -> np.ndarray:
        return np.concatenate([sim.qpos[:, 2:], sim.qvel[:, :3], OBSERVED_TURN * sim.qvel[:, 3:]], axis=1)

    def reward(self, sim: Simulation, action: np.ndarray) -> dict[str, np.ndarray]:
        return {
            "velocity": self.velocity_reward(sim),
            "control": control_cost(action, self.control_weight),
            "alive": np.full(sim.size, self.alive_reward),
        }

    def terminated(self, sim: Simulation) -> np.ndarray:
        height = sim.qpos[:, 2]
        fallen: np.ndarray = (height < HEALTHY_HEIGHT[0]) | (height > HEALTHY_HEIGHT[1])
        return fallen


class AntDirFamily(_AntFamily[AntDirTask]):
    """Reward of a step, as in PEARL (arXiv 1903.08254): `velocity` = the torso's speed in the goal's direction over the
    step, `control` = -0.5 |a|^2, `alive` = 1. Success: 5 m covered in the direction, and not fallen. Training
    has every direction, so `ood` is slippery ground."""

    name = "ant-dir"
    version = "1"
    task_type = AntDirTask
    parameters = (
        Parameter("goal_direction_rad", "rad", "to run in, from +x", (0.0, 6.2832), ((0.0, 6.2832),)),
        Parameter("friction", "", "of the ground and the feet", (FRICTION, FRICTION), ((0.3, 0.6),)),
    )
    feature_size = 3
    control_weight = 0.5
    alive_reward = 1.0

    def draw(self, rng: np.random.Generator, ood: bool) -> AntDirTask:
        slippery: Any = self.parameters[1].ood
        direction = uniform(rng, (0.0, 2.0 * np.pi))
        return AntDirTask(direction, uniform(rng, *slippery) if ood else FRICTION)

    def validate(self, task: AntDirTask) -> None:
        self.check_friction(task.friction)
        if abs(task.goal_direction_rad) > 10.0:
            raise TaskError(
                f"{self.name} task, parameter 'goal_direction_rad' must be from -10 to 10, "
                f"got {task.goal_direction_rad:g}"
            )

    def features(self, task: AntDirTask) -> np.ndarray:
        return np.array([*_heading(task), (task.friction - FRICTION) / 0.5], dtype=np.float32)

    def constants(self, task: AntDirTask, model: mujoco.MjModel) -> dict[str, np.ndarray | float]:
        return {"heading": _heading(task)}

    def marks(self, task: AntDirTask) -> tuple[float, float]:
        return task.goal_direction_rad, 1.0

    def velocity_reward(self, sim: Simulation) -> np.ndarray:
        return self.bounded(_along(self.velocity(sim), sim.constants["heading"]))

    def success(self, sim: Simulation) -> np.ndarray:
        far_enough = _along(self.covered(sim), sim.constants["heading"]) >= SUCCESS_DISTANCE
        return far_enough & ~self.terminated(sim)


class AntVelFamily(VelocityFamily, _AntFamily[GoalVelocityTask]):
    """Reward of a step, as published with MAML (arXiv 1703.03400) and common since: `velocity` = -|v - goal| with the
    torso's speed v along x over the step, `control` = -0.005 |a|^2, `alive` = 1.05. Success: on average over the second
    half of the episode within 0.2 m/s of the goal, and not fallen."""

    name = "ant-vel"
    version = "1"
    parameters = (Parameter("goal_velocity", "m/s", "to run at", (0.0, 3.0), ((3.0, 4.0),)),)
    control_weight = 0.005
    alive_reward = 1.05


def _heading(task: AntDirTask) -> np.ndarray:
    return np.array([np.cos(task.goal_direction_rad), np.sin(task.goal_direction_rad)])


def _along(vectors: np.ndarray, heading: np.ndarray) -> np.ndarray:
    """[N] lengths of vectors [N, 2] along unit vectors [N, 2]."""
    length: np.ndarray = np.einsum("nd,nd->n", vectors, heading)
    return length
