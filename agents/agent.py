"""The one protocol that every agent follows, and the data that crosses it.

Letters: T control steps, K tasks, E episodes per task (each in an environment of its own), O observation, A action.
Arrays are time first. A *round* is one episode in each of the K x E environments, all of the same length T.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from torch import Tensor

from envs.task import TaskFamily

M = TypeVar("M")


@dataclass(frozen=True)
class Sizes:
    """What an agent is built for: numbers in an observation, an action and a task's features; steps an episode."""

    observation: int
    action: int
    features: int
    horizon: int

    @classmethod
    def of(cls, family: TaskFamily[Any]) -> Sizes:
        return cls(family.observation_size, family.action_size, family.feature_size, family.horizon)


@dataclass(frozen=True)
class Decision:
    """What an agent does now: action [K, E, A], its log-probability [K, E] and the value estimate [K, E]."""

    action: Tensor
    log_prob: Tensor
    value: Tensor


@dataclass(frozen=True)
class Transition:
    """What came of it: action [K, E, A] as taken, reward [K, E], done [K, E] (terminated or truncated)."""

    action: Tensor
    reward: Tensor
    done: Tensor


@dataclass(frozen=True)
class Trajectories:
    """One round: an episode in each of K x E environments.

    obs [T, K, E, O], action [T, K, E, A], reward, log_prob, value [T, K, E] float32; terminated, truncated [T, K, E]
    bool; final_obs [K, E, O] is what followed the last step; success [K, E] bool is that of the last step; terms
    {name: [K, E]} are the episode's sums of each reward term; features [K, F] describe the tasks, for those who learn
    from being told afterwards. From the step after `terminated` on an environment is
    frozen: see `valid`.
    """

    obs: Tensor
    action: Tensor
    reward: Tensor
    log_prob: Tensor
    value: Tensor
    terminated: Tensor
    truncated: Tensor
    final_obs: Tensor
    success: Tensor
    terms: dict[str, Tensor]
    features: Tensor

    @property
    def valid(self) -> Tensor:
        """[T, K, E] bool: steps that an environment really took."""
        return self.valid_within(1)

    def valid_within(self, rounds: int) -> Tensor:
        """[T, K, E] bool: the same for `rounds` rounds that lie one after the other (see `concatenate`)."""
        terminated = self.terminated.reshape(rounds, -1, *self.terminated.shape[1:])
        ended_before = torch.zeros_like(terminated)
        ended_before[:, 1:] = terminated[:, :-1].cumsum(1) > 0
        return ~ended_before.reshape(self.terminated.shape)

    @property
    def returns(self) -> Tensor:
        """[K, E] undiscounted return of each episode."""
        return self.reward.sum(0)


class Agent(Protocol[M]):
    """Acts in K x E environments at once and learns about their K tasks as episodes pass.

    M, the memory, is all that the agent has learned about the tasks at hand; `fresh` makes one that knows nothing.
    Methods never change the agent itself nor the memory passed in, except `update` of a `Learner`.

    episodes_per_round: how many episodes of each task the agent wants to see before it adapts.
    privileged: the agent's observations carry the task's features (the oracle, and no other).
    """

    name: ClassVar[str]
    privileged: ClassVar[bool]

    @property
    def episodes_per_round(self) -> int: ...

    def fresh(self, k: int, e: int, generator: torch.Generator) -> M:
        """Memory for k new tasks in k x e environments; all of the agent's randomness comes from `generator`."""
        ...

    def act(self, memory: M, obs: Tensor, explore: bool) -> tuple[Decision, M]:
        """Actions for obs [K, E, O]; without `explore`, the mode of the policy (nothing random)."""
        ...

    def observe(self, memory: M, transition: Transition) -> M:
        """Take in what the last action brought."""
        ...

    def adapt(self, memory: M, trajectories: Trajectories) -> M:
        """Learn from a whole round."""
        ...


class Learner(Agent[M], Protocol[M]):
    """An agent that can be meta-trained. One iteration collects `rounds` rounds, adapting between them, then updates.

    config: the frozen dataclass that, with the family's sizes, rebuilds the agent.
    check_training: optional; raises `UserError` where these settings can be loaded but should not be trained with.
    meta_batch_size: tasks per iteration; train_episodes: environments per task per round.
    """

    config: Any

    @property
    def meta_batch_size(self) -> int: ...

    @property
    def train_episodes(self) -> int: ...

    @property
    def rounds(self) -> int: ...

    def update(self, rounds: list[Trajectories], generator: torch.Generator, progress: float = 0.0) -> dict[str, float]:
        """One meta-update from the rounds of one iteration; returns metrics, keyed by TensorBoard tag (`train/...`).

        progress: the share of the training's steps that were taken before this iteration, for what changes with it.
        It may raise FloatingPointError where numbers are not finite; the update is then taken back.
        """
        ...

    def state(self) -> dict[str, Tensor]:
        """Everything that training changes: weights, optimiser moments, counters, by name."""
        ...

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore `state()`. Raises KeyError or ValueError where names or shapes do not fit."""
        ...


def concatenate(rounds: list[Trajectories]) -> Trajectories:
    """Rounds one after the other along time: [R * T, K, E, ...]; what is not of steps is the last round's."""
    last = ("final_obs", "success", "terms", "features")
    joined: dict[str, Any] = {
        field.name: torch.cat([getattr(r, field.name) for r in rounds], dim=0)
        for field in fields(Trajectories)
        if field.name not in last
    }
    return Trajectories(**joined, **{name: getattr(rounds[-1], name) for name in last})
