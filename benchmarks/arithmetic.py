"""The arithmetic floor of an update: the matrix products that its algorithm needs, and how fast the machine does them.

A policy of layers with a_l inputs and b_l outputs on S samples takes S * a_l * b_l multiply-adds a layer for each of:

    forward           x W             every layer
    input gradient    d W^T           every layer but the first
    weight gradient   x^T d           every layer

so with P = sum_l a_l b_l and P_0 = a_0 b_0, a forward pass is S P and a reverse pass S (2 P - P_0). Where both are
kept, the product of the loss's Hessian with a direction (forward over reverse) is S (6 P - 4 P_0), and that of the
Fisher matrix S (4 P - 2 P_0). With S_i samples in the mean of m inner steps and S_o in the outer rounds, c conjugate
gradients on one sample in s, one trial of the line search, and the old policy's pass used again as the objective's:

    MAML, TRPO   2 m S_i (3 P - P_0) + m S_i (6 P - 4 P_0)                adapted weights twice; back through the steps
                 + S_o (4 P - P_0)                                        objective, its gradient; the trial's objective
                 + c / s (2 m S_i (6 P - 4 P_0) + S_o (4 P - 2 P_0))      curvature: forth and back through the steps
                 + 1 / s (m S_i (3 P - P_0) + S_o P)                      the passes kept for it
    MAML, PPO    e (m S_i (9 P - 5 P_0) + S_o (3 P - P_0))                e passes over the tasks
                 + m S_i (3 P - P_0)                                      adapted weights
    its critics  h B (3 C - C_0) each, and 2 S_a C                        h steps on B; all S_a twice: values, targets
    RL2, PPO     g S (3 P - P_0) + h B (3 C - C_0)                        g steps of the policy, h of the critic C on B
                 + S_a (G + C)                                            all S_a once: encoder and GRU (G), values
    PPO          g S (6 P' - 2 P_0)                                       policy and value network, P' their mean P

First order, the Hessian's terms are zero. Left out: all that is no matrix product of the networks (activations, ratios,
optimiser, advantages), so nothing runs at its floor.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeAlias

import torch

from agents.agent import Learner
from envs.task import TaskFamily


@dataclass(frozen=True)
class Product:
    """[batch, rows, inner] x [batch, inner, columns], float32."""

    batch: int
    rows: int
    inner: int
    columns: int

    @property
    def multiply_adds(self) -> int:
        return self.batch * self.rows * self.inner * self.columns


Products: TypeAlias = dict[Product, float]
"""How often each product is needed."""


@dataclass(frozen=True)
class Kind:
    """What a pass multiplies: (forward, input gradient, weight gradient) in the first layer, and in every later one."""

    first: tuple[int, int, int]
    later: tuple[int, int, int]


FORWARD = Kind((1, 0, 0), (1, 0, 0))
GRADIENT = Kind((1, 0, 1), (1, 1, 1))
HESSIAN_PRODUCT = Kind((1, 0, 1), (2, 2, 2))
FISHER_PRODUCT = Kind((1, 0, 1), (2, 1, 1))
UPPER_GRADIENT = Kind((1, 1, 1), (1, 1, 1))  # of layers whose input is not the observation
STEPWISE = Kind((1, 1, 0), (1, 1, 0))


@dataclass(frozen=True)
class Network:
    """Layers of (inputs, outputs) on `rows` samples for each of `batch` sets of weights."""

    layers: tuple[tuple[int, int], ...]
    batch: int
    rows: int

    def products(self, kind: Kind, count: float = 1) -> Products:
        """Of `count` such passes."""
        found: Products = {}
        for number, (inputs, outputs) in enumerate(self.layers):
            shapes = ((self.rows, inputs, outputs), (self.rows, outputs, inputs), (inputs, self.rows, outputs))
            for shape, often in zip(shapes, kind.later if number else kind.first, strict=True):
                product = Product(self.batch, *shape)
                found[product] = found.get(product, 0) + often * count
        return found


def total(parts: Iterable[Products], count: float = 1) -> Products:
    """All of them together, `count` times."""
    found: Products = {}
    for part in parts:
        for product, often in part.items():
            found[product] = found.get(product, 0) + often * count
    return found


def update_products(learner: Learner[Any], family: TaskFamily[Any], gradient_steps: int) -> Products:
    """What one update of the learner needs. gradient_steps: how many its optimiser took, early stopping considered."""
    config, observation, action = learner.config, family.observation_size, family.action_size
    adam = getattr(config, "outer", "") != "trpo" or config.baseline == "critic"
    if gradient_steps == 0 and adam:
        raise RuntimeError(f"no optimiser's step was seen in {learner.name}'s update: its floor would mean nothing")
    if learner.name == "maml":
        return _maml(config, family, gradient_steps)
    if learner.name == "rl2":
        return _rl2(config, family, gradient_steps)
    samples = learner.meta_batch_size * learner.train_episodes * family.horizon
    rows = samples // math.ceil(samples / config.batch_size)
    towers = [Network(tuple(pairwise((observation, *config.hidden_sizes, out))), 1, rows) for out in (action, 1)]
    return total((tower.products(GRADIENT) for tower in towers), gradient_steps)


def _maml(config: Any, family: TaskFamily[Any], gradient_steps: int) -> Products:
    """As in the table above. An inner step has one round's samples, or those of all rounds so far."""
    layers = tuple(pairwise((family.observation_size, *config.hidden_sizes, family.action_size)))
    network = Network(layers, config.meta_batch_size, config.episodes_per_step * family.horizon)
    second_order = 0 if config.first_order else 1
    steps = config.inner_steps * (config.inner_steps + 1) // 2 if config.reuse_episodes else config.inner_steps
    critics: Products = {}
    if config.baseline == "critic":
        samples = (config.inner_steps + 1) * network.batch * network.rows
        told = family.observation_size + family.feature_size + config.inner_steps + 1 + config.adapted_context
        size, batch = config.critic_size, config.critic_batch_size
        critic_steps = config.critic_epochs * math.ceil(samples / batch)
        for inputs in (family.observation_size + 1, told):
            critic = Network(((inputs, size), (size, size), (size, 1)), 1, batch)
            values = replace(critic, rows=samples).products(FORWARD, 2)
            critics = total([critics, critic.products(GRADIENT, critic_steps), values])
            gradient_steps -= critic_steps
    if config.outer == "ppo":
        tasks = config.meta_batch_size
        passes = gradient_steps / math.ceil(
            tasks / math.ceil(tasks / config.minibatches)
        )  # as `torch.chunk` parts them
        parts = (
            network.products(GRADIENT, steps + config.inner_steps + 1),
            network.products(HESSIAN_PRODUCT, steps * second_order),
        )
        return total([total(parts, passes), network.products(GRADIENT, steps), critics])
    thinned = replace(network, rows=max(network.rows // config.curvature_stride, 1))
    solver_steps = config.conjugate_gradient_steps
    return total(
        [
            network.products(GRADIENT, 2 * steps),
            network.products(HESSIAN_PRODUCT, steps * second_order),
            network.products(GRADIENT),
            network.products(FORWARD),
            thinned.products(HESSIAN_PRODUCT, solver_steps * 2 * steps * second_order),
            thinned.products(FISHER_PRODUCT, solver_steps),
            thinned.products(GRADIENT, steps),
            thinned.products(FORWARD),
            critics,
        ]
    )


def _rl2(config: Any, family: TaskFamily[Any], gradient_steps: int) -> Products:
    """The recurrent product and its input gradient go step by step; everything else is one product over the trials.

    The critic takes all its steps in every update; of `gradient_steps` the others are the policy's.
    """
    size, head, features = config.hidden_size, config.head_size, family.feature_size
    inputs, steps = family.observation_size + family.action_size + 2, family.horizon * config.episodes_per_trial
    trials = config.meta_batch_size * config.trials_per_task
    part = math.ceil(trials / config.minibatches)
    below = Network(((inputs, size), (size, 3 * size)), 1, steps * part)
    above = Network(((size, features), (2 * size + features, head), (head, family.action_size)), 1, steps * part)
    recurrent = Network(((size, 3 * size),), 1, part)
    critic = Network(((inputs + size + features, head), (head, head), (head, 1)), 1, config.critic_batch_size)
    critic_steps: int = config.epochs * math.ceil(trials * steps / config.critic_batch_size)
    policy_step: list[Products] = [
        below.products(GRADIENT),
        above.products(UPPER_GRADIENT),
        recurrent.products(STEPWISE, steps),
        {Product(1, size, steps * part, 3 * size): 1},  # the weight gradient of the recurrent product
    ]
    values = [
        replace(below, rows=steps * trials).products(FORWARD),
        replace(recurrent, rows=trials).products(FORWARD, steps),
        replace(critic, rows=steps * trials).products(FORWARD),
    ]
    return total(
        [total(policy_step, gradient_steps - critic_steps), critic.products(GRADIENT, critic_steps), total(values)]
    )


def multiply_adds(products: Products) -> float:
    """Of all of them."""
    return sum(product.multiply_adds * often for product, often in products.items())


def floor_seconds(products: Products, least_seconds: float = 0.02) -> float:
    """How long they take on their own, each shape on one thread or on all of torch's, whichever is the faster.

    Each is timed `least_seconds` on either: on small products, threads that wait for each other cost more than they do.
    """
    return sum(fastest_seconds(product, least_seconds) * often for product, often in products.items() if often)


def fastest_seconds(product: Product, least_seconds: float) -> float:
    """Of one such product, on one thread or on all."""
    threads = torch.get_num_threads()
    try:
        seconds = [seconds_of(product, least_seconds)]
        torch.set_num_threads(1)
        return min(*seconds, seconds_of(product, least_seconds))
    finally:
        torch.set_num_threads(threads)


def seconds_of(product: Product, least_seconds: float) -> float:
    """Of one such product, into memory that is there already."""
    generator = torch.Generator().manual_seed(0)
    left = torch.randn(product.batch, product.rows, product.inner, generator=generator)
    right = torch.randn(product.batch, product.inner, product.columns, generator=generator)
    if product.batch == 1:
        left, right = left[0], right[0]
    out = left @ right
    done, seconds, begin = 0, 0.0, time.perf_counter()
    while seconds < least_seconds:
        torch.matmul(left, right, out=out)
        done += 1
        seconds = time.perf_counter() - begin
    return seconds / done
