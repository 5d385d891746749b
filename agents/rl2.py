"""RL2: a recurrent policy whose memory is the learning algorithm (arXiv 1611.02779, 1611.05763).

A trial is several episodes of one task. The GRU reads observation, last action, last reward and whether an episode just
ended; its state is kept over the episodes of a trial and is fresh at the next. PPO maximises the return of the whole
trial, so that exploring early is paid for by what it earns later.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from agents import gaussian_policy
from agents.advantages import generalized_advantages, masked_mean, normalised
from agents.agent import Decision, Trajectories, Transition, concatenate
from agents.optimiser_state import adam_state, load_adam_state, load_tensors
from agents.recurrent import GRU, tanh
from envs.errors import check_range


@dataclass(frozen=True)
class RL2Config:
    hidden_size: int = 128
    """Units of the GRU and of the layer that feeds it."""
    episodes_per_trial: int = 4
    """Episodes of one task that a trial holds."""
    meta_batch_size: int = 40
    """Tasks of one meta-iteration."""
    trials_per_task: int = 2
    """Trials of each task, side by side, each with a memory of its own."""
    reward_scale: float = 5.0
    """Factor on the last reward where the network reads it: small differences in reward are what the task shows by."""
    discount: float = 0.99
    """Per step, over the whole trial."""
    gae_lambda: float = 0.95
    """Advantage horizon, over the whole trial."""
    learning_rate: float = 1e-3
    """Adam's step size."""
    epochs: int = 4
    """Passes over the trials in one update."""
    minibatches: int = 8
    """Parts into which each pass splits the trials."""
    clip_range: float = 0.2
    """PPO's bound on the likelihood ratio."""
    target_kl: float = 0.03
    """A pass stops the update once the mean KL from the old policy is above this."""
    value_coefficient: float = 0.5
    """Weight of the value loss, which is in units of the variance of its targets."""
    entropy_coefficient: float = 0.0
    """Weight of the entropy bonus."""
    max_grad_norm: float = 0.5
    """Bound on the gradient's norm."""
    initial_log_std: float = -0.5
    """Log deviation of the first policy's actions."""

    def __post_init__(self) -> None:
        sizes = ("hidden_size", "episodes_per_trial", "meta_batch_size", "trials_per_task", "epochs", "minibatches")
        check_range(self, 1, math.inf, *sizes)
        check_range(self, 0, 1, "discount", "gae_lambda")
        check_range(self, 0, math.inf, "reward_scale")
        check_range(self, 1e-8, math.inf, "learning_rate", "clip_range", "target_kl", "max_grad_norm")
        check_range(self, 0, math.inf, "value_coefficient", "entropy_coefficient")
        check_range(self, gaussian_policy.MIN_LOG_STD, 2, "initial_log_std")


@dataclass(frozen=True)
class RL2Memory:
    """hidden [N, H]; the last action [N, A], scaled reward [N, 1], done [N, 1], zero at a trial's start. N = K * E."""

    hidden: Tensor
    action: Tensor
    reward: Tensor
    done: Tensor
    generator: torch.Generator
    episode: int = 0
    """Episodes of the trial that are over."""
    at_start: RL2Memory | None = None
    """The memory with which the present episode began; None in the first."""


