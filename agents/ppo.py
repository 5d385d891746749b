"""The PPO arms, each on one or more models of stable-baselines3 (`agents.ppo_model`).

They are fed from the same rounds as every other agent, so that all arms meet the same environments and their steps are
counted alike. `ppo` starts each task from random weights; `ppo-robust` is trained over the family and does not adapt;
`ppo-finetuned` starts each task from `ppo-robust`'s weights; `ppo-oracle` is `ppo-robust` with the task's parameters in
its observation.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import stable_baselines3
import torch
from stable_baselines3.common.utils import LinearSchedule
from torch import Tensor

from agents import ppo_model
from agents.agent import Decision, Sizes, Trajectories, Transition
from agents.finite import warn_of_skipped
from agents.optimiser_state import adam_state, load_adam_state, load_tensors
from agents.ppo_model import PPOUpdateConfig
from envs.errors import check_range


@dataclass(frozen=True)
class PPOConfig(PPOUpdateConfig):
    """Training over the family."""

    meta_batch_size: int = 40
    """Tasks of one training iteration."""
    episodes_per_task: int = 10
    """Episodes of each task in one training iteration."""
    anneal_to: float = 1.0
    """Share of `learning_rate` that is left at the end of training; it falls linearly. 1 keeps it."""

    RETIRED: ClassVar[tuple[str, ...]] = ("episodes_per_update", "task_batch_size")
    """Settings that older runs name and training never read: what is learnt on a task has a config of its own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, 1, 10_000, "meta_batch_size", "episodes_per_task")
        check_range(self, 0.001, 1, "anneal_to")


@dataclass(frozen=True)
class TaskPPOConfig(PPOUpdateConfig):
    """Learning a single task. Its defaults were chosen by a sweep of `ppo` on training tasks (docs/training.md)."""

    batch_size: int = 32
    """Steps of one gradient step."""
    episodes_per_update: int = 10
    """Episodes before each update."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, 1, 10_000, "episodes_per_update")


@dataclass(frozen=True)
class SharedMemory:
    """One policy serves every task, and nothing is learned."""

    generator: torch.Generator


@dataclass(frozen=True)
class PerTaskMemory:
    """One stable-baselines3 model per task, with its optimiser."""

    models: list[stable_baselines3.PPO]
    generator: torch.Generator


class _PPO:
    """What the arms share: building, acting, updating and storing one stable-baselines3 model."""

    privileged: ClassVar[bool] = False

    def __init__(self, config: PPOUpdateConfig, sizes: Sizes, generator: torch.Generator) -> None:
        self._sizes = sizes
        self._observation_size = sizes.observation + (sizes.features if self.privileged else 0)
        self.model = self._new_model(config, generator)

    def _new_model(self, config: PPOUpdateConfig, generator: torch.Generator) -> stable_baselines3.PPO:
        return ppo_model.new_model(config, self._observation_size, self._sizes, generator)

    def observe(self, memory: Any, transition: Transition) -> Any:
        return memory


class RobustPPO(_PPO):
    """Trained over the family; one policy for every task."""

    name: ClassVar[str] = "ppo-robust"
    config_type: ClassVar[type] = PPOConfig
    episodes_per_round = 1

    def __init__(self, config: PPOConfig, sizes: Sizes, generator: torch.Generator) -> None:
        super().__init__(config, sizes, generator)
        self.config = config
        self.model.lr_schedule = LinearSchedule(config.learning_rate, config.learning_rate * config.anneal_to, 1.0)

    def fresh(self, k: int, e: int, generator: torch.Generator) -> SharedMemory:
        return SharedMemory(generator)

    def act(self, memory: SharedMemory, obs: Tensor, explore: bool) -> tuple[Decision, SharedMemory]:
        return ppo_model.act(self.model, obs, explore, memory.generator), memory

    def adapt(self, memory: SharedMemory, trajectories: Trajectories) -> SharedMemory:
        return memory

    @property
    def meta_batch_size(self) -> int:
        return self.config.meta_batch_size

    @property
    def train_episodes(self) -> int:
        return self.config.episodes_per_task

    @property
    def rounds(self) -> int:
        return 1

    def update(self, rounds: list[Trajectories], generator: torch.Generator, progress: float = 0.0) -> dict[str, float]:
        return ppo_model.update(self.model, rounds[-1], generator, progress)

    def state(self) -> dict[str, Tensor]:
        weights = {f"policy/{name}": value.detach().clone() for name, value in self.model.policy.state_dict().items()}
        counter = {"updates": torch.tensor(self.model._n_updates)}
        return weights | counter | adam_state(self.model.policy.optimizer, "optimiser")

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        load_tensors(self.model.policy.state_dict(), "policy", state)
        load_adam_state(self.model.policy.optimizer, "optimiser", state)
        self.model._n_updates = int(state["updates"])


class OraclePPO(RobustPPO):
    """Sees the task's parameters: what there is to win by knowing the task."""

    name: ClassVar[str] = "ppo-oracle"
    privileged: ClassVar[bool] = True


