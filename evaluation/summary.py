"""What `summary.json` and `protocol.json` say. `evaluation.summarise` computes the one from the table and the other."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError

from envs.errors import UserError
from evaluation.presets import LongBudget
from evaluation.sums import SUMS_FILE, write_checked
from evaluation.table import read_json, write_text

SUMMARY_FILE = "summary.json"
PROTOCOL_FILE = "protocol.json"

Verdict = Literal["met", "missed", "not measured"]
Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval over runs and tasks (`evaluation.intervals`); with one run, over tasks alone."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class CurvePoint:
    """One probe of an agent: how good it is after `episode` adaptation episodes.

    env_steps: mean steps spent on a task by then.
    episode_return: interquartile mean return over seeds and tasks. mean_return: the plain mean.
    success: share of episodes solved, with its 95 % interval success_low .. success_high.
    mean_score: the plain mean return on the scale random = 0, oracle = 1, with its interval mean_low .. mean_high.
    score: the interquartile mean on its own such scale, with low .. high. Without a scale both are returns.
    """

    episode: int
    env_steps: float
    episode_return: float
    mean_return: float
    mean_score: float
    mean_low: float
    mean_high: float
    success: float
    success_low: float
    success_high: float
    score: float
    low: float
    high: float


@dataclass(frozen=True)
class StepsTo:
    """Steps on the task until a share of the oracle's score was first reached.

    median: over the runs (seed x task); none where half or more of them never got there in the agent's whole budget.
    share_never: the share of runs that never got there.
    """

    median: float | None
    share_never: float


@dataclass(frozen=True)
class PPOEquivalent:
    """How many steps PPO from scratch needs for the return that the agent has after `episode` episodes.

    env_steps: what the agent had spent on the task by then.
    ppo_steps: the first crossing of PPO's own curve of probes; where `censored`, PPO's whole budget: the true number is
        larger, and unknown.
    tasks_to_pay: on how many tasks the agent must save these steps until its meta-training is paid for; at most so many
        where `censored`. None for an agent without meta-training, or one that saves nothing.
    """

    episode: int
    env_steps: float
    ppo_steps: float
    censored: bool
    tasks_to_pay: float | None


@dataclass(frozen=True)
class TaskRace:
    """Steps on one task until a share of the oracle's score: medians over the runs of each side; none for never.

    share_never, ppo_share_never: of the runs of each side.
    """

    task: int
    env_steps: float | None
    share_never: float
    ppo_steps: float | None
    ppo_share_never: float


@dataclass(frozen=True)
class Race:
    """An agent against PPO from scratch to `percent` of the oracle's score, on the tasks of both.

    opponent: the arm of PPO. runs, ppo_runs: how many each side has. ppo_budget: steps that PPO was given.
    times: median over tasks of PPO's steps over the agent's, these counted as one episode at least; a task that the
        agent never reaches counts 0, one that neither reaches is left out; none where none is left.
    lower_bound: PPO never gets there on so many tasks that `times` rests on its budget.
    """

    percent: int
    opponent: str
    runs: int
    ppo_runs: int
    ppo_budget: float
    tasks: tuple[TaskRace, ...]
    times: float | None
    lower_bound: bool


@dataclass(frozen=True)
class Adapting:
    """What an agent earned in the episodes that it learned from, exploring: means over those of the common budget.

    score: mean score, the plain mean; a return where the results are not `normalised`. success: share solved.
    """

    episodes: int
    score: Interval
    success: Interval


@dataclass(frozen=True)
class AgentSummary:
    """One arm on one split of one family.

    Its budget is the common one (`Protocol.episodes` on each task), or for a long arm `Protocol.long`.

    agent: name of the arm. seeds, tasks: how many of each it was measured on.
    adapts: whether any episode was given to it.
    curve: one point for each probe, from no adaptation on.
    final: the last point within the budget.
    gain: interquartile mean score at `final` minus that before any adaptation. gain_mean, gain_success: the same in
        the mean score and in success, of which the intervals are paired by run and task.
    adapting: what it earned while it adapted; none for an agent that does not, or whose episodes are not all recorded.
    auc: interquartile mean score over the budget (area under the curve over steps, divided by the steps).
    steps_to: keys "50", "80", "90": percent of the oracle; empty where the results are not normalised.
    ppo_equivalent: one for each point of `curve`, against the longest runs of PPO from scratch, on the tasks of both;
        empty where there is no PPO from scratch.
    race: to 80 % of the oracle against PPO from scratch; none where PPO had no more than the common budget.
    meta_steps: steps of meta-training, mean over the runs; none for an agent that was not trained before.
    worst_decile: mean score at `final` of the worst tenth of the tasks.
    improvement_over_ppo: probability that the agent's return at `final` beats that of PPO from scratch on that task,
        both with the common budget; none for a long arm.
    long: whether it had a budget of its own.
    """

    agent: str
    seeds: int
    tasks: int
    adapts: bool
    curve: tuple[CurvePoint, ...]
    final: CurvePoint
    gain: Interval
    gain_mean: Interval
    gain_success: Interval
    adapting: Adapting | None
    auc: Interval
    steps_to: dict[str, StepsTo]
    ppo_equivalent: tuple[PPOEquivalent, ...]
    race: Race | None
    meta_steps: float | None
    worst_decile: float
    improvement_over_ppo: Interval | None
    long: bool = False


@dataclass(frozen=True)
class Reference:
    """An end of the scale: interquartile mean return, mean return and share solved of random or oracle."""

    episode_return: float
    mean_return: float
    success: float


@dataclass(frozen=True)
class SplitSummary:
    """All agents on one split of one family, in the order in which the suite names them.

    normalised: scores are on the scale random = 0, oracle = 1; false where one of the two is missing, or where the
        oracle is no better than random: then scores are returns.
    budget_steps: the common budget in steps on a task: `Protocol.episodes` x the family's horizon.
    """

    family: str
    version: str
    split: str
    budget_steps: int
    normalised: bool
    random: Reference | None
    oracle: Reference | None
    agents: tuple[AgentSummary, ...]


@dataclass(frozen=True)
class Gap:
    """How an agent fares on another split: figures at `final` on `unseen` minus those on `seen`, negative for worse.

    score, mean_score: none where one of the two splits is not normalised.
    """

    family: str
    agent: str
    seen: str
    unseen: str
    score: float | None
    mean_score: float | None
    success: float


@dataclass(frozen=True)
class Goal:
    """One of the goals of a benchmark, and what was measured.

    figure: what is measured, in words. family, split: where. agent: on which one; empty where on none.
    goal: what it should be, in words.
    measured, low, high: the figure with its 95 % interval; none where it was not measured. runs: of the agent.
    verdict: by the point estimate, for goals that ask for intervals apart by the intervals.
    note: what else to know: the other agent's figure, what is missing, how to read it.
    unit: of `measured`: a share of episodes, or how many times as many steps.
    lower_bound: the true figure is `measured` or more.
    """

    figure: str
    family: str
    split: str
    agent: str
    goal: str
    measured: float | None
    low: float | None
    high: float | None
    verdict: Verdict
    note: str
    unit: Literal["share", "times"] = "share"
    lower_bound: bool = False
    runs: int = 0


@dataclass(frozen=True)
class Protocol:
    """How the episodes were played; `protocol.json` beside the table. It says all that decides the table's contents.

    name: the preset, or `evaluate`. command: what repeats it.
    families: {name: version}. splits, arms: what was measured on each of them.
    episodes: the common budget, in adaptation episodes on each task.
    probe_episodes: initial states that each probe is averaged over.
    explore_probes: probes sample actions; otherwise they take the policy's mode.
    tasks: how many of each split. task_seed: samples them and keys the initial states.
    seeds: those asked for; an agent of which one training run exists has one.
    horizons: {family: control steps in an episode}.
    checkpoints: {agent/family/seed: training run, the steps it took, and the digest of its weights}.
    versions: {quickstudy, python, torch, mujoco, ...: version}.
    long: what long arms were given in place of the common budget; none where there are none.
    """

    name: str
    command: str
    families: dict[str, str]
    splits: tuple[str, ...]
    arms: tuple[str, ...]
    episodes: Count
    probe_episodes: Count
    explore_probes: bool
    tasks: Count
    task_seed: Count
    seeds: tuple[Count, ...]
    horizons: dict[str, Count]
    checkpoints: dict[str, str]
    versions: dict[str, str]
    long: LongBudget | None = None


@dataclass(frozen=True)
class Summary:
    """`summary.json`. goals: those of the preset `full`; empty for anything else."""

    protocol: Protocol
    results: tuple[SplitSummary, ...]
    gaps: tuple[Gap, ...]
    goals: tuple[Goal, ...] = ()


D = TypeVar("D")


def rounded(value: float | np.ndarray) -> float:
    """Six decimals: more would only be noise, and might differ from one machine's arithmetic to another's."""
    return round(float(value), 6) + 0.0  # the sum turns -0.0 into 0.0


def write_protocol(directory: Path, protocol: Protocol) -> None:
    write_checked(directory / PROTOCOL_FILE, _json(protocol).encode())


def read_protocol(directory: Path) -> Protocol:
    """Raises `UserError` where the file is missing or is not one."""
    return _read(directory / PROTOCOL_FILE, Protocol)


def write_summary(directory: Path, summary: Summary) -> None:
    """With its sum, but in a folder that has no sums: what is computed from unchecked tables vouches for nothing."""
    path, text = directory / SUMMARY_FILE, _json(summary)
    if os.path.lexists(directory / SUMS_FILE):
        write_checked(path, text.encode())
    else:
        write_text(path, text)


def read_summary(directory: Path) -> Summary:
    """Raises `UserError` where the file is missing or is not one."""
    return _read(directory / SUMMARY_FILE, Summary)


def _json(data: Any) -> str:
    return json.dumps(dataclasses.asdict(data), indent=1, allow_nan=False) + "\n"


def _read(path: Path, kind: type[D]) -> D:
    try:
        return TypeAdapter(kind).validate_python(read_json(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{path}, '{where}': {first['msg']}") from None
