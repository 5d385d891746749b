"""A decision process so small that expectations over its trajectories are sums, written out one trajectory each.

Letters: S states, A actions, T steps, M trajectories. The policy is a table of logits theta [S * A], float64.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

STATES, ACTIONS, HORIZON = 2, 2, 3


@dataclass(frozen=True)
class Trajectories:
    """All M trajectories of one task. state, action [M, T] int; reward, to_go [M, T]; dynamics [M].

    to_go: the sum of the rewards from a step on. dynamics: the probability of the states, given the actions.
    """

    state: Tensor
    action: Tensor
    reward: Tensor
    dynamics: Tensor

    @property
    def to_go(self) -> Tensor:
        return self.reward.flip(1).cumsum(1).flip(1)

    def log_prob(self, theta: Tensor) -> Tensor:
        """[M, T]: log pi_theta(a_t | s_t)."""
        table = torch.log_softmax(theta.reshape(STATES, ACTIONS), dim=1)
        return table[self.state, self.action]

    def probability(self, theta: Tensor) -> Tensor:
        """[M]; sums to one."""
        return self.dynamics * self.log_prob(theta).sum(1).exp()

    def expected_return(self, theta: Tensor) -> Tensor:
        """J(theta), exactly."""
        return self.probability(theta) @ self.reward.sum(1)


def enumerate_trajectories(start: Tensor, transition: Tensor, reward: Tensor) -> Trajectories:
    """Every trajectory of HORIZON steps. start [S], transition [S, A, S], reward [S, A]."""
    states, actions, dynamics = [], [], []
    for visited in product(range(STATES), repeat=HORIZON):
        for taken in product(range(ACTIONS), repeat=HORIZON):
            probability = start[visited[0]]
            for t in range(HORIZON - 1):
                probability = probability * transition[visited[t], taken[t], visited[t + 1]]
            states.append(visited)
            actions.append(taken)
            dynamics.append(probability)
    state, action = torch.tensor(states), torch.tensor(actions)
    return Trajectories(state, action, reward[state, action], torch.stack(dynamics))


def two_tasks() -> list[Trajectories]:
    """The same room, the reward in another place."""
    start = torch.tensor([0.7, 0.3], dtype=torch.float64)
    transition = torch.tensor([[[0.9, 0.1], [0.2, 0.8]], [[0.6, 0.4], [0.1, 0.9]]], dtype=torch.float64)
    rewards = torch.tensor([[[1.0, 0.2], [-0.5, 2.0]], [[0.3, 1.5], [1.0, -1.0]]], dtype=torch.float64)
    return [enumerate_trajectories(start, transition, reward) for reward in rewards]


Surrogate = Callable[[Trajectories, Tensor, Tensor], Tensor]
"""(trajectories, theta, theta that drew them) -> [M]: what an algorithm differentiates for each trajectory."""


def score(data: Trajectories, theta: Tensor, old: Tensor) -> Tensor:
    """sum_t log pi(a_t|s_t) G_t: the likelihood-ratio gradient of the code of arXiv 1703.03400."""
    return (data.log_prob(theta) * data.to_go).sum(1)


def ratio(data: Trajectories, theta: Tensor, old: Tensor) -> Tensor:
    """sum_t pi(a_t|s_t) / pi_old(a_t|s_t) G_t: low-variance curvature, arXiv 1810.06784, equation 5."""
    return ((data.log_prob(theta) - data.log_prob(old)).exp() * data.to_go).sum(1)


def dice(data: Trajectories, theta: Tensor, old: Tensor) -> Tensor:
    """sum_t prod_{u <= t} pi(a_u|s_u) / pi_old(a_u|s_u) r_t: DiCE, arXiv 1802.05098, equation 5."""
    return ((data.log_prob(theta) - data.log_prob(old)).cumsum(1).exp() * data.reward).sum(1)


def expected(surrogate: Surrogate, data: Trajectories, old: Tensor) -> Callable[[Tensor], Tensor]:
    """theta -> E over trajectories that `old` draws: what an estimator tends to with more and more episodes."""
    weight = data.probability(old)
    return lambda theta: weight @ surrogate(data, theta, old)
