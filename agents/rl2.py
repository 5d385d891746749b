"""RL2: a recurrent policy whose memory is the learning algorithm (arXiv 1611.02779, 1611.05763).

A trial is several episodes of one task. The GRU reads observation, last action, last reward and whether an episode just
ended; its state is kept over the episodes of a trial and is fresh at the next. PPO maximises the return of the whole
trial, so that exploring early is paid for by what it earns later.

In meta-training the tasks are known, and two things learn from that which nobody has to know later: the critic, a
network of its own, is told the task's features (arXiv 1710.06542), and a linear map reads them out of the GRU's state,
so that the state comes to hold what can be known of the task (arXiv 1905.06424). The policy reads that belief too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from agents import gaussian_policy
from agents.advantages import generalized_advantages, masked_mean, normalised
from agents.agent import Decision, Sizes, Trajectories, Transition, concatenate
from agents.beginnings import best_beginning, next_beginning
from agents.optimiser_state import adam_state, load_adam_state, load_tensors, steer_step_size
from agents.recurrent_networks import Critic, RecurrentPolicy, initialise
from envs.errors import check_range


@dataclass(frozen=True)
class RL2Config:
    hidden_size: int = 128
    """Units of the GRU and of the layer that feeds it."""
    head_size: int = 128
    """Units of the layers behind the GRU: one in the policy, two in the critic."""
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
    """Adam's step size; the policy's is only the first one, see `desired_kl`."""
    epochs: int = 4
    """Passes over the trials in one update, of the policy and of the critic."""
    minibatches: int = 8
    """Parts into which each pass splits the trials."""
    clip_range: float = 0.2
    """PPO's bound on the likelihood ratio."""
    critic_batch_size: int = 500
    """Steps of one gradient step of the critic; the policy's are whole trials."""
    desired_kl: float = 0.0125
    """Mean KL of an update from the policy before it. The policy's step size falls by a factor of 1.2 after an update
    that went twice as far, and rises by it, up to `learning_rate`, after one that went half as far."""
    anneal_to: float = 1.0
    """Share of `desired_kl`, and of the critic's step size, that is left at the end of training; both fall linearly.
    1 keeps them."""
    belief_coefficient: float = 0.1
    """Weight of the squared error with which the GRU's state tells the task's features; 0 lets it learn from reward
    alone."""
    entropy_coefficient: float = 0.0
    """Weight of the entropy bonus."""
    max_grad_norm: float = 0.5
    """Bound on the gradient's norm, of the policy and of the critic apart."""
    initial_log_std: float = -0.5
    """Log deviation of the first policy's actions."""

    def __post_init__(self) -> None:
        check_range(self, 1, 2048, "hidden_size", "head_size")
        check_range(self, 1, 1_000, "episodes_per_trial", "epochs")
        check_range(self, 1, 10_000, "meta_batch_size", "trials_per_task", "minibatches")
        check_range(self, 1, 1_000_000, "critic_batch_size")
        check_range(self, 0, 1, "discount", "gae_lambda")
        check_range(self, 1e-8, 100, "learning_rate", "clip_range", "desired_kl")
        check_range(self, 0.001, 1, "anneal_to")
        check_range(self, 1e-8, 1e6, "max_grad_norm")
        check_range(self, 0, 1e6, "reward_scale", "belief_coefficient", "entropy_coefficient")
        check_range(self, gaussian_policy.MIN_LOG_STD, 2, "initial_log_std")


@dataclass(frozen=True)
class RL2Memory:
    """What the network carries from step to step, and the beginnings that it may come back to. N = K * E trials.

    hidden [N, H]; the last action [N, A], scaled reward [N, 1], done [N, 1], zero at a trial's start. starts
    [N, S, H + A + 2]: these four as each of the trial's S episodes so far began; trial [N, S or S - 1]: the returns of
    those that are over.

    After the trial (chosen): earned, played [N, S]: sum of the returns of the episodes since, and their number, by how
    they began; start, best [N]: with which of the beginnings the present episode begins, and begins where nothing is
    learned from it; begins: it has not begun.
    """

    hidden: Tensor
    action: Tensor
    reward: Tensor
    done: Tensor
    generator: torch.Generator
    starts: Tensor
    trial: Tensor
    earned: Tensor
    played: Tensor
    start: Tensor
    best: Tensor
    chosen: bool = False
    begins: bool = False


