"""A diagonal Gaussian policy: its first weights, and the arithmetic of its distribution."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TypeAlias

import torch
from torch import Tensor

Params: TypeAlias = dict[str, Tensor]

MIN_LOG_STD = -3.0
LOG_SQRT_TWO_PI = 0.5 * math.log(2.0 * math.pi)


def initial_params(
    sizes: tuple[int, ...], initial_log_std: float, generator: torch.Generator, output_gain: float = 0.01
) -> Params:
    """Orthogonal weights [in, out] with gain sqrt(2) (the last: `output_gain`), zero biases, one log_std per action."""
    params: Params = {}
    for layer, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        weight = torch.empty(fan_in, fan_out)
        last = layer == len(sizes) - 2
        torch.nn.init.orthogonal_(weight, output_gain if last else math.sqrt(2.0), generator=generator)
        params[f"weight_{layer}"] = weight
        params[f"bias_{layer}"] = torch.zeros(fan_out)
    params["log_std"] = torch.full((sizes[-1],), initial_log_std)
    return params


def log_prob(mean: Tensor, log_std: Tensor, action: Tensor) -> Tensor:
    """log N(action; mean, exp(log_std)), summed over the action: [K, B]."""
    z = (action - mean) * torch.exp(-log_std)
    return (-0.5 * z**2 - log_std - LOG_SQRT_TWO_PI).sum(-1)


def entropy(log_std: Tensor) -> Tensor:
    """Differential entropy of the Gaussian, summed over the action."""
    return (log_std + 0.5 + LOG_SQRT_TWO_PI).sum(-1)


def kl_divergence(mean: Tensor, log_std: Tensor, other_mean: Tensor, other_log_std: Tensor) -> Tensor:
    """KL(first || second) of diagonal Gaussians, summed over the action: [K, B]."""
    variance, other_variance = torch.exp(2 * log_std), torch.exp(2 * other_log_std)
    terms = other_log_std - log_std + (variance + (mean - other_mean) ** 2) / (2 * other_variance) - 0.5
    return terms.sum(-1)


def sample(mean: Tensor, log_std: Tensor, generator: torch.Generator) -> Tensor:
    """One action per row."""
    noise = torch.randn(mean.shape, generator=generator, dtype=mean.dtype)
    return mean + torch.exp(log_std) * noise
