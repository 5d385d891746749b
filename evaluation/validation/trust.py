"""TRPO: the curvature against an explicit matrix, the KL bound on real updates, and what a rejected search leaves."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.func import jacrev

from agents.agent import Sizes, Trajectories
from agents.maml import Maml, MamlConfig
from agents.meta_gradient import StepData
from agents.policy_derivatives import Activation
from agents.trust_region import trust_region_step
from envs.families import make_family
from envs.simulation import TaskBatch
from evaluation.validation.check import Check, close, holds, relative_error
from evaluation.validation.fixed_batch import Problem, make_problem, of_task
from evaluation.validation.meta_gradient import ACTIVATIONS, EXACT, agent_gradient
from evaluation.validation.reference import Batch, Reference
from training.collect import collect

MAX_KL = 0.01
FLOAT32 = 1e-3  # share of the bound by which a KL in float32 may miss that in float64


def explicit_fisher(problem: Problem) -> Tensor:
    """[D, D]: J^T F J over all valid steps, J the Jacobian of each step's mean and log_std by all that is learned,
    through the inner steps, and F = 1 / std^2 for a mean and 2 for a log_std."""
    matrix = torch.zeros(len(problem.point), len(problem.point), dtype=torch.float64)
    for rounds, last in zip(problem.inner, problem.outer, strict=True):

        def parameters(point: Tensor, rounds: list[Batch] = rounds, last: Batch = last) -> tuple[Tensor, Tensor]:
            return problem.reference.distribution(point, rounds, last.obs)

        log_std = parameters(problem.point)[1]
        by_mean, by_log_std = jacrev(parameters)(problem.point)
        weight = last.valid[:, None] * torch.exp(-2 * log_std)
        matrix += torch.einsum("bai,ba,baj->ij", by_mean, weight, by_mean)
        matrix += torch.einsum("bai,b,baj->ij", by_log_std, 2 * last.valid, by_log_std)
    steps = sum(float(last.valid.sum()) for last in problem.outer)
    return matrix / steps


def fisher(activation: Activation, first_order: bool) -> Check:
    """first_order: of an agent whose adapted weights are taken to move as the shared ones do."""
    problem = make_problem(activation, 2, first_order=first_order)
    sizes = problem.layout.spread(problem.step_sizes)
    columns = []
    with torch.no_grad():
        product = problem.agent.curvature(problem.agent.adapt(problem.theta, sizes), sizes, 1)
        for axis in torch.eye(len(problem.point), dtype=torch.float64):
            theta, step_sizes = problem.reference.unpack(axis)
            columns.append(problem.pack(*product(theta, problem.layout.spread(step_sizes))))
    return close(
        f"Fisher-vector product: {activation}, {'first order' if first_order else 'through the inner steps'}",
        "every column of the explicit matrix J' F J, with two inner steps",
        relative_error(torch.stack(columns, dim=1), explicit_fisher(problem)),
        EXACT,
        f"{len(problem.point)} x {len(problem.point)}",
    )


def kl_bound(updates: int = 4) -> list[Check]:
    """Meta-updates of the agent as it trains, on the bandit; each KL measured by the reference in float64."""
    config = MamlConfig(
        hidden_sizes=(16,),
        adapted="weights",
        inner_lr=0.1,
        reuse_episodes=False,
        episodes_per_step=20,
        inner_discount=0.99,
        inner_gae_lambda=0.97,
        baseline="time",
        exploration_log_std=None,
        outer="trpo",
        outer_normalisation="task",
        max_kl=MAX_KL,
        curvature_stride=1,
    )
    family = make_family("bandit")
    agent = Maml(config, Sizes.of(family), torch.Generator().manual_seed(0))
    reference = Reference(agent.layout.sizes, agent.layout.activation)
    divergences = []
    for number in range(updates):
        tasks = family.sample("train", 8, np.random.default_rng(number))
        batch = TaskBatch(family, tasks, config.episodes_per_step, threads=1)
        generator = torch.Generator().manual_seed(number)
        memory = agent.fresh(len(tasks), config.episodes_per_step, generator)
        rounds: list[Trajectories] = []
        for played in range(agent.rounds):
            if rounds:
                memory = agent.adapt(memory, rounds[-1])
            trajectories, memory = collect(agent, memory, batch, seed=number, episode=played * 20)
            rounds.append(trajectories)
        data = [agent.estimator.inner(trajectories) for trajectories in rounds]
        before = agent.theta.double(), agent.parameters.step_sizes.double()
        agent.update(rounds, generator)
        after = agent.theta.double(), agent.parameters.step_sizes.double()
        divergences.append(mean_divergence(reference, data, before, after))
    return [
        Check(
            "TRPO: the largest KL of a step",
            f"{updates} updates of MAML; measured over again in float64",
            "<=",
            MAX_KL,
            max(divergences),
            MAX_KL * FLOAT32,
        ),
        Check(
            "TRPO: the smallest KL of a step",
            "the agent does move",
            ">=",
            0.1 * MAX_KL,
            min(divergences),
        ),
    ]


def mean_divergence(
    reference: Reference, data: list[StepData], before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor]
) -> float:
    """Mean KL from the policies adapted by `before` (weights, step sizes) to those adapted by `after`, over the last
    round."""
    total, steps = 0.0, 0.0
    for task in range(len(data[0].obs)):
        *rounds, last = [of_task(part, task) for part in data]
        old, new = (reference.adapt(*meta, rounds) for meta in (before, after))
        total += float(reference.divergence(old, new, last))
        steps += float(last.valid.sum())
    return total / steps


def rejected_search() -> list[Check]:
    """Searches that no length can satisfy: along the falling gradient, and far beyond the KL bound."""
    problem = make_problem("tanh", 1)
    layout, sizes = problem.layout, problem.layout.spread(problem.step_sizes)
    with torch.no_grad():
        at = problem.agent.adapt(problem.theta, sizes)
        here, product = problem.agent.gradient(at, sizes), problem.agent.curvature(at, sizes, 1)
        start, (_, gradient) = problem.point, agent_gradient(problem)
        kept = start.clone()

        def curvature(vector: Tensor) -> Tensor:
            theta, step_sizes = problem.reference.unpack(vector)
            return problem.pack(*product(theta, layout.spread(step_sizes)))

        def search(slope: Tensor, flattening: float) -> tuple[int, int]:
            """How often the search looked, and how many of the weights it left differ from what they were."""
            looks = 0

            def evaluate(vector: Tensor) -> tuple[float, float]:
                nonlocal looks
                looks += 1
                theta, step_sizes = problem.reference.unpack(vector)
                return problem.agent.objective_and_kl(theta, layout.spread(step_sizes), here.outer)

            moved, _ = trust_region_step(
                start,
                float(here.objective.mean()),
                slope,
                lambda vector: flattening * curvature(vector),
                evaluate,
                max_kl=MAX_KL,
                conjugate_gradient_steps=10,
                damping=1e-2 * flattening,
            )
            return looks, int((moved.view(torch.int64) != kept.view(torch.int64)).sum())

        cases = {"the objective falls": search(-gradient, 1.0), "the KL is too large": search(gradient, 1e-8)}
        _, free = search(gradient, 1.0)
    return [
        *(
            holds(
                f"TRPO: rejected where {name}",
                "weights that differ in any bit after the search",
                differ if looks > 1 else -1,
                f"{looks} lengths tried",
            )
            for name, (looks, differ) in cases.items()
        ),
        Check("TRPO: accepted where a length will do", "the same search moves every weight", "=", len(start), free),
    ]


def checks() -> list[Check]:
    return [
        *(fisher(activation, first_order) for activation in ACTIVATIONS for first_order in (False, True)),
        *kl_bound(),
        *rejected_search(),
    ]
