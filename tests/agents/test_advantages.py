"""Returns, advantages and the baseline against arithmetic done by hand."""

import pytest
import torch

from agents.advantages import (
    STEPS_PER_FEATURE,
    baseline_features,
    discounted_returns,
    generalized_advantages,
    linear_baseline,
    masked_mean,
    normalised,
)


def test_discounted_returns_by_hand() -> None:
    reward = torch.tensor([[1.0], [2.0], [4.0]])
    assert discounted_returns(reward, 0.5).flatten().tolist() == [1 + 1 + 1, 2 + 2, 4]


def test_generalized_advantages_by_hand() -> None:
    reward = torch.tensor([[1.0], [0.0], [2.0]])
    value = torch.tensor([[0.5], [1.0], [1.5]])
    # delta_2 = 2 + 0.5 * 3 - 1.5 = 2; delta_1 = 0 + 0.5 * 1.5 - 1 = -0.25; delta_0 = 1 + 0.5 * 1 - 0.5 = 1
    # A_2 = 2; A_1 = -0.25 + 0.25 * 2 = 0.25; A_0 = 1 + 0.25 * 0.25 = 1.0625
    advantage = generalized_advantages(
        reward, value, torch.tensor([3.0]), torch.zeros(3, 1, dtype=torch.bool), discount=0.5, gae_lambda=0.5
    )
    assert advantage.flatten().tolist() == [1.0625, 0.25, 2.0]


def test_termination_cuts_the_bootstrap_and_the_sum() -> None:
    reward = torch.tensor([[1.0], [5.0]])
    value = torch.tensor([[0.5], [100.0]])
    terminated = torch.tensor([[True], [False]])
    advantage = generalized_advantages(reward, value, torch.tensor([7.0]), terminated, 0.9, 0.9)
    assert advantage[0].item() == pytest.approx(0.5)


def test_baseline_recovers_returns_that_are_linear_in_its_features() -> None:
    generator = torch.Generator().manual_seed(0)
    obs = torch.randn(20, 3, 8, 2, generator=generator)
    time = (torch.arange(20) / 20).reshape(20, 1, 1)
    slopes = torch.tensor([1.0, -2.0, 3.0]).reshape(1, 3, 1)  # each task has a law of its own
    returns = slopes * obs[..., 0] + obs[..., 1] ** 2 + 4 * time**2
    valid = torch.ones_like(returns, dtype=torch.bool)
    fitted = linear_baseline(obs, returns, valid, regularisation=1e-8)
    assert torch.allclose(fitted, returns, atol=1e-4)


def test_baseline_ignores_steps_that_were_not_taken() -> None:
    generator = torch.Generator().manual_seed(1)
    obs = torch.randn(10, 1, 6, 2, generator=generator)
    returns = obs[..., 0].clone()
    valid = torch.ones_like(returns, dtype=torch.bool)
    valid[5:, :, 0] = False
    spoiled = returns.clone()
    spoiled[5:, :, 0] = 1e3
    assert torch.allclose(linear_baseline(obs, spoiled, valid)[valid], linear_baseline(obs, returns, valid)[valid])


def explained(returns: torch.Tensor, fitted: torch.Tensor) -> float:
    return float(1 - (returns - fitted).var() / returns.var())


@pytest.mark.parametrize(("observation", "enough"), [(10, True), (10, False), (0, True)])
def test_a_baseline_with_enough_steps_explains_of_a_round_what_it_would_of_another(
    observation: int, enough: bool
) -> None:
    """Returns that are half linear in the observation and half noise: half can be explained, the rest is signal."""
    generator = torch.Generator().manual_seed(3)
    steps = STEPS_PER_FEATURE * baseline_features(observation) if enough else baseline_features(observation) + 10
    obs = torch.randn(steps // 4, 20, 4, max(observation, 1), generator=generator)
    noise = torch.randn(steps // 4, 20, 4, generator=generator)
    returns = obs[..., 0] + noise
    fitted = linear_baseline(obs if observation else None, returns, torch.ones_like(returns, dtype=torch.bool))
    removed = explained(noise, fitted - obs[..., 0] if observation else fitted)
    assert (removed < 0.1) == enough


def test_normalised_counts_valid_entries_only() -> None:
    advantage = torch.tensor([[1.0, 3.0, 99.0]])
    valid = torch.tensor([[True, True, False]])
    assert normalised(advantage, valid, (1,)).tolist() == [[pytest.approx(-1.0), pytest.approx(1.0), 0.0]]
    assert masked_mean(advantage, valid).item() == 2.0
