"""Recipes are settings that exist, and stand between an agent's defaults and what a person asks for."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from agents.catalogue import agent_class
from agents.ppo import PPOConfig
from envs.errors import UserError
from training.config import make_run_config, recipe_config, run_config_from_data
from training.flags import run_config
from training.loop import TrainConfig
from training.recipes import RECIPES

RL2_GRASP = RECIPES["rl2", "grasp"]


@pytest.mark.parametrize(("agent", "family"), RECIPES)
def test_a_recipe_is_the_defaults_but_for_what_it_says(agent: str, family: str) -> None:
    recipe, config = RECIPES[agent, family], recipe_config(agent, family)
    default = agent_class(agent).config_type()
    assert config.agent_config == dataclasses.replace(default, **recipe.settings)
    assert config.train == TrainConfig(steps=recipe.steps)
    assert run_config(agent, family, None, [], ()) == config


def test_every_agent_of_the_benchmark_has_a_recipe_for_every_family_of_robots() -> None:
    agents, families = ("maml", "rl2", "ppo-robust", "ppo-oracle"), ("grasp", "terrain", "terrain-planar")
    assert {(agent, family) for agent in agents for family in families} <= set(RECIPES)


@pytest.mark.parametrize("family", ["grasp", "terrain", "terrain-planar"])
def test_no_agent_is_given_more_steps_than_another(family: str) -> None:
    assert len({recipe.steps for (_, of), recipe in RECIPES.items() if of == family}) == 1
    assert RECIPES["ppo-oracle", family].settings == RECIPES["ppo-robust", family].settings


def test_without_a_recipe_there_are_the_defaults() -> None:
    assert ("maml", "point") not in RECIPES
    assert recipe_config("maml", "point") == make_run_config("maml", "point")
    assert recipe_config("maml", "point", seed=3, steps=10).train == TrainConfig(seed=3, steps=10)


def test_the_file_overrides_the_recipe_and_flags_override_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[agent_config]\nhidden_size = 7\nlearning_rate = 0.5\n[train]\nseed = 4\n")
    config = run_config("rl2", "grasp", file, ["--learning-rate", "0.25", "--keep", "9"], ())
    recipe = dataclasses.replace(agent_class("rl2").config_type(), **RL2_GRASP.settings)
    assert recipe.reward_scale != agent_class("rl2").config_type().reward_scale
    assert config.agent_config == dataclasses.replace(recipe, hidden_size=7, learning_rate=0.25)
    assert config.train == TrainConfig(steps=RL2_GRASP.steps, seed=4, keep=9)


def test_the_config_of_a_run_is_what_it_was(tmp_path: Path) -> None:
    made = make_run_config("rl2", "grasp", train=TrainConfig(steps=123))  # of a time before the recipe
    data = json.loads(json.dumps(made.to_json()))
    file = tmp_path / "config.json"
    file.write_text(json.dumps(data))
    assert run_config("rl2", "grasp", file, [], ()) == made
    del data["agent_config"]["reward_scale"]
    assert run_config_from_data(data, "here") == made  # a run from before the field existed had the default's effect
    file.write_text(json.dumps(data))
    assert run_config("rl2", "grasp", file, [], ()) == made  # and no recipe of today changes it


def test_settings_that_training_never_read_are_left_out_of_older_runs() -> None:
    data = make_run_config("ppo-robust", "grasp", PPOConfig(epochs=3)).to_json()
    data["agent_config"]["task_batch_size"] = 64
    assert run_config_from_data(data, "here").agent_config == PPOConfig(epochs=3)
    del data["family_version"]  # as a person writes it
    with pytest.raises(UserError, match=r"no setting is called 'agent_config\.task_batch_size'"):
        run_config_from_data(data, "here")
