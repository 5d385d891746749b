"""The PPO arms, on stable-baselines3's own policy, optimiser, rollout buffer and update (arXiv 1707.06347).

They are fed from the same rounds as every other agent, so that all arms meet the same environments and their steps are
counted alike. `ppo` starts each task from random weights; `ppo-robust` is trained over the family and does not adapt;
`ppo-finetuned` starts each task from `ppo-robust`'s weights; `ppo-oracle` is `ppo-robust` with the task's parameters in
its observation.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.logger import Logger
from torch import Tensor

from agents import gaussian_policy
from agents.advantages import masked_mean
from agents.agent import Decision, Sizes, Trajectories, Transition
from agents.finite import first_not_finite, warn_of_skipped
from agents.optimiser_state import adam_state, load_adam_state, load_tensors
from envs.errors import check_range


@dataclass(frozen=True)
class PPOUpdateConfig:
    """The network and the update, wherever PPO learns."""

    hidden_sizes: tuple[int, ...] = (64, 64)
    """Units of the tanh layers, of the policy and of the value function each."""
    learning_rate: float = 3e-4
    """Adam's step size."""
    batch_size: int = 1024
    """Steps of one gradient step."""
    epochs: int = 10
    """Passes over a round in one update."""
    discount: float = 0.99
    """Per step."""
    gae_lambda: float = 0.95
    """Advantage horizon."""
    clip_range: float = 0.2
    """Bound on the likelihood ratio."""
    entropy_coefficient: float = 0.0
    """Weight of the entropy bonus."""
    value_coefficient: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float = 0.5
    """Bound on the gradient's norm."""
    target_kl: float | None = 0.03
    """Stop an update early beyond 1.5 times this KL; none to never stop."""
    initial_log_std: float = -0.5
    """Log deviation of the actions to begin with: of a new policy, and of a trained one on a task of its own."""

    def __post_init__(self) -> None:
        check_range(self, 1, 1024, "hidden_sizes")
        check_range(self, 1, 1_000, "epochs")
        check_range(self, 2, 1_000_000, "batch_size")
        check_range(self, 0, 1, "discount", "gae_lambda")
        check_range(self, 1e-8, 100, "learning_rate", "clip_range", "target_kl")
        check_range(self, 1e-8, 1e6, "max_grad_norm")
        check_range(self, 0, 1e6, "value_coefficient", "entropy_coefficient")
        check_range(self, gaussian_policy.MIN_LOG_STD, 2, "initial_log_std")


