"""RL2: what its memory holds, when it is fresh, and that the update replays exactly what the rollout did."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from probes import ProbeFamily
from torch import nn

from agents import gaussian_policy
from agents.agent import Trajectories, Transition, concatenate
from agents.rl2 import RL2, RL2Config, RL2Memory
from envs.simulation import TaskBatch
from training.collect import collect

K, E, EPISODES = 3, 2, 3


def played_trial(agent: RL2) -> tuple[list[Trajectories], RL2Memory]:
    family = ProbeFamily()
    batch = TaskBatch(family, family.sample("train", K, np.random.default_rng(0)), E, threads=1)
    memory = agent.fresh(K, E, torch.Generator().manual_seed(0))
    rounds = []
    for episode in range(EPISODES):
        trajectories, memory = collect(agent, memory, batch, seed=0, episode=episode)
        rounds.append(trajectories)
        memory = agent.adapt(memory, trajectories)
    return rounds, memory


@pytest.fixture
def agent() -> RL2:
    config = RL2Config(hidden_size=16, episodes_per_trial=EPISODES, meta_batch_size=K, trials_per_task=E)
    return RL2(config, 3, 1, ProbeFamily.horizon, torch.Generator().manual_seed(3))


def replayed_log_prob(agent: RL2, trial: Trajectories) -> torch.Tensor:
    with torch.no_grad():
        mean, _, _ = agent.network(agent.replay_inputs(trial), torch.zeros(K * E, agent.config.hidden_size))
        return gaussian_policy.log_prob(mean, agent._log_std(), trial.action.reshape(len(mean), K * E, -1))


def test_replayed_log_probabilities_equal_those_of_the_rollout(agent: RL2) -> None:
    rounds, _ = played_trial(agent)
    trial = concatenate(rounds)
    replayed = replayed_log_prob(agent, trial)
    assert torch.allclose(replayed, trial.log_prob.reshape(len(replayed), -1), atol=1e-5)
    # The hidden state crossed the episodes' ends: replaying the second episode from a fresh memory is something else.
    alone = replayed_log_prob(agent, rounds[1])
    assert not torch.allclose(alone, rounds[1].log_prob.reshape(len(alone), -1), atol=1e-5)


def test_last_reward_and_done_of_an_episode_are_read_at_the_start_of_the_next(agent: RL2) -> None:
    rounds, _ = played_trial(agent)
    inputs = agent.replay_inputs(concatenate(rounds))
    horizon, observation = ProbeFamily.horizon, 3
    first_of_second = inputs[horizon, :, observation:]
    assert torch.equal(first_of_second[:, 0], rounds[0].action[-1].reshape(-1))
    assert torch.equal(first_of_second[:, 1], rounds[0].reward[-1].reshape(-1) * agent.config.reward_scale)
    assert torch.equal(first_of_second[:, 2], torch.ones(K * E))
    assert torch.equal(inputs[0, :, observation:], torch.zeros(K * E, 3))
    assert inputs[1:horizon, :, -1].sum() == 0


def test_reward_and_done_at_an_episodes_end_change_what_is_done_first_in_the_next(agent: RL2) -> None:
    (played, *_), memory = played_trial(agent)
    obs, last = torch.zeros(K, E, 3), played.action[-1]

    def first_action(reward: float, done: bool) -> torch.Tensor:
        end = Transition(last, torch.full((K, E), reward), torch.full((K, E), done))
        return agent.act(agent.adapt(agent.observe(began, end), played), obs, explore=False)[0].action

    _, began = agent.act(replace(memory, episode=0), obs, explore=False)
    assert not torch.equal(first_action(0.0, True), first_action(1.0, True))
    assert not torch.equal(first_action(0.0, True), first_action(0.0, False))


def test_memory_is_kept_over_the_episodes_of_a_trial_and_fresh_at_its_start(agent: RL2) -> None:
    family = ProbeFamily()
    batch = TaskBatch(family, family.sample("train", K, np.random.default_rng(0)), E, threads=1)
    memory = agent.fresh(K, E, torch.Generator().manual_seed(0))
    for episode in range(EPISODES):
        for part in (memory.hidden, memory.action, memory.reward, memory.done):
            assert bool(part.any()) == (episode > 0)
        played, after = collect(agent, memory, batch, seed=0, episode=episode)
        memory = agent.adapt(after, played)
        if episode < EPISODES - 1:
            for name in ("hidden", "action", "reward", "done"):
                assert torch.equal(getattr(memory, name), getattr(after, name))


def test_a_trial_is_replayed_as_pytorchs_own_recurrent_layer_plays_it(agent: RL2) -> None:
    rounds, _ = played_trial(agent)
    inputs = agent.replay_inputs(concatenate(rounds))
    weights = {name.removeprefix("policy/"): value for name, value in agent.state().items()}
    layer = nn.GRU(16, 16)
    layer.load_state_dict({name.removeprefix("gru."): w for name, w in weights.items() if name.startswith("gru.")})
    with torch.no_grad():
        features, last = layer(torch.tanh(inputs @ weights["encoder.weight"].T + weights["encoder.bias"]))
        mean, value, hidden = agent.network(inputs, torch.zeros(K * E, 16))
        assert torch.allclose(mean, features @ weights["mean.weight"].T + weights["mean.bias"], atol=1e-5)
        assert torch.allclose(value, features @ weights["value.weight"][0] + weights["value.bias"], atol=1e-5)
    assert torch.allclose(hidden, last[0], atol=1e-5)


def test_fresh_memory_knows_nothing_and_observing_makes_a_new_one(agent: RL2) -> None:
    _, memory = played_trial(agent)
    again = agent.fresh(K, E, torch.Generator().manual_seed(0))
    assert again.hidden.abs().sum() == 0
    assert memory.hidden.abs().sum() > 0
    hidden = memory.hidden.clone()
    agent.act(memory, torch.zeros(K, E, 3), explore=False)
    assert torch.equal(hidden, memory.hidden)


def test_advantages_cross_episodes_and_stop_at_the_end_of_the_trial(agent: RL2) -> None:
    rounds, _ = played_trial(agent)
    trial = concatenate(rounds)
    later = trial.reward.clone()
    later[-1] += 5.0
    changed = agent.advantages(Trajectories(**{**trial.__dict__, "reward": later}))
    difference = changed - agent.advantages(trial)
    assert (difference[0] > 0).all()  # a reward of the last episode is credited to the first
    decay = (agent.config.discount * agent.config.gae_lambda) ** (len(later) - 1)
    assert torch.allclose(difference[0], torch.full((K, E), 5.0 * (1 - agent.config.discount) * decay), rtol=1e-3)
    # Nothing follows the last step: A = r - V.
    scale = 1 - agent.config.discount
    assert torch.allclose(agent.advantages(trial)[-1], trial.reward[-1] * scale - trial.value[-1], atol=1e-6)


def test_update_raises_the_likelihood_of_what_went_well(agent: RL2) -> None:
    rounds, _ = played_trial(agent)
    trial = concatenate(rounds)
    advantage = agent.advantages(trial).reshape(-1, K * E)
    before = replayed_log_prob(agent, trial)
    metrics = agent.update(rounds, torch.Generator().manual_seed(0))
    change = replayed_log_prob(agent, trial) - before
    centred = advantage - advantage.mean()
    assert float((change * centred).sum()) > 0
    assert metrics["train/approx_kl"] < 0.2


def test_beyond_the_trials_length_each_episode_begins_as_the_trials_last(agent: RL2) -> None:
    family = ProbeFamily()
    batch = TaskBatch(family, family.sample("train", K, np.random.default_rng(0)), E, threads=1)
    memory, began = agent.fresh(K, E, torch.Generator().manual_seed(0)), []
    for episode in range(EPISODES + 2):
        began.append(memory.hidden.clone())
        trajectories, memory = collect(agent, memory, batch, seed=0, episode=episode)
        memory = agent.adapt(memory, trajectories)
    assert not torch.equal(began[EPISODES - 2], began[EPISODES - 1])
    for later in began[EPISODES:]:
        assert torch.equal(later, began[EPISODES - 1])
