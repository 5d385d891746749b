"""From the raw table to the summary: the same table and protocol give the same bytes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from envs.errors import UserError
from envs.task import SPLITS
from evaluation import metrics
from evaluation.curves import (
    ORACLE,
    PPO,
    RANDOM,
    Curves,
    Scale,
    curves_of,
    longest_ppo,
    on_common_tasks,
    points_of,
    resample,
)
from evaluation.goals import PRESET_WITH_GOALS, goals_of
from evaluation.presets import ARMS, is_long
from evaluation.summary import (
    AgentSummary,
    Gap,
    Interval,
    PPOEquivalent,
    Protocol,
    Reference,
    SplitSummary,
    StepsTo,
    Summary,
    read_protocol,
    rounded,
    write_summary,
)
from evaluation.table import TASKS_FILE, Episode, TaskValues, find_episodes, read_episodes, read_tasks

THRESHOLDS = (50, 80, 90)  # percent of the oracle


def summarise_directory(directory: Path) -> Summary:
    """Read the tables and `protocol.json`, write `summary.json`. Raises `UserError` where one cannot be read."""
    protocol = read_protocol(directory)
    tasks = read_tasks(directory / TASKS_FILE) if protocol.name == PRESET_WITH_GOALS else {}
    summary = summarise(read_episodes(find_episodes(directory)), protocol, tasks)
    write_summary(directory, summary)
    return summary


def summarise(episodes: Sequence[Episode], protocol: Protocol, tasks: TaskValues | None = None) -> Summary:
    """Every figure of an evaluation. tasks: as `read_tasks` gives them; only goals need them.

    Raises `UserError` for a table in which a probe is missing.
    """
    groups: dict[tuple[str, str], dict[str, list[Episode]]] = defaultdict(lambda: defaultdict(list))
    for row in episodes:
        groups[row.family, row.split][row.agent].append(row)
    order = sorted(groups, key=lambda key: (key[0], SPLITS.index(key[1])))
    curves = {key: {agent: curves_of(groups[key][agent]) for agent in sorted(groups[key], key=_order)} for key in order}
    results = tuple(
        _split_summary(family, split, next(iter(groups[family, split].values()))[0].version, of_split, protocol)
        for (family, split), of_split in curves.items()
    )
    goals = goals_of(results, curves, tasks or {}) if protocol.name == PRESET_WITH_GOALS else ()
    return Summary(protocol, results, _gaps(results), goals)


def _split_summary(
    family: str, split: str, version: str, curves: Mapping[str, Curves], protocol: Protocol
) -> SplitSummary:
    scale = Scale(_reference(curves.get(RANDOM)), _reference(curves.get(ORACLE)))
    if family not in protocol.horizons:
        raise UserError(f"the table has episodes of '{family}', of which the protocol says nothing")
    return SplitSummary(
        family=family,
        version=version,
        split=split,
        budget_steps=protocol.episodes * protocol.horizons[family],
        normalised=scale.normalised,
        random=scale.random,
        oracle=scale.oracle,
        agents=tuple(
            _agent_summary(agent, scale, curves, protocol.episodes, protocol.horizons[family]) for agent in curves
        ),
    )


def _order(arm: str) -> tuple[int, str]:
    names = list(ARMS)
    return (names.index(arm) if arm in names else len(names), arm)


def _reference(curves: Curves | None) -> Reference | None:
    """An end of the scale: agents that are one do not learn, so all their probes measure the same."""
    if curves is None:
        return None
    result = metrics.interquartile_mean(curves.returns.mean(axis=0))
    return Reference(rounded(result), rounded(curves.success.mean()))


def _agent_summary(
    agent: str, scale: Scale, all_curves: Mapping[str, Curves], budget_episodes: int, horizon: int
) -> AgentSummary:
    curves, ppo, longest = all_curves[agent], all_curves.get(PPO), longest_ppo(all_curves)
    long = is_long(agent)
    if long:
        budget_episodes = int(curves.episodes[-1])
    scores, draws = scale.score(curves.returns), resample(curves, scale)
    score, success = metrics.interquartile_mean(scores), metrics.mean(curves.success)
    curve = points_of(curves, scale, draws)
    last = curves.probe_by(budget_episodes)
    area = metrics.area_weights(metrics.mean(curves.steps), max(budget_episodes * horizon, 1))
    rival = None if long or agent == PPO else ppo
    return AgentSummary(
        agent=agent,
        seeds=curves.returns.shape[1],
        tasks=len(curves.tasks),
        adapts=curves.adapts,
        curve=curve,
        final=curve[last],
        gain=_interval(score[last] - score[0], draws.score[last] - draws.score[0]),
        gain_success=_interval(success[last] - success[0], draws.success[last] - draws.success[0]),
        auc=_interval(area @ score, area @ draws.score),
        steps_to=_steps_to(curves, scores) if scale.normalised else {},
        ppo_equivalent=() if longest is None else _ppo_equivalent(curves, longest),
        worst_decile=rounded(metrics.worst_decile(scores[last])),
        improvement_over_ppo=None if rival is None else _improvement(curves, rival, budget_episodes),
        long=long,
    )


def _steps_to(curves: Curves, scores: np.ndarray) -> dict[str, StepsTo]:
    found = {}
    for percent in THRESHOLDS:
        median, never = metrics.steps_to(curves.steps, scores, percent / 100)
        found[str(percent)] = StepsTo(None if median is None else rounded(median), rounded(never))
    return found


def _ppo_equivalent(curves: Curves, ppo: Curves) -> tuple[PPOEquivalent, ...]:
    ours, theirs = on_common_tasks(curves, ppo)
    steps, returns = metrics.mean(ours.steps), metrics.interquartile_mean(ours.returns)
    ppo_steps, ppo_returns = metrics.mean(theirs.steps), metrics.interquartile_mean(theirs.returns)
    points = []
    for p, episode in enumerate(ours.episodes):
        needed, censored = metrics.equivalent_steps(ppo_steps, ppo_returns, float(returns[p]))
        points.append(PPOEquivalent(int(episode), rounded(steps[p]), rounded(needed), censored))
    return tuple(points)


def _improvement(curves: Curves, ppo: Curves, budget_episodes: int) -> Interval:
    ours, theirs = (one.returns[one.probe_by(budget_episodes)] for one in on_common_tasks(curves, ppo))
    draws = metrics.bootstrap_improvement(ours, theirs, np.random.default_rng(0))
    return _interval(metrics.improvement(ours, theirs), draws)


def _gaps(results: Sequence[SplitSummary]) -> tuple[Gap, ...]:
    gaps = []
    for seen in results:
        for unseen in results:
            if seen.family != unseen.family or SPLITS.index(seen.split) >= SPLITS.index(unseen.split):
                continue
            theirs = {agent.agent: agent.final for agent in unseen.agents}
            for agent in seen.agents:
                if agent.agent not in theirs:
                    continue
                score = agent.final.score - theirs[agent.agent].score
                gaps.append(
                    Gap(
                        family=seen.family,
                        agent=agent.agent,
                        seen=seen.split,
                        unseen=unseen.split,
                        score=rounded(score) if seen.normalised and unseen.normalised else None,
                        success=rounded(agent.final.success - theirs[agent.agent].success),
                    )
                )
    return tuple(gaps)


def _interval(value: float, draws: np.ndarray) -> Interval:
    low, high = metrics.interval(draws)
    return Interval(rounded(value), rounded(low), rounded(high))
