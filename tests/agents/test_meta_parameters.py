"""What a meta-update changes: derivatives by it, step sizes that stay positive, and its state."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from agents.meta_parameters import MetaParameters
from agents.policy_derivatives import Layout

LAYOUT = Layout((3, 4, 2), "tanh", context=2)


def parameters(
    learned: bool = True, logarithmic: bool = True, adapted: tuple[str, ...] = ("context", "bias_1")
) -> MetaParameters:
    theta = torch.arange(sum(LAYOUT.lengths), dtype=torch.float32)
    return MetaParameters(LAYOUT, theta, list(adapted), 2, 0.5, learned=learned, logarithmic=logarithmic)


def test_only_what_adapts_has_a_step_size() -> None:
    made = parameters()
    by_name = LAYOUT.split(made.spread)
    assert all(bool((by_name[name] == (0.5 if name in ("context", "bias_1") else 0.0)).all()) for name in by_name)


@pytest.mark.parametrize("logarithmic", [True, False])
def test_no_step_size_becomes_negative(logarithmic: bool) -> None:
    made = parameters(logarithmic=logarithmic)
    far = made.vector() - 3.0
    assert float(made.at(far)[1].min()) >= 0.0
    made.assign(far)
    assert float(made.step_sizes.min()) >= 0.0


@pytest.mark.parametrize("logarithmic", [True, False])
@pytest.mark.parametrize("learned", [True, False])
def test_direction_and_derivative_are_those_of_at(learned: bool, logarithmic: bool) -> None:
    """For a linear function of (theta, spread step sizes), both against differences of `at`."""
    made, generator = parameters(learned, logarithmic), torch.Generator().manual_seed(0)
    by_theta = torch.randn(len(made.theta), generator=generator)
    by_sizes = torch.randn(2, len(made.theta), generator=generator)

    def value(theta: Tensor, sizes: Tensor) -> float:
        return float((by_theta.double() @ theta.double()) + (by_sizes.double() * sizes.double()).sum())

    start, way = made.vector(), torch.randn(len(made.vector()), generator=generator)
    width = 1e-2
    difference = (value(*made.at(start + width * way)) - value(*made.at(start - width * way))) / (2 * width)
    assert value(*made.direction(way)) == pytest.approx(difference, rel=1e-3)
    assert float(made.derivative(by_theta, by_sizes) @ way) == pytest.approx(difference, rel=1e-3)


def test_state_restores_every_bit() -> None:
    made, other = parameters(), parameters()
    made.assign(made.vector() + torch.from_numpy(np.linspace(0, 1, len(made.vector()), dtype=np.float32)))
    other.load_state(made.state())
    assert torch.equal(other.vector(), made.vector())
    assert torch.equal(other.step_sizes, made.step_sizes)
