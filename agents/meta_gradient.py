"""MAML's outer objective as a function of its meta-parameters: value, gradient, curvature, without a graph.

With g_i(theta) the gradient of an inner step's objective, H_i its Hessian, and s_i the step sizes, each task adapts by

    theta_{i+1} = theta_i + s_i * g_i(theta_i)

A cotangent u of the adapted weights goes back through a step as u + H_i (s_i * u), and leaves u * g_i for the step
sizes; a tangent t goes forward as t + s_i * (H_i t) + ds_i * g_i. Both need Hessian-vector products alone. A step size
of zero holds its tensor: where all but the context's are zero, the context alone adapts.

Tasks are worked through in blocks that fit the cache, shared out over torch's number of threads. The blocks depend on
the data's shape alone and each one's arithmetic runs in one thread: the results are the same bits at any number.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from agents.gaussian_policy import kl_divergence
from agents.policy_derivatives import (
    Forward,
    Layout,
    Surrogate,
    fisher_product,
    forward,
    hessian_product,
    surrogate,
    surrogate_terms,
)

BLOCK_ENTRIES = 400_000
"""Activations of one layer in a block of tasks: what stays in a processor's cache."""

STEPS = ("obs", "action", "log_prob", "advantage", "valid")  # what `StepData` holds of every step

R = TypeVar("R")


