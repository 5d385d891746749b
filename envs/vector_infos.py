"""Values of N environments in the form of gymnasium's vector environments: a dict of arrays, with masks beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from envs.errors import UserError
from envs.task import Task


def columns(tasks: Sequence[Task]) -> dict[str, np.ndarray]:
    """{value's name: [N]} of tasks of one family: arrays of numbers, and of objects for names and tuples."""
    listed = [task.to_json() for task in tasks]
    arrays = {}
    for name, first in listed[0].items():
        array = np.empty(len(listed), dtype=type(first) if isinstance(first, (int, float)) else object)
        for n, row in enumerate(listed):
            array[n] = row[name]
        arrays[name] = array
    return arrays


def masked(values: Mapping[str, Any], mask: np.ndarray) -> dict[str, Any]:
    """Arrays [N] as infos have them: 0 or None where `mask` [N] is False, and the mask beside each, as `_name`."""
    infos: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            infos[name] = masked(value, mask)
        else:
            infos[name] = np.where(mask, value, None if value.dtype == object else value.dtype.type(0))
        infos[f"_{name}"] = mask.copy()
    return infos


def rows(tasks: Any, count: int) -> list[Any]:
    """`count` tasks, one for each environment: from a list of `Task`s or JSON, or from what `infos["task"]` was.

    Raises `UserError` for another number of them or another layout.
    """
    if not isinstance(tasks, Mapping):
        _check_count(tasks, count, "tasks")
        return list(tasks)
    for name, column in tasks.items():
        _check_count(column, count, f"tasks, '{name}'")
        if name.startswith("_") and not np.all(column):
            missing = ", ".join(map(str, np.flatnonzero(~np.asarray(column, dtype=bool))))
            raise UserError(f"tasks, '{name}': environments {missing} have no task")
    names = [name for name in tasks if not name.startswith("_")]
    return [{name: tasks[name][n] for name in names} for n in range(count)]


def _check_count(values: Any, count: int, what: str) -> None:
    several = isinstance(values, np.ndarray) and values.ndim > 0
    several |= isinstance(values, Sequence) and not isinstance(values, str)
    if not several or len(values) != count:
        got = len(values) if several else type(values).__name__
        raise UserError(f"{what} must be a list of {count}, one for each environment, got {got}")
