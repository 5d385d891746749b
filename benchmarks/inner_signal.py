"""What the episodes before MAML's first inner step tell of a task, by how they are played and how they are judged.

An inner step sums, over the steps of a round, advantage times exploration noise, weighted by what the state is. Here
the weights are the simplest ones: 1, and the entries of the observation that are named. A ridge regression reads the
task's features out of these sums. `explained` is the share of their variance that it explains on tasks that it was not
fitted to. It tells how much an inner step of that form can learn of the task.

The second table is of baselines that are fitted to all episodes of a task's round but one: the share of the returns'
variance within tasks that they explain in those episodes, and in the one that was left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from rich.table import Table
from torch import Tensor

from agents.advantages import discounted_returns, generalized_advantages, linear_baseline
from agents.agent import Trajectories
from agents.critic import Critic
from agents.gaussian_policy import MIN_LOG_STD
from agents.maml import Maml
from agents.maml_advantages import TARGET_LAMBDA, felt
from benchmarks.record import machine, print_table, run, write_record
from envs.errors import UserError, check_range
from envs.simulation import TaskBatch
from training.collect import collect
from training.run import load_agent


@dataclass(frozen=True)
class InnerSignal:
    """Measure what a round tells of a task."""

    run: str = "maml/grasp"
    """A run of MAML, or the name of a shipped one: its shared policy plays."""
    features: tuple[int, ...] = (0, 1)
    """Which of the task's features are read out. On grasp, 0 and 1 are where the object can be held."""
    states: tuple[int, ...] = (15, 16, 17)
    """Which entries of the observation weigh the sums. On grasp, 15 to 17 are where the tracker is from the hand."""
    log_stds: tuple[float, ...] = (-0.5, 0.0, 0.5)
    """Log deviations of the exploration."""
    discounts: tuple[float, ...] = (0.0, 0.5, 0.9, 0.99)
    """Discounts of the advantages; a critic is learned for each."""
    gae_lambdas: tuple[float, ...] = (0.0, 0.5, 0.95)
    """Advantage horizons."""
    episodes: int = 5
    """Episodes of each task."""
    tasks: int = 600
    """Tasks of the train split; three quarters fit the read-out, the others judge it."""
    seed: int = 0
    """Draws tasks, starts and actions."""
    out: Path = Path("results/inner-signal/grasp.json")
    """The record."""

    def __post_init__(self) -> None:
        check_range(self, 8, 100_000, "tasks")
        check_range(self, 2, 10_000, "episodes")
        check_range(self, 0, 1, "discounts", "gae_lambdas")
        check_range(self, MIN_LOG_STD, 2, "log_stds")


def measure(config: InnerSignal) -> tuple[list[dict[str, float]], dict[str, dict[str, float]]]:
    """A row for each deviation, discount and horizon, and what fitted baselines explain at the first deviation.

    Raises `UserError` for a run that is not of MAML.
    """
    loaded = load_agent(config.run)
    if not isinstance(loaded.agent, Maml):
        raise UserError(f"{config.run} is no run of maml: name one that is")
    for name, size in (("features", loaded.family.feature_size), ("states", loaded.family.observation_size)):
        if not all(0 <= index < size for index in getattr(config, name)):
            raise UserError(f"{name} of {loaded.family.name} are 0 to {size - 1}, got {getattr(config, name)}")
    tasks = loaded.family.sample("train", config.tasks, np.random.default_rng(config.seed))
    rows: list[dict[str, float]] = []
    baselines: dict[str, dict[str, float]] = {}
    for log_std in config.log_stds:
        maml = loaded.agent
        maml.config = replace(maml.config, exploration_log_std=log_std)
        batch = TaskBatch(loaded.family, tasks, config.episodes)
        generator = torch.Generator().manual_seed(config.seed)
        memory = maml.fresh(config.tasks, config.episodes, generator)
        played, _ = collect(maml, memory, batch, seed=config.seed, episode=0)
        baselines = baselines or fitted_baselines(played)
        mean = maml.act(memory, played.obs.flatten(0, 1), explore=False)[0].action.view_as(played.action)
        noise = played.action - mean
        weights = torch.cat([torch.ones_like(played.obs[..., :1]), played.obs[..., list(config.states)]], dim=-1)
        weighted = (noise.unsqueeze(-1) * weights.unsqueeze(-2)).flatten(-2)
        for discount in config.discounts:
            value = learned_values(felt(played), played.reward, played.terminated, discount, generator)
            for gae_lambda in config.gae_lambdas:
                advantage = generalized_advantages(
                    played.reward, value, torch.zeros_like(value[0]), played.terminated, discount, gae_lambda
                )
                sums = (advantage.unsqueeze(-1) * weighted * played.valid.unsqueeze(-1)).sum((0, 2))
                explained = read_out(sums, played.features[:, list(config.features)])
                rows.append(
                    {"log_std": log_std, "discount": discount, "gae_lambda": gae_lambda, "explained": explained}
                )
    return rows, baselines


