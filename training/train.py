"""Training: iterations until the budget of environment steps is spent, and going on after an interruption."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from agents.agent import Learner
from envs.errors import UserError
from envs.families import make_family
from envs.task import TaskFamily
from training import checkpoint
from training.checkpoint import Counters
from training.display import Display
from training.log import RunLog
from training.loop import available_processors, evaluate_held_out, iterate
from training.provenance import versions
from training.run import RunConfig, RunDirectory, build_agent, restore
from training.signals import Interrupted, StopSignals
from training.streams import describe

__all__ = ["Interrupted", "TrainingDiverged", "resume", "train"]


class TrainingDiverged(UserError):
    """An update left weights that are not finite."""


def train(config: RunConfig, out: Path, console: Console | None = None) -> RunDirectory:
    """Train from the beginning into the new run directory `out`.

    Raises `UserError` (nothing is overwritten), `TrainingDiverged`, and `Interrupted` after a signal.
    """
    threads = config.train.threads or available_processors()
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, threads=threads))
    family = make_family(config.family)
    learner = build_agent(config, family)
    run = RunDirectory.create(Path(out), config)
    with run.locked():
        start = Counters()
        checkpoint.save(run.checkpoints, learner.state(), start, describe(config.train.seed, 0))
        _continue(run, config, family, learner, start, console or Console())
    return run


def resume(path: Path, steps: int | None = None, console: Console | None = None) -> RunDirectory:
    """Go on from the last good checkpoint as if nothing had happened; `steps` sets another budget.

    Raises what `train` does, and `UserError` where the budget is spent or the run holds weights alone.
    """
    console = console or Console()
    run = RunDirectory.open(Path(path))
    config = run.config()
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, steps=steps or config.train.steps))
    if run.manifest().get("weights_only"):
        again = f"quickstudy train {config.agent} {config.family} --config {run.config_path} --out RUN"
        raise UserError(f"{path} holds weights alone, as what is shipped does: train anew with `{again}`")
    with run.locked():
        latest = checkpoint.latest(run.checkpoints, lambda text: console.print(text, markup=False, soft_wrap=True))
        start = latest.counters
        if start.env_steps >= config.train.steps:
            raise UserError(f"{path} has already taken {start.env_steps} steps: give a larger --steps to go on")
        changed = [name for name, version in versions().items() if run.manifest()["versions"].get(name) != version]
        if changed:
            console.print(f"{', '.join(changed)} changed since this run began: it goes on, but not bit for bit")
        family = make_family(config.family)
        learner = build_agent(config, family)
        restore(learner, latest)
        run.rewind(start.iteration)
        run.extend(config)
        _continue(run, config, family, learner, start, console)
    return run


def _continue(
    run: RunDirectory,
    config: RunConfig,
    family: TaskFamily[Any],
    learner: Learner[Any],
    start: Counters,
    console: Console,
) -> None:
    """Iterate from `start` until the budget is spent or a signal comes."""
    settings = config.train
    now, begun = start, time.monotonic()
    title = f"{config.agent} on {config.family}"
    with StopSignals() as signals, RunLog(run, start) as log, Display(console, title, settings.steps, start) as display:
        while now.env_steps < settings.steps:
            before, done = now, iterate(learner, family, settings, now.iteration)
            _refuse_divergence(learner, run, before.iteration + 1)
            now = dataclasses.replace(
                before,
                iteration=before.iteration + 1,
                env_steps=before.env_steps + done.env_steps,
                faults=before.faults + done.faults,
            )
            metrics = done.metrics
            if _passed(settings.evaluate_every, before, now):
                held_out = evaluate_held_out(learner, family, settings)
                now = dataclasses.replace(now, evaluation_steps=before.evaluation_steps + held_out.env_steps)
                metrics = {**metrics, **held_out.metrics}
            now = dataclasses.replace(now, seconds=start.seconds + time.monotonic() - begun)
            log.write(now, metrics)
            display.show(now, metrics)

            finished, stopped_by = now.env_steps >= settings.steps, signals.received
            if finished or stopped_by or _passed(settings.checkpoint_every, before, now):
                checkpoint.save(run.checkpoints, learner.state(), now, describe(settings.seed, now.iteration))
                checkpoint.prune(run.checkpoints, settings.keep + finished)
            if stopped_by and not finished:
                display.say(f"checkpoint saved; `quickstudy resume {run.path}` goes on")
                raise Interrupted(stopped_by)


def _passed(every: int, before: Counters, now: Counters) -> bool:
    """Did the environment steps pass a multiple of `every`? 0 is never."""
    return every > 0 and before.env_steps // every != now.env_steps // every


def _refuse_divergence(learner: Learner[Any], run: RunDirectory, iteration: int) -> None:
    for name, tensor in learner.state().items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            last = checkpoint.scan(run.checkpoints)[-1]
            raise TrainingDiverged(
                f"training diverged: update {iteration} made {name} not finite; the last good checkpoint is {last}"
            )
