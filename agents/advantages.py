"""Returns, advantages and the linear feature baseline. Time is the first axis; everything else is batch."""

from __future__ import annotations

import torch
from torch import Tensor


def discounted_returns(reward: Tensor, discount: float) -> Tensor:
    """R_t = r_t + discount * R_{t+1} along the first axis; zero after the last step."""
    returns = torch.empty_like(reward)
    following = torch.zeros_like(reward[0])
    for t in range(len(reward) - 1, -1, -1):
        following = reward[t] + discount * following
        returns[t] = following
    return returns


def generalized_advantages(
    reward: Tensor, value: Tensor, last_value: Tensor, terminated: Tensor, discount: float, gae_lambda: float
) -> Tensor:
    """Generalised advantage estimation (arXiv 1506.02438, equation 16), [T, ...].

    delta_t = r_t + discount * (1 - terminated_t) * V_{t+1} - V_t
    A_t     = delta_t + discount * gae_lambda * (1 - terminated_t) * A_{t+1}

    last_value [...] is V after the last step: zero where the horizon is the end of what counts.
    """
    advantage = torch.empty_like(reward)
    following_advantage = torch.zeros_like(last_value)
    following_value = last_value
    for t in range(len(reward) - 1, -1, -1):
        going_on = 1.0 - terminated[t].to(reward.dtype)
        delta = reward[t] + discount * going_on * following_value - value[t]
        following_advantage = delta + discount * gae_lambda * going_on * following_advantage
        advantage[t] = following_advantage
        following_value = value[t]
    return advantage


STEPS_PER_FEATURE = 20  # fewer steps than so many for each feature, and a fitted baseline explains its own noise away


def baseline_features(observation_size: int) -> int:
    """How many features `linear_baseline` has; 0 for the observation's size is time alone."""
    return 2 * observation_size + 4


def linear_baseline(obs: Tensor | None, returns: Tensor, valid: Tensor, regularisation: float = 1e-4) -> Tensor:
    """Values [T, K, E] of a ridge regression fitted for each task on its own steps.

    obs [T, K, E, O], returns and valid [T, K, E]. Features as in the linear feature baseline of arXiv 1604.06778:
    observation, its square, time, its square and cube, and one; without obs, the last four alone. What it removes from
    the returns of the same steps is signal, not noise, where there are fewer than `STEPS_PER_FEATURE` steps for each
    feature. Solved in float64: the features are nearly collinear.
    """
    horizon, tasks, episodes = returns.shape
    time = torch.arange(horizon, dtype=torch.float64).div(horizon).reshape(horizon, 1, 1, 1)
    time = time.expand(horizon, tasks, episodes, 1)
    columns = [time, time**2, time**3, torch.ones_like(time)]
    if obs is not None:
        clipped = obs.double().clamp(-10.0, 10.0)
        columns = [clipped, clipped**2, *columns]
    features = torch.cat(columns, dim=-1)
    features = features.transpose(0, 1).reshape(tasks, horizon * episodes, -1)
    target = returns.double().transpose(0, 1).reshape(tasks, -1, 1)
    weighted = features * valid.double().transpose(0, 1).reshape(tasks, -1, 1)
    gram = weighted.mT @ features
    identity = torch.eye(gram.shape[-1], dtype=torch.float64)
    scale = horizon * episodes
    coefficients = torch.linalg.solve(gram + regularisation * scale * identity, weighted.mT @ target)
    values = (features @ coefficients).reshape(tasks, horizon, episodes).transpose(0, 1)
    return values.to(returns.dtype)


def normalised(advantage: Tensor, valid: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Zero mean and unit deviation over `dims`, counting valid entries only; invalid ones become zero."""
    weight = valid.to(advantage.dtype)
    count = weight.sum(dims, keepdim=True).clamp(min=1.0)
    mean = (advantage * weight).sum(dims, keepdim=True) / count
    centred = (advantage - mean) * weight
    deviation = ((centred**2).sum(dims, keepdim=True) / count).sqrt()
    return centred / (deviation + 1e-8)


def masked_mean(values: Tensor, valid: Tensor, dims: tuple[int, ...] | None = None) -> Tensor:
    """Mean over the valid entries of `dims` (all by default)."""
    weight = valid.to(values.dtype)
    if dims is None:
        return (values * weight).sum() / weight.sum().clamp(min=1.0)
    return (values * weight).sum(dims) / weight.sum(dims).clamp(min=1.0)
