"""How long a cell is expected to take, so that cells of unlike arms can be told apart before they are measured.

The constants were measured on two cores with nothing else running; `GridProgress` corrects them by what it sees.
"""

from __future__ import annotations

from typing import Any

from envs.task import TaskFamily
from evaluation.protocol import Budget, planned_steps

STEP_SECONDS = {"grasp": 42e-6, "terrain": 104e-6, "terrain-planar": 24e-6}
"""Simulating one environment step in a large batch, by family (docs/performance.md)."""
OTHER_STEP_SECONDS = 10e-6
"""The same in other families: the bandit, the point, the half-cheetah and the ant are cheaper."""
CALL_SECONDS = 0.9e-3
"""One control step of a batch of any size: Python, and the networks in torch."""
LEARNING_SECONDS = 0.65e-3
"""What PPO takes to learn from one environment step of a task, with one core. No other agent's adaptation counts."""
FILM_SECONDS = 30.0
"""One film of a benchmark, drawn without a GPU."""


def expected_seconds(budget: Budget, agent: Any, family: TaskFamily[Any], tasks: int) -> float:
    """For `adapt_to_tasks` with that budget on so many tasks, on two cores with nothing else running."""
    episodes = agent.episodes_per_round
    steps = planned_steps(budget, episodes, tasks, family.horizon)
    seconds = steps * STEP_SECONDS.get(family.name, OTHER_STEP_SECONDS) + steps / (episodes * tasks) * CALL_SECONDS
    if agent.name in ("ppo", "ppo-finetuned"):
        rounds = budget.rounds(episodes, family.horizon)
        seconds += rounds * episodes * tasks * family.horizon * LEARNING_SECONDS
    return seconds
