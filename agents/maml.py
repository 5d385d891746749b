"""MAML for reinforcement learning (arXiv 1703.03400): weights that one gradient step on a task's episodes adapts.

Inner step, for each task k on a round of its own episodes (all tasks at once, weights [K, ...]):

    J_k(theta) = mean_t [ pi_theta(a_t|s_t) / pi_old(a_t|s_t) * A_t ]
    theta_k    = theta + inner_lr * grad J_k(theta)

The ratio's gradient at theta is the policy gradient, and its curvature credits the exploration that found the data (the
low-variance curvature surrogate of arXiv 1810.06784, equation 5). Outer step: TRPO (arXiv 1502.05477) or the clipped
surrogate on the episodes collected after the last inner step, differentiated through all inner steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from agents import gaussian_policy
from agents.advantages import discounted_returns, generalized_advantages, linear_baseline, masked_mean, normalised
from agents.agent import Decision, Trajectories, Transition
from agents.gaussian_policy import Params
from agents.optimiser_state import adam_state, load_adam_state, load_tensors
from agents.trust_region import trust_region_step
from envs.errors import check_range


@dataclass(frozen=True)
class MamlConfig:
    hidden_sizes: tuple[int, ...] = (64, 64)
    """Units of the policy's tanh layers."""
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
    max_kl: float = 0.01
    """TRPO: bound on the mean KL from the adapted policies that collected the data."""
    conjugate_gradient_steps: int = 10
    """TRPO: iterations of the solver for the step's direction."""
    damping: float = 1e-2
    """TRPO: added to the curvature's diagonal."""
    curvature_stride: int = 4
    """TRPO: every how many time steps count for the curvature."""
    learning_rate: float = 3e-4
    """PPO: Adam's step size."""
    epochs: int = 5
    """PPO: gradient steps of one meta-update."""
    clip_range: float = 0.2
    """PPO: bound on the likelihood ratio."""

    def __post_init__(self) -> None:
        sizes = ("hidden_sizes", "inner_steps", "meta_batch_size", "episodes_per_step", "epochs")
        check_range(self, 1, math.inf, *sizes, "conjugate_gradient_steps", "curvature_stride")
        check_range(self, 0, 1, "discount", "gae_lambda")
        check_range(self, 1e-8, math.inf, "inner_lr", "max_kl", "damping", "learning_rate", "clip_range")
        check_range(self, gaussian_policy.MIN_LOG_STD, 2, "initial_log_std")


@dataclass(frozen=True)
class MamlMemory:
    """Per-task weights {name: [K, ...]}, or the shared ones before any step, and the inner steps taken."""

    params: Params
    steps: int
    generator: torch.Generator


@dataclass(frozen=True)
class StepData:
    """A round as the losses need it: obs [K, B, O], action [K, B, A], the rest [K, B]; B = T * E."""

    obs: Tensor
    action: Tensor
    log_prob: Tensor
    advantage: Tensor
    valid: Tensor


def surrogate(params: Params, data: StepData) -> Tensor:
    """J_k [K] of each task: the importance-weighted advantage."""
    mean, log_std = gaussian_policy.mean_and_log_std(params, data.obs)
    ratio = torch.exp(gaussian_policy.log_prob(mean, log_std, data.action) - data.log_prob)
    return masked_mean(ratio * data.advantage, data.valid, (1,))


def clipped_surrogate(params: Params, data: StepData, clip_range: float) -> Tensor:
    """J_k [K] with PPO's pessimistic bound (arXiv 1707.06347, equation 7)."""
    mean, log_std = gaussian_policy.mean_and_log_std(params, data.obs)
    ratio = torch.exp(gaussian_policy.log_prob(mean, log_std, data.action) - data.log_prob)
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    return masked_mean(torch.minimum(ratio * data.advantage, clipped * data.advantage), data.valid, (1,))


