"""The settings with which each agent is best trained on each family, as plain data.

`quickstudy train AGENT FAMILY` begins with the defaults of the agent's config; the recipe stands above these, a
`--config` file above the recipe, and flags above all. A run's `config.json` holds every field, so that a changed recipe
changes no run that is there. What the settings do is told in docs/training.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """What one agent needs on one family."""

    steps: int
    """Environment steps to train for."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the agent's config, in place of its defaults."""


STEPS = {"grasp": 3_000_000, "terrain": 3_000_000, "terrain-planar": 1_200_000}  # the same for every agent

PPO = {"learning_rate": 7e-4, "batch_size": 2000, "epochs": 6, "meta_batch_size": 40, "episodes_per_task": 4}
PPO_SETTINGS: dict[str, dict[str, Any]] = {
    "grasp": {**PPO, "meta_batch_size": 100, "discount": 0.98},
    "terrain": PPO,
    "terrain-planar": PPO,
}

RL2 = {"trials_per_task": 1, "episodes_per_trial": 4, "meta_batch_size": 32, "hidden_size": 64}

SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "ppo-oracle": PPO_SETTINGS,
    "ppo-robust": PPO_SETTINGS,
    "rl2": {
        "grasp": {**RL2, "hidden_size": 96, "meta_batch_size": 64, "reward_scale": 40.0, "gae_lambda": 0.9},
        "terrain": {**RL2, "anneal_to": 0.05},
        "terrain-planar": RL2,
    },
    "maml": {
        "grasp": {},
        # A command of the gait takes several steps to show in the reward: see `benchmarks.inner_signal`.
        "terrain": {
            "meta_batch_size": 12,
            "inner_discount": 0.9,
            "inner_gae_lambda": 0.5,
            "exploration_log_std": 0.5,
        },
        "terrain-planar": {"meta_batch_size": 10},
    },
}

RECIPES: dict[tuple[str, str], Recipe] = {
    (agent, family): Recipe(STEPS[family], settings)
    for agent, families in SETTINGS.items()
    for family, settings in families.items()
}
