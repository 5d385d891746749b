"""What every agent promises: memories are values, state comes back bit for bit, global generators stay untouched."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from probes import ProbeFamily

from agents.catalogue import AGENTS, TRAINABLE, agent_class, make_agent
from envs.errors import UserError
from envs.simulation import TaskBatch
from training.collect import collect

SMALL: dict[str, dict[str, Any]] = {
    "maml": {"hidden_sizes": (8,), "meta_batch_size": 3, "episodes_per_step": 2},
    "rl2": {"hidden_size": 8, "meta_batch_size": 3, "trials_per_task": 2, "episodes_per_trial": 2},
    "ppo": {"hidden_sizes": (8,), "episodes_per_update": 2, "epochs": 2},
    "random": {},
}
SMALL_PPO = {"hidden_sizes": (8,), "meta_batch_size": 3, "episodes_per_task": 2, "epochs": 2}
FAMILY = ProbeFamily()


def build(name: str, seed: int = 0) -> Any:
    cls = agent_class(name)
    config = cls.config_type(**SMALL.get(name, SMALL_PPO))
    return make_agent(name, config, FAMILY, seed)


def rounds_of(agent: Any, count: int, e: int, seed: int = 0) -> tuple[list[Any], Any]:
    tasks = FAMILY.sample("train", 3, np.random.default_rng(seed))
    batch = TaskBatch(FAMILY, tasks, e, threads=1, privileged=agent.privileged)
    memory, rounds = agent.fresh(3, e, torch.Generator().manual_seed(seed)), []
    for r in range(count):
        trajectories, memory = collect(agent, memory, batch, seed=seed, episode=r * e)
        rounds.append(trajectories)
        if r < count - 1:
            memory = agent.adapt(memory, trajectories)
    return rounds, memory


@pytest.mark.parametrize("name", list(AGENTS))
def test_same_generator_same_rounds_and_globals_untouched(name: str) -> None:
    torch_before, numpy_before = torch.get_rng_state(), copy.deepcopy(np.random.get_state())  # noqa: NPY002
    agent = build(name)
    first, _ = rounds_of(agent, 3, agent.episodes_per_round)
    second, _ = rounds_of(agent, 3, agent.episodes_per_round)
    for one, two in zip(first, second, strict=True):
        assert torch.equal(one.action, two.action)
        assert torch.equal(one.reward, two.reward)
    assert torch.equal(torch_before, torch.get_rng_state())
    assert np.array_equal(numpy_before[1], np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("name", list(AGENTS))
def test_adapting_changes_neither_the_agent_nor_the_memory_it_was_given(name: str) -> None:
    agent = build(name)
    e = agent.episodes_per_round
    (trajectories,), memory = rounds_of(agent, 1, e)
    obs = trajectories.obs[0]
    state = {key: value.clone() for key, value in agent.state().items()}
    if name != "random":
        before = agent.act(memory, obs, explore=False)[0].action
        agent.adapt(memory, trajectories)
        assert torch.equal(before, agent.act(memory, obs, explore=False)[0].action)
    assert state.keys() == agent.state().keys()
    assert all(torch.equal(value, agent.state()[key]) for key, value in state.items())


@pytest.mark.parametrize("name", TRAINABLE)
def test_state_continues_training_bit_for_bit(name: str) -> None:
    straight, resumed = build(name, seed=0), build(name, seed=1)
    for iteration in range(3):
        if iteration == 2:
            resumed.load_state({key: value.clone() for key, value in straight.state().items()})
        rounds, _ = rounds_of(straight, straight.rounds, straight.train_episodes, iteration)
        straight.update(rounds, torch.Generator().manual_seed(iteration))
    rounds, _ = rounds_of(resumed, resumed.rounds, resumed.train_episodes, 2)
    resumed.update(rounds, torch.Generator().manual_seed(2))
    assert straight.state().keys() == resumed.state().keys()
    for key, value in straight.state().items():
        assert torch.equal(value, resumed.state()[key]), key


@pytest.mark.parametrize("name", ["ppo-robust", "ppo-oracle"])
def test_ppos_step_size_falls_linearly_over_the_training_where_that_is_asked(name: str) -> None:
    for anneal_to, progress, expected in ((0.1, 0.0, 1e-3), (0.1, 0.5, 5.5e-4), (0.1, 1.0, 1e-4), (1.0, 0.5, 1e-3)):
        config = agent_class(name).config_type(**SMALL_PPO, learning_rate=1e-3, anneal_to=anneal_to)
        agent = make_agent(name, config, FAMILY, seed=0)
        rounds, _ = rounds_of(agent, 1, agent.train_episodes)
        metrics = agent.update(rounds, torch.Generator().manual_seed(0), progress)
        assert metrics["train/learning_rate"] == pytest.approx(expected)


@pytest.mark.parametrize("name", ["ppo", "ppo-finetuned"])
def test_learning_arms_change_each_tasks_own_policy(name: str) -> None:
    agent = build(name)
    (trajectories,), memory = rounds_of(agent, 1, agent.episodes_per_round)
    adapted = agent.adapt(memory, trajectories)
    obs = trajectories.obs[0]
    change = agent.act(adapted, obs, False)[0].action - agent.act(memory, obs, False)[0].action
    assert (change.abs().amax(dim=(1, 2)) > 0).all()


def test_finetuned_starts_from_the_robust_policys_weights() -> None:
    robust, tuned = build("ppo-robust"), build("ppo-finetuned", seed=5)
    tuned.load_state(robust.state())
    obs = torch.randn(3, 2, 3, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    one = robust.act(robust.fresh(3, 2, generator), obs, False)[0].action
    two = tuned.act(tuned.fresh(3, 2, generator), obs, False)[0].action
    assert torch.allclose(one, two, atol=1e-6)


def test_finetuned_explores_widely_whatever_training_left() -> None:
    robust, tuned = build("ppo-robust"), build("ppo-finetuned")
    narrow = robust.state() | {"policy/log_std": torch.full_like(robust.state()["policy/log_std"], -2.0)}
    tuned.load_state(narrow)
    memory = tuned.fresh(1, 1, torch.Generator().manual_seed(0))
    assert (memory.models[0].policy.log_std == tuned.task.initial_log_std).all()
    assert torch.equal(tuned.state()["policy/log_std"], narrow["policy/log_std"])


def test_state_of_another_shape_is_refused() -> None:
    state = build("rl2").state()
    state["policy/mean.weight"] = torch.zeros(1, 1)
    with pytest.raises(ValueError, match=r"mean\.weight has shape"):
        build("rl2").load_state(state)


@pytest.mark.parametrize("field", ["step", "exp_avg", "exp_avg_sq"])
def test_moments_of_another_shape_are_refused(field: str) -> None:
    learner = build("ppo-robust")
    learner.update(rounds_of(learner, 1, 2)[0], torch.Generator().manual_seed(0))
    state = learner.state()
    moments = [name for name in state if name.endswith(f"/{field}")]
    build("ppo-robust").load_state(state)
    with pytest.raises(ValueError, match=f"{field} has shape"):
        build("ppo-robust").load_state(state | {moments[0]: state[moments[0]][None]})


@pytest.mark.parametrize("where", ["action", "log_prob", "value"])
def test_a_decision_of_another_layout_is_refused(where: str) -> None:
    """Tasks and episodes the wrong way round."""
    agent = build("random")
    act = agent.act

    def swapped(memory: Any, obs: torch.Tensor, explore: bool) -> tuple[Any, Any]:
        decision, memory = act(memory, obs, explore)
        return replace(decision, **{where: getattr(decision, where).transpose(0, 1)}), memory

    agent.act = swapped
    with pytest.raises(UserError, match=rf"agent random: {where} must have shape \(3, 2.*got \(2, 3"):
        rounds_of(agent, 1, 2)


def test_unknown_agent_is_one_clear_line() -> None:
    with pytest.raises(UserError, match="did you mean 'maml'"):
        agent_class("mamll")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("maml", {"meta_batch_size": 0}),
        ("maml", {"hidden_sizes": (64, 0)}),
        ("maml", {"inner_lr": -1.0}),
        ("rl2", {"discount": 1.5}),
        ("rl2", {"learning_rate": float("nan")}),
        ("ppo", {"initial_log_std": 50.0}),
    ],
)
def test_settings_out_of_range_are_one_clear_line(name: str, settings: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="must be"):
        agent_class(name).config_type(**settings)
