"""How quickness is measured: one loop that knows the `Agent` protocol and nothing of any algorithm.

Every agent meets the same tasks, from the same initial states, with the same budget of steps on each, exploration
included. It plays rounds of episodes and adapts after each. Before the first round and between rounds a *probe*
measures the policy as adapted so far: it plays from initial states of its own, the same for all agents, and whatever
memory comes of it is thrown away. An agent or a memory that is not bit for bit as before the probe ends the evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from agents.agent import Agent, Trajectories
from envs.errors import UserError
from envs.simulation import TaskBatch
from envs.task import SPLITS, Split, Task, TaskFamily
from evaluation.table import Episode, Role
from evaluation.unchanged import unchanged
from training.collect import collect
from training.loop import torch_threads

PROBE_EPISODE = 1_000_000  # number of the first initial state that probes use: no adaptation episode gets so far
DENSE_ROUNDS = 20  # a probe after each of so many rounds,
SPARSER = 1.2  # then after rounds whose numbers grow by this factor


@dataclass(frozen=True)
class Budget:
    """What each agent is given on each task, and how it is measured."""

    episodes: int = 20
    """Adaptation episodes on each task; a round that would go beyond is not played."""
    max_env_steps: int = 0
    """Go on to so many steps on each task, where that is more than the episodes take (PPO's own learning curve).

    Of the adaptation episodes beyond `episodes`, only those of rounds that a probe follows are recorded: all of a
    million steps would be ten thousand rows a task.
    """
    probe_episodes: int = 2
    """Initial states that each probe starts from."""
    explore_probes: bool = False
    """Probes sample actions, as adaptation does; otherwise they take the policy's mode."""
    task_seed: int = 0
    """Samples the tasks and keys the initial states."""

    def __post_init__(self) -> None:
        for name, least in (("episodes", 0), ("max_env_steps", 0), ("probe_episodes", 1), ("task_seed", 0)):
            if getattr(self, name) < least:
                raise UserError(f"{name} must be {least} or more, got {getattr(self, name)}")

    def rounds(self, episodes_per_round: int, horizon: int) -> int:
        """How many rounds of so many episodes fit. Raises `UserError` where there are episodes but too few."""
        episodes = max(self.episodes, self.max_env_steps // horizon)
        if 0 < episodes < episodes_per_round:
            raise UserError(
                f"a round of this agent takes {episodes_per_round} episodes, the budget has {episodes}:"
                f" give it {episodes_per_round} or more"
            )
        return episodes // episodes_per_round


def held_out_tasks(family: TaskFamily[Any], split: Split, count: int, task_seed: int) -> list[Any]:
    """The first `count` tasks of a split: the same for every agent and seed, and a prefix of any longer list."""
    if split not in SPLITS:
        raise UserError(f"unknown split '{split}': use one of {', '.join(SPLITS)}")
    if count < 1:
        raise UserError(f"tasks must be 1 or more, got {count}")
    return family.sample(split, count, np.random.default_rng([task_seed, SPLITS.index(split)]))


def is_probed(finished_rounds: int, rounds: int) -> bool:
    """Does a probe follow so many of all rounds? Always before the first and after the last."""
    due = DENSE_ROUNDS
    while due < finished_rounds:
        due = int(np.ceil(due * SPARSER))
    return finished_rounds <= DENSE_ROUNDS or finished_rounds in (due, rounds)


def planned_steps(budget: Budget, episodes_per_round: int, num_tasks: int, horizon: int) -> int:
    """Environment steps that `adapt_to_tasks` simulates, probes included: what a progress bar counts up to."""
    rounds = budget.rounds(episodes_per_round, horizon)
    probes = sum(is_probed(finished, rounds) for finished in range(rounds + 1))
    batches = rounds + probes * _probe_batches(budget, episodes_per_round)
    return batches * episodes_per_round * num_tasks * horizon


def adapt_to_tasks(
    agent: Agent[Any],
    family: TaskFamily[Any],
    tasks: Sequence[Task],
    split: str,
    budget: Budget,
    *,
    name: str,
    seed: int,
    first: int = 0,
    threads: int = 0,
    progress: Callable[[int], None] = lambda steps: None,
    make_batch: Callable[..., TaskBatch] = TaskBatch,
    watch: Callable[[Episode, int], None] = lambda row, environment: None,
    generator: torch.Generator | None = None,
) -> list[Episode]:
    """Let an agent adapt to tasks, and measure it as it does: the episodes played, adaptation and probes.

    name, seed: what the rows call the agent, and which of its training runs this is; all randomness follows from
        `seed`, `first` and `budget.task_seed`. first: index of the first of the tasks in the split's list.
    threads: physics threads, 0 for all processors; the results do not depend on it.
    progress: called with the number of environment steps just simulated.
    make_batch, watch: for films (`evaluation.recording`). The tasks are simulated in what `make_batch` builds from the
        arguments of `TaskBatch`; `watch` gets each row and its environment, while the batch still holds that episode.
    generator: of the noise of adaptation, in place of the one that follows from `seed` and `first`.

    Raises `UserError` where a probe changed the agent or its memory, for then it would have been taught for nothing.
    """
    k, e = len(tasks), agent.episodes_per_round
    rounds = budget.rounds(e, family.horizon)
    part = (first,) if first else ()
    batch = make_batch(family, tasks, e, threads=threads, privileged=agent.privileged)
    generator = generator or torch.Generator().manual_seed(_entropy(seed, 0, *part))
    memory = agent.fresh(k, e, generator)
    spent = np.zeros(k, dtype=np.int64)
    played: list[Episode] = []

    def add(role: Role, number: int, task: int, i: int, steps: int, data: Trajectories, start: int = 0) -> None:
        row = Episode(
            family=family.name,
            version=family.version,
            split=split,
            agent=name,
            seed=seed,
            task=first + task,
            episode=number,
            role=role,
            env_steps=steps,
            episode_return=float(data.returns[task, i]),
            success=bool(data.success[task, i]),
            start=start,
        )
        played.append(row)
        watch(row, task * e + i)

    def probe(number: int) -> None:
        # Probes have noise of their own, so that adaptation draws the same numbers whether it is watched or not.
        adaptation_state = generator.get_state()
        cell = f"{name} on {family.name}/{split}, seed {seed}, tasks {first} to {first + k - 1}, episode {number}"
        with unchanged(agent, memory, cell):
            generator.manual_seed(_entropy(seed, 1 + number, *part))
            for begin in range(0, budget.probe_episodes, e):
                data, _ = _play(agent, memory, batch, budget, PROBE_EPISODE + begin, budget.explore_probes)
                for task in range(k):
                    for i in range(min(e, budget.probe_episodes - begin)):
                        add("probe", number, task, i, int(spent[task]), data, start=begin + i)
                progress(batch.size * family.horizon)
            generator.set_state(adaptation_state)

    with torch_threads(1):  # the networks of one episode are too small to share out
        probe(0)
        for finished in range(rounds):
            number = finished * e
            data, memory = _play(agent, memory, batch, budget, number, explore=True)
            memory = agent.adapt(memory, data)
            steps = data.valid.sum(0).numpy()  # [K, E]: a fault ends an episode, and its steps, early
            recorded = number < budget.episodes or is_probed(finished + 1, rounds)
            for task in range(k if recorded else 0):
                for i in range(e):
                    before = int(spent[task] + steps[task, :i].sum())
                    add("adapt", number + i, task, i, before, data)
            spent += steps.sum(1)
            progress(batch.size * family.horizon)
            if is_probed(finished + 1, rounds):
                probe(number + e)
    return played


def _play(
    agent: Agent[Any], memory: Any, batch: TaskBatch, budget: Budget, episode: int, explore: bool
) -> tuple[Trajectories, Any]:
    """One round, whose steps are those that the environment counted."""
    before = batch.env_steps
    data, memory = collect(agent, memory, batch, seed=budget.task_seed, episode=episode, explore=explore)
    counted = batch.env_steps - before
    if counted != int(data.valid.sum()):
        raise RuntimeError(f"the environment counted {counted} steps, the trajectories hold {int(data.valid.sum())}")
    return data, memory


def _probe_batches(budget: Budget, episodes_per_round: int) -> int:
    """How often an agent with so many environments a task must play to start from every initial state of a probe."""
    return -(-budget.probe_episodes // episodes_per_round)


def _entropy(*numbers: int) -> int:
    """A seed for torch from several numbers; neighbouring numbers give unrelated streams."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
