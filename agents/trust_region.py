"""One trust-region step (arXiv 1502.05477): conjugate gradients for its direction, a line search for its length."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor


def trust_region_step(
    start: Tensor,
    objective: float,
    gradient: Tensor,
    curvature: Callable[[Tensor], Tensor],
    objective_and_kl: Callable[[Tensor], tuple[float, float]],
    *,
    max_kl: float,
    conjugate_gradient_steps: int,
    damping: float,
    shrink: float = 0.7,
    attempts: int = 12,
) -> tuple[Tensor, dict[str, float]]:
    """Parameters [P] with a higher objective within `max_kl` of `start`; where no length does, `start` itself.

    objective, gradient [P]: at `start`. curvature: product of the KL's Hessian there with a vector. objective_and_kl:
    evaluates both at other parameters. Raises FloatingPointError where gradient or curvature are not finite.
    """
    direction, residual = conjugate_gradients(
        lambda vector: curvature(vector) + damping * vector, gradient, conjugate_gradient_steps
    )
    quadratic = float(direction @ (gradient - residual))  # the residual is gradient - curvature(direction)
    if not math.isfinite(quadratic):
        raise FloatingPointError("the gradient or the curvature is not finite")
    if quadratic <= 0.0:
        return start, {"train/step_fraction": 0.0, "train/gain": 0.0}
    full_step = direction * (2.0 * max_kl / quadratic) ** 0.5
    fraction = 1.0
    for _ in range(attempts):
        candidate = start + full_step * fraction
        now, divergence = objective_and_kl(candidate)
        if now > objective and divergence <= max_kl:
            return candidate, {"train/step_fraction": fraction, "train/gain": now - objective}
        fraction *= shrink
    return start, {"train/step_fraction": 0.0, "train/gain": 0.0}


def conjugate_gradients(product: Callable[[Tensor], Tensor], target: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """x with product(x) = target approximately, for a symmetric positive definite product, and target - product(x)."""
    solution = torch.zeros_like(target)
    residual, direction = target.clone(), target.clone()
    squared = residual @ residual
    for _ in range(steps):
        if float(squared) < 1e-12:
            break
        image = product(direction)
        length = squared / (direction @ image)
        solution = solution + length * direction
        residual = residual - length * image
        squared_next = residual @ residual
        direction = residual + squared_next / squared * direction
        squared = squared_next
    return solution, residual
