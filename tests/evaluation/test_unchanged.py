"""A probe teaches nothing: agents that learn in one are found out, and honest ones are not."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from probes import ProbeConfig, ProbeFamily, ProbeLearner, ProbeMemory
from torch import Tensor

from agents.agent import Decision, Sizes, Transition
from agents.catalogue import AGENTS, agent_class, make_agent
from envs.errors import UserError
from evaluation.protocol import Budget, adapt_to_tasks, held_out_tasks
from evaluation.unchanged import unchanged

FAMILY = ProbeFamily()
TASKS = 3


def evaluate(agent: Any, budget: Budget) -> Any:
    tasks = held_out_tasks(FAMILY, "test", TASKS, 0)
    return adapt_to_tasks(agent, FAMILY, tasks, "test", budget, name=agent.name, seed=3, threads=1)


class WritesIntoItself(ProbeLearner):
    """Moves its weights towards whatever was rewarded, whoever watches."""

    def observe(self, memory: ProbeMemory, transition: Transition) -> ProbeMemory:
        self.gain.data += 0.1 * transition.reward.mean()
        return memory


class WritesIntoItsMemory(ProbeLearner):
    """Keeps what it believes of the goal in the memory that it was given."""

    def observe(self, memory: ProbeMemory, transition: Transition) -> ProbeMemory:
        memory.target.add_(0.1 * transition.reward.mean())
        return memory


@pytest.mark.parametrize("cheat", [WritesIntoItself, WritesIntoItsMemory])
def test_an_agent_that_learns_in_probes_is_refused_by_name(cheat: type[ProbeLearner]) -> None:
    agent = cheat(ProbeConfig(), Sizes.of(FAMILY), torch.Generator().manual_seed(0))
    where = {WritesIntoItself: r"agent\.state\(\)\['policy\.gain'\]", WritesIntoItsMemory: r"memory\.target"}[cheat]
    about = (
        f"probe on probe/test, seed 3, tasks 0 to 2, episode 0: {where} changed in a probe, which must teach nothing"
    )
    with pytest.raises(UserError, match=about):
        evaluate(agent, Budget(episodes=4))


@dataclass
class Kept:
    """What a memory or an agent may hold."""

    weights: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.bfloat16))
    array: np.ndarray = field(default_factory=lambda: np.full(2, np.nan))
    notes: dict[Any, list[Any]] = field(default_factory=lambda: {"solved": [1, float("nan")], (0, 1): [None]})
    generator: torch.Generator = field(default_factory=torch.Generator)
    numpy_generator: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    python_generator: random.Random = field(default_factory=random.Random)
    tags: set[str] = field(default_factory=lambda: {"a", "b"})
    layer: torch.nn.Module = field(default_factory=lambda: torch.nn.BatchNorm1d(2))
    me: Any = None
    """A cycle."""

    def __post_init__(self) -> None:
        self.me = self
        self.optimiser = torch.optim.Adam(self.layer.parameters())

    @cached_property
    def derived(self) -> Tensor:
        return self.weights + 1.0


CHANGES = {
    "weights": lambda kept: kept.weights[1].fill_(1.0),
    "array": lambda kept: kept.array.fill(0.0),
    "notes['solved'][0]": lambda kept: kept.notes["solved"].__setitem__(0, 2),
    "notes['solved']": lambda kept: kept.notes["solved"].append(1),
    "notes": lambda kept: kept.notes.update(new=[]),
    "generator.get_state()": lambda kept: torch.rand(1, generator=kept.generator),
    "numpy_generator": lambda kept: kept.numpy_generator.random(),
    "python_generator": lambda kept: kept.python_generator.random(),
    "tags": lambda kept: kept.tags.add("c"),
    "layer._buffers['running_mean']": lambda kept: kept.layer(torch.ones(2, 2)),
    "layer._parameters['bias']": lambda kept: kept.layer.bias.data.add_(1.0),
    "optimiser.param_groups[0]['lr']": lambda kept: kept.optimiser.param_groups[0].update(lr=1.0),
    "brand_new": lambda kept: setattr(kept, "brand_new", 1),
}


@pytest.mark.parametrize("side", ["agent", "memory"])
@pytest.mark.parametrize("where", CHANGES)
def test_a_change_anywhere_is_found_and_named(where: str, side: str) -> None:
    kept, other = Kept(), Kept()
    agent, memory = (kept, other) if side == "agent" else (other, kept)
    with pytest.raises(UserError) as error, unchanged(agent, memory, "cell"):
        CHANGES[where](kept)
    assert str(error.value).startswith(f"cell: {side}.{where} changed in a probe")


def test_what_is_computed_or_replaced_by_the_same_is_no_change() -> None:
    kept = Kept()
    policy = SimpleNamespace(last=None, kept=kept)
    with unchanged(policy, kept, "cell"):
        assert kept.derived.sum() == 3
        policy.last = torch.distributions.Normal(0.0, 1.0)
        kept.weights, kept.array = kept.weights.clone(), kept.array.copy()


class Noisy(ProbeLearner):
    """Acts at random in probes as well: what it draws there comes from the generator that the evaluator gave."""

    def fresh(self, k: int, e: int, generator: torch.Generator) -> Any:
        return replace(super().fresh(k, e, generator), generator=generator)

    def act(self, memory: ProbeMemory, obs: Tensor, explore: bool) -> tuple[Decision, ProbeMemory]:
        return super().act(memory, obs, True)


def test_noise_that_the_evaluator_gave_is_no_change() -> None:
    agent = Noisy(ProbeConfig(), Sizes.of(FAMILY), torch.Generator().manual_seed(0))
    assert evaluate(agent, Budget(episodes=4, probe_episodes=4))


@pytest.mark.parametrize("name", AGENTS)
def test_no_agent_of_ours_changes_in_a_probe(name: str) -> None:
    agent = make_agent(name, agent_class(name).config_type(), FAMILY, 0)
    rounds = 2 if name in ("maml", "rl2", "ppo") else 1
    assert evaluate(agent, Budget(episodes=rounds * agent.episodes_per_round, probe_episodes=1, explore_probes=True))


def test_training_a_model_in_a_memory_is_found() -> None:
    agent = make_agent("ppo", agent_class("ppo").config_type(), FAMILY, 0)
    memory = agent.fresh(2, 1, torch.Generator())
    with (
        pytest.raises(UserError, match=r"memory\.models\[1\]\.policy\._modules\['action_net'\]"),
        unchanged(agent, memory, "cell"),
    ):
        memory.models[1].policy.action_net.bias.data.add_(1e-7)
