"""How fast experience can be gathered: `python -m benchmarks.sampling`.

For each family, environment steps per second with a policy acting (a 64 x 64 tanh network of its own for each task),
beside what the same physics costs in C alone, with the recorded controls of the same episodes: that is the limit, and
`share` is the part of it reached. Beside them, gymnasium's AsyncVectorEnv and stable-baselines3's SubprocVecEnv over
the same single environment with the same network acting. All arms take turns within each repeat; figures are medians.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import gymnasium
import mujoco
import mujoco.batch
import numpy as np
import torch
import tyro
from rich.table import Table
from stable_baselines3.common.vec_env import SubprocVecEnv
from torch import Tensor

from benchmarks.record import machine, print_table, run, write_record
from envs import GYMNASIUM_IDS
from envs.errors import UserError
from envs.families import FAMILIES, make_family
from envs.simulation import TaskBatch

WITHOUT_PHYSICS = ("bandit", "point")
"""Families that move by rules of their own: physics alone is no limit for them."""


@dataclass(frozen=True)
class Config:
    """What to measure."""

    families: tuple[str, ...] = tuple(name for name in FAMILIES if name not in WITHOUT_PHYSICS)
    """Families to measure."""
    tasks: int = 40
    """Tasks in the batch."""
    episodes: int = 10
    """Environments of each task."""
    repeats: int = 5
    """Turns of every arm; a turn of the batch is one episode in each environment."""
    threads: int = 0
    """Physics threads; 0 for all processors."""
    workers: int = 8
    """Processes of the Async and Subproc arms, one environment each; 0 to leave these arms out."""
    worker_steps: int = 50
    """Steps of each of those environments in one turn."""
    hidden: int = 64
    """Units in each of the policy's two layers."""
    seed: int = 0
    """Of tasks, networks, actions and initial states."""
    out: Path = Path("results/sampling/sampling.json")
    """Where the figures go."""


class TaskPolicies:
    """K Gaussian policies, one for each task: two tanh layers, evaluated together as batched matrix products."""

    def __init__(self, tasks: int, inputs: int, hidden: int, outputs: int, generator: torch.Generator) -> None:
        sizes = (inputs, hidden, hidden, outputs)
        self.generator = generator
        self.weights = [torch.randn(tasks, a, b, generator=generator) / a**0.5 for a, b in pairwise(sizes)]
        self.biases = [torch.zeros(tasks, 1, size) for size in sizes[1:]]

    def __call__(self, observation: np.ndarray) -> np.ndarray:
        """Sampled actions [N, A] for observations [N, O], ordered by task."""
        hidden: Tensor = torch.from_numpy(observation).view(len(self.biases[0]), -1, observation.shape[-1])
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = torch.tanh_(torch.baddbmm(bias, hidden, weight))
        mean = torch.baddbmm(self.biases[-1], hidden, self.weights[-1])
        action = mean + 0.5 * torch.randn(mean.shape, generator=self.generator)
        return action.view(len(observation), -1).numpy()


class BatchArm:
    """The batched simulator with policies acting."""

    def __init__(self, config: Config, name: str) -> None:
        self.config = config
        self.family = make_family(name)
        tasks = self.family.sample("train", config.tasks, np.random.default_rng(config.seed))
        self.batch = TaskBatch(self.family, tasks, config.episodes, threads=config.threads)
        self.steps = 0
        self.policy_seconds = 0.0

    def policies(self) -> TaskPolicies:
        """The networks, with their noise at its beginning: every turn plays the same episodes."""
        generator = torch.Generator().manual_seed(self.config.seed)
        sizes = self.family.observation_size, self.config.hidden, self.family.action_size
        return TaskPolicies(self.config.tasks, *sizes, generator)

    def turn(self) -> float:
        """Environment steps per second over one episode in each environment, resets left out."""
        policies = self.policies()
        observation = self.batch.reset(self.config.seed)
        policy_seconds, before_turn = 0.0, self.batch.env_steps
        begin = time.perf_counter()
        with torch.no_grad():
            for _ in range(self.family.horizon):
                before = time.perf_counter()
                action = policies(observation)
                policy_seconds += time.perf_counter() - before
                observation = self.batch.step(action).observation
        seconds = time.perf_counter() - begin
        self.policy_seconds = policy_seconds / seconds
        self.steps = self.batch.env_steps - before_turn  # those that a fall cut short are no steps
        return self.steps / seconds

    def record(self) -> tuple[np.ndarray, list[tuple[np.ndarray | None, np.ndarray]], np.ndarray]:
        """Initial state [N, nstate], what each physics step moved (ids, None for all; controls [N, nu]), final qpos."""
        moved: list[tuple[np.ndarray | None, np.ndarray]] = []
        begin: list[np.ndarray] = []
        physics = self.batch._batch
        inner = physics.step

        def recorded(ids: np.ndarray | None, **kwargs: Any) -> None:
            if not begin:
                begin.append(physics.state.copy())
            moved.append((ids, self.batch.sim.ctrl.copy()))
            inner(ids, **kwargs)

        physics.step = recorded
        try:
            self.turn()
        finally:
            del physics.step
        return begin[0], moved, self.batch.sim.qpos.copy()


