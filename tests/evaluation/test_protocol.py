"""The protocol measures what it says, whoever is measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from probes import ProbeConfig, ProbeFamily, ProbeLearner
from torch import Tensor

from agents.agent import Decision, Sizes, Trajectories, Transition
from envs.errors import UserError
from evaluation.protocol import Budget, adapt_to_tasks, held_out_tasks, is_probed, planned_steps
from evaluation.table import Episode

FAMILY = ProbeFamily()
HORIZON = FAMILY.horizon


@dataclass
class Memory:
    """rounds: adapted so often; step: of the present episode."""

    rounds: int = 0
    step: int = 0


@dataclass
class PartialSolver:
    """Is told the goals; drives to those of tasks 0 .. solved - 1 and away from all others.

    `watch` is called with the initial positions [K, E] of each round.
    Environments [k, e] of `faults` output NaN at that step of every episode in a round, which ends the episode there.
    """

    solved: int
    episodes_per_round: int = 1
    faults: dict[tuple[int, int], int] = field(default_factory=dict)
    watch: Callable[[np.ndarray], object] = np.size
    name = "solver"
    privileged = True

    def fresh(self, k: int, e: int, generator: torch.Generator) -> Memory:
        return Memory()

    def act(self, memory: Memory, obs: Tensor, explore: bool) -> tuple[Decision, Memory]:
        if memory.step == 0:
            self.watch(obs[..., 0].numpy().copy())
        action = torch.clamp(5.0 * (obs[..., 3:] - obs[..., :1]), -1.0, 1.0)
        action[self.solved :] = -torch.sign(obs[self.solved :, :, 3:])
        for (k, e), step in self.faults.items():
            if step == memory.step:
                action[k, e] = torch.nan
        nothing = torch.zeros(obs.shape[:2])
        return Decision(action, nothing, nothing), memory

    def observe(self, memory: Memory, transition: Transition) -> Memory:
        return replace(memory, step=(memory.step + 1) % HORIZON)

    def adapt(self, memory: Memory, trajectories: Trajectories) -> Memory:
        return replace(memory, rounds=memory.rounds + 1)


def play(agent: Any, budget: Budget, tasks: int = 5, split: Any = "test", **options: Any) -> list[Episode]:
    listed = held_out_tasks(FAMILY, split, tasks, budget.task_seed)
    return adapt_to_tasks(agent, FAMILY, listed, split, budget, name="x", seed=3, threads=1, **options)


def of(rows: list[Episode], role: str) -> list[Episode]:
    return [row for row in rows if row.role == role]


@pytest.mark.parametrize("episodes_per_round", [1, 3])
@pytest.mark.parametrize(("solved", "tasks"), [(0, 3), (2, 7), (7, 7)])
def test_an_agent_that_solves_m_of_n_tasks_scores_m_of_n(solved: int, tasks: int, episodes_per_round: int) -> None:
    agent = PartialSolver(solved, episodes_per_round)
    # Unsolved tasks may end early, all at different times: short episodes must not count more often than long ones.
    agent.faults = {(k, e): k + e for k in range(solved, tasks) for e in range(episodes_per_round)}
    rows = play(agent, Budget(episodes=6, probe_episodes=4), tasks)
    assert len({row.order for row in rows}) == len(rows)
    assert {row.start for row in of(rows, "probe")} == {0, 1, 2, 3}
    for role, count in (("adapt", 6), ("probe", 4 * (1 + 6 // episodes_per_round))):
        chosen = of(rows, role)
        assert Counter(row.task for row in chosen) == dict.fromkeys(range(tasks), count)
        assert np.mean([row.success for row in chosen]) == solved / tasks
    by_probe = {row.episode for row in of(rows, "probe")}
    assert by_probe == set(range(0, 7, episodes_per_round))
    for number in by_probe:
        successes = [row.success for row in of(rows, "probe") if row.episode == number]
        assert sum(successes) == 4 * solved


def test_steps_are_those_that_the_environment_counted() -> None:
    agent = PartialSolver(3, episodes_per_round=2, faults={(1, 0): 4, (2, 0): 0, (2, 1): 9})
    rows = of(play(agent, Budget(episodes=4), tasks=3), "adapt")
    steps = {task: [row.env_steps for row in rows if row.task == task] for task in range(3)}
    # A fault at step j (from 0) ends the episode after j + 1 steps.
    assert steps == {0: [0, 10, 20, 30], 1: [0, 5, 15, 20], 2: [0, 1, 11, 12]}
    assert [row.episode for row in rows if row.task == 0] == [0, 1, 2, 3]


def test_probes_cost_nothing() -> None:
    rows = play(PartialSolver(3, faults={(1, 0): 4}), Budget(episodes=3, probe_episodes=5), tasks=3)
    for task, length in ((0, 10), (1, 5), (2, 10)):
        probes = [(row.episode, row.env_steps) for row in of(rows, "probe") if row.task == task]
        assert probes == [(number, number * length) for number in range(4) for _ in range(5)]


@pytest.mark.parametrize("explore_probes", [False, True])
def test_probes_teach_nothing(explore_probes: bool) -> None:
    """What is learned and drawn in adaptation is the same, however much is probed."""
    learner = ProbeLearner(ProbeConfig(), Sizes(3, 1, 1, HORIZON), torch.Generator().manual_seed(0))
    once = play(learner, Budget(episodes=6, probe_episodes=1))
    often = play(learner, Budget(episodes=6, probe_episodes=5, explore_probes=explore_probes))
    assert of(once, "adapt") == of(often, "adapt")
    assert len({row.episode_return for row in of(once, "adapt")}) > 20


def test_initial_states_are_the_same_for_every_agent() -> None:
    budget = Budget(episodes=4, probe_episodes=4, task_seed=5)
    of_one: list[np.ndarray] = []
    of_four: list[np.ndarray] = []
    play(PartialSolver(5, watch=of_one.append), budget)
    play(PartialSolver(0, episodes_per_round=4, watch=of_four.append), budget)
    # Agent `one`: probe of 4 episodes one by one, then adapt and probe in turn. Agent `four`: probe, adapt, probe.
    probes_of_one = np.concatenate(of_one[:4], axis=1)
    adapt_of_one = np.concatenate([of_one[4 + 5 * episode] for episode in range(4)], axis=1)
    assert (probes_of_one == of_four[0]).all()
    assert (adapt_of_one == of_four[1]).all()
    assert (of_four[2] == of_four[0]).all()  # every probe of a run, too
    assert len(np.unique(np.concatenate([probes_of_one, adapt_of_one]))) == 2 * 4 * 5


def test_the_agent_and_the_global_generators_are_untouched() -> None:
    learner = ProbeLearner(ProbeConfig(), Sizes(3, 1, 1, HORIZON), torch.Generator().manual_seed(0))
    before = learner.state()
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    threads = torch.get_num_threads()
    play(learner, Budget(episodes=4, explore_probes=True))
    after = learner.state()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert all(np.array_equal(a, b) for a, b in zip(np.random.get_state(), numpy_state, strict=True))  # noqa: NPY002
    assert torch.get_num_threads() == threads


def test_an_agent_that_learns_is_seen_to_learn() -> None:
    learner = ProbeLearner(ProbeConfig(), Sizes(3, 1, 1, HORIZON), torch.Generator().manual_seed(2))
    learner.gain.data.fill_(5.0)
    rows = of(play(learner, Budget(episodes=8), tasks=20), "probe")
    means = [np.mean([row.episode_return for row in rows if row.episode == number]) for number in (0, 8)]
    assert means[1] > means[0] + 0.5


def test_the_same_seed_gives_the_same_rows_at_any_number_of_threads() -> None:
    learner = ProbeLearner(ProbeConfig(), Sizes(3, 1, 1, HORIZON), torch.Generator().manual_seed(0))
    tasks = held_out_tasks(FAMILY, "ood", 3, 0)
    runs = [
        adapt_to_tasks(learner, FAMILY, tasks, "ood", Budget(episodes=4), name="x", seed=seed, threads=threads)
        for seed, threads in ((1, 1), (1, 2), (2, 1))
    ]
    assert runs[0] == runs[1]
    assert [row.episode_return for row in of(runs[0], "adapt")] != [row.episode_return for row in of(runs[2], "adapt")]


def test_tasks_may_be_some_of_the_split() -> None:
    budget = Budget(episodes=3)
    whole = play(PartialSolver(5), budget, tasks=5)
    listed = held_out_tasks(FAMILY, "test", 5, 0)
    part = adapt_to_tasks(PartialSolver(2), FAMILY, listed[3:], "test", budget, name="x", seed=3, first=3, threads=1)
    rest = [row for row in whole if row.task >= 3]
    assert [(row.role, row.task, row.episode) for row in part] == [(row.role, row.task, row.episode) for row in rest]
    starts = [[row.episode_return for row in rows] for rows in (part, rest)]
    assert np.allclose(*starts, atol=1e-5)  # the same initial states; batches of other sizes round differently

    learner = ProbeLearner(ProbeConfig(), Sizes(3, 1, 1, HORIZON), torch.Generator().manual_seed(0))
    same = [
        adapt_to_tasks(learner, FAMILY, listed[:1], "test", budget, name="x", seed=3, first=first, threads=1)
        for first in (0, 4)
    ]
    returns = [[row.episode_return for row in of(rows, "adapt")] for rows in same]
    assert not np.allclose(*returns)  # cells do not share their noise


def test_tasks_are_a_prefix_of_any_longer_list() -> None:
    assert held_out_tasks(FAMILY, "test", 9, 4)[:3] == held_out_tasks(FAMILY, "test", 3, 4)
    assert held_out_tasks(FAMILY, "test", 3, 4) != held_out_tasks(FAMILY, "test", 3, 5)
    with pytest.raises(UserError, match="unknown split 'dev'"):
        held_out_tasks(FAMILY, "dev", 3, 0)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="tasks must be 1 or more, got 0"):
        held_out_tasks(FAMILY, "test", 0, 0)


def test_budget_in_episodes_and_in_steps() -> None:
    assert Budget(episodes=20).rounds(1, 10) == 20
    assert Budget(episodes=20).rounds(8, 10) == 2
    assert Budget(episodes=20, max_env_steps=155).rounds(1, 10) == 20
    assert Budget(episodes=20, max_env_steps=999).rounds(8, 10) == 12
    assert Budget(episodes=0).rounds(8, 10) == 0
    with pytest.raises(UserError, match=r"a round of this agent takes 8 episodes, the budget has 5"):
        Budget(episodes=5).rounds(8, 10)
    with pytest.raises(UserError, match="probe_episodes must be 1 or more, got 0"):
        Budget(probe_episodes=0)


def test_probes_thin_out_over_a_long_run() -> None:
    probed = [number for number in range(201) if is_probed(number, 200)]
    assert probed[:21] == list(range(21))
    assert probed[21:] == [24, 29, 35, 42, 51, 62, 75, 90, 108, 130, 156, 188, 200]


@pytest.mark.parametrize("horizon", [40, 80, 100])
def test_a_million_steps_are_watched_closely_and_cheaply(horizon: int) -> None:
    budget = Budget(10, max_env_steps=1_000_000, probe_episodes=4)
    rounds = budget.rounds(10, horizon)
    late = [n for n in range(rounds + 1) if is_probed(n, rounds) and n * 10 * horizon >= 10_000]
    assert len(late) >= 25
    assert planned_steps(budget, 10, 1, horizon) < 1.06e6  # probes included


def test_of_a_long_run_only_rounds_before_a_probe_are_recorded() -> None:
    budget = Budget(4, max_env_steps=600)
    rows = play(PartialSolver(3, episodes_per_round=2), budget, tasks=2)
    adapted = {row.episode for row in of(rows, "adapt")}
    probed = {row.episode for row in of(rows, "probe")}
    assert max(probed) == 60
    assert adapted == {number - back for number in probed for back in (1, 2) if number}
    assert len(adapted) < 60
    # What is left out was played all the same: the rows know how many steps came before them.
    assert all(row.env_steps == row.episode * HORIZON for row in rows)


@pytest.mark.parametrize("budget", [Budget(episodes=7, probe_episodes=3), Budget(4, max_env_steps=900), Budget(0)])
def test_progress_adds_up_to_the_plan(budget: Budget) -> None:
    done: list[int] = []
    rows = play(PartialSolver(3, episodes_per_round=2), budget, progress=done.append)
    assert sum(done) == planned_steps(budget, 2, 5, HORIZON)
    spent = max(row.env_steps for row in of(rows, "probe"))
    assert spent == {7: 60, 4: 900, 0: 0}[budget.episodes]
