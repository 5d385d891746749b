"""One iteration of meta-training, and one held-out evaluation. What repeats them is in `train.py`."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from agents.agent import Learner, Trajectories
from agents.finite import first_not_finite
from envs.errors import UserError
from envs.simulation import MAX_THREADS, TaskBatch
from envs.task import TaskFamily
from training.collect import collect
from training.streams import numpy_generator, stream_seed, torch_generator

MAX_STEPS = 2**53 - 1  # a larger number cannot be told from its neighbour where it is a float


@dataclass(frozen=True)
class TrainConfig:
    """How long and how to train; what is trained is the agent's own config."""

    steps: int = 3_000_000
    """Environment steps to take; the iteration that reaches them is finished."""
    seed: int = 0
    """Every random number of the run follows from it."""
    threads: int = 0
    """Threads of physics and of updates; 0 for all processors. Results repeat bit for bit at the same number."""
    evaluate_every: int = 500_000
    """Environment steps between held-out evaluations; 0 for none."""
    evaluate_tasks: int = 20
    """Tasks of the test split in one held-out evaluation, the same ones every time."""
    evaluate_rounds: int = 4
    """Rounds of episodes on each of them, with an adaptation after each."""
    checkpoint_every: int = 200_000
    """Environment steps between checkpoints; one is always written at the start and at the end."""
    keep: int = 2
    """Checkpoints to keep besides the final one."""

    def __post_init__(self) -> None:
        for names, low, high in (
            (("steps", "checkpoint_every"), 1, MAX_STEPS),
            (("seed", "evaluate_every"), 0, MAX_STEPS),
            (("threads",), 0, MAX_THREADS),
            (("evaluate_tasks",), 1, 10_000),
            (("evaluate_rounds", "keep"), 1, 1_000),
        ):
            for name in names:
                value = getattr(self, name)
                if not low <= value <= high:
                    bound = f"at least {low}" if value < low else f"at most {high}"
                    raise UserError(f"train.{name} must be {bound}, got {value}")


