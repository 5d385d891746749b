"""MAML for reinforcement learning (arXiv 1703.03400): weights that one gradient step on a task's episodes adapts.

Inner step, for each task k on a round of its own episodes (all tasks at once, weights [K, ...]):

    J_k(theta) = mean_t [ pi_theta(a_t|s_t) / pi_old(a_t|s_t) * A_t ]
    theta_k    = theta + inner_lr * grad J_k(theta)

The ratio's gradient at theta is the policy gradient, and its curvature credits the exploration that found the data (the
low-variance curvature surrogate of arXiv 1810.06784, equation 5). Outer step: TRPO (arXiv 1502.05477) or the clipped
surrogate on the episodes collected after the last inner step, differentiated through all inner steps
(`agents.meta_gradient`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Literal

import torch
from torch import Tensor

from agents import gaussian_policy
from agents.advantages import discounted_returns, generalized_advantages, linear_baseline, normalised
from agents.agent import Decision, Sizes, Trajectories, Transition
from agents.finite import warn_of_skipped
from agents.meta_gradient import MetaObjective, StepData
from agents.optimiser_state import adam_state, load_adam_state, load_tensors
from agents.policy_derivatives import Layout, forward
from agents.trust_region import trust_region_step
from envs.errors import UserError, check_range

MAX_ADAPTED = 2**30  # weights of all tasks together, 4 GiB


@dataclass(frozen=True)
class MamlConfig:
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Units of the policy's layers."""
    activation: Literal["tanh", "relu"] = "tanh"
    """What follows each of these layers; relu is the cheaper one."""
    inner_lr: float = 0.1
    """Step size of an inner step; where it is learned, the first guess."""
    learn_inner_lr: bool = True
    """Learn one step size for each weight tensor and inner step."""
    inner_steps: int = 1
    """Inner steps in training, each on freshly collected episodes."""
    first_order: bool = False
    """Leave the inner steps' curvature out of the meta-gradient."""
    meta_batch_size: int = 20
    """Tasks of one meta-iteration."""
    episodes_per_step: int = 10
    """Episodes of each task that one inner step learns from."""
    discount: float = 0.99
    """Per step, within the episode."""
    gae_lambda: float = 0.97
    """Advantage horizon, within the episode."""
    initial_log_std: float = -0.5
    """Log deviation of the first policy's actions."""
    outer: Literal["trpo", "ppo"] = "trpo"
    """The meta-update."""
    outer_normalisation: Literal["task", "batch"] = "task"
    """Advantages of the meta-update have unit deviation in each task, or over the batch: then a task counts by what
    there is to win in it."""
    max_kl: float = 0.01
    """TRPO: bound on the mean KL from the adapted policies that collected the data."""
    conjugate_gradient_steps: int = 10
    """TRPO: iterations of the solver for the step's direction."""
    damping: float = 1e-2
    """TRPO: added to the curvature's diagonal."""
    curvature_stride: int = 4
    """TRPO: one time step in so many counts for the curvature."""
    learning_rate: float = 3e-4
    """PPO: Adam's step size."""
    epochs: int = 5
    """PPO: gradient steps of one meta-update."""
    clip_range: float = 0.2
    """PPO: bound on the likelihood ratio."""

    def __post_init__(self) -> None:
        check_range(self, 1, 1024, "hidden_sizes")
        check_range(self, 1, 100, "inner_steps")
        check_range(self, 1, 1_000, "epochs", "conjugate_gradient_steps")
        check_range(self, 1, 10_000, "meta_batch_size", "episodes_per_step", "curvature_stride")
        check_range(self, 0, 1, "discount", "gae_lambda")
        check_range(self, 1e-8, 100, "inner_lr", "max_kl", "damping", "learning_rate", "clip_range")
        check_range(self, gaussian_policy.MIN_LOG_STD, 2, "initial_log_std")
        adapted = self.meta_batch_size * sum(rows * columns for rows, columns in pairwise(self.hidden_sizes))
        if adapted > MAX_ADAPTED:
            raise UserError(
                f"meta-batch-size copies of the weights between hidden-sizes must be at most {MAX_ADAPTED} numbers,"
                f" got {adapted}"
            )


