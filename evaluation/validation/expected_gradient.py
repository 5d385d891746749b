"""Which surrogates estimate the meta-gradient without bias, and by how much the others are off.

Three questions, each answered by a sum over every trajectory of `enumeration.two_tasks`:

    curvature    E[Hessian of the surrogate]   against the Hessian of J
    MAML         J_k(theta + alpha grad J_k(theta)): its gradient is (1 + alpha Hessian) grad J_k(theta')
    one sample   E_tau[J_k(theta + alpha g(tau))], the inner step made from a single episode (arXiv 1803.01118): its
                 gradient has a term for how theta draws the episode, besides that through the inner step
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.func import grad, jacrev, vmap

from evaluation.validation.check import Check, close, relative_error
from evaluation.validation.enumeration import (
    ACTIONS,
    STATES,
    Surrogate,
    Trajectories,
    dice,
    expected,
    ratio,
    score,
    two_tasks,
)

ALPHA = 0.3
EXACT = 1e-10
SURROGATES: dict[str, Surrogate] = {"DiCE": dice, "likelihood ratio": ratio, "log-likelihood": score}

BIAS = {
    ("curvature", "likelihood ratio"): 0.98965,
    ("curvature", "log-likelihood"): 2.68115,
    ("MAML meta-gradient", "likelihood ratio"): 0.07400,
    ("MAML meta-gradient", "log-likelihood"): 0.19198,
    ("MAML meta-gradient", "first order"): 0.12628,
    ("meta-gradient from one sample", "DiCE"): 0.04149,
    ("meta-gradient from one sample", "likelihood ratio"): 0.07364,
    ("meta-gradient from one sample", "log-likelihood"): 0.16823,
    ("meta-gradient from one sample", "first order"): 0.11065,
}
"""The biased ones: |expected estimate - truth| / |truth| over both tasks, at `policy()`."""


def policy() -> Tensor:
    """[S * A] logits: some policy that is neither uniform nor nearly certain."""
    return torch.tensor([0.4, -0.3, -0.2, 0.5], dtype=torch.float64).reshape(STATES * ACTIONS)


def hessian(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The Jacobian by reverse mode of the gradient by reverse mode; of a vector's entries, one Hessian each."""
    return jacrev(jacrev(function))


def true_maml_gradient(data: Trajectories, theta: Tensor) -> Tensor:
    """d/dtheta J(theta + alpha grad J(theta))."""
    inner = grad(data.expected_return)
    return grad(lambda point: data.expected_return(point + ALPHA * inner(point)))(theta)


def estimated_maml_gradient(surrogate: Surrogate, data: Trajectories, theta: Tensor, first_order: bool) -> Tensor:
    """What differentiating through the surrogate's inner step gives, with as many episodes as there can be."""
    inner = grad(expected(surrogate, data, theta))
    adapted = theta + ALPHA * inner(theta)
    outer = grad(expected(surrogate, data, adapted))(adapted)
    if first_order:
        return outer
    return outer @ jacrev(lambda point: point + ALPHA * inner(point))(theta)


def inner_steps(surrogate: Surrogate, data: Trajectories, theta: Tensor, old: Tensor) -> Tensor:
    """[M, S * A]: theta + alpha grad of the surrogate of each trajectory alone."""
    return theta + ALPHA * jacrev(lambda point: surrogate(data, point, old))(theta)


def true_one_sample_gradient(data: Trajectories, theta: Tensor) -> Tensor:
    """d/dtheta sum_tau p_theta(tau) J(theta + alpha g(tau)), g(tau) the policy gradient of that trajectory."""

    def objective(point: Tensor) -> Tensor:
        adapted = inner_steps(score, data, point, point)
        return data.probability(point) @ vmap(data.expected_return)(adapted)

    return grad(objective)(theta)


