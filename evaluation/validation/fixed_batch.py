"""Fixed made-up episodes, as the agent's derivatives and the reference each want them, and a point to stand at."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from agents.meta_gradient import MetaObjective, StepData
from agents.policy_derivatives import Activation, Layout
from evaluation.validation.reference import Batch, Reference

TASKS, EPISODES, STEPS = 3, 3, 5
SIZES = (4, 6, 5, 2)
STEP_SIZE = 0.2


@dataclass(frozen=True)
class Problem:
    """The same objective twice: the agent's, and the reference's. point: weights, then step sizes [S, tensors]."""

    layout: Layout
    agent: MetaObjective
    reference: Reference
    inner: list[list[Batch]]
    outer: list[Batch]
    point: Tensor

    @property
    def theta(self) -> Tensor:
        return self.reference.unpack(self.point)[0]

    @property
    def step_sizes(self) -> Tensor:
        """[S, tensors]."""
        return self.reference.unpack(self.point)[1]

    def pack(self, theta: Tensor, step_sizes: Tensor) -> Tensor:
        """The agent's derivatives by weights [P] and by each weight's step size [S, P], as one vector like `point`."""
        return torch.cat([theta, self.layout.gather(step_sizes).flatten()])


def make_problem(
    activation: Activation,
    inner_steps: int,
    *,
    first_order: bool = False,
    clip_range: float | None = None,
    seed: int = 0,
) -> Problem:
    """Everything in float64. The last episode of task k lacks its last k steps."""
    generator = torch.Generator().manual_seed(seed)
    layout = Layout(SIZES, activation)
    rounds = [_episodes(generator) for _ in range(inner_steps + 1)]
    theta = 0.5 * torch.randn(sum(layout.lengths), generator=generator, dtype=torch.float64)
    spread = torch.rand(inner_steps, len(layout.lengths), generator=generator, dtype=torch.float64)
    by_task = [[of_task(data, k) for data in rounds] for k in range(TASKS)]
    return Problem(
        layout,
        MetaObjective(layout, rounds[:-1], rounds[-1:], first_order=first_order, clip_range=clip_range),
        Reference(SIZES, activation, first_order, clip_range),
        [batches[:-1] for batches in by_task],
        [batches[-1] for batches in by_task],
        torch.cat([theta, (STEP_SIZE * (0.5 + spread)).flatten()]),
    )


def of_task(data: StepData, k: int) -> Batch:
    """One task's steps, in float64."""
    valid = data.valid[k].double()
    return Batch(
        data.obs[k].double(), data.action[k].double(), data.log_prob[k].double(), data.advantage[k].double(), valid
    )


def _episodes(generator: torch.Generator) -> StepData:
    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    valid = torch.ones(TASKS, STEPS, EPISODES, dtype=torch.bool)
    for task in range(TASKS):
        valid[task, STEPS - task :, -1] = False
    steps = STEPS * EPISODES
    return StepData(
        obs=normal(TASKS, steps, SIZES[0]),
        action=normal(TASKS, steps, SIZES[-1]),
        log_prob=-2.5 + 0.3 * normal(TASKS, steps),
        advantage=normal(TASKS, steps),
        valid=valid.reshape(TASKS, steps),
        episodes=EPISODES,
    )