class _LearningPPO(_PPO):
    """PPO on the held-out task itself: a model of its own for each task. task: what it learns with there."""

    name: ClassVar[str]
    task: TaskPPOConfig

    @property
    def episodes_per_round(self) -> int:
        return self.task.episodes_per_update

    def act(self, memory: PerTaskMemory, obs: Tensor, explore: bool) -> tuple[Decision, PerTaskMemory]:
        parts = [
            ppo_model.act(model, of_task, explore, memory.generator)
            for model, of_task in zip(memory.models, obs, strict=True)
        ]
        decision = Decision(
            torch.stack([part.action for part in parts]),
            torch.stack([part.log_prob for part in parts]),
            torch.stack([part.value for part in parts]),
        )
        return decision, memory

    def adapt(self, memory: PerTaskMemory, trajectories: Trajectories) -> PerTaskMemory:
        """One update of each task's model. One whose weights would not be finite stays as it is."""
        models, failed = copy.deepcopy(memory.models), 0
        for k, model in enumerate(models):
            try:
                ppo_model.update(model, _of_task(trajectories, k), memory.generator)
            except ValueError:  # what torch says to NaN in the middle of an update
                if ppo_model.is_finite(model):
                    raise
            if not ppo_model.is_finite(model):
                models[k], failed = copy.deepcopy(memory.models[k]), failed + 1
        if failed:
            warn_of_skipped(self.name, failed, len(models))
        return PerTaskMemory(models, memory.generator)


class ScratchPPO(_LearningPPO):
    """From random weights on each task."""

    name: ClassVar[str] = "ppo"
    config_type: ClassVar[type] = TaskPPOConfig

    def __init__(self, config: TaskPPOConfig, sizes: Sizes, generator: torch.Generator) -> None:
        super().__init__(config, sizes, generator)
        self.task = config

    def fresh(self, k: int, e: int, generator: torch.Generator) -> PerTaskMemory:
        return PerTaskMemory([self._new_model(self.task, generator) for _ in range(k)], generator)

    def state(self) -> dict[str, Tensor]:
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """There is nothing to load: it knows nothing before it meets a task."""


class FinetunedPPO(_LearningPPO):
    """From `ppo-robust`'s weights on each task, with a fresh optimiser. config: that the weights were trained with.

    Its deviation starts anew too, and wider than that of a new policy: a trained one has habits to leave behind
    (docs/training.md).
    """

    name: ClassVar[str] = "ppo-finetuned"
    config_type: ClassVar[type] = PPOConfig
    INITIAL_LOG_STD: ClassVar[float] = 0.5

    def __init__(self, config: PPOConfig, sizes: Sizes, generator: torch.Generator) -> None:
        super().__init__(config, sizes, generator)
        self.config = config
        self.task = TaskPPOConfig(
            hidden_sizes=config.hidden_sizes, discount=config.discount, initial_log_std=self.INITIAL_LOG_STD
        )

    def fresh(self, k: int, e: int, generator: torch.Generator) -> PerTaskMemory:
        models = []
        for _ in range(k):
            model = self._new_model(self.task, generator)
            model.policy.load_state_dict(self.model.policy.state_dict())
            torch.nn.init.constant_(model.policy.log_std, self.task.initial_log_std)
            models.append(model)
        return PerTaskMemory(models, generator)

    def state(self) -> dict[str, Tensor]:
        return {f"policy/{name}": value.detach().clone() for name, value in self.model.policy.state_dict().items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        load_tensors(self.model.policy.state_dict(), "policy", state)


def _of_task(data: Trajectories, k: int) -> Trajectories:
    one = slice(k, k + 1)
    return Trajectories(
        **{
            name: getattr(data, name)[:, one]
            for name in ("obs", "action", "reward", "log_prob", "value", "terminated", "truncated")
        },
        final_obs=data.final_obs[one],
        success=data.success[one],
        terms={name: value[one] for name, value in data.terms.items()},
        features=data.features[one],
    )
