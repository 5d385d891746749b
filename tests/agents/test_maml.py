"""MAML: the meta-gradient against finite differences, the trust region, and that adapting helps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from probes import ProbeFamily
from torch import Tensor

from agents.agent import Trajectories
from agents.gaussian_policy import Params
from agents.maml import Maml, MamlConfig, StepData, inner_step, per_task, surrogate
from agents.trust_region import conjugate_gradients, trust_region_step
from envs.simulation import TaskBatch
from training.collect import collect

TASKS, STEPS, OBSERVATION, ACTION = 3, 12, 4, 2


def fixed_batch(seed: int) -> StepData:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return StepData(
        obs=normal(TASKS, STEPS, OBSERVATION),
        action=normal(TASKS, STEPS, ACTION),
        log_prob=-2.0 + 0.3 * normal(TASKS, STEPS),
        advantage=normal(TASKS, STEPS),
        valid=torch.ones(TASKS, STEPS, dtype=torch.bool),
    )


def float64_maml(config: MamlConfig) -> Maml:
    maml = Maml(config, OBSERVATION, ACTION, STEPS, torch.Generator().manual_seed(0))
    maml.params = {name: (value.detach().double() + 0.05).requires_grad_() for name, value in maml.params.items()}
    maml.step_sizes = [
        {name: value.detach().double().requires_grad_() for name, value in sizes.items()} for sizes in maml.step_sizes
    ]
    return maml


def objective(maml: Maml, inner: list[StepData], outer: StepData, create_graph: bool) -> Tensor:
    return surrogate(maml.adapted(inner, create_graph), outer).mean()


@pytest.mark.parametrize("inner_steps", [1, 2, 3])
def test_meta_gradient_agrees_with_central_differences(inner_steps: int) -> None:
    maml = float64_maml(MamlConfig(hidden_sizes=(5,), inner_lr=0.3, inner_steps=inner_steps))
    inner, outer = [fixed_batch(step) for step in range(inner_steps)], fixed_batch(9)
    learned = maml._learned()
    gradient = torch.autograd.grad(objective(maml, inner, outer, create_graph=True), learned)
    for tensor, analytic in zip(learned, gradient, strict=True):
        numeric = torch.zeros_like(analytic)
        for index in np.ndindex(*tensor.shape):
            with torch.no_grad():
                kept, width = tensor[index].item(), 1e-5
                sides = []
                for sign in (1, -1):
                    tensor[index] = kept + sign * width
                    with torch.enable_grad():
                        sides.append(objective(maml, inner, outer, create_graph=False).item())
                tensor[index] = kept
            numeric[index] = (sides[0] - sides[1]) / (2 * width)
        assert float((numeric - analytic).norm()) < 1e-6 * max(float(analytic.norm()), 1e-3)


def test_first_order_gradient_is_the_one_at_the_adapted_weights() -> None:
    maml = float64_maml(MamlConfig(hidden_sizes=(5,), inner_lr=0.3, first_order=True, learn_inner_lr=False))
    inner, outer = [fixed_batch(0)], fixed_batch(9)
    meta = torch.autograd.grad(objective(maml, inner, outer, create_graph=True), list(maml.params.values()))
    adapted = {name: value.detach().requires_grad_() for name, value in maml.adapted(inner, False).items()}
    at_adapted = torch.autograd.grad(surrogate(adapted, outer).mean(), list(adapted.values()))
    for first, second in zip(meta, at_adapted, strict=True):
        assert torch.allclose(first, second.sum(0), rtol=1e-12)
    second_order = float64_maml(MamlConfig(hidden_sizes=(5,), inner_lr=0.3, learn_inner_lr=False))
    full = torch.autograd.grad(
        objective(second_order, inner, outer, create_graph=True), list(second_order.params.values())
    )
    assert max(float((a - b).norm()) for a, b in zip(meta, full, strict=True)) > 1e-3


def test_all_tasks_at_once_equal_a_loop_over_tasks() -> None:
    maml = float64_maml(MamlConfig(hidden_sizes=(5,), inner_lr=0.3))
    data = fixed_batch(0)
    together = inner_step(per_task(maml.params, TASKS), maml.step_sizes[0], data, False, False)
    for k in range(TASKS):
        alone = StepData(**{name: getattr(data, name)[k : k + 1] for name in data.__dataclass_fields__})
        one: Params = inner_step(per_task(maml.params, 1), maml.step_sizes[0], alone, False, False)
        for name, value in one.items():
            assert torch.allclose(together[name][k], value[0], rtol=1e-12)


def test_conjugate_gradients_solve_a_linear_system() -> None:
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=generator, dtype=torch.float64)
    matrix, target = root @ root.T + torch.eye(6), torch.randn(6, generator=generator, dtype=torch.float64)
    assert torch.allclose(matrix @ conjugate_gradients(lambda v: matrix @ v, target, 12), target, atol=1e-6)


def test_trust_region_holds_and_a_rejected_search_changes_no_bit() -> None:
    weight = torch.tensor([0.3, -0.2], dtype=torch.float64, requires_grad=True)
    before = weight.detach().clone()
    slope = torch.tensor([1.0, 2.0], dtype=torch.float64)
    settings = {"max_kl": 0.01, "conjugate_gradient_steps": 10, "damping": 0.0}

    def kl() -> Tensor:
        return 0.5 * ((weight - before) ** 2).sum()

    def evaluate() -> tuple[float, float]:
        return float((slope @ weight).detach()), float(kl().detach())

    metrics = trust_region_step([weight], slope @ weight, kl(), evaluate, **settings)
    assert metrics["train/gain"] > 0
    assert 0.004 < float(kl().detach()) <= 0.01
    with torch.no_grad():
        weight.copy_(before)
    metrics = trust_region_step([weight], slope @ weight, kl(), lambda: (-1.0, 0.0), **settings)
    assert metrics["train/step_fraction"] == 0.0
    assert torch.equal(weight, before)


def round_of(maml: Maml, memory: object, batch: TaskBatch, episode: int) -> Trajectories:
    return collect(maml, memory, batch, seed=1, episode=episode)[0]


def test_training_makes_one_step_of_adaptation_pay() -> None:
    family = ProbeFamily()
    maml = Maml(MamlConfig(meta_batch_size=10), 3, 1, family.horizon, torch.Generator().manual_seed(0))
    gains = []
    for iteration in range(20):
        generator = torch.Generator().manual_seed(iteration)
        batch = TaskBatch(family, family.sample("train", 10, np.random.default_rng(iteration)), 10, threads=1)
        memory = maml.fresh(10, 10, generator)
        before = round_of(maml, memory, batch, 0)
        after = round_of(maml, maml.adapt(memory, before), batch, 10)
        gains.append(float(after.returns.mean() - before.returns.mean()))
        metrics = maml.update([before, after], generator)
        assert metrics["train/approx_kl"] <= maml.config.max_kl * 1.01
    assert np.mean(gains[-5:]) > 0.8


def test_adapting_leaves_the_agent_and_the_given_memory_alone() -> None:
    family = ProbeFamily()
    maml = Maml(MamlConfig(), 3, 1, family.horizon, torch.Generator().manual_seed(0))
    batch = TaskBatch(family, family.sample("train", 2, np.random.default_rng(0)), 4, threads=1)
    memory = maml.adapt(
        maml.fresh(2, 4, torch.Generator().manual_seed(1)),
        round_of(maml, maml.fresh(2, 4, torch.Generator().manual_seed(1)), batch, 0),
    )
    weights = {name: value.clone() for name, value in memory.params.items()}
    shared = {name: value.clone() for name, value in maml.state().items()}
    maml.adapt(memory, round_of(maml, memory, batch, 4))
    assert all(torch.equal(weights[name], value) for name, value in memory.params.items())
    assert all(torch.equal(shared[name], value) for name, value in maml.state().items())
    assert replace(memory).steps == 1