@dataclass(frozen=True)
class PPOConfig(PPOUpdateConfig):
    """Training over the family."""

    meta_batch_size: int = 40
    """Tasks of one training iteration."""
    episodes_per_task: int = 10
    """Episodes of each task in one training iteration."""

    RETIRED: ClassVar[tuple[str, ...]] = ("episodes_per_update", "task_batch_size")
    """Settings that older runs name and training never read: what is learnt on a task has a config of its own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range(self, 1, 10_000, "meta_batch_size", "episodes_per_task")


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
        sizes = self._sizes
        model = stable_baselines3.PPO(
            "MlpPolicy",
            env=None,  # type: ignore[arg-type]  # rounds are collected outside; only the spaces below matter
            learning_rate=config.learning_rate,
            n_steps=sizes.horizon,
            batch_size=config.batch_size,
            n_epochs=config.epochs,
            gamma=config.discount,
            gae_lambda=config.gae_lambda,
            clip_range=config.clip_range,
            ent_coef=config.entropy_coefficient,
            vf_coef=config.value_coefficient,
            max_grad_norm=config.max_grad_norm,
            target_kl=config.target_kl,
            policy_kwargs={
                "net_arch": list(config.hidden_sizes),
                "log_std_init": config.initial_log_std,
                "ortho_init": True,
                # the library's own eps, which naming any of these would drop; fused takes a sixth off a small update
                "optimizer_kwargs": {"eps": 1e-5, "fused": True},
            },
            device="cpu",
            _init_setup_model=False,
        )
        model.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (self._observation_size,), np.float32)
        model.action_space = gymnasium.spaces.Box(-1.0, 1.0, (sizes.action,), np.float32)
        model.n_envs = 1
        with torch.random.fork_rng(devices=[]):  # stable-baselines3 draws weights from torch's global generator
            torch.manual_seed(_draw_seed(generator))
            model._setup_model()
        model.set_logger(Logger(folder=None, output_formats=[]))
        return model

    def _act(self, model: stable_baselines3.PPO, obs: Tensor, explore: bool, generator: torch.Generator) -> Decision:
        """obs [..., O] for one model."""
        rows = obs.reshape(-1, obs.shape[-1])
        with torch.no_grad():
            distribution: Any = model.policy.get_distribution(rows).distribution
            mean, log_std = distribution.mean, distribution.stddev.log()
            action = gaussian_policy.sample(mean, log_std, generator) if explore else mean
            log_prob = gaussian_policy.log_prob(mean, log_std, action)
            value = model.policy.predict_values(rows).squeeze(-1)
        lead = obs.shape[:-1]
        return Decision(action.reshape(*lead, -1), log_prob.reshape(lead), value.reshape(lead))

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

    def fresh(self, k: int, e: int, generator: torch.Generator) -> SharedMemory:
        return SharedMemory(generator)

    def act(self, memory: SharedMemory, obs: Tensor, explore: bool) -> tuple[Decision, SharedMemory]:
        return self._act(self.model, obs, explore, memory.generator), memory

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

    def update(self, rounds: list[Trajectories], generator: torch.Generator) -> dict[str, float]:
        return ppo_update(self.model, rounds[-1], generator)

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
            self._act(model, of_task, explore, memory.generator)
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
                ppo_update(model, _of_task(trajectories, k), memory.generator)
            except ValueError:  # what torch says to NaN in the middle of an update
                if _is_finite(model):
                    raise
            if not _is_finite(model):
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

    Its deviation starts anew too: what training over the family left of it is too little to explore with.
    """

    name: ClassVar[str] = "ppo-finetuned"
    config_type: ClassVar[type] = PPOConfig

    def __init__(self, config: PPOConfig, sizes: Sizes, generator: torch.Generator) -> None:
        super().__init__(config, sizes, generator)
        self.config = config
        self.task = TaskPPOConfig(hidden_sizes=config.hidden_sizes, discount=config.discount)

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


def ppo_update(model: stable_baselines3.PPO, data: Trajectories, generator: torch.Generator) -> dict[str, float]:
    """stable-baselines3's own update on one round. The horizon's end bootstraps from the value of `final_obs`."""
    steps = len(data.obs)
    flat = {
        name: getattr(data, name).reshape(steps, -1, *getattr(data, name).shape[3:])
        for name in ("obs", "action", "reward", "log_prob", "value", "terminated")
    }
    columns = flat["reward"].shape[1]
    buffer = RolloutBuffer(
        steps,
        model.observation_space,
        model.action_space,
        device="cpu",
        gae_lambda=model.gae_lambda,
        gamma=model.gamma,
        n_envs=columns,
    )
    begins = np.ones(columns, dtype=np.float32)  # "the episode starts here", as the buffer wants it
    for t in range(steps):
        buffer.add(
            flat["obs"][t].numpy(),
            flat["action"][t].numpy(),
            flat["reward"][t].numpy(),
            begins,
            flat["value"][t],
            flat["log_prob"][t],
        )
        begins = flat["terminated"][t].numpy().astype(np.float32)
    with torch.no_grad():
        last_value = model.policy.predict_values(data.final_obs.reshape(columns, -1)).flatten()
    buffer.compute_returns_and_advantage(last_value, flat["terminated"][-1].numpy())
    model.rollout_buffer = buffer
    model._current_progress_remaining = 1.0
    with _global_numpy_seed(_draw_seed(generator)):
        model.train()
    metrics = {name: float(value) for name, value in model.logger.name_to_value.items() if name.startswith("train/")}
    model.logger.name_to_value.clear()
    model.rollout_buffer = None  # type: ignore[assignment]  # a copied model need not carry its data along
    metrics["train/value_mean"] = float(masked_mean(data.value, data.valid))
    return metrics


def _is_finite(model: stable_baselines3.PPO) -> bool:
    return first_not_finite(model.policy.state_dict()) is None


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


def _draw_seed(generator: torch.Generator) -> int:
    return int(torch.randint(2**31, (), generator=generator))


@contextmanager
def _global_numpy_seed(seed: int) -> Iterator[None]:
    """stable-baselines3 shuffles with numpy's global generator: seed it for that while, and leave it as it was."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
