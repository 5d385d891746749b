"""The settings with which the benchmarks train each agent on each family: those of its recipe, or of the papers."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agents.catalogue import agent_class
from envs.errors import UserError
from training.config import from_data
from training.recipes import RECIPES

PAPERS: dict[tuple[str, str], dict[str, Any]] = {
    # network and episodes of an update as in arXiv 1703.03400
    ("maml", "cheetah-vel-2017"): {
        **{"hidden_sizes": [100, 100], "meta_batch_size": 20, "episodes_per_step": 20},
        **{"adapted": "weights", "inner_lr": 0.1, "inner_steps": 1, "reuse_episodes": False},
        **{"inner_discount": 0.98, "inner_gae_lambda": 0.95, "discount": 0.98, "gae_lambda": 0.95},
        **{"baseline": "observations", "exploration_log_std": None, "outer": "trpo", "outer_normalisation": "batch"},
        **{"initial_log_std": -0.7, "max_kl": 0.04, "curvature_stride": 20},
    },
    ("rl2", "cheetah-vel-2017"): {
        "hidden_size": 64,
        "meta_batch_size": 40,
        "trials_per_task": 1,
        "episodes_per_trial": 2,
    },
}
"""Of families that no recipe has."""

SETTINGS: dict[tuple[str, str], Mapping[str, Any]] = {
    **{pair: recipe.settings for pair, recipe in RECIPES.items()},
    **PAPERS,
}
"""What differs from the agent's defaults."""

EPISODES = {
    "maml": "episodes_per_step",
    "rl2": "trials_per_task",
    "ppo-robust": "episodes_per_task",
    "ppo-oracle": "episodes_per_task",
}
"""The setting that says how many environments each task has."""


def parse(words: Sequence[str]) -> dict[str, Any]:
    """`NAME=VALUE` words as settings; values are JSON, or text where they are not. Raises `UserError`."""
    settings: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise UserError(f"'{word}' is not a setting: write NAME=VALUE")
        try:
            settings[name] = json.loads(value)
        except ValueError:
            settings[name] = value
    return settings


def words_for(agent: str, family: str, words: Sequence[str]) -> list[str]:
    """Of `AGENT/FAMILY/NAME=VALUE` words those of one cell, as `NAME=VALUE`. Raises `UserError`."""
    chosen = []
    for word in words:
        parts = word.split("/", 2)
        if len(parts) != 3:
            raise UserError(f"'{word}' names no cell: write AGENT/FAMILY/NAME=VALUE, as maml/grasp/meta_batch_size=10")
        if parts[:2] == [agent, family]:
            chosen.append(parts[2])
    return chosen


def agent_config(
    agent: str, family: str, changes: Mapping[str, Any], skip_unknown: Callable[[str], None] | None = None
) -> Any:
    """The agent's config for the family: defaults, then `SETTINGS`, then `changes`.

    skip_unknown: told the name of each setting that this version's config lacks, which is then left out; without it
    such a setting is a `UserError`.
    """
    kind = agent_class(agent).config_type
    settings = {**SETTINGS.get((agent, family), {}), **changes}
    if skip_unknown is not None:
        known = {field.name for field in dataclasses.fields(kind)}
        for name in [name for name in settings if name not in known]:
            skip_unknown(name)
            del settings[name]
    return from_data(kind, settings, f"settings of {agent} on {family}")
