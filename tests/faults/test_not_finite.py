"""NaN and infinity wherever they can come from: the episode ends or the update is not made, it is counted, and training
goes on with weights that are finite. Where it never stops, training ends with a reason and exit code 3."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import probes
import pytest
import torch
from lives import SETTINGS
from rich.console import Console

import quickstudy
from agents.agent import Decision
from agents.catalogue import agent_class, make_agent
from agents.meta_gradient import MetaObjective
from envs.simulation import TaskBatch
from envs.task import Simulation
from training import checkpoint
from training.collect import collect
from training.config import run_config_from_data
from training.train import PATIENCE, TrainingDiverged, train

VALUES = (math.nan, math.inf, -math.inf)
ITERATIONS = 4


class Fault:
    """Puts a value in one place, once in iteration 2 or, `always`, whenever it can."""

    def __init__(self, value: float, always: bool) -> None:
        self.value, self.always, self.calls, self.done = value, always, 0, 0

    def is_now(self, after: int) -> bool:
        """Counts the calls; the fault comes in the first one after so many."""
        self.calls += 1
        if self.calls > after and (self.always or not self.done):
            self.done += 1
            return True
        return False


def in_observation(patch: pytest.MonkeyPatch, fault: Fault, learner: type) -> None:
    observe = probes.ProbeFamily.observe

    def faulty(self: Any, sim: Simulation) -> np.ndarray:
        observed = observe(self, sim)
        if sim.step[0] == 3 and fault.is_now(2):
            observed[slice(None) if fault.always else 1, 0] = fault.value
        return observed

    patch.setattr(probes.ProbeFamily, "observe", faulty)


def in_reward(patch: pytest.MonkeyPatch, fault: Fault, learner: type) -> None:
    reward = probes.ProbeFamily.reward

    def faulty(self: Any, sim: Simulation, action: np.ndarray) -> dict[str, np.ndarray]:
        terms = reward(self, sim, action)
        if sim.step[0] == 3 and fault.is_now(2):
            terms["near"][slice(None) if fault.always else 1] = fault.value
        return terms

    patch.setattr(probes.ProbeFamily, "reward", faulty)


def in_velocity(patch: pytest.MonkeyPatch, fault: Fault, learner: type) -> None:
    control = probes.ProbeFamily.control

    def faulty(self: Any, sim: Simulation, action: np.ndarray) -> None:
        control(self, sim, action)
        if sim.step[0] == 3 and fault.is_now(2):
            sim.qvel[slice(None) if fault.always else 1] = fault.value

    patch.setattr(probes.ProbeFamily, "control", faulty)


def _in_decision(patch: pytest.MonkeyPatch, fault: Fault, learner: type, name: str) -> None:
    act = learner.act

    def faulty(self: Any, memory: Any, obs: torch.Tensor, explore: bool) -> tuple[Decision, Any]:
        decision, memory = act(self, memory, obs, explore)
        if fault.is_now(25):
            value = getattr(decision, name).clone()
            value.flatten()[:] = fault.value
            decision = replace(decision, **{name: value})
        return decision, memory

    patch.setattr(learner, "act", faulty)


def in_action(patch: pytest.MonkeyPatch, fault: Fault, learner: type) -> None:
    _in_decision(patch, fault, learner, "action")


def in_log_probability(patch: pytest.MonkeyPatch, fault: Fault, learner: type) -> None:
    _in_decision(patch, fault, learner, "log_prob")


def in_gradient(patch: pytest.MonkeyPatch, fault: Fault, learner: type) -> None:
    if learner.name == "maml":
        gradient = MetaObjective.gradient

        def of_maml(self: Any, at: Any, sizes: torch.Tensor) -> Any:
            found = gradient(self, at, sizes)
            if fault.is_now(1):
                found.theta[0] = fault.value
            return found

        patch.setattr(MetaObjective, "gradient", of_maml)
        return
    clip = torch.nn.utils.clip_grad_norm_

    def faulty(parameters: Any, *args: Any, **settings: Any) -> torch.Tensor:
        listed = list(parameters)
        if fault.is_now(20):
            next(tensor.grad for tensor in listed if tensor.grad is not None).fill_(fault.value)
        return clip(listed, *args, **settings)

    patch.setattr(torch.nn.utils, "clip_grad_norm_", faulty)


def in_weights(patch: pytest.MonkeyPatch, fault: Fault, learner: type) -> None:
    update = learner.update

    def faulty(self: Any, rounds: Any, generator: torch.Generator, progress: float) -> dict[str, float]:
        metrics = update(self, rounds, generator, progress)
        if fault.is_now(1):
            state = self.state()
            name = next(name for name, tensor in state.items() if tensor.is_floating_point())
            self.load_state({**state, name: torch.full_like(state[name], fault.value)})
        return metrics

    patch.setattr(learner, "update", faulty)


PLACES: dict[str, Callable[[pytest.MonkeyPatch, Fault, type], None]] = {
    "observation": in_observation,
    "reward": in_reward,
    "action": in_action,
    "velocity": in_velocity,
    "gradient": in_gradient,
    "weights": in_weights,
    "log-probability": in_log_probability,
}


def config_of(agent: str, family: str, folder: Path, iterations: int) -> Any:
    import tomllib

    settings, steps = SETTINGS[agent]
    data = {"agent": agent, "family": family, "agent_config": tomllib.loads(settings)}
    data["train"] = {"steps": iterations * steps, "threads": 1, "evaluate_every": 0, "checkpoint_every": steps}
    return run_config_from_data(data, "test")


def all_finite(run: Path) -> Iterator[bool]:
    for path in checkpoint.scan(run / "checkpoints"):
        for tensor in checkpoint.load(path).tensors.values():
            yield bool(torch.isfinite(tensor).all())


@pytest.mark.parametrize("agent", SETTINGS)
def test_a_number_that_is_not_finite_is_counted_and_training_goes_on(
    agent: str,
    tmp_path: Path,
    probe_family: str,
    cases: Callable[[int, int], int],
    figure: Callable[[str, str], None],
) -> None:
    tried = ended = skipped = 0
    for place, put in PLACES.items():
        for value in VALUES[: cases(1, 3)]:
            with pytest.MonkeyPatch.context() as patch:
                fault = Fault(value, always=False)
                put(patch, fault, agent_class(agent))
                out = tmp_path / f"{place}{value}"
                config = config_of(agent, probe_family, tmp_path, ITERATIONS)
                train(config, out, Console(file=io.StringIO()))
            counters = checkpoint.latest(out / "checkpoints", pytest.fail).counters
            assert fault.done == 1, f"{place}: the fault never came"
            assert counters.faults + counters.skipped > 0, f"{value} in {place} was not counted"
            assert all(all_finite(out))
            tried, ended, skipped = tried + 1, ended + (counters.faults > 0), skipped + (counters.skipped > 0)
    figure(
        f"NaN and infinity: {agent}", f"{tried} of {tried} counted: {ended} ended episodes, {skipped} skipped updates"
    )


@pytest.mark.parametrize("agent", SETTINGS)
def test_one_that_never_stops_ends_training_with_code_3(
    agent: str,
    tmp_path: Path,
    probe_family: str,
    capsys: pytest.CaptureFixture[str],
    cases: Callable[[int, int], int],
) -> None:
    for place in list(PLACES)[: cases(1, len(PLACES))]:
        with pytest.MonkeyPatch.context() as patch:
            PLACES[place](patch, Fault(math.nan, always=True), agent_class(agent))
            out = tmp_path / place
            with pytest.raises(TrainingDiverged, match=f"training diverged: {PATIENCE} updates in a row") as lost:
                train(config_of(agent, probe_family, tmp_path, 100), out, Console(file=io.StringIO()))
        assert lost.value.exit_code == 3
        assert "\n" not in str(lost.value)
        assert all(all_finite(out))


def test_the_command_line_ends_with_3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def diverge(args: Any) -> int:
        raise TrainingDiverged("training diverged: everything is NaN")

    monkeypatch.setitem(quickstudy.COMMANDS, "resume", diverge)
    assert quickstudy.main(["resume", "run"]) == 3
    assert capsys.readouterr().err == "quickstudy: error: training diverged: everything is NaN\n"


@pytest.mark.parametrize("agent", ["ppo", "ppo-finetuned", "maml"])
def test_adapting_to_what_is_not_finite_keeps_the_weights_and_says_so(agent: str, probe_family: str) -> None:
    family = probes.ProbeFamily()
    tasks = family.sample("train", 3, np.random.default_rng(0))
    learner = make_agent(agent, agent_class(agent).config_type(), family, 0)
    memory = learner.fresh(3, 2, torch.Generator().manual_seed(0))
    played, memory = collect(learner, memory, TaskBatch(family, tasks, 2), seed=0, episode=0)
    reward = played.reward.clone()
    reward[2, 1] = math.nan
    with pytest.warns(RuntimeWarning, match=f"{agent}: adaptation skipped on 1 of 3 tasks"):
        memory = learner.adapt(memory, replace(played, reward=reward))
    decision, _ = learner.act(memory, played.obs[0], True)
    assert torch.isfinite(decision.action).all()
