"""Films of a benchmark: the table chooses a task, and what was measured on it is played again.

Exploration noise is drawn for all tasks of a cell at once, so a task alone would meet other noise than in the table.
The whole cell is therefore played again, with the same tasks, seeds and generator, and the positions of one task are
kept. The episodes must be those of the table to the last digit; otherwise there is no film.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from envs.errors import UserError
from envs.task import Split, Task
from evaluation.curves import curves_of
from evaluation.film import Actor, FilmConfig, film_actors
from evaluation.grid import Cell, Grid
from evaluation.recording import Clip, Recorder
from evaluation.style import agent_label
from evaluation.table import RETURN_DIGITS, Episode

LOOK = FilmConfig(width=480, height=360, seconds=20.0)
"""Small and short: it is drawn without a GPU while the user waits."""


def film_benchmark(
    arms: Sequence[str],
    family: str,
    grid: Grid,
    tasks: dict[str, list[Task]],
    directory: Path,
    threads: int,
    console: Console,
) -> None:
    """Film arms side by side on one task of a family; the first of them chooses it (see `choose_task`).

    tasks: of the family, by split. Where no film can be made the console says why: the figures do not depend on it.
    """
    of_seed = [cell for cell in grid.cells if (cell.family, cell.seed) == (family, 0)]
    split = next(cell.split for cell in of_seed if cell.name == arms[0])
    out = directory / "films" / f"{family}-{split}.mp4"
    if out.exists():
        return
    try:
        _film([_cells(of_seed, arm, split) for arm in arms], tasks[split], out, directory, threads, console)
    except UserError as error:
        console.print(f"no film: {error}", highlight=False, soft_wrap=True, markup=False)
    else:
        console.print(f"film: {out}", highlight=False, soft_wrap=True, markup=False)


def choose_task(rows: Sequence[Episode]) -> tuple[int, str]:
    """A task that shows adaptation, and why it was chosen, from the rows of one agent with one seed.

    A task is solved where the final probe succeeds from every initial state. Of the solved tasks, those whose first
    adaptation episode fails are preferred, then those whose probes gained most: in success, then in return.
    """
    name, probes = agent_label(rows[0].agent), curves_of(rows)
    before, after = probes.success[0, 0], probes.success[-1, 0]
    gains = probes.returns[-1, 0] - probes.returns[0, 0]
    first = {row.task: row.success for row in rows if (row.role, row.episode) == ("adapt", 0)}
    solved = [n for n in range(len(probes.tasks)) if after[n] == 1.0]
    adapted = [n for n in solved if not first.get(probes.tasks[n], True)]
    total = len(probes.tasks)
    if not first:
        why = f"{name} does not adapt; it solves {len(solved)} of {total} tasks"
    elif adapted:
        among = f"one of the {len(adapted)}" if len(adapted) > 1 else "the only one"
        why = f"{among} of {total} tasks where {name}'s first episode fails and its final probe succeeds"
    elif solved:
        why = f"{name} solves {len(solved)} of {total} tasks, and in each of them its first episode already succeeds"
    else:
        why = f"{name} solves none of {total} tasks in its final probe; in this one its return rises most"
    best = max(adapted or solved or range(total), key=lambda n: (after[n] - before[n], gains[n]))
    return probes.tasks[best], why


def replay(cell: Cell, listed: Sequence[Task], task: int, directory: Path, threads: int = 0) -> list[Clip]:
    """The episodes that a measured cell played on one of its tasks, and each probe from the first initial state.

    listed: the tasks of the split; task: the number of one among them. Raises `UserError` where the episodes differ
    from the table in `directory`.
    """
    measured = _shown(cell.rows(directory), task)
    recorder = Recorder(cell.tasks.index(task))
    # Probes teach nothing and have noise of their own, so one initial state in place of several changes no other row.
    once = dataclasses.replace(cell, budget=dataclasses.replace(cell.budget, probe_episodes=1))
    played = once.play(listed, threads=threads, make_batch=recorder.make_batch, watch=recorder.watch)
    written = [dataclasses.replace(row, episode_return=round(row.episode_return, RETURN_DIGITS)) for row in played]
    replayed = _shown(written, task)
    differs = [f"episode {row.episode} ({row.role})" for row in measured if row not in replayed]
    if not differs and len(measured) != len(replayed):
        differs = [f"the number of episodes, {len(measured)},"]
    if differs:
        raise UserError(
            f"{cell.about}, task {task}: {differs[0]} is not what was played again; other versions or another machine"
            f" play differently: to have the cell measured again, delete {cell.path(directory)}"
        )
    return recorder.clips


def _film(
    cells: Sequence[Sequence[Cell]],
    listed: Sequence[Task],
    out: Path,
    directory: Path,
    threads: int,
    console: Console,
) -> None:
    """cells: of each arm on one split, from left to right."""
    common = set.intersection(*({task for cell in mine for task in cell.tasks} for mine in cells))
    if not common:
        raise UserError(f"the arms of {out.stem} have no task in common")
    rows = [row for cell in cells[0] for row in cell.rows(directory) if row.task in common]
    task, why = choose_task(rows)

    def actor(cell: Cell) -> Actor:
        agent, _, _ = cell.load()

        def record() -> list[Clip]:
            with console.status(f"film: playing {cell.about} again"):
                return replay(cell, listed, task, directory, threads)

        return Actor(agent_label(cell.name), agent.name, agent.episodes_per_round, record)

    shown = [next(cell for cell in mine if task in cell.tasks) for mine in cells]
    _, family, _ = shown[0].load()
    film_actors(
        [actor(cell) for cell in shown],
        family,
        listed[task],
        out,
        title=f"{family.name}, held-out task {task}",
        note=why,
        config=LOOK,
        progress=console.is_terminal,
    )


def _cells(cells: Sequence[Cell], arm: str, split: Split) -> list[Cell]:
    return [cell for cell in cells if (cell.name, cell.split) == (arm, split)]


def _shown(rows: Sequence[Episode], task: int) -> list[Episode]:
    """The rows of a task in their order, of each probe the first initial state."""
    return sorted((row for row in rows if row.task == task and row.start == 0), key=lambda row: row.order)
