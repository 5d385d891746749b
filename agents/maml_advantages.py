"""The advantages that MAML's inner and outer steps follow, over one of three baselines.

`critic`: two value functions learned over all tasks. The inner one reads the observation and the last reward, which a
held-out task gives as well. It is learned from many tasks, so it cannot fit the few episodes of one. The outer one
serves meta-training alone: it is told the task's features, the context as adapted, and how often that was.

`time`: a polynomial in time, fitted for each task to the round itself. `observations`: the linear feature baseline of
arXiv 1604.06778, fitted likewise. It has several numbers for every entry of the observation, and explains the signal
away where a round has few steps, so it is refused there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from agents.advantages import discounted_returns, generalized_advantages, linear_baseline, normalised
from agents.agent import Sizes, Trajectories
from agents.critic import Critic
from agents.meta_gradient import StepData

if TYPE_CHECKING:
    from agents.maml import MamlConfig

TARGET_LAMBDA = 0.95  # of the returns that the inner critic learns
SCALE_MEMORY = 0.9  # of the running deviation of the inner advantages, an iteration


class FittedAdvantages:
    """Over a baseline that is fitted for each task to the round itself."""

    def __init__(self, config: MamlConfig) -> None:
        self._config = config

    def inner(self, played: Trajectories) -> StepData:
        """Of unit deviation in each task."""
        config = self._config
        advantage = self._advantages(played, config.inner_discount, config.inner_gae_lambda)
        return step_data(played, normalised(advantage, played.valid, (0, 2)))

    def outer(self, rounds: Sequence[Trajectories], thetas: Sequence[Tensor]) -> list[StepData]:
        """Normalised as the config says, over all rounds."""
        config = self._config
        advantages = [self._advantages(played, config.discount, config.gae_lambda) for played in rounds]
        return normalised_rounds(rounds, advantages, config.outer_normalisation == "task")

    def _advantages(self, played: Trajectories, discount: float, gae_lambda: float) -> Tensor:
        returns = discounted_returns(played.reward, discount)
        obs = played.obs if self._config.baseline == "observations" else None
        baseline = linear_baseline(obs, returns, played.valid)
        nothing = torch.zeros_like(baseline[0])
        return generalized_advantages(played.reward, baseline, nothing, played.terminated, discount, gae_lambda)


class CriticAdvantages:
    """Over critics that are learned over all tasks. The inner advantages are in units of their running deviation."""

    def __init__(self, config: MamlConfig, sizes: Sizes, generator: torch.Generator) -> None:
        self._config = config
        told = sizes.observation + sizes.features + config.inner_steps + 1 + config.adapted_context
        size, learning_rate = config.critic_size, config.critic_learning_rate
        self._inner = Critic(
            "inner-critic", sizes.observation + 1, size, config.inner_discount, learning_rate, generator
        )
        self._outer = Critic("outer-critic", told, size, config.discount, learning_rate, generator)
        self._scale = torch.zeros(())  # zero until the first update

    def inner(self, played: Trajectories) -> StepData:
        """What an inner step learns from a round."""
        _, advantage = self._inner_estimates(played, self._config.inner_gae_lambda)
        return step_data(played, advantage / self._scale if self._scale > 0 else advantage)

    def outer(self, rounds: Sequence[Trajectories], thetas: Sequence[Tensor]) -> list[StepData]:
        """What the meta-update learns from the last rounds, collected at weights thetas, each [K, P]."""
        advantages = [advantage for _, advantage in self._outer_estimates(rounds, thetas)]
        return normalised_rounds(rounds, advantages, self._config.outer_normalisation == "task")

    def fit(
        self, rounds: Sequence[Trajectories], thetas: Sequence[Tensor], generator: torch.Generator
    ) -> dict[str, float]:
        """Let both critics learn from rounds collected at weights thetas; metrics."""
        config = self._config
        valid = torch.stack([played.valid for played in rounds])
        estimates = self._outer_estimates(rounds, thetas)
        value, advantage = (torch.stack(column)[valid] for column in zip(*estimates, strict=True))
        inner = [self._inner_estimates(played, TARGET_LAMBDA) for played in rounds]
        inner_target = torch.stack([value + advantage for value, advantage in inner])[valid]
        _, first = self._inner_estimates(rounds[0], config.inner_gae_lambda)
        epochs, batch_size, target = config.critic_epochs, config.critic_batch_size, value + advantage
        told = torch.stack(list(map(self._told, rounds, self._taken(rounds), thetas)))[valid]
        outer_loss = self._outer.fit(told, target, epochs=epochs, batch_size=batch_size, generator=generator)
        known = torch.stack([felt(played) for played in rounds])[valid]
        inner_loss = self._inner.fit(known, inner_target, epochs=epochs, batch_size=batch_size, generator=generator)
        now = first[rounds[0].valid].std()
        self._scale = now if self._scale == 0 else SCALE_MEMORY * self._scale + (1 - SCALE_MEMORY) * now
        explained = 1 - advantage.var() / target.var().clamp(min=1e-8)
        return {
            "train/value_loss": outer_loss,
            "train/inner_value_loss": inner_loss,
            "train/explained_variance": float(explained),
            "train/inner_advantage": float(self._scale),
        }

    def _inner_estimates(self, played: Trajectories, gae_lambda: float) -> tuple[Tensor, Tensor]:
        """Values and advantages [T, K, E] as a held-out task gives them."""
        value = self._inner(felt(played))
        nothing, discount = torch.zeros_like(value[0]), self._config.inner_discount
        return value, generalized_advantages(played.reward, value, nothing, played.terminated, discount, gae_lambda)

    def _outer_estimates(self, rounds: Sequence[Trajectories], thetas: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Values and advantages [T, K, E] of each round; the horizon is the end of what counts."""
        config, found = self._config, []
        for steps, played, theta in zip(self._taken(rounds), rounds, thetas, strict=True):
            value = self._outer(self._told(played, steps, theta))
            advantage = generalized_advantages(
                played.reward, value, torch.zeros_like(value[0]), played.terminated, config.discount, config.gae_lambda
            )
            found.append((value, advantage))
        return found

    def _taken(self, rounds: Sequence[Trajectories]) -> range:
        """The inner steps taken before each of the last rounds."""
        return range(self._config.inner_steps + 1 - len(rounds), self._config.inner_steps + 1)

    def _told(self, played: Trajectories, steps: int, theta: Tensor) -> Tensor:
        """[T, K, E, I]: observation, the task's features, the context [K, C] in theta [K, P], inner steps taken."""
        taken = torch.zeros(len(theta), self._config.inner_steps + 1)
        taken[:, steps] = 1.0
        of_task = torch.cat([played.features, theta[:, : self._config.adapted_context], taken], dim=1)
        horizon, _, episodes = played.reward.shape
        return torch.cat([played.obs, of_task[None, :, None].expand(horizon, -1, episodes, -1)], dim=-1)

    def state(self) -> dict[str, Tensor]:
        return self._inner.state() | self._outer.state() | {"meta/inner_advantage": self._scale.clone()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Raises KeyError or ValueError where names or shapes do not fit."""
        self._inner.load_state(state)
        self._outer.load_state(state)
        self._scale = state["meta/inner_advantage"].clone()


def felt(played: Trajectories) -> Tensor:
    """[T, K, E, O + 1]: the observation and the reward of the step before, which tells much of what is going on."""
    before = torch.cat([torch.zeros_like(played.reward[:1]), played.reward[:-1]])
    return torch.cat([played.obs, before.unsqueeze(-1)], dim=-1)


def normalised_rounds(rounds: Sequence[Trajectories], advantages: Sequence[Tensor], per_task: bool) -> list[StepData]:
    """Rounds with advantages of zero mean and unit deviation, in each task or over all of them."""
    valid = torch.stack([played.valid for played in rounds])
    every = normalised(torch.stack(list(advantages)), valid, (0, 1, 3) if per_task else (0, 1, 2, 3))
    return [step_data(played, advantage) for played, advantage in zip(rounds, every, strict=True)]


def step_data(played: Trajectories, advantage: Tensor) -> StepData:
    """A round and the advantages [T, K, E] of its steps, by task."""
    return StepData(
        obs=_by_task(played.obs),
        action=_by_task(played.action),
        log_prob=_by_task(played.log_prob),
        advantage=_by_task(advantage),
        valid=_by_task(played.valid),
        episodes=played.valid.shape[2],
    )


def _by_task(values: Tensor) -> Tensor:
    """[T, K, E, ...] -> [K, T * E, ...]."""
    swapped = values.transpose(0, 1)
    return swapped.reshape(swapped.shape[0], -1, *values.shape[3:])