class RecurrentActorCritic(nn.Module):
    """[L, N, I] -> action mean [L, N, A], value [L, N] and the last hidden state [N, H]; L steps of N trials."""

    def __init__(self, input_size: int, action_size: int, config: RL2Config) -> None:
        super().__init__()
        size = config.hidden_size
        self.encoder = nn.Linear(input_size, size)
        self.gru = GRU(size, size)
        self.mean = nn.Linear(size, action_size)
        self.value = nn.Linear(size, 1)
        self.log_std = nn.Parameter(torch.full((action_size,), config.initial_log_std))

    def initialise(self, generator: torch.Generator) -> None:
        """Orthogonal weights and zero biases."""
        for name, parameter in self.named_parameters():
            if name.startswith("gru.weight"):
                for block in parameter.data.chunk(3):
                    nn.init.orthogonal_(block, generator=generator)
            elif name.endswith("weight"):
                nn.init.orthogonal_(parameter, 0.01 if name.startswith("mean") else 1.0, generator=generator)
            elif name.endswith("bias") or "bias" in name:
                nn.init.zeros_(parameter)

    def forward(self, inputs: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.gru(tanh(self.encoder(inputs)), hidden)
        return *self._heads(features), features[-1]

    def step(self, inputs: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same for one step: inputs [N, I] -> action mean [N, A], value [N] and hidden state [N, H]."""
        following = self.gru.step(tanh(self.encoder(inputs)), hidden)
        return *self._heads(following), following

    def _heads(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean(features), self.value(features).squeeze(-1)


class RL2:
    """The agent and its PPO learner. The value head predicts returns times (1 - discount), which are of order one."""

    name: ClassVar[str] = "rl2"
    privileged: ClassVar[bool] = False
    config_type: ClassVar[type] = RL2Config
    episodes_per_round = 1

    def __init__(
        self, config: RL2Config, observation_size: int, action_size: int, horizon: int, generator: torch.Generator
    ) -> None:
        self.config = config
        self._action_size = action_size
        with torch.random.fork_rng(devices=[]):  # modules draw their first weights from torch's global generator
            self.network = RecurrentActorCritic(observation_size + action_size + 2, action_size, config)
        self.network.initialise(generator)
        self._optimiser = torch.optim.Adam(self.network.parameters(), lr=config.learning_rate, eps=1e-5, fused=True)

    # -- acting --------------------------------------------------------------------------------------------------------

    def fresh(self, k: int, e: int, generator: torch.Generator) -> RL2Memory:
        n = k * e
        return RL2Memory(
            hidden=torch.zeros(n, self.config.hidden_size),
            action=torch.zeros(n, self._action_size),
            reward=torch.zeros(n, 1),
            done=torch.zeros(n, 1),
            generator=generator,
        )

    def act(self, memory: RL2Memory, obs: Tensor, explore: bool) -> tuple[Decision, RL2Memory]:
        k, e = obs.shape[:2]
        inputs = torch.cat([obs.reshape(k * e, -1), memory.action, memory.reward, memory.done], dim=-1)
        with torch.no_grad():
            mean, value, hidden = self.network.step(inputs, memory.hidden)
            log_std = self._log_std()
            action = gaussian_policy.sample(mean, log_std, memory.generator) if explore else mean
            log_prob = gaussian_policy.log_prob(mean, log_std, action)
        decision = Decision(action.reshape(k, e, -1), log_prob.reshape(k, e), value.reshape(k, e))
        return decision, replace(memory, hidden=hidden)

    def observe(self, memory: RL2Memory, transition: Transition) -> RL2Memory:
        n = len(memory.hidden)
        return replace(
            memory,
            action=transition.action.reshape(n, -1),
            reward=transition.reward.reshape(n, 1) * self.config.reward_scale,
            done=transition.done.reshape(n, 1).to(torch.float32),
        )

    def adapt(self, memory: RL2Memory, trajectories: Trajectories) -> RL2Memory:
        """Go on to the next episode: the memory took everything in step by step.

        Beyond the trial's length in training the network has never been. There, each further episode begins with the
        memory with which the trial's last one did.
        """
        if memory.episode + 1 >= self.config.episodes_per_trial:
            _, k, e = trajectories.reward.shape
            start = memory.at_start or self.fresh(k, e, memory.generator)
            return replace(start, episode=memory.episode, at_start=start)
        following = replace(memory, episode=memory.episode + 1, at_start=None)
        return replace(following, at_start=following)

    def _log_std(self) -> Tensor:
        return self.network.log_std.clamp(min=gaussian_policy.MIN_LOG_STD)

    # -- learning ------------------------------------------------------------------------------------------------------

    @property
    def meta_batch_size(self) -> int:
        return self.config.meta_batch_size

    @property
    def train_episodes(self) -> int:
        return self.config.trials_per_task

    @property
    def rounds(self) -> int:
        return self.config.episodes_per_trial

    def replay_inputs(self, trial: Trajectories) -> Tensor:
        """[L, N, I]: what the network read during the trial (action, reward and done are those of the step before)."""
        steps = len(trial.obs)
        done = (trial.terminated | trial.truncated).to(torch.float32)
        reward = trial.reward * self.config.reward_scale
        feedback = torch.cat([trial.action, reward.unsqueeze(-1), done.unsqueeze(-1)], dim=-1)
        earlier = torch.cat([torch.zeros_like(feedback[:1]), feedback[:-1]])
        return torch.cat([trial.obs, earlier], dim=-1).reshape(steps, -1, self.network.encoder.in_features)

    def advantages(self, trial: Trajectories) -> Tensor:
        """[L, K, E] in units of the value head: they run over the episodes of the trial and stop at its end."""
        scale = 1.0 - self.config.discount
        nothing = torch.zeros_like(trial.reward[0])
        never = torch.zeros_like(trial.terminated)
        return generalized_advantages(
            trial.reward * scale, trial.value, nothing, never, self.config.discount, self.config.gae_lambda
        )

    def update(self, rounds: list[Trajectories], generator: torch.Generator) -> dict[str, float]:
        config, trial = self.config, concatenate(rounds)
        steps = len(trial.obs)
        inputs, valid = self.replay_inputs(trial), trial.valid_within(len(rounds)).reshape(steps, -1)
        advantage = self.advantages(trial).reshape(steps, -1)
        target = advantage + trial.value.reshape(steps, -1)
        variance = target[valid].var().clamp(min=1e-8)  # makes the value loss free of the reward's scale
        advantage = normalised(advantage, valid, (0, 1))
        action, old_log_prob = trial.action.reshape(steps, -1, self._action_size), trial.log_prob.reshape(steps, -1)

        sums: dict[str, list[Tensor]] = {
            "policy_gradient_loss": [],
            "value_loss": [],
            "clip_fraction": [],
            "grad_norm": [],
        }
        kls: list[float] = []
        for _ in range(config.epochs):
            order = torch.randperm(inputs.shape[1], generator=generator)
            kl_of_pass: list[Tensor] = []
            for part in order.chunk(config.minibatches):
                hidden = torch.zeros(len(part), config.hidden_size)
                mean, value, _ = self.network(inputs[:, part], hidden)
                log_prob = gaussian_policy.log_prob(mean, self._log_std(), action[:, part])
                log_ratio = log_prob - old_log_prob[:, part]
                ratio, weight = log_ratio.exp(), valid[:, part]
                surrogate = torch.minimum(
                    ratio * advantage[:, part],
                    ratio.clamp(1 - config.clip_range, 1 + config.clip_range) * advantage[:, part],
                )
                policy_loss = -masked_mean(surrogate, weight)
                value_loss = masked_mean((value - target[:, part]) ** 2, weight) / variance
                entropy = gaussian_policy.entropy(self._log_std())
                loss = policy_loss + config.value_coefficient * value_loss - config.entropy_coefficient * entropy
                self._optimiser.zero_grad()
                loss.backward()
                norm = nn.utils.clip_grad_norm_(self.network.parameters(), config.max_grad_norm)
                self._optimiser.step()
                with torch.no_grad():
                    kl_of_pass.append(masked_mean(ratio - 1 - log_ratio, weight))
                    clipped = masked_mean(((ratio - 1).abs() > config.clip_range).float(), weight)
                for values, now in zip(sums.values(), (policy_loss, value_loss, clipped, norm), strict=True):
                    values.append(now.detach())
            kls.append(float(torch.stack(kl_of_pass).mean()))
            if kls[-1] > config.target_kl:
                break
        residual = target - trial.value.reshape(steps, -1)
        explained = 1 - residual[valid].var() / variance
        return {
            **{f"train/{name}": float(torch.stack(values).mean()) for name, values in sums.items()},
            "train/approx_kl": kls[-1],
            "train/passes": float(len(kls)),
            "train/std": float(self._log_std().detach().exp().mean()),
            "train/explained_variance": float(explained),
        }

    def state(self) -> dict[str, Tensor]:
        weights = {f"policy/{name}": value.detach().clone() for name, value in self.network.state_dict().items()}
        return weights | adam_state(self._optimiser, "optimiser")

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        load_tensors(self.network.state_dict(), "policy", state)
        load_adam_state(self._optimiser, "optimiser", state)
