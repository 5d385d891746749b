"""The goals of the benchmark `full`, and whether they are met: pure functions of what was measured.

"After 5 episodes" is the last probe after at most 5 adaptation episodes: an agent that learns from rounds of 5 has one
right then, and so has one that learns within each episode. A goal for the better of maml and rl2 is measured on the one
with the higher score after 5 episodes on that split; the note gives the other's figure.

A goal with a number is met where the point estimate reaches it. Where intervals are to be apart, the lower end of one
must be above the upper end of the other, each from the bootstrap over seeds and tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from evaluation import metrics
from evaluation.curves import ROBUST, Curves, longest_ppo, on_common_tasks
from evaluation.results import parameters_of
from evaluation.summary import AgentSummary, CurvePoint, Goal, Interval, SplitSummary, Verdict, rounded
from evaluation.table import TaskValues

PRESET_WITH_GOALS = "full"
EPISODES = 5
FAMILIES = ("grasp", "terrain")
ADAPTING = ("maml", "rl2")
SCORES = {"test": 0.90, "ood": 0.75}
TIMES = 1000
UNSEEN_SHAPE_SUCCESS = 0.85

CurvesOfSplits = Mapping[tuple[str, str], Mapping[str, Curves]]


@dataclass(frozen=True)
class Speed:
    """How many times as many steps PPO needs, with its interval.

    never: PPO did not get there, and the figure is a lower bound. share_never: share of the resamples in which it did
        not; their figures are lower bounds too.
    """

    times: Interval
    never: bool
    share_never: float


def goals_of(results: Sequence[SplitSummary], curves: CurvesOfSplits, tasks: TaskValues) -> tuple[Goal, ...]:
    """All goals, in the order in which they were set. curves: those that `results` was computed from."""
    splits = {(split.family, split.split): split for split in results}
    found = [_score(splits, family, split) for split in SCORES for family in FAMILIES]
    found += [_against_before(splits, family) for family in FAMILIES]
    found += [_against_robust(splits, family) for family in FAMILIES]
    found += [_against_ppo(splits, curves, family) for family in FAMILIES]
    return (*found, _unseen_shapes(splits, curves, tasks))


def speed(ours: Curves, ppo: Curves, episodes: int, draws: int = 2000) -> Speed | None:
    """Steps that PPO needs for the return that an agent has after so many episodes, over those it had spent by then.

    None where it had spent none. Both on the tasks of both; resampled together: seeds of each apart, tasks in common.
    """
    ours, ppo = on_common_tasks(ours, ppo)
    probe = ours.probe_by(episodes)
    if not ours.steps[probe].any():
        return None
    rng = np.random.default_rng(0)

    def ratio(our_seeds: np.ndarray, ppo_seeds: np.ndarray, chosen: np.ndarray) -> tuple[float, bool]:
        our_runs, ppo_runs = np.ix_(our_seeds, chosen), np.ix_(np.arange(len(ppo.episodes)), ppo_seeds, chosen)
        target = float(metrics.interquartile_mean(ours.returns[probe][our_runs]))
        steps, returns = metrics.mean(ppo.steps[ppo_runs]), metrics.interquartile_mean(ppo.returns[ppo_runs])
        needed, censored = metrics.equivalent_steps(steps, returns, target)
        return needed / float(ours.steps[probe][our_runs].mean()), censored

    sizes = ours.returns.shape[1], ppo.returns.shape[1], len(ours.tasks)
    value, never = ratio(*(np.arange(size) for size in sizes))
    drawn = [ratio(*(rng.integers(size, size=size) for size in sizes)) for _ in range(draws)]
    low, high = metrics.interval(np.array([times for times, _ in drawn]))
    times = Interval(rounded(value), rounded(low), rounded(high))
    return Speed(times, never, rounded(float(np.mean([censored for _, censored in drawn]))))


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
    form = {"score": "{:.2f}", "share": "{:.0%}", "times": "{:,.0f}x"}[goal.unit]
    value, low, high = (form.format(number) for number in (goal.measured, goal.low, goal.high))
    return f"{'> ' if goal.lower_bound else ''}{value}", f"{low} to {high}"


def _score(splits: Mapping[tuple[str, str], SplitSummary], family: str, split: str) -> Goal:
    figure, goal = f"score after {EPISODES} episodes", f"{SCORES[split]:.2f} or more"
    best = _better(splits.get((family, split)))
    if isinstance(best, str):
        return _unmeasured(figure, family, split, goal, best)
    reached = _after(best.agent)
    verdict: Verdict = "met" if reached.score >= SCORES[split] else "missed"
    notes = [best.other, *_when(best.agent)]
    if verdict == "met" and reached.low < SCORES[split]:
        notes.append("the interval reaches below the goal")
    return _goal(figure, best, goal, reached, verdict, notes)


def _against_before(splits: Mapping[tuple[str, str], SplitSummary], family: str) -> Goal:
    figure, goal = f"score after {EPISODES} episodes against before the first", "higher, intervals apart"
    best = _better(splits.get((family, "test")))
    if isinstance(best, str):
        return _unmeasured(figure, family, "test", goal, best)
    before, after = best.agent.curve[0], _after(best.agent)
    verdict: Verdict = "met" if after.low > before.high else "missed"
    notes = [f"before {_in_words(before)}"]
    if best.second is not None:
        notes.append(
            f"{best.second.agent}: before {_in_words(best.second.curve[0])}, after {_in_words(_after(best.second))}"
        )
    return _goal(figure, best, goal, after, verdict, [*notes, *_when(best.agent)])


def _against_robust(splits: Mapping[tuple[str, str], SplitSummary], family: str) -> Goal:
    figure, goal = f"score after {EPISODES} episodes against {ROBUST}", "higher, intervals apart"
    best = _better(splits.get((family, "test")))
    if isinstance(best, str):
        return _unmeasured(figure, family, "test", goal, best)
    robust = next((agent for agent in best.split.agents if agent.agent == ROBUST), None)
    if robust is None:
        return _unmeasured(figure, family, "test", goal, f"{ROBUST} was not measured")
    after = _after(best.agent)
    verdict: Verdict = "met" if after.low > robust.final.high else "missed"
    return _goal(
        figure, best, goal, after, verdict, [f"{ROBUST} {_in_words(robust.final)}", best.other, *_when(best.agent)]
    )


def _against_ppo(splits: Mapping[tuple[str, str], SplitSummary], curves: CurvesOfSplits, family: str) -> Goal:
    figure = f"PPO-equivalent steps after {EPISODES} episodes over the steps spent"
    goal = f"{TIMES:,}x or more"
    best = _better(splits.get((family, "test")))
    if isinstance(best, str):
        return _unmeasured(figure, family, "test", goal, best)
    ppo = longest_ppo(curves[family, "test"])
    if ppo is None:
        return _unmeasured(figure, family, "test", goal, "ppo was not measured")
    found = speed(curves[family, "test"][best.agent.agent], ppo, EPISODES)
    if found is None:
        return _unmeasured(
            figure, family, "test", goal, f"a round of {best.agent.agent} takes more than {EPISODES} episodes"
        )
    budget = f"{float(ppo.steps[-1].mean()):,.0f}"
    notes = [f"on {len(set(ppo.tasks) & set(curves[family, 'test'][best.agent.agent].tasks))} tasks"]
    verdict: Verdict = "met" if found.times.value >= TIMES else "missed"
    if found.never:
        notes.append(f"a lower bound: ppo does not get there in its {budget} steps")
        verdict = "met" if verdict == "met" else "not measured"
    elif found.share_never > 0:
        notes.append(f"in {found.share_never:.0%} of resamples ppo never gets there; then its {budget} steps count")
    second = best.second.agent if best.second else None
    other = speed(curves[family, "test"][second], ppo, EPISODES) if second else None
    if other is not None:
        notes.append(f"{second} {'> ' if other.never else ''}{other.times.value:,.0f}x")
    interval = found.times
    return Goal(
        figure, family, "test", best.agent.agent, goal, interval.value, interval.low, interval.high, verdict,
        "; ".join([*notes, *_when(best.agent)]), unit="times", lower_bound=found.never,
    )  # fmt: skip


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
    low, high = metrics.interval(metrics.bootstrap(metrics.mean, values, np.random.default_rng(0)))
    notes = [f"{len(unseen)} of {len(of_agent.tasks)} tasks"]
    if best.second is not None:
        other = _success(curves["grasp", "ood"][best.second.agent], unseen)
        notes.append(f"{best.second.agent} {float(other.mean()):.0%}")
    verdict: Verdict = "met" if value >= UNSEEN_SHAPE_SUCCESS else "missed"
    if verdict == "met" and low < UNSEEN_SHAPE_SUCCESS:
        notes.append("the interval reaches below the goal")
    return Goal(
        figure, "grasp", "ood", best.agent.agent, goal, rounded(value), rounded(low), rounded(high), verdict,
        "; ".join([*notes, *_when(best.agent)]), unit="share",
    )  # fmt: skip


@dataclass(frozen=True)
class _Better:
    """The better of the agents that adapt, the other one if there is one, and the other's score in words."""

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
    if not split.normalised:
        return "no scale: random or oracle is missing, or the oracle is no better than random"
    found = sorted((a for a in split.agents if a.agent in ADAPTING), key=lambda a: -_after(a).score)
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
    return f"{point.score:.2f} ({point.low:.2f} to {point.high:.2f})"


def _goal(figure: str, best: _Better, goal: str, reached: CurvePoint, verdict: Verdict, notes: list[str]) -> Goal:
    where = best.split
    return Goal(
        figure, where.family, where.split, best.agent.agent, goal, reached.score, reached.low, reached.high, verdict,
        "; ".join(notes),
    )  # fmt: skip


def _unmeasured(figure: str, family: str, split: str, goal: str, why: str) -> Goal:
    return Goal(figure, family, split, "", goal, None, None, None, "not measured", why)
