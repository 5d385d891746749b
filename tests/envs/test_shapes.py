"""Arrays from outside must have the layout that is declared: the right count in another layout is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
import pytest

from envs.errors import UserError
from envs.simulation import TaskBatch
from envs.task import Simulation
from tests.probes import ProbeFamily, ProbeTask

TASKS = [ProbeTask(-0.6), ProbeTask(0.2), ProbeTask(0.7)]


@pytest.mark.parametrize("shape", [(5, 3), (15,), (1, 15), (3, 5, 1), (1, 3, 5), (3, 1), (5,), (3, 4), (2, 5), ()])
def test_a_batch_takes_actions_of_the_declared_shape_alone(shape: tuple[int, ...]) -> None:
    several: Any = gymnasium.make_vec("quickstudy/Grasp-v0", num_envs=3, threads=1)
    several.reset(seed=0)
    batch = TaskBatch(several.family, several.tasks, threads=1)
    batch.reset(seed=0)
    before = batch.sim.qpos.copy()
    for env in (several, batch):
        with pytest.raises(UserError, match=rf"shape \(3, 5\), got \({', '.join(map(str, shape))}"):
            env.step(np.zeros(shape, dtype=np.float32))
    assert batch.env_steps == 0
    np.testing.assert_array_equal(batch.sim.qpos, before)


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (1,), (10,), ()])
def test_one_environment_takes_one_action(shape: tuple[int, ...]) -> None:
    env: Any = gymnasium.make("quickstudy/Grasp-v0", disable_env_checker=True)
    env.reset(seed=0)
    with pytest.raises(UserError, match=r"shape \(5,\), got \("):
        env.step(np.zeros(shape, dtype=np.float32))


def test_what_is_no_array_of_numbers_is_no_action() -> None:
    batch = TaskBatch(ProbeFamily(), TASKS, threads=1)
    batch.reset(seed=0)
    batch.step([[0.1], [0.2], [0.3]])  # type: ignore[arg-type]
    for action in ("left", [[0.1], [0.2, 0.3], [0.4]], [["a"], ["b"], ["c"]], None, {"drive": 1.0}):
        with pytest.raises(UserError, match="actions must"):
            batch.step(action)  # type: ignore[arg-type]


class MisshapenFamily(ProbeFamily):
    """The probe, which returns what `where` names in a wrong layout."""

    def __init__(self, where: str) -> None:
        self.where = where

    def _bent(self, where: str, array: np.ndarray) -> np.ndarray:
        return array[..., None] if where == self.where else array

    def features(self, task: ProbeTask) -> np.ndarray:
        return self._bent("features", super().features(task))

    def observe(self, sim: Simulation) -> np.ndarray:
        observation = super().observe(sim)
        return observation.T if self.where == "observations" else observation

    def reward(self, sim: Simulation, action: np.ndarray) -> dict[str, np.ndarray]:
        return {name: self._bent(name, value) for name, value in super().reward(sim, action).items()}

    def success(self, sim: Simulation) -> np.ndarray:
        return self._bent("success", super().success(sim))

    def terminated(self, sim: Simulation) -> np.ndarray:
        return self._bent("terminated", super().terminated(sim))


SHAPES: Mapping[str, str] = {
    "features": r"\(1,\), got \(1, 1\)",
    "observations": r"\(2, 3\), got \(3, 2\)",
    "near": r"\(2,\), got \(2, 1\)",
    "success": r"\(2,\), got \(2, 1\)",
    "terminated": r"\(2,\), got \(2, 1\)",
}


@pytest.mark.parametrize("where", SHAPES)
def test_a_family_that_returns_another_layout_is_refused(where: str) -> None:
    """Broadcasting would make [N, N] of [N, 1], and each environment would earn what all do."""

    def play() -> None:
        batch = TaskBatch(MisshapenFamily(where), TASKS[:2], threads=1)
        batch.reset(seed=0)
        batch.step(np.zeros((2, 1)))

    with pytest.raises(UserError, match=f"probe: {where} must have shape {SHAPES[where]}"):
        play()