def inner_step(params: Params, step_sizes: Params, data: StepData, create_graph: bool, first_order: bool) -> Params:
    """theta_k = theta + inner_lr * grad J_k(theta), for all tasks: {name: [K, ...]}.

    create_graph: keep the result differentiable in `params` and `step_sizes`. first_order: treat the gradient as a
    constant.
    """
    gradients = torch.autograd.grad(
        surrogate(params, data).sum(), list(params.values()), create_graph=create_graph and not first_order
    )
    return {
        name: value + step_sizes[name] * (gradient.detach() if first_order else gradient)
        for (name, value), gradient in zip(params.items(), gradients, strict=True)
    }


class Maml:
    """The agent and its meta-learner."""

    name: ClassVar[str] = "maml"
    privileged: ClassVar[bool] = False
    config_type: ClassVar[type] = MamlConfig

    def __init__(
        self, config: MamlConfig, observation_size: int, action_size: int, horizon: int, generator: torch.Generator
    ) -> None:
        self.config = config
        sizes = (observation_size, *config.hidden_sizes, action_size)
        self.params = gaussian_policy.initial_params(sizes, config.initial_log_std, generator)
        # One step size per weight tensor and inner step.
        self.step_sizes = [
            {name: torch.tensor(config.inner_lr) for name in self.params} for _ in range(config.inner_steps)
        ]
        for tensor in self._learned():
            tensor.requires_grad_()
        self._optimiser = torch.optim.Adam(self._learned(), lr=config.learning_rate)

    def _learned(self) -> list[Tensor]:
        """What the meta-update changes, in one fixed order."""
        learned = list(self.params.values())
        if self.config.learn_inner_lr:
            learned += [size for sizes in self.step_sizes for size in sizes.values()]
        return learned

    # -- acting and adapting -------------------------------------------------------------------------------------------

    @property
    def episodes_per_round(self) -> int:
        return self.config.episodes_per_step

    def fresh(self, k: int, e: int, generator: torch.Generator) -> MamlMemory:
        return MamlMemory({name: value.detach() for name, value in self.params.items()}, 0, generator)

    def act(self, memory: MamlMemory, obs: Tensor, explore: bool) -> tuple[Decision, MamlMemory]:
        with torch.no_grad():
            mean, log_std = gaussian_policy.mean_and_log_std(memory.params, obs)
            action = gaussian_policy.sample(mean, log_std, memory.generator) if explore else mean
            log_prob = gaussian_policy.log_prob(mean, log_std, action)
        return Decision(action, log_prob, torch.zeros_like(log_prob)), memory

    def observe(self, memory: MamlMemory, transition: Transition) -> MamlMemory:
        return memory

    def adapt(self, memory: MamlMemory, trajectories: Trajectories) -> MamlMemory:
        """One inner step. Steps beyond those of training go half as far as the last one trained."""
        tasks = trajectories.obs.shape[1]
        last = min(memory.steps, self.config.inner_steps - 1)
        shrink = 1.0 if memory.steps < self.config.inner_steps else 0.5
        sizes = {name: size.detach() * shrink for name, size in self.step_sizes[last].items()}
        params = {name: value.detach().requires_grad_() for name, value in per_task(memory.params, tasks).items()}
        adapted = inner_step(params, sizes, self.step_data(trajectories), create_graph=False, first_order=True)
        return replace(memory, params={name: value.detach() for name, value in adapted.items()}, steps=memory.steps + 1)

    def step_data(self, trajectories: Trajectories) -> StepData:
        """Advantages over the linear baseline, normalised for each task; the horizon is the end of what counts."""
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
            advantage=_by_task(normalised(advantage, valid, (0, 2))),
            valid=_by_task(valid),
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

    def adapted(self, inner: list[StepData], create_graph: bool) -> Params:
        """{name: [K, ...]}: the weights after every inner step, differentiable in the meta-parameters if asked."""
        params = per_task(self.params, len(inner[0].obs))
        for sizes, data in zip(self.step_sizes, inner, strict=True):
            params = inner_step(params, sizes, data, create_graph, self.config.first_order)
        return params

    def update(self, rounds: list[Trajectories], generator: torch.Generator) -> dict[str, float]:
        inner, outer = [self.step_data(r) for r in rounds[:-1]], self.step_data(rounds[-1])
        with torch.enable_grad():
            old_mean, old_log_std = self._policy(self.adapted_without_graph(inner), outer.obs)
            if self.config.outer == "trpo":
                metrics = self._trpo(inner, outer, old_mean, old_log_std)
            else:
                metrics = self._ppo(inner, outer)
        with torch.no_grad():
            after = self.adapted_without_graph(inner)
            mean, log_std = self._policy(after, outer.obs)
            kl = masked_mean(gaussian_policy.kl_divergence(old_mean, old_log_std, mean, log_std), outer.valid)
        inner_sizes = torch.stack([size.detach() for sizes in self.step_sizes for size in sizes.values()])
        return metrics | {
            "train/approx_kl": float(kl),
            "train/std": float(self.params["log_std"].detach().exp().mean()),
            "train/inner_lr": float(inner_sizes.mean()),
        }

    def adapted_without_graph(self, inner: list[StepData]) -> Params:
        """The same weights as `adapted`, as constants."""
        with torch.enable_grad():
            return {name: value.detach() for name, value in self.adapted(inner, create_graph=False).items()}

    def _policy(self, params: Params, obs: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = gaussian_policy.mean_and_log_std(params, obs)
        return mean, log_std.expand_as(mean)

    def _trpo(self, inner: list[StepData], outer: StepData, old_mean: Tensor, old_log_std: Tensor) -> dict[str, float]:
        config = self.config
        stride = slice(None, None, config.curvature_stride)

        def kl(params: Params, subset: slice) -> Tensor:
            mean, log_std = self._policy(params, outer.obs[:, subset])
            divergence = gaussian_policy.kl_divergence(old_mean[:, subset], old_log_std[:, subset], mean, log_std)
            return masked_mean(divergence, outer.valid[:, subset])

        def objective_and_kl() -> tuple[float, float]:
            params = self.adapted_without_graph(inner)
            with torch.no_grad():
                return float(surrogate(params, outer).mean()), float(kl(params, slice(None)))

        adapted = self.adapted(inner, create_graph=True)
        objective = surrogate(adapted, outer).mean()
        return trust_region_step(
            self._learned(),
            objective,
            kl(adapted, stride),
            objective_and_kl,
            max_kl=config.max_kl,
            conjugate_gradient_steps=config.conjugate_gradient_steps,
            damping=config.damping,
        )

    def _ppo(self, inner: list[StepData], outer: StepData) -> dict[str, float]:
        norm = torch.zeros(())
        for _ in range(self.config.epochs):
            objective = clipped_surrogate(self.adapted(inner, create_graph=True), outer, self.config.clip_range)
            self._optimiser.zero_grad()
            (-objective.mean()).backward()
            norm = torch.nn.utils.clip_grad_norm_(self._learned(), 0.5)
            self._optimiser.step()
        return {"train/grad_norm": float(norm)}

    def state(self) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self._named().items()} | adam_state(
            self._optimiser, "optimiser"
        )

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        named = {name.removeprefix("meta/"): value for name, value in self._named().items()}
        load_tensors(named, "meta", state)
        load_adam_state(self._optimiser, "optimiser", state)

    def _named(self) -> dict[str, Tensor]:
        weights = {f"meta/policy/{name}": value for name, value in self.params.items()}
        sizes = {
            f"meta/inner_lr/{step}/{name}": size
            for step, named in enumerate(self.step_sizes)
            for name, size in named.items()
        }
        return weights | sizes


def per_task(params: Params, tasks: int) -> Params:
    """Shared weights as one set per task (no copy); weights that already are stay as they are."""
    if params["log_std"].dim() == 2:
        return dict(params)
    return {name: value.expand(tasks, *value.shape) for name, value in params.items()}


def _by_task(values: Tensor) -> Tensor:
    """[T, K, E, ...] -> [K, T * E, ...]."""
    swapped = values.transpose(0, 1)
    return swapped.reshape(swapped.shape[0], -1, *values.shape[3:])
