"""RL2: what its memory holds, when it is fresh, and that the update replays exactly what the rollout did."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from probes import ProbeFamily
from torch import nn

from agents import gaussian_policy
from agents.advantages import generalized_advantages
from agents.agent import Sizes, Trajectories, Transition, concatenate
from agents.beginnings import best_beginning, next_beginning
from agents.optimiser_state import steer_step_size
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
    return RL2(config, Sizes.of(ProbeFamily()), torch.Generator().manual_seed(3))


def replayed_log_prob(agent: RL2, trial: Trajectories) -> torch.Tensor:
    with torch.no_grad():
        mean, _ = agent.policy(agent.replay_inputs(trial), torch.zeros(K * E, agent.config.hidden_size))
        return gaussian_policy.log_prob(mean, agent._log_std(), trial.action.reshape(len(mean), K * E, -1))


def values_of(agent: RL2, trial: Trajectories) -> torch.Tensor:
    with torch.no_grad():
        return agent.critic(agent.known_to_critic(trial)).reshape(trial.reward.shape)


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

    _, began = agent.act(agent.fresh(K, E, memory.generator), obs, explore=False)
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
        encoded = torch.tanh(inputs @ weights["encoder.weight"].T + weights["encoder.bias"])
        expected, _ = layer(encoded)
        belief = expected @ weights["belief.weight"].T + weights["belief.bias"]
        known = torch.cat([encoded, expected, belief], dim=-1)
        head = torch.tanh(known @ weights["head.weight"].T + weights["head.bias"])
        mean, states = agent.policy(inputs, torch.zeros(K * E, 16))
    assert torch.allclose(states, expected, atol=1e-5)
    assert torch.allclose(mean, head @ weights["mean.weight"].T + weights["mean.bias"], atol=1e-5)


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
    values, everything = values_of(agent, trial), torch.ones_like(trial.terminated)
    changed = agent.advantages(Trajectories(**{**trial.__dict__, "reward": later}), values, everything)
    difference = changed - agent.advantages(trial, values, everything)
    assert (difference[0] > 0).all()  # a reward of the last episode is credited to the first
    decay = (agent.config.discount * agent.config.gae_lambda) ** (len(later) - 1)
    assert torch.allclose(difference[0], torch.full((K, E), 5.0 * (1 - agent.config.discount) * decay), rtol=1e-3)
    # Nothing follows the last step: A = r - V.
    scale = 1 - agent.config.discount
    assert torch.allclose(
        agent.advantages(trial, values, everything)[-1], trial.reward[-1] * scale - values[-1], atol=1e-6
    )


def test_frozen_steps_take_no_part_in_advantages(agent: RL2) -> None:
    """An episode that ends early is followed by the next one at once, whatever the values of frozen steps are."""
    rounds, _ = played_trial(agent)
    terminated = torch.zeros_like(rounds[0].terminated)
    terminated[2, 1, 0] = terminated[5, 1, 1] = terminated[-1, 2, 0] = True
    trial = concatenate([replace(rounds[0], terminated=terminated), *rounds[1:-1], rounds[-1]])
    valid = trial.valid_within(EPISODES)
    trial = replace(trial, reward=torch.where(valid, trial.reward, 0.0))
    values = values_of(agent, trial)
    advantage = agent.advantages(trial, values, valid)
    for wrong in (9.0, float("nan")):
        assert torch.equal(advantage, agent.advantages(trial, torch.where(valid, values, wrong), valid))
    assert (advantage[~valid] == 0).all()
    for k, e, length in ((0, 0, 30), (1, 0, 23), (1, 1, 26), (2, 0, 30)):
        taken = valid[:, k, e]
        assert int(taken.sum()) == length
        reward = trial.reward[taken, k, e] * (1 - agent.config.discount)
        never = torch.zeros(length, dtype=torch.bool)
        alone = generalized_advantages(reward, values[taken, k, e], torch.zeros(()), never, 0.99, 0.95)
        assert torch.equal(advantage[taken, k, e], alone)


def test_only_the_critic_is_told_the_task(agent: RL2) -> None:
    """Other features of one task change the values of its trials alone, and nothing that the policy reads."""
    rounds, _ = played_trial(agent)
    trial = concatenate(rounds)
    features = trial.features.clone()
    features[0] += 1.0
    told_otherwise = replace(trial, features=features)
    assert torch.equal(agent.replay_inputs(trial), agent.replay_inputs(told_otherwise))
    changed = values_of(agent, told_otherwise) != values_of(agent, trial)  # [L, K, E]
    assert changed[:, 0].all()
    assert not changed[:, 1:].any()


def test_the_state_learns_what_can_be_known_of_the_task() -> None:
    config = RL2Config(hidden_size=16, episodes_per_trial=EPISODES, desired_kl=10.0, belief_coefficient=1.0)
    agent = RL2(config, Sizes.of(ProbeFamily()), torch.Generator().manual_seed(3))
    rounds, _ = played_trial(agent)
    losses = [agent.update(rounds, torch.Generator().manual_seed(i))["train/belief_loss"] for i in range(40)]
    assert losses[-1] < 0.5 * losses[0]


def test_the_policys_step_size_keeps_the_distance_of_updates(agent: RL2) -> None:
    first = agent.state()["policy-optimiser/learning_rate"]
    for kl, factor in ((0.1, 1 / 1.2), (0.0125, 1.0), (0.001, 1.2), (0.001, 1.0)):  # never above the first one
        before = agent.state()["policy-optimiser/learning_rate"]
        steer_step_size(agent._optimisers["policy"], kl, agent.config.desired_kl, agent.config.learning_rate)
        assert agent.state()["policy-optimiser/learning_rate"] == pytest.approx(float(before) * factor)
    steer_step_size(agent._optimisers["policy"], 0.1, agent.config.desired_kl, agent.config.learning_rate)
    other = RL2(agent.config, Sizes.of(ProbeFamily()), torch.Generator().manual_seed(4))
    other.load_state(agent.state())
    assert other.state()["policy-optimiser/learning_rate"] == agent.state()["policy-optimiser/learning_rate"] < first


def test_an_annealed_update_goes_less_far_the_more_of_the_training_is_over(agent: RL2) -> None:
    """The policy's distance by its KL, which the step size has to come down to; the critic's by its step size."""
    rounds, _ = played_trial(agent)
    distances = []
    for progress in (0.0, 1.0):
        annealed = RL2(replace(agent.config, anneal_to=0.01), Sizes.of(ProbeFamily()), torch.Generator().manual_seed(3))
        for i in range(20):
            annealed.load_state(agent.state() | {"policy-optimiser/learning_rate": annealed._policy_group["lr"]})
            metrics = annealed.update(rounds, torch.Generator().manual_seed(i), progress)
        moved = (annealed.critic.value.weight - agent.critic.value.weight).detach()
        distances.append((metrics["train/approx_kl"], float(moved.norm())))
    (early_kl, early_moved), (late_kl, late_moved) = distances
    assert late_kl < 0.2 * early_kl
    assert late_moved < 0.05 * early_moved


def test_without_annealing_progress_changes_nothing(agent: RL2) -> None:
    rounds, _ = played_trial(agent)
    states = []
    for progress in (0.0, 0.9):
        same = RL2(agent.config, Sizes.of(ProbeFamily()), torch.Generator().manual_seed(3))
        same.update(rounds, torch.Generator().manual_seed(0), progress)
        states.append(same.state())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_update_raises_the_likelihood_of_what_went_well(agent: RL2) -> None:
    rounds, _ = played_trial(agent)
    trial = concatenate(rounds)
    advantage = agent.advantages(trial, values_of(agent, trial), trial.valid_within(EPISODES)).reshape(-1, K * E)
    before = replayed_log_prob(agent, trial)
    metrics = agent.update(rounds, torch.Generator().manual_seed(0))
    change = replayed_log_prob(agent, trial) - before
    centred = advantage - advantage.mean()
    assert float((change * centred).sum()) > 0
    assert metrics["train/approx_kl"] < 0.2


def after_trial(agent: RL2, played: Trajectories, earned: torch.Tensor) -> tuple[RL2Memory, list[RL2Memory]]:
    """The memory after a trial with these returns [K * E, EPISODES], and those with which its episodes began."""
    memory, began = agent.fresh(K, E, torch.Generator().manual_seed(0)), []
    for returns in earned.T:
        began.append(memory)
        memory = replace(memory, hidden=torch.rand(K * E, 16, generator=memory.generator))
        memory = agent.adapt(memory, paying(played, returns))
    return memory, began


def test_after_the_trial_the_best_beginning_is_come_back_to(agent: RL2) -> None:
    """Each of the K * E trials chooses for itself; the second episode tries the runner-up."""
    (played, *_), _ = played_trial(agent)
    earned = torch.tensor(
        [[3.0, 1.0, 2.0], [1.0, 2.0, 2.0], [0.0, 5.0, 1.0], [1.0, 2.0, 4.0], [-3.0, -1.0, -2.0], [0, 0, 0]]
    )
    memory, began = after_trial(agent, played, earned)
    assert memory.start.tolist() == [0, 2, 1, 2, 1, 2]  # of equals the latest
    for name in ("hidden", "action", "reward", "done"):
        for trial, best in enumerate(memory.start.tolist()):
            assert torch.equal(getattr(memory, name)[trial], getattr(began[best], name)[trial])

    memory = agent.adapt(memory, paying(played, torch.tensor([0.0, 2.0, 5.0, 4.0, -1.0, 0.0])))
    assert memory.best.tolist() == [2, 2, 1, 2, 1, 2]  # the first choice of the first trial disappointed
    assert memory.start.tolist() == [2, 1, 2, 1, 2, 1]
    memory = agent.adapt(memory, paying(played, torch.tensor([1.0, 3.0, 4.0, 4.0, -4.0, 1.0])))
    assert memory.start.tolist() == memory.best.tolist() == [2, 1, 1, 2, 1, 1]  # of equals the latest


def test_the_first_choice_does_not_lock_in(agent: RL2) -> None:
    """Noise cost every beginning as much, and luck made the worse one look better. Without noise the other one wins."""
    (played, *_), _ = played_trial(agent)
    without_noise = torch.tensor([8.0, 10.0, 3.0])
    memory, _ = after_trial(agent, played, torch.tensor([[6.0, 5.5, 1.0]]).repeat(K * E, 1))
    choices = []
    for _ in range(4):
        choices.append(int(memory.start[0]))
        memory = agent.adapt(memory, paying(played, without_noise[memory.start]))
    assert choices == [0, 1, 1, 1]


def test_what_is_not_learned_from_begins_with_the_best(agent: RL2) -> None:
    """A trial of the runner-up is for learning; a probe shows the best that is known."""
    (played, *_), _ = played_trial(agent)
    memory, began = after_trial(agent, played, torch.tensor([[3.0, 2.0, 1.0]]).repeat(K * E, 1))
    memory = agent.adapt(memory, paying(played, torch.full((K * E,), 3.0)))
    obs = torch.ones(K, E, 3)
    for explore, beginning in ((True, 1), (False, 0)):
        expected = replace(began[beginning], chosen=True)
        action, after = agent.act(memory, obs, explore)
        same, _ = agent.act(expected, obs, explore)
        assert torch.equal(action.action, same.action)
        assert not after.begins  # the next step goes on from this one, whatever it is asked for
        assert torch.equal(agent.act(after, obs, False)[0].action, agent.act(after, obs, True)[0].action)


def test_rules_for_what_follows_a_trial_on_a_model_of_it() -> None:
    """Four beginnings of different worth; noise costs all the same, and luck is in every episode.

    The rule finds a better beginning than adding all returns up, which it replaced, and earns hardly less meanwhile.
    """
    draw = torch.Generator().manual_seed(0)
    n, episodes = 4000, 6
    worth = torch.randn(n, 4, generator=draw)
    trial = worth - 1.0 + 0.7 * torch.randn(n, 4, generator=draw)
    luck = 0.3 * torch.randn(episodes, n, generator=draw)
    rows = torch.arange(n)

    def mixed(trial: torch.Tensor, earned: torch.Tensor, played: torch.Tensor) -> torch.Tensor:
        return 3 - ((trial + earned) / (1 + played)).flip(1).argmax(1)

    found, income = {}, {}
    for name, best, following in (("new", best_beginning, next_beginning), ("old", mixed, mixed)):
        earned, played, paid = torch.zeros(n, 4), torch.zeros(n, 4), []
        for episode in range(episodes):
            start = following(trial, earned, played)
            paid.append(worth[rows, start] + luck[episode])
            earned[rows, start] += paid[-1]
            played[rows, start] += 1
        found[name] = float(worth[rows, best(trial, earned, played)].mean())
        income[name] = float(torch.stack(paid).mean())
    assert found["new"] > found["old"] + 0.08
    assert income["new"] > income["old"] - 0.1


def paying(played: Trajectories, returns: torch.Tensor) -> Trajectories:
    """The same round, with these returns [K * E]."""
    reward = torch.zeros_like(played.reward)
    reward[3] = returns.reshape(K, E)
    return replace(played, reward=reward)


def test_what_is_chosen_after_the_trial_is_played_without_noise(agent: RL2) -> None:
    _, memory = played_trial(agent)
    first = agent.fresh(K, E, torch.Generator().manual_seed(0))
    obs = torch.zeros(K, E, 3)
    for remembered, noisy in ((first, True), (memory, False)):
        explored, mode = (agent.act(remembered, obs, explore)[0].action for explore in (True, False))
        assert torch.equal(explored, mode) != noisy


def test_what_is_remembered_of_beginnings_changes_nothing_within_a_trial(agent: RL2) -> None:
    """Meta-training plays trials only: whatever was earned, the next episode goes on from where the last one ended."""
    rounds, _ = played_trial(agent)
    memory = agent.fresh(K, E, torch.Generator().manual_seed(0))
    for returns in (5.0, -5.0):
        memory = replace(memory, hidden=torch.rand(K * E, 16, generator=memory.generator))
        following = agent.adapt(memory, paying(rounds[0], torch.full((K * E,), returns)))
        assert torch.equal(following.hidden, memory.hidden)
        assert not following.chosen
        memory = following
