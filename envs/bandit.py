"""The `bandit` family: a row of machines, each pays with a probability of its own, and only so many pulls.

The Bernoulli bandit of the RL² paper (Duan et al. 2016, arXiv:1611.02779, section 3.1). What has been paid is seen in
the reward alone, so it has to be remembered; `envs.bandit_value` knows the best return that remembering can earn.
"""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np

from envs.bandit_scene import bandit_model, plain_bandit_model
from envs.errors import UserError
from envs.task import Parameter, Simulation, Task, TaskError, TaskFamily

MAX_ARMS, MAX_PULLS = 100, 10_000
OOD_EXTREME = 0.1  # out of distribution, an arm nearly always or nearly never pays
LEVER_TRAVEL = 1.1  # rad that a pulled lever turns


@dataclass(frozen=True)
class BanditTask(Task):
    """probabilities: with which each arm pays."""

    probabilities: tuple[float, ...]


class BanditFamily(TaskFamily[BanditTask]):
    """Reward of a step: `payout`, 1 where the arm of the largest action pays and 0 where it does not. Success: the last
    pull was of a best arm."""

    version = "1"
    task_type = BanditTask
    parameters = (
        Parameter("probabilities", "", "with which each arm pays", (0.0, 1.0), ((0.0, OOD_EXTREME), (0.9, 1.0))),
    )
    timestep = 0.25
    frame_skip = 1
    reward_terms = ("payout",)

    def __init__(self, arms: int = 5, pulls: int = 10) -> None:
        """arms: how many there are to choose from; pulls: the length of an episode. Raises `UserError`."""
        if not 2 <= arms <= MAX_ARMS or not 1 <= pulls <= MAX_PULLS:
            raise UserError(
                f"a bandit has from 2 to {MAX_ARMS} arms and from 1 to {MAX_PULLS} pulls, got {arms} and {pulls}"
            )
        self.name = "bandit" if (arms, pulls) == (5, 10) else f"bandit-{arms}x{pulls}"
        self.arms = self.action_size = self.feature_size = arms
        self.horizon = self.reset_noise_size = pulls
        self.observation_size = arms + 1

    # -- tasks ---------------------------------------------------------------------------------------------------------

    def draw(self, rng: np.random.Generator, ood: bool) -> BanditTask:
        probability = rng.random(self.arms)
        if ood:
            probability = OOD_EXTREME * probability + (1.0 - OOD_EXTREME) * (rng.random(self.arms) < 0.5)
        return BanditTask(tuple(probability.round(4).tolist()))

    def validate(self, task: BanditTask) -> None:
        if len(task.probabilities) != self.arms:
            raise TaskError(
                f"{self.name} task, parameter 'probabilities' must hold {self.arms}, got {len(task.probabilities)}"
            )
        for value in task.probabilities:
            if not 0.0 <= value <= 1.0:
                raise TaskError(f"{self.name} task, parameter 'probabilities' must be from 0 to 1, got {value:g}")

    def features(self, task: BanditTask) -> np.ndarray:
        return np.array(task.probabilities, dtype=np.float32)

    # -- physics -------------------------------------------------------------------------------------------------------

    def model(self, task: BanditTask, visual: bool = False) -> mujoco.MjModel:
        return bandit_model(task.probabilities) if visual else plain_bandit_model(self.arms)

    def constants(self, task: BanditTask, model: mujoco.MjModel) -> dict[str, np.ndarray | float]:
        return {"probabilities": np.array(task.probabilities)}

    def reset(self, sim: Simulation, ids: np.ndarray, noise: np.ndarray) -> None:
        sim.qpos[ids] = 0.0
        sim.qvel[ids] = 0.0
        sim.memory("luck", self.horizon)[ids] = noise
        sim.memory("pulled", self.arms)[ids] = 0.0
        sim.memory("payout")[ids] = 0.0

    def control(self, sim: Simulation, action: np.ndarray) -> None:
        everyone, arm = np.arange(sim.size), action.argmax(axis=1)
        luck = sim.memory("luck", self.horizon)[everyone, np.minimum(sim.step, self.horizon - 1)]
        pulled = sim.memory("pulled", self.arms)
        pulled[:] = 0.0
        pulled[everyone, arm] = 1.0
        sim.memory("payout")[:] = luck < sim.constants["probabilities"][everyone, arm]
        sim.qvel[:] = (LEVER_TRAVEL * pulled - sim.qpos) / self.timestep  # there after one physics step

    def observe(self, sim: Simulation) -> np.ndarray:
        return np.column_stack([sim.memory("pulled", self.arms), 1.0 - sim.step / self.horizon])

    def reward(self, sim: Simulation, action: np.ndarray) -> dict[str, np.ndarray]:
        return {"payout": sim.memory("payout").copy()}

    def success(self, sim: Simulation) -> np.ndarray:
        probabilities = sim.constants["probabilities"]
        best = probabilities == probabilities.max(axis=1, keepdims=True)
        right: np.ndarray = (best & (sim.memory("pulled", self.arms) > 0.0)).any(axis=1)
        return right

    def scripted(self, sim: Simulation) -> np.ndarray:
        probabilities = sim.constants["probabilities"]
        return np.where(np.arange(self.arms) == probabilities.argmax(axis=1)[:, None], 1.0, -1.0)
