"""The raw table of every evaluation: `episodes.csv`, one row an episode, and the tasks that its numbers stand for.

Everything else that an evaluation shows is computed from this table. A large one may be kept compressed, as
`episodes.csv.gz` (`gzip -9n episodes.csv`): it is read all the same. `evaluation.sums` says when a file was altered.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from envs.errors import UserError
from envs.task import SPLITS, Task
from evaluation.sums import make_folder, read_checked, write_checked
from training.files import replace_file

Role = Literal["adapt", "probe"]
ROLES: tuple[Role, ...] = get_args(Role)

EPISODES_FILE = "episodes.csv"
COMPRESSED_FILE = f"{EPISODES_FILE}.gz"
TASKS_FILE = "tasks.json"
TaskValues = dict[str, dict[str, list[dict[str, Any]]]]
"""{family: {split: [the task's values, ...]}}."""

# A digit that is damaged must not become a number that arithmetic or JSON cannot hold.
LARGEST_RETURN = 1e100
LARGEST_DIGITS = 18  # of a count: it fits 64 bits
RETURN_DIGITS = 6  # of a return, after the point, as it is written
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf)", re.ASCII)

COLUMNS = (
    "family",
    "version",
    "split",
    "agent",
    "seed",
    "task",
    "episode",
    "role",
    "start",
    "env_steps",
    "return",
    "success",
)
COLUMNS_WITHOUT_START = tuple(name for name in COLUMNS if name != "start")  # tables of earlier versions


@dataclass(frozen=True)
class Episode:
    """One episode on one task: a row of `episodes.csv`.

    family, version, split: what was simulated.
    agent, seed: who acted, and the seed of its training; for an agent that was not trained, of its weights and noise.
    task: index of the task within the split's list in `tasks.json`; the same task for every agent and seed.
    episode: how many adaptation episodes of that task came before this one, so a probe has the number of the adaptation
        episode that follows it. Several probe rows of one number are the same policy from several initial states.
    start: which of a probe's initial states: one number is one state, in every probe of that task and for every agent.
        0 in an adaptation episode, whose initial state belongs to the number of the episode.
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
    start: int = 0

    @property
    def order(self) -> tuple[Any, ...]:
        """Rows are sorted by this, and no two of a table are equal in it."""
        adapts = self.role == "adapt"
        return (self.family, self.split, self.agent, self.seed, self.task, self.episode, adapts, self.start)


def write_episodes(path: Path, episodes: Iterable[Episode]) -> None:
    """Write the table sorted, with its sum. Raises `UserError` where it cannot be written."""
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
            row.start,
            row.env_steps,
        )
        result = repr(round(row.episode_return, RETURN_DIGITS))
        lines.append(",".join([*map(str, values), result, str(int(row.success))]))
    write_checked(path, ("\n".join(lines) + "\n").encode())


def find_episodes(directory: Path) -> Path:
    """The table of an evaluation: `episodes.csv`, or where there is none `episodes.csv.gz`. Neither need exist."""
    plain, compressed = directory / EPISODES_FILE, directory / COMPRESSED_FILE
    return compressed if os.path.lexists(compressed) and not os.path.lexists(plain) else plain


def read_episodes(path: Path) -> list[Episode]:
    """The rows of a table, compressed where its name ends in `.gz`.

    A table without the column `start` is read as well: its probes of one policy stand in the order of their starts.
    Raises `UserError` where it does not match its sum, or names the line and the column of the first value that cannot
    be, or the lines of an episode that stands there twice.
    """
    text = _decoded(path, read_checked(path))
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        header = tuple(next(reader, ()))
        if header not in (COLUMNS, COLUMNS_WITHOUT_START):
            got = ",".join(header)[:200] or "nothing"
            raise UserError(f"{path}, line 1: the columns must be {','.join(COLUMNS)}, got {got}")
        lines: dict[tuple[Any, ...], int] = {}
        probes: Counter[tuple[Any, ...]] = Counter()
        episodes = []
        for values in reader:
            row = _episode(path, reader.line_num, header, values)
            key = row.order
            if header != COLUMNS and row.role == "probe":
                probes[key] += 1
                row = replace(row, start=probes[key] - 1)
                key = row.order
            if (line := lines.setdefault(key, reader.line_num)) != reader.line_num:
                raise UserError(
                    f"{path}, line {reader.line_num}: the {row.role} episode of line {line} once more: the same agent,"
                    " seed, task, episode and start"
                )
            episodes.append(row)
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not CSV ({error})") from None
    if not episodes:
        raise UserError(f"{path} has no rows: the evaluation that wrote it did not finish an episode")
    return episodes


def _episode(path: Path, line: int, columns: Sequence[str], values: list[str]) -> Episode:
    if len(values) != len(columns):
        raise UserError(f"{path}, line {line}: {len(columns)} columns expected, got {len(values)}")
    cells = dict(zip(columns, values, strict=True))

    def refuse(column: str, right: str) -> UserError:
        return UserError(f"{path}, line {line}, column '{column}': must be {right}, got '{cells[column][:80]}'")

    def count(column: str) -> int:
        # int() alone would take '+1', ' 1' and '1_0'.
        if not (cells[column].isascii() and cells[column].isdigit()):
            raise refuse(column, "a whole number of 0 or more")
        if len(cells[column]) > LARGEST_DIGITS:
            raise refuse(column, f"a whole number of at most {LARGEST_DIGITS} digits")
        return int(cells[column])

    def one_of(column: str, names: Sequence[str]) -> str:
        if cells[column] not in names:
            raise refuse(column, f"one of {', '.join(names)}")
        return cells[column]

    def name(column: str) -> str:
        if not cells[column]:
            raise refuse(column, "a name")
        return cells[column]

    if not _NUMBER.fullmatch(cells["return"].lower()):  # float() alone would take ' 1' and '1_0'
        raise refuse("return", "a number")
    episode_return = float(cells["return"])
    if not math.isfinite(episode_return):
        raise refuse("return", "a finite number")
    if abs(episode_return) > LARGEST_RETURN:
        raise refuse("return", f"a number within {LARGEST_RETURN:g}")
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
        start=count("start") if "start" in cells else 0,
    )


def write_tasks(path: Path, tasks: Mapping[str, Mapping[str, Sequence[Task]]]) -> None:
    """Write {family: {split: [task, ...]}}; a row's `task` is the index into that list."""
    data = {
        family: {split: [task.to_json() for task in listed] for split, listed in sorted(splits.items())}
        for family, splits in sorted(tasks.items())
    }
    write_checked(path, (json.dumps(data, indent=1) + "\n").encode())


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
    """The contents of a JSON file. Raises `UserError` where it is missing, broken, or does not match its sum."""
    text = _decoded(path, read_checked(path))
    try:
        return json.loads(text, parse_int=_whole_number, parse_float=_finite, parse_constant=_finite)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from None
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    except RecursionError:
        raise UserError(f"{path}: not JSON of ours (nested too deep)") from None


def _whole_number(digits: str) -> int:
    if len(digits.lstrip("-")) > LARGEST_DIGITS:
        raise ValueError(f"a whole number must have at most {LARGEST_DIGITS} digits, got {digits[:80]}")
    return int(digits)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"numbers must be finite, got {text[:80]}")
    return number


def _decoded(path: Path, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not text: byte {error.start} is not UTF-8") from None


def write_text(path: Path, text: str) -> None:
    """`write_file` of text."""
    write_file(path, text.encode())


def write_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, without a sum. Raises `UserError` where it cannot be written, or is a link."""
    make_folder(path, len(data))
    replace_file(path, data)
