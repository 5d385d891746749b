"""Training: iterations until the budget of environment steps is spent, and going on after an interruption."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from torch import Tensor

from agents.agent import Learner
from envs.errors import UserError
from envs.families import make_family
from envs.task import TaskFamily
from training import checkpoint
from training.checkpoint import Counters
from training.display import Display
from training.files import cannot_write
from training.log import RunLog
from training.loop import Iteration, TrainConfig, available_processors, evaluate_held_out, iterate
from training.memory import refuse_too_large
from training.provenance import versions
from training.run import RunConfig, RunDirectory, build_agent, restore
from training.signals import Interrupted, StopSignals
from training.streams import describe

__all__ = ["Interrupted", "TrainingDiverged", "resume", "train"]


PATIENCE = 10  # updates in a row that may be skipped
RETRIES = (1.0, 2.0, 4.0)  # seconds to wait before a checkpoint that could not be written is tried again


class TrainingDiverged(UserError):
    """No update could be made any more: all would have left numbers that are not finite."""

    exit_code = 3


def train(config: RunConfig, out: Path, console: Console | None = None) -> RunDirectory:
    """Train from the beginning into the new run directory `out`.

    Raises `UserError` (nothing is overwritten), `TrainingDiverged`, and `Interrupted` after a signal. Any other
    exception says in a note where the last checkpoint is.
    """
    threads = config.train.threads or available_processors()
    config = replace(config, train=replace(config.train, threads=threads))
    family = make_family(config.family)
    learner = build_agent(config, family)
    refuse_too_large(learner, family, config.train)
    getattr(learner, "check_training", lambda: None)()
    run = RunDirectory.create(Path(out), config)
    with run.locked():
        try:
            _continue(run, config, family, learner, Counters(), console or Console())
        except checkpoint.CheckpointError:
            if not checkpoint.scan(run.checkpoints):  # not even the first could be written: nothing is lost
                shutil.rmtree(run.path, ignore_errors=True)
            raise
    return run


def resume(
    path: Path, steps: int | None = None, console: Console | None = None, *, threads: int | None = None
) -> RunDirectory:
    """Go on from the last good checkpoint as if nothing had happened.

    steps: another budget. threads: another number than before, 0 for all processors; the bits may then differ.
    Raises what `train` does, and `UserError` where the budget is spent or the run holds weights alone.
    """
    console = console or Console()
    run = RunDirectory.open(Path(path))
    config = run.config()
    before = config.train
    threads = before.threads if threads is None else threads or available_processors()
    config = replace(config, train=replace(before, steps=steps or before.steps, threads=threads))
    manifest = run.manifest()
    if manifest.get("weights_only"):
        again = f"quickstudy train {config.agent} {config.family} --config {run.config_path} --out RUN"
        raise UserError(f"{path} holds weights alone, as what is shipped does: train anew with `{again}`")
    with run.locked():
        latest = _where_it_was(run, console)
        start = latest.counters if latest else Counters()
        if start.env_steps >= config.train.steps:
            raise UserError(f"{path} has already taken {start.env_steps} steps: give a larger --steps to go on")
        changed = [name for name, version in versions().items() if manifest["versions"].get(name) != version]
        changed += ["threads"] if threads != before.threads else []
        if changed:
            console.print(f"{', '.join(changed)} changed since this run began: it goes on, but not bit for bit")
        family = make_family(config.family)
        learner = build_agent(config, family)
        if latest:
            restore(learner, latest)
        run.rewind(start.iteration)
        run.extend(config)
        _continue(run, config, family, learner, start, console)
    return run


def _where_it_was(run: RunDirectory, console: Console) -> checkpoint.Checkpoint | None:
    """The last good checkpoint; None for a run that was killed before it had written its first."""
    if not checkpoint.scan(run.checkpoints) and not run.progress():
        return None
    return checkpoint.latest(run.checkpoints, lambda text: console.print(text, markup=False, soft_wrap=True))


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
    with (
        StopSignals() as signals,
        _fault_noted(run),
        RunLog(run, start) as log,
        Display(console, title, settings.steps, start) as display,
    ):
        saver = Saver(run, settings, log, signals, display.say)
        if start.iteration == 0:
            saver.save(learner.state(), start)
        while now.env_steps < settings.steps:
            before, state = now, learner.state()
            try:
                with signals.interruptible():
                    done = iterate(learner, family, settings, now.iteration, now.env_steps / settings.steps)
                    now = _counted(before, done)
                    metrics = done.metrics
                    if _passed(settings.evaluate_every, before, now):
                        held_out = evaluate_held_out(learner, family, settings)
                        now = replace(now, evaluation_steps=before.evaluation_steps + held_out.env_steps)
                        metrics = {**metrics, **held_out.metrics}
            except Interrupted:  # this iteration will be done again
                saver.save(state, replace(before, seconds=start.seconds + time.monotonic() - begun))
                display.say(f"checkpoint saved; `quickstudy resume {run.path}` goes on")
                raise
            now = replace(now, seconds=start.seconds + time.monotonic() - begun)
            log.write(now, metrics)
            display.show(now, metrics)
            if done.skipped:
                display.say(f"update {now.iteration} skipped: {done.skipped}; {now.skipped_in_a_row} in a row")

            finished, lost = now.env_steps >= settings.steps, now.skipped_in_a_row >= PATIENCE
            if finished or lost or _passed(settings.checkpoint_every, before, now):
                saver.save(learner.state(), now)
                checkpoint.prune(run.checkpoints, settings.keep + finished)
            if lost:
                raise TrainingDiverged(
                    f"training diverged: {PATIENCE} updates in a row were skipped, the last because of {done.skipped};"
                    f" the last good weights are in {run.path}; try a smaller step size, or another seed"
                )


def _counted(before: Counters, done: Iteration) -> Counters:
    return replace(
        before,
        iteration=before.iteration + 1,
        env_steps=before.env_steps + done.env_steps,
        faults=before.faults + done.faults,
        skipped=before.skipped + (done.skipped is not None),
        skipped_in_a_row=0 if done.skipped is None else before.skipped_in_a_row + 1,
    )


@dataclass(frozen=True)
class Saver:
    """Writes a run's checkpoints, trying again for a while where the disk is full. say: told of each failure."""

    run: RunDirectory
    settings: TrainConfig
    log: RunLog
    signals: StopSignals
    say: Callable[[str], None]

    def save(self, state: Mapping[str, Tensor], counters: Counters) -> None:
        """Raises `CheckpointError` when it has been tried often enough."""
        for wait in RETRIES:
            try:
                return self._save(state, counters)
            except checkpoint.CheckpointError as error:
                self.say(f"{error}; trying again in {wait:g} s")
                if self.signals.received is None:
                    time.sleep(wait)
        self._save(state, counters)

    def _save(self, state: Mapping[str, Tensor], counters: Counters) -> None:
        try:
            self.log.flush()  # a checkpoint stands for all lines up to its own
        except OSError as error:
            raise checkpoint.CheckpointError(cannot_write(self.run.progress_path, 0, error)) from None
        checkpoint.save(self.run.checkpoints, state, counters, describe(self.settings.seed, counters.iteration))


@contextmanager
def _fault_noted(run: RunDirectory) -> Iterator[None]:
    """A fault of our own keeps its traceback, and says what is not lost."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        saved = checkpoint.scan(run.checkpoints)
        if saved:
            error.add_note(f"the last checkpoint is {saved[-1]}; `quickstudy resume {run.path}` goes on from there")
        raise


def _passed(every: int, before: Counters, now: Counters) -> bool:
    """Did the environment steps pass a multiple of `every`? 0 is never."""
    return every > 0 and before.env_steps // every != now.env_steps // every
