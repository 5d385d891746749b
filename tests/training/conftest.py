"""Small runs on the probe family."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from agents import catalogue
from training.loop import TrainConfig
from training.run import RunConfig, make_run_config


@pytest.fixture
def probe_run(monkeypatch: pytest.MonkeyPatch, probe_family: str, probe_agent: str) -> Callable[..., RunConfig]:
    """Makes the config of a small run: `probe_run(agent="probe", agent_config=None, **train_settings)`."""
    monkeypatch.setattr(catalogue, "TRAINABLE", (*catalogue.TRAINABLE, "probe"))

    def make(agent: str = "probe", agent_config: Any = None, **settings: Any) -> RunConfig:
        # One iteration of the probe learner takes 4 tasks x 4 episodes x 2 rounds x 10 steps = 320 steps.
        defaults = {"steps": 960, "seed": 3, "threads": 1, "evaluate_every": 640, "evaluate_tasks": 2}
        return make_run_config(agent, probe_family, agent_config, TrainConfig(**{**defaults, **settings}))

    return make


@pytest.fixture
def console() -> Console:
    """A console that is no terminal; `console.file.getvalue()` is what was said."""
    return Console(file=io.StringIO(), width=300)