def estimated_one_sample_gradient(
    surrogate: Surrogate, data: Trajectories, theta: Tensor, *, first_order: bool = False, sampling: bool = False
) -> Tensor:
    """E_tau[(1 + alpha Hessian of the surrogate of tau) grad J(theta')]; `sampling` adds J(theta') grad log p(tau)."""
    adapted = inner_steps(surrogate, data, theta, theta)
    outer = vmap(grad(data.expected_return))(adapted)
    if not first_order:
        change = jacrev(lambda point: inner_steps(surrogate, data, point, theta))(theta)
        outer = torch.einsum("mi,mij->mj", outer, change)
    if sampling:
        log_prob = jacrev(lambda point: data.log_prob(point).sum(1))(theta)
        outer = outer + vmap(data.expected_return)(adapted)[:, None] * log_prob
    return data.probability(theta) @ outer


def curvature_spread(surrogate: Surrogate, data: Trajectories, theta: Tensor) -> float:
    """Standard deviation of one trajectory's Hessian, over the norm of the true one."""
    single = hessian(lambda point: surrogate(data, point, theta))(theta)
    weight = data.probability(theta)[:, None, None]
    variance = (weight * (single - (weight * single).sum(0)) ** 2).sum()
    return float(variance.sqrt() / hessian(data.expected_return)(theta).norm())


Question = Callable[[Trajectories], Tensor]


def over_tasks(value: Question, truth: Question) -> float:
    """The relative error over both tasks together."""
    tasks = two_tasks()
    return relative_error(torch.stack([value(data) for data in tasks]), torch.stack([truth(data) for data in tasks]))


def curvature_check(name: str, surrogate: Surrogate, theta: Tensor) -> Check:
    def estimate(data: Trajectories) -> Tensor:
        return hessian(expected(surrogate, data, theta))(theta)

    error = over_tasks(estimate, lambda data: hessian(data.expected_return)(theta))
    spread = sum(curvature_spread(surrogate, data, theta) for data in two_tasks()) / 2
    return _verdict("curvature", name, error, f"one trajectory's Hessian strays {spread:.1f} times the true one's norm")


def maml_check(name: str, surrogate: Surrogate, theta: Tensor, first_order: bool = False) -> Check:
    def estimate(data: Trajectories) -> Tensor:
        return estimated_maml_gradient(surrogate, data, theta, first_order)

    return _verdict("MAML meta-gradient", name, over_tasks(estimate, lambda data: true_maml_gradient(data, theta)))


def one_sample_check(
    name: str, surrogate: Surrogate, theta: Tensor, *, first_order: bool = False, sampling: bool = False
) -> Check:
    def estimate(data: Trajectories) -> Tensor:
        return estimated_one_sample_gradient(surrogate, data, theta, first_order=first_order, sampling=sampling)

    error = over_tasks(estimate, lambda data: true_one_sample_gradient(data, theta))
    return _verdict("meta-gradient from one sample", name, error)


def policy_gradient_check(theta: Tensor) -> Check:
    errors = []
    for surrogate in SURROGATES.values():

        def estimate(data: Trajectories, surrogate: Surrogate = surrogate) -> Tensor:
            return grad(expected(surrogate, data, theta))(theta)

        errors.append(over_tasks(estimate, lambda data: grad(data.expected_return)(theta)))
    meaning = "the inner step itself is unbiased whichever surrogate makes it"
    return close("policy gradient of all three surrogates", meaning, max(errors), EXACT)


def checks() -> list[Check]:
    """Every surrogate against each question."""
    theta = policy()
    return [
        policy_gradient_check(theta),
        *(curvature_check(name, surrogate, theta) for name, surrogate in SURROGATES.items()),
        *(maml_check(name, surrogate, theta) for name, surrogate in SURROGATES.items()),
        maml_check("first order", ratio, theta, first_order=True),
        one_sample_check("log-likelihood with the sampling term", score, theta, sampling=True),
        *(one_sample_check(name, surrogate, theta) for name, surrogate in SURROGATES.items()),
        one_sample_check("first order", score, theta, first_order=True),
    ]


def _verdict(question: str, name: str, error: float, detail: str = "") -> Check:
    """Unbiased, or biased by the figure that stands in BIAS."""
    if (question, name) in BIAS:
        meaning = "biased, by this share of the true value"
        return Check(f"{question}: {name}", meaning, "=", BIAS[question, name], error, 1e-5, detail)
    return close(f"{question}: {name}", "unbiased", error, EXACT, detail)
