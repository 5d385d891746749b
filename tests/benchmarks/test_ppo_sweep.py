"""What PPO's sweep makes of learning curves, and one tiny sweep from beginning to end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.ppo import TaskPPOConfig
from benchmarks.ppo_sweep import Sweep, area, figures, learner, sweep
from envs.errors import UserError
from evaluation.table import Episode
from training.run import load_agent


def probe(task: int, env_steps: int, episode_return: float, success: bool = False) -> Episode:
    return Episode("probe", "1", "train", "ppo", 0, task, env_steps, "probe", env_steps, episode_return, success)


def test_area_is_the_mean_over_steps_not_over_probes() -> None:
    assert area(np.array([0, 10, 100]), np.array([0.0, 2.0, 2.0])) == pytest.approx(1.9)


def test_figures_of_each_task() -> None:
    first = [probe(0, 0, 0.0), probe(0, 0, 2.0), probe(0, 10, 3.0, True), probe(0, 10, 5.0)]
    second = [probe(1, 0, 1.0), probe(1, 10, 1.0, True)]
    assert figures(first + second) == {
        "mean_return": {"mean": 1.75, "tasks": [2.5, 1.0]},
        "last_return": {"mean": 2.5, "tasks": [4.0, 1.0]},
        "last_success": {"mean": 0.75, "tasks": [0.5, 1.0]},
    }


def test_a_sweep_tries_each_setting_beside_the_defaults(tmp_path: Path, probe_family: str) -> None:
    config = Sweep(probe_family, tasks=2, steps=300, settings=("learning_rate=0.01", "epochs=1 batch_size=20"))
    sweep(Sweep(**{**vars(config), "out": tmp_path}))
    record = json.loads((tmp_path / "probe.json").read_text())
    assert list(record["found"]) == ["defaults", "learning_rate=0.01", "epochs=1 batch_size=20"]
    means = [found["mean_return"]["mean"] for found in record["found"].values()]
    assert len(set(means)) == 3
    lines = (tmp_path / "probe.csv").read_text().splitlines()
    assert lines[0] == "settings,task,env_steps,return,success"
    assert {line.split(",")[0] for line in lines[1:]} == set(record["found"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agent": "maml"}, "agent must be ppo or ppo-finetuned, got 'maml'"),
        ({"agent": "ppo-finetuned", "weights": "ppo-robust/terrain"}, "was trained on terrain, not on probe"),
        ({"settings": ("speed=1",)}, "no setting is called 'speed'"),
        ({"steps": 3}, "with defaults an update takes"),
    ],
)
def test_what_cannot_be_tried_is_refused(
    tmp_path: Path, probe_family: str, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        sweep(Sweep(**{"family": probe_family, "out": tmp_path, **changes}))
    assert not any(tmp_path.iterdir())


def test_the_network_of_trained_weights_is_not_swept() -> None:
    with pytest.raises(UserError, match="have their hidden_sizes"):
        learner(Sweep("terrain-planar", agent="ppo-finetuned"), "hidden_sizes=[8]")


def test_finetuning_begins_with_the_weights_of_a_trained_agent() -> None:
    config = Sweep("terrain-planar", agent="ppo-finetuned")
    usual, faster = learner(config, ""), learner(config, "learning_rate=0.01")
    of_weights = usual.config
    assert (usual.task.hidden_sizes, usual.task.discount) == (of_weights.hidden_sizes, of_weights.discount)
    assert usual.task.batch_size == TaskPPOConfig().batch_size  # and not what the weights were trained with
    assert faster.task == replace(usual.task, learning_rate=0.01)
    trained = load_agent("ppo-robust/terrain-planar").agent.state()
    state = faster.state()
    assert state
    assert all(torch.equal(state[name], trained[name]) for name in state)
