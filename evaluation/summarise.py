"""From the raw table to the summary: the same table and protocol give the same bytes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agents.catalogue import AGENTS
from envs.errors import UserError
from envs.task import SPLITS
from evaluation import metrics
from evaluation.summary import (
    AgentSummary,
    CurvePoint,
    Gap,
    Interval,
    PPOEquivalent,
    Protocol,
    Reference,
    SplitSummary,
    StepsTo,
    Summary,
    read_protocol,
    write_summary,
)
from evaluation.table import EPISODES_FILE, Episode, read_episodes

RANDOM, ORACLE, PPO = "random", "ppo-oracle", "ppo"
THRESHOLDS = (50, 80, 90)  # percent of the oracle


@dataclass(frozen=True)
class Curves:
    """All probes of one agent on one split: P probes, S seeds, T tasks.

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


def summarise_directory(directory: Path) -> Summary:
    """Read `episodes.csv` and `protocol.json`, write `summary.json`. Raises `UserError` where one cannot be read."""
    summary = summarise(read_episodes(directory / EPISODES_FILE), read_protocol(directory))
    write_summary(directory, summary)
    return summary


def summarise(episodes: Sequence[Episode], protocol: Protocol) -> Summary:
    """Every figure of an evaluation. Raises `UserError` for a table in which a probe is missing."""
    groups: dict[tuple[str, str], dict[str, list[Episode]]] = defaultdict(lambda: defaultdict(list))
    for row in episodes:
        groups[row.family, row.split][row.agent].append(row)
    order = sorted(groups, key=lambda key: (key[0], SPLITS.index(key[1])))
    results = tuple(_split_summary(family, split, groups[family, split], protocol) for family, split in order)
    return Summary(protocol, results, _gaps(results))


def curves_of(rows: Sequence[Episode]) -> Curves:
    """The probes of one agent on one split. Raises `UserError` where a seed, a task or a probe lacks its row."""
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


def _split_summary(family: str, split: str, agents: dict[str, list[Episode]], protocol: Protocol) -> SplitSummary:
    curves = {agent: curves_of(agents[agent]) for agent in sorted(agents, key=_agent_order)}
    scale = Scale(_reference(curves.get(RANDOM)), _reference(curves.get(ORACLE)))
    if family not in protocol.horizons:
        raise UserError(f"the table has episodes of '{family}', of which the protocol says nothing")
    return SplitSummary(
        family=family,
        version=next(iter(agents.values()))[0].version,
        split=split,
        budget_steps=protocol.episodes * protocol.horizons[family],
        normalised=scale.normalised,
        random=scale.random,
        oracle=scale.oracle,
        agents=tuple(
            _agent_summary(agent, curve, scale, curves.get(PPO), protocol.episodes, protocol.horizons[family])
            for agent, curve in curves.items()
        ),
    )


def _agent_order(agent: str) -> tuple[int, str]:
    names = list(AGENTS)
    return (names.index(agent) if agent in names else len(names), agent)


def _reference(curves: Curves | None) -> Reference | None:
    """An end of the scale: agents that are one do not learn, so all their probes measure the same."""
    if curves is None:
        return None
    result = metrics.interquartile_mean(curves.returns.mean(axis=0))
    return Reference(_number(result), _number(curves.success.mean()))


