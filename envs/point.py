"""The `point` family: a point on a plane looks for a goal that it cannot see.

The 2D navigation task of the MAML paper (Finn, Abbeel and Levine 2017, arXiv:1703.03400, section 5.3): from the origin,
the goal anywhere in the unit square around it, each step a displacement of up to 0.1 in x and in y.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import mujoco
import numpy as np

import assets
from envs.task import Parameter, Simulation, Task, TaskError, TaskFamily, uniform

STEP_LENGTH = 0.1  # m in x and in y under a full action
ARRIVED = 0.01  # m from the goal in x and in y at which the episode ends
TRAIN_LIMIT, OOD_LIMIT = 0.5, 1.0  # m from the start in x and in y


@dataclass(frozen=True)
class PointTask(Task):
    """goal_x_m, goal_y_m: where the goal is, seen from the start."""

    goal_x_m: float
    goal_y_m: float


class PointFamily(TaskFamily[PointTask]):
    """Reward of a step: `distance`, minus the metres to the goal after the move. Success: arrived, within `ARRIVED` of
    the goal in x and in y, which ends the episode."""

    name = "point"
    version = "1"
    task_type = PointTask
    parameters = (
        Parameter("goal_x_m", "m", "the goal, seen from the start", (-0.5, 0.5), ((-1.0, 1.0),)),
        Parameter("goal_y_m", "m", "the goal, seen from the start", (-0.5, 0.5), ((-1.0, 1.0),)),
    )
    horizon = 100
    timestep = (
        0.0625  # a power of two: a physics step of a velocity of STEP_LENGTH / timestep moves STEP_LENGTH exactly
    )
    frame_skip = 1
    observation_size = 2
    action_size = 2
    reset_noise_size = 0
    reward_terms = ("distance",)
    reward_bound = 16.0  # ten metres away in both directions, and the goal on the other side
    feature_size = 2

    # -- tasks ---------------------------------------------------------------------------------------------------------

    def draw(self, rng: np.random.Generator, ood: bool) -> PointTask:
        limit = OOD_LIMIT if ood else TRAIN_LIMIT
        while True:
            task = PointTask(uniform(rng, (-limit, limit)), uniform(rng, (-limit, limit)))
            if not ood or max(abs(task.goal_x_m), abs(task.goal_y_m)) > TRAIN_LIMIT:
                return task

    def validate(self, task: PointTask) -> None:
        for name in ("goal_x_m", "goal_y_m"):
            value = getattr(task, name)
            if abs(value) > 4.0:
                raise TaskError(f"{self.name} task, parameter '{name}' must be from -4 to 4, got {value:g}")

    def features(self, task: PointTask) -> np.ndarray:
        return np.array([task.goal_x_m, task.goal_y_m], dtype=np.float32)

    # -- physics -------------------------------------------------------------------------------------------------------

    def model(self, task: PointTask, visual: bool = False) -> mujoco.MjModel:
        if not visual:
            return _plain_model()
        spec = mujoco.MjSpec.from_string(_point_xml())
        spec.body("goal").pos = [task.goal_x_m, task.goal_y_m, 0.0]
        return spec.compile()

    def constants(self, task: PointTask, model: mujoco.MjModel) -> dict[str, np.ndarray | float]:
        return {"goal_x": task.goal_x_m, "goal_y": task.goal_y_m}

    def reset(self, sim: Simulation, ids: np.ndarray, noise: np.ndarray) -> None:
        sim.qpos[ids] = 0.0
        sim.qvel[ids] = 0.0

    def control(self, sim: Simulation, action: np.ndarray) -> None:
        sim.qvel[:] = action * (STEP_LENGTH / self.timestep)

    def observe(self, sim: Simulation) -> np.ndarray:
        return sim.qpos.copy()

    def _to_goal(self, sim: Simulation) -> np.ndarray:
        """[N, 2] metres from the point to the goal."""
        return np.column_stack([sim.constants["goal_x"], sim.constants["goal_y"]]) - sim.qpos

    def reward(self, sim: Simulation, action: np.ndarray) -> dict[str, np.ndarray]:
        return {"distance": -np.linalg.norm(self._to_goal(sim), axis=1)}

    def success(self, sim: Simulation) -> np.ndarray:
        arrived: np.ndarray = (np.abs(self._to_goal(sim)) < ARRIVED).all(axis=1)
        return arrived

    def terminated(self, sim: Simulation) -> np.ndarray:
        return self.success(sim)

    def scripted(self, sim: Simulation) -> np.ndarray:
        return np.clip(self._to_goal(sim) / STEP_LENGTH, -1.0, 1.0)


@cache
def _point_xml() -> str:
    return assets.path("point.xml").read_text()


@cache
def _plain_model() -> mujoco.MjModel:
    """One model for all tasks, without what only pictures need: the goal is no part of the physics."""
    spec = mujoco.MjSpec.from_string(_point_xml())
    for element in [*spec.geoms, *spec.textures, *spec.materials, *spec.lights]:
        if getattr(element, "name", "") != "point":
            spec.delete(element)
    return spec.compile()
