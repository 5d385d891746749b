"""The raw table of every evaluation: `episodes.csv`, one row an episode, and the tasks that its numbers stand for.

Everything else that an evaluation shows is computed from this table. A large one may be kept compressed, as
`episodes.csv.gz` (`gzip -9n episodes.csv`): it is read all the same.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from envs.errors import UserError
from envs.task import SPLITS, Task

Role = Literal["adapt", "probe"]
ROLES: tuple[Role, ...] = get_args(Role)

EPISODES_FILE = "episodes.csv"
COMPRESSED_FILE = f"{EPISODES_FILE}.gz"
TASKS_FILE = "tasks.json"
TaskValues = dict[str, dict[str, list[dict[str, Any]]]]
"""{family: {split: [the task's values, ...]}}."""

COLUMNS = (
    "family",
    "version",
    "split",
    "agent",
    "seed",
    "task",
    "episode",
    "role",
    "env_steps",
    "return",
    "success",
)


@dataclass(frozen=True)
class Episode:
    """One episode on one task: a row of `episodes.csv`.

    family, version, split: what was simulated.
    agent, seed: who acted, and the seed of its training; for an agent that was not trained, of its weights and noise.
    task: index of the task within the split's list in `tasks.json`; the same task for every agent and seed.
    episode: how many adaptation episodes of that task came before this one, so a probe has the number of the adaptation
        episode that follows it. Several probe rows of one number are the same policy from several initial states.
    role: `adapt`, the agent learns from it; `probe`, it measures the policy as adapted so far, costs nothing and
        teaches nothing.
    env_steps: control steps spent on that task before this episode began, as counted by the environment.
    episode_return: sum of the rewards (column `return`).
    success: whether the family's success held at the last step.
    """

    family: str
    version: str
    split: str
    agent: str
    seed: int
    task: int
    episode: int
    role: Role
    env_steps: int
    episode_return: float
    success: bool

    @property
    def order(self) -> tuple[Any, ...]:
        """Rows are sorted by this; those that are equal in it keep the order in which they were played."""
        return (self.family, self.split, self.agent, self.seed, self.task, self.episode, self.role == "adapt")


def write_episodes(path: Path, episodes: Iterable[Episode]) -> None:
    """Write the table sorted, beside its place and then renamed, so that a file of that name is always whole."""
    lines = [",".join(COLUMNS)]
    for row in sorted(episodes, key=lambda row: row.order):
        values = (
            row.family,
            row.version,
            row.split,
            row.agent,
            row.seed,
            row.task,
            row.episode,
            row.role,
            row.env_steps,
        )
        lines.append(",".join([*map(str, values), repr(round(row.episode_return, 6)), str(int(row.success))]))
    write_text(path, "\n".join(lines) + "\n")


def find_episodes(directory: Path) -> Path:
    """The table of an evaluation: `episodes.csv`, or where there is none `episodes.csv.gz`. Neither need exist."""
    plain, compressed = directory / EPISODES_FILE, directory / COMPRESSED_FILE
    return compressed if compressed.is_file() and not plain.is_file() else plain


def read_episodes(path: Path) -> list[Episode]:
    """The rows of a table, compressed where its name ends in `.gz`.

    Raises `UserError` naming the line and the column of the first value that cannot be.
    """
    if not path.is_file():
        raise UserError(f"there is no table {path}: run `quickstudy evaluate` or `quickstudy benchmark` first")
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            header = tuple(next(reader, ()))
            if header != COLUMNS:
                raise UserError(
                    f"{path}, line 1: the columns must be {','.join(COLUMNS)}, got {','.join(header) or 'nothing'}"
                )
            episodes = [_episode(path, reader.line_num, values) for values in reader]
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{path} is not a whole gzip file: {error}") from None
    if not episodes:
        raise UserError(f"{path} has no rows: the evaluation that wrote it did not finish an episode")
    return episodes


def _episode(path: Path, line: int, values: list[str]) -> Episode:
    if len(values) != len(COLUMNS):
        raise UserError(f"{path}, line {line}: {len(COLUMNS)} columns expected, got {len(values)}")
    cells = dict(zip(COLUMNS, values, strict=True))

    def refuse(column: str, right: str) -> UserError:
        return UserError(f"{path}, line {line}, column '{column}': must be {right}, got '{cells[column]}'")

    def count(column: str) -> int:
        # int() alone would take '+1', ' 1' and '1_0'.
        if not (cells[column].isascii() and cells[column].isdigit()):
            raise refuse(column, "a whole number of 0 or more")
        return int(cells[column])

    def one_of(column: str, names: Sequence[str]) -> str:
        if cells[column] not in names:
            raise refuse(column, f"one of {', '.join(names)}")
        return cells[column]

    def name(column: str) -> str:
        if not cells[column]:
            raise refuse(column, "a name")
        return cells[column]

    try:
        episode_return = float(cells["return"])
    except ValueError:
        raise refuse("return", "a number") from None
    if not math.isfinite(episode_return):
        raise refuse("return", "a finite number")
    return Episode(
        family=name("family"),
        version=name("version"),
        split=one_of("split", SPLITS),
        agent=name("agent"),
        seed=count("seed"),
        task=count("task"),
        episode=count("episode"),
        role="probe" if one_of("role", ROLES) == "probe" else "adapt",
        env_steps=count("env_steps"),
        episode_return=episode_return,
        success=one_of("success", ("0", "1")) == "1",
    )


def write_tasks(path: Path, tasks: Mapping[str, Mapping[str, Sequence[Task]]]) -> None:
    """Write {family: {split: [task, ...]}}; a row's `task` is the index into that list."""
    data = {
        family: {split: [task.to_json() for task in listed] for split, listed in sorted(splits.items())}
        for family, splits in sorted(tasks.items())
    }
    write_text(path, json.dumps(data, indent=1) + "\n")


def read_tasks(path: Path) -> TaskValues:
    """{family: {split: [the task's values, ...]}}. Raises `UserError` for a file that is missing or broken."""
    data = read_json(path)
    whole = isinstance(data, dict) and all(
        isinstance(splits, dict) and all(isinstance(listed, list) for listed in splits.values())
        for splits in data.values()
    )
    if not whole:
        raise UserError(f"{path} must hold the tasks by family and split, as `quickstudy evaluate` writes them")
    tasks: TaskValues = data
    return tasks


def read_json(path: Path) -> Any:
    """The contents of a JSON file. Raises `UserError` where it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"there is no file {path}: run `quickstudy evaluate` or `quickstudy benchmark` first") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from None


def write_text(path: Path, text: str) -> None:
    """Write beside the file and rename: a reader, or a run that was interrupted, never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