def fitted_baselines(played: Trajectories, discount: float = 0.99) -> dict[str, dict[str, float]]:
    """{features: {fitted, left out: share of the returns' variance within tasks}}, fitted to all episodes but one."""
    returns, fitted = discounted_returns(played.reward, discount), played.valid.clone()
    fitted[:, :, -1] = False
    found: dict[str, dict[str, float]] = {}
    for name, obs in (("observations", played.obs), ("time", None)):
        error = returns - linear_baseline(obs, returns, fitted)
        spread = returns - returns.mean((0, 2), keepdim=True)
        found[name] = {
            where: float(1 - error[:, :, episodes].square().mean() / spread[:, :, episodes].square().mean())
            for where, episodes in (("fitted", slice(-1)), ("left out", slice(-1, None)))
        }
    return found


def learned_values(
    inputs: Tensor, reward: Tensor, terminated: Tensor, discount: float, generator: torch.Generator, turns: int = 3
) -> Tensor:
    """[T, K, E]: of a critic that learns, in turns, from its own advantages."""
    critic = Critic("critic", inputs.shape[-1], 128, discount, 1e-3, generator)
    value = torch.zeros_like(reward)
    for _ in range(turns):
        advantage = generalized_advantages(
            reward, value, torch.zeros_like(value[0]), terminated, discount, TARGET_LAMBDA
        )
        target = (advantage + value).flatten()
        critic.fit(inputs.flatten(0, -2), target, epochs=3, batch_size=1000, generator=generator)
        value = critic(inputs)
    return value


def read_out(sums: Tensor, features: Tensor, ridge: float = 1e-3) -> float:
    """The share of the features' variance [K, F] explained from sums [K, S], on the last quarter of the tasks."""
    columns = (sums / sums.std(0)).double()
    columns = torch.cat([columns, torch.ones(len(columns), 1, dtype=torch.float64)], dim=1)
    target, fitted = features.double(), len(features) * 3 // 4
    gram = columns[:fitted].T @ columns[:fitted] + ridge * fitted * torch.eye(columns.shape[1], dtype=torch.float64)
    coefficients = torch.linalg.solve(gram, columns[:fitted].T @ target[:fitted])
    error = target[fitted:] - columns[fitted:] @ coefficients
    return float((1 - error.square().mean(0) / target[fitted:].var(0)).mean())


def table(rows: Sequence[Mapping[str, float]]) -> Table:
    shown = Table("deviation", "discount", "lambda", "explained")
    for row in rows:
        deviation = f"{np.exp(row['log_std']):.2f}"
        shown.add_row(deviation, f"{row['discount']:g}", f"{row['gae_lambda']:g}", f"{row['explained']:.2f}")
    return shown


def main() -> None:
    """Measure, print a table, write the JSON."""
    config = tyro.cli(InnerSignal, description=__doc__)
    where = machine()
    rows, baselines = measure(config)
    write_record(config.out, "benchmarks.inner_signal", config, where, rows=rows, baselines=baselines)
    print_table(table(rows))
    shown = Table("features of the baseline", "explained where fitted", "in the episode left out")
    for name, explained in baselines.items():
        shown.add_row(name, *(f"{share:.2f}" for share in explained.values()))
    print_table(shown)


if __name__ == "__main__":
    run(main)
