"""The same seed gives the same bits: at any number of threads, of processes side by side, and of tasks in one batch.

Where it does not, the test holds how far apart the results may be, and says why.
"""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor

import envs
from agents.catalogue import agent_class, make_agent
from envs.families import FAMILIES, make_family
from envs.simulation import TaskBatch
from envs.task import TaskFamily
from training.collect import collect
from training.config import make_run_config
from training.loop import TrainConfig, iterate, torch_threads
from training.run import build_agent

SMALL: dict[str, dict[str, Any]] = {
    "maml": {"meta_batch_size": 4, "episodes_per_step": 3, "hidden_sizes": (16, 16)},
    "rl2": {"meta_batch_size": 4, "trials_per_task": 2, "minibatches": 2, "hidden_size": 16, "head_size": 16},
    "ppo-robust": {"meta_batch_size": 4, "episodes_per_task": 3, "hidden_sizes": (16, 16), "batch_size": 100},
    "ppo-oracle": {"meta_batch_size": 4, "episodes_per_task": 3, "hidden_sizes": (16, 16), "batch_size": 100},
}
FEW_PASSES: dict[str, dict[str, Any]] = {
    "maml": {},
    "rl2": {"epochs": 1},
    "ppo-robust": {"epochs": 2},
    "ppo-oracle": {"epochs": 2},
}
ANY_THREADS = ("maml",)
TASKS = 10
ITERATIONS = 2
LARGEST_WEIGHT_GAP = 1e-5  # between weights after one iteration at other numbers of threads
LARGEST_ACTION_GAP = 2e-5  # between actions for equal observations, from batches of other sizes


def digest(arrays: Mapping[str, Tensor] | Sequence[np.ndarray]) -> str:
    """SHA-256 of all bits."""
    whole = hashlib.sha256()
    for array in [arrays[name].numpy() for name in sorted(arrays)] if isinstance(arrays, Mapping) else arrays:
        whole.update(np.ascontiguousarray(array).tobytes())
    return whole.hexdigest()


def state_after(
    agent: str, family: str, settings: Mapping[str, Any], threads: int, iterations: int
) -> dict[str, Tensor]:
    """Everything that some iterations of training change."""
    config = make_run_config(agent, family, agent_class(agent).config_type(**settings), TrainConfig(threads=threads))
    over = make_family(family)
    learner = build_agent(config, over)
    for iteration in range(iterations):
        iterate(learner, over, config.train, iteration)
    state: dict[str, Tensor] = learner.state()
    return state


def of_worker(agent: str) -> str:
    """The digest of a small training: what a worker process runs."""
    with torch_threads(1):
        return digest(state_after(agent, "point", SMALL[agent], 1, ITERATIONS))


# -- physics -----------------------------------------------------------------------------------------------------------


def physics(family: TaskFamily[Any], tasks: Sequence[Any], actions: np.ndarray, threads: int) -> list[str]:
    """[K] a digest for each task of what its two environments observed, earned and ended with."""
    batch = TaskBatch(family, tasks, episodes=2, threads=threads)
    seen = [[batch.reset(seed=3)]]
    for action in actions:
        step = batch.step(action)
        seen.append([step.observation, step.reward, step.terminated, step.success])
    return [digest([array[2 * k : 2 * k + 2] for row in seen for array in row]) for k in range(len(tasks))]


def test_physics_of_tasks_batched_and_threads(
    cases: Callable[[int, int], int], figure: Callable[[str, str], None]
) -> None:
    names = ("grasp", "terrain", *(name for name in FAMILIES if name not in ("grasp", "terrain")))
    names = names[: cases(2, len(FAMILIES))]
    for name in names:
        family = make_family(name)
        tasks = family.sample("train", TASKS, np.random.default_rng(1))
        steps = min(family.horizon, 15)
        actions = np.random.default_rng(2).uniform(-1, 1, (steps, 2 * TASKS, family.action_size))
        whole = physics(family, tasks, actions, 1)
        for threads in (2, 4):
            assert physics(family, tasks, actions, threads) == whole, (name, threads)
        for size in (1, 5):
            parts: list[str] = []
            for first in range(0, TASKS, size):
                part = slice(first, first + size)
                parts += physics(family, tasks[part], actions[:, 2 * first : 2 * (first + size)], 1)
            assert parts == whole, (name, size)
        assert len(set(whole)) > 1
    figure("physics, tasks 1, 5 or all, threads 1, 2, 4", f"the same bits in {len(names)} of {len(names)} families")


# -- training ----------------------------------------------------------------------------------------------------------


