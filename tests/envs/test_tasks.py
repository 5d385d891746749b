"""What a task is made of: one form for each number, so that equal tasks have equal keys."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from envs.bandit import BanditFamily, BanditTask
from envs.families import FAMILIES, make_family
from envs.simulation import TaskBatch
from envs.task import TaskError
from tests.probes import ProbeFamily, ProbeTask

FORMS: list[Callable[[float], Any]] = [
    np.float16,
    np.float32,
    np.float64,
    np.longdouble,
    torch.tensor,
    lambda value: np.array(value, dtype=np.float32),
]


@pytest.mark.parametrize("form", FORMS)
def test_a_number_of_another_type_is_the_same_task(form: Callable[[float], Any]) -> None:
    family = ProbeFamily()
    for value in (0.3, -0.1234, 1.0, 0.0):
        task = ProbeTask(value)
        for other in (ProbeTask(form(value)), family.task_from_json({"goal_m": form(value)})):
            assert other == task
            assert other.key == task.key
            assert type(other.goal_m) is float


def test_equal_numbers_have_equal_keys() -> None:
    assert ProbeTask(1).key == ProbeTask(np.int64(1)).key == ProbeTask(1.0).key
    assert ProbeTask(-0.0).key == ProbeTask(0).key == ProbeTask(0.0).key


@pytest.mark.parametrize("name", FAMILIES)
def test_every_familys_tasks_are_the_same_from_narrow_numbers(name: str) -> None:
    """As a policy's float32 arrays hold them. Drawn tasks are in the one form already."""
    family = make_family(name)
    for task in family.sample("train", 20, np.random.default_rng(0)) + family.sample(
        "ood", 20, np.random.default_rng(1)
    ):
        assert dataclasses.replace(task).to_json() == task.to_json()
        narrow = {
            key: value if isinstance(value, str) else np.asarray(value, dtype=np.float32)
            for key, value in task.to_json().items()
        }
        for other in (family.task_from_json(narrow), family.task_type(**narrow)):
            assert (other, other.key) == (task, task.key)


def test_tuples_come_as_lists_and_arrays_and_in_no_other_layout() -> None:
    task = BanditTask((0.1, 0.2, 0.3, 0.4, 1.0))
    family = BanditFamily()
    for form in (list, np.array, np.float32):
        for other in (
            BanditTask(form([0.1, 0.2, 0.3, 0.4, 1])),
            family.task_from_json({"probabilities": form([*task.probabilities])}),
        ):
            assert (other, other.key) == (task, task.key)
    for wrong in (np.full((1, 5), 0.5), np.full((5, 1), 0.5), 0.5):
        with pytest.raises(TaskError, match="probabilities"):
            family.task_from_json({"probabilities": wrong})
    with pytest.raises(TaskError, match="goal_m"):
        ProbeFamily().task_from_json({"goal_m": np.array([0.3])})


def test_a_task_from_narrow_numbers_starts_where_the_task_does() -> None:
    starts = [TaskBatch(ProbeFamily(), [ProbeTask(value)], threads=1).reset(seed=1) for value in (0.3, np.float32(0.3))]
    np.testing.assert_array_equal(*starts)
