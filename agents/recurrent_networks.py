"""RL2's two networks: a recurrent policy that believes something of its task, and a critic that is told."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from agents.agent import Sizes
from agents.recurrent import GRU, tanh


class RecurrentPolicy(nn.Module):
    """Inputs [L, N, I] -> action mean [L, N, A] and the GRU's states [L, N, H]; L steps of N trials."""

    def __init__(self, input_size: int, hidden_size: int, head_size: int, sizes: Sizes) -> None:
        super().__init__()
        self.encoder = nn.Linear(input_size, hidden_size)
        self.gru = GRU(hidden_size, hidden_size)
        self.belief = nn.Linear(hidden_size, sizes.features)
        self.head = nn.Linear(2 * hidden_size + sizes.features, head_size)
        self.mean = nn.Linear(head_size, sizes.action)
        self.log_std = nn.Parameter(torch.zeros(sizes.action))

    def forward(self, inputs: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        encoded = tanh(self.encoder(inputs))
        states = self.gru(encoded, hidden)
        return self._mean(encoded, states), states

    def step(self, inputs: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """The same for one step: inputs [N, I] -> action mean [N, A] and state [N, H]."""
        encoded = tanh(self.encoder(inputs))
        state = self.gru.step(encoded, hidden)
        return self._mean(encoded, state), state

    def _mean(self, encoded: Tensor, states: Tensor) -> Tensor:
        belief = self.belief(states).detach()  # it learns to be true, not to be useful
        mean: Tensor = self.mean(tanh(self.head(torch.cat([encoded, states, belief], dim=-1))))
        return mean


class Critic(nn.Module):
    """What the policy read [..., I], the state it was in [..., H] and the task's features [..., F] -> value [...].

    What the trial will earn depends on the task and on what the policy has found out of it by now.
    """

    def __init__(self, input_size: int, hidden_size: int, head_size: int, sizes: Sizes) -> None:
        super().__init__()
        self.first = nn.Linear(input_size + hidden_size + sizes.features, head_size)
        self.second = nn.Linear(head_size, head_size)
        self.value = nn.Linear(head_size, 1)

    def forward(self, known: Tensor) -> Tensor:
        value: Tensor = self.value(tanh(self.second(tanh(self.first(known))))).squeeze(-1)
        return value


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Orthogonal weights and zero biases; first actions of nearly zero."""
    for name, parameter in network.named_parameters():
        if name.startswith("gru.weight"):
            for block in parameter.data.chunk(3):
                nn.init.orthogonal_(block, generator=generator)
        elif name.endswith("weight"):
            nn.init.orthogonal_(parameter, 0.01 if name.startswith("mean") else 1.0, generator=generator)
        elif "bias" in name:
            nn.init.zeros_(parameter)
