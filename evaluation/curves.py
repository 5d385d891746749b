"""The probes of one arm as matrices, and the scale on which their returns become scores."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from envs.errors import UserError
from evaluation import metrics
from evaluation.intervals import Spread, spread_by_bootstrap, spread_of_means
from evaluation.summary import CurvePoint, Reference, rounded
from evaluation.table import ROLES, Episode

RANDOM, ORACLE, ROBUST, PPO, PPO_LONG = "random", "ppo-oracle", "ppo-robust", "ppo", "ppo-long"


@dataclass(frozen=True)
class Played:
    """The N adaptation episodes of an arm that the table has, as the agent explored in them.

    episodes [N]: their numbers. returns, success [N, S, T].
    """

    episodes: np.ndarray
    returns: np.ndarray
    success: np.ndarray

    def of_tasks(self, columns: Sequence[int]) -> Played:
        return Played(self.episodes, self.returns[..., columns], self.success[..., columns])


@dataclass(frozen=True)
class Curves:
    """All probes of one arm on one split: P probes, S seeds, T tasks.

    episodes [P]: adaptation episodes before each probe. tasks [T]: their numbers. steps, returns, success [P, S, T]:
    steps spent by then, and means over the initial states of a probe. adapts: whether there was anything to learn from.
    played: what it learned from; none where there was nothing.
    """

    episodes: np.ndarray
    tasks: tuple[int, ...]
    steps: np.ndarray
    returns: np.ndarray
    success: np.ndarray
    adapts: bool
    played: Played | None = None

    @property
    def runs(self) -> int:
        return self.returns.shape[1]

    def of_tasks(self, tasks: Sequence[int]) -> Curves:
        columns = [self.tasks.index(task) for task in tasks]
        return Curves(
            self.episodes,
            tuple(tasks),
            self.steps[..., columns],
            self.returns[..., columns],
            self.success[..., columns],
            self.adapts,
            None if self.played is None else self.played.of_tasks(columns),
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
            and self.oracle.mean_return > self.random.mean_return
        )

    def score(self, returns: np.ndarray) -> np.ndarray:
        if not self.normalised or self.random is None or self.oracle is None:
            return returns
        return metrics.normalised_score(returns, self.random.episode_return, self.oracle.episode_return)

    def mean_score(self, returns: np.ndarray) -> np.ndarray:
        """Its ends are the plain means of random and oracle; those of `score` are their interquartile means."""
        if not self.normalised or self.random is None or self.oracle is None:
            return returns
        return metrics.normalised_score(returns, self.random.mean_return, self.oracle.mean_return)


@dataclass(frozen=True)
class Spreads:
    """How the figures of a curve [P] vary over runs and tasks: interquartile mean score, mean score, success."""

    score: Spread
    mean_score: Spread
    success: Spread


def curves_of(rows: Sequence[Episode]) -> Curves:
    """The episodes of one arm on one split. Raises `UserError` where a seed, a task or a probe lacks its row."""
    cells: dict[str, dict[tuple[int, int, int], list[Episode]]] = {role: defaultdict(list) for role in ROLES}
    for row in rows:
        cells[row.role][row.episode, row.seed, row.task].append(row)
    about = f"{rows[0].agent} on {rows[0].family}/{rows[0].split}"
    probed, played = (sorted({episode for episode, _, _ in cells[role]}) for role in ("probe", "adapt"))
    if not probed or probed[0] != 0:
        raise UserError(f"the table has no probe of {about} before adaptation: it is not whole")
    seeds, tasks = (sorted({key[axis] for of_role in cells.values() for key in of_role}) for axis in (1, 2))

    def matrices(role: str, episodes: list[int], what: str) -> np.ndarray:
        """[3, episodes, seeds, tasks]: steps before, and mean return and success."""
        values = np.empty((3, len(episodes), len(seeds), len(tasks)))
        for p, episode in enumerate(episodes):
            for s, seed in enumerate(seeds):
                for t, task in enumerate(tasks):
                    found = cells[role].get((episode, seed, task))
                    if found is None:
                        raise UserError(
                            f"the table has no {what} of {about}, seed {seed}, task {task}, after {episode} episodes:"
                            " it is not whole"
                        )
                    returns = sum(row.episode_return for row in found) / len(found)
                    values[:, p, s, t] = found[0].env_steps, returns, sum(row.success for row in found) / len(found)
        return values

    steps, returns, success = matrices("probe", probed, "probe")
    _, earned, solved = matrices("adapt", played, "adaptation episode")
    learned_from = Played(np.array(played), earned, solved) if played else None
    return Curves(np.array(probed), tuple(tasks), steps, returns, success, bool(played), learned_from)


def spreads_of(curves: Curves, scale: Scale) -> Spreads:
    """Over runs and tasks."""
    scores = scale.score(curves.returns)

    def score(runs: np.ndarray, tasks: np.ndarray) -> np.ndarray:
        return metrics.interquartile_mean(scores[:, runs[:, None], tasks])

    # A generator of its own for each figure: adding an agent or a probe elsewhere changes no other interval.
    return Spreads(
        spread_by_bootstrap(score, scores.shape[1:]),
        spread_of_means(scale.mean_score(curves.returns)),
        spread_of_means(curves.success),
    )


def points_of(curves: Curves, scale: Scale, spreads: Spreads) -> tuple[CurvePoint, ...]:
    """Each probe with its 95 % intervals."""
    steps, returns = metrics.mean(curves.steps), metrics.interquartile_mean(curves.returns)
    means, success = metrics.mean(curves.returns), metrics.mean(curves.success)
    score, mean_score = scale.score(returns), scale.mean_score(means)
    margin, mean_margin, success_margin = (
        np.broadcast_to(spread.margin(), steps.shape) for spread in (spreads.score, spreads.mean_score, spreads.success)
    )
    return tuple(
        CurvePoint(
            episode=int(curves.episodes[p]),
            env_steps=rounded(steps[p]),
            episode_return=rounded(returns[p]),
            mean_return=rounded(means[p]),
            mean_score=rounded(mean_score[p]),
            mean_low=rounded(mean_score[p] - mean_margin[p]),
            mean_high=rounded(mean_score[p] + mean_margin[p]),
            success=rounded(success[p]),
            success_low=rounded(max(success[p] - success_margin[p], 0.0)),
            success_high=rounded(min(success[p] + success_margin[p], 1.0)),
            score=rounded(score[p]),
            low=rounded(score[p] - margin[p]),
            high=rounded(score[p] + margin[p]),
        )
        for p in range(len(curves.episodes))
    )


def reference_of(curves: Curves | None) -> Reference | None:
    """An end of the scale: agents that are one do not learn, so all their probes measure the same."""
    if curves is None:
        return None
    returns = curves.returns.mean(axis=0)
    return Reference(
        rounded(metrics.interquartile_mean(returns)), rounded(metrics.mean(returns)), rounded(curves.success.mean())
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