def test_training_at_one_and_two_threads(cases: Callable[[int, int], int], figure: Callable[[str, str], None]) -> None:
    """At the full sizes: what is smaller is not shared out among threads.

    MAML's derivatives are computed in blocks, each in one thread. In the updates of the others torch shares out sums,
    and adds up in another order: one iteration at another number of threads is the same but for rounding, and what
    follows from it drifts apart. At the same number of threads it repeats bit for bit.
    """
    for agent in list(SMALL)[: cases(1, len(SMALL))]:
        one, two, again = (state_after(agent, "bandit", FEW_PASSES[agent], threads, 1) for threads in (1, 2, 2))
        assert digest(two) == digest(again), agent
        if agent in ANY_THREADS:
            assert digest(one) == digest(two), agent
            figure(f"training, threads 1 and 2, {agent}", "the same bits")
        else:
            gap = max(float((one[name].double() - two[name].double()).abs().max()) for name in one)
            assert gap <= LARGEST_WEIGHT_GAP, agent
            figure(f"training, threads 1 and 2, {agent}", f"weights within {gap:.1e} after an iteration (rounding)")


def test_training_in_processes_side_by_side(
    cases: Callable[[int, int], int], figure: Callable[[str, str], None]
) -> None:
    agents = list(SMALL)[: cases(1, len(SMALL))]
    context = multiprocessing.get_context("spawn")
    expected = {agent: of_worker(agent) for agent in agents}
    counts = (2,) if len(agents) == 1 else (1, 2, 4)
    for count in counts:
        with context.Pool(count) as pool:
            for agent in agents:
                assert pool.map(of_worker, [agent] * count, chunksize=1) == [expected[agent]] * count, (agent, count)
    figure("training in worker processes", f"{', '.join(map(str, counts))} side by side: the same bits as alone")


def test_asynchronous_environments(cases: Callable[[int, int], int], figure: Callable[[str, str], None]) -> None:
    """gymnasium's worker processes, one for each environment, beside one batch."""
    counts = (2,) if cases(0, 1) == 0 else (1, 2, 4)
    for count in counts:
        workers = gymnasium.make_vec(
            envs.GYMNASIUM_IDS["point"], count, vectorization_mode="async", vector_kwargs={"context": "spawn"}
        )
        try:
            found = [workers.reset(seed=11)[0]]
            actions = np.random.default_rng(0).uniform(-1, 1, (15, count, 2)).astype(np.float32)
            for action in actions:
                observation, reward, *_ = workers.step(action)
                found += [observation, reward.astype(np.float32)]
        finally:
            workers.close()
        assert digest([array.astype(np.float32) for array in found]) == digest(in_one_batch(count, actions)), count
    figure("gymnasium's AsyncVectorEnv", f"{', '.join(map(str, counts))} workers: the same bits as one batch")


def in_one_batch(count: int, actions: np.ndarray) -> list[np.ndarray]:
    """What environments that are reset with seeds 11, 12, ... observe and earn, as `envs.gymnasium_env` starts them."""
    family = make_family("point")
    generators = [np.random.Generator(np.random.PCG64(np.random.SeedSequence(11 + n))) for n in range(count)]
    tasks = [family.sample("train", 1, generator)[0] for generator in generators]
    batch = TaskBatch(family, tasks, threads=2)
    for n, generator in enumerate(generators):
        observation = batch.reset(int(generator.integers(2**31)), ids=np.array([n]))
    seen = [observation]
    for action in actions:
        step = batch.step(action)
        seen += [step.observation, step.reward]
    return seen


# -- acting ------------------------------------------------------------------------------------------------------------


def test_acting_on_tasks_batched(cases: Callable[[int, int], int], figure: Callable[[str, str], None]) -> None:
    """The mode of a policy for the same observations, from batches of other sizes.

    A product of matrices sums in an order that depends on their sizes, so actions may differ in their last bits. In the
    first episode of untrained policies that stays small; after contacts it can grow to another outcome. With
    exploration they are other actions altogether: the noise of a batch is drawn together, so that a task that is met
    alone draws other noise.
    """
    family = make_family("terrain-planar")
    tasks = family.sample("test", TASKS, np.random.default_rng(1))
    for agent in list(SMALL)[: cases(2, len(SMALL))]:
        policy = make_agent(agent, agent_class(agent).config_type(**SMALL[agent]), family, seed=5)
        with torch_threads(1):
            whole = first_round(policy, family, tasks)
            gap, returns = 0.0, 0.0
            for size in (1, 5):
                parts = [first_round(policy, family, tasks[first : first + size]) for first in range(0, TASKS, size)]
                gap = max(gap, float((torch.cat([part.action[0] for part in parts]) - whole.action[0]).abs().max()))
                returns = max(returns, float((torch.cat([part.returns for part in parts]) - whole.returns).abs().max()))
        assert gap <= LARGEST_ACTION_GAP
        assert returns <= 1e-2
        figure(f"acting, tasks 1, 5 or all, {agent}", f"first actions within {gap:.1e}, returns within {returns:.1e}")


def first_round(policy: Any, family: TaskFamily[Any], tasks: Sequence[Any]) -> Any:
    batch = TaskBatch(family, tasks, 2, threads=1, privileged=policy.privileged)
    memory = policy.fresh(len(tasks), 2, torch.Generator().manual_seed(0))
    return collect(policy, memory, batch, seed=4, episode=0, explore=False)[0]
