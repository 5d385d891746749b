"""The probes themselves hold what other tests rely on."""

import numpy as np
import torch
from probes import ProbeConfig, ProbeFamily, ProbeLearner

from agents.agent import Sizes
from envs.simulation import TaskBatch
from training.collect import collect


def test_the_scripted_controller_reaches_every_goal():
    family = ProbeFamily()
    tasks = [task for split in ("train", "test", "ood") for task in family.sample(split, 10, np.random.default_rng(0))]
    batch = TaskBatch(family, tasks, 2, threads=1)
    batch.reset(0)
    for _ in range(family.horizon):
        step = batch.step(family.scripted(batch.sim))
    assert step.success.all()
    assert batch.faults == 0


def test_the_goal_is_not_in_the_observation():
    family = ProbeFamily()
    batch = TaskBatch(family, family.sample("train", 2, np.random.default_rng(0)), 1, threads=1)
    assert family.model(batch.tasks[0]).nq == 1
    batch.reset(0)
    batch.sim.qpos[:] = batch.sim.qvel[:] = 0.0
    observation = family.observe(batch.sim)
    np.testing.assert_array_equal(observation[0], observation[1])


def test_the_learner_improves_as_it_adapts():
    family = ProbeFamily()
    tasks = family.sample("test", 20, np.random.default_rng(0))
    agent = ProbeLearner(ProbeConfig(), Sizes.of(family), torch.Generator().manual_seed(0))
    memory = agent.fresh(20, 2, torch.Generator().manual_seed(1))
    batch = TaskBatch(family, tasks, 2, threads=1)
    before, memory = collect(agent, memory, batch, seed=0, episode=0)
    after, _ = collect(agent, agent.adapt(memory, before), batch, seed=0, episode=2)
    assert after.returns.mean() > before.returns.mean() + 0.2
