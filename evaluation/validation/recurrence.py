"""RL²: what its memory holds and for how long, seen from outside while it plays, and that the memory is what pays.

Letters: T steps of an episode, K tasks, E trials of each side by side, N = K * E.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from agents import gaussian_policy
from agents.agent import Sizes, Trajectories, Transition, concatenate
from agents.rl2 import RL2, RL2Config, RL2Memory
from envs.families import make_family
from envs.simulation import TaskBatch
from evaluation.protocol import held_out_tasks
from evaluation.validation.check import Check, close, holds
from training.collect import collect
from training.run import load_agent

FAMILY, K, E, EPISODES = "bandit", 6, 2, 3
REPLAY = 1e-5  # float32: the rollout goes step by step, the update through whole trials
TRAINED, TASKS = "rl2/terrain-planar", 60  # an agent that comes with the suite


@dataclass(frozen=True)
class Trial:
    """Rounds of one trial, and the memory with which each of its T * EPISODES steps began."""

    rounds: list[Trajectories]
    memories: list[RL2Memory]


class Watched:
    """An RL2 whose memory is noted before every action."""

    def __init__(self, agent: RL2) -> None:
        self._agent = agent
        self.memories: list[RL2Memory] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._agent, name)

    def act(self, memory: RL2Memory, obs: Tensor, explore: bool) -> Any:
        self.memories.append(memory)
        return self._agent.act(memory, obs, explore)


def untrained() -> RL2:
    """Its reward_scale is no power of two, so that a reward that was scaled twice would show."""
    config = RL2Config(hidden_size=16, episodes_per_trial=EPISODES, reward_scale=3.0)
    family = make_family(FAMILY)
    generator = torch.Generator().manual_seed(3)
    return RL2(config, Sizes.of(family), generator)


def play(agent: RL2, seed: int) -> Trial:
    """One trial on the tasks of that seed, from a fresh memory."""
    family = make_family(FAMILY)
    watched: Any = Watched(agent)  # all that it lacks of an agent it takes from the one inside
    batch = TaskBatch(family, family.sample("train", K, np.random.default_rng(seed)), E, threads=1)
    memory, rounds = agent.fresh(K, E, torch.Generator().manual_seed(seed)), []
    for episode in range(EPISODES):
        trajectories, memory = collect(watched, memory, batch, seed=seed, episode=episode)
        memory = agent.adapt(memory, trajectories)
        rounds.append(trajectories)
    return Trial(rounds, watched.memories)


def replay(agent: RL2, trial: Trial) -> list[Check]:
    """What an update computes from a whole trial against what the rollout noted step by step."""
    whole = concatenate(trial.rounds)
    with torch.no_grad():
        mean, states = agent.policy(agent.replay_inputs(whole), torch.zeros(K * E, agent.config.hidden_size))
        log_std = agent.policy.log_std.clamp(min=gaussian_policy.MIN_LOG_STD)
        log_prob = gaussian_policy.log_prob(mean, log_std, whole.action.reshape(len(mean), K * E, -1))
    meaning = "one pass over the whole trial against the steps as they were played"
    noted_states = torch.stack([memory.hidden for memory in trial.memories[1:]])
    pairs = {"log-probabilities": (log_prob, whole.log_prob), "states": (states[:-1], noted_states)}
    return [
        close(
            f"RL²: replayed {name}",
            meaning,
            float((replayed - noted.reshape(replayed.shape)).abs().max()),
            REPLAY,
            f"of {replayed.numel()} steps",
        )
        for name, (replayed, noted) in pairs.items()
    ]


def memory_is_kept(agent: RL2, first: Trial, second: Trial) -> list[Check]:
    """Fresh before the first step of a trial; before every later one, the state that the step before it left."""
    horizon = len(first.rounds[0].obs)
    knows_something = [
        int(torch.count_nonzero(part))
        for trial in (first, second)
        for part in (value for value in vars(trial.memories[0]).values() if isinstance(value, Tensor))
    ]
    lost = 0
    observations = torch.cat([played.obs for played in first.rounds])
    for step in range(1, len(first.memories)):
        _, left = agent.act(first.memories[step - 1], observations[step - 1], explore=False)
        kept = first.memories[step].hidden
        lost += not (torch.equal(left.hidden, kept) and bool(torch.count_nonzero(kept)))
    boundaries = ", ".join(str(horizon * episode) for episode in range(1, EPISODES))
    return [
        holds("RL²: a trial begins with nothing", "numbers other than zero in a fresh memory", sum(knows_something)),
        holds(
            "RL²: memory lasts for the trial",
            "steps that began with nothing, or not with the state that the step before them left, bit for bit",
            lost,
            f"of {len(first.memories) - 1}; episodes end before steps {boundaries}",
        ),
    ]


def feedback_is_read(agent: RL2, trial: Trial) -> list[Check]:
    """The last reward and done of an episode, at the first step of the next."""
    horizon, misread, deaf = len(trial.rounds[0].obs), 0, 0
    for episode in range(1, EPISODES):
        before, memory = trial.rounds[episode - 1], trial.memories[episode * horizon]
        misread += int((memory.reward != agent.config.reward_scale * before.reward[-1].reshape(-1, 1)).sum())
        misread += int((memory.done != 1).sum())
        misread += int((trial.memories[episode * horizon - 1].done != 0).sum())
        action, obs = before.action[-1], trial.rounds[episode].obs[0]
        done = torch.ones(K, E, dtype=torch.bool)
        decided = [
            agent.act(agent.observe(memory, Transition(action, reward, ended)), obs, explore=False)[0].action
            for reward, ended in ((before.reward[-1], done), (before.reward[-1] + 1, done), (before.reward[-1], ~done))
        ]
        deaf += sum(int((other == decided[0]).all(-1).sum()) for other in decided[1:])
    meaning = "at the first step of the next episode: environments whose memory says otherwise"
    return [
        holds("RL²: an episode's last reward and done are kept", meaning, misread),
        holds(
            "RL²: the network reads them",
            "environments whose first action is the same whatever that reward and done were",
            deaf,
        ),
    ]


def mixed(memory: RL2Memory, episodes: int) -> RL2Memory:
    """Every task's memory given to the next task, trial by trial."""
    parts = {
        field.name: getattr(memory, field.name).roll(episodes, 0)
        for field in dataclasses.fields(memory)
        if isinstance(getattr(memory, field.name), Tensor)
    }
    return dataclasses.replace(memory, **parts)


