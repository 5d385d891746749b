"""MAML for reinforcement learning (arXiv 1703.03400): parameters that a gradient step on a task's episodes adapts.

Inner step, for each task k on its episodes so far (all tasks at once, weights [K, ...]):

    J_k(theta) = mean_t [ pi_theta(a_t|s_t) / pi_old(a_t|s_t) * A_t ]
    theta_k    = theta + inner_lr * grad J_k(theta)

The ratio's gradient at theta is the policy gradient, and its curvature credits the exploration that found the data (the
low-variance curvature surrogate of arXiv 1810.06784, equation 5). What adapts is a context, a vector that the policy
reads beside its observation (arXiv 1810.03642), or every weight.

Outer step: the clipped surrogate on the rounds before, between and after the inner steps (arXiv 1810.06784), or TRPO
(arXiv 1502.05477) on the last round, differentiated through all inner steps (`agents.meta_gradient`). The advantages
A_t are those of `agents.maml_advantages`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from agents import gaussian_policy
from agents.advantages import STEPS_PER_FEATURE, baseline_features
from agents.agent import Decision, Sizes, Trajectories, Transition
from agents.finite import warn_of_skipped
from agents.maml_advantages import CriticAdvantages, FittedAdvantages
from agents.meta_gradient import MetaObjective, StepData
from agents.meta_parameters import MetaParameters
from agents.meta_update import clipped_update, trust_region_update
from agents.optimiser_state import adam_state, load_adam_state
from agents.policy_derivatives import Layout, forward
from envs.errors import UserError, check_range

MAX_ADAPTED = 2**30  # weights of all tasks together, 4 GiB


@dataclass(frozen=True)
class MamlConfig:
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Units of the policy's layers."""
    activation: Literal["tanh", "relu"] = "tanh"
    """What follows each of these layers; relu is the cheaper one."""
    adapted: Literal["context", "weights"] = "context"
    """What an inner step changes: the context alone, or every weight."""
    context_size: int = 16
    """Context: its entries."""
    inner_lr: float | None = None
    """Step size of an inner step; where it is learned, the first guess. None is 50 for a context, 0.1 for weights."""
    learn_inner_lr: bool = True
    """Learn one step size for each adapted tensor and inner step."""
    inner_steps: int = 2
    """Inner steps in training, each after freshly collected episodes."""
    reuse_episodes: bool = True
    """An inner step learns from all episodes of the task so far, reweighted; otherwise from the last round's alone."""
    inner_clip_range: float = 1.0
    """Reused episodes: their likelihood ratio counts within 1 - this and 1 + this."""
    first_order: bool = False
    """Leave the inner steps' curvature out of the meta-gradient."""
    meta_batch_size: int = 20
    """Tasks of one meta-iteration."""
    episodes_per_step: int = 5
    """New episodes of each task before an inner step."""
    inner_discount: float = 0.5
    """Discount of the inner steps' advantages: a shorter horizon than the task's, because further steps add noise."""
    inner_gae_lambda: float = 0.0
    """Advantage horizon of the inner steps."""
    discount: float = 0.99
    """Per step, within the episode."""
    gae_lambda: float = 0.95
    """Advantage horizon, within the episode."""
    baseline: Literal["critic", "time", "observations"] = "critic"
    """What returns are compared with: critics learned over all tasks, or a regression fitted to each task's round, on
    time alone or on the observations too. The last is refused where a round has too few steps for it."""
    critic_size: int = 128
    """Critics: units of each of their two layers."""
    critic_learning_rate: float = 1e-3
    """Critics: Adam's step size."""
    critic_epochs: int = 4
    """Critics: passes over the rounds of an update."""
    critic_batch_size: int = 1000
    """Critics: steps of one gradient step."""
    initial_log_std: float = -0.5
    """Log deviation of the first policy's actions."""
    exploration_log_std: float | None = 0.0
    """Log deviation of the actions before the first inner step, which explore for that step alone: the meta-update
    does not count what they earn. None for the policy's own; then it counts."""
    outer: Literal["ppo", "trpo"] = "ppo"
    """The meta-update: clipped surrogate on all rounds, or trust region on the last."""
    outer_normalisation: Literal["task", "batch"] = "batch"
    """Advantages of the meta-update have unit deviation over the batch, so that tasks with larger advantages weigh
    more, or in each task."""
    learning_rate: float = 1.5e-3
    """PPO: Adam's first step size, and the largest; see `desired_kl`."""
    epochs: int = 6
    """PPO: passes over the tasks in one meta-update."""
    minibatches: int = 5
    """PPO: at most so many parts, into which each pass splits the tasks."""
    clip_range: float = 0.2
    """PPO: bound on the likelihood ratio."""
    desired_kl: float = 0.02
    """PPO: mean KL of an update. After twice as much, its passes end and the step size falls by a factor of 1.2; after
    half as much it rises again."""
    max_kl: float = 0.01
    """TRPO: bound on the mean KL from the adapted policies that collected the data."""
    conjugate_gradient_steps: int = 10
    """TRPO: iterations of the solver for the step's direction."""
    damping: float = 1e-2
    """TRPO: added to the curvature's diagonal."""
    curvature_stride: int = 4
    """TRPO: one time step in so many counts for the curvature."""

    def __post_init__(self) -> None:
        check_range(self, 1, 1024, "hidden_sizes", "context_size", "critic_size")
        check_range(self, 1, 100, "inner_steps")
        check_range(self, 1, 1_000, "epochs", "critic_epochs", "conjugate_gradient_steps")
        check_range(self, 1, 10_000, "meta_batch_size", "episodes_per_step", "minibatches", "curvature_stride")
        check_range(self, 1, 1_000_000, "critic_batch_size")
        check_range(self, 0, 1, "inner_discount", "inner_gae_lambda", "discount", "gae_lambda")
        check_range(self, 1e-8, 10_000, "inner_lr")
        check_range(
            self, 1e-8, 100, "max_kl", "damping", "learning_rate", "clip_range", "inner_clip_range", "desired_kl"
        )
        check_range(self, 1e-8, 100, "critic_learning_rate")
        check_range(self, gaussian_policy.MIN_LOG_STD, 2, "initial_log_std", "exploration_log_std")
        adapted = self.meta_batch_size * sum(rows * columns for rows, columns in pairwise(self.hidden_sizes))
        if adapted > MAX_ADAPTED:
            raise UserError(
                f"meta-batch-size copies of the weights between hidden-sizes must be at most {MAX_ADAPTED} numbers,"
                f" got {adapted}"
            )

    @property
    def adapted_context(self) -> int:
        """Entries of the context that adapts; 0 where every weight does."""
        return self.context_size if self.adapted == "context" else 0

    @property
    def first_inner_lr(self) -> float:
        """The step size to begin with."""
        return (50.0 if self.adapted == "context" else 0.1) if self.inner_lr is None else self.inner_lr

    @classmethod
    def completed(cls, written: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a run that may be from before some of them existed, with what those then were."""
        before: dict[str, Any] = {
            "adapted": "weights",
            "reuse_episodes": False,
            "baseline": "observations",
            "exploration_log_std": None,
            "outer_normalisation": "task",
            "inner_discount": written.get("discount", 0.99),
            "inner_gae_lambda": written.get("gae_lambda", 0.97),
        }
        return {**(before if "adapted" not in written else {}), **written}


@dataclass(frozen=True)
class MamlMemory:
    """Per-task weights [K, P], or the shared ones [P] before any step; the inner steps taken; the episodes that the
    next one learns from, beside the new ones."""

    theta: Tensor
    steps: int
    generator: torch.Generator
    seen: StepData | None = None


class Maml:
    """The agent and its meta-learner."""

    name: ClassVar[str] = "maml"
    privileged: ClassVar[bool] = False
    config_type: ClassVar[type] = MamlConfig

    def __init__(self, config: MamlConfig, sizes: Sizes, generator: torch.Generator) -> None:
        self.config = config
        self._sizes = sizes
        self.layout = Layout(
            (sizes.observation, *config.hidden_sizes, sizes.action), config.activation, config.adapted_context
        )
        first = gaussian_policy.initial_params(self.layout.sizes, config.initial_log_std, generator)
        if config.adapted_context:
            shape = self.layout.shapes["weight_context"]
            first["context"] = torch.zeros(shape[0])
            first["weight_context"] = torch.randn(shape, generator=generator) / shape[0] ** 0.5
        self.parameters = MetaParameters(
            self.layout,
            self.layout.flatten(first),
            ["context"] if config.adapted_context else list(self.layout.shapes),
            config.inner_steps,
            config.first_inner_lr,
            learned=config.learn_inner_lr,
            logarithmic=config.outer == "ppo",
        )
        self._optimiser = torch.optim.Adam(self.parameters.tensors(), lr=config.learning_rate, eps=1e-5)
        self.estimator: CriticAdvantages | FittedAdvantages
        if config.baseline == "critic":
            self.estimator = CriticAdvantages(config, sizes, generator)
        else:
            self.estimator = FittedAdvantages(config)

    @property
    def theta(self) -> Tensor:
        """[P]: the shared weights, which begin every adaptation."""
        return self.parameters.theta

    # -- acting and adapting -------------------------------------------------------------------------------------------

    @property
    def episodes_per_round(self) -> int:
        return self.config.episodes_per_step

    def fresh(self, k: int, e: int, generator: torch.Generator) -> MamlMemory:
        return MamlMemory(self.theta.clone(), 0, generator)

    def act(self, memory: MamlMemory, obs: Tensor, explore: bool) -> tuple[Decision, MamlMemory]:
        shared = memory.theta.dim() == 1
        with torch.no_grad():
            rows = obs.reshape(1, -1, obs.shape[-1]) if shared else obs
            now = forward(self.layout, memory.theta.unsqueeze(0) if shared else memory.theta, rows)
            mean, log_std = now.mean.view(*obs.shape[:2], -1), now.log_std
            if memory.steps == 0 and self.config.exploration_log_std is not None:
                log_std = torch.full_like(log_std, self.config.exploration_log_std)
            action = gaussian_policy.sample(mean, log_std, memory.generator) if explore else mean
            log_prob = gaussian_policy.log_prob(mean, log_std, action)
        return Decision(action, log_prob, torch.zeros_like(log_prob)), memory

    def observe(self, memory: MamlMemory, transition: Transition) -> MamlMemory:
        return memory

    def adapt(self, memory: MamlMemory, trajectories: Trajectories) -> MamlMemory:
        """One inner step. Steps beyond those of training go half as far as the last one trained.

        A task whose new episodes or weights would not be finite keeps the weights it has.
        """
        last = min(memory.steps, self.config.inner_steps - 1)
        shrink = 1.0 if memory.steps < self.config.inner_steps else 0.5
        with torch.no_grad():
            new = self._inner_data(trajectories, memory.steps)
            failed = new.not_finite()
            seen = _followed(memory.seen, new.emptied(failed))
            step_sizes = shrink * self.parameters.spread[last : last + 1]
            theta = self._objective([seen], [seen]).thetas(memory.theta, step_sizes)[-1]
            failed = failed | ~torch.isfinite(theta).all(dim=1)
            if failed.any():
                theta = torch.where(failed[:, None], memory.theta, theta)
                seen = _followed(memory.seen, new.emptied(failed))
                warn_of_skipped(self.name, int(failed.sum()), len(failed))
        kept = seen if self.config.reuse_episodes else None
        return replace(memory, theta=theta, steps=memory.steps + 1, seen=kept)

    def _inner_data(self, played: Trajectories, steps: int) -> StepData:
        """What inner steps learn from a round that was played after so many of them."""
        data, exploration = self.estimator.inner(played), self.config.exploration_log_std
        if exploration is None:
            return data
        return replace(data, fixed_log_std=torch.full_like(data.log_prob, torch.nan if steps else exploration))

    def _objective(self, inner: list[StepData], outer: list[StepData]) -> MetaObjective:
        config = self.config
        return MetaObjective(
            self.layout,
            inner,
            outer,
            first_order=config.first_order,
            inner_clip_range=config.inner_clip_range if config.reuse_episodes else None,
            clip_range=config.clip_range if config.outer == "ppo" else None,
        )

    # -- meta-learning -------------------------------------------------------------------------------------------------

    @property
    def meta_batch_size(self) -> int:
        return self.config.meta_batch_size

    @property
    def train_episodes(self) -> int:
        return self.config.episodes_per_step

    @property
    def rounds(self) -> int:
        return self.config.inner_steps + 1

    def check_training(self) -> None:
        """Raise `UserError` where a round has fewer steps than the baseline wants.

        With nearly as many features as steps, a regression explains away what an inner step should learn from.
        """
        config, sizes = self.config, self._sizes
        if config.baseline == "critic":
            return
        features = baseline_features(sizes.observation if config.baseline == "observations" else 0)
        least = -(-STEPS_PER_FEATURE * features // sizes.horizon)
        if config.episodes_per_step < least:
            raise UserError(
                f"the baseline '{config.baseline}' needs episodes-per-step of {least} or more here, got"
                f" {config.episodes_per_step}: its {features} features would explain the task's signal away;"
                " use the baseline 'critic'"
            )

    def update(self, rounds: list[Trajectories], generator: torch.Generator, progress: float = 0.0) -> dict[str, float]:
        with torch.no_grad():
            new = [self._inner_data(played, steps) for steps, played in enumerate(rounds[:-1])]
            inner = list(accumulate(new, StepData.followed_by)) if self.config.reuse_episodes else new
            thetas = self._objective(inner, new[-1:]).thetas(self.theta, self.parameters.spread)
            if self.config.outer == "trpo":
                objective = self._objective(inner, self.estimator.outer(rounds[-1:], thetas[-1:]))
                metrics = trust_region_update(self.parameters, objective, self.config)
            else:
                first = 0 if self.config.exploration_log_std is None else 1  # of the rounds that count
                outer = self.estimator.outer(rounds[first:], thetas[first:])
                objective = self._objective(inner, outer)
                metrics = clipped_update(self.parameters, self._optimiser, objective, self.config, generator)
            if isinstance(self.estimator, CriticAdvantages):
                metrics |= self.estimator.fit(rounds, thetas, generator)
        return metrics | {
            "train/std": float(self.layout.split(self.theta)["log_std"].exp().mean()),
            "train/inner_lr": float(self.parameters.step_sizes.mean()),
        }

    def state(self) -> dict[str, Tensor]:
        state = self.parameters.state() | adam_state(self._optimiser, "optimiser")
        if self.config.outer == "ppo":
            step_size = self._optimiser.param_groups[0]["lr"]
            state["optimiser/learning_rate"] = torch.tensor(step_size, dtype=torch.float64)
        return state | (self.estimator.state() if isinstance(self.estimator, CriticAdvantages) else {})

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self.parameters.load_state(state)
        load_adam_state(self._optimiser, "optimiser", state)
        if self.config.outer == "ppo":
            self._optimiser.param_groups[0]["lr"] = float(state["optimiser/learning_rate"])
        if isinstance(self.estimator, CriticAdvantages):
            self.estimator.load_state(state)


def _followed(seen: StepData | None, new: StepData) -> StepData:
    return new if seen is None else seen.followed_by(new)