@dataclass(frozen=True)
class MamlMemory:
    """Per-task weights [K, P], or the shared ones [P] before any step, and the inner steps taken."""

    theta: Tensor
    steps: int
    generator: torch.Generator


class Maml:
    """The agent and its meta-learner."""

    name: ClassVar[str] = "maml"
    privileged: ClassVar[bool] = False
    config_type: ClassVar[type] = MamlConfig

    def __init__(self, config: MamlConfig, sizes: Sizes, generator: torch.Generator) -> None:
        self.config = config
        self.layout = Layout((sizes.observation, *config.hidden_sizes, sizes.action), config.activation)
        first = gaussian_policy.initial_params(self.layout.sizes, config.initial_log_std, generator)
        self.theta = self.layout.flatten(first)
        # One step size per inner step and weight tensor.
        self.step_sizes = torch.full((config.inner_steps, len(self.layout.shapes)), config.inner_lr)
        self._optimiser = torch.optim.Adam(self._learned(), lr=config.learning_rate)

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
            action = gaussian_policy.sample(mean, log_std, memory.generator) if explore else mean
            log_prob = gaussian_policy.log_prob(mean, log_std, action)
        return Decision(action, log_prob, torch.zeros_like(log_prob)), memory

    def observe(self, memory: MamlMemory, transition: Transition) -> MamlMemory:
        return memory

    def adapt(self, memory: MamlMemory, trajectories: Trajectories) -> MamlMemory:
        """One inner step. Steps beyond those of training go half as far as the last one trained.

        A task whose weights would not be finite keeps those it has.
        """
        last = min(memory.steps, self.config.inner_steps - 1)
        shrink = 1.0 if memory.steps < self.config.inner_steps else 0.5
        with torch.no_grad():
            theta = inner_step(self.layout, memory.theta, shrink * self._sizes()[last], self.step_data(trajectories))
            failed = ~torch.isfinite(theta).all(dim=1)
            if failed.any():
                theta = torch.where(failed[:, None], memory.theta, theta)
                warn_of_skipped(self.name, int(failed.sum()), len(failed))
        return replace(memory, theta=theta, steps=memory.steps + 1)

    def _sizes(self) -> Tensor:
        """[S, P]: the step size of every weight."""
        return self.layout.spread(self.step_sizes)

    def step_data(self, trajectories: Trajectories, normalisation: Literal["task", "batch"] = "task") -> StepData:
        """Advantages over the linear baseline, normalised; the horizon is the end of what counts."""
        config, valid = self.config, trajectories.valid
        returns = discounted_returns(trajectories.reward, config.discount)
        baseline = linear_baseline(trajectories.obs, returns, valid)
        advantage = generalized_advantages(
            trajectories.reward,
            baseline,
            torch.zeros_like(baseline[0]),
            trajectories.terminated,
            config.discount,
            config.gae_lambda,
        )
        return StepData(
            obs=_by_task(trajectories.obs),
            action=_by_task(trajectories.action),
            log_prob=_by_task(trajectories.log_prob),
            advantage=_by_task(normalised(advantage, valid, (0, 2) if normalisation == "task" else (0, 1, 2))),
            valid=_by_task(valid),
            episodes=valid.shape[2],
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

    def update(self, rounds: list[Trajectories], generator: torch.Generator, progress: float = 0.0) -> dict[str, float]:
        config = self.config
        inner = [self.step_data(played) for played in rounds[:-1]]
        outer = self.step_data(rounds[-1], config.outer_normalisation)
        clip_range = config.clip_range if config.outer == "ppo" else None
        objective = MetaObjective(self.layout, inner, outer, first_order=config.first_order, clip_range=clip_range)
        with torch.no_grad():
            metrics = self._trpo(objective) if config.outer == "trpo" else self._ppo(objective)
        return metrics | {
            "train/std": float(self.layout.split(self.theta)["log_std"].exp().mean()),
            "train/inner_lr": float(self.step_sizes.mean()),
        }

    def _trpo(self, objective: MetaObjective) -> dict[str, float]:
        config = self.config
        sizes = self._sizes()
        at = objective.adapt(self.theta, sizes)
        here = objective.gradient(at, sizes)
        product = objective.curvature(at, sizes, config.curvature_stride)

        def curvature(vector: Tensor) -> Tensor:
            theta, step_sizes = self._unpack(vector)
            if step_sizes is None:
                step_sizes = torch.zeros_like(self.step_sizes)
            return self._pack(*product(theta, self.layout.spread(step_sizes)))

        divergences = [0.0]

        def objective_and_kl(vector: Tensor) -> tuple[float, float]:
            theta, step_sizes = self._unpack(vector)
            spread = sizes if step_sizes is None else self.layout.spread(step_sizes)
            value, kl = objective.objective_and_kl(theta, spread, here.outer)
            divergences.append(kl)
            return value, kl

        start = torch.cat([tensor.flatten() for tensor in self._learned()])
        moved, metrics = trust_region_step(
            start,
            float(here.objective.mean()),
            self._pack(here.theta, here.step_sizes),
            curvature,
            objective_and_kl,
            max_kl=config.max_kl,
            conjugate_gradient_steps=config.conjugate_gradient_steps,
            damping=config.damping,
        )
        theta, step_sizes = self._unpack(moved)
        self.theta.copy_(theta)
        if step_sizes is not None:
            self.step_sizes.copy_(step_sizes)
        return metrics | {"train/approx_kl": divergences[-1] if metrics["train/step_fraction"] else 0.0}

    def _ppo(self, objective: MetaObjective) -> dict[str, float]:
        norm, first = torch.zeros(()), None
        for _ in range(self.config.epochs):
            sizes = self._sizes()
            here = objective.gradient(objective.adapt(self.theta, sizes), sizes)
            first = first or here.outer
            by_learned = -self._pack(here.theta, here.step_sizes)
            for tensor, part in zip(self._learned(), self._unpack(by_learned), strict=False):
                tensor.grad = part
            norm = torch.nn.utils.clip_grad_norm_(self._learned(), 0.5)
            self._optimiser.step()
        _, kl = objective.objective_and_kl(self.theta, self._sizes(), first or [])
        return {"train/grad_norm": float(norm), "train/approx_kl": kl}

    def _learned(self) -> list[Tensor]:
        """What the meta-update changes: the weights [P] and, if they are learned, the step sizes."""
        return [self.theta, self.step_sizes] if self.config.learn_inner_lr else [self.theta]

    def _pack(self, theta: Tensor, sizes: Tensor) -> Tensor:
        """Derivatives by weights [P] and by every weight's step size [S, P], as one vector over what is learned."""
        if not self.config.learn_inner_lr:
            return theta
        return torch.cat([theta, self.layout.gather(sizes).flatten()])

    def _unpack(self, learned: Tensor) -> tuple[Tensor, Tensor | None]:
        """A vector over what is learned as weights [P] and step sizes [S, tensors], None where these are fixed."""
        theta, sizes = learned.split([len(self.theta), len(learned) - len(self.theta)])
        return theta, sizes.view_as(self.step_sizes) if self.config.learn_inner_lr else None

    def state(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self._named().items()} | adam_state(self._optimiser, "optimiser")

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        named = {name.removeprefix("meta/"): value for name, value in self._named().items()}
        load_tensors(named, "meta", state)
        load_adam_state(self._optimiser, "optimiser", state)

    def _named(self) -> dict[str, Tensor]:
        """Views of the weights and the step sizes by name."""
        weights = {f"meta/policy/{name}": value for name, value in self.layout.split(self.theta).items()}
        sizes = {
            f"meta/inner_lr/{step}/{name}": size
            for step, row in enumerate(self.step_sizes)
            for name, size in zip(self.layout.shapes, row, strict=True)
        }
        return weights | sizes


def inner_step(layout: Layout, theta: Tensor, step_sizes: Tensor, data: StepData) -> Tensor:
    """theta + step_sizes * grad J_k(theta), [K, P], from weights [K, P] or shared [P]."""
    return MetaObjective(layout, [data], data).adapted(theta, step_sizes.unsqueeze(0))


def _by_task(values: Tensor) -> Tensor:
    """[T, K, E, ...] -> [K, T * E, ...]."""
    swapped = values.transpose(0, 1)
    return swapped.reshape(swapped.shape[0], -1, *values.shape[3:])