@dataclass(frozen=True)
class StepData:
    """A round as the losses need it: obs [K, B, O], action [K, B, A], the rest [K, B]; B = T * E, time first.

    fixed_log_std: the log deviation of actions that were not played with the policy's own, NaN for the others; none
    where all were.
    """

    obs: Tensor
    action: Tensor
    log_prob: Tensor
    advantage: Tensor
    valid: Tensor
    episodes: int
    """E."""
    fixed_log_std: Tensor | None = None

    def thinned(self, stride: int) -> StepData:
        """One step in `stride` of every episode, at other times in each."""
        steps = torch.arange(self.valid.shape[1])
        chosen = steps[(steps // self.episodes + steps % self.episodes) % stride == 0]
        return self._each(lambda name: getattr(self, name)[:, chosen])

    def of_tasks(self, tasks: Tensor) -> StepData:
        """The same for some of the tasks [k]."""
        return self._each(lambda name: getattr(self, name)[tasks])

    def followed_by(self, later: StepData) -> StepData:
        """This round of some tasks, then another one of theirs."""
        return self._each(lambda name: torch.cat([getattr(self, name), getattr(later, name)], dim=1))

    def not_finite(self) -> Tensor:
        """[K] bool: tasks with a number that is NaN or infinite."""
        parts = (self.obs, self.action, self.log_prob, self.advantage)
        return torch.stack([~torch.isfinite(part).flatten(1).all(1) for part in parts]).any(0)

    def emptied(self, tasks: Tensor) -> StepData:
        """No step of the tasks [K] bool counts."""
        return self._each(lambda name: getattr(self, name).masked_fill(_like(tasks, getattr(self, name)), 0))

    def _each(self, change: Callable[[str], Tensor]) -> StepData:
        """With what `change` gives for each tensor's name."""
        names = STEPS if self.fixed_log_std is None else (*STEPS, "fixed_log_std")
        return StepData(**{name: change(name) for name in names}, episodes=self.episodes)

    def weight(self, per_task: bool) -> Tensor:
        """[K, B]: what each valid step counts in a mean over its task, or over all tasks."""
        valid = self.valid.to(self.obs.dtype)
        return valid / (valid.sum(1, keepdim=True) if per_task else valid.sum()).clamp(min=1.0)


@dataclass(frozen=True)
class Adaptation:
    """thetas: weights [K, P] before the first inner step, between the steps, and after the last; steps: each inner
    step's passes, by block."""

    thetas: list[Tensor]
    steps: list[list[Surrogate]]

    def gradient(self, step: int) -> Tensor:
        """[K, P]: what that inner step followed."""
        return torch.cat([part.gradient for part in self.steps[step]])


@dataclass(frozen=True)
class MetaGradient:
    """objective [K] of each task; the derivatives of its mean: theta [P], step_sizes [S, P]; outer: the passes over
    each of the outer rounds, by block."""

    objective: Tensor
    theta: Tensor
    step_sizes: Tensor
    outer: list[list[Surrogate]]


class MetaObjective:
    """Rounds of K tasks: what each of S inner steps learns from, and the rounds that are to get better by it."""

    def __init__(
        self,
        layout: Layout,
        inner: Sequence[StepData],
        outer: Sequence[StepData],
        *,
        first_order: bool = False,
        inner_clip_range: float | None = None,
        clip_range: float | None = None,
    ) -> None:
        """outer: the last is what the policies after all inner steps collected, the one before it what they collected
        one step earlier, and so on; the objective is the mean over them. first_order: leave the inner steps' curvature
        out. inner_clip_range, clip_range: PPO's bounds on the objectives of the inner steps and of the outer rounds."""
        self.layout, self.inner, self.outer = layout, inner, outer
        self.first_order, self.inner_clip_range, self.clip_range = first_order, inner_clip_range, clip_range
        self._inner_credit = [data.advantage * data.weight(per_task=True) for data in inner]
        self._outer_credit = [data.advantage * data.weight(per_task=True) for data in outer]

    @property
    def tasks(self) -> int:
        return len(self.outer[-1].obs)

    def of_tasks(self, tasks: Tensor) -> MetaObjective:
        """The objective of some of the tasks [k]."""
        return MetaObjective(
            self.layout,
            [data.of_tasks(tasks) for data in self.inner],
            [data.of_tasks(tasks) for data in self.outer],
            first_order=self.first_order,
            inner_clip_range=self.inner_clip_range,
            clip_range=self.clip_range,
        )

    @property
    def outer_at(self) -> range:
        """After how many inner steps each of the outer rounds was collected."""
        return range(len(self.inner) + 1 - len(self.outer), len(self.inner) + 1)

    def adapt(self, theta: Tensor, step_sizes: Tensor) -> Adaptation:
        """Inner steps from the shared weights theta [P] with step_sizes [S, P]."""
        thetas, steps = [theta.expand(self.tasks, -1)], []
        for index in range(len(self.inner)):
            steps.append(self._inner_pass(index, thetas[-1]))
            gradient = torch.cat([part.gradient for part in steps[-1]])
            thetas.append(thetas[-1] + step_sizes[index] * gradient)
        return Adaptation(thetas, steps)

    def thetas(self, theta: Tensor, step_sizes: Tensor) -> list[Tensor]:
        """[K, P] each: the weights before and after each step of `adapt`, to the bit, without the passes that it
        keeps."""
        thetas = [theta.expand(self.tasks, -1)]
        for index, data in enumerate(self.inner):
            gradients = in_blocks(self.layout, data, partial(self._inner_gradient, index, thetas[-1]))
            thetas.append(thetas[-1] + step_sizes[index] * torch.cat(gradients))
        return thetas

    def gradient(self, at: Adaptation, step_sizes: Tensor) -> MetaGradient:
        """The objective and its derivatives where `adapt` went."""
        passes = [
            in_blocks(self.layout, data, partial(self._surrogate, data, credit, self.clip_range, at.thetas[steps]))
            for steps, data, credit in zip(self.outer_at, self.outer, self._outer_credit, strict=True)
        ]
        share = 1.0 / (self.tasks * len(self.outer))
        cotangents = [torch.cat([part.gradient for part in parts]) * share for parts in passes]
        by_theta, by_sizes = self.pull_back(at, step_sizes, cotangents)
        objective = torch.stack([torch.cat([part.value for part in parts]) for parts in passes]).mean(0)
        return MetaGradient(objective, by_theta, by_sizes, passes)

    def pull_back(self, at: Adaptation, step_sizes: Tensor, cotangents: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Derivatives by theta [P] and step sizes [S, P] from those by the weights of each outer round, [K, P]."""
        by_sizes = torch.zeros_like(step_sizes)
        cotangent = cotangents[-1]
        first = self.outer_at.start
        for index in range(len(at.steps) - 1, -1, -1):
            by_sizes[index] = (cotangent * at.gradient(index)).sum(0)
            if not self.first_order:
                cotangent = cotangent + self._hessian(at, index, step_sizes[index] * cotangent)
            if index >= first:
                cotangent = cotangent + cotangents[index - first]
        return cotangent.sum(0), by_sizes

    def push_forward(self, at: Adaptation, step_sizes: Tensor, theta: Tensor, sizes: Tensor) -> list[Tensor]:
        """How the weights of each outer round move, [K, P], as theta moves along [P], the step sizes along [S, P]."""
        moves = [theta.expand(self.tasks, -1)]
        for index in range(len(at.steps)):
            curved = 0.0 if self.first_order else step_sizes[index] * self._hessian(at, index, moves[-1])
            moves.append(moves[-1] + curved + sizes[index] * at.gradient(index))
        return [moves[steps] for steps in self.outer_at]

    def curvature(
        self, at: Adaptation, step_sizes: Tensor, stride: int
    ) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """The Hessian, at `at`, of the mean KL from the policies as they are there: a product with (theta [P], step
        sizes [S, P]), estimated from one step in `stride` of every round."""
        outer = [data.thinned(stride) for data in self.outer]
        inner = [data.thinned(stride) for data in self.inner]
        thin = MetaObjective(
            self.layout, inner, outer, first_order=self.first_order, inner_clip_range=self.inner_clip_range
        )
        here = Adaptation(at.thetas, [thin._inner_pass(i, at.thetas[i]) for i in range(len(inner))])
        now = [
            in_blocks(self.layout, data, partial(self._forward, data, at.thetas[steps]))
            for steps, data in zip(self.outer_at, outer, strict=True)
        ]
        weights = [data.weight(per_task=False) / len(outer) for data in outer]

        def image(data: StepData, passes: list[Forward], weight: Tensor, move: Tensor) -> Tensor:
            products = in_blocks(
                self.layout, data, lambda k, part: fisher_product(self.layout, part, weight[k], move[k]), passes
            )
            return torch.cat(products)

        def product(theta: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
            moves = thin.push_forward(here, step_sizes, theta, sizes)
            return thin.pull_back(here, step_sizes, list(map(image, outer, now, weights, moves)))

        return product

    def objective_and_kl(self, theta: Tensor, step_sizes: Tensor, old: list[list[Surrogate]]) -> tuple[float, float]:
        """The mean objective at other meta-parameters, without its bounds, and the mean KL from the policies of
        `MetaGradient.outer`."""
        thetas = self.thetas(theta, step_sizes)
        objective = divergence = 0.0
        for steps, data, credit, passes in zip(self.outer_at, self.outer, self._outer_credit, old, strict=True):
            evaluate = partial(self._credit_and_kl, data, credit, data.weight(per_task=False), thetas[steps])
            parts = in_blocks(self.layout, data, evaluate, passes)
            earned, kl = (torch.stack(column).sum() for column in zip(*parts, strict=True))
            objective, divergence = objective + float(earned), divergence + float(kl)
        return objective / (self.tasks * len(self.outer)), divergence / len(self.outer)

    def _credit_and_kl(
        self, data: StepData, credit: Tensor, weight: Tensor, theta: Tensor, k: slice, before: Surrogate
    ) -> tuple[Tensor, Tensor]:
        now = self._forward(data, theta, k)
        earned = surrogate_terms(now, data.action[k], data.log_prob[k], credit[k])[1]
        divergence = kl_divergence(before.forward.mean, before.forward.log_std, now.mean, now.log_std)
        return earned.sum(), (divergence * weight[k]).sum()

    def _forward(self, data: StepData, theta: Tensor, k: slice) -> Forward:
        return forward(self.layout, theta[k], data.obs[k], _some(data.fixed_log_std, k))

    def _surrogate(
        self, data: StepData, credit: Tensor, clip_range: float | None, theta: Tensor, k: slice
    ) -> Surrogate:
        return surrogate(
            self.layout,
            theta[k],
            data.obs[k],
            data.action[k],
            data.log_prob[k],
            credit[k],
            _some(data.fixed_log_std, k),
            clip_range,
        )

    def _inner_surrogate(self, index: int, theta: Tensor, k: slice) -> Surrogate:
        return self._surrogate(self.inner[index], self._inner_credit[index], self.inner_clip_range, theta, k)

    def _inner_gradient(self, index: int, theta: Tensor, k: slice) -> Tensor:
        return self._inner_surrogate(index, theta, k).gradient

    def _inner_pass(self, index: int, theta: Tensor) -> list[Surrogate]:
        return in_blocks(self.layout, self.inner[index], partial(self._inner_surrogate, index, theta))

    def _hessian(self, at: Adaptation, index: int, direction: Tensor) -> Tensor:
        products = in_blocks(
            self.layout,
            self.inner[index],
            lambda k, part: hessian_product(self.layout, part, direction[k]),
            at.steps[index],
        )
        return torch.cat(products)


def _like(tasks: Tensor, values: Tensor) -> Tensor:
    """[K] in as many dimensions as values [K, ...]."""
    return tasks.view(-1, *[1] * (values.dim() - 1))


def _some(values: Tensor | None, k: slice) -> Tensor | None:
    return None if values is None else values[k]


def in_blocks(
    layout: Layout, data: StepData, work: Callable[..., R], *given: list[Surrogate] | list[Forward]
) -> list[R]:
    """work(block of tasks, that block's entry of each list in `given`) for all blocks, in their order.

    They are shared out over as many threads as torch is set to.
    """
    tasks, steps = data.valid.shape
    most = max(1, BLOCK_ENTRIES // (steps * max(layout.sizes)))
    size = math.ceil(tasks / math.ceil(tasks / most))
    blocks = [slice(first, min(first + size, tasks)) for first in range(0, tasks, size)]
    before = torch.get_num_threads()
    threads = min(before, len(blocks))
    torch.set_num_threads(1)  # for a single block too: its bits must not depend on the number either
    try:
        if threads == 1:
            return [work(*arguments) for arguments in zip(blocks, *given, strict=True)]
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(work, blocks, *given))
    finally:
        torch.set_num_threads(before)
