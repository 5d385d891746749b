"""Where the time of a meta-iteration goes, measured from outside: callables are wrapped while the block runs."""

from __future__ import annotations

import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from inspect import getmembers, isfunction
from typing import Any
from unittest.mock import patch

from stable_baselines3.common.buffers import RolloutBuffer

import agents.advantages
import training.loop
from agents.agent import Learner
from envs.simulation import TaskBatch
from envs.task import TaskFamily

NOT_ADVANTAGES = ("masked_mean",)  # a part of the losses too


class Stopwatch:
    """Seconds by phase. own: without the phases called from within; total: with them.

    Phases nest as calls do. Other threads than the one that made the stopwatch are not measured: whoever waits for them
    is.
    """

    def __init__(self) -> None:
        self.own: dict[str, float] = defaultdict(float)
        self.total: dict[str, float] = defaultdict(float)
        self._open: list[tuple[str, list[float]]] = []
        self._thread = threading.get_ident()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """The block belongs to this phase."""
        if threading.get_ident() != self._thread:
            yield
            return
        inner = [0.0]
        outermost = name not in [opened for opened, _ in self._open]
        self._open.append((name, inner))
        begin = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - begin
            self._open.pop()
            self.own[name] += seconds - inner[0]
            if outermost:
                self.total[name] += seconds
            if self._open:
                self._open[-1][1][0] += seconds

    def wrap(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        """The same callable, its calls belonging to the phase."""

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.phase(name):
                return function(*args, **kwargs)

        return timed


@contextmanager
def watched(learner: Learner[Any], family: TaskFamily[Any]) -> Iterator[Stopwatch]:
    """Time what `training.loop.iterate` does with this learner and family in the block.

    physics: `mujoco.batch`'s step. environment: the rest of `TaskBatch.step` (observations, rewards, checks).
    policy: `fresh`, `act`, `observe`. tasks: drawing and compiling them, and resets. collecting: what else the loop
    between agent and environment does. advantages: whatever `agents.advantages` provides, and stable-baselines3's GAE,
    wherever it is called from. adaptation, update: the learner's `adapt` and `update`.
    """
    watch = Stopwatch()
    with ExitStack() as stack:

        def time_as(phase: str, owner: Any, *names: str) -> None:
            for name in names:
                if hasattr(owner, name):
                    stack.enter_context(patch.object(owner, name, watch.wrap(getattr(owner, name), phase)))

        def batch(*args: Any, **kwargs: Any) -> TaskBatch:
            with watch.phase("tasks"):
                made = TaskBatch(*args, **kwargs)
            time_as("tasks", made, "reset")
            time_as("environment", made, "step")
            time_as("physics", made._batch, "step")
            return made

        stack.enter_context(patch.object(training.loop, "TaskBatch", batch))
        time_as("collecting", training.loop, "collect")
        time_as("tasks", family, "sample")
        time_as("policy", learner, "fresh", "act", "observe")
        time_as("adaptation", learner, "adapt")
        time_as("update", learner, "update")
        time_as("advantages", learner, "step_data", "advantages")
        time_as("advantages", RolloutBuffer, "compute_returns_and_advantage")
        for function in _advantage_functions():
            for module in list(sys.modules.values()):
                if getattr(module, "__name__", "").startswith("agents."):
                    for name in [name for name, value in vars(module).items() if value is function]:
                        time_as("advantages", module, name)
        yield watch


def _advantage_functions() -> list[Callable[..., Any]]:
    return [
        function
        for name, function in getmembers(agents.advantages, isfunction)
        if function.__module__ == agents.advantages.__name__ and name not in NOT_ADVANTAGES and not name.startswith("_")
    ]