def available_processors() -> int:
    """Processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Run the block at that number of torch threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Iteration:
    """What one iteration did. metrics are keyed by TensorBoard tag."""

    env_steps: int
    faults: int
    metrics: dict[str, float]
    skipped: str | None = None
    """Why there was no update, if there was none."""


def iterate(
    learner: Learner[Any], family: TaskFamily[Any], config: TrainConfig, iteration: int, progress: float = 0.0
) -> Iteration:
    """Collect `learner.rounds` rounds on freshly drawn tasks, adapting between them, and update the learner once.

    progress: the share of `config.steps` that is taken already.

    An update from or to numbers that are not finite is not made: the learner stays as it was, and `skipped` says why.
    """
    seed, episodes = config.seed, learner.train_episodes
    start = time.perf_counter()
    tasks = family.sample("train", learner.meta_batch_size, numpy_generator(seed, "tasks", iteration))
    batch = TaskBatch(family, tasks, episodes, threads=config.threads, privileged=learner.privileged)
    rounds = play(
        learner,
        batch,
        rounds=learner.rounds,
        starts=stream_seed(seed, "starts", iteration),
        generator=torch_generator(seed, "act", iteration),
        threads=config.threads,
    )
    collected = time.perf_counter()
    skipped = _unfit(rounds, batch.faults)
    train_metrics: dict[str, float] = {}
    if skipped is None:
        with torch_threads(config.threads):
            generator = torch_generator(seed, "update", iteration)
            train_metrics, skipped = guarded_update(learner, rounds, generator, progress)
    seconds = time.perf_counter() - start
    metrics = {
        **rollout_metrics(rounds),
        "rollout/faults": float(batch.faults),
        **train_metrics,
        "time/fps": batch.env_steps / seconds,
        "time/collect_share": (collected - start) / seconds,
    }
    return Iteration(batch.env_steps, batch.faults, metrics, skipped)


def _unfit(rounds: list[Trajectories], faults: int) -> str | None:
    """Why these rounds cannot be learned from, if they cannot."""
    for played in rounds:
        if (name := _not_finite(played)) is not None:
            return f"{name.replace('_', '-')} not finite"
    if faults == sum(played.success.numel() for played in rounds):
        return "every episode ended in a fault"
    return None


def _not_finite(played: Trajectories) -> str | None:
    """What of a round holds NaN or infinity, if anything does."""
    names = ("obs", "action", "reward", "log_prob", "value")
    return first_not_finite({name: getattr(played, name) for name in names})


def guarded_update(
    learner: Learner[Any], rounds: list[Trajectories], generator: torch.Generator, progress: float
) -> tuple[dict[str, float], str | None]:
    """The metrics of an update, and None; or, where it left anything not finite, nothing and what that was.

    The learner is then as it was before.
    """
    before = learner.state()
    try:
        metrics = learner.update(rounds, generator, progress)
    except FloatingPointError as error:
        learner.load_state(before)
        return {}, str(error)
    except (ValueError, RuntimeError):  # what torch says to NaN in the middle of an update
        metrics = {}
        if first_not_finite(learner.state()) is None:
            raise
    name = first_not_finite(learner.state())
    if name is None:
        return metrics, None
    learner.load_state(before)
    return {}, f"{name} not finite"


def evaluate_held_out(learner: Learner[Any], family: TaskFamily[Any], config: TrainConfig) -> Iteration:
    """Adapt to tasks of the test split, the same tasks and starts every time; the learner stays as it was."""
    tasks = family.sample("test", config.evaluate_tasks, numpy_generator(config.seed, "evaluation tasks"))
    batch = TaskBatch(family, tasks, learner.episodes_per_round, threads=config.threads, privileged=learner.privileged)
    rounds = play(
        learner,
        batch,
        rounds=config.evaluate_rounds,
        starts=stream_seed(config.seed, "evaluation starts"),
        generator=torch_generator(config.seed, "evaluation act"),
        threads=config.threads,
    )
    return Iteration(batch.env_steps, batch.faults, round_metrics("adapt", rounds))


def play(
    learner: Learner[Any], batch: TaskBatch, *, rounds: int, starts: int, generator: torch.Generator, threads: int
) -> list[Trajectories]:
    """`rounds` rounds one after the other in each task of the batch, adapting after all but the last.

    Nothing is learned from a round that holds numbers that are not finite.
    """
    memory = learner.fresh(batch.num_tasks, batch.num_episodes, generator)
    played: list[Trajectories] = []
    for index in range(rounds):
        if index > 0 and _not_finite(played[-1]) is None:
            with torch_threads(threads):
                memory = learner.adapt(memory, played[-1])
        with torch_threads(1):  # the networks of a rollout are too small to share out
            trajectories, memory = collect(learner, memory, batch, seed=starts, episode=index * batch.num_episodes)
        played.append(trajectories)
    return played


def rollout_metrics(rounds: list[Trajectories]) -> dict[str, float]:
    """Means over the episodes of an iteration, under the tags that stable-baselines3 made familiar."""
    terms = {
        f"rollout/terms/{name}": _mean([played.terms[name] for played in rounds]) for name in sorted(rounds[0].terms)
    }
    return {
        "rollout/ep_rew_mean": _mean([played.returns for played in rounds]),
        "rollout/ep_len_mean": _mean([played.valid.sum(0) for played in rounds]),
        "rollout/success_rate": _mean([played.success for played in rounds]),
        **round_metrics("rollout", rounds),
        **terms,
    }


def round_metrics(prefix: str, rounds: list[Trajectories]) -> dict[str, float]:
    """Mean return and success of each round, counted from 1: what adapting brought."""
    metrics: dict[str, float] = {}
    for number, played in enumerate(rounds, start=1):
        metrics[f"{prefix}/round_{number}_return"] = _mean([played.returns])
        metrics[f"{prefix}/round_{number}_success"] = _mean([played.success])
    return metrics


def _mean(tensors: list[torch.Tensor]) -> float:
    return torch.stack([tensor.double().mean() for tensor in tensors]).mean().item()
