"""The agent's own meta-gradient in expectation: the same question as `expected_gradient`, of its Gaussian policy.

Actions are continuous here, so that the agent's code is what is run. Two states, two steps, reward and dynamics smooth
in the action: Gauss-Hermite nodes in place of an enumeration, so fine that the sums are exact to rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torch.func import grad, jacrev

from agents.meta_gradient import MetaObjective, StepData
from agents.policy_derivatives import Layout
from evaluation.validation.check import Check, close, relative_error
from evaluation.validation.reference import Reference

NODES, ALPHA = 24, 0.2
SIZES = (2, 3, 1)
GOALS = ((0.6, -0.4), (-0.5, 0.7))  # [task][state]: the action that pays best
EXACT = 1e-8  # what the nodes resolve
BIAS, FIRST_ORDER_BIAS = 0.02904, 0.11101
"""|expected meta-gradient - truth| / |truth| over both tasks, at `weights()`."""


def weights() -> Tensor:
    """[P]: some policy, of deviation exp(-0.5)."""
    generator = torch.Generator().manual_seed(1)
    theta = 0.7 * torch.randn(sum(Layout(SIZES, "tanh").lengths), generator=generator, dtype=torch.float64)
    theta[-1] = -0.5
    return theta


@dataclass(frozen=True)
class Paths:
    """All M paths of two steps under one policy: obs [M, 2, 2] one-hot, action [M, 2, 1], reward, log_prob [M, 2],
    probability [M]."""

    obs: Tensor
    action: Tensor
    reward: Tensor
    log_prob: Tensor
    probability: Tensor


def paths(theta: Tensor, goals: tuple[float, float]) -> Paths:
    """Differentiable in theta: the nodes move with the policy's mean and deviation."""
    reference = Reference(SIZES, "tanh")
    noise, share = (torch.from_numpy(values) for values in np.polynomial.hermite_e.hermegauss(NODES))
    share = share / math.sqrt(2 * math.pi)
    rooms = torch.eye(2, dtype=torch.float64)
    steps = torch.tensor(list(product(range(2), range(NODES), range(2), range(NODES))))
    state, node = steps[:, 0::2], steps[:, 1::2]
    policy = reference.policy(theta, rooms[state].reshape(-1, 2))
    mean, std = (value.reshape(-1, 2, 1) for value in (policy.mean, policy.stddev))
    action = mean + std * noise[node].unsqueeze(-1)
    reward = torch.exp(-((action.squeeze(-1) - torch.tensor(goals, dtype=torch.float64)[state]) ** 2))
    stay = torch.sigmoid(0.5 + action[:, 0, 0])
    move = torch.where(state[:, 0] == state[:, 1], stay, 1 - stay)
    probability = 0.5 * share[node[:, 0]] * move * share[node[:, 1]]
    log_prob = policy.log_prob(action.reshape(-1, 1)).reshape(-1, 2)
    return Paths(rooms[state], action, reward, log_prob, probability)


def expected_return(theta: Tensor, goals: tuple[float, float]) -> Tensor:
    """J(theta)."""
    every = paths(theta, goals)
    return every.probability @ every.reward.sum(1)


def everything(policies: list[Tensor]) -> StepData:
    """All paths of both tasks as one round of the agent's. Its mean over steps becomes the expectation of a path's sum
    by advantages that are weighted by (probability) x (number of steps)."""
    rounds = [paths(theta, goals) for theta, goals in zip(policies, GOALS, strict=True)]
    count, steps = rounds[0].reward.shape
    to_go = [every.reward.flip(1).cumsum(1).flip(1) * every.probability[:, None] * count * steps for every in rounds]

    def joined(values: list[Tensor]) -> Tensor:  # time first, then path
        return torch.stack([value.transpose(0, 1).flatten(0, 1) for value in values])

    return StepData(
        obs=joined([every.obs for every in rounds]),
        action=joined([every.action for every in rounds]),
        log_prob=joined([every.log_prob for every in rounds]),
        advantage=joined(to_go),
        valid=torch.ones(len(GOALS), count * steps, dtype=torch.bool),
        episodes=count,
    )


def agent_gradient(theta: Tensor, first_order: bool) -> tuple[Tensor, Tensor]:
    """The agent's inner step [K, P], and its meta-gradient [P], both from every path there is."""
    layout = Layout(SIZES, "tanh")
    sizes = torch.full((1, len(theta)), ALPHA, dtype=torch.float64)
    inner = everything([theta, theta])
    adapted = MetaObjective(layout, [inner], [inner]).adapt(theta, sizes).thetas[-1]
    objective = MetaObjective(layout, [inner], [everything(list(adapted))], first_order=first_order)
    return adapted, objective.gradient(objective.adapt(theta, sizes), sizes).theta


def checks() -> list[Check]:
    theta = weights()
    true_steps, true_gradients = [], []
    for goals in GOALS:
        slope = grad(expected_return)(theta, goals)
        matrix = jacrev(grad(expected_return))(theta, goals)
        beyond = grad(expected_return)(theta + ALPHA * slope, goals)
        true_steps.append(theta + ALPHA * slope)
        true_gradients.append(beyond + ALPHA * matrix @ beyond)
    with torch.no_grad():
        adapted, found = agent_gradient(theta, False)
        _, found_first = agent_gradient(theta, True)
    truth = torch.stack(true_gradients).mean(0)
    step = relative_error(adapted - theta, torch.stack(true_steps) - theta)
    meaning = "biased, by this share of the true value"
    return [
        close("the agent's inner step in expectation", "the gradient of the expected return", step, EXACT),
        Check(
            "the agent's meta-gradient in expectation",
            meaning,
            "=",
            BIAS,
            relative_error(found, truth),
            1e-5,
        ),
        Check(
            "the agent's first-order meta-gradient",
            meaning,
            "=",
            FIRST_ORDER_BIAS,
            relative_error(found_first, truth),
            1e-5,
        ),
    ]
