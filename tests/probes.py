"""Tiny tasks and agents with known answers, for tests of everything above them.

`ProbeFamily` is a slider on a rail with a hidden goal: the best return is known, an episode is ten steps, and a model
compiles in a millisecond. `ProbeLearner` is the smallest agent that adapts and can be meta-trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import mujoco
import numpy as np
import torch
from torch import Tensor

from agents.agent import Decision, Sizes, Trajectories, Transition
from envs.task import Parameter, Simulation, Task, TaskError, TaskFamily, uniform

SLIDER = """
<mujoco model="slider">
  <option timestep="0.02" gravity="0 0 0" integrator="implicitfast"/>
  <visual><global offwidth="640" offheight="480"/></visual>
  <worldbody>
    <light pos="0 0 3"/>
    <camera name="film" pos="0 -3 1.5" xyaxes="1 0 0 0 0.45 0.9"/>
    <geom name="rail" type="box" size="2 0.02 0.02" contype="0" conaffinity="0" rgba="0.6 0.6 0.6 1"/>
    <body name="slider">
      <joint name="slide" type="slide" axis="1 0 0"/>
      <geom name="block" type="box" size="0.1 0.1 0.1" mass="1" rgba="0.2 0.5 0.8 1"/>
    </body>
    <site name="goal" type="sphere" size="0.08" rgba="0.9 0.3 0.2 1"/>
  </worldbody>
  <actuator><velocity name="drive" joint="slide" kv="50" ctrlrange="-2 2"/></actuator>
</mujoco>
"""


@dataclass(frozen=True)
class ProbeTask(Task):
    """goal_m: where on the rail the reward is highest."""

    goal_m: float


class ProbeFamily(TaskFamily[ProbeTask]):
    """A slider driven at up to 2 m/s, ten steps of 0.1 s; reward = max(0, 1 - |x - goal|), the goal hidden."""

    name = "probe"
    version: ClassVar[str] = "1"
    task_type: ClassVar[type[Task]] = ProbeTask
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("goal_m", "m", "where the reward is highest", (-1.0, 1.0), ((-1.5, -1.1), (1.1, 1.5))),
    )
    horizon = 10
    timestep: ClassVar[float] = 0.02
    frame_skip: ClassVar[int] = 5
    observation_size = 3
    action_size = 1
    reset_noise_size = 1
    reward_terms: ClassVar[tuple[str, ...]] = ("near",)
    feature_size = 1

    def draw(self, rng: np.random.Generator, ood: bool) -> ProbeTask:
        return ProbeTask(uniform(rng, (-1.5, -1.1), (1.1, 1.5)) if ood else uniform(rng, (-1.0, 1.0)))

    def validate(self, task: ProbeTask) -> None:
        if abs(task.goal_m) > 2.0:
            raise TaskError(f"goal_m must lie on the rail, within 2 m, got {task.goal_m}")

    def features(self, task: ProbeTask) -> np.ndarray:
        return np.array([task.goal_m], dtype=np.float32)

    def model(self, task: ProbeTask, visual: bool = False) -> mujoco.MjModel:
        spec = mujoco.MjSpec.from_string(SLIDER)
        spec.site("goal").pos = [task.goal_m, 0.0, 0.2]
        return spec.compile()

    def constants(self, task: ProbeTask, model: mujoco.MjModel) -> dict[str, np.ndarray | float]:
        return {"goal": task.goal_m}

    def reset(self, sim: Simulation, ids: np.ndarray, noise: np.ndarray) -> None:
        sim.qpos[ids, 0] = 0.2 * (noise[:, 0] - 0.5)

    def control(self, sim: Simulation, action: np.ndarray) -> None:
        sim.ctrl[:] = 2.0 * action

    def observe(self, sim: Simulation) -> np.ndarray:
        return np.column_stack([sim.qpos[:, 0], sim.qvel[:, 0], 1.0 - sim.step / self.horizon])

    def distance(self, sim: Simulation) -> np.ndarray:
        """[N] metres between the slider and the goal."""
        return np.abs(sim.qpos[:, 0] - sim.constants["goal"])

    def reward(self, sim: Simulation, action: np.ndarray) -> dict[str, np.ndarray]:
        return {"near": np.clip(1.0 - self.distance(sim), 0.0, 1.0)}

    def success(self, sim: Simulation) -> np.ndarray:
        return self.distance(sim) < 0.1

    def scripted(self, sim: Simulation) -> np.ndarray:
        return np.clip(5.0 * (sim.constants["goal"] - sim.qpos[:, :1].T[0]), -1.0, 1.0)[:, None]


@dataclass(frozen=True)
class ProbeConfig:
    """Settings of `ProbeLearner`."""

    learning_rate: float = 0.05
    """Step size of Adam."""
    meta_batch_size: int = 4
    """Tasks in one iteration."""
    train_episodes: int = 4
    """Episodes of each task in one round."""
    rounds: int = 2
    """Rounds in one iteration."""
    poison_at: int = 0
    """Make the weights NaN at this update; 0 for never."""


@dataclass(frozen=True)
class ProbeMemory:
    """target [K, A]: where each task's goal is believed to be; generator: the source of exploration."""

    target: Tensor
    generator: torch.Generator