def last_returns(reference: str, tasks: int, between: Callable[[RL2Memory], RL2Memory]) -> np.ndarray:
    """[tasks]: a trained agent's return in the last episode of a trial; `between` changes its memory."""
    loaded = load_agent(reference)
    agent, family = loaded.agent, loaded.family
    batch = TaskBatch(family, held_out_tasks(family, "test", tasks, 0), 1, threads=0)
    memory, returns = agent.fresh(tasks, 1, torch.Generator().manual_seed(0)), np.zeros(tasks)
    for episode in range(agent.config.episodes_per_trial):
        trajectories, memory = collect(agent, memory, batch, seed=0, episode=episode, explore=False)
        memory = between(agent.adapt(memory, trajectories))
        returns = trajectories.returns.mean(1).double().numpy()
    return returns


def shuffled_history(reference: str = TRAINED, tasks: int = TASKS) -> Check:
    """Paired over held-out tasks: the same starts, with its own memory and with that of another task."""
    own = last_returns(reference, tasks, lambda memory: memory)
    others = last_returns(reference, tasks, lambda memory: mixed(memory, 1))
    loss = own - others
    error = loss.std(ddof=1) / np.sqrt(tasks)
    return Check(
        f"RL²: a shuffled history makes it worse ({reference})",
        "lower end of the 95 % interval of what another task's memory costs in the last episode",
        ">",  # an agent that uses no memory loses exactly nothing
        0.0,
        float(loss.mean() - 1.96 * error),
        detail=f"return {own.mean():.1f} with its own memory, {others.mean():.1f} with another's, {tasks} tasks",
    )


def checks() -> list[Check]:
    agent = untrained()
    first, second = play(agent, 0), play(agent, 1)
    return [
        *replay(agent, first),
        *memory_is_kept(agent, first, second),
        *feedback_is_read(agent, first),
        shuffled_history(),
    ]
