"""What PPO learns from: episodes end at the horizon."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from torch import Tensor

from agents import ppo_model
from agents.agent import Sizes, Trajectories

T, K, E, O, A = 5, 2, 2, 3, 1
CONFIG = ppo_model.PPOUpdateConfig(
    hidden_sizes=(8,), batch_size=4, epochs=3, discount=0.9, gae_lambda=0.8, target_kl=None
)


def model() -> PPO:
    return ppo_model.new_model(CONFIG, O, Sizes(O, A, 1, T), torch.Generator().manual_seed(0))


def played() -> Trajectories:
    """A round in which every environment goes on to the horizon."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    truncated = torch.zeros(T, K, E, dtype=torch.bool)
    truncated[-1] = True
    return Trajectories(
        obs=draw(T, K, E, O),
        action=draw(T, K, E, A),
        reward=draw(T, K, E),
        log_prob=draw(T, K, E),
        value=draw(T, K, E),
        terminated=torch.zeros(T, K, E, dtype=torch.bool),
        truncated=truncated,
        final_obs=draw(K, E, O),
        success=torch.zeros(K, E, dtype=torch.bool),
        terms={},
        features=torch.zeros(K, 1),
    )


def learned_from(data: Trajectories, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Every row that an update trains on, in the order of environments: observation, advantage and target."""
    seen: dict[str, Tensor] = {}

    def look(buffer: RolloutBuffer, batch_size: int | None = None) -> Any:
        rows = next(iter(get(buffer, None)))  # one batch of everything; it lays the rows out, too
        seen.update(obs=torch.as_tensor(buffer.observations), returns=torch.as_tensor(buffer.returns).flatten())
        seen.update(advantages=torch.as_tensor(buffer.advantages).flatten(), values=rows.old_values)
        return get(buffer, batch_size)

    get = RolloutBuffer.get
    with monkeypatch.context() as patch:
        patch.setattr(RolloutBuffer, "get", look)
        ppo_model.update(model(), data, torch.Generator().manual_seed(2))
    return seen


def test_the_horizon_is_the_end_of_what_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    data = played()
    returns = learned_from(data, monkeypatch)["returns"].reshape(K * E, T)
    # the last target is the last reward; the one before it is lambda of the sampled return and the rest of the value
    reward, value = data.reward.flatten(1).T, data.value.flatten(1).T
    assert torch.allclose(returns[:, -1], reward[:, -1])
    expected = reward[:, -2] + 0.9 * (0.8 * reward[:, -1] + 0.2 * value[:, -1])
    assert torch.allclose(returns[:, -2], expected, atol=1e-6)


def test_what_follows_the_horizon_changes_nothing() -> None:
    data = played()
    states = []
    for factor in (1.0, 100.0):
        learner = model()
        other = Trajectories(**{**vars(data), "final_obs": factor * data.final_obs})
        ppo_model.update(learner, other, torch.Generator().manual_seed(2))
        states.append(learner.policy.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
