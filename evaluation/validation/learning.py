"""What trained agents reach: RL² beside the Bayes-optimal value, MAML beside the returns published in 2017."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents.agent import Decision, Transition
from envs.bandit_value import optimal_value
from envs.errors import UserError
from envs.simulation import TaskBatch
from evaluation.intervals import spread_of_means
from evaluation.protocol import Budget, adapt_to_tasks, held_out_tasks
from evaluation.validation.check import Check
from training.collect import collect
from training.loop import torch_threads
from training.run import LoadedAgent

PUBLISHED = {
    "point": (-40.4, -11.7, -3.3, -3.2),
    "cheetah-dir-2017": (-50.7, 293.2, 313.5, 315.7),
    "cheetah-vel-2017": (-129.5, -78.6, -66.6, -60.8),
}
"""Mean returns before and after 1, 2 and 3 updates, as published with arXiv 1703.03400."""
SHARE = 0.98  # of the Bayes-optimal value that RL² has to reach
HALF_WIDTH = 0.02  # of the 95 % interval of its mean
CHUNK = 2000  # tasks simulated together


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    sequences: int = 80_000
    """Held-out bandits, one sequence of pulls each."""
    shuffled_sequences: int = 20_000
    """The same with rewards of another bandit."""
    goals: int = 40
    """Held-out tasks of MAML."""
    episodes: int = 20
    """Episodes of each task for an update, and in the mean after it."""
    updates: int = 3


class OthersRewards:
    """A trained RL² that is told the reward of the next task in place of its own."""

    def __init__(self, agent: Any) -> None:
        self._agent = agent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._agent, name)

    def act(self, memory: Any, obs: Tensor, explore: bool) -> tuple[Decision, Any]:
        decision: tuple[Decision, Any] = self._agent.act(memory, obs, explore)
        return decision

    def observe(self, memory: Any, transition: Transition) -> Any:
        others = transition.reward.roll(1, 0)
        return self._agent.observe(memory, Transition(transition.action, others, transition.done))


def bandit_returns(agent: Any, family: Any, sequences: int) -> np.ndarray:
    """[sequences]: what each sequence of pulls paid, on held-out bandits, one each, taking the policy's mode."""
    tasks, returns = held_out_tasks(family, "test", sequences, 0), []
    with torch_threads(1):
        for first in range(0, sequences, CHUNK):
            part = tasks[first : first + CHUNK]
            batch = TaskBatch(family, part, 1)
            memory = agent.fresh(len(part), 1, torch.Generator().manual_seed(first))
            played, _ = collect(agent, memory, batch, seed=0, episode=0, explore=False)
            returns.append(played.returns[:, 0].double().numpy())
    return np.concatenate(returns)


def bandit_checks(loaded: LoadedAgent, scale: Scale) -> tuple[list[Check], list[tuple[Any, ...]]]:
    """The verdicts, and rows (family, rewards, return, sequences) that they follow from."""
    family: Any = loaded.family
    name, best = family.name, optimal_value(family.arms, family.horizon)
    own = bandit_returns(loaded.agent, family, scale.sequences)
    others = bandit_returns(OthersRewards(loaded.agent), family, scale.shuffled_sequences)
    value, margin, margin_of_others = float(own.mean()), half_width(own), half_width(others)
    detail = f"{value:.3f} ± {margin:.3f} of {best:.3f}, {scale.sequences} held-out bandits"
    checks = [
        Check(
            f"RL² on {name}: share of the optimum",
            "mean return over the Bayes-optimal value",
            ">=",
            SHARE,
            value / best,
            detail=detail,
        ),
        Check(
            f"RL² on {name}: not above the optimum",
            "lower end of the mean's 95 % interval: above the optimum the task would leak",
            "<=",
            best,
            value - margin,
        ),
        Check(
            f"RL² on {name}: the interval is narrow",
            "half of the mean's 95 % interval",
            "<=",
            HALF_WIDTH,
            margin,
        ),
        Check(
            f"RL² on {name}: a shuffled history makes it worse",
            "lower end of what it costs to be told another bandit's rewards",
            ">",
            0.0,
            value - float(others.mean()) - float(np.hypot(margin, margin_of_others)),
            detail=f"{others.mean():.3f} ± {margin_of_others:.3f} with another bandit's rewards",
        ),
    ]
    rows: list[tuple[Any, ...]] = []
    for rewards, returns in (("own", own), ("another's", others)):
        values, counts = np.unique(returns, return_counts=True)
        rows += [(name, rewards, value, count) for value, count in zip(values.tolist(), counts.tolist(), strict=True)]
    return checks, rows


def half_width(values: np.ndarray) -> float:
    """Half of the 95 % interval of the mean of independent values."""
    return float(1.96 * values.std(ddof=1) / np.sqrt(len(values)))


def adaptation_returns(loaded: LoadedAgent, scale: Scale) -> np.ndarray:
    """[updates + 1, goals]: mean return over the episodes before the first update and after each, exploring.

    Raises `UserError` for an agent that does not take so many episodes for an update.
    """
    agent, family = loaded.agent, loaded.family
    if agent.episodes_per_round != scale.episodes:
        raise UserError(
            f"{loaded.path} takes {agent.episodes_per_round} episodes for an update, the published protocol"
            f" {scale.episodes}: train it with --episodes-per-step {scale.episodes}"
        )
    tasks = held_out_tasks(family, "test", scale.goals, 0)
    budget = Budget(scale.episodes * (scale.updates + 1), probe_episodes=1)
    seed = loaded.config.train.seed
    rows = adapt_to_tasks(agent, family, tasks, "test", budget, name=agent.name, seed=seed)
    returns = np.zeros((scale.updates + 1, scale.goals))
    for row in rows:
        if row.role == "adapt":
            returns[row.episode // scale.episodes, row.task] += row.episode_return / scale.episodes
    return returns


def adaptation_checks(loaded: LoadedAgent, scale: Scale) -> tuple[list[Check], list[tuple[Any, ...]]]:
    """The verdicts, and rows (family, task, update, return) that they follow from."""
    name, returns = loaded.family.name, adaptation_returns(loaded, scale)
    published = PUBLISHED[name]
    means, margins = returns.mean(axis=1), spread_of_means(returns[:, None, :]).margin()
    checks = []
    for update in range(1, scale.updates + 1):
        times = "1 update" if update == 1 else f"{update} updates"
        checks.append(
            Check(
                f"MAML on {name}: after {times}",
                f"mean return over {scale.goals} held-out goals, beside the published one",
                ">=",
                published[update],
                float(means[update]),
                detail=f"95 % interval {means[update] - margins[update]:.1f} to {means[update] + margins[update]:.1f}"
                f" (one run, over goals); before {means[0]:.1f} (published {published[0]})",
            )
        )
    rows: list[tuple[Any, ...]] = [
        (name, task, update, round(float(returns[update, task]), 6))
        for task in range(scale.goals)
        for update in range(scale.updates + 1)
    ]
    return checks, rows
