"""Settings that are generated, right and wrong ones, and training that is only tried."""

from __future__ import annotations

import dataclasses
import math
import typing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import training.train
from envs.families import make_family
from envs.simulation import TaskBatch
from training.config import RunConfig
from training.loop import iterate
from training.memory import refuse_too_large
from training.run import RunDirectory, build_agent

FAMILIES = ("bandit", "bandit-3x4", "point")
SMALL = {
    "meta_batch_size": 2,
    "episodes_per_step": 2,
    "episodes_per_task": 2,
    "trials_per_task": 1,
    "episodes_per_trial": 2,
    "minibatches": 1,
    "hidden_sizes": (4,),
    "hidden_size": 4,
    "head_size": 4,
    "epochs": 1,
    "conjugate_gradient_steps": 2,
    "evaluate_tasks": 1,
    "evaluate_rounds": 1,
}
"""Values of the settings that decide how long an iteration takes."""
STEPS_TO_TRY = 3000  # larger iterations are not made
SETTINGS_TO_TRY = ("epochs", "inner_steps", "conjugate_gradient_steps")
GIBIBYTE = 2**30

NUMBERS = [
    "0",
    "-1",
    "1",
    "7",
    "0.5",
    "-0.0",
    "1e400",
    "-1e400",
    "1e308",
    "1e-300",
    "1_000",
    "0x10",
    "007",
    "1e3",
    "+5",
]
NUMBERS += ["1000000000", "1000000000000", str(2**53), str(2**64), str(10**30), "9" * 400, "9" * 4299, "1.5"]


def choose(rng: np.random.Generator, values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


def valid_value(rng: np.random.Generator, name: str, kind: Any, default: Any) -> Any:
    """A value of a setting that has to be accepted."""
    if typing.get_origin(kind) is typing.Literal:
        return choose(rng, typing.get_args(kind))
    if name in SMALL:
        return SMALL[name]
    if isinstance(default, bool):
        return bool(rng.integers(2))
    if isinstance(default, float):
        return round(default * float(rng.uniform(0.5, 1.0)), 4) if default else 0.0
    return default


def valid_settings(rng: np.random.Generator, kind: type, share: float) -> dict[str, Any]:
    kinds = typing.get_type_hints(kind)
    return {
        field.name: valid_value(rng, field.name, kinds[field.name], field.default)
        for field in dataclasses.fields(kind)
        if field.name in SMALL or rng.random() < share
    }


def misspelt(rng: np.random.Generator, name: str) -> str:
    place = int(rng.integers(len(name)))
    return choose(rng, [name[:place] + name[place + 1 :], name[:place] + "é" + name[place:], name.upper(), name * 2])


def build_only(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """Replace training: the configs that reach it, their agents built, and an iteration made of each that is small."""
    reached: list[RunConfig] = []

    def build(config: RunConfig, out: Path) -> RunDirectory:
        family = make_family(config.family)
        learner = build_agent(config, family)
        refuse_too_large(learner, family, config.train)
        assert all(tensor.isfinite().all() for tensor in learner.state().values())
        steps = learner.meta_batch_size * learner.train_episodes * learner.rounds * family.horizon
        passes = max(getattr(config.agent_config, name, 1) for name in SETTINGS_TO_TRY)
        if steps <= STEPS_TO_TRY and passes <= 20:
            settings = dataclasses.replace(config.train, threads=1)
            done = iterate(learner, family, settings, 0)
            assert 0 < done.env_steps <= steps
            assert done.skipped or all(math.isfinite(value) for value in done.metrics.values())
        else:
            tasks = family.sample("train", min(learner.meta_batch_size, 20), np.random.default_rng(0))
            batch = TaskBatch(family, tasks, min(learner.train_episodes, 2), threads=1, privileged=learner.privileged)
            assert np.isfinite(batch.reset(seed=0)).all()
        reached.append(config)
        return RunDirectory(out)

    monkeypatch.setattr(training.train, "train", build)
    return reached
