"""What `summary.json` says, and how it is computed from the raw table: the same table gives the same bytes."""

from __future__ import annotations

from dataclasses import dataclass

SUMMARY_FILE = "summary.json"
PROTOCOL_FILE = "protocol.json"


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % bootstrap interval over seeds and tasks."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class CurvePoint:
    """One probe of an agent: how good it is after `episode` adaptation episodes.

    env_steps: mean steps spent on a task by then.
    episode_return: interquartile mean return over seeds and tasks.
    success: mean success, with its 95 % interval success_low .. success_high.
    score: the return on the scale random = 0, oracle = 1, with its 95 % interval low .. high; where the results are not
        `normalised`, the return itself.
    """

    episode: int
    env_steps: float
    episode_return: float
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
    """

    episode: int
    env_steps: float
    ppo_steps: float
    censored: bool


@dataclass(frozen=True)
class AgentSummary:
    """One agent on one split of one family.

    `final`, `gain`, `auc`, `worst_decile` and `improvement_over_ppo` are within the common budget (`Protocol.episodes` on
    each task); `curve`, `steps_to` and `ppo_equivalent` go as far as the agent went.

    agent: its name. seeds, tasks: how many of each it was measured on. adapts: whether any episode was given to it.
    curve: one point for each probe, from no adaptation on.
    final: the last point within the common budget.
    gain: score at `final` minus score before any adaptation. gain_success: the same in success.
    auc: mean score over the common budget (area under the curve over steps, divided by the steps).
    steps_to: keys "50", "80", "90": percent of the oracle; empty where the results are not normalised.
    ppo_equivalent: one for each point of `curve`; empty where there is no PPO from scratch.
    worst_decile: mean score at `final` of the worst tenth of the tasks.
    improvement_over_ppo: probability that the agent's return at `final` beats that of PPO from scratch on that task.
    """

    agent: str
    seeds: int
    tasks: int
    adapts: bool
    curve: tuple[CurvePoint, ...]
    final: CurvePoint
    gain: Interval
    gain_success: Interval
    auc: Interval
    steps_to: dict[str, StepsTo]
    ppo_equivalent: tuple[PPOEquivalent, ...]
    worst_decile: float
    improvement_over_ppo: Interval | None


@dataclass(frozen=True)
class Reference:
    """An end of the scale: interquartile mean return and mean success of the random agent or the oracle."""

    episode_return: float
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
    """How much worse an agent is on another split: figures at `final` on `seen` minus those on `unseen`.

    score: none where one of the two splits is not normalised.
    """

    family: str
    agent: str
    seen: str
    unseen: str
    score: float | None
    success: float


@dataclass(frozen=True)
class Protocol:
    """How the episodes were played; `protocol.json` beside the table.

    name: the preset, or `evaluate`. command: what repeats it.
    episodes: the common budget, in adaptation episodes on each task.
    probe_episodes: initial states that each probe is averaged over. explore: probes sample actions; otherwise the mode.
    ppo_env_steps: what PPO, from scratch and fine-tuned, was given on each task beyond the common budget; 0 for nothing.
    tasks: how many of each split. task_seed: samples them and keys the initial states. seeds: those asked for.
    horizons: {family: control steps in an episode}. checkpoints: {agent/family/seed: where its weights came from}.
    versions: {quickstudy, python, mujoco, torch, numpy: version}.
    """

    name: str
    command: str
    episodes: int
    probe_episodes: int
    explore: bool
    ppo_env_steps: int
    tasks: int
    task_seed: int
    seeds: tuple[int, ...]
    horizons: dict[str, int]
    checkpoints: dict[str, str]
    versions: dict[str, str]


@dataclass(frozen=True)
class Summary:
    """`summary.json`."""

    protocol: Protocol
    results: tuple[SplitSummary, ...]
    gaps: tuple[Gap, ...]
