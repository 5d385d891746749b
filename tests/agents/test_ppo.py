"""What PPO learns from: episodes end at the horizon, and frozen steps are no experience."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from torch import Tensor

from agents import ppo_model
from agents.agent import Sizes, Trajectories

T, K, E = 5, 2, 2
OBSERVATION, ACTION = 3, 1
CONFIG = ppo_model.PPOUpdateConfig(
    hidden_sizes=(8,), batch_size=4, epochs=3, discount=0.9, gae_lambda=0.8, target_kl=None
)


def model() -> PPO:
    return ppo_model.new_model(CONFIG, OBSERVATION, Sizes(OBSERVATION, ACTION, 1, T), torch.Generator().manual_seed(0))


def played() -> Trajectories:
    """A round in which every environment goes on to the horizon."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    truncated = torch.zeros(T, K, E, dtype=torch.bool)
    truncated[-1] = True
    return Trajectories(
        obs=draw(T, K, E, OBSERVATION),
        action=draw(T, K, E, ACTION),
        reward=draw(T, K, E),
        log_prob=draw(T, K, E),
        value=draw(T, K, E),
        terminated=torch.zeros(T, K, E, dtype=torch.bool),
        truncated=truncated,
        final_obs=draw(K, E, OBSERVATION),
        success=torch.zeros(K, E, dtype=torch.bool),
        terms={},
        features=torch.zeros(K, 1),
    )


def learned_from(data: Trajectories, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """The rows that an update trains on, in the order of environments: observations and targets of the critic."""
    seen: dict[str, Tensor] = {}

    def look(buffer: RolloutBuffer, batch_size: int | None = None) -> Any:
        next(iter(get(buffer, None)))  # lays the rows out
        seen.update(obs=torch.as_tensor(buffer.observations), returns=torch.as_tensor(buffer.returns).flatten())
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
    assert same(updated(data), updated(replace(data, final_obs=100 * data.final_obs)))


def test_without_terminations_the_update_is_the_librarys_own() -> None:
    data, learner = played(), model()
    buffer = RolloutBuffer(T, learner.observation_space, learner.action_space, "cpu", 0.8, 0.9, K * E)
    for t in range(T):
        row = (part[t].flatten(0, 1) for part in (data.obs, data.action, data.reward))
        begins = np.full(K * E, t == 0, dtype=np.float32)
        buffer.add(*(part.numpy() for part in row), begins, data.value[t].flatten(), data.log_prob[t].flatten())
    buffer.compute_returns_and_advantage(torch.zeros(K * E), np.ones(K * E))
    learner.rollout_buffer = buffer
    with ppo_model._global_numpy_seed(ppo_model._draw_seed(torch.Generator().manual_seed(2))):
        learner.train()
    assert same(updated(data), learner.policy.state_dict())


def stopped(data: Trajectories) -> tuple[Trajectories, Tensor]:
    """The same round with one environment that ends in its first step and one in its third; its frozen steps."""
    terminated = torch.zeros(T, K, E, dtype=torch.bool)
    terminated[0, 0, 1] = terminated[2, 1, 0] = True
    ended = replace(data, terminated=terminated, truncated=data.truncated & ~(terminated.cumsum(0) > 0))
    return replace(ended, reward=torch.where(ended.valid, data.reward, 0.0)), ~ended.valid


def test_frozen_steps_are_no_experience(monkeypatch: pytest.MonkeyPatch) -> None:
    data, frozen = stopped(played())
    seen = learned_from(data, monkeypatch)
    lengths = [T, 1, 3, T]
    rows = [data.obs.flatten(1, 2)[:length, n] for n, length in enumerate(lengths)]
    assert torch.equal(seen["obs"], torch.cat(rows))
    ends = seen["returns"][np.cumsum(lengths) - 1]
    last = torch.stack([data.reward.flatten(1)[length - 1, n] for n, length in enumerate(lengths)])
    assert torch.allclose(ends, last)  # a termination, too, is the end

    odd = {name: getattr(data, name) for name in ("obs", "action", "value", "log_prob")}
    odd = {name: torch.where(frozen.reshape(T, K, E, *[1] * (x.ndim - 3)), 9.0, x) for name, x in odd.items()}
    assert same(updated(data), updated(replace(data, **odd)))


def updated(data: Trajectories) -> dict[str, Tensor]:
    """The weights after an update."""
    learner = model()
    ppo_model.update(learner, data, torch.Generator().manual_seed(2))
    return learner.policy.state_dict()


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)
