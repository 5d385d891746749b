"""Numbers that are not finite: where they are, before they spread."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch
from torch import Tensor


def first_not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of a tensor that holds NaN or infinity, if any does."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            return name
    return None


def warn_of_skipped(agent: str, tasks: int, of: int) -> None:
    """Say that so many tasks keep what they had, because adapting to them left numbers that are not finite."""
    warnings.warn(
        f"{agent}: adaptation skipped on {tasks} of {of} tasks, weights would not be finite",
        RuntimeWarning,
        stacklevel=2,
    )