class RL2:
    """The agent and its PPO learner. The critic predicts returns times (1 - discount), which are of order one."""

    name: ClassVar[str] = "rl2"
    privileged: ClassVar[bool] = False
    config_type: ClassVar[type] = RL2Config
    episodes_per_round = 1

    def __init__(self, config: RL2Config, sizes: Sizes, generator: torch.Generator) -> None:
        self.config = config
        self._action_size = sizes.action
        self._input_size = sizes.observation + sizes.action + 2
        with torch.random.fork_rng(devices=[]):  # modules draw their first weights from torch's global generator
            self.policy = RecurrentPolicy(self._input_size, config.hidden_size, config.head_size, sizes)
            self.critic = Critic(self._input_size, config.hidden_size, config.head_size, sizes)
        self._networks = {"policy": self.policy, "critic": self.critic}
        for network in self._networks.values():
            initialise(network, generator)
        nn.init.constant_(self.policy.log_std, config.initial_log_std)
        self._optimisers = {
            part: torch.optim.Adam(network.parameters(), lr=config.learning_rate, eps=1e-5, fused=True)
            for part, network in self._networks.items()
        }

    # -- acting --------------------------------------------------------------------------------------------------------

    def fresh(self, k: int, e: int, generator: torch.Generator) -> RL2Memory:
        n = k * e
        nothing = torch.zeros(n, self.config.hidden_size + self._action_size + 2)
        hidden, action, reward, done = self._parts(nothing)
        return RL2Memory(
            hidden,
            action,
            reward,
            done,
            generator,
            starts=nothing.unsqueeze(1),
            trial=torch.zeros(n, 0),
            earned=torch.zeros(n, self.config.episodes_per_trial),
            played=torch.zeros(n, self.config.episodes_per_trial),
            start=torch.zeros(n, dtype=torch.long),
            best=torch.zeros(n, dtype=torch.long),
        )

    def _parts(self, start: Tensor) -> tuple[Tensor, ...]:
        """The state, action, reward and done of [N, H + A + 2]."""
        return start.split([self.config.hidden_size, self._action_size, 1, 1], dim=-1)

    def act(self, memory: RL2Memory, obs: Tensor, explore: bool) -> tuple[Decision, RL2Memory]:
        k, e = obs.shape[:2]
        if memory.begins and not explore:
            memory = self._beginning(memory, memory.best)
        inputs = torch.cat([obs.reshape(k * e, -1), memory.action, memory.reward, memory.done], dim=-1)
        with torch.no_grad():
            mean, hidden = self.policy.step(inputs, memory.hidden)
            log_std = self._log_std()
            explore = explore and not memory.chosen
            action = gaussian_policy.sample(mean, log_std, memory.generator) if explore else mean
            log_prob = gaussian_policy.log_prob(mean, log_std, action)
        decision = Decision(action.reshape(k, e, -1), log_prob.reshape(k, e), torch.zeros(k, e))  # `update` has values
        return decision, replace(memory, hidden=hidden, begins=False)

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

        The network was trained on trials of a fixed number of episodes. Each later episode starts from one of the
        memories with which the trial's episodes began (`agents.beginnings`), and acts without noise. An episode that
        nothing is learned from starts from the best of them.
        """
        n, count = memory.starts.shape[:2]
        returns = trajectories.returns.reshape(n, 1)
        if memory.chosen:
            this = nn.functional.one_hot(memory.start, count)  # [N, S]
            memory = replace(memory, earned=memory.earned + this * returns, played=memory.played + this)
        else:
            memory = replace(memory, trial=torch.cat([memory.trial, returns], dim=1))
        if count < self.config.episodes_per_trial:
            now = torch.cat([memory.hidden, memory.action, memory.reward, memory.done], dim=-1)
            return replace(memory, starts=torch.cat([memory.starts, now.unsqueeze(1)], dim=1))
        known = (memory.trial, memory.earned, memory.played)
        memory = replace(memory, start=next_beginning(*known), best=best_beginning(*known), chosen=True, begins=True)
        return self._beginning(memory, memory.start)

    def _beginning(self, memory: RL2Memory, which: Tensor) -> RL2Memory:
        """The memory with the beginnings `which` [N] in place of what the network carries."""
        hidden, action, reward, done = self._parts(memory.starts[torch.arange(len(which)), which])
        return replace(memory, hidden=hidden, action=action, reward=reward, done=done)

    def _log_std(self) -> Tensor:
        return self.policy.log_std.clamp(min=gaussian_policy.MIN_LOG_STD)

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
        return torch.cat([trial.obs, earlier], dim=-1).reshape(steps, -1, self._input_size)

    def _features(self, trial: Trajectories) -> Tensor:
        """[N, F] of the task of each trial."""
        return trial.features.repeat_interleave(trial.reward.shape[2], dim=0)

    def known_to_critic(self, trial: Trajectories) -> Tensor:
        """[L, N, I + H + F] the inputs, the states and the features of each step."""
        inputs, features = self.replay_inputs(trial), self._features(trial)
        with torch.no_grad():
            _, states = self.policy(inputs, torch.zeros(inputs.shape[1], self.config.hidden_size))
        return torch.cat([inputs, states, features.expand(len(inputs), -1, -1)], dim=-1)

    def advantages(self, trial: Trajectories, values: Tensor, valid: Tensor) -> Tensor:
        """[L, K, E] in units of the critic; they run over the episodes of the trial and stop at its end.

        valid [L, K, E]: the steps that were taken. An episode's last one is followed by the first of the next episode;
        the frozen ones between them have no advantage, and their values, which are never fitted, count for nothing.
        """
        # Each environment's taken steps first, in their order; then nothing is earned and nothing is expected.
        order = (~valid).to(torch.uint8).argsort(dim=0, stable=True)
        rest = ~valid.gather(0, order)
        reward, values = (part.gather(0, order).masked_fill(rest, 0.0) for part in (trial.reward, values))
        advantage = generalized_advantages(
            reward * (1.0 - self.config.discount),
            values,
            torch.zeros_like(reward[0]),
            torch.zeros_like(rest),
            self.config.discount,
            self.config.gae_lambda,
        )
        return torch.empty_like(advantage).scatter(0, order, advantage)

    def update(self, rounds: list[Trajectories], generator: torch.Generator, progress: float = 0.0) -> dict[str, float]:
        left = 1 - (1 - self.config.anneal_to) * progress
        self._optimisers["critic"].param_groups[0]["lr"] = self.config.learning_rate * left
        trial = concatenate(rounds)
        valid = trial.valid_within(len(rounds))
        known = self.known_to_critic(trial)
        with torch.no_grad():
            value = self.critic(known).reshape(trial.reward.shape)
        advantage = self.advantages(trial, value, valid)
        target = advantage + value
        explained = 1 - advantage[valid].var() / target[valid].var().clamp(min=1e-8)
        value_loss = self._fit_critic(known[valid.flatten(1)], target[valid], generator)
        desired_kl = self.config.desired_kl * left
        return {
            **self._improve_policy(trial, normalised(advantage, valid, (0, 1, 2)), valid, desired_kl, generator),
            "train/value_loss": value_loss,
            "train/explained_variance": float(explained),
        }

    def _fit_critic(self, known: Tensor, target: Tensor, generator: torch.Generator) -> float:
        """Passes over steps known [M, ...] with values target [M]; the mean loss, in units of the targets' variance."""
        config, losses = self.config, []
        variance = target.var().clamp(min=1e-8)  # makes the loss free of the reward's scale
        for _ in range(config.epochs):
            for part in torch.randperm(len(target), generator=generator).split(config.critic_batch_size):
                loss = (self.critic(known[part]) - target[part]).square().mean() / variance
                self._descend("critic", loss)
                losses.append(loss.detach())
        return float(torch.stack(losses).mean())

    def _improve_policy(
        self, trial: Trajectories, advantage: Tensor, valid: Tensor, desired_kl: float, generator: torch.Generator
    ) -> dict[str, float]:
        """PPO's passes over whole trials; the policy's metrics."""
        config, inputs, features = self.config, self.replay_inputs(trial), self._features(trial)
        action, old_log_prob = trial.action.flatten(1, 2), trial.log_prob.flatten(1)
        advantage, valid = advantage.flatten(1), valid.flatten(1)
        rows: list[Tensor] = []
        kls: list[float] = []
        for _ in range(config.epochs):
            kl_of_pass: list[Tensor] = []
            for part in torch.randperm(inputs.shape[1], generator=generator).chunk(config.minibatches):
                mean, states = self.policy(inputs[:, part], torch.zeros(len(part), config.hidden_size))
                log_prob = gaussian_policy.log_prob(mean, self._log_std(), action[:, part])
                log_ratio, weight = log_prob - old_log_prob[:, part], valid[:, part]
                ratio = log_ratio.exp()
                surrogate = torch.minimum(
                    ratio * advantage[:, part],
                    ratio.clamp(1 - config.clip_range, 1 + config.clip_range) * advantage[:, part],
                )
                policy_loss = -masked_mean(surrogate, weight)
                belief_error = (self.policy.belief(states) - features[part]).square().mean(-1)
                belief_loss = masked_mean(belief_error, weight)
                entropy = gaussian_policy.entropy(self._log_std())
                loss = policy_loss + config.belief_coefficient * belief_loss - config.entropy_coefficient * entropy
                norm = self._descend("policy", loss)
                with torch.no_grad():
                    kl_of_pass.append(masked_mean(ratio - 1 - log_ratio, weight))
                    clipped = masked_mean(((ratio - 1).abs() > config.clip_range).float(), weight)
                    rows.append(torch.stack([policy_loss, belief_loss, clipped, norm]))
            kls.append(float(torch.stack(kl_of_pass).mean()))
            if kls[-1] > 2.0 * desired_kl:
                break
        steer_step_size(self._optimisers["policy"], kls[-1], desired_kl, config.learning_rate)
        names = ("policy_gradient_loss", "belief_loss", "clip_fraction", "grad_norm")
        return {
            **{f"train/{name}": float(x) for name, x in zip(names, torch.stack(rows).mean(0), strict=True)},
            "train/approx_kl": kls[-1],
            "train/passes": float(len(kls)),
            "train/learning_rate": self._policy_group["lr"],
            "train/std": float(self._log_std().detach().exp().mean()),
        }

    @property
    def _policy_group(self) -> dict[str, Any]:
        """Adam's group of the policy's parameters, which holds the step size."""
        return self._optimisers["policy"].param_groups[0]

    def _descend(self, part: str, loss: Tensor) -> Tensor:
        """One step of Adam on the policy or the critic; the gradient's norm."""
        self._optimisers[part].zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self._networks[part].parameters(), self.config.max_grad_norm)
        self._optimisers[part].step()
        return norm

    def state(self) -> dict[str, Tensor]:
        weights = {
            f"{part}/{name}": value.detach().clone()
            for part, network in self._networks.items()
            for name, value in network.state_dict().items()
        }
        moments = [adam_state(optimiser, f"{part}-optimiser") for part, optimiser in self._optimisers.items()]
        step_size = {"policy-optimiser/learning_rate": torch.tensor(self._policy_group["lr"], dtype=torch.float64)}
        return weights | moments[0] | moments[1] | step_size

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        for part, network in self._networks.items():
            load_tensors(network.state_dict(), part, state)
            load_adam_state(self._optimisers[part], f"{part}-optimiser", state)
        self._policy_group["lr"] = float(state["policy-optimiser/learning_rate"])
