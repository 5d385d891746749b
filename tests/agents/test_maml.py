"""MAML: its derivatives against differences and autograd, the trust region, and that adapting helps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from probes import ProbeFamily
from torch import Tensor

from agents.agent import Sizes, Trajectories
from agents.gaussian_policy import kl_divergence, log_prob
from agents.maml import Maml, MamlConfig, MamlMemory
from agents.meta_gradient import Adaptation, MetaObjective, StepData
from agents.policy_derivatives import Activation, Layout
from agents.trust_region import conjugate_gradients, trust_region_step
from envs.errors import UserError
from envs.simulation import TaskBatch
from training.collect import collect
from training.loop import torch_threads

TASKS, STEPS, EPISODES, OBSERVATION, ACTION = 3, 12, 4, 4, 2


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def fixed_batch(seed: int, tasks: int = TASKS, some_noise_fixed: bool = False) -> StepData:
    generator = torch.Generator().manual_seed(seed)
    fixed = torch.full((tasks, STEPS), torch.nan, dtype=torch.float64) if some_noise_fixed else None
    if fixed is not None:
        fixed[:, ::2] = 0.3
    return StepData(
        obs=normal(generator, tasks, STEPS, OBSERVATION),
        action=normal(generator, tasks, STEPS, ACTION),
        log_prob=-2.0 + 0.3 * normal(generator, tasks, STEPS),
        advantage=normal(generator, tasks, STEPS),
        valid=torch.rand(tasks, STEPS, generator=generator) > 0.1,
        episodes=EPISODES,
        fixed_log_std=fixed,
    )


def problem(
    activation: Activation, inner_steps: int, *, first_order: bool = False, clip_range: float | None = None
) -> tuple[MetaObjective, Tensor, Tensor]:
    """An objective, weights [P] and step sizes [S, P] in float64, some log_std below its bound."""
    layout = Layout((OBSERVATION, 6, 5, ACTION), activation)
    generator = torch.Generator().manual_seed(1)
    theta = 0.4 * normal(generator, sum(layout.lengths))
    theta[-1] = -4.0
    sizes = 0.3 + 0.05 * normal(generator, inner_steps, len(theta))
    inner = [fixed_batch(step) for step in range(inner_steps)]
    objective = MetaObjective(layout, inner, [fixed_batch(9)], first_order=first_order, clip_range=clip_range)
    return objective, theta, sizes


def distribution(layout: Layout, theta: Tensor, obs: Tensor, fixed: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Mean and log_std under weights [K, P], differentiable."""
    params, hidden = layout.split(theta), obs
    log_std = params["log_std"].clamp(min=-3.0).unsqueeze(1)
    if fixed is not None:
        log_std = torch.where(fixed.isnan().unsqueeze(-1), log_std, fixed.unsqueeze(-1))
    if layout.context:  # as the paper has it: a longer input
        context = params["context"].unsqueeze(1).expand(-1, obs.shape[1], -1)
        hidden = torch.cat([context, obs], dim=-1)
        params["weight_0"] = torch.cat([params["weight_context"], params["weight_0"]], dim=1)
    for layer in range(len(layout.sizes) - 1):
        hidden = hidden @ params[f"weight_{layer}"] + params[f"bias_{layer}"].unsqueeze(1)
        if layer < len(layout.sizes) - 2:
            hidden = torch.tanh(hidden) if layout.activation == "tanh" else torch.relu(hidden)
    return hidden, log_std


def by_autograd(layout: Layout, theta: Tensor, data: StepData, clip_range: float | None = None) -> Tensor:
    """J [K] of weights [K, P] as torch would write it."""
    mean, log_std = distribution(layout, theta, data.obs, data.fixed_log_std)
    ratio = torch.exp(log_prob(mean, log_std, data.action) - data.log_prob)
    gain = ratio * data.advantage
    if clip_range is not None:
        gain = torch.minimum(gain, ratio.clamp(1 - clip_range, 1 + clip_range) * data.advantage)
    return torch.stack([gain[k][data.valid[k]].mean() for k in range(len(gain))])


