"""One stable-baselines3 model of PPO (arXiv 1707.06347): made, asked for actions, and updated from a round.

The library's own policy, optimiser, rollout buffer and update; the rounds are collected outside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import stable_baselines3
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.logger import Logger
from torch import Tensor

from agents import gaussian_policy
from agents.advantages import masked_mean
from agents.agent import Decision, Sizes, Trajectories
from agents.finite import first_not_finite
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


def new_model(
    config: PPOUpdateConfig, observation_size: int, sizes: Sizes, generator: torch.Generator
) -> stable_baselines3.PPO:
    """A policy with first weights, a value function and an optimiser. observation_size: of what the policy sees."""
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
    model.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (observation_size,), np.float32)
    model.action_space = gymnasium.spaces.Box(-1.0, 1.0, (sizes.action,), np.float32)
    model.n_envs = 1
    with torch.random.fork_rng(devices=[]):  # stable-baselines3 draws weights from torch's global generator
        torch.manual_seed(_draw_seed(generator))
        model._setup_model()
    model.set_logger(Logger(folder=None, output_formats=[]))
    return model


def act(model: stable_baselines3.PPO, obs: Tensor, explore: bool, generator: torch.Generator) -> Decision:
    """What the model does at obs [..., O]."""
    rows = obs.reshape(-1, obs.shape[-1])
    with torch.no_grad():
        distribution: Any = model.policy.get_distribution(rows).distribution
        mean, log_std = distribution.mean, distribution.stddev.log()
        action = gaussian_policy.sample(mean, log_std, generator) if explore else mean
        log_prob = gaussian_policy.log_prob(mean, log_std, action)
        value = model.policy.predict_values(rows).squeeze(-1)
    lead = obs.shape[:-1]
    return Decision(action.reshape(*lead, -1), log_prob.reshape(lead), value.reshape(lead))


def update(
    model: stable_baselines3.PPO, data: Trajectories, generator: torch.Generator, progress: float = 0.0
) -> dict[str, float]:
    """stable-baselines3's own update on the steps of one round that were really taken.

    The horizon is the end of what counts, as it is for the meta-learners: nothing bootstraps from `final_obs`.
    progress: the share of the training that is over, by which the library's schedules go.
    """
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
    buffer.compute_returns_and_advantage(torch.zeros(columns), np.ones(columns, dtype=bool))
    model.rollout_buffer = _taken(buffer, data.valid)
    model._current_progress_remaining = 1.0 - progress
    with _global_numpy_seed(_draw_seed(generator)):
        model.train()
    metrics = {name: float(value) for name, value in model.logger.name_to_value.items() if name.startswith("train/")}
    model.logger.name_to_value.clear()
    model.rollout_buffer = None  # type: ignore[assignment]  # a copied model need not carry its data along
    metrics["train/value_mean"] = float(masked_mean(data.value, data.valid))
    return metrics


def _taken(buffer: RolloutBuffer, valid: Tensor) -> RolloutBuffer:
    """The buffer, laid out as its own `get` does, without the steps of frozen environments. valid: [T, ...]."""
    rows = valid.reshape(len(valid), -1).T.flatten().numpy()  # environments first
    for name in ("observations", "actions", "values", "log_probs", "advantages", "returns"):
        setattr(buffer, name, buffer.swap_and_flatten(getattr(buffer, name))[rows])
    buffer.buffer_size, buffer.n_envs, buffer.generator_ready = int(rows.sum()), 1, True
    return buffer


def is_finite(model: stable_baselines3.PPO) -> bool:
    """Whether every weight is a number."""
    return first_not_finite(model.policy.state_dict()) is None


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