class LimitArm:
    """`mujoco.batch` alone on the same models, from the same states, under the controls recorded from the batch."""

    def __init__(self, arm: BatchArm) -> None:
        self.begin, self.moved, self.end = arm.record()
        self.frame_skip, self.steps = arm.family.frame_skip, arm.steps
        models = arm.batch.models
        self.physics = mujoco.batch.Batch(models[0], nsim=arm.batch.size, nthread=arm.config.threads)
        self.physics.set_models([model for model in models for _ in range(arm.config.episodes)])

    def turn(self) -> float:
        """Environment steps per second; checks that the physics was the same to the bit."""
        self.physics.state[:] = self.begin
        ctrl = self.physics.bind("ctrl")
        begin = time.perf_counter()
        for ids, control in self.moved:
            ctrl[:] = control
            self.physics.step(ids, nstep=self.frame_skip)
        seconds = time.perf_counter() - begin
        if not np.array_equal(self.physics.bind("qpos"), self.end):
            raise RuntimeError("the replay went another way than the recording: the limit would mean nothing")
        return self.steps / seconds


def worker_arm(config: Config, name: str, env: Any) -> Callable[[], float]:
    """A turn of AsyncVectorEnv or SubprocVecEnv, which share `reset` and `step` as far as it is needed here."""
    family = make_family(name)
    generator = torch.Generator().manual_seed(config.seed)
    policies = TaskPolicies(config.workers, family.observation_size, config.hidden, family.action_size, generator)

    def turn() -> float:
        first = env.reset()
        observation = first[0] if isinstance(first, tuple) else first
        begin = time.perf_counter()
        with torch.no_grad():
            for _ in range(config.worker_steps):
                observation = env.step(np.clip(policies(observation), -1.0, 1.0))[0]
        return config.workers * config.worker_steps / (time.perf_counter() - begin)

    return turn


@contextmanager
def worker_arms(config: Config, name: str) -> Iterator[dict[str, Callable[[], float]]]:
    """The two process-based arms, closed at the end; none without workers."""
    if config.workers == 0:
        yield {}
        return
    module = f"envs:{GYMNASIUM_IDS[name]}"  # a worker process has to import envs to know the id
    makers = [lambda: gymnasium.make(module, disable_env_checker=True) for _ in range(config.workers)]
    spawn: dict[str, Any] = {"async": gymnasium.vector.AsyncVectorEnv(makers, context="forkserver")}
    spawn["subproc"] = SubprocVecEnv(makers, start_method="forkserver")
    try:
        yield {arm: worker_arm(config, name, env) for arm, env in spawn.items()}
    finally:
        for env in spawn.values():
            env.close()


def measure(config: Config, name: str) -> dict[str, Any]:
    """All arms of a family in turn, `repeats` times; medians of their rates and of the paired shares."""
    batch = BatchArm(config, name)
    limit = LimitArm(batch)
    with worker_arms(config, name) as others:
        turns: dict[str, Callable[[], float]] = {"quickstudy": batch.turn, "limit": limit.turn} | others
        for turn in turns.values():
            turn()
        samples: dict[str, list[float]] = {arm: [] for arm in turns}
        policy_shares = []
        for _ in range(config.repeats):
            for arm, turn in turns.items():
                samples[arm].append(turn())
            policy_shares.append(batch.policy_seconds)
    shares = [ours / most for ours, most in zip(samples["quickstudy"], samples["limit"], strict=True)]
    return {
        "version": batch.family.version,
        "environments": batch.batch.size,
        "physics_steps_per_env_step": batch.family.frame_skip * batch.family.control_repeat,
        "steps_per_second": {arm: round(statistics.median(values), 1) for arm, values in samples.items()},
        "share": round(statistics.median(shares), 4),
        "policy_share_of_time": round(statistics.median(policy_shares), 4),
        "samples": {arm: [round(value, 1) for value in values] for arm, values in samples.items()},
    }


def table(results: dict[str, Any]) -> Table:
    """The figures for a terminal."""
    view = Table(title="Environment steps per second, policies acting")
    for column in ("family", "quickstudy", "limit in C", "share", "AsyncVectorEnv", "SubprocVecEnv"):
        view.add_column(column, justify="left" if column == "family" else "right")
    for name, row in results.items():
        rates = row["steps_per_second"]
        cells = [f"{rates[arm]:,.0f}" if arm in rates else "" for arm in ("async", "subproc")]
        view.add_row(name, f"{rates['quickstudy']:,.0f}", f"{rates['limit']:,.0f}", f"{row['share']:.2f}", *cells)
    return view


def main() -> None:
    """Measure, print a table, write the JSON."""
    config = tyro.cli(Config, description=__doc__)
    for name in WITHOUT_PHYSICS:
        if name in config.families:
            raise UserError(f"{name} moves by rules of its own: there is no physics to measure it against")
    torch.set_num_threads(1)
    where = machine()
    results = {name: measure(config, name) for name in config.families}
    write_record(config.out, "benchmarks.sampling", config, where, families=results)
    print_table(table(results))


if __name__ == "__main__":
    run(main)