def objective_by_autograd(objective: MetaObjective, theta: Tensor, sizes: Tensor) -> Tensor:
    """The mean over tasks and outer rounds, differentiable."""
    thetas = [theta.expand(TASKS, -1)]
    for step, data in enumerate(objective.inner):
        total = by_autograd(objective.layout, thetas[-1], data, objective.inner_clip_range).sum()
        thetas.append(thetas[-1] + sizes[step] * torch.autograd.grad(total, thetas[-1], create_graph=True)[0])
    rounds = zip(objective.outer_at, objective.outer, strict=True)
    values = [by_autograd(objective.layout, thetas[at], data, objective.clip_range).mean() for at, data in rounds]
    return torch.stack(values).mean()


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("inner_steps", [1, 2, 3])
@pytest.mark.parametrize("clip_range", [None, 0.2])
def test_meta_gradient_is_that_of_autograd(activation: Activation, inner_steps: int, clip_range: float | None) -> None:
    objective, theta, sizes = problem(activation, inner_steps, clip_range=clip_range)
    here = objective.gradient(objective.adapt(theta, sizes), sizes)
    learned = [theta.clone().requires_grad_(), sizes.clone().requires_grad_()]
    value = objective_by_autograd(objective, *learned)
    assert float(here.objective.mean()) == pytest.approx(float(value.detach()), rel=1e-12)
    for ours, theirs in zip((here.theta, here.step_sizes), torch.autograd.grad(value, learned), strict=True):
        assert float((ours - theirs).norm()) < 1e-12 * float(theirs.norm())


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("rounds", [1, 2, 3])
@pytest.mark.parametrize("context_alone", [True, False])
def test_meta_gradient_of_a_context_is_that_of_autograd(
    activation: Activation, rounds: int, context_alone: bool
) -> None:
    layout, generator = Layout((OBSERVATION, 6, 5, ACTION), activation, context=3), torch.Generator().manual_seed(1)
    theta = 0.4 * normal(generator, sum(layout.lengths))
    moving = torch.zeros(len(layout.lengths), dtype=torch.float64)
    moving[0] = 1.0
    sizes = (0.3 + 0.05 * normal(generator, 2, len(theta))) * (layout.spread(moving) if context_alone else 1.0)
    first = fixed_batch(0, some_noise_fixed=True)
    inner = [first, first.followed_by(fixed_batch(1, some_noise_fixed=True))]
    outer = [fixed_batch(7 + n, some_noise_fixed=True) for n in range(rounds)]
    objective = MetaObjective(layout, inner, outer, inner_clip_range=0.5, clip_range=0.2)
    at = objective.adapt(theta, sizes)
    assert torch.equal(at.thetas[-1][:, 3:], theta[3:].expand(TASKS, -1)) == context_alone
    here = objective.gradient(at, sizes)
    learned = [theta.clone().requires_grad_(), sizes.clone().requires_grad_()]
    value = objective_by_autograd(objective, *learned)
    assert float(here.objective.mean()) == pytest.approx(float(value.detach()), rel=1e-12)
    for ours, theirs in zip((here.theta, here.step_sizes), torch.autograd.grad(value, learned), strict=True):
        assert float((ours - theirs).norm()) < 1e-12 * float(theirs.norm())


@pytest.mark.parametrize("inner_steps", [1, 2, 3])
def test_meta_gradient_agrees_with_central_differences(inner_steps: int) -> None:
    objective, theta, sizes = problem("tanh", inner_steps)
    theta[-1] = -1.0  # at its bound, the policy is too sharp for differences
    here = objective.gradient(objective.adapt(theta, sizes), sizes)
    old, width = here.outer, 1e-5
    for tensor, analytic in ((theta, here.theta), (sizes, here.step_sizes)):
        numeric = torch.zeros_like(analytic)
        for index in np.ndindex(*tensor.shape):
            kept, sides = tensor[index].item(), []
            for sign in (1, -1):
                tensor[index] = kept + sign * width
                sides.append(objective.objective_and_kl(theta, sizes, old)[0])
            tensor[index] = kept
            numeric[index] = (sides[0] - sides[1]) / (2 * width)
        assert float((numeric - analytic).norm()) < 1e-6 * float(analytic.norm())


