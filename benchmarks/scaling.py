"""How time and memory of meta-iterations grow with the number of tasks, and whether memory stays flat over iterations.

Every size and every flatness run is a fresh process: a peak is that of its size alone. `python -m benchmarks.training`
is the command; this module is what its child processes import.
"""

from __future__ import annotations

import math
import multiprocessing
import statistics
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.settings import EPISODES, agent_config, parse, words_for
from benchmarks.stopwatch import watched
from envs.errors import UserError, check_range
from envs.families import make_family
from training.config import make_run_config
from training.loop import TrainConfig, available_processors, iterate
from training.run import build_agent


@dataclass(frozen=True)
class Scaling:
    """Time and memory by the number of tasks in one batch."""

    agents: tuple[str, ...] = ("maml", "rl2")
    """Agents to measure."""
    family: str = "cheetah-vel-2017"
    """Family to measure them on."""
    tasks: tuple[int, ...] = (10, 30, 100, 300, 1000)
    """Numbers of tasks."""
    episodes: int = 4
    """Environments of each task."""
    repeats: int = 3
    """Processes of each size; in each, two meta-iterations of which the second is timed."""
    threads: int = 0
    """Threads of physics and of updates; 0 for all processors."""
    seed: int = 0
    """Of weights, tasks, actions and initial states."""
    settings: tuple[str, ...] = ("rl2/cheetah-vel-2017/target_kl=1e6",)
    """AGENT/FAMILY/NAME=VALUE: other settings than `benchmarks.settings` has. By default no update of RL2 stops early,
    so that every size does the same work."""
    out: Path = Path("results/training/scaling.json")
    """Where the figures go."""

    def __post_init__(self) -> None:
        check_range(self, 1, math.inf, "tasks", "episodes", "repeats")


@dataclass(frozen=True)
class Flatness:
    """Memory over many meta-iterations."""

    agents: tuple[str, ...] = ("maml", "rl2")
    """Agents to measure."""
    families: tuple[str, ...] = ("grasp", "terrain", "cheetah-vel-2017")
    """Families to measure each of them on."""
    iterations: int = 60
    """Meta-iterations of each cell."""
    warm_up: int = 20
    """Of these, the first that the slope leaves out: allocators and caches fill in them."""
    threads: int = 0
    """Threads of physics and of updates; 0 for all processors."""
    seed: int = 0
    """Of weights, tasks, actions and initial states."""
    settings: tuple[str, ...] = ()
    """AGENT/FAMILY/NAME=VALUE: other settings than `benchmarks.settings` has."""
    out: Path = Path("results/training/flatness.json")
    """Where the figures go."""

    def __post_init__(self) -> None:
        check_range(self, 0, math.inf, "warm_up")
        if self.iterations < self.warm_up + 3:
            raise UserError(
                f"iterations must be at least {self.warm_up + 3}, 3 more than warm-up; got {self.iterations}"
            )


@dataclass(frozen=True)
class Job:
    """What a child process trains. changes: settings of the agent."""

    agent: str
    family: str
    changes: dict[str, Any]
    threads: int
    seed: int
    iterations: int


def memory(entry: str) -> float:
    """Megabytes of this process: `VmRSS`, resident now, or `VmHWM`, at most so far.

    Not `ru_maxrss`, which in a new process begins at the peak of the one that started it.
    """
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{entry}:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {entry}")


def train_and_watch(job: Job) -> dict[str, Any]:
    """Meta-iterations in this process: seconds of the last one, environment steps, memory after each and at most."""
    threads = job.threads or available_processors()
    train = TrainConfig(seed=job.seed, threads=threads)
    family = make_family(job.family)
    settings = agent_config(job.agent, job.family, job.changes)
    learner = build_agent(make_run_config(job.agent, job.family, settings, train), family)
    resident = []
    for iteration in range(job.iterations):
        with watched(learner, family) as watch:
            done = iterate(learner, family, train, iteration)
        resident.append(memory("VmRSS"))
    return {
        "sampling": watch.total["collecting"],
        "update": watch.total["update"],
        "env_steps": done.env_steps,
        "resident_megabytes": resident,
        "peak_megabytes": memory("VmHWM"),
    }


