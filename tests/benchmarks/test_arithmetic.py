"""The multiply-adds of a floor are those of the table in `benchmarks.arithmetic`, and of torch's own count."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from probes import ProbeFamily
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from agents.catalogue import make_agent
from agents.maml import MamlConfig
from agents.ppo import PPOConfig
from agents.rl2 import RL2Config
from benchmarks.arithmetic import (
    FISHER_PRODUCT,
    FORWARD,
    GRADIENT,
    HESSIAN_PRODUCT,
    UPPER_GRADIENT,
    Network,
    Product,
    floor_seconds,
    multiply_adds,
    seconds_of,
    update_products,
)

LAYERS = ((5, 7), (7, 11), (11, 2))
P, FIRST = 5 * 7 + 7 * 11 + 11 * 2, 5 * 7


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (FORWARD, P),
        (GRADIENT, 3 * P - FIRST),
        (HESSIAN_PRODUCT, 6 * P - 4 * FIRST),
        (FISHER_PRODUCT, 4 * P - 2 * FIRST),
        (UPPER_GRADIENT, 3 * P),
    ],
)
def test_passes(kind: Any, expected: int) -> None:
    assert multiply_adds(Network(LAYERS, 3, 10).products(kind)) == 3 * 10 * expected


@pytest.mark.parametrize(("kind", "needs_input"), [(GRADIENT, False), (UPPER_GRADIENT, True)])
def test_a_gradient_costs_what_torch_counts(kind: Any, needs_input: bool) -> None:
    network = nn.Sequential(*[layer for sizes in LAYERS for layer in (nn.Linear(*sizes), nn.Tanh())])
    inputs = torch.zeros(10, 5, requires_grad=needs_input)
    with FlopCounterMode(display=False) as counter:
        network(inputs).sum().backward()
    assert multiply_adds(Network(LAYERS, 1, 10).products(kind)) == counter.get_total_flops() / 2


def learner(name: str, config: Any) -> Any:
    family = ProbeFamily()
    return make_agent(name, config, family, seed=0)


@pytest.mark.parametrize(("steps", "first_order"), [(1, False), (2, False), (1, True)])
def test_trust_region_update_of_maml(steps: int, first_order: bool) -> None:
    config = MamlConfig(
        hidden_sizes=(4, 6), inner_steps=steps, first_order=first_order, meta_batch_size=3, episodes_per_step=20,
        adapted="weights", inner_lr=0.1, reuse_episodes=False, baseline="time", outer="trpo",
    )  # fmt: skip
    c, s = config.conjugate_gradient_steps, config.curvature_stride
    samples, thinned = 3 * 20 * 10, 3 * (20 * 10 // s)
    p, first = 3 * 4 + 4 * 6 + 6 * 1, 3 * 4
    hessian = 0 if first_order else 6 * p - 4 * first
    expected = samples * (steps * (2 * (3 * p - first) + hessian) + 4 * p - first)
    expected += thinned * (c * (2 * steps * hessian + 4 * p - 2 * first) + steps * (3 * p - first) + p)
    assert multiply_adds(update_products(learner("maml", config), ProbeFamily(), 0)) == expected


def test_clipped_update_of_maml() -> None:
    settings: dict[str, Any] = {"hidden_sizes": (4,), "meta_batch_size": 2, "episodes_per_step": 20, "minibatches": 2}
    config = MamlConfig(**settings, baseline="time", reuse_episodes=False)
    p, first, samples = 3 * 4 + 4 * 1, 3 * 4, 2 * 20 * 10
    gradient, hessian = samples * (3 * p - first), samples * (6 * p - 4 * first)
    expected = 3 * (2 * (gradient + hessian) + 3 * gradient) + 2 * gradient  # three passes of two minibatches
    assert multiply_adds(update_products(learner("maml", config), ProbeFamily(), 6)) == expected

    uneven = MamlConfig(**settings | {"meta_batch_size": 12, "minibatches": 5}, baseline="time", reuse_episodes=False)
    assert multiply_adds(update_products(learner("maml", uneven), ProbeFamily(), 12)) == 6 * expected  # four parts

    family, config = ProbeFamily(), MamlConfig(**settings, critic_size=5, critic_epochs=1, critic_batch_size=100)
    told = 3 + family.feature_size + 3 + config.context_size
    c, c_first = [inputs * 5 + 5 * 5 + 5 for inputs in (4, told)], [inputs * 5 for inputs in (4, told)]
    expected = 3 * (3 * (gradient + hessian) + 3 * gradient) + 3 * gradient  # the second step learns from both rounds
    expected += 3 * samples * (3 * sum(c) - sum(c_first) + 2 * sum(c))
    assert multiply_adds(update_products(learner("maml", config), family, 6 + 2 * 12)) == expected


def test_updates_by_gradient_steps() -> None:
    family = ProbeFamily()
    settings = {"hidden_size": 4, "head_size": 5, "episodes_per_trial": 2, "meta_batch_size": 4, "trials_per_task": 2}
    rl2 = learner("rl2", RL2Config(**settings, minibatches=2, epochs=3, critic_batch_size=40))
    inputs, features, steps = 3 + 1 + 2, family.feature_size, 4 * 2 * 20
    gru = inputs * 4 + 2 * 4 * 12
    p = gru + 4 * features + (8 + features) * 5 + 5 * 1
    c, c_first = (inputs + 4 + features) * 5 + 5 * 5 + 5 * 1, (inputs + 4 + features) * 5
    critic_steps = 3 * steps // 40
    expected = 5 * steps // 2 * (3 * p - inputs * 4) + critic_steps * 40 * (3 * c - c_first) + steps * (gru + c)
    assert multiply_adds(update_products(rl2, family, 5 + critic_steps)) == expected

    ppo = learner("ppo-robust", PPOConfig(hidden_sizes=(4,), meta_batch_size=2, episodes_per_task=3, batch_size=30))
    p, first = 3 * 4 + 4 * 1, 3 * 4
    assert multiply_adds(update_products(ppo, ProbeFamily(), 4)) == 4 * 30 * 2 * (3 * p - first)


def test_an_update_without_steps_has_no_floor() -> None:
    with pytest.raises(RuntimeError, match="no optimiser's step"):
        update_products(learner("rl2", RL2Config()), ProbeFamily(), 0)


def test_a_larger_product_takes_longer() -> None:
    small, large = Product(1, 16, 16, 16), Product(2, 256, 256, 256)
    assert seconds_of(small, 1e-3) < seconds_of(large, 1e-3)
    assert floor_seconds({small: 0, large: 2}, 1e-3) > 0.0
