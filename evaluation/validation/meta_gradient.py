"""MAML's derivatives without a graph, in float64, against central differences and against `reference`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad, vmap

from agents.policy_derivatives import Activation
from evaluation.validation.check import Check, close, relative_error
from evaluation.validation.fixed_batch import Problem, make_problem

WIDTH = 1e-5
DIFFERENCES, EXACT = 1e-6, 1e-10
ACTIVATIONS: tuple[Activation, ...] = ("tanh", "relu")


def agent_gradient(problem: Problem) -> tuple[Tensor, Tensor]:
    """The agent's objective, and its derivatives by all that is learned."""
    sizes = problem.layout.spread(problem.step_sizes)
    found = problem.agent.gradient(problem.agent.adapt(problem.theta, sizes), sizes)
    return found.objective.mean(), problem.pack(found.theta, found.step_sizes)


def reference_objective(problem: Problem) -> Callable[[Tensor], Tensor]:
    return lambda point: problem.reference.meta_objective(point, problem.inner, problem.outer)


def central_differences(function: Callable[[Tensor], Tensor], point: Tensor, width: float = WIDTH) -> Tensor:
    """[D]: (f(x + width e_i) - f(x - width e_i)) / (2 width) for each of the D axes."""
    moves = width * torch.eye(len(point), dtype=point.dtype)
    ahead, behind = (vmap(function)(point + sign * moves) for sign in (1, -1))
    return (ahead - behind) / (2 * width)


def against_differences(activation: Activation, inner_steps: int) -> Check:
    problem = make_problem(activation, inner_steps)
    with torch.no_grad():
        _, found = agent_gradient(problem)
    numeric = central_differences(reference_objective(problem), problem.point)
    split = len(problem.theta)
    parts = [relative_error(found[part], numeric[part]) for part in (slice(split), slice(split, None))]
    steps = "1 inner step" if inner_steps == 1 else f"{inner_steps} inner steps"
    return close(
        f"meta-gradient: {activation}, {steps}",
        "by weights and learned step sizes, against central differences in float64",
        max(parts),
        DIFFERENCES,
        f"by weights {parts[0]:.1e}, by step sizes {parts[1]:.1e}",
    )


def away_from_kinks() -> Check:
    """relu has no derivative at zero: the differences above say something only where none is near."""
    distances = []
    for inner_steps in (1, 2, 3):
        problem = make_problem("relu", inner_steps)
        distances += [
            problem.reference.nearest_kink(problem.theta, problem.step_sizes, rounds, last)
            for rounds, last in zip(problem.inner, problem.outer, strict=True)
        ]
    meaning = "relu's nearest kink is far beyond the width of the differences"
    return Check("meta-gradient: relu is smooth there", meaning, ">=", 10 * WIDTH, min(distances))


def first_order(activation: Activation) -> Check:
    problem = make_problem(activation, 1, first_order=True)
    with torch.no_grad():
        _, found = agent_gradient(problem)
    at_adapted = [
        grad(problem.reference.objective)(problem.reference.adapt(problem.theta, problem.step_sizes, rounds), last)
        for rounds, last in zip(problem.inner, problem.outer, strict=True)
    ]
    truth = torch.stack(at_adapted).mean(0)
    full = grad(reference_objective(make_problem(activation, 1)))(problem.point)[: len(truth)]
    return close(
        f"first order: {activation}",
        "the mean gradient at the adapted weights",
        relative_error(found[: len(truth)], truth),
        EXACT,
        f"the second order is {relative_error(full, truth):.2f} away from it",
    )


def against_a_loop(activation: Activation) -> list[Check]:
    """All tasks at once against one after the other: adapted weights, objective, gradient."""
    problem = make_problem(activation, 2)
    with torch.no_grad():
        adapted = problem.agent.adapt(problem.theta, problem.layout.spread(problem.step_sizes)).thetas[-1]
        value, found = agent_gradient(problem)
    alone = torch.stack(
        [problem.reference.adapt(problem.theta, problem.step_sizes, rounds) for rounds in problem.inner]
    )
    objective = reference_objective(problem)
    errors = {
        "adapted weights": relative_error(adapted, alone),
        "objective": relative_error(value, objective(problem.point)),
        "meta-gradient": relative_error(found, grad(objective)(problem.point)),
    }
    meaning = "all tasks in one batch equal a loop over tasks written with torch.func"
    return [close(f"batched {what}: {activation}", meaning, error, EXACT) for what, error in errors.items()]


def clipped() -> Check:
    problem = make_problem("tanh", 2, clip_range=0.2)
    with torch.no_grad():
        _, found = agent_gradient(problem)
    truth = grad(reference_objective(problem))(problem.point)
    meaning = "PPO's bounded outer objective, differentiated through the inner steps"
    return close("meta-gradient: clipped", meaning, relative_error(found, truth), EXACT)


def checks() -> list[Check]:
    return [
        *(against_differences(activation, steps) for activation in ACTIVATIONS for steps in (1, 2, 3)),
        away_from_kinks(),
        *(first_order(activation) for activation in ACTIVATIONS),
        *(check for activation in ACTIVATIONS for check in against_a_loop(activation)),
        clipped(),
    ]
