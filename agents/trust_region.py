"""One trust-region step (arXiv 1502.05477): conjugate gradients for its direction, a line search for its length."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def trust_region_step(
    learned: list[Tensor],
    objective: Tensor,
    kl: Tensor,
    objective_and_kl: Callable[[], tuple[float, float]],
    *,
    max_kl: float,
    conjugate_gradient_steps: int,
    damping: float,
    shrink: float = 0.7,
    attempts: int = 12,
) -> dict[str, float]:
    """Move `learned` in place to raise `objective` within `max_kl`; where no length does, leave it bit for bit.

    objective, kl: scalars with a graph to `learned`; the curvature is that of `kl`, which is zero there.
    objective_and_kl: evaluates both anew at the present values of `learned`.
    """
    gradient = _flat(torch.autograd.grad(objective, learned, retain_graph=True, allow_unused=True), learned)
    kl_gradient = _flat(torch.autograd.grad(kl, learned, create_graph=True, allow_unused=True), learned)

    def curvature(vector: Tensor) -> Tensor:
        product = torch.autograd.grad((kl_gradient * vector).sum(), learned, retain_graph=True, allow_unused=True)
        return _flat(product, learned) + damping * vector

    direction = conjugate_gradients(curvature, gradient, conjugate_gradient_steps)
    quadratic = float(direction @ curvature(direction))
    if not quadratic > 0.0:
        return {"train/step_fraction": 0.0, "train/gain": 0.0}
    full_step = direction * (2.0 * max_kl / quadratic) ** 0.5

    before = [value.detach().clone() for value in learned]
    start = float(objective.detach())
    fraction = 1.0
    for _ in range(attempts):
        _set(learned, before, full_step * fraction)
        now, divergence = objective_and_kl()
        if now > start and divergence <= max_kl:
            return {"train/step_fraction": fraction, "train/gain": now - start}
        fraction *= shrink
    with torch.no_grad():
        for value, old in zip(learned, before, strict=True):
            value.copy_(old)
    return {"train/step_fraction": 0.0, "train/gain": 0.0}


def conjugate_gradients(product: Callable[[Tensor], Tensor], target: Tensor, steps: int) -> Tensor:
    """x with product(x) = target approximately, for a symmetric positive definite product; starts from zero."""
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
    return solution.detach()


def _flat(values: tuple[Tensor | None, ...], like: list[Tensor]) -> Tensor:
    return torch.cat(
        [torch.zeros_like(t).reshape(-1) if v is None else v.reshape(-1) for v, t in zip(values, like, strict=True)]
    )


def _set(learned: list[Tensor], before: list[Tensor], change: Tensor) -> None:
    offset = 0
    with torch.no_grad():
        for value, old in zip(learned, before, strict=True):
            value.copy_(old + change[offset : offset + value.numel()].view_as(old))
            offset += value.numel()
