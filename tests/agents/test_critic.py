"""A critic learns values on the scale of returns, and comes back from its state to the bit."""

from __future__ import annotations

import torch

from agents.critic import Critic


def fitted(seed: int) -> tuple[Critic, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    critic = Critic("critic", 3, 16, discount=0.9, learning_rate=1e-2, generator=generator)
    inputs = torch.randn(2000, 3, generator=generator)
    target = 50.0 * torch.sin(inputs[:, 0]) + 10.0 * inputs[:, 1]
    critic.fit(inputs[:1000], target[:1000], epochs=20, batch_size=100, generator=generator)
    return critic, inputs[1000:], target[1000:]


def test_a_critic_explains_returns_that_it_was_not_fitted_to() -> None:
    critic, inputs, target = fitted(0)
    assert float(1 - (target - critic(inputs)).var() / target.var()) > 0.95
    assert critic(inputs.view(10, 100, 3)).shape == (10, 100)


def test_state_restores_values_and_the_next_fit() -> None:
    critic, inputs, target = fitted(1)
    other = Critic("critic", 3, 16, discount=0.9, learning_rate=1e-2, generator=torch.Generator().manual_seed(9))
    other.load_state(critic.state())
    for each in (critic, other):
        each.fit(inputs, target, epochs=1, batch_size=100, generator=torch.Generator().manual_seed(2))
    assert torch.equal(critic(inputs), other(inputs))
