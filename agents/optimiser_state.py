"""An Adam optimiser: its state as named tensors, so that a checkpoint never holds a pickle; its step size by the KL."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

STEP_FACTOR = 1.2  # by which the step size changes after an update that went too far or not far enough
FIELDS = ("step", "exp_avg", "exp_avg_sq")
MOMENT = re.compile(rf"(.+-)?optimiser/\d+/({'|'.join(FIELDS)})")


def is_moment(name: str) -> bool:
    """Does a tensor of that name in an agent's state serve its optimiser alone?"""
    return MOMENT.fullmatch(name) is not None


def adam_state(optimiser: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """{prefix/i/field: tensor} for parameter i of the optimiser; empty before its first step."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    return {
        f"{prefix}/{index}/{field}": optimiser.state[parameter][field].detach().clone()
        for index, parameter in enumerate(parameters)
        if parameter in optimiser.state
        for field in FIELDS
    }


def load_adam_state(optimiser: torch.optim.Optimizer, prefix: str, state: Mapping[str, Tensor]) -> None:
    """Restore what `adam_state` returned. Raises KeyError or ValueError where it does not fit."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    optimiser.state.clear()
    for index, parameter in enumerate(parameters):
        if f"{prefix}/{index}/step" not in state:
            continue
        values = {field: state[f"{prefix}/{index}/{field}"].clone() for field in FIELDS}
        for field, value in values.items():
            wanted = torch.Size() if field == "step" else parameter.shape
            if value.shape != wanted:
                name = f"{prefix}/{index}/{field}"
                raise ValueError(f"{name} has shape {tuple(value.shape)}, not {tuple(wanted)}")
        optimiser.state[parameter] = values


def load_tensors(targets: Mapping[str, Tensor], prefix: str, state: Mapping[str, Tensor]) -> None:
    """Copy state[prefix/name] into each named target in place. Raises KeyError or ValueError where it does not fit."""
    for name, target in targets.items():
        value = state[f"{prefix}/{name}"]
        if value.shape != target.shape:
            raise ValueError(f"{prefix}/{name} has shape {tuple(value.shape)}, not {tuple(target.shape)}")
        with torch.no_grad():
            target.copy_(value)


def steer_step_size(optimiser: torch.optim.Optimizer, kl: float, desired: float, largest: float) -> None:
    """Change the step size after an update that moved the policy by `kl`: smaller where that is more than twice what is
    desired, larger, up to `largest`, where it is less than half. PPO steers its penalty so (arXiv 1707.06347, section
    4)."""
    for group in optimiser.param_groups:
        if kl > 2.0 * desired:
            group["lr"] /= STEP_FACTOR
        elif kl < 0.5 * desired:
            group["lr"] = min(group["lr"] * STEP_FACTOR, largest)