class ProbeLearner:
    """A servo towards a believed goal: action ~ N(gain * (target - x), 0.3).

    Adapting moves the target to the reward-weighted mean of the positions visited; the meta-update is one Adam step on
    the reward-weighted log-likelihood of the actions, which trains the gain.
    """

    name: ClassVar[str] = "probe"
    privileged: ClassVar[bool] = False
    config_type: ClassVar[type] = ProbeConfig

    def __init__(self, config: ProbeConfig, sizes: Sizes, generator: torch.Generator) -> None:
        self.config = config
        self.gain = torch.rand(sizes.action, generator=generator).requires_grad_()
        self.optimiser = torch.optim.Adam([self.gain], lr=config.learning_rate)
        self.updates = 0
        self.gain.grad = torch.zeros_like(self.gain)

    @property
    def episodes_per_round(self) -> int:
        return 2

    @property
    def meta_batch_size(self) -> int:
        return self.config.meta_batch_size

    @property
    def train_episodes(self) -> int:
        return self.config.train_episodes

    @property
    def rounds(self) -> int:
        return self.config.rounds

    def fresh(self, k: int, e: int, generator: torch.Generator) -> ProbeMemory:
        return ProbeMemory(torch.zeros(k, len(self.gain)), generator)

    def _distribution(self, target: Tensor, obs: Tensor) -> torch.distributions.Normal:
        return torch.distributions.Normal(self.gain * (target - obs[..., :1]), 0.3)

    def act(self, memory: ProbeMemory, obs: Tensor, explore: bool) -> tuple[Decision, ProbeMemory]:
        distribution = self._distribution(memory.target[:, None], obs)
        action = distribution.mean
        if explore:
            action = action + 0.3 * torch.randn(action.shape, generator=memory.generator)
        return Decision(action, distribution.log_prob(action).sum(-1), torch.zeros(obs.shape[:-1])), memory

    def observe(self, memory: ProbeMemory, transition: Transition) -> ProbeMemory:
        return memory

    def adapt(self, memory: ProbeMemory, trajectories: Trajectories) -> ProbeMemory:
        position = torch.cat([trajectories.obs[1:], trajectories.final_obs[None]])[..., 0]
        weight = torch.softmax((20.0 * trajectories.reward).transpose(0, 1).flatten(1), dim=1)
        target = (weight * position.transpose(0, 1).flatten(1)).sum(1)
        return replace(memory, target=target[:, None])

    def update(self, rounds: list[Trajectories], generator: torch.Generator, progress: float = 0.0) -> dict[str, float]:
        target = torch.zeros(rounds[0].obs.shape[1], len(self.gain))
        losses = []
        for trajectories in rounds:
            log_prob = self._distribution(target[None, :, None], trajectories.obs).log_prob(trajectories.action).sum(-1)
            jitter = 1e-3 * torch.randn(log_prob.shape, generator=generator)
            losses.append(-((trajectories.reward - trajectories.reward.mean() + jitter) * log_prob).mean())
            target = self.adapt(ProbeMemory(target, generator), trajectories).target
        loss = torch.stack(losses).sum()
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.updates += 1
        if self.updates == self.config.poison_at:
            self.gain.data.fill_(float("nan"))
        return {"train/loss": loss.item()}

    def state(self) -> dict[str, Tensor]:
        state: dict[str, Any] = {"policy.gain": self.gain.detach().clone(), "updates": torch.tensor(self.updates)}
        for name, value in self.optimiser.state.get(self.gain, {}).items():
            state[f"optimiser.{name}"] = value.clone()
        return state

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        if state["policy.gain"].shape != self.gain.shape:
            raise ValueError(f"gain has shape {tuple(self.gain.shape)}, not {tuple(state['policy.gain'].shape)}")
        self.gain.data.copy_(state["policy.gain"])
        self.updates = int(state["updates"])
        moments = {name.removeprefix("optimiser."): value for name, value in state.items() if name[:4] == "opti"}
        if moments:
            self.optimiser.state[self.gain] = {name: value.clone() for name, value in moments.items()}