def _agent_summary(
    agent: str, curves: Curves, scale: Scale, ppo: Curves | None, budget_episodes: int, horizon: int
) -> AgentSummary:
    scores = scale.score(curves.returns)
    score, success = metrics.interquartile_mean(scores), metrics.mean(curves.success)
    # A generator of its own for each figure: adding an agent or a probe elsewhere changes no other interval.
    score_draws = metrics.bootstrap(metrics.interquartile_mean, scores, np.random.default_rng(0))
    success_draws = metrics.bootstrap(metrics.mean, curves.success, np.random.default_rng(0))
    steps, returns = metrics.mean(curves.steps), metrics.interquartile_mean(curves.returns)
    low, high = metrics.interval(score_draws)
    success_low, success_high = metrics.interval(success_draws)
    curve = tuple(
        CurvePoint(
            episode=int(curves.episodes[p]),
            env_steps=_number(steps[p]),
            episode_return=_number(returns[p]),
            success=_number(success[p]),
            success_low=_number(success_low[p]),
            success_high=_number(success_high[p]),
            score=_number(score[p]),
            low=_number(low[p]),
            high=_number(high[p]),
        )
        for p in range(len(curves.episodes))
    )
    last = int(np.flatnonzero(curves.episodes <= budget_episodes)[-1])
    area = metrics.area_weights(steps, max(budget_episodes * horizon, 1))
    return AgentSummary(
        agent=agent,
        seeds=curves.returns.shape[1],
        tasks=len(curves.tasks),
        adapts=curves.adapts,
        curve=curve,
        final=curve[last],
        gain=_interval(score[last] - score[0], score_draws[last] - score_draws[0]),
        gain_success=_interval(success[last] - success[0], success_draws[last] - success_draws[0]),
        auc=_interval(area @ score, area @ score_draws),
        steps_to=_steps_to(curves, scores) if scale.normalised else {},
        ppo_equivalent=() if ppo is None else _ppo_equivalent(curves, ppo),
        worst_decile=_number(metrics.worst_decile(scores[last])),
        improvement_over_ppo=None if ppo is None or agent == PPO else _improvement(curves, ppo, budget_episodes),
    )


def _steps_to(curves: Curves, scores: np.ndarray) -> dict[str, StepsTo]:
    found = {}
    for percent in THRESHOLDS:
        median, never = metrics.steps_to(curves.steps, scores, percent / 100)
        found[str(percent)] = StepsTo(None if median is None else _number(median), _number(never))
    return found


def _ppo_equivalent(curves: Curves, ppo: Curves) -> tuple[PPOEquivalent, ...]:
    ours, theirs = _on_common_tasks(curves, ppo)
    steps, returns = metrics.mean(ours.steps), metrics.interquartile_mean(ours.returns)
    ppo_steps, ppo_returns = metrics.mean(theirs.steps), metrics.interquartile_mean(theirs.returns)
    points = []
    for p, episode in enumerate(ours.episodes):
        needed, censored = metrics.equivalent_steps(ppo_steps, ppo_returns, float(returns[p]))
        points.append(PPOEquivalent(int(episode), _number(steps[p]), _number(needed), censored))
    return tuple(points)


def _improvement(curves: Curves, ppo: Curves, budget_episodes: int) -> Interval:
    ours, theirs = (
        one.returns[np.flatnonzero(one.episodes <= budget_episodes)[-1]] for one in _on_common_tasks(curves, ppo)
    )
    draws = metrics.bootstrap_improvement(ours, theirs, np.random.default_rng(0))
    return _interval(metrics.improvement(ours, theirs), draws)


def _on_common_tasks(curves: Curves, ppo: Curves) -> tuple[Curves, Curves]:
    """Both on the tasks that both met: PPO's long runs may be on fewer."""
    common = [task for task in curves.tasks if task in ppo.tasks]
    if not common:
        raise UserError("PPO from scratch and another agent have no task in common in this table")
    return curves.of_tasks(common), ppo.of_tasks(common)


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
                        score=_number(score) if seen.normalised and unseen.normalised else None,
                        success=_number(agent.final.success - theirs[agent.agent].success),
                    )
                )
    return tuple(gaps)


def _interval(value: float, draws: np.ndarray) -> Interval:
    low, high = metrics.interval(draws)
    return Interval(_number(value), _number(low), _number(high))


def _number(value: float | np.ndarray) -> float:
    """Six decimals: more would only be noise, and might differ from one machine's arithmetic to another's."""
    return round(float(value), 6) + 0.0  # the sum turns -0.0 into 0.0