def test_first_order_gradient_is_the_one_at_the_adapted_weights() -> None:
    objective, theta, sizes = problem("tanh", 1, first_order=True)
    at = objective.adapt(theta, sizes)
    first = objective.gradient(at, sizes)
    adapted = at.thetas[-1].clone().requires_grad_()
    (expected,) = torch.autograd.grad(by_autograd(objective.layout, adapted, objective.outer[0]).mean(), adapted)
    assert torch.allclose(first.theta, expected.sum(0), rtol=1e-12, atol=1e-15)
    full, _, _ = problem("tanh", 1)
    assert float((full.gradient(at, sizes).theta - first.theta).norm()) > 1e-3


def test_all_tasks_at_once_equal_a_loop_over_tasks_at_any_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, theta, sizes = problem("tanh", 2)
    together = objective.adapt(theta, sizes).thetas[-1]
    assert torch.equal(together, objective.thetas(theta, sizes)[-1])
    for k in range(TASKS):
        parts = [
            replace(data, **{name: getattr(data, name)[k : k + 1] for name in ("obs", "action")})
            for data in objective.inner
        ]
        parts = [
            replace(part, **{name: getattr(data, name)[k : k + 1] for name in ("log_prob", "advantage", "valid")})
            for part, data in zip(parts, objective.inner, strict=True)
        ]
        alone = MetaObjective(objective.layout, parts, parts[-1:]).adapt(theta, sizes).thetas[-1]
        assert torch.allclose(together[k], alone[0], rtol=1e-12)
    monkeypatch.setattr("agents.meta_gradient.BLOCK_ENTRIES", 1)  # a block for each task
    results = []
    for threads in (1, 2):
        with torch_threads(threads):
            results.append(objective.gradient(objective.adapt(theta, sizes), sizes).theta)
            assert torch.get_num_threads() == threads
    assert torch.equal(*results)


