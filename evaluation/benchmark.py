"""A benchmark is a grid of cells (arm, family, seed, split, tasks); `evaluate` is a benchmark of one cell.

    DIR/
        protocol.json    what is measured, and with what; a folder belongs to one protocol
        tasks.json       the held-out tasks
        cells/           one table for each finished cell, with its sum: kept, never computed again
        episodes.csv     all of them together
        summary.json     every figure, computed from that table
        SHA256SUMS       what these must be; none is read that was altered
        films/           adaptation, episode by episode
        report.html      the page

A cell's table is whole or not there, so an interrupted benchmark continues where it stopped.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from envs.errors import UserError
from envs.task import Split, Task, TaskFamily
from evaluation.curves import ORACLE, RANDOM
from evaluation.expected import FILM_SECONDS, expected_seconds
from evaluation.grid import CELLS, Cell, Grid, grid_of
from evaluation.listing import print_summary
from evaluation.presets import Preset, find_preset
from evaluation.progress import GridProgress, duration
from evaluation.protocol import Budget, held_out_tasks, planned_steps
from evaluation.summarise import summarise_directory
from evaluation.summary import PROTOCOL_FILE, Protocol, Summary, read_protocol, write_protocol
from evaluation.sums import is_unfinished, make_folder, read_sums, writing_to
from evaluation.table import EPISODES_FILE, TASKS_FILE, Episode, write_episodes, write_tasks
from training.files import refuse_link
from training.provenance import present, versions
from training.run import load_agent, shipped_runs

MAY_DIFFER = ("command", "versions")  # of the protocol, between an interrupted benchmark and what goes on with it


def run_benchmark(
    preset: Preset | str,
    directory: Path,
    *,
    runs: Path | None = None,
    threads: int = 0,
    console: Console | None = None,
    report: bool = True,
) -> Summary:
    """Run what is missing of a preset's grid, then write the table, the summary, the films and the report.

    runs: a folder of run directories, whose agents stand in for the shipped ones of the same name and family.
    threads: physics threads, 0 for all processors; the results do not depend on it. report: write the page. Raises
    `UserError` before anything is written where a trained agent is missing or the folder holds something else.
    """
    preset = find_preset(preset) if isinstance(preset, str) else preset
    console, directory = console or Console(), Path(directory)
    command = f"quickstudy benchmark {preset.command} --out {directory.name}"
    if runs is not None:
        command += f" --runs {present(str(runs))}"
    grid = grid_of(preset, runs)
    plan = _plan(grid, command)
    with _claimed(directory, plan.protocol):
        afterwards = _film_seconds(plan, preset.film)
        summary = _measure(plan, directory, threads, console, afterwards)
        if preset.film:
            from evaluation.replay import film_benchmark

            for family in preset.families:
                film_benchmark(preset.film, family, grid, plan.tasks[family], directory, threads, console)
        print_summary(console, summary)
        if report:
            from evaluation.report import write_report

            console.print(f"report: {write_report(directory)}", highlight=False, soft_wrap=True)
    return summary


def evaluate(
    reference: str | Path,
    split: Split,
    tasks: int,
    episodes: int,
    out: Path,
    *,
    as_name: str | None = None,
    probe_episodes: int = 4,
    explore_probes: bool = False,
    task_seed: int = 0,
    threads: int = 0,
    console: Console | None = None,
) -> Summary:
    """Let one trained agent adapt to held-out tasks; writes the table, the tasks and the summary into `out`.

    reference: a run or a shipped name. as_name: measure its weights as another arm (`ppo-finetuned` from `ppo-robust`).
    The random agent and the family's shipped oracle are measured beside it, on the same tasks and initial states: they
    are the ends of its scale. For a family without a shipped oracle, and for an oracle, scores are returns. Raises
    `UserError`.
    """
    loaded = load_agent(reference, as_name=as_name)
    budget = Budget(episodes, probe_episodes=probe_episodes, explore_probes=explore_probes, task_seed=task_seed)
    seed = loaded.config.train.seed
    name = loaded.agent.name
    cell = Cell(name, name, loaded.family.name, seed, split, str(reference), range(tasks), budget)
    words = ["quickstudy evaluate", present(str(reference)), f"--split {split} --tasks {tasks} --episodes {episodes}"]
    words += [f"--as {as_name}"] if as_name else []
    console = console or Console()
    cells = (cell, *_ends_of_the_scale(cell))
    grid = Grid("evaluate", cells, tasks, (seed,), budget)
    if len(cells) == 1:
        why = "it is the end of its own scale" if name == ORACLE else f"no oracle of {cell.family} is shipped"
        console.print(f"scores are returns: {why}", highlight=False, markup=False, soft_wrap=True)
    plan = _plan(grid, " ".join(words))
    with _claimed(Path(out), plan.protocol):
        summary = _measure(plan, Path(out), threads, console)
    print_summary(console, summary)
    return summary


def _ends_of_the_scale(cell: Cell) -> tuple[Cell, ...]:
    """The random agent and the shipped oracle where that cell is measured; nothing where there is no such oracle."""
    oracle = f"{ORACLE}/{cell.family}"
    if oracle not in shipped_runs() or cell.agent in (ORACLE, RANDOM):
        return ()
    budget = dataclasses.replace(cell.budget, episodes=0)
    return tuple(
        dataclasses.replace(cell, name=name, agent=name, seed=0, reference=reference, budget=budget)
        for name, reference in ((ORACLE, oracle), (RANDOM, None))
    )


@dataclass(frozen=True)
class _Plan:
    """All that is to be measured. tasks: by family and split. sizes: environment steps of each cell. seconds: that each
    is expected to take."""

    grid: Grid
    protocol: Protocol
    tasks: dict[str, dict[str, list[Task]]]
    sizes: list[int]
    seconds: list[float]


def _film_seconds(plan: _Plan, arms: Sequence[str]) -> float:
    """What the films are expected to take: for each family the cells that are played again, and the drawing."""
    shown = [
        (cell.family, seconds)
        for cell, seconds in zip(plan.grid.cells, plan.seconds, strict=True)
        if cell.name in arms and cell.seed == 0
    ]
    return sum(seconds for _, seconds in shown) + FILM_SECONDS * len({family for family, _ in shown})


def _plan(grid: Grid, command: str) -> _Plan:
    sizes, seconds = [], []
    checkpoints, families = {}, {}
    for cell in grid.cells:
        agent, family, origin = cell.load()
        families[cell.family] = family
        checkpoints[f"{cell.name}/{cell.family}/{cell.seed}"] = origin
        sizes.append(planned_steps(cell.budget, agent.episodes_per_round, len(cell.tasks), family.horizon))
        seconds.append(expected_seconds(cell.budget, agent, family, len(cell.tasks)))
    protocol = _protocol(grid, families, checkpoints, command)
    tasks: dict[str, dict[str, list[Task]]] = {
        name: {
            split: held_out_tasks(family, split, grid.tasks, grid.budget.task_seed)
            for split in dict.fromkeys(cell.split for cell in grid.cells if cell.family == name)
        }
        for name, family in families.items()
    }
    return _Plan(grid, protocol, tasks, sizes, seconds)


@contextmanager
def _claimed(directory: Path, protocol: Protocol) -> Iterator[None]:
    """The folder belongs to this protocol, and to this process meanwhile. Raises `UserError`."""
    holds_protocol(directory)  # refused before anything is written
    make_folder(directory / PROTOCOL_FILE, 0)
    with writing_to(directory):
        _claim(directory, protocol)
        yield


def _measure(plan: _Plan, directory: Path, threads: int, console: Console, afterwards: float = 0.0) -> Summary:
    """The cells that are missing, then what comes of all of them. afterwards: seconds of what the caller does then."""
    grid, tasks = plan.grid, plan.tasks
    kept = _finished(grid, directory)
    write_tasks(directory / TASKS_FILE, tasks)
    if missing := [number for number, cell in enumerate(grid.cells) if cell.path(directory) not in kept]:
        steps, seconds = sum(plan.sizes[n] for n in missing), sum(plan.seconds[n] for n in missing)
        about = f"to measure: {len(missing)} of {len(grid.cells)} cells, {steps:,} environment steps"
        about += f": about {duration(seconds + afterwards)} on two cores with nothing else to do"
        console.print(about, highlight=False, markup=False, soft_wrap=True)

    names = [cell.about for cell in grid.cells]
    with GridProgress(console, names, plan.sizes, plan.seconds, afterwards) as progress:
        for number, cell in enumerate(grid.cells):
            path = cell.path(directory)
            if path in kept:
                progress.kept(number)
                continue
            progress.begin(number)
            rows = cell.play(tasks[cell.family][cell.split], threads=threads, progress=progress.advance)
            write_episodes(path, rows)
            progress.end(_outcome(rows))
    episodes = [row for cell in grid.cells for row in cell.rows(directory)]
    write_episodes(directory / EPISODES_FILE, episodes)
    return summarise_directory(directory)


def _finished(grid: Grid, directory: Path) -> set[Path]:
    """Tables of cells that are there. Raises `UserError` where one is damaged: only its owner may throw it away."""
    refuse_link(directory / CELLS)
    read_sums(directory / CELLS)
    there = [cell for cell in grid.cells if os.path.lexists(cell.path(directory))]
    for cell in there:
        cell.rows(directory)
    return {cell.path(directory) for cell in there}


def _protocol(grid: Grid, families: dict[str, TaskFamily[Any]], checkpoints: dict[str, str], command: str) -> Protocol:
    return Protocol(
        name=grid.name,
        command=command,
        families={name: family.version for name, family in families.items()},
        splits=tuple(dict.fromkeys(cell.split for cell in grid.cells)),
        arms=tuple(dict.fromkeys(cell.name for cell in grid.cells)),
        episodes=grid.budget.episodes,
        probe_episodes=grid.budget.probe_episodes,
        explore_probes=grid.budget.explore_probes,
        long=grid.long,
        tasks=grid.tasks,
        task_seed=grid.budget.task_seed,
        seeds=grid.seeds,
        horizons={name: family.horizon for name, family in families.items()},
        checkpoints=checkpoints,
        versions=versions(),
    )


def _claim(directory: Path, protocol: Protocol) -> None:
    """Make the folder this protocol's own. Raises `UserError` where it holds another's results, or other things."""
    if holds_protocol(directory):
        before = read_protocol(directory)
        for field in dataclasses.fields(Protocol):
            if field.name in MAY_DIFFER:
                continue
            old, new = getattr(before, field.name), getattr(protocol, field.name)
            if old != new:
                what = _difference(field.name, old, new)
                raise UserError(f"{directory} holds results with other settings ({what}): use another --out")
        return
    write_protocol(directory, protocol)


def holds_protocol(directory: Path, what: str = "a benchmark") -> bool:
    """Was anything measured into this folder? Raises `UserError` where it is a link, or holds other things.

    what: the folder is for, in words.
    """
    try:
        refuse_link(directory)
        if os.path.lexists(directory / PROTOCOL_FILE):
            return True
        if directory.exists() and (not directory.is_dir() or not all(map(is_unfinished, directory.iterdir()))):
            raise UserError(f"{directory} exists and is neither an empty folder nor {what}: use another --out")
    except OSError as error:
        raise UserError(f"cannot write to {directory}: {error.strerror or error}") from None
    return False


def _difference(name: str, old: Any, new: Any) -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        key = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))[0]
        return _difference(f"{name}, {key}", old.get(key), new.get(key))
    return f"{name}: '{old}' there, '{new}' now"


def _outcome(rows: Sequence[Episode]) -> str:
    """What a person wants to know of a finished cell: success and return before and after adaptation."""
    last = max(row.episode for row in rows if row.role == "probe")
    figures = []
    for number in (0, last) if last else (0,):
        chosen = [row for row in rows if row.role == "probe" and row.episode == number]
        result, success = np.mean([row.episode_return for row in chosen]), np.mean([row.success for row in chosen])
        figures.append((f"{result:.1f}", f"{success:.0%}"))
    steps = max(row.env_steps for row in rows)
    returns, successes = (" -> ".join(column) for column in zip(*figures, strict=True))
    return f"mean return {returns}, solved {successes}" + (f" after {steps} steps on each task" if steps else "")
