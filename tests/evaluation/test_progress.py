"""What a long benchmark says of itself where nobody sees a bar."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from evaluation import progress
from evaluation.expected import expected_seconds
from evaluation.grid import grid_of
from evaluation.presets import PRESETS
from evaluation.progress import GridProgress


def test_a_file_gets_a_line_a_cell_and_a_line_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    out = StringIO()
    with GridProgress(Console(file=out), ["short", "kept", "long"], [100, 50, 300]) as grid:
        grid.begin(0)
        clock[0] = 30.0
        grid.advance(100)
        grid.end("done")
        grid.kept(1)
        grid.begin(2)
        for seconds in (60.0, 89.0, 91.0, 120.0, 140.0, 190.0):
            clock[0] = seconds
            grid.advance(50)
        grid.end("done")
    assert out.getvalue().splitlines() == [
        "[1/3] short  done (30 s, 1 min 45 s left)",
        "[2/3] kept   kept",
        "[3/3] long   50%, 55 s left",
        "[3/3] long   done (2 min 40 s)",
    ]


def test_the_time_left_follows_what_cells_cost_and_not_their_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    out = StringIO()
    with GridProgress(Console(file=out), ["cheap", "dear"], [100, 100], [1.0, 30.0], afterwards=9.0) as grid:
        grid.begin(0)
        clock[0] = 2.0
        grid.advance(100)
        grid.end("done")
        grid.begin(1)
        clock[0] = 92.0
        grid.advance(50)
        clock[0] = 182.0
        grid.advance(50)
        grid.end("done")
    assert out.getvalue().splitlines() == [
        "[1/2] cheap  done (2 s, 1 min 18 s left)",
        "[2/2] dear   50%, 2 min 18 s left",
        "[2/2] dear   done (3 min 00 s, 53 s left)",
    ]


def test_what_a_preset_is_expected_to_take() -> None:
    expected: dict[str, dict[str, float]] = {}
    for name in ("demo", "full"):
        costs = expected.setdefault(name, {})
        for cell in grid_of(PRESETS[name]).cells:
            agent, family, _ = cell.load()
            costs[cell.name] = costs.get(cell.name, 0.0) + expected_seconds(cell.budget, agent, family, len(cell.tasks))
    # PPO learns for most of the demo, and its steps are a small part: at their rate the demo would end much sooner.
    assert expected["demo"]["ppo-long"] > 0.7 * sum(expected["demo"].values())
    assert 120 < sum(expected["demo"].values()) < 600
    assert 5 * 3600 < sum(expected["full"].values()) < 24 * 3600
