"""The goals of the benchmark `full`, and whether they are met: pure functions of what was measured.

They are about what is solved: a score also rises where a task is done better that was done before, or is done in part.
"After 5 episodes" is the last probe after at most 5 adaptation episodes: an agent that learns from rounds of 5 has one
right then, and so has one that learns within each episode. A goal for the better of maml and rl2 is measured on the one
that solves more after 5 episodes on that split; the note gives the other's figure.

A goal with a number is met where the point estimate reaches it. Where intervals are to be apart, the lower end of one
must be above the upper end of the other, each over runs and tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.against_ppo import Speed, speed
from evaluation.curves import ROBUST, Curves, longest_ppo
from evaluation.intervals import spread_of_means
from evaluation.results import parameters_of
from evaluation.summary import AgentSummary, CurvePoint, Goal, Race, SplitSummary, Verdict, rounded
from evaluation.table import TaskValues

PRESET_WITH_GOALS = "full"
EPISODES = 5
OTHER_EPISODES = (1, 10)  # whose ratio of steps is told beside
FAMILIES = ("grasp", "terrain")
ADAPTING = ("maml", "rl2")
SOLVED = {"test": 0.90, "ood": 0.75}
TIMES = 1000
UNSEEN_SHAPE_SUCCESS = 0.85

CurvesOfSplits = Mapping[tuple[str, str], Mapping[str, Curves]]


def goals_of(results: Sequence[SplitSummary], curves: CurvesOfSplits, tasks: TaskValues) -> tuple[Goal, ...]:
    """All goals, in the order in which they were set. curves: those that `results` was computed from."""
    splits = {(split.family, split.split): split for split in results}
    found = [_solved(splits, family, split) for split in SOLVED for family in FAMILIES]
    found += [_against_before(splits, family) for family in FAMILIES]
    found += [_against_robust(splits, family) for family in FAMILIES]
    found += [_against_ppo(splits, curves, family) for family in FAMILIES]
    return (*found, _unseen_shapes(splits, curves, tasks))


def unseen_tasks(family: str, listed: Sequence[Mapping[str, object]]) -> list[int]:
    """Numbers of the tasks whose kind (the family's first parameter that is a choice) no training task has."""
    kind = next((p for p in parameters_of(family) if p.train and isinstance(p.train[0], str)), None)
    if kind is None:
        return []
    return [number for number, values in enumerate(listed) if values.get(kind.name) not in kind.train]


def shown(goal: Goal) -> tuple[str, str]:
    """What was measured and its interval, in words; empty where nothing was."""
    if goal.measured is None or goal.low is None or goal.high is None:
        return "-", ""
    form = {"share": "{:.0%}", "times": "{:,.0f}x"}[goal.unit]
    value, low, high = (form.format(number) for number in (goal.measured, goal.low, goal.high))
    return f"{'> ' if goal.lower_bound else ''}{value}", f"{low} to {high}"


def _solved(splits: Mapping[tuple[str, str], SplitSummary], family: str, split: str) -> Goal:
    figure, goal = f"solved after {EPISODES} episodes", f"{SOLVED[split]:.0%} or more"
    best = _better(splits.get((family, split)))
    if isinstance(best, str):
        return _unmeasured(figure, family, split, goal, best)
    reached = _after(best.agent)
    verdict: Verdict = "met" if reached.success >= SOLVED[split] else "missed"
    notes = [_scores(best.split, reached)]
    if best.split.oracle is not None:
        notes.append(f"the oracle solves {best.split.oracle.success:.0%}")
    if verdict == "met" and reached.success_low < SOLVED[split]:
        notes.append("the interval reaches below the goal")
    return _goal(figure, best, goal, verdict, [*notes, best.other])


def _against_before(splits: Mapping[tuple[str, str], SplitSummary], family: str) -> Goal:
    figure, goal = f"solved after {EPISODES} episodes against before the first", "more, intervals apart"
    best = _better(splits.get((family, "test")))
    if isinstance(best, str):
        return _unmeasured(figure, family, "test", goal, best)
    before, after = best.agent.curve[0], _after(best.agent)
    verdict: Verdict = "met" if after.success_low > before.success_high else "missed"
    fell = "; it fell" if after.success < before.success else ""
    notes = [f"before {_in_words(before)}{fell}", f"before, {_scores(best.split, before)}"]
    notes.append(f"after, {_scores(best.split, after)}")
    if best.second is not None:
        notes.append(
            f"{best.second.agent}: before {_in_words(best.second.curve[0])}, after {_in_words(_after(best.second))}"
        )
    return _goal(figure, best, goal, verdict, notes)


def _against_robust(splits: Mapping[tuple[str, str], SplitSummary], family: str) -> Goal:
    figure, goal = f"solved after {EPISODES} episodes against {ROBUST}", "more, intervals apart"
    best = _better(splits.get((family, "test")))
    if isinstance(best, str):
        return _unmeasured(figure, family, "test", goal, best)
    robust = next((agent for agent in best.split.agents if agent.agent == ROBUST), None)
    if robust is None:
        return _unmeasured(figure, family, "test", goal, f"{ROBUST} was not measured")
    after = _after(best.agent)
    verdict: Verdict = "met" if after.success_low > robust.final.success_high else "missed"
    return _goal(figure, best, goal, verdict, [f"{ROBUST} {_in_words(robust.final)}", best.other])


def _against_ppo(splits: Mapping[tuple[str, str], SplitSummary], curves: CurvesOfSplits, family: str) -> Goal:
    figure = f"PPO-equivalent steps after {EPISODES} episodes over the steps spent"
    goal = f"{TIMES:,}x or more"
    best = _better(splits.get((family, "test")))
    if isinstance(best, str):
        return _unmeasured(figure, family, "test", goal, best)
    of_agent, ppo = curves[family, "test"][best.agent.agent], longest_ppo(curves[family, "test"])
    if ppo is None:
        return _unmeasured(figure, family, "test", goal, "ppo was not measured")
    found = speed(of_agent, ppo, EPISODES)
    if found is None:
        return _unmeasured(
            figure, family, "test", goal, f"a round of {best.agent.agent} takes more than {EPISODES} episodes"
        )
    budget = f"{float(ppo.steps[-1].mean()):,.0f}"
    runs = f"{ppo.runs} run{'s' if ppo.runs > 1 else ''} of ppo"
    notes = [f"on {len(set(ppo.tasks) & set(of_agent.tasks))} tasks, {runs}"]
    notes += [
        f"after {point.episode} episode{'s' if point.episode > 1 else ''}"
        f" {'> ' if point.censored else ''}{point.ppo_steps / point.env_steps:,.0f}x"
        for point in best.agent.ppo_equivalent
        if point.episode in OTHER_EPISODES and point.env_steps
    ]
    if best.agent.race is not None:
        notes.append(_race(best.agent.agent, best.agent.race))
    verdict: Verdict = "met" if found.times.value >= TIMES else "missed"
    if found.never:
        notes.append(f"a lower bound: ppo does not get there in its {budget} steps")
        verdict = "met" if verdict == "met" else "not measured"
    elif found.share_never >= 0.005:
        notes.append(f"in {found.share_never:.0%} of resamples ppo never gets there; then its {budget} steps count")
    second = best.second.agent if best.second else None
    other: Speed | None = speed(curves[family, "test"][second], ppo, EPISODES) if second else None
    if other is not None:
        notes.append(f"{second} {'> ' if other.never else ''}{other.times.value:,.0f}x")
    interval = found.times
    return Goal(
        figure, family, "test", best.agent.agent, goal, interval.value, interval.low, interval.high, verdict,
        "; ".join([*notes, *_when(best.agent)]), unit="times", lower_bound=found.never, runs=best.agent.seeds,
    )  # fmt: skip


def _race(agent: str, race: Race) -> str:
    """The steps of both sides to a share of the oracle."""
    reached = [row.env_steps for row in race.tasks if row.env_steps is not None]
    ppo = [row.ppo_steps for row in race.tasks if row.ppo_steps is not None]
    sides = [
        f"{name} {f'{min(steps):,.0f} to {max(steps):,.0f}' if steps else '-'} on {len(steps)} tasks"
        for name, steps in ((agent, reached), ("ppo", ppo))
    ]
    return f"steps to {race.percent} % of the oracle: {', '.join(sides)} of {len(race.tasks)}"


def _unseen_shapes(splits: Mapping[tuple[str, str], SplitSummary], curves: CurvesOfSplits, tasks: TaskValues) -> Goal:
    figure = f"success after {EPISODES} episodes on objects of unseen shape"
    goal = f"{UNSEEN_SHAPE_SUCCESS:.0%} or more"
    best = _better(splits.get(("grasp", "ood")))
    if isinstance(best, str):
        return _unmeasured(figure, "grasp", "ood", goal, best)
    unseen = unseen_tasks("grasp", tasks.get("grasp", {}).get("ood", []))
    of_agent = curves["grasp", "ood"][best.agent.agent]
    unseen = [task for task in unseen if task in of_agent.tasks]
    if not unseen:
        return _unmeasured(figure, "grasp", "ood", goal, "none of the tasks is of an unseen kind")
    values = _success(of_agent, unseen)
    value = float(values.mean())
    margin = float(spread_of_means(values).margin())
    low, high = max(value - margin, 0.0), min(value + margin, 1.0)
    notes = [f"{len(unseen)} of {len(of_agent.tasks)} tasks"]
    if best.second is not None:
        other = _success(curves["grasp", "ood"][best.second.agent], unseen)
        notes.append(f"{best.second.agent} {float(other.mean()):.0%}")
    verdict: Verdict = "met" if value >= UNSEEN_SHAPE_SUCCESS else "missed"
    if verdict == "met" and low < UNSEEN_SHAPE_SUCCESS:
        notes.append("the interval reaches below the goal")
    return Goal(
        figure, "grasp", "ood", best.agent.agent, goal, rounded(value), rounded(low), rounded(high), verdict,
        "; ".join([*notes, *_when(best.agent)]), runs=best.agent.seeds,
    )  # fmt: skip


@dataclass(frozen=True)
class _Better:
    """The better of the agents that adapt, the other one if there is one, and the other's figure in words."""

    split: SplitSummary
    agent: AgentSummary
    second: AgentSummary | None

    @property
    def other(self) -> str:
        if self.second is None:
            missing = next(name for name in ADAPTING if name != self.agent.agent)
            return f"{missing} was not measured"
        return f"{self.second.agent} {_in_words(_after(self.second))}"


def _better(split: SplitSummary | None) -> _Better | str:
    """Or why there is none."""
    if split is None:
        return "not part of this benchmark"
    found = sorted(
        (a for a in split.agents if a.agent in ADAPTING), key=lambda a: (-_after(a).success, -_after(a).mean_score)
    )
    if not found:
        return f"neither {' nor '.join(ADAPTING)} was measured"
    return _Better(split, found[0], found[1] if len(found) > 1 else None)


def _after(agent: AgentSummary) -> CurvePoint:
    return [point for point in agent.curve if point.episode <= EPISODES][-1]


def _success(curves: Curves, tasks: Sequence[int]) -> np.ndarray:
    """[seeds, tasks]"""
    return curves.of_tasks(tasks).success[curves.probe_by(EPISODES)]


def _when(agent: AgentSummary) -> list[str]:
    """A note where there is no probe after just as many episodes."""
    episode = _after(agent).episode
    return [] if episode == EPISODES else [f"{agent.agent}'s last probe by then is after {episode} episodes"]


def _in_words(point: CurvePoint) -> str:
    return f"{point.success:.0%} ({point.success_low:.0%} to {point.success_high:.0%})"


def _scores(split: SplitSummary, point: CurvePoint) -> str:
    """The two scores, of which neither stands alone."""
    what = "score" if split.normalised else "return"
    return f"mean {what} {point.mean_score:.2f}, interquartile mean {point.score:.2f}"


def _goal(figure: str, best: _Better, goal: str, verdict: Verdict, notes: list[str]) -> Goal:
    """A goal of the share solved after so many episodes."""
    where, reached = best.split, _after(best.agent)
    return Goal(
        figure, where.family, where.split, best.agent.agent, goal, reached.success, reached.success_low,
        reached.success_high, verdict, "; ".join([*notes, *_when(best.agent)]), runs=best.agent.seeds,
    )  # fmt: skip


def _unmeasured(figure: str, family: str, split: str, goal: str, why: str) -> Goal:
    return Goal(figure, family, split, "", goal, None, None, None, "not measured", why)
