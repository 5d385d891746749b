"""How MAML's meta-parameters move after an iteration: within a trust region, or by passes of a clipped surrogate."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from agents.advantages import masked_mean
from agents.meta_gradient import MetaGradient, MetaObjective
from agents.meta_parameters import MetaParameters
from agents.optimiser_state import steer_step_size
from agents.trust_region import trust_region_step

if TYPE_CHECKING:
    from agents.maml import MamlConfig

MAX_GRAD_NORM = 0.5


def trust_region_update(parameters: MetaParameters, objective: MetaObjective, config: MamlConfig) -> dict[str, float]:
    """One step of TRPO (arXiv 1502.05477); metrics."""
    sizes = parameters.spread
    at = objective.adapt(parameters.theta, sizes)
    here = objective.gradient(at, sizes)
    product = objective.curvature(at, sizes, config.curvature_stride)
    divergences = [0.0]

    def objective_and_kl(vector: Tensor) -> tuple[float, float]:
        value, kl = objective.objective_and_kl(*parameters.at(vector), here.outer)
        divergences.append(kl)
        return value, kl

    moved, metrics = trust_region_step(
        parameters.vector(),
        float(here.objective.mean()),
        parameters.derivative(here.theta, here.step_sizes),
        lambda vector: parameters.derivative(*product(*parameters.direction(vector))),
        objective_and_kl,
        max_kl=config.max_kl,
        conjugate_gradient_steps=config.conjugate_gradient_steps,
        damping=config.damping,
    )
    if metrics["train/step_fraction"]:
        parameters.assign(moved)
    return metrics | {"train/approx_kl": divergences[-1] if metrics["train/step_fraction"] else 0.0}


def clipped_update(
    parameters: MetaParameters,
    optimiser: torch.optim.Optimizer,
    objective: MetaObjective,
    config: MamlConfig,
    generator: torch.Generator,
) -> dict[str, float]:
    """Passes over the tasks, in parts, at each of which the inner steps are taken anew (arXiv 1810.06784); metrics.

    The step size follows the KL.
    """
    kls: list[float] = []
    norms: list[Tensor] = []
    for _ in range(config.epochs):
        kl_of_pass: list[float] = []
        for tasks in torch.randperm(objective.tasks, generator=generator).chunk(config.minibatches):
            part, sizes = objective.of_tasks(tasks), parameters.spread
            here = part.gradient(part.adapt(parameters.theta, sizes), sizes)
            downhill = parameters.split(-parameters.derivative(here.theta, here.step_sizes))
            for tensor, gradient in zip(parameters.tensors(), downhill, strict=True):
                tensor.grad = gradient
            norms.append(torch.nn.utils.clip_grad_norm_(parameters.tensors(), MAX_GRAD_NORM))
            optimiser.step()
            kl_of_pass.append(_divergence(part, here))
        kls.append(sum(kl_of_pass) / len(kl_of_pass))
        if kls[-1] > 2.0 * config.desired_kl:
            break
    steer_step_size(optimiser, kls[-1], config.desired_kl, config.learning_rate)
    return {
        "train/approx_kl": kls[-1],
        "train/passes": float(len(kls)),
        "train/learning_rate": optimiser.param_groups[0]["lr"],
        "train/grad_norm": float(torch.stack(norms).mean()),
    }


def _divergence(objective: MetaObjective, here: MetaGradient) -> float:
    """The mean KL from the policies that collected the outer rounds, estimated from the ratios of what they did."""
    estimates = []
    for data, passes in zip(objective.outer, here.outer, strict=True):
        ratio = torch.cat([part.ratio for part in passes])
        estimates.append(masked_mean(ratio - 1 - ratio.clamp(min=1e-12).log(), data.valid))
    return float(torch.stack(estimates).mean())
