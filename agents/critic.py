"""A critic: a value function fitted by gradient descent, with an optimiser and passes of its own."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from agents.optimiser_state import adam_state, load_adam_state, load_tensors
from agents.recurrent_networks import initialise

MAX_GRAD_NORM = 0.5


class Critic:
    """Inputs [..., I] -> values [...], of two tanh layers.

    The network predicts values times (1 - discount), which are of the order of one reward.
    """

    def __init__(
        self,
        name: str,
        input_size: int,
        hidden_size: int,
        discount: float,
        learning_rate: float,
        generator: torch.Generator,
    ) -> None:
        """name: of its tensors in a checkpoint. discount: of the returns that it predicts."""
        self.name, self._scale = name, max(1.0 - discount, 1e-3)
        with torch.random.fork_rng(devices=[]):  # modules draw their first weights from torch's global generator
            self._network = nn.Sequential(
                nn.Linear(input_size, hidden_size),
                nn.Tanh(),
                nn.Linear(hidden_size, hidden_size),
                nn.Tanh(),
                nn.Linear(hidden_size, 1),
            )
        initialise(self._network, generator)
        self._optimiser = torch.optim.Adam(self._network.parameters(), lr=learning_rate, eps=1e-5, fused=True)

    def __call__(self, inputs: Tensor) -> Tensor:
        with torch.no_grad():
            values: Tensor = self._network(inputs).squeeze(-1) / self._scale
        return values

    def fit(self, inputs: Tensor, target: Tensor, *, epochs: int, batch_size: int, generator: torch.Generator) -> float:
        """Passes over steps inputs [M, I] with values target [M]; the mean loss, in units of the targets' variance."""
        target, losses = target * self._scale, []
        variance = target.var().clamp(min=1e-8)  # makes the loss free of the reward's scale
        with torch.enable_grad():
            for _ in range(epochs):
                for part in torch.randperm(len(target), generator=generator).split(batch_size):
                    loss = (self._network(inputs[part]).squeeze(-1) - target[part]).square().mean() / variance
                    self._optimiser.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(self._network.parameters(), MAX_GRAD_NORM)
                    self._optimiser.step()
                    losses.append(loss.detach())
        return float(torch.stack(losses).mean())

    def state(self) -> dict[str, Tensor]:
        weights = {f"{self.name}/{name}": value.detach().clone() for name, value in self._network.state_dict().items()}
        return weights | adam_state(self._optimiser, f"{self.name}-optimiser")

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Raises KeyError or ValueError where names or shapes do not fit."""
        load_tensors(self._network.state_dict(), self.name, state)
        load_adam_state(self._optimiser, f"{self.name}-optimiser", state)
