"""Actions drawn uniformly: the floor that scores are measured from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from agents.agent import Decision, Sizes, Trajectories, Transition


@dataclass(frozen=True)
class RandomConfig:
    """A random agent has nothing to set."""


@dataclass(frozen=True)
class RandomMemory:
    generator: torch.Generator


class RandomAgent:
    """Uniform actions in [-1, 1], exploring or not."""

    name: ClassVar[str] = "random"
    privileged: ClassVar[bool] = False
    config_type: ClassVar[type] = RandomConfig
    episodes_per_round = 1

    def __init__(self, config: RandomConfig, sizes: Sizes, generator: torch.Generator) -> None:
        self.config = config
        self._action_size = sizes.action

    def fresh(self, k: int, e: int, generator: torch.Generator) -> RandomMemory:
        return RandomMemory(generator)

    def act(self, memory: RandomMemory, obs: Tensor, explore: bool) -> tuple[Decision, RandomMemory]:
        shape = obs.shape[:2]
        action = torch.rand((*shape, self._action_size), generator=memory.generator) * 2 - 1
        return Decision(action, torch.zeros(shape), torch.zeros(shape)), memory

    def observe(self, memory: RandomMemory, transition: Transition) -> RandomMemory:
        return memory

    def adapt(self, memory: RandomMemory, trajectories: Trajectories) -> RandomMemory:
        return memory

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: Any) -> None:
        """There is nothing to load."""
