"""From the raw table to the summary: the same table and protocol give the same bytes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from envs.errors import UserError
from envs.task import SPLITS
from evaluation import metrics
from evaluation.against_ppo import meta_training_steps, ppo_equivalents, race
from evaluation.curves import (
    ORACLE,
    PPO,
    PPO_LONG,
    RANDOM,
    Curves,
    Scale,
    curves_of,
    longest_ppo,
    on_common_tasks,
    points_of,
    reference_of,
    spreads_of,
)
from evaluation.goals import PRESET_WITH_GOALS, goals_of
from evaluation.intervals import Spread, spread_of_means
from evaluation.presets import ARMS, is_long
from evaluation.summary import (
    Adapting,
    AgentSummary,
    Gap,
    Interval,
    Protocol,
    Race,
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
    scale = Scale(reference_of(curves.get(RANDOM)), reference_of(curves.get(ORACLE)))
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
            _agent_summary(
                agent,
                scale,
                curves,
                protocol.episodes,
                protocol.horizons[family],
                meta_training_steps(protocol, agent, family),
            )
            for agent in curves
        ),
    )


def _order(arm: str) -> tuple[int, str]:
    names = list(ARMS)
    return (names.index(arm) if arm in names else len(names), arm)


def _agent_summary(
    agent: str,
    scale: Scale,
    all_curves: Mapping[str, Curves],
    budget_episodes: int,
    horizon: int,
    meta_steps: float | None,
) -> AgentSummary:
    curves, ppo, longest = all_curves[agent], all_curves.get(PPO), longest_ppo(all_curves)
    long = is_long(agent)
    if long:
        budget_episodes = int(curves.episodes[-1])
    scores, spreads = scale.score(curves.returns), spreads_of(curves, scale)
    score, success = metrics.interquartile_mean(scores), metrics.mean(curves.success)
    mean_score = metrics.mean(scale.mean_score(curves.returns))
    curve = points_of(curves, scale, spreads)
    last = curves.probe_by(budget_episodes)
    area = metrics.area_weights(metrics.mean(curves.steps), max(budget_episodes * horizon, 1))
    rival = None if long or agent == PPO else ppo

    def gain(values: np.ndarray) -> np.ndarray:
        return np.asarray(values[last] - values[0])

    return AgentSummary(
        agent=agent,
        seeds=curves.runs,
        tasks=len(curves.tasks),
        adapts=curves.adapts,
        curve=curve,
        final=curve[last],
        gain=_interval(gain(score), spreads.score.of(gain)),
        gain_mean=_interval(gain(mean_score), spreads.mean_score.of(gain)),
        gain_success=_interval(gain(success), spreads.success.of(gain), -1.0, 1.0),
        adapting=None if long else _adapting(curves, scale, budget_episodes),
        auc=_interval(area @ score, spreads.score.of(lambda drawn: area @ drawn)),
        steps_to=_steps_to(curves, scores) if scale.normalised else {},
        ppo_equivalent=() if longest is None else ppo_equivalents(curves, longest, meta_steps),
        race=_race(agent, all_curves, scale, budget_episodes * horizon, horizon),
        meta_steps=meta_steps,
        worst_decile=rounded(metrics.worst_decile(scores[last])),
        improvement_over_ppo=None if rival is None else _improvement(curves, rival, budget_episodes),
        long=long,
    )


def _adapting(curves: Curves, scale: Scale, budget_episodes: int) -> Adapting | None:
    """Over the adaptation episodes of the common budget."""
    played = curves.played
    if played is None or not (counted := played.episodes < budget_episodes).any():
        return None
    scores, solved = (v[counted].mean(axis=0) for v in (scale.mean_score(played.returns), played.success))
    return Adapting(
        int(counted.sum()),
        _interval(scores.mean(), spread_of_means(scores)),
        _interval(solved.mean(), spread_of_means(solved), 0.0, 1.0),
    )


def _race(agent: str, all_curves: Mapping[str, Curves], scale: Scale, budget_steps: int, horizon: int) -> Race | None:
    """Where PPO had more than the common budget: within it, it gets nowhere."""
    curves, ppo = all_curves[agent], longest_ppo(all_curves)
    if ppo is None or not scale.normalised or not curves.adapts or agent in (PPO, PPO_LONG):
        return None
    if not is_long(agent) and float(ppo.steps[-1].max()) <= budget_steps:
        return None
    opponent = PPO_LONG if PPO_LONG in all_curves else PPO
    return race(curves, scale.score(curves.returns), ppo, scale.score(ppo.returns), opponent, horizon)


def _steps_to(curves: Curves, scores: np.ndarray) -> dict[str, StepsTo]:
    found = {}
    for percent in THRESHOLDS:
        median, never = metrics.steps_to(curves.steps, scores, percent / 100)
        found[str(percent)] = StepsTo(None if median is None else rounded(median), rounded(never))
    return found


def _improvement(curves: Curves, ppo: Curves, budget_episodes: int) -> Interval:
    ours, theirs = (one.returns[one.probe_by(budget_episodes)] for one in on_common_tasks(curves, ppo))
    wins = metrics.wins(ours, theirs)
    return _interval(wins.mean(), spread_of_means(wins, axes=3), 0.0, 1.0)


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
                there, both = theirs[agent.agent], seen.normalised and unseen.normalised
                gaps.append(
                    Gap(
                        family=seen.family,
                        agent=agent.agent,
                        seen=seen.split,
                        unseen=unseen.split,
                        score=rounded(there.score - agent.final.score) if both else None,
                        mean_score=rounded(there.mean_score - agent.final.mean_score) if both else None,
                        success=rounded(there.success - agent.final.success),
                    )
                )
    return tuple(gaps)


def _interval(value: np.ndarray | float, spread: Spread, least: float = -np.inf, most: float = np.inf) -> Interval:
    """least, most: what the figure cannot leave, and so neither does its interval."""
    centre, margin = float(value), float(spread.margin())
    return Interval(rounded(centre), rounded(max(centre - margin, least)), rounded(min(centre + margin, most)))
