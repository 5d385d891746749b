"""The probes of one arm as matrices, and the scale on which their returns become scores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from envs.errors import UserError
from evaluation import metrics
from evaluation.summary import CurvePoint, Reference, rounded
from evaluation.table import Episode

RANDOM, ORACLE, ROBUST, PPO, PPO_LONG = "random", "ppo-oracle", "ppo-robust", "ppo", "ppo-long"


@dataclass(frozen=True)
class Curves:
    """All probes of one arm on one split: P probes, S seeds, T tasks.

    episodes [P]: adaptation episodes before each probe. tasks [T]: their numbers. steps, returns, success [P, S, T]:
    steps spent by then, and means over the initial states of a probe. adapts: whether there was anything to learn from.
    """

    episodes: np.ndarray
    tasks: tuple[int, ...]
    steps: np.ndarray
    returns: np.ndarray
    success: np.ndarray
    adapts: bool

    def of_tasks(self, tasks: Sequence[int]) -> Curves:
        columns = [self.tasks.index(task) for task in tasks]
        return Curves(
            self.episodes,
            tuple(tasks),
            self.steps[..., columns],
            self.returns[..., columns],
            self.success[..., columns],
            self.adapts,
        )

    def probe_by(self, episodes: int) -> int:
        """Number of the last probe after at most so many adaptation episodes."""
        return int(np.flatnonzero(self.episodes <= episodes)[-1])


@dataclass(frozen=True)
class Scale:
    """The ends of the scale on which returns become scores; without both of them, scores are returns."""

    random: Reference | None
    oracle: Reference | None

    @property
    def normalised(self) -> bool:
        return (
            self.random is not None
            and self.oracle is not None
            and self.oracle.episode_return > self.random.episode_return
        )

    def score(self, returns: np.ndarray) -> np.ndarray:
        if not self.normalised or self.random is None or self.oracle is None:
            return returns
        return metrics.normalised_score(returns, self.random.episode_return, self.oracle.episode_return)


@dataclass(frozen=True)
class Draws:
    """Statistics of resampled curves, [P, draws]: interquartile mean score and mean success."""

    score: np.ndarray
    success: np.ndarray


def curves_of(rows: Sequence[Episode]) -> Curves:
    """The probes of one arm on one split. Raises `UserError` where a seed, a task or a probe lacks its row."""
    cells: dict[tuple[int, int, int], list[Episode]] = defaultdict(list)
    for row in rows:
        if row.role == "probe":
            cells[row.episode, row.seed, row.task].append(row)
    episodes, seeds, tasks = (sorted({key[axis] for key in cells}) for axis in range(3))
    about = f"{rows[0].agent} on {rows[0].family}/{rows[0].split}"
    if not cells or episodes[0] != 0:
        raise UserError(f"the table has no probe of {about} before adaptation: it is not whole")
    shape = (len(episodes), len(seeds), len(tasks))
    steps, returns, success = np.empty(shape), np.empty(shape), np.empty(shape)
    for p, episode in enumerate(episodes):
        for s, seed in enumerate(seeds):
            for t, task in enumerate(tasks):
                found = cells.get((episode, seed, task))
                if found is None:
                    raise UserError(
                        f"the table has no probe of {about}, seed {seed}, task {task}, after {episode} episodes:"
                        " it is not whole"
                    )
                steps[p, s, t] = found[0].env_steps
                returns[p, s, t] = np.mean([row.episode_return for row in found])
                success[p, s, t] = np.mean([row.success for row in found])
    adapts = any(row.role == "adapt" for row in rows)
    return Curves(np.array(episodes), tuple(tasks), steps, returns, success, adapts)


def resample(curves: Curves, scale: Scale) -> Draws:
    """Stratified bootstrap over seeds and tasks."""
    # A generator of its own for each figure: adding an agent or a probe elsewhere changes no other interval.
    return Draws(
        metrics.bootstrap(metrics.interquartile_mean, scale.score(curves.returns), np.random.default_rng(0)),
        metrics.bootstrap(metrics.mean, curves.success, np.random.default_rng(0)),
    )


def points_of(curves: Curves, scale: Scale, draws: Draws) -> tuple[CurvePoint, ...]:
    """Each probe with its 95 % intervals."""
    score, success = metrics.interquartile_mean(scale.score(curves.returns)), metrics.mean(curves.success)
    steps, returns = metrics.mean(curves.steps), metrics.interquartile_mean(curves.returns)
    low, high = metrics.interval(draws.score)
    success_low, success_high = metrics.interval(draws.success)
    return tuple(
        CurvePoint(
            episode=int(curves.episodes[p]),
            env_steps=rounded(steps[p]),
            episode_return=rounded(returns[p]),
            success=rounded(success[p]),
            success_low=rounded(success_low[p]),
            success_high=rounded(success_high[p]),
            score=rounded(score[p]),
            low=rounded(low[p]),
            high=rounded(high[p]),
        )
        for p in range(len(curves.episodes))
    )


def longest_ppo(curves: Mapping[str, Curves]) -> Curves | None:
    """The longest curve of PPO from scratch among arms; none where it was not measured."""
    return curves.get(PPO_LONG) or curves.get(PPO)


def on_common_tasks(curves: Curves, ppo: Curves) -> tuple[Curves, Curves]:
    """Both on the tasks that both met: PPO's long runs are on fewer. Raises `UserError` where there is none."""
    common = [task for task in curves.tasks if task in ppo.tasks]
    if not common:
        raise UserError("PPO from scratch and another agent have no task in common in this table")
    return curves.of_tasks(common), ppo.of_tasks(common)