def test_a_single_block_has_the_same_bits_at_any_number_of_threads() -> None:
    layout, generator = Layout((20, 100, 100, 6), "tanh"), torch.Generator().manual_seed(0)

    def normal32(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    steps = 3000
    data = StepData(normal32(1, steps, 20), normal32(1, steps, 6), normal32(1, steps) - 8, normal32(1, steps),
                    torch.ones(1, steps, dtype=torch.bool), 1)  # fmt: skip
    objective, theta = MetaObjective(layout, [data], [data]), 0.1 * normal32(sum(layout.lengths))
    sizes, results = torch.full((1, len(theta)), 0.1), []
    for threads in (1, 2):
        with torch_threads(threads):
            results.append(objective.gradient(objective.adapt(theta, sizes), sizes).theta)
    assert torch.equal(*results)


def test_a_fault_in_one_block_is_raised_and_leaves_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    objective, theta, sizes = problem("tanh", 1)
    monkeypatch.setattr("agents.meta_gradient.BLOCK_ENTRIES", 1)
    with torch_threads(2):
        with pytest.raises(RuntimeError):
            objective.adapt(theta[:-1], sizes[:, :-1])
        assert torch.get_num_threads() == 2


@pytest.mark.parametrize("inner_steps", [1, 2])
def test_curvature_is_the_second_derivative_of_the_mean_kl(inner_steps: int) -> None:
    objective, theta, sizes = problem("tanh", inner_steps)
    theta[-1] = -1.0
    at = objective.adapt(theta, sizes)
    here = objective.gradient(at, sizes)
    product = objective.curvature(at, sizes, stride=1)
    generator = torch.Generator().manual_seed(3)
    direction = normal(generator, *theta.shape), normal(generator, *sizes.shape)
    image = product(*direction)
    quadratic = sum(float((a * b).sum()) for a, b in zip(direction, image, strict=True))
    width = 1e-5
    kl = [objective.objective_and_kl(theta + s * direction[0], sizes + s * direction[1], here.outer)[1]
          for s in (-width, width)]  # fmt: skip
    assert sum(kl) / width**2 == pytest.approx(quadratic, rel=1e-4)
    other = normal(generator, *theta.shape), normal(generator, *sizes.shape)
    forth = sum(float((a * b).sum()) for a, b in zip(other, image, strict=True))
    back = sum(float((a * b).sum()) for a, b in zip(direction, product(*other), strict=True))
    assert forth == pytest.approx(back, rel=1e-9)


def test_first_order_curvature_is_the_fisher_matrix_at_the_adapted_weights() -> None:
    objective, theta, sizes = problem("tanh", 1, first_order=True)
    at = objective.adapt(theta, sizes)
    product = objective.curvature(at, sizes, stride=1)
    adapted = at.thetas[-1].clone().requires_grad_()
    (data,) = objective.outer
    mean, log_std = distribution(objective.layout, adapted, data.obs)
    kl = kl_divergence(mean.detach(), log_std.detach(), mean, log_std)
    kl = (kl * data.weight(per_task=False)).sum()
    direction = normal(torch.Generator().manual_seed(3), *theta.shape)
    (slope,) = torch.autograd.grad(kl, adapted, create_graph=True)
    (expected,) = torch.autograd.grad((slope * direction).sum(), adapted)
    image, _ = product(direction, torch.zeros_like(sizes))
    assert torch.allclose(image, expected.sum(0), rtol=1e-9, atol=1e-12)


def test_thinning_keeps_one_step_in_so_many_of_every_episode() -> None:
    thin = fixed_batch(0).thinned(3)
    kept = torch.isin(fixed_batch(0).obs[0, :, 0], thin.obs[0, :, 0]).view(-1, EPISODES)
    assert kept.sum(0).tolist() == [1] * EPISODES
    assert kept.any(1).sum() == STEPS // EPISODES


def test_conjugate_gradients_solve_a_linear_system() -> None:
    generator = torch.Generator().manual_seed(0)
    root = normal(generator, 6, 6)
    matrix, target = root @ root.T + torch.eye(6), normal(generator, 6)
    solution, residual = conjugate_gradients(lambda v: matrix @ v, target, 4)
    assert torch.allclose(target - matrix @ solution, residual, atol=1e-9)
    assert float(residual.norm()) > 1e-6
    solution, _ = conjugate_gradients(lambda v: matrix @ v, target, 12)
    assert torch.allclose(matrix @ solution, target, atol=1e-6)


def test_trust_region_holds_and_a_rejected_search_changes_no_bit() -> None:
    start = torch.tensor([0.3, -0.2], dtype=torch.float64)
    slope = torch.tensor([1.0, 2.0], dtype=torch.float64)
    settings: dict[str, Any] = {"max_kl": 0.01, "conjugate_gradient_steps": 10, "damping": 0.0}

    def evaluate(weight: Tensor) -> tuple[float, float]:
        return float(slope @ weight), 0.5 * float(((weight - start) ** 2).sum())

    moved, metrics = trust_region_step(start, float(slope @ start), slope, lambda v: v, evaluate, **settings)
    assert metrics["train/gain"] > 0
    assert 0.004 < evaluate(moved)[1] <= 0.01
    kept, metrics = trust_region_step(start, 0.0, slope, lambda v: v, lambda weight: (-1.0, 0.0), **settings)
    assert metrics["train/step_fraction"] == 0.0
    assert torch.equal(kept, start)


def round_of(maml: Maml, memory: MamlMemory, batch: TaskBatch, episode: int) -> Trajectories:
    return collect(maml, memory, batch, seed=1, episode=episode)[0]


WEIGHTS: dict[str, Any] = {
    **{"adapted": "weights", "inner_lr": 0.1, "inner_steps": 1, "reuse_episodes": False, "episodes_per_step": 10},
    **{"inner_discount": 0.99, "inner_gae_lambda": 0.97, "baseline": "time", "exploration_log_std": None},
    **{"outer": "trpo", "outer_normalisation": "task"},
}


@pytest.mark.parametrize(
    ("settings", "gain"),
    [
        ({}, 0.8),
        ({"exploration_log_std": None}, 0.8),
        ({"adapted": "weights", "inner_lr": 0.5, "learning_rate": 1e-2}, 0.8),
        (WEIGHTS, 0.8),
        (WEIGHTS | {"baseline": "critic"}, 0.8),
    ],
    ids=["context, ppo", "context, every round", "weights, ppo", "weights, trpo", "weights, trpo, critic"],
)
def test_training_makes_adaptation_pay(settings: dict[str, Any], gain: float) -> None:
    family = ProbeFamily()
    config = MamlConfig(meta_batch_size=10, **settings)
    maml = Maml(config, Sizes.of(family), torch.Generator().manual_seed(0))
    episodes, gains = config.episodes_per_step, []
    for iteration in range(25):
        generator = torch.Generator().manual_seed(iteration)
        tasks = family.sample("train", 10, np.random.default_rng(iteration))
        batch = TaskBatch(family, tasks, episodes, threads=1)
        memory = maml.fresh(10, episodes, generator)
        rounds = [round_of(maml, memory, batch, 0)]
        while len(rounds) < maml.rounds:
            memory = maml.adapt(memory, rounds[-1])
            rounds.append(round_of(maml, memory, batch, episodes * len(rounds)))
        gains.append(float(rounds[-1].returns.mean() - rounds[0].returns.mean()))
        metrics = maml.update(rounds, generator)
        if config.outer == "trpo":
            assert 0.0 < metrics["train/approx_kl"] <= config.max_kl
    assert np.mean(gains[-5:]) > gain


@pytest.mark.parametrize("settings", [{}, WEIGHTS], ids=["context", "weights"])
def test_what_the_update_calls_the_adapted_weights_acted_in_the_rollout(settings: dict[str, Any]) -> None:
    family = ProbeFamily()
    maml = Maml(MamlConfig(**settings), Sizes.of(family), torch.Generator().manual_seed(0))
    batch = TaskBatch(family, family.sample("train", 2, np.random.default_rng(0)), 4, threads=1)
    memory = maml.fresh(2, 4, torch.Generator().manual_seed(1))
    before = round_of(maml, memory, batch, 0)
    memory = maml.adapt(memory, before)
    inner, played = maml._inner_data(before, 0), round_of(maml, memory, batch, 4)
    (after,) = maml.estimator.outer([played], [memory.theta])
    at = MetaObjective(maml.layout, [inner], [after]).adapt(maml.theta, maml.parameters.spread[:1])
    assert torch.equal(at.thetas[-1], memory.theta)
    here = MetaObjective(maml.layout, [], [after]).gradient(Adaptation([memory.theta], []), torch.zeros(0, 1))
    assert torch.allclose(here.outer[0][0].ratio, torch.ones(2, 1), atol=1e-5)


def test_exploration_before_the_first_step_has_a_deviation_of_its_own_and_does_not_count() -> None:
    family = ProbeFamily()
    deviations = []
    for exploration in (0.5, -1.0):
        config = MamlConfig(exploration_log_std=exploration, inner_steps=1, meta_batch_size=2)
        maml = Maml(config, Sizes.of(family), torch.Generator().manual_seed(0))
        batch = TaskBatch(family, family.sample("train", 2, np.random.default_rng(0)), 50, threads=1)
        memory = maml.fresh(2, 50, torch.Generator().manual_seed(1))
        before = round_of(maml, memory, batch, 0)
        deviations.append(float(before.action.std().log()))
        after = round_of(maml, maml.adapt(memory, before), batch, 50)
        assert float(after.action.std().log()) == pytest.approx(config.initial_log_std, abs=0.3)
        maml.update([before, after], torch.Generator().manual_seed(2))
        assert maml.config.exploration_log_std == exploration
    assert deviations == [pytest.approx(0.5, abs=0.05), pytest.approx(-1.0, abs=0.05)]


def test_advantages_have_unit_deviation_in_each_task_or_over_the_batch() -> None:
    family, played = ProbeFamily(), None
    for normalisation in ("task", "batch"):
        config = MamlConfig(outer_normalisation=normalisation)
        maml = Maml(config, Sizes.of(family), torch.Generator().manual_seed(0))
        batch = TaskBatch(family, family.sample("train", 3, np.random.default_rng(0)), 4, threads=1)
        memory = maml.fresh(3, 4, torch.Generator().manual_seed(1))
        played = played or round_of(maml, memory, batch, 0)
        (data,) = maml.estimator.outer([played], [memory.theta.expand(3, -1)])
        apart = data.advantage.std(1, correction=0)
        if normalisation == "task":
            assert torch.allclose(apart, torch.ones(3), atol=1e-4)
        else:
            assert float(data.advantage.std(correction=0)) == pytest.approx(1.0, abs=1e-4)
            assert float(apart.std()) > 1e-3


def test_a_fitted_baseline_is_refused_where_it_would_explain_the_signal_away() -> None:
    sizes = Sizes(observation=24, action=5, features=3, horizon=40)
    generator = torch.Generator().manual_seed(0)
    for baseline, episodes in (("observations", 26), ("time", 5), ("critic", 1)):
        Maml(MamlConfig(baseline=baseline, episodes_per_step=episodes), sizes, generator).check_training()  # type: ignore[arg-type]
    short = Maml(MamlConfig(baseline="observations", episodes_per_step=25), sizes, generator)  # it can be loaded
    with pytest.raises(UserError, match="episodes-per-step of 26 or more"):
        short.check_training()


def test_settings_of_runs_from_before_mean_what_they_did() -> None:
    written = {"inner_lr": 0.2, "discount": 0.98, "gae_lambda": 0.9, "outer": "trpo"}
    config = MamlConfig(**MamlConfig.completed(written))
    assert (config.adapted, config.baseline, config.reuse_episodes) == ("weights", "observations", False)
    assert (config.inner_discount, config.inner_gae_lambda, config.outer_normalisation) == (0.98, 0.9, "task")
    assert MamlConfig.completed({"adapted": "context"}) == {"adapted": "context"}


def test_a_round_that_would_break_the_weights_is_not_kept() -> None:
    family = ProbeFamily()
    maml = Maml(MamlConfig(inner_lr=1e4), Sizes.of(family), torch.Generator().manual_seed(0))
    batch = TaskBatch(family, family.sample("train", 2, np.random.default_rng(0)), 4, threads=1)
    memory = maml.fresh(2, 4, torch.Generator().manual_seed(1))
    played = round_of(maml, memory, batch, 0)
    reward = played.reward.clone()
    reward[3, 1] = 3e38  # finite, but not times the step size
    with pytest.warns(RuntimeWarning, match="skipped on 1 of 2 tasks"):
        broken = maml.adapt(memory, replace(played, reward=reward))
    assert torch.equal(broken.theta[1], memory.theta)
    after = maml.adapt(broken, round_of(maml, broken, batch, 4))
    assert torch.isfinite(after.theta).all()
    assert not torch.equal(after.theta[1], memory.theta)


def test_adapting_leaves_the_agent_and_the_given_memory_alone() -> None:
    family = ProbeFamily()
    maml = Maml(MamlConfig(), Sizes.of(family), torch.Generator().manual_seed(0))
    batch = TaskBatch(family, family.sample("train", 2, np.random.default_rng(0)), 4, threads=1)
    memory = maml.adapt(
        maml.fresh(2, 4, torch.Generator().manual_seed(1)),
        round_of(maml, maml.fresh(2, 4, torch.Generator().manual_seed(1)), batch, 0),
    )
    weights = memory.theta.clone()
    shared = {name: value.clone() for name, value in maml.state().items()}
    maml.adapt(memory, round_of(maml, memory, batch, 4))
    assert torch.equal(weights, memory.theta)
    assert all(torch.equal(shared[name], value) for name, value in maml.state().items())
    assert memory.steps == 1
