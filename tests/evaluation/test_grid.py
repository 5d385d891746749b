"""What a cell says of itself."""

from __future__ import annotations

import pytest

from agents.ppo import TaskPPOConfig
from evaluation.grid import Cell, parts_of
from evaluation.protocol import Budget


@pytest.mark.parametrize(
    ("arm", "weights", "begins"),
    [
        ("ppo", None, "not trained before, learns with {"),
        ("ppo-finetuned", "ppo-robust/terrain-planar", "ppo-robust/terrain-planar, "),
    ],
)
def test_the_origin_tells_what_ppo_learns_a_task_with(arm: str, weights: str | None, begins: str) -> None:
    _, _, origin = Cell(arm, arm, "terrain-planar", 0, "test", weights, range(1), Budget()).load()
    assert origin.startswith(begins)
    assert f'"batch_size": {TaskPPOConfig().batch_size}' in origin


def test_the_parts_of_a_long_arm_are_all_its_tasks() -> None:
    assert parts_of(5) == (range(2), range(2, 4), range(4, 5))
    assert parts_of(1) == (range(1),)
