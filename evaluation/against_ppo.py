"""How many steps an agent saves against PPO from scratch: for the same return, to a share of the oracle, in all."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from evaluation import metrics
from evaluation.curves import Curves, on_common_tasks
from evaluation.intervals import spread_by_bootstrap
from evaluation.summary import Interval, PPOEquivalent, Protocol, Race, TaskRace, rounded

RACE_PERCENT = 80  # of the oracle's score


@dataclass(frozen=True)
class Speed:
    """How many times as many steps PPO needs, with its interval.

    never: PPO did not get there, and the figure is a lower bound. share_never: share of the resamples in which it did
        not; their figures are lower bounds too.
    """

    times: Interval
    never: bool
    share_never: float


def meta_training_steps(protocol: Protocol, agent: str, family: str) -> float | None:
    """Steps that an arm's training runs took before any held-out task, their mean; none where nothing was trained."""
    found = [
        int(steps[1])
        for name, origin in protocol.checkpoints.items()
        if name.startswith(f"{agent}/{family}/") and (steps := re.search(r", (\d+) steps, weights ", origin))
    ]
    return float(np.mean(found)) if found else None


def ppo_equivalents(curves: Curves, ppo: Curves, meta_steps: float | None) -> tuple[PPOEquivalent, ...]:
    """For each probe, on the tasks of both. meta_steps: of the meta-training, to be paid for by the steps saved."""
    ours, theirs = on_common_tasks(curves, ppo)
    steps, returns = metrics.mean(ours.steps), metrics.interquartile_mean(ours.returns)
    ppo_steps, ppo_returns = metrics.mean(theirs.steps), metrics.interquartile_mean(theirs.returns)
    points = []
    for p, episode in enumerate(ours.episodes):
        needed, censored = metrics.equivalent_steps(ppo_steps, ppo_returns, float(returns[p]))
        saved = needed - steps[p]
        pays = None if meta_steps is None or saved <= 0 else rounded(meta_steps / saved)
        points.append(PPOEquivalent(int(episode), rounded(steps[p]), rounded(needed), censored, pays))
    return tuple(points)


def speed(ours: Curves, ppo: Curves, episodes: int) -> Speed | None:
    """Steps that PPO needs for the return that an agent has after so many episodes, over those it had spent by then.

    None where it had spent none. Both on the tasks of both. The interval is over the runs of each side and the tasks of
    both; it is that of the logarithm, for a ratio.
    """
    ours, ppo = on_common_tasks(ours, ppo)
    probe = ours.probe_by(episodes)
    if not ours.steps[probe].any():
        return None
    never: list[bool] = []

    def log_ratio(our_runs: np.ndarray, ppo_runs: np.ndarray, tasks: np.ndarray) -> float:
        mine, theirs = (our_runs[:, None], tasks), (slice(None), ppo_runs[:, None], tasks)
        target = float(metrics.interquartile_mean(ours.returns[probe][mine]))
        steps, returns = metrics.mean(ppo.steps[theirs]), metrics.interquartile_mean(ppo.returns[theirs])
        needed, censored = metrics.equivalent_steps(steps, returns, target)
        never.append(censored)
        return float(np.log(max(needed, 1.0) / ours.steps[probe][mine].mean()))

    sizes = ours.runs, ppo.runs, len(ours.tasks)
    value = log_ratio(*(np.arange(size) for size in sizes))
    # Many draws: in a rare one PPO never gets there, and its budget counts.
    margin = float(spread_by_bootstrap(log_ratio, sizes, draws=2000).margin())
    times = Interval(*(rounded(np.exp(end)) for end in (value, value - margin, value + margin)))
    return Speed(times, never[0], rounded(float(np.mean(never[1:]))) if never[1:] else float(never[0]))


def race(curves: Curves, scores: np.ndarray, ppo: Curves, ppo_scores: np.ndarray, opponent: str, horizon: int) -> Race:
    """Steps of both to `RACE_PERCENT` of the oracle, on each task of both. scores: [P, S, T] of the curves."""
    rows: list[TaskRace] = []
    times: list[float] = []
    bounds: list[float] = []
    budget = float(metrics.mean(ppo.steps)[-1])
    for task in (task for task in curves.tasks if task in ppo.tasks):
        (ours, never), (theirs, ppo_never) = (
            metrics.steps_to(side.of_tasks([task]).steps, values[..., [side.tasks.index(task)]], RACE_PERCENT / 100)
            for side, values in ((curves, scores), (ppo, ppo_scores))
        )
        rows.append(TaskRace(task, ours, rounded(never), theirs, rounded(ppo_never)))
        if ours is not None:
            times.append((np.inf if theirs is None else theirs) / max(ours, horizon))
            bounds.append((budget if theirs is None else theirs) / max(ours, horizon))
        elif theirs is not None:
            times.append(0.0)
            bounds.append(0.0)
    median = rounded(np.median(bounds)) if bounds else None
    lower = bool(times) and bool(np.median(times) > np.median(bounds))
    return Race(RACE_PERCENT, opponent, curves.runs, ppo.runs, rounded(budget), tuple(rows), median, lower)
