"""The trained agents that `validate full` measures: loaded where they are, trained where they are not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from training.config import RunConfig, run_config_from_data
from training.run import LoadedAgent
from training.trained import trained as train_what_is_missing


@dataclass(frozen=True)
class Run:
    """name: of its folder. settings: of the agent, where they differ from its defaults."""

    name: str
    agent: str
    family: str
    steps: int
    seed: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)

    def config(self) -> RunConfig:
        data = {
            "agent": self.agent,
            "family": self.family,
            "agent_config": dict(self.settings),
            "train": {"steps": self.steps, "seed": self.seed, "evaluate_every": 0, **self.train},
        }
        return run_config_from_data(data, self.name)


BANDIT = {
    "hidden_size": 64,
    "episodes_per_trial": 1,
    "meta_batch_size": 2000,
    "trials_per_task": 1,
    "reward_scale": 1.0,
    "learning_rate": 2e-3,
}
MAML = {
    "hidden_sizes": [100, 100],
    "adapted": "weights",
    "inner_lr": 0.1,
    "inner_steps": 1,
    "reuse_episodes": False,
    "episodes_per_step": 20,
    "inner_discount": 0.98,
    "inner_gae_lambda": 0.95,
    "discount": 0.98,
    "baseline": "observations",
    "exploration_log_std": None,
    "outer": "trpo",
    **{"learning_rate": 3e-4, "epochs": 5},  # as the runs have them; a trust region uses neither
}
CHEETAH = {**MAML, "max_kl": 0.04, "curvature_stride": 20}
RUNS = (
    Run("rl2-bandit", "rl2", "bandit", 6_000_000, settings=BANDIT),
    Run("rl2-bandit-10x10", "rl2", "bandit-10x10", 10_000_000, settings=BANDIT),
    Run(
        "maml-point",
        "maml",
        "point",
        16_000_000,
        settings={
            **MAML,
            "initial_log_std": 0.3,
            "meta_batch_size": 40,
            "max_kl": 0.03,
            "outer_normalisation": "batch",
            "curvature_stride": 10,
        },
    ),
    Run(
        "maml-cheetah-dir-2017",
        "maml",
        "cheetah-dir-2017",
        12_000_000,
        settings={
            **CHEETAH,
            "activation": "relu",
            "initial_log_std": -0.5,
            "meta_batch_size": 10,
            "outer_normalisation": "task",
        },
    ),
    Run(
        "maml-cheetah-vel-2017",
        "maml",
        "cheetah-vel-2017",
        65_000_000,
        settings={
            **CHEETAH,
            "activation": "relu",
            "initial_log_std": -0.5,
            "meta_batch_size": 20,
            "outer_normalisation": "batch",
        },
    ),
)


def trained(run: Run, folder: Path, console: Console) -> LoadedAgent:
    """The agent of `folder`/NAME. One whose budget is not spent is trained until it is.

    Raises `UserError` where something else is there, and what training raises.
    """
    return train_what_is_missing(run.config(), folder / run.name, console)


def provenance(loaded: LoadedAgent, run: Run) -> dict[str, Any]:
    """What is written down of an agent. as_in_table: are its settings, seed and steps those of `run`?"""
    asked, found = run.config(), loaded.config
    same = (found.agent_config, found.train.seed, found.train.steps) == (
        asked.agent_config,
        asked.train.seed,
        asked.train.steps,
    )
    return {"config": found.to_json(), "env_steps": loaded.env_steps, "as_in_table": same}