def in_fresh_process(function: Callable[[Job], dict[str, Any]], job: Job) -> dict[str, Any]:
    """function(job), called in a process that does nothing else."""
    if not sys.platform.startswith("linux"):
        raise RuntimeError("memory is read from /proc, which only Linux has")
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, job).result()


def measure_scaling(config: Scaling) -> dict[str, Any]:
    """{agent: {tasks: figures}}; all sizes of all agents in turn, `repeats` times, medians. Raises `UserError`."""
    for agent in config.agents:
        make_run_config(agent, config.family)  # an agent that cannot be trained is refused here
    jobs = {
        (agent, tasks): Job(
            agent,
            config.family,
            {
                **parse(words_for(agent, config.family, config.settings)),
                "meta_batch_size": tasks,
                EPISODES[agent]: config.episodes,
            },
            config.threads,
            config.seed,
            iterations=2,
        )
        for agent in config.agents
        for tasks in config.tasks
    }
    found: dict[Any, list[dict[str, Any]]] = {key: [] for key in jobs}
    for _ in range(config.repeats):
        for key, job in jobs.items():
            found[key].append(in_fresh_process(train_and_watch, job))
    return {agent: summarise({tasks: found[agent, tasks] for tasks in config.tasks}) for agent in config.agents}


def summarise(found: dict[int, list[dict[str, Any]]]) -> dict[int, dict[str, Any]]:
    """Figures of each number of tasks (ascending) from its runs.

    of_first: time of an environment step over that at the smallest size, which is 1 where time is linear in tasks and
    less where small batches are the dearer ones; of_cheapest: over the least at any size up to this one.
    megabytes_per_further_task: what each task costs beyond the size before; equal figures are linear. None at the
    smallest size.
    """
    results: dict[int, dict[str, Any]] = {}
    costs: list[dict[str, float]] = []
    before = 0
    for tasks in sorted(found):
        runs = found[tasks]
        cost = {
            phase: statistics.median(run[phase] / run["env_steps"] for run in runs) * 1e6
            for phase in ("sampling", "update")
        }
        costs.append(cost)
        peak = statistics.median(run["peak_megabytes"] for run in runs)
        results[tasks] = {
            "env_steps": runs[0]["env_steps"],
            "microseconds_per_step": cost,
            "of_first": {phase: value / costs[0][phase] for phase, value in cost.items()},
            "of_cheapest": {phase: value / min(row[phase] for row in costs) for phase, value in cost.items()},
            "peak_megabytes": peak,
            "megabytes_per_further_task": (peak - results[before]["peak_megabytes"]) / (tasks - before)
            if before
            else None,
            "runs": runs,
        }
        before = tasks
    return results


def measure_flatness(config: Flatness) -> dict[str, dict[str, Any]]:
    """{agent: {family: figures}}: resident memory after each iteration, and its slope."""
    results: dict[str, dict[str, Any]] = {agent: {} for agent in config.agents}
    for agent in config.agents:
        for family in config.families:
            changes = parse(words_for(agent, family, config.settings))
            job = Job(agent, family, changes, config.threads, config.seed, config.iterations)
            resident = in_fresh_process(train_and_watch, job)["resident_megabytes"]
            slope, error = line(np.asarray(resident[config.warm_up :]))
            results[agent][family] = {
                "slope_kilobytes": slope * 1024,
                "slope_error_kilobytes": error * 1024,
                "megabytes": resident,
            }
    return results


def line(values: np.ndarray) -> tuple[float, float]:
    """Slope of the least-squares line through values at 0, 1, 2, ... and its standard error (as if they were
    independent)."""
    if len(values) < 3:
        raise ValueError(f"a slope with an error needs at least 3 values, got {len(values)}")
    centred = np.arange(len(values)) - (len(values) - 1) / 2
    spread = float(centred @ centred)
    slope = float(centred @ values) / spread
    residual = values - values.mean() - slope * centred
    return slope, math.sqrt(float(residual @ residual) / (len(values) - 2) / spread)
