"""MAML written a second time, as plainly as it can be: one task at a time, derivatives by `torch.func`.

Nothing here is shared with `agents`: it is what their batched derivatives without a graph are held against. A policy is
one flat vector: weights [in, out] and biases layer by layer, then log_std. Letters: O observation, A action, P weights,
B steps of one task, S inner steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence
from torch.func import grad


@dataclass(frozen=True)
class Batch:
    """Steps of one task: obs [B, O], action [B, A], the rest [B]; `valid` is 1 for steps that were taken, else 0."""

    obs: Tensor
    action: Tensor
    log_prob: Tensor
    advantage: Tensor
    valid: Tensor


@dataclass(frozen=True)
class Reference:
    """sizes: observation, hidden layers, action. activation: `tanh` or `relu`."""

    sizes: tuple[int, ...]
    activation: str
    first_order: bool = False
    clip_range: float | None = None

    @property
    def lengths(self) -> list[int]:
        """Entries of each tensor in the flat vector."""
        layers = [length for i, o in pairwise(self.sizes) for length in (i * o, o)]
        return [*layers, self.sizes[-1]]

    @property
    def size(self) -> int:
        return sum(self.lengths)

    def layers(self, theta: Tensor, obs: Tensor) -> list[Tensor]:
        """Each layer's output before its activation; the last is the mean of the action."""
        tensors = theta.split(self.lengths)
        outputs, value = [], obs
        for layer, (i, o) in enumerate(pairwise(self.sizes)):
            outputs.append(value @ tensors[2 * layer].reshape(i, o) + tensors[2 * layer + 1])
            value = torch.tanh(outputs[-1]) if self.activation == "tanh" else torch.relu(outputs[-1])
        return outputs

    def policy(self, theta: Tensor, obs: Tensor) -> Independent:
        """The distribution of the action in each row of obs."""
        mean = self.layers(theta, obs)[-1]
        std = theta[-self.sizes[-1] :].exp().expand_as(mean)
        return Independent(Normal(mean, std, validate_args=False), 1, validate_args=False)

    def objective(self, theta: Tensor, batch: Batch, clip_range: float | None = None) -> Tensor:
        """J: the mean over valid steps of pi(a|s) / pi_old(a|s) A; with clip_range, PPO's bound on it."""
        ratio = torch.exp(self.policy(theta, batch.obs).log_prob(batch.action) - batch.log_prob)
        gain = ratio * batch.advantage
        if clip_range is not None:
            gain = torch.minimum(gain, ratio.clamp(1 - clip_range, 1 + clip_range) * batch.advantage)
        return (gain * batch.valid).sum() / batch.valid.sum()

    def adapt(self, theta: Tensor, step_sizes: Tensor, rounds: Sequence[Batch]) -> Tensor:
        """[P]: after one inner step on each round. step_sizes [S, tensors]."""
        for sizes, batch in zip(step_sizes, rounds, strict=True):
            direction = grad(self.objective)(theta, batch)
            if self.first_order:
                direction = direction.detach()
            theta = theta + self.spread(sizes) * direction
        return theta

    def spread(self, sizes: Tensor) -> Tensor:
        """[P]: each weight's step size, from that of its tensor."""
        return torch.cat([size.expand(length) for size, length in zip(sizes, self.lengths, strict=True)])

    def unpack(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Weights [P] and step sizes [S, tensors] from one vector of all that is learned."""
        return point[: self.size], point[self.size :].reshape(-1, len(self.lengths))

    def meta_objective(self, point: Tensor, inner: Sequence[Sequence[Batch]], outer: Sequence[Batch]) -> Tensor:
        """The mean over tasks of J after adapting. inner: for each task, its rounds; outer: for each task, the last."""
        theta, step_sizes = self.unpack(point)
        gains = [
            self.objective(self.adapt(theta, step_sizes, rounds), last, self.clip_range)
            for rounds, last in zip(inner, outer, strict=True)
        ]
        return torch.stack(gains).mean()

    def distribution(self, point: Tensor, rounds: Sequence[Batch], obs: Tensor) -> tuple[Tensor, Tensor]:
        """mean and log_std [B, A] of the policy adapted to one task."""
        theta, step_sizes = self.unpack(point)
        adapted = self.adapt(theta, step_sizes, rounds)
        mean = self.layers(adapted, obs)[-1]
        return mean, adapted[-self.sizes[-1] :].expand_as(mean)

    def divergence(self, old: Tensor, new: Tensor, batch: Batch) -> Tensor:
        """The sum over valid steps of KL(old || new), for weights [P]."""
        kl = kl_divergence(self.policy(old, batch.obs), self.policy(new, batch.obs))
        return (kl * batch.valid).sum()

    def nearest_kink(self, theta: Tensor, step_sizes: Tensor, rounds: Sequence[Batch], last: Batch) -> float:
        """The smallest |output of a hidden layer| that one task's objective meets: where relu's slope jumps is zero."""
        nearest = math.inf
        for number, batch in enumerate([*rounds, last]):
            adapted = self.adapt(theta, step_sizes[:number], rounds[:number])
            nearest = min(nearest, *(float(x.abs().min()) for x in self.layers(adapted, batch.obs)[:-1]))
        return nearest
