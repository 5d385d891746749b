"""Exact derivatives of a Gaussian policy's losses, one set of weights for each task, without a graph.

A pass over a task's steps keeps what its forward and backward halves computed; first and second derivatives are then a
few matrix products each. Every function works on one block of tasks, small enough for the processor's cache:
weights [k, P] (all of a policy's tensors, flattened and laid out by `Layout`), data [k, B, ...].

For a scalar J(theta) = sum_n c_n(theta), the second derivative along a direction is the derivative of the gradient's
own computation in that direction (forward over reverse; Pearlmutter, Neural Computation 6, 1994).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from agents.gaussian_policy import LOG_SQRT_TWO_PI, MIN_LOG_STD, Params

Activation = Literal["tanh", "relu"]


@dataclass(frozen=True)
class Layout:
    """Where a policy's tensors lie in one flat vector: the context and its weights where there is one, weights and
    biases layer by layer, then log_std.

    The context is a vector that the first layer reads beside the observation (arXiv 1810.03642): it moves that layer's
    bias by context @ weight_context.
    """

    sizes: tuple[int, ...]
    """Observation size, units of each hidden layer, action size."""
    activation: Activation
    context: int = 0
    """Entries of the context; 0 for none."""

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of each tensor, in order."""
        shapes: dict[str, tuple[int, ...]] = {}
        if self.context:
            shapes = {"context": (self.context,), "weight_context": (self.context, self.sizes[1])}
        for layer, (fan_in, fan_out) in enumerate(pairwise(self.sizes)):
            shapes |= {f"weight_{layer}": (fan_in, fan_out), f"bias_{layer}": (fan_out,)}
        return shapes | {"log_std": (self.sizes[-1],)}

    @property
    def lengths(self) -> list[int]:
        """Entries of each tensor."""
        return [math.prod(shape) for shape in self.shapes.values()]

    def split(self, flat: Tensor) -> Params:
        """[..., P] -> {name: [..., *shape]}, as views."""
        lead = flat.shape[:-1]
        parts = flat.split(self.lengths, dim=-1)
        return {name: part.view(*lead, *shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def spread(self, values: Tensor) -> Tensor:
        """[..., tensors] -> [..., P]: the value of its tensor for every entry."""
        return values.repeat_interleave(torch.tensor(self.lengths), dim=-1)

    def gather(self, values: Tensor) -> Tensor:
        """[..., P] -> [..., tensors]: the sum over every tensor's entries."""
        return torch.stack([part.sum(-1) for part in values.split(self.lengths, dim=-1)], dim=-1)

    def flatten(self, params: Params) -> Tensor:
        """{name: [..., *shape]} -> [..., P]."""
        lead = params["log_std"].shape[:-1]
        return torch.cat([params[name].reshape(*lead, -1) for name in self.shapes], dim=-1)


@dataclass(frozen=True)
class Forward:
    """hidden: what each layer reads, [k, B, fan_in]; mean [k, B, A]; log_std [k, 1, A] or [k, B, A], clamped; free
    [k, B, 1] is 1 for the steps whose log_std is the policy's own, none where all are."""

    params: Params
    hidden: list[Tensor]
    mean: Tensor
    log_std: Tensor
    free: Tensor | None = None

    def own(self, by_log_std: Tensor) -> Tensor:
        """[k, A] from what each step [k, B, A] adds to the derivative by the policy's log_std."""
        return (by_log_std if self.free is None else by_log_std * self.free).sum(1)


@dataclass(frozen=True)
class Surrogate:
    """A pass over importance-weighted advantages: J_k = sum_n weight_n ratio_n advantage_n.

    value [k]; ratio [k, B]; credit [k, B] is each step's part of J, zero where a bound holds it; z [k, B, A] the
    standardised action; deltas the derivatives of J with respect to each layer's output before its activation; gradient
    [k, P].
    """

    forward: Forward
    value: Tensor
    ratio: Tensor
    credit: Tensor
    z: Tensor
    deltas: list[Tensor]
    gradient: Tensor


def forward(layout: Layout, theta: Tensor, obs: Tensor, fixed_log_std: Tensor | None = None) -> Forward:
    """The policy's action distribution for obs [k, B, O] under weights theta [k, P].

    fixed_log_std [k, B]: the log deviation of steps that were not played with the policy's own; NaN for the others.
    """
    params = layout.split(theta)
    layers = len(layout.sizes) - 1
    hidden = [obs]
    for layer in range(layers):
        bias = params[f"bias_{layer}"]
        if layer == 0 and layout.context:
            bias = bias + _times(params["context"], params["weight_context"])
        output = torch.baddbmm(bias.unsqueeze(1), hidden[-1], params[f"weight_{layer}"])
        if layer < layers - 1:
            hidden.append(activate_(output, layout.activation))
    log_std = params["log_std"].clamp(min=MIN_LOG_STD).unsqueeze(1)
    if fixed_log_std is None:
        return Forward(params, hidden, output, log_std)
    fixed = fixed_log_std.unsqueeze(-1)
    return Forward(params, hidden, output, torch.where(fixed.isnan(), log_std, fixed), fixed.isnan().to(obs.dtype))


def _times(vector: Tensor, matrix: Tensor) -> Tensor:
    """[k, m] @ [k, m, n] -> [k, n]."""
    return torch.bmm(vector.unsqueeze(1), matrix).squeeze(1)


def activate_(values: Tensor, activation: Activation) -> Tensor:
    """The activation, in place. tanh by way of the logistic function, which torch computes several times faster."""
    if activation == "relu":
        return values.clamp_(min=0.0)
    return values.mul_(2.0).sigmoid_().mul_(2.0).sub_(1.0)


def times_slope_(values: Tensor, hidden: Tensor, activation: Activation) -> Tensor:
    """values times the activation's derivative where its value is `hidden`, in place."""
    if activation == "relu":
        return torch.ops.aten.threshold_backward.grad_input(values, hidden, 0, grad_input=values)
    return torch.ops.aten.tanh_backward.grad_input(values, hidden, grad_input=values)


def surrogate_terms(
    now: Forward, action: Tensor, log_prob: Tensor, weighted_advantage: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """pi(a_t|s_t) / exp(log_prob), each step's part of J, both [k, B], and the standardised action [k, B, A]."""
    z = (action - now.mean) * torch.exp(-now.log_std)
    constant = now.log_std.sum(-1) + LOG_SQRT_TWO_PI * z.shape[-1]
    ratio = torch.exp(z.square().sum(-1).mul_(-0.5) - constant - log_prob)
    return ratio, weighted_advantage * ratio, z


def surrogate(
    layout: Layout,
    theta: Tensor,
    obs: Tensor,
    action: Tensor,
    log_prob: Tensor,
    weighted_advantage: Tensor,
    fixed_log_std: Tensor | None = None,
    clip_range: float | None = None,
) -> Surrogate:
    """J and its gradient. With `clip_range`, PPO's pessimistic bound on it (arXiv 1707.06347, equation 7)."""
    now = forward(layout, theta, obs, fixed_log_std)
    ratio, credit, z = surrogate_terms(now, action, log_prob, weighted_advantage)
    value = credit.sum(-1)
    if clip_range is not None:
        bounded = weighted_advantage * ratio.clamp(1 - clip_range, 1 + clip_range)
        value = torch.minimum(credit, bounded).sum(-1)
        credit = torch.where(credit <= bounded, credit, torch.zeros_like(credit))  # a bounded step has no gradient
    by_mean = credit.unsqueeze(-1) * z * torch.exp(-now.log_std)
    by_log_std = now.own(credit.unsqueeze(-1) * (z.square() - 1.0))
    deltas = backward(layout, now, by_mean)
    return Surrogate(now, value, ratio, credit, z, deltas, weight_gradient(layout, now, deltas, by_log_std))


def backward(layout: Layout, now: Forward, by_mean: Tensor) -> list[Tensor]:
    """Derivatives [k, B, fan_out] of a scalar by each layer's output before activation, from that by the mean."""
    deltas = [by_mean]
    for layer in range(len(now.hidden) - 1, 0, -1):
        back = torch.bmm(deltas[0], now.params[f"weight_{layer}"].mT)
        deltas.insert(0, times_slope_(back, now.hidden[layer], layout.activation))
    return deltas


def weight_gradient(layout: Layout, now: Forward, deltas: list[Tensor], by_log_std: Tensor) -> Tensor:
    """[k, P] from `backward`'s result; a log_std at its lower bound does not move."""
    gradient = torch.empty(len(by_log_std), sum(layout.lengths), dtype=by_log_std.dtype)
    parts = layout.split(gradient)
    for layer, (hidden, delta) in enumerate(zip(now.hidden, deltas, strict=True)):
        torch.bmm(hidden.mT, delta, out=parts[f"weight_{layer}"])
        torch.sum(delta, 1, out=parts[f"bias_{layer}"])
    if layout.context:
        by_bias = parts["bias_0"]
        parts["context"].copy_(_times(by_bias, now.params["weight_context"].mT))
        torch.mul(now.params["context"].unsqueeze(-1), by_bias.unsqueeze(1), out=parts["weight_context"])
    parts["log_std"].copy_(by_log_std * _log_std_moves(now))
    return gradient


def _log_std_moves(now: Forward) -> Tensor:
    return (now.params["log_std"] >= MIN_LOG_STD).to(now.mean.dtype)


@dataclass(frozen=True)
class Tangent:
    """Derivatives along one direction in weight space: of each layer's input (hidden; zero for the observation), of its
    output before activation, of the mean (the last of these) and of log_std, in its shape."""

    direction: Params
    hidden: list[Tensor | None]
    before: list[Tensor]
    log_std: Tensor

    @property
    def mean(self) -> Tensor:
        return self.before[-1]


def tangent(layout: Layout, now: Forward, direction: Tensor) -> Tangent:
    """How the distribution moves as the weights move along direction [k, P]."""
    along = layout.split(direction)
    hidden: list[Tensor | None] = [None]
    before: list[Tensor] = []
    for layer, inputs in enumerate(now.hidden):
        bias = along[f"bias_{layer}"]
        if layer == 0 and layout.context:
            bias = bias + _times(along["context"], now.params["weight_context"])
            bias += _times(now.params["context"], along["weight_context"])
        move = torch.baddbmm(bias.unsqueeze(1), inputs, along[f"weight_{layer}"])
        moving = hidden[-1]
        if moving is not None:
            move.baddbmm_(moving, now.params[f"weight_{layer}"])
        before.append(move)
        if layer < len(now.hidden) - 1:
            kept = move if layout.activation == "relu" else move.clone()  # a slope that moves needs it as it was
            hidden.append(times_slope_(kept, now.hidden[layer + 1], layout.activation))
    log_std = (along["log_std"] * _log_std_moves(now)).unsqueeze(1)
    return Tangent(along, hidden, before, log_std if now.free is None else log_std * now.free)


def hessian_product(layout: Layout, at: Surrogate, direction: Tensor) -> Tensor:
    """[k, P]: the second derivative of each task's J along direction [k, P]."""
    now, move = at.forward, tangent(layout, at.forward, direction)
    inverse_std = torch.exp(-now.log_std)
    z_move = -move.mean * inverse_std - at.z * move.log_std
    log_prob_move = -(at.z * z_move).sum(-1) - move.log_std.sum(-1)
    credit_move = (at.credit * log_prob_move).unsqueeze(-1)
    credit = at.credit.unsqueeze(-1)

    deltas_move = [(credit_move * at.z + credit * (z_move - at.z * move.log_std)).mul_(inverse_std)]
    for layer in range(len(now.hidden) - 1, 0, -1):
        back = torch.bmm(deltas_move[0], now.params[f"weight_{layer}"].mT)
        back.baddbmm_(at.deltas[layer], move.direction[f"weight_{layer}"].mT)
        back = times_slope_(back, now.hidden[layer], layout.activation)
        if layout.activation == "tanh":  # the slope moves too: d(1 - h^2) = -2 h dh
            back.sub_(at.deltas[layer - 1] * now.hidden[layer] * move.before[layer - 1] * 2.0)
        deltas_move.insert(0, back)

    by_log_std = now.own(credit_move * (at.z.square() - 1.0) + credit * at.z * z_move * 2.0)
    product = weight_gradient(layout, now, deltas_move, by_log_std)
    parts = layout.split(product)
    for layer, (moving, delta) in enumerate(zip(move.hidden, at.deltas, strict=True)):
        if moving is not None:
            parts[f"weight_{layer}"].baddbmm_(moving.mT, delta)
    if layout.context:  # the gradient by one of them holds the other, which moves
        by_bias, along = at.deltas[0].sum(1), move.direction
        parts["context"].add_(_times(by_bias, along["weight_context"].mT))
        parts["weight_context"].add_(along["context"].unsqueeze(-1) * by_bias.unsqueeze(1))
    return product


def fisher_product(layout: Layout, now: Forward, weight: Tensor, direction: Tensor) -> Tensor:
    """[k, P]: the Fisher matrix of the action distributions times direction [k, P]; step n counts weight [k, B].

    It is the second derivative of KL(old || new) where the two meet: 1 / std^2 for a mean, 2 for a log_std.
    """
    move = tangent(layout, now, direction)
    by_mean = move.mean * torch.exp(-2.0 * now.log_std) * weight.unsqueeze(-1)
    by_log_std = now.own(2.0 * move.log_std * weight.unsqueeze(-1))
    return weight_gradient(layout, now, backward(layout, now, by_mean), by_log_std)
